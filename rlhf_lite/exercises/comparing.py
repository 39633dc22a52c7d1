"""Comparing an answer with the course's, and saying where the two part, in one sentence that can be read."""

import numpy as np
import torch

from rlhf_lite.plain import plain

SMALL = 8  # a longer row of numbers is not printed whole: the first place that differs is


def same(a, b, tolerance):
    """Whether structure and values agree within the tolerance; NaN equals NaN; tensors, arrays and numbers may mix."""
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(same(a[k], b[k], tolerance) for k in b)
    if isinstance(b, str) or b is None:
        return isinstance(a, type(b)) and a == b
    if isinstance(b, (list, tuple)) and array(b) is None:
        return isinstance(a, (list, tuple)) and len(a) == len(b) and all(
            same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    x, y = array(a), array(b)
    return x is not None and x.shape == y.shape and bool(np.allclose(x.astype(float), y.astype(float), atol=tolerance,
                                                                     rtol=tolerance, equal_nan=True))


def array(value):
    """Numbers of any dress as a numpy array; None if they are no numbers, or do not form a rectangle."""
    if isinstance(value, torch.Tensor):
        found = value.detach().cpu()
        return (found.double() if found.is_floating_point() else found).numpy()
    try:
        found = np.asarray(value)
        return found if found.dtype.kind in "biuf" else None
    except (ValueError, TypeError):
        return None


# ---------------------------------------------------------------- in words

def shown(value, limit=160, digits=4):
    """A value as a short piece of text."""
    if value is None or isinstance(value, str):
        text = plain(repr(value), 10 * limit)
    elif isinstance(value, (tuple, list)) and array(value) is None:
        inside = ", ".join(shown(part, limit, digits) for part in value[:20])
        text = f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{shown(k)}: {shown(v, limit, digits)}" for k, v in list(value.items())[:20]) + "}"
    elif (numbers := array(value)) is not None:
        text = np.array2string(numbers, precision=digits, separator=", ", threshold=24, floatmode="maxprec_equal"
                               if numbers.ndim else "maxprec").replace("\n", "")
    elif hasattr(value, "_fields") or isinstance(value, set | frozenset | range):
        text = plain(repr(value), 10 * limit)
    else:  # a model, a function, an optimizer: its text would fill the screen
        text = plain(getattr(value, "__name__", "") or f"a {type(value).__name__}", limit)
    return text if len(text) <= limit else text[:limit - 1] + "…"


def named(names, values):
    """Arguments as they would be written in a call: "text = 'Yes.', stops = ['Q:']"."""
    return ", ".join(f"{name} = {shown(value, 90)}" for name, value in zip(names, values, strict=True))


def difference(got, wanted, tolerance, name=""):
    """A sentence about the first thing in which an answer differs; `name`: the part of the result that is looked at."""
    start = f"{name}: " if name else ""
    if isinstance(wanted, dict) and isinstance(got, dict):
        if missing := [key for key in wanted if key not in got]:
            return f"{start}{shown(missing[0])} is missing."
        if extra := [key for key in got if key not in wanted]:
            return f"{start}{shown(extra[0])} should not be there."
        key = next(k for k in wanted if not same(got[k], wanted[k], tolerance))
        return difference(got[key], wanted[key], tolerance, key if isinstance(key, str) else shown(key))
    if isinstance(wanted, (list, tuple)) and isinstance(got, (list, tuple)) and _nested(wanted):
        if len(got) != len(wanted):
            return f"{start}expected {len(wanted)} of them, {shown(wanted)}, got {len(got)}, {shown(got)}."
        place = next(i for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w, tolerance))
        return difference(got[place], wanted[place], tolerance, f"result {place + 1} of {len(wanted)}")
    x, y = array(got), array(wanted)
    if x is None or y is None:
        return f"{start}expected {shown(wanted)}, got {shown(got)}."
    if x.shape != y.shape:
        return start + _shapes(x.shape, y.shape)
    if y.size > SMALL:
        wrong = np.argwhere(~np.isclose(x.astype(float), y.astype(float), atol=tolerance, rtol=tolerance,
                                        equal_nan=True))
        place = tuple(wrong[0])
        return (f"{start}{len(wrong)} of {y.size} numbers differ; at [{', '.join(map(str, place))}] expected "
                "{}, got {}.".format(*_apart(y[place], x[place])))
    return "{}expected {}, got {}.".format(start, *_apart(wanted, got))


def _nested(value):
    return array(value) is None or any(isinstance(part, torch.Tensor | np.ndarray | list | tuple) for part in value)


def _shapes(got, wanted):
    if not wanted:
        return f"it should be a single number, but it has the shape {got}. Is there a mean or a sum at the end?"
    return f"the shape should be {wanted}, but it is {got or 'a single number'}."


def _apart(wanted, got):
    """Both in so many digits that one can see the difference."""
    for digits in (4, 6, 9, 17):
        texts = shown(wanted, digits=digits), shown(got, digits=digits)
        if texts[0] != texts[1]:
            break
    return texts
