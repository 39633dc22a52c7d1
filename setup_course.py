"""Set up and start the course, on Windows, macOS and Linux, with nothing but Python.

    python setup_course.py              make .venv with all that the course needs; later calls start at once
    python setup_course.py lab          JupyterLab on your own copy of the notebooks (my_work)
    python setup_course.py run --fast   the whole pipeline in about two minutes; so does every other command of
                                        `python -m rlhf_lite`: doctor, train, evaluate, study, export, ...
    python setup_course.py test         all tests, in parallel
    python setup_course.py python FILE  the course's own Python, with whatever follows
    python setup_course.py wheelhouse FOLDER    everything for a room without a network, for example on a USB stick

It needs only the standard library and any Python 3, so that it can say what is wrong. `make` calls it, too.
"""

import argparse
import os
import platform
import shutil
import struct
import subprocess
import sys

from installer import wheelhouse
from installer.environment import ROOT, Environment, Fault, lowest, needs, output, say

OLDEST, NEWEST = (3, 11), (3, 14)
DISK = 3  # GB that must be free for the environment (of which it keeps two; PyTorch with CUDA takes more)
LONGEST = 167  # characters of the longest path inside an installed package (one of PyTorch's)
NAMES = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
COLAB = "open the notebooks on Google Colab instead (README.md says how)"
SYSTEM = platform.system()
HERE = {"version": sys.version_info[:2], "system": SYSTEM, "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"), "macos": platform.mac_ver()[0]}


# ---------------------------------------------------------------- before anything is downloaded

def check_machine(version, system, machine, bits, macos):
    """Fault where PyTorch has no build for this Python or this machine."""
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        raise Fault(f"This is Python {version[0]}.{version[1]}, and the course needs 3.{OLDEST[1]} to 3.{NEWEST[1]}; "
                    "install one from python.org and run this script with it, for example: python3.12 setup_course.py")
    if bits != 64:
        raise Fault("This Python has 32 bits, and PyTorch needs 64; install the 64-bit Python from python.org.")
    if system == "Darwin" and machine == "x86_64":
        raise Fault(f"PyTorch has no builds for Macs with Intel processors any more; {COLAB}. (On a Mac with an Apple "
                    "processor, install the universal Python from python.org.)")
    if system == "Darwin" and macos and int(macos.split(".")[0]) < 14:
        raise Fault(f"PyTorch needs macOS 14 or newer, and this is macOS {macos}; update it, or {COLAB}.")
    if system == "Windows" and machine.upper() == "ARM64":
        raise Fault(f"PyTorch has no build for Windows on ARM; {COLAB}.")


def check_folder(root, disk, system=SYSTEM, long_paths=None):
    """Fault where the folder cannot hold an environment."""
    length = len(root) + len("\\.venv\\Lib\\site-packages\\") + LONGEST
    if system == "Windows" and length > 259 and not (_long_paths() if long_paths is None else long_paths):
        raise Fault(f"The path of this folder has {len(root)} characters, and Windows allows "
                    f"{len(root) - length + 259} here; move it to a short one, for example C:\\rlhf_lite.")
    try:
        trial = os.path.join(root, f".write-test-{os.getpid()}")
        with open(trial, "w"):
            pass
        os.remove(trial)
    except OSError as error:
        raise Fault(f"Nothing can be written to {root} ({error.strerror}); move the course to a folder of your own."
                    ) from None
    free = shutil.disk_usage(root).free / 1e9
    if free < disk:
        raise Fault(f"Only {free:.1f} GB are free on the disk of {root}, and the course needs {disk} GB; make some "
                    "room and run this again.")


def _long_paths():
    try:
        import winreg
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except (ImportError, OSError):
        return False


def another_python():
    """A Python on the PATH that the course can use, or None."""
    for name in NAMES:
        if output([name, "-c", "import venv, sys; print(sys.version)"])[0] == 0:
            return name
    return None


# ---------------------------------------------------------------- the commands

def environment_variables(**more):
    """For every program that we start: UTF-8 whatever the system's own encoding is, and nobody else's packages."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return dict(env, PYTHONUTF8="1", **more)


def call(course, words, cwd=None, **variables):
    """Run the environment's Python with these words; returns its exit status."""
    try:
        return subprocess.call([course.python, *words], cwd=cwd, env=environment_variables(**variables))
    except KeyboardInterrupt:
        return 130


def lab(course, given):
    """JupyterLab on the student's own copy of the notebooks, which is made if it is missing."""
    if call(course, ["-m", "rlhf_lite", "start", os.path.join(ROOT, "my_work")]):
        return 1
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    first = sorted(name for name in os.listdir(os.path.join(ROOT, "my_work")) if name.endswith(".ipynb"))[0]
    return call(course, ["-m", "jupyterlab", *root, *given, "my_work/" + first], cwd=ROOT)


