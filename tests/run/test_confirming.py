"""A confirmation from beginning to end, on the quadratic whose expected losses need no training."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import sweeper as package
from sweeper.run import confirm_plan
from sweeper.run.confirm_spec import ConfirmSpec, parse_confirm, parse_words
from sweeper.tasks import Supervised
from sweeper.tasks.models import NGram
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.tasks.text import NextByte
from sweeper.tracking.events import VERDICT, decode_order
from sweeper.tracking.summaries import read_summaries
from sweeper.training.expected import ExpectedTrainer
from sweeper.types import InputError

FAMILIES = ["constant", "cosine", "linear", "default_lr"]
KILLED = str(Path(__file__).parent / "scripts" / "killed_confirm.py")


def search(root, families=FAMILIES, **changes):
    options = {"n_trials": 8, "trainer": {"expected": {"spread": 0.1, "own_spread": 0.05}}, "tracking": "none"}
    task = Supervised(Quadratic(), Point)
    return package.sweep(task, families, experiment="quadratic", root=root, **{**options, **changes})


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search that is not confirmed. Tests copy it (`copy_of`)."""
    return search(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="module")
def confirmed(searched, tmp_path_factory):
    return copy_of(searched, tmp_path_factory.mktemp("confirmed")).confirm()


def copy_of(sweep, root):
    shutil.copytree(sweep.home.path, root / sweep.name)
    copied = package.load(root / sweep.name)
    copied._subject = sweep._subject
    return copied


def test_the_verdict_is_one_of_all_families(confirmed):
    verdict = confirmed.verdict
    assert verdict["schema"] == 1
    assert verdict["level"] == "configuration"
    assert {row["family"] for row in verdict["configurations"]} == {"constant", "cosine", "linear"}
    assert verdict["status"] in ("winner", "tie")
    assert verdict["trained"]["total"] == len(verdict["values"]) == len(confirmed.replicates)
    assert verdict["trained"]["search"] == len(confirmed.records)
    assert json.loads((confirmed.home.path / "confirm.json").read_text()) == verdict
    assert verdict["sentence"]
    assert verdict["notes"][-1].startswith("This holds for SGD, batches of ")


def test_each_family_is_chosen_among_its_best_trials(confirmed):
    rows = [row for row in confirmed.verdict["values"] if row["stage"] == "choose"]
    for family in ("constant", "cosine", "linear"):
        trials = confirmed.trials[(confirmed.trials["family"] == family) & (confirmed.trials["state"] == "complete")]
        best = trials.sort_values(["value", "trial"])["trial"].tolist()[:3]
        assert {row["trial"] for row in rows if row["family"] == family} == set(best)
        assert sum(row["family"] == family for row in rows) == 2 * len(best)


def test_seeds_are_fresh_and_common(confirmed):
    verdict = confirmed.verdict
    choose, judge = verdict["seeds"]["choose"], verdict["seeds"]["judge"]
    searched = {seed for record in confirmed.records for seed in record.seeds}
    assert len({*choose, *judge, *searched}) == len(choose) + len(judge) + len(searched)
    for row in verdict["configurations"]:
        trained = [
            one["seed"]
            for one in verdict["values"]
            if (one["stage"], one["family"], one["trial"]) == ("judge", row["family"], row["trial"])
        ]
        assert sorted(trained) == sorted(judge[: row["n"]])


def test_the_default_lr_is_shown_and_no_contestant(confirmed):
    verdict = confirmed.verdict
    assert [one["b"]["family"] for one in verdict["contrasts"] if one["question"] == "default_lr"] == ["default_lr"]
    assert sum(row["family"] == "default_lr" for row in verdict["values"]) == 8


