"""Exercises of notebook 05: PPO with a KL penalty."""

from rlhf_lite.exercises import n05_advantages, n05_gradient, n05_kl, n05_losses, n05_step

LESSON = {
    "title": "PPO with a KL penalty",
    "promise": "The heart of RLHF, twice: first in a world of six tokens, where the best possible policy can be "
               "written down and PPO has to find it; then in Pebbleford, once you have built every piece yourself.",
    "minutes": 240, "needs": "notebooks 02 and 04, or nothing: it starts from shipped models",
    "step": "3, reinforcement learning",
    "aims": ["say what the KL penalty does, and write down the policy it makes best",
             "build every piece of a PPO step: log-probabilities, shaped rewards, advantages, two clipped losses",
             "check a PPO loop against exact numbers, and against what must hold before its first step",
             "read one answer token by token, and tell a real gain from a model that only slips less"],
}

EXERCISES = [*n05_kl.EXERCISES[:2], *n05_gradient.EXERCISES, *n05_kl.EXERCISES[2:], *n05_advantages.EXERCISES,
             *n05_losses.EXERCISES, *n05_step.EXERCISES]
