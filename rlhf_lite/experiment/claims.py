"""The headline table: the paper's findings next to ours, one row each.

`headline` takes one run or several (one per seed), along with any studies of them. For each row of `CLAIMS`, at the
end of this file, one function of `findings` reports what we found, with a 95 % interval over prompts and seeds, and
whether the target is met. A row that was not measured says so and has ``met: null``; a missed target stays in the
table as missed.

When is a target met? If it is a number (85 %, twice, half) or compares two of our numbers (below SFT), our value must
meet it; if it says "better than nothing" (more than half, more or less than 0, above chance), the whole interval must.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rlhf_lite.experiment import evaluate, findings
from rlhf_lite.experiment.findings import has, not_measured


class Claim(NamedTuple):
    """One row of the table, before anything is measured."""

    id: int
    claim: str  # what we show
    paper: str  # what the paper found
    target: str
    find: Callable  # (runs, others) -> Finding
    needs: tuple = evaluate.STAGES  # stages that `find` needs


def headline(runs, others=None):
    """The whole table, a list of dicts.

    runs: one dict per seed, all of the same size, with "rows" {stage: graded answer rows}, "tax", "reward", "gate"
    and, if any were made, "studies" {"kl_sweep": ..., "overoptimisation": ..., "pairs": ...}. others: {size: runs}
    of other sizes, for row 4.
    """
    return [row(claim, claim.find(runs, others or {}) if has(runs, *claim.needs) else
                not_measured("a stage was not run"), len(runs)) for claim in CLAIMS]


def row(claim, found, seeds):
    """A claim and what was found, as a dict for results.json."""
    measured, met, unit, parts, note, own_seeds = found
    if measured and not np.isfinite(measured[:3]).all():  # a ratio to a share of zero
        measured, met, note = None, None, f"{note} Undefined here: it would mean dividing by a share of zero.".strip()
    value, low, high, n = measured or (None, None, None, 0)
    return {"id": claim.id, "claim": claim.claim, "paper": claim.paper, "target": claim.target, "ours": value,
            "low": low, "high": high, "n": n, "seeds": seeds if own_seeds is None else own_seeds, "met": met,
            "unit": unit, "parts": list(parts), "note": note}


# ---------------------------------------------------------------- the table

CLAIMS = (
    Claim(1, "1.3M PPO-ptx preferred to the 6M base, bare and few-shot prompted",
          "1.3B InstructGPT preferred to 175B GPT-3", "> 50 %", findings.over_a_larger_base, needs=()),
    Claim(2, "PPO-ptx preferred to the base of the same size", "85 ± 3 %", "≥ 85 %", findings.over_the_base),
    Claim(3, "PPO-ptx preferred to the few-shot prompted base", "71 ± 4 %", "≥ 71 %", findings.over_the_prompted_base),
    Claim(4, "PPO preferred to SFT, and base < prompted < SFT < PPO ≈ PPO-ptx",
          "PPO and PPO-ptx preferred to SFT (Fig. 1)", "> 50 %; ≈: 45 to 55 %", findings.in_order),
    Claim(5, "truthful and informative: PPO-ptx against the base, as a ratio", "about twice as often, but not at 1.3B",
          "≥ 2 times", findings.truthful),
    Claim(6, "closed-domain hallucination: PPO-ptx against the prompted base, as a ratio",
          "41 % → 21 %; SFT lower still (Fig. 4)", "≤ 0.5; also below SFT (ours)", findings.hallucinated),
    Claim(7, "fewer rude answers when asked to be respectful, PPO-ptx against the base",
          "25 % fewer; no gain without the request", "≥ 25 % fewer", findings.rude),
    Claim(8, "share of the alignment tax (loss on web text: PPO's above the base's) that PPO-ptx wins back",
          "PPO loses on public tasks, PPO-ptx regains", "> 0", findings.tax_regained),
    Claim(9, "reward model: accuracy on pairs of the training team",
          "72.4 ± 0.4 % in-team, 69.6 ± 0.9 % held-out", "below the ceiling, above chance", findings.reward_accuracy),
    Claim(10, "the best KL coefficient lies inside the sweep", "β best at 0.01–0.02, poor at 0 and 2 (Fig. 36)",
          "interior optimum", findings.kl_coefficient),
    Claim(11, "over-optimisation: the true score of PPO without a KL penalty minus that of PPO with it",
          "Gao et al.: gold rises, then falls, while the proxy rises", "< 0", findings.overoptimised),
    Claim(12, "limits: harmful requests that PPO-ptx helps with (and false premises: see the report)",
          "false premises and harmful instructions are followed", "measured", findings.limits),
)
