"""`gs.Function`: what torch's base class passes over in silence is tracked or refused."""

import pytest
import torch

import gradsmith as gs


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


class Scale(gs.Function):
    @staticmethod
    def forward(ctx, x, factor=2.0, *, shift=0.0):
        ctx.factor = factor
        return x * factor + shift

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * ctx.factor, None, None


def test_defaults_and_keyword_only_arguments_work():
    x = leaf(3)
    torch.testing.assert_close(Scale.apply(x, shift=1.0), x * 2 + 1)
    torch.testing.assert_close(torch.autograd.grad(Scale.apply(x, factor=3.0, shift=1.0).sum(), x)[0], 0 * x + 3)
    with pytest.raises(gs.CallError, match=r"Scale.. got an unknown argument `fctor`"):
        Scale.apply(x, fctor=3)


class SumOfList(gs.Function):
    @staticmethod
    def forward(ctx, tensors):
        ctx.count = len(tensors)
        return sum(tensors)

    @staticmethod
    def backward(ctx, grad_output):
        return [grad_output] * ctx.count


class ForgetsTheList(SumOfList):
    @staticmethod
    def backward(ctx, grad_output):
        return None


def test_tensors_in_a_list_are_tracked():
    assert torch.autograd.gradcheck(lambda a, b: SumOfList.apply([a, b]), (leaf(3), leaf(3)))
    with pytest.raises(gs.FormulaError, match=r"ForgetsTheList.backward returned None for `tensors`.*tensors\[0\]"):
        ForgetsTheList.apply([leaf(3), leaf(3)]).sum().backward()


@pytest.mark.parametrize("result", [lambda x: [x * 2], lambda x: {"out": x * 2}, lambda x: (x, [x])])
def test_outputs_that_autograd_would_not_see_are_refused(result):
    class Hides(gs.Function):
        forward = staticmethod(lambda ctx, x: result(x))
        backward = staticmethod(lambda ctx, *grads: grads[0])

    with pytest.raises(gs.CallError, match=r"Hides.forward returned .*Return a tensor or a tuple of tensors"):
        Hides.apply(leaf(3))


def test_a_wrong_number_of_gradients_is_told_by_name():
    class Short(gs.Function):
        forward = staticmethod(lambda ctx, x, y: x * y)
        backward = staticmethod(lambda ctx, grad_output: grad_output)

    with pytest.raises(gs.FormulaError, match=r"Short.backward returned 1 gradients, expected 2.*\(x, y\)"):
        Short.apply(leaf(3), leaf(3)).sum().backward()


class InPlace(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, grad_output):
        return 2 * grad_output


def test_an_argument_marked_dirty_is_written_to_and_differentiated():
    x = leaf(3)
    y = x * 1
    out = InPlace.apply(y)
    assert out.data_ptr() == y.data_ptr()
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], torch.full_like(x, 2))


class Sorts(gs.Function):
    @staticmethod
    def forward(ctx, x):
        values, indices = x.sort()
        ctx.mark_non_differentiable(indices)
        ctx.save_for_backward(indices)
        ctx.set_materialize_grads(False)
        return values, indices

    @staticmethod
    def backward(ctx, grad_values, grad_indices):
        assert grad_indices is None
        (indices,) = ctx.saved_tensors
        return torch.zeros_like(grad_values).scatter(-1, indices, grad_values)


def test_marks_on_ctx_mean_what_they_mean_in_torch():
    assert not Sorts.apply(leaf(4))[1].requires_grad
    f = lambda x: Sorts.apply(x)[0]
    assert torch.autograd.gradcheck(f, (leaf(4),), check_forward_ad=True, check_batched_grad=True)
    assert torch.vmap(f)(leaf(2, 4)).shape == (2, 4)


class OwnRules(gs.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * x.cos()

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return 5 * tangent * x.cos()

    @staticmethod
    def vmap(info, in_dims, x):
        return OwnRules.apply(x) + 7, in_dims[0]


def test_rules_of_the_authors_own_are_used():
    x = leaf(3).detach()
    torch.testing.assert_close(torch.func.jvp(OwnRules.apply, (x,), (x,))[1], 5 * x * x.cos())
    torch.testing.assert_close(torch.vmap(OwnRules.apply)(x), x.sin() + 7)
    torch.testing.assert_close(torch.func.grad(OwnRules.apply)(x[0]), x[0].cos())


def test_a_class_without_a_forward_is_told():
    class Empty(gs.Function):
        pass

    with pytest.raises(gs.DefinitionError, match="Empty has no forward"):
        Empty.apply(leaf(3))


def test_a_second_backward_sees_a_ctx_that_the_first_did_not_change():
    class Consumes(gs.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.left = 1
            return x * 2

        @staticmethod
        def backward(ctx, grad_output):
            ctx.left -= 1
            return grad_output * 2 if ctx.left == 0 else grad_output * 0

    x = leaf(3)
    out = Consumes.apply(x).sum()
    once, twice = (torch.autograd.grad(out, x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(once, twice)
