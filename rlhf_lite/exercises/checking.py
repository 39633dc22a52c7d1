"""Checks that teach: compare an answer with the course's own function, and name the likely misconception.

Each exercise comes with plausible wrong answers: functions, each marked with the sentence that explains what is wrong
with it (`@exercise.mistake("...")`). If a learner's function behaves like one of them on every case, `check` prints
that sentence; for any other wrong function, it prints the first case on which it differs. Whatever happens, `check`
returns a function that works, so a notebook with blanks runs to its end.

Left out: marks, deadlines, a server. Solved exercises are recorded in one small JSON file beside the notebook.
"""

import contextlib
import copy
import functools
import importlib
import inspect
import json
import os
import pkgutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rlhf_lite import files, locks
from rlhf_lite.exercises.comparing import difference, named, same
from rlhf_lite.exercises.contract import Ear, Nothing, Unfit, fit, fitted, kind, names_of, watched
from rlhf_lite.exercises.guarded import TooSlow, at_most, is_stub, last_own_line, raised_in, undisturbed
from rlhf_lite.plain import plain, told

SECONDS = 60  # for all the cases of an exercise; the slowest of the course's own functions takes a few
DONE, WRONG, BLANK = "✅", "❌", "⬜"
FINE = "fine"  # what an exercise whose `observe` gives a verdict in words should say of an answer
NEARLY_ALL = 0.75
_strict = False
_hints_shown = {}


@dataclass(frozen=True)
class Exercise:
    """One exercise, with what to tell a learner whose answer matches one of the planted mistakes."""

    id: str  # "4.2": the second exercise of notebook 04
    title: str
    minutes: int
    difficulty: int  # 1 to 3
    hints: tuple  # a nudge, the idea, nearly the code
    course: object  # the course's function, or the value that is the answer
    cases: object = None  # function without arguments -> list of argument tuples; None if the answer is a value
    mistakes: dict = field(default_factory=dict)  # {sentence: the wrong function, or value}, tried in this order
    observe: object = None  # (function, *arguments) -> what is compared; by default what the function returns
    tolerance: float = 1e-4
    task: str = ""  # Markdown: what comes in, what goes out, what counts

    def mistake(self, sentence):
        """`@exercise.mistake("why it is wrong")` above a function plants it as a wrong answer to the exercise."""
        def plant(wrong):
            self.mistakes[sentence] = wrong
            return wrong
        return plant


# ---------------------------------------------------------------- all exercises

def numbers():
    """The notebooks that have exercises: "00", "01", ... Each has a module n00, n01, ... with a list EXERCISES."""
    names = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return sorted(name[1:] for name in names if name[0] == "n" and name[1:].isdigit())


@functools.cache
def exercises(notebook=None):
    """{id: Exercise} for one notebook ("04", or 4) or for all, in order; imports only the modules it needs."""
    found = {}
    for number in numbers() if notebook is None else [f"{int(notebook):02d}"]:
        for exercise in importlib.import_module(f"{__package__}.n{number}").EXERCISES:
            if exercise.id in found:
                raise ValueError(f"Two exercises are called {exercise.id}.")
            found[exercise.id] = exercise
    return found


def find(identifier):
    """The exercise with that id; if there is none, a KeyError lists the ids of the notebook."""
    number = str(identifier).split(".")[0]
    known = exercises(int(number)) if number.isdigit() and f"{int(number):02d}" in numbers() else exercises()
    if identifier not in known:
        raise KeyError(f"There is no exercise {identifier!r}; this notebook has {', '.join(known)}.")
    return known[identifier]


# ---------------------------------------------------------------- judging

@dataclass(frozen=True)
class Verdict:
    mark: str
    sentence: str
    usable: object = None  # the answer, changed into what the next cells need, if it is right


def judge(exercise, answer):
    """(mark, sentence) for an answer: DONE, WRONG with the reason, or BLANK."""
    verdict = judged(exercise, answer)
    return verdict.mark, verdict.sentence


