"""From a trial's hyperparameters to its LR trace: properties of every factor, rounding, warmups, golden rows."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, ExponentialLR, LinearLR, SequentialLR

from sweeper.schedules import FACTORS, family, lr_trace, lr_traces, momentum_trace
from sweeper.schedules.clock import epochs
from sweeper.schedules.families import default_family, parameters_of
from sweeper.schedules.numbers import Parameter
from sweeper.types import InputError

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


def values(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a parameter: its bounds if they are included, and round numbers."""
    if parameter.kind == "word":
        return st.sampled_from(parameter.options)
    bounds = parameter.bounds
    low = -5.0 if math.isinf(bounds.low) else bounds.low
    high = low + 5.0 if math.isinf(bounds.high) else bounds.high
    margin = 1e-3 * (high - low)
    round_numbers = [value for value in (0.0, 0.25, 0.5, 1.0, 2.0, 3.0) if bounds.contains(value)]
    number = st.floats(low + margin * bounds.open_low, high - margin * bounds.open_high)
    number = number | st.sampled_from(round_numbers or [bounds.high])
    if parameter.kind == "list":
        return st.lists(number, min_size=1, max_size=4).map(tuple)
    return number


def trials(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({p.name: values(p) for p in parameters_of(default_family(name)).values()})


@pytest.mark.parametrize("name", FACTORS)
@settings(max_examples=25)
@given(data=st.data(), steps=st.sampled_from([1, 2, 3, 5, 17, 64, 150]))
def test_many_traces_equal_single_ones_and_lie_between_zero_and_the_peak(name: str, data: Any, steps: int) -> None:
    rows = data.draw(st.lists(trials(name), min_size=1, max_size=6))
    lr_LS = lr_traces(name, rows, steps)
    assert lr_LS.shape == (len(rows), steps)
    assert lr_LS.dtype == np.float64
    for lr_S, row in zip(lr_LS, rows, strict=True):
        assert np.isfinite(lr_S).all()
        assert lr_S.min() >= 0
        assert lr_S.max() <= row["peak_lr"]
        np.testing.assert_array_equal(lr_S, lr_trace(name, row, steps))


def test_many_mixed_traces_equal_single_ones() -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {
            "peak_lr": 10 ** rng.uniform(-4, 0),
            "warmup": float(rng.choice([0, 0.02, 0.05, 0.1, 0.2])),
            "cycle": 10 ** rng.uniform(-2, 0.2),
            "cycle_mult": float(rng.choice([1, 1.5, 2, 3])),
            "decay": rng.uniform(0.3, 1),
            "cycle_fit": str(rng.choice(["free", "fitted"])),
        }
        for _ in range(257)
    ]
    singles = np.stack([lr_trace("sgdr", row, 300) for row in rows])
    np.testing.assert_array_equal(lr_traces("sgdr", rows, 300), singles)


STARTS_LOW = {"clr", "stlr", "range_test", "tanh", "cycle_warmup_cosine"}  # g[0] < 1 at any length


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.01, 0.5, 0.999])
def test_the_shortest_runs_train(name: str, steps: int, warmup: float) -> None:
    """Also with a warmup of no update, one, or all but one."""
    lr_S = lr_trace(name, {"peak_lr": 0.5, "warmup": warmup}, steps)
    assert lr_S.shape == (steps,)
    assert np.isfinite(lr_S).all()
    assert lr_S[0] > 0 or name == "cycle_warmup_cosine"  # its cycles start at the floor
    assert lr_S.max() <= 0.5
    if steps == 1 and name not in STARTS_LOW:
        assert lr_S[0] == 0.5


def test_no_trials_have_no_traces() -> None:
    assert lr_traces("cosine", [], 7).shape == (0, 7)


@pytest.mark.parametrize(
    ("fraction", "steps", "rounded"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.58, 200, 116),
        (1e-9, 100, 1),
        (0.0, 100, 0),
        (0.125, 100, 13),
        (0.999, 100, 99),
        (0.999, 2, 1),
        (0.999, 1, 0),
    ],
)
def test_a_warmup_is_rounded_to_updates_and_leaves_one(fraction: float, steps: int, rounded: int) -> None:
    lr_S = lr_trace("constant", {"peak_lr": 1.0, "warmup": fraction}, steps)
    assert np.count_nonzero(lr_S < 1.0) == rounded


