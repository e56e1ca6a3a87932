"""Which trial is exported, what a file says of it, what cannot be exported, and the experiment that trains it again."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import sweeper as package
from sweeper.export.closed_form import closed_form, python_source
from sweeper.export.natives import native
from sweeper.export.targets import IMPORT_LAMBDA, SCHEDULER, TARGETS
from sweeper.schedules import family
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP
from sweeper.types import InputError

from .conftest import run

SMALL = ["data=digits", "model=mlp", "model.width=8", "train.steps=16", "train.batch_size=256", "search.reports=4"]
SMALL += ["trainer=sequential", "tracking=none", "train.norms=false"]


def said(text):
    """Return what a header says, by subject."""
    lines = re.sub(r"\n#   ", " ", text).splitlines()
    return dict(line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line)


def test_a_file_says_what_was_trained_and_how_sure_it_is(sweep):
    header = said(sweep.export("torch", "cosine:0", steps=99))
    params = sweep.params("cosine:0")
    assert header["Trial"] == f"cosine:0 of {sweep.name}, as named"
    assert all(f"{name}={value!r}" in header["Schedule"] for name, value in params.items())
    assert header["Optimizer"] == "torch.optim.SGD(lr=PEAK_LR, momentum=0.9, nesterov=True, weight_decay=0.0)"
    assert header["Training"] == "99 updates (the sweep trained 16), batch size 32, float32"
    assert header["Value"].startswith(f"valid/loss {sweep.record('cosine:0').value:.4f} in the search (lower is better")
    assert header["Verdict"] == "none; the trial was not confirmed on fresh seeds"
    assert header["Written by"] == f"sweeper {package.__version__}"
    assert "momentum(step)" in said(sweep.export("torch", "onecycle:0"))["Momentum"]


def test_the_verdict_is_quoted(sweep, build_confirmation, tmp_path):
    from sweeper.results import words
    from sweeper.results.assembling import Contestant, verdict_of

    means = {"constant": 2.0, "cosine": 1.0}
    of = tuple(Contestant(family, 0, dict(sweep.params(f"{family}:0")), 1.0) for family in means)
    rows = tuple({**row, "trial": 0} for row in build_confirmation(means).rows)
    found = verdict_of(build_confirmation(means, contestants=of, rows=rows))
    verdict = {**found, "sentence": words.sentence(found)}
    shutil.copytree(sweep.home.path, tmp_path / sweep.name)
    confirmed = package.load(tmp_path / sweep.name)
    confirmed.home.write({**confirmed.config, "confirmations": {"0": {}}})
    confirmed.home.verdict(0).write_text(json.dumps(verdict))
    header = said(confirmed.refresh().export("python"))
    assert header["Trial"] == f"cosine:0 of {sweep.name}, the winner on fresh seeds"
    assert header["Verdict"] == " ".join(verdict["sentence"].split())
    assert json.loads(confirmed.export("json"))["verdict"] == verdict["sentence"]


WRONG = [
    ({"to": "pytorch"}, r"to=pytorch: no such target\. Did you mean torch\?"),
    ({"to": "python", "trial": "cosine:9"}, r"trial=cosine:9: no such trial in this sweep\. Its trials are 0 to 0"),
    ({"to": "python", "trial": "cosine:0", "steps": 0}, r"steps=0: not a number of updates"),
    ({"to": "python", "trial": "cosine:0", "steps": True}, r"steps=true: not a number of updates"),
    ({"to": "yaml", "trial": "cosine:0"}, r"to=yaml: the sweep was started in Python, and no configuration"),
    ({"to": "csv", "out": "nowhere/lr.csv"}, r"out=nowhere/lr.csv: there is no folder nowhere\. Make it first"),
    ({"to": "csv", "out": "."}, r"out=\.: a folder\. Name a file in it"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_what_cannot_be_exported_is_told(given, told, sweep, check_form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^{told}") as error:
        sweep.export(**given)
    check_form(str(error.value))
    assert list(tmp_path.iterdir()) == []


# --- parameter groups ---------------------------------------------------------------------------------


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm, self.last = nn.Embedding(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)


def trained(root, optimizer):
    X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).numpy()
    given = {"steps": 8, "n_trials": 1, "tracking": "none", "search": {"reports": 4}, "root": root}
    return package.sweep(Supervised(Arrays(X, X[:, 0] > 0), MLP), ["cosine"], optimizer=optimizer, **given)


def test_lightning_gets_the_groups_without_weight_decay(tmp_path):
    from sweeper.training.optimizers.groups import groups_of
    from sweeper.training.optimizers.spec import parse_optimizer

    node = {"_target_": "torch.optim.AdamW", "weight_decay": 0.1, "no_decay": ["norm", "bias", "embedding"]}
    sweep = trained(tmp_path, {"adamw": {"weight_decay": 0.1, "no_decay": node["no_decay"]}})
    model = Norms()
    made = run(sweep.export("lightning"))["configure_optimizers"](model)
    optimizer = made["optimizer"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ours = groups_of(model, parse_optimizer(node), 0.1)
    decays = {name: group.weight_decay or 0.0 for group in ours for name in group.parameters}
    groups = optimizer.param_groups
    assert {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]} == decays
    assert made["lr_scheduler"]["interval"] == "step"
    assert said(sweep.export("torch"))["Groups"] == "no weight decay: norm, bias, embedding"


REFUSED = [
    (
        {"adamw": {"no_decay": ["*.weight"]}},
        r"parameter groups that depend on your model \(no weight decay: \*\.weight\)",
    ),
    ({"sgd": {"groups": {"head": {"match": "layers.0", "lr": 10}}}}, "parameter groups .*lr is a factor"),
    ({"sgd": {"layer_decay": 0.5}}, "parameter groups that depend on your model"),
    ({"adamw": {"wd_mode": "independent"}}, "wd_mode"),
    ("muon", "its optimizer, Muon, is sweeper's own"),
]


@pytest.mark.parametrize(("optimizer", "told"), REFUSED)
def test_lightning_is_refused_an_optimizer_that_a_file_cannot_make(optimizer, told, tmp_path, check_form):
    sweep = trained(tmp_path, optimizer)
    with pytest.raises(InputError, match=f"^to=lightning: .*{told}") as error:
        sweep.export("lightning")
    check_form(str(error.value))
    assert run(sweep.export("torch"))["lr"](0) > 0


# --- the command line ---------------------------------------------------------------------------------


@pytest.fixture
def searched(sweeper):
    """A sweep of the command line that searches the optimizer and the model, too."""
    searches = ["optimizer.momentum={choice: [0.5, 0.8]}", "model.depth={low: 1, high: 3}", "search.n_trials=2"]
    code, _, err = sweeper(*SMALL, *searches, "schedule=[cosine,knots]", "schedule_unit=epoch", "train.clip=1.5")
    assert code == 0, err
    return package.load()


@pytest.mark.slow
def test_the_experiment_trains_the_same_configuration(sweeper, searched, tmp_path):
    for trial in ("cosine:1", "knots:0"):
        (tmp_path / "mine" / "experiment").mkdir(parents=True, exist_ok=True)
        code, out, err = sweeper("export", "--trial", trial, "--to", "yaml", "--out", "mine/experiment/again.yaml")
        assert (code, out, err) == (0, "", f"{trial}: as named, written to mine/experiment/again.yaml\n")
        code, _, err = sweeper("--config-dir", "mine", "experiment=again", "tracking=none", "trainer=sequential")
        assert code == 0, err
        again = package.load()
        assert again.name == f"{searched.name}-{trial.replace(':', '-')}"
        (record,), stored = again.records, searched.record(trial)
        assert record.value == stored.value
        assert record.intermediate == stored.intermediate
        assert again.lr(record.study, 0).tolist() == searched.lr(trial).tolist()
        (tmp_path / "sweeps" / searched.name / "config.yaml").touch()  # so that it is the one used last


def test_the_command_prints_the_file_and_says_which_trial_it_is(sweeper, searched):
    lowest = min(searched.records, key=lambda record: record.value)
    name = f"{lowest.family}:{lowest.number}"
    words = "the lowest of the search, not confirmed on fresh seeds"
    code, out, err = sweeper("export", searched.name, "--to", "csv", "--steps", "40")
    assert (code, err) == (0, f"{name}: {words}\n")
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert [float(lr) for _, lr in rows] == searched.lr(name, steps=40).tolist()
    code, out, _ = sweeper("export", "--to", "python")
    header = said(out)
    assert header["Trial"] == f"{name} of {searched.name}, {words}"
    assert f"momentum={lowest.params['optimizer.momentum']}" in header["Optimizer"]
    assert f"model.depth={lowest.params['model.depth']}" in header["Training"]
    assert "clip 1.5" in header["Training"]
    assert 'max_grad_norm": 1.5' in sweeper("export", "--to", "huggingface")[1]
    for words in (["--to", "pytorch"], ["--to", "csv", "--steps", "0"], ["--to", "csv", "--out", "no/where"]):
        code, out, err = sweeper("export", *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
    with pytest.raises(SystemExit, match="2"):  # no --to
        sweeper("export")


def test_the_help_names_every_target(sweeper, capfd):
    with pytest.raises(SystemExit, match="0"):
        sweeper("export", "--help")
    shown = " ".join(capfd.readouterr().out.split())
    assert re.search(rf"--to TARGET {', '.join([*TARGETS][:-1])} or {[*TARGETS][-1]}", shown)


# --- the guide ----------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "export.md").read_text()


def test_the_guide_has_every_target():
    rows = re.findall(r"^\| (`.*?`) \| ", GUIDE.partition("## Targets")[2], re.MULTILINE)
    assert re.findall(r"`([a-z]+)`", " ".join(rows)) == [*TARGETS]


def test_the_guides_example_is_what_is_written():
    built = family("cosine", {"factor": "cosine", "peak_lr": 0.23, "decay": 0.01})
    source = python_source(closed_form(built, {}, 1000, None), [IMPORT_LAMBDA]) + SCHEDULER
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert example.endswith(source)
    assert native("torch", built, {}, 1000, None).call("optimizer") in example
