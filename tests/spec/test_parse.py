"""A sweep laid out: when a trial reports, what identifies a sweep and a study."""

from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from sweeper.forecast.preview import candidates
from sweeper.search.study import build_studies
from sweeper.spec.describing import subject_of
from sweeper.spec.parse import parse
from sweeper.spec.question import seeds_and_folds
from sweeper.spec.sweep import Subject
from sweeper.tasks.digits import Digits
from sweeper.tasks.models import MLP
from sweeper.tasks.problems import Supervised
from sweeper.training.finetuned import FineTuned
from sweeper.training.optimizers.spec import GroupSpec, OptimizerSpec
from sweeper.types import InputError

SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "peak_lr": {"low": 0.001, "high": 1, "log": True}}
TPE = {"_target_": "optuna.samplers.TPESampler"}
COSINE = {"factor": "cosine", "peak_lr": SGD["peak_lr"], "warmup": 0.1, "decay": {"low": 0.01, "high": 0.3}}
OBJECTIVE = {"metric": "valid/loss", "direction": "minimize", "at": "last", "k": 3}
TASK = Supervised(Digits(), partial(MLP, width=4, depth=1))


def plan(task=TASK, schedules=None, train=(), search=(), *, described=None, numbers=None, **changed):
    config = {
        "schedule": schedules or {"cosine": COSINE},
        "optimizer": SGD,
        "train": {"steps": 40, "epochs": None, "batch_size": 8, "precision": "float32", "norms": True, **dict(train)},
        "objective": OBJECTIVE,
        "search": {
            "n_trials": 4,
            "concurrent_trials": 2,
            "reports": 4,
            "seed": 0,
            "seeds": 1,
            "timeout": None,
            "start": {},
            "sampler": TPE,
            **dict(search),
        },
        "pruner": None,
        **changed,
    }
    described = {"data": "digits"} if described is None else described
    return parse(config, Subject(task, "digits-mlp-sgd", described, numbers or {}))


@given(steps=st.integers(4, 5000), quarter=st.integers(1, 25))
def test_reports_are_spread_evenly_and_end_with_the_run(steps, quarter):
    reports = 4 * quarter
    if reports > steps:
        with pytest.raises(InputError, match="more than the"):
            plan(train={"steps": steps}, search={"reports": reports})
        return
    report_steps = plan(train={"steps": steps}, search={"reports": reports}).train.report_steps
    assert len(report_steps) == reports
    assert report_steps[-1] == steps
    assert all(np.diff((0, *report_steps)) >= 1)
    exact = np.arange(1, reports + 1) * steps / reports
    assert np.all(np.abs(np.array(report_steps) - exact) <= 0.5)


def test_limits_and_families_are_no_part_of_the_question():
    name = plan().name
    assert name.startswith("digits-mlp-sgd-")
    assert plan(search={"n_trials": 50, "timeout": 3}).name == name
    assert plan(objective={**OBJECTIVE, "target": 0.5}).name == name
    assert plan(train={"norms": False}).name == name
    assert plan(schedules={"cosine": COSINE, "linear": {**COSINE, "factor": "linear"}}).name == name
    assert plan(optimizer={**SGD, "peak_lr": {"low": 0.1, "high": 1}}).name == name


@pytest.mark.parametrize(
    "changed",
    [
        {"train": {"steps": 44}},
        {"train": {"batch_size": 16}},
        {"train": {"precision": "float64"}},
        {"search": {"seed": 1}},
        {"search": {"seeds": 2}},
        {"search": {"concurrent_trials": 3}},
        {"search": {"reports": 8}},
        {"optimizer": {**SGD, "momentum": 0.5}},
        {"described": {"data": "others"}},
        {"train": {"steps": 400}, "schedule_unit": "epoch"},
        {"objective": {"metric": "valid/accuracy", "direction": "maximize", "at": "last", "k": 3}},
        {"task": Supervised(Digits(split_seed=1), partial(MLP, width=4, depth=1))},
    ],
)
def test_what_changes_the_question_changes_the_name(changed):
    assert plan(**changed).name != plan().name


