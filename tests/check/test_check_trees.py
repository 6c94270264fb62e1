"""Tensors in lists, tuples, dicts, named tuples and dataclasses are arguments like any other."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

import gradsmith as gs
from gradsmith.check.cases import cases_of
from gradsmith.check.nesting import call_arguments
from gradsmith.check.tree import leaves, paths, rebuilt, tree_map


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass(frozen=True)
class Params:
    w: torch.Tensor
    b: torch.Tensor
    power: int = 2


@dataclass
class Settings:
    power: int = 2


def vector(seed: int) -> torch.Tensor:
    return torch.randn(3, generator=torch.Generator().manual_seed(seed)).requires_grad_()


CONTAINERS = {
    "list": (lambda a, b: [a, b], lambda c: (c[0], c[1]), ("both[0]", "both[1]")),
    "tuple": (lambda a, b: (a, b), lambda c: (c[0], c[1]), ("both[0]", "both[1]")),
    "dict": (lambda a, b: {"a": a, "b": b}, lambda c: (c["a"], c["b"]), ("both['a']", "both['b']")),
    "named tuple": (Pair, lambda c: (c.first, c.second), ("both.first", "both.second")),
    "dataclass": (Params, lambda c: (c.w, c.b), ("both.w", "both.b", "both.power")),
    "nested": (lambda a, b: {"d": [a, (b,)]}, lambda c: (c["d"][0], c["d"][1][0]), ("both['d'][0]", "both['d'][1][0]")),
}
each = pytest.mark.parametrize(("make", "take", "names"), CONTAINERS.values(), ids=CONTAINERS)


@each
def test_a_tree_is_taken_apart_and_put_together(make, take, names):
    a, b = vector(0), vector(1)
    tree = make(a, b)
    found = paths(tree, "both")
    assert tuple(name for name, _ in found) == names
    assert [leaf for _, leaf in found] == list(leaves(tree))
    other = rebuilt(tree, [leaf if isinstance(leaf, int) else leaf * 2 for _, leaf in found])
    assert type(other) is type(tree)
    torch.testing.assert_close(take(other), (2 * a, 2 * b))


def test_a_dataclass_without_tensors_is_a_leaf():
    settings = Settings()
    assert tree_map(lambda leaf: leaf, settings) is settings
    assert list(leaves([settings])) == [settings]


@each
def test_every_tensor_of_a_plain_callable_is_checked_by_its_name(make, take, names):
    def half_detached(both):
        a, b = take(both)
        return a * b.detach()

    report = gs.check(half_detached, (make(vector(0), vector(1)),))
    assert [(found.code, found.argument) for found in report.of("error")] == [("gradient-missing", names[1])]


@each
def test_a_callable_that_is_right_is_right_however_it_is_called(make, take, names):
    def product(both):
        a, b = take(both)
        return a * b

    assert not gs.check(product, (make(vector(0), vector(1)),)).of("error")


def test_tensors_given_by_keyword_are_checked_too():
    def scaled(x, *, by):
        return x * by[0].detach()

    report = gs.check(scaled, (vector(0),), {"by": [vector(1)]})
    assert [(found.code, found.argument) for found in report.of("error")] == [("gradient-missing", "by[0]")]


def test_a_module_that_takes_containers_is_checked_with_its_parameters():
    class Detached(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, xs):
            return xs[0] * xs[1] * self.weight.detach()

    report = gs.check(Detached(), ([vector(0), vector(1)],))
    assert [(found.code, found.argument) for found in report.of("error")] == [("gradient-missing", "weight")]


def test_an_op_is_checked_with_every_subset_of_its_leaves():
    @gs.op(xs=lambda grad, xs: [grad * xs[1], grad * xs[0]])
    def product(xs):
        return xs[0] * xs[1]

    report = gs.check(product, ([vector(0), vector(1)],))
    assert not report.findings, str(report)
    variations = [label for checked in report.checked for label in checked.variations]
    assert "only `xs[0]` with a gradient" in variations
    assert "only `xs[1]` with a gradient" in variations


def test_a_reference_takes_the_containers_that_the_op_takes():
    @gs.op(xs=lambda grad, xs, y: [grad * xs[1] * y, grad * xs[0] * y], y=lambda grad, xs: 3 * grad * xs[0] * xs[1])
    def product(xs, y):
        return xs[0] * xs[1] * y

    def reference(xs, scale=1, *, y):
        return xs[0] * xs[1] * y * scale

    a, b, c = vector(0), vector(1), vector(2)
    for inputs, kwargs in ((([a, b],), {"y": c}), ((), {"y": c, "xs": [a, b]})):
        found = gs.check(product, inputs, kwargs, reference=reference).of("error")
        assert [(one.code, one.argument, one.evidence["oracle"]) for one in found] == [
            ("gradient-scale", "y", "reference")
        ]


def test_a_reference_of_a_plain_callable_takes_its_containers():
    def product(xs):
        return xs[0].detach() * xs[1]

    (case,) = cases_of(product, ([vector(0), vector(1)],), {}, reference=lambda xs: xs[0] * xs[1])
    torch.testing.assert_close(case.reference(*case.inputs), case.function(*case.inputs))


def detached(xs, params=None, *, scale=1.0):
    return xs[0] * xs[1] * params["w"].detach() * scale


def test_the_script_puts_the_containers_together():
    report = gs.check(detached, ([vector(0), vector(1)],), {"params": {"w": vector(2)}, "scale": 2.0})
    (found,) = report.of("error")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(found.reproduce, "reproduce.py", "exec"), {})
    lines = printed.getvalue().splitlines()
    assert len(lines) == 3
    assert all("backward: 0.0 difference:" in line for line in lines)


def test_the_arguments_of_a_call_are_written_as_they_were_given():
    paths_given = ["xs[0]", "xs[1]", "p['w']['v']", "q.a", "q.b", "y"]
    written = call_arguments(paths_given, ["x0", "x1", "w", "a", "b", "y"])
    assert written == "[x0, x1], {'w': {'v': w}}, types.SimpleNamespace(a=a, b=b), y"
