"""The broken-PPO clinic of notebook 08: an apprentice, the bugs that make it ill, and the curves one sees.

The idea: a patient is a short PPO run with one bug, and the bug is a library function swapped for the length of a
`with planted("Ada"):` block. Everything else is the library as it is, on the six words of notebook 05's apprentice.
"""

import contextlib
import functools
import warnings
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from rlhf_lite import models, plots, ppo, ppo_math, sampling
from rlhf_lite import tiny_world as tiny
from rlhf_lite.models import BEGIN, END

# ---------------------------------------------------------------- the apprentice and the rule that scores it

WORDS = ("um", "er", "END", "tea", "bun", "thanks")
TEA, BUN, THANKS = 3, 4, 5
PROMPTS = [[BEGIN, TEA], [BEGIN, BUN], [BEGIN, TEA, BUN], [BEGIN, BUN, TEA, THANKS]]  # orders, of three lengths
# The library stops a run whose KL or ratio explodes. Here the alarms are off: we want to watch.
CONFIG = ppo.PPOConfig(batch_size=128, minibatch=32, max_new_tokens=8, lr=3e-3, critic_lr=3e-3, kl_coef=0.2,
                       value_clip=None, warmup_iterations=3, micro_batch=None, max_kl=1e9, max_ratio=1e9)
VITALS = {"score": "reward", "kl": "KL (nats)", "clipfrac": "clip fraction", "length": "length (tokens)",
          "entropy": "entropy (nats)", "explained_variance": "explained variance"}


def say(ids):
    """Ids -> words."""
    return " ".join(WORDS[token] for token in ids)


def true_score(prompt, response):
    """What the customer thinks: +½ for each thing that was ordered and served, for one "thanks" and for an end;
    −½ for each thing not ordered or served twice, each "um" and "er", each further "thanks"."""
    served = sum(0.5 * (item in prompt and item in response)
                 - 0.5 * max(0, response.count(item) - (item in prompt)) for item in (TEA, BUN))
    thanks = response.count(THANKS)
    mumbled = sum(token < END for token in response)
    return (served + 0.5 * (response[-1] == END) + 0.5 * (thanks > 0) - 0.5 * max(0, thanks - 1) - 0.5 * mumbled)


def reward(prompt, response):
    """What training sees: as the truth, but every further "thanks" pleases by ¼ instead of annoying."""
    return true_score(prompt, response) + 0.75 * max(0, response.count(THANKS) - 1)


def scores(rollout, rule=reward):
    """(batch,) scores of a rollout."""
    return torch.tensor([float(rule(prompt, response)) for prompt, response in
                         zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)])


@functools.cache
def _originals():
    """(reference, critic); the critic has watched the reference talk, as a copy of a reward model would have."""
    reference = tiny.tiny_policy(tiny.make_world(vocab_size=len(WORDS)), seed=1, sharpness=4).requires_grad_(False)
    critic = models.scalar_from_policy(reference, seed=0).requires_grad_(True)
    rollout = sampling.sample(reference, PROMPTS * 32, CONFIG.max_new_tokens,
                              generator=torch.Generator().manual_seed(0))
    wanted = scores(rollout)[:, None].expand(rollout.response_mask.shape)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(50):
        values = ppo.response_values(critic, rollout)
        ppo_math.value_loss(values, values.detach(), wanted, rollout.response_mask, None).backward()
        optimizer.step()
        optimizer.zero_grad()
    return reference, critic.eval()


def team():
    """(policy, reference, critic) as every run starts with them."""
    reference, critic = _originals()
    return models.copy_model(reference), models.copy_model(reference, trainable=False), models.copy_model(critic)


