"""Exercises of notebook 04: the reward model."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from rlhf_lite import models, reward, stats
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.models import END, PAD

LESSON = {
    "title": "The reward model",
    "promise": "A network reads a prompt and an answer and says one number. You write its losses, train one on "
               "rankings that you have just made, find out how good it could possibly be, and watch it change its mind "
               "word by word.",
    "minutes": 75, "needs": "notebook 03, or nothing: it starts from shipped models", "step": "2, reward model",
    "aims": ["read the score of an answer at the right token, however it is padded",
             "write the K-wise ranking loss, and say why one prompt is one batch element",
             "judge a reward model: accuracy against its ceiling, calibration, and what best-of-n makes of it"],
}


# ---------------------------------------------------------------- 4.1 where the score is read

def last_score(values, input_ids, attention_mask):
    """The library's function; the ids are on offer and not needed."""
    return models.score_at_last(values, attention_mask)


def _padded_rows():
    values = torch.arange(12.0).view(2, 6)
    right = torch.tensor([[1, 7, END, 8, END, PAD], [1, 7, 8, PAD, PAD, PAD]])
    right_mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])
    left = torch.tensor([[PAD, 1, 7, END, 8, 9], [PAD, PAD, PAD, 1, 7, END]])
    left_mask = torch.tensor([[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    odd = torch.tensor([[1, 7, 8, PAD, PAD, PAD], [1, PAD, 8, 9, 6, END]])  # real tokens that look like padding
    odd_mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    return [(values, right, right_mask), (values, left, left_mask), (values, odd, odd_mask)]


def _pick(values, places):
    return values.gather(1, places.clamp(0, values.shape[1] - 1)[:, None]).squeeze(1)


def _last_column(values, input_ids, attention_mask):
    return values[:, -1]


def _before_the_first_pad(values, input_ids, attention_mask):
    is_pad = input_ids == PAD
    first = torch.where(is_pad.any(dim=1), is_pad.long().argmax(dim=1), input_ids.shape[1])
    return _pick(values, torch.where(first == 0, input_ids.shape[1], first) - 1)


def _first_end(values, input_ids, attention_mask):
    is_end = input_ids == END
    return _pick(values, torch.where(is_end.any(dim=1), is_end.long().argmax(dim=1), input_ids.shape[1] - 1))


def _last_end(values, input_ids, attention_mask):
    places = torch.arange(input_ids.shape[1]) * (input_ids == END)
    return _pick(values, torch.where(places.any(dim=1), places.max(dim=1).values, input_ids.shape[1] - 1))


def _count_of_tokens(values, input_ids, attention_mask):
    return _pick(values, attention_mask.sum(dim=1) - 1)


def _last_that_is_no_pad(values, input_ids, attention_mask):
    return _pick(values, (torch.arange(input_ids.shape[1]) * (input_ids != PAD)).max(dim=1).values)


def _mean_of_values(values, input_ids, attention_mask):
    return (values * attention_mask).sum(dim=1) / attention_mask.sum(dim=1)


# ---------------------------------------------------------------- 4.2 the loss of a pair

def pair_loss(score_better, score_worse):
    """(n,) scores of preferred and of rejected answers -> mean of −log σ(difference)."""
    return F.softplus(score_worse - score_better).mean()


def _pairs_of_scores():
    return [(torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.0, 0.5, 1.0])),
            (torch.tensor([0.0, -200.0]), torch.tensor([0.0, 200.0]))]


def _value_and_gradient(function, *scores):
    scores = [s.clone().requires_grad_() for s in scores]
    loss = function(*scores)
    gradients = torch.autograd.grad(loss.sum(), scores, allow_unused=True) if loss.requires_grad else [None, None]
    return [loss.detach(), *(torch.zeros_like(s) if g is None else g for g, s in zip(gradients, scores, strict=True))]


def _worse_is_better(score_better, score_worse):
    return pair_loss(score_worse, score_better)


def _no_log(score_better, score_worse):
    return -torch.sigmoid(score_better - score_worse).mean()


def _no_minus(score_better, score_worse):
    return -pair_loss(score_better, score_worse)


def _summed(score_better, score_worse):
    return F.softplus(score_worse - score_better).sum()


def _log_of_sigmoid(score_better, score_worse):
    return -torch.log(torch.sigmoid(score_better - score_worse)).mean()


def _hinge(score_better, score_worse):
    return (1 - (score_better - score_worse)).clamp(min=0).mean()


def _plain_difference(score_better, score_worse):
    return (score_worse - score_better).mean()


# ---------------------------------------------------------------- 4.3 the loss of a ranking

def _score_and_ranks():
    scores = torch.tensor([[1.0, 0.0, -1.0, 0.5], [0.2, -0.3, 0.9, 0.0], [1.0, 2.0, 3.0, 4.0]])
    ranks = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    return [(scores[:1], ranks[:1]), (scores, ranks), (scores[1:], ranks[1:])]


def _gradient_of_scores(function, scores, ranks):
    scores = scores.clone().requires_grad_()
    loss = function(scores, ranks)
    gradient = torch.autograd.grad(loss.sum(), scores)[0] if loss.requires_grad else torch.zeros_like(scores)
    return [loss.detach(), gradient]


def _losses_and_pairs(scores, ranks):
    """(batch, K, K) losses of "i beats j", and which of them are pairs."""
    return F.softplus(scores[:, None, :] - scores[:, :, None]), ranks[:, :, None] < ranks[:, None, :]


def _rank_four_is_best(scores, ranks):
    return reward.kwise_loss(scores, -ranks)


def _pooled(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    return torch.where(pairs, losses, 0.0).sum() / pairs.sum().clamp(min=1)


def _summed_over_pairs(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    return torch.where(pairs, losses, 0.0).sum() / pairs.any(dim=2).any(dim=1).sum().clamp(min=1)


def _all_ties_count(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    return (torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)).mean()


def _ties_are_pairs(scores, ranks):
    losses, _ = _losses_and_pairs(scores, ranks)
    pairs = (ranks[:, :, None] <= ranks[:, None, :]) & ~torch.eye(scores.shape[1], dtype=torch.bool)
    return (torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))).mean()


def _divided_by_all_pairs(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    every = scores.shape[1] * (scores.shape[1] - 1) / 2
    return (torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / every).sum() / pairs.any(2).any(1).sum().clamp(min=1)


# ---------------------------------------------------------------- 4.4 accuracy

def _accuracy_cases():
    scores = torch.tensor([[1.0, 1.0, -1.0, 0.5], [0.2, -0.3, 0.9, 0.0]])
    ranks = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 2.0]])
    return [(scores, ranks), (scores[:1], ranks[:1]), (torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]]))]


