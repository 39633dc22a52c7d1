"""P7-P20: padding, the end of a response, positions, what a reward model reads, what the sampler draws from."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from pieces import collect, sgd, update
from tiny import (
    KINDS,
    VOCAB,
    a_config,
    a_policy,
    a_reward_model,
    a_team,
    add_to_logit,
    constant,
    generator,
    low_tokens,
    plain_log_probs,
    rollout_of,
)

from rlhf_lite import models, ppo, reward, sampling, sft, training
from rlhf_lite.experiment import answers as answering
from rlhf_lite.experiment import data
from rlhf_lite.experiment.answers import rank_answers
from rlhf_lite.experiment.pebbleford import TOWN
from rlhf_lite.experiment.recipe import Recipe
from rlhf_lite.models import BEGIN, END, PAD
from rlhf_lite.reward import RankedPrompt, RewardConfig
from rlhf_lite.sft import IGNORE

PROMPTS = [[BEGIN, 5, 6, 7, 8], [BEGIN, 9], [BEGIN, END, 11, END]]  # of several lengths, END inside of one
CHAT = [BEGIN, 5, END, 6]  # a prompt with an END of its own, as chat templates make them


def attended(ids, mask):
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]


def watch(model):
    """A list that fills with the ids and masks a ScalarModel is called with."""
    seen = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    return seen


def never(policy, token):
    add_to_logit(policy, token, -1e9)
    return policy


def uniform(kind):
    policy = a_policy(kind)
    policy.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCAB, 32))  # untied; every token equally likely
    return policy


def collected(monkeypatch, rollout, policy, reference, critic, reward_fn, **changes):
    """PPO's own collection on a rollout that is given instead of sampled: numbers bare, without whitening."""
    monkeypatch.setattr(ppo, "sample", lambda *arguments, **options: rollout)
    size = len(rollout.sequences)
    settings = a_config(**{"batch_size": size, "minibatch": size, "whiten_advantages": False, "lam": 1.0, **changes})
    batch, entry = collect(policy, reference, critic, [[BEGIN]] * size, settings, reward_fn, kl_coef=0.1)
    return settings, batch, entry


# ---------------------------------------------------------------- P7: the reward model and pad == end

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pad", [PAD, END])
def test_p07_the_score_is_read_at_the_last_attended_token(kind, pad, monkeypatch):
    """Symptom: a search for the first pad or END stops in the prompt, and the response is never read.
    Right: the score stands at the last position of the attention mask, whatever ids stand at padding.
    Source: transformers #35352, trl PR #6952, torchrl #3887."""
    assert len({PAD, BEGIN, END}) == 3
    monkeypatch.setattr(sampling, "PAD", pad)
    model = a_reward_model(kind, scale=3.0)
    rows = [reward.reward_input(CHAT, response) for response in ([7, END], [30, 31, 32, END], [40])]
    alone = [model(torch.tensor([row]), torch.ones(1, len(row)))[0, -1].item() for row in rows]
    assert max(alone) - min(alone) > 0.1  # responses are told apart ...
    for pad_rows in (sampling.pad_left, sampling.pad_right):
        ids, mask = pad_rows(rows)
        assert models.score_at_last(model(ids, mask), mask).tolist() == pytest.approx(alone, abs=1e-4)
    assert reward.score(model, rows).tolist() == pytest.approx(alone, abs=1e-4)  # ... and padding changes nothing


def test_p07_the_tokenizer_has_a_pad_token_of_its_own(tmp_path):
    """Symptom: a pad token that is set to END by some default hides the END of every row.
    Right: PAD, BEGIN and END are three tokens, in the tokenizer and in the model's config.
    Source: transformers #35352, trl PR #6952."""
    models.train_tokenizer(["Alice sells bread."], 259).save_pretrained(tmp_path)
    for source in (models.load_tokenizer(tmp_path), a_policy().config):
        assert [source.pad_token_id, source.bos_token_id, source.eos_token_id] == [PAD, BEGIN, END] == [0, 1, 2]


# ---------------------------------------------------------------- P8: PPO and pad == end