def test_a_warmup_rises_in_equal_steps_and_is_never_zero() -> None:
    lr_S = lr_trace("constant", {"peak_lr": 5.0, "warmup": 0.4}, 10)
    np.testing.assert_allclose(lr_S, [1, 2, 3, 4, 5, 5, 5, 5, 5, 5], rtol=1e-15)


@pytest.mark.parametrize("steps", [20, 100])
def test_an_overlaid_warmup_hides_the_beginning_of_the_curve_as_in_timm(steps: int, timm_lr: Any) -> None:
    numbers: dict[str, Any] = {"peak_lr": 2.0, "warmup": 0.2, "warmup_join": "overlay", "decay": 0.1}
    warmup_steps = steps // 5
    timm = {"t_initial": steps, "lr_min": 0.2, "warmup_t": warmup_steps, "warmup_lr_init": 2.0 / (warmup_steps + 1)}
    expected_S = timm_lr("CosineLRScheduler", 2.0, steps, **timm, warmup_prefix=False)
    np.testing.assert_allclose(lr_trace("cosine", numbers, steps), expected_S, rtol=0, atol=2e-12)


def test_a_multiplied_warmup_is_torchs_chain(torch_lr: Any) -> None:
    def build(o: torch.optim.Optimizer) -> ChainedScheduler:
        return ChainedScheduler([LinearLR(o, 1 / 11, 1.0, 10), ExponentialLR(o, 0.1 ** (1 / 50))])

    numbers: dict[str, Any] = {"peak_lr": 2.0, "warmup": 0.2, "warmup_join": "product", "decay": 0.1}
    expected_S = torch_lr([(0, build)], 2.0, 50)
    np.testing.assert_allclose(lr_trace("exponential", numbers, 50), expected_S, rtol=0, atol=2e-12)


def test_a_factor_runs_on_the_updates_after_the_warmup() -> None:
    cold_S = lr_trace("cosine", {"peak_lr": 1.0, "decay": 0.1}, 80)
    warm_S = lr_trace("cosine", {"peak_lr": 1.0, "decay": 0.1, "warmup": 0.2}, 100)
    np.testing.assert_array_equal(warm_S[20:], cold_S)


# --- schedules by epoch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 7, 25, 100])
def test_a_schedule_by_epochs_is_torchs_stepped_once_an_epoch(epoch: int) -> None:
    """Ten epochs, of which the last is incomplete: two of warmup, then a cosine over eight."""
    steps = 9 * epoch + 1
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    ramp = LinearLR(optimizer, 1 / 3, 1.0, 2)
    scheduler = SequentialLR(optimizer, [ramp, CosineAnnealingLR(optimizer, 8, 0.05)], [2])
    expected_S = []
    for update in range(steps):
        if update and update % epoch == 0:
            scheduler.step()
        expected_S.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    lr_S = lr_trace("cosine", {"peak_lr": 0.5, "warmup": 0.2, "decay": 0.1}, steps, epoch=epoch)
    np.testing.assert_allclose(lr_S, expected_S, rtol=0, atol=1e-12 * 0.5)


