"""New whole searches of a sweep: what they repeat, what they cost, and the verdict that they lead to."""

import json
import shutil
from dataclasses import replace

import pytest

import sweeper as package
from sweeper.results.stored import StoredSweep
from sweeper.run import searching, sweeping
from sweeper.run.confirm_spec import parse_confirm
from sweeper.run.restoring import restore_search
from sweeper.spec.question import find, homes
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.types import InputError, seed_of

FAMILIES = ["constant", "cosine", "default_lr", "linear"]
START = {"cosine": [{"peak_lr": 0.2, "decay": 0.1}]}


def search(root, families=FAMILIES, **changes):
    """A search on the quadratic whose expected losses need no training."""
    options = {
        "n_trials": 6,
        "search": {"start": START, "stop": 4},
        "trainer": {"expected": {"spread": 0.1, "own_spread": 0.05}},
        "tracking": "none",
    }
    task = Supervised(Quadratic(), Point)
    return package.sweep(task, families, experiment="quadratic", root=root, **{**options, **changes})


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return search(tmp_path_factory.mktemp("searched"))


def copy_of(sweep, root):
    shutil.copytree(sweep.home.path, root / sweep.name)
    copied = package.load(root / sweep.name)
    copied._subject = sweep._subject
    return copied


def planned(sweep, **options):
    return searching.plan(sweep, parse_confirm({"searches": 8, **options}))


def trained(sweep):
    """What must be equal of two searches."""
    return [
        (one.study, one.number, one.state, one.params, one.value, one.intermediate, one.seeds) for one in sweep.records
    ]


def test_a_search_with_the_same_seed_is_the_same_search(searched, tmp_path):
    """Samplers, pruners, start points, limits and trials are restored: only then are all values equal."""
    (spec,) = restore_search(searched, searched._subject)
    stored = searching._prepared(spec, planned(searched), planned(searched).cost())
    again = StoredSweep(sweeping.sweep(replace(stored, given_name="again"), root=tmp_path).home)
    assert trained(again) == trained(searched)
    assert again.config["question"] == searched.config["question"]
    assert again.config["studies"] == searched.config["studies"]
    assert again.stopped == searched.stopped
    assert again.config["trainer"] == searched.config["trainer"]


def test_searches_have_seeds_of_their_own(searched):
    run_seed = searched.config["question"]["search"]["seed"]
    seeds = planned(searched).seeds
    assert list(seeds) == [seed_of(run_seed, "confirm", 0, "search", place) for place in range(1, 9)]
    assert planned(searched, searches=9).seeds[:8] == seeds
    assert not set(planned(searched, seed=1).seeds) & {*seeds, run_seed}


def test_what_they_cost(searched):
    cost = planned(searched).cost()
    assert (cost.searches, cost.trials, cost.trainings) == (8, 19, 152)


def test_several_studies_of_a_family_are_all_searched(searched, tmp_path):
    sweep = copy_of(searched, tmp_path)
    search(tmp_path, {"cosine": {"decay": 0.0}}, name=None, search={})
    sweep.refresh()
    specs = restore_search(sweep, sweep._subject)
    assert [[study.family.name for study in spec.studies] for spec in specs] == [FAMILIES, ["cosine"]]
    assert {study.name for spec in specs for study in spec.studies} == set(sweep.config["studies"])
    assert planned(sweep).of_families == {"constant": 6, "cosine": 12, "default_lr": 1, "linear": 6}


