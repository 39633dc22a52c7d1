"""What all figures share: names, colours and units, and how to read and write a number with its interval.

One colour and one marker per stage everywhere, from Okabe and Ito's palette, which colour-blind readers can tell
apart; lines without a stage differ in their dashes as well, so that they remain readable in grey.
"""

import math
import sys
from numbers import Real

STAGES = {"base": "Base", "prompted": "Base, few-shot prompted", "sft": "SFT", "ppo": "PPO", "ppo_ptx": "PPO-ptx"}
NAMES = STAGES | {"dpo": "DPO", "rloo": "RLOO", "ppo_ema": "PPO, averaged"}
COLOURS = {"base": "#7F7F7F", "prompted": "#CC79A7", "sft": "#E69F00", "ppo": "#0072B2", "ppo_ptx": "#009E73",
           "reward": "#D55E00", "oracle": "#222222", "dpo": "#009E73", "rloo": "#CC79A7",  # PPO-ptx never meets DPO
           "ppo_ema": "#56B4E9"}
MARKERS = {"base": "o", "prompted": "v", "sft": "s", "ppo": "D", "ppo_ptx": "^", "reward": "o", "oracle": "P",
           "dpo": "^", "rloo": "v", "ppo_ema": "d"}
GREY = "#888888"  # lines of reference
# name: (label, kind, direction that is better: 1 more, -1 less, 0 neither)
MEASURES = {
    "score": ("True score (0–1)", "score", 1), "overall": ("Overall grade (1–7)", "grade", 1),
    "good": ("Good answers (grade 6–7)", "share", 1), "finished": ("Ends by itself", "share", 1),
    "truthful_informative": ("Truthful and informative", "share", 1),
    "truthful_beliefs": ("... on common beliefs", "share", 1),
    "truthful_residents": ("... on residents", "share", 1),
    "truthful_newcomers": ("... on newcomers, of whom nothing is known", "share", 1),
    "score_at_best": ("True score at the best temperature", "score", 1),
    "closed_hallucination": ("Closed-domain hallucination", "share", -1),
    "closed_rename": ("... asked to put in another name", "share", -1),
    "closed_reading_question": ("... reading questions", "share", -1), "closed_summary": ("... summaries", "share", -1),
    "closed_extract": ("... extraction", "share", -1), "closed_off_task": ("... by going off the task", "share", -1),
    "closed_wrong": ("... by saying something wrong", "share", -1),
    "closed_added": ("... by adding something", "share", -1),
    "rude_none": ("Rude, no instruction", "share", -1), "rude_biased": ("Rude, asked to be rude", "share", 0),
    "rude_respectful": ("Rude, asked to be respectful", "share", -1),
    "constraint": ("Keeps the constraint", "share", 1), "reading": ("Reading worksheets solved", "share", 1),
    "harmful_followed": ("Helps with a harmful request", "share", -1),
    "harmful_not_refused": ("Does not refuse a harmful request", "share", -1),
    "false_premise_followed": ("Follows a false premise", "share", -1),
    "length": ("Answer length (tokens)", "tokens", 0), "kl": ("KL from SFT (nats per answer)", "nats", 0),
    "web_loss": ("Loss on web text (nats per token)", "nats", -1), "proxy": ("Proxy score (reward model)", "score", 0)}
STYLE = {"font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10.5, "axes.titlelocation": "left",
         "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.grid": True,
         "grid.color": "#E6E6E6", "grid.linewidth": 0.8, "axes.axisbelow": True, "text.color": "#222222",
         "xtick.color": "#444444", "ytick.color": "#444444", "axes.labelcolor": "#222222", "lines.linewidth": 1.8,
         "text.parse_math": False,  # names and answers are text, whatever signs they hold
         "legend.frameon": False, "figure.facecolor": "white", "savefig.facecolor": "white"}

# A Figure made without pyplot (no window, no leak) shows as text in a notebook until IPython is told.
_shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
if getattr(_shell, "kernel", None) is not None:
    from IPython.core.pylabtools import select_figure_formats
    select_figure_formats(_shell, {"png"})


def interval(entry):
    """{"value", "low", "high"}, a `stats.Interval` or a number -> (value, low, high); None where not measured."""
    entry = entry._asdict() if hasattr(entry, "_asdict") else entry if isinstance(entry, dict) else {"value": entry}
    known = {key: float(x) for key, x in entry.items() if isinstance(x, Real) and math.isfinite(x)}
    return tuple(known.get(key, known["value"]) for key in ("value", "low", "high")) if "value" in known else None


def measure(name):
    """(label, kind, better direction) of a measure; an unknown name is treated as a share, where more is better."""
    loss = name.endswith("loss")
    return MEASURES.get(name, (name.replace("_", " ").capitalize(), "nats" if loss else "share", -1 if loss else 1))


def written(value, kind):
    """A number as the report writes it: "62 %", "0.54", "3.1"."""
    if kind == "share":
        return f"{100 * value:.1f} %" if 0 < abs(value) < 0.0995 else f"{100 * value:.0f} %"
    return f"{value:.1f}" if kind == "tokens" else f"{value:.2f}"
