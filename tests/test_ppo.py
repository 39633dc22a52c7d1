"""PPO piece by piece against numbers worked out by hand, then the loop as a whole."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lite import models, ppo, ppo_guards, ppo_math, pretrain, reward, sampling
from rlhf_lite.models import BEGIN, END
from rlhf_lite.ppo import PPOConfig

PROMPTS = [[BEGIN, 5 + i, *([9] * (i % 4))] for i in range(12)]
MASK = torch.tensor([[True, True, True], [True, False, False]])


def a_policy(kind="llama", seed=0):
    if kind == "llama":
        return models.new_policy("tiny", seed, vocab_size=64)
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=1,
                                      eos_token_id=2)).eval()


def a_team(kind="llama", seed=0):
    policy = a_policy(kind, seed)
    return policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, seed)


def sevens(rollout):
    """Reward: the share of sampled tokens that are below 32."""
    return ((rollout.responses < 32) & rollout.response_mask).sum(1) / rollout.lengths.float()


def config(**changes):
    return PPOConfig(**{**dict(iterations=3, batch_size=16, minibatch=8, max_new_tokens=6, lr=1e-3), **changes})


# ---------------------------------------------------------------- the mathematics

def test_masked_statistics():
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, float("nan"), 1e9]])
    assert ppo_math.masked_mean(values, MASK).item() == 3.0
    assert ppo_math.masked_mean(values, torch.zeros_like(MASK)).item() == 0.0
    white = ppo_math.masked_whiten(values, MASK)
    assert white[MASK].mean().item() == pytest.approx(0, abs=1e-6)  # P34, as numbers
    assert white[MASK].std(correction=0).item() == pytest.approx(1, abs=1e-6) and (white[~MASK] == 0).all()
    scaled = ppo_math.masked_whiten(values, MASK, shift_mean=False)
    assert scaled[MASK].tolist() == pytest.approx((values[MASK] / values[MASK].std(correction=0)).tolist())
    one = torch.tensor([[True, False, False], [False, False, False]])
    assert ppo_math.masked_whiten(values, one).isfinite().all()
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    assert ppo_math.explained_variance(returns, returns, MASK) == 1.0
    assert ppo_math.explained_variance(torch.full_like(returns, 9.0), returns, MASK) == pytest.approx(0)
    assert ppo_math.explained_variance(returns, torch.ones_like(returns), MASK) == 0.0


def test_kl_estimators_on_a_distribution():
    """P25: k1 and k3 are unbiased, k2 is not but has the true gradient; k1 as a loss has none."""
    torch.manual_seed(0)
    p_logits, q = torch.randn(7, dtype=torch.float64, requires_grad=True), torch.randn(7, dtype=torch.float64)
    log_p, log_q = p_logits.log_softmax(0), q.log_softmax(0)
    p = log_p.exp()
    exact = (p * (log_p - log_q)).sum()
    mean = {k: (p * f(log_p, log_q)).sum() for k, f in
            (("k1", ppo_math.kl_k1), ("k2", ppo_math.kl_k2), ("k3", ppo_math.kl_k3))}
    assert mean["k1"].item() == pytest.approx(exact.item()) and mean["k3"].item() == pytest.approx(exact.item())
    assert abs(mean["k2"].item() - exact.item()) > 1e-3
    true_gradient = torch.autograd.grad(exact, p_logits, retain_graph=True)[0]
    for estimator, expected in ((ppo_math.kl_k1, torch.zeros(7)), (ppo_math.kl_k2, true_gradient)):
        loss = (p.detach() * estimator(log_p, log_q)).sum()
        assert torch.allclose(torch.autograd.grad(loss, p_logits, retain_graph=True)[0], expected.double(), atol=1e-9)
    assert (ppo_math.kl_k3(log_p, log_q) >= 0).all()


def test_adaptive_kl_is_clipped():
    assert ppo_math.adaptive_kl(0.1, 6, 6, 100) == pytest.approx(0.1)
    assert ppo_math.adaptive_kl(0.1, 60, 6, 1000) == pytest.approx(0.1 * 1.02)
    assert ppo_math.adaptive_kl(0.1, 0, 6, 1000) == pytest.approx(0.1 * 0.98)


def test_score_lands_on_the_last_action():
    """P1, P4, P5: by hand, and the same for finished and cut-off responses."""
    lp = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 50.0, float("nan")]], requires_grad=True)
    ref = torch.tensor([[-1.5, -2.0, -2.0], [-3.0, -9.0, 0.0]])
    rewards = ppo_math.shaped_rewards(torch.tensor([1.0, -1.0]), lp, ref, MASK, 0.1)
    assert rewards[0].tolist() == pytest.approx([-0.05, 0.0, 0.1 + 1.0])
    assert rewards[1].tolist() == pytest.approx([-0.2 - 1.0, 0.0, 0.0]) and not rewards.requires_grad
    assert ppo_math.last_action(MASK).tolist() == [2, 0]
    _, returns = ppo_math.gae(rewards, torch.zeros_like(ref), MASK, 1.0, 1.0)
    assert returns[0].tolist() == pytest.approx([1.05, 1.1, 1.1])  # score − kl_coef · (KL to go)
    with pytest.raises(ValueError, match="no token"):
        ppo_math.last_action(torch.zeros(1, 3, dtype=torch.bool))


def test_gae_by_hand():
    """Rewards 0, 0, 1 and values .5, .6, .7 with lambda .5: deltas .1, .1, .3."""
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]] * 2), torch.tensor([[0.5, 0.6, 0.7]] * 2)
    advantages, returns = ppo_math.gae(rewards, values, MASK, gamma=1.0, lam=0.5)
    assert advantages[0].tolist() == pytest.approx([0.1 + 0.5 * (0.1 + 0.15), 0.1 + 0.15, 0.3])
    assert torch.allclose(returns[0], advantages[0] + values[0])
    assert advantages[1].tolist() == pytest.approx([-0.5, 0, 0])  # one action: r − V, terminal value 0
    discounted, _ = ppo_math.gae(rewards, values, MASK, gamma=0.9, lam=0.0)
    assert discounted[0].tolist() == pytest.approx([0.9 * 0.6 - 0.5, 0.9 * 0.7 - 0.6, 0.3])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([1e9, float("nan"), float("inf"), -3.0]))
def test_padding_never_matters(seed, extra, garbage):
    """P6, P35, P38: garbage at padding and more padding columns change nothing but the order in which sums are rounded."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(5) < torch.randint(1, 6, (4, 1), generator=generator)
    tensors = [torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(4)]
    scores = torch.randn(4, generator=generator, dtype=torch.float64)

    def compute(mask, lp, ref, values, new):
        new = new.clone().requires_grad_()
        rewards = ppo_math.shaped_rewards(scores, lp, ref, mask, 0.1)
        advantages, returns = ppo_math.gae(rewards, values, mask)
        white = ppo_math.masked_whiten(advantages, mask)
        loss, statistics = ppo_math.policy_loss(new, lp, white, mask)
        error = ppo_math.value_loss(new, values, returns, mask)
        (loss + error).backward()
        return (*(x[:, :5][mask[:, :5]] for x in (rewards, advantages, returns, white, new.grad)),
                torch.tensor([*statistics.values(), ppo_math.explained_variance(values, returns, mask)]).double(),
                (new.grad[~mask] == 0).all())

    expected = compute(mask, *tensors)
    wide = torch.nn.functional.pad(mask, (0, extra))
    soiled = [torch.where(wide, torch.nn.functional.pad(x, (0, extra)), garbage) for x in tensors]
    for a, b in zip(expected, compute(wide, *soiled), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-10) and b.all() == a.all()


