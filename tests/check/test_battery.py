"""What `check` takes, selects, skips and survives."""

from __future__ import annotations

import json

import pytest
import torch
from devices import no_device
from torch.autograd import Function

import gradsmith as gs
from gradsmith.check import Case, Report, check, check_case

torch.set_num_threads(1)


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return grad * 2 * ctx.saved_tensors[0]


class Half(Square):
    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        return self.function.apply(x * self.weight)


def x():
    return torch.tensor([1.0, -2.0, 3.0], requires_grad=True)


@pytest.mark.parametrize("wrong", [Half, Half.apply, Module(Half), lambda v: Half.apply(v).sum()])
def test_a_function_its_apply_a_module_and_a_callable_are_taken(wrong):
    report = check(wrong, (x(),))
    assert not report.ok
    assert "gradient-scale" in report.codes
    assert report.functions == ("Half",)


def test_a_single_tensor_stands_for_a_tuple():
    assert check(Square, x()).ok


def test_inputs_that_require_no_gradient_are_checked_all_the_same():
    assert "gradient-scale" in check(Half, (x().detach(),)).codes


def test_a_callable_without_functions_is_checked_itself():
    report = check(lambda v: v.detach() * v, (x(),))
    assert "gradient-scale" in report.codes or "gradient-wrong" in report.codes


def test_a_module_without_functions_is_checked_with_its_parameters():
    report = check(torch.nn.Linear(3, 2), (torch.randn(4, 3),))
    assert report.ok
    assert report.functions == ("Linear",)


def test_only_and_skip_take_codes():
    assert check(Half, x(), only="gradient-sign").codes == ()
    assert check(Half, x(), only={"gradient-scale"}).codes == ("gradient-scale",)
    assert "gradient-scale" not in check(Half, x(), skip="gradient-scale").codes


def test_an_unknown_code_names_its_neighbours():
    with pytest.raises(ValueError, match="gradient-sign"):
        check(Half, x(), only="gradient-sing")


def test_what_is_no_callable_is_refused():
    with pytest.raises(TypeError, match="int"):
        check(3, x())


def test_a_spent_budget_is_said():
    report = check(Half, x(), budget=0.0)
    assert {skip.reason for skip in report.skipped} == {"budget spent"}


def test_a_reference_gets_keyword_arguments_by_keyword():
    scaled = gs.op(lambda x, shift, factor: x * factor + shift, x=lambda grad, factor: grad * factor, shift=None)

    def reference(x, factor, *, unused=None, shift=0.0):
        return factor * x + shift

    assert check(scaled, x(), {"factor": 3.0, "shift": 1.0}, reference=reference).ok


def test_keyword_arguments_become_positional():
    class Scale(Function):
        @staticmethod
        def forward(ctx, x, factor=2.0):
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, grad):
            return grad, None

    (found,) = check(Scale, x(), {"factor": 3.0}).of("error")
    assert found.evidence["ratio"] == pytest.approx(1 / 3)
    assert "`factor` = 3.0" in found.message


def test_reference_decides():
    assert check(Half, x(), reference=lambda v: v * v / 2, only="gradient-scale").ok
    assert not check(Square, x(), reference=lambda v: v * v / 2, only="gradient-scale").ok


def test_a_class_may_carry_its_reference():
    class Sign(Function):
        reference = staticmethod(torch.tanh)

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sign()

        @staticmethod
        def backward(ctx, grad):
            return grad * (1 - ctx.saved_tensors[0].tanh() ** 2)

    class WrongSign(Sign):
        @staticmethod
        def backward(ctx, grad):
            return -grad * (1 - ctx.saved_tensors[0].tanh() ** 2)

    assert check(Sign, x()).ok
    assert "gradient-sign" in check(WrongSign, x()).codes


def test_a_reference_for_several_functions_is_refused():
    with pytest.raises(ValueError, match="Square, Half"):
        check(lambda v: Square.apply(v) + Half.apply(v), x(), reference=torch.square)


def test_a_call_that_raises_is_a_crash():
    def broken(v):
        raise RuntimeError("no use")

    (found,) = check(broken, x()).findings
    assert (found.code, found.function.split(".")[-1]) == ("crash", "broken")
    assert "no use" in found.message


