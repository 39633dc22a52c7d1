# %% [markdown]
# {{header}}

# %%
from dataclasses import replace

import torch
from IPython.display import display
from jaxtyping import Float  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor

from rlhf_lite import models, plots, ppo, ppo_math, stats
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.exercises.tea_room import CONFIG, KL_COEF, moved, open_tea_room, say
from rlhf_lite.widgets.best_policy import BestPolicySlider

lesson = setup("05a", strict=True)

# %% [markdown]
# ## One line to maximise
#
# Notebook 02 gave us a **policy**, a model that answers (SFT), notebook 04 a **reward model** that has seen what people
# prefer. The third step of InstructGPT puts the two together. Let the policy answer (one request with one sampled
# answer is an **episode**, a batch of them a **rollout**), let the reward model score, and make high scores likelier.
# But the reward model has only seen answers that look like SFT's, so every step away from SFT is charged (equation 2
# of the paper, here without its last term):
#
# $$\text{maximise}\quad \mathbb{E}_{y\sim\pi}\Big[ r(x, y) - \beta \log\frac{\pi(y\mid x)}{\pi_{ref}(y\mid x)} \Big]$$
#
# The **reference** $\pi_{ref}$ is the SFT model, frozen. The mean of that log-ratio is the **KL divergence** from the
# reference, counted in **nats** (bits with natural logarithms: a response that has become $e$ times likelier is one nat
# away), so $\beta$ is the price of one nat. That is all of it. The rest of 05 is about *reaching* that maximum, and
# about knowing that you did: PPO is famous for running happily with a bug in it. So we start where every number can be
# checked, and go to town in [05b](05b_ppo_in_the_town.ipynb).
#
# Words in bold are in the [glossary](../docs/glossary.md), each with the paper's name and our function.
#
# ## Inspect one
#
# At the tea room's counter in Pebbleford stands an apprentice who knows six tokens (um, er, END, tea, bun, thanks) and
# says at most three of them. Ids 0 and 1 are PAD and BEGIN; nothing keeps a policy from choosing them, and to the
# customer they sound like "um" and "er". The customer's score: 1 for a bun, ½ each for tea, for thanks and for coming
# to an end; minus 1 for every "um" or "er", minus ½ for saying a thing again.

# %%
room = open_tea_room()
world, reference, scores, log_ref = room  # scores and log_ref: (prompts, responses); there is one prompt
print(len(world.responses), "responses, and no others. What the apprentice says most often:")
for row in log_ref[0].topk(6).indices:
    print(f"   {say(world.responses[row]):14s} probability {log_ref[0, row].exp():.3f}   score {scores[0, row]:+.1f}")
print(f"Mean score: {tiny.expected(log_ref, scores).item():.2f}. A sum over everything, no sampling, no error bar.")

# %% [markdown]
# ## How far is far?
#
# Suppose training has turned the apprentice into somebody else. The distance that counts is
# $\text{KL}(\pi\,\|\,\pi_{ref})$, the mean of $\log\pi - \log\pi_{ref}$ over what the *new* policy says. Here it can
# be summed exactly. A language model has more answers than there are atoms, so it must be estimated from samples, and
# three estimators are in use. With $d = \log\pi(y) - \log\pi_{ref}(y)$ they are $k_1 = d$, $\;k_2 = \tfrac12 d^2$ and
# $\;k_3 = e^{-d} - 1 + d$.
#
# {{exercise 5.1}}
#
# **What you should see:** for a response that the policy finds twice as likely as the reference does, k1 = 0.69,
# k2 = 0.24, k3 = 0.19.

