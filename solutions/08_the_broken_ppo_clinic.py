# %% [markdown]
# {{header}}

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from jaxtyping import Bool, Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import plots, sampling
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises import check, clinic, dashboard, laboratory, progress, sampler, setup
from rlhf_lite.models import END
from rlhf_lite.ppo_math import masked_mean

lesson = setup("08", strict=True)
size = {"iterations": lesson.pick(24, 4), "batch_size": lesson.pick(128, 16)}

# %% [markdown]
# ## Nothing crashed
#
# A broken loop in ordinary software throws an error. A broken PPO loop draws a curve. Often the curve even goes up. The
# bugs of this notebook are real: each was found in a public RLHF library, or in somebody's training run, usually long
# after the run was over.
#
# So the tea room of Pebbleford has opened a clinic. The patients are apprentices like the one of notebook 05, with six
# words (*um, er, END, tea, bun, thanks*). They are trained by this course's own `train_ppo`, and in each of them **one
# thing is wrong**. Your job: read the curves, say what it is, and then build the instrument that would have found it in
# one second, before any training.
#
# ### Inspect one
#
# A customer orders, the apprentice answers with at most eight tokens. The reward is a simple rule: half a point for
# each thing ordered and served, for a "thanks", for coming to an end; half a point off for "um", "er" and for things
# nobody ordered.

# %%
reference = clinic.team()[0]
rollout = sampling.sample(reference, clinic.PROMPTS, 8, generator=torch.Generator().manual_seed(3))
for prompt, response in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True):
    print(f"order: {clinic.say(prompt[1:]):15s} answer: {clinic.say(response):38s} "
          f"reward {clinic.reward(prompt, response):+.2f}   truth {clinic.true_score(prompt, response):+.2f}")

# %% [markdown]
# Reward and truth differ in one point, as in notebook 07: customers find a second "thanks" tiresome, but the *reward*
# pays a quarter for it. Training sees the reward only. Keep that in mind for the last ward.
#
# ### Three healthy people
#
# Before you look at an illness, know what health looks like, and how much it varies. Here are three runs of the library
# as it is, which differ in the seed only. They will be the grey band behind every patient.
#
# **Predict before you run:** six curves, from left to right: reward, KL, clip fraction, answer length, entropy,
# explained variance of the critic. Which will rise? Which must start at exactly 0?

# %%
healthy = [clinic.run_ppo(seed=seed, progress=True, **size) for seed in range(lesson.pick(3, 2))]
dashboard.curves({"healthy": healthy[0]}, healthy)
plt.show()
first, last = healthy[0][0], healthy[0][-1]
print(f"Reading: the reward goes from {first['score']:.2f} to {last['score']:.2f}, the KL from {first['kl']:.2f} to "
      f"{last['kl']:.2f} nats, the entropy from {first['entropy']:.2f} to {last['entropy']:.2f}. In the first "
      f"iteration {first['clipfrac']:.0%} of the actions were clipped. The truth went from {first['true']:.2f} to "
      f"{last['true']:.2f}.")

# %% [markdown]
# | vital sign | healthy | a doctor's thoughts when it is not |
# |---|---|---|
# | reward | rises, then bends | flat: no signal arrives · falls: a sign · soars: what is being exploited? |
# | KL | from 0, grows with the reward | soars: nothing holds the policy · stays at 0 while all else moves: whose KL? |
# | clip fraction | 0 at first, then up to 0.3 | high at once: old and new probabilities are not of the same thing |
# | length | finds a level | to the limit: END is not learnt, or length pays |
# | entropy | sinks slowly | to 0: collapsed · stays: nothing is learnt |
# | explained variance | rises, here to 0.3 | falls: taught nonsense · very high: has seen the answer, or all is alike |
#
# ### How a patient is made
#
# `clinic.planted("Ada")` swaps a function of the library as long as the block lasts. Everything is put back afterwards,
# also if something fails. (The library's alarms for exploding KL and ratios are switched off in the clinic.)

# %%
runs = {}


