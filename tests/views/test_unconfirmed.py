"""A search alone never says which schedule is best: no view of it ranks."""

import html
import io
import re
import shutil
from pathlib import Path

import pytest
import yaml

import sweeper
from sweeper.terminal import lines
from sweeper.views import conclusion, figures, note, notebook, watch
from sweeper.views.follower import Follower
from sweeper.views.report import page

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"
VERDICT = re.compile(r"\b(best|beats?|better than|winners?|wins?|won|rank\w*)\b", re.IGNORECASE)


def stored(place, name="finished", direction="minimize"):
    """Return a stored sweep in a copy of its folder, as if it had been started with a direction."""
    folder = Path(shutil.copytree(FOLDERS / name, place / direction / name))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["question"]["objective"]["direction"] = direction
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return sweeper.load(name, folder.parent)


def printed(sweep, capsys):
    conclusion.print_all(sweep)
    return capsys.readouterr().out


def watched(sweep, _):
    watch.watch(sweep.home, out := io.StringIO())
    return out.getvalue()


def in_lines(sweep, _):
    follower = Follower(sweep.home)
    follower.refresh()
    said = []
    lines.Lines(follower.tally, said.append).end()
    return "\n".join(said)


def drawn(sweep, _):
    pictures = figures.draw_all(sweep).values()
    legends = [legend.get_title().get_text() for picture in pictures for legend in picture.legends]
    labels = [axes.get_ylabel() for picture in pictures for axes in picture.axes]
    return "\n".join([*legends, *labels, *(picture.get_suptitle() for picture in pictures)])


def noted(sweep, _):
    return "".join(note.study_note(sweep, study) for study in sweep.families["study"])


def reported(sweep, _):
    body = re.sub(r"<(style|script)>.*?</\1>", "", page.render(sweep), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", body))


VIEWS = {
    "answer": lambda sweep, _: str(sweep),
    "every table": printed,
    "watch": watched,
    "lines": in_lines,
    "figures": drawn,
    "note": noted,
    "notebook": lambda sweep, _: notebook.html_table(sweep),
    "report": reported,
    "repr": lambda sweep, _: repr(sweep),
}


@pytest.mark.parametrize(("direction", "word"), [("minimize", "lowest"), ("maximize", "highest")])
@pytest.mark.parametrize("view", VIEWS)
def test_no_view_of_a_search_says_best_or_ranks(tmp_path, capsys, view, direction, word):
    said = VIEWS[view](stored(tmp_path, direction=direction), capsys)
    others = re.sub(
        r"depends on objective\.at.*|does not depend on objective\.at.*", "", said
    )  # one rule is called best
    assert not VERDICT.search(others)
    assert word in said.lower()
