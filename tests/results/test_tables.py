"""The end table: what is ranked, what is counted, what is said about it, and that it fits."""

import io
import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from sweeper.results import tables
from sweeper.text import columns
from sweeper.types import Record, TrialId
from sweeper.views import end_table
from sweeper.views.small_print import small_print

WIDTHS = (20, 40, 80, 120, 200)


def trial(family: str, number: int, state="complete", value: float | None = None, **others) -> Record:
    usual = {
        "study": family, "params": {}, "searched": (), "intermediate": (), "steps_done": 200, "diverged_step": None,
        "reason": "", "seconds": 1.5, "clock": (), "seeds": (0,), "retry_of": None, "started": None, "ended": None,
    }  # fmt: skip
    return Record(**{**usual, "family": family, "number": number, "state": state, "value": value, **others})


def trials() -> list[Record]:
    """Four families and the two baselines; step diverged in all its trials."""
    return [
        trial("cosine", 0, value=1.9, params={"peak_lr": 0.3, "warmup": 0.05, "decay": 0.01}),
        trial("cosine", 1, value=1.8, params={"peak_lr": 0.0341, "warmup": 0.1, "decay": 0.001}),
        trial("cosine", 2, "pruned", 0.1, params={"peak_lr": 0.5, "warmup": 0.0, "decay": 0.1}, steps_done=80),
        trial("cosine", 3, "diverged", params={"peak_lr": 0.9, "warmup": 0.0, "decay": 0.1}, diverged_step=12),
        trial("cosine", 4, "diverged", params={"peak_lr": 0.7, "warmup": 0.0, "decay": 0.1}, diverged_step=99),
        trial("wsd", 0, value=1.95, params={"peak_lr": 0.1, "warmup": 0.0, "decay": 0, "cooldown": 0.25, "end": "x"}),
        trial("wsd", 1, value=2.5, params={"peak_lr": 0.2, "warmup": 0.0, "decay": 0, "cooldown": 0.5, "end": "x"}),
        trial("sgdr", 0, value=1.7, params={"peak_lr": 3.2e-5, "warmup": 0.02, "decay": 1.0, "cycle": 0.125}),
        trial("sgdr", 1, "failed", reason="out of memory"),
        trial("step", 0, "diverged", math.inf, params={"peak_lr": 1.0}, diverged_step=3),
        trial("step", 1, "diverged", params={"peak_lr": 2.0}, diverged_step=1),
        trial("constant", 0, value=1.9, params={"peak_lr": 0.05, "warmup": 0.0}),
        trial("constant", 1, "running", params={"peak_lr": 0.06, "warmup": 0.0}),
        trial("default_lr", 0, value=3.0, params={"peak_lr": 0.001, "warmup": 0}),
    ]


def families(records=None, **options) -> pd.DataFrame:
    names = [name for name in ("ends_high", "facts", "importances", "no_skill") if name in options]
    details = tables.Details(**{name: options.pop(name) for name in names})
    given = {"direction": "minimize", "details": details} | options
    return tables.families_table(trials() if records is None else records, **given)


def text(table, width=None, **options) -> list[str]:
    asked = {name: options.pop(name) for name in ("metric", "direction", "at", "seeds", "folds") if name in options}
    lines = end_table.render(table, tables.Criterion(**{"metric": "valid/loss"} | asked), width=width, **options)
    return [columns.plain_text(line) for line in lines]


# --- trials -----------------------------------------------------------------------------------------


def test_one_row_a_trial_with_every_number():
    table = tables.trials_table(trials()[::-1])
    assert len(table) == len(trials())
    assert list(table.columns) == [
        "study", "family", "trial", "state", "value", "peak_lr", "warmup", "decay", "cycle", "cooldown", "end",
        "objective/last", "objective/best", "objective/mean_last_k", "objective/ema", "objective/spread",
        "steps", "seconds", "steps_to_target", "seconds_to_target", "lr_auc", "lr_end_over_peak", "lr_wd_sum",
            "late_loss_spread",
        "train_valid_gap", "diverged_step", "truncated", "reason", "origin", "prior_of",
    ]  # fmt: skip
    assert list(table.family.unique()) == ["constant", "cosine", "default_lr", "sgdr", "step", "wsd"]
    cosine = table[table.family == "cosine"]
    assert list(cosine.trial) == [0, 1, 2, 3, 4]
    assert list(cosine.diverged_step.dropna()) == [12, 99]
    assert list(cosine.steps) == [200, 200, 80, 200, 200]
    assert cosine.cycle.isna().all()
    assert table[table.state == "failed"].reason.item() == "out of memory"
    assert table[table.family == "step"].value.isna().all()