@pytest.mark.parametrize("kind", KINDS)
def test_p08_end_is_the_last_action(kind, monkeypatch):
    """Symptom: END is masked out of the policy loss, so the policy is never trained to stop.
    Right: END has a log-probability, a KL term and an advantage; rewarding END makes END likelier.
    Source: trl PR #5303, ppo_trainer.py."""
    policy, _, critic = a_team(kind)
    reference = models.copy_model(a_policy(kind, 1), trainable=False)
    rollout = rollout_of([[BEGIN, 5], [BEGIN, 5]], [[7, END], [7, 8]])
    settings, batch, _ = collected(monkeypatch, rollout, policy, reference, constant(critic, 0.0),
                                 lambda r: r.finished.float(), lr=1e-2)
    ours, theirs = (plain_log_probs(model, [BEGIN, 5, 7])[-1] for model in (policy, reference))
    assert batch.log_probs[0, 1].item() == pytest.approx(ours[END].item(), abs=1e-4)
    assert batch.advantages[0, 1].item() == pytest.approx(1 - 0.1 * (ours - theirs)[END].item(), abs=1e-4)
    update(policy, critic, batch, settings, sgd(0.1))
    assert plain_log_probs(policy, [BEGIN, 5, 7])[-1, END] > ours[END] + 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_p08_a_response_of_end_alone_is_one_action(kind, monkeypatch):
    """Symptom: an immediate END gives a length of -1 or 0, and the mean of nothing is not a number.
    Right: it has exactly one action, with an advantage, and all losses are finite.
    Source: trl PR #5303, ppo_trainer.py."""
    policy, reference, critic = a_team(kind)
    rollout = rollout_of(PROMPTS, [[END]] * 3)
    assert rollout.lengths.tolist() == [1, 1, 1] and rollout.response_ids() == [[END]] * 3
    settings, batch, _ = collected(monkeypatch, rollout, policy, reference, constant(critic, 0.0),
                                 lambda r: torch.tensor([1.0, 2.0, 3.0]))
    assert batch.advantages.tolist() == [[1.0], [2.0], [3.0]]
    entry = update(policy, critic, batch, settings, sgd(0.1))
    assert entry["policy_loss"] == pytest.approx(-2) and entry["value_loss"] == pytest.approx((1 + 4 + 9) / 6)
    assert torch.tensor(list(entry.values())).isfinite().all() and entry["grad_norm"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_p08_masks_are_counted_not_guessed_from_ids(kind, monkeypatch):
    """Symptom: with pad == END, a mask made by comparing ids loses every END.
    Right: rollouts and log-probabilities are the same whether padding is written as PAD or as END.
    Source: trl PR #5303, ppo_trainer.py."""
    policy, found = a_policy(kind, scale=3.0), []
    add_to_logit(policy, END, 1.5)
    for pad in (PAD, END):
        monkeypatch.setattr(sampling, "PAD", pad)
        rollout = sampling.sample(policy, PROMPTS * 8, 8, generator=generator())
        log_probs = ppo.rollout_log_probs(policy, rollout)[rollout.response_mask]
        assert (rollout.responses[~rollout.response_mask] == pad).all()
        found.append((rollout.response_ids(), rollout.prompt_ids(), rollout.finished.tolist(), log_probs.tolist()))
    assert found[0] == found[1] and 0 < sum(found[0][2]) < 24
    for response, finished in zip(found[0][0], found[0][2], strict=True):
        assert response.count(END) == finished and (response[-1] == END) == finished


# ---------------------------------------------------------------- P9: SFT and pad == end

@pytest.mark.parametrize("pad", [PAD, END])
def test_p09_end_is_a_target_and_padding_is_not(pad, monkeypatch):
    """Symptom: a collator that masks labels == pad masks END, and the model never stops.
    Right: labels are masked by the attention mask: [5, 6, 7, END, -100, -100].
    Source: transformers #23530, trl #976, #1623, #3091, #1302."""
    monkeypatch.setattr(sampling, "PAD", pad)
    ids, mask, labels = sft.collate([sft.build_example([], [5, 6, 7, END]), sft.build_example([BEGIN, END], [8] * 4)])
    assert labels.tolist() == [[5, 6, 7, 2, -100, -100], [-100, -100, 8, 8, 8, 8]]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6] and ids[0, 4:].tolist() == [pad, pad]


