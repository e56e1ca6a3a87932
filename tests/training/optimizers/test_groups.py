"""Parameter groups: which they are, and training with them, against torch.optim's own groups by hand, in float64."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.models import MLP, NGram
from sweeper.tasks.problems import Supervised
from sweeper.tasks.transformer import Transformer
from sweeper.training.lanes.probe import probe
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.groups import groups_of, kinds_of
from sweeper.training.optimizers.optim import check_optimizer, make_optimizer
from sweeper.training.optimizers.spec import GroupSpec, OptimizerSpec, parse_optimizer
from sweeper.training.randomness import batches
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import InputError, Job, JobId, Report

STEPS, BATCH = 40, 8
LR_S = 0.02 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2
ADAMW = {"_target_": "torch.optim.AdamW", "weight_decay": 0.1, "no_decay": ["norm", "bias"]}
SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "weight_decay": 0.01}


class Net(nn.Module):
    """An embedding, two blocks with a norm, a head."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x).mean(1)
        for block in self.blocks:
            x = x + block(x)
        output: Tensor = self.head(x)
        return output


@functools.cache
def task() -> Supervised:
    draw = np.random.default_rng(2)
    x = draw.integers(0, 11, size=(50, 5))
    return Supervised(Arrays(x, (x[:, -1] + x[:, 0]) % 4), Net)


def job(number: int = 0, scale: float = 1.0, **changes: Any) -> Job:
    given = {"report_steps": (7, STEPS), "lr_S": LR_S * scale, **changes}
    return Job(id=JobId("s", number, 0), family="cosine", params={}, seed=3 + number, **given)


def trained(trainer: Any, jobs: list[Job]) -> list[tuple[list[Report], dict[str, Tensor]]]:
    trainer.start(jobs)
    reports: dict[JobId, list[Report]] = {of.id: [] for of in jobs}
    for _ in jobs[0].report_steps:
        for report in list(trainer.advance([of.id for of in jobs])):
            reports[report.id].append(report)
    assert [found[-1].state for found in reports.values()] == ["complete"] * len(jobs)
    return [(reports[of.id], trainer.weights(of.id)) for of in jobs]


def alone(optimizer: dict[str, Any], jobs: list[Job], **settings: Any) -> list[tuple[list[Report], dict[str, Tensor]]]:
    recipe = Recipe(parse_optimizer(optimizer), **{"batch_size": BATCH, "precision": "float64", **settings})
    return trained(SequentialTrainer(task(), recipe, device="cpu"), jobs)


def trace(reports: list[Report], name: str) -> Any:
    return np.concatenate([report.traces[name] for report in reports])


# --- which groups -----------------------------------------------------------------------------------


def test_kinds_are_told_by_the_module_and_by_the_name() -> None:
    model = nn.ModuleDict(
        {"norm": nn.Linear(2, 2), "inner": nn.BatchNorm1d(2), "table": nn.Embedding(3, 2), "gru": nn.GRU(2, 2)}
    )
    model["attention"] = nn.MultiheadAttention(2, 1)
    kinds = {name: " ".join(sorted(kind)) for name, kind in kinds_of(model).items()}
    assert {name for name, kind in kinds.items() if kind == "bias"} == {
        "norm.bias", "gru.bias_ih_l0", "gru.bias_hh_l0", "attention.in_proj_bias", "attention.out_proj.bias"
    }  # fmt: skip
    names = ("inner.weight", "inner.bias", "norm.weight", "table.weight")
    assert [kinds[name] for name in names] == ["norm", "bias norm", "", "embedding"]


def test_a_tied_table_is_an_embedding_by_whatever_name_it_comes_first() -> None:
    model = nn.ModuleDict({"last": nn.Linear(2, 3, bias=False), "table": nn.Embedding(3, 2)})
    model["last"].weight = model["table"].weight
    assert kinds_of(model) == {"last.weight": frozenset({"embedding"})}


def test_norms_and_biases_are_spared() -> None:
    decayed, spared = groups_of(Net(), parse_optimizer(ADAMW), 0.1)
    assert decayed.parameters == (
        "embedding.weight", "blocks.0.0.weight", "blocks.1.0.weight", "head.weight"
    )  # fmt: skip
    assert (decayed.weight_decay, spared.weight_decay) == (0.1, None)
    assert (decayed.name, spared.name, decayed.lr, spared.lr) == ("", "", 1, 1)
    assert {*decayed.parameters, *spared.parameters} == dict(Net().named_parameters()).keys()


