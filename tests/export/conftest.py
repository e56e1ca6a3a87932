"""A trained sweep of all families, and libraries that import in every environment."""

import importlib
import os
import sys
from types import ModuleType

import numpy as np
import pytest

import sweeper
from sweeper.spec.composing import compose
from sweeper.spec.config_files import families, folder
from sweeper.spec.requests import Request
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
