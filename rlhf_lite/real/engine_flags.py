"""Our hyper-parameters under other names: the commands that continue in TRL, OpenRLHF or verl.

The idea: each of our settings is either a flag of the engine or a sentence that says the engine has none. There is one
table per engine and stage and nothing else; `export` writes it as `launch.sh` next to the models and data.

The flags were checked against TRL 1.12.0 and 1.16.0, OpenRLHF 0.11.0 and verl 0.9.1. They change often: if an engine's
own help disagrees, trust the help.
"""

import json
import shlex
from dataclasses import asdict

from rlhf_lite import schemas
from rlhf_lite.dpo import DPOConfig
from rlhf_lite.experiment import formats
from rlhf_lite.ppo import PPOConfig
from rlhf_lite.reward import RewardConfig
from rlhf_lite.sft import SFTConfig

ENGINES = ("trl", "openrlhf", "verl", "nemo-rl")


def settings(recipe=None):
    """{"sft", "reward", "dpo", "ppo"}: the configs of a run's recipe (the dict in recipe.json), or the defaults."""
    if recipe is None:
        return {"sft": SFTConfig(), "reward": RewardConfig(), "dpo": DPOConfig(), "ppo": PPOConfig()}
    schemas.check(recipe, formats.recipe_schema(), "The recipe", "give the content of a run's recipe.json.")
    ppo = {**recipe["ppo"], "ptx_coef": recipe.get("ptx_coef", 0.0)}
    return {"sft": SFTConfig(epochs=recipe["sft_epochs"], lr=recipe["sft_lr"], batch_size=recipe["sft_batch"],
                             seed=recipe["seed"]),
            "reward": RewardConfig(lr=recipe["reward_lr"], seed=recipe["seed"], batch_prompts=16),
            "dpo": DPOConfig(seed=recipe["seed"]), "ppo": PPOConfig(**ppo)}


def script(engine, found, stages, context, pairs=1):
    """The text of launch.sh.

    found: as from `settings`; stages: names of the exported models; context: in tokens; pairs: per average ranking.
    The engines know only pairs, so a batch must have as many pairs as our batch of rankings has: with smaller batches,
    the same learning rate would take many more steps, each of them noisier.
    """
    for name, config in found.items():  # numbers and nothing else: the script will be run
        wrong = schemas.misfit(asdict(config), schemas.of_settings(type(config)))
        if wrong:
            raise ValueError(f"The settings for {name} do not fit ({wrong}); see the defaults of its config.")
    lines = ["#!/usr/bin/env bash", f"# Written by rlhf_lite for {engine}. Read it first, then run it in this folder.",
             "# Learning rates are ours, chosen for the exported model; larger models need smaller ones.",
             "set -euo pipefail", 'cd "$(dirname "$0")"']
    for title, needs, notes, words in TABLES[engine](found, context, pairs):
        lines += ["", f"# ---- {title}", *("# " + " ".join(note.split()) for note in notes)]  # a comment is one line
        command = _command(words)
        if not needs <= stages:
            lines.append(f"# (left out: {', '.join(sorted(needs - stages))} was not exported)")
            command = "\n".join("# " + line for line in command.splitlines())
        lines.append(command)
    return "\n".join(lines) + "\n"


def flags(engine):
    """{stage: every flag that the engine's script passes to it}."""
    found = settings()
    return {title: [w.split("=")[0] for w in words if w.startswith("--") or engine == "verl" and "=" in w]
            for title, _, _, words in TABLES[engine](found, 320, 1)}


def _command(words):
    """Words -> one command, with each flag and its values on its own line."""
    text = ""
    for word in words:
        new_line = word.startswith("--") or ("=" in word and not word.startswith("{"))
        text += (" \\\n  " if new_line and text else " " if text else "") + shlex.quote(word)
    return text


def _cosine(share):
    return ["--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs", json.dumps({"min_lr_rate": share})]


