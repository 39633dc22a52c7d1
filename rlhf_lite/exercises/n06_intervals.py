"""Exercises 6.1 to 6.3: a win rate with its ties, and intervals by resampling."""

import numpy as np

from rlhf_lite import stats
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 6.1 a win rate with its ties

def win_rate(wins, ties, losses):
    """The course's version; the library's `stats.win_rate` takes the number of comparisons instead of the losses."""
    return stats.win_rate(wins, ties, wins + ties + losses)


def _counts():
    return [(60, 0, 40), (30, 40, 30), (45, 30, 25), (3, 90, 7), (0, 5, 0), (7, 0, 0), (2, 3, 4)]


share_with_ties = Exercise(
    "6.1", "a win rate with its ties", 8, 1,
    ("A tie is not nothing. What is it worth to each side?",
     "A tie is half a win for each. How many wins does that make in all, and out of how many comparisons?",
     "`stats.proportion_interval(successes, n)` gives share and interval, and successes may be a fraction: here "
     "`wins + ties / 2` out of `wins + ties + losses`."),
    task="`wins`, `ties` and `losses` are whole numbers: on how many prompts A was preferred to B, neither, or B to A. "
         "Return a `stats.Interval` (value, low, high, n): A's win rate with a tie as half a win, Wilson's 95 % "
         "interval, and the number of all comparisons.",
    course=win_rate, cases=_counts, observe=lambda function, *counts: list(function(*counts)))


@share_with_ties.mistake("the ties were dropped. 3 wins, 90 ties and 7 losses then look like a defeat by 30 to 70, "
                         "although nobody saw a difference in nine cases out of ten. A tie is half a win.")
def _drops_ties(wins, ties, losses):
    return stats.proportion_interval(wins, wins + losses)


@share_with_ties.mistake("a tie counts as a loss here. Then A over B and B over A do not add up to 1: count a tie as "
                         "half a win.")
def _ties_as_losses(wins, ties, losses):
    return stats.proportion_interval(wins, wins + ties + losses)


@share_with_ties.mistake("a tie counts as a win here. Then A and B may both \"win\" more than half: count a tie "
                         "as half a win.")
def _ties_as_wins(wins, ties, losses):
    return stats.proportion_interval(wins + ties, wins + ties + losses)


@share_with_ties.mistake("the share is right, but n leaves the ties out, so the interval is too wide: a tie is an "
                         "observation too.")
def _n_without_ties(wins, ties, losses):
    share, n = (wins + ties / 2) / (wins + ties + losses), wins + losses
    return stats.proportion_interval(share * n, n)


@share_with_ties.mistake("this is the rate at which B beats A. Say aloud who is preferred to whom; tables with the two "
                         "swapped have been published.")
def _of_losses(wins, ties, losses):
    return win_rate(losses, ties, wins)


# ---------------------------------------------------------------- 6.2 the bootstrap by hand

def bootstrap_interval(values, draws, rng):
    """(n,) values -> (low, high): the middle 95 % of the means of `draws` test sets drawn with replacement."""
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _scores():
    rng = np.random.default_rng(5)
    return [(rng.choice([0.0, 0.5, 1.0], size=60), 10_000, np.random.default_rng(1)),
            (rng.gamma(2.0, size=40), 10_000, np.random.default_rng(2))]


def _in_standard_errors(function, values, *rest):
    """The ends of the interval in standard errors from the mean, where random draws agree within a few per cent."""
    low, high = function(values, *rest)
    error = values.std() / np.sqrt(np.shape(values)[0])
    return [(float(low) - values.mean()) / error, (float(high) - values.mean()) / error]


bootstrap = Exercise(
    "6.2", "an interval by resampling", 12, 2,
    ("You have one test set. Where could a hundred others come from?",
     "The bootstrap asks: what if we had drawn other prompts? It makes a new test set out of the old one, again and "
     "again, and looks at how far the mean moves.",
     "One draw is `values[rng.integers(len(values), size=len(values))].mean()`: as many as before, *with* "
     "replacement. Then `np.quantile(means, [0.025, 0.975])`."),
    task="`values` (n,) is an array with one number per prompt, `draws` is how many test sets to make, `rng` a numpy "
         "generator. Each test set consists of n of the values, drawn with replacement. Return two floats, low and "
         "high: the 2.5 % and the 97.5 % quantile of the test sets' means. Random draws may differ from ours; the "
         "interval may not.",
    course=bootstrap_interval, cases=_scores, observe=_in_standard_errors, tolerance=0.05)


def _quantiles(means, tail=0.025):
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@bootstrap.mistake("you draw without replacement, so every new test set is the old one in another order, and its mean "
                   "never moves: the interval has no width. Draw with replacement.")
def _without_replacement(values, draws, rng):
    return _quantiles([rng.choice(values, size=len(values), replace=False).mean() for _ in range(100)])


