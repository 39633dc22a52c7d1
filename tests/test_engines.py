"""Our formulas beside those of TRL and verl: where they should agree they do, where ours differ it is on purpose.

Skipped where an engine is not installed; neither belongs to the course's requirements. To run them:

    pip install trl==1.12.0 requests       (its RLOO trainer imports requests without asking for it)
    pip install --no-deps verl==0.9.1      (only its core_algos is read, which needs nothing of verl's own packages)

TRL's PPO keeps its formulas inside long methods. `theirs` runs those lines, from one that is named to another that
is named, on our numbers; nothing of theirs is copied here. In another version the lines may be gone: then the test
says so. What agreed to which tolerance, and when it was run, stands in docs/pitfalls.md.
"""

import importlib.metadata
import importlib.util
import inspect
import os
import sys
import textwrap
import types
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "pitfalls"))
from tiny import KINDS, PROMPTS, a_policy, a_reward_model, rollout_of  # noqa: E402
from transformers import GPT2ForSequenceClassification, LlamaForSequenceClassification  # noqa: E402

from rlhf_lite import dpo, ppo, ppo_math, reward, rloo, sampling  # noqa: E402
from rlhf_lite.models import BEGIN, END, PAD  # noqa: E402

both_kinds = pytest.mark.parametrize("kind", KINDS)
EXACT = {"rtol": 1e-9, "atol": 1e-12}  # formulas, in float64
FORWARD = {"rtol": 1e-4, "atol": 1e-5}  # through a model, in float32
MASK = torch.arange(6) < torch.tensor([6, 3, 1, 5])[:, None]


@pytest.fixture(scope="module")
def trl():
    """TRL's modules that matter here."""
    pytest.importorskip("trl", reason="TRL is not installed: pip install trl==1.12.0")
    if importlib.metadata.version("trl") != "1.12.0":
        pytest.skip(f"these comparisons read the source of TRL 1.12.0, not of {importlib.metadata.version('trl')}")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental import utils as experimental
    from trl.experimental.ppo import ppo_trainer
    from trl.trainer import dpo_trainer, reward_trainer, rloo_trainer, utils
    return SimpleNamespace(ppo=ppo_trainer, dpo=dpo_trainer, reward=reward_trainer, rloo=rloo_trainer, utils=utils,
                           experimental=experimental)


@pytest.fixture(scope="module")
def verl():
    """verl's core_algos, loaded alone: importing the package would ask for ray, tensordict and omegaconf."""
    spec = importlib.util.find_spec("verl")
    if spec is None:
        pytest.skip("verl is not installed: pip install --no-deps verl==0.9.1")
    root, stubs = Path(spec.submodule_search_locations[0]), {}

    def stub(name, **contents):
        stubs[name] = types.ModuleType(name)
        vars(stubs[name]).update(contents)

    class Anything:
        pass

    for package in ("verl", "verl.trainer", "verl.trainer.ppo", "verl.workers"):
        stub(package, __path__=[])
    stub("omegaconf", DictConfig=dict)
    stub("tensordict", TensorDict=dict)
    stub("verl.utils", __path__=[], as_torch_index=None, group_mean_std=None)
    stub("verl.utils.device", get_device_name=lambda: "cpu", get_torch_device=lambda: torch.cpu)
    stub("verl.utils.import_utils", deprecated=lambda *arguments: lambda function: function)
    stub("verl.trainer.config", AlgoConfig=Anything)
    stub("verl.workers.config", ActorConfig=Anything)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs.items():
            patch.setitem(sys.modules, name, module)
        for name in ("verl.utils.torch_functional", "verl.trainer.ppo.core_algos"):
            location = importlib.util.spec_from_file_location(name, root.joinpath(*name.split(".")[1:])
                                                              .with_suffix(".py"))
            module = importlib.util.module_from_spec(location)
            patch.setitem(sys.modules, name, module)
            setattr(stubs[name.rpartition(".")[0]], name.rpartition(".")[2], module)  # "import a.b as c" reads this
            location.loader.exec_module(module)
        yield module