def _right_and_pairs(scores, ranks, equal=0.5):
    pairs = ranks[:, :, None] < ranks[:, None, :]
    difference = scores[:, :, None] - scores[:, None, :]
    return ((difference > 0).double() + equal * (difference == 0).double()) * pairs, pairs


def _ratio(right, pairs):
    return float(right.sum() / pairs.sum()) if pairs.any() else math.nan


def _equal_is_right(scores, ranks):
    return _ratio(*_right_and_pairs(scores, ranks, equal=1.0))


def _equal_is_wrong(scores, ranks):
    return _ratio(*_right_and_pairs(scores, ranks, equal=0.0))


def _accuracy_backwards(scores, ranks):
    return reward.pair_accuracy(scores, -ranks)


def _accuracy_per_prompt(scores, ranks):
    right, pairs = _right_and_pairs(scores, ranks)
    found = [_ratio(r, p) for r, p in zip(right, pairs, strict=True) if p.any()]
    return sum(found) / len(found) if found else math.nan


def _accuracy_over_ties_too(scores, ranks):
    right, _ = _right_and_pairs(scores, ranks)
    size = ranks.shape[1]
    return float(right.sum() / (len(ranks) * size * (size - 1) / 2))


def _accuracy_over_the_square(scores, ranks):
    return float(_right_and_pairs(scores, ranks)[0].mean())


# ---------------------------------------------------------------- 4.5 the zero

def normalised_bias(bias, demonstration_scores):
    """The score unit's bias and the scores of the demonstrations under it -> the bias that makes their mean 0."""
    return bias - demonstration_scores.mean()


def _biases():
    return [(torch.tensor(0.5), torch.tensor([2.0, 3.0, 10.0])),
            (torch.tensor(-1.0), torch.tensor([-4.0, -1.0, -3.0, -2.0]))]


def _bias_plus_mean(bias, demonstration_scores):
    return bias + demonstration_scores.mean()


def _forgets_the_old_bias(bias, demonstration_scores):
    return -demonstration_scores.mean()


def _bias_counted_twice(bias, demonstration_scores):
    return -bias - demonstration_scores.mean()


def _median_instead(bias, demonstration_scores):
    return bias - torch.quantile(demonstration_scores, 0.5)


def _sum_instead(bias, demonstration_scores):
    return bias - demonstration_scores.sum()


