"""What is said about the search beside a verdict: each sentence where it is due, and only there."""

from dataclasses import replace

import pytest

from sweeper.results import fairness
from sweeper.results.edges import spaces
from sweeper.results.fairness import Search, notes
from sweeper.schedules import family
from sweeper.types import Record

PEAK = {"low": 1e-3, "high": 1.0, "log": True}
WARMUP = {"choice": [0, 0.02, 0.05, 0.1, 0.2]}
NODES = {
    "wsd": {"factor": "wsd", "peak_lr": PEAK, "warmup": WARMUP, "decay": 0.0, "cooldown": {"low": 0.1, "high": 0.5}},
    "cosine": {"factor": "cosine", "peak_lr": PEAK, "warmup": WARMUP, "decay": {"low": 1e-3, "high": 0.3, "log": True}},
    "constant": {"factor": "constant", "peak_lr": PEAK, "warmup": WARMUP},
}
THREE = {"wsd": 1.0, "cosine": 1.1, "constant": 1.2}
EQUAL = dict.fromkeys(THREE, 1.0)
NAMES = {"wsd": ("peak_lr", "warmup", "cooldown"), "cosine": ("peak_lr", "warmup", "decay"), "constant": ("peak_lr",)}
SCOPE = (
    "This holds for SGD, batches of 32 and 1,000 updates. Another search of 20 trials would have found other "
    "configurations, so this is no claim about families (confirm.searches=8 makes one)."
)


def record(family, number, state="complete", **changes):
    values = {
        "study": f"{family}-1", "params": {"peak_lr": 0.1}, "searched": NAMES[family], "value": 1.0,
        "intermediate": ((500, 2.0), (850, 1.01), (900, 1.0), (1000, 1.0)), "steps_done": 1000, "diverged_step": None,
        "reason": "", "seconds": 1.0, "clock": (), "seeds": (0,), "retry_of": None, "started": None, "ended": None,
    }  # fmt: skip
    return Record(**{**values, "family": family, "number": number, "state": state, **changes})


def search(trials=20, change=lambda record: record, families=NODES, **changes):
    """Return a search with equally many complete trials of each family, each changed by `change` (None: left out)."""
    every = [change(record(name, number)) for name in families for number in range(trials)]
    known = {f"{name}-1": family(name, node) for name, node in NODES.items()}
    question = {"optimizer": {"_target_": "torch.optim.SGD"}, "train": {"batch_size": 32, "steps": 1000}}
    return Search(**{
        "records": [one for one in every if one is not None], "spaces": spaces(known, 1000, None, {}),
        "exhausted": (), "question": question, "ends_high": lambda study, trial: False, **changes,
    })  # fmt: skip


def at(build_confirmation, params, means=THREE, **options):
    """Return a confirmation of trials with other hyperparameters, by family."""
    confirmation = build_confirmation(means, **options)
    moved = [replace(one, params={"peak_lr": 0.1, **params.get(one.family, {})}) for one in confirmation.contestants]
    return replace(confirmation, contestants=tuple(moved))


def chosen(params):
    """Return a change of a search in which trial 7 of some families has other hyperparameters."""

    def change(one):
        return replace(one, params={**one.params, **params.get(one.family, {})}) if one.number == 7 else one

    return change  # fmt: skip


def test_a_fair_search_has_only_its_scope(build_confirmation):
    assert notes(build_confirmation(THREE), search()) == [SCOPE]


# --- few trials -------------------------------------------------------------------------------------


def test_a_family_with_few_complete_trials_is_marked(build_confirmation):
    few = search(
        change=lambda one: (
            replace(one, state="pruned", value=None) if one.family == "cosine" and one.number > 3 else one
        )
    )
    assert notes(build_confirmation(THREE), few)[0] == (
        "cosine was searched with 4 complete trials: too few for a fair comparison. search.n_trials=40 continues the "
        "search."
    )


def test_a_sweep_in_which_all_have_few_says_so(build_confirmation):
    assert notes(build_confirmation(THREE), search(trials=9))[0] == (
        "No family has 10 complete trials: another search may find much better configurations. search.n_trials=20 "
        "continues the search."
    )
    assert notes(build_confirmation(THREE), search(trials=10)) == [SCOPE.replace("20 trials", "10 trials")]


def test_a_family_with_nothing_left_to_try_is_not_searched_on(build_confirmation):
    exhausted = search(change=lambda one: one if one.family != "cosine" or one.number in range(5, 8) else None)
    assert notes(build_confirmation(THREE), replace(exhausted, exhausted={"cosine-1": 3})) == [SCOPE]


