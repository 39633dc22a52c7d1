"""Answers to the exercises of notebooks 00 to 02."""

import collections
import math
import random
import re
from collections import Counter, defaultdict

import numpy as np
import torch
import torch.nn.functional as F

from answers import right, wrong
from rlhf_lite.exercises.n01_rows import plain_text
from rlhf_lite.sampling import pad_right
from rlhf_lite.sft import IGNORE, Example

# ---------------------------------------------------------------- 0.1 stop sequences


def earliest_by_loop(text, stops):
    best = len(text)
    for stop in stops:
        at = text.find(stop)
        if at != -1 and at < best:
            best = at
    return text[:best].strip()


def split_again_and_again(text, stops):
    for s in stops:
        text = text.split(s)[0]
    return text.strip()


def character_by_character(text, stops):
    out = ""
    for i in range(len(text)):
        if any(text[i:].startswith(s) for s in stops):
            break
        out += text[i]
    return out.strip()


def with_try(text, stops):
    positions = []
    for s in stops:
        try:
            positions.append(text.index(s))
        except ValueError:
            pass
    if not positions:
        return text.strip()
    return text[:min(positions)].strip()


right("0.1", earliest_by_loop)
right("0.1", split_again_and_again)
right("0.1", character_by_character)
right("0.1", with_try)
right("0.1", lambda text, stops: re.split("|".join(map(re.escape, stops)), text, maxsplit=1)[0].strip())
right("0.1", lambda text, stops: min((text.partition(s)[0] for s in stops), key=len).strip())
right("0.1", lambda text, stops: min(text.split(s)[0] for s in stops).strip())  # a beginning sorts before the whole
wrong("0.1", lambda text, stops: text[:text.find(stops[0])].strip(), "expected")
wrong("0.1", lambda text, stops: text.split(stops[0])[0].strip(), "expected|first in the \\*list")
wrong("0.1", lambda text, stops: text.strip().split("\n")[0])
wrong("0.1", lambda text, stops: earliest_by_loop(text, stops).lower())
wrong("0.1", lambda text, stops: [earliest_by_loop(text, stops)], "a list, but a text")
wrong("0.1", lambda text, stops: print(earliest_by_loop(text, stops)), "return` instead of `print")
wrong("0.1", lambda text, stops: text[:min(text.index(s) for s in stops)].strip(), "ValueError: substring not found")


# ---------------------------------------------------------------- 0.2 few-shot


def by_loop(examples, request):
    prompt = ""
    for q, a in examples:
        prompt += q + "\n" + a + "\n" + "\n"
    prompt += request + "\n"
    return prompt


def all_blocks(examples, request):
    blocks = [f"{q}\n{a}" for q, a in examples]
    return "\n\n".join(blocks + [request]) + "\n"


right("0.2", by_loop)
right("0.2", all_blocks)
right("0.2", lambda examples, request: "".join("{}\n{}\n\n".format(*pair) for pair in examples) + request + "\n")
right("0.2", lambda examples, request: "".join(["\n".join([*e, "", ""]) for e in examples] + [request, "\n"]))
wrong("0.2", lambda examples, request: "\n\n".join(f"{q}\n{a}" for q, a in examples) + f"\n{request}\n")
wrong("0.2", lambda examples, request: "".join(f"Q: {q}\nA: {a}\n\n" for q, a in examples) + f"Q: {request}\nA:")
wrong("0.2", lambda examples, request: "\n".join(f"{q}\n{a}\n" for q, a in examples) + request, "newline|expected")
wrong("0.2", lambda examples, request: by_loop(examples, request) + "\n")
wrong("0.2", lambda examples, request: by_loop(examples, request).strip(), "newline after the request|expected")
wrong("0.2", lambda examples, request: by_loop([(q.strip(), a.strip()) for q, a in examples], request.strip()))
wrong("0.2", lambda examples, request: by_loop(examples, request).split("\n"), "a list, but a text")


# ---------------------------------------------------------------- 0.3 sequence log-probability


