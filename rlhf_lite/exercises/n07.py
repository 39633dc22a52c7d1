"""Exercises of notebook 07: over-optimisation."""

import math

import numpy as np
import torch

from rlhf_lite import best_of_n, stats, tiny_world
from rlhf_lite.exercises.checking import Exercise

LESSON = {
    "title": "Over-optimisation",
    "promise": "A reward model is a map of what people like. You walk off its edge on purpose, watch the measured "
               "reward rise while the answers go bad, and find out that no bug is needed for it.",
    "minutes": 75, "needs": "notebook 05 for the words; it starts from shipped models", "step": "between 2 and 3",
    "aims": ["choose the best of n answers, and estimate what that brings without luck",
             "say exactly how far best-of-n and the best penalised policy have moved",
             "recognise over-optimisation in its curve, in its fit and in the answers"],
}


# ---------------------------------------------------------------- 7.1 the best of n

def _scores():
    return [(torch.tensor([[0.1, 0.9, 0.3], [2.0, -1.0, 0.5]]),),
            (torch.tensor([[-3.0, -1.0, -2.0, -1.0], [0.0, 0.0, -1.0, 0.0], [5.0, 6.0, 7.0, 8.0]]),)]


def _worst(proxy):
    return proxy.argmin(dim=1)


def _over_the_prompts(proxy):
    return proxy.argmax(dim=0)


def _value_of_the_best(proxy):
    return proxy.max(dim=1).values


def _largest_size(proxy):
    return proxy.abs().argmax(dim=1)


def _last_among_equals(proxy):
    return proxy.shape[1] - 1 - proxy.flip(1).argmax(dim=1)


# ---------------------------------------------------------------- 7.2 the best of n without luck

def _samples():
    generator = torch.Generator().manual_seed(3)
    proxy = torch.randn(2, 6, generator=generator)
    return [(proxy, 2), (proxy, 4), (torch.randn(3, 5, generator=generator), 3)]


def _places(proxy):
    """(prompts, N) place of each sample in the order, 1 for the lowest."""
    return proxy.argsort(dim=1).argsort(dim=1) + 1


def _by_place(proxy, weight):
    table = torch.tensor([weight(i) for i in range(proxy.shape[1] + 1)], dtype=torch.float64)
    return table[_places(proxy)]


def _with_replacement(proxy, n):
    N = proxy.shape[1]
    return _by_place(proxy, lambda i: (i / N) ** n - (max(i - 1, 0) / N) ** n)


def _worst_of_n(proxy, n):
    return best_of_n.best_of_n_weights(-proxy, n)


def _all_below(proxy, n):
    return _by_place(proxy, lambda i: math.comb(i, n) / math.comb(proxy.shape[1], n))


def _one_too_many(proxy, n):
    return _by_place(proxy, lambda i: math.comb(i, n - 1) / math.comb(proxy.shape[1], n))


def _first_n(proxy, n):
    return torch.nn.functional.one_hot(proxy[:, :n].argmax(dim=1), proxy.shape[1])


def _best_of_all(proxy, n):
    return torch.nn.functional.one_hot(proxy.argmax(dim=1), proxy.shape[1])


# ---------------------------------------------------------------- 7.3 how far is best-of-n?

def _worlds():
    probabilities = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
    scores = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=torch.float64)
    return [(2, probabilities, scores), (4, probabilities, scores),
            (3, torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))]


def _chosen(n, probabilities, scores):
    """(outcomes,) probability of each outcome to be the best of n; no two scores are equal here."""
    order = scores.argsort()
    reached = probabilities[order].cumsum(0)
    best = torch.empty_like(probabilities)
    best[order] = reached**n - (reached - probabilities[order]) ** n
    return best


def _formula(n, probabilities, scores):
    return math.log(n) - (n - 1) / n


def _log_n(n, probabilities, scores):
    return math.log(n)


