"""The laboratory of notebook 08: tests that find a silent bug in about a second, before any training.

The idea: what must hold for every correct PPO loop (the ratio is 1 at step 0, the KL pulls back, padding is invisible)
is checked on one small batch, with the instruments that the reader writes. The same tests examine the library as it is
and every patient of the clinic.
"""

import ast
import contextlib
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from rlhf_lite import models, plots, ppo, ppo_math
from rlhf_lite import tiny_world as tiny
from rlhf_lite.exercises.clinic import CONFIG, PROMPTS, TEA, VITALS, WORDS, planted, scores, team
from rlhf_lite.models import BEGIN, END

# ---------------------------------------------------------------- the instruments: what the reader writes

def largest_ratio_error(new_log_probs, old_log_probs, mask):
    """(batch, R) log-probabilities of two passes, (batch, R) mask -> the largest |ratio − 1| of any action."""
    return torch.where(mask, torch.expm1(new_log_probs - old_log_probs), 0.0).abs().max()


def kl_per_response(log_probs, ref_log_probs, mask):
    """(batch, R) log-probabilities and mask -> the KL in nats per response, estimated by k1."""
    return torch.where(mask, ppo_math.kl_k1(log_probs, ref_log_probs), 0.0).sum(dim=1).mean()


def depends_on_padding(statistic, values, mask):
    """Does statistic(values, mask) change with what stands at padding, or with how much padding there is?"""
    healthy = statistic(torch.where(mask, values, 0.0), mask)
    soiled = [statistic(torch.where(mask, values, garbage), mask) for garbage in (100.0, float("nan"))]
    wider = statistic(F.pad(torch.where(mask, values, 0.0), (0, 3)), F.pad(mask, (0, 3)))
    return not all(torch.allclose(other, healthy, atol=1e-5) for other in (*soiled, wider))


def actions_of(responses, end):
    """(batch, R) ids, filled up with END itself -> (batch, R) bool: the sampled tokens, the first END among them."""
    ended_before = (responses == end).long().cumsum(dim=1) - (responses == end).long()
    return ended_before == 0


def moved(model, train):
    """Run train(model); has any weight of the model changed?"""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(model)
    return any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


# ---------------------------------------------------------------- the laboratory

def _collect(policy, reference, critic, prompts=PROMPTS, rule=scores, kl_coef=0.2, **changes):
    config = replace(CONFIG, **{**dict(batch_size=64, minibatch=64), **changes})
    return ppo.collect(policy, reference, critic, prompts, config, rule, 0, kl_coef)[0], config


def _step(policy, critic, batch, config, lr):
    optimizers = [torch.optim.SGD(model.parameters(), lr=lr) for model in (policy, critic)]
    return ppo.update(policy, critic, models.copy_model(policy), dict(zip(("policy", "critic"), optimizers)), batch,
                      config, 0)


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
    seen, loss = [], ppo_math.policy_loss
    policy, reference, critic = team()
    batch, config = _collect(policy, reference, critic)

    def watched(new, old, advantages, mask, *rest):
        seen.append(float(largest_ratio_error(new.detach(), old.detach(), mask)))
        return loss(new, old, advantages, mask, *rest)
    ppo_math.policy_loss = watched
    try:
        _step(policy, critic, batch, config, lr=0.0)
    finally:
        ppo_math.policy_loss = loss
    return max(seen) < 1e-3


def _kl_at_step_zero(kl_per_response):
    policy, reference, critic = team()
    seen, shaped = [], ppo_math.shaped_rewards

    def watched(scores, log_probs, ref_log_probs, mask, kl_coef):
        seen.append(float(kl_per_response(log_probs, ref_log_probs, mask)))
        return shaped(scores, log_probs, ref_log_probs, mask, kl_coef)
    ppo_math.shaped_rewards = watched
    try:
        _collect(policy, reference, critic)
    finally:
        ppo_math.shaped_rewards = shaped
    return abs(max(seen, key=abs)) < 1e-5