def token_by_token(logits, sequences, response_mask, prompt_length):
    sums = []
    for b in range(len(sequences)):
        total = torch.tensor(0.0)
        for r in range(response_mask.shape[1]):
            if response_mask[b, r]:
                place = prompt_length + r
                total = total + torch.log_softmax(logits[b, place - 1], dim=-1)[sequences[b, place]]
        sums.append(total)
    return torch.stack(sums)


def minus_cross_entropy(logits, sequences, response_mask, prompt_length):
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), sequences[:, 1:], reduction="none")
    return -(loss[:, prompt_length - 1:] * response_mask).sum(1)


def softmax_then_log(logits, sequences, response_mask, prompt_length):
    p = torch.softmax(logits, -1)
    picked = torch.gather(p[:, :-1], 2, sequences[:, 1:].unsqueeze(-1))[..., 0]
    return (picked.log()[:, prompt_length - 1:] * response_mask.float()).sum(-1)


def advanced_indexing(logits, sequences, response_mask, prompt_length):
    lp = logits - logits.logsumexp(-1, keepdim=True)
    n, r = response_mask.shape
    rows = torch.arange(n)[:, None]
    places = torch.arange(r)[None] + prompt_length
    return lp[rows, places - 1, sequences[rows, places]].masked_fill(~response_mask, 0).sum(1)


right("0.3", token_by_token)
right("0.3", minus_cross_entropy)
right("0.3", softmax_then_log)
right("0.3", advanced_indexing)
right("0.3", lambda logits, *rest: token_by_token(logits.double(), *rest))
wrong("0.3", lambda *a: token_by_token(*a).tolist(), "a list, but a tensor")
wrong("0.3", lambda *a: token_by_token(*a).numpy(), "numpy array .* but a tensor")
wrong("0.3", lambda *a: token_by_token(*a).sum(), "shape")
wrong("0.3", lambda *a: token_by_token(*a).exp())
wrong("0.3", lambda *a: token_by_token(*a) / math.log(2))  # bits
wrong("0.3", lambda logits, s, m, p: torch.where(m, logits[:, p:].log_softmax(1).gather(
    2, s[:, p:, None]).squeeze(2), 0.0).sum(1))
wrong("0.3", lambda *a: minus_cross_entropy(*a) / a[2].sum(1), "mean per token")
wrong("0.3", lambda logits, s, m, p: minus_cross_entropy(logits, s, torch.ones_like(m), p), "padding counts")


# ---------------------------------------------------------------- 0.4 win rate


def wilson(a_wins, ties, n):
    p = (a_wins + 0.5 * ties) / n
    z = 1.96
    d = 1 + z**2 / n
    c = (p + z**2 / (2 * n)) / d
    h = z / d * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return p, c - h, c + h