def test_a_study_that_a_wider_one_took_over_is_not_searched(searched, tmp_path):
    sweep = copy_of(searched, tmp_path)
    search(tmp_path, {"linear": {"decay": {"low": 1e-4, "high": 0.5, "log": True}}}, search={"extend": True})
    sweep.refresh()
    assert len(sweep.config["studies"]) == 5
    (spec,) = restore_search(sweep, sweep._subject)
    assert [study.family.name for study in spec.studies] == FAMILIES
    assert not any(study.extends for study in spec.studies)
    assert planned(sweep).of_families["linear"] == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"searches": 7}, "confirm.searches=7: not a whole number of at least 8"),
        ({"searches": 8.5}, "confirm.searches=8.5: not a whole number"),
        ({"searches": 8, "yes": 1}, "confirm.yes=1: neither true nor false"),
        *(
            ({"searches": 8, key: value}, f"confirm.{key}: new searches train whole sweeps, without this option")
            for key, value in {
                "top": 2,
                "choose": 1,
                "looks": [8],
                "families": 2,
                "budget": 1,
                "vary": {"train.steps": ["x2"]},
            }.items()
        ),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError) as error:
        parse_confirm(options)
    assert str(error.value).startswith(message)


def test_nothing_is_trained_before_the_cost_is_agreed_to(searched, tmp_path, capsys):
    sweep = copy_of(searched, tmp_path)
    before = {path: path.read_bytes() for path in sweep.home.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"confirm\.searches=8: 152 trainings, about .*\. Add confirm\.yes=true"):
        sweep.confirm(searches=8)
    sweep.confirm(searches=8, yes=True, dry=True)
    assert "New searches: 8 of 19 trials each, 152 trainings at most" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in sweep.home.path.rglob("*") if path.is_file()} == before
    assert sweep.family_verdict is None


@pytest.mark.slow
def test_new_searches_lead_to_a_verdict_on_families(searched, tmp_path, capsys):
    """From beginning to end, resumed after an interruption, shown, and refused with other settings."""
    sweep = copy_of(searched, tmp_path).confirm(searches=8, yes=True)
    verdict, path = sweep.family_verdict, sweep.home.path / "confirm-families.json"
    assert json.loads(path.read_text()) == verdict
    assert (verdict["schema"], verdict["level"], verdict["ended_by"] != "interrupted") == (1, "family", True)
    assert {row["family"] for row in verdict["configurations"]} == {"constant", "cosine", "linear"}
    assert verdict["trials"] == {"constant": 6, "cosine": 6, "default_lr": 1, "linear": 6}
    for place, seed in enumerate(verdict["seeds"]["search"], 1):
        new = package.load(sweep.home.path / "searches" / str(place))
        assert new.config["question"]["search"]["seed"] == seed
        assert {one.seeds for one in new.records} == {(seed_of(seed, "member", 0),)}
        for family in ("constant", "cosine", "linear"):
            values = [one.value for one in new.records if one.family == family and one.state == "complete"]
            (row,) = [row for row in verdict["values"] if (row["family"], row["seed"]) == (family, seed)]
            assert row["value"] == min(values)

    assert [home.name for home in homes(tmp_path)] == [sweep.name], "they are no sweeps of the user's list"
    assert find(tmp_path, None) == sweep.home
    assert sweep.verdict is None
    package.load(sweep.home.path)._repr_html_()

    from sweeper.views import conclusion

    conclusion.print_all(sweep)
    assert verdict["sentence"] in " ".join(capsys.readouterr().out.split())
    conclusion.print_json(sweep)
    assert json.loads(capsys.readouterr().out)["family_verdict"] == verdict

    before = path.read_bytes()
    sweep.confirm(searches=8)
    assert path.read_bytes() == before, "nothing is left to train, so nothing has to be agreed to"

    shutil.rmtree(sweep.home.path / "searches" / "8")
    interrupted = planned(sweep).verdict()
    assert interrupted["sentence"].startswith("7 of 8 searches have ended")
    sweep.confirm(searches=8, yes=True)
    assert path.read_bytes() == before

    with pytest.raises(InputError, match=r"confirm\.searches: these searches were begun otherwise .*confirm\.seed=1"):
        sweep.confirm(searches=9, yes=True)
    search(tmp_path, n_trials=7)
    with pytest.raises(InputError, match=r"sweep: these searches were begun otherwise \(trials\..*confirm\.seed=1"):
        sweep.confirm(searches=8, yes=True)
