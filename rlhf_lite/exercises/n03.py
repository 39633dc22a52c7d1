"""Exercises of notebook 03: rankings."""

import math

import torch

from rlhf_lite import records
from rlhf_lite.exercises.checking import Exercise

LESSON = {
    "title": "Rankings",
    "promise": "Nobody can write down what a good answer is, but anybody can say which of two is better. You rank a "
               "few answers blind, ten simulated labelers rank the same ones, and you measure how far any of you can "
               "be trusted.",
    "minutes": 70, "needs": "notebook 02, or nothing: it starts from shipped models", "step": "2, comparisons",
    "aims": ["turn a ranking with ties into pairs, and two labelers' pairs into an agreement",
             "say why labelers disagree, and what ceiling that puts on every reward model",
             "find a labeler's taste for length, and defuse one for position"],
}


# ---------------------------------------------------------------- 3.1 from a ranking to pairs

def _ranked():
    return [({"ranks": [2, 1, 2, 3]},), ({"ranks": [3, 1, 2]},), ({"ranks": [1, 1, 1]},)]


def _sorted_pairs(function, row):
    return sorted([int(better), int(worse)] for better, worse in function(row))


def _ties_are_pairs(row):
    ranks = row["ranks"]
    return [(i, j) if ranks[i] <= ranks[j] else (j, i) for i in range(len(ranks)) for j in range(i + 1, len(ranks))]


def _worse_first(row):
    return [(worse, better) for better, worse in records.pairs_from_ranking(row)]


def _both_ways(row):
    return records.pairs_from_ranking(row) + _worse_first(row)


def _in_the_order_shown(row):
    return [tuple(sorted(pair)) for pair in records.pairs_from_ranking(row)]


def _neighbours_only(row):
    return [(i, j) for i, j in records.pairs_from_ranking(row)
            if row["ranks"][j] - row["ranks"][i] == 1]


def _best_against_the_rest(row):
    return [(i, j) for i, j in records.pairs_from_ranking(row) if row["ranks"][i] == 1]


# ---------------------------------------------------------------- 3.2 agreement

def sheet(prompt_id, **ranks):
    """A small ranking: ``sheet("p1", a=1, b=2)`` showed answer a first and ranked it best."""
    return {"prompt_id": prompt_id, "responses": [{"text": text} for text in ranks], "ranks": list(ranks.values())}


def _two_labelers():
    # The second labeler saw the answers, and the prompts, in another order.
    first = [sheet("p1", a=1, b=2, c=3, d=4), sheet("p2", a=1, b=1, c=2), sheet("p3", a=2, b=1)]
    second = [sheet("p2", c=2, a=1, b=1), sheet("p1", d=3, b=1, a=2, c=3)]
    return [(first, second), (second[1:], first[:1]), ([sheet("p1", a=1, b=1)], [sheet("p1", a=1, b=2)])]


def _pairs_of_differences(rankings_a, rankings_b, by_text=True, by_id=True):
    """Per prompt that both have: list of (difference in a, difference in b) over the pairs of answers."""
    if by_id:
        others = {row["prompt_id"]: row for row in rankings_b}
        both = [(row, others[row["prompt_id"]]) for row in rankings_a if row["prompt_id"] in others]
    else:
        both = list(zip(rankings_a, rankings_b))
    found = []
    for one, other in both:
        rank_a, rank_b = ({r["text"] if by_text else i: rank for i, (r, rank) in
                           enumerate(zip(row["responses"], row["ranks"], strict=True))} for row in (one, other))
        names = [name for name in rank_a if name in rank_b]
        found.append([(rank_a[x] - rank_a[y], rank_b[x] - rank_b[y])
                      for i, x in enumerate(names) for y in names[i + 1:]])
    return found


def _percent(same, n):
    return (100.0 * same / n if n else math.nan), n


def _count(prompts):
    kept = [a * b for pairs in prompts for a, b in pairs if a * b != 0]
    return _percent(sum(product > 0 for product in kept), len(kept))


def _by_place_on_the_screen(rankings_a, rankings_b):
    return _count(_pairs_of_differences(rankings_a, rankings_b, by_text=False))


def _by_place_in_the_list(rankings_a, rankings_b):
    return _count(_pairs_of_differences(rankings_a, rankings_b, by_id=False))


def _ties_disagree(rankings_a, rankings_b):
    pairs = sum(_pairs_of_differences(rankings_a, rankings_b), [])
    return _percent(sum(a * b > 0 for a, b in pairs), len(pairs))


def _sign(x):
    return (x > 0) - (x < 0)


