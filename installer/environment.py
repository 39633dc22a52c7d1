"""The course's virtual environment: made, mended, filled with pip or uv, and explained in one sentence when it fails.

`setup_course.py` uses it. Standard library only.
"""

import collections
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CUDA_DISK = 9  # GB that PyTorch with CUDA takes while it is installed
# PyTorch without CUDA: 200 MB instead of 2.9 GB. A mirror of this address can be named in $RLHF_LITE_TORCH_INDEX.
TORCH_INDEX = os.environ.get("RLHF_LITE_TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"


class Fault(Exception):
    """One sentence: what is wrong, and what to do."""


def say(text):
    print(text, flush=True)


def output(command, **options):
    """(exit status, all that a command printed); status -1 if it cannot even be started."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                              errors="replace", **options)
        return done.returncode, done.stdout
    except OSError as error:
        return -1, str(error)


def has_gpu():
    """Whether there is an NVIDIA GPU with its driver."""
    return output(["nvidia-smi", "-L"])[1].startswith("GPU ")


# ---------------------------------------------------------------- what to install

def needs(extras=()):
    """The requirements of pyproject.toml with those extras, an extra of our own within another resolved."""
    import tomllib  # Python 3.11, which check_machine has seen

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        project = tomllib.load(file)["project"]
    found, waiting = list(project["dependencies"]), list(extras)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop(0)]:
            ours = re.match(r"rlhf_lite\[([\w,]+)\]$", line)
            waiting += ours.group(1).split(",") if ours else []
            found += [] if ours else [line]
    return list(dict.fromkeys(found))


def lock():
    return os.path.join(ROOT, "constraints.txt")


def locked(name):
    """The pinned version of a package."""
    with open(lock(), encoding="utf-8") as file:
        spelt = re.sub(r"[-_.]+", "[-_.]+", name)
        return re.search(rf"^{spelt}==([\w.]+)", file.read(), re.MULTILINE | re.IGNORECASE).group(1)


def lowest(requirements):
    """Requirements at their lower ends: torch>=2.11,<3 -> torch==2.11.*"""
    ends = (re.match(r"([\w.-]+)(?:\[.*\])?[>=]=([\w.]+)", line).groups() for line in requirements)
    return [f"{name}=={end}" + ("" if end.count(".") > 1 else ".*" if "." in end else ".0.*") for name, end in ends]


# ---------------------------------------------------------------- installing

UNREACHED = "The package index cannot be reached"
SENTENCES = [  # (what pip or uv printed, the sentence), the first match counts
    (r"No space left on device|Errno 28|os error 112", "The disk is full; make some room and run this again."),
    (r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|UnknownIssuer",
     "The package index was reached, but its certificate is not trusted here; behind a company's proxy, name its "
     "certificate file in PIP_CERT (and SSL_CERT_FILE)."),
    (r"Proxy Authentication|\b407\b", "The proxy asks for a password; put it into HTTPS_PROXY and run this again."),
    (r"40[13] (?:Client )?(?:Error|Unauthorized|Forbidden)|User for .*:",
     "The package index refused us; check the address and the password in PIP_INDEX_URL."),
    (r"NewConnectionError|Failed to establish|name resolution|getaddrinfo|ConnectTimeout|ReadTimeout|Max retries|"
     r"dns error|error sending request|Failed to fetch|Connection(?: was)? (?:reset|refused|aborted)|"
     r"Could not find a suitable TLS|Network is unreachable|timed out|IncompleteRead",
     UNREACHED + "; check the network (or the address of your mirror in PIP_INDEX_URL) and run "
     "this again: what has been downloaded is kept."),
    (r"PermissionError|Errno 13|Access is denied|WinError (?:5|32)\b",
     "A file in .venv is in use or may not be written; close JupyterLab and every other Python, and run this again."),
    (r"No matching distribution found for (\S+)|because there is no version of (\S+)|no wheels with a matching",
     "The package index has no fitting PACKAGE for this Python and this machine."),
]


def explain(text):
    """The output of a failed installation as one sentence."""
    for pattern, sentence in SENTENCES:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            named = next(filter(None, found.groups()), "package")
            return sentence.replace("PACKAGE", named)
    errors = [line for line in text.splitlines() if re.match("error|fatal", line, re.IGNORECASE)]
    return "The installation failed: " + (errors or text.strip().splitlines() or ["no message"])[-1].strip()


def watch(command, log, env=None):
    """Run an installer, show in one line what it is doing, keep all it says in `log`; returns (status, its words)."""
    started, seen, shown = time.time(), 0, ""
    last = collections.deque(maxlen=400)
    with open(log, "a", encoding="utf-8") as file, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, universal_newlines=True,
            encoding="utf-8", errors="replace") as process:
        for line in process.stdout:
            file.write(line)
            last.append(line)
            found = re.match(r"\s*(Collecting|Downloading|Using cached|Installing collected|Resolved|Prepared|"
                             r"Installed|WARNING: Retrying)\b\s*([^\s;<>=!~,(\[]*)(?:.*(\([\d.]+ ?[kMG]i?B\)))?", line)
            if not found:
                continue
            seen += found.group(1) == "Collecting"
            verb, what = found.group(1), found.group(2).split("/")[-1].split("-")[0]
            text = {"Installing collected": "unpacking (a minute or two)", "Resolved": "versions chosen",
                    "WARNING: Retrying": "the network is slow; trying again"}.get(
                        verb, f"{verb.lower()} {what} {found.group(3) or ''}")
            minutes, seconds = divmod(int(time.time() - started), 60)
            text = f"  {minutes}:{seconds:02d}  {f'{seen} packages, ' if seen else ''}{text}"
            if sys.stdout.isatty():
                print("\r" + text[:78].ljust(78), end="", flush=True)
            elif verb not in ("Collecting", "Using cached") and text[8:] != shown and (
                    verb != "Downloading" or re.search(r"\d\d [MG]B|\d{2,}(\.\d)?[MG]iB", line)):
                say(text.rstrip())  # in a file or a log: only what takes long
            shown = text[8:]
    if sys.stdout.isatty() and shown:
        print("\r" + " " * 78 + "\r", end="", flush=True)
    return process.returncode, "".join(last)


def uv_environment(env):
    """The environment for uv, with the index, the mirrors and the certificate that pip is configured to use."""
    env, listed = dict(env), output([sys.executable, "-m", "pip", "config", "list"])[1]
    settings = dict(re.findall(r"^\S*?\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    settings.update({key[4:].lower().replace("_", "-"): env[key] for key in env if key.startswith("PIP_")})

    def there(text):
        return [p for p in text.replace("\\n", " ").split()
                if not p.startswith(("file:", "/")) or os.path.isdir(p[7:] if p.startswith("file:") else p)]
    for ours, theirs, joint in (("index-url", "UV_DEFAULT_INDEX", " "), ("extra-index-url", "UV_INDEX", " "),
                                ("find-links", "UV_FIND_LINKS", ","), ("cert", "SSL_CERT_FILE", " ")):
        if settings.get(ours) and there(settings[ours]):
            env.setdefault(theirs, joint.join(there(settings[ours])))
    env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip: the best of all indexes
    env.setdefault("UV_HTTP_TIMEOUT", "180")
    return env


class Environment:
    """A virtual environment in the course's folder: made, mended, filled and used."""

    def __init__(self, folder, torch="auto", offline=None, uv=True):
        self.folder, self.torch, self.offline = folder, torch, offline
        self.python = os.path.join(folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
        self.mark, self.log = os.path.join(folder, "ready.json"), os.path.join(folder, "setup.log")
        self.uv = shutil.which("uv") if uv else None

    def state(self):
        """What was installed, and from which pins: a later call compares it with what is wanted now."""
        try:
            with open(self.mark, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return {}

    def wanted(self):
        digest = hashlib.sha256()
        for path in (lock(), os.path.join(ROOT, "pyproject.toml")):
            with open(path, "rb") as file:
                digest.update(file.read().replace(b"\r\n", b"\n"))
        return digest.hexdigest()

    def works(self):
        """Whether its Python starts and is one that the course can use."""
        status, words = output([self.python, "-c", "import sys; print((3, 11) <= sys.version_info[:2] <= (3, 14))"])
        return status == 0 and words.strip() == "True"

    def make(self):
        """A working, perhaps empty, environment. One that is half made, from another system or without Python goes."""
        if os.path.lexists(self.folder) and not self.works():
            if os.path.islink(self.folder) or not os.path.isfile(os.path.join(self.folder, "pyvenv.cfg")) \
                    and os.listdir(self.folder):
                raise Fault(f"{self.folder} is not a virtual environment that works here; rename or delete it and run "
                            "this again.")
            say(f"{self.folder} was left unfinished, or comes from another computer; it is made again.")
            shutil.rmtree(self.folder)
        if not os.path.exists(self.folder):
            status, words = output([sys.executable, "-m", "venv", self.folder])
            if status and self.uv:
                shutil.rmtree(self.folder, ignore_errors=True)
                status, words = output([self.uv, "venv", "--python", sys.executable, self.folder])
            if status:
                shutil.rmtree(self.folder, ignore_errors=True)
                raise Fault("The virtual environment could not be made (on Debian or Ubuntu: apt install "
                            f"python3-venv): {' '.join(words.split())[-200:]}")
        if not self.uv and self.pip() is None:
            status, words = output([self.python, "-m", "ensurepip", "--upgrade"])
            if status:
                raise Fault(f"{self.folder} has no pip, and none can be put there; delete that folder and run this "
                            "again.")

    def pip(self):
        """The start of a pip command; None where there is no pip."""
        pip = [self.python, "-m", "pip"]
        return None if output([*pip, "--version"])[0] else pip

    def install(self, requirements, *options, fatal=True):
        """Install with uv where there is one, else with pip; True if all went well."""
        options = [*options, *(["--no-index", "--find-links", self.offline] if self.offline else [])]
        words = ""
        if self.uv:
            status, words = watch([self.uv, "pip", "install", "--python", self.python, *options, *requirements],
                                  self.log, uv_environment(os.environ))
            if status == 0:
                return True
        pip = self.pip()  # it may know a proxy or a certificate that uv does not
        for left in (2, 1, 0) if pip else ():
            status, words = watch([*pip, "install", "--disable-pip-version-check", "--progress-bar", "off", *options,
                                   *requirements], self.log)
            if status == 0:
                return True
            if "Downloading" not in words or not explain(words).startswith(UNREACHED):
                break
            if left:  # a bad line: what has arrived is kept, so every try gets further
                say("The connection broke; trying again.")
        if fatal:
            raise Fault(f"{explain(words)} (All that was said: {self.log})")
        return False

    def install_torch(self, wanted=None):
        """PyTorch without CUDA, where that is a different build (Linux) and no GPU needs the other one."""
        version = wanted.split("==")[1].replace(".*", ".0") if wanted else locked("torch")
        found = output([self.python, "-c", "import torch; print(torch.__version__)"])[1].strip()
        if platform.system() != "Linux" or self.torch == "gpu" or self.torch == "auto" and has_gpu():
            if found.endswith("+cpu"):  # to pip, it would do
                output([self.uv, "pip", "uninstall", "--python", self.python, "torch"] if self.uv else
                       [*self.pip(), "uninstall", "--yes", "torch"])
            return
        if found.split("+")[0] == version:
            return
        say("PyTorch without CUDA ...")
        build = [f"torch=={version}+cpu"]
        if self.install(build, "--no-deps", fatal=False):  # the configured index, or a mirror, has it
            return
        if self.offline or self.install(build, "--no-deps", "--index-url", TORCH_INDEX, fatal=False):
            return
        say(f"PyTorch without CUDA cannot be had from {TORCH_INDEX} ($RLHF_LITE_TORCH_INDEX can name a mirror), so the "
            "usual build is installed: a download of up to 2.9 GB.")
        free = shutil.disk_usage(self.folder).free / 1e9
        if free < CUDA_DISK:
            raise Fault(f"That build needs {CUDA_DISK} GB of disk, and {free:.1f} GB are free; make some room, or name "
                        "a mirror, and run this again.")

    def link(self):
        """Let the environment find the library. The path is relative, so the course's folder can be moved."""
        _, place = output([self.python, "-c", "import os, sys, sysconfig; "
                           "print(os.path.relpath(sysconfig.get_path('purelib'), sys.prefix))"])
        place = os.path.join(self.folder, place.strip())
        with open(os.path.join(place, "rlhf_lite_course.pth"), "w", encoding="utf-8") as file:
            file.write(os.path.relpath(ROOT, place).replace(os.sep, "/") + "\n")

    def done(self, extras):
        with open(self.mark, "w", encoding="utf-8") as file:
            json.dump({"pins": self.wanted(), "extras": extras, "torch": self.torch}, file)

    def prepare(self, extras=(), before=lambda: None):
        """All that is needed, installed; at once if it is there already. before: checks ahead of an installation."""
        state = self.state()
        extras = sorted({*extras, *state.get("extras", [])})
        same = state.get("pins") == self.wanted() and state.get("extras") == extras
        if same and self.torch in ("auto", state.get("torch")) and self.works():
            return
        before()
        say(f"Setting up {self.folder}: this takes some minutes, once.")
        self.make()
        self.install_torch()
        self.install(needs(extras), "-c", lock())
        self.link()
        self.done(extras)
        say("Ready. Next: python setup_course.py lab")
