# %% [markdown]
# {{header}}

# %%
from dataclasses import asdict, replace

import torch
from IPython.display import HTML, display
from jaxtyping import Bool, Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import models, plots, ppo, ppo_math, stats
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises import check, my_model, my_model_page, progress, setup
from rlhf_lite.exercises.tea_room import CONFIG, KL_COEF, open_tea_room
from rlhf_lite.experiment import data, evaluate, temperatures
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, TEMPERATURE, default_recipe
from rlhf_lite.sampling import sample, take
from rlhf_lite.town.grading import grade
from rlhf_lite.widgets import measure as inside
from rlhf_lite.widgets.inspect_tokens import TokenInspector
from rlhf_lite.widgets.ranking import RankingWidget
from rlhf_lite.widgets.session import RankingSession
from rlhf_lite.widgets.simulated import simulate
from rlhf_lite.widgets.sliders import ClipSlider

lesson = setup("05b", strict=True)

# %% [markdown]
# ## Who holds which weights?
#
# In [05a](05a_ppo_in_a_world_of_six_tokens.ipynb) `train_ppo` found the best policy by itself. Now you take it apart.
# Four models are in the room; two of them learn, and it pays to know at every line which is which. (Bold words are in
# the [glossary](../docs/glossary.md), each with the paper's name and our function.)

# %%
plots.who_holds_what()

# %% [markdown]
# ## Inspect one
#
# Back to Pebbleford: the shipped SFT model, the shipped reward model, and two customers whom neither has met.

# %%
tokenizer, reward_model = lesson.tokenizer(), lesson.reward_model()
sft_policy = models.copy_model(lesson.policy("sft"), trainable=False)  # the reference
device = models.device_of(sft_policy)
requests = data.prompts_of("valid", 40)
by_length = sorted(requests, key=lambda prompt: len(prompt.text))
rollout = sample(sft_policy, data.encoded(tokenizer, [by_length[4], by_length[-10]]), 12, TEMPERATURE,
                 generator=torch.Generator(device=device).manual_seed(1))
for ids, mask in zip(rollout.sequences, rollout.attention_mask, strict=True):
    print(" | ".join(models.token_text(tokenizer, token).strip() or "↵" if real else "·"
                     for token, real in zip(ids.tolist(), mask.tolist(), strict=True)))
print(f"Prompts fill columns 0 to {rollout.prompt_length - 1}, padded on the left (a dot is padding), so that all "
      "answers start in the same column. A newline, ↵, ends the prompt.")

# %% [markdown]
# Everything in PPO hangs on one number: how likely was this token, given everything before it? Three things go wrong
# here all the time, and none of them raises an error: the shift, the padding, the temperature (the town samples at
# `TEMPERATURE`, see notebook 02, and tokens must be scored at the temperature at which they were drawn).
#
# The shift, in a picture: a model's logits at column t say what comes at column t + 1.

# %%
plots.token_shift(["BEGIN", "Who", "sells", "bread", "?", "↵"], ["The", "bakery", ".", "END"], left=2, right=1)

# %% [markdown]
# {{exercise 5.4}}
#
# **What you should see:** the same answer has the same log-probabilities with and without padding in front, to four
# decimals or better.

# %%
def token_log_probs(policy, sequences: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"],
                    prompt_length: int, temperature=1.0) -> Float[Tensor, "batch response"]:
    """Compute the log-probabilities of the response tokens, which begin at column `prompt_length`."""
    ### BEGIN SOLUTION
    logits = models.logits(policy, sequences, attention_mask)[:, prompt_length - 1:-1] / temperature
    return logits.log_softmax(dim=-1).gather(2, sequences[:, prompt_length:, None]).squeeze(2)
    ### END SOLUTION


token_log_probs = check("5.4", token_log_probs)
short = rollout.attention_mask[:, :rollout.prompt_length].sum(dim=1).argmin().item()
alone = take(rollout, [short])  # the row with the short prompt, its padding cut off
with torch.no_grad():
    padded, unpadded = (token_log_probs(sft_policy, rows.sequences, rows.attention_mask, rows.prompt_length,
                                        TEMPERATURE)[row] for rows, row in ((rollout, short), (alone, 0)))
for token, one, other in list(zip(alone.response_ids()[0], padded, unpadded, strict=False))[:6]:
    print(f"{models.token_text(tokenizer, token)!r:12} padded {one:8.4f}   alone {other:8.4f}   "
          f"probability {other.exp():.2f}")

