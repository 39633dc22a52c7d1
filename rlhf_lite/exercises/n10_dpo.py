"""Exercises 10.1 to 10.3, on DPO: the reward inside a policy, the loss, the log-probability of an answer."""

import functools

import torch
import torch.nn.functional as F

from rlhf_lite import dpo, sampling, tiny_world
from rlhf_lite.exercises.cases import draws
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 10.1 the formula read backwards

def _log_probs_and_beta():
    return [(torch.tensor([-2.0, -3.0]), torch.tensor([-3.0, -2.5]), 0.5),
            (-draws(4).abs(), -draws(4, seed=1).abs(), 2.0)]


formula_backwards = Exercise(
    "10.1", "the reward inside a policy", 5, 1,
    ("Take the logarithm of π* = π_ref exp(r/β)/Z. What is r?",
     "Take the logarithm of $\\pi^* = \\pi_{ref}\\,e^{r/\\beta}/Z$ and solve for $r$. Drop the term with $Z$.",
     "$r = \\beta\\,(\\log\\pi - \\log\\pi_{ref})$ plus a constant."),
    task="`log_probs` and `ref_log_probs` are log-probabilities of whole answers under the policy and the reference, "
         "tensors of the same shape; `beta` is a number. Return a tensor of that shape: the reward for which the "
         "policy would be the best one, with the term that is the same for all answers left out.",
    course=dpo.implicit_reward, cases=_log_probs_and_beta)


@formula_backwards.mistake("the reference is missing. An answer is not good because it is likely, but because training "
                           "made it likelier than it was.")
def _reference_forgotten(log_probs, ref_log_probs, beta):
    return beta * log_probs


@formula_backwards.mistake("the ratio is upside down: an answer that the policy likes more than the reference does "
                           "should have a positive reward.")
def _ratio_turned(log_probs, ref_log_probs, beta):
    return beta * (ref_log_probs - log_probs)


@formula_backwards.mistake("β divides here. It divides on the way from reward to policy; on the way back it "
                           "multiplies.")
def _divided_by_beta(log_probs, ref_log_probs, beta):
    return (log_probs - ref_log_probs) / beta


@formula_backwards.mistake("this divides two logarithms. The logarithm of a ratio is their difference.")
def _quotient_of_logarithms(log_probs, ref_log_probs, beta):
    return beta * log_probs / ref_log_probs


@formula_backwards.mistake("this is β times the ratio itself; the logarithm got lost.")
def _no_logarithm(log_probs, ref_log_probs, beta):
    return beta * (log_probs - ref_log_probs).exp()


# ---------------------------------------------------------------- 10.2 DPO's loss

def _pairs():
    numbers = [draws(5, seed=seed) for seed in range(2, 6)]
    far = [torch.tensor([-300.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.5]), torch.tensor([0.0, 2.0])]
    return [(*(x.clone().requires_grad_() for x in given[:2]), *given[2:], beta)
            for given, beta in ((numbers, 0.5), (far, 0.8))]


def _value_and_gradient(function, *arguments):
    """What a loss returns, and its gradient with respect to the arguments that take one."""
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    loss = function(*arguments)
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        return loss
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return {"loss": loss.detach(),
            "gradients": [torch.zeros_like(a) if g is None else g for a, g in zip(leaves, gradients, strict=True)]}


pair_loss = Exercise(
    "10.2", "DPO's loss", 15, 2,
    ("You know this loss from the reward model. What takes the place of the scores?",
     "Write down the implicit reward of the chosen and of the rejected answer, and their difference. The rest is the "
     "loss of a reward model: the mean of −log σ(difference).",
     "`margin = beta * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))`, then "
     "`-F.logsigmoid(margin).mean()`."),
    task="`policy_chosen`, `policy_rejected`, `ref_chosen` and `ref_rejected` (pairs,) are log-probabilities of whole "
         "answers; `beta` is a number. Return a tensor with one number through which a gradient can flow: the mean "
         "over the pairs of −log σ(implicit reward of the chosen − that of the rejected). It must be right for any "
         "difference, −300 included.",
    course=dpo.dpo_loss, cases=_pairs, observe=_value_and_gradient)


def _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected):
    return policy_chosen - ref_chosen - policy_rejected + ref_rejected