def test_p09_the_loss_teaches_exactly_the_response_and_its_end():
    """Symptom: answers that run on until the limit.
    Right: the gradient reaches the logits before each response token and before END, and no other.
    Source: transformers #23530, trl #3091."""
    _, _, labels = sft.collate([sft.build_example([BEGIN, 5], [6, END]), sft.build_example([BEGIN], [7, 8, 9, END])])
    logits = torch.randn(2, 5, VOCAB, generator=generator()).requires_grad_()
    loss = sft.sft_loss(logits, labels)
    loss.backward()
    assert (logits.grad.abs().sum(-1) > 0).tolist() == [[False, True, True, False, False], [True] * 4 + [False]]
    log_p = logits.detach().log_softmax(-1)
    truth = [log_p[0, 1, 6], log_p[0, 2, END], log_p[1, 0, 7], log_p[1, 1, 8], log_p[1, 2, 9], log_p[1, 3, END]]
    assert loss.item() == pytest.approx(-sum(x.item() for x in truth) / 6, rel=1e-5)
    assert logits.grad[0, 2, END] < 0 and labels[0, 4] == IGNORE  # descent raises END


# ---------------------------------------------------------------- P10, P11, P12: positions, sides, masks

@pytest.mark.parametrize("kind", KINDS)
def test_p10_left_padding_does_not_shift_positions(kind):
    """Symptom: under left padding GPT-2 counts positions from the pads, which costs up to 6.8 nats a token.
    Right: position = number of attended tokens before; a padded row scores like an unpadded one (< 1e-4).
    Source: OpenRLHF #217, trl #6800, trlx PR #509, trl #469."""
    policy, short, long = a_policy(kind, scale=3.0), [BEGIN, 5, 6], [BEGIN] + [9] * 9
    ids, mask = sampling.pad_left([short, long])
    assert models.position_ids(mask).tolist() == [[0] * 7 + [0, 1, 2], list(range(10))]
    padded = models.logits(policy, ids, mask).log_softmax(-1).detach()
    for row, prompt in enumerate((short, long)):
        assert (padded[row, -len(prompt):] - plain_log_probs(policy, prompt)).abs().max() < 1e-4
    naive = policy(input_ids=ids, attention_mask=mask, position_ids=torch.arange(10).expand(2, -1)).logits[0, -3:]
    if kind == "gpt2":  # the mistake would show on this model
        assert (naive.log_softmax(-1) - plain_log_probs(policy, short)).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_p10_the_sampler_counts_positions_in_the_same_way(kind):
    """Symptom: rollouts of short prompts come from another distribution than the one that is scored.
    Right: greedy rollouts of a left-padded batch are those of the single prompts.
    Source: OpenRLHF #217, trl #6800, trl #469."""
    policy, prompts = a_policy(kind, scale=3.0), [*PROMPTS, [BEGIN] + [9] * 12]
    together = sampling.sample(policy, prompts, 8, greedy=True).response_ids()
    for prompt, response in zip(prompts, together, strict=True):
        assert response == sampling.sample(policy, [prompt], 8, greedy=True).response_ids()[0]
        for t, token in enumerate(response):
            log_probs = plain_log_probs(policy, prompt + response[:t])[-1]
            assert log_probs[token] >= log_probs.max() - 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_p11_left_or_right_padding_gives_the_same_number(kind):
    """Symptom: a rule such as mask.sum() - 1 or "first pad" is right for one padding side only.
    Right: reward model and critic give a row the same score whichever side it is padded on.
    Source: trl #2778, minimind #541."""
    model = a_reward_model(kind, scale=3.0)
    rows = [[BEGIN, 5, 6, 7, END], [BEGIN, 9, 10], [BEGIN] + [8] * 9 + [END]]
    both = []
    for pad_rows in (sampling.pad_left, sampling.pad_right):
        ids, mask = pad_rows(rows)
        values = model(ids, mask)
        both.append((models.score_at_last(values, mask), torch.cat([row[keep.bool()] for row, keep in
                                                                   zip(values, mask, strict=True)])))
    (left, left_values), (right, right_values) = both
    assert torch.allclose(left, right, atol=1e-4) and torch.allclose(left_values, right_values, atol=1e-4)
    assert left.std() > 0.05
    rollout = rollout_of([row[:2] for row in rows], [row[2:] for row in rows])  # prompts left, responses right
    critic = model(rollout.sequences, rollout.attention_mask)
    assert torch.allclose(models.score_at_last(critic, rollout.attention_mask), left, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_p12_every_forward_gets_the_mask(kind):
    """Symptom: without a mask, left pads are read as text: up to 7.5 nats a token on a Llama.
    Right: policy, reference, critic and reward model get, at every call, a mask that hides the pads.
    Source: no thread; measured with transformers 5.23."""
    policy, reference, critic = a_team(kind, scale=3.0)
    reward_model, seen = models.copy_model(critic), {}

    def look(name):
        def hook(module, arguments, options):
            ids, mask = options["input_ids"], options.get("attention_mask")
            assert mask is not None and len(mask) == len(ids) and mask.shape[1] >= ids.shape[1], name
            seen[name] = seen.get(name, 0) + int((mask == 0).sum())
        return hook

    parts = {"policy": policy, "reference": reference, "critic": critic.trunk, "reward model": reward_model.trunk}
    for name, model in parts.items():
        model.register_forward_pre_hook(look(name), with_kwargs=True)
    ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(iterations=1, batch_size=12, minibatch=6),
                  reward_fn=reward_model, progress=False)
    sft.evaluate_sft(policy, [sft.build_example([BEGIN, 5], [6] * n) for n in (1, 4)])
    assert all(seen[name] > 0 for name in parts)


