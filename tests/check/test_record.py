"""Recording sees every Function that a program applies, and disturbs nothing."""

from __future__ import annotations

import threading

import torch
from torch.autograd import Function

from gradsmith.check import record


class Twice(Function):
    @staticmethod
    def forward(ctx, x, factor=2):
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


class Split(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class InPlace(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


early = Twice.apply  # a bound method from before any recording


def x():
    return torch.arange(3.0).requires_grad_()


def test_a_case_has_names_inputs_and_location():
    with record() as recording:
        Twice.apply(x(), 3)
    (case,) = recording.cases
    assert (case.name, case.argument_names, case.inputs[1]) == ("Twice", ("x", "factor"), 3)
    assert case.needs_grad == (True, False)
    location = case.location("backward")
    assert location is not None
    assert location.text.startswith("def backward")


def test_an_apply_taken_before_the_recording_is_seen():
    with record() as recording:
        early(x())
    assert [case.name for case in recording.cases] == ["Twice"]


def test_setup_context_style_is_seen():
    with record() as recording:
        Split.apply(x())
    assert recording.cases[0].argument_names == ("x",)


def test_the_limit_counts_signatures_of_each_function():
    with record(limit=2) as recording:
        for size in (1, 1, 2, 3, 4):
            Twice.apply(torch.ones(size, requires_grad=True))
        Split.apply(x())
    assert [len(case.inputs[0]) for case in recording.cases] == [1, 2, 3]


def test_apply_is_restored_even_after_an_error():
    before = Twice.apply.__func__
    try:
        with record():
            raise KeyError
    except KeyError:
        pass
    assert Twice.apply.__func__ is before
    assert "apply" not in vars(Function.__mro__[1])


def test_results_gradients_and_random_numbers_are_those_without_recording():
    def program():
        torch.manual_seed(0)
        value = x()
        out = Twice.apply(value * torch.rand(3))
        out.sum().backward()
        return out.detach(), value.grad, torch.rand(2)

    plain = program()
    with record():
        recorded = program()
    assert all(torch.equal(a, b) for a, b in zip(plain, recorded, strict=True))


def test_inputs_are_copied_before_the_call_writes_into_them():
    with record() as recording:
        InPlace.apply(x() * 1)
    assert recording.cases[0].inputs[0].tolist() == [0.0, 1.0, 2.0]


def test_layout_and_sharing_are_kept():
    base = torch.arange(6.0).reshape(2, 3).requires_grad_()
    with record() as recording:
        Twice.apply(base.mT)
        Pair.apply(base, base)
    assert recording.cases[0].inputs[0].stride() == (1, 3)
    first, second = recording.cases[1].inputs
    assert first is second


class Pair(Function):
    @staticmethod
    def forward(ctx, a, b):
        return a + b

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


def test_nested_recordings_both_see_the_call():
    with record() as outer, record() as inner:
        Twice.apply(x())
    assert len(outer.cases) == len(inner.cases) == 1


def test_other_threads_are_seen():
    with record() as recording:
        thread = threading.Thread(target=lambda: Twice.apply(x()))
        thread.start()
        thread.join()
    assert len(recording.cases) == 1


def test_transforms_pass_through_unseen():
    with record() as recording:
        got = torch.func.vmap(torch.func.grad(lambda v: Split.apply(v).sum()))(torch.ones(2, 3))
    assert torch.equal(got, torch.full((2, 3), 2.0))
    assert recording.cases == []


def test_arguments_that_cannot_be_copied_are_reported_and_do_not_disturb():
    class Stubborn(torch.Generator):
        def clone_state(self):
            raise RuntimeError("not me")

    with record() as recording:
        out = Twice.apply(x(), Stubborn() and 2)
        Ignores.apply(x(), Stubborn())
    assert out.tolist() == [0.0, 2.0, 4.0]
    assert "not me" in recording.problems[0]


def test_a_function_given_subclasses_of_tensor_alone_is_reported():
    class Own(torch.Tensor):
        pass

    with record() as recording:
        Twice.apply(x().as_subclass(Own))
        Ignores.apply(x().as_subclass(Own), 2)
        Ignores.apply(x(), 2)
    assert [case.name for case in recording.cases] == ["Ignores"]
    (problem,) = recording.problems
    assert problem.endswith("Twice: it was called with subclasses of Tensor alone: call it with plain tensors, too")


class Ignores(Function):
    @staticmethod
    def forward(ctx, x, other):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return grad, None
