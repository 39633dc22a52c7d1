# %% [markdown]
# {{header}}

# %%
import tempfile
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor
from transformers import AutoModelForCausalLM

from rlhf_lite import checkpoints, dpo, feedback, grpo, models, plots, ppo, ppo_math, reward, rloo, stats
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises import check, checker, group_gradients, progress, sampler, setup
from rlhf_lite.exercises.tea_room import KL_COEF, WORDS, moved, open_tea_room, say
from rlhf_lite.experiment import base_model, data
from rlhf_lite.experiment.answers import answer_rows, rank_answers
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, TEMPERATURE, default_recipe
from rlhf_lite.sampling import pad_left, pad_right, sample, token_log_probs
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade

lesson = setup("10", strict=True)

# %% [markdown]
# ## Four models, and a question
#
# Look at what PPO holds in memory: the policy, the reference it must not stray from, the reward model, the critic. Two
# of them are trained. It samples, it scores, it clips. It works, and since 2022 people have asked of every part: *do we
# need it?* Two answers have lasted.
#
# - **DPO** (2023): no reward model, no critic, no sampling. Learn from the rankings directly.
# - **RLOO** (2024): no critic. Compare an answer with other answers to the same prompt.
#
# Neither is in InstructGPT. Both keep its goal, equation 2, to the letter:
# $\;\mathbb{E}_{y\sim\pi}\big[r(x,y) - \beta\log\frac{\pi(y|x)}{\pi_{ref}(y|x)}\big]$.
#
# **Predict before you run anything:** which of the three will bring the *true* score highest in this notebook?
#
# ## Part A: the formula read backwards
#
# Remember the apprentice at the tea room's counter, who knows six tokens and says at most three of them. There the best
# policy at any price β can be written down. We write it down for three answers, and look at it from the other side.

# %%
BETA = KL_COEF
world, reference, scores, _ = open_tea_room()
scores = scores[0].double()  # (responses,)
ref_log_probs = tiny.policy_log_probs(reference, world)[0].double()  # (responses, tokens)
log_ref = ref_log_probs.sum(dim=-1)
log_best = tiny.optimum(log_ref[None], scores[None], BETA)[0][0]
shown = [world.responses.index(response) for response in ([4, 5, 2], [3, 2], [0, 1, 3])]
display(plots.table(("response", "score", "log π_ref", "log π*", "β (log π* − log π_ref)"), [
    (say(world.responses[row]), f"{scores[row]:+.1f}", f"{log_ref[row]:.2f}",
     f"{log_best[row]:.2f}", f"{BETA * (log_best[row] - log_ref[row]):.2f}") for row in shown]))

# %% [markdown]
# Compare the second column with the last. They are not equal, but look at the *differences* from row to row.
#
# That is no accident. From $\pi^* = \pi_{ref}\,e^{r/\beta}/Z$ follows
#
# $$r(x,y) = \beta\log\frac{\pi^*(y|x)}{\pi_{ref}(y|x)} + \beta\log Z(x).$$
#
# The last term depends on the prompt only. So **every policy carries a reward inside it**: the one for which it would
# be the best policy. Rafailov and colleagues gave their paper the title "Your language model is secretly a reward
# model".
#
# {{exercise 10.1}}
#
# **What you should see:** between any two answers, the implicit reward of $\pi^*$ differs by just as much as the score.

# %%
def implicit_reward(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"], beta: float
                    ) -> Float[Tensor, "*shape"]:
    """Compute the policy's implicit reward, up to a constant, from the log-probabilities of whole answers."""
    ### BEGIN SOLUTION
    return beta * (log_probs - ref_log_probs)
    ### END SOLUTION


implicit_reward = check("10.1", implicit_reward)
hidden = implicit_reward(log_best, log_ref, BETA)
print("score minus implicit reward, over all", len(scores), "responses: from "
      f"{(scores - hidden).min():.4f} to {(scores - hidden).max():.4f}")

# %% [markdown]
# ### A loss without a reward model
#
# A reward model learns from pairs: the chosen answer should score higher, $-\log\sigma(r_w - r_l)$ (notebook 04). Put
# the implicit reward in the place of $r$. The unknown $\beta\log Z$ stands on both sides and drops out, and the reward
# model *is* the policy:
#
# $$-\log\sigma\Big(\beta\log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \beta\log\frac{\pi(y_l)}{\pi_{ref}(y_l)}\Big)$$
#
# {{exercise 10.2}}
#
# **What you should see:** ln 2 = 0.6931 for a policy that still is the reference, whatever the pairs.

# %%
def dpo_loss(policy_chosen: Float[Tensor, "pairs"], policy_rejected: Float[Tensor, "pairs"],
             ref_chosen: Float[Tensor, "pairs"], ref_rejected: Float[Tensor, "pairs"],
             beta: float) -> Float[Tensor, ""]:
    """Compute DPO's mean loss from the log-probabilities of chosen and rejected answers under policy and reference."""
    ### BEGIN SOLUTION
    margin = beta * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
    return -F.logsigmoid(margin).mean()
    ### END SOLUTION


dpo_loss = check("10.2", dpo_loss)
chosen, rejected = log_ref[:6], log_ref[6:12]
print(f"policy = reference: {dpo_loss(chosen, rejected, chosen, rejected, BETA):.4f}")
ranks = torch.tensor([[0.0, 1.0, 2.0]])  # a ranking of the three answers above, the lower the better, and its pairs
policy_row, ref_row = log_best[shown], log_ref[shown]
won, lost = [0, 0, 1], [1, 2, 2]
print("three pairs of one ranking: "
      f"{dpo_loss(policy_row[won], policy_row[lost], ref_row[won], ref_row[lost], BETA):.4f}; notebook 04's loss, with "
      "the implicit reward as score: "
      f"{reward.kwise_loss(implicit_reward(policy_row, ref_row, BETA)[None], ranks):.4f}")

