"""Exercise 5.3: the policy gradient, from sampled responses and their scores."""

import torch

from rlhf_lite.exercises.cases import generator
from rlhf_lite.exercises.checking import Exercise


def policy_gradient_loss(log_probs, scores):
    """(n,) log-probabilities of sampled responses and their scores -> a loss; its gradient is -∇E[score]."""
    return -(scores * log_probs).mean()


def _samples():
    return [(-3 * torch.rand(5, generator=generator(16)), torch.randn(5, generator=generator(17))),
            (-torch.rand(3, generator=generator(18)), torch.tensor([2.0, 0.0, -1.0]))]


def _gradient(function, log_probs, scores):
    """The loss's gradient with respect to the log-probabilities; the value of the loss says nothing."""
    log_probs = log_probs.clone().requires_grad_()
    loss = function(log_probs, scores)
    if loss is None:
        return None
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        raise TypeError("the loss should be one number (a scalar tensor) that depends on log_probs with a gradient; "
                        "is there a mean, and no detach or item?")
    return torch.autograd.grad(loss, log_probs)[0]


policy_gradient = Exercise(
    "5.3", "the policy gradient", 10, 2,
    ("Replace the expectation by a mean over the samples. Whatever stands behind the ∇ becomes the loss, with a minus: "
     "optimizers walk downhill.",
     "Per response the score times its log-probability, the mean over all of them, and a minus: "
     "`-(scores * log_probs).mean()`."),
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


EXERCISES = [policy_gradient]
