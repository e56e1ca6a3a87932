"""Which devices the processes get: cores and their limits, GPUs of one kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sweeper.training.workers.cores import count_cores, worker_devices
from sweeper.types import InputError


def system(folder: Path, siblings: dict[int, str], **limits: str) -> Path:
    for cpu, text in siblings.items():
        file = folder / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(text + "\n")
    for name, text in limits.items():
        file = folder / "fs/cgroup" / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return folder


FOUR_ON_TWO = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}


@pytest.mark.parametrize(
    ("siblings", "limits", "expected"),
    [
        ({}, {}, 4),  # nothing is known: each is a core
        (FOUR_ON_TWO, {}, 2),
        ({cpu: str(cpu) for cpu in range(4)}, {}, 4),
        ({}, {"cpu_max": "max 100000"}, 4),
        ({}, {"cpu_max": "250000 100000"}, 2),
        ({}, {"cpu_max": "50000 100000"}, 1),
        ({}, {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 4),
        ({}, {"cpu__cfs_quota_us": "300000", "cpu__cfs_period_us": "100000"}, 3),
        (FOUR_ON_TWO, {"cpu_max": "300000 100000"}, 2),
    ],
)
def test_cores(
    siblings: dict[int, str], limits: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)
    assert count_cores(system(tmp_path, siblings, **limits)) == expected


def test_cores_of_others_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2}, raising=False)
    assert count_cores(system(tmp_path, FOUR_ON_TWO)) == 1


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["A100", "T4", "A100"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(kinds))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: kinds[index])


@pytest.mark.usefixtures("cards")
@pytest.mark.parametrize(
    ("workers", "device", "expected"),
    [
        ("auto", "auto", ("cuda:0", "cuda:2")),  # another kind of card would give other last bits
        ("auto", "cuda", ("cuda:0", "cuda:2")),
        ("auto", "cuda:1", ("cuda:1",)),
        (3, "cuda", ("cuda:0", "cuda:2", "cuda:0")),
        (2, "cuda:1", ("cuda:1", "cuda:1")),
        (1, "auto", ("cuda:0",)),
        (2, "cpu", ("cpu", "cpu")),
    ],
)
def test_cards(workers: int | str, device: str, expected: tuple[str, ...]) -> None:
    assert worker_devices(workers, device) == expected  # type: ignore[arg-type]


def test_auto_takes_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.training.workers.cores.count_cores", lambda: 3)
    assert worker_devices("auto", "cpu") == ("cpu",) * 3


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "many", None])
def test_what_is_no_number_of_processes(workers: object) -> None:
    with pytest.raises(InputError, match=r"trainer\.workers"):
        worker_devices(workers, "cpu")  # type: ignore[arg-type]
