"""What differs on Windows, simulated: no Unix modules, a strict fsync, an old output encoding, spawned processes.

A child process takes all of it on before it imports anything of ours.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rlhf_lite import __main__ as cli
from rlhf_lite import checkpoints, files, models, training_state
from rlhf_lite.experiment import machine

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = '''
import multiprocessing, os, sys
import psutil, asyncio, IPython, jupyter_client, ipywidgets  # these have code of their own for Windows
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # cannot be imported
for name in ("fork", "getuid", "geteuid", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
really_open, really_sync, flags = os.open, os.fsync, {}
def opened(path, mode, *rest, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied: a folder cannot be opened here", path)
    handle = really_open(path, mode, *rest, **options)
    flags[handle] = mode
    return handle
def synced(handle):
    number = handle if isinstance(handle, int) else handle.fileno()
    if flags.get(number, os.O_RDWR) & (os.O_RDWR | os.O_WRONLY) == 0:
        raise OSError(9, "Bad file descriptor: it was opened for reading only")
    return really_sync(number)
os.open, os.fsync = opened, synced
multiprocessing.set_start_method("spawn", force=True)
'''


def child(code, cwd, **variables):
    """Run code in a process that takes itself for Windows; its output goes through an encoding without "±" or "→"."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([sys.executable, "-c", WINDOWS + code], cwd=cwd, env=env, capture_output=True)


def test_every_module_can_be_imported(tmp_path):
    done = child("""
import pkgutil, importlib, rlhf_lite
for module in pkgutil.walk_packages(rlhf_lite.__path__, "rlhf_lite."):
    if module.name != "rlhf_lite.__main__":
        importlib.import_module(module.name)
print("all")
""", tmp_path)
    assert done.stdout.strip() == b"all", done.stderr.decode()[-2000:]


def test_models_are_written_read_and_replaced(tmp_path):
    done = child("""
from rlhf_lite import checkpoints, feedback, files, models, training_state
from rlhf_lite.experiment import machine
policy = models.new_policy("tiny", 0, vocab_size=64)
for _ in range(2):
    checkpoints.save_checkpoint("model", policy, {"stage": "test"})
    checkpoints.load_policy("model")
training_state.save("model", {"a": policy.lm_head.weight}, {"step": 1})
assert training_state.load("model")[1] == {"step": 1}
feedback.append_jsonl("rows.jsonl", {"text": "größer"})
files.write_json("a.json", {"text": "±"})
assert machine.peak_memory() > 0
files.utf8_output()
print("±→ fine")
""", tmp_path)
    assert done.stdout.decode("utf-8").strip() == "±→ fine", done.stderr.decode()[-2000:]


def test_a_command_whose_output_goes_to_a_file_ends_well(tmp_path):
    """Its table has signs that cp1252 has not."""
    done = child("""
from rlhf_lite import __main__ as cli
cli.COMMANDS["doctor"] = lambda arguments: print("± → ✓ Übung №")
sys.exit(cli.main(["doctor"]))
""", tmp_path, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and done.stdout.decode("utf-8").strip() == "± → ✓ Übung №", done.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells which files are mapped")
def test_nothing_stays_mapped(tmp_path):
    """A mapped file can be neither deleted nor replaced on Windows."""
    from rlhf_lite.real import hub
    policy = models.new_policy("tiny", 0, vocab_size=64)
    checkpoints.save_checkpoint(tmp_path / "ours", policy, {})
    training_state.save(tmp_path / "ours", {"a": torch.ones(9)}, {})
    policy.save_pretrained(tmp_path / "theirs")
    held = (checkpoints.load_policy(tmp_path / "ours"), training_state.load(tmp_path / "ours"),
            hub._weights(tmp_path / "theirs", policy.config, torch.float32, "theirs"))
    assert all(held) and str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_memory_is_measured_without_the_module_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.peak_memory() > 0


# ---------------------------------------------------------------- nothing but the wheel; other folders; no shell

def test_without_a_clone_one_sentence_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "DATA", tmp_path / "site-packages" / "data")
    monkeypatch.setattr(files, "MODELS", files.DATA / "models")
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().err
    assert "from a clone" in said and str(files.DATA) in said and len(said.splitlines()) == 1
    from rlhf_lite.exercises import setup
    with pytest.raises(FileNotFoundError, match="from a clone"):
        setup("00")


def test_from_another_folder_it_is_said_where_was_looked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study", "kl_sweep", "--name", "mine"]) == 1
    assert str(tmp_path / "runs" / "mine") in capsys.readouterr().err


def test_stars_are_expanded_without_a_shell(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).touch()
    assert cli._expanded([str(tmp_path / "*.jsonl"), "runs/none*"]) == [
        str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "runs/none*"]


def test_tables_say_what_they_lack(monkeypatch, capsys):
    from rlhf_lite import feedback
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="--with data"):
        feedback.to_dataset([{"a": 1}])


def test_parquet_says_what_it_lacks(tmp_path, monkeypatch):
    from rlhf_lite.real.formats.files import read_rows
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and so on PAR1")
    with pytest.raises(ImportError, match="--with data"):
        read_rows(tmp_path / "rows.parquet")


def test_a_python_without_the_packages_is_told_which_one_has_them(tmp_path):
    """`python -m rlhf_lite doctor` in the clone's folder, with the system's Python."""
    code = """
import sys
sys.modules["torch"] = sys.modules["psutil"] = None
from rlhf_lite import __main__ as cli
sys.exit(cli.main(["doctor"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "psutil" in done.stderr and "python setup_course.py doctor" in done.stderr


def test_the_library_does_without_the_extras(tmp_path):
    """datasets, pyarrow and pandas take 255 MB, and what only tests need nobody else has."""
    code = """
import sys
for name in ("datasets", "pyarrow", "pandas", "scipy", "pytest", "jupytext", "hypothesis", "beartype", "peft", "gguf"):
    sys.modules[name] = None
import pkgutil, importlib, rlhf_lite
for module in pkgutil.walk_packages(rlhf_lite.__path__, "rlhf_lite."):
    if module.name != "rlhf_lite.__main__":
        importlib.import_module(module.name)
print("all")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert done.stdout.strip() == "all", done.stderr[-2000:]


def test_safetensors_written_elsewhere_are_read(tmp_path):
    save_file({"a": torch.arange(6.0).view(2, 3)}, tmp_path / "x.safetensors")
    assert torch.equal(checkpoints.read(tmp_path / "x.safetensors")["a"], torch.arange(6.0).view(2, 3))
    assert importlib.util.find_spec("safetensors") is not None
