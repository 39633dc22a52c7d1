"""Exercises 7.1 to 7.3: the best of n answers, its gain without luck, and how far it is from a single draw."""

import math

import torch

from rlhf_lite import best_of_n
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 7.1 the best of n

def _scores():
    return [(torch.tensor([[0.1, 0.9, 0.3], [2.0, -1.0, 0.5]]),),
            (torch.tensor([[-3.0, -1.0, -2.0, -1.0], [0.0, 0.0, -1.0, 0.0], [5.0, 6.0, 7.0, 8.0]]),),
            (torch.randn(5, 7, generator=torch.Generator().manual_seed(2)),), (torch.tensor([[2.0], [-1.0]]),)]


best_answer = Exercise(
    "7.1", "the best of n", 5, 1,
    ("What do you need to send the winner: its score, or its place?",
     "There is one row per prompt and one column per answer. Return a column number for every row.",
     "`proxy.argmax(dim=1)`; among equals it returns the first."),
    task="`proxy` (prompts, answers) has the reward model's score of every answer. Return a tensor (prompts,) of whole "
         "numbers: the column of the best answer to each prompt, the first one among equals.",
    course=best_of_n.best_of_n_indices, cases=_scores)


@best_answer.mistake("this picks the worst answer. A reward model gives more for better answers.")
def _worst(proxy):
    return proxy.argmin(dim=1)


@best_answer.mistake("this looks for the best prompt of every column. The choice is among the answers to one prompt: "
                     "over dim 1.")
def _over_the_prompts(proxy):
    return proxy.argmax(dim=0)


@best_answer.mistake("these are scores. Return which answer it was, so that its text can be sent.")
def _value_of_the_best(proxy):
    return proxy.max(dim=1).values


@best_answer.mistake("the sign is ignored: a strongly disliked answer has a large score too, a negative one.")
def _largest_size(proxy):
    return proxy.abs().argmax(dim=1)


@best_answer.mistake("if several are equal, this takes the last. Take the first, so that two people with the same "
                     "samples agree.")
def _last_among_equals(proxy):
    return proxy.shape[1] - 1 - proxy.flip(1).argmax(dim=1)


# ---------------------------------------------------------------- 7.2 the best of n without luck

def _samples():
    generator = torch.Generator().manual_seed(3)
    proxy = torch.randn(2, 6, generator=generator)
    return [(proxy, 2), (proxy, 4), (torch.randn(3, 5, generator=generator), 3), (proxy, 1), (proxy[:1], 6)]


without_luck = Exercise(
    "7.2", "best-of-n without luck", 15, 3,
    ("When the samples are sorted, what has to be true of the other n − 1 for this one to be the best?",
     "All C(N, n) ways to pick n of the N samples are equally likely. In how many of them is the sample at place i "
     "(from below) the best? It must be among them, and the other n − 1 must come from below it.",
     "With i − 1 samples below it there are C(i − 1, n − 1) such ways: the weight is `math.comb(i - 1, n - 1) / "
     "math.comb(N, n)`. `proxy.argsort(dim=1).argsort(dim=1)` gives i − 1."),
    task="`proxy` (prompts, answers) are the scores of N answers to each prompt, no two in a row equal; `n` is a whole "
         "number, at most N. Return a tensor (prompts, answers): for each answer the chance that it is the best of n "
         "*different* answers drawn at random. Every row adds up to 1.",
    course=best_of_n.best_of_n_weights, cases=_samples)


def _places(proxy):
    """(prompts, N) the place of each sample in the order, 1 for the lowest."""
    return proxy.argsort(dim=1).argsort(dim=1) + 1


def _by_place(proxy, weight):
    table = torch.tensor([weight(i) for i in range(proxy.shape[1] + 1)], dtype=torch.float64)
    return table[_places(proxy)]


@without_luck.mistake("these are the weights for drawing with replacement, (i/N)ⁿ − ((i−1)/N)ⁿ. A sample can then meet "
                      "itself, and the estimate is biased; draw n different ones.")
def _with_replacement(proxy, n):
    N = proxy.shape[1]
    return _by_place(proxy, lambda i: (i / N) ** n - (max(i - 1, 0) / N) ** n)


