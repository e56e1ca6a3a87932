"""Samplers from the configuration: seeds, grids, and every way of naming one wrongly."""

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna import samplers
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import TrialState

from sweeper.importing import Target, parse_target
from sweeper.search.first_draws import COUNT, SharedSampler
from sweeper.search.sampling import LARGEST_GRID, Sampling
from sweeper.search.space import axes
from sweeper.types import Choice, InputError, Range, seed_of

CONF = Path(__file__).parents[2] / "conf" / "search"
LOOSE = {"peak_lr": Range(1e-3, 1.0, log=True), "warmup": Choice((0, 0.1))}
STEPPED = {"peak_lr": Choice((0.1, 1.0)), "decay": Range(0.0, 1.0, step=0.25)}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def sampling(name, space=LOOSE, seed=0, **options):
    named = Target(f"optuna.samplers.{name}", options)
    return Sampling(named, axes(space, {key: f"schedule.cosine.{key}" for key in space}), seed)


def proposed(sampling, sampler):
    """What a sampler proposes to a fresh study."""
    study = optuna.create_study(sampler=sampler)
    return study.ask(fixed_distributions=dict(sampling.axes.distributions)).params


def asked(sampling, number):
    """What a fresh study is proposed."""
    return proposed(sampling, sampling.sampler_for_ask(number))


def is_new(sampling, number):
    """Whether a fresh study is proposed another point for what is queued, and with another seed."""
    others = [proposed(sampling, sampling.sampler_for_queued(number)), asked(replace(sampling, run_seed=1), number)]
    return all(other["peak_lr"] != asked(sampling, number)["peak_lr"] for other in others)


NAMES = ["TPESampler", "RandomSampler", "NSGAIISampler", "GPSampler", "QMCSampler"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [3, 11])
def test_an_ask_depends_on_the_seed_and_its_number_alone(name, number):
    options = {"scramble": True} if name == "QMCSampler" else {}
    made = sampling(name, **options)
    made.check()
    assert made.sampler_for_ask(number) is not made.sampler_for_ask(number)
    assert asked(made, number) == asked(sampling(name, **options), number)
    assert is_new(made, number)
    assert asked(made, number + 1)["peak_lr"] != asked(made, number)["peak_lr"]


@pytest.mark.parametrize("name", [*NAMES, "CmaEsSampler"])
def test_of_an_earlier_version_an_ask_depends_on_the_family_too(name):
    made, other = sampling(name).as_earlier("cosine"), sampling(name).as_earlier("wsd")
    assert type(made.sampler_for_ask(0)) is getattr(samplers, name)
    assert asked(made, 3) == asked(sampling(name).as_earlier("cosine"), 3) != asked(other, 3)
    assert is_new(made, 3)


# --- what families share ----------------------------------------------------------------------------

WIDER = {**LOOSE, "alpha": Range(0.0, 1.0), "cycle": Range(0.1, 0.5), "optimizer.weight_decay": Range(0.0, 1.0)}
SHARED = {  # points of two families that have only some hyperparameters in common, by sampler
    "TPESampler": range(COUNT),
    "GPSampler": range(COUNT),
    "CmaEsSampler": range(COUNT),
    "RandomSampler": range(20),
    "QMCSampler": range(20),
}


@pytest.mark.parametrize("name", SHARED)
def test_hyperparameters_of_the_same_name_have_the_same_values_in_the_shared_points(name):
    few, many = sampling(name), sampling(name, WIDER)
    points = [(asked(few, number), asked(many, number)) for number in SHARED[name]]
    assert all(one == {key: other[key] for key in LOOSE} for one, other in points)
    assert len({one["peak_lr"] for one, _ in points}) == len(points)


@pytest.mark.parametrize("name", ["TPESampler", "GPSampler", "CmaEsSampler"])
def test_after_its_shared_points_a_model_decides(name):
    assert isinstance(sampling(name).sampler_for_ask(COUNT - 1), SharedSampler)
    assert type(sampling(name).sampler_for_ask(COUNT)) is getattr(samplers, name)
    assert type(replace(sampling(name), n_shared=3).sampler_for_ask(3)) is getattr(samplers, name)


class Own(samplers.TPESampler):
    """A sampler of the user's own."""


