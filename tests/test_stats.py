"""Intervals cover what they promise; fits find what they were given."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rlhf_lite import stats


def test_wilson_by_hand():
    # Published example: 15 of 50 at 95 % is (0.191, 0.438).
    assert stats.proportion_interval(15, 50) == pytest.approx((0.3, 0.1910, 0.4375, 50), abs=1e-3)
    assert stats.proportion_interval(0, 10)[:2] == (0, 0) and stats.proportion_interval(0, 10).high > 0.2
    assert math.isnan(stats.proportion_interval(0, 0).value)
    for wrong in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError):
            stats.proportion_interval(*wrong)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(case):
    found = stats.proportion_interval(*case)
    assert 0 <= found.low <= found.value <= found.high <= 1
    mirror = stats.proportion_interval(case[1] - case[0], case[1])
    assert found.low == pytest.approx(1 - mirror.high, abs=1e-9)


def test_win_rate_counts_ties_half():
    assert stats.win_rate(40, 20, 100).value == 0.5
    assert stats.win_rate(71, 0, 100)[:3] == stats.proportion_interval(71, 100)[:3]
    with pytest.raises(ValueError, match="do not add up"):
        stats.win_rate(60, 50, 100)


def test_mean_interval_by_hand():
    normal = stats.mean_interval([1, 2, 3, 4, 5], method="normal")
    assert normal == pytest.approx((3.0, 3 - 1.96 * math.sqrt(2.5 / 5), 3 + 1.96 * math.sqrt(2.5 / 5), 5), abs=1e-3)
    assert stats.mean_interval([2.0]) == (2, 2, 2, 1)
    assert stats.mean_interval(range(9)) == stats.mean_interval(range(9))            # same seed, same numbers
    for wrong in ([], [1, math.nan], [[1, 2]]):
        with pytest.raises(ValueError):
            stats.mean_interval(wrong)
    with pytest.raises(ValueError, match="method"):
        stats.mean_interval([1, 2], method="guess")
    with pytest.raises(ValueError, match="level"):
        stats.mean_interval([1, 2], level=95)


def test_mean_intervals_cover(rng):
    hits = {"normal": 0, "bootstrap": 0}
    for _ in range(300):
        sample = rng.exponential(1.0, 60)
        for method in hits:
            found = stats.mean_interval(sample, method=method, draws=300)
            hits[method] += found.low <= 1 <= found.high
    assert all(0.87 <= hit / 300 <= 0.99 for hit in hits.values()), hits


def test_cluster_bootstrap_sees_both_sources(rng):
    prompts = rng.normal(size=200)
    steady = stats.cluster_bootstrap(np.tile(prompts, (3, 1)))
    assert steady.n == 600 and steady.value == pytest.approx(prompts.mean())
    one_run = stats.mean_interval(prompts)
    assert steady.high - steady.low == pytest.approx(one_run.high - one_run.low, rel=0.15)   # copies add nothing
    moody = stats.cluster_bootstrap(np.tile(prompts, (3, 1)) + np.array([[-1.0], [0.0], [1.0]]))
    assert moody.high - moody.low > 3 * (steady.high - steady.low)
    with pytest.raises(ValueError, match="2 expected"):
        stats.cluster_bootstrap([1, 2, 3])


def test_cluster_bootstrap_covers(rng):
    hits = 0
    for _ in range(150):
        values = rng.normal(size=(8, 1)) * 0.3 + rng.normal(size=(1, 50)) + rng.normal(size=(8, 50))
        found = stats.cluster_bootstrap(values, draws=400)
        hits += found.low <= 0 <= found.high
    assert 0.87 <= hits / 150 <= 1


def test_length_correlation():
    found = stats.length_reward_correlation([1, 2, 3, 4], [1, 3, 2, 4])
    assert found.value == pytest.approx(0.8) and found.low < 0.8 < found.high
    assert stats.length_reward_correlation([1, 2, 3, 4], [8, 6, 4, 2]).value == pytest.approx(-1)
    assert math.isnan(stats.length_reward_correlation([1, 1], [1, 2]).value)
    with pytest.raises(ValueError, match="one of each"):
        stats.length_reward_correlation([1], [1, 2])


@given(st.floats(0.1, 5), st.floats(0.1, 2))
def test_gao_fits_recover_their_curve(alpha, beta):
    d = np.linspace(0, 6, 13)
    found = stats.gao_fit_bon(d, d * (alpha - beta * d))
    assert found == pytest.approx((alpha, beta, alpha / 2 / beta, alpha ** 2 / 4 / beta, 0), rel=1e-6, abs=1e-6)
    log_d = np.log(np.where(d > 0, d, 1))
    found = stats.gao_fit_rl(d, d * (alpha - beta * log_d))
    assert found[:2] == pytest.approx((alpha, beta), rel=1e-6)
    peak = found.peak_d
    def curve(x):
        return x * (alpha - beta * math.log(x))
    assert found.peak_gold == pytest.approx(curve(peak), rel=1e-5)
    assert curve(peak) >= max(curve(peak * 0.9), curve(peak * 1.1))


def test_gao_fits_without_a_peak_and_bad_input():
    assert stats.gao_fit_bon([1, 2, 3], [1, 4, 9]).peak_d == math.inf
    assert stats.gao_fit_rl([1, 2, 3], [1, 4, 9]).peak_d == math.inf
    assert stats.gao_fit_bon([1, 2, 3], [-1, -4, -9]).peak_gold == 0
    for d, gold in (([0, 1, 1], [0, 1, 1]), ([1, 2], [1]), ([-1, 2], [1, 2])):
        with pytest.raises(ValueError):
            stats.gao_fit_rl(d, gold)


def test_ece_by_hand(rng):
    # Bin [0.2, 0.3): promised 0.25, observed 0.5. Bin [0.9, 1]: promised 0.95, observed 1.
    assert stats.ece([0.25, 0.25, 0.9, 1.0], [0, 1, 1, 1]) == pytest.approx((2 * 0.25 + 2 * 0.05) / 4)
    p = rng.uniform(size=20_000)
    assert stats.ece(p, rng.uniform(size=20_000) < p) < 0.02
    with pytest.raises(ValueError, match="outside 0 to 1"):
        stats.ece([1.2], [1])


def test_calibration_errors_of_opposite_sign_add_up():
    assert stats.ece([0.25, 0.75], [0, 1]) == pytest.approx(0.25)


# ---------------------------------------------------------------- held against scipy

def test_wilson_is_scipys():
    for successes, n in ((0, 7), (3, 7), (15, 50), (71, 100), (299, 300)):
        theirs = scipy.stats.binomtest(successes, n).proportion_ci(0.9, method="wilson")
        assert stats.proportion_interval(successes, n, 0.9)[1:3] == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_bootstrap_of_a_mean_is_scipys():
    values = np.random.default_rng(0).exponential(size=80)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    ours = stats.mean_interval(values, draws=20_000)
    ends = theirs.confidence_interval.low, theirs.confidence_interval.high
    assert ours[1:3] == pytest.approx(ends, abs=0.05 * (ends[1] - ends[0]))
    normal = scipy.stats.norm.interval(0.95, values.mean(), scipy.stats.sem(values))
    assert stats.mean_interval(values, method="normal")[1:3] == pytest.approx(normal, abs=1e-9)


def test_the_correlation_and_fishers_interval_are_scipys():
    rng = np.random.default_rng(0)
    lengths = rng.normal(size=40)
    rewards = lengths + rng.normal(size=40)
    theirs = scipy.stats.pearsonr(lengths, rewards)
    ends = theirs.confidence_interval(0.95)
    assert stats.length_reward_correlation(lengths, rewards)[:3] == pytest.approx(
        (theirs.statistic, ends.low, ends.high), abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=9))
def test_kendalls_tau_b_is_scipys(pairs):
    ours, theirs = stats.kendall_tau_b(*zip(*pairs, strict=True)), scipy.stats.kendalltau(*zip(*pairs, strict=True))
    assert ours == pytest.approx(theirs.statistic, abs=1e-9, nan_ok=True)
