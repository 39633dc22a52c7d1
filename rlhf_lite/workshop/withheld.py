"""The course's own answers, kept where a student's code cannot reach them.

The idea: a student's process has the library (the answers call it), but no answer. The code of every function that is
an answer, or that was written to make right or wrong ones, is replaced there by a sentence, whatever name it was
imported under. When an exercise has been judged, the grader hands back the code of that one, because in the notebook,
too, a later exercise goes on with the course's version.

What a student copies by hand is not this file's business: a copied answer is right.
"""

import base64
import contextlib
import functools
import importlib
import inspect
import marshal
import sys
import types
from pathlib import Path

import rlhf_lite
from rlhf_lite.exercises import checking

OTHERS = ("__main__", "workshop", "exercises")  # parts of the package in which no library function is looked for
USED = ("exercises", "tea_room")  # but notebooks call this one


@functools.cache
def all_modules():
    """All modules of the library, imported; a part that this machine cannot import is left out."""
    folder, found = Path(rlhf_lite.__file__).parent, []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if (parts[0] not in OTHERS or parts == USED) and parts[-1] != "__init__":
            with contextlib.suppress(ImportError):
                found.append(importlib.import_module(".".join(("rlhf_lite", *parts))))
    return found


def exercise_modules():
    """The modules in which exercises, cases and mistakes are written (n00, n05_kl, laboratory, ...)."""
    import rlhf_lite.exercises as package
    checking.exercises()
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(f"{package.__name__}.n")
            or name in (f"{package.__name__}.laboratory", f"{package.__name__}.clinic")]


def functions(module):
    """{name: function} of the functions written in a module, without what decorators put around them."""
    found = {name: inspect.unwrap(thing) for name, thing in vars(module).items()
             if callable(thing) and not isinstance(thing, type)}
    return {name: thing for name, thing in found.items()
            if isinstance(thing, types.FunctionType) and thing.__module__ == module.__name__}


# ---------------------------------------------------------------- the grader's side

@functools.cache
def answers(identifier):
    """[(module, name)] of the functions that answer an exercise: the course's, and those of its name in the library."""
    exercise = checking.find(identifier)
    if exercise.cases is None:
        return []
    name, home = exercise.course.__name__, exercise.course.__module__
    return list(dict.fromkeys([(home, name)] + [
        (module.__name__, name) for module in all_modules() if name in functions(module)]))


def code_of(identifier):
    """The same with the functions' code, as text: what `give_back` takes."""
    return [[module, name, base64.b64encode(marshal.dumps(functions(sys.modules[module])[name].__code__)).decode()]
            for module, name in answers(identifier)]


# ---------------------------------------------------------------- the student's side

def _sentence(*arguments, **options):
    raise RuntimeError("it calls the course's own answer, which is not there while you are graded; write your own.")


def withhold(function):
    """Replace a function's code, for everybody who holds the function."""
    function.__code__ = _sentence.__code__.replace(co_freevars=function.__code__.co_freevars)


def withhold_answers(pairs):
    """The answers of one notebook, as listed by `answers`; before any of the student's code runs."""
    for module, name in pairs:
        found = functions(sys.modules[module]).get(name) if module in sys.modules else None
        if found is not None:
            withhold(found)


def give_back(coded):
    """Put the code of functions back that an exercise has been judged on."""
    for module, name, text in coded:
        if module in sys.modules and name in functions(sys.modules[module]):
            functions(sys.modules[module])[name].__code__ = marshal.loads(base64.b64decode(text))


def strip_exercises():
    """Leave of the exercises only what it takes to ask them: cases and how they are observed."""
    from rlhf_lite.exercises import clinic, laboratory, n01_rows
    public = {*functions(clinic).values(), *functions(laboratory).values(), n01_rows.plain_text, n01_rows.leaks}
    for exercise in checking.exercises().values():
        public |= reachable(exercise.cases) | reachable(exercise.observe)
    for module in exercise_modules():
        for function in functions(module).values():
            if function not in public:
                withhold(function)
    for exercise in checking.exercises().values():
        for mistake in exercise.mistakes.values():
            if isinstance(mistake, types.FunctionType):
                withhold(mistake)
        exercise.mistakes.clear()
        object.__setattr__(exercise, "course", None)
        object.__setattr__(exercise, "hints", ())


def reachable(function):
    """A function and the functions of the exercises' modules that it calls, directly or not."""
    found, waiting = set(), [function]
    while waiting:
        thing = inspect.unwrap(waiting.pop()) if waiting[-1] is not None else waiting.pop()
        if not isinstance(thing, types.FunctionType) or thing in found:
            continue
        if not thing.__module__.startswith("rlhf_lite.exercises."):
            continue
        found.add(thing)
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        waiting += [part for part in cells if callable(part)]
        waiting += [vars_of[name] for vars_of in (thing.__globals__,) for name in _names(thing.__code__)
                    if callable(vars_of.get(name))]
    return found


def _names(code):
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return set(code.co_names).union(*(_names(part) for part in inner))
