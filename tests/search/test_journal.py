"""The journal: Optuna's contract for storages, whole rounds after any crash, readable by Optuna itself."""

import json
import os
import pickle
import random

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.testing.pytest_storages import StorageTestCase

from sweeper.search.journal import Journal
from sweeper.types import InputError


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.log"


class TestContract(StorageTestCase):
    """Optuna's own tests of a storage."""

    @pytest.fixture
    def storage(self, path):
        return JournalStorage(Journal(path))


def write_rounds(path, rounds, rng=None):
    """A journal of `rounds` rounds, and its size after each of them."""
    rng = rng or random.Random(0)
    journal = Journal(path)
    storage = JournalStorage(journal)
    study = optuna.create_study(storage=storage, study_name="s", sampler=optuna.samplers.RandomSampler(seed=1))
    marks = optuna.create_study(storage=storage, study_name="rounds")
    sizes = [0]
    for number in range(1, rounds + 1):
        for _ in range(rng.randrange(3)):
            trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
            trial.report(rng.random(), 1)
            if rng.random() < 0.5:
                study.tell(trial, rng.random())
        marks.set_user_attr("round", number)
        journal.commit()
        sizes.append(path.stat().st_size)
    return sizes


def shown(backend):
    """What a storage on this backend holds, without what changes from process to process."""
    storage = JournalStorage(backend)
    return [
        (
            study.study_name,
            study.user_attrs,
            *((t.number, t.state, t.params, t.intermediate_values, t.value) for t in trials),
        )
        for study in storage.get_all_studies()
        for trials in [storage.get_all_trials(study._study_id)]
    ]


def test_cut_at_every_byte_leaves_the_last_whole_round(path, tmp_path):
    sizes = write_rounds(path, 2, random.Random(1))
    whole = path.read_bytes()
    cut = tmp_path / "cut.log"
    for length in range(len(whole) + 1):
        cut.write_bytes(whole[:length])
        kept = max(size for size in sizes if size <= length)
        lines = [json.loads(line) for line in whole[:kept].splitlines()]
        assert list(Journal(cut, read_only=True).read_logs(0)) == lines
        assert cut.read_bytes() == whole[:length], "reading changes nothing"
        if length % 13 == 0 or length in sizes:  # these wait for the disk
            assert list(Journal(cut).read_logs(0)) == lines
            assert cut.read_bytes() == whole[:kept]


@pytest.mark.parametrize("seed", range(20))
def test_garbage_after_the_last_mark_is_dropped(path, seed):
    rng = random.Random(seed)
    sizes = write_rounds(path, 3, rng)
    whole = path.read_bytes()
    tail = whole[sizes[2] : rng.randrange(sizes[2], sizes[3])]  # a part of the last round
    noise = bytes(rng.choice(b'\x00\xff\n{}["a:1,') for _ in range(rng.randrange(200)))
    path.write_bytes(whole[: sizes[2]] + tail + noise + b"\n" * rng.randrange(2))
    Journal(path)
    assert path.read_bytes() == whole[: sizes[2]]


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b'{"op_code":0,"st', b'{"op_code":0,"study_name":"s"}\n', b'{"op_code":0}\nnu\n']
)
def test_a_first_round_without_its_mark_is_dropped(path, content):
    path.write_bytes(content)
    assert list(Journal(path, read_only=True).read_logs(0)) == []
    assert path.read_bytes() == content
    assert list(Journal(path).read_logs(0)) == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize("content", [b"\n\n", b"hello\n", b"null\n1\n[]\n", b"\xff\xfe\n{}\n"])
def test_a_file_that_is_no_journal_is_refused_and_not_changed(path, content):
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(InputError, match="not a journal"):
            Journal(path, read_only=read_only)
    assert path.read_bytes() == content


def test_every_flipped_byte_of_a_round_is_found(path):
    """A flipped byte is refused, unless it only makes the checksum another key."""
    write_rounds(path, 2, random.Random(3))
    intact, complete = path.read_bytes(), list(Journal(path, read_only=True).read_logs(0))
    for place in range(len(intact)):
        path.write_bytes(intact[:place] + bytes([intact[place] ^ 0x11]) + intact[place + 1 :])
        try:
            journal = Journal(path, committed=2, read_only=True)
        except InputError:
            continue
        logs = list(journal.read_logs(0))
        read = [{key: log.get(key) for key in whole if key != "crc"} for log, whole in zip(logs, complete, strict=True)]
        assert read == [{key: log[key] for key in log if key != "crc"} for log in complete], place


