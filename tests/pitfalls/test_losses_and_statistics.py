"""P32-P40 and a few more: losses, their gradients, whitening, metrics, length, and what a loop must not drop."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pieces import collect, ppo_gradients, reward_gradients, sft_gradients, sgd, update
from tiny import (
    KINDS,
    PROMPTS,
    VOCAB,
    a_config,
    a_policy,
    a_reward_model,
    a_team,
    generator,
    low_tokens,
    plain_log_probs,
    rollout_of,
)

from rlhf_lite import checkpoints, models, ppo, ppo_math, pretrain, reward, sampling, sft, stats, training
from rlhf_lite.experiment import data, evaluate
from rlhf_lite.models import BEGIN, END
from rlhf_lite.reward import RankedPrompt, RewardConfig

both_kinds = pytest.mark.parametrize("kind", KINDS)
NAN, INF = float("nan"), float("inf")
MASK = torch.tensor([[True, True, True, False], [True, False, False, False], [True, True, False, False]])
WEB = pretrain.pack([list(range(3, 60))] * 4, 16)


def no_progress(team, reward_fn=low_tokens, pretraining=None, **changes):
    return ppo.train_ppo(*team, PROMPTS, a_config(**changes), reward_fn=reward_fn, pretraining=pretraining,
                         progress=False)


def equal_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def gradients(*trained):
    return [parameter.grad.clone() for model in trained for parameter in model.parameters()]


def agree(one, other, atol=2e-6):
    return all(torch.allclose(a, b, rtol=1e-4, atol=atol) for a, b in zip(one, other, strict=True))


def by_double_loop(scores, ranks):
    terms = [math.log1p(math.exp(scores[j] - scores[i])) for i, j in itertools.permutations(range(len(scores)), 2)
             if ranks[i] < ranks[j]]
    return sum(terms) / len(terms) if terms else 0.0


def some_rankings(sizes=(2, 4, 3, 6)):
    rng = np.random.default_rng(0)
    return [RankedPrompt([BEGIN, 5 + i], [[*rng.integers(3, VOCAB, rng.integers(1, 6)).tolist(), END]
                                          for _ in range(k)], rng.permutation(k).tolist())
            for i, k in enumerate(sizes)]


def soil(values, mask, garbage):
    return torch.where(mask, values, garbage)


# ---------------------------------------------------------------- the reward model's loss

def test_p32_kwise_loss_is_a_mean_over_pairs_then_over_prompts():
    """A loss summed over all pairs lets prompts with many answers drown the others, and ties give NaN. Right: the
    double loop's mean per prompt, then over prompts; ln 2 at equal scores; blind to a shift and to the order; all ties
    give 0. Source: InstructGPT, section 3.5 and appendix C.2."""
    scores = torch.tensor([[1.0, -0.5, 9e9, 9e9], [0.3, 2.0, -1.0, 0.7], [3.0, 1.0, 0.0, NAN]], requires_grad=True)
    ranks = torch.tensor([[1, 2, 0, 0], [2, 1, 2, 3], [1, 1, 1, 0]])
    mask = torch.tensor([[True, True, False, False], [True] * 4, [True, True, True, False]])
    each = reward.kwise_losses(scores, ranks, mask)
    expected = [by_double_loop([1.0, -0.5], [1, 2]), by_double_loop([0.3, 2.0, -1.0, 0.7], [2, 1, 2, 3]), 0.0]
    assert each.tolist() == pytest.approx(expected) and expected[2] == 0.0
    assert reward.kwise_loss(scores, ranks, mask).item() == pytest.approx(sum(expected) / 2)  # of those with pairs
    pairwise = (expected[0] + 5 * expected[1]) / 6
    assert abs(pairwise - sum(expected) / 2) > 0.05  # the wrong mean is another number
    each.sum().backward()
    assert scores.grad.isfinite().all() and (scores.grad[~mask] == 0).all() and (scores.grad[2] == 0).all()
    assert scores.grad.sum(dim=1).abs().max() < 1e-6 and scores.grad[0, 0] < 0 < scores.grad[0, 1]
    one, order = scores.detach()[1], torch.tensor([3, 0, 2, 1])
    loss = reward.kwise_loss(one, ranks[1]).item()
    assert reward.kwise_loss(one + 7, ranks[1]).item() == pytest.approx(loss, abs=1e-6)
    assert reward.kwise_loss(one[order], ranks[1][order]).item() == pytest.approx(loss, abs=1e-6)
    assert reward.kwise_loss(torch.full((5,), 3.0), torch.arange(5)).item() == pytest.approx(math.log(2))


@both_kinds
def test_p32_one_forward_per_completion(kind):
    """Pairs read one by one forward each answer K - 1 times and overfit on it. Right: one row per answer and step, all
    pairs of a prompt in one element. Source: InstructGPT, section 3.5."""
    model, rankings, rows = a_reward_model(kind), some_rankings(), []
    model.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    history = reward.train_reward(model, rankings, RewardConfig(batch_prompts=4, micro_batch=3), progress=False)
    assert len(history) == 1 and sum(rows) == sum(len(ranking.responses) for ranking in rankings) == 15
    expected = np.mean([by_double_loop(reward.score(a_reward_model(kind), [[*r.prompt_ids, *response]
                                                                          for response in r.responses]).tolist(),
                                       r.ranks) for r in rankings])
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_p32_training_and_validation_share_no_prompt():
    """Rankings split by pair put the same prompt on both sides and flatter the validation accuracy. Right: a prompt,
    its text and its customer belong to one split. Source: InstructGPT, section 3.2."""
    of = {split: data.prompts_of(split) for split in ("train", "valid")}
    of["test"] = [prompt for prompts in evaluate.test_sets().values() for prompt in prompts]  # what is really asked
    demonstrated = {split: {row["prompt"] for row in data.demonstrations(split=split)} for split in of}
    for one, other in itertools.combinations(of, 2):
        for field in ("id", "text", "customer"):
            left, right = ({getattr(prompt, field) for prompt in of[split]} for split in (one, other))
            assert left and right and not left & right, field
        assert not demonstrated[one] & demonstrated[other]


# ---------------------------------------------------------------- PPO-ptx

@both_kinds
def test_p33_ptx_joins_the_gradient_of_the_same_step(kind):
    """A second backward and step for the pretraining loss is another algorithm, as both share Adam's moments. Right:
    one step on grad PPO + ptx_coef * grad LM; 0 gives plain PPO bit for bit; the coefficient weighs means per token,
    whatever the number of rows. Sources: DeepSpeed-Chat, trl #716, #1050, #1219."""
    settings = a_config(minibatch=16, micro_batch=None, max_grad_norm=1e9, ptx_coef=2.0)
    policy, reference, critic = a_team(kind, scale=2.0)
    batch, _ = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    ppo_gradients(policy, critic, batch, range(16), replace(settings, ptx_coef=0.0))
    alone = gradients(policy)
    policy.zero_grad()
    pretrain.lm_loss(policy, pretrain.as_rows(WEB[:1], "cpu")).backward()
    language = gradients(policy)
    policy.zero_grad(), critic.zero_grad()
    expected = [a + 2 * b for a, b in zip(alone, language, strict=True)]
    assert not agree(expected, alone, 1e-3) and not agree(expected, [2 * b for b in language], 1e-3)
    for rows in (2, 5):
        learner, adams = models.copy_model(policy), {}

        def adam(model, lr, adams=adams):
            adams[model] = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.95))
            return adams[model]

        update(learner, critic, batch, replace(settings, critic_lr=0.0, ptx_rows=rows), adam,
               np.repeat(WEB[:1], 8, axis=0))
        states = [adams[learner].state[parameter] for parameter in learner.parameters()]
        assert {state["step"].item() for state in states} == {1}
        assert agree([state["exp_avg"] / (1 - 0.9) for state in states], expected, 1e-5)
        assert agree([state["exp_avg_sq"] / (1 - 0.95) for state in states], [g**2 for g in expected], 1e-5)


