"""Saving and loading: weights are checked when loaded, and training resumes where it stopped.

The idea: a checkpoint is a folder of three files, `model.safetensors`, `config.json` and `card.json`.
The card says where the weights come from and holds their sha256, which is checked on every load. A training
state is a single file, so it is either the old one or the new one, never half of each. Nothing is
pickled: a stranger's file can be wrong, but it cannot run code.

Left out: sharded files, and training states spread over several processes.
"""

import hashlib
import json
import random
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from rlhf_lite import files
from rlhf_lite.models import ScalarModel, parameter_count

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "card.json"
STATE = "training.safetensors"


# ---------------------------------------------------------------- weights

def save_checkpoint(folder, model, card, dtype=None):
    """Write a policy or a ScalarModel to `folder` and return the finished card (a dict).

    card: what the reader should know (command, seed, tokens, loss, ...); the kind, the dtype, the number of
    parameters and the sha256 of weights and config are added. dtype: for example torch.float16, to halve the size
    of the file. Other files in the folder are kept. The folder appears whole or not at all: a full disk leaves the
    old one as it was.
    """
    folder = Path(folder)
    _check_ordinary(model)
    tensors = {name: tensor.contiguous() for name, tensor in _unique_tensors(model, dtype).items()}
    with files.whole_folder(folder, SafetensorError, replaces=(WEIGHTS, CONFIG, CARD)) as new:
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        (new / CONFIG).write_text(json.dumps(model.config.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8",
                                 newline="\n")
        card = {**card, "kind": "scalar" if isinstance(model, ScalarModel) else "policy",
                "parameters": parameter_count(model), "dtype": str(next(iter(tensors.values())).dtype)[6:],
                "sha256": _sha256(new / WEIGHTS), "config_sha256": _config_sha256(new / CONFIG)}
        (new / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    return card


def _check_ordinary(model):
    """Raise ValueError for a model that could not be loaded again: its config would build one with other weights."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        scalar = isinstance(model, ScalarModel)
        built = ScalarModel(AutoModel.from_config(model.config)) if scalar else AutoModelForCausalLM.from_config(
            model.config)
    ours, theirs = ({name: p.shape for name, p in m.named_parameters()} for m in (model, built))
    if other := sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)):
        raise ValueError(f"This model's weights are not those of its config ({other[0]} and {len(other) - 1} others), "
                         "so it could not be loaded again; merge LoRA (hub.merge_lora) or give an ordinary model "
                         "(shared_trunk.unshare) before saving.")


def load_policy(folder, device="cpu"):
    """The causal language model saved in `folder`, float32, in evaluation mode."""
    return _load(folder, "policy", device)


def load_scalar(folder, device="cpu"):
    """The reward model or critic saved in `folder`, float32, in evaluation mode."""
    return _load(folder, "scalar", device)


def load_card(folder):
    """The card of a checkpoint as a dict."""
    folder = Path(folder)
    files.settle(folder)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"There is no checkpoint in {folder} ({CARD} is missing); "
                                "check the path, or run the step that makes it.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CARD} is damaged ({error}); {_mend()}") from None
    if not isinstance(card, dict):
        raise ValueError(f"{folder / CARD} is damaged (it does not contain a JSON object); {_mend()}")
    return card


def _load(folder, kind, device):
    folder = Path(folder)
    card = load_card(folder)
    if card.get("kind") != kind:
        wanted = "load_scalar" if card.get("kind") == "scalar" else "load_policy"
        raise ValueError(f"{folder} contains a {card.get('kind')} model, not a {kind} model; use {wanted}.")
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; {_mend()}")
    for name, kept, found in ((WEIGHTS, card.get("sha256"), _sha256(folder / WEIGHTS)),
                              (CONFIG, card.get("config_sha256"), _config_sha256(folder / CONFIG))):
        if found != kept and not (name == CONFIG and kept is None):  # older cards lack it
            raise ValueError(f"{folder / name} is damaged (its sha256 differs from the one in {CARD}); {_mend()}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError) as error:  # including a config that asks to run its own code
        raise ValueError(f"{folder / CONFIG} is not the config of a model that transformers knows "
                         f"({str(error).splitlines()[0]}); {_mend()}") from None
    with torch.random.fork_rng(devices=[]):  # building a model draws random weights; loading must not advance the RNG
        if kind == "policy":
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            model = ScalarModel(AutoModel.from_config(config, dtype=torch.float32))
    _fill(model, _read(folder / WEIGHTS), folder / WEIGHTS)
    return model.to(device).eval()


def _read(path):
    """{name: tensor} of a safetensors file, in memory: a mapped file could not be deleted or replaced on Windows."""
    return load(path.read_bytes())


def unmapped(model):
    """The model with weights of its own: those that transformers maps from a file keep Windows from replacing it."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
    return model


def _fill(model, tensors, source):
    """Copy tensors into the model; a missing, unexpected or misshapen tensor is an error and never skipped."""
    wanted = _unique_tensors(model)
    missing, unexpected = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    misshapen = sorted(name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape)
    if missing or unexpected or misshapen:
        raise ValueError(f"{source} does not match its {CONFIG}: missing {missing[:3]}, unexpected {unexpected[:3]}, "
                         f"wrong shape {misshapen[:3]}; {_mend()}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])


def _unique_tensors(model, dtype=None):
    """{name: tensor} of a state dict, with each tied weight once, under its first name."""
    unique, seen = {}, set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        if dtype is None or not tensor.is_floating_point():
            unique[name] = tensor.detach()
            continue
        unique[name] = tensor.detach().to(dtype)
        if not unique[name].isfinite().all():
            raise ValueError(f"{name} has values too large for {dtype}; save it in float32.")
    return unique if dtype is None else {name: tensor.contiguous() for name, tensor in unique.items()}


# ---------------------------------------------------------------- training states

def save_training_state(folder, tensors, state):
    """Write tensors, a JSON-able dict and the random states of Python and PyTorch as one file in `folder`."""
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    tensors["rng/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    version, numbers, gauss = random.getstate()
    metadata = {"state": json.dumps(state), "python_rng": json.dumps([version, list(numbers), gauss])}
    with files.whole_file(folder / STATE, SafetensorError) as new:  # safetensors reports a full disk as its own error
        save_file(tensors, new, metadata=metadata)


def load_training_state(folder):
    """(tensors, state) as saved, after restoring the random states; None if nothing was saved there."""
    path = Path(folder) / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = _read(path)
        state = json.loads(metadata["state"])
        version, numbers, gauss = json.loads(metadata["python_rng"])
        torch.set_rng_state(tensors.pop("rng/torch"))
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start this training over.") from None
    random.setstate((version, tuple(numbers), gauss))
    cuda = tensors.pop("rng/cuda", None)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    return tensors, state


def training_tensors(modules, optimizers):
    """{"name/parameter": tensor} for the weights of named modules and the moments of named optimizers."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.named_parameters()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    return tensors


def restore_tensors(tensors, modules, optimizers):
    """Restore what `training_tensors` gathered; raises ValueError when the modules are not the same."""
    with torch.no_grad():
        for name, module in modules.items():
            for key, value in module.named_parameters():  # tied weights come once
                saved = tensors.get(f"{name}/{key}")
                if saved is None or saved.shape != value.shape:
                    raise ValueError(f"The saved training state does not fit: {name}/{key} is missing or has another "
                                     "shape; it belongs to another run, so delete it to start over.")
                value.copy_(saved)
    for name, optimizer in optimizers.items():
        moments = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}/") and key.count("/") == 2:  # a module of that name keeps its parameters there
                index, moment = key[len(name) + 1:].split("/")
                moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def resume(folder, identity, modules, optimizers):
    """Restore modules, optimizers and random states from the last save in `folder`; returns its state, or None.

    identity: a JSON-able dict of everything that defines a run (settings, data). If the state was saved under a
    different identity, this raises ValueError rather than continuing with a mixture. folder may be None.
    """
    saved = load_training_state(folder) if folder else None
    if saved is None:
        return None
    tensors, state = saved
    if state["identity"] != identity:
        old = state["identity"]
        changed = sorted(name for name in identity | old if old.get(name) != identity.get(name))
        raise ValueError(f"The training state in {folder} was made with other settings ({', '.join(changed)}); "
                         "use those, choose another folder, or delete it to start over.")
    restore_tensors(tensors, modules, optimizers)
    return state


def fingerprint(data):
    """A short hexadecimal name for JSON-able data, an array or a model's weights: the same data has the same name."""
    digest = hashlib.sha256()
    if isinstance(data, torch.nn.Module):
        for tensor in _unique_tensors(data).values():
            digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())
    else:
        array = hasattr(data, "tobytes")
        digest.update(f"{data.shape} {data.dtype} ".encode() + data.tobytes() if array else json.dumps(data).encode())
    return digest.hexdigest()[:16]


def _config_sha256(path):
    """The sha256 of the config's content, not its bytes: git may change line endings on another machine."""
    try:
        said = json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True)
    except ValueError:  # broken JSON, or not UTF-8: no content
        said = ""
    return hashlib.sha256(said.encode()).hexdigest()


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mend():
    return "fetch the file again (git checkout) or rerun the step that makes it."
