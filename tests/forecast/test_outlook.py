"""An estimate in words: it fits the terminal and rounds as a human would."""

import json

import pytest

from sweeper.forecast import outlook
from sweeper.forecast.estimate import Estimate, Row
from sweeper.forecast.timing import Pace

PACE = Pace(2e-4, 3e-3, 0.013, 50, 1, 100, ("valid/loss",))


def estimate(**changed):
    given = {
        "name": "digits-mlp-sgd-12345678",
        "exists": False,
        "rows": tuple(Row(family, f"{family}-1", 20, 0, 0, (20,) * 20, 20_000) for family in ("cosine", "wsd")),
        "steps": 1000,
        "members": 1,
        "trainer": "one trial at a time",
        "processes": 1,
        "pace": PACE,
        "training": 125.0,
        "other": 10.0,
        "share": None,
        "disk": 15_300_000,
        "disk_now": 0,
        "memory": 12_345_678,
        "comparisons": 1,
        "tuned": False,
        "seeds": 5,
        "spread": None,
    }  # fmt: skip
    return Estimate(**{**given, **changed})


def text(**changed):
    return " ".join(outlook.paragraphs(estimate(**changed), "valid/loss"))


def test_time_is_told_with_what_it_was_made_of():
    assert "about 2:15 if no trial ends early, including 2:05 of training." in text()
    assert "200 us per update and 3.0 ms per report" in text()
    assert "Pruned and diverged trials reduce it." in text()
    assert "trained for 60% of their updates. At that rate it takes about 1:25." in text(share=0.6)
    assert "in 4 processes" in text(processes=4)
    assert "Time: nothing is left to train." in text(pace=None)


def test_gaps_are_told_in_the_objectives_units_where_a_spread_is_known():
    assert "5 fresh seeds of each winner would detect: 1.7 sd (3 seeds 3.3 sd, 10 seeds" in text()
    assert "1.7 sd = 0.0336" in text(spread=0.02)
    assert "1 family against the best one" in text()
    assert "against the tuned constant" in text(tuned=True)
    assert "nothing to be compared with" in text(comparisons=0)
    assert "of each winner would detect: none" not in text(comparisons=0)


def test_json_goes_round_and_knows_what_it_does_not_know():
    made = outlook.as_json(estimate(pace=None, comparisons=0), "valid/loss")
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["time"]["seconds_an_update"] is None
    assert made["gap"]["seeds"]["5"] == {"spreads": None, "value": None}
    assert outlook.as_json(estimate(share=0.6), "valid/loss")["time"]["seconds_if_as_pruned_so_far"] == 85.0
    assert made["disk"] == {"total": 15_300_000, "now": 0}


def test_a_sweep_that_exists_says_what_is_done(capsys):
    row = Row("cosine", "cosine-1", 20, 8, 3, (7, 20, 20), 1500)
    outlook.show(estimate(exists=True, rows=(row,), disk_now=1234), "valid/loss")
    out = capsys.readouterr().out
    assert "resumes a stored sweep, 8 trials are done" in out
    assert "The folder has 1.2 kB now." in out
    assert out.splitlines()[2].split() == ["cosine", "20", "8", "3", "3", "1,500"]


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (310, "310 B"), (4200, "4.2 kB"), (16_900_000, "17 MB"), (2.5e9, "2.5 GB"), (3e13, "30.0 TB")],
)  # fmt: skip
def test_bytes(size, said):
    assert outlook.bytes_text(size) == said