# %% [markdown]
# The same number: DPO *is* the training of a reward model, with a policy in its place. Even InstructGPT's trick of
# keeping all pairs of a prompt together carries over, and `train_dpo` uses it.
#
# ### One goal, two roads
#
# If that is all true, DPO and PPO must end at the same policy. In the tea room we can watch: one table of probabilities
# climbs PPO's objective, another goes down DPO's loss, fed with *unlimited* rankings, every pair of answers judged as
# often as it comes up. Then we give DPO what real projects have: a limited number of pairs, seen again and again.
#
# **Predict before you run:** who comes to π*, who does not, and who comes back?

# %%
first, second = torch.triu_indices(len(scores), len(scores), offset=1)
met = log_ref.exp()[first] * log_ref.exp()[second]  # how often this pair of answers comes up
met, wins = met / met.sum(), (scores[first] - scores[second]).sigmoid()
generator = torch.Generator().manual_seed(0)


def ppo_goal(log_p):
    """Minus PPO's objective, exactly."""
    return -tiny.objective(log_p[None], log_ref[None], scores[None], BETA).sum()


def dpo_unlimited(log_p):
    """DPO's loss over all pairs, each judged both ways as often as Bradley and Terry say."""
    margin = implicit_reward(log_p[first], log_ref[first], BETA) - implicit_reward(log_p[second], log_ref[second], BETA)
    return -(met * (wins * F.logsigmoid(margin) + (1 - wins) * F.logsigmoid(-margin))).sum()


def dpo_on(pairs):
    """DPO's loss on so many sampled and judged pairs."""
    a, b = (torch.multinomial(log_ref.exp(), pairs, replacement=True, generator=generator) for _ in range(2))
    a_wins = torch.rand(pairs, generator=generator) < (scores[a] - scores[b]).sigmoid()
    won, lost = torch.where(a_wins, a, b), torch.where(a_wins, b, a)
    return lambda log_p: dpo_loss(log_p[won], log_p[lost], log_ref[won], log_ref[lost], BETA)


# %%
def walk(loss, steps):
    """Gradient steps on a table that starts as the reference -> total variation to π* before each of them."""
    table = torch.zeros(1, world.state_count, len(WORDS), dtype=torch.float64)
    table[0, world.states[world.mask], world.tokens[world.mask]] = ref_log_probs[world.mask]
    optimizer, distances = torch.optim.Adam([table.requires_grad_()], lr=0.03), []
    for _ in range(steps):
        log_p = tiny.table_log_probs(table, world).sum(dim=-1)[0]
        distances.append(tiny.total_variation(log_p[None], log_best[None]).item())
        optimizer.zero_grad()
        loss(log_p).backward()
        optimizer.step()
    return distances


# %%
steps = lesson.pick(500, 300)
roads = {"PPO": ppo_goal, "DPO, unlimited pairs": dpo_unlimited}
roads |= {f"DPO, {pairs:,} pairs": dpo_on(pairs) for pairs in (30_000, 3_000, 300)}
walked = {label: walk(loss, steps) for label, loss in roads.items()}
looks = ("ppo", "-"), ("ppo_ptx", "-"), ("ppo_ptx", "--"), ("ppo_ptx", "-."), ("ppo_ptx", ":")
display(plots.lines({"Two roads to the same policy, and what few labels do": {
    label: (range(steps), distances) for label, distances in walked.items()}},
    "gradient steps", "total variation to π*", dict(zip(roads, looks, strict=True)), size=(9, 3.8), ylim=(0, 1)))
few = walked["DPO, 300 pairs"]
print(f"After {steps} steps PPO's objective is {walked['PPO'][-1]:.3f} from π*, DPO with unlimited pairs "
      f"{walked['DPO, unlimited pairs'][-1]:.3f}: one goal. With 300 pairs DPO comes as near as {min(few):.2f}, at "
      f"step {few.index(min(few))}, and ends at {few[-1]:.2f}.")

# %% [markdown]
# Both arrive. That is DPO's theorem, and you have just checked it. But look at the dotted line: it comes near π*, turns
# round and walks away, further than where it started. An answer that won all its few comparisons should, says the loss,
# become *infinitely* better; an answer nobody judged is pushed wherever the weights happen to take it. More labels move
# the turn, they do not remove it.
#
# A reward model can overfit like this too: it is the same loss. That is why InstructGPT trained its own for
# one epoch, and why we train DPO for one.
#
# ## Part B: DPO in town
#
# ### Inspect one
#
# We sample answers from the shipped SFT model and let the simulated team rank them, as in notebook 03.

# %%
tokenizer, sft, reward_model = lesson.tokenizer(), lesson.policy("sft"), lesson.reward_model()
sft_reference = models.copy_model(sft, trainable=False)
device = models.device_of(sft)
recipe = replace(default_recipe(), answers_per_prompt=lesson.pick(6, 4))
team = labelers.training_team()
started = time.perf_counter()
ranked = rank_answers(sft, tokenizer, data.prompts_of("train", lesson.pick(800, 24)), team, recipe, seed=11)
minutes = {"ranking": (time.perf_counter() - started) / 60}
rankings = data.ranked_prompts(tokenizer, ranked)
held_out = data.ranked_prompts(tokenizer, rank_answers(
    sft, tokenizer, data.prompts_of("valid", lesson.pick(80, 12)), team, recipe, seed=12, progress=False))
print(ranked[0]["prompt"])
for rank, response in sorted(zip(ranked[0]["ranks"], ranked[0]["responses"], strict=True), key=lambda pair: pair[0]):
    print(f"   {rank:g}  {response['text']}")
