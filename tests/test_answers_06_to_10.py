"""Answers to the exercises of 06 to 10 as students write them: right ones in other words, and wrong ones of every kind.

Each line is an exercise, an answer and a piece of what `check` has to say: "right" for an answer that is accepted.
"""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rlhf_lite import stats
from rlhf_lite.exercises.checking import DONE, WRONG, find, judge
from rlhf_lite.real import measures
from rlhf_lite.sampling import pad_left, pad_right, token_log_probs

WHERE, NAN = torch.where, float("nan")


def course(identifier):
    return find(identifier).course


def quantiles(means):
    return np.percentile(means, 2.5), np.percentile(means, 97.5)


def by_dict(values, clusters, draws, rng):
    groups = {}
    for value, name in zip(values, clusters, strict=True):
        groups.setdefault(name, []).append(value)
    groups = [np.array(group) for group in groups.values()]
    sums, sizes = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    drawn = rng.integers(len(groups), size=(draws, len(groups)))
    return quantiles(sums[drawn].sum(1) / sizes[drawn].sum(1))


def sorts_in_place(values, draws, rng):
    values.sort()
    return course("6.2")(values, draws, rng)


def cross_entropy(logits, ids, mask):
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[2]), targets.reshape(-1))


def one_backward(optimizer, ppo_loss, web_loss, ptx_coef):
    optimizer.zero_grad()
    (ppo_loss() + ptx_coef * web_loss()).backward()
    optimizer.step()
    optimizer.zero_grad()


def never_clears_before_reuse(optimizer, ppo_loss, web_loss, ptx_coef):
    (ppo_loss() + ptx_coef * web_loss()).backward()
    optimizer.step()


def all_subsets(proxy, n):
    found = torch.zeros(proxy.shape, dtype=torch.float64)
    for row, scores in enumerate(proxy):
        subsets = list(itertools.combinations(range(len(scores)), n))
        for subset in subsets:
            found[row, max(subset, key=lambda i, s=scores: s[i])] += 1 / len(subsets)
    return found


def winner_by_loop(n, probabilities, scores):
    total = 0.0
    for i, p in enumerate(probabilities):
        at_most = sum(q for q, s in zip(probabilities, scores, strict=True) if s <= scores[i])
        share = at_most**n - (at_most - p) ** n
        total += share * math.log(share / p)
    return total


def unsorted_winner(n, probabilities, scores):
    reached = probabilities.cumsum(0)
    winner = reached**n - (reached - probabilities) ** n
    return (winner * (winner / probabilities).log()).sum().item()


def by_exp(log_ref, proxy, true, kl_coef):
    weights = log_ref.exp() * (proxy / kl_coef).exp()
    best = weights / weights.sum()
    return (best * (best.log() - log_ref)).sum(), best @ proxy, best @ true


def judges_by_hand(members, rule, price=1.0):
    flat = members.reshape(len(members), -1)
    scaled = ((flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)).view_as(members)
    if rule == "worst":
        return torch.amin(scaled, 0)
    spread = ((scaled - scaled.mean(0)) ** 2).mean(0).sqrt()
    return scaled.mean(0) - (rule == "unsure") * price * spread


def judges_in_place(members, rule, price=1.0):
    members -= members.mean((1, 2), keepdim=True)
    members /= members.std((1, 2), correction=0, keepdim=True)
    return judges_by_hand(members, rule, price)


