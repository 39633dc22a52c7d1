"""Answers to the exercises of notebooks 05a and 05b as students write them, right and wrong, and what they are told.

Each is a function (or a value) under the exercise's id. RIGHT ones must be accepted; a wrong one must be told something
with the words that stand beside it. They are not the planted mistakes of the exercises: most are written another way.
"""

import numpy as np
import pytest
import torch
from torch import nn

from rlhf_lite import models, ppo, ppo_math, sampling
from rlhf_lite.exercises import n05
from rlhf_lite.exercises.checking import DONE, WRONG, find, judge

RIGHT = "right"
ANSWERS = []


@pytest.fixture(autouse=True)
def all_the_time_it_needs(monkeypatch):
    monkeypatch.setenv("RLHF_LITE_CHECK_SECONDS", "600")  # a machine that runs many tests at once is slow


def told(identifier, words):
    """`@told("5.1", "half")` above an answer: what `check` has to say about it."""
    def keep(answer):
        ANSWERS.append(pytest.param(identifier, answer, words, id=f"{identifier} {answer.__name__}"))
        return answer
    return keep


def course(identifier):
    return find(identifier).course


# ---------------------------------------------------------------- 5.1 (d = log π − log π_ref)

@told("5.1", RIGHT)
def a_list_with_exp(a, b):
    d = a - b
    return [d, d.pow(2) / 2, torch.exp(b - a) + d - 1]


@told("5.1", RIGHT)
def by_ratios(a, b):
    r = b.exp() / a.exp()
    return -r.log(), 0.5 * r.log().square(), (r - 1) - r.log()


@told("5.1", RIGHT)
def in_double(a, b):
    return course("5.1")(a.double(), b.double())


@told("5.1", "numpy array")
def as_arrays(a, b):
    d = a.numpy() - b.numpy()
    return d, d ** 2 / 2, np.exp(-d) - 1 + d


@told("5.1", "shape")
def means_over_the_samples(a, b):
    return tuple(k.mean() for k in course("5.1")(a, b))


@told("5.1", "2 results, but 3")
def only_two(a, b):
    return course("5.1")(a, b)[:2]


@told("5.1", "a dict")
def a_dict(a, b):
    return dict(zip(("k1", "k2", "k3"), course("5.1")(a, b), strict=True))


@told("5.1", "changes `a`")
def in_place(a, b):
    a -= b
    return a, 0.5 * a ** 2, torch.exp(-a) - 1 + a


@told("5.1", "k3 has its ratio upside down")
def k3_of_the_other_direction(a, b):
    r = (a - b).exp()
    return a - b, (a - b) ** 2 / 2, r - 1 - r.log()


@told("5.1", "wrong sign")
def reference_minus_policy(a, b):
    return b - a, (b - a) ** 2 / 2, torch.exp(b - a) - 1 - (b - a)


@told("5.1", "half")
def square_without_half(a, b):
    d = a - b
    return d, d * d, torch.exp(-d) - 1 + d


@told("5.1", "returns nothing")
def prints_them(a, b):
    print(a - b)


# ---------------------------------------------------------------- 5.2

@told("5.2", RIGHT)
def softmax_of_the_tilt(log_ref, scores, kl_coef):
    z = (log_ref.exp() * (scores / kl_coef).exp()).sum(-1)
    return (log_ref + scores / kl_coef).log_softmax(-1), kl_coef * z.log()


@told("5.2", RIGHT)
def in_probabilities(log_ref, scores, kl_coef):
    p = log_ref.exp() * torch.exp(scores / kl_coef)
    z = p.sum(dim=1, keepdim=True)
    return torch.log(p / z), kl_coef * torch.log(z).squeeze(1)


@told("5.2", "shape")
def value_with_a_column(log_ref, scores, kl_coef):
    tilted = log_ref + scores / kl_coef
    z = tilted.logsumexp(-1, keepdim=True)
    return tilted - z, kl_coef * z


@told("5.2", "tensor of shape")
def forgets_the_value(log_ref, scores, kl_coef):
    return (log_ref + scores / kl_coef).log_softmax(-1)


@told("5.2", "expect their logarithms")
def softmax_instead_of_log_softmax(log_ref, scores, kl_coef):
    tilted = log_ref + scores / kl_coef
    return tilted.softmax(-1), kl_coef * tilted.logsumexp(-1)


