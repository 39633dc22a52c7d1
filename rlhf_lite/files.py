"""Where the data is kept, and how to write a file so that it is the old one or the new one, never half of each.

The idea: write under another name beside the target, sync, and rename. Renaming is a single step for the operating
system, so a crash, a full disk or a second program never leaves half of anything. Use `whole_file` to write a file
and `whole_folder` to write a folder; files that grow row by row are in `feedback`.
"""

import contextlib
import importlib
import json
import math
import os
import re
import secrets
import shutil
import sys
import tempfile
from glob import escape
from pathlib import Path

from rlhf_lite import locks, schemas

DATA = Path(__file__).resolve().parent.parent / "data"
MODELS = DATA / "models"
LEFT = re.compile(r"\..+\.([0-9a-f]{16}\.new|new-.{8})")  # the names under which files and folders are written
PATIENCE = 60  # seconds to wait for somebody who is writing the same folder


def need_course():
    """FileNotFoundError, in one sentence, where only the library is installed, without the course around it."""
    if not MODELS.is_dir():
        raise FileNotFoundError(f"The course is used from a clone of its repository, with its data and models, and "
                                f"there are none in {DATA}; clone it and run: python setup_course.py")


def extra(module):
    """A module that the package datasets brings along, which is an extra; ImportError in one sentence without it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"This needs {module.split('.')[0]}, which comes with the extra data; run: python "
                          "setup_course.py setup --with data") from None


class NotWritten(OSError):
    """One sentence that says what could not be written and what to do about it."""


@contextlib.contextmanager
def writing(place, *errors):
    """Turn the errors of a full or read-only disk inside the block (OSError, and `errors`) into one sentence."""
    try:
        yield
    except NotWritten:  # an inner block has already said it
        raise
    except (OSError, *errors) as error:
        raise NotWritten(f"Could not write to {place}: {error}. Free some disk space or choose another folder; "
                         "whatever was saved there before is unchanged.") from error


@contextlib.contextmanager
def whole_file(path, *errors):
    """Yield the path of a new file beside `path`; if the block succeeds, the new file replaces `path`."""
    path = Path(path)
    with writing(path, *errors):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name that nobody can guess, and an error if it exists: others may be writing here too, or have put a link.
        new = path.with_name(f".{path.name[:30]}.{secrets.token_hex(8)}.new")
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield new
            fsync(new)
            os.replace(new, path)
            fsync(path.parent)
        finally:
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder, *errors, replaces=()):
    """Yield a new empty folder beside `folder`; if the block succeeds, the new folder replaces `folder`.

    replaces: names of the files that the block writes; everything else in the old folder is kept.
    """
    folder = Path(folder)
    with writing(folder, *errors), locks.alone(folder, PATIENCE):
        _settle(folder)
        for left in folder.parent.glob(f".{escape(folder.name)}.new-*"):  # by a writer that was killed
            shutil.rmtree(left, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
        try:
            os.chmod(new, 0o755)  # mkdtemp makes the folder private
            yield new
            for path in new.rglob("*"):
                if path.is_file():
                    fsync(path)
            if folder.exists():
                shutil.copytree(folder, new, copy_function=_link, dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns(*replaces))
                os.replace(folder, _previous(folder))
            os.replace(new, folder)
            fsync(folder.parent)
        except BaseException:
            _settle(folder)
            shutil.rmtree(new, ignore_errors=True)
            raise
        shutil.rmtree(_previous(folder), ignore_errors=True)


def settle(folder):
    """Undo a `whole_folder` that was interrupted between its two renames; call it before reading such a folder."""
    if _previous(folder).exists():  # or somebody is between them just now: then wait
        with locks.alone(folder, PATIENCE):
            _settle(folder)


def _settle(folder):
    if _previous(folder).exists() and not folder.exists():
        os.replace(_previous(folder), folder)
    elif _previous(folder).exists():
        shutil.rmtree(_previous(folder), ignore_errors=True)


def sweep(folder):
    """Remove what killed writers have left in a folder and below it. Only for those who have it alone (`locks`)."""
    for left in [path for path in Path(folder).rglob(".*.new*") if LEFT.fullmatch(path.name)]:
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def try_writing(folder):
    """Raise NotWritten unless a file can be written in the folder (made if missing); ask before long work."""
    with writing(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"is there room?")


def _previous(folder):
    return folder.with_name(f".{folder.name}.previous")


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def fsync(path):
    """Wait until a file, or the names in a folder, have reached the disk. Windows cannot sync folders, nor need it."""
    if os.path.isdir(path) and not hasattr(os, "O_DIRECTORY"):
        return
    flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR  # Windows syncs only what it is allowed to write
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- text and JSON

def utf8_output():
    """Print any text anywhere: redirected to a file, Windows would use an old encoding that has no "±" or "→"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has none, and needs none
            stream.reconfigure(**({"errors": "replace"} if stream.isatty() else {"encoding": "utf-8"}))



def write_text(path, text):
    """Write a whole text file, in UTF-8 with plain newlines on every system."""
    with whole_file(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, content):
    """Write a whole file of strict JSON: NaN and infinities become null, NumPy numbers become plain numbers."""
    write_text(path, json.dumps(strict(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def strict(value):
    """The same content as JSON can hold it: NaN and infinities become None, NumPy numbers plain numbers."""
    if isinstance(value, dict):
        return {key: strict(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path, default=None):
    """The content of any JSON file, or `default` if there is no file; what has a schema is read with `schemas.read`."""
    return schemas.read(path, default=default)