def ward(*patients):
    """Train each patient with its bug, show the curves beside the healthy ones, say what stands out."""
    for patient in patients:
        with clinic.planted(patient):
            runs[patient] = clinic.run_ppo(progress=True, **size)
    dashboard.curves({patient: runs[patient] for patient in patients}, healthy)
    plt.show()
    for patient in patients:
        print(dashboard.reading(patient, runs[patient], healthy))


# %% [markdown]
# ## Ward 1: ill before the first step

# %%
ward("Ada", "Bruno")

# %% [markdown]
# **Your diagnosis, please.** Look at the clip fraction of iteration 1. A clip needs a ratio $\pi_{new}/\pi_{old}$ that
# is far from 1. Before the first optimizer step new and old are the same weights. What can make the ratio differ from 1
# then? Write down a guess for each of the two.
#
# Curves alone will not tell you which is which. An identity will. **Before the first step every ratio is 1, and the KL
# to the reference is 0.** No training is needed to test that, only one batch.
#
# {{exercise 8.1}}
#
# **What you should see:** for log-ratios of 0.1, −0.2 and a pad, the largest error is $1-e^{-0.2} = 0.18$.

# %%
def largest_ratio_error(new_log_probs: Float[Tensor, "batch response"], old_log_probs: Float[Tensor, "batch response"],
                        mask: Bool[Tensor, "batch response"]) -> Float[Tensor, ""]:
    """Find the largest |ratio - 1| of any action, from its log-probabilities in two passes."""
    ### BEGIN SOLUTION
    return torch.where(mask, torch.expm1(new_log_probs - old_log_probs), 0.0).abs().max()
    ### END SOLUTION


largest_ratio_error = check("8.1", largest_ratio_error)
print(largest_ratio_error(torch.tensor([[-0.9, -1.2, 5.0]]), torch.tensor([[-1.0, -1.0, 0.0]]),
                          torch.tensor([[True, True, False]])))

# %% [markdown]
# {{exercise 8.2}}
#
# **What you should see:** two responses, of two tokens and of one, with log-ratios 0.3, 0.1 and 0.2: a KL of 0.3 nats
# per response.

# %%
def kl_per_response(log_probs: Float[Tensor, "batch response"], ref_log_probs: Float[Tensor, "batch response"],
                    mask: Bool[Tensor, "batch response"]) -> Float[Tensor, ""]:
    """Estimate the KL in nats per response by k1."""
    ### BEGIN SOLUTION
    return torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1).mean()
    ### END SOLUTION


kl_per_response = check("8.2", kl_per_response)
print(kl_per_response(torch.tensor([[-1.0, -1.0], [-1.0, 0.0]]), torch.tensor([[-1.3, -1.1], [-1.2, -9.0]]),
                      torch.tensor([[True, True], [True, False]])))

# %% [markdown]
# Now hold both instruments to the patients. One batch each, no training.

# %%
def examined(*patients, questions, **instruments):
    """Healthy and ill, one row each: does the test of every question pass? instruments: yours, by the test's name."""
    found = {patient: laboratory.examine(patient, questions, **instruments) for patient in (None, *patients)}
    return plots.table(("", *questions.values()), [
        (patient or "healthy", *("yes" if results[test] else "NO" for test in questions))
        for patient, results in found.items()])


examined("Ada", "Bruno", questions={"ratio": "ratio is 1", "kl": "KL is 0"}, ratio=largest_ratio_error,
         kl=kl_per_response)

