"""Draw how often the lowest value of a search is the best configuration, and what a confirmation says instead.

    python benchmarks/trust.py [--runs 1000]

One of eight configurations is better than the other seven, which are equal. Values are those of `calibration.py`, and a
confirmation is judged by the product's own code. Writes docs/guide/images/trust.png and prints the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from calibration import Scenario, count

GAPS = (0.25, 0.5, 1.0, 2.0)  # by which the best is better, in standard deviations of a difference at equal seeds
PICTURE = Path(__file__).parent.parent / "docs" / "guide" / "images" / "trust.png"
COLORS = {"right": "#2a7f62", "no winner": "#d9d9d9", "wrong": "#b23a48"}


def shares_of(gap: float, runs: int) -> dict[str, dict[str, float]]:
    """Return how often the best is named, none is, or another one: by one seed each, and by a confirmation."""
    scenario = Scenario((0.0,) * 7 + (-gap,))
    rng = np.random.default_rng(1)
    lowest = [int(np.argmin(scenario.draw(rng).value_KS[:, 0])) for _ in range(runs)]
    right = float(np.mean(np.array(lowest) == 7))
    counts = count(scenario, runs)
    found, wrong = float(counts.found.mean()), float(counts.wrong.mean())
    return {
        "lowest of one seed each": {"right": right, "no winner": 0.0, "wrong": 1 - right},
        "confirmation": {"right": found, "no winner": 1 - found - wrong, "wrong": wrong},
    }


def draw(table: Sequence[tuple[float, dict[str, dict[str, float]]]]) -> None:
    """Draw a pair of bars for each gap."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    labels, place = [], 0.0
    for gap, methods in table:
        for method, shares in methods.items():
            left = 0.0
            for answer, share in shares.items():
                axes.barh(place, share, left=left, color=COLORS[answer], height=0.8)
                if share >= 0.06:
                    text = "white" if answer != "no winner" else "black"
                    axes.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", color=text, fontsize=8)
                left += share
            labels.append((place, f"{gap:g} sd better: {method}"))
            place += 1
        place += 0.5
    axes.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in COLORS.values()]
    names = ["names the best", "names no winner", "names a wrong one"]
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.4, -0.02), ncols=3, frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="runs of each bar")
    runs = parser.parse_args().runs
    table = [(gap, shares_of(gap, runs)) for gap in GAPS]
    draw(table)
    for gap, methods in table:
        for method, shares in methods.items():
            print(f"{gap:g} sd, {method}: " + ", ".join(f"{answer} {share:.3f}" for answer, share in shares.items()))


if __name__ == "__main__":
    main()
