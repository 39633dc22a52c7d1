"""Comparing what a student's process sent with what is right: here, in the grader's own process, and nowhere else.

The idea: `checking.judge`, which also runs in the notebooks, does the comparing and finds the misconception. Instead of
the student's function it gets one that repeats what was sent, and does to its arguments what the student's did to its
own; instead of the course's function, one that repeats what that one returned when the grading began.

Some exercises look at more than a function's result: at the gradient of a loss, or at a model after a step. For those
`observe` has to run beside the student's function, in the student's process, and its numbers are sent. The others
are observed here.
"""

import copy
import dataclasses
import functools
import inspect
import itertools
import json
import numbers
import random
import threading
import types
from dataclasses import dataclass, replace

import numpy as np
import torch

from rlhf_lite.exercises import checking, contract
from rlhf_lite.plain import plain
from rlhf_lite.workshop import messages, redraw

DRAWN = "it is right for the numbers in the notebook, but not for others of the same kind."
AGAIN = "it gives different answers when it is asked the same thing twice."
_alone = threading.Lock()  # judging sets seeds, which belong to the whole process


def repeats(cases, results, changes=None, signature=None):
    """A function that returns the result of the case with whose arguments it is called, and changes them likewise.

    results: one per case, or a function that returns them; changes: {case: [(place of an argument, its new value)]};
    signature: that of the function in whose place it stands.
    """
    numbers = {_key(arguments): number for number, arguments in reversed(list(enumerate(cases)))}
    turns = itertools.count()

    def repeat(*arguments, **options):
        number = numbers.get(_key(arguments), next(turns) % len(numbers))
        for place, value in (changes or {}).get(number, ()):
            _put(arguments[place], value)
        return (results() if callable(results) else results)[number]
    if signature is not None:
        repeat.__signature__ = signature
    return repeat


def _key(arguments):
    """Arguments as text, so that copies are the same; a function is known by what it is."""
    return json.dumps([id(one) if isinstance(one, types.FunctionType) else messages.encode(one) for one in arguments])


def _put(argument, value):
    """Make the content of an argument that of a value, in place."""
    if isinstance(argument, list) and isinstance(value, list):
        argument[:] = value
    elif isinstance(argument, dict) and isinstance(value, dict):
        argument.clear()
        argument.update(value)
    elif isinstance(argument, torch.Tensor) and isinstance(value, torch.Tensor) and argument.shape == value.shape:
        argument.data.copy_(value.detach())
    elif isinstance(argument, np.ndarray) and isinstance(value, np.ndarray) and argument.shape == value.shape:
        argument[...] = value


@dataclass(frozen=True, eq=False)
class Prepared:
    """An exercise, ready to be judged thirty times."""

    exercise: object
    cases: list
    wanted: list
    how: str  # "call": results are sent and observed here; "observe": what was observed there is sent

    patterns: list  # for "observe": per case, results of the right kinds, with nothing in them

    def kinds(self, order):
        """The patterns of the cases in an order, as a message for the process that has to look at the results."""
        return messages.encode([self.patterns[number] for number in order]) if self.how == "observe" else None

    def order(self):
        """The cases in a secret order; where outcomes are so few that one could guess, some are asked twice."""
        numbers = list(range(len(self.cases)))
        if all(isinstance(one, bool) for one in self.wanted):
            numbers *= 2
        random.SystemRandom().shuffle(numbers)
        return numbers


@functools.cache
def prepared(identifier, shift=0):
    """Find the right outcomes of an exercise and how it can be observed; with a shift, for other random numbers."""
    exercise = checking.find(identifier)
    with _alone:
        if exercise.cases is None:
            return Prepared(exercise, [()], [exercise.course], "call", [])
        cases = redraw.cases(exercise, shift)
        drawn = replace(exercise, cases=lambda: cases)
        wanted, patterns = [], []
        for place in range(len(cases)):
            returned = []
            wanted += checking.outcomes(drawn, exercise.course, returned, places=[place])
            patterns.append([_empty(one) for one in returned])
        return Prepared(drawn, cases, wanted, _how(drawn, wanted), patterns)


def _empty(result):
    """Something of the same kind as a right result that does not tell the result."""
    if isinstance(result, torch.Tensor):
        return torch.zeros_like(result).requires_grad_(result.requires_grad)
    if isinstance(result, np.ndarray):
        return np.zeros_like(result)
    if isinstance(result, dict):
        return dict.fromkeys([""], _empty(next(iter(result.values())))) if result else {}
    if hasattr(result, "_fields"):
        return type(result)(*map(_empty, result))
    if dataclasses.is_dataclass(result):
        return replace(result, **{one.name: _empty(getattr(result, one.name)) for one in dataclasses.fields(result)})
    if isinstance(result, tuple):
        return tuple(map(_empty, result))
    if isinstance(result, list):
        return [_empty(one) for one in result[:1]]
    return type(result)() if isinstance(result, (bool, str, numbers.Number)) else None


