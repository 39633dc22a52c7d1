# %% [markdown]
# {{header}}

# %%
import math
from dataclasses import replace

import numpy as np
import torch
from IPython.display import display
from jaxtyping import Float  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import feedback, models, plots, reward
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.experiment import data
from rlhf_lite.experiment.answers import rank_answers
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.stats import proportion_interval
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade
from rlhf_lite.widgets.ranking import RankingWidget
from rlhf_lite.widgets.session import RankingSession

lesson = setup("03", strict=True)
policy, tokenizer = lesson.policy("sft"), lesson.tokenizer()

# %% [markdown]
# ## One prompt, several answers
#
# The tuned model of notebook 02 never answers twice alike: it samples. Some of its answers are good, some are not, and
# it does not know which. That is what rankings are for. Below, one prompt is answered several times. To make the
# answers differ, most are sampled more boldly than usual: at the temperatures 0.4, 0.6 and 0.8 in turn, where the
# course otherwise uses 0.4.
#
# *Before you scroll on:* which answer would you send to the customer? Are there two that you could not tell apart?

# %%
K = 6
recipe = replace(default_recipe(), answers_per_prompt=K, temperatures=(0.4, 0.6, 0.8))  # hot enough to differ
team, heldout = labelers.training_team(), labelers.heldout_team()
prompts = data.prompts_of("valid", lesson.pick(300, 36))
sampled = rank_answers(policy, tokenizer, prompts, team, recipe)
known = {prompt.id: prompt for prompt in prompts}


def true_grades(sheet):
    """The grading program's record of every answer of a sheet; no labeler and no model gets to see it."""
    return [grade(known[sheet["prompt_id"]], answer["text"], answer["token_ids"][-1] == models.END)
            for answer in sheet["responses"]]


sheets = [sheet for sheet in sampled if len(sheet["responses"]) == K]
sheet_grades = [true_grades(sheet) for sheet in sheets]


def sheet_of(prompt_id, instead):
    """The place of that prompt's sheet; `instead` if it has none, as in a short test run."""
    return next((place for place, sheet in enumerate(sheets) if sheet["prompt_id"] == prompt_id), instead)


# %%
first = sheet_of("p0-00300", 0)  # a sheet on which answers can be told apart, chosen by hand
print(f"{len(sheets)} sheets: a prompt each, with {K} different answers (prompts with fewer are left out here).")
print(f"\n{sheets[first]['prompt']}\n")
for letter, answer in zip("ABCDEF", sheets[first]["responses"], strict=True):
    print(f"   {letter}  {answer['text']}")

# %% [markdown]
# ### Score each alone, then rank them all
#
# InstructGPT's labelers did two things with a sheet like this, in this order. First every answer *alone*: an overall
# score from 1 to 7 and a list of yes-or-no questions (the paper's Table 3: does it follow the instruction? is something
# made up? would it do in a shop?). Then all of them *together*: a ranking, and ties were welcome.
#
# Our town has no people to hire, so Tess is a **simulated** labeler: she is told what the grading program thinks,
# weighs helpful, truthful and harmless by her own taste, and adds a mood. The flags come from the grading program.

# %%
tess = team[0]
ranks, scores = tess.judge(sheet_grades[first], [len(a["token_ids"]) for a in sheets[first]["responses"]],
                           np.random.default_rng(0))
print(f"Simulated labeler {tess.name} on that sheet:\n")
for letter, answer, g, score, rank in zip("ABCDEF", sheets[first]["responses"], sheet_grades[first], scores, ranks,
                                          strict=True):
    raised = [flag for flag in ("fails_task", "hallucination", "inappropriate") if g.flags[flag]]
    print(f"   {letter}  scored {score} of 7, ranked {rank}   {', '.join(raised) or 'no flag':27s}  "
          f"{answer['text'][:60]}")

# %% [markdown]
# ## Your turn: rank blind
#
# Three sheets for you, four answers each, in a shuffled order. Rank 1 is the best, and equal ranks are a tie. Be quick
# and honest: a labeler has perhaps a minute for each. Every sheet is on the disk as soon as you press "Save and next".
# For what you leave open, a simulated newcomer sits in.

