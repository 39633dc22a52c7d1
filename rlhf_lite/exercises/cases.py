"""Small made-up inputs for the checks of several notebooks."""

import torch


def generator(seed):
    return torch.Generator().manual_seed(seed)


def mask_of(*lengths):
    """(rows, longest) True at the real tokens of rows of these lengths, as in `Rollout.response_mask`."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
