"""Rollouts: sample responses token by token, and ask what probability a policy gives them.

The idea: prompts are padded on the left, so that all responses begin in the same column; responses are padded
on the right. A mask marks which tokens were sampled, END included; it comes from the counted lengths and is
never guessed from ids. Nothing is appended that the policy did not choose. Every token of the vocabulary keeps
its probability: `generate` in transformers would silently keep only the 50 likeliest, which makes every KL wrong.

Left out: top-k, nucleus sampling, beams, and paged or continuous batching.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers.cache_utils import Cache, DynamicLayer

from rlhf_lite.models import PAD, at_least_float32, device_of, end_token, logits, position_arguments

# ---------------------------------------------------------------- padding

def pad_left(rows, device="cpu") -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Lists of ids -> (ids, mask), both (batch, longest) int64, with PAD and 0 on the left."""
    return _pad(rows, device, left=True)


def pad_right(rows, device="cpu") -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Lists of ids -> (ids, mask), both (batch, longest) int64, with PAD and 0 on the right."""
    return _pad(rows, device, left=False)


def _pad(rows, device, left):
    if not rows or not all(len(row) for row in rows):
        raise ValueError("There is nothing to pad: no rows, or a row without tokens.")
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, place] = torch.as_tensor(row)
        mask[index, place] = 1
    return ids.to(device), mask.to(device)


def length_batches(lengths, batch_size, seed=None, epoch=0):
    """Split range(len(lengths)) into batches of rows of similar length, so that little is padding.

    With a seed, the rows are shuffled and sorted only within pools of 20 batches, and then the batches are
    shuffled, so that training sees a different order in every epoch. Without a seed, the longest come first.
    """
    lengths = np.asarray(lengths)
    if seed is None:
        order = np.argsort(-lengths, kind="stable")
        return [order[start:start + batch_size] for start in range(0, len(order), batch_size)]
    rng = np.random.default_rng((seed, epoch))
    order, pool, batches = rng.permutation(len(lengths)), 20 * batch_size, []
    for start in range(0, len(order), pool):
        rows = order[start:start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[at:at + batch_size] for at in range(0, len(rows), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


# ---------------------------------------------------------------- rollouts

@dataclass
class Rollout:
    """A batch of sampled responses. P: width of the prompts, R: width of the responses."""

    sequences: Int[Tensor, "batch length"]  # P + R columns: PAD ... prompt, response ... PAD
    attention_mask: Int[Tensor, "batch length"]  # 1 for every token of a prompt or a response
    response_mask: Bool[Tensor, "batch response"]  # True for every sampled token, END among them
    prompt_length: int  # P
    finished: Bool[Tensor, "batch"]  # the response stopped with END

    @property
    def responses(self) -> Int[Tensor, "batch response"]:
        """(batch, R) ids, PAD after the end."""
        return self.sequences[:, self.prompt_length:]

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """(batch,) number of sampled tokens, END included."""
        return self.response_mask.sum(dim=1)

    def prompt_ids(self):
        """The prompts as lists of ids, without padding."""
        ids, mask = self.sequences[:, :self.prompt_length], self.attention_mask[:, :self.prompt_length].bool()
        return [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]

    def response_ids(self):
        """The responses as lists of ids, without padding; the last is END where the response finished."""
        return [row[keep].tolist() for row, keep in zip(self.responses, self.response_mask, strict=True)]


def take(rollout, rows):
    """The given rows of a rollout, without the columns that are padding in all of them."""
    mask, prompt = rollout.attention_mask[rows], rollout.prompt_length
    response_mask = rollout.response_mask[rows]
    first = int(mask[:, :prompt].any(dim=0).long().argmax())
    width = int(response_mask.sum(dim=1).max())
    keep = slice(first, prompt + width)
    return Rollout(rollout.sequences[rows][:, keep], mask[:, keep], response_mask[:, :width], prompt - first,
                   rollout.finished[rows])


def sample(policy, prompt_ids, max_new_tokens, temperature=1.0, greedy=False, generator=None):
    """Sample one response to each prompt (a list of lists of ids) and return a Rollout.

    A response ends with END or after max_new_tokens tokens; one whose last allowed token is END counts as
    finished. Tokens are drawn from softmax(logits / temperature) over the whole vocabulary; with greedy=True,
    the likeliest is taken instead. The generator must be on the policy's device.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (use greedy=True for the likeliest token).")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; at least 1 token must be sampled.")
    ids, mask = pad_left(prompt_ids, device_of(policy))
    limit = getattr(policy.config, "max_position_embeddings", None)
    if limit and ids.shape[1] + max_new_tokens > limit:
        raise ValueError(f"The longest prompt ({ids.shape[1]} tokens) and {max_new_tokens} new tokens exceed the "
                         f"model's context of {limit}; drop long prompts rather than cutting them.")
    was_training = policy.training
    policy.eval()  # with dropout we would sample from a different policy than the one we score
    with torch.inference_mode():
        responses, lengths = _decode(policy, ids, mask, max_new_tokens, temperature, greedy, generator)
    policy.train(was_training)
    responses, lengths = responses.clone(), lengths.clone()  # out of inference mode: autograd may keep them
    responses = responses[:, :int(lengths.max())]
    response_mask = torch.arange(responses.shape[1], device=ids.device) < lengths[:, None]
    finished = responses.gather(1, lengths[:, None] - 1).squeeze(1) == end_token(policy)
    return Rollout(torch.cat([ids, responses], dim=1), torch.cat([mask, response_mask.long()], dim=1), response_mask,
                   ids.shape[1], finished)