# %% [markdown]
# ## A reward for every token
#
# The reward model reads a whole answer and gives one number. The penalty, on the other hand, belongs to each token:
# $\log\pi(y) - \log\pi_{ref}(y)$ is a sum over tokens, so each pays its own part, $-\beta(\log\pi_t -
# \log\pi_{ref,t})$. The score arrives with the last token.
#
# {{exercise 5.5}}
#
# **What you should see:** for an answer of two tokens with log-ratios 0.5 and −0.5, score 2 and $\beta = 0.1$ the
# rewards are −0.05 and 2.05; a third, padded column gets 0.

# %%
def shaped_rewards(scores: Float[Tensor, "batch"], log_probs: Float[Tensor, "batch response"],
                   ref_log_probs: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"], kl_coef: float
                   ) -> Float[Tensor, "batch response"]:
    """Give every token its reward: the price of leaving the reference and, at the last token, the score."""
    ### BEGIN SOLUTION
    rewards = torch.where(mask, -kl_coef * (log_probs - ref_log_probs), 0.0)
    rewards[torch.arange(len(mask)), ppo_math.last_action(mask)] += scores
    return rewards.detach()
    ### END SOLUTION


shaped_rewards = check("5.5", shaped_rewards)
mask = torch.tensor([[True, True, False]])
print(shaped_rewards(torch.tensor([2.0]), torch.tensor([[-1.0, -2.0, -9.0]]), torch.tensor([[-1.5, -1.5, -3.0]]), mask,
                     kl_coef=0.1))

# %% [markdown]
# ## Which token deserves the credit?
#
# The answer was good. Was it the name in the first line, or the thanks at the end? The critic helps: at every place it
# guesses how much reward is still to come, $V_t$. If the guess rises after a token, that token was good news. The
# surprise at token $t$ is $\delta_t = r_t + \gamma V_{t+1} - V_t$, and the advantage adds up the surprises from there
# on, each one step further away weighing $\gamma\lambda$ as much:
#
# $$A_t = \delta_t + \gamma\lambda\, A_{t+1}, \qquad \text{with } V = A = 0 \text{ after the last token.}$$
#
# With $\lambda = 1$ the critic only takes away noise, as in 05a. Below 1 its guesses also stand in for what really
# came: less noise still, but a critic that is wrong bends the way. InstructGPT does not discount, so $\gamma = 1$; its
# $\lambda$ is not in the paper, ours is 0.95.

# %%
rewards_by_hand, values_by_hand = [-0.1, 0.1, 1.0], [0.2, 0.5, 0.4]
plots.gae_timeline(rewards_by_hand, values_by_hand, lam=0.5)

# %% [markdown]
# {{exercise 5.6}}
#
# **What you should see:** all three positive, the last one the largest.

# %%
### BEGIN SOLUTION
advantages_by_hand = [0.35, 0.3, 0.6]
### END SOLUTION
advantages_by_hand = check("5.6", advantages_by_hand)
plots.gae_timeline(rewards_by_hand, values_by_hand, advantages_by_hand, lam=0.5)

# %% [markdown]
# {{exercise 5.7}}
#
# **What you should see:** your three numbers again, and the returns 0.55, 0.80 and 1.00: advantage plus value is what
# the critic should have said.

# %%
def gae(rewards: Float[Tensor, "batch response"], values: Float[Tensor, "batch response"],
        mask: Bool[Tensor, "batch response"], gamma=1.0, lam=0.95
        ) -> tuple[Float[Tensor, "batch response"], Float[Tensor, "batch response"]]:
    """Compute advantages and returns, both 0 at padding."""
    ### BEGIN SOLUTION
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    running, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0.0)
        next_value = values[:, t]
        advantages[:, t] = running
    return advantages, advantages + values
    ### END SOLUTION


gae = check("5.7", gae)
for part in gae(torch.tensor([rewards_by_hand]), torch.tensor([values_by_hand]), torch.ones(1, 3, dtype=torch.bool),
                lam=0.5):
    print(part)

# %% [markdown]
# And for a real answer: a short one of SFT's, with the reward model's score at its end. The critic has learnt nothing
# yet; it is a copy of the reward model, so before each token it says what it thinks of the answer so far. The
# arithmetic is the same.

# %%
short = sample(sft_policy, data.encoded(tokenizer, requests), MAX_NEW_TOKENS, TEMPERATURE,
               generator=torch.Generator(device=device).manual_seed(3))
