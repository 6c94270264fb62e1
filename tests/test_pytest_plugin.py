"""`pytest --gradsmith` on somebody's project: their tests as they are, and an item more for each Function."""

from __future__ import annotations

import pytest
from devices import no_device
from squares import program

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester):
    """A project with a right and a wrong Function, and tests that call them and see nothing."""
    pytester.makepyfile(layers=program("Right", "Wrong"))
    return pytester


def calls(pytester, *names):
    tests = "".join(
        f"def test_{name.lower()}():\n    {name}.apply(torch.full((3,), 0.7, requires_grad=True)).sum().backward()\n"
        for name in names
    )
    pytester.makepyfile(test_layers=f"import torch\nfrom layers import Right, Wrong\n{tests}\ndef test_nothing(): pass")


def run(pytester, *arguments):
    return pytester.runpytest_subprocess("-p", "no:randomly", *arguments)


def test_a_wrong_function_fails_the_run_with_its_report(project):
    calls(project, "Right", "Wrong")
    result = run(project, "--gradsmith")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        ["*error[[]gradient-sign] in Wrong, argument x", "FAILED gradsmith::Wrong - 1 error: gradient-sign"]
    )


def test_right_functions_are_passing_items(project):
    calls(project, "Right")
    result = run(project, "--gradsmith", "-v")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*gradsmith::Right PASSED*100%*"])


def test_without_the_flag_nothing_is_checked(project):
    calls(project, "Wrong")
    result = run(project)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2)


def test_tests_that_call_no_function_are_told_so(project):
    calls(project)
    result = run(project, "--gradsmith")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["gradsmith: the tests called no custom Function"])


def test_a_run_that_stops_early_says_that_nothing_was_checked(project):
    calls(project, "Wrong")
    project.makepyfile(test_a="def test_fails(): assert False")
    result = run(project, "--gradsmith", "-x")
    result.stdout.fnmatch_lines(["gradsmith: the run was stopped, and nothing was checked"])


def test_settings_and_comments_of_the_project_hold(project):
    calls(project, "Wrong")
    project.makepyprojecttoml('[tool.gradsmith]\nskip = ["gradient-sign"]')
    run(project, "--gradsmith").assert_outcomes(passed=3)
    project.makepyprojecttoml("[tool.gradsmith]\nstrickt = true")
    result = run(project, "--gradsmith")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown setting tool.gradsmith.strickt*"])


def test_a_function_that_several_workers_met_is_one_item(project):
    calls(project, "Right", "Wrong")
    project.makepyfile(test_more="from test_layers import test_right, test_wrong")
    result = run(project, "--gradsmith", "-n", "2", "-p", "xdist")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["FAILED gradsmith::Wrong - 1 error: gradient-sign"])


@pytest.mark.parametrize("workers", [(), ("-n", "2", "-p", "xdist")])
def test_what_could_not_be_recorded_is_said(project, workers):
    project.makepyfile(
        test_layers="""
        import torch
        from layers import Right

        class Own(torch.Tensor):
            pass

        def test_right():
            Right.apply(torch.full((3,), 0.7, requires_grad=True).as_subclass(Own))
        """
    )
    result = run(project, "--gradsmith", *workers)
    result.stdout.fnmatch_lines(["gradsmith: layers.Right: it was called with subclasses of Tensor alone*"])


@no_device
def test_one_that_needs_a_device_which_is_not_here_is_skipped(project):
    project.makepyfile(
        test_layers="""
        import pytest
        import torch
        from layers import Right

        class OnDevice(Right):
            @staticmethod
            def forward(ctx, x):
                if not x.is_cuda:
                    raise ValueError("x must be a CUDA tensor")
                return x * x

        def test_it():
            with pytest.raises(ValueError):
                OnDevice.apply(torch.ones(3, requires_grad=True))
        """
    )
    result = run(project, "--gradsmith", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*x must be a CUDA tensor; there is no CUDA device here*"])


def test_the_items_stand_in_junit_xml(project):
    calls(project, "Wrong")
    run(project, "--gradsmith", "--junitxml=out.xml")
    assert 'classname="gradsmith" name="Wrong"' in (project.path / "out.xml").read_text()