def _equal_signs(rankings_a, rankings_b):
    pairs = sum(_pairs_of_differences(rankings_a, rankings_b), [])
    return _percent(sum(_sign(a) == _sign(b) for a, b in pairs), len(pairs))


def _ties_are_halves(rankings_a, rankings_b):
    pairs = sum(_pairs_of_differences(rankings_a, rankings_b), [])
    return _percent(sum(0.5 * (1 + _sign(a * b)) for a, b in pairs), len(pairs))


def _mean_of_prompts(rankings_a, rankings_b):
    shares = [_count([pairs]) for pairs in _pairs_of_differences(rankings_a, rankings_b)]
    shares = [(percent, n) for percent, n in shares if n]
    return (sum(percent for percent, _ in shares) / len(shares) if shares else math.nan), sum(n for _, n in shares)


def _a_share(rankings_a, rankings_b):
    percent, n = records.agreement(rankings_a, rankings_b)
    return percent / 100, n


# ---------------------------------------------------------------- 3.3 Kendall's tau-b

def _two_rankings():
    return [([1, 2, 3, 4], [1, 3, 2, 4]), ([1, 1, 2, 3], [2, 1, 2, 3]), ([2, 1, 2, 1, 3], [1, 1, 2, 3, 3]),
            ([1, 1, 1], [1, 2, 3])]


def _tau_counts(ranks_a, ranks_b):
    """(concordant, discordant, untied in a, untied in b, all) pairs."""
    places = [(i, j) for i in range(len(ranks_a)) for j in range(i + 1, len(ranks_a))]
    a, b = ([_sign(ranks[i] - ranks[j]) for i, j in places] for ranks in (ranks_a, ranks_b))
    products = [x * y for x, y in zip(a, b, strict=True)]
    return (products.count(1), products.count(-1), len(a) - a.count(0), len(b) - b.count(0), len(places))


def _divided(x, y):
    return x / y if y else math.nan


def _tau_a(ranks_a, ranks_b):
    same, other, _, _, every = _tau_counts(ranks_a, ranks_b)
    return _divided(same - other, every)


def _gamma(ranks_a, ranks_b):
    same, other, *_ = _tau_counts(ranks_a, ranks_b)
    return _divided(same - other, same + other)


def _share_concordant(ranks_a, ranks_b):
    same, other, *_ = _tau_counts(ranks_a, ranks_b)
    return _divided(same, same + other)


def _no_root(ranks_a, ranks_b):
    same, other, a, b, _ = _tau_counts(ranks_a, ranks_b)
    return _divided(same - other, a * b)


def _distance(ranks_a, ranks_b):
    return -records.kendall_tau_b(ranks_a, ranks_b)


def _ties_concordant(ranks_a, ranks_b):
    same, other, a, b, every = _tau_counts(ranks_a, ranks_b)
    return _divided(every - 2 * other, math.sqrt(a * b))


# ---------------------------------------------------------------- 3.4 Bradley and Terry

def preference_probability(score_a, score_b):
    """Probability that A is preferred to B: the difference of their scores is the log odds."""
    return torch.sigmoid(score_a - score_b)


def _scores():
    return [(torch.tensor([1.0, 0.5, 2.5]), torch.tensor([0.0, 0.5, 3.5])),
            (torch.tensor([200.0]), torch.tensor([199.0]))]


def _b_over_a(score_a, score_b):
    return torch.sigmoid(score_b - score_a)


def _ratio_of_scores(score_a, score_b):
    return score_a / (score_a + score_b)


def _ratio_of_exponentials(score_a, score_b):
    return score_a.exp() / (score_a.exp() + score_b.exp())


def _odds(score_a, score_b):
    return (score_a - score_b).exp()


def _always_the_higher(score_a, score_b):
    return (score_a > score_b).float()


def _chess(score_a, score_b):
    return 1 / (1 + 10 ** ((score_b - score_a) / 400))


# ---------------------------------------------------------------- 3.5 the ceiling

def noise_ceiling(p):
    """(n,) probabilities that a labeler prefers the first answer -> (best possible accuracy, expected agreement)."""
    return torch.maximum(p, 1 - p).mean(), (p**2 + (1 - p) ** 2).mean()


def _probabilities():
    return [(torch.tensor([0.9, 0.2, 0.5]),), (torch.tensor([0.6, 0.7, 0.1, 1.0]),)]


def _two_floats(function, p):
    return [float(number) for number in function(p)]


def _always_the_first(p):
    return p.mean(), (p**2 + (1 - p) ** 2).mean()


def _mean_first(p):
    m = p.mean()
    return torch.maximum(m, 1 - m), m**2 + (1 - m) ** 2


