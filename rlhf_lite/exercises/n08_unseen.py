"""Exercises 8.4 to 8.6 and 8.9: what no curve shows (padding, END, a moving reference), and the last patient."""

import torch
import torch.nn.functional as F

from rlhf_lite import ppo_math
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.exercises.laboratory import actions_of, depends_on_padding, moved
from rlhf_lite.models import END

# ---------------------------------------------------------------- 8.4 a test for padding

def _statistics():
    values = torch.tensor([[1.0, 4.0, 7.0], [2.0, 5.0, 5.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    return [(function, values, mask) for function in (
        ppo_math.masked_mean, lambda v, m: v.sum() / m.sum(), lambda v, m: (v * m).sum() / m.sum(),
        lambda v, m: torch.where(m, v, 0.0).mean(), lambda v, m: ppo_math.masked_whiten(v, m)[m])]


padding_test = Exercise(
    "8.4", "a test for padding", 15, 3,
    ("Name everything about padding that should not matter. Then change it.",
     "Call the statistic on clean values (0 at padding), then again after changing only things that must not matter. "
     "If any result differs, it depends on padding.",
     "Three changes are enough: a large number at the padding, NaN at the padding, and three more columns of "
     "padding (`F.pad(values, (0, 3))`, the same for the mask). Compare with torch.allclose, which is False for "
     "NaN."),
    task="`statistic` is a function of a tensor `values` (rows, columns) and a bool tensor `mask` of the same shape; "
         "it returns a tensor. Return True if its result depends on what stands at padding (large numbers, NaN) or on "
         "how many columns of padding there are, otherwise False. What stands at padding in the given `values` is not "
         "to be trusted.",
    course=depends_on_padding, cases=_statistics)


def _fooled(statistic, values, mask, garbage=(), columns=True):
    """A test for padding that tries only part of what is needed: this garbage at padding, more columns or not."""
    clean = torch.where(mask, values, 0.0)
    others = [statistic(torch.where(mask, values, fill), mask) for fill in garbage]
    if columns:
        others.append(statistic(F.pad(clean, (0, 3)), F.pad(mask, (0, 3))))
    return not all(torch.allclose(other, statistic(clean, mask), atol=1e-5) for other in others)


@padding_test.mistake("a statistic that multiplies by the mask slips through, because NaN · 0 is NaN. Either you did "
                      "not put NaN at the padding, or you compared with |a − b| > ε, which is False for NaN.")
def _without_nan(statistic, values, mask):
    return _fooled(statistic, values, mask, garbage=(100.0,))


@padding_test.mistake("a statistic that divides by the number of columns slips through. Garbage at the padding is half "
                      "of the test; the other half is more padding.")
def _without_more_columns(statistic, values, mask):
    return _fooled(statistic, values, mask, garbage=(100.0, float("nan")), columns=False)


@padding_test.mistake("a plain sum over everything slips through: with 0 at the padding it looks right. Put garbage "
                      "there.")
def _without_garbage(statistic, values, mask):
    return _fooled(statistic, values, mask)


@padding_test.mistake("the answer is inverted: True should mean that the statistic DOES depend on padding.")
def _padding_inverted(statistic, values, mask):
    return not depends_on_padding(statistic, values, mask)


# ---------------------------------------------------------------- 8.5 pad == end

def _padded_with_end():
    return [(torch.tensor([[5, 6, END, END], [5, 6, 7, END], [END, END, END, END], [5, 6, 7, 8]]), END),
            (torch.tensor([[4, 9, 9], [3, 3, 3]]), 9), (torch.tensor([[9], [4]]), 9)]


real_actions = Exercise(
    "8.5", "which tokens are actions when pad == end?", 10, 2,
    ("Which END did the policy choose, and which was put there by whoever filled the row?",
     "The first END of a row was chosen by the policy; every later one is padding. A row without END was cut "
     "off: all its tokens are actions.",
     "Count the ENDs up to and including each place (cumsum), and subtract the one at the place itself: an "
     "action has no END before it."),
    task="`responses` (batch, response) are token ids; rows that ended are filled up with the id `end` itself, rows "
         "that were cut off do not contain it. Return a bool tensor of the same shape: True for the tokens that the "
         "policy sampled, the first END among them.",
    course=actions_of, cases=_padded_with_end)


@real_actions.mistake("END is lost, and with it the decision to stop. This is the bug itself: a policy trained with "
                      "this mask is never told that stopping was good or bad.")
def _end_is_lost(responses, end):
    return responses != end


@real_actions.mistake("the padding counts as actions, so the policy is rewarded for tokens that it never sampled.")
def _all_are_actions(responses, end):
    return torch.ones_like(responses, dtype=torch.bool)


@real_actions.mistake("the second END counts as well. Only the first one was sampled; ask whether there is an END "
                      "*before* this place.")
def _two_ends(responses, end):
    ended = (responses == end).long().cumsum(dim=1)
    return ended <= 2


@real_actions.mistake("every row loses its last action, even rows that were cut off. If no END was sampled, the last "
                      "token is an action like any other.")
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


def _turns_round(model):  # a second time would undo it
    model.weight.data *= -1


def _trainings():
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.zero_()
    model.requires_grad_(False)
    return [(model, train) for train in (_nothing, _bias_moves, _may_be_trained, _two_weights_move,
                                         _first_weight_moves, _turns_round)]


reference_at_rest = Exercise(
    "8.6", "has the reference moved?", 8, 2,
    ("What do you have to keep before the training to be able to compare afterwards?",
     "Take a fingerprint of all weights, train, take it again, and compare.",
     "`[parameter.detach().clone() for parameter in model.parameters()]` before, `torch.equal` after. Without "
     "`clone`, the list contains the very same tensors, which move along."),
    task="`model` is a torch module and `train` a function that is called once with it, and may or may not change it. "
         "Return True if any number in any of the model's parameters has changed by the training, otherwise False.",
    course=moved, cases=_trainings)


@reference_at_rest.mistake("you compare the weights with themselves. A list of parameters (or a state_dict) contains "
                           "the tensors, not copies of their values: if they move, the list moves too. Clone them.")
def _without_a_copy(model, train):
    before = list(model.parameters())
    train(model)
    return any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@reference_at_rest.mistake("`requires_grad` says who may move, not who did. An average that is copied into the weights "
                           "needs no gradient, and a reference that could be trained may not have moved.")
def _asks_for_permission(model, train):
    train(model)
    return any(parameter.requires_grad for parameter in model.parameters())


@reference_at_rest.mistake("a sum is too weak a fingerprint: two weights that move in opposite directions leave it "
                           "unchanged. Compare every number.")
def _compares_a_sum(model, train):
    before = sum(parameter.sum().item() for parameter in model.parameters())
    train(model)
    return sum(parameter.sum().item() for parameter in model.parameters()) != before


@reference_at_rest.mistake("`train` is called twice. Call it once: a second training may undo the first, and costs "
                           "time.")
def _trains_again(model, train):
    return moved(model, lambda model: (train(model), train(model)))


@reference_at_rest.mistake("you look only at the first tensor. Frozen trunks with a moving head are a famous bug: "
                           "compare all of them.")
def _looks_at_the_first(model, train):
    before = next(model.parameters()).clone()
    train(model)
    return not torch.equal(before, next(model.parameters()))


# ---------------------------------------------------------------- 8.9 the last patient

last_patient = Exercise(
    "8.9", "the last patient", 5, 3,
    ("Ten tests passed. What do none of them look at?",
     "First rule things out: the ten tests passed. What do they not look at? And which curve shows it?",
     "An error whose mean is exactly 0 and whose spread is exactly 1, before any training: something made it so."),
    task="You have the last patient's curves, ten passed tests, and the critic's errors in a first batch. Write the "
         "diagnosis as one of the texts below.",
    course="white targets",
    mistakes={
        "Finn's critic looked too good, because it had seen the token. This one looks bad, and the test 'V_t blind to "
        "token t' passed.": "values late",
        "the padding test passed, and Greta's curves were hard to tell from healthy ones. Here one curve sinks.":
            "pads",
        "then clipping would begin in the very first iteration, as with Ada, and the ratio would not be 1 at step "
        "zero. It is.": "temperature",
        "the reference passed its fingerprint, and KL and reward do not run away as they did for Ines.": "reference",
        "the test 'END is trained' passed, and END has nothing to do with what the critic is taught.": "end",
        "then the policy would stop learning: without a score on the last action, the reward hardly moves (look at "
        "Edda). Here it rises nearly as it should.": "score place"})


EXERCISES = [padding_test, real_actions, reference_at_rest]
LAST = [last_patient]  # after the sampler, which is exercises 8.7 and 8.8
