"""Exercises of notebook 10: after InstructGPT."""

from rlhf_lite.exercises import n10_dpo, n10_grpo, n10_rloo

LESSON = {
    "title": "After InstructGPT",
    "promise": "PPO keeps four models in memory. One line of algebra removes two of them, another idea removes one. "
               "You build both, DPO and RLOO, and compare them with PPO on one map: truth, distance, cost. Then GRPO, "
               "switch by switch, and a reward that a program can check.",
    "minutes": 145, "needs": "notebooks 04 and 05 for the words; it starts from shipped models",
    "step": "what came after step 3",
    "aims": ["derive DPO from PPO's objective, and say what it keeps and what it gives up",
             "write the losses of DPO and RLOO, and name the usual mistakes in each",
             "say what each switch of GRPO does to the gradient, and watch a checker with a hole being exploited",
             "compare three trained policies fairly: on the truth, on the KL, on the cost",
             "say what each of our files corresponds to in TRL, OpenRLHF and verl"],
}

EXERCISES = [*n10_dpo.EXERCISES, *n10_rloo.EXERCISES, *n10_grpo.EXERCISES, *n10_rloo.LAST]
