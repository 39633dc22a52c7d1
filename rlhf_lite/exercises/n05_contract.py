"""What an answer to an exercise of notebooks 05a and 05b must be, so that the next cells can use it.

An `observe` function of an exercise calls the learner's function and returns what is compared. These also look at the
kind of the result (a tensor of floats, of the right shape), and at the arguments, which must come back unchanged. What
the next cells could not use raises `Unusable`, whose sentence the learner reads.
"""

import copy

import numpy as np
import torch

from rlhf_lite.exercises.cases import Unusable, generator, mask_of

KINDS = {np.ndarray: "a NumPy array", list: "a list", tuple: "a tuple", float: "a plain number", int: "a plain number",
         np.float32: "a NumPy number", np.float64: "a NumPy number", str: "a text", dict: "a dict"}


def described(value):
    """What a value is, in words: "a NumPy array", "two things"."""
    if isinstance(value, tuple):
        return f"{len(value)} values" if len(value) != 1 else "a tuple with one value (is there a comma too many?)"
    return "a tensor" if isinstance(value, torch.Tensor) else KINDS.get(type(value), f"a {type(value).__name__}")


def called(function, arguments, names):
    """function(*arguments), for arguments with these names; Unusable if one of the tensors has changed afterwards."""
    before = [copy.deepcopy(argument) if isinstance(argument, torch.Tensor) else None for argument in arguments]
    got = function(*arguments)
    for name, old, new in zip(names, before, arguments, strict=False):
        if old is not None and not torch.equal(old, new):
            raise Unusable(f"it changes its argument `{name}`, which later cells still need. Make a new tensor instead "
                           "of writing into that one (`+=`, an assignment to `[...]` or a method that ends in `_`).")
    return got


def need(name, value, shape):
    """The value if it is a float tensor of that shape, otherwise Unusable says what it is instead."""
    if not isinstance(value, torch.Tensor):
        why = " An array carries no gradient." if isinstance(value, np.ndarray) else ""
        raise Unusable(f"{name} should be a tensor, because the next cells compute with it, but it is "
                       f"{described(value)}.{why}")
    if not value.is_floating_point():
        raise Unusable(f"{name} should hold floats, but its dtype is {value.dtype}.")
    if value.shape != shape:
        raise Unusable(f"{name} should have the shape {tuple(shape)}, but it has the shape {tuple(value.shape)}.")
    return value


def tensors(returned, arguments, like=0):
    """An `observe` for functions that return float tensors: {name: tensor}.

    returned, arguments: the names of what comes out and of what goes in, "advantages returns". like: the place of the
    argument whose shape all results have, or a function (*arguments) -> [shape of each result].
    """
    returned, names = returned.split(), arguments.split()

    def observe(function, *given):
        shapes = like(*given) if callable(like) else [given[like].shape] * len(returned)
        got = called(function, given, names)
        if got is None:
            return None
        parts = [got] if len(returned) == 1 else got
        if not isinstance(parts, list | tuple) or len(parts) != len(returned):
            raise Unusable(f"it should return {' and '.join(returned)}, separated by a comma, but it returns "
                           f"{described(got)}.")
        return {name: need(name, part, shape) for name, part, shape in zip(returned, parts, shapes, strict=True)}
    return observe


def loss_and_gradient(arguments, value=True):
    """An `observe` for losses: the value, and its derivative with respect to the first argument.

    value=False leaves the value out, where only the direction counts.
    """
    names = arguments.split()

    def observe(function, first, *rest):
        first = first.detach().clone().requires_grad_()
        loss = called(function, (first, *rest), names)
        if loss is None:
            return None
        if isinstance(loss, torch.Tensor) and loss.shape == (1,):
            loss = loss[0]  # harmless: backward takes it
        loss = need("the loss", loss, torch.Size([]))
        if not loss.requires_grad:
            raise Unusable(f"the loss carries no gradient, so no step can follow it. It must be computed from "
                           f"`{names[0]}` by tensor operations only: no detach, item, numpy or no_grad on the way.")
        gradient, = torch.autograd.grad(loss, first, allow_unused=True)
        gradient = torch.zeros_like(first) if gradient is None else gradient
        return {"loss": loss, "gradient": gradient} if value else {"gradient": gradient}
    return observe


# ---------------------------------------------------------------- inputs

def masks(seed=100):
    """Masks to try everything on: short and full rows, one row, one token, and three at random."""
    draw = generator(seed)
    chosen = [[int(n) for n in torch.randint(1, 7, (int(torch.randint(2, 6, (1,), generator=draw)),), generator=draw)]
              for _ in range(3)]
    return [mask_of(*lengths) for lengths in ([3, 1, 4], [2, 2], [3], [1], *chosen)]


def numbers(mask, seed, garbage, spread=1.0):
    """Random numbers at the tokens of a mask, and `garbage` at the padding, which must not matter."""
    return torch.where(mask, spread * torch.randn(mask.shape, generator=generator(seed)), garbage)
