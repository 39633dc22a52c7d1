"""RLOO: the advantages by hand, the gradient of equation 2 in an exact world, and a loop that learns."""

import inspect

import pytest
import torch
from pieces import optimizer_steps, same_step
from tiny import PROMPTS, WORLD_PROMPTS, a_pair, a_policy, a_world, likes_threes, low_tokens, threes_of

from rlhf_lite import models, ppo_math, rloo, sampling
from rlhf_lite import tiny_world as tw

BETA = 0.5


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def world():
    return a_world()


# ---------------------------------------------------------------- advantages and loss

@pytest.mark.parametrize("group", [2, 3, 6])
def test_rloo_advantages_are_the_explicit_leave_one_out_loop(group):
    scores = draws(12)
    got = rloo.rloo_advantages(scores, group)
    for start in range(0, 12, group):
        members = scores[start:start + group].tolist()
        for place, own in enumerate(members):
            others = members[:place] + members[place + 1:]
            assert got[start + place].item() == pytest.approx(own - sum(others) / len(others), abs=1e-5)
    assert torch.allclose(got.view(-1, group).sum(dim=1), torch.zeros(12 // group), atol=1e-5)
    assert torch.allclose(rloo.rloo_advantages(scores + 100, group), got, atol=1e-4)


def test_rloo_groups_must_fit():
    advantages = inspect.unwrap(rloo.rloo_advantages)  # as it is outside the tests, where nothing checks the shapes
    for scores, group in ((torch.zeros(4), 1), (torch.zeros(4), 3), (torch.zeros(2, 2), 2)):
        with pytest.raises(ValueError, match="groups"):
            advantages(scores, group)


def test_padding_is_not_trained_on():
    """P35: whatever stands there."""
    log_probs, advantages = draws(2, 3), torch.tensor([1.0, -2.0])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    spoilt = torch.where(mask, log_probs, float("nan")).requires_grad_()
    loss = rloo.rloo_loss(spoilt, advantages, mask)
    assert loss.item() == pytest.approx((-log_probs[0].sum() + 2 * log_probs[1, 0]).item() / 2)
    loss.backward()
    assert spoilt.grad.isfinite().all() and (spoilt.grad[~mask] == 0).all()


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
    loss = rloo.rloo_loss(log_p[rows], rloo.rloo_advantages((scores - BETA * kls)[rows], 4), world.mask[rows])
    found = tw.gradient(-loss, weights)
    assert torch.cosine_similarity(found, exact, dim=0) > 0.97
    assert (found.norm() / exact.norm()).item() == pytest.approx(1, abs=0.1)


def test_rloo_does_not_train_through_its_scores():
    scores = torch.tensor([1.0, 2.0, 0.5, 0.0], requires_grad=True)
    log_probs = torch.zeros(4, 2, requires_grad=True)
    rloo.rloo_loss(log_probs, rloo.rloo_advantages(scores, 2), torch.ones(4, 2, dtype=torch.bool)).backward()
    assert scores.grad is None and log_probs.grad[0, 0].item() == pytest.approx(1 / 4)


# ---------------------------------------------------------------- the loop

@pytest.mark.parametrize("seed", [0, 1])
def test_rloo_learns_a_preference(world, seed):
    policy, reference = a_pair(world, seed)
    before = threes_of(policy, world)
    config = rloo.RLOOConfig(iterations=25, prompts_per_step=16, group=4, max_new_tokens=3, lr=5e-3, kl_coef=0.1,
                             warmup_iterations=3, seed=seed)

    def score(rollout):
        return torch.tensor([likes_threes(response) for response in rollout.response_ids()])

    history = rloo.train_rloo(policy, reference, WORLD_PROMPTS, config, reward_fn=score,
                              evaluate=lambda policy, i: {"probe": i}, progress=False)
    assert threes_of(policy, world) > before + 0.5
    assert abs(history[0]["kl"]) < 1e-5 and history[-1]["kl"] > 0.05
    assert history[-1]["probe"] == 25 and history[9]["probe"] == 10


def test_without_a_reward_rloo_goes_back_to_the_reference(world):
    policy, reference = a_pair(world, 0)[0], a_pair(world, 1)[1]
    config = rloo.RLOOConfig(iterations=15, prompts_per_step=16, group=4, max_new_tokens=3, lr=5e-3, kl_coef=1.0,
                             warmup_iterations=0)

    def nothing(rollout):
        asked = rollout.prompt_ids()
        assert all(asked[i] == asked[i - i % 4] for i in range(len(asked)))  # a group answers one prompt
        return torch.zeros(len(asked))

    history = rloo.train_rloo(policy, reference, WORLD_PROMPTS, config, reward_fn=nothing, progress=False)
    exact = tw.kl(*(tw.policy_log_probs(m, world).sum(dim=-1).detach() for m in (policy, reference))).mean().item()
    assert history[0]["kl"] > 0.1 and exact < 0.5 * history[0]["kl"]


def test_every_step_of_rloo_is_reinforce_on_what_it_sampled(monkeypatch):
    policy, reference = a_policy("gpt2").train(), models.copy_model(a_policy("gpt2", 1).train(), trainable=False)
    settings = rloo.RLOOConfig(iterations=3, prompts_per_step=4, group=2, max_new_tokens=5, temperature=0.7, lr=1e-2,
                               warmup_iterations=0, kl_coef=0.3, seed=5)
    drawn, temperatures, seen = [], [], [models.copy_model(policy)]

    def sample(policy, prompts, max_new_tokens, temperature, generator):
        temperatures.append(temperature)
        drawn.append(sampling.sample(policy, prompts, max_new_tokens, temperature, generator=generator))
        return drawn[-1]

    monkeypatch.setattr(rloo, "sample", sample)
    with optimizer_steps() as steps:
        rloo.train_rloo(policy, reference, PROMPTS, settings, reward_fn=low_tokens, evaluate_every=1, progress=False,
                        evaluate=lambda model, step: seen.append(models.copy_model(model)) or {})
    assert [step[0] for step in steps] == [1e-2] * 3 and len(drawn) == 3
    asked = [rollout.prompt_ids() for rollout in drawn]
    assert all(prompts[::2] == prompts[1::2] for prompts in asked) and asked[0] != asked[1]
    assert len({str(rollout.response_ids()) for rollout in drawn}) == 3
    for step, begun, rollout in zip(steps, seen[:-1], drawn, strict=True):
        mask, rows = rollout.response_mask, (rollout.sequences, rollout.attention_mask, rollout.prompt_length, 0.7)
        ours = torch.where(mask, sampling.token_log_probs(begun, *rows), 0.0).sum(1)
        theirs = torch.where(mask, sampling.token_log_probs(reference, *rows), 0.0).sum(1)
        scores = (low_tokens(rollout) - 0.3 * (ours - theirs)).detach()
        advantages = scores - scores.view(-1, 2).flip(1).flatten()  # of two, the other one is the baseline
        same_step(step, policy, begun, -(advantages * ours).mean())
    assert temperatures == [0.7] * 3
    for seed in (5, 6):  # one and the same prompt, so that only the draws can differ
        rloo.train_rloo(models.copy_model(seen[0]), reference, PROMPTS[:1], reward_fn=low_tokens, progress=False,
                        config=rloo.RLOOConfig(**{**vars(settings), "seed": seed, "iterations": 1}))
    assert drawn[-1].response_ids() != drawn[-2].response_ids()


def test_mistaken_arguments(world):
    policy, reference = a_pair(world)
    config = rloo.RLOOConfig(iterations=1, prompts_per_step=2, max_new_tokens=3)

    def train(prompts=WORLD_PROMPTS, reference=reference, reward_fn=lambda rollout: torch.ones(len(rollout.sequences))):
        rloo.train_rloo(policy, reference, prompts, config, reward_fn, progress=False)

    for other in (policy, models.copy_model(policy)):
        with pytest.raises(ValueError, match="trainable=False"):
            train(reference=other)
    with pytest.raises(ValueError, match="no prompts to train on"):
        train([])
    for other in (None, [1.0, 2.0]):
        with pytest.raises(ValueError, match="neither a reward model nor a function"):
            train(reward_fn=other)
    with pytest.raises(RuntimeError, match="one finite number"):
        train(reward_fn=lambda rollout: torch.ones(3))


def test_divergence_is_named(world):
    policy, reference = a_pair(world)
    config = rloo.RLOOConfig(iterations=9, prompts_per_step=8, max_new_tokens=3, lr=0.05, max_kl=0.01)
    with pytest.raises(RuntimeError, match=r"rloo diverged in round \d .* from the reference. Raise kl_coef"):
        rloo.train_rloo(policy, reference, WORLD_PROMPTS, config, progress=False,
                        reward_fn=lambda rollout: (rollout.responses[:, 0] == 3).float())
