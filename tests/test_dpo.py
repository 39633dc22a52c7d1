"""DPO: the loss by hand, the optimum it shares with equation 2 in an exact world, and a loop that learns."""

import itertools
import math

import pytest
import torch
from pieces import optimizer_steps, same_step
from tiny import WORLD_PROMPTS, a_pair, a_policy, a_world, likes_threes, threes_of

from rlhf_lite import dpo, models, reward, sampling, training
from rlhf_lite import tiny_world as tw
from rlhf_lite.models import BEGIN, END
from rlhf_lite.reward import RankedPrompt

BETA = 0.5


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def world():
    return a_world()


def rankings_of(world, n, seed=0):
    """Rankings of 3 different responses by how many 3s they hold."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(len(world.responses), generator=generator)[:3].tolist() for _ in range(n)]
    return [RankedPrompt(WORLD_PROMPTS[i % 2], [world.responses[row] for row in rows],
                         [-likes_threes(world.responses[row]) for row in rows]) for i, rows in enumerate(chosen)]


# ---------------------------------------------------------------- log-probabilities of responses

def test_sequence_log_probs_agree_with_the_exact_world(world):
    policy, _ = a_pair(world)
    exact = tw.policy_log_probs(policy, world).sum(dim=-1)
    rows = [0, 3, 17, 60]
    for prompt, expected in zip(world.prompts, exact, strict=True):
        got = dpo.sequence_log_probs(policy, [prompt] * len(rows), [world.responses[row] for row in rows])
        assert torch.allclose(got, expected[rows], atol=1e-5)
    assert torch.allclose(exact.exp().sum(dim=-1), torch.ones(2), atol=1e-5)  # END counted, prompts not


def test_padding_changes_nothing(world):
    policy, reference = a_pair(world)
    prompts, responses = [[BEGIN, 3], [BEGIN, 4, 3, 4, 3], [4]], [[END], [3, 3, 4, 0, END], [4, END]]
    together = dpo.sequence_log_probs(policy, prompts, responses)
    alone = [dpo.sequence_log_probs(policy, [p], [r]) for p, r in zip(prompts, responses, strict=True)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    # a ranking of two beside one of three
    two, three = RankedPrompt([BEGIN, 3], responses[:2], [0, 1]), RankedPrompt([BEGIN, 4], responses, [2, 0, 1])
    both = dpo.ranking_log_probs(policy, [two, three])
    assert both.shape == (2, 3) and both[0, 2] == 0
    assert torch.allclose(both[0, :2], dpo.ranking_log_probs(policy, [two])[0], atol=1e-5)
    assert torch.allclose(dpo.frozen_log_probs(policy, [three, two], batch_size=1), both.flip(0), atol=1e-5)


# ---------------------------------------------------------------- the loss

def test_dpo_loss_by_hand():
    numbers = [draws(6, seed=seed) for seed in range(4)]
    expected = [-math.log(1 / (1 + math.exp(-0.3 * ((pc - rc) - (pr - rr)))))
                for pc, pr, rc, rr in zip(*(x.tolist() for x in numbers), strict=True)]
    assert dpo.dpo_loss(*numbers, 0.3).item() == pytest.approx(sum(expected) / 6, rel=1e-5)
    chosen, rejected, shift = draws(6, seed=5), draws(6, seed=6), torch.tensor(3.0)
    assert dpo.dpo_loss(chosen, rejected, chosen, rejected, 0.1).item() == pytest.approx(math.log(2))
    assert dpo.dpo_loss(chosen + shift, rejected + shift, chosen, rejected, 0.1).item() == pytest.approx(math.log(2))
    assert dpo.dpo_loss(chosen * 0 + 1e4, chosen * 0, chosen * 0, chosen * 0, 1.0).isfinite()
    assert dpo.dpo_loss(chosen * 0, chosen * 0 + 1e4, chosen * 0, chosen * 0, 1.0).item() == pytest.approx(1e4)


def test_dpo_gradient_raises_the_chosen_and_lowers_the_rejected():
    chosen, rejected = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    dpo.dpo_loss(chosen, rejected, torch.tensor([0.0, 5.0, -5.0]), torch.zeros(3), 0.4).backward()
    assert (chosen.grad < 0).all() and torch.equal(chosen.grad, -rejected.grad)
    assert chosen.grad[0].item() == pytest.approx(-0.4 * 0.5 / 3)
    assert chosen.grad[1] < chosen.grad[0] < chosen.grad[2]  # a pair in the wrong order pushes harder


def test_dpo_is_the_reward_models_loss_with_the_implicit_reward_as_score():
    policy, ref = draws(1, 4), draws(1, 4, seed=1)
    ranks = torch.tensor([[2.0, 0.0, 1.0, 1.0]])
    pairs = [(i, j) for i, j in itertools.permutations(range(4), 2) if ranks[0, i] < ranks[0, j]]
    wins, loses = (list(side) for side in zip(*pairs, strict=True))
    assert len(pairs) == 5  # the tie is no pair
    expected = dpo.dpo_loss(policy[0, wins], policy[0, loses], ref[0, wins], ref[0, loses], 0.7)
    assert reward.kwise_loss(dpo.implicit_reward(policy, ref, 0.7), ranks).item() == pytest.approx(expected.item())


def test_the_best_policy_of_equation_2_is_where_dpos_gradient_vanishes(world):
    scores = draws(2, len(world.responses), seed=2)
    log_ref = tw.policy_log_probs(a_pair(world)[0], world).sum(dim=-1).detach()
    log_best, _ = tw.optimum(log_ref, scores, BETA)
    rewards = dpo.implicit_reward(log_best, log_ref, BETA)
    assert torch.allclose(rewards - rewards[:, :1], scores - scores[:, :1], atol=1e-4)
    # Infinitely many labels: each pair both ways round, as often as Bradley and Terry say.
    n = len(world.responses)
    i, j = torch.triu_indices(n, n, offset=1)
    moved = log_best[0].clone().requires_grad_()
    win = (scores[0, i] - scores[0, j]).sigmoid()

    def loss(x):
        margin = dpo.implicit_reward(x[i] - x[j], log_ref[0, i] - log_ref[0, j], BETA)
        return -(win * torch.nn.functional.logsigmoid(margin)
                 + (1 - win) * torch.nn.functional.logsigmoid(-margin)).mean()

    gradient, = torch.autograd.grad(loss(moved), moved)
    elsewhere = log_ref[0].clone().requires_grad_()
    assert gradient.norm() < 1e-4 * torch.autograd.grad(loss(elsewhere), elsewhere)[0].norm()


# ---------------------------------------------------------------- the loop

@pytest.mark.parametrize("seed", [0, 1])
def test_dpo_learns_a_preference(world, seed):
    policy, reference = a_pair(world, seed)
    frozen = [p.clone() for p in reference.parameters()]
    before = threes_of(policy, world)
    seen = []
    history = dpo.train_dpo(policy, reference, rankings_of(world, 120, seed),
                            dpo.DPOConfig(epochs=3, batch_prompts=12, lr=3e-3, beta=0.3, seed=seed),
                            evaluate=lambda policy, step: seen.append(step) or {"probe": step}, evaluate_every=8,
                            progress=False)
    assert threes_of(policy, world) > before + 0.5
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-5) and history[0]["accuracy"] == 0.5
    assert history[-1]["loss"] < 0.45 and history[-1]["accuracy"] > 0.8
    assert seen[-1] == len(history) and history[seen[0] - 1]["probe"] == seen[0] == 8
    held_out = rankings_of(world, 60, seed + 50)
    ranks, mask = reward.rank_tensors(held_out)
    ratios = dpo.frozen_log_probs(policy, held_out) - dpo.frozen_log_probs(reference, held_out)
    assert reward.pair_accuracy(ratios, ranks, mask) > 0.75
    assert all(torch.equal(a, b) for a, b in zip(frozen, reference.parameters(), strict=True))


def test_every_step_of_dpo_is_the_mean_over_prompts_of_the_pairs_of_its_rankings():
    policy, reference = a_policy("gpt2").train(), models.copy_model(a_policy("gpt2", 1).train(), trainable=False)
    rankings = [RankedPrompt([BEGIN, 5 + i], [[6, 7, END], [8 + i] * (1 + i % 3), [9, END], [END]][:2 + i % 3],
                             [2, 1, 2, 3][:2 + i % 3]) for i in range(7)]
    settings = dpo.DPOConfig(epochs=2, batch_prompts=4, beta=0.5, lr=1e-2, seed=3)
    seen = [models.copy_model(policy)]
    with optimizer_steps() as steps:
        history = dpo.train_dpo(policy, reference, rankings, settings, evaluate_every=1, progress=False,
                                evaluate=lambda model, step: seen.append(models.copy_model(model)) or {})
    lengths = [len(r.prompt_ids) + max(map(len, r.responses)) for r in rankings]
    plan = [rows for epoch in range(2) for rows in sampling.length_batches(lengths, 4, 3, epoch)]
    assert len(steps) == len(plan) == 4 and [step[0] for step in steps] == pytest.approx(
        [training.cosine_lr(step, 4, 1e-2) for step in range(4)])

    def log_prob(model, ranking, response):
        return dpo.sequence_log_probs(model, [ranking.prompt_ids], [response])[0]

    for step, entry, rows, begun in zip(steps, history, plan, seen[:-1], strict=True):
        losses = []
        for ranking in (rankings[row] for row in rows):
            rewards = [0.5 * (log_prob(begun, ranking, r) - log_prob(reference, ranking, r)) for r in ranking.responses]
            losses.append(-torch.stack([torch.nn.functional.logsigmoid(rewards[i] - rewards[j])
                                        for i, j in itertools.permutations(range(len(rewards)), 2)
                                        if ranking.ranks[i] < ranking.ranks[j]]).mean())
        same_step(step, policy, begun, torch.stack(losses).mean())  # clipped, so it does not tell a mean from a sum
        assert entry["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-3)


def test_mistaken_arguments(world):
    policy, reference = a_pair(world)
    for other in (policy, models.copy_model(policy)):
        with pytest.raises(ValueError, match="trainable=False"):
            dpo.train_dpo(policy, other, rankings_of(world, 4), dpo.DPOConfig(), progress=False)
    limit = policy.config.max_position_embeddings
    for responses, ranks, match in (([[3, END], [4, END]], [1, 1], "nothing to learn"),
                                    ([[3, END], [4, END]], [1], "2 responses but 1 ranks"),
                                    ([[3, END], [3, END]], [1, 2], "two identical responses different ranks"),
                                    ([[3] * limit, [4, END]], [1, 2], f"the model's context of {limit}")):
        with pytest.raises(ValueError, match=match):
            dpo.train_dpo(policy, reference, [RankedPrompt([BEGIN, 3], responses, ranks)], dpo.DPOConfig())


def test_divergence_is_named(world):
    policy, reference = a_pair(world)
    with torch.no_grad():
        policy.lm_head.weight.fill_(float("nan"))
    with pytest.raises(RuntimeError, match=r"dpo diverged in round 1 \(optimizer step 1\): .* is not a number"):
        dpo.train_dpo(policy, reference, rankings_of(world, 4), dpo.DPOConfig(), progress=False)