def buckets(lb, rb, la, ra, width):
    gains, weights = [], []
    for bucket in sorted({x // width for x in lb} & {x // width for x in la}):
        before = [r for length, r in zip(lb, rb, strict=True) if length // width == bucket]
        after = [r for length, r in zip(la, ra, strict=True) if length // width == bucket]
        gains.append(np.mean(after) - np.mean(before))
        weights.append(len(before) + len(after))
    return np.dot(gains, weights) / sum(weights) / (np.mean(ra) - np.mean(rb))


def state_dict_copies(model, train):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model)
    return not all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def trains_twice(model, train):
    before = [p.detach().clone() for p in model.parameters()]
    train(model)
    train(model)
    return any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def first_end(responses, end):
    rows = []
    for row in responses.tolist():
        stop = row.index(end) + 1 if end in row else len(row)
        rows.append([i < stop for i in range(len(row))])
    return torch.tensor(rows)


def grad_then_sum(weight, parts):
    tokens, total = sum(int(kept.sum()) for _, _, kept in parts), torch.zeros_like(weight)
    for x, y, kept in parts:
        total = total + 2 * ((x @ weight - y)[kept, None] * x[kept]).sum(0) / tokens
    return total


def moves_the_weight(weight, parts):
    weight.requires_grad_()
    tokens = sum(kept.sum() for _, _, kept in parts)
    for x, y, kept in parts:
        (((x @ weight - y) ** 2)[kept].sum() / tokens).backward()
    return weight.grad


def loops_over_words(chosen, rejected, vocabulary):
    good, bad = Counter(measures.words(chosen)), Counter(measures.words(rejected))
    found = np.zeros(len(vocabulary))
    for word, place in vocabulary.items():
        found[place] = math.log(1 + good[word]) - math.log(1 + bad[word])
    return found


def shifted_softmax(best, correct, incorrect):
    top = max(*correct, *incorrect)
    good, bad = (sum(math.exp(x - top) for x in side) for side in (correct, incorrect))
    return float(all(best > x for x in incorrect)), good / (good + bad)


def one_by_one(policy, prompts, responses):
    rows = [token_log_probs(policy, torch.tensor([[*p, *r]]), torch.ones(1, len(p) + len(r), dtype=torch.long), len(p)
                            ).sum() for p, r in zip(prompts, responses, strict=True)]
    return torch.stack(rows)


def all_padded_left(policy, prompts, responses):
    prompt_ids, prompt_mask = pad_left(prompts)
    ids, mask = pad_left(responses)
    table = token_log_probs(policy, torch.cat([prompt_ids, ids], 1), torch.cat([prompt_mask, mask], 1),
                            prompt_ids.shape[1])
    return WHERE(mask.bool(), table, 0.0).sum(1)


def padded_right(policy, prompts, responses):
    prompt_ids, prompt_mask = pad_left(prompts)
    ids, mask = pad_right(responses)
    table = token_log_probs(policy, torch.cat([prompt_ids, ids], 1), torch.cat([prompt_mask, mask], 1),
                            prompt_ids.shape[1])
    return torch.stack([row[keep].sum() for row, keep in zip(table, mask.bool(), strict=True)])


def leave_one_out(scores, group):
    found = []
    for start in range(0, len(scores), group):
        for i in range(start, start + group):
            others = [scores[j] for j in range(start, start + group) if j != i]
            found.append(scores[i] - sum(others) / len(others))
    return torch.stack(found)


def spread_or_one(scores, group, divide_by_std):
    rows = scores.view(-1, group)
    centred, spread = rows - rows.mean(1, keepdim=True), rows.std(1, keepdim=True)
    return (centred / WHERE(spread == 0, 1.0, spread) if divide_by_std else centred).flatten()


def grpo_by_row(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length):
    found = []
    for ours, theirs, advantage, keep in zip(log_probs, ref_log_probs, advantages, mask, strict=True):
        ratio = theirs[keep] - ours[keep]
        tokens = -advantage * ours[keep] + kl_coef * (torch.expm1(ratio) - ratio)
        found.append(tokens.mean() if divide_by_length else tokens.sum())
    return torch.stack(found)


RIGHT = "right"
ANSWERS = [
    # 6.1 to 6.3
    ("6.1", lambda w, t, lost: stats.win_rate(w, t, w + t + lost), RIGHT),
    ("6.1", lambda w, t, lost: stats.proportion_interval((2 * w + t) / 2, w + t + lost), RIGHT),
    ("6.1", lambda w, t, lost: stats.proportion_interval(w + t // 2, w + t + lost), ""),
    ("6.1", lambda w, t, lost: (w + t / 2) / (w + t + lost), ""),
    ("6.1", lambda w, t, lost: stats.mean_interval([1] * w + [0.5] * t + [0] * lost), ""),
    ("6.1", lambda w, t, lost: print(w + t / 2), "return"),
    ("6.2", lambda v, k, rng: quantiles(rng.choice(v, size=(k, len(v))).mean(1)), RIGHT),
    ("6.2", lambda v, k, rng: list(quantiles([rng.choice(v, len(v)).mean() for _ in range(k)])), RIGHT),
    ("6.2", lambda v, k, rng: quantiles([rng.choice(v, len(v)).mean() for _ in range(k)])[::-1], "lower end first"),
    ("6.2", lambda v, k, rng: (v.mean() - v.std(), v.mean() + v.std()), ""),
    ("6.2", sorts_in_place, "changes"),
    ("6.3", by_dict, RIGHT),
    ("6.3", lambda v, c, k, rng: course("6.2")(v, k, rng), "too narrow"),
    # 6.4 to 6.6, 6.9
    ("6.4", lambda t, i: ((t == 1) & i).sum() / len(t), RIGHT),
    ("6.4", lambda t, i: sum(a == 1 and b for a, b in zip(t, i, strict=True)) / len(t), RIGHT),
    ("6.4", lambda t, i: float(np.mean(t * i)), ""),
    ("6.4", lambda t, i: float(np.mean((t >= 0.5) & i)), "alf-truths"),
    ("6.4", lambda t, i: int(((t == 1) & i).sum()), ""),
    ("6.5", lambda a, b: 1 - b.mean() / a.mean() if a.any() else NAN, RIGHT),
    ("6.5", lambda a, b: (a.mean() - b.mean()) / a.mean() if a.sum() > 0 else math.nan, RIGHT),
    ("6.5", lambda a, b: 1 - b.mean() / a.mean() if a.any() else 0.0, ""),
    ("6.5", lambda a, b: 100 * (1 - b.mean() / a.mean()) if a.any() else NAN, ""),
    ("6.6", lambda p, x: np.polynomial.Polynomial.fit(x, p, 1)(0.0), RIGHT),
    ("6.6", lambda p, x: p.mean() - x.mean() * np.cov(x, p)[0, 1] / np.var(x, ddof=1), RIGHT),
    ("6.6", lambda p, x: p.mean() - x.mean() * np.cov(x, p)[0, 1] / np.var(x), ""),
    ("6.6", lambda p, x: p[x == 0].mean() if (x == 0).any() else p.mean(), ""),
    ("6.9", lambda a, b: 0.5 * a + 0.5 * (1 - b), RIGHT),
    ("6.9", lambda a, b: np.mean([a, 1 - b], axis=0), RIGHT),
    ("6.9", lambda a, b: [(x + 1 - y) / 2 for x, y in zip(a, b, strict=True)], "numpy array"),
    ("6.9", lambda a, b: float(((a + 1 - b) / 2).mean()), ""),
    # 6.7, 6.8
    ("6.7", cross_entropy, RIGHT),
    ("6.7", lambda logits, ids, mask: F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()), "adding"),
    ("6.7", lambda logits, ids, mask: cross_entropy(logits, ids, mask).item(), "tensor"),
    ("6.8", one_backward, RIGHT),
    ("6.8", never_clears_before_reuse, "never cleared"),
    # 7.1 to 7.3
    ("7.1", lambda proxy: proxy.max(dim=1).indices, RIGHT),
    ("7.1", lambda proxy: torch.tensor([row.tolist().index(max(row.tolist())) for row in proxy]), RIGHT),
    ("7.1", lambda proxy: proxy.argmax(dim=1).tolist(), "tensor"),
    ("7.1", lambda proxy: proxy.argmax(), ""),
    ("7.1", lambda proxy: proxy.argmax(dim=1).float(), "integers"),
    ("7.1", lambda proxy: proxy.argmax(dim=1) + 1, ""),
    ("7.2", all_subsets, RIGHT),
    ("7.2", lambda proxy, n: all_subsets(proxy, n) / len(proxy), ""),
    ("7.2", lambda proxy, n: all_subsets(-proxy, n), "worst of n"),
    ("7.3", winner_by_loop, RIGHT),
    ("7.3", unsorted_winner, ""),
    ("7.3", lambda n, p, s: -winner_by_loop(n, p, s), ""),
    # 7.4 to 7.7
    ("7.4", by_exp, RIGHT),
    ("7.4", lambda *a: list(by_exp(*a)), RIGHT),
    ("7.4", lambda *a: tuple(float(x) for x in by_exp(*a)), "tensor"),
    ("7.4", lambda *a: by_exp(*a)[:2], ""),
    ("7.5", lambda d, g: tuple(np.linalg.pinv(np.stack([d, -d * d], 1)) @ g), RIGHT),
    ("7.5", lambda d, g: np.linalg.lstsq(np.stack([d, -d * d], 1), g, rcond=None)[0], RIGHT),
    ("7.5", lambda d, g: np.polyfit(d, g / d, 1)[::-1], ""),
    ("7.6", buckets, RIGHT),
    ("7.6", lambda lb, rb, la, ra, w: buckets(lb, rb, la, ra, 1), ""),
    ("7.7", judges_by_hand, RIGHT),
    ("7.7", judges_in_place, "changes"),
    ("7.7", lambda m, rule, price=1.0: judges_by_hand(m, rule, price).tolist(), "tensor"),
    # 8.1, 8.2, 8.5 to 8.8
    ("8.1", lambda new, old, m: ((new - old)[m].exp() - 1).abs().max(), RIGHT),
    ("8.1", lambda new, old, m: (WHERE(m, new - old, 0.0).exp() - 1).abs().max().item(), "tensor"),
    ("8.1", lambda new, old, m: (new - old)[m].exp().max() - 1, ""),
    ("8.2", lambda a, b, m: (WHERE(m, a, 0.0) - WHERE(m, b, 0.0)).sum() / len(a), RIGHT),
    ("8.2", lambda a, b, m: (a - b)[m].mean(), "per token"),
    ("8.2", lambda a, b, m: (a - b).nan_to_num().sum(1).mean(), ""),
    ("8.5", first_end, RIGHT),
    ("8.5", lambda r, end: (r == end).cumsum(1).roll(1, 1).bool().logical_not(), ""),
    ("8.5", lambda r, end: first_end(r, end).long(), "True or False"),
    ("8.6", state_dict_copies, RIGHT),
    ("8.6", trains_twice, "once"),
    ("8.6", lambda model, train: int(state_dict_copies(model, train)), RIGHT),
    ("8.6", lambda model, train: not state_dict_copies(model, train), ""),
    ("8.7", lambda lp, h, m: (-lp[m] - h[m]).mean(), RIGHT),
    ("8.7", lambda lp, h, m: -(lp[m].mean() + h[m].mean()), RIGHT),
    ("8.7", lambda lp, h, m: (-lp[m] - h[m]).sum(), ""),
    ("8.8", lambda a, b, m, cap: torch.stack([(x - y)[k].sum().exp() for x, y, k in zip(a, b, m, strict=True)]
                                             ).clamp(max=cap).detach(), RIGHT),
    ("8.8", lambda a, b, m, cap: WHERE(m, (a - b).exp(), 1.0).prod(1).clamp(max=cap).detach(), RIGHT),
    ("8.8", lambda a, b, m, cap: WHERE(m, (a - b).exp().clamp(max=cap), 1.0).prod(1).detach(), ""),
    # 9
    ("9.1", grad_then_sum, RIGHT),
    ("9.1", moves_the_weight, ""),
    ("9.2", lambda a, b: float(np.mean(0.5 + 0.5 * np.sign(b * (1 if np.sign(a).sum() >= 0 else -1)))), RIGHT),
    ("9.2", lambda a, b: float(np.mean(np.sign(b) == np.sign(a.mean()))), ""),
    ("9.2", lambda a, b: float(np.mean(0.5 + 0.5 * np.sign(b * (1 if np.sign(a).sum() > 0 else -1)))), ""),
    ("9.3", loops_over_words, RIGHT),
    ("9.3", lambda c, r, v: loops_over_words(c, r, v).tolist(), "numpy array"),
    ("9.3", lambda c, r, v: -loops_over_words(c, r, v), "swapped"),
    ("9.4", lambda n, b: n * (2 * (2 * b + 8 + 4 * (b < 4)) + 2 * b), RIGHT),
    ("9.4", lambda n, b: n * {4: 40, 2: 36}[b], RIGHT),
    ("9.4", lambda n, b: n * {4: 40, 2: 36}[b] / 1e9, ""),
    ("9.5", shifted_softmax, RIGHT),
    ("9.5", lambda b, c, i: (b > max(i), shifted_softmax(b, c, i)[1]), RIGHT),
    ("9.5", lambda b, c, i: (float(b >= max(i)), shifted_softmax(b, c, i)[1]), ""),
    ("9.6", lambda b, a: ((a - b).mean(), 1.96 * (a - b).std(ddof=1) / len(a) ** 0.5), RIGHT),
    ("9.6", lambda b, a: ((a - b).mean(), 1.96 * np.sqrt((a - b).var() / (len(a) - 1))), RIGHT),
    ("9.6", lambda b, a: ((a - b).mean(), 1.96 * (a - b).std() / len(a) ** 0.5), ""),
    # 10
    ("10.1", lambda p, r, beta: beta * torch.log(p.exp() / r.exp()), RIGHT),
    ("10.1", lambda p, r, beta: (beta * (p - r)).numpy(), "tensor"),
    ("10.2", lambda pc, pr, rc, rr, b: F.softplus(-b * (pc - rc - pr + rr)).mean(), RIGHT),
    ("10.2", lambda pc, pr, rc, rr, b: F.binary_cross_entropy_with_logits(
        b * ((pc - rc) - (pr - rr)), torch.ones_like(pc)), RIGHT),
    ("10.2", lambda pc, pr, rc, rr, b: (1 + (-b * (pc - rc - pr + rr)).exp()).log().mean(), ""),
    ("10.2", lambda pc, pr, rc, rr, b: F.softplus(-b * (pc - rc - pr + rr)).mean().item(), "gradient"),
    ("10.3", one_by_one, RIGHT),
    ("10.3", padded_right, RIGHT),
    ("10.3", all_padded_left, ""),
    ("10.4", leave_one_out, RIGHT),
    ("10.4", lambda s, g: (s - s.view(-1, g).mean(1).repeat_interleave(g)) * g / (g - 1), RIGHT),
    ("10.4", lambda s, g: s - s.mean(), ""),
    ("10.4", lambda s, g: leave_one_out(s, g).view(-1, g), "shape"),
    ("10.6", spread_or_one, RIGHT),
    ("10.6", lambda s, g, d: spread_or_one(s, g, d).view(-1, g), "shape"),
    ("10.6", lambda s, g, d: (s - s.view(-1, g).mean(1).repeat_interleave(g)), ""),
    ("10.7", grpo_by_row, RIGHT),
    ("10.7", lambda *a: grpo_by_row(*a).mean(), ""),
    ("10.7", lambda *a: grpo_by_row(*a).detach(), "gradient"),
    ("10.8", lambda p, r, m: torch.stack([(a - b)[k].sum() for a, b, k in zip(p, r, m, strict=True)]), RIGHT),
    ("10.8", lambda p, r, m: WHERE(m, p, 0.0).sum(1) - WHERE(m, r, 0.0).sum(1), RIGHT),
    ("10.8", lambda p, r, m: WHERE(m, p - r, 0.0).sum(), ""),
]
assert len(ANSWERS) >= 80


@pytest.mark.parametrize(("identifier", "answer", "reason"), ANSWERS,
                         ids=[f"{row[0]}-{number}" for number, row in enumerate(ANSWERS)])
def test_an_answer_is_judged_and_told_why(identifier, answer, reason):
    mark, sentence = judge(find(identifier), answer)
    assert mark == (DONE if reason == RIGHT else WRONG), sentence
    assert reason in sentence, sentence