def test_a_number_named_like_a_column_keeps_both():
    table = tables.trials_table([trial("a", 0, params={"steps": 7, "optimizer.momentum": 0.9})])
    assert (table.loc[0, "steps"], table.loc[0, "params.steps"], table.loc[0, "optimizer.momentum"]) == (200, 7, 0.9)


def test_no_trials_are_an_empty_table_with_all_columns():
    table = tables.trials_table([])
    assert table.empty
    assert {"study", "peak_lr", "cycle", "reason"} <= set(table.columns)
    assert families([]).empty
    assert text(families([])) == ["No trials yet."]


# --- families ---------------------------------------------------------------------------------------


def test_the_best_first_then_those_without_a_value_then_the_baselines():
    table = families()
    assert list(table.family) == ["sgdr", "cosine", "wsd", "step", "constant", "default_lr"]
    assert list(table.role) == ["", "", "", "", "tuned constant", "default LR"]
    assert list(table["rank"].fillna(0)) == [1, 2, 4, 0, 3, 5]
    assert list(table.best_trial.fillna(-1)) == [0, 1, 0, -1, 0, 0]
    assert list(table.gain.fillna(99)) == pytest.approx([0.2, 0.1, -0.05, 99, 0, -1.1])


def test_counts_and_the_largest_stable_lr():
    row = families().set_index("family").loc["cosine"]
    assert [row[state] for state in tables.STATES] == [2, 1, 2, 0, 0]
    assert (row.stable_lr, row.diverged_lr) == (0.3, 0.7), "a pruned trial is not stable"
    assert (row.peak_lr, row.warmup, row.decay) == (0.0341, 0.1, 0.001)
    step = families().set_index("family").loc["step"]
    assert math.isnan(step.stable_lr)
    assert step.diverged_lr == 1.0


STABILITY = {  # another trial beside one at 0.1 with the best value: stable LR, diverged LR, learned, failed
    "learned": (trial("a", 1, value=3.0, params={"peak_lr": 0.5}), (0.5, None, 2)),
    "collapsed": (trial("a", 1, value=4.8, params={"peak_lr": 0.5}), (0.1, None, 1)),
    "worse than no skill": (trial("a", 1, value=9.0, params={"peak_lr": 0.5}), (0.1, None, 1)),
    "pruned": (trial("a", 1, "pruned", params={"peak_lr": 0.5}), (0.1, None, 1)),
    "running": (trial("a", 1, "running", params={"peak_lr": 0.5}), (0.1, None, 1)),
    "diverged": (trial("a", 1, "diverged", params={"peak_lr": 0.5}, diverged_step=1), (0.1, 0.5, 1)),
    "failed": (trial("a", 1, "failed", params={"peak_lr": 0.5}), (0.1, None, 1)),
    "without a value": (trial("a", 1, "failed", params={"peak_lr": 0.5}, has_no_value=True), (0.1, None, 1)),
    "without a peak": (trial("a", 1, value=3.0), (0.1, None, 2)),
    "before the space was changed": (trial("a", 1, value=3.0, params={"peak_lr": 0.5}, prior_of="a"), (0.1, None, 1)),
}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("kind", STABILITY)
def test_only_a_complete_trial_that_learned_something_is_stable_and_only_a_loss_diverges(kind, direction):
    """No skill is 5 and the best is 2, so a trial must beat 4.7."""
    other, (stable, diverged, learned) = STABILITY[kind]
    records = [trial("a", 0, value=2.0, params={"peak_lr": 0.1}), other]
    sign = 1 if direction == "minimize" else -1
    flipped = [replace(record, value=None if record.value is None else sign * record.value) for record in records]
    (row,) = tables.rows_of(families(flipped, no_skill=sign * 5.0, direction=direction))
    assert (row.stable_lr, row.diverged_lr, row.learned) == (stable, diverged, learned)
    assert (row.no_skill, row.bar) == (sign * 5.0, pytest.approx(sign * 4.7))
    assert row.no_value == (kind == "without a value")


