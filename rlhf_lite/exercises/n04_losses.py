"""Exercises 4.1 to 4.3: where the score is read, and the losses of a pair and of a ranking."""


import torch
import torch.nn.functional as F

from rlhf_lite import models, reward
from rlhf_lite.exercises.cases import draws, generator
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.models import END, PAD

# ---------------------------------------------------------------- 4.1 where the score is read

def last_score(values, input_ids, attention_mask):
    """The library's function; the ids are there but not needed."""
    return models.score_at_last(values, attention_mask)


def _padded_rows():
    values = draws(2, 6).requires_grad_()
    right = torch.tensor([[1, 7, END, 8, END, PAD], [1, 7, 8, PAD, PAD, PAD]])
    right_mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])
    left = torch.tensor([[PAD, 1, 7, END, 8, 9], [PAD, PAD, PAD, 1, 7, END]])
    left_mask = torch.tensor([[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    odd = torch.tensor([[1, 7, 8, PAD, PAD, PAD], [1, PAD, 8, 9, 6, END]])  # real tokens that look like padding
    odd_mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    ids, lengths = torch.randint(0, 9, (6, 8), generator=generator(1)), torch.tensor([[1], [8], [3], [5], [2], [7]])
    many = [(torch.arange(8) < lengths).long(), (torch.arange(8) >= 8 - lengths).long()]
    return [(values, right, right_mask), (values, left, left_mask), (values, odd, odd_mask),
            *[(draws(6, 8, seed=seed).requires_grad_(), ids, mask) for seed, mask in enumerate(many, 2)]]


place_of_score = Exercise(
    "4.1", "where the score is read", 10, 2,
    ("Draw the two masks `[1, 1, 1, 0, 0]` and `[0, 0, 1, 1, 1]`, and mark the last token in each. What do the two "
     "marked places have in common?",
     "The last token of a row is at the last place where the attention mask is 1. The mask alone is enough; the ids "
     "are there to tempt you.",
     "`places = torch.arange(length)`; `last = (places * attention_mask).argmax(dim=1)` is the last attended place in "
     "every row. Then `values.gather(1, last[:, None]).squeeze(1)`."),
    task="`values` (batch, length) has the model's number at every place, `input_ids` (batch, length) the ids, and "
         "`attention_mask` (batch, length) whole numbers: 1 at tokens, 0 at padding. The padding is on the left or on "
         "the right. Return a tensor (batch,): the value at the last token of each row. A gradient must flow back "
         "through it, since the model is to learn from its scores.",
    course=last_score, cases=_padded_rows)


def _pick(values, places):
    return values.gather(1, places.clamp(0, values.shape[1] - 1)[:, None]).squeeze(1)


@place_of_score.mistake("this is the last column. With padding on the right, that is the score of a PAD, a number that "
                        "means nothing.")
def _last_column(values, input_ids, attention_mask):
    return values[:, -1]


@place_of_score.mistake("this looks for the first PAD. That works only with padding on the right, and fails when a "
                        "real token has PAD's id. Use the mask.")
def _before_the_first_pad(values, input_ids, attention_mask):
    is_pad = input_ids == PAD
    first = torch.where(is_pad.any(dim=1), is_pad.long().argmax(dim=1), input_ids.shape[1])
    return _pick(values, torch.where(first == 0, input_ids.shape[1], first) - 1)


@place_of_score.mistake("this looks for the first END. A prompt may contain one (many chat templates do), and an "
                        "unfinished answer has none.")
def _first_end(values, input_ids, attention_mask):
    is_end = input_ids == END
    return _pick(values, torch.where(is_end.any(dim=1), is_end.long().argmax(dim=1), input_ids.shape[1] - 1))


@place_of_score.mistake("this looks for the last END. An answer that was cut off has none, and the END that you find "
                        "then belongs to the prompt.")
def _last_end(values, input_ids, attention_mask):
    places = torch.arange(input_ids.shape[1]) * (input_ids == END)
    return _pick(values, torch.where(places.any(dim=1), places.max(dim=1).values, input_ids.shape[1] - 1))


@place_of_score.mistake("the number of tokens minus one is the right column only with padding on the right. Sampling "
                        "pads on the left.")
def _count_of_tokens(values, input_ids, attention_mask):
    return _pick(values, attention_mask.sum(dim=1) - 1)


@place_of_score.mistake("this finds padding by its id. A real token may look like PAD, and some tokenizers have no "
                        "separate PAD; use the mask.")
def _last_that_is_no_pad(values, input_ids, attention_mask):
    return _pick(values, (torch.arange(input_ids.shape[1]) * (input_ids != PAD)).max(dim=1).values)


@place_of_score.mistake("this is the largest value of the row, not the last. Ask the mask for the *place*, then look "
                        "there.")
def _largest_value(values, input_ids, attention_mask):
    return values.masked_fill(attention_mask == 0, -torch.inf).amax(dim=1)


@place_of_score.mistake("this is the largest of value times mask. Ask the mask for the *place* of the last token, then "
                        "look at the values there.")
def _largest_product(values, input_ids, attention_mask):
    return (values * attention_mask).amax(dim=1)


@place_of_score.mistake("this is the mean over all tokens. The model is trained to give its verdict at the last one, "
                        "when it has read everything.")
def _mean_of_values(values, input_ids, attention_mask):
    return (values * attention_mask).sum(dim=1) / attention_mask.sum(dim=1)


# ---------------------------------------------------------------- 4.2 the loss of a pair

def pair_loss(score_better, score_worse):
    """(n,) scores of preferred and of rejected answers -> the mean of −log σ(difference)."""
    return F.softplus(score_worse - score_better).mean()


def _pairs_of_scores():
    return [(torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.0, 0.5, 1.0])),
            (torch.tensor([0.0, -200.0]), torch.tensor([0.0, 200.0])), (torch.tensor([2.0]), torch.tensor([2.0])),
            (2 * draws(9), 2 * draws(9, seed=1)), (torch.tensor([150.0]), torch.tensor([-150.0]))]


def _value_and_gradient(function, *scores):
    scores = [s.clone().requires_grad_() for s in scores]
    loss = function(*scores)
    gradients = torch.autograd.grad(loss.sum(), scores, allow_unused=True)
    return {"loss": loss.detach()} | {
        f"the gradient of {name}": torch.zeros_like(s) if g is None else g
        for name, g, s in zip(("score_better", "score_worse"), gradients, scores, strict=True)}


loss_of_a_pair = Exercise(
    "4.2", "the loss of a pair", 10, 1,
    ("What should the loss be for equal scores? Should it rise or fall when the preferred answer's score rises?",
     "From notebook 03: σ(better − worse) is the probability of the labeler's choice. The loss is the mean of its "
     "negative log. `torch.log(torch.sigmoid(...))` breaks down at large differences; there is a function for both "
     "at once.",
     "`-F.logsigmoid(score_better - score_worse).mean()`; `F.softplus(score_worse - "
     "score_better).mean()` is the same number."),
    task="`score_better` and `score_worse` (pairs,) are the scores of the preferred and of the other answer of each "
         "pair. Return one number, a tensor without dimensions through which a gradient can flow: the mean over the "
         "pairs of $-\\ln \\sigma(\\text{better} - \\text{worse})$, where $\\sigma(x) = 1 / (1 + e^{-x})$. It must "
         "be right for any difference, −400 included, and so must its gradient.",
    course=pair_loss, cases=_pairs_of_scores, observe=_value_and_gradient)


@loss_of_a_pair.mistake("better and worse are swapped. The loss would fall as the worse answer's score rises, giving "
                        "a model that loves the worst.")
def _worse_is_better(score_better, score_worse):
    return pair_loss(score_worse, score_better)


@loss_of_a_pair.mistake("the log is missing. Without it, the gradient vanishes where the model is most sure and most "
                        "wrong.")
def _no_log(score_better, score_worse):
    return -torch.sigmoid(score_better - score_worse).mean()


@loss_of_a_pair.mistake("the sign is flipped: a loss falls when the labeler's choice becomes likelier.")
def _no_minus(score_better, score_worse):
    return -pair_loss(score_better, score_worse)


@loss_of_a_pair.mistake("this is a sum; take the mean, otherwise the step grows with the batch.")
def _summed(score_better, score_worse):
    return F.softplus(score_worse - score_better).sum()


@loss_of_a_pair.mistake("the formula is right but the arithmetic is not: σ(−400) is 0 in float32, and its log is "
                        "−infinity. Use `F.logsigmoid`, which avoids that detour.")
def _log_of_sigmoid(score_better, score_worse):
    return -torch.log(torch.sigmoid(score_better - score_worse)).mean()


@loss_of_a_pair.mistake("this is a hinge loss. It stops learning once the lead is 1, and then a difference no longer "
                        "means log odds.")
def _hinge(score_better, score_worse):
    return (1 - (score_better - score_worse)).clamp(min=0).mean()


@loss_of_a_pair.mistake("without the log of the sigmoid, nothing ever stops: the loss keeps falling as the scores "
                        "drift apart.")
def _plain_difference(score_better, score_worse):
    return (score_worse - score_better).mean()


# ---------------------------------------------------------------- 4.3 the loss of a ranking

def _score_and_ranks():
    scores = torch.tensor([[1.0, 0.0, -1.0, 0.5], [0.2, -0.3, 0.9, 0.0], [1.0, 2.0, 3.0, 4.0]]).requires_grad_()
    ranks = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    mixed = torch.randint(1, 4, (5, 3), generator=generator(3)).float()
    return [tuple(part.detach().requires_grad_(part.requires_grad) for part in pair) for pair in (
        (scores[:1], ranks[:1]), (scores, ranks), (scores[1:], ranks[1:]), (2 * draws(5, 3).requires_grad_(), mixed),
        (scores[2:].detach(), ranks[2:]))]


def _gradient_of_scores(function, scores, ranks):
    loss = function(scores, ranks)
    gradient = torch.autograd.grad(loss.sum(), scores)[0] if loss.requires_grad else torch.zeros_like(scores)
    return {"the loss": loss.detach(), "the gradient of scores": gradient}


loss_of_a_ranking = Exercise(
    "4.3", "the K-wise loss", 15, 3,
    ("Two means, one inside the other. Over what is the inner one taken, and over what the outer one? Which prompts "
     "have no inner mean at all?",
     "For every prompt, take the loss of 4.2 for each of its pairs, and their mean. Then take the mean over the "
     "prompts that have at least one pair. All pairs at once: `scores[:, :, None] - scores[:, None, :]` is (batch, "
     "K, K).",
     "`difference = scores[:, :, None] - scores[:, None, :]` and `pairs = ranks[:, :, None] < ranks[:, None, :]`; "
     "`losses = torch.where(pairs, -F.logsigmoid(difference), 0.0)`; per prompt `losses.sum(dim=(1, 2)) / "
     "pairs.sum(dim=(1, 2)).clamp(min=1)`; then their sum, divided by the number of prompts with a pair "
     "(`.clamp(min=1)`)."),
    task="`scores` and `ranks` (batch, K) are the scores of K answers to each prompt and their ranks, as floats; "
         "rank 1 is the best, and equal ranks are a tie. A pair (i, j) of a prompt is one with $\\text{rank}_i < "
         "\\text{rank}_j$; its loss is $-\\ln \\sigma(s_i - s_j)$. Return one number, a tensor without dimensions "
         "through which a gradient can flow: first the mean over the pairs of each prompt, then the mean over the "
         "prompts that have a pair. If none has, the loss is 0.",
    course=reward.kwise_loss, cases=_score_and_ranks, observe=_gradient_of_scores)


def _losses_and_pairs(scores, ranks):
    """(batch, K, K) losses of "i beats j", and which of them are pairs."""
    return F.softplus(scores[:, None, :] - scores[:, :, None]), ranks[:, :, None] < ranks[:, None, :]


@loss_of_a_ranking.mistake("the highest rank number is taken for the best. Rank 1 is the best, so i beats j where "
                           "ranks[i] < ranks[j].")
def _rank_four_is_best(scores, ranks):
    return reward.kwise_loss(scores, -ranks)


@loss_of_a_ranking.mistake("this is a single mean over the pairs of all prompts. A prompt with six pairs then weighs "
                           "six times as much as one with a single pair; average within each prompt first.")
def _pooled(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    return torch.where(pairs, losses, 0.0).sum() / pairs.sum().clamp(min=1)


@loss_of_a_ranking.mistake("the pairs of a prompt are summed. Equation 1 divides by their number, so that a prompt "
                           "with K = 9 does not count as much as six with K = 4.")
def _summed_over_pairs(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    return torch.where(pairs, losses, 0.0).sum() / pairs.any(dim=2).any(dim=1).sum().clamp(min=1)


@loss_of_a_ranking.mistake("a prompt in which everything is tied counts in the mean. It has nothing to say: leave it "
                           "out of the denominator.")
def _all_ties_count(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    return (torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)).mean()


@loss_of_a_ranking.mistake("ties are counted as pairs, once each way. That pulls the scores of tied answers together. "
                           "It is an idea, but not the paper's: the paper drops ties.")
def _ties_are_pairs(scores, ranks):
    losses, _ = _losses_and_pairs(scores, ranks)
    pairs = (ranks[:, :, None] <= ranks[:, None, :]) & ~torch.eye(scores.shape[1], dtype=torch.bool)
    return (torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))).mean()


@loss_of_a_ranking.mistake("you divide by K(K − 1)/2 even where pairs are tied. Divide by the pairs that are left, or "
                           "ties dilute the loss.")
def _divided_by_all_pairs(scores, ranks):
    losses, pairs = _losses_and_pairs(scores, ranks)
    every = scores.shape[1] * (scores.shape[1] - 1) / 2
    return (torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / every).sum() / pairs.any(2).any(1).sum().clamp(min=1)


EXERCISES = [place_of_score, loss_of_a_pair, loss_of_a_ranking]