# %% [markdown]
# In one of them policy and reference still agree, as both are read in the same way. In the other even they do not.
#
# <details><summary>Ada: cause and cure (decide first)</summary>
#
# Somebody wanted tidier rollouts and lowered the temperature to 0.7, in one of two places:
#
# ```diff
# - rollout = sample(policy, asked, config.max_new_tokens, config.temperature)
# + rollout = sample(policy, asked, config.max_new_tokens, 0.7)
# - log_probs = rollout_log_probs(policy, rollout, config.temperature)
# + log_probs = rollout_log_probs(policy, rollout, 0.7)
# ```
#
# The old log-probabilities are those of a sharper policy than the one that is being trained. Many actions are clipped
# before anything has been learnt, and what is left pulls in a wrong direction. *Cure:* one temperature, from one
# setting, for sampling, old, new and reference log-probabilities. *The test:* P19,
# `test_p19_one_temperature_for_sampling_and_scoring`. The dashboard's other hint was the low entropy.
# </details>
#
# <details><summary>Bruno: cause and cure</summary>
#
# Dropout of 0.1 is on whenever the policy scores or learns (`policy.train()`, which every tutorial on supervised
# learning tells you to call). Every pass is another random network, so ratio *and* KL are noise from the start. *Cure:*
# `eval()`, or dropout 0, for all four models during RL. *The test:* P22, `test_p22_no_dropout_in_any_model_during_rl`.
#
# His reward keeps to the healthy band, and yet this is not harmless. In a small task the noise averages out, which is
# what makes such bugs live long; in a long run the clip throws away much of the data, and you pay for it.
# </details>
#
# ## Ward 2: signs

# %%
ward("Clara", "Daria", "Dov")

# %% [markdown]
# Dov is easy, and a gift: he does the opposite of what he is paid for. So does Daria, or so it seems; but compare her
# entropy and her KL with his. He falls apart. She gives bad service in good order, and a lot of it. Clara is not so
# easy. Judge by her reward alone: would you have sent her to a doctor? It is the rest of her chart that makes you
# wonder: KL, length, entropy.
#
# Let us take the reward away altogether. A policy is moved away from its reference, every score is 0, a nat costs 1
# point. One small step. The only force left is the KL penalty. **Predict:** what should it do?

# %%
for patient in (None, "Clara", "Daria", "Dov"):
    before, after = laboratory.kl_without_reward(patient)
    print(f"{patient or 'healthy':8s} exact KL before the step {before:.4f}, after it {after:.4f}: the penalty "
          f"{'pulls back' if after < before else 'PUSHES AWAY'}")

# %% [markdown]
# {{exercise 8.3}}
#
# What is wrong with Clara? One of `"kl price"` (a nat is too cheap), `"kl sign"` (the penalty is added instead of
# subtracted), `"reward sign"`, `"reference"` (it follows the policy), `"learning rate"` (too large).
#
# **What you should see:** a green mark; a wrong diagnosis is told why it does not fit.

# %%
### BEGIN SOLUTION
clara = "kl sign"
### END SOLUTION
clara = check("8.3", clara)

# %% [markdown]
# <details><summary>Clara, Daria and Dov: causes and cures</summary>
#
# **Clara.**
#
# ```diff
# - rewards = -kl_coef * (log_probs - ref_log_probs)
# + rewards = -kl_coef * (ref_log_probs - log_probs)
# ```
#
# She is *paid* for being far from the reference, and finds one answer that the reference would hardly ever give. *The
# test:* P1, `test_p01_without_reward_the_policy_returns_to_the_reference`.
#
# **Daria.** Two flips. Clara's, and then a minus before the whole sum, because somebody prefers costs to rewards:
#
# ```diff
# - rewards = -kl_coef * (log_probs - ref_log_probs);  rewards[last] += scores
# + costs = -kl_coef * (ref_log_probs - log_probs);  costs[last] += scores
# + rewards = -costs
# ```
#
# For the penalty the two flips cancel, for the score they do not. So she is held close to the reference, goes on
# speaking with a healthy entropy, and says what people like least. This is Ziegler and colleagues' bug of 2019. Turning
# the reward round would usually have made their text fall apart; but the same bug had turned the KL penalty round as
# well, so the text stayed natural and became as offensive as the labelers could rate it, overnight, while everybody
# slept. *The test:* P1, `test_p01_the_sign_of_the_advantage`. The curve that gives her away is the first one you would
# look at, if you were awake.
#
# **Dov.** The ratio is upside down, `old / new`. Its gradient points the other way, so whatever did well becomes rarer.
# *The test:* P1, `test_p01_the_sign_of_the_advantage`.
#
# *The cure for both* is not to stare at minus signs. Take one force away, and see which way the other one pushes.
# </details>
#
# ## Ward 3: right numbers, wrong places

