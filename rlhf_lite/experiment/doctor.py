"""Is this machine ready? One page in plain words; for each fault, the fix.

The idea: every check is a function that returns a `Finding`. A fault stops something in the course; a note does not.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from rlhf_lite import checkpoints, files
from rlhf_lite.experiment import shipped

SETUP = "run: python setup_course.py"
GIB = 2**30


class Finding(NamedTuple):
    """ok: True, False for a fault, None for something to know. fix: what to do, if there is something to do."""

    ok: bool | None
    text: str
    fix: str = ""

    def __str__(self):
        mark = {True: "ok    ", False: "broken", None: "note  "}[self.ok]
        return f"{mark}  {self.text}" + (f"\n        -> {self.fix}" if self.fix else "")


def python():
    version, bits = sys.version_info[:2], 64 if sys.maxsize > 2**32 else 32
    good = (3, 11) <= version <= (3, 14) and bits == 64
    return Finding(good, f"Python {platform.python_version()} on {platform.system()}, {platform.machine()}",
                   "" if good else "install the 64-bit Python 3.12 from python.org, delete .venv and " + SETUP)


def memory(total=None, free=None):
    found = psutil.virtual_memory()
    total, free = total or found.total, free or found.available
    text = f"Memory: {free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free < 1.5 * GIB:
        return Finding(False, text, "close other programs; the notebooks take up to 1.7 GiB (09: 10.5)")
    return Finding(True, text) if free > 11 * GIB else Finding(None, text + "; enough for all notebooks but 09 in full "
                                                               "length (10.5 GiB)")


def disk(folder="."):
    free = shutil.disk_usage(folder).free
    text = f"Disk: {free / 1e9:.1f} GB free where you are"
    return Finding(free > 1e9, text, "" if free > 1e9 else "make room: a run takes up to 0.5 GB")


def writing(folder="."):
    here = Path(folder).resolve()
    try:
        with tempfile.TemporaryFile(dir=here):
            return Finding(True, f"Write access: results can be saved in {here}")
    except OSError as error:
        return Finding(False, f"Write access: nothing can be saved in {here} ({error.strerror})",
                       "go to a folder of your own, for example the course's my_work")


def pytorch():
    try:
        torch.ones(2, 2) @ torch.ones(2, 2)
    except RuntimeError as error:
        return Finding(False, f"PyTorch {torch.__version__} cannot compute ({error})", "delete .venv and " + SETUP)
    device = f"on the CPU with {torch.get_num_threads()} threads; no GPU, and none is needed"
    if torch.cuda.is_available():
        device = f"with the GPU {torch.cuda.get_device_name(0)} and {torch.get_num_threads()} CPU threads"
    elif torch.backends.mps.is_available():
        device = "on the CPU, which is fast enough; Apple's GPU is used with --device mps"
    elif shutil.which("nvidia-smi") and sys.platform == "linux" and torch.version.cuda is None:
        device += " (there is an NVIDIA GPU: python setup_course.py setup --torch gpu uses it)"
    return Finding(True, f"PyTorch {torch.__version__}, transformers {_version('transformers')}, {device}")


def widgets():
    """Whether buttons can work. Whether they do, only a click can tell: see `click_test`."""
    version, front = _version("ipywidgets"), _version("jupyterlab_widgets")
    if version is None:
        return Finding(False, "Widgets: ipywidgets is missing", SETUP)
    if _version("jupyterlab") and (front is None or (version[0] == "8") != (front[0] == "3")):
        return Finding(False, f"Widgets: ipywidgets {version} does not fit jupyterlab_widgets {front}", SETUP)
    keys = "with number keys" if _version("anywidget") else "without number keys (anywidget is missing)"
    return Finding(True, f"Widgets: ipywidgets {version}, {keys}")


def browser():
    try:
        webbrowser.get()
        return Finding(True, "Browser: JupyterLab opens in it")
    except webbrowser.Error:
        return Finding(None, "Browser: none is known here",
                       "copy the address that JupyterLab prints into any browser that reaches this machine")


def shipped_models():
    """A finding for every shipped model; each is read whole, and its sha256 compared."""
    folders, found = sorted(path for path in files.MODELS.glob("*-*") if path.is_dir()), []
    for folder in folders:
        try:
            card = checkpoints.load_card(folder)
            (checkpoints.load_scalar if card["kind"] == "scalar" else checkpoints.load_policy)(folder)
            found.append(Finding(True, f"{folder.name}: {card['parameters']:,} parameters"))
        except (ValueError, OSError, KeyError) as error:
            found.append(Finding(False, f"{folder.name}: {error}"))
    return found or [Finding(False, f"There are no shipped models in {files.MODELS}",
                             "clone the repository again, or make a base model with: python -m rlhf_lite pretrain")]


def shipped_files():
    """Whether everything else that the course ships is there and as it was: data/manifest.json."""
    wrong = [Finding(False, *sentence.split("; ", 1)) for sentence in shipped.check_manifest()]
    return wrong or [Finding(True, "Demonstrations, labelers, results and word lists: as they were shipped")]


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def click_test():
    """In a notebook: a button that says whether clicks reach Python. Elsewhere, nothing."""
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None or os.environ.get("NO_WIDGETS"):
        return
    try:
        import ipywidgets
        from IPython.display import display
    except ImportError:
        return
    button = ipywidgets.Button(description="Click me", layout=ipywidgets.Layout(width="auto"))
    said = ipywidgets.HTML("No button here, or nothing happens? Reload the page; then read docs/teaching/trouble.md, "
                           "&ldquo;Buttons do not appear, or do not react&rdquo;.")
    button.on_click(lambda _: setattr(said, "value", "&#10003; Clicks arrive: the widgets work."))
    display(ipywidgets.HBox([button, said]))


def this_machine():
    """What was found out about everything but the models."""
    return [check() for check in (python, pytorch, memory, disk, writing, widgets, browser)]


def doctor():
    """Print the page; returns 0 if everything that is needed is there."""
    files.utf8_output()
    found = this_machine()
    print("This machine\n" + "\n".join(map(str, found)))
    course = shipped_models() + shipped_files()
    print("\nWhat the course ships\n" + "\n".join(map(str, course)))
    click_test()
    broken = sum(finding.ok is False for finding in found + course)
    print("\nReady." if not broken else f"\nBroken: {broken}. Each of these lines says what to do.")
    return int(broken > 0)
