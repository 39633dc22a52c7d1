"""What is saved comes back exactly; what is damaged is refused; a failed save changes nothing."""

import json
import os
import random

import pytest
import torch
from tiny import a_policy

from rlhf_lite import checkpoints, files, models, training_state

ROWS = torch.tensor([[1, 5, 6, 7, 2], [1, 9, 8, 7, 6]])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_policy_and_scalar_come_back_exactly(tmp_path, kind):
    policy = a_policy(kind)
    scalar = models.scalar_from_policy(policy, seed=1)
    torch.nn.init.constant_(scalar.score.bias, 0.7)  # a bias that is dropped on reloading would show (P31)
    card = checkpoints.save_checkpoint(tmp_path / "policy", policy, {"command": "make it", "seed": 0})
    checkpoints.save_checkpoint(tmp_path / "scalar", scalar, {})
    mask = torch.ones_like(ROWS)
    state = torch.get_rng_state()
    again = checkpoints.load_policy(tmp_path / "policy")
    assert torch.equal(state, torch.get_rng_state())  # loading draws nothing
    assert torch.equal(models.logits(again, ROWS, mask), models.logits(policy, ROWS, mask))
    assert again.lm_head.weight.data_ptr() == again.get_input_embeddings().weight.data_ptr()
    assert torch.equal(checkpoints.load_scalar(tmp_path / "scalar")(ROWS, mask), scalar(ROWS, mask))
    assert card == checkpoints.load_card(tmp_path / "policy")
    assert card["kind"] == "policy" and card["command"] == "make it" and len(card["sha256"]) == 64
    assert card["parameters"] == models.parameter_count(policy) and card["dtype"] == "float32"

LOCK = ".model.lock"  # it stays beside the folder, and does no harm


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    policy = a_policy()
    checkpoints.save_checkpoint(tmp_path / "full", policy, {})
    checkpoints.save_checkpoint(tmp_path / "half", policy, {}, dtype=torch.float16)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    again = checkpoints.load_policy(tmp_path / "half")
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    for a, b in zip(policy.parameters(), again.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)
    torch.nn.init.constant_(policy.model.norm.weight, 1e6)
    with pytest.raises(ValueError, match="save it in float32"):
        checkpoints.save_checkpoint(tmp_path / "half", policy, {}, dtype=torch.float16)


def test_saving_again_replaces_and_keeps_other_files(tmp_path):
    folder = tmp_path / "model"
    checkpoints.save_checkpoint(folder, a_policy(seed=0), {"round": 1})
    (folder / "notes.txt").write_text("mine")
    checkpoints.save_checkpoint(folder, a_policy(seed=1), {"round": 2})
    assert checkpoints.load_card(folder)["round"] == 2 and (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name != LOCK] == ["model"]


def test_damage_is_refused(tmp_path):
    folder = tmp_path / "model"
    checkpoints.save_checkpoint(folder, a_policy(), {})
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged.*sha256.*rerun the step"):
        checkpoints.load_policy(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing"):
        checkpoints.load_policy(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(ValueError, match="card.json is damaged"):
        checkpoints.load_policy(folder)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoints.load_policy(tmp_path / "nowhere")


def test_missing_unexpected_and_misshapen_weights_are_refused(tmp_path):
    folder = tmp_path / "model"
    checkpoints.save_checkpoint(folder, a_policy(), {})
    card = checkpoints.load_card(folder)
    assert len(card.pop("config_sha256")) == 64
    (folder / "card.json").write_text(json.dumps(card))  # as cards were before they knew the config's
    for change in ({"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"vocab_size": 65}):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match="does not match"):
            checkpoints.load_policy(folder)
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="use load_policy"):
        checkpoints.load_scalar(folder)


def test_an_edited_config_is_refused_and_never_runs_code(tmp_path):
    """Other heads, same shapes: the weights fit and the logits are wrong. And a config may name code: it is not run."""
    folder = tmp_path / "model"
    checkpoints.save_checkpoint(folder, a_policy(), {})
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_bytes(text.replace("\n", "\r\n").encode())  # another system's line ends are fine
    checkpoints.load_policy(folder)
    config = json.loads(text)
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 77.0}))
    with pytest.raises(ValueError, match="config.json is damaged"):
        checkpoints.load_policy(folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt9", "auto_map": {"AutoConfig": "evil.Evil"}}))
    card = checkpoints.load_card(folder)
    del card["config_sha256"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="not the config of a model that transformers knows"):
        checkpoints.load_policy(folder)
    assert not (tmp_path / "ran").exists()


def test_text_files_are_the_old_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "results.json"
    files.write_text(path, "old")
    real = checkpoints.Path.write_text
    monkeypatch.setattr(checkpoints.Path, "write_text", lambda self, text, **_: (real(self, text[:2]), 1 / 0)[1]
                        if text == "dies" else (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="results.json.*Free some disk space"):
        files.write_text(path, "new")
    with pytest.raises(ZeroDivisionError):
        files.write_text(path, "dies")
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize(("module", "call"), [(checkpoints, "save_file"), (files, "fsync")])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, module, call):
    folder = tmp_path / "model"
    checkpoints.save_checkpoint(folder, a_policy(seed=0), {"round": 1})

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, call, full)
    if call == "save_file":
        monkeypatch.setattr(training_state, call, full)
    with pytest.raises(OSError, match="Free some disk space"):
        checkpoints.save_checkpoint(folder, a_policy(seed=1), {"round": 2})
    with pytest.raises(OSError, match="Free some disk space"):
        training_state.save(folder, {"a": torch.ones(1)}, {})
    assert checkpoints.load_card(folder)["round"] == 1
    checkpoints.load_policy(folder)
    assert [path.name for path in tmp_path.iterdir() if path.name != LOCK] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]