# %%
ward("Edda", "Finn")

# %% [markdown]
# **Your diagnosis.** Little learnt, much entropy left: not much of the signal arrives. So far the two look alike. But
# look at the last column and compare the critics. Suppose one of them were *better* than the healthy ones. How can a
# good critic belong to a bad student?

# %%
examined("Edda", "Finn", questions={"score": "the score arrives on the last action",
                                    "value": "the value of a state ignores the token that comes next"})

# %% [markdown]
# <details><summary>Edda: cause and cure</summary>
#
# The score was written into the last *column* of the batch, `rewards[:, -1] += scores`. Only the longest answers of a
# batch reach that column. All others get their score on padding, and the mask takes it away: they are paid for the KL
# alone. *Cure:* find each row's last action from its mask. *The test:* P4,
# `test_p04_returns_are_the_score_minus_the_kl_to_go`. A cousin of this bug, the score one place *after* the end, stood
# in a well-known library for a long time.
# </details>
#
# <details><summary>Finn: cause and cure</summary>
#
# The value of token *t* must be read *before* token *t*, at place *t* − 1. Finn's is read one place later:
#
# ```diff
# - return values[:, rollout.prompt_length - 1:-1]
# + return values[:, rollout.prompt_length:]
# ```
#
# So the critic has seen what the apprentice said. It predicts the reward well, *because of the action*. What it has
# predicted is no surprise any more, the advantage of that action is nearly nothing, and the apprentice learns nothing
# from it. A metric that is too good is a symptom. *The test:* P3, `test_p03_a_value_does_not_know_the_token_it_judges`.
# </details>
#
# ## Ward 4: padding and endings

# %%
ward("Greta", "Hugo")
ended = [sum(entry["finished"] for entry in run[-4:]) / 4 for run in (*healthy, runs["Greta"], runs["Hugo"])]
print(f"Answers that come to an end by themselves: healthy {min(ended[:-2]):.0%} to {max(ended[:-2]):.0%}, Greta "
      f"{ended[-2]:.0%}, Hugo {ended[-1]:.0%}.")

# %% [markdown]
# **Your diagnosis of Greta?** If you see nothing in her curves, do not be ashamed. Her answers are short and her
# batches even. With longer answers and other batch mates the same bug does harm, in a way that depends on *who happens
# to share a batch with whom*. This is the kind that only a test finds, and the test is about a property:
#
# > **Whatever stands at padding, and however much padding there is, no number may change.**
#
# Write that test. It will be tried on healthy and on broken statistics, and it has to tell them apart.
#
# {{exercise 8.4}}
#
# **What you should see:** `masked_mean` is healthy: `False`. The plain mean is not: `True`. And the one that multiplies
# by its mask, which looks right to everybody, is not either.

# %%
def depends_on_padding(statistic, values: Float[Tensor, "rows columns"], mask: Bool[Tensor, "rows columns"]) -> bool:
    """Find out whether statistic(values, mask) changes with what stands at padding, or with how much there is of it."""
    ### BEGIN SOLUTION
    clean = torch.where(mask, values, 0.0)
    truth = statistic(clean, mask)
    others = [statistic(torch.where(mask, values, garbage), mask) for garbage in (100.0, float("nan"))]
    others.append(statistic(F.pad(clean, (0, 3)), F.pad(mask, (0, 3))))
    return not all(torch.allclose(other, truth, atol=1e-5) for other in others)
    ### END SOLUTION


depends_on_padding = check("8.4", depends_on_padding)
values = torch.tensor([[1.0, 4.0, 7.0], [2.0, 5.0, 5.0]])
mask = torch.tensor([[True, True, False], [True, False, False]])
for name, statistic in {"masked_mean": masked_mean, "plain mean": lambda v, m: v.mean(),
                        "times the mask": lambda v, m: (v * m).sum() / m.sum()}.items():
    print(f"{name:15s} depends on padding: {depends_on_padding(statistic, values, mask)}")