# ---------------------------------------------------------------- 4.6 calibration

def _forecasts():
    return [(np.array([0.55, 0.58, 0.93, 0.97, 0.91, 0.72]), np.array([1.0, 0, 1, 1, 0, 1]), 5),
            (np.array([0.5, 0.64, 0.88, 1.0]), np.array([0.0, 1, 1, 0]), 4)]


def _bins_of(predicted, outcomes, bins):
    """Per bin that holds anything: (share of all, mean prediction, mean outcome)."""
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    return [((places == b).mean(), predicted[places == b].mean(), outcomes[places == b].mean())
            for b in range(bins) if (places == b).any()]


def _each_forecast_alone(predicted, outcomes, bins):
    return np.abs(predicted - outcomes).mean()


def _bins_weigh_the_same(predicted, outcomes, bins):
    return np.mean([abs(p - o) for _, p, o in _bins_of(predicted, outcomes, bins)])


def _gaps_with_sign(predicted, outcomes, bins):
    return sum(share * (p - o) for share, p, o in _bins_of(predicted, outcomes, bins))


def _gaps_squared(predicted, outcomes, bins):
    return sum(share * (p - o) ** 2 for share, p, o in _bins_of(predicted, outcomes, bins))


def _sure_forecasts_lost(predicted, outcomes, bins):
    places = (predicted * bins).astype(int)
    return sum((places == b).mean() * abs(predicted[places == b].mean() - outcomes[places == b].mean())
               for b in range(bins) if (places == b).any())


def _only_the_largest(predicted, outcomes, bins):
    return max(abs(p - o) for _, p, o in _bins_of(predicted, outcomes, bins))