def test_the_rule_of_the_stable_lr_is_told():
    records = [trial("a", 0, value=2.0, params={"peak_lr": 0.1})]
    shown = " ".join(text(families(records, no_skill=5.0)))
    assert (
        "stable LR: the largest peak LR of a complete trial that learned something: valid/loss below 4.7000, a "
        "tenth of the way from a prediction that ignores the inputs (5.0000) to the lowest of the sweep. diverged "
        "LR: the smallest whose loss diverged." in shown
    )
    unknown = " ".join(text(families(records)))  # a sweep of an older version
    assert "stable LR: the largest peak LR of a complete trial. diverged LR: the smallest whose loss" in unknown


def test_families_without_skill_are_named():
    records = [trial("a", 0, value=2.0), trial("b", 0, value=5.0), trial("c", 0, value=6.0), trial("d", 0, "pruned")]
    records.append(trial("default_lr", 0, value=7.0))  # whose one LR nobody can change
    shown = " ".join(text(families(records, no_skill=5.0)))
    assert "No trial of b, c is better than a prediction that ignores the inputs (valid/loss 5.0000)." in shown
    assert "ignores the inputs" not in " ".join(text(families(records)))
    (row,) = tables.rows_of(families([trial("a", 0, value=6.0)], no_skill=5.0))
    assert (row.learned, row.bar) == (0, 5.0), "the best of a useless sweep is no measure"


def test_the_default_lr_gets_no_advice_about_its_range():
    records = [trial("a", 0, value=2.0), trial("default_lr", 0, "diverged")]
    assert "Lower the range" not in " ".join(text(families(records)))


@pytest.mark.parametrize("other", [state for state in tables.STATES if state != "diverged"])
def test_every_trial_diverged_only_if_every_one_did(other):
    burst = [trial("a", 0, "diverged"), trial("b", 0, value=1.0)]
    assert "Every trial of a diverged" in " ".join(text(families(burst)))
    value = 2.0 if other == "complete" else None
    assert "Every trial of a diverged" not in " ".join(text(families([*burst, trial("a", 1, other, value)])))


def test_a_trial_without_a_value_has_its_own_advice():
    records = [trial("a", number, "failed", has_no_value=True) for number in range(3)]
    shown = " ".join(text(families(records), metric="valid/auroc"))
    assert (
        "failed without a value (3): valid/auroc was NaN or infinite, and the loss was not. Look at the metric" in shown
    )
    assert "failed (" not in shown
    assert "peak LR." not in shown, "the LR is not to blame"
    both = " ".join(text(families([*records, trial("a", 3, "failed")])))
    assert "failed (1): training failed" in both
    assert "failed without a value (3)" in both


def test_others_are_the_searched_numbers_beside_the_four():
    row = families().set_index("family").loc["wsd"]
    assert row.others == {"cooldown": 0.25}
    assert row.params["end"] == "x"


def test_maximise_turns_best_and_gain_round():
    records = [
        trial("a", 0, value=0.7),
        trial("a", 1, value=0.9),
        trial("b", 0, value=0.8),
        trial("constant", 0, value=0.85),
    ]
    table = families(records, direction="maximize")
    assert list(table.family) == ["a", "b", "constant"]
    assert list(table.best_trial) == [1, 0, 0]
    assert list(table.gain) == pytest.approx([0.05, -0.05, 0])


def test_equal_values_share_a_rank_and_the_first_trial_is_named():
    records = [trial("b", 1, value=1.0), trial("b", 0, value=1.0), trial("a", 5, value=1.0), trial("c", 0, value=2.0)]
    table = families(records)
    assert list(zip(table.family, table["rank"], table.best_trial, strict=True)) == [
        ("a", 1, 5),
        ("b", 1, 0),
        ("c", 3, 0),
    ]
    said = "valid/loss 1.0000 is the lowest in the search, trial 5 of a and trial 0 of b (one seed; not confirmed)."
    assert said in " ".join(text(table))