# %%
items, item_grades = [], []
for place, prompt_id in enumerate(("p0-03128", "p0-00198", "p0-02972"), 1):
    index = sheet_of(prompt_id, place)
    four = np.argsort([-g.score for g in sheet_grades[index]], kind="stable")[[0, 1, 4, 5]]
    items.append({"prompt_id": sheets[index]["prompt_id"], "prompt": sheets[index]["prompt"],
                  "responses": [sheets[index]["responses"][i] for i in four]})
    item_grades.append([sheet_grades[index][i] for i in four])
session = RankingSession(items)  # asks for your name, once; or give it: RankingSession(items, "Ada L")
RankingWidget(session, brief=True)

# %%
newcomer, mood = labelers.Labeler("newcomer", (0.6, 0.25, 0.15), noise=team[0].noise), np.random.default_rng(1)
ranked, mine = {row["prompt_id"]: row for row in session.rankings()}, []
for item, grades in zip(items, item_grades, strict=True):
    ranks = newcomer.rank(grades, [len(answer["token_ids"]) for answer in item["responses"]], mood)
    mine.append(ranked.get(item["prompt_id"]) or feedback.new_ranking(**item, ranks=ranks, labeler="newcomer"))
sat_in = len(items) - len(ranked)
print(f"You ranked all three; they are kept in {session.path}." if not sat_in else
      f"A simulated newcomer ranked {sat_in} of the 3 sheets. One of them, as it is kept:")
for name in ("labeler", "prompt_id", "prompt", "K", "ranks"):
    print(f"   {name:10s} {mine[0][name]}")
print("   responses ", *(answer["text"] for answer in mine[0]["responses"]), sep="\n              ")

# %% [markdown]
# That is one row of the data set: a prompt, K answers, K ranks, and whose they are.
#
# ## From a ranking to pairs
#
# A model learns from *pairs*: this answer is better than that one. One ranking holds many of them.
#
# {{exercise 3.1}}
#
# **What you should see:** the ranks `[2, 1, 2, 3]` give five pairs, not six: answers 0 and 2 are tied.

# %%
def pairs_from_ranking(row: dict) -> list[tuple[int, int]]:
    """List the pairs of a ranking as (better, worse) places in row["ranks"]; ties are no pairs."""
    ### BEGIN SOLUTION
    ranks = row["ranks"]
    pairs = []
    for i in range(len(ranks)):
        for j in range(i + 1, len(ranks)):
            if ranks[i] != ranks[j]:
                pairs.append((i, j) if ranks[i] < ranks[j] else (j, i))
    return pairs
    ### END SOLUTION


pairs_from_ranking = check("3.1", pairs_from_ranking)
print(pairs_from_ranking({"ranks": [2, 1, 2, 3]}))

# %% [markdown]
# This is why people are asked to rank and not to compare two at a time: reading is the slow part, and K readings pay
# for up to $K(K-1)/2$ comparisons. InstructGPT asked for K between 4 and 9, so up to 36 pairs from one sheet.

