"""The sweeps of the golden record: words of the command line, and a task as a user writes one in Python.

They train in float64. Rounding differences between processors then stay far below the tolerance and change no decision
of a sampler or pruner.
"""

import numpy as np
from torch import nn

BASE = (
    "data=digits",
    "model=mlp",
    "device=cpu",
    "trainer=sequential",
    "trainer.workers=1",
    "tracking=none",
    "train.precision=float64",
    "search.concurrent_trials=2",
    "search.sampler.n_startup_trials=3",  # the other trials are guided
    "pruner.n_startup_trials=2",
)

# Covers every state of a trial except `failed`, and five families of different shapes.
SWEEP = (
    *BASE,
    "schedule=[constant,cosine,onecycle,sgdr,wsd]",
    "model.width=8",
    "train.steps=48",
    "search.reports=8",
    "search.n_trials=8",
    "pruner.n_warmup_steps=2",
    "optimizer.peak_lr.high=30",  # some trials diverge
)

# The sweeps in the stored folders. A checkpoint identifies trials by their LRs. Those of constant and linear use only
# + - * /, so they have the same bits on every machine.
STORED = (
    *BASE,
    "schedule=[constant,linear]",
    "model.width=4",
    "train.steps=24",
    "search.reports=4",
    "search.n_trials=5",
    "pruner.n_warmup_steps=1",
    "optimizer.peak_lr.high=30",
    "keep.best=1",
)
FOLDERS = {
    "finished": ("name=finished",),
    "stopped": ("name=stopped", "train.norms=false"),
    "stopped_in_lanes": ("name=stopped_in_lanes", "train.norms=false", "trainer=lanes", "trainer.width=3"),
}
STOPPED_AFTER = 5  # committed rounds when the signal arrives; the current round is then finished too
SWEEP_STOPPED_AFTER = 11

# Trains nothing: the timeout is over before the first round, and the folder already has the sweep's configuration.
ASKED_ONLY = ("device=cpu", "trainer=sequential", "trainer.workers=1", "tracking=none", "search.timeout=1e-9")
DIGITS = ("data=digits", "model=mlp")
TEXT = ("data.path=text", "data.pattern=*.txt", "data.valid_size=256", "data.test_size=256")  # `write_text`

QUESTIONS = {
    "core": DIGITS,
    "argmax": ("data=argmax", "model=mlp", "schedule=constant"),
    "experiment": ("experiment=argmax", "schedule=constant"),
    "mnist1d": ("data=mnist1d", "model=mlp", "schedule=constant"),
    "tabular": ("data=tabular", "model=tabular", "schedule=constant"),
    "text": ("data=text", *TEXT, "model=ngram", "schedule=constant"),
    "adamw": (*DIGITS, "optimizer=adamw", "schedule=cosine"),
    "muon": (*DIGITS, "optimizer=muon", "schedule=cosine"),
    "train": (
        *DIGITS,
        "schedule=cosine",
        "train.steps=null",
        "train.epochs=4",
        "schedule_unit=epoch",
        "train.clip=1",
        "train.ema=0.99",
        "train.accumulate=2",
        "train.precision=bfloat16",
    ),
    "search": (
        *DIGITS,
        "schedule=cosine",
        "data.folds=3",
        "search.seeds=2",
        "search.seed=5",
        "objective.metric=valid/accuracy",
        "objective.direction=maximize",
        "objective.at=best",
        "search.early_stopping={patience: 3}",
        "search.allow_truncation=true",
        "optimizer.weight_decay={low: 0.0001, high: 0.01, log: true}",
        "model.dropout={choice: [0.0, 0.1]}",
    ),
}

# fmt: off
OPTIMIZERS = [
    "adabound", "adadelta", "adafactor", "adagrad", "adam", "adam_hd", "adamax",
    "dadapt_adam", "dadapt_sgd", "kfac", "lion", "nadam", "natural_gradient", "prodigy",
    "radam", "rmsprop", "schedule_free_adamw", "schedule_free_sgd", "sgd_hd", "shampoo", "soap",
]
# fmt: on
MORE_QUESTIONS = {
    "all": (*DIGITS, "schedule=all"),
    "sequences": ("data=text_sequence", *TEXT, "model=transformer", "schedule=cosine"),
    "gpt": ("data=text_sequence", *TEXT, "model=gpt", "schedule=cosine"),
    **{
        f"data_{data}_{model}": (f"data={data}", f"model={model}", "schedule=constant")
        for data, models in {"digits": ("cnn", "resnet", "resnet9", "resnet18"), "mnist1d": ("cnn",)}.items()
        for model in models
    },
    **{f"optimizer_{name}": (*DIGITS, f"optimizer={name}", "schedule=constant") for name in OPTIMIZERS},
    **{f"search_{name}": (*DIGITS, f"search={name}", "schedule=cosine") for name in ("cmaes", "gp", "qmc", "random")},
    **{
        f"pruner_{name}": (*DIGITS, f"pruner={name}", "schedule=cosine")
        for name in ("hyperband", "none", "patient", "percentile", "successive_halving")
    },
    "pruner_threshold": (*DIGITS, "pruner=threshold", "pruner.upper=3", "schedule=cosine"),
}


def write_text(folder):
    """Write the text files for the text sweeps. Their default data depend on Python's version."""
    (folder / "text").mkdir(exist_ok=True)
    for file in range(8):
        lines = [f"line {number} of file {file} says {number * file % 17}" for number in range(120)]
        (folder / "text" / f"{file}.txt").write_text("\n".join(lines), encoding="utf-8")


class Net(nn.Module):
    """A user's model: its code is part of what identifies a sweep."""

    def __init__(self, inputs, outputs, width=5):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.last = nn.Linear(width, outputs)

    def forward(self, x):
        return self.last(self.first(x).tanh())


def points():
    """Return inputs and targets made from whole numbers, so that they have the same bits on every machine."""
    row, column = np.indices((120, 6))
    X = ((row * 7 + column * column * 13) % 17 / 16 - 0.5).astype(np.float32)
    return X, ((row[:, 0] * 7) % 17 > 8).astype(np.int64)


def task(scale="auto"):
    """Return a task with the user's arrays and model. The recorded sweeps have arrays that are not standardized."""
    from sweeper.tasks import Arrays, Supervised

    return Supervised(Arrays(*points(), scale=scale, name="points"), Net)


def sweep_in_python(root, families=("constant", "linear"), scale="auto"):
    """Run a sweep of that task from Python, in the folder `root`."""
    import sweeper

    return sweeper.sweep(
        task(scale),
        list(families),
        optimizer="adamw",
        steps=24,
        n_trials=4,
        train={"precision": "float64"},
        search={"reports": 4, "concurrent_trials": 2},
        pruner={"n_startup_trials": 2, "n_warmup_steps": 1},
        trainer={"sequential": {"workers": 1}},
        tracking="none",
        device="cpu",
        keep={"best": 1},
        root=root,
    )
