"""The set-up script: one sentence for every fault, an environment that can be moved, a lock that fits the ranges."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import setup_course  # noqa: E402
from installer import environment, wheelhouse  # noqa: E402
from installer.environment import Environment, Fault  # noqa: E402

SCRIPTS = [ROOT / "setup_course.py", *sorted((ROOT / "installer").glob("*.py"))]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_needs_nothing_but_python_and_even_an_old_one_reads_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
    found = {name for node in ast.walk(tree) for name in (
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else
        [node.module] if isinstance(node, ast.ImportFrom) else [])}
    assert {name.split(".")[0] for name in found} <= {*sys.stdlib_module_names, "installer"}


# ---------------------------------------------------------------- faults

MACHINE = {"version": (3, 12), "system": "Linux", "machine": "x86_64", "bits": 64, "macos": ""}


@pytest.mark.parametrize("change, words", [
    ({"version": (3, 10)}, "3.11 to 3.14"), ({"version": (3, 15)}, "3.11 to 3.14"), ({"bits": 32}, "64-bit"),
    ({"system": "Darwin", "machine": "x86_64"}, "Colab"), ({"system": "Darwin", "machine": "arm64", "macos": "13.6"},
                                                           "macOS 14"),
    ({"system": "Windows", "machine": "ARM64"}, "Colab")])
def test_a_machine_without_pytorch_is_told_so(change, words):
    setup_course.check_machine(**MACHINE)
    setup_course.check_machine(**{**MACHINE, "system": "Darwin", "machine": "arm64", "macos": "14.1"})
    with pytest.raises(Fault, match=words):
        setup_course.check_machine(**{**MACHINE, **change})


def test_a_folder_that_cannot_hold_it(tmp_path, monkeypatch):
    setup_course.check_folder(str(tmp_path), 0)
    assert list(tmp_path.iterdir()) == []
    root = "C:\\" + "x" * 64  # 67 characters are the most
    monkeypatch.setattr(setup_course.os, "remove", lambda path: None)
    monkeypatch.setattr(setup_course, "open", lambda *_: (tmp_path / "x").open("w"), raising=False)
    monkeypatch.setattr(setup_course.shutil, "disk_usage", lambda path: namedtuple("U", "free")(5e9))
    setup_course.check_folder(root, 3, "Windows", long_paths=False)
    setup_course.check_folder(root + "x", 3, "Windows", long_paths=True)
    setup_course.check_folder(root + "x", 3, "Linux")
    with pytest.raises(Fault, match="68 characters, and Windows allows 67"):
        setup_course.check_folder(root + "x", 3, "Windows", long_paths=False)
    with pytest.raises(Fault, match="Only 5.0 GB are free"):
        setup_course.check_folder(root, 6)


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(Fault, match="Nothing can be written"):
        setup_course.check_folder(str(tmp_path / "missing"), 0)


@pytest.mark.parametrize("said, words", [
    ("WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(<pip._vendor>: [Errno -2] Name "
     "or service not known')': /simple/torch/\nERROR: No matching distribution found for torch==2.13.0", "network"),
    ("error: Failed to fetch: `https://pypi.org/simple/six/`\n  Caused by: dns error", "network"),
    ("ERROR: Cannot install torch and x because these package versions have conflicting dependencies.\n"
     "WARNING: Retrying after connection broken by 'ConnectTimeoutError'", "network"),
    ("OSError: [Errno 28] No space left on device", "disk is full"),
    ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] verify failed'))", "certificate"),
    ("ERROR: HTTP error 407: Proxy Authentication Required", "HTTPS_PROXY"),
    ("ERROR: HTTP error 403 while getting x: 403 Client Error: Forbidden for url", "refused"),
    ("ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied: 'x.pyd'", "close JupyterLab"),
    ("ERROR: No matching distribution found for torch==2.13.0", "no fitting torch==2.13.0"),
    ("something\nERROR: never seen before", "never seen before")])
def test_what_an_installer_says_becomes_one_sentence(said, words):
    sentence = environment.explain(said)
    assert words in sentence and "\n" not in sentence


# ---------------------------------------------------------------- the environment

@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course in a folder with a space and letters from elsewhere, which is not installed yet."""
    root = tmp_path / "Übung № 1" / "rlhf_lite"
    (root / "rlhf_lite").mkdir(parents=True)
    (root / "rlhf_lite" / "__init__.py").write_text("here = __file__\n", encoding="utf-8")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    monkeypatch.setattr(environment, "ROOT", str(root))
    return Environment(str(root / ".venv"), uv=False)


def bare(folder):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)