@pytest.mark.parametrize("kind", KINDS)
def test_p12_padding_is_invisible(kind):
    """Symptom: a row's log-probabilities depend on the length of its neighbours.
    Right: they are those of the unpadded row, and other ids at the pads change no bit.
    Source: no thread; measured with transformers 5.23."""
    policy, prompts, responses = a_policy(kind, scale=3.0), [[BEGIN, 5], [BEGIN] + [9] * 8], [[6, 7], [8, 9, 10, END]]
    rollout = rollout_of(prompts, responses)
    args = rollout.attention_mask, rollout.prompt_length
    log_probs = sampling.token_log_probs(policy, rollout.sequences, *args).detach()
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        truth = plain_log_probs(policy, prompt + response)[len(prompt) - 1:-1]
        truth = truth.gather(1, torch.tensor(response)[:, None])[:, 0]
        assert (log_probs[row, :len(response)] - truth).abs().max() < 1e-4
    soiled = torch.where(rollout.attention_mask.bool(), rollout.sequences, 50)
    kept = rollout.response_mask
    assert torch.equal(sampling.token_log_probs(policy, soiled, *args)[kept], log_probs[kept])
    unmasked = sampling.token_log_probs(policy, rollout.sequences, torch.ones_like(args[0]), args[1])
    assert (unmasked - log_probs)[0, :2].abs().max() > 0.01  # the mistake would show


# ---------------------------------------------------------------- P13, P14, P15: finished and cut off

def test_p13_finished_is_decided_on_the_response_alone(monkeypatch):
    """Symptom: a check that looks for eos in prompt + completion finds the prompt's.
    Right: a response that never wrote END is unfinished and punished, though its prompt ends with END.
    Source: trl #3750, #6805."""
    policy, reference, critic = a_team()
    rollout = sampling.sample(never(policy, END), [[BEGIN, 5, END]] * 8, 4, generator=generator())
    assert not rollout.finished.any() and (rollout.lengths == 4).all()
    _, batch, entry = collected(monkeypatch, rollout, policy, reference, constant(critic, 0.0),
                                lambda r: torch.zeros(8), missing_end_penalty=1.0)
    assert entry["finished"] == 0 and batch.returns[:, -1].mean() < -0.9


@pytest.mark.parametrize("kind", KINDS)
def test_p13_the_stop_token_is_end_whatever_the_config_says(kind):
    """Symptom: rows are truncated at one token, and another one is looked for to punish those without.
    Right: finished means the last sampled token is END; a config with another eos changes nothing.
    Source: trl #3750, #6805."""
    policy, found = a_policy(kind, scale=3.0), []
    add_to_logit(policy, END, 1.5)
    for eos in (END, 9):
        policy.config.eos_token_id = policy.generation_config.eos_token_id = eos
        rollout = sampling.sample(policy, PROMPTS * 12, 6, generator=generator())
        found.append((rollout.response_ids(), rollout.finished.tolist()))
    assert found[0] == found[1] and any(9 in response[:-1] for response in found[0][0])
    assert found[0][1] == [response[-1] == END for response in found[0][0]]


