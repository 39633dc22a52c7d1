"""A `Recipe` holds every setting of a run; `default_recipe(size)` is what `make run` uses.

The paper's settings are the defaults in the config of each stage (`SFTConfig`, `RewardConfig`, `PPOConfig`); the
settings here are our own.
"""

from dataclasses import asdict, dataclass, replace

from rlhf_lite.experiment import base_model
from rlhf_lite.ppo import PPOConfig

MAX_NEW_TOKENS = 40
# All answers are sampled at this temperature, in training and in evaluation. Ours: the paper samples at 1, but a model
# of a million parameters slips so often there that PPO would learn little else than not to slip (docs/experiments.md).
TEMPERATURE = 0.4


@dataclass(frozen=True)
class Recipe:
    """Every setting of a run that is ours; the paper's are defaults in the config of each stage."""

    size: str = "1.3m"
    reward_size: str = "1.3m"  # one size for every policy, as in the paper (whose reward model was larger)
    seed: int = 0
    demonstrations: int = 1287
    # The paper, too, starts PPO from a policy that saw the demonstrations only twice, with 10 % pretraining text (C.3).
    sft_epochs: int = 4
    sft_mix: float = 0.2
    sft_lr: float = 5e-4
    sft_batch: int = 16
    rankings: int = 8000  # of both rounds together
    first_round: float = 0.5  # share of the rankings that compare answers of SFT; the rest compare those of a first PPO
    first_iterations: int = 30  # of that first PPO
    answers_per_prompt: int = 6  # K; in the paper, 4 to 9
    temperatures: tuple = (0.4, 0.4, 0.5, 0.7)  # of the K answers, in turn: rankings need answers that differ
    reward_lr: float = 7e-4
    gate_prompts: int = 150
    ppo: PPOConfig = PPOConfig(iterations=80, max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, kl_coef=0.3,
                               lr=1e-4, minibatch=32)
    ptx_coef: float = 0.3
    pretraining_tokens: int = 400_000  # fresh web text for SFT and PPO-ptx
    test_prompts: int = 300
    stratum_prompts: int = 200
    samples: int = 30  # the report shows at least this many answers per use case


def default_recipe(size="1.3m", seed=0, fast=False):
    """The recipe of `make run`; with ``fast``, that of `make run FAST=1`, which only shows that all parts work."""
    chosen = Recipe(size=size, seed=seed)
    if size in base_model.NEEDS_GPU:  # a guess, never run, by the usual rule that larger models need smaller steps
        chosen = replace(chosen, sft_lr=2e-4, ppo=replace(chosen.ppo, lr=5e-5))
    if fast:
        chosen = replace(chosen, reward_size="1.3m", sft_epochs=2, rankings=300, answers_per_prompt=4, gate_prompts=40,
                         test_prompts=60, stratum_prompts=40, samples=6,
                         ppo=replace(chosen.ppo, iterations=8, batch_size=64), first_iterations=4,
                         pretraining_tokens=60_000)
    return replace(chosen, ppo=replace(chosen.ppo, seed=seed))


def recipe_settings(recipe):
    """A recipe as plain JSON values."""
    return {**asdict(recipe), "temperatures": list(recipe.temperatures)}
