"""A stored sweep: trials by any name they have, planned LRs, and the run of MLflow that leads to it."""

import re

import numpy as np
import pytest

import sweeper
from sweeper.api import Sweep
from sweeper.spec.question import Home
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP
from sweeper.types import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
TASK = Supervised(Arrays(X, X[:, 0] > 0), MLP)
STEPS = 16


def trained(root, families=("constant", "cosine"), **changed):
    given = {"steps": STEPS, "n_trials": 4, "trainer": {"sequential": {"workers": 1}}, "tracking": "none"}
    search = {"reports": 4, "concurrent_trials": 2}
    return sweeper.sweep(TASK, families, root=root, search=search, **{**given, **changed})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A sweep with one of its families in two studies."""
    folder = tmp_path_factory.mktemp("stored") / "sweeps"
    trained(folder)
    trained(folder, {"wsd": {"decay": 0.1}}, n_trials=1)
    trained(folder, {"wsd": {"decay": 0.2}}, n_trials=2)
    return folder


@pytest.fixture
def sweep(root):
    return sweeper.load(root=root)


def test_a_trial_is_found_by_each_of_its_names(sweep):
    row = sweep.trials[(sweep.trials["family"] == "cosine") & (sweep.trials["trial"] == 2)].iloc[0]
    names = ["cosine:2", f"{row['study']}:2", row, (row["study"], 2), ("cosine", np.int64(2)), dict(row)]
    for trace in (sweep.trace(name) for name in names):
        assert trace.equals(sweep.trace(row["study"], 2))
    assert sweep.trace("cosine", 2, 0).equals(sweep.trace("cosine:2"))


def test_the_planned_lr_is_the_one_trained_with_and_goes_on_where_a_trial_stopped(sweep):
    for _, row in sweep.trials.iterrows():
        lr_S, used_S = sweep.lr(row), sweep.trace(row)["lr/group0"].dropna().to_numpy()
        assert (lr_S.shape, lr_S.dtype) == ((STEPS,), np.float64)
        assert used_S.tolist() == lr_S[: len(used_S)].tolist()


def test_the_lr_of_what_reacts_is_the_one_trained_with(tmp_path):
    never_better = {"threshold": 100.0, "patience": 1, "cooldown": 0, "decay": 0.5, "warmup": 0.125, "peak_lr": 0.1}
    trained(tmp_path, {"plateau": never_better, "wall_time": {"budget": 1e9, "decay": 0.5, "peak_lr": 0.1}}, n_trials=1)
    sweep = sweeper.load(root=tmp_path)
    warmup, held = [1 / 30, 2 / 30], [0.1] * 10  # until the report at 12, the second without a better one
    assert sweep.lr("plateau:0") == pytest.approx([*warmup, *held, *([0.05] * 4)], rel=1e-15)
    assert sweep.trace("plateau:0")["lr/group0"].dropna().tolist() == sweep.lr("plateau:0").tolist()
    assert not sweep.families["ends_high"].any()
    assert sweep.params("plateau:0")["patience"] == 1
    with pytest.raises(InputError, match=r"steps=32: plateau:0 is reactive, so its LR is known only for the length"):
        sweep.lr("plateau:0", steps=32)


def test_the_best_trial_is_the_best(sweep):
    complete = sweep.trials[sweep.trials["state"] == "complete"]
    assert sweep.best["value"] == complete["value"].min()
    assert sweep.trials.loc[sweep.best.name].equals(sweep.best)


WRONG = [
    ("cosine:9", r"trial=cosine:9: no such trial in this sweep\. Its trials are 0 to 3"),
    ("linear:0", r"trial=linear:0: no such trial .* Families: constant, cosine, wsd"),
    ("wsd:0", r"trial=wsd:0: several studies of this family have it\. Name one of the studies: wsd-\w+, wsd-\w+"),
    ("cosine", r'trial=cosine: not the name of a trial\. Write "cosine:17"'),
    (3, "trial=3: not the name of a trial"),
]


@pytest.mark.parametrize(("name", "told"), WRONG)
def test_a_trial_that_is_not_there_is_told(sweep, name, told):
    for ask in (sweep.trace, sweep.lr):
        with pytest.raises(InputError, match=told):
            ask(name)
    assert sweep.lr("wsd:1").shape == (STEPS,)  # one of the two has a second trial


def test_it_is_loaded_by_name_and_by_folder(root, monkeypatch):
    name = sweeper.load(root=root).name
    assert sweeper.load(name, root=root).name == name
    assert sweeper.load(root / name).trials.equals(sweeper.load(str(root / name)).trials)
    monkeypatch.chdir(root.parent)
    assert sweeper.load().name == sweeper.load(name).name == name


def test_refresh_reads_again(tmp_path):
    trained(tmp_path, ["cosine"], n_trials=1)
    sweep = sweeper.load(root=tmp_path)
    assert len(sweep.trials) == 1
    trained(tmp_path, ["cosine"], n_trials=2)
    assert len(sweep.trials) == 1
    assert sweep.refresh() is sweep
    assert len(sweep.trials) == 2


def test_in_one_line(sweep):
    value = f"{sweep.best['value']:.4f}"
    best = f"{sweep.best['family']}:{sweep.best['trial']} {value}"
    assert repr(sweep) == f"<Sweep {sweep.name}: 3 families, 11 trials, finished, lowest {best}>"


def test_a_sweep_without_trials_shows_itself(tmp_path, sweep):
    home = Home(tmp_path / "empty")
    home.path.mkdir()
    home.write(sweep.config)
    home.journal.touch()
    empty = Sweep(home)
    assert repr(empty) == "<Sweep empty: 0 families, 0 trials, not finished>"
    assert "No trials yet." in empty._repr_html_()
    with pytest.raises(InputError, match="no trial is complete yet"):
        _ = empty.best
    assert repr(Sweep(Home(tmp_path / "nowhere"))).startswith("<Sweep nowhere")


# --- as a notebook shows it ---------------------------------------------------------------------------


def tables(html):
    """The headings and the first cells of each table."""
    every = re.findall(r"<table.*?</table>", html)
    return [
        (re.findall(r"<th [^>]*>(.*?)</th>", one), re.findall(r"<tr[^>]*><td [^>]*>(.*?)</td>", one)) for one in every
    ]


def test_the_answer_has_a_line_for_each_family_and_the_rest_is_collapsed(sweep):
    from sweeper.views import end_table

    short, rest = sweep._repr_html_().split("<details>")
    ((heads, names),) = tables(short)
    assert heads == ["family", "lowest", "gain", "", "LR"]
    assert len(names) == len(sweep.families)
    assert "below this line" in short
    ((heads, names),) = tables(rest)
    assert heads == [column.head for column in end_table.columns(sweep.families, sweep.criterion)]
    assert names[-1].rstrip("*") == "constant"
    assert len(names) == len(sweep.families)
    assert "color:" not in short + rest  # the page's own, light or dark


def test_a_family_without_a_complete_trial_is_in_the_table(sweep):
    families = sweep.families.copy()
    families.loc[0, ["rank", "best_value", "best_trial"]] = None
    sweep.__dict__["families"] = families
    assert [len(names) for _, names in tables(sweep._repr_html_())] == [len(families)] * 2
    assert "none complete (" in sweep._repr_html_()


def test_what_a_person_named_is_escaped(tmp_path, sweep):
    config = sweep.config
    config["question"]["objective"]["metric"] = "valid/<script>"
    sweep.__dict__["config"] = config
    assert "<script>" not in sweep._repr_html_()
    assert "valid/&lt;script&gt;" in sweep._repr_html_()


def test_the_figures_are_pictures_of_matplotlib(sweep, tmp_path):
    figures = sweep.figures
    assert {"schedules", "losses", "peak_lr", "best_so_far"} <= set(figures)
    assert figures.losses is figures["losses"] is sweep.figures["losses"]
    assert figures.losses._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    figures.losses.savefig(tmp_path / "losses.pdf")
    assert figures._repr_html_().count("data:image/png;base64,") == len(figures)
    with pytest.raises(AttributeError, match=r"no figure 'loss'\. Choose one of schedules, losses"):
        _ = figures.loss
    assert not hasattr(figures, "_ipython_canary_method_should_not_exist_")


# --- runs of MLflow -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_a_run_of_mlflow_leads_to_its_sweep(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"there is no MLflow database .*mlflow\.db\. Set MLFLOW_TRACKING_URI"):
        sweeper.load("runs:/0123456789abcdef0123456789abcdef")
    sweep = trained("sweeps", ["cosine"], n_trials=2, tracking="mlflow")
    trained("sweeps", ["cosine"], n_trials=1, batch_size=8)  # used last
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name(sweep.name).experiment_id
    runs = client.search_runs([experiment])
    assert {run.data.tags["sweep.role"] for run in runs} == {"trial", "study"}
    for run in runs:
        assert sweeper.load(f"runs:/{run.info.run_id}").name == sweep.name
    run_id = runs[0].info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sweeper.load(f"runs:/{run_id}").name == sweep.name  # beside the database
    (tmp_path / "sweeps").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=rf"its sweep \({sweep.name}\) is not in sweeps/ or .*Pass the folder"):
        sweeper.load(f"runs:/{run_id}")
    assert sweeper.load(f"runs:/{run_id}", root=tmp_path / "moved").name == sweep.name
    with pytest.raises(InputError, match="has no such run"):
        sweeper.load("runs:/0123456789abcdef0123456789abcdef")
    foreign = client.create_run(experiment).info.run_id
    with pytest.raises(InputError, match="was not logged by a sweep"):
        sweeper.load(f"runs:/{foreign}")
