"""Builders for the tests of this folder: two tiny models, a team of them, prompts of unequal length."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lite import models, ppo, sampling
from rlhf_lite.models import BEGIN, END, PAD
from rlhf_lite.ppo import PPOConfig

# GPT-2 has learned absolute positions and dropout 0.1 of its own; Llama has rotary positions and none.
KINDS = ("gpt2", "llama")
VOCAB = 64
PROMPTS = [[BEGIN, 5 + i, *([9] * (i % 4))] for i in range(12)]


def a_policy(kind="llama", seed=0, scale=1.0, **changes):
    """A tiny causal language model; scale > 1 moves it away from uniform, so that mistakes show."""
    if kind == "llama":
        policy = models.new_policy("tiny", seed, vocab_size=VOCAB)
    else:
        config = GPT2Config(**{**dict(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=64,
                                      pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END), **changes})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return policy


def a_reward_model(kind="llama", seed=0, bias=0.5, scale=1.0):
    """A ScalarModel whose bias is not 0, so that one that gets lost shows."""
    model = models.scalar_from_policy(a_policy(kind, seed, scale), seed)
    torch.nn.init.constant_(model.score.bias, bias)
    return model


def a_team(kind="llama", seed=0, scale=1.0):
    """(policy, reference, critic) as PPO starts with them."""
    policy = a_policy(kind, seed, scale)
    return policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, seed)


def a_config(**changes):
    return PPOConfig(**{**dict(iterations=3, batch_size=16, minibatch=8, max_new_tokens=6, lr=1e-3), **changes})


def low_tokens(rollout):
    """Reward: the share of a response's tokens that are below 32."""
    return ((rollout.responses < 32) & rollout.response_mask).sum(1) / rollout.lengths.float()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rollout_of(prompts, responses):
    """A Rollout of given ids; a response that ends with END is finished."""
    ids, mask = sampling.pad_left(prompts)
    answers, answer_mask = sampling.pad_right(responses)
    return sampling.Rollout(torch.cat([ids, answers], 1), torch.cat([mask, answer_mask], 1), answer_mask.bool(),
                            ids.shape[1], torch.tensor([response[-1] == END for response in responses]))


def add_to_logit(policy, token, amount):
    """Shift the logit of one token everywhere; returns the hook's handle."""
    def shift(module, inputs, output):
        output.logits[..., token] += amount
    return policy.register_forward_hook(shift)


def plain_log_probs(policy, ids, temperature=1.0):
    """(length, vocab) log-probabilities of one unpadded row: the truth that anything padded is held against."""
    with torch.no_grad():
        return (policy(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)


def constant(scalar_model, value):
    """The same model, now saying `value` everywhere."""
    torch.nn.init.zeros_(scalar_model.score.weight)
    torch.nn.init.constant_(scalar_model.score.bias, value)
    return scalar_model


def sgd_update(policy, critic, batch, config, lr=0.0):
    """PPO's update with plain gradient descent -> its statistics; with lr 0 it only measures."""
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=lr)
                  for name, model in (("policy", policy), ("critic", critic))}
    return ppo.update(policy, critic, models.copy_model(policy), optimizers, batch, config, 0)
