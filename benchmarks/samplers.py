"""Sampling beside transformers' `generate` and nanochat's way, on the same model and prompts, in one process each.

nanochat (engine.py) reads one prompt once, copies its cache for every answer, and then goes on with all of them until
the last has ended; finished answers are computed along. `nanochat` below does that with our model. So it is compared on
many answers to one prompt, and `generate` on one answer to each of many prompts.
"""

import json
from pathlib import Path

import torch

from benchmarks.clock import timed
from benchmarks.ours import never_ending, prompts_of
from rlhf_lite import sampling
from rlhf_lite.models import PAD, end_token
from rlhf_lite.real import hub


def prepare(method, world, threads=1, equal=False):
    """method: "ours", "generate", or for many answers to one prompt "ours, one prompt" and "nanochat"."""
    torch.set_num_threads(threads)
    world = Path(world)
    policy, tokenizer, _ = hub.load(world / "sft")
    if equal:
        policy.config.special_ids = never_ending(policy)
    amounts = json.loads((world / "amounts.json").read_text("utf-8"))
    prompts, tokens = prompts_of(world, tokenizer)[:amounts["answers"]], amounts["tokens"]
    several = [prompts[0]] * len(prompts)
    work = {"ours": lambda: sampling.sample(policy, prompts, tokens), "ours, one prompt": lambda: sampling.sample(
        policy, several, tokens), "generate": lambda: generate(policy, prompts, tokens),
        "nanochat": lambda: nanochat(policy, prompts[0], len(prompts), tokens)}[method]
    return lambda: timed(work)


@torch.inference_mode()
def generate(policy, prompts, tokens):
    """(batch, width + new tokens) ids, by transformers; the whole vocabulary, no top-k."""
    ids, mask = sampling.pad_left(prompts)
    end = end_token(policy)
    return policy.generate(input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=True, top_k=0,
                           top_p=1.0, temperature=1.0, pad_token_id=PAD, eos_token_id=end if end >= 0 else None)


@torch.inference_mode()
def nanochat(policy, prompt, count, tokens):
    """`count` answers to one prompt, as lists of ids: one prefill, the cache copied, finished rows computed along."""
    cache, end = sampling._new_cache(policy), end_token(policy)
    output = policy(input_ids=torch.tensor([prompt]), past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_select_indices(torch.zeros(count, dtype=torch.long))
    scores, answers, going = output.logits[:, -1].expand(count, -1), [[] for _ in range(count)], [True] * count
    for _ in range(tokens):
        drawn = torch.multinomial(scores.softmax(dim=-1), num_samples=1)
        for row, token in enumerate(drawn[:, 0].tolist()):
            if going[row]:
                answers[row].append(token)
                going[row] = token != end
        if not any(going):
            break
        scores = policy(input_ids=drawn, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    return answers
