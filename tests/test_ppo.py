"""PPO piece by piece, then the loop as a whole."""

import math

import pytest
import torch
from pieces import collect, norm, optimizer_steps, ppo_gradients, sgd, update
from tiny import KINDS, PROMPTS, a_config, a_policy, a_team, generator, low_tokens

from rlhf_lite import models, ppo, ppo_math, pretrain, sampling, training
from rlhf_lite.models import BEGIN

MANY = [[BEGIN, 5 + i, *([9] * (i % 4))] for i in range(40)]
WEB = pretrain.pack([list(range(3, 60))] * 8, 16)[:16]


def one_step(**changes):
    """Settings for a single step on 32 responses."""
    return a_config(**{"iterations": 1, "batch_size": 32, "minibatch": 32, "lr": 1e-2, **changes})


def collected(settings, kl_coef=0.0, iteration=0, reference=None, prompts=MANY):
    """(policy, critic, batch, entry) of one rollout."""
    policy = a_policy()
    critic = models.scalar_from_policy(policy, 0)
    reference = reference or models.copy_model(policy, trainable=False)
    return policy, critic, *collect(policy, reference, critic, prompts, settings, low_tokens, iteration, kl_coef)


# ---------------------------------------------------------------- identities before the first step

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_before_any_step_ratio_is_one_and_kl_zero(kind, temperature):
    """P2, P10, P19, P22."""
    policy, reference, critic = a_team(kind)
    settings = a_config(temperature=temperature)
    batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    assert entry["kl"] == 0.0
    statistics = ppo_gradients(policy, critic, batch, range(16), settings)
    assert abs(statistics["max_ratio"] - 1) < 1e-5 and statistics["clipfrac"] == 0 and statistics["approx_kl"] < 1e-9
    assert entry["objective"] == pytest.approx(entry["score"])
    mask = batch.rollout.response_mask
    assert batch.advantages[mask].mean().abs() < 1e-5 and (batch.advantages[~mask] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_critic_starts_as_the_reward_model(kind):
    """P3, P11, P16, P30: its value at the last token is the reward model's score, bias included."""
    policy, _, reward_model = a_team(kind)
    torch.nn.init.constant_(reward_model.score.bias, 0.5)
    critic = models.copy_model(reward_model)
    rollout = sampling.sample(policy, PROMPTS, 6, generator=generator())
    scores = ppo.score_rollout(reward_model, rollout)
    values = critic(rollout.sequences, rollout.attention_mask)
    assert torch.allclose(models.score_at_last(values, rollout.attention_mask), scores, atol=1e-5)
    before = ppo.response_values(critic, rollout)
    for row, (prompt, response) in enumerate(zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)):
        for t in range(len(response)):  # the state before token t holds the prompt and t tokens
            ids = torch.tensor([prompt + response[:t]])
            assert before[row, t].item() == pytest.approx(critic(ids, torch.ones_like(ids))[0, -1].item(), abs=1e-4)
    mask = rollout.response_mask
    assert torch.allclose(ppo.rollout_values(critic, rollout, 5)[mask], before[mask], atol=1e-5)
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    assert torch.allclose(ppo.rollout_log_probs(policy, rollout, batch_size=5)[mask], log_probs[mask], atol=1e-5)


# ---------------------------------------------------------------- what an iteration collects

def test_the_penalty_for_a_missing_end_is_learnt_from():
    """P14, P37: without KL and discount, advantage + value is the penalised score, whitened advantages or not."""
    for whiten in (False, True):
        settings = one_step(missing_end_penalty=1.5, lam=1.0, whiten_advantages=whiten)
        _, _, batch, _ = collected(settings)
        finished = batch.rollout.finished
        assert finished.any() and not finished.all()
        expected = low_tokens(batch.rollout) - 1.5 * (~finished).float()
        assert torch.allclose(batch.returns[:, 0], expected, atol=1e-5)
        advantages = batch.advantages[batch.rollout.response_mask]
        assert (abs(advantages.std(correction=0).item() - 1) < 1e-5) == whiten


def test_the_reference_the_kl_and_the_discounts_go_to_their_places():
    """P1, P27, P38."""
    reference = models.copy_model(a_policy(seed=1), trainable=False)
    policy, critic, batch, entry = collected(one_step(gamma=0.9, lam=0.5, whiten_advantages=False), 0.1,
                                             reference=reference)
    rollout, mask = batch.rollout, batch.rollout.response_mask
    own, other = (torch.where(mask, ppo.rollout_log_probs(model, rollout), 0.0) for model in (policy, reference))
    kl = (own - other).sum(dim=1).mean().item()
    assert abs(kl) > 0.01 and entry["kl"] == pytest.approx(kl, rel=1e-4)
    assert entry["objective"] == pytest.approx(entry["score"] - 0.1 * kl, abs=1e-5)
    rewards = ppo_math.shaped_rewards(low_tokens(rollout), own, other, mask, 0.1)
    advantages, _ = ppo_math.gae(rewards, ppo.rollout_values(critic, rollout), mask, gamma=0.9, lam=0.5)
    assert torch.allclose(batch.advantages, advantages, atol=1e-5)