@pytest.mark.parametrize(
    "ends_high",
    [
        {("sgdr", 0): True, ("cosine", 1): False},
        lambda study, trial: {"sgdr": True, "cosine": False}.get(study),
    ],
)
def test_trials_that_end_high_are_marked(ends_high):
    table = families(ends_high=ends_high)
    assert list(table.ends_high[:3]) == [True, False, None]
    lines = text(table)
    assert any(re.match(r"sgdr\* ", line) for line in lines)
    assert sum("*" in line for line in lines) == 2
    assert any(line.startswith("* ends more than 10% of its peak LR above its floor") for line in lines)
    assert not any("*" in line for line in text(families()))


def test_studies_of_one_family_are_told_apart():
    records = [
        trial("cosine", 0, value=2.0, study="cosine-a1"),
        trial("cosine", 0, value=1.0, study="cosine-b2"),
        trial("step", 0, value=3.0),
    ]
    table = families(records)
    assert list(table.study) == ["cosine-b2", "cosine-a1", "step"]
    shown = "\n".join(text(table))
    assert "cosine-b2" in shown
    assert "cosine-a1" in shown
    assert "cosine has 2 studies" in shown


# --- text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("records", [trials(), trials()[:1], [trial("a_family_with_a_long_name_indeed", 0, "running")]])
def test_no_line_is_longer_than_the_width(records, width, unicode):
    lines = text(families(records, ends_high=lambda *_: True), width, unicode=unicode, notes=["a note " * 30])
    assert max(map(columns.width_of, lines)) <= width
    assert unicode or all(line.isascii() for line in lines)


def test_at_80_columns_every_column_is_there_in_blocks_that_begin_with_the_family():
    lines = text(families(), 79)
    heads = [re.split(r"  +", line.strip()) for line in lines if line.startswith("family ")]
    assert all(names[0] == "family" for names in heads)
    assert [name for names in heads for name in names[1:]] == [
        "lowest", "gain", "trial", "peak LR", "warmup", "decay", "cycle", "others", "complete", "pruned", "diverged",
        "failed", "running", "stable LR", "diverged LR", "to target",
    ]  # fmt: skip
    assert re.match(r"sgdr +1.7000 +\+0.2000 +0 +3.2e-05 +2% +1 +12.5%", lines[2])
    assert sum(line.startswith("baselines: ") for line in lines) == len(heads) > 1


def test_where_there_is_room_it_is_one_block():
    lines = text(families())
    assert sum(line.startswith("family ") for line in lines) == 1
    assert "cooldown 0.25" in next(line for line in lines if "wsd" in line)


def test_baselines_are_set_apart_with_their_roles():
    lines = text(families())
    at = lines.index("baselines: constant (LR tuned), default_lr (the optimizer's own LR, untuned)")
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["constant", "default_lr"]
    assert lines[at + 3] == ""


def test_the_answer_says_what_is_lowest_by_how_much_and_that_it_is_not_confirmed():
    shown = " ".join(text(families()))
    assert (
        "valid/loss 1.7000 is the lowest in the search so far, trial 0 of sgdr (one seed; not confirmed), at peak_lr "
        "3.2e-05, warmup 2%, decay 1, cycle 12.5%. It is 0.2000 below the tuned constant's lowest." in shown
    )
    assert "Each value is the lowest of 1 to 5 trials, which is partly luck" in shown
    assert "Unequal budgets" in shown
    assert "Every trial of step diverged" in shown
    for state, count in {"pruned": 1, "diverged": 4, "failed": 1, "running": 1}.items():
        assert f"{state} ({count}): " in shown


def test_when_the_tuned_constant_is_lowest_no_more_is_said():
    shown = " ".join(text(families([trial("constant", 0, value=1.0), trial("cosine", 0, value=2.0)]), seeds=3))
    assert (
        "valid/loss 1.0000 is the lowest in the search, trial 0 of constant (the median of 3 seeds; not confirmed). "
        "That is the tuned constant." in shown
    )
    assert "Each value is the lowest of 1 trial, which" in shown
    assert "Unequal budgets" not in shown


