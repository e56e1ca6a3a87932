"""What is refused before training because the first update shows it, and what a prediction without inputs is worth."""

import math
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.api import sweep
from sweeper.forecast.estimate import first_jobs
from sweeper.run import untrained
from sweeper.run.trainers import make
from sweeper.search.study import build_studies
from sweeper.spec.composing import compose
from sweeper.spec.describing import subject_of
from sweeper.spec.parse import parse
from sweeper.spec.requests import request
from sweeper.spec.sweep import parse_trainer
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.problems import CLASSIFICATION, Problem, mean_square
from sweeper.training.lanes.probe import ProbedTrainer
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import InputError

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(300, 6)).astype("float32")
TWO = (X[:, 0] > 0.5).astype("int64")
FIVE = np.minimum(DRAW.poisson(1.0, 300), 4)
REAL = X[:, 1] + 3
SYMBOLS = np.minimum(DRAW.poisson(6, size=(300, 5)), 30)
SYMBOLS[250, 0] = 40  # once, late
ONE_CLASS = (X[:50], np.zeros(50, dtype="int64"))
ONE_VALUE = (X[:50], np.ones(50, dtype="float32"))
AUROC = {"metric": "valid/auroc", "direction": "maximize"}


class Net(nn.Module):
    def __init__(self, inputs=6, outputs=2):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(x)


class Fixed(nn.Module):
    def forward(self, x):
        return x[:, :2]