@told("5.2", "must be divided")
def multiplies(log_ref, scores, kl_coef):
    tilted = log_ref + kl_coef * scores
    return tilted.log_softmax(-1), kl_coef * tilted.logsumexp(-1)


@told("5.2", "log Z")
def log_z_for_a_value(log_ref, scores, kl_coef):
    tilted = log_ref + scores / kl_coef
    return tilted.log_softmax(-1), tilted.logsumexp(-1)


@told("5.2", "changes `log_ref`")
def adds_in_place(log_ref, scores, kl_coef):
    log_ref += scores / kl_coef
    return log_ref.log_softmax(-1), kl_coef * log_ref.logsumexp(-1)


@told("5.2", "a plain number")
def item_of_the_value(log_ref, scores, kl_coef):
    log_best, value = course("5.2")(log_ref, scores, kl_coef)
    return log_best, value.sum().item()


# ---------------------------------------------------------------- 5.3

@told("5.3", RIGHT)
def a_dot_product(log_probs, scores):
    return -torch.dot(scores, log_probs) / len(scores)


@told("5.3", RIGHT)
def a_loop(log_probs, scores):
    return -sum(s * lp for s, lp in zip(scores, log_probs, strict=True)) / scores.numel()


@told("5.3", "no gradient flows")
def through_numpy(log_probs, scores):
    return torch.tensor(-np.mean(scores.numpy() * log_probs.detach().numpy()))


@told("5.3", "a plain number")
def item_at_the_end(log_probs, scores):
    return -(scores * log_probs).mean().item()


@told("5.3", "no gradient")
def detached_log_probs(log_probs, scores):
    return -(scores * log_probs.detach()).mean()


@told("5.3", "shape")
def no_mean(log_probs, scores):
    return -(scores * log_probs)


@told("5.3", "sign is flipped")
def a_gain_not_a_loss(log_probs, scores):
    return torch.mean(log_probs * scores)


@told("5.3", "count twice")
def expected_score(log_probs, scores):
    return -(torch.exp(log_probs) * scores).mean()


# ---------------------------------------------------------------- 5.4

def by_hand(policy, sequences, mask, prompt_length, temperature=1.0, places=True, first=None):
    positions = (mask.cumsum(1) - 1).clamp(min=0) if places else None
    logits = policy(input_ids=sequences, attention_mask=mask, position_ids=positions).logits / temperature
    logits = logits[:, prompt_length - 1 if first is None else first:-1]
    return logits.log_softmax(-1).gather(-1, sequences[:, -logits.shape[1]:, None])[..., 0]


@told("5.4", RIGHT)
def with_hugging_face(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length, temperature)


@told("5.4", RIGHT)
def cross_entropy(policy, sequences, mask, prompt_length, temperature=1.0):
    logits = models.logits(policy, sequences, mask)[:, prompt_length - 1:-1] / temperature
    return -nn.functional.cross_entropy(logits.transpose(1, 2), sequences[:, prompt_length:], reduction="none")


@told("5.4", RIGHT)
def zeros_at_padding(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length, temperature) * mask[:, prompt_length:]


@told("5.4", RIGHT)
def indexed(policy, sequences, mask, prompt_length, temperature=1.0):
    logs = (models.logits(policy, sequences, mask) / temperature).log_softmax(-1)
    rows, places = torch.arange(len(sequences))[:, None], torch.arange(prompt_length, sequences.shape[1])
    return logs[rows, places - 1, sequences[:, prompt_length:]]


@told("5.4", "numpy array")
def numpy_even_if_right(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length, temperature).detach().numpy()


@told("5.4", "no gradient")
@torch.no_grad()
def under_no_grad(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length, temperature)


@told("5.4", "the positions are not")
def mask_without_positions(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length, temperature, places=False)


@told("5.4", "shape")
def the_whole_row(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length, temperature, first=0)


@told("5.4", "shape")
def the_vocabulary_left_in(policy, sequences, mask, prompt_length, temperature=1.0):
    logits = models.logits(policy, sequences, mask)[:, prompt_length - 1:-1] / temperature
    return logits.log_softmax(-1).gather(2, sequences[:, prompt_length:, None])


