"""The config files that the command line and Python choose from."""

from pathlib import Path

import pytest

from sweeper import conf
from sweeper.spec import config_files
from sweeper.types import InputError

CONF = Path(conf.__path__[0])


@pytest.fixture
def own(tmp_path):
    schedule = tmp_path / "schedule"
    schedule.mkdir()
    (schedule / "mine.yaml").write_text("# mine\nmine:\n  factor: cosine\n")
    (schedule / "list.yaml").write_text("defaults: [mine]\n")
    (schedule / "range_test.yaml").write_text("range_test:\n  factor: range_test\n")
    return tmp_path


def test_families_are_files_with_their_own_key(own):
    assert config_files.families([own]) == ["mine"]
    assert "mine" in config_files.choices("schedule", [own])
    assert "mine" not in config_files.choices("schedule")


def test_the_groups_are_the_folders():
    assert config_files.groups() == sorted(
        ["data", "experiment", "model", "optimizer", "pruner", "schedule", "search", "tracking", "trainer"]
    )
    assert len(config_files.keys()) == len(set(config_files.keys()))


def test_a_choice_is_a_file(own):
    assert config_files.find("schedule", "mine", [own]) == own / "schedule" / "mine.yaml"
    assert config_files.find("schedule", "range_test", [own]).parent.parent == CONF  # as Hydra searches
    with pytest.raises(InputError, match=r"^schedule=mime: no such choice\. Did you mean mine\?"):
        config_files.find("schedule", "mime", [own])
    with pytest.raises(InputError, match="no such choice"):
        config_files.find("schedule", "../config")
