"""The looks of a confirmation, on values that are written down or drawn."""

import numpy as np
import pytest
from scipy import stats

from sweeper.results.judging import LEAST, Rules, State, Values, Wanted, difference, judge
from sweeper.results.paired import interval, is_skewed, paired, seeds_to_decide

rng = np.random.default_rng(0)
NOISE_KS = np.random.default_rng(1).normal(0, 1, (8, 64))
COMMON_S = np.random.default_rng(2).normal(0, 3, 64)


def values(means, noise=NOISE_KS, diverged=(), failed=(), lacking=()):
    """Return values of 64 seeds, with other states at (configuration, seed)."""
    value_KS = np.array(means, float)[:, None] + noise[: len(means)] + COMMON_S
    state_KS = np.full(value_KS.shape, State.ENDED, np.uint8)
    for state, places in ((State.DIVERGED, diverged), (State.FAILED, failed), (State.LACKING, lacking)):
        for k, s in places:
            state_KS[k, s], value_KS[k, s] = state, np.nan
    return Values(value_KS, state_KS)


def reached(values, seeds_K):
    """Return only the first seeds of each configuration."""
    state_KS, value_KS = values.state_KS.copy(), values.value_KS.copy()
    for k, seeds in enumerate(seeds_K):
        state_KS[k, seeds:], value_KS[k, seeds:] = State.LACKING, np.nan
    return Values(value_KS, state_KS)


# --- the paired test ----------------------------------------------------------------------------------


def test_the_paired_test_is_scipys():
    a, b = NOISE_KS[0, :9], NOISE_KS[1, :9]
    ours, theirs = paired(a - b), stats.ttest_rel(a, b)
    assert (ours.t, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    assert interval(ours, 0.05) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-12)


def test_seeds_on_which_one_did_not_end_do_not_count():
    d = np.array([1.0, np.nan, 2.0, 4.0])
    assert [*map(float, paired(d))] == pytest.approx([*map(float, paired(d[[0, 2, 3]]))])


@pytest.mark.parametrize(("d", "p"), [([0.0] * 5, 1.0), ([0.3] * 5, 2.0**-4), ([1.0], 1.0), ([], 1.0)])
def test_differences_without_spread(d, p):
    assert paired(np.array(d)).p == p


def test_power_needs_what_a_table_says():
    # Cohen, 1988: a paired difference of 0.5 sd needs about 32 pairs in the normal approximation
    assert seeds_to_decide(0.5, 1.0, 0.05, 0.8) == pytest.approx(31.4, abs=0.1)
    assert seeds_to_decide(0.0, 1.0, 0.05, 0.8) == np.inf


def test_skewness_is_flagged_from_16_seeds_on():
    skewed = np.exp(np.linspace(-2, 2, 16))
    assert is_skewed(skewed)
    assert not is_skewed(skewed[1:])
    assert not is_skewed(np.linspace(-1, 1, 16))


# --- looks --------------------------------------------------------------------------------------------


def test_five_seeds_of_all_are_wanted_first_and_then_the_looks():
    everything = values([0.0] * 4)
    assert judge(reached(everything, [0] * 4), Rules(), 0).wanted == Wanted((0, 1, 2, 3), LEAST)
    assert judge(reached(everything, [5, 5, 5, 4]), Rules(), 0).wanted == Wanted((0, 1, 2, 3), LEAST)
    assert judge(reached(everything, [5] * 4), Rules(), 0).wanted == Wanted((0, 1, 2, 3), 8)
    assert judge(reached(everything, [8] * 4), Rules(), 0).wanted.seeds == 12


def test_a_clear_winner_ends_it_at_the_first_look():
    now = judge(values([0, 0, -9, 0]), Rules(), 0)
    assert (now.winner, now.status, now.ended_by, now.trained) == (2, "winner", "decided", [8] * 4)
    assert now.rank(2) == (1, 1)
    assert now.out == {0: 8, 1: 8, 3: 8}
    assert now.beats_constant[2] is True


def test_who_is_out_is_not_trained_again():
    now = judge(values([9, -1, 9, -1.3]), Rules(), None)
    assert set(now.out) >= {0, 2}
    assert now.trained[0] == now.trained[2] == 8 < now.trained[1]


def test_equals_are_told_to_be_equals_soon():
    now = judge(values([0.0] * 8), Rules(), 0)
    assert (now.status, now.ended_by) == ("tie", "futility")
    assert max(now.trained) < 64
    assert all(now.rank(k)[0] == 1 for k in now.contenders)


def test_without_futility_it_goes_on_to_the_last_look():
    now = judge(values([0.0] * 8), Rules(ends_early=False), 0)
    assert now.ended_by == "max_seeds"
    assert max(now.trained) == 64