def test_policy_loss_by_hand():
    old = torch.zeros(2, 3)
    advantages = torch.tensor([[1.0, -1.0, 1.0], [2.0, 5.0, 5.0]])
    new = torch.tensor([[1.5, 1.5, 0.9], [0.5, 7.0, 7.0]]).log()
    loss, statistics = ppo_math.policy_loss(new, old, advantages, MASK, 0.2)
    # clipped at 1.2; not clipped (worse is believed); inside; not clipped below for a positive advantage
    assert loss.item() == pytest.approx((-1.2 + 1.5 - 0.9 - 2 * 0.5) / 4)
    assert statistics["clipfrac"] == pytest.approx(3 / 4) and statistics["max_ratio"] == pytest.approx(1.5)
    ratio = torch.tensor([1.5, 1.5, 0.9, 0.5])
    assert statistics["approx_kl"] == pytest.approx((ratio - 1 - ratio.log()).mean().item(), rel=1e-5)
    half, _ = ppo_math.policy_loss(new[:1], old[:1], advantages[:1], MASK[:1], 0.2, normaliser=4)
    rest, _ = ppo_math.policy_loss(new[1:], old[1:], advantages[1:], MASK[1:], 0.2, normaliser=4)
    assert (half + rest).item() == pytest.approx(loss.item())  # P36