def test_without_whitening_advantages_are_plain():
    _, _, batch, _ = collected(one_step(whiten_advantages=False))
    mask = batch.rollout.response_mask
    assert torch.allclose(batch.advantages + torch.where(mask, batch.values, 0.0), batch.returns, atol=1e-6)


def test_seeds_and_iterations_draw_other_prompts_and_other_responses():
    def draw(seed, iteration, prompts):
        return collected(one_step(batch_size=16, seed=seed), 0.0, iteration, prompts=prompts)[2].rollout

    same = [draw(seed, iteration, [[BEGIN, 5]]).response_ids() for seed, iteration in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert same[0] == same[3] and same[0] != same[1] and same[0] != same[2]
    first, second = (draw(0, iteration, MANY[:32]).prompt_ids() for iteration in (0, 1))
    assert sorted(first + second) == sorted(MANY[:32])


# ---------------------------------------------------------------- one step

def gradients(pretraining=None, **changes):
    """Of the whole batch in one step, of the policy's weights and then the critic's."""
    policy, reference, critic = a_team()
    settings = a_config(**changes)
    batch, _ = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    ppo_gradients(policy, critic, batch, range(16), settings, pretraining)
    return [p.grad for model in (policy, critic) for p in model.parameters()]


def test_micro_batches_change_nothing():
    """P36."""
    whole = gradients(micro_batch=None)
    for micro_batch in (1, 5):
        parts = gradients(micro_batch=micro_batch)
        assert all(torch.allclose(a, b, atol=2e-6) for a, b in zip(whole, parts, strict=True))


def test_ptx_gradient_is_added_into_the_same_step():
    """P33: gradient = PPO's + ptx_coef times the language model's; with 0 PPO is untouched."""
    web = pretrain.pack([list(range(3, 60))] * 4, 16)
    with optimizer_steps() as steps:
        plain, mixed = gradients(), gradients(web, ptx_coef=2.0)
    assert len(steps) == 4  # one of the policy and one of the critic, twice
    policy = a_policy()
    rows = training.rows_at(0, len(web), 4, 0)
    pretrain.lm_loss(policy, pretrain.as_rows(web[rows], "cpu")).backward()
    language = [p.grad for p in policy.parameters()]
    for ppo_gradient, both, of_text in zip(plain, mixed, language, strict=False):  # the policy's come first
        assert torch.allclose(both, ppo_gradient + 2 * of_text, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(plain, gradients(web, ptx_coef=0.0), strict=True))


def test_a_minibatch_is_compared_with_the_frozen_policy_and_critic():
    """P36, P37: divided by its own actions; ratio and value clip refer to the old numbers, which have no gradient."""
    settings = one_step(value_clip=0.05, micro_batch=3)
    policy, critic, batch, _ = collected(settings)
    with torch.no_grad():
        policy.lm_head.weight.mul_(3)
        critic.score.bias.add_(0.5)
    rows = torch.arange(8)
    found = ppo_gradients(policy, critic, batch, rows, settings)
    new, values = ppo.rollout_log_probs(policy, batch.rollout), ppo.rollout_values(critic, batch.rollout)
    assert not any(tensor.requires_grad for tensor in (batch.log_probs, batch.values, new, values))
    mask = batch.rollout.response_mask[rows]
    loss, statistics = ppo_math.policy_loss(new[rows], batch.log_probs[rows], batch.advantages[rows], mask)
    error = ppo_math.value_loss(values[rows], batch.values[rows], batch.returns[rows], mask, 0.05)
    assert statistics["max_ratio"] > 1.05
    expected = {"policy_loss": loss.item(), "value_loss": error.item(), **statistics}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert critic.score.bias.grad.abs().item() > 0


def test_ppo_steps_warm_up_are_clipped_and_leave_no_row_out():
    policy = a_policy()
    settings = one_step(iterations=2, batch_size=10, minibatch=4, warmup_iterations=2, critic_lr=3e-2,
                        max_grad_norm=0.01)
    with optimizer_steps() as steps:
        ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, 0),
                      MANY, settings, reward_fn=low_tokens, progress=False)
    assert [lr for lr, _ in steps] == pytest.approx([1e-3, 3e-3] * 3 + [5.5e-3, 1.65e-2] * 3)  # 4 + 4 + 2 rows
    assert all(0 < norm(g) < 0.01001 for _, g in steps)


