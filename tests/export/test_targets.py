"""The file of every target, run by the library itself: all families, from the first update and resumed in the middle.

The trials are those of a trained sweep. Expected values are the LRs that a trial of that length has.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sweeper.schedules import momentum_trace
from sweeper.types import InputError

from .conftest import CLOSED, HORIZON, NAMES, REACTIVE, STEPS, run

MIDDLE = 19  # updates before a run is resumed
TOLERANCE = 1e-12  # of the peak
EPS32 = 3e-6  # of the peak, in float32: powers and cosines of about ten rounded numbers
CYCLED = ("clr", "onecycle")


def expected(sweep, name, steps=HORIZON):
    lr_S = sweep.lr(f"{name}:0", steps=steps)
    return lr_S, float(sweep.params(f"{name}:0")["peak_lr"])


def exported(sweep, to, name, steps=HORIZON):
    return run(sweep.export(to, f"{name}:0", steps=steps))


def assert_lr(lr_S, sweep, name, tolerance=TOLERANCE):
    expected_S, peak = expected(sweep, name)
    np.testing.assert_allclose(lr_S, expected_S[-len(lr_S) :], rtol=0, atol=tolerance * peak)


def assert_momentum(momentum_S, sweep, name, tolerance=TOLERANCE):
    family, params = sweep.family_of(sweep.record(f"{name}:0")), sweep.params(f"{name}:0")
    np.testing.assert_allclose(momentum_S, momentum_trace(family, params, HORIZON), rtol=0, atol=tolerance)


def optimizer_of(peak, **options):
    """Return an optimizer with two parameter groups, the second of which has a tenth of the LR."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (peak, 0.1 * peak)]
    return torch.optim.SGD(groups, lr=peak, momentum=0.9, **options)


# --- without a library --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLOSED)
def test_python(name, sweep):
    names = exported(sweep, "python", name)
    assert_lr([names["lr"](step) for step in range(HORIZON)], sweep, name)
    assert ("momentum" in names) == (name in CYCLED)
    if name in CYCLED:
        assert_momentum([names["momentum"](step) for step in range(HORIZON)], sweep, name)


@pytest.mark.parametrize("name", NAMES)
def test_tables(name, sweep, tmp_path):
    steps = None if name in REACTIVE else HORIZON
    lr_S = sweep.lr(f"{name}:0", steps=steps)
    path = tmp_path / "lr.csv"
    sweep.export("csv", f"{name}:0", steps=steps, out=path)
    table, fact = pd.read_csv(path), json.loads(sweep.export("json", f"{name}:0", steps=steps))
    assert table["step"].tolist() == list(range(len(lr_S)))
    assert table["lr"].tolist() == fact["lr"] == lr_S.tolist()
    assert ("momentum" in table) == ("momentum" in fact) == (name in CYCLED)
    if name in CYCLED:
        assert table["momentum"].tolist() == fact["momentum"]
        assert max(fact["momentum"]) <= 0.95
    assert (fact["trial"], fact["steps"], fact["batch_size"]) == (f"{name}:0", steps or STEPS, 32)


@pytest.mark.parametrize("name", REACTIVE)
def test_a_reactive_schedule_is_a_table_of_the_lrs_that_were_used(name, sweep, check_form):
    names = run(sweep.export("python", f"{name}:0"))
    used_S = sweep.trace(f"{name}:0")["lr/group0"].dropna().tolist()
    assert len(used_S) == STEPS
    assert [names["lr"](step) for step in range(STEPS)] == used_S
    assert names["lr"](STEPS + 5) == used_S[-1]
    for target in ("torch", "lightning", "huggingface", "timm", "keras", "optax"):
        with pytest.raises(
            InputError, match=rf"^to={target}: {name}:0 is reactive, .* Use python, csv or json"
        ) as told:
            sweep.export(target, f"{name}:0")
        check_form(str(told.value))
    with pytest.raises(InputError, match=r"^steps=43: "):
        sweep.export("csv", f"{name}:0", steps=HORIZON)


