"""Exercises of notebook 03: rankings."""

from rlhf_lite.exercises import n03_agreement, n03_noise

LESSON = {
    "title": "Rankings",
    "promise": "Nobody can write down what a good answer is, but anybody can say which of two is better. You rank a "
               "few answers blind, ten simulated labelers rank the same ones, and you measure how far each of you can "
               "be trusted.",
    "minutes": 110, "needs": "notebook 02, or nothing: it starts from shipped models", "step": "2, comparisons",
    "aims": ["turn a ranking with ties into pairs, and two labelers' pairs into an agreement",
             "say why labelers disagree, and what ceiling that sets for every reward model",
             "detect a labeler's preference for length, and cancel out one for position"],
}

EXERCISES = [*n03_agreement.EXERCISES, *n03_noise.EXERCISES]
