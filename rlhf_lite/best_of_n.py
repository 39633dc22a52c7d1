"""Best-of-n: sample n responses, keep the one the reward model likes best.

The idea: optimisation without a gradient, and the fairest way to ask whether a reward model is worth
optimising. With N scored samples per prompt, the expectation over all subsets of size n is exact: the
probability that a sample is the best of a random subset depends only on its place in the order.

Left out: sampling itself (`sampling.sample_many`).
"""

import math

import torch


def best_of_n_indices(proxy):
    """(prompts, N) proxy scores -> (prompts,) index of the best; the first one if several are equal."""
    return proxy.argmax(dim=1)


def best_of_n_weights(proxy, n):
    """(prompts, N) proxy scores -> (prompts, N) probability that each sample is the best of n drawn at random.

    Draws are without replacement. With i−1 samples below it, a sample is the best in C(i−1, n−1) of the C(N, n)
    subsets. Tied samples share their joint probability evenly. Raises ValueError unless 1 <= n <= N.
    """
    proxy, count = proxy.cpu(), proxy.shape[1]  # Apple's MPS has no float64
    if not 1 <= n <= count:
        raise ValueError(f"n is {n}; with {count} samples per prompt, it must be between 1 and {count}.")
    if not torch.isfinite(proxy).all():
        raise ValueError("A proxy score is not a finite number.")
    # subsets[m] = the share of subsets of size n that contain only the m lowest samples
    subsets = torch.tensor([math.comb(m, n) / math.comb(count, n) for m in range(count + 1)], dtype=torch.float64)
    below = (proxy[:, None, :] < proxy[:, :, None]).sum(dim=2)
    up_to = (proxy[:, None, :] <= proxy[:, :, None]).sum(dim=2)
    return (subsets[up_to] - subsets[below]) / (up_to - below)


def best_of_n_curve(proxy, true, ns):
    """(prompts, N) proxy and true scores -> {"n", "kl", "proxy", "true"}; the last two are (prompts, len(ns)) float64.

    For each prompt, the expected proxy and true score of the best of n: unbiased, over all subsets of size n.
    Keep the rows of the prompts to put an interval on their mean. kl: the formula in `kl_best_of_n`, an upper bound.
    """
    if proxy.shape != true.shape:
        raise ValueError(f"proxy is {tuple(proxy.shape)} and true is {tuple(true.shape)}; they must agree.")
    proxy, true = proxy.cpu(), true.cpu()
    weights = [best_of_n_weights(proxy, n) for n in ns]
    return {"n": list(ns), "kl": [kl_best_of_n(n) for n in ns],
            "proxy": torch.stack([(weight * proxy).sum(dim=1) for weight in weights], dim=1),
            "true": torch.stack([(weight * true).sum(dim=1) for weight in weights], dim=1)}


def kl_best_of_n(n, probabilities=None, scores=None):
    """KL(best-of-n ‖ policy) in nats: log n − (n−1)/n, or exactly for a finite distribution.

    The formula holds for a continuous score and many outcomes; with ties or few outcomes it is only an upper
    bound (Beirami et al., 2024). Given probabilities and scores, both (outcomes,), the exact value is computed; if
    several draws tie for the best, one of them is chosen at random.
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1.")
    if probabilities is None:
        return math.log(n) - (n - 1) / n
    probabilities = torch.as_tensor(probabilities, dtype=torch.float64)
    scores = torch.as_tensor(scores, dtype=torch.float64)
    if scores.isnan().any() or not (probabilities >= 0).all() or abs(probabilities.sum().item() - 1) > 1e-6:
        raise ValueError("The probabilities must be 0 or more and sum to 1, and the scores must be numbers.")
    levels, group = scores.unique(return_inverse=True)  # ascending
    share = torch.zeros(len(levels), dtype=torch.float64).index_add(0, group, probabilities)
    reached = share.cumsum(0)
    best = reached**n - (reached - share)**n  # within a level the outcomes keep their proportions
    kept = best > 0
    return (best[kept] * (best[kept] / share[kept]).log()).sum().item()
