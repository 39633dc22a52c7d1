"""Small made-up inputs for the checks of several notebooks."""

import torch


class Unusable(TypeError):
    """What a learner's function returned is of no use to the next cells; the message says why, as `check` prints it."""


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    """Normally distributed numbers, the same on every call."""
    return torch.randn(*shape, generator=generator(seed))


def need_tensors(*parts, dtype=torch.float32):
    """Raise Unusable unless all parts are tensors of that kind, which is what the notebook's next cells can use."""
    for part in parts:
        if part is not None and not isinstance(part, torch.Tensor):
            raise Unusable(f"a tensor was expected, not a {type(part).__name__}; the next cells compute with it.")
        if part is not None and part.is_floating_point() != dtype.is_floating_point:
            raise Unusable(f"the numbers should be {'floats' if dtype.is_floating_point else 'integers'}, but the "
                            f"tensor's dtype is {part.dtype}.")


def mask_of(*lengths):
    """A (rows, longest) mask for rows of these lengths, True at the real tokens, as in `Rollout.response_mask`."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
