"""Final models from beginning to end: on the quadratic for the machinery, and real ones that are loaded again."""

import html
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import sweeper as package
from sweeper.results.final import interval_text, intervals, sentence
from sweeper.run import finalizing
from sweeper.run.final_spec import FinalSpec, parse_words
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP
from sweeper.tasks.quadratic import Point, Quadratic
from sweeper.training import serving
from sweeper.training import weights as stored_weights
from sweeper.training.expected import ExpectedTrainer
from sweeper.types import InputError
from sweeper.views.report import page


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search on the quadratic. Tests copy it (`copy_of`)."""
    return package.sweep(
        Supervised(Quadratic(), Point),
        ["constant", "cosine"],
        experiment="quadratic",
        n_trials=8,
        trainer={"expected": {"spread": 0.1, "own_spread": 0.05}},
        tracking="none",
        root=tmp_path_factory.mktemp("searched"),
    )


def copy_of(sweep, root):
    shutil.copytree(sweep.home.path, root / sweep.name)
    copied = package.load(root / sweep.name)
    copied._subject = sweep._subject
    return copied


def test_every_metric_of_the_test_part_has_a_mean_and_a_t_interval_over_seeds(searched, tmp_path):
    final = copy_of(searched, tmp_path).final(seeds=6).final_models
    assert final["schema"] == 1
    assert [model["state"] for model in final["models"]] == ["complete"] * 6
    assert len({model["seed"] for model in final["models"]}) == 6
    for name in ("test/loss", "test/log_loss"):
        values = [model["test"][name] for model in final["models"]]
        found = final["test"][name]
        assert found["mean"] == pytest.approx(statistics.mean(values))
        assert found["sd"] == pytest.approx(statistics.stdev(values))
        low, high = stats.t.interval(0.95, 5, statistics.mean(values), stats.sem(values))
        assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert json.loads((tmp_path / searched.name / "final.json").read_text()) == final


def test_equal_values_have_no_spread():
    value = 0.08953908354043961
    found = intervals([{"test/loss": value}] * 3)["test/loss"]
    assert found == {"n": 3, "mean": value, "sd": 0, "low": value, "high": value}


def test_seeds_are_fresh_and_further_ones_go_on(searched, tmp_path):
    sweep = copy_of(searched, tmp_path).confirm(looks=[8]).final(seeds=2)
    first = [model["seed"] for model in sweep.final_models["models"]]
    more = sweep.final(seeds=4).final_models
    assert [model["seed"] for model in more["models"]][:2] == first
    of_search = {seed for record in sweep.records for seed in record.seeds}
    assert not of_search & {model["seed"] for model in more["models"]}
    trained = [record for record in sweep.replicates if record.study.endswith(".final")]
    assert len(trained) == 4, "no seed is trained twice"
    before = (sweep.home.path / "final.json").read_bytes()
    journal = sweep.home.journal.read_bytes()
    sweep.final(seeds=4)
    assert (sweep.home.path / "final.json").read_bytes() == before
    assert sweep.home.journal.read_bytes() == journal


def test_which_trial_is_taken_is_said(searched, tmp_path):
    sweep = copy_of(searched, tmp_path).final(seeds=1)
    best = sweep.best
    assert sweep.final_models["trial"]["name"] == f"{best['family']}:{best['trial']}"
    assert "not confirmed on fresh seeds" in sweep.final_models["sentence"]
    verdict = sweep.confirm(looks=[8, 12]).verdict
    taken = verdict["winner"] or verdict["leader"]
    again = sweep.final(seeds=1).final_models
    assert (again["trial"]["family"], again["trial"]["trial"]) == (taken["family"], taken["trial"])
    assert "on fresh seeds" in again["trial"]["why"]
    assert sweep.final(trial="constant:3", seeds=1).final_models["trial"]["name"] == "constant:3"


def test_the_search_and_the_verdict_are_shown_without_final_models(searched, tmp_path):
    sweep = copy_of(searched, tmp_path).confirm(looks=[8])
    verdict, trials = sweep.verdict, sweep.trials
    sweep.final(seeds=2)
    assert sweep.verdict == verdict
    assert sweep.trials.equals(trials)
    assert sweep.finished
    assert sweep.confirm(looks=[8]).verdict == verdict


def test_the_answer_and_the_report_say_what_was_found(searched, tmp_path, drawn):
    sweep = copy_of(searched, tmp_path).confirm(looks=[8]).final(seeds=2)
    final = sweep.final_models
    assert final["sentence"] in " ".join(str(sweep).split())
    found = html.unescape((sweep.home.path / page.NAME).read_text(encoding="utf-8"))
    assert f"<p>{final['sentence']}</p>" in found
    for metric, interval in final["test"].items():
        assert f'<th scope="row">{metric}</th><td class="n">{interval_text(interval)}</td>' in found


def test_the_test_part_is_read_once_for_each_model_and_nothing_is_validated(searched, tmp_path, monkeypatch):
    asked, parts = [], []
    evaluate, start = ExpectedTrainer.evaluate, ExpectedTrainer.start

    def spy_start(self, jobs):
        parts.extend(job.parts for job in jobs)
        return start(self, jobs)

    monkeypatch.setattr(ExpectedTrainer, "start", spy_start)
    monkeypatch.setattr(
        ExpectedTrainer, "evaluate", lambda self, id, part: asked.append((id, part)) or evaluate(self, id, part)
    )
    copy_of(searched, tmp_path).final(seeds=3)
    assert [part for _, part in asked] == ["test"] * 3
    assert parts == [("train",)] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["final.seeds=0"], "final.seeds=0"),
        (["final.seeds=1.5"], "final.seeds=1.5"),
        (["final.sedes=3"], "final.sedes=3: no such key. Did you mean seeds?"),
        (["final.seeds"], "final.seeds: a final model takes the sweep as it is"),
    ],
)
def test_wrong_options_are_refused(words, message):
    with pytest.raises(InputError) as error:
        parse_words(words)
    assert str(error.value).startswith(message)


def test_no_such_trial_is_refused(searched, tmp_path):
    sweep = copy_of(searched, tmp_path)
    before = {path: path.read_bytes() for path in sweep.home.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="no such trial"):
        sweep.final(trial="cosine:99")
    assert {path: path.read_bytes() for path in sweep.home.path.rglob("*") if path.is_file()} == before


def test_seeds_that_did_not_end_well_are_named_and_not_averaged(searched, tmp_path):
    final = copy_of(searched, tmp_path).final(seeds=3).final_models
    first, *others = final["models"]
    bad = {**first, "state": "diverged", "reason": "loss above the bound", "test": {}}
    text = sentence({**final, "models": [bad, *others]})
    assert "1 of 3 diverged (loss above the bound) and is not in it." in text
    assert "no training ended well" in sentence({**final, "models": [bad]})


# --- real models --------------------------------------------------------------------------------------

X = np.random.default_rng(1).normal(100, 30, (90, 3))
PRICE = 5000 + 40 * X[:, 0] - 25 * X[:, 1]


def arrays(**options):
    return Supervised(Arrays(X, PRICE, **options), MLP)


def sweep_of(task, root, families=("constant",), **options):
    settings = {"steps": 60, "n_trials": 2, "tracking": "none", "trainer": {"workers": 1}, "search": {"reports": 4}}
    return package.sweep(task, list(families), optimizer="adamw", root=root, **{**settings, **options})


@pytest.mark.parametrize("options", [{}, {"folds": 3}], ids=["split", "folds"])
def test_weights_give_the_model_that_was_judged_from_raw_inputs(tmp_path, options):
    """The module gets X as the user has it, and its error on the test part is the reported one, in the unit of y."""
    task = arrays(**options)
    final = sweep_of(task, tmp_path).final(task, seeds=2).final_models
    assert final["examples"] == {"train": 54 if not options else 48, "valid": 18 if not options else 24, "test": 18}
    x_B, y_B = task.data.fetch("test", 0, torch.arange(18))
    raw_B, price_B = task.data.given(x_B, 0), task.data.scaling.target.invert(y_B)
    for model in final["models"]:
        path = tmp_path / final["sweep"] / model["weights"]
        assert path.suffix == ".safetensors"
        module = serving.served(task, model["seed"], final["trial"]["params"], stored_weights.read_final(path))
        error = (module(raw_B).flatten() - price_B.flatten()).abs().mean().item()
        assert error == pytest.approx(model["test"]["test/mae"], rel=1e-5)


def test_lanes_train_what_one_at_a_time_does(tmp_path):
    task = arrays()
    found = [
        sweep_of(task, tmp_path / kind, trainer={kind: {"workers": 1}})
        .final(task, trial="constant:0", seeds=3)
        .final_models
        for kind in ("sequential", "lanes")
    ]
    alone, stacked = ([model["test"]["test/loss"] for model in one["models"]] for one in found)
    assert stacked == pytest.approx(alone, rel=1e-3)
    assert len(set(alone)) == 3


def test_training_sees_train_and_valid(tmp_path, monkeypatch):
    """An update of all 72 examples moves by their mean gradient: the loss of the first is that of both parts."""
    task = arrays()
    sweep = sweep_of(task, tmp_path, batch_size=54)
    sweep.final(task, seeds=1)
    (record,) = (one for one in sweep.replicates if one.study.endswith(".final"))
    from sweeper.tracking.traces import read_trace
    from sweeper.training.randomness import batches

    index_B = batches(record.seeds[0], 0, 1, 54, 72)[0]
    assert (index_B >= 54).any(), "some are of the validation part"
    x, y = (torch.cat(both) for both in zip(*(every(task, part) for part in ("train", "valid")), strict=True))
    expected = task.loss(task.build(record.seeds[0])(x[index_B]), y[index_B]).mean().item()
    trace = read_trace(sweep.home.path, record.study, record.number)["train/loss"].dropna()
    assert trace.iloc[0] == pytest.approx(expected, rel=1e-5)


def every(task, part):
    return task.fetch(part, 0, torch.arange(task.size(part, 0)))


def test_without_a_test_part_it_is_said_what_is_known(tmp_path):
    task = arrays(test=0)
    sweep = sweep_of(task, tmp_path).final(task, seeds=2)
    final = sweep.final_models
    assert final["test"] is None
    assert "The data have no test part, so nothing measures these models" in final["sentence"]
    assert final["beside"] == {"where": "in the search", "metric": "valid/loss", "value": sweep.best["value"]}
    assert "trained on the training part alone (in the search)" in final["sentence"]


def test_a_reactive_schedule_repeats_the_lrs_that_it_had(tmp_path):
    task = arrays()
    eager = {"plateau": {"patience": 0, "threshold": 1e9}}  # every report is a bad one
    sweep = package.sweep(
        task, eager, optimizer="adamw", steps=60, n_trials=2, tracking="none", search={"reports": 8},
        trainer={"workers": 1}, root=tmp_path,
    ).final(task, seeds=1)  # fmt: skip
    from sweeper.tracking.traces import read_trace

    (record,) = (one for one in sweep.replicates if one.study.endswith(".final"))
    lr_S = read_trace(sweep.home.path, record.study, record.number)["lr/group0"].dropna().to_numpy()
    trial = sweep.final_models["trial"]["name"]
    assert len(set(lr_S)) > 3, "the schedule reacted"
    np.testing.assert_array_equal(lr_S, sweep.lr(trial))


def test_without_safetensors_weights_are_in_torchs_format(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_weights, "_safetensors", lambda: None)  # as if it were not installed
    task = arrays()
    final = sweep_of(task, tmp_path).final(task, seeds=1).final_models
    (model,) = final["models"]
    assert model["weights"].endswith(".pt")
    assert set(stored_weights.read_final(tmp_path / final["sweep"] / model["weights"])) == set(
        task.build(0).state_dict()
    )


def test_the_plan_says_the_horizon_and_the_examples(searched):
    from sweeper.views import final_models

    planned = finalizing.plan(searched, FinalSpec(3))
    text = "\n".join(final_models.plan_lines(searched, planned, searched._subject.task))
    assert "with 3 seeds on train + valid: 4,096 + 1 examples" in text
    assert "updates each, as in the search" in text


KILLED = str(Path(__file__).parent / "scripts" / "killing.py")


@pytest.mark.slow
def test_killed_and_resumed_the_models_are_registered_once_and_predict_the_same(tmp_path):
    """The command line on real data, killed twice. Whoever loads a model needs neither this package nor its data."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    words = ["name=d", "data=digits", "model=mlp", "schedule=[cosine]", "train.steps=100", "search.n_trials=3"]
    assert run(sys.executable, "-m", "sweeper", *words, "model.dropout=0.1", "model.width=16").returncode == 0
    for rounds in (2, 9, 10**9):
        ended = run(sys.executable, KILLED, str(rounds), "final", "final.seeds=3")
        assert ended.returncode == (0 if rounds == 10**9 else -signal.SIGKILL), ended.stderr
    final = package.load(tmp_path / "sweeps" / "d").final_models
    assert [model["version"] for model in final["models"]] == ["1", "2", "3"]
    again = run(sys.executable, "-m", "sweeper", "final", "final.seeds=3", "--json")
    assert json.loads(again.stdout) == final, "nothing is logged twice"

    with warnings.catch_warnings(action="ignore"):  # of libraries under MLflow
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        versions = client.search_model_versions("name = 'd'")
        runs = {version.tags["seed"]: client.get_run(version.run_id) for version in versions}
    assert runs.keys() == {str(model["seed"]) for model in final["models"]}
    for model in final["models"]:
        metrics = runs[str(model["seed"])].data.metrics
        assert metrics["test/accuracy"] == pytest.approx(model["test"]["test/accuracy"])

    from sweeper.tasks.digits import Digits

    data = Digits()
    inputs_B, target_B = data.fetch("test", 0, torch.arange(data.size("test", 0)))
    np.save(tmp_path / "pixels.npy", data.given(inputs_B, 0).numpy())
    np.save(tmp_path / "label.npy", target_B.numpy())
    stranger = (
        "import sys; sys.modules['sweeper'] = None; import mlflow, numpy, torch\n"
        "sys.modules['pytorch_lightning'] = None\n"  # which mlflow.pytorch imports, and may not fit this torch
        "import mlflow.pytorch\n"
        "x, y = numpy.load('pixels.npy'), numpy.load('label.npy')\n"
        "for k in '123':\n"
        "    model = mlflow.pytorch.load_model(f'models:/d/{k}')\n"
        "    of_function = mlflow.pyfunc.load_model(f'models:/d/{k}')\n"
        "    with torch.no_grad(): output = model(torch.from_numpy(x)).numpy()\n"
        "    assert numpy.array_equal(output, of_function.predict(x))\n"
        "    assert of_function.metadata.signature is not None\n"
        "    print((output.argmax(1) == y).mean())\n"
    )
    loaded = run(sys.executable, "-W", "ignore", "-c", f"{stranger}")
    assert loaded.returncode == 0, loaded.stderr
    accuracies = [float(line) for line in loaded.stdout.split()]
    assert accuracies == pytest.approx([model["test"]["test/accuracy"] for model in final["models"]])
