"""DPO and RLOO: the losses by hand, the same optimum in an exact world, and loops that learn."""

import itertools
import math

import pytest
import torch

from rlhf_lite import after, models, ppo_math, reward, tiny_world as tw
from rlhf_lite.models import BEGIN, END
from rlhf_lite.reward import RankedPrompt

PROMPTS = [[BEGIN, 3], [BEGIN, 4, 3]]
BETA = 0.5


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def world():
    return tw.make_world(PROMPTS, vocab_size=5, max_new_tokens=3)


def a_pair(world, seed=0):
    """A policy, and the frozen reference it starts as."""
    policy = tw.tiny_policy(world, seed, sharpness=3.0)
    return policy, models.copy_model(policy, trainable=False)


# ---------------------------------------------------------------- log-probabilities of responses

def test_sequence_log_probs_agree_with_the_exact_world(world):
    policy, _ = a_pair(world)
    exact = tw.policy_log_probs(policy, world).sum(dim=-1)
    rows = [0, 3, 17, 60]
    for prompt, expected in zip(world.prompts, exact):
        got = after.sequence_log_probs(policy, [prompt] * len(rows), [world.responses[row] for row in rows])
        assert torch.allclose(got, expected[rows], atol=1e-5)
    assert torch.allclose(exact.exp().sum(dim=-1), torch.ones(2), atol=1e-5)  # END counted, prompts not


