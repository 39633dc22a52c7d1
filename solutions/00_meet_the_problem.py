# %% [markdown]
# {{header}}

# %%
import random

import numpy as np
import torch
from IPython.display import display
from jaxtyping import Bool, Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import models, plots, stats
from rlhf_lite.__main__ import doctor
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.experiment import data, evaluate
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.real import human_data
from rlhf_lite.sampling import pad_left, pad_right
from rlhf_lite.town.facts import build_town, coins
from rlhf_lite.town.grading import grade
from rlhf_lite.town.labelers import evaluation_team
from rlhf_lite.town.prompts import Prompt
from rlhf_lite.widgets.compare import CompareWidget, recorded_vote

lesson = setup("00", strict=True)

# %%
print("Everything is in place." if doctor() == 0 else "Something is broken: see the lines above before you go on.")

# %% [markdown]
# Each cell runs with Shift+Enter. Exercises have hints that unfold; whatever you write, the notebook carries on. Before
# some cells stands a box for your prediction. Type it, then run the cell that answers it: a surprise is where learning
# begins, and you only notice one if you have said something first.
#
# ## A town with a help desk
#
# Pebbleford is a small town that we made up, down to the last goose. A program wrote its "web": letters, forum
# quarrels, shop pages, gossip. Because the town is ours, we *know* what is true in it, and a program can check every
# answer. That is the luxury InstructGPT did not have.

# %%
town = build_town()
resident, shop, belief = town.residents[0], town.places[0], town.beliefs[0]
print(f"{len(town.residents)} residents, for example {resident.name}: {resident.job}, keeps a {resident.pet}, "
      f"{resident.door} door.")
item, price = shop.goods[0]
print(f"{len(town.places)} shops, for example the {shop.name} of {shop.owner}: a {item} costs {coins(price)}, "
      f"closed on {shop.closed}.")
print(f"{len(town.beliefs)} questions on which the town is wrong. {belief.question} The truth: {belief.truth} "
      f"What people like to tell: {belief.myth}")

# %% [markdown]
# The town opens a help desk. Residents send requests, and a language model shall answer. We have one: the **base
# model** has read the whole web of Pebbleford and learnt to predict the next token. GPT-3 is the same idea at a
# thousand times the size, and its largest version at a hundred thousand times.
#
# ## Inspect one
#
# One request, four samples of the base model.

# %%
lesson.predict("thanks", "“Write a thank-you note to Felix for the cap.” How many of four samples will thank Felix?",
               unit="of 4", close=1)

# %%
base, tokenizer = lesson.policy("base"), lesson.tokenizer()
written_for = {row["prompt"] for row in data.demonstrations()}  # those that have a careful answer
requests = [prompt for prompt in data.prompts_of("valid") if prompt.text not in written_for]
one = next(prompt for prompt in requests if prompt.task == "thanks" and prompt.text.startswith("Write"))
print(one.text)
four = answer_rows(base, tokenizer, [one] * 4, progress=False)
for row in four:
    print(f"\n   -> {row['response']}\n      graded {row['grade'].overall} of 7 "
          f"({', '.join(row['grade'].reasons) or 'nothing to complain about'})")
lesson.outcome("thanks", sum("Felix" in row["response"] and "thank" in row["response"].lower() for row in four))

# %% [markdown]
# The model was never asked to help: it was asked what text comes next. After a request, the web often goes on with
# another request, a quarrel, or a letter to somebody else.
#
# The grade comes from the **grading program**. It fills in the same record as InstructGPT's labelers did (Table 3 of
# the paper): an overall grade from 1 to 7 and flags such as "hallucination". It knows the town's facts, and it hears
# broken English. Grade these five notes yourself before you run the cell:

# %%
for note in ("It is just what I needed.", "Cap the just needed what I.", "I needed it not at all.",
             "It keeps my ears warm on the market.", "It sings beautifully in the garden."):
    record = grade(one, f"Dear Felix, thank you for the cap. {note}")
    print(f"{record.overall} of 7   {note}   {', '.join(record.reasons)}")

# %% [markdown]
# Where it and you differ, you are right. It takes much that makes no sense for English, does not know a good story
# from a dull one, and is hard on words that it has never seen together. Its score is called the **true score** here;
# read it as "true, as far as this program can see".
#
# ## A batch: every kind of request
#
# InstructGPT sorted its customers' requests into ten use cases. Ours come in the same ten.

