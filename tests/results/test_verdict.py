"""What confirm.json holds, from rows whose truth is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sweeper.results import words
from sweeper.results.assembling import verdict_of
from sweeper.results.judging import Rules

FOUR = {"wsd": 1.0, "cosine": 1.05, "linear": 1.06, "constant": 1.1}
KEYS = {  # of section 7 of the specification, then those that were added
    "schema", "sweep", "confirm_seed", "objective", "status", "ended_by", "alpha", "n_max", "looks", "level", "winner",
    "leader", "among_best", "beats_constant", "sentence", "trained", "seeds", "configurations", "contrasts", "values",
} | {"exact", "notes", "folds", "test_metric", "test_leader", "other_rules"}  # fmt: skip
ROW = {
    "family", "trial", "same_as", "params", "search_value", "choose_mean", "n", "mean", "sd", "diverged", "rank",
    "status", "out_at_look", "barred",
} | {"test", "error"}  # fmt: skip
CONTRAST = {
    "a", "b", "question", "n", "mean", "sd", "t", "p", "level", "low", "high", "decision", "look", "gain_share",
    "skewed",
}  # fmt: skip


def diverging(family, *places):
    return {(family, place): "diverged" for place in places}


def standings(verdict):
    return {row["family"]: row["status"] for row in verdict["configurations"]}


def contrast(verdict, question, a, b=None):
    of_question = [one for one in verdict["contrasts"] if one["question"] == question and one["a"]["family"] == a]
    return next(one for one in of_question if b is None or one["b"]["family"] == b)


CASES = {  # name: means and options of the confirmation
    "winner": (FOUR, {}),
    "tie": (dict.fromkeys(FOUR, 1.0), {}),
    "maximized": (FOUR, {"objective": {"metric": "valid/accuracy", "direction": "maximize", "at": "last"}}),
    "one seed": (FOUR, {"seeds": 1, "rules": Rules(looks=(1,))}),
    "one configuration": ({"wsd": 1.0}, {}),
    "exact": (FOUR, {"noise": 0.0}),
    "exactly equal": (dict.fromkeys(FOUR, 1.0), {"noise": 0.0}),
    "barred": (FOUR, {"states": diverging("cosine", 0, 1, 2)}),
    "all diverge": (FOUR, {"states": {key: "diverged" for f in FOUR for key in diverging(f, *range(64))}}),
    "void": ({"wsd": 1.0, "cosine": 2.0}, {"states": diverging("cosine", 0, 1, 2)}),
    "failed": (FOUR, {"states": {("cosine", 2): "failed"}}),
    "budget": (dict.fromkeys(FOUR, 1.0), {"rules": Rules(most_trainings=40)}),
    "budget for nothing": (FOUR, {"seeds": 5, "rules": Rules(most_trainings=8)}),
    "margin": (dict.fromkeys(FOUR, 1.0), {"rules": Rules(margin=0.1)}),
    "interrupted": (dict.fromkeys(FOUR, 1.0), {"seeds": 10}),
    "before the first seed": (FOUR, {"seeds": 0}),
    "folds": (FOUR, {"folds": 3}),
    "left out": ({**FOUR, "default_lr": 9.0}, {"left_out": {"sgdr": 1.2, "step": 1.1}, "seeds": {"default_lr": 8}}),
    "no constant": ({"wsd": 1.0, "cosine": 1.05}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_verdict_is_json_with_the_same_keys_and_without_nan(build_confirmation, case):
    means, options = CASES[case]
    verdict = verdict_of(build_confirmation(means, **options))
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    assert set(verdict) == KEYS
    assert all(set(row) == ROW for row in verdict["configurations"])
    assert all(set(one) == CONTRAST for one in verdict["contrasts"])
    assert len(verdict["configurations"]) == len(means) - ("default_lr" in means) + len(options.get("left_out", ()))


# --- numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_numbers_are_in_the_sign_of_the_metric(build_confirmation, direction):
    objective = {"metric": "valid/x", "direction": direction, "at": "last"}
    confirmation = build_confirmation(FOUR, objective=objective)
    verdict = verdict_of(confirmation)
    best = {"minimize": "wsd", "maximize": "constant"}[direction]
    assert verdict["winner"] == {"family": best, "trial": 7}
    values = {
        family: np.array([row["value"] for row in confirmation.rows if row["family"] == family][:8]) for family in FOUR
    }
    row = next(row for row in verdict["configurations"] if row["family"] == best)
    assert (row["n"], row["mean"]) == (8, pytest.approx(values[best].mean()))
    assert row["sd"] == pytest.approx(values[best].std(ddof=1))
    found = contrast(verdict, "best", best, "cosine")
    theirs = stats.ttest_rel(values[best], values["cosine"])
    assert found["mean"] == pytest.approx((values[best] - values["cosine"]).mean())
    assert (found["t"], found["p"]) == pytest.approx((theirs.statistic, theirs.pvalue))
    ends = theirs.confidence_interval(1 - found["level"])
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high))
    assert found["low"] < found["mean"] < found["high"]


def test_a_share_is_of_the_gain_of_the_leader(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, noise=1e-4))
    assert contrast(verdict, "constant", "wsd")["gain_share"] == pytest.approx(1.0)
    assert contrast(verdict, "constant", "cosine")["gain_share"] == pytest.approx(0.5, abs=0.01)
    assert contrast(verdict, "best", "wsd", "cosine")["gain_share"] == pytest.approx(0.5, abs=0.01)
    worst = verdict_of(build_confirmation({**FOUR, "constant": 0.9}))
    assert all(one["gain_share"] is None for one in worst["contrasts"]), "the leader is the constant itself"


def test_divergence_has_an_exact_interval(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, states=diverging("wsd", 3)))
    row = next(row for row in verdict["configurations"] if row["family"] == "wsd")
    ends = stats.binomtest(1, 8).proportion_ci(0.95, "exact")
    assert row["diverged"] == {"k": 1, "n": 8, "low": pytest.approx(ends.low), "high": pytest.approx(ends.high)}
    assert contrast(verdict, "best", "wsd", "cosine")["n"] == 7


def test_the_default_lr_has_a_plain_interval(build_confirmation):
    confirmation = build_confirmation({**FOUR, "default_lr": 2.0}, seeds={"default_lr": 8})
    found = contrast(verdict_of(confirmation), "default_lr", "wsd")
    assert (found["n"], found["level"], found["b"]["family"]) == (8, 0.05, "default_lr")
    assert found["mean"] == pytest.approx(-1.0, abs=0.02)


# --- edge cases ---------------------------------------------------------------------------------------


def test_with_one_seed_values_are_shown_and_nothing_is_tested(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, seeds=1, rules=Rules(looks=(1,))))
    assert (verdict["status"], verdict["winner"], verdict["beats_constant"]) == ("no_test", None, None)
    assert verdict["leader"]["family"] == "wsd"
    assert set(standings(verdict).values()) == {"not tested"}
    assert all(row["rank"] is None and row["mean"] is not None for row in verdict["configurations"])
    assert all(one["low"] is None for one in verdict["contrasts"])


def test_one_configuration_has_its_value_and_no_test(build_confirmation):
    verdict = verdict_of(build_confirmation({"wsd": 1.0}))
    assert (verdict["status"], verdict["leader"], verdict["contrasts"]) == (
        "no_test",
        {"family": "wsd", "trial": 7},
        [],
    )
    assert verdict["configurations"][0]["n"] == 8


def test_one_family_is_compared_with_the_constant(build_confirmation):
    better = verdict_of(build_confirmation({"wsd": 1.0, "constant": 1.1}))
    assert (better["winner"]["family"], better["beats_constant"]) == ("wsd", True)
    equal = verdict_of(build_confirmation({"wsd": 1.0, "constant": 1.0}))
    assert (equal["status"], equal["beats_constant"]) == ("tie", False)


def test_training_that_ignores_its_seed_ends_after_five(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, noise=0.0))
    assert (verdict["status"], verdict["exact"], verdict["winner"]["family"]) == ("winner", True, "wsd")
    assert {row["n"] for row in verdict["configurations"]} == {5}
    assert [row["rank"] for row in verdict["configurations"]] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert all(one["decision"] in ("exact", "better", "worse") for one in verdict["contrasts"])
    tied = verdict_of(build_confirmation({**FOUR, "cosine": 1.0}, noise=0.0))
    assert (tied["status"], [one["family"] for one in tied["among_best"]]) == ("equal", ["wsd", "cosine"])


def test_folds_are_one_seed_together(build_confirmation):
    plain, folded = (verdict_of(build_confirmation(FOUR, folds=folds)) for folds in (1, 3))
    assert folded["folds"] == 3
    for one, other in zip(folded["configurations"], plain["configurations"], strict=True):
        assert one == {**other, "mean": pytest.approx(other["mean"]), "sd": pytest.approx(other["sd"])}
    assert folded["trained"]["judge"] == 3 * plain["trained"]["judge"]


def test_one_diverged_fold_is_a_diverged_seed(build_confirmation):
    confirmation = build_confirmation(FOUR, folds=2)
    rows = [dict(row) for row in confirmation.rows]
    first = next(row for row in rows if (row["family"], row["fold"]) == ("wsd", 1))
    first |= {"state": "diverged", "value": None}
    verdict = verdict_of(replace(confirmation, rows=tuple(rows)))
    assert next(row for row in verdict["configurations"] if row["family"] == "wsd")["diverged"]["k"] == 1


def test_a_failed_training_takes_out_its_configuration_alone(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, states={("cosine", 2): "failed"}))
    assert (verdict["winner"]["family"], standings(verdict)["cosine"]) == ("wsd", "void")
    assert [row["error"] for row in verdict["configurations"] if row["family"] == "cosine"] == ["out of memory"]
    assert contrast(verdict, "constant", "cosine")["decision"] == "void"
    last = next(row for row in verdict["configurations"] if row["family"] == "constant")
    assert last["rank"] == [3, 4], "the failed one still takes a place"


def test_without_the_constant_nothing_is_said_about_it(build_confirmation):
    verdict = verdict_of(build_confirmation({"wsd": 1.0, "cosine": 1.1}))
    assert (verdict["winner"]["family"], verdict["beats_constant"]) == ("wsd", None)
    assert {one["question"] for one in verdict["contrasts"]} == {"best"}


def test_a_constant_that_diverges_too_often_decides_nothing(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, states=diverging("constant", 0, 1, 2)))
    assert (verdict["winner"]["family"], verdict["beats_constant"]) == ("wsd", None)
    assert {one["decision"] for one in verdict["contrasts"] if one["question"] == "constant"} == {"barred"}


def test_a_winner_is_alone_among_the_best_and_all_others_are_out(build_confirmation):
    means = {"wsd": 1.0, "cosine": 1.012, "linear": 1.2, "constant": 1.3}
    verdict = verdict_of(build_confirmation(means))
    assert verdict["status"] == "winner"
    assert verdict["among_best"] == [verdict["winner"]]
    assert standings(verdict) == {"wsd": "best", "cosine": "out", "linear": "out", "constant": "out"}
    assert all(row["out_at_look"] in verdict["looks"] for row in verdict["configurations"][1:])


def test_what_was_left_out_comes_last_by_its_value_in_the_search(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, left_out={"sgdr": 1.2, "step": 1.1, "poly": 1.3}))
    assert [row["family"] for row in verdict["configurations"]][4:] == ["step", "sgdr", "poly"]
    assert {row["status"] for row in verdict["configurations"][4:]} == {"not confirmed"}


def test_a_family_that_was_left_out_and_is_the_same_as_a_confirmed_one_is_confirmed_under_its_name(build_confirmation):
    confirmation = build_confirmation(FOUR, left_out={"sgdr": 1.05, "step": 1.09, "poly": 1.3})
    *others, constant = confirmation.contestants
    assert constant.family == "constant"
    shared = replace(constant, same_as=(("step", 3),))
    verdict = verdict_of(replace(confirmation, contestants=(*others, shared)))
    assert [row["family"] for row in verdict["configurations"]][4:] == ["sgdr", "poly"]
    assert "sgdr (4th in the search) and poly (6th in the search)" in " ".join(words.details(verdict))


# --- the test part, and other rules -------------------------------------------------------------------


def with_test(**shifts):
    return lambda family, place, value: {
        "test": {"test/loss": value + shifts.get(family, 0.2), "test/accuracy": 0.5 if place else None}
    }


def test_the_test_part_has_mean_and_sd_over_the_judged_seeds(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, beside=with_test()))
    for row in verdict["configurations"]:
        loss, accuracy = row["test"]["test/loss"], row["test"]["test/accuracy"]
        assert loss == {"n": 8, "mean": pytest.approx(row["mean"] + 0.2), "sd": pytest.approx(row["sd"])}
        assert accuracy == {"n": 7, "mean": 0.5, "sd": 0.0}
    assert (verdict["test_metric"], verdict["test_leader"]) == ("test/loss", verdict["leader"])


def test_the_test_part_may_have_another_leader_which_changes_no_verdict(build_confirmation):
    plain = verdict_of(build_confirmation(FOUR))
    verdict = verdict_of(build_confirmation(FOUR, beside=with_test(wsd=0.5)))
    assert verdict["test_leader"] == {"family": "cosine", "trial": 7}
    assert (verdict["winner"], verdict["contrasts"]) == (plain["winner"], plain["contrasts"])


def test_a_configuration_that_is_out_of_play_does_not_lead_on_the_test_part(build_confirmation):
    states = diverging("cosine", 0, 1, 2)
    verdict = verdict_of(build_confirmation(FOUR, states=states, beside=with_test(cosine=-5.0)))
    assert verdict["test_leader"]["family"] == "wsd"


def test_without_a_test_part_there_is_none(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR))
    assert verdict["test_leader"] is None
    assert all(row["test"] is None for row in verdict["configurations"])


def by_rule(shift, rule="best", family="cosine"):
    def beside(name, place, value):
        return {
            "by_rule": {at: value + (shift if (name, at) == (family, rule) else 0) for at in ("last", "best", "ema")}
        }

    return beside


def test_what_another_rule_would_have_found(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR, beside=by_rule(-0.5)))
    cosine, wsd = ({"family": family, "trial": 7} for family in ("cosine", "wsd"))
    assert verdict["other_rules"] == {
        "best": {"leader": cosine, "winner": cosine},
        "ema": {"leader": wsd, "winner": wsd},
    }
    tie = verdict_of(build_confirmation(FOUR, beside=by_rule(-0.05)))
    assert tie["other_rules"]["best"]["winner"] is None
    assert verdict_of(build_confirmation(FOUR))["other_rules"] == {}, "sweeps of earlier versions do not have them"


def test_rules_are_compared_on_equal_seeds(build_confirmation):
    """A configuration that is out has fewer seeds: its mean over them is that of other seeds than the leader's."""
    means = {"wsd": 1.0, "cosine": 1.0, "linear": 1.2, "constant": 1.0}
    confirmation = build_confirmation(means, noise=0.05, beside=by_rule(0.0))
    verdict = verdict_of(confirmation)
    assert len({row["n"] for row in verdict["configurations"]}) > 1
    assert all(outcome["leader"] == verdict["leader"] for outcome in verdict["other_rules"].values())


