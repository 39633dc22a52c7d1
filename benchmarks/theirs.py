"""TRL's side: the same work from the same folder, by TRL's own trainers. Nothing of ours is imported but the clock.

SFT, reward model, DPO, RLOO and GRPO start as `trl sft ...` does, with the words of the exported launch.sh; PPO has no
command, so its trainer is called. Float32 on the CPU, nothing reported, nothing saved; only train() is timed.
"""

import importlib
import json
import os
import shlex
import sys
from pathlib import Path

import torch

from benchmarks.clock import timed

LOCAL = ("--use_cpu --bf16 False --gradient_checkpointing False --report_to none --save_strategy no "
         "--logging_strategy no --disable_tqdm True").split()


def prepare(method, world, threads=1, equal=False):
    """A function that does the work once. equal: nothing ends an answer, so all have the same number of tokens."""
    torch.set_num_threads(threads)
    world = Path(world).resolve()
    os.chdir(world)
    os.environ["HF_DATASETS_CACHE"] = str(world / "cache")
    sys.path.insert(0, str(world))  # judge.py
    amounts = json.loads(Path("amounts.json").read_text("utf-8"))
    return ppo(amounts, equal) if method.startswith("ppo") else command(method, equal)


# ---------------------------------------------------------------- what has a command

def words_of(title):
    """The words of one command of launch.sh, behind `trl sft`; GRPO's are RLOO's, with groups of four as there."""
    name = "rloo" if title == "grpo" else title
    part = Path("launch.sh").read_text("utf-8").split(f"# ---- {name}\n")[1].split("# ----")[0]
    words = shlex.split(part.replace("\\\n", " "), comments=True)[2:]
    return [*words, "--loss_type", "grpo", "--output_dir", "out/grpo"] if title == "grpo" else words


def command(title, equal):
    import trl
    script, name = importlib.import_module(f"trl.scripts.{title}"), f"{title.upper()}Trainer"
    name = "RewardTrainer" if title == "reward" else name
    ordinary, found = getattr(trl, name), {}

    class Timed(ordinary):
        def train(self, *arguments, **options):
            found.update(timed(lambda: super(Timed, self).train(*arguments, **options)))

        def save_model(self, *arguments, **options):
            pass

    setattr(trl, name, Timed)
    more = ["--generation_kwargs", json.dumps({"suppress_tokens": [end_token()]})] if equal else []

    def once():
        found.clear()
        script.main(*script.make_parser().parse_args_and_config([*words_of(title), *LOCAL, *more]))
        return dict(found)
    return once


def end_token():
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained("sft").eos_token_id


# ---------------------------------------------------------------- PPO

def ppo(amounts, equal):
    import datasets
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer
    tokenizer = AutoTokenizer.from_pretrained("sft", padding_side="left")
    rows = [json.loads(line) for line in Path("data/prompts/train.jsonl").read_text("utf-8").splitlines()]
    texts = [tokenizer.apply_chat_template(row["prompt"], tokenize=False) for row in rows]
    prompts = datasets.Dataset.from_list([
        {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts])
    # num_mini_batches splits what one forward would hold, and the optimizer steps after each of them, as in ours.
    args = PPOConfig(output_dir="out/ppo", total_episodes=amounts["answers"],
                     per_device_train_batch_size=amounts["answers"], gradient_accumulation_steps=1,
                     num_mini_batches=amounts["answers"] // amounts["minibatch"], num_ppo_epochs=1,
                     response_length=amounts["tokens"], stop_token=None if equal else "eos", temperature=1.0,
                     learning_rate=1e-6, num_sample_generations=0, bf16=False, use_cpu=True, report_to="none",
                     gradient_checkpointing=False, save_strategy="no", disable_tqdm=True)

    def policy():
        return AutoModelForCausalLM.from_pretrained("sft", dtype=torch.float32)

    def scores():
        return AutoModelForSequenceClassification.from_pretrained("reward", dtype=torch.float32)

    def once():
        trainer = PPOTrainer(args, tokenizer, policy(), policy(), scores(), prompts, scores())
        return timed(trainer.train) | {"tokens": amounts["answers"] * amounts["tokens"]}
    return once