def judged(exercise, answer):
    """The Verdict on an answer, whatever it does."""
    if answer is Ellipsis or answer is None and exercise.cases is None:
        return Verdict(BLANK, "not written yet.")
    if exercise.cases is not None and not callable(answer):
        return Verdict(WRONG, f"a function is wanted, but this is {kind(answer)}. Hand over the function's name, "
                              "without brackets behind it.")
    if exercise.cases is None and inspect.isroutine(answer):
        return Verdict(WRONG, "a value is wanted here, not a function.")
    seconds = float(os.environ.get("RLHF_LITE_CHECK_SECONDS", SECONDS))
    with undisturbed():
        course = []
        wanted = outcomes(exercise, exercise.course, course)  # `course` gets what it returned, before `observe`
        ear = Ear()
        try:
            with at_most(seconds), contextlib.redirect_stdout(ear):
                return _compared(exercise, answer, wanted, course)
        except KeyboardInterrupt:  # the learner stopped the cell
            raise
        except TooSlow:
            return Verdict(WRONG, f"it did not finish within {seconds:g} seconds. Is there a loop that never ends?")
        except BaseException as error:  # a learner's function may raise anything, even SystemExit
            return explain(error, answer, ear.heard)


def outcomes(exercise, answer, seen=None, patterns=None, places=None):
    """The answer's results on all cases, or on those at `places`; the arguments are copies, so nothing is spoiled."""
    if exercise.cases is None:
        return [answer if patterns is None else fit(answer, exercise.course, "this is")]
    function = answer if seen is None else watched(answer, seen, patterns)
    observe = exercise.observe or (lambda function, *arguments: function(*arguments))
    cases = exercise.cases()
    places = range(len(cases)) if places is None else places
    return [observe(function, *copy.deepcopy(cases[place])) for place in places]


def _compared(exercise, answer, wanted, patterns):
    seen, tolerance = [], exercise.tolerance
    try:
        got = outcomes(exercise, answer, seen, patterns)
    except Nothing:
        raise
    except Unfit as unfit:
        if sentence := known_mistake(exercise, answer, wanted):
            return Verdict(WRONG, sentence)
        raise unfit
    if all(same(g, w, tolerance) for g, w in zip(got, wanted, strict=True)):
        usable = got[0] if exercise.cases is None else answer
        if any(fit(result, pattern) is not result for result, pattern in zip(seen, patterns, strict=False)):
            usable = fitted(answer, patterns[0])
        return Verdict(DONE, "right." if len(wanted) == 1 else f"all {len(wanted)} cases are right.", usable)
    sentence = known_mistake(exercise, answer, wanted, got)
    return Verdict(WRONG, sentence or _first_difference(exercise, answer, got, wanted))


def known_mistake(exercise, answer, wanted, got=None):
    """The sentence of the planted mistake that explains every wrong result, and nearly all results; or None."""
    found, tolerance, places = {}, exercise.tolerance, range(len(wanted))
    with contextlib.suppress(Exception):  # results that do not fit need not even be comparable
        got = outcomes(exercise, answer) if got is None else got
        wrong = [place for place in places if not same(got[place], wanted[place], tolerance)]
        right = [place for place in places if place not in wrong]
        for sentence, mistake in exercise.mistakes.items() if wrong else ():
            def agreements(places, mistake=mistake):
                results = outcomes(exercise, mistake, places=places) if places else []
                return sum(same(got[p], r, tolerance) for p, r in zip(places, results, strict=True))
            if agreements(wrong) == len(wrong):
                found.setdefault((len(wrong) + agreements(right)) / len(wanted), sentence)
    return found[max(found)] if found and max(found) >= NEARLY_ALL else None


def _first_difference(exercise, answer, got, wanted):
    index = next(i for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w, exercise.tolerance))
    if isinstance(wanted[index], str) and wanted[index] == FINE and isinstance(got[index], str):
        return f"{got[index]}."
    found = difference(got[index], wanted[index], exercise.tolerance)
    if exercise.cases is None:
        return found
    arguments = exercise.cases()[index]
    names = names_of(answer, len(arguments)) or names_of(exercise.course, len(arguments))
    return f"for {named(names, arguments)}: {found}" if names else f"in case {index + 1} of {len(got)}: {found}"


