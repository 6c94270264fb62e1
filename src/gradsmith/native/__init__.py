"""The native back end: memory-bound kernels in C++, compiled once on the machine where they run.

An op asks `kernels(...)` at each call and takes its torch ops where that answers None.
"""

from gradsmith.native.kernels import Status as Status
from gradsmith.native.kernels import disabled as disabled
from gradsmith.native.kernels import kernels as kernels
from gradsmith.native.kernels import status as status