def test_value_loss_by_hand():
    """P37: the clip is around the old values."""
    values, old = torch.tensor([[1.0, 0.1]]), torch.tensor([[0.0, 0.0]])
    returns, mask = torch.tensor([[1.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    clipped = 0.5 * ((1 - 0.2) ** 2 + 0.9**2) / 2
    assert ppo_math.value_loss(values, old, returns, mask, 0.2).item() == pytest.approx(clipped)
    assert ppo_math.value_loss(values, old, returns, mask, None).item() == pytest.approx(0.5 * 0.9**2 / 2)


# ---------------------------------------------------------------- identities before the first step

@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_before_any_step_ratio_is_one_and_kl_zero(kind, temperature):
    """P2, P10, P19, P22."""
    policy, reference, critic = a_team(kind)
    settings_ = config(temperature=temperature)
    batch, entry = ppo.collect(policy, reference, critic, PROMPTS, settings_, sevens, 0, 0.02)
    assert entry["kl"] == 0.0
    statistics = ppo._gradients(policy, critic, batch, torch.arange(16).numpy(), settings_)
    assert abs(statistics["max_ratio"] - 1) < 1e-5 and statistics["clipfrac"] == 0 and statistics["approx_kl"] < 1e-9
    assert entry["objective"] == pytest.approx(entry["score"])
    mask = batch.rollout.response_mask
    assert batch.advantages[mask].mean().abs() < 1e-5 and (batch.advantages[~mask] == 0).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_critic_starts_as_the_reward_model(kind):
    """P3, P11, P16, P30: its value at the last token is the reward model's score, bias included."""
    policy, _, reward_model = a_team(kind)
    torch.nn.init.constant_(reward_model.score.bias, 0.5)
    critic = models.copy_model(reward_model)
    rollout = sampling.sample(policy, PROMPTS, 6, generator=torch.Generator().manual_seed(0))
    scores = ppo.score_rollout(reward_model, rollout)
    values = critic(rollout.sequences, rollout.attention_mask)
    assert torch.allclose(models.score_at_last(values, rollout.attention_mask), scores, atol=1e-5)
    before = ppo.response_values(critic, rollout)
    for row, (prompt, response) in enumerate(zip(rollout.prompt_ids(), rollout.response_ids())):
        for t in range(len(response)):  # the state before token t holds the prompt and t tokens
            ids = torch.tensor([prompt + response[:t]])
            assert before[row, t].item() == pytest.approx(critic(ids, torch.ones_like(ids))[0, -1].item(), abs=1e-4)
    mask = rollout.response_mask
    assert torch.allclose(ppo.rollout_values(critic, rollout, 5)[mask], before[mask], atol=1e-5)
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    assert torch.allclose(ppo.rollout_log_probs(policy, rollout, batch_size=5)[mask], log_probs[mask], atol=1e-5)


# ---------------------------------------------------------------- one step

def gradients(changes, web=None):
    policy, reference, critic = a_team()
    settings_ = config(minibatch=16, max_grad_norm=1e9, **changes)
    batch, _ = ppo.collect(policy, reference, critic, PROMPTS, settings_, sevens, 0, 0.02)
    seen = []

    class Recorder:
        def step(self):
            seen.append([p.grad.clone() for model in (policy, critic) for p in model.parameters()])

        def zero_grad(self, set_to_none):
            policy.zero_grad(), critic.zero_grad()

    ppo.update(policy, critic, models.copy_model(policy), {"both": Recorder()}, batch, settings_, 0, web)
    assert len(seen) == 1
    return seen[0]


def test_micro_batches_change_nothing():
    """P36."""
    whole = gradients({"micro_batch": None})
    for micro_batch in (1, 5):
        assert all(torch.allclose(a, b, atol=2e-6) for a, b in zip(whole, gradients({"micro_batch": micro_batch})))


def test_ptx_gradient_is_added_into_the_same_step():
    """P33: gradient = PPO's + ptx_coef times the language model's; with 0 PPO is untouched."""
    web = pretrain.pack([list(range(3, 60))] * 4, 16)
    plain, mixed = gradients({}), gradients({"ptx_coef": 2.0}, web)
    policy = a_policy()
    rows = pretrain.rows_at(0, len(web), 4, 0)
    pretrain.lm_loss(policy, pretrain.as_rows(web[rows], "cpu")).backward()
    for ppo_gradient, both, parameter in zip(plain, mixed, policy.parameters()):
        assert torch.allclose(both, ppo_gradient + 2 * parameter.grad, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(plain, gradients({"ptx_coef": 0.0}, web)))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_sign_of_the_reward(sign):
    """P1: rewarded tokens become likelier, punished ones less likely."""
    policy, reference, critic = a_team()
    run = ppo.train_ppo(policy, reference, critic, PROMPTS,
                        config(iterations=12, batch_size=64, kl_coef=0.0, lr=5e-3),
                        reward_fn=lambda rollout: sign * sevens(rollout), progress=False)
    share = [sign * entry["score"] for entry in run.history]
    assert sign * (sum(share[-3:]) - sum(share[:3])) / 3 > 0.05


def test_the_kl_penalty_pulls_back():
    """P1: without reward, a policy that is not the reference comes closer to it."""
    policy, _, critic = a_team()
    with torch.no_grad():
        policy.lm_head.weight[:32] *= 3
    reference = models.copy_model(a_policy(), trainable=False)
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, config(iterations=25, batch_size=64, kl_coef=1.0),
                        reward_fn=lambda rollout: torch.zeros(len(rollout.sequences)), progress=False)
    kl = [entry["kl"] for entry in run.history]
    assert sum(kl[-5:]) / 5 < 0.8 * sum(kl[:3]) / 3


# ---------------------------------------------------------------- the loop

@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_raises_the_reward_within_bounds(seed):
    policy, reference, critic = a_team(seed=seed)
    frozen = [p.clone() for p in reference.parameters()]
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, config(iterations=25, batch_size=64, kl_coef=0.05, lr=2e-3,
                                                                   seed=seed), reward_fn=sevens, progress=False)
    first, last = run.history[0], run.history[-1]
    assert last["score"] > first["score"] + 0.25 and 0 < last["kl"] < 8
    assert all(torch.equal(a, b) for a, b in zip(frozen, reference.parameters()))  # P27
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
                        config(iterations=60, batch_size=256, minibatch=256, micro_batch=None, max_new_tokens=1,
                               kl_coef=0.2, lr=1e-3),
                        reward_fn=lambda rollout: table[rollout.responses[:, 0]], progress=False)
    start = torch.tensor([[BEGIN, 5]])
    best = (reference(start).logits[0, -1].log_softmax(-1) + table / 0.2).softmax(-1)
    got = policy(start).logits[0, -1].softmax(-1)
    assert got[32:].sum().item() == pytest.approx(best[32:].sum().item(), abs=0.05)
    exact = (got * (got / reference(start).logits[0, -1].softmax(-1)).log()).sum().item()
    assert run.history[-1]["kl"] == pytest.approx(exact, abs=0.2)


