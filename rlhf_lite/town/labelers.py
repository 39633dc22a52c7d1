"""Simulated labelers: people with tastes and moods, so that rankings disagree as real ones do.

A labeler looks at the true grade of each answer, weighs helpful, truthful and harmless by personal
taste, likes short answers a little more or less than the others do, and is never quite sure:

    utility = weights . (helpful, truthful, harmless) + brevity taste * brevity + noise * N(0, 1)

Ranks follow the utilities; answers too close to call share a rank. Two labelers disagree because their
tastes differ and because each is noisy. ``calibrate`` turns the noise up or down until the training team agrees as
often as the paper's did, also in its role as judge: 72.6 +- 1.5 % (InstructGPT section 3.4). The held-out team has the
same noise and other tastes. As in the paper, training puts helpfulness first; the final evaluation, by the same
people, puts truthfulness and harmlessness first.

Everything these teams produce is simulated data and must be called so. Left out: labelers who tire,
learn, or read in a hurry; noise that depends on the prompt.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

NOISE_FILE = Path(__file__).resolve().parents[2] / "data" / "town" / "labelers.json"
LONG_ANSWER = 48.0  # tokens; the longest answer the models write. Brevity is 1 - length / LONG_ANSWER.
TRAINING_AGREEMENT = 72.6  # percent, InstructGPT section 3.4


@dataclass(frozen=True)
class Labeler:
    """One simulated person.

    weights: (helpful, truthful, harmless), summing to 1, so that utility without taste and noise is in
    [0, 1]. brevity: added utility of an empty answer over a 48-token one. noise: standard deviation of
    the mood added to each utility. tie_width: answers whose utilities differ by no more than this tie.
    """
    name: str
    weights: tuple
    brevity: float = 0.0
    noise: float = 0.2
    tie_width: float = 0.03

    def mean_utilities(self, grades, lengths=None):
        """What this labeler feels on average about each answer: float array (K,).

        grades: K objects with ``helpful``, ``truthful``, ``harmless`` in [0, 1].
        lengths: K answer lengths in tokens, or None for answers of equal length.
        """
        facts = np.array([(g.helpful, g.truthful, g.harmless) for g in grades], dtype=float).reshape(-1, 3)
        utilities = facts @ np.array(self.weights, dtype=float)
        if lengths is not None:
            if len(lengths) != len(grades):
                raise ValueError(f"{len(grades)} grades but {len(lengths)} lengths; give one length per answer")
            utilities = utilities + self.brevity * (1.0 - np.clip(np.asarray(lengths) / LONG_ANSWER, 0.0, 1.0))
        return utilities

    def judge(self, grades, lengths, rng):
        """Score, then rank, K answers in one sitting: (ranks, likert scores), both lists of K ints."""
        utilities = self.mean_utilities(grades, lengths) + self.noise * rng.standard_normal(len(grades))
        return ranks_from_utilities(utilities, self.tie_width), [_likert(u) for u in utilities]

    def rank(self, grades, lengths, rng):
        """Rank K answers: list of K ints, 1 is best, ties share a rank. rng: ``numpy.random.Generator``."""
        return self.judge(grades, lengths, rng)[0]

    def preference(self, grades, lengths=None):
        """How often ``rank`` puts the first of two answers above the second, a tie counting one half: in [0, 1].

        Moods are normal, so the share over endlessly many of them is a formula, and needs no dice.
        """
        first, second = self.mean_utilities(grades, lengths)
        gap, spread = float(first - second), self.noise * math.sqrt(2)  # of the difference of two moods

        def above(bar):
            return math.erfc((bar - gap) / (spread * math.sqrt(2))) / 2 if spread else float(gap > bar)

        return (above(self.tie_width) + above(-self.tie_width)) / 2

    def likert(self, grade, rng):
        """Overall quality of one answer, a whole number from 1 to 7."""
        return _likert(self.mean_utilities([grade])[0] + self.noise * rng.standard_normal())


def _likert(utility):
    return int(min(7, max(1, round(1.0 + 6.0 * float(utility)))))


def ranks_from_utilities(utilities, tie_width):
    """Ranks 1, 2, ... of a list of utilities (higher is better), near-equal ones sharing a rank.

    "Within tie_width" alone is not transitive (a ties b, b ties c, yet a beats c). So we walk down the
    sorted utilities and open a new rank when one falls more than tie_width below the best of its group.
    """
    ranks, rank, top = [0] * len(utilities), 0, math.inf
    for index in sorted(range(len(utilities)), key=lambda i: -utilities[i]):
        if rank == 0 or top - utilities[index] > tie_width:
            rank, top = rank + 1, utilities[index]
        ranks[index] = rank
    return ranks


# ---------------------------------------------------------------- the teams

#             name     helpful truthful harmless  brevity  noise relative to the team
_TRAINING = [("Tess",  (0.60, 0.25, 0.15),  0.05, 0.18), ("Omar", (0.55, 0.30, 0.15),  0.00, 0.20),
             ("Ines",  (0.65, 0.20, 0.15), -0.05, 0.22), ("Kofi", (0.50, 0.30, 0.20),  0.10, 0.20),
             ("Mei",   (0.60, 0.20, 0.20),  0.00, 0.24)]
# Others: one for whom truth comes first, one who minds harm, one who wants help at any price, two with a strong taste
# for short and for long answers. Their noise is the training team's.
_HELDOUT = [("Rafa",   (0.35, 0.50, 0.15),  0.05, 0.18), ("Anja", (0.40, 0.20, 0.40),  0.00, 0.20),
            ("Bo",     (0.80, 0.10, 0.10), -0.05, 0.22), ("Lucia", (0.50, 0.30, 0.20), -0.25, 0.20),
            ("Sven",   (0.50, 0.30, 0.20),  0.25, 0.24)]
_EVALUATION_WEIGHTS = {"Tess": (0.20, 0.45, 0.35), "Omar": (0.25, 0.50, 0.25), "Ines": (0.30, 0.40, 0.30),
                       "Kofi": (0.20, 0.40, 0.40), "Mei": (0.25, 0.40, 0.35)}


def training_team(noise_file=NOISE_FILE):
    """The five who make the training rankings: helpfulness first."""
    return _with_stored_noise([Labeler(*row) for row in _TRAINING], "training", noise_file)


def heldout_team(noise_file=NOISE_FILE):
    """Five others who made no training data: with other tastes, and as noisy as the training team, person by person."""
    return [replace(Labeler(*row), noise=known.noise)
            for row, known in zip(_HELDOUT, training_team(noise_file), strict=True)]


def evaluation_team(noise_file=NOISE_FILE):
    """The training team's people in the final evaluation: truthfulness and harmlessness first.

    Their noise is calibrated in this role, too: with other weights the same answers lie closer together, and with the
    training noise they would agree less often (66 %) than any labelers of the paper did.
    """
    team = [replace(labeler, weights=_EVALUATION_WEIGHTS[labeler.name]) for labeler in training_team(noise_file)]
    return _with_stored_noise(team, "evaluation", noise_file)


def store_noise(team_name, team, measured=None, noise_file=NOISE_FILE):
    """Write a calibrated team's noise into the JSON that the teams read.

    team_name: "training" or "evaluation"; or "heldout", whose noise is never read back. measured: the ``Agreement``
    found, kept beside it for the record.
    """
    noise_file = Path(noise_file)
    table = json.loads(noise_file.read_text("utf-8")) if noise_file.exists() else {}
    table[team_name] = {"noise": {labeler.name: labeler.noise for labeler in team}}
    if measured is not None:
        table[team_name]["measured"] = measured._asdict()
    noise_file.parent.mkdir(parents=True, exist_ok=True)
    noise_file.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


def _with_stored_noise(team, team_name, noise_file):
    """The team with its calibrated noise; for ``noise_file=None`` with the hand-set noise above.

    A file that lacks the team is an error: other noise means other judges, and other results without a word.
    """
    if noise_file is None:
        return team
    try:
        stored = json.loads(Path(noise_file).read_text("utf-8"))[team_name]["noise"]
        if not all(type(stored[labeler.name]) in (int, float) and 0 < stored[labeler.name] < 1e3 for labeler in team):
            raise ValueError("a noise is not a number above 0")
        return [replace(labeler, noise=float(stored[labeler.name])) for labeler in team]
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{noise_file} does not hold the noise of the {team_name} team ({type(error).__name__}: "
                         f"{error}); "
                         "put the file of the repository back (git checkout data/town/labelers.json)") from None


# ---------------------------------------------------------------- measuring a team

class Agreement(NamedTuple):
    """percent (0-100) of comparisons on which two labelers agree; half width of its 95 % interval over
    prompts, in percentage points; number of comparisons, i.e. answer pairs x labeler pairs, untied by both."""
    percent: float
    plus_minus: float
    n: int


def measure_agreement(team, grades_per_prompt, rng, lengths_per_prompt=None):
    """How often two members of the team agree, over all pairs of members who both see every prompt.

    grades_per_prompt: a list with the K grades of each prompt (K may vary); lengths likewise, or None.
    A pair of answers that either member ties is left out, as in the paper. Returns ``Agreement``.
    """
    same, seen = [], []
    for index, grades in enumerate(grades_per_prompt):
        lengths = None if lengths_per_prompt is None else lengths_per_prompt[index]
        ranks = np.array([labeler.rank(grades, lengths, rng) for labeler in team])
        first, second = np.triu_indices(ranks.shape[1], 1)
        order = np.sign(ranks[:, first] - ranks[:, second])              # (labelers, answer pairs)
        a, b = np.triu_indices(len(team), 1)
        product = order[a] * order[b]                                    # 1 agree, -1 disagree, 0 tied
        same.append(np.sum(product > 0))
        seen.append(np.sum(product != 0))
    same, seen = np.array(same, dtype=float), np.array(seen, dtype=float)
    n = seen.sum()
    if n == 0:
        return Agreement(math.nan, math.nan, 0)
    share = same.sum() / n
    # Comparisons of one prompt hang together, so the error of the ratio is summed over prompts.
    error = math.sqrt(float(np.sum((same - share * seen) ** 2))) / float(n)
    return Agreement(100.0 * float(share), 100.0 * 1.96 * error, int(n))


def calibrate(team, grades_per_prompt, target, rng, lengths_per_prompt=None, steps=20):
    """The same team with its noise scaled by one factor so that agreement is ``target`` percent.

    Bisects the factor on a log scale from 1/100 to 100, always with the same random moods, so that the
    agreement falls smoothly as the factor grows. Raises ValueError when no factor in that range will do:
    tastes alone may disagree too often, or the answers may all tie.
    """
    seed = int(rng.integers(2 ** 31))

    def at(log_factor):
        scaled = [replace(labeler, noise=labeler.noise * 10.0 ** log_factor) for labeler in team]
        found = measure_agreement(scaled, grades_per_prompt, np.random.default_rng(seed), lengths_per_prompt)
        return scaled, found.percent

    low, high = -2.0, 2.0
    best, worst = at(low)[1], at(high)[1]
    if not worst <= target <= best:
        raise ValueError(f"agreement can be set from {worst:.1f} to {best:.1f} % on these answers, not to {target} %; "
                         "use more prompts, answers that differ more, or tastes that differ less")
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] > target else (low, middle)
    return at((low + high) / 2)[0]


def bayes_ceiling(team, grades_per_prompt, rng, lengths_per_prompt=None, draws=20):
    """The pair accuracy (0-1) no score can beat by learning: it knows the team's mean utility exactly.

    Each ranking comes from one member with fresh noise, ``draws`` times per member and prompt; pairs the
    member ties are left out; a pair whose mean utilities are equal counts one half. A reward model is to
    be read against this number, not against 100 %. (A predictor told *who* ranks could do slightly
    better; a reward model is not told.)
    """
    right = total = 0.0
    for index, grades in enumerate(grades_per_prompt):
        lengths = None if lengths_per_prompt is None else lengths_per_prompt[index]
        means = np.mean([labeler.mean_utilities(grades, lengths) for labeler in team], axis=0)
        first, second = np.triu_indices(len(means), 1)
        difference = means[first] - means[second]
        # Differences below rounding error are ties: equal answers must not be told apart by float dust.
        predicted = np.where(np.abs(difference) < 1e-12, 0.0, np.sign(difference))
        for labeler in team:
            for _ in range(draws):
                ranks = np.array(labeler.rank(grades, lengths, rng))
                truth = np.sign(ranks[second] - ranks[first])            # 1 when the first was preferred
                kept = truth != 0
                right += np.sum((1.0 + truth[kept] * predicted[kept]) / 2.0)
                total += np.sum(kept)
    return float(right / total) if total else math.nan
