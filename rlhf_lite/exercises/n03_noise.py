"""Exercises 3.4 to 3.6: what preferences say about scores: Bradley and Terry, the ceiling, a taste for length."""

import math

import torch

from rlhf_lite import feedback
from rlhf_lite.exercises.cases import draws, generator
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 3.4 Bradley and Terry

def preference_probability(score_a, score_b):
    """The probability that A is preferred to B: the difference of their scores is the log odds."""
    return torch.sigmoid(score_a - score_b)


def _scores():
    return [(torch.tensor([1.0, 0.5, 2.5]), torch.tensor([0.0, 0.5, 3.5])),
            (torch.tensor([200.0]), torch.tensor([199.0])), (torch.tensor(-3.0), torch.tensor(-3.5)),
            (torch.tensor([-150.0, 0.0]), torch.tensor([0.0, 150.0])), (3 * draws(20), 3 * draws(20, seed=1))]


bradley_terry = Exercise(
    "3.4", "Bradley and Terry: from scores to a probability", 5, 1,
    ("What should come out for equal scores? And if 10 is added to both?",
     "The difference of the scores is the log of the odds that A is preferred. Solve for p: which function turns log "
     "odds into a probability?",
     "`torch.sigmoid(score_a - score_b)`: one half when they are equal."),
    task="`score_a` and `score_b` are tensors of the same shape, the scores of answers A and B. Return a tensor of "
         "that shape with p, the probability that A is preferred, if the difference of the scores is the log of the "
         "odds: $\\ln \\frac{p}{1 - p} = \\text{score}_a - \\text{score}_b$. It should hold for large scores too, "
         "such as 200 against 199.",
    course=preference_probability, cases=_scores)


@bradley_terry.mistake("this is the probability that B is preferred. Watch the order: A's score minus B's.")
def _b_over_a(score_a, score_b):
    return torch.sigmoid(score_b - score_a)


@bradley_terry.mistake("this divides the scores themselves. Scores have no natural zero: if you add 10 to both, the "
                       "probability must not change. Only their difference counts.")
def _ratio_of_scores(score_a, score_b):
    return score_a / (score_a + score_b)


@bradley_terry.mistake("the formula is right but the arithmetic is not: exp(200) is infinite in float32, so you get "
                       "nan. The same thing, written as a sigmoid of the difference, is safe.")
def _ratio_of_exponentials(score_a, score_b):
    return score_a.exp() / (score_a.exp() + score_b.exp())


@bradley_terry.mistake("these are the odds, not the probability: 2 to 1 is a probability of 2/3.")
def _odds(score_a, score_b):
    return (score_a - score_b).exp()


@bradley_terry.mistake("this says that the higher score always wins. Labelers are not sure of themselves, and the "
                       "model should not be either.")
def _always_the_higher(score_a, score_b):
    return (score_a > score_b).float()


@bradley_terry.mistake("this is the chess rating's scale (base 10, 400 points). Ours is the natural one: one unit is "
                       "one nat of log odds.")
def _chess(score_a, score_b):
    return 1 / (1 + 10 ** ((score_b - score_a) / 400))


# ---------------------------------------------------------------- 3.5 the ceiling

def noise_ceiling(p):
    """(n,) probabilities that a labeler prefers the first answer -> (best possible accuracy, expected agreement)."""
    return torch.maximum(p, 1 - p).mean().item(), (p**2 + (1 - p) ** 2).mean().item()


def _probabilities():
    return [(torch.tensor([0.9, 0.2, 0.5]),), (torch.tensor([0.6, 0.7, 0.1, 1.0]),),
            (torch.rand(30, generator=generator(0)),), (torch.tensor([0.3], dtype=torch.float64),)]


def _by_name(function, p):
    return dict(zip(("the best accuracy", "the agreement"), function(p), strict=True))


ceiling = Exercise(
    "3.5", "the noise ceiling", 10, 2,
    ("If 80 % of labelers prefer A, the best a model can do is to say A every time and be right 80 % of the time. "
     "And if 30 % prefer A?",
     "The best model names the likelier answer of every pair. Two labelers agree when both prefer the first, or both "
     "the second.",
     "`torch.maximum(p, 1 - p).mean()` and `(p * p + (1 - p) * (1 - p)).mean()`"),
    task="`p` (pairs,) holds, for each pair of answers, the probability that a labeler prefers the first one. Return "
         "two numbers between 0 and 1, both averaged over the pairs: the accuracy of the best possible model, which "
         "names one answer of every pair and is right when a labeler prefers that one; and the probability that two "
         "labelers agree, each of whom decides without knowing of the other.",
    course=noise_ceiling, cases=_probabilities, observe=_by_name)


@ceiling.mistake("the mean of p is the score of a model that always says \"the first\". The best model picks the side "
                 "with the higher probability, pair by pair.")
def _always_the_first(p):
    return p.mean(), (p**2 + (1 - p) ** 2).mean()


@ceiling.mistake("you averaged the probabilities first. Which side is better is decided pair by pair, so max and "
                 "squares come before the mean.")
def _mean_first(p):
    m = p.mean()
    return torch.maximum(m, 1 - m), m**2 + (1 - m) ** 2


