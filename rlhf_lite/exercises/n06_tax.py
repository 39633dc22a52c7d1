"""Exercises 6.7 and 6.8: the alignment tax, measured and paid: loss per token, one step for two losses."""

import numpy as np
import torch

from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 6.7 loss per token

def loss_per_token(logits, ids, mask):
    """(batch, length, vocabulary) logits, (batch, length) ids and mask -> the mean of -log p in nats, over all real
    tokens except each document's first."""
    log_probs = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    real = mask[:, 1:].bool()
    return torch.where(real, -log_probs, 0.0).sum() / real.sum()


def _documents():
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 6, 8, generator=generator)
    ids = torch.randint(0, 8, (3, 6), generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]])
    return [(logits, ids, mask), (2 * logits.flip(0), ids.flip(1), mask)]


text_loss = Exercise(
    "6.7", "loss per token", 10, 2,
    ("Which logits have something to say about token t, and which tokens are nobody's prediction?",
     "The logits at t − 1 predict token t (exercise 2.3). The mask of the predicted token says which places are "
     "real.",
     "Take `logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])`; the loss is minus its sum where `mask[:, 1:]` "
     "is 1, divided by the number of those places."),
    task="`logits` (batch, length, vocabulary), `ids` (batch, length) and `mask` (batch, length), 1 at tokens and 0 at "
         "padding on the right. Return a tensor with one number: the mean of −log p in nats over *all* real tokens of "
         "the batch but each document's first, which nothing predicts.",
    course=loss_per_token, cases=_documents)


def _losses(logits, ids, mask):
    log_probs = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return -log_probs, mask[:, 1:].bool()


@text_loss.mistake("logits and ids are not shifted against each other: the model is asked to predict the very token "
                   "that it is reading.")
def _no_shift(logits, ids, mask):
    losses = -logits.log_softmax(dim=-1).gather(2, ids[..., None]).squeeze(2)
    return losses[mask.bool()].mean()


@text_loss.mistake("padding counts as text here, and every shorter document changes the number. Select with the mask.")
def _padding_counted(logits, ids, mask):
    return _losses(logits, ids, mask)[0].mean()


@text_loss.mistake("this is the mean of the documents' means. A token of a short note then weighs more than one of a "
                   "long letter; divide the sum over all tokens by their number.")
def _mean_of_documents(logits, ids, mask):
    losses, real = _losses(logits, ids, mask)
    return (torch.where(real, losses, 0.0).sum(dim=1) / real.sum(dim=1)).mean()


@text_loss.mistake("this is the loss per document. Longer documents have a larger loss with any model; divide by the "
                   "number of tokens.")
def _sum_per_document(logits, ids, mask):
    losses, real = _losses(logits, ids, mask)
    return losses[real].sum() / len(ids)


@text_loss.mistake("this is in bits. The course, like PyTorch's losses, counts in nats: natural logarithms.")
def _bits(logits, ids, mask):
    return loss_per_token(logits, ids, mask) / np.log(2)


@text_loss.mistake("this is the perplexity, exp of the loss. It is a fine number too, but differences of losses are "
                   "what adds up.")
def _perplexity(logits, ids, mask):
    return loss_per_token(logits, ids, mask).exp()


# ---------------------------------------------------------------- 6.8 one step for two losses

def joint_step(optimizer, ppo_loss, web_loss, ptx_coef):
    """One optimizer step on ppo_loss + ptx_coef · web_loss, with both gradients added in the same buffers."""
    ppo_loss().backward()
    (ptx_coef * web_loss()).backward()
    optimizer.step()
    optimizer.zero_grad()


def _steps():
    return [(0.3, [1.0, -2.0, 0.5]), (3.0, [0.2, 0.4, -1.0]), (0.0, [2.0, 1.0, 1.0])]


def _weights_after_steps(function, ptx_coef, start):
    """The weights after each of four steps of Adam on two bowls with different bottoms."""
    weights = torch.tensor(start, requires_grad=True)

    def bowl(bottom, width):
        return lambda: (torch.tensor(width) * (weights - torch.tensor(bottom)) ** 2).sum()

    optimizer = torch.optim.Adam([weights], lr=0.1, betas=(0.9, 0.95))
    seen = []
    for _ in range(4):
        function(optimizer, bowl([1.0, 1.0, 1.0], [1.0, 0.5, 2.0]), bowl([-1.0, 0.0, 2.0], [0.5, 2.0, 1.0]), ptx_coef)
        seen.append(weights.detach().clone())
    return torch.stack(seen)


two_losses = Exercise(
    "6.8", "one step for two losses", 10, 2,
    ("What does `backward()` do with gradients that are already there?",
     "`backward()` adds to the gradients that are already there. So two calls and one `step()` make a step on the "
     "sum.",
     "ppo_loss().backward(); (ptx_coef * web_loss()).backward(); optimizer.step(); optimizer.zero_grad()."),
    task="`optimizer` is any optimizer whose gradients are cleared; `ppo_loss` and `web_loss` are functions without "
         "arguments that return a loss; `ptx_coef` is a number. Take *one* step of the optimizer on ppo_loss + "
         "ptx_coef · web_loss, and leave the gradients cleared. Return nothing.",
    course=joint_step, cases=_steps, observe=_weights_after_steps)


@two_losses.mistake("these are two steps, one per loss. Adam scales every step to about lr, so the coefficient hardly "
                    "matters any more, and the second step undoes part of the first. The paper adds both gradients "
                    "in the same step.")
def _two_steps(optimizer, ppo_loss, web_loss, ptx_coef):
    for loss in (ppo_loss, lambda: ptx_coef * web_loss()):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()


@two_losses.mistake("the coefficient is missing: the web counts as much as the reward, whatever ptx_coef says.")
def _no_coefficient(optimizer, ppo_loss, web_loss, ptx_coef):
    joint_step(optimizer, ppo_loss, web_loss, 1.0)


@two_losses.mistake("the sign is flipped. Equation 2 *adds* log-likelihood to what is maximised, so the loss on web "
                    "text is added to what is minimised; yours unlearns English on purpose.")
def _minus(optimizer, ppo_loss, web_loss, ptx_coef):
    joint_step(optimizer, ppo_loss, web_loss, -ptx_coef)


@two_losses.mistake("the gradients are cleared between the two losses, so PPO's are lost and only the web is learnt.")
def _cleared_between(optimizer, ppo_loss, web_loss, ptx_coef):
    ppo_loss().backward()
    optimizer.zero_grad()
    (ptx_coef * web_loss()).backward()
    optimizer.step()
    optimizer.zero_grad()


@two_losses.mistake("the gradients are never cleared, so every step drags all earlier ones along. End with "
                    "zero_grad().")
def _never_cleared(optimizer, ppo_loss, web_loss, ptx_coef):
    ppo_loss().backward()
    (ptx_coef * web_loss()).backward()
    optimizer.step()


@two_losses.mistake("the coefficient is on PPO's loss. γ (our ptx_coef) weights the web text.")
def _coefficient_on_ppo(optimizer, ppo_loss, web_loss, ptx_coef):
    (ptx_coef * ppo_loss()).backward()
    web_loss().backward()
    optimizer.step()
    optimizer.zero_grad()


EXERCISES = [text_loss, two_losses]
