"""P1-P6: the signs of reward and KL, which logit and which value belong to a token, where the score lands."""

from dataclasses import replace

import pytest
import torch
from pieces import collect, sgd, update
from tiny import (
    KINDS,
    PROMPTS,
    VOCAB,
    a_config,
    a_policy,
    a_team,
    add_to_logit,
    constant,
    generator,
    low_tokens,
    plain_log_probs,
    rollout_of,
)

from rlhf_lite import models, ppo, ppo_math, sampling
from rlhf_lite.models import BEGIN, END

BANDIT = [BEGIN, 5]  # one prompt, one token to choose


def plain_config(**changes):
    """Nothing that hides numbers: one minibatch, no whitening, no value clip, lambda 1."""
    return a_config(**{"batch_size": 36, "minibatch": 36, "whiten_advantages": False, "value_clip": None, "lam": 1.0,
                       **changes})


def train(policy, reference, critic, reward_fn, **changes):
    settings = a_config(**{"iterations": 1, "batch_size": 64, "minibatch": 64, "micro_batch": None, "max_new_tokens": 1,
                           "whiten_advantages": False, **changes})
    return ppo.train_ppo(policy, reference, constant(critic, 0.0), [BANDIT], settings, reward_fn=reward_fn,
                         progress=False)


def a_stopping_policy(kind):
    """One whose responses differ in length: some finish, some are cut off."""
    policy = a_policy(kind, scale=3.0)
    add_to_logit(policy, END, 1.0)
    return policy


def mixed_batch(kind="llama", score=low_tokens, value=0.0, **changes):
    """(batch, scores, reference log-probabilities) of a policy that is not the reference; value None: any critic."""
    policy, reference = a_stopping_policy(kind), models.copy_model(a_policy(kind, 1, scale=3.0), trainable=False)
    critic = models.scalar_from_policy(policy, 0)
    critic = critic if value is None else constant(critic, value)
    batch, _ = collect(policy, reference, critic, PROMPTS, plain_config(**changes), score,
                       kl_coef=changes.get("kl_coef", 0.02))
    finished = batch.rollout.finished
    assert 5 < finished.sum() < len(finished) - 5
    return batch, score(batch.rollout), ppo.rollout_log_probs(reference, batch.rollout)


# ---------------------------------------------------------------- P1

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_p01_a_rewarded_token_becomes_likelier(kind, sign):
    """Symptom: the policy gets worse at what it is rewarded for (Ziegler's refactor flipped the sign in a night).
    Right: one update of a bandit with r = +1 for token a raises log π(a), with -1 it lowers it.
    Source: arXiv 1909.08593, section 4.4."""
    policy, reference, critic = a_team(kind)
    add_to_logit(policy, 7, 3.0)  # so that it is drawn now and then
    before = plain_log_probs(policy, BANDIT)[-1]
    train(policy, reference, critic, lambda rollout: sign * (rollout.responses[:, 0] == 7).float(), kl_coef=0.0,
          lr=5e-3)
    change = plain_log_probs(policy, BANDIT)[-1] - before
    assert sign * change[7] > 0.01 and (sign * change).argmax() == 7


@pytest.mark.parametrize("kind", KINDS)
def test_p01_without_reward_the_policy_returns_to_the_reference(kind):
    """Symptom: the penalty pushes the policy away from the reference (Ziegler's refactor flipped this sign too).
    Right: with r = 0 and π ≠ π_ref, updates lower the exact KL(π ‖ π_ref).
    Source: arXiv 1909.08593, section 4.4."""
    policy, reference, critic = a_team(kind)
    add_to_logit(policy, 7, 3.0)  # the policy only

    def kl():
        ours, theirs = (plain_log_probs(model, BANDIT)[-1] for model in (policy, reference))
        return (ours.exp() * (ours - theirs)).sum().item()

    before = kl()
    train(policy, reference, critic, lambda rollout: torch.zeros(64), iterations=2, kl_coef=1.0, lr=5e-3)
    assert before > 0.3 and kl() < 0.8 * before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_p01_the_sign_of_the_advantage(kind, sign):
    """Symptom: a loss that is minimised in the wrong direction.
    Right: a step on an action with advantage -1 lowers its probability, with +1 raises it.
    Source: arXiv 1909.08593, section 4.4."""
    policy, reference, critic = a_team(kind)
    settings = plain_config(batch_size=2, max_new_tokens=1)
    batch, _ = collect(policy, reference, critic, [BANDIT], settings, low_tokens, kl_coef=0.0)
    token = batch.rollout.responses[0, 0]
    before = plain_log_probs(policy, BANDIT)[-1, token]
    update(policy, critic, batch._replace(advantages=torch.tensor([[sign], [0.0]])), settings, sgd(0.1))
    assert sign * (plain_log_probs(policy, BANDIT)[-1, token] - before) > 1e-3