short_scores, short_values = ppo.score_rollout(reward_model, short), ppo.rollout_values(reward_model, short)
nothing = torch.zeros_like(short_values)  # the policy is still the reference: no penalty
short_rewards = shaped_rewards(short_scores, nothing, nothing, short.response_mask, kl_coef=0.1)
short_advantages, _ = gae(short_rewards, short_values, short.response_mask)
fits = short.finished & (short.lengths >= 5) & (short.lengths <= 8)
row = int(torch.where(fits, short_scores, -1e9).argmax())  # the one that the reward model likes best
n = int(short.lengths[row])
words = [models.token_text(tokenizer, token).strip() or "↵" for token in short.response_ids()[row]]
above = int((short_advantages[row, :n] > 0).sum())
print(f"{requests[row].text}\nAt the start the critic expected {short_values[row, 0]:.2f}; the score at the end is "
      f"{short_scores[row]:.2f}. {above} of the {n} tokens have an advantage above 0.")
plots.gae_timeline(*(part[row, :n] for part in (short_rewards, short_values, short_advantages)), [*words[:-1], "END"])

# %% [markdown]
# ## Whitening
#
# Advantages come in whatever unit the reward model speaks. Brought to mean 0 and deviation 1 within each batch, they
# fit one learning rate. (Not in the paper; nearly everybody does it.)
#
# {{exercise 5.8}}
#
# **What you should see:** 1, 2, 3 and a padded 99 become −1.22, 0, 1.22 and 0.

# %%
def masked_whiten(values: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
                  shift_mean=True) -> Float[Tensor, "batch response"]:
    """Scale the True places to deviation 1, with shift_mean also to mean 0; elsewhere return 0."""
    ### BEGIN SOLUTION
    chosen = values[mask]
    centred = values - chosen.mean() if shift_mean else values
    return torch.where(mask, centred / (chosen.std(correction=0) + 1e-8), 0.0)
    ### END SOLUTION


masked_whiten = check("5.8", masked_whiten)
print(masked_whiten(torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[True, True, True, False]])))

# %% [markdown]
# {{exercise 5.9}}
#
# **What you should see:** two short answers that the critic had expected to earn nothing. The better one's tokens come
# out positive, the other one's negative, and the returns keep the unit of the scores.

# %%
def advantages_and_returns(scores: Float[Tensor, "batch"], log_probs: Float[Tensor, "batch response"],
                           ref_log_probs: Float[Tensor, "batch response"], values: Float[Tensor, "batch response"],
                           mask: Bool[Tensor, "batch response"], kl_coef: float
                           ) -> tuple[Float[Tensor, "batch response"], Float[Tensor, "batch response"]]:
    """Turn scores and what the models said into whitened advantages and returns; gamma and lam as above."""
    ### BEGIN SOLUTION
    rewards = shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = gae(rewards, values, mask)
    return masked_whiten(advantages, mask), returns
    ### END SOLUTION


advantages_and_returns = check("5.9", advantages_and_returns)
mask = torch.tensor([[True, True, True], [True, True, False]])
nothing = torch.zeros(2, 3)
for part in advantages_and_returns(torch.tensor([2.0, -1.0]), nothing, nothing, nothing, mask, 0.1):
    print(part)

# %% [markdown]
# ## A careful step
#
# Now make tokens with a positive advantage likelier, and the others less so. How much? The batch was sampled by the
# *old* policy and says little about a policy far from it. PPO's answer: follow the ratio $\rho = \pi_{new}/\pi_{old}$
# of each token only within $1 \pm 0.2$, and of the plain and the clipped loss always take the worse.
#
# {{exercise 5.10}}
#
# **What you should see:** in the picture, for a good token the loss falls until the ratio is 1.2 and is flat after
# that; for a bad one it falls towards the left and is flat below 0.8.

# %%
def policy_loss(log_probs: Float[Tensor, "batch response"], old_log_probs: Float[Tensor, "batch response"],
                advantages: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
                clip_range=0.2) -> Float[Tensor, ""]:
    """Compute PPO's clipped loss, a mean over the True places of the mask."""
    ### BEGIN SOLUTION
    ratio = (log_probs - old_log_probs).exp()
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
    return losses[mask].mean()
    ### END SOLUTION


policy_loss = check("5.10", policy_loss)
ratios, here = torch.linspace(0.4, 1.6, 121), torch.ones(1, 1, dtype=torch.bool)
losses = {advantage: [policy_loss(ratio.log().view(1, 1), torch.zeros(1, 1), torch.full((1, 1), advantage), here)
                      for ratio in ratios] for advantage in (1.0, -1.0)}
display(plots.clipped_loss(ratios, losses))
print("Reading: where the line is flat there is no gradient, so a token that has moved enough is left alone. On the "
      "other side it is not flat: a token that moved the wrong way can always come back.")

# %% [markdown]
# The critic learns from the same batch: its value should become the return. It starts as a copy of the reward model,
# as in the paper, and many implementations clip its steps too. (The paper does not say so; the clip is ours.)
#
# {{exercise 5.11}}
#
# **What you should see:** a critic that said 0, now says 0.5, and should say 1 has loss 0.32: half of $0.8^2$, because
# only 0.2 of its step counts.