def nothing_returned(stub, printed):
    """The Verdict on a function that returned None: a blank, a `print` for a `return`, or a forgotten `return`."""
    if stub:
        return Verdict(BLANK, "not written yet.")
    return Verdict(WRONG, "it prints something but returns nothing: write `return` instead of `print`." if printed else
                   "it returns nothing. Is there a return at the end, on every path?")


def explain(error, answer, printed=False):
    """What to say about an error, and at which line of the learner's own code it came up."""
    if isinstance(error, Nothing):
        return nothing_returned(is_stub(answer), printed)
    if isinstance(error, Unfit):
        return Verdict(WRONG, str(error))
    name, said = plain(type(error).__name__, 80), told(error)
    here, direct = last_own_line(error, answer)
    if isinstance(error, NotImplementedError) and direct:
        if is_stub(answer):
            return Verdict(BLANK, "not written yet.")
        return Verdict(WRONG, "the line `raise NotImplementedError` is still in it. Delete it, now that there is code.")
    if here:
        return Verdict(WRONG, f"it raised {name}: {said}, at your line {here}")
    if isinstance(error, TypeError | ValueError) and Path(raised_in(error)).parent == Path(__file__).parent:
        return Verdict(WRONG, said)  # a sentence of the exercise's own `observe`
    return Verdict(WRONG, f"what it returns cannot be compared ({name}: {said}).")


# ---------------------------------------------------------------- what a notebook calls

def check(identifier, answer, strict=None):
    """Print ✅, ❌ with the likely reason, or ⬜; return the answer if it is right, otherwise the course's version.

    strict: raise AssertionError unless ✅ (default: as given to `setup`, or by the variable RLHF_LITE_STRICT). The
    solutions run like this, and graders can too.
    """
    exercise = find(identifier)
    verdict = judged(exercise, answer)
    mark, sentence = verdict.mark, verdict.sentence
    print(f"{mark} {identifier} {exercise.title}: {sentence}")
    if mark != DONE:
        print("   The course's version is used below, so that you can carry on. "
              f"Stuck? Run hint({identifier!r}) in a cell of its own.")
    remember(identifier, mark)
    strict = _strict or os.environ.get("RLHF_LITE_STRICT") == "1" if strict is None else strict
    if strict and mark != DONE:
        raise AssertionError(f"{identifier} {exercise.title}: {sentence}")
    return verdict.usable if mark == DONE else exercise.course


def hint(identifier):
    """Print the first hint; each further call adds the next one."""
    exercise = find(identifier)
    _hints_shown[identifier] = min(len(exercise.hints), _hints_shown.get(identifier, 0) + 1)
    for number, text in enumerate(exercise.hints[:_hints_shown[identifier]], 1):
        print(f"Hint {number} for {identifier} {exercise.title}: {text}")


def progress(notebook=None, path=None):
    """Print which exercises are solved; `notebook` ("04") limits it to one."""
    saved, found = _read(path or progress_file()), exercises(notebook)
    marks = {identifier: saved.get(identifier, {}).get("mark", BLANK) for identifier in found}
    for identifier, exercise in found.items():
        print(f"{marks[identifier]} {identifier:5s} {exercise.title} ({exercise.minutes} min)")
    done = sum(mark == DONE for mark in marks.values())
    print(f"{done} of {len(marks)} exercises solved. Kept in {path or progress_file()}")


# ---------------------------------------------------------------- the file an instructor can collect

def progress_file():
    return Path(os.environ.get("RLHF_LITE_PROGRESS") or "my_progress.json")


def _read(path):
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        return saved if isinstance(saved, dict) else {}
    except (OSError, ValueError):
        return {}


def remember(identifier, mark):
    """Record the outcome and the number of tries. A folder that cannot be written to should not stop a lesson."""
    path = progress_file()
    try:
        with locks.alone(path, patience=20):  # two notebooks may be open
            saved = _read(path)
            entry = saved.get(identifier, {"tries": 0})
            # Once solved, always solved: running a notebook with blanks again takes nothing away.
            entry = {"mark": DONE if entry.get("mark") == DONE else mark, "tries": entry["tries"] + (mark != BLANK),
                     "when": datetime.now(UTC).isoformat(timespec="seconds")}
            files.write_json(path, saved | {identifier: entry})
    except (OSError, locks.Busy) as error:
        print(f"   (Your progress was not saved. {told(error)})")
