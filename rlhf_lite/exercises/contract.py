"""What an answer must be, besides right: something that the next cells can use, and kind to its arguments.

The pattern is what the course's own function returns. Where it returns a tensor, so must the answer, with the same kind
of numbers, on the same device, with a gradient where there is one. What is the same thing in another dress (a list
where a tuple is wanted, a tensor with one number where a float is) is changed into it: `fit` does that in the check,
and again in the function that `check` hands back. Arguments are lent: whoever changes them is told so.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import numbers
import sys
from collections.abc import Iterator, KeysView, Mapping, ValuesView

import numpy as np
import torch

from rlhf_lite.exercises.comparing import shapes

GENERATOR = "is used up after one reading; make a list of it"


class Unfit(Exception):
    """One sentence about an answer that the next cells could not use."""


class Nothing(Unfit):
    """It returned None."""


# ---------------------------------------------------------------- of what kind is it?

def kind(value):
    """What something is, in words."""
    if isinstance(value, torch.Tensor | np.ndarray):
        name = "tensor" if isinstance(value, torch.Tensor) else "numpy array"
        return f"a {name} of shape {tuple(value.shape)}" if value.ndim else f"a {name} with one number"
    for types, words in ((bool | np.bool_, "a truth value"), (numbers.Number, "a plain number"), (str, "a text"),
                         (Iterator, "a generator"), (type(None), "nothing")):
        if isinstance(value, types):
            return words
    if inspect.isroutine(value):
        return "a function"
    name = type(value).__name__
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def fit(value, pattern, what="it returns", strict=True):
    """The value, changed into the pattern's kind where that is harmless; otherwise Unfit says what is wrong.

    strict: also the device and the gradient must be the pattern's, as in a check.
    """
    if pattern is None:
        return value
    if value is None:
        raise (Nothing if what == "it returns" else Unfit)(f"{what} nothing.")
    if isinstance(pattern, torch.Tensor):
        return _as_tensor(value, pattern, what, strict)
    if isinstance(pattern, np.ndarray):
        if not isinstance(value, np.ndarray):
            raise Unfit(f"{what} {kind(value)}, but the next cells need a numpy array: `np.array(...)` makes one.")
        return value
    if isinstance(pattern, numbers.Number | np.generic):
        return _as_number(value, pattern, what)
    if isinstance(pattern, str):
        if not isinstance(value, str):
            raise Unfit(f"{what} {kind(value)}, but a text is wanted.")
        return value
    if isinstance(pattern, dict):
        return _as_dict(value, pattern, what, strict)
    if hasattr(pattern, "_fields") or dataclasses.is_dataclass(pattern) and not isinstance(pattern, type):
        return _as_record(value, pattern, what, strict)
    if isinstance(pattern, list | tuple):
        return _as_sequence(value, pattern, what, strict)
    return value


def _as_tensor(value, pattern, what, strict):
    if not isinstance(value, torch.Tensor):
        if pattern.requires_grad and isinstance(value, numbers.Number):
            raise Unfit(f"{what} a plain number, but it should be a tensor that the gradient can flow back through: "
                        "no `.item()` and no `float(...)`.")
        raise Unfit(f"{what} {kind(value)}, but a tensor was expected: the next cells compute with one.")
    if value.is_floating_point() != pattern.is_floating_point() or (value.dtype == torch.bool) != (
            pattern.dtype == torch.bool):
        words = ("floats" if pattern.is_floating_point() else "True or False" if pattern.dtype == torch.bool else
                 "integers")
        raise Unfit(f"{what} {kind(value)} whose dtype is {value.dtype}, but the numbers should be {words} "
                    f"({pattern.dtype}).")
    if strict and value.shape != pattern.shape:
        raise Unfit(shapes(tuple(value.shape), tuple(pattern.shape)))
    if strict and value.device.type != pattern.device.type:
        raise Unfit(f"{what} a tensor on the device {value.device}, but its arguments are on {pattern.device}: make "
                    "new tensors where the old ones are, with `device=...`.")
    if strict and pattern.requires_grad and not value.requires_grad:
        raise Unfit(f"{what} a tensor that no gradient flows back through, so nothing could be learnt from it: is "
                    "there a detach, an item, a no_grad or a new `torch.tensor(...)`?")
    if strict and value.requires_grad and not pattern.requires_grad:
        raise Unfit(f"{what} a tensor that still carries a gradient, but the next cells want plain numbers: end with "
                    "`.detach()`.")
    return value if value.dtype == pattern.dtype else value.to(pattern.dtype)


def _as_number(value, pattern, what):
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    wanted = "True or False" if isinstance(pattern, bool | np.bool_) else "a single number"
    if not isinstance(value, numbers.Real | np.bool_):
        advice = " Return the number itself; formatting comes later." if isinstance(value, str) else ""
        raise Unfit(f"{what} {kind(value)}, but {wanted} is wanted.{advice}")
    if wanted == "True or False" and value in (0, 1):
        return bool(value)
    if isinstance(value, np.generic) and not isinstance(value, float):
        value = value.item()
    if isinstance(pattern, numbers.Integral) and not isinstance(value, numbers.Integral) and value == value // 1:
        return int(value)
    return value if isinstance(value, int | float) else float(value)  # a Fraction, a Decimal


def _as_dict(value, pattern, what, strict):
    if not isinstance(value, Mapping):
        raise Unfit(f"{what} {kind(value)}, but a dict is wanted.")
    first = next(iter(pattern.values()), None)
    parts = {k: fit(v, pattern.get(k, first), f"at {k!r} is", strict) for k, v in value.items()}
    return value if type(value) is dict and all(parts[k] is value[k] for k in value) else parts


def _as_record(value, pattern, what, strict):
    """A named tuple or a dataclass: the next cells use its names."""
    names = getattr(pattern, "_fields", None) or [field.name for field in dataclasses.fields(pattern)]
    if not all(hasattr(value, name) for name in names):
        raise Unfit(f"{what} {kind(value)}, but the next cells use names: return "
                    f"{type(pattern).__name__}({', '.join(names)}).")
    parts = {n: fit(getattr(value, n), getattr(pattern, n), f"its {n} is", strict) for n in names}
    return value if all(parts[n] is getattr(value, n) for n in names) else type(pattern)(**parts)


def _as_sequence(value, pattern, what, strict):
    if isinstance(value, Iterator):
        raise Unfit(f"{what} {kind(value)}, which {GENERATOR}.")
    if isinstance(value, KeysView | ValuesView | set | frozenset | range | np.ndarray | torch.Tensor):
        if getattr(value, "ndim", 1) == 0:
            raise Unfit(f"{what} {kind(value)}, but {_count(pattern)} wanted.")
        tensors = isinstance(value, torch.Tensor) and any(isinstance(part, torch.Tensor) for part in pattern)
        if tensors and isinstance(pattern, tuple) and len(value) != len(pattern):  # its rows are not results
            raise Unfit(f"{what} {kind(value)}, but {len(pattern)} results are wanted, with a comma between them.")
        parts = sorted(value) if isinstance(value, set | frozenset) else value.tolist() if hasattr(
            value, "tolist") and not tensors else list(value)
    elif isinstance(value, list | tuple):
        parts = value
    else:
        raise Unfit(f"{what} {kind(value)}, but {_count(pattern)} wanted.")
    if isinstance(pattern, tuple):
        if len(parts) != len(pattern):
            raise Unfit(f"{what} {len(parts)} result{'s' * (len(parts) != 1)}, but {len(pattern)} are wanted."
                        if what == "it returns" else f"{what} {kind(value)} of {len(parts)}, not of {len(pattern)}.")
        fitted = [fit(part, p, f"result {i} of {len(pattern)} is", strict)
                  for i, (part, p) in enumerate(zip(parts, pattern, strict=True), 1)]
    else:
        fitted = [fit(part, pattern[0] if pattern else None, "an item of its list is", strict) for part in parts]
    unchanged = type(value) is type(pattern) and all(a is b for a, b in zip(fitted, value, strict=True))
    return value if unchanged else type(pattern)(fitted)


def _count(pattern):
    return "a list is" if isinstance(pattern, list) else f"{len(pattern)} results are"


# ---------------------------------------------------------------- calls that are looked at

def watched(function, seen, patterns=None):
    """The function, with every result written down in `seen`.

    With `patterns`, the course's results, Unfit is raised for one that does not fit, and for changed arguments.
    """
    @functools.wraps(function, updated=())
    def watch(*arguments, **named):
        _takes(function, arguments, named)
        before = _picture(arguments)
        result = function(*arguments, **named)
        seen.append(result)
        if not patterns:
            return result
        result = fit(result, patterns[min(len(seen), len(patterns)) - 1])
        if name := _changed(function, before, _picture(arguments)):
            raise Unfit(f"it changes `{name}`, which is only lent to it: the cells below use it too. Work on a copy.")
        return result
    return watch


def fitted(function, pattern):
    """The function, with its results changed into the pattern's kind."""
    @functools.wraps(function)
    def wrapped(*arguments, **named):
        result = function(*arguments, **named)
        try:
            return fit(result, pattern, strict=False)
        except Unfit:  # on other data than the check's; the learner sees what happens
            return result
    return wrapped


