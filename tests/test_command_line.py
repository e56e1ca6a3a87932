"""Commands as users type them: wrong input gives one line and exit code 2, and nothing is written."""

import json
import os
import pty
import subprocess
import sys
from functools import partial

import pytest

SMALL = [
    "data=digits",
    "model=mlp",
    "model.width=8",
    "train.steps=8",
    "search.reports=4",
    "search.n_trials=2",
    "search.concurrent_trials=2",
    "tracking=none",
]


@pytest.fixture
def composed_once():
    """Override the shared fixture: these commands run all of Hydra."""


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


WRONG = {
    "no such verb": (["swep"], "verb=swep"),
    "unknown key": (["train.stepz=3"], "train.stepz: no such key. Did you mean steps?"),
    "unknown top-level key": (["+foo=3"], "foo: no such key"),
    "unknown number of a family": (["schedule=cosine", "schedule.cosine.decai=0.1"], "Did you mean decay?"),
    "unknown family": (["schedule=cosin"], "schedule=cosin: no such choice. Did you mean cosine?"),
    "family not chosen": (["schedule=cosine", "schedule.wsd.decay=0.1"], "schedule.wsd: this family is not chosen"),
    "no family": (["schedule=[]"], "no family is chosen"),
    "empty range": (["schedule=cosine", "schedule.cosine.decay.low=0.9"], "schedule.cosine.decay=0.9..0.3"),
    "warmup of 1": (["schedule=cosine", "warmup=1.0"], "sweeper: warmup=1.0"),
    "warmup choice of 1": (["schedule=cosine", "warmup={choice: [0, 1.5]}"], "sweeper: warmup=1.5"),
    "decay of 0": (["schedule=exponential", "schedule.exponential.decay=0"], "schedule.exponential.decay=0"),
    "shared range": (["schedule=cosine", "schedule.cosine.peak_lr.high=3"], "optimizer.peak_lr.high=..."),
    "neither steps nor epochs": (["train.steps=null"], "train.steps=null: neither steps nor epochs are set"),
    "steps and epochs": (["train.epochs=3"], "train.epochs=3: train.steps=8 is set, too"),
    "no steps": (["train.steps=0"], "train.steps=0"),
    "reports": (["search.reports=6"], "search.reports=6: not a multiple of 4"),
    "more reports than steps": (["train.steps=4", "search.reports=8"], "search.reports=8: more than"),
    "optimizer option": (["optimizer.momentun=0.9"], "optimizer.momentun"),
    "optimizer range": (["optimizer.momentum={low: -0.5, high: 0.9}"], "momentum=-0.5"),
    "optimizer": (
        ["optimizer={_target_: torch.optim.SDG, peak_lr: 1, default_lr: 1}"],
        "optimizer._target_=torch.optim.SDG",
    ),
    "optimizer without its peak LRs": (["optimizer._target_=torch.optim.Adam"], "optimizer.peak_lr: missing"),
    "data": (["data._target_=sweeper.tasks.digits.Digit"], "data"),
    "data path": (["data=text", "model=ngram", "data.path=nowhere"], "data.path=nowhere"),
    "model option": (["model.widht=3"], "model"),
    "model that does not fit": (["model=ngram"], "model"),
    "metric": (["objective.metric=valid/acuracy"], "Choose one of valid/loss, valid/accuracy"),
    "objective": (["objective.at=first"], "objective.at=first: no such choice"),
    "precision": (["train.precision=float16"], "train.precision=float16"),
    "device": (["device=gpu"], "device=gpu"),
    "sampler option": (["schedule=cosine", "+search.sampler.n_startup=3"], "n_startup"),
    "grid without steps": (["schedule=cosine", "search=grid"], "choice"),
    "start point": (["schedule=cosine", "search.start={cosine: [{peak: 1}]}"], "search.start.cosine[0].peak"),
    "start of no family": (["schedule=cosine", "search.start={wsd: []}"], "search.start.wsd"),
    "name": (["name=a/b"], "name=a/b: not a folder name"),
    "tracking key": (["tracking=mlflow", "tracking.url=x"], "tracking.url: no such key of sweeper.tracking.mlflow."),
    "tracking key of nothing": (["tracking.uri=x"], "tracking.uri: tracking._target_ is null"),
    "tracking key of another": (
        ["tracking.uri=null", "tracking._target_=fractions.Fraction"],
        "tracking.uri: no such key of fractions.Fraction",
    ),
    "tracker": (["tracking._target_=mine.Tracker"], "tracking._target_=mine.Tracker: not found: no module mine"),
    "tracking host": (["tracking=mlflow", "tracking.uri=http://me:pw@"], "tracking.uri=http://***@: not a web address"),
    "tracking file": (["tracking=mlflow", "tracking.uri=sqlite://mlflow.db"], "sqlite://mlflow.db: not the path of a"),
    "tracking seconds": (["tracking=mlflow", "tracking.flush_seconds=abc"], "flush_seconds=abc: not a finite number"),
    "experiment": (["tracking=mlflow", "tracking.experiment=a/b"], "tracking.experiment=a/b: MLflow's pages cannot"),
    "tracking address": (["tracking=mlflow", "tracking.uri=mlruns"], "tracking.uri=mlruns: MLflow has no such store"),
    "key added to search": (["+search.n_trails=5"], "search.n_trails=5: no such key. Did you mean n_trials?"),
    "key added to train": (["+train.bogus=1"], "train.bogus=1: no such key"),
    "key added to tracking": (["tracking=mlflow", "+tracking.foo=1"], "tracking.foo: no such key of"),
    "key added to keep": (["+keep.foo=1"], "keep.foo=1: no such key"),
    "key added to objective": (["+objective.foo=1"], "objective.foo=1: no such key"),
    "key added to a sampler": (["search.sampler.foo=1"], "search.sampler.foo=1"),
    "key added to a pruner": (["+pruner.foo=1"], "pruner.foo=1"),
    "key added to a trainer": (["trainer=sequential", "+trainer.foo=1"], "trainer.foo=1: no such option of"),
    "key added to the choice of a trainer": (["trainer=auto", "+trainer.foo=1"], "trainer.foo=1: no such key"),
    "key added to the task": (["task.foo=1"], "foo"),
    "key added at the top": (["+foo=1"], "foo: no such key"),
    "key taken away": (["~train.steps"], "train.steps: missing. Leave out ~train.steps"),
    "group taken away": (["~pruner"], "pruner: missing. Leave out ~pruner"),
    "group at null": (["pruner=null"], "pruner=null: not a choice"),
    "a list for a task": (["task=[1]"], "task=[1]: not a mapping of keys"),
    "a list for a text": (["name=[a,b]"], "name=[a, b]: not a text. Write one, such as first-try"),
    "a name that is too long": (["name=" + "a" * 300], "300 characters, too long for the name of a folder"),
    "a number for a section": (["train=5"], "train=5: not a mapping of keys. Set train.steps=1000 and the like"),
    "a metric for a section": (["objective=valid/accuracy"], "Set objective.metric=valid/accuracy and the like"),
    "a number for a group": (["model=5"], "model=5: no such choice. Choose one of cnn,"),
    "null for a node": (["task=null"], "task=null: not a mapping of keys"),
    "a list for a group": (["pruner=[median,none]"], "-m pruner=median,none"),
    "a family twice": (["schedule=[cosine,cosine]"], "cosine is named twice"),
    "families without brackets": (["schedule=cosine,linear"], "Write 'schedule=[cosine,linear]'"),
    "a wrong family in a list": (["schedule=[cosine,cosin]"], "schedule=cosin: no such choice. Did you mean cosine?"),
    "a mapping for families": (["schedule={cosine: {decay: 0.1}}"], "Write schedule=cosine schedule.cosine.decay=0.1"),
    "a value for a family": (["schedule=cosine", "schedule.cosine=5"], "schedule.cosine=5: not a mapping of hyper"),
    "a path for a group": (["model=../../x"], "model=../../x: not the name of a config file"),
    "a file for the data": (["data=iris.csv"], "Write data=tabular data.path=iris.csv"),
    "several values": (["train.batch_size=8,16"], "train.batch_size=8,16: several values. Train a sweep for each: -m"),
    "a horizon that overflows": (["train.steps=1000000000000"], "at most 1e+08"),
    "a batch of more than all examples": (["train.batch_size=1000000"], "more than the 1078 training examples"),
    "a pruner that fails in use": (["pruner=hyperband", "pruner.reduction_factor=1"], "pruner.reduction_factor=1: not"),
    "a pruner's text": (["pruner.n_startup_trials=abc"], "pruner.n_startup_trials=abc: not a whole number"),
    "a sampler's text": (["search.sampler.multivariate=maybe"], "not true or false or null, which TPESampler needs"),
    "a high end of the model": (["model.dropout={low: 0, high: 3}"], "model.dropout=3: must be the fraction"),
    "groups that are a number": (["optimizer.groups=3"], "optimizer.groups=3: must be groups by name"),
    "a start that is no list": (
        ["schedule=cosine", "search.start={cosine: 5}"],
        "search.start.cosine=5: not a list of",
    ),
    "epochs at the top": (["epochs=5"], "epochs: no such key. Did you mean train.epochs?"),
    "lr at the top": (["lr=0.1"], "lr: no such key. Did you mean optimizer.peak_lr?"),
    "decay at the top": (["decay=0.1"], "Did you mean schedule.cosine.decay?"),
    "a family's key at the top": (["cosine.decay=0.1"], "Did you mean schedule.cosine?"),
    "torch's name of a schedule": (["schedule=CosineAnnealingLR"], "Did you mean cosine?"),
    "a misspelled verb": (["stauts"], "verb=stauts: no such verb. Did you mean status?"),
    "a key without a value": (["train.steps=5", "+keep.foo"], "not understood: +keep.foo"),
    "a misspelled module": (["model._target_=mymodel.CNN"], "model._target_=mymodel.CNN: not found: no module mymodel"),
    "a misspelled class": (["model._target_=sweeper.tasks.models.MPL"], "Did you mean sweeper.tasks.models.MLP?"),
    "a misspelled class inside": (
        ["task.problem={_target_: torch.nn.CrossEntropyLos}"],
        "task.problem._target_=torch.nn.CrossEntropyLos: not found: torch.nn has no CrossEntropyLos. Did you mean",
    ),
    "the split": (["data.valid=0.0001"], "data.valid=0.0001: with data.test=0.2, the digits cannot be split"),
    "the peak LR of all": (["optimizer.peak_lr=-1"], "optimizer.peak_lr=-1: out of bounds"),
    "a folder of configuration": (["--config-dir=" + "a" * 300], "no such folder"),
    "a sweep with a long name": (["status", "a" * 300], "no such sweep in sweeps/"),
    "the choice of a group of Hydra": (["hydra=5"], "configuration: Config group override must be a string or a list"),
    "not an override": (["schedule=cosine", "a b=3"], "not understood: a b=3"),
    "no sweep": (["status"], "there is no sweep"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_one_line_and_writes_nothing(sweeper, tmp_path, check_form, wrong):
    words, says = WRONG[wrong]
    verb_first = words if words[0] in ("swep", "stauts", "status", "~pruner") else [*SMALL, *words]
    code, out, err = sweeper(*verb_first)
    assert (code, out) == (2, ""), (out, err)
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("sweeper: ")
    check_form(err.removeprefix("sweeper: ").strip())
    assert says in err
    assert written(tmp_path) == []


def test_one_family_joins_the_sweep_that_asks_the_same_question(sweeper, tmp_path):
    code, out, err = sweeper(*SMALL, "schedule=[constant,default_lr]")
    assert code == 0, err
    code, out, err = sweeper(*SMALL, "schedule=cosine")
    assert code == 0, err
    assert len(list((tmp_path / "sweeps").iterdir())) == 1
    code, out, err = sweeper("status", "--json")
    answer = json.loads(out)
    assert {row["family"]: row["trials"]["running"] for row in answer["families"]} == {
        "constant": 0,
        "default_lr": 0,
        "cosine": 0,
    }
    assert answer["finished"]
    assert sum(answer["trials"].values()) == 5
    code, out, err = sweeper("status")
    assert code == 0
    assert "cosine" in out


@pytest.mark.parametrize("name", ["20261128", "1e3", "true", "off"])
def test_a_name_is_the_text_that_was_typed(sweeper, tmp_path, name):
    assert sweeper(*SMALL, "schedule=default_lr", "search.n_trials=1", f"name={name}")[0] == 0
    assert [path.name for path in (tmp_path / "sweeps").iterdir()] == [name]
    assert sweeper("status", name)[0] == 0


def test_epochs_alone_replace_the_steps_of_the_configuration(sweeper):
    words = [word for word in SMALL if not word.startswith("train.steps")]
    code, out, err = sweeper(*words, "schedule=cosine", "train.epochs=5", "--cfg", "job")
    assert (code, err) == (0, "")
    assert "steps: null" in out
    assert "epochs: 5" in out


def test_another_question_under_a_name_is_refused(sweeper, tmp_path):
    assert sweeper(*SMALL, "schedule=cosine", "name=mine")[0] == 0
    before = written(tmp_path)
    code, _, err = sweeper(*SMALL, "schedule=cosine", "name=mine", "model.width=9")
    assert code == 2
    assert "model.width: 8 there, 9 here" in err
    assert written(tmp_path) == before
    code, _, err = sweeper(*SMALL, "schedule=cosine", "name=mine", "fresh=true")
    assert code == 0, err
    assert (tmp_path / "sweeps" / "mine.2").is_dir()


def test_multirun_over_structure_goes_on_after_a_wrong_one(sweeper, tmp_path):
    code, _, err = sweeper("-m", *SMALL, "schedule=cosine", "model.width=8,-1,9")
    assert code == 2
    assert "width" in err
    assert len(list((tmp_path / "sweeps").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["sweeps"]  # Hydra's multirun.yaml would hold every secret


def test_a_family_of_ones_own(sweeper, tmp_path):
    folder = tmp_path / "own" / "schedule"
    folder.mkdir(parents=True)
    (folder / "half.yaml").write_text(
        "half:\n  factor: my_factors.half\n  peak_lr: ${optimizer.peak_lr}\n  decay: {low: 0.1, high: 0.9}\n"
    )
    (tmp_path / "my_factors.py").write_text(
        "import numpy as np\n\n\n"
        "def half(tau_LS, decay_steps_L, *, decay=0.5):\n"
        "    return np.where(2 * tau_LS < decay_steps_L, 1.0, decay)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        code, _, err = sweeper(*SMALL, "--config-dir", "own", "schedule=half")
    finally:
        sys.path.remove(str(tmp_path))
    assert code == 0, err
    code, out, _ = sweeper("status", "--json")
    assert [row["family"] for row in json.loads(out)["families"]] == ["half"]


def test_cfg_prints_and_does_nothing(sweeper, tmp_path):
    code, out, _ = sweeper("schedule=cosine", "--cfg", "job")
    assert code == 0
    assert "factor: cosine" in out
    assert written(tmp_path) == []


def test_cfg_prints_no_secret(sweeper):
    code, out, _ = sweeper("tracking=mlflow", "tracking.uri=http://me:s3cretpw@host:5000", "--cfg", "job")
    assert code == 0
    assert "uri: http://***@host:5000\n" in out
    assert "s3cretpw" not in out


def test_help_is_light(tmp_path):
    code = "import sys; from sweeper.__main__ import main; sys.argv = ['sweeper', '--help']; main(); " + (
        "sys.exit(sorted({'hydra', 'torch', 'optuna', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0 or done.stderr.strip() == "[]", done.stderr
    assert "schedule=cosine" in done.stdout


LOADING = "Loading libraries, data and model ..."
SLOW_VERBS = [("schedule=none",), ("plan", "schedule=none"), ("preview", "schedule=none"), ("rerun", "--trial", "x:0"),
              ("retry",)]  # fmt: skip


@pytest.mark.parametrize("words", SLOW_VERBS, ids=lambda words: words[0])
def test_a_terminal_is_told_at_once_what_is_done_and_a_log_is_not(tmp_path, words):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "sweeper", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        assert os.read(master, 4096).decode().splitlines()[0] == LOADING
        assert process.wait(60) == 2
    os.close(master)
    assert LOADING not in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stderr


def test_a_trial_is_trained_again_and_python_trains_the_same(sweeper, tmp_path):
    """Rerun one of several trials that were open together. The equivalent call in Python has the same trials."""
    import sweeper as python
    from sweeper.tasks import Digits, Supervised
    from sweeper.tasks.models import MLP

    words = ["schedule=[cosine,wsd]", "optimizer=adamw", "trainer=sequential", "trainer.workers=1", "keep.best=1"]
    assert sweeper(*SMALL, *words)[0] == 0
    code, out, err = sweeper("rerun", "--trial", "wsd:1", "--weights", "w.pt")
    assert (code, err) == (0, "")
    assert "wsd:1 trained again, 8 updates: all " in out
    assert (tmp_path / "w.pt").exists()
    code, _, err = sweeper("rerun", "--trial", "wsd:2")
    assert code == 2
    assert "trial=wsd:2: no such trial in this sweep" in err
    theirs = python.load(root=tmp_path / "sweeps")
    mine = python.sweep(
        Supervised(Digits(), partial(MLP, width=8)),
        ["cosine", "wsd"],
        optimizer="adamw",
        steps=8,
        n_trials=2,
        search={"reports": 4, "concurrent_trials": 2},
        trainer={"sequential": {"workers": 1}},
        tracking="none",
        root=tmp_path / "mine",
    )
    columns = ["family", "trial", "state", "value", "peak_lr", "warmup"]
    assert mine.trials[columns].equals(theirs.trials[columns])
    assert theirs.weights(theirs.best).keys() == MLP(64, 10, width=8).state_dict().keys()
