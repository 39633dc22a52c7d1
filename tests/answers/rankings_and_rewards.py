"""Answers to the exercises of notebooks 03 and 04."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

from answers import right, wrong

# ---------------------------------------------------------------- 3.1 pairs


def pairs_by_combinations(row):
    out = []
    for (i, a), (j, b) in itertools.combinations(enumerate(row["ranks"]), 2):
        if a < b:
            out.append((i, j))
        elif b < a:
            out.append((j, i))
    return out


right("3.1", pairs_by_combinations)
right("3.1", lambda row: [(i, j) for i in range(len(row["ranks"])) for j in range(len(row["ranks"]))
                          if row["ranks"][i] < row["ranks"][j]])
right("3.1", lambda row: [[i, j] for i, a in enumerate(row["ranks"]) for j, b in enumerate(row["ranks"]) if a < b])
right("3.1", lambda row: list(zip(*np.nonzero(np.array(row["ranks"])[:, None] < np.array(row["ranks"])[None]),
                                  strict=True)))
right("3.1", lambda row: set(pairs_by_combinations(row)))
wrong("3.1", lambda row: (pair for pair in pairs_by_combinations(row)), "generator, which is used up")
wrong("3.1", lambda row: [(i + 1, j + 1) for i, j in pairs_by_combinations(row)])
wrong("3.1", lambda row: [(row["ranks"][i], row["ranks"][j]) for i, j in pairs_by_combinations(row)])
wrong("3.1", lambda row: [(j, i) for i, j in pairs_by_combinations(row)], "wrong way round")
wrong("3.1", lambda row: list(itertools.combinations(range(len(row["ranks"])), 2)), "expected|order of the list|ties")
wrong("3.1", lambda row: len(pairs_by_combinations(row)), "a plain number, but a list")
wrong("3.1", lambda row: pairs_by_combinations({"ranks": sorted(row["ranks"])}))
wrong("3.1", lambda row: row["ranks"].sort() or pairs_by_combinations(row), "changes `row`|expected")


# ---------------------------------------------------------------- 3.2 agreement

def agreement_by_dicts(rankings_a, rankings_b):
    b_by_id = {r["prompt_id"]: dict(zip([x["text"] for x in r["responses"]], r["ranks"], strict=True))
               for r in rankings_b}
    agree, total = 0, 0
    for r in rankings_a:
        if r["prompt_id"] in b_by_id:
            mine = dict(zip([x["text"] for x in r["responses"]], r["ranks"], strict=True))
            theirs = b_by_id[r["prompt_id"]]
            for x, y in itertools.combinations(sorted(set(mine) & set(theirs)), 2):
                if mine[x] == mine[y] or theirs[x] == theirs[y]:
                    continue
                total += 1
                if (mine[x] < mine[y]) == (theirs[x] < theirs[y]):
                    agree += 1
    if total == 0:
        return float("nan"), 0
    return agree / total * 100, total


right("3.2", agreement_by_dicts)
right("3.2", lambda a, b: [torch.tensor(x) for x in agreement_by_dicts(a, b)])
right("3.2", lambda a, b: tuple(np.array(agreement_by_dicts(a, b))))
right("3.2", lambda a, b: agreement_by_dicts(b, a))
wrong("3.2", lambda a, b: agreement_by_dicts(a, b)[0], "2 results are wanted")
wrong("3.2", lambda a, b: (agreement_by_dicts(a, b)[0] / 100, agreement_by_dicts(a, b)[1]), "share between 0 and 1")
wrong("3.2", lambda a, b: (0.0, 0) if agreement_by_dicts(a, b)[1] == 0 else agreement_by_dicts(a, b))
wrong("3.2", lambda a, b: (100 - agreement_by_dicts(a, b)[0], agreement_by_dicts(a, b)[1]))
wrong("3.2", lambda a, b: (agreement_by_dicts(a, b)[0], len(a)))
wrong("3.2", lambda a, b: (round(agreement_by_dicts(a, b)[0]) if agreement_by_dicts(a, b)[1] else math.nan,
                           agreement_by_dicts(a, b)[1]))


# ---------------------------------------------------------------- 3.3 tau-b

def tau_loops(ranks_a, ranks_b):
    c = d = ta = tb = 0
    k = len(ranks_a)
    for i in range(k):
        for j in range(i):
            x, y = ranks_a[i] - ranks_a[j], ranks_b[i] - ranks_b[j]
            c += x * y > 0
            d += x * y < 0
            ta += x == 0
            tb += y == 0
    n = k * (k - 1) / 2
    try:
        return (c - d) / math.sqrt((n - ta) * (n - tb))
    except ZeroDivisionError:
        return float("nan")


def tau_matrix(ranks_a, ranks_b):
    a, b = np.array(ranks_a), np.array(ranks_b)
    a, b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    with np.errstate(invalid="ignore"):
        return (a * b).sum() / np.sqrt((a != 0).sum() * (b != 0).sum())


def tau_torch(ranks_a, ranks_b):
    a, b = torch.tensor(ranks_a), torch.tensor(ranks_b)
    a, b = (a[:, None] - a).sign(), (b[:, None] - b).sign()
    return (a * b).sum() / (a.abs().sum() * b.abs().sum()).sqrt()


right("3.3", tau_loops)
right("3.3", tau_matrix)
right("3.3", tau_torch)
right("3.3", lambda a, b: tau_loops(b, a))
wrong("3.3", lambda a, b: 0.0 if math.isnan(tau_loops(a, b)) else tau_loops(a, b))
wrong("3.3", lambda a, b: tau_loops(a, b) if len(set(a)) > 1 < len(set(b)) else None, "returns nothing")
wrong("3.3", lambda a, b: float(np.corrcoef(a, b)[0, 1]))
wrong("3.3", lambda a, b: round(tau_loops(a, b), 2) if tau_loops(a, b) == tau_loops(a, b) else math.nan)
wrong("3.3", lambda a, b: abs(tau_loops(a, b)))
wrong("3.3", lambda a, b: -tau_loops(a, b), "sign is flipped")
wrong("3.3", lambda a, b: (tau_loops(a, b) + 1) / 2)
wrong("3.3", lambda a, b: tau_loops(sorted(a), sorted(b)))


# ---------------------------------------------------------------- 3.4 Bradley-Terry

right("3.4", lambda a, b: 1 / (1 + torch.exp(b - a)))
right("3.4", lambda a, b: torch.softmax(torch.stack([a, b]), dim=0)[0])
right("3.4", lambda a, b: torch.exp(F.logsigmoid(a - b)))
right("3.4", lambda a, b: torch.exp(a - torch.logaddexp(a, b)))
right("3.4", lambda a, b: (torch.tanh((a - b) / 2) + 1) / 2)
wrong("3.4", lambda a, b: torch.sigmoid(a) - torch.sigmoid(b))
wrong("3.4", lambda a, b: torch.sigmoid(a - b).item(), "it raised|a plain number, but a tensor|tensor")
wrong("3.4", lambda a, b: torch.sigmoid(a - b).numpy(), "numpy array .*tensor")
wrong("3.4", lambda a, b: torch.stack([torch.sigmoid(x - y) for x, y in zip(a, b, strict=True)]), "it raised|0-d|iter")
wrong("3.4", lambda a, b: torch.sigmoid(a - b).mean())
wrong("3.4", lambda a, b: F.logsigmoid(a - b))
wrong("3.4", lambda a, b: torch.sigmoid(b - a), "B is preferred")
wrong("3.4", lambda a, b: torch.exp(a) / (torch.exp(a) + torch.exp(b)), "arithmetic")
wrong("3.4", lambda a, b: (a > b).int(), "should be floats|always wins")


# ---------------------------------------------------------------- 3.5 ceiling

def ceiling_by_loop(p):
    best = agree = 0
    for x in p.tolist():
        best += x if x > 0.5 else 1 - x
        agree += x * x + (1 - x) * (1 - x)
    return best / len(p), agree / len(p)


right("3.5", ceiling_by_loop)
right("3.5", lambda p: (torch.maximum(p, 1 - p).mean(), (1 - 2 * p * (1 - p)).mean()))
right("3.5", lambda p: ((0.5 + (p - 0.5).abs()).mean().item(), float(torch.mean(p**2 + (1 - p)**2))))
right("3.5", lambda p: torch.stack([torch.stack([p, 1 - p]).amax(0).mean(), (p**2 + (1 - p)**2).mean()]))
wrong("3.5", lambda p: (torch.maximum(p, 1 - p), p**2 + (1 - p)**2), "shape \\(3,\\), but a single number")
wrong("3.5", lambda p: ceiling_by_loop(p)[::-1])
wrong("3.5", lambda p: (p.clamp(min=0.5).mean(), (p**2 + (1 - p)**2).mean()))
wrong("3.5", lambda p: (p.max(), (p**2).mean()))
wrong("3.5", lambda p: max(p.mean(), 1 - p.mean()), "2 results are wanted|tensor with one number")
wrong("3.5", lambda p: [100 * x for x in ceiling_by_loop(p)])
wrong("3.5", lambda p: (ceiling_by_loop(p)[0], (p * (1 - p)).mean()))


# ---------------------------------------------------------------- 3.6 length

def longer_by_pairs(rows):
    n = longer = 0
    for row in rows:
        answers = list(zip(row["ranks"], [len(r["token_ids"]) for r in row["responses"]], strict=True))
        for (ra, la), (rb, lb) in itertools.combinations(answers, 2):
            if ra != rb and la != lb:
                n += 1
                longer += (ra < rb) == (la > lb)
    return longer / n if n > 0 else float("nan")


right("3.6", longer_by_pairs)
right("3.6", lambda rows: np.float64(longer_by_pairs(rows)))
right("3.6", lambda rows: torch.tensor(longer_by_pairs(rows)))
wrong("3.6", lambda rows: 100 * longer_by_pairs(rows))
wrong("3.6", lambda rows: 0.5 if math.isnan(longer_by_pairs(rows)) else longer_by_pairs(rows))
wrong("3.6", lambda rows: longer_by_pairs([{**r, "responses": [{"token_ids": x["text"]} for x in r["responses"]]}
                                           for r in rows]), "characters")
wrong("3.6", lambda rows: 1 - longer_by_pairs(rows), "shorter")
wrong("3.6", lambda rows: longer_by_pairs(rows[:1]))
wrong("3.6", lambda rows: np.mean([longer_by_pairs([row]) for row in rows]) if rows else math.nan,
      "expected|mean of the")


# ---------------------------------------------------------------- 4.1 last score

def score_by_loop(values, input_ids, attention_mask):
    out = []
    for i in range(values.shape[0]):
        last = [t for t in range(values.shape[1]) if attention_mask[i, t] == 1][-1]
        out.append(values[i, last])
    return torch.stack(out)


def score_flipped(values, input_ids, attention_mask):
    back = attention_mask.flip(1).argmax(dim=1)
    return values[torch.arange(len(values)), values.size(1) - 1 - back]


def score_one_hot(values, input_ids, attention_mask):
    after = attention_mask.flip(1).cumsum(1).flip(1)
    return (values * ((after == 1) & (attention_mask == 1))).sum(1)


right("4.1", score_by_loop)
right("4.1", score_flipped)
right("4.1", score_one_hot)
right("4.1", lambda values, ids, mask: values[range(len(values)), (mask.cumsum(1) * mask).argmax(1)])
right("4.1", lambda values, ids, mask: torch.cat([v[m.bool()][-1:] for v, m in zip(values, mask, strict=True)]))
wrong("4.1", lambda v, i, m: (v * m).max(dim=1).values, "largest")
wrong("4.1", lambda v, i, m: v.masked_fill(m == 0, -1e9).max(1)[0], "largest")
wrong("4.1", lambda v, i, m: score_by_loop(v, i, m).tolist(), "a list, but a tensor")
wrong("4.1", lambda v, i, m: torch.tensor([float(x) for x in score_by_loop(v, i, m)]), "no gradient")
wrong("4.1", lambda v, i, m: score_by_loop(v, i, m).detach().numpy(), "numpy array .* but a tensor")
wrong("4.1", lambda v, i, m: v[:, m.sum(1) - 1], "shape")
wrong("4.1", lambda v, i, m: v[torch.arange(len(v)), m.sum(1) - 1], "padding on the right")
wrong("4.1", lambda v, i, m: v[:, -1], "last column")
wrong("4.1", lambda v, i, m: score_by_loop(v, i, m)[:, None], "shape")
wrong("4.1", lambda v, i, m: (m.cumsum(1)).argmax(1).float(), "no gradient|expected")
wrong("4.1", lambda v, i, m: (v * m).sum(1))


# ---------------------------------------------------------------- 4.2 pair loss

right("4.2", lambda b, w: F.softplus(-(b - w)).mean())
right("4.2", lambda b, w: F.binary_cross_entropy_with_logits(b - w, torch.ones_like(b)))
right("4.2", lambda b, w: torch.logaddexp(torch.zeros_like(b), w - b).mean())
right("4.2", lambda b, w: sum(-F.logsigmoid(x - y) for x, y in zip(b, w, strict=True)) / len(b))
right("4.2", lambda b, w: F.cross_entropy(torch.stack([b, w], 1), torch.zeros(len(b), dtype=torch.long)))
wrong("4.2", lambda b, w: -torch.log(torch.sigmoid(b - w)).mean(), "arithmetic")
wrong("4.2", lambda b, w: torch.log(1 + torch.exp(w - b)).mean(), "arithmetic|expected")
wrong("4.2", lambda b, w: -torch.log(torch.sigmoid(b - w) + 1e-8).mean())
wrong("4.2", lambda b, w: -F.logsigmoid(b - w), "single number")
wrong("4.2", lambda b, w: -F.logsigmoid(b - w).mean().item(), "number.* gradient")
wrong("4.2", lambda b, w: -F.logsigmoid((b - w).detach()).mean(), "no gradient")
wrong("4.2", lambda b, w: -F.logsigmoid((b - w).clamp(-20, 20)).mean())
wrong("4.2", lambda b, w: -F.logsigmoid(b.mean() - w.mean()))
wrong("4.2", lambda b, w: -F.logsigmoid(b - w).sum(), "sum")
wrong("4.2", lambda b, w: np.log1p(np.exp((w - b).detach().numpy())).mean(), "a plain number|numpy")


# ---------------------------------------------------------------- 4.3 K-wise loss

def kwise_by_loops(scores, ranks):
    prompts = []
    for s, r in zip(scores, ranks, strict=True):
        losses = [-F.logsigmoid(s[i] - s[j]) for i in range(len(r)) for j in range(len(r)) if r[i] < r[j]]
        if losses:
            prompts.append(sum(losses) / len(losses))
    return sum(prompts) / len(prompts) if prompts else torch.tensor(0.0)


def kwise_by_index(scores, ranks):
    b, i, j = torch.nonzero(ranks[:, :, None] < ranks[:, None, :], as_tuple=True)
    if len(b) == 0:
        return scores.sum() * 0
    n = torch.bincount(b, minlength=len(scores))
    return (F.softplus(scores[b, j] - scores[b, i]) / n[b]).sum() / (n > 0).sum()


def kwise_from_pairs(scores, ranks, reduce=lambda losses: losses.mean()):
    kept = []
    for s, r in zip(scores, ranks, strict=True):
        better, worse = torch.nonzero(r[:, None] < r[None], as_tuple=True)
        if better.numel():
            kept.append(reduce(-F.logsigmoid(s[better] - s[worse])))
    return torch.stack(kept).mean() if kept else torch.zeros(())


right("4.3", kwise_by_loops)
right("4.3", kwise_by_index)
right("4.3", kwise_from_pairs)
wrong("4.3", lambda s, r: kwise_by_loops(s, r).item(), "plain number")
wrong("4.3", lambda s, r: torch.tensor([float(kwise_by_loops(s, r))]), "no gradient|single number")
wrong("4.3", lambda s, r: kwise_from_pairs(s, r, torch.sum), "summed")
wrong("4.3", lambda s, r: kwise_by_loops(s, -r), "highest rank number")
wrong("4.3", lambda s, r: kwise_by_loops(s, r) * len(s))
wrong("4.3", lambda s, r: kwise_from_pairs(s, r, torch.max))
wrong("4.3", lambda s, r: kwise_from_pairs(s.softmax(1), r))
wrong("4.3", lambda s, r: F.softplus(s[:, None, :] - s[:, :, None])[r[:, :, None] < r[:, None, :]].mean(),
      "pairs of all prompts|expected")
wrong("4.3", lambda s, r: kwise_from_pairs(s[:1], r[:1]))
wrong("4.3", lambda s, r: torch.stack([kwise_by_loops(s[i:i + 1], r[i:i + 1]) for i in range(len(s))]).mean(),
      "everything is tied|expected")


# ---------------------------------------------------------------- 4.4 accuracy

def accuracy_by_loops(scores, ranks):
    n, good = 0, 0.0
    for s, r in zip(scores.tolist(), ranks.tolist(), strict=True):
        for i, j in itertools.permutations(range(len(r)), 2):
            if r[i] < r[j]:
                n += 1
                good += 1 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0
    return good / n if n else math.nan


def accuracy_by_sign(scores, ranks):
    pairs = ranks[..., :, None] < ranks[..., None, :]
    return ((torch.sign(scores[..., :, None] - scores[..., None, :])[pairs] + 1) / 2).mean()


right("4.4", accuracy_by_loops)
right("4.4", accuracy_by_sign)
right("4.4", lambda s, r: accuracy_by_sign(s, r).numpy())
right("4.4", lambda s, r: float(torch.heaviside(s[:, :, None] - s[:, None], torch.tensor(0.5))[
    r[:, :, None] < r[:, None]].mean()))
wrong("4.4", lambda s, r: 100 * accuracy_by_loops(s, r))
wrong("4.4", lambda s, r: accuracy_by_loops(s, r) if accuracy_by_loops(s, r) >= 0 else 0.0)
wrong("4.4", lambda s, r: (s.argmax(1) == r.argmin(1)).float().mean())
wrong("4.4", lambda s, r: accuracy_by_loops(s, r.flip(1)))
wrong("4.4", lambda s, r: accuracy_by_sign(s, r)[None], "shape \\(1,\\), but a single number")
wrong("4.4", lambda s, r: f"{accuracy_by_loops(s, r):.1%}", "a text, but a single number")
wrong("4.4", lambda s, r: (s[:, :, None] > s[:, None])[r[:, :, None] < r[:, None]].float().mean(), "equal scores count")
wrong("4.4", lambda s, r: 1 - accuracy_by_loops(s, r), "one minus")


# ---------------------------------------------------------------- 4.5 bias

def changes_the_bias(bias, demonstration_scores):
    bias -= demonstration_scores.mean()
    return bias


right("4.5", lambda bias, scores: bias - torch.mean(scores))
right("4.5", lambda bias, scores: bias - sum(scores) / len(scores))
right("4.5", lambda bias, scores: bias - scores.double().mean())
right("4.5", lambda bias, scores: bias - scores.mean().item())
right("4.5", lambda bias, scores: torch.full_like(bias, float(bias) - float(scores.mean())))
wrong("4.5", changes_the_bias, "changes `bias`")
wrong("4.5", lambda bias, scores: -scores.mean(), "old bias is lost|expected|shape")
wrong("4.5", lambda bias, scores: float(bias - scores.mean()), "a plain number, but a tensor")
wrong("4.5", lambda bias, scores: bias - scores, "shape|single number")
wrong("4.5", lambda bias, scores: scores - scores.mean(), "shape|single number")
wrong("4.5", lambda bias, scores: bias + scores.mean(), "sign is flipped")
wrong("4.5", lambda bias, scores: bias - scores.median())


# ---------------------------------------------------------------- 4.6 calibration

def ece_textbook(predicted, outcomes, bins=10):
    """(lo, hi] as in Guo et al. 2017."""
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for lo, hi in zip(edges[:-1], edges[1:], strict=True):
        inside = (predicted > lo) & (predicted <= hi)
        if inside.sum() > 0:
            total += abs(predicted[inside].mean() - outcomes[inside].mean()) * inside.sum() / len(predicted)
    return total


def ece_digitize(predicted, outcomes, bins=10):
    where = np.clip(np.digitize(predicted, np.linspace(0, 1, bins + 1)) - 1, 0, bins - 1)
    n, p, o = (np.bincount(where, weights=w, minlength=bins) for w in (np.ones_like(predicted), predicted, outcomes))
    return float(np.abs(p - o).sum() / n.sum())


def ece_pure(predicted, outcomes, bins=10):
    groups = {}
    for p, o in zip(predicted, outcomes, strict=True):
        groups.setdefault(min(int(p * bins), bins - 1), []).append((p, o))
    return sum(abs(sum(p for p, _ in g) - sum(o for _, o in g)) for g in groups.values()) / len(predicted)


right("4.6", ece_textbook)
right("4.6", ece_digitize)
right("4.6", ece_pure)
right("4.6", lambda p, o, bins=10: torch.tensor(ece_textbook(p, o, bins)))
wrong("4.6", lambda p, o, bins=10: 100 * ece_textbook(p, o, bins))
wrong("4.6", lambda p, o, bins=10: ece_textbook(p, o, 10))
wrong("4.6", lambda p, o, bins=10: abs(p.mean() - o.mean()), "cancels out")
wrong("4.6", lambda p, o, bins=10: np.mean((p - o) ** 2))
wrong("4.6", lambda p, o, bins=10: ece_textbook(o, p, bins))
wrong("4.6", lambda p, o, bins=10: ece_textbook(p, o, bins) / bins)
wrong("4.6", lambda p, o, bins=10: sum(
    abs(p[k].mean() - o[k].mean()) * len(k) / len(p) for k in np.array_split(np.argsort(p), bins) if len(k)))
wrong("4.6", lambda p, o, bins=10: np.abs(p - o).mean(), "own outcome")
wrong("4.6", lambda p, o, bins=10: {"ece": ece_pure(p, o, bins)}, "a dict, but a single number")