# %%
lesson.predict("answered", "What share of the requests does the base answer well (grade 6 or 7)?", unit="%", close=5)

# %%
per_case = lesson.pick(15, 2)
sorted_requests = {}
for prompt in requests:
    sorted_requests.setdefault(prompt.use_case, []).append(prompt)
by_case = {use_case: prompts[:per_case] for use_case, prompts in sorted_requests.items()}
rows = answer_rows(base, tokenizer, [prompt for prompts in by_case.values() for prompt in prompts], seed=1)
for use_case in by_case:
    row = next(row for row in rows if row["use_case"] == use_case)
    print(f"{use_case}: {row['prompt']}\n   -> {row['response'][:150]!r}\n")

# %%
KINDS = {"answers it (grade 6 or 7)": "#0072B2", "answers a part (3 to 5)": "#56B4E9",
         "goes on with another text": "#E69F00", "beside the point": "#BBBBBB"}


def kind(row):
    """What became of a request: one of KINDS."""
    if row["grade"].overall >= 3:
        return list(KINDS)[0 if row["grade"].overall >= 6 else 1]
    return list(KINDS)[2 if "\n" in row["response"] or row["response"].endswith("?") else 3]


kinds_of = {case: [kind(row) for row in rows if row["use_case"] == case] for case in by_case}
shares = {case: {name: found.count(name) / len(found) for name in KINDS} for case, found in kinds_of.items()}
full, part = list(KINDS)[:2]
shares = dict(sorted(shares.items(), key=lambda entry: -(entry[1][full] + entry[1][part] / 2)))
display(plots.stacked(shares, KINDS, f"share of {per_case} requests each", "What the base model does with a request"))
answered = np.mean([kind(row) == full for row in rows])
elsewhere = np.mean(["\n" in row["response"] for row in rows])
print(f"Of {len(rows)} requests {100 * answered:.0f} % get an answer graded 6 or 7. {100 * elsewhere:.0f} % of the "
      "continuations do not stop after their first line: they go on with more of the web.")
lesson.outcome("answered", 100 * answered)

# %% [markdown]
# ## Cheap cure one: stop in time
#
# Some continuations begin well and then wander off. Whoever used GPT-3 in 2020 gave it a **stop sequence**: a piece of
# text at which the program cuts the continuation off.
#
# {{exercise 0.1}}
#
# **What you should see:** `'Dear Ned, thank you for the cap.'` and nothing of the school.

# %%
def cut_at(text: str, stops: list[str]) -> str:
    """Cut a continuation off at the earliest of several stop sequences, and strip it of outer spaces."""
    ### BEGIN SOLUTION
    places = [text.find(stop) for stop in stops if stop in text]
    return text[:min(places, default=len(text))].strip()
    ### END SOLUTION


cut_at = check("0.1", cut_at)
cut_at("Dear Ned, thank you for the cap.\nWhen does school begin?\nAt eight.", ["\n", "Question:"])

# %% [markdown]
# Now the same continuations, as they come and cut at the first newline, over a few hundred requests. The true score is
# the grading program's score between 0 and 1. The brackets hold 95 % intervals: what another set of requests might say.

# %%
asked = requests[:lesson.pick(300, 24)]
as_it_comes = answer_rows(base, tokenizer, asked)


def score(rows):
    """Mean true score of answer rows, with an interval over requests."""
    return stats.mean_interval([row["grade"].score for row in rows])


def told(interval):
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def change(before, after):
    """What a step changes, request by request, in words."""
    step = stats.mean_interval([b["grade"].score - a["grade"].score for a, b in zip(before, after, strict=True)])
    verdict = "it helps" if step.low > 0 else "it hurts" if step.high < 0 else "that could be chance"
    return f"{step.value:+.2f} ({step.low:+.2f} to {step.high:+.2f}): {verdict}"


# %%
cut_rows = []
for prompt, row in zip(asked, as_it_comes, strict=True):
    text = cut_at(row["response"], ["\n"])
    cut_rows.append(row | {"response": text, "grade": grade(prompt, text, row["finished"] or text != row["response"])})
