"""What will run on a GPU, on the CPU: everything at toy size from the command line, and the branches for CUDA."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlhf_lite import __main__ as cli
from rlhf_lite import checkpoints, files, models
from rlhf_lite.experiment import devices, evaluate, gpu
from rlhf_lite.experiment.measuring import Job, OutOfTime, Skip
from rlhf_lite.pretrain import PretrainConfig
from rlhf_lite.sampling import sample

NAMES = [m.name for m in gpu.MEASUREMENTS]


def plan_in(folder, device="cpu", toy=True):
    (folder / "text").mkdir()
    return gpu.Plan(device, toy, folder, folder, {"tiny": models.new_policy("tiny", 0).config})


def test_everything_at_toy_size(tmp_path, capsys):
    """All but the notebook, whose own test is below, and which the tests of the notebooks run too."""
    out = tmp_path / "gpu"
    chosen = [name for name in NAMES if name != "notebook_09"]
    assert cli.main(["gpu", "--toy", "--device", "cpu", "--minutes", "60", "--out", str(out), "--only", *chosen]) == 0
    made = json.loads((out / "gpu.json").read_text())
    found = made["measurements"]
    assert {name: found[name]["status"] for name in chosen} == dict.fromkeys(chosen, "done")
    assert list(found) == NAMES and found["notebook_09"] == {"status": "not yet run"}
    assert made["status"] == "finished" and made["toy"] is True
    assert made["command"].startswith("python -m rlhf_lite gpu --minutes 60 --toy --only doctor")
    assert "ok      sft-1.3m" in " ".join(found["doctor"]["doctor"]) and found["doctor"]["versions"]["torch"]
    both = found["agreement"]["sizes"]["tiny"]
    assert found["agreement"]["all_within"] and both["float32"]["weights"] == 0 < both["bf16"]["weights"]
    assert {"sample", "sft", "ppo", "sample_gb", "sft_gb", "ppo_gb"} < set(found["speed"]["sizes"]["tiny"])
    back = sorted(path.relative_to(out).as_posix() for path in out.rglob("*")
                  if path.is_file() and path.suffix != ".lock")
    assert len(back) <= 8 and not any("175m/" in path for path in back)
    for size in ("1.3m", "6m"):
        policy, card = checkpoints.load_policy(out / f"base-{size}"), checkpoints.load_card(out / f"base-{size}")
        assert models.parameter_count(policy) == card["parameters"] and card["tokens"] > 1000
        curve = found[f"base_{size}"]["curve"]
        assert curve[-1][0] == card["tokens"] and card["held_out_loss"] < 8 and not card["stopped_early"]
    rows = evaluate.load_answers(out / "answers-175m.jsonl", {"mixed": evaluate.test_sets()["mixed"]})
    assert [row["stage"] for row in rows] == 4 * ["base"] + 4 * ["prompted"]
    assert "agreement: done" in capsys.readouterr().out
    files.write_json(out / "gpu.json", {"toy": False})
    with pytest.raises(ValueError, match="holds a real run; choose another folder"):
        gpu.measure_gpu("cpu", 1, out, {}, toy=True)


@pytest.mark.parametrize(("arguments", "said"), [
    (["--device", "cpu"], "There is no GPU here; with --toy"), (["--toy", "--minutes", "0"], "must be above 0"),
    (["--toy", "--only", "base_7b"], "no measurement 'base_7b'; choose from: doctor, agreement,")])
def test_clear_words(arguments, said, tmp_path, capsys):
    assert cli.main(["gpu", "--out", str(tmp_path / "out"), *arguments]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_trainings_apart_are_noticed():
    start = models.new_policy("tiny", 0)
    weights = devices.flat(start)
    moved = weights + 0.01 * torch.randn_like(weights)
    history = [{"score": 1.0, "kl": 0.1, "seconds": 1.0}]
    assert devices.compare((history, moved), ([history[0] | {"seconds": 9.0}], moved), start)["within"]
    further = devices.compare((history, moved), (history, moved + 0.002 * torch.randn_like(weights)), start)
    assert not further["within"] and further["weights"] > 3 and further["history"] == 0
    other = devices.compare((history, moved), ([{"score": 1.0, "kl": 0.2, "seconds": 1.0}], moved), start)
    assert not other["within"] and other["worst"] == "kl" and other["history"] == pytest.approx(50)


def test_models_and_answers_go_to_the_device_that_was_asked_for():
    """PyTorch's meta device is the one that is not the CPU on every machine."""
    policy = models.new_policy("tiny", 0)
    rollout = devices.on_device(sample(policy, [[1, 5, 6]], 2), "meta")
    tensors = [value for value in vars(rollout).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 4 and all(tensor.is_meta for tensor in tensors)
    assert not any(tensor.dtype == torch.float64 for tensor in tensors)


@pytest.fixture
def pretended(monkeypatch):
    """A CPU that passes for a GPU: the branches for CUDA are taken, and CUDA's own functions answer something."""
    for module in (devices, gpu):
        monkeypatch.setattr(module, "is_gpu", lambda device: True)
    for name, answer in (("synchronize", None), ("max_memory_allocated", 2 * 10**9), ("empty_cache", None),
                         ("reset_peak_memory_stats", None), ("get_device_name", "Pretended GPU"),
                         ("get_device_properties", SimpleNamespace(name="Pretended GPU", total_memory=8 * 10**10))):
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_the_branches_for_cuda(pretended, tmp_path, monkeypatch):
    job = Job(plan_in(tmp_path), 300)
    assert gpu.doctor(job)["bf16_tflops"] >= 0
    assert devices.speed(job)["sizes"]["tiny"]["ppo_gb"] == 2.0
    gpu.write_text(tmp_path / "text", 0, 1, 2, 4000)
    card = gpu.base(job, "1.3m")["card"]
    assert card["bf16"] and card["device"] == "Pretended GPU" and card["peak_gb"] == 2.0

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setattr(devices, "speed_of", full)
    assert devices.speed(job)["sizes"]["tiny"] == {"why": "CUDA out of memory."}


def test_it_compiles_only_where_that_pays(monkeypatch):
    policy, rows = models.new_policy("tiny", 0), np.zeros((8, 256), dtype=np.uint16)
    times = {False: 0.1, True: 0.05}

    def seconds(policy, rows, config):
        if times[config.compile] is None:
            raise RuntimeError("no compiler")
        return times[config.compile]

    monkeypatch.setattr(gpu, "step_seconds", seconds)

    def chosen(left, bf16=True, goal=10**9):
        config, found = gpu.fastest(policy, rows, PretrainConfig(batch_size=4, bf16=bf16), goal, Job(None, left))
        return config.compile, found

    assert chosen(100) == (True, 0.05)
    assert chosen(30) == (False, 0.1)  # no time to compile
    assert chosen(100, goal=1000) == (False, 0.1)  # done before it is compiled
    assert chosen(100, bf16=False) == (False, 0.1)
    times[True] = 0.2
    assert chosen(100) == (False, 0.1)
    times[True] = None
    assert chosen(100) == (False, 0.1)


def test_a_base_that_runs_out_of_time_is_kept(tmp_path, monkeypatch):
    job = Job(plan_in(tmp_path), 300)
    gpu.write_text(tmp_path / "text", 0, 1, 2, 4000)
    monkeypatch.setattr(gpu, "step_seconds", lambda *_: 2.0)

    def over():
        raise OutOfTime

    job.check = over
    card = gpu.base(job, "6m")["card"]
    assert card["stopped_early"] and card["tokens"] == 2 * 4 * 256  # two steps until the first look
    assert checkpoints.load_card(tmp_path / "base-6m")["tokens"] == card["tokens"]


def test_text_is_waited_for_but_not_for_ever(tmp_path):
    gpu.write_text(tmp_path, 1, 2, 4, 1000)  # shards 1 and 3, another process's share
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.safetensors", "0003.safetensors"]
    rows = gpu.read_text(tmp_path, 10**6, wait=0)  # as much as there is
    assert rows.dtype == np.uint16 and rows.shape[1] == 256 and rows.size >= 2000
    assert gpu.read_text(tmp_path, 1000, wait=60).size < rows.size


def test_what_cannot_be_done_here_is_skipped_with_a_sentence(tmp_path, monkeypatch):
    job = Job(plan_in(tmp_path), 60)
    with pytest.raises(Skip, match="no 175M base model"):
        gpu.answers(job)
    script = tmp_path / "notebook.py"
    monkeypatch.setattr(gpu, "NOTEBOOK", script)
    script.write_text("print('Install the wheel.')\nprint(\"Stand-in: the town's base model takes its place.\")\n"
                      "import time; time.sleep(600)\n")
    with pytest.raises(Skip, match="Its model is not on this machine: Install the wheel. Stand-in"):
        gpu.notebook(job)
    script.write_text("print('PPO, 80 iterations')")
    assert gpu.notebook(job) == {"printed": ["PPO, 80 iterations"]}
    script.write_text("print(1 / 0)")
    with pytest.raises(RuntimeError, match="The notebook failed"):
        gpu.notebook(job)
    script.write_text("import time; time.sleep(600)")
    with pytest.raises(OutOfTime):
        gpu.notebook(Job(job.settings, 1))


def test_importing_it_does_not_touch_the_gpu():
    """A GPU driver that has been started before a fork does not work after it."""
    script = ("import torch\n"
              "def touched(*_): raise SystemExit('the GPU was asked for')\n"
              "for name in ('is_available', 'device_count', '_lazy_init', 'current_device', 'get_device_name'):\n"
              "    setattr(torch.cuda, name, touched)\n"
              "import rlhf_lite.experiment.gpu")
    done = subprocess.run([sys.executable, "-c", script], cwd=files.DATA.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
