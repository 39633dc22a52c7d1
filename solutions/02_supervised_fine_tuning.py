# %% [markdown]
# {{header}}

# %%
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import models, plots, sft, stats
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.experiment import base_model, data, evaluate, temperatures
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import TEMPERATURE, default_recipe
from rlhf_lite.sampling import pad_right
from rlhf_lite.sft import IGNORE, Example, SFTConfig

lesson = setup("02", strict=True)
base, tokenizer = lesson.policy("base"), lesson.tokenizer()

# %% [markdown]
# ## A model that has read the web, and nothing else
#
# Ask the base model for something and it does what GPT-3 did: it goes on the way the web would.

# %%
lesson.predict("base", "Five requests to the base model. How many get a good answer (grade 6 or 7)?", unit="of 5")

# %%
requests = data.prompts_of("valid", 5)
base_rows = answer_rows(base, tokenizer, requests, progress=False)
for row in base_rows:
    print(f"{row['prompt']}\n   -> {row['response']}\n      graded {row['grade'].overall} of 7\n")
lesson.outcome("base", sum(row["grade"].overall >= 6 for row in base_rows))

# %% [markdown]
# Some knowledge is in there, the habit of answering is not. InstructGPT's first step gives it that habit with about
# 13,000 demonstrations; our town has a tenth of that.
#
# ## Inspect one
#
# A demonstration is a prompt and the answer that a careful person would give. The model reads both, token by token.

# %%
written = data.demonstrations(split="train")
example_row = written[1]
prompt_ids = models.encode_prompt(tokenizer, example_row["prompt"])
response_ids = models.encode_response(tokenizer, example_row["response"])
print(len(written), "demonstrations. The second one:\n")
print(example_row["prompt"], "\n   ->", example_row["response"], "\n")
print([models.token_text(tokenizer, token) for token in prompt_ids])
print([models.token_text(tokenizer, token) for token in response_ids])

# %% [markdown]
# What should be learnt of it? The prompt is what the customer writes; the model has to *read* it, not to write it. So
# the **labels**, which say what is to be predicted, are the response's own tokens, and −100 everywhere else, which
# PyTorch's loss leaves out. A short example with two places of padding, of which more below:

# %%
plots.token_shift(["BEGIN", "Are", "bats", "blind", "?", "\\n"], ["No", ".", "END"], right=2,
                  rows={"labels": [-100] * 6 + ["No", ".", "END"] + [-100] * 2})

# %% [markdown]
# {{exercise 2.1}}
#
# **What you should see:** for a prompt of three tokens and a response of two, the labels are
# `[-100, -100, -100, 9, 2]`.

# %%
def build_example(prompt_ids: list[int], response_ids: list[int]) -> Example:
    """Make an Example(input_ids, labels), both equally long, of which the response, END included, is learnt."""
    ### BEGIN SOLUTION
    return Example([*prompt_ids, *response_ids], [IGNORE] * len(prompt_ids) + [*response_ids])
    ### END SOLUTION


build_example = check("2.1", build_example)
example = build_example([1, 7, 8], [9, 2])
print(example.labels)

# %% [markdown]
# ## Batch
#
# Rows of a batch must be equally long, so short ones are filled up with PAD. Padding is where most RLHF bugs live. The
# rule that keeps us safe: **what is real is said by the attention mask, never guessed from a token's id.**
#
# {{exercise 2.2}}
#
# **What you should see:** two rows of four tokens; the second row's labels end in `-100, -100`.

