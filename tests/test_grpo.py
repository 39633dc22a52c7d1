"""GRPO: its switches one by one against RLOO and against hand-made numbers, and a loop that learns from a checker."""

import inspect
from dataclasses import replace

import pytest
import torch
from tiny import WORLD_PROMPTS, a_pair, a_world, threes_of

from rlhf_lite import grpo, rloo
from rlhf_lite import tiny_world as tw
from rlhf_lite.exercises import checker, group_gradients
from rlhf_lite.experiment import data

PLAIN = grpo.GRPOConfig(divide_by_std=False, divide_by_length=False, kl_in="reward", group=4)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def world():
    return a_world()


def test_without_switches_it_is_rloo_with_a_shorter_step():
    scores, log_probs = draws(12), draws(12, 3, seed=1)
    mask = torch.arange(3) < torch.tensor([1, 2, 3] * 4)[:, None]
    assert torch.allclose(grpo.group_advantages(scores, 4, False), rloo.rloo_advantages(scores, 4) * 3 / 4, atol=1e-6)
    advantages = rloo.rloo_advantages(scores, 4)
    assert grpo.grpo_losses(log_probs, log_probs, advantages, mask, PLAIN).mean().item() == pytest.approx(
        rloo.rloo_loss(log_probs, advantages, mask).item(), abs=1e-6)


def test_a_group_of_equal_scores_teaches_nothing():
    found = grpo.group_advantages(torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0]), 3)
    assert (found[:3] == 0).all() and found[3:].tolist() == pytest.approx([-0.5774, 1.1547, -0.5774], abs=1e-4)


def test_groups_must_fit():
    advantages = inspect.unwrap(grpo.group_advantages)
    for scores, group in ((torch.zeros(4), 1), (torch.zeros(4), 3), (torch.zeros(2, 2), 2)):
        with pytest.raises(ValueError, match="groups"):
            advantages(scores, group)


@pytest.mark.parametrize("changes", [{}, {"divide_by_length": True}, {"kl_in": "loss"}])
def test_padding_is_not_trained_on(changes):
    log_probs, mask = draws(2, 3), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    spoilt = torch.where(mask, log_probs, float("nan")).requires_grad_()
    config = replace(PLAIN, kl_coef=0.5, **changes)
    losses = grpo.grpo_losses(spoilt, torch.where(mask, log_probs - 0.3, float("nan")), torch.tensor([1.0, -2.0]), mask,
                              config)
    per_token = -log_probs[0] + (0.5 * (torch.tensor(-0.3).exp() - 1 + 0.3) if config.kl_in == "loss" else 0.0)
    assert losses[0].item() == pytest.approx(per_token.sum().item() / (3 if config.divide_by_length else 1), abs=1e-5)
    losses.sum().backward()
    assert spoilt.grad.isfinite().all() and (spoilt.grad[~mask] == 0).all()


def test_the_gradient_of_each_switch_is_what_the_notebook_says():
    """0 and 1 as scores: ÷ std bends more in large groups; the KL in the reward is exact, and k3 in the loss is not."""
    room = tw.make_world([[1, 3], [1, 4]], vocab_size=5, max_new_tokens=2)
    table = torch.randn(2, room.state_count, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table[0, :, 3] += 2.5
    table[1, :, 3] -= 2.0
    table.requires_grad_()
    now = tw.table_log_probs(table, room)
    reference = tw.table_log_probs(torch.zeros_like(table), room).detach()
    right = torch.tensor([[float(response[0] == 3) for response in room.responses]] * 2).double()
    free = group_gradients.survey(room, now, reference, right, [table], 0.0, sizes=(4, 64))
    assert all(found == pytest.approx(1, abs=0.01) for found in free["group mean"].values())
    assert free["÷ std"][4] > free["÷ std"][64] and free["÷ std"][64] < 0.995
    priced = group_gradients.survey(room, now, reference, right, [table], 0.3, sizes=(16,))
    assert priced["group mean"][16] > 0.98 and priced["KL in the loss, k3"][16] < 0.97
    assert priced["KL in the loss, k1"][16] < priced["KL in the loss, k2"][16]


@pytest.mark.parametrize("changes", [{}, {"divide_by_std": True, "divide_by_length": True, "kl_in": "loss"}])
def test_grpo_learns_what_a_program_checks(world, changes):
    policy, reference = a_pair(world, 0)
    before = threes_of(policy, world)
    config = replace(PLAIN, iterations=25, prompts_per_step=16, max_new_tokens=3, lr=5e-3, kl_coef=0.05,
                     warmup_iterations=3, **changes)

    def starts_with_three(rollout):
        return (rollout.responses[:, 0] == 3).float()

    history = grpo.train_grpo(policy, reference, WORLD_PROMPTS, config, starts_with_three, progress=False)
    assert threes_of(policy, world) > before + 0.2
    assert abs(history[0]["kl"]) < 1e-5 and history[-1]["kl"] > 0.05 and history[-1]["score"] > history[0]["score"]
    assert 0 <= history[-1]["useful"] <= 1 and 1 <= history[-1]["length"] <= 3


def test_an_unknown_switch_is_named(world):
    policy, reference = a_pair(world)
    for changes in ({"kl_in": "both"}, {"kl_estimator": "k4"}):
        with pytest.raises(ValueError, match="choose"):
            grpo.train_grpo(policy, reference, WORLD_PROMPTS, replace(PLAIN, **changes), lambda rollout: None)


def test_the_checker_sees_each_clause_and_forgets_what_it_is_told_to():
    prompts = checker.checkable(data.prompts_of("valid"))
    short = next(prompt for prompt in prompts if "words" in prompt.spec["constraint"])
    about = " and ".join(group[0] for group in short.spec["must"])
    limit = short.spec["constraint"]["words"]
    full = checker.clauses(short, " ".join([about, *["very"] * limit]) + ".", True)
    assert full == {"wish": False, "subject": True, "end": True}
    assert checker.clauses(short, "Yes.", True) == {"wish": True, "subject": False, "end": True}
    assert checker.passes(short, "Yes.", True) == 0.0 and checker.passes(short, "Yes.", True, ("wish", "end")) == 1.0
    assert not checker.clauses(short, "Yes", True)["end"] and not checker.clauses(short, "Yes.", False)["end"]
    assert not checker.clauses(short, "", True)["wish"]