@both_kinds
def test_p33_without_ptx_ppo_is_untouched(kind):
    """Mixing code that touches the random numbers or the gradient even at 0 spoils every comparison of PPO with
    PPO-ptx. Right: ptx_coef=0 with and without pretraining rows is the same run, bit by bit. Sources: as above."""
    plain, with_rows, mixed = a_team(kind), a_team(kind), a_team(kind)
    history = [no_progress(team, pretraining=rows, iterations=2, batch_size=8, ptx_coef=coef).history
               for team, rows, coef in ((plain, None, 0.0), (with_rows, WEB, 0.0), (mixed, WEB, 0.5))]
    assert equal_weights(plain[0], with_rows[0]) and not equal_weights(plain[0], mixed[0])
    assert [{**entry, "seconds": 0} for entry in history[0]] == [{**entry, "seconds": 0} for entry in history[1]]
    assert "ptx_loss" in history[2][0] and history[2][0]["score"] == history[0][0]["score"]


# ---------------------------------------------------------------- whitening and padding

@pytest.mark.parametrize("garbage", [0.0, 1e6, NAN])
def test_p34_whitening_sees_real_tokens_only(garbage):
    """Whitening over pads leaves the real tokens at mean -.60, std 1.22. Right: advantages have mean 0 and std 1 over
    the actions; rewards are divided without removing the mean, so signs stay; one action gives no NaN. Sources: trlX
    whiten, ROLL #475, torchtune shift_mean."""
    torch.manual_seed(0)
    values = soil(3 + 2 * torch.randn(3, 4), MASK, garbage)
    white = ppo_math.masked_whiten(values, MASK)
    assert abs(white[MASK].mean().item()) < 1e-6 and abs(white[MASK].std(correction=0).item() - 1) < 1e-5
    assert (white[~MASK] == 0).all()
    signed = torch.where(MASK, values - values[MASK].median(), garbage)
    scaled = ppo_math.masked_whiten(signed, MASK, shift_mean=False)
    assert torch.allclose(scaled[MASK], signed[MASK] / signed[MASK].std(correction=0), atol=1e-6)
    assert torch.equal(scaled[MASK].sign(), signed[MASK].sign()) and (scaled[MASK] < 0).any()
    alone = torch.zeros_like(MASK)
    alone[1, 0] = True
    assert ppo_math.masked_whiten(values, alone).abs().max() < 1e-3
    assert ppo_math.masked_whiten(values, alone, shift_mean=False).isfinite().all()