def theirs(function, first, last, **names):
    """Run the lines of a function's source from the first that starts with `first` to the next with `last` -> names."""
    lines = inspect.getsource(function).splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip().startswith(first)]
    ends = [number for number, line in enumerate(lines) if line.strip().startswith(last) and starts
            and number >= starts[0]]
    assert starts and ends, f"{function.__qualname__} no longer has the lines {first!r} ... {last!r}"
    space = {**function.__globals__, **names}
    exec(textwrap.dedent("\n".join(lines[starts[0]:ends[0] + 1])), space)  # their code, from the installed package
    return space


def draws(seed=0, n=5, mask=MASK):
    """n random tensors of the mask's shape, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *mask.shape, generator=generator, dtype=torch.float64)


def close(one, other, **tolerance):
    torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), check_dtype=False,
                               **(tolerance or EXACT))


def at(mask, values):
    return torch.where(mask, values, 0.0)


# ---------------------------------------------------------------- TRL: forward passes

def a_classifier(kind):
    """(our reward model, the same one as transformers' sequence classifier): TRL's form of a reward model."""
    ours = a_reward_model(kind, bias=0.0, scale=3.0)
    config = ours.config
    config.num_labels = 1
    model = {"llama": LlamaForSequenceClassification, "gpt2": GPT2ForSequenceClassification}[kind](config).eval()
    getattr(model, model.base_model_prefix).load_state_dict(ours.trunk.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(ours.score.weight)
    return ours, model


def a_rollout():
    return rollout_of(PROMPTS[:5], [[7, 8, END], [END], [9, 10, 11, 12], [13, 14, 15, END], [16, 17]])


@both_kinds
def test_trl_log_probs_entropies_and_scores(trl, kind):
    """Log-probabilities of a left-padded rollout, entropies and the reward model's score. TRL makes its masks from the
    ids: they are ours as long as no PAD was sampled and PAD is not END (P7, P8)."""
    policy, rollout = a_policy(kind, scale=3.0), a_rollout()
    start = rollout.prompt_length
    with torch.no_grad():
        logits = trl.ppo.forward(policy, rollout.sequences, PAD).logits[:, start - 1:-1] / (0.7 + 1e-7)
        log_probs, entropy = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, start, 0.7,
                                                      entropy=True)
        reward_model, classifier = a_classifier(kind)
        _, scores, places = trl.experimental.get_reward(classifier, rollout.sequences, PAD, start)
    mask = rollout.response_mask
    close(at(mask, trl.utils.selective_log_softmax(logits, rollout.responses)), at(mask, log_probs), **FORWARD)
    close(at(mask, trl.utils.entropy_from_logits(logits)), at(mask, entropy), **FORWARD)
    close(scores, ppo.score_rollout(reward_model, rollout), **FORWARD)
    assert (places - start + 1).tolist() == rollout.lengths.tolist()


def test_trl_truncation_agrees_with_how_we_stop(trl):
    """Cut at the first END, PAD after it: what our sampler writes in the first place."""
    rollout = a_rollout()
    noise = torch.where(rollout.response_mask, rollout.responses, 33)
    noise[2, :] = torch.tensor([9, 10, 11, 12])
    cut = trl.ppo.truncate_response(END, PAD, noise)
    assert torch.equal(cut[[0, 1, 2, 3]], rollout.responses[[0, 1, 2, 3]])


# ---------------------------------------------------------------- TRL: PPO

def trl_collect(trl, responses, scores, log_probs, ref_log_probs, values, pad=PAD, lam=0.95, kl_coef=0.3):
    """TRL's rewards, advantages (whitened) and returns."""
    lengths = trl.experimental.first_true_indices(responses == pad) - 1
    args = SimpleNamespace(kl_estimator="k1", kl_coef=kl_coef, whiten_rewards=False, gamma=1.0, lam=lam)
    return theirs(trl.ppo.PPOTrainer.train, "response_idxs = torch.arange(", "advantages = torch.masked_fill(",
                  responses=responses, sequence_lengths=lengths, scores=scores, logprobs=log_probs,
                  ref_logprobs=ref_log_probs, values=values, args=args)


def ids_of(mask, end=True):
    """Responses whose masks these are; the last token is END (or not)."""
    ids = torch.where(mask, 9, PAD)
    if end:
        ids[torch.arange(len(mask)), mask.sum(1) - 1] = END
    return ids


def test_trl_rewards_and_returns_agree_on_responses_that_fill_the_width(trl):
    """KL in the reward, score on the last token, GAE, returns; the whitened advantages up to n against n - 1 (P34)."""
    mask = torch.ones(4, 6, dtype=torch.bool)
    log_probs, ref, values, more, _ = draws(mask=mask)
    scores = more[:, 0]
    found = trl_collect(trl, ids_of(mask, end=False), scores, log_probs, ref, values)
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref, mask, 0.3)
    advantages, returns = ppo_math.gae(rewards, values, mask, 1.0, 0.95)
    close(found["rewards"], rewards)
    close(found["returns"], returns)
    close(found["advantages"], ppo_math.masked_whiten(advantages, mask) * (23 / 24) ** 0.5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("after_end", "expected"), [(0.0, 0.75), (0.2, 0.76), (0.8, 0.79)])
