"""The gate for weights from elsewhere: only plain safetensors files in the model's own folder are read.

The idea: ask which files *will be* read, not which ones lie there. transformers follows an index of shards, the config
of an adapter and a name in config.json, and each of them can point to a pickle, which runs code, or out of the folder.
"""

from pathlib import Path
from typing import Any, TypedDict

from safetensors import SafetensorError, safe_open

from rlhf_lite import checkpoints, schemas

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
FLOATS = ("F64", "F32", "F16", "BF16")
BUFFERS = ("attn.bias", "attention.bias", "masked_bias", "position_ids", "inv_freq")  # older files keep these, too
AGAIN = "fetch the model again, or choose another one."


class Index(TypedDict):
    """model.safetensors.index.json: which file has which tensor."""

    weight_map: dict[str, str]


def check_folder(folder, name):
    """The weight files of a transformers folder, every one of them safe to read; error messages call it `name`.

    Raises FileNotFoundError if there are no safetensors, ValueError for pickles, for files outside the folder, for
    adapters, and for weights that are not floating-point numbers.
    """
    folder = Path(folder)
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{name} is an adapter (adapter_config.json), not a whole model; merge it into its base model "
                         "and save that with save_pretrained.")
    if not (folder / WHOLE).is_file() and not (folder / INDEX).is_file():
        pickled = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLES)
        if pickled:
            raise ValueError(f"{name} has pickled weights ({schemas.shown(pickled[0])}), which can run code when they "
                             "are loaded; if you trust them, convert them with save_pretrained.")
        raise FileNotFoundError(f"{name} has no weights in safetensors (pickled ones are never fetched); choose a "
                                "model that does, or convert it with save_pretrained.")
    if "transformers_weights" in schemas.read(folder / "config.json", dict[str, Any], fix=AGAIN):
        raise ValueError(f"The config of {name} names its own file of weights (transformers_weights); remove that "
                         f"line, so that {WHOLE} is read.")
    found = [folder / WHOLE] if (folder / WHOLE).is_file() else _shards(folder, name)
    for path in found:
        _check_types(path, name)
    return found


def _shards(folder, name):
    names = set(schemas.read(folder / INDEX, Index, fix=AGAIN)["weight_map"].values())
    for shard in names:
        plain = Path(shard).name == shard and shard.isprintable() and not set(shard) & set(":\\")
        if not plain or not shard.endswith(".safetensors"):
            raise ValueError(f"The index of {name} points to {schemas.shown(shard)}, and only .safetensors files in "
                             f"the model's own folder are read; {AGAIN}")
        if not (folder / shard).is_file():
            raise ValueError(f"{folder / shard} is missing; {AGAIN}")
    if not names:
        raise ValueError(f"{folder / INDEX} is damaged (it names no file); {AGAIN}")
    return sorted(folder / shard for shard in names)


def _check_types(path, name):
    """Refuse quantised and complex weights: transformers would read them as if they were ordinary numbers."""
    try:
        with safe_open(path, framework="pt") as file:
            types = {key: file.get_slice(key).get_dtype() for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"The weights of {name} are damaged ({path.name}: {schemas.said(error)}); {AGAIN}") from None
    for key, kind in types.items():
        if kind not in FLOATS and not key.endswith(BUFFERS):
            raise ValueError(f"{path}: {schemas.shown(key)} is of type {kind}, and weights are floating-point numbers; "
                             "choose a model that is not quantised.")


def check_values(model, name):
    """Raise ValueError when a weight of a loaded model is NaN or infinite."""
    checkpoints.check_weights(dict(model.named_parameters()), name, AGAIN)
