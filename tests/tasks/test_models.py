"""The models: shapes, what dropout leaves alone, many at once under vmap, and what they refuse."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from sweeper.tasks.models import MLP, NGram

SYMBOLS = torch.randint(0, 9, (5, 3), generator=torch.Generator().manual_seed(0))
NUMBERS = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
MODELS = {
    "mlp": (lambda **n: MLP(6, 4, **{"width": 8} | n), NUMBERS),
    "ngram": (lambda **n: NGram(9, 4, 3, **{"width": 8, "embedding": 2} | n), SYMBOLS),
}


@pytest.fixture(params=MODELS)
def case(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield MODELS[request.param]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_counts_hidden_layers(case, depth):
    make, inputs = case
    model = make(depth=depth)
    assert model(inputs).shape == (5, 4)
    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    assert len(linear) == depth + 1
    assert all(part.out_features == 8 for part in linear[:-1])


def test_ngram_is_the_formula(case):
    model = NGram(9, 4, 3, width=8, embedding=2)
    table, hidden, last = model.embedding.weight, model.layers[0], model.layers[-1]
    for row, output in zip(SYMBOLS, model(SYMBOLS), strict=True):
        concatenated = torch.cat([table[symbol] for symbol in row])
        expected = last.weight @ (hidden.weight @ concatenated + hidden.bias).relu() + last.bias
        torch.testing.assert_close(output, expected)


def test_embeddings_start_with_length_one():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        length = NGram(256, 256, 8).embedding.weight.detach().norm(dim=1)
    assert 0.9 < float(length.mean()) < 1.05


def test_the_dropout_rate_changes_no_name_and_no_shape(case):
    make, inputs = case
    shapes = [{name: value.shape for name, value in make(dropout=rate).state_dict().items()} for rate in (0.0, 0.5)]
    assert shapes[0] == shapes[1]
    torch.manual_seed(1)
    model = make(dropout=0.5)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_several_under_vmap_equal_each_alone(case):
    make, inputs = case
    models = [make() for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    together = vmap(lambda p, b: functional_call(models[0], (p, b), (inputs,)))(parameters, buffers)
    for model, output in zip(models, together, strict=True):
        torch.testing.assert_close(output, model(inputs))


@pytest.mark.parametrize(
    "numbers", [{"width": 0}, {"width": 8.0}, {"width": "8"}, {"depth": -1}, {"depth": True}, {"dropout": 1.0}]
)
def test_numbers_out_of_range_are_refused(case, numbers):
    make, _ = case
    ((name, value),) = numbers.items()
    with pytest.raises(ValueError, match=rf"^model\.{name}={value}: .* Choose "):
        make(**numbers)


def test_an_empty_embedding_is_refused():
    with pytest.raises(ValueError, match=r"^model\.embedding=0: "):
        NGram(9, 4, 3, embedding=0)
