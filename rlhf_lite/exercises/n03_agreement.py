"""Exercises 3.1 to 3.3: from a ranking to pairs, and how far two labelers agree."""

import math
import random

from rlhf_lite import feedback, stats
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 3.1 from a ranking to pairs

def _ranked():
    rng = random.Random(0)
    return [({"ranks": [2, 1, 2, 3]},), ({"ranks": [3, 1, 2]},), ({"ranks": [1, 1, 1]},), ({"ranks": [1]},),
            *[({"ranks": [rng.randrange(1, k + 1) for _ in range(k)]},) for k in (2, 4, 6, 9)]]


def _sorted_pairs(function, row):
    return sorted([int(better), int(worse)] for better, worse in function(row))


ranking_pairs = Exercise(
    "3.1", "from a ranking to pairs", 10, 1,
    ("How many pairs can be made of four answers? Write them down for `[2, 1, 2, 3]`, and strike out the tie.",
     "Use two loops over the places of the ranking, with the second starting just after the first, so that every pair "
     "of answers comes up once. The one with the lower rank is better and goes first.",
     "Inside the loops: `if ranks[i] != ranks[j]: pairs.append((i, j) if ranks[i] < ranks[j] else (j, i))`"),
    task="`row[\"ranks\"]` is the list of the ranks of K answers: 1 is the best, and equal ranks are a tie. Return "
         "the list of all pairs (better, worse), each a tuple of two places in that list, counted from 0: one pair "
         "for every two answers with different ranks. The order of the list does not matter.",
    course=feedback.pairs_from_ranking, cases=_ranked, observe=_sorted_pairs)


@ranking_pairs.mistake("ties have become pairs. A tie says \"I cannot tell\"; turned into a pair, it claims a "
                       "preference that nobody had. The paper drops ties before training.")
def _ties_are_pairs(row):
    ranks = row["ranks"]
    return [(i, j) if ranks[i] <= ranks[j] else (j, i) for i in range(len(ranks)) for j in range(i + 1, len(ranks))]


@ranking_pairs.mistake("the pairs are the wrong way round. Rank 1 is the best, so the lower number is the better "
                       "answer and goes first. A reward model trained on this would love the worst answers.")
def _worse_first(row):
    return [(worse, better) for better, worse in feedback.pairs_from_ranking(row)]


@ranking_pairs.mistake("every pair is there twice, once each way. Together they say that either answer is better, "
                       "which teaches a model that nothing matters: keep the one with the better answer first.")
def _both_ways(row):
    return feedback.pairs_from_ranking(row) + _worse_first(row)


@ranking_pairs.mistake("the pairs are in the order of the list, not of the ranks. Put the better answer first, "
                       "wherever it was shown.")
def _in_the_order_shown(row):
    return [tuple(sorted(pair)) for pair in feedback.pairs_from_ranking(row)]


@ranking_pairs.mistake("only neighbours in the ranking are compared. Whoever ranks A > B > C has also said A > C: a "
                       "ranking of K answers gives up to K(K − 1)/2 pairs.")
def _neighbours_only(row):
    return [(i, j) for i, j in feedback.pairs_from_ranking(row)
            if row["ranks"][j] - row["ranks"][i] == 1]


@ranking_pairs.mistake("only the best answers are compared with the rest. Second versus third is a judgement too.")
def _best_against_the_rest(row):
    return [(i, j) for i, j in feedback.pairs_from_ranking(row) if row["ranks"][i] == 1]


# ---------------------------------------------------------------- 3.2 agreement

def sheet(prompt_id, **ranks):
    """A small ranking: ``sheet("p1", a=1, b=2)`` showed answer a first and ranked it best."""
    return {"prompt_id": prompt_id, "responses": [{"text": text} for text in ranks], "ranks": list(ranks.values())}


def _two_labelers():
    # The second labeler saw the answers, and the prompts, in another order.
    first = [sheet("p1", a=1, b=2, c=3, d=4), sheet("p2", a=1, b=1, c=2), sheet("p3", a=2, b=1)]
    second = [sheet("p2", c=2, a=1, b=1), sheet("p1", d=3, b=1, a=2, c=3)]
    return [(first, second), (second[1:], first[:1]), ([sheet("p1", a=1, b=1)], [sheet("p1", a=1, b=2)]),
            ([sheet("p1", a=1, b=2)], [sheet("p2", a=1, b=2)]), tuple(_random_sheets(seed) for seed in (1, 2))]


