"""Learning-rate schedules: factors, families, their traces, and facts about them. Pure NumPy."""

from sweeper.schedules.facts import ENDS_HIGH, cycles_run, height_at_end, height_of
from sweeper.schedules.families import FACTORS, family
from sweeper.schedules.reactive import controller_of, watched_metrics
from sweeper.schedules.space import by_spelling, dimension, to_plain
from sweeper.schedules.ticks import fit_to_run
from sweeper.schedules.trace import lr_trace, lr_traces, momentum_trace

__all__ = [
    "ENDS_HIGH",
    "FACTORS",
    "by_spelling",
    "controller_of",
    "cycles_run",
    "dimension",
    "family",
    "fit_to_run",
    "height_at_end",
    "height_of",
    "lr_trace",
    "lr_traces",
    "momentum_trace",
    "to_plain",
    "watched_metrics",
]
