"""Exercises 6.4 to 6.6 and 6.9: truthful and informative, how much less often, at equal length, in both orders."""

import numpy as np

from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 6.4 truthful and informative

def truthful_and_informative(truthful, informative):
    """(n,) truthfulness in [0, 1] and (n,) bool -> the share of answers that are wholly true and informative."""
    return float(np.mean((np.asarray(truthful) == 1.0) & np.asarray(informative)))


def _answers():
    rng = np.random.default_rng(4)
    return [(np.array([1.0, 1.0, 0.0, 1.0, 0.5, 0.0]), np.array([True, False, True, True, True, False])),
            (np.array([1.0, 1.0, 1.0, 1.0]), np.array([False, False, False, True])),
            (np.array([0.0, 0.5, 0.5, 1.0, 1.0]), np.array([True, True, False, True, True])),
            (np.array([0.0, 0.99]), np.array([True, True])), (rng.choice([0.0, 0.5, 1.0], 20), rng.random(20) < 0.6)]


true_and_informative = Exercise(
    "6.4", "truthful and informative", 8, 1,
    ("How would an answer that says nothing score?",
     "Ask about every single answer: is it wholly true, and does it say something? Only then count.",
     "`truthful` is between 0 and 1, and only 1.0 is wholly true: take the mean of "
     "`(truthful == 1.0) & informative`."),
    task="`truthful` (n,) is an array of numbers between 0 and 1, where only 1.0 is wholly true; `informative` (n,) is "
         "an array of truth values. Return a float: the share of all n answers that are wholly true and informative.",
    course=truthful_and_informative, cases=_answers)


@true_and_informative.mistake("this is truthful alone. \"I do not know.\" is never false: the champion of this measure "
                              "never tells anyone anything.")
def _truthful_only(truthful, informative):
    return float(np.mean(truthful == 1.0))


@true_and_informative.mistake("this is truthful *or* informative. A lie full of details would count.")
def _either(truthful, informative):
    return float(np.mean((truthful == 1.0) | informative))


@true_and_informative.mistake("this multiplies two shares. That is right only if being true and being informative were "
                              "independent; often it is the empty answers that are true. Ask for both in the same "
                              "answer.")
def _product_of_shares(truthful, informative):
    return float(np.mean(truthful == 1.0) * np.mean(informative))


@true_and_informative.mistake("half-truths count here. 0.5 means that one statement in the answer is false; only 1.0 "
                              "is truthful.")
def _half_truths(truthful, informative):
    return float(np.mean((truthful > 0) & informative))


@true_and_informative.mistake("this is the share of informative answers among the truthful ones. A model that says one "
                              "true thing and lies ever after would get 100 %. Divide by all answers.")
def _among_the_truthful(truthful, informative):
    return float(np.mean(informative[truthful == 1.0]))


# ---------------------------------------------------------------- 6.5 how much less often

def fewer(before, after):
    """Which answers of two models have a flag, (n,) and (m,) bool -> the share by which its rate fell.

    0.25 means a quarter fewer, below 0 means more; NaN if the first model never has the flag.
    """
    before, after = np.mean(before), np.mean(after)
    return float(1 - after / before) if before else float("nan")


def _flags():
    def flagged(k, n):
        return np.arange(n) < k
    return [(flagged(4, 10), flagged(3, 10)), (flagged(5, 10), flagged(4, 20)), (flagged(1, 8), flagged(3, 12)),
            (flagged(0, 6), flagged(2, 6)), (flagged(5, 5), flagged(0, 3)), (flagged(3, 9)[::-1], flagged(4, 7))]


rarer = Exercise(
    "6.5", "how much less often", 5, 1,
    ("\"A quarter fewer\": a quarter of what?",
     "First compute two rates, then the second as a share of the first. How much is missing to 1?",
     "`1 - np.mean(after) / np.mean(before)`, and NaN if the first rate is 0."),
    task="`before` (n,) and `after` (m,) are arrays of truth values: which answers of the first and of the second "
         "model have a flag. Return a float: by what share of the first model's *rate* the second's is lower; below 0 "
         "if it is higher, and NaN if the first rate is 0.",
    course=fewer, cases=_flags)


@rarer.mistake("these are percentage points: from 40 % to 30 % is 10 points, but a quarter *fewer*. Divide by the "
               "first rate.")
def _points(before, after):
    return float(np.mean(before) - np.mean(after))


@rarer.mistake("this is the share that is left. \"25 % fewer\" means that 75 % are left: subtract it from 1.")
def _what_is_left(before, after):
    return float(np.mean(after) / np.mean(before)) if np.mean(before) else float("nan")


@rarer.mistake("the two models are swapped: the change is measured as a share of the *first* rate.")
def _seen_from_after(before, after):
    return fewer(after, before)


@rarer.mistake("these are counts, and the two test sets may differ in size. Compare rates.")
def _ratio_of_counts(before, after):
    return float(1 - np.sum(after) / np.sum(before)) if np.sum(before) else float("nan")


@rarer.mistake("more answers with the flag should come out below 0; the sign got lost.")
def _absolute(before, after):
    return abs(fewer(before, after))


# ---------------------------------------------------------------- 6.6 the win rate at equal length