# %%
def value_loss(values: Float[Tensor, "batch response"], old_values: Float[Tensor, "batch response"],
               returns: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
               clip_range=0.2) -> Float[Tensor, ""]:
    """Compute half the larger of the squared errors of the value and of the clipped value, a masked mean."""
    ### BEGIN SOLUTION
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    errors = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * errors[mask].mean()
    ### END SOLUTION


value_loss = check("5.11", value_loss)
print(value_loss(torch.full((1, 1), 0.5), torch.zeros(1, 1), torch.ones(1, 1), here))

# %% [markdown]
# ## One step
#
# A batch holds everything that stays fixed while the models move: the rollout, and the old log-probabilities, the old
# values, advantages and returns. `ppo.response_values(critic, rollout)` gives the (batch, R) values of the critic, each
# read one place *before* its token.
#
# {{exercise 5.12}}
#
# **What you should see:** the check takes three steps on one small batch. The first sees ratios of exactly 1; only
# from the second on does it matter that you kept the old log-probabilities.

# %%
def ppo_step(policy, critic, optimizers: list, batch) -> float:
    """Take one step of policy and critic on a batch, and return the loss.

    It has batch.rollout, and log_probs, values, advantages and returns as they were before the first step.
    """
    ### BEGIN SOLUTION
    rollout, mask = batch.rollout, batch.rollout.response_mask
    log_probs = token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    values = ppo.response_values(critic, rollout)
    loss = (policy_loss(log_probs, batch.log_probs, batch.advantages, mask)
            + value_loss(values, batch.values, batch.returns, mask))
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()
    ### END SOLUTION


ppo_step = check("5.12", ppo_step)

# %% [markdown]
# ## Your loop, where the answer is known
#
# That was the last piece. Below is the whole of PPO, and every function in it is one that you wrote (or the course's,
# where yours is not done yet). Back to the tea room of 05a: does it find $\pi^*$? This is how to test an RL loop: not
# "does the reward go up", which it also does with half the bugs in the world, but "does it arrive where it must".

# %%
def my_ppo(policy, reference, critic, prompts, reward_fn, iterations, lr, kl_coef, seed=0, look=None):
    """All of PPO. The learning rate warms up over three iterations, as the library's does above."""
    generator = torch.Generator().manual_seed(seed)
    optimizers = [torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.95)) for model in (policy, critic)]
    for iteration in range(iterations):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = lr * min(1.0, 0.1 + 0.3 * iteration)
        rollout = sample(policy, prompts * 256, max_new_tokens=3, generator=generator)
        with torch.no_grad():
            log_probs, ref_log_probs = (token_log_probs(model, rollout.sequences, rollout.attention_mask,
                                                        rollout.prompt_length) for model in (policy, reference))
            values = ppo.response_values(critic, rollout)
        advantages, returns = advantages_and_returns(reward_fn(rollout), log_probs, ref_log_probs, values,
                                                     rollout.response_mask, kl_coef)
        batch = ppo.Experience(rollout, log_probs, values, advantages, returns)
        for rows in torch.randperm(256, generator=generator).split(64):
            ppo_step(policy, critic, optimizers, batch.take(rows.numpy()))
        if look:
            look(policy, iteration + 1)


# %%
world, reference, scores, log_ref = open_tea_room()
log_best, _ = tiny.optimum(log_ref, scores, KL_COEF)
reward_fn, iterations = tiny.reward_function(world, scores), lesson.pick(30, 5)


def distance(policy):
    """Total variation from the best policy, exactly."""
    return tiny.total_variation(tiny.policy_log_probs(policy, world).sum(dim=-1).detach(), log_best).item()


def travel(loop):
    """The distances on the way, with large steps first and small ones after; loop(policy, critic, lr, seed, look)."""
    policy, critic = models.copy_model(reference), models.scalar_from_policy(reference, seed=0)
    way = [(0, distance(policy))]
    for lr in (1e-2, 1e-3):
        start = way[-1][0]
        loop(policy, critic, lr, start, lambda policy, i, start=start: way.append((start + i, distance(policy))))
    return way


# %%
mine = travel(lambda policy, critic, lr, seed, look: my_ppo(
    policy, reference, critic, world.prompts, reward_fn, iterations, lr, KL_COEF, seed, look))
library = travel(lambda policy, critic, lr, seed, look: ppo.train_ppo(
    policy, reference, critic, world.prompts, replace(CONFIG, iterations=iterations, lr=lr, critic_lr=lr, seed=seed),
    reward_fn, progress=False, evaluate_every=1, evaluate=lambda policy, i: look(policy, i) or {}))