# %%
def kl_estimators(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]
                  ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Compute k1, k2 and k3 from the log-probabilities of sampled responses under policy and reference."""
    ### BEGIN SOLUTION
    d = log_probs - ref_log_probs
    return d, 0.5 * d ** 2, torch.expm1(-d) + d
    ### END SOLUTION


kl_estimators = check("5.1", kl_estimators)
print([round(k.item(), 2) for k in kl_estimators(torch.tensor(0.5).log(), torch.tensor(0.25).log())])

# %% [markdown]
# Now two policies whose distance we know: apprentices whose weights have been moved a part of the way, and all the way,
# to a stranger's. From each, 10,000 sampled responses.
#
# **Predict before you run:** which of the three can be negative for a single response? Which is right on average? And
# which has the smallest spread: for a policy close to the reference, and for one far away?

# %%
generator = torch.Generator().manual_seed(0)
means = {}
for name, share in (("Close to the reference", 0.2), ("Far from it", 1.0)):
    log_p = tiny.policy_log_probs(moved(reference, share), world).sum(dim=-1).detach()
    exact = tiny.kl(log_p, log_ref).item()
    draws = torch.multinomial(log_p[0].exp(), 10_000, replacement=True, generator=generator)
    found = dict(zip(("k1", "k2", "k3"), kl_estimators(log_p[0, draws], log_ref[0, draws]), strict=True))
    counts = torch.arange(1, len(draws) + 1)
    means[name] = {k: (counts[9:], (values.cumsum(0) / counts)[9:]) for k, values in found.items()}
    means[name]["exact"] = counts[[9, -1]], [exact, exact]
    print(f"{name}: exact KL {exact:.3f} nats.  " + "  ".join(
        f"{k}: mean {values.mean():.3f}, spread {values.std():.2f}, smallest {values.min():.2f}."
        for k, values in found.items()))
display(plots.lines(means, "responses sampled so far", "running mean (nats)", xscale="log", looks={
    "k1": ("ppo", "-"), "k2": ("sft", "-."), "k3": ("ppo_ptx", ":"), "exact": ("oracle", "--")}))

# %% [markdown]
# k1 and k3 settle on the dashed line, k2 on a line of its own as soon as the policies differ much. Only k1 is ever
# negative. Close to the reference k3 has by far the smaller spread of the two; far from it that advantage goes.
#
# ## A good estimate, a bad slope
#
# Why then does InstructGPT put the noisy k1 into the *reward*, instead of adding a calm k3 to the *loss*? Because a
# good estimate of a value may be a bad one of a gradient. Here we can compute, without sampling, the gradient that each
# of the three would give as a loss, and lay it beside the gradients of the two KLs: the one we want, KL(π‖ref), and the
# one with the roles exchanged, KL(ref‖π). A cosine of 1 means the same direction, a length of 1 the same size.
#
# **Predict before you run:** which of the three pulls exactly as KL(π‖ref) does?

# %%
policy = moved(reference, 1.0)
weights = list(policy.parameters())
log_p = tiny.policy_log_probs(policy, world).sum(dim=-1)
wanted = {"KL(π‖ref)": tiny.gradient(tiny.kl(log_p, log_ref).sum(), weights),
          "KL(ref‖π)": tiny.gradient(tiny.kl(log_ref, log_p).sum(), weights)}
rows = []
for name, k in zip(("k1", "k2", "k3"), kl_estimators(log_p, log_ref), strict=True):
    pull = tiny.gradient((log_p.detach().exp() * k).sum(), weights)  # averaged over what the policy says
    length = pull.norm() / wanted["KL(π‖ref)"].norm()
    cosines = [f"{torch.cosine_similarity(pull, true, dim=0):.3f}" if length > 1e-3 else "–"
               for true in wanted.values()]
    lengths = [f"{pull.norm() / true.norm():.2f}" for true in wanted.values()]
    value = tiny.expected(log_p, k).item()
    rows.append((name, f"{value:.3f}", *(f"{c}  ({n})" for c, n in zip(cosines, lengths, strict=True))))
print(f"The KL itself: {tiny.kl(log_p, log_ref).item():.3f} nats.")
display(plots.table(("as a loss", "its mean", *(f"cosine with ∇{name} (length)" for name in wanted)), rows))

# %% [markdown]
# - **k1** has the right mean and, as a loss, no pull at all: $\nabla\log\pi$ averages to 0 over what the policy says.
#   Nothing warns you.
# - **k2** has the wrong mean and exactly the right gradient: the derivative of $\tfrac12 d^2$ is
#   $d\,\nabla\log\pi$, whose mean over π is the gradient of KL(π‖ref).
# - **k3** has the right mean and exactly the gradient of the *other* KL: the derivative of $e^{-d} + d$ is
#   $(1 - \pi_{ref}/\pi)\,\nabla\log\pi$, whose mean over π is minus that of $\nabla\log\pi$ over $\pi_{ref}$.
#
# So k2 may be a loss, k3 as a loss charges for something else, and in the *reward* k1 is exactly right. There we put
# it, as the paper does.
#
# ## The best policy there is
#
# Equation 2 can be solved on paper. Its maximum is a tilted reference,
#
# $$\pi^*(y) = \frac{\pi_{ref}(y)\, e^{r(y)/\beta}}{Z}, \qquad Z = \sum_y \pi_{ref}(y)\, e^{r(y)/\beta},
# \qquad \text{and its value is } \beta\log Z .$$
#
# {{exercise 5.2}}
#
# **What you should see:** two equally likely responses with scores 1 and 0 get 0.73 and 0.27 at $\beta=1$; the value is
# $\ln\frac{e+1}{2} = 0.62$.

# %%
def optimum(log_ref: Float[Tensor, "*prompts responses"], scores: Float[Tensor, "*prompts responses"], kl_coef: float
            ) -> tuple[Float[Tensor, "*prompts responses"], Float[Tensor, "*prompts"]]:
    """Find the log-probabilities of the best policy, and its value for every prompt."""
    ### BEGIN SOLUTION
    tilted = log_ref + scores / kl_coef
    log_z = tilted.logsumexp(dim=-1)
    return tilted - log_z[..., None], kl_coef * log_z
    ### END SOLUTION


optimum = check("5.2", optimum)
best, value = optimum(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]), 1.0)
print(best.exp(), value)

# %% [markdown]
# **Predict before you move the slider:** with a price of 2 points per nat, will the apprentice still mumble? With 0.1?

# %%
BestPolicySlider([say(response) for response in world.responses], scores[0], log_ref[0])

# %%
for price in (2.0, KL_COEF, 0.1):
    log_best, value = optimum(log_ref, scores, price)
    mumbles = sum(p for p, ids in zip(log_best[0].exp().tolist(), world.responses, strict=True) if min(ids) < 2)
    net = (scores - price * (log_best - log_ref))[0]
    print(f"price {price:g}: mean score {tiny.expected(log_best, scores).item():.2f}, KL "
          f"{tiny.kl(log_best, log_ref).item():.2f} nats, value {value.item():.2f}; um or er in {mumbles:.0%} of the "
          f"responses; score minus penalty from {net.min():.2f} to {net.max():.2f}")

# %% [markdown]
# The dearer the nat, the more the best policy sounds like the reference. And something else, easy to miss: under
# $\pi^*$, the score minus the penalty, $r - \beta\log(\pi^*/\pi_{ref})$, is *the same number* for every response,
# $\beta\log Z$ (the last two numbers of each line agree). Nothing is left to gain anywhere. Keep that in mind for the
# picture of PPO below.
#
# ## Uphill, without a map
#
# The mean score is a sum over all responses, $\mathbb{E}[r] = \sum_y \pi(y)\,r(y)$. In town nobody can list them. But
# $\nabla\pi = \pi\,\nabla\log\pi$ (the derivative of a logarithm, read backwards), and so
#
# $$\nabla\,\mathbb{E}[r] = \sum_y r(y)\,\nabla\pi(y) = \mathbb{E}_{y\sim\pi}\big[\,r(y)\,\nabla\log\pi(y)\,\big],$$
#
# a mean over what the policy says anyway. Sample, score, and make each answer likelier by as much as it scored: that is
# the **policy gradient** (REINFORCE, 1992). The reward needs no gradient; it may be a program, or a person. All that
# follows serves this one line: the **critic**, a model that guesses the score in advance, takes away noise, and PPO's
# ratio of new to old probability lets one rollout serve several steps.
#
# {{exercise 5.3}}
#
# **What you should see:** the more responses you sample, the better the gradient agrees with the exact one.

# %%
def policy_gradient_loss(log_probs: Float[Tensor, "batch"], scores: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Compute a loss from sampled responses. Going *down* its gradient must be going up the mean score."""
    ### BEGIN SOLUTION
    return -(scores * log_probs).mean()
    ### END SOLUTION


