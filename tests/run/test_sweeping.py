"""Whole small sweeps: several seeds, epochs, a time limit, a trainer that is kept, data that changed."""

import json

import pytest

from sweeper.api import load

SMALL = [
    "data=digits",
    "model=mlp",
    "model.width=8",
    "train.steps=16",
    "search.reports=4",
    "search.n_trials=3",
    "search.concurrent_trials=2",
    "tracking=none",
    "schedule=cosine",
]


def test_a_trial_of_two_seeds_is_judged_by_their_median(sweeper):
    code, _, err = sweeper(*SMALL, "search.seeds=2", "pruner=none")
    assert code == 0, err
    sweep = load()
    (study,) = sweep.config["studies"]
    for record in sweep.records:
        assert len(set(record.seeds)) == 2
        if record.state == "complete":
            losses = [sweep.trace(study, record.number, member)["valid/loss"].dropna().iloc[-1] for member in (0, 1)]
            assert record.value == pytest.approx(sum(losses) / 2, abs=1e-12)
            assert losses[0] != losses[1]


def test_the_first_line_says_what_was_understood(sweeper):
    code, _, err = sweeper(*SMALL, "data=tabular", "model=tabular", "search.n_trials=1")
    assert code == 0, err
    line = "classification, 2 classes (0, 1); 30 columns of numbers are standardized."
    assert err.splitlines()[0] == line


def test_epochs_become_updates(sweeper):
    code, _, err = sweeper(*SMALL, "train.steps=null", "train.epochs=0.5", "search.n_trials=1")
    assert code == 0, err
    sweep = load()
    assert sweep.config["question"]["train"]["steps"] == round(0.5 * 1078 / 32)
    assert sweep.records[0].steps_done == round(0.5 * 1078 / 32)


def test_the_lr_that_is_stored_is_the_familys(sweeper):
    from sweeper import lr_trace

    assert sweeper(*SMALL)[0] == 0
    sweep = load()
    best = sweep.families.iloc[0]
    record = next(record for record in sweep.records if record.number == best["best_trial"])
    trace = sweep.trace(record.study, record.number)
    params = {name: value for name, value in record.params.items() if "." not in name}
    assert trace["lr/group0"].dropna().tolist() == lr_trace("cosine", params, 16).tolist()


def test_a_schedule_by_epochs_holds_its_lr_and_its_momentum_through_each(sweeper):
    """1078 images in batches of 32: an epoch is 33 11/16 updates long. What is stored is enough to see it again."""
    from sweeper import lr_trace
    from sweeper.schedules import family, momentum_trace

    chosen = ["schedule=onecycle", "schedule.onecycle.momentum=cycled", "schedule.onecycle.end=open"]
    by_epochs = ["schedule_unit=epoch", "train.steps=110", "search.n_trials=1", "optimizer.peak_lr=0.01"]
    code, _, err = sweeper(*SMALL[:-1], *chosen, *by_epochs)
    assert code == 0, err
    sweep = load()
    (record,) = sweep.records
    trace = sweep.trace(record.study, record.number)
    node = sweep.config["studies"][record.study]["schedule"]
    params = {name: value for name, value in record.params.items() if "." not in name}
    epoch = 1078 / 32
    lr_S = trace["lr/group0"].dropna().to_numpy()
    assert lr_S.tolist() == lr_trace(family("onecycle", node), params, 110, epoch=epoch).tolist()
    momentum_S = momentum_trace(family("onecycle", node), params, 110, epoch=epoch)
    for row_S in (lr_S, momentum_S):
        assert [t for t in range(1, 110) if row_S[t] != row_S[t - 1]] == [34, 68, 102]
    assert sweep.families.ends_high[0]  # in the last of four epochs; update by update it would end at its floor
    code, _, err = sweeper(*SMALL[:-1], *chosen, *by_epochs[1:], f"name={sweep.name}")
    assert code == 2
    assert "schedule_unit: epoch there, nothing here" in err


def test_a_time_limit_stops_between_rounds_and_the_same_command_goes_on(sweeper):
    code, out, _ = sweeper(*SMALL, "search.timeout=1e-6")
    assert code == 0
    assert "search.timeout is over" in out
    assert not load().finished
    assert sweeper(*SMALL)[0] == 0
    assert load().finished