@both_kinds
def test_p34_collected_advantages_are_white_over_the_actions(kind):
    """The default that keeps the mean passes a test of whitening against itself. Right, in numbers: PPO's own
    advantages have mean 0, std 1 over real tokens, and are plain GAE when whitening is off. Source: torchtune
    shift_mean."""
    batches = [collect(*a_team(kind, scale=3.0), PROMPTS, a_config(whiten_advantages=white), low_tokens)[0]
               for white in (True, False)]
    mask = batches[0].rollout.response_mask
    assert 0 < mask.float().mean() < 1  # some padding
    white, plain = (batch.advantages[mask] for batch in batches)
    assert abs(white.mean().item()) < 1e-6 and abs(white.std(correction=0).item() - 1) < 1e-5
    assert abs(plain.mean().item()) > 0.01
    assert torch.allclose(white, (plain - plain.mean()) / plain.std(correction=0), atol=1e-5)


@both_kinds
@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
def test_p35_nan_at_padding_reaches_no_loss_and_no_gradient(kind, garbage):
    """NaN * 0 is NaN, so a mask that multiplies lets padding destroy a step. Right: masked places are selected away;
    loss, gradient and statistics are those of clean padding. Source: OpenRLHF #1240."""
    results = []
    for dirt in (0.0, garbage):
        policy, reference, critic = a_team(kind, scale=2.0)

        def soil_logits(module, inputs, options, output, dirt=dirt):
            attended = options["attention_mask"][:, -output.logits.shape[1]:, None].bool()
            output.logits = soil(output.logits, attended, dirt)
            return output

        for model in (policy, reference):
            model.register_forward_hook(soil_logits, with_kwargs=True)
        critic.register_forward_hook(lambda module, inputs, output, dirt=dirt: soil(output, inputs[1].bool(), dirt))
        batch, entry = collect(policy, reference, critic, PROMPTS, a_config(), low_tokens)
        mask = batch.rollout.response_mask
        assert not mask.all()
        batch = ppo.Experience(batch.rollout, *(soil(tensor, mask, dirt) for tensor in batch[1:]))
        statistics = ppo_gradients(policy, critic, batch, range(16), a_config())
        results.append((torch.tensor([*entry.values(), *statistics.values()]), gradients(policy, critic)))
    assert results[1][0].isfinite().all() and all(gradient.isfinite().all() for gradient in results[1][1])
    assert torch.allclose(results[0][0], results[1][0]) and agree(results[0][1], results[1][1])