policy_gradient_loss = check("5.3", policy_gradient_loss)
log_p = tiny.policy_log_probs(policy, world).sum(dim=-1)
uphill = tiny.gradient(tiny.expected(log_p, scores).sum(), weights)
for n in (8, 128, 2048, 32768):
    drawn = torch.multinomial(log_p[0].detach().exp(), n, replacement=True, generator=generator)
    step = tiny.gradient(-policy_gradient_loss(log_p[0, drawn], scores[0, drawn]), weights)
    print(f"{n:6d} responses: cosine with the exact gradient {torch.cosine_similarity(step, uphill, dim=0).item():.3f}")

# %% [markdown]
# That loss alone can train. Forty steps of it, each on 256 fresh responses, with the price of the KL taken off each
# score (the reward is $r - \beta d$, and $d$ is a number here, without a gradient):

# %%
policy, step_by_step = models.copy_model(reference), []
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
for _ in range(lesson.pick(40, 5)):
    log_p = tiny.policy_log_probs(policy, world).sum(dim=-1)
    step_by_step.append(tiny.objective(log_p, log_ref, scores, KL_COEF).item())
    drawn = torch.multinomial(log_p[0].detach().exp(), 256, replacement=True, generator=generator)
    rewards = scores[0, drawn] - KL_COEF * (log_p - log_ref)[0, drawn].detach()
    policy_gradient_loss(log_p[0, drawn], rewards).backward()
    optimizer.step()
    optimizer.zero_grad()
