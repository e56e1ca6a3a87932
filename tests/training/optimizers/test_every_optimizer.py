"""Every file of conf/optimizer: it is accepted, the loss falls, and a job's numbers depend on the job alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from sweeper import conf
from sweeper.training.optimizers.spec import parse_optimizer
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import InputError, Job, JobId, Report

FILES = sorted((Path(conf.__path__[0]) / "optimizer").glob("*.yaml"))
STEPS, REPORTS, BATCH = 20, (7, 12, 20), 8
LRS = {"adafactor": 0.1, "lion": 3e-3, "adadelta": 10.0, "sgd": 0.1, "sgd_hd": 0.1, "adagrad": 0.1}
# Of the others 10 times their default LR, as 20 updates are few; what finds its LR itself takes hundreds.
GOES_ON = ("schedule_free_sgd", "schedule_free_adamw", "dadapt_sgd", "dadapt_adam")  # averages, old steps
FINDS_ITSELF = ("dadapt_sgd", "dadapt_adam", "prodigy")


@pytest.fixture(params=[pytest.param(path, id=path.stem) for path in FILES])
def file(request: pytest.FixtureRequest) -> Any:
    return request.param


def read(file: Path) -> tuple[dict[str, Any], float]:
    """The optimizer as a trainer is given it, and an LR."""
    node = yaml.safe_load(file.read_text())
    config = {key: value for key, value in node.items() if key not in ("peak_lr", "default_lr")}
    own = node["default_lr"] if file.stem in FINDS_ITSELF or node["default_lr"] > 0.05 else 10 * node["default_lr"]
    return config, LRS.get(file.stem, own)


def job(lr: float, trial: int = 0, **changes: Any) -> Job:
    lr_S = lr * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2
    described: dict[str, Any] = {"seed": trial, "lr_S": lr_S, "report_steps": REPORTS, **changes}
    return Job(id=JobId("cosine", trial, 0), family="cosine", params={}, **described)


def train(trainer: SequentialTrainer, of: Job) -> list[Report]:
    reports: list[Report] = []
    while not reports or reports[-1].state == "running":
        reports += trainer.advance([of.id])
    return reports


def whole(trainer: SequentialTrainer, of: Job) -> tuple[list[Report], dict[str, torch.Tensor]]:
    trainer.start([of])
    return train(trainer, of), trainer.weights(of.id)


def assert_same(left: list[Report], right: list[Report]) -> None:
    for one, other in zip(left, right, strict=True):
        assert (one.step, one.state, one.metrics) == (other.step, other.state, other.metrics)
        for name in one.traces:
            np.testing.assert_array_equal(one.traces[name], other.traces[name])


def test_its_range_is_around_its_default(file: Path) -> None:
    node = yaml.safe_load(file.read_text())
    assert node["peak_lr"]["low"] <= node["default_lr"] <= node["peak_lr"]["high"]
    assert node["peak_lr"]["log"] is True
    assert file.read_text().startswith("# "), "a first line that says what it is"


@pytest.mark.parametrize(
    "kind", ["plain", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dropout", "batchnorm"))]
)
def test_the_loss_falls_and_a_job_depends_on_itself_alone(file: Path, kind: str, teacher: Any, tmp_path: Path) -> None:
    """A neighbour, more reports, evaluations and a checkpoint in between change no bit."""
    config, lr = read(file)

    def fresh() -> SequentialTrainer:
        return SequentialTrainer(teacher(kind), Recipe(parse_optimizer(config), BATCH), device="cpu")

    expected, weights = whole(fresh(), job(lr))
    assert expected[-1].state == "complete", expected[-1].reason
    if file.stem in FINDS_ITSELF:
        assert expected[-1].metrics["valid/loss"] != expected[0].metrics["valid/loss"]
    else:
        losses = np.concatenate([report.traces["train/loss"] for report in expected])
        assert losses[-5:].mean() < losses[:5].mean()

    torch.manual_seed(11)
    trainer = fresh()
    trainer.start([job(lr, 1), job(lr)])
    first = next(iter(trainer.advance([job(lr).id])))
    next(iter(trainer.advance([job(lr, 1).id])))
    assert trainer.evaluate(job(lr).id, "valid") == first.metrics
    trainer.weights(job(lr).id)
    trainer.save(tmp_path, 1)
    assert_same([first, *train(trainer, job(lr))], expected)

    restored = fresh()
    assert restored.restore(tmp_path, [job(lr)], 1) == {job(lr).id: REPORTS[0]}
    assert_same(train(restored, job(lr)), expected[1:])
    for name, value in restored.weights(job(lr).id).items():
        assert torch.equal(value, weights[name]), name

    often, same = whole(fresh(), job(lr, report_steps=tuple(range(1, STEPS + 1))))
    assert often[-1].metrics == expected[-1].metrics
    for name, value in same.items():
        assert torch.equal(value, weights[name]), name


def test_an_lr_of_0_stands_still(file: Path, teacher: Any) -> None:
    config, lr = read(file)
    lr_S = job(lr).lr_S.copy()
    lr_S[7:] = 0.0
    trainer = SequentialTrainer(teacher(), Recipe(parse_optimizer(config), BATCH, precision="float64"), device="cpu")
    reports, _ = whole(trainer, job(lr, lr_S=lr_S))
    if file.stem in GOES_ON:
        return
    for report in reports[1:]:
        assert report.metrics["valid/loss"] == pytest.approx(reports[0].metrics["valid/loss"], rel=1e-9)


@pytest.mark.parametrize("peak", [1e8, np.inf])
def test_a_far_too_high_lr_is_a_divergence_and_no_failure(file: Path, peak: float, teacher: Any) -> None:
    config, lr = read(file)
    lr_S = job(lr).lr_S.copy()
    lr_S[2] = peak
    (report,) = whole(
        SequentialTrainer(teacher(), Recipe(parse_optimizer(config), BATCH), device="cpu"), job(lr, lr_S=lr_S)
    )[0][-1:]
    if file.stem == "adafactor":  # which never uses so high an LR
        assert report.state == "complete"
    else:
        assert report.state == "diverged", report.reason
        assert report.step > 3


def test_the_lr_that_hypergradient_descent_used_is_logged(teacher: Any) -> None:
    """A plain SGD with the logged trace goes the same way."""
    trainer = SequentialTrainer(
        teacher(),
        Recipe(
            parse_optimizer({"_target_": "sweeper.training.optimizers.hypergradient.sgd", "hyper_lr": 0.1}),
            BATCH,
            precision="float64",
        ),
        device="cpu",
    )
    reports, weights = whole(trainer, job(0.1))
    used_S = np.concatenate([report.traces["lr/group0"] for report in reports])
    assert used_S[0] == job(0.1).lr_S[0]
    assert np.abs(used_S[-5:] / job(0.1).lr_S[-5:] - 1).min() > 0.05
    plain = {"_target_": "torch.optim.SGD"}
    again = SequentialTrainer(teacher(), Recipe(parse_optimizer(plain), BATCH, precision="float64"), device="cpu")
    _, expected = whole(again, job(0.1, lr_S=used_S))
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12)


def test_what_looks_at_whole_batches_is_not_given_pieces_of_them(teacher: Any) -> None:
    config = {"_target_": "sweeper.training.optimizers.kfac.KFAC"}
    with pytest.raises(InputError, match=r"train.accumulate=2: .*KFAC needs whole batches"):
        SequentialTrainer(teacher(), Recipe(parse_optimizer(config), BATCH, accumulate=2), device="cpu")
