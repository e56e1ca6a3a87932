"""The verdict on families: what counts of a search, the test over searches, and its words."""

import numpy as np
import pytest
from scipy import stats

from sweeper.results import below, family_words
from sweeper.results.families import Families, best_of
from sweeper.results.judging import Rules
from sweeper.text.columns import plain_text
from sweeper.types import Record
from sweeper.views import confirmed_families

SEARCHES = 8
SEEDS = list(range(500, 500 + SEARCHES))
FAMILIES = ("constant", "cosine", "wsd")
NOISE = np.random.default_rng(0).normal(size=(len(FAMILIES), SEARCHES))
CENTERED = NOISE - NOISE.mean(axis=1, keepdims=True) + np.array([[0.0], [0.1], [0.2]])  # no difference can be shown


def record(family, number, value, state="complete", truncated=False):
    ended = (value, (), 1, None, "", 0.0, (), (), None, None, None)
    return Record(f"{family}-abc", family, number, state, {"peak_lr": 0.1}, (), *ended, truncated=truncated)


def families(value_KS, direction="minimize", ended=SEARCHES, default_lr=None, margin=None, names=FAMILIES):
    """Families with these best values; NaN is a search without a complete trial, infinity one where all failed."""

    def trials(family, value, number=4):
        if np.isfinite(value):
            worse = value + (1 if direction == "minimize" else -1)
            return [record(family, 2, worse), record(family, number, value), record(family, 9, value)]
        return [record(family, 1, None, "diverged" if np.isnan(value) else "failed")]

    searches = {
        seed: [one for family, value in zip(names, value_K, strict=True) for one in trials(family, value)]
        for seed, value_K in zip(SEEDS[:ended], value_KS.T, strict=False)
    }
    stored = [one for place, family in enumerate(names) for one in trials(family, float(place), number=7)]
    if default_lr is not None:
        stored.append(record("default_lr", 0, 3.0))
        for seed, value in zip(SEEDS, default_lr, strict=True):
            searches[seed].append(record("default_lr", 0, value))
    return Families(
        sweep="digits",
        seed=0,
        objective={"metric": "valid/loss", "direction": direction, "at": "last"},
        rules=Rules((SEARCHES,), margin=margin),
        records=stored,
        trials=dict.fromkeys(names, 20) | ({} if default_lr is None else {"default_lr": 1}),
        searches=searches,
        seeds=SEEDS,
    )


@pytest.mark.parametrize(
    ("records", "best"),
    [
        ([record("wsd", 0, 2.0), record("wsd", 1, 1.0), record("wsd", 2, 1.0)], 1),
        ([record("wsd", 0, 2.0), record("wsd", 1, 1.0, truncated=True)], 0),
        ([record("wsd", 0, 2.0), record("wsd", 1, None, "pruned"), record("wsd", 2, None, "diverged")], 0),
        ([record("wsd", 1, None, "pruned")], None),
        ([], None),
    ],
)
def test_the_best_complete_trial_counts(records, best):
    found = best_of(records, "minimize")
    assert (found and found.number) == best
    assert best_of([record("wsd", 0, 2.0), record("wsd", 1, 1.0)], "maximize").number == 0


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_test_is_paired_over_searches(direction):
    sign = 1 if direction == "minimize" else -1
    value_KS = NOISE + sign * np.array([[2.0], [1.5], [-2.0]])
    verdict = families(value_KS, direction).verdict()
    assert (verdict["level"], verdict["status"], verdict["winner"]["family"]) == ("family", "winner", "wsd")
    assert verdict["configurations"][0]["family"] == "wsd"
    by_family = {row["family"]: row for row in verdict["configurations"]}
    for family, value_S in zip(FAMILIES, value_KS, strict=True):
        assert (by_family[family]["mean"], by_family[family]["sd"]) == pytest.approx(
            (value_S.mean(), value_S.std(ddof=1))
        )
        assert (by_family[family]["trial"], by_family[family]["n"]) == (7, SEARCHES)
    for one in verdict["contrasts"]:
        a, b = (value_KS[FAMILIES.index(one[side]["family"])] for side in ("a", "b"))
        oracle = stats.ttest_rel(a, b)
        ends = oracle.confidence_interval(0.95)
        assert (one["mean"], one["p"], one["low"], one["high"]) == pytest.approx(
            ((a - b).mean(), oracle.pvalue, ends.low, ends.high)
        )
        assert one["level"] == pytest.approx(0.05, rel=1e-9)


def test_a_family_is_named_only_if_it_beats_each_other_one():
    """Just significant against both, and then just not against one of them: 5 % each, no correction."""
    wide, narrow = (stats.t.isf(0.05 / 2, SEARCHES - 1) * factor / SEARCHES**0.5 for factor in (1.01, 0.99))
    unit_S = (NOISE[0] - NOISE[0].mean()) / NOISE[0].std(ddof=1)
    base_S = np.zeros(SEARCHES)
    named = families(np.array([base_S + wide + unit_S, base_S + wide - unit_S, base_S])).verdict()
    assert named["winner"]["family"] == "wsd"
    tied = families(np.array([base_S + wide + unit_S, base_S + narrow - unit_S, base_S])).verdict()
    assert (tied["winner"], tied["status"], tied["ended_by"]) == (None, "tie", "max_seeds")
    assert {one["family"] for one in tied["among_best"]} == set(FAMILIES)


