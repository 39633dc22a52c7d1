"""A shared trunk: equal to four whole models, before and after training (pitfall P28)."""

import copy

import pytest
import torch
from tiny import FOREIGN_KINDS, a_foreign_model
from transformers import GraniteConfig, GraniteForCausalLM

from rlhf_lite import checkpoints, models, ppo, reward, sampling
from rlhf_lite.real import shared_trunk

END = 280
PROMPTS = [[280, 5, 6, 7], [280, 8], [280, 9, 10], [280, 11, 12, 13, 14]]
RANKINGS = [reward.RankedPrompt(p, [[20, 21, END], [22, END], [23, 24, 25]], [1, 2, 3]) for p in PROMPTS]
CONFIG = ppo.PPOConfig(iterations=3, batch_size=8, minibatch=4, micro_batch=2, max_new_tokens=5, lr=1e-3,
                       inner_epochs=2, critic_lr=1e-3, warmup_iterations=0, ptx_coef=0.5, ptx_rows=2)
WEB = torch.arange(4 * 12).reshape(4, 12).numpy() % 200


def a_double_policy(kind):
    """In double precision, so that only a real difference is one; special ids as hub.load writes them."""
    policy = a_foreign_model(kind, layers=3)
    policy.config.special_ids = [0, END, END]
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return policy.double().eval()


@pytest.fixture(params=FOREIGN_KINDS)
def whole(request):
    """An SFT policy and a reward model that was trained under freeze_trunk."""
    policy = a_double_policy(request.param)
    scores = shared_trunk.freeze_trunk(models.scalar_from_policy(policy, 1), 2)
    reward.train_reward(scores, RANKINGS, reward.RewardConfig(epochs=3, lr=1e-2), progress=False)
    return policy, scores


def a_rollout(policy, n=8):
    prompts = (PROMPTS * n)[:n]
    return sampling.sample(policy, prompts, 5, generator=torch.Generator().manual_seed(3))


def readings(four, rollout):
    policy, reference, critic, scores = four
    return [ppo.rollout_log_probs(policy, rollout), ppo.rollout_log_probs(reference, rollout),
            ppo.rollout_values(critic, rollout), ppo.score_rollout(scores, rollout)]


def weights(model):
    return dict(model.named_parameters())


def same(a, b, atol=1e-6):
    return all(torch.allclose(x, y, atol=atol, rtol=0) for x, y in zip(a, b, strict=True))


def test_before_training_the_four_are_the_whole_ones_and_every_row_passes_the_trunk_once(whole):
    policy, scores = whole
    shared = shared_trunk.share(policy, scores, 2)
    rollout = a_rollout(policy)
    again = a_rollout(shared[0])  # sampling with its cache goes through trunk and upper blocks
    assert torch.equal(rollout.sequences, again.sequences)
    ours = readings(shared, rollout)
    theirs = readings((policy, policy, scores, scores), rollout)
    real = rollout.response_mask
    assert same([x[real] for x in ours[:3]], [x[real] for x in theirs[:3]]) and same(ours[3:], theirs[3:])
    assert torch.equal(ours[0][real], ours[1][real])  # to the bit: the KL of step 0 is exactly 0
    trunk = shared[0].upper.trunk
    distinct = len({tuple(p + r) for p, r in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)})
    assert all(model.upper.trunk is trunk for model in shared) and len(trunk.rows) == distinct
    assert trunk.read == 4 * 8 and distinct <= trunk.computed <= 8


def test_after_training_everything_is_what_four_whole_models_give(whole):
    """The reference logits too: with GPT-2's positions or a tied output layer trainable they would drift."""
    policy, scores = whole
    four = [shared_trunk.freeze_trunk(models.copy_model(policy), 2), models.copy_model(policy, trainable=False),
            shared_trunk.freeze_trunk(models.copy_model(scores), 2), models.copy_model(scores, trainable=False)]
    shared = shared_trunk.share(policy, scores, 2)
    trunk = shared[0].upper.trunk
    before = {name: p.clone() for name, p in trunk.base.named_parameters()}
    runs = [ppo.train_ppo(*models_[:3], PROMPTS, CONFIG, reward_fn=models_[3], pretraining=WEB, progress=False)
            for models_ in (four, shared)]
    for one, other in zip(runs[0].history, runs[1].history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}, abs=1e-5, rel=1e-4)
    assert abs(runs[0].history[-1]["kl"]) > 1e-4  # it did learn
    for full, part in ((four[0], shared[0]), (four[2], shared[2]), (runs[0].ema, runs[1].ema), (four[1], shared[1])):
        back = weights(shared_trunk.unshare(part))
        assert back.keys() == weights(full).keys()
        assert all(torch.allclose(p, back[name], atol=1e-6, rtol=1e-4) for name, p in weights(full).items())
    rollout = a_rollout(four[0])
    ours, theirs = readings(shared, rollout), readings(four, rollout)
    mask = rollout.response_mask
    assert same([x[mask] for x in ours[:3]], [x[mask] for x in theirs[:3]], 1e-5) and same(ours[3:], theirs[3:], 1e-5)
    assert not same([ours[0][mask]], [ours[1][mask]], 1e-4)
    assert all(torch.equal(p, before[name]) for name, p in trunk.base.named_parameters())


