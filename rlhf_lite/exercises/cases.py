"""Small made-up inputs for the checks of several notebooks."""

import torch


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    """Normally distributed numbers, the same on every call."""
    return torch.randn(*shape, generator=generator(seed))


def mask_of(*lengths):
    """A (rows, longest) mask for rows of these lengths, True at the real tokens, as in `Rollout.response_mask`."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
