"""Packing, the schedule, and a loop that learns, repeats itself and resumes bit by bit."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from pieces import norm, optimizer_steps
from tiny import a_policy, same_weights
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lite import models, pretrain, training
from rlhf_lite.pretrain import PretrainConfig

WEB = pretrain.pack([list(range(3, 60))] * 8, 16)[:16]


def some_rows(count=24, length=32, seed=0):
    """Documents that count upwards from a random start: easy to predict once understood."""
    rng = np.random.default_rng(seed)
    documents = [[3 + (start + i) % 60 for i in range(20)] for start in rng.integers(0, 60, size=count * 2)]
    return pretrain.pack(documents, length)[:count]


def test_pack_joins_documents_between_begin_and_end():
    rows = pretrain.pack([[5, 6], [7], [8, 9, 10]], length=4)
    assert rows.tolist() == [[1, 5, 6, 2], [1, 7, 2, 1], [8, 9, 10, 2]]
    assert rows.dtype == np.uint16
    assert pretrain.pack([[5]], length=8).shape == (0, 8) and pretrain.pack([], length=8).shape == (0, 8)


def test_pack_texts_uses_the_tokenizer():
    tokenizer = models.train_tokenizer(["the town of Pebbleford"] * 4, vocab_size=280)
    row = pretrain.pack_texts(tokenizer, ["the town", "Pebbleford"], length=2).flatten().tolist()
    assert row[0] == models.BEGIN and models.END in row


def test_every_row_is_seen_once_per_pass():
    steps = [training.rows_at(step, 10, 4, seed=3) for step in range(5)]
    seen = np.concatenate(steps)
    assert sorted(seen[:10]) == list(range(10)) and sorted(seen[10:]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:])
    assert np.array_equal(steps[2], training.rows_at(2, 10, 4, seed=3))


def test_cosine_lr_warms_up_and_ends_at_its_share():
    lrs = [training.cosine_lr(step, 100, 1.0, 0.1, warmup=10) for step in range(100)]
    assert lrs[0] == pytest.approx(0.1) and lrs[9] == 1.0 and lrs[10] == 1.0
    assert lrs[-1] == pytest.approx(0.1) and all(a >= b for a, b in pairwise(lrs[10:]))
    assert training.cosine_lr(0, 1, 2.0) == 2.0


def test_lm_loss_is_the_mean_over_predicted_tokens():
    policy, rows = a_policy(), torch.tensor([[1, 5, 6, 2], [1, 7, 8, 2]])
    log_probs = policy(rows).logits.log_softmax(-1)
    by_hand = -sum(log_probs[b, t - 1, rows[b, t]] for b in range(2) for t in range(1, 4)) / 6
    assert pretrain.lm_loss(policy, rows).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert pretrain.evaluate_lm(policy, rows.numpy(), batch_size=1) == pytest.approx(by_hand.item(), rel=1e-5)
    assert pretrain.as_rows(rows.numpy().astype(np.uint16), "cpu").dtype == torch.int64


def test_vectors_do_not_decay():
    decaying, others = training.decay_groups(a_policy(), 0.1)
    assert decaying["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert all(p.ndim == 2 for p in decaying["params"]) and all(p.ndim == 1 for p in others["params"])
    assert sum(p.numel() for g in (decaying, others) for p in g["params"]) == models.parameter_count(a_policy())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_weight_has_one_optimizer_and_embeddings_are_not_muon_s(kind):
    policy = models.new_policy("tiny", 0, vocab_size=61) if kind == "llama" else GPT2LMHeadModel(
        GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2))
    optimizers = pretrain.make_optimizers(policy, PretrainConfig())
    muon, adamw = ([p for g in optimizers[name].param_groups for p in g["params"]] for name in ("muon", "adamw"))
    assert sorted(map(id, muon + adamw)) == sorted(map(id, policy.parameters()))
    assert all(p.ndim == 2 and p.shape[0] != 61 for p in muon) and len(muon) == (14 if kind == "llama" else 8)
    assert optimizers["adamw"].param_groups[0]["weight_decay"] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_training_learns_and_repeats_itself(seed):
    config = PretrainConfig(steps=60, batch_size=8, lr=1e-2, warmup=5, seed=seed)
    one, other = a_policy(seed=seed), a_policy(seed=seed)
    losses = pretrain.train(one, some_rows(seed=seed), config, progress=False)
    assert losses[-1] < 0.6 * losses[0]
    assert losses == pretrain.train(other, some_rows(seed=seed), config, progress=False)
    assert same_weights(one, other) and not one.training


def test_errors_say_what_to_do(tmp_path):
    config = PretrainConfig(steps=2, batch_size=4, warmup=1)
    with pytest.raises(ValueError, match="enough text to fill"):
        pretrain.train(a_policy(), some_rows()[:0], config)
    pretrain.train(a_policy(), some_rows(), config, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"other settings \(lr\)"):
        pretrain.train(a_policy(), some_rows(), replace(config, lr=1.0), folder=tmp_path)
    policy = a_policy()
    with torch.no_grad():
        policy.lm_head.weight[5] = float("nan")
    with pytest.raises(RuntimeError, match="learning rate"):
        pretrain.train(policy, some_rows(), config, progress=False)


def test_bf16_trains(tmp_path):
    losses = pretrain.train(a_policy(), some_rows(), PretrainConfig(steps=20, batch_size=8, lr=1e-2, warmup=2,
                                                                    bf16=True), progress=False)
    assert losses[-1] < losses[0]


def test_pretraining_steps_are_clipped_together():
    settings = pretrain.PretrainConfig(steps=3, batch_size=4, warmup=1, max_grad_norm=0.01)
    with optimizer_steps() as steps:
        pretrain.train(a_policy(), WEB, settings, progress=False)
    pairs = zip(steps[::2], steps[1::2], strict=True)
    assert [norm(one, other) for (_, one), (_, other) in pairs] == pytest.approx([0.01] * 3, rel=1e-3)
