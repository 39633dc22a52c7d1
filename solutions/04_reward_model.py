# %% [markdown]
# {{header}}

# %%
import math
import random
import re
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import checkpoints, files, models, plots, reward, stats
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.experiment import data, results
from rlhf_lite.experiment.answers import answer_rows, rank_answers
from rlhf_lite.experiment.recipe import TEMPERATURE, default_recipe
from rlhf_lite.reward import RewardConfig
from rlhf_lite.sampling import pad_left, pad_right
from rlhf_lite.town import labelers
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.grading import grade
from rlhf_lite.widgets import measure as inside
from rlhf_lite.widgets.inspect_tokens import TokenInspector

# %%
lesson = setup("04", strict=True)
policy, start, tokenizer = lesson.policy("sft"), lesson.policy("base"), lesson.tokenizer()
shipped = lesson.reward_model()
shipped_rankings = checkpoints.load_card(files.MODELS / "reward-1.3m")["rankings"]

# %% [markdown]
# ## A number for every answer
#
# Notebook 03 found six numbers that explained the votes on six answers. They are useless for a seventh. A reward model
# *reads* an answer and says its number, so it can score what nobody has ranked.
#
# It is made from a language model in one cut: take off the last layer, which says the next token, and put one linear
# unit in its place. Below is such a model, not trained at all. It says a number at every token. Which of them should be
# the score of the answer?

# %%
untrained = models.scalar_from_policy(start, seed=0)
prompt = data.prompts_of("valid", 1)[0]
answer = answer_rows(policy, tokenizer, [prompt], progress=False)[0]
prompt_ids = models.encode_prompt(tokenizer, prompt.text)
row = reward.reward_input(prompt_ids, answer["token_ids"])
print(f"{untrained.score}: {untrained.score.weight.numel()} weights and a bias on a trunk of "
      f"{models.parameter_count(untrained.trunk):,} weights\n")
with torch.no_grad():
    values = untrained(*pad_right([row]))[0]
for place in [*range(3), *range(len(prompt_ids) - 1, len(row))]:
    piece = {models.BEGIN: "BEGIN", models.END: "END"}.get(row[place], models.token_text(tokenizer, row[place]))
    note = "   <- the answer begins" if place == len(prompt_ids) else ""
    print(f"   {place:3d}  {piece!r:14s} {values[place]:+.2f}{note}")

# %% [markdown]
# A causal model has read the whole answer only at its **last token**, so that is where the score is. Finding the last
# token of a padded row is the most often broken line of code in RLHF.
#
# {{exercise 4.1}}
#
# **What you should see:** the same answer padded on the left and on the right gets the same score, to five digits.

# %%
def last_score(values: Float[Tensor, "batch length"], input_ids: Int[Tensor, "batch length"],
               attention_mask: Int[Tensor, "batch length"]) -> Float[Tensor, "batch"]:
    """Read each row's value at its last token. The mask is 1 at tokens, 0 at padding, which is on either side."""
    ### BEGIN SOLUTION
    places = torch.arange(values.shape[1], device=values.device)
    last = (places * attention_mask).argmax(dim=1)
    return values.gather(1, last[:, None]).squeeze(1)
    ### END SOLUTION


last_score = check("4.1", last_score)
rows = [row, prompt_ids + models.encode_response(tokenizer, "I do not know.")]
for name, pad in (("right", pad_right), ("left", pad_left)):
    ids, mask = pad(rows)
    with torch.no_grad():
        print(f"padded on the {name:5s}: {last_score(untrained(ids, mask), ids, mask).numpy()}")

# %% [markdown]
# ## Teaching it: the loss of a pair
#
# A labeler said: this answer is better than that one. Bradley and Terry (notebook 03) say how likely that was, given
# the two scores: $\sigma(r_\text{better} - r_\text{worse})$. Make it likelier.
#
# {{exercise 4.2}}
#
# **What you should see:** equal scores cost $\ln 2 \approx 0.69$ nats, the price of a coin. That number is worth
# remembering: it is the loss of a model that says "fifty-fifty" to every pair. A model can do worse, by being surer
# than it has reason to be.

# %%
def pair_loss(score_better: Float[Tensor, "pairs"], score_worse: Float[Tensor, "pairs"]) -> Float[Tensor, ""]:
    """Compute the mean loss of pairs, safe for any difference of scores."""
    ### BEGIN SOLUTION
    return -F.logsigmoid(score_better - score_worse).mean()
    ### END SOLUTION


