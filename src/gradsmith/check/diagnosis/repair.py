"""A repair: one expression of the author's `backward` that, written otherwise, makes the gradients right.

Proposed only where it holds at the point and close by, and leaves the gradients alone that were right. It is evidence
of where the mistake is and a proposal of what was meant; another rewriting may do as well.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from gradsmith.check.case import Case
from gradsmith.check.diagnosis.resaving import resavings
from gradsmith.check.diagnosis.rewriting import Rewriting, rewritings
from gradsmith.check.diagnosis.source import backward_of
from gradsmith.check.isolation import Raised, seeded, user_code
from gradsmith.check.judge import Judgement, deviating, jittered, judge
from gradsmith.check.subject import Subject

Candidate = tuple[Rewriting, Callable[[], Case], Sequence[Any]]  # with its case, and what its backward returned
LARGEST = 20_000  # elements of all inputs together: a backward of more is not run a thousand times


def repairs(subject: Subject, judgements: Sequence[Judgement]) -> dict[int, Rewriting]:
    """For each argument whose gradient is wrong, the rewriting that repairs it, where there is one.

    One that repairs more arguments comes before one that repairs fewer.
    """
    return subject.cached("repairs", lambda: _repairs(subject, judgements))


def _repairs(subject: Subject, judgements: Sequence[Judgement]) -> dict[int, Rewriting]:
    if sum(value.numel() for value in subject.inputs if isinstance(value, torch.Tensor)) > LARGEST:
        return {}
    wrong = {judgement.position for judgement in judgements if judgement.verdict == "wrong"}
    best: dict[int, tuple[int, Rewriting]] = {}
    for rewriting, case, returned in itertools.chain(_rewritten(subject), _resaved(subject)):
        right = _right(subject, judgements, returned)
        repaired = right & wrong
        better = any(len(repaired) > best.get(position, (0,))[0] for position in repaired)
        spared = all(j.position in right for j in judgements if j.verdict == "right")
        if better and spared and _right_close_by(subject, case(), right):
            for position in repaired:
                if len(repaired) > best.get(position, (0,))[0]:
                    best[position] = len(repaired), rewriting
            if repaired == wrong:
                break
    return {position: rewriting for position, (_, rewriting) in best.items()}


def _rewritten(subject: Subject) -> Iterator[Candidate]:
    """Each rewriting of the backward, run on what one forward saved."""
    backward = backward_of(subject.case)
    node: Any = subject.base.differentiable[0].grad_fn
    if backward is None or not subject.base.raw or not isinstance(node, torch.autograd.function.BackwardCFunction):
        return
    upstream = subject.base.raw[0].upstream
    for rewriting in rewritings(backward):
        rewritten = backward.compiled()
        try:
            with user_code("backward"), seeded(), torch.no_grad():
                returned = rewritten(node, *upstream)
        except Raised:
            continue
        answers = returned if isinstance(returned, tuple | list) else (returned,)
        yield rewriting, partial(_with_backward, subject.case, rewritten), answers


def _resaved(subject: Subject) -> Iterator[Candidate]:
    for rewriting, case in resavings(subject.case):
        trial = Subject(case, subject.inputs, label=subject.label)
        if trial.failure is None and trial.base.raw:
            yield rewriting, partial(dataclasses.replace, case), trial.base.raw[0].returned


def _with_backward(case: Case, backward: Any) -> Case:
    """The case of a subclass, so that the author's own class is left as it is."""
    cls: Any = case.function_class
    rewritten: Any = type(cls.__name__, (cls,), {"backward": staticmethod(backward)})
    return dataclasses.replace(case, function=rewritten.apply, function_class=rewritten)


def _right(subject: Subject, judgements: Sequence[Judgement], returned: Sequence[Any]) -> set[int]:
    """The arguments for which what was returned is what it must be."""
    right: set[int] = set()
    for judgement in judgements:
        position, truth = judgement.position, judgement.got if judgement.expected is None else judgement.expected
        grad = returned[position] if position < len(returned) else None
        if grad is None:
            if judgement.missing and judgement.verdict == "right":
                right.add(position)
        elif _is(grad, truth) and not bool(deviating(subject, position, grad.detach(), truth).any()):
            right.add(position)
    return right


def _is(grad: Any, truth: torch.Tensor) -> bool:
    return isinstance(grad, torch.Tensor) and grad.shape == truth.shape and grad.dtype == truth.dtype


def _right_close_by(subject: Subject, case: Case, positions: Collection[int]) -> bool:
    """Whether it is a gradient of the Function, and one also where no value coincides with another."""
    for attempt in (11, 12):
        nearby = Subject(case, jittered(subject, attempt), label="close by")
        try:
            if any(judge(nearby, position).verdict != "right" for position in positions):
                return False
        except Raised:
            return False
    return True
