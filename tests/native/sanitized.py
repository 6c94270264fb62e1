"""A pytest plugin: the kernels compiled with the address and undefined-behaviour sanitizers, for this process alone.

The sanitizers' libraries must be loaded before Python is, by LD_PRELOAD, which the compiler is not to inherit.
"""

import os

from gradsmith.native import build

os.environ.pop("LD_PRELOAD", None)
build._FLAGS[:] = [
    *("-O0", "-g1", "-fopenmp", "-Wno-unknown-pragmas", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]