def test_determinism_and_resume(tmp_path):
    web = pretrain.pack([list(range(3, 60))] * 4, 16)
    settings_ = config(iterations=5, save_every=2, ptx_coef=0.1, target_kl=0.5)
    arguments = dict(reward_fn=sevens, pretraining=web, progress=False)
    whole, again, broken, resumed = a_team(), a_team(), a_team(), a_team()
    expected = ppo.train_ppo(*whole, PROMPTS, settings_, **arguments)
    ppo.train_ppo(*again, PROMPTS, settings_, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), again[0].parameters()))

    def stop(policy, iteration):
        if iteration == 4:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        ppo.train_ppo(*broken, PROMPTS, settings_, **arguments, evaluate=stop, evaluate_every=1, folder=tmp_path)
    torch.rand(3)
    reference = a_team()[1]
    run = ppo.train_ppo(resumed[0], reference, resumed[2], PROMPTS, settings_, **arguments, folder=tmp_path)
    for one, other in ((whole[0], resumed[0]), (whole[2], resumed[2]), (expected.ema, run.ema)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for one, other in zip(expected.history, run.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    with pytest.raises(ValueError, match=r"other settings \(critic, policy, reference\)"):
        ppo.train_ppo(*a_team(seed=8), PROMPTS, settings_, **arguments, folder=tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(pretraining\)"):
        ppo.train_ppo(*a_team(), PROMPTS, settings_, **{**arguments, "pretraining": web[::-1]}, folder=tmp_path)
    with pytest.raises(ValueError, match="holds 5 iterations; ask for that many at least"):
        ppo.train_ppo(*a_team(), PROMPTS, replace(settings_, iterations=4), **arguments, folder=tmp_path)


def test_gradients_of_a_run_that_broke_off_are_forgotten():
    def trained(soiled):
        team = a_team()
        for parameter in itertools.chain(*(model.parameters() for model in team)):
            parameter.grad = torch.ones_like(parameter) if soiled else None
        ppo.train_ppo(*team, PROMPTS, config(iterations=1), reward_fn=sevens, progress=False)
        return [*team[0].parameters(), *team[2].parameters()]

    assert all(torch.equal(a, b) for a, b in zip(trained(False), trained(True), strict=True))


def test_a_reward_model_and_an_evaluation_can_be_given():
    policy, reference, reward_model = a_team()
    run = ppo.train_ppo(policy, reference, models.copy_model(reward_model), PROMPTS, config(missing_end_penalty=1.0),
                        reward_model=reward_model, evaluate=lambda policy, i: {"seen": i}, evaluate_every=2,
                        progress=False)
    assert [entry.get("seen") for entry in run.history] == [None, 2, None]
    first = run.history[0]
    assert first["objective"] == pytest.approx(first["score"] - (1 - first["finished"]), abs=1e-5)  # P14: once


def test_divergence_stops_with_the_likely_cause():
    def run(reward_fn=sevens, spoil=None, **changes):
        policy, reference, critic = a_team()
        if spoil:
            spoil(policy)
        ppo.train_ppo(policy, reference, critic, PROMPTS, config(**changes), reward_fn=reward_fn, progress=False)

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

    with pytest.raises(RuntimeError, match="not numbers"):
        run(spoil=break_sampler)


def test_negative_kl_is_noticed():
    """P20."""
    with pytest.warns(UserWarning, match="cannot be negative"):
        ppo_guards.guard_kl(-2.0, torch.full((50,), -2.0) + 0.1 * torch.randn(50), 0, config())


def test_mistaken_arguments():
    policy, reference, critic = a_team()
    cases = ((dict(), "exactly one"), (dict(reward_fn=sevens, config=config(ptx_coef=1.0)), "no pretraining rows"),
             (dict(reward_fn=sevens, reference=models.copy_model(policy)), "trainable=False"),
             (dict(reward_fn=sevens, prompts=[]), "no prompts"),
             (dict(reward_model=critic), "nothing to train, or would move"),
             (dict(reward_fn=sevens, critic=models.ScalarModel(policy.base_model)), "they share weights"),
             (dict(reward_fn=sevens, critic=models.copy_model(critic, trainable=False)), "nothing to train"),
             *((dict(reward_fn=sevens, config=config(**{name: value})), f"{name} is {value}; set it to 1 or more")
               for name, value in (("micro_batch", -1), ("minibatch", 0), ("inner_epochs", 0), ("save_every", 0),
                                   ("iterations", 0))))
    for changes, match in cases:
        arguments = {**dict(policy=policy, reference=reference, critic=critic, prompts=PROMPTS, config=config(),
                            progress=False), **changes}
        with pytest.raises(ValueError, match=match):
            ppo.train_ppo(**arguments)
    with pytest.raises(ValueError, match="share weights"):
        policy.requires_grad_(False)
        ppo.train_ppo(policy, policy, critic, PROMPTS, config(), reward_fn=sevens)


def test_bf16_runs():
    policy, reference, critic = a_team()
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, config(bf16=True, iterations=2),
                        reward_model=models.copy_model(critic), progress=False)
    assert math.isfinite(run.history[-1]["score"]) and abs(run.history[0]["kl"]) < 1e-6
