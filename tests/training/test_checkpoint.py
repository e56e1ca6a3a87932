"""Rounds on disk: which one is seen, and that no crash leaves half of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.training.checkpoint import read_checkpoint, reopen_jobs, write_checkpoint
from sweeper.types import Job, JobId

ID = ("cosine", 3, 0)


def states(value: float) -> Any:
    return {ID: {"digest": "d", "step": 5, "model": {"w": torch.full((3,), value)}}}


def value_in(folder: Path, last_round: int) -> float | None:
    found = read_checkpoint(folder, last_round)
    return found[ID]["model"]["w"][0].item() if found else None


def test_one_round_is_kept_and_later_ones_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "checkpoint"
    write_checkpoint(folder, 12, states(1))
    assert [path.name for path in folder.iterdir()] == ["round-000012"]
    assert (value_in(folder, 11), value_in(folder, 12), value_in(folder, 99)) == (None, 1, 1)
    write_checkpoint(folder, 12, states(2))
    assert value_in(folder, 12) == 2
    write_checkpoint(folder, 1_234_567, states(3))
    assert [path.name for path in folder.iterdir()] == ["round-1234567"]
    assert value_in(folder, 1_234_567) == 3


class Killed(BaseException):
    pass


@pytest.mark.parametrize("round", [2, 1])
def test_a_crash_at_any_call_leaves_the_old_round_or_the_new_one(
    tmp_path: Path, round: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file-system call of a write is, in turn, the last one."""
    seen: set[float | None] = set()
    for last in range(100):
        folder = tmp_path / str(last)
        write_checkpoint(folder, 1, states(1))
        calls = iter(range(last))

        def dying(name: str, owner: Any, calls: Any = calls) -> None:
            real = getattr(owner, name)

            def call(*arguments: Any, **keywords: Any) -> Any:
                if next(calls, None) is None:
                    raise Killed
                return real(*arguments, **keywords)

            monkeypatch.setattr(owner, name, call)

        for owner, name in ((os, "fsync"), (Path, "mkdir"), (Path, "rename"), (Path, "replace"), (torch, "save")):
            dying(name, owner)
        try:
            write_checkpoint(folder, round, states(2))
            done = True
        except Killed:
            done = False
        monkeypatch.undo()
        seen.add(value_in(folder, 2))
        if done:
            break
        write_checkpoint(folder, 3, states(3))  # and what it left is in nobody's way
        assert value_in(folder, 3) == 3
        assert [path.name for path in folder.iterdir()] == ["round-000003"]
    assert done
    assert last > 4
    assert seen == {1, 2}


def test_a_torn_newest_round_gives_way_to_an_older_one(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2, states(2))
    (tmp_path / "round-000002").rename(tmp_path / "kept")
    write_checkpoint(tmp_path, 3, states(3))
    (tmp_path / "kept").rename(tmp_path / "round-000002")
    file = tmp_path / "round-000003" / "jobs.pt"
    file.write_bytes(file.read_bytes()[:50])
    assert value_in(tmp_path, 3) == 2


def test_jobs_are_reopened_where_the_checkpoint_has_them_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [Job(JobId("cosine", trial, 0), "cosine", {}, trial, np.ones(10), (5, 10)) for trial in range(4)]
    saved = {job.id: {"digest": str(job.seed), "step": 5 + job.seed} for job in jobs[:3]}
    write_checkpoint(tmp_path, 1, saved | {jobs[1].id: {"digest": "another", "step": 5}})
    checked: list[Job] = []

    def reopen(job: Job, state: Any) -> None:
        if job is jobs[2]:
            raise ValueError("another model")

    def restored(last_round: int) -> dict[JobId, int]:
        states = read_checkpoint(tmp_path, last_round)
        return reopen_jobs(states, jobs, digest=lambda job: str(job.seed), check=checked.append, reopen=reopen)

    assert restored(0) == {}
    assert restored(1) == {jobs[0].id: 5}
    assert checked == [jobs[0], jobs[2]]
    assert "cannot be restored (another model), so it is trained again from its start" in caplog.text
