"""From the town to the learning code and back: what each stage of InstructGPT gets to eat.

The learning files (`sft`, `reward`, `ppo`) know lists of token ids and nothing else; the town knows text and
truth and nothing of models. This file is the only place where they meet: demonstrations become examples,
sampled answers are ranked by simulated labelers, rankings become reward-model data, prompts become episodes.

A `Recipe` holds every dial of a run. `recipe(size)` is the default, `recipe(size, fast=True)` the two-minute one.
"""

import random
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from rlhf_lite import base, checkpoints, models, records, reward
from rlhf_lite.ppo import PPOConfig, train_ppo
from rlhf_lite.reward import RankedPrompt, RewardConfig, train_reward
from rlhf_lite.sampling import sample_many
from rlhf_lite.sft import SFTConfig, build_example, train_sft
from rlhf_lite.town import labelers
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import make_prompts

DEMONSTRATIONS = base.DATA / "demonstrations.jsonl"
MAX_NEW_TOKENS = 40
PROMPT_COUNT = 12_000


@dataclass(frozen=True)
class Recipe:
    """Every dial of a run. What the paper fixed is its default in the stage's own config; here is what is ours."""

    size: str = "1.3m"
    reward_size: str = "1.3m"  # one size for every policy, as in the paper, whose reward model was the larger one
    seed: int = 0
    demonstrations: int = 960
    sft_epochs: int = 4  # the paper, too, starts PPO from a policy that saw the demonstrations only twice (C.3)
    sft_lr: float = 1e-3
    sft_batch: int = 16
    rankings: int = 8000  # of both rounds together
    first_round: float = 0.5  # share of the rankings that are of SFT's answers; the others are of a first PPO's
    first_iterations: int = 30  # of that first PPO
    answers_per_prompt: int = 6  # K; the paper's 4 to 9
    temperatures: tuple = (1.0, 1.0, 1.0, 1.3)  # of the K answers, in turn: a ranking feeds on spread
    reward_lr: float = 7e-4
    gate_prompts: int = 150
    ppo: PPOConfig = PPOConfig(iterations=60, max_new_tokens=MAX_NEW_TOKENS, kl_coef=0.1, lr=3e-4, minibatch=32)
    ptx_coef: float = 0.3
    pretraining_tokens: int = 400_000  # fresh web text for PPO-ptx
    test_prompts: int = 300
    stratum_prompts: int = 200
    samples: int = 30  # answers per use case that the report shows at least


def recipe(size="1.3m", seed=0, fast=False):
    """The recipe of `make run`; with ``fast`` the one of `make run FAST=1`, which only shows that all parts work."""
    chosen = Recipe(size=size, seed=seed)
    if size in base.NEEDS_GPU:  # a guess by the usual rule that larger models want smaller steps: never run
        chosen = replace(chosen, sft_lr=2e-4, ppo=replace(chosen.ppo, lr=5e-5))
    if fast:
        chosen = replace(chosen, reward_size="1.3m", sft_epochs=2, rankings=300, answers_per_prompt=4, gate_prompts=40,
                         test_prompts=60, stratum_prompts=40, samples=6,
                         ppo=replace(chosen.ppo, iterations=8, batch_size=64), first_iterations=4,
                         pretraining_tokens=60_000)
    return replace(chosen, ppo=replace(chosen.ppo, seed=seed))


# ---------------------------------------------------------------- prompts and demonstrations

@lru_cache(maxsize=4)
def all_prompts(n=PROMPT_COUNT, seed=0):
    """The town's prompts, every split; the same list in every run."""
    return tuple(make_prompts(build_town(), n, seed=seed))


def prompts_of(split, n=None):
    """The first ``n`` prompts of a split ("train", "valid", "test"); none of "valid" is answered in a demonstration."""
    shown = {row["prompt"] for row in demonstrations(split="train")} if split == "valid" else ()
    return [p for p in all_prompts() if p.split == split and p.text not in shown][:n]


def demonstrations(path=DEMONSTRATIONS, split=None):
    """Checked demonstration rows of a JSONL file; bad rows raise one sentence with file, line and mend."""
    rows, _ = records.read_jsonl(path, records.check_demonstration, strict=True)
    return [row for row in rows if split in (None, row["split"])]


def demonstration_examples(tokenizer, rows):
    """Demonstration rows -> SFT examples."""
    return [build_example(models.encode_prompt(tokenizer, row["prompt"]),
                          models.encode_response(tokenizer, row["response"])) for row in rows]


def demonstration_rows(tokenizer, rows):
    """Demonstrations as the reward model reads them."""
    return [reward.reward_input(models.encode_prompt(tokenizer, row["prompt"]),
                                models.encode_response(tokenizer, row["response"])) for row in rows]


def encoded(tokenizer, prompts):
    """Prompts -> lists of ids."""
    return [models.encode_prompt(tokenizer, p.text) for p in prompts]