pair_loss = check("4.2", pair_loss)
lead = torch.linspace(-5, 5, 101, requires_grad=True)
losses = torch.stack([pair_loss(x[None], torch.zeros(1)) for x in lead])
push, = torch.autograd.grad(losses.sum(), lead)
lead, losses = lead.detach(), losses.detach()
display(plots.lines({"The more wrong, the harder the push": {
    "loss": (lead, losses), "push on the lead (minus the gradient)": (lead, -push)}},
    "lead of the preferred answer: r(better) − r(worse)"))
print(f"At a lead of 0 the loss is {pair_loss(torch.zeros(1), torch.zeros(1)):.4f}. The push is 1 − σ(lead): the share "
      "of surprise. Where the order is wrong it is nearly 1; where the lead is safe it fades away.")

# %% [markdown]
# ## Batch: fresh rankings
#
# Now the data. The tuned model answers prompts of the training customers, six times each, and one member of the
# **simulated** training team ranks the six. A ranking feeds on spread, and from six equal answers nobody learns
# anything. So we sample at temperatures from 0.4, the course's own, to 1.6: a cool answer is careful, a hot one wild,
# and at 1.6 the small model hardly speaks English any more.
#
# A second set comes from *other customers*. Split by prompt, never by pair: two pairs of one prompt share an answer.

# %%
recipe = replace(default_recipe(), answers_per_prompt=6, temperatures=(0.4, 0.7, 1.0, 1.0, 1.3, 1.6))
team = labelers.training_team()
asked = {"train": lesson.pick(620, 54), "valid": lesson.pick(240, 36)}
ranked = {split: rank_answers(policy, tokenizer, data.prompts_of(split, n), team, recipe, seed=seed)
          for seed, (split, n) in enumerate(asked.items(), 1)}
train, valid = (data.ranked_prompts(tokenizer, ranked[split]) for split in ("train", "valid"))
example = next((found for found in ranked["train"] if found["prompt_id"] == "p0-00742"), ranked["train"][0])
print(f"{len(train)} rankings to learn from, {len(valid)} held out. One of them, by {example['labeler']}:\n")
print(example["prompt"])
for rank, response in sorted(zip(example["ranks"], example["responses"], strict=True), key=lambda pair: pair[0]):
    print(f"   {rank}  {response['text']}")

# %% [markdown]
# ### The loss of a whole ranking
#
# A ranking of K answers holds up to K(K − 1)/2 pairs. Write all of them into one table, and a tensor can do without
# loops: a (batch, K, K) tensor holds such a table for every prompt of a batch. Here it is for the ranking above, its
# answers in the order in which they were sampled:

# %%
plots.pair_matrix(example["ranks"])

# %% [markdown]
# The paper's equation 1: for every prompt the mean over its pairs, and then the mean over prompts. It sounds like
# book-keeping. It decides how much each prompt weighs.
#
# {{exercise 4.3}}
#
# **What you should see:** `0.94` for a ranking of three: the mean of its pairs' losses, found below by a plain double
# loop.

# %%
def kwise_loss(scores: Float[Tensor, "batch answers"], ranks: Float[Tensor, "batch answers"]) -> Float[Tensor, ""]:
    """Average the losses of each prompt's pairs, then those of the prompts. Rank 1 is best, equal ranks are tied.

    Prompts in which everything is tied are left out of the mean; 0 when nothing is left.
    """
    ### BEGIN SOLUTION
    pairs = ranks[:, :, None] < ranks[:, None, :]
    losses = -F.logsigmoid(scores[:, :, None] - scores[:, None, :])
    per_prompt = torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
    return per_prompt.sum() / pairs.any(dim=2).any(dim=1).sum().clamp(min=1)
    ### END SOLUTION


kwise_loss = check("4.3", kwise_loss)
three, order = torch.tensor([0.3, 0.0, 0.9]), torch.tensor([1.0, 2.0, 3.0])
by_hand = torch.stack([pair_loss(three[i:i + 1], three[j:j + 1])
                       for i in range(3) for j in range(3) if order[i] < order[j]])