# --- PyTorch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLOSED)
def test_torch(name, sweep):
    names, (_, peak) = exported(sweep, "torch", name), expected(sweep, name)

    def train(optimizer, scheduler, updates):
        lrs = []
        for _ in range(updates):
            lrs.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
        return np.array(lrs)

    optimizer = optimizer_of(peak)
    scheduler = names["scheduler"](optimizer)
    lr_SG = train(optimizer, scheduler, MIDDLE)
    states = optimizer.state_dict(), scheduler.state_dict()
    resumed = optimizer_of(peak)
    other = exported(sweep, "torch", name)["scheduler"](resumed)
    resumed.load_state_dict(states[0])
    other.load_state_dict(states[1])
    lr_SG = np.concatenate([lr_SG, train(resumed, other, HORIZON - MIDDLE)])
    assert_lr(lr_SG[:, 0], sweep, name)
    np.testing.assert_allclose(lr_SG[:, 1], 0.1 * lr_SG[:, 0], rtol=1e-12)


class Linear(nn.Module):
    """A model as transformers' Trainer takes it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x, labels):
        loss = ((self.layer(x) - labels) ** 2).mean()
        return {"loss": loss}


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4 * HORIZON

    def __getitem__(self, index):
        return {"x": torch.full((3,), float(index % 3)), "labels": torch.ones(1)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning, about a machine without accelerators, loggers and workers
@pytest.mark.parametrize("name", CLOSED)
def test_lightning(name, sweep, tmp_path, torchvision):
    import lightning

    names = exported(sweep, "lightning", name)

    class Module(lightning.LightningModule):
        configure_optimizers = names["configure_optimizers"]

        def __init__(self):
            super().__init__()
            self.model, self.lrs = Linear(), []

        def training_step(self, batch, _):
            self.lrs.append(self.optimizers().param_groups[0]["lr"])
            return self.model(**batch)["loss"]

    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    rows = torch.utils.data.DataLoader(Rows(), batch_size=4)
    first = Module()
    trainer = lightning.Trainer(max_steps=MIDDLE, enable_checkpointing=False, **options)
    trainer.fit(first, rows)
    trainer.save_checkpoint(tmp_path / "middle.ckpt")
    second = Module()
    trainer = lightning.Trainer(max_steps=HORIZON, enable_checkpointing=False, **options)
    trainer.fit(second, rows, ckpt_path=tmp_path / "middle.ckpt")
    assert (len(first.lrs), len(second.lrs)) == (MIDDLE, HORIZON - MIDDLE)
    assert_lr([*first.lrs, *second.lrs], sweep, name)
    optimizer = trainer.optimizers[0]
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["nesterov"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers, about pinned memory without an accelerator
@pytest.mark.parametrize("name", CLOSED)
def test_huggingface(name, sweep, tmp_path, torchvision):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    names, (_, peak) = exported(sweep, "huggingface", name), expected(sweep, name)
    lrs = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, optimizer=None, **others):
            lrs.append(optimizer.param_groups[0]["lr"])

        def on_step_end(self, args, state, control, **others):
            control.should_save = state.global_step == MIDDLE
            control.should_training_stop = stop and state.global_step == MIDDLE

    def trainer():
        model = Linear()
        options = {"save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True}
        arguments = TrainingArguments(
            str(tmp_path), **{**names["ARGUMENTS"], "per_device_train_batch_size": 4}, **options
        )
        passed = {}
        if "scheduler" in names:
            optimizer = torch.optim.SGD(model.parameters(), lr=peak)
            passed = {"optimizers": (optimizer, names["scheduler"](optimizer))}
        return Trainer(model, arguments, train_dataset=Rows(), callbacks=[Watch()], **passed)

    stop = True
    trainer().train()
    assert len(lrs) == MIDDLE
    stop = False
    trainer().train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{MIDDLE}"))
    assert len(lrs) == HORIZON
    assert_lr(lrs, sweep, name)
    assert names["ARGUMENTS"]["per_device_train_batch_size"] == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSED)
def test_timm(name, sweep, torchvision):
    names, (_, peak) = exported(sweep, "timm", name), expected(sweep, name)

    def train(optimizer, scheduler, start, stop):
        lrs = []
        for update in range(start, stop):
            lrs.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step_update(num_updates=update + 1)
        return lrs

    optimizer = optimizer_of(peak)
    scheduler = names["Schedule"](optimizer)
    lrs = train(optimizer, scheduler, 0, MIDDLE)
    states = optimizer.state_dict(), scheduler.state_dict()
    resumed = optimizer_of(peak)
    other = names["Schedule"](resumed)
    resumed.load_state_dict(states[0])
    other.load_state_dict(states[1])
    lr_SG = np.array([*lrs, *train(resumed, other, MIDDLE, HORIZON)])
    assert_lr(lr_SG[:, 0], sweep, name)
    np.testing.assert_allclose(lr_SG[:, 1], 0.1 * lr_SG[:, 0], rtol=1e-12)


# --- Keras and optax ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras, about NumPy
@pytest.mark.parametrize("name", CLOSED)
def test_keras(name, sweep):
    import keras

    names = exported(sweep, "keras", name)
    schedule = names["Schedule"]()
    lr_S = [float(schedule(step)) for step in range(HORIZON)]
    assert_lr(lr_S, sweep, name, EPS32)
    if name in CYCLED:
        assert_momentum([float(names["momentum"](step)) for step in range(HORIZON)], sweep, name, EPS32)

    def optimizer_at(step, optimizer):
        weight = keras.Variable(np.zeros(1), dtype="float32")
        optimizer.build([weight])
        optimizer.iterations.assign(step)
        return optimizer, weight

    saved = optimizer_at(MIDDLE, keras.optimizers.SGD(learning_rate=schedule))[0].get_config()
    resumed, weight = optimizer_at(MIDDLE, keras.optimizers.SGD.from_config(saved))
    for step in range(MIDDLE, HORIZON):
        before = weight.numpy().item()
        resumed.apply_gradients([(keras.ops.ones(1), weight)])
        used = before - weight.numpy().item()
        assert used == pytest.approx(lr_S[step], rel=1e-4, abs=1e-6)
        assert float(resumed.learning_rate) == pytest.approx(lr_S[min(step + 1, HORIZON - 1)], rel=1e-6)


TRACED = """
import json, sys
import jax, numpy as np
for text in json.load(sys.stdin):
    names = {"__name__": "schedule"}
    exec(text, names)
    lr = jax.jit(names["Schedule"]())
    print(json.dumps([float(lr(np.int32(step))) for step in range(HORIZON)]))
