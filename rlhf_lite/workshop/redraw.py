"""An exercise's cases with other random numbers, so that a list of the right results for the usual ones does not pass.

The idea: many cases are drawn at random, from seeds that stand in the course's text. With every seed moved by the same
secret number they become other cases of the same kind. Cases written out by hand stay as they are.
"""

import contextlib
import functools
import random
import sys

import numpy as np
import torch

from rlhf_lite.workshop import messages

LOOSE = 1e-3  # where the tolerance is wider, chance is part of the exercise, and other numbers could be bad luck


class _Moved(torch.Generator):
    shift = 0

    def manual_seed(self, seed):
        return super().manual_seed(seed + _Moved.shift)


@contextlib.contextmanager
def moved_seeds(shift):
    """Inside the block, generators made from a seed are made from seed + shift."""
    torch_one, numpy_one, python_one = torch.Generator, np.random.default_rng, random.Random
    _Moved.shift = shift
    torch.Generator = _Moved
    np.random.default_rng = lambda seed=None: numpy_one(seed + shift if isinstance(seed, int) else seed)
    random.Random = lambda seed=None: python_one(seed + shift if isinstance(seed, int) else seed)
    try:
        yield
    finally:
        torch.Generator, np.random.default_rng, random.Random = torch_one, numpy_one, python_one


def cases(exercise, shift=0):
    """The exercise's cases, drawn anew unless shift is 0."""
    if not shift:
        return exercise.cases()
    _forget(exercise)
    try:
        with moved_seeds(shift):
            return exercise.cases()
    finally:
        _forget(exercise)


def _forget(exercise):
    """Functions that remember what they drew draw again."""
    for thing in vars(sys.modules[exercise.cases.__module__]).values():
        if isinstance(thing, functools._lru_cache_wrapper):
            thing.cache_clear()


def can_be_drawn(exercise, shift):
    """Whether there are other numbers for an exercise, and a right answer is sure to be right for them."""
    if exercise.cases is None or exercise.tolerance > LOOSE:
        return False
    return messages.encode(cases(exercise)) != messages.encode(cases(exercise, shift))