pairs = sum(len(feedback.pairs_from_ranking(row)) for row in ranked)
print(f"\n{len(rankings)} rankings of up to {recipe.answers_per_prompt} answers make {pairs} pairs; ties are no pairs.")

# %% [markdown]
# ### Batch
#
# In the tea room the log-probability of an answer was looked up. In town it has to be computed, from tokens and
# padding.
#
# {{exercise 10.3}}
#
# **What you should see:** the same two numbers for two answers whether they are asked about together or one by one.

# %%
def sequence_log_probs(policy, prompts: list[list[int]], responses: list[list[int]]) -> Float[Tensor, "batch"]:
    """Compute log π(response | prompt) of each response, END included; there is one prompt for each response."""
    ### BEGIN SOLUTION
    device = models.device_of(policy)
    prompt_ids, prompt_mask = pad_left(prompts, device)
    ids, mask = pad_right(responses, device)
    table = token_log_probs(policy, torch.cat([prompt_ids, ids], dim=1), torch.cat([prompt_mask, mask], dim=1),
                            prompt_ids.shape[1])
    return torch.where(mask.bool(), table, 0.0).sum(dim=1)
    ### END SOLUTION


sequence_log_probs = check("10.3", sequence_log_probs)
two = rankings[0], rankings[1]
with torch.no_grad():
    together = sequence_log_probs(sft, [r.prompt_ids for r in two], [r.responses[0] for r in two])
    alone = torch.cat([sequence_log_probs(sft, [r.prompt_ids], [r.responses[0]]) for r in two])
print("together", [f"{x:.3f}" for x in together.tolist()], " one by one", [f"{x:.3f}" for x in alone.tolist()])

# %% [markdown]
# ### Loop
#
# `train_dpo` asks the reference once about every answer, and after that it is ordinary supervised training. No
# sampling, no scores. We watch two things on rankings of customers it was not trained on: how far the chosen and the
# rejected answers have moved, and how often the implicit reward agrees with the labeler, as if the policy were a reward
# model.
#
# **Predict before you run:** the chosen answers will become likelier, the rejected ones less likely. Right?

# %%
ranks, mask = reward.rank_tensors(held_out)
held_out_ref = dpo.frozen_log_probs(sft_reference, held_out).cpu()
row, chosen, rejected = reward.preferred_pairs(ranks, mask).nonzero(as_tuple=True)
shipped_accuracy = reward.evaluate_reward(reward_model, held_out)["accuracy"]
TITLES = "Held-out answers: how far they moved (nats)", "How often it agrees with the labeler (0.5: chance)"
LINES = (("chosen", "chosen", plots.COLOURS["ppo"]), ("rejected", "rejected", plots.COLOURS["reward"]),
         ("accuracy", "inside the\nDPO policy", plots.COLOURS["dpo"]))
distances, agreed = [], []


def watch(policy, step):
    """Called by the loop: measure on the held-out rankings -> the picture so far."""
    ratio = dpo.frozen_log_probs(policy, held_out).cpu() - held_out_ref
    distances.append({"step": step, "chosen": ratio[row, chosen].mean().item(),
                  "rejected": ratio[row, rejected].mean().item()})
    agreed.append({"step": step, "accuracy": reward.pair_accuracy(ratio, ranks, mask)})
    return plots.learning_curves(dict(zip(TITLES, (distances, agreed), strict=True)), LINES, {
        TITLES[0]: (0, ""), TITLES[1]: (shipped_accuracy, "the shipped reward model")})


# %%
dpo_policy = models.copy_model(sft)
picture = display(watch(dpo_policy, 0), display_id=True)
config = dpo.DPOConfig(lr=3e-4, beta=0.1, batch_prompts=lesson.pick(16, 6))
started = time.perf_counter()
history = dpo.train_dpo(dpo_policy, sft_reference, rankings, config, evaluate_every=lesson.pick(10, 2),
                        evaluate=lambda policy, step: picture.update(watch(policy, step)) or {})
minutes["dpo"] = (time.perf_counter() - started) / 60
last = distances[-1]
print(f"Before the first step the loss was {history[0]['loss']:.4f} (ln 2 is 0.6931). At the end, on held-out "
      f"rankings, chosen answers stand at {last['chosen']:+.2f} nats, rejected ones at {last['rejected']:+.2f}.")
print({(True, True): "Both became likelier; the chosen ones more.",
       (False, False): "Both became LESS likely, the chosen ones too. The loss only asks for a gap between the two, "
       "and this is one way to open it.",
       (True, False): "The chosen ones rose and the rejected ones fell.",
       (False, True): "The chosen ones fell and the rejected ones rose: on these customers it has learnt nothing yet."}
      [last["chosen"] > 0, last["rejected"] > 0])
print(f"Its implicit reward agrees with the labelers on {100 * agreed[-1]['accuracy']:.0f} % of the held-out pairs, "
      f"the shipped reward model on {100 * shipped_accuracy:.0f} %.")

# %% [markdown]
# If both kinds of answers become less likely, where does the probability go? To answers that nobody has ranked. It is
# the dotted line of the tea room again, and the best-known weakness of DPO. (The reward model was trained on more
# rankings than our DPO, so the second comparison is not a fair race. We come back to that.)
#
# ## Part C: PPO without a critic
#
# What was the critic good for? In notebook 05 we saw it: it does not move the goal, it takes away noise, by telling
# what reward was to be *expected*. There is a cheaper way to find out what to expect. Ask the policy again.
#
# {{exercise 10.4}}
#
# **What you should see:** for scores 1, 0, 3 of one prompt the advantages −0.5, −2, 2.5. They add up to 0.

