"""Several processes for several GPUs: each holds all the models and works on its share of a batch.

The idea: if a loss is divided by the count of the *whole* batch, it can be computed in parts anywhere, and the sum of
the parts' gradients is the gradient. So each process picks its rows (`share`), and gradients (`add_gradients`) and
numbers (`add`) are summed before each step. All processes then take the same step and stay identical. With a single
process, none of this does anything. Start them with `accelerate launch` or `torchrun`, and call `start()` first.

Left out: models spread over several devices (ZeRO, FSDP); for a model too large for one GPU, use `real.export`.
"""

import os

import torch
import torch.distributed as dist
import torch.nn.functional as F

from rlhf_lite.models import pick_device
from rlhf_lite.sampling import Rollout, pad_left, pad_right


def start(device="auto"):
    """Join the other processes and return this one's device: "cpu", or a GPU of its own.

    Reads the variables that `accelerate launch` and `torchrun` set (WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR,
    MASTER_PORT); without them it is the same as `pick_device(device)`. Raises ValueError when there are more
    processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return pick_device(device)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = str(device) != "cpu" and torch.cuda.is_available()
    if on_gpu and local >= torch.cuda.device_count():
        raise ValueError(f"There are only {torch.cuda.device_count()} GPUs but more processes; start as many "
                         "processes as there are GPUs.")
    place = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    return place


def stop():
    """Leave the other processes; make this the last call of a script that called `start`."""
    if size() > 1:
        dist.destroy_process_group()


def size():
    """The number of processes that work together; 1 if there are no others."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    """The number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first():
    """True in the one process that writes files and shows progress."""
    return rank() == 0


def share(rows):
    """The rows (of a list, an array or a tensor) that this process works on; all of them if it is alone."""
    return rows[rank()::size()]


def add(numbers):
    """{name: number} of each process -> the same in all of them: sums, and the largest of those called max_...

    A process that had no row may have no numbers.
    """
    parts, total = [numbers], {}
    if size() > 1:
        parts = [None] * size()
        dist.all_gather_object(parts, numbers)
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        total[name] = max(values) if name.startswith("max_") else sum(values)
    return total


def add_gradients(*models):
    """Replace the gradients of all trainable weights with their sums over the processes, in one message per model."""
    if size() == 1:
        return
    for model in models:
        weights = [p for p in model.parameters() if p.requires_grad]
        for p in weights:
            if p.grad is None:  # this process had no row that used it
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.flatten().float() for p in weights])
        dist.all_reduce(flat)
        for p, total in zip(weights, flat.split([p.numel() for p in weights]), strict=True):
            p.grad.copy_(total.view_as(p))


def gather(rollout, *tensors):
    """Join the rollouts of all processes, and their tensors (rows, R) or (rows,); every process gets the whole."""
    if size() == 1:
        return rollout, *tensors
    device, parts = rollout.sequences.device, [None] * size()
    dist.all_gather_object(parts, (rollout.prompt_ids(), rollout.response_ids(), rollout.finished.tolist(),
                                   [tensor.detach().cpu() for tensor in tensors]))
    prompts, responses, finished = ([row for part in parts for row in part[i]] for i in range(3))
    ids, mask = pad_left(prompts, device)
    answers, answer_mask = pad_right(responses, device)
    width = answers.shape[1]
    joined = [torch.cat([t if t.ndim == 1 else F.pad(t, (0, width - t.shape[1])) for t in same]).to(device)
              for same in zip(*(part[3] for part in parts), strict=True)]
    return Rollout(torch.cat([ids, answers], 1), torch.cat([mask, answer_mask], 1), answer_mask.bool(), ids.shape[1],
                   torch.tensor(finished, device=device)), *joined
