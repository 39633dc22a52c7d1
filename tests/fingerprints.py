"""Fingerprints of every training function on tiny data, and of a finished run: has a refactoring changed a number?

    OMP_NUM_THREADS=1 python tests/fingerprints.py runs/before > before.txt     # then change the code, run again
    OMP_NUM_THREADS=1 python tests/fingerprints.py runs/after | diff before.txt -

Equal lines mean equal bits: weights, histories and results. The bits depend on the machine, on the version of PyTorch
and on the number of threads, so this is a tool for one machine and not a test. Times and memory are left out.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rlhf_lite import dpo, models, ppo, pretrain, reward, rloo, sft
from rlhf_lite.models import BEGIN, END
from rlhf_lite.real import shared_trunk

rng = np.random.default_rng(0)
PROMPTS = [[BEGIN, *map(int, rng.integers(5, 60, size=rng.integers(2, 7)))] for _ in range(24)]
ANSWERS = [[*map(int, rng.integers(5, 60, size=rng.integers(1, 6))), END] for _ in range(96)]
WEB = rng.integers(5, 60, size=(40, 16)).astype(np.uint16)
EXAMPLES = [sft.build_example(prompt, answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=False)]
RANKINGS = [reward.RankedPrompt(prompt, ANSWERS[4 * i:4 * i + 4], [1, 2, 2, 3] if i % 3 else [2, 1, 3, 4])
            for i, prompt in enumerate(PROMPTS)]
QUIET = {"progress": False}
WATCHED = {**QUIET, "evaluate": lambda model, number: {"seen": number}, "evaluate_every": 3}
LEFT_OUT = ("minutes.json", "memory.json", "report.html")


def fingerprint(content):
    """Of a model's weights, or of anything that JSON can hold."""
    digest = hashlib.sha256()
    if isinstance(content, torch.nn.Module):
        for name, tensor in content.state_dict().items():
            digest.update(name.encode() + tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    else:
        digest.update(json.dumps(without_times(content), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def without_times(content):
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key != "seconds"}
    return [without_times(value) for value in content] if isinstance(content, (list, tuple)) else content


def show(name, *contents):
    print(f"{name:40}", *map(fingerprint, contents), flush=True)


def a_policy():
    return models.new_policy("tiny", 0)


def low_tokens(rollout):
    return -torch.tensor([float(np.mean(ids)) for ids in rollout.response_ids()]) / 100


def pretraining():
    policy = a_policy()
    history = pretrain.train(policy, WEB, pretrain.PretrainConfig(steps=12, batch_size=4, warmup=3), **QUIET)
    show("pretrain", policy, history)


def fine_tuning():
    for name, changes in (("plain", {}), ("in parts", {"micro_batch": 3}), ("dropout", {"dropout": 0.2}),
                          ("mixed", {"pretraining_mix": 0.1, "micro_batch": 5}),
                          ("decay", {"weight_decay": 0.1, "max_grad_norm": 0.5})):
        policy, config = a_policy(), sft.SFTConfig(epochs=3, batch_size=8, lr=1e-2, **changes)
        history = sft.train_sft(policy, EXAMPLES, config, EXAMPLES[:5], WEB if "pretraining_mix" in changes else None,
                                **QUIET)
        show(f"sft, {name}", policy, history)


def reward_models():
    for name, changes in (("plain", {}), ("in parts", {"micro_batch": 1}), ("pairs", {"shuffled_pairs": True}),
                          ("whole", {"micro_batch": None, "weight_decay": 0.1})):
        model = models.scalar_from_policy(a_policy(), 0)
        config = reward.RewardConfig(epochs=2, batch_prompts=6, **changes)
        show(f"reward, {name}", model, reward.train_reward(model, RANKINGS, config, RANKINGS[:4], **QUIET))


def a_judge():
    judge = models.scalar_from_policy(a_policy(), 1)
    reward.train_reward(judge, RANKINGS, reward.RewardConfig(batch_prompts=4, lr=5e-3), **QUIET)
    return judge


PPO = ppo.PPOConfig(iterations=6, batch_size=16, minibatch=4, max_new_tokens=8, lr=3e-3, micro_batch=3, kl_coef=0.1)


def proximal(judge):
    for name, changes, reward_fn in (
            ("function", {}, low_tokens), ("model", {}, judge), ("ptx", {"ptx_coef": 0.5, "inner_epochs": 2}, judge),
            ("adaptive KL", {"target_kl": 0.3}, low_tokens),
            ("plain", {"value_clip": None, "whiten_advantages": False, "missing_end_penalty": 0.5, "micro_batch": None},
             low_tokens),
            ("cold", {"temperature": 0.7, "gamma": 0.98, "lam": 0.9, "max_grad_norm": 0.1, "clip_range": 0.1},
             low_tokens), ("bf16", {"bf16": True}, judge)):
        policy, critic, config = a_policy(), models.copy_model(judge), replace(PPO, **changes)
        run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), critic, PROMPTS, config, reward_fn,
                            WEB if "ptx_coef" in changes else None, **WATCHED)
        show(f"ppo, {name}", policy, critic, run.ema, run.history)


def after_instructgpt(judge):
    for name, changes in (("plain", {}), ("epochs", {"epochs": 3, "beta": 0.5, "batch_prompts": 5})):
        policy = a_policy()
        history = dpo.train_dpo(policy, models.copy_model(policy, trainable=False), RANKINGS,
                                dpo.DPOConfig(lr=1e-3, **changes), **WATCHED)
        show(f"dpo, {name}", policy, history)
    for name, reward_fn in (("function", low_tokens), ("model", judge)):
        policy = a_policy()
        config = rloo.RLOOConfig(iterations=6, prompts_per_step=4, max_new_tokens=8, lr=3e-3, warmup_iterations=3)
        history = rloo.train_rloo(policy, models.copy_model(policy, trainable=False), PROMPTS, config, reward_fn,
                                  **WATCHED)
        show(f"rloo, {name}", policy, history)


def on_a_shared_trunk():
    policy = a_policy()
    scores = shared_trunk.freeze_trunk(models.scalar_from_policy(policy, 0), 1)
    reward.train_reward(scores, RANKINGS, reward.RewardConfig(batch_prompts=4, lr=5e-3), **QUIET)
    *team, judge = shared_trunk.share(policy, scores, 1)
    run = ppo.train_ppo(*team, PROMPTS, PPO, judge, **QUIET)
    show("ppo, shared trunk", shared_trunk.unshare(team[0]), run.history)


def a_run(folder):
    """Every checkpoint, table and row of answers in a run's folder."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in LEFT_OUT or name.startswith("state"):
            continue
        if path.suffix == ".json":
            show(name, json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".jsonl":
            show(name, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
        elif path.suffix == ".safetensors":
            print(f"{name:40} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    pretraining()
    fine_tuning()
    reward_models()
    proximal(judge := a_judge())
    after_instructgpt(judge)
    on_a_shared_trunk()
    for argument in sys.argv[1:]:
        a_run(Path(argument))