def test_p14_the_penalty_hits_unfinished_rows_once(monkeypatch):
    """Symptom: a truncated response keeps the score of a text that has no end, or pays for it twice.
    Right: the penalty is subtracted once, from the rows without END, and from no other.
    Source: arXiv 1909.08593, OpenRLHF length_penalty.py."""
    rollout = rollout_of([[BEGIN, 5]] * 3, [[7, 8, END], [7, 8, 9], [END]])
    returns = []
    for penalty in (0.0, 2.5):
        _, batch, entry = collected(monkeypatch, rollout, a_policy(), *a_team()[1:], lambda r: torch.ones(3),
                                  missing_end_penalty=penalty, gamma=1.0)
        returns.append(batch.returns)
    expected = torch.tensor([[0.0] * 3, [-2.5] * 3, [0.0] * 3])
    assert torch.allclose(returns[1] - returns[0], expected, atol=1e-5)
    assert entry["score"] == 1.0 and entry["objective"] == pytest.approx(1 - 2.5 / 3)


@pytest.mark.parametrize("limit", [1, 3])
def test_p14_a_response_that_stops_at_the_limit_is_finished(limit):
    """Symptom: "as long as the limit" is taken for "cut off".
    Right: a response whose last allowed token is END is finished.
    Source: arXiv 1909.08593, OpenRLHF length_penalty.py."""
    policy = a_policy()
    calls = []

    def only_end_at_the_limit(module, inputs, output):
        calls.append(1)
        output.logits[..., END] += 1e9 if len(calls) == limit else -1e9

    policy.register_forward_hook(only_end_at_the_limit)
    rollout = sampling.sample(policy, PROMPTS, limit, generator=generator())
    assert rollout.lengths.tolist() == [limit] * 3 and rollout.finished.all()
    assert (rollout.responses[:, -1] == END).all() and len(calls) == limit


@pytest.mark.parametrize("kind", KINDS)
def test_p15_nothing_is_written_that_was_not_sampled(kind, monkeypatch):
    """Symptom: an END forced onto a cut-off response is off-policy and makes the KL negative.
    Right: the action sequence is what was drawn, token by token, and the longest row gets no END either.
    Source: OpenRLHF #238, #627."""
    policy, drawn, choose = a_policy(kind, scale=3.0), [], sampling._choose
    monkeypatch.setattr(sampling, "_choose", lambda *arguments: drawn.append(choose(*arguments)) or drawn[-1])
    add_to_logit(policy, END, 1.0)
    ends = []
    for seed in range(12):
        drawn.clear()
        rollout = sampling.sample(policy, [PROMPTS[seed % 3]], 6, generator=generator(seed))
        assert rollout.response_ids()[0] == [int(token) for token in drawn]
        ends.append(bool(rollout.finished[0]))
    assert 0 < sum(ends) < 12
    rollout = sampling.sample(never(policy, END), PROMPTS, 6, generator=generator())
    assert (rollout.responses != END).all() and (rollout.lengths == 6).all() and not rollout.finished.any()
    critic = models.scalar_from_policy(policy, 0)
    seen = watch(critic)
    ppo.score_rollout(critic, rollout)  # nor does the reward model get one
    read = sorted(row for ids, mask in seen for row in attended(ids, mask))
    assert read == sorted(p + r for p, r in zip(PROMPTS, rollout.response_ids(), strict=True))


# ---------------------------------------------------------------- P16, P17: what the reward model reads

@pytest.fixture(scope="module")
def tokenizer():
    return models.train_tokenizer(["What does the baker sell?\nThe baker sells bread for 3 pence."] * 9, 300)


