"""The machine that made a run: versions, licences, peak memory, and whether what the course ships is whole there."""

import platform
import sys
from importlib import metadata

import psutil
import torch
import transformers

from rlhf_lite import checkpoints, files
from rlhf_lite.experiment import shipped


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "platform": platform.platform(terse=True)}


def licences():
    """{package: (version, licence)} of everything installed here, as the packages themselves say."""
    found = {}
    for package in metadata.distributions():
        said = package.metadata
        classifiers = [text.rpartition(" :: ")[2] for text in said.get_all("Classifier") or []
                       if text.startswith("License ::")]
        short = (said.get("License") or "").strip().split("\n")[0][:60]
        found[said["Name"]] = package.version, said.get("License-Expression") or ", ".join(classifiers) or short or "?"
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def peak_memory():
    """The most main memory that this process has held at any one time so far, in bytes."""
    found = psutil.Process().memory_info()
    if hasattr(found, "peak_wset"):  # Windows
        return found.peak_wset
    import resource  # the standard library of Windows does not have it; there we have returned

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, the others kilobytes


def examine():
    """What `python -m rlhf_lite doctor` prints: yields (line, whether all is well)."""
    found = versions()
    yield f"python {found['python']}, torch {found['torch']}, transformers {found['transformers']}", True
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (fine)"
    yield f"CPU threads: {torch.get_num_threads()}; GPU: {gpu}", True
    folders = sorted(path for path in files.MODELS.glob("*-*") if path.is_dir())
    for folder in folders:
        try:
            card = checkpoints.load_card(folder)
            (checkpoints.load_scalar if card["kind"] == "scalar" else checkpoints.load_policy)(folder)
            yield f"ok      {folder.name}: {card['parameters']:,} parameters", True
        except (ValueError, OSError) as error:
            yield f"broken  {folder.name}: {error}", False
    if not folders:
        yield (f"There are no shipped models in {files.MODELS}; clone the repository again, or make a base model with: "
               "python -m rlhf_lite pretrain"), False
    for sentence in shipped.check_manifest():
        yield f"broken  {sentence}", False
