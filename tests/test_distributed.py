"""Two processes give what one gives: the same gradients, the same weights after the steps, and every row once.

Each test starts two processes on the CPU (gloo) as `accelerate launch` does: the same script twice, with WORLD_SIZE,
RANK, MASTER_ADDR and MASTER_PORT set. What the script finds it writes to a file, which is compared with one process.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pieces import optimizer_steps, ppo_gradients, update
from safetensors.torch import load_file, save_file
from tiny import rollout_of

from rlhf_lite import distributed, dpo, models, ppo, reward, rloo, sampling, sft

END = models.END
PROMPTS = [[1, 5, 6, 7], [1, 8], [1, 9, 10], [1, 11, 12, 13, 14], [1, 20, 21]]
EXAMPLES = [sft.build_example(prompt, [30 + i, 31 + i, END][i % 2:]) for i, prompt in enumerate(PROMPTS)]
RANKINGS = [reward.RankedPrompt(p, [[20, 21, END], [22, END], [23, 24, 25, 26]][:2 + i % 2], [1, 2, 3][:2 + i % 2])
            for i, p in enumerate(PROMPTS)]
WEB = torch.arange(5 * 12).reshape(5, 12).numpy() % 200
# Five rows in batches of two: the last batch has one, and the second process nothing to do.
SFT = sft.SFTConfig(epochs=2, batch_size=2, pretraining_mix=0.2, lr=1e-3)
REWARD = reward.RewardConfig(batch_prompts=2, epochs=2, micro_batch=1)
DPO = dpo.DPOConfig(batch_prompts=2, epochs=2, micro_batch=1, beta=0.5)
RLOO = rloo.RLOOConfig(iterations=2, prompts_per_step=5, group=2, micro_batch=1, max_new_tokens=4, lr=1e-3,
                       warmup_iterations=0, kl_coef=0.1)
PPO = ppo.PPOConfig(iterations=2, batch_size=5, minibatch=2, micro_batch=1, max_new_tokens=4, ptx_coef=0.5, ptx_rows=3,
                    inner_epochs=2, lr=1e-3, critic_lr=1e-3, warmup_iterations=0)


def tensors(name, model):
    return {f"{name}/{key}": value.detach().clone() for key, value in model.named_parameters()}


def gradients(name, model):
    return {f"{name} gradient/{key}": value.grad.clone() for key, value in model.named_parameters()}


def numbers(history):
    """Of a training's history, or of one entry of it."""
    entries = history if isinstance(history, list) else [history]
    return torch.tensor([[entry[key] for key in sorted(entry) if key != "seconds"] for entry in entries])


def answers(policy, prompts, *_, **__):
    """A rollout that depends on the prompts only, so that who samples what makes no difference: two to each."""
    return rollout_of(prompts, [[30 + prompt[1] + place % 2, *([40, END] * (prompt[1] % 2))]
                                for place, prompt in enumerate(prompts)])


def everything(folder):
    """What both ways must agree in; runs in one process or in two."""
    found, policy = {}, models.new_policy("tiny", 0, 300)
    found["sft/history"] = numbers(sft.train_sft(policy, EXAMPLES, SFT, pretraining=WEB, folder=folder / "sft",
                                                 progress=False))
    found |= tensors("sft", policy)
    policy = models.new_policy("tiny", 1, 300)  # rounding that Adam blew up shall not spread from here
    scores = models.scalar_from_policy(policy, 1)
    history = reward.train_reward(scores, RANKINGS, REWARD, progress=False)
    found |= tensors("reward", scores)
    found["reward/history"] = numbers([{"loss": entry["loss"], "accuracy": entry["accuracy"]} for entry in history])

    # PPO's update from one and the same batch: its gradients, then whole steps.
    critic, learner = models.scalar_from_policy(policy, 2), models.copy_model(policy)
    rollout = sampling.sample(policy, PROMPTS, 4, generator=torch.Generator().manual_seed(5))
    log_probs = ppo.rollout_log_probs(policy, rollout)
    noise = torch.randn(2, *log_probs.shape, generator=torch.Generator().manual_seed(6))
    batch = ppo.Experience(rollout, log_probs - 0.1, ppo.rollout_values(critic, rollout), noise[0], noise[1])
    found["ppo/entry"] = numbers(ppo_gradients(learner, critic, batch, range(5), PPO, WEB))
    found |= gradients("ppo policy", learner) | gradients("ppo critic", critic)
    found["ppo/update"] = numbers(update(learner, critic, batch, PPO,
                                         lambda model, lr: torch.optim.Adam(model.parameters(), lr=lr), WEB))
    found |= tensors("ppo policy", learner) | tensors("ppo critic", critic)

    # DPO and RLOO: the gradient of the first step, then where the last one leads.
    reference = models.copy_model(policy, trainable=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rloo, "sample", answers)
        for name, train in (
                ("dpo", lambda learner: dpo.train_dpo(learner, reference, RANKINGS, DPO, progress=False)),
                ("rloo", lambda learner: rloo.train_rloo(learner, reference, PROMPTS, RLOO, progress=False,
                                                         reward_fn=lambda rollout: rollout.responses[:, 0] % 3))):
            learner = models.copy_model(policy)
            with optimizer_steps() as steps:
                found[f"{name}/history"] = numbers(train(learner))
            found |= {f"{name} gradient/{key}": steps[0][1][value] for key, value in learner.named_parameters()}
            found |= tensors(name, learner)
    return found