def test_values_of_every_search_are_listed():
    value_KS = NOISE.copy()
    value_KS[1, 3], value_KS[2, 4] = np.nan, np.inf
    verdict = families(value_KS, default_lr=NOISE[0] + 1).verdict()
    assert verdict["seeds"] == {"choose": [], "judge": [], "search": SEEDS}
    assert verdict["trained"]["search"] == 10
    assert {row["stage"] for row in verdict["values"]} == {"search"}
    rows = {(row["family"], row["seed"]): row for row in verdict["values"]}
    assert len(rows) == len(verdict["values"]) == 4 * SEARCHES
    assert rows["cosine", SEEDS[3]]["value"] is None
    assert (rows["cosine", SEEDS[3]]["state"], rows["wsd", SEEDS[4]]["state"]) == ("diverged", "failed")
    for place, seed in enumerate(SEEDS):
        assert rows["constant", seed]["value"] == NOISE[0, place]
        assert rows["constant", seed]["best_trial"] == 4
    assert "default_lr" not in {row["family"] for row in verdict["configurations"]}
    (default,) = [one for one in verdict["contrasts"] if one["question"] == "default_lr"]
    assert default["b"]["family"] == "default_lr"


@pytest.mark.parametrize("ended", [0, 1, 5, SEARCHES - 1])
def test_nothing_is_tested_before_all_searches_have_ended(ended):
    verdict = families(NOISE, ended=ended).verdict()
    assert (verdict["ended_by"], verdict["winner"], verdict["contrasts"]) == ("interrupted", None, [])
    assert verdict["sentence"] == (
        f"{ended} of 8 searches have ended, so there is no verdict yet: the same command goes on."
    )


FAR = np.array([[2.0], [1.5], [-2.0]])
NEAR = np.array([[6.0], [0.0], [0.0]])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            families(NOISE + FAR),
            "wsd is the best of the 3 families at 20 trials: it beats each of the others (8 searches, 5%).",
        ),
        (
            families(NOISE + np.array([[-4.0], [0.0], [0.0]])),
            "constant is the best of the 3 families at 20 trials: it beats each of the others (8 searches, 5%). "
            "No schedule beats the tuned constant.",
        ),
        (
            families(CENTERED + NEAR),
            "cosine and wsd cannot be told apart by 8 searches at 20 trials; the best family is among them (95%). "
            "Lowest mean: cosine.",
        ),
        (
            families(CENTERED, "maximize"),
            "wsd, cosine and constant cannot be told apart by 8 searches at 20 trials; the best family is among them "
            "(95%). Highest mean: wsd. No family was shown to beat the tuned constant.",
        ),
        (
            families(CENTERED + NEAR, margin=10.0),
            "cosine and wsd are equal within the margin at 20 trials (8 searches).",
        ),
        (families(NOISE[:1], names=("wsd",)), "Nothing was tested: there is one family."),
        (
            families(NOISE * np.nan),
            "There is no verdict: the families left have searches without a complete trial.",
        ),
        (
            families(np.array([[np.nan] * 8, [np.nan] * 8, [1.0] * 8])),
            "There is no verdict: the families left have searches without a complete trial.",
        ),
        (
            families(np.zeros((3, SEARCHES)) + FAR),
            "wsd is the best of the 3 families at 20 trials, in all searches alike.",
        ),
        (
            families(np.zeros((3, SEARCHES)) + NEAR),
            "cosine and wsd are exactly equal at 20 trials: all searches gave the same.",
        ),
    ],
)
def test_sentences(found, expected):
    assert found.verdict()["sentence"] == expected


def test_lines_below_the_sentence():
    value_KS = CENTERED + NEAR
    value_KS[1, 0] = np.nan
    lines = below.lines(families(value_KS).verdict())
    assert lines[0].startswith("Gain of cosine over the tuned constant: 5.9")
    assert lines[1].startswith("Lead of cosine over wsd: ")
    assert lines[2].startswith("To tell cosine from wsd: ")
    assert lines[3] == "cosine has no complete trial in 1 of 8 searches."
    assert lines[4] == "This holds for searches as this one, with 20 trials a family: more trials may change it."
    assert below.lines(families(value_KS, ended=3).verdict()) == []


def test_different_numbers_of_trials_are_said():
    found = families(NOISE + FAR)
    found.trials["cosine"] = 10
    assert "at 10 to 20 trials" in found.verdict()["sentence"]
    assert family_words.trials_text({**found.verdict(), "trials": {"wsd": 1, "cosine": 1, "constant": 1}}) == "1 trial"


def test_the_table():
    value_KS = CENTERED + NEAR
    value_KS[1, 0] = np.nan
    table = [plain_text(line) for line in confirmed_families.render(families(value_KS).verdict(), width=100)]
    assert table[0] == "Families over 8 new searches: best valid/loss of each search, lower is better"
    assert " ".join(table[1].split()) == "family rank mean sd searches gain over constant without value verdict"
    assert [row.split()[:2] for row in table[2:5]] == [["cosine", "1-2"], ["wsd", "1-2"], ["constant", "3"]]
    assert "1/8" in table[2]