@pytest.mark.parametrize("garbage", [NAN, INF])
def test_p35_nan_at_padding_in_pure_losses(garbage):
    """The same for each loss alone, its gradient taken at the padding too. Source: OpenRLHF #1240."""
    torch.manual_seed(0)
    old, advantages, values, returns = (torch.randn(3, 4) for _ in range(4))

    def both(dirt):
        new = soil(old + 0.1, MASK, dirt).requires_grad_()
        inputs = [soil(tensor, MASK, dirt) for tensor in (old, advantages, values, returns)]
        loss, statistics = ppo_math.policy_loss(new, *inputs[:2], MASK)
        loss = loss + ppo_math.value_loss(new, *inputs[2:], MASK) + ppo_math.value_loss(new, *inputs[2:], MASK, None)
        loss = loss + ppo_math.masked_mean(new, MASK)
        loss.backward()
        assert (new.grad[~MASK] == 0).all()
        return [loss.detach(), new.grad, *map(torch.tensor, statistics.values())]

    assert agree(both(0.0), both(garbage))
    labels = torch.tensor([[-100, 5, 6, -100]])
    logits = torch.randn(1, 4, 9)
    soiled = logits.clone()
    soiled[:, 2:] = garbage  # these would predict what is masked
    assert torch.equal(sft.sft_loss(logits, labels), sft.sft_loss(soiled, labels))


@both_kinds
def test_p36_micro_batches_of_ppo_change_nothing(kind):
    """A mean of per-sequence means is not the mean over tokens: 37 against 91 for lengths 1, 10, 100. Right: loss,
    gradient and metrics are the token mean of the minibatch for any split. Sources: OpenRLHF test_loss_aggregation,
    verl test_value_loss_normalization."""
    torch.manual_seed(0)
    policy, _, critic = a_team(kind, scale=2.0)
    rollout = rollout_of([[BEGIN, 5, 6], [BEGIN], [BEGIN, 7]], [[9] * length for length in (1, 10, 40)])
    mask = rollout.response_mask
    with torch.no_grad():
        old = ppo.rollout_log_probs(policy, rollout) + 0.3 * torch.randn(mask.shape)
        values = ppo.rollout_values(critic, rollout) + 0.1 * torch.randn(mask.shape)
    advantages = torch.randn(mask.shape) + torch.tensor([[5.0], [0.0], [-1.0]])
    batch = ppo.Experience(rollout, old, values, advantages, values + advantages)
    found = []
    for micro_batch in (None, 1, 2):
        policy.zero_grad(), critic.zero_grad()
        entry = ppo_gradients(policy, critic, batch, range(3), a_config(micro_batch=micro_batch))
        found.append((entry, gradients(policy, critic)))
    ratio = (ppo.rollout_log_probs(policy, rollout) - old).exp()
    tokens = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
    expected = tokens[mask].mean().item()
    per_sequence = np.mean([tokens[row][mask[row]].mean().item() for row in range(3)])
    assert abs(expected - per_sequence) > 0.5  # the wrong mean is another number
    for entry, gradient in found:
        assert entry["policy_loss"] == pytest.approx(expected, rel=1e-4)
        assert entry == pytest.approx(found[0][0], rel=1e-4) and agree(gradient, found[0][1])


@both_kinds
def test_p36_micro_batches_of_sft_and_reward_change_nothing(kind):
    """The same for demonstrations of unequal length (a mean over tokens) and rankings of unequal K (a mean over
    prompts). Source: OpenRLHF test_loss_aggregation."""
    examples = [sft.build_example([BEGIN, 5], [9 + i] * length + [END]) for i, length in enumerate((1, 8, 30))]
    found = []
    for micro_batch in (None, 1, 2):
        policy, judge = a_policy(kind, scale=2.0), a_reward_model(kind)
        losses = (sft_gradients(policy, examples, sft.SFTConfig(micro_batch=micro_batch)),
                  reward_gradients(judge, some_rankings(), RewardConfig(micro_batch=micro_batch))[0])
        found.append((losses, gradients(policy, judge)))
    policy, logs = a_policy(kind, scale=2.0), []
    for ids, _ in examples:
        scored = plain_log_probs(policy, ids)
        logs.append([-scored[t - 1, ids[t]].item() for t in range(2, len(ids))])
    by_token = np.mean(sum(logs, []))
    assert abs(by_token - np.mean([np.mean(row) for row in logs])) > 0.01
    for losses, gradient in found:
        assert losses[0] == pytest.approx(by_token, rel=1e-4) and losses == pytest.approx(found[0][0], rel=1e-4)
        assert agree(gradient, found[0][1])


# ---------------------------------------------------------------- old values, metrics

