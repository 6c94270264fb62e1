"""The same suite over what a tensor may look like: no dimension, no element, one, strides of any kind."""

import pytest
import torch
from functions_of_several import ARGUMENTS
from routes_of_several import ROUTES_OF_SEVERAL
from tables import Told, as_class, as_op, as_opaque, tripled, values

torch.set_num_threads(1)
LAYOUTS = {  # the shape of a leaf, and the view of it that the function gets
    "no dimension": ((), lambda x: x),
    "no element": ((0,), lambda x: x),
    "no element in a matrix": ((2, 0), lambda x: x),
    "one element": ((1,), lambda x: x),
    "one element in a matrix": ((1, 1), lambda x: x),
    "transposed": ((2, 3), lambda x: x.mT),
    "sliced": ((5,), lambda x: x[::2]),
    "at an offset": ((4,), lambda x: x[1:]),
    "expanded": ((1,), lambda x: x.expand(3)),
    "expanded from no dimension": ((), lambda x: x.expand(2, 2)),
    "a view without a dimension": ((3,), lambda x: x[1]),
}
SOFTMAX = Told(
    lambda x: x.softmax(-1),
    {"x": lambda grad, out: 3 * out * (grad - (grad * out).sum(-1, keepdim=True))},
    lambda x: (3 * x - 2 * x.detach()).softmax(-1),
    ((3,),),
)
MEAN = Told(
    lambda x: x.sum(-1) if x.ndim else x * 1,
    {"x": lambda grad, x_shape: 3 * (grad.unsqueeze(-1) if x_shape else grad).expand(x_shape)},
    lambda x: tripled(x.sum(-1) if x.ndim else x * 1),
    ((3,),),
)
TOLD = {"product": ARGUMENTS["two"], "softmax": SOFTMAX, "sum": MEAN}
STYLES = {"op": as_op, "class": as_class, "opaque": as_opaque}
CELLS = [("op", "product"), ("op", "softmax"), ("op", "sum"), ("class", "product"), ("opaque", "product")]
CALLS = {(style, name): STYLES[style](TOLD[name]) for style, name in CELLS}
EMPTY = {"jacrev of jacfwd", "jacfwd of jacrev", "jacrev of jacrev", "jacfwd of jacfwd", "jacfwd", "jacrev", "hessian"}


@pytest.mark.parametrize("route", ROUTES_OF_SEVERAL)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("style", "name"), CELLS)
def test_the_formulas_are_what_every_route_uses(style, name, layout, route):
    if layout.startswith("no element") and route in EMPTY:
        pytest.skip("torch has no Jacobian of a tensor without elements")
    told, derive = TOLD[name], ROUTES_OF_SEVERAL[route].derive
    shape, view = LAYOUTS[layout]
    xs = [values(shape, seed) for seed in range(len(told.shapes))]

    def seen(function):
        return lambda *leaves: told.bind(function)(*[view(leaf) for leaf in leaves])

    torch.testing.assert_close(
        derive(seen(CALLS[style, name]), *xs), derive(seen(told.oracle), *xs), rtol=1e-9, atol=1e-9
    )
