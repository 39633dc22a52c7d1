"""Only plain safetensors of finite floating-point numbers become weights, wherever they are from; no pickle is read."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import a_foreign_model, a_foreign_tokenizer

from rlhf_lite import checkpoints, models, sampling, training_state
from rlhf_lite.real import export, hub, weights


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.fixture
def folder(tmp_path):
    """A model from elsewhere, with a pickle beside it."""
    a_foreign_model("llama").save_pretrained(tmp_path / "model")
    a_foreign_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "evil.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    shutil.copy(tmp_path / "model" / "evil.bin", tmp_path / "model" / "adapter_model.bin")
    return tmp_path / "model"


def index(folder, shard):
    """Let the weights be read through an index, in which one tensor lies elsewhere."""
    path = folder / "model.safetensors"
    names = dict.fromkeys(load_file(path), "part.safetensors")
    path.rename(folder / "part.safetensors")
    names[sorted(names)[0]] = shard
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def refused(folder, says):
    for load in (hub.load, export.load_classifier):
        with pytest.raises((ValueError, OSError), match=says) as found:
            load(folder)
        assert "\n" not in str(found.value)
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("shard", ["evil.bin", "../outside.safetensors", "sub/x.safetensors", "sub\\x.safetensors",
                                   "/tmp/x.safetensors", "C:x.safetensors", "..", "", "evil.bin\n.safetensors"])
def test_an_index_leads_nowhere_else(folder, shard):
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index(folder, shard)
    refused(folder, "index of .* points to|is missing")


def test_an_index_of_plain_shards_is_read(folder):
    index(folder, "part.safetensors")
    policy, _, _ = hub.load(folder)
    assert torch.isfinite(policy.get_input_embeddings().weight).all()


@pytest.mark.parametrize("content", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 5}}', "{}", "[" * 10**5])
def test_a_damaged_index_is_refused(folder, content):
    index(folder, "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder, "index.json is damaged")


def test_an_adapter_or_another_name_in_the_config_is_refused(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("adapter_model.bin", "sub/x.safetensors", "model.safetensors"):
        path.write_text(json.dumps(config | {"transformers_weights": name}))
        refused(folder, "transformers_weights")
    path.write_text(json.dumps(config))
    adapter = {"base_model_name_or_path": str(folder), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    refused(folder, "is an adapter")


def test_a_decoy_is_not_enough(folder):
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    (folder / "evil.bin").rename(folder / "pytorch_model.bin")
    refused(folder, "pickled weights")


@pytest.mark.parametrize("damage, says", [
    (lambda t: t * float("nan"), "not finite"), (lambda t: t / 0, "not finite"),
    (lambda t: t.to(torch.int8), "of type I8"), (lambda t: t.to(torch.complex64), "of type C64|damaged")],
    ids=["nan", "infinity", "int8", "complex"])
def test_what_is_no_number_is_no_weight(folder, damage, says):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file(tensors | {name: damage(tensors[name]).contiguous()}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=says):
        hub.load(folder)


def test_buffers_of_older_files_are_no_weights(folder):
    tensors = load_file(folder / "model.safetensors") | {"model.layers.0.attn.bias": torch.ones(4, 4, dtype=torch.bool)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert weights.check_folder(folder, "x") == [folder / "model.safetensors"]


# ---------------------------------------------------------------- our own checkpoints

@pytest.mark.parametrize("damage, says", [
    (lambda t: t * float("nan"), "not finite"), (lambda t: t / 0, "not finite"),
    (lambda t: t.to(torch.int8), "of type int8"), (lambda t: t.to(torch.complex64), "of type complex64")],
    ids=["nan", "infinity", "int8", "complex"])
def test_our_own_weights_are_numbers_too(tmp_path, damage, says):
    policy = models.new_policy("tiny", 0)
    checkpoints.save_checkpoint(tmp_path / "m", policy, {})
    path, card = tmp_path / "m" / "model.safetensors", checkpoints.load_card(tmp_path / "m")
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file(tensors | {name: damage(tensors[name])}, path, metadata={"format": "pt"})
    (tmp_path / "m" / "card.json").write_text(json.dumps(card | {"sha256": checkpoints.sha256(path)}))
    with pytest.raises(ValueError, match=says):
        checkpoints.load_policy(tmp_path / "m")
    wrong = damage(dict(policy.named_parameters())[name].data)
    policy.get_submodule(name.removesuffix(".weight")).weight = torch.nn.Parameter(wrong, requires_grad=False)
    with pytest.raises(ValueError, match=says):
        checkpoints.save_checkpoint(tmp_path / "other", policy, {})
    assert not (tmp_path / "other").exists()


def test_a_pickle_and_odd_configs_in_our_own_folder_are_refused(tmp_path):
    checkpoints.save_checkpoint(tmp_path / "m", models.new_policy("tiny", 0), {})
    card = checkpoints.load_card(tmp_path / "m")
    del card["config_sha256"]  # as in older cards; the config is then not protected by a sum
    path = tmp_path / "m" / "config.json"
    good, config = path.read_text(), json.loads(path.read_text())
    (tmp_path / "m" / "card.json").write_text(json.dumps(card))
    for change in ({"hidden_size": "x"}, {"hidden_size": 10**9}, {"num_hidden_layers": 10**6}, {"vocab_size": -3},
                   {"num_attention_heads": 0}, {"hidden_size": None}, {"intermediate_size": 10**6}):
        path.write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match="config.json"):
            checkpoints.load_policy(tmp_path / "m")
    for text in ("[]", '"x"', "5", "null", "{}", "[" * 10**5, "NaN"):
        path.write_text(text)
        with pytest.raises(ValueError, match="config.json"):
            checkpoints.load_policy(tmp_path / "m")
    path.write_text(good)
    (tmp_path / "m" / "model.safetensors").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    card["sha256"] = checkpoints.sha256(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        checkpoints.load_policy(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


def test_one_wrong_bit_in_a_training_state_is_noticed(tmp_path):
    training_state.save(tmp_path, {"p/x": torch.ones(64)}, {"identity": {}, "loss": float("nan")})
    path = tmp_path / "training.safetensors"
    good = path.read_bytes()
    assert training_state.load(tmp_path)[1] == {"identity": {}, "loss": None}
    for place in (len(good) - 9, good.index(b"identity") + 1, good.index(b"python_rng") + 18):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        with pytest.raises(ValueError, match="training.safetensors is damaged .*delete it to start"):
            training_state.load(tmp_path)
    for tensor in (torch.ones(3, dtype=torch.int8), torch.full((3,), float("inf"))):
        with pytest.raises(ValueError, match="The training state: p/x"):
            training_state.save(tmp_path, {"p/x": tensor}, {})


def test_a_training_state_must_be_one(tmp_path):
    policy = models.new_policy("tiny", 0)
    for state in ({}, {"identity": []}, {"identity": None}):
        training_state.save(tmp_path, training_state.gather({"p": policy}, {}), state)
        with pytest.raises(ValueError, match="training state in .* is damaged .*delete it"):
            training_state.resume(tmp_path, {"lr": 1}, {"p": policy}, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("greedy", [False, True])
def test_nothing_is_sampled_from_logits_that_are_no_numbers(value, greedy):
    policy = models.new_policy("tiny", 0)

    def spoil(module, inputs, output):
        output.logits[0, -1, 3] = value
    policy.register_forward_hook(spoil)
    with pytest.raises(RuntimeError, match="logits are not finite"):
        sampling.sample(policy, [[1, 5]], 3, greedy=greedy)