def test_trl_puts_the_score_after_end_and_we_put_it_on_end(trl, after_end, expected):
    """P4, intended: with score 1 and V .2 the END has advantage .80 here, and in TRL one that depends on the value of
    the place after it."""
    mask = torch.tensor([[True, True, True, False, False]])
    zeros, values = torch.zeros(1, 5, dtype=torch.float64), torch.full((1, 5), 0.2, dtype=torch.float64)
    values[0, 3] = after_end
    score = torch.ones(1, dtype=torch.float64)
    found = trl_collect(trl, ids_of(mask), score, zeros, zeros, values)
    assert found["rewards"].argmax(1).item() == 3 and (found["returns"] - found["values"])[0, 2].item() == \
        pytest.approx(expected)
    ours, _ = ppo_math.gae(ppo_math.shaped_rewards(score, zeros, zeros, mask, 0.3), values, mask, 1.0, 0.95)
    assert ours[0, 2].item() == pytest.approx(0.8) and ppo_math.last_action(mask).item() == 2


def test_trl_with_pad_equal_to_end_never_trains_the_end(trl):
    """P8, intended: with one token for both, TRL's mask leaves END out and an empty response has length -1; ours counts
    the actions, so END is the last of them."""
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    responses = torch.where(ids_of(mask) == PAD, END, ids_of(mask))
    zeros = torch.zeros(2, 4, dtype=torch.float64)
    found = trl_collect(trl, responses, torch.ones(2, dtype=torch.float64), zeros, zeros, zeros, pad=END)
    assert (~found["padding_mask"]).sum(1).tolist() == [2, 0] and found["sequence_lengths"].tolist() == [1, -1]
    assert ppo_math.last_action(mask).tolist() == [2, 0]


def test_trl_losses_agree(trl):
    """The clipped policy loss and the clipped value loss, masked means over actions."""
    new, old, advantages, values, returns = draws(1)
    old_values = 0.5 * values
    new.requires_grad_(), values.requires_grad_()
    pads = ~MASK
    found = theirs(trl.ppo.PPOTrainer.train, "vpredclipped = torch.clamp(", "loss = pg_loss + args.vf_coef * vf_loss",
                   vpred=values, mb_values=old_values, mb_return=returns, mb_logprobs=old, new_logprobs=new,
                   mb_advantage=advantages, padding_mask=pads, padding_mask_p1=pads, micro_batch_inds=slice(None),
                   args=SimpleNamespace(cliprange=0.2, cliprange_value=0.2, vf_coef=1.0))
    ours, statistics = ppo_math.policy_loss(new, old, advantages, MASK)
    error = ppo_math.value_loss(values, old_values, returns, MASK)
    close(found["pg_loss"], ours)
    close(found["vf_loss"], error)
    for one, other in zip(torch.autograd.grad(found["loss"], [new, values]),
                          torch.autograd.grad(ours + error, [new, values]), strict=True):
        close(one, other)
    # P38, intended: TRL's approxkl is a mean over padding too; ours over the actions only, and another estimator.
    difference = at(MASK, new - old).detach()
    unmasked = theirs(trl.ppo.PPOTrainer.train, "approxkl = ", "approxkl = ", logprobs_diff=difference)["approxkl"]
    assert unmasked.item() == pytest.approx(0.5 * (difference**2).sum().item() / MASK.numel())
    assert unmasked.item() / ppo_math.masked_mean(ppo_math.kl_k2(new, old), MASK).item() == \
        pytest.approx(MASK.sum().item() / MASK.numel())
    assert statistics["approx_kl"] == pytest.approx(
        ppo_math.masked_mean(ppo_math.kl_k3(old, new), MASK).item())


