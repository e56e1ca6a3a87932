"""Convolutional models: layers, shapes, learning, stacking under vmap, and errors."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from sweeper.tasks.convolutional import CNN, ResNet, ResNet9
from sweeper.tasks.digits import Digits
from sweeper.tasks.mnist1d import Mnist1D
from sweeper.tasks.problems import Supervised

SHAPES = [(1, 8, 8), (3, 28, 28), (1, 40), (2, 9)]
MODELS = {
    "cnn": lambda shape=(1, 8, 8), **numbers: CNN(shape, 4, **{"width": 4} | numbers),
    "resnet": lambda shape=(1, 8, 8), **numbers: ResNet(shape, 4, **{"width": 4} | numbers),
    "resnet9": lambda shape=(1, 8, 8), **numbers: ResNet9(shape, 4, **{"width": 4} | numbers),
    "resnet group": lambda shape=(1, 8, 8), **numbers: ResNet(shape, 4, **{"width": 4, "norm": "group"} | numbers),
}


def inputs_of(shape, batch=5):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=MODELS)
def make(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield MODELS[request.param]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_example_may_come_in_its_shape_or_in_a_row(make, shape):
    model, inputs = make(shape=shape).eval(), inputs_of(shape)
    output = model(inputs)
    assert output.shape == (5, 4)
    assert torch.equal(model(inputs.flatten(1)), output)


def test_the_size_of_an_image_does_not_change_the_parameters(make):
    small, large = make(shape=(1, 8, 8)), make(shape=(1, 28, 28))
    assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]


def test_the_cnn_is_its_layers():
    model, x = CNN((2, 12), 3, width=4, depth=2), inputs_of((2, 12))
    first, second = [layer for layer in model.modules() if isinstance(layer, nn.Conv1d)]
    assert (first.out_channels, second.out_channels) == (4, 8)
    hidden = nn.functional.conv1d(x, first.weight, first.bias, padding=1).relu()
    hidden = hidden.view(5, 4, 6, 2).amax(-1)
    hidden = nn.functional.conv1d(hidden, second.weight, second.bias, padding=1).relu().mean(2)
    torch.testing.assert_close(model(x), hidden @ model.head.last.weight.T + model.head.last.bias)


def test_resnet_8_has_eight_layers_and_its_known_size():
    model = ResNet((3, 32, 32), 10)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(1 for layer in layers if not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))) == 8
    # 3x3: 27*16 + 2*9*16^2 + 9*16*32 + 9*32^2 + 9*32*64 + 9*64^2; 1x1: 16*32 + 32*64; norms, last layer
    assert sum(p.numel() for p in model.parameters()) == 432 + 73728 + 2560 + 2 * (3 * 16 + 3 * 32 + 3 * 64) + 650
    assert model.features(inputs_of((3, 32, 32))).shape == (5, 64, 8, 8)


def test_resnet_18_has_eighteen_layers_and_its_known_size():
    model = ResNet((3, 32, 32), 10, width=64, blocks=2, stages=4)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(1 for layer in layers if not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))) == 18
    # torchvision's resnet18 for 10 classes has 11,181,642: its stem is 7 x 7 instead of 3 x 3, 3 to 64 channels
    assert sum(p.numel() for p in model.parameters()) == 11_181_642 - 40 * 3 * 64
    assert model.features(inputs_of((3, 32, 32), 1)).shape == (1, 512, 4, 4)


def test_resnet_9_has_nine_layers_and_its_known_size():
    model = ResNet9((3, 32, 32), 10).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 9
    convolutions = 9 * (3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
    assert sum(p.numel() for p in model.parameters()) == convolutions + 2 * (64 + 3 * 128 + 256 + 3 * 512) + 5120
    x = inputs_of((3, 32, 32), 2)
    places = model.features(x)
    assert places.shape == (2, 512, 4, 4)
    torch.testing.assert_close(model(x), places.amax((2, 3)) @ model.last.weight.T / 8)


def test_a_residual_adds_its_input():
    residual = ResNet9((1, 8), 2, width=4).features[3]
    nn.init.zeros_(residual.change[1][1].weight)
    x = inputs_of((8, 8))
    assert torch.equal(residual(x), x)


def test_a_block_adds_its_input():
    block = ResNet((1, 8), 2, width=4).features[3]
    for norm in (block.change[1], block.change[4]):
        nn.init.zeros_(norm.weight)
    x = inputs_of((4, 8)).relu()
    assert torch.equal(block(x), x)


def test_group_normalisation_does_not_see_the_batch():
    x = inputs_of((1, 8, 8))
    batch, group = MODELS["resnet"](), MODELS["resnet group"]()
    torch.testing.assert_close(group(x)[:2], group(x[:2]))
    assert not torch.allclose(batch(x)[:2], batch(x[:2]))
    assert not list(group.buffers())


def test_the_dropout_rate_changes_no_name_and_no_shape(make):
    shapes = [{name: value.shape for name, value in make(dropout=rate).state_dict().items()} for rate in (0.0, 0.5)]
    assert shapes[0] == shapes[1]
    model, inputs = make(dropout=0.5), inputs_of((1, 8, 8))
    assert not torch.equal(model(inputs), model(inputs))


def test_several_under_vmap_equal_each_alone(make):
    models = [make().eval() for _ in range(3)]
    inputs = inputs_of((1, 8, 8))
    parameters, buffers = stack_module_state(models)
    together = vmap(lambda p, b: functional_call(models[0], (p, b), (inputs,)))(parameters, buffers)
    for model, output in zip(models, together, strict=True):
        torch.testing.assert_close(output, model(inputs))


@pytest.mark.parametrize(
    ("data", "kind", "floor"),
    [(Digits, CNN, 0.85), (Digits, ResNet, 0.93), (Mnist1D, CNN, 0.4), (Mnist1D, ResNet, 0.7)],
    ids=["digits cnn", "digits resnet", "mnist1d cnn", "mnist1d resnet"],
)
def test_it_learns(data, kind, floor):
    task = Supervised(data(), kind)
    model, steps = task.build(0), 100 if kind is ResNet else 300
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        inputs_B, target_B = task.fetch("train", 0, torch.randint(task.size("train", 0), (32,), generator=draw))
        optimizer.zero_grad()
        task.loss(task.forward(model, inputs_B), target_B).mean().backward()
        optimizer.step()
    inputs, target = task.fetch("valid", 0, torch.arange(task.size("valid", 0)))
    with torch.no_grad():
        assert task.metrics(task.forward(model.eval(), inputs), target)["accuracy"] > floor


@pytest.mark.parametrize("numbers", [{"width": 0}, {"width": 8.0}, {"dropout": 1.0}, {"shape": (1, 0)}])
def test_numbers_out_of_range_are_refused(make, numbers):
    ((name, value),) = numbers.items()
    with pytest.raises(ValueError, match=rf"^model\.{name}=.*{str(value)[-2:-1]}.*: .* Choose "):
        make(**numbers)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: CNN((1, 8, 8), 4, depth=5), r"^model\.depth=5: an example of 8 x 8 .* Choose at most 4$"),
        (lambda: CNN((1, 8, 8), 4, depth=0), r"^model\.depth=0: "),
        (lambda: ResNet((1, 8), 4, blocks=0), r"^model\.blocks=0: "),
        (lambda: ResNet((1, 8), 4, norm="layer"), r"^model\.norm=layer: .* Choose batch or group$"),
        (lambda: CNN((8,), 4), r"^model\.shape=\[8\]: neither a signal .* Choose "),
    ],
)
def test_what_cannot_be_is_refused(build, told):
    with pytest.raises(ValueError, match=told):
        build()


def test_the_deepest_allowed_cnn_runs():
    assert CNN((1, 8, 8), 4, width=1, depth=4)(inputs_of((1, 8, 8))).shape == (5, 4)