def _takes(function, arguments, named):
    with contextlib.suppress(ValueError):  # some built-in functions have no signature
        try:
            inspect.signature(function).bind(*arguments, **named)
        except TypeError as error:
            raise Unfit(f"it cannot be called with {len(arguments)} arguments ({error}). Keep the line with `def` as "
                        "it was.") from None


def names_of(function, count=None):
    """The names of a function's first parameters, or of all; None if it does not have so many."""
    with contextlib.suppress(ValueError, TypeError):
        names = [p.name for p in inspect.signature(function).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
        return names[:count] if len(names) >= (count or 0) else None


def _picture(value):
    """What of an argument may not change, in a form that can be compared; models and the like are left out."""
    if isinstance(value, torch.Tensor):
        return [value.requires_grad, value.detach().clone()] if value.device.type != "meta" else None
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return [_picture(part) for part in value]
    if isinstance(value, dict):
        return {key: _picture(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _picture(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value if isinstance(value, str | numbers.Number) else None


def _alike(a, b):
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a) & (b != b)).all())
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    return a is b or type(a) is type(b) and (a == b or a != a and b != b)


def _changed(function, before, after):
    """The name of the first argument that is no longer what it was, or None."""
    for place, (a, b) in enumerate(zip(before, after, strict=True)):
        if not _alike(a, b):
            return (names_of(function, place + 1) or [f"argument {place + 1}"])[-1]
    return None


class Ear(io.TextIOBase):
    """Hears whether something is printed, and passes it on."""

    def __init__(self):
        self.heard, self.out = False, sys.stdout

    def write(self, text):
        self.heard = True
        return self.out.write(text)

    def flush(self):
        self.out.flush()
