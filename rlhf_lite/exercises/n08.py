"""Exercises of notebook 08: the instruments that find silent bugs, and two diagnoses.

The idea: an instrument may be broken too. Most wrong answers here would send an ill patient home, or raise the alarm
for a healthy run. The patients are in `clinic`, the right instruments in `laboratory`.
"""

from rlhf_lite.exercises import n08_sampler, n08_step_zero, n08_unseen

LESSON = {
    "title": "The broken-PPO clinic",
    "promise": "Thirteen runs come to the clinic, and one more at the end. None has crashed, but one thing is wrong in "
               "each. You read their curves, build the instruments that find such bugs in a second, and make the last "
               "diagnosis on your own.",
    "minutes": 120, "needs": "notebook 05", "step": "3, PPO: what goes silently wrong",
    "aims": ["read the vital signs of a PPO run: reward, KL, clip fraction, length, entropy, explained variance",
             "write the checks that find most silent bugs before any training",
             "say what a stale or truncated sampler does to the gradient, and which of the two can be mended",
             "say what a curve can never show, and which test shows it instead"],
}

EXERCISES = [*n08_step_zero.EXERCISES, *n08_unseen.EXERCISES, *n08_sampler.EXERCISES, *n08_unseen.LAST]