def _reversed_kl(n, probabilities, scores):
    best = _chosen(n, probabilities, scores)
    return (probabilities * (probabilities / best).log()).sum().item()


def _kl_of_the_worst(n, probabilities, scores):
    return best_of_n.kl_best_of_n(n, probabilities, -scores)


def _sharpened(n, probabilities, scores):
    sharp = probabilities**n / (probabilities**n).sum()
    return (sharp * (sharp / probabilities).log()).sum().item()


def _bits(n, probabilities, scores):
    return best_of_n.kl_best_of_n(n, probabilities, scores) / math.log(2)


# ---------------------------------------------------------------- 7.4 the best policy for the proxy

def best_under_proxy(log_ref, proxy, true, kl_coef):
    """(N,) log-probabilities, proxy and true scores of all responses -> (KL, mean proxy, mean true score) of the policy
    that maximises proxy - kl_coef · KL."""
    log_best, _ = tiny_world.optimum(log_ref, proxy, kl_coef)
    return (tiny_world.kl(log_best, log_ref), tiny_world.expected(log_best, proxy), tiny_world.expected(log_best, true))


def _responses():
    generator = torch.Generator().manual_seed(1)
    log_ref = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(dim=-1)
    proxy, true = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    return [(log_ref, proxy, true, 0.5), (log_ref, proxy, true, 2.0)]


def _numbers(function, *arguments):
    return [float(number) for number in function(*arguments)]


def _of_policy(log_p, log_ref, proxy, true):
    return tiny_world.kl(log_p, log_ref), tiny_world.expected(log_p, proxy), tiny_world.expected(log_p, true)


def _tilted_by_truth(log_ref, proxy, true, kl_coef):
    return _of_policy(tiny_world.optimum(log_ref, true, kl_coef)[0], log_ref, proxy, true)


def _times_kl_coef(log_ref, proxy, true, kl_coef):
    return _of_policy((log_ref + proxy * kl_coef).log_softmax(dim=-1), log_ref, proxy, true)


def _without_reference(log_ref, proxy, true, kl_coef):
    return _of_policy((proxy / kl_coef).log_softmax(dim=-1), log_ref, proxy, true)


def _not_normalised(log_ref, proxy, true, kl_coef):
    return _of_policy(log_ref + proxy / kl_coef, log_ref, proxy, true)


def _kl_the_other_way(log_ref, proxy, true, kl_coef):
    _, mean_proxy, mean_true = best_under_proxy(log_ref, proxy, true, kl_coef)
    return tiny_world.kl(log_ref, tiny_world.optimum(log_ref, proxy, kl_coef)[0]), mean_proxy, mean_true


def _away_from_the_proxy(log_ref, proxy, true, kl_coef):
    return _of_policy(tiny_world.optimum(log_ref, -proxy, kl_coef)[0], log_ref, proxy, true)


# ---------------------------------------------------------------- 7.5 Gao's curve

def fit_bon(d, gold):
    """(points,) distances and gains -> (alpha, beta) of gold = d (alpha - beta d)."""
    return tuple(stats.gao_fit_bon(d, gold)[:2])


def _points():
    d = np.array([0.4, 0.8, 1.2, 1.5, 1.8])
    return [(d, d * (0.5 - 0.2 * d) + np.array([0.01, -0.01, 0.02, 0.0, -0.02])), (d, 0.3 * d + 0.05 * d**2)]


def _solve(features, gold):
    return tuple(float(x) for x in np.linalg.lstsq(np.stack(features, axis=1), gold, rcond=None)[0][:2])


def _with_intercept(d, gold):
    return _solve([d, -d * d, np.ones_like(d)], gold)


def _in_kl(d, gold):
    return _solve([d**2, -(d**4)], gold)


def _plus_beta(d, gold):
    return _solve([d, d * d], gold)


def _rl_form(d, gold):
    return tuple(stats.gao_fit_rl(d, gold)[:2])


def _beta_first(d, gold):
    return fit_bon(d, gold)[::-1]