"""


@pytest.mark.slow
def test_keras_on_the_backend_of_jax_which_traces_the_schedule(sweep):
    texts = [sweep.export("keras", f"{name}:0", steps=HORIZON) for name in CLOSED]
    done = subprocess.run(
        [sys.executable, "-c", TRACED.replace("HORIZON", str(HORIZON))],
        input=json.dumps(texts),
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, line in zip(CLOSED, done.stdout.splitlines(), strict=True):
        assert_lr(json.loads(line), sweep, name, EPS32)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("name", CLOSED)
def test_optax(name, x64, sweep):
    import jax
    import optax

    with jax.enable_x64(x64):
        names = exported(sweep, "optax", name)
        lr = names["lr"]
        lr_S = jax.vmap(lr)(np.arange(HORIZON))
        assert lr_S.dtype == (np.float64 if x64 else np.float32)
        assert_lr(lr_S, sweep, name, TOLERANCE if x64 else EPS32)
        if not x64:
            return
        if name in CYCLED:
            assert_momentum(jax.vmap(names["momentum"])(np.arange(HORIZON)), sweep, name)
        optimizer = optax.sgd(learning_rate=lr)
        one = jax.numpy.ones(1, lr_S.dtype)
        update = jax.jit(optimizer.update)
        state, updates = optimizer.init(one), []
        for step in range(HORIZON):
            if step == MIDDLE:  # as restored from a checkpoint
                state = jax.tree.map(lambda leaf: jax.numpy.asarray(np.asarray(leaf)), state)
            change, state = update(one, state)
            updates.append(-float(change[0]))
        assert_lr(updates, sweep, name)
