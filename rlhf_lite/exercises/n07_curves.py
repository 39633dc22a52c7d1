"""Exercises 7.4 to 7.6: the best policy for the proxy, Gao's curve, and how much of a gain is not length."""


import numpy as np
import torch

from rlhf_lite import stats, tiny_world
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 7.4 the best policy for the proxy

def best_under_proxy(log_ref, proxy, true, kl_coef):
    """(N,) log-probabilities, proxy and true scores of all responses -> (KL, mean proxy, mean true score) of the
    policy that maximises proxy - kl_coef · KL."""
    log_best, _ = tiny_world.optimum(log_ref, proxy, kl_coef)
    return (tiny_world.kl(log_best, log_ref), tiny_world.expected(log_best, proxy), tiny_world.expected(log_best, true))


def _responses():
    generator = torch.Generator().manual_seed(1)
    log_ref = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(dim=-1)
    proxy, true = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    return [(log_ref, proxy, true, 0.5), (log_ref, proxy, true, 2.0)]


def _numbers(function, *arguments):
    return [float(number) for number in function(*arguments)]


best_policy = Exercise(
    "7.4", "the best policy for the proxy", 12, 2,
    ("Which of the two scores may the optimiser see?",
     "π* ∝ π_ref · exp(score / kl_coef), from notebook 05. Which of the two scores does the optimiser see, and "
     "which one do you want to know?",
     "`log_best = (log_ref + proxy / kl_coef).log_softmax(-1)`; the KL is the mean under π* of `log_best - "
     "log_ref`, and both scores are averaged under π*."),
    task="`log_ref`, `proxy` and `true` (responses,) are the reference's log-probability, the proxy score and the true "
         "score of every possible response; `kl_coef` is the price of a nat. Let π* be the policy that maximises "
         "E[proxy] − kl_coef · KL(π ‖ π_ref). Return three tensors with one number each: its KL from the reference, "
         "its mean proxy, its mean true score.",
    course=best_under_proxy, cases=_responses, observe=_numbers)


def _of_policy(log_p, log_ref, proxy, true):
    return tiny_world.kl(log_p, log_ref), tiny_world.expected(log_p, proxy), tiny_world.expected(log_p, true)


@best_policy.mistake("you tilted by the truth. That policy is what we would like to have; an optimiser sees only the "
                     "proxy.")
def _tilted_by_truth(log_ref, proxy, true, kl_coef):
    return _of_policy(tiny_world.optimum(log_ref, true, kl_coef)[0], log_ref, proxy, true)


@best_policy.mistake("kl_coef multiplies the score here. A high price for moving must mean little movement: divide.")
def _times_kl_coef(log_ref, proxy, true, kl_coef):
    return _of_policy((log_ref + proxy * kl_coef).log_softmax(dim=-1), log_ref, proxy, true)


@best_policy.mistake("the reference is missing: a response that nobody would write is then as welcome as a common one.")
def _without_reference(log_ref, proxy, true, kl_coef):
    return _of_policy((proxy / kl_coef).log_softmax(dim=-1), log_ref, proxy, true)


@best_policy.mistake("the probabilities do not sum to 1. Subtract the logsumexp, or use log_softmax.")
def _not_normalised(log_ref, proxy, true, kl_coef):
    return _of_policy(log_ref + proxy / kl_coef, log_ref, proxy, true)


@best_policy.mistake("the KL runs the wrong way: it is an average over what the new policy writes.")
def _kl_the_other_way(log_ref, proxy, true, kl_coef):
    _, mean_proxy, mean_true = best_under_proxy(log_ref, proxy, true, kl_coef)
    return tiny_world.kl(log_ref, tiny_world.optimum(log_ref, proxy, kl_coef)[0]), mean_proxy, mean_true


@best_policy.mistake("the sign is flipped: this policy runs away from the reward.")
def _away_from_the_proxy(log_ref, proxy, true, kl_coef):
    return _of_policy(tiny_world.optimum(log_ref, -proxy, kl_coef)[0], log_ref, proxy, true)


# ---------------------------------------------------------------- 7.5 Gao's curve

def fit_bon(d, gold):
    """(points,) distances and gains -> (alpha, beta) in gold = d (alpha - beta d)."""
    return tuple(stats.gao_fit_bon(d, gold)[:2])


def _points():
    d = np.array([0.4, 0.8, 1.2, 1.5, 1.8])
    noisy = d * (0.5 - 0.2 * d) + np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    return [(d, noisy), (d, 0.3 * d + 0.05 * d**2), (d[[3, 0, 4, 1]], noisy[[3, 0, 4, 1]])]


gaos_curve = Exercise(
    "7.5", "Gao's curve", 10, 2,
    ("The curve has two unknown numbers. In which way do they enter?",
     "d(α − βd) = α·d + β·(−d²): linear in α and β, so least squares with two columns does it.",
     "`np.linalg.lstsq(np.stack([d, -d * d], axis=1), gold, rcond=None)[0]` is (α, β). No column of ones: at d = 0 "
     "nothing has been gained."),
    task="`d` (points,) are distances √KL and `gold` (points,) the gains in true score there. Return two floats, alpha "
         "and beta, of the curve d (alpha − beta d) that is nearest to the points by least squares. It goes through 0 "
         "at d = 0.",
    course=fit_bon, cases=_points)


