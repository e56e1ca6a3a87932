"""The verdict in words: every sentence written out in full."""

from dataclasses import replace

import pytest

from sweeper.results import words
from sweeper.results.assembling import verdict_of
from sweeper.results.judging import Rules

FOUR = {"wsd": 1.0, "cosine": 1.05, "linear": 1.06, "constant": 1.1}
EQUAL = dict.fromkeys(FOUR, 1.0)
ACCURACY = {"metric": "valid/accuracy", "direction": "maximize", "at": "last"}
NO_GAIN = "No schedule was shown to beat the tuned constant."


def diverging(*families, seeds=3):
    return {(family, place): "diverged" for family in families for place in range(seeds)}


SENTENCES = {  # name: means, options of the confirmation, the sentence
    "winner": (
        FOUR, {},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats each of the others (8 common seeds, 5%).",
    ),
    "winner that diverged once": (
        FOUR, {"states": {("wsd", 3): "diverged"}},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats each of the others (8 common seeds, 5%); "
        "it diverged on 1 of 8 seeds (0.32% to 53% of trainings do).",
    ),
    "winner beside one that is barred": (
        FOUR, {"states": diverging("cosine")},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats 2 of the others (8 common seeds, 5%).",
    ),
    "the constant wins": (
        {**FOUR, "constant": 0.9}, {},
        "constant trial 7 is the best of the 4 configurations confirmed: it beats each of the others (8 common seeds, "
        "5%). No schedule beats the tuned constant.",
    ),
    "maximized": (
        {"wsd": 0.9, "cosine": 0.8, "constant": 0.7}, {"objective": ACCURACY},
        "wsd trial 7 is the best of the 3 configurations confirmed: it beats each of the others (8 common seeds, 5%).",
    ),
    "no constant": (
        {"wsd": 1.0, "cosine": 1.1}, {},
        "wsd trial 7 is the best of the 2 configurations confirmed: it beats each of the others (8 common seeds, 5%). "
        "The tuned constant was not confirmed, so no gain over it can be shown.",
    ),
    "the constant is barred": (
        FOUR, {"states": diverging("constant")},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats 2 of the others (8 common seeds, 5%). "
        "The tuned constant diverges too often or failed, so no gain over it can be shown.",
    ),
    "another alpha": (
        FOUR, {"rules": Rules(alpha=0.005)},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats each of the others (8 common seeds, "
        "0.5%).",
    ),
    "folds": (
        FOUR, {"folds": 3},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats each of the others (8 common seeds, 5%). "
        "This holds on these 3 folds.",
    ),
    "family added": (
        FOUR, {"families_added": ("wsd",)},
        "wsd trial 7 is the best of the 4 configurations confirmed: it beats each of the others (8 common seeds, 5%). "
        "wsd added after a first verdict.",
    ),
    "exact": (
        FOUR, {"noise": 0.0},
        "wsd trial 7 is the best of the 4 configurations confirmed. Training ignores its seed, so the differences are "
        "exact.",
    ),
    "exactly equal": (
        {**FOUR, "cosine": 1.0}, {"noise": 0.0},
        "wsd and cosine are exactly equal: training ignores its seed.",
    ),
    "tie that beats the constant": (
        {"wsd": 1.0, "cosine": 1.001, "linear": 1.002, "constant": 1.1}, {},
        "linear, cosine and wsd cannot be told apart at 16 seeds; the best is among them (95%). Any of them is a good "
        "choice; lowest: linear.",
    ),
    "tie with the constant": (
        EQUAL, {},
        "linear, constant, cosine and wsd cannot be told apart at 24 seeds; the best is among them (95%). Any of them "
        f"is a good choice; lowest: linear. {NO_GAIN}",
    ),
    "tie, maximized": (
        {"wsd": 1.0, "cosine": 1.0}, {"objective": ACCURACY},
        "wsd and cosine cannot be told apart at 32 seeds; the best is among them (95%). Any of them is a good choice; "
        "highest: wsd. The tuned constant was not confirmed, so no gain over it can be shown.",
    ),
    "margin": (
        EQUAL, {"rules": Rules(margin=0.1)},
        "constant, linear, cosine and wsd are equal within the margin at 8 seeds. Any of them is a good choice. "
        f"{NO_GAIN}",
    ),
    "budget": (
        EQUAL, {"rules": Rules(most_trainings=40)},
        "constant, linear, cosine and wsd cannot be told apart at 8 seeds; the best is among them (95%). Any of them "
        f"is a good choice; lowest: constant. {NO_GAIN} It was ended by the budget.",
    ),
    "budget below the first look": (
        FOUR, {"seeds": 5, "rules": Rules(most_trainings=8)},
        "Nothing was tested (0 common seeds). It was ended by the budget.",
    ),
    "one seed": (
        FOUR, {"seeds": 1, "rules": Rules(looks=(1,))},
        "Nothing was tested (1 common seed). Lowest mean: wsd trial 7.",
    ),
    "one configuration": (
        {"wsd": 1.0}, {}, "Nothing was tested (one configuration). Lowest mean: wsd trial 7.",
    ),
    "one rival that is barred": (
        {"wsd": 1.0, "cosine": 2.0}, {"states": diverging("cosine")},
        "There is no verdict: all configurations but one, or all, diverge too often or failed.",
    ),
    "interrupted": (
        EQUAL, {"seeds": 10},
        "No verdict yet at 8 common seeds. The best may be constant, linear, cosine or wsd. It was interrupted: the "
        "same command resumes it.",
    ),
    "interrupted before the first look": (
        FOUR, {"seeds": 3}, "Nothing was tested (0 common seeds). It was interrupted: the same command resumes it.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence(build_confirmation, case):
    means, options, expected = SENTENCES[case]
    assert words.sentence(verdict_of(build_confirmation(means, **options))) == expected


def test_only_configurations_win_never_families(build_confirmation):
    for means, options, expected in SENTENCES.values():
        verdict = verdict_of(build_confirmation(means, **options))
        assert "family" not in " ".join([expected, *words.details(verdict)]).lower()


# --- details ------------------------------------------------------------------------------------------


def details(confirmation, notes=()):
    return words.details(verdict_of(confirmation, notes))


def test_details_of_a_winner(build_confirmation):
    confirmation = build_confirmation({**FOUR, "default_lr": 2.0}, seeds={"default_lr": 8})
    assert details(confirmation, ["A note."]) == [
        "Gain of wsd trial 7 over the tuned constant: 0.095 (0.075 to 0.115) in valid/loss, 6.5 paired sd, better at 8 "
        "of 8 seeds.",
        "Lead of wsd trial 7 over cosine trial 7: 0.048 (0.028 to 0.069) in valid/loss, 3.2 paired sd, better at 8 of "
        "8 seeds, 51% of the leader's gain over the constant.",
        "Gain over the optimizer's default LR: 0.993 (0.985 to 1.002) (at 8 seeds, not one of the tests).",
        "wsd trial 7 reached 0.9900 in the search, 1.0028 on fresh seeds: 0.013 was luck.",
        "A note.",
    ]


def test_details_of_a_tie(build_confirmation):
    means = {"wsd": 1.0, "cosine": 1.003, "constant": 1.1}
    assert details(build_confirmation(means, left_out={"sgdr": 1.2, "step": 1.1})) == [
        "Gain of wsd trial 7 over the tuned constant: 0.095 (0.080 to 0.111) in valid/loss, 8.4 paired sd, better at 8 "
        "of 8 seeds.",
        "Lead of wsd trial 7 over cosine trial 7: 0.0011 (-0.0084 to 0.0106) in valid/loss, 0.1 paired sd, better at "
        "10 of 16 seeds, 1% of the leader's gain over the constant.",
        "wsd trial 7 reached 0.9900 in the search, 1.0010 on fresh seeds: 0.011 was luck.",
        "To tell wsd from cosine: about 929 seeds (power 80%).",
        "Not confirmed, which does not mean worse: step (3rd in the search) and sgdr (4th in the search).",
    ]


def test_a_gain_is_positive_where_higher_is_better(build_confirmation):
    means = {"wsd": 0.9, "cosine": 0.8, "constant": 0.7}
    first, second, luck = details(build_confirmation(means, objective=ACCURACY))
    assert (
        first
        == "Gain of wsd trial 7 over the tuned constant: 0.205 (0.189 to 0.220) in valid/accuracy, 18.1 paired sd, "
        "better at 8 of 8 seeds."
    )
    assert second.startswith("Lead of wsd trial 7 over cosine trial 7: 0.102 (0.081 to 0.122) in valid/accuracy")
    assert luck == "wsd trial 7 reached 0.8900 in the search, 0.9028 on fresh seeds."


def test_who_is_out_of_the_comparison_and_why(build_confirmation):
    states = {**diverging("cosine"), ("linear", 2): "failed"}
    found = details(build_confirmation(FOUR, states=states))
    assert "Diverged too often to be compared: cosine trial 7 (3 of 8 seeds)." in found
    assert "linear trial 7 failed and is out of the comparison: out of memory." in found


def test_the_test_part_is_mentioned_if_it_names_another_leader(build_confirmation):
    def beside(shift):
        return lambda family, place, value: {"test": {"test/loss": value + (shift if family == "wsd" else 0.0)}}

    sentence = (
        "The test part would put cosine trial 7 first: its test/loss is lower than that of wsd trial 7 at equal seeds. "
        "The verdict rests on valid/loss."
    )
    assert sentence in details(build_confirmation(FOUR, beside=beside(0.2)))
    assert not any("test part" in line for line in details(build_confirmation(FOUR, beside=beside(0.0))))


RULES = {  # how much cosine gains by the rules "best" and "ema": the sentence, or None
    (-0.5, -0.5): "The verdict depends on objective.at (now last): with best or ema, cosine trial 7 would win.",
    (-0.5, 0.0): "The verdict depends on objective.at (now last): with best, cosine trial 7 would win.",
    (-0.055, 0.0): "The verdict depends on objective.at (now last): with best, cosine trial 7 would lead.",
    (
        -0.04,
        -0.5,
    ): "The verdict depends on objective.at (now last): with best, none would win on these seeds; with ema, "
    "cosine trial 7 would win.",
    (0.0, 0.0): None,
}


@pytest.mark.parametrize("shifts", RULES)
def test_another_rule_is_mentioned_if_it_changes_leader_or_winner(build_confirmation, shifts):
    def beside(family, place, value):
        shift = dict(zip(("best", "ema"), shifts, strict=True)) if family == "cosine" else {}
        return {"by_rule": {rule: value + shift.get(rule, 0.0) for rule in ("last", "best", "ema")}}

    found = [line for line in details(build_confirmation(FOUR, beside=beside, seeds=8)) if "objective.at" in line]
    assert found == ([] if RULES[shifts] is None else [RULES[shifts]])


def test_equal_schedules_are_named_together(build_confirmation):
    confirmation = build_confirmation(FOUR)
    first, *rest = confirmation.contestants
    shared = replace(first, same_as=(("trapezoid", 4),))
    found = details(replace(confirmation, contestants=(shared, *rest)))
    assert "wsd trial 7 and trapezoid trial 4 are the same schedule." in found


def test_where_all_schedules_are_one_that_is_the_verdict(build_confirmation):
    confirmation = build_confirmation({"wsd": 1.0})
    (only,) = confirmation.contestants
    verdict = verdict_of(replace(confirmation, contestants=(replace(only, same_as=(("trapezoid", 4),)),)))
    said = "wsd trial 7 and trapezoid trial 4 are the same schedule, so there is nothing to compare."
    assert words.sentence(verdict) == said
    assert not any("same schedule" in line for line in words.details(verdict))


def test_skewed_differences_are_said_once(build_confirmation):
    confirmation = build_confirmation({"wsd": 1.0, "cosine": 1.0, "constant": 1.0}, noise=0.01)
    rows = [
        {**row, "value": row["value"] + (3.0 if (row["family"], row["seed"]) == ("wsd", 103) else 0.0)}
        for row in confirmation.rows
    ]
    found = [line for line in details(replace(confirmation, rows=tuple(rows))) if "skewed" in line]
    assert found == ["The differences of constant and wsd are skewed: the interval may be too short."]


# --- differences --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        ((0.01234, 0.00602, 0.01866), "0.0123 (0.0060 to 0.0187)"),
        ((-0.01234, -0.01866, -0.00602), "-0.0123 (-0.0187 to -0.0060)"),
        ((0.5, 0.4999, 0.5001), "0.5000 (0.4999 to 0.5001)"),
        ((1234.5, 1200.0, 1269.0), "1234 (1200 to 1269)"),
        ((12.345, 2.1, 22.6), "12 (2 to 23)"),
        ((0.0, -0.0123, 0.0123), "0.000 (-0.012 to 0.012)"),
        ((-0.00001, -0.0123, 0.0123), "0.000 (-0.012 to 0.012)"),
        ((3.2e-9, 1.1e-9, 5.3e-9), "3.2e-09 (1.1e-09 to 5.3e-09)"),
        ((0.1, 0.1, 0.1), "0.1000 (0.1000 to 0.1000)"),
        ((0.1, None, None), "0.1000"),
        ((0.0, None, None), "0.0000"),
        ((None, None, None), "-"),
    ],
)
def test_a_difference_is_as_precise_as_its_interval(difference, text):
    assert words.difference_text(*difference) == text
