"""A library's own scheduler that an export names, run by the library against the LRs of the trial."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.export.natives import LIBRARIES, native
from sweeper.schedules import family, lr_trace, momentum_trace
from sweeper.schedules.families import FACTORS

STEPS = (2, 13, 48)
PEAK = 0.3
RAMPS = (0.0, 0.2)


def imported(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def optimizer_of(lr):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def stepped(optimizer, scheduler, steps, key="lr"):
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0][key])
        optimizer.step()
        scheduler.step()
    return values


def torch_trace(found, steps, key="lr"):
    optimizer = optimizer_of(PEAK)
    return stepped(optimizer, imported(found.path)(optimizer, **found.arguments), steps, key)


def transformers_trace(found, steps):
    """As Trainer makes it from its arguments."""
    from transformers.optimization import get_scheduler

    optimizer = optimizer_of(PEAK)
    options = found.arguments.get("lr_scheduler_kwargs", {})
    lengths = {"num_warmup_steps": 0, "num_training_steps": steps}
    kind = found.arguments["lr_scheduler_type"]
    return stepped(optimizer, get_scheduler(kind, optimizer, **lengths, scheduler_specific_kwargs=options), steps)


def timm_trace(found, steps):
    optimizer = optimizer_of(PEAK)
    scheduler, values = imported(found.path)(optimizer, **found.arguments), []
    for step in range(steps):
        scheduler.step_update(step)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def optax_trace(found, steps):
    import jax

    with jax.enable_x64(True):
        schedule = imported(found.path)(**found.arguments)
        lr_S = jax.vmap(schedule)(np.arange(steps, dtype=np.float64))
    assert lr_S.dtype == np.float64
    return lr_S


def keras_trace(found, steps):
    schedule = imported(found.path)(**found.arguments)
    return [float(schedule(step)) for step in range(steps)]


TRACES = {
    "torch": torch_trace,
    "transformers": transformers_trace,
    "timm": timm_trace,
    "optax": optax_trace,
    "keras": keras_trace,
}
NUMBERS = {
    "constant": [{}],
    "linear": [{}, {"decay": 0.1}],
    "cosine": [{}, {"decay": 0.1}],
    "polynomial": [{}, {"decay": 0.1, "power": 0.7}],
    "cosine_exponent": [{"exponent": 3.0}],
    "k_decay": [{"k": 0.5}, {"shape": "polynomial", "power": 2.0}],
    "tanh": [{}, {"decay": 0.1}],
    "inverse_time": [{}, {"floor": 0.2}],
    "power": [{}, {"exponent": 1.0}, {"decay": 1.0}],
    "exponential": [{}, {"floor": 0.2}],
    "step": [{}, {"cycle": 0.1}],
    "multistep": [{}, {"milestones": (0.5, 0.1, 0.5)}],
    "wsd": [{"decay": 0.1, "cooldown_shape": k} for k in ("linear", "cosine", "1-sqrt", "power", "exponential")],
    "power_wsd": [{"decay": 0.1}],
    "swa_tail": [{}, {"anneal": "linear"}],
    "sgdr": [{}, {"cycle_mult": 2.0}, {"decay": 0.5}, {"end_factor": 0.1}, {"cycle": 0.3, "cycle_fit": "free"}],
    "sawtooth": [{}, {"decay": 0.5}, {"cycle": 0.3, "cycle_mult": 2.0, "cycle_fit": "free"}],
    "clr": [{}, {"decay": 0.5}, {"decay": 0.3}, {"decay": 0.3, "scale_mode": "iterations"}, {"momentum": "cycled"}],
    "cosine_waves": [{}, {"cycle_fit": "free", "cycle": 0.3}],
    "onecycle": [{}, {"three_phase": True}, {"anneal": "linear"}, {"warmup": 0.01}, {"momentum": "cycled"}],
}  # fmt: skip
CLOSABLE = ("cosine", "linear", "polynomial", "exponential", "wsd", "power_wsd")
CASES = [
    (name, {**numbers, **({"end": end} if end else {})})
    for name, given in NUMBERS.items()
    for numbers in given
    for end in (("open", "closed") if name in CLOSABLE else (None,))
]


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps")  # transformers passes the first
@pytest.mark.parametrize(
    "library", [pytest.param(one, marks=[] if one == "torch" else pytest.mark.slow) for one in LIBRARIES]
)
def test_what_is_named_is_equal(library, request):
    if library in ("timm", "transformers"):
        request.getfixturevalue("torchvision")
    tolerance = 3e-6 if library == "keras" else 1e-12  # Keras computes in float32
    named = set()
    for name, numbers in CASES:
        for ramp in RAMPS:
            for steps in STEPS:
                warmup = {"warmup": ramp} if "warmup" not in numbers and name != "onecycle" and ramp else {}
                built = family(name, {"factor": name, "peak_lr": PEAK, **numbers, **warmup})
                params = {"peak_lr": PEAK, **{k: v for k, v in numbers.items() if k != "momentum"}, **warmup}
                found = native(library, built, params, steps, None)
                if found is None:
                    continue
                named.add((name, bool(warmup)))
                lr_S = TRACES[library](found, steps)
                case = f"{name} {params} {steps}: {found.call()}"
                np.testing.assert_allclose(
                    lr_S, lr_trace(built, params, steps), rtol=0, atol=tolerance * PEAK, err_msg=case
                )
                momentum_S = momentum_trace(built, params, steps)
                if momentum_S is not None:
                    np.testing.assert_allclose(torch_trace(found, steps, "momentum"), momentum_S, atol=1e-12)
    assert named == NAMED[library]


NAMED = {
    "torch": {
        *((name, False) for name in ("constant", "linear", "cosine", "polynomial", "exponential", "step", "multistep")),
        *((name, False) for name in ("sgdr", "clr", "onecycle", "swa_tail")),
        ("constant", True),
    },
    "transformers": {
        *((name, False) for name in ("constant", "linear", "polynomial", "cosine", "cosine_waves", "sgdr", "power")),
        ("wsd", False),
    },
    "timm": {
        (name, ramp)
        for name in (
            "linear",
            "polynomial",
            "cosine",
            "k_decay",
            "tanh",
            "step",
            "sgdr",
            "sawtooth",
            "wsd",
            "power_wsd",
        )
        for ramp in (False, True)
    },
    "optax": {
        *((name, ramp) for name in ("constant", "cosine", "cosine_exponent", "exponential", "step") for ramp in (0, 1)),
        *((name, False) for name in ("linear", "polynomial", "multistep")),
    },
    "keras": {
        *((name, False) for name in ("linear", "polynomial", "exponential", "inverse_time", "step", "multistep")),
        ("cosine", False),
        ("cosine", True),
    },
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_is_named_for_ramps_and_epochs_that_libraries_do_not_have(library):
    for name in FACTORS:
        built = family(name, {"factor": name, "peak_lr": PEAK})
        assert native(library, built, {"peak_lr": PEAK}, 50, 10.0) is None, name
        if built.warmup == "none":
            for other in ({"warmup_shape": "cosine"}, {"warmup_join": "product"}, {"warmup_join": "overlay"}):
                warm = family(name, {"factor": name, "peak_lr": PEAK, "warmup": 0.2, **other})
                assert native(library, warm, {"peak_lr": PEAK, "warmup": 0.2, **other}, 50, None) is None, (name, other)


def test_the_call_as_it_is_written():
    built = family("cosine", {"factor": "cosine", "peak_lr": 0.5, "decay": 0.1})
    found = native("torch", built, {"peak_lr": 0.5}, 50, None)
    assert found.call("optimizer") == "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.05)"
