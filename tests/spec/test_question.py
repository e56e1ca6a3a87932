"""Identity, names and folders of sweeps."""

import pytest

from sweeper.spec.question import differences, digest, find, homes, settle
from sweeper.types import InputError

QUESTION = {"data": {"path": None}, "train": {"steps": 10, "betas": (0.9, 0.99)}}
STORED = {"format": 1, "studies": {}, "trainer": {}}


def begin(root, name, question=QUESTION):
    home = settle(root, name, question, fresh=False)
    home.path.mkdir(parents=True)
    home.write({**STORED, "question": {**question, "train": {"steps": 10, "betas": [0.9, 0.99]}}})
    return home


def test_digest_does_not_see_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": (1, 2)}) == digest({"a": [1, 2]})


def test_the_same_question_continues_and_writes_nothing(tmp_path):
    home = begin(tmp_path, "one")
    before = sorted(tmp_path.rglob("*"))
    assert settle(tmp_path, "one", QUESTION, fresh=False) == home
    assert sorted(tmp_path.rglob("*")) == before


def test_another_question_is_refused_with_the_difference(tmp_path):
    begin(tmp_path, "one")
    other = {**QUESTION, "train": {"steps": 20, "betas": (0.9, 0.99)}}
    with pytest.raises(InputError, match=r"name=one: .*train.steps: 10 there, 20 here.*fresh=true"):
        settle(tmp_path, "one", other, fresh=False)


def test_fresh_starts_lie_beside_and_the_newest_is_continued(tmp_path):
    first = begin(tmp_path, "one")
    second = settle(tmp_path, "one", QUESTION, fresh=True)
    assert second.name == "one.2"
    second.path.mkdir()
    second.write({**STORED, "question": {**QUESTION, "train": {"steps": 10, "betas": [0.9, 0.99]}}})
    assert settle(tmp_path, "one", QUESTION, fresh=False) == second
    assert settle(tmp_path, "one", QUESTION, fresh=True).name == "one.3"
    assert settle(tmp_path, "one.2", QUESTION, fresh=True).name == "one.3"
    assert find(tmp_path, "one") == second
    assert find(tmp_path, str(first.path)) == first


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b"])
def test_names_are_folder_names(tmp_path, name):
    with pytest.raises(InputError, match="not a folder name"):
        settle(tmp_path, name, QUESTION, fresh=False)


def test_find_names_what_there_is(tmp_path):
    with pytest.raises(InputError, match="no sweep in"):
        find(tmp_path, None)
    begin(tmp_path, "one")
    begin(tmp_path, "two")
    assert {home.name for home in homes(tmp_path)} == {"one", "two"}
    with pytest.raises(InputError, match=r"There are: .*one"):
        find(tmp_path, "three")


def test_differences_name_leaves_on_either_side():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": None}) == [
        "a.b: 1 there, 3 here",
        "c: 2 there, nothing here",
        "d: nothing there, None here",
    ]
    assert differences({"a": (1, 2)}, {"a": [1, 2]}) == []
