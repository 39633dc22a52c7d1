"""The loss covers the response and its END only; training learns, repeats itself and resumes."""

import numpy as np
import pytest
import torch
from pieces import norm, optimizer_steps, sft_gradients
from tiny import a_policy

from rlhf_lite import models, pretrain, sampling, sft, training
from rlhf_lite.models import BEGIN, END, PAD
from rlhf_lite.sft import IGNORE, SFTConfig

EXAMPLES = [sft.build_example([BEGIN, 9 + i], [9 + i, 8, END]) for i in range(8)]
WEB = pretrain.pack([list(range(3, 60))] * 8, 16)[:16]


def some_examples(count=96, seed=0):
    """The response repeats the prompt's one token twice and stops."""
    rng = np.random.default_rng(seed)
    return [sft.build_example([BEGIN, *([9] * int(k)), int(t)], [int(t), int(t), END])
            for t, k in zip(rng.integers(10, 30, count), rng.integers(0, 5, count), strict=True)]


def test_labels_keep_end_and_drop_prompt_and_padding():
    """P9: END inside the prompt is not learnt, the response's END is, padding is not."""
    one, two = sft.build_example([BEGIN, END, 5], [6, END]), sft.build_example([BEGIN], [PAD, 7, END])
    assert one == ([BEGIN, END, 5, 6, END], [IGNORE] * 3 + [6, END])
    ids, mask, labels = sft.collate([one, two])
    assert labels.tolist() == [[IGNORE] * 3 + [6, END], [IGNORE, PAD, 7, END, IGNORE]]
    assert ids.tolist()[1] == [BEGIN, PAD, 7, END, PAD] and mask.tolist()[1] == [1, 1, 1, 1, 0]


def test_loss_is_the_mean_over_response_tokens():
    policy = a_policy()
    examples = [sft.build_example([BEGIN, 5, 6], [7, END]), sft.build_example([BEGIN, 8], [9, 10, 11, END])]
    by_hand = []
    for example in examples:
        log_probs = policy(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
        by_hand += [-log_probs[t - 1, label].item() for t, label in enumerate(example.labels) if label != IGNORE]
    ids, mask, labels = sft.collate(examples)
    assert sft.sft_loss(models.logits(policy, ids, mask), labels).item() == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert sft.evaluate_sft(policy, examples, batch_size=1) == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert sft.sft_loss(torch.randn(1, 3, 64), torch.full((1, 3), IGNORE)).item() == 0.0


@pytest.mark.parametrize("seed", [0, 1])
def test_training_learns_to_answer_and_to_stop(seed):
    policy, examples = a_policy(seed=seed), some_examples(seed=seed)
    config = SFTConfig(epochs=12, batch_size=8, lr=1e-2, seed=seed)
    history = sft.train_sft(policy, examples, config, valid=some_examples(16, seed + 9), progress=False)
    assert len(history) == 12 and history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]
    assert history[-1]["valid_loss"] < 0.3 * history[0]["valid_loss"]
    answers = sampling.sample_many(policy, [[BEGIN, 9, 12], [BEGIN, 20]], 8, greedy=True, progress=False)
    assert answers == [[12, 12, END], [20, 20, END]]


def test_micro_batches_change_nothing():
    """P36."""
    results = []
    for micro_batch in (None, 1, 3):
        policy = a_policy()
        sft_gradients(policy, some_examples(8), SFTConfig(micro_batch=micro_batch))
        results.append([p.grad for p in policy.parameters()])
    for other in results[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(results[0], other, strict=True))


def test_dropout_only_in_training_and_gone_afterwards():
    policy = a_policy()
    ids, mask, _ = sft.collate(some_examples(2))
    plain = models.logits(policy, ids, mask)

    def dropping():
        return [module for module in policy.modules() if module._forward_hooks]

    with sft.residual_dropout(policy, 0.5):
        assert len(dropping()) == 4 and policy.training
        assert not torch.equal(models.logits(policy, ids, mask), plain)
        policy.eval()
        assert torch.equal(models.logits(policy, ids, mask), plain)
        policy.train()
    assert not dropping() and not policy.training and torch.equal(models.logits(policy, ids, mask), plain)
    with sft.residual_dropout(policy, 0.0):
        assert not dropping() and policy.training
    with pytest.raises(ZeroDivisionError), sft.residual_dropout(policy, 0.5):
        raise ZeroDivisionError
    assert not dropping() and not policy.training
    sft.train_sft(policy, some_examples(8), SFTConfig(epochs=1, dropout=0.2), progress=False)
    assert not any(module._forward_hooks for module in policy.modules()) and not policy.training