@ceiling.mistake("p² is the chance that both prefer the first. They also agree when both prefer the second.")
def _both_like_the_first(p):
    return torch.maximum(p, 1 - p).mean(), (p**2).mean()


@ceiling.mistake("agreement is not the ceiling: two noisy people agree less often than a perfect model is right, "
                 "because both of them make mistakes and it makes none.")
def _agreement_is_the_ceiling(p):
    both = (p**2 + (1 - p) ** 2).mean()
    return both, both


@ceiling.mistake("max(p, 1 − p)² is the chance that both are on the better side. They also agree on the other one.")
def _best_squared(p):
    best = torch.maximum(p, 1 - p)
    return best.mean(), (best**2).mean()


# ---------------------------------------------------------------- 3.6 a taste for length

def longer_preferred(rows):
    """The share of untied pairs with different lengths in which the longer answer (in tokens) was preferred."""
    wins = [len(row["responses"][better]["token_ids"]) > len(row["responses"][worse]["token_ids"])
            for row in rows for better, worse in feedback.pairs_from_ranking(row)
            if len(row["responses"][better]["token_ids"]) != len(row["responses"][worse]["token_ids"])]
    return sum(wins) / len(wins) if wins else math.nan


def _lengths_and_ranks():
    def row(lengths, ranks, texts):
        return {"responses": [{"text": text, "token_ids": [5] * n} for n, text in zip(lengths, texts, strict=True)],
                "ranks": ranks}
    sizes, ranks = (torch.randint(1, 6, (8, 5), generator=generator(seed)).tolist() for seed in (1, 2))
    return [([row([9, 4, 6, 4], [1, 2, 3, 3], ["aa", "bbbbbbbb", "c", "dd"]), row([3, 8], [1, 2], ["aaaa", "b"])],),
            ([row([5, 5, 7], [2, 1, 1], ["a", "bbb", "cc"]), row([7, 2, 2], [3, 1, 2], ["aaa", "b", "cccccc"])],),
            ([row([4, 6], [1, 1], ["a", "bb"])],), ([],),
            ([row(n, r, ["a", "bb", "c c c", "d", "eeee"]) for n, r in zip(sizes, ranks, strict=True)],)]


taste_for_length = Exercise(
    "3.6", "who likes it long?", 10, 2,
    ("You have a function that gives the pairs of a row, the better answer first. Which of these pairs say nothing "
     "about length?",
     "Start from the pairs of 3.1. Keep those whose two answers have different numbers of tokens, and count in how "
     "many of them the preferred answer is the longer one.",
     "With `tokens = [len(r[\"token_ids\"]) for r in row[\"responses\"]]`, collect `tokens[better] > tokens[worse]` "
     "for every pair with `tokens[better] != tokens[worse]`, over all rows; then the mean, or nan if nothing is left."),
    task="`rows` is a list of rankings: dicts with `\"responses\"`, each with its `\"token_ids\"`, and `\"ranks\"` "
         "(1 is best). The length of a response is its number of tokens. Take all pairs of answers of one row that "
         "have different ranks and different lengths, pooled over all rows. Return the share of them, between 0 and "
         "1, in which the longer answer was preferred; `math.nan` if there are none.",
    course=longer_preferred, cases=_lengths_and_ranks)


def _length_votes(rows, length=lambda response: len(response["token_ids"]), ties=False, equal=False):
    """For each row, a list: 1 where the longer of two answers was preferred, else 0."""
    votes = []
    for row in rows:
        found, ranks = [], row["ranks"]
        sizes = [length(response) for response in row["responses"]]
        for i in range(len(ranks)):
            for j in range(i + 1, len(ranks)):
                if (ranks[i] != ranks[j] or ties) and (sizes[i] != sizes[j] or equal):
                    found.append(float((ranks[i] - ranks[j]) * (sizes[i] - sizes[j]) < 0))
        votes.append(found)
    return votes


def _mean(values):
    return sum(values) / len(values) if values else math.nan


@taste_for_length.mistake("this is the share in which the *shorter* answer was preferred.")
def _shorter_preferred(rows):
    return 1 - longer_preferred(rows)


@taste_for_length.mistake("tied pairs are in the count. A tie prefers neither answer.")
def _length_with_ties(rows):
    return _mean(sum(_length_votes(rows, ties=True), []))


@taste_for_length.mistake("pairs of equal length are in the count. Neither answer is longer, and they pull the share "
                          "down.")
def _equal_lengths_too(rows):
    return _mean(sum(_length_votes(rows, equal=True), []))


@taste_for_length.mistake("you count characters. The models think in tokens, and `token_ids` has them.")
def _characters(rows):
    return _mean(sum(_length_votes(rows, length=lambda response: len(response["text"])), []))


@taste_for_length.mistake("this is the mean of the sheets' shares. Pool all pairs first, or a sheet with one pair "
                          "weighs as much as one with fifteen.")
def _mean_of_sheets(rows):
    return _mean([_mean(votes) for votes in _length_votes(rows) if votes])


EXERCISES = [bradley_terry, ceiling, taste_for_length]
