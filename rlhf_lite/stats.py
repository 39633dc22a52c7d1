"""How sure are we? Intervals, win rates, correlations and the over-optimisation fits.

Every number in the course comes with a 95 % interval. What the interval means depends on what is drawn at
random: prompts (would another test set say the same?), training seeds (would another run?), or both.

Left out: significance tests (an interval tells you more).
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A value with its interval [low, high] and the number of observations behind it."""
    value: float
    low: float
    high: float
    n: int


def mean_interval(values, level=0.95, method="bootstrap", draws=2000, seed=0):
    """The mean of ``values`` (n,), one per prompt, with an interval over prompts.

    method: "bootstrap" (percentile, the default) or "normal". A single value gives an interval of zero width,
    because nothing is known about its error. Raises ValueError for no values, nan or an unknown method.
    """
    values = _clean(values, "values", dimensions=1)
    tail = _tail(level)
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Interval(mean, mean, mean, 1)
    if method == "normal":
        half = NormalDist().inv_cdf(1 - tail) * float(values.std(ddof=1)) / math.sqrt(n)
        return Interval(mean, mean - half, mean + half, n)
    if method != "bootstrap":
        raise ValueError(f'method is {method!r}; use "bootstrap" or "normal"')
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(n, size=n)].mean() for _ in range(draws)])
    return Interval(mean, *_ends(means, tail), n)


