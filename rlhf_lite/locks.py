"""One at a time: a lock on a file or folder, and a sentence that says who holds it.

The idea: to read a file, change it and write it back is safe only while nobody else does the same. The lock belongs to
the operating system (`filelock`), which releases it when a process ends, even one that was killed, so no lock is ever
left over. The small hidden files beside the place (.NAME.lock, .NAME.owner) stay there and do no harm.
"""

import contextlib
import getpass
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout


class Busy(RuntimeError):
    """One sentence that says who is at work in the same place."""


@contextlib.contextmanager
def alone(place, patience=0.0):
    """Keep others out of a file or folder, which need not exist yet; Busy if one stays longer than `patience` seconds.

    Every function that changes the place must ask; those that only read it need not.
    """
    place = Path(os.path.abspath(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(place.with_name(f".{place.name}.lock")), place.with_name(f".{place.name}.owner")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise Busy(f"{place} is in use by {_holder(owner)}; wait until that has finished, or choose another name."
                   ) from None
    try:
        with contextlib.suppress(OSError):  # only the sentence above would miss it
            owner.write_text(_me(), encoding="utf-8")
        yield
    finally:
        lock.release()


def _me():
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        user = "somebody"
    return f"process {os.getpid()} of {user} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M')}"


def _holder(owner):
    try:
        return owner.read_text(encoding="utf-8")[:200].replace("\n", " ") or "another process"
    except (OSError, ValueError):
        return "another process"