def test_p16_the_reward_model_reads_the_same_ids_in_training_and_in_ppo(tokenizer):
    """Symptom: a space before END, or a second BEGIN, in one of the two makes every score in PPO a guess.
    Right: training on a ranking and scoring a rollout of the same text show the model identical ids.
    Source: trl PR #5813, OpenRLHF #393, reward-bench #164, transformers #31796."""
    prompt, texts = "What does the baker sell?", ["The baker sells bread.", "Bread \n"]
    ids, answers = models.encode_prompt(tokenizer, prompt), [models.encode_response(tokenizer, t) for t in texts]
    policy = models.new_policy("tiny", 0, vocab_size=300)
    typed = {"prompt": prompt, "responses": [{"text": text} for text in texts], "ranks": [1, 2]}
    drawn = {**typed, "responses": [{"text": t, "token_ids": a} for t, a in zip(texts, answers, strict=True)]}
    shown = [{"prompt": prompt, "response": text} for text in texts]

    def train(row):
        return lambda model: reward.train_reward(model, data.ranked_prompts(tokenizer, [row]), RewardConfig(),
                                                 progress=False)

    for work in (train(typed), train(drawn),
                 lambda model: reward.score(model, data.demonstration_rows(tokenizer, shown)),
                 lambda model: ppo.score_rollout(model, rollout_of([ids, ids], answers))):
        model = models.scalar_from_policy(policy, 0)
        seen = watch(model)
        work(model)
        read = [row for call in seen for row in attended(*call)]
        assert sorted(read) == sorted(ids + answer for answer in answers)
    for row in read:
        assert row.count(BEGIN) == 1 == row.count(END) and row[0] == BEGIN and row[-1] == END
    assert tokenizer.decode(ids[1:] + answers[0][:-1]) == f"{prompt}\n{texts[0]}"  # no space, nothing stripped


def test_p17_nothing_is_cut_from_what_the_reward_model_reads(tokenizer):
    """Symptom: truncation cuts the END, or the only difference between two responses, and the pair is void.
    Right: rows are read whole: two long ones that differ in the last token get different scores.
    Source: DeepSpeed-Chat reward_model.py, TRL max_length docs."""
    assert len(models.encode_text(tokenizer, "bread " * 400)) > models.CONTEXT
    model = a_reward_model(scale=3.0)
    seen = watch(model)
    prompt, long = [BEGIN, 5], [9] * (models.CONTEXT - 3)
    rows = [reward.reward_input(prompt, long + [last]) for last in (END, 30)]
    one, other = reward.score(model, rows).tolist()
    assert sorted(attended(*seen[0])) == sorted(rows) and len(rows[0]) == models.CONTEXT
    assert abs(one - other) > 1e-2
    history = reward.train_reward(model, [RankedPrompt(prompt, [long + [END], long + [30]], [1, 2])],
                                  RewardConfig(epochs=1), progress=False)
    assert abs(history[0]["loss"] - 0.6931) > 1e-3  # ln 2 is what two equal rows would give
    assert history[0]["accuracy"] == float(one > other)


def test_p17_prompts_that_do_not_fit_are_refused():
    """Symptom: a prompt cut to fit loses its question, silently.
    Right: too long is an error that says so; exactly the context is allowed.
    Source: TRL max_length docs."""
    policy = a_policy()
    assert sampling.sample(policy, [[BEGIN] + [5] * (models.CONTEXT - 2)], 1).sequences.shape[1] == models.CONTEXT
    with pytest.raises(ValueError, match="drop long prompts rather than cut"):
        sampling.sample(policy, [[BEGIN] + [5] * (models.CONTEXT - 1)], 1)


def test_p17_chosen_and_rejected_are_never_the_same(tokenizer, monkeypatch):
    """Symptom: pairs of two equal responses have a loss of ln 2 and teach nothing.
    Right: equal samples of a prompt are ranked once; chosen ids differ from rejected ids in every pair.
    Source: DeepSpeed-Chat reward_model.py."""
    answers = [models.encode_response(tokenizer, text) for text in ("bread", "3 pence", "bread", "bread.")]
    draws = iter(answers)
    monkeypatch.setattr(answering, "sample_many", lambda *arguments, **options: [next(draws), answers[0]])
    world = TOWN._replace(grade=lambda prompt, text, finished: SimpleNamespace(score=len(text) / 100))
    judge = SimpleNamespace(name="A", judge=lambda grades, lengths, rng: (list(range(1, len(grades) + 1)), None))
    prompts = [SimpleNamespace(id=f"p{i}", text="What?", use_case="open_qa", split="train") for i in range(2)]
    rows = rank_answers(None, tokenizer, prompts, [judge], Recipe(answers_per_prompt=4), progress=False, world=world)
    assert [row["prompt_id"] for row in rows] == ["p0"]  # the other prompt has one answer only
    pairs = reward.split_into_pairs(data.ranked_prompts(tokenizer, rows))
    assert len(pairs) == 3 and all(pair.responses[0] != pair.responses[1] for pair in pairs)


# ---------------------------------------------------------------- P18, P19, P20: what is sampled is what is scored

