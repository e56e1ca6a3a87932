"""The values of a verdict by seed."""

import pytest

from sweeper.results import words
from sweeper.results.assembling import verdict_of
from sweeper.results.by_seed import better_at, by_seed

TWO = {"wsd": 1.0, "constant": 1.1}
WSD, CONSTANT = ({"family": family, "trial": 7} for family in TWO)


def test_a_value_is_the_mean_over_the_folds_of_a_seed_at_which_all_ended(build_confirmation):
    verdict = verdict_of(build_confirmation(TWO, seeds=4, folds=2, noise=0.0, states={("wsd", 2): "diverged"}))
    first = next(row for row in verdict["values"] if row["family"] == "wsd" and row["seed"] == 100)
    first["value"] = 2.0  # of one fold; the other has 1.0
    assert by_seed(verdict, WSD) == {100: 1.5, 101: 1.0, 103: 1.0}


def test_another_value_may_count(build_confirmation):
    tested = {"beside": lambda family, place, value: {"test": {"test/loss": value + 0.2}}}
    verdict = verdict_of(build_confirmation(TWO, seeds=3, noise=0.0, **tested))
    of_test = by_seed(verdict, CONSTANT, lambda row: row["test"]["test/loss"])
    assert of_test == pytest.approx({100: 1.3, 101: 1.3, 102: 1.3})
    assert by_seed(verdict, CONSTANT, lambda row: row["test"].get("test/f1")) == {}


@pytest.mark.parametrize(("direction", "better"), [("minimize", 7), ("maximize", 0)])
def test_seeds_at_which_both_ended_are_counted_up_to_the_look(build_confirmation, direction, better):
    objective = {"metric": "valid/loss", "direction": direction, "at": "last"}
    states = {("constant", 3): "diverged"}
    verdict = verdict_of(build_confirmation(TWO, seeds=12, noise=0.0, states=states, objective=objective))
    assert better_at(verdict, WSD, CONSTANT, look=8) == (better, 7)


def test_equal_values_are_not_better(build_confirmation):
    verdict = verdict_of(build_confirmation(dict.fromkeys(TWO, 1.0), seeds=5, noise=0.0))
    assert better_at(verdict, WSD, CONSTANT, look=5) == (0, 5)


def test_the_details_of_a_verdict_count_them(build_confirmation):
    verdict = verdict_of(build_confirmation({"step": 1.05, "constant": 1.0}, seeds=8))
    lead = next(line for line in words.details(verdict) if line.startswith("Lead of constant trial 7"))
    assert "better at 8 of 8 seeds" in lead