@pytest.mark.parametrize("path", [f"{__name__}.Own", "optuna.samplers.NSGAIISampler"])
def test_a_sampler_of_another_kind_proposes_every_point(path):
    made = Sampling(Target(path), axes(LOOSE, {key: key for key in LOOSE}), 0)
    assert not isinstance(made.sampler_for_ask(0), SharedSampler)


@pytest.mark.parametrize("options", [{}, {"scramble": True}, {"qmc_type": "halton"}, {"scramble": False}])
def test_quasi_random_points_are_those_of_the_sequence(options):
    made = sampling("QMCSampler", {"peak_lr": Range(0.0, 1.0)}, **options)
    values = [asked(made, number)["peak_lr"] for number in range(16)]
    assert len(values) == len(set(values))
    cells = 2 ** np.arange(1, 5)  # the first coordinate of both sequences has a point in each half, quarter, ...
    assert all(len({int(value * cell) for value in values[:cell]}) == cell for cell in cells)


@pytest.mark.parametrize(
    ("given", "open", "used"), [(8, 8, 8), (8, 3, 3), (20, 16, 8), (2, 8, 2), (0, 8, 0), (None, 8, 8), (None, 1, 1)]
)
@pytest.mark.parametrize("name", ["TPESampler", "GPSampler"])
def test_a_model_waits_for_no_more_trials_than_are_open(name, given, open, used):
    options = {} if given is None else {"n_startup_trials": given}
    made = replace(sampling(name, **options), n_random=min(COUNT, open))
    assert made.sampler_for_ask(COUNT)._n_startup_trials == used  # private: Optuna has no other way to see it


@pytest.mark.parametrize("path", ["sweeper.search.tpe.TPE", "optuna.samplers.TPESampler", "optuna.samplers.GPSampler"])
def test_an_earlier_study_of_the_default_waits_for_ten_trials(path):
    made = Sampling(Target(path, {"n_startup_trials": COUNT}), axes(LOOSE, {key: key for key in LOOSE}), 0)
    assert made.as_earlier("cosine").sampler_for_ask(0)._n_startup_trials == 10


@pytest.mark.parametrize("path", ["optuna.samplers.TPESampler", "sweeper.search.tpe.TPE"])
def test_tpe_proposes_as_optunas_own_does(path):
    """Though each ask has a new sampler, and these read the common space of the trials only once."""
    options = {"n_startup_trials": 4, "multivariate": True}
    made = Sampling(Target(path, options), axes(LOOSE, {key: key for key in LOOSE}), 0, n_shared=0)
    study = optuna.create_study()
    for turn in range(12):
        proposed = []
        for sampler in (made.sampler_for_ask(turn), samplers.TPESampler(seed=seed_of(0, "sampler", turn), **options)):
            study.sampler = sampler
            trial = study.ask(fixed_distributions=dict(made.axes.distributions))
            proposed.append(trial.params)
            study.tell(trial, state=TrialState.FAIL)
        assert proposed[0] == proposed[1]
        added = optuna.trial.create_trial(
            value=abs(proposed[0]["peak_lr"] - 0.1), params=proposed[0], distributions=trial.distributions
        )
        study.add_trial(added)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_every_configured_sampler_can_be_made(name):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())["sampler"]
    made = Sampling(parse_target(node), axes(STEPPED, dict.fromkeys(STEPPED, "x")), 0)
    made.check()
    assert asked(made, 0).keys() == STEPPED.keys()


def test_options_reach_the_sampler():
    with pytest.raises(InputError, match=r"search\.sampler=TPESampler: .*group"):
        sampling("TPESampler", group=True, multivariate=False).check()
    sampling("TPESampler", group=True, n_startup_trials=3).check()  # experimental, and so wanted: no warning