def test_trials_that_end_early_are_another_question_and_must_be_allowed():
    stopping = {"early_stopping": {"patience": 2, "min_delta": 0.0}}
    with pytest.raises(InputError, match=r"search\.early_stopping=.*search\.allow_truncation=true"):
        plan(search=stopping)
    allowed = plan(search={**stopping, "allow_truncation": True})
    assert allowed.question["search"]["early_stopping"] == stopping["early_stopping"]
    again = {**stopping, **{key: allowed.question["search"][key] for key in ("early_stopping", "allow_truncation")}}
    assert plan(search=again).name == allowed.name, "what is stored is enough to train it again"
    assert plan(search={"allow_truncation": True, "early_stopping": None, "stop": 5}).name == plan().name
    assert plan(search={"stop": 5}).studies[0].stop == 5
    assert plan(search={"stop": 5}).studies[0].name == plan().studies[0].name


def test_a_trial_is_trained_on_every_fold_with_every_seed():
    task = Supervised(Digits(folds=3), partial(MLP, width=4, depth=1))
    assert plan().partitions == (0,)
    assert plan(search={"seeds": 2}).partitions == (0, 0)
    folded = plan(task=task, described={"data": {"folds": 3}}, search={"seeds": 2})
    assert folded.partitions == (0, 1, 2, 0, 1, 2)
    assert folded.question["folds"] == 3
    assert seeds_and_folds(folded.question) == (2, 3)
    assert seeds_and_folds(plan().question) == (1, 1)


def test_one_fold_is_the_question_without_folds():
    name = plan(described={"data": {"split_seed": 0}}).name
    for folds in (None, 1):
        assert plan(described={"data": {"split_seed": 0, "folds": folds}}).name == name


def test_folds_that_the_data_do_not_have_are_refused():
    with pytest.raises(InputError, match=r"data\.folds=5: these data have no folds"):
        plan(described={"data": {"folds": 5}})


def test_a_study_is_its_space_its_sampler_and_its_pruner():
    def study(**changed):
        return plan(**changed).studies[0].name

    assert study(search={"n_trials": 9}) == study()
    others = [
        study(schedules={"cosine": {**COSINE, "decay": 0.1}}),
        study(search={"sampler": {"_target_": "optuna.samplers.RandomSampler"}}),
        study(pruner={"_target_": "optuna.pruners.MedianPruner"}),
        study(numbers={"model.dropout": {"low": 0.0, "high": 0.5}}),
    ]
    assert len({study(), *others}) == 5


def test_a_searched_number_of_the_optimizer_is_no_argument_of_it():
    searched = plan(optimizer={**SGD, "nesterov": True, "momentum": {"low": 0.5, "high": 0.99}})
    assert searched.train.recipe.optimizer == OptimizerSpec("torch.optim.SGD", {"nesterov": True})
    assert list(searched.studies[0].hparams) == ["optimizer.momentum"]


def test_a_target_is_a_number_beside_the_objective():
    assert plan().target is None
    aimed = plan(objective={**OBJECTIVE, "target": 0.5})
    assert (aimed.target, asdict(aimed.objective)) == (0.5, OBJECTIVE)
    for wrong in ("low", True, float("nan")):
        with pytest.raises(InputError, match=r"objective\.target=.*: not a finite number"):
            plan(objective={**OBJECTIVE, "target": wrong})


def test_an_epochs_updates_are_its_examples_over_the_batch():
    assert plan().train.epoch is None
    assert plan(schedule_unit="step").name == plan().name
    by_epochs = plan(train={"steps": None, "epochs": 10}, schedule_unit="epoch")
    assert by_epochs.train.epoch == TASK.size("train", 0) / 8
    assert by_epochs.question["epoch_steps"] == by_epochs.train.epoch
    assert by_epochs.name != plan(train={"steps": None, "epochs": 10}).name


def test_a_run_of_one_epoch_has_no_schedule_by_epochs():
    assert plan(train={"steps": None, "epochs": 3}, schedule_unit="epoch").train.epoch
    with pytest.raises(
        InputError, match=r"schedule_unit=epoch: a trial of 40 updates is 0\.3 epochs long .* train\.epoc"
    ):
        plan(schedule_unit="epoch")
    with pytest.raises(InputError, match=r"schedule_unit=epochs: no such choice\. Did you mean epoch\?"):
        plan(schedule_unit="epochs")