display(examined("Greta", questions={"padding": "padding is invisible to GAE and whitening"},
                 padding=depends_on_padding))

# %% [markdown]
# Hugo says the right words, and something about stopping is odd. Many libraries set `pad = end`, for want of a pad
# token. The filling of a row then looks exactly like its end, and whoever builds a mask by comparing ids has a problem
# to solve.
#
# {{exercise 8.5}}
#
# **What you should see:** in the row `tea, END, END, END` two tokens are actions: "tea", and the decision to stop.

# %%
def actions_of(responses: Int[Tensor, "batch response"], end: int) -> Bool[Tensor, "batch response"]:
    """Mark the sampled tokens, the first END among them, of rows that are filled up with END itself."""
    ### BEGIN SOLUTION
    is_end = (responses == end).long()
    return is_end.cumsum(dim=1) - is_end == 0
    ### END SOLUTION


actions_of = check("8.5", actions_of)
print(actions_of(torch.tensor([[3, END, END, END], [4, 3, 5, 5]]), END))
display(examined("Hugo", questions={"end": "a reward for stopping makes END likelier"}))

# %% [markdown]
# <details><summary>Greta and Hugo: causes and cures</summary>
#
# **Greta.** GAE and whitening got a mask of ones. The last action is then compared with the critic's opinion of a state
# *after* the end, which means nothing, and advantages are whitened over places where nobody acted. *Cure:* select with
# `where` before you add up anything, and stop at the last action. *The tests:* P6,
# `test_p06_garbage_at_padding_does_not_reach_gae`, and P34, `test_p34_whitening_sees_real_tokens_only`.
#
# **Hugo.** END has fallen out of the policy loss: the mask was `responses != pad`, and pad was END. He is trained on
# every word and never on stopping, so he stops by habit only. In long answers such a model never comes to an end. The
# library counts its mask while sampling and has a pad token of its own. *The test:* P8,
# `test_p08_end_is_the_last_action`.
# </details>
#
# ## Ward 5: wonderful curves

# %%
ward("Ines", "Jonas")

# %% [markdown]
# **Your diagnosis.** Two proud apprentices. One of them even reports *hardly any KL*: so much reward, at no distance
# from the reference! Which number of the dashboard do you not believe, and how would you check it?
#
# {{exercise 8.6}}
#
# **What you should see:** `False` for a model that is left alone, `True` as soon as one number of it has changed.

# %%
def moved(model: torch.nn.Module, train) -> bool:
    """Run train(model) and find out whether any weight of the model has changed."""
    ### BEGIN SOLUTION
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(model)
    return any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    ### END SOLUTION


moved = check("8.6", moved)
display(examined("Ines", "Jonas", questions={"moved": "the reference stays where it is"}, moved=moved))

# %% [markdown]
# And what do the customers think? In a simulated tea room we can ask for the truth, which training never saw.

# %%
curves = {"healthy": healthy[0], "Ines": runs["Ines"], "Jonas": runs["Jonas"]}
display(plots.learning_curves(curves, (("score", "reward", plots.COLOURS["reward"]),
                                       ("true", "truth", plots.COLOURS["oracle"])), same_scale=True))
best = max(run[-1]["true"] for run in healthy)
for name in ("Ines", "Jonas"):
    end = runs[name][-1]
    print(f"{name}: reward {end['score']:.2f} while the truth is {end['true']:.2f} "
          f"(healthy runs: truth up to {best:.2f}); the dashboard's KL says {end['kl']:.2f} nats.")
prompt = clinic.PROMPTS[0]
print("What both have found out: the reward pays for every further 'thanks'. "
      f"'tea thanks thanks thanks' earns {clinic.reward(prompt, [3, 5, 5, 5]):.2f}, "
      f"and the customer gives {clinic.true_score(prompt, [3, 5, 5, 5]):.2f}.")

