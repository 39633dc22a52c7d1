"""Pretraining: predict the next token of web text, and nothing else.

The idea: documents are joined into one long stream, cut into rows of equal length, and the model learns
to continue them. Whatever alignment elicits later has to be learnt here. The loop is the usual one: warm-up, a
constant learning rate that falls to zero at the end, clipped gradients. Muon updates the matrices inside the
blocks, because here it reaches the same loss with about two thirds of the tokens; AdamW updates the rest. The rows
of a step depend only on the seed and the step, so an interrupted run resumes exactly as if nothing had happened.

Left out: attention masks between the documents of a row (GPT-3 had none either), several GPUs.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from rlhf_lite import distributed
from rlhf_lite.guards import check_counts
from rlhf_lite.models import BEGIN, END, at_least_float32, device_of, encode_text
from rlhf_lite.training import Loop, rows_at, warm_up_then_decay


@dataclass(frozen=True)
class PretrainConfig:
    steps: int = 3000
    batch_size: int = 16  # rows per step; with rows of 256 tokens that is 4,096 tokens
    lr: float = 4e-3  # for Muon, in AdamW's units
    adamw_lr: float = 4e-3  # for embeddings and norms
    decay_share: float = 0.3  # of the steps; before them the learning rate is constant, so a run can be made longer
    min_lr_share: float = 0.0
    warmup: int = 100
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 0
    bf16: bool = False  # matrix products in bfloat16; weights, loss and optimizer stay in float32
    compile: bool = False  # torch.compile: a one-minute wait, then faster steps
    save_every: int = 200


def pack(documents, length=256, begin=BEGIN, end=END, dtype=np.uint16):
    """Lists of token ids (one per document) -> (n, length) uint16 array of [BEGIN] document [END] joined end to end.

    The last row is dropped unless it is full. Ids must fit the dtype: for uint16, they must be below 65,536.
    """
    pieces = []
    for document in documents:
        pieces.append(np.fromiter((begin, *document, end), dtype=dtype, count=len(document) + 2))
    stream = np.concatenate(pieces) if pieces else np.zeros(0, dtype=dtype)
    rows = len(stream) // length
    return stream[:rows * length].reshape(rows, length)


def pack_texts(tokenizer, texts, length=256):
    """Like `pack`, but from an iterable of strings."""
    return pack((encode_text(tokenizer, text) for text in texts), length, tokenizer.bos_token_id,
                tokenizer.eos_token_id, np.uint16 if len(tokenizer) <= 65536 else np.uint32)


def lm_loss(policy, rows: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
    """The mean of −log p(token | everything before it) over all tokens but the first, in nats. rows: (batch, length).

    Packed rows have no padding, so no attention mask is needed: positions run from 0 in every row.
    """
    logits = policy(input_ids=rows[:, :-1], use_cache=False).logits
    return F.cross_entropy(at_least_float32(logits.flatten(0, 1)), rows[:, 1:].flatten())


@torch.no_grad()
def evaluate_lm(policy, rows, batch_size=32):
    """The mean loss over an array of packed rows, in nats per token."""
    was_training = policy.training
    policy.eval()
    total = 0.0
    for start in range(0, len(rows), batch_size):
        batch = as_rows(rows[start:start + batch_size], device_of(policy))
        total += lm_loss(policy, batch).item() * len(batch)
    policy.train(was_training)
    return total / len(rows)


def as_rows(array, device):
    """A slice of a packed array as an int64 tensor on the device."""
    return torch.from_numpy(np.asarray(array).astype(np.int64)).to(device)


def mixed_in_loss(policy, pretraining, batch_size, loop):
    """`lm_loss` on this step's rows of pretraining text, for SFT and PPO-ptx; several processes share the rows."""
    rows = pretraining[rows_at(loop.steps, len(pretraining), batch_size, loop.config.seed)]
    mine = distributed.share(rows)
    with loop.autocast():
        return lm_loss(policy, as_rows(mine, loop.device)) * (len(mine) / len(rows))


def make_optimizers(policy, config):
    """{name: optimizer}: Muon for the matrices of the blocks, AdamW without decay for embeddings, norms and biases.

    Muon steps along the orthogonal matrix nearest to the averaged gradient (Jordan et al., 2024). Its steps are
    scaled to the size of AdamW's (Liu et al., 2025), so that the two can share a schedule.
    """
    blocks, rest = [], []
    for name, parameter in policy.named_parameters():
        inside = parameter.ndim == 2 and not any(word in name for word in ("embed", "lm_head", "wte", "wpe"))
        (blocks if inside else rest).append(parameter)
    return {"muon": torch.optim.Muon(blocks, lr=config.lr, weight_decay=config.weight_decay, momentum=0.95,
                                     adjust_lr_fn="match_rms_adamw"),
            "adamw": torch.optim.AdamW(rest, lr=config.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)}


def train(policy, rows, config, **options):
    """Train `policy` in place on packed rows (n, length); returns the loss of every step, in nats per token.

    options: `folder`, `progress`, ..., see `training.Options`. Raises ValueError if the saved state belongs to
    another run, RuntimeError when the loss is no longer a number.
    """
    if len(rows) == 0:
        raise ValueError("There are no rows to pretrain on; give pack() enough text to fill at least one row.")
    check_counts(config)
    loop = Loop("pretrain", config, config.steps, {"policy": policy}, {"rows": rows},
                warm_up_then_decay(config.steps, config.decay_share, config.min_lr_share, config.warmup), options,
                make_optimizers(policy, config))
    forward = torch.compile(policy) if config.compile else policy
    policy.train()
    for _ in loop:
        # Each row predicts its own next tokens, so every position is a lesson; no labels are needed.
        batch = as_rows(loop.pick(rows, config.batch_size), loop.device)  # (batch, length)
        with loop.autocast():
            loss = lm_loss(forward, batch)
        loop.backward(loss, loss=loss)
        loop.log(**loop.step(), tokens_per_second=round(batch.numel() / loop.seconds()))
    policy.eval()
    return [entry["loss"] for entry in loop.history]