def test_given_points_are_tried_first(sweeper):
    point = "{cosine: [{peak_lr: 0.05, warmup: 0.1, decay: 0.01}]}"
    assert sweeper(*SMALL, f"search.start={point}")[0] == 0
    first = load().records[0]
    assert {name: first.params[name] for name in ("peak_lr", "warmup", "decay")} == {
        "peak_lr": 0.05,
        "warmup": 0.1,
        "decay": 0.01,
    }
    assert len(load().records) == 3


def test_a_number_of_the_optimizer_is_searched_and_used(sweeper):
    searched = "optimizer.weight_decay={low: 1e-5, high: 1e-2, log: true}"
    assert sweeper(*SMALL, searched, "model.dropout={choice: [0.0, 0.2]}")[0] == 0
    values = [record.params["optimizer.weight_decay"] for record in load().records]
    assert len(set(values)) == 3
    assert all(1e-5 <= value <= 1e-2 for value in values)
    assert {record.params["model.dropout"] for record in load().records} <= {0.0, 0.2}


def test_a_finished_sweep_keeps_no_checkpoint(sweeper, tmp_path):
    assert sweeper(*SMALL, "search.timeout=1e-6")[0] == 0
    assert sweeper(*SMALL)[0] == 0
    assert not list(tmp_path.glob("sweeps/*/checkpoint"))


def test_the_device_is_kept(sweeper, tmp_path):
    assert sweeper(*SMALL)[0] == 0
    (home,) = (tmp_path / "sweeps").iterdir()
    config = home / "config.yaml"
    config.write_text(config.read_text().partition("\n")[2].replace("device: cpu", "device: cuda"))
    code, _, err = sweeper(*SMALL)
    assert code == 2
    assert "device: the sweep was started with another one (device: cuda there, cpu here)" in err


def test_a_model_that_always_fails_ends_the_sweep_with_its_reason(sweeper, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(
        "from torch import nn\n\n\n"
        "class Broken(nn.Module):\n"
        "    def __init__(self, inputs, outputs):\n"
        "        super().__init__()\n"
        "        self.layer, self.batches = nn.Linear(inputs, outputs), 0\n\n"
        "    def forward(self, x):\n"
        "        self.batches += self.training\n"
        "        if self.batches > 1:  # the first update is tried before the sweep\n"
        "            raise RuntimeError('out of luck')\n"
        "        return self.layer(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [word for word in SMALL if not word.startswith("model")]
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "broken.yaml").write_text("_target_: broken.Broken\n")
    code, _, err = sweeper(*words, "model=broken", "--config-dir", "own", "trainer=sequential")
    assert code == 1
    assert "trials that were started failed" in err
    assert "out of luck" in err
    code, out, _ = sweeper("status", "--json")
    assert json.loads(out)["trials"]["failed"] >= 2


def test_a_wider_space_takes_the_trials_along_and_links_their_runs(sweeper):
    """Once with more trials to come, once with none: then nothing is trained, and yet all is there."""
    base = [*SMALL, "name=wider", "pruner=none", "search.n_trials=4"]
    assert sweeper(*base, "optimizer.peak_lr.high=0.1")[0] == 0
    (narrow,) = load().config["studies"]
    trained = {record.number: load().trace(record.study, record.number) for record in load().records}

    code, _, err = sweeper(*base[:-1], "search.n_trials=6", "optimizer.peak_lr.high=1", "search.extend=true")
    assert code == 0, err
    sweep = load()
    assert sweep.finished
    (row,) = sweep.families.to_dict("records")
    assert (row["complete"], row["taken_over"], row["prior"]) == (6, 4, 0)
    wide = row["study"]
    for record in sweep.records[:4]:
        assert record.origin == (narrow, record.number)
        assert sweep.trace(record.study, record.number).equals(trained[record.number])
    assert sweep.trials.lr_auc.notna().all(), "their facts are found where they were trained"
    lines = (sweep.home.spool / "events.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["e"] in ("tag", "open")]
    opened = [(event["study"], event["trial"]) for event in events if event["e"] == "open"]
    assert opened == [*[(narrow, number) for number in range(4)], (wide, 4), (wide, 5)]
    tags = [(event["study"], event["trial"]) for event in events if event.get("tags") == {"sweep.extended_by": wide}]
    assert tags == opened[:4]

    code, _, err = sweeper(*base, "optimizer.peak_lr.high=2", "search.extend=true")
    assert code == 0, err
    (row,) = load().families.to_dict("records")
    assert (row["complete"], row["taken_over"]) == (6, 6)
    assert load().finished
    assert len((sweep.home.spool / "events.jsonl").read_text().split('"e":"open"')) == 7, "nothing was trained"
