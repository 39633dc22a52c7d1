"""Exercises 9.4 to 9.6: memory, truth by log-probabilities, and a change item by item."""

import math
from statistics import NormalDist

import numpy as np

from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.real import measures

# ---------------------------------------------------------------- 9.4 memory

def _model_sizes():
    return [(134_515_584, 4), (134_515_584, 2), (7_000_000_000, 2)]


memory_of_ppo = Exercise(
    "9.4", "how much memory does PPO need?", 10, 2,
    ("Which of the four models are trained, and what else does a trained number need beside it?",
     "Two models are trained (policy, critic), and two only answer (reference, reward model). What does a "
     "trained weight need besides itself?",
     "Trained: weight + gradient (`weight_bytes` each) + two moments of Adam (4 each) + a float32 copy (4) if "
     "`weight_bytes` is below 4. Only answering: `weight_bytes`. There are two models of each kind."),
    task="`parameters` is the number of weights of *one* model, `weight_bytes` 4 (float32) or 2 (bfloat16). Return a "
         "number: the bytes of PPO's four models, all of this size, without activations, counted as the lines under "
         "the signature say.",
    course=measures.ppo_memory, cases=_model_sizes, tolerance=1e-6)


@memory_of_ppo.mistake("all four models are trained here. Reference and reward model only answer: no gradients, no "
                       "moments.")
def _all_four_trained(parameters, weight_bytes):
    return parameters * 4 * (2 * weight_bytes + 8 + (4 if weight_bytes < 4 else 0))


@memory_of_ppo.mistake("the gradients are missing: as many numbers as weights, for policy and critic.")
def _gradients_forgotten(parameters, weight_bytes):
    return measures.ppo_memory(parameters, weight_bytes) - 2 * parameters * weight_bytes


@memory_of_ppo.mistake("Adam keeps two moments for each weight, the mean of the gradient and of its square.")
def _one_moment(parameters, weight_bytes):
    return measures.ppo_memory(parameters, weight_bytes) - 2 * parameters * 4


@memory_of_ppo.mistake("the critic is trained too. It is a separate model, with its own gradients and moments.")
def _critic_not_trained(parameters, weight_bytes):
    return parameters * (2 * weight_bytes + 8 + (4 if weight_bytes < 4 else 0) + 3 * weight_bytes)


@memory_of_ppo.mistake("in bfloat16, a step of a thousandth of a weight would be rounded away. So the steps are added "
                       "to a copy in float32, 4 more bytes for each trained weight; Adam's moments stay in float32 as "
                       "well.")
def _no_copy(parameters, weight_bytes):
    return parameters * (2 * (2 * weight_bytes + 8) + 2 * weight_bytes)


@memory_of_ppo.mistake("a float32 model needs no second float32 copy of itself.")
def _always_a_copy(parameters, weight_bytes):
    return parameters * (2 * (2 * weight_bytes + 12) + 2 * weight_bytes)


# ---------------------------------------------------------------- 9.5 TruthfulQA

def _answers_to_questions():
    return [(-12.0, [-12.0, -14.0], [-13.0, -15.0, -12.5]), (-9.0, [-6.0, -9.0, -11.0], [-8.0, -20.0]),
            (-9.0, [-9.0, -9.5], [-8.0, -20.0]), (-900.0, [-900.0, -901.0], [-899.5]),
            (-7.0, [-7.0, -7.5], [-7.0, -9.0])]


truthful_qa = Exercise(
    "9.5", "true or false", 12, 2,
    ("One of the measures asks who wins, the other for a share of the probability. Which is which?",
     "mc1 asks for a win: is the best answer likelier than *every* incorrect one? mc2 asks for a share: how much of "
     "the total probability of all listed answers do the correct ones have?",
     "`np.logaddexp.reduce(values)` is the logarithm of a sum of exponentials, and never takes the exponential of "
     "−900. mc2 is `np.exp(that of the correct − that of all)`, with `[*correct, *incorrect]` for all."),
    task="`best` is the log-probability of the best answer; `correct` and `incorrect` are lists of log-probabilities, "
         "the best one again among the correct. They may be as low as −900. Return two floats: mc1, 1.0 if the best "
         "answer is likelier than every incorrect one and 0.0 otherwise; mc2, the correct answers' share of the "
         "probability of all listed answers.",
    course=measures.multiple_choice, cases=_answers_to_questions)


@truthful_qa.mistake("mc1 is about the *best* answer: a correct but vague one that wins does not count.")
def _any_correct(best, correct, incorrect):
    return float(max(correct) > max(incorrect)), measures.multiple_choice(best, correct, incorrect)[1]


