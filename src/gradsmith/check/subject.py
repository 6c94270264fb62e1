"""A `Subject`: one case made ready for questions, and the calls that answer them.

Every call is on fresh copies of the inputs, from the same state of every random number generator, so that
one question never disturbs the next, and a dropout gives the same mask each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch

from gradsmith.check._private import backward_name
from gradsmith.check.case import Case, copy_arguments
from gradsmith.check.compare import same_values
from gradsmith.check.inputs import Arrange, Tensors, fresh, single_of, spread_like, to_dtype, working_dtype
from gradsmith.check.isolation import SEED, seeded, user_code
from gradsmith.check.isolation import Raised as Raised
from gradsmith.check.measured import Measured
from gradsmith.check.tolerance import TOLERANCES, Tolerance
from gradsmith.check.tree import is_float, leaves
from gradsmith.check.watch import Overdue

Result = TypeVar("Result")


@dataclass
class Raw:
    """What one call of `backward` was given and what it returned, before the engine touched it."""

    upstream: tuple[Any, ...]
    needs: tuple[bool, ...]
    returned: tuple[Any, ...]


@dataclass
class Pass:
    """One forward, and what is needed to go backward from it any number of times."""

    leaves: Tensors  # one an input; None where no gradient is asked for
    given: tuple[Any, ...]  # the very arguments of the call
    outputs: tuple[Any, ...]
    returned: Any = None  # what the call returned, containers and all
    raw: list[Raw] = field(default_factory=list)

    @property
    def differentiable(self) -> tuple[torch.Tensor, ...]:
        return tuple(out for out in self.outputs if isinstance(out, torch.Tensor) and out.requires_grad)


class Subject:
    """A case at one point: `inputs` in the precision of the check, and random upstreams in `unit`s."""

    def __init__(
        self, case: Case, inputs: tuple[Any, ...] | None = None, *, label: str = "as given", unit: float = 1.0
    ) -> None:
        self.case = case
        self.label = label
        self.unit = unit
        self.variations: list[str] = []  # what the running check has looked at
        self.refused: list[str] = []  # variations that it left out, and why
        self.measured: list[Measured] = []  # what it measured besides
        self._cache: dict[str, Any] = {}
        if inputs is None:
            self.dtype, self.inputs = self._precise()
        else:
            self.inputs = inputs
            self.dtype = working_dtype(inputs)

    def at(self, inputs: tuple[Any, ...], label: str) -> Subject:
        """The same case at another point."""
        return Subject(self.case, inputs, label=label)

    def cached(self, key: str, compute: Callable[[], Result]) -> Result:
        """What `compute` gives, computed at most once for this point."""
        if key not in self._cache:
            self._cache[key] = compute()
        value: Result = self._cache[key]
        return value

    # -- the point
    # ------------------------------------------------------------------------------------------------

    def _precise(self) -> tuple[torch.dtype, tuple[Any, ...]]:
        """The inputs in float64 if the Function takes and keeps it; else in float32; else as they were
        given."""
        given = tuple(self.case.inputs)
        if not any(is_float(value) for value in given):
            return torch.float64, given
        for dtype in (torch.float64, torch.float32):
            inputs = to_dtype(given, dtype)
            try:
                outputs = self._outputs_at(inputs)
            except Raised as raised:
                if isinstance(raised.error, Overdue):
                    raise  # it will not return in another precision, either
                continue
            kept = [out for out in outputs if is_float(out)]
            if any(out.dtype not in (dtype, dtype.to_complex()) for out in kept):
                continue
            if dtype is torch.float32 or not self._single_inside(inputs, kept):
                return dtype, inputs
        self._outputs_at(given)  # raises what the Function itself raises on what it was given
        return working_dtype(given), given

    def _single_inside(self, inputs: tuple[Any, ...], before: list[torch.Tensor]) -> bool:
        """Whether float64 goes in and comes out but the values between are of single precision.

        Then outputs that have moved still all fit float32, which values computed in float64 do not.
        """
        moved = list(inputs)
        generator = torch.Generator().manual_seed(SEED)
        for position, need in enumerate(self.case.needs_grad):
            if need and isinstance(inputs[position], torch.Tensor):
                moved[position] = inputs[position] * (1 + 1e-3 * spread_like(inputs[position], generator))
        try:
            after = [out for out in self._outputs_at(tuple(moved)) if is_float(out)]
        except Raised:
            return False
        changed = sum(
            int((old != new).sum()) for old, new in zip(before, after, strict=False) if old.shape == new.shape
        )
        total = sum(out.numel() for out in after)
        single = all(torch.equal(out, out.to(single_of(out)).to(out.dtype)) for out in after)
        return 3 * changed > total > 0 and single

    def _outputs_at(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.forward(inputs, needs=tuple(False for _ in inputs)).outputs

    @property
    def needs(self) -> tuple[bool, ...]:
        """For each input, whether its gradient is asked for here."""
        pairs = zip(self.case.needs_grad, self.inputs, strict=True)
        return tuple(need and isinstance(value, torch.Tensor) for need, value in pairs)

    @property
    def arguments(self) -> tuple[int, ...]:
        """The positions of the inputs whose gradient is asked for."""
        return tuple(i for i, need in enumerate(self.needs) if need)

    @cached_property
    def tolerance(self) -> Tolerance:
        return TOLERANCES.get(self.dtype, TOLERANCES[torch.float32])

    def argument(self, position: int) -> str:
        return self.case.argument_names[position]

    # -- calls
    # ----------------------------------------------------------------------------------------------------

    def forward(
        self,
        inputs: tuple[Any, ...] | None = None,
        *,
        needs: tuple[bool, ...] | None = None,
        function: Callable[..., Any] | None = None,
        stage: str = "forward",
        seed: int = SEED,
        arrange: Mapping[int, Arrange] | None = None,
        spied: bool = True,
    ) -> Pass:
        """Call the Function (or another `function`) on fresh copies of `inputs`; nothing of the caller is
        touched.

        `arrange` lays inputs out anew; `spied` notes what `backward` returns, which no compiler can trace.
        """
        inputs = self.inputs if inputs is None else inputs
        needs = self.needs if needs is None else needs
        starts, given = fresh(inputs, needs, arrange)
        result = Pass(starts, given, ())
        with seeded(seed), user_code(stage), torch.enable_grad(), self._spy(result.raw if spied else None):
            out = (function or self.case.function)(*given, **copy_arguments(dict(self.case.kwargs)))
        result.outputs = tuple(leaves(out))
        result.returned = out
        return result

    def backward(
        self,
        run: Pass,
        upstream: Sequence[torch.Tensor | None] | None = None,
        *,
        create_graph: bool = False,
        retain_graph: bool = False,
        stage: str = "backward",
        seed: int = SEED,
        as_is: bool = False,
        spied: bool = True,
    ) -> Tensors:
        """The gradients of `run`'s inputs as the engine hands them over; None where it has none.

        The Function is given copies of `upstream`, lest it writes into them, unless they are to be given
        `as_is`.
        """
        outputs = run.differentiable
        if upstream is None:
            upstream = self.upstream(outputs)
        used = [(out, up) for out, up in zip(outputs, upstream, strict=True) if up is not None]
        wanted = [leaf for leaf in run.leaves if leaf is not None]
        if not used or not wanted:
            return tuple(None for _ in run.leaves)
        with seeded(seed), user_code(stage), self._spy(run.raw if spied else None):
            found = torch.autograd.grad(
                [out for out, _ in used],
                wanted,
                [up if as_is else up.clone() for _, up in used],
                allow_unused=True,
                create_graph=create_graph,
                retain_graph=retain_graph or create_graph,
            )
        grads = iter(found)
        return tuple(None if leaf is None else next(grads) for leaf in run.leaves)

    def vjp(
        self,
        inputs: tuple[Any, ...] | None = None,
        upstream: Sequence[torch.Tensor | None] | None = None,
        *,
        needs: tuple[bool, ...] | None = None,
    ) -> tuple[Pass, Tensors]:
        """One forward and one backward."""
        run = self.forward(inputs, needs=needs)
        return run, self.backward(run, upstream)

    @contextmanager
    def _spy(self, raw: list[Raw] | None) -> Iterator[None]:
        """Note what `backward` is given and returns; the engine looks it up on the class at each call."""
        cls: Any = self.case.function_class
        if cls is None or raw is None:
            yield
            return
        name = backward_name(cls)
        own = vars(cls).get(name)
        original = getattr(cls, name)

        def backward(ctx: Any, *upstream: Any) -> Any:
            returned = original(ctx, *upstream)
            if not raw:  # of the first backward alone: a graph may be gone through many times, and this keeps tensors
                answers = returned if isinstance(returned, tuple | list) else (returned,)
                raw.append(Raw(tuple(upstream), tuple(getattr(ctx, "needs_input_grad", ())), tuple(answers)))
            return returned

        setattr(cls, name, staticmethod(backward))
        try:
            yield
        finally:
            if own is None:
                delattr(cls, name)
            else:
                setattr(cls, name, own)

    # -- upstreams
    # ------------------------------------------------------------------------------------------------

    def upstream(self, outputs: Sequence[torch.Tensor], which: int = 0) -> tuple[torch.Tensor, ...]:
        """Random upstreams for `outputs`, never near zero and never all alike; `which` picks another draw."""
        generator = torch.Generator().manual_seed(SEED + 17 * which)
        return tuple(spread_like(out, generator) * self.unit for out in outputs)

    @cached_property
    def base(self) -> Pass:
        """The forward at the point, one backward run (as `base_grads`)."""
        return self.forward()

    @cached_property
    def base_upstream(self) -> tuple[torch.Tensor, ...]:
        return self.upstream(self.base.differentiable)

    @cached_property
    def base_grads(self) -> Tensors:
        return self.backward(self.base, self.base_upstream, retain_graph=True)

    @cached_property
    def base_runs(self) -> bool:
        """Whether the forward runs at the point."""
        try:
            return self.base is not None
        except Raised:
            return False

    @cached_property
    def repeats(self) -> bool:
        """Whether a second forward from the same state of the generators gives the same outputs."""
        return same_values(self.base.outputs, self.forward().outputs, self.tolerance.exact)

    @cached_property
    def steady(self) -> bool:
        """Whether forward and backward, once more, give the same.

        The backward of a random forward may not depend on the state of the generators when it runs: what it
        draws then is not what the forward drew.
        """
        if self.failure is not None or not self.repeats:
            return self.repeats
        run = self.forward()
        again = self.backward(run, self.base_upstream, seed=SEED + self.random)
        return same_values(self.base_grads, again, 10 * self.tolerance.exact)

    @cached_property
    def random(self) -> bool:
        """Whether another state of the generators gives other outputs."""
        return not same_values(self.base.outputs, self.forward(seed=SEED + 1).outputs, self.tolerance.exact)

    @cached_property
    def draws(self) -> bool:
        """Whether `backward` draws random numbers itself: another state of the generators, other gradients."""
        again = self.backward(self.base, self.base_upstream, retain_graph=True, seed=SEED + 1)
        return not same_values(self.base_grads, again, 10 * self.tolerance.exact)

    @cached_property
    def failure(self) -> Raised | None:
        """What one forward and backward at the point raises, if it does."""
        try:
            self.base_grads  # noqa: B018  (cached: the checks read it again)
        except Raised as raised:
            return raised
        return None