# --- exit codes ---------------------------------------------------------------------------------------

EXITS = {
    "winner": 0, "tie": 11, "maximized": 11, "one seed": 13, "one configuration": 13, "exact": 0, "exactly equal": 11,
    "barred": 0, "all diverge": 13, "void": 13, "failed": 0, "budget": 12, "budget for nothing": 13, "margin": 11,
    "interrupted": 130, "before the first seed": 130, "folds": 0, "left out": 0, "no constant": 11,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_exit_code_tells_the_verdict(build_confirmation, case):
    means, options = CASES[case]
    assert words.exit_code(verdict_of(build_confirmation(means, **options))) == EXITS[case]


@pytest.mark.parametrize(
    ("status", "ended_by", "beats_constant", "code"),
    [
        ("winner", "decided", True, 0), ("winner", "decided", False, 11), ("winner", "decided", None, 11),
        ("tie", "futility", True, 10), ("tie", "max_seeds", True, 10), ("tie", "futility", False, 11),
        ("equal", "margin", True, 10), ("equal", "decided", False, 11), ("tie", "budget", True, 12),
        ("tie", "budget", False, 12), ("no_test", "budget", None, 13), ("no_test", "max_seeds", None, 13),
        ("void", "decided", None, 13), ("tie", "interrupted", True, 130), ("no_test", "interrupted", None, 130),
    ],
)  # fmt: skip
def test_where_several_exit_codes_fit_it_is_the_highest(build_confirmation, status, ended_by, beats_constant, code):
    verdict = verdict_of(build_confirmation({"wsd": 1.0}))
    assert (
        words.exit_code({**verdict, "status": status, "ended_by": ended_by, "beats_constant": beats_constant}) == code
    )


def test_no_difference_is_infinite(build_confirmation):
    """Two seeds on which both ended: the interval exists; one: it does not."""
    states = diverging("cosine", *range(1, 64))
    verdict = verdict_of(build_confirmation(FOUR, states=states))
    found = contrast(verdict, "constant", "cosine")
    assert (found["n"], found["low"], found["sd"], found["t"]) == (1, None, None, None)
    assert math.isfinite(found["p"])