def test_trl_statistics(trl):
    """Masked mean agrees. Whitening, intended: TRL divides by n - 1, has NaN for one value, and with shift_mean=False
    takes the mean away and puts it back unscaled, so signs change; ours only divides (P34)."""
    values = draws(2)[0] + 0.4
    n = MASK.sum().item()
    close(trl.ppo.masked_mean(values, MASK), ppo_math.masked_mean(values, MASK))
    close(at(MASK, trl.ppo.masked_whiten(values, MASK)),
          ppo_math.masked_whiten(values, MASK) * ((n - 1) / n) ** 0.5, rtol=1e-6, atol=1e-8)
    shifted, ours = trl.ppo.masked_whiten(values, MASK, False), ppo_math.masked_whiten(values, MASK, False)
    small = torch.tensor([[0.1, 5.0, 9.0]], dtype=torch.float64)
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    assert not torch.allclose(at(MASK, shifted), ours) and torch.equal(ours.sign(), at(MASK, values).sign())
    assert (ppo_math.masked_whiten(small - 3, everywhere, False).sign() == (small - 3).sign()).all()
    far = torch.tensor([[0.5, 100.0, 120.0]], dtype=torch.float64)
    assert trl.ppo.masked_whiten(far, everywhere, False)[0, 0] > 10 * \
        ppo_math.masked_whiten(far, everywhere, False)[0, 0]
    one = torch.tensor([[True, False, False]])
    assert trl.ppo.masked_whiten(far, one)[0, 0].isnan() and ppo_math.masked_whiten(far, one)[0, 0] == 0
    soiled = torch.where(MASK, values, float("nan"))  # P35, intended
    assert trl.ppo.masked_mean(soiled, MASK).isnan() and ppo_math.masked_mean(soiled, MASK).isfinite()


def test_trl_looks_for_eos_whatever_the_stop_token_is(trl):
    """P13, intended: responses truncated at another stop token count as unfinished; we have one rule for both."""
    responses = torch.tensor([[7, 50, PAD], [7, 8, END]])
    found = theirs(trl.ppo.PPOTrainer.train, "contain_eos_token = ", "contain_eos_token = ",
                   postprocessed_responses=trl.ppo.truncate_response(50, PAD, responses),
                   self=SimpleNamespace(processing_class=SimpleNamespace(eos_token_id=END)))
    assert found["contain_eos_token"].tolist() == [False, True]


# ---------------------------------------------------------------- TRL: reward model, DPO, RLOO

def trl_pair_loss(trl, chosen, rejected):
    outputs = SimpleNamespace(logits=torch.cat([chosen, rejected])[:, None])
    first, last = "rewards_chosen, rewards_rejected = torch.chunk(", "loss = -nn.functional.logsigmoid(rewards_chosen -"
    source = trl.reward.RewardTrainer.compute_loss
    return theirs(source, first, last, outputs=outputs, inputs={"margin": 0.0})["loss"]


def test_trl_ranking_loss(trl):
    """The same for pairs, and for one ranking as all its pairs. Intended: over rankings of unequal K we average per
    prompt first, as the paper does, TRL over pairs (P32)."""
    scores = draws(3)[0]
    close(trl_pair_loss(trl, scores[:, 0], scores[:, 1]),
          reward.kwise_loss(scores[:, :2], torch.tensor([[1.0, 2.0]] * 4)))
    ranks = torch.tensor([[3.0, 1, 2, 2, 4, 5], [1, 2, 9, 9, 9, 9]])
    places = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    wins = reward.preferred_pairs(ranks, places).nonzero()
    chosen, rejected = (scores[wins[:, 0], wins[:, column]] for column in (1, 2))
    ours = reward.kwise_losses(scores[:2], ranks, places)
    for prompt in range(2):
        of = wins[:, 0] == prompt
        close(trl_pair_loss(trl, chosen[of], rejected[of]), ours[prompt])
    together = trl_pair_loss(trl, chosen, rejected)
    pairs = torch.tensor([14, 1])
    assert abs(together - ours.mean()) > 1e-2
    close(together, (ours * pairs).sum() / 15)


