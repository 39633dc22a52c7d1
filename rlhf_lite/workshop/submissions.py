"""What was handed in: files from people nobody has to trust, read with care and never unpacked to the disk.

The idea: of every zip file only the notebooks are read, straight into memory and up to a limit, so a name with ".."
leads nowhere and a small file that unpacks to a terabyte stops after a few megabytes. Names come from the learning
platform where it wrote them into the file's or folder's name; the name inside a hand-in is what the student says.
"""

import hashlib
import json
import re
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_lite.plain import plain
from rlhf_lite.workshop import cells

MANIFEST = "hand-in.json"
LARGEST, LARGEST_TOGETHER, MOST_MEMBERS = 20 * 2**20, 100 * 2**20, 5000  # bytes, bytes, files in a zip
NOTEBOOK = re.compile(r"(?:^|[^0-9])(\d\d)([a-z]?)_[A-Za-z0-9_]+[^/\\]*\.ipynb$")
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<id>\d+)_assignsubmission_file")
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)$")


@dataclass
class Submission:
    """One student's work: {number of a notebook: its text}, and what is to be said about it.

    A notebook in two parts (05a, 05b) is one notebook here: the second part's cells follow the first's.
    """

    student: str
    file: str
    notebooks: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)  # {number: {"a": text, "b": text}}; "" for a notebook in one part
    notes: list = field(default_factory=list)
    platform: str = ""  # "moodle" or "canvas", if the file's name is one of theirs
    number: str = ""  # the student's number there
    receipt: str = ""


def collect(folder):
    """All submissions under a folder, in order of their names: zip files, and folders or files of notebooks."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give the one with everybody's hand-ins.")
    found, loose = [], {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or {".ipynb_checkpoints", "__MACOSX"} & {*inside.parts}:
            continue
        if path.suffix.lower() == ".zip":
            found.append(_zipped(path, inside))
        elif NOTEBOOK.search(path.name):
            loose.setdefault(_owner(inside, folder), []).append(path)
    found += [_folder(owner, paths, folder) for owner, paths in loose.items()]
    if not found:
        raise ValueError(f"{folder}: there is no hand-in here; expected are zip files made by `hand-in`, or notebooks.")
    return _told_apart(sorted(found, key=lambda one: (one.student.casefold(), one.file)))


def _owner(inside, folder):
    """What belongs together: a folder of notebooks, or the files to which Canvas gave the same beginning."""
    if len(inside.parts) > 1:
        return inside.parts[0]
    canvas = CANVAS.match(inside.name)
    return f"{canvas['name']}_{canvas['id']}_" if canvas else folder.resolve().name


def _named(name, **content):
    """A submission whose student is read from the name of a file or folder."""
    made = Submission(plain(name, 80), **content)
    for platform, pattern in (("moodle", MOODLE), ("canvas", CANVAS)):
        match = pattern.match(name)
        if match:
            made.platform, made.number, made.student = platform, match["id"], plain(match["name"], 80)
            break
    return made


def _folder(owner, paths, folder):
    made = _named(owner + ("0_file" if owner.endswith("_") else ""), file=plain(owner, 120))
    for path in paths:
        try:
            with path.open("rb") as opened:
                canvas = CANVAS.match(path.name)  # its numbers come before the file's own name
                _add(made, canvas["file"] if canvas else path.name, opened.read(LARGEST + 1))
        except OSError as error:
            made.notes.append(f"{plain(path.name, 80)} cannot be read ({type(error).__name__})")
    return made


def _zipped(path, inside):
    made = _named(inside.parts[0] if MOODLE.match(inside.parts[0]) else path.stem, file=plain(inside.as_posix(), 160))
    try:
        with zipfile.ZipFile(path) as opened:
            members = opened.infolist()
            if len(members) > MOST_MEMBERS:
                raise zipfile.BadZipFile(f"{len(members):,} files")
            contents = _members(opened, members, made)
    except Exception as error:  # zipfile has many; none may stop the grading of the others
        made.notes.append(f"the zip file cannot be read ({plain(error, 100) or type(error).__name__})")
        return made
    for name, content in contents.items():
        _add(made, name, content)
    if MANIFEST in contents:
        _compare(made, contents)
    return made


def _members(opened, members, made):
    """{name: content} of the notebooks and the manifest; what is too large or odd is left out, with a note."""
    found, together = {}, 0
    for member in members:
        name = member.filename
        wanted = name == MANIFEST or NOTEBOOK.search(name)
        if not wanted or name.startswith("__MACOSX") or ".ipynb_checkpoints" in name:
            continue
        if ".." in Path(name).parts or name.startswith(("/", "\\")) or ":" in name or "\\" in name:
            made.notes.append(f"{plain(name, 80)} is left out: its name leads out of the folder")
        elif stat.S_ISLNK(member.external_attr >> 16):
            made.notes.append(f"{plain(name, 80)} is left out: it is a link")
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            made.notes.append(f"{plain(name, 80)} is left out: it is packed in an unusual way")
        else:
            with opened.open(member) as stream:
                content = stream.read(min(LARGEST, LARGEST_TOGETHER - together) + 1)
            together += len(content)
            if len(content) > LARGEST or together > LARGEST_TOGETHER:
                made.notes.append(f"{plain(name, 80)} is left out: it is larger than a notebook should be")
                if together > LARGEST_TOGETHER:
                    break
            else:
                found.setdefault(name, content)
    return found


def _add(made, name, content):
    """Take a notebook in; of two with one number, the first."""
    match = NOTEBOOK.search(name)
    if not match:
        return
    if len(content) > LARGEST:
        made.notes.append(f"{plain(name, 80)} is left out: it is larger than a notebook should be")
    elif match[2] in made.parts.setdefault(match[1], {}):
        made.notes.append(f"there are two notebooks {match[1]}{match[2]}; {plain(name, 80)} is left out")
    else:
        parts = made.parts[match[1]]
        parts[match[2]] = content.decode("utf-8", errors="replace")
        made.notebooks[match[1]] = cells.joined([parts[part] for part in sorted(parts)])


def receipt(manifest):
    """The receipt of a hand-in, from the bytes of its manifest: three groups of four signs."""
    digest = hashlib.sha256(manifest).hexdigest()[:12].upper()
    return "-".join(digest[start:start + 4] for start in (0, 4, 8))


def _compare(made, contents):
    """Hold the files against the manifest. It proves nothing about the student; it shows what changed on the way."""
    made.receipt = receipt(contents[MANIFEST])
    try:
        manifest = json.loads(contents[MANIFEST])
        said, sums = plain(manifest["name"], 80), {name: one["sha256"] for name, one in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        made.notes.append(f"its {MANIFEST} is damaged")
        return
    if not made.platform:
        made.student = said or made.student
    elif said.casefold() != made.student.casefold():
        made.notes.append(f"handed in as {said!r}")
    for name, content in contents.items():
        if name != MANIFEST and sums.get(name) != hashlib.sha256(content).hexdigest():
            made.notes.append(f"{plain(name, 80)} is not the file that was handed in")


def _told_apart(found):
    """Two hand-ins under one name keep apart, and say so."""
    names = [one.student.casefold() for one in found]
    for one in found:
        if names.count(one.student.casefold()) > 1:
            one.notes.append(f"another hand-in has the name {one.student!r}, too")
    return found
