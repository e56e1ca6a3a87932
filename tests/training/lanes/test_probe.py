"""Every trap of stacking: what goes wrong without the probe, and what the probe does or says about it."""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.convolutional import CNN, ResNet
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Supervised
from sweeper.tasks.transformer import Transformer
from sweeper.training.lanes.probe import STACKED, ProbedTrainer, Verdict, probe
from sweeper.training.lanes.program import Form, Mode, build_model
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Report

BATCH, STEPS = 8, 6
SGD = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9})
CPU = torch.device("cpu")
ALONE = "one trial at a time: "

# --- models with a trap -----------------------------------------------------------------------------


class Net(nn.Module):
    """[B, 6] -> [B, 3], `middle` in its midst, which reads and changes what `add` has added."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor], add: Callable[[Any], Any] = lambda net: None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)
        self.middle = middle
        add(self)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.middle(self, self.first(x).tanh()))
        return output


class Symbols(nn.Module):
    """int64 [B, 5] -> [B, 3] through an embedding and `inner`."""

    def __init__(self, inner: Callable[[], nn.Module] = nn.Identity, width: int = 4, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, **options)
        self.inner, self.last = inner(), nn.Linear(5 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(self.embedding(x))
        output: Tensor = self.last((inner[0] if isinstance(inner, tuple) else inner).flatten(1))
        return output


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = functional.scaled_dot_product_attention(x, x, x)
        return output


class Padded(nn.Module):
    """A table of its own, looked up by the first feature's sign."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        looked = functional.embedding((x[..., 0] > 0).long(), self.table, padding_idx=1)
        return torch.cat([x, looked], dim=-1)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x[:, 0])
        states = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            states.append(state)
        return torch.stack(states, dim=1)


def layer(make: Callable[[], Any]) -> functools.partial[Net]:
    return functools.partial(Net, lambda net, h: net.inner(h), lambda net: setattr(net, "inner", make()))


def reassigned(net: Any, h: Tensor) -> Tensor:
    net.count = net.count + 1
    return h * net.count


def counted(net: Any, h: Tensor) -> Tensor:
    """Nothing of it is seen in the first hundred updates."""
    net.calls += 1
    return h * 0 if net.calls > 100 else h


def annealed(net: Any, h: Tensor) -> Tensor:
    net.drop.p *= 0.9
    output: Tensor = net.drop(h)
    return output


def remembered(net: Any, h: Tensor) -> Tensor:
    """Written, never read before it is written again."""
    net.last_seen = h.detach()
    return h * net.last_seen.sigmoid()


def rarely(drawn: float, h: Tensor) -> Tensor:
    return h * 0 if drawn < 0.01 else h


def linear_by(net: Any, h: Tensor) -> Tensor:
    return functional.linear(h, net.kept[0])


def masked(net: Any, h: Tensor) -> Tensor:
    return h - h[h > 0].mean()


def hooked(net: Any) -> None:
    net.first.weight.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))


class Trap(NamedTuple):
    """A model that the probe must judge right.

    Attributes:
        model: Its factory.
        mode: How the probe stacks it; None if it does not.
        why: Part of the reason that the probe gives.
    """

    model: Callable[[], nn.Module]
    mode: Mode | None
    why: str = ""


def plain(net: Any, h: Tensor) -> Tensor:
    return h


