"""Exercise 5.4: the log-probability of every response token, under left padding."""

import functools

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lite import models, sampling, tiny_world
from rlhf_lite.exercises.cases import generator
from rlhf_lite.exercises.checking import Exercise


@functools.cache
def _two_policies():
    """A Llama with rotary positions and a GPT-2 with learned ones: only the second notices wrong positions."""
    llama = tiny_world.tiny_policy(tiny_world.make_world(), seed=0, sharpness=8, hidden_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gpt2 = GPT2LMHeadModel(GPT2Config(
            vocab_size=5, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, bos_token_id=1, eos_token_id=2, pad_token_id=None)).eval()
        for parameter in gpt2.transformer.wpe.parameters():
            torch.nn.init.normal_(parameter)
        for parameter in gpt2.transformer.wte.parameters():
            torch.nn.init.normal_(parameter)
    return llama, gpt2


def _padded_rows():
    llama, gpt2 = _two_policies()
    sequences = torch.tensor([[0, 0, 1, 3, 4, 2], [1, 4, 3, 3, 2, 0], [0, 1, 4, 2, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]])
    draw = generator(22)
    random = torch.randint(3, 5, (2, 7), generator=draw)
    begins, ends = torch.tensor([[0], [2]]), torch.tensor([[7], [5]])
    real = ((torch.arange(7) >= begins) & (torch.arange(7) < ends)).long()
    return [(llama, sequences, mask, 3, 1.0), (gpt2, sequences, mask, 3, 1.0), (llama, sequences, mask, 3, 0.5),
            (gpt2, random, real, 4),  # without a temperature
            (llama, sequences[1:2, :5], mask[1:2, :5], 2, 1.0)]  # a single row, without padding


def _at_tokens(function, policy, sequences, mask, prompt_length, *temperature):
    """The results at real tokens (at padding, anything goes), and whether a step could follow their gradient."""
    got = function(policy, sequences, mask, prompt_length, *temperature)
    wanted = mask[:, prompt_length:].bool()
    if got.shape != wanted.shape:
        return {"the result": got, "carries a gradient": bool(got.requires_grad)}
    return {"the result": torch.where(wanted, got, 0.0), "carries a gradient": bool(got.requires_grad)}


left_padding = Exercise(
    "5.4", "log-probabilities under left padding", 15, 2,
    ("Three things have to be right: the model must know what is padding, each token needs the logits of the place "
     "*before* it, and the temperature belongs in front of the softmax.",
     "`models.logits(policy, sequences, attention_mask)` makes a forward pass with mask *and* positions. The response "
     "begins at column `prompt_length`, so its logits begin one column earlier, and the very last ones predict nothing "
     "that we have.",
     "Take `logits[:, prompt_length - 1:-1]`, divide by the temperature, `log_softmax` over the last dimension, "
     "`gather` the tokens `sequences[:, prompt_length:]`, and return what you gathered: "
     "`.gather(2, tokens[..., None]).squeeze(2)`."),
    task="`policy` is a language model. `sequences` (batch, length) are whole-number ids, with padding on the "
         "left and, after short answers, on the right; `attention_mask`, of the same shape, is 1 at real "
         "tokens. All responses begin at column `prompt_length`. `temperature` is 1.0 if none is given. Return "
         "a float tensor (batch, length − prompt_length): the log-probability of every response token, with a "
         "gradient. At padding the numbers do not count. `models.logits(policy, sequences, attention_mask)` is "
         "the forward pass; it takes care of the positions.",
    course=sampling.token_log_probs, cases=_padded_rows, observe=_at_tokens, tolerance=1e-3)


def _gathered(scores, tokens, temperature):
    return (scores / temperature).log_softmax(dim=-1).gather(2, tokens[..., None]).squeeze(2)


def _scores(policy, sequences, mask, positions=True):
    if mask is None:
        return policy(input_ids=sequences).logits
    if not positions:
        return policy(input_ids=sequences, attention_mask=mask).logits
    return models.logits(policy, sequences, mask)


@left_padding.mistake("logits and tokens are not shifted against each other. The logits at place t predict token "
                      "t + 1, so the first response token is scored at the last place of the prompt.")
def _no_shift(policy, sequences, mask, prompt_length, temperature=1.0):
    return _gathered(_scores(policy, sequences, mask)[:, prompt_length:], sequences[:, prompt_length:], temperature)


@left_padding.mistake("the shift is one too many: a logit is only one place before the token it scores.")
def _shift_by_two(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask)[:, prompt_length - 2:-2]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


@left_padding.mistake("the padding on the left was read as text. Without the attention mask, every short prompt begins "
                      "with a few PADs, and its answer is scored in a different context from the one it was sampled "
                      "in.")
def _no_mask(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, None)[:, prompt_length - 1:-1]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


@left_padding.mistake("the mask is there, but the positions are not. A model with learned positions (the check has a "
                      "small GPT-2) then thinks that a padded prompt starts in the middle; Llama's rotary positions "
                      "hide the mistake.")
def _no_positions(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask, positions=False)[:, prompt_length - 1:-1]
    return _gathered(scores, sequences[:, prompt_length:], temperature)


@left_padding.mistake("the temperature is missing. If tokens are sampled at 0.5 and scored at 1, the old and the new "
                      "policy differ before the first step.")
def _no_temperature(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length)


@left_padding.mistake("these are logits, not log-probabilities: they still lack the log of the sum over the "
                      "vocabulary.")
def _raw_logits(policy, sequences, mask, prompt_length, temperature=1.0):
    scores = _scores(policy, sequences, mask)[:, prompt_length - 1:-1] / temperature
    return scores.gather(2, sequences[:, prompt_length:, None]).squeeze(2)


@left_padding.mistake("the numbers are right, but they carry no gradient: is there a `no_grad`, a `detach` or `.data`? "
                      "The step in 5.12 has to push these very numbers.")
def _no_gradient(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length, temperature).detach()


@left_padding.mistake("these are probabilities. Take `log_softmax` instead of `softmax`: PPO adds and subtracts logs.")
def _probabilities(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length, temperature).exp()


@left_padding.mistake("the temperature divides the log-probabilities. It must divide the logits, before the softmax, "
                      "or the probabilities no longer add up to 1.")
def _temperature_after_softmax(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length) / temperature


@left_padding.mistake("the logits are multiplied by the temperature. Dividing by a temperature below 1 is what makes "
                      "the likely tokens likelier.")
def _times_temperature(policy, sequences, mask, prompt_length, temperature=1.0):
    return sampling.token_log_probs(policy, sequences, mask, prompt_length, 1 / temperature)


EXERCISES = [left_padding]