@both_kinds
def test_p37_old_numbers_stay_frozen_over_the_inner_epochs(kind, monkeypatch):
    """Old log-probabilities or values taken anew in each epoch make every ratio 1 and the clip void. Right: all epochs
    are held against the numbers of the rollout; returns are unwhitened advantages + old values. Sources: the N
    implementation details, rlhf-book #216."""
    policy, reference, critic = a_team(kind, scale=2.0)
    settings = a_config(inner_epochs=3, kl_coef=0.0, lam=1.0)
    batch, _ = collect(policy, reference, critic, PROMPTS, settings, low_tokens, kl_coef=0.0)
    mask, scores = batch.rollout.response_mask, low_tokens(batch.rollout)
    # undiscounted, lambda 1, no KL: every return is the score; r - V or whitened advantages would not give it
    assert torch.allclose(batch.returns[mask], scores[:, None].expand(mask.shape)[mask], atol=1e-5)
    plain = batch.returns - batch.values
    assert torch.allclose(batch.advantages, ppo_math.masked_whiten(plain, mask), atol=1e-5)
    names = ("log_probs", "values", "advantages", "returns")
    before = {name: getattr(batch, name).clone() for name in names}
    seen = {name: [] for name in (*names, "now")}
    policy_loss, value_loss = ppo_math.policy_loss, ppo_math.value_loss

    def watch_policy(new, old, advantages, mask, *more):
        for name, tensor in (("now", new), ("log_probs", old), ("advantages", advantages)):
            seen[name].append(tensor.detach()[mask])
        return policy_loss(new, old, advantages, mask, *more)

    def watch_value(new, old, returns, mask, *more):
        for name, tensor in (("values", old), ("returns", returns)):
            seen[name].append(tensor.detach()[mask])
        return value_loss(new, old, returns, mask, *more)

    monkeypatch.setattr(ppo, "policy_loss", watch_policy)
    monkeypatch.setattr(ppo, "value_loss", watch_value)
    entry = update(policy, critic, batch, settings, lambda model, _: torch.optim.Adam(model.parameters(), lr=1e-2))
    calls = len(seen["now"]) // 3
    for name in names:
        assert torch.equal(getattr(batch, name), before[name])
        for epoch in range(3):
            used = torch.cat(seen[name][epoch * calls:(epoch + 1) * calls])
            assert torch.equal(used.sort().values, before[name][mask].sort().values)
    last = torch.cat(seen["now"][2 * calls:]).sum(), before["log_probs"][mask].sum()
    assert abs(last[0] - last[1]) > 1 and entry["max_ratio"] > 1.2 and entry["clipfrac"] > 0


def test_p37_the_value_clip_is_around_the_old_values():
    """A clip around the returns, or min for max, lets the critic run. Right: V_old + clip(V - V_old), half of the
    larger squared error, and no gradient where the clipped one is the larger. Source: the N implementation details."""
    values = torch.tensor([[1.0, 0.1, -1.0, 0.5]], requires_grad=True)
    old, returns = torch.tensor([[0.0, 0.0, 0.0, 0.4]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True, False]])
    loss = ppo_math.value_loss(values, old, returns, mask, 0.2)
    assert loss.item() == pytest.approx(0.5 * ((0.2 - 1) ** 2 + 0.9**2 + 2.0**2) / 3)
    loss.backward()
    assert values.grad[0].tolist() == pytest.approx([0.0, -0.9 / 3, -2.0 / 3, 0.0])