_, best_value = optimum(log_ref, scores, KL_COEF)
print(f"The value of equation 2 went from {step_by_step[0]:.2f} to {step_by_step[-1]:.2f}; the best possible is "
      f"{best_value.item():.2f}.")

# %% [markdown]
# ## Which way is up?
#
# PPO has more parts than that loss: rewards per token, advantages, a ratio. Does the gradient it computes from all of
# them still point the right way? We have the exact gradient of equation 2 to compare it with. And one question with a
# long answer in every textbook, answered here by looking: what is the critic good for?

# %%
policy = moved(reference, 0.5)
weights = list(policy.parameters())
log_probs = tiny.policy_log_probs(policy, world)                     # (prompts, responses, tokens)
exact_gradient = tiny.gradient(tiny.objective(log_probs.sum(dim=-1), log_ref, scores, KL_COEF).sum(), weights)
ref_log_probs = tiny.policy_log_probs(reference, world)
rewards = ppo_math.shaped_rewards(scores[0], log_probs[0], ref_log_probs[0], world.mask, KL_COEF)
perfect_critic = tiny.state_values(log_probs.detach(), rewards[None], world)[0]


def agreement(n, values):
    """Cosine between the exact gradient and PPO's, from n sampled responses and a critic's values."""
    rows = torch.multinomial(log_probs[0].sum(dim=-1).detach().exp(), n, replacement=True, generator=generator)
    advantages, _ = ppo_math.gae(rewards[rows], values[rows], world.mask[rows], lam=1.0)
    loss, _ = ppo_math.policy_loss(log_probs[0, rows], log_probs[0, rows].detach(), advantages, world.mask[rows])
    return torch.cosine_similarity(tiny.gradient(-loss, weights), exact_gradient, dim=0).item()


# %%
critics = {"a perfect critic": perfect_critic, "no critic": torch.zeros_like(rewards)}
cosines = {name: {n: stats.mean_interval([agreement(n, values) for _ in range(lesson.pick(40, 8))], method="normal")
                  for n in (8, 32, 128, 512, 2048)} for name, values in critics.items()}
display(plots.gradient_agreement(cosines, {"a perfect critic": "ppo", "no critic": "sft"}, "responses in the batch"))
surrogate = tiny.ppo_surrogate(log_probs, ref_log_probs, scores, torch.zeros_like(log_probs), world, KL_COEF, lam=1.0)
whole = torch.cosine_similarity(tiny.gradient(surrogate, weights), exact_gradient, dim=0).item()
print(f"From infinitely many responses, PPO's first gradient and the exact one have a cosine of {whole:.4f}: same "
      f"direction, and here without any critic. From 32 responses it is {cosines['a perfect critic'][32].value:.2f} "
      f"with a perfect critic and {cosines['no critic'][32].value:.2f} with none. The critic does not move the goal; "
      "it is there to take away noise.")