def test_a_missing_baseline_names_the_command_that_adds_it():
    shown = " ".join(text(families([trial("cosine", 0, value=2.0), trial("constant", 0, value=2.5)])))
    assert "The default LR is not in this sweep. To add it, run the same command with" in shown
    assert "'schedule=[constant,cosine,default_lr]'" in shown
    shown = " ".join(text(families([trial("cosine", 0, value=2.0)])))
    assert "no gain can be shown" in shown
    assert "'schedule=[constant,cosine,default_lr]'" in shown
    assert "not in this sweep" not in " ".join(text(families()))


@pytest.mark.parametrize("state", ["running", "diverged", "pruned", "failed"])
def test_without_a_complete_trial_there_is_nothing_to_compare(state):
    table = families([trial("cosine", 0, state, 1.0, params={"peak_lr": 0.1}), trial("constant", 0, state)])
    assert table["rank"].isna().all()
    assert table.gain.isna().all()
    shown = text(table)
    assert "No trial is complete yet, so there is nothing to compare." in shown


def test_show_is_plain_and_complete_where_it_is_piped():
    out = io.StringIO()
    end_table.show(families(), tables.Criterion("valid/loss"), out=out, notes=["a \x1b[31mnote"])
    lines = out.getvalue().splitlines()
    assert lines == text(families(), notes=["a note"])
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", out.getvalue().replace("\n", ""))


# --- an LR range test -------------------------------------------------------------------------------


def ramps(*extra):
    """Return trials of range_test, all of which diverged, or all but one that learned nothing."""
    diverged = [trial("range_test", n, "diverged", params={"peak_lr": 10.0}, diverged_step=90) for n in range(3)]
    return [*diverged, trial("range_test", 3, value=9.0, params={"peak_lr": 1.0}), *extra]


@pytest.mark.parametrize(
    ("records", "diverged"),
    [
        (ramps(), ", as it is meant to at the end of range_test (3)."),
        (ramps()[:3], ", as it is meant to at the end of range_test (3)."),
        (
            ramps(trial("cosine", 0, value=1.0), trial("cosine", 1, "diverged")),
            ". It counts as a bad result, except of range_test (3), where it is meant to.",
        ),
        (ramps(trial("cosine", 0, value=1.0))[3:], None),
        ([trial("cosine", 0, value=1.0), trial("cosine", 1, "diverged")], ". It counts as a bad result."),
    ],
    ids=["ramps", "all", "both", "none", "no ramps"],
)
def test_nothing_advises_against_the_divergence_of_a_ramp(records, diverged):
    table = families(records, no_skill=2.3)
    said = small_print(table, tables.Criterion("valid/loss"))
    wanted = [] if diverged is None else [f"the loss became NaN, infinite, or larger than the task's bound{diverged}"]
    assert [one.partition(": ")[2] for one in said if one.startswith("diverged (")] == wanted
    assert "peak LR" not in " ".join(one for one in said if "range_test" in one), "no other range is advised"
    assert any("python -m sweeper range" in one for one in said) == any(one.family == "range_test" for one in records)


def test_a_ramp_has_neither_a_stable_nor_a_diverged_lr():
    table = families(ramps(*trials()), no_skill=2.3).set_index("family")
    assert table.loc["range_test", ["stable_lr", "diverged_lr"]].isna().all()
    assert table.loc["cosine", ["stable_lr", "diverged_lr"]].tolist() == [0.3, 0.7]


# --- which value counts -----------------------------------------------------------------------------


def by_every_rule(last, best, mean, ema, **more):
    measures = {"objective/last": last, "objective/best": best, "objective/mean_last_k": mean, "objective/ema": ema}
    return {"value": last, "measures": {**measures, **more}}


def judged(*extra):
    """By the last value cosine, wsd, sgdr; sgdr's best was better than all, the means put wsd before cosine's equal."""
    return [
        trial("cosine", 0, **by_every_rule(1.0, 1.0, 1.2, 1.0)),
        trial("cosine", 1, **by_every_rule(1.1, 0.9, 1.0, 1.1)),
        trial("wsd", 0, **by_every_rule(1.2, 1.2, 1.3, 1.4)),
        trial("sgdr", 0, **by_every_rule(1.3, 0.5, 1.35, 1.3)),
        *extra,
    ]