@pair_loss.mistake("the sign is flipped: this makes rejected answers likelier.")
def _dpo_sign(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return dpo.dpo_loss(policy_rejected, policy_chosen, ref_rejected, ref_chosen, beta)


@pair_loss.mistake("the references are missing. Without them, the loss only asks that the chosen answer be likelier "
                   "than the rejected one, and nothing remembers where the policy came from.")
def _dpo_without_reference(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return dpo.dpo_loss(policy_chosen, policy_rejected, 0 * ref_chosen, 0 * ref_rejected, beta)


@pair_loss.mistake("the two reference numbers are swapped: each answer is compared with the other one's starting "
                   "point.")
def _dpo_references_swapped(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return dpo.dpo_loss(policy_chosen, policy_rejected, ref_rejected, ref_chosen, beta)


@pair_loss.mistake("β is outside the logarithm, where it only scales the step. It belongs inside the σ: it says "
                   "how many nats of movement one unit of reward is worth.")
def _beta_outside(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -beta * F.logsigmoid(_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)).mean()


@pair_loss.mistake("β applies to only one of the two answers. Both implicit rewards need it, otherwise a pair that "
                   "moved together would not have margin 0.")
def _beta_on_one_side(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -F.logsigmoid(beta * (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)).mean()


@pair_loss.mistake("the logarithm is missing: this is minus a probability, and its gradient vanishes for pairs that "
                   "are badly wrong, the very ones that should move.")
def _no_log(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -torch.sigmoid(beta * _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)).mean()


@pair_loss.mistake("log(σ(x)) is right on paper, but σ(−300) is 0 in 32 bits and its logarithm −∞. `F.logsigmoid` does "
                   "both safely.")
def _log_of_sigmoid(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -torch.sigmoid(beta * _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)).log().mean()


@pair_loss.mistake("this is a sum over pairs. Take the mean, otherwise the step grows with the batch.")
def _dpo_sum(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return len(policy_chosen) * dpo.dpo_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)


# ---------------------------------------------------------------- 10.3 log-probability of an answer

@functools.cache
def _policy():
    world = tiny_world.make_world()
    return tiny_world.tiny_policy(world, seed=0, sharpness=8, hidden_size=16).requires_grad_(False)


def _prompts_and_responses():
    return [(_policy(), [[1, 3], [1, 4, 3, 4]], [[3, 4, 0, 2], [4, 2]]),
            (_policy(), [[1, 4, 3], [1, 3]], [[2], [3, 3, 4]])]


whole_answer = Exercise(
    "10.3", "how likely is a whole answer?", 15, 2,
    ("What has the policy chosen here: the prompt, the padding, END?",
     "Pad prompts on the left and responses on the right, put them side by side, and call `token_log_probs`. Ignore "
     "its results at padding.",
     "`prompt_ids, prompt_mask = pad_left(prompts, models.device_of(policy))`, `ids, mask` likewise with `pad_right`, "
     "both concatenated with "
     "`torch.cat([...], dim=1)`; then `torch.where(mask.bool(), table, 0.0).sum(dim=1)`."),
    task="`policy` is a model, `prompts` and `responses` are lists of lists of ids, one prompt per response, of "
         "different lengths. Return a tensor (batch,) through which a gradient can flow: log π(response | prompt), the "
         "sum over the response's tokens, END included. A row's number must not depend on the others in the batch.",
    course=dpo.sequence_log_probs, cases=_prompts_and_responses)


def _token_table(policy, prompts, responses):
    """(batch, R) log-probabilities of the response tokens and their mask."""
    (prompt_ids, prompt_mask), (ids, mask) = sampling.pad_left(prompts), sampling.pad_right(responses)
    return sampling.token_log_probs(policy, torch.cat([prompt_ids, ids], 1), torch.cat([prompt_mask, mask], 1),
                                    prompt_ids.shape[1]), mask.bool()


@whole_answer.mistake("this is a mean over tokens. The probability of an answer is a product, so its logarithm is a "
                      "sum. (Some later losses take the mean on purpose, but then it is no longer DPO, and π* is a "
                      "different one.)")
def _mean_over_tokens(policy, prompts, responses):
    table, mask = _token_table(policy, prompts, responses)
    return torch.where(mask, table, 0.0).sum(dim=1) / mask.sum(dim=1)


@whole_answer.mistake("padding is counted: the same answer gets different numbers in different batches.")
def _padding_counted(policy, prompts, responses):
    return _token_table(policy, prompts, responses)[0].sum(dim=1)


@whole_answer.mistake("the last token is left out. It is END, or the place where the answer was cut off; a policy that "
                      "never hears about END does not learn when to stop.")
def _last_token_left_out(policy, prompts, responses):
    table, mask = _token_table(policy, prompts, responses)
    return torch.where(mask & mask.roll(-1, dims=1) & (torch.arange(mask.shape[1]) < mask.shape[1] - 1), table, 0.0
                       ).sum(dim=1)


@whole_answer.mistake("the prompt is counted as well. The policy does not choose the prompt. (In a DPO pair it would "
                      "even cancel, which is why this mistake can hide for long.)")
def _prompt_counted(policy, prompts, responses):
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    table, mask = _token_table(policy, [row[:1] for row in rows], [row[1:] for row in rows])
    return torch.where(mask, table, 0.0).sum(dim=1)


@whole_answer.mistake("this is minus the log-probability, the surprise.")
def _surprise(policy, prompts, responses):
    return -dpo.sequence_log_probs(policy, prompts, responses)


@whole_answer.mistake("the prompts are padded on the right, so there is padding between question and answer.")
def _prompt_padded_on_the_right(policy, prompts, responses):
    (prompt_ids, prompt_mask), (ids, mask) = sampling.pad_right(prompts), sampling.pad_right(responses)
    table = sampling.token_log_probs(policy, torch.cat([prompt_ids, ids], 1),
                                     torch.cat([torch.ones_like(prompt_mask), mask], 1), prompt_ids.shape[1])
    return torch.where(mask.bool(), table, 0.0).sum(dim=1)


EXERCISES = [formula_backwards, pair_loss, whole_answer]
