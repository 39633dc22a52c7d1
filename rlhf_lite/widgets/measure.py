"""The numbers behind the widgets that look inside, measured on real models with PPO's own functions.

Everything returned is plain Python and NumPy, so that the widgets can redraw without running a model again.
"""

from dataclasses import dataclass

import numpy as np
import torch

from rlhf_lite import models, ppo, ppo_math, reward
from rlhf_lite.sampling import sample


@dataclass
class Trace:
    """One sampled answer, token by token. All lists have one entry per sampled token, END included."""

    prompt: str
    tokens: list  # texts
    numbers: dict  # measure -> list of floats
    top: list  # per token: (text, probability under the policy, under the reference), likeliest first
    score: float  # of the reward model, for the whole answer
    kl_coef: float


def trace(policy, reference, reward_model, tokenizer, prompt, critic=None, kl_coef=0.1, lam=0.95, max_new_tokens=40,
          temperature=1.0, seed=0, top=8):
    """Sample an answer to a prompt (text) and measure it -> Trace.

    critic: None uses the reward model, from which PPO's critic starts. gamma is 1, as in the paper.
    """
    generator = torch.Generator(device=models.device_of(policy)).manual_seed(seed)
    rollout = sample(policy, [models.encode_prompt(tokenizer, prompt)], max_new_tokens, temperature,
                     generator=generator)
    with torch.no_grad():
        ours, theirs = (_distributions(model, rollout, temperature) for model in (policy, reference))
        ids = rollout.responses[0]
        log_probs, ref_log_probs = (d.gather(1, ids[:, None]).T for d in (ours, theirs))
        mask = rollout.response_mask
        score = ppo.score_rollout(reward_model, rollout)
        values = ppo.rollout_values(critic or reward_model, rollout)
        rewards = ppo_math.shaped_rewards(score, log_probs, ref_log_probs, mask, kl_coef)
        advantages, _ = ppo_math.gae(rewards, values, mask, 1.0, lam)
        kl = (ours.exp() * (ours - theirs)).sum(dim=1)
        best = ours.topk(min(top, ours.shape[1]), dim=1).indices
    numbers = {"probability": log_probs[0].exp(), "log-ratio": (log_probs - ref_log_probs)[0], "KL": kl,
               "reward": rewards[0], "value": values[0], "advantage": advantages[0]}
    return Trace(prompt, [_piece(tokenizer, token) for token in ids.tolist()],
                 {name: [float(x) for x in column] for name, column in numbers.items()},
                 [[(_piece(tokenizer, i), float(ours[t, i].exp()), float(theirs[t, i].exp())) for i in row]
                  for t, row in enumerate(best.tolist())], float(score[0]), kl_coef)


def _distributions(model, rollout, temperature):
    """(R, vocabulary) log-probabilities at every place of the answer."""
    width = rollout.responses.shape[1]
    scores = models.logits(model, rollout.sequences, rollout.attention_mask, keep=width + 1)[0, :-1]
    return (scores.float() / temperature).log_softmax(dim=-1)


def _piece(tokenizer, token):
    """One token as text; part of a multi-byte character shows as a replacement character."""
    return "END" if token == tokenizer.eos_token_id else models.token_text(tokenizer, token)


def ratios(old, new, reference, reward_model, tokenizer, prompts, critic=None, kl_coef=0.1, lam=0.95,
           max_new_tokens=40, temperature=1.0, seed=0):
    """Sample answers from the old policy -> (log ratios new / old, whitened advantages), one number per token.

    If `new` is the policy after some steps of PPO from `old`, these are the ratios that PPO clips.
    """
    generator = torch.Generator(device=models.device_of(old)).manual_seed(seed)
    rollout = sample(old, [models.encode_prompt(tokenizer, prompt) for prompt in prompts], max_new_tokens,
                     temperature, generator=generator)
    was, now, start = (ppo.rollout_log_probs(model, rollout, temperature) for model in (old, new, reference))
    mask = rollout.response_mask
    rewards = ppo_math.shaped_rewards(ppo.score_rollout(reward_model, rollout), was, start, mask, kl_coef)
    advantages, _ = ppo_math.gae(rewards, ppo.rollout_values(critic or reward_model, rollout), mask, 1.0, lam)
    advantages = ppo_math.masked_whiten(advantages, mask)
    return (now - was)[mask].cpu().numpy(), advantages[mask].cpu().numpy()


def scored_groups(reward_model, tokenizer, rankings):
    """Ranking records (answers sampled from the reference) -> [(prompt, texts, (K,) scores)] for `BetaSlider`."""
    rows, sizes = [], []
    for row in rankings:
        prompt = models.encode_prompt(tokenizer, row["prompt"])
        rows += [reward.reward_input(prompt, r.get("token_ids") or models.encode_response(tokenizer, r["text"]))
                 for r in row["responses"]]
        sizes.append(row["K"])
    scores = np.asarray(reward.score(reward_model, rows).tolist())
    return [(row["prompt"], [r["text"] for r in row["responses"]], part)
            for row, part in zip(rankings, np.split(scores, np.cumsum(sizes)[:-1]), strict=True)]
