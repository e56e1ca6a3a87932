"""Final models in MLflow: logged once, registered once, loaded without this package, also from a moved folder."""

import shutil
from typing import NamedTuple

import mlflow
import pytest
import torch

from sweeper.tasks.models import MLP
from sweeper.tasks.scaling import Standardization
from sweeper.tasks.served import Served
from sweeper.tracking.mlflow import models
from sweeper.tracking.mlflow.client import Store, make_database
from sweeper.tracking.mlflow.destination import Destination, resolve
from sweeper.tracking.mlflow.models import Loggable, MissingRunError, log_models
from sweeper.tracking.mlflow.rows import Rows, RunKey

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

ID = "abcdef0123456789abcdef0123456789"
INPUTS = torch.arange(12, dtype=torch.float64).reshape(4, 3)


class Pair(NamedTuple):
    """Inputs of two tensors."""

    first: torch.Tensor
    second: torch.Tensor


class Adds(torch.nn.Module):
    """A module of pairs, whose code is in this file."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, pair):
        return self.layer(pair[0] + pair[1])


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    make_database(path)
    return path


@pytest.fixture
def destination(tmp_path, template, monkeypatch) -> Destination:
    """An MLflow with the runs of two trainings."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    shutil.copy(template, project / "mlflow.db")
    found = resolve(None, experiment="x", sweep_id=ID, named=False)
    store = Store(found)
    for number in (0, 1):
        tags = {"sweep.study": "cosine.final", "trial.number": str(number)}
        store.write(Rows(RunKey("cosine.final", number), f"cosine-{number}", 0, tags, params={"seed": "1"}), project)
    return found


def served():
    torch.manual_seed(0)
    mean = Standardization(INPUTS.numpy().mean(0), INPUTS.numpy().std(0))
    return Served(MLP(3, 2), mean).eval()


def loggable(module, number=0, example=INPUTS):
    return Loggable(
        module, example, "cosine.final", number, {"seed": str(number)}, {"test/loss": 0.5}, {"classes": ["a", "b"]}
    )


def test_a_model_is_logged_and_registered_once(destination):
    module = served()
    first = list(log_models(destination, "x", [loggable(module), loggable(module, 1)]))
    assert [one.version for one in first] == ["1", "2"]
    assert list(log_models(destination, "x", [loggable(module), loggable(module, 1)])) == first
    mlflow.set_tracking_uri(destination.uri)
    try:
        about = mlflow.models.get_model_info(first[0].uri)
        assert about.metadata == {"classes": ["a", "b"]}
        assert about.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float64", "shape": (-1, 3)}
        assert about.saved_input_example_info is not None
        loaded = mlflow.pytorch.load_model("models:/x/2")
        assert torch.equal(loaded(INPUTS), module(INPUTS))
        run = mlflow.get_run(Store(destination).runs[RunKey("cosine.final", 0)])
        assert run.data.metrics == {"test/loss": 0.5}
        assert [output.model_id for output in run.outputs.model_outputs] == [first[0].uri.removeprefix("models:/")]
    finally:
        mlflow.set_tracking_uri(None)


def test_inputs_of_several_tensors_have_no_signature(destination):
    module, example = Adds().eval(), Pair(torch.ones(2, 3), torch.ones(2, 3))
    (logged,) = log_models(destination, "x", [loggable(module, example=example)])
    mlflow.set_tracking_uri(destination.uri)
    try:
        assert mlflow.models.get_model_info(logged.uri).signature is None
        assert torch.equal(mlflow.pytorch.load_model(logged.uri)(example), module(example))
    finally:
        mlflow.set_tracking_uri(None)


def test_what_cannot_be_registered_is_logged(destination):
    (logged,) = log_models(destination, "a/b:c", [loggable(served())])  # no name of a registered model
    assert logged.version is None
    assert logged.uri.startswith("models:/m-")


def test_a_training_without_a_run_is_refused(destination):
    with pytest.raises(MissingRunError, match=r"cosine\.final trial 7 has no run"):
        list(log_models(destination, "x", [loggable(served(), 7)]))


def test_global_state_of_mlflow_and_cloudpickle_stays(destination):
    import cloudpickle

    before = mlflow.get_tracking_uri(), mlflow.active_run(), cloudpickle.list_registry_pickle_by_value()
    list(log_models(destination, "x", [loggable(served())]))
    assert (mlflow.get_tracking_uri(), mlflow.active_run(), cloudpickle.list_registry_pickle_by_value()) == before


def test_only_packages_that_are_installed_are_requirements():
    packages = models._packages(Served(Adds()))  # a private name, because the file that it goes into is MLflow's
    assert [name.partition("==")[0] for name in packages.requirements] == ["numpy", "torch"]
    assert "sweeper" in packages.sources


def test_a_moved_project_still_has_its_models(destination, tmp_path, monkeypatch):
    module = served()
    list(log_models(destination, "x", [loggable(module)]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = resolve(None, experiment="x", sweep_id=ID, named=False)
    Store(moved)  # as every command does
    mlflow.set_tracking_uri(moved.uri)
    try:
        assert torch.equal(mlflow.pytorch.load_model("models:/x/1")(INPUTS), module(INPUTS))
    finally:
        mlflow.set_tracking_uri(None)