right("0.4", wilson)
right("0.4", lambda *a: list(wilson(*a)))
right("0.4", lambda *a: np.array(wilson(*a)))
right("0.4", lambda *a: torch.tensor(wilson(*a)))
right("0.4", lambda *a: {"share": 1} and tuple(np.float64(x) for x in wilson(*a)))
right("0.4", lambda w, t, n: (wilson(w, t, n)[0], max(0, wilson(w, t, n)[1]), min(1, wilson(w, t, n)[2])))
wrong("0.4", lambda w, t, n: wilson(w + t // 2, 0, n), "rounds down")
wrong("0.4", lambda w, t, n: tuple(100 * x for x in wilson(w, t, n)))
wrong("0.4", lambda w, t, n: wilson(w, t, n)[0], "3 results are wanted")
wrong("0.4", lambda w, t, n: (wilson(w, t, n)[0], wilson(w, t, n)[2], wilson(w, t, n)[1]))
wrong("0.4", lambda w, t, n: "{:.0%} from {:.0%} to {:.0%}".format(*wilson(w, t, n)), "a text, but 3 results")
wrong("0.4", lambda w, t, n: (wilson(w, t, n)[0], wilson(w, t, n)[1:]), "2 results, but 3")
wrong("0.4", lambda w, t, n: wilson(w, t, n + 1))
wrong("0.4", lambda w, t, n: wilson(w, 0, n - t) if n > t else (0.5, 0, 1), "ties were thrown away|expected")


# ---------------------------------------------------------------- 1.1 a letter

for letter in (
        "Dear Fay, I really appreciate the umbrella. It has kept me dry all week.",
        "Thank you so much for the umbrella, Fay! It is lovely. :)",
        "Dear Fay,\n\nthank you for the umbrella. I will use it every day.\n\nYours,\nAnn",
        "Hi Fay, thanks a lot for the umbrella! You're the best! 😊",
        "Dear Fay, thank you for the umbrella. I took it to the market this morning. Best wishes, Tom",
        "Fay, I'm so grateful for the umbrella you lent me. Without it I'd have been soaked to the skin!",
        "Dear Mrs. Fay, thank you for the umbrella. It's exactly what I needed.",
        "Dear Fay, what a kind of you to think of me and give me an umbrella! Thanks again for it.",
        "thank you for the umbrella fay. it was very nice of you."):
    right("1.1", lambda request, letter=letter: letter)
for letter, said in (
        ("Dear Fay, thank you for the umbrella, it is lovely", "full stop|1 sentence|one sentence"),
        ("Dear Fay! Thanks! The umbrella is great. I love it. See you on Monday.", "sentences, not 2"),
        ("I love it. It is blue.", "thank"),
        ("Dear Fay, thank you for everything. You are a good friend.", "umbrella"),
        ("Dear Ned, thank you for the umbrella. You are a good friend.", "Fay"),
        ("Write a thank-you note to Fay for the umbrella. Use exactly two sentences.", "echoes"),
        ("", "empty"), ("   ", "empty"), (":)", "empty"),
        ("Fay umbrella thanks lkjsdf qwpoei xmcnv woeiru. Asldkf qpwoei zmxncb alskdj.", "no common words"),
        (7, "a plain number, but a text"), (["Dear Fay, thank you for the umbrella."], "a list, but a text"),
        ("Dear Fay, " + "thank you so very very much " * 7 + "for the umbrella. I like it.", "words")):
    wrong("1.1", lambda request, letter=letter: letter, said)
wrong("1.1", lambda request: print("Dear Fay, thank you for the umbrella. I like it."), "return` instead of `print")


# ---------------------------------------------------------------- 1.2 shares


def shares_by_hand(rows):
    shares = {}
    for row in rows:
        shares[row["use_case"]] = shares.get(row["use_case"], 0) + 1
    for k in shares:
        shares[k] = shares[k] / len(rows) * 100
    return shares


def shares_with_zeros(rows):
    cases = ["generation", "open_qa", "brainstorming", "chat", "rewrite", "summarization", "extract", "closed_qa",
             "other", "classification"]
    names = [row["use_case"] for row in rows]
    return {case: names.count(case) / len(names) * 100 for case in cases}


def shares_default(rows):
    d = defaultdict(float)
    for row in rows:
        d[row["use_case"]] += 100 / len(rows)
    return d


def shares_numpy(rows):
    names, counts = np.unique([r["use_case"] for r in rows], return_counts=True)
    return dict(zip(names, counts / counts.sum() * 100, strict=True))


right("1.2", shares_by_hand)
right("1.2", shares_with_zeros)
right("1.2", shares_default)
right("1.2", shares_numpy)
wrong("1.2", lambda rows: {k: round(v) for k, v in shares_by_hand(rows).items()})
wrong("1.2", lambda rows: list(shares_by_hand(rows).items()), "a list, but a dict")
wrong("1.2", lambda rows: {k: f"{v:.1f} %" for k, v in shares_by_hand(rows).items()}, "a text, but a single number")
wrong("1.2", lambda rows: Counter(r["use_case"] for r in rows), "counts")
wrong("1.2", lambda rows: {k: v / 100 for k, v in shares_by_hand(rows).items()}, "fractions between 0 and 1")
wrong("1.2", lambda rows: {k: 100 * n / 800 for k, n in Counter(r["use_case"] for r in rows).items()})


# ---------------------------------------------------------------- 1.3 split


def split_with_sets(rows, valid_share):
    seen, kept = set(), []
    for row in rows:
        t = plain_text(row["prompt"])
        if t in seen:
            continue
        seen.add(t)
        kept.append(row)
    people = list(dict.fromkeys(row["customer"] for row in kept))
    random.seed(1)
    chosen = random.sample(people, int(valid_share * len(people)))
    train, valid = [], []
    for row in kept:
        (valid if row["customer"] in chosen else train).append(row)
    return train, valid


def split_numpy(rows, valid_share):
    kept = {plain_text(r["prompt"]): r for r in rows}
    people = np.unique([r["customer"] for r in kept.values()])
    out = set(np.random.default_rng(0).permutation(people)[:math.ceil(valid_share * len(people))])
    return [r for r in kept.values() if r["customer"] not in out], [r for r in kept.values() if r["customer"] in out]


def first_customers(rows, valid_share):
    unique = list({plain_text(r["prompt"]): r for r in rows}.values())
    people = sorted({r["customer"] for r in unique})
    cut = int(round(len(people) * (1 - valid_share)))
    return [[r for r in unique if r["customer"] in part] for part in (people[:cut], people[cut:])]


def keeps_lower_case(rows, valid_share):
    train, valid = split_with_sets(rows, valid_share)
    for row in train + valid:
        row["prompt"] = row["prompt"].lower()
    return train, valid


right("1.3", split_with_sets)
right("1.3", split_numpy)
right("1.3", first_customers)
wrong("1.3", lambda rows, valid_share: split_with_sets(rows, 0.2), "always the same|share of validation is off")
wrong("1.3", lambda rows, valid_share: split_with_sets(rows, valid_share)[0], "2 are wanted|2 results")
wrong("1.3", keeps_lower_case, "changes `rows`")
wrong("1.3", lambda rows, valid_share: (rows[int(valid_share * len(rows)):], rows[:int(valid_share * len(rows))]),
      "a customer is in both parts; a text is in both parts; a part has")
wrong("1.3", lambda rows, valid_share: (split_with_sets(rows, valid_share)[0], []), "text is lost")
wrong("1.3", lambda rows, valid_share: ([r["prompt"] for r in rows], []), "it raised|cannot be|in its list|a text")
wrong("1.3", lambda rows, valid_share: {"train": rows, "valid": []}, "a dict, but 2 results")


# ---------------------------------------------------------------- 1.4 lengths


def lengths_plain(rows, encode, limit):
    total, longest, fit = 0, 0, 0
    for row in rows:
        n = len(encode(row["response"])) + 1
        total += n
        longest = max(longest, n)
        if n <= limit:
            fit += 1
    return total / len(rows), longest, fit / len(rows)


right("1.4", lengths_plain)
right("1.4", lambda rows, encode, limit: list(lengths_plain(rows, encode, limit)))
right("1.4", lambda rows, encode, limit: (lambda x: (x.mean(), x.max(), (x <= limit).float().mean()))(
    torch.tensor([len(encode(r["response"])) + 1.0 for r in rows])))
right("1.4", lambda rows, encode, limit: (lambda x: (np.mean(x), np.max(x), np.mean(np.array(x) <= limit)))(
    [len([*encode(r["response"]), "END"]) for r in rows]))
wrong("1.4", lambda rows, encode, limit: lengths_plain(rows, encode, limit - 1), "use `<=`")
wrong("1.4", lambda rows, encode, limit: lengths_plain(rows, str.split, limit), "words")
wrong("1.4", lambda rows, encode, limit: lengths_plain(rows, lambda t: encode(t)[:-1], limit), "END is not counted")
wrong("1.4", lambda rows, encode, limit: (*lengths_plain(rows, encode, limit)[:2],
                                          100 * lengths_plain(rows, encode, limit)[2]))
wrong("1.4", lambda rows, encode, limit: (*lengths_plain(rows, encode, limit)[:2],
                                          sum(len(encode(r["response"])) + 1 <= limit for r in rows)))
wrong("1.4", lambda rows, encode, limit: (sorted(len(encode(r["response"])) + 1 for r in rows)[len(rows) // 2],
                                          *lengths_plain(rows, encode, limit)[1:]))
wrong("1.4", lambda rows, encode, limit: lengths_plain(rows, encode, limit)[:2], "2 results, but 3")


# ---------------------------------------------------------------- 1.5 openings


def openings_by_hand(texts, n):
    opening = [" ".join(t.lower().split()[:n]) for t in texts]
    return sum(1 for o in opening if opening.count(o) >= 2) / len(texts)


def openings_in_groups(texts, n):
    groups = collections.defaultdict(list)
    for t in texts:
        groups[tuple(t.lower().split()[:n])].append(t)
    return sum(len(g) for g in groups.values() if len(g) > 1) / len(texts)


def openings_each_with_each(texts, n):
    words = [t.lower().split()[:n] for t in texts]
    return np.mean([any(i != j and a == b for j, b in enumerate(words)) for i, a in enumerate(words)])


right("1.5", openings_by_hand)
right("1.5", openings_in_groups)
right("1.5", openings_each_with_each)
wrong("1.5", lambda texts, n: 100 * openings_by_hand(texts, n))
wrong("1.5", lambda texts, n: sum(c > 1 for c in Counter(tuple(t.lower().split()[:n]) for t in texts).values())
      / len(texts), "counts once")
wrong("1.5", lambda texts, n: sum(c - 1 for c in Counter(tuple(t.lower().split()[:n]) for t in texts).values())
      / len(texts), "first text with each opening")
wrong("1.5", lambda texts, n: np.mean([any(b.lower().startswith(" ".join(a.lower().split()[:n])) for b in texts
                                           if b is not a) for a in texts]))
wrong("1.5", lambda texts, n: openings_by_hand([t for t in texts if len(t.split()) >= n] or [""], n))
wrong("1.5", lambda texts, n: sum(t.lower().split()[:n] == texts[0].lower().split()[:n] for t in texts) / len(texts),
      "expected|most frequent")
wrong("1.5", lambda texts, n: len(texts) / 0, "ZeroDivisionError")


# ---------------------------------------------------------------- 2.1 labels

def appended(prompt_ids, response_ids):
    ids, labels = [], []
    for t in prompt_ids:
        ids.append(t)
        labels.append(IGNORE)
    for t in response_ids:
        ids.append(t)
        labels.append(t)
    return Example(input_ids=ids, labels=labels)


def extends_the_prompt(prompt_ids, response_ids):
    labels = [IGNORE] * len(prompt_ids) + response_ids
    prompt_ids.extend(response_ids)
    return Example(prompt_ids, labels)


right("2.1", appended)
right("2.1", lambda prompt_ids, response_ids: Example(prompt_ids + response_ids, [-100 for _ in prompt_ids]
                                                      + response_ids))
right("2.1", lambda p, r: Example(torch.tensor(p + r).tolist(), (np.array(p + r) * 0 - 100)[:len(p)].tolist() + r))
right("2.1", lambda p, r: Example((*p, *r), (*[IGNORE] * len(p), *r)))
wrong("2.1", lambda p, r: (p + r, [IGNORE] * len(p) + r), "return Example")
wrong("2.1", lambda p, r: {"input_ids": p + r, "labels": [IGNORE] * len(p) + r}, "return Example")
wrong("2.1", extends_the_prompt, "changes `prompt_ids`")
wrong("2.1", lambda p, r: Example(p + r, [0] * len(p) + r))
wrong("2.1", lambda p, r: Example(p + r, [IGNORE] * len(r) + r))
wrong("2.1", lambda p, r: Example(p + r, r + [IGNORE] * len(p)))
wrong("2.1", lambda p, r: Example(r, r))


# ---------------------------------------------------------------- 2.2 batch

def batch_by_hand(examples):
    n = max(len(e.input_ids) for e in examples)
    ids, mask, labels = [], [], []
    for e in examples:
        k = n - len(e.input_ids)
        ids.append(e.input_ids + [0] * k)
        mask.append([1] * len(e.input_ids) + [0] * k)
        labels.append(e.labels + [-100] * k)
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


def batch_with_rnn(examples):
    pad = torch.nn.utils.rnn.pad_sequence
    ids = [torch.tensor(e.input_ids) for e in examples]
    return (pad(ids, batch_first=True), pad([torch.ones_like(i) for i in ids], batch_first=True),
            pad([torch.tensor(e.labels) for e in examples], batch_first=True, padding_value=IGNORE))


def batch_filled(examples):
    n = max(len(e.labels) for e in examples)
    ids = torch.zeros(len(examples), n, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE)
    for i, e in enumerate(examples):
        ids[i, :len(e.input_ids)] = torch.tensor(e.input_ids)
        labels[i, :len(e.labels)] = torch.tensor(e.labels)
        mask[i, :len(e.input_ids)] = 1
    return ids, mask, labels


def batch_pads_the_examples(examples):
    n = max(len(e.input_ids) for e in examples)
    mask = torch.tensor([[1] * len(e.input_ids) + [0] * (n - len(e.input_ids)) for e in examples])
    for e in examples:
        e.input_ids.extend([0] * (n - len(e.input_ids)))
        e.labels.extend([IGNORE] * (n - len(e.labels)))
    return torch.tensor([e.input_ids for e in examples]), mask, torch.tensor([e.labels for e in examples])


right("2.2", batch_by_hand)
right("2.2", batch_with_rnn)
right("2.2", batch_filled)
right("2.2", lambda examples: [part.int() for part in batch_by_hand(examples)])
wrong("2.2", lambda examples: [p.tolist() for p in batch_by_hand(examples)], "a list, but a tensor")
wrong("2.2", lambda examples: [p.numpy() for p in batch_by_hand(examples)], "numpy array .* but a tensor")
wrong("2.2", lambda examples: [p.float() for p in batch_by_hand(examples)], "should be integers")
wrong("2.2", lambda examples: (batch_by_hand(examples)[0], batch_by_hand(examples)[1] == 1, batch_by_hand(examples)[2]),
      "should be integers")
wrong("2.2", lambda examples: torch.stack(batch_by_hand(examples)[:2]), "2 results, but 3")
wrong("2.2", batch_pads_the_examples, "changes `examples`")
wrong("2.2", lambda examples: (*pad_right([e.input_ids for e in examples]), pad_right([e.labels for e in examples])[0]),
      "labels at the padding are 0")
wrong("2.2", lambda examples: (batch_by_hand(examples)[0], (batch_by_hand(examples)[0] != 0).long(),
                               batch_by_hand(examples)[2]))
wrong("2.2", lambda examples: (batch_by_hand(examples)[0], batch_by_hand(examples)[2], batch_by_hand(examples)[1]))
wrong("2.2", lambda examples: torch.tensor([e.input_ids for e in examples]), "it raised ValueError")


# ---------------------------------------------------------------- 2.3 loss

def loss_by_hand(logits, labels):
    total, n = 0.0, 0
    for b in range(labels.shape[0]):
        for t in range(1, labels.shape[1]):
            if labels[b, t] != IGNORE:
                total = total - torch.log_softmax(logits[b, t - 1], 0)[labels[b, t]]
                n += 1
    return total / n


def loss_masked(logits, labels):
    logits, labels = logits[:, :-1], labels[:, 1:]
    keep = labels != -100
    return -logits.log_softmax(-1)[keep].gather(1, labels[keep][:, None]).mean()


right("2.3", loss_by_hand)
right("2.3", loss_masked)
right("2.3", lambda logits, labels: F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]),
                                                    labels[:, 1:].reshape(-1)))
right("2.3", lambda logits, labels: F.nll_loss(logits[:, :-1].log_softmax(2).permute(0, 2, 1), labels[:, 1:]))
right("2.3", lambda logits, labels: F.cross_entropy(logits.double()[:, :-1].transpose(1, 2), labels[:, 1:]))
wrong("2.3", lambda logits, labels: loss_masked(logits, labels).item(), "plain number")
wrong("2.3", lambda logits, labels: loss_masked(logits, labels).detach(), "no gradient")
wrong("2.3", lambda logits, labels: torch.tensor(float(loss_masked(logits, labels))), "no gradient")
wrong("2.3", lambda logits, labels: loss_masked(logits, labels)[None], "single number")
wrong("2.3", lambda logits, labels: F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none"),
      "single number")
wrong("2.3", lambda logits, labels: loss_masked(logits, labels).exp())
wrong("2.3", lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "not shifted")
wrong("2.3", lambda logits, labels: F.cross_entropy(logits[:, :-1].log_softmax(1).transpose(1, 2), labels[:, 1:]))
wrong("2.3", lambda logits, labels: F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:].clamp(min=0)))