@pytest.mark.parametrize("kind", KINDS)
def test_p18_no_warper_stands_between_the_policy_and_the_draw(kind):
    """Symptom: top_k = 50 is generate's silent default, and checkpoints bring warpers of their own.
    Right: every token of the vocabulary can be drawn, END at once and a repetition too.
    Source: trl #5783, verl #7270, NeMo-Aligner #46."""
    policy, tilt = uniform(kind), torch.linspace(-0.5, 0.5, VOCAB)  # no ties: a top-k keeps those
    add_to_logit(policy, slice(None), tilt)
    policy.generation_config.update(do_sample=True, top_k=5, top_p=0.3, repetition_penalty=3.0, min_new_tokens=2,
                                    temperature=0.1)
    rollout = sampling.sample(policy, [[BEGIN, 63]] * 3200, 2, generator=generator())
    first, second = rollout.responses.T
    expected, counts = 3200 * tilt.softmax(0), torch.bincount(first, minlength=VOCAB)
    assert len(counts) == VOCAB and counts.min() > 0
    assert ((counts - expected) ** 2 / expected).sum() < 120  # 63 degrees of freedom
    going = first != END
    repeats = 3200 * (tilt.softmax(0) ** 2).sum()
    assert abs((second == first)[going].sum() - repeats) < 5 * repeats**0.5
    assert abs((second == 63)[going].sum() - expected[63]) < 5 * expected[63]**0.5
    assert torch.equal(rollout.lengths == 1, first == END) and not going.all()


@pytest.mark.parametrize("kind", KINDS)
def test_p18_the_sampler_is_the_policy_that_learns(kind, monkeypatch):
    """Symptom: the engine that writes has weights some steps old, or cuts off the tail; ratio and KL look healthy.
    Right: in every iteration the mean surprise of the sampled tokens is the mean entropy of their distributions.
    Source: trl #5783, AReaL #1346, verl #7270."""
    seen, score, draw, old = [], ppo.rollout_log_probs, sampling.sample, []

    def watched(model, rollout, temperature, **options):
        found = score(model, rollout, temperature, **options)
        if options.get("entropy"):
            gaps = (-found[0] - found[1])[rollout.response_mask]
            seen.append(gaps.mean() / gaps.std() * len(gaps) ** 0.5)  # in standard errors
        return found

    def stale(policy, *rest, **options):
        old.append(models.copy_model(policy))
        return draw(old[0], *rest, **options)

    monkeypatch.setattr(ppo, "rollout_log_probs", watched)
    settings = a_config(batch_size=512, minibatch=64, lr=0.02, warmup_iterations=0, max_kl=1e9, max_ratio=1e9)
    ppo.train_ppo(*a_team(kind), PROMPTS, settings, low_tokens, progress=False)
    assert len(seen) == 3 and max(map(abs, seen)) < 5
    monkeypatch.setattr(ppo, "sample", stale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ppo.train_ppo(*a_team(kind), PROMPTS, settings, low_tokens, progress=False)
    assert abs(seen[3]) < 5 and abs(seen[-1]) > 10


@pytest.mark.parametrize("kind", KINDS)
def test_p18_rare_tokens_keep_their_chance(kind):
    """Symptom: nucleus sampling or a cut-off takes the tail, where learning anything new would begin.
    Right: tokens of half a percent together are drawn as often as they should.
    Source: trl #5783, verl #7270."""
    policy, tail = uniform(kind), torch.linspace(-5.8, -4.8, 32)
    add_to_logit(policy, slice(32, None), tail)
    rollout = sampling.sample(policy, [[BEGIN]] * 6000, 1, generator=generator())
    rare, weight = rollout.responses[rollout.responses >= 32], tail.exp().sum()
    expected = 6000 * weight / (32 + weight)
    assert 20 < expected < 40 and abs(len(rare) - expected) < 5 * expected**0.5
    assert len(rare.unique()) > 10 and rare.min() < 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_p19_one_temperature_for_sampling_and_scoring(kind, temperature):
    """Symptom: rollouts at T = .7 scored at T = 1 have ratios from .57 to 2.53 before any update.
    Right: T divides policy, old and reference logits; before the first step ratio and KL are 1 and 0 at any T.
    Source: trl #3029, #4159, #3169, OpenRLHF PR #853, marin #1741."""
    policy, reference, critic = a_team(kind, scale=3.0)
    settings = a_config(temperature=temperature, batch_size=12, minibatch=6, inner_epochs=1)
    batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    assert entry["kl"] == 0.0
    rollout = batch.rollout
    for row, (prompt, response) in enumerate(zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)):
        truth = plain_log_probs(policy, prompt + response, temperature)[len(prompt) - 1:-1]
        truth = truth.gather(1, torch.tensor(response)[:, None])[:, 0]
        assert (batch.log_probs[row, :len(response)] - truth).abs().max() < 1e-4
    statistics = update(policy, critic, batch, settings)
    assert abs(statistics["max_ratio"] - 1) < 1e-5 and statistics["clipfrac"] == 0
    assert abs(statistics["approx_kl"]) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_p19_the_draw_itself_uses_the_temperature(kind):
    """Symptom: the temperature of the config reaches the scores but not the sampler.
    Right: tokens are drawn with softmax(logits / T).
    Source: trl #3029, #4159."""
    policy = uniform(kind)
    add_to_logit(policy, 7, 3.0)
    for temperature in (0.5, 1.0, 2.0):
        rollout = sampling.sample(policy, [[BEGIN]] * 2000, 1, temperature, generator=generator())
        odds = torch.tensor(3.0 / temperature).exp().item()
        expected = odds / (odds + VOCAB - 1)
        assert (rollout.responses == 7).float().mean().item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_p20_an_honest_kl_is_not_below_zero_and_a_crooked_one_is_noticed(kind, monkeypatch):
    """Symptom: with END suppressed (min_length), π samples where log π < log π_ref, and r - βKL pays for it.
    Right: a token's k1 may be negative, the mean over many samples may not; below -0.1 nats there is an alarm.
    Source: trl #235, #256, PR #262, #736, #925."""
    policy, reference, critic = a_team(kind)
    crooked = never(models.copy_model(policy), END)
    add_to_logit(policy, END, 2.5)
    settings = a_config(batch_size=96)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    ref_log_probs = ppo.rollout_log_probs(reference, batch.rollout)
    assert (batch.log_probs - ref_log_probs)[batch.rollout.response_mask].min() < -0.1  # single tokens may
    assert entry["kl"] > 0.1
    monkeypatch.setattr(ppo, "sample", lambda policy, *arguments, **options:
                        sampling.sample(crooked, *arguments, **options))
    with pytest.warns(UserWarning, match="cannot be negative"):
        _, entry = collect(policy, reference, critic, PROMPTS, settings, low_tokens)
    assert entry["kl"] < -0.5 and entry["objective"] > entry["score"]  # the free reward