@given(examples=st.integers(1, 10**7), batch_size=st.integers(1, 4096), steps=st.integers(1, 3000))
def test_an_update_belongs_to_the_epoch_of_its_first_example(examples: int, batch_size: int, steps: int) -> None:
    expected_S = [update * batch_size // examples for update in range(steps)]
    assert epochs(steps, examples / batch_size).tolist() == expected_S


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_holds_its_lr_through_an_epoch(name: str) -> None:
    params: dict[str, Any] = {"peak_lr": 0.5, "warmup": 0.2}
    by_epochs_E = lr_trace(name, params, 12)
    lr_S = lr_trace(name, params, 110, epoch=9.5)  # updates 0-9, 10-18, 19-28, ...; the twelfth from 105 on
    np.testing.assert_array_equal(lr_S, by_epochs_E[epochs(110, 9.5)])
    assert [np.count_nonzero(epochs(110, 9.5) == e) for e in range(12)] == [10, 9] * 5 + [10, 5]
    np.testing.assert_array_equal(lr_traces(name, [params] * 2, 110, epoch=9.5), np.stack([lr_S] * 2))


@pytest.mark.parametrize("epoch", [0, -1.0, math.inf, math.nan, "7", True])
def test_an_epoch_is_a_number_of_updates(epoch: Any) -> None:
    with pytest.raises(InputError, match="epoch"):
        lr_trace("cosine", {"peak_lr": 1.0}, 10, epoch=epoch)


def test_a_family_fixes_what_it_does_not_search_and_a_trial_may_say_otherwise() -> None:
    own = family("mine", {"factor": "linear", "peak_lr": {"low": 0.1, "high": 1}, "decay": 0.5})
    assert lr_trace(own, {"peak_lr": 1.0}, 2).tolist() == [1.0, 0.75]
    assert lr_trace(own, {"peak_lr": 1.0, "decay": 0.0}, 2).tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("cosin", {"peak_lr": 1.0}, "family=cosin: no such name. Did you mean cosine?"),
        (
            "cosine",
            {"peak_lr": 1.0, "decai": 0.1},
            "schedule.cosine.decai: no such hyperparameter. Did you mean decay?",
        ),
        ("cosine", {}, "schedule.cosine.peak_lr: missing. Give peak_lr in params"),
        ("cosine", {"peak_lr": "0.1"}, "schedule.cosine.peak_lr=0.1: text instead of a number"),
        ("cosine", {"peak_lr": True}, "schedule.cosine.peak_lr=true: not a number"),
        ("cosine", {"peak_lr": 0.0}, "schedule.cosine.peak_lr=0.0: out of bounds. Write a number above 0"),
        ("cosine", {"peak_lr": float("nan")}, "schedule.cosine.peak_lr=nan: not a finite number"),
        ("cosine", {"peak_lr": 1.0, "warmup": 1.0}, "Write a number at least 0 and below 1"),
        ("exponential", {"peak_lr": 1.0, "decay": 0}, "Write a number above 0 and at most 1"),
        ("wsd", {"peak_lr": 1.0, "cooldown_shape": "linar"}, "Did you mean linear?"),
        ("onecycle", {"peak_lr": 1.0, "three_phase": 1}, "Choose one of false, true"),
    ],
)
def test_a_wrong_number_is_named_with_the_way_out(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        lr_trace(name, params, 10)
    assert message in str(error.value)


@pytest.mark.parametrize("steps", [0, -1, 2.5, True])
def test_a_run_has_at_least_one_update(steps: Any) -> None:
    with pytest.raises(InputError, match="at least 1"):
        lr_trace("cosine", {"peak_lr": 1.0}, steps)


def test_a_searched_number_needs_a_value() -> None:
    own = family("mine", {"factor": "linear", "peak_lr": {"low": 0.1, "high": 1}})
    with pytest.raises(InputError, match=r"schedule\.mine\.peak_lr: searched"):
        lr_trace(own, {}, 10)


def test_the_momentum_is_constant_unless_asked_for() -> None:
    assert momentum_trace("onecycle", {"peak_lr": 1.0}, 10) is None
    own = family("onecycle", {"factor": "onecycle", "peak_lr": 1.0, "momentum": "constant"})
    assert momentum_trace(own, {}, 10) is None


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["family"])
def test_golden_rows(row: dict[str, Any]) -> None:
    """Compare with stored traces. Any change shows in the diff of golden.json."""
    lr_S = lr_trace(row["family"], row["params"], len(row["lr_S"]))
    np.testing.assert_allclose(lr_S, row["lr_S"], rtol=1e-14, atol=1e-17)


def test_every_factor_has_a_golden_row() -> None:
    assert {row["family"] for row in GOLDEN} == set(FACTORS)
