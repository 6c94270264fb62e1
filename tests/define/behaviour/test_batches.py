"""vmap by its axes: where the batch of each argument is x route, inside or outside. A loop is right."""

import pytest
import torch
from functions_of_several import ARGUMENTS, OUTPUTS, PAIRS, giving
from routes_of_several import ROUTES_OF_SEVERAL, flat
from tables import as_class, as_op
from torch import vmap

torch.set_num_threads(1)
SIZE = 2
TOLD = {
    "takes two": ARGUMENTS["two"],
    "takes two, broadcast": ARGUMENTS["two, broadcast"],
    "takes a dict": ARGUMENTS["in a dict"],
    "takes residuals of both": ARGUMENTS["residuals of both"],
    "returns two": OUTPUTS["two"],
    "returns a dict": giving(*PAIRS["a dict"]),
}
STYLES = {"op": as_op, "class": as_class}
CELLS = [
    *[("op", name) for name in TOLD],
    *[("class", name) for name in ("takes two", "takes a dict", "takes residuals of both", "returns two")],
]
CALLS = {(style, name): STYLES[style](TOLD[name]) for style, name in CELLS}
IN_DIMS = [(0, 0), (1, 0), (-1, -1), (0, None), (None, -1), (None, 0)]
OUTSIDE = [
    "value",
    ".backward",
    "one argument at a time",
    "expanded upstream",
    "batched upstream",
    "func.vjp",
    "jacfwd",
    "dual number of the last argument",
    "second order, constant upstream",
    "third order",
    "hessian",
]
INSIDE = ["value", "func.grad", "func.vjp", "func.jvp", "jacrev", "grad of grad", "jacrev of jacfwd"]


def batched(xs, in_dims):
    """Examples that differ, stacked where `in_dims` says."""
    grown = [x if dim is None else [x + 0.1 * i for i in range(SIZE)] for x, dim in zip(xs, in_dims, strict=True)]
    return tuple(g if dim is None else torch.stack(g, dim) for g, dim in zip(grown, in_dims, strict=True))


def looped(run, in_dims):
    """What vmap means."""

    def over_batch(*xs):
        columns = [[x if d is None else x.select(d, i) for x, d in zip(xs, in_dims, strict=True)] for i in range(SIZE)]
        return tuple(torch.stack(outs) for outs in zip(*[run(*column) for column in columns], strict=True))

    return over_batch


@pytest.mark.parametrize("route", OUTSIDE)
@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
@pytest.mark.parametrize(("style", "name"), CELLS)
def test_a_derivative_of_vmap_is_that_of_the_loop(style, name, in_dims, route):
    told, derive = TOLD[name], ROUTES_OF_SEVERAL[route].derive
    xs = batched(told.tensors(), in_dims)
    got = derive(vmap(told.bind(CALLS[style, name]), in_dims=in_dims), *xs)
    torch.testing.assert_close(got, derive(looped(told.bind(told.oracle), in_dims), *xs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("route", INSIDE)
@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
@pytest.mark.parametrize(("style", "name"), CELLS)
def test_vmap_of_a_derivative_is_the_loop_over_it(style, name, in_dims, route):
    told, derive = TOLD[name], ROUTES_OF_SEVERAL[route].derive
    xs = batched(told.tensors(), in_dims)

    def derivative(function):
        return lambda *ys: tuple(flat(derive(told.bind(function), *ys)))

    got = vmap(derivative(CALLS[style, name]), in_dims=in_dims)(*xs)
    torch.testing.assert_close(got, looped(derivative(told.oracle), in_dims)(*xs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("route", ["value", ".backward", "jacfwd", "second order", "func.grad"])
@pytest.mark.parametrize(
    ("outer", "inner"), [((0, 0), (1, 0)), ((None, 1), (0, None)), ((1, None), (None, -1))], ids=str
)
@pytest.mark.parametrize(("style", "name"), CELLS)
def test_nested_vmap_is_the_nested_loop(style, name, outer, inner, route):
    told, derive = TOLD[name], ROUTES_OF_SEVERAL[route].derive
    xs = batched(batched(told.tensors(), inner), outer)
    run, oracle = told.bind(CALLS[style, name]), told.bind(told.oracle)
    got = derive(vmap(vmap(run, in_dims=inner), in_dims=outer), *xs)
    torch.testing.assert_close(got, derive(looped(looped(oracle, inner), outer), *xs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("style", "name"), [("op", "returns two"), ("class", "returns two")])
def test_outputs_go_to_the_dimensions_that_are_asked_for(style, name):
    told = TOLD[name]
    xs = batched(told.tensors(), (0, 0))
    got = vmap(told.bind(CALLS[style, name]), out_dims=(1, 0))(*xs)
    expected = looped(told.bind(told.oracle), (0, 0))(*xs)
    torch.testing.assert_close(got, (expected[0].mT, expected[1]))


@pytest.mark.parametrize(("style", "name"), CELLS)
def test_chunks_of_a_batch_give_the_same(style, name):
    told = TOLD[name]
    xs = batched(told.tensors(), (0, 0))
    run = told.bind(CALLS[style, name])
    torch.testing.assert_close(vmap(run, chunk_size=1)(*xs), vmap(run)(*xs))
