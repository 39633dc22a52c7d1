"""What fits: the peak memory of training, estimated without a single weight in memory.

The idea: build the model on PyTorch's meta device, where tensors have shapes and no numbers, and count. The weights,
gradients and Adam moments are a multiple of the parameters; what autograd keeps for the backward pass is counted by
running the forward pass on shapes alone.

Left out: fragmentation, the workspace of single kernels, and PyTorch itself (a quarter of a GB, on a GPU more).
"""

import warnings

import psutil
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from rlhf_lite.models import SIZES, ScalarModel, parameter_count

GB = 1e9


def skeleton(config):
    """The causal language model of a config on the meta device."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def free_memory(device="cpu"):
    """Bytes that are free on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available  # Apple's GPU shares it


def check_room(config, device, dtype, name):
    """Raise MemoryError when the weights alone do not fit; called before they are fetched."""
    parameters = parameter_count(skeleton(config))
    need = parameters * dtype.itemsize
    for place in {torch.device(device), torch.device("cpu")}:  # they pass through the CPU
        free = free_memory(place)
        if need > free:
            raise MemoryError(f"{name} has {parameters / 1e6:,.0f}M parameters and needs {need / GB:.1f} GB in "
                              f"{str(dtype)[6:]}, but {place} has {free / GB:.1f} GB free; choose a smaller model, "
                              "bfloat16 or another device (training takes much more: memory_table()).")


def training_memory(config, rows=8, prompt=96, response=48):
    """Estimated peak of PPO in bytes -> {"parameters", "models", "gradients", "adam", "activations", "peak"}.

    With P parameters of the policy and T of a scalar model (trunk and score unit), 4 bytes each:

        models       3 P + 2 T    policy, reference, the averaged policy; critic, reward model
        gradients      P +   T    policy and critic
        adam         2 P + 2 T    two moments each
        activations  what autograd keeps for `rows` rows of prompt + response tokens of policy and critic, plus
                     two more copies of the logits (rows, response + 1, vocabulary): the gradients of the log-softmax
        peak         their sum

    44 bytes a parameter before activations; SFT takes 16 + activations, the reward model's training as much. With
    LoRA of policy and critic, gradients and adam nearly vanish: 20. rows is `micro_batch`; batch size is free.
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
            kept[storage._cdata] = storage  # held, so that no other gets its address
        return tensor

    # Four axes: a mask of two is looked into for padding, and there are no numbers to look at.
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
    "SmolLM2-135M": dict(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
                         intermediate_size=1536, vocab_size=49152),
    "SmolLM2-360M": dict(hidden_size=960, num_hidden_layers=32, num_attention_heads=15, num_key_value_heads=5,
                         intermediate_size=2560, vocab_size=49152),
    "Llama-3.2-1B": dict(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                         intermediate_size=8192, vocab_size=128256),
}


def memory_table(rows=8, prompt=96, response=48):
    """The estimates of `training_memory` from 1.3M to 1B parameters as a Markdown table, in GB."""
    sizes = {name: dict(SIZES[name], vocab_size=2048) for name in ("1.3m", "6m", "175m")} | LARGER
    lines = ["| model | parameters | five models | gradients | Adam | activations | PPO, peak | to sample only |",
             "|---|--:|--:|--:|--:|--:|--:|--:|"]
    found = []
    for name, shape in sizes.items():
        config = LlamaConfig(tie_word_embeddings=True, **shape) if isinstance(shape, dict) else shape
        found.append((name, training_memory(config, rows, prompt, response)))
    for name, parts in sorted(found, key=lambda pair: pair[1]["parameters"]):
        numbers = [parts[key] for key in ("models", "gradients", "adam", "activations", "peak")]
        numbers.append(4 * parts["parameters"])
        lines.append(f"| {name} | {parts['parameters'] / 1e6:,.1f}M | "
                     + " | ".join(f"{number / GB:.2f}" for number in numbers) + " |")
    return "\n".join(lines)
