"""Exercises of notebook 10: after InstructGPT."""

import functools

import torch
import torch.nn.functional as F

from rlhf_lite import after, models, ppo_math, sampling, tiny_world
from rlhf_lite.exercises.cases import generator, mask_of
from rlhf_lite.exercises.checking import Exercise

LESSON = {
    "title": "After InstructGPT",
    "promise": "PPO keeps four models in memory. One line of algebra removes two of them, another idea removes one. "
               "You build both, DPO and RLOO, and put them beside PPO on one map: truth, distance, cost.",
    "minutes": 90, "needs": "notebooks 04 and 05 for the words; it starts from shipped models",
    "step": "what came after step 3",
    "aims": ["derive DPO from PPO's objective, and say what it keeps and what it gives up",
             "write the losses of DPO and RLOO, and name the usual mistakes in each",
             "compare three trained policies fairly: on the truth, on the KL, on the cost",
             "say which of our files becomes what in TRL, OpenRLHF and verl"],
}


def _draws(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def _value_and_gradient(function, *arguments):
    """What a loss returns, and its gradient with respect to the arguments that take one."""
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    loss = function(*arguments)
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        return loss
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return {"loss": loss.detach(),
            "gradients": [torch.zeros_like(a) if g is None else g for a, g in zip(leaves, gradients, strict=True)]}


# ---------------------------------------------------------------- 10.1 the formula read backwards

def _log_probs_and_beta():
    return [(torch.tensor([-2.0, -3.0]), torch.tensor([-3.0, -2.5]), 0.5), (-_draws(4).abs(), -_draws(4, seed=1).abs(), 2.0)]


def _reference_forgotten(log_probs, ref_log_probs, beta):
    return beta * log_probs


def _ratio_turned(log_probs, ref_log_probs, beta):
    return beta * (ref_log_probs - log_probs)


def _divided_by_beta(log_probs, ref_log_probs, beta):
    return (log_probs - ref_log_probs) / beta


def _quotient_of_logarithms(log_probs, ref_log_probs, beta):
    return beta * log_probs / ref_log_probs


def _no_logarithm(log_probs, ref_log_probs, beta):
    return beta * (log_probs - ref_log_probs).exp()


# ---------------------------------------------------------------- 10.2 DPO's loss

def _pairs():
    numbers = [_draws(5, seed=seed) for seed in range(2, 6)]
    far = [torch.tensor([-300.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.5]), torch.tensor([0.0, 2.0])]
    return [(*(x.clone().requires_grad_() for x in given[:2]), *given[2:], beta)
            for given, beta in ((numbers, 0.5), (far, 0.8))]


def _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected):
    return policy_chosen - ref_chosen - policy_rejected + ref_rejected