# ---------------------------------------------------------------- P2

@pytest.mark.parametrize("kind", KINDS)
def test_p02_before_any_step_ratios_are_one_and_the_kl_is_zero(kind):
    """Symptom: a ratio or KL that is not trivial before training shows that two passes do not compute the same.
    Right: max|ratio - 1| < 1e-5, clipfrac 0, approx_kl 0, and a KL to the reference of exactly 0.
    Source: trl #454, NeMo-Aligner #68, slime #774."""
    policy, reference, critic = a_team(kind, scale=3.0)
    settings = plain_config(minibatch=12)
    batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    assert entry["kl"] == 0.0
    for rows in torch.arange(36).split(7):  # batches cut otherwise than in the first pass
        part = sampling.take(batch.rollout, rows)
        new = sampling.token_log_probs(policy, part.sequences, part.attention_mask, part.prompt_length)
        ratio = (new - batch.log_probs[rows, :new.shape[1]]).exp()[part.response_mask]
        assert (ratio - 1).abs().max() < 1e-5
    statistics = update(policy, critic, batch, settings)
    assert abs(statistics["max_ratio"] - 1) < 1e-5 and statistics["clipfrac"] == 0
    assert statistics["approx_kl"] == pytest.approx(0, abs=1e-9)


# ---------------------------------------------------------------- P3

@pytest.mark.parametrize("kind", KINDS)
def test_p03_log_probs_and_values_belong_to_their_token(kind):
    """Symptom: logits or values shifted by one train quietly, only worse (verl's critic mask was).
    Right: logits[t-1] score token t, V_t is read before token t, and the action mask is attention_mask[:, 1:] cut to
    the response. Source: verl #1758, DeepSpeedExamples #741 and #888, gpt-neox #1285."""
    policy, _, critic = a_team(kind, scale=3.0)
    rollout = sampling.sample(policy, PROMPTS, 6, generator=generator())
    log_probs, values = ppo.rollout_log_probs(policy, rollout), ppo.rollout_values(critic, rollout)
    for row, (prompt, response) in enumerate(zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)):
        truth, start = plain_log_probs(policy, prompt + response), len(prompt)
        ids = torch.tensor([prompt + response])
        value = critic(ids, torch.ones_like(ids))[0]
        for t, token in enumerate(response):
            assert log_probs[row, t].item() == pytest.approx(truth[start + t - 1, token].item(), abs=1e-4)
            assert values[row, t].item() == pytest.approx(value[start + t - 1].item(), abs=1e-4)
    shifted = rollout.attention_mask[:, 1:][:, rollout.prompt_length - 1:]
    assert torch.equal(shifted.bool(), rollout.response_mask)


@pytest.mark.parametrize("kind", KINDS)
def test_p03_a_value_does_not_know_the_token_it_judges(kind):
    """Symptom: a critic that has seen the action leaves no advantage for it.
    Right: another token t leaves V_t and what came before as it was, and changes V_t+1 and log π of token t.
    Source: verl #1758, gpt-neox #1285."""
    policy, _, critic = a_team(kind, scale=3.0)
    one, other = rollout_of([[BEGIN, 5, 6]], [[10, 11, 12, 13]]), rollout_of([[BEGIN, 5, 6]], [[10, 40, 12, 13]])
    values, changed = (ppo.rollout_values(critic, rollout)[0] for rollout in (one, other))
    assert torch.allclose(values[:2], changed[:2], atol=1e-6) and ((values - changed)[2:].abs() > 1e-3).all()
    log_probs, changed = (ppo.rollout_log_probs(policy, rollout)[0] for rollout in (one, other))
    assert log_probs[0].item() == pytest.approx(changed[0].item(), abs=1e-6)
    assert ((log_probs - changed)[1:].abs() > 1e-3).all()


# ---------------------------------------------------------------- P4 and P5