@without_luck.mistake("these are the weights of the worst of n. Count the samples below, not above.")
def _worst_of_n(proxy, n):
    return best_of_n.best_of_n_weights(-proxy, n)


@without_luck.mistake("this is the chance that all n are at or below place i. To be the best, the sample must be one "
                      "of them: C(i − 1, n − 1), not C(i, n).")
def _all_below(proxy, n):
    return _by_place(proxy, lambda i: math.comb(i, n) / math.comb(proxy.shape[1], n))


@without_luck.mistake("off by one: the other n − 1 come from the i − 1 samples *below*, so C(i − 1, n − 1). Yours do "
                      "not sum to 1.")
def _one_too_many(proxy, n):
    return _by_place(proxy, lambda i: math.comb(i, n - 1) / math.comb(proxy.shape[1], n))


@without_luck.mistake("you look only at the first n samples. That is unbiased, but it throws the others away: the same "
                      "answers could have told you far more.")
def _first_n(proxy, n):
    return torch.nn.functional.one_hot(proxy[:, :n].argmax(dim=1), proxy.shape[1])


@without_luck.mistake("this is the best of all N, whatever n is.")
def _best_of_all(proxy, n):
    return torch.nn.functional.one_hot(proxy.argmax(dim=1), proxy.shape[1])


# ---------------------------------------------------------------- 7.3 how far is best-of-n?

def _worlds():
    probabilities = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
    scores = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=torch.float64)
    return [(2, probabilities, scores), (4, probabilities, scores),
            (3, torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))]


distance = Exercise(
    "7.3", "how far is best-of-n?", 15, 3,
    ("How likely is it that all n draws are at most as good as a certain outcome?",
     "Start with the distribution of the winner: the best of n scores at most s if all n do. If the chance of that "
     "is F for one draw, it is Fⁿ for n.",
     "Sort by score; `reached = p.cumsum(0)`; the winner is outcome i with probability reachedⁿ − (reached − p)ⁿ. "
     "Then KL is the sum of winner · log(winner / p)."),
    task="`n` draws are made from outcomes with the `probabilities` (outcomes,) and the `scores` (outcomes,), no two "
         "of them equal and in no particular order. The winner is the draw with the highest score. Return a float: "
         "KL(winner ‖ one draw) in nats, exactly, not by a formula for endlessly many outcomes.",
    course=best_of_n.kl_best_of_n, cases=_worlds, observe=lambda function, *arguments: float(function(*arguments)))


def _chosen(n, probabilities, scores):
    """(outcomes,) the probability that each outcome is the best of n; no two scores are equal here."""
    order = scores.argsort()
    reached = probabilities[order].cumsum(0)
    best = torch.empty_like(probabilities)
    best[order] = reached**n - (reached - probabilities[order]) ** n
    return best


@distance.mistake("this is the formula log n − (n−1)/n. It holds for infinitely many outcomes; with only a few, the "
                  "true value is lower. Compute it from the probabilities.")
def _formula(n, probabilities, scores):
    return math.log(n) - (n - 1) / n


@distance.mistake("this is log n, the price of one winner among n equal choices. The n answers are drawn, not given.")
def _log_n(n, probabilities, scores):
    return math.log(n)


@distance.mistake("the KL runs the wrong way. It is an average over what best-of-n writes: winner · log(winner / p).")
def _reversed_kl(n, probabilities, scores):
    best = _chosen(n, probabilities, scores)
    return (probabilities * (probabilities / best).log()).sum().item()


@distance.mistake("this is the distance of the worst of n. Accumulate from the lowest score upwards.")
def _kl_of_the_worst(n, probabilities, scores):
    return best_of_n.kl_best_of_n(n, probabilities, -scores)


@distance.mistake("you sharpened the distribution, pⁿ. That favours what is likely; best-of-n favours what scores "
                  "high, likely or not.")
def _sharpened(n, probabilities, scores):
    sharp = probabilities**n / (probabilities**n).sum()
    return (sharp * (sharp / probabilities).log()).sum().item()


@distance.mistake("this is in bits. The course counts in nats: natural logarithms.")
def _bits(n, probabilities, scores):
    return best_of_n.kl_best_of_n(n, probabilities, scores) / math.log(2)


EXERCISES = [best_answer, without_luck, distance]
