"""The native back end: memory-bound kernels in C++, compiled once on the machine where they run.

An op asks `kernels(...)` at each call and takes its torch ops where that answers None.
"""

from gradsmith.native.dispatch import Status as Status
from gradsmith.native.dispatch import disabled as disabled
from gradsmith.native.dispatch import kernels as kernels
from gradsmith.native.dispatch import status as status