VALUE = "the model's forward pass needs the value of a tensor"
TRAPS: dict[str, Trap] = {
    "torch.rand": Trap(lambda: Net(lambda net, h: h + torch.rand(6)), None, "draws random numbers of its own (torch)"),
    "F.dropout": Trap(lambda: Net(lambda net, h: functional.dropout(h, 0.3)), None, "of its own (torch)"),
    "RReLU": Trap(layer(nn.RReLU), None, "random numbers of its own (torch)"),
    "Python's random": Trap(
        lambda: Net(lambda net, h: rarely(random.random(), h)), None, "random numbers of its own (Python)"
    ),
    "NumPy's random": Trap(
        lambda: Net(lambda net, h: rarely(np.random.rand(), h)), None, "random numbers of its own (NumPy)"
    ),
    "padding_idx": Trap(lambda: Symbols(padding_idx=0), "grad"),
    "padding_idx of a function": Trap(lambda: Symbols(Padded, 5), "grad"),
    "padding that does not occur": Trap(lambda: Symbols(padding_idx=6), "grad"),
    "sparse": Trap(lambda: Symbols(sparse=True), None, "sparse gradients"),
    "max_norm": Trap(lambda: Symbols(max_norm=0.5), "forward"),
    "LSTM": Trap(lambda: Symbols(lambda: nn.LSTM(4, 4, batch_first=True)), "grad"),
    "GRU": Trap(lambda: Symbols(lambda: nn.GRU(4, 4, batch_first=True)), "grad"),
    "GRUCell": Trap(lambda: Symbols(Cells), "forward"),
    "attention": Trap(lambda: Symbols(Attention), "forward"),
    "checkpoint": Trap(
        lambda: Net(lambda net, h: checkpoint(torch.sin, h, use_reentrant=False)), None, "recomputes parts of itself"
    ),
    "reentrant checkpoint": Trap(
        lambda: Net(lambda net, h: checkpoint(torch.sin, h, use_reentrant=True)), None, "autograd.Function"
    ),
    "if tensor": Trap(lambda: Net(lambda net, h: h if h.mean() > 0 else 2 * h), None, VALUE),
    "item": Trap(lambda: Net(lambda net, h: h * h.max().item()), None, VALUE),
    "BatchNorm(momentum=None)": Trap(layer(lambda: nn.BatchNorm1d(6, momentum=None)), None, VALUE),
    "boolean mask": Trap(lambda: Net(masked), None, "a boolean mask?"),
    "spectral_norm": Trap(
        layer(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))), None, "torch cannot stack one of"
    ),
    "old spectral_norm": Trap(layer(lambda: nn.utils.spectral_norm(nn.Linear(6, 6))), None, "differ in more than"),
    "weight_norm": Trap(layer(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))), "forward"),
    "buffer assigned": Trap(
        lambda: Net(reassigned, lambda net: net.register_buffer("count", torch.ones(()))), None, "reassigns its buffer"
    ),
    "a count of its own": Trap(lambda: Net(counted, lambda net: setattr(net, "calls", 0)), None, "no buffer (calls)"),
    "dropout that changes": Trap(
        lambda: Net(annealed, lambda net: setattr(net, "drop", nn.Dropout(0.5))), None, "(a dropout rate)"
    ),
    "written only": Trap(lambda: Net(remembered), "forward"),
    "layers in a list": Trap(
        lambda: Net(lambda net, h: net.inner[0](h), lambda net: setattr(net, "inner", [nn.Linear(6, 6).double()])),
        None,
        "differ in more than parameters and buffers (inner)",
    ),
    "a layer twice": Trap(
        lambda: Net(lambda net, h: net.inner(net.inner(h)), lambda net: setattr(net, "inner", nn.Linear(6, 6))),
        "forward",
    ),
    "another layer's weight": Trap(lambda: Net(lambda net, h: functional.linear(h, net.first.weight)), "forward"),
    "another's weight, kept": Trap(
        lambda: Net(linear_by, lambda net: setattr(net, "kept", [net.first.weight])), None, "is not the same as alone"
    ),
    "a hook of a parameter": Trap(lambda: Net(plain, hooked), None, "a parameter of the model has a hook"),
    "BatchNorm": Trap(layer(lambda: nn.BatchNorm1d(6)), "forward"),
    "dropout": Trap(layer(lambda: nn.Dropout(0.4)), "forward"),
}  # fmt: skip


@functools.cache
def data_of(symbols: bool) -> Arrays:
    draw = np.random.default_rng(5)
    x = draw.integers(0, 6, size=(60, 5)) if symbols else draw.normal(size=(60, 6)).astype(np.float32)
    return Arrays(x, draw.integers(0, 3, 60))


def task_of(name: str) -> Supervised:
    return Supervised(data_of(isinstance(TRAPS[name].model(), Symbols)), TRAPS[name].model)


def job(lane: int = 0, **changes: Any) -> Job:
    described = Job(JobId("s", lane, 0), "f", {}, 5 + lane, np.full(STEPS, 0.1 / (1 + lane)), (STEPS,))
    return dataclasses.replace(described, **changes)


def probed(task: Any, **changes: Any) -> Verdict:
    return probe(task, Recipe(SGD, BATCH), job(**changes), device="cpu")


