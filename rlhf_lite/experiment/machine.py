"""The machine that made a run: its versions, its packages' licences, and the peak memory."""

import platform
import sys
from importlib import metadata

import psutil
import torch
import transformers


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
    try:
        import resource  # on Linux and macOS
    except ImportError:  # neither of them: what is held now is all that can be said
        return found.rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, the others kilobytes
