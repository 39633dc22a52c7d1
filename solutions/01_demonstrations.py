# %% [markdown]
# {{header}}

# %%
import json
import random
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from IPython.display import display

from rlhf_lite import feedback, models, plots, stats
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.exercises.n01_rows import leaks, plain_text
from rlhf_lite.exercises.n01_writing import REQUEST
from rlhf_lite.experiment import data
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS
from rlhf_lite.town import tasks, web
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import Prompt
from rlhf_lite.town.reading_text import words
from rlhf_lite.widgets.demonstrations import DemonstrationWidget
from rlhf_lite.widgets.writing import DemonstrationSession

# %%
lesson = setup("01", strict=True)
tokenizer = lesson.tokenizer()

# %% [markdown]
# ## Inspect one
#
# The base model of Pebbleford predicts the town's web and helps nobody (notebook 00). The first step of InstructGPT is
# almost embarrassingly plain: *show it good answers*. A **demonstration** is one request and the answer that a careful
# person would give. Here is a whole row of our file:

# %%
rows = data.demonstrations()
for field, content in rows[1].items():
    print(f"{field:10s} {content}")

# %% [markdown]
# The last three fields are the town's own: what kind of task it is, which customer sent it, and a `spec` with which a
# program can check the answer. No model ever sees the spec. Now a handful, one of each use case:

# %%
draw = random.Random(7)
for use_case in feedback.USE_CASES:
    row = draw.choice([row for row in rows if row["use_case"] == use_case])
    print(f"{use_case}: {row['prompt']}\n   -> {row['response']}\n")

# %% [markdown]
# ## Who wrote them?
#
# In the paper: about 40 contractors, hired through Upwork and Scale AI after a screening test. Here: **AI authors**,
# and no human labeler. Each author had a voice of its own, got requests and short guidelines, and wrote the answers one
# at a time, without templates. That is honest work, but it is not a crowd of people, and the data card
# (`data/README.md`) says so. Read a few thank-you notes, one per author. Can you hear several people, or one?

# %%
authors = sorted({row["author"] for row in rows})
print(f"{len(rows)} demonstrations by {len(authors)} AI authors: "
      + ", ".join(f"{author} {n}" for author, n in sorted(Counter(row["author"] for row in rows).items())) + "\n")
for author in authors:
    note = next((row for row in rows if row["author"] == author and row["task"] == "thanks"), None)
    print(f"{author}: {note['response'] if note else '(wrote no thank-you note)'}")

# %% [markdown]
# ## What makes an answer good?
#
# The paper's labelers had guidelines. The heart of them fits in three words: be **helpful** (do what the customer
# means), be **truthful** (make nothing up), be **harmless**. When they disagree, somebody has to decide what comes
# first: for training data it was helpfulness, in the final evaluation truthfulness and harmlessness.
#
# For every answer a labeler also filled in a record (Table 3 of the paper): an overall grade from 1 to 7 and yes-or-no
# questions. Our grading program fills in the same record. Five answers follow; one of them invents a detail.

# %%
lesson.predict("invents", "“Dear Paul, thank you for the turnip that you bought on Monday for nine coins.” "
               "Nobody spoke of Monday or of coins. Its overall grade?", unit="of 7", close=1)

# %%
asked = next(row for row in rows if row["task"] == "thanks" and "constraint" not in row["spec"]
             and len(row["spec"]["must"]) == 3)


def as_prompt(row):
    """A demonstration row -> the Prompt that the grading program reads."""
    fields = ("prompt_id", "prompt", "use_case", "task", "customer", "split", "spec")
    return Prompt(*(row[field] for field in fields))


giver, gift = asked["spec"]["must"][0][0], asked["spec"]["must"][1][0]
attempts = {"the demonstration": asked["response"],
            "says nothing about the gift": f"Dear {giver}, thank you so much. It was very kind.",
            "invents a detail": f"Dear {giver}, thank you for the {gift} that you bought on Monday for nine coins.",
            "is rude": f"Thank you for the {gift}, {giver}, you fool.",
            "repeats the request": asked["prompt"]}
