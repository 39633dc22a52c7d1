"""Every figure and table of the course: plain numbers in, a matplotlib Figure out.

    from rlhf_lite import plots
    plots.gate(results["gate"])

| file | what it draws |
|---|---|
| `style`, `parts` | names, colours, units; the pieces that figures are made of |
| `results` | what a whole run found; the figures of the report |
| `curves` | lines: training, and what one number does to another |
| `rows` | one row per name: dots with intervals, bars, every value |
| `grids` | numbers in a grid: agreement, tokens |
| `points` | one dot per thing that was measured |
| `compare` | models side by side |
| `tea_room` | the tiny world in which everything is exact |
| `ppo_pictures` | diagrams of PPO as SVG: who holds which weights, a timeline of GAE |
| `tables` | answers and numbers as HTML |
| `diagrams` | what is connected with what, as SVG: the three steps, logits and tokens, pairs |

Every measured value comes with its 95 % interval, a dict {"value", "low", "high", "n"} or a `stats.Interval`; None and
nan mean "not measured" and are skipped.
"""

from rlhf_lite.plots.compare import ladder, methods, out_of_town
from rlhf_lite.plots.curves import (
    gradient_agreement,
    learning_curves,
    lines,
    ppo_curves,
    training_curves,
    what_data_buy,
)
from rlhf_lite.plots.diagrams import pair_matrix, three_steps, token_shift
from rlhf_lite.plots.grids import labeler_agreement, matrix, token_rows, token_strips
from rlhf_lite.plots.points import (
    beside_the_diagonal,
    bradley_terry,
    calibration,
    length_and_reward,
    length_control,
    near_ties,
)
from rlhf_lite.plots.ppo_pictures import gae_timeline, who_holds_what
from rlhf_lite.plots.results import (
    gate,
    overoptimisation,
    reward_model,
    stage_panels,
    sweep,
    temperatures,
    use_cases,
    win_rate_by_size,
)
from rlhf_lite.plots.rows import bars, interval_rows, stacked, stage_rows, strips
from rlhf_lite.plots.style import COLOURS, MARKERS, MEASURES, NAMES, STAGES, STYLE, interval, measure, written
from rlhf_lite.plots.tables import answers, table
from rlhf_lite.plots.tea_room import clipped_loss, exact_run, frontier, goodhart

__all__ = [
    "COLOURS", "MARKERS", "MEASURES", "NAMES", "STAGES", "STYLE", "answers", "bars", "beside_the_diagonal",
    "bradley_terry", "calibration", "clipped_loss", "exact_run", "frontier", "gae_timeline", "gate", "goodhart",
    "gradient_agreement", "interval", "interval_rows", "labeler_agreement", "ladder", "learning_curves",
    "length_and_reward", "length_control", "lines", "matrix", "measure", "methods", "near_ties", "out_of_town",
    "overoptimisation", "pair_matrix", "ppo_curves", "reward_model", "stacked", "stage_panels", "stage_rows",
    "strips", "sweep", "table", "temperatures", "three_steps", "token_rows", "token_shift", "token_strips",
    "training_curves", "use_cases", "what_data_buy", "who_holds_what", "win_rate_by_size", "written"]