display(plots.lines({"Two loops, one goal": {"the loop of this notebook": list(zip(*mine, strict=True)),
                                             "the library's loop": list(zip(*library, strict=True))}},
                    "iteration", "total variation from the best policy", ylim=(0, None)))
print(f"Both set out {mine[0][1]:.2f} from the best policy. Your loop ended at {mine[-1][1]:.2f}, the library's at "
      f"{library[-1][1]:.2f}.")

# %% [markdown]
# ## Before the first step in town
#
# Three things must hold before anything is trained, and they find most bugs within a second. The policy *is* the old
# policy, so every ratio is 1. It *is* the reference, so every KL is 0. The critic *is* the reward model, so at the last
# token both say the same.
#
# **Predict before you run:** how close to 1, 0 and 0 will these be? Think of padding, and of 32-bit numbers.

# %%
policy, critic = models.copy_model(sft_policy), models.copy_model(reward_model)
rollout = sample(policy, data.encoded(tokenizer, requests[:16]), MAX_NEW_TOKENS, TEMPERATURE,
                 generator=torch.Generator(device=device).manual_seed(2))
where = rollout.sequences, rollout.attention_mask, rollout.prompt_length
with torch.no_grad():
    old_log_probs = ppo.rollout_log_probs(policy, rollout, TEMPERATURE)  # in parts, rows of similar length together
    ratio = (token_log_probs(policy, *where, TEMPERATURE) - old_log_probs).exp()[rollout.response_mask]
    kl = (old_log_probs - ppo.rollout_log_probs(sft_policy, rollout, TEMPERATURE))[rollout.response_mask]
    critic_says = models.score_at_last(critic(rollout.sequences, rollout.attention_mask), rollout.attention_mask)
    reward_says = ppo.score_rollout(reward_model, rollout)
print(f"largest |ratio − 1|               {(ratio - 1).abs().max():.1e}")
print(f"largest |log π − log π_ref|       {kl.abs().max():.1e}")
print(f"largest |critic − reward model|   {(critic_says - reward_says).abs().max():.1e}")

# %% [markdown]
# ## The loop
#
# Everything is in place: `train_ppo` from the shipped SFT model, scores from the shipped reward model, a critic that
# starts as a copy of it. Every few iterations we put the same validation prompts to the policy and measure three
# things. The *proxy* is what the reward model says, what PPO works for. The KL is what it costs. The *true score* is
# the grading program's, which PPO never sees and which no real project has.
#
# **Predict before you run:** the proxy will rise, that is PPO's job. Will the true score follow?

# %%
asked = data.prompts_of("valid", lesson.pick(150, 12))
asked_ids = data.encoded(tokenizer, asked)
recipe = default_recipe().ppo
config = replace(recipe, iterations=lesson.pick(50, 3), batch_size=lesson.pick(recipe.batch_size, 16))
settings = ("iterations", "batch_size", "minibatch", "kl_coef", "lr", "clip_range", "lam", "temperature")
print({name: asdict(config)[name] for name in settings})

# %%
def measure(policy):
    """One sampled answer per validation prompt -> proxy, KL and true score of each."""
    rollout = sample(policy, asked_ids, MAX_NEW_TOKENS, TEMPERATURE,
                     generator=torch.Generator(device=device).manual_seed(7))
    log_ratio = (ppo.rollout_log_probs(policy, rollout, TEMPERATURE)
                 - ppo.rollout_log_probs(sft_policy, rollout, TEMPERATURE))
    texts = [models.decode_response(tokenizer, ids) for ids in rollout.response_ids()]
    graded = [grade(prompt, text, finished) for prompt, text, finished in zip(
        asked, texts, rollout.finished.tolist(), strict=True)]
    return {"proxy": ppo.score_rollout(reward_model, rollout),
            "kl": torch.where(rollout.response_mask, log_ratio, 0.0).sum(dim=1),
            "true": torch.tensor([g.score for g in graded])}


# %%
TITLES = {"proxy": "Proxy: the reward model's score", "kl": "KL from SFT, nats per answer",
          "true": "True score (0–1), which PPO never sees"}
curve, rows = [], []


def watch(policy, iteration):
    """Called by the loop: measure -> the picture so far."""
    found = measure(policy)
    curve.append((iteration, found))
    rows.append({"iteration": iteration} | {
        name: stats.mean_interval(found[name].tolist(), method="normal") for name in TITLES})
    return plots.training_curves({"ppo": rows}, TITLES)


