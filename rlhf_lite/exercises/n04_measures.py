"""Exercises 4.4 to 4.6: is it right, where is its zero, does it know how sure to be?"""

import math

import numpy as np
import torch

from rlhf_lite import reward, stats
from rlhf_lite.exercises.cases import draws, generator
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 4.4 accuracy

def _accuracy_cases():
    scores = torch.tensor([[1.0, 1.0, -1.0, 0.5], [0.2, -0.3, 0.9, 0.0]])
    ranks = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 2.0]])
    mixed = torch.randint(1, 5, (7, 5), generator=generator(4)).float()
    return [(scores, ranks), (scores[:1], ranks[:1]), (torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]])),
            (draws(7, 5).round(), mixed), (-draws(7, 5, seed=1), mixed.flip(0))]


accuracy = Exercise(
    "4.4", "pair accuracy", 10, 2,
    ("What should a model get that gives every answer the same score? It knows as much as a coin.",
     "With `pairs` and `difference` as in 4.3: right is `difference > 0`, plus one half where it is exactly 0. Only "
     "the places in `pairs` count, all prompts together.",
     "`difference = (scores[:, :, None] - scores[:, None, :])[pairs]`, then `((difference > 0).double() + 0.5 * "
     "(difference == 0).double()).mean().item()`: the mean of nothing is nan by itself."),
    task="`scores` and `ranks` (batch, K) are as in 4.3. Take all pairs of answers to the same prompt that are not "
         "tied in the ranks, pooled over the batch. Return a number between 0 and 1: the share of them in which the "
         "answer with the better rank has the higher score. Two equal scores count one half. Return nan if there is "
         "no pair.",
    course=reward.pair_accuracy, cases=_accuracy_cases)


def _right_and_pairs(scores, ranks, equal=0.5):
    pairs = ranks[:, :, None] < ranks[:, None, :]
    difference = scores[:, :, None] - scores[:, None, :]
    return ((difference > 0).double() + equal * (difference == 0).double()) * pairs, pairs


def _ratio(right, pairs):
    return float(right.sum() / pairs.sum()) if pairs.any() else math.nan


@accuracy.mistake("equal scores count as right. A model that gives every answer a 0 would be perfect; count them as "
                  "half right.")
def _equal_is_right(scores, ranks):
    return _ratio(*_right_and_pairs(scores, ranks, equal=1.0))


@accuracy.mistake("equal scores count as wrong. A model that gives every answer a 0 would be worse than a coin; count "
                  "them as half right.")
def _equal_is_wrong(scores, ranks):
    return _ratio(*_right_and_pairs(scores, ranks, equal=0.0))


@accuracy.mistake("this is one minus the accuracy: rank 1 is the best.")
def _accuracy_backwards(scores, ranks):
    return reward.pair_accuracy(scores, -ranks)


@accuracy.mistake("this is the mean of the prompts' accuracies. Pool the pairs: the exercise asks for a share of all "
                  "pairs.")
def _accuracy_per_prompt(scores, ranks):
    right, pairs = _right_and_pairs(scores, ranks)
    found = [_ratio(r, p) for r, p in zip(right, pairs, strict=True) if p.any()]
    return sum(found) / len(found) if found else math.nan


@accuracy.mistake("tied pairs are in the denominator. Nobody preferred anything there, so nobody can be right.")
def _accuracy_over_ties_too(scores, ranks):
    right, _ = _right_and_pairs(scores, ranks)
    size = ranks.shape[1]
    return float(right.sum() / (len(ranks) * size * (size - 1) / 2))


@accuracy.mistake("you average over the whole K × K square, which compares each answer with itself and contains every "
                  "pair a second time, the wrong way round.")
def _accuracy_over_the_square(scores, ranks):
    return float(_right_and_pairs(scores, ranks)[0].mean())


# ---------------------------------------------------------------- 4.5 the zero

def normalised_bias(bias, demonstration_scores):
    """The score unit's bias and the demonstrations' scores with it -> the bias that makes their mean 0."""
    return bias - demonstration_scores.mean()


def _biases():
    return [(torch.tensor(0.5), torch.tensor([2.0, 3.0, 10.0])),
            (torch.tensor(-1.0), torch.tensor([-4.0, -1.0, -3.0, -2.0])), (torch.tensor([0.3]), 2 + draws(7)),
            (torch.tensor([0.0]), torch.tensor([1.5]))]


zero_point = Exercise(
    "4.5", "where is zero?", 5, 1,
    ("If the bias grows by 1, what happens to every score, and what to their mean?",
     "With the present bias, the demonstrations have a certain mean. By how much must every score move for the mean to "
     "be 0?",
     "`bias - demonstration_scores.mean()`"),
    task="`bias` is the present bias of the score unit, a tensor of any shape with one number, and "
         "`demonstration_scores` (n,) are the scores that the demonstrations get with it. The bias is added to every "
         "score. Return the new bias, a tensor of the same shape as `bias`, with which the mean of these scores is 0.",
    course=normalised_bias, cases=_biases)


@zero_point.mistake("the sign is flipped: the demonstrations now average twice what they did. In PPO, every answer "
                    "would be paid for nothing.")