def test_what_is_frozen_is_everything_below_and_the_tied_output_layer(whole):
    policy, _ = whole
    model = shared_trunk.freeze_trunk(models.copy_model(policy), 2)
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    above = {name for name in weights(model) if ".2." in name or "norm.weight" in name and ".layers." not in name
             or "ln_f" in name}
    own_head = {"lm_head.weight"} - (set() if policy.config.tie_word_embeddings is False else {"lm_head.weight"})
    assert free == above | own_head and any(".2." in name for name in free)
    shared = shared_trunk.share(policy, shared_trunk.freeze_trunk(models.scalar_from_policy(policy, 0), 2), 2)[0]
    assert models.parameter_count(shared) == sum(weights(model)[name].numel() for name in free)
    assert not any(p.requires_grad for p in shared.upper.trunk.base.parameters())
    shared.requires_grad_(True)  # as copy_model does
    assert not any(p.requires_grad for p in shared.upper.trunk.base.parameters())


def test_a_reward_model_can_be_trained_on_the_trunk(whole):
    policy, scores = whole
    model = shared_trunk.share_scalar(policy, 2, 1)
    config = reward.RewardConfig(epochs=3, lr=1e-2)
    reward.train_reward(model, RANKINGS, config, progress=False)
    back = weights(shared_trunk.unshare(model))
    assert all(torch.allclose(p, back[name], atol=1e-6) for name, p in weights(scores).items())
    trunk = model.upper.trunk
    assert trunk.computed == 12 and trunk.read == 3 * 12  # three epochs, one pass
    assert shared_trunk.share(policy, shared_trunk.unshare(model), 2)  # and it fits the policy


def test_an_unshared_model_is_ordinary_and_can_be_saved(whole, tmp_path):
    policy, scores = whole
    shared = shared_trunk.share(policy.float(), scores.float(), 1)
    first, last = shared_trunk.unshare(shared[0]), shared_trunk.unshare(shared[3])
    assert type(first) is type(policy) and weights(first).keys() == weights(policy).keys()
    ids = torch.tensor([PROMPTS[0]])
    assert torch.equal(first(ids).logits, policy(ids).logits)
    checkpoints.save_checkpoint(tmp_path / "p", first, {})
    checkpoints.save_checkpoint(tmp_path / "r", last, {})
    assert checkpoints.fingerprint(checkpoints.load_policy(tmp_path / "p")) == checkpoints.fingerprint(policy)
    assert torch.equal(checkpoints.load_scalar(tmp_path / "r")(ids, ids > 0), scores(ids, ids > 0))
    assert all(p.requires_grad for p in first.parameters())


def test_the_memory_of_rows_has_a_limit_and_knows_padding(whole):
    policy, _ = whole
    trunk = shared_trunk.Trunk(policy.base_model, 2, limit=2 * 4 * 32 * 8)  # two rows of four tokens
    left = torch.tensor([[0, 0, 280, 5, 6, 7]]), torch.tensor([[0, 0, 1, 1, 1, 1]])
    right = torch.tensor([[280, 5, 6, 7, 9]]), torch.tensor([[1, 1, 1, 1, 0]])
    one, other = trunk(*left), trunk(*right)
    assert trunk.computed == 1 and torch.equal(one[:, 2:], other[:, :4]) and not one[:, :2].any()
    for token in (1, 2, 3):
        trunk(torch.tensor([[280, token, 6, 7]]), torch.ones(1, 4))
    assert len(trunk.rows) == 2 and trunk.bytes == trunk.limit
    trunk(*left)
    assert trunk.computed == 5  # it had been dropped
    with torch.inference_mode():
        kept = trunk(torch.tensor([[9, 9]]), torch.ones(1, 2))
    assert not kept.is_inference() and copy.deepcopy(trunk) is trunk


def test_what_cannot_be_shared_is_refused_in_one_sentence(whole):
    policy, scores = whole
    for n in (0, 3):
        with pytest.raises(ValueError, match="of 3 blocks, 1 to 2 can be shared"):
            shared_trunk.share(policy, scores, n)
    other = models.scalar_from_policy(policy, 0)
    with torch.no_grad():
        next(shared_trunk._blocks(other.trunk, 1)[1].parameters()).add_(1e-6)
    shared_trunk.share(policy, other, 1)
    with pytest.raises(ValueError, match="lowest 2 blocks are not the policy's.*train it as freeze_trunk"):
        shared_trunk.share(policy, other, 2)


def test_a_type_with_more_between_its_blocks_is_refused():
    torch.manual_seed(0)
    config = GraniteConfig(vocab_size=281, embedding_multiplier=3.0, logits_scaling=2.0, **models.SIZES["tiny"])
    policy = GraniteForCausalLM(config).eval()
    with pytest.raises(ValueError, match="GraniteForCausalLM does more between its blocks"):
        shared_trunk.share(policy, models.scalar_from_policy(policy, 0), 1)
