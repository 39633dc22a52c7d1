"""Exercises of notebook 08: the instruments that find silent bugs, and two diagnoses.

The idea: an instrument may be broken too. Most wrong answers here would send an ill patient home, or ring for a healthy
run. The patients live in `clinic`, the right instruments in `laboratory`.
"""

import torch
import torch.nn.functional as F

from rlhf_lite import ppo_math
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.exercises.laboratory import actions_of, depends_on_padding, kl_per_response, largest_ratio_error, moved
from rlhf_lite.models import END

LESSON = {
    "title": "The broken-PPO clinic",
    "promise": "Ten runs come to the clinic, and an eleventh at the end. None has crashed, one thing is wrong in each. "
               "You read their curves, build the instruments that find such bugs in a second, and make the last "
               "diagnosis alone.",
    "minutes": 75, "needs": "notebook 05", "step": "3, PPO: what goes silently wrong",
    "aims": ["read the vital signs of a PPO run: reward, KL, clip fraction, length, entropy, explained variance",
             "write the five checks that find most silent bugs before any training",
             "say what a curve can never show, and which test shows it instead"],
}

# ---------------------------------------------------------------- 8.1 the ratio before the first step

def _two_passes():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True, True, True, False], [True, True, False, False], [True] * 4])
    old = -torch.rand(3, 4, generator=generator) - 0.5
    noise = torch.tensor([[0.1, -0.9, 0.2, 0.0], [0.3, 0.0, 0.0, 0.0], [0.0, -0.2, 0.1, 0.0]])
    pads = torch.where(mask, 0.0, 3.0)
    return [(old + noise + pads, old, mask), (old + pads, old, mask), (old - noise, old, mask)]


def _ratio_with_pads(new, old, mask):
    return torch.expm1(new - old).abs().max()


def _log_ratio(new, old, mask):
    return torch.where(mask, new - old, 0.0).abs().max()


def _mean_ratio(new, old, mask):
    return ppo_math.masked_mean(torch.expm1(new - old).abs(), mask)


def _only_upwards(new, old, mask):
    return torch.where(mask, torch.expm1(new - old), 0.0).max()


def _old_over_new(new, old, mask):
    return largest_ratio_error(old, new, mask)


# ---------------------------------------------------------------- 8.2 the KL before the first step

def _policy_and_reference():
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    one, other = (-3 * torch.rand(2, 4, generator=generator) for _ in range(2))
    return [(one, other, mask), (one, torch.where(mask, one, -20.0), mask)]


def _kl_reversed(ours, theirs, mask):
    return -kl_per_response(ours, theirs, mask)


def _kl_per_token(ours, theirs, mask):
    return ppo_math.masked_mean(ours - theirs, mask)


def _kl_of_pads(ours, theirs, mask):
    return (ours - theirs).sum(dim=1).mean()


def _kl_absolute(ours, theirs, mask):
    return torch.where(mask, (ours - theirs).abs(), 0.0).sum(dim=1).mean()


def _kl_of_the_batch(ours, theirs, mask):
    return torch.where(mask, ours - theirs, 0.0).sum()


# ---------------------------------------------------------------- 8.4 a test for padding

