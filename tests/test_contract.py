"""Every exercise against answers that are right but of another kind: either harmless, or a sentence says why not.

The variants are made from the course's own functions, so a new exercise is covered as soon as it exists.
"""

import dataclasses
import functools
import inspect
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlhf_lite.exercises.checking import DONE, WRONG, Exercise, exercises, judge, judged
from rlhf_lite.exercises.comparing import difference, same
from rlhf_lite.exercises.contract import Unfit, fit, kind, watched


def first_case(exercise):
    """The first case only, which shows of what kind an answer is, and with fewer random draws."""
    return [tuple(100 if isinstance(part, int) and part > 1000 else part for part in exercise.cases()[0])]


FUNCTIONS = [dataclasses.replace(exercise, cases=functools.partial(first_case, exercise))
             for exercise in exercises().values() if exercise.cases is not None]


def everywhere(change, value):
    """`change` applied to every part of a result; it returns what it does not change as it is."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(everywhere(change, part) for part in value))
    if isinstance(value, list | tuple):
        return change(type(value)(everywhere(change, part) for part in value))
    if isinstance(value, dict):
        return change({key: everywhere(change, part) for key, part in value.items()})
    return change(value)


def only(types, change, condition=lambda value: True):
    return lambda value: change(value) if isinstance(value, types) and condition(value) else value


def with_gradient(tensor):
    return tensor + torch.zeros((), requires_grad=True)


def floating(tensor):
    return tensor.is_floating_point()


TENSOR, NUMBER = "tensor", r"number|several|results|list"
CHANGES = {  # name: (how a part of the result is changed, what the sentence must say)
    "a list for a tensor": (only(torch.Tensor, lambda t: t.tolist(), lambda t: t.ndim), TENSOR),
    "numpy for a tensor": (only(torch.Tensor, lambda t: t.detach().numpy()), TENSOR),
    "a number for a tensor": (only(torch.Tensor, lambda t: t.item(), lambda t: t.ndim == 0), TENSOR),
    "a list for an array": (only(np.ndarray, lambda a: a.tolist()), "numpy array"),
    "a tensor for an array": (only(np.ndarray, torch.as_tensor), "numpy array"),
    "a tensor for a number": (only((float, int, np.generic), torch.tensor), "number"),
    "an array for a number": (only((float, int, np.generic), np.array), "number"),
    "numpy's own numbers": (only((float, int), lambda x: np.array(x)[()]), "number|True"),
    "a text for a number": (only((float, int, np.generic), str), "single number|True or False"),
    "a tuple for a list": (only(list, tuple), "list"),
    "a list for a tuple": (only(tuple, list), "results|names"),
    "a generator": (only((list, tuple), iter), "generator"),
    "one result too few": (only(tuple, lambda t: t[:-1]), "are wanted|not of|names"),
    "detached": (only(torch.Tensor, lambda t: t.detach(), lambda t: t.requires_grad), "no gradient|detach|depends on"),
    "with a gradient": (only(torch.Tensor, with_gradient, lambda t: floating(t) and not t.requires_grad), "gradient"),
    "whole numbers": (only(torch.Tensor, lambda t: t.long(), floating), "floats"),
    "floats": (only(torch.Tensor, lambda t: t.double(), lambda t: not floating(t)), "integers|True or False"),
    "double": (only(torch.Tensor, lambda t: t.double(), floating), "float"),
    "short": (only(torch.Tensor, lambda t: t.int(), lambda t: t.dtype == torch.int64), "integers"),
    "on another device": (only(torch.Tensor, lambda t: t.detach().to("meta").requires_grad_(t.requires_grad)),
                          "device"),
    "one dimension more": (only(torch.Tensor, lambda t: t[None]), "shape|single number"),
    "pairs for a dict": (only(dict, lambda d: list(d.items())), "dict")}
WHOLE = {  # the same for the result as a whole
    "nothing": (lambda result: None, "returns nothing"),
    "printed": (lambda result: print(result), "return` instead of `print"),
    "a text": (str, "text|names|dict|wanted|expected|tensor"),
    "in a list": (lambda result: [result], "wanted|tensor|expected|names|results|array|dict|shape|not of"),
    "a function": (lambda result: lambda: result, "function|names|results")}
SPOILED = "changes `"


def variant(exercise, change):
    def answer(*arguments, **named):
        return change(exercise.course(*arguments, **named))
    answer.__signature__ = inspect.signature(exercise.course)
    return answer


def results(exercise, function):
    """The raw results of a function on an exercise's cases, without what `observe` makes of them."""
    seen = []
    observe = exercise.observe or (lambda f, *arguments: f(*arguments))
    for arguments in exercise.cases():
        observe(watched(function, seen), *arguments)
    return seen


def form(value):
    """What a cell below may rely on: types, dtypes, numbers of dimensions, gradients."""
    if isinstance(value, torch.Tensor):
        return "tensor", value.dtype, value.ndim, value.requires_grad, value.device.type
    if isinstance(value, np.ndarray):
        return "array", value.dtype.kind, value.ndim
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, float | int):
        return "number"
    if isinstance(value, list | tuple):
        return type(value), *([form(part) for part in value] if isinstance(value, tuple) else map(form, value[:1]))
    if isinstance(value, dict):
        return dict, {form(part) for part in value.values()}
    return type(value)