print(asked["prompt"])
for name, answer in attempts.items():
    found = grade(as_prompt(asked), answer)
    raised = [flag for flag, on in found.flags.items() if on]
    print(f"\n{name}: {answer}\n   overall {found.overall} of 7; helpful {found.helpful:.2f}, "
          f"truthful {found.truthful:.2f}, harmless {found.harmless:.2f}\n   flags: {', '.join(raised)}")
lesson.outcome("invents", grade(as_prompt(asked), attempts["invents a detail"]).overall)

# %% [markdown]
# ## Your turn
#
# Here is a request that nobody has answered yet:
#
# > Write a thank-you note to Fay for the umbrella. Use exactly two sentences.
#
# {{exercise 1.1}}
#
# **What you should see:** a ✅, and below it your answer as a row of the data set. Then break it on purpose (empty,
# five sentences, the request itself) and see what the check says.

# %%
def my_answer(request: str) -> str:
    """Write your answer to the request."""
    ### BEGIN SOLUTION
    return "Dear Fay, I am very grateful for the umbrella, and I use it every day. You are a true friend."
    ### END SOLUTION


my_answer = check("1.1", my_answer)
mine = feedback.new_demonstration("d-mine-1", REQUEST.id, REQUEST.text, my_answer(REQUEST.text), REQUEST.use_case, "me",
                                  "train")
print(mine)

# %% [markdown]
# ### Three more, as labelers do it
#
# On a page, with the base model's attempt above the box. Draft by draft everything is on the disk; what you submit
# counts. Do as many as you like. One of the three requests is a trap: helpful, truthful and harmless do not agree.

# %%
base, known = lesson.policy("base"), {prompt.id: prompt for prompt in data.prompts_of("train")}
open_requests = [known[prompt_id] for prompt_id in ("p0-00038", "p0-00443", "p0-00499")]
tries = answer_rows(base, tokenizer, open_requests, cut="\n", progress=False)
session = DemonstrationSession(
    [{"prompt_id": prompt.id, "prompt": prompt.text, "use_case": prompt.use_case, "attempt": row["response"]}
     for prompt, row in zip(open_requests, tries, strict=True)],  # asks for your name, once
    count_tokens=lambda text: len(models.encode_response(tokenizer, text)), max_tokens=MAX_NEW_TOKENS)
DemonstrationWidget(session)

# %%
for row in session.demonstrations():
    found = grade(known[row["prompt_id"]], row["response"])
    print(f"{row['prompt']}\n   -> {row['response']}\n      graded {found.overall} of 7 "
          f"({', '.join(found.reasons) or 'nothing to complain about'})")
if not session.records:
    print("Nothing written yet. Write above, then run this cell again.")
print(f"The base model's three attempts are graded {', '.join(str(row['grade'].overall) for row in tries)}.")

# %% [markdown]
# Where you and the grade differ, you are right: it checks what was asked and what is true, and it knows about 2,300
# words. It cannot tell a warm answer from a cold one. That is why the paper asked people.
#
# ### Rows that must not get in
#
# One bad row in a thousand is enough to crash a training at night, or worse, not to crash it. So every row is checked
# when it is written and when it is read, and the sentence says what is wrong and how to mend it.

# %%
spoilt = {"no author": {key: mine[key] for key in mine if key != "author"}, "no answer": mine | {"response": "  "},
          "a use case of its own": mine | {"use_case": "poetry"},
          "a date as people write it": mine | {"date": "1st March"},
          "an unknown part": mine | {"split": "dev"}, "a number for an answer": mine | {"response": 42}}
for name, row in spoilt.items():
    try:
        feedback.check_demonstration(row)
        print(f"{name}: accepted")
    except ValueError as error:
        print(f"{name}: {error}")

# %% [markdown]
# What is written must also survive. We append three rows to a file, then play the accident that every long labelling
# evening has: the machine dies in the middle of a row.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "mine.jsonl"
    for number in range(3):
        feedback.append_jsonl(path, mine | {"id": f"d-mine-{number}"})
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(mine)[:60])  # half a row, no end of line
    kept, problems = feedback.read_jsonl(path, feedback.check_demonstration)
    feedback.append_jsonl(path, mine | {"id": "d-mine-after"})
    later, _ = feedback.read_jsonl(path, feedback.check_demonstration)