def test_a_replicate_is_what_the_trial_is_at_another_seed(confirmed):
    """The value of a replicate follows from the trial's numbers and the seed, as the trainer itself computes it."""
    row = next(row for row in confirmed.verdict["values"] if row["stage"] == "judge" and row["family"] == "cosine")
    replicate = next(
        record
        for record in confirmed.replicates
        if record.family == "cosine" and record.replicate == (row["trial"], "judge", row["seed"])
    )
    trial = confirmed.record(f"cosine:{row['trial']}")
    assert replicate.params == trial.params
    assert replicate.seeds == (row["seed"],)
    assert replicate.value == row["value"] != trial.value
    assert list(confirmed.lr(trial.study, trial.number)) == list(confirmed_trace(confirmed, replicate)), (
        "the replicate trained another LR"
    )


def confirmed_trace(sweep, replicate):
    from sweeper.tracking.traces import read_trace

    return read_trace(sweep.home.path, replicate.study, replicate.number)["lr/group0"].dropna()


def test_the_trace_of_a_replicate_goes_by_its_study_and_number(confirmed):
    record = confirmed.replicates[-1]
    trace = confirmed.trace(record.study, record.number)
    assert trace["step"].iloc[-1] == record.steps_done
    assert trace["valid/log_loss"].iloc[-1] == record.value
    with pytest.raises(InputError, match="no such trial"):
        confirmed.record(record.study, record.number)


def test_the_search_is_shown_without_its_replicates(searched, confirmed):
    assert confirmed.trials.drop(columns=["seconds"]).equals(searched.trials.drop(columns=["seconds"]))
    assert confirmed.finished


def test_confirming_again_trains_nothing_and_writes_the_same(confirmed):
    path = confirmed.home.path / "confirm.json"
    before = path.read_bytes()
    journal = (confirmed.home.path / "journal.log").read_bytes()
    confirmed.confirm()
    assert path.read_bytes() == before
    assert (confirmed.home.path / "journal.log").read_bytes() == journal


def test_tables_of_the_verdict(confirmed):
    import pandas as pd

    csv = pd.read_csv(confirmed.home.tables / "confirmed.csv")
    parquet = pd.read_parquet(confirmed.home.tables / "confirmed.parquet")
    rows = confirmed.verdict["configurations"]
    assert csv["family"].tolist() == parquet["family"].tolist() == [row["family"] for row in rows]
    assert parquet["mean"].tolist() == [row["mean"] for row in rows]


def test_trackers_get_the_order_of_the_verdict(confirmed):
    """MLflow's page shows the families in it."""
    rows = [(row["family"], row["trial"]) for row in confirmed.verdict["configurations"]]
    family = {record.study: record.family for record in confirmed.records}
    summaries = read_summaries(confirmed.home.spool)
    for study in family:
        judged = decode_order(summaries[study].tags[VERDICT])
        assert [(family[trial.study], trial.trial) for trial in judged] == rows


def test_every_view_shows_the_sentence(confirmed, capsys):
    from sweeper.views import conclusion, note

    sentence = confirmed.verdict["sentence"]
    assert sentence in confirmed._repr_html_()
    assert note._escape(sentence) in note.study_note(confirmed, confirmed.records[0].study)
    conclusion.print_json(confirmed)
    assert json.loads(capsys.readouterr().out)["verdict"]["sentence"] == sentence
    conclusion.print_all(confirmed)
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_the_test_part_is_read_for_judged_replicates_alone(searched, tmp_path, monkeypatch):
    """A spy counts every evaluation: none in the search or the choice, one for each judged training."""
    asked = []
    evaluate = ExpectedTrainer.evaluate
    monkeypatch.setattr(
        ExpectedTrainer, "evaluate", lambda self, id, part: asked.append((id, part)) or evaluate(self, id, part)
    )
    sweep = search(tmp_path, name="spied")
    assert not asked
    sweep.confirm(budget=1.2)
    judged = {
        (record.study, record.number)
        for record in sweep.replicates
        if record.replicate.stage == "judge" and record.state == "complete"
    }
    assert {part for _, part in asked} == {"test"}
    assert sorted((id.study, id.trial) for id, _ in asked) == sorted(judged)
    assert all("test/loss" in record.tested for record in sweep.replicates if record.replicate.stage == "judge")