# ---------------------------------------------------------------- answers and their true grades

def answer_rows(policy, tokenizer, prompts, prefix="", cut=None, temperature=1.0, greedy=False, seed=0, progress=True):
    """One sampled answer per prompt, graded: a list of dicts (prompt_id, use_case, task, prompt, response, ...).

    ``prefix``: text in front of every prompt (the few-shot prompted baseline). ``cut``: a string at which an answer
    is cut off, as a user of a base model would with a stop sequence.
    """
    ids = [[models.BEGIN] + models.encode_text(tokenizer, prefix + models.format_prompt(p.text)) for p in prompts]
    answers = sample_many(policy, ids, MAX_NEW_TOKENS, temperature, greedy, seed, progress=progress)
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        text, finished = models.decode_response(tokenizer, answer), answer[-1] == models.END
        if cut and cut in text:
            text, finished = text.split(cut)[0].strip(), True
            answer = next(answer[:n] for n in range(1, len(answer) + 1)  # its length, too, is that of what is left
                          if cut in tokenizer.decode(answer[:n]).lstrip())
        rows.append({"prompt_id": prompt.id, "use_case": prompt.use_case, "task": prompt.task, "prompt": prompt.text,
                     "response": text, "token_ids": answer, "finished": finished, "grade": grade(prompt, text, finished)})
    return rows


def rank_answers(policy, tokenizer, prompts, team, recipe, seed=0, source="sft", progress=True):
    """Sample K different answers to each prompt and let one simulated labeler rank them: ranking records.

    Every record keeps the sampled token ids (training never re-tokenises text) and the true scores, which only
    evaluation reads. Prompts with fewer than two different answers are left out.
    """
    rng = np.random.default_rng((recipe.seed, seed))
    texts, answers = {}, {}
    ids = encoded(tokenizer, prompts)
    for k in range(recipe.answers_per_prompt):
        heat = recipe.temperatures[k % len(recipe.temperatures)]
        drawn = sample_many(policy, ids, MAX_NEW_TOKENS, heat, seed=seed * 1000 + k, progress=progress)
        for i, answer in enumerate(drawn):
            text = models.decode_response(tokenizer, answer)
            if text not in texts.setdefault(i, set()):
                texts[i].add(text)
                answers.setdefault(i, []).append((answer, text))
    rows = []
    for i, prompt in enumerate(prompts):
        if len(answers[i]) < 2:
            continue
        grades = [grade(prompt, text, answer[-1] == models.END) for answer, text in answers[i]]
        labeler = team[int(rng.integers(len(team)))]
        ranks, likerts = labeler.judge(grades, [len(answer) for answer, _ in answers[i]], rng)
        rows.append(records.new_ranking(
            prompt.id, prompt.text,
            [{"text": text, "source": source, "token_ids": answer} for answer, text in answers[i]],
            ranks, f"simulated:{labeler.name}", scores=likerts, use_case=prompt.use_case, split=prompt.split,
            true_scores=[round(g.score, 4) for g in grades]))
    return rows


def calibrate_labelers(policy, tokenizer, recipe, prompts=500, noise_file=labelers.NOISE_FILE, progress=True):
    """Set the simulated teams' noise so that they agree as the paper's did on answers of ``policy``; store it.

    The prompts are validation prompts. Returns {"training": Agreement, "heldout": ..., "evaluation": ...} as measured
    afterwards.
    """
    chosen = prompts_of("valid", prompts)
    ids, grades, lengths = encoded(tokenizer, chosen), [{} for _ in chosen], []
    for k in range(recipe.answers_per_prompt):
        heat = recipe.temperatures[k % len(recipe.temperatures)]
        for i, answer in enumerate(sample_many(policy, ids, MAX_NEW_TOKENS, heat, seed=5000 + k, progress=progress)):
            text = models.decode_response(tokenizer, answer)
            grades[i][text] = (grade(chosen[i], text, answer[-1] == models.END), len(answer))
    several = [list(found.values()) for found in grades if len(found) > 1]  # equal texts cannot be told apart
    grades, lengths = [[g for g, _ in found] for found in several], [[n for _, n in found] for found in several]
    measured = {}
    for name, team, target in (("training", labelers.training_team(None), labelers.TRAINING_AGREEMENT),
                               ("heldout", labelers.heldout_team(None), labelers.HELDOUT_AGREEMENT),
                               ("evaluation", labelers.evaluation_team(None), labelers.TRAINING_AGREEMENT)):
        team = labelers.calibrate(team, grades, target, np.random.default_rng(1), lengths)
        measured[name] = labelers.measure_agreement(team, grades, np.random.default_rng(2), lengths)
        labelers.store_noise(name, team, measured[name], noise_file)
    return measured