picture = display(watch(policy, 0), display_id=True)
run = ppo.train_ppo(policy, sft_policy, critic, data.encoded(tokenizer, data.prompts_of("train")), config,
                    reward_fn=reward_model, evaluate_every=lesson.pick(5, 3),
                    evaluate=lambda policy, iteration: picture.update(watch(policy, iteration)) or {})

# %%
def change(name, before, after):
    """The mean change of a measure over the same prompts, with its interval, and what to call it."""
    interval = stats.mean_interval((after[name] - before[name]).tolist())
    word = "up" if interval.low > 0 else "down" if interval.high < 0 else "not clearly changed"
    return f"{word} ({interval.value:+.2f}, 95 % interval {interval.low:+.2f} to {interval.high:+.2f})", word


proxy_change, _ = change("proxy", curve[0][1], curve[-1][1])
true_change, direction = change("true", curve[0][1], curve[-1][1])
print(f"After {run.history[-1]['iteration']} iterations, on {len(asked)} prompts of customers it was not trained on: "
      f"the proxy is {proxy_change}, the true score {true_change}, at a KL of {curve[-1][1]['kl'].mean():.1f} nats.")
print({"up": "The truth follows the proxy.",
       "down": "The truth went the other way: that is over-optimisation, and notebook 07 is about it.",
       "not clearly changed": "With so few prompts that is no verdict on the truth; notebook 06 measures it properly."}
      [direction])

# %% [markdown]
# What was it like inside? The loop keeps a diary. A small `clipfrac` means careful steps; `max_ratio` is the one token
# that moved most, and may well lie outside the clip range. `explained_variance` rising towards 1 means that the critic
# has learnt to guess. (KL and entropy are in nats: the KL per answer, the entropy per token.)

