"""Exercises of notebook 01: demonstrations."""

from rlhf_lite.exercises import n01_answers, n01_rows, n01_writing

LESSON = {
    "title": "Demonstrations",
    "promise": "An assistant learns all its manners from answers that somebody wrote. You read them, write one, and "
               "check them as if the model depended on it, because it does.",
    "minutes": 75, "needs": "notebook 00, or nothing", "step": "1, demonstrations",
    "aims": ["read a demonstration data set and say what is in it and what is not",
             "write a demonstration that follows guidelines, and let a program fill in the paper's record of it",
             "split data so that the held-out part is really held out",
             "recognise answers that came from a template"],
}

EXERCISES = [*n01_writing.EXERCISES, *n01_rows.EXERCISES, *n01_answers.EXERCISES]