print(f"{len(kept)} rows are safe; {len(problems)} problem: {problems[0].split('/')[-1]}")
print(f"After the next row is saved there are {len(later)}: the torn line stays alone and spoils nothing.")

# %% [markdown]
# ## A batch: what is in the set?
#
# InstructGPT learnt from what customers really asked for, and its Table 1 gives the shares of ten use cases. Our
# simulated customers ask in about the same shares. The demonstrations need not follow them: somebody decides which
# requests get one, and a small use case needs enough rows to be learnt at all. Compare the three bars of each below.
#
# {{exercise 1.2}}
#
# **What you should see:** ten shares that add up to 100, generation far in front.

# %%
def use_case_shares(rows: list[dict]) -> dict[str, float]:
    """Compute each use case's share of the rows in per cent. A row has a "use_case"."""
    ### BEGIN SOLUTION
    return {use_case: 100 * n / len(rows) for use_case, n in Counter(row["use_case"] for row in rows).items()}
    ### END SOLUTION


use_case_shares = check("1.2", use_case_shares)
ours, paper = use_case_shares(rows), {use_case: share for use_case, (share, _) in tasks.USE_CASES.items()}
customers = use_case_shares([{"use_case": prompt.use_case} for prompt in data.prompts_of("train")])
display(plots.bars({"InstructGPT, Table 1": paper, "our customers": customers, "our demonstrations": ours}, "share (%)",
                   "Use cases: what customers ask for, what we have answers to", number="{:.1f}"))
farthest = max(paper, key=lambda use_case: abs(ours.get(use_case, 0) - paper[use_case]))
rarest, few = Counter(row["use_case"] for row in rows).most_common()[-1]
print(f"The largest gap between paper and demonstrations is at {farthest.replace('_', ' ')}: "
      f"{ours.get(farthest, 0):.1f} % here, {paper[farthest]:.1f} % in the paper. The rarest use case, "
      f"{rarest.replace('_', ' ')}, has {few} rows.")

# %% [markdown]
# ### Held out means held out
#
# To know whether a model *learnt* something, we ask it what it has not seen. Two things spoil that quietly: the same
# text in both parts, and the same **customer** in both parts, because customers repeat themselves. The paper splits by
# user, and removes prompts that share a long beginning.
#
# {{exercise 1.3}}
#
# **What you should see:** six sentences, each with `False` behind it.

# %%
def dedupe_and_split(rows: list[dict], valid_share: float) -> tuple[list[dict], list[dict]]:
    """Split rows with "prompt" and "customer" into training and validation, without copies and without leaks.

    One row of each text (as `plain_text` compares them) is kept; about `valid_share` of the customers are in valid.
    """
    ### BEGIN SOLUTION
    kept = list({plain_text(row["prompt"]): row for row in rows}.values())
    customers = sorted({row["customer"] for row in kept})
    random.Random(0).shuffle(customers)
    held_out = set(customers[:round(valid_share * len(customers))])
    return ([row for row in kept if row["customer"] not in held_out],
            [row for row in kept if row["customer"] in held_out])
    ### END SOLUTION


dedupe_and_split = check("1.3", dedupe_and_split)
train, valid = dedupe_and_split(rows, 0.1)
print(f"{len(train)} rows to learn from, {len(valid)} held out, of {len({row['customer'] for row in valid})} customers")
for sentence, so in leaks(train, valid, rows, 0.1).items():
    print(f"   {sentence}: {so}")

# %% [markdown]
# What would have happened by chance? We deal the rows out at random, as many people do, and count.

# %%
lesson.predict("leak", "Dealt out at random, how many held-out rows come from a customer of the training part?",
               unit="%", close=10)

