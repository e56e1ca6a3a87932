"""What `plan` says of a sweep, beside the sweep itself."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.forecast.disk import FIGURES, STUDY_FIGURE
from sweeper.forecast.estimate import Row, open_jobs

STEPS = 80  # in the default's 20 reports
SMALL = [
    "name=small", "data=digits", "model=mlp", "model.width=8", f"train.steps={STEPS}", "search.n_trials=4",
    "search.concurrent_trials=3", "schedule=[cosine,onecycle,constant]",
    "optimizer.peak_lr={low: 0.001, high: 0.05, log: true}", "trainer=sequential", "trainer.workers=1",
    "pruner=none", "tracking=none",
]  # fmt: skip


def kept(folder):
    """Every file with its content and time."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


def planned(sweeper, *words):
    code, out, err = sweeper("plan", *SMALL, "--json", *words)
    assert code == 0, err
    return json.loads(out)


def test_a_new_sweep_and_nothing_is_written(sweeper, tmp_path):
    plan = planned(sweeper)
    assert not list(tmp_path.iterdir())
    assert (plan["exists"], plan["trials"], plan["trials_left"], plan["updates_left"]) == (False, 12, 12, 12 * STEPS)
    assert plan["time"]["seconds_an_update"] > 0
    assert plan["time"]["seconds_training"] > 0
    assert plan["memory"] == 3 * 3 * 4 * 3 * ((64 + 1) * 8 + (8 + 1) * 8 + (8 + 1) * 10)  # weights, gradient, momentum
    assert plan["gap"]["comparisons"] == 2
    assert set(plan["gap"]["seeds"]) == {"3", "5", "10", "20"}


def test_a_stored_sweep_says_what_remains_and_stays_as_it_is(sweeper, tmp_path):
    assert sweeper(*SMALL, "search.seeds=2")[0] == 0
    before = kept(tmp_path)
    whole = planned(sweeper, "search.seeds=2")
    assert (whole["exists"], whole["trials_left"], whole["time"]["seconds_training"]) == (True, 0, 0)
    more = planned(sweeper, "search.seeds=2", "search.n_trials=6", "--seeds=7")
    assert [(row["done"], row["left"], row["updates_left"]) for row in more["families"]] == [(4, 2, 2 * 2 * STEPS)] * 3
    assert more["time"]["seconds_if_as_pruned_so_far"] == pytest.approx(more["time"]["seconds"])  # nothing was pruned
    spread, gap = more["gap"]["spread"], more["gap"]["seeds"]["7"]
    assert spread > 0  # as the two members of the best trials show it
    assert gap["value"] == pytest.approx(gap["spreads"] * spread)
    folder = tmp_path / "sweeps" / "small"
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    undrawn = whole["disk"]["total"] - FIGURES - 3 * STUDY_FIGURE
    assert used < undrawn < 1.5 * used
    assert whole["disk"]["now"] == used
    assert kept(tmp_path) == before
    config = folder / "config.yaml"
    _, text = config.read_text().split("\n", 1)  # without the checksum in the first line
    config.write_text(re.sub(r"^no_skill: .*$", "no_skill: 0.0", text, flags=re.MULTILINE))
    assert planned(sweeper, "search.seeds=2")["gap"]["spread"] is None, "families without skill do not count"


def test_an_unfinished_trial_counts_with_what_is_left_of_it(sweeper, tmp_path, monkeypatch):
    from sweeper.run import sweeping

    ends = iter([False] * 7 + [True])
    monkeypatch.setattr(sweeping._Ends, "stop", lambda self: next(ends))
    assert sweeper(*SMALL)[0] == 0
    plan = planned(sweeper)
    assert [(row["done"], row["open"], row["left"]) for row in plan["families"]] == [(0, 3, 4)] * 3
    assert plan["updates_left"] == 3 * (4 * STEPS - 3 * 7 * STEPS // 20)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds=1"], "--seeds=1: too few"),
        (["--spread=0"], "--spread=0.0: not a positive number"),
        (["train.stepz=3"], "Did you mean steps?"),
        (["objective.metric=valid/loss", "model.widht=3"], "model"),
    ],
)
def test_wrong_input_is_told_in_a_line(sweeper, words, said):
    code, out, err = sweeper("plan", *SMALL, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_text_says_it_all(sweeper):
    code, out, err = sweeper("plan", *SMALL, "schedule=[cosine,constant]", "--spread=0.01")
    assert (code, err) == (0, "")
    updates = f"{2 * 4 * STEPS:,}"
    for part in ("small: a new sweep", "cosine", updates, "Time: about", "Disk: at most", "Memory:", "Smallest gap"):
        assert part in out
    assert "nothing to be compared with" in sweeper("plan", *SMALL, "schedule=cosine")[1]


@given(
    st.lists(st.lists(st.integers(1, 6), max_size=7), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_rounds_have_every_report_once_and_no_more_open_trials_than_allowed(lefts, concurrent, members):
    rows = [Row("f", f"s{place}", len(left), 0, 0, tuple(left), 0) for place, left in enumerate(lefts)]
    counts = open_jobs(rows, concurrent, members)
    assert sum(counts) == members * sum(map(sum, lefts))
    assert all(0 < count <= concurrent * members * len(rows) for count in counts)
    alone = open_jobs(rows[:1], 1, 1)
    assert alone == [1] * sum(lefts[0])