def test_the_average_moves_by_its_share_and_every_first_ratio_is_one(monkeypatch):
    """P2, P22: three iterations of one step; a policy with dropout, and rollouts of the policy, not of the average."""
    policy = a_policy("gpt2").train()
    before, after, asked, sample = models.copy_model(policy), [], [], ppo.sample
    monkeypatch.setattr(ppo, "sample", lambda model, *rest, **more: asked.append(model) or sample(model, *rest, **more))
    run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, 0),
                        MANY, one_step(iterations=3, warmup_iterations=0, ema_decay=0.75), reward_fn=low_tokens,
                        evaluate=lambda policy, i: after.append(models.copy_model(policy)) or {}, evaluate_every=1,
                        progress=False)
    assert [entry["max_ratio"] for entry in run.history] == pytest.approx([1.0] * 3, abs=1e-4)
    assert asked == [policy] * 3
    for average, start, *later in zip(run.ema.parameters(), *(m.parameters() for m in (before, *after)), strict=True):
        expected = start
        for weights in later:
            expected = 0.75 * expected + 0.25 * weights
        assert torch.allclose(average, expected, atol=1e-6)


def test_ptx_goes_through_the_web(monkeypatch):
    """P33: four steps of four rows read the sixteen rows once each."""
    policy, seen, lm_loss = a_policy(), [], pretrain.lm_loss
    monkeypatch.setattr(pretrain, "lm_loss", lambda policy, rows: seen.extend(rows.tolist()) or lm_loss(policy, rows))
    web = WEB.copy()
    web[:, 0] = range(3, 19)  # tell them apart
    ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, 0), MANY,
                  one_step(iterations=2, minibatch=16, ptx_coef=0.5), reward_fn=low_tokens, pretraining=web,
                  progress=False)
    assert sorted(row[0] for row in seen) == list(range(3, 19))


def test_a_gradient_that_is_no_number_stops_ppo_before_the_step():
    policy, critic, batch, _ = collected(one_step())
    before = [p.clone() for p in policy.parameters()]
    with pytest.raises(RuntimeError, match="a loss or gradient is not a number"):
        update(policy, critic, batch._replace(returns=batch.returns * float("nan")), one_step(), sgd(1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_sign_of_the_reward(sign):
    """P1: rewarded tokens become likelier, punished ones less likely."""
    policy, reference, critic = a_team()
    run = ppo.train_ppo(policy, reference, critic, PROMPTS,
                        a_config(iterations=12, batch_size=64, kl_coef=0.0, lr=5e-3),
                        reward_fn=lambda rollout: sign * low_tokens(rollout), progress=False)
    share = [sign * entry["score"] for entry in run.history]
    assert sign * (sum(share[-3:]) - sum(share[:3])) / 3 > 0.05


def test_the_kl_penalty_pulls_back():
    """P1: without reward, a policy that is not the reference comes closer to it."""
    policy, _, critic = a_team()
    with torch.no_grad():
        policy.lm_head.weight[:32] *= 3
    reference = models.copy_model(a_policy(), trainable=False)
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(iterations=25, batch_size=64, kl_coef=1.0),
                        reward_fn=lambda rollout: torch.zeros(len(rollout.sequences)), progress=False)
    kl = [entry["kl"] for entry in run.history]
    assert sum(kl[-5:]) / 5 < 0.8 * sum(kl[:3]) / 3


# ---------------------------------------------------------------- the loop

@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_raises_the_reward_within_bounds(seed):
    policy, reference, critic = a_team(seed=seed)
    frozen = [p.clone() for p in reference.parameters()]
    settings = a_config(iterations=25, batch_size=64, kl_coef=0.05, lr=2e-3, seed=seed)
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, settings, reward_fn=low_tokens, progress=False)
    first, last = run.history[0], run.history[-1]
    assert last["score"] > first["score"] + 0.25 and 0 < last["kl"] < 8
    assert all(torch.equal(a, b) for a, b in zip(frozen, reference.parameters(), strict=True))  # P27
    assert {"entropy", "clipfrac", "value_loss", "explained_variance", "length", "finished", "approx_kl", "lr",
            "length_score_correlation", "kl_coef"} <= last.keys()
    assert run.history[0]["lr"] == pytest.approx(2e-4) and last["lr"] == 2e-3  # warm-up over ten iterations
    mine = [run.ema.lm_head.weight, policy.lm_head.weight]
    assert not torch.equal(*mine) and not run.ema.training