def test_a_family_that_joins_later_is_judged_on_the_same_seeds(searched, tmp_path):
    sweep = copy_of(searched, tmp_path).confirm(looks=[8, 12])
    before = sweep.verdict
    search(tmp_path, [*FAMILIES, "wsd"], name=None)
    after = sweep.refresh().confirm(looks=[8, 12]).verdict
    assert after["families_added"] == ["wsd"]
    assert "wsd added after a first verdict" in after["sentence"]
    assert {row["family"] for row in after["configurations"]} == {"constant", "cosine", "linear", "wsd"}
    assert after["seeds"] == before["seeds"]
    assert all(row in after["values"] for row in before["values"])
    assert sweep.confirm(looks=[8, 12]).verdict == after


def test_more_trials_demand_another_confirmation(searched, tmp_path):
    sweep = copy_of(searched, tmp_path).confirm(looks=[8])
    search(tmp_path, n_trials=24)
    sweep.refresh()
    with pytest.raises(InputError, match=r"confirm\.seed=1"):
        sweep.confirm(looks=[8])
    first = sweep.verdict
    assert sweep.confirm(looks=[8], seed=1).verdict["confirm_seed"] == 1
    assert sweep.verdict_of(0) == first
    assert not set(sweep.verdict["seeds"]["judge"]) & set(first["seeds"]["judge"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"looks": [8]}, r"confirm\.looks"),
        ({"top": 2}, r"confirm\.top"),
        ({"choose": 3}, r"confirm\.choose"),
        ({"alpha": 0.01}, r"confirm\.alpha"),
    ],
)
def test_rules_of_a_begun_confirmation_do_not_change(confirmed, options, problem):
    with pytest.raises(InputError, match=problem):
        confirmed.confirm(**options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["confirm.budgt=1"], "confirm.budgt=1: no such key. Did you mean budget?"),
        (["confirm.budget=0"], "confirm.budget=0"),
        (["confirm.budget=nan"], "confirm.budget"),
        (["confirm.looks=[12,8]"], "confirm.looks"),
        (["confirm.looks=[3,8]"], "confirm.looks"),
        (["confirm.looks=8"], "confirm.looks"),
        (["confirm.alpha=0"], "confirm.alpha=0"),
        (["confirm.alpha=1"], "confirm.alpha=1"),
        (["confirm.allow_divergence=1"], "confirm.allow_divergence=1"),
        (["confirm.seed=-1"], "confirm.seed=-1"),
        (["confirm.top=0"], "confirm.top=0"),
        (["confirm.choose=1.5"], "confirm.choose=1.5"),
        (["confirm.margin=0"], "confirm.margin=0"),
        (["confirm.dry=maybe"], "confirm.dry=maybe"),
        (["confirm.exit=loud"], "confirm.exit=loud"),
        (["schedule=cosine"], "schedule=cosine: a confirmation takes the sweep as it is"),
        (["search.n_trials=3"], "search.n_trials=3: a confirmation takes the sweep as it is"),
    ],
)
def test_wrong_options_are_refused(words, message):
    with pytest.raises(InputError) as error:
        parse_words(words)
    assert str(error.value).startswith(message)


def test_options_of_the_command_line_and_of_python_are_the_same():
    words = ["confirm.budget=0.5", "confirm.looks=[8,12]", "confirm.dry=true", "confirm.margin=1e-3", "confirm.seed=2"]
    of_python = parse_confirm({"budget": 0.5, "looks": [8, 12], "dry": True, "margin": 1e-3, "seed": 2})
    assert parse_words(words) == of_python == ConfirmSpec(2, looks=(8, 12), budget=0.5, margin=1e-3, dry=True)