@pytest.fixture(autouse=True)
def warned() -> Iterator[None]:
    """Of reentrant checkpoints torch warns in evaluation, stacked or not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
        yield


# --- the probe's verdict ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAPS)
def test_the_probe_finds_the_way_or_says_why_not(name: str, caplog: pytest.LogCaptureFixture) -> None:
    trap, caplog.handler.level = TRAPS[name], logging.INFO
    verdict = probed(task_of(name))
    print(f"{name}: {verdict.why} ({1000 * verdict.seconds:.0f} ms)")
    assert (verdict.form.mode if verdict.form else None) == trap.mode
    assert trap.why in verdict.why
    assert verdict.why == STACKED if trap.mode else verdict.why.startswith(ALONE)
    assert len(verdict.why) < 200
    assert not any(word in verdict.why for word in ("vmap", "functorch", "Traceback", "\n", "RuntimeError"))
    assert caplog.records == []  # a failure inside the probe is not logged


def form_by_hand(task: Supervised, mode: Mode) -> Form:
    """Return what a user without the probe would write: all parameters, and the buffers that one pass changes."""
    model = build_model(task, 5, {}, torch.float64, CPU)
    before = {name: value.clone() for name, value in model.named_buffers()}
    x, y = task.fetch("train", 0, torch.arange(BATCH))
    task.loss(model(x.double() if x.is_floating_point() else x), y).sum().backward()
    after = dict(model.named_buffers())
    moving = tuple(name for name, value in before.items() if not torch.equal(value, after[name]))
    return Form(mode, tuple(name for name, _ in model.named_parameters()), moving)


def trained(trainer: Any, jobs: list[Job]) -> list[Report]:
    trainer.start(jobs)
    reports = {report.id: report for report in trainer.advance([each.id for each in jobs])}
    return [reports[each.id] for each in jobs]


def goes_wrong(task: Supervised, form: Form, jobs: list[Job]) -> bool:
    recipe = Recipe(SGD, BATCH, "float64")
    alone = trained(SequentialTrainer(task, recipe, device="cpu"), jobs)
    logging.getLogger("sweeper.training.lanes.trainer").disabled = True
    try:
        stacked = trained(LaneTrainer(task, recipe, Stacking(form, width=2), device="cpu"), jobs)
    finally:
        logging.getLogger("sweeper.training.lanes.trainer").disabled = False
    return any(
        report.state != other.state
        or not np.allclose(report.traces["train/loss"], other.traces["train/loss"], rtol=1e-9)
        or report.metrics != pytest.approx(other.metrics, rel=1e-9)
        for report, other in zip(stacked, alone, strict=True)
    )


# The data have no such symbol; and of models that differ in structure each would be a stack of its own.
CANNOT_GO_WRONG_HERE = ("padding that does not occur", "layers in a list")
LATE = {"a count of its own": 120, "Python's random": 120, "NumPy's random": 120}  # updates until it is seen
WRONG = [
    (name, mode)
    for name, trap in TRAPS.items()
    for mode in {None: ("forward", "grad"), "grad": ("forward",), "forward": ()}[trap.mode]
    if name not in CANNOT_GO_WRONG_HERE
]


@pytest.mark.parametrize(("name", "mode"), WRONG)
def test_without_the_probe_it_goes_wrong(name: str, mode: Mode) -> None:
    steps = LATE.get(name, STEPS)
    jobs = [job(lane, lr_S=np.full(steps, 0.05), report_steps=(steps,)) for lane in range(3)]
    task = task_of(name)
    assert goes_wrong(task, form_by_hand(task, mode), jobs)


@pytest.mark.parametrize("name", [name for name, trap in TRAPS.items() if trap.mode])
def test_with_its_form_it_goes_right(name: str) -> None:
    form = probed(task_of(name)).form
    assert form is not None
    assert not goes_wrong(task_of(name), form, [job(lane) for lane in range(3)])


def test_an_optimizer_without_rows_is_named() -> None:
    verdict = probe(task_of("dropout"), Recipe(OptimizerSpec("torch.optim.Adafactor"), BATCH), job(), device="cpu")
    assert verdict.form is None
    assert verdict.why.startswith(f"{ALONE}torch.optim.Adafactor has no rule for stacked rows")


def test_what_cannot_be_trained_at_all_says_its_error() -> None:
    verdict = probed(Supervised(data_of(False), lambda: Net(lambda net, h: h @ torch.zeros(5, 5))))
    assert verdict.form is None
    assert verdict.why.startswith(f"{ALONE}training failed (mat1 and mat2 shapes cannot be multiplied")


MODELS: dict[str, Callable[[float], Supervised]] = {
    "mlp": lambda p: Supervised(data_of(False), functools.partial(MLP, dropout=p)),
    "ngram": lambda p: Supervised(data_of(True), functools.partial(NGram, dropout=p)),
    "cnn 1-d": lambda p: Supervised(data_of(False), functools.partial(CNN, shape=(1, 6), dropout=p)),
    "cnn 2-d": lambda p: Supervised(data_of(False), functools.partial(CNN, shape=(1, 2, 3), dropout=p)),
    "resnet batch": lambda p: Supervised(data_of(False), functools.partial(ResNet, shape=(1, 6), width=4, dropout=p)),
    "resnet group": lambda p: Supervised(
        data_of(False), functools.partial(ResNet, shape=(1, 6), width=4, norm="group", dropout=p)
    ),
    "transformer": lambda p: Supervised(data_of(True), functools.partial(Transformer, dropout=p)),
}


@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_examples_take_the_faster_way(name: str, p: float) -> None:
    verdict = probed(MODELS[name](p))
    print(f"{name}, dropout {p}: {1000 * verdict.seconds:.0f} ms")
    assert verdict.form is not None
    assert verdict.form.mode == "forward"


# --- what the probe leaves behind -------------------------------------------------------------------


def everything_global() -> list[Any]:
    loggers = [logging.getLogger(f"sweeper.training.{name}") for name in ("sequential", "lanes.trainer", "lanes.probe")]
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state(legacy=False)["state"]["key"].tolist(),
        random.getstate(),
        (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
        (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        (list(warnings.filters), warnings.showwarning),
        [(logger.disabled, logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers],
    ]


@pytest.mark.parametrize("name", ["dropout", "torch.rand", "NumPy's random", "item", "weight_norm", "GRU"])
def test_nothing_global_is_changed(name: str) -> None:
    task, before = task_of(name), everything_global()
    probed(task)
    assert everything_global() == before


@pytest.mark.parametrize("name", ["weight_norm", "GRUCell", "max_norm"])
def test_vmaps_warnings_are_no_noise(name: str) -> None:
    task = task_of(name)
    with warnings.catch_warnings(record=True) as noise:
        warnings.simplefilter("always")
        form = probed(task).form
        assert form is not None
        trained(LaneTrainer(task, Recipe(SGD, BATCH), Stacking(form, width=2), device="cpu"), [job(0), job(1)])
        assert noise == []
        weight = torch.ones(2, 3, 3)
        torch.vmap(lambda w: torch._weight_norm(w, w[:, :1]))(weight)  # elsewhere it warns as before
        assert "performance drop" in str(noise[-1].message)


# --- the trainer that probes ------------------------------------------------------------------------


def chosen(middle: str = "tanh") -> Net:
    ways = {"tanh": plain, "relu": lambda net, h: h.relu(), "branch": lambda net, h: h if h.sum() > 0 else -h}
    return Net(ways[middle])


def test_each_structure_is_probed_for_itself() -> None:
    """A trial may choose its activation: the first one says nothing about the others."""
    task = Supervised(data_of(False), chosen)
    jobs = [job(lane, hparams={"model.middle": ("tanh", "relu", "branch")[lane % 3]}) for lane in range(6)]
    recipe = Recipe(SGD, BATCH, "float64")
    trainer = ProbedTrainer(task, recipe, width=2, device="cpu")
    found = trained(trainer, jobs)
    assert trainer.why == STACKED
    for report, other in zip(found, trained(SequentialTrainer(task, recipe, device="cpu"), jobs), strict=True):
        assert report.state == other.state == "complete"
        np.testing.assert_allclose(report.traces["train/loss"], other.traces["train/loss"], rtol=1e-9)
    assert trainer.capacity() == 2


def test_a_job_is_restored_by_its_structure(tmp_path: Any) -> None:
    task = Supervised(data_of(False), chosen)
    jobs = [
        job(lane, hparams={"model.middle": ("branch", "relu", "tanh")[lane]}, report_steps=(2, STEPS))
        for lane in range(3)
    ]
    trainers = [ProbedTrainer(task, Recipe(SGD, BATCH), width=2, device="cpu") for _ in range(2)]
    trained(trainers[0], jobs)
    trainers[0].save(tmp_path, 1)
    stands = trainers[1].restore(tmp_path, jobs[::-1], 1)  # whichever comes first
    assert stands == {each.id: 2 for each in jobs}
    ids = [each.id for each in jobs]
    for one, other in zip(*(sorted(trainer.advance(ids), key=lambda r: r.id) for trainer in trainers), strict=True):
        assert one.metrics == other.metrics


def test_a_model_that_cannot_be_built_fails_alone() -> None:
    trainer = ProbedTrainer(Supervised(data_of(False), chosen), Recipe(SGD, BATCH), device="cpu")
    logging.getLogger("sweeper.training.sequential").disabled = True
    try:
        bad, good = trained(trainer, [job(0, hparams={"model.middle": "sine"}), job(1)])
    finally:
        logging.getLogger("sweeper.training.sequential").disabled = False
    assert (bad.state, good.state) == ("failed", "complete")
    assert "sine" in bad.reason
