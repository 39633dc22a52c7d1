"""Running a learner's function so that it changes nothing outside itself and ends, whatever is written in it.

Left out: limits on memory and on what it may read or write. A function that runs in this process can do what this
process can; whoever gives marks must run it in another one.
"""

import ast
import contextlib
import ctypes
import inspect
import linecache
import os
import random
import signal
import textwrap
import threading
import traceback

import numpy as np
import torch


class TooSlow(BaseException):
    """The time is up. Not an Exception, so that a learner's own `except Exception` does not swallow it."""


@contextlib.contextmanager
def undisturbed():
    """Restore on the way out what a function could have changed for all the cells below."""
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, device, threads = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    gradients, errors, folder, variables = torch.is_grad_enabled(), np.geterr(), os.getcwd(), dict(os.environ)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        np.seterr(**errors)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        os.chdir(folder)
        if dict(os.environ) != variables:
            os.environ.clear()
            os.environ.update(variables)


@contextlib.contextmanager
def at_most(seconds):
    """Raise TooSlow in the block after that many seconds, and again every second until the block ends.

    Where there are signals (not on Windows, and only in the main thread) they also end a sleep; elsewhere Python raises
    at the next line it runs. Nothing ends a single call of a library that never comes back.
    """
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        with _alarm(seconds):
            yield
    else:
        with _raised_from_outside(seconds):
            yield


@contextlib.contextmanager
def _alarm(seconds):
    def ring(*_):
        raise TooSlow
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _raised_from_outside(seconds):
    thread, done, patience = ctypes.c_ulong(threading.get_ident()), threading.Event(), [seconds]

    def watch():
        while not done.wait(patience[0]):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TooSlow))
            patience[0] = 1.0
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


# ---------------------------------------------------------------- the learner's own code

def is_stub(function):
    """Whether nothing but the blank is in it: a docstring, `pass`, `...`, `raise`. True too where nobody can look.

    A line that only prepares a parameter (`weight = weight.detach()`) is given with some blanks, and is no answer.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return True
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    if found is None:
        return False
    given = {argument.arg for argument in found.args.args}

    def empty(node):
        return (isinstance(node, ast.Pass | ast.Raise)
                or isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                or isinstance(node, ast.Assign) and all(getattr(one, "id", None) in given for one in node.targets))
    return all(map(empty, found.body)) and not all(isinstance(node, ast.Assign) for node in found.body)


def raised_in(error):
    """The file in which an error came up."""
    return [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)][-1]


def last_own_line(error, function):
    """("`share = wins / n` (line 3)" or None, whether the error came from the learner's own line, not from a library).

    The last line in the file or cell of the function that the error passed through.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [line for name, line in frames if code and name == code.co_filename]
    if not own:
        return None, False
    text = linecache.getline(code.co_filename, own[-1]).strip()
    return f"`{text}` (line {own[-1]})" if text else f"{own[-1]}", frames[-1][0] == code.co_filename