def whole_runs():
    """Of train_ppo and train_rloo: what each process ended with, and which prompts were scored in it (seen)."""
    policy, seen, drawn = models.new_policy("tiny", 0, 300), [], []

    def judge(rollout):
        seen.extend(len(prompt) * 100 + prompt[1] for prompt in rollout.prompt_ids())
        drawn.extend(rollout.response_ids())
        return rollout.lengths.float()

    reference, critic = models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, 1)
    run = ppo.train_ppo(policy, reference, critic, PROMPTS, PPO, reward_fn=judge, pretraining=WEB, progress=False)
    found = {**tensors("ppo run", policy), **tensors("ppo run critic", critic), **tensors("ppo run ema", run.ema),
             "ppo run history": numbers(run.history), "ppo seen": torch.tensor(seen)}
    learner, first = models.copy_model(reference), len(seen)
    history = rloo.train_rloo(learner, reference, PROMPTS, RLOO, reward_fn=judge, progress=False)
    return {**found, **tensors("rloo run", learner), "rloo run history": numbers(history),
            "rloo seen": torch.tensor(seen[first:]), "first drawn": torch.tensor(drawn[first][:1])}


@pytest.fixture(scope="module", params=[
    "by hand", pytest.param("accelerate", marks=pytest.mark.skipif(
        importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"))])
def two(request, tmp_path_factory):
    """(folder, what the first process found, what the second found)."""
    tmp_path, launcher = tmp_path_factory.mktemp("two"), request.param
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path]), "OMP_NUM_THREADS": "1"}
    script = [str(Path(__file__).resolve()), str(tmp_path)]
    if launcher == "accelerate":
        # --multi_gpu is its word for processes that talk to each other; --cpu would want MPI. Ours then says "cpu".
        command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
                   "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                   "--main_process_port", port, *script]
        started = [subprocess.Popen(command, env=environment, start_new_session=True)]
    else:
        started = [subprocess.Popen([sys.executable, *script], env={
            **environment, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port}, start_new_session=True) for rank in range(2)]
    try:
        deadline, codes = time.monotonic() + 300, {None}
        while time.monotonic() < deadline and None in codes <= {None, 0}:  # when one fails, the other waits in vain
            time.sleep(0.1)
            codes = {process.poll() for process in started}
        assert codes == {0}
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
    return tmp_path, *(load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))


def test_gradients_and_steps_of_two_processes_are_those_of_one(two):
    tmp_path, first, second = two
    alone = everything(tmp_path / "alone")
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name  # they stay equal to the bit
        if name != "reward/score.bias":  # a shift of all scores has no gradient but rounding, which Adam blows up
            torch.testing.assert_close(first[name], value, atol=2e-5, rtol=1e-3,
                                       msg=lambda text, name=name: f"{name}: {text}")
    for training in ("ppo policy", "ppo critic", "dpo", "rloo"):
        assert max(value.abs().max() for name, value in alone.items() if f"{training} gradient" in name) > 1e-3
    assert (tmp_path / "two" / "sft").is_dir()  # written by the first process alone, readable by one process later
    policy = models.new_policy("tiny", 0, 300)
    assert len(sft.train_sft(policy, EXAMPLES, SFT, pretraining=WEB, folder=tmp_path / "two" / "sft",
                             progress=False)) == 2
    assert all(torch.equal(value, first[name]) for name, value in tensors("sft", policy).items())


def test_ppo_samples_every_prompt_once_and_the_processes_end_equal(two):
    _, first, second = two
    for training, group in (("ppo", 1), ("rloo", RLOO.group)):
        seen = [found[f"{training} seen"].tolist() for found in (first, second)]  # two iterations of five prompts
        assert sorted(seen[0] + seen[1]) == sorted([len(p) * 100 + p[1] for p in PROMPTS] * 2 * group)
        assert len(seen[0]) == 6 * group and len(seen[1]) == 4 * group
        run = [name for name in first if name.startswith(f"{training} run")]
        assert len(run) > 20 and all(torch.equal(first[name], second[name]) for name in run)


def test_alone_nothing_is_divided_or_changed():
    assert (distributed.size(), distributed.rank(), distributed.is_first()) == (1, 0, True)
    assert distributed.share([1, 2, 3]) == [1, 2, 3]
    assert distributed.add({"loss": 1.5, "max_ratio": 3}) == {"loss": 1.5, "max_ratio": 3}
    assert distributed.start("cpu") == torch.device("cpu")
    distributed.stop()


def test_numbers_of_all_processes_add_up_and_the_largest_is_kept(monkeypatch):
    """Also where a process had no row, and so no number; all processes get the same."""
    parts = [{"loss": 1.0, "max_ratio": 3.0}, {}, {"loss": 2.0, "max_ratio": 5.0, "ptx_loss": 0.25}]
    monkeypatch.setattr(distributed, "size", lambda: 3)
    monkeypatch.setattr(distributed.dist, "all_gather_object", lambda found, mine: found.__setitem__(slice(3), parts))
    for mine in parts:
        assert distributed.add(mine) == {"loss": 3.0, "max_ratio": 5.0, "ptx_loss": 0.25}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    distributed.start("cpu")
    found = everything(folder / "two") | whole_runs()
    save_file({name: value.contiguous() for name, value in found.items()}, folder / f"{distributed.rank()}.safetensors")
    distributed.stop()