def test_pretraining_mix_slows_forgetting():
    web = pretrain.pack([[40 + i % 7 for i in range(30)]] * 20, 32)
    losses = []
    for mix in (0.0, 0.3):
        policy = a_policy()
        pretrain.train(policy, web, pretrain.PretrainConfig(steps=40, batch_size=4, lr=1e-2, warmup=4), progress=False)
        sft.train_sft(policy, some_examples(), SFTConfig(epochs=4, batch_size=16, lr=1e-2, pretraining_mix=mix),
                      pretraining=web, progress=False)
        losses.append(pretrain.evaluate_lm(policy, web))
    assert losses[1] < losses[0]


def test_a_run_with_other_pretraining_rows_is_not_resumed(tmp_path):
    web = pretrain.pack([list(range(3, 60))] * 4, 16)
    config = SFTConfig(epochs=1, batch_size=4, pretraining_mix=0.1)
    for _ in range(2):  # the second time there is nothing left to do
        sft.train_sft(a_policy(), some_examples(8), config, pretraining=web, folder=tmp_path, progress=False)
    for other in (web[::-1], web[:, ::-1], web.reshape(-1, 8)):
        with pytest.raises(ValueError, match=r"other settings \(pretraining\)"):
            sft.train_sft(a_policy(), some_examples(8), config, pretraining=other, folder=tmp_path, progress=False)


def test_errors_and_the_evaluate_hook():
    with pytest.raises(ValueError, match="no demonstrations"):
        sft.train_sft(a_policy(), [], SFTConfig())
    with pytest.raises(ValueError, match="no pretraining rows"):
        sft.train_sft(a_policy(), some_examples(), SFTConfig(pretraining_mix=0.1))
    with pytest.raises(ValueError, match="micro_batch is -1; set it to 1 or more"):
        sft.train_sft(a_policy(), some_examples(), SFTConfig(micro_batch=-1))
    with pytest.raises(RuntimeError, match="learning rate"):
        policy = a_policy()
        torch.nn.init.constant_(policy.model.norm.weight, float("nan"))
        sft.train_sft(policy, some_examples(), SFTConfig(), progress=False)
    history = sft.train_sft(a_policy(), some_examples(8), SFTConfig(epochs=2), progress=False,
                            evaluate=lambda policy, epoch: {"twice": 2 * epoch})
    assert [entry["twice"] for entry in history] == [2, 4]


def test_sft_steps_follow_the_cosine_and_are_clipped():
    with optimizer_steps() as steps:
        sft.train_sft(a_policy(), EXAMPLES, sft.SFTConfig(epochs=2, batch_size=4, max_grad_norm=0.01), progress=False)
    assert [lr for lr, _ in steps] == pytest.approx([training.cosine_lr(i, 4, 1e-3, 0.1) for i in range(4)])
    assert [norm(g) for _, g in steps] == pytest.approx([0.01] * 4, rel=1e-3)


def test_the_gradient_of_a_mixed_step():
    """P33: (1 - mix) times the demonstrations' gradient plus mix times the web's, in one step."""
    policy, settings = a_policy(), sft.SFTConfig(epochs=1, batch_size=8, pretraining_mix=0.3, pretraining_rows=3,
                                              max_grad_norm=1e9)
    copy = models.copy_model(policy)
    with optimizer_steps() as steps:
        sft.train_sft(policy, EXAMPLES, settings, pretraining=WEB, progress=False)
    ids, mask, labels = sft.collate(EXAMPLES)
    web = pretrain.as_rows(WEB[training.rows_at(0, len(WEB), 3, 0)], "cpu")
    (0.7 * sft.sft_loss(models.logits(copy, ids, mask), labels) + 0.3 * pretrain.lm_loss(copy, web)).backward()
    [(_, found)] = steps
    for parameter, other in zip(policy.parameters(), copy.parameters(), strict=True):
        assert torch.allclose(found[parameter], other.grad, atol=1e-6)


def test_losses_are_measured_without_dropout_whatever_the_batches():
    policy = a_policy("gpt2").train()
    losses = [sft.evaluate_sft(policy, EXAMPLES[:3], batch_size) for batch_size in (3, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and policy.training
    losses = [pretrain.evaluate_lm(policy, WEB[:3], batch_size) for batch_size in (3, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and policy.training


def test_double_precision_stays_double():
    logits = torch.randn(1, 4, 9, dtype=torch.float64)
    labels = torch.tensor([[sft.IGNORE, 5, 6, sft.IGNORE]])
    assert sft.sft_loss(logits, labels).dtype == torch.float64
    assert sft.sft_loss(logits.bfloat16(), labels).dtype == torch.float32
