"""A mistake in an op is an error when it is defined, or names the op and the argument when it is called."""

import copy
import pickle

import pytest
import torch

import gradsmith as gs


def leaf(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def scale(input, factor=2.0):
    return input * factor


@pytest.mark.parametrize(
    ("formulas", "message"),
    [
        ({"input": lambda grad, weigth: grad}, "op scale: the formula for `input` asks for `weigth`"),
        ({"input": lambda grad, facto: grad}, "did you mean `factor`"),
        ({"inptu": lambda grad: grad}, "no argument `inptu` to give a formula for .did you mean `input`"),
        ({"input": lambda out: out}, "does not take the upstream gradient"),
        ({"input": lambda *grads: grads}, r"takes \*args or \*\*kwargs"),
        ({"input": 3}, "must be a Python function"),
        ({"input": lambda grad, out_shape: grad}, "may ask for grad, out, input, factor"),
    ],
)
def test_a_mistaken_formula_is_told_at_definition(formulas, message):
    with pytest.raises(gs.DefinitionError, match=message):
        gs.op(scale, **formulas)


def test_a_formula_given_twice_is_told():
    op = gs.op(scale, input=lambda grad, factor: grad * factor)
    with pytest.raises(gs.DefinitionError, match="op scale: `input` has a formula already"):
        op.vjp("input")(lambda grad: grad)


def test_vjp_wants_the_names_of_its_targets():
    with pytest.raises(gs.DefinitionError, match="names of its targets"):
        gs.op(scale).vjp(lambda grad: grad)


def test_an_argument_with_a_reserved_name_is_told():
    with pytest.raises(gs.DefinitionError, match="argument `grad` has a name that formulas use"):
        gs.op(lambda grad: grad)


def test_a_forward_that_cannot_be_called_is_told():
    with pytest.raises(gs.DefinitionError, match="forward must be callable"):
        gs.op(3)


def test_a_builtin_takes_its_argument_names_from_its_formulas():
    product = gs.op(torch.mul, a=lambda grad, b: grad * b, b=lambda grad, a: grad * a)
    assert torch.autograd.gradcheck(product, (leaf(3), leaf(3)))
    with pytest.raises(gs.DefinitionError, match="cannot be read"):
        gs.op(torch.mul)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda op: op(), "scale.. is missing `input`"),
        (lambda op: op(leaf(2), 1.0, 2.0), "takes 2 positional arguments .input, factor. but 3 were given"),
        (lambda op: op(leaf(2), factr=1.0), "unknown argument `factr`"),
        (lambda op: op(leaf(2), 1.0, factor=2.0), "two values for `factor`"),
    ],
)
def test_a_call_that_does_not_fit_is_told_by_name(call, message):
    with pytest.raises(gs.CallError, match=message):
        call(gs.op(scale, input=lambda grad, factor: grad * factor))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (lambda grad: grad[:2], r"op f: the formula for `x` returned shape \(2,\), expected \(3,\)"),
        (lambda grad: None, "returned None, expected a tensor.*write `x=None`"),
        (lambda grad: 3.0, "returned a float"),
        (lambda grad: grad.long(), "a gradient is no integer"),
        (lambda grad: grad.to("meta"), "returned a tensor on meta, expected cpu"),
        (lambda grad: grad.nope, "the formula for x raised AttributeError"),
    ],
)
def test_a_formula_that_returns_no_gradient_of_its_argument_is_told(formula, message):
    def f(x):
        return x * 2

    with pytest.raises(gs.FormulaError, match=message):
        gs.op(f, x=formula)(leaf(3)).sum().backward()


def test_formulas_for_several_arguments_return_one_gradient_each():
    op = gs.op(lambda a, b: a * b)
    op.vjp("a", "b")(lambda grad, a, b: grad * b)
    with pytest.raises(gs.FormulaError, match="must return 2 gradients in that order"):
        op(leaf(3), leaf(3)).sum().backward()


def test_a_shared_formula_is_told_what_is_needed():
    seen = []
    op = gs.op(lambda a, b: a * b)

    @op.vjp("a", "b")
    def _(grad, a, b, needs):
        seen.append(dict(needs))
        return (grad * b if needs["a"] else None), (grad * a if needs["b"] else None)

    op(leaf(3), leaf(3).detach()).sum().backward()
    assert seen == [{"a": True, "b": False}]


