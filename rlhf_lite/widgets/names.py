"""Whose rankings are these? A name that is asked for once, and never the same for two people by default.

The idea: rankings are told apart by the name in them, so thirty people called "me" are one person to whoever merges
their files. `my_name()` asks, keeps the answer beside the rankings and does not ask again. Where nobody can be asked
(a notebook that runs by itself), the name is made from the machine, the account and the folder: a guest, but one of its
own.
"""

import getpass
import hashlib
import os
import socket
from pathlib import Path

from rlhf_lite import feedback, files
from rlhf_lite.plain import is_plain, plain

KEPT = Path("runs/my_name.txt")
QUESTION = "Your name, for your rankings (first name and initial, as in Ada L): "


def my_name(given=None, kept=KEPT, ask=input):
    """The name to rank under: the given one, or the one kept in this folder, or the answer to a question.

    Raises ValueError if the given name cannot be one.
    """
    kept = Path(kept)
    if given is not None and str(given).strip():
        return _keep(checked(given), kept)
    if kept.is_file():
        try:
            return checked(kept.read_text(encoding="utf-8"))
        except ValueError:  # damaged: ask again
            pass
    for _ in range(3):
        try:
            return _keep(checked(ask(QUESTION)), kept)
        except ValueError as error:
            print(plain(error))
        except (EOFError, OSError, RuntimeError):  # nobody there, as ipykernel and a closed terminal say it
            break
    return guest()


def checked(name):
    """The name without superfluous spaces; a ValueError says why it cannot be one."""
    name = " ".join(str(name).split())
    if not name:
        raise ValueError("the name is empty; type one, for example Ada L")
    if not is_plain(name) or len(name) > feedback.MOST_CHARACTERS:
        raise ValueError(f"{name[:40]!r} cannot be a name; use at most {feedback.MOST_CHARACTERS} visible characters")
    return name


def guest():
    """A name for a machine where nobody answers: the same after a restart, another one elsewhere."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        user = ""
    here = f"{user}@{socket.gethostname()}:{os.getcwd()}"
    return f"guest-{hashlib.sha256(here.encode()).hexdigest()[:6]}"


def _keep(name, kept):
    try:
        if not kept.is_file() or kept.read_text(encoding="utf-8").strip() != name:
            files.write_text(kept, name + "\n")
    except OSError:  # a read-only folder: then it is asked again next time
        pass
    return name
