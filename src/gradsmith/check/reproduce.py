"""Scripts of a few lines of plain torch that show a fault without gradsmith."""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gradsmith.check.case import declaration, locate
from gradsmith.check.isolation import SEED, Raised
from gradsmith.check.nesting import adapter
from gradsmith.check.oracle import differentiable_places
from gradsmith.check.subject import Subject

LITERAL = 64  # tensors of up to so many elements are written out
TAKEN = {
    "torch", "sys", "runpy", "gc", "weakref", "fw", "out", "outputs", "upstream", "grad", "grads", "h", "k", "u", "i",
    "ahead", "behind", "slope", "weighted", "inputs", "first", "ramp", "total", "second", "kept", "double", "args",
    "wanted", "before", "sent", "watched", "everything", "gradients", "lay_out", "ones", "zeros", "used", "compiled",
    "call", "stacked", "dims", "places", "duals", "tangents", "change", "leaf",
    "function", "module", "types", "keywords", "fill",
}  # fmt: skip  # names that the scripts use themselves


def script(
    subject: Subject, argument: str | None, show: str | None = None, element: Sequence[int] | None = None
) -> str:
    """The script: import, inputs, call, and `show` (else the gradient of `argument` beside a central
    difference).

    `element` is one that must be among those shown. Within `show`, `{call}` is the call and `{inputs}` the
    names of its arguments.
    """
    names = variable_names(subject)
    adapted = adapter(subject.case, names, callable_name(subject))
    lines = ["import torch", *import_lines(subject), *adapted, ""]
    lines.append(f"torch.manual_seed({SEED})")
    for name, value, need in zip(names, subject.inputs, subject.needs, strict=True):
        lines.append(f"{name} = {written(value, need)}")
    called = "function" if adapted else callable_name(subject)
    keywords = "".join(f", {key}={value!r}" for key, value in subject.case.kwargs.items())
    call = f"{called}({', '.join(names)}{keywords})"
    if show is not None:
        lines += [show.replace("{call}", call).replace("{inputs}", ", ".join(names)).replace("{function}", called)]
    else:
        lines += _gradient_lines(subject, argument, names, called, keywords, element)
    return "\n".join(lines) + "\n"


def variable_names(subject: Subject) -> list[str]:
    """The arguments' names made fit for Python: `params['w']` becomes `params_w`."""
    names: list[str] = []
    for raw in subject.case.argument_names:
        name = re.sub(r"\W+", "_", raw).strip("_") or "argument"
        if name[0].isdigit() or name in TAKEN:
            name = f"arg_{name}"
        while name in names:
            name += "_"
        names.append(name)
    return names


def callable_name(subject: Subject) -> str:
    """What the script calls: `LinearFunction.apply`."""
    return _resolve(subject)[1]


def import_lines(subject: Subject) -> list[str]:
    """How the script gets at the checked code: an import, or the file itself where it is a script."""
    return _resolve(subject)[0]


def _resolve(subject: Subject) -> tuple[list[str], str]:
    case = subject.case
    target: Any = case.function_class or case.function
    module_name = getattr(target, "__module__", "") or ""
    qualified = getattr(target, "__qualname__", "") or case.name
    plan = declaration(case.function_class)
    if plan is not None:
        module_name = getattr(plan.forward, "__module__", module_name)
        qualified = case.name
    if "<locals>" in qualified or "<lambda>" in qualified:
        place = locate(target)
        first, last = qualified.split(".")[0], qualified.split(".")[-1].replace("<lambda>", "function")
        note = f"# {last} is defined inside {first} ({place}): move it to the top of its module to run this"
        return [note], f"{last}.apply" if case.function_class is not None else last
    root, _, rest = qualified.partition(".")
    name = f"{root}.{rest}" if rest else root
    suffix = ".apply" if case.function_class is not None else ""
    return _import(module_name, root), name + suffix


def _import(module_name: str, name: str) -> list[str]:
    module = sys.modules.get(module_name)
    file = inspect.getsourcefile(module) if module is not None and getattr(module, "__file__", None) else None
    if file is None or module_name == "builtins":
        return [f"from {module_name} import {name}"]
    if module_name == "__main__" or not module_name.replace(".", "").isidentifier():
        return ["import runpy", f'{name} = runpy.run_path({str(Path(file))!r}, run_name="checked")["{name}"]']
    root = Path(file).resolve()
    for _ in range(len(module_name.split(".")) + (root.name == "__init__.py")):
        root = root.parent
    installed = {Path(path).resolve() for key, path in sysconfig.get_paths().items() if "lib" in key}
    lines = [] if root in installed else ["import sys", f"sys.path.insert(0, {str(root)!r})"]
    return [*lines, f"from {module_name} import {name}"]


