"""What fits: the peak memory of training, estimated without loading a single weight.

The idea: build the model on PyTorch's meta device, where tensors have shapes but no numbers, and count. Weights,
gradients and Adam moments are multiples of the number of parameters; what autograd keeps for the backward pass is
counted by running the forward pass on shapes alone.

Left out: fragmentation, the workspace of single kernels, and PyTorch itself (a quarter of a GB, more on a GPU).

    python -m rlhf_lite.real.memory ["GPT-2 small" ...]   the table, and timings of the models you name
    python -m rlhf_lite.real.memory --sharing [6m]        what a shared trunk saves (see `shared_trunk`), measured
"""

import functools
import sys
import time
import warnings

import psutil
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from rlhf_lite.experiment.machine import peak_memory
from rlhf_lite.models import SIZES, VOCABULARY, ScalarModel, parameter_count

GB = 1e9


def skeleton(config):
    """The causal language model of a config on the meta device."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def free_memory(device="cpu"):
    """The number of free bytes on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available  # Apple's GPU shares it


def check_room(config, device, dtype, name):
    """Raise MemoryError if the weights alone do not fit; called before they are fetched."""
    parameters = parameter_count(skeleton(config))
    need = parameters * dtype.itemsize
    for place in {torch.device(device), torch.device("cpu")}:  # they pass through the CPU
        free = free_memory(place)
        if need > free:
            raise MemoryError(f"{name} has {parameters / 1e6:,.0f}M parameters and needs {need / GB:.1f} GB in "
                              f"{str(dtype)[6:]}, but {place} has {free / GB:.1f} GB free; choose a smaller model, "
                              "bfloat16 or another device (training takes much more: memory_table()).")


def training_memory(config, rows=8, prompt=96, response=48):
    """Estimate PPO's memory in bytes -> {"parameters", "models", "gradients", "adam", "activations", "peak"}.

    With P parameters in the policy and T in a scalar model (trunk and score unit), 4 bytes each:

        models       3 P + 2 T    policy, reference, the averaged policy; critic, reward model
        gradients      P +   T    policy and critic
        adam         2 P + 2 T    two moments each
        activations  what autograd keeps of policy and critic for `rows` rows of prompt + response tokens, plus
                     two more copies of the logits (rows, response + 1, vocabulary): the gradients of the log-softmax
        peak         their sum

    That makes 44 bytes per parameter before activations; SFT and reward-model training take 16 + activations. With
    LoRA for policy and critic, gradients and adam nearly vanish, which leaves 20. rows is `micro_batch`; the batch
    size costs nothing.
    """
    policy = skeleton(config)
    critic = ScalarModel(policy.base_model).to("meta")
    p, t = parameter_count(policy), parameter_count(critic)
    ids = torch.zeros(rows, prompt + response, dtype=torch.long, device="meta")
    known = {tensor.untyped_storage()._cdata for tensor in critic.parameters()}
    known |= {tensor.untyped_storage()._cdata for tensor in policy.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage  # keep it alive, so that no other storage gets its address
        return tensor

    # Four axes, because transformers would search a mask of two axes for padding, and here there are no numbers.
    inputs = {"input_ids": ids, "attention_mask": torch.ones(rows, 1, ids.shape[1], ids.shape[1], dtype=torch.bool,
                                                             device="meta"), "use_cache": False}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = policy(**inputs, logits_to_keep=response + 1).logits[:, :-1].float() / 1.0
        (scores.gather(2, ids[:, prompt:, None]).squeeze(2) - scores.logsumexp(dim=-1)).sum()
        critic.score(critic.trunk(**inputs).last_hidden_state).sum()
    activations = sum(storage.nbytes() for storage in kept.values()) + 8 * rows * (response + 1) * config.vocab_size
    parts = {"models": 4 * (3 * p + 2 * t), "gradients": 4 * (p + t), "adam": 8 * (p + t), "activations": activations}
    return {"parameters": p, **parts, "peak": sum(parts.values())}


LARGER = {  # the shapes of published models, without their weights
    "GPT-2 small": GPT2Config(),
    "SmolLM2-135M": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                         "intermediate_size": 1536, "vocab_size": 49152},
    "SmolLM2-360M": {"hidden_size": 960, "num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5,
                         "intermediate_size": 2560, "vocab_size": 49152},
    "Llama-3.2-1B": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
                         "intermediate_size": 8192, "vocab_size": 128256},
}


def all_sizes():
    """{name: config} of the models in the tables."""
    shapes = {name: dict(SIZES[name], vocab_size=VOCABULARY) for name in ("1.3m", "6m", "175m")} | LARGER
    return {name: LlamaConfig(tie_word_embeddings=True, **shape) if isinstance(shape, dict) else shape
            for name, shape in shapes.items()}


