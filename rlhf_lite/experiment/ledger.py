"""What a run has finished: a step is done when everything it wrote is there, and still is what it wrote.

`done.json` has the sha256 of each file that a step wrote. A file that is missing, damaged, cut, doubled or edited is
noticed when the run is continued, and its step is done again. Files of runs without that record are read and checked
instead.
"""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rlhf_lite import checkpoints, files, schemas
from rlhf_lite.experiment import run_files

DONE = "done.json"
Sum = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
STALE = ""  # in place of a sha256: made from a file that has since become another one
MODEL = (checkpoints.WEIGHTS, checkpoints.CONFIG, checkpoints.CARD, "history.json")


def steps(first_round, answering, gate=True):
    """{step: the files that it writes into the run's folder}, in order. answering: the stages that answer."""
    def model(stage):
        return [f"{stage}/{name}" for name in MODEL]

    def ranked(round):
        return [f"rankings-{round}-{split}.jsonl" for split in ("train", "valid")]

    two_rounds = {"first_reward": [*model("first_reward"), "first_reward.json"], "first_ppo": model("first_ppo"),
                  "rankings 2": ranked(2)} if first_round < 1 else {}
    return {"sft": model("sft"), "rankings 1": ranked(1), **two_rounds, "reward": [*model("reward"), "reward.json"],
            **({"gate": ["gate.json"]} if gate else {}), "ppo": model("ppo"), "ppo_ptx": model("ppo_ptx"),
            **{f"answers {stage}": [f"answers/{stage}.jsonl", f"measured/{stage}.json"] for stage in answering}}


def sums(folder):
    """{file: sha256} of what the steps of a run wrote; empty for a run without that record."""
    return schemas.read(Path(folder) / DONE, dict[str, Sum], {}, run_files.AGAIN)


def begin(folder, recipe):
    """Write recipe.json (a dict) into a run's folder, unless the run had another one that somebody deleted."""
    path = Path(folder) / "recipe.json"
    kept = sums(folder).get(path.name)
    files.write_json(path, recipe)
    if kept not in (None, checkpoints.sha256(path)):
        path.unlink()
        raise ValueError(f"{folder} contains a run with other settings; use the command that started it, "
                         "choose another NAME, or delete that folder.")
    record(folder, [path.name])


def unfinished(folder, outputs):
    """Why a step has to be done (again), as a phrase, or None: the first of its files that is not as it left it."""
    folder, kept = Path(folder), sums(folder)
    for name in outputs:
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if kept.get(name) == STALE:
            return f"{path} was made from files that have changed since"
        if name in kept and checkpoints.sha256(path) != kept[name]:
            return f"{path} is not what this step wrote"
        try:
            if name not in kept:
                run_files.check_output(path)
        except (ValueError, OSError) as error:
            return str(error).splitlines()[0].rstrip(".")
    return None


def record(folder, outputs):
    """Note that a step is done. Returns whether one of its files had been recorded before and is another one now.

    A base model lies outside the run's folder, for all runs of its size, and is not recorded.
    """
    folder, kept = Path(folder), sums(folder)
    found = {name: checkpoints.sha256(folder / name) for name in outputs if not Path(name).is_absolute()}
    if found.items() - kept.items():
        files.write_json(folder / DONE, kept | found)
    return any(kept.get(name, new) not in (new, STALE) for name, new in found.items()
               if name.endswith((".safetensors", ".jsonl")))  # the others hold times, too


def adopt(folder, outputs):
    """Record the files of a step that an earlier version of this program has done, without a record."""
    if not set(outputs) <= sums(folder).keys():
        record(folder, outputs)


def mark_stale(folder, outputs):
    """Let the steps with these outputs be done again; their files stay until then."""
    kept = sums(folder)
    files.write_json(Path(folder) / DONE, kept | {name: STALE for name in outputs if (Path(folder) / name).is_file()})


def set_aside(folder, outputs):
    """Keep rows that a step did not write, perhaps a person's, under another name, before the step is done again."""
    kept = sums(folder)
    for name in outputs:
        path = Path(folder) / name
        if path.suffix == ".jsonl" and path.is_file() and kept.get(name) not in (None, STALE, checkpoints.sha256(path)):
            path.replace(path.with_name(path.name + ".old"))
