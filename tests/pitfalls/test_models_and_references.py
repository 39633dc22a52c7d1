"""P21-P31: how tokens are drawn and scored, the frozen reference, the heads of reward model and critic."""

import json

import pytest
import torch
from pieces import collect, ppo_gradients
from safetensors.torch import load_file, save_file
from tiny import (
    KINDS,
    PROMPTS,
    VOCAB,
    a_config,
    a_policy,
    a_reward_model,
    a_team,
    add_to_logit,
    generator,
    low_tokens,
    plain_log_probs,
)
from torch.nn.utils import parametrize

from rlhf_lite import checkpoints, models, ppo, ppo_math, reward, sampling, sft
from rlhf_lite.experiment import data, stages
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.models import BEGIN, END

both_kinds = pytest.mark.parametrize("kind", KINDS)
ROWS = torch.tensor([[BEGIN, 5, 6, 7, END], [BEGIN, 9, 8, 7, 6]])


def train(team, reward_fn=low_tokens, **changes):
    return ppo.train_ppo(*team, PROMPTS, a_config(**changes), reward_fn=reward_fn, progress=False)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(before, model):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def all_logits(model):
    with torch.no_grad():
        return models.logits(model, ROWS, torch.ones_like(ROWS))


def storages(model):
    return {parameter.data_ptr() for parameter in model.parameters()}


def add_own_dropout(model):
    """Dropout inside the model, active in training mode: GPT-2 has some by default, Llama gets it here."""
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    return model.train()


# ---------------------------------------------------------------- sampling and log-probabilities

@both_kinds
def test_p21_rollouts_are_sampled_not_greedy(kind):
    """A rollout that takes the likeliest token explores nothing, and PPO has no signal. Right: other seeds give
    other responses, and the frequency of each token is its probability (chi-squared). Source: DeepSpeed-Chat,
    do_sample=False for Llama."""
    policy, reference, critic = a_team(kind, scale=3.0)
    start, n = [BEGIN, 5], 4000
    for temperature in (1.0, 0.6):
        drawn = sampling.sample(policy, [start] * n, 1, temperature, generator=generator()).responses[:, 0]
        expected = n * plain_log_probs(policy, start, temperature)[-1].double().exp()
        often = expected > 5
        counts = torch.bincount(drawn, minlength=VOCAB).double()
        chi2 = ((counts - expected)[often] ** 2 / expected[often]).sum().item()
        assert often.sum() > 20 and chi2 < 110  # at most 63 degrees of freedom: once in ten thousand
    one, again, other = (sampling.sample(policy, PROMPTS, 9, generator=generator(seed)).response_ids()
                         for seed in (0, 0, 1))
    assert one == again and sum(a != b for a, b in zip(one, other, strict=True)) > len(PROMPTS) // 2
    # PPO's own rollouts: many answers to one prompt, and others in the next iteration and under another seed
    batches = [collect(policy, reference, critic, [start], a_config(seed=seed), low_tokens, iteration)[0]
               for seed, iteration in ((0, 0), (0, 1), (1, 0))]
    rows = [set(map(tuple, batch.rollout.response_ids())) for batch in batches]
    assert len(rows[0]) > 12 and rows[0] != rows[1] and rows[0] != rows[2]


@both_kinds
def test_p22_no_dropout_in_any_model_during_rl(kind):
    """Dropout makes the update pass another policy than the one that sampled: first ratios far from 1, all clipped.
    Right: none in policy, reference, reward model and critic, whatever mode they come in; the same log-probability
    twice. Sources: trl #744, #3234, #3500."""
    policy, reference, critic = (add_own_dropout(model) for model in a_team(kind, scale=3.0))
    judge = add_own_dropout(a_reward_model(kind, scale=3.0))
    assert not torch.equal(all_logits(policy), all_logits(policy))  # the danger is there
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(iterations=2, minibatch=16), reward_fn=judge,
                        progress=False)
    assert run.history[0]["kl"] == 0.0
    for entry in run.history:  # one step an iteration, so all its ratios are first ratios
        assert abs(entry["max_ratio"] - 1) < 1e-5 and entry["clipfrac"] == 0 and abs(entry["approx_kl"]) < 1e-9
    rollout = sampling.sample(policy, PROMPTS, 6, generator=generator())
    for model in (policy, reference):
        assert torch.equal(*(ppo.rollout_log_probs(model, rollout) for _ in range(2)))
    assert torch.equal(*(ppo.rollout_values(critic, rollout) for _ in range(2)))
    expected = ppo.score_rollout(judge, rollout)
    assert torch.equal(ppo.score_rollout(judge.train(), rollout), expected) and judge.training