def test_ppo_finds_the_optimum_of_a_small_world():
    """One token, 64 choices: the best policy is proportional to reference · exp(reward / kl_coef)."""
    policy, reference, critic = a_team(seed=3)
    table = torch.zeros(64)
    table[32:] = 0.3
    run = ppo.train_ppo(policy, reference, critic, [[BEGIN, 5]],
                        a_config(iterations=60, batch_size=256, minibatch=256, micro_batch=None, max_new_tokens=1,
                                 kl_coef=0.2, lr=1e-3),
                        reward_fn=lambda rollout: table[rollout.responses[:, 0]], progress=False)
    start = torch.tensor([[BEGIN, 5]])
    best = (reference(start).logits[0, -1].log_softmax(-1) + table / 0.2).softmax(-1)
    got = policy(start).logits[0, -1].softmax(-1)
    assert got[32:].sum().item() == pytest.approx(best[32:].sum().item(), abs=0.05)
    exact = (got * (got / reference(start).logits[0, -1].softmax(-1)).log()).sum().item()
    assert run.history[-1]["kl"] == pytest.approx(exact, abs=0.2)


def test_a_reward_model_and_an_evaluation_can_be_given():
    policy, reference, reward_model = a_team()
    run = ppo.train_ppo(policy, reference, models.copy_model(reward_model), PROMPTS, a_config(missing_end_penalty=1.0),
                        reward_fn=reward_model, evaluate=lambda policy, i: {"seen": i}, evaluate_every=2,
                        progress=False)
    assert [entry.get("seen") for entry in run.history] == [None, 2, 3]  # the last one always
    first = run.history[0]
    assert first["objective"] == pytest.approx(first["score"] - (1 - first["finished"]), abs=1e-5)  # P14: once


def test_a_run_with_other_pretraining_rows_is_not_resumed(tmp_path):
    def train(pretraining):
        ppo.train_ppo(*a_team(), PROMPTS, a_config(iterations=1, ptx_coef=0.1), low_tokens, pretraining,
                      folder=tmp_path, progress=False)

    train(WEB)
    for other in (WEB[::-1], WEB.reshape(-1, 8)):
        with pytest.raises(ValueError, match=r"other settings \(pretraining\)"):
            train(other)


def test_divergence_stops_with_the_likely_cause():
    def run(reward_fn=low_tokens, spoil=None, **changes):
        policy, reference, critic = a_team()
        if spoil:
            spoil(policy)
        ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(**changes), reward_fn=reward_fn, progress=False)

    with pytest.raises(RuntimeError, match="one finite number"):
        run(lambda rollout: torch.full((16,), float("nan")))
    with pytest.raises(RuntimeError, match="one finite number"):
        run(lambda rollout: torch.zeros(3))
    with pytest.raises(RuntimeError, match="Raise kl_coef"):
        run(max_kl=1e-4, iterations=8, lr=1e-2)
    with pytest.raises(RuntimeError, match="-fold|not a number"):
        run(lr=10.0, max_ratio=5.0, inner_epochs=4)

    def break_sampler(policy):
        policy.model.norm.weight.data.fill_(float("nan"))

    with pytest.raises(RuntimeError, match="not finite.*training has diverged"):
        run(spoil=break_sampler)


def test_negative_kl_is_noticed():
    """P20."""
    with pytest.warns(UserWarning, match="cannot be negative"):
        loop = training.Loop("ppo", a_config(), 1, {"policy": a_policy()}, {}, None, {})
        loop.guard_kl(-2 + 0.1 * torch.randn(50, generator=generator()))


def test_mistaken_arguments():
    policy, reference, critic = a_team()
    cases = (({"reward_fn": None}, "neither a reward model nor a function"),
             ({"config": a_config(ptx_coef=1.0)}, "no pretraining rows"),
             ({"reference": models.copy_model(policy)}, "trainable=False"),
             ({"prompts": []}, "no prompts"),
             ({"reward_fn": critic}, "nothing to train, or would move"),
             ({"critic": models.ScalarModel(policy.base_model)}, "they share weights"),
             ({"critic": models.copy_model(critic, trainable=False)}, "nothing to train"),
             *(({"config": a_config(**{name: value})}, f"{name} is {value}; set it to 1 or more")
               for name, value in (("micro_batch", -1), ("minibatch", 0), ("inner_epochs", 0), ("save_every", 0),
                                   ("iterations", 0))))
    for changes, match in cases:
        arguments = {"policy": policy, "reference": reference, "critic": critic, "prompts": PROMPTS,
                     "config": a_config(), "reward_fn": low_tokens, "progress": False, **changes}
        with pytest.raises(ValueError, match=match):
            ppo.train_ppo(**arguments)
    with pytest.raises(ValueError, match="share weights"):
        policy.requires_grad_(False)
        ppo.train_ppo(policy, policy, critic, PROMPTS, a_config(), reward_fn=low_tokens)


def test_bf16_runs():
    policy, reference, critic = a_team()
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(bf16=True, iterations=2),
                        reward_fn=models.copy_model(critic), progress=False)
    assert math.isfinite(run.history[-1]["score"]) and abs(run.history[0]["kl"]) < 1e-6