# ---------------------------------------------------------------- 7.6 what of it is not length?

def share_beyond_length(lengths_before, rewards_before, lengths_after, rewards_after, width):
    """(n,) lengths and rewards of two policies' answers -> share of the gain in reward that is left at equal length.

    Lengths are sorted into buckets of `width` tokens; the gains of the buckets that both policies use are averaged,
    each weighted by the answers (of both) that lie in it, and divided by the gain over all answers.
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


def _per_bucket(lengths_before, rewards_before, lengths_after, rewards_after, width, weigh):
    before, after = np.asarray(lengths_before) // width, np.asarray(lengths_after) // width
    found = [(rewards_after[after == b].mean() - rewards_before[before == b].mean(),
              weigh((before == b).sum(), (after == b).sum())) for b in np.intersect1d(before, after)]
    return float(np.average([gain for gain, _ in found], weights=[weight for _, weight in found]))


def _unweighted(*arguments):
    return _per_bucket(*arguments, lambda before, after: 1) / (arguments[3].mean() - arguments[1].mean())


def _weighted_by_after(*arguments):
    return _per_bucket(*arguments, lambda before, after: after) / (arguments[3].mean() - arguments[1].mean())


def _gain_not_share(*arguments):
    return _per_bucket(*arguments, lambda before, after: before + after)


def _share_of_length(*arguments):
    return 1 - share_beyond_length(*arguments)


def _no_buckets(*arguments):
    return 1.0


EXERCISES = [
    Exercise(
        "7.1", "the best of n", 5, 1,
        ("One row per prompt, one column per answer. The answer that is wanted is a column number for every row.",
         "`proxy.argmax(dim=1)`; among equals it returns the first."),
        best_of_n.best_of_n_indices, _scores,
        {"this picks the worst answer. A reward model gives more for better answers.": _worst,
         "this looks for the best prompt of every column. The choice is among the answers to one prompt: over dim 1.":
             _over_the_prompts,
         "these are scores. What is wanted is which answer it was, so that its text can be sent.": _value_of_the_best,
         "the sign is ignored: a strongly disliked answer has a large score too, a negative one.": _largest_size,
         "among equals this takes the last. Take the first, so that two people with the same samples agree.":
             _last_among_equals}),
    Exercise(
        "7.2", "best-of-n without luck", 15, 3,
        ("All C(N, n) ways to pick n of the N samples are equally likely. In how many of them is the sample at place i "
         "(from below) the best? It has to be there, and the other n − 1 have to come from below it.",
         "With i − 1 samples below it there are C(i − 1, n − 1) such ways: the weight is `math.comb(i - 1, n - 1) / "
         "math.comb(N, n)`. `proxy.argsort(dim=1).argsort(dim=1)` gives i − 1."),
        best_of_n.best_of_n_weights, _samples,
        {"these are the weights for drawing with replacement, (i/N)ⁿ − ((i−1)/N)ⁿ. The same sample then meets itself, "
         "and the estimate is biased; draw n different ones.": _with_replacement,
         "these are the weights of the worst of n. Count the samples below, not above.": _worst_of_n,
         "this is the chance that all n lie at or below place i. To be the best, the sample must be one of them: "
         "C(i − 1, n − 1), not C(i, n).": _all_below,
         "off by one: the other n − 1 come from the i − 1 samples *below*, so C(i − 1, n − 1). Yours do not sum to 1.":
             _one_too_many,
         "you look at the first n samples only. That is unbiased, but it throws the others away: the same answers "
         "could have told you far more.": _first_n,
         "this is the best of all N, whatever n is.": _best_of_all}),
    Exercise(
        "7.3", "how far is best-of-n?", 15, 3,
        ("First the distribution of the winner: the best of n scores at most s if all n do. With F the chance of that "
         "for one draw, it is Fⁿ for n.",
         "Sort by score; `reached = p.cumsum(0)`; the winner is outcome i with probability reachedⁿ − (reached − p)ⁿ. "
         "Then KL is the sum of winner · log(winner / p)."),
        best_of_n.kl_best_of_n, _worlds,
        {"this is the formula log n − (n−1)/n. It holds for infinitely many outcomes; with a few of them the truth "
         "lies below it. Compute it from the probabilities.": _formula,
         "this is log n, what a winner among n equal choices would cost. The n answers are drawn, not given.": _log_n,
         "the KL runs the wrong way. It is an average over what best-of-n writes: winner · log(winner / p).":
             _reversed_kl,
         "this is the distance of the worst of n. Cumulate from the lowest score upwards.": _kl_of_the_worst,
         "you sharpened the distribution, pⁿ. That takes what is likely; best-of-n takes what scores high, likely or "
         "not.":
             _sharpened,
         "this is in bits. The course counts in nats: natural logarithms.": _bits},
        observe=lambda function, *arguments: float(function(*arguments))),
    Exercise(
        "7.4", "the best policy for the proxy", 12, 2,
        ("π* ∝ π_ref · exp(score / kl_coef), from notebook 05. Which of the two scores does the optimiser see, and "
         "which one do you want to know?",
         "`log_best = (log_ref + proxy / kl_coef).log_softmax(-1)`; the KL is the mean under π* of `log_best - "
         "log_ref`, and both scores are averaged under π*."),
        best_under_proxy, _responses,
        {"you tilted by the truth. That policy is what we would like to have; an optimiser sees only the proxy.":
             _tilted_by_truth,
         "kl_coef multiplies the score here. A large price of moving must mean little movement: divide.":
             _times_kl_coef,
         "the reference is missing: a response that was never written is then as welcome as a common one.":
             _without_reference,
         "the probabilities do not sum to 1. Subtract the logsumexp, or use log_softmax.": _not_normalised,
         "the KL runs the wrong way: it is an average over what the new policy writes.": _kl_the_other_way,
         "the sign is flipped: this policy runs away from the reward.": _away_from_the_proxy},
        observe=_numbers),
    Exercise(
        "7.5", "Gao's curve", 10, 2,
        ("d(α − βd) = α·d + β·(−d²): linear in α and β, so least squares with two columns does it.",
         "`np.linalg.lstsq(np.stack([d, -d * d], axis=1), gold, rcond=None)[0]` is (α, β). No column of ones: at d = 0 "
         "nothing has been gained."),
        fit_bon, _points,
        {"there is a constant in your fit. The curve must pass through 0: at no distance there is no gain.":
             _with_intercept,
         "you took the KL. d is its square root; you squared d.": _in_kl,
         "β has the wrong sign: the curve is d(α − βd), so that a positive β bends it down.": _plus_beta,
         "this is the form for reinforcement learning, d(α − β log d). Best-of-n has d(α − βd).": _rl_form,
         "α and β are swapped: α is the slope at the start, return it first.": _beta_first}),
    Exercise(
        "7.6", "what of it is not length?", 12, 2,
        ("Compare only answers of about the same length: sort both policies' answers into buckets of `width` tokens "
         "and take the gain in each.",
         "For every bucket in `np.intersect1d(lengths_before // width, lengths_after // width)`: gain = mean after − "
         "mean before, weight = number of answers of both. `np.average(gains, weights=weights)` over the whole gain."),
        share_beyond_length, _two_policies,
        {"every bucket weighs the same here, so a single odd answer counts as much as half of the test set. Weigh by "
         "the number of answers in it.": _unweighted,
         "you weigh by the answers after only. Count those of both policies: otherwise lengths that hardly occurred "
         "before dominate.": _weighted_by_after,
         "this is the gain at equal length. Divide it by the whole gain to get the share.": _gain_not_share,
         "this is the share that *is* length, one minus what was asked.": _share_of_length,
         "this is 1 whatever happens: without buckets the gain is compared with itself.": _no_buckets})]