# %% [markdown]
# <details><summary>Ines and Jonas: causes and cures</summary>
#
# **Ines.** Somebody averages the policy into the reference after every iteration. The KL is measured against
# yesterday's self, so it is small and the penalty holds nothing. *Cure:* a frozen copy; `train_ppo` refuses a reference
# that can be trained or shares weights. *The test:* P27, `test_p27_the_reference_never_moves`, your fingerprint.
#
# **Jonas.** His code is right. Every line. Somebody copied $\beta = 0.02$ from the paper, where a nat was paid in the
# units of *another* reward. Here it should cost ten times that. This is notebook 07's over-optimisation, and no unit
# test finds it: nothing is broken. *Cure:* give the reward a known unit (mean 0, deviation 1; P39 tests that it is done
# once and stays), sweep $\beta$, and have a second opinion on the truth that training does not see.
# </details>
#
# ## Ward 6: answers from another machine
#
# In large systems the answers are not written by the process that learns. An engine writes them, quickly, with a *copy*
# of the weights. The copy may be some steps old, and engines have settings of their own. The trainer then scores the
# answers with its own weights, so the ratio at step 0 is 1, and so it should be, shouldn't it?

# %%
ward("Kim", "Lena")

# %% [markdown]
# **Your diagnosis.** Old and new log-probabilities agree in both. What nobody has asked is whether the tokens were
# *drawn* from the policy that scores them. There is a beautiful way to ask without seeing the engine. A token's
# *surprise* is $-\log\pi(y_t)$, and if tokens are drawn from $\pi$ then surprise is, on average, exactly the *entropy*
# of $\pi$. Tokens that are too likely on average come from a sampler that has cut off the tail; tokens that surprise
# come from somebody else.
#
# {{exercise 8.7}}
#
# **What you should see:** two tokens with log-probabilities −0.5 and −2, from distributions of entropy 0.5 and 2: a gap
# of 0.

# %%
def surprise_gap(log_probs: Float[Tensor, "batch response"], entropy: Float[Tensor, "batch response"],
                 mask: Bool[Tensor, "batch response"]) -> Float[Tensor, ""]:
    """Compute the mean of surprise minus entropy over all actions, in nats per token."""
    ### BEGIN SOLUTION
    return torch.where(mask, -log_probs - entropy, 0.0).sum() / mask.sum()
    ### END SOLUTION


surprise_gap = check("8.7", surprise_gap)
print(surprise_gap(torch.tensor([[-0.5, -2.0]]), torch.tensor([[0.5, 2.0]]), torch.tensor([[True, True]])))
display(examined("Kim", "Lena", questions={
    "ratio": "ratio is 1", "sampler": "surprise is entropy, over three iterations", "reward": "reward pulls up"},
    sampler=surprise_gap))

# %% [markdown]
# And how bad is it? In a world of six words and answers of three we can compute the gradient over *infinitely many*
# answers of a stale or truncated sampler $\mu$, and hold it against the true one. What mends it, if anything, is to
# count each answer $\pi/\mu$ times: engines do report their log-probabilities.
#
# {{exercise 8.8}}
#
# **What you should see:** an answer of two tokens, each twice as likely under the policy as under the sampler, counts 4
# times, or 2 times if the cap is 2.

# %%
def answer_weights(log_probs: Float[Tensor, "batch response"], sampler_log_probs: Float[Tensor, "batch response"],
                   mask: Bool[Tensor, "batch response"], cap: float) -> Float[Tensor, "batch"]:
    """Compute how often each of the sampler's answers should count for the policy, at most `cap` times."""
    ### BEGIN SOLUTION
    return torch.where(mask, log_probs - sampler_log_probs, 0.0).sum(dim=1).exp().clamp(max=cap).detach()
    ### END SOLUTION


answer_weights = check("8.8", answer_weights)
twice = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.25]]).log(), torch.tensor([[True, True]])
print(answer_weights(*twice, cap=1000.0), answer_weights(*twice, cap=2.0))

