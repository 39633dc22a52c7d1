"""One process that has imported everything and never runs a student's code; every student's process is a copy of it.

The idea: importing PyTorch takes seconds, a copy of a process that has done so takes milliseconds (`fork`). The grader
sends one end of a new line; the copy talks over it. Windows has no fork: there every notebook gets a new interpreter.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import psutil

from rlhf_lite.workshop import limits, messages

FORK = hasattr(os, "fork") and hasattr(socket, "send_fds")
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "TZ")  # no tokens, no addresses


def environment():
    """What a student's process gets of the instructor's environment: next to nothing."""
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "PYTHONPATH": str(limits.PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
        "RLHF_LITE_NO_NETWORK": "1", "MALLOC_ARENA_MAX": "2", "PYTHONUTF8": "1"}


class Processes:
    """Makes students' processes: `with Processes() as processes: channel, process = processes.new()`."""

    def __init__(self, fork=FORK):
        self.fork, self.empty = fork, tempfile.TemporaryDirectory(prefix="grading-")
        self.one_at_a_time = threading.Lock()
        self.command = [sys.executable, "-m", "rlhf_lite.workshop.worker"]  # where there is no fork

    def __enter__(self):
        if self.fork:
            self.line, theirs = socket.socketpair()
            with theirs:
                self.server = subprocess.Popen(
                    [sys.executable, "-m", "rlhf_lite.workshop.server", str(theirs.fileno())], cwd=self.empty.name,
                    env=environment(), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
            if self.line.recv(1) != b"+":
                raise RuntimeError("The grader could not start; run `python -m rlhf_lite doctor`.")
        return self

    def __exit__(self, *_):
        if self.fork:
            self.line.close()  # the server ends by itself
            self.server.wait()
        self.empty.cleanup()

    def new(self):
        """(a channel to a new process, the process, as psutil knows it)."""
        if not self.fork:
            made = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.DEVNULL, cwd=self.empty.name, env=environment())
            return messages.Channel(made.stdout, made.stdin), psutil.Process(made.pid)
        ours, theirs = socket.socketpair()
        with theirs, self.one_at_a_time:
            try:
                socket.send_fds(self.line, [b"!"], [theirs.fileno()])
                number = int(self.line.recv(16))
            except (OSError, ValueError):
                raise RuntimeError("The grader's own process has ended; run the command again.") from None
        stream = ours.makefile("rwb")
        ours.close()  # the stream keeps it open
        return messages.Channel(stream, stream), psutil.Process(number)


def kill(process):
    """End a process and all it has started; nothing happens if it has ended already."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.Error:
        family = [process]
    for member in family:
        try:
            member.kill()
        except psutil.Error:
            pass


# ---------------------------------------------------------------- the server itself

def main(line):
    """Fork a copy for every message, until the grader hangs up."""
    from rlhf_lite.workshop import worker
    worker.prepare()
    gc.collect()
    gc.freeze()  # no copy has to look through what was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a copy ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the grader
    line.sendall(b"+")
    while True:
        text, handles, _, _ = socket.recv_fds(line, 1, 1)
        if not text:
            os._exit(0)  # taking everything down that was imported would take seconds
        child = os.fork()
        if not child:
            try:
                own = os.dup(handles[0])
                keep = {own, 0, 1, 2}
                for handle in range(3, 256):
                    if handle not in keep:
                        try:
                            os.close(handle)
                        except OSError:
                            pass
                worker.serve(own, os.dup(own))
            finally:
                os._exit(0)
        os.close(handles[0])
        line.sendall(f"{child:<16d}".encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
