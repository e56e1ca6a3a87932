"""Each file of a sweep's folder, damaged in each way, under each verb: the right results or one sentence."""

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

import sweeper as package
from sweeper import __main__ as command_line
from sweeper.types import InputError

SWEEP = [
    "name=d",
    "data=digits",
    "model=mlp",
    "model.width=4",
    "device=cpu",
    "trainer=sequential",
    "trainer.workers=1",
    "tracking=none",
    "schedule=[constant,linear]",
    "train.steps=24",
    "search.reports=4",
    "search.n_trials=4",
    "search.concurrent_trials=2",
    "keep.best=1",
]
MORE = [*SWEEP[:-3], "search.n_trials=5", *SWEEP[-2:]]


def flip(path):
    """Flip bits of eight bytes, spread over the file."""
    data = bytearray(path.read_bytes())
    for place in {len(data) * part // 9 for part in range(1, 9)} & {*range(len(data))}:
        data[place] ^= 0x15
    path.write_bytes(data)


def put_folder_in_its_place(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "not text": lambda path: path.write_bytes(bytes(range(128, 256)) * 4 + b"\n\xff\xfe\n"),
    "other text": lambda path: path.write_text("hello\nworld: [\n"),
    "flipped": flip,
    "folder": put_folder_in_its_place,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the working folders of a finished sweep and of one that was interrupted in its sixth round."""
    folder = tmp_path_factory.mktemp("damage")

    def stop(module, inputs):
        journals = Path("sweeps").glob("*/journal.log")
        if any(path.read_bytes().count(b'"user_attr":{"round":') >= 5 for path in journals):
            hook.remove()
            signal.raise_signal(signal.SIGINT)

    for kind, expected in (("finished", 0), ("stopped", 130)):
        (folder / kind).mkdir()
        with contextlib.chdir(folder / kind), pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["sweeper", *SWEEP])
            hook = register_module_forward_pre_hook(stop) if kind == "stopped" else None
            assert command_line.main() == expected
    return folder


def files_of(folder):
    return sorted(path.relative_to(folder) for path in (folder / "sweeps").rglob("*") if path.is_file())


def damaged(base, kind, place, file, damage):
    """Return a copy of a working folder with one damaged file."""
    folder = place / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / kind, folder)
    if file is not None:
        DAMAGE[damage](folder / file)
    return folder


def results(out):
    """Return what the table says of each family, without the facts that come from traces."""
    return [
        (row["family"], row["rank"], row["trials"], row["best"] and (row["best"]["trial"], row["best"]["value"]))
        for row in json.loads(out)["families"]
    ]


def reading(folder):
    """Return what Python reads of a sweep. Each part is its value, or the sentence why there is none."""

    def attempt(part):
        try:
            return part()
        except InputError as error:
            return f"{error.key}: {error.problem}"

    try:
        sweep = package.load("d", root=folder / "sweeps")
        best = sweep.best
    except InputError as error:
        return {"refused": str(error)}
    return {
        "refused": "",
        "trials": sweep.trials[["study", "trial", "state", "value", "peak_lr"]].to_csv(),
        "best": (best["study"], best["trial"], best["value"]),
        "finished": sweep.finished,
        "trace": attempt(lambda: sweep.trace(best)["train/loss"].dropna().tolist()),
        "lr": attempt(lambda: sweep.lr(best).tolist()),
        "weights": attempt(lambda: {name: value.tolist() for name, value in sweep.weights(best).items()}),
    }


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["finished", "stopped"])
def test_python_reads_the_right_results_or_says_why_not(base, tmp_path, kind, damage):
    right, refused, without = reading(base / kind), set(), set()
    for file in files_of(base / kind):
        now = reading(damaged(base, kind, tmp_path, file, damage))
        if now["refused"]:
            refused.add(file.name)
            continue
        for part, value in now.items():
            if value != right[part]:
                assert isinstance(value, str), (file, part)
                without.add((part, file.suffix))
    assert refused == {"config.yaml", "journal.log"}
    assert without <= {("trace", ".jsonl"), ("weights", ".pt"), ("weights", ".json")}
    assert ("weights", ".pt") in without


def test_another_model_does_not_take_over_the_trials_of_a_sweep_without_its_configuration(base, sweeper, tmp_path):
    folder = damaged(base, "finished", tmp_path, Path("sweeps/d/config.yaml"), "missing")
    os.chdir(folder)
    before = {path: path.read_bytes() for path in Path("sweeps").rglob("*") if path.is_file()}
    for words in (SWEEP, [*SWEEP, "model.width=5"], ["plan", *SWEEP], ["status"], ["status", "d"], ["sync", "d"]):
        code, _, err = sweeper(*words)
        assert code == 2 or words[0] == "sync", words
        assert "config=sweeps/d/config.yaml: missing, so the model and data" in err or words[0] == "sync"
    assert {path: path.read_bytes() for path in Path("sweeps").rglob("*") if path.is_file()} == before
    assert sweeper(*SWEEP, "fresh=true", "search.timeout=1e-9")[0] == 0
    assert Path("sweeps/d.2/config.yaml").exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_sweep_resumes_without_its_spool_and_says_what_is_lost(base, sweeper, tmp_path, damage):
    """Results are those of the undamaged sweep, and traces that were written before stay."""
    whole = package.load("d", root=base / "finished" / "sweeps")
    os.chdir(damaged(base, "finished", tmp_path, Path("sweeps/d/spool/events.jsonl"), damage))
    code, out, err = sweeper(*MORE)
    assert code == 0, err
    assert "Missing or damaged in spool/events.jsonl: " in out
    assert "The tables are complete" in out
    code, out, err = sweeper("sync", "d")
    assert code == 0
    assert "What a tracker does not have of them cannot be sent any more" in err
    now = package.load("d")
    for number in range(4):
        assert now.record("linear", number).value == whole.record("linear", number).value
        assert now.trace("linear", number).equals(whole.trace("linear", number))
    assert now.trace("linear", 4)["train/loss"][1:].notna().all()
    assert sweeper(*MORE)[0] == 0
    assert package.load("d").trace("linear", 0).equals(whole.trace("linear", 0))


@pytest.mark.parametrize("tensor", range(3))
def test_a_flipped_checkpoint_is_not_believed(base, sweeper, tmp_path, tensor):
    """The trials are trained again from the last committed report, with the results of the undamaged sweep."""
    os.chdir(damaged(base, "stopped", tmp_path, None, ""))
    (file,) = Path("sweeps/d/checkpoint").rglob("*.pt")
    values = torch._C.PyTorchFileReader(str(file)).get_record(f"data/{tensor}")  # as torch.load finds them
    data = bytearray(file.read_bytes())
    start = data.index(values)
    for place in range(start, start + 4):
        data[place] ^= 0x01  # the lowest bits of a weight's bytes
    file.write_bytes(data)
    assert torch.load(file, weights_only=True).keys()  # torch believes it
    code, _, err = sweeper(*SWEEP)
    assert code == 0, err
    assert f"cannot be read (the checksum of archive/data/{tensor} differs)" in Path("sweeps/d/log.txt").read_text()
    right = package.load("d", root=base / "finished" / "sweeps").trials
    now = package.load("d").trials
    assert now["value"].tolist() == right["value"].tolist()


VERBS = {
    "status": ["status", "d", "--json"],
    "table": ["status", "d"],
    "watch": ["status", "d", "--watch"],
    "again": SWEEP,
    "more": MORE,
    "rerun": ["rerun", "d", "--trial", "linear:0"],
    "sync": ["sync", "d"],
    "plan": ["plan", *SWEEP],
    "retry": ["retry", "d"],
    "unlock": ["unlock", "d"],
    "ui": ["ui", "d"],
}
NEED_NO_CONFIG = {"sync", "retry", "unlock"}  # they work beside a damaged one and leave it so


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["finished", "stopped"])
def test_every_verb_gives_the_right_results_or_one_sentence(base, sweeper, tmp_path, kind, damage, verb):
    os.chdir(damaged(base, kind, tmp_path, None, ""))
    right_code, _, _ = sweeper(*VERBS[verb])
    right = results(sweeper("status", "d", "--json")[1])
    for file in files_of(base / kind):
        os.chdir(damaged(base, kind, tmp_path, file, damage))
        code, _, err = sweeper(*VERBS[verb])  # an exception fails the test
        assert code in {right_code, 1, 2}, (file, err)
        if code == 0:
            code, out, err = sweeper("status", "d", "--json")
            if code == 0:
                assert results(out) == right, file
                continue
            assert verb in NEED_NO_CONFIG, file
        assert err.splitlines()[-1].startswith("sweeper: "), (file, err)
        assert "Traceback" not in err