@told("5.4", "not shifted")
def same_place(policy, sequences, mask, prompt_length, temperature=1.0):
    logits = (models.logits(policy, sequences, mask) / temperature)[:, prompt_length:]
    return logits.log_softmax(-1).gather(-1, sequences[:, prompt_length:, None]).squeeze(-1)


@told("5.4", "temperature is missing")
def without_temperature(policy, sequences, mask, prompt_length, temperature=1.0):
    return by_hand(policy, sequences, mask, prompt_length)


@told("5.4", "changes `sequences`")
def pads_to_end(policy, sequences, mask, prompt_length, temperature=1.0):
    sequences[mask == 0] = 2
    return by_hand(policy, sequences, mask, prompt_length, temperature)


# ---------------------------------------------------------------- 5.5

@told("5.5", RIGHT)
def multiplied_by_the_mask(scores, log_probs, ref, mask, kl_coef):
    rewards = (-kl_coef * (log_probs - ref) * mask).detach().clone()
    for row, score in enumerate(scores):
        rewards[row, int(mask[row].sum()) - 1] += score
    return rewards


@told("5.5", RIGHT)
def one_hot(scores, log_probs, ref, mask, kl_coef):
    last = nn.functional.one_hot(mask.sum(1) - 1, mask.shape[1])
    return (torch.where(mask, kl_coef * (ref - log_probs), 0.0) + scores[:, None] * last).detach()


@told("5.5", "still carry a gradient")
def never_detached(scores, log_probs, ref, mask, kl_coef):
    last = nn.functional.one_hot(mask.sum(1) - 1, mask.shape[1])
    return torch.where(mask, kl_coef * (ref - log_probs), 0.0) + scores[:, None] * last


@told("5.5", "last column")
def minus_one(scores, log_probs, ref, mask, kl_coef):
    rewards = torch.where(mask, -kl_coef * (log_probs - ref), 0.0).detach()
    rewards[:, -1] += scores
    return rewards


@told("5.5", "wrong sign")
def pays(scores, log_probs, ref, mask, kl_coef):
    return course("5.5")(scores, ref.clone(), log_probs, mask, kl_coef)


@told("5.5", "*replaces*")
def equals_sign(scores, log_probs, ref, mask, kl_coef):
    rewards = torch.zeros_like(log_probs)
    rewards[mask] = (-kl_coef * (log_probs - ref))[mask]
    rewards[torch.arange(len(scores)), mask.sum(1) - 1] = scores
    return rewards.detach()


@told("5.5", "every token")
def broadcast_score(scores, log_probs, ref, mask, kl_coef):
    return ((scores.unsqueeze(1) - kl_coef * (log_probs - ref)) * mask).detach()


@told("5.5", "shape")
def one_number_a_row(scores, log_probs, ref, mask, kl_coef):
    return (scores - kl_coef * torch.where(mask, log_probs - ref, 0.0).sum(1)).detach()


@told("5.5", "falls on the last token")
def scores_in_place(scores, log_probs, ref, mask, kl_coef):
    scores -= kl_coef * torch.where(mask, log_probs - ref, 0.0).sum(1).detach()
    return course("5.5")(scores, log_probs, log_probs, mask, kl_coef)


@told("5.5", "a list")
def a_list_of_rows(scores, log_probs, ref, mask, kl_coef):
    return course("5.5")(scores, log_probs, ref, mask, kl_coef).tolist()


# ---------------------------------------------------------------- 5.6, a value

VALUES = [pytest.param("5.6", value, words, id=f"5.6 {words}") for value, words in [
    ((0.35, 0.3, 0.6), RIGHT), (torch.tensor([0.35, 0.30, 0.60]), RIGHT), (np.array([0.35, 0.3, 0.6]), RIGHT),
    ([0.2, 0, 0.6], "surprises δ alone"), ([0.8, 0.6, 0.6], "(λ = 1)"), ([0.6, 0.3, 0.35], "turned round"),
    ([0.55, 0.8, 1.0], "returns"), ("0.35, 0.3, 0.6", "a text"), ([0.35, 0.3], "shape")]]


# ---------------------------------------------------------------- 5.7

def recursion(rewards, values, mask, gamma=1.0, lam=0.95, beyond=0.0):
    """GAE row by row, in plain Python."""
    advantages, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
    for row in range(len(rewards)):
        running, after = 0.0, beyond
        for t in reversed(range(int(mask[row].sum()))):
            delta = rewards[row, t] + gamma * after - values[row, t]
            running = delta + gamma * lam * running
            advantages[row, t], after = running, values[row, t]
            returns[row, t] = running + values[row, t]
    return advantages, returns


