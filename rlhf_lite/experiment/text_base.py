"""A base model of your own texts: a folder of .txt and .md files instead of the town's web.

The idea: pretraining needs nothing but text. The recipe is `base_model`'s: a tokenizer trained on the texts, packed
rows, one pass after the other over them. Every tenth document is held out, to see what was learnt and what was only
memorised. The result is a folder that `align --model` and `hub.load` read.

Left out: cleaning, removing duplicates, other languages' tokenizers.
"""

import re
from pathlib import Path

from rlhf_lite import checkpoints, models, pretrain
from rlhf_lite.experiment.base_model import LEARNING_RATES, ROWS

ENDINGS = (".txt", ".md")
FEW = 10  # files; with fewer, every paragraph is a document


def read_texts(folder):
    """The documents in a folder and its subfolders -> (training texts, held-out texts)."""
    folder = Path(folder)
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS and path.is_file()]
    if not paths:
        raise ValueError(f"{folder} has no {' or '.join(ENDINGS)} files; give a folder with texts.")
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8; save it as UTF-8, or move it away.") from None
    if len(texts) < FEW:
        texts = [part for text in texts for part in re.split(r"\n\s*\n", text)]
    texts = [text.strip() for text in texts if text.strip()]
    if len(texts) < 2:
        raise ValueError(f"{folder} has {len(texts)} paragraphs; at least 2 are needed, to hold one out.")
    held_out = texts[::10] if len(texts) >= FEW else texts[-1:]
    return [text for text in texts if text not in set(held_out)] or texts, held_out


def make_text_base(texts, out, size="1.3m", tokens=1_000_000, seed=0, device="auto", progress=True, length=256):
    """Pretrain on the folder `texts` and write model, tokenizer and card to `out` -> the card."""
    train, held_out = read_texts(texts)
    tokenizer = models.train_tokenizer(train)
    rows = pretrain.pack_texts(tokenizer, train, length)
    while len(rows) == 0 and length > 16:  # little text: shorter rows
        length //= 2
        rows = pretrain.pack_texts(tokenizer, train, length)
    policy = models.new_policy(size, seed, len(tokenizer)).to(models.pick_device(device))
    muon, adamw = LEARNING_RATES[size]
    config = pretrain.PretrainConfig(steps=max(1, tokens // (ROWS[size] * length)), batch_size=ROWS[size], lr=muon,
                                     adamw_lr=adamw, seed=seed)
    losses = pretrain.train(policy, rows, config, folder=Path(out).parent / f".{Path(out).name}-state",
                            progress=progress)
    other = pretrain.pack_texts(tokenizer, held_out, min(length, 64))
    card = {"stage": "base", "size": size, "seed": seed, "tokens": config.steps * ROWS[size] * length,
            "passes": round(config.steps * ROWS[size] / len(rows), 1), "data": f"{len(train)} texts from a folder",
            "last_train_loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
            "held_out_loss": round(pretrain.evaluate_lm(policy, other), 4) if len(other) else None}
    tokenizer.save_pretrained(out)
    return checkpoints.save_checkpoint(out, policy, card)