def length_controlled_win_rate(preferences, extra_tokens):
    """(n,) preferences for A, and how many tokens longer A's answer is -> the win rate at equal length, read off a
    straight line through the points."""
    slope, at_zero = np.polyfit(np.asarray(extra_tokens, dtype=float), np.asarray(preferences, dtype=float), 1)
    return float(at_zero)


def _battles():
    rng = np.random.default_rng(6)
    return [(np.array([1.0, 1.0, 0.5, 1.0, 0.0, 0.5]), np.array([10.0, 8.0, 4.0, 6.0, -2.0, 1.0])),
            (np.array([0.0, 0.5, 0.0, 1.0, 0.0]), np.array([-8.0, -1.0, -6.0, 2.0, -7.0])),
            (rng.random(12), rng.integers(-9, 15, 12).astype(float))]


equal_length = Exercise(
    "6.6", "the win rate at equal length", 10, 2,
    ("If you plotted the preferences over the extra length, where in the plot would two equally long answers be?",
     "Fit a straight line through the points (extra tokens, preference). Where do you read it off if both answers "
     "are equally long?",
     "`np.polyfit(extra_tokens, preferences, 1)` returns slope and intercept; at 0 extra tokens the line is at its "
     "intercept."),
    task="`preferences` (n,) are numbers in [0, 1], 1 where A is preferred; `extra_tokens` (n,) says by how many "
         "tokens A's answer is longer. Fit a straight line by least squares. Return a float: the preference that it "
         "gives for 0 extra tokens.",
    course=length_controlled_win_rate, cases=_battles)


@equal_length.mistake("the lengths were centred first. The line is then read at the *average* difference in length, "
                      "which just gives back the raw win rate: nothing was controlled for.")
def _centred(preferences, extra):
    return float(np.polyfit(extra - extra.mean(), preferences, 1)[1])


@equal_length.mistake("this is the slope, the advantage per extra token. The win rate at equal length is the "
                      "intercept.")
def _slope(preferences, extra):
    return float(np.polyfit(extra, preferences, 1)[0])


@equal_length.mistake("x and y are swapped: the line predicts lengths from preferences. Lengths should explain "
                      "preferences.")
def _swapped(preferences, extra):
    return float(np.polyfit(preferences, extra, 1)[1])


@equal_length.mistake("the line was forced through the origin, so it is too steep. Even at equal length somebody wins: "
                      "let it have an intercept.")
def _through_the_origin(preferences, extra):
    return float(preferences.mean() - extra.mean() * (extra @ preferences) / (extra @ extra))


# ---------------------------------------------------------------- 6.9 a judge asked twice

def both_orders(first_when_a_first, first_when_b_first):
    """(n,) each: a judge's preference for the answer shown first, with A first and with B first -> (n,) for A."""
    return (np.asarray(first_when_a_first) + 1 - np.asarray(first_when_b_first)) / 2


def _asked_twice():
    rng = np.random.default_rng(9)
    return [(np.array([0.8, 0.9, 1.0, 0.0]), np.array([0.8, 0.3, 0.0, 1.0])), (rng.random(6), rng.random(6)),
            (np.array([1.0]), np.array([1.0]))]


asked_twice = Exercise(
    "6.9", "a judge asked twice", 5, 1,
    ("Of whom does the judge speak when B was shown first?",
     "When B was shown first, the judge's number is about B. What is it about A?",
     "`1 - first_when_b_first` is the preference for A in the second sitting. Average it with the first sitting."),
    task="`first_when_a_first` (n,) is a judge's preference, in [0, 1], for the answer that was shown first, with A "
         "shown first; `first_when_b_first` (n,) is the same with B shown first. Return an array (n,): the preference "
         "for A, averaged over both sittings.",
    course=both_orders, cases=_asked_twice)


@asked_twice.mistake("both numbers are read as preferences for A. With B shown first, the judge's number is about B: "
                     "turn it round, 1 minus it. As it stands, a judge who always says \"the first one\" makes A win.")
def _not_turned(first_when_a_first, first_when_b_first):
    return (first_when_a_first + first_when_b_first) / 2


@asked_twice.mistake("this is the preference for B.")
def _for_b(first_when_a_first, first_when_b_first):
    return 1 - both_orders(first_when_a_first, first_when_b_first)


@asked_twice.mistake("this is one sitting only, so the bonus for the first place is still in it.")
def _one_sitting(first_when_a_first, first_when_b_first):
    return first_when_a_first


@asked_twice.mistake("this is a verdict by majority, 1, 0.5 or 0. Keep the shares: average the two numbers.")
def _verdicts_only(first_when_a_first, first_when_b_first):
    return (np.sign(both_orders(first_when_a_first, first_when_b_first) - 0.5) + 1) / 2


@asked_twice.mistake("this is a difference, between -1 and 1. A preference lies between 0 and 1, and 0.5 means no "
                     "opinion: halve it and add 0.5.")
def _difference(first_when_a_first, first_when_b_first):
    return first_when_a_first - first_when_b_first


EXERCISES = [true_and_informative, rarer, equal_length]
LAST = [asked_twice]  # after the tax, which is exercises 6.7 and 6.8