def test_without_a_weight_decay_there_is_nothing_to_spare() -> None:
    assert len(groups_of(Net(), parse_optimizer(ADAMW), None)) == 1


def test_a_parameter_belongs_to_the_first_group_that_it_matches() -> None:
    groups: dict[str, GroupSpec | None] = {
        "last": {"match": "head", "lr": 10},
        "vectors": {"match": ["*.bias", "norm"], "lr": 2},
    }
    spec = OptimizerSpec("torch.optim.SGD", groups=groups)
    found = {group.name: (group.lr, group.parameters) for group in groups_of(Net(), spec, None)}
    assert found["last"] == (10, ("head.weight", "head.bias"))
    assert set(found["vectors"][1]) == {
        f"blocks.{n}.{part}" for n in (0, 1) for part in ("0.bias", "1.weight", "1.bias")
    }
    assert set(found[""][1]) == {"embedding.weight", "blocks.0.0.weight", "blocks.1.0.weight"}


def test_a_groups_own_weight_decay_holds_for_all_of_it() -> None:
    config = {**ADAMW, "groups": {"last": {"match": "head", "weight_decay": 0.5}}}
    (last,) = [group for group in groups_of(Net(), parse_optimizer(config), 0.1) if group.name == "last"]
    assert last == ("last", ("head.weight", "head.bias"), 1.0, 0.5)


def test_frozen_parameters_are_in_no_group() -> None:
    model = Net()
    model.embedding.requires_grad_(False)
    assert "embedding.weight" not in {
        name for group in groups_of(model, parse_optimizer(ADAMW), 0.1) for name in group.parameters
    }