@functools.cache
def secret_shift(identifier):
    """The shift for a second look at an exercise, the same for everybody in this grading; 0 if there is none."""
    with _alone:
        shift = random.SystemRandom().randrange(1000, 10**6)
        return shift if redraw.can_be_drawn(checking.find(identifier), shift) else 0


def _how(exercise, wanted):
    """ "call" if the course's plain results, sent to and fro, can be observed here to the same effect."""
    if exercise.observe is None:
        return "call"
    try:
        for arguments, right in zip(exercise.cases(), wanted, strict=True):
            sent = messages.decode(messages.encode(exercise.course(*copy.deepcopy(arguments))))
            asked = []

            def repeat(*given, sent=sent, asked=asked, **options):
                asked.append(messages.encode((given, options)))
                return sent
            got = exercise.observe(repeat, *copy.deepcopy(arguments))
            if asked != [messages.encode((arguments, {}))] or not checking.same(got, right, exercise.tolerance):
                return "observe"
    except Exception:  # no gradient flows through numbers that were sent
        return "observe"
    return "call"


# ---------------------------------------------------------------- the verdict

def verdict(found, reply, order):
    """(mark, sentence) for a reply of a student's process to the cases of `found` in that order."""
    with _alone:
        try:
            return _verdict(found, reply, order)
        except messages.Unreadable as problem:
            return checking.WRONG, f"what it returns is {problem}."
        except Exception as error:  # a value that nobody has thought of must not stop the others' grading
            return checking.WRONG, f"what it returns cannot be compared ({plain(type(error).__name__, 80)})."


def _verdict(found, reply, order):
    exercise, sent = found.exercise, [messages.decode(one) for one in reply.get("outcomes", [])]
    if reply.get("kind"):
        return checking.judge(exercise, _of_another_kind if exercise.cases is None else messages.Odd(reply["kind"]))
    if exercise.cases is None:
        return checking.judge(exercise, sent[0])
    if reply["state"] == "raised" and not sent:
        return checking.BLANK if reply.get("blank") is True else checking.WRONG, plain(reply.get("sentence"), 2000)
    if len(sent) != len(order):
        raise messages.Unreadable("not one value for each case")
    by_case = {}
    for number, one in zip(order, sent, strict=True):
        if number in by_case and not checking.same(one, by_case[number], exercise.tolerance):
            return checking.WRONG, AGAIN
        by_case[number] = one
    changes = {int(number): [(int(place), messages.decode(value)) for place, value in changed]
               for number, changed in reply.get("changes", [])}
    results = [by_case[number] for number in range(len(found.cases))]
    answer = repeats(found.cases, results, changes, _signature(reply.get("names")))
    if reply["state"] == "raised":  # of the wrong kind; perhaps a known mistake
        known = checking.known_mistake(_stand_in(found), answer, checking.outcomes(_stand_in(found), repeats(
            found.cases, functools.partial(_recorded, found, None))))
        return checking.WRONG, known or plain(reply.get("sentence"), 2000)
    mark, sentence = checking.judge(_stand_in(found), answer)
    if sentence == checking.nothing_returned(False, False).sentence:
        said = checking.nothing_returned(reply.get("stub") is True, reply.get("printed") is True)
        return said.mark, said.sentence
    return mark, sentence


def _of_another_kind(*_):
    """A function, where a value is wanted."""


def _signature(names):
    """A signature with these names, for sentences that say them, which takes any arguments; None without names."""
    if not isinstance(names, list) or not all(isinstance(one, str) and one.isidentifier() for one in names):
        return None
    named, kinds = dict.fromkeys(one for one in names[:20] if one not in ("rest", "options")), inspect.Parameter
    return inspect.Signature([*(kinds(one, kinds.POSITIONAL_OR_KEYWORD, default=None) for one in named),
                              kinds("rest", kinds.VAR_POSITIONAL), kinds("options", kinds.VAR_KEYWORD)])


def _stand_in(found):
    """The exercise with recorded results in place of functions; mistakes are tried out when first needed."""
    signature = _signature(contract.names_of(found.exercise.course))

    def recorded(which):
        return repeats(found.cases, functools.partial(_recorded, found, which), signature=signature)
    observe = found.exercise.observe if found.how == "call" else None
    return replace(found.exercise, course=recorded(None), observe=observe, cases=lambda: found.cases,
                   mistakes={one: recorded(one) for one in found.exercise.mistakes})


@functools.cache
def _recorded(found, which):
    """The results of the course's function, or of a mistake, as a student's process would send them."""
    exercise = found.exercise
    function = exercise.course if which is None else exercise.mistakes[which]
    if found.how == "observe":
        return checking.outcomes(exercise, function)
    return [function(*copy.deepcopy(arguments)) for arguments in found.cases]
