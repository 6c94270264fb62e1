"""A `Subject`: one case made ready for questions, and the calls that answer them.

Every call is on fresh copies of the inputs, from the same state of every random number generator, so that
one question never disturbs the next, and a dropout gives the same mask each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch

from gradsmith.check.case import Case, copy_arguments
from gradsmith.check.compare import same_values
from gradsmith.check.inputs import Arrange, Tensors, fresh, spread_like, working_dtype
from gradsmith.check.isolation import SEED, Raised, seeded, user_code
from gradsmith.check.measured import Measured
from gradsmith.check.passes import Pass, spied_on
from gradsmith.check.precise import precise
from gradsmith.check.tolerance import TOLERANCES, Tolerance
from gradsmith.check.tree import leaves

Result = TypeVar("Result")


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
            self.dtype, self.inputs = precise(case, self.outputs_at)
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

    # -- the point --

    def outputs_at(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The outputs at other inputs, no gradient asked for."""
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

    # -- calls --

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
        with seeded(seed), user_code(stage), torch.enable_grad(), spied_on(self.case, result.raw if spied else None):
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
        with seeded(seed), user_code(stage), spied_on(self.case, run.raw if spied else None):
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

    def gradients(self, upstream: Sequence[torch.Tensor | None], *, seed: int = SEED, as_is: bool = False) -> Tensors:
        """The gradients at the point for any upstream, by a graph of their own: a backward may run only once."""
        return self.backward(self.forward(), upstream, seed=seed, as_is=as_is)

    # -- upstreams --

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
        again = self.gradients(self.base_upstream, seed=SEED + self.random)
        return same_values(self.base_grads, again, 10 * self.tolerance.exact)

    @cached_property
    def random(self) -> bool:
        """Whether another state of the generators gives other outputs."""
        return not same_values(self.base.outputs, self.forward(seed=SEED + 1).outputs, self.tolerance.exact)

    @cached_property
    def draws(self) -> bool:
        """Whether `backward` draws random numbers itself: another state of the generators, other gradients."""
        again = self.gradients(self.base_upstream, seed=SEED + 1)
        return not same_values(self.base_grads, again, 10 * self.tolerance.exact)

    @cached_property
    def failure(self) -> Raised | None:
        """What one forward and backward at the point raises, if it does."""
        try:
            self.base_grads  # noqa: B018  (cached: the checks read it again)
        except Raised as raised:
            return raised
        return None