@both_kinds
def test_trl_dpo_loss_and_gradient(trl, kind):
    """Two policies through TRL's own lines: log-probabilities, margins, loss and the gradient of every weight."""
    policy, reference = a_policy(kind, 0, 3.0), a_policy(kind, 1, 3.0)
    prompts = [[BEGIN, 5, 6], [BEGIN, 7], [BEGIN, 8, 9, 10]]
    chosen, rejected = [[11, END], [12, 13, 14], [END]], [[15, 16, 17, END], [18], [19, 20]]
    rows = [p + r for answers in (chosen, rejected) for p, r in zip(prompts, answers, strict=True)]
    ids, mask = sampling.pad_right(rows)
    places = torch.arange(ids.shape[1])
    starts = torch.tensor([len(prompt) for prompt in prompts] * 2)[:, None]
    found = theirs(trl.dpo.DPOTrainer._compute_loss, "input_ids = inputs", "per_sequence_loss = -F.logsigmoid(",
                   inputs={"input_ids": ids, "completion_mask": mask * (places >= starts)},
                   outputs=policy(input_ids=ids, attention_mask=mask), model=policy, model_kwargs={
                       "input_ids": ids, "attention_mask": mask}, device=ids.device, self=SimpleNamespace(
                       ld_alpha=None, precompute_ref_logps=False, ref_model=reference, model=policy, beta=0.1,
                       f_divergence_type="reverse_kl", loss_types=["sigmoid"], loss_weights=[1.0],
                       args=SimpleNamespace(gradient_checkpointing_kwargs=None)))
    four = [dpo.sequence_log_probs(model, prompts, answers) for model in (policy, reference)
            for answers in (chosen, rejected)]
    close(found["chosen_logps"], four[0], **FORWARD)
    close(found["ref_rejected_logps"], four[3], **FORWARD)
    ours = dpo.dpo_loss(*four, 0.1)
    close(found["per_sequence_loss"].mean(), ours, **FORWARD)
    for one, other in zip(torch.autograd.grad(found["per_sequence_loss"].mean(), policy.parameters()),
                          torch.autograd.grad(ours, policy.parameters()), strict=True):
        close(one, other, rtol=1e-3, atol=1e-5)


def test_trl_rloo_advantages_and_loss(trl):
    """Leave-one-out advantages; TRL's clipped sequence ratio has REINFORCE's gradient before the first step, which is
    the only one of ours. Intended: no normalisation of advantages here (its default there, too)."""
    scores = draws(4)[0].flatten()
    found = theirs(trl.rloo.RLOOTrainer._generate_and_score_completions, "grouped_rewards = rewards.view(",
                   "advantages = torch.nan_to_num(", rewards=scores, num_generations=4,
                   self=SimpleNamespace(normalize_advantages=False))
    advantages = rloo.rloo_advantages(scores, 4)
    close(found["advantages"], advantages)
    log_probs = draws(5)[1].requires_grad_()
    loss = theirs(trl.rloo.RLOOTrainer._compute_loss, "logps = (per_token_logps * completion_mask)", "loss = ",
                  per_token_logps=log_probs, completion_mask=MASK.double(),
                  inputs={"old_logps": at(MASK, log_probs).sum(1).detach(), "advantages": advantages[:4]},
                  self=SimpleNamespace(epsilon_low=0.2, epsilon_high=0.2))["loss"]
    ours = rloo.rloo_loss(log_probs, advantages[:4], MASK)
    close(torch.autograd.grad(loss, log_probs)[0], torch.autograd.grad(ours, log_probs)[0])


# ---------------------------------------------------------------- verl

def actor(**changes):
    """What verl's policy loss reads of its configuration."""
    return type("Config", (dict,), {"clip_ratio": 0.2, "clip_ratio_low": None, "clip_ratio_high": None,
                                    "global_batch_info": {}, **changes})()


