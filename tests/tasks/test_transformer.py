"""The transformer: who sees whom, its attention against torch's, what it learns, and what it refuses."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from sweeper.tasks.problems import Supervised
from sweeper.tasks.text import NextByte
from sweeper.tasks.transformer import Transformer, _Attention

SYMBOLS = torch.randint(0, 9, (5, 6), generator=torch.Generator().manual_seed(0))


def small(**numbers):
    return Transformer(9, 4, **{"context": 6, "every": True, "width": 8} | numbers)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention_is_torchs(heads):
    layer, x = _Attention(8, heads), torch.randn(3, 7, 8)
    q, k, v = (part.view(3, 7, heads, -1).transpose(1, 2) for part in layer.all(x).chunk(3, dim=-1))
    joined = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(3, 7, 8)
    torch.testing.assert_close(layer(x), layer.join(joined))


def test_a_position_sees_itself_and_those_before_it():
    model = small()
    before = model(SYMBOLS)
    for position in range(6):
        changed = SYMBOLS.clone()
        changed[:, position] = (changed[:, position] + 1) % 9
        same = (model(changed) == before).all(-1).all(0)
        assert same.tolist() == [place < position for place in range(6)]


def test_the_place_of_a_symbol_matters():
    output = small(depth=1)(torch.full((1, 6), 3))
    assert not torch.allclose(output[0, 0], output[0, 1])


def test_without_a_target_at_each_position_the_last_one_is_predicted():
    model = small()
    expected = model(SYMBOLS)[:, -1]
    model.every = False
    assert torch.equal(model(SYMBOLS), expected)


def test_depth_counts_blocks_and_shorter_sequences_are_taken():
    model = small(depth=3)
    assert len(model.blocks) == 3
    torch.testing.assert_close(model(SYMBOLS[:, :4]), model(SYMBOLS)[:, :4])


def test_the_dropout_rate_changes_no_name_and_no_shape():
    shapes = [{name: value.shape for name, value in small(dropout=rate).state_dict().items()} for rate in (0.0, 0.5)]
    assert shapes[0] == shapes[1]
    model = small(dropout=0.5)
    assert not torch.equal(model(SYMBOLS), model(SYMBOLS))
    model.eval()
    assert torch.equal(model(SYMBOLS), model(SYMBOLS))


def test_several_under_vmap_equal_each_alone_without_a_loop_over_them():
    models = [small() for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    together = vmap(lambda p, b: functional_call(models[0], (p, b), (SYMBOLS,)))(parameters, buffers)  # would warn
    for model, output in zip(models, together, strict=True):
        torch.testing.assert_close(output, model(SYMBOLS))


def test_it_learns_more_than_how_often_each_byte_occurs():
    task = Supervised(NextByte(context=16, every=True, valid_size=200, test_size=10), Transformer)
    model, steps = task.build(0), 150
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        inputs_B, target_B = task.fetch("train", 0, torch.randint(task.size("train", 0), (16,), generator=draw))
        optimizer.zero_grad()
        task.loss(task.forward(model, inputs_B), target_B).mean().backward()
        optimizer.step()
    inputs, target = task.fetch("valid", 0, torch.arange(200))
    share = target.flatten().bincount(minlength=256).double() / target.numel()
    entropy = float(-(share * share.clamp_min(1e-9).log()).sum())
    with torch.no_grad():
        assert task.loss(task.forward(model, inputs), target).mean().item() < entropy - 0.3


@pytest.mark.parametrize("numbers", [{"width": 0}, {"depth": 0}, {"heads": 3}, {"dropout": 1.0}, {"context": 0}])
def test_numbers_out_of_range_are_refused(numbers):
    ((name, value),) = numbers.items()
    with pytest.raises(ValueError, match=rf"^model\.{name}={value}: .* Choose "):
        small(**numbers)


# --- as GPT-2 -----------------------------------------------------------------------------------------


def gpt2(**numbers):
    return Transformer(
        9, 9, **{"context": 6, "every": True, "width": 64, "depth": 8, "tied": True, "init": "gpt2"} | numbers
    )


def test_residual_projections_start_smaller_the_deeper_it_is():
    model = gpt2()
    ends = torch.cat([layer.weight.flatten() for b in model.blocks for layer in (b.attention[1].join, b.hidden[3])])
    others = torch.cat([layer.weight.flatten() for b in model.blocks for layer in (b.attention[1].all, b.hidden[1])])
    assert ends.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.02)
    assert others.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(
        layer.bias.eq(0).all()
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear) and layer is not model.last
    )


def test_the_tied_table_is_one_and_gets_both_gradients():
    model = gpt2()
    assert model.last.weight is model.symbol.weight
    assert model.last.bias is None
    model(SYMBOLS).logsumexp(-1).sum().backward()
    unseen = [symbol for symbol in range(9) if symbol not in SYMBOLS]
    assert model.symbol.weight.grad[unseen].abs().sum() > 0 or not unseen
    assert len(list(model.parameters())) == len(list(gpt2(tied=False).parameters())) - 2


def test_without_biases_there_is_none():
    assert not [name for name, _ in gpt2(bias=False).named_parameters() if name.endswith("bias")]
    assert gpt2(bias=False)(SYMBOLS).shape == (5, 6, 9)


def test_the_size_of_gpt2_is_nanogpts():
    """ "123.65M" as it counts, without the positions; 50,257 symbols, 1,024 positions; made on no device."""
    with torch.device("meta"):
        model = Transformer(50257, 50257, 1024, True, 768, 12, 12, tied=True, init="torch")
    positions = model.position.weight.numel()
    assert sum(value.numel() for value in model.parameters()) - positions == 123_653_376


@pytest.mark.parametrize(
    ("numbers", "told"), [({"init": "gpt3"}, "model.init=gpt3: "), ({"outputs": 4}, "model.tied=true: ")]
)
def test_what_gpt2_cannot_be_is_refused(numbers, told):
    with pytest.raises(ValueError, match=told):
        Transformer(**{"inputs": 9, "outputs": 9, "context": 6, "tied": True, "init": "gpt2"} | numbers)