@pytest.mark.parametrize("kl, alarm", [(-0.11, True), (-0.09, False), (0.11, False)])
def test_p20_the_alarm_is_at_a_tenth_of_a_nat(kl, alarm):
    """Symptom: a mean KL that creeps below 0 goes unnoticed in a table of numbers.
    Right: the alarm is raised below -0.1 nats per response.
    Source: trl #235, #736, how_to_train docs."""
    loop = training.Loop("ppo", a_config(), 1, {"policy": a_policy()}, {}, None, {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.guard_kl(torch.full((64,), kl))
    assert [str(w.message)[:12] for w in caught] == ["The measured"] * alarm


def test_p20_pads_pay_no_kl(monkeypatch):
    """Symptom: unmasked pads, where π and π_ref differ by chance, are paid for or punished.
    Right: a response's KL is the sum over its own tokens, however many pad columns follow.
    Source: trl #235, PR #262."""
    policy, _, critic = a_team(scale=3.0)
    reference = models.copy_model(a_policy(seed=1, scale=3.0), trainable=False)
    prompts, responses = [[BEGIN, 5], [BEGIN, 5]], [[7, END], [8, 9, 10, 11, 12, 13]]
    _, _, entry = collected(monkeypatch, rollout_of(prompts, responses), policy, reference, critic, low_tokens)
    by_hand = 0.0
    for prompt, response in zip(prompts, responses, strict=True):
        for t, token in enumerate(response):
            ids = prompt + response[:t]
            by_hand += (plain_log_probs(policy, ids)[-1, token] - plain_log_probs(reference, ids)[-1, token]).item()
    assert entry["kl"] == pytest.approx(by_hand / 2, abs=1e-4)