# %%
def rloo_advantages(scores: Float[Tensor, "batch"], group: int) -> Float[Tensor, "batch"]:
    """Subtract from each score the mean of the others to its prompt; the `group` answers to one stand side by side."""
    ### BEGIN SOLUTION
    groups = scores.view(-1, group)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (group - 1)
    return (groups - others).flatten()
    ### END SOLUTION


rloo_advantages = check("10.4", rloo_advantages)
print(rloo_advantages(torch.tensor([1.0, 0.0, 3.0]), 3))

# %% [markdown]
# RLOO goes back to the oldest rule of policy gradients, REINFORCE (Williams, 1992): make an answer likelier in
# proportion to its advantage. The *whole answer* is one action. One step per batch, so no ratios and nothing to clip.
#
# {{exercise 10.5}}
#
# **What you should see:** two answers of log-probability −2 and −3 with advantages +1 and −1 give a loss of −0.5.

# %%
def rloo_loss(log_probs: Float[Tensor, "batch response"], advantages: Float[Tensor, "batch"],
              mask: Bool[Tensor, "batch response"]) -> Float[Tensor, ""]:
    """Compute the loss of REINFORCE, a mean over answers."""
    ### BEGIN SOLUTION
    return -(advantages.detach() * torch.where(mask, log_probs, 0.0).sum(dim=1)).mean()
    ### END SOLUTION


rloo_loss = check("10.5", rloo_loss)
print(rloo_loss(torch.tensor([[-1.0, -1.0], [-3.0, -9.0]]), torch.tensor([1.0, -1.0]),
                torch.tensor([[True, True], [True, False]])))

# %% [markdown]
# ### Does a batch know which way is up?
#
# The question of notebook 05, asked again. In the tea room we know the exact gradient of equation 2. How well does the
# gradient of a batch point along it: with no baseline, with the others as a baseline (groups of four, as in town), with
# a perfect critic, which no real project has?
#
# **Predict before you run:** where will RLOO land between "no baseline" and "perfect critic"? And what if every score
# were 10 points higher, which changes nothing about what is best?

# %%
away = moved(reference, 0.5)  # a policy some way off, so that the KL matters too
weights = list(away.parameters())
log_probs = tiny.policy_log_probs(away, world)[0]
exact = tiny.gradient(tiny.objective(log_probs.sum(dim=-1)[None], log_ref[None], scores[None], BETA).sum(), weights)
penalised = (scores - BETA * (log_probs.sum(dim=-1).detach() - log_ref)).float()  # the reward of a whole answer
token_rewards = ppo_math.shaped_rewards(scores.float(), log_probs, ref_log_probs.float(), world.mask, BETA)
critic_values = tiny.state_values(log_probs.detach()[None], token_rewards[None], world)[0]

# %%
def batch_gradient(way, n):
    """The gradient from n sampled answers."""
    rows = torch.multinomial(log_probs.sum(dim=-1).detach().exp(), n, replacement=True, generator=generator)
    if way == "a perfect critic":
        advantages, _ = ppo_math.gae(token_rewards[rows], critic_values[rows], world.mask[rows], lam=1.0)
        loss, _ = ppo_math.policy_loss(log_probs[rows], log_probs[rows].detach(), advantages, world.mask[rows])
    else:
        advantages = {"no baseline": penalised[rows], "no baseline, scores + 10": penalised[rows] + 10,
                      "RLOO, groups of 4": rloo_advantages(penalised[rows], 4)}[way]
        loss = rloo_loss(log_probs[rows], advantages, world.mask[rows])
    return tiny.gradient(-loss, weights)


# %%
ways = {"a perfect critic": "ppo", "RLOO, groups of 4": "rloo", "no baseline": "sft",
        "no baseline, scores + 10": "base"}
cosines = {way: {n: stats.mean_interval([torch.cosine_similarity(batch_gradient(way, n), exact, dim=0).item()
                                         for _ in range(lesson.pick(40, 8))], method="normal")
                 for n in (8, 32, 128, 512)} for way in ways}
display(plots.gradient_agreement(cosines, ways, "answers in the batch"))
print("From 128 answers: " + ", ".join(f"{way} {found[128].value:.2f}" for way, found in cosines.items())
      + ".\nHere the mean reward happens to be near 0 ("
      f"{penalised @ log_probs.sum(dim=-1).detach().exp():.1f}), so even no baseline does well. Shift the scale and "
      "REINFORCE gets lost, while RLOO does not notice: what is added to all drops out of the difference.")

# %% [markdown]
# ### And GRPO?
#
# GRPO (DeepSeek, 2024) is RLOO's famous cousin, and the one behind most reasoning models. It compares within a group
# too. Then it does four more things, each of which somebody has taken out again since:
#
# - it subtracts the mean of the *whole* group, the answer's own score included;
# - it **divides by the group's standard deviation**;
# - it **divides by the answer's length**, so that every answer weighs the same, however many tokens it has;
# - it moves the **KL from the reward into the loss**, token by token, as the estimator k3.
#
# {{exercise 10.6}}
#
# **What you should see:** 1, 0, 0, 1 become +0.87 and −0.87, and a group of four equal scores becomes four zeros.

# %%
def group_advantages(scores: Float[Tensor, "batch"], group: int, divide_by_std: bool) -> Float[Tensor, "batch"]:
    """Subtract the group's mean from each score and divide by the group's standard deviation, if that is asked for."""
    ### BEGIN SOLUTION
    groups = scores.view(-1, group)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if divide_by_std:
        spread = groups.std(dim=1, keepdim=True)
        centred = torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), 0.0)
    return centred.flatten()
    ### END SOLUTION