# %% [markdown]
# ## PPO finds it
#
# Now the library's `train_ppo`, the very function that trains the town's models later, with its own sampling,
# advantages and clipping. It is never told $\pi^*$. Left: the value of equation 2, exactly. Middle: the
# **total variation** from $\pi^*$, the share of the time in which the two would say something else. Right: every
# dot is a response, its score against how far the policy has moved it. At the optimum all dots lie on one line, of
# slope $1/\beta$.

# %%
log_best, best_value = optimum(log_ref, scores, KL_COEF)
path = []  # what every look has measured


def look(policy, iteration):
    """Measure exactly -> the picture so far."""
    log_p = tiny.policy_log_probs(policy, world).sum(dim=-1).detach()
    path.append({"iteration": iteration, "value": tiny.objective(log_p, log_ref, scores, KL_COEF).item(),
                 "distance": tiny.total_variation(log_p, log_best).item(), "kl": tiny.kl(log_p, log_ref).item(),
                 "score": tiny.expected(log_p, scores).item()})
    responses = zip(scores[0], (log_p - log_ref)[0], log_p[0].exp(), strict=True)
    return plots.exact_run(path, best_value.item(), responses, KL_COEF)


# %%
policy, critic = models.copy_model(reference), models.scalar_from_policy(reference, seed=0)
picture = display(look(policy, 0), display_id=True)
for lr in (1e-2, 1e-3):  # large steps first, small ones to settle down
    start = path[-1]["iteration"]
    ppo.train_ppo(policy, reference, critic, world.prompts, replace(
        CONFIG, iterations=lesson.pick(30, 5), lr=lr, critic_lr=lr, seed=start),
        reward_fn=tiny.reward_function(world, scores), evaluate_every=lesson.pick(2, 5),
        evaluate=lambda policy, i, start=start: picture.update(look(policy, start + i)) or {})
first, last = path[0], path[-1]
middle = next(row for row in path if row["iteration"] == last["iteration"] // 2)
print(f"The distance to the best policy went from {first['distance']:.2f} to {middle['distance']:.2f} with large "
      f"steps, and to {last['distance']:.2f} with small ones. The value is {last['value']:.3f} of at most "
      f"{best_value.item():.3f}.")

# %% [markdown]
# A large step size reaches the neighbourhood and then rattles around in it; a small one settles. In a real run you
# cannot see the dashed line, only the rattling.
#
# The same journey on a map. Each point of the frontier is the best policy at some price; no policy whatsoever lies
# above it. Choosing $\beta$ is choosing where on that line you want to stop.

# %%
def on_map(log_p):
    """(KL, mean score) of a policy."""
    return tiny.kl(log_p, log_ref).item(), tiny.expected(log_p, scores).item()


def best_at(price):
    return on_map(optimum(log_ref, scores, price)[0])


display(plots.frontier([best_at(price) for price in torch.logspace(1.3, -1.0, 60).tolist()],
                       [(row["kl"], row["score"]) for row in path],
                       {price: best_at(price) for price in (2.0, 1.0, KL_COEF, 0.2, 0.1)}))
kl, score = on_map(log_best)
print(f"PPO set out at KL 0 with a mean score of {first['score']:.2f} and ended at KL {last['kl']:.2f} with "
      f"{last['score']:.2f}; the best policy at this price has {score:.2f} at KL {kl:.2f}. The first nat buys most: "
      f"{best_at(KL_COEF)[1] - first['score']:.2f} points for {kl:.2f} nats up to there, then "
      f"{best_at(0.2)[1] - score:.2f} more for another {best_at(0.2)[0] - kl:.2f}.")

# %% [markdown]
# ## Key points
#
# - The penalised objective has a known best policy, $\pi_{ref}\,e^{r/\beta}/Z$. In a small world, test that your loop
#   gets there.
# - k1 belongs in the reward, without a gradient. As a loss it does nothing; k2 has exactly the right gradient, k3 that
#   of the other KL.
# - The policy gradient needs samples and scores only. A critic does not change where it goes; it takes away noise.
#
# **Next:** time for a cup of tea. Then, in [05b](05b_ppo_in_the_town.ipynb), you take that loop apart, build every
# piece of it yourself, and let it loose on the town.

# %%
progress("05")