def test_a_journal_of_an_earlier_version_has_no_checksums(path):
    write_rounds(path, 2)
    logs = [{key: log[key] for key in log if key != "crc"} for log in Journal(path).read_logs(0)]
    path.write_bytes(b"".join(json.dumps(log).encode() + b"\n" for log in logs))
    assert list(Journal(path, committed=2).read_logs(0)) == logs


def test_a_journal_without_the_committed_rounds_is_refused_and_not_changed(path):
    with pytest.raises(InputError, match="missing"):
        Journal(path, committed=0)
    assert not path.exists()
    sizes = write_rounds(path, 3)
    path.write_bytes(path.read_bytes()[: sizes[2] + 5])
    before = path.read_bytes()
    with pytest.raises(InputError, match="ends with round 2, but 3 were committed"):
        Journal(path, committed=3)
    assert path.read_bytes() == before
    assert Journal(path, committed=2).round == 2


def test_damage_before_a_mark_is_no_crash_and_refused(path):
    write_rounds(path, 3)
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][: len(lines[1]) // 2]
    damaged = b"\n".join(lines)
    path.write_bytes(damaged)
    for read_only in (True, False):
        with pytest.raises(InputError, match="line 2 is damaged"):
            Journal(path, read_only=read_only)
    assert path.read_bytes() == damaged


def test_optunas_own_backend_reads_the_same(path):
    write_rounds(path, 5)
    assert shown(JournalFileBackend(str(path))) == shown(Journal(path)) != []


def test_what_optunas_own_backend_wrote_goes_on_here(path):
    """The same lines: ours continue theirs."""
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))), study_name="s")
    study.add_trial(optuna.create_trial(value=1.5))
    study.set_user_attr("round", 1)
    ours = Journal(path)
    optuna.load_study(study_name="s", storage=JournalStorage(ours)).add_trial(optuna.create_trial(value=2.5))
    JournalStorage(ours).set_study_user_attr(0, "round", 2)
    ours.commit()
    again = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    assert [trial.value for trial in again.trials] == [1.5, 2.5]


def test_nothing_is_written_before_the_commit(path):
    journal = Journal(path)
    study = optuna.create_study(storage=JournalStorage(journal))
    study.ask()
    assert path.read_bytes() == b""
    study.set_user_attr("round", 1)
    journal.commit()
    first = path.read_bytes()
    assert [json.loads(line)["op_code"] for line in first.splitlines()] == [0, 4, 2]
    journal.commit()
    assert path.read_bytes() == first, "nothing is pending any more"


def test_a_commit_that_failed_can_be_repeated(path, monkeypatch):
    write_rounds(path, 1)
    before = path.read_bytes()
    journal = Journal(path)
    JournalStorage(journal).set_study_user_attr(1, "round", 2)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.commit()
    path.write_bytes(path.read_bytes()[:-3])  # what a disk may leave of it
    journal.commit()
    lines = path.read_bytes()[len(before) :].splitlines()
    assert [json.loads(line)["user_attr"] for line in lines] == [{"round": 2}]


def test_what_something_else_appended_does_not_mix_with_our_lines(path):
    write_rounds(path, 1)
    before = path.read_bytes()
    journal = Journal(path)
    with path.open("ab") as file:
        file.write(b'{"op_code":3,"study_id":0,"system_attr":{"dashboard:note":"' + b"n" * 500 + b'"}}\n')
    JournalStorage(journal).set_study_user_attr(1, "round", 2)
    journal.commit()
    assert path.read_bytes() == before + list(journal._lines)[-1] + b"\n"


def test_a_file_that_something_else_shortened_is_not_written_to(path):
    write_rounds(path, 2)
    journal = Journal(path)
    path.write_bytes(path.read_bytes()[:10])
    JournalStorage(journal).set_study_user_attr(1, "round", 3)
    with pytest.raises(OSError, match="something else changed it"):
        journal.commit()


def test_read_only_refuses_to_write_and_a_missing_file(path):
    with pytest.raises(InputError, match="missing"):
        Journal(path, read_only=True)
    assert not path.exists()
    write_rounds(path, 1)
    with pytest.raises(PermissionError):
        Journal(path, read_only=True).append_logs([{"op_code": 2}])


def test_a_new_file_and_each_commit_are_flushed_to_the_disk(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.path.realpath(f"/proc/self/fd/{number}")))
    journal = Journal(path)
    assert synced == [str(path.parent)]
    JournalStorage(journal).create_new_study([optuna.study.StudyDirection.MINIMIZE])
    journal.commit()
    assert synced == [str(path.parent), str(path)]


def test_a_copy_by_pickle_holds_the_pending_lines(path):
    journal = Journal(path)
    optuna.create_study(storage=JournalStorage(journal), study_name="s")
    copy = pickle.loads(pickle.dumps(journal))
    assert list(copy.read_logs(0)) == list(journal.read_logs(0)) != []