# %%
kept = [len(pairs_from_ranking(sheet)) for sheet in sampled]
possible = [len(sheet["ranks"]) * (len(sheet["ranks"]) - 1) // 2 for sheet in sampled]
alike = apart = 0  # pairs with the same 1-7 score; those of them that the ranking tells apart
for sheet in sampled:
    for i in range(len(sheet["ranks"])):
        for j in range(i):
            alike += sheet["scores"][i] == sheet["scores"][j]
            apart += sheet["scores"][i] == sheet["scores"][j] and sheet["ranks"][i] != sheet["ranks"][j]
print(f"{len(sampled)} rankings give {sum(kept)} pairs; {sum(possible) - sum(kept)} more were tied "
      f"({1 - sum(kept) / sum(possible):.0%}).")
print(f"{alike / sum(possible):.0%} of all pairs have equal scores on the 1-7 scale; the ranking still orders "
      f"{apart / max(alike, 1):.0%} of those. That is why the scale alone would not do.")

# %% [markdown]
# ## How far can you trust a labeler?
#
# Let all ten simulated labelers rank every sheet: the training team of five, whose rankings the reward model will learn
# from, and a held-out team of five that it never meets. Each of them gets every sheet in a shuffled order of their own,
# and each ranks everything **twice**, a simulated week apart.

# %%
everybody = team + heldout


def sitting(labeler, seed):
    """One simulated labeler ranks every sheet, in an order of its own: a list of ranking rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for sheet, grades in zip(sheets, sheet_grades, strict=True):
        order = rng.permutation(K)
        answers = [sheet["responses"][i] for i in order]
        ranks = labeler.rank([grades[i] for i in order], [len(a["token_ids"]) for a in answers], rng)
        rows.append(feedback.new_ranking(sheet["prompt_id"], sheet["prompt"], answers, ranks,
                                         f"simulated:{labeler.name}"))
    return rows


weeks = [[sitting(labeler, (week, number)) for number, labeler in enumerate(everybody)] for week in (1, 2)]
print(f"{len(everybody)} simulated labelers, {len(weeks[0][0])} sheets, 2 sittings: "
      f"{sum(len(rows) for week in weeks for rows in week)} rankings.")

# %% [markdown]
# {{exercise 3.2}}
#
# **What you should see:** on the two tiny sheets below, `(75.0, 4)`: four pairs that neither tied, agreed on three.

# %%
def agreement(rankings_a: list[dict], rankings_b: list[dict]) -> tuple[float, int]:
    """Count on how many per cent of the n pairs that neither tied two labelers agree; return (percent, n).

    A row has "prompt_id", "responses" (each with a "text") and "ranks". Prompts and answers may come in another order,
    and a prompt may be missing. (nan, 0) when no pair is left.
    """
    ### BEGIN SOLUTION
    others = {row["prompt_id"]: row for row in rankings_b}
    same = n = 0
    for row in rankings_a:
        if row["prompt_id"] not in others:
            continue
        a, b = ({response["text"]: rank for response, rank in zip(r["responses"], r["ranks"], strict=True)}
                for r in (row, others[row["prompt_id"]]))
        texts = [text for text in a if text in b]
        for i, x in enumerate(texts):
            for y in texts[i + 1:]:
                product = (a[x] - a[y]) * (b[x] - b[y])
                n += product != 0
                same += product > 0
    return (100 * same / n if n else math.nan), n
    ### END SOLUTION


agreement = check("3.2", agreement)

# %%
def tiny(prompt_id, **ranks):
    return {"prompt_id": prompt_id, "responses": [{"text": text} for text in ranks], "ranks": list(ranks.values())}


print(agreement([tiny("p1", a=1, b=2, c=3), tiny("p2", a=1, b=2)], [tiny("p2", b=1, a=2), tiny("p1", c=3, a=1, b=2)]))

# %% [markdown]
# Tess ranks the same sheets again a week later. How often will she agree with *herself*? And how often with Omar, who
# shares her instructions but not her taste?

# %%
lesson.predict("herself", "On how many pairs in a hundred does Tess agree with herself?", unit="%", close=4)

# %%
lesson.predict("omar", "And with Omar?", unit="%", close=4)

# %%
names = [labeler.name for labeler in everybody]
matrix = np.array([[agreement(weeks[0][i], weeks[1][j])[0] for j in range(len(names))] for i in range(len(names))])
matrix = (matrix + matrix.T) / 2
display(plots.labeler_agreement(matrix, names, len(team)))
own = np.diag(matrix)[:5].mean()
others = matrix[:5, :5][~np.eye(5, dtype=bool)].mean()
print(f"Bold, on the diagonal: the same labeler a week later. The training team agrees with itself on {own:.0f} % of "
      f"the pairs and with each other on {others:.0f} %.")
lesson.outcome("herself", matrix[0, 0])
lesson.outcome("omar", matrix[0, 1])
print("So nearly all of the disagreement is mood, not taste: asking the same person twice is hardly better than asking "
      "two people." if own - others < 3 else
      f"So taste costs {own - others:.0f} points and mood {100 - own:.0f}: two people differ more than one person does "
      "from week to week.")

# %% [markdown]
# ### Beside the paper
#
# The paper reports two numbers for people. The moods of our training team were tuned, once, until it agreed as often as
# the paper's people, on *other* answers. So if the two are close here, that is no finding; and where they are not, the
# answers are the reason: the more clearly answers differ, the more people agree on them. The held-out team has moods
# just as strong, and tastes that differ more. What the town adds is that we know what stands behind the number.
#
# (The last ten lines are about your three sheets. They hold the two answers that the grading program likes best and the
# two that it likes least, out of six, so more agreement is to be expected there.)

# %%
lengths = [[len(answer["token_ids"]) for answer in sheet["responses"]] for sheet in sheets]
paper = {"training team": (72.6, 1.5), "held-out team": (77.3, 1.3)}
ours = {name: labelers.measure_agreement(people, sheet_grades, np.random.default_rng(3), lengths)
        for name, people in (("training team", team), ("held-out team", heldout))}
display(plots.table(("", "the paper's people", "our simulated team (95 % interval over prompts)", "comparisons"), [
    (name, "{} ± {} %".format(*paper[name]), f"{found.percent:.1f} ± {found.plus_minus:.1f} %", f"{found.n:,}")
    for name, found in ours.items()]))
yours = {name: agreement(mine, rows) for name, rows in zip(names, weeks[0], strict=True)}
display(plots.table((f"{'you' if not sat_in else 'the newcomer'} and", "agree on", "of pairs"), [
    (name, f"{percent:.0f} %" if n else "no pair in common", n) for name, (percent, n) in yours.items()]))

# %% [markdown]
# {{exercise 3.3}}
#
# Agreement throws ties away. If you tie a lot, the few pairs that are left may look splendid. Kendall's tau-b keeps the
# whole ranking: 1 for the same order, 0 for no relation, −1 for the reverse, with a fair allowance for ties.
#
# **What you should see:** `[1, 2, 3, 4]` against `[1, 3, 2, 4]` differ in one pair of six: (5 − 1) / 6 = 0.67.

# %%
def kendall_tau_b(ranks_a: list[int], ranks_b: list[int]) -> float:
    """Compute tau-b, from -1 to 1, of two rankings of the same K answers; nan when one of them ties everything."""
    ### BEGIN SOLUTION
    balance = untied_a = untied_b = 0
    for i in range(len(ranks_a)):
        for j in range(i + 1, len(ranks_a)):
            a, b = np.sign(ranks_a[i] - ranks_a[j]), np.sign(ranks_b[i] - ranks_b[j])
            balance += a * b
            untied_a += a != 0
            untied_b += b != 0
    return balance / math.sqrt(untied_a * untied_b) if untied_a and untied_b else math.nan
    ### END SOLUTION


kendall_tau_b = check("3.3", kendall_tau_b)
print(f"{kendall_tau_b([1, 2, 3, 4], [1, 3, 2, 4]):.2f}")

# %% [markdown]
# Now the reveal: your three sheets against the grading program, and then every simulated labeler against it. Where you
# and the program differ, you may well be the one who is right: it checks what was asked, what is true in the town and
# how English sounds, but not whether an answer makes sense.

# %%
grade_of = {(sheet["prompt_id"], answer["text"]): g for sheet, grades in zip(sheets, sheet_grades, strict=True)
            for answer, g in zip(sheet["responses"], grades, strict=True)}


def true_ranks(row):
    """Ranks that the grading program would give to the answers of a ranking row: by true score, equal scores tied."""
    return labelers.ranks_from_utilities([grade_of[row["prompt_id"], a["text"]].score for a in row["responses"]], 0.0)


who, lines = "you" if not sat_in else "the newcomer", []
for row in mine:
    program = true_ranks(row)
    lines.append((row["prompt"], "", "", f"tau-b {kendall_tau_b(row['ranks'], program):.2f}"))
    for answer, rank, its in zip(row["responses"], row["ranks"], program, strict=True):
        g = grade_of[row["prompt_id"], answer["text"]]
        lines.append((f"   {answer['text']}", rank, its, "; ".join(g.reasons[:2])))
plots.table(("prompt and answers", who, "the grading program", "its complaint"), lines)

# %%
middle = {}
for name, rows in zip(names, weeks[0], strict=True):
    taus = [kendall_tau_b(row["ranks"], true_ranks(row)) for row in rows]
    low, median, high = np.nanquantile(taus, [0.25, 0.5, 0.75])
    middle[name] = {"value": median, "low": low, "high": high}
reached = np.nanmean([kendall_tau_b(row["ranks"], true_ranks(row)) for row in mine])
teams = {name: "sft" if number < len(team) else "ppo" for number, name in enumerate(names)}
display(plots.interval_rows(middle, f"Kendall's tau-b with the program (dashed: {who}, on 3 sheets, {reached:.2f})",
                            kind="score", reference=reached, marks=teams,
                            title="How close to the grading program is one ranking? (squares: training team)"))
print("Marks are medians over the sheets, bars the middle half of them. The labelers know what the program thinks, "
      "and still few rankings repeat it: a ranking is a noisy measurement. (Your sheets are easier, two answers liked "
      "best and two liked least, so the dashed line cannot be compared with the marks.)")

# %% [markdown]
# ## From noisy votes to a score
#
# If labelers are noisy, what is it that they measure? In 1952 Bradley and Terry proposed: every answer has a hidden
# **score**, and the difference of two scores is the log of the odds that one is preferred. This one line is the model
# behind nearly every reward model, the paper's included.
#
# {{exercise 3.4}}
#
# **What you should see:** equal scores give 0.50, a lead of 1 gives 0.73, a lead of 2 gives 0.88.

# %%
def preference_probability(score_a: Float[Tensor, "*pairs"],
                           score_b: Float[Tensor, "*pairs"]) -> Float[Tensor, "*pairs"]:
    """Turn the scores of A and B into the probability that A is preferred."""
    ### BEGIN SOLUTION
    return torch.sigmoid(score_a - score_b)
    ### END SOLUTION


preference_probability = check("3.4", preference_probability)
print(preference_probability(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 0.0])))

# %% [markdown]
# Turn it round. Take one sheet, let the training team rank it many times, and look for the six numbers that explain
# the votes best. There is no network yet: six scores, and gradient descent on the library's ranking loss (which you
# will write yourself in notebook 04). While it runs, think: what score would an answer get that *always* wins?

# %%
def team_utilities(index):
    """What the simulated training team feels on average about each answer of a sheet, before moods."""
    return np.mean([labeler.mean_utilities(sheet_grades[index], lengths[index]) for labeler in team], axis=0)


utilities = [team_utilities(index) for index in range(len(sheets))]
even = np.linspace(-0.15, 0.15, K)  # neither all clear nor hopeless: the sheet whose answers are most evenly spread
case = min(range(len(sheets)), key=lambda i: np.abs(np.sort(utilities[i]) - utilities[i].mean() - even).max())
rng = np.random.default_rng(4)
votes = torch.tensor([labeler.rank(sheet_grades[case], lengths[case], rng) for labeler in team
                      for _ in range(lesson.pick(40, 20))], dtype=torch.float)
scores = torch.zeros(K, requires_grad=True)
optimizer = torch.optim.Adam([scores], lr=0.1)
for _ in range(300):
    optimizer.zero_grad()
    reward.kwise_loss(scores.expand(len(votes), K), votes).backward()
    optimizer.step()
fitted = scores.detach() - scores.detach().mean()  # only differences count, so let them average 0

# %%
pairs = []
for i in range(K):
    for j in range(K):
        untied = votes[:, i] != votes[:, j]
        if fitted[i] > fitted[j] and untied.any():
            pairs.append({"predicted": preference_probability(fitted[i], fitted[j]).item(),
                          "observed": (votes[:, i] < votes[:, j])[untied].float().mean().item()})
letters = dict(zip("FEDCBA", fitted.argsort().tolist(), strict=True))  # A has the highest score
display(plots.bradley_terry([(f"answer {letter}", fitted[i].item()) for letter, i in letters.items()], pairs))
print(f"{sheets[case]['prompt']}")
for letter, i in sorted(letters.items()):
    print(f"   {letter}  {fitted[i]:+.2f}   {sheets[case]['responses'][i]['text']}")
print(f"Left: scores from {len(votes)} simulated rankings. Right: each dot is a pair of answers; on the dashed line "
      f"the model says exactly what the team did. The largest miss is "
      f"{max(abs(pair['predicted'] - pair['observed']) for pair in pairs):.2f}.")

# %% [markdown]
# Six scores are enough to say the odds of fifteen pairs, nearly. Our labelers' moods are bell-shaped, so the exact
# curve would be another S; real people have no reason to follow either. And an answer that won *every* vote would climb
# for ever. Here each loses now and then to somebody's mood, and that stops it.
#
# A reward model is the same thing with one change: the score comes from *reading* the answer, so that it can be given
# to answers nobody has ever ranked.
#
# ## The ceiling
#
# Two answers that are nearly equal are a coin flip, and no model can learn to predict a coin. So there is a best
# possible accuracy, below 100 %, set by the labelers alone.
#
# {{exercise 3.5}}
#
# **What you should see:** if every pair were preferred 80 to 20, the ceiling would be 80 % and the agreement 68 %.

# %%
def noise_ceiling(p: Float[Tensor, "pairs"]) -> tuple[float, float]:
    """Compute the best model's accuracy and the expected agreement from how likely labelers prefer the first answer."""
    ### BEGIN SOLUTION
    return torch.maximum(p, 1 - p).mean().item(), (p**2 + (1 - p) ** 2).mean().item()
    ### END SOLUTION


noise_ceiling = check("3.5", noise_ceiling)
print("ceiling {:.2f}, agreement {:.2f}".format(*noise_ceiling(torch.tensor([0.8, 0.8, 0.2]))))

# %% [markdown]
# Ask the simulated training team about every pair again and again, which no real project could pay for, and `p` is
# known.

# %%
sittings = lesson.pick(20, 6)
wins, untied = np.zeros((len(sheets), K, K)), np.zeros((len(sheets), K, K))
for index in range(len(sheets)):
    for labeler in team:
        for _ in range(sittings):
            ranks = np.array(labeler.rank(sheet_grades[index], lengths[index], rng))
            wins[index] += ranks[:, None] < ranks[None, :]
            untied[index] += ranks[:, None] != ranks[None, :]
upper = np.triu(np.ones((K, K), dtype=bool), 1)[None] & (untied > 0)
p = torch.tensor(wins[upper] / untied[upper])
gap = np.abs(np.array([u[:, None] - u[None, :] for u in utilities]))[upper]
better = np.array([np.sign(u[:, None] - u[None, :]) for u in utilities])[upper]
right = np.where(better > 0, p, np.where(better < 0, 1 - p, 0.5))

# %%
edges = np.unique(np.quantile(gap, np.linspace(0, 1, 11)))
places = np.clip(np.searchsorted(edges, gap, side="right") - 1, 0, len(edges) - 2)
bins = [(gap[places == b].mean(), right[places == b].mean()) for b in range(len(edges) - 1) if (places == b).any()]
display(plots.near_ties(bins, gap))
ceiling, expected = (float(number) for number in noise_ceiling(p))
exact = labelers.bayes_ceiling(team, sheet_grades, np.random.default_rng(5), lengths, draws=lesson.pick(20, 5))
near = (gap < 0.1).mean()
print(f"{near:.0%} of the pairs lie within a tenth of a point, and on those {right[gap < 0.1].mean():.0%} of the votes "
      f"go to the answer that the team likes better.")
print(f"The best model could agree with a labeler on {ceiling:.1%} of the pairs; two labelers agree on {expected:.1%}.")
print(f"The library's ceiling, which weighs pairs by how seldom they are tied and knows the team's taste: {exact:.1%}. "
      "(The matrix above weighs pairs in this way, too; hence its slightly higher agreement.)")

# %% [markdown]
# Keep this number in mind. Notebook 04 measures it again, on answers of its own; a reward model that reaches it has
# nothing left to learn. It also puts a sentence of the paper into its right light: 72.4 ± 0.4 % accuracy of a reward
# model sounds modest, until you hear that its labelers agree with each other on 72.6 ± 1.5 %. (What the paper's own
# ceiling was, nobody has measured.)
#
# ## What labelers like besides quality
#
# People like long answers, answers that come first, answers that sound sure. A reward model learns all of it, and PPO
# will find it. So measure it now.
#
# {{exercise 3.6}}
#
# **What you should see:** the simulated labelers' tastes are planted. The plot lists them from the one who likes it
# shortest, at the top, to the one who likes it longest. On the way down the share should grow, give or take its
# interval.

# %%
def longer_preferred(rows: list[dict]) -> float:
    """Compute the share of the untied pairs of different length (in tokens) whose longer answer was preferred."""
    ### BEGIN SOLUTION
    longer = []
    for row in rows:
        tokens = [len(response["token_ids"]) for response in row["responses"]]
        longer += [tokens[better] > tokens[worse] for better, worse in pairs_from_ranking(row)
                   if tokens[better] != tokens[worse]]
    return sum(longer) / len(longer) if longer else math.nan
    ### END SOLUTION


longer_preferred = check("3.6", longer_preferred)

# %%
true_rows = [sheet | {"ranks": labelers.ranks_from_utilities([g.score for g in grades], 0.0)}
             for sheet, grades in zip(sheets, sheet_grades, strict=True)]
deserved = longer_preferred(true_rows)
taste = {-1: "likes it long", 0: "does not mind", 1: "likes it short"}
found, marks = {}, {}
for i in sorted(range(len(everybody)), key=lambda i: -everybody[i].brevity):
    both = weeks[0][i] + weeks[1][i]
    pairs = sum(len(row["responses"][a]["token_ids"]) != len(row["responses"][b]["token_ids"])
                for row in both for a, b in pairs_from_ranking(row))
    label = f"{names[i]} ({taste[int(np.sign(everybody[i].brevity))]})"
    found[label], marks[label] = proportion_interval(longer_preferred(both) * pairs, pairs), teams[names[i]]
display(plots.interval_rows(found, "share of pairs in which the longer answer is preferred (dashed: by the program)",
                            reference=deserved, marks=marks,
                            title="A taste for length (simulated labelers, with 95 % intervals over pairs)"))
print(f"The dashed line is what the grading program prefers: the longer answer is graded higher in {deserved:.0%} of "
      "the pairs. Not minding length does not mean 50 %.")
neutral = np.mean([found[label].value for label in found if taste[0] in label])
print(f"Nor does it mean the dashed line: those who do not mind are at {neutral:.0%}, because a mood is a coin flip "
      "and pulls everybody towards 50 %. So compare people with people, and not with either line.")

# %% [markdown]
# ### Position, and why the order is shuffled
#
# Our labelers have no taste for the first place, so let us plant one: Tired Tess gives whatever stands first a little
# extra. She compares model X with model Y, which are **the same model**. What does she find when X is always shown
# first, and what when a coin decides?

# %%
lesson.predict("first place", "X is always shown first. In how many comparisons does it win?", unit="%", close=5)

# %%
def tired(index, order, rng, extra=0.15):
    """Ranks by a labeler who likes what stands first."""
    feeling = tess.mean_utilities([sheet_grades[index][i] for i in order], [lengths[index][i] for i in order])
    feeling = feeling + tess.noise * rng.standard_normal(len(order))
    feeling[0] += extra
    return labelers.ranks_from_utilities(feeling, tess.tie_width)


found = {}
for way in ("X always first", "a coin decides"):
    rng, wins, n = np.random.default_rng(6), 0, 0
    for index in range(len(sheets)):
        for x, y in ((0, 3), (1, 4), (2, 5), (4, 1), (5, 2), (3, 0)):  # answers of the same model: each is X once
            x_first = way == "X always first" or rng.random() < 0.5
            ranks = tired(index, [x, y] if x_first else [y, x], rng)
            rank_x, rank_y = ranks if x_first else ranks[::-1]
            wins, n = wins + (rank_x < rank_y), n + (rank_x != rank_y)
    found[way] = proportion_interval(wins, n)

# %%
for way, share in found.items():
    print(f"{way:15s}: X wins {share.value:.0%} of {share.n} untied comparisons "
          f"(95 % interval {share.low:.0%} to {share.high:.0%})")
fixed, coin = found.values()
lesson.outcome("first place", 100 * fixed.value)
print("With the order fixed, a model beats itself." if fixed.low > 0.5 else
      "With the order fixed, the lead is too small to show on so few sheets.")
print("Shuffled, the bias is still there and costs agreement, but it is noise now, and no longer a lie."
      if coin.low <= 0.5 <= coin.high else "Shuffled, the shares should be even; so few sheets leave a rest of luck.")

# %% [markdown]
# ## What real systems do differently
#
# - InstructGPT hired about 40 people, chose them by a screening test, wrote them long instructions and answered their
#   questions in a shared chat room. Most comparisons were still judged by one person only (section 5.3).
# - During training their labelers put helpfulness first; in the final evaluation, truthfulness and harmlessness. Our
#   simulated teams copy both.
# - Forty people are not everybody. The paper says so of its own labelers: whose values a model learns is a choice of
#   whom you ask.
# - Many systems since then let a *model* judge. It agrees with itself beautifully, and has tastes for length and
#   position too.
#
# ## Key points
#
# - A ranking of K is up to K(K − 1)/2 pairs for one reading. Ties are no pairs.
# - Agreement is over the pairs that neither tied. Match answers by text: everybody sees another order.
# - A score is something whose differences are log odds. Its zero means nothing.
# - Noise sets a ceiling. Read every accuracy against it, never against 100 %.
# - Shuffle, hide the source, and compare tastes for length between labelers; 50 % means nothing by itself.
#
# **Next:** nobody will rank a million answers. A network that reads an answer and says its score can: 04.

# %%
lesson.predictions()

# %%
progress("03")