def test(course, given, workers=2):
    """All tests and notebooks. Processes with one thread each beat one process with several; a file stays in one
    process, because the cells of a notebook share a kernel."""
    folders = [] if any(not word.startswith("-") for word in given) else ["tests", "notebooks", "solutions"]
    return call(course, ["-m", "pytest", "-q", "-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder",
                         "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", *folders, *given], cwd=ROOT,
                RLHF_LITE_FAST="1", RLHF_LITE_PROGRESS=os.path.join(ROOT, ".pytest_cache", "progress.json"),
                HF_HUB_OFFLINE="1", PYTHONHASHSEED="0", OMP_NUM_THREADS="1")


def test_oldest(given, **how):
    """The tests of models, training and widgets with the oldest packages that pyproject.toml allows."""
    oldest = Environment(os.path.join(ROOT, ".venv-oldest"), **how)
    if not oldest.state():
        oldest.make()
        wanted = lowest(needs(["test"]))
        oldest.install_torch(next(line for line in wanted if line.startswith("torch==")))
        oldest.install(wanted)
        oldest.link()
        oldest.done(["test"])
    names = ("models", "sft", "sampling", "checkpoints", "reward", "ppo", "dpo", "rloo", "files", "feedback", "windows")
    return call(oldest, ["-m", "pytest", "-q", *(given or [*(f"tests/test_{name}.py" for name in names),
                                                           "tests/widgets"])], cwd=ROOT, OMP_NUM_THREADS="1")


OURS = ("setup", "lab", "test", "test-oldest", "wheelhouse")


def parser(command):
    made = argparse.ArgumentParser(prog="python setup_course.py " + command, description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--dev", action="store_true", help="with what tests and the makers of notebooks need")
    made.add_argument("--with", action="append", default=[], dest="extras", help="an extra of pyproject.toml: data, "
                      "real, site, ...")
    made.add_argument("--torch", choices=("auto", "cpu", "gpu"), default="auto", help="on Linux: PyTorch without or "
                      "with CUDA (auto: with, if there is an NVIDIA GPU)")
    made.add_argument("--offline", metavar="FOLDER", help="install from this folder of packages, without a network")
    made.add_argument("--no-uv", action="store_true", help="use pip, even if uv is there")
    if command == "test":
        made.add_argument("--workers", type=int, default=2, help="number of processes")
    if command == "wheelhouse":
        made.add_argument("folder", help="for example E:/course")
        made.add_argument("--for", action="append", choices=wheelhouse.PLATFORMS, default=[], dest="systems",
                          help="a system of the room, once for each (default: this one; the others need uv)")
        made.add_argument("--python-version", help="of the room, for example 3.12 (default: this one)")
        made.add_argument("--smollm2", action="store_true", help="with the model of notebook 09 (98 MB)")
    return made


def perform(command, words):
    """Check, set up, and do what is asked; returns the exit status."""
    known, given = parser(command).parse_known_args(words) if command in OURS else (parser("").parse_args([]), words)
    if given and command in ("setup", "wheelhouse"):
        parser(command).error("unknown: " + " ".join(given))
    beside = os.path.join(os.path.dirname(ROOT), "packages")  # on the stick that `wheelhouse` makes
    offline = known.offline or (beside if os.path.isfile(os.path.join(beside, wheelhouse.MARK)) else None)
    if offline and not os.path.isdir(offline):
        raise Fault(f"There is no folder {offline}; give the path of the stick's folder packages.")
    how = {"torch": known.torch, "offline": offline and os.path.abspath(offline), "uv": not known.no_uv}
    if command == "test-oldest":
        return test_oldest(given, **how)
    course = Environment(os.path.join(ROOT, ".venv"), **how)
    extras = [*known.extras, *(["dev"] if known.dev or command == "test" else [])]
    course.prepare(extras, before=lambda: check_folder(ROOT, DISK))
    if command == "setup":
        return 0
    if command == "lab":
        return lab(course, given)
    if command == "test":
        return test(course, given, known.workers)
    if command == "wheelhouse":
        return wheelhouse.make(course, known.folder, known.systems, known.python_version, known.smollm2)
    return call(course, words if command == "python" else ["-m", "rlhf_lite", command, *words])


def main(argv):
    """Returns the exit status; a fault is one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a folder's name may have letters that this terminal has not
    command, words = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("setup", argv)
    try:
        try:
            check_machine(**HERE)
        except Fault:
            other = another_python() if sys.version_info[:2] < OLDEST or sys.version_info[:2] > NEWEST else None
            if other is None:
                raise
            say(f"This is Python {platform.python_version()}; the course uses {other}, which is here, too.")
            return subprocess.call([other, os.path.join(ROOT, "setup_course.py"), *argv])
        return perform(command, words)
    except Fault as fault:
        print(f"Not done: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