# %%
def collate(examples: list[Example]
            ) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Make one batch of examples, padded on the right: ids, mask and labels."""
    ### BEGIN SOLUTION
    ids, mask = pad_right([example.input_ids for example in examples])
    labels, _ = pad_right([example.labels for example in examples])
    return ids, mask, torch.where(mask.bool(), labels, IGNORE)
    ### END SOLUTION


collate = check("2.2", collate)
for part in collate([Example([1, 7, 9, 2], [IGNORE, IGNORE, 9, 2]), Example([1, 2], [IGNORE, 2])]):
    print(part)

# %% [markdown]
# {{exercise 2.3}}
#
# **What you should see:** a model that knows nothing spreads its bets over 2,816 tokens, so its loss is
# $\ln 2816 \approx 7.94$ nats per token. The base knows the town's words, but after a request it expects another text:
# it is only a little below.

# %%
def sft_loss(logits: Float[Tensor, "batch length vocabulary"],
             labels: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
    """Compute the mean of -log p over the response tokens."""
    ### BEGIN SOLUTION
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
    ### END SOLUTION


sft_loss = check("2.3", sft_loss)
ids, mask, labels = collate([build_example(prompt_ids, response_ids)])
with torch.no_grad():
    known = sft_loss(models.logits(base, ids, mask), labels)
    ignorant = sft_loss(torch.zeros(1, ids.shape[1], len(tokenizer)), labels)
print(f"a model that knows nothing {ignorant:.2f}, our base {known:.2f} nats per token")

# %% [markdown]
# One example is an anecdote. How surprised the base is on average, the first batch of your training will say.
#
# ## Loop: the whole of it, with your three functions
#
# Here it is: your examples, your batches, your loss. The rest is the four lines that every training in PyTorch has.

# %%
mine = [build_example(models.encode_prompt(tokenizer, row["prompt"]),
                      models.encode_response(tokenizer, row["response"])) for row in written]
student, size, curve = models.copy_model(base), 16, []
optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4)
order = torch.randperm(len(mine), generator=torch.Generator().manual_seed(0)).tolist()
for step in range(lesson.pick(len(mine) // size, 4)):
    ids, mask, labels = (part.to(lesson.device) for part in collate(
        [mine[row] for row in order[step * size:(step + 1) * size]]))
    loss = sft_loss(models.logits(student, ids, mask), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    curve.append(loss.item())

# %%
smooth = [sum(curve[max(0, at - 7):at + 1]) / len(curve[max(0, at - 7):at + 1]) for at in range(len(curve))]
steps = range(1, len(curve) + 1)
display(plots.lines({"Your training": {"the last eight batches": (steps, smooth), "each batch": (steps, curve)}},
                    f"step ({size} demonstrations each)", "your loss (nats per token)"))
print(f"The loss of the first batch is {curve[0]:.2f}, the mean of the last eight {smooth[-1]:.2f} nats per token.\n")
for before, after in zip(base_rows, answer_rows(student, tokenizer, requests, progress=False), strict=True):
    print(f"{before['prompt']}\n   before: {before['response'][:100]!r}\n   after:  {after['response']!r} "
          f"(graded {after['grade'].overall} of 7)\n")

# %% [markdown]
# That is supervised fine-tuning. Every demonstration was read once (one **epoch**), and each step saw fresh ones, so
# the curve falls because the model learns something that carries over from answer to answer.
#
# ## Loop: as in the library
#
# The library's `train_sft` is your loop with the comforts of long runs: a learning rate that falls along a cosine,
# clipped gradients, several epochs, resuming after a crash. One thing is really new. A small model that reads only
# demonstrations forgets how to write anything else, so every step also reads some ordinary web text, as InstructGPT did
# for the model from which PPO starts (appendix C.3: 10 %, two epochs).
#
# And the loss is not what we want. It says how surprised the model is by one particular good answer; a customer asks
# whether the answer it *gives* is good. So after every epoch we measure both: the loss on demonstrations it sees and on
# 64 that it never sees, and the true score of fresh answers, which is the grading program's opinion between 0 and 1.
#
# The held-out loss will turn at some point. Will the score turn with it?

# %%
lesson.predict("turn", "From the epoch of the lowest held-out loss to the last: what does the score of the answers do?",
               ("falls", "rises", "nothing that the intervals can tell"))

# %%
recipe = default_recipe()
settings = SFTConfig(epochs=lesson.pick(recipe.sft_epochs, 2), lr=recipe.sft_lr, batch_size=recipe.sft_batch,
                     pretraining_mix=recipe.sft_mix)
print(f"{settings.epochs} epochs, learning rate {settings.lr:g}, {settings.pretraining_mix:.0%} web text")
web = base_model.web_rows(tokenizer, lesson.pick(recipe.pretraining_tokens, 20_000), seed=3)
examples = data.demonstration_examples(tokenizer, written)[:lesson.pick(len(written), 200)]
held_out = data.demonstration_examples(tokenizer, data.demonstrations(split="valid"))
asked = data.prompts_of("valid", lesson.pick(200, 30))


def true_scores(policy, stage="sft"):
    """Score of one sampled answer per validation prompt; the base is cut at the end of its first line."""
    rows = answer_rows(policy, tokenizer, asked, progress=False, **evaluate.as_used(stage))
    return [row["grade"].score for row in rows]


# %%
policy = models.copy_model(base)
base_score = stats.mean_interval(true_scores(base, "base"))
losses, scores, found = [], [], []
LOSS, SCORE = "Loss (nats per token)", "True score of its answers (0–1)"


def so_far():
    return plots.learning_curves({LOSS: losses, SCORE: scores}, levels={SCORE: (base_score.value, "base")})


picture = display(so_far(), display_id=True)


def redraw(policy, epoch):
    """Called after every epoch: measures losses and true score, and draws the curves so far."""
    losses.append({"epoch": epoch, "train": sft.evaluate_sft(policy, examples[:100]),
                   "valid": sft.evaluate_sft(policy, held_out)})
    found.append(true_scores(policy))
    scores.append({"epoch": epoch, "valid": stats.mean_interval(found[-1])})
    picture.update(so_far())
    return {}


# %%
def change(before, after):
    """A paired difference of scores, prompt by prompt, and what to call it."""
    step = stats.mean_interval([b - a for a, b in zip(before, after, strict=True)])
    verdict = "better" if step.low > 0 else "worse" if step.high < 0 else "not clearly different"
    return f"{verdict} ({step.value:+.2f}, 95 % interval {step.low:+.2f} to {step.high:+.2f})"


sft.train_sft(policy, examples, settings, pretraining=web, evaluate=redraw, progress=True)
best, last = min(losses, key=lambda point: point["valid"]), losses[-1]
print(f"The held-out loss is lowest after epoch {best['epoch']} ({best['valid']:.2f}) and stands at "
      f"{last['valid']:.2f} at the end; the loss on what it learns from falls to {last['train']:.2f}.\n"
      f"The answers after the last epoch are {change(found[0], found[-1])} than after the first. The true score was "
      f"{base_score.value:.2f} before and is {scores[-1]['valid'].value:.2f} now.")
if best["epoch"] < last["epoch"]:
    since = change(found[best["epoch"] - 1], found[-1])
    print(f"Compared with the answers at the lowest loss, they are {since}.")
    lesson.outcome("turn", {"better": "rises", "worse": "falls"}.get(since.split()[0],
                                                                    "nothing that the intervals can tell"))

# %% [markdown]
# InstructGPT trained its SFT model for 16 epochs although the held-out loss rose after the first: *more epochs made
# people like the answers better*. Do your two panels agree with each other? Trust the right one, intervals included.
# What it says now, in words:

# %%
for row in answer_rows(policy, tokenizer, requests, progress=False):
    print(f"\n{row['prompt']}\n   -> {row['response']}   (graded {row['grade'].overall} of 7)")

# %% [markdown]
# ### How boldly should it speak?
#
# Every answer above was *sampled*: each token is drawn from $\text{softmax}(\text{logits} / T)$. The **temperature**
# $T$ decides how boldly. At 1 the model speaks as it has learnt; near 0 it always takes the likeliest token (greedy).
# One wrong token in fifty spoils a third of all answers of twenty tokens, and a small model often slips. Lowering $T$
# makes it slip less, for nothing: no training, no data. The course samples at a low temperature throughout (printed
# below), because otherwise every later step of training would look good by merely making the model more careful.
#
# Who gains more from a low temperature, the base or the tuned model?

# %%
lesson.predict("heat", "From temperature 1 to the best one: whose true score gains more?",
               ("the base's", "the tuned model's"))

# %%
table = {}
for stage, model in (("base", base), ("sft", policy)):
    curve = temperatures.temperature_curve(stage, model, tokenizer, asked, progress=False)
    table[stage] = {"curve": curve, "best": temperatures.best_temperature(curve)}
display(plots.temperatures(table))
print(f"The course samples at {TEMPERATURE}.")
for stage, row in table.items():
    by_heat = {point["temperature"]: point["value"] for point in row["curve"]}
    row["gain"] = by_heat[row["best"]] - by_heat[1.0]
    print(f"{plots.STAGES[stage]}: true score {by_heat[1.0]:.2f} at temperature 1, {by_heat[row['best']]:.2f} at its "
          f"best ({row['best'] or 'greedy'}).")
lesson.outcome("heat", "the base's" if table["base"]["gain"] > table["sft"]["gain"] else "the tuned model's")

# %% [markdown]
# ### Where in the answer?
#
# Below is one held-out demonstration, token by token: how surprised the base is, how surprised the tuned model is.
# Which tokens gain most: the first one, those that stand in the prompt, the end, or all the others?

# %%
KINDS = ("the first token", "tokens of the prompt", "END", "all other tokens")
lesson.predict("where", "Over all held-out demonstrations: which tokens gain most from fine-tuning?", KINDS)

# %%
shown_row = data.demonstrations(split="valid")[2]
prompt_ids = models.encode_prompt(tokenizer, shown_row["prompt"])
response_ids = models.encode_response(tokenizer, shown_row["response"])
ids, mask, labels = collate([build_example(prompt_ids, response_ids)])
words = [models.token_text(tokenizer, token) for token in response_ids[:-1]] + ["END"]


@torch.no_grad()
def surprise(model):
    """-log p of every response token, in nats."""
    log_probs = models.logits(model, ids, mask)[0, :-1].log_softmax(dim=-1)
    return -log_probs.gather(1, ids[0, 1:, None]).squeeze(1)[-len(response_ids):]


surprised = {"base": surprise(base), "fine-tuned": surprise(policy)}
display(plots.token_rows(surprised, words, f"Surprise in nats: {shown_row['prompt']}"))
gain = surprised["base"] - surprised["fine-tuned"]
print(f"The largest gain, {gain.max():.1f} nats, is at {words[int(gain.argmax())]!r}; at END the surprise goes from "
      f"{surprised['base'][-1]:.1f} to {surprised['fine-tuned'][-1]:.1f} nats. Dark cells in the lower row are "
      "words that the model would not have chosen, right as they are.")

# %% [markdown]
# One sentence is an anecdote. The same over all held-out demonstrations:

# %%
gains = {name: [] for name in KINDS}
for row in data.demonstrations(split="valid"):
    prompt_ids = models.encode_prompt(tokenizer, row["prompt"])
    response_ids = models.encode_response(tokenizer, row["response"])
    ids, mask, labels = collate([build_example(prompt_ids, response_ids)])
    for at, (token, gain) in enumerate(zip(response_ids, (surprise(base) - surprise(policy)).tolist(), strict=True)):
        gains[KINDS[0 if at == 0 else 2 if token == models.END else 1 if token in prompt_ids else 3]].append(gain)
gains = {name: stats.mean_interval(found) for name, found in gains.items()}
display(plots.interval_rows(gains, kind="nats", reference=0.0, title="What fine-tuning saves, per token",
                            label="surprise of the base minus surprise of the tuned model (nats, 95 % interval)"))
print("Nats gained: " + ", ".join(f"{name} {found.value:.2f} (n = {found.n})" for name, found in gains.items()) + ".")
lesson.outcome("where", max(gains, key=lambda name: gains[name].value))

# %% [markdown]
# The first token says which kind of text begins: an answer, or more of the web. That is the habit that the base lacked.
#
# ### How many demonstrations?
#
# Writing demonstrations is slow work, so the question every project asks is what the next hundred would bring.

# %%
by_size = {}
for size in lesson.pick([30, 120, 400], [30]):
    student = models.copy_model(base)
    sft.train_sft(student, examples[:size], settings, pretraining=web)
    by_size[size] = stats.mean_interval(true_scores(student))
by_size[len(examples)] = scores[-1]["valid"]  # trained above
display(plots.what_data_buy({"": by_size}, "demonstrations (log scale)", "true score (0–1)", xscale="log",
                            levels={"base": base_score.value}, title="What demonstrations buy (95 % intervals)"))
print(f"True score by number of demonstrations: 0: {base_score.value:.2f}, "
      + ", ".join(f"{size}: {score.value:.2f} ({score.low:.2f} to {score.high:.2f})" for size, score in by_size.items())
      + ". One training each: another order of the rows would move the points a little, too.")

# %% [markdown]
# ## What real systems do differently
#
# - InstructGPT used about 13,000 prompts written or checked by 40 people, and chose its SFT model by the *reward
#   model's* score on validation prompts, not by the loss (appendix C.1).
# - Chat models mark who speaks with special tokens; our template is the prompt and a newline.
# - Long rows are packed together so that no computation is spent on padding.
#
# ## Key points
#
# - Only the response is learnt, END included; the mask decides, never a token's id.
# - Logits at t − 1 predict token t. Shift once.
# - The loop is four lines. What takes care is which tokens it learns, and what you measure.
# - Loss and quality may turn at different times; in the paper they did. Measure what you want.
# - Before you thank any training for better answers, ask what a lower temperature would have brought.
#
# **Next:** writing better demonstrations gets dear quickly. Telling which of two answers is better is cheap: 03.

# %%
lesson.predictions()

# %%
progress("02")