@both_kinds
def test_p22_sft_dropout_ends_with_sft(kind):
    """Residual dropout of the SFT stage that stays in the model reaches PPO. Right: it acts in the SFT steps and in
    no pass after them. Sources: InstructGPT, appendix C.1; trl #744."""
    examples = [sft.build_example([BEGIN, 5 + i], [7, 8, END]) for i in range(8)]
    losses = []
    for dropout in (0.0, 0.2):
        policy = a_policy(kind, scale=3.0, **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0))
        losses.append(sft.train_sft(policy, examples, sft.SFTConfig(epochs=1, dropout=dropout), progress=False))
        assert not policy.training and torch.equal(all_logits(policy), all_logits(policy.train()))
    assert abs(losses[0][0]["train_loss"] - losses[1][0]["train_loss"]) > 1e-3


@both_kinds
def test_p23_bf16_ends_at_the_logits(kind):
    """Log-probabilities in bfloat16 are off by hundredths of a nat, enough to null PPO's clipped tokens. Right:
    log-softmax, ratios, KL, values and whitening in float32, old log-probabilities from the training forward.
    Sources: transformers #31267, OpenRLHF #634."""
    policy, reference, critic = a_team(kind, scale=3.0)
    settings = a_config(bf16=True, micro_batch=5)
    batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    rollout, mask = batch.rollout, batch.rollout.response_mask
    width = mask.shape[1]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        raw = models.logits(policy, rollout.sequences, rollout.attention_mask, keep=width + 1)[:, :-1]
        got, entropy = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask,
                                                rollout.prompt_length, entropy=True)
        values = critic(rollout.sequences, rollout.attention_mask)
    assert raw.dtype == torch.bfloat16  # else there were nothing to test
    exact = raw.double().log_softmax(-1)
    tokens = rollout.responses[..., None]
    assert got.dtype == torch.float32 and (got - exact.gather(2, tokens).squeeze(2)).abs()[mask].max() < 1e-5
    assert (entropy + (exact.exp() * exact).sum(-1)).abs()[mask].max() < 1e-5
    half = raw.log_softmax(-1).to(torch.bfloat16).gather(2, tokens).squeeze(2)
    assert (got - half).abs()[mask].max() > 1e-3  # what the bound above is far below of
    assert values.dtype == torch.float32 and (values != values.bfloat16().float()).any()
    for tensor in (batch.log_probs, batch.values, batch.advantages, batch.returns):
        assert tensor.dtype == torch.float32
    white = ppo_math.masked_whiten(ppo_math.gae(torch.randn(mask.shape), batch.values, mask)[0], mask)[mask]
    assert abs(white.mean()) < 1e-6 and abs(white.std(correction=0) - 1) < 1e-5
    statistics = ppo_gradients(policy, critic, batch, range(16), settings)
    assert abs(statistics["max_ratio"] - 1) < 1e-5 and entry["kl"] == 0.0


def test_p24_training_reads_the_sampled_ids(monkeypatch):
    """Responses that are decoded and tokenised again are other tokens than the policy chose. Right: old
    log-probabilities, reward model and rankings see the ids as sampled; text is for display. Sources: SkyRL #123,
    rllm #816, ms-swift #10012."""
    tokenizer = models.train_tokenizer(["the cat sat on the mat " * 20], vocab_size=270)
    policy = models.new_policy("tiny", 0, vocab_size=270)
    critic = models.scalar_from_policy(policy, 0)
    prompts = [models.encode_prompt(tokenizer, text) for text in ("the cat", "sat on the mat")]
    judged = []
    monkeypatch.setattr(reward, "score", lambda model, rows: judged.extend(rows) or torch.zeros(len(rows)))
    batch, _ = collect(policy, models.copy_model(policy, trainable=False), critic, prompts, a_config(),
                       lambda rollout: ppo.score_rollout(critic, rollout))
    questions, answers = batch.rollout.prompt_ids(), batch.rollout.response_ids()
    texts = [models.decode_response(tokenizer, answer) for answer in answers]
    again = [models.encode_text(tokenizer, text) + [END] * (answer[-1] == END)
             for text, answer in zip(texts, answers, strict=True)]
    assert sum(one != other for one, other in zip(answers, again, strict=True)) > 8  # the danger is there
    assert judged == [question + answer for question, answer in zip(questions, answers, strict=True)]
    for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        scored = plain_log_probs(policy, question + answer)[len(question) - 1:-1]
        expected = scored.gather(1, torch.tensor(answer)[:, None]).squeeze(1)
        assert torch.allclose(batch.log_probs[row, :len(answer)], expected, atol=1e-4)
    record = {"prompt": "the cat", "ranks": list(range(len(answers))),
              "responses": [{"text": text, "token_ids": answer} for text, answer in zip(texts, answers, strict=True)]}
    (ranking,) = data.ranked_prompts(tokenizer, [record])
    assert ranking.prompt_ids == prompts[0] and ranking.responses == answers


