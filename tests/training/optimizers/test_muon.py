"""Muon for a whole model: which weights it takes, and that each half is torch's own optimizer."""

from __future__ import annotations

import torch
from torch import nn

from sweeper.training.optimizers.muon import Muon, hidden_matrices


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.first = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.second = nn.Linear(6, 4)
        self.head = nn.Linear(4, 5)


def model(seed: int = 0) -> Net:
    net, draw = Net().double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    return net


def test_hidden_matrices_are_those_of_linear_layers_but_the_last() -> None:
    net = model()
    assert [id(weight) for weight in hidden_matrices(net)] == [id(net.first.weight), id(net.second.weight)]
    tied = model()
    tied.first.weight = nn.Parameter(torch.zeros(5, 4))
    tied.embedding.weight = tied.first.weight
    assert [id(weight) for weight in hidden_matrices(tied)] == [id(tied.second.weight)]
    assert hidden_matrices(nn.Conv2d(1, 1, 3)) == []


def test_each_half_is_torchs() -> None:
    whole, apart = model(), model()
    optimizer = Muon(whole, lr=0.01, weight_decay=0.1)
    hidden = hidden_matrices(apart)
    rest = [weight for weight in apart.parameters() if all(weight is not other for other in hidden)]
    halves = (
        torch.optim.Muon(hidden, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1, betas=(0.9, 0.95)),
    )
    for update in range(3):
        if update == 2:  # as from a checkpoint
            again = Muon(whole, lr=1.0)
            again.load_state_dict(optimizer.state_dict())
            optimizer = again
        for net in (whole, apart):
            draw = torch.Generator().manual_seed(update)
            for weight in net.parameters():
                weight.grad = torch.randn(weight.shape, generator=draw, dtype=torch.float64)
        optimizer.step()
        for half in halves:
            half.step()
    for one, other in zip(whole.parameters(), apart.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_of_one_layer_has_adamw_alone() -> None:
    assert [set(group) >= {"betas"} for group in Muon(nn.Linear(3, 2)).param_groups] == [True]
