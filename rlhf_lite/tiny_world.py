"""A world so small that nothing has to be sampled: every response is listed, and every expectation is a sum.

The idea: with 3 to 6 tokens, and at most 4 of them in a response, there are at most 781 responses, so the KL, the
expected reward, the gradient and the best policy for equation 2 (InstructGPT, section 3.5) are exact numbers. The
library's estimates from samples must agree with them, and a mistake in PPO shows up as a wrong digit instead of a
worse curve. The policies are ordinary models, so `sampling.sample` and `ppo.train_ppo` run here unchanged.

A response may contain PAD and BEGIN like any other token. Nothing stops a policy in the library from choosing them
either, and it shows that masks are counted, never guessed from ids. Shapes: P prompts, N responses, R tokens,
V vocabulary, S states (a state is a prefix that can still grow). Probabilities are kept as logarithms, in nats.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_lite import ppo_math, sampling
from rlhf_lite.models import BEGIN, END

MAX_VOCAB, MAX_TOKENS = 6, 4


@dataclass(frozen=True)
class World:
    """Every response to every prompt. The order of the responses is the same for all prompts."""

    prompts: list[list[int]]
    vocab_size: int
    max_new_tokens: int
    responses: list[list[int]]  # N lists of ids
    mask: torch.Tensor  # (N, R) bool: True for the tokens of a response, END included
    tokens: torch.Tensor  # (N, R) ids, PAD after the end
    states: torch.Tensor  # (N, R) int64: number of the state in which each token is chosen; 0 at padding
    rollout: sampling.Rollout  # P · N rows, the responses to the first prompt first

    @property
    def state_count(self):
        """S; state 0 is the empty response."""
        return int(self.states.max()) + 1


# ---------------------------------------------------------------- the world

def every_response(vocab_size, max_new_tokens):
    """All responses as lists of ids, short ones first: finished by END, or cut off at max_new_tokens.

    These are exactly the responses that `sampling.sample` can return: END only ever comes last. Raises
    ValueError for a vocabulary outside 3 to 6 tokens or a limit outside 1 to 4.
    """
    if not END < vocab_size <= MAX_VOCAB:
        raise ValueError(f"vocab_size is {vocab_size}; it must be between {END + 1} (PAD, BEGIN, END) and {MAX_VOCAB}.")
    if not 1 <= max_new_tokens <= MAX_TOKENS:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be between 1 and {MAX_TOKENS}.")
    others = [token for token in range(vocab_size) if token != END]
    finished = [[*prefix, END] for length in range(max_new_tokens)
                for prefix in itertools.product(others, repeat=length)]
    return finished + [list(cut) for cut in itertools.product(others, repeat=max_new_tokens)]


def make_world(prompts=((BEGIN, 3),), vocab_size=5, max_new_tokens=3):
    """List every response to these prompts (lists of ids) -> World.

    No prompt may be the beginning of another: the two would share states, and what is best after one might not be
    best after the other. Nor may a prompt be one token repeated: rotary positions encode distances, not places, so
    a Llama cannot count equal tokens, and "a" and "a a" would look like the same state. Raises ValueError in either
    case, for no prompts, and for ids outside the vocabulary.
    """
    responses, prompts = every_response(vocab_size, max_new_tokens), [list(prompt) for prompt in prompts]
    if not prompts or not all(prompts) or not all(0 <= token < vocab_size for prompt in prompts for token in prompt):
        raise ValueError(f"Give at least one prompt, none of them empty, with ids below {vocab_size}.")
    if any(one == other[:len(one)] for one, other in itertools.permutations(prompts, 2)):
        raise ValueError("One prompt is the beginning of another, so the two share states.")
    if any(len(set(prompt)) == 1 for prompt in prompts):
        raise ValueError("A prompt is one token repeated, which a Llama cannot count; use two different tokens.")
    tokens, mask = sampling.pad_right(responses)
    numbers = {}
    states = torch.zeros_like(tokens)
    for row, response in enumerate(responses):
        for t in range(len(response)):
            states[row, t] = numbers.setdefault(tuple(response[:t]), len(numbers))
    left, left_mask = sampling.pad_left(prompts)
    count, times = len(responses), len(prompts)
    rollout = sampling.Rollout(
        torch.cat([left.repeat_interleave(count, 0), tokens.repeat(times, 1)], dim=1),
        torch.cat([left_mask.repeat_interleave(count, 0), mask.repeat(times, 1)], dim=1), mask.bool().repeat(times, 1),
        left.shape[1], torch.tensor([response[-1] == END for response in responses]).repeat(times))
    return World(prompts, vocab_size, max_new_tokens, responses, mask.bool(), tokens, states, rollout)


def reward_function(world, scores):
    """(P, N) scores -> a reward_fn for `ppo.train_ppo`: looks up the score of each (prompt, response) of a rollout."""
    places = {tuple(response): row for row, response in enumerate(world.responses)}
    prompts = {tuple(prompt): row for row, prompt in enumerate(world.prompts)}

    def reward_fn(rollout):
        rows = [prompts[tuple(ids)] for ids in rollout.prompt_ids()]
        columns = [places[tuple(ids)] for ids in rollout.response_ids()]
        return scores[rows, columns]
    return reward_fn


# ---------------------------------------------------------------- policies

def tiny_policy(world, seed, sharpness=10.0, hidden_size=64):
    """A one-layer Llama for this vocabulary in float32, with random weights from `seed`.

    The output layer is multiplied by `sharpness`: 1 leaves the policy nearly uniform, 10 gives it preferences.
    Input and output embeddings are separate: in a world this small, neither says anything useful about the other.
    """
    config = LlamaConfig(vocab_size=world.vocab_size, hidden_size=hidden_size, num_hidden_layers=1,
                         num_attention_heads=2, intermediate_size=2 * hidden_size, max_position_embeddings=64,
                         tie_word_embeddings=False, attention_dropout=0.0, pad_token_id=None, bos_token_id=BEGIN,
                         eos_token_id=END)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        policy = LlamaForCausalLM(config).float().eval()
        policy.lm_head.weight.mul_(sharpness)
        # As first drawn (deviation 0.02), all states look alike to the next layer, and learning starts slowly.
        policy.model.embed_tokens.weight.normal_()
    return policy


def policy_log_probs(policy, world):
    """(P, N, R) log-probabilities of every token of every response, 0 at padding, with gradient.

    The forward pass is the same as in the library's PPO. Sum over the last dimension for whole responses.
    """
    rollout = world.rollout
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    return torch.where(world.mask, log_probs.view(len(world.prompts), *world.mask.shape), 0.0)


def table_log_probs(table, world):
    """(P, S, V) logits, one row per state: a policy as a table -> (P, N, R) like `policy_log_probs`, with gradient."""
    return torch.where(world.mask, table.log_softmax(dim=-1)[:, world.states, world.tokens], 0.0)


# ---------------------------------------------------------------- exact quantities; log_p, log_q, scores: (P, N)

def expected(log_p, values):
    """(P,) expectation of `values` (P, N) or (N,) over the responses."""
    return (log_p.exp() * values).sum(dim=-1)


def kl(log_p, log_q):
    """(P,) KL(p ‖ q), nats per response. A response with probability 0 under p contributes 0."""
    return torch.where(log_p > -math.inf, log_p.exp() * (log_p - log_q), 0.0).sum(dim=-1)


def objective(log_p, log_ref, scores, kl_coef):
    """(P,) what PPO maximises: E[score] − kl_coef · KL(policy ‖ reference), equation 2 without pretraining."""
    return expected(log_p, scores) - kl_coef * kl(log_p, log_ref)


def optimum(log_ref, scores, kl_coef):
    """The best possible policy -> ((P, N) log π*, (P,) its objective).

    π* = π_ref · exp(score / kl_coef) / Z, and its objective is kl_coef · log Z; any other policy p falls short by
    kl_coef · KL(p ‖ π*). Source: Rafailov et al. (2023), appendix A.1. Raises ValueError unless kl_coef > 0.
    """
    if kl_coef <= 0:
        raise ValueError(f"kl_coef is {kl_coef}; without a penalty the best policy is the best response alone.")
    tilted = log_ref + scores / kl_coef
    log_z = tilted.logsumexp(dim=-1)
    return tilted - log_z[..., None], kl_coef * log_z


def total_variation(log_p, log_q):
    """(P,) total-variation distance, 0 to 1: the largest difference in the probability of any set of responses."""
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(dim=-1)


def gradient(value, parameters):
    """d value / d parameters as one flat vector; weights that play no part give zero. The graph is kept."""
    parameters = list(parameters)
    parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros_like(parameter).flatten() if part is None else part.flatten()
                      for part, parameter in zip(parts, parameters, strict=True)])


def state_values(log_probs, rewards, world):
    """The perfect critic: (P, N, R) log-probabilities and rewards -> (P, N, R) expected rewards to go in each state.

    Each value is that of the state before the token is chosen; no discount; 0 at padding.
    """
    rewards = torch.where(world.mask, rewards, 0.0)
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    weights = torch.where(world.mask, log_probs.sum(dim=-1, keepdim=True).exp(), 0.0)  # of the whole response
    states = world.states.flatten()
    total, mass = (torch.zeros(len(rewards), world.state_count, dtype=rewards.dtype).index_add(1, states, x.flatten(1))
                   for x in ((weights * to_go).to(rewards.dtype), weights.to(rewards.dtype)))
    return torch.where(world.mask, (total / mass.clamp(min=1e-30))[:, world.states], 0.0)


def ppo_surrogate(log_probs, ref_log_probs, scores, values, world, kl_coef, lam=0.95, whiten=False):
    """Minus PPO's policy loss over infinitely many samples of all prompts: a scalar whose gradient is the first update.

    log_probs, ref_log_probs, values: (P, N, R), the first with gradient; scores: (P, N). Shaped rewards, GAE and
    the loss are the library's. Each response is weighted by its probability; actions are summed per response and
    averaged over prompts. With values = `state_values`, or with lam = 1 and any values, the gradient is that of
    `objective`. whiten: use the mean and the deviation of infinitely many samples.
    """
    flat = [x.flatten(0, 1) for x in (log_probs, ref_log_probs, values)]
    mask = world.mask.repeat(len(log_probs), 1)
    weights = torch.where(mask, flat[0].detach().sum(dim=1, keepdim=True).exp(), 0.0) / len(log_probs)
    rewards = ppo_math.shaped_rewards(scores.flatten(), flat[0], flat[1], mask, kl_coef)
    advantages, _ = ppo_math.gae(rewards, flat[2].to(rewards.dtype), mask, 1.0, lam)
    if whiten:
        mean = (weights * advantages).sum() / weights.sum()
        advantages = (advantages - mean) / ((weights * (advantages - mean) ** 2).sum() / weights.sum() + 1e-8).sqrt()
    loss, _ = ppo_math.policy_loss(flat[0], flat[0].detach(), weights * advantages, mask, normaliser=1)
    return -loss


# ---------------------------------------------------------------- best of n

def best_of_n(log_p, scores, n):
    """(P, N) log-probability that each response is the best of n independent samples; a tie goes to the first drawn.

    Let F be the chance that a sample scores at most s, and f the chance that it scores exactly s. The winner scores
    s with probability F^n − (F − f)^n; responses with equal scores keep their proportions. scores: (P, N).
    ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1.")
    others, never = log_p[:, None, :], torch.full((), -1e30, dtype=log_p.dtype)  # [prompt, i, j]; log of almost 0
    reached = torch.where(scores[:, None, :] <= scores[:, :, None], others, never).logsumexp(dim=-1)  # log F
    below = torch.where(scores[:, None, :] < scores[:, :, None], others, never).logsumexp(dim=-1)  # log (F − f)
    # (F^n − (F − f)^n) / f = Σ F^(n−1−k) (F − f)^k: no difference of near-equal numbers, no division by a tiny one
    return log_p + torch.stack([(n - 1 - k) * reached + k * below for k in range(n)]).logsumexp(dim=0)


# ---------------------------------------------------------------- rankings, one prompt at a time

def plackett_luce(scores, order):
    """The log-probability of a ranking. scores: (K,); order: the K places from best to worst.

    The best is drawn from softmax(scores), the next from the softmax of the rest, and so on. With K = 2 this is
    the Bradley-Terry model of equation 1.
    """
    left = scores[torch.as_tensor(order)]
    return sum(left[place] - left[place:].logsumexp(dim=0) for place in range(len(left)))


def pairwise(scores, ranks):
    """A list of log σ(score_w − score_l), one for each pair with different ranks (lower is better); scores: (K,).

    Minus their mean is the K-wise loss of equation 1. They are not independent, so their sum is not the likelihood
    of the ranking; but each pair has exactly this probability if the ranking is drawn by `plackett_luce`.
    """
    return [torch.nn.functional.logsigmoid(scores[better] - scores[worse])
            for better, worse in itertools.permutations(range(len(scores)), 2) if ranks[better] < ranks[worse]]
