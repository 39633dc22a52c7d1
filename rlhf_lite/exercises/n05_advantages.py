"""Exercises 5.6 and 5.7: which token deserves the credit (generalised advantage estimation)."""

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import by_name, masks, numbers
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.6 three advantages by hand

by_hand = Exercise(
    "5.6", "three advantages by hand", 10, 2,
    ("Two rows of the picture are still empty: first the surprises δ, from left to right, then the advantages, from "
     "right to left.",
     "δ = reward + next value − value, where after the last token the next value is 0. The three surprises are 0.2, "
     "0.0 and 0.6.",
     "Now backwards: the last advantage is the last δ, 0.6. The one before it is 0.0 + 0.5 · 0.6, and the first is its "
     "own δ plus half of that."),
    task="The answer in the picture has three tokens, rewards −0.1, 0.1 and 1.0, and the critic said 0.2, 0.5 "
         "and 0.4 before each of them. With $\\gamma = 1$ and $\\lambda = 0.5$, what are the three advantages? "
         "Write a list of three numbers, first token first; two decimals are enough.",
    course=[0.35, 0.3, 0.6], tolerance=0.005,
    mistakes={
        "these are the surprises δ alone (λ = 0). Each advantage also gets λ times the one after it.": [0.2, 0.0, 0.6],
        "here the later surprises count in full (λ = 1). With λ = 0.5 each step back halves them.": [0.8, 0.6, 0.6],
        "these are the returns, advantages plus values.": [0.55, 0.8, 1.0],
        "you went forwards. Credit flows backwards: an early token is praised for what came after it.":
            [0.2, 0.1, 0.65],
        "these are the rewards still to come, without the critic. An advantage compares with what the critic expected.":
            [1.0, 1.1, 1.0],
        "the order is turned round: the first number belongs to the first token.": [0.6, 0.3, 0.35]})


# ---------------------------------------------------------------- 5.7 generalised advantage estimation

def _rewards_and_values():
    rows = [(numbers(mask, 60 + 2 * i, 3.0), numbers(mask, 61 + 2 * i, 5.0), mask) for i, mask in enumerate(masks())]
    settings = [(1.0, 0.5), (0.9, 0.6), (1.0, 0.0), (1.0, 1.0)]
    return [*((*row, *settings[i % 4]) for i, row in enumerate(rows)), rows[0]]  # the last one with your defaults


advantage_estimation = Exercise(
    "5.7", "generalised advantage estimation", 20, 3,
    ("What you did by hand, for all rows at once. Go through the columns from the last to the first: what do you have "
     "to remember from one column to the next? And what, if a row has no token in that column?",
     "Put zeros at the padding of rewards and values first. In the loop keep two things per row: the running "
     "advantage, which stays 0 until the row's last token, and the value of the column after.",
     "In the loop: `delta = rewards[:, t] + gamma * next_value - values[:, t]`, `running = torch.where(mask[:, t], "
     "delta + gamma * lam * running, 0.0)`, `next_value = values[:, t]`. Returns are advantages plus values."),
    task="The same for a whole batch. `rewards` and `values` (batch, response) are floats, `mask` is True at "
         "real tokens (the padding, behind short answers, may hold anything); `gamma` is 1.0 and `lam` 0.95 if "
         "not given. Return two tensors of that shape, both 0 at padding: the advantages, and the returns, "
         "which are advantage plus value.",
    course=ppo_math.gae, cases=_rewards_and_values, observe=by_name("the advantages", "the returns"))


def _gae_by(rewards, values, mask, gamma, lam, backwards=True, next_values=None, delta_discount=None):
    """GAE with switches for what is often done wrong."""
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


@advantage_estimation.mistake("padding leaks in: the numbers after the end of a short answer change its advantages. "
                              "Start each row's sum at its own last token.")
def _pads_leak(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = _gae_by(rewards, values, torch.ones_like(mask), gamma, lam)
    return torch.where(mask, advantages, 0.0), torch.where(mask, advantages + values, 0.0)


@advantage_estimation.mistake("you bootstrap beyond the end: the last token's surprise uses the critic's number at the "
                              "padding. Nothing comes after END, so the next value is 0.")
def _bootstraps_at_the_end(rewards, values, mask, gamma=1.0, lam=0.95):
    return _gae_by(rewards, values, mask, gamma, lam)


@advantage_estimation.mistake("gamma and lam are swapped in the surprise: δ discounts the next value by gamma alone; "
                              "lam only weighs the surprises that follow.")
def _discounts_swapped(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, delta_discount=lam)


@advantage_estimation.mistake("you went forwards. Credit flows backwards: begin at the last column.")
def _forwards(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, backwards=False)


@advantage_estimation.mistake("lam is not used, so all later surprises count in full.")
def _no_lambda(rewards, values, mask, gamma=1.0, lam=0.95):
    return ppo_math.gae(rewards, values, mask, gamma, 1.0)


@advantage_estimation.mistake("the surprise lacks the next value. Without it, a token is blamed for everything that "
                              "the critic still expects.")
def _no_next_value(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, next_values=torch.zeros_like(values))


@advantage_estimation.mistake("the second result should be the returns, which the critic has to learn: advantages plus "
                              "values.")
def _returns_are_advantages(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = ppo_math.gae(rewards, values, mask, gamma, lam)
    return advantages, advantages


@advantage_estimation.mistake("the second result is the sum of the rewards still to come. The critic's target is the "
                              "advantage plus the value, which leans on the critic a little (lam says how much).")
def _returns_are_rewards_to_go(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = ppo_math.gae(rewards, values, mask, gamma, lam)
    return advantages, torch.where(mask, _real_only(rewards, values, mask)[0].flip(1).cumsum(1).flip(1), 0.0)


@advantage_estimation.mistake("gamma is missing where the later surprises are added: each counts gamma · lam, not lam.")
def _no_gamma_in_the_sum(rewards, values, mask, gamma=1.0, lam=0.95):
    return _gae_by(*_real_only(rewards, values, mask), mask, 1.0, lam, delta_discount=gamma)


@advantage_estimation.mistake("these are the surprises δ alone: lam is not used, or is 0.")
def _surprises_alone(rewards, values, mask, gamma=1.0, lam=0.95):
    return ppo_math.gae(rewards, values, mask, gamma, 0.0)


@advantage_estimation.mistake("the returns are right; the advantages are the returns too. Subtract the values.")
def _advantages_are_returns(rewards, values, mask, gamma=1.0, lam=0.95):
    _, returns = ppo_math.gae(rewards, values, mask, gamma, lam)
    return returns, returns


EXERCISES = [by_hand, advantage_estimation]
