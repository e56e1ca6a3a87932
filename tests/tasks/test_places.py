"""Where examples lie: the host gives the same batches as the device, in the order asked for."""

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from sweeper.tasks.places import Host, Resident, Rows

# torch's DataLoader forks its processes, of which Python from 3.12 on warns where there are threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.arange(20)
ORDER_SB = np.random.default_rng(0).integers(0, 20, (7, 4))


class Pairs:
    """A map-style data set of Python numbers and arrays."""

    def __len__(self):
        return 20

    def __getitem__(self, place):
        return {"x": X[place], "twice": (X[place], 2.0)}, int(Y[place])


def mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return Rows(np.load(tmp_path / "x.npy", mmap_mode="r"), Y)


DATASETS = {
    "arrays": lambda _: Rows(X, Y),
    "mapped": mapped,
    "tensors": lambda _: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "subset": lambda _: Subset(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), range(20)),
}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", DATASETS)
def test_batches_stream_in_the_order_asked_for(kind, workers, tmp_path):
    host = Host(DATASETS[kind](tmp_path), workers).to(torch.device("cpu"))
    resident = Resident(torch.from_numpy(X), torch.from_numpy(Y))
    for order_SB in (ORDER_SB, ORDER_SB[2:3], ORDER_SB[:0]):
        found = list(host.stream(order_SB))
        assert len(found) == len(order_SB)
        for (x, y), index_B in zip(found, torch.from_numpy(order_SB), strict=True):
            expected = resident.fetch(index_B)
            assert torch.equal(x, expected[0])
            assert torch.equal(y, expected[1])
            assert all(torch.equal(a, b) for a, b in zip(host.fetch(index_B), expected, strict=True))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stream_that_was_broken_off_leaves_nothing_in_the_next(workers):
    host = Host(Rows(X, Y), workers)
    begun = host.stream(ORDER_SB)
    next(begun)
    assert [y.tolist() for _, y in host.stream(ORDER_SB[3:])] == Y[ORDER_SB[3:]].tolist()


def test_examples_may_be_mappings_and_tuples():
    inputs_B, target_B = Host(Pairs()).fetch(torch.tensor([3, 1]))
    assert inputs_B["x"].tolist() == X[[3, 1]].tolist()
    assert inputs_B["twice"][1].tolist() == [2.0, 2.0]
    assert target_B.tolist() == [3, 1]
    ((streamed, _),) = Host(Pairs()).stream(np.array([[3, 1]]))
    assert torch.equal(streamed["x"], inputs_B["x"])


def test_streaming_moves_no_global_generator():
    before = torch.get_rng_state()
    list(Host(Rows(X, Y)).stream(ORDER_SB))
    assert torch.equal(torch.get_rng_state(), before)