# %%
dealt = random.Random(0).sample(rows, len(rows))
careless_valid, careless_train = dealt[:len(valid)], dealt[len(valid):]
known = {row["customer"] for row in careless_train}
share = np.mean([row["customer"] in known for row in careless_valid])
print(f"Dealt out at random, {100 * share:.0f} % of the held-out rows come from a customer of the training part.")
lesson.outcome("leak", 100 * share)
shipped = {part: {row["customer"] for row in rows if row["split"] == part} for part in ("train", "valid")}
print(f"In the file as it ships: {len(shipped['train'] & shipped['valid'])} customers are in both parts.")

# %% [markdown]
# ### How long is an answer?
#
# A model writes tokens, and it has a limit: 40 new tokens in this course. A demonstration longer than that teaches an
# ending that the model never gets to write.
#
# {{exercise 1.4}}
#
# **What you should see:** a mean well below the limit, and nearly everything fits.

# %%
def length_statistics(rows: list[dict], encode, limit: int) -> tuple[float, int, float]:
    """Measure the answers in tokens: the mean length, the longest, and the share of at most `limit`; END is one token.

    rows: with a "response"; encode: a function text -> list of tokens (without END).
    """
    ### BEGIN SOLUTION
    lengths = np.array([len(encode(row["response"])) + 1 for row in rows])
    return lengths.mean(), int(lengths.max()), (lengths <= limit).mean()
    ### END SOLUTION


length_statistics = check("1.4", length_statistics)


def encode(text):
    return models.encode_text(tokenizer, text)


mean, longest, fits = length_statistics(rows, encode, MAX_NEW_TOKENS)
print(f"{mean:.1f} tokens on average (in the paper, with a tokenizer of its own: 38 to prompts of labelers, "
      f"88 to those of customers), the longest {longest}; {100 * fits:.1f} % fit in {MAX_NEW_TOKENS} tokens.")

# %%
lengths = {use_case: [len(encode(row["response"])) + 1 for row in rows if row["use_case"] == use_case]
           for use_case in feedback.USE_CASES}
lengths = dict(sorted(lengths.items(), key=lambda entry: np.median(entry[1])))
display(plots.strips(lengths, "tokens of an answer, END included",
                     "Length by use case (orange: the median; dashed: the limit of the models)", limit=MAX_NEW_TOKENS))
shortest, longest_case = list(lengths)[0], list(lengths)[-1]
print(f"{longest_case.replace('_', ' ').capitalize()} takes {np.median(lengths[longest_case]):.0f} tokens in the "
      f"median, {shortest.replace('_', ' ')} {np.median(lengths[shortest]):.0f}. A model trained on these rows learns "
      "the habit of length together with everything else.")

# %% [markdown]
# ## The smell of a template
#
# It is tempting to let a program write demonstrations: `f"Dear {name}, thank you for the {thing}."` It costs nothing,
# and the loss falls beautifully. But then the model learns the template, and meets a world that has not read it.
#
# Templates have a smell: texts begin alike, and the vocabulary stops growing. Let us compare our letters (thanks,
# complaints, apologies, cards, invitations) with the letters on the town's web, which *are* filled-in templates. Names
# of residents are all replaced by "Ann", so that filling in names does not count as variety.
#
# {{exercise 1.5}}
#
# **What you should see:** two of the three letters below begin with the same three words: 0.67.

# %%
def repeated_openings(texts: list[str], n: int) -> float:
    """Compute the share of texts whose first n words (of `text.lower().split()`) also begin another of the texts."""
    ### BEGIN SOLUTION
    openings = [tuple(text.lower().split()[:n]) for text in texts]
    count = Counter(openings)
    return sum(count[opening] > 1 for opening in openings) / len(openings)
    ### END SOLUTION


repeated_openings = check("1.5", repeated_openings)
print(f"{repeated_openings(['Dear Ann, thank you!', 'dear Ann, thank you for the jug.', 'What a jug!'], 3):.2f}")

# %%
town = build_town()
LETTERS = ("thanks", "complaint", "apology", "card", "invite")
names = re.compile(rf"\b({'|'.join(resident.name for resident in town.residents)})\b")
written = [names.sub("Ann", row["response"]) for row in rows if row["task"] in LETTERS]
source, filled_in = random.Random(0), []
while len(filled_in) < len(written):
    page = web.document("letters", town, source)  # a page holds letters and replies, one a line, with a label in front
    filled_in += [names.sub("Ann", line.split(": ", 1)[-1]) for line in page.splitlines()]