def _random_sheets(seed):
    rng, rows = random.Random(seed), []
    for number in rng.sample(range(12), 10):
        texts = rng.sample("abcde", 5)
        rows.append(sheet(f"p{number}", **{text: rng.randrange(1, 4) for text in texts}))
    return rows


def _percent_and_n(function, rankings_a, rankings_b):
    return dict(zip(("per cent", "n"), function(rankings_a, rankings_b), strict=True))


two_labelers = Exercise(
    "3.2", "how often do two labelers agree?", 15, 2,
    ("Before you compare anything: which row of B belongs to a row of A, and which answer of B to an answer of A? "
     "Neither is found at the same place.",
     "Look up B's row by `prompt_id`, and make a dict from text to rank for either labeler. Then go through the "
     "pairs of texts: the two differences of ranks have the same sign when they agree.",
     "For a pair x, y compute `(a[x] - a[y]) * (b[x] - b[y])`, where `a` and `b` map a text to its rank. The "
     "product is positive when they agree, negative when they do not, and 0 when one of them tied."),
    task="`rankings_a` and `rankings_b` are the rows of two labelers: dicts with `\"prompt_id\"`, `\"responses\"` (a "
         "list of dicts with a `\"text\"`) and `\"ranks\"` (one per response, 1 is best). Take the prompts that both "
         "have ranked, and of each the pairs of answers that *neither* tied. The two agree on a pair if both prefer "
         "the same answer. Return (percent, n): on how many of these pairs they agree, in per cent of all n of them, "
         "over all prompts together; `(math.nan, 0)` if there is none. Prompts and answers come in any order: match "
         "them by `\"prompt_id\"` and by text.",
    course=stats.agreement, cases=_two_labelers, observe=_percent_and_n)


def _pairs_of_differences(rankings_a, rankings_b, by_text=True, by_id=True):
    """For each prompt that both have: a list of (difference in a, difference in b) over the pairs of answers."""
    if by_id:
        others = {row["prompt_id"]: row for row in rankings_b}
        both = [(row, others[row["prompt_id"]]) for row in rankings_a if row["prompt_id"] in others]
    else:
        both = list(zip(rankings_a, rankings_b, strict=False))
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


@two_labelers.mistake("the answers are matched by their place on the screen. Each labeler saw them in a different "
                      "order, so place 1 is a different answer for each: match by text.")
def _by_place_on_the_screen(rankings_a, rankings_b):
    return _count(_pairs_of_differences(rankings_a, rankings_b, by_text=False))


@two_labelers.mistake("the rankings are matched by their place in the list. The second labeler did the prompts in a "
                      "different order and left one out: match by prompt_id.")
def _by_place_in_the_list(rankings_a, rankings_b):
    return _count(_pairs_of_differences(rankings_a, rankings_b, by_id=False))


@two_labelers.mistake("a pair that one of them tied counts as a disagreement. The paper's number is over the pairs "
                      "that neither tied.")
def _ties_disagree(rankings_a, rankings_b):
    pairs = sum(_pairs_of_differences(rankings_a, rankings_b), [])
    return _percent(sum(a * b > 0 for a, b in pairs), len(pairs))


def _sign(x):
    return (x > 0) - (x < 0)


@two_labelers.mistake("two ties count as agreement, and a tie against a preference as disagreement. The paper's number "
                      "is over the pairs that neither tied.")
def _equal_signs(rankings_a, rankings_b):
    pairs = sum(_pairs_of_differences(rankings_a, rankings_b), [])
    return _percent(sum(_sign(a) == _sign(b) for a, b in pairs), len(pairs))


@two_labelers.mistake("a tied pair counts one half. That pulls every agreement towards 50 %; leave tied pairs out.")
def _ties_are_halves(rankings_a, rankings_b):
    pairs = sum(_pairs_of_differences(rankings_a, rankings_b), [])
    return _percent(sum(0.5 * (1 + _sign(a * b)) for a, b in pairs), len(pairs))


@two_labelers.mistake("this is the mean of the prompts' percentages. A prompt with one pair then weighs as much as one "
                      "with fifteen; pool the pairs first.")
def _mean_of_prompts(rankings_a, rankings_b):
    shares = [_count([pairs]) for pairs in _pairs_of_differences(rankings_a, rankings_b)]
    shares = [(percent, n) for percent, n in shares if n]
    return (sum(percent for percent, _ in shares) / len(shares) if shares else math.nan), sum(n for _, n in shares)