def about_the_rule(table, **asked):
    said = small_print(table, tables.Criterion("valid/loss", **asked))
    return [paragraph for paragraph in said if "objective.at" in paragraph]


def test_it_is_said_what_another_choice_of_the_value_would_change():
    table = families(judged())
    assert list(table["objective/best"]) == [0.9, 1.2, 0.5], "each the best of all its trials"
    assert about_the_rule(table) == [
        "Which family has the lowest value depends on objective.at (now last). With best it would be sgdr (valid/loss "
        "0.5000). With ema: the same family, the others in another order. With mean_last_k: the same order."
    ]
    made = json_of(table)["other_rules"]
    assert {rule: of_rule["changes"] for rule, of_rule in made.items()} == {
        "best": "winner",
        "mean_last_k": None,
        "ema": "order",
    }
    assert made["best"]["ranks"] == {"cosine": 2, "wsd": 3, "sgdr": 1}


def test_where_nothing_would_change_that_is_said_too():
    calm = [trial(name, 0, **by_every_rule(*[value] * 4)) for name, value in (("cosine", 0.9), ("wsd", 0.8))]
    for direction, word, first in (("minimize", "lowest", "wsd"), ("maximize", "highest", "cosine")):
        table = families(calm, direction=direction)
        assert table.family[0] == first
        assert about_the_rule(table, direction=direction, at="best") == [
            f"Which family has the {word} value does not depend on objective.at (now best). With last, "
            "mean_last_k or ema: the same order."
        ]


@pytest.mark.parametrize("extra", [trial("old", 0, value=2.0), trial("cosine", 2, value=2.0)])
def test_trials_that_do_not_say_their_value_by_other_rules_leave_it_open(extra):
    assert about_the_rule(families(judged(extra))) == []
    assert json_of(families(judged(extra)))["other_rules"] == {}


def test_pruned_trials_do_not_compete_by_any_rule():
    pruned = trial("wsd", 1, "pruned", **by_every_rule(0.1, 0.1, 0.1, 0.1))
    assert list(families(judged(pruned))["objective/best"]) == [0.9, 1.2, 0.5]


def test_the_spread_over_members_stands_beside_the_median():
    table = families([trial("cosine", 0, **by_every_rule(*[1.0] * 4, **{"objective/spread": 0.25})), *judged()[2:]])
    shown = text(table, seeds=3, folds=5)
    assert any(line.split()[:3] == ["cosine", "1.0000", "0.2500"] for line in shown)
    assert "the median of 3 seeds x 5 folds" in " ".join(shown)
    assert "spread: the standard deviation of valid/loss of the trial shown over its seeds and folds." in " ".join(
        shown
    )
    assert json_of(table)["families"][0]["best"]["spread"] == 0.25
    assert not any("spread" in line for line in text(families(judged()), seeds=3))


def test_what_a_wider_space_took_over_counts_and_what_lies_outside_does_not():
    records = [
        trial("cosine", 0, value=2.0, study="cosine-2", origin=TrialId("cosine-1", 3)),
        trial("cosine", 1, value=1.5, study="cosine-2"),
        trial("cosine", 4, value=0.1, study="cosine-1", prior_of="cosine-2"),
        trial("cosine", 5, "running", study="cosine-1", prior_of="cosine-2"),
        trial("constant", 0, value=1.9),
        trial("constant", 0, value=0.2, study="constant-0", prior_of="constant"),
    ]
    asked = []
    table = families(records, facts=lambda ids: asked.extend(ids) or {})
    assert set(asked) == {TrialId("cosine-2", 1), TrialId("constant", 0)}
    assert [(row.study, row.best_value, row.complete, row.running) for row in table.itertuples()] == [
        ("cosine-2", 1.5, 2, 0),
        ("constant", 1.9, 1, 0),
    ]
    assert table.target.tolist() == [1.9, 1.9]
    (paragraph,) = [p for p in small_print(table, tables.Criterion("valid/loss")) if "search.extend" in p]
    assert ": cosine 1 kept, 2 outside the new space; constant 0 kept, 1 outside the new space." in paragraph
    rows = {row["study"]: (row["taken_over"], row["prior"]) for row in json_of(table)["families"]}
    assert rows == {"cosine-2": (1, 2), "constant": (0, 1)}
    every = tables.trials_table(records, facts={TrialId("cosine-1", 3): {"train_valid_gap": 0.5}})
    assert every.origin.tolist().count("cosine-1:3") == 1
    assert every[every.study == "cosine-2"].train_valid_gap.tolist()[0] == 0.5
    assert sorted(every.prior_of) == ["", "", "", "constant", "cosine-2", "cosine-2"]