def test_a_loss_that_is_no_loss_of_each_example_is_told():
    class Mean(Supervised):
        def loss(self, output_B, target_B):
            return super().loss(output_B, target_B).mean()

    with pytest.raises(InputError, match=r"model: the loss of 2 examples has the shape \(\)"):
        plan(task=Mean(Digits(), partial(MLP, width=4, depth=1)))


UNIT, COUNT = {"low": 0, "high": 1}, {"low": 1, "high": 8}
CONSUMERS = [
    ("decay", {"schedules": {"cosine": {**COSINE, "decay": UNIT}}}, float),
    ("peak_lr", {"schedules": {"cosine": {**COSINE, "peak_lr": {"low": 1, "high": 10, "log": True}}}}, float),
    ("warmup", {"schedules": {"cosine": {**COSINE, "warmup": {"low": 0, "high": 0.5}}}}, float),
    ("patience", {"schedules": {"cosine": {**COSINE, "controller": "plateau", "patience": COUNT}}}, int),
    ("optimizer.weight_decay", {"optimizer": {**SGD, "weight_decay": UNIT}}, float),
    ("optimizer.groups.last.lr", {"optimizer": {**SGD, "groups": {"last": {"match": "layers.3", "lr": COUNT}}}}, float),
    ("optimizer.layer_decay", {"optimizer": {**SGD, "layer_decay": {"low": 1, "high": 2}}}, float),
    ("model.dropout", {"numbers": {"model.dropout": {"low": 0, "high": 0.5}}}, float),
    ("model.width", {"numbers": {"model.width": COUNT}}, int),
]


@pytest.mark.parametrize(("name", "changed", "kind"), CONSUMERS, ids=[name for name, *_ in CONSUMERS])
def test_a_hyperparameter_is_real_or_whole_by_what_it_is(name, changed, kind):
    study = plan(**changed).studies[0]
    assert isinstance(study.axes.distributions[name], {int: IntDistribution, float: FloatDistribution}[kind])
    seen = [one[name] for one in candidates(study.axes, 0, 50)]
    assert {type(value) for value in seen} == {kind}
    assert len(set(seen)) == (8 if kind is int else 50)
    between = {"start": {"cosine": [{name: 1.5}]}}
    if kind is int:
        with pytest.raises(InputError, match=rf"{name}=1\.5: not on the grid from 1 in steps of 1"):
            build_studies(plan(**changed, search=between).studies, plan().terms)
    elif name in ("peak_lr", "optimizer.groups.last.lr", "optimizer.layer_decay"):
        (built,) = build_studies(plan(**changed, search=between).studies, plan().terms)
        assert built.start_points == [{name: 1.5}]


def test_a_grid_of_a_real_hyperparameter_needs_a_step():
    grid = {"sampler": {"_target_": "optuna.samplers.GridSampler"}}
    fixed = {**COSINE, "peak_lr": 0.1}
    for decay, count in ((UNIT, None), ({**UNIT, "step": 0.25}, 5), ({**UNIT, "step": 1}, 2)):
        spec = plan(schedules={"cosine": {**fixed, "decay": decay}}, search=grid)
        if count is None:
            with pytest.raises(
                InputError, match=r"schedule\.cosine\.decay: a grid needs a list of values\. Set a step"
            ):
                build_studies(spec.studies, spec.terms)
        else:
            assert build_studies(spec.studies, spec.terms)[0].sampling.point_count == count


@pytest.mark.parametrize("end", [{"low": 1.0}, {"high": 7.5}, {"step": 0.5}])
def test_a_fraction_for_a_whole_hyperparameter_is_refused_on_the_command_line_and_in_python(end):
    node = {**COUNT, **end}
    ((word, value),) = end.items()
    message = rf"model\.width\.{word}={value}: must be a whole number\. Write one, such as"
    with pytest.raises(InputError, match=message):
        plan(numbers={"model.width": node})
    with pytest.raises(InputError, match=message):
        subject_of(TASK, {"width": node})