def _decode(policy, ids, mask, max_new_tokens, temperature, greedy, generator):
    """-> (batch, max_new_tokens) ids with PAD after END, and (batch,) lengths."""
    batch, device, end = len(ids), ids.device, end_token(policy)
    responses = torch.full((batch, max_new_tokens), PAD, device=device)
    lengths = torch.full((batch,), max_new_tokens, device=device)
    rows = torch.arange(batch, device=device)  # the rows still being computed, some of them perhaps finished
    going = torch.ones(batch, dtype=torch.bool, device=device)
    inputs, cache = ids, _new_cache(policy)
    for step in range(max_new_tokens):
        positions = {name: value[:, -inputs.shape[1]:] for name, value in position_arguments(policy, mask).items()}
        output = policy(input_ids=inputs, attention_mask=mask, past_key_values=cache, use_cache=True,
                        logits_to_keep=1, **positions)
        cache = output.past_key_values
        tokens = _choose(output.logits[:, -1].float() / temperature, greedy, generator)
        responses[rows[going], step] = tokens[going]
        lengths[rows[going & (tokens == end)]] = step + 1
        going &= tokens != end
        left = int(going.sum())
        if left == 0:
            break
        mask = F.pad(mask, (0, 1), value=1)
        if left <= 0.8 * len(going):  # drop finished rows, once a fifth are: then copying the cache pays off
            kept = going.nonzero().squeeze(1)
            rows, tokens, mask, going = rows[kept], tokens[kept], mask[kept], going[kept]
            cache.batch_select_indices(kept)
        inputs = tokens[:, None]
    return responses, lengths


class RoomyLayer(DynamicLayer):
    """A cache layer with room to spare: new columns are written in place.

    transformers' own DynamicLayer copies the whole cache for every token, which takes more than half of the
    time when sampling from a small model.
    """

    room = 32

    def update(self, key_states, value_states, *args, **kwargs):
        """(batch, heads, new, size) keys and values -> all of them so far, as views of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = key_states[:, :, :0], value_states[:, :, :0]
        old, new = self.get_seq_length(), self.get_seq_length() + key_states.shape[2]
        if new > self.buffers[0].shape[2]:
            extra = new - old + self.room
            self.buffers = [F.pad(buffer[:, :, :old], (0, 0, 0, extra)) for buffer in self.buffers]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, old:new] = states
        self.keys, self.values = (buffer[:, :, :new] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices):
        """Keep these rows."""
        length = self.get_seq_length()
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


def _new_cache(policy):
    """A roomy cache, or None (the model makes its own) unless every layer uses plain full attention."""
    kinds = set(getattr(policy.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(policy.config, "sliding_window", None):
        return None
    return Cache(layer_class_to_replicate=RoomyLayer)


def _choose(scaled: Float[Tensor, "batch vocabulary"], greedy, generator) -> Int[Tensor, "batch"]:
    """(batch, vocab) logits -> (batch,) tokens."""
    if not scaled.sum().isfinite():  # one NaN would quietly become the last token of the vocabulary
        raise RuntimeError("The policy's logits are not finite numbers: its weights are damaged, or its training has "
                           "diverged; load or train it again.")
    if greedy:
        return scaled.argmax(dim=-1)
    # Compare one uniform number per row with the cumulative probabilities: several times faster than
    # torch.multinomial. Double precision, so that even the rarest token keeps its chance.
    double = torch.float32 if scaled.device.type == "mps" else torch.float64
    cumulated = scaled.softmax(dim=-1).to(double).cumsum(dim=-1)
    draw = torch.rand(len(scaled), 1, generator=generator, dtype=double, device=scaled.device) * cumulated[:, -1:]
    return torch.searchsorted(cumulated, draw, right=True).squeeze(1).clamp(max=scaled.shape[1] - 1)


def sample_many(policy, prompt_ids, max_new_tokens, temperature=1.0, greedy=False, seed=0, batch_size=128,
                progress=True):
    """Sample one response to each prompt, however many there are; returns lists of ids in the order of the prompts.

    A list ends with END if the response finished. Prompts are processed in order of length, so the draws
    depend on the whole list as well as on the seed.
    """
    generator = torch.Generator(device=device_of(policy)).manual_seed(seed)
    answers = [None] * len(prompt_ids)
    with tqdm(total=len(prompt_ids), desc="sample", unit="response", disable=not progress) as bar:
        for rows in length_batches([len(row) for row in prompt_ids], batch_size):
            rollout = sample(policy, [prompt_ids[row] for row in rows], max_new_tokens, temperature, greedy, generator)
            for row, answer in zip(rows, rollout.response_ids(), strict=True):
                answers[row] = answer
            bar.update(len(rows))
    return answers


# ---------------------------------------------------------------- log-probabilities

def token_log_probs(policy, sequences: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"],
                    prompt_length, temperature=1.0, entropy=False
                    ) -> Float[Tensor, "batch response"] | tuple[Tensor, Tensor]:
    """(batch, R) float32 log-probabilities of the response tokens; with entropy=True also (batch, R) entropies, nats.

    The logits at position t−1 score the token at t. They are divided by the temperature at which the responses
    were sampled; otherwise the old and the new policy would differ before the first step. Ignore the numbers
    at padding.
    """
    width = sequences.shape[1] - prompt_length
    scores = at_least_float32(logits(policy, sequences, attention_mask, keep=width + 1)[:, :-1])
    scores = scores if temperature == 1 else scores / temperature  # a pass over the vocabulary, with its gradient
    log_total = scores.logsumexp(dim=-1)
    log_probs = scores.gather(2, sequences[:, prompt_length:, None]).squeeze(2) - log_total
    if not entropy:
        return log_probs
    return log_probs, log_total - ((scores - log_total[..., None]).exp() * scores).sum(dim=-1)
