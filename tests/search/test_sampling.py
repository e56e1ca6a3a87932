"""Samplers from the configuration: seeds, grids, and every way of naming one wrongly."""

import importlib.util
import itertools
from pathlib import Path

import optuna
import pytest
import yaml
from optuna import samplers
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import TrialState

from sweeper.importing import Target, parse_target
from sweeper.search.sampling import LARGEST_GRID, Sampling
from sweeper.search.space import axes
from sweeper.types import Choice, InputError, Range, seed_of

CONF = Path(__file__).parents[2] / "conf" / "search"
LOOSE = {"peak_lr": Range(1e-3, 1.0, log=True), "warmup": Choice((0, 0.1))}
STEPPED = {"peak_lr": Choice((0.1, 1.0)), "decay": Range(0.0, 1.0, step=0.25)}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def sampling(name, space=LOOSE, seed=0, family=None, **options):
    named = Target(f"optuna.samplers.{name}", options)
    return Sampling(named, axes(space, {key: f"schedule.cosine.{key}" for key in space}), seed, 20, 8, family)


def asked(sampling, *turn):
    """What a fresh study is proposed."""
    study = optuna.create_study(sampler=sampling.sampler_for_ask(*turn))
    return study.ask(fixed_distributions=dict(sampling.axes.distributions)).params


NAMES = ["TPESampler", "RandomSampler", "NSGAIISampler", "GPSampler", "QMCSampler"]


@pytest.mark.parametrize("name", NAMES)
def test_an_ask_depends_on_run_seed_and_turn_alone(name):
    options = {"scramble": True} if name == "QMCSampler" else {}
    made = sampling(name, **options)
    made.check()
    assert made.sampler_for_ask(0) is not made.sampler_for_ask(0)
    assert asked(made, 3) == asked(sampling(name, **options), 3)
    others = [asked(made, 4), asked(made, "queued", 3), asked(sampling(name, seed=1, **options), 3)]
    assert all(other["peak_lr"] != asked(made, 3)["peak_lr"] for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_an_earlier_version_keeps_its_own_seeds(name):
    made = sampling(name, family="cosine")
    assert isinstance(made.sampler_for_ask(0), getattr(samplers, name))
    assert asked(made, 3) == asked(sampling(name, family="cosine"), 3)
    others = [asked(made, 4), asked(sampling(name), 3), asked(sampling(name, family="wsd"), 3)]
    assert all(other["peak_lr"] != asked(made, 3)["peak_lr"] for other in others)


@pytest.mark.parametrize("name", ["TPESampler", "GPSampler", "CmaEsSampler", "RandomSampler", "QMCSampler"])
def test_families_share_their_draws_by_name(name):
    wider = {**LOOSE, "decay": Range(0.0, 1.0), "optimizer.weight_decay": Range(0.0, 0.1)}
    count = 8 if name not in ("RandomSampler", "QMCSampler") else 40
    few, many = ([asked(sampling(name, space), turn) for turn in range(count)] for space in (LOOSE, wider))
    assert few == [{key: point[key] for key in LOOSE} for point in many]
    assert len({point["peak_lr"] for point in few}) == count


@pytest.mark.parametrize(("n_trials", "shared"), [(1, 1), (2, 1), (3, 1), (10, 5), (15, 7), (16, 8), (500, 8)])
def test_half_of_a_short_search_is_shared(n_trials, shared):
    made = Sampling(Target("optuna.samplers.TPESampler", {}), axes(LOOSE, dict.fromkeys(LOOSE, "x")), 0, n_trials, 8)
    assert made.shared_draws == shared


@pytest.mark.parametrize(
    ("options", "concurrent", "startup"),
    [({}, 8, 8), ({}, 4, 4), ({}, 1, 1), ({"n_startup_trials": 3}, 8, 3), ({"n_startup_trials": 30}, 16, 8)],
)
def test_a_sampler_learns_as_soon_as_the_first_trials_end(options, concurrent, startup):
    space = axes(LOOSE, dict.fromkeys(LOOSE, "x"))
    made = Sampling(Target("optuna.samplers.TPESampler", options), space, 0, 20, concurrent)
    assert made.sampler_for_ask(9)._n_startup_trials == startup


def test_cma_es_keeps_its_own_start():
    space = axes(LOOSE, dict.fromkeys(LOOSE, "x"))
    made = Sampling(Target("optuna.samplers.CmaEsSampler", {}), space, 0, 20, 8)
    assert made.sampler_for_ask(9)._n_startup_trials == 1


@pytest.mark.parametrize("path", ["optuna.samplers.TPESampler", "sweeper.search.tpe.TPE"])
def test_tpe_proposes_as_optunas_own_does(path):
    """Though each ask has a new sampler, and these read the common space of the trials only once."""
    options = {"n_startup_trials": 4, "multivariate": True}
    made = Sampling(Target(path, options), axes(LOOSE, {key: key for key in LOOSE}), 0, 20, 8)
    study = optuna.create_study()
    for turn in range(8, 20):  # after the shared draws
        proposed = []
        for sampler in (made.sampler_for_ask(turn), samplers.TPESampler(seed=seed_of(0, turn), **options)):
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
    made = Sampling(parse_target(node), axes(STEPPED, dict.fromkeys(STEPPED, "x")), 0, 20, 8)
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
        Sampling(parse_target(node), axes(STEPPED, dict.fromkeys(STEPPED, "x")), 0, 20, 8).check()


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
    """Makes the sampler of one ask after another."""
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())["sampler"]
    made = Sampling(parse_target({**node, **changed}), axes(LOOSE, dict.fromkeys(LOOSE, "x")), 0, 20, 8)
    turns = itertools.count()
    return lambda: made.sampler_for_ask(next(turns))


@pytest.mark.slow
class TestTpe(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return as_configured("tpe", n_startup_trials=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "qmc", "cmaes"])
class TestOthers(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self, name):
        return as_configured(name)