group_advantages = check("10.6", group_advantages)
print(group_advantages(torch.tensor([1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0]), 4, True))
two_groups = torch.tensor([[1.0, 1.0, 1.0, 1.1], [-2.0, 0.0, 1.0, 3.0]])
lines = [("scores", two_groups), ("RLOO", rloo_advantages(two_groups.flatten(), 4).view(2, 4)),
         ("GRPO", group_advantages(two_groups.flatten(), 4, True).view(2, 4))]
display(plots.table(("", "answers nearly alike", "answers that differ"), [
    (name, *("  ".join(f"{x:+.2f}" for x in group) for group in numbers.tolist())) for name, numbers in lines]))

# %% [markdown]
# A tenth of a point on the left now shouts as loudly as five points on the right. With a program that says right or
# wrong, where GRPO was made for, groups differ less; with a noisy learned reward it makes noise loud.
#
# {{exercise 10.7}}
#
# **What you should see:** the answer of two tokens has a loss of 2 without dividing by its length and of 1 with it.

# %%
def grpo_losses(log_probs: Float[Tensor, "batch response"], ref_log_probs: Float[Tensor, "batch response"],
                advantages: Float[Tensor, "batch"], mask: Bool[Tensor, "batch response"], kl_coef: float,
                divide_by_length: bool) -> Float[Tensor, "batch"]:
    """Compute the loss of every answer, with the KL in the loss as k3, token by token."""
    ### BEGIN SOLUTION
    log_ratio = ref_log_probs - log_probs
    k3 = log_ratio.exp() - 1 - log_ratio
    tokens = torch.where(mask, -advantages.detach()[:, None] * log_probs + kl_coef * k3, 0.0)
    return tokens.sum(dim=1) / mask.sum(dim=1) if divide_by_length else tokens.sum(dim=1)
    ### END SOLUTION


grpo_losses = check("10.7", grpo_losses)
one_answer = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -1.0]]), torch.tensor([1.0]), torch.ones(1, 2).bool()
print([grpo_losses(*one_answer, kl_coef=0.1, divide_by_length=divide).item() for divide in (False, True)])

# %% [markdown]
# The library's `grpo.py` has each of the four as a switch. Now the question of this course: does it still climb
# equation 2? Three customers of the tea room: one wants nothing more, one orders tea, one orders tea and a bun. A
# *program* checks the answer: 1 if exactly what was ordered is served and the answer ends there, else 0. We take a
# policy for which the first is easy, the second middling and the third hard, and compute the gradient of every variant
# over infinitely many groups.
#
# **Predict:** which switch bends the direction most? And will larger groups, which cost more, make it better or worse?

# %%
ORDERS = [[1, 5], [1, 3], [1, 4, 3]]  # after "thanks" nothing more, tea, bun and tea
room = tiny.make_world(ORDERS, vocab_size=6, max_new_tokens=3)


def served(order, response):
    """1.0 if the answer is what was ordered, in any order, and END."""
    wanted = {token for token in order if token in (3, 4)}
    return float(response[-1] == 2 and set(response[:-1]) == wanted and len(response) == len(wanted) + 1)


right = torch.tensor([[served(order, response) for response in room.responses] for order in ORDERS]).double()
room_ref = tiny.policy_log_probs(tiny.tiny_policy(room, seed=1, sharpness=6), room).detach().double()
tables = [sampler.training_path(room, room_ref[i], right[i], 0.02, steps, lr=0.05)[-1]
          for i, steps in enumerate((50, 35, 20))]  # the shorter the training, the harder the order still is
table = torch.stack(tables).requires_grad_()
now = tiny.table_log_probs(table, room)
print("Served rightly:", [f"{share:.2f}" for share in (now.sum(-1).exp() * right).sum(-1).tolist()])

# %%
sizes = lesson.pick((4, 16, 64), (4, 16))
plain = group_gradients.survey(room, now, room_ref, right, [table], kl_coef=0.0, sizes=sizes)
priced = group_gradients.survey(room, now, room_ref, right, [table], kl_coef=0.1, sizes=sizes[:2])
kept = "group mean", "÷ std", "÷ length"
display(plots.matrix([list(plain[name].values()) for name in kept], kept, [str(size) for size in sizes],
                     "Cosine with the exact gradient, no KL", "cosine", "{:.3f}", ("cividis", 0.9, 1),
                     xlabel="answers in a group"))
display(plots.matrix([list(found.values()) for found in priced.values()], list(priced), [str(n) for n in sizes[:2]],
                     "The same, where a nat costs 0.1", "cosine", "{:.2f}", ("cividis", 0.5, 1),
                     xlabel="answers in a group"))
print("Dividing by the spread: " + ", ".join(f"{cosine:.3f} in groups of {n}" for n, cosine in plain["÷ std"].items()))
in_loss = {k: priced[f"KL in the loss, {k}"][sizes[1]] for k in ("k1", "k2", "k3")}
print("The KL in the loss: " + ", ".join(f"{k} {cosine:.2f}" for k, cosine in in_loss.items())
      + f" (in the reward: {priced['group mean'][sizes[1]]:.2f}).")