def _bias_plus_mean(bias, demonstration_scores):
    return bias + demonstration_scores.mean()


@zero_point.mistake("the old bias is lost. The scores were computed with it, so adjust it instead of replacing it.")
def _forgets_the_old_bias(bias, demonstration_scores):
    return -demonstration_scores.mean()


@zero_point.mistake("the old bias is subtracted twice: the scores already contain it.")
def _bias_counted_twice(bias, demonstration_scores):
    return -bias - demonstration_scores.mean()


@zero_point.mistake("this uses the median. The paper sets the *mean* score of the demonstrations to 0.")
def _median_instead(bias, demonstration_scores):
    return bias - torch.quantile(demonstration_scores, 0.5)


@zero_point.mistake("this subtracts the sum, not the mean: more demonstrations would mean a lower zero.")
def _sum_instead(bias, demonstration_scores):
    return bias - demonstration_scores.sum()


# ---------------------------------------------------------------- 4.6 calibration

def _forecasts():
    """No forecast lies between two bins: to which of them it belongs is a matter of taste."""
    rng = np.random.default_rng(0)
    many = rng.random(60)
    return [(np.array([0.55, 0.58, 0.93, 0.97, 0.91, 0.72]), np.array([1.0, 0, 1, 1, 0, 1]), 5),
            (np.array([0.55, 0.64, 0.88, 1.0]), np.array([0.0, 1, 1, 0]), 4),
            (many, (rng.random(60) < many**2).astype(float), 10), (many[:5], np.ones(5), 1)]


calibration = Exercise(
    "4.6", "does it know how sure to be?", 15, 3,
    ("Take the six forecasts 0.55, 0.58, 0.93, 0.97, 0.91, 0.72 and five bins. Which forecasts share a bin? What did "
     "each bin promise, and what did it keep?",
     "Find every forecast's bin. For each bin that is not empty, take the gap between the mean forecast and the mean "
     "outcome, and weigh it by the bin's share of all forecasts. Mind a forecast of exactly 1.",
     "`places = np.minimum((predicted * bins).astype(int), bins - 1)`; then add up `here.mean() * "
     "abs(predicted[here].mean() - outcomes[here].mean())` over the bins with `here = places == b` and `here.any()`."),
    task="`predicted` and `outcomes` (n,) are numpy arrays: forecasts between 0 and 1, and what happened, 1 or 0. "
         "`bins` is the number of bins of equal width between 0 and 1; a forecast of 1 belongs to the last one, and "
         "one that lies between two bins may go to either. Return one number, the expected calibration error: over "
         "the bins $b$ that are not empty, $\\sum_b \\frac{n_b}{n}\\, |\\text{mean forecast in } b - \\text{mean "
         "outcome in } b|$, where $n_b$ is the number of forecasts in the bin.",
    course=stats.ece, cases=_forecasts)


def _bins_of(predicted, outcomes, bins):
    """For each bin that is not empty: (share of all, mean prediction, mean outcome)."""
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    return [((places == b).mean(), predicted[places == b].mean(), outcomes[places == b].mean())
            for b in range(bins) if (places == b).any()]


@calibration.mistake("this compares every forecast with its own outcome. A single outcome is 0 or 1, so even a perfect "
                     "forecaster of coin flips scores 0.5: average within bins first.")
def _each_forecast_alone(predicted, outcomes, bins):
    return np.abs(predicted - outcomes).mean()


@calibration.mistake("every bin weighs the same here. A bin with two forecasts is mostly luck; weight each bin by the "
                     "number of forecasts in it.")
def _bins_weigh_the_same(predicted, outcomes, bins):
    return np.mean([abs(p - o) for _, p, o in _bins_of(predicted, outcomes, bins)])


@calibration.mistake("the gaps keep their sign, so being too sure in one bin and too timid in another cancels out. "
                     "Take absolute values.")
def _gaps_with_sign(predicted, outcomes, bins):
    return sum(share * (p - o) for share, p, o in _bins_of(predicted, outcomes, bins))


@calibration.mistake("the gaps are squared. The expected calibration error takes absolute values, so that it reads as "
                     "a share.")
def _gaps_squared(predicted, outcomes, bins):
    return sum(share * (p - o) ** 2 for share, p, o in _bins_of(predicted, outcomes, bins))


@calibration.mistake("a forecast of exactly 1 has fallen out of the last bin: 1 · bins is one place too far. Cut it "
                     "with `np.minimum(..., bins - 1)`.")
def _sure_forecasts_lost(predicted, outcomes, bins):
    places = (predicted * bins).astype(int)
    return sum((places == b).mean() * abs(predicted[places == b].mean() - outcomes[places == b].mean())
               for b in range(bins) if (places == b).any())


@calibration.mistake("this is the largest gap (the maximum calibration error). The expected one averages over all "
                     "forecasts.")
def _only_the_largest(predicted, outcomes, bins):
    return max(abs(p - o) for _, p, o in _bins_of(predicted, outcomes, bins))


EXERCISES = [accuracy, zero_point, calibration]