def test_trials_that_ended_early_are_marked():
    cut = trial("wsd", 2, value=1.0, steps_done=120, truncated=True, reason="ended early")
    table = families([*trials(), cut])
    shown = text(table)
    assert any("wsd+" in line for line in shown)
    (said,) = [p for p in small_print(table, tables.Criterion("valid/loss")) if p.startswith("truncated")]
    assert said.startswith("truncated: 1 of the complete trials ended early")
    assert "+ marks a family whose trial shown did." in said
    row = next(row for row in json_of(table)["families"] if row["family"] == "wsd")
    assert (row["truncated"], row["best"]["truncated"], row["best"]["steps"]) == (1, True, 120)
    behind = families([*trials(), trial("wsd", 2, value=9.0, truncated=True)])
    assert "+ marks" not in " ".join(small_print(behind, tables.Criterion("valid/loss")))
    assert tables.trials_table([cut]).truncated.tolist() == [True]
    assert not any("truncated" in line for line in text(families()))


def test_what_mattered_is_said_of_families_with_enough_trials():
    importances = {"cosine": {"peak_lr": 0.755, "decay": 0.245}, "wsd": {}, "default_lr": {}}
    table = families(importances=importances)
    assert table.set_index("family").importance["cosine"] == importances["cosine"]
    (paragraph,) = [p for p in small_print(table, tables.Criterion("valid/loss")) if p.startswith("Importance")]
    assert paragraph.endswith(": cosine: peak_lr 76%, decay 24%. Too few complete trials of sgdr, wsd, constant."), (
        "nothing is searched in default_lr, and step has no complete trial"
    )
    by_study = {row["study"]: row["importance"] for row in json_of(table)["families"]}
    assert (by_study["cosine"], by_study["wsd"]) == (importances["cosine"], {})
    assert not any("Importance" in line for line in text(families()))


# --- how fast, how steady ---------------------------------------------------------------------------


def curve(*values):
    return tuple(zip(range(50, 50 * len(values) + 1, 50), values, strict=True))


def timed() -> list[Record]:
    return [
        trial("cosine", 0, value=1.5, intermediate=curve(3.0, 1.9, 1.8, 1.5), clock=(1.0, 2.0, 3.0, 4.0)),
        trial("cosine", 1, "pruned", intermediate=curve(3.0, 2.5), steps_done=100, clock=(1.0, 2.5)),
        trial("wsd", 0, value=2.2, intermediate=curve(3.0, 2.9, 2.4, 2.2)),
        trial("step", 0, "diverged", diverged_step=3),
        trial("constant", 0, value=2.0, intermediate=curve(3.0, 2.2, 2.1, 2.0), clock=(1.5, 3.0, 4.5, 6.0)),
        trial("default_lr", 0, value=3.5, intermediate=curve(3.9, 3.8, 3.7, 3.5)),
    ]


def test_the_target_is_what_the_tuned_constant_reached():
    assert tables.target_of(timed(), "minimize") == 2.0
    assert tables.target_of([trial for trial in timed() if trial.family != "constant"], "minimize") == 2.2
    assert tables.target_of([trial for trial in timed() if trial.family == "default_lr"], "minimize") == 3.5
    assert tables.target_of([], "minimize") is None
    twice = [trial("constant", 0, value=0.5), trial("constant", 1, value=0.7), trial("wsd", 0, value=0.9)]
    assert tables.target_of(twice, "maximize") == 0.7
    assert tables.target_of(twice[2:], "maximize") == 0.9