@truthful_qa.mistake("in mc1 the best answer has to beat every incorrect one, not their average.")
def _against_the_mean(best, correct, incorrect):
    return float(best > np.mean(incorrect)), measures.multiple_choice(best, correct, incorrect)[1]


@truthful_qa.mistake("exp(−900) is 0 in a computer, so 0 is divided by 0. Stay with logarithms: `np.logaddexp.reduce`.")
def _underflow(best, correct, incorrect):
    true, false = math.fsum(map(math.exp, correct)), math.fsum(map(math.exp, incorrect))
    return float(best > max(incorrect)), true / (true + false) if true + false else math.nan


@truthful_qa.mistake("this is a share of log-probabilities. They are negative, so the *less* likely answers get the "
                     "larger share.")
def _share_of_logarithms(best, correct, incorrect):
    return float(best > max(incorrect)), sum(correct) / (sum(correct) + sum(incorrect))


@truthful_qa.mistake("these are means within each kind. mc2 uses sums: an idea with four true wordings is that much "
                     "likelier.")
def _mean_probabilities(best, correct, incorrect):
    shift = max(*correct, *incorrect)
    true, false = (np.exp(np.array(kind) - shift).mean() for kind in (correct, incorrect))
    return float(best > max(incorrect)), true / (true + false)


@truthful_qa.mistake("mc2 adds up *all* correct answers; only mc1 is about the best one.")
def _best_alone(best, correct, incorrect):
    shift = max(best, *incorrect)
    true, false = np.exp(best - shift), np.exp(np.array(incorrect) - shift).sum()
    return float(best > max(incorrect)), true / (true + false)


# ---------------------------------------------------------------- 9.6 before and after, on the same items

def paired_gain(before, after):
    """(n,) results of two models on the same items -> (mean gain, half the width of its 95 % interval)."""
    gain = np.asarray(after) - np.asarray(before)
    return gain.mean(), 1.96 * gain.std(ddof=1) / math.sqrt(len(gain))


def _before_and_after():
    return [(np.array([0.2, 0.9, 0.5, 0.4, 0.7]), np.array([0.3, 0.8, 0.7, 0.6, 0.8])),
            (np.array([1.0, 0, 0, 1, 0, 1, 0]), np.array([1.0, 1, 0, 1, 0, 0, 1]))]


item_by_item = Exercise(
    "9.6", "before and after, item by item", 8, 1,
    ("Both models saw the same items. Which n numbers are your data?",
     "Both models answered the same questions. So first take the difference, question by question, and then treat "
     "these n differences as your data.",
     "`gain = after - before`; the mean is `gain.mean()`, and half the width of the interval is "
     "`1.96 * gain.std(ddof=1) / sqrt(n)`."),
    task="`before` and `after` (n,) are two models' results on the same items, in the same order. Return two numbers: "
         "the mean of after − before, and half the width of its 95 % interval, 1.96 standard errors of that mean (with "
         "n − 1).",
    course=paired_gain, cases=_before_and_after, tolerance=1e-3)


Z = NormalDist().inv_cdf(0.975)


@item_by_item.mistake("the interval is that of two separate groups. The questions are the same: an easy one is easy "
                      "for both, and that cancels in the differences.")
def _two_samples(before, after):
    return np.mean(after - before), Z * math.sqrt((after.var(ddof=1) + before.var(ddof=1)) / len(after))


@item_by_item.mistake("this is how much single questions differ. The mean of n of them is more certain: divide by the "
                      "square root of n.")
def _not_divided(before, after):
    return np.mean(after - before), Z * (after - before).std(ddof=1)


@item_by_item.mistake("divide by the square root of n, not by n: errors shrink more slowly than you might wish.")
def _divided_by_n(before, after):
    return np.mean(after - before), Z * (after - before).std(ddof=1) / len(after)


@item_by_item.mistake("this is the standard error, an interval of 68 %. Multiply it by 1.96.")
def _one_sigma(before, after):
    return np.mean(after - before), (after - before).std(ddof=1) / math.sqrt(len(after))


@item_by_item.mistake("the sign is flipped: a gain is after minus before.")
def _loss_not_gain(before, after):
    mean, half = paired_gain(before, after)
    return -mean, half


@item_by_item.mistake("this is the interval of the second model alone. The first one was measured on a sample too.")
def _only_after(before, after):
    return np.mean(after - before), Z * after.std(ddof=1) / math.sqrt(len(after))


EXERCISES = [memory_of_ppo, truthful_qa, item_by_item]
