"""Which trial is taken where none is named: by the verdict, else by the search."""

import json
import shutil

import numpy as np
import pytest

import sweeper
from sweeper.results.assembling import Contestant, verdict_of
from sweeper.results.chosen import chosen
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
TASK = Supervised(Arrays(X, X[:, 0] > 0), MLP)
WINS, TIES, VOID = "winner", "leader", "search"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A sweep of three families, one of them in two studies, each with a trial 0."""
    folder = tmp_path_factory.mktemp("chosen")
    given = {"steps": 16, "n_trials": 2, "trainer": {"sequential": {"workers": 1}}, "tracking": "none"}
    for families in (["constant", "cosine"], {"wsd": {"decay": 0.1}}, {"wsd": {"decay": 0.2}}):
        sweeper.sweep(TASK, families, root=folder, search={"reports": 4}, **given)
    return folder


@pytest.fixture
def confirmed(root, tmp_path, build_confirmation):
    """Return a function that gives the sweep the verdict of means by family, each of trial 0 of one of its studies."""

    def confirm(means, pick=min, **options):
        shutil.copytree(root, tmp_path / "sweeps")
        sweep = sweeper.load(root=tmp_path / "sweeps")
        firsts = [record for record in sweep.records if record.number == 0]
        of = {family: pick((r for r in firsts if r.family == family), key=lambda r: r.study) for family in means}
        contestants = tuple(Contestant(family, 0, dict(of[family].params), 1.0) for family in means)
        rows = build_confirmation(means, **options).rows
        confirmation = build_confirmation(
            means, contestants=contestants, rows=tuple({**row, "trial": 0} for row in rows), **options
        )
        sweep.home.write({**sweep.config, "confirmations": {"0": {}}})
        sweep.home.verdict(0).write_text(json.dumps(verdict_of(confirmation)))
        return sweep.refresh(), of

    return confirm


def test_a_named_trial_is_taken(root):
    taken = chosen(sweeper.load(root=root), "cosine:1")
    assert (taken.record.family, taken.record.number, taken.name) == ("cosine", 1, "cosine:1")
    assert (taken.reason, taken.words) == ("named", "as named")


def test_a_search_alone_gives_its_lowest(root):
    sweep = sweeper.load(root=root)
    taken = chosen(sweep)
    lowest = min((record for record in sweep.records if record.state == "complete"), key=lambda record: record.value)
    assert taken.record == lowest
    assert taken.words == "the lowest of the search, not confirmed on fresh seeds"


def test_a_maximized_search_gives_its_highest(tmp_path):
    objective = {"metric": "valid/accuracy", "direction": "maximize"}
    given = {"steps": 16, "n_trials": 3, "tracking": "none", "search": {"reports": 4}}
    sweep = sweeper.sweep(TASK, ["cosine"], objective=objective, root=tmp_path, **given)
    taken = chosen(sweep)
    assert taken.record.value == max(record.value for record in sweep.records if record.state == "complete")
    assert taken.words == "the highest of the search, not confirmed on fresh seeds"


CASES = {
    WINS: ({"constant": 2.0, "cosine": 1.0}, {}, "cosine", "the winner on fresh seeds"),
    TIES: (
        {"constant": 1.0, "cosine": 1.0001},
        {"noise": 1.0, "seeds": 8},
        None,
        "the leader on fresh seeds, where no winner was found",
    ),
    VOID: (
        {"constant": 1.0, "cosine": 1.1},
        {"states": {(family, place): "diverged" for family in ("constant", "cosine") for place in range(64)}},
        None,
        "the lowest of the search, without a leader on fresh seeds",
    ),
}


@pytest.mark.parametrize("reason", CASES)
def test_a_confirmation_decides_before_the_search(confirmed, reason):
    means, options, family, words = CASES[reason]
    sweep, _ = confirmed(means, **options)
    taken = chosen(sweep)
    assert (taken.reason, taken.words) == (reason, words)
    if reason == VOID:
        assert taken.record == sweep.record(sweep.best)
    else:
        assert taken.record.family == (family or sweep.verdict["leader"]["family"])
        assert taken.record.number == 0


@pytest.mark.parametrize("pick", [min, max])
def test_of_two_studies_of_a_family_it_is_the_one_that_was_confirmed(confirmed, pick):
    sweep, of = confirmed({"constant": 2.0, "wsd": 1.0}, pick=pick)
    taken = chosen(sweep)
    assert taken.record == of["wsd"]
    assert taken.name == f"{of['wsd'].study}:0"


def test_a_trial_that_is_gone_is_told(confirmed, check_form):
    sweep, _ = confirmed({"constant": 2.0, "cosine": 1.0})
    verdict = sweep.verdict
    for row in verdict["configurations"]:
        row["params"] = {"peak_lr": 7.0}
    sweep.home.verdict(0).write_text(json.dumps(verdict))
    with pytest.raises(InputError, match=r"trial=cosine:0: the verdict's trial is not in this sweep") as told:
        chosen(sweep.refresh())
    check_form(str(told.value))


def test_without_a_complete_trial_it_says_so(root, tmp_path):
    from sweeper.api import Sweep
    from sweeper.spec.question import Home

    home = Home(tmp_path / "empty")
    home.path.mkdir()
    home.write(sweeper.load(root=root).config)
    home.journal.touch()
    with pytest.raises(InputError, match="no trial is complete yet"):
        chosen(Sweep(home))
