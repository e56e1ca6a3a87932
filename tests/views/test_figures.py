"""What the figures of a sweep show."""

from datetime import datetime
from types import SimpleNamespace

from matplotlib.figure import Figure

from sweeper.types import Record
from sweeper.views import panels


def trial(study, number, **others):
    params, now = {"peak_lr": 0.1}, datetime(2026, 1, 1)
    end = {"value": 1.0, "intermediate": (), "steps_done": 9, "diverged_step": None, "reason": "", "seconds": 1.0}
    rest = {"clock": (), "seeds": (0,), "retry_of": None, "started": now, "ended": now}
    return Record(study, "cosine", number, "complete", params, (), **{**end, **rest, **others})


def test_trials_outside_a_changed_space_are_no_line_of_their_own():
    records = [trial("cosine-1", 0, value=0.5, prior_of="cosine-2"), trial("cosine-2", 0), trial("cosine-2", 1)]
    objective = {"metric": "valid/loss", "direction": "minimize"}
    axes = Figure().add_subplot()
    panels.draw_best_so_far(axes, SimpleNamespace(name="s", objective=objective, records=records))
    assert [line.get_label() for line in axes.lines] == ["cosine  1.0000"]