# %%
order = clinic.PROMPTS[2]  # tea and a bun
world = tiny.make_world([order], len(clinic.WORDS), 3)
ref_log_probs = tiny.policy_log_probs(reference, world)[0].detach().double()
rewards = torch.tensor([clinic.reward(order, response) for response in world.responses]).double()
path = sampler.training_path(world, ref_log_probs, rewards, kl_coef=clinic.CONFIG.kl_coef)


def weigh(log_p, log_sampler, cap):
    """Your weights, for answers given as one number each."""
    return answer_weights(log_p[:, None], log_sampler[:, None], torch.ones(len(log_p), 1).bool(), cap)


found = sampler.survey(world, path, rewards, ref_log_probs.sum(dim=-1), clinic.CONFIG.kl_coef, weigh)
looks = {"stale": ("ppo", "-"), "stale, weights of at most 2": ("ppo", "--"), "stale, weighted": ("ppo", ":"),
         "top-p": ("reward", "-"), "top-p, weighted": ("reward", ":")}
display(plots.lines({"What is left of the gradient": found}, "KL between sampler and policy (nats per answer)",
                    "cosine with the exact gradient", looks, size=(8, 3.6), xlim=(0, 1), ylim=(0, 1.03)))
near = {name: ys[min(range(len(xs)), key=lambda i: abs(xs[i] - 0.5))] for name, (xs, ys) in found.items()}
print("At about half a nat: " + ", ".join(f"{name} {cosine:.2f}" for name, cosine in near.items()) + ".")

# %% [markdown]
# <details><summary>Kim and Lena: causes and cures</summary>
#
# **Kim.** Her answers come from weights that are eight iterations old. She is praised for what somebody else said.
# *Cure:* fresh weights before every batch; where that is too slow, weights $\pi/\mu$. They bring the direction back,
# exactly as long as nothing is capped, and nearly so with a cap of 2, which real systems need because a single answer
# could outweigh a batch. *The test:* P18, `test_p18_the_sampler_is_the_policy_that_learns`.
#
# **Lena.** Her engine samples with top-p 0.9: at every place only the likeliest tokens that together reach 90 % can be
# drawn. Many engines, and some checkpoints, bring such a setting along. No weight mends it, since an answer that is
# never written cannot be counted more often. What was cut off can never be praised; so even "reward pulls up" fails for
# her, as the rewarded word was among those cut off. *Cure:* top_p = 1, top_k off, temperature 1, and a test that the
# whole vocabulary can be drawn. *The test:* P18, `test_p18_rare_tokens_keep_their_chance`.
#
# Her reward keeps to the healthy band, and only her KL is a little high. Sharpening is a cheap way to a good average,
# until something new has to be learnt.
# </details>
#
# ## Which instrument sees what
#
# All thirteen on one page. On the left the curves: ▲ and ▼ where the last third of training lies clearly outside the
# healthy runs. On the right ten tests that need a batch or a step, a few seconds per patient; five of them are yours.
# **Predict:** is there a patient that only one of the two sides notices?

# %%
instruments = {"ratio": largest_ratio_error, "kl": kl_per_response, "padding": depends_on_padding, "moved": moved,
               "sampler": surprise_gap}
patients = list(runs)
results = {patient: laboratory.examine(patient, **instruments) for patient in patients}
signs = {patient: dashboard.compare(runs[patient], healthy) for patient in patients}
dashboard.which_instrument(signs, results)
plt.show()
quiet = [patient for patient in patients if not any(signs[patient][name][3] for name in clinic.VITALS)]
passed = [patient for patient in patients if all(results[patient].values())]
happy = [patient for patient in patients if signs[patient]["score"][3] > 0]
print(f"No curve of the dashboard stands out for: {', '.join(quiet) or 'nobody'}. All tests pass for: "
      f"{', '.join(passed) or 'nobody'}. Reward higher than in the healthy runs: {', '.join(happy) or 'nobody'}.")
unharmed = laboratory.examine(None, **instruments)
print(f"And the library itself, unharmed, passes {sum(unharmed.values())} of {len(unharmed)}.")