print(f"true score of the base: as it comes {told(score(as_it_comes))}, cut at a newline {told(score(cut_rows))}")
print("the stop sequence alone:", change(as_it_comes, cut_rows))

# %% [markdown]
# A fair comparison gives every model what its users would give it. So from here on **"base" means the base with this
# stop sequence**, in the blind vote and in the ladder below, too.

# %%
answers = {"base": evaluate.collect_answers("base", base, tokenizer, {"mixed": asked})}  # cut as you cut them
# %% [markdown]
# ## Cheap cure two: show, do not tell
#
# The famous trick of GPT-3: put a few solved examples in front. To a model that predicts text, a page on which
# requests are answered is a page on which the next request will be answered, too. No weight changes.
#
# {{exercise 0.2}}
#
# **What you should see:** three blocks; the last is the request alone, with the cursor (▮) below it.

# %%
def few_shot_prompt(examples: list[tuple[str, str]], request: str) -> str:
    """Write the text that a model is to continue: solved examples (request, answer), then the request.

    A request ends with a newline, an answer with a newline and an empty line; after the last request comes its
    newline and nothing else.
    """
    ### BEGIN SOLUTION
    shown = "".join(f"{asked}\n{answer}\n\n" for asked, answer in examples)
    return shown + f"{request}\n"
    ### END SOLUTION


few_shot_prompt = check("0.2", few_shot_prompt)
solved = [("When does school begin?", "School begins at eight."),
          ("Make this polite: Give me the basket!", "Could you please give me the basket?")]
print(few_shot_prompt(solved, one.text) + "▮")

# %% [markdown]
# The course ships a few examples of this kind (`data/few_shot_prefix.txt`). Base model + examples + stop sequence is
# what the paper calls **GPT-3 (prompted)**: the base as a careful user would use it. In the paper this was the rival
# to beat. Is it one here?

# %%
answers["prompted"] = evaluate.collect_answers("prompted", base, tokenizer, {"mixed": asked})
cut, prompted = score(answers["base"]), score(answers["prompted"])
shots = evaluate.PREFIX.read_text(encoding="utf-8").count("\n\n")
print(f"true score: as it comes {told(score(as_it_comes))}, with the stop sequence {told(cut)}, with {shots} examples "
      f"as well {told(prompted)}")
examples_add = change(answers["base"], answers["prompted"])
print("the examples, on top of the stop sequence:", examples_add)
if "it helps" not in examples_add:
    print("Learning from examples in the prompt is an art of large models; 1.3 million weights hardly know it.")
print(f"A perfect help desk has 1, so {1 - max(cut.value, prompted.value):.2f} is still missing.")

# %% [markdown]
# **Try it:** choose other examples for `mine`. What helps more, examples like the request or examples of all kinds?

# %%
mine = solved
trial = asked[:lesson.pick(100, 12)]
trial_rows = answer_rows(base, tokenizer, trial, prefix=few_shot_prompt(mine, "").removesuffix("\n"), cut="\n")
print(f"your {len(mine)} examples: true score {told(score(trial_rows))}; ours on the same requests: "
      f"{told(score(answers['prompted'][:len(trial)]))}")

# %% [markdown]
# ## Why it does not want to help
#
# A base model gives every answer a probability: the product, over its tokens, of the probability of each token given
# what came before. Its logarithm is a sum, and this sum is exactly what pretraining pushes up for the text of the web.
# So let us ask the model itself which answers it *expects*. The logarithm is the natural one, and its unit is the
# **nat**: a coin flip costs 0.69 nats, one chance in ten 2.3, one in a hundred 4.6.
#
# A model reads a token and says, in its **logits**, what it expects *next*. So the logits at a place belong to the
# token after it. Batches have **padding**: a prompt is filled up on the left, an answer on the right, and what stands
# there must not count.

# %%
pieces = [models.token_text(tokenizer, token) for token in models.encode_text(tokenizer, belief.question)]
plots.token_shift(["BEGIN", *pieces, "\\n"], ["No", ".", "END"], left=2, right=1)

# %% [markdown]
# {{exercise 0.3}}
#
# **What you should see:** two numbers below 0, one for the truth and one for the myth.

