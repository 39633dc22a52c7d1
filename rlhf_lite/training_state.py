"""Training states: an interrupted training goes on as if nothing had happened.

The idea: one file, `training.safetensors`, holds the weights, the optimizers' moments, the random states and what
defines the run. It is either the old one or the new one, never half of each, and its sha256 is checked on reading.

Left out: training states spread over several processes.
"""

import hashlib
import json
import random
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rlhf_lite import checkpoints, files, schemas

STATE = "training.safetensors"
START_OVER = "delete it to start this training over."


def save(folder, tensors, state):
    """Write tensors, a JSON-able dict and the random states of Python and PyTorch as one file in `folder`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checkpoints.check_weights(tensors, "The training state", "training has diverged; start it over with a lower lr.")
    tensors["rng/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    version, numbers, gauss = random.getstate()
    metadata = {"state": json.dumps(files.strict(state)), "python_rng": json.dumps([version, list(numbers), gauss])}
    metadata["sha256"] = _state_sha256(tensors, metadata)
    with files.whole_file(Path(folder) / STATE, SafetensorError) as new:
        save_file(tensors, new, metadata=metadata)  # it reports a full disk as an error of its own


def load(folder):
    """(tensors, state) as saved, after restoring the random states; None if nothing was saved there."""
    path = Path(folder) / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = checkpoints.read(path)
        if metadata.get("sha256") != _state_sha256(tensors, metadata):
            raise ValueError("its sha256 is not the one it was saved with")
        state = schemas.parse(metadata["state"], dict, "its state", "")
        version, numbers, gauss = schemas.parse(metadata["python_rng"], schemas.PythonRandom, "its random state", "")
        torch.set_rng_state(tensors.pop("rng/torch"))
        random.setstate((version, tuple(numbers), gauss))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged ({schemas.said(error)}); {START_OVER}") from None
    cuda = tensors.pop("rng/cuda", None)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    return tensors, state


def _state_sha256(tensors, metadata):
    """Of everything in a training state: one wrong bit in a moment would end in other weights without a word."""
    digest = hashlib.sha256(repr([metadata.get("state"), metadata.get("python_rng")]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.shape} {tensor.dtype} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def gather(modules, optimizers):
    """{"name/parameter": tensor} for the weights of named modules and the moments of named optimizers."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.named_parameters()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    return tensors


def restore(tensors, modules, optimizers):
    """Restore what `gather` gathered; raises ValueError when the modules are not the same."""
    with torch.no_grad():
        for name, module in modules.items():
            for key, value in module.named_parameters():  # tied weights come once
                saved = tensors.get(f"{name}/{key}")
                if saved is None or saved.shape != value.shape:
                    raise ValueError(f"The saved training state does not fit: {name}/{key} is missing or has another "
                                     "shape; it belongs to another run, so delete it to start over.")
                checkpoints.check_weights({f"{name}/{key}": saved}, "The saved training state", START_OVER)
                value.copy_(saved)
    for name, optimizer in optimizers.items():
        moments = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}/") and key.count("/") == 2:  # a module of that name keeps its parameters there
                index, moment = key[len(name) + 1:].split("/")
                moments.setdefault(int(index), {})[moment] = value
        checkpoints.check_weights({f"{name}/{index}/{key}": value for index, found in moments.items()
                       for key, value in found.items()}, "The saved training state", START_OVER)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, found in moments.items():
            if index >= len(parameters) or any(m.ndim and m.shape != parameters[index].shape for m in found.values()):
                raise ValueError(f"The saved training state does not fit: the moments of {name} are those of another "
                                 f"model; {START_OVER}")
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def resume(folder, identity, modules, optimizers):
    """Restore modules, optimizers and random states from the last save in `folder`; returns its state, or None.

    identity: a JSON-able dict of everything that defines a run (settings, data). If the state was saved under a
    different identity, this raises ValueError rather than continuing with a mixture. folder may be None.
    """
    saved = load(folder) if folder else None
    if saved is None:
        return None
    tensors, state = saved
    old = schemas.check(state.get("identity"), dict, f"The training state in {folder}", START_OVER)
    if old != identity:
        changed = sorted(name for name in identity | old if old.get(name) != identity.get(name))
        raise ValueError(f"The training state in {folder} was made with other settings ({', '.join(changed)}); "
                         "use those, choose another folder, or delete it to start over.")
    restore(tensors, modules, optimizers)
    return state