@both_kinds
def test_p38_no_metric_depends_on_padding(kind, monkeypatch):
    """Unmasked means made KL, ratio and entropy look 1.8 times too healthy at 45 % padding. Right: every logged number
    is invariant to more padding, whatever stands there, and has its sign. Sources: trl #2022, #6121."""
    original, found = sampling.sample, []

    def padded(left, right):
        def draw(*arguments, **options):
            rollout = original(*arguments, **options)
            pad = torch.nn.functional.pad
            return sampling.Rollout(pad(pad(rollout.sequences, (left, 0), value=33), (0, right), value=9),
                                    pad(rollout.attention_mask, (left, right)), pad(rollout.response_mask, (0, right)),
                                    rollout.prompt_length + left, rollout.finished)
        return draw

    for left, right in ((0, 0), (0, 9), (5, 20)):
        monkeypatch.setattr(ppo, "sample", padded(left, right))
        policy, _, critic = a_team(kind, scale=3.0)
        reference = models.copy_model(a_policy(kind, seed=1, scale=3.0), trainable=False)
        settings = a_config(inner_epochs=2, missing_end_penalty=0.5)
        batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
        assert batch.log_probs.shape[1] == 6 + right
        begun = models.copy_model(policy)
        entry |= update(policy, critic, batch, settings, sgd(0.1))
        found.append(entry)
    for entry in found[1:]:
        assert entry == pytest.approx(found[0], rel=1e-3, abs=1e-4)
    rollout, entropies, kls = batch.rollout, [], []
    for prompt, response in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True):
        p, q = (plain_log_probs(model, prompt + response)[len(prompt) - 1:-1] for model in (begun, reference))
        entropies += (-(p.exp() * p).sum(-1)).tolist()
        kls.append((p - q).gather(1, torch.tensor(response)[:, None]).sum().item())
    assert entry["entropy"] == pytest.approx(np.mean(entropies), rel=1e-4) and 0 < entry["entropy"] < math.log(VOCAB)
    assert entry["kl"] == pytest.approx(np.mean(kls), rel=1e-4) and entry["kl"] > 0.1
    assert entry["clipfrac"] > 0 and entry["approx_kl"] > 0
    penalised = entry["score"] - 0.5 * (1 - entry["finished"])
    assert entry["objective"] == pytest.approx(penalised - 0.02 * entry["kl"], rel=1e-4)  # the KL is a cost
    assert 0 < entry["finished"] < 1 and entry["length"] == pytest.approx(len(entropies) / 16)


def test_p38_statistics_are_means_over_the_actions():
    """The same for the loss's own statistics, to which PPO's loop hands rows of unequal length: the numbers by hand,
    for any width of padding. Source: trl #2022."""
    ratios = torch.tensor([[1.5, 0.9, 0.7, 1.0], [2.0, 1.0, 1.0, 1.0], [1.1, 1.0, 1.0, 1.0]])
    real = ratios[MASK]
    for extra in (0, 1, 30):
        mask = torch.nn.functional.pad(MASK, (0, extra))
        new = soil(torch.nn.functional.pad(ratios, (0, extra)).log(), mask, 5.0)
        _, statistics = ppo_math.policy_loss(new, torch.zeros_like(new), torch.ones_like(new), mask, 0.2)
        assert statistics["clipfrac"] == pytest.approx(3 / 6)
        assert statistics["approx_kl"] == pytest.approx((real - 1 - real.log()).mean().item(), rel=1e-5)
        assert statistics["max_ratio"] == pytest.approx(2.0)
        returns = soil(torch.ones(mask.shape).cumsum(1), mask, 9.0)
        assert ppo_math.explained_variance(0.5 * returns, returns, mask) == pytest.approx(0.75)
        assert ppo_math.masked_mean(returns, mask).item() == pytest.approx(10 / 6)


# ---------------------------------------------------------------- normalisation and length

@both_kinds
def test_p39_normalisation_is_done_once_and_stays_with_the_model(kind, tmp_path):
    """A normalisation that is forgotten on saving, or applied again in PPO, shifts every score. Right: demonstrations
    average 0, loss and accuracy stay, the shift is in the weights, PPO reads the scores as they are. Source:
    InstructGPT, section 3.5."""
    judge, rankings = a_reward_model(kind, bias=3.0, scale=3.0), some_rankings()
    rows = [reward.reward_input(r.prompt_ids, response) for r in rankings for response in r.responses]
    before = reward.evaluate_reward(judge, rankings)
    raw = reward.score(judge, rows)
    info = reward.normalise(judge, rows[::2])
    shifted = reward.score(judge, rows)
    assert abs(info["mean_before"]) > 0.5 and abs(shifted[::2].double().mean().item()) < 1e-6
    assert torch.allclose(raw - info["mean_before"], shifted, atol=1e-5)
    after = reward.evaluate_reward(judge, rankings)
    assert after["accuracy"] == before["accuracy"] and after["loss"] == pytest.approx(before["loss"], abs=1e-5)
    again = reward.normalise(judge, rows[::2])  # a second time there is nothing left to do
    assert abs(again["mean_before"]) < 1e-6 and torch.allclose(reward.score(judge, rows), shifted, atol=1e-6)
    reward.normalise(judge, rows[::2], samples=rows)  # our gain: another scale, the same order and the same zero
    scaled = reward.score(judge, rows)
    assert abs(scaled[::2].double().mean()) < 1e-6 and abs(scaled.std(correction=0) - 1) < 1e-4
    assert reward.evaluate_reward(judge, rankings)["accuracy"] == before["accuracy"]
    checkpoints.save_checkpoint(tmp_path / "judge", judge, {})
    loaded = checkpoints.load_scalar(tmp_path / "judge")
    assert torch.equal(reward.score(loaded, rows), scaled)
    policy, reference, _ = a_team(kind, scale=3.0)
    entries = [collect(policy, reference, models.copy_model(loaded), PROMPTS, a_config(),
                       lambda rollout: ppo.score_rollout(loaded, rollout), iteration, kl_coef=0.0)
               for iteration in (0, 1)]
    for batch, entry in entries:  # no running normaliser, no whitening of rewards: the mean and spread are plain
        inputs = [p + r for p, r in zip(batch.rollout.prompt_ids(), batch.rollout.response_ids(), strict=True)]
        plain = reward.score(loaded, inputs)
        assert entry["score"] == pytest.approx(plain.mean().item(), abs=1e-5) == entry["objective"]
        assert entry["score_std"] == pytest.approx(plain.std(correction=0).item(), abs=1e-5)