# %%
def sequence_log_prob(logits: Float[Tensor, "batch length vocabulary"], sequences: Int[Tensor, "batch length"],
                      response_mask: Bool[Tensor, "batch response"], prompt_length: int) -> Float[Tensor, "batch"]:
    """Add up the log-probabilities of each answer's tokens.

    sequences: ids, `prompt_length` columns of the prompt and then the answer; response_mask: False at padding.
    """
    ### BEGIN SOLUTION
    log_probs = logits[:, prompt_length - 1:-1].log_softmax(dim=-1)
    chosen = log_probs.gather(2, sequences[:, prompt_length:, None]).squeeze(2)
    return torch.where(response_mask, chosen, 0.0).sum(dim=1)
    ### END SOLUTION


sequence_log_prob = check("0.3", sequence_log_prob)

# %%
@torch.no_grad()
def expectation(policy, pairs):
    """[(request or None, answer)] -> log-probability per token of each answer (its words; END is left out)."""
    prompt_ids, prompt_mask = pad_left([models.encode_prompt(tokenizer, asked) if asked else [models.BEGIN]
                                        for asked, _ in pairs], lesson.device)
    answer_ids, answer_mask = pad_right([models.encode_text(tokenizer, answer) for _, answer in pairs], lesson.device)
    sequences, mask = torch.cat([prompt_ids, answer_ids], 1), torch.cat([prompt_mask, answer_mask], 1)
    logits = models.logits(policy, sequences, mask)
    total = sequence_log_prob(logits, sequences, answer_mask.bool(), prompt_ids.shape[1])
    return (total / answer_mask.sum(dim=1)).cpu().numpy()


for text in (belief.truth, belief.myth):
    print(f"{expectation(base, [(None, text)])[0]:6.2f} nats per token   {text}")

# %% [markdown]
# We divide by the number of tokens, because every further token makes any text less likely. The nearer to 0, the
# more the model expects it. But one sentence is an anecdote, whichever way it went. So now all of them:
#
# - **left:** the myth against the truth, for all the questions on which the town is wrong. First as bare sentences,
#   with no question before them. Then as answers: "Yes, of course. Bats are blind." against "No, of course not. Bats
#   can see quite well.", and with a plain "Yes." against "No."
# - **right:** held-out requests for which a careful author wrote an answer. Which does the model expect, that answer
#   or its own continuation?
#
# A model that wanted what we want would have its points *below* the diagonal. Where will they lie?

# %%
openings = {"bare": ("", ""), "Yes, of course. / No, of course not.": ("Yes, of course. ", "No, of course not. "),
            "Yes. / No.": ("Yes. ", "No. ")}
expects = {name: [expectation(base, [(name != "bare" and b.question, start + text) for b, text in zip(
    town.beliefs, texts, strict=True)]) for start, texts in ((no, [b.truth for b in town.beliefs]),
                                                             (yes, [b.myth for b in town.beliefs]))]
           for name, (yes, no) in openings.items()}
careful = data.demonstrations(split="valid")
fields = ("prompt_id", "prompt", "use_case", "task", "customer", "split", "spec")
careful_prompts = [Prompt(*(row[field] for field in fields)) for row in careful]
own = answer_rows(base, tokenizer, careful_prompts, cut="\n", progress=False)
both = [(row, answer) for row, answer in zip(careful, own, strict=True)  # a mean over one or two words says little
        if min(len(row["response"].split()), len(answer["response"].split())) >= 3]
helpful = expectation(base, [(row["prompt"], row["response"]) for row, _ in both])
continued = expectation(base, [(answer["prompt"], answer["response"]) for _, answer in both])
good = np.array([answer["grade"].overall >= 6 for _, answer in both])
good_careful = sum(grade(prompt, row["response"]).overall >= 6
                   for prompt, row in zip(careful_prompts, careful, strict=True))

# %%
whose = "its own continuation, graded"
display(plots.beside_the_diagonal([
    ("Truth or myth? Above the line: the myth", "log-probability of the truth", "log-probability of the myth",
     {name: (mark, *expects[name]) for name, mark in zip(openings, ("base", "reward", "ppo"), strict=True)}),
    ("Answer or web? Above the line: the web", "log-probability of the careful answer",
     "log-probability of its own continuation",
     {f"{whose} below 6": ("base", helpful[~good], continued[~good]),
      f"{whose} 6 or 7": ("ppo", helpful[good], continued[good])})],
    "What the base model expects (nats per token)"))