@two_labelers.mistake("this is a share between 0 and 1; the exercise asks for per cent.")
def _a_share(rankings_a, rankings_b):
    percent, n = stats.agreement(rankings_a, rankings_b)
    return percent / 100, n


# ---------------------------------------------------------------- 3.3 Kendall's tau-b

def _two_rankings():
    rng = random.Random(0)
    mixed = [([rng.randrange(1, k + 1) for _ in range(k)], [rng.randrange(1, k + 1) for _ in range(k)])
             for k in (4, 5, 6, 6, 9)]
    return [([1, 2, 3, 4], [1, 3, 2, 4]), ([1, 1, 2, 3], [2, 1, 2, 3]), ([2, 1, 2, 1, 3], [1, 1, 2, 3, 3]),
            ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), *mixed]


tau_b = Exercise(
    "3.3", "Kendall's tau-b by hand", 15, 2,
    ("For every pair of answers each labeler says +1, 0 or −1. When is the product of the two +1, when −1, when 0?",
     "Go through all pairs and take the sign of each labeler's difference: +1, 0 or −1. Add up the products; count, "
     "for each labeler, the pairs that are not tied.",
     "With `sign = lambda x: (x > 0) - (x < 0)`, `a = sign(ranks_a[i] - ranks_a[j])` and `b` likewise: "
     "`total += a * b`, `n_a += a != 0`, `n_b += b != 0`; return `total / math.sqrt(n_a * n_b)`, or nan if that is 0."),
    task="`ranks_a` and `ranks_b` are two lists with the ranks that two labelers gave to the same K answers, in the "
         "same order; equal ranks are a tie. Return one number, over all pairs $i < j$: $$\\tau_b = \\frac{\\sum "
         "\\operatorname{sign}(a_i - a_j)\\,\\operatorname{sign}(b_i - b_j)}{\\sqrt{n_a\\, n_b}}$$ where $n_a$ and "
         "$n_b$ are the numbers of pairs that A, and that B, did not tie. Return `math.nan` if one of them tied "
         "everything.",
    course=stats.kendall_tau_b, cases=_two_rankings)


def _tau_counts(ranks_a, ranks_b):
    """(concordant, discordant, untied in a, untied in b, all) pairs."""
    places = [(i, j) for i in range(len(ranks_a)) for j in range(i + 1, len(ranks_a))]
    a, b = ([_sign(ranks[i] - ranks[j]) for i, j in places] for ranks in (ranks_a, ranks_b))
    products = [x * y for x, y in zip(a, b, strict=True)]
    return (products.count(1), products.count(-1), len(a) - a.count(0), len(b) - b.count(0), len(places))


def _divided(x, y):
    return x / y if y else math.nan


@tau_b.mistake("you divide by the number of all pairs. That is tau-a: with ties it can never reach 1, even for two "
               "identical rankings.")
def _tau_a(ranks_a, ranks_b):
    same, other, _, _, every = _tau_counts(ranks_a, ranks_b)
    return _divided(same - other, every)


@tau_b.mistake("you divide by the pairs that neither tied. That is Goodman and Kruskal's gamma: it flatters a labeler "
               "who ties nearly everything and is right once.")
def _gamma(ranks_a, ranks_b):
    same, other, *_ = _tau_counts(ranks_a, ranks_b)
    return _divided(same - other, same + other)


@tau_b.mistake("this is the share of pairs on which they agree, between 0 and 1. A correlation runs from −1 to 1: "
               "subtract the pairs on which they disagree.")
def _share_concordant(ranks_a, ranks_b):
    same, other, *_ = _tau_counts(ranks_a, ranks_b)
    return _divided(same, same + other)


@tau_b.mistake("the root is missing. The denominator is the geometric mean of two counts, sqrt(a · b), not their "
               "product.")
def _no_root(ranks_a, ranks_b):
    same, other, a, b, _ = _tau_counts(ranks_a, ranks_b)
    return _divided(same - other, a * b)


@tau_b.mistake("the sign is flipped: identical rankings should give +1.")
def _distance(ranks_a, ranks_b):
    return -stats.kendall_tau_b(ranks_a, ranks_b)


@tau_b.mistake("tied pairs count as agreement. A tie is not an opinion, so its product is 0.")
def _ties_concordant(ranks_a, ranks_b):
    same, other, a, b, every = _tau_counts(ranks_a, ranks_b)
    return _divided(every - 2 * other, math.sqrt(a * b))


EXERCISES = [ranking_pairs, two_labelers, tau_b]