def test_padding_changes_nothing(world):
    policy, reference = a_pair(world)
    prompts, responses = [[BEGIN, 3], [BEGIN, 4, 3, 4, 3], [4]], [[END], [3, 3, 4, 0, END], [4, END]]
    together = after.sequence_log_probs(policy, prompts, responses)
    alone = [after.sequence_log_probs(policy, [p], [r]) for p, r in zip(prompts, responses)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    log_probs, advantages = draws(2, 3), torch.tensor([1.0, -2.0])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    spoilt = torch.where(mask, log_probs, float("nan")).requires_grad_()
    loss = after.rloo_loss(spoilt, advantages, mask)
    assert loss.item() == pytest.approx((-log_probs[0].sum() + 2 * log_probs[1, 0]).item() / 2)
    loss.backward()
    assert spoilt.grad.isfinite().all() and (spoilt.grad[~mask] == 0).all()
    # a ranking of two beside one of three
    two, three = RankedPrompt([BEGIN, 3], responses[:2], [0, 1]), RankedPrompt([BEGIN, 4], responses, [2, 0, 1])
    both = after.ranking_log_probs(policy, [two, three])
    assert both.shape == (2, 3) and both[0, 2] == 0
    assert torch.allclose(both[0, :2], after.ranking_log_probs(policy, [two])[0], atol=1e-5)
    assert torch.allclose(after.frozen_log_probs(policy, [three, two], batch_size=1), both.flip(0), atol=1e-5)


# ---------------------------------------------------------------- DPO's loss

def test_dpo_loss_by_hand():
    numbers = [draws(6, seed=seed) for seed in range(4)]
    expected = [-math.log(1 / (1 + math.exp(-0.3 * ((pc - rc) - (pr - rr)))))
                for pc, pr, rc, rr in zip(*(x.tolist() for x in numbers))]
    assert after.dpo_loss(*numbers, 0.3).item() == pytest.approx(sum(expected) / 6, rel=1e-5)
    chosen, rejected, shift = draws(6, seed=5), draws(6, seed=6), torch.tensor(3.0)
    assert after.dpo_loss(chosen, rejected, chosen, rejected, 0.1).item() == pytest.approx(math.log(2))
    assert after.dpo_loss(chosen + shift, rejected + shift, chosen, rejected, 0.1).item() == pytest.approx(math.log(2))
    assert after.dpo_loss(chosen * 0 + 1e4, chosen * 0, chosen * 0, chosen * 0, 1.0).isfinite()
    assert after.dpo_loss(chosen * 0, chosen * 0 + 1e4, chosen * 0, chosen * 0, 1.0).item() == pytest.approx(1e4)


def test_dpo_gradient_raises_the_chosen_and_lowers_the_rejected():
    chosen, rejected = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    after.dpo_loss(chosen, rejected, torch.tensor([0.0, 5.0, -5.0]), torch.zeros(3), 0.4).backward()
    assert (chosen.grad < 0).all() and torch.equal(chosen.grad, -rejected.grad)
    assert chosen.grad[0].item() == pytest.approx(-0.4 * 0.5 / 3)
    assert chosen.grad[1] < chosen.grad[0] < chosen.grad[2]  # a pair in the wrong order pushes harder


def test_dpo_is_the_reward_models_loss_with_the_implicit_reward_as_score():
    policy, ref = draws(1, 4), draws(1, 4, seed=1)
    ranks = torch.tensor([[2.0, 0.0, 1.0, 1.0]])
    pairs = [(i, j) for i, j in itertools.permutations(range(4), 2) if ranks[0, i] < ranks[0, j]]
    w, l = (list(side) for side in zip(*pairs))
    assert len(pairs) == 5  # the tie is no pair
    expected = after.dpo_loss(policy[0, w], policy[0, l], ref[0, w], ref[0, l], 0.7)
    assert reward.kwise_loss(after.implicit_reward(policy, ref, 0.7), ranks).item() == pytest.approx(expected.item())


def test_the_best_policy_of_equation_2_is_where_dpos_gradient_vanishes(world):
    scores = draws(2, len(world.responses), seed=2)
    log_ref = tw.policy_log_probs(a_pair(world)[0], world).sum(dim=-1).detach()
    log_best, _ = tw.optimum(log_ref, scores, BETA)
    rewards = after.implicit_reward(log_best, log_ref, BETA)
    assert torch.allclose(rewards - rewards[:, :1], scores - scores[:, :1], atol=1e-4)
    # Infinitely many labels: each pair both ways round, as often as Bradley and Terry say.
    n = len(world.responses)
    i, j = torch.triu_indices(n, n, offset=1)
    moved = log_best[0].clone().requires_grad_()
    win = (scores[0, i] - scores[0, j]).sigmoid()

    def loss(x):
        margin = after.implicit_reward(x[i] - x[j], log_ref[0, i] - log_ref[0, j], BETA)
        return -(win * torch.nn.functional.logsigmoid(margin)
                 + (1 - win) * torch.nn.functional.logsigmoid(-margin)).mean()

    gradient, = torch.autograd.grad(loss(moved), moved)
    elsewhere = log_ref[0].clone().requires_grad_()
    assert gradient.norm() < 1e-4 * torch.autograd.grad(loss(elsewhere), elsewhere)[0].norm()


# ---------------------------------------------------------------- RLOO's advantages

@pytest.mark.parametrize("group", [2, 3, 6])
def test_rloo_advantages_are_the_explicit_leave_one_out_loop(group):
    scores = draws(12)
    got = after.rloo_advantages(scores, group)
    for start in range(0, 12, group):
        members = scores[start:start + group].tolist()
        for place, own in enumerate(members):
            others = members[:place] + members[place + 1:]
            assert got[start + place].item() == pytest.approx(own - sum(others) / len(others), abs=1e-5)
    assert torch.allclose(got.view(-1, group).sum(dim=1), torch.zeros(12 // group), atol=1e-5)
    assert torch.allclose(after.rloo_advantages(scores + 100, group), got, atol=1e-4)


def test_rloo_groups_must_fit():
    for scores, group in ((torch.zeros(4), 1), (torch.zeros(4), 3), (torch.zeros(2, 2), 2)):
        with pytest.raises(ValueError, match="groups"):
            after.rloo_advantages(scores, group)


def test_rloo_gradient_is_right_on_average(world):
    """From many samples: the gradient of equation 2, the KL inside the reward."""
    policy, _ = a_pair(world, seed=1)
    log_p = tw.policy_log_probs(policy, world)[0]
    log_ref = tw.policy_log_probs(a_pair(world, seed=2)[0], world)[0].sum(dim=-1).detach()
    scores = draws(len(world.responses), seed=3)
    weights = list(policy.parameters())
    exact = tw.gradient(tw.objective(log_p.sum(dim=-1)[None], log_ref[None], scores[None], BETA).sum(), weights)
    rows = torch.multinomial(log_p.sum(dim=-1).detach().exp(), 40_000, replacement=True,
                             generator=torch.Generator().manual_seed(0))
    kls = ppo_math.kl_k1(log_p.sum(dim=-1), log_ref).detach()
    loss = after.rloo_loss(log_p[rows], after.rloo_advantages((scores - BETA * kls)[rows], 4), world.mask[rows])
    found = tw.gradient(-loss, weights)
    assert torch.cosine_similarity(found, exact, dim=0) > 0.97
    assert (found.norm() / exact.norm()).item() == pytest.approx(1, abs=0.1)


# ---------------------------------------------------------------- the loops

def likes_threes(response):
    return float(response.count(3) - response.count(4))


def rankings_of(world, n, seed=0):
    """Rankings of 3 different responses by how many 3s they hold."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(len(world.responses), generator=generator)[:3].tolist() for _ in range(n)]
    return [RankedPrompt(PROMPTS[i % 2], [world.responses[row] for row in rows],
                         [-likes_threes(world.responses[row]) for row in rows]) for i, rows in enumerate(chosen)]


def threes_of(policy, world):
    """(expected score, KL) of a policy, exactly: means over the prompts."""
    scores = torch.tensor([likes_threes(response) for response in world.responses])
    return tw.expected(tw.policy_log_probs(policy, world).sum(dim=-1).detach(), scores).mean().item()


@pytest.mark.parametrize("seed", [0, 1])
def test_dpo_learns_a_preference(world, seed):
    policy, reference = a_pair(world, seed)
    frozen = [p.clone() for p in reference.parameters()]
    before = threes_of(policy, world)
    seen = []
    history = after.train_dpo(policy, reference, rankings_of(world, 120, seed),
                              after.DPOConfig(epochs=3, batch_prompts=12, lr=3e-3, beta=0.3, seed=seed),
                              evaluate=lambda policy, step: seen.append(step) or {"probe": step}, evaluate_every=8,
                              progress=False)
    assert threes_of(policy, world) > before + 0.5
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-5) and history[0]["accuracy"] == 0.5
    assert history[-1]["loss"] < 0.45 and history[-1]["accuracy"] > 0.8
    assert seen[-1] == len(history) and history[seen[0] - 1]["probe"] == seen[0] == 8
    held_out = rankings_of(world, 60, seed + 50)
    ranks, mask = reward.rank_tensors(held_out)
    ratios = after.frozen_log_probs(policy, held_out) - after.frozen_log_probs(reference, held_out)
    assert reward.pair_accuracy(ratios, ranks, mask) > 0.75
    assert all(torch.equal(a, b) for a, b in zip(frozen, reference.parameters()))


@pytest.mark.parametrize("seed", [0, 1])
def test_rloo_learns_a_preference(world, seed):
    policy, reference = a_pair(world, seed)
    before = threes_of(policy, world)
    config = after.RLOOConfig(iterations=25, prompts_per_step=16, group=4, max_new_tokens=3, lr=5e-3, kl_coef=0.1,
                              warmup_iterations=3, seed=seed)

    def score(rollout):
        return torch.tensor([likes_threes(response) for response in rollout.response_ids()])

    history = after.train_rloo(policy, reference, PROMPTS, config, reward_fn=score,
                               evaluate=lambda policy, i: {"probe": i}, progress=False)
    assert threes_of(policy, world) > before + 0.5
    assert abs(history[0]["kl"]) < 1e-5 and history[-1]["kl"] > 0.05
    assert history[-1]["probe"] == 25 and history[9]["probe"] == 10


def test_without_a_reward_rloo_goes_back_to_the_reference(world):
    policy, reference = a_pair(world, 0)[0], a_pair(world, 1)[1]
    config = after.RLOOConfig(iterations=15, prompts_per_step=16, group=4, max_new_tokens=3, lr=5e-3, kl_coef=1.0,
                              warmup_iterations=0)

    def nothing(rollout):
        asked = rollout.prompt_ids()
        assert all(asked[i] == asked[i - i % 4] for i in range(len(asked)))  # a group answers one prompt
        return torch.zeros(len(asked))

    history = after.train_rloo(policy, reference, PROMPTS, config, reward_fn=nothing, progress=False)
    exact = tw.kl(*(tw.policy_log_probs(m, world).sum(dim=-1).detach() for m in (policy, reference))).mean().item()
    assert history[0]["kl"] > 0.1 and exact < 0.5 * history[0]["kl"]


def test_the_same_seed_gives_the_same_weights(world):
    def trained(seed):
        dpo, rloo, reference = *(a_pair(world)[0] for _ in range(2)), a_pair(world)[1]
        after.train_dpo(dpo, reference, rankings_of(world, 12), after.DPOConfig(batch_prompts=4, seed=seed),
                        progress=False)
        after.train_rloo(rloo, reference, PROMPTS, after.RLOOConfig(iterations=2, prompts_per_step=4, max_new_tokens=3,
                         seed=seed), reward_fn=lambda rollout: rollout.lengths.float(), progress=False)
        return [p.detach().clone() for model in (dpo, rloo) for p in model.parameters()]

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not all(torch.equal(a, b) for a, b in zip(first, other))


def test_gradients_of_a_run_that_broke_off_are_forgotten(world):
    def trained(soiled):
        dpo, rloo, reference = *(a_pair(world)[0] for _ in range(2)), a_pair(world)[1]
        for parameter in (*dpo.parameters(), *rloo.parameters()):
            parameter.grad = torch.ones_like(parameter) if soiled else None
        after.train_dpo(dpo, reference, rankings_of(world, 4), after.DPOConfig(batch_prompts=4), progress=False)
        after.train_rloo(rloo, reference, PROMPTS, after.RLOOConfig(iterations=1, prompts_per_step=4, max_new_tokens=3),
                         reward_fn=lambda rollout: rollout.lengths.float(), progress=False)
        return [*dpo.parameters(), *rloo.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(trained(False), trained(True), strict=True))


def test_mistaken_arguments(world):
    policy, reference = a_pair(world)
    rankings, config = rankings_of(world, 4), after.RLOOConfig(iterations=1, prompts_per_step=2, max_new_tokens=3)

    def ones(rollout):
        return torch.ones(len(rollout.sequences))

    for other in (policy, models.copy_model(policy)):
        with pytest.raises(ValueError, match="trainable=False"):
            after.train_dpo(policy, other, rankings, after.DPOConfig(), progress=False)
        with pytest.raises(ValueError, match="trainable=False"):
            after.train_rloo(policy, other, PROMPTS, config, reward_fn=ones, progress=False)
    with pytest.raises(ValueError, match="nothing to learn"):
        after.train_dpo(policy, reference, [RankedPrompt([BEGIN, 3], [[3, END], [4, END]], [1, 1])], after.DPOConfig())
    limit = policy.config.max_position_embeddings
    for responses, ranks, match in (([[3, END], [4, END]], [1], "2 responses but 1 ranks"),
                                    ([[3, END], [3, END]], [1, 2], "have the same tokens"),
                                    ([[3] * limit, [4, END]], [1, 2], f"the model's context is {limit}")):
        with pytest.raises(ValueError, match=match):
            after.train_dpo(policy, reference, [RankedPrompt([BEGIN, 3], responses, ranks)], after.DPOConfig())
    for prompts, given in ((PROMPTS, {}), ([], {"reward_fn": ones}),
                           (PROMPTS, {"reward_fn": ones, "reward_model": policy})):
        with pytest.raises(ValueError, match="exactly one"):
            after.train_rloo(policy, reference, prompts, config, **given)
    with pytest.raises(RuntimeError, match="one finite number"):
        after.train_rloo(policy, reference, PROMPTS, config, reward_fn=lambda rollout: ones(rollout)[:3], progress=False)


def test_divergence_is_named(world):
    policy, reference = a_pair(world)
    spoilt = models.copy_model(policy)
    with torch.no_grad():
        spoilt.lm_head.weight.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="DPO diverged at step 1"):
        after.train_dpo(spoilt, reference, rankings_of(world, 4), after.DPOConfig(), progress=False)
    config = after.RLOOConfig(iterations=9, prompts_per_step=8, max_new_tokens=3, lr=0.05, max_kl=0.01)
    with pytest.raises(RuntimeError, match="Raise kl_coef"):
        after.train_rloo(policy, reference, PROMPTS, config, progress=False,
                         reward_fn=lambda rollout: (rollout.responses[:, 0] == 3).float())