for name, (truth, myth) in expects.items():
    print(f"Left, {name}: it expects the myth more than the truth in {(myth > truth).sum()} of {len(truth)} cases.")
print(f"Right: it expects its own continuation more than the careful answer for {(continued > helpful).sum()} of "
      f"{len(both)} requests. Graded 6 or 7: {good.sum()} of these continuations, and {good_careful} of all "
      f"{len(careful)} careful answers.")

# %% [markdown]
# Be fair: on the right its own continuation was *drawn* from the model, which is a head start. On the left nobody has
# one. Compare the three counts: the weights are the same, and only the opening differs. The town's forum says "Yes, of
# course" and goes on with the myth; its almanac says "No." and goes on with the truth. A base model does not *believe*
# anything. It continues the page that it takes this to be.
#
# And what if we just *ask*? "Are bats blind?"

# %%
lesson.predict("asked", "Asked plainly, does the base tell more truths or more myths?", ("more truths", "more myths"))

# %%
questions = [Prompt(b.topic, b.question, "open_qa", "belief_question", "you", "valid",
                    {"kind": "belief", "topic": b.topic}) for b in town.beliefs]
replies = answer_rows(base, tokenizer, questions, cut="\n", progress=False)
said = [row["grade"] for row in replies]
print(f"Asked {len(said)} questions, the base tells the truth {sum(g.truthful_and_informative for g in said)} times, "
      f"the myth or something else that is false {sum(g.truthful == 0 for g in said)} times; the others say nothing.\n"
      f"For example: {questions[0].text} {replies[0]['response']}")
true = sum(g.truthful_and_informative for g in said)
lesson.outcome("asked", "more truths" if true > sum(g.truthful == 0 for g in said) else "more myths")

# %% [markdown]
# Whichever page it took your questions for, that was luck, not honesty. Nothing is broken: it was trained to predict
# the web. In the paper's words, the objective of language modelling is **misaligned**: the likeliest page is one thing,
# a helpful, honest and harmless answer another.
#
# ## The plan: three steps
#
# What if we trained on what people *want*? InstructGPT does it in three steps, and so does this course. In the third
# the model is called the **policy**, the word of reinforcement learning for whatever chooses what to do next.

# %%
plots.three_steps()

# %% [markdown]
# ## A blind vote
#
# So two more models come out of the same base. **SFT** has taken step 1: it has imitated answers that were written
# with care. **PPO** has taken all three. All have the same 1.3 million weights. Let them answer, shuffle, and hide the
# names. The base comes with its stop sequence, with and without the examples.
#
# The six requests below are picked by hand, so that each has an answer worth voting for. How the models do on requests
# that nobody picked, you see in the ladder at the end.

# %%
for stage in ("sft", "ppo"):
    answers[stage] = evaluate.collect_answers(stage, lesson.policy(stage), tokenizer, {"mixed": asked})

PICKED = ("p0-00229", "p0-00105", "p0-01125", "p0-00214", "p0-01322", "p0-01088")
shuffle = random.Random(4)
differ = [i for i, prompt in enumerate(asked)  # the four answers are four
          if len({rows[i]["response"] for rows in answers.values()}) == len(answers) and "\n" not in prompt.text]
places = [i for i in differ if asked[i].id in PICKED] or differ[:6]
ballots = [(i, shuffle.sample(list(answers), len(answers))) for i in places]
for number, (i, order) in enumerate(ballots, 1):
    print(f"{number}. {asked[i].text}")
    for letter, stage in zip("ABCD", order, strict=True):
        print(f"      {letter}: {answers[stage][i]['response']!r}")
    print()

# %% [markdown]
# Now vote, before you scroll on: write down the letter of the best answer to each request, for example
# `votes = ["B", "A", "D", "D", "C", "A"]`. If you do not, one of the town's simulated labelers votes for you.

# %%
labeler, mood = evaluation_team()[0], np.random.default_rng(0)


