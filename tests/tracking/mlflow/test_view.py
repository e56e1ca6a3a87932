"""The pages: their addresses, and MLflow's server that shows runs and files while a sweep is being sent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from sweeper.tracking import trackers
from sweeper.tracking.mlflow import sender, view
from sweeper.tracking.mlflow.destination import Destination
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.tracking.small_files import replace_object
from sweeper.types import InputError, TrackedSweep

ID = "abcdef0123456789abcdef0123456789"


def test_the_address_opens_the_charts():
    address = view.charts_url("http://127.0.0.1:5000/", "12")
    page, charts = "http://127.0.0.1:5000/#/experiments/12/runs", "workflowType=machine_learning&compareRunsMode=CHART"
    assert address == f"{page}?orderByKey=metrics.%60objective%60&{charts}"
    assert view.charts_url("http://127.0.0.1:5000", "12", "families") == f"{page}?viewStateShareKey=families&{charts}"


def test_the_saved_views_are_named_families_first(tmp_path, capsys):
    destination = Destination("http://far:5000", "x", ID, named=True)
    sender.store_destination(tmp_path, destination)
    known = {"experiment_id": "7", "views": {"families": "families-abcdef", "trials": "trials-abcdef"}}
    replace_object(tmp_path / "sent.json", {destination.display_uri: known})
    assert view.ui(tmp_path) == 0
    families, trials, plain = capsys.readouterr().out.splitlines()
    assert families == view.charts_url("http://far:5000", "7", "families-abcdef")
    assert trials == f"All trials: {view.charts_url('http://far:5000', '7', 'trials-abcdef')}"
    assert plain == f"Plain charts, if these pages stay empty: {view.charts_url('http://far:5000', '7')}"


def test_a_port_that_is_taken_is_passed_over():
    with socket.socket() as taken:
        taken.bind((view.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert view.free_port(port) > port


def test_a_sweep_that_is_not_sent_yet_has_no_page(tmp_path):
    sender.store_destination(tmp_path, Destination("http://far:5000", "x", ID))
    with pytest.raises(InputError, match="python -m sweeper sync"):
        view.ui(tmp_path)


def test_a_database_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no such database"), view.serve(f"sqlite:///{tmp_path / 'no.db'}"):
        pass


def test_a_sweep_on_a_server_needs_none_of_its_own(tmp_path, capsys):
    destination = Destination("http://far:5000", "x", ID)
    sender.store_destination(tmp_path, destination)
    replace_object(tmp_path / "sent.json", {destination.display_uri: {"experiment_id": "7"}})
    assert view.ui(tmp_path) == 0
    assert capsys.readouterr().out.strip() == view.charts_url("http://far:5000", "7")


# --- with MLflow ------------------------------------------------------------------------------------


def ask(base, path, body=None):
    request = urllib.request.Request(
        f"{base}/{path}", None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def runs(base, experiment):
    body = {"experiment_ids": [experiment], "max_results": 1000}
    return json.loads(ask(base, "api/2.0/mlflow/runs/search", body)).get("runs", [])


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory, played):
    """As a sweep leaves it: mlflow.db, mlartifacts and a spool in the working folder."""
    folder = tmp_path_factory.mktemp("working folder")  # with a space
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        sweep = TrackedSweep(folder / "sweeps" / "x", "x", ID, 0)
        tracker = trackers.start(sweep, MLflow(f"sqlite:///{folder / 'mlflow.db'}", flush_seconds=120))
        last = list(played(tracker, trials=2))[-1]
        (folder / "sweeps" / "x" / "table.txt").write_text("a table")
        tracker.artifact("wsd", folder / "sweeps" / "x" / "table.txt")
        tracker.commit(last)
        tracker.publish(last)
        assert tracker.finish() == 0, (sweep.spool / "sender.log").read_text()
    finally:
        os.chdir(before)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
def test_the_server_shows_runs_and_files(working_folder, plain):
    """Ours, and `mlflow ui` as a user starts it in that folder with no argument."""
    spool = working_folder / "sweeps" / "x" / "spool"
    if plain:
        port = view.free_port(5800)
        command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
        with (working_folder / "ui.log").open("w+b") as log:
            process = subprocess.Popen(
                command,
                cwd=working_folder,
                env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | sender.ENVIRONMENT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                view._wait_for(f"http://127.0.0.1:{port}", process, log)
                _see(f"http://127.0.0.1:{port}", spool)
            finally:
                view._end(process)
    else:
        with view.serve(sender.stored_destination(spool).uri, 5850) as base:
            _see(base, spool)


def _see(base, spool):
    found = runs(base, sender.experiment_id(spool))
    assert len(found) == 6
    (summary,) = (run for run in found if run["info"]["run_name"] == "wsd")
    listed = json.loads(ask(base, f"api/2.0/mlflow/artifacts/list?run_id={summary['info']['run_id']}"))
    assert [file["path"] for file in listed["files"]] == ["table.txt"]
    assert ask(base, f"get-artifact?run_id={summary['info']['run_id']}&path=table.txt") == b"a table"


@pytest.mark.slow
def test_readers_do_not_disturb_the_sending(working_folder, played, tmp_path):
    uri = f"sqlite:///{working_folder / 'mlflow.db'}"
    reading, seen = threading.Event(), []
    with view.serve(uri, 5900) as base:
        sweep = TrackedSweep(tmp_path / "y", "y", "1" * 32, 0)
        tracker = trackers.start(sweep, MLflow(uri, flush_seconds=120))

        def read():
            while not reading.is_set():
                experiment = sender.experiment_id(sweep.spool)
                seen.append(0 if experiment is None else len(runs(base, experiment)))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        list(played(tracker, trials=10))
        left = tracker.finish()
        reading.set()
        for reader in readers:
            reader.join()
        assert left == 0, (sweep.spool / "sender.log").read_text()
        assert len(runs(base, sender.experiment_id(sweep.spool))) == 22
    assert max(seen) > 0


ENDS = {  # how the command ends, and its exit code
    "Ctrl-C": (signal.SIGINT, 0),
    "SIGTERM": (signal.SIGTERM, 128 + signal.SIGTERM),
    "the terminal closes": (signal.SIGHUP, 128 + signal.SIGHUP),
    "SIGKILL": (signal.SIGKILL, -signal.SIGKILL),
    "its parent dies": (None, None),
}
# A shell that starts the command, and prints its process id.
SHELL = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("how", ENDS)
def test_the_server_ends_with_the_ui(working_folder, how):
    number, code = ENDS[how]
    command = [sys.executable, "-m", "sweeper", "ui", "x", "--port", str(view.free_port(5950))]
    command = command if number else [sys.executable, "-c", SHELL, *command]
    (working_folder / "sweeps" / "x" / "config.yaml").touch()  # a sweep's folder
    with subprocess.Popen(command, cwd=working_folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = process.pid if number else int(process.stdout.readline())
        base = process.stdout.readline().split("/#/")[0].strip()
        assert runs(base, sender.experiment_id(working_folder / "sweeps" / "x" / "spool"))
        process.send_signal(number or signal.SIGKILL)
        assert process.wait(60) == code or not number
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (is_served(base) or is_alive(pid)):
        time.sleep(0.1)
    assert not is_served(base)
    assert not is_alive(pid)


def is_served(base):
    try:
        return bool(ask(base, "health"))
    except OSError:
        return False


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("tracker", [None, MLflow("none")])
def test_what_is_not_tracked_is_promised_nothing(tmp_path, tracker):
    sweep = TrackedSweep(tmp_path / "x", "x", ID, 0)
    trackers.start(sweep, tracker).finish()
    assert not view.is_sent(sweep.spool)
    with pytest.raises(InputError, match=r"ui=x: not tracked \(tracking=none\)\. .*tracking=mlflow"):
        view.ui(sweep.spool)
