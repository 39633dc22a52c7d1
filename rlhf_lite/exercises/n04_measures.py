"""Exercises 4.4 to 4.6: is it right, where is its zero, does it know how sure to be?"""

import math

import numpy as np
import torch

from rlhf_lite import reward, stats
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 4.4 accuracy

def _accuracy_cases():
    scores = torch.tensor([[1.0, 1.0, -1.0, 0.5], [0.2, -0.3, 0.9, 0.0]])
    ranks = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 2.0]])
    return [(scores, ranks), (scores[:1], ranks[:1]), (torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]]))]


accuracy = Exercise(
    "4.4", "pair accuracy", 10, 2,
    ("Of all pairs that are not tied in the ranks: in how many does the preferred answer have the higher score?",
     "With `pairs` and `difference` as in 4.3: right is `difference > 0`, plus one half where it is exactly 0. Sum "
     "over the pairs and divide by their number; return nan if there are none."),
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
            (torch.tensor(-1.0), torch.tensor([-4.0, -1.0, -3.0, -2.0]))]


zero_point = Exercise(
    "4.5", "where is zero?", 5, 1,
    ("Adding a number to the bias adds it to every score.", "With the present bias, the demonstrations average "
     "`demonstration_scores.mean()`. Subtract that from the present bias."),
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
    return [(np.array([0.55, 0.58, 0.93, 0.97, 0.91, 0.72]), np.array([1.0, 0, 1, 1, 0, 1]), 5),
            (np.array([0.5, 0.64, 0.88, 1.0]), np.array([0.0, 1, 1, 0]), 4)]


calibration = Exercise(
    "4.6", "does it know how sure to be?", 15, 3,
    ("Sort the forecasts into bins of equal width by what was predicted. In each bin, compare the mean forecast "
     "with the share that came true.",
     "`places = np.minimum((predicted * bins).astype(int), bins - 1)`. Expected calibration error: the sum over "
     "bins of (share of forecasts in the bin) × |mean forecast − mean outcome|."),
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
