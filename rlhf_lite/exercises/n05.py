"""Exercises of notebook 05: PPO with a KL penalty."""

import functools
import math

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lite import models, ppo, ppo_math, sampling, tiny_world
from rlhf_lite.exercises.checking import Exercise

LESSON = {
    "title": "PPO with a KL penalty",
    "promise": "The heart of RLHF, twice: first in a world of six tokens, where the best possible policy can be "
               "written down and PPO has to find it; then in Pebbleford, once you have built every piece yourself.",
    "minutes": 150, "needs": "notebooks 02 and 04, or nothing: it starts from shipped models",
    "step": "3, reinforcement learning",
    "aims": ["say what the KL penalty does, and write down the policy it makes best",
             "build every piece of a PPO step: log-probabilities, shaped rewards, advantages, two clipped losses",
             "check a PPO loop against exact numbers, and by what must hold before its first step",
             "read one answer token by token: where the policy left the reference, and what it was paid for it"],
}


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _mask(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


# ---------------------------------------------------------------- 5.1 three estimators of one KL

def kl_estimators(log_probs, ref_log_probs):
    """The library's three estimators side by side."""
    return (ppo_math.kl_k1(log_probs, ref_log_probs), ppo_math.kl_k2(log_probs, ref_log_probs),
            ppo_math.kl_k3(log_probs, ref_log_probs))


def _log_prob_pairs():
    return [(torch.tensor([0.5, 0.25, 0.1]).log(), torch.tensor([0.25, 0.25, 0.4]).log()),
            (-3 * torch.rand(6, generator=_generator(0)), -3 * torch.rand(6, generator=_generator(1)))]


def _k1_turned(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return -k1, k2, k3


def _k2_not_halved(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, 2 * k2, k3


def _k3_turned(log_probs, ref_log_probs):
    k1, k2, _ = kl_estimators(log_probs, ref_log_probs)
    return k1, k2, k1.exp() - 1 - k1


def _k3_without_one(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, k2, k3 + 1


# ---------------------------------------------------------------- 5.2 the best policy there is

def _references():
    one = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]), 1.0
    reference = torch.randn(2, 5, generator=_generator(2)).log_softmax(dim=1)
    return [one, (reference, torch.randn(2, 5, generator=_generator(3)), 0.5)]


def _tilted(log_ref, scores, kl_coef, exponent, value_factor=None):
    log_z = exponent.logsumexp(dim=-1)
    return exponent - log_z[..., None], (kl_coef if value_factor is None else value_factor) * log_z


def _times_kl_coef(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref + scores * kl_coef)


def _without_reference(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, scores / kl_coef)


def _score_subtracted(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref - scores / kl_coef)


def _not_normalised(log_ref, scores, kl_coef):
    return log_ref + scores / kl_coef, tiny_world.optimum(log_ref, scores, kl_coef)[1]


def _value_is_log_z(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref + scores / kl_coef, value_factor=1.0)


def _over_all_prompts(log_ref, scores, kl_coef):
    exponent = log_ref + scores / kl_coef
    log_z = exponent.flatten().logsumexp(dim=0)
    return exponent - log_z, (kl_coef * log_z).expand(len(log_ref))


# ---------------------------------------------------------------- 5.3 log-probabilities under left padding

@functools.cache
def _two_policies():
    """A Llama with rotary positions and a GPT-2 with learned ones: only the second notices wrong positions."""
    llama = tiny_world.tiny_policy(tiny_world.make_world(), seed=0, sharpness=8, hidden_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gpt2 = GPT2LMHeadModel(GPT2Config(
            vocab_size=5, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, bos_token_id=1, eos_token_id=2, pad_token_id=None)).eval()
        for parameter in gpt2.transformer.wpe.parameters():
            torch.nn.init.normal_(parameter)
        for parameter in gpt2.transformer.wte.parameters():
            torch.nn.init.normal_(parameter)
    return llama.requires_grad_(False), gpt2.requires_grad_(False)


def _padded_rows():
    llama, gpt2 = _two_policies()
    sequences = torch.tensor([[0, 0, 1, 3, 4, 2], [1, 4, 3, 3, 2, 0], [0, 1, 4, 2, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]])
    return [(llama, sequences, mask, 3, 1.0), (gpt2, sequences, mask, 3, 1.0), (llama, sequences, mask, 3, 0.5)]


def _at_tokens(function, policy, sequences, mask, prompt_length, temperature):
    """What the function says of real tokens; at padding it may say anything."""
    got = function(policy, sequences, mask, prompt_length, temperature)
    wanted = mask[:, prompt_length:].bool()
    return torch.where(wanted, got, 0.0) if isinstance(got, torch.Tensor) and got.shape == wanted.shape else got


def _gathered(scores, tokens, temperature):
    return (scores / temperature).log_softmax(dim=-1).gather(2, tokens[..., None]).squeeze(2)


def _scores(policy, sequences, mask, positions=True):
    if mask is None:
        return policy(input_ids=sequences).logits
    if not positions:
        return policy(input_ids=sequences, attention_mask=mask).logits
    return models.logits(policy, sequences, mask)


def _no_shift(policy, sequences, mask, prompt_length, temperature=1.0):
    return _gathered(_scores(policy, sequences, mask)[:, prompt_length:], sequences[:, prompt_length:], temperature)


def _shift_by_two(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask)[:, prompt_length - 2:-2]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


def _no_mask(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, None)[:, prompt_length - 1:-1]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


def _no_positions(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask, positions=False)[:, prompt_length - 1:-1]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


def _no_temperature(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length)


def _raw_logits(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask)[:, prompt_length - 1:-1] / temperature
    return scores.gather(2, sequences[:, prompt_length:, None]).squeeze(2)


# ---------------------------------------------------------------- 5.4 a reward for every token

def _scored_rows():
    mask = _mask(3, 1, 4)
    log_probs = torch.where(mask, -2 * torch.rand(3, 4, generator=_generator(4)), -9.0).requires_grad_()
    ref_log_probs = torch.where(mask, -2 * torch.rand(3, 4, generator=_generator(5)), -5.0)
    return [(torch.tensor([1.0, -0.5, 2.0]), log_probs, ref_log_probs, mask, 0.1),
            (torch.tensor([0.3, 0.7, -1.0]), log_probs, ref_log_probs, mask, 2.0)]


def _rewards_and_gradient(function, *arguments):
    rewards = function(*arguments)
    return rewards if rewards is None else {"rewards": rewards, "carries a gradient": bool(rewards.requires_grad)}


def _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, sign=-1, pads=False, place=None):
    rewards = sign * kl_coef * (log_probs - ref_log_probs)
    rewards = (rewards if pads else torch.where(mask, rewards, 0.0)).clone()
    columns = ppo_math.last_action(mask) if place is None else torch.full((len(mask),), place)
    rewards[torch.arange(len(mask)), columns] += scores
    return rewards


def _pays_for_leaving(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, sign=1).detach()


def _score_in_last_column(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, place=mask.shape[1] - 1).detach()


def _score_on_every_token(scores, log_probs, ref_log_probs, mask, kl_coef):
    return torch.where(mask, scores[:, None] - kl_coef * (log_probs - ref_log_probs), 0.0).detach()


def _not_detached(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef)


def _penalty_at_pads(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, pads=True).detach()


def _penalty_in_one_lump(scores, log_probs, ref_log_probs, mask, kl_coef):
    total = torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1)
    return _rewards(scores - kl_coef * total, log_probs, log_probs, mask, kl_coef).detach()


# ---------------------------------------------------------------- 5.5 and 5.6 advantages

def _rewards_and_values():
    mask = _mask(3, 1, 4)
    rewards = torch.where(mask, torch.randn(3, 4, generator=_generator(6)), 3.0)
    values = torch.where(mask, torch.randn(3, 4, generator=_generator(7)), 5.0)
    return [(rewards, values, mask, 1.0, 0.5), (rewards, values, mask, 0.9, 0.6)]


def _gae_by(rewards, values, mask, gamma, lam, backwards=True, next_values=None, delta_discount=None):
    """GAE with the places where it is often got wrong left open."""
    width = rewards.shape[1]
    following = next_values
    if following is None:
        following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    advantages, running = torch.zeros_like(rewards), torch.zeros(len(rewards))
    for t in reversed(range(width)) if backwards else range(width):
        delta = rewards[:, t] + (gamma if delta_discount is None else delta_discount) * following[:, t] - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0.0)
        advantages[:, t] = running
    return advantages, torch.where(mask, advantages + values, 0.0)


