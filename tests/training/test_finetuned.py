"""Fine-tuning: models start from a file, parts of them fresh or frozen, in every trainer."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sweeper.training.finetuned import FineTuned, finetuned_task
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import parse_optimizer
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.training.workers.processes import Processes
from sweeper.types import InputError, Job, JobId, Report

STEPS, BATCH = 12, 8
ADAMW = {"_target_": "torch.optim.AdamW", "weight_decay": 0.1, "no_decay": ["norm", "bias"]}


@pytest.fixture
def path(tmp_path: Path, teacher: Any) -> Path:
    """Weights of a batchnorm student that has trained a little."""
    model = teacher("batchnorm").build(77)
    with torch.no_grad():
        model[1].running_mean.fill_(0.5)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def job(number: int = 0) -> Job:
    lr_S = np.linspace(0.05, 0.01, STEPS)
    return Job(JobId("s", number, 0), "linear", {}, seed=number, lr_S=lr_S, report_steps=(5, STEPS))


def trained(trainer: Any, jobs: list[Job]) -> list[tuple[list[Report], dict[str, Tensor]]]:
    trainer.start(jobs)
    reports: dict[JobId, list[Report]] = {of.id: [] for of in jobs}
    for _ in jobs[0].report_steps:
        for report in list(trainer.advance([of.id for of in jobs])):
            reports[report.id].append(report)
    found = [(reports[of.id], trainer.weights(of.id)) for of in jobs]
    trainer.close()
    return found


def alone(task: Any, optimizer: dict[str, Any], precision: str = "float64") -> SequentialTrainer:
    return SequentialTrainer(task, Recipe(parse_optimizer(optimizer), BATCH, precision), device="cpu")


def test_every_model_starts_from_the_file_buffers_too(path: Path, teacher: Any) -> None:
    task, stored = FineTuned(teacher("batchnorm"), path), torch.load(path)
    for seed in (0, 1):
        for name, value in task.build(seed).state_dict().items():
            assert torch.equal(value, stored[name]), name


def test_safetensors_and_what_torch_saves_are_the_same(path: Path, teacher: Any) -> None:
    other = path.with_suffix(".safetensors")
    save_file(torch.load(path), other)
    one, two = (FineTuned(teacher("batchnorm"), file).build(0).state_dict() for file in (path, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_parts_may_stay_fresh(path: Path, teacher: Any) -> None:
    task, inner, stored = (
        FineTuned(teacher("batchnorm"), path, init_reset=["3"]),
        teacher("batchnorm"),
        torch.load(path),
    )
    for seed in (0, 1):
        built, fresh = task.build(seed).state_dict(), inner.build(seed).state_dict()
        for name, value in built.items():
            assert torch.equal(value, (fresh if name.startswith("3.") else stored)[name]), name


def test_the_files_content_identifies_the_task(path: Path, teacher: Any) -> None:
    before = FineTuned(teacher("batchnorm"), path).fingerprint
    assert before == FineTuned(teacher("batchnorm"), path).fingerprint != teacher("batchnorm").fingerprint
    torch.save(teacher("batchnorm").build(78).state_dict(), path)
    assert FineTuned(teacher("batchnorm"), path).fingerprint != before


def test_it_is_pickled_with_the_weights_and_needs_the_file_no_more(path: Path, teacher: Any) -> None:
    content = pickle.dumps(FineTuned(teacher("batchnorm"), path, freeze=["0"]))
    stored = torch.load(path)
    path.unlink()
    task = pickle.loads(content).to(torch.device("cpu"))
    model = task.build(3)
    assert torch.equal(model[0].weight, stored["0.weight"])
    assert not model[0].weight.requires_grad


def test_frozen_parts_do_not_move_and_do_not_count(path: Path, teacher: Any) -> None:
    task = FineTuned(teacher("batchnorm"), path, freeze=["0", "norm"])
    ((reports, weights),) = trained(alone(task, ADAMW), [job()])
    stored = {name: value.double() for name, value in torch.load(path).items()}
    for name, value in weights.items():
        moved = not torch.equal(value.double(), stored[name])
        assert moved == (name.startswith("3.") or "running" in name or "tracked" in name), name
    # What the norms measure is the last layer alone: trained by hand, its gradient's norm at the last update.
    sizes = np.concatenate([report.traces["update_to_weight"] for report in reports])
    assert np.isfinite(sizes).all()
    assert sizes[0] == pytest.approx(_first_ratio(task, job()), rel=1e-9)


def _first_ratio(task: Any, of: Job) -> float:
    """||change|| / ||weights|| of the last layer in the first update of AdamW."""
    first = Job(of.id, of.family, {}, seed=of.seed, lr_S=of.lr_S[:1], report_steps=(1,))
    before = {name: value.double() for name, value in task.build(of.seed).state_dict().items()}
    ((_, after),) = trained(alone(task, ADAMW), [first])
    names = ("3.weight", "3.bias")
    change = sum(((after[name] - before[name]) ** 2).sum() for name in names) ** 0.5
    return float(change / sum((before[name] ** 2).sum() for name in names) ** 0.5)


@pytest.mark.parametrize("freeze", [[], ["0", "norm"]])
def test_lanes_fine_tune_as_one_at_a_time_does(path: Path, teacher: Any, freeze: list[str]) -> None:
    task, jobs = FineTuned(teacher("batchnorm"), path, freeze=freeze), [job(0), job(1), job(2)]
    sgd = {"_target_": "torch.optim.SGD", "momentum": 0.9, "weight_decay": 0.01, "layer_decay": 0.5}
    verdict = probe(task, Recipe(parse_optimizer(sgd), BATCH), jobs[0], device="cpu")
    assert verdict.form is not None, verdict.why
    one_by_one = trained(alone(task, sgd), jobs)
    stacked = trained(
        LaneTrainer(
            task, Recipe(parse_optimizer(sgd), BATCH, "float64"), Stacking(verdict.form, width=4), device="cpu"
        ),
        jobs,
    )
    for (expected, weights), (found, others) in zip(one_by_one, stacked, strict=True):
        for one, other in zip(expected, found, strict=True):
            for name, values in one.traces.items():
                np.testing.assert_allclose(other.traces[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
            assert other.metrics == pytest.approx(one.metrics, rel=1e-9)
        for name, value in weights.items():
            torch.testing.assert_close(others[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_processes_fine_tune_too(path: Path, teacher: Any) -> None:
    task, jobs = FineTuned(teacher("batchnorm"), path, freeze=["0"]), [job(0), job(1)]
    processes = Processes(
        task, Recipe(parse_optimizer(ADAMW), BATCH), trainer=SequentialTrainer, devices=("cpu", "cpu")
    )
    expected = trained(alone(task, ADAMW, "float32"), jobs)
    for (reports, weights), (found, others) in zip(expected, trained(processes, jobs), strict=True):
        for one, other in zip(reports, found, strict=True):
            np.testing.assert_array_equal(other.traces["train/loss"], one.traces["train/loss"])
        assert all(torch.equal(others[name], value) for name, value in weights.items())


# --- what is refused --------------------------------------------------------------------------------


def test_names_that_do_not_fit_are_listed(path: Path, teacher: Any) -> None:
    with pytest.raises(InputError) as caught:
        FineTuned(teacher("plain"), path).build(0)
    assert str(caught.value) == (
        f"model.init_from={path}: the weights do not fit the model: the model lacks 1.weight, 1.bias, "
        "1.running_mean, 1.running_var, 1.num_batches_tracked. Load only what fits with model.init_strict=false"
    )
    torch.save(teacher("plain").build(77).state_dict(), path)
    with pytest.raises(InputError, match=r"the file lacks 1.weight, .*model.init_reset"):
        FineTuned(teacher("batchnorm"), path).build(0)
    stored = torch.load(path)
    assert torch.equal(FineTuned(teacher("batchnorm"), path, init_strict=False).build(0)[0].weight, stored["0.weight"])
    assert torch.equal(FineTuned(teacher("batchnorm"), path, init_reset=["1"]).build(0)[0].weight, stored["0.weight"])


def test_another_shape_is_refused_unless_that_part_stays_fresh(path: Path, teacher: Any) -> None:
    state = torch.load(path)
    torch.save({**state, "3.weight": torch.zeros(9, 8), "3.bias": torch.zeros(9)}, path)
    for strict in (True, False):
        with pytest.raises(InputError, match=r"shapes differ for 3.weight, 3.bias. Keep their fresh values"):
            FineTuned(teacher("batchnorm"), path, init_strict=strict).build(0)
    FineTuned(teacher("batchnorm"), path, init_reset=["3"]).build(0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no weights", "cannot be read"),
        ([torch.zeros(2)], "it holds list instead of tensors by name"),
        ({"state": {"0.weight": torch.zeros(2)}}, "it holds state instead of tensors by name"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, teacher: Any, content: Any, words: str) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=words):
        FineTuned(teacher(), path)


def test_a_flipped_weight_is_refused(path: Path, teacher: Any) -> None:
    FineTuned(teacher(), path)
    data = bytearray(path.read_bytes())
    values = torch._C.PyTorchFileReader(str(path)).get_record("data/0")
    data[data.index(values)] ^= 0x01
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read .*the checksum of .* differs"):
        FineTuned(teacher(), path)


def test_a_node_with_wrong_values_is_refused(path: Path, teacher: Any) -> None:
    refused: dict[str, dict[str, Any]] = {
        "model.init_from=nowhere.pt: there is no such file": {"init_from": "nowhere.pt"},
        "model.init_from: cannot be searched": {"init_from": {"choice": ["a.pt", "b.pt"]}},
        "model.init_strict=maybe: must be true or false": {"init_from": path, "init_strict": "maybe"},
        "model.freeze=7: must be a name or a list of names": {"freeze": 7},
    }
    for words, node in refused.items():
        with pytest.raises(InputError, match=words):
            finetuned_task(teacher(), node)
    task = teacher()
    assert finetuned_task(task, {"width": 3, "freeze": None}) is task


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            {"freeze": ["5"]},
            r"model.freeze=5: matches no trained parameter of the model. Choose from 0, 1, 3, or the kinds norm",
        ),
        ({"freeze": ["*"]}, "nothing is left to train"),
        ({"init_reset": ["head"]}, r"model.init_reset=\[head\]: matches no trained parameter of the model"),
    ],
)
def test_names_that_are_nowhere_are_refused(path: Path, teacher: Any, numbers: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FineTuned(teacher("batchnorm"), path, **numbers).build(0)


def test_an_inner_tasks_further_members_are_its_own(path: Path, teacher: Any) -> None:
    inner = teacher("batchnorm")
    inner.data = nn.Identity
    task = FineTuned(inner, path)
    assert task.data is nn.Identity
    assert not hasattr(task, "augment")
