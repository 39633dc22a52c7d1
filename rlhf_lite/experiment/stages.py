"""The learning stages on a domain's data: SFT, the reward model, PPO.

Each function turns a `Recipe` into the settings of a training function, gives it the domain's data, and calls it.
"""

import random
from dataclasses import replace

from rlhf_lite import models, reward
from rlhf_lite.experiment import base_model, data
from rlhf_lite.experiment.pebbleford import TOWN
from rlhf_lite.ppo import train_ppo
from rlhf_lite.reward import RewardConfig, train_reward
from rlhf_lite.sft import SFTConfig, train_sft


def on_gpu(model):
    """Whether to do matrix products in bfloat16 (on a GPU); log-probabilities and losses are always float32."""
    return models.device_of(model).type == "cuda"


def run_sft(policy, tokenizer, recipe, folder=None, progress=True, world=TOWN):
    """Fine-tune a base model on the demonstrations, with a little pretraining text mixed in; returns the history."""
    train, valid = map(world.demonstrations, ("train", "valid"))
    chosen = random.Random(0).sample(train, min(recipe.demonstrations, len(train)))
    config = SFTConfig(epochs=recipe.sft_epochs, lr=recipe.sft_lr, batch_size=recipe.sft_batch, seed=recipe.seed,
                       pretraining_mix=recipe.sft_mix, bf16=on_gpu(policy))
    web = base_model.web_rows(tokenizer, recipe.pretraining_tokens, 3, world=world) if recipe.sft_mix > 0 else None
    return train_sft(policy, data.demonstration_examples(tokenizer, chosen), config,
                     data.demonstration_examples(tokenizer, valid), web, folder=folder, progress=progress)


def run_reward(start, tokenizer, train_rows, valid_rows, recipe, folder=None, progress=True, world=TOWN):
    """Train a reward model from ``start`` (a policy) on ranking records, then set its bias and gain.

    Returns ``(model, history)``. The bias makes demonstrations average 0 (section 3.5). The gain, which is ours, gives
    the sampled answers to validation prompts unit variance; kl_coef then means the same for every reward model.
    """
    model = models.scalar_from_policy(start, recipe.seed)
    valid = data.ranked_prompts(tokenizer, valid_rows)
    config = RewardConfig(lr=recipe.reward_lr, seed=recipe.seed, batch_prompts=16, bf16=on_gpu(start))
    history = train_reward(model, data.ranked_prompts(tokenizer, train_rows), config, valid, folder=folder,
                           progress=progress)
    answers = [reward.reward_input(r.prompt_ids, answer) for r in valid for answer in r.responses]
    demonstrations = data.demonstration_rows(tokenizer, world.demonstrations("train"))
    history[-1] |= reward.normalise(model, demonstrations, answers)
    return model, history


def run_ppo(sft, tokenizer, reward_model, recipe, ptx=False, start=None, folder=None, evaluate=None,
            evaluate_every=10, progress=True, world=TOWN, **changes):
    """Run PPO (``ptx=True``: PPO-ptx) with the SFT model as the reference; returns ``(policy, PPORun)``.

    ``start``: the policy of an earlier round to continue from; without one, PPO starts from SFT.
    """
    config = replace(recipe.ppo, ptx_coef=recipe.ptx_coef if ptx else 0.0, bf16=on_gpu(sft), **changes)
    policy = models.copy_model(start or sft)
    web = base_model.web_rows(tokenizer, recipe.pretraining_tokens, 3, world=world) if config.ptx_coef > 0 else None
    run = train_ppo(policy, models.copy_model(sft, trainable=False), models.copy_model(reward_model),
                    data.encoded(tokenizer, world.prompts("train")), config, reward_fn=reward_model, pretraining=web,
                    evaluate=evaluate, evaluate_every=evaluate_every, folder=folder, progress=progress)
    return policy, run

