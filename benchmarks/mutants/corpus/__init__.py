"""Correct Functions as people write them, a family a file; importing this fills `SPECIMENS`."""

from benchmarks.mutants.corpus import (
    broadcasting,
    complex_valued,
    elementwise,
    indexing,
    losses,
    normalising,
    opaque,
    products,
    reductions,
    several_outputs,
)

FAMILIES = (
    elementwise, products, broadcasting, reductions, normalising, losses, indexing, complex_valued, several_outputs,
    opaque,
)  # fmt: skip
