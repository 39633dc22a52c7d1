"""What holds a student's process within its limits: time, memory, files, network, other processes.

The idea: first everything the operating system enforces by itself, then, where there is no such thing, a hook on
Python's own events, which stops accidents and simple tricks but nobody who knows about ctypes. `held` says in words
which of them holds on this machine; docs/grading.md has the table.
"""

import contextlib
import os
import sys
import sysconfig
from pathlib import Path

import rlhf_lite
from rlhf_lite import files
from rlhf_lite.workshop import landlock, seccomp

LARGEST_FILE = 16 * 2**20
PACKAGE = Path(rlhf_lite.__file__).resolve().parent
REFUSED = ("socket.", "subprocess.", "os.exec", "os.fork", "os.spawn", "os.posix_spawn", "os.system", "os.startfile",
           "os.kill", "os.chmod", "os.chown", "os.setxattr", "os.utime", "signal.pthread_kill", "ctypes.")
ON_PATHS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link",
            "os.symlink", "os.truncate", "shutil.", "glob.")


def readable(hidden=()):
    """Files and folders a student's code may read: Python, the installed packages and the course's data.

    Not the library's own text, which holds the answers, nor anybody's home, nor the places in `hidden`.
    """
    clone = PACKAGE.parent if (PACKAGE.parent / "solutions").is_dir() else PACKAGE
    places = {Path(sys.base_prefix), Path(sys.prefix), Path(sysconfig.get_path("stdlib")), *map(Path, sys.path)}
    places |= {Path(place) for place in ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom",
                                         "/sys/devices/system/cpu")}
    places = {place.resolve() for place in places if place.is_absolute() and place.exists()} - {Path("/")}
    found, avoided = [files.DATA.resolve()], [clone, *(Path(place).resolve() for place in hidden)]
    for place in sorted(places):
        found += _around(place, avoided)
    return found


def _around(place, avoided):
    """A place, or, if something to avoid is in it, everything in it but that."""
    if place in avoided or not any(one.is_relative_to(place) for one in avoided):
        return [] if place in avoided else [place]
    return [found for part in sorted(place.iterdir()) for found in _around(part, avoided)]


def held():
    """[(what is kept from a student's code, who keeps it)], the kernel or, more weakly, Python."""
    files_by = f"kernel (Landlock {landlock.version()})" if landlock.version() else "Python"
    calls_by = "kernel (seccomp)" if seccomp.available() else "Python"
    limits = "kernel" if sys.platform.startswith("linux") else "the grader, which looks ten times a second"
    return [("writing outside its own temporary folder", files_by), ("reading other submissions and answers", files_by),
            ("the network", calls_by), ("starting and disturbing processes", calls_by),
            ("memory and time beyond the limit", limits)]


def enter(folder, megabytes, seconds, hidden=()):
    """Take this process behind the bars; `folder` is the only place it may write to, `hidden` what it may not read."""
    os.chdir(folder)
    os.environ.update(HOME=str(folder), TMPDIR=str(folder), TEMP=str(folder), TMP=str(folder), MPLCONFIGDIR=str(folder),
                      HF_HOME=str(folder), RLHF_LITE_PROGRESS=str(Path(folder) / "progress.json"))
    _system_limits(megabytes, seconds)
    reading = readable(hidden)
    if landlock.version():
        landlock.restrict(reading, [folder, "/dev/null"])
    if seccomp.available():
        seccomp.restrict(os.getpid())
    if not (landlock.version() and seccomp.available()):
        _hook([str(place) for place in reading], str(Path(folder).resolve()))


def _system_limits(megabytes, seconds):
    try:
        import resource
    except ImportError:  # Windows
        return
    def most(name, value):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
    most("RLIMIT_CPU", int(seconds) + 5)
    most("RLIMIT_FSIZE", LARGEST_FILE)
    most("RLIMIT_NOFILE", 128)
    most("RLIMIT_CORE", 0)
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most("RLIMIT_AS", pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 2**20)
    if not seccomp.available():
        most("RLIMIT_NPROC", 0)


def _hook(reading, writing):
    """Where the kernel does not help: refuse what Python itself reports before it does it."""
    def watch(event, arguments):
        if event.startswith(REFUSED):
            raise PermissionError(f"{event} is not allowed while you are graded")
        if event.startswith(ON_PATHS) and arguments and isinstance(arguments[0], (str, bytes, os.PathLike)):
            place = os.path.realpath(os.fsdecode(arguments[0]))
            mode = arguments[1] if event == "open" and len(arguments) > 1 else "r"
            looks = event in ("open", "os.listdir", "os.scandir") and not set("wax+") & set(mode or "r")
            if event == "open" and not isinstance(mode, str):
                looks = not (arguments[2] & (os.O_WRONLY | os.O_RDWR))
            allowed = [writing, *(reading if looks else [])]
            if place != os.devnull and not any(place == one or place.startswith(one + os.sep) for one in allowed):
                raise PermissionError(f"{event} of this place is not allowed while you are graded")
    sys.addaudithook(watch)