@told("5.7", RIGHT)
def row_by_row(rewards, values, mask, gamma=1.0, lam=0.95):
    return recursion(rewards, values, mask, gamma, lam)


@told("5.7", RIGHT)
def with_a_list_of_columns(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values, columns, running = rewards * mask, values * mask, [], 0.0
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], dim=1)
    for t in range(rewards.shape[1] - 1, -1, -1):
        running = (rewards[:, t] + gamma * following[:, t] - values[:, t] + gamma * lam * running) * mask[:, t]
        columns.insert(0, running)
    advantages = torch.stack(columns, dim=1)
    return advantages, advantages + values


@told("5.7", "numpy array")
def arrays(rewards, values, mask, gamma=1.0, lam=0.95):
    return tuple(part.numpy() for part in recursion(rewards, values, mask, gamma, lam))


@told("5.7", "a list")
def columns_not_stacked(rewards, values, mask, gamma=1.0, lam=0.95):
    return tuple(list(part.T) for part in recursion(rewards, values, mask, gamma, lam))


@told("5.7", "tensor of shape")
def advantages_only(rewards, values, mask, gamma=1.0, lam=0.95):
    return recursion(rewards, values, mask, gamma, lam)[0]


@told("5.7", "changes `rewards`")
def zeroes_in_place(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards[~mask] = 0.0
    return recursion(rewards, values, mask, gamma, lam)


@told("5.7", "padding leaks")
def ignores_the_mask(rewards, values, mask, gamma=1.0, lam=0.95):
    full = torch.ones_like(mask)
    return tuple(torch.where(mask, part, 0.0) for part in recursion(rewards, values, full, gamma, lam))


@told("5.7", "lam is not used")
def without_lambda(rewards, values, mask, gamma=1.0, lam=0.95):
    return recursion(rewards, values, mask, gamma, 1.0)


@told("5.7", "lam is not used, or is 0")
def deltas(rewards, values, mask, gamma=1.0, lam=0.95):
    return recursion(rewards, values, mask, gamma, 0.0)


@told("5.7", "cannot be called with 3 arguments")
def without_defaults(rewards, values, mask, gamma, lam):
    return recursion(rewards, values, mask, gamma, lam)


# ---------------------------------------------------------------- 5.8

@told("5.8", RIGHT)
def into_an_empty_one(values, mask, shift_mean=True):
    out = torch.zeros_like(values)
    chosen = values[mask]
    out[mask] = (chosen - chosen.mean() * shift_mean) / (chosen.std(unbiased=False) + 1e-8)
    return out


@told("5.8", RIGHT)
def with_var(values, mask, shift_mean=True):
    mean = (values * mask).sum() / mask.sum()
    var = ((values - mean) ** 2 * mask).sum() / mask.sum()
    return (values - mean if shift_mean else values) / torch.sqrt(var + 1e-8) * mask


@told("5.8", "sample deviation")
def default_std(values, mask, shift_mean=True):
    chosen = values[mask]
    return torch.where(mask, (values - chosen.mean() * shift_mean) / (chosen.std() + 1e-8), 0.0)


@told("5.8", "0 by 0")
def no_epsilon(values, mask, shift_mean=True):
    chosen = values[mask]
    return torch.where(mask, (values - chosen.mean() * shift_mean) / chosen.std(correction=0), 0.0)


@told("5.8", "changes `values`")
def writes_back(values, mask, shift_mean=True):
    values[mask] = course("5.8")(values, mask, shift_mean)[mask]
    values[~mask] = 0.0
    return values


@told("5.8", "shape")
def flat(values, mask, shift_mean=True):
    return course("5.8")(values, mask, shift_mean)[mask]


@told("5.8", "include the padding")
def over_everything(values, mask, shift_mean=True):
    return (values - values.mean() * shift_mean) / (values.std(unbiased=False) + 1e-8) * mask


# ---------------------------------------------------------------- 5.9

@told("5.9", RIGHT)
def in_one_go(scores, log_probs, ref, values, mask, kl_coef):
    a, r = ppo_math.gae(ppo_math.shaped_rewards(scores, log_probs, ref, mask, kl_coef), values, mask, 1.0, 0.95)
    return ppo_math.masked_whiten(a, mask, True), r


@told("5.9", "Compute the returns first")
def whitens_too_early(scores, log_probs, ref, values, mask, kl_coef):
    a, _ = ppo_math.gae(ppo_math.shaped_rewards(scores, log_probs, ref, mask, kl_coef), values, mask)
    a = ppo_math.masked_whiten(a, mask)
    return a, torch.where(mask, a + values, 0.0)


@told("5.9", "3 results, but 2")
def three_results(scores, log_probs, ref, values, mask, kl_coef):
    return *in_one_go(scores, log_probs, ref, values, mask, kl_coef), mask


@told("5.9", "swapped: first the advantages")
def swapped(scores, log_probs, ref, values, mask, kl_coef):
    advantages, returns = in_one_go(scores, log_probs, ref, values, mask, kl_coef)
    return returns, advantages


# ---------------------------------------------------------------- 5.10

@told("5.10", RIGHT)
def min_of_gains(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(lp - old)
    gains = torch.min(ratio * adv, torch.clamp(ratio, 1 - clip_range, 1 + clip_range) * adv)
    return -(gains * mask).sum() / mask.sum()


@told("5.10", RIGHT)
def with_where(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(lp - old)
    limit = torch.where(adv > 0, torch.minimum(ratio, torch.tensor(1 + clip_range)),
                        torch.maximum(ratio, torch.tensor(1 - clip_range)))
    return -(adv * limit)[mask].mean()


@told("5.10", "a single number")
def of_shape_one(lp, old, adv, mask, clip_range=0.2):
    return course("5.10")(lp, old, adv, mask, clip_range).reshape(1)


@told("5.10", "a tuple")
def with_statistics(lp, old, adv, mask, clip_range=0.2):
    return ppo_math.policy_loss(lp, old, adv, mask, clip_range)


@told("5.10", "shape")
def no_mean_at_all(lp, old, adv, mask, clip_range=0.2):
    ratio = (lp - old).exp()
    return torch.max(-adv * ratio, -adv * ratio.clamp(1 - clip_range, 1 + clip_range)) * mask


@told("5.10", "no gradient")
def ratio_detached(lp, old, adv, mask, clip_range=0.2):
    return course("5.10")(lp.detach(), old, adv, mask, clip_range)


@told("5.10", "better of the two")
def max_of_gains(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(lp - old)
    return -torch.max(ratio * adv, ratio.clamp(1 - clip_range, 1 + clip_range) * adv)[mask].mean()


@told("5.10", "sign is flipped")
def minus_forgotten(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(lp - old)
    return torch.min(ratio * adv, ratio.clamp(1 - clip_range, 1 + clip_range) * adv)[mask].mean()


@told("5.10", "upside down")
def old_over_new(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(old - lp)
    return -torch.min(ratio * adv, ratio.clamp(1 - clip_range, 1 + clip_range) * adv)[mask].mean()


@told("5.10", "*ratios* are compared")
def clips_the_ratio_first(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(lp - old)
    return -(adv * torch.min(ratio, ratio.clamp(1 - clip_range, 1 + clip_range)))[mask].mean()


@told("5.10", "still counted")
def divides_by_all(lp, old, adv, mask, clip_range=0.2):
    ratio = torch.exp(lp - old)
    return -(torch.min(ratio * adv, ratio.clamp(1 - clip_range, 1 + clip_range) * adv) * mask).mean()


# ---------------------------------------------------------------- 5.11

@told("5.11", RIGHT)
def clamp_between_tensors(values, old, returns, mask, clip_range=0.2):
    clipped = torch.max(torch.min(values, old + clip_range), old - clip_range)
    worse = torch.max((values - returns).pow(2), (clipped - returns).pow(2))
    return (worse * mask).sum() / mask.sum() / 2


@told("5.11", "half is missing")
def without_half(values, old, returns, mask, clip_range=0.2):
    clipped = old + (values - old).clamp(-clip_range, clip_range)
    return torch.max((values - returns) ** 2, (clipped - returns) ** 2)[mask].mean()


@told("5.11", "plain squared error")
def mse(values, old, returns, mask, clip_range=0.2):
    return 0.5 * nn.functional.mse_loss(values[mask], returns[mask])


@told("5.11", "plain squared error")
def clipped_around_the_returns(values, old, returns, mask, clip_range=0.2):
    clipped = returns + (values - returns).clamp(-clip_range, clip_range)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)[mask].mean()


@told("5.11", "a plain number")
def item(values, old, returns, mask, clip_range=0.2):
    return course("5.11")(values, old, returns, mask, clip_range).item()


@told("5.11", "smaller error")
def minimum(values, old, returns, mask, clip_range=0.2):
    clipped = old + (values - old).clamp(-clip_range, clip_range)
    return 0.5 * torch.min((values - returns) ** 2, (clipped - returns) ** 2)[mask].mean()


@told("5.11", "not squared")
def absolute(values, old, returns, mask, clip_range=0.2):
    clipped = old + (values - old).clamp(-clip_range, clip_range)
    return 0.5 * torch.max((values - returns).abs(), (clipped - returns).abs())[mask].mean()


# ---------------------------------------------------------------- 5.12

def losses(policy, critic, batch, old=None):
    rollout, mask = batch.rollout, batch.rollout.response_mask
    lp = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    values = ppo.response_values(critic, rollout)
    return (ppo_math.policy_loss(lp, batch.log_probs if old is None else old(lp), batch.advantages, mask)[0],
            ppo_math.value_loss(values, batch.values, batch.returns, mask))


@told("5.12", RIGHT)
def two_backwards(policy, critic, optimizers, batch):
    for optimizer in optimizers:
        optimizer.zero_grad()
    actor, error = losses(policy, critic, batch)
    actor.backward()
    error.backward()
    for optimizer in optimizers:
        optimizer.step()
    return (actor + error).item()


@told("5.12", RIGHT)
def returns_a_tensor(policy, critic, optimizers, batch):
    loss = sum(losses(policy, critic, batch))
    [optimizer.zero_grad() for optimizer in optimizers]
    loss.backward()
    [optimizer.step() for optimizer in optimizers]
    return loss


@told("5.12", "pile up")
def without_zero_grad(policy, critic, optimizers, batch):
    loss = sum(losses(policy, critic, batch))
    loss.backward()
    [optimizer.step() for optimizer in optimizers]
    return loss.item()


@told("5.12", "nothing moves")
def forgets_backward(policy, critic, optimizers, batch):
    loss = sum(losses(policy, critic, batch))
    [optimizer.step() for optimizer in optimizers]
    return loss.item()


@told("5.12", "ratio is then always 1")
def old_is_new(policy, critic, optimizers, batch):
    loss = sum(losses(policy, critic, batch, old=torch.Tensor.detach))
    loss.backward()
    [(optimizer.step(), optimizer.zero_grad()) for optimizer in optimizers]
    return loss.item()


@told("5.12", "returns nothing")
def no_return(policy, critic, optimizers, batch):
    returns_a_tensor(policy, critic, optimizers, batch)


@told("5.12", "a tuple")
def both_losses(policy, critic, optimizers, batch):
    actor, error = losses(policy, critic, batch)
    (actor + error).backward()
    [(optimizer.step(), optimizer.zero_grad()) for optimizer in optimizers]
    return actor.item(), error.item()


@pytest.mark.parametrize(("identifier", "answer", "words"), ANSWERS + VALUES)
def test_an_answer_of_a_student(identifier, answer, words):
    mark, sentence = judge(find(identifier), answer)
    assert mark == (DONE if words == RIGHT else WRONG), sentence
    assert words == RIGHT or words in sentence, sentence


def test_there_are_many_of_both_kinds():
    right = sum(words == RIGHT for _, _, words in (entry.values for entry in ANSWERS + VALUES))
    assert right >= 25 and len(ANSWERS + VALUES) - right >= 60


@pytest.mark.parametrize(("part", "numbers"), [("05a", range(1, 4)), ("05b", range(4, 13))])
def test_the_minutes_of_a_part_hold_its_exercises_and_time_to_read(part, numbers):
    assert n05.PARTS[part]["minutes"] >= 1.5 * sum(find(f"5.{n}").minutes for n in numbers)


@pytest.mark.parametrize("identifier", [f"5.{n}" for n in range(1, 13)])
def test_three_steps_of_help(identifier):
    exercise = find(identifier)
    assert len(exercise.hints) == 3 and "`" not in exercise.hints[0]
