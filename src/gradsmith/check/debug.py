"""`debug`: each custom Function is checked at its first call of each signature, while a program runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradsmith.check.battery import check_case
from gradsmith.check.record import Recording, record
from gradsmith.check.report_data import Report


class GradientError(AssertionError):
    """A custom gradient was found to be wrong; `report` says how."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


class _Checking(Recording):
    """A recording that checks a case as soon as it is met, at most once for each signature."""

    busy = False

    def see(self, function_class, args, kwargs) -> None:  # type: ignore[no-untyped-def]
        if self.busy:  # the checks call the Function, too
            return
        met = len(self.cases)
        super().see(function_class, args, kwargs)
        for case in self.cases[met:]:
            self.busy = True
            try:
                report = check_case(case)
            finally:
                self.busy = False
            if not report.ok:
                raise GradientError(report)


@contextmanager
def debug(limit: int = 3) -> Iterator[Recording]:
    """Check every custom Function at its first call of each signature, and go on if it is right.

    At most `limit` signatures of each are checked. Raises GradientError, at the call, for the first Function with an
    error. The program is otherwise undisturbed: its random numbers and results are those of a run without.

        with gs.debug():
            train_one_step(model, batch)
    """
    with record(recording=_Checking(limit)) as recording:
        yield recording