@pytest.mark.parametrize("dies_at", [1, 2])
def test_death_between_the_two_renames_loses_nothing(tmp_path, monkeypatch, dies_at):
    folder = tmp_path / "model"
    checkpoints.save_checkpoint(folder, a_policy(seed=0), {"round": 1})
    replace, calls = os.replace, []

    class Killed(BaseException):
        pass

    def die(source, target):
        calls.append(1)
        if len(calls) >= dies_at:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", die)
        patch.setattr(files.shutil, "rmtree", lambda *a, **k: None)
        with pytest.raises(Killed):
            checkpoints.save_checkpoint(folder, a_policy(seed=1), {"round": 2})
    assert checkpoints.load_card(folder)["round"] == 1
    checkpoints.load_policy(folder)


def test_training_state_brings_back_tensors_moments_and_random_numbers(tmp_path):
    policy = a_policy()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    policy(ROWS).logits.sum().backward()
    optimizer.step()
    assert training_state.load(tmp_path) is None
    random.seed(3), torch.manual_seed(3)
    random.random(), torch.rand(2)
    training_state.save(tmp_path, training_state.gather({"p": policy}, {"adam": optimizer}),
                                    {"step": 7, "losses": [0.1, 1 / 3]})
    expected = random.random(), torch.rand(2)
    other = a_policy(seed=5)
    adam = torch.optim.AdamW(other.parameters(), lr=1e-3)
    tensors, state = training_state.load(tmp_path)
    training_state.restore(tensors, {"p": other}, {"adam": adam})
    assert state == {"step": 7, "losses": [0.1, 1 / 3]}
    assert random.random() == expected[0] and torch.equal(torch.rand(2), expected[1])
    for a, b in zip(policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.state[a][moment], adam.state[b][moment])


def test_resume_refuses_another_run(tmp_path):
    assert training_state.resume(None, {}, {}, {}) is None and training_state.resume(tmp_path, {}, {}, {}) is None
    policy = a_policy()
    training_state.save(tmp_path, training_state.gather({"p": policy}, {}),
                                    {"identity": {"lr": 1.0}, "step": 3})
    other = a_policy(seed=2)
    assert training_state.resume(tmp_path, {"lr": 1.0}, {"p": other}, {})["step"] == 3
    assert checkpoints.fingerprint(other) == checkpoints.fingerprint(policy)
    with pytest.raises(ValueError, match=r"other settings \(lr\)"):
        training_state.resume(tmp_path, {"lr": 2.0}, {"p": other}, {})


def test_fingerprints_name_data_and_weights():
    assert checkpoints.fingerprint([1, [2]]) == checkpoints.fingerprint([1, [2]]) != checkpoints.fingerprint([1, [3]])
    assert checkpoints.fingerprint(ROWS.numpy()) != checkpoints.fingerprint(ROWS.numpy() + 1)
    names = {checkpoints.fingerprint(a_policy(kind, seed)) for kind in ("llama", "gpt2") for seed in (0, 1)}
    assert len(names) == 4


def test_a_damaged_or_foreign_training_state_is_refused(tmp_path):
    training_state.save(tmp_path, {"p/x": torch.ones(2)}, {})
    with pytest.raises(ValueError, match="another run"):
        training_state.restore(training_state.load(tmp_path)[0], {"p": a_policy()}, {})
    path = tmp_path / "training.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="delete it to start"):
        training_state.load(tmp_path)