def test_p25_kl_is_a_number_inside_the_reward():
    """k1 as a loss has no force: its expected gradient is 0. Right: k1 sits in the reward, no gradient flows through
    it, and the expected policy gradient is then the gradient of the exact KL. Sources: verl kl_penalty, verl #2953."""
    torch.manual_seed(0)
    scores, kl_coef = torch.randn(7, dtype=torch.float64, requires_grad=True), 0.3
    log_q = torch.randn(7, dtype=torch.float64).log_softmax(0)
    log_p = scores.log_softmax(0)
    p = log_p.detach().exp()
    exact = (log_p.exp() * (log_p - log_q)).sum()

    def gradient(value):
        return torch.autograd.grad(value, scores, retain_graph=True)[0]

    truth = gradient(exact)
    k1, k2, k3 = (f(log_p, log_q) for f in (ppo_math.kl_k1, ppo_math.kl_k2, ppo_math.kl_k3))
    assert (p @ k1).item() == pytest.approx(exact.item()) == (p @ k3).item()
    assert abs((p @ k2).item() - exact.item()) > 1e-3
    assert gradient(p @ k1).abs().max() < 1e-12 and torch.allclose(gradient(p @ k2), truth)
    assert not torch.allclose(gradient(p @ k3), truth, rtol=0.05)
    # Every one-token response once, weighted with its probability: an expectation without sampling.
    column, mask = log_p[:, None], torch.ones(7, 1, dtype=torch.bool)
    rewards = ppo_math.shaped_rewards(torch.zeros(7), column, log_q[:, None], mask, kl_coef)
    advantages, returns = ppo_math.gae(rewards, torch.zeros(7, 1, dtype=torch.float64, requires_grad=True), mask)
    assert not (rewards.requires_grad or advantages.requires_grad or returns.requires_grad)
    loss, _ = ppo_math.policy_loss(column, column.detach(), 7 * p[:, None] * advantages, mask)
    assert truth.abs().max() > 0.05 and torch.allclose(gradient(loss), kl_coef * truth, atol=1e-9)