# %% [markdown]
# Read it by rows and by columns. A curve says *that* something is wrong, and seldom what: look how many patients share
# the same arrows. A test says *what*, but only what it was written for: these ten were chosen by people who knew the
# patients. (One bug may trip several: where half of the actions are clipped, END is not trained either.) And for the
# one whose code is right no test fails: his curves say that he went far, only the truth says that it was bad.
#
# ## The last patient
#
# No name, no ward, and a bug that none of the ten tests was written for. Here is what we know.

# %%
ward("the last patient")
results = laboratory.examine("the last patient", **instruments)
print(f"\nTests passed: {sum(results.values())} of {len(results)}.")
for patient in (None, "the last patient"):
    mean, deviation = laboratory.critic_errors(patient)
    print(f"{patient or 'healthy':17s} return minus value in a first batch, before any training: "
          f"mean {mean:+.3f}, standard deviation {deviation:.3f}")

# %% [markdown]
# {{exercise 8.9}}
#
# Name the bug: `"values late"` (read one token too late), `"pads"` (padding leaks into GAE), `"temperature"` (two of
# them), `"reference"` (it moves), `"end"` (END is not trained), `"score place"` (not on the last action), `"white
# targets"` (advantages are whitened before the critic's targets are computed).
#
# **What you should see:** a green mark, and after it an eleventh test, which the healthy pass and this patient fails.

# %%
### BEGIN SOLUTION
last_patient = "white targets"
### END SOLUTION
last_patient = check("8.9", last_patient)
for patient in (None, "the last patient"):
    print(f"{patient or 'healthy':17s} returns are what was earned, whatever the critic believes: "
          f"{'yes' if laboratory.returns_ignore_the_critic(patient) else 'NO'}")

# %% [markdown]
# <details><summary>The last patient: cause and cure</summary>
#
# `returns = whitened advantages + values`. The critic is asked to predict its own opinion plus noise of deviation 1,
# for ever: what it learns today moves tomorrow's target. The policy hardly notices at first, as its advantages are
# as they should be. *Cure:* returns first, whitening afterwards. *The test:* P37,
# `test_p37_old_numbers_stay_frozen_over_the_inner_epochs`, which asks for unwhitened advantages + old values.
# </details>
#
# All charts, for the record:

# %%
print("\n".join(f"{patient:17s} {case.pitfall:8s} {case.wrong}" for patient, case in clinic.CASES.items()))

# %% [markdown]
# ## What real systems do differently
#
# - They rarely have these tests. Most test suites of RLHF libraries check that a training run finishes and that *some
#   weights have changed*. Every patient of this clinic would pass that.
# - They have bugs of scale which a tea room has not: bfloat16 log-probabilities in the engine and float32 in the
#   trainer, several GPUs that disagree about a mean. Step-zero identities find many of these too.
# - Kim's illness is often chosen on purpose: asynchronous training writes the next answers while it still learns from
#   the last. Then the weights of exercise 8.8 are part of the loss, capped and per token.
# - They cannot ask for the truth. What they have instead: held-out human judgement, a second reward model, reading
#   samples.
# - InstructGPT reports none of its bugs. Ziegler and colleagues (2019) did, and helped everybody since.
#
# ## Key points
#
# - Before the first step the ratio is 1 and the KL is 0. One batch, one second; test it in every project.
# - Take one force away and see which way the other pushes. Signs are found by experiment, not by staring.
# - Ask where the answers came from. Surprise equals entropy, or somebody else has written them.
# - Padding must be invisible: garbage, NaN and extra columns change no number.
# - A metric that is too good is a symptom: a critic that has seen the answer, a KL that never grows, a reward that
#   soars.
# - When all tests pass and all curves are fine, the question left is whether the reward is what you want.
#
# **Next:** notebook 09 takes the same functions to a real language model, 10 shows what came after PPO.

# %%
progress("08")

# %% [markdown]
# ## Appendix: the pitfalls, from the tests
#
# Every way to get it silently wrong that this course knows, with the test that watches over it. The table is read from
# the tests' own docstrings (`tests/pitfalls`).

# %%
Markdown(laboratory.pitfalls_table())