def test_leader_and_constant_go_on_alone_when_no_winner_is_likely():
    now = judge(values([0.3, 0, 0, 0]), Rules(), 0)
    assert (now.ended_by, now.leader, now.trained) == ("futility", 2, [64, 24, 64, 24])
    assert judge(reached(values([0.3, 0, 0, 0]), [24] * 4), Rules(), 0).wanted == Wanted((0, 2), 32)


def test_the_same_values_in_pieces_give_the_same_verdict():
    everything = values([0.4, 0, 0.1, -0.5, 0.2])
    whole, seeds = judge(everything, Rules(), 0), [0] * 5
    now = judge(reached(everything, seeds), Rules(), 0)
    while now.wanted:
        k = int(rng.choice(now.wanted.configurations))  # trainings end in any order
        seeds[k] = min(now.wanted.seeds, seeds[k] + 1)
        now = judge(reached(everything, seeds), Rules(), 0)
    assert now == whole
    assert seeds == [max(LEAST, n) for n in whole.trained]


def test_wrong_claims_about_the_constant_are_holms():
    """Against Holm's procedure by hand, at one look."""
    rules = Rules(looks=(20,), ends_early=False)
    everything = values([0, 0.2, 0.8, 1.1, -0.9, -0.6])
    now = judge(everything, rules, 0)
    p = {k: float(paired(difference(everything, k, 0, 20)).p) for k in range(1, 6)}
    expected, left = set(), 5
    for k in sorted(p, key=p.get):
        if p[k] > 0.05 / left:
            break
        expected, left = expected | {k}, left - 1
    assert 0 < len(expected) < 5
    assert set(now.beats_constant) == expected | ({now.winner} - {None})
    assert all(now.beats_constant[k] == (difference(everything, k, 0, 20).mean() < 0) for k in now.beats_constant)


# --- divergence and failure ---------------------------------------------------------------------------


def test_who_diverges_too_often_is_barred_and_beats_nobody():
    now = judge(values([0, -9, 0.1], diverged=[(1, s) for s in (0, 3, 5)]), Rules(), 0)
    assert now.barred == {1: 8}
    assert 1 not in now.contenders
    assert now.winner != 1
    assert not now.is_open(1)
    assert not any(1 in pair for pair in now.beats)


def test_one_divergence_of_eight_is_allowed_and_with_0_it_is_not():
    everything = values([0, -9, 0.1], diverged=[(1, 3)])
    assert judge(everything, Rules(), 0).winner == 1
    assert judge(everything, Rules(allow_divergence=0.0), 0).barred == {1: 8}


def test_where_all_rivals_are_barred_nobody_wins():
    now = judge(values([0, 0], diverged=[(1, s) for s in range(4)]), Rules(), 0)
    assert (now.winner, now.status, now.ended_by, now.contenders) == (None, "void", "decided", [0])


def test_a_barred_constant_makes_no_claims():
    now = judge(values([0, -9, 5], diverged=[(0, s) for s in range(4)]), Rules(), 0)
    assert now.winner == 1
    assert now.beats_constant == {}


def test_a_configuration_that_failed_leaves_the_others_alone():
    now = judge(values([0, 0, -9], failed=[(1, 6)]), Rules(), 0)
    assert now.failed == {1: 8}
    assert now.winner == 2
    assert now.count == 3


# --- edges --------------------------------------------------------------------------------------------


def test_training_that_ignores_its_seed_is_found_out_after_five():
    now = judge(values([0.0, -1.0, -1.0, 2.0], noise=np.zeros((4, 64))), Rules(), 0)
    assert now.is_exact
    assert now.trained == [LEAST] * 4
    assert (now.status, now.winner, now.contenders) == ("equal", None, [1, 2])
    assert [now.rank(k) for k in range(4)] == [(3, 3), (1, 2), (1, 2), (4, 4)]
    assert now.beats_constant == {1: True, 2: True, 3: False}
    assert judge(values([0.0, -1.0], noise=np.zeros((2, 64))), Rules(), 0).winner == 1


def test_one_seed_is_no_test():
    now = judge(values([0, -9]), Rules(looks=(1,)), 0)
    assert (now.status, now.winner, now.trained, now.leader) == ("no_test", None, [1, 1], 1)


def test_one_configuration_is_no_test():
    now = judge(values([0.0]), Rules(), 0)
    assert (now.status, now.trained, now.leader, now.beats_constant) == ("no_test", [8], 0, {})


def test_a_margin_calls_them_equal():
    now = judge(values([0.0, 0.001, 0.002], noise=NOISE_KS * 1e-3), Rules(margin=0.01), 0)
    assert (now.status, now.ended_by, now.trained) == ("equal", "margin", [8] * 3)


@pytest.mark.parametrize(("most", "seeds"), [(31, 0), (32, 8), (47, 8), (48, 12)])
def test_a_look_that_the_budget_does_not_pay_is_not_begun(most, seeds):
    now = judge(values([0.0] * 4), Rules(looks=(8, 12, 32), most_trainings=most), 0)
    assert now.ended_by == "budget"
    assert max(now.trained) == seeds
    assert now.wanted is None