@no_device
def test_a_forward_that_needs_a_device_which_is_not_here_is_not_looked_at_and_not_blamed():
    class OnDevice(Function):
        @staticmethod
        def forward(ctx, x):
            if not x.is_cuda:
                raise ValueError("x must be a CUDA tensor")
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    report = gs.check(OnDevice, (torch.ones(3, requires_grad=True),))
    assert (report.findings, report.checked) == ((), ())
    (skipped,) = report.skipped
    assert skipped.reason == (
        "the forward raises ValueError: x must be a CUDA tensor; there is no CUDA device here: "
        "check it on a machine that has one"
    )


@no_device
def test_a_backward_that_goes_to_a_device_though_its_forward_ran_on_the_cpu_is_a_crash():
    class Moves(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.full((), 2.0).cuda()

    (crash,) = gs.check(Moves, (torch.ones(3, requires_grad=True),)).of("error")
    assert crash.code == "crash"
    assert "device=x.device" in crash.advice


def test_functions_recorded_before_a_call_raises_are_checked():
    def broken(v):
        Half.apply(v)
        raise RuntimeError("no use")

    assert "gradient-scale" in check(broken, x()).codes


def test_a_report_is_plain_data():
    report = check(Half, x())
    data = json.loads(json.dumps(report.to_dict()))
    assert data["schema"] == 2
    assert data["counts"]["error"] == 1
    assert data["findings"][0]["code"] == "gradient-scale"
    assert data["findings"][0]["location"]["file"] == __file__


def test_a_report_reads_as_text():
    text = str(check(Half, x()))
    assert "error: Half: gradient-scale: backward returns 1/2x the derivative for `x`" in text


def test_the_same_finding_in_two_reports_is_kept_once():
    report = check(Half, x())
    assert len((report + report).findings) == len(report.findings)
    assert Report().ok


def test_what_was_looked_at_is_said():
    report = check_case(Case.of(Square, (x(),)))
    looked_at = {entry.check: entry.variations for entry in report.checked}
    assert "size 3 -> 1" in looked_at["edge-shape"]
    assert "transposed inputs" in looked_at["layout"]


@pytest.mark.slow
def test_compile_is_asked_for_by_name():
    class StrideDependent(Square):
        @staticmethod
        def backward(ctx, grad):
            return grad * 2 * ctx.saved_tensors[0] * (1 if grad.stride() == (1,) else 2)

    report = check(StrideDependent, x(), only={"compile-wrong", "no-compile"})
    assert "compile-wrong" in report.codes or "no-compile" in report.codes
    assert check(Square, x(), only={"compile-wrong", "no-compile"}).codes == ()


class DoubledInPlace(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad

    @staticmethod
    def jvp(ctx, tangent):
        return tangent.mul_(2)


def test_a_jvp_that_overwrites_its_tangent_is_held_against_the_tangent_it_was_given():
    report = check(lambda x: DoubledInPlace.apply(x * 1), (torch.randn(3, dtype=torch.float64, requires_grad=True),))
    assert report.of("error") == ()
    assert "forward-mode" in [entry.check for entry in report.checked]


def test_an_op_whose_forward_writes_to_its_argument_is_told_so_in_the_words_of_ops() -> None:
    doubled = gs.op(lambda x: x.mul_(2), x=lambda grad: grad * 2)
    (finding,) = gs.check(doubled, (torch.ones(3, requires_grad=True),)).of("error")
    assert (finding.code, finding.argument) == ("input-mutated", "x")
    assert "op" in finding.advice
    assert "mark_dirty" not in finding.advice


class LengthOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, length):
        if ctx.needs_input_grad[0]:
            raise RuntimeError("no gradient in x")
        ctx.save_for_backward(x, length)
        return x / length

    @staticmethod
    def backward(ctx, grad):
        x, length = ctx.saved_tensors
        return None, -(grad * x).sum() / length**2


def test_a_forward_that_refuses_gradients_nobody_asked_for_is_not_blamed():
    report = check(LengthOnly, (torch.randn(3), torch.tensor(2.0)))
    assert report.ok
    assert not report.findings
    assert "no gradient in x" in report.skipped[0].reason
    assert check(LengthOnly, (torch.randn(3), torch.tensor(2.0, requires_grad=True))).ok
    assert check(LengthOnly, (torch.randn(3).requires_grad_(), torch.tensor(2.0))).codes == ("crash",)
