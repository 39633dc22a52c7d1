"""Exercises 5.1, 5.2, 5.4 and 5.5: what leaving the reference costs, and the reward of every token."""

import functools

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lite import models, ppo_math, sampling, tiny_world
from rlhf_lite.exercises.cases import generator, mask_of
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.1 three estimators of one KL

def kl_estimators(log_probs, ref_log_probs):
    """The library's three estimators side by side."""
    return (ppo_math.kl_k1(log_probs, ref_log_probs), ppo_math.kl_k2(log_probs, ref_log_probs),
            ppo_math.kl_k3(log_probs, ref_log_probs))


def _log_prob_pairs():
    return [(torch.tensor([0.5, 0.25, 0.1]).log(), torch.tensor([0.25, 0.25, 0.4]).log()),
            (-3 * torch.rand(6, generator=generator(0)), -3 * torch.rand(6, generator=generator(1)))]


estimators = Exercise(
    "5.1", "three estimators of one KL", 10, 1,
    ("All three use the log-ratio `d = log_probs - ref_log_probs`. k1 is d, k2 is half its square.",
     "k3 needs the ratio the other way round: exp(−d) − 1 + d. `torch.expm1(-d) + d` is the same, but exact for "
     "small d."),
    course=kl_estimators, cases=_log_prob_pairs)


@estimators.mistake("k1 has the wrong sign. The samples come from the policy, and KL(π ‖ π_ref) is the mean of log π − "
                    "log π_ref: positive on average.")
def _k1_turned(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return -k1, k2, k3


@estimators.mistake("k2 is half the square of the log-ratio; the half is missing.")
def _k2_not_halved(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, 2 * k2, k3


@estimators.mistake("k3 has its ratio upside down. With samples from the policy, the ratio is π_ref/π; the other way "
                    "round, its mean is not the KL at all. Several well-known tutorials make this slip.")
def _k3_turned(log_probs, ref_log_probs):
    k1, k2, _ = kl_estimators(log_probs, ref_log_probs)
    return k1, k2, k1.exp() - 1 - k1


@estimators.mistake("k3 lacks its −1. Without it, the estimate for two equal policies would be 1, not 0.")
def _k3_without_one(log_probs, ref_log_probs):
    k1, k2, k3 = kl_estimators(log_probs, ref_log_probs)
    return k1, k2, k3 + 1


# ---------------------------------------------------------------- 5.2 the best policy there is

def _references():
    one = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]), 1.0
    reference = torch.randn(2, 5, generator=generator(2)).log_softmax(dim=1)
    return [one, (reference, torch.randn(2, 5, generator=generator(3)), 0.5)]


best_policy = Exercise(
    "5.2", "the best policy there is", 10, 2,
    ("Add `scores / kl_coef` to the log-probabilities of the reference. Then make sure that the "
     "probabilities for each prompt add up to 1.",
     "`tilted = log_ref + scores / kl_coef`, then `log_z = tilted.logsumexp(dim=-1)`: subtract `log_z[..., None]` "
     "from `tilted`; the value is `kl_coef * log_z`."),
    course=tiny_world.optimum, cases=_references)


def _tilted(log_ref, scores, kl_coef, exponent, value_factor=None):
    log_z = exponent.logsumexp(dim=-1)
    return exponent - log_z[..., None], (kl_coef if value_factor is None else value_factor) * log_z


@best_policy.mistake("the scores are multiplied by kl_coef. They must be divided by it: the more it costs to leave the "
                     "reference, the smaller the tilt.")
def _times_kl_coef(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref + scores * kl_coef)


@best_policy.mistake("the reference is missing. This would be the best policy if leaving a *uniform* policy were what "
                     "costs.")
def _without_reference(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, scores / kl_coef)


@best_policy.mistake("the tilt goes the wrong way: this policy likes bad responses best.")
def _score_subtracted(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref - scores / kl_coef)


@best_policy.mistake("these are not log-probabilities yet: for each prompt their exponentials must add up to 1. "
                     "Subtract log Z.")
def _not_normalised(log_ref, scores, kl_coef):
    return log_ref + scores / kl_coef, tiny_world.optimum(log_ref, scores, kl_coef)[1]


@best_policy.mistake("the policy is right, but the value is log Z; it should be kl_coef · log Z.")
def _value_is_log_z(log_ref, scores, kl_coef):
    return _tilted(log_ref, scores, kl_coef, log_ref + scores / kl_coef, value_factor=1.0)


@best_policy.mistake("Z was summed over all prompts together. Every prompt has its own Z: sum over the last "
                     "dimension.")
def _over_all_prompts(log_ref, scores, kl_coef):
    exponent = log_ref + scores / kl_coef
    log_z = exponent.flatten().logsumexp(dim=0)
    return exponent - log_z, (kl_coef * log_z).expand(len(log_ref))


# ---------------------------------------------------------------- 5.4 log-probabilities under left padding

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
    """The function's results at real tokens; at padding, anything goes."""
    got = function(policy, sequences, mask, prompt_length, temperature)
    wanted = mask[:, prompt_length:].bool()
    return torch.where(wanted, got, 0.0) if isinstance(got, torch.Tensor) and got.shape == wanted.shape else got


left_padding = Exercise(
    "5.4", "log-probabilities under left padding", 15, 2,
    ("`models.logits(policy, sequences, attention_mask)` makes a forward pass with mask *and* positions. The "
     "logits at place t − 1 predict the token at t.",
     "Take `logits[:, prompt_length - 1:-1]`, divide by the temperature, `log_softmax` over the last dimension, "
     "and `gather` the tokens `sequences[:, prompt_length:]`."),
    course=sampling.token_log_probs, cases=_padded_rows, observe=_at_tokens, tolerance=1e-3)


