"""The plumbing that all training shares, so that `sft`, `reward`, `ppo`, `dpo` and `rloo` contain only their algorithm.

    loop = Loop("dpo", config, rounds, {"policy": policy}, {"rankings": rankings}, schedule, options)
    for step in loop:                            # 0, 1, ...; a saved run continues where it stopped
        for rows in loop.parts(batch):           # micro-batches that fit into memory
            loss = ...
            loop.backward(loss, loss=loss)       # adds gradients, and adds up numbers for the log
        loop.step()                              # guards, clipping, learning rate, optimizers
        loop.log(...)                            # one dict per round: loop.history

A *round* is one entry of the history: an epoch of SFT, an iteration of PPO or RLOO, a step of the others. Every random
draw depends only on the seed and the round, so a run that was interrupted ends with exactly the same bits as one that
was not.

Left out: a trainer to inherit from, callbacks, logging services.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from rlhf_lite import checkpoints, distributed
from rlhf_lite.models import device_of
from rlhf_lite.sampling import length_batches

# Settings that change only speed, length or how often we save may differ between the two halves of a run.
NO_IDENTITY = ("iterations", "save_every", "compile")
FAR = "the policy is {:.0f} nats from the reference. Raise kl_coef or lower lr."
LIMITS = (("kl", "max_kl", FAR),  # a step's number, the setting that limits it, the message beyond it
          ("max_ratio", "max_ratio", "the policy changed a probability {:.0f}-fold. Lower lr, or check that old and "
           "new log-probabilities use the same temperature and mask."))
SHOWN = ("loss", "accuracy", "score", "kl")  # on the progress bar


@dataclass(frozen=True)
class Options:
    """The keyword options that every training function accepts besides its own arguments."""

    folder: object = None  # where to save and to resume from; None: nowhere
    progress: bool = True  # a progress bar
    evaluate: Callable | None = None  # evaluate(model, round) -> dict; joins the history
    evaluate_every: int = 10  # in rounds; the last round is always evaluated


class Loop:
    """Runs `rounds` rounds; the top of this file shows how to use it.

    models: {name: module} that learn; `evaluate` gets the first one. data: {name: rows, module or None} that the run
    depends on; a resumed run must have the same. schedule(step, peak) -> learning rate. options: a dict, see `Options`.
    optimizers: {name: optimizer}; by default each model gets one from `adam`.

    You may set three attributes before the first round. `averages` ({name: module}) and `carried` (JSON-able numbers
    that change from round to round) are saved and restored too. `ticks` is the number of steps in a round, for a
    progress bar that counts steps when rounds are long.
    """

    def __init__(self, name, config, rounds, models, data, schedule, options, optimizers=None):
        self.name, self.config, self.rounds, self.models, self.schedule = name, config, rounds, models, schedule
        self.options, self.device = Options(**options), device_of(next(iter(models.values())))
        self.optimizers = optimizers or {
            key: adam(model, config.lr, getattr(config, "weight_decay", 0.0)) for key, model in models.items()}
        self.peaks = {key: [group["lr"] for group in optimizer.param_groups]
                      for key, optimizer in self.optimizers.items()}
        self.averages, self.carried, self.ticks = {}, {}, 1
        self.history, self.round, self.steps, self.lr = [], 0, 0, 0.0
        self.sums, self.measured, self.entry, self.plans = {}, [], {}, {}
        known = {key: value for key, value in data.items()
                 if isinstance(value, (list, tuple, np.ndarray, torch.nn.Module))}
        for model in (*models.values(), *known.values()):
            if isinstance(model, torch.nn.Module):
                model.eval().zero_grad()  # no built-in dropout, no gradients left over from an earlier run
        self.identity = {**{key: value for key, value in asdict(config).items() if key not in NO_IDENTITY},
                         **{key: checkpoints.fingerprint(value) for key, value in known.items()},
                         **{f"initial {key}": checkpoints.fingerprint(model) for key, model in models.items()}}

    def __iter__(self):
        modules, folder = {**self.models, **self.averages}, self.options.folder
        if state := checkpoints.resume(folder, self.identity, modules, self.optimizers):
            self.history, self.steps, self.carried = state["history"], state["steps"], state["carried"]
        if len(self.history) > self.rounds:
            raise ValueError(f"{folder} already has {len(self.history)} rounds; ask for at least that many, or choose "
                             "another folder.")
        shown = self.options.progress and distributed.is_first()
        unit = "iteration" if hasattr(self.config, "iterations") else "step"
        with tqdm(total=self.rounds * self.ticks, initial=len(self.history) * self.ticks, desc=self.name, unit=unit,
                  disable=not shown) as self.bar:
            for number in range(len(self.history), self.rounds):
                self.round, self.measured, self.started = number, [], time.perf_counter()
                yield self.round
                done = self.round + 1
                if self.options.evaluate and (done % self.options.evaluate_every == 0 or done == self.rounds):
                    self.entry |= self.options.evaluate(next(iter(self.models.values())), done)
                self.history.append(self.entry)
                self.bar.update(self.ticks == 1)
                due = done % getattr(self.config, "save_every", 1) == 0 or done == self.rounds
                if folder and due and distributed.is_first():
                    checkpoints.save_training_state(folder, checkpoints.training_tensors(modules, self.optimizers), {
                        "identity": self.identity, "history": self.history, "steps": self.steps,
                        "carried": self.carried})

    # ------------------------------------------------------------ which rows

    def pick(self, items, batch_size):
        """This process's share of the round's items: each comes once per pass, and every pass has a new order."""
        rows = distributed.share(rows_at(self.round, len(items), batch_size, self.config.seed))
        return items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows]

    def batch(self, lengths, batch_size):
        """The rows of this step, of similar length: one of the batches into which `length_batches` splits an epoch."""
        epoch, index = divmod(self.steps, -(-len(lengths) // batch_size))
        if epoch not in self.plans:
            self.plans = {epoch: length_batches(lengths, batch_size, self.config.seed, epoch)}
        return self.plans[epoch][index]

    def minibatches(self, count):
        """PPO's inner epochs: range(count), `config.minibatch` rows at a time, reshuffled in each epoch."""
        for epoch in range(self.config.inner_epochs):
            order = np.random.default_rng((self.config.seed, self.round, epoch)).permutation(count)
            for start in range(0, count, self.config.minibatch):
                yield order[start:start + self.config.minibatch]

    def parts(self, rows, lengths=None):
        """This process's share of the rows, in parts of `config.micro_batch`; with lengths, longest rows first.

        Divide each loss by the count of the whole batch, so that the result does not depend on the parts.
        """
        mine = distributed.share(rows)
        size = self.config.micro_batch or max(1, len(mine))
        if lengths is None:
            return [mine[start:start + size] for start in range(0, len(mine), size)]
        return [mine[places] for places in length_batches(np.asarray(lengths)[mine], size)]

    def generator(self):
        """The random generator of this round; each process has a different one."""
        seed = np.random.SeedSequence((self.config.seed, self.round)).generate_state(1)[0]
        return torch.Generator(device=self.device).manual_seed(int(seed) + distributed.rank())

    # ------------------------------------------------------------ one step

    def autocast(self):
        """Matrix products in bfloat16 if the config says so."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=getattr(self.config, "bf16", False))

    def backward(self, loss, /, **numbers):
        """Add the gradient of a part's loss; sum the numbers over the parts (for names with max_, keep the largest)."""
        loss.backward()
        for name, value in numbers.items():
            value = value.item() if isinstance(value, torch.Tensor) else value
            old = self.sums.get(name, 0.0)
            self.sums[name] = max(old, value) if name.startswith("max_") else old + value

    def step(self):
        """Update the models with the summed gradients -> the step's numbers; RuntimeError unless all are finite."""
        numbers = distributed.add(self.sums)
        distributed.add_gradients(*self.models.values())
        norms = [torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.max_grad_norm).item()
                 for model in self.models.values()]
        if not np.isfinite([*numbers.values(), *norms]).all():
            self.diverged("a loss or gradient is not a number. The learning rate is probably too high.")
        for name, limit, why in LIMITS:
            if numbers.get(name, 0.0) > getattr(self.config, limit, math.inf):
                self.diverged(why.format(numbers[name]))
        for key, optimizer in self.optimizers.items():
            for group, peak in zip(optimizer.param_groups, self.peaks[key], strict=True):
                group["lr"] = self.schedule(self.steps, peak)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.lr = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        self.measured.append({**numbers, "grad_norm": norms[0]})
        self.sums, self.steps = {}, self.steps + 1
        self.show(numbers)
        self.bar.update(self.ticks > 1)
        return numbers

    def guard_kl(self, kl):
        """Check kl, (batch,) nats per response: RuntimeError if training has diverged, a warning if far below 0."""
        mean, error = kl.mean().item(), kl.std(correction=0).item() / len(kl) ** 0.5
        if not math.isfinite(mean):
            self.diverged("log-probabilities are not numbers. The learning rate is probably too high.")
        if mean > self.config.max_kl:
            self.diverged(FAR.format(mean))
        if mean < -0.1 and mean < -3 * error:  # a mean of many samples cannot be far below 0
            warnings.warn(f"The measured KL is {mean:.2f} nats in iteration {self.round + 1}; it cannot be negative. "
                          "Responses are probably sampled from one distribution and scored by another.", stacklevel=3)

    def diverged(self, why):
        """Stop with a RuntimeError; nothing has been saved since the last complete round."""
        raise RuntimeError(f"{self.name} diverged in round {self.round + 1} (optimizer step {self.steps + 1}): {why}")

    # ------------------------------------------------------------ the history

    def means(self):
        """The round's numbers: means over its steps, but the maximum for names that begin with max_."""
        return {name: float((np.max if name.startswith("max_") else np.mean)([entry[name] for entry in self.measured]))
                for name in self.measured[0]}

    def log(self, **entry):
        """Set this round's entry in the history."""
        self.entry = entry
        self.show(entry)

    def seconds(self):
        """Seconds since this round began."""
        return time.perf_counter() - self.started

    def show(self, numbers):
        shown = {name: f"{numbers[name]:.3f}" for name in SHOWN if name in numbers}
        if shown:
            self.bar.set_postfix(shown, refresh=False)