@both_kinds
def test_p26_the_logged_kl_is_not_clamped(kind):
    """A clamp on each token's KL hides how far the policy has run. Right: the logged KL, the one in the reward and
    the ratio's statistics are the plain ones. Source: OpenRLHF, test_policy_kl_metric_is_not_clamped."""
    policy, reference, critic = a_team(kind)
    add_to_logit(policy, 7, 40.0)
    batch, entry = collect(policy, reference, critic, PROMPTS, a_config(max_kl=1e9, lam=1.0),
                           lambda rollout: torch.zeros(len(rollout.sequences)), kl_coef=0.5)
    per_row = []
    for prompt, response in zip(batch.rollout.prompt_ids(), batch.rollout.response_ids(), strict=True):
        at = slice(len(prompt) - 1, -1)
        apart = plain_log_probs(policy, prompt + response)[at] - plain_log_probs(reference, prompt + response)[at]
        per_row.append(apart.gather(1, torch.tensor(response)[:, None]).sum().item())
    assert min(per_row) > 0 and entry["kl"] == pytest.approx(sum(per_row) / len(per_row), rel=1e-4)
    assert batch.returns[:, 0].tolist() == pytest.approx([-0.5 * kl for kl in per_row], rel=1e-3)
    far = torch.tensor([[30.0]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert ppo_math.kl_k1(far, -far).item() == 60
    _, statistics = ppo_math.policy_loss(far / 5, torch.zeros(1, 1), torch.ones(1, 1), mask)
    e6 = torch.tensor(6.0, dtype=torch.float64).exp().item()
    assert statistics["max_ratio"] == pytest.approx(e6) and statistics["approx_kl"] == pytest.approx(e6 - 7)


# ---------------------------------------------------------------- the reference

@both_kinds
def test_p27_the_reference_never_moves(kind, monkeypatch):
    """A reference that trains along makes the KL penalty vanish. Right: bit-identical after training, frozen, known
    to no optimizer; what could move is refused. Source: trl, test_independent_reference."""
    policy, reference, critic = team = a_team(kind)
    before, fixed, start = weights(reference), all_logits(reference), weights(policy)
    optimised = set()

    class AdamW(torch.optim.AdamW):
        def __init__(self, groups, **options):
            optimised.update(parameter.data_ptr() for group in groups for parameter in group["params"])
            super().__init__(groups, **options)

    monkeypatch.setattr(torch.optim, "AdamW", AdamW)
    run = train(team, lr=1e-2, ptx_coef=0.0)
    assert not same(start, policy) and not same(start, run.ema)  # there was something to follow
    assert same(before, reference) and torch.equal(all_logits(reference), fixed)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in reference.parameters())
    assert storages(policy) <= optimised and not storages(reference) & optimised
    assert not storages(run.ema) & (storages(reference) | storages(policy))
    assert run.history[0]["kl"] == 0.0 and run.history[-1]["kl"] != 0.0
    for wrong in (models.copy_model(policy), policy):
        with pytest.raises(ValueError, match="would move with the policy"):
            train((policy, wrong, critic))


@both_kinds
def test_p28_a_frozen_trunk_stays_what_the_full_reference_is(kind):
    """A trunk that reference and policy share drifts through a tied head or GPT-2's position table, which freeze
    lists forget. Right: after training the frozen part still equals a full separate reference's, bit by bit; models
    made from one another share no storage. Sources: trlX #517, trlX freeze_bottom_causal_layers."""
    policy, reference, critic = team = a_team(kind)
    for one, other in ((policy, reference), (policy, critic), (reference, critic)):
        assert not storages(one) & storages(other)
    for model in (policy, reference):  # tied before and after copying
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    bottom = [policy.base_model.get_input_embeddings()]
    bottom += [policy.transformer.wpe, policy.transformer.h[0]] if kind == "gpt2" else [policy.model.layers[0]]
    for module in bottom:
        module.requires_grad_(False)
    before, fixed, critic_before = weights(policy), all_logits(reference), weights(critic)
    # 30 steps of Adam, 20 of them at 1e-3
    run = train(team, batch_size=8, inner_epochs=10, warmup_iterations=0)
    trunks = [model.base_model(ROWS, output_hidden_states=True).hidden_states for model in (policy, reference)]
    for depth in (0, 1):
        assert torch.equal(trunks[0][depth], trunks[1][depth])
    assert torch.equal(policy.lm_head.weight, reference.lm_head.weight)
    assert torch.equal(all_logits(reference), fixed) and not torch.allclose(all_logits(policy), fixed, atol=1e-3)
    for module in bottom:
        assert all(parameter.grad is None for parameter in module.parameters())
    assert not same(before, policy) and not same(critic_before, critic) and not same(before, run.ema)


class LowRank(torch.nn.Module):
    """A LoRA adapter as a parametrization: weight + A B."""

    def __init__(self, rows, columns):
        super().__init__()
        self.a, self.b = (torch.nn.Parameter(torch.randn(*shape) * 0.3) for shape in ((rows, 2), (2, columns)))

    def forward(self, weight):
        return weight.detach() + self.a @ self.b  # the base is frozen


@both_kinds
def test_p29_the_reference_keeps_the_adapters_of_sft(kind):
    """With LoRA, switching adapters off gives the base model, not the SFT model PPO starts from. Right: the reference
    has them (or they were merged), so the KL before the first step is 0, and training the adapters leaves base and
    reference alone. Sources: trl #495, #1340, #3194."""
    base = a_policy(kind)
    policy = models.copy_model(base).requires_grad_(False)
    torch.manual_seed(0)
    last = policy.transformer.h[1].mlp.c_fc if kind == "gpt2" else policy.model.layers[1].mlp.up_proj
    parametrize.register_parametrization(last, "weight", LowRank(*last.weight.shape))
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_(name.endswith((".a", ".b")))
    reference, critic = models.copy_model(policy, trainable=False), models.scalar_from_policy(base, 0)
    assert not torch.allclose(all_logits(base), all_logits(policy), atol=1e-2)
    assert torch.equal(all_logits(reference), all_logits(policy)) and not storages(reference) & storages(policy)
    before, base_before, start = weights(reference), weights(base), weights(policy)
    run = train((policy, reference, critic), lr=1e-2, warmup_iterations=0)
    assert run.history[0]["kl"] == 0.0 and run.history[-1]["kl"] != 0.0
    assert same(before, reference) and same(base_before, base)
    moved = {name for name, tensor in policy.state_dict().items() if not torch.equal(tensor, start[name])}
    assert {name.rsplit(".")[-1] for name in moved} == {"a", "b"}


# ---------------------------------------------------------------- the heads

@both_kinds
def test_p30_the_critic_starts_as_the_reward_model(kind, monkeypatch):
    """A critic from the base, or one whose head was made anew unnoticed, gives PPO advantages of noise. Right: before
    training its value at the last token is the reward model's score, bias and normalisation included.
    Sources: trlX #345, #203, verl's AutoModelForTokenClassification critic."""
    sft_model, judge = a_policy(kind, seed=1, scale=3.0), a_reward_model(kind, scale=3.0)
    rows = [[BEGIN, 5 + i, 6, 7 + i, END] for i in range(9)]
    reward.normalise(judge, rows[:4], rows)
    given = {}

    def catch(policy, reference, critic, prompts, config, reward_fn, **options):
        given.update(policy=policy, reference=reference, critic=critic, judge=reward_fn)

    monkeypatch.setattr(stages, "train_ppo", catch)
    monkeypatch.setattr(data, "prompts_of", lambda split: [])
    stages.run_ppo(sft_model, None, judge, default_recipe(), progress=False)
    critic = given["critic"]
    assert given["judge"] is judge and not storages(critic) & storages(judge) and same(weights(judge), critic)
    assert all(parameter.requires_grad for parameter in critic.parameters()) and not critic.training
    assert same(weights(sft_model), given["policy"]) and same(weights(sft_model), given["reference"])
    rollout = sampling.sample(sft_model, PROMPTS, 6, generator=generator())
    assert rollout.finished.any() and not rollout.finished.all()  # END or the last token: the rule is the same
    values = critic(rollout.sequences, rollout.attention_mask)
    scores = ppo.score_rollout(judge, rollout)
    assert scores.std() > 0.1
    assert torch.allclose(models.score_at_last(values, rollout.attention_mask), scores, atol=1e-5)
    judged = weights(judge)
    ppo.train_ppo(given["policy"], given["reference"], critic, PROMPTS, a_config(), reward_fn=judge, progress=False)
    assert same(judged, judge) and not same(judged, critic)  # the critic learns, the judge does not


@both_kinds
def test_p31_a_head_comes_back_or_loading_fails(tmp_path, kind):
    """A reloaded reward model with a fresh or bias-less head scores noise and nothing complains. Right: the same
    scores to 1e-6 after saving and loading; missing, renamed and unexpected tensors raise. Sources: trl #1783,
    LlamaFactory #9369, OpenRLHF #209, DeepSpeed-Chat #983."""
    judge = a_reward_model(kind, bias=0.7, scale=3.0)
    rows = [[BEGIN, 5 + i, 6, END] for i in range(6)]
    checkpoints.save_checkpoint(tmp_path / "judge", judge, {})
    expected = reward.score(judge, rows)
    assert expected.std() > 0.1
    assert torch.allclose(reward.score(checkpoints.load_scalar(tmp_path / "judge"), rows), expected, rtol=0, atol=1e-6)
    path = tmp_path / "judge" / "model.safetensors"
    good = load_file(path)
    card = json.loads((tmp_path / "judge" / "card.json").read_text())
    without_bias = {name: tensor for name, tensor in good.items() if name != "score.bias"}
    renamed = {name.replace("score.", "classifier."): tensor for name, tensor in good.items()}
    for tensors, name in ((without_bias, "score.bias"), (renamed, "score.weight"), (renamed, "classifier.bias"),
                          ({**good, "dropout": torch.ones(1)}, "dropout"),
                          ({**good, "score.weight": torch.ones(2, 32)}, "score.weight")):
        save_file(tensors, path)
        (tmp_path / "judge" / "card.json").write_text(json.dumps({**card, "sha256": checkpoints.sha256(path)}))
        with pytest.raises(ValueError, match=f"does not match.*{name}"):
            checkpoints.load_scalar(tmp_path / "judge")
