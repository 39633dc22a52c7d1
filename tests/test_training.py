"""What `training.Loop` does for every training: on two models of a few numbers each, then in all six of them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from pieces import optimizer_steps
from tiny import PROMPTS, a_config, a_policy, low_tokens, same_weights

from rlhf_lite import distributed, dpo, guards, ppo, pretrain, reward, rloo, sft
from rlhf_lite.models import END, copy_model, scalar_from_policy
from rlhf_lite.reward import RankedPrompt
from rlhf_lite.training import Loop, move_average


@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    seed: int = 0
    max_grad_norm: float = 1e9
    max_ratio: float = 3.0
    micro_batch: int | None = None
    minibatch: int = 3
    inner_epochs: int = 2
    save_every: int = 2


def a_loop(rounds=1, config=Config(), schedule=lambda step, peak: peak, data=None, **options):  # noqa: B008  (frozen)
    torch.manual_seed(0)
    models = {"model": torch.nn.Linear(2, 2), "other": torch.nn.Linear(1, 1)}
    return Loop("test", config, rounds, models, data or {}, schedule, {"progress": False, **options})


def a_step(loop, **numbers):
    """One optimizer step on a sum of all parameters."""
    loop.backward(sum(p.sum() for model in loop.models.values() for p in model.parameters()), **numbers)
    return loop.step()


# ---------------------------------------------------------------- one step

def test_numbers_add_up_over_the_parts_of_a_step_but_the_largest_is_kept(monkeypatch):
    """P38: and start again with the next step; those of other processes join them."""
    loop = a_loop()
    for _ in loop:
        loop.backward(torch.zeros(1, requires_grad=True), loss=torch.tensor(2.0), max_ratio=2.0)
        assert a_step(loop, loss=0.5, max_ratio=1.0) == {"loss": 2.5, "max_ratio": 2.0}
        assert a_step(loop, loss=0.5, max_ratio=1.0) == {"loss": 0.5, "max_ratio": 1.0}
        means = loop.means()
        assert (means["loss"], means["max_ratio"]) == (1.5, 2.0)
        monkeypatch.setattr(distributed, "add", lambda numbers: {**numbers, "max_ratio": 2.5})  # as another one has
        assert a_step(loop, loss=0.5, max_ratio=1.0)["max_ratio"] == 2.5


def test_a_step_forgets_the_gradients_of_the_steps_before():
    """A loss that is linear in the weights has the same gradient in every step."""
    loop = a_loop()
    with optimizer_steps() as steps:
        for _ in loop:
            for _ in range(3):
                a_step(loop)
    gradients = [gradient for _, of_one in steps for gradient in of_one.values()]
    assert len(gradients) == 3 * 4 and all((gradient == 1).all() for gradient in gradients)


def test_every_parameter_follows_the_schedule():
    """Matrices and vectors of all models; the step counts, not the round. Adam moves by the rate: the gradient is 1."""
    loop = a_loop(rounds=2, schedule=lambda step, peak: peak / (step + 1))
    parameters = [p for model in loop.models.values() for p in model.parameters()]
    before = [p.clone() for p in parameters]
    for _ in loop:
        for _ in range(2):
            a_step(loop)
    for start, end in zip(before, parameters, strict=True):
        assert torch.allclose(start - end, torch.tensor(0.1 * (1 + 1 / 2 + 1 / 3 + 1 / 4)), atol=1e-5)


@pytest.mark.parametrize(("numbers", "why"), [({"max_ratio": 4.0}, "4-fold"), ({"loss": float("nan")}, "not a number")])
def test_a_step_that_is_refused_is_not_made(numbers, why):
    loop = a_loop()
    before = [p.clone() for p in loop.models["model"].parameters()]
    with pytest.raises(RuntimeError, match=rf"test diverged in round 1 \(optimizer step 1\): .*{why}"):
        for _ in loop:
            a_step(loop, **numbers)
    assert all(torch.equal(p, q) for p, q in zip(before, loop.models["model"].parameters(), strict=True))


# ---------------------------------------------------------------- which rows

def test_every_epoch_holds_every_row_once_in_an_order_of_its_own():
    loop, seen = a_loop(), []
    for loop.steps in range(8):  # two epochs of four batches
        seen.append(loop.batch([5] * 40, 10).tolist())
    for epoch in (seen[:4], seen[4:]):
        assert sorted(sum(epoch, [])) == list(range(40))
    assert {frozenset(rows) for rows in seen[:4]} != {frozenset(rows) for rows in seen[4:]}


def test_every_inner_epoch_holds_every_row_once_in_an_order_of_its_own():
    loop, orders = a_loop(), []
    for loop.round in range(2):
        minibatches = [rows.tolist() for rows in loop.minibatches(8)]
        assert [len(rows) for rows in minibatches] == [3, 3, 2] * 2
        orders += [sum(minibatches[:3], []), sum(minibatches[3:], [])]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len(set(map(tuple, orders))) == 4


def test_processes_share_the_rows_and_draw_different_numbers(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    parts, picked, drawn = [], [], []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        loop = a_loop(config=Config(micro_batch=2))
        parts += [part.tolist() for part in loop.parts(np.arange(7))]
        picked += loop.pick([*"abcdefg"], 5)
        drawn.append(torch.rand(3, generator=loop.generator()))
    assert parts == [[0, 2], [4, 6], [1, 3], [5]]
    assert len(picked) == len(set(picked)) == 5
    assert not torch.equal(*drawn)


# ---------------------------------------------------------------- what is kept

def test_the_last_round_is_evaluated_and_saved(tmp_path):
    def run():
        loop = a_loop(3, folder=tmp_path, evaluate=lambda model, done: {"seen": done}, evaluate_every=2)
        rounds = []
        for number in loop:
            loop.log(**a_step(loop, loss=1.0))
            rounds.append(number)
        return rounds, [entry.get("seen") for entry in loop.history]

    assert run() == ([0, 1, 2], [None, 2, 3])
    assert run() == ([], [None, 2, 3])


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    """Weights, moments of the optimizer, averages, numbers that are carried along, and the count of the steps."""
    def run(folder, stop=None):
        loop = a_loop(4, folder=folder, schedule=lambda step, peak: peak / (step + 1))
        model = loop.models["model"]
        average = copy_model(model, trainable=False)
        loop.averages, loop.carried = {"average": average}, {"number": 1.0}
        for number in loop:
            for _ in range(2):
                loop.backward(model(torch.rand(3, 2, generator=loop.generator())).square().sum())
                loop.step()
            move_average(average, model, 0.5)
            loop.carried["number"] *= 2
            loop.log(round=number)
            if number == stop:
                raise KeyboardInterrupt
        return [*model.parameters(), *average.parameters()], loop.carried, loop.history, loop.steps

    weights, *numbers = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=3)  # saved after the second round
    resumed, *others = run(tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(weights, resumed, strict=True))
    assert numbers == others == [{"number": 16.0}, [{"round": number} for number in range(4)], 8]


@pytest.mark.parametrize(("rows", "others"), [
    ([1, 2], [[1, 3], [1, 2, 2], None]), ((1, 2), [(1, 3)]),
    (np.arange(6).reshape(2, 3), [np.arange(6).reshape(3, 2), np.arange(6)[::-1].reshape(2, 3),
                                  np.arange(6.0).reshape(2, 3)])])
def test_a_run_does_not_resume_on_other_data(tmp_path, rows, others):
    for _ in (loop := a_loop(folder=tmp_path, data={"rows": rows})):
        loop.log(**a_step(loop))
    for other in others:
        with pytest.raises(ValueError, match=r"other settings \(rows\)"):
            next(iter(a_loop(folder=tmp_path, data={"rows": other})))


# ---------------------------------------------------------------- all six trainings

EXAMPLES = [sft.build_example(prompt, [30 + i, 31, END]) for i, prompt in enumerate(PROMPTS)]
RANKINGS = [RankedPrompt(prompt, [[20, 21, END], [22, END], [23, 24, 25]][:2 + i % 2], [1, 2, 2][:2 + i % 2])
            for i, prompt in enumerate(PROMPTS[:8])]
WEB = pretrain.pack([list(range(3, 60))] * 4, 16)
# What is trained on, what the data are called, and settings with which it takes five or six rounds.
TRAININGS = {
    "pretrain": (WEB, "rows", pretrain.PretrainConfig(steps=5, batch_size=4, warmup=2, save_every=2)),
    "sft": (EXAMPLES, "examples", sft.SFTConfig(epochs=5, batch_size=5, lr=1e-2, dropout=0.1, pretraining_mix=0.1)),
    "reward": (RANKINGS, "rankings", reward.RewardConfig(epochs=2, batch_prompts=3, lr=3e-3, save_every=2)),
    "ppo": (PROMPTS, "prompts", a_config(iterations=5, save_every=2, ptx_coef=0.1, target_kl=0.5, inner_epochs=2)),
    "dpo": (RANKINGS, "rankings", dpo.DPOConfig(epochs=2, batch_prompts=3, lr=1e-3, save_every=2)),
    "rloo": (PROMPTS, "prompts", rloo.RLOOConfig(iterations=5, prompts_per_step=4, group=2, max_new_tokens=5,
                                                 warmup_iterations=3, save_every=2)),
}
every_training = pytest.mark.parametrize("name", TRAININGS)


def train(name, policy=None, data=None, changes=(), **options):
    """One of the six from a policy, with a critic or reward model made of it -> (all models it trains, history)."""
    policy, data = policy or a_policy(), TRAININGS[name][0] if data is None else data
    config, options = replace(TRAININGS[name][2], **dict(changes)), {"progress": False, **options}
    reference, scores = copy_model(policy, trainable=False), scalar_from_policy(policy, 0)
    if name == "pretrain":
        return [policy], pretrain.train(policy, data, config, **options)
    if name == "sft":
        return [policy], sft.train_sft(policy, data, config, EXAMPLES[:3], WEB, **options)
    if name == "reward":
        return [scores], reward.train_reward(scores, data, config, RANKINGS[:3], **options)
    if name == "dpo":
        return [policy], dpo.train_dpo(policy, reference, data, config, **options)
    if name == "rloo":
        return [policy], rloo.train_rloo(policy, reference, data, config, low_tokens, **options)
    run = ppo.train_ppo(policy, reference, scores, data, config, low_tokens, WEB, **options)
    return [policy, scores, run.ema], run.history


def same(one, other):
    """Equal weights and equal histories, but for the time they took."""
    (models, history), (others, history_again) = one, other
    without_time = ([{**entry, "seconds": 0} if isinstance(entry, dict) else entry for entry in entries]
                    for entries in (history, history_again))
    return next(without_time) == next(without_time) and all(map(same_weights, models, others))


@every_training
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(name, tmp_path):
    expected = train(name)

    def stop(model, done):
        if done == 4:  # the fourth round is lost, and the third where every second one is saved
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(name, folder=tmp_path, evaluate=stop, evaluate_every=1)
    torch.rand(5)  # the world moves on between the two halves
    assert same(train(name, folder=tmp_path), expected)
    assert same(train(name, folder=tmp_path), expected)  # nothing is left to do


@every_training
def test_the_same_seed_gives_the_same_weights(name):
    first, again, other = train(name), train(name), train(name, changes={"seed": 1})
    assert same(first, again) and not same_weights(first[0][0], other[0][0])


@every_training
def test_another_run_is_not_resumed(name, tmp_path):
    train(name, folder=tmp_path)
    data, called, _ = TRAININGS[name]
    model = "model" if name == "reward" else "policy"
    weights = [*["initial critic"][:name == "ppo"], f"initial {model}", *["reference"][:name in ("ppo", "dpo", "rloo")]]
    for changes, match in (({"changes": {"lr": 7.0}}, "lr"), ({"data": data[::-1]}, called),
                           ({"policy": a_policy(seed=9)}, ", ".join(weights))):
        with pytest.raises(ValueError, match=rf"made with other settings \({match}\)"):
            train(name, folder=tmp_path, **changes)


@pytest.mark.parametrize("name", ["ppo", "rloo"])
def test_a_run_can_be_prolonged_but_not_shortened(name, tmp_path):
    train(name, changes={"iterations": 3}, folder=tmp_path)
    assert same(train(name, folder=tmp_path), train(name))
    with pytest.raises(ValueError, match="already has 5 rounds; ask for at least that many, or choose another folder"):
        train(name, changes={"iterations": 4}, folder=tmp_path)


@pytest.mark.parametrize(("name", "length"), [("pretrain", "steps"), ("sft", "epochs"), ("reward", "epochs"),
                                              ("dpo", "epochs")])
def test_where_the_learning_rate_follows_the_length_it_is_a_setting(name, length, tmp_path):
    train(name, folder=tmp_path)
    for rounds in (1, 9):
        with pytest.raises(ValueError, match=rf"made with other settings \({length}\)"):
            train(name, changes={length: rounds}, folder=tmp_path)


@every_training
def test_gradients_of_a_run_that_broke_off_are_forgotten(name):
    soiled = a_policy()
    for parameter in soiled.parameters():
        parameter.grad = torch.ones_like(parameter)  # copies have them, too
    assert same(train(name, soiled), train(name))


@every_training
def test_a_loss_that_is_not_a_number_stops_before_the_step(name, monkeypatch):
    backward, seen = Loop.backward, []

    def spoilt(loop, loss, /, **numbers):
        if loop.round == 1:
            seen[:] = [(p, p.detach().clone()) for model in loop.models.values() for p in model.parameters()]
            loss = loss * float("nan")
        backward(loop, loss, **numbers)

    monkeypatch.setattr(Loop, "backward", spoilt)
    sentence = "a loss or gradient is not a number. The learning rate is probably too high."
    with pytest.raises(RuntimeError, match=rf"^{name} diverged in round 2 \(optimizer step \d+\): {sentence}$"):
        train(name)
    assert seen and all(torch.equal(now, before) for now, before in seen)


@every_training
def test_an_evaluation_is_asked_for_in_time_and_at_the_end(name):
    seen = []

    def evaluate(model, done):
        seen.append((model, done))
        return {"seen": done}

    models, history = train(name, evaluate=evaluate, evaluate_every=4)
    assert seen == [(models[0], 4), (models[0], len(history))] and len(history) in (5, 6)
    if name != "pretrain":  # which returns nothing but its losses
        assert [entry.get("seen") for entry in history] == [None] * 3 + [4] + [None] * (len(history) - 5) + [
            len(history)]
    seen.clear()
    train(name, evaluate=evaluate)  # by itself after every epoch of SFT, and after ten rounds of the others
    assert [done for _, done in seen] == ([1, 2, 3, 4, 5] if name == "sft" else [len(history)])


@every_training
def test_every_setting_that_counts_is_checked(name):
    """range() would take a 0 and train on nothing."""
    counts = [count for count in guards.COUNTS if hasattr(TRAININGS[name][2], count)]
    assert len(counts) >= 2
    for count in counts:
        for wrong in (0, -1):
            with pytest.raises(ValueError, match=f"^{count} is {wrong}; set it to 1 or more.$"):
                train(name, changes={count: wrong})


@every_training
def test_an_unknown_option_is_refused(name):
    with pytest.raises(TypeError, match="folders"):
        train(name, folders="here")


@pytest.mark.parametrize("name", ["dpo", "rloo"])
def test_micro_batches_change_nothing(name):
    """P36. The gradients of the first step, of policies that differ from their reference by nothing yet."""
    found = []
    for size in (None, 1, 3):
        with optimizer_steps() as steps:
            _, history = train(name, changes={"micro_batch": size})
        found.append((list(steps[0][1].values()), history))
    for gradients, history in found[1:]:
        assert max(g.abs().max() for g in gradients) > 1e-3
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, found[0][0], strict=True))
        for one, other in zip(history, found[0][1], strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
