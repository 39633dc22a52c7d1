"""The base model: a tokenizer and a language model that have read the web of Pebbleford and nothing else.

``make_base`` is the whole recipe, and ``python -m rlhf_lite pretrain`` calls it. The base model has never seen
an instruction answered in the format that alignment uses, so it continues a prompt the way the web would:
with more requests, a forum quarrel, or something plausible. It reads fresh text once, never the same document
twice.

Left out: data cleaning and a scaling study.
"""

from pathlib import Path

import torch

from rlhf_lite import checkpoints, files, models, pretrain
from rlhf_lite.town import prompts, web
from rlhf_lite.town.facts import build_town

WEB_SEED, HELD_OUT_SEED, TOKENIZER_SEED = 0, 1, 2
# Peak learning rates of (Muon, AdamW); those for 1.3m were chosen by the training loss of short runs (400 steps).
LEARNING_RATES = {"tiny": (4e-3, 4e-3), "1.3m": (6e-3, 4e-3), "6m": (4e-3, 2e-3), "175m": (1e-3, 6e-4)}
ROWS = {"tiny": 8, "1.3m": 8, "6m": 16, "175m": 128}  # rows of 256 tokens per step
TOKENS = {"tiny": 120_000, "1.3m": 100_000_000, "6m": 40_000_000, "175m": 100_000_000}
NEEDS_GPU = ("175m",)  # on a CPU, the base model alone would take months


def town_tokenizer(vocab_size=models.VOCABULARY):
    """A byte-level BPE tokenizer trained on 30,000 web documents and 3,000 prompts, so that both take few tokens."""
    town = build_town()
    asked = [models.format_prompt(p.text) for p in prompts.make_prompts(town, 3000, seed=TOKENIZER_SEED)]
    return models.train_tokenizer(web.corpus(town, 30_000, seed=TOKENIZER_SEED) + asked, vocab_size)


def web_rows(tokenizer, tokens, seed=WEB_SEED, length=256):
    """At least ``tokens`` tokens of fresh web text, packed: (n, length) uint16."""
    def documents():
        source, total = web.documents(build_town(), seed), 0
        while total < tokens + length:
            texts = [next(source)[1] for _ in range(1000)]
            for ids in tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
                total += len(ids) + 2
                yield ids

    return pretrain.pack(documents(), length)


def make_base(size="1.3m", tokens=None, seed=0, device="auto", folder=None, state=None, compile=False,
              bf16=False, batch_size=None, progress=True):
    """Pretrain a base model on ``tokens`` tokens of web text (None: see TOKENS) -> ``(policy, tokenizer, card)``.

    ``folder``: where to write the checkpoint and its card (None: nowhere). ``state``: the folder of the training
    state, from which an interrupted run resumes.
    """
    device = models.pick_device(device)
    batch_size, tokens = batch_size or ROWS[size], TOKENS[size] if tokens is None else tokens
    if tokens < 1:
        raise ValueError(f"The number of tokens to pretrain on is {tokens}; it must be above 0.")
    if folder is not None and (Path(folder).is_file() or not Path(folder).name):  # say so now, not after hours of work
        raise ValueError(f"{folder} cannot be the folder of a model; choose a new one.")
    policy = models.new_policy(size, seed).to(device)
    saved = files.MODELS / "tokenizer"
    tokenizer = models.load_tokenizer(saved) if (saved / "tokenizer.json").is_file() else town_tokenizer()
    rows = web_rows(tokenizer, tokens)
    config = pretrain.PretrainConfig(steps=max(1, tokens // (batch_size * rows.shape[1])), batch_size=batch_size,
                                     lr=LEARNING_RATES[size][0], adamw_lr=LEARNING_RATES[size][1], seed=seed,
                                     bf16=bf16, compile=compile)
    losses = pretrain.train(policy, rows, config, folder=state, progress=progress)
    card = {**base_card(policy, tokenizer, size, config, rows.shape[1]),
            "last_train_loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
            "command": f"python -m rlhf_lite pretrain --size {size} --tokens {tokens} --seed {seed}",
            "data": "simulated web text of Pebbleford (town.web), seed 0; held-out text: seed 1"}
    if folder:
        # The repository ships half precision; every later stage starts from these rounded weights.
        card = checkpoints.save_checkpoint(folder, policy, card, torch.float16)
    return policy, tokenizer, card


def base_card(policy, tokenizer, size, config, length):
    """What the card of a base model says in any case; config: its PretrainConfig; length: tokens in a row."""
    held_out = pretrain.evaluate_lm(policy, web_rows(tokenizer, 100_000, seed=HELD_OUT_SEED))
    batch = config.batch_size * length
    return {"stage": "base", "size": size, "seed": config.seed, "tokens": config.steps * batch,
            "held_out_loss": round(held_out, 4), "batch_tokens": batch,
            "learning_rates": {"muon": config.lr, "adamw": config.adamw_lr}}


def shipped(stage, size):
    """The folder of a shipped checkpoint."""
    return files.MODELS / f"{stage}-{size}"


def base_folder(size, runs="runs"):
    """The folder of a base model: the shipped one, or runs/base-SIZE, where a run puts one that it had to pretrain."""
    found = shipped("base", size)
    if found.is_dir() and not (found / checkpoints.CARD).is_file():  # better than pretraining another one for hours
        raise ValueError(f"{found / checkpoints.CARD} is missing, so the shipped base model cannot be checked; "
                         f"restore it with: git checkout -- {found}")
    return found if found.is_dir() else Path(runs) / f"base-{size}"


def load_base(size, device="cpu", runs="runs"):
    """(policy, tokenizer) of a base model."""
    policy = checkpoints.load_policy(base_folder(size, runs), device)
    return policy, models.load_tokenizer(files.MODELS / "tokenizer")