def _trl(found, context, pairs):
    sft, reward, dpo, ppo = (found[name] for name in ("sft", "reward", "dpo", "ppo"))
    common = ["--max_grad_norm", "1.0", "--adam_beta2", "0.95", "--max_length", f"{context}"]
    yield ("sft", {"base"}, [f"dropout {sft.dropout} and pretraining_mix {sft.pretraining_mix}: TRL has no flag"],
           ["trl", "sft", "--model_name_or_path", "base", "--dataset_name", "data/demonstrations",
            "--dataset_test_split", "validation", "--output_dir", "out/sft", "--num_train_epochs", f"{sft.epochs}",
            "--per_device_train_batch_size", f"{sft.batch_size}", "--learning_rate", f"{sft.lr}",
            "--weight_decay", f"{sft.weight_decay}", "--seed", f"{sft.seed}", *_cosine(sft.min_lr_share), *common])
    yield ("reward", {"sft"}, ["TRL trains on single pairs: it ignores the K-wise weights (column pair_weight) and",
                               "spreads the pairs of a prompt over batches; in the paper, that overfitted.",
                               f"Each step sees {reward.batch_prompts} times {pairs} pairs, as many as our "
                               f"{reward.batch_prompts} rankings have.",
                               "Our own reward model is in reward/; its bias is config.mean, which TRL does not read."],
           ["trl", "reward", "--model_name_or_path", "sft", "--dataset_name", "data/pairs",
            "--dataset_test_split", "validation", "--output_dir", "out/reward", "--num_train_epochs",
            f"{reward.epochs}", "--per_device_train_batch_size", f"{reward.batch_prompts}",
            "--gradient_accumulation_steps", f"{pairs}", "--learning_rate", f"{reward.lr}",
            "--weight_decay", f"{reward.weight_decay}", "--seed", f"{reward.seed}", *_cosine(reward.min_lr_share),
            *common])
    yield ("dpo", {"sft"}, ["beta is DPO's own; our kl_coef belongs to a normalised reward model"],
           ["trl", "dpo", "--model_name_or_path", "sft", "--dataset_name", "data/pairs",
            "--dataset_test_split", "validation", "--output_dir", "out/dpo", "--beta", f"{dpo.beta}",
            "--num_train_epochs", f"{dpo.epochs}", "--per_device_train_batch_size", f"{dpo.batch_prompts}",
            "--gradient_accumulation_steps", f"{pairs}", "--learning_rate", f"{dpo.lr}", "--seed", f"{dpo.seed}",
            *_cosine(0.1), *common])  # the default share of cosine_lr, as in train_dpo
    steps = max(1, ppo.batch_size // ppo.minibatch) * ppo.inner_epochs  # optimizer steps in one of our iterations
    yield ("rloo", {"sft", "reward"},
           ["TRL has had no PPO since 1.13 (trl==1.12.0: trl.experimental.ppo). RLOO has no critic, so no flag for",
            f"critic_lr {ppo.critic_lr}, lam {ppo.lam}, value_clip {ppo.value_clip}. Also without a flag: ptx_coef, "
            f"ema_decay {ppo.ema_decay}, target_kl.",
            "judge.py reads the sampled ids. With --reward_model_name_or_path, TRL would strip END from all answers,",
            "and the chat template would then add one to each, even to those that were cut off."],
           ["trl", "rloo", "--model_name_or_path", "sft", "--reward_funcs", "judge.score",
            "--dataset_name", "data/prompts", "--output_dir", "out/rloo", "--beta", f"{ppo.kl_coef}",
            "--epsilon", f"{ppo.clip_range}", "--num_iterations", f"{ppo.inner_epochs}", "--num_generations", "4",
            "--temperature", f"{ppo.temperature}", "--top_k", "0", "--max_completion_length", f"{ppo.max_new_tokens}",
            "--per_device_train_batch_size", f"{ppo.minibatch}", "--steps_per_generation",
            f"{max(1, ppo.batch_size // ppo.minibatch)}", "--max_steps", f"{ppo.iterations * steps}",
            "--learning_rate", f"{ppo.lr}", "--lr_scheduler_type", "constant_with_warmup",
            "--warmup_steps", f"{ppo.warmup_iterations * steps}", "--max_grad_norm", f"{ppo.max_grad_norm}",
            "--adam_beta2", "0.95", "--seed", f"{ppo.seed}"])


def _openrlhf(found, context, pairs):
    sft, reward, ppo = (found[name] for name in ("sft", "reward", "ppo"))

    def common(config):
        return ["--adam.lr", f"{config.lr}", "--adam.weight_decay", f"{config.weight_decay}", "--min_lr_ratio",
                f"{config.min_lr_share}", "--lr_warmup_ratio", "0.0", "--max_norm", f"{config.max_grad_norm}",
                "--train.seed", f"{config.seed}", "--train.max_epochs", f"{config.epochs}", "--data.max_len",
                f"{context}", "--ds.zero_stage", "2", "--ds.param_dtype", "bf16"]
    yield ("sft", {"base"}, [f"dropout {sft.dropout} and pretraining_mix {sft.pretraining_mix}: OpenRLHF has no flag"],
           ["deepspeed", "--module", "openrlhf.cli.train_sft", "--model.model_name_or_path", "base",
            "--data.dataset", "data/demonstrations/train.jsonl", "--data.input_key", "prompt", "--data.output_key",
            "completion", "--data.input_template", "{}", "--train.batch_size", f"{sft.batch_size}",
            "--train.micro_batch_size", f"{sft.micro_batch or 8}", *common(sft), "--ckpt.output_dir", "out/sft"])
    yield ("reward", {"sft"}, ["OpenRLHF trains on single pairs: it ignores the K-wise weights (column pair_weight).",
                               "The evaluation set matters: mean and std for normalize_enable are measured on it, over",
                               "chosen and rejected answers; ours makes demonstrations average 0."],
           ["deepspeed", "--module", "openrlhf.cli.train_rm", "--model.model_name_or_path", "sft",
            "--data.dataset", "data/pairs/train.jsonl", "--eval.dataset", "data/pairs/validation.jsonl",
            "--data.prompt_key", "prompt", "--data.chosen_key", "chosen", "--data.rejected_key", "rejected",
            "--train.batch_size", f"{reward.batch_prompts * pairs}", "--train.micro_batch_size",
            f"{reward.micro_batch or 8}", *common(reward), "--ckpt.output_dir", "out/reward"])
    yield ("ppo", {"sft", "reward"},
           [f"Without a flag: ptx_coef {ppo.ptx_coef}, missing_end_penalty, max_kl; a token's KL is clamped to ±10",
            "normalize_enable subtracts config.mean, which is minus our reward model's bias."],
           ["python3", "-m", "openrlhf.cli.train_ppo_ray",
            *(word for who in ("actor", "ref", "critic", "reward") for word in (
                f"--{who}.num_nodes", "1", f"--{who}.num_gpus_per_node", "1")),
            "--vllm.num_engines", "1", "--vllm.tensor_parallel_size", "1", "--train.colocate_all",
            "--vllm.enable_sleep", "--ds.enable_sleep", "--actor.model_name_or_path", "sft",
            "--critic.model_name_or_path", "reward", "--reward.model_name_or_path", "reward",
            "--reward.normalize_enable", "--data.prompt_dataset", "data/prompts/train.jsonl", "--data.input_key",
            "prompt", "--data.max_len", f"{context}", "--rollout.max_new_tokens", f"{ppo.max_new_tokens}",
            "--rollout.temperature", f"{ppo.temperature}", "--rollout.batch_size", f"{ppo.batch_size}",
            "--rollout.n_samples_per_prompt", "1", "--train.batch_size", f"{ppo.minibatch}",
            "--train.micro_batch_size", f"{ppo.micro_batch or ppo.minibatch}", "--train.max_epochs",
            f"{ppo.inner_epochs}", "--data.max_samples", f"{ppo.iterations * ppo.batch_size}",
            "--algo.kl.init_coef", f"{ppo.kl_coef}",
            *(["--algo.kl.target", f"{ppo.target_kl}"] if ppo.target_kl is not None else []),
            "--algo.advantage.gamma", f"{ppo.gamma}", "--algo.advantage.lambd", f"{ppo.lam}", "--actor.eps_clip",
            f"{ppo.clip_range}", "--critic.value_clip", f"{1e6 if ppo.value_clip is None else ppo.value_clip}",
            *(word for who, lr in (("actor", ppo.lr), ("critic", ppo.critic_lr)) for word in (
                f"--{who}.adam.lr", f"{lr}", f"--{who}.lr_scheduler", "constant_with_warmup",
                f"--{who}.lr_warmup_ratio", f"{min(1, ppo.warmup_iterations / max(1, ppo.iterations)):.3g}",
                f"--{who}.max_norm", f"{ppo.max_grad_norm}")), "--train.enable_ema",
            "--train.ema_beta", f"{ppo.ema_decay}", "--train.seed", f"{ppo.seed}", "--ds.zero_stage", "2",
            "--ds.param_dtype", "bf16", "--ckpt.output_dir", "out/ppo"])


def _verl(found, context, pairs):
    ppo = found["ppo"]
    actor, micro = "actor_rollout_ref.actor", ppo.micro_batch or ppo.minibatch
    yield ("ppo", {"sft", "reward"},
           ["verl trains no reward model, and its SFT is not set up here: sft/ and reward/ are ours.",
            "use_kl_in_reward is off by default; kl_coef would then do nothing. A vLLM server reads the reward",
            "model's logit and does not subtract config.mean; nor does the critic's head start with a bias.",
            f"Without a flag: ptx_coef {ppo.ptx_coef}, ema_decay, missing_end_penalty; advantages are whitened."],
           ["python3", "-m", "verl.trainer.main_ppo", "algorithm.adv_estimator=gae", "algorithm.use_kl_in_reward=True",
            f"algorithm.kl_ctrl.kl_coef={ppo.kl_coef}",
            *([] if ppo.target_kl is None else ["algorithm.kl_ctrl.type=adaptive",
                                                f"algorithm.kl_ctrl.target_kl={ppo.target_kl}"]),
            f"algorithm.gamma={ppo.gamma}", f"algorithm.lam={ppo.lam}", "data.train_files=data/prompts/train.parquet",
            "data.val_files=data/prompts/validation.parquet", f"data.train_batch_size={ppo.batch_size}",
            f"data.max_prompt_length={context - ppo.max_new_tokens}", f"data.max_response_length={ppo.max_new_tokens}",
            f"data.seed={ppo.seed}", "actor_rollout_ref.model.path=sft", f"{actor}.optim.lr={ppo.lr}",
            f"{actor}.optim.weight_decay=0.0", f"{actor}.optim.lr_warmup_steps={ppo.warmup_iterations}",
            f"{actor}.grad_clip={ppo.max_grad_norm}", f"{actor}.clip_ratio={ppo.clip_range}",
            f"{actor}.ppo_epochs={ppo.inner_epochs}", f"{actor}.ppo_mini_batch_size={ppo.minibatch}",
            f"{actor}.ppo_micro_batch_size_per_gpu={micro}", "actor_rollout_ref.rollout.name=vllm",
            f"actor_rollout_ref.rollout.temperature={ppo.temperature}",
            f"actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu={micro}",
            f"actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu={micro}", "critic.model.path=reward",
            f"critic.optim.lr={ppo.critic_lr}", "critic.optim.weight_decay=0.0",
            f"critic.cliprange_value={1e6 if ppo.value_clip is None else ppo.value_clip}",
            f"critic.ppo_micro_batch_size_per_gpu={micro}", "reward.reward_model.enable=True",
            "reward.reward_model.model_path=reward", "reward.reward_model.rollout.name=vllm",
            "reward.reward_model.rollout.tensor_model_parallel_size=1", "trainer.n_gpus_per_node=1", "trainer.nnodes=1",
            f"trainer.total_training_steps={ppo.iterations}"])


def _nemo(found, context, pairs):
    yield ("reward", {"sft"},
           ["Start it in a checkout of NeMo-RL, with the full path of this folder. Name data/preferences/ in the data",
            "section of the config: its rows keep all K ranks (0 is the best), though the trainer reads two of them.",
            "Not run, and only this form of the data was compared with NeMo-RL's documentation."],
           ["uv", "run", "examples/run_rm.py", "--config", "examples/configs/rm.yaml", "policy.model_name=sft"])
    # Its PPO is left to its own guide: the critic starts as the policy, not as the reward model, and the example has
    # reference_policy_kl_penalty 0.0, which switches InstructGPT's KL off.


JUDGE = '''"""The reward model for TRL's RLOO. It reads the sampled ids, so an answer that was cut off has no END."""

import os
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

FOLDER = Path(__file__).resolve().parent / "reward"
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()
if torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "false") != "true":
    model.to(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")


@torch.no_grad()
def score(prompts, completion_ids, **_):
    """Messages and lists of ids -> one number each: the logit, which is our score plus config.mean."""
    asked = [tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
             for prompt in prompts]
    rows, logits = [first + list(then) for first, then in zip(asked, completion_ids)], []
    for start in range(0, len(rows), 16):
        batch = tokenizer.pad({"input_ids": rows[start:start + 16]}, padding_side="right", return_tensors="pt")
        logits += model(**batch.to(model.device)).logits[:, 0].tolist()
    return logits
'''
TABLES = {"trl": _trl, "openrlhf": _openrlhf, "verl": _verl, "nemo-rl": _nemo}
