"""Checks that teach: compare an answer with the course's own function, and name the likely misconception.

Each exercise comes with plausible wrong answers: functions, each marked with the sentence that explains what is wrong
with it (`@exercise.mistake("...")`). If a learner's function behaves like one of them on every case, `check` prints
that sentence; for any other wrong function, it prints the first case on which it differs. Whatever happens, `check`
returns a function that works, so a notebook with blanks runs to its end.

Left out: marks, deadlines, a server. Solved exercises are recorded in one small JSON file beside the notebook.
"""

import copy
import functools
import importlib
import json
import os
import pkgutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from rlhf_lite import files, locks
from rlhf_lite.exercises.guarded import TooSlow, at_most, undisturbed
from rlhf_lite.plain import plain, told

SECONDS = 60  # for all the cases of an exercise; the slowest of the course's own functions takes a few
DONE, WRONG, BLANK = "✅", "❌", "⬜"
_strict = False
_hints_shown = {}


@dataclass(frozen=True)
class Exercise:
    """One exercise, with what to tell a learner whose answer matches one of the planted mistakes."""

    id: str  # "4.2": the second exercise of notebook 04
    title: str
    minutes: int
    difficulty: int  # 1 to 3
    hints: tuple  # two of them; the second gives more away
    course: object  # the course's function, or the value that is the answer
    cases: object = None  # function without arguments -> list of argument tuples; None if the answer is a value
    mistakes: dict = field(default_factory=dict)  # {sentence: the wrong function, or value}, tried in this order
    observe: object = None  # (function, *arguments) -> what is compared; by default what the function returns
    tolerance: float = 1e-4

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


# ---------------------------------------------------------------- comparing

def outcomes(exercise, answer):
    """The answer's results on all cases; it gets copies of the arguments, so that it cannot spoil later calls."""
    if exercise.cases is None:
        return [answer]
    observe = exercise.observe or (lambda function, *arguments: function(*arguments))
    return [observe(answer, *copy.deepcopy(arguments)) for arguments in exercise.cases()]


def same(a, b, tolerance):
    """Whether structure and values agree within the tolerance; NaN equals NaN; tensors, arrays and numbers may mix."""
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(same(a[k], b[k], tolerance) for k in b)
    if isinstance(b, str) or b is None:
        return isinstance(a, type(b)) and a == b
    if isinstance(b, (list, tuple)) and not _numeric(b):
        return isinstance(a, (list, tuple)) and len(a) == len(b) and all(
            same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    x, y = _array(a), _array(b)
    return x is not None and x.shape == y.shape and bool(np.allclose(x, y, atol=tolerance, rtol=tolerance,
                                                                     equal_nan=True))


def _numeric(value):
    return _array(value) is not None


def _array(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
        return array.astype(float) if array.dtype.kind in "biuf" else None
    except (ValueError, TypeError):
        return None


def judge(exercise, answer):
    """(mark, sentence) for an answer: DONE, WRONG with the reason, or BLANK."""
    if answer is Ellipsis or answer is None and exercise.cases is None:
        return BLANK, "not written yet."
    with undisturbed():
        try:
            with at_most(seconds := float(os.environ.get("RLHF_LITE_CHECK_SECONDS", SECONDS))):
                got = outcomes(exercise, answer)
        except NotImplementedError:
            return BLANK, "not written yet."
        except KeyboardInterrupt:  # the learner stopped the cell
            raise
        except TooSlow:
            return WRONG, f"it did not finish within {seconds:g} seconds. Is there a loop that never ends?"
        except BaseException as error:  # a learner's function may raise anything, even SystemExit
            return WRONG, f"it raised {plain(type(error).__name__, 80)}: {told(error)}"
        wanted = outcomes(exercise, exercise.course)
        try:
            with at_most(seconds):  # comparing calls methods of what was returned, which may be anything, too
                return _compare(exercise, got, wanted)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return WRONG, f"what it returns cannot be compared ({plain(type(error).__name__, 80)}: {told(error)})."


def _compare(exercise, got, wanted):
    if all(same(g, w, exercise.tolerance) for g, w in zip(got, wanted, strict=True)):
        return DONE, "right." if len(wanted) == 1 else f"all {len(wanted)} cases are right."
    if all(g is None for g in got):
        return WRONG, "it returns nothing. Is there a return at the end?"
    for sentence, wrong in exercise.mistakes.items():
        if all(same(g, w, exercise.tolerance) for g, w in zip(got, outcomes(exercise, wrong), strict=True)):
            return WRONG, sentence
    return WRONG, _first_difference(exercise, got, wanted)


def _first_difference(exercise, got, wanted):
    index = next(i for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w, exercise.tolerance))
    g, w = got[index], wanted[index]
    got_array, wanted_array = _array(g), _array(w)
    if got_array is not None and wanted_array is not None and got_array.shape != wanted_array.shape:
        return f"the shape should be {wanted_array.shape}, but it is {got_array.shape}."
    asked = "" if exercise.cases is None else f"for {shown(exercise.cases()[index])} "
    return f"{asked}expected {shown(w)}, got {shown(g)}."


def shown(value, limit=160):
    """A value as a short piece of text."""
    if isinstance(value, tuple):
        text = ", ".join(shown(part, limit) for part in value)
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{k}: {shown(v, limit)}" for k, v in value.items()) + "}"
    elif _array(value) is not None:
        text = np.array2string(_array(value), precision=4, separator=", ", threshold=24).replace("\n", "")
    else:
        text = plain(repr(value), 10 * limit)
    return text if len(text) <= limit else text[:limit - 1] + "…"


# ---------------------------------------------------------------- what a notebook calls

def check(identifier, answer, strict=None):
    """Print ✅, ❌ with the likely reason, or ⬜; return the answer if it is right, otherwise the course's version.

    strict: raise AssertionError unless ✅ (default: as given to `setup`, or by the variable RLHF_LITE_STRICT). The
    solutions run like this, and graders can too.
    """
    exercise = find(identifier)
    mark, sentence = judge(exercise, answer)
    print(f"{mark} {identifier} {exercise.title}: {sentence}")
    if mark != DONE:
        print("   The course's version is used below, so that you can carry on. "
              f"Stuck? Run hint({identifier!r}) in a cell of its own.")
    remember(identifier, mark)
    strict = _strict or os.environ.get("RLHF_LITE_STRICT") == "1" if strict is None else strict
    if strict and mark != DONE:
        raise AssertionError(f"{identifier} {exercise.title}: {sentence}")
    return answer if mark == DONE else exercise.course


def hint(identifier):
    """Print the first hint; when called again, the second one too."""
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
