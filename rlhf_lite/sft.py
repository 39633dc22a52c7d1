"""Supervised fine-tuning: continue the prompt the way a demonstration does.

The idea: the loss of pretraining, on the tokens of the response only, END included, so that the model
also learns to stop. The settings are InstructGPT's (appendix C.1): cosine to 10 %, no warm-up, 16 epochs
for the SFT model, 2 with a tenth of pretraining text for the model that PPO starts from (C.3).

Left out: packing several demonstrations into a row.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from rlhf_lite import checkpoints, processes
from rlhf_lite.models import device_of, logits
from rlhf_lite.pretrain import as_rows, check_counts, cosine_lr, decay_groups, lm_loss, rows_at, rows_identity
from rlhf_lite.sampling import length_batches, pad_right

IGNORE = -100  # the label of positions that are not learnt, as everywhere in PyTorch


class Example(NamedTuple):
    input_ids: list[int]  # prompt and response
    labels: list[int]  # as input_ids, with IGNORE at the prompt


@dataclass(frozen=True)
class SFTConfig:
    epochs: int = 16  # paper; 2 for the model PPO starts from
    batch_size: int = 32  # paper
    lr: float = 1e-3  # ours: small models take a hundred times the paper's 9.65e-6
    min_lr_share: float = 0.1  # paper
    weight_decay: float = 0.0  # ours
    clip: float = 1.0  # ours
    dropout: float = 0.0  # paper: residual dropout 0.2, for the 16-epoch model
    pretraining_mix: float = 0.0  # share of the loss that is pretraining text; paper: 0.1 for the model PPO starts from
    seed: int = 0
    micro_batch: int | None = None  # rows in memory at once; the result does not depend on it
    bf16: bool = False


def build_example(prompt_ids, response_ids):
    """Prompt ids and response ids (END included) -> Example."""
    return Example([*prompt_ids, *response_ids], [IGNORE] * len(prompt_ids) + [*response_ids])


def collate(examples, device="cpu"):
    """Examples -> (ids, attention mask, labels), each (batch, longest), padded on the right.

    Labels are masked where nothing is attended, not where the id is PAD or END: the END of a response stays.
    """
    ids, mask = pad_right([example.input_ids for example in examples], device)
    labels, _ = pad_right([example.labels for example in examples], device)
    return ids, mask, torch.where(mask.bool(), labels, IGNORE)


def sft_loss(logits, labels, normaliser=None):
    """(batch, length, vocab) logits, (batch, length) labels -> mean of −log p over the response tokens, in nats.

    The logits at t−1 are held against the label at t. normaliser: number of tokens to divide by when these
    rows are only a part of the batch.
    """
    targets = labels[:, 1:].flatten()
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=IGNORE, reduction="sum")
    return total / ((targets != IGNORE).sum().clamp(min=1) if normaliser is None else normaliser)


@torch.no_grad()
def evaluate_sft(policy, examples, batch_size=64):
    """Mean loss in nats per response token over all examples, without dropout."""
    was_training = policy.training
    policy.eval()
    total, count = 0.0, 0
    for rows in length_batches([len(example.input_ids) for example in examples], batch_size):
        ids, mask, labels = collate([examples[row] for row in rows], device_of(policy))
        total += sft_loss(logits(policy, ids, mask), labels, normaliser=1).item()
        count += int((labels[:, 1:] != IGNORE).sum())
    policy.train(was_training)
    return total / max(1, count)


def residual_dropout(policy, probability):
    """Drop a share of what each attention and feed-forward layer adds to the residual stream, in training only.

    Returns the handles; call `.remove()` on each to take it out. Llama models have no such dropout of their own.
    """
    def drop(module, inputs, output):
        return F.dropout(output, probability, module.training)

    last = ("o_proj", "down_proj", "c_proj")  # the last linear layer of a block in Llama and in GPT-2
    return [module.register_forward_hook(drop) for name, module in policy.named_modules()
            if probability > 0 and name.split(".")[-1] in last]


def train_sft(policy, examples, config, valid=None, pretraining=None, folder=None,
              evaluate=None, progress=True):
    """Fine-tune `policy` in place on Examples; returns one dict per epoch: epoch, train_loss, valid_loss, ...

    valid: Examples held out. pretraining: packed rows (n, length), needed for config.pretraining_mix.
    evaluate: called as evaluate(policy, epoch) after each epoch, returns a dict that joins the history (the
    paper chose its SFT model by reward-model score, not by loss). With `folder`, training resumes at the last
    whole epoch.
    """
    if not examples:
        raise ValueError("There are no demonstrations to train on.")
    if config.pretraining_mix > 0 and pretraining is None:
        raise ValueError("pretraining_mix is above 0 but no pretraining rows were given.")
    if config.batch_size < processes.size():
        raise ValueError(f"There are {processes.size()} processes but only {config.batch_size} rows in a batch; raise "
                         "batch_size or start fewer processes.")
    check_counts(config, "micro_batch")
    device = device_of(policy)
    optimizer = torch.optim.AdamW(decay_groups(policy, config.weight_decay), lr=config.lr, betas=(0.9, 0.95),
                                  fused=True)
    policy.zero_grad()  # a training that broke off may have left gradients
    modules, optimizers = {"policy": policy}, {"adamw": optimizer}
    identity = {**asdict(config), "examples": checkpoints.fingerprint(examples),
                "initial weights": checkpoints.fingerprint(policy)}
    identity |= {"pretraining": rows_identity(pretraining)} if pretraining is not None else {}
    torch.manual_seed(config.seed)  # for dropout
    state = checkpoints.resume(folder, identity, modules, optimizers)
    history = state["history"] if state else []

    lengths = [len(example.input_ids) for example in examples]
    limit = getattr(policy.config, "max_position_embeddings", None)
    if limit and max(lengths) > limit:
        raise ValueError(f"The longest demonstration has {max(lengths)} tokens, but the model's context is {limit}; "
                         "drop long ones rather than cut them.")
    per_epoch = len(length_batches(lengths, config.batch_size, config.seed))
    steps = per_epoch * config.epochs
    handles = residual_dropout(policy, config.dropout)
    bar = tqdm(total=steps, initial=len(history) * per_epoch, desc="sft", unit="step",
               disable=not (progress and processes.is_first()))
    try:
        for epoch in range(len(history), config.epochs):
            policy.train()
            losses = []
            for index, rows in enumerate(length_batches(lengths, config.batch_size, config.seed, epoch)):
                step = epoch * per_epoch + index
                for group in optimizer.param_groups:
                    group["lr"] = cosine_lr(step, steps, config.lr, config.min_lr_share)
                losses.append(_backward(policy, [examples[row] for row in rows], config, device))
                if config.pretraining_mix > 0:
                    web = pretraining[rows_at(step, len(pretraining), config.batch_size, config.seed)]
                    weight, web = len(processes.share(web)) / len(web), processes.share(web)
                    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
                        (config.pretraining_mix * lm_loss(policy, as_rows(web, device))).mul(weight).backward()
                processes.add_gradients(policy)
                torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if not np.isfinite(losses[-1]):
                    raise RuntimeError(f"Fine-tuning diverged at step {step + 1}; the learning rate {config.lr} "
                                       "is probably too high.")
                bar.set_postfix(epoch=epoch + 1, loss=f"{losses[-1]:.3f}", refresh=False)
                bar.update()
            policy.eval()
            entry = {"epoch": epoch + 1, "train_loss": float(np.mean(losses))}
            if valid:
                entry["valid_loss"] = evaluate_sft(policy, valid)
            if evaluate:
                entry |= evaluate(policy, epoch + 1)
            history.append(entry)
            if folder and processes.is_first():
                checkpoints.save_training_state(folder, checkpoints.training_tensors(modules, optimizers),
                                                {"identity": identity, "history": history})
    finally:
        bar.close()
        policy.eval()
        for handle in handles:
            handle.remove()
    return history


def _backward(policy, examples, config, device):
    """Add the gradient of the batch's mean loss, in parts that fit into memory; returns the loss."""
    tokens = sum(label != IGNORE for example in examples for label in example.labels[1:])
    examples = processes.share(examples)
    size = config.micro_batch or max(1, len(examples))
    total = 0.0
    for start in range(0, len(examples), size):
        ids, mask, labels = collate(examples[start:start + size], device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            loss = sft_loss(logits(policy, ids, mask), labels, normaliser=max(1, tokens))
        ((1 - config.pretraining_mix) * loss).backward()
        total += loss.item()
    return processes.add(total)[0]
