"""A trained sweep of all families, and libraries that import in every environment."""

import os
import sys

import numpy as np
import pytest
import torch

import sweeper
from sweeper.spec.config_files import families, folder
from sweeper.tasks import Arrays, Supervised
from sweeper.tasks.models import MLP

os.environ.setdefault("KERAS_BACKEND", "torch")  # before the first import of Keras

NAMES = [*families([folder()]), "knots", "range_test", "wall_time"]
REACTIVE = ("greedy", "plateau", "plateau_keras", "wall_time")
CLOSED = [name for name in NAMES if name not in REACTIVE]
STEPS = 16  # updates of the sweep
HORIZON = 43  # of what is exported


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    """A sweep with one trial of each family; two of them cycle the momentum."""
    X = np.random.default_rng(0).normal(size=(200, 4))
    asked = {name: {} for name in NAMES}
    asked |= {name: {"momentum": "cycled"} for name in ("onecycle", "clr")}
    asked["wall_time"] = {"budget": 1e9}
    return sweeper.sweep(
        Supervised(Arrays(X, X[:, 0] > 0), MLP),
        asked,
        steps=STEPS,
        n_trials=1,
        search={"reports": 4},
        train={"norms": False},
        trainer={"sequential": {"workers": 1}},
        tracking="none",
        root=tmp_path_factory.mktemp("export") / "sweeps",
    )


@pytest.fixture(scope="session")
def torchvision():
    """Let torchvision be imported, which timm, transformers and Lightning do, although tests use nothing of it.

    With a build of torch that is not the index's own, such as one for CPUs only, torchvision's compiled part does not
    load, and its import ends at operators that are not defined. So they are defined here.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.operators = library  # which are defined as long as it lives
    return torchvision


def run(text):
    """Return the names that an exported file defines."""
    names = {"__name__": "schedule"}
    exec(compile(text, "schedule.py", "exec"), names)
    return names
