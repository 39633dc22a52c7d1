"""Exercises of notebook 07: over-optimisation."""

from rlhf_lite.exercises import n07_best_of_n, n07_curves, n07_judges

LESSON = {
    "title": "Over-optimisation",
    "promise": "A reward model is a map of what people like. You walk off its edge on purpose, watch the measured "
               "reward rise while the answers get worse, and find out that this takes no bug.",
    "minutes": 125, "needs": "notebook 05 for the words; it starts from shipped models", "step": "between 2 and 3",
    "aims": ["choose the best of n answers, and estimate without luck what that gains",
             "say exactly how far best-of-n and the best penalised policy have moved",
             "recognise over-optimisation in its curve, in its fit and in the answers",
             "say what several reward models together can see, and what they cannot"],
}

EXERCISES = [*n07_best_of_n.EXERCISES, *n07_curves.EXERCISES, *n07_judges.EXERCISES]