def test_names_of_sweeps_and_studies_are_those_of_the_space_as_it_is_written():
    """They were the same when types came from the spelling and short lengths were searched."""
    cycle = {"low": 0.01, "high": 0.5}
    schedules = {"sgdr": {"factor": "sgdr", "peak_lr": {"low": 1, "high": 3}, "warmup": 0.1, "cycle": cycle}}
    found = plan(schedules=schedules, train={"steps": 8})
    assert found.studies[0].name == "sgdr-058134"
    assert found.studies[0].family.space["cycle"].low == 1 / 3, "three cycles of two updates or more in seven"
    assert found.studies[0].as_written["cycle"].low == 0.01


GROUPS = {"last": {"match": "layers.3", "lr": {"low": 1, "high": 10}}}


def test_a_searched_number_of_a_group_is_a_number_of_the_trial():
    found = plan(optimizer={**SGD, "groups": GROUPS, "layer_decay": {"choice": [0.5, 0.9]}})
    groups: dict[str, GroupSpec | None] = {"last": {"match": "layers.3"}}
    assert found.train.recipe.optimizer == OptimizerSpec(SGD["_target_"], {"momentum": 0.9}, groups)
    assert found.studies[0].hparams["optimizer.groups.last.lr"].high == 10
    assert found.studies[0].hparams["optimizer.layer_decay"].options == (0.5, 0.9)


def test_a_grouping_that_says_what_holds_anyway_is_no_part_of_the_question():
    idle = {"groups": {}, "layer_decay": None, "no_decay": [], "wd_mode": "lr"}
    assert plan(optimizer={**SGD, **idle}).name == plan().name
    for key, value in {"groups": GROUPS, "layer_decay": 0.5, "no_decay": ["bias"], "wd_mode": "relative"}.items():
        assert plan(optimizer={**SGD, key: value}).name != plan().name, key


def test_a_group_without_parameters_is_told():
    with pytest.raises(InputError, match=r"optimizer\.groups\.last\.match=head: matches no trained"):
        plan(optimizer={**SGD, "groups": {"last": {"match": "head"}}})


def test_weights_to_start_from_are_part_of_the_question_and_must_fit(tmp_path):
    torch.save(TASK.build(5).state_dict(), tmp_path / "weights.pt")
    tuned = FineTuned(TASK, tmp_path / "weights.pt")
    assert plan(tuned).question["fingerprint"] == tuned.fingerprint != TASK.fingerprint
    torch.save({"head.weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"model\.init_from=.*the file lacks layers\.0\.weight"):
        plan(FineTuned(TASK, tmp_path / "weights.pt"))


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        ({"best": -1}, "keep.best=-1: not a whole number of at least 0"),
        ({"best": 1.5}, "keep.best=1.5: not a whole number of at least 0"),
        ({"quota_gb": 0}, "keep.quota_gb=0: not a finite number above 0"),
        ({"bset": 1}, "keep.bset=1: no such key. Did you mean best?"),
    ],
)
def test_wrong_keys_and_values_of_keep_are_named(keep, told):
    with pytest.raises(InputError) as raised:
        plan(keep=keep)
    assert told in str(raised.value)


@pytest.mark.parametrize("section", ["train", "objective", "search", "keep"])
def test_a_key_that_nothing_reads_and_a_section_that_is_none_are_refused(section):
    whole = {"objective": OBJECTIVE}.get(section, {})
    given = {section: {**whole, "bogus": 1}}
    with pytest.raises(InputError, match=rf"{section}\.bogus=1: no such key"):
        plan(**given)


# --- values at both ends of what is searched, and limits that data and machine set ---------------------------------

DROPOUT = {
    "low": {"low": -1, "high": 0.5},
    "high": {"low": 0, "high": 3},
    "middle of a choice": {"choice": [0, 3, 0.5]},
}