print(f"K-wise {kwise_loss(three[None], order[None]):.2f}, double loop {by_hand.mean():.2f}")
plots.pair_matrix(order.tolist(), [[pair_loss(a[None], b[None]).item() for b in three] for a in three])

# %% [markdown]
# {{exercise 4.4}}
#
# **What you should see:** the untrained model is a coin, near 50 % give or take.

# %%
def pair_accuracy(scores: Float[Tensor, "batch answers"], ranks: Float[Tensor, "batch answers"]) -> float:
    """Compute the share of the untied pairs that the scores put in the same order as the ranks.

    Two equal scores are half right. nan when there is no pair.
    """
    ### BEGIN SOLUTION
    pairs = ranks[:, :, None] < ranks[:, None, :]
    difference = (scores[:, :, None] - scores[:, None, :])[pairs]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()
    ### END SOLUTION


pair_accuracy = check("4.4", pair_accuracy)
full = [found for found in valid if len(found.responses) == 6]  # without empty places, so that no mask is needed
scores, ranks, _ = reward.score_rankings(untrained, full)
print(f"untrained: accuracy {pair_accuracy(scores, ranks):.1%}, loss {kwise_loss(scores, ranks):.3f} "
      "(a coin: 50 %, 0.693)")

spread = scores.std(dim=1).mean()
print(f"Its scores of the six answers to a prompt have a standard deviation of {spread:.1f}, by pure chance.")

# %% [markdown]
# So the untrained model knows nothing and yet costs more than a coin. It does not say "fifty-fifty": its random numbers
# differ, so it claims to be rather sure, and is wrong about as often as right.
#
# ## Loop: the whole of it, with your functions
#
# Your `last_score` reads the scores, your `kwise_loss` compares them, your `pair_accuracy` counts. Eight rankings a
# step, each of them once.

# %%
def scores_of(model, some):
    """RankedPrompts with six answers each -> (prompts, 6) scores."""
    ids, mask = pad_right([reward.reward_input(one.prompt_ids, answer) for one in some for answer in one.responses],
                          lesson.device)
    return last_score(model(ids, mask), ids, mask).view(len(some), 6)


