"""One public file, exactly as published: from a folder, from the cache, or from the network.

A `File` is identified by its size and its sha256, so it does not matter where it comes from: either it is the right
file, or one sentence says what is wrong and what to do. A cached file is checked every time it is used.

Left out: resuming a broken download (all files here are below 2 MB and are simply fetched again), progress bars.
"""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import pooch
import requests

from rlhf_lite import files

FOLDER = "RLHF_LITE_HUMAN_DATA"  # environment variable: a folder that has the files under their `path`
TIMEOUT = 30  # seconds without an answer


class File(NamedTuple):
    path: str  # in $RLHF_LITE_HUMAN_DATA and in the cache
    size: int  # bytes
    sha256: str | None
    urls: tuple = ()  # tried one after the other


class Refused(Exception):
    """The reason why an address did not give the file."""


def find(file):
    """The path of the checked file: from $RLHF_LITE_HUMAN_DATA if that is set, else from the cache, else downloaded.

    Every error is one sentence: FileNotFoundError (it is not in the folder), ValueError (it is damaged or a different
    file), ConnectionError (it is not in the cache, and we are offline or no address has it).
    """
    if folder := os.environ.get(FOLDER):
        place = Path(folder).expanduser() / file.path
        if not place.is_file():
            raise FileNotFoundError(f"{place} is missing; put the file there, or unset {FOLDER} to have it downloaded.")
        if wrong := difference(place, file):
            raise ValueError(f"{place} {wrong}; fetch it again, or unset {FOLDER} to have it downloaded.")
        return place
    place = Path(os.environ.get("RLHF_LITE_CACHE", "~/.cache/rlhf_lite")).expanduser() / "human_data" / file.path
    if place.is_file() and not difference(place, file):
        return place
    if any(os.environ.get(name, "").upper() not in ("", "0", "NO", "FALSE", "OFF")
           for name in ("RLHF_LITE_NO_NETWORK", "HF_HUB_OFFLINE")):
        raise ConnectionError(f"{file.path} is not in the cache and offline mode is on (RLHF_LITE_NO_NETWORK or "
                              f"HF_HUB_OFFLINE); connect once, or set {FOLDER} to a folder that has it.")
    failures = []
    for url in file.urls:
        try:
            with files.whole_file(place) as new:
                download(url, file, new)
            return place
        except Refused as error:
            failures.append(str(error))
    raise ConnectionError(f"{file.path} could not be downloaded ({'; '.join(failures) or 'it has no address'}); try "
                          f"again later, or set {FOLDER} to a folder that has it.")


def difference(path, file):
    """How the file at `path` differs from the right one, as part of a sentence; "" if it does not."""
    size = path.stat().st_size
    if size < file.size:
        return f"is incomplete ({size:,} of {file.size:,} bytes)"
    if size > file.size or file.sha256 and pooch.file_hash(path) != file.sha256:
        return "is not the expected file (its size or sha256 differs)"
    return ""


def download(url, file, path):
    """Fetch the file from one address to `path` and check it; raises Refused with a short reason."""
    host = urlparse(url).netloc
    fetch = pooch.HTTPDownloader(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})  # no compression on the way
    try:
        fetch(url, path, None)
    except requests.HTTPError as error:
        raise Refused(f"{host} answered {error.response.status_code}") from None
    except requests.RequestException as error:
        cause = error
        while cause.__context__ is not None:  # three libraries wrap the error that says what happened
            cause = cause.__context__
        if hasattr(cause, "partial"):  # the connection broke
            raise Refused(f"what {host} sent is incomplete ({cause.partial:,} of {file.size:,} bytes)") from None
        raise Refused(f"{host} cannot be reached: {cause}") from None
    if wrong := difference(path, file):
        raise Refused(f"what {host} sent {wrong}")
