"""The hash, the batch order and the dropout masks, against what chance would do."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn
from torch.utils.checkpoint import checkpoint

from sweeper.training.randomness import (
    Clock,
    CountedDropout,
    batches,
    count_dropout,
    example_index,
    keep_mask,
    key_of,
    mix,
    permute,
    seeded_generators,
)

CPU = torch.device("cpu")
words = st.integers(0, 2**32 - 1)


# --- the hash ---------------------------------------------------------------------------------------


@given(st.lists(words, min_size=1, max_size=5), words)
def test_python_numpy_and_torch_agree_bit_for_bit(many: list[int], word: int) -> None:
    expected = [key_of(word, each, 3) for each in many]
    assert key_of(word, np.array(many, dtype=np.int64), 3).tolist() == expected
    assert key_of(word, torch.tensor(many), 3).tolist() == expected
    assert all(0 <= each < 2**32 for each in expected)


def test_golden_values() -> None:
    """These numbers are in checkpoints and traces of people: they must never change."""
    assert [mix(1), key_of(0), key_of(1, 2, 3)] == [2261973619, 3653269916, 3213538826]
    assert batches(7, 0, 2, 4, 10).tolist() == [[1, 3, 9, 2], [7, 6, 0, 4]]


def test_every_bit_of_a_word_turns_half_of_the_hash() -> None:
    word = np.random.default_rng(0).integers(0, 2**32, 20_000)
    for bit in range(32):
        turned = mix(word) ^ mix(word ^ (1 << bit))
        shares = [(turned >> out & 1).mean() for out in range(32)]
        assert np.abs(np.array(shares) - 0.5).max() < 0.02, bit


def test_order_and_number_of_words_matter() -> None:
    keys = [key_of(*each) for n in (1, 2, 3) for each in itertools.product(range(12), repeat=n)]
    assert len(set(keys)) == len(keys)


# --- batch order ------------------------------------------------------------------------------------


@given(words, st.integers(1, 3000))
def test_a_permutation_of_exactly_the_examples(key: int, size: int) -> None:
    sent = permute(key, np.arange(size), size)
    assert np.array_equal(np.sort(sent), np.arange(size))
    assert permute(key, torch.arange(size), size).tolist() == sent.tolist()


@given(words, st.integers(1, 2**40), st.integers(0, 2**50))
def test_any_place_can_be_asked_for_alone(seed: int, size: int, place: int) -> None:
    asked = example_index(seed, np.array([place, place + 1]), size)
    assert ((asked >= 0) & (asked < size)).all()
    assert example_index(seed, torch.tensor([place]), size).tolist() == asked[:1].tolist()


def test_batches_are_full_and_run_on_across_epochs() -> None:
    index_SB = batches(5, 0, 15, 8, 30)
    assert index_SB.shape == (15, 8)
    for epoch in index_SB.ravel().reshape(4, 30):
        assert sorted(epoch) == list(range(30))
    pieces = np.concatenate([batches(5, 0, 4, 8, 30), batches(5, 4, 15, 8, 30)])
    np.testing.assert_array_equal(pieces, index_SB)
    tiny = batches(5, 0, 3, 8, 3).ravel().reshape(8, 3)  # a batch larger than the data
    assert (np.sort(tiny, axis=1) == np.arange(3)).all()


def test_seeds_vectorise() -> None:
    seeds = np.array([[3], [4], [2**32 - 1]])
    both = example_index(seeds, np.arange(70)[None], 50)
    for row, seed in zip(both, seeds.ravel(), strict=True):
        np.testing.assert_array_equal(row, batches(int(seed), 0, 10, 7, 50).ravel())


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_every_order_of_a_few_is_equally_likely(size: int) -> None:
    keys = key_of(11, np.arange(60_000))[:, None]
    orders = Counter(map(tuple, permute(keys, np.arange(size)[None], size).tolist()))
    counts = [orders[order] for order in itertools.permutations(range(size))]
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [17, 97, 255, 256, 1437])
def test_no_place_no_neighbour_and_no_epoch_is_preferred(size: int) -> None:
    orders = permute(key_of(12, np.arange(400_000 // size))[:, None], np.arange(size)[None], size)
    chance = [np.bincount(orders[:, 0], minlength=size)]  # where the first goes
    for apart in (1, 2, int(size**0.5), int(size**0.5) + 1):  # how far from each other two close ones go
        chance.append(np.bincount((orders[:, apart:] - orders[:, :-apart]).ravel() % size, minlength=size)[1:])
    chance.append(np.bincount((orders[1:] - orders[:-1]).ravel() % size, minlength=size))  # the same, an epoch later
    assert min(chisquare(counts).pvalue for counts in chance) > 1e-3


def test_twenty_million_examples_cost_no_more_than_the_batch() -> None:
    index = batches(0, 10**6, 10**6 + 200, 32, 20_000_003).ravel()
    assert len(set(index.tolist())) > 0.999 * len(index)
    assert abs(index.mean() / 20_000_003 - 0.5) < 0.02


# --- dropout ----------------------------------------------------------------------------------------


def layer(kind: Any = nn.Dropout, p: float = 0.3, seed: int = 1, number: int = 0) -> CountedDropout:
    return CountedDropout(kind(p), Clock(seed), number)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_a_mask_drops_at_its_rate_and_keeps_the_mean(p: float) -> None:
    out = layer(p=p)(torch.ones(500, 400))
    spread = (p * (1 - p) / out.numel()) ** 0.5
    assert abs((out == 0).double().mean().item() - p) < 4 * spread
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}


def test_masks_are_independent_in_rows_columns_steps_layers_and_calls() -> None:
    drop = layer(p=0.5)
    base = drop(torch.ones(256, 256)) > 0
    others = {"row": base.roll(1, 0), "column": base.roll(1, 1), "diagonal": base.roll((1, 1), (0, 1))}
    others["call"] = drop(torch.ones(256, 256)) > 0
    drop.clock.step = 1
    others["step"] = drop(torch.ones(256, 256)) > 0
    others["layer"] = layer(p=0.5, number=1)(torch.ones(256, 256)) > 0
    others["seed"] = layer(p=0.5, seed=2)(torch.ones(256, 256)) > 0
    for name, other in others.items():
        assert abs((base == other).double().mean().item() - 0.5) < 4 * 0.5 / 256, name
    drop.clock.step = 0
    assert torch.equal(drop(torch.ones(256, 256)) > 0, base)


def test_an_element_keeps_its_mask_whatever_the_size_of_the_batch() -> None:
    assert torch.equal(layer()(torch.ones(8, 6))[:3], layer()(torch.ones(3, 6)))
    numbers = keep_mask(key_of(1), 2**31, 4, 6, CPU)
    assert torch.equal(keep_mask(key_of(1), 2**31, 9, 6, CPU)[:4], numbers)


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_edges_agree_with_torch(kind: type[nn.Module]) -> None:
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    off = layer(kind)
    off.eval()
    assert torch.equal(off(x), x)
    assert torch.equal(layer(kind, 0.0)(x), x)
    assert torch.equal(layer(kind, 1.0)(x), x * 0)


@pytest.mark.parametrize(
    ("kind", "shape", "mask"),
    [
        (nn.Dropout1d, (7, 5, 6), (7, 5, 1)),
        (nn.Dropout1d, (40, 6), (40, 1)),
        (nn.Dropout2d, (7, 5, 6, 6), (7, 5, 1, 1)),
        (nn.Dropout3d, (7, 5, 2, 3, 4), (7, 5, 1, 1, 1)),
        (nn.Dropout3d, (40, 2, 3, 4), (40, 1, 1, 1)),
    ],
)
def test_channels_are_dropped_whole_as_torch_does(kind: Any, shape: tuple[int, ...], mask: tuple[int, ...]) -> None:
    for drop in (layer(kind, 0.5), kind(0.5)):
        zero = drop(torch.ones(shape)) == 0
        channel = zero.view(*mask[: sum(n > 1 for n in mask)], -1)
        assert torch.equal(channel.all(-1), channel.any(-1))
        assert 0 < channel[..., 0].double().mean() < 1


def test_alpha_dropout_keeps_mean_and_variance_and_has_torchs_two_values() -> None:
    x = torch.randn(1000, 300, generator=torch.Generator().manual_seed(0))
    out = layer(nn.AlphaDropout, 0.2)(x)
    assert abs(out.mean().item()) < 0.01
    assert abs(out.var().item() - 1) < 0.02
    ones = torch.ones(50, 50)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(nn.AlphaDropout, 0.2)(ones).unique(), nn.AlphaDropout(0.2)(ones).unique())


class Shared(nn.Module):
    """One dropout layer used twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.again = nn.Dropout(0.5, inplace=True)
        self.block = nn.Sequential(nn.Linear(2, 2), nn.Dropout2d(0.1), nn.ModuleList([nn.Dropout(0.2)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.first(x.clone()), self.again(x.clone())])


def test_layers_are_replaced_where_they_are_numbered_and_shared() -> None:
    model: Any = Shared()
    model.block.eval()
    assert count_dropout(model, Clock(0)) is model
    assert model.first is model.again
    assert [m.layer for m in model.modules() if isinstance(m, CountedDropout)] == [0, 1, 2]
    assert not any(type(m).__module__.startswith("torch.nn.modules.dropout") for m in model.modules())
    flags = [m.training for m in model.modules() if isinstance(m, CountedDropout)]
    assert flags == [True, False, False]
    first, second = model(torch.ones(20, 20))
    assert not torch.equal(first, second)
    assert isinstance(count_dropout(nn.Dropout(0.1), Clock(0)), CountedDropout)


def test_a_checkpointed_forward_pass_repeats_its_mask() -> None:
    for reentrant in (False, True):
        clock = Clock(0)
        drop = CountedDropout(nn.Dropout(0.5), clock, 0)
        x = torch.ones(30, requires_grad=True)
        out = checkpoint(lambda v, drop=drop: drop(v) ** 2, x, use_reentrant=reentrant)
        clock.backward = True
        out.sum().backward()
        assert x.grad is not None
        torch.testing.assert_close(x.grad, 2 * out.detach())  # d(m x)^2 = 2 m^2 x at x = 1
    drop(x)
    clock.backward = False
    drop(x)
    drop(x)
    clock.backward = True
    with pytest.raises(RuntimeError, match="layer of its own"):
        drop(x)


# --- global generators ------------------------------------------------------------------------------


def draws() -> tuple[Any, ...]:
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()


def test_global_generators_are_seeded_within_and_untouched_after() -> None:
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    expected = draws()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    with seeded_generators(5, CPU):
        one = draws()
    with contextlib.suppress(KeyError), seeded_generators(5, CPU):
        other = draws()
        raise KeyError
    assert draws() == expected
    assert one == other != expected