@pytest.mark.parametrize("wrong", DROPOUT)
def test_a_hyperparameter_of_the_model_is_tried_at_every_end(wrong):
    with pytest.raises(
        InputError, match=r"^model\.dropout=(-1|3): must be the fraction of units to drop\. Choose a num"
    ):
        plan(numbers={"model.dropout": DROPOUT[wrong]})
    assert plan(numbers={"model.dropout": {"low": 0, "high": 0.5}}).studies[0].hparams


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"momentum": {"low": -0.5, "high": 0.9}}, "refuses momentum=-0.5"),
        ({"momentum": {"choice": [0.5, -1, 0.9]}}, "refuses momentum=-1"),
        ({"weight_decay": {"choice": [0.0, -1, 0.1]}}, "weight_decay=-1"),
        ({"weight_decay": float("inf")}, "optimizer.weight_decay=inf: not finite"),
        ({"nesterov": "no"}, "optimizer.nesterov=no: not true or false, which SGD needs"),
        ({"nesterov": {"choice": [True, "no", False]}}, "optimizer.nesterov=no: not true or false"),
        ({"groups": 3}, "optimizer.groups=3: must be groups by name"),
        ({"groups": False}, "optimizer.groups=false: must be groups by name"),
        ({"no_decay": 0}, "optimizer.no_decay=0: must be one name or a list"),
        ({"layer_decay": 0}, "optimizer.layer_decay=0: must be a positive number"),
        ({"layer_decay": False}, "optimizer.layer_decay=false: must be a positive number"),
        ({"wd_mode": 0}, "optimizer.wd_mode=0: no such mode"),
        ({"wd_mode": {"choice": ["lr", "abc", "relative"]}}, "optimizer.wd_mode=abc: no such mode"),
        ({"groups": {"last": {"match": "layers.3", "lr": {"choice": [1, -1, 2]}}}}, "groups.last.lr=-1"),
    ],
)
def test_an_option_of_the_optimizer_is_checked_at_every_value(changed, told):
    with pytest.raises(InputError) as raised:
        plan(optimizer={**SGD, **changed})
    assert told in str(raised.value)


def test_a_batch_has_at_most_the_examples_of_the_smallest_fold():
    examples = TASK.size("train", 0)
    assert plan(train={"batch_size": examples}).train.recipe.batch_size == examples
    with pytest.raises(
        InputError, match=rf"train\.batch_size={examples + 1}: more than the {examples} training examples"
    ):
        plan(train={"batch_size": examples + 1})


def test_a_horizon_fits_into_the_memory():
    told = r"train\.steps=100000000: the LRs of \d+ open trials need [\d,]+ GB"
    with pytest.raises(InputError, match=told):
        plan(train={"steps": 10**8}, search={"n_trials": 10**6, "concurrent_trials": 10**6})
    with pytest.raises(InputError, match=r"train\.epochs=1000000: a trial would have 1\.3e\+08 updates"):
        plan(train={"steps": None, "epochs": 10**6})


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("optimizer.peak_lr", {"optimizer": {**SGD, "peak_lr": -1}, "schedules": {"a": {**COSINE, "peak_lr": -1}}}),
        ("warmup", {"warmup": 3, "schedules": {"a": {**COSINE, "warmup": 3}}}),
        ("schedule.a.warmup", {"warmup": 0.1, "schedules": {"a": {**COSINE, "warmup": 3}}}),
        (
            "optimizer.default_lr",
            {"optimizer": {**SGD, "default_lr": 0}, "schedules": {"a": {**COSINE, "peak_lr": 0}}},
        ),
        (
            "warmup.high",
            {
                "warmup": {"low": 0, "high": 0.5, "step": 0.3},
                "schedules": {"a": {**COSINE, "warmup": {"low": 0, "high": 0.5, "step": 0.3}}},
            },
        ),
    ],
)
def test_the_key_that_the_user_set_is_blamed(key, changed):
    with pytest.raises(InputError) as raised:
        plan(**changed)
    assert raised.value.key == key


@pytest.mark.parametrize("name", ["../../../x", "/x/y", "a/b", "..", ".hidden", "", "a b", "a\nb", "x" * 201])
def test_the_name_of_a_family_is_never_a_path(name):
    with pytest.raises(InputError, match=r"not a folder name|too long for the name of a folder"):
        plan(schedules={name: COSINE})


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (5, "search.start=5: not a mapping"), ({"cosine": 5}, "search.start.cosine=5: not a list of points"),
        ({"cosine": None}, "search.start.cosine=null: not a list"), ({"cosine": "abc"}, "not a list of points"),
        ({"cosine": {"peak_lr": 0.1}}, "search.start.cosine={peak_lr: 0.1}: not a list of points"),
        ({1: [], "cosine": []}, "search.start.1: this family is not chosen"),
    ],
)  # fmt: skip
def test_malformed_start_points_are_refused(start, told):
    with pytest.raises(InputError) as raised:
        plan(search={"start": start})
    assert told in str(raised.value)