def test_a_sampler_within_a_sampler_is_seeded_too():
    inner = {"_target_": "optuna.samplers.RandomSampler"}
    made = sampling("PartialFixedSampler", fixed_params={"warmup": 0.1}, base_sampler=inner)
    made.check()
    assert asked(made, 1) == asked(made, 1) != asked(made, 2)
    assert asked(made, 1)["warmup"] == 0.1
    with pytest.raises(InputError, match=r"search\.sampler\.base_sampler\.seed=1: follows from search\.seed"):
        sampling("PartialFixedSampler", fixed_params={}, base_sampler={**inner, "seed": 1}).check()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "optuna.samplers.TPE"}, r"search\.sampler\._target_=optuna\.samplers\.TPE: not found"),
        ({"_target_": "no.such.Sampler"}, r"search\.sampler\._target_=no\.such\.Sampler: not found"),
        ({"_target_": "TPESampler"}, r"_target_=TPESampler: not an import path"),
        ({}, r"_target_: not an import path"),
        ({"_target_": "optuna.pruners.NopPruner"}, r"_target_=optuna\.pruners\.NopPruner: not a BaseSampler"),
        ({"_target_": "optuna.create_study"}, r"_target_=optuna\.create_study: not a BaseSampler"),
        (
            {"_target_": "optuna.samplers.TPESampler", "n_startup_trial": 3},
            r"search\.sampler\.n_startup_trial=3: no such option of TPESampler\. Did you mean n_startup_trials\?",
        ),
        (
            {"_target_": "optuna.samplers.RandomSampler", "wild": True},
            r"search\.sampler\.wild=true: no such option of RandomSampler\. Choose one of seed",
        ),
        (
            {"_target_": "optuna.samplers.TPESampler", "seed": 3},
            r"search\.sampler\.seed=3: follows from search\.seed\. Drop it",
        ),
        (
            {"_target_": "optuna.samplers.GridSampler", "search_space": {}},
            r"search\.sampler\.search_space=\{\}: follows from the family's hyperparameters",
        ),
        (
            {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "grid"},
            r"search\.sampler=QMCSampler: .*Choose either",
        ),
    ],
)
def test_what_cannot_be_a_sampler_is_named(node, message):
    with pytest.raises(InputError, match=message):
        Sampling(parse_target(node), axes(STEPPED, dict.fromkeys(STEPPED, "x")), 0).check()


def test_a_grid_needs_points_everywhere_and_not_too_many():
    with pytest.raises(InputError, match=r"schedule\.cosine\.peak_lr: a grid needs a list of values"):
        sampling("GridSampler", LOOSE).check()
    large = {name: Range(1, 100) for name in "abc"}
    with pytest.raises(InputError, match=f"the grid has 1,000,000 points. Use at most {LARGEST_GRID:,}"):
        sampling("GridSampler", large).check()
    assert sampling("GridSampler", STEPPED).point_count == 10
    assert sampling("BruteForceSampler", STEPPED).point_count == 10
    assert sampling("TPESampler", STEPPED).point_count is None


def test_grid_and_quasi_random_points_keep_one_order_with_the_seed():
    made = sampling("GridSampler", STEPPED)
    study = optuna.create_study()
    points = []
    for turn in range(10):
        study.sampler = made.sampler_for_ask(turn)
        points.append(study.ask(dict(made.axes.distributions)).params)
    assert len({tuple(point.values()) for point in points}) == 10


def test_learning_of_an_end_never_stops_the_study():
    for name in ("GridSampler", "BruteForceSampler"):
        made = sampling(name, {"peak_lr": Choice((0.1, 1.0))})
        study = optuna.create_study()
        for turn in range(2):
            study.sampler = made.sampler_for_ask(turn)
            trial = study.ask(dict(made.axes.distributions))
            study.sampler = made.sampler_for_tell(trial.number)
            study.tell(trial, 1.0)
        assert len({trial.params["peak_lr"] for trial in study.trials}) == 2


def test_with_nothing_searched_any_sampler_will_do():
    made = sampling("GridSampler", {"peak_lr": 0.1})
    made.check()
    assert asked(made, 0) == {}


def test_cma_es_without_its_package_is_said_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install cmaes"):
        sampling("CmaEsSampler").check()


# --- Optuna's own contract, of the samplers as configured and as we make them ------------------------


def as_configured(name, **changed):
    """Makes the sampler of one ask after another, without the points of our own that a model begins with."""
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())["sampler"]
    made = Sampling(parse_target({**node, **changed}), axes(LOOSE, dict.fromkeys(LOOSE, "x")), 0, n_shared=0)
    turns = itertools.count()
    return lambda: made.sampler_for_ask(next(turns))


@pytest.mark.slow
class TestTpe(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return as_configured("tpe", n_startup_trials=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "cmaes"])
class TestOthers(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self, name):
        return as_configured(name)
