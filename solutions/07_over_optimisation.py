# %% [markdown]
# {{header}}

# %%
import math
from collections import Counter

import numpy as np
import torch
from IPython.display import display
from jaxtyping import Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import best_of_n, files, models, plots, reward, stats
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.experiment import data, evaluate, report
from rlhf_lite.experiment.answers import answer_rows, rank_answers
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, TEMPERATURE, Recipe
from rlhf_lite.ppo import PPOConfig, train_ppo
from rlhf_lite.sampling import sample_many
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade
from rlhf_lite.widgets import measure as inside
from rlhf_lite.widgets.sliders import BetaSlider

lesson = setup("07", strict=True)
tokenizer, sft, reward_model = lesson.tokenizer(), lesson.policy("sft"), lesson.reward_model()

# %% [markdown]
# ## Sixteen answers, one winner
#
# The simplest way to use a reward model needs no training at all: write several answers, send the one it likes best.
# Everything that goes wrong in PPO can already be seen here, so we start with it.
#
# Below are sixteen answers of the SFT model to one customer, the reward model's favourite first. Nobody but us can
# see the right column, the grade of the town's program. (It checks the task, the facts and the words; a sentence that
# wanders off may still get its 7.) Guess before you run it: will the top answer be the best one?

# %%
N = lesson.pick(64, 16)
prompts = data.prompts_of("valid", lesson.pick(80, 12))
ids = [row for row in data.encoded(tokenizer, prompts) for _ in range(N)]
gate_answers = sample_many(sft, ids, MAX_NEW_TOKENS, TEMPERATURE)
texts = [models.decode_response(tokenizer, answer) for answer in gate_answers]
grades = [grade(prompts[i // N], texts[i], answer[-1] == models.END) for i, answer in enumerate(gate_answers)]
true = torch.tensor([g.score for g in grades]).view(-1, N)
read_by = [reward.reward_input(p, a) for p, a in zip(ids, gate_answers, strict=True)]
proxy = reward.score(reward_model, read_by).view(-1, N)

shown = int((true[:, :16].std(dim=1) * proxy[:, :16].std(dim=1)).argmax())
print(prompts[shown].text)
display(plots.table(("proxy", "grade", "answer"), [
    (f"{proxy[shown, place]:+.2f}", f"{grades[shown * N + place].overall} of 7", texts[shown * N + place])
    for place in proxy[shown, :16].argsort(descending=True).tolist()]))

# %% [markdown]
# {{exercise 7.1}}
#
# **What you should see:** for scores `[[1, 5, 2], [9, 0, 3]]` the columns `[1, 0]`.

# %%
def best_of_n_indices(proxy: Float[Tensor, "prompts answers"]) -> Int[Tensor, "prompts"]:
    """Find the column of the best answer to each prompt, by the scores of the reward model."""
    ### BEGIN SOLUTION
    return proxy.argmax(dim=1)
    ### END SOLUTION


best_of_n_indices = check("7.1", best_of_n_indices)
print(best_of_n_indices(torch.tensor([[1.0, 5.0, 2.0], [9.0, 0.0, 3.0]])))
best = best_of_n_indices(proxy[:, :16])
sent, ideal = true[torch.arange(len(best)), best].mean(), true[:, :16].max(dim=1).values.mean()
print(f"True score: one answer {true[:, 0].mean():.3f}, the reward model's best of 16 {sent:.3f}, "
      f"the truly best of 16 {ideal:.3f}.")

# %% [markdown]
# ## Without luck
#
# Those numbers hang on one draw of sixteen. But we have more samples than that, and every subset of n of them is as
# good a draw as any other. Averaging over *all* subsets sounds like a lot of work (out of 64 there are
# 488,526,937,079,580 ways to choose 16), yet it takes one line, because it only matters how high a sample stands in
# the order.
#
# {{exercise 7.2}}
#
# **What you should see:** for three samples and n = 2, the lowest never wins, the middle one in 1 of 3 subsets, the
# highest in 2 of 3.

# %%
def best_of_n_weights(proxy: Float[Tensor, "prompts answers"], n: int) -> Float[Tensor, "prompts answers"]:
    """Compute each answer's chance to be the best of n different ones. No two scores of a row are equal."""
    ### BEGIN SOLUTION
    N = proxy.shape[1]
    share = torch.tensor([math.comb(below, n - 1) / math.comb(N, n) for below in range(N)], dtype=torch.float64)
    return share[proxy.argsort(dim=1).argsort(dim=1)]
    ### END SOLUTION


best_of_n_weights = check("7.2", best_of_n_weights)
print(best_of_n_weights(torch.tensor([[0.3, 0.1, 0.2]]), 2))

# %% [markdown]
# The library's `best_of_n_curve` uses these weights (and shares them out evenly among equals). Three curves: what the
# reward model thinks it gains, what its choice is really worth, and what a perfect judge would find in the very same
# answers.

# %%
ns = [2**k for k in range(int(math.log2(N)) + 1)]
curve, oracle = best_of_n.best_of_n_curve(proxy, true, ns), best_of_n.best_of_n_curve(true, true, ns)


def intervals(scores):
    """(prompts, len(ns)) scores -> one interval over prompts for every n."""
    return [evaluate.value(stats.mean_interval(column)) for column in scores.numpy().T]


gate = {"n": ns, "kl": curve["kl"], "rm": intervals(curve["true"]), "oracle": intervals(oracle["true"])}
display(plots.gate(gate))
mean_proxy, possible = curve["proxy"].mean(dim=0), gate["oracle"][-1]["value"] - gate["oracle"][0]["value"]
gains = (curve["true"] - curve["true"][:, :1])  # (prompts, n), over a single answer
top = int(gains[::2].mean(dim=0).argmax())  # every second prompt chooses n; the others say what it is worth
chosen, fair, last = (found.mean().item() for found in (gains[::2, top], gains[1::2, top], gains[:, -1]))
print(f"The proxy rises all the way, from {mean_proxy[0]:.2f} to {mean_proxy[-1]:.2f}. Half of the prompts find the "
      f"truth best at n = {ns[top]} and put the gain at {chosen:+.3f}; the other half, which had no say in that, "
      f"at {fair:+.3f}. With n = {ns[-1]} it is {last:+.3f} over all. A perfect judge would gain {possible:+.3f}, so "
      f"the reward model sees {100 * fair / possible:.0f} % of what there is to see.")

# %% [markdown]
# ## How far did we go?
#
# Best-of-n is a policy too: it writes what SFT writes, in other proportions. Its distance from SFT is usually given
# by a formula, KL = log n − (n−1)/n, which you see on top of the plot. Where does that come from, and is it true? In
# a world where all answers can be written down we can check.
#
# {{exercise 7.3}}
#
# **What you should see:** for two equally likely outcomes and n = 2 the better one comes with probability ¾, so KL =
# ¾ log 1.5 + ¼ log 0.5 ≈ 0.131, less than the formula's 0.193.

# %%
def kl_best_of_n(n: int, probabilities: Float[Tensor, "outcomes"], scores: Float[Tensor, "outcomes"]) -> float:
    """Compute KL(best of n draws || one draw) in nats, exactly. No two scores are equal."""
    ### BEGIN SOLUTION
    order = scores.argsort()
    p = probabilities[order]
    reached = p.cumsum(0)
    winner = reached**n - (reached - p) ** n
    return (winner * (winner / p).log()).sum().item()
    ### END SOLUTION


kl_best_of_n = check("7.3", kl_best_of_n)
print(round(kl_best_of_n(2, torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0])), 3))
grid = [1, 2, 4, 8, 16, 32, 64]
kls = {"formula: log n − (n−1)/n": (grid, [best_of_n.kl_best_of_n(n) for n in grid])}
for outcomes in (2000, 20, 4):
    equal, places = torch.full((outcomes,), 1 / outcomes, dtype=torch.float64), torch.arange(outcomes).double()
    kls[f"exact, {outcomes} outcomes"] = grid, [kl_best_of_n(n, equal, places) for n in grid]
looks = ("oracle", "--"), ("ppo_ptx", "^"), ("ppo", "D"), ("sft", "s")
display(plots.lines({"Best-of-n moves less than the formula says": kls}, "n", "KL from one draw (nats)", xscale="log",
                    xticks=grid, looks=dict(zip(kls, looks, strict=True))))
print(f"With n = 64 the formula says {best_of_n.kl_best_of_n(64):.2f} nats. With four outcomes it cannot be more than "
      f"log 4 = {math.log(4):.2f}: the best of four is all there is. The formula is an upper bound (Beirami et al.).")

# %% [markdown]
# Remember how *cheap* it is: n = 64 costs sixty-four answers but only three nats. PPO will spend far more.
#
# ## A world where nothing is hidden
#
# Now the idea of this notebook. Here is a complaint desk with six words, and all its 781 possible answers. The
# **truth**: a customer wants to read *sorry* and *Kate*, her name, and an end; repeating oneself annoys her. The
# **proxy** has learnt from the usual answers, in which hardly anybody repeats a word. It learnt: *the more sorry, the
# better*. It is a good reward model! Look.

# %%
WORDS = ["please", "so", "END", "sorry", "Kate", "soon"]
world = tiny.make_world(vocab_size=6, max_new_tokens=4)


def spoken(response):
    """Token ids -> the words of a response, without END."""
    return [WORDS[token] for token in response if WORDS[token] != "END"]


def true_of(response):
    """What Kate thinks of it, 0 to 1."""
    said = spoken(response)
    wanted = 0.4 * ("sorry" in said) + 0.4 * ("Kate" in said) + 0.2 * (WORDS[response[-1]] == "END")
    return max(0.0, wanted - 0.4 * (len(said) - len(set(said))))


def proxy_of(response):
    """What the reward model thinks of it: it counts apologies."""
    said = spoken(response)
    return 0.4 * said.count("sorry") + 0.4 * ("Kate" in said) + 0.2 * (WORDS[response[-1]] == "END")


# %%
tiny_true = torch.tensor([true_of(response) for response in world.responses], dtype=torch.float64)
tiny_proxy = torch.tensor([proxy_of(response) for response in world.responses], dtype=torch.float64)
table = torch.zeros(1, world.state_count, len(WORDS))  # the reference: logits of the next word in every state
for row, response in enumerate(world.responses):
    for t, state in enumerate(world.states[row, :len(response)]):
        table[0, state, response[:t]] = -1.5  # it rarely says a word twice
        table[0, state, models.END] = 0.6 * t - 0.3
log_ref = tiny.table_log_probs(table, world).sum(dim=-1)[0].double()

# %%
drawn = torch.multinomial(log_ref.exp(), 2000, replacement=True, generator=torch.Generator().manual_seed(0))
said = [spoken(world.responses[row]) for row in drawn.tolist()]
for row, words in zip(drawn[:5].tolist(), said[:5], strict=True):
    print(f"{' '.join(words) or '(nothing)':26s} truth {tiny_true[row]:.1f}, proxy {tiny_proxy[row]:.1f}")
agreement = torch.corrcoef(torch.stack([tiny_true[drawn], tiny_proxy[drawn]]))[0, 1]
repeats = np.mean([len(words) > len(set(words)) for words in said])
print(f"On what the reference writes, proxy and truth correlate at {agreement:.2f}; {100 * repeats:.0f} % of its "
      "answers repeat a word.")

# %% [markdown]
# In notebook 05 you met the best policy there is, $\pi^* \propto \pi_{ref}\exp(r/\beta)$: what PPO aims at and, with
# patience, reaches. No sampling noise, no learning rate, no bug. Predict: as the price $\beta$ of moving falls, what
# does its *true* score do?
#
# {{exercise 7.4}}
#
# **What you should see:** at `kl_coef` 5 hardly any movement (KL below 0.01); at 0.03 a mean proxy of about 1.6.

# %%
def best_under_proxy(log_ref: Float[Tensor, "responses"], proxy: Float[Tensor, "responses"],
                     true: Float[Tensor, "responses"], kl_coef: float
                     ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute KL, mean proxy and mean true score of the policy that maximises proxy − kl_coef · KL."""
    ### BEGIN SOLUTION
    log_best = (log_ref + proxy / kl_coef).log_softmax(dim=-1)
    best = log_best.exp()
    return (best * (log_best - log_ref)).sum(), (best * proxy).sum(), (best * true).sum()
    ### END SOLUTION


best_under_proxy = check("7.4", best_under_proxy)
for kl_coef in (5.0, 0.18, 0.03):
    kl, mean_proxy, mean_true = best_under_proxy(log_ref, tiny_proxy, tiny_true, kl_coef)
    print(f"kl_coef {kl_coef:4.2f}: KL {kl:5.2f} nats, proxy {mean_proxy:.2f}, truth {mean_true:.2f}")

# %%
prices = torch.logspace(1.0, -1.7, 60).tolist()
def with_distance(kl, *means):
    """(√KL, mean proxy, mean true score) as numbers."""
    return math.sqrt(max(0.0, float(kl))), *map(float, means)


path = [with_distance(*best_under_proxy(log_ref, tiny_proxy, tiny_true, price)) for price in prices]
chosen = [tiny.best_of_n(log_ref[None], tiny_proxy[None], n) for n in (1, 2, 4, 8, 16, 32, 64, 256, 1024)]
bon = [with_distance(tiny.kl(p, log_ref), tiny.expected(p, tiny_proxy), tiny.expected(p, tiny_true)) for p in chosen]
truths = [truth for _, _, truth in path]
summit = int(np.argmax(truths))
display(plots.goodhart(path, bon, (path[summit][0], truths[summit], f"kl_coef {prices[summit]:.2f}")))
print(f"The proxy only rises. The truth climbs from {truths[0]:.2f} to {truths[summit]:.2f} at kl_coef "
      f"{prices[summit]:.2f} and falls to {truths[-1]:.2f}. Best-of-n climbs to {max(row[2] for row in bon):.2f} and "
      "turns too.")
log_best, _ = tiny.optimum(log_ref, tiny_proxy, prices[-1])
print("What the best policy for the proxy says at the end:", " · ".join(
    " ".join(spoken(world.responses[row])) for row in log_best.topk(4).indices.tolist()))

# %% [markdown]
# Stop at this picture. π* squeezes the most proxy out of every nat; best-of-n squeezes less, and keeps more of the
# truth. Every number in it is exact, the reward model was good, the optimiser perfect, and still the answers ended as
# a stammer. **The best policy for the proxy is not the best policy.** The proxy was right where it had seen answers;
# optimisation goes where it has not. Goodhart's law, with no one to blame.
#
# ## The price of moving, by hand
#
# The same $\pi^*$ on real answers: a dozen requests, six answers of SFT to each, the real reward model. Move β and
# watch where the probability goes. The red dots are real PPO runs of the project's sweep. With only six answers to
# choose from, no policy can follow them to the right.

# %%
few = data.prompts_of("valid", 12)
sampled = sample_many(sft, [row for row in data.encoded(tokenizer, few) for _ in range(6)], MAX_NEW_TOKENS,
                      TEMPERATURE, seed=3, progress=False)
groups = [{"prompt": prompt.text, "K": 6, "responses": [
    {"text": models.decode_response(tokenizer, ids), "token_ids": ids} for ids in sampled[6 * i:6 * i + 6]]}
    for i, prompt in enumerate(few)]
sweep = (files.read_json(files.DATA / "results" / "1.3m-seed0.json") or {}).get("kl_sweep", [])
BetaSlider(inside.scored_groups(reward_model, tokenizer, groups), [point for point in sweep if point["kl"] < 10])

# %% [markdown]
# ## Goodhart, live
#
# Now the real reward model, and PPO with hardly any price on moving. On validation prompts we measure three things as
# it trains: what the reward model says, what the town's truth says, and the distance. Watch for the moment when they
# part.

# %%
asked = data.prompts_of("valid", lesson.pick(120, 16))
reference = models.copy_model(sft, trainable=False)
trail, drawn, kept = [], [], {}
TITLES = {"proxy": "Proxy: the reward model's score", "true": "True score (0–1)", "kl": "Distance: KL from SFT"}


def proxies(rows):
    """(n,) what the reward model says of these answers."""
    return reward.score(reward_model, [
        reward.reward_input(models.encode_prompt(tokenizer, row["prompt"]), row["token_ids"]) for row in rows]).numpy()


def look(policy, iteration):
    """Proxy, truth and distance on validation prompts -> the picture so far; keeps the policy of the best moment."""
    rows = answer_rows(policy, tokenizer, asked, seed=9, progress=False)
    kl = evaluate.kl_to_reference(policy, reference, tokenizer, [row | {"set": "mixed"} for row in rows]).mean()
    trail.append({"iteration": iteration, "proxy": proxies(rows), "rows": rows, "kl": max(0.0, float(kl)),
                  "true": np.array([row["grade"].score for row in rows])})
    if trail[-1]["true"].mean() >= max(point["true"].mean() for point in trail):
        kept["best"] = models.copy_model(policy, trainable=False)
    drawn.append(trail[-1] | {name: stats.mean_interval(trail[-1][name]) for name in ("proxy", "true")})
    began = {name: (drawn[0][name].value, "") for name in ("proxy", "true")}
    return plots.training_curves({"ppo": drawn}, TITLES, began)


# %%
policy = models.copy_model(sft)
picture = display(look(policy, 0), display_id=True)
config = PPOConfig(iterations=lesson.pick(40, 4), batch_size=lesson.pick(64, 16), minibatch=lesson.pick(16, 8),
                   lr=lesson.pick(5e-4, 2e-3), kl_coef=0.02, warmup_iterations=3, max_kl=1e4,
                   max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE)
run = train_ppo(policy, reference, models.copy_model(reward_model), data.encoded(tokenizer, data.prompts_of("train")),
                config, reward_fn=reward_model, evaluate_every=lesson.pick(2, 1),
                evaluate=lambda policy, iteration: picture.update(look(policy, iteration)) or {})

# %%
means = [(point["iteration"], point["kl"], point["proxy"].mean(), point["true"].mean()) for point in trail]
start, peak, end = means[0], max(means, key=lambda point: point[3]), means[-1]
print(f"Proxy: {start[2]:+.2f} at the start, {end[2]:+.2f} at the end; that is all the optimiser ever saw.\n"
      f"Truth: {start[3]:.3f} at the start, {peak[3]:.3f} at the best look (iteration {peak[0]}, {peak[1]:.1f} nats), "
      f"{end[3]:.3f} at the end (KL {end[1]:.1f}).\n"
      + ("They part: from its best moment on the measured reward still grew by "
         f"{end[2] - peak[2]:.2f} while the truth lost {peak[3] - end[3]:.2f}." if peak[0] < end[0] and end[2] > peak[2]
         else "They have not parted yet: so few iterations do not reach that point."))

# %% [markdown]
# `kl_coef` is 0.02 here, the very number of the paper, and that alone is no protection: β only has a meaning together
# with the scale and the quality of the reward model. (The shipped PPO model used a larger one. Gao et al. trained
# with none at all.)
#
# ### Fresh prompts
#
# "At its best" is the largest of many looks, all at the same prompts. The largest of many noisy numbers is too large,
# for the same reason for which the winner of a lottery is not a good gambler. So ask the three policies again, on
# prompts that had no part in choosing.

# %%
fresh = data.prompts_of("valid", 2 * len(asked))[len(asked):]
again = {name: np.array([row["grade"].score for row in answer_rows(writer, tokenizer, fresh, seed=5, progress=False)])
         for name, writer in (("SFT", sft), ("at its best", kept["best"]), ("at the end", policy))}
display(plots.interval_rows({name: stats.mean_interval(found) for name, found in again.items()},
                            f"true score on {len(fresh)} fresh prompts", kind="score",
                            marks={"SFT": "sft", "at its best": "ppo", "at the end": "reward"}))
for name, before in (("SFT", start[3]), ("at the end", end[3])):
    gain = stats.mean_interval(again["at its best"] - again[name])
    rival = "SFT" if name == "SFT" else "the last one"
    print(f"The best look beats {rival} by {peak[3] - before:+.3f} on the prompts that chose it, and by "
          f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) on fresh ones.")

# %% [markdown]
# ### What does it say now?
#
# Curves are easy to look away from. So read.

# %%
written = {name: answer_rows(writer, tokenizer, asked, seed=4, progress=False)
           for name, writer in (("SFT", sft), ("at its best", kept["best"]), ("at the end", policy))}
places = np.random.default_rng(2).choice(len(asked), size=lesson.pick(6, 3), replace=False)


def told(row):
    return f"{row['response']}\n(proxy {proxies([row])[0]:+.1f}, graded {row['grade'].overall} of 7)"


display(plots.table(("", *written), [
    (asked[place].text, *(told(rows[place]) for rows in written.values())) for place in places]))

# %%
def phrases(rows):
    """How often any three words stand in a row, over all answers."""
    words = [row["response"].split() for row in rows]
    return Counter(" ".join(said[i:i + 3]) for said in words for i in range(len(said) - 2))


def variety(rows):
    """Share of these three-word phrases that are different, in per cent: 100 when nobody repeats anybody."""
    return 100 * len(phrases(rows)) / max(1, phrases(rows).total())


lines = []
for name, rows in written.items():
    phrase, times = phrases(rows).most_common(1)[0]
    lines.append((name, f"{variety(rows):.0f} %", f"{np.mean([len(row['token_ids']) for row in rows]):.1f}",
                  f"{np.mean([row['finished'] for row in rows]):.0%}", f"{phrase!r}, {times} times in {len(rows)}"))
display(plots.table(("", "variety", "tokens", "ended", "most frequent phrase"), lines))
before, after = (variety(written[name]) for name in ("SFT", "at the end"))
print(f"Of the three-word phrases {before:.0f} % were different, {after:.0f} % are left. "
      + ("More and more customers get the same few phrases, which the reward model likes, whether they fit or not."
         if after < 0.8 * before else "Much of the variety is still there."))

# %% [markdown]
# Does this remind you of something? "I'm so sorry to hear that", "Great question!", five bullet points for a
# yes-or-no question: the tics of chat models are the same thing, stopped earlier.
#
# ## The shape of the turn
#
# Gao, Schulman and Hilton (2022) found that the truth ("gold") follows simple curves in $d=\sqrt{KL}$: for best-of-n
# $d(\alpha-\beta d)$, for reinforcement learning $d(\alpha-\beta\log d)$. α says how well the proxy starts, β how
# badly it ends.
#
# {{exercise 7.5}}
#
# **What you should see:** points made with α = 0.5 and β = 0.2 give these two numbers back; that curve peaks at
# α/(2β) = 1.25.

# %%
def fit_bon(d: Float[np.ndarray, "points"], gold: Float[np.ndarray, "points"]) -> tuple[float, float]:
    """Fit alpha and beta of gold = d (alpha − beta d). d: distances √KL; gold: gains in the true score."""
    ### BEGIN SOLUTION
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -d * d], axis=1), gold, rcond=None)
    return float(alpha), float(beta)
    ### END SOLUTION


fit_bon = check("7.5", fit_bon)
d = np.array([0.5, 1.0, 1.5, 2.0])
print([round(number, 3) for number in fit_bon(d, d * (0.5 - 0.2 * d))])

# %% [markdown]
# Both of our journeys side by side. To put proxy and truth on one axis, each is counted in its own standard
# deviations over the SFT model's answers, from where it started.

# %%
unit = {"proxy": proxy.std().item(), "true": true.std().item()}
journeys = {}
for key, kls, measured, meant in (
        ("bon", curve["kl"], curve["proxy"].mean(dim=0), curve["true"].mean(dim=0)),
        ("rl", *list(zip(*means, strict=True))[1:])):
    journeys[key] = [{"d": math.sqrt(kl), "proxy": float(p - measured[0]) / unit["proxy"],
                      "gold": float(t - meant[0]) / unit["true"]}
                     for kl, p, t in zip(kls, measured, meant, strict=True)]
points = {key: np.array([(row["d"], row["gold"]) for row in rows if row["d"] > 0.05]).T
          for key, rows in journeys.items()}
mine = fit_bon(*points["bon"])
journeys["fit_bon"] = stats.gao_fit_bon(*points["bon"])._asdict() | {"alpha": mine[0], "beta": mine[1]}
journeys["fit_rl"] = stats.gao_fit_rl(*points["rl"])._asdict()
display(plots.overoptimisation(journeys))
for key, name in (("bon", "Best-of-n"), ("rl", "Reinforcement learning")):
    fit, far = journeys[f"fit_{key}"], points[key][0].max()
    turns = (f"turns at d = {fit['peak_d']:.2f}, that is {fit['peak_d']**2:.1f} nats" if fit["peak_d"] < far
             else f"does not turn within what we saw (d up to {far:.2f})")
    print(f"{name}: α = {fit['alpha']:.2f}, β = {fit['beta']:.2f}; the fitted curve {turns}; it misses the points by "
          f"about {fit['error']:.2f} standard deviations.")

# %% [markdown]
# A curve with two numbers in it fits almost any hump. The fair question is whether it knows a point that it has not
# seen. Fit it to the nearer half of the journey and ask for the far end.

# %%
fits = {"bon": (stats.gao_fit_bon, lambda d, fit: d * (fit.alpha - fit.beta * d)),
        "rl": (stats.gao_fit_rl, lambda d, fit: d * (fit.alpha - fit.beta * np.log(d)))}
for key, name in (("bon", "Best-of-n"), ("rl", "Reinforcement learning")):
    d, gold = points[key][:, np.argsort(points[key][0])]
    fit_it, curve_of = fits[key]
    everything, half = fit_it(d, gold), fit_it(d[:len(d) // 2 + 1], gold[:len(d) // 2 + 1])
    worst = int(np.argmax(np.abs(gold - curve_of(d, everything))))
    print(f"{name}: fitted to all points it misses most at d = {d[worst]:.2f}: {curve_of(d, everything)[worst]:+.2f} "
          f"instead of {gold[worst]:+.2f}. Fitted up to d = {d[len(d) // 2]:.2f} it expects "
          f"{curve_of(d, half)[-1]:+.2f} at d = {d[-1]:.2f}; measured {gold[-1]:+.2f}.")
print(f"Where the truth turns: the RL curve says {journeys['fit_rl']['peak_d'] ** 2:.1f} nats, the looks said "
      f"{peak[1]:.1f}.")

# %% [markdown]
# So use such a curve to *describe* what you have measured, with its error, and not to foretell what comes next. Two
# more warnings. Reinforcement learning spends far more KL than best-of-n for the same effect, so the two axes cannot be
# compared. And the RL form has an infinite slope at 0: do not trust it there.
#
# And two differences. Gao et al. measured with a large reward model as "gold" and trained the proxies on its
# noise-free verdicts; our gold is a grading program and our proxy learnt from noisy simulated people. The curve is not
# in the InstructGPT paper, but its Figure 36 tells the same story from the other side: of all β, 0.01 to 0.02 gave the
# best *human* ratings, and 0 and 2 poor ones.
#
# ## Is it only length?
#
# The best known loophole is length: reward models like long answers, so PPO makes them longer. Singhal et al. (2023)
# sorted answers into buckets of equal length and asked how much of PPO's gain was left *within* the buckets: 2 %, 27
# % and 53 % on three data sets.
#
# {{exercise 7.6}}
#
# **What you should see:** if in every bucket nothing changed and only the long buckets became fuller, the share is 0;
# if lengths did not change, it is 1.

# %%
def share_beyond_length(lengths_before: Int[np.ndarray, "n"], rewards_before: Float[np.ndarray, "n"],
                        lengths_after: Int[np.ndarray, "m"], rewards_after: Float[np.ndarray, "m"],
                        width: int) -> float:
    """Compute the share of a gain in reward that is left at equal length, in buckets of `width` tokens."""
    ### BEGIN SOLUTION
    bucket_before, bucket_after = lengths_before // width, lengths_after // width
    gains, weights = [], []
    for bucket in np.intersect1d(bucket_before, bucket_after):
        before, after = rewards_before[bucket_before == bucket], rewards_after[bucket_after == bucket]
        gains.append(after.mean() - before.mean())
        weights.append(len(before) + len(after))
    return float(np.average(gains, weights=weights) / (rewards_after.mean() - rewards_before.mean()))
    ### END SOLUTION


share_beyond_length = check("7.6", share_beyond_length)

# %%
lengths = [np.array([len(row["token_ids"]) for row in point["rows"]]) for point in trail]
left = share_beyond_length(lengths[0], trail[0]["proxy"], lengths[-1], trail[-1]["proxy"], width=5)
display(plots.length_and_reward({"sft": (lengths[0], trail[0]["proxy"]), "ppo": (lengths[-1], trail[-1]["proxy"])},
                                {point["iteration"]: found.mean() for point, found in zip(trail, lengths, strict=True)},
                                MAX_NEW_TOKENS))
paid = stats.length_reward_correlation(lengths[0], trail[0]["proxy"])
print(f"On SFT's answers length and reward correlate at {paid.value:+.2f} ({paid.low:+.2f} to {paid.high:+.2f}). The "
      f"mean length went from {lengths[0].mean():.1f} to {lengths[-1].mean():.1f} tokens. "
      + (f"{100 * left:.0f} % of the gain in reward is left at equal length: here length is "
         f"{'not the main loophole' if left > 0.5 else 'most of the story'}." if end[2] > start[2] + 0.2
         else "The reward gained too little to ask what the gain is made of."))

# %% [markdown]
# ## Several judges
#
# A loophole is a mistake of *one* reward model. Train several, each on other rankings and with another random head, and
# a loophole has to fool them all. Three ways to make one number out of theirs: the **mean**; the **worst** of them
# (Coste et al. 2023); or the mean minus a price for their **disagreement**, which asks for answers on which the judges
# are sure. Each model has a zero and a unit of its own, so they must first be put on one scale.
#
# **Predict:** which of the three will stand up best to best-of-n? And will any of them be as good as the shipped reward
# model, which has learnt from many more rankings?
#
# {{exercise 7.7}}
#
# **What you should see:** for two judges who say 0, 1 and 0, 2 of two answers: they agree perfectly once they are on
# one scale, so all three rules give -1 and 1.

# %%
def ensemble_score(members: Float[Tensor, "models prompts answers"], rule: str, price: float = 1.0
                   ) -> Float[Tensor, "prompts answers"]:
    """Combine the judges' scores, after giving each mean 0 and standard deviation 1 over all its scores.

    rule: "mean", "worst", or "unsure": the mean minus `price` times the standard deviation between judges. All standard
    deviations are those of a whole population (correction=0).
    """
    ### BEGIN SOLUTION
    members = members - members.mean(dim=(1, 2), keepdim=True)
    members = members / members.std(dim=(1, 2), correction=0, keepdim=True)
    if rule == "worst":
        return members.min(dim=0).values
    doubt = price * members.std(dim=0, correction=0) if rule == "unsure" else 0.0
    return members.mean(dim=0) - doubt
    ### END SOLUTION


ensemble_score = check("7.7", ensemble_score)
print(ensemble_score(torch.tensor([[[0.0, 1.0]], [[0.0, 2.0]]]), "unsure"))

# %%
members = lesson.pick(4, 2)
recipe = Recipe(answers_per_prompt=4, temperatures=(0.4, 0.7, 0.7, 1.0))
ranked = data.ranked_prompts(tokenizer, rank_answers(
    sft, tokenizer, data.prompts_of("train", lesson.pick(600, 40)), labelers.training_team(), recipe, seed=5))
judges = []
for number in range(members):
    judge = models.scalar_from_policy(sft, seed=number).requires_grad_(True)
    mine = np.random.default_rng(number).choice(len(ranked), size=len(ranked) // 2, replace=False)
    reward.train_reward(judge, [ranked[i] for i in mine], reward.RewardConfig(lr=7e-4, batch_prompts=16, seed=number))
    judges.append(judge)

# %%
opinions = torch.stack([reward.score(judge, read_by).view(-1, N) for judge in judges])
choosers = {"mean": ensemble_score(opinions, "mean"), "worst": ensemble_score(opinions, "worst"),
            "mean − disagreement": ensemble_score(opinions, "unsure"), "the shipped one": proxy}
alone = [best_of_n.best_of_n_curve(one, true, ns)["true"] for one in opinions]
chosen_by = {"one judge (average of all)": torch.stack(alone).mean(dim=0)} | {
    name: best_of_n.best_of_n_curve(scores, true, ns)["true"] for name, scores in choosers.items()}
drawn_as = {"one judge (average of all)": ("base", "-"), "mean": ("ppo", "-"), "worst": ("ppo", "--"),
            "mean − disagreement": ("ppo", ":"), "the shipped one": ("reward", "-")}
display(plots.lines({f"Best of n, chosen by {members} judges together": {
    name: (ns, found.mean(dim=0).tolist()) for name, found in chosen_by.items()}}, "n", "true score", drawn_as,
    xticks=ns, size=(8, 3.6), xscale="log"))
for name, found in chosen_by.items():
    gain = stats.mean_interval((found[:, -1] - found[:, 0]).numpy())
    over = stats.mean_interval((found[:, -1] - chosen_by["one judge (average of all)"][:, -1]).numpy())
    print(f"{name:27s} best of {ns[-1]}: {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) over one answer"
          + ("" if "one judge" in name else
             f", {over.value:+.3f} ({over.low:+.3f} to {over.high:+.3f}) over one judge"))

# %%
read = [[reward.reward_input(models.encode_prompt(tokenizer, row["prompt"]), row["token_ids"]) for row in point["rows"]]
        for point in trail]
on_the_way = torch.stack([torch.stack([reward.score(judge, rows) for rows in read]) for judge in judges])
first_look = on_the_way[:, :1]  # the scale of SFT's answers
on_the_way = (on_the_way - first_look.mean(dim=(1, 2), keepdim=True)) / first_look.std(dim=(1, 2), keepdim=True)
steps = [point["iteration"] for point in trail]
display(plots.lines({"On PPO's way: paid by one judge, read by the others": {
    "the judge it is paid by": (steps, [(m[2] - start[2]) / unit["proxy"] for m in means]),
    "mean of the others": (steps, on_the_way.mean(dim=(0, 2)).tolist()),
    "their disagreement": (steps, on_the_way.std(dim=0, correction=0).mean(dim=1).tolist()),
    "the truth": (steps, [(m[3] - start[3]) / unit["true"] for m in means])}}, "iteration",
    "standard deviations of SFT's answers", {
        "the judge it is paid by": ("reward", "-"), "mean of the others": ("ppo", "-"),
        "their disagreement": ("ppo", ":"), "the truth": ("oracle", "--")}, size=(8, 3.6)))
doubt = on_the_way.std(dim=0, correction=0).mean(dim=1)
heard = on_the_way.mean(dim=(0, 2))
print(f"From the first look to the last the paid judge gains {(end[2] - start[2]) / unit['proxy']:+.2f}, the others "
      f"{heard[-1] - heard[0]:+.2f}, the truth {(end[3] - start[3]) / unit['true']:+.2f}; "
      f"the others' disagreement goes from {doubt[0]:.2f} to {doubt[-1]:.2f}.")

# %% [markdown]
# Did the worst of them win, as its name promises? Compare it with the plain mean, and both with one judge. An ensemble
# takes out the mistakes that its members do not share. Ours share a start, a size, a temper of their labelers and the
# kind of answers they have seen; what all of them like for a bad reason no rule can take out. And four small judges do
# not make up for what one has learnt from more rankings.
#
# ## When to stop, if you cannot see the truth?
#
# We could read the true score off a program. You will not be able to. What is left?

# %%
drop = next((point for point in means[1:] if point[3] < start[3]), None)
display(plots.table(("iteration", "proxy", "KL", "variety", "truth, which you would not have"), [
    (iteration, f"{mean_proxy:+.2f}", f"{kl:.1f}", f"{variety(point['rows']):.0f} %", f"{mean_true:.3f}")
    for point, (iteration, kl, mean_proxy, mean_true) in zip(trail, means, strict=True)]))
print(f"The truth is best at {peak[1]:.1f} nats. "
      + (f"It first falls below its start at iteration {drop[0]} ({drop[1]:.1f} nats); does it stay there?" if drop
         else "It never falls below its start in this run."))
recorded = files.read_json(files.DATA / "results" / "headline.json", {"headline": []})
for row in report.headline_rows({"headline": [r for r in recorded["headline"] if r["id"] in (10, 11)]}):
    print(f"In the project's recorded results, row {row[0]}: {row[1]}: {row[4]} ({row[5]}).")

# %% [markdown]
# Which column would have warned you? Decide before you read on.
#
# <details><summary>One answer</summary>
#
# Not the proxy: it looks best when things are worst. The distance moves early and goes far, and variety falls behind
# it. So people set a budget for the KL, read samples every few iterations, watch diversity, and ask fresh human
# judges at a few checkpoints. A second reward model, trained on other labelers, helps as long as it does not share
# the first one's blind spots; several of them may warn you by beginning to disagree (did ours?).
#
# </details>
#
# ## What real systems do differently
#
# - The KL penalty is one brake; stopping early is another. Gao et al. found that the penalty did not improve the
#   frontier of truth against KL: it acted like stopping early.
# - Larger reward models and more comparisons move the turn outwards. InstructGPT used one 6B reward model for
#   policies of every size.
# - Iterated RLHF: sample from the new policy, let people rank *those* answers, train the reward model again. The map
#   is redrawn where you now stand.
# - Several reward models, their mean or their minimum; sometimes averaged in their *weights*, which costs no more than
#   one.
# - Rewards that a program can check, where there are any (notebook 10).
# - The KL as a term in the loss instead of in the reward. Which estimator it is matters more than it seems: k2 as a
#   loss has exactly the gradient that is wanted, and k3 exactly that of the *other* KL (notebook 05 shows both).
# - Length is taken out by a penalty, by balanced data or, as in notebook 06, in the evaluation.
#
# ## Key points
#
# - Best-of-n is the honest first test of a reward model: no training, a few nats, exact expectations.
# - log n − (n−1)/n is an upper bound of its distance.
# - The *optimum* of a proxy is over-optimised; no bug is needed. A better optimiser makes it worse.
# - Proxy up, truth down, variety gone: read the answers.
#
# **Next:** sometimes there *is* a bug, and its curves look much like these. 08 is a clinic with patients.

# %%
progress("07")
