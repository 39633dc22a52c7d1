"""The mathematics of PPO against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lite import ppo_math

MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_masked_statistics():
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, float("nan"), 1e9]])
    assert ppo_math.masked_mean(values, MASK).item() == 3.0
    assert ppo_math.masked_mean(values, torch.zeros_like(MASK)).item() == 0.0
    white = ppo_math.masked_whiten(values, MASK)
    assert white[MASK].mean().item() == pytest.approx(0, abs=1e-6)  # P34, as numbers
    assert white[MASK].std(correction=0).item() == pytest.approx(1, abs=1e-6) and (white[~MASK] == 0).all()
    scaled = ppo_math.masked_whiten(values, MASK, shift_mean=False)
    assert scaled[MASK].tolist() == pytest.approx((values[MASK] / values[MASK].std(correction=0)).tolist())
    one = torch.tensor([[True, False, False], [False, False, False]])
    assert ppo_math.masked_whiten(values, one).isfinite().all()
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    assert ppo_math.explained_variance(returns, returns, MASK) == 1.0
    assert ppo_math.explained_variance(torch.full_like(returns, 9.0), returns, MASK) == pytest.approx(0)
    assert ppo_math.explained_variance(returns, torch.ones_like(returns), MASK) == 0.0


def test_kl_estimators_on_a_distribution():
    """P25: k1 and k3 are unbiased, k2 is not but has the true gradient; k1 as a loss has none."""
    torch.manual_seed(0)
    p_logits, q = torch.randn(7, dtype=torch.float64, requires_grad=True), torch.randn(7, dtype=torch.float64)
    log_p, log_q = p_logits.log_softmax(0), q.log_softmax(0)
    p = log_p.exp()
    exact = (p * (log_p - log_q)).sum()
    mean = {k: (p * f(log_p, log_q)).sum() for k, f in
            (("k1", ppo_math.kl_k1), ("k2", ppo_math.kl_k2), ("k3", ppo_math.kl_k3))}
    assert mean["k1"].item() == pytest.approx(exact.item()) and mean["k3"].item() == pytest.approx(exact.item())
    assert abs(mean["k2"].item() - exact.item()) > 1e-3
    true_gradient = torch.autograd.grad(exact, p_logits, retain_graph=True)[0]
    for estimator, expected in ((ppo_math.kl_k1, torch.zeros(7)), (ppo_math.kl_k2, true_gradient)):
        loss = (p.detach() * estimator(log_p, log_q)).sum()
        assert torch.allclose(torch.autograd.grad(loss, p_logits, retain_graph=True)[0], expected.double(), atol=1e-9)
    assert (ppo_math.kl_k3(log_p, log_q) >= 0).all()


def test_adaptive_kl_is_clipped():
    assert ppo_math.adaptive_kl(0.1, 6, 6, 100) == pytest.approx(0.1)
    assert ppo_math.adaptive_kl(0.1, 60, 6, 1000) == pytest.approx(0.1 * 1.02)
    assert ppo_math.adaptive_kl(0.1, 0, 6, 1000) == pytest.approx(0.1 * 0.98)


def test_score_lands_on_the_last_action():
    """P1, P4, P5: by hand, and the same for finished and cut-off responses."""
    lp = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 50.0, float("nan")]], requires_grad=True)
    ref = torch.tensor([[-1.5, -2.0, -2.0], [-3.0, -9.0, 0.0]])
    rewards = ppo_math.shaped_rewards(torch.tensor([1.0, -1.0]), lp, ref, MASK, 0.1)
    assert rewards[0].tolist() == pytest.approx([-0.05, 0.0, 0.1 + 1.0])
    assert rewards[1].tolist() == pytest.approx([-0.2 - 1.0, 0.0, 0.0]) and not rewards.requires_grad
    assert ppo_math.last_action(MASK).tolist() == [2, 0]
    _, returns = ppo_math.gae(rewards, torch.zeros_like(ref), MASK, 1.0, 1.0)
    assert returns[0].tolist() == pytest.approx([1.05, 1.1, 1.1])  # score − kl_coef · (KL to go)
    with pytest.raises(ValueError, match="no token"):
        ppo_math.last_action(torch.zeros(1, 3, dtype=torch.bool))


def test_gae_by_hand():
    """Rewards 0, 0, 1 and values .5, .6, .7 with lambda .5: deltas .1, .1, .3."""
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]] * 2), torch.tensor([[0.5, 0.6, 0.7]] * 2)
    advantages, returns = ppo_math.gae(rewards, values, MASK, gamma=1.0, lam=0.5)
    assert advantages[0].tolist() == pytest.approx([0.1 + 0.5 * (0.1 + 0.15), 0.1 + 0.15, 0.3])
    assert torch.allclose(returns[0], advantages[0] + values[0])
    assert advantages[1].tolist() == pytest.approx([-0.5, 0, 0])  # one action: r − V, terminal value 0
    discounted, _ = ppo_math.gae(rewards, values, MASK, gamma=0.9, lam=0.0)
    assert discounted[0].tolist() == pytest.approx([0.9 * 0.6 - 0.5, 0.9 * 0.7 - 0.6, 0.3])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([1e9, float("nan"), float("inf"), -3.0]))
def test_padding_never_matters(seed, extra, garbage):
    """P6, P35, P38: garbage at padding and more padding columns change nothing but the rounding of sums."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(5) < torch.randint(1, 6, (4, 1), generator=generator)
    tensors = [torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(4)]
    scores = torch.randn(4, generator=generator, dtype=torch.float64)

    def compute(mask, lp, ref, values, new):
        new = new.clone().requires_grad_()
        rewards = ppo_math.shaped_rewards(scores, lp, ref, mask, 0.1)
        advantages, returns = ppo_math.gae(rewards, values, mask)
        white = ppo_math.masked_whiten(advantages, mask)
        loss, statistics = ppo_math.policy_loss(new, lp, white, mask)
        error = ppo_math.value_loss(new, values, returns, mask)
        (loss + error).backward()
        return (*(x[:, :5][mask[:, :5]] for x in (rewards, advantages, returns, white, new.grad)),
                torch.tensor([*statistics.values(), ppo_math.explained_variance(values, returns, mask)]).double(),
                (new.grad[~mask] == 0).all())

    expected = compute(mask, *tensors)
    wide = torch.nn.functional.pad(mask, (0, extra))
    soiled = [torch.where(wide, torch.nn.functional.pad(x, (0, extra)), garbage) for x in tensors]
    for a, b in zip(expected, compute(wide, *soiled), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-10) and b.all() == a.all()


