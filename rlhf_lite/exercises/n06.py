"""Exercises of notebook 06: evaluation."""

from rlhf_lite.exercises import n06_intervals, n06_measures, n06_tax

LESSON = {
    "title": "Evaluation",
    "promise": "\"Preferred\", \"truthful\", \"forgot nothing\": you measure each of these claims on customers that no "
               "stage has met, put an interval on it, and learn what alignment cost.",
    "minutes": 120, "needs": "notebook 05, or nothing: it starts from shipped models",
    "step": "evaluation, and PPO-ptx",
    "aims": ["give every rival a fair chance: the same stop sequence, its own best temperature",
             "report a win rate with its ties and an interval that is neither too wide nor too narrow",
             "measure truthfulness, hallucination and rudeness without being fooled by an empty answer",
             "add pretraining gradients to a PPO step, and measure an alignment tax"],
}

EXERCISES = [*n06_intervals.EXERCISES, *n06_measures.EXERCISES, *n06_tax.EXERCISES, *n06_measures.LAST]