def _gathered(scores, tokens, temperature):
    return (scores / temperature).log_softmax(dim=-1).gather(2, tokens[..., None]).squeeze(2)


def _scores(policy, sequences, mask, positions=True):
    if mask is None:
        return policy(input_ids=sequences).logits
    if not positions:
        return policy(input_ids=sequences, attention_mask=mask).logits
    return models.logits(policy, sequences, mask)


@left_padding.mistake("logits and tokens are not shifted against each other. The logits at place t predict token "
                      "t + 1, so the first response token is scored at the last place of the prompt.")
def _no_shift(policy, sequences, mask, prompt_length, temperature=1.0):
    return _gathered(_scores(policy, sequences, mask)[:, prompt_length:], sequences[:, prompt_length:], temperature)


@left_padding.mistake("the shift is one too many: a logit is only one place before the token it scores.")
def _shift_by_two(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask)[:, prompt_length - 2:-2]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


@left_padding.mistake("the padding on the left was read as text. Without the attention mask, every short prompt begins "
                      "with a few PADs, and its answer is scored in a different context from the one it was sampled "
                      "in.")
def _no_mask(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, None)[:, prompt_length - 1:-1]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


@left_padding.mistake("the mask is there, but the positions are not. A model with learned positions (the check has a "
                      "small GPT-2) then thinks that a padded prompt starts in the middle; Llama's rotary positions "
                      "hide the mistake.")
def _no_positions(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask, positions=False)[:, prompt_length - 1:-1]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


@left_padding.mistake("the temperature is missing. If tokens are sampled at 0.5 and scored at 1, the old and the new "
                      "policy differ before the first step.")
def _no_temperature(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length)


@left_padding.mistake("these are logits, not log-probabilities: they still lack the log of the sum over the "
                      "vocabulary.")
def _raw_logits(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask)[:, prompt_length - 1:-1] / temperature
    return scores.gather(2, sequences[:, prompt_length:, None]).squeeze(2)


# ---------------------------------------------------------------- 5.5 a reward for every token

def _scored_rows():
    mask = mask_of(3, 1, 4)
    log_probs = torch.where(mask, -2 * torch.rand(3, 4, generator=generator(4)), -9.0).requires_grad_()
    ref_log_probs = torch.where(mask, -2 * torch.rand(3, 4, generator=generator(5)), -5.0)
    return [(torch.tensor([1.0, -0.5, 2.0]), log_probs, ref_log_probs, mask, 0.1),
            (torch.tensor([0.3, 0.7, -1.0]), log_probs, ref_log_probs, mask, 2.0)]


def _rewards_and_gradient(function, *arguments):
    rewards = function(*arguments)
    return rewards if rewards is None else {"rewards": rewards, "carries a gradient": bool(rewards.requires_grad)}


token_rewards = Exercise(
    "5.5", "a reward for every token", 15, 2,
    ("Start with the penalty at every real token: `torch.where(mask, -kl_coef * (log_probs - ref_log_probs), "
     "0.0)`. Then add each score at one place.",
     "`ppo_math.last_action(mask)` gives the column of each row's last token. Add there with "
     "`rewards[torch.arange(len(mask)), columns] += scores`, and return `rewards.detach()`."),
    course=ppo_math.shaped_rewards, cases=_scored_rows, observe=_rewards_and_gradient)


def _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, sign=-1, pads=False, place=None):
    rewards = sign * kl_coef * (log_probs - ref_log_probs)
    rewards = (rewards if pads else torch.where(mask, rewards, 0.0)).clone()
    columns = ppo_math.last_action(mask) if place is None else torch.full((len(mask),), place)
    rewards[torch.arange(len(mask)), columns] += scores
    return rewards


@token_rewards.mistake("the penalty has the wrong sign: this pays the policy for leaving the reference. (OpenAI once "
                       "flipped reward and penalty together and woke up to a fluent model of the worst kind.)")
def _pays_for_leaving(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, sign=1).detach()


@token_rewards.mistake("the score is in the last column. In a short row that is padding, and its answer is never "
                       "paid. Put the score at the last action of its own row.")
def _score_in_last_column(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, place=mask.shape[1] - 1).detach()


@token_rewards.mistake("the score is paid at every token. A long answer then earns its score many times over.")
def _score_on_every_token(scores, log_probs, ref_log_probs, mask, kl_coef):
    return torch.where(mask, scores[:, None] - kl_coef * (log_probs - ref_log_probs), 0.0).detach()


@token_rewards.mistake("the numbers are right, but they still carry a gradient. A reward is a number the world hands "
                       "out, not a function to differentiate: detach it.")
def _not_detached(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef)


@token_rewards.mistake("the penalty is also charged at the padding, where no token was chosen.")
def _penalty_at_pads(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, pads=True).detach()


@token_rewards.mistake("the whole penalty falls on the last token. Its sum is right, but the paper charges it per "
                       "token, so that the token that left the reference is the one that pays.")
def _penalty_in_one_lump(scores, log_probs, ref_log_probs, mask, kl_coef):
    total = torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1)
    return _rewards(scores - kl_coef * total, log_probs, log_probs, mask, kl_coef).detach()


EXERCISES = [estimators, best_policy, left_padding, token_rewards]
