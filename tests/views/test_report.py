"""The report: what it says of every kind of sweep, that it is whole, small and needs nothing else."""

import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

import sweeper as package
from sweeper.results import below
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.views import figures
from sweeper.views.report import page, sections

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"
STORED = ["finished", "stopped", "stopped_in_lanes", "python"]
LARGEST = 1_000_000  # bytes


class Page(HTMLParser):
    """The elements of a page: (tag, attributes), and its text as a reader sees it."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.parts, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.parts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.parts).split())

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)

    def of(self, attribute):
        return [values[attribute] for _, values in self.elements if attribute in values]


def stored(place, name="finished", change=None):
    """Return a stored sweep in a copy of its folder, after `change` of its configuration."""
    folder = Path(shutil.copytree(FOLDERS / name, place / name))
    if change is not None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        change(config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return package.load(name, folder.parent)


def with_records(sweep, records):
    sweep.__dict__["_records_and_counts"] = (records, dict(Counter(record.study for record in records)))
    return sweep


def read(sweep):
    html = page.render(sweep)
    assert len(html.encode()) <= LARGEST
    return Page(html)


# --- of every kind of sweep --------------------------------------------------------------------------


def no_trial(place):
    return with_records(stored(place), [])


def none_complete(place):
    sweep = stored(place)
    return with_records(sweep, [replace(r, state="diverged", value=None, diverged_step=3) for r in sweep.records])


def one_family_without_a_complete_trial(place):
    sweep = stored(place)
    return with_records(
        sweep,
        [replace(r, state="pruned", value=None) if r.family == "linear" else r for r in sweep.records],
    )


def one_family(place):
    sweep = stored(place)
    return with_records(sweep, [record for record in sweep.records if record.family == "linear"])


def maximized(place):
    return stored(place, change=lambda config: config["question"]["objective"].update(direction="maximize"))


def failed(place):
    sweep = stored(place)
    return with_records(
        sweep,
        [replace(r, state="failed", value=None, reason="out of memory") if r.number == 1 else r for r in sweep.records],
    )


def without_traces(place):
    sweep = stored(place)
    shutil.rmtree(sweep.home.traces)
    (sweep.home.spool / "events.jsonl").unlink()
    return sweep


KINDS = {
    **{name: lambda place, name=name: stored(place, name) for name in STORED},
    "no trial": no_trial,
    "none complete": none_complete,
    "a family without a complete trial": one_family_without_a_complete_trial,
    "one family": one_family,
    "maximized": maximized,
    "failed": failed,
    "without traces": without_traces,
}


SLOW = ("stopped_in_lanes", "none complete", "failed", "without traces")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS])
def test_a_search_of_every_kind_has_a_whole_page(tmp_path, kind):
    sweep = KINDS[kind](tmp_path)
    found = read(sweep)
    check_page(found)
    assert found.text.index("Not confirmed.") < found.text.index("The question")
    assert sections.how_to_confirm(sweep) in found.text
    assert ("This sweep is not finished" in found.text) == (not sweep.finished)
    for record in sweep.records:
        assert record.family in found.text
    rows = len(sweep.families) + len(sweep.records) + 1
    assert found.count("tr") >= rows - 1 if sweep.records else found.count("table") == 0


def check_page(found):
    """Assert that the page is one document that loads nothing and whose ids are its own."""
    assert found.count("h1") == found.count("main") == found.count("html") == 1
    assert found.of("lang") == ["en"]
    assert not [address for address in found.of("src") + found.of("href") if not address.startswith(("#", "data:,"))]
    ids = found.of("id")
    assert len(set(ids)) == len(ids)
    references = {address[1:] for address in found.of("href") if address.startswith("#")}
    references |= set(re.findall(r"url\(#([^)]+)\)", " ".join(found.of("clip-path"))))
    assert references <= set(ids)
    assert not re.search(
        r"#[0-9a-f]{6}", " ".join(found.of("style")).replace("#888888", "")
    )  # the page's, dark or light
    headings = [tag for tag, _ in found.elements if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1"


def test_words_follow_the_direction(tmp_path):
    assert "is the highest in the search" in read(maximized(tmp_path)).text


def test_names_with_html_are_shown_as_they_are(tmp_path):
    """Whatever a user can name: the metric, classes, families, hyperparameters, reasons, versions."""

    def evil(place):
        return f'<img src=x onerror="alert({place})">&'

    def change(config):
        question = config["question"]
        question["objective"]["metric"] = f"valid/{evil('metric')}"
        for node in ("model", "data", "optimizer"):
            question[node]["_target_"] = f"mine.{evil(node)}"
        for study in config["studies"].values():
            study["family"] = study["family"].replace("linear", evil("family"))
        config["machines"][0]["torch"] = evil("version")
        config["trainer"]["why"] = evil("trainer")

    def named(record):
        family = record.family.replace("linear", evil("family"))
        params, searched = {**record.params, evil("param"): evil("value")}, (*record.searched, evil("param"))
        fails = {"state": "failed", "value": None, "reason": evil("reason")} if record.number == 1 else {}
        return replace(record, family=family, params=params, searched=searched, **fails)

    sweep = stored(tmp_path, change=change)
    found = read(with_records(sweep, list(map(named, sweep.records))))
    check_page(found)
    assert found.count("img") == 0
    assert "onerror" not in {name for _, values in found.elements for name in values}
    for place in ("metric", "model", "data", "optimizer", "family", "version", "trainer", "param", "value", "reason"):
        assert evil(place) in found.text, place


@pytest.mark.slow
def test_a_sweep_of_thousands_of_trials_is_small_enough_and_says_what_it_leaves_out(tmp_path):
    sweep = stored(tmp_path)
    records = [replace(r, number=10 * k + r.number) for k in range(400) for r in sweep.records]
    found = read(with_records(sweep, records))
    assert f"The first {sections.MOST_TRIALS} of {len(records)} trials" in found.text


@pytest.mark.slow
def test_equal_sweeps_give_equal_bytes(tmp_path):
    first, again = (page.write(stored(tmp_path / place)).read_bytes() for place in ("a", "b"))
    assert first == again


# --- of a trained one: reactive, seeds and folds -----------------------------------------------------


@pytest.fixture(scope="module")
def reactive(tmp_path_factory):
    from sweeper.tasks.digits import Digits
    from sweeper.tasks.models import MLP

    def net(inputs, outputs):
        return MLP(inputs, outputs, width=4, depth=1)

    return package.sweep(
        Supervised(Digits(folds=2), net), ["plateau", "cosine"], steps=20, batch_size=16, n_trials=2,
        search={"seeds": 2, "reports": 4}, trainer="sequential", tracking="none",
        root=tmp_path_factory.mktemp("reactive"),
    )  # fmt: skip


@pytest.mark.slow
def test_seeds_folds_and_a_reactive_family(reactive):
    found = read(reactive)
    check_page(found)
    assert "2 seeds x 2 folds" in found.text
    assert "spread" in found.text
    assert found.text.count("plateau") > 3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["plateau", "cosine"])
def test_the_snippet_gives_the_lr(reactive, monkeypatch, family):
    """As a formula, which needs no package of ours, or where there is none, read from the sweep."""
    from sweeper.results.chosen import chosen

    monkeypatch.chdir(reactive.home.path.parent.parent)
    taken = chosen(reactive, f"{family}:0")
    code = sections.snippet(reactive, taken)
    code = code.replace(f'load("{reactive.name}")', f'load("{reactive.name}", root={str(reactive.home.path.parent)!r})')
    names = {}
    exec(code.partition("optimizer = ...")[0], names)
    wanted = reactive.lr(taken.record.study, 0)
    found = [names["lr"](step) for step in range(len(wanted))] if callable(names["lr"]) else names["lr"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * wanted.max())
    assert ("import sweeper" in code) == (family == "plateau")


# --- confirmed --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    sweep = package.sweep(
        Supervised(Quadratic(), Point), ["constant", "cosine", "linear", "default_lr"], n_trials=8,
        experiment="quadratic", trainer={"expected": {"spread": 0.1, "own_spread": 0.05}}, tracking="none",
        root=tmp_path_factory.mktemp("confirmed"),
    )  # fmt: skip
    return sweep.confirm()


def test_a_confirmed_sweep_says_what_its_verdict_says(confirmed):
    found = read(confirmed)
    check_page(found)
    text = found.text
    assert "Not confirmed." not in text
    assert confirmed.verdict["sentence"] in text
    for line in below.lines(confirmed.verdict):
        assert " ".join(line.split()) in text
    for row in confirmed.verdict["configurations"]:
        assert f"{row['family']}:{row['trial']}" in text
    assert {"replicates", "lr-above-objective", "peak-lr", "best-so-far"} <= set(found.of("id"))


def test_the_settings_are_those_of_the_verdicts_leader(confirmed):
    leader = confirmed.verdict["winner"] or confirmed.verdict["leader"]
    assert page.shown_trial(confirmed).startswith(f"{leader['family']}:{leader['trial']}, the ")
    assert f"The settings: {page.shown_trial(confirmed)}" in read(confirmed).text


def test_a_confirmation_that_was_interrupted_is_told(confirmed, tmp_path):
    copied = package.load(shutil.copytree(confirmed.home.path, tmp_path / confirmed.name))
    (copied.home.path / "confirm.json").unlink()
    text = read(copied).text
    assert "Not confirmed." in text
    assert "A confirmation resumes with the same command" in text


# --- the verb, the files ----------------------------------------------------------------------------


def test_the_verb_writes_report_and_figures(sweeper, tmp_path, monkeypatch):
    one = figures.peak_lr
    monkeypatch.setattr(figures, "draw_all", lambda sweep: {"peak_lr": one(sweep)})  # the others take seconds
    folder = Path(shutil.copytree(FOLDERS / "finished", tmp_path / "sweeps" / "finished"))
    code, out, err = sweeper("report")
    assert code == 0, err
    assert "sweeps/finished/report.html (" in out
    assert "the lowest of the search, not confirmed on fresh seeds" in out
    assert {path.name for path in (folder / "figures").iterdir()} == {"peak_lr.svg", "peak_lr.pdf"}
    assert (folder / "figures" / "peak_lr.pdf").read_bytes().startswith(b"%PDF")
    assert package.load("finished").report() == Path("sweeps/finished/report.html")


def test_there_is_no_report_of_a_sweep_that_does_not_exist(sweeper, check_form):
    code, _, err = sweeper("report", "nothing")
    assert code == 2
    check_form(err.removeprefix("sweeper: ").strip())


@pytest.mark.slow
def test_every_sweep_ends_with_its_report(tmp_path, confirmed, drawn):
    copied = package.load(shutil.copytree(confirmed.home.path, tmp_path / confirmed.name))
    told = Told()
    from sweeper.views import conclusion

    conclusion.conclude(copied.home, told)
    assert set(told.attached) == set(copied.families["study"])
    assert all(copied.home.path / "report.html" in paths for paths in told.attached.values())
    assert copied.verdict["sentence"] in Page((copied.home.path / "report.html").read_text()).text


class Told:
    """Remembers the artifacts of each study."""

    def __init__(self):
        self.attached = {}

    def describe(self, study, summary): ...

    def artifact(self, study, path, *, table=False):
        self.attached.setdefault(study, []).append(path)


# --- figures of their own ---------------------------------------------------------------------------


def test_titles_say_what_was_trained_and_no_hash(confirmed):
    drawn = figures.draw_all(confirmed)
    assert "replicates" in drawn
    for figure in drawn.values():
        title = figure.get_suptitle()
        assert title.startswith("Point on quadratic, SGD, ")
        assert "updates" in title
        assert "seed" in title
        assert confirmed.name not in title


@pytest.mark.slow
@pytest.mark.parametrize("kind", figures.FORMATS)
def test_equal_figures_give_equal_files(confirmed, kind):
    first, again = (figures.image(figures.peak_lr(confirmed), kind) for _ in range(2))
    assert first == again


# --- damaged folders --------------------------------------------------------------------------------

DAMAGED = sorted(
    path.relative_to(FOLDERS / "finished").as_posix()
    for path in (FOLDERS / "finished").rglob("*")
    if path.is_file() and path.suffix in (".yaml", ".log", ".json", ".jsonl", ".parquet") and "sender" not in path.name
)


@pytest.mark.slow
@pytest.mark.parametrize("file", DAMAGED)
@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2] + b"\0" * 9, lambda data: b"", None])
def test_a_damaged_file_gives_a_report_or_one_sentence(sweeper, tmp_path, monkeypatch, file, change):
    monkeypatch.setattr(figures, "draw_all", lambda sweep: {})
    path = Path(shutil.copytree(FOLDERS / "finished", tmp_path / "sweeps" / "finished")) / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    code, _, err = sweeper("report", "finished")
    assert code in (0, 2), err
    assert "Traceback" not in err
    assert code == 0 or err.startswith("sweeper: ")