def run_ppo(iterations=24, seed=0, batch_size=128, progress=False):
    """One short PPO run -> its history, a list of dicts; "true" in it is the true score, which training never sees."""
    truth, config = [], replace(CONFIG, iterations=iterations, seed=seed, batch_size=batch_size,
                                minibatch=batch_size // 4)

    def reward_fn(rollout):
        truth.append(scores(rollout, true_score).mean().item())
        return scores(rollout)

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")
        run = ppo.train_ppo(*team(), PROMPTS, config, reward_fn=reward_fn, progress=progress)
    return [entry | {"true": value} for entry, value in zip(run.history, truth, strict=True)]


# ---------------------------------------------------------------- the bugs

@dataclass(frozen=True)
class Case:
    """A patient: what is wrong, the number of the pitfall, the test that catches it, and the swapped functions."""

    wrong: str
    pitfall: str
    test: str
    swaps: object  # function without arguments -> [(module, name, replacement)]


def _collects_at_another_temperature():
    collect = ppo.collect

    def cooler(policy, reference, critic, prompts, config, *rest):
        return collect(policy, reference, critic, prompts, replace(config, temperature=0.7), *rest)
    return [(ppo, "collect", cooler)]


def _leaves_dropout_on():
    def with_dropout(function):
        def wrapped(policy, *rest, **options):
            hook = policy.get_input_embeddings().register_forward_hook(
                lambda module, inputs, output: F.dropout(output, 0.1, training=policy.training))
            policy.train()  # `sample` switches it off for itself; scoring and training do not
            try:
                return function(policy, *rest, **options)
            finally:
                policy.eval()
                hook.remove()
        return wrapped
    return [(ppo, "collect", with_dropout(ppo.collect)), (ppo, "update", with_dropout(ppo.update))]


def _flips_the_kl():
    shaped = ppo_math.shaped_rewards
    return [(ppo_math, "shaped_rewards", lambda scores, log_probs, ref_log_probs, mask, kl_coef:
             shaped(scores, ref_log_probs, log_probs, mask, kl_coef))]


def _reverses_the_ratio():
    loss = ppo_math.policy_loss
    return [(ppo_math, "policy_loss", lambda log_probs, old_log_probs, *rest: loss(old_log_probs, log_probs, *rest))]


def _scores_the_last_column():
    return [(ppo_math, "last_action", lambda mask: torch.full((len(mask),), mask.shape[1] - 1))]


def _reads_values_too_late():
    return [(ppo, "response_values", lambda critic, rollout:
             critic(rollout.sequences, rollout.attention_mask)[:, rollout.prompt_length:])]


def _lets_pads_in():
    gae, whiten = ppo_math.gae, ppo_math.masked_whiten
    return [(ppo_math, "gae", lambda rewards, values, mask, *rest:
             gae(rewards, values, torch.ones_like(mask), *rest)),
            (ppo_math, "masked_whiten", lambda values, mask, *rest: whiten(values, torch.ones_like(mask), *rest))]


def _does_not_train_end():
    update = ppo.update

    def without_end(policy, critic, ema, optimizers, batch, *rest):
        rows = batch.rollout.finished.nonzero().squeeze(1)
        advantages = batch.advantages.clone()
        advantages[rows, batch.rollout.lengths[rows] - 1] = 0.0  # what a mask guessed from ids does, with pad == end
        return update(policy, critic, ema, optimizers, replace(batch, advantages=advantages), *rest)
    return [(ppo, "update", without_end)]


def _moves_the_reference():
    collect = ppo.collect

    def following(policy, reference, *rest):
        with torch.no_grad():
            for theirs, ours in zip(reference.parameters(), policy.parameters(), strict=True):
                theirs.lerp_(ours, 0.3)
        return collect(policy, reference, *rest)
    return [(ppo, "collect", following)]


def _sells_nats_too_cheaply():
    collect = ppo.collect
    return [(ppo, "collect", lambda *arguments: collect(*arguments[:-1], 0.02))]


def _whitens_before_returns():
    gae = ppo_math.gae

    def white_targets(rewards, values, mask, *rest):
        advantages, _ = gae(rewards, values, mask, *rest)
        return advantages, ppo_math.masked_whiten(advantages, mask) + torch.where(mask, values, 0.0)
    return [(ppo_math, "gae", white_targets)]


CASES = {
    "Ada": Case("the rollouts are made at temperature 0.7, the update scores them at 1", "P19",
                "test_p19_one_temperature_for_sampling_and_scoring", _collects_at_another_temperature),
    "Bruno": Case("dropout is on while the policy is scored and trained", "P22",
                  "test_p22_no_dropout_in_any_model_during_rl", _leaves_dropout_on),
    "Clara": Case("the sign of the KL penalty is flipped", "P1",
                  "test_p01_without_reward_the_policy_returns_to_the_reference", _flips_the_kl),
    "Dov": Case("the ratio is upside down: old over new", "P1", "test_p01_the_sign_of_the_advantage",
                _reverses_the_ratio),
    "Edda": Case("the score lands in the last column instead of on the last action", "P4",
                 "test_p04_returns_are_the_score_minus_the_kl_to_go", _scores_the_last_column),
    "Finn": Case("values are read one token too late", "P3", "test_p03_a_value_does_not_know_the_token_it_judges",
                 _reads_values_too_late),
    "Greta": Case("padding leaks into GAE and whitening", "P6, P34",
                  "test_p06_garbage_at_padding_does_not_reach_gae", _lets_pads_in),
    "Hugo": Case("END is masked out of the policy loss (pad == end)", "P8", "test_p08_end_is_the_last_action",
                 _does_not_train_end),
    "Ines": Case("the reference follows the policy", "P27", "test_p27_the_reference_never_moves",
                 _moves_the_reference),
    "Jonas": Case("nothing is broken: the KL price does not fit the unit of the reward", "P39",
                  "test_p39_normalisation_is_done_once_and_stays_with_the_model", _sells_nats_too_cheaply),
    "the last patient": Case("advantages are whitened before the returns are computed", "P37",
                             "test_p37_old_numbers_stay_frozen_over_the_inner_epochs", _whitens_before_returns),
}


@contextlib.contextmanager
def planted(patient):
    """Swap the library functions that make this patient ill; whatever happens inside, they are put back."""
    if patient not in CASES:
        raise KeyError(f"There is no patient {patient!r}; the clinic has {', '.join(CASES)}.")
    swaps = CASES[patient].swaps()
    healthy = [getattr(module, name) for module, name, _ in swaps]
    try:
        for module, name, replacement in swaps:
            setattr(module, name, replacement)
        yield
    finally:
        for (module, name, _), function in zip(swaps, healthy, strict=True):
            setattr(module, name, function)


# ---------------------------------------------------------------- the dashboard

def _late(run, name):
    """Mean of a vital sign over the last third of a run."""
    last = [entry[name] for entry in run[-max(1, len(run) // 3):]]
    return sum(last) / len(last)


def compare(run, healthy, names=(*VITALS, "true")):
    """{vital sign: (value, lowest and highest healthy value, -1, 0 or +1)} over the last third of training.

    ±1: further from the healthy runs than these are from each other (or than a twentieth of their size).
    """
    found = {}
    for name in names:
        value, others = _late(run, name), [_late(other, name) for other in healthy]
        low, high = min(others), max(others)
        room = max(high - low, 0.05 * max(abs(low), abs(high)), 0.02)
        found[name] = value, low, high, (value > high + room) - (value < low - room)
    return found


def dashboard(runs, healthy):
    """One row of curves per patient, healthy runs in grey behind -> Figure. runs: {patient: history}."""
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(len(runs), len(VITALS), figsize=(13, 0.5 + 1.75 * len(runs)), squeeze=False,
                                layout="constrained", sharex=True)
    for row, (patient, run) in zip(axes, runs.items(), strict=True):
        for axis, (name, label) in zip(row, VITALS.items(), strict=True):
            times = [entry["iteration"] for entry in run]
            curves = [[entry[name] for entry in other] for other in healthy]
            axis.fill_between(times, [min(c) for c in zip(*curves)], [max(c) for c in zip(*curves)], color="#D9D9D9")
            for curve in curves:
                axis.plot(times, curve, color="#8C8C8C", linewidth=0.8)
            axis.plot(times, [entry[name] for entry in run], color=plots.COLOURS["reward"], linewidth=2)
            axis.tick_params(labelsize=8)
            if name == "explained_variance":
                axis.set_ylim(max(-2.0, axis.get_ylim()[0]), 1.05)
            if axis in axes[0]:
                axis.set_title(label, fontsize=10)
            if axis in axes[-1]:
                axis.set_xlabel("iteration", fontsize=9)
        row[0].set_ylabel(patient, fontsize=11, fontweight="bold", color=plots.COLOURS["reward"])
    return figure


def reading(patient, run, healthy):
    """One sentence on what stands out, beside the range of the healthy runs."""
    labels = {name: label.split(" (")[0] for name, label in VITALS.items()}
    late = [f"{labels[name]} {'high' if sign > 0 else 'low'}, {value:.2f} (healthy {low:.2f} to {high:.2f})"
            for name, (value, low, high, sign) in compare(run, healthy, VITALS).items() if sign]
    first = max(entry[0]["clipfrac"] for entry in healthy)
    early = (f" In the very first iteration {run[0]['clipfrac']:.0%} of the actions were clipped (healthy: at most "
             f"{first:.0%})." if run[0]["clipfrac"] > 2 * first + 0.02 else "")
    return f"{patient}, last third of training: " + ("; ".join(late) if late else
                                                     "nothing stands out from the healthy runs") + "." + early
