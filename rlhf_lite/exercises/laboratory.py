"""The laboratory of notebook 08: tests that find a silent bug in about a second, before any training.

The idea: some things must hold for every correct PPO loop (the ratio is 1 at step 0, the KL pulls back, padding is
invisible). They are checked on one small batch, with instruments that the reader writes. The same tests examine the
unchanged library and every patient of the clinic.
"""

import ast
import contextlib
import warnings
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from rlhf_lite import models, ppo, ppo_math
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises.clinic import CONFIG, PROMPTS, TEA, WORDS, planted, scores, swapped, team
from rlhf_lite.models import BEGIN, END

# ---------------------------------------------------------------- the instruments: what the reader writes

def largest_ratio_error(new_log_probs, old_log_probs, mask):
    """(batch, R) log-probabilities of two passes, (batch, R) mask -> the largest |ratio − 1| of any action."""
    return torch.where(mask, torch.expm1(new_log_probs - old_log_probs), 0.0).abs().max()


def kl_per_response(log_probs, ref_log_probs, mask):
    """(batch, R) log-probabilities and mask -> the KL in nats per response, estimated by k1."""
    return torch.where(mask, ppo_math.kl_k1(log_probs, ref_log_probs), 0.0).sum(dim=1).mean()


def depends_on_padding(statistic, values, mask):
    """Does statistic(values, mask) change with the values at padding, or with the amount of padding?"""
    healthy = statistic(torch.where(mask, values, 0.0), mask)
    soiled = [statistic(torch.where(mask, values, garbage), mask) for garbage in (100.0, float("nan"))]
    wider = statistic(F.pad(torch.where(mask, values, 0.0), (0, 3)), F.pad(mask, (0, 3)))
    return not all(torch.allclose(other, healthy, atol=1e-5) for other in (*soiled, wider))


def actions_of(responses, end):
    """(batch, R) ids, padded with END itself -> (batch, R) bool: the sampled tokens, including the first END."""
    ended_before = (responses == end).long().cumsum(dim=1) - (responses == end).long()
    return ended_before == 0


def moved(model, train):
    """Run train(model); has any weight of the model changed?"""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(model)
    return any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def surprise_gap(log_probs, entropy, mask):
    """(batch, R) log-probabilities of the sampled tokens, entropies of the distributions they came from, mask -> the
    mean of surprise − entropy over the actions, in nats per token: about 0 if the tokens came from these distributions.
    """
    return ppo_math.masked_mean(-log_probs - entropy, mask)


# ---------------------------------------------------------------- the laboratory

def _iteration(policy, reference, critic, prompts=PROMPTS, rule=scores, lr=0.0, swaps=(), **changes):
    """One iteration of the library's PPO with one step of plain gradient descent -> its `ppo.Experience`."""
    config = replace(CONFIG, **{"iterations": 1, "batch_size": 64, "minibatch": 64,
                                "lr": 10 * lr, "critic_lr": 10 * lr, **changes})  # the warm-up begins at a tenth
    seen, experience = [], ppo.Experience
    with swapped([(ppo, "Experience", lambda *columns: seen.append(experience(*columns)) or seen[-1]),
                  (ppo, "adam", lambda model, lr: torch.optim.SGD(model.parameters(), lr=lr)), *swaps]):
        ppo.train_ppo(policy, reference, critic, prompts, config, rule, progress=False)
    return seen[0]


def _next_log_probs(policy, prompt=PROMPTS[0]):
    """(vocabulary,) log-probabilities of the first token of a response."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        return models.logits(policy, ids, torch.ones_like(ids))[0, -1].log_softmax(-1)


def _silent(critic):
    torch.nn.init.zeros_(critic.score.weight)
    torch.nn.init.zeros_(critic.score.bias)
    return critic


def _ratio_at_step_zero(largest_ratio_error):
    seen, loss = [], ppo.policy_loss

    def watched(new, old, advantages, mask, *rest):
        seen.append(float(largest_ratio_error(new.detach(), old.detach(), mask)))
        return loss(new, old, advantages, mask, *rest)
    _iteration(*team(), swaps=[(ppo, "policy_loss", watched)])
    return max(seen) < 1e-3


def _kl_at_step_zero(kl_per_response):
    seen, shaped = [], ppo.shaped_rewards

    def watched(scores, log_probs, ref_log_probs, mask, kl_coef):
        seen.append(float(kl_per_response(log_probs, ref_log_probs, mask)))
        return shaped(scores, log_probs, ref_log_probs, mask, kl_coef)
    _iteration(*team(), swaps=[(ppo, "shaped_rewards", watched)])
    return abs(max(seen, key=abs)) < 1e-5


def _reward_pulls_up(_):
    policy, reference, critic = team()
    before = _next_log_probs(policy)[TEA]
    _iteration(policy, reference, _silent(critic), PROMPTS[:1],
               lambda rollout: (rollout.responses[:, 0] == TEA).float(), lr=0.1, kl_coef=0.0, max_new_tokens=1)
    return bool(_next_log_probs(policy)[TEA] > before)


def kl_without_reward(patient=None):
    """One step with every score 0 and a nat costing 1, from a policy off its reference -> exact KL before and after."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        policy, reference, critic = team()
        with torch.no_grad():
            policy.lm_head.weight.mul_(1.5)
        fixed = _next_log_probs(reference)

        def kl():
            ours = _next_log_probs(policy)
            return (ours.exp() * (ours - fixed)).sum().item()
        before = kl()
        _iteration(policy, reference, _silent(critic), PROMPTS[:1], lambda rollout: torch.zeros(len(rollout.sequences)),
                   lr=0.05, kl_coef=1.0, max_new_tokens=1, whiten_advantages=False)
        return before, kl()