def test_advantages_and_returns_carry_no_gradient():
    """P25, P37."""
    values = torch.randn(2, 3, requires_grad=True)
    advantages, returns = ppo_math.gae(torch.ones(2, 3), values, torch.ones(2, 3, dtype=torch.bool))
    assert not advantages.requires_grad and not returns.requires_grad


def test_policy_loss_by_hand():
    old = torch.zeros(2, 3)
    advantages = torch.tensor([[1.0, -1.0, 1.0], [2.0, 5.0, 5.0]])
    new = torch.tensor([[1.5, 1.5, 0.9], [0.5, 7.0, 7.0]]).log()
    loss, statistics = ppo_math.policy_loss(new, old, advantages, MASK, 0.2)
    # clipped at 1.2; not clipped (worse is believed); inside; not clipped below for a positive advantage
    assert loss.item() == pytest.approx((-1.2 + 1.5 - 0.9 - 2 * 0.5) / 4)
    assert statistics["clipfrac"] == pytest.approx(3 / 4) and statistics["max_ratio"] == pytest.approx(1.5)
    ratio = torch.tensor([1.5, 1.5, 0.9, 0.5])
    assert statistics["approx_kl"] == pytest.approx((ratio - 1 - ratio.log()).mean().item(), rel=1e-5)
    half, _ = ppo_math.policy_loss(new[:1], old[:1], advantages[:1], MASK[:1], 0.2, normaliser=4)
    rest, _ = ppo_math.policy_loss(new[1:], old[1:], advantages[1:], MASK[1:], 0.2, normaliser=4)
    assert (half + rest).item() == pytest.approx(loss.item())  # P36


def test_a_bad_token_is_pushed_down_to_the_clip_only():
    one = torch.ones(1, 1, dtype=torch.bool)
    new = torch.tensor([[0.5]]).log().requires_grad_()
    loss, statistics = ppo_math.policy_loss(new, torch.zeros(1, 1), -torch.ones(1, 1), one, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.8) and new.grad.item() == 0 and statistics["clipfrac"] == 1


def test_the_largest_ratio_is_one_of_an_action():
    mask = torch.tensor([[True, False], [True, True]])
    _, statistics = ppo_math.policy_loss(torch.full((2, 2), -0.5), torch.zeros(2, 2), torch.ones(2, 2), mask)
    assert statistics["max_ratio"] == pytest.approx(0.60653066)


def test_value_loss_by_hand():
    """P37: the clip is around the old values."""
    values, old = torch.tensor([[1.0, 0.1]]), torch.tensor([[0.0, 0.0]])
    returns, mask = torch.tensor([[1.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    clipped = 0.5 * ((1 - 0.2) ** 2 + 0.9**2) / 2
    assert ppo_math.value_loss(values, old, returns, mask, 0.2).item() == pytest.approx(clipped)
    assert ppo_math.value_loss(values, old, returns, mask, None).item() == pytest.approx(0.5 * 0.9**2 / 2)


def test_returns_at_padding_are_not_learnt():
    """P6, P35."""
    mask, zeros = torch.tensor([[True, False]]), torch.zeros(1, 2)
    for garbage in (9.0, float("nan")):
        assert ppo_math.value_loss(zeros, zeros, torch.tensor([[1.0, garbage]]), mask).item() == pytest.approx(0.5)


# ---------------------------------------------------------------- at the edge

def test_a_ratio_too_large_for_a_number_does_no_harm_where_the_advantage_is_zero():
    """exp(99) is infinite in float32, and 0 · ∞ is not a number."""
    new, old = torch.tensor([[-1.0, -1.0]], requires_grad=True), torch.tensor([[-100.0, -1.0]])
    loss, statistics = ppo_math.policy_loss(new, old, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(-0.5) and new.grad[0].tolist() == pytest.approx([0.0, -0.5])
    assert math.isfinite(statistics["max_ratio"]) and statistics["max_ratio"] > 1e9  # the guard of PPO sees it


def test_explained_variance_takes_a_mask_of_integers():
    values, returns, mask = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[1.5, 2.0, 5.0]]), torch.tensor([[1, 1, 0]])
    assert ppo_math.explained_variance(values, returns, mask) == ppo_math.explained_variance(
        values, returns, mask.bool())