def trouble(exercise, answer, forms, sentence):
    """What is wrong with the check of a changed answer, or None: it must be harmless, or explained."""
    verdict = judged(exercise, answer)
    if verdict.mark == DONE:
        return None if [form(result) for result in results(exercise, verdict.usable)] == forms else "accepted as it is"
    explained = verdict.mark == WRONG and re.search(sentence, verdict.sentence) and not re.search(
        "cannot be compared|it raised", verdict.sentence)
    return None if explained else verdict.sentence


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda e: e.id)
def test_a_right_answer_of_another_kind_is_harmless_or_explained(exercise):
    course, found = results(exercise, exercise.course), {}
    forms = [form(result) for result in course]
    for name, (change, sentence) in CHANGES.items():
        change = functools.partial(everywhere, change)
        if [form(change(result)) for result in course] != forms:
            found[name] = trouble(exercise, variant(exercise, change), forms, sentence)
    for name, (change, sentence) in WHOLE.items():
        if course[0] is not None and (name != "a text" or not isinstance(course[0], str)):
            found[name] = trouble(exercise, variant(exercise, change), forms, sentence)
    assert (len(found) >= 4 or course[0] is None) and not {name: said for name, said in found.items() if said}


def spoil(value):
    """Change an argument in place; returns whether there was anything to change."""
    if isinstance(value, torch.Tensor):
        value.data.logical_not_() if value.dtype == torch.bool else value.data.add_(1)
    elif isinstance(value, np.ndarray):
        value[:] = ~value if value.dtype == bool else value + 1
    elif isinstance(value, list):
        value.append(None)
    elif isinstance(value, dict):
        value["spoiled"] = 1
    else:
        return dataclasses.is_dataclass(value) and any(spoil(getattr(value, f.name)) for f in dataclasses.fields(value))
    return True


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda e: e.id)
def test_an_answer_that_changes_an_argument_is_told_which(exercise):
    spoiled = []

    def answer(*arguments, **named):
        result = exercise.course(*arguments, **named)
        result = everywhere(only(torch.Tensor, lambda t: t.clone()), result)
        spoiled.extend(spoil(argument) for argument in arguments)
        return result
    answer.__signature__ = inspect.signature(exercise.course)
    mark, sentence = judge(exercise, answer)
    assert (mark, SPOILED in sentence) == ((WRONG, True) if any(spoiled) else (DONE, False)), sentence


# ---------------------------------------------------------------- the pieces

@pytest.mark.parametrize(("value", "pattern", "wanted"), [
    (torch.tensor(2.0), 1.0, 2.0), (np.float32(2), 1.0, 2.0), (3.0, 1, 3), ([1, 2.0], (1, 2.0), (1, 2.0)),
    (range(3), [1], [0, 1, 2]), ({(0, 1)}, [(2, 3)], [(0, 1)]), (np.array([1.0, 2.0]), (0.0, 0.0), (1.0, 2.0)),
    (np.True_, True, True), ([[0, 1]], [(5, 6)], [(0, 1)])])
def test_another_dress_is_changed(value, pattern, wanted):
    found = fit(value, pattern)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(("value", "pattern", "reason"), [
    (None, 1.0, "nothing"), ([1.0], torch.ones(1), "a list, but a tensor"), ("0.5", 1.0, "formatting"),
    (torch.ones(2), 1.0, r"tensor of shape \(2,\), but a single number"), ((1, 2), (1, 2, 3), "2 results, but 3"),
    (map(str, []), ["a"], "used up"), (0.5, (1, 2), "2 results are wanted"), (b"", "", "text"),
    (2 + 1j, 1.0, "single number"), (torch.ones(1).int(), torch.ones(1), "floats")])
def test_what_no_cell_could_use_is_named(value, pattern, reason):
    with pytest.raises(Unfit, match=reason):
        fit(value, pattern)


def test_what_is_already_right_is_handed_back_itself():
    value = {"a": [1.0, 2.0], "b": [3.0]}
    assert fit(value, {"a": [0.0]}) is value and kind(np.ones(3)) == "a numpy array of shape (3,)"


PARTS = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3)
                     | arrays(np.float32, st.integers(0, 9)).map(torch.from_numpy),
                     lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=2), parts, max_size=3)
                     | st.tuples(parts, parts), max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(PARTS, PARTS)
def test_any_two_results_can_be_compared_and_told_apart(got, wanted):
    assert same(wanted, wanted, 1e-4)
    assert same(got, wanted, 1e-4) or len(difference(got, wanted, 1e-4)) < 500


# ---------------------------------------------------------------- messages

DOUBLE = Exercise("0.0", "double", 1, 1, ("hint", "hint"), course=lambda number: 2 * number,
                  cases=lambda: [(1,), (2.5,)])


def half_written(number):
    double = 2 * number
    raise NotImplementedError("Exercise 0.0")
    return double


def broken(number):
    share = number / 0
    return share


def picky(number):
    if number > 2:
        return 2 * number


def renamed(number, other):
    return 2 * number


@pytest.mark.parametrize(("answer", "said"), [
    (half_written, "`raise NotImplementedError` is still in it"),
    (broken, r"it raised ZeroDivisionError: .*, at your line `share = number / 0` \(line \d+\)"),
    (picky, "returns nothing"), (renamed, "cannot be called with 1 argument"), (4, "a function is wanted"),
    (lambda number: 2 * number + 1e-3 * (number > 2), r"for number = 2.5: expected 5.0*, got 5.001"),
    (lambda number: torch.nn.Linear(1, 1), "a Linear"), (lambda number: [2 * number], "a list, but a single number")])
def test_messages_can_be_read(answer, said):
    mark, sentence = judge(DOUBLE, answer)
    assert mark == WRONG and re.search(said, sentence) and len(sentence) < 300, sentence


def test_numbers_that_look_equal_are_told_apart():
    exercise = Exercise("0.0", "small", 1, 1, ("hint", "hint"), course=lambda: 0.20050, cases=lambda: [()],
                        tolerance=1e-7)
    assert "expected 0.2005, got 0.200505" in judge(exercise, lambda: 0.200505)[1]
