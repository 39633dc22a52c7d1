"""Files with one JSON row per line that only ever grow.

A row counts once `append_jsonl` has returned: by then it has reached the disk, so a kernel that dies loses nothing
that was acknowledged. Reading trusts nobody: each bad row is reported in one sentence (file, line, what is wrong; how
to fix it), and the good rows are kept.

Left out on purpose: a database, locks for many writers on a network drive, editing in place.
"""

import contextlib
import gc
import json
import math
import os
from pathlib import Path

import msgspec

from rlhf_lite import files
from rlhf_lite.plain import plain


def json_line(row):
    """A row as bytes: one line of JSON in UTF-8. Half a character becomes its JSON escape, so every text survives."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the row cannot be written as JSON ({error}); use text, numbers, lists and dicts") from None
    return text.encode("utf-8", "backslashreplace") + b"\n"


def append_jsonl(path, row):
    """Add one row to the end of ``path`` (made if missing) and return only when it is on the disk.

    The row goes out in one write on a file opened for appending, then fsync. If an earlier writer was
    killed in mid-row, a newline first closes its torn line, so the new row is never glued to it. Raises
    ValueError for a row that is not JSON, and OSError (one sentence) when the disk refuses to write it.
    """
    path, data = Path(path), json_line(row)
    try:
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_BINARY exists on Windows only, where text mode would write \r\n.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        try:
            if os.fstat(handle).st_size:
                os.lseek(handle, -1, os.SEEK_END)
                data = data if os.read(handle, 1) == b"\n" else b"\n" + data
            _write_or_undo(handle, data)
        finally:
            os.close(handle)
        if is_new:
            files.fsync(path.parent)  # the new file's name must reach the disk as well
    except OSError as error:
        raise OSError(error.errno, f"{path}: the row was not saved ({error.strerror}); free some space or "
                                   "choose another folder, then save again") from error


def _write_or_undo(handle, data):
    """Write ``data`` and sync it; if the disk refuses, cut the file back, so that half a row never remains."""
    size, left = os.fstat(handle).st_size, data
    try:
        while left:  # once, unless the disk is nearly full
            left = left[os.write(handle, left):]
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to report
            # Any other size means that somebody else has appended a row in the meantime; it must stay.
            if os.fstat(handle).st_size == size + len(data) - len(left):
                os.ftruncate(handle, size)
        raise


def read_jsonl(path, check=None, strict=False):
    """Read ``path`` and return (rows, problems): the good rows in order, and one sentence for each bad row.

    check: a function that raises ValueError for a bad row, e.g. ``check_ranking``; None accepts all JSON.
    A last line torn by a crash is one of the problems, never an exception; so is a torn line that a later
    append has closed. strict=True raises ValueError naming all the problems instead (for shipped data).
    Raises FileNotFoundError if there is no such file and IsADirectoryError for a folder, saying what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder, not a file; name a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; check the name or write the first row")
    rows, problems = [], []
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # some editors add a byte-order mark
    lines = data.split(b"\n")
    wide = b"\0" in data[:4] and data[:4].strip(b"\0") != b""  # UTF-16: no UTF-8 row begins like this
    with many_objects():
        for number, line in enumerate(lines, start=1):
            if not line.strip(b"\0 \t\r" if wide else None):
                continue
            try:
                row = _parse(line)
                if check is not None:
                    check(row)
                rows.append(row)
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                # A character cut in two at the very end of a line means a torn row; other bad bytes are not UTF-8.
                foreign = getattr(error, "reason", "unexpected end of data") != "unexpected end of data"
                why = ("the line is not UTF-8; save the file as UTF-8" if wide or foreign
                       else "the last row was cut off while being written; save it again" if number == len(lines)
                       else "this is not a complete JSON row; fix or delete the line")
                problems.append(plain(f"{path}:{number}: {why}"))
            except ValueError as error:
                problems.append(plain(f"{path}:{number}: {error}"))
    if strict and problems:
        raise ValueError("\n".join(problems))
    return rows, problems


def _parse(line):
    """One row; msgspec is three times as fast as json, and json gives the reason if the row is not good."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return json.loads(line.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)


def _finite(text):
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _no_number(text):
    raise ValueError(f"{text} is not a JSON number that a computer can hold; replace it or leave the field out")


@contextlib.contextmanager
def many_objects():
    """No garbage collection inside: while rows are only added, it would look through all of them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
