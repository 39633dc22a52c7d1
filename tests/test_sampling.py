"""Sampling draws from the whole distribution, masks are counted, padding changes nothing."""

import pytest
import torch
from tiny import a_policy, generator

from rlhf_lite import models, sampling
from rlhf_lite.models import BEGIN, END, PAD

PROMPTS = [[BEGIN, 5, 6, 7, 8], [BEGIN, 9], [BEGIN, END, 11, 12]]


def test_padding():
    ids, mask = sampling.pad_left([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [PAD, 7]] and mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = sampling.pad_right([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [7, PAD]] and mask.tolist() == [[1, 1], [1, 0]]
    for rows in ([], [[]]):
        with pytest.raises(ValueError, match="nothing to pad"):
            sampling.pad_left(rows)


def test_length_batches_hold_every_row_once():
    lengths = [(7 * i) % 50 for i in range(500)]
    for seed in (None, 3):
        batches = sampling.length_batches(lengths, 8, seed)
        assert sorted(row for batch in batches for row in batch) == list(range(500))
    spread = [max(lengths[r] for r in b) - min(lengths[r] for r in b) for b in sampling.length_batches(lengths, 8, 3)]
    assert sum(spread) / len(spread) < 10
    first, again, second = (sampling.length_batches(lengths, 8, 3, epoch) for epoch in (0, 0, 1))
    first, again, second = ([rows.tolist() for rows in batches] for batches in (first, again, second))
    assert first == again != second


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rollout_masks_and_log_probs(kind):
    """P2, P3, P8, P10, P15: the cached sampler and one padded forward agree with single unpadded rows."""
    policy = a_policy(kind, scale=3.0)
    rollout = sampling.sample(policy, PROMPTS * 20, 9, generator=generator())
    width = rollout.responses.shape[1]
    assert rollout.prompt_length == 5 and rollout.sequences.shape == (60, 5 + width)
    assert rollout.prompt_ids() == PROMPTS * 20
    assert torch.equal(rollout.attention_mask[:, 5:].bool(), rollout.response_mask)
    assert rollout.finished.any() and not rollout.finished.all()
    log_probs, entropy = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, 5, 0.7, True)
    assert log_probs.dtype == torch.float32 and log_probs.shape == rollout.response_mask.shape
    for row, (prompt, response) in enumerate(zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)):
        assert END not in response[:-1] and (response[-1] == END) == rollout.finished[row]
        assert rollout.finished[row] or len(response) == 9
        assert len(response) == rollout.lengths[row] and (rollout.responses[row, len(response):] == PAD).all()
        plain = (policy(torch.tensor([prompt + response])).logits[0] / 0.7).log_softmax(-1)
        for t, token in enumerate(response):
            at = plain[len(prompt) + t - 1]
            assert log_probs[row, t].item() == pytest.approx(at[token].item(), abs=2e-4)
            assert entropy[row, t].item() == pytest.approx(-(at.exp() * at).sum().item(), abs=2e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_cache_gives_what_full_forwards_give(kind):
    policy = a_policy(kind, scale=3.0)
    rollout = sampling.sample(policy, PROMPTS, 40, greedy=True)  # longer than the cache's room
    for prompt, response in zip(PROMPTS, rollout.response_ids(), strict=True):
        ids = list(prompt)
        for token in response:
            logits = policy(torch.tensor([ids])).logits[0, -1]
            assert logits[token] >= logits.max() - 1e-3
            ids.append(token)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_softmax_over_the_whole_vocabulary(temperature):
    """P18, P21: a chi-squared test on 20,000 first tokens; no token is cut off."""
    policy = a_policy(scale=1.5)
    rollout = sampling.sample(policy, [[BEGIN, 5]] * 20_000, 1, temperature, generator=generator())
    with torch.no_grad():
        expected = (policy(torch.tensor([[BEGIN, 5]])).logits[0, -1].double() / temperature).softmax(-1) * 20_000
    counts = torch.bincount(rollout.responses[:, 0], minlength=64).double()
    assert (counts > 0).sum() >= (expected > 5).sum()
    chi2 = ((counts - expected) ** 2 / expected)[expected > 5].sum().item()
    assert chi2 < 110  # 63 degrees of freedom: above 110 once in ten thousand


def test_seeds():
    policy = a_policy(scale=3.0)
    one, same, other = (sampling.sample(policy, PROMPTS, 9, generator=generator(s)).sequences for s in (0, 0, 1))
    assert torch.equal(one, same) and not (one.shape == other.shape and torch.equal(one, other))
    policy.train()
    sampling.sample(policy, PROMPTS, 2)
    assert policy.training  # the mode comes back


def test_end_as_first_and_as_last_allowed_token():
    """P8, P14: an END-only response has one action; END at the limit is finished."""
    policy = a_policy(scale=3.0)
    policy.lm_head.weight = torch.nn.Parameter(torch.zeros_like(policy.lm_head.weight))  # uniform over 64
    rollout = sampling.sample(policy, [[BEGIN]] * 2000, 2, generator=generator())
    first = rollout.responses[:, 0] == END
    last = (rollout.lengths == 2) & (rollout.responses[:, -1] == END)
    assert first.any() and last.any()
    assert rollout.finished[first].all() and (rollout.lengths[first] == 1).all() and rollout.finished[last].all()
    assert torch.equal(rollout.finished, first | last)
    assert (rollout.responses[:, 0] == PAD).any()  # PAD can be sampled like any other token ...
    assert rollout.response_mask[:, 0].all()  # ... and counts


def test_take_keeps_rows_and_drops_only_padding():
    policy = a_policy(scale=3.0)
    rollout = sampling.sample(policy, PROMPTS * 10, 9, generator=generator())
    whole = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    rows = torch.tensor([1, 4, 7])  # the short prompts
    part = sampling.take(rollout, rows)
    assert part.prompt_length == 2 and part.prompt_ids() == [PROMPTS[1]] * 3
    assert part.response_ids() == [rollout.response_ids()[row] for row in rows]
    log_probs = sampling.token_log_probs(policy, part.sequences, part.attention_mask, part.prompt_length)
    expected = whole[rows][:, :log_probs.shape[1]]
    assert torch.allclose(log_probs[part.response_mask], expected[part.response_mask], atol=1e-4)


def test_sample_many_keeps_the_order():
    policy = a_policy(scale=3.0)
    prompts = [[BEGIN] + [3 + i % 50] * (1 + i % 7) for i in range(40)]
    answers = sampling.sample_many(policy, prompts, 6, greedy=True, batch_size=16, progress=False)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer == sampling.sample(policy, [prompt], 6, greedy=True).response_ids()[0]
    drawn = [sampling.sample_many(policy, prompts, 6, seed=seed, progress=False) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_errors():
    policy = a_policy(scale=3.0)
    with pytest.raises(ValueError, match="temperature"):
        sampling.sample(policy, PROMPTS, 3, temperature=0)
    with pytest.raises(ValueError, match="at least 1 token"):
        sampling.sample(policy, PROMPTS, 0)
    with pytest.raises(ValueError, match="context of 320"):
        sampling.sample(policy, PROMPTS, 318)


def test_rollout_tensors_can_be_trained_on():
    policy = a_policy(scale=3.0)
    rollout = sampling.sample(policy, PROMPTS, 4)
    sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length).sum().backward()
    assert policy.lm_head.weight.grad.abs().sum() > 0


def test_models_with_other_layers_use_their_own_cache():
    policy = a_policy(scale=3.0)
    expected = sampling.sample(policy, PROMPTS, 9, greedy=True).response_ids()
    policy.config.layer_types = ["full_attention", "sliding_attention"]
    assert sampling._new_cache(policy) is None
    policy.config.layer_types = None
    policy.config.sliding_window = 200
    assert sampling._new_cache(policy) is None
    assert sampling.sample(policy, PROMPTS, 9, greedy=True).response_ids() == expected


def test_a_model_from_elsewhere_stops_at_its_own_end():
    policy = a_policy()
    policy.config.special_ids = [0, 1, 7]

    def only_seven(module, inputs, output):
        output.logits[..., 7] += 1e4

    policy.register_forward_hook(only_seven)
    rollout = sampling.sample(policy, [[1, 5], [1, 6, 9]], 4, generator=generator())
    assert rollout.lengths.tolist() == [1, 1] and rollout.finished.all() and models.end_token(policy) == 7
    assert models.end_token(a_policy()) == END
