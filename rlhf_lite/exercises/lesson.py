"""The first cell of every notebook: where am I, how long will it take, which models do I have?"""

import os
import platform
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
import transformers

from rlhf_lite import checkpoints, files, models, plots, schemas
from rlhf_lite.exercises import checking

TIMES = files.DATA / "results" / "notebooks.json"
AGAIN = "restore it with: git checkout -- data/results/notebooks.json"


@dataclass(frozen=True)
class Lesson:
    """What a notebook needs to know about the machine it runs on."""

    notebook: str
    device: torch.device
    fast: bool

    def pick(self, full, fast):
        """`full` in a lesson, `fast` in a test run (RLHF_LITE_FAST=1), e.g. for sizes and numbers of steps."""
        return fast if self.fast else full

    def policy(self, stage="sft", size="1.3m"):
        """A shipped policy: stage base, sft, ppo or ppo_ptx."""
        return checkpoints.load_policy(files.MODELS / f"{stage}-{size}", self.device)

    def reward_model(self, size="1.3m"):
        """The shipped reward model."""
        return checkpoints.load_scalar(files.MODELS / f"reward-{size}", self.device)

    def tokenizer(self):
        """The town's tokenizer."""
        return models.load_tokenizer(files.MODELS / "tokenizer")

    def predict(self, name, question, choices=(), unit="", close=0):
        """A box to type a prediction into, before a cell answers it; see `widgets.predict`."""
        from rlhf_lite.widgets.predict import PredictionBox  # only here: not every lesson needs widgets
        return PredictionBox(checking.progress_file(), f"{self.notebook} {name}", question, choices, unit, close)

    def outcome(self, name, was):
        """Print the answer to a prediction beside what was predicted; was: a number or one of the choices."""
        from rlhf_lite.widgets.predict import settle
        print(settle(checking.progress_file(), f"{self.notebook} {name}", was))

    def predictions(self):
        """How well did you predict? A table of this notebook's predictions."""
        from rlhf_lite.widgets.predict import read, summary
        mine = {name: entry for name, entry in read(checking.progress_file()).items()
                if name.startswith(f"{self.notebook} ")}
        rows, sentence = summary(mine)
        print(sentence)
        return plots.table(("what was asked", "you", "it was", ""), rows)


def setup(notebook, strict=False, seed=0):
    """Prepare a notebook ("04"): set the seed and the plot style, print a line about the machine; returns a `Lesson`.

    strict: every `check` must be ✅, or the cell fails. The solutions run like this.
    """
    files.need_course()
    checking._strict = strict
    torch.manual_seed(seed)
    plt.rcParams.update(plots.STYLE | {"axes.prop_cycle": plt.cycler(color=list(plots.COLOURS.values())),
                                       "figure.figsize": (7, 3.2), "text.parse_math": True})
    lesson = Lesson(notebook, models.pick_device("auto"), os.environ.get("RLHF_LITE_FAST") == "1")
    where = torch.cuda.get_device_name() if lesson.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
          f"{where}" + (", fast settings" if lesson.fast else ""))
    took = recorded(notebook)
    if took:
        print(f"All cells together took {took['minutes']:.1f} minutes on {cores(took)} when we last measured.")
    return lesson


def recorded(notebook, path=TIMES):
    """The last recorded run at full length: {"minutes", "memory_gib", "threads", "date", ...}, or None."""
    try:
        return schemas.read(path, schemas.Times, {"notebooks": {}}, AGAIN)["notebooks"].get(notebook)
    except (ValueError, OSError) as error:
        print(f"({error})")  # a lesson can do without
        return None


def cores(entry):
    """The CPU cores of a recorded run as a phrase, and its computing time if it had to share them."""
    words = "one CPU core" if entry["threads"] == 1 else f"{entry['threads']} CPU cores"
    shared = entry.get("cpu_minutes", entry["minutes"]) < 0.9 * entry["minutes"] and entry["threads"] == 1
    return f"{words} shared with other programs ({entry['cpu_minutes']:.0f} of them computing)" if shared else words