def ranked_prompts(tokenizer, rows):
    """Ranking records -> the reward model's training data. Records without token ids (typed by people) are encoded.

    Raises ValueError for token ids of another tokenizer, and for rankings of recorded answers that may be read and
    ranked but not trained on."""
    for number, row in enumerate(rows, 1):
        highest = max((token for r in row["responses"] for token in r.get("token_ids") or [0]))
        if highest >= len(tokenizer):
            raise ValueError(f"Ranking {number} ({row.get('prompt_id')}) holds the token id {highest}, but the tokenizer "
                             f"has {len(tokenizer)} tokens; leave out its token_ids, and the text will be encoded.")
        if row.get("prompt_id", "").startswith("reading-only-"):
            raise ValueError(f"{row['prompt_id']} ranks recorded answers whose publishers ask that nobody train on "
                             "them; leave this ranking out.")
    return [RankedPrompt(models.encode_prompt(tokenizer, row["prompt"]),
                         [r.get("token_ids") or models.encode_response(tokenizer, r["text"]) for r in row["responses"]],
                         row["ranks"]) for row in rows]


# ---------------------------------------------------------------- the stages

def shipped(stage, size):
    """Folder of a shipped checkpoint."""
    return base.MODELS / f"{stage}-{size}"


def base_folder(size, runs="runs"):
    """Folder of a base: the shipped one, or runs/base-SIZE, where a run puts the base that it had to pretrain."""
    found = shipped("base", size)
    if found.is_dir() and not (found / checkpoints.CARD).is_file():  # rather than pretrain another one for hours
        raise ValueError(f"{found / checkpoints.CARD} is missing, so the shipped base cannot be checked; put it back "
                         f"with: git checkout -- {found}")
    return found if found.is_dir() else Path(runs) / f"base-{size}"


def load_base(size, device="cpu", runs="runs"):
    """(policy, tokenizer) of a base."""
    policy = checkpoints.load_policy(base_folder(size, runs), device)
    return policy, models.load_tokenizer(base.MODELS / "tokenizer")


def on_gpu(model):
    """Whether matrix products are done in bfloat16; log-probabilities and losses are float32 everywhere."""
    return models.device_of(model).type == "cuda"


def run_sft(policy, tokenizer, recipe, folder=None, progress=True):
    """Fine-tune a base on the demonstrations; returns the history."""
    train, valid = (demonstrations(split=s) for s in ("train", "valid"))
    chosen = random.Random(0).sample(train, min(recipe.demonstrations, len(train)))
    config = SFTConfig(epochs=recipe.sft_epochs, lr=recipe.sft_lr, batch_size=recipe.sft_batch, seed=recipe.seed,
                       bf16=on_gpu(policy))
    return train_sft(policy, demonstration_examples(tokenizer, chosen), config,
                     demonstration_examples(tokenizer, valid), folder=folder, progress=progress)


def run_reward(start, tokenizer, train_rows, valid_rows, recipe, folder=None, progress=True):
    """Train a reward model from ``start`` (a policy) on ranking records, then set its bias and gain.

    Returns ``(model, history)``. Bias: demonstrations average 0 (section 3.5). Gain: unit variance on the sampled
    answers of the validation prompts, which is ours; kl_coef then means the same for every reward model.
    """
    model = models.scalar_from_policy(start, recipe.seed)
    valid = ranked_prompts(tokenizer, valid_rows)
    config = RewardConfig(lr=recipe.reward_lr, seed=recipe.seed, batch_prompts=16, bf16=on_gpu(start))
    history = train_reward(model, ranked_prompts(tokenizer, train_rows), config, valid, folder=folder,
                           progress=progress)
    answers = [reward.reward_input(r.prompt_ids, answer) for r in valid for answer in r.responses]
    history[-1] |= reward.normalise(model, demonstration_rows(tokenizer, demonstrations(split="train")), answers)
    return model, history


def run_ppo(sft, tokenizer, reward_model, recipe, ptx=False, start=None, folder=None, evaluate=None,
            evaluate_every=10, progress=True, **changes):
    """PPO (``ptx=True``: PPO-ptx) with the SFT model as reference. Returns ``(policy, PPORun)``.

    ``start``: the policy of an earlier round to go on from; without one PPO starts from SFT.
    """
    config = replace(recipe.ppo, ptx_coef=recipe.ptx_coef if ptx else 0.0, bf16=on_gpu(sft), **changes)
    policy = models.copy_model(start or sft)
    web = base.web_rows(tokenizer, recipe.pretraining_tokens, seed=3) if config.ptx_coef > 0 else None
    run = train_ppo(policy, models.copy_model(sft, trainable=False), models.copy_model(reward_model),
                    encoded(tokenizer, prompts_of("train")), config, reward_model=reward_model, pretraining=web,
                    evaluate=evaluate, evaluate_every=evaluate_every, folder=folder, progress=progress)
    return policy, run


def settings(recipe):
    """A recipe as plain JSON values."""
    return {**asdict(recipe), "temperatures": list(recipe.temperatures)}