class Frozen(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.requires_grad_(False)


class Detached(Net):
    def forward(self, x):
        return super().forward(x).detach()


class Embedded(nn.Module):
    def __init__(self, symbols=20):
        super().__init__()
        self.symbols, self.layer = nn.Embedding(symbols, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(self.symbols(x).mean(1))


class NotANumber(Net):
    def forward(self, x):
        return super().forward(x) / 0 * 0


class OutOfLuck(Net):
    def forward(self, x):
        if len(x) > 2:
            raise RuntimeError("out of luck")
        return super().forward(x)


class InTraining(Net):
    """Fails in evaluation alone, after the first 64 examples."""

    def forward(self, x):
        if not self.training and len(x) > 2:
            raise RuntimeError("not in evaluation")
        return super().forward(x)


class Holed(Supervised):
    """Its validation inputs have a NaN behind the first 50."""

    def fetch(self, part, partition, index_B):
        x, y = super().fetch(part, partition, index_B)
        return torch.where((index_B == 55)[:, None], torch.nan, x) if part == "valid" else x, y


def task(X=X, y=TWO, model=Net, problem=None, metrics=None, kind=Supervised, **data):
    return kind(Arrays(X, y, **data), model, problem, metrics)


def started(made, place, families=("constant",), **options):
    settings = {"steps": 8, "n_trials": 1, "search": {"reports": 4}, "tracking": "none", "device": "cpu"}
    return sweep(made, families, **{**settings, "trainer": "sequential", "root": place, **options})


REFUSED = {
    "no parameters": (lambda: task(model=Fixed), {}, "model=Fixed: has no trainable parameters"),
    "all frozen": (lambda: task(model=Frozen), {}, "model=Frozen: has no trainable parameters"),
    "detached": (lambda: task(model=Detached), {}, "model=Detached: the loss does not depend on any trainable"),
    "fewer outputs than classes": (
        lambda: task(y=FIVE, model=partial(Net, outputs=3)), {}, "model: has no place for class 4 of the data "
        "(IndexError: Target 4 is out of bounds). Give its constructor a parameter `outputs`"
    ),
    "fewer rows than symbols": (
        lambda: task(X=SYMBOLS, model=Embedded), {}, "model: has no place for symbol 40 of the data"
    ),
    "several outputs for a number": (
        lambda: task(y=REAL, model=partial(Net, outputs=2)), {}, "outputs of shape [2, 2] for targets of shape [2]"
    ),
    "a loss of all pairs": (
        lambda: task(y=REAL, model=partial(Net, outputs=1), problem=Problem(
            lambda o, t: nn.functional.mse_loss(o, t, reduction="none").mean(-1), lambda o, t: {}, mean_square)
        ),
        {},
        "outputs of shape [2, 1] for targets of shape [2]: this loss would compare every output with every target",
    ),
    "a loss that is no number": (
        lambda: task(model=NotANumber), {}, "model: the loss of the first batch is nan, so every trial would diverge"
    ),
    "a loss beyond the bound": (
        lambda: task(X=1e6 * X, scale=False), {}, "beyond the bound of 6.931 that counts as divergence"
    ),
    "a hole in the validation part": (
        lambda: task(kind=Holed), {}, "data: valid/loss is nan before training"
    ),
    "an error in a whole batch": (
        lambda: task(model=OutOfLuck), {},
        "model: a trial fails at its first update (RuntimeError: out of luck, test_untrained.py:"
    ),
    "an error in evaluation": (
        lambda: task(model=InTraining), {}, "a trial fails at its first update (RuntimeError: not in evaluation"
    ),
    "auroc of one class": (
        lambda: task(valid=ONE_CLASS, metrics=["auroc"]), {"objective": AUROC},
        "objective.metric=valid/auroc: it has no value on the validation part: nan before training"
    ),
    "r2 of one value": (
        lambda: task(y=REAL, valid=ONE_VALUE, model=partial(Net, outputs=1)),
        {"objective": {"metric": "valid/r2", "direction": "maximize"}},
        "objective.metric=valid/r2: it has no value on the validation part",
    ),
    "a schedule that watches auroc of one class": (
        lambda: task(valid=ONE_CLASS, metrics=["auroc"]), {"families": {"plateau": {"metric": "valid/auroc"}}},
        "schedule.plateau.metric=valid/auroc: it has no value on the validation part"
    ),
    **{
        f"{family} watches nothing": (
            task, {"families": {family: {"metric": "valid/nope"}}},
            f"schedule.{family}.metric=valid/nope: this task does not report it. Choose one of valid/loss, valid/acc",
        )
        for family in ("plateau", "plateau_keras", "greedy")
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_every_trial_would_end_with_is_refused_before_anything_is_written(kind, tmp_path, capfd):
    made, options, told = REFUSED[kind]
    with pytest.raises(InputError) as raised:
        started(made(), tmp_path / "sweeps", **options)
    assert told in str(raised.value)
    assert not (tmp_path / "sweeps").exists()
    assert "Traceback" not in capfd.readouterr().err


def of_one_class(output, target):
    """A metric without a value while all predictions are equal."""
    spread = output[:, 0].std().item()
    return {"skew": float(spread if spread > 0 else math.nan)}


class Zeros(Net):
    """Predicts the same for all examples until it is trained."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        nn.init.zeros_(self.layer.weight)


class Normed(Net):
    """Its running averages fit the data only after some updates."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.norm = nn.BatchNorm1d(inputs)

    def forward(self, x):
        return super().forward(self.norm(x))


class Loose(Arrays):
    """Says that there are more symbols and classes than occur."""

    def __init__(self, *arrays):
        super().__init__(*arrays)
        self.inputs, self.outputs = 500, 9


ACCEPTED = {
    "a metric that comes with training": (
        lambda: Supervised(Arrays(X, TWO), Zeros, CLASSIFICATION._replace(metrics=of_one_class)),
        {"objective": {"metric": "valid/skew", "direction": "maximize"}},
    ),
    "norms before they fit the data": (lambda: task(X=1e4 * X, model=Normed), {}),
    "data that say too much": (lambda: Supervised(Loose(SYMBOLS, TWO), partial(Embedded, 41)), {}),
    "one output for two classes": (
        lambda: task(model=partial(Net, outputs=1), problem=Problem(
            lambda o, t: nn.functional.binary_cross_entropy_with_logits(o[:, 0], t.float(), reduction="none"),
            lambda o, t: {}, lambda data: math.log(2))
        ), {}
    ),
    "folds": (lambda: task(folds=3), {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_training_may_mend_is_trained(kind, tmp_path):
    made, options = ACCEPTED[kind]
    trained = started(made(), tmp_path / "sweeps", **options)
    assert [record.state for record in trained.records] == ["complete"]


def test_a_fold_without_a_value_is_named(tmp_path):
    order = np.argsort(TWO, kind="stable")  # the metric of a fold sees the fold's targets alone

    class Sorted(Arrays):
        def fetch(self, part, partition, index_B):
            x, y = super().fetch(part, partition, index_B)
            return x, torch.zeros_like(y) if part == "valid" and partition == 1 else y

    made = Supervised(Sorted(X[order], TWO[order], folds=3), Net, metrics=["auroc"])
    with pytest.raises(InputError, match=r"objective\.metric=valid/auroc: .*nan before training on fold 1\."):
        started(made, tmp_path, objective=AUROC)


# --- the sweep that follows -------------------------------------------------------------------------


def spec_of(made, **changes):
    config = compose(
        request(["constant"], {"tracking": "none", "device": "cpu", **changes}, values={("train", "steps"): 8})
    )
    return parse({**config.nodes, "search": {**config.nodes["search"], "reports": 4}}, subject_of(made, {}, "sgd"))


class Dropping(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return super().forward(self.drop(x))


@pytest.mark.parametrize("constructor", [SequentialTrainer, ProbedTrainer])
@pytest.mark.parametrize("model", [Dropping, Normed])
def test_the_tried_update_changes_no_bit_of_the_trials(constructor, model):
    spec = spec_of(task(model=model))
    target = parse_trainer({"_target_": f"{constructor.__module__}.{constructor.__name__}"})
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    reported = []
    for tries in (False, True):
        trainer = make(spec, target)
        if tries:
            untrained.try_update(spec, trainer)
            assert torch.equal(torch.get_rng_state(), torch_state)
            assert np.array_equal(np.random.get_state()[1], numpy_state)
        job = untrained.example(spec)
        trainer.start([job])
        reports = [next(iter(trainer.advance([job.id]))) for _ in job.report_steps]
        reported.append([(r.step, r.metrics, {name: v.tobytes() for name, v in r.traces.items()}) for r in reports])
        trainer.close()
    assert reported[0] == reported[1]


def test_the_tried_update_is_the_first_of_the_trials():
    """Initial weights, first batch and validation part are the same."""
    spec = spec_of(task())
    with closing(make(spec, parse_trainer({"_target_": "sweeper.training.sequential.SequentialTrainer"}))) as trainer:
        metrics = untrained.try_update(spec, trainer)
    (job, *_) = first_jobs(build_studies(spec.studies, spec.terms))
    model = spec.task.build(job.seed)
    x, y = spec.task.fetch("valid", 0, torch.arange(spec.task.size("valid", 0)))
    assert metrics["valid/loss"] == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-6)


def test_a_sweep_that_was_started_is_not_tried_again(tmp_path, monkeypatch):
    first = started(task(), tmp_path)
    monkeypatch.setattr(untrained, "try_update", lambda *_: pytest.fail("tried again"))
    again = started(task(), tmp_path, n_trials=2)
    assert again.config["no_skill"] == first.config["no_skill"]
    assert len(again.records) == 2


# --- a prediction that ignores the inputs -----------------------------------------------------------


def test_no_skill_is_the_frequencies_of_the_classes():
    made = task(y=FIVE)
    y = made.fetch("valid", 0, torch.arange(made.size("valid", 0)))[1].numpy()
    share = np.unique(y, return_counts=True)[1] / len(y)
    entropy = -(share * np.log(share)).sum()
    assert untrained.no_skill(spec_of(made)) == pytest.approx(
        entropy, rel=0.02
    )  # classes that do not occur get a little
    accuracy = spec_of(made, objective={"metric": "valid/accuracy", "direction": "maximize"})
    assert untrained.no_skill(accuracy) == pytest.approx(share.max())
    auroc = spec_of(task(metrics=["auroc"]), objective=AUROC)
    assert untrained.no_skill(auroc) == 0.5


def test_no_skill_of_numbers_is_their_variance():
    made = task(y=REAL, model=partial(Net, outputs=1))
    y = made.fetch("valid", 0, torch.arange(made.size("valid", 0)))[1].numpy()
    assert untrained.no_skill(spec_of(made)) == pytest.approx(y.var(), rel=1e-5)


def test_no_skill_of_outputs_that_cannot_be_made_up_is_that_of_the_untrained_model(tmp_path):
    class Both(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layer = nn.Linear(inputs, outputs)

        def forward(self, x):
            return {"scores": self.layer(x)}

    problem = Problem(lambda o, t: nn.functional.cross_entropy(o["scores"], t, reduction="none"), lambda o, t: {})
    trained = started(Supervised(Arrays(X, TWO), Both, problem._replace(untrained_loss=lambda _: 0.7)), tmp_path)
    assert trained.config["no_skill"] == pytest.approx(0.7, abs=0.5)
    assert trained.families["no_skill"].tolist() == [trained.config["no_skill"]]