def written(value: Any, need: bool = False) -> str:
    """An argument as source: small tensors as literals, large ones as a call of their generator."""
    if not isinstance(value, torch.Tensor):
        if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype):
            return repr(value)
        if isinstance(value, tuple | list):
            inner = ", ".join(written(item) for item in value)
            return f"({inner},)" if isinstance(value, tuple) else f"[{inner}]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {written(item)}" for key, item in value.items()) + "}"
        return f"...  # {type(value).__name__}: put yours here"
    grad = ".requires_grad_()" if need else ""
    dtype = str(value.dtype)
    if value.numel() <= LITERAL:
        literal = _literal(value.detach().cpu())
        shape = "" if value.numel() else f".reshape({list(value.shape)})"
        return f"torch.tensor({literal}, dtype={dtype}){shape}{grad}"
    if value.is_floating_point() or value.is_complex():
        return f"torch.randn({list(value.shape)}, dtype={dtype}){grad}"
    if value.dtype == torch.bool:
        return f"torch.rand({list(value.shape)}) < 0.5"
    low, high = int(value.min()), int(value.max())
    return f"torch.randint({low}, {high + 1}, {list(value.shape)}, dtype={dtype})"


def _literal(value: torch.Tensor) -> str:
    text = repr(value.tolist())
    return text.replace("nan", "float('nan')").replace("inf", "float('inf')")


def _gradient_lines(
    subject: Subject,
    argument: str | None,
    names: list[str],
    called: str,
    keywords: str,
    element: Sequence[int] | None,
) -> list[str]:
    known = argument in subject.case.argument_names
    position = subject.case.argument_names.index(argument) if argument is not None and known else None
    if position is not None and not subject.needs[position]:
        position = None
    try:
        places = differentiable_places(subject)
        single = len(subject.base.outputs) == 1
        shapes = [tuple(subject.base.outputs[place].shape) for place in places]
        dtypes = [subject.base.outputs[place].dtype for place in places]
    except Raised:
        places, single, shapes, dtypes = (0,), True, [], []
    arguments = ", ".join(names)
    pick = "[out]" if single else f"[out[i] for i in {list(places)}]"
    lines = [f"out = {called}({arguments}{keywords})", f"outputs = {pick}"]
    upstream = (
        ", ".join(f"torch.randn({list(shape)}, dtype={dtype})" for shape, dtype in zip(shapes, dtypes, strict=True))
        or "torch.ones_like(outputs[0])"
    )
    lines += [f"upstream = [{upstream}]"]
    if position is None:
        wanted = ", ".join(name for name, need in zip(names, subject.needs, strict=True) if need)
        return [*lines, f"print(torch.autograd.grad(outputs, [{wanted}], upstream, allow_unused=True))"]
    name = names[position]
    plus = ", ".join(f"{n} + h * u" if n == name else n for n in names)
    minus = ", ".join(f"{n} - h * u" if n == name else n for n in names)
    chosen = "out" if single else "out[i]"
    over = "0" if single else f"{list(places)}"
    h = "1e-6" if subject.dtype == torch.float64 else "1e-2"
    loop = "[0]" if single else over
    complex_valued = subject.inputs[position].is_complex()
    axis, part = ("1j", ".imag") if complex_valued else ("1", "")
    return [
        *lines,
        f"(grad,) = torch.autograd.grad(outputs, [{name}], upstream, allow_unused=True)",
        f"grad = torch.zeros_like({name}) if grad is None else grad",
        "",
        "def weighted(out):",
        f"    return sum((up.conj() * {chosen}).real.sum() for i, up in zip({loop}, upstream))",
        "",
        f"h = {h}  # one element at a time: what backward says, and a central difference",
        "with torch.no_grad():",
        f"    for k in {_shown(subject.inputs[position], element)}:",
        f"        u = torch.zeros_like({name}).reshape(-1)",
        f"        u[k] = {axis}",
        f"        u = u.reshape({name}.shape)",
        "        torch.manual_seed(0)",
        f"        ahead = weighted({called}({plus}{keywords}))",
        "        torch.manual_seed(0)",
        f"        behind = weighted({called}({minus}{keywords}))",
        "        slope = ((ahead - behind) / (2 * h)).item()",
        f"        print(k, 'backward:', grad.reshape(-1)[k]{part}.item(), 'difference:', slope)",
    ]


def _shown(value: torch.Tensor, element: Sequence[int] | None) -> str:
    """The elements to print: all of a small tensor, else a few and the one in question."""
    if value.numel() <= LITERAL:
        return f"range({value.numel()})"
    flat = 0
    for index, size in zip(element or (), value.shape, strict=False):
        flat = flat * size + index
    return str(sorted({0, 1, 2, flat}))
