"""The broken-PPO clinic of notebook 08: an apprentice, and the bugs that make it ill.

The idea: a patient is a short PPO run with one bug, and the bug is a library function that is swapped inside a
`with planted("Ada"):` block. Everything else is the unchanged library, on the six words of notebook 05's apprentice.
The patients' symptoms are drawn in `dashboard`; the tests that find the bugs are in `laboratory`.
"""

import contextlib
import functools
import warnings
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from rlhf_lite import models, ppo, ppo_math, sampling
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises.sampler import nucleus
from rlhf_lite.models import BEGIN, END

# ---------------------------------------------------------------- the apprentice and the rule that scores it

WORDS = ("um", "er", "END", "tea", "bun", "thanks")
TEA, BUN, THANKS = 3, 4, 5
PROMPTS = [[BEGIN, TEA], [BEGIN, BUN], [BEGIN, TEA, BUN], [BEGIN, BUN, TEA, THANKS]]  # orders, of three lengths
# The library stops a run whose KL or ratio explodes. Here that is switched off: we want to watch.
CONFIG = ppo.PPOConfig(batch_size=128, minibatch=32, max_new_tokens=8, lr=3e-3, critic_lr=3e-3, kl_coef=0.2,
                       value_clip=None, warmup_iterations=3, micro_batch=None, max_kl=1e9, max_ratio=1e9)
LAG, TOP_P = 8, 0.9  # of the two patients whose answers come from another machine
VITALS = {"score": "reward", "kl": "KL (nats)", "clipfrac": "clip fraction", "length": "length (tokens)",
          "entropy": "entropy (nats)", "explained_variance": "explained variance"}


def say(ids):
    """Ids -> words."""
    return " ".join(WORDS[token] for token in ids)


def true_score(prompt, response):
    """The customer's opinion of a response.

    +½ for each thing that was ordered and served, for one "thanks" and for an end; −½ for each thing not ordered or
    served twice, for each "um" and "er", and for each further "thanks".
    """
    served = sum(0.5 * (item in prompt and item in response)
                 - 0.5 * max(0, response.count(item) - (item in prompt)) for item in (TEA, BUN))
    thanks = response.count(THANKS)
    mumbled = sum(token < END for token in response)
    return (served + 0.5 * (response[-1] == END) + 0.5 * (thanks > 0) - 0.5 * max(0, thanks - 1) - 0.5 * mumbled)


def reward(prompt, response):
    """What training sees: the true score, except that every further "thanks" adds ¼ instead of annoying."""
    return true_score(prompt, response) + 0.75 * max(0, response.count(THANKS) - 1)


def scores(rollout, rule=reward):
    """The (batch,) scores of a rollout."""
    return torch.tensor([float(rule(prompt, response)) for prompt, response in
                         zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)])


@functools.cache
def _originals():
    """(reference, critic); the critic has seen the reference's answers, as a copy of a reward model would have."""
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
    """(policy, reference, critic), as at the start of every run."""
    reference, critic = _originals()
    return models.copy_model(reference), models.copy_model(reference, trainable=False), models.copy_model(critic)


def run_ppo(iterations=24, seed=0, batch_size=128, progress=False):
    """One short PPO run -> its history, a list of dicts; "true" is the true score, which training never sees."""
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
    """A patient: what is wrong, the number of the pitfall, the test that catches it, and the functions to swap."""

    wrong: str
    pitfall: str
    test: str
    swaps: object  # function without arguments -> [(module or class, name, replacement)]


def _collects_at_another_temperature():
    draw, ask = ppo.sample, ppo.rollout_log_probs
    return [(ppo, "sample", lambda policy, prompts, length, temperature, **rest:
             draw(policy, prompts, length, 0.7, **rest)),
            (ppo, "rollout_log_probs", lambda model, rollout, temperature, **rest: ask(model, rollout, 0.7, **rest))]


def _leaves_dropout_on():
    def with_dropout(function):
        def wrapped(model, *rest, **options):
            if not any(parameter.requires_grad for parameter in model.parameters()):
                return function(model, *rest, **options)  # the reference
            hook = model.get_input_embeddings().register_forward_hook(
                lambda module, inputs, output: F.dropout(output, 0.1, training=True))
            try:
                return function(model, *rest, **options)
            finally:
                hook.remove()
        return wrapped
    return [(ppo, "response_log_probs", with_dropout(ppo.response_log_probs))]  # `rollout_log_probs` calls it too


def _flips_the_kl():
    shaped = ppo.shaped_rewards
    return [(ppo, "shaped_rewards", lambda scores, log_probs, ref_log_probs, mask, kl_coef:
             shaped(scores, ref_log_probs, log_probs, mask, kl_coef))]


def _flips_everything():
    shaped = ppo.shaped_rewards
    return [(ppo, "shaped_rewards", lambda scores, log_probs, ref_log_probs, mask, kl_coef:
             -shaped(scores, ref_log_probs, log_probs, mask, kl_coef))]