# %% [markdown]
# Read the two pictures slowly.
#
# - The **group's mean** is harmless: a shorter step in the same direction.
# - **÷ std** weighs the prompts. With 0 and 1 as scores, a customer who is served rightly with probability p gets the
#   weight $1/\sqrt{p(1-p)}$: the very easy and the very hard count most. In groups of four it cannot do much, as a
#   group that differs at all nearly always has the same spread. Larger groups estimate the spread better, and bend
#   more.
# - **÷ length** bends little here, where no answer is longer than three tokens. In the wild a wrong answer of a
#   thousand tokens is then punished a tenth as much per token as one of a hundred, so wrong answers grow. Dr. GRPO (Liu
#   et al. 2025) takes both divisions out.
# - The **KL in the loss**. k1 as a loss does nothing at all on average, so here the price of a nat is simply missing.
#   k3, GRPO's choice, has the gradient of the *other* KL, KL(π_ref‖π) (notebook 05), and the further the policy has
#   gone, the less the two agree. k2 has the right gradient for a whole answer; token by token, as it is used, it
#   forgets that a token also decides where the next ones are chosen.
#
# ## Rewards that a program can check
#
# GRPO's success came with rewards nobody had to learn: is the sum right, do the tests pass? Our town has such requests
# too. "Write a short advert for the bakery. Use at most eight words." Three clauses a program can check: the **wish**
# is kept, the answer **names what it is about**, it comes to an **end**. No reward model, no rankings, and no critic:
# two models in memory.
#
# And no Goodhart? The program is only as good as its list. Here are two checkers: one has all clauses, the other
# forgets that the answer should be about something. Same policy, same prompts, same steps.
#
# **Predict:** what will an answer look like that keeps the wish and ends, and need not be about anything?

# %%
wishes = {split: checker.checkable(data.prompts_of(split)) for split in ("train", "valid")}
wish_ids = data.encoded(tokenizer, wishes["train"])
tested = wishes["valid"][:lesson.pick(100, 12)]
followed = {"all clauses": [], "forgets the subject": []}


def inspect(policy, iteration, run):
    """Measure every clause, and the town's true score, on requests that it was not trained on."""
    rows = answer_rows(policy, tokenizer, tested, seed=3, progress=False)
    found = [checker.clauses(prompt, row["response"], row["finished"])
             for prompt, row in zip(tested, rows, strict=True)]
    shares = {name: sum(one[name] for one in found) / len(found) for name in checker.CLAUSES}
    followed[run].append({"step": iteration, **shares, "true": sum(row["grade"].score for row in rows) / len(rows),
                          "rows": rows})
    return {}


# %%
config = grpo.GRPOConfig(iterations=lesson.pick(30, 2), prompts_per_step=lesson.pick(8, 3), group=lesson.pick(8, 4),
                         lr=3e-4, warmup_iterations=3, divide_by_length=False, kl_in="reward", kl_coef=0.01,
                         temperature=0.7, max_new_tokens=MAX_NEW_TOKENS)
for run, checked in {"all clauses": ("wish", "subject", "end"), "forgets the subject": ("wish", "end")}.items():
    policy = models.copy_model(sft)
    inspect(policy, 0, run)
    grpo.train_grpo(policy, sft_reference, wish_ids, config, checker.reward_of(wishes["train"], wish_ids, tokenizer,
                                                                               checked),
                    evaluate=lambda policy, step, run=run: inspect(policy, step, run),
                    evaluate_every=lesson.pick(5, 1))

# %%
drawn = (("wish", "the wish", plots.COLOURS["sft"]), ("subject", "the subject", plots.COLOURS["reward"]),
         ("end", "an end", plots.COLOURS["base"]), ("true", "true score", plots.COLOURS["oracle"]))
display(plots.learning_curves({f"Checker: {run}": [{name: x for name, x in point.items() if name != "rows"}
                                                   for point in points] for run, points in followed.items()},
                              drawn, same_scale=True))
for run, points in followed.items():
    print(f"{run}: " + ", ".join(f"{name} {points[0][name]:.2f} → {points[-1][name]:.2f}"
                                 for name in (*checker.CLAUSES, "true")))
display(plots.table(("request", *followed), [
    (tested[i].text, *(points[-1]["rows"][i]["response"] for points in followed.values())) for i in range(4)]))

# %% [markdown]
# Look at the red line on the right and read a few answers. Nobody cheated and nothing crashed: the forgetful checker
# was obeyed to the letter. A program is a judge without moods, which makes it a wonderful reward and its holes
# perfectly reliable. The remedies are those of notebook 07: read samples, keep a measure that is not paid for, and when
# you find a hole, mend the checker and train again from the reference.
#
# ### Loop
#
# Now RLOO in town, with the shipped reward model, and PPO beside it: the same number of sampled answers, the same price
# β of a nat, the same prompts. We also count the minutes.

# %%
iterations, batch = lesson.pick((40, 128), (3, 16))
prompts = data.encoded(tokenizer, data.prompts_of("train"))
beta = recipe.ppo.kl_coef
rloo_policy = models.copy_model(sft)
rloo_config = rloo.RLOOConfig(iterations=iterations, prompts_per_step=batch // 4, group=4, lr=2e-4, kl_coef=beta,
                              max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE)
started = time.perf_counter()
rloo_history = rloo.train_rloo(rloo_policy, sft_reference, prompts, rloo_config, reward_fn=reward_model)
minutes["rloo"] = (time.perf_counter() - started) / 60
ppo_policy = models.copy_model(sft)
started = time.perf_counter()
ppo_run = ppo.train_ppo(ppo_policy, sft_reference, models.copy_model(reward_model), prompts,
                        replace(recipe.ppo, iterations=iterations, batch_size=batch), reward_fn=reward_model)
minutes["ppo"] = (time.perf_counter() - started) / 60

# %%
display(plots.training_curves({"rloo": rloo_history, "ppo": ppo_run.history}, {
    "score": "The proxy: what the reward model says", "kl": "KL from SFT, nats per answer"}))
print(f"{iterations * batch} answers each. PPO made {iterations * -(-batch // recipe.ppo.minibatch)} optimizer steps "
      f"with two models, RLOO {iterations} with one. The proxy went from {rloo_history[0]['score']:+.2f} to "
      f"{rloo_history[-1]['score']:+.2f} (RLOO) and to {ppo_run.history[-1]['score']:+.2f} (PPO).")