def test_forms_of_a_budget(searched):
    trials = len(searched.records)
    whole = confirm_plan.plan(searched, ConfirmSpec())
    assert whole.rules.looks[-1] == 64
    assert whole.rules.most_trainings is None
    assert set(whole.candidates) == {"constant", "cosine", "linear"}
    small = confirm_plan.plan(searched, ConfirmSpec(budget=1.2))
    assert small.rules.looks == (8, 12, 16, 24, 32)
    assert len(small.candidates) == 2
    assert "constant" in small.candidates
    cost = confirm_plan.cost(searched, small, ConfirmSpec(budget=1.2))
    assert cost.most <= 1.2 * trials + 8
    (left_out,) = small.left_out
    assert (left_out.record.family, left_out.same) in [(one, (left_out.record,)) for one in ("cosine", "linear")]
    with pytest.raises(InputError, match=r"confirm\.budget=0\.1: \d+ trainings are needed"):
        confirm_plan.plan(searched, ConfirmSpec(budget=0.1))


def test_nothing_complete_is_nothing_to_confirm(tmp_path, searched):
    from dataclasses import replace

    sweep = copy_of(searched, tmp_path)
    pruned = [replace(record, state="pruned", value=None) for record in sweep.records]
    sweep.__dict__["_records_and_counts"] = pruned, {}
    with pytest.raises(InputError, match="no trial is complete"):
        confirm_plan.plan(sweep, ConfirmSpec())


def test_a_sweep_ends_with_the_command_that_confirms_it_and_its_cost(sweeper):
    words = [
        "experiment=quadratic",
        "schedule=[cosine,linear,constant]",
        "search.n_trials=8",
        "tracking=none",
        "name=a",
    ]
    code, out, err = sweeper(*words)
    assert code == 0, err
    lines = out.splitlines()
    cost, command = lines[(at := lines.index("  python -m sweeper confirm a")) - 1 : at + 1]
    assert re.fullmatch(r"To confirm it on fresh seeds \(about \d+ trainings, \d+:\d\d\):", cost)
    assert sweeper("confirm", "a", "confirm.looks=[5]")[0] == 0
    assert command not in sweeper(*words)[1]


def test_a_dry_run_writes_nothing(searched, tmp_path, capsys):
    sweep = copy_of(searched, tmp_path)
    before = {path: path.read_bytes() for path in sweep.home.path.rglob("*") if path.is_file()}
    sweep.confirm(dry=True)
    assert {path: path.read_bytes() for path in sweep.home.path.rglob("*") if path.is_file()} == before
    assert "Trainings: 50 at least" in capsys.readouterr().out
    assert sweep.verdict is None


@pytest.mark.slow
def test_a_killed_confirmation_goes_on_to_the_same_verdict(searched, confirmed, tmp_path):
    """Killed in the choice, between the stages and while judging: the JSON is equal to the last byte."""
    sweep = copy_of(searched, tmp_path)
    for rounds in (2, 5, 9, 14, 10**9):
        command = [sys.executable, KILLED, str(sweep.home.path), str(rounds), "{}"]
        ended = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, check=False)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr.decode()
        if ended.returncode == 0:
            break
    assert ended.returncode == 0
    mine, other = (Path(one.home.path, "confirm.json").read_bytes() for one in (sweep, confirmed))
    assert mine == other


@pytest.mark.slow
def test_six_copies_of_a_family_are_recognized_on_a_real_task(tmp_path):
    """Equal to the bit in the search, so that a confirmation trains one of them and says so."""
    copies = {f"copy{k}": {"factor": "cosine", "decay": {"low": 1e-3, "high": 0.3, "log": True}} for k in range(6)}
    task = Supervised(NextByte(), NGram)
    sweep = package.sweep(task, copies, steps=40, n_trials=5, trainer={"workers": 1}, tracking="none", root=tmp_path)
    first, *others = (
        one.drop(columns=["study", "family", "seconds", "seconds_to_target"]).reset_index(drop=True)
        for _, one in sweep.trials.groupby("family")
    )
    for other in others:
        pd.testing.assert_frame_equal(other, first, check_exact=True)
    verdict = sweep.confirm().verdict
    (one,) = verdict["configurations"]
    assert [same["family"] for same in one["same_as"]] == ["copy1", "copy2", "copy3", "copy4", "copy5"]
    same = f"copy5 trial {one['trial']} are the same schedule, so there is nothing to compare."
    assert verdict["sentence"].endswith(same)
    assert verdict["trained"]["total"] == 6 + 8