def _reward_pulls_up(_):
    policy, reference, critic = team()
    batch, config = _collect(policy, reference, _silent(critic), PROMPTS[:1],
                             lambda rollout: (rollout.responses[:, 0] == TEA).float(), 0.0, max_new_tokens=1)
    before = _next_log_probs(policy)[TEA]
    _step(policy, critic, batch, config, lr=0.1)
    return bool(_next_log_probs(policy)[TEA] > before)


def kl_without_reward(patient=None):
    """A policy away from its reference, every score 0, the nat at 1 point, one step -> exact KL before and after."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        policy, reference, critic = team()
        with torch.no_grad():
            policy.lm_head.weight.mul_(1.5)
        fixed = _next_log_probs(reference)

        def kl():
            ours = _next_log_probs(policy)
            return (ours.exp() * (ours - fixed)).sum().item()
        before = kl()
        batch, config = _collect(policy, reference, _silent(critic), PROMPTS[:1],
                                 lambda rollout: torch.zeros(len(rollout.sequences)), 1.0, max_new_tokens=1,
                                 whiten_advantages=False)
        _step(policy, critic, batch, config, lr=0.05)
        return before, kl()


def _kl_pulls_back(_):
    before, after = kl_without_reward()
    return after < before


def critic_errors(patient=None):
    """(mean, standard deviation) of return − value over the actions of a first batch: what the critic has to learn."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        batch, _ = _collect(*team())
        errors = (batch.returns - batch.values)[batch.rollout.response_mask]
        return errors.mean().item(), errors.std(correction=0).item()


def _score_on_the_last_action(_):
    policy, reference, critic = team()
    batch, _ = _collect(policy, reference, _silent(critic), kl_coef=0.0, whiten_advantages=False, lam=1.0)
    mask = batch.rollout.response_mask
    return torch.allclose(batch.advantages[mask], scores(batch.rollout)[:, None].expand(mask.shape)[mask], atol=1e-4)


def _targets_without_whitening():
    found = []
    for shift in (0.0, 3.0):
        torch.manual_seed(0)  # where dropout is on, let it be the same
        policy, reference, critic = team()
        torch.nn.init.constant_(_silent(critic).score.bias, shift)
        batch, _ = _collect(policy, reference, critic, lam=1.0)
        found.append(batch.returns[batch.rollout.response_mask])
    return torch.allclose(*found, atol=1e-3)


def _value_before_the_token(_):
    _, _, critic = team()
    rollout = tiny.make_world([[BEGIN, TEA]], len(WORDS), 1).rollout  # the same prompt, another token in every row
    return bool(ppo.response_values(critic, rollout).detach().std() < 1e-5)


def _padding_is_invisible(depends_on_padding):
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 2 + [False] * 4])
    values = torch.arange(12.0).view(2, 6).sin()
    rewards = torch.where(mask, values.cos(), 0.0)

    def advantages(values, mask):
        width = mask.shape[1] - rewards.shape[1]
        return ppo_math.gae(F.pad(rewards, (0, width)), values, mask, 1.0, 0.95)[0][mask]
    statistics = (ppo_math.masked_mean, advantages,
                  lambda values, mask: ppo_math.masked_whiten(values, mask)[mask])
    return not any(depends_on_padding(statistic, values, mask) for statistic in statistics)


def _end_is_trained(_):
    policy, reference, critic = team()
    batch, config = _collect(policy, reference, _silent(critic), PROMPTS[:1], lambda rollout: rollout.finished.float(),
                             0.0, max_new_tokens=1, whiten_advantages=False)
    before = _next_log_probs(policy)[END]
    _step(policy, critic, batch, config, lr=0.1)
    return bool(_next_log_probs(policy)[END] > before)


def _reference_stays(moved):
    policy, reference, critic = team()

    def train(reference):
        ppo.train_ppo(policy, reference, critic, PROMPTS, replace(CONFIG, iterations=2, batch_size=16, minibatch=16),
                      reward_fn=scores, progress=False)
    return not moved(reference, train)