# %% [markdown]
# ## On one map
#
# Three policies from the same SFT model. We ask all of them the same validation prompts and measure what none of them
# was trained on, the town's true score, and what it cost in distance.
#
# {{exercise 10.8}}
#
# **What you should see:** for one answer of two tokens, each twice as likely as under the reference, 2 ln 2 = 1.39
# nats.

# %%
def kl_per_answer(log_probs: Float[Tensor, "batch response"], ref_log_probs: Float[Tensor, "batch response"],
                  mask: Bool[Tensor, "batch response"]) -> Float[Tensor, "batch"]:
    """Estimate KL(π‖π_ref) in nats by each answer sampled from the policy."""
    ### BEGIN SOLUTION
    return torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1)
    ### END SOLUTION


kl_per_answer = check("10.8", kl_per_answer)
print(kl_per_answer(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.25]]).log(), torch.tensor([[True, True]])))

# %%
asked = data.prompts_of("valid", lesson.pick(500, 24))
asked_ids = data.encoded(tokenizer, asked)


def measured(policy):
    """One sampled answer per validation prompt -> true score, proxy and KL of each, (prompts,) tensors."""
    found = {"true": [], "proxy": [], "kl": []}
    for start in range(0, len(asked), 100):
        rollout = sample(policy, asked_ids[start:start + 100], MAX_NEW_TOKENS, TEMPERATURE,
                         generator=torch.Generator(device=device).manual_seed(start))
        texts = [models.decode_response(tokenizer, ids) for ids in rollout.response_ids()]
        found["true"] += [grade(prompt, text, finished).score for prompt, text, finished in zip(
            asked[start:start + 100], texts, rollout.finished.tolist(), strict=True)]
        found["proxy"] += ppo.score_rollout(reward_model, rollout).tolist()
        log_probs, ref_log_probs = (ppo.rollout_log_probs(model, rollout, TEMPERATURE)
                                    for model in (policy, sft_reference))
        found["kl"] += kl_per_answer(log_probs, ref_log_probs, rollout.response_mask).tolist()
    return {name: torch.tensor(values) for name, values in found.items()}


# %%
policies = {"SFT": sft, "DPO": dpo_policy, "RLOO": rloo_policy, "PPO": ppo_policy, "PPO, averaged": ppo_run.ema}
results = {name: measured(policy) for name, policy in policies.items()}
# name: (models in memory while training, how many of them are trained, rankings it learnt from)
taught = checkpoints.load_card(base_model.shipped("reward", "1.3m")).get("rankings", "?")
COST = {"DPO": (2, 1, len(rankings)), "RLOO": (3, 1, taught), "PPO": (4, 2, taught)}


def spread(values):
    """Mean with its 95 % interval over prompts."""
    return stats.mean_interval(values.tolist(), method="normal")


lines = []
for name, found in results.items():
    true, gain = spread(found["true"]), spread(found["true"] - results["SFT"]["true"])
    cells = name, f"{true.value:.3f} ({true.low:.3f} to {true.high:.3f})"
    if name != "SFT":
        cells += (f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})", f"{found['proxy'].mean():+.2f}",
                  f"{found['kl'].mean():.2f}")
    if name in COST:
        count, trained, labels = COST[name]
        cells += (f"{minutes[name.lower()]:.1f}", f"{count} ({trained})", labels)
    lines.append(cells)
display(plots.table(("", "true score (95 %)", "gain over SFT (95 %)", "proxy", "KL", "minutes", "models (trained)",
                     "rankings"), lines))

# %% [markdown]
# Which models? DPO: policy and reference (which could even leave, its numbers are known before the first step). RLOO:
# these and the reward model. PPO: these and the critic. Our loop also keeps an averaged copy of the policy, as
# InstructGPT did. It lags behind, and in so short a run a good part of it is still SFT, so its KL and its proxy are
# lower. To be fair to all, "PPO" is its last weights, as for DPO and RLOO, and the average has a row and a dot of its
# own. A model that is trained weighs four times a frozen
# one, because Adam keeps two numbers and a gradient per weight.

# %%
weights = {name.lower(): (16 * trained, 4 * (count - trained)) for name, (count, trained, _) in COST.items()}
display(plots.methods({"ppo_ema" if "averaged" in name else name.lower(): {
    "true": spread(found["true"]), "kl": spread(found["kl"])} for name, found in results.items()},
                      {name.lower(): minutes[name.lower()] for name in COST}, weights))


def verdict(name):
    """What the gain over SFT allows us to say."""
    gain = spread(results[name]["true"] - results["SFT"]["true"])
    word = "clearly better than SFT" if gain.low > 0 else "clearly worse than SFT" if gain.high < 0 else (
        "not clearly different from SFT")
    return f"{name} is {word} ({gain.value:+.3f})"


print("; ".join(verdict(name) for name in COST) + f", on {len(asked)} prompts and one training seed each. A 7B model "
      f"would need {7 * sum(weights['ppo'])} GB for PPO and {7 * sum(weights['dpo'])} GB for DPO, before activations.")
best, worst = (pick(COST, key=lambda name: results[name]["true"].mean().item()) for pick in (max, min))
between = spread(results[best]["true"] - results[worst]["true"])
print(f"Between the best ({best}) and the last ({worst}) of the three lie {between.value:.3f} ({between.low:+.3f} to "
      f"{between.high:+.3f}): " + ("a real difference here." if between.low > 0 else "no verdict between them."))

# %% [markdown]
# **How fair was that?** Be hard on such tables, including ours.
#
# - DPO saw only the rankings of this notebook. The reward model behind RLOO and PPO was trained on more of them (last
#   column), and its own training is not in the minutes. Nor is the time people need for ranking, which dwarfs all else.
# - The learning rates were chosen by hand, on few tries. Whoever tunes one method more makes it win; much of the
#   quarrel between papers is about that.
# - β does not mean the same: DPO's belongs to log odds, PPO's to a reward model that was scaled to unit variance. So
#   compare at equal *KL*, on the map, not at equal β.
# - One training seed each. The intervals are over prompts only.
#
# ### Read
#
# Numbers first, then always the answers.