EXERCISES = [
    Exercise(
        "4.1", "where the score is read", 10, 2,
        ("The last token of a row is the last place where the attention mask is 1. The mask alone is enough; the ids "
         "are there to tempt you.",
         "`places = torch.arange(length)`; `(places * attention_mask).argmax(dim=1)` is the last attended place of "
         "every row. Then `values.gather(1, last[:, None]).squeeze(1)`."),
        last_score, _padded_rows,
        {"this is the last column. With padding on the right that is the score of a PAD, a number that means nothing.":
             _last_column,
         "this looks for the first PAD. That works under right padding only, and fails when a real token has PAD's id. "
         "Ask the mask.": _before_the_first_pad,
         "this looks for the first END. A prompt may hold one of its own (many chat templates do), and an unfinished "
         "answer has none.": _first_end,
         "this looks for the last END. An answer that was cut off has none, and the END that you find then belongs to "
         "the prompt.": _last_end,
         "number of tokens minus one is the right column only under right padding. Sampling pads on the left.":
             _count_of_tokens,
         "this finds padding by its id. A real token may look like PAD, and some tokenizers have no PAD of their own; "
         "ask the mask.": _last_that_is_no_pad,
         "this is the mean over all tokens. The model is trained to say its verdict at the last one, where it has read "
         "everything.": _mean_of_values}),
    Exercise(
        "4.2", "the loss of a pair", 10, 1,
        ("Notebook 03: σ(better − worse) is the probability of what the labeler said. The loss is the mean of its "
         "negative log.", "`-F.logsigmoid(score_better - score_worse).mean()`; `F.softplus(score_worse - "
         "score_better)` is the same number."),
        pair_loss, _pairs_of_scores,
        {"better and worse have changed places. The loss would fall as the worse answer's score climbs: a model that "
         "loves the worst.": _worse_is_better,
         "the log is missing. Without it the gradient dies where the model is surest and most wrong.": _no_log,
         "the sign is flipped: a loss falls when the labeler's choice becomes likelier.": _no_minus,
         "this is a sum; take the mean, otherwise the step grows with the batch.": _summed,
         "the formula is right and the arithmetic is not: σ(−400) is 0 in float32 and its log is −infinity. Use "
         "`F.logsigmoid`, which never takes that detour.": _log_of_sigmoid,
         "this is a hinge. It stops learning once the lead is 1, and then a difference is no longer a log odds.":
             _hinge,
         "without the log of the sigmoid nothing ever stops: the loss falls for ever as the scores drift apart.":
             _plain_difference},
        observe=_value_and_gradient),
    Exercise(
        "4.3", "the K-wise loss", 15, 3,
        ("For every prompt: the loss of 4.2 for each of its pairs, and their mean. Then the mean over the prompts that "
         "have at least one pair. Ties are no pairs.",
         "`difference = scores[:, :, None] - scores[:, None, :]` and `pairs = ranks[:, :, None] < ranks[:, None, :]` "
         "are both (batch, K, K). Keep the losses with `torch.where(pairs, -F.logsigmoid(difference), 0.0)`, sum over "
         "the last two axes, divide by the number of pairs (`.clamp(min=1)`)."),
        reward.kwise_loss, _score_and_ranks,
        {"the highest rank number is taken for the best. Rank 1 is the best, so i beats j where ranks[i] < ranks[j].":
             _rank_four_is_best,
         "this is one mean over the pairs of all prompts. A prompt with six pairs then weighs six times as much as one "
         "with a single pair; average within each prompt first.": _pooled,
         "the pairs of a prompt are summed. Equation 1 divides by their number, so that a prompt with K = 9 is not "
         "worth six with K = 4.": _summed_over_pairs,
         "a prompt in which everything is tied counts in the mean. It has nothing to say: leave it out of the "
         "denominator.": _all_ties_count,
         "ties are counted as pairs, once each way. That pulls the scores of tied answers together, which is an idea, "
         "but not the paper's: it drops ties.": _ties_are_pairs,
         "you divide by K(K − 1)/2 even where pairs are tied. Divide by the pairs that are left, or ties dilute.":
             _divided_by_all_pairs},
        observe=_gradient_of_scores),
    Exercise(
        "4.4", "pair accuracy", 10, 2,
        ("Of all pairs that are not tied in the ranks: in how many does the preferred answer have the higher score?",
         "With `pairs` and `difference` as in 4.3: right is `difference > 0`, plus one half where it is exactly 0. Sum "
         "over the pairs, divide by their number, nan if there is none."),
        reward.pair_accuracy, _accuracy_cases,
        {"equal scores count as right. A model that gives every answer a 0 would be perfect; count them half.":
             _equal_is_right,
         "equal scores count as wrong. A model that gives every answer a 0 would be worse than a coin; count halves.":
             _equal_is_wrong,
         "this is one minus the accuracy: rank 1 is the best.": _accuracy_backwards,
         "this is the mean of the prompts' accuracies. Pool the pairs: what is asked for is a share of all pairs.":
             _accuracy_per_prompt,
         "tied pairs are in the denominator. Nobody preferred anything there, so nobody can be right.":
             _accuracy_over_ties_too,
         "you average over the whole K × K square: each answer against itself, and every pair a second time the wrong "
         "way round.": _accuracy_over_the_square}),
    Exercise(
        "4.5", "where is zero?", 5, 1,
        ("Adding a number to the bias adds it to every score.", "The demonstrations average "
         "`demonstration_scores.mean()` under the present bias. Take that away from the present bias."),
        normalised_bias, _biases,
        {"the sign is flipped: the demonstrations now average twice what they did. In PPO everybody would be paid for "
         "nothing.": _bias_plus_mean,
         "the old bias is lost. The scores were made with it: change it, do not replace it.": _forgets_the_old_bias,
         "the old bias is taken away twice: the scores already contain it.": _bias_counted_twice,
         "this uses the median. The paper sets the *mean* score of the demonstrations to 0.": _median_instead,
         "this takes away the sum, not the mean: more demonstrations would mean a lower zero.": _sum_instead}),
    Exercise(
        "4.6", "does it know how sure to be?", 15, 3,
        ("Sort the forecasts into bins of equal width by what was predicted. In each bin compare the mean forecast "
         "with the share that came true.",
         "`places = np.minimum((predicted * bins).astype(int), bins - 1)`. Expected calibration error: the sum over "
         "bins of (share of forecasts in the bin) × |mean forecast − mean outcome|."),
        stats.ece, _forecasts,
        {"this compares every forecast with its own outcome. A single outcome is 0 or 1, so even a perfect forecaster "
         "of coin flips scores 0.5: average within bins first.": _each_forecast_alone,
         "every bin weighs the same here. A bin with two forecasts is mostly luck; weigh by the number in it.":
             _bins_weigh_the_same,
         "the gaps keep their sign, so too sure in one bin and too timid in another cancel. Take absolute values.":
             _gaps_with_sign,
         "the gaps are squared. The expected calibration error takes absolute values, so that it reads as a share.":
             _gaps_squared,
         "a forecast of exactly 1 has fallen out of the last bin: 1 · bins is one place too far. Cut it with "
         "`np.minimum(..., bins - 1)`.": _sure_forecasts_lost,
         "this is the largest gap (the maximum calibration error). The expected one averages over all forecasts.":
             _only_the_largest}),
]