LAYERS: dict[str, tuple[nn.Module, dict[str, int]]] = {  # above what each first parameter's layer lies
    "own blocks": (Net(), {"embedding": 3, "blocks.0": 2, "blocks.1": 1, "head": 0}),
    "mlp": (MLP(4, 2, depth=2), {"layers.0": 2, "layers.3": 1, "layers.6": 0}),
    "ngram": (NGram(5, 5, 2, depth=1), {"embedding": 2, "layers.0": 1, "layers.3": 0}),
    "two tables, last norm": (
        Transformer(5, 5, 4, width=4, depth=2),
        {"symbol": 3, "position": 3, "blocks.0": 2, "blocks.1.attention": 1, "norm": 1, "last": 0},
    ),
    "wrapped": (nn.ModuleDict({"model": MLP(4, 2, depth=1)}), {"model.layers.0": 1, "model.layers.3": 0}),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_are_the_models_parts_in_their_order(name: str) -> None:
    model, above = LAYERS[name]
    groups = groups_of(model, OptimizerSpec("torch.optim.SGD", layer_decay=0.5), None)
    found = {parameter: group for group in groups for parameter in group.parameters}
    highest = max(above.values())
    for prefix, up in above.items():
        group = next(group for parameter, group in found.items() if parameter.startswith(prefix))
        assert (group.lr, group.name) == (0.5**up, f"layer{highest - up}" if up else "")
    assert {group.lr for group in groups} == {0.5**up for up in range(highest + 1)}


@pytest.mark.parametrize(("decay", "factor"), [(1e300, "inf"), (1e-300, "0")])
def test_a_factor_that_no_number_holds_is_refused(decay: float, factor: str) -> None:
    with pytest.raises(
        InputError, match=rf"optimizer\.layer_decay=.*: the LR of 2 layers .* multiplied by {factor}\. Ch"
    ):
        groups_of(MLP(4, 2, depth=2), OptimizerSpec("torch.optim.SGD", layer_decay=decay), None)


def test_a_norm_is_of_the_layer_before_it() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    below, top = sorted(
        groups_of(model, OptimizerSpec("torch.optim.SGD", layer_decay=0.5), None), key=lambda group: group.lr
    )
    assert (below.parameters[::2], top.parameters[0]) == (("0.weight", "1.weight"), "4.weight")


class Says(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(2, 2), nn.Linear(2, 2)

    def layer_of(self, name: str) -> int:
        return 0 if name.startswith("down") else 5


def test_a_model_may_say_its_layers() -> None:
    lrs = {
        name: group.lr
        for group in groups_of(Says(), OptimizerSpec("torch.optim.SGD", layer_decay=0.9), None)
        for name in group.parameters
    }
    assert (lrs["up.weight"], lrs["down.bias"]) == (1, 0.9**5)


def test_the_groups_do_not_depend_on_numbers() -> None:
    config = {**ADAMW, "groups": {"last": {"match": "head", "lr": 1.0}}, "layer_decay": 1.0}
    other = {**ADAMW, "groups": {"last": {"match": "head", "lr": 9.0}}, "layer_decay": 0.5}
    one, two = groups_of(Net(), parse_optimizer(config), 0.0), groups_of(Net(), parse_optimizer(other), 0.1)
    assert [group.parameters for group in one] == [group.parameters for group in two]


# --- training ---------------------------------------------------------------------------------------


def by_hand(of: Job, kind: Any, groups: Any, *, shrink: Any = None, **options: Any) -> tuple[list[float], nn.Module]:
    """A plain loop. groups(model) -> torch's, each with its factor as "factor"; shrink(model, lr) before each step."""
    model = task().build(of.seed).double()
    optimizer = kind(groups(model), lr=1.0, foreach=False, **options)
    losses = []
    for index, lr in zip(batches(of.seed, 0, STEPS, BATCH, task().size("train", 0)), of.lr_S, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        x, y = task().fetch("train", 0, torch.from_numpy(index))
        loss = task().loss(model(x), y).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if shrink is not None:
            shrink(model, lr)
        optimizer.step()
    return losses, model


def check_equal(got: tuple[list[Report], dict[str, Tensor]], losses: list[float], model: nn.Module) -> None:
    np.testing.assert_allclose(trace(got[0], "train/loss"), losses, rtol=1e-11, atol=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(got[1][name], value, rtol=1e-9, atol=1e-11)


def test_no_decay_is_two_groups_of_torch() -> None:
    def groups(model: Any) -> Any:
        spared = [p for n, p in model.named_parameters() if p.dim() == 1]
        rest = [p for n, p in model.named_parameters() if p.dim() > 1]
        return [{"params": rest, "factor": 1}, {"params": spared, "factor": 1, "weight_decay": 0.0}]

    losses, model = by_hand(job(), torch.optim.AdamW, groups, weight_decay=0.1)
    check_equal(alone(ADAMW, [job()])[0], losses, model)


def test_groups_with_layers_are_groups_of_torch_and_their_lrs_are_logged() -> None:
    def groups(model: Any) -> Any:
        head, *blocks = model.head, model.blocks[1], model.blocks[0], model.embedding
        layers = [{"params": list(block.parameters()), "factor": 0.5**up} for up, block in enumerate(blocks, start=1)]
        return [{"params": list(head.parameters()), "factor": 3.0, "weight_decay": 0.2}, *layers]

    config = {**SGD, "layer_decay": 0.5, "groups": {"last": {"match": "head", "lr": 3.0, "weight_decay": 0.2}}}
    losses, model = by_hand(job(), torch.optim.SGD, groups, momentum=0.9, weight_decay=0.01)
    ((reports, weights),) = alone(config, [job()])
    check_equal((reports, weights), losses, model)
    for name, factor in {"last": 3, "layer0": 0.125, "layer1": 0.25, "layer2": 0.5, "group0": 1}.items():
        np.testing.assert_array_equal(trace(reports, f"lr/{name}"), LR_S * factor)
    assert sum(report.sums["lr_wd"] for report in reports) == pytest.approx(0.01 * LR_S.sum(), rel=1e-12)


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
@pytest.mark.parametrize("mode", ["relative", "independent"])
def test_a_weight_decay_apart_from_the_lr(kind: str, mode: str) -> None:
    """Loshchilov and Hutter's algorithms 1 and 2 with eta_t lambda, or lambda, for the decay of an update."""
    share = {"relative": lambda lr: 0.003 * lr / LR_S.max(), "independent": lambda lr: 0.003}[mode]

    def shrink(model: Any, lr: float) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(1 - share(lr))

    options = {"momentum": 0.9} if kind == "SGD" else {}
    whole = {"weight_decay": 0.003, "wd_mode": mode, "no_decay": ["norm", "bias"], **options}
    losses, model = by_hand(
        job(),
        getattr(torch.optim, kind),
        lambda model: [{"params": list(model.parameters()), "factor": 1}],
        shrink=shrink,
        weight_decay=0.0,
        **options,
    )
    ((reports, weights),) = alone({"_target_": f"torch.optim.{kind}", **whole}, [job()])
    check_equal((reports, weights), losses, model)
    taken = sum(report.sums["lr_wd"] for report in reports)
    assert taken == pytest.approx(sum(map(share, LR_S)), rel=1e-12)


def test_an_independent_weight_decay_takes_the_same_whatever_the_schedule() -> None:
    config = {**ADAMW, "weight_decay": 1e-3, "wd_mode": "independent"}
    jobs = [job(), job(1, 0.1), job(2, lr_S=np.full(STEPS, 0.01))]
    for reports, _ in alone(config, jobs):
        assert sum(report.sums["lr_wd"] for report in reports) == pytest.approx(STEPS * 1e-3)


def test_no_weight_decay_is_not_logged() -> None:
    ((reports, _),) = alone({"_target_": "torch.optim.SGD"}, [job()])
    assert all("lr_wd" not in report.sums for report in reports)


HEAD = {"last": {"match": "head"}, "table": {"match": "embedding", "lr": 0.3, "weight_decay": 0.05}}
STACKED: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {  # and the numbers of each lane
    "adamw spared": (ADAMW, [{}, {"optimizer.weight_decay": 0.5}, {"optimizer.weight_decay": 0.0}]),
    "adamw layers": (
        {**ADAMW, "layer_decay": 0.7, "groups": HEAD},
        [{"optimizer.groups.last.lr": 4.0}, {"optimizer.layer_decay": 0.4}, {"optimizer.groups.table.weight_decay": 0}],
    ),
    "adamw relative": ({**ADAMW, "weight_decay": 2e-3, "wd_mode": "relative"}, [{}, {}, {}]),
    "adamw independent": (
        {**ADAMW, "weight_decay": 2e-3, "wd_mode": "independent", "groups": HEAD},
        [{}, {"optimizer.weight_decay": 5e-3}, {"optimizer.groups.last.lr": 2.0}],
    ),
    "sgd coupled groups": (
        {**SGD, "nesterov": True, "no_decay": ["bias"], "groups": HEAD},
        [{}, {"optimizer.groups.last.lr": 2.0}, {"optimizer.momentum": 0.5}],
    ),
    "sgd independent": ({**SGD, "weight_decay": 2e-3, "wd_mode": "independent"}, [{}, {}, {}]),
    "rmsprop layers": (
        {"_target_": "torch.optim.RMSprop", "centered": True, "momentum": 0.5, "layer_decay": 0.5},
        [{}, {}, {}],
    ),
    "lion": ({"_target_": "pytorch_optimizer.Lion", "weight_decay": 0.1, "no_decay": "norm"}, [{}, {}, {}]),
}


@functools.cache
def form() -> Any:
    verdict = probe(task(), Recipe(parse_optimizer(ADAMW), BATCH), job(), device="cpu")
    assert verdict.form is not None, verdict.why
    return verdict.form


def stacked(
    optimizer: dict[str, Any], jobs: list[Job], **settings: Any
) -> list[tuple[list[Report], dict[str, Tensor]]]:
    compiled = settings.pop("compiled", False)
    recipe = Recipe(parse_optimizer(optimizer), **{"batch_size": BATCH, "precision": "float64", **settings})
    return trained(LaneTrainer(task(), recipe, Stacking(form(), width=4, compiled=compiled), device="cpu"), jobs)


def check_lanes(config: dict[str, Any], numbers: list[dict[str, Any]], compiled: bool = False, **recipe: Any) -> None:
    for at, own in enumerate(numbers):  # a trial of a sweep has all its searched numbers
        numbers[at] = {**{name: _fixed(config, name) for other in numbers for name in other}, **own}
    jobs = [job(at, 0.5**at, hparams=own) for at, own in enumerate(numbers)]
    pairs = zip(alone(config, jobs, **recipe), stacked(config, jobs, compiled=compiled, **recipe), strict=True)
    for (expected, weights), (found, others) in pairs:
        for one, other in zip(expected, found, strict=True):
            assert one.traces.keys() == other.traces.keys()
            for name in one.traces:
                np.testing.assert_allclose(other.traces[name], one.traces[name], rtol=1e-9, atol=1e-12, err_msg=name)
            assert {**other.metrics, **other.sums} == pytest.approx({**one.metrics, **one.sums}, rel=1e-9)
        for name, value in weights.items():
            torch.testing.assert_close(others[name], value, rtol=1e-9, atol=1e-11)


def _fixed(config: dict[str, Any], path: str) -> Any:
    node: Any = config
    for word in path.split(".")[1:]:
        node = node.get(word, 1.0)
    return node


@pytest.mark.parametrize("name", list(STACKED))
def test_lanes_train_groups_as_one_at_a_time_does(name: str) -> None:
    check_lanes(*STACKED[name])


def test_lanes_clip_and_average_groups_as_one_at_a_time_does() -> None:
    check_lanes(*STACKED["adamw independent"], clip=0.3, ema=0.9, accumulate=2)


@pytest.mark.slow
def test_compiled_lanes_train_groups_too() -> None:
    check_lanes(*STACKED["adamw layers"], compiled=True)


def test_one_group_is_the_rule_itself() -> None:
    from sweeper.training.lanes.program import Layout
    from sweeper.training.lanes.segments import segmented_rule, segments_of
    from sweeper.training.lanes.stacked import rule_of
    from sweeper.training.optimizers.optim import grouping_of

    model = Net()
    spec = parse_optimizer(SGD)
    segments, _ = segments_of(
        spec, job(), grouping_of(spec, job(), model), Layout(model, [*dict(model.named_parameters())])
    )
    assert segmented_rule(segments).update is rule_of(spec).update  # type: ignore[union-attr] # there is one


def test_a_checkpoint_takes_groups_up(tmp_path: Any) -> None:
    config = {**ADAMW, "layer_decay": 0.5, "wd_mode": "independent", "weight_decay": 1e-3}
    trainers = [
        lambda: SequentialTrainer(task(), Recipe(parse_optimizer(config), BATCH), device="cpu"),
        lambda: LaneTrainer(task(), Recipe(parse_optimizer(config), BATCH), Stacking(form(), width=2), device="cpu"),
    ]
    for at, make in enumerate(trainers):
        first, second = make(), make()
        first.start([job()])
        list(first.advance([job().id]))
        first.save(tmp_path / str(at), 1)
        assert second.restore(tmp_path / str(at), [job()], 1) == {job().id: 7}
        (expected,), (found,) = list(first.advance([job().id])), list(second.advance([job().id]))
        for name, values in expected.traces.items():
            np.testing.assert_array_equal(found.traces[name], values)


# --- what is refused -------------------------------------------------------------------------------


def test_a_group_without_parameters_is_refused() -> None:
    words = (
        r"optimizer.groups.last.match=heat: matches no trained parameter of the model. Choose from embedding, .*head"
    )
    with pytest.raises(InputError, match=words):
        groups_of(Net(), OptimizerSpec("torch.optim.SGD", groups={"last": {"match": "heat"}}), None)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_target_": "torch.optim.Rprop", "wd_mode": "relative"}, "Rprop has no weight decay"),
        (
            {"_target_": "torch.optim.Rprop", "groups": {"a": {"match": "b", "weight_decay": 1}}},
            "groups.a.weight_decay",
        ),
        ({"_target_": "sweeper.training.optimizers.muon.Muon", "layer_decay": 0.5}, "groups its parameters itself"),
        ({"_target_": "pytorch_optimizer.Prodigy", "layer_decay": 0.5}, "Prodigy has one LR for all groups"),
    ],
)
def test_what_an_optimizer_cannot_have_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_optimizer(parse_optimizer(config))


def test_plain_parameters_are_given_where_there_is_one_group() -> None:
    assert "lr_factor" not in make_optimizer(parse_optimizer(SGD), {}, Net()).param_groups[0]
