"""Exercises 5.1 and 5.2: what leaving the reference costs, and the best policy at that price."""

import torch

from rlhf_lite import ppo_math, tiny_world
from rlhf_lite.exercises.cases import by_name, generator
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.1 three estimators of one KL

def kl_estimators(log_probs, ref_log_probs):
    """The library's three estimators side by side."""
    return (ppo_math.kl_k1(log_probs, ref_log_probs), ppo_math.kl_k2(log_probs, ref_log_probs),
            ppo_math.kl_k3(log_probs, ref_log_probs))


def _log_prob_pairs():
    shapes = [(6,), (2, 3), (1,), ()]  # one response at a time, a batch, a grid
    drawn = [[-3 * torch.rand(shape, generator=generator(2 * i + k)) for k in (0, 1)] for i, shape in enumerate(shapes)]
    return [(torch.tensor([0.5, 0.25, 0.1]).log(), torch.tensor([0.25, 0.25, 0.4]).log()), *map(tuple, drawn)]


estimators = Exercise(
    "5.1", "three estimators of one KL", 10, 1,
    ("All three are made of one number per response: by how many nats do policy and reference differ?",
     "Call it `d = log_probs - ref_log_probs`. k1 is d itself and k2 half its square. For k3 mind the sign in the "
     "exponent: it is the ratio of reference to policy.",
     "`return d, 0.5 * d ** 2, torch.exp(-d) - 1 + d`. (`torch.expm1(-d) + d` is the same, but exact for small d.)"),
    task="`log_probs` and `ref_log_probs` are float tensors of one shape: the log-probabilities of sampled "
         "responses under the policy, and of the same responses under the reference. Return three tensors of "
         "that shape, in this order: k1, k2 and k3 of every response. No means, no rounding.",
    course=kl_estimators, cases=_log_prob_pairs, observe=by_name("k1", "k2", "k3"))


@estimators.mistake("k1 has the wrong sign. The samples come from the policy, and KL(π ‖ π_ref) is the mean of log π − "
                    "log π_ref: positive on average.")
def _k1_turned(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return -k1, k2, k3


@estimators.mistake("k2 is half the square of the log-ratio; the half is missing.")
def _k2_not_halved(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, 2 * k2, k3


@estimators.mistake("k3 has its ratio upside down. With samples from the policy, the ratio is π_ref/π; the other way "
                    "round, its mean is not the KL at all. Several well-known tutorials make this slip.")
def _k3_turned(log_probs, ref_log_probs):
    k1, k2, _ = kl_estimators(log_probs, ref_log_probs)
    return k1, k2, k1.exp() - 1 - k1


@estimators.mistake("k3 lacks its −1. Without it, the estimate for two equal policies would be 1, not 0.")
def _k3_without_one(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, k2, k3 + 1


@estimators.mistake("k1 has lost its sign. For a single response it may well be negative, and only with the sign is "
                    "its mean the KL.")
def _k1_absolute(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1.abs(), k2, k3


@estimators.mistake("k2 must be half of d²; this is (d/2)², which is half of that again.")
def _k2_halved_before_squaring(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, 0.5 * k2, k3


@estimators.mistake("the three estimators are right, but they come in another order: k1, k2, k3.")
def _other_order(log_probs, ref_log_probs):
    return kl_estimators(log_probs, ref_log_probs)[::-1]


# ---------------------------------------------------------------- 5.2 the best policy there is

def _references():
    one = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]), 1.0
    reference = torch.randn(2, 5, generator=generator(2)).log_softmax(dim=1)
    three = torch.randn(3, 4, generator=generator(20)).log_softmax(dim=1)
    return [one, (reference, torch.randn(2, 5, generator=generator(3)), 0.5),
            (three, torch.randn(3, 4, generator=generator(21)), 0.2), (three[:1], torch.zeros(1, 4), 2.0)]


best_policy = Exercise(
    "5.2", "the best policy there is", 10, 2,
    ("Take the logarithm of the formula for π*: products become sums, and nothing overflows. What is left of Z?",
     "Add `scores / kl_coef` to the log-probabilities of the reference. Then make sure that the probabilities for each "
     "prompt add up to 1: log Z is the logsumexp over the responses.",
     "`tilted = log_ref + scores / kl_coef`, then `log_z = tilted.logsumexp(dim=-1)`: subtract `log_z[..., None]` "
     "from `tilted`; the value is `kl_coef * log_z`."),
    task="`log_ref` and `scores` (prompts, responses) are the log-probability of every response under the "
         "reference, and its score; `kl_coef` is the price β, a number above 0. Return two tensors: the "
         "*log*-probabilities of the best policy (prompts, responses), and its value for every prompt "
         "(prompts,). Every prompt has its own Z.",
    course=tiny_world.optimum, cases=_references,
    observe=by_name("the log-probabilities", "the value"))


def _tilted(log_ref, scores, kl_coef, exponent, value_factor=None):
    log_z = exponent.logsumexp(dim=-1)
    return exponent - log_z[..., None], (kl_coef if value_factor is None else value_factor) * log_z


@best_policy.mistake("the scores are multiplied by kl_coef. They must be divided by it: the more it costs to leave the "
                     "reference, the smaller the tilt.")
def _times_kl_coef(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref + scores * kl_coef)


@best_policy.mistake("the reference is missing. This would be the best policy if leaving a *uniform* policy were what "
                     "costs.")
def _without_reference(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, scores / kl_coef)


@best_policy.mistake("the tilt goes the wrong way: this policy likes bad responses best.")
def _score_subtracted(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref - scores / kl_coef)


@best_policy.mistake("these are not log-probabilities yet: for each prompt their exponentials must add up to 1. "
                     "Subtract log Z.")
def _not_normalised(log_ref, scores, kl_coef):
    return log_ref + scores / kl_coef, tiny_world.optimum(log_ref, scores, kl_coef)[1]


@best_policy.mistake("the policy is right, but the value is log Z; it should be kl_coef · log Z.")
def _value_is_log_z(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref + scores / kl_coef, value_factor=1.0)


@best_policy.mistake("Z was summed over all prompts together. Every prompt has its own Z: sum over the last "
                     "dimension.")
def _over_all_prompts(log_ref, scores, kl_coef):
    exponent = log_ref + scores / kl_coef
    log_z = exponent.flatten().logsumexp(dim=0)
    return exponent - log_z, (kl_coef * log_z).expand(len(log_ref))


@best_policy.mistake("these are probabilities. The cells that follow expect their logarithms.")
def _probabilities(log_ref, scores, kl_coef):
    log_best, value = tiny_world.optimum(log_ref, scores, kl_coef)
    return log_best.exp(), value


@best_policy.mistake("the policy is right, but the value is only its mean score. What it costs to be away from the "
                     "reference is part of the value: kl_coef · log Z has both.")
def _value_without_the_price(log_ref, scores, kl_coef):
    log_best, _ = tiny_world.optimum(log_ref, scores, kl_coef)
    return log_best, tiny_world.expected(log_best, scores)


@best_policy.mistake("Z runs over the unweighted responses: it lacks the reference. The probabilities then do not add "
                     "up to 1.")
def _z_without_reference(log_ref, scores, kl_coef):
    log_z = (scores / kl_coef).logsumexp(dim=-1)
    return log_ref + scores / kl_coef - log_z[..., None], kl_coef * log_z


EXERCISES = [estimators, best_policy]