def test_an_environment_can_be_moved_with_its_folder(course, tmp_path):
    bare(course.folder)
    course.link()
    assert course.works()
    moved = tmp_path / "elsewhere"
    shutil.move(environment.ROOT, moved)
    python = moved / Path(course.python).relative_to(environment.ROOT)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", "import rlhf_lite; print(ascii(rlhf_lite.here))"], cwd=tmp_path, env=env,
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(str(moved / "rlhf_lite" / "__init__.py"))


def test_half_made_foreign_and_other_folders(course, monkeypatch, capsys):
    folder = Path(course.folder)
    calls = []
    monkeypatch.setattr(environment, "output", lambda command, **_: calls.append(command) or (0, ""))
    monkeypatch.setattr(Environment, "works", lambda self: False)
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(Fault, match="rename or delete"):
        course.make()
    (folder / "pyvenv.cfg").touch()  # an environment, but its Python does not start: another computer's, or half made
    course.make()
    assert "it is made again" in capsys.readouterr().out and not folder.exists()
    assert calls[0] == [sys.executable, "-m", "venv", str(folder)]


def test_without_the_module_venv_the_package_is_named(course, monkeypatch):
    monkeypatch.setattr(environment, "output", lambda command, **_: (1, "ensurepip is not available"))
    with pytest.raises(Fault, match="python3-venv"):
        course.make()


def test_without_pip_it_is_fetched_or_said(course, monkeypatch):
    Path(course.folder).mkdir()
    monkeypatch.setattr(Environment, "works", lambda self: True)
    monkeypatch.setattr(environment, "output", lambda command, **_: (1, "No module named pip"))
    with pytest.raises(Fault, match="has no pip"):
        course.make()


def prepared(course, monkeypatch, cpu=True, gpu=False, uv=None):
    """Which installations `prepare` asks for; cpu: whether an index has PyTorch without CUDA."""
    asked = []

    def install(self, requirements, *options, fatal=True):
        asked.append((list(requirements), list(options)))
        return cpu or not requirements[0].endswith("+cpu")
    monkeypatch.setattr(Environment, "install", install)
    monkeypatch.setattr(Environment, "make", lambda self: Path(self.folder).mkdir(exist_ok=True))
    monkeypatch.setattr(Environment, "link", lambda self: None)
    monkeypatch.setattr(Environment, "works", lambda self: True)
    monkeypatch.setattr(environment, "has_gpu", lambda: gpu)
    monkeypatch.setattr(environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: namedtuple("U", "free")(20e9))
    course.prepare()
    return asked


def test_without_a_gpu_pytorch_comes_without_cuda(course, monkeypatch):
    (torch, options), (rest, _) = prepared(course, monkeypatch)
    assert torch == [f"torch=={environment.locked('torch')}+cpu"] and "--index-url" not in options
    assert any(line.startswith("jupyterlab") for line in rest) and not any("datasets" in line for line in rest)


def test_with_a_gpu_it_comes_as_it_is(course, monkeypatch):
    ((rest, options),) = prepared(course, monkeypatch, gpu=True)
    assert "torch>=2.11,<3" in rest and options == ["-c", environment.lock()]


def test_where_no_index_has_it_the_usual_build_is_taken_and_said(course, monkeypatch, capsys):
    asked = prepared(course, monkeypatch, cpu=False)
    assert asked[1][1][1:] == ["--index-url", environment.TORCH_INDEX] and len(asked) == 3
    assert "2.9 GB" in capsys.readouterr().out


def test_a_second_call_starts_at_once_and_a_new_pin_does_not(course, monkeypatch):
    prepared(course, monkeypatch)
    assert prepared(course, monkeypatch) == []
    with open(environment.lock(), "a", encoding="utf-8") as file:
        file.write("six==1.17.1\n")
    assert prepared(course, monkeypatch)


def test_uv_gets_what_pip_is_told(monkeypatch):
    monkeypatch.setattr(environment, "output", lambda command, **_: (0, "global.index-url='https://mirror.org/simple'\n"
                                                                        "global.find-links='/no/such/folder'\n"))
    env = environment.uv_environment({"PIP_CERT": "/etc/cert.pem", "UV_INDEX": "mine", "PIP_EXTRA_INDEX_URL": "https://x"})
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.org/simple" and env["UV_INDEX"] == "mine"
    assert env.get("UV_FIND_LINKS") is None


# ---------------------------------------------------------------- ranges and lock

def test_every_requirement_has_a_pin_within_its_range():
    requirements = pytest.importorskip("packaging.requirements")
    for line in environment.needs(["dev", "real", "site"]):
        wanted = requirements.Requirement(line)
        assert environment.locked(wanted.name) in wanted.specifier, line