def _kl_pulls_back(_):
    before, after = kl_without_reward()
    return after < before


def critic_errors(patient=None):
    """(mean, standard deviation) of return − value over the first batch's actions: what the critic has to learn."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        batch = _iteration(*team())
        errors = (batch.returns - batch.values)[batch.mask]
        return errors.mean().item(), errors.std(correction=0).item()


def _score_on_the_last_action(_):
    policy, reference, critic = team()
    batch = _iteration(policy, reference, _silent(critic), kl_coef=0.0, whiten_advantages=False, lam=1.0)
    mask = batch.mask
    return torch.allclose(batch.advantages[mask], scores(batch.rollout)[:, None].expand(mask.shape)[mask], atol=1e-4)


def _targets_without_whitening():
    found = []
    for shift in (0.0, 3.0):
        torch.manual_seed(0)  # if dropout is on, make it the same both times
        policy, reference, critic = team()
        torch.nn.init.constant_(_silent(critic).score.bias, shift)
        batch = _iteration(policy, reference, critic, lam=1.0)
        found.append(batch.returns[batch.mask])
    return torch.allclose(*found, atol=1e-3)


def _value_before_the_token(_):
    _, _, critic = team()
    rollout = tiny.make_world([[BEGIN, TEA]], len(WORDS), 1).rollout  # the same prompt, a different token in every row
    return bool(ppo.response_values(critic, rollout).detach().std() < 1e-5)


def _padding_is_invisible(depends_on_padding):
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 2 + [False] * 4])
    values = torch.arange(12.0).view(2, 6).sin()
    rewards = torch.where(mask, values.cos(), 0.0)

    def advantages(values, mask):
        width = mask.shape[1] - rewards.shape[1]
        return ppo.gae(F.pad(rewards, (0, width)), values, mask, 1.0, 0.95)[0][mask]
    statistics = (ppo.masked_mean, advantages, lambda values, mask: ppo.masked_whiten(values, mask)[mask])
    return not any(depends_on_padding(statistic, values, mask) for statistic in statistics)


def _end_is_trained(_):
    policy, reference, critic = team()
    before = _next_log_probs(policy)[END]
    _iteration(policy, reference, _silent(critic), PROMPTS[:1], lambda rollout: rollout.finished.float(), lr=0.1,
               kl_coef=0.0, max_new_tokens=1, whiten_advantages=False)
    return bool(_next_log_probs(policy)[END] > before)


def _reference_stays(moved):
    policy, reference, critic = team()

    def train(reference):
        ppo.train_ppo(policy, reference, critic, PROMPTS, replace(CONFIG, iterations=2, batch_size=16, minibatch=16),
                      reward_fn=scores, progress=False)
    return not moved(reference, train)


def _sampler_is_the_policy(surprise_gap):
    seen, score = [], ppo.rollout_log_probs

    def watched(model, rollout, temperature, **options):
        found = score(model, rollout, temperature, **options)
        if options.get("entropy"):
            seen.append(float(surprise_gap(*found, rollout.response_mask)))
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library notices a negative KL by itself
        _iteration(*team(), lr=0.1, iterations=3, batch_size=1024, minibatch=1024,
                   swaps=[(ppo, "rollout_log_probs", watched)])
    return max(map(abs, seen)) < 0.05  # a few standard errors; weights must have moved for old ones to be noticed


# name: (label, the reader's instrument it uses, function -> True if all is well)
LAB = {"ratio": ("ratio is 1\nat step 0", largest_ratio_error, _ratio_at_step_zero),
       "kl": ("KL is 0\nat step 0", kl_per_response, _kl_at_step_zero),
       "pull": ("KL\npulls back", None, _kl_pulls_back),
       "reward": ("reward\npulls up", None, _reward_pulls_up),
       "score": ("score on\nlast action", None, _score_on_the_last_action),
       "value": ("V_t blind\nto token t", None, _value_before_the_token),
       "padding": ("padding\ninvisible", depends_on_padding, _padding_is_invisible),
       "end": ("END is\ntrained", None, _end_is_trained),
       "sampler": ("sampler is\nthe policy", surprise_gap, _sampler_is_the_policy),
       "moved": ("reference\nstays", moved, _reference_stays)}


def returns_ignore_the_critic(patient=None):
    """Whether, with λ = 1, a return is just what was earned, whatever the critic thinks (P37)."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        return _targets_without_whitening()


def examine(patient=None, tests=None, **instruments):
    """{name of a test: passed?} for a patient or the unchanged library.

    tests: the names of those to run (default: all). instruments: the reader's own functions, by the test's name.
    """
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {name: function(instruments.get(name, instrument)) for name, (_, instrument, function) in LAB.items()
                if tests is None or name in tests}


# ---------------------------------------------------------------- the appendix

def pitfalls_table(folder=None):
    """The pitfalls as a Markdown table, read from the docstrings in tests/pitfalls; a sentence if there are none."""
    folder = Path(folder or Path(__file__).resolve().parents[2] / "tests" / "pitfalls")
    rows = []
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name[:6] == "test_p" and node.name[6:8].isdigit():
                text = " ".join((ast.get_docstring(node) or "").split()).removeprefix("Symptom: ").split(" Right:")[0]
                rows.append((int(node.name[6:8]), node.name, text.replace("|", "\\|")))
    if not rows:
        return "The folder tests/pitfalls is missing; to make this table, clone the whole repository."
    return "\n".join(["| | what you would see | test |", "|---|---|---|",
                      *(f"| P{number} | {text} | `{name}` |" for number, name, text in sorted(rows))])
