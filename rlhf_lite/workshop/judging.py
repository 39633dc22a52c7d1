"""Comparing what a student's process sent with what is right: here, in the grader's own process, and nowhere else.

The idea: `checking.judge`, which also runs in the notebooks, does the comparing and finds the misconception. Instead of
the student's function it gets one that repeats what was sent, and does to its arguments what the student's did to its
own; instead of the course's function, one that repeats what that one returned when the grading began.

Some exercises look at more than a function's result: at the gradient of a loss, or at a model after a step. For those
`observe` has to run beside the student's function, in the student's process, and its numbers are sent. The others
are observed here.
"""

import copy
import functools
import itertools
import json
import random
import threading
import types
from dataclasses import dataclass, replace

import numpy as np
import torch

from rlhf_lite.exercises import checking
from rlhf_lite.plain import plain
from rlhf_lite.workshop import messages, redraw

DRAWN = "it is right for the numbers in the notebook, but not for others of the same kind."
AGAIN = "it gives different answers when it is asked the same thing twice."
_alone = threading.Lock()  # judging sets seeds, which belong to the whole process


def repeats(cases, results, changes=None):
    """A function that returns the result of the case with whose arguments it is called, and changes them likewise.

    results: one per case, or a function that returns them; changes: {case: [(place of an argument, its new value)]}.
    """
    numbers = {_key(arguments): number for number, arguments in reversed(list(enumerate(cases)))}
    turns = itertools.count()

    def repeat(*arguments, **options):
        number = numbers.get(_key(arguments), next(turns) % len(numbers))
        for place, value in (changes or {}).get(number, ()):
            _put(arguments[place], value)
        return (results() if callable(results) else results)[number]
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
            return Prepared(exercise, [()], [exercise.course], "call")
        cases = redraw.cases(exercise, shift)
        drawn = replace(exercise, cases=lambda: cases)
        wanted = checking.outcomes(drawn, exercise.course)
        return Prepared(drawn, cases, wanted, _how(drawn, wanted))


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
    exercise = found.exercise
    if reply["state"] == "raised":
        return _raised(plain(reply.get("type"), 80), plain(reply.get("text"), 300))
    sent = [messages.decode(one) for one in reply["outcomes"]]
    if exercise.cases is None:
        return checking.judge(exercise, sent[0])
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
    mark, sentence = checking.judge(_stand_in(found), repeats(found.cases, results))
    if mark == checking.DONE and changes:  # it has to be right with and without what it did to its arguments
        mark, sentence = checking.judge(_stand_in(found), repeats(found.cases, results, changes))
    return mark, sentence


def _stand_in(found):
    """The exercise with recorded results in place of functions; mistakes are tried out when first needed."""
    def recorded(which):
        return repeats(found.cases, functools.partial(_recorded, found, which))
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


def _raised(kind, text):
    """What to say of an error in the student's function."""
    if kind == "NotImplementedError":
        return checking.BLANK, "not written yet."
    if kind in ("Unusable", "Unfit"):  # the checks' own words for "the next cell could not use this"
        return checking.WRONG, text
    return checking.WRONG, f"it raised {kind}: {text or kind}"
