"""Claims put to the test: the word that follows from an interval, the values behind it, and the page."""

import importlib
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sweeper.results.assembling import verdict_of

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAN = math.nan


@pytest.fixture(scope="module")
def contrasts():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("contrasts")
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("low", "high", "minimum", "word"),
    [
        (1.1, 3.0, 1.0, "supported"),
        (0.1, 0.9, 1.0, "refuted on this task"),  # there is a difference, but too small a one
        (-3.0, -1.0, 1.0, "refuted on this task"),
        (-3.0, 3.0, 1.0, "undecided"),
        (1.0, 3.0, 1.0, "undecided"),
        (-3.0, 1.0, 1.0, "undecided"),
        (-math.inf, math.inf, 0.0, "undecided"),
    ],
)
def test_the_word_follows_from_the_interval(contrasts, low, high, minimum, word):
    assert contrasts.word_of(low, high, minimum) == word


DIFFERENCES = {  # measure: the favored arm, the other, the differences
    "loss": ([0.9, 1.8, NAN], [1.0, 2.0, 3.0], [5.0, 10.0, NAN]),  # in % of 2, the other's mean
    "accuracy": ([0.9, 0.7], [0.8, 0.75], [10.0, -5.0]),
    "largest_lr": ([0.4, 0.1, 0.2], [0.1, 0.2, 0.2], [2.0, -1.0, 0.0]),
}


@pytest.mark.parametrize("measure", DIFFERENCES)
def test_differences_are_positive_in_favor_of_the_claim(contrasts, measure):
    favored, other, expected = map(np.array, DIFFERENCES[measure])
    np.testing.assert_allclose(contrasts.differences(measure, favored, other), expected)
    assert set(DIFFERENCES) == set(contrasts.UNITS)


def test_a_contrast_is_the_paired_t_test_on_the_seeds_at_which_both_ended(contrasts):
    favored, other = np.array([1.0, 2.0, 3.0, 5.0, NAN]) / 100, np.array([0.0, 0.0, 0.0, 0.0, 0.0])
    found = contrasts.contrast("accuracy", (favored, other), 0.5, level=0.05)
    assert (found.seeds, found.lost) == (4, 1)
    assert found.mean == pytest.approx(2.75)
    half = 3.182446 * math.sqrt((1.75**2 + 0.75**2 + 0.25**2 + 2.25**2) / 3) / 2  # t of 3 degrees of freedom
    assert (found.low, found.high) == pytest.approx((2.75 - half, 2.75 + half), abs=1e-5)
    assert found.word == "undecided"
    assert found.arms == pytest.approx((2.75, 0.0))


def test_a_model_learns_if_it_keeps_half_of_the_best_gain(contrasts):
    loss_AGS = np.array([[[1.0, 1.0], [0.5, 0.3]], [[NAN, 0.1], [2.0, 2.0]]])  # no skill 2: means 1, .4, 1.05, 2
    assert contrasts.learns_below(loss_AGS, 2.0) == pytest.approx(2.0 - 0.5 * 1.6)


def test_the_largest_lr_is_the_last_that_learns_at_each_seed(contrasts):
    lr_G = np.array([0.1, 0.2, 0.4])
    loss_GS = np.array([[0.1, 0.1, 9.0], [0.1, NAN, 9.0], [0.5, 0.1, NAN]])
    np.testing.assert_allclose(contrasts.largest_lrs(lr_G, loss_GS, 0.4), [0.2, 0.4, 0.05])


def test_an_arms_values_are_those_of_its_best_configuration(contrasts, build_confirmation):
    tested = {"beside": lambda family, place, value: {"test": {"test/accuracy": 1 - value / 10}}}
    verdict = verdict_of(build_confirmation({"cosine": 1.0, "linear": 2.0}, noise=0.0, seeds=8, **tested))
    values = contrasts.values_of(verdict, "loss")
    np.testing.assert_allclose(values[:8], 1.0)
    assert np.isnan(values[8:]).all()
    np.testing.assert_allclose(contrasts.values_of(verdict, "accuracy")[:8], 0.9)


def test_each_claim_is_in_the_words_of_its_document():
    written = yaml.safe_load((BENCHMARKS / "claims.yaml").read_text(encoding="utf-8"))
    assert len(written["claims"]) == 4
    assert len(written["tasks"]) == 2
    for claim in written["claims"].values():
        assert {
            "title",
            "source",
            "document",
            "contrast",
            "measure",
            "minimum",
            "seeds",
            "both",
            "arms",
        } == claim.keys()
        assert len(claim["arms"]) == 2


def rows_of(page):
    """The claims' rows of a page: minimum, interval, word."""
    for section in re.split(r"^## ", page, flags=re.M)[1:]:
        found = re.search(r"It must exceed (\S+) ", section)
        if found is None:
            continue
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            interval = re.fullmatch(r"(\S+) to (\S+)", cells[-2]) if len(cells) == 7 else None
            if interval:
                yield float(found[1]), float(interval[1]), float(interval[2]), cells[-1].strip("*")


def follow_from_their_intervals(contrasts, page):
    rows = list(rows_of(page))
    assert len(rows) == 8
    close = [row for row in rows if min(abs(end - row[0]) for end in row[1:3]) < 0.006]  # two decimals are shown
    for minimum, low, high, word in rows:
        if (minimum, low, high, word) not in close:
            assert word == contrasts.word_of(low, high, minimum)
    assert sum(line.count(word) for line in page.splitlines() if line.startswith("| [") for word in (
        "supported", "refuted on this task", "undecided")) == 8  # fmt: skip


def test_the_words_of_the_page_follow_from_its_intervals(contrasts):
    page = (BENCHMARKS.parent / "docs" / "guide" / "claims.md").read_text(encoding="utf-8")
    follow_from_their_intervals(contrasts, page)
    assert "| training, tenth epoch | 1.05" in page
    assert "0 of 400" in page


@pytest.mark.slow
def test_a_tiny_run_writes_such_a_page(contrasts, tmp_path):
    claims = importlib.import_module("claims")
    assert claims.main(["--tiny", "--workers", "2", "--page", str(tmp_path / "page.md")]) == 0
    follow_from_their_intervals(contrasts, (tmp_path / "page.md").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_staircase_never_ends_lower(contrasts):
    found = importlib.import_module("claims").train_staircase(16)
    assert found.seeds == 16
    for loss, difference in ((found.train, 0.0192), (found.valid, 0.0214)):  # over 400 seeds
        assert loss.lower == 0
        assert loss.difference[0] == pytest.approx(difference, abs=0.006)  # three standard errors are 0.003 to 0.004