def _dpo_sign(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return after.dpo_loss(policy_rejected, policy_chosen, ref_rejected, ref_chosen, beta)


def _dpo_without_reference(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return after.dpo_loss(policy_chosen, policy_rejected, 0 * ref_chosen, 0 * ref_rejected, beta)


def _dpo_references_swapped(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return after.dpo_loss(policy_chosen, policy_rejected, ref_rejected, ref_chosen, beta)


def _beta_outside(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -beta * F.logsigmoid(_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)).mean()


def _beta_on_one_side(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -F.logsigmoid(beta * (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)).mean()


def _no_log(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -torch.sigmoid(beta * _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)).mean()


def _log_of_sigmoid(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return -torch.sigmoid(beta * _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)).log().mean()


def _dpo_sum(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    return len(policy_chosen) * after.dpo_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)


# ---------------------------------------------------------------- 10.3 log-probability of an answer

@functools.cache
def _policy():
    world = tiny_world.make_world()
    return tiny_world.tiny_policy(world, seed=0, sharpness=8, hidden_size=16).requires_grad_(False)


def _prompts_and_responses():
    return [(_policy(), [[1, 3], [1, 4, 3, 4]], [[3, 4, 0, 2], [4, 2]]),
            (_policy(), [[1, 4, 3], [1, 3]], [[2], [3, 3, 4]])]


def _token_table(policy, prompts, responses):
    """(batch, R) log-probabilities of the response tokens and their mask."""
    (prompt_ids, prompt_mask), (ids, mask) = sampling.pad_left(prompts), sampling.pad_right(responses)
    return sampling.token_log_probs(policy, torch.cat([prompt_ids, ids], 1), torch.cat([prompt_mask, mask], 1),
                                    prompt_ids.shape[1]), mask.bool()


def _mean_over_tokens(policy, prompts, responses):
    table, mask = _token_table(policy, prompts, responses)
    return torch.where(mask, table, 0.0).sum(dim=1) / mask.sum(dim=1)


def _padding_counted(policy, prompts, responses):
    return _token_table(policy, prompts, responses)[0].sum(dim=1)


def _last_token_left_out(policy, prompts, responses):
    table, mask = _token_table(policy, prompts, responses)
    return torch.where(mask & mask.roll(-1, dims=1) & (torch.arange(mask.shape[1]) < mask.shape[1] - 1), table, 0.0
                       ).sum(dim=1)


def _prompt_counted(policy, prompts, responses):
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    table, mask = _token_table(policy, [row[:1] for row in rows], [row[1:] for row in rows])
    return torch.where(mask, table, 0.0).sum(dim=1)


def _surprise(policy, prompts, responses):
    return -after.sequence_log_probs(policy, prompts, responses)


def _prompt_padded_on_the_right(policy, prompts, responses):
    (prompt_ids, prompt_mask), (ids, mask) = sampling.pad_right(prompts), sampling.pad_right(responses)
    table = sampling.token_log_probs(policy, torch.cat([prompt_ids, ids], 1),
                                     torch.cat([torch.ones_like(prompt_mask), mask], 1), prompt_ids.shape[1])
    return torch.where(mask.bool(), table, 0.0).sum(dim=1)


# ---------------------------------------------------------------- 10.4 the others as a baseline

def _groups():
    return [(torch.tensor([1.0, 0.0, 3.0, 0.0, 2.0, 2.5]), 3), (_draws(8, seed=6), 2)]


def _own_included(scores, group):
    groups = scores.view(-1, group)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def _wrong_denominator(scores, group):
    groups = scores.view(-1, group)
    return (groups - (groups.sum(dim=1, keepdim=True) - groups) / group).flatten()


def _whitened(scores, group):
    groups = scores.view(-1, group)
    return ((groups - groups.mean(dim=1, keepdim=True)) / (groups.std(dim=1, keepdim=True) + 1e-8)).flatten()


def _baseline_minus_score(scores, group):
    return -after.rloo_advantages(scores, group)


def _over_the_batch(scores, group):
    return after.rloo_advantages(scores, len(scores))


def _groups_interleaved(scores, group):
    return after.rloo_advantages(scores.view(group, -1).T.flatten(), group).view(-1, group).T.flatten()


# ---------------------------------------------------------------- 10.5 REINFORCE

def _advantages_of_answers():
    """The advantages hang on the log-probabilities, as they do when the KL is inside the reward."""
    cases = []
    for seed, lengths in ((7, (3, 1, 4, 2)), (8, (2, 4))):
        mask = mask_of(*lengths)
        log_probs = torch.where(mask, -_draws(*mask.shape, seed=seed).abs(), -7.0).requires_grad_()
        cases.append((log_probs, _draws(len(mask), seed=seed + 10), mask))
    return cases


def _with_a_live_advantage(function, log_probs, advantages, mask):
    """As in training: the KL penalty inside the advantage comes from the same forward pass."""
    log_probs = log_probs.detach().requires_grad_()
    alive = advantages - 0.3 * torch.where(mask, log_probs, 0.0).sum(dim=1)
    loss = function(log_probs, alive, mask)
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        return loss
    return {"loss": loss.detach(), "gradient": torch.autograd.grad(loss, log_probs)[0]}


def _answers(log_probs, mask):
    return torch.where(mask, log_probs, 0.0).sum(dim=1)


def _makes_good_answers_rarer(log_probs, advantages, mask):
    return -after.rloo_loss(log_probs, advantages, mask)


def _not_detached(log_probs, advantages, mask):
    return -(advantages * _answers(log_probs, mask)).mean()


def _mean_per_answer(log_probs, advantages, mask):
    return -(advantages.detach() * _answers(log_probs, mask) / mask.sum(dim=1)).mean()


def _mean_over_all_tokens(log_probs, advantages, mask):
    return -(advantages.detach()[:, None] * torch.where(mask, log_probs, 0.0)).sum() / mask.sum()


def _pads_pushed(log_probs, advantages, mask):
    return -(advantages.detach() * log_probs.sum(dim=1)).mean()


def _probabilities(log_probs, advantages, mask):
    return -(advantages.detach() * _answers(log_probs, mask).exp()).mean()


# ---------------------------------------------------------------- 10.6 how far from the reference

def kl_per_answer(log_probs, ref_log_probs, mask):
    """(batch, R) log-probabilities of sampled answers, their mask -> (batch,) k1 estimates of the KL, nats per answer."""
    return torch.where(mask, ppo_math.kl_k1(log_probs, ref_log_probs), 0.0).sum(dim=1)


def _sampled_answers():
    mask = mask_of(3, 1, 4)
    parts = [torch.where(mask, -_draws(3, 4, seed=seed).abs(), pad) for seed, pad in ((20, -6.0), (21, -2.0))]
    return [(*parts, mask), (parts[1], parts[0], mask)]


def _from_the_reference(log_probs, ref_log_probs, mask):
    return kl_per_answer(ref_log_probs, log_probs, mask)


def _nats_per_token(log_probs, ref_log_probs, mask):
    return kl_per_answer(log_probs, ref_log_probs, mask) / mask.sum(dim=1)


def _kl_with_padding(log_probs, ref_log_probs, mask):
    return (log_probs - ref_log_probs).sum(dim=1)


def _never_negative(log_probs, ref_log_probs, mask):
    return torch.where(mask, (log_probs - ref_log_probs).abs(), 0.0).sum(dim=1)


def _weighted_again(log_probs, ref_log_probs, mask):
    return torch.where(mask, log_probs.exp() * (log_probs - ref_log_probs), 0.0).sum(dim=1)


EXERCISES = [
    Exercise(
        "10.1", "the reward inside a policy", 5, 1,
        ("Take the logarithm of $\\pi^* = \\pi_{ref}\\,e^{r/\\beta}/Z$ and solve for $r$. Drop the term with $Z$.",
         "$r = \\beta\\,(\\log\\pi - \\log\\pi_{ref})$ and a constant."),
        after.implicit_reward, _log_probs_and_beta,
        {"the reference is missing. An answer is not good because it is likely, but because training made it likelier "
         "than it was.": _reference_forgotten,
         "the ratio is turned round: an answer that the policy likes more than the reference does has a positive "
         "reward.": _ratio_turned,
         "β divides here. It divides on the way from reward to policy; on the way back it multiplies.":
             _divided_by_beta,
         "this divides two logarithms. The logarithm of a ratio is their difference.": _quotient_of_logarithms,
         "this is β times the ratio itself; the logarithm got lost.": _no_logarithm}),
    Exercise(
        "10.2", "DPO's loss", 15, 2,
        ("Write the implicit reward of the chosen and of the rejected answer, and their difference. Then it is the loss "
         "of a reward model: the mean of −log σ(difference).",
         "`margin = beta * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))`, then "
         "`-F.logsigmoid(margin).mean()`."),
        after.dpo_loss, _pairs,
        {"the sign is flipped: this makes rejected answers likelier.": _dpo_sign,
         "the references have dropped out. Without them the loss only asks that the chosen answer be likelier than the "
         "rejected one, and nothing remembers where the policy came from.": _dpo_without_reference,
         "the two reference numbers are swapped: each answer is compared with the other one's starting point.":
             _dpo_references_swapped,
         "β stands outside the logarithm, where it only scales the step. It belongs inside the σ: it says how many nats "
         "of movement one unit of reward is worth.": _beta_outside,
         "β reaches only one of the two answers. Both implicit rewards carry it, otherwise a pair that moved together "
         "would not have margin 0.": _beta_on_one_side,
         "the logarithm is missing: this is minus a probability, and its gradient dies for pairs that are badly wrong, "
         "just those that should move.": _no_log,
         "log(σ(x)) is right on paper, but σ(−300) is 0 in 32 bits and its logarithm −∞. `F.logsigmoid` does both "
         "safely.": _log_of_sigmoid,
         "this is a sum over pairs. Take the mean, otherwise the step grows with the batch.": _dpo_sum},
        observe=_value_and_gradient),
    Exercise(
        "10.3", "how likely is a whole answer?", 15, 2,
        ("Pad prompts on the left and responses on the right, put them side by side, and ask `token_log_probs`. What it "
         "says at padding means nothing.",
         "`prompt_ids, prompt_mask = pad_left(prompts, models.device_of(policy))`, `ids, mask` likewise with `pad_right`, "
         "both concatenated with "
         "`torch.cat([...], dim=1)`; then `torch.where(mask.bool(), table, 0.0).sum(dim=1)`."),
        after.sequence_log_probs, _prompts_and_responses,
        {"this is a mean over tokens. The probability of an answer is a product, so its logarithm is a sum. (Some later "
         "losses take the mean on purpose; then it is not DPO any more, and π* is another one.)": _mean_over_tokens,
         "padding is counted: the same answer gets another number in another batch.": _padding_counted,
         "the last token is left out. It is END, or where the answer was cut off; a policy that never hears about END "
         "does not learn when to stop.": _last_token_left_out,
         "the prompt is counted as well. The policy does not choose the prompt. (In a DPO pair it would even cancel, "
         "which is why this mistake can hide for long.)": _prompt_counted,
         "this is minus the log-probability, the surprise.": _surprise,
         "the prompts are padded on the right, so that padding stands between question and answer.":
             _prompt_padded_on_the_right}),
    Exercise(
        "10.4", "the others as a baseline", 10, 2,
        ("Put the scores into a table with one row per prompt: `scores.view(-1, group)`. The mean of the others is "
         "(sum of the row − own score) / (group − 1).",
         "`groups = scores.view(-1, group)`; `others = (groups.sum(dim=1, keepdim=True) - groups) / (group - 1)`; "
         "return `(groups - others).flatten()`."),
        after.rloo_advantages, _groups,
        {"the answer's own score is part of its baseline. Leave it out: an answer should not be compared with itself. "
         "(The direction survives, but everything comes out (group − 1)/group as large.)": _own_included,
         "the others are group − 1 in number, not group.": _wrong_denominator,
         "this divides by the group's spread. That is GRPO, not RLOO: a group that differs by a hair gets advantages as "
         "large as one that differs by a mile.": _whitened,
         "the sign is flipped: better than the others must be positive.": _baseline_minus_score,
         "the baseline runs over the whole batch. An easy prompt would then make all its answers look good; compare "
         "answers to the same prompt only.": _over_the_batch,
         "the groups are read in the wrong direction: answers to one prompt stand side by side, so a row of "
         "`scores.view(-1, group)` is one prompt.": _groups_interleaved}),
    Exercise(
        "10.5", "REINFORCE in one line", 10, 2,
        ("The whole answer is one action: sum its log-probabilities over its real tokens, multiply by its advantage, "
         "take the mean over answers, and mind the sign: it is a loss.",
         "`-(advantages.detach() * torch.where(mask, log_probs, 0.0).sum(dim=1)).mean()`. The advantage is a number, not "
         "a function of the weights."),
        after.rloo_loss, _advantages_of_answers,
        {"the sign is flipped: going down this loss makes good answers rarer.": _makes_good_answers_rarer,
         "the gradient also runs through the advantage. The value is right, so no curve will tell you; detach it.":
             _not_detached,
         "each answer's sum is divided by its length. A long bad answer is then punished less per token than a short "
         "one, and bad answers grow.": _mean_per_answer,
         "the mean runs over all tokens of the batch, not over answers: how much an answer counts would depend on how "
         "long the others are.": _mean_over_all_tokens,
         "padding is pushed too: after the end of an answer there is nothing to make likelier.": _pads_pushed,
         "this uses probabilities. The gradient of an expectation wants the logarithm: answers were already drawn as "
         "often as they are likely.": _probabilities},
        observe=_with_a_live_advantage),
    Exercise(
        "10.6", "how far has it moved?", 10, 1,
        ("The answers were sampled from the policy, so the mean of log π − log π_ref over them is KL(π‖π_ref). Per "
         "answer: the sum over its real tokens.",
         "`torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1)`."),
        kl_per_answer, _sampled_answers,
        {"the direction is turned round. With samples from the policy this is minus the KL.": _from_the_reference,
         "this is nats per token. Papers and our β speak of whole answers.": _nats_per_token,
         "padding is counted.": _kl_with_padding,
         "the absolute value makes every token count as distance. Single tokens may be negative; only the mean may "
         "not.": _never_negative,
         "each token is weighted by its probability. The sampling did that already.": _weighted_again}),
]
