"""A spool with damaged or missing lines: what is left of it is right, and what is lost is counted."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.tracking.clock import first_step
from sweeper.tracking.events import EVENTS, lines, parse, rounds
from sweeper.tracking.facts import read_facts
from sweeper.tracking.mlflow.rows import RunKey, Translation
from sweeper.tracking.small_files import read_object, replace_object
from sweeper.tracking.spool import Loss, Spool, find_loss, publish_again, published_bytes, published_round
from sweeper.tracking.traces import OPEN, read_trace, write_parquet
from sweeper.types import TrialId


@pytest.fixture(scope="module")
def intact(tmp_path_factory, played):
    """Return the folder of a sweep with two studies of five trials, every kind of ending, two members each."""
    folder = tmp_path_factory.mktemp("intact")
    tracker = Spool(folder / "spool", 0)
    for _ in played(tracker, trials=5, members=2):
        pass
    tracker.finish()
    return folder


def content(folder):
    return list(lines(folder / "spool" / EVENTS))


def copy(intact, folder, changed):
    """Return a folder with these lines."""
    (folder / "spool").mkdir(parents=True, exist_ok=True)
    (folder / "spool" / EVENTS).write_bytes(b"".join(changed))
    return folder


REPORT = b'{"e":"report","study":"cosine","trial":0,'


def flipped(line):
    return line[: len(line) // 2] + bytes([line[len(line) // 2] ^ 0x01]) + line[len(line) // 2 + 1 :]


DAMAGE = {
    "flipped": flipped,
    "cut out": lambda line: b"",
    "not JSON": lambda line: b"\xff\xfe\n",
    "other JSON": lambda line: b'{"e":"report"}\n',
    "no event": lambda line: b"[1]\n",
    "unknown": lambda line: b'{"e":"hello","study":"cosine","t":1}\n',
}


def test_intact_lines_are_events_and_nothing_is_lost(intact):
    assert all(parse(line) is not None for line in content(intact))
    assert find_loss(intact / "spool", published_round(intact / "spool")) == Loss(0, 0)
    assert not Loss(0, 0)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_takes_its_trial_and_no_other(intact, tmp_path, damage):
    """Lines of cosine:1, which was pruned after three reports of two members, and of the study, one after another."""
    whole, last = content(intact), published_round(intact / "spool")
    facts = read_facts(intact / "spool")
    events = [parse(line) for line in whole]
    of_trial = [k for k, event in enumerate(events) if (event.get("study"), event.get("trial")) == ("cosine", 1)]
    others = [k for k, event in enumerate(events) if event["e"] in ("describe", "mark")][:3]
    assert len(of_trial) == 1 + 3 * 2 + 1
    for number in [*of_trial, *others]:
        changed = [*whole[:number], DAMAGE[damage](whole[number]), *whole[number + 1 :]]
        folder = copy(intact, tmp_path, changed)
        lost = {TrialId("cosine", 1)} if number in of_trial else set()
        assert read_facts(folder / "spool") == {id: facts[id] for id in facts.keys() - lost}
        for id in facts:
            if id in lost and number != of_trial[-1]:  # its end has no traces
                with pytest.raises(KeyError):
                    read_trace(folder, id.study, id.trial, 1)
            else:
                assert read_trace(folder, id.study, id.trial, 1).equals(read_trace(intact, id.study, id.trial, 1))
        loss = find_loss(folder / "spool", last)
        is_mark = events[number]["e"] == "mark"
        assert loss == Loss(int(is_mark), int(damage != "cut out"))
        translation = Translation()
        for of_round, _ in rounds(folder / "spool" / EVENTS):
            translation.add_events(of_round)
        translation.pop_rows()
        missing = {RunKey("cosine", 1)} if number == of_trial[0] else set()
        assert {RunKey(*id) for id in facts} - translation.runs.keys() == missing


def test_a_run_whose_reports_are_damaged_still_gets_its_end_but_no_facts(intact, tmp_path):
    whole = content(intact)
    report = next(k for k, line in enumerate(whole) if line.startswith(REPORT))
    folder = copy(intact, tmp_path, [*whole[:report], *whole[report + 1 :]])
    translation = Translation()
    for events, _ in rounds(folder / "spool" / EVENTS):
        translation.add_events(events)
    (rows,) = [rows for rows in translation.pop_rows() if rows.key == RunKey("cosine", 0)]
    assert (rows.status, rows.tags["trial.state"]) == ("FINISHED", "complete")
    values = {metric.key: metric.value for metric in rows.metrics}
    assert values["objective"] == 0.5
    assert "lr_auc" not in values


def rewrite_as_earlier_version(path):
    """Give a file of traces a row for each update, from 1, and no metadata about steps."""
    jobs = []
    for (trial, member), job in pq.read_table(path).to_pandas().groupby(["trial", "member"]):
        by_step = job.set_index("step").drop(columns=["trial", "member"])
        step = by_step.index[by_step.index > 0]
        values = {name: by_step[name].reindex(step - 1 + first_step(name)).to_numpy() for name in by_step}
        jobs.append(pd.DataFrame({"trial": trial, "member": member, "step": step, **values}))
    old = pa.Table.from_pandas(pd.concat(jobs), preserve_index=False)
    pq.write_table(old.replace_schema_metadata({OPEN: pq.read_schema(path).metadata[OPEN]}), path)


@pytest.mark.parametrize("version", ["this", "earlier"])
def test_traces_that_the_spool_lost_stay_in_their_file(intact, tmp_path, version):
    """Only the second half of the trials is left in the spool; the file has the first half."""
    whole = content(intact)
    folder = copy(intact, tmp_path, whole)
    write_parquet(folder / "spool", folder / "traces")
    before = {id: read_trace(folder, *id, 1) for id in read_facts(folder / "spool")}
    half = next(k for k, line in enumerate(whole) if line.startswith(b'{"e":"open","study":"cosine","trial":2,'))
    for left in (whole[half:], whole[half + 1 :]):  # of the second, cosine:2 has no opening
        if version == "earlier":
            rewrite_as_earlier_version(folder / "traces" / "cosine.parquet")
        copy(intact, tmp_path, left)
        write_parquet(folder / "spool", folder / "traces")
        for id, trace in before.items():
            assert read_trace(folder, *id, 1)[trace.columns].equals(trace)
        table = pq.read_table(folder / "traces" / "cosine.parquet")
        rows = list(
            zip(table["trial"].to_pylist(), table["member"].to_pylist(), table["step"].to_pylist(), strict=True)
        )
        assert len(rows) == len(set(rows))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "folder"])
def test_traces_are_read_from_the_spool_if_their_file_is_damaged(intact, tmp_path, damage):
    folder = copy(intact, tmp_path, content(intact))
    path = write_parquet(folder / "spool", folder / "traces")["cosine"]
    before, data = read_trace(folder, "cosine", 0), path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        middle = len(data) // 2
        changed = data[:middle] + bytes(byte ^ 0x15 for byte in data[middle : middle + 4]) + data[middle + 4 :]
        path.write_bytes({"empty": b"", "cut": data[:middle], "flipped": changed, "other": b"hello"}[damage])
    now = read_trace(folder, "cosine", 0)
    assert now[before.columns].equals(before)


def test_a_spool_of_an_earlier_version_has_no_checksums(intact, tmp_path):
    def line_of(event):
        return json.dumps(event, separators=(",", ":")).encode() + b"\n"

    events = [json.loads(line) for line in content(intact)]
    plain = [line_of({key: value for key, value in event.items() if key != "crc"}) for event in events]
    folder = copy(intact, tmp_path, plain)
    assert read_facts(folder / "spool") == read_facts(intact / "spool")
    report = next(k for k, line in enumerate(plain) if line.startswith(REPORT))
    event = json.loads(plain[report])
    event["traces"]["train/loss"] = event["traces"]["train/loss"][:-3]  # cannot be decoded
    plain[report] = line_of(event)
    folder = copy(intact, tmp_path, plain)
    assert TrialId("cosine", 0) not in read_facts(folder / "spool")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"round":"x","end":null}', None])
def test_what_may_be_sent_is_published_again_if_that_file_was_lost(intact, tmp_path, content):
    folder = copy(intact, tmp_path, list(lines(intact / "spool" / EVENTS))) / "spool"
    path = folder / "published.json"
    path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
    assert (published_round(folder), published_bytes(folder)) == (0, 0)
    if content != b'{"round":"x","end":null}':
        publish_again(folder, 3)
        assert published_round(folder) == 3
        assert 0 < published_bytes(folder) < (folder / EVENTS).stat().st_size


def test_a_flipped_digit_of_a_small_file_is_not_believed(tmp_path):
    path = tmp_path / "published.json"
    replace_object(path, {"round": 7, "end": 100})
    assert read_object(path) == {"round": 7, "end": 100}
    path.write_bytes(path.read_bytes().replace(b"7", b"9", 1))
    assert read_object(path) == {}
    assert read_object(tmp_path) == {}  # a folder