@bootstrap.mistake("you draw half of the prompts without replacement. The width then depends on which share you draw; "
                   "draw as many as there are, with replacement.")
def _half_without_replacement(values, draws, rng):
    half = len(values) // 2
    return _quantiles([rng.choice(values, size=half, replace=False).mean() for _ in range(draws // 2)])


@bootstrap.mistake("this is the spread of single answers. What is uncertain is their mean: collect the means of the "
                   "drawn test sets and take their quantiles.")
def _spread_of_values(values, draws, rng):
    return _quantiles(values)


@bootstrap.mistake("5 % are cut off at each side, which makes a 90 % interval. For 95 % cut off 2.5 % at each.")
def _tails_of_five(values, draws, rng):
    means = [rng.choice(values, size=len(values)).mean() for _ in range(draws)]
    return _quantiles(means, 0.05)


@bootstrap.mistake("the spread of the means was divided by √n once more. Means of n answers already vary less; their "
                   "spread is the standard error.")
def _divided_twice(values, draws, rng):
    means = np.array([rng.choice(values, size=len(values)).mean() for _ in range(draws)])
    half = 1.96 * means.std() / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


@bootstrap.mistake("low and high are swapped: return the lower end first.")
def _high_before_low(values, draws, rng):
    return bootstrap_interval(values, draws, rng)[::-1]


# ---------------------------------------------------------------- 6.3 customers, not prompts

def cluster_interval(values, clusters, draws, rng):
    """(n,) values and the cluster of each -> (low, high); whole clusters are drawn, with everything in them."""
    values, clusters = np.asarray(values, dtype=float), np.asarray(clusters)
    members = [values[clusters == name] for name in np.unique(clusters)]
    means = [np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]).mean()
             for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _clustered():
    rng = np.random.default_rng(3)
    cases = []
    for sizes, seed in (([1, 2, 9, 4, 12, 3, 7, 2, 5, 6, 1, 8] * 2, 1), ([6] * 20, 2)):
        levels = rng.normal(size=len(sizes)) + 0.2 * np.array(sizes)  # busy customers are easier to please
        clusters = np.repeat(np.arange(len(sizes)), sizes)
        values = levels[clusters] + 0.3 * rng.normal(size=len(clusters))
        cases.append((values, clusters, 6000, np.random.default_rng(seed)))
    return cases


whole_customers = Exercise(
    "6.3", "customers, not prompts", 12, 2,
    ("What would be new in a new test set: single prompts, or somebody with several of them?",
     "What would be new in a new test set? Not single prompts but customers, each with all of their prompts. "
     "So draw customers.",
     "Group the values by cluster, draw as many groups as there are, with replacement, `np.concatenate` them, and take "
     "the mean of everything. The quantiles are as in 6.2."),
    task="`values` (n,) is an array with one number per prompt, `clusters` (n,) says to whom each belongs, as numbers "
         "or names in any order; `draws` and `rng` are as in 6.2. A test set consists of as many clusters as there "
         "are, drawn with replacement, each with all of its values. Return two floats: the 2.5 % and the 97.5 % "
         "quantile of the mean over all values of a test set.",
    course=cluster_interval, cases=_clustered, observe=_in_standard_errors, tolerance=0.06)


def _groups(values, clusters):
    return [values[clusters == name] for name in np.unique(clusters)]


@whole_customers.mistake("you draw prompts, not customers. Twelve prompts from one customer are then treated as twelve "
                         "strangers, and the interval comes out too narrow.")
def _draws_prompts(values, clusters, draws, rng):
    return bootstrap_interval(values, draws, rng)


@whole_customers.mistake("every customer's mean counts the same here, so a customer with one prompt weighs as much as "
                         "one with twelve. Put the drawn customers' prompts together, then take one mean.")
def _mean_of_customers(values, clusters, draws, rng):
    return bootstrap_interval(np.array([group.mean() for group in _groups(values, clusters)]), draws, rng)


@whole_customers.mistake("one prompt of each drawn customer is used, and the others are thrown away. A drawn customer "
                         "brings along all of their prompts.")
def _one_prompt_each(values, clusters, draws, rng):
    groups = _groups(values, clusters)
    return _quantiles([np.mean([rng.choice(groups[i]) for i in rng.integers(len(groups), size=len(groups))])
                       for _ in range(draws // 4)])


@whole_customers.mistake("every customer is in every draw, and only the prompts are resampled. What differs from one "
                         "test set to the next is who asks: draw the customers.")
def _each_customer_once(values, clusters, draws, rng):
    groups = _groups(values, clusters)
    return _quantiles([np.concatenate([rng.choice(group, size=len(group)) for group in groups]).mean()
                       for _ in range(draws // 4)])


EXERCISES = [share_with_ties, bootstrap, whole_customers]
