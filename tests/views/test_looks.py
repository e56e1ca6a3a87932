"""No two studies of a sweep look alike, and none depends on color alone."""

from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from sweeper import conf
from sweeper.text.colors import KIN, kin_of
from sweeper.views.looks import look, looks, numbered

FILES = Path(conf.__path__[0], "schedule").glob("*.yaml")
CATALOG = sorted({name for path in FILES for name in (yaml.safe_load(path.read_text()) or {}) if name != "defaults"})
OWN = [f"mine_{number}" for number in range(40)]  # more than there are colors and dashes

SWEEPS = {
    "the catalog": {name: name for name in CATALOG},
    "families of a user": {name: name for name in OWN},
    "both": {name: name for name in [*CATALOG, *OWN]},
    "several studies of a family": {f"cosine-{number}": "cosine" for number in range(12)},
    "kin, and a study more": {"cosine-1": "cosine", "cosine-2": "cosine", "cosine_power-1": "cosine_power"},
}


@pytest.mark.parametrize("families", SWEEPS.values(), ids=SWEEPS)
def test_dashes_and_markers_tell_studies_of_a_color_apart(families):
    by_color = defaultdict(list)
    for found in looks(families).values():
        by_color[found.color].append((found.dash, found.marker))
    for shapes in by_color.values():
        assert len(set(shapes)) == len(shapes)
        if len(shapes) <= 8:  # then each alone tells them apart
            assert all(a[0] != b[0] and a[1] != b[1] for a, b in combinations(shapes, 2))


def test_every_family_of_the_catalog_has_a_color():
    assert {name for _, names in KIN for name in names} <= {*CATALOG, "knots", "range_test", "wall_time"}
    assert [name for name in CATALOG if kin_of(name)[1] < 0] == []


@pytest.mark.parametrize("family", CATALOG)
def test_a_family_of_the_catalog_looks_the_same_in_every_sweep(family):
    with_others = {**SWEEPS["both"], "zz": "zz"}
    assert looks({family: family})[family] == look(family) == looks(with_others)[family]


def test_trials_of_one_study_differ_in_color_dashes_and_marker():
    shapes = numbered(5)
    for part in ("color", "dash", "marker"):
        assert len({str(getattr(one, part)) for one in shapes}) == 5
