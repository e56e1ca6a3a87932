"""What a sweep would try, before anything is trained: candidates, extremes, pictures, the table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sweeper.forecast import gallery
from sweeper.forecast.preview import as_json, preview_family
from sweeper.schedules import family
from sweeper.types import InputError
from sweeper.views import figures

COSINE = {
    "factor": "cosine",
    "peak_lr": {"low": 1e-3, "high": 1.0, "log": True},
    "warmup": {"choice": [0, 0.1]},
    "decay": {"low": 1e-3, "high": 0.3, "log": True},
}
FREE = {
    "factor": "sgdr",
    "peak_lr": 0.1,
    "warmup": 0,
    "decay": 1.0,
    "cycle": {"low": 0.05, "high": 1.0, "log": True},
    "cycle_mult": 1,
    "end_factor": 0,
    "cycle_fit": "free",
}


def test_free_cycles_end_high_and_fitted_ones_do_not():
    high = {
        fit: preview_family(family("sgdr", {**FREE, "cycle_fit": fit}), 400).ends_high for fit in ("free", "fitted")
    }
    assert high["fitted"] == 0
    assert 0.7 < high["free"] < 0.95  # 82 % at these cycle lengths, measured apart


def test_a_reactive_family_is_drawn_with_its_multiplier_at_1_and_says_so():
    plateau = {**COSINE, "factor": "constant", "controller": "plateau", "decay": {"low": 0.1, "high": 0.5}}
    shown = [preview_family(family("plateau", plateau), 100), preview_family(family("cosine", COSINE), 100)]
    assert (shown[0].lr_LS[:, -1] == shown[0].lr_LS.max(axis=1)).all()
    assert [one["controller"] for one in as_json(shown)] == ["plateau", None]
    told = " ".join(" ".join(text for text, _ in line) for line in gallery.render(shown, width=100))
    assert "plateau: drawn with its multiplier at 1." in told
    assert "cosine: drawn" not in told


def test_a_preview_is_the_same_again_and_another_with_another_seed():
    first, again, other = (preview_family(family("cosine", COSINE), 100, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.lr_LS, again.lr_LS)
    assert not np.array_equal(first.lr_LS, other.lr_LS)


def test_the_verb_writes_its_pictures_and_nothing_else(sweeper, tmp_path):
    code, out, _ = sweeper("preview", "schedule=[cosine,step]", "--json", "--out", str(tmp_path / "pictures"))
    assert code == 0
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"pictures/preview.png", "pictures/preview.svg"}
    assert (tmp_path / "pictures/preview.png").read_bytes().startswith(b"\x89PNG")
    rows = {row["family"]: row for row in json.loads(out)["families"]}
    assert list(rows) == ["cosine", "step"]


def test_a_wrong_name_of_a_picture_is_told():
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        figures.picture_paths("preview.gif", "preview")


def test_candidates_lie_in_the_ranges_and_the_extremes_are_its_ends():
    seen = preview_family(family("cosine", COSINE), 100)
    assert seen.candidates == 300
    assert np.asarray(seen.lr_LS).max(axis=1).min() >= 1e-3
    assert np.asarray(seen.lr_LS).max() <= seen.largest_lr == 1
    ends = {(one.name, one.end): one.value for one in seen.extremes}
    assert (ends["peak_lr", "low"], ends["peak_lr", "high"]) == (1e-3, 1.0)
