"""Supervised fine-tuning: continue the prompt the way a demonstration does.

The idea: the loss of pretraining, but only on the tokens of the response. END is one of them, so the model
also learns to stop. The settings are InstructGPT's (appendix C.1): cosine to 10 %, no warm-up; 16 epochs
for the SFT model; 2 epochs, with a tenth of pretraining text, for the model that PPO starts from (C.3).

Left out: packing several demonstrations into one row.
"""

import contextlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from rlhf_lite.guards import check_batch, check_context, check_counts, check_ids, check_pretraining
from rlhf_lite.models import at_least_float32, device_of, end_token, logits
from rlhf_lite.pretrain import mixed_in_loss
from rlhf_lite.sampling import length_batches, pad_right
from rlhf_lite.training import Loop, cosine

IGNORE = -100  # the label of positions that are not learnt, as usual in PyTorch


class Example(NamedTuple):
    input_ids: list[int]  # prompt and response
    labels: list[int]  # the same ids, with IGNORE in place of the prompt


@dataclass(frozen=True)
class SFTConfig:
    epochs: int = 16  # paper; 2 for the model PPO starts from
    batch_size: int = 32  # paper
    lr: float = 1e-3  # ours: small models need a hundred times the paper's 9.65e-6
    min_lr_share: float = 0.1  # paper
    weight_decay: float = 0.0  # ours
    max_grad_norm: float = 1.0  # ours
    dropout: float = 0.0  # paper: residual dropout 0.2, for the 16-epoch model
    pretraining_mix: float = 0.0  # share of the loss that is pretraining text; paper: 0.1 for the model PPO starts from
    pretraining_rows: int = 4  # ours: packed rows per step
    seed: int = 0
    micro_batch: int | None = None  # rows in memory at once; the result does not depend on it
    bf16: bool = False


def build_example(prompt_ids, response_ids):
    """Prompt ids and response ids (END included) -> Example."""
    return Example([*prompt_ids, *response_ids], [IGNORE] * len(prompt_ids) + [*response_ids])


def collate(examples, device="cpu") -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"],
                                             Int[Tensor, "batch length"]]:
    """Examples -> (ids, attention mask, labels), each (batch, longest), padded on the right.

    Labels are hidden where the attention mask is 0, not where the id is PAD or END: the END of a response stays.
    """
    ids, mask = pad_right([example.input_ids for example in examples], device)
    labels, _ = pad_right([example.labels for example in examples], device)
    return ids, mask, torch.where(mask.bool(), labels, IGNORE)


def sft_loss(logits: Float[Tensor, "batch length vocabulary"], labels: Int[Tensor, "batch length"],
             normaliser=None) -> Float[Tensor, ""]:
    """(batch, length, vocab) logits, (batch, length) labels -> mean of −log p over the response tokens, in nats.

    The logits at t−1 are compared with the label at t. normaliser: the number of tokens to divide by when these
    rows are only part of the batch.
    """
    logits, targets = at_least_float32(logits[:, :-1].flatten(0, 1)), labels[:, 1:].flatten()
    total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return total / ((targets != IGNORE).sum().clamp(min=1) if normaliser is None else normaliser)


def learnt_logits(policy, ids, mask, labels):
    """The logits and labels for `sft_loss`, from the first column in which any row has a label.

    What lies before is prompt in every row: the output layer, the widest of all, need not read it.
    """
    keep = labels.shape[1] - int((labels != IGNORE).any(dim=0).long().argmax()) + 1  # one more, which predicts it
    return logits(policy, ids, mask, keep), labels[:, -keep:]


@torch.no_grad()
def evaluate_sft(policy, examples, batch_size=64):
    """The mean loss over all examples, in nats per response token, without dropout."""
    was_training = policy.training
    policy.eval()
    total, count = 0.0, 0
    for rows in length_batches([len(example.input_ids) for example in examples], batch_size):
        ids, mask, labels = collate([examples[row] for row in rows], device_of(policy))
        total += sft_loss(*learnt_logits(policy, ids, mask, labels), normaliser=1).item()
        count += int((labels[:, 1:] != IGNORE).sum())
    policy.train(was_training)
    return total / max(1, count)


