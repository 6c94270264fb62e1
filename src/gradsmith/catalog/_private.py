"""The private parts of torch that the catalog calls, each with what happens when it is missing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

# The CPU's fused attention, forward and backward: blocks of scores that never leave the cache. Missing: None, and
# attention computes its blocks in torch ops.
flash_attention: Callable[..., Any] | None = getattr(
    torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None
)
flash_attention_backward: Callable[..., Any] | None = getattr(
    torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None
)


def base(tensor: torch.Tensor) -> torch.Tensor | None:
    """What the tensor is a view of. Missing: None."""
    found: torch.Tensor | None = getattr(tensor, "_base", None)
    return found


def use_count(tensor: torch.Tensor) -> int:
    """How many hold the tensor; all of Python counts as one. Missing: 1."""
    count: Callable[[], int] | None = getattr(tensor, "_use_count", None)
    return 1 if count is None else count()


def saved_result(node: Any) -> torch.Tensor | None:
    """The output of its operation that a node of the graph keeps for its backward. Missing: None."""
    return getattr(node, "_saved_result", None)


def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN has products of matrices of that dtype on this CPU. Missing: yes."""
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}.get(dtype)
    ask: Callable[[], bool] | None = None if name is None else getattr(torch.ops.mkldnn, name, None)
    return ask is None or ask()


# oneDNN's input @ weightᵀ + bias, with a fused function that is left out. Missing: None, and `linear` is torch's own.
onednn_linear: Callable[..., torch.Tensor] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@cache
def of_amd() -> bool:
    """Whether the processor is one of AMD's. Missing: no."""
    ask: Callable[[], dict[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)
    return ask is not None and "AMD" in str(ask().get("cpu_name", ""))


# The gradients of softmax and log_softmax, in one pass. Missing: None, and the formula is written out.
softmax_backward: Callable[..., torch.Tensor] | None = getattr(torch.ops.aten, "_softmax_backward_data", None)
log_softmax_backward: Callable[..., torch.Tensor] | None = getattr(torch.ops.aten, "_log_softmax_backward_data", None)


def _parallel_region() -> Callable[[Callable[[], None], int], None] | None:
    """A parallel region of OpenMP in the threads that torch computes with: each of so many threads calls a function.

    Inside it torch's operations stay in their thread, as they know that they are in a region. Missing: None, and all
    is done in the thread that asks.
    """
    try:
        run = ctypes.CDLL(torch._C.__file__).GOMP_parallel  # of the runtime that torch is linked to, LLVM's has it, too
    except (OSError, AttributeError):
        return None
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    run.argtypes, run.restype = (entry, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return lambda function, threads: run(entry(lambda _: function()), None, threads, 0)


parallel_region = _parallel_region()


def in_a_mode() -> bool:
    """Whether a mode of this thread is told of each operation. Missing: yes."""
    counts = (getattr(torch._C, f"_len_torch_{kind}_stack", _one) for kind in ("dispatch", "function"))
    return any(count() for count in counts)


def looked_on() -> bool:
    """Whether a mode or a profiler of this thread is told of each operation. Missing: yes."""
    return in_a_mode() or bool(getattr(torch.autograd, "_profiler_enabled", _one)())


def _one() -> int:
    return 1
