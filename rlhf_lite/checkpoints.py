"""Saving and loading models: weights are checked when they are written and when they are read.

The idea: a checkpoint is a folder of three files, `model.safetensors`, `config.json` and `card.json`.
The card says where the weights come from and holds their sha256, which is checked on every load. Nothing is pickled: a
stranger's file can be wrong, but cannot run code. `training_state` keeps what a training needs to go on.

Left out: sharded files.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from rlhf_lite import files, schemas
from rlhf_lite.models import ScalarModel, parameter_count

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "card.json"
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # what weights may be


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
    check_weights(_unique_tensors(model), f"The model for {folder}", "train it again, with a lower lr.")
    tensors = {name: tensor.contiguous() for name, tensor in _unique_tensors(model, dtype).items()}
    with files.whole_folder(folder, SafetensorError, replaces=(WEIGHTS, CONFIG, CARD)) as new:
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        (new / CONFIG).write_text(json.dumps(model.config.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8",
                                 newline="\n")
        card = {**card, "kind": "scalar" if isinstance(model, ScalarModel) else "policy",
                "parameters": parameter_count(model), "dtype": str(next(iter(tensors.values())).dtype)[6:],
                "sha256": sha256(new / WEIGHTS), "config_sha256": _config_sha256(new / CONFIG)}
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
    if not (folder / CARD).is_file():
        raise FileNotFoundError(f"There is no checkpoint in {folder} ({CARD} is missing); "
                                "check the path, or run the step that makes it.")
    return schemas.read(folder / CARD, schemas.Card, fix=_mend())


def check(folder):
    """The card of a checkpoint whose files are all there and have their sha256; otherwise ValueError or OSError."""
    folder = Path(folder)
    card = load_card(folder)
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; {_mend()}")
    for name, kept, found in ((WEIGHTS, card["sha256"], sha256(folder / WEIGHTS)),
                              (CONFIG, card.get("config_sha256"), _config_sha256(folder / CONFIG))):
        if found != kept and not (name == CONFIG and kept is None):  # older cards lack it
            raise ValueError(f"{folder / name} is damaged (its sha256 differs from the one in {CARD}); {_mend()}")
    return card


def _load(folder, kind, device):
    folder, found = Path(folder), load_card(folder)["kind"]
    if found != kind:
        wanted = "load_scalar" if found == "scalar" else "load_policy"
        raise ValueError(f"{folder} contains a {found} model, not a {kind} model; use {wanted}.")
    card = check(folder)
    try:
        tensors = read(folder / WEIGHTS)
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({schemas.said(error)}); {_mend()}") from None
    check_weights(tensors, folder / WEIGHTS, _mend())
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = _build(config, kind, sum(tensor.numel() for tensor in tensors.values()))
    except Exception as error:  # anything can be in a config; one that asks to run its own code is refused here, too
        raise ValueError(f"{folder / CONFIG} is not the config of a model that transformers knows "
                         f"({schemas.said(error)}); {_mend()}") from None
    _fill(model, tensors, folder / WEIGHTS)
    if parameter_count(model) != card["parameters"]:
        raise ValueError(f"{folder / CARD} is damaged (it says {card['parameters']} parameters, the model has "
                         f"{parameter_count(model)}); {_mend()}")
    return model.to(device).eval()


def _build(config, kind, saved):
    """A model with random weights; ValueError instead of one far larger than the `saved` numbers can fill."""
    def make():
        if kind == "policy":
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return ScalarModel(AutoModel.from_config(config, dtype=torch.float32))

    if any(isinstance(value, int) and value > 10**7 for value in config.to_dict().values()) or getattr(
            config, "num_hidden_layers", 1) > 1000:
        raise ValueError("it asks for a model of an impossible size")
    with torch.random.fork_rng(devices=[]):  # building a model draws random weights; loading must not advance the RNG
        with torch.device("meta"):  # takes no memory
            size = sum(tensor.numel() for tensor in make().state_dict().values())
        if size > 4 * saved + 10**6:
            raise ValueError("it asks for a model much larger than the weights beside it")
        return make()


def read(path):
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


def check_weights(tensors, name, fix):
    """Raise ValueError for weights that compute nothing: integers, complex numbers, NaN or infinity."""
    for key, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{name}: {schemas.shown(key)} is of type {str(tensor.dtype)[6:]}, and weights are "
                             f"floating-point numbers; {fix}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: {schemas.shown(key)} has values that are not finite; {fix}")


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


# ---------------------------------------------------------------- sums

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
    except (ValueError, RecursionError):  # broken JSON, or not UTF-8: no content
        said = ""
    return hashlib.sha256(said.encode()).hexdigest()


def sha256(path):
    """Of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mend():
    return "fetch the file again (git checkout) or rerun the step that makes it."
