"""Comparing what a student's process sent with what is right: here, in the grader's own process, and nowhere else.

The idea: `checking.judge`, which also runs in the notebooks, does the comparing and finds the misconception. Instead of
the student's function it gets one that repeats what was sent, and instead of the course's function one that repeats
what that one returned when the grading began.

Some exercises look at more than a function's result: at the gradient of a loss, or at a model after a step. For those
`observe` has to run beside the student's function, in the student's process, and its numbers are sent. The others
are observed here.
"""

import copy
import functools
import random
import threading
from dataclasses import dataclass, replace

from rlhf_lite.exercises import cases as cases_of_exercises
from rlhf_lite.exercises import checking
from rlhf_lite.plain import plain
from rlhf_lite.workshop import messages, redraw

DRAWN = "it is right for the numbers in the notebook, but not for others of the same kind."
AGAIN = "it gives different answers when it is asked the same thing twice."
_alone = threading.Lock()  # judging sets seeds, which belong to the whole process


class Repeats:
    """A function that returns the given outcomes, one after the other, whatever it is called with."""

    def __init__(self, outcomes=None, error=None):
        self.outcomes, self.error, self.calls = outcomes, error, 0

    def __call__(self, *arguments, **options):
        if self.error is not None:
            raise self.error
        found = self.outcomes() if callable(self.outcomes) else self.outcomes
        self.calls += 1
        return found[(self.calls - 1) % len(found)]


@dataclass(frozen=True)
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
        return checking.judge(_stand_in(found), Repeats(error=_error(reply)))
    sent = [messages.decode(one) for one in reply["outcomes"]]
    if exercise.cases is None:
        return checking.judge(exercise, sent[0])
    if len(sent) != len(order):
        raise messages.Unreadable("not one value for each case")
    by_case = {}
    for number, one in zip(order, sent, strict=True):
        if found.how == "call" and exercise.observe is not None:
            try:
                one = exercise.observe(Repeats([one]), *copy.deepcopy(found.cases[number]))
            except Exception as error:
                return checking.judge(_stand_in(found), Repeats(error=error))
        by_case.setdefault(number, []).append(one)
    if any(not checking.same(one, versions[0], exercise.tolerance) for versions in by_case.values()
           for one in versions[1:]):
        return checking.WRONG, AGAIN
    return checking.judge(_stand_in(found), Repeats([by_case[number][0] for number in range(len(found.cases))]))


def _stand_in(found):
    """The exercise with recorded outcomes in place of functions; mistakes are tried out when first needed."""
    return replace(found.exercise, course=Repeats(found.wanted), observe=None, cases=lambda: found.cases, mistakes={
        sentence: Repeats(functools.partial(_of_mistake, found.exercise.id, sentence))
        for sentence in found.exercise.mistakes})


@functools.cache
def _of_mistake(identifier, sentence):
    exercise = checking.find(identifier)
    return checking.outcomes(exercise, exercise.mistakes[sentence])


def _error(reply):
    """An error like the one that the student's function raised."""
    kind, text = plain(reply.get("type"), 80), plain(reply.get("text"), 300)
    if kind == "NotImplementedError":
        return NotImplementedError(text)
    known = getattr(cases_of_exercises, "Unusable", None)  # the exercises' own word for "the next cell cannot use this"
    return known(text) if known and kind == known.__name__ else type(kind, (Exception,), {})(text)