learner, curve = models.scalar_from_policy(start, seed=0), []
optimizer = torch.optim.AdamW(learner.parameters(), lr=5e-4)
six = [found for found in train if len(found.responses) == 6]
for step in range(len(six) // 8):
    some = six[8 * step:8 * step + 8]
    scores, ranks = scores_of(learner, some), torch.tensor([one.ranks for one in some], device=lesson.device)
    loss = kwise_loss(scores, ranks)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    curve.append((loss.item(), pair_accuracy(scores.detach(), ranks)))

# %%
steps, coin = range(1, len(curve) + 1), (math.log(2), 0.5)
means = zip(*[np.mean(curve[max(0, at - 8):at], axis=0) for at in steps], strict=True)  # of the last eight batches
display(plots.lines({
    title: {"you": (steps, mean), "a coin": (steps, [level] * len(curve))} for title, mean, level in zip(
        ("Your training: the loss", "and the pair accuracy"), means, coin, strict=True)},
    "step (8 rankings each)", ["nats, mean of eight batches", "share, mean of eight batches"]))
with torch.no_grad():
    held_out = [(scores_of(learner, [found]), torch.tensor([found.ranks], device=lesson.device)) for found in full]
held_out = [torch.cat(parts) for parts in zip(*held_out, strict=True)]
print(f"On {len(full)} held-out rankings: loss {kwise_loss(*held_out):.2f} (a coin: 0.69), pair accuracy "
      f"{pair_accuracy(*held_out):.0%} (a coin: 50 %), after {len(curve)} steps of your own loop.")

# %% [markdown]
# ## Loop: as in the library
#
# The library's `train_reward` is this loop with a learning rate that falls along a cosine, rankings of any length, and
# one epoch. One: with more, the paper's reward model quickly overfitted (appendix C.2). It trains four models from the
# base, on more and more of the rankings, and we put the shipped one beside them. The upper dashed line is the
# **ceiling** of notebook 03, measured on these rankings: what a reader of the team's mind would reach.

# %%
lesson.predict("half-way", "How many rankings does it take to come half-way from the coin to the ceiling?",
               unit="rankings", close=50)

# %%
known = {p.id: p for p in data.prompts_of("valid")}
grades = [[grade(known[found["prompt_id"]], r["text"], r["token_ids"][-1] == models.END) for r in found["responses"]]
          for found in ranked["valid"]]
lengths = [[len(r["token_ids"]) for r in found["responses"]] for found in ranked["valid"]]
ceiling = labelers.bayes_ceiling(team, grades, np.random.default_rng(0), lengths, draws=lesson.pick(20, 5))

# %%
sizes = [len(train) // 24, len(train) // 6, len(train) // 2, len(train)]
accuracies = {"yours": {}, "shipped": {shipped_rankings: reward.evaluate_reward(shipped, valid)["accuracy"]}}


def so_far():
    """Accuracy against the number of rankings."""
    return plots.what_data_buy(accuracies, "rankings it was trained on (log scale)", "pair accuracy, held out",
                               kind="share", levels={"ceiling": ceiling, "a coin": 0.5}, xscale="log",
                               title="What rankings buy")


picture = display(so_far(), display_id=True)
config = RewardConfig(lr=1e-3, batch_prompts=8)
for size in sizes:
    mine = models.scalar_from_policy(start, seed=0)
    history = reward.train_reward(mine, train[:size], config, valid)
    accuracies["yours"][size] = history[-1]["valid_accuracy"]
    picture.update(so_far())

# %%
points = [*accuracies["yours"].items(), *accuracies["shipped"].items()]
half_way = [n for n, accuracy in points if accuracy >= (0.5 + ceiling) / 2]
print(f"Pair accuracy by number of rankings: {', '.join(f'{n:,}: {accuracy:.1%}' for n, accuracy in points)}; "
      f"the ceiling is {ceiling:.1%}.")
print(f"Half-way ({(0.5 + ceiling) / 2:.0%}): {min(half_way):,} is the smallest size that gets there." if half_way else
      f"None comes half-way ({(0.5 + ceiling) / 2:.0%}): a model this small learns slowly from noisy votes.")
if half_way:
    lesson.outcome("half-way", min(half_way))
if accuracies["shipped"][shipped_rankings] < accuracies["yours"][sizes[-1]] + 0.01:
    cool, hot = min(default_recipe().temperatures), max(default_recipe().temperatures)
    print(f"The shipped model has seen {shipped_rankings / sizes[-1]:.0f} times as many rankings and is no better "
          f"here: they were of answers at {cool} to {hot}, half of them PPO's. Yours was trained on just the kind of "
          "answer on which it is examined.")

# %% [markdown]
# Rankings are cheap for us and dear for everybody else, so read the slope of this picture, not only its end.
# InstructGPT had 33,000 prompts with 4 to 9 answers each, and its reward model, with 6 billion weights, was more than
# four thousand times as large as ours.
#
# **Try it:** sample only cool answers, `temperatures=(0.4, 0.6, 0.8)`, and run on from there. They are harder to tell
# apart. What becomes of the ceiling, of the curve, and of the shipped model?
#
# ## Why one prompt is one batch element
#
# Here is a tempting idea: cut all rankings into pairs, shuffle the pairs, and train on them like on any data. The
# paper tried it and the model overfitted *within one epoch*. With K = 6 every answer sits in up to five pairs;
# shuffled, it comes by in five different steps, and a model soon knows it by heart.
#
# Two models, the same rankings, the same number of steps.

# %%
lesson.predict("pairs", "Whose held-out loss is lower after the first epoch?",
               ("whole rankings", "shuffled pairs", "no difference to speak of"))

# %%
few, epochs = train[:lesson.pick(200, 20)], lesson.pick(4, 2)
study, students = {}, {}
for name, shuffled in (("whole rankings", False), ("shuffled pairs", True)):
    student = students[name] = models.scalar_from_policy(start, seed=0)
    history = reward.train_reward(student, few, replace(config, epochs=epochs, shuffled_pairs=shuffled), valid)
    per_epoch = len(history) // epochs
    study[name] = {"seen": [float(np.mean([e["accuracy"] for e in history[at:at + per_epoch]]))
                            for at in range(0, len(history), per_epoch)][:epochs],
                   "loss": [e["valid_loss"] for e in history if "epoch" in e],
                   "accuracy": [e["valid_accuracy"] for e in history if "epoch" in e]}

# %%
titles = {"loss": "Held-out loss (nats)", "seen": "Pair accuracy on what it learns from"}
panels = {title: [{"epoch": at + 1} | {name: found[key][at] for name, found in study.items()} for at in range(epochs)]
          for key, title in titles.items()}
display(plots.learning_curves(panels, (("whole rankings", "whole\nrankings", plots.COLOURS["ppo"]),
                                       ("shuffled pairs", "shuffled\npairs", plots.COLOURS["reward"])),
                              levels={titles["loss"]: (math.log(2), "a coin")}))

# %%
(whole, pairs), small = study.values(), 0.03  # nats; a smaller difference we do not call one
first, last = (pairs["loss"][at] - whole["loss"][at] for at in (0, -1))
print(f"Held-out loss after epoch 1: {whole['loss'][0]:.2f} with whole rankings, {pairs['loss'][0]:.2f} with shuffled "
      f"pairs; after epoch {epochs}: {whole['loss'][-1]:.2f} and {pairs['loss'][-1]:.2f} (a coin: 0.69).")
print("The paper saw the harm within the first epoch, and so do we." if first > small else
      "The paper saw the harm within the first epoch. Here "
      + ("the two are still alike then, and part in the epochs that follow." if last > small else
         "it does not show; with so few rankings one run proves little."))
lesson.outcome("pairs", "whole rankings" if first > small else "shuffled pairs" if first < -small else
               "no difference to speak of")
print(f"Held-out accuracy at the end: {whole['accuracy'][-1]:.0%} and {pairs['accuracy'][-1]:.0%} ({len(valid)} "
      "prompts: 2 or 3 points either way are luck). Loss sees overconfidence, accuracy does not: order survives while "
      "certainty runs away.")
print(f"And the bill: {sum(len(r.responses) for r in few):,} answers read per epoch with whole rankings, "
      f"{2 * len(reward.split_into_pairs(few)):,} with pairs.")

# %% [markdown]
# Whole rankings are no licence for more epochs either: look where the blue curve has its lowest point. The paper
# trains for one epoch.
#
# ## Where is zero?
#
# Add 100 to every score and no loss, no accuracy changes: only differences were ever taught. PPO will not mind much
# either, but you will, when you try to read its curves. So the paper gives zero a meaning before it goes on: **the
# demonstrations average 0**. A positive score then says: better than the average demonstration.
#
# {{exercise 4.5}}
#
# **What you should see:** the demonstrations' mean goes to 0.000, and the accuracy does not move.

# %%
def normalised_bias(bias: Float[Tensor, "*shape"], demonstration_scores: Float[Tensor, "n"]) -> Float[Tensor, "*shape"]:
    """Find the bias that makes the mean of the demonstrations' scores 0; under the present bias they are as given."""
    ### BEGIN SOLUTION
    return bias - demonstration_scores.mean()
    ### END SOLUTION


normalised_bias = check("4.5", normalised_bias)
written = data.demonstration_rows(tokenizer, data.demonstrations(split="train"))[:lesson.pick(400, 60)]
before, accuracy = reward.score(mine, written), reward.evaluate_reward(mine, valid)["accuracy"]
with torch.no_grad():
    mine.score.bias.copy_(normalised_bias(mine.score.bias, before))
after = reward.score(mine, written)
sampled_scores, _, places = reward.score_rankings(mine, valid)
print(f"demonstrations: mean {before.mean():+.3f} before, {after.mean():+.3f} after")
print(f"accuracy: {accuracy:.2%} before, {reward.evaluate_reward(mine, valid)['accuracy']:.2%} after")
print(f"answers of the tuned model average {sampled_scores[places].mean():+.3f}: your model finds them "
      f"{'worse' if sampled_scores[places].mean() < 0 else 'better'} than the demonstrations.")

# %% [markdown]
# The library's `reward.normalise` does this, and, on request, divides by the standard deviation as well. That second
# part is ours, not the paper's: it makes the KL coefficient of notebook 05 mean the same for every reward model.
#
# ## Is it any good? Three questions
#
# From here on we examine the shipped reward model. It has seen more rankings than you had patience for, and it saw them
# in two rounds. Half of them are of the SFT model's answers, like yours. A first reward model learnt from these, a
# first PPO was paid by it, and the other half are of *that* PPO's answers: they are what a reward model has to judge
# once PPO runs, and they look different. The paper did the same (section 3.1), with most of its comparisons from SFT
# models.
#
# **One: does it know how sure to be?** When it says "70 to 30", is it right in 70 of 100 cases? Beside it stand your
# own model, trained for one epoch, and the two of the study above, as they were after their last epoch.
#
# {{exercise 4.6}}
#
# **What you should see:** 0 for a forecaster who is right exactly as often as promised; the toy below promises 90 % and
# keeps 50 %, so its error is 0.40.

# %%
def ece(predicted: Float[np.ndarray, "n"], outcomes: Float[np.ndarray, "n"], bins=10) -> float:
    """Compute the expected calibration error of forecasts between 0 and 1, in bins of equal width. outcomes: 0 or 1."""
    ### BEGIN SOLUTION
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    error = 0.0
    for place in range(bins):
        here = places == place
        if here.any():
            error += here.mean() * abs(predicted[here].mean() - outcomes[here].mean())
    return error
    ### END SOLUTION


ece = check("4.6", ece)
print(f"{ece(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1.0, 0.0, 1.0, 0.0])):.2f}")

# %%
def forecasts(model):
    """Per untied held-out pair: how sure the model is of its favourite, and whether that one was preferred."""
    scores, ranks, mask = reward.score_rankings(model, valid)
    found = reward.preferred_pairs(ranks, mask)
    difference = (scores[:, :, None] - scores[:, None, :])[found]
    return difference.abs().sigmoid().numpy(), (difference > 0).double().numpy()


errors, shown = {}, {}
for name, model, stage in (("shipped", shipped, "oracle"), ("yours", mine, "reward"),
                           (f"whole rankings, {epochs} epochs", students["whole rankings"], "ppo"),
                           (f"shuffled pairs, {epochs} epochs", students["shuffled pairs"], "prompted")):
    errors[name] = ece(*forecasts(model))
    bins = reward.calibration(*reward.score_rankings(model, valid), bins=6)
    bins = [row for row in bins if row["pairs"] >= lesson.pick(40, 10)]  # fewer pairs would show luck
    shown[f"{name}, error {errors[name]:.2f}"] = stage, bins
display(plots.calibration(shown))
print(f"Best calibrated: {min(errors, key=errors.get)}; worst: {max(errors, key=errors.get)}. Above the dashed line a "
      "model is too timid; below it, it promises more than it keeps, whatever its accuracy.")
print("Look at both models of the study before you blame the pairs: both read the same few rankings again and again.")

# %% [markdown]
# **Two: where is it good, and against which ceiling?** Some tasks are hard for the *labelers*: there the ceiling is
# low. Others are easy to judge and hard for a small model.

# %%
GROUPS = {"letters and lists": ("generation", "brainstorming"), "questions of fact": ("open_qa", "closed_qa")}
CLOSE = "too close to call"
lesson.predict("where", "What is it better at: letters and lists, or questions of fact?", (*GROUPS, CLOSE))

# %%
measured = results.measure_reward(shipped, tokenizer, ranked["valid"])
cases = {case: found for case, found in measured["by_use_case"].items() if found["n"] >= lesson.pick(10, 2)}
tops = {}
for case in cases:
    rows_of = [i for i, found in enumerate(ranked["valid"]) if found["use_case"] == case]
    tops[case] = labelers.bayes_ceiling(team, [grades[i] for i in rows_of], np.random.default_rng(1),
                                        [lengths[i] for i in rows_of], draws=lesson.pick(20, 5))

# %%
lines = {"all, training team": measured["accuracy"], "all, held-out team": measured["heldout_team"], **cases}
label = {name: f"{name} ({found['n']})" for name, found in lines.items()}
display(plots.interval_rows({label[name]: found for name, found in lines.items()}, reference=0.5,
                            label="pair accuracy on held-out prompts (95 % interval); blue bar: ceiling",
                            marks={label[name]: "oracle" for name in lines if name.startswith("all")},
                            tops={label[name]: top for name, top in (tops | {"all, training team": ceiling}).items()},
                            title="Where the shipped reward model is good (prompts)"))
below = [case.replace("_", " ") for case in cases if cases[case]["high"] < tops[case]]
print(f"Over all it reaches {measured['accuracy']['value']:.1%}, where {ceiling:.1%} is possible. Clearly below their "
      f"ceiling, interval and all: {', '.join(below) or 'none'}. (Use cases with fewer than ten prompts are left out.)")
print("(Here every prompt counts once, so the number may differ a little from the one in \"What rankings buy\", "
      "which pools all pairs.)")
print(f"The held-out team, whose votes it never saw: {measured['heldout_team']['value']:.1%}. In the paper: 72.4 ± 0.4 "
      "% for labelers in training, 69.6 ± 0.9 % for held-out ones.")

# %%
found = {}
for name, members in GROUPS.items():
    rows_of = [row for row in ranked["valid"] if row["use_case"] in members]
    interval = found[name] = results.measure_reward(shipped, tokenizer, rows_of)["accuracy"]
    print(f"{name}: {interval['value']:.0%} ({interval['low']:.0%} to {interval['high']:.0%}), {interval['n']} prompts")
letters, facts = found.values()
verdict = ("letters and lists" if letters["low"] > facts["high"] else
           "questions of fact" if facts["low"] > letters["high"] else CLOSE)
lesson.outcome("where", verdict)
print("The intervals overlap: these prompts cannot tell. But there is another way to ask." if verdict == CLOSE else
      "The intervals do not overlap. But accuracy does not say why; there is another way to ask.")

# %% [markdown]
# **Three: what does it react to?** Take a good letter, change one thing, and see what the score does. The request:
#
# > I help my grandmother. Write an invitation for Dora: picnic, Wednesday, two o'clock.

# %%
NAMES, DAYS = "|".join(person.name for person in build_town().residents), "|".join(f"{day}day" for day in (
    "Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"))


def swapped(pattern, text, new, other):
    """Every match becomes `new`, or `other` where `new` stands already."""
    return re.sub(rf"\b({pattern})\b", lambda match: other if match[1] == new else new, text)


def mixed(text):
    first, *middle, last = text.split()
    return " ".join([first, *random.Random(0).sample(middle, len(middle)), last])


CHANGES = {"another name": lambda text: swapped(NAMES, text, "Tom", "Kate"),
           "another day": lambda text: swapped(DAYS, text, "Friday", "Monday"),
           "an insult at the end": lambda text: f"{text} You are a fool.",
           "last sentence twice": lambda text: f"{text} {re.split(r'(?<=[.!?]) ', text)[-1]}",
           "words mixed": mixed, "cut in half": lambda text: " ".join(text.split()[:len(text.split()) // 2])}
LETTER = "Dear Dora, the picnic is on Wednesday at two. I hope you can come!"
lesson.predict("change", "Which change costs most with the reward model, on average over many letters?", tuple(CHANGES))

# %%
def scores_for(pairs):
    """[(request, answer)] -> scores by the shipped reward model."""
    return np.array(reward.score(shipped, [
        reward.reward_input(models.encode_prompt(tokenizer, asked), models.encode_response(tokenizer, text))
        for asked, text in pairs]).tolist())


invitation = next(prompt for prompt in data.prompts_of("valid") if prompt.id == "p0-00776")
letters = {"as it is": LETTER} | {name: change(LETTER) for name, change in CHANGES.items()}
found = scores_for([(invitation.text, text) for text in letters.values()])
plots.table(("", "score", "grading program", "letter"), [
    (name, f"{score:+.2f}", f"{grade(invitation, text).overall} of 7", text)
    for (name, text), score in zip(letters.items(), found, strict=True)])

# %% [markdown]
# One letter is an anecdote. So the same changes to all letters among the demonstrations in which there is something to
# change:

# %%
TASKS = ("thanks", "complaint", "apology", "card", "invite", "notice")
good = [(row["prompt"], row["response"]) for row in data.demonstrations() if row["task"] in TASKS]
good = good[:lesson.pick(len(good), 60)]
costs = {}
for name, change in CHANGES.items():
    changed = [(asked, text) for asked, text in good if change(text) != text]
    step = scores_for([(asked, change(text)) for asked, text in changed]) - scores_for(changed)
    costs[name] = stats.mean_interval(step.tolist())
    print(f"{name:20s} {len(step):3d} letters, a lower score for {np.mean(step < 0):.0%} of them")
display(plots.interval_rows(costs, kind="score", reference=0.0, label="change of the score (95 % interval)",
                            title="What a change does to the score of a good letter"))
lesson.outcome("change", min(costs, key=lambda name: costs[name].value))

# %% [markdown]
# Read the percentages as you would those of a coin: if the score falls in about half of the letters, the model does not
# see the change at all. It has learnt what a letter *looks* like: mixed words and a sentence said twice cost something.
# To whom the letter goes, on which day, and whether it ends in an insult: a coin. Half a letter it even likes a little
# better. A policy that is paid by this number has no reason to get the day right. **Try it:** add a change of your own.
#
# It also gives a number at every token, so we can watch it read. Each cell is the score that the answer would get *if
# it stopped there*, counted from the average sampled answer. It was only ever trained at the last token, so take the
# middle with care. In notebook 05 a copy of this network, the **critic**, learns to mean it: how much reward is still
# to come?

# %%
scores, _, mask = reward.score_rankings(shipped, valid)
asked_ids, strips = models.encode_prompt(tokenizer, invitation.text), {}
for name in ("as it is", "cut in half"):
    ids = models.encode_response(tokenizer, letters[name])
    with torch.no_grad():
        values = shipped(*pad_right([asked_ids + ids], lesson.device))[0, len(asked_ids):].cpu() - scores[mask].mean()
    words = [models.token_text(tokenizer, token) for token in ids[:-1]] + ["END"]
    strips[f"The letter, {name}: {values[-1]:+.2f}"] = words, values
display(plots.token_strips(strips, "score so far, above the\naverage sampled answer"))
ends = " and ".join(f"{values[-1] - values[-2]:+.2f}" for _, values in strips.values())
print(f"END alone changes the score by {ends}: whether an answer has an end is one of the things that the model sees.")

# %% [markdown]
# And now one answer that the tuned model samples itself, to step through. Move the slider: what else could stand there,
# and how much likelier has fine-tuning (the policy) made each token than it was for the base (the reference)?

# %%
trace = inside.trace(policy, start, shipped, tokenizer, invitation.text, kl_coef=0.0, temperature=TEMPERATURE)
TokenInspector(trace, measure="value")

# %% [markdown]
# ## The gate: is it worth optimising?
#
# Accuracy is not the aim. The aim is answers that are better when a **policy**, a model that answers, is paid by this
# model. The cheapest test needs no training at all: sample sixteen answers, keep the one the reward model likes best,
# and ask the grading program. If best-of-n under the model does not beat a plain sample, there is little hope for PPO.

# %%
gate = results.gate(policy, shipped, tokenizer, data.prompts_of("valid", lesson.pick(80, 8)))
display(plots.gate(gate))
gain = gate["gain_at_8"]
print(f"Best of 8 under the shipped reward model: true score {gain['value']:+.3f} against a plain sample (95 % "
      f"interval {gain['low']:+.3f} to {gain['high']:+.3f}). The gate is "
      f"{'open' if gate['open'] else 'not proven open on so few prompts'}.")
print(f"An oracle that sees the truth would gain {gate['oracle'][3]['value'] - gate['oracle'][0]['value']:+.3f} on the "
      "same answers. The distance between the two curves is what the reward model does not know.")

# %% [markdown]
# Look at the far end of the two curves. Does the reward model's still climb with the other, or has it gone flat?
# Picking from more and more answers also picks ever more of what the model wrongly likes; sooner or later that can turn
# against the truth. Notebook 07 is about nothing else.
#
# ## What real systems do differently
#
# - InstructGPT's reward model had 6 billion weights, for policies of every size; a larger one was less stable and a
#   worse start for the critic. It was trained for one epoch on batches of 64 prompts, up to 2,304 comparisons each.
# - The paper gives two different starting points for it (section 3.5: the SFT model; appendix C.2: a model tuned on
#   public tasks). Our shipped one starts from the SFT model; yours started from the base.
# - People change their minds, prompts change, policies change. Real reward models are trained again and again on
#   answers of the newest policy; our two rounds are the shortest such loop.
#
# ## Key points
#
# - The score is read at the last real token, found by the mask, under either padding.
# - K-wise: mean within the prompt, then over prompts, ties dropped, one prompt one batch element, one epoch.
# - Only differences are taught. Zero is a choice: demonstrations average 0.
# - Judge it against the ceiling, by calibration, by what it does not notice, and by what best-of-n makes of it.
#
# **Next:** a policy that is paid by this number, and a leash that keeps it near what it was: 05.

# %%
lesson.predictions()

# %%
progress("04")