def _both_like_the_first(p):
    return torch.maximum(p, 1 - p).mean(), (p**2).mean()


def _agreement_is_the_ceiling(p):
    both = (p**2 + (1 - p) ** 2).mean()
    return both, both


def _best_squared(p):
    best = torch.maximum(p, 1 - p)
    return best.mean(), (best**2).mean()


# ---------------------------------------------------------------- 3.6 a taste for length

def longer_preferred(rows):
    """Share of the untied pairs of different length in which the longer answer (in tokens) was preferred."""
    wins = [len(row["responses"][better]["token_ids"]) > len(row["responses"][worse]["token_ids"])
            for row in rows for better, worse in records.pairs_from_ranking(row)
            if len(row["responses"][better]["token_ids"]) != len(row["responses"][worse]["token_ids"])]
    return sum(wins) / len(wins) if wins else math.nan


def _lengths_and_ranks():
    def row(lengths, ranks, texts):
        return {"responses": [{"text": text, "token_ids": [5] * n} for n, text in zip(lengths, texts, strict=True)],
                "ranks": ranks}
    return [([row([9, 4, 6, 4], [1, 2, 3, 3], ["aa", "bbbbbbbb", "c", "dd"]), row([3, 8], [1, 2], ["aaaa", "b"])],),
            ([row([5, 5, 7], [2, 1, 1], ["a", "bbb", "cc"]), row([7, 2, 2], [3, 1, 2], ["aaa", "b", "cccccc"])],),
            ([row([4, 6], [1, 1], ["a", "bb"])],)]


def _length_votes(rows, length=lambda response: len(response["token_ids"]), ties=False, equal=False):
    """Per row, 1 where the longer of two was preferred, else 0."""
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


def _shorter_preferred(rows):
    return 1 - longer_preferred(rows)


def _length_with_ties(rows):
    return _mean(sum(_length_votes(rows, ties=True), []))


def _equal_lengths_too(rows):
    return _mean(sum(_length_votes(rows, equal=True), []))


def _characters(rows):
    return _mean(sum(_length_votes(rows, length=lambda response: len(response["text"])), []))


def _mean_of_sheets(rows):
    return _mean([_mean(votes) for votes in _length_votes(rows) if votes])