def _solve(features, gold):
    return tuple(float(x) for x in np.linalg.lstsq(np.stack(features, axis=1), gold, rcond=None)[0][:2])


@gaos_curve.mistake("there is a constant in your fit. The curve must pass through 0: no distance, no gain.")
def _with_intercept(d, gold):
    return _solve([d, -d * d, np.ones_like(d)], gold)


@gaos_curve.mistake("you took the KL. d is its square root; you squared d.")
def _in_kl(d, gold):
    return _solve([d**2, -(d**4)], gold)


@gaos_curve.mistake("β has the wrong sign: the curve is d(α − βd), so that a positive β bends it down.")
def _plus_beta(d, gold):
    return _solve([d, d * d], gold)


@gaos_curve.mistake("this is the form for reinforcement learning, d(α − β log d). Best-of-n has d(α − βd).")
def _rl_form(d, gold):
    return tuple(stats.gao_fit_rl(d, gold)[:2])


@gaos_curve.mistake("α and β are swapped: α is the slope at the start; return it first.")
def _beta_first(d, gold):
    return fit_bon(d, gold)[::-1]


# ---------------------------------------------------------------- 7.6 what of it is not length?

def share_beyond_length(lengths_before, rewards_before, lengths_after, rewards_after, width):
    """(n,) lengths and rewards of two policies' answers -> the share of the gain in reward left at equal length.

    Lengths are sorted into buckets of `width` tokens. The gains of the buckets that both policies use are averaged,
    each weighted by the number of answers (of both) in it, and divided by the gain over all answers.
    """
    buckets_before, buckets_after = (np.asarray(lengths) // width for lengths in (lengths_before, lengths_after))
    gains, weights = [], []
    for bucket in np.intersect1d(buckets_before, buckets_after):
        before, after = rewards_before[buckets_before == bucket], rewards_after[buckets_after == bucket]
        gains.append(after.mean() - before.mean())
        weights.append(len(before) + len(after))
    return float(np.average(gains, weights=weights) / (rewards_after.mean() - rewards_before.mean()))


def _two_policies():
    return [(np.array([4, 6, 7, 12, 13, 23]), np.array([0.0, 0.2, 0.1, 1.0, 1.2, 2.0]),
             np.array([6, 11, 14, 13, 12, 31]), np.array([0.3, 1.5, 1.4, 1.6, 1.1, 3.5]), 10),
            (np.array([3, 2, 8, 9]), np.array([0.0, 0.5, 1.0, 1.2]), np.array([1, 7, 8, 9, 6]),
             np.array([1.0, 1.5, 1.3, 1.9, 1.4]), 5)]


beyond_length = Exercise(
    "7.6", "how much of it is not length?", 12, 2,
    ("Compare like with like: which answers may be compared if length should not count?",
     "Compare only answers of about the same length: sort both policies' answers into buckets of `width` tokens "
     "and take the gain in each.",
     "For every bucket in `np.intersect1d(lengths_before // width, lengths_after // width)`: gain = mean after − "
     "mean before, weight = number of answers of both. Divide `np.average(gains, weights=weights)` by the whole gain."),
    task="`lengths_before` and `rewards_before` (n,), `lengths_after` and `rewards_after` (m,) are the answers of two "
         "policies; answers whose `lengths // width` agree are in one bucket. In every bucket that *both* policies "
         "use, take mean reward after minus before, and weigh it by the number of answers of both in it. Return a "
         "float: the weighted mean, divided by the gain over all answers. `width` is a whole number of tokens.",
    course=share_beyond_length, cases=_two_policies)


def _per_bucket(lengths_before, rewards_before, lengths_after, rewards_after, width, weigh):
    before, after = np.asarray(lengths_before) // width, np.asarray(lengths_after) // width
    found = [(rewards_after[after == b].mean() - rewards_before[before == b].mean(),
              weigh((before == b).sum(), (after == b).sum())) for b in np.intersect1d(before, after)]
    return float(np.average([gain for gain, _ in found], weights=[weight for _, weight in found]))


@beyond_length.mistake("every bucket weighs the same here, so a single odd answer counts as much as half of the test "
                       "set. Weight each bucket by the number of answers in it.")
def _unweighted(*arguments):
    return _per_bucket(*arguments, lambda before, after: 1) / (arguments[3].mean() - arguments[1].mean())


@beyond_length.mistake("you weight only by the answers after training. Count those of both policies: otherwise, "
                       "lengths that hardly occurred before dominate.")
def _weighted_by_after(*arguments):
    return _per_bucket(*arguments, lambda before, after: after) / (arguments[3].mean() - arguments[1].mean())


@beyond_length.mistake("this is the gain at equal length. Divide it by the whole gain to get the share.")
def _gain_not_share(*arguments):
    return _per_bucket(*arguments, lambda before, after: before + after)


@beyond_length.mistake("this is the share that *is* length, one minus what was asked for.")
def _share_of_length(*arguments):
    return 1 - share_beyond_length(*arguments)


@beyond_length.mistake("this is always 1: without buckets, the gain is compared with itself.")
def _no_buckets(*arguments):
    return 1.0


EXERCISES = [best_policy, gaos_curve, beyond_length]