# --- ends of ranges ---------------------------------------------------------------------------------


def test_the_winner_at_an_end_of_its_range(build_confirmation):
    high = {"wsd": {"peak_lr": 0.98}}
    assert notes(at(build_confirmation, high), search(change=chosen(high))) == [
        "wsd trial 7 has peak_lr at the high end of its range (1). optimizer.peak_lr.high=3 search.extend=true "
        "search.n_trials=40 searches beyond it.",
        SCOPE,
    ]
    loser = {"cosine": {"peak_lr": 0.98}}
    assert notes(at(build_confirmation, loser), search(change=chosen(loser))) == [SCOPE]


def test_those_among_the_best_at_one_end_share_a_line(build_confirmation):
    high = {"wsd": {"peak_lr": 0.98}, "cosine": {"peak_lr": 0.99, "decay": 0.3}}
    found = notes(at(build_confirmation, high, EQUAL), search(change=chosen(high)))
    assert [line for line in found if "end of its range" in line] == found[:1]
    assert found[0].startswith("wsd trial 7 and cosine trial 7 have peak_lr at the high end")


def test_a_hyperparameter_of_the_optimizer_is_another_sweep(build_confirmation):
    value = {"wsd": {"optimizer.momentum": 0.95}}
    known = {f"{name}-1": family(name, node) for name, node in NODES.items()}
    nodes = {"optimizer": {"momentum": {"low": 0.5, "high": 0.95}}}
    wider = search(change=chosen(value), spaces=spaces(known, 1000, None, nodes))
    assert notes(at(build_confirmation, value), wider)[0] == (
        "wsd trial 7 has optimizer.momentum at the high end of its range (0.95). A wider range is another sweep."
    )


# --- budgets ----------------------------------------------------------------------------------------


def test_unequal_trials(build_confirmation):
    unequal = search(change=lambda one: None if one.family == "cosine" and one.number > 11 else one)
    assert notes(build_confirmation(THREE), unequal) == [
        "Unequal budgets: a family with more trials had more chances. wsd had 20, cosine 12. Give all the same "
        "search.n_trials.",
        SCOPE.replace("20 trials", "12 to 20 trials"),
    ]
    failed = search(
        change=lambda one: replace(one, state="failed") if (one.family, one.number) == ("cosine", 0) else one
    )
    assert notes(build_confirmation(THREE), failed)[:-1] == [], "one that failed changes nothing"


def test_unequal_updates(build_confirmation):
    def trained(steps):
        return lambda one: replace(one, steps_done=steps) if one.family == "cosine" else one

    assert notes(build_confirmation(THREE), search(change=trained(600))) == [SCOPE]
    assert notes(build_confirmation(THREE), search(change=trained(400)))[0] == (
        "In the search cosine had less than half of the 20,000 updates of wsd: more of the trials were pruned or "
        "diverged. pruner=none treats all alike (a new search)."
    )


@pytest.mark.parametrize("name", ["range_test", "other"])
@pytest.mark.parametrize("leader", [True, False])
def test_the_divergence_of_a_ramp_is_none_to_avoid(build_confirmation, name, leader):
    """Of the other families that of the leader is advised against, or that one had fewer updates than the leader."""

    def diverge(one):
        short = {"state": "diverged", "value": None, "steps_done": 100} if one.number > 6 else {}
        return replace(one, family=name, **short) if one.family == "wsd" else one

    found = " ".join(notes(build_confirmation({name: 1.0 if leader else 1.05, "cosine": 1.02}), search(change=diverge)))
    assert ("diverged" in found) is (name == "other")


def test_many_diverged_trials_of_the_best(build_confirmation):
    def change(family, count):
        def diverge(one):
            is_it = one.family == family and one.number >= 20 - count
            return replace(one, state="diverged", value=None, params={"peak_lr": 0.9}) if is_it else one

        return diverge  # fmt: skip

    assert notes(build_confirmation(THREE), search(change=change("wsd", 7))) == [
        "7 of 20 trials of wsd diverged in the search. 'schedule.wsd.peak_lr={low: 0.001, high: 0.1, log: true}' "
        "search.extend=true search.n_trials=40 searches below them.",
        SCOPE,
    ]
    assert notes(build_confirmation(THREE), search(change=change("wsd", 6))) == [SCOPE]
    assert notes(build_confirmation(THREE), search(change=change("cosine", 7))) == [SCOPE]
    unknown = search(change=change("wsd", 7), spaces={})
    assert notes(build_confirmation(THREE), unknown)[0] == (
        "7 of 20 trials of wsd diverged in the search. Lower the range of its peak LR."
    )