# %%
shown = asked[:lesson.pick(4, 2)]
written = {name: [answer_rows(policy, tokenizer, [prompt], seed=5, progress=False)[0] for prompt in shown]
           for name, policy in policies.items()}
display(plots.answers(written, [prompt.text for prompt in shown]))

# %% [markdown]
# ## What changed and what stayed
#
# | | InstructGPT's PPO | DPO (2023) | RLOO (2024) | GRPO (2024) |
# |---|---|---|---|---|
# | objective | reward − β · KL | **the same** | **the same** | k3 in the loss: the gradient of the *other* KL |
# | learns from | its own answers, scored | rankings of given answers | its own answers, scored | the same |
# | reward model | yes | inside the policy | yes | yes, or a program that checks |
# | what to expect (baseline) | critic | – | the other answers | the group's mean; then divided by its spread |
# | an action is | a token | – | the whole answer | a token; every one gets the answer's advantage |
# | clipping | yes | – | not needed with one step per batch | yes |
# | models in memory | 4 | 2 | 3 | 3, or 2 with a checker |
# | can find answers nobody ranked | yes | no | yes | yes |
# | SFT first, KL to a reference | yes | yes | yes | yes (some later recipes drop the KL) |
#
# Read the table by rows: demonstrations, rankings, a reference and a price for leaving it are all still there. What
# went is machinery for *reaching* the optimum. And what you learnt about rewards (noise, Goodhart, length, the mask,
# END) is true of all four.
#
# ## Taking it elsewhere
#
# When your model no longer fits a laptop, others have built the engines. What of ours becomes what:
#
# | ours | TRL | OpenRLHF | verl |
# |---|---|---|---|
# | `sft.py` | `SFTTrainer` | `openrlhf.cli.train_sft` | its SFT trainer |
# | `reward.py`, K-wise | `RewardTrainer`, pairs only | `train_rm`, pairs only | no trainer of its own |
# | `ppo.py` | removed in 1.13 (2026) | `train_ppo_ray` | `main_ppo`, `algorithm.adv_estimator=gae` |
# | `kl_coef`, KL in the reward | – | `--algo.kl.init_coef` | `algorithm.use_kl_in_reward=True`, off by default! |
# | `dpo.train_dpo` | `DPOTrainer` | `train_dpo` | – |
# | `rloo.train_rloo` | `RLOOTrainer` | an advantage estimator of `train_ppo_ray` | `algorithm.adv_estimator=rloo` |
# | `grpo.train_grpo` | `GRPOTrainer` | likewise | `algorithm.adv_estimator=grpo` |
# | PPO-ptx | – | removed in 2025 | – |
# | `feedback.preference_pairs` | its preference format | `--data.chosen_key`, `--data.rejected_key` | – |
#
# **Said honestly:** the table was read from these projects' code and documents in November 2026, in TRL 1.16, OpenRLHF
# 0.11 and a verl of that time. *OpenRLHF and verl were not run in this course*, TRL's trainers were, on our files
# (`docs/real_models.md` has the numbers beside ours), and flags change; look before you type. Here we run the hand-over
# on our side: the policy is an ordinary `transformers` model, the pairs are ordinary rows.

# %%
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps a file that is still mapped
    dpo_policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    elsewhere = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids, mask = pad_right(asked_ids[:4])
    with torch.no_grad():
        there, here = models.logits(elsewhere, ids, mask), models.logits(dpo_policy.cpu(), ids, mask)
exported = feedback.preference_pairs(ranked)
print("Loaded by transformers alone, the policy says the same to within "
      f"{(there - here)[mask.bool()].abs().max():.0e}.")
print(f"{len(exported)} rows such as {exported[0]}")

# %% [markdown]
# Three things get lost on the way, and nothing warns you: the grouping of a ranking's pairs (all three want single
# pairs), token ids (the pairs are text and will be tokenised again; see notebook 05 on why that matters), and the bias
# of our reward model, as a `transformers` classifier head has none.
#
# ## What real systems do differently
#
# - Llama 3 was aligned in several rounds of fine-tuning and DPO, with fresh answers of the newest policy ranked in
#   between: "online" in steps, against what the dotted line shows.
# - A term that holds up the chosen answers (a bit of SFT loss on them) is often added to DPO against the fall you saw.
# - Reasoning models are trained with GRPO and its kin on tasks that a program can check. Where a check exists, nobody
#   needs a reward model; where taste decides, one is still trained on rankings.
# - DAPO (2025) divides by the tokens of the batch instead of the answer's, and leaves out groups whose answers all got
#   the same score: they teach nothing. Many recipes have dropped the KL altogether.
# - DPO's authors used β = 0.1 and one or few epochs; RLOO's 2 to 4 answers per prompt.
#
# ## Key points
#
# - $r = \beta\log(\pi^*/\pi_{ref}) + \beta\log Z$: a policy is a reward model, and DPO trains it as one.
# - DPO and PPO have the same optimum. With few labels, they do not get to the same place.
# - RLOO: what was to be expected is what the other answers got. Unbiased, no critic.
# - GRPO's divisions weigh prompts and answers; its k3 pulls along another KL. Measure what a switch does before you
#   flip it.
# - A checker is a reward without noise, and its holes are found without fail.
# - Compare on the truth, at equal KL, with intervals, and say what was not counted.
#
# **Next:** this was the last station of InstructGPT's road in town. The road goes on with your own demonstrations, your
# own rankings, your own question, and now you can read what the engines do, line by line.

# %%
progress("10")