def _statistics():
    values = torch.tensor([[1.0, 4.0, 7.0], [2.0, 5.0, 5.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    return [(function, values, mask) for function in (
        ppo_math.masked_mean, lambda v, m: v.sum() / m.sum(), lambda v, m: (v * m).sum() / m.sum(),
        lambda v, m: torch.where(m, v, 0.0).mean(), lambda v, m: ppo_math.masked_whiten(v, m)[m])]


def _padding_test(garbage, columns):
    def depends(statistic, values, mask):
        clean = torch.where(mask, values, 0.0)
        others = [statistic(torch.where(mask, values, fill), mask) for fill in garbage]
        if columns:
            others.append(statistic(F.pad(clean, (0, 3)), F.pad(mask, (0, 3))))
        return not all(torch.allclose(other, statistic(clean, mask), atol=1e-5) for other in others)
    return depends


def _padding_inverted(statistic, values, mask):
    return not depends_on_padding(statistic, values, mask)


# ---------------------------------------------------------------- 8.5 pad == end

def _padded_with_end():
    return [(torch.tensor([[5, 6, END, END], [5, 6, 7, END], [END, END, END, END], [5, 6, 7, 8]]), END),
            (torch.tensor([[4, 9, 9], [3, 3, 3]]), 9)]


def _end_is_lost(responses, end):
    return responses != end


def _all_are_actions(responses, end):
    return torch.ones_like(responses, dtype=torch.bool)


def _two_ends(responses, end):
    ended = (responses == end).long().cumsum(dim=1)
    return ended <= 2


def _last_action_lost(responses, end):
    return F.pad(actions_of(responses, end)[:, 1:], (0, 1))


# ---------------------------------------------------------------- 8.6 a reference that moves

def _nothing(model):
    pass


def _bias_moves(model):
    model.bias.data[0] += 1.0


def _may_be_trained(model):
    model.requires_grad_(True)


def _two_weights_move(model):
    model.weight.data[0] += torch.tensor([1.0, -1.0])


def _first_weight_moves(model):
    model.weight.data += 0.5


def _trainings():
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.zero_()
    model.requires_grad_(False)
    return [(model, train) for train in (_nothing, _bias_moves, _may_be_trained, _two_weights_move,
                                         _first_weight_moves)]


def _without_a_copy(model, train):
    before = list(model.parameters())
    train(model)
    return any(not torch.equal(old, new) for old, new in zip(before, model.parameters()))


def _asks_for_permission(model, train):
    train(model)
    return any(parameter.requires_grad for parameter in model.parameters())


def _compares_a_sum(model, train):
    before = sum(parameter.sum().item() for parameter in model.parameters())
    train(model)
    return sum(parameter.sum().item() for parameter in model.parameters()) != before


def _looks_at_the_first(model, train):
    before = next(model.parameters()).clone()
    train(model)
    return not torch.equal(before, next(model.parameters()))


EXERCISES = [
    Exercise(
        "8.1", "the ratio before the first step", 8, 1,
        ("The ratio of an action is exp(new − old). Look at |ratio − 1| of every real action and keep the largest.",
         "`torch.where(mask, torch.expm1(new_log_probs - old_log_probs), 0.0).abs().max()`: where selects before "
         "anything at padding can matter."),
        largest_ratio_error, _two_passes,
        {"padding is counted. Log-probabilities at pads mean nothing, and here they shout: your alarm would ring "
         "for every healthy run.": _ratio_with_pads,
         "this is the log-ratio. PPO clips the ratio itself: take exp (or `torch.expm1`, which is exp minus 1).":
             _log_ratio,
         "this is a mean. One broken token in a thousand would hide in it; an identity must hold for every token, "
         "so take the largest.": _mean_ratio,
         "ratios below 1 are overlooked: take the absolute value. Half of all mismatches shrink a probability.":
             _only_upwards,
         "the ratio is upside down: new over old, so exp(new − old).": _old_over_new}),
    Exercise(
        "8.2", "the KL before the first step", 8, 1,
        ("k1 of a token is log π − log π_ref. A response's KL is the sum over its tokens; then average over "
         "responses.",
         "`torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1).mean()`."),
        kl_per_response, _policy_and_reference,
        {"the sign is turned round: it is log π − log π_ref, the policy first.": _kl_reversed,
         "this is nats per token. A KL of 0.1 sounds small and is 5 nats in an answer of fifty tokens; this course "
         "counts per response, so sum over a row's tokens first.": _kl_per_token,
         "padding is counted: two models may well disagree about padding, and it is nobody's action.": _kl_of_pads,
         "with absolute values every token adds distance, so it is never 0 on average and no KL any more. k1 of a "
         "token may be negative; leave it.": _kl_absolute,
         "this is the sum over the whole batch. Average over the responses, otherwise a larger batch looks further "
         "away.":
             _kl_of_the_batch}),
    Exercise(
        "8.3", "Clara's diagnosis", 3, 1,
        ("With every score at 0 only one force is left in the loss. Which way does it push?",
         "A price that is too low would push weakly, but still in the right direction."),
        "kl sign", None,
        {"a low price lets the policy wander off when a reward pulls it. With no reward at all it would still come "
         "back, only slowly. Clara moved away.": "kl price",
         "with a flipped reward the reward curve falls (look at Dov). Clara's rises, and without any reward she "
         "still walks away: it is the other term.": "reward sign",
         "if the reference followed the policy, the measured KL would stay small. Clara's runs away.":
             "reference",
         "too large a step can throw a policy anywhere, but this was one small step from a known place, and in the "
         "exactly wrong direction. The same step brings the healthy one back.": "learning rate"}),
    Exercise(
        "8.4", "a test for padding", 15, 3,
        ("Call the statistic on clean values (0 at padding), then again after changing only what must not matter. "
         "If any answer differs, it depends on padding.",
         "Three changes find all of it: a large number at the pads, NaN at the pads, and three more columns of "
         "padding (`F.pad(values, (0, 3))`, the same for the mask). Compare with torch.allclose, which is False for "
         "NaN."),
        depends_on_padding, _statistics,
        {"a statistic that multiplies by the mask slips through, because NaN · 0 is NaN. Either you did not put NaN "
         "at the padding, or you compared with |a − b| > ε, which is False for NaN.": _padding_test((100.0,), True),
         "a statistic that divides by the number of columns slips through. Garbage at the pads is half of the test; "
         "the other half is more padding.": _padding_test((100.0, float("nan")), False),
         "a plain sum over everything slips through: with 0 at the padding it looks right. Put garbage there.":
             _padding_test((), True),
         "the answer is inverted: True should mean that the statistic DOES depend on padding.": _padding_inverted}),
    Exercise(
        "8.5", "which tokens are actions when pad == end?", 10, 2,
        ("The first END of a row was chosen by the policy, every later one is filling. A row without END was cut "
         "off: all of it are actions.",
         "Count the ENDs up to and including each place (cumsum), and take away the one at the place itself: an "
         "action has no END before it."),
        actions_of, _padded_with_end,
        {"END is lost, and with it the decision to stop. This is the bug itself: a policy trained with this mask is "
         "never told that stopping was good or bad.": _end_is_lost,
         "the filling counts as actions, so the policy is rewarded for tokens that nobody sampled.": _all_are_actions,
         "the second END counts as well. It is the first one that was sampled; ask whether there is an END *before* "
         "this place.": _two_ends,
         "every row loses its last action, those that were cut off too. Where no END was sampled the last token is "
         "an action like any other.": _last_action_lost}),
    Exercise(
        "8.6", "has the reference moved?", 8, 2,
        ("Take a fingerprint of all weights, train, take it again, compare.",
         "`[parameter.detach().clone() for parameter in model.parameters()]` before, `torch.equal` after. Without "
         "`clone` the list holds the very same tensors, and they move along."),
        moved, _trainings,
        {"you compare the weights with themselves. A list of parameters (or a state_dict) holds the tensors, not "
         "their values: what moves, moves in the list too. Clone them.": _without_a_copy,
         "`requires_grad` says who may move, not who did. An average that is copied into the weights needs no "
         "gradient, and a reference that could be trained may still be standing.": _asks_for_permission,
         "a sum is too weak a fingerprint: two weights that move in opposite directions leave it as it was. Compare "
         "every number.": _compares_a_sum,
         "only the first tensor is looked at. Frozen trunks with a moving head are a famous bug: compare all of them.":
             _looks_at_the_first}),
    Exercise(
        "8.7", "the last patient", 5, 3,
        ("Rule out first: the nine tests passed. What do they not look at? And which curve says so?",
         "An error whose mean is exactly 0 and whose spread is exactly 1, before any training: somebody made it so."),
        "white targets", None,
        {"Finn's critic looked too good, because it had seen the token. This one looks bad, and the test 'V_t blind "
         "to token t' passed.": "values late",
         "the padding test passed, and Greta's curves were hard to tell from healthy ones. Here one curve sinks.":
             "pads",
         "then clipping would begin in the very first iteration, as with Ada, and the ratio would not be 1 at step "
         "zero. It is.":
             "temperature",
         "the reference passed its fingerprint, and KL and reward do not run away as they did for Ines.": "reference",
         "the test 'END is trained' passed, and END says nothing about what the critic is taught.": "end",
         "then the policy would stop learning: without a score on the last action reward hardly moves (look at "
         "Edda). Here it rises nearly as it should.": "score place"}),
]