def _real_only(rewards, values, mask):
    return torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)


def _pads_leak(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = _gae_by(rewards, values, torch.ones_like(mask), gamma, lam)
    return torch.where(mask, advantages, 0.0), torch.where(mask, advantages + values, 0.0)


def _bootstraps_at_the_end(rewards, values, mask, gamma=1.0, lam=0.95):
    return _gae_by(rewards, values, mask, gamma, lam)


def _discounts_swapped(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, delta_discount=lam)


def _forwards(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, backwards=False)


def _no_lambda(rewards, values, mask, gamma=1.0, lam=0.95):
    return ppo_math.gae(rewards, values, mask, gamma, 1.0)


def _no_next_value(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, next_values=torch.zeros_like(values))


def _returns_are_advantages(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = ppo_math.gae(rewards, values, mask, gamma, lam)
    return advantages, advantages


# ---------------------------------------------------------------- 5.7 whitening

def _values_to_whiten():
    mask = _mask(3, 1, 4)
    values = torch.where(mask, 2 + torch.randn(3, 4, generator=_generator(8)), 40.0)
    return [(values, mask, True), (values, mask, False)]


def _whitened(values, mask, shift_mean=True, over=None, correction=0, keep_mean=False):
    chosen = values[mask if over is None else over]
    centred = values - chosen.mean() if shift_mean else values
    scaled = centred / chosen.std(correction=correction)
    return torch.where(mask, scaled + (chosen.mean() if keep_mean and shift_mean else 0.0), 0.0)


def _whitened_over_pads(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean, over=torch.ones_like(mask))


def _whitened_over_zeros(values, mask, shift_mean=True):
    return _whitened(torch.where(mask, values, 0.0), mask, shift_mean, over=torch.ones_like(mask))


def _mean_kept(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean, keep_mean=True)


def _sample_deviation(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean, correction=1)


def _always_shifted(values, mask, shift_mean=True):
    return _whitened(values, mask, True)


def _variance_for_deviation(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean) / values[mask].std(correction=0)


# ---------------------------------------------------------------- 5.8 from scores to advantages

def advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    """Shaped rewards, GAE with the library's gamma and lambda, and the advantages (not the returns) whitened."""
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(rewards, values, mask)
    return ppo_math.masked_whiten(advantages, mask), returns


def _rollout_numbers():
    mask = _mask(3, 1, 4)
    parts = [torch.where(mask, torch.randn(3, 4, generator=_generator(seed)), 7.0) for seed in (9, 10, 11)]
    return [(torch.tensor([1.0, -0.5, 2.0]), -parts[0].abs(), -parts[1].abs(), parts[2], mask, kl_coef)
            for kl_coef in (0.1, 1.0)]


def _whitened_before_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    advantages, _ = advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef)
    return advantages, torch.where(mask, advantages + values, 0.0)


def _not_whitened(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    return ppo_math.gae(ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef), values, mask)


def _policies_swapped(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    return advantages_and_returns(scores, ref_log_probs, log_probs, values, mask, kl_coef)


def _rewards_whitened(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(ppo_math.masked_whiten(rewards, mask), values, mask)
    return ppo_math.masked_whiten(advantages, mask), returns


def _returns_whitened(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    advantages, returns = advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef)
    return advantages, ppo_math.masked_whiten(returns, mask)


# ---------------------------------------------------------------- 5.9 the clipped policy loss

def policy_loss(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    """The library's loss without its statistics."""
    return ppo_math.policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)[0]


def _loss_and_gradient(function, first, *arguments):
    """The value of a loss and its derivative by the first argument."""
    first = first.detach().clone().requires_grad_()
    loss = function(first, *arguments)
    loss = loss[0] if isinstance(loss, tuple) else loss
    if loss is None:
        return None
    gradient = torch.zeros_like(first)
    if loss.requires_grad:
        found, = torch.autograd.grad(loss.sum(), first, allow_unused=True)
        gradient = gradient if found is None else found
    return {"loss": loss, "gradient": gradient}


def _ratios_and_advantages():
    mask = _mask(6, 4)
    old = -torch.rand(2, 6, generator=_generator(12))
    log_ratio = torch.tensor([[0.5, 0.5, -0.5, -0.5, 0.1, -0.1], [0.9, -0.9, 0.05, -0.3, 2.0, -2.0]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0, -0.5], [-2.0, 0.7, -0.3, 1.5, 4.0, 4.0]])
    return [(old + log_ratio, old, advantages, mask, clip_range) for clip_range in (0.2, 0.4)]


def _policy_losses(log_probs, old_log_probs, advantages, clip_range, low=True, worst=torch.maximum):
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_range if low else None, 1 + clip_range)
    return worst(-advantages * ratio, -advantages * clipped)


def _ratio_reversed(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(-log_probs, -old_log_probs, advantages, clip_range)
    return ppo_math.masked_mean(losses, mask)


def _best_of_both(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(log_probs, old_log_probs, advantages, clip_range, worst=torch.minimum)
    return ppo_math.masked_mean(losses, mask)


def _policy_sign(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return -policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)


def _clipped_above_only(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return ppo_math.masked_mean(_policy_losses(log_probs, old_log_probs, advantages, clip_range, low=False), mask)


def _policy_mean_over_pads(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return _policy_losses(log_probs, old_log_probs, advantages, clip_range).mean()


def _zeros_counted(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return torch.where(mask, _policy_losses(log_probs, old_log_probs, advantages, clip_range), 0.0).mean()


def _clip_without_choice(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(log_probs, old_log_probs, advantages, clip_range, worst=lambda plain, clipped: clipped)
    return ppo_math.masked_mean(losses, mask)


def _never_clipped(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return policy_loss(log_probs, old_log_probs, advantages, mask, math.inf)


# ---------------------------------------------------------------- 5.10 the clipped value loss

def _values_and_returns():
    mask = _mask(5, 3)
    old = torch.randn(2, 5, generator=_generator(13))
    values = old + torch.tensor([[0.5, -0.5, 0.1, -0.1, 0.5], [-0.5, 0.05, 0.4, 3.0, 3.0]])
    returns = old + torch.tensor([[1.0, 1.0, -1.0, 0.3, -1.0], [-0.2, 0.4, 0.25, -4.0, -4.0]])
    return [(values, old, returns, mask, clip_range) for clip_range in (0.2, 0.3)]


def _value_errors(values, centre, returns, clip_range, worst=torch.maximum):
    clipped = centre + (values - centre).clamp(-clip_range, clip_range)
    return worst((values - returns) ** 2, (clipped - returns) ** 2)


def _no_half(values, old_values, returns, mask, clip_range=0.2):
    return 2 * ppo_math.value_loss(values, old_values, returns, mask, clip_range)


def _clipped_around_zero(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, torch.zeros_like(values), returns, clip_range), mask)


def _smaller_error(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, old_values, returns, clip_range, torch.minimum), mask)


def _only_the_clipped_error(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, old_values, returns, clip_range, lambda a, b: b), mask)


def _value_mean_over_pads(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * _value_errors(values, old_values, returns, clip_range).mean()


def _value_not_clipped(values, old_values, returns, mask, clip_range=0.2):
    return ppo_math.value_loss(values, old_values, returns, mask, None)


# ---------------------------------------------------------------- 5.11 one step

def ppo_step(policy, critic, optimizers, batch):
    """Both losses on one batch (a `ppo.Batch`), one backward pass, a step of every optimizer -> the losses' sum."""
    rollout, mask = batch.rollout, batch.rollout.response_mask
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    values = ppo.response_values(critic, rollout)
    loss = (policy_loss(log_probs, batch.log_probs, batch.advantages, mask)
            + ppo_math.value_loss(values, batch.values, batch.returns, mask))
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@functools.cache
def _small_start():
    """A policy, a critic and a batch of twelve answers in a world of five tokens."""
    world = tiny_world.make_world(vocab_size=5, max_new_tokens=3)
    policy = tiny_world.tiny_policy(world, seed=0, sharpness=4, hidden_size=16)
    critic = models.scalar_from_policy(policy, 0)
    scores = torch.randn(1, len(world.responses), generator=_generator(14))
    batch, _ = ppo.collect(policy, models.copy_model(policy, trainable=False), critic, world.prompts,
                           ppo.PPOConfig(batch_size=12, max_new_tokens=3), tiny_world.reward_function(world, scores),
                           iteration=0, kl_coef=0.1)
    return policy, critic, batch


def _step_counts():
    return [(1,), (3,)]


def _after_steps(function, steps):
    """Take some steps on one batch; what the two models then say of it, and the last loss."""
    policy, critic, batch = _small_start()
    policy, critic = models.copy_model(policy), models.copy_model(critic)
    optimizers = [torch.optim.SGD(policy.parameters(), lr=0.3), torch.optim.SGD(critic.parameters(), lr=0.03)]
    for _ in range(steps):
        loss = function(policy, critic, optimizers, batch)
    if loss is None:
        return None
    mask = batch.rollout.response_mask
    return {"loss": float(loss), "policy": torch.where(mask, ppo.rollout_log_probs(policy, batch.rollout), 0.0),
            "critic": torch.where(mask, ppo.rollout_values(critic, batch.rollout), 0.0)}


def _step(policy, critic, optimizers, batch, old=None, shift=1, before=(), after=("step", "zero_grad"), sign=1):
    rollout, mask = batch.rollout, batch.rollout.response_mask
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    start = rollout.prompt_length - shift
    values = critic(rollout.sequences, rollout.attention_mask)[:, start:start + mask.shape[1]]
    old = log_probs.detach() if old == "new" else batch.log_probs
    loss = (sign * policy_loss(log_probs, old, batch.advantages, mask)
            + ppo_math.value_loss(values, batch.values, batch.returns, mask))
    loss.backward()
    for optimizer in optimizers:
        for name in after:
            getattr(optimizer, name)()
    return loss.item()


def _gradients_pile_up(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, after=("step",))


def _gradients_thrown_away(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, after=("zero_grad", "step"))


def _ratio_always_one(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, old="new")


def _critic_left_alone(policy, critic, optimizers, batch):
    loss = _step(policy, critic, optimizers[:1], batch)
    optimizers[1].zero_grad()
    return loss


def _values_one_late(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, shift=0)


def _policy_pushed_away(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, sign=-1)


# ---------------------------------------------------------------- 5.12 the dial that turns itself

def _controller_cases():
    return [(0.2, 2.2, 2.0, 256, 10_000), (0.05, 30.0, 6.0, 512, 10_000), (0.1, 0.5, 6.0, 256, 1000),
            (0.1, 5.5, 6.0, 256, 1000)]


def _turned_the_wrong_way(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 - max(-0.2, min(0.2, kl / target - 1)) * episodes / horizon)


def _error_not_clipped(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 + (kl / target - 1) * episodes / horizon)


def _absolute_error(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 + max(-0.2, min(0.2, kl - target)) * episodes / horizon)


def _added(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef + max(-0.2, min(0.2, kl / target - 1)) * episodes / horizon


def _no_horizon(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 + max(-0.2, min(0.2, kl / target - 1)))


EXERCISES = [
    Exercise(
        "5.1", "three estimators of one KL", 10, 1,
        ("Everything is made of the log-ratio `d = log_probs - ref_log_probs`. k1 is d, k2 is half its square.",
         "k3 needs the ratio the other way round: exp(−d) − 1 + d. `torch.expm1(-d) + d` is the same, and exact for "
         "small d."),
        kl_estimators, _log_prob_pairs,
        {"k1 has the wrong sign. The samples come from the policy, and KL(π ‖ π_ref) is the mean of log π − log π_ref: "
         "positive on average.": _k1_turned,
         "k2 is half the square of the log-ratio; the half is missing.": _k2_not_halved,
         "k3 has its ratio upside down. With samples from the policy the ratio is π_ref/π; turned round, its mean is "
         "not the KL at all. Several well-known tutorials have this slip.": _k3_turned,
         "k3 lacks its −1. Without it the estimate of two equal policies would be 1, not 0.": _k3_without_one}),
    Exercise(
        "5.2", "the best policy there is", 10, 2,
        ("Add `scores / kl_coef` to the log-probabilities of the reference. What is still missing is that the "
         "probabilities of each prompt add up to 1.",
         "`tilted = log_ref + scores / kl_coef`, then `log_z = tilted.logsumexp(dim=-1)`: subtract `log_z[..., None]` "
         "from `tilted`; the value is `kl_coef * log_z`."),
        tiny_world.optimum, _references,
        {"the scores are multiplied by kl_coef. They must be divided: the dearer it is to leave the reference, the "
         "smaller the tilt.": _times_kl_coef,
         "the reference is missing. This is the best policy if leaving a *uniform* policy is what costs.":
             _without_reference,
         "the tilt goes the wrong way: this policy likes bad responses best.": _score_subtracted,
         "these are not log-probabilities yet: for each prompt their exponentials must add up to 1. Subtract log Z.":
             _not_normalised,
         "the policy is right; the value is log Z, and should be kl_coef · log Z.": _value_is_log_z,
         "Z was summed over all prompts together. Every prompt has a Z of its own: sum over the last dimension.":
             _over_all_prompts}),
    Exercise(
        "5.3", "log-probabilities under left padding", 15, 2,
        ("`models.logits(policy, sequences, attention_mask)` makes a forward pass with mask *and* positions. The "
         "logits at place t − 1 speak about the token at t.",
         "Take `logits[:, prompt_length - 1:-1]`, divide by the temperature, `log_softmax` over the last dimension, "
         "and `gather` the tokens `sequences[:, prompt_length:]`."),
        sampling.token_log_probs, _padded_rows,
        {"logits and tokens are not shifted against each other. The logits at place t are the opinion on token t + 1, "
         "so the first response token is scored at the last place of the prompt.": _no_shift,
         "the shift is one too many: only one place lies between a logit and the token it scores.": _shift_by_two,
         "the padding on the left was read as text. Without the attention mask every short prompt begins with a few "
         "pads, and each answer is scored in another context than it was sampled in.": _no_mask,
         "the mask is there, the positions are not. A model with learned positions (the check has a small GPT-2) then "
         "thinks that a padded prompt starts in the middle; Llama's rotary positions hide the mistake.": _no_positions,
         "the temperature is forgotten. Tokens sampled at 0.5 and scored at 1 make old and new policy differ before "
         "the first step.": _no_temperature,
         "these are logits, not log-probabilities: they still lack the log of the sum over the vocabulary.":
             _raw_logits},
        observe=_at_tokens, tolerance=1e-3),
    Exercise(
        "5.4", "a reward for every token", 15, 2,
        ("Start with the penalty at every real token: `torch.where(mask, -kl_coef * (log_probs - ref_log_probs), "
         "0.0)`. Then add each score at one place.",
         "`ppo_math.last_action(mask)` gives the column of each row's last token. Add there with "
         "`rewards[torch.arange(len(mask)), columns] += scores`, and return `rewards.detach()`."),
        ppo_math.shaped_rewards, _scored_rows,
        {"the penalty has the wrong sign: this pays the policy for leaving the reference. (OpenAI once flipped reward "
         "and penalty together and woke up to a fluent model of the worst kind.)": _pays_for_leaving,
         "the score stands in the last column. In a short row that is padding, and its answer is never paid. It "
         "belongs to the last action of its own row.": _score_in_last_column,
         "the score is paid at every token. A long answer then earns its score many times over.": _score_on_every_token,
         "the numbers are right, but they still carry a gradient. A reward is a number the world hands out, not a "
         "function to differentiate: detach it.": _not_detached,
         "the penalty is also charged at the padding, where nobody chose a token.": _penalty_at_pads,
         "the whole penalty falls on the last token. Its sum is right, but the paper charges it per token, so that the "
         "token that left the reference is the one that pays.": _penalty_in_one_lump},
        observe=_rewards_and_gradient),
    Exercise(
        "5.5", "three advantages by hand", 10, 2,
        ("First the three surprises: δ = reward + next value − value, where after the last token the next value is 0. "
         "They are 0.2, 0.0 and 0.6.",
         "Then from the back: the last advantage is the last δ, each earlier one its own δ plus λ times the advantage "
         "after it."),
        [0.35, 0.3, 0.6], None,
        {"these are the surprises δ alone (λ = 0). Each advantage also gets λ times the one after it.": [0.2, 0.0, 0.6],
         "here the later surprises count in full (λ = 1). With λ = 0.5 each step back halves them.": [0.8, 0.6, 0.6],
         "these are the returns, advantages plus values.": [0.55, 0.8, 1.0],
         "you went forwards. Credit flows backwards: an early token is praised for what came after it.":
             [0.2, 0.1, 0.65]}, tolerance=0.005),
    Exercise(
        "5.6", "generalised advantage estimation", 15, 3,
        ("Put zeros at the padding of rewards and values first. Then go through the columns from the last to the first "
         "and keep two things: the running advantage and the value of the column after.",
         "In the loop: `delta = rewards[:, t] + gamma * next_value - values[:, t]`, `running = torch.where(mask[:, t], "
         "delta + gamma * lam * running, 0.0)`, `next_value = values[:, t]`. Returns are advantages plus values."),
        ppo_math.gae, _rewards_and_values,
        {"padding leaks in: what stands behind the end of a short answer changes its advantages. Start each row's sum "
         "at its own last token.": _pads_leak,
         "you bootstrap beyond the end: the last token's surprise uses the critic's number at the padding. After END "
         "there is nothing to come, so the next value is 0.": _bootstraps_at_the_end,
         "gamma and lam are swapped in the surprise: δ discounts the next value by gamma alone; lam only weighs the "
         "surprises that follow.": _discounts_swapped,
         "you went forwards. Credit flows backwards: begin at the last column.": _forwards,
         "lam is not used, so all later surprises count in full.": _no_lambda,
         "the surprise lacks the next value. Without it a token is blamed for all that the critic still expects.":
             _no_next_value,
         "the second result should be the returns, what the critic is to learn: advantages plus values.":
             _returns_are_advantages}),
    Exercise(
        "5.7", "whitening", 10, 1,
        ("Mean and standard deviation run over the True places only. With `shift_mean` the mean is taken away, without "
         "it the values are only scaled.",
         "`chosen = values[mask]`; `chosen.mean()` and `chosen.std(correction=0)`. At padding return 0, with "
         "`torch.where(mask, ..., 0.0)`."),
        ppo_math.masked_whiten, _values_to_whiten,
        {"the statistics include the padding, and whatever garbage stands there.": _whitened_over_pads,
         "the padding was set to 0 and then counted. Zeros are numbers too: they pull mean and deviation towards 0.":
             _whitened_over_zeros,
         "the mean was put back after scaling. Then an average token is praised (or blamed) for nothing.": _mean_kept,
         "this is the sample deviation (n − 1). Here it is the population's; with one single token n − 1 would be a "
         "division by 0.": _sample_deviation,
         "with `shift_mean=False` the mean must stay: rewards would change their signs otherwise.": _always_shifted,
         "this divides by the variance. Divide by its square root.": _variance_for_deviation}),
    Exercise(
        "5.8", "from scores to advantages, in the right order", 10, 2,
        ("Three of your functions in a row: shaped rewards, GAE, whitening. Only one of GAE's two results is whitened.",
         "`rewards = shaped_rewards(...)`, `advantages, returns = gae(rewards, values, mask)`, and return "
         "`masked_whiten(advantages, mask), returns`."),
        advantages_and_returns, _rollout_numbers,
        {"the returns were made from the whitened advantages. The critic would learn a number that changes its unit "
         "with every batch. First the returns, then whiten.": _whitened_before_returns,
         "the advantages are not whitened.": _not_whitened,
         "policy and reference are swapped, so the policy is paid for leaving.": _policies_swapped,
         "the rewards were whitened too, mean and all: a token that earned nothing now has a reward.":
             _rewards_whitened,
         "the returns were whitened. The critic must predict rewards as they are.": _returns_whitened}),
    Exercise(
        "5.9", "the clipped policy loss", 15, 3,
        ("The ratio is `(log_probs - old_log_probs).exp()`. Compute two losses per token, −A · ratio and −A · clipped "
         "ratio, and keep the worse one.",
         "`torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))`, then a mean "
         "over the True places of the mask."),
        policy_loss, _ratios_and_advantages,
        {"the ratio is upside down: it is new over old, so that it grows when the token becomes likelier.":
             _ratio_reversed,
         "you keep the better of the two losses. Clipping then rewards what it should stop: take the minimum of the "
         "gains, which is the maximum of the losses.": _best_of_both,
         "the sign is flipped. A loss goes down, gains go up: minus ratio times advantage.": _policy_sign,
         "only large ratios are clipped. A token with a negative advantage is pushed down, and must be stopped at "
         "1 − clip_range.": _clipped_above_only,
         "the mean runs over padding too.": _policy_mean_over_pads,
         "the padding adds 0 but is still counted: divide by the number of real tokens, or short answers weaken the "
         "step.": _zeros_counted,
         "only the clipped loss is used. A token that has moved too far the *wrong* way then has no gradient and never "
         "comes back.": _clip_without_choice,
         "nothing is clipped: one lucky batch can now throw the policy anywhere.": _never_clipped},
        observe=_loss_and_gradient),
    Exercise(
        "5.10", "the clipped value loss", 10, 2,
        ("The clipped value is the old one plus a change of at most ±clip_range. Square both errors, keep the larger.",
         "`clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)`, then half the masked mean of "
         "`torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)`."),
        ppo_math.value_loss, _values_and_returns,
        {"the half is missing.": _no_half,
         "the values themselves are clipped. Clip their *change*: old value plus at most ±clip_range.":
             _clipped_around_zero,
         "you keep the smaller error. As with the policy, keep the worse one.": _smaller_error,
         "only the clipped error is used: a value that moved too far has no gradient any more, even if it moved the "
         "wrong way.": _only_the_clipped_error,
         "the mean runs over padding too.": _value_mean_over_pads,
         "this is the plain squared error. Either the clip is missing, or it stands around the returns, where it never "
         "bites: it limits how far the critic moves from what it said *before*.": _value_not_clipped},
        observe=_loss_and_gradient),
    Exercise(
        "5.11", "one PPO step", 15, 2,
        ("New log-probabilities and values come from a forward pass now; old ones, advantages and returns are fixed in "
         "the batch. Add the two losses, go backward, step.",
         "`log_probs = token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)`, "
         "`values = ppo.response_values(critic, rollout)`, the two losses, `backward()`, then `step()` and "
         "`zero_grad()` of each optimizer."),
        ppo_step, _step_counts,
        {"gradients pile up from step to step: `zero_grad()` is missing.": _gradients_pile_up,
         "the gradients are thrown away before the step, so nothing is learnt.": _gradients_thrown_away,
         "the old log-probabilities are taken from the new policy. The ratio is then always 1 and nothing is ever "
         "clipped; use those that were kept in the batch.": _ratio_always_one,
         "the critic never learns: its optimizer has to step too.": _critic_left_alone,
         "the values are read one place late, after their token is known. The critic must judge the state *before* "
         "token t: columns prompt_length − 1 up to the last but one.": _values_one_late,
         "the policy is pushed away from what went well: the sign of its loss is flipped.": _policy_pushed_away},
        observe=_after_steps, tolerance=1e-3),
    Exercise(
        "5.12", "the dial that turns itself", 5, 1,
        ("The error is relative: KL over target, minus 1. Clip it to ±0.2 and change kl_coef by that share, times "
         "episodes / horizon.",
         "`error = max(-0.2, min(0.2, kl / target - 1))`, and `kl_coef * (1 + error * episodes / horizon)`."),
        ppo_math.adaptive_kl, _controller_cases,
        {"it turns the wrong way: when the KL is above its target, leaving must become dearer.": _turned_the_wrong_way,
         "the error is not clipped. One wild batch should not be able to multiply the coefficient.": _error_not_clipped,
         "the error is a difference in nats. Make it relative to the target, otherwise it means something else for "
         "every target.": _absolute_error,
         "the change is added. It should multiply: kl_coef must stay above 0, and 0.02 needs smaller steps than 2.":
             _added,
         "the horizon is missing: this turns the dial by up to a fifth with every batch.": _no_horizon},
        tolerance=1e-6),
]
