"""The view in a notebook's kernel: one output that is updated, no cursor, no thread."""

import json
import re
import sys
import threading
from importlib import import_module

import numpy as np
import pytest

from sweeper import terminal
from sweeper.terminal import notebook
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

InteractiveShell = import_module("IPython.core.interactiveshell").InteractiveShell  # ipykernel brings it


class Kernel(InteractiveShell):
    """IPython as a kernel has it, its messages kept."""

    kernel = "a kernel"


@pytest.fixture
def sent(monkeypatch):
    """What a kernel would send to the notebook: (kind, data) of each display and update."""
    messages = []
    Kernel.clear_instance()
    shell = Kernel.instance()
    monkeypatch.setattr(
        shell.display_pub,
        "publish",
        lambda data, metadata=None, *, transient=None, update=False, **_: messages.append(
            ("update" if update else "display", transient["display_id"], data)
        ),
    )
    yield messages
    Kernel.clear_instance()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def swept(clock, rounds=10, seconds=0.25):
    threads = threading.active_count()
    tally = terminal.Tally([Progress("cosine<1>", "cosine<1>", 1, {})], terminal.Terms(10, "minimize"), clock=clock)
    with terminal.view(tally, terminal.Heading("mine", "valid/loss", "minimize")) as shown:
        assert threading.active_count() == threads
        id = JobId("cosine<1>", 0, 0)
        shown.open([Job(id, "cosine<1>", {}, 0, np.linspace(1, 0, 100), tuple(range(10, 101, 10)))])
        for step in range(10, 10 * rounds + 1, 10):
            clock.now += seconds
            shown.arrived(Report(id, step, {}, {}, 0.0))
        shown.note("a \x1b[31mmessage\x1b[0m")
        shown.close(Ending(TrialId("cosine<1>", 0), "complete", 100, 1.5))


def test_one_output_is_updated_at_most_once_a_second(sent):
    swept(Clock())
    kinds, ids, data = zip(*sent, strict=True)
    assert kinds == ("display", "update", "update", "update")  # after 1 s, 2 s, and at the end, of 2.5 s
    assert len(set(ids)) == 1
    first, last = data[0]["text/plain"].splitlines(), data[-1]["text/plain"].splitlines()
    assert first[0].startswith("mine  0:00 elapsed")
    assert [line.split()[0] for line in last] == ["mine", "family", "cosine<1>", "all", "a"]
    assert last[2].split()[1:3] == ["1/1", "1.5000"]
    assert "██▇▆▅▄▃▃▂▁" in last[2]
    assert last[4] == "a message"


def test_html_is_escaped_and_the_best_is_bold(sent):
    swept(Clock())
    html = sent[-1][2]["text/html"]
    assert html.startswith("<pre")
    assert "<b>cosine&lt;1&gt;" in html
    assert "\x1b" not in json.dumps(sent[-1][2])


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch):
    assert not notebook.is_in_kernel()
    InteractiveShell.clear_instance()
    InteractiveShell.instance()
    try:
        assert not notebook.is_in_kernel()
    finally:
        InteractiveShell.clear_instance()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebook.is_in_kernel()


def test_lines_or_a_stream_that_were_asked_for_are_given_in_a_notebook_too(sent, capsys):
    tally = terminal.Tally([], terminal.Terms(10, "minimize"))
    with terminal.view(tally, terminal.Heading("t", "m", "minimize"), plain=True):
        pass
    assert capsys.readouterr().err.startswith("t: m, lower is better\n")
    assert sent == []


CELL = """
import numpy as np, time
from sweeper import terminal
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

tally = terminal.Tally([Progress("cosine", "cosine", 1, {})], terminal.Terms(10, "minimize"))
with terminal.view(tally, terminal.Heading("mine", "valid/loss", "minimize")) as shown:
    id = JobId("cosine", 0, 0)
    shown.open([Job(id, "cosine", {}, 0, np.linspace(1, 0, 100), tuple(range(10, 101, 10)))])
    for step in range(10, 101, 10):
        time.sleep(0.15)
        shown.arrived(Report(id, step, {}, {}, 0.0))
    shown.close(Ending(TrialId("cosine", 0), "complete", 100, 1.5))
"""


@pytest.mark.slow
def test_a_real_kernel_shows_one_output_that_ends_with_the_last_picture():
    from nbclient import NotebookClient

    new = import_module("nbformat").v4  # nbclient brings it
    updates = []

    class Client(NotebookClient):
        def process_message(self, msg, cell, cell_index):
            updates.append(msg["msg_type"])
            return super().process_message(msg, cell, cell_index)

    page = new.new_notebook(cells=[new.new_code_cell(CELL)])
    Client(page, timeout=60, kernel_name="python3").execute()
    (output,) = page.cells[0].outputs
    assert output.output_type == "display_data"
    assert re.search(r"1/1 +1\.5000", output.data["text/plain"])
    assert output.data["text/html"].startswith("<pre")
    assert updates.count("display_data") == 1
    assert 2 <= updates.count("update_display_data") <= 3