EXERCISES = [
    Exercise(
        "3.1", "from a ranking to pairs", 10, 1,
        ("Two loops over the places of the ranking, the second one starting behind the first: every pair of answers "
         "comes up once.", "`if ranks[i] != ranks[j]:` keeps what is not tied; the lower rank is the better answer and "
         "goes first: `(i, j) if ranks[i] < ranks[j] else (j, i)`."),
        records.pairs_from_ranking, _ranked,
        {"ties have become pairs. A tie says \"I cannot tell\"; made into a pair it claims a preference that nobody "
         "had. The paper drops ties before training.": _ties_are_pairs,
         "the pairs are the wrong way round. Rank 1 is the best, so the lower number is the better answer and goes "
         "first. A reward model trained on this would love the worst answers.": _worse_first,
         "every pair is there twice, once each way. Together they say that either answer is better, which teaches a "
         "model that nothing matters: keep the one with the better answer first.": _both_ways,
         "the pairs come in the order of the list, not of the ranks. Put the better answer first, wherever it stood.":
             _in_the_order_shown,
         "only neighbours in the ranking are compared. Whoever ranks A > B > C has also said A > C: a ranking of K "
         "gives up to K(K − 1)/2 pairs.": _neighbours_only,
         "only the best answers are compared with the rest. Second against third is a judgement too.":
             _best_against_the_rest},
        observe=_sorted_pairs),
    Exercise(
        "3.2", "how often do two labelers agree?", 15, 2,
        ("Find the prompts that both ranked, and in them match the answers by their *text*: each labeler saw them in a "
         "shuffled order. Then go over the pairs of answers.",
         "For a pair x, y compute `(a[x] - a[y]) * (b[x] - b[y])`, where `a` and `b` map a text to its rank. The "
         "product is positive when they agree, negative when they do not, and 0 when one of them tied."),
        records.agreement, _two_labelers,
        {"the answers are matched by their place on the screen. Each labeler saw them in an order of its own, so place "
         "1 is another answer for each: match by text.": _by_place_on_the_screen,
         "the rankings are matched by their place in the list. The second labeler did the prompts in another order, "
         "and left one out: match by prompt_id.": _by_place_in_the_list,
         "a pair that somebody tied counts as a disagreement. The paper's number is over the pairs that neither tied.":
             _ties_disagree,
         "two ties count as agreement, and a tie against a preference as disagreement. The paper's number is over the "
         "pairs that neither tied.": _equal_signs,
         "a tied pair counts one half. That pulls every agreement towards 50 %; leave tied pairs out.":
             _ties_are_halves,
         "this is the mean of the prompts' percentages. A prompt with one pair then weighs as much as one with "
         "fifteen; pool the pairs first.": _mean_of_prompts,
         "this is a share between 0 and 1; percent is asked for.": _a_share}),
    Exercise(
        "3.3", "Kendall's tau-b by hand", 15, 2,
        ("Go over all pairs and take the sign of each labeler's difference: +1, 0 or −1. Sum up the products; count, "
         "for each labeler, the pairs that are not tied.",
         "tau-b = (sum of products) / sqrt(untied by a · untied by b). Return nan when that root is 0."),
        records.kendall_tau_b, _two_rankings,
        {"you divide by the number of all pairs. That is tau-a: with ties it can never reach 1, even for two equal "
         "rankings.": _tau_a,
         "you divide by the pairs that neither tied. That is Goodman and Kruskal's gamma: it flatters a labeler who "
         "ties nearly everything and is right once.": _gamma,
         "this is the share of pairs on which they agree, between 0 and 1. A correlation runs from −1 to 1: subtract "
         "the pairs on which they disagree.": _share_concordant,
         "the root is missing. The bottom is the geometric mean of two counts, sqrt(a · b), not their product.":
             _no_root,
         "the sign is flipped: equal rankings should give +1.": _distance,
         "tied pairs count as agreement. A tie is no opinion, so its product is 0.": _ties_concordant}),
    Exercise(
        "3.4", "Bradley and Terry: from scores to a probability", 5, 1,
        ("The difference of the scores is the log of the odds that A is preferred. Which function turns log odds into "
         "a probability?", "`torch.sigmoid(score_a - score_b)`: one half when they are equal."),
        preference_probability, _scores,
        {"this is the probability that B is preferred. Mind the order: A's score minus B's.": _b_over_a,
         "this divides the scores themselves. Scores have no zero: add 10 to both and the probability must not change. "
         "Only their difference counts.": _ratio_of_scores,
         "the formula is right and the arithmetic is not: exp(200) is infinite in float32, so you get nan. The same "
         "thing, written as a sigmoid of the difference, is safe.": _ratio_of_exponentials,
         "these are the odds, not the probability: 2 to 1 is a probability of 2/3.": _odds,
         "this says that the higher score always wins. Labelers are not sure of themselves, and the model should not "
         "be either.": _always_the_higher,
         "this is the chess rating's scale (base 10, 400 points). Ours is the natural one: one unit is one nat of log "
         "odds.": _chess}),
    Exercise(
        "3.5", "the noise ceiling", 10, 2,
        ("If 80 % of labelers prefer A, the best a model can do is to say A every time, and be right 80 % of the time. "
         "And if 30 % prefer A?", "Ceiling: the mean of max(p, 1 − p). Two labelers agree when both prefer the first, "
         "p · p, or both the second, (1 − p) · (1 − p)."),
        noise_ceiling, _probabilities,
        {"the mean of p is the score of a model that always says \"the first\". The best model picks the side with the "
         "higher probability, pair by pair.": _always_the_first,
         "you averaged the probabilities first. Which side is better is decided pair by pair, so max and squares come "
         "before the mean.": _mean_first,
         "p² is the chance that both prefer the first. They also agree when both prefer the second.":
             _both_like_the_first,
         "agreement is not the ceiling: two noisy people agree less often than a perfect model is right, because both "
         "of them make mistakes and it makes none.": _agreement_is_the_ceiling,
         "max(p, 1 − p)² is the chance that both are on the better side. They also agree on the other one.":
             _best_squared},
        observe=_two_floats),
    Exercise(
        "3.6", "who likes it long?", 10, 2,
        ("Start from the pairs of 3.1. Keep those whose two answers have different numbers of tokens, and count in how "
         "many the preferred one is the longer.",
         "`len(row[\"responses\"][i][\"token_ids\"])` is the length of answer i. Return nan if no pair is left."),
        longer_preferred, _lengths_and_ranks,
        {"this is the share in which the *shorter* one was preferred.": _shorter_preferred,
         "tied pairs are in the count. Who ties has not preferred either.": _length_with_ties,
         "pairs of equal length are in the count. There is no longer one among them, and they pull the share down.":
             _equal_lengths_too,
         "you count characters. The models think in tokens, and `token_ids` has them.": _characters,
         "this is the mean of the sheets' shares. Pool all pairs first, or a sheet with one pair weighs as much as one "
         "with fifteen.": _mean_of_sheets}),
]
