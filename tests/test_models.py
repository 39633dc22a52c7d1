"""Tokens, models and the scalar head; the same number for a row however it is padded."""

import math

import pytest
import torch
from tiny import a_policy

from rlhf_lite import models
from rlhf_lite.models import BEGIN, END, PAD


@pytest.fixture(scope="module")
def tokenizer():
    return models.train_tokenizer(["Alice sells bread for 3 pence.\nThe baker of Pebbleford is Alice."] * 9, 300)


def test_tokenizer_keeps_any_text_and_its_special_ids(tokenizer, tmp_path):
    assert tokenizer.convert_tokens_to_ids(list(models.SPECIAL_TOKENS)) == [PAD, BEGIN, END] == [0, 1, 2]
    tokenizer.save_pretrained(tmp_path)
    again = models.load_tokenizer(tmp_path)
    for text in ["Alice", " two  spaces \n\n", "café ☕ 3.50", ""]:
        ids = models.encode_text(tokenizer, text)
        assert tokenizer.decode(ids) == text and models.encode_text(again, text) == ids
        assert not {PAD, BEGIN, END} & set(ids)  # nothing is added by itself
    assert len(tokenizer) == 300


def test_special_tokens_typed_by_a_user_stay_text(tokenizer):
    ids = models.encode_prompt(tokenizer, "what is <|end|> ?")
    assert ids[0] == BEGIN and END not in ids and ids.count(BEGIN) == 1


def test_template_and_response(tokenizer):
    assert models.format_prompt("Who?") == "Who?\n"
    ids = models.encode_response(tokenizer, "Alice.")
    assert ids[-1] == END and ids.count(END) == 1
    assert models.decode_response(tokenizer, torch.tensor(ids + [PAD, PAD])) == "Alice."
    assert models.decode_response(tokenizer, ids[:-1]) == "Alice."  # unfinished


def test_tokenizer_errors(tmp_path):
    with pytest.raises(ValueError, match="at least 259"):
        models.train_tokenizer(["a"], vocab_size=100)
    with pytest.raises(FileNotFoundError, match="tokenizer.json is missing"):
        models.load_tokenizer(tmp_path)
    from tokenizers import Tokenizer
    from tokenizers import models as token_models
    Tokenizer(token_models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="not made by train_tokenizer"):
        models.load_tokenizer(tmp_path)


def test_sizes_and_seeds():
    assert 1.2e6 < models.parameter_count(models.new_policy("1.3m", 0)) < 1.4e6
    assert 5.5e6 < models.parameter_count(models.new_policy("6m", 0)) < 6.5e6
    with torch.device("meta"):
        from transformers import LlamaConfig, LlamaForCausalLM
        large = LlamaForCausalLM(LlamaConfig(vocab_size=2048, tie_word_embeddings=True, **models.SIZES["175m"]))
    assert 170e6 < models.parameter_count(large) < 180e6
    state = torch.get_rng_state()
    one, two, other = (a_policy(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())  # making a model does not move the random numbers
    assert torch.equal(one.lm_head.weight, two.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert one.lm_head.weight.data_ptr() == one.model.embed_tokens.weight.data_ptr()
    assert (one.config.pad_token_id, one.config.bos_token_id, one.config.eos_token_id) == (PAD, BEGIN, END)
    with pytest.raises(ValueError, match="tiny, 1.3m, 6m, 175m"):
        models.new_policy("2b", 0)


def test_scalar_head_starts_as_stated():
    policy = models.new_policy("1.3m", 0)
    scalar = models.scalar_from_policy(policy, seed=1)
    assert scalar.score.bias.item() == 0.0
    assert scalar.score.weight.std().item() == pytest.approx(1 / math.sqrt(145), rel=0.2)
    assert torch.equal(scalar.score.weight, models.scalar_from_policy(policy, seed=1).score.weight)
    with torch.no_grad():
        scalar.trunk.embed_tokens.weight.zero_()
    assert policy.model.embed_tokens.weight.abs().sum() > 0  # a copy, not the policy's own trunk


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_padding_on_either_side_changes_nothing(kind):
    """P7, P10, P11, P12: absolute positions, left and right padding, END inside the prompt."""
    policy = a_policy(kind)
    scalar = models.scalar_from_policy(policy, seed=1)
    row, pads = [BEGIN, 5, END, 6, 7, END], [PAD] * 5
    plain = torch.tensor([row])
    for ids, at in ((pads + row, slice(5, None)), (row + pads, slice(0, 6))):
        ids = torch.tensor([ids])
        mask = (ids != PAD).long()
        assert torch.allclose(models.logits(policy, ids, mask)[:, at],
                              models.logits(policy, plain, torch.ones_like(plain)), atol=1e-4)
        values = scalar(ids, mask)
        assert values.shape == ids.shape and values.dtype == torch.float32
        assert torch.allclose(values[:, at], scalar(plain, torch.ones_like(plain)), atol=1e-4)
        assert models.score_at_last(values, mask).item() == values[0, at][-1].item()
    assert models.logits(policy, plain, torch.ones_like(plain), keep=2).shape == (1, 2, 64)


def test_position_ids():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    assert models.position_ids(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]
    assert set(models.position_arguments(a_policy("gpt2"), mask)) == {"position_ids"}

    class NoPositions(torch.nn.Module):
        def forward(self, input_ids):
            return input_ids

    assert models.position_arguments(NoPositions(), mask) == {}


def test_score_at_last_needs_a_token():
    with pytest.raises(ValueError, match="no attended token"):
        models.score_at_last(torch.zeros(1, 2), torch.zeros(1, 2))


def test_copy_model_is_separate_and_can_be_frozen():
    policy = a_policy().train()
    frozen = models.copy_model(policy, trainable=False)
    assert not any(p.requires_grad for p in frozen.parameters()) and not frozen.training
    assert all(p.requires_grad for p in models.copy_model(frozen).parameters())
    with torch.no_grad():
        policy.lm_head.weight.zero_()
    assert frozen.lm_head.weight.abs().sum() > 0


def test_devices_and_seeds(monkeypatch):
    assert models.pick_device("cpu").type == "cpu" and models.pick_device("auto").type in ("cpu", "cuda")
    assert models.device_of(a_policy()).type == "cpu"
    for name, match in (("gpu", "no device 'gpu'"), ("xla", "not supported"), ("cuda:99", "CUDA devices")):
        with pytest.raises(ValueError, match=match):
            models.pick_device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="mps"):
        models.pick_device("mps")
    models.set_seed(4)
    first = torch.rand(1)
    models.set_seed(4)
    assert torch.equal(first, torch.rand(1))


def test_a_damaged_tokenizer_is_one_sentence(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "mod')
    with pytest.raises(ValueError, match="tokenizer.json is damaged"):
        models.load_tokenizer(tmp_path)


def test_a_frequent_word_is_one_token_wherever_it_stands(monkeypatch):
    monkeypatch.setattr(models, "PIECES", 262)  # so few merges that no word is reached by merging alone
    tokenizer = models.train_tokenizer(["the baker sells bread\nbread the baker sells"] * 30, 300)
    found = [models.encode_text(tokenizer, text) for text in ("bread", "the bread", "sells\nbread")]
    assert len(found[0]) == 1 and {ids[-1] for ids in found} == set(found[0])
    assert models.token_text(tokenizer, found[0][0]) == " bread"