def simulated_vote(i, order):
    """The letter that a simulated labeler puts first; equals go to the first of them."""
    candidates = [answers[stage][i] for stage in order]
    ranks = labeler.rank([row["grade"] for row in candidates], [len(row["token_ids"]) for row in candidates], mood)
    return "ABCD"[ranks.index(1)]


### BEGIN SOLUTION
votes = [simulated_vote(i, order) for i, order in ballots]
### END SOLUTION
if votes is ...:
    votes = [simulated_vote(i, order) for i, order in ballots]
    print(f"You have not voted, so {labeler.name}, a simulated labeler, did.")
print("votes:", votes)

# %% [markdown]
# And here is the key.

# %%
chosen = []
for number, (vote, (i, order)) in enumerate(zip(votes, ballots, strict=False), 1):
    chosen.append(order["ABCD".index(vote.strip().upper())])
    print(f"{number}. {vote} was {plots.STAGES[chosen[-1]]:24s}"
          + ",  ".join(f"{letter} {stage} ({answers[stage][i]['grade'].overall} of 7)"
                       for letter, stage in zip("ABCD", order, strict=True)))
print()
for stage in answers:
    found = stats.proportion_interval(chosen.count(stage), len(chosen))
    print(f"{plots.STAGES[stage]:24s} {chosen.count(stage)} of {len(chosen)} votes: {100 * found.value:3.0f} % "
          f"(95 % interval {100 * found.low:.0f} to {100 * found.high:.0f} %)")

# %% [markdown]
# Look at the intervals: a handful of votes says very little. This is why the paper prints its win rates with ± 3 or 4
# points, and why the numbers that matter here carry an interval. (And is there a 7 in the key that you would not have
# given? The grading program missed something; write down what.)
#
# ## The real thing: GPT-3 against InstructGPT
#
# So far the town. The authors of self-instruct put 252 requests to GPT-3 itself and to the InstructGPT models, and
# published what came back. It may be read and ranked; they ask that nobody ever train on it, and this course does
# not. The files (2 MB) are fetched once; without a network this part is skipped.

# %%
try:
    recorded = human_data.recorded_answers()
except (OSError, ValueError) as why:  # no network, or another file than the one that was tested
    recorded = None
    print(f"Skipped: {why}")
if recorded:
    raw, tuned = recorded["davinci"][124], recorded["text-davinci-001"][124]
    print(f"{raw.request}\n\nInstructGPT: {tuned.recorded.strip()}\n\n"
          f"GPT-3, untouched, {len(raw.recorded.split())} words:\n{raw.recorded[:400]} ...")
    words = sorted(len(answer.recorded.split()) for answer in recorded["davinci"])
    print(f"\nHalf of its answers have more than {words[126]} words: it goes on as the web would.")

# %% [markdown]
# (Was it skipped? Then so are the next two cells.) Look at what GPT-3 does once it has said something: it does what
# our base does. To make the vote about the answers and not about stopping, both are cut behind the same number of
# words; after each vote you can see the whole ones. Vote on a dozen.

# %%
if recorded:
    vote = recorded_vote(most_words=60)
    display(CompareWidget(vote))

# %%
if recorded and vote.win_rate().n:
    rate = vote.win_rate()
    print(f"You preferred GPT-3 in {rate.value:.0%} of {rate.n} votes "
          f"(95 % interval {rate.low:.0%} to {rate.high:.0%}).")
elif recorded:
    print("No votes yet. Vote above and run this cell again; the votes are kept in runs/votes.")

# %% [markdown]
# ## How sure can a win rate be?
#
# Let A and B answer the same n requests. The **win rate** of A counts a tie as half a win. Its interval is Wilson's,
# with share $p$ and $z = 1.96$:
#
# $$\text{centre} = \frac{p + z^2 / 2n}{1 + z^2 / n}, \qquad
# \text{half} = \frac{z \sqrt{p (1 - p) / n + z^2 / 4 n^2}}{1 + z^2 / n}, \qquad
# [\text{centre} - \text{half},\ \text{centre} + \text{half}]$$
#
# {{exercise 0.4}}
#
# **What you should see:** 6 wins and 2 ties in 10 comparisons are 70 %, and the interval reaches from 40 to 89 %.