# %%
columns = ("iteration", "score", "kl", "entropy", "clipfrac", "max_ratio", "explained_variance", "length", "finished")
display(plots.table(columns, [
    [entry["iteration"], *(f"{entry[name]:.3f}" for name in columns[1:])]
    for entry in run.history[::max(1, len(run.history) // 8)]]))

# %% [markdown]
# ## What did PPO learn?
#
# InstructGPT did not keep the last weights but a running average of them (decay 0.992 per step), and so do we:
# `run.ema`. First the question that is asked too rarely: how much of the change is only that the model *slips* less
# often? A lower temperature brings that for nothing (notebook 02), to SFT just as well. So let both answer at several
# temperatures.
#
# **Predict before you run:** where will the two curves be further apart, at temperature 1 or near 0?

# %%
stages, table = {"sft": sft_policy, "ppo": run.ema}, {}
for stage, model in stages.items():
    heat_curve = temperatures.temperature_curve(stage, model, tokenizer, asked, progress=False)
    table[stage] = {"curve": heat_curve, "best": temperatures.best_temperature(heat_curve)}
display(plots.temperatures(table))
fresh = data.prompts_of("valid", 2 * len(asked))[len(asked):]  # the best temperature was chosen on the others
met = {"both at temperature 1": (1.0, 1.0), f"both at {TEMPERATURE}, as PPO sampled": (TEMPERATURE, TEMPERATURE),
       "each at its best": tuple(table[stage]["best"] for stage in stages)}
for name, heats in met.items():
    pair = [[{"set": "mixed", **row} for row in answer_rows(model, tokenizer, fresh, seed=3, progress=False,
                                                           **temperatures.at(heat))]
            for model, heat in zip(stages.values(), heats, strict=True)]
    met[name] = pair
    step = stats.mean_interval([b["grade"].score - a["grade"].score for a, b in zip(*pair, strict=True)])
    wins = stats.mean_interval(evaluate.preferences(pair[1], pair[0]))
    said = "PPO is better" if step.low > 0 else "PPO is worse" if step.high < 0 else "that could be chance"
    print(f"{name}: PPO minus SFT {step.value:+.3f} ({step.low:+.3f} to {step.high:+.3f}), {said}; preferred in "
          f"{100 * wins.value:.0f} % ({100 * wins.low:.0f} to {100 * wins.high:.0f}).")

# %% [markdown]
# One pair of models, three comparisons: whoever quotes one line has chosen the temperature along with it. Both curves
# fall steeply towards temperature 1, where most of what goes wrong is a slip of sampling, in either model; a policy
# that is merely surer of itself (the entropy in the diary) would win there without knowing more. The last line is the
# fair one: each model is used as well as it can be, at a temperature that was chosen on other prompts. With 150 prompts
# a step of 0.05 is hard to see; notebook 06 asks more of them, and prints every win rate twice.
#
# Now read. Both at the temperature of training: the largest gains, the largest losses, and some pairs drawn blindly,
# with the grading program's opinion (which you need not share).

# %%
before, after = met[f"both at {TEMPERATURE}, as PPO sampled"]
by_gain = sorted((i for i in range(len(fresh)) if before[i]["response"] != after[i]["response"]),
                 key=lambda i: before[i]["grade"].score - after[i]["grade"].score)
gains, losses = by_gain[:3], by_gain[3:][-3:]
drawn = torch.randperm(len(fresh), generator=torch.Generator().manual_seed(5)).tolist()
some = [i for i in drawn if i not in gains + losses][:4]
places = [(name, i) for name, rows in (("largest gains", gains), ("largest losses", losses), ("at random", some))
          for i in rows]
display(plots.answers({stage: [rows[i] for _, i in places] for stage, rows in (("SFT", before), ("PPO", after))},
                      [f"{name}: {fresh[i].text}" for name, i in places]))
better, worse = (sum(sign * (a["grade"].score - b["grade"].score) > 0 for b, a in zip(before, after, strict=True))
                 for sign in (1, -1))
print(f"Of {len(fresh)} answers {better} are graded better after PPO, {worse} worse, the others the same.")

# %% [markdown]
# ## One answer, token by token
#
# The picture to show a colleague. One good answer of the trained policy (7 of 7 by the grading program; of those with
# praise and blame in them, the one that has become likeliest), and above each token four numbers: the log-ratio to the
# reference (blue: likelier than before; summed along the row it is this answer's estimate of the KL), the reward it was
# paid, the critic's value just before it, and the advantage, whitened within its batch: PPO would now make the blue
# tokens likelier and the red ones less so.
#
# **Predict before you run:** in which column will the reward be large? And can a token have a large advantage although
# its own reward is nearly 0?

# %%
rollout = sample(policy, asked_ids, MAX_NEW_TOKENS, TEMPERATURE,
                 generator=torch.Generator(device=device).manual_seed(4))
log_probs, ref_log_probs = (ppo.rollout_log_probs(model, rollout, TEMPERATURE) for model in (policy, sft_policy))
values, answer_scores = ppo.rollout_values(critic, rollout), ppo.score_rollout(reward_model, rollout)
rewards = shaped_rewards(answer_scores, log_probs, ref_log_probs, rollout.response_mask, config.kl_coef)
advantages = masked_whiten(gae(rewards, values, rollout.response_mask)[0], rollout.response_mask)
log_ratio = torch.where(rollout.response_mask, log_probs - ref_log_probs, 0.0)
texts = [models.decode_response(tokenizer, ids) for ids in rollout.response_ids()]
good = torch.tensor([grade(prompt, text).overall == 7 for prompt, text in zip(asked, texts, strict=True)])
mixed = (advantages > 0.2).any(dim=1) & (advantages < -0.2).any(dim=1)  # some tokens praised, some blamed
fits = rollout.finished & (rollout.lengths >= 6) & (rollout.lengths <= 15)
fits = next(rows for rows in (fits & good.to(device) & mixed, fits, rollout.lengths > 0) if rows.any())
row = int(torch.where(fits, log_ratio.sum(dim=1), -1e9).argmax())  # the one that has become likeliest

# %%
n = min(int(rollout.lengths[row]), 15)
ids = rollout.response_ids()[row][:n]
words = [models.token_text(tokenizer, token).replace("\n", "↵") for token in ids]
words[-1] = "END" if ids[-1] == models.END else words[-1]
told = {"log-ratio": log_ratio, "reward": rewards, "value": values, "advantage": advantages}
told = {name: tensor[row, :n].cpu() for name, tensor in told.items()}
display(plots.token_rows(
    told, words, f"{asked[row].text}\n(each row has its own scale: blue above 0, red below)", own_scale=True))
at, up, down = (int(place) for place in (
    told["log-ratio"].abs().argmax(), told["advantage"].argmax(), told["advantage"].argmin()))
print(f"The score of this answer is {answer_scores[row]:.2f}, its log-ratio adds up to {log_ratio[row].sum():.2f} "
      f"nats. The policy moved most at {words[at]!r} ({told['log-ratio'][at]:+.2f} nats: "
      f"{'likelier' if told['log-ratio'][at] > 0 else 'less likely'} than under SFT). The best news was {words[up]!r}, "
      f"with an advantage of {told['advantage'][up]:+.2f} and a reward of {told['reward'][up]:+.2f} of its own; the "
      f"worst was {words[down]!r} ({told['advantage'][down]:+.2f}, and {told['reward'][down]:+.2f} of its own).")

# %% [markdown]
# Read the last row from right to left. An advantage adds up the surprises from its token on, so a token that left the
# reference and paid for it casts a shadow over all that come before it, and the score at the end lights up the tokens
# that led to it. Where the value rises from one token to the next, the critic has heard good news.

# %% [markdown]
# ## Look inside
#
# That was one answer. Here is an instrument for any other: change the request or the seed, run the cell, and step
# through the tokens with the slider. At each place you see what the policy and SFT would have said instead.

# %%
TokenInspector(inside.trace(policy, sft_policy, reward_model, tokenizer, "Write a thank-you note to Felix for the cap.",
                            critic, config.kl_coef, temperature=TEMPERATURE, seed=1))

# %% [markdown]
# And here are real ratios. The answers are SFT's, the new policy is yours: as if all of this training had been a single
# update. *Predict:* how many tokens would a clip range of 0.2 silence? Then move the slider.

# %%
ClipSlider(*inside.ratios(sft_policy, policy, sft_policy, reward_model, tokenizer,
                          [prompt.text for prompt in data.prompts_of("valid", lesson.pick(100, 16))], critic,
                          config.kl_coef, temperature=TEMPERATURE))

# %% [markdown]
# ## Your own feedback, your own model
#
# Rank twenty prompts. Three come twice, which measures how far you agree with yourself. Then two reward models learn
# from your rankings, alone and on top of the shipped one, and PPO follows the one that predicts you better.
# *Predict:* what will your model do more of? If you rank nothing, a simulated stand-in who likes short answers
# does it for you.

# %%
items = my_model.to_rank(lesson.policy("sft"), tokenizer, n=lesson.pick(20, 8), progress=False)
session = RankingSession(items, repeats=3)  # asks for your name, once; or give it: RankingSession(items, "Ada L", ...)
RankingWidget(session)

# %%
mine = session.rankings()
if len(my_model.first_time(mine)) < len(items):
    print("Not all is ranked yet, so a simulated stand-in who likes short answers takes your place.")
    stand_in = RankingSession(items, "stand-in", repeats=3)
    simulate(stand_in, my_model.taste("short", mood=1))
    mine = stand_in.rankings()
dials = my_model.OwnConfig()
if lesson.fast:
    dials = replace(dials, folds=2, looks=12, ppo=replace(dials.ppo, iterations=2, batch_size=16, minibatch=16))
# a neighbour's file: neighbour=my_model.rankings("runs/feedback/bo.jsonl")
found = my_model.drive(mine, lesson.policy("sft"), lesson.reward_model(), tokenizer, dials)
my_model_page.save(found, "runs/own/page.html")
HTML(my_model_page.html(found, shown=6))

# %%
for name, (before, after, step) in my_model.changes(found).items():
    verdict = "more" if step.low > 0 else "less" if step.high < 0 else "no clear change"
    print(f"{name}: {before:.2f} before, {after:.2f} after: {verdict}")
truth = my_model.changes(found)["true score"][2]
if truth.high < 0:
    print("The true score fell: the model gives this person what they rank high, and pays with what nobody ranked.")

# %% [markdown]
# Twenty rankings are few: a taste that shows in every answer (short or long) is learnt, one that shows in few of them
# (a polite word here and there) is not. The paper's labelers ranked the answers to 33,000 prompts.
#
# ## What real systems do differently
#
# - InstructGPT: 256,000 episodes in batches of 512, $\beta = 0.02$ throughout (its predecessor let a slow controller
#   find the price for a KL that it named: `ppo_math.adaptive_kl`), clip 0.2, one pass over each batch, no discount, a
#   critic of 6B that starts as the reward model. It samples at temperature 1, where large models slip far less than
#   ours. GAE's $\lambda$, whitening and a clipped value loss are not in the paper. Nor is our $\beta$ comparable with
#   0.02: our reward model speaks in another unit.
# - Sampling takes most of the time of a large run, so it has an engine of its own; log-probabilities are then computed
#   again by the training code, because the two never agree to the last digit.
# - Many systems now drop the critic and compare several answers to one prompt instead (RLOO, GRPO): notebook 10.
# - PPO-ptx, InstructGPT's final model, adds gradients of ordinary web text to every step: notebook 06.
#
# ## Key points
#
# - Policy and critic learn; reference and reward model only answer questions.
# - Every token pays for leaving the reference, the last one also gets the score, and neither carries a gradient.
# - Do not ask whether the reward goes up. In a small world, test that your loop arrives where it must.
# - Shift once, mask everywhere, whiten after the returns, take the worse of two losses.
# - Before the first step: ratio 1, KL 0, critic = reward model. After the last: is the gain more than fewer slips?
#
# **Next:** are the answers better now, and more truthful, and more polite? And what did it cost? That is 06.

# %%
progress("05")