# ---------------------------------------------------------------- order, learning rates, optimizers

def rows_at(step, count, batch_size, seed):
    """Indices of the rows of one step: every row comes once per pass, and each pass has its own order."""
    indices = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(position, count)
        indices.append(_order(count, seed, epoch)[place])
    return np.array(indices)


@functools.lru_cache(maxsize=2)  # the end of one pass and the beginning of the next
def _order(count, seed, epoch):
    return np.random.default_rng((seed, epoch)).permutation(count)


def cosine_lr(step, steps, peak, min_share=0.1, warmup=0):
    """The learning rate of a step (from 0): linear up to `peak`, then a cosine down to min_share * peak at the end."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (min_share + (1 - min_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def cosine(steps, min_share=0.1, warmup=0):
    """`cosine_lr` as a Loop's schedule."""
    return lambda step, peak: cosine_lr(step, steps, peak, min_share, warmup)


def warm_up_then_decay(steps, decay_share=0.3, min_share=0.0, warmup=0):
    """A Loop's schedule: linear up to the peak, constant, then linear down over the last `decay_share` of the steps.

    Unlike a cosine it does not depend on the length of the run until the decay begins (Hu et al., 2024).
    """
    def schedule(step, peak):
        if step < warmup:
            return peak * (step + 1) / warmup
        left = (steps - step) / max(1, round(decay_share * steps))
        return peak * (min_share + (1 - min_share) * min(1.0, left))
    return schedule


def warm_up(rounds, steps_per_round):
    """A Loop's schedule: from a tenth of the peak up to the peak in `rounds` rounds (appendix C.4), then constant."""
    return lambda step, peak: min(1.0, 0.1 + 0.9 * (step // steps_per_round) / max(1, rounds)) * peak


def adam(model, lr, weight_decay=0.0):
    """AdamW; without weight decay it is Adam."""
    return torch.optim.AdamW(decay_groups(model, weight_decay), lr=lr, betas=(0.9, 0.95), fused=True)


def decay_groups(model, weight_decay):
    """Parameter groups: matrices decay, vectors (norms, biases) do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p.requires_grad]
    vectors = [p for p in model.parameters() if p.ndim < 2 and p.requires_grad]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@torch.no_grad()
def move_average(average, model, decay):
    """average ← decay · average + (1 − decay) · model, in place (EMA)."""
    for kept, now in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(now, 1 - decay)