source.shuffle(filled_in)
sets = {"written one by one": source.sample(written, len(written)), "filled in by a program": filled_in[:len(written)]}

# %%
lesson.predict("openings", "Of the letters written one by one: how many begin with the same three words as another?",
               unit="%", close=10)

# %%
def growth(texts):
    """Number of different words after each word read."""
    seen, curve = set(), []
    for text in texts:
        for word in words(text):
            seen.add(word)
            curve.append(len(seen))
    return curve


curves = {name: growth(texts) for name, texts in sets.items()}
alike = {name: [100 * repeated_openings(texts, n) for n in range(1, 7)] for name, texts in sets.items()}
shortest = min(map(len, curves.values()))
display(plots.lines(
    {"Does the vocabulary keep growing?": {name: (range(1, shortest + 1), curves[name][:shortest]) for name in sets},
     "How many begin like another one?": {name: (range(1, 7), alike[name]) for name in sets}},
    ["words read", "n: words of the opening"], ["different words so far", "letters that begin alike (%)"]))
print(f"{len(written)} letters each. After {shortest} words: "
      + "; ".join(f"{name} {curves[name][shortest - 1]} different words, {alike[name][2]:.0f} % begin with the same "
                  "three words as another" for name in sets) + ".")
lesson.outcome("openings", alike["written one by one"][2])

# %% [markdown]
# So letters begin alike even when nobody uses a template; it is the distance between the two lines that smells. And
# does the smell differ from author to author? One hundred answers of each, all use cases, names kept.

# %%
for author in authors:
    texts = [row["response"] for row in rows if row["author"] == author][:100]
    tokens = [word for text in texts for word in words(text)]
    found = stats.proportion_interval(round(repeated_openings(texts, 3) * len(texts)), len(texts))
    opening, times = Counter(" ".join(text.lower().split()[:3]) for text in texts).most_common(1)[0]
    often = f"; {times} times {opening!r}" if times > 2 else ""
    print(f"{author}: {len(tokens) / len(texts):4.1f} words an answer, {len(set(tokens)):3d} different words, "
          f"{100 * found.value:3.0f} % repeated openings ({100 * found.low:.0f} to {100 * found.high:.0f} %){often}")
last = Counter(row["task"] for row in rows if row["author"] == authors[-1]).most_common()
print(f"{authors[-1]} wrote: " + ", ".join(f"{n} {task.replace('_', ' ')}" for task, n in last) + ".")

# %% [markdown]
# One author stands out. Before you accuse anybody, look at what that author was asked: a few kinds of task only, and
# many answers about opposites have hardly another beginning. The number says "look here", not "a program wrote this".
#
# Numbers smell templates; they do not smell charm, or a joke that comes back for the third time. Reading fifty rows
# aloud still finds what no statistic does. Look for turns of phrase that no neighbour of yours would use.
#
# ## What real systems do differently
#
# - InstructGPT learnt from about 13,000 prompts: most written by labelers, the rest sent by customers through the API.
#   Labelers were trained, screened and could ask the researchers questions. Ours are AI authors with a short brief.
# - Labelers also wrote prompts: plain ones, few-shot ones, and ones made after use cases from a waiting list. In our
#   town a program writes the prompts.
# - Personal data was filtered out of the training prompts. Pebbleford has nobody to protect; your data has.
# - Today many assistants are trained on demonstrations that other models wrote. It works, and it passes on their
#   habits.
#
# ## Key points
#
# - A demonstration is the request, the answer, and where they come from: author, date, customer, part.
# - Wishes first: an answer that ignores "exactly two sentences" teaches the model to ignore customers.
# - Remove copies, then split by customer. In this order.
# - Templates smell: alike openings, a vocabulary that stops growing. The smell is a reason to read, not a verdict.
# - Say who wrote the data. Ours was written by AI authors, and by no human labeler.
#
# **Next:** a thousand answers are written. What does a model make of them? 02.

# %%
lesson.predictions()

# %%
progress("01")
