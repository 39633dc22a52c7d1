"""Exercises of notebook 04: the reward model."""

from rlhf_lite.exercises import n04_losses, n04_measures

LESSON = {
    "title": "The reward model",
    "promise": "A network reads a prompt and an answer and returns one number. You write its losses, train one on "
               "rankings that you have just made, find out how good it could possibly be, and watch it change its mind "
               "word by word.",
    "minutes": 110, "needs": "notebook 03, or nothing: it starts from shipped models", "step": "2, reward model",
    "aims": ["read the score of an answer at the right token, however it is padded",
             "write the K-wise ranking loss, and say why one prompt is one batch element",
             "judge a reward model: accuracy against its ceiling, calibration, and what best-of-n gets out of it"],
}

EXERCISES = [*n04_losses.EXERCISES, *n04_measures.EXERCISES]