def test_larger_spaces_than_the_leaders(build_confirmation):
    found = notes(build_confirmation({**THREE, "constant": 0.9}), search())
    assert found[0] == (
        "wsd and cosine have more searched hyperparameters than constant (1), and equally many trials: more trials may "
        "improve them more. search.n_trials=40 continues the search."
    )


# --- still improving --------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "is_said"), [(0.5, True), (0.99, False)])
def test_a_search_that_still_improved(build_confirmation, late, is_said):
    """By more than the spread over seeds, here about 0.03 on 8 seeds."""
    improved = search(change=lambda one: replace(one, value=late) if (one.family, one.number) == ("wsd", 17) else one)
    found = notes(build_confirmation(THREE, seeds=8), improved)
    assert len(found) == 1 + is_said
    if is_said:
        assert found[0].startswith("The last 5 of 20 complete trials of wsd improved valid/loss by 0.5000, more than")
        assert found[0].endswith("search.n_trials=40 may improve it further.")


@pytest.mark.parametrize(
    ("values", "is_said"),
    [((2.0, 1.5, 1.3, 1.0), True), ((2.0, 1.1, 1.02, 1.0), False), ((9.0, 1.5, 1.3, 1.0), False)],
    ids=["much", "less than the spread over seeds", "little of the whole"],
)
def test_a_training_that_still_improved(build_confirmation, values, is_said):
    reports = tuple(zip((500, 850, 900, 1000), values, strict=True))
    improved = search(change=lambda one: replace(one, intermediate=reports) if one.number == 7 else one)
    expected = [
        "wsd trial 7 still improved in the last tenth of the updates. With longer training another one may be best: "
        "sweep again with train.steps=2000."
    ]
    assert notes(build_confirmation(THREE), improved) == [*(expected if is_said else []), SCOPE]


def test_a_schedule_that_ends_high(build_confirmation):
    high = search(ends_high=lambda study, trial: (study, trial) in {("wsd-1", 7), ("cosine-1", 7)})
    assert notes(build_confirmation(THREE), high)[0] == (
        "wsd trial 7 ends more than 10% of its peak LR above its floor. In a longer run the LR would fall further."
    )
    assert "wsd trial 7 and cosine trial 7: each ends more than 10%" in " ".join(notes(build_confirmation(EQUAL), high))


# --- all together -----------------------------------------------------------------------------------


@pytest.mark.parametrize("means", [THREE, EQUAL, {"wsd": 1.0}])
def test_there_are_at_most_four_and_the_most_important_come_first(build_confirmation, means):
    high = {name: {"peak_lr": 0.98, "warmup": 0.2} for name in NAMES}
    reports = ((500, 2.0), (900, 1.5), (1000, 1.0))

    def change(one):
        if one.number > 14:
            return replace(one, state="diverged", value=None)
        return replace(chosen(high)(one), intermediate=reports, value=0.5 if one.number == 14 else 1.0)

    bad = search(trials=22, change=change, ends_high=lambda study, trial: True)
    found = notes(at(build_confirmation, high, means), bad)
    assert len(found) <= fairness.MOST + 1
    assert "peak_lr at the high end" in found[0]
    assert found[-1].startswith("This holds for SGD")


def test_without_a_leader_there_is_still_the_scope(build_confirmation):
    states = {(name, place): "diverged" for name in THREE for place in range(8)}
    assert notes(build_confirmation(THREE, states=states, seeds=8), search()) == [SCOPE]
    assert notes(build_confirmation(THREE, seeds=0), search()) == [SCOPE]


def test_maximized_metrics_improve_upwards(build_confirmation):
    objective = {"metric": "valid/accuracy", "direction": "maximize", "at": "last"}
    confirmation = build_confirmation({"wsd": 1.3, "cosine": 1.1, "constant": 1.0}, objective=objective, seeds=8)
    better = search(change=lambda one: replace(one, value=1.5) if (one.family, one.number) == ("wsd", 17) else one)
    worse = search(change=lambda one: replace(one, value=0.5) if (one.family, one.number) == ("wsd", 17) else one)
    assert "improved valid/accuracy by 0.5000" in notes(confirmation, better)[0]
    assert notes(confirmation, worse) == [SCOPE]
