"""The suite over shapes of calls: arguments, containers, outputs x style x route. Every cell is right or refused."""

import pytest
import torch
from functions_of_several import ARGUMENTS, CONTAINERS_OUT, OUTPUTS
from routes_of_several import ROUTES_OF_SEVERAL
from tables import as_class, as_op, as_opaque

import gradsmith as gs

torch.set_num_threads(1)
OPAQUE = {"two", "two, broadcast", "the same twice", "two, once differentiable", "two, one saved", "integers"}
TOLD = {
    **{f"takes {name}": told for name, told in ARGUMENTS.items()},
    **{f"returns {name}": told for name, told in {**OUTPUTS, **CONTAINERS_OUT}.items()},
}
STYLES = {"op": as_op, "class": as_class, "opaque": as_opaque}


def takes(style, name):
    """Whether a style has such calls: an operator takes tensors and plain values, a class returns no dict."""
    if style == "opaque":
        return name.split(" ", 1)[1] in OPAQUE
    return style == "op" or not name.startswith("returns in a")


CELLS = [(style, name) for style in STYLES for name in TOLD if takes(style, name)]
CALLS = {(style, name): STYLES[style](TOLD[name]) for style, name in CELLS}


@pytest.mark.parametrize("route", ROUTES_OF_SEVERAL)
@pytest.mark.parametrize(("style", "name"), CELLS)
def test_the_formulas_are_what_every_route_uses(style, name, route):
    told, derive = TOLD[name], ROUTES_OF_SEVERAL[route]
    run, xs = told.bind(CALLS[style, name]), told.tensors()
    if told.refused and derive.order >= 2:
        with pytest.raises(told.refused):
            derive.derive(run, *xs)
        return
    torch.testing.assert_close(
        derive.derive(run, *xs), derive.derive(told.bind(told.oracle), *xs), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", ["in a list", "in a dict", "in a dataclass"])
def test_a_class_that_returns_a_container_is_refused(name):
    told = CONTAINERS_OUT[name]
    with pytest.raises(gs.CallError, match="Return a tensor or a tuple of tensors"):
        told.bind(as_class(told))(*told.tensors())