def _reverses_the_ratio():
    loss = ppo.policy_loss
    return [(ppo, "policy_loss", lambda log_probs, old_log_probs, *rest: loss(old_log_probs, log_probs, *rest))]


def _scores_the_last_column():
    return [(ppo_math, "last_action", lambda mask: torch.full((len(mask),), mask.shape[1] - 1))]


def _reads_values_too_late():
    return [(ppo, "response_values", lambda critic, rollout:
             critic(rollout.sequences, rollout.attention_mask)[:, rollout.prompt_length:])]


def _lets_pads_in():
    gae, whiten = ppo.gae, ppo.masked_whiten
    return [(ppo, "gae", lambda rewards, values, mask, *rest: gae(rewards, values, torch.ones_like(mask), *rest)),
            (ppo, "masked_whiten", lambda values, mask: whiten(values, torch.ones_like(mask)))]


def _does_not_train_end():
    take = ppo.Experience.take

    def without_end(experience, rows):  # called as each step begins; the collected experience stays as it is
        part = take(experience, rows)
        ended = part.rollout.finished.nonzero().squeeze(1)
        advantages = part.advantages.clone()
        advantages[ended, part.rollout.lengths[ended] - 1] = 0.0  # like a mask guessed from ids when pad == end
        return part._replace(advantages=advantages)
    return [(ppo.Experience, "take", without_end)]


def _moves_the_reference():
    set_up = ppo.set_up

    def following(policy, reference, *rest):
        loop, ema = set_up(policy, reference, *rest)
        pick = loop.pick

        def pick_and_move(*arguments):  # called as each iteration begins
            with torch.no_grad():
                for theirs, ours in zip(reference.parameters(), policy.parameters(), strict=True):
                    theirs.lerp_(ours, 0.3)
            return pick(*arguments)
        loop.pick = pick_and_move
        return loop, ema
    return [(ppo, "set_up", following)]


def _sells_nats_too_cheaply():
    set_up = ppo.set_up

    def cheap(*arguments):
        loop, ema = set_up(*arguments)
        loop.carried = {"kl_coef": 0.02}
        return loop, ema
    return [(ppo, "set_up", cheap)]


def _whitens_before_returns():
    gae = ppo.gae

    def white_targets(rewards, values, mask, *rest):
        advantages, _ = gae(rewards, values, mask, *rest)
        return advantages, ppo_math.masked_whiten(advantages, mask) + torch.where(mask, values, 0.0)
    return [(ppo, "gae", white_targets)]


def _samples_with_old_weights():
    draw, copies = ppo.sample, []

    def stale(policy, *rest, **options):
        copies.append(models.copy_model(policy, trainable=False))
        return draw(copies[max(0, len(copies) - 1 - LAG)], *rest, **options)
    return [(ppo, "sample", stale)]


def _cuts_off_the_tail():
    draw = ppo.sample

    def truncated(policy, *rest, **options):
        hook = policy.get_output_embeddings().register_forward_hook(
            lambda module, inputs, logits: nucleus(logits, TOP_P))
        try:
            return draw(policy, *rest, **options)
        finally:
            hook.remove()
    return [(ppo, "sample", truncated)]


CASES = {
    "Ada": Case("the rollouts are made at temperature 0.7, the update scores them at 1", "P19",
                "test_p19_one_temperature_for_sampling_and_scoring", _collects_at_another_temperature),
    "Bruno": Case("dropout is on while the policy is scored and trained", "P22",
                  "test_p22_no_dropout_in_any_model_during_rl", _leaves_dropout_on),
    "Clara": Case("the sign of the KL penalty is flipped", "P1",
                  "test_p01_without_reward_the_policy_returns_to_the_reference", _flips_the_kl),
    "Daria": Case("the sign of the reward and that of the KL penalty are both flipped", "P1",
                  "test_p01_the_sign_of_the_advantage", _flips_everything),
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
    "Kim": Case(f"the answers are written with the weights of {LAG} iterations ago", "P18",
                "test_p18_the_sampler_is_the_policy_that_learns", _samples_with_old_weights),
    "Lena": Case(f"the answers are written with top-p {TOP_P} and scored without it", "P18",
                 "test_p18_rare_tokens_keep_their_chance", _cuts_off_the_tail),
    "the last patient": Case("advantages are whitened before the returns are computed", "P37",
                             "test_p37_old_numbers_stay_frozen_over_the_inner_epochs", _whitens_before_returns),
}


def planted(patient):
    """Swap the library functions that make this patient ill; they are always put back after the block."""
    if patient not in CASES:
        raise KeyError(f"There is no patient {patient!r}; the clinic has {', '.join(CASES)}.")
    return swapped(CASES[patient].swaps())


@contextlib.contextmanager
def swapped(swaps):
    """Replace library functions inside a block, and put them back after it.

    swaps: [(module or class, name, replacement)].
    """
    healthy = [getattr(place, name) for place, name, _ in swaps]
    try:
        for place, name, replacement in swaps:
            setattr(place, name, replacement)
        yield
    finally:
        for (place, name, _), function in zip(swaps, healthy, strict=True):
            setattr(place, name, function)