def proportion_interval(successes, n, level=0.95):
    """The share successes / n with Wilson's interval, which holds up near 0 and 1, where the usual one fails.

    ``successes`` may be fractional (ties as halves). n = 0 gives (nan, 0, 1). Wilson 1927.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n}; the count must be between 0 and {n}")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    z, share = NormalDist().inv_cdf(1 - _tail(level)), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # Rounding must not push the ends past the share itself when it is exactly 0 or 1.
    return Interval(share, min(low, share), max(high, share), n)


def win_rate(a_wins, ties, n, level=0.95):
    """How often A beats B in n comparisons, with ties counted as one half: a share with a Wilson interval.

    Ties vary less than wins and losses do, so with many ties the interval is wider than it needs to be.
    """
    if a_wins < 0 or ties < 0 or a_wins + ties > n:
        raise ValueError(f"{a_wins} wins and {ties} ties out of {n} comparisons do not add up")
    return proportion_interval(a_wins + ties / 2, n, level)


def cluster_bootstrap(values, level=0.95, draws=2000, seed=0):
    """The mean of ``values`` (seeds, prompts) with an interval over both.

    Row s holds the results of the run with training seed s on every prompt. Each draw picks seeds and,
    independently, prompts, both with replacement (the "pigeonhole" bootstrap, Owen 2007): all runs share the
    same prompts, so each run is not fresh evidence about them. Three seeds show only part of the variation
    between seeds, so with so few the interval is somewhat too narrow in that respect.
    """
    values = _clean(values, "values", dimensions=2)
    tail = _tail(level)
    seeds, prompts = values.shape
    rng = np.random.default_rng(seed)
    seed_weight = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds           # (draws, seeds)
    prompt_weight = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws) / prompts
    means = ((seed_weight @ values) * prompt_weight).sum(axis=1)
    return Interval(float(values.mean()), *_ends(means, tail), values.size)


def length_reward_correlation(lengths, rewards, level=0.95):
    """Pearson correlation of answer length and reward, both (n,), with Fisher's interval.

    High values mean that the reward model pays for length (Singhal et al. 2023 report .55 to .72).
    nan when either does not vary; the interval is [-1, 1] for fewer than four answers.
    """
    lengths, rewards = _clean(lengths, "lengths", dimensions=1), _clean(rewards, "rewards", dimensions=1)
    if len(lengths) != len(rewards):
        raise ValueError(f"{len(lengths)} lengths but {len(rewards)} rewards; give one of each per answer")
    n = len(lengths)
    x, y = lengths - lengths.mean(), rewards - rewards.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    if scale == 0:
        return Interval(math.nan, -1.0, 1.0, n)
    r = min(1.0, max(-1.0, float(x @ y) / scale))
    if n < 4:
        return Interval(r, -1.0, 1.0, n)
    if abs(r) == 1:
        return Interval(r, r, r, n)
    half = NormalDist().inv_cdf(1 - _tail(level)) / math.sqrt(n - 3)
    return Interval(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), n)


class GaoFit(NamedTuple):
    """Coefficients of an over-optimisation curve and where it peaks.

    d is sqrt(KL) in sqrt(nats). peak_d and peak_gold are infinite when the fitted curve never turns over.
    error is the root mean square distance of the points from the curve, in units of the gold score.
    """
    alpha: float
    beta: float
    peak_d: float
    peak_gold: float
    error: float


def gao_fit_bon(d, gold):
    """Fit R(d) = d (alpha - beta d), best-of-n (Gao et al. 2022, section 3.1), by least squares.

    d: (n,) values of sqrt(KL(policy || start)); gold: (n,) true score minus the true score at d = 0.
    The peak is at alpha / (2 beta). Needs two different d > 0.
    """
    d, gold, alpha, beta, error = _least_squares(d, gold, lambda d: -d * d)
    if beta <= 0:
        return GaoFit(alpha, beta, math.inf, math.inf, error)
    if alpha <= 0:  # falls from the start
        return GaoFit(alpha, beta, 0.0, 0.0, error)
    return GaoFit(alpha, beta, alpha / (2 * beta), alpha * alpha / (4 * beta), error)


def gao_fit_rl(d, gold):
    """Fit R(d) = d (alpha - beta log d), reinforcement learning (Gao et al. 2022), by least squares.

    Arguments as for ``gao_fit_bon``; R(0) = 0. The peak is at exp(alpha / beta - 1). The slope at 0 is
    infinite, so do not trust this form for very small d.
    """
    d, gold, alpha, beta, error = _least_squares(d, gold, lambda d: -d * np.log(np.where(d > 0, d, 1.0)))
    if beta <= 0 or alpha / beta > 700:  # no turning point, or one too far out to represent
        return GaoFit(alpha, beta, math.inf, math.inf, error)
    peak = math.exp(alpha / beta - 1)
    return GaoFit(alpha, beta, peak, beta * peak, error)


def _least_squares(d, gold, second):
    d, gold = _clean(d, "d", dimensions=1), _clean(gold, "gold", dimensions=1)
    if len(d) != len(gold):
        raise ValueError(f"{len(d)} distances but {len(gold)} gold scores; give one of each per point")
    if (d < 0).any():
        raise ValueError("d contains a negative number; it is the square root of a KL, so it must be at least 0")
    if len(np.unique(d[d > 0])) < 2:
        raise ValueError("the fit has two coefficients; give points at two different d > 0 or more")
    features = np.stack([d, second(d)], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(features, gold, rcond=None)
    error = math.sqrt(float(np.mean((features @ np.array([alpha, beta]) - gold) ** 2)))
    return d, gold, float(alpha), float(beta), error


def ece(predicted, outcomes, bins=10):
    """Expected calibration error in [0, 1]: mean gap between predicted and observed share, over equal-width bins.

    predicted: (n,) probabilities; outcomes: (n,) 0 or 1. 0 is perfect (Naeini et al. 2015).
    """
    predicted, outcomes = _clean(predicted, "predicted", dimensions=1), _clean(outcomes, "outcomes", dimensions=1)
    if len(predicted) != len(outcomes):
        raise ValueError(f"{len(predicted)} predictions but {len(outcomes)} outcomes; give one of each per pair")
    if predicted.min() < 0 or predicted.max() > 1:
        raise ValueError("a predicted probability is outside 0 to 1; pass sigmoid(score difference)")
    which = np.minimum((predicted * bins).astype(int), bins - 1)
    gaps = np.bincount(which, predicted - outcomes, minlength=bins)  # count x gap, bin by bin
    return float(np.abs(gaps).sum() / len(predicted))


def _clean(values, name, dimensions):
    values = np.asarray(values, dtype=float)
    if values.ndim != dimensions:
        raise ValueError(f"{name} has {values.ndim} dimensions; {dimensions} expected")
    if values.size == 0:
        raise ValueError(f"{name} is empty; there is nothing to measure")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains nan or infinity; find out why before averaging")
    return values


def _tail(level):
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; use a share such as 0.95")
    return (1 - level) / 2


def _ends(draws, tail):
    return tuple(float(end) for end in np.quantile(draws, [tail, 1 - tail]))


# ---------------------------------------------------------------- how far people agree

def agreement(rankings_a, rankings_b):
    """How often two labelers prefer the same answer: (percent, n).

    n counts the pairs of answers (to the same prompt) that both ranked and neither tied; percent (0-100, nan
    when n is 0) is the share on which they agree: 72.6 % in the paper (section 3.4). Answers are matched by
    their text, so the two labelers may have seen them in a different order. Chance is 50.
    """
    first = {_asked(row): _rank_of_text(row) for row in rankings_a}
    second = {_asked(row): _rank_of_text(row) for row in rankings_b}
    same = n = 0
    for asked in first.keys() & second.keys():
        a, b = first[asked], second[asked]
        texts = [text for text in a if text in b]
        for i, x in enumerate(texts):
            for y in texts[i + 1:]:
                product = (a[x] - a[y]) * (b[x] - b[y])
                n += product != 0
                same += product > 0
    return (100.0 * same / n if n else math.nan), n


def _asked(row):
    """The prompt of a ranking. Two prompts under one id are two prompts: nobody can agree about them."""
    return row["prompt_id"], row.get("prompt")


def _rank_of_text(row):
    """Text -> rank; an answer that occurs twice gets the mean of its ranks."""
    found = {}
    for response, rank in zip(row["responses"], row["ranks"], strict=True):
        found.setdefault(response["text"], []).append(rank)
    return {text: sum(ranks) / len(ranks) for text, ranks in found.items()}


def kendall_tau_b(ranks_a, ranks_b):
    """Kendall's tau-b of two rankings of the same K things, in [-1, 1]; ties are corrected for.

    nan when either ranking ties everything. Raises ValueError when the lengths differ.
    """
    if len(ranks_a) != len(ranks_b):
        raise ValueError(f"{len(ranks_a)} ranks against {len(ranks_b)}; both must rank the same answers")
    balance = untied_a = untied_b = 0
    for i in range(len(ranks_a)):
        for j in range(i + 1, len(ranks_a)):
            a = (ranks_a[i] > ranks_a[j]) - (ranks_a[i] < ranks_a[j])
            b = (ranks_b[i] > ranks_b[j]) - (ranks_b[i] < ranks_b[j])
            balance += a * b
            untied_a += a != 0
            untied_b += b != 0
    return balance / math.sqrt(untied_a * untied_b) if untied_a and untied_b else math.nan


class Agreement(NamedTuple):
    percent: float  # of the pairs that neither side tied; chance is 50
    n: int  # such pairs
    tau: float  # mean Kendall tau-b over the prompts for which it exists
    prompts: int  # prompts that both ranked


def agree(rankings_a, rankings_b):
    """The agreement of two lists of rankings: answers are matched by their text, prompts by their id and text."""
    first, second = ({_asked(row): row for row in rows} for rows in (rankings_a, rankings_b))
    taus = []
    common = [key for key in first if key in second]
    for key in common:
        a, b = ({r["text"]: rank for r, rank in zip(row["responses"], row["ranks"], strict=True)}
                for row in (first[key], second[key]))
        texts = [text for text in a if text in b]
        taus.append(kendall_tau_b([a[text] for text in texts], [b[text] for text in texts]))
    taus = [tau for tau in taus if not math.isnan(tau)]
    return Agreement(*agreement(rankings_a, rankings_b), sum(taus) / len(taus) if taus else math.nan,
                     len(common))


def self_consistency(rankings):
    """How far a person agrees with themselves on the items that were shown twice (``repeats`` in the session)."""
    first, again = [], []
    for row in rankings:
        (again if row.get("item_id", "").endswith("#again") else first).append(row)
    return agree(first, again)
