"""The estimator equals the enumeration of all subsets; the KL is exact where it says so."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lite import best_of_n


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_weights_equal_enumeration(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    expected = torch.zeros(len(scores), dtype=torch.float64)
    subsets = list(itertools.combinations(range(len(scores)), n))
    for subset in subsets:
        top = max(scores[i] for i in subset)
        best = [i for i in subset if scores[i] == top]
        expected[best] += 1 / len(best) / len(subsets)
    weights = best_of_n.best_of_n_weights(torch.tensor([scores], dtype=torch.float), n)[0]
    # Which of the tied is chosen within a subset is a coin toss; over all subsets the tied share evenly.
    assert torch.allclose(weights, expected, atol=1e-9) and weights.sum().item() == pytest.approx(1)


def test_curve():
    torch.manual_seed(0)
    proxy = torch.randn(5, 16)
    curve = best_of_n.best_of_n_curve(proxy, proxy * 2, [1, 4, 16])
    assert curve["proxy"].shape == (5, 3) and torch.allclose(curve["true"], curve["proxy"] * 2)
    assert torch.allclose(curve["proxy"][:, 0], proxy.double().mean(1))
    assert torch.allclose(curve["proxy"][:, 2], proxy.double().max(1).values)
    assert curve["kl"][0] == 0 and curve["n"] == [1, 4, 16]
    chosen = proxy.gather(1, best_of_n.best_of_n_indices(proxy)[:, None])[:, 0]
    assert torch.equal(chosen, proxy.max(1).values)


def test_kl_formula_and_exact_values():
    """Known values: 8 equally likely outcomes, and a reward of two levels."""
    formula = [best_of_n.kl_best_of_n(n) for n in (1, 2, 4, 16, 64)]
    assert formula == pytest.approx([0, 0.1931, 0.6363, 1.8351, 3.1745], abs=1e-4)
    eight = [best_of_n.kl_best_of_n(n, [1 / 8] * 8, range(8)) for n in (2, 4, 16, 64)]
    assert eight == pytest.approx([0.1875, 0.6246, 1.6799, 2.0776], abs=1e-4)
    two = [best_of_n.kl_best_of_n(n, [1 / 8] * 8, [0] * 4 + [1] * 4) for n in (2, 4, 16, 64)]
    assert two == pytest.approx([0.1308, 0.4594, 0.6930, 0.6931], abs=1e-4)
    assert best_of_n.kl_best_of_n(5, [0.5, 0.5, 0.0], [1, 1, 2]) == pytest.approx(0)
    many = best_of_n.kl_best_of_n(4, [1 / 2000] * 2000, range(2000))
    assert many == pytest.approx(math.log(4) - 3 / 4, abs=1e-3)


def test_errors():
    with pytest.raises(ValueError, match="between 1 and 3"):
        best_of_n.best_of_n_weights(torch.zeros(1, 3), 4)
    with pytest.raises(ValueError, match="finite"):
        best_of_n.best_of_n_weights(torch.tensor([[float("nan")]]), 1)
    with pytest.raises(ValueError, match="agree"):
        best_of_n.best_of_n_curve(torch.zeros(1, 3), torch.zeros(1, 2), [1])
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n.kl_best_of_n(0)


def test_the_first_of_equally_good_samples_is_kept():
    assert best_of_n.best_of_n_indices(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("probabilities, scores", [([0.5, 0.6], [1, 2]), ([1.5, -0.5], [1, 2]),
                                                   ([0.5, float("nan")], [1, 2]), ([0.5, 0.5], [1, float("nan")])])
def test_what_is_no_distribution_has_no_kl(probabilities, scores):
    with pytest.raises(ValueError, match="sum to 1"):
        best_of_n.kl_best_of_n(4, probabilities, scores)