# name: (label, the reader's instrument it uses, function -> True when all is well)
LAB = {"ratio": ("ratio is 1\nat step 0", largest_ratio_error, _ratio_at_step_zero),
       "kl": ("KL is 0\nat step 0", kl_per_response, _kl_at_step_zero),
       "pull": ("KL\npulls back", None, _kl_pulls_back),
       "reward": ("reward\npulls up", None, _reward_pulls_up),
       "score": ("score on\nlast action", None, _score_on_the_last_action),
       "value": ("V_t blind\nto token t", None, _value_before_the_token),
       "padding": ("padding\ninvisible", depends_on_padding, _padding_is_invisible),
       "end": ("END is\ntrained", None, _end_is_trained),
       "moved": ("reference\nstays", moved, _reference_stays)}


def returns_ignore_the_critic(patient=None):
    """With λ = 1 a return is what was earned, whatever the critic thinks (P37); True when it is so."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        return _targets_without_whitening()


def examine(patient=None, **instruments):
    """{name of a test: passed?}, for a patient or the library as it is. instruments: the reader's own functions."""
    with planted(patient) if patient else contextlib.nullcontext(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {name: function(instruments.get(name, instrument)) for name, (_, instrument, function) in LAB.items()}


def which_instrument(signs, results):
    """Patients × instruments -> Figure. signs: {patient: compare(...)}, results: {patient: examine(...)}."""
    import matplotlib.pyplot as plt
    vitals = {**VITALS, "true": "true score"}
    labels = [label.split(" (")[0].replace(" ", "\n") for label in vitals.values()] + [l for l, _, _ in LAB.values()]
    figure, axis = plt.subplots(figsize=(13, 1.6 + 0.42 * len(results)), layout="constrained")
    gap = 0.6
    for y, patient in enumerate(results):
        cells = [("▲" if signs[patient][name][3] > 0 else "▼" if signs[patient][name][3] < 0 else "",
                  plots.COLOURS["sft"]) for name in vitals]
        cells += [("" if results[patient][name] else "✗", plots.COLOURS["reward"]) for name in LAB]
        for x, (mark, colour) in enumerate(cells):
            place = x + (gap if x >= len(vitals) else 0)
            axis.add_patch(plt.Rectangle((place - 0.46, y - 0.42), 0.92, 0.84, color=colour if mark else "#EFEFEF"))
            axis.text(place, y, mark, ha="center", va="center", color="white" if mark == "✗" else "#222222",
                      fontsize=12, fontweight="bold")
    places = [x + (gap if x >= len(vitals) else 0) for x in range(len(labels))]
    axis.set_xticks(places, labels, fontsize=8.5)
    axis.set_yticks(range(len(results)), list(results), fontsize=10)
    axis.xaxis.tick_top()
    axis.set(xlim=(-0.6, places[-1] + 0.6), ylim=(len(results) - 0.4, -0.6))
    axis.set_xlabel("left: curves after training (▲ higher, ▼ lower than healthy runs)    ·    right: tests that take "
                    "about a second (✗ fails)")
    axis.grid(False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


# ---------------------------------------------------------------- the appendix

def pitfalls_table(folder=None):
    """The pitfalls as a Markdown table, read from the docstrings of tests/pitfalls; a sentence where there are
    none."""
    folder = Path(folder or Path(__file__).resolve().parents[2] / "tests" / "pitfalls")
    rows = []
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name[:6] == "test_p" and node.name[6:8].isdigit():
                text = " ".join((ast.get_docstring(node) or "").split()).removeprefix("Symptom: ").split(" Right:")[0]
                rows.append((int(node.name[6:8]), node.name, text.replace("|", "\\|")))
    if not rows:
        return "The folder tests/pitfalls is not here; the table is made from a clone of the whole repository."
    return "\n".join(["| | what you would see | test |", "|---|---|---|",
                      *(f"| P{number} | {text} | `{name}` |" for number, name, text in sorted(rows))])
