"""The color of each family, the same in all figures and in MLflow."""

from __future__ import annotations

from sweeper.types import seed_of

# Okabe and Ito's colors and three of Paul Tol's, distinct in any color vision. Related families share a color.
KIN = (
    ("#0072b2", ("cosine", "cosine_exponent", "cosine_power", "k_decay")),
    ("#e69f00", ("linear", "polynomial", "rex", "hyperbolic")),
    ("#009e73", ("exponential", "inverse_time", "power", "tanh")),
    ("#d55e00", ("step", "multistep", "swa_tail", "knots")),
    ("#cc79a7", ("wsd", "wsd_1-sqrt", "power_wsd")),
    ("#56b4e9", ("sgdr", "sawtooth", "cycle_warmup_cosine", "cosine_waves")),
    ("#882255", ("onecycle", "stlr", "noam")),
    ("#999933", ("clr", "clr_exp_range", "range_test")),
    ("#117733", ("plateau", "plateau_keras", "greedy", "wall_time")),
    ("#222222", ("constant", "default_lr")),
)


def kin_of(family: str) -> tuple[str, int]:
    """Return the color of a family and its place among the families of that color.

    A custom family has a color by the hash of its name, and the place -1.
    """
    for color, names in KIN:
        if family in names:
            return color, names.index(family)
    return KIN[seed_of(family) % len(KIN)][0], -1
