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


def masks(seed=100):
    """Masks to try everything on: short and full rows, one row, one token, and three at random."""
    draw = generator(seed)
    drawn = [[int(n) for n in torch.randint(1, 7, (int(torch.randint(2, 6, (1,), generator=draw)),), generator=draw)]
             for _ in range(3)]
    return [mask_of(*lengths) for lengths in ([3, 1, 4], [2, 2], [3], [1], *drawn)]


def numbers(mask, seed, garbage, spread=1.0):
    """Random numbers at the tokens of a mask, and `garbage` at the padding, which must not matter."""
    return torch.where(mask, spread * torch.randn(mask.shape, generator=generator(seed)), garbage)


def by_name(*names):
    """An `observe` for functions with several results: {name: result}, so that a difference can be told by name."""
    def observe(function, *arguments):
        found = function(*arguments)
        return dict(zip(names, found, strict=True)) if isinstance(found, tuple | list) else found
    return observe


def loss_and_gradient(function, first, *rest):
    """An `observe` for losses: the value, and its derivative with respect to the first argument."""
    first = first.detach().clone().requires_grad_()
    loss = function(first, *rest)
    loss = loss.reshape(()) if loss.numel() == 1 else loss  # backward takes a tensor with one number just as well
    gradient, = torch.autograd.grad(loss.sum(), first, allow_unused=True)
    return {"the loss": loss, "its gradient": torch.zeros_like(first) if gradient is None else gradient}