def memory_table(rows=8, prompt=96, response=48):
    """A Markdown table of `training_memory` estimates from 1.3M to 1B parameters, in GB."""
    sizes = all_sizes()
    lines = ["| model | parameters | five models | gradients | Adam | activations | PPO, peak | to sample only |",
             "|---|--:|--:|--:|--:|--:|--:|--:|"]
    found = []
    for name, config in sizes.items():
        found.append((name, training_memory(config, rows, prompt, response)))
    for name, parts in sorted(found, key=lambda pair: pair[1]["parameters"]):
        numbers = [parts[key] for key in ("models", "gradients", "adam", "activations", "peak")]
        numbers.append(4 * parts["parameters"])
        lines.append(f"| {name} | {parts['parameters'] / 1e6:,.1f}M | "
                     + " | ".join(f"{number / GB:.2f}" for number in numbers) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------- activations, computed twice instead of kept

def checkpoint_activations(model):
    """Keep only the input of each block and recompute the rest in the backward pass, in place; returns the model.

    Gradients stay the same. Without gradients (rollouts, scoring) nothing changes, and the KV cache keeps working.
    (transformers' own switch turns the cache off, which makes sampling ten times slower, and does nothing in
    evaluation mode, which `train_ppo` and `train_reward` use.) Takes a policy or ScalarModel of Llama or GPT-2 type.
    """
    base = model.trunk if isinstance(model, ScalarModel) else model.base_model
    blocks = getattr(base, "layers", None) or getattr(base, "h", None)
    if blocks is None:
        raise ValueError(f"{type(model).__name__} has no list of blocks under a known name; train it as it is, with a "
                         "smaller micro_batch.")
    for block in blocks:
        if "forward" not in vars(block):  # once is enough
            block.forward = functools.partial(_checkpointed, block.forward)
    return model


def _checkpointed(forward, *inputs, **options):
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return torch.utils.checkpoint.checkpoint(forward, *inputs, use_reentrant=False, **options)


# ---------------------------------------------------------------- how fast

def speed(config, rows=8, prompt=96, response=48, device="cpu", bf16=False):
    """Measure a model with random weights: {"sample", "train"} in tokens per second and "peak" in bytes.

    sample: response tokens drawn by `sampling.sample`. train: prompt and response tokens through one forward and
    backward pass of the policy's loss. peak: that of the whole process on a CPU, or of this measurement on a GPU.
    """
    from rlhf_lite.sampling import sample, token_log_probs  # imported late because it is slow to import

    device = torch.device(device)
    policy = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device).eval()
    ids = torch.randint(config.vocab_size, (rows, prompt), generator=torch.Generator().manual_seed(0)).tolist()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = {}
    for name in ("warm", "sample", "train"):
        _wait(device)
        started = _clock()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            if name != "train":
                rollout = sample(policy, ids, 2 if name == "warm" else response,
                                 generator=torch.Generator(device=device).manual_seed(0))
                tokens = int(rollout.lengths.sum())
            else:
                loss = -token_log_probs(policy, rollout.sequences, rollout.attention_mask, prompt).mean()
                tokens = rollout.sequences.numel()
        if name == "train":
            loss.backward()
        _wait(device)
        found[name] = tokens / (_clock() - started)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return {"sample": found["sample"], "train": found["train"], "peak": peak}


def _clock():
    """Seconds; with one CPU thread, processor seconds, so that other programs do not count."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def sharing_table(size="6m", responses=32, prompt=24, new_tokens=32, iterations=2):
    """Measure an iteration of PPO with four whole models and with 1 to all but one blocks shared; -> Markdown.

    memory: weights of all five models, gradients, Adam's moments and the trunk's rows, in MB. The last two columns are
    the seconds of the last iteration (one inner epoch, minibatches of 16) and their share of the first row's.
    """
    from rlhf_lite import models, ppo
    from rlhf_lite.real import shared_trunk

    policy = models.new_policy(size, 0)
    ids = torch.randint(3, VOCABULARY, (responses, prompt), generator=torch.Generator().manual_seed(0)).tolist()
    config = ppo.PPOConfig(iterations=iterations, batch_size=responses, max_new_tokens=new_tokens, warmup_iterations=0)
    lines = ["| blocks shared | trained weights of the policy | memory, MB | an iteration, s | share |",
             "|--:|--:|--:|--:|--:|"]
    first = None
    for n in range(policy.config.num_hidden_layers):
        scores = models.scalar_from_policy(policy, 0)
        if n == 0:
            four = [models.copy_model(policy), models.copy_model(policy, trainable=False), models.copy_model(scores),
                    scores]
        else:
            four = shared_trunk.share(policy, shared_trunk.freeze_trunk(scores, n), n)
        run = ppo.train_ppo(*four[:3], ids, config, four[3], progress=False)
        seconds = run.history[-1]["seconds"]
        trained = [p for model in (four[0], four[2]) for p in model.parameters()]
        trunk = list(four[0].upper.trunk.base.parameters()) if n else []
        held = {p.data_ptr(): p.numel() for model in (*four, run.ema) for p in model.parameters()}
        held |= {p.data_ptr(): p.numel() for p in trunk}
        count = sum(held.values()) + 3 * sum(p.numel() for p in trained)
        memory = (4 * count + (four[0].upper.trunk.bytes if n else 0)) / 1e6
        first = first or seconds
        lines.append(f"| {n or 'none'} of {policy.config.num_hidden_layers} | {parameter_count(four[0]) / 1e6:.2f}M "
                     f"| {memory:.0f} | {seconds:.2f} | {seconds / first:.0%} |")
    return "\n".join(lines)


def main(names, device="auto"):
    """Print the table of estimates and the speed of the models that are named, or the sharing table."""
    from rlhf_lite.files import utf8_output
    from rlhf_lite.models import pick_device

    utf8_output()
    if names[:1] == ["--sharing"]:
        return print(sharing_table(*names[1:2]))
    device = pick_device(device)
    print(memory_table())
    for name in names:
        if name not in all_sizes():
            raise SystemExit(f"There is no model {name!r} in the table; choose from: {', '.join(all_sizes())}.")
        found = speed(all_sizes()[name], device=device)
        print(f"{name}: {found['sample']:,.0f} tokens/s sampled, {found['train']:,.0f} tokens/s trained (forward and "
              f"backward), peak {found['peak'] / GB:.2f} GB on {device} with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main(sys.argv[1:])