@contextlib.contextmanager
def residual_dropout(policy, probability):
    """Training mode inside the block, evaluation mode after it.

    Inside, a share of what each attention and feed-forward layer adds to the residual stream is dropped: Llama
    models have no such dropout of their own.
    """
    def drop(module, inputs, output):
        return F.dropout(output, probability, module.training)

    last = ("o_proj", "down_proj", "c_proj")  # the last linear layer of a block in Llama and in GPT-2
    handles = [module.register_forward_hook(drop) for name, module in policy.named_modules()
               if probability > 0 and name.split(".")[-1] in last]
    policy.train()
    try:
        yield
    finally:
        policy.eval()
        for handle in handles:
            handle.remove()


def train_sft(policy, examples, config, valid=(), pretraining=None, **options):
    """Fine-tune `policy` in place on Examples; returns one dict per epoch: epoch, train_loss, valid_loss.

    valid: held-out Examples. pretraining: packed rows (n, length) for config.pretraining_mix. options: see
    `training.Options`; `evaluate` is called after every epoch (the paper chose its model by reward, not by loss).
    """
    check_examples(policy, examples, config, pretraining)
    lengths, mix = [len(example.input_ids) for example in examples], config.pretraining_mix
    per_epoch = -(-len(examples) // config.batch_size)
    torch.manual_seed(config.seed)  # for dropout
    loop = Loop("sft", config, config.epochs, {"policy": policy}, {"examples": examples, "pretraining": pretraining},
                cosine(per_epoch * config.epochs, config.min_lr_share), {"evaluate_every": 1, **options})
    loop.ticks = per_epoch
    for epoch in loop:
        with residual_dropout(policy, config.dropout):
            for _ in range(per_epoch):
                batch = loop.batch(lengths, config.batch_size)
                # Every response token of the batch counts the same, so we divide by their number.
                tokens = sum(label != IGNORE for row in batch for label in examples[row].labels[1:])
                for rows in loop.parts(batch):  # learn to write the responses; the prompts are only read
                    ids, mask, labels = collate([examples[row] for row in rows], loop.device)  # (rows, length)
                    with loop.autocast():
                        loss = sft_loss(*learnt_logits(policy, ids, mask, labels), normaliser=max(1, tokens))
                    loop.backward((1 - mix) * loss, loss=loss)
                if mix > 0:  # some pretraining text in the same step, so that the model does not forget
                    loop.backward(mix * mixed_in_loss(policy, pretraining, config.pretraining_rows, loop))
                loop.step()
        held_out = {"valid_loss": evaluate_sft(policy, valid)} if valid else {}
        loop.log(epoch=epoch + 1, train_loss=loop.means()["loss"], **held_out)
    return loop.history


def check_examples(policy, examples, config, pretraining):
    """Raise ValueError for arguments of `train_sft` that would train nothing, or the wrong thing."""
    if not examples:
        raise ValueError("There are no demonstrations to train on.")
    check_counts(config)
    check_pretraining(policy, "pretraining_mix", config.pretraining_mix, pretraining)
    check_batch(batch_size=config.batch_size, **({"pretraining_rows": config.pretraining_rows} if config.pretraining_mix
                                                 else {}))
    check_ids(policy, [example.input_ids for example in examples], "Demonstration")
    for index, example in enumerate(examples):
        if set(example.labels[1:]) <= {IGNORE, end_token(policy)}:
            raise ValueError(f"Demonstration {index} has an empty response, which would teach the model to say "
                             "nothing; leave it out.")
    longest = max(len(example.input_ids) for example in examples)
    check_context(policy, longest, f"The longest demonstration ({longest} tokens) exceeds",
                  "drop long ones rather than cutting them.")