def test_the_lower_ends():
    assert environment.lowest(["torch>=2.11,<3", "numpy>=2,<3", "ipywidgets>=7.7.1,<9", "ruff==0.14.6"]) == [
        "torch==2.11.*", "numpy==2.0.*", "ipywidgets==7.7.1", "ruff==0.14.6"]
    names = [re.match(r"[\w-]+", line)[0] for line in environment.lowest(environment.needs(["test"]))]
    assert "torch" in names and len(names) == len(set(names))


# ---------------------------------------------------------------- commands

def test_every_command_of_the_library_can_be_given(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(Environment, "prepare", lambda self, *_, **__: None)
    monkeypatch.setattr(setup_course.subprocess, "call", lambda words, **options: called.append((words, options)) or 0)
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert setup_course.main(["run", "--fast", "--name", "mine"]) == 0
    words, options = called[0]
    assert words[1:] == ["-m", "rlhf_lite", "run", "--fast", "--name", "mine"]
    assert options["env"]["PYTHONUTF8"] == "1" and "PYTHONPATH" not in options["env"] and options["cwd"] is None
    assert setup_course.main(["python", "docs/images/make.py", "answers"]) == 0
    assert called.pop()[0][1:] == ["docs/images/make.py", "answers"]
    assert setup_course.main(["test", "--workers", "3", "tests/test_ppo.py"]) == 0
    words, _ = called[1]
    assert words[words.index("-n") + 1] == "3" and words[-1] == "tests/test_ppo.py" and "notebooks" not in words


def test_lab_opens_ones_own_copy(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(Environment, "prepare", lambda self, *_, **__: None)
    monkeypatch.setattr(setup_course, "ROOT", str(tmp_path))
    (tmp_path / "my_work").mkdir()
    (tmp_path / "my_work" / "00_meet.ipynb").touch()
    monkeypatch.setattr(setup_course.subprocess, "call", lambda words, **options: called.append((words, options)) or 0)
    monkeypatch.setattr(setup_course.os, "geteuid", lambda: 0, raising=False)
    assert setup_course.main(["lab", "--no-browser"]) == 0
    assert called[0][0][-2:] == ["start", str(tmp_path / "my_work")]
    assert called[1][0][2:] == ["jupyterlab", "--allow-root", "--no-browser", "my_work/00_meet.ipynb"]
    assert called[1][1]["cwd"] == str(tmp_path)


def test_a_fault_is_one_sentence_on_stderr(monkeypatch, capsys):
    def fail(self, *_, **__):
        raise Fault("The disk is full; make some room.")
    monkeypatch.setattr(Environment, "prepare", fail)
    assert setup_course.main([]) == 1
    assert capsys.readouterr().err == "Not done: The disk is full; make some room.\n"
    assert setup_course.main(["setup", "--offline", "no/such/folder"]) == 1
    assert "no/such/folder" in capsys.readouterr().err


def test_an_old_python_hands_over_to_a_newer_one(monkeypatch):
    called = []
    monkeypatch.setattr(setup_course, "HERE", {**MACHINE, "version": (3, 9)})
    monkeypatch.setattr(setup_course.sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(setup_course, "another_python", lambda: "python3.12")
    monkeypatch.setattr(setup_course.subprocess, "call", lambda words, **_: called.append(words) or 0)
    assert setup_course.main(["lab"]) == 0 and called[0][0] == "python3.12" and called[0][-1] == "lab"


def test_a_stick_holds_packages_course_and_a_word(course, monkeypatch, tmp_path):
    monkeypatch.setattr(wheelhouse, "download", lambda course, folder, *_: Path(folder, "a.whl").touch())
    monkeypatch.setattr(wheelhouse, "ROOT", environment.ROOT)
    assert wheelhouse.make(course, str(tmp_path / "stick")) == 0
    assert (tmp_path / "stick" / "packages" / wheelhouse.MARK).exists()
    assert (tmp_path / "stick" / "rlhf_lite" / "rlhf_lite" / "__init__.py").exists()
    assert "--offline" in (tmp_path / "stick" / "README.txt").read_text(encoding="utf-8")


def test_the_cloud_cell_does_nothing_here(tmp_path, monkeypatch):
    from rlhf_lite.exercises import build
    monkeypatch.chdir(tmp_path)
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    code = build.CLOUD.format(repository=build.repository())
    before = list(sys.path)
    exec(code, {})
    assert sys.path == before and list(tmp_path.iterdir()) == []
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: calls.append(words))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    monkeypatch.setattr(sys, "path", before)
    exec(code, {})
    assert calls[0][:2] == ["git", "clone"] and "--no-deps" in calls[1] and sys.path[0] == str(tmp_path / "rlhf_lite")
    assert not any(re.match("torch|transformers|ipywidgets", word) for call in calls for word in call)
