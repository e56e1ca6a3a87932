"""The note: the answer in its first lines, whole tables, and never more than a tag holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from sweeper.results import tables
from sweeper.results.verdict import Verdict
from sweeper.types import Record
from sweeper.views import note


def record(study, number, value, state="complete", **params):
    return Record(
        study=study,
        family=study.split("-")[0],
        number=number,
        state=state,
        params={"peak_lr": 0.1 * (number + 1), "warmup": 0.05, **params},
        searched=("peak_lr",),
        value=value,
        intermediate=(),
        steps_done=100,
        diverged_step=47 if state == "diverged" else None,
        reason="",
        seconds=1.0,
        clock=(),
        seeds=(0,),
        retry_of=None,
        started=None,
        ended=None,
    )


@dataclass
class Stored:
    """What the note reads of a sweep."""

    records: list[Record]
    finished: bool = True
    name: str = "digits-mlp-sgd-1a2b3c4d"
    criterion: tables.Criterion = field(default_factory=lambda: tables.Criterion("valid/loss"))

    verdict: Verdict | None = None

    @property
    def families(self):
        return tables.families_table(self.records, direction="minimize")

    @property
    def config(self):
        return {
            "question": {
                "data": {"_target_": "sweeper.tasks.digits.Digits"},
                "model": {"_target_": "sweeper.tasks.models.MLP"},
                "optimizer": {"_target_": "torch.optim.SGD"},
                "train": {"steps": 100, "batch_size": 32},
                "objective": {"metric": "valid/loss", "at": "last"},
                "search": {"seeds": 1},
            },
            "trainer": {"why": "16 trials at once: 9.7 times as fast as one at a time (measured)"},
        }


@pytest.fixture
def sweep():
    return Stored(
        [
            record("cosine-1", 0, 0.5, decay=0.1),
            record("cosine-1", 1, 0.4, decay=0.2),
            record("wsd-2", 0, 0.6, cooldown=0.3),
            record("wsd-2", 1, None, "diverged", cooldown=0.4),
            record("constant-3", 0, 0.7),
            record("step-4", 0, None, "failed"),
        ]
    )


def rows(text, head):
    table = next(block for block in text.split("\n\n") if block.startswith(f"| {head} |"))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]


def test_the_answer_comes_first(sweep):
    first, second, third, fourth, *_ = note.study_note(sweep, "wsd-2").split("\n\n")
    assert first.startswith("**Search:** Best: cosine (trial 1) with valid/loss 0.4000 at peak\\_lr 0.2")
    assert "Not confirmed on fresh seeds" in first
    assert second == "**This family, wsd:** rank 2 of 4, 0.6000 in trial 0 (peak LR 0.1, warmup 5%, cooldown 0.3)."
    assert third == (
        "**Setup:** MLP on Digits with SGD, trained for 100 updates of 32 examples. Trials are compared by valid/loss "
        "(objective.at=last), with one seed per trial."
    )
    assert fourth == "**Trained:** 16 trials at once: 9.7 times as fast as one at a time (measured)."


def test_tables_show_every_family_and_this_one_in_bold(sweep):
    text = note.study_note(sweep, "wsd-2")
    head, rule, *families = rows(text, "rank")
    assert head[:6] == ["rank", "family", "best", "gain", "to target", "trial"]
    assert {cell.strip("-:") for cell in rule} == {""}
    assert [row[1] for row in families] == ["cosine", "**wsd**", "step", "constant"]
    assert {len(row) for row in families} == {len(head)}
    counts = {row[0].strip("*"): row[1:4] for row in rows(text, "family")[2:]}
    assert counts["wsd"] == ["**1**", "**0**", "**1**"]


def test_how_to_go_on(sweep):
    assert "python -m sweeper ui digits-mlp-sgd-1a2b3c4d" in note.study_note(sweep, "cosine-1")
    assert "a larger search.n_trials" in note.study_note(sweep, "cosine-1")
    sweep.finished = False
    text = note.study_note(sweep, "cosine-1")
    assert text.startswith("**So far:**")
    assert "finish this sweep: run the same command again" in text


def test_a_family_without_a_complete_trial(sweep):
    assert "**This family, step:** no trial is complete." in note.study_note(sweep, "step-4")


def test_markdown_in_names_stays_text(sweep):
    sweep.records.append(record("my_own|*x*-5", 0, 0.9))
    assert "my\\_own\\|\\*x\\*" in note.study_note(sweep, "cosine-1")


def test_a_long_table_ends_where_a_tag_does_with_its_own_row(sweep):
    numbers = {f"optimizer.some_number_{k}": 0.1 for k in range(6)}
    sweep.records += [record(f"family{k:02d}-x", 0, 1.0 + k, **numbers) for k in range(60)]
    text = note.study_note(sweep, "family59-x")
    assert 0.9 * note.LONGEST < len(text) <= note.LONGEST
    shown = [row[1] for row in rows(text, "rank")[2:]]
    assert shown[:2] == ["cosine", "wsd"]
    assert "**family59**" in shown
    assert f"{len(shown)} of 64 rows are shown" in text
    assert "Next steps" in text
