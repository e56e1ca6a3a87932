"""The example notebook, the guide's Python page and an interrupted sweep, all in real kernels."""

import re
import time
from pathlib import Path
from queue import Empty

import nbformat
import pytest

import sweeper

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.ipynb"))
pytestmark = pytest.mark.slow
SECONDS = 300


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Work in an empty folder, with IPython's files in it and without MLflow settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def executed(page):
    """Return the notebook after all its cells ran. Raise the error of a cell."""
    from nbclient import NotebookClient

    began = time.monotonic()
    NotebookClient(page, timeout=SECONDS, kernel_name="python3").execute()
    print(f"{time.monotonic() - began:.0f} s")
    return page


def outputs(page, line):
    """Return what the one cell with this line shows, without what it prints: a slow machine prints why it waits."""
    (cell,) = [cell for cell in page.cells if line in cell.source.splitlines()]
    return [output for output in cell.outputs if output.output_type != "stream"]


# --- the examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_committed_notebook_has_no_outputs(path):
    """Outputs would go stale and make changes unreadable. CI executes the notebook."""
    page = nbformat.read(path, as_version=4)
    nbformat.validate(page)
    for cell in page.cells:
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None)


def test_the_quickstart_shows_its_table_and_its_pictures(tmp_path):
    page = executed(nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4))
    for cell in page.cells:
        for output in cell.get("outputs", []):
            waits = "Sending the rest to MLflow" in output.get("text", "")  # printed on a slow machine
            assert output.get("name") != "stderr" or waits, output["text"]
    live, table = outputs(page, "sweep")
    assert live.output_type == "display_data"
    assert live.data["text/html"].startswith("<pre")
    assert "48/48" in live.data["text/plain"]
    families = re.findall(r"<td [^>]*>(\w+)\*?</td>", table.data["text/html"])
    assert {"cosine", "wsd", "onecycle", "constant"} <= set(families)
    assert table.data["text/plain"].startswith("<Sweep spirals-sequential-sgd-")
    assert "Not finished" not in table.data["text/html"]
    (figures,) = outputs(page, "sweep.figures")
    assert figures.data["text/html"].count('src="data:image/png;base64,iVBOR') == 5
    (again,) = outputs(page, "sweeper.load(sweep.name)")
    assert again.data["text/html"] == table.data["text/html"]
    sweep = sweeper.load()
    assert sweep.finished
    assert len(sweep.trials) == 48
    assert (tmp_path / "mlflow.db").exists()


def test_the_guides_page_of_python_runs():
    text = (ROOT / "docs" / "guide" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    new = nbformat.v4
    page = executed(new.new_notebook(cells=[new.new_code_cell(block) for block in blocks]))
    said = "".join(output.get("text", "") for cell in page.cells for output in cell.outputs)
    assert "optimizer=adan: no such choice. Did you mean adam?" in said
    assert Path("losses.png").read_bytes()[:4] == b"\x89PNG"
    assert "late_drop" in set(sweeper.load().trials["family"])


# --- the stop button ----------------------------------------------------------------------------------

TASK = """
import numpy as np
from torch import nn
import sweeper
from sweeper.tasks import Arrays, Supervised

X = np.random.default_rng(0).normal(size=(500, 4))

class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, outputs))

    def forward(self, x):
        return self.layers(x)

def go(n_trials):
    return sweeper.sweep(Supervised(Arrays(X, X[:, 0] > 0), Net), ["cosine", "constant"], steps=400,
                         n_trials=n_trials, tracking="none", trainer={"sequential": {"workers": 2}})
"""


@pytest.fixture
def kernel(tmp_path):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code):
    """Execute code and wait. Return the reply, and the text that was printed or shown."""
    return wait_for(client, client.execute(code))


def wait_for(client, id):
    """Wait for the end of an execution. On a slow machine, late answers to the start-up's pings come first."""
    while (reply := client.get_shell_msg(timeout=SECONDS))["parent_header"].get("msg_id") != id:
        pass
    return reply["content"], said(client, id)


def said(client, id):
    texts = []
    while True:
        try:
            message = client.get_iopub_msg(timeout=2)
        except Empty:
            return "\n".join(texts)
        if message["parent_header"].get("msg_id") != id:
            continue
        content = message["content"]
        if content.get("execution_state") == "idle":
            return "\n".join(texts)
        texts.append(content.get("text") or content.get("data", {}).get("text/plain", ""))


def wait_for_rounds(rounds):
    """Wait until a sweep in this folder has committed that many rounds."""
    from sweeper.search.records import read_round

    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for journal in Path().glob("sweeps/*/journal.log"):
            if read_round(journal) >= rounds:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no sweep with {rounds} rounds in {SECONDS} s")


def test_the_stop_button_gives_back_what_there_is_and_the_same_call_goes_on(kernel):
    manager, client = kernel
    assert run(client, TASK)[0]["status"] == "ok"
    id = client.execute("sweep = go(1000)\nsweep")
    wait_for_rounds(3)
    manager.interrupt_kernel()
    reply, told = wait_for(client, id)
    assert reply["status"] == "ok", "\n".join(reply["traceback"])
    assert "Stopped (interrupted). Nothing is lost: the same call resumes the sweep." in told
    assert "not finished" in told.splitlines()[-1]
    stopped = sweeper.load()
    assert not stopped.finished
    assert not any("Interrupt" in line for line in stopped.home.log.read_text().splitlines())
    before = stopped.trials[stopped.trials["state"] != "running"].set_index(["family", "trial"])["value"]
    reply, told = run(
        client, "sweep = go(8)\nassert sweep.finished or len(sweep.trials) >= 16\nprint(len(sweep.trials))"
    )
    assert reply["status"] == "ok", "\n".join(reply["traceback"])
    after = sweeper.load().trials.set_index(["family", "trial"])["value"]
    assert after.loc[before.index].equals(before)


def test_pressed_twice_it_stops_at_once_and_what_was_committed_can_be_loaded(kernel):
    manager, client = kernel
    assert run(client, TASK)[0]["status"] == "ok"
    id = client.execute("sweep = go(1000)")
    wait_for_rounds(2)
    for _ in range(2):
        manager.interrupt_kernel()
        time.sleep(0.05)
    reply, _ = wait_for(client, id)
    if reply["status"] == "error":  # otherwise the round ended between the two
        assert reply["ename"] == "KeyboardInterrupt"
    reply, told = run(client, "sweep = sweeper.load()\nprint(sweep.finished, len(sweep.trials) > 0)")
    assert (reply["status"], told.split()[:2]) == ("ok", ["False", "True"])
    assert run(client, "assert len(go(4).trials) >= 8")[0]["status"] == "ok"
