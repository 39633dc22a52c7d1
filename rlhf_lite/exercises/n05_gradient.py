"""Exercise 5.3: the policy gradient, from sampled responses and their scores."""

import torch

from rlhf_lite.exercises.cases import generator, loss_and_gradient
from rlhf_lite.exercises.checking import Exercise


def policy_gradient_loss(log_probs, scores):
    """(n,) log-probabilities of sampled responses and their scores -> a loss; its gradient is -∇E[score]."""
    return -(scores * log_probs).mean()


def _samples():
    drawn = [(-3 * torch.rand(n, generator=generator(16 + n)), torch.randn(n, generator=generator(40 + n)))
             for n in (1, 2, 9)]
    return [(-torch.rand(3, generator=generator(18)), torch.tensor([2.0, 0.0, -1.0])), *drawn,
            (-torch.rand(2, generator=generator(19)), torch.zeros(2))]  # nobody scored: nowhere to go


def _gradient(function, log_probs, scores):
    found = loss_and_gradient(function, log_probs, scores)
    return found | {"the loss": torch.zeros_like(found["the loss"])}  # its shape counts, its value does not


policy_gradient = Exercise(
    "5.3", "the policy gradient", 10, 2,
    ("Look at the last line of the derivation: what is averaged, and over what? And an optimizer goes down, not up.",
     "Replace the expectation by a mean over the samples. Whatever stands behind the ∇ becomes the loss, with a minus: "
     "then its gradient is minus the one you want.",
     "Per response the score times its log-probability, the mean over all of them, and a minus: "
     "`-(scores * log_probs).mean()`."),
    task="`log_probs` (batch,) are the log-probabilities of the responses that were sampled, through which the "
         "gradient flows; `scores` (batch,) are what they earned. Return a loss, one number as a tensor, whose "
         "gradient is *minus* the formula's estimate from this batch: an optimizer goes down the loss, and that "
         "must be up the mean score. The gradient counts, the value of the loss does not.",
    course=policy_gradient_loss, cases=_samples, observe=_gradient)


@policy_gradient.mistake("the sign is flipped: an optimizer goes down the loss, so this one makes bad answers "
                         "likelier.")
def _downhill(log_probs, scores):
    return (scores * log_probs).mean()


@policy_gradient.mistake("this weighs by the probability itself. The responses were *sampled*, so likely ones already "
                         "come up more often; with ∇π instead of ∇ log π they count twice.")
def _probabilities(log_probs, scores):
    return -(scores * log_probs.exp()).mean()


@policy_gradient.mistake("this is the mean score times the mean log-probability: all answers get the same praise. Each "
                         "must be weighed by its own score.")
def _product_of_means(log_probs, scores):
    return -scores.mean() * log_probs.mean()


@policy_gradient.mistake("the scores are missing, so whatever was sampled becomes likelier.")
def _without_scores(log_probs, scores):
    return -log_probs.mean()


@policy_gradient.mistake("this is a sum, which grows with the batch. An expectation is estimated by a mean.")
def _sum(log_probs, scores):
    return -(scores * log_probs).sum()


@policy_gradient.mistake("the mean score is subtracted first. That is a good idea, and the next section's (a baseline, "
                         "which takes away noise), but a mean that contains the answer's own score also makes the step "
                         "a little too short. Here, take the plain scores.")
def _minus_the_mean(log_probs, scores):
    return -((scores - scores.mean()) * log_probs).mean()


@policy_gradient.mistake("only the signs of the scores are used. A better answer must count for more.")
def _signs(log_probs, scores):
    return -(scores.sign() * log_probs).mean()


EXERCISES = [policy_gradient]
