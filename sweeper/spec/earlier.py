"""Sweeps of arrays that were started before arrays were standardized: they resume on the data as given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sweeper.spec.describing import describe
from sweeper.spec.question import Question, is_stored
from sweeper.spec.sweep import Subject, SweepSpec

NOTE = (
    "This sweep was started before arrays were standardized, and resumes on the data as given. "
    'fresh=True starts over with scale="auto".'
)


def resumed(spec: SweepSpec, subject: Subject, root: Path) -> SweepSpec:
    """Return the sweep on the data as given if that one is stored and the one on standardized data is not.

    Args:
        spec: The sweep of `subject`.
        subject: What is trained.
        root: The folder of the sweeps.
    """
    if spec.fresh or is_stored(root, spec.name, spec.question):
        return spec
    earlier = _as_given(subject)
    if earlier is None:
        return spec
    question = {**spec.question, **earlier.described, "fingerprint": earlier.task.fingerprint}
    on_given = replace(spec, task=earlier.task, question=question)
    return on_given if is_stored(root, on_given.name, question) else spec


def started_with(subject: Subject, question: Question) -> Subject:
    """Return the subject on the data as given if a stored sweep has these, else the subject itself."""
    earlier = _as_given(subject)
    return subject if earlier is None or earlier.task.fingerprint != question["fingerprint"] else earlier


def _as_given(subject: Subject) -> Subject | None:
    """Return the subject on its data as given; None if it is the same."""
    task = getattr(subject.task, "unscaled", None)
    if task is None:
        return None
    return replace(subject, task=task, described=describe(task, subject.first_numbers)[0])