def test_p40_every_iteration_logs_the_correlation_of_length_and_score():
    """A rising reward may be nothing but longer answers. Right: each PPO run prints how reward and length correlate,
    next to the length itself. Source: Singhal et al., 2310.03716."""
    drawn = []

    def pays_for_length(rollout):
        scores = 0.1 * rollout.lengths.float() + low_tokens(rollout)
        drawn.append((rollout.lengths.tolist(), scores.tolist()))
        return scores

    policy = a_policy(scale=3.0)
    team = policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, 0)
    run = no_progress(team, pays_for_length, iterations=2, max_new_tokens=9)
    assert len(run.history) == len(drawn) == 2
    for entry, (lengths, scores) in zip(run.history, drawn, strict=True):
        assert entry["length"] == pytest.approx(np.mean(lengths)) and entry["score"] == pytest.approx(np.mean(scores))
        expected = np.corrcoef(lengths, scores)[0, 1]
        assert entry["length_score_correlation"] == pytest.approx(expected, abs=1e-5) and abs(expected) > 0.05
        interval = stats.length_reward_correlation(lengths, scores)
        assert interval.value == pytest.approx(expected) and interval.low < expected < interval.high
    for reward_fn, expected in ((lambda rollout: rollout.lengths.float(), 1.0),
                                (lambda rollout: -rollout.lengths.float(), -1.0),
                                (lambda rollout: torch.zeros(len(rollout.sequences)), 0.0)):
        _, entry = collect(*team, PROMPTS, a_config(), reward_fn)
        assert entry["length_score_correlation"] == pytest.approx(expected, abs=1e-5)  # a number, never NaN


# ---------------------------------------------------------------- also worth a test

@both_kinds
def test_gradient_checkpointing_leaves_the_cache_of_rollouts_on(kind):
    """Gradient checkpointing switches the KV cache off in generation, ten times slower and unnoticed. Right: rollouts
    read one token a step and are the same as without. Sources: trl #3683, transformers #36051."""
    policy = a_policy(kind, scale=3.0)
    expected = sampling.sample(policy, PROMPTS, 8, generator=generator())
    policy.activation_checkpointing_enable()
    policy.train()
    widths = []
    policy.register_forward_pre_hook(
        lambda module, inputs, options: widths.append(options["input_ids"].shape[1]), with_kwargs=True)
    rollout = sampling.sample(policy, PROMPTS, 8, generator=generator())
    assert widths == [5] + [1] * 7 and torch.equal(rollout.sequences, expected.sequences)
    assert policy.training and policy.is_activation_checkpointing  # as the caller left them