def test_p04_score_one_value_a_fifth():
    """Symptom: a score that lands after END is weighed by V of a state that does not exist.
    Right: with score 1 and V .2 everywhere the last action has advantage .80, finished or cut off.
    Source: trl #1893, #3750, PR #5338."""
    batch, _, _ = mixed_batch(score=lambda rollout: torch.ones(36), value=0.2, kl_coef=0.0, lam=0.95)
    for row, length in enumerate(batch.rollout.lengths.tolist()):
        expected = [0.8 * 0.95 ** (length - 1 - t) for t in range(length)]
        assert batch.advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-6)
        assert (batch.advantages[row, length:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_p04_returns_are_the_score_minus_the_kl_to_go(kind):
    """Symptom: truncated and finished responses are rewarded at different places.
    Right: with γ = λ = 1 and V = 0 every token's return is score - β · (KL to go), the same rule for both.
    Source: trl #1893, #3750, PR #5338."""
    batch, scores, ref_log_probs = mixed_batch(kind, kl_coef=0.3)
    for row, length in enumerate(batch.rollout.lengths.tolist()):
        kl = (batch.log_probs - ref_log_probs)[row, :length]
        expected = [(scores[row] - 0.3 * kl[t:].sum()).item() for t in range(length)]
        assert batch.returns[row, :length].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_p05_nothing_comes_after_the_last_action(kind):
    """Symptom: bootstrapping from a value after the end makes every response look unfinished.
    Right: V beyond the last action is 0, so A_last = r_last - V_last and the last return is r_last.
    Source: no thread; the definition of GAE (arXiv 1506.02438) for a state that ends the episode."""
    batch, scores, ref_log_probs = mixed_batch(kind, value=None, kl_coef=0.3, lam=0.95)
    rows, last = torch.arange(36), ppo_math.last_action(batch.rollout.response_mask)
    rewards = scores - 0.3 * (batch.log_probs - ref_log_probs)[rows, last]
    values = batch.values[rows, last]
    assert values.abs().min() > 1e-3 and values.std() > 0.1
    assert torch.allclose(batch.advantages[rows, last], rewards - values, atol=1e-5)
    assert torch.allclose(batch.returns[rows, last], rewards, atol=1e-5)


# ---------------------------------------------------------------- P6

@pytest.mark.parametrize("garbage", [100.0, float("nan"), float("inf")])
def test_p06_garbage_at_padding_does_not_reach_gae(garbage):
    """Symptom: one value of 100 at a pad turns the advantages (.72, .76, .80) into (5.23, 5.51, 5.80).
    Right: rewards, advantages and returns are bit-identical under any values, rewards and log-probabilities at padding.
    Source: ROLL #447, rlhf-book #216, AReaL #1346, miles #1827, DeepSpeedExamples PR #672."""
    mask = torch.tensor([[True] * 3 + [False] * 2])
    score, zeros, values = torch.ones(1), torch.zeros(1, 5), torch.full((1, 5), 0.2)

    def estimate(fill):
        log_probs, ref, value = (torch.where(mask, x, fill) for x in (zeros, zeros, values))
        rewards = ppo_math.shaped_rewards(score, log_probs, ref, mask, 0.1)
        return rewards, *ppo_math.gae(torch.where(mask, rewards, fill), value, mask, 1.0, 0.95)

    rewards, advantages, returns = estimate(0.0)
    assert advantages[0].tolist() == pytest.approx([0.722, 0.76, 0.8, 0, 0])
    assert all(torch.equal(a, b) for a, b in zip(estimate(garbage), (rewards, advantages, returns), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_p06_garbage_tokens_at_padding_change_no_update(kind, monkeypatch):
    """Symptom: results depend on what stands at padding, so on which rows happen to share a batch.
    Right: other token ids at padding leave advantages, measurements and the trained weights bit-identical.
    Source: ROLL #447, AReaL #1346, miles #1827, DeepSpeedExamples PR #672."""
    settings = plain_config(batch_size=12, minibatch=6, whiten_advantages=True, micro_batch=3)
    drawn = rollout_of(PROMPTS, [[10 + i] * (i % 5) + [END] for i in range(12)])
    soiled = replace(drawn, sequences=torch.where(drawn.attention_mask.bool(), drawn.sequences, VOCAB - 1))
    assert not torch.equal(drawn.sequences[:, :5], soiled.sequences[:, :5])
    assert not torch.equal(drawn.responses, soiled.responses)
    results = []
    for rollout in (drawn, soiled):
        monkeypatch.setattr(ppo, "sample", lambda *arguments, rollout=rollout, **options: rollout)
        policy, reference, critic = a_team(kind)
        batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens, kl_coef=0.1)
        entry |= update(policy, critic, batch, settings, sgd(0.1))
        results.append((entry, [batch.advantages, batch.returns, *policy.parameters(), *critic.parameters()]))
    (entry, tensors), (soiled_entry, soiled_tensors) = results
    assert entry == soiled_entry and all(torch.equal(a, b) for a, b in zip(tensors, soiled_tensors, strict=True))
