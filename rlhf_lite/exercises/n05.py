"""Exercises of notebooks 05a and 05b: PPO with a KL penalty."""

from rlhf_lite.exercises import (
    n05_advantages,
    n05_gradient,
    n05_kl,
    n05_log_probs,
    n05_losses,
    n05_rewards,
    n05_step,
    n05_whitening,
)

STEP = "3, reinforcement learning"
PARTS = {
    "05a": {
        "title": "PPO in a world of six tokens",
        "promise": "What RLHF maximises, and which way is up. In a world this small the best possible policy can be "
                   "written down, so you can see whether PPO finds it.",
        "minutes": 80, "needs": "notebooks 02 and 04 for the words; no models", "step": STEP,
        "aims": ["say what the KL penalty does, and write down the policy it makes best",
                 "derive the policy gradient, and say what the critic adds to it",
                 "name the three estimators of the KL, and say which belongs in the reward and which may be a loss",
                 "check a PPO loop against a goal that is known exactly"],
    },
    "05b": {
        "title": "PPO in the town",
        "promise": "You build every piece of PPO yourself, watch your loop arrive where it must, and then let it loose "
                   "on Pebbleford. At the end a model follows your own rankings.",
        "minutes": 190, "needs": "notebook 05a; it starts from shipped models", "step": STEP,
        "aims": ["say who holds which weights in PPO, who is trained, and who only answers questions",
                 "build every piece of a PPO step: log-probabilities, shaped rewards, advantages, two clipped losses",
                 "check a loop before its first step, and against a goal that is known",
                 "read one answer token by token, and tell a real gain from a model that only slips less"],
    },
}

EXERCISES = [*n05_kl.EXERCISES, *n05_gradient.EXERCISES, *n05_log_probs.EXERCISES, *n05_rewards.EXERCISES,
             *n05_advantages.EXERCISES, *n05_whitening.EXERCISES, *n05_losses.EXERCISES, *n05_step.EXERCISES]