# %%
def win_rate(a_wins: int, ties: int, n: int) -> tuple[float, float, float]:
    """Compute the win rate of A in n comparisons, and the two ends of its interval, between 0 and 1."""
    ### BEGIN SOLUTION
    z, share = 1.96, (a_wins + ties / 2) / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return share, centre - half, centre + half
    ### END SOLUTION


win_rate = check("0.4", win_rate)
print("6 wins and 2 ties of 10: {:.0%}, from {:.0%} to {:.0%}".format(*tuple(win_rate(6, 2, 10))[:3]))

# %% [markdown]
# One simulated labeler now compares PPO with the base on ever more requests.

# %%
lesson.predict("sure", "How many comparisons until the interval leaves 50 % behind?", unit="comparisons", close=10)

# %%
wins, ties = [], []
for a, b in zip(answers["ppo"], answers["base"], strict=True):
    first, second = labeler.rank([a["grade"], b["grade"]], [len(a["token_ids"]), len(b["token_ids"])], mood)
    wins.append(first < second)
    ties.append(first == second)
sure = []
for n in [size for size in (6, 12, 25, 50, 100, 200, 300) if size <= len(asked)]:
    share, low, high = tuple(win_rate(sum(wins[:n]), sum(ties[:n]), n))[:3]
    sure += [n] if low > 0.5 or high < 0.5 else []
    verdict = "PPO is better" if low > 0.5 else "the base is better" if high < 0.5 else "could be chance"
    print(f"{n:4d} comparisons: PPO preferred to the base in {100 * share:3.0f} % "
          f"({100 * low:3.0f} to {100 * high:3.0f} %)   {verdict}")
if sure:
    lesson.outcome("sure", sure[0])

# %% [markdown]
# Two warnings. A first look that is lucky looks just like this; see how the share moves as the comparisons grow. And
# whoever looks again and again, and stops as soon as the interval is on the right side, is fooled more often than one
# time in twenty: decide on the number before you look.
#
# ## The ladder
#
# All of it in one picture, measured a moment ago on your machine: the base with its stop sequence, the same with
# examples, SFT, PPO. Left, the true score. Right, how often a team of five simulated labelers prefers the stage to
# SFT, as in the paper's Figure 1.

# %%
scores = {stage: score(rows) for stage, rows in answers.items()}
preferred = {stage: stats.mean_interval(evaluate.preferences(rows, answers["sft"])) for stage, rows in answers.items()}
display(plots.ladder({"Graded by a program that knows the truth": ("true score (0–1)", "score", scores),
                      "Compared by simulated labelers": ("preferred to SFT", "share", preferred)}))
print(f"True score on {len(asked)} requests: "
      + ", ".join(f"{plots.STAGES[stage]} {told(found)}" for stage, found in scores.items()) + ".")
for lower, higher in zip(list(answers), list(answers)[1:], strict=False):
    print(f"   {lower} -> {higher}: {change(answers[lower], answers[higher])}")

# %% [markdown]
# Same size, same tokenizer: what differs is what the model was trained to want. In the paper labelers
# preferred the 175B InstructGPT to GPT-3 in 85 ± 3 % of comparisons and to the few-shot prompted one in 71 ± 4 %, and
# even the 1.3B InstructGPT to the 175B GPT-3. How far our one-thousandth gets is what you just saw; docs/results.md
# holds the full table, failures included, and notebooks 05 and 06 ask how much of the last step is *slipping less*.
#
# ## What real systems do differently
#
# - GPT-3 makes far more of a prompt than our base does: more text, a thousand times the weights, and room for dozens
#   of examples.
# - The paper's labelers were people, about 40 of them. Ours are programs with tastes and moods, and the grades come
#   from a program that knows the town but does not understand what it reads. Both are *simulated*, and we say so.
# - Chat services stop at a special end token and rarely need a stop sequence. Our SFT and PPO models learn such a
#   token.
#
# ## Key points
#
# - A base model predicts its web. Being helpful or truthful is not part of that objective.
# - A stop sequence and a few examples are what can be done without training. Measure each alone.
# - A probable sentence is not a good answer: the base expects what such a page would say, myths on a page of gossip.
# - Compare blind, count a tie as half, and never show a win rate without its interval.
#
# **Next:** before a model can imitate good answers, somebody has to write them: 01.

# %%
lesson.predictions()

# %%
progress("00")