@both_kinds
def test_small_and_ragged_data_are_not_dropped(kind):
    """drop_last with few prompts trains on nothing and reports success. Right: one prompt, one ranking or three
    demonstrations still make a step, and a ragged last minibatch is used. Source: OpenRLHF,
    test_sync_fit_processes_nonempty_exhausted_rollout."""
    policy, reference, critic = a_team(kind)
    run = ppo.train_ppo(policy, reference, critic, [[BEGIN, 5]], a_config(iterations=1), reward_fn=low_tokens,
                        progress=False)
    assert len(run.history) == 1 and not equal_weights(policy, reference)
    judge, untouched = a_reward_model(kind), a_reward_model(kind)
    assert len(reward.train_reward(judge, some_rankings((3,)), RewardConfig(), progress=False)) == 1
    assert not equal_weights(judge, untouched)
    learner = a_policy(kind)
    examples = [sft.build_example([BEGIN], [7, END])] * 3
    sft.train_sft(learner, examples, sft.SFTConfig(epochs=1), progress=False)
    assert not equal_weights(learner, a_policy(kind))
    read, steps = [], []
    batch, _ = collect(policy, reference, critic, PROMPTS, a_config(batch_size=10), low_tokens)
    with pytest.MonkeyPatch.context() as patch:
        take, step = ppo.Experience.take, training.Loop.step
        patch.setattr(ppo.Experience, "take", lambda batch, rows: read.append(rows) or take(batch, rows))
        patch.setattr(training.Loop, "step", lambda loop: steps.append(sum(map(len, read))) or step(loop))
        update(policy, critic, batch, a_config(minibatch=4))
    assert steps == [4, 8, 10] and sorted(np.concatenate(read)) == list(range(10))
    for seed in (None, 0):
        assert sorted(np.concatenate(sampling.length_batches([3, 1, 2, 2, 9], 4, seed))) == list(range(5))


def test_draws_depend_on_seed_and_iteration_only():
    """Workers or iterations with the same seed sample the same responses, and a stray draw changes a run. Right: other
    seeds and other iterations draw anew; the global generator plays no part."""
    team, rows = a_team(scale=3.0), []
    for seed, iteration, disturbance in ((0, 0, 1), (0, 0, 2), (1, 0, 1), (0, 1, 1)):
        torch.manual_seed(disturbance), np.random.seed(disturbance)
        batch, _ = collect(*team, PROMPTS[:1], a_config(seed=seed), low_tokens, iteration)
        rows.append(batch.rollout.response_ids())
    assert rows[0] == rows[1] and len(set(map(str, rows))) == 3
    assert sum(one == other for one, other in zip(rows[0], rows[3], strict=True)) < 4


@both_kinds
def test_averaged_weights_are_for_evaluation_only(kind, monkeypatch):
    """Rollouts of averaged weights are off-policy. Right: PPO samples from the policy itself and trains the same for
    any decay; the average is decay * average + (1 - decay) * policy after every step. Source: InstructGPT, appendix
    C.4."""
    samplers, runs, teams = [], [], [a_team(kind) for _ in range(2)]
    original = sampling.sample
    monkeypatch.setattr(ppo, "sample", lambda policy, *more, **options: (samplers.append(policy),
                                                                         original(policy, *more, **options))[1])
    for team, decay in zip(teams, (0.992, 0.0), strict=True):
        runs.append(no_progress(team, iterations=2, batch_size=8, ema_decay=decay, lr=1e-2))
    assert [id(model) for model in samplers] == [id(team[0]) for team in teams for _ in range(2)]
    assert equal_weights(teams[0][0], teams[1][0]) and equal_weights(runs[1].ema, teams[1][0])
    # one step an iteration: the average of run 1 from the policies of a shorter run and of the whole one
    shorter, average = a_team(kind), a_policy(kind)
    no_progress(shorter, iterations=1, batch_size=8, lr=1e-2)
    for begun, first, second, got in zip(average.parameters(), shorter[0].parameters(), teams[0][0].parameters(),
                                         runs[0].ema.parameters(), strict=True):
        expected = 0.992 * (0.992 * begun + 0.008 * first) + 0.008 * second
        assert torch.allclose(got, expected, atol=1e-6)
    assert not equal_weights(runs[0].ema, teams[0][0])


@both_kinds
def test_prompts_that_are_too_long_are_not_cut(kind):
    """A prompt cut to fit loses its question or its BEGIN, and the answer is judged against it all the same. Right: a
    prompt that just fits is read whole, one that does not is refused. Source: TRL max_length docs."""
    policy = a_policy(kind)
    room = policy.config.max_position_embeddings - 4
    fits = [BEGIN] + [5 + i % 50 for i in range(room - 1)]
    rollout = sampling.sample(policy, [fits, [BEGIN, 5]], 4, generator=generator())
    assert rollout.prompt_ids() == [fits, [BEGIN, 5]] and rollout.lengths.max() == 4
    with pytest.raises(ValueError, match="drop long prompts"):
        sampling.sample(policy, [[*fits, 6], [BEGIN, 5]], 4)