def test_families_say_how_long_their_best_took_to_the_target():
    table = families(timed()).set_index("family")
    assert list(table.steps_to_target.fillna(-1)) == [100, -1, -1, 200, -1]
    assert table.seconds_to_target["cosine"] == 2.0
    assert set(table.target) == {2.0}
    shown = text(families(timed()))
    cells = {line.split()[0]: line.split()[-1] for line in shown[2 : shown.index("")] if len(line.split()) > 5}
    assert [cells[name] for name in ("cosine", "wsd", "step", "constant", "default_lr")] == [
        "50%", "never", "-", "100%", "never",
    ]  # fmt: skip
    assert "the lowest of the tuned constant." in " ".join(shown)
    easier = families(timed(), target=2.5).set_index("family")
    assert list(easier.steps_to_target.fillna(-1)) == [100, 150, -1, 100, -1]


def test_facts_are_asked_for_of_the_best_alone_and_stand_in_their_rows():
    asked = []

    def facts(ids):
        asked.extend(ids)
        return {id: {"late_loss_spread": 0.01, "lr_auc": 0.2} for id in ids if id.study == "cosine"}

    table = families(timed(), facts=facts).set_index("family")
    assert sorted(asked) == [("constant", 0), ("cosine", 0), ("default_lr", 0), ("wsd", 0)]
    assert (table.late_loss_spread["cosine"], table.lr_auc["cosine"]) == (0.01, 0.2)
    assert table.late_loss_spread.notna().sum() == 1
    best = json_of(families(timed(), facts=facts))["families"][0]["best"]
    assert (best["late_loss_spread"], best["train_valid_gap"], best["steps_to_target"]) == (0.01, None, 100)


def test_trials_have_their_facts_too():
    facts = {("cosine", 0): {"train_valid_gap": 0.3}}
    table = tables.trials_table(timed(), target=2.4, facts=facts)
    cosine = table[table.family == "cosine"]
    assert list(cosine.steps_to_target.fillna(-1)) == [100, -1]
    assert cosine.train_valid_gap.tolist()[0] == 0.3
    assert table.train_valid_gap.notna().sum() == 1
    assert tables.trials_table(timed()).steps_to_target.isna().all()


# --- JSON -------------------------------------------------------------------------------------------


def json_of(table, **options):
    options = {"sweep": "s", "finished": False} | options
    return tables.as_json(table, tables.Criterion("valid/loss"), **options)


def test_json_goes_round_and_holds_the_table():
    made = json_of(families(ends_high={("sgdr", 0): True}))
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert list(made) == ["sweep", "finished", "metric", "direction", "at", "seeds", "folds", "target", "no_skill",
                          "bar", "other_rules", "families", "baselines", "trials"]  # fmt: skip
    assert made["target"] == 1.9
    assert made["trials"] == {"complete": 7, "pruned": 1, "diverged": 4, "failed": 1, "running": 1}
    assert [row["study"] for row in made["families"]] == ["sgdr", "cosine", "wsd", "step", "constant", "default_lr"]
    first, step = made["families"][0], made["families"][3]
    of_curves = {"steps": 200, **dict.fromkeys([*tables.TO_TARGET, *tables.FACTS])}
    params = dict(trials()[7].params)
    assert first["best"] == {
        "value": 1.7,
        "spread": None,
        "trial": 0,
        "params": params,
        "ends_high": True,
        "truncated": False,
        **of_curves,
    }
    assert first["gain"] == pytest.approx(0.2)
    assert (step["best"], step["rank"], step["gain"], step["stable_lr"]) == (None, None, None, None)
    assert made["baselines"]["tuned_constant"] == {"study": "constant", "value": 1.9, "trial": 0}
    assert made["baselines"]["default_lr"] == {"study": "default_lr", "value": 3.0, "trial": 0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_that_is_not_finite_gets_into_json(value):
    params = {"peak_lr": value, "knots": (1.0, value), "deep": {"x": value}, "none": None, "flag": True}
    made = json_of(families([trial("a", 0, value=1.0, params=params), trial("b", 0, value=value)]))
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    best = made["families"][0]["best"]["params"]
    assert best == {"peak_lr": None, "knots": [1.0, None], "deep": {"x": None}, "none": None, "flag": True}
    assert made["families"][1]["best"] is None
    assert made["baselines"] == {"tuned_constant": None, "default_lr": None}


def test_json_of_nothing():
    made = json_of(families([]))
    assert made["families"] == []
    assert made["trials"] == dict.fromkeys(tables.STATES, 0)