def test_verl_kl_estimators(verl):
    """k1, k2 and k3 of tokens. Intended: verl clamps k3 to 10, ours never (P26)."""
    p, q, *_ = 0.3 * draws(6)
    for name, ours in (("k1", ppo_math.kl_k1), ("k2", ppo_math.kl_k2), ("k3", ppo_math.kl_k3)):
        close(verl.kl_penalty(p, q, name), ours(p, q), rtol=1e-8, atol=1e-8)
    far = torch.tensor([[-30.0]], dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64)
    assert verl.kl_penalty(*far, "k3").item() == 10 and ppo_math.kl_k3(*far).item() > 1e12


def test_verl_rewards_and_returns(verl):
    """Token rewards, GAE and returns on every action, finished or not; advantages up to n against n - 1. Intended: at
    padding we have 0, verl keeps whatever stood there (P6)."""
    log_probs, ref, values, more, _ = draws(7)
    scores, last = more[:, 0], ppo_math.last_action(MASK)
    at_last = torch.zeros_like(values).index_put((torch.arange(4), last), scores)
    theirs_rewards = verl.compute_rewards(at_last, log_probs, ref, 0.3)
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref, MASK, 0.3)
    close(at(MASK, theirs_rewards), rewards)
    white, returns = verl.compute_gae_advantage_return(theirs_rewards, values, MASK.double(), 1.0, 0.95)
    advantages, ours = ppo_math.gae(rewards, values, MASK, 1.0, 0.95)
    close(at(MASK, returns), ours)
    n = MASK.sum().item()
    close(at(MASK, white), ppo_math.masked_whiten(advantages, MASK) * ((n - 1) / n) ** 0.5, rtol=1e-6, atol=1e-8)
    assert (ours[~MASK] == 0).all() and (returns[~MASK] != 0).any()


def test_verl_losses(verl):
    """Policy and value loss with their gradients, for any split by a common count. Intended: verl's dual clip bounds
    what a bad token with a large ratio costs, at 3 times its advantage; the paper has no such
    bound and neither have we."""
    new, old, advantages, values, returns = draws(8)
    new, old = 0.3 * new, 0.3 * old
    new.requires_grad_(), values.requires_grad_()
    pair = []
    for loss, error in ((verl.compute_policy_loss_vanilla(old, new, advantages, MASK.double(), config=actor())[0],
                         verl.compute_value_loss(values, returns, 0.5 * values.detach(), MASK.double(), 0.2)[0]),
                        (ppo_math.policy_loss(new, old, advantages, MASK)[0],
                         ppo_math.value_loss(values, 0.5 * values.detach(), returns, MASK))):
        pair.append((loss, error, *torch.autograd.grad(loss + error, [new, values])))
    for one, other in zip(*pair, strict=True):
        close(one, other)
    parts = [verl.compute_policy_loss_vanilla(old[h], new[h], advantages[h], MASK[h].double(),
                                              config=actor(global_batch_info={"batch_num_tokens": MASK.sum()}))[0]
             for h in (slice(0, 1), slice(1, 4))]
    close(sum(parts), ppo_math.policy_loss(new, old, advantages, MASK)[0])
    bad = [torch.tensor([[value]], dtype=torch.float64) for value in (0.0, 2.0, -1.0)]  # old, new, advantage
    mask = torch.ones(1, 1, dtype=torch.bool)
    bounded, _ = verl.compute_policy_loss_vanilla(bad[0], bad[1], bad[2], mask.double(), config=actor())
    free, _ = ppo_math.policy_loss(bad[1], bad[0], bad[2], mask)
    assert bounded.item() == pytest.approx(3) and free.item() == pytest.approx(2.718281828**2)


def test_verl_rloo_and_adaptive_kl(verl):
    scores = draws(9)[0].flatten()
    token_rewards = torch.zeros(24, 3, dtype=torch.float64)
    token_rewards[:, 1] = scores
    found, _ = verl.compute_rloo_outcome_advantage(token_rewards, torch.ones(24, 3), [i // 4 for i in range(24)])
    close(found[:, 0], rloo.rloo_advantages(scores, 4))
    ours = 0.1
    controller = verl.AdaptiveKLController(0.1, 6.0, 10_000)
    for kl in (3.0, 6.5, 60.0):
        controller.update(kl, 256)
        ours = ppo_math.adaptive_kl(ours, kl, 6.0, 256)
        assert controller.value == pytest.approx(ours)
