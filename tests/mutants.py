"""Mutation tests: one-line mistakes in the learning code, and the tests that have to notice each of them.

Most mistakes in RLHF raise no error: a wrong sign, a shifted mask, a temperature in one place only. Whether
the tests would notice is a question with an answer: make the mistake in a copy and run them there. The
mistakes are listed in mutants.toml; this file makes them.

    python tests/mutants.py                       all mutants, two minutes or so; exit code 1 if one survives
    python tests/mutants.py --only gae_without_lam
    python tests/mutants.py --list

A process that has imported torch, transformers and pytest, but none of the code under test, forks one child
for every mutant; that needs an operating system with fork (Linux, macOS). Results do not depend on --jobs.

A mutant that no longer fits the code is reported, not skipped: change its text along with the code. If one
survives, a test is missing, or the mutant changes nothing that matters; then take it out.
"""

import argparse
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60  # seconds of computing per mutant; of waiting, ten times as many


class Mutant(NamedTuple):
    """One table of mutants.toml, which says what the fields mean."""

    name: str
    file: str
    old: str
    new: str
    wrong: str
    tests: str
    pitfall: str = ""


with open(ROOT / "tests" / "mutants.toml", "rb") as _file:
    MUTANTS = [Mutant(**table) for table in tomllib.load(_file)["mutant"]]


# ---------------------------------------------------------------- checks of the list

def node_ids(mutant):
    """["tests/test_ppo.py::test_x", ...] for pytest."""
    ids = []
    for test in mutant.tests.split():
        file, colons, name = test.partition("::")
        folder, slash, file = file.rpartition("/")
        ids.append(f"tests/{folder}{slash}test_{file}.py{colons}{name}")
    return ids


def occurrences(mutant):
    """How often the mutant's old text stands in its file; it must be once."""
    return (ROOT / "rlhf_lite" / mutant.file).read_text(encoding="utf-8").count(mutant.old)


# ---------------------------------------------------------------- running

def copy_of_the_code(folder):
    """The package and the tests in a fresh folder; data, which no mutant changes, is linked."""
    for name in ("rlhf_lite", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    (folder / "data").symlink_to(ROOT / "data", target_is_directory=True)


def apply(mutant, folder):
    """Make the mistake in the copy."""
    path = folder / "rlhf_lite" / mutant.file
    before, after = path.read_text(encoding="utf-8").split(mutant.old)  # once, and only once
    path.unlink()  # a hard link: the file itself belongs to all copies
    path.write_text(before + mutant.new + after, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def warm_up():
    """Import all that is slow to import and none of the code under test."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", MPLBACKEND="Agg",
                      HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    import beartype  # noqa: F401
    import hypothesis
    import jaxtyping  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import torch._dynamo  # noqa: F401
    import tqdm.auto  # noqa: F401
    from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    # The same examples every time, and no search for a smaller one.
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None,
                                         phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
    hypothesis.settings.load_profile("mutants")
    torch.set_num_threads(1)  # and so it stays: conftest asks for more, but the children share the cores
    torch.set_num_threads = lambda count: None
    sys.dont_write_bytecode = False  # the tests are compiled once, by the run without a mutant
    gc.collect()
    gc.freeze()  # pytest collects garbage at its end; what was imported here is none, and looking takes half a second


def start(folder, tests, log, timeout):
    """Run the tests on the code in `folder` in a child process; returns its id. It exits with pytest's status."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        signal.setitimer(signal.ITIMER_PROF, timeout)  # both end the process
        signal.alarm(10 * timeout)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        sys.path[:] = [str(folder)] + [p for p in sys.path if Path(p).resolve() not in (ROOT, ROOT / "tests")]
        import pytest
        status = int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests]))
        if not Path(sys.modules["rlhf_lite"].__file__).is_relative_to(folder):
            print("The tests imported rlhf_lite from somewhere else than the copy.")
            status = 99
    finally:
        sys.stdout.flush()
        os._exit(status)


def verdict(status, log):
    """(waitpid status, file of the output) -> (word, explanation)."""
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
            return "KILLED", f"by timeout ({TIMEOUT} s)"
        return "BROKEN", f"the process died of signal {os.WTERMSIG(status)}\n{text[-1500:]}"
    code = os.WEXITSTATUS(status)
    if code == 0:
        return "SURVIVED", ""
    failed = re.search(r"^FAILED tests/(\S+)", text, re.MULTILINE)
    if code == 1 and failed:
        return "KILLED", f"by {failed[1]}"
    return "BROKEN", f"pytest ended with {code}; no test failed, the mutant or its tests cannot run\n{text[-1500:]}"


def run(mutants, jobs, folder):
    """Yields (mutant, word, explanation, seconds) in the order of the list."""
    waiting, running, done = list(enumerate(mutants)), {}, {}
    for index, mutant in enumerate(mutants):
        while index not in done:
            while waiting and len(running) < jobs:
                number, following = waiting.pop(0)
                copy, log = folder / f"{number}", folder / f"{number}.log"
                shutil.copytree(folder / "plain", copy, symlinks=True, copy_function=os.link)
                apply(following, copy)
                child = start(copy, node_ids(following), log, TIMEOUT)
                running[child] = number, copy, log, time.perf_counter()
            child, status = os.wait()
            number, copy, log, started = running.pop(child)
            done[number] = *verdict(status, log), time.perf_counter() - started
            shutil.rmtree(copy, ignore_errors=True)
        yield mutant, *done.pop(index)


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description="One-line mistakes in the learning code; do the tests notice?")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these mutants only")
    parser.add_argument("--jobs", type=int, default=cores, help=f"mutants at once (default: {cores}, one per core)")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        parser.error("this operating system has no fork; use Linux or macOS")
    unknown = set(options.only or ()) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}; --list shows all")
    mutants = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    width = max(len(mutant.name) for mutant in mutants)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name:{width}}  {mutant.file:12}  {mutant.pitfall:3}  {mutant.wrong}")
        return 0

    outdated = [mutant for mutant in mutants if occurrences(mutant) != 1]
    for mutant in outdated:
        print(f"{mutant.name}: this text occurs {occurrences(mutant)} times in rlhf_lite/{mutant.file}, not once; "
              f"the list is out of date:\n    {mutant.old}")
    if outdated:
        return 2

    started = time.perf_counter()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name).resolve()
        (folder / "plain").mkdir()
        copy_of_the_code(folder / "plain")
        # The tests must pass without a mutant, or a failure would say nothing. This also compiles them, once.
        tests = list(dict.fromkeys(test for mutant in mutants for test in node_ids(mutant)))
        _, status = os.waitpid(start(folder / "plain", tests, folder / "plain.log", 600), 0)
        if status:
            print("Without any mutant the tests do not pass; nothing can be concluded.\n"
                  + (folder / "plain.log").read_text(encoding="utf-8")[-3000:])
            return 2
        killed = 0
        for mutant, word, explanation, seconds in run(mutants, max(1, options.jobs), folder):
            killed += word == "KILLED"
            if word == "SURVIVED":
                explanation = f"{mutant.wrong}; rlhf_lite/{mutant.file}: {mutant.new.strip()}"
            print(f"{word:8}  {seconds:5.1f} s  {mutant.name:{width}}  {explanation}", flush=True)
    print(f"{len(mutants)} mutants, {killed} killed, {time.perf_counter() - started:.0f} seconds")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
