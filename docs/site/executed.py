"""The solved notebooks with all that they print and draw: executed once, then kept until something they read changes.

Every notebook runs in a kernel and an empty folder of its own, without the network. The copy is kept under a name made
from the notebook, the library, the shipped data, torch's version and the mode, so a second build runs what changed.
"""

import asyncio
import datetime
import hashlib
import os
import re
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from still import DPI

ALWAYS_FAST = {"09": "it downloads a model and takes 49 minutes and 10 GiB at full length"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message holds the cell and the error."""


def run_all(notebooks, cache, ground, fast, workers=1):
    """Execute {name: text of a notebook}; returns {name: executed notebook}. Raises NotebookFailed.

    ground: a hash of everything that the notebooks read (`fingerprint`). workers: how many run at the same time.
    """
    async def everything():
        free = asyncio.Semaphore(workers)
        tasks = [_kept(name, text, Path(cache), ground, fast or name[:2] in ALWAYS_FAST, free)
                 for name, text in notebooks.items()]
        return dict(zip(notebooks, await asyncio.gather(*tasks), strict=True))
    return asyncio.run(everything())


def fingerprint(*folders):
    """A hash of all files in the folders (prose and caches aside), and of torch's version."""
    digest = hashlib.sha256(version("torch").encode())
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*")):
        if path.is_file() and path.suffix not in (".md", ".pyc"):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


async def _kept(name, text, cache, ground, fast, free):
    key = hashlib.sha256(f"{ground} {fast} {DPI}\n{text}".encode()).hexdigest()[:16]
    kept = cache / f"{name}-{'fast' if fast else 'full'}-{key}.ipynb"
    if not kept.exists():
        async with free:
            started = time.perf_counter()
            notebook = await _execute(name, nbformat.reads(text, as_version=4), fast)
            minutes = (time.perf_counter() - started) / 60
        notebook.metadata["executed"] = {"date": datetime.date.today().isoformat(), "fast": fast}
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{name}-{'fast' if fast else 'full'}-*.ipynb"):
            old.unlink()
        new = kept.with_suffix(".new")
        nbformat.write(notebook, new)
        new.replace(kept)
        print(f"{name}: executed {'in its fast version' if fast else 'in full'}, {minutes:.1f} minutes", flush=True)
    return nbformat.read(kept, as_version=4)


async def _execute(name, notebook, fast):
    environment = os.environ | {"RLHF_LITE_FAST": str(int(fast)), "RLHF_LITE_PROGRESS": "my_progress.json",
                                "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"}
    environment.pop("MPLBACKEND", None)  # the kernel's own draws into the notebook
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "matplotlibrc").write_text(f"figure.dpi: {DPI}\n", encoding="utf-8")
        client = NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True,
                                extra_arguments=["--log-level=ERROR"],
                                resources={"metadata": {"path": folder}})
        try:
            return await client.async_execute(env=environment)
        except CellExecutionError as error:
            number, cell = next((i, cell) for i, cell in enumerate(notebook.cells, 1) if any(
                output.output_type == "error" for output in cell.get("outputs", [])))
            raise NotebookFailed(f"{name}, cell {number}: {error.ename}: {error.evalue}\n\n{cell.source}\n\n"
                                 f"{ANSI.sub('', error.traceback)}") from None
        except DeadKernelError:
            raise NotebookFailed(f"{name}: the kernel died; is there enough memory?") from None