def test_a_missing_formula_raises_when_its_gradient_is_asked_for_and_not_before():
    op = gs.op(lambda a, b: a * b, a=lambda grad, b: grad * b)
    a, b = leaf(3), leaf(3)
    out = op(a, b)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), a, retain_graph=True)[0], b.detach())
    for ask in (
        lambda: torch.autograd.grad(out.sum(), b),
        lambda: torch.func.grad(lambda b: op(a.detach(), b).sum())(b.detach()),
        lambda: torch.func.jvp(lambda b: op(a.detach(), b), (b.detach(),), (b.detach(),)),
        lambda: torch.func.vmap(torch.func.grad(lambda b: op(b.detach() * 2, b)))(b.detach()),
    ):
        with pytest.raises(gs.MissingFormula, match="gradient of `b` was asked for"):
            ask()


def test_a_formula_that_is_none_means_zero():
    op = gs.op(lambda a, b: a * b, a=lambda grad, b: grad * b, b=None)
    a, b = leaf(3), leaf(3)
    assert torch.autograd.grad(op(a, b).sum(), (a, b), allow_unused=True)[1] is None


def test_broadcasting_is_undone_where_it_is_that_of_the_output():
    op = gs.op(lambda a, b: a * b, a=lambda grad, b: grad * b, b=lambda grad, a: grad * a)
    assert torch.autograd.gradcheck(op, (leaf(4, 3), leaf(3)), check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradcheck(op, (leaf(4, 1), leaf(1, 3)))
    assert torch.autograd.gradgradcheck(op, (leaf(4, 1), leaf(1, 3)))


def test_an_identity_forward_survives_a_following_in_place_operation():
    reverse = gs.op(lambda x: x, x=lambda grad: -grad)
    x = leaf(3)
    out = reverse(x)
    assert out is not x
    torch.nn.functional.relu_(out).sum().backward()
    torch.testing.assert_close(x.grad, -(x > 0).double())


def test_a_view_of_what_the_forward_made_may_be_written_to():
    flat = gs.op(lambda x: (x * 2).flatten(), x=lambda grad, x_shape: 2 * grad.view(x_shape))
    x = leaf(2, 3)
    torch.nn.functional.relu_(flat(x)).sum().backward()
    torch.testing.assert_close(x.grad, 2 * (x > 0).double())
    halves = gs.op(
        lambda x: tuple((x * 2).chunk(2)), outputs=("a", "b"), x=lambda grad_a, grad_b: 2 * torch.cat((grad_a, grad_b))
    )
    a, b = halves(x)
    (a.mul_(3).sum() + b.sum()).backward()
    torch.testing.assert_close(x.grad[0] - 2 * (x[0] > 0), torch.full((3,), 6.0, dtype=torch.double))


def test_writing_to_a_view_of_what_was_saved_is_still_an_error():
    def exp(x):
        grown = x.exp()
        return gs.keep(grown.view(-1), grown=grown)

    op = gs.op(exp, x=lambda grad, grown: grad.view_as(grown) * grown)
    out = op(leaf(2, 3)).mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_view_of_an_argument_stays_one():
    flat = gs.op(lambda x: x.view(-1), x=lambda grad, x_shape: grad.view(x_shape))
    with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
        flat(leaf(2, 3) * 1).mul_(2)


def test_a_table_is_printed_with_what_it_saves():
    op = gs.op(scale, input=lambda grad, factor: grad * factor, factor=None)
    assert repr(op).splitlines()[0] == "op scale(input, factor)"
    assert "saves factor" in repr(op)
    assert "zero" in repr(op)
    assert "no formula" in repr(gs.op(scale, input=lambda grad: grad))


def test_a_residual_that_is_not_kept_is_told():
    def maybe(x, keep_it):
        return gs.keep(x * 2, twice=x * 2) if keep_it else x * 2

    op = gs.op(maybe, x=lambda grad, twice: grad * twice)
    with pytest.raises(gs.FormulaError, match="residual `twice`, which this call of the forward did not keep"):
        op(leaf(3), False).sum().backward()


def keeps_by_another_way(x):
    residuals = {"twice": x * 2}
    return gs.keep(x * x, **residuals)


def test_a_residual_that_cannot_be_read_from_the_code_is_declared():
    with pytest.raises(gs.FormulaError, match="not declared in residuals="):
        gs.op(keeps_by_another_way, x=lambda grad: grad)(leaf(3))
    op = gs.op(keeps_by_another_way, residuals=("twice",), x=lambda grad, x, twice: grad * twice)
    assert torch.autograd.gradcheck(op, (leaf(3),))
    assert torch.autograd.gradgradcheck(op, (leaf(3),))


def test_an_op_is_pickled_by_name_and_copied_as_itself():
    assert pickle.loads(pickle.dumps(gs.linear)) is gs.linear
    assert copy.deepcopy({"op": gs.linear})["op"] is gs.linear
    nameless = gs.op(lambda x: x, x=lambda grad: grad)
    assert copy.copy(nameless) is nameless
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(nameless)
