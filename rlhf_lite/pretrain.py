"""Pretraining: the next token of the web, nothing else.

The idea: documents are joined into one long stream, cut into rows of equal length, and the model learns
to continue them. What alignment later elicits has to be learnt here. The loop is the usual one: warm-up,
cosine, clipped gradients. Muon moves the matrices inside the blocks, because with it the same loss takes
about two thirds of the tokens here; AdamW moves the rest. Which rows make up a step is a function of the
seed and the step alone, so a run that was interrupted goes on exactly as if it had not been.

Left out: attention masks between the documents of a row (GPT-3 had none either), several GPUs.
"""

import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from rlhf_lite import checkpoints
from rlhf_lite.models import BEGIN, END, device_of, encode_text


@dataclass(frozen=True)
class PretrainConfig:
    steps: int = 3000
    batch_size: int = 16  # rows of a step; with rows of 256 tokens that is 4,096 tokens
    lr: float = 4e-3  # of Muon, in AdamW's units
    adamw_lr: float = 4e-3  # of embeddings and norms
    min_lr_share: float = 0.1
    warmup: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    bf16: bool = False  # matrix products in bfloat16; weights, loss and optimizer stay in float32
    compile: bool = False  # torch.compile: a minute of waiting, then faster steps
    save_every: int = 200


def pack(documents, length=256, begin=BEGIN, end=END, dtype=np.uint16):
    """Lists of token ids (one per document) -> (n, length) uint16 array of [BEGIN] document [END] joined end to end.

    The last row is dropped when it is not full. Ids must fit the dtype: with uint16, be below 65,536.
    """
    pieces = []
    for document in documents:
        pieces.append(np.fromiter((begin, *document, end), dtype=dtype, count=len(document) + 2))
    stream = np.concatenate(pieces) if pieces else np.zeros(0, dtype=dtype)
    rows = len(stream) // length
    return stream[:rows * length].reshape(rows, length)


def pack_texts(tokenizer, texts, length=256):
    """As `pack`, from an iterable of strings."""
    return pack((encode_text(tokenizer, text) for text in texts), length, tokenizer.bos_token_id,
                tokenizer.eos_token_id, np.uint16 if len(tokenizer) <= 65536 else np.uint32)


def rows_at(step, count, batch_size, seed):
    """Indices of the rows of one step: every row once per pass, each pass in an order of its own."""
    indices = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(position, count)
        indices.append(_order(count, seed, epoch)[place])
    return np.array(indices)


_orders = {}


def _order(count, seed, epoch):
    key = (count, seed, epoch)
    if key not in _orders:
        if len(_orders) > 1:
            _orders.pop(next(iter(_orders)))
        _orders[key] = np.random.default_rng((seed, epoch)).permutation(count)
    return _orders[key]


def cosine_lr(step, steps, peak, min_share=0.1, warmup=0):
    """Learning rate of a step (from 0): linear up to `peak`, then a cosine down to min_share * peak at the last."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (min_share + (1 - min_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def lm_loss(policy, rows):
    """Mean over all tokens but the first of −log p(token | what is before it), in nats. rows: (batch, length) ids.

    Packed rows have no padding, hence no attention mask: positions run from 0 in every row.
    """
    logits = policy(input_ids=rows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


@torch.no_grad()
def evaluate_lm(policy, rows, batch_size=32):
    """Mean loss in nats per token over an array of packed rows."""
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


def rows_identity(rows):
    """What names packed rows in a training state (see `checkpoints.resume`): their shape and their content."""
    return [*rows.shape, checkpoints.fingerprint(np.asarray(rows))]


def check_counts(config, *names):
    """ValueError when one of these settings is below 1: range() would take such a step and train on nothing."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; set it to 1 or more.")


def decay_groups(model, weight_decay):
    """Parameter groups: matrices decay, vectors (norms, biases) do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p.requires_grad]
    vectors = [p for p in model.parameters() if p.ndim < 2 and p.requires_grad]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def make_optimizers(policy, config):
    """{name: optimizer}: Muon for the matrices of the blocks, AdamW without decay for embeddings, norms and biases.

    Muon steps along the nearest orthogonal matrix of the averaged gradient (Jordan et al., 2024); scaled to the
    size of AdamW's steps (Liu et al., 2025) the two can share a schedule.
    """
    blocks, rest = [], []
    for name, parameter in policy.named_parameters():
        inside = parameter.ndim == 2 and not any(word in name for word in ("embed", "lm_head", "wte", "wpe"))
        (blocks if inside else rest).append(parameter)
    return {"muon": torch.optim.Muon(blocks, lr=config.lr, weight_decay=config.weight_decay, momentum=0.95,
                                     adjust_lr_fn="match_rms_adamw"),
            "adamw": torch.optim.AdamW(rest, lr=config.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)}


def train(policy, rows, config, folder=None, progress=True):
    """Train `policy` in place on packed rows (n, length); returns the loss of every step, in nats per token.

    With `folder`, the state is saved there every config.save_every steps, and a second call with the same
    config, rows and initial policy goes on from it. Raises ValueError for a state of others, RuntimeError when
    the loss is no longer a number.
    """
    if len(rows) == 0:
        raise ValueError("There are no rows to pretrain on; give pack() more text than one row holds.")
    device = device_of(policy)
    modules, optimizers = {"policy": policy}, make_optimizers(policy, config)
    policy.zero_grad()  # a training that broke off may have left gradients
    # What only changes speed or the frequency of saving may differ between the two halves of a run.
    identity = {**asdict(config), "rows": rows_identity(rows), "initial weights": checkpoints.fingerprint(policy)}
    for name in ("save_every", "compile"):
        identity.pop(name)
    state = checkpoints.resume(folder, identity, modules, optimizers)
    losses = state["losses"] if state else []

    forward = torch.compile(policy) if config.compile else policy
    policy.train()
    started, done = time.perf_counter(), 0
    bar = tqdm(total=config.steps, initial=len(losses), desc="pretrain", unit="step", disable=not progress)
    for step in range(len(losses), config.steps):
        for name, peak in (("muon", config.lr), ("adamw", config.adamw_lr)):
            for group in optimizers[name].param_groups:
                group["lr"] = cosine_lr(step, config.steps, peak, config.min_lr_share, config.warmup)
        batch = as_rows(rows[rows_at(step, len(rows), config.batch_size, config.seed)], device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            loss = lm_loss(forward, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError(f"Pretraining diverged at step {step + 1} (loss {losses[-1]}); the learning rate "
                               f"{config.lr} is probably too high.")
        done += batch.numel()
        speed = done / (time.perf_counter() - started)
        bar.set_postfix(loss=f"{losses[-1]:.3f}", tokens_per_s=f"{speed:,.0f}", refresh=False)
        bar.update()
        if folder and ((step + 1) % config.save_every == 0 or step + 1 == config.steps):
            checkpoints.save_training_state(folder, checkpoints.training_tensors(modules, optimizers),
                                            {"identity": identity, "losses": losses})
    bar.close()
    policy.eval()
    return losses
