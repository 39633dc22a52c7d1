"""The command line: the pipeline as one command, or step by step.

    python -m rlhf_lite start my_work          a copy of the notebooks to work in
    python -m rlhf_lite doctor                 what this machine can do, and whether the shipped models are whole
    python -m rlhf_lite run --name first       everything, from demonstrations to the report
    python -m rlhf_lite train ppo --name first one stage of that run (and the stages it needs)
    python -m rlhf_lite hand-in "Ada Lovelace" my_work    a student's work as one file
    python -m rlhf_lite grade submissions      everybody's exercises, judged
    python -m rlhf_lite class demo trial       a class round with thirty simulated people
"""

import glob
import json
import sys
from dataclasses import replace
from pathlib import Path

from rlhf_lite.commands import parser


def doctor():
    """Print what this machine can do; returns 0 if everything needed is there."""
    from rlhf_lite.experiment import doctor
    return doctor.doctor()


def _licences(arguments):
    from rlhf_lite.experiment import machine
    for name, (version, licence) in machine.licences().items():
        print(f"{name:32} {version:16} {licence}")


def _complain(error):
    from rlhf_lite.plain import plain
    print("error: " + "\n".join(map(plain, str(error).split("\n"))), file=sys.stderr)  # several rows, or one


def main(argv=None):
    """Run a command; returns the exit status. An error is reported in one sentence."""
    from rlhf_lite import files
    arguments = parser().parse_args(argv)
    files.utf8_output()
    try:
        if arguments.command not in ("align", "export", "hand-in", "import", "rank"):
            files.need_course()
        for name in ("files", "runs"):
            if hasattr(arguments, name):
                setattr(arguments, name, _expanded(getattr(arguments, name)))
        return COMMANDS[arguments.command](arguments) or 0
    except ModuleNotFoundError as error:
        _complain(f"This Python has no module {error.name}, the course's own has it; start the command with: "
                  f"python setup_course.py {arguments.command}")
        return 1
    except MemoryError as error:
        _complain(str(error) or "there is not enough memory; close other programs or choose a smaller --size.")
        return 1
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to resume from here.", file=sys.stderr)
        return 130


def _check_size(arguments):
    from rlhf_lite import models
    if arguments.size not in models.SIZES:
        raise ValueError(f"There is no model size {arguments.size!r}; choose one of {', '.join(models.SIZES)}.")


def _expanded(paths):
    """runs/1.3m-seed* as all that it stands for: on Windows, no shell does that."""
    return [found for path in paths for found in (sorted(glob.glob(path)) if "*" in path else [path]) or [path]]


def _recipe(arguments):
    from rlhf_lite import checkpoints, models
    from rlhf_lite.experiment import base_model
    from rlhf_lite.experiment.recipe import default_recipe
    _check_size(arguments)
    made = (base_model.base_folder(arguments.size) / checkpoints.CARD).is_file()
    if not made and arguments.size in base_model.NEEDS_GPU and models.pick_device(arguments.device).type == "cpu":
        raise ValueError(f"No base model of size {arguments.size} is shipped, and pretraining one takes a GPU; run "
                         "this on a machine with a GPU and --device cuda, or choose a smaller size.")
    return default_recipe(arguments.size, arguments.seed, arguments.fast)


def _name(arguments):
    return arguments.name or f"{arguments.size}-seed{arguments.seed}{'-fast' if arguments.fast else ''}"


def _run(arguments, until=None):
    from rlhf_lite.experiment import domain, pebbleford, run
    recipe, world, name = _recipe(arguments), pebbleford.TOWN, _name(arguments)
    if arguments.domain:
        world = domain.load(arguments.domain)
        recipe, name = replace(recipe, reward_size=recipe.size), arguments.name or f"{world.name}-{name}"
    folder = run.run_pipeline(recipe, name, arguments.device, until=until, world=world)
    if until is None:
        print((folder / "results_table.md").read_text(encoding="utf-8"))
        print(f"The report is {folder / 'report.html'}")
    else:
        print(f"Done: {folder / until}")


def _pretrain(arguments):
    from rlhf_lite import models
    from rlhf_lite.experiment import base_model, run, shipped
    _check_size(arguments)
    out = Path(arguments.out or run.RUNS / (
        arguments.name or f"base-{arguments.size}" + (f"-seed{arguments.seed}" if arguments.seed else "")))
    shipped.check_replace([out], arguments.force)
    device = models.pick_device(arguments.device)
    if arguments.text:
        from rlhf_lite.experiment.text_base import make_text_base
        card = make_text_base(arguments.text, out, arguments.size, arguments.tokens or 1_000_000, arguments.seed,
                              device)
        return print(json.dumps(card, indent=1))
    _, _, card = base_model.make_base(arguments.size, arguments.tokens, arguments.seed, device, folder=out,
                                      state=out.parent / f".{out.name}-state", compile=arguments.compile,
                                      bf16=device.type == "cuda")
    print(json.dumps(card, indent=1))


def _study(arguments):
    from rlhf_lite.experiment import run, studies
    opened = run.Run(_recipe(arguments), _name(arguments), arguments.device, new=False)
    path = studies.run_study(opened, arguments.what)
    print(f"Done: {path}")


def _calibrate(arguments):
    from rlhf_lite.experiment import run, shipped
    from rlhf_lite.experiment.answers import calibrate_labelers
    from rlhf_lite.town.labelers import NOISE_FILE
    opened = run.Run(_recipe(arguments), _name(arguments), arguments.device, new=False)
    out = Path(arguments.out or NOISE_FILE)
    shipped.check_replace([out], arguments.force, [opened.folder], ["1.3m"])
    found = calibrate_labelers(opened.policy("sft"), opened.tokenizer, opened.recipe, noise_file=out)
    _refresh_manifest(out)
    for team, measured in found.items():
        print(f"{team} team: {measured.percent:.1f} +- {measured.plus_minus:.1f} % of {measured.n} comparisons agree")


def _ship(arguments):
    from rlhf_lite.experiment import run
    opened = run.Run(_recipe(arguments), _name(arguments), arguments.device, new=False)
    out = run.ship(opened, arguments.out, arguments.force)
    _refresh_manifest(out)
    print(f"Shipped to {out}")


def _manifest(arguments):
    from rlhf_lite.experiment import shipped
    print(f"Done: {shipped.write_manifest()}")


def _refresh_manifest(out):
    from rlhf_lite.experiment import shipped
    if shipped.is_ours(out):
        shipped.write_manifest()


def _start(arguments):
    from rlhf_lite.exercises.start import start
    copied, kept = start(arguments.folder)
    left = f", {len(kept)} left as they were" if kept else ""
    print(f"{arguments.folder}: {len(copied)} notebooks copied{left}.")


def _align(arguments):
    from rlhf_lite.real import align
    from rlhf_lite.widgets import labels
    paths = sorted((Path(arguments.out) / "feedback").glob("*.jsonl")) if arguments.round > 1 else []
    align.command(arguments, [row for path in paths for row in labels.rankings(path)[0]])


def _hand_in(arguments):
    from rlhf_lite.workshop import hand_in
    path, receipt, lines = hand_in.hand_in(arguments.name, arguments.folder, arguments.out)
    print(*(f"   {line}" for line in lines), sep="\n")
    print(f"Hand in {path}. Your receipt, to keep: {receipt}")


def _grade(arguments):
    from rlhf_lite.workshop import grades, grading
    allowed = grading.Limits(arguments.seconds, 5 * arguments.seconds, arguments.memory)
    graded = grades.grade(arguments.folder, arguments.notebooks, allowed, arguments.jobs)
    print(f"Done: {', '.join(str(path) for path in grades.write(graded, arguments.out))}")


def _rank(arguments):
    from rlhf_lite.widgets import merge, serve
    return merge.command(arguments) if arguments.what == "merge" else serve.command(arguments)


def _class(arguments):
    from rlhf_lite.workshop import class_round
    return class_round.command(arguments)


def _export(arguments):
    from rlhf_lite.real import export
    for split, counts in export.export(arguments.source, arguments.out, arguments.to).items():
        print(f"{split}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    print(f"Done: {arguments.out}; read launch.sh there before you run it.")


def _import(arguments):
    from rlhf_lite.real import importing
    importing.command(arguments.file, arguments.out, arguments.better, arguments.first)


def _results(arguments):
    from rlhf_lite import files
    from rlhf_lite.experiment import results
    shipped_results = files.DATA / "results"
    out = Path(arguments.out or shipped_results)
    page = files.DATA.parent / "docs" / "results.md"
    ours = page if out.resolve() == shipped_results.resolve() and page.is_file() else None
    text = results.write_headline(arguments.runs, out, arguments.page or ours, arguments.force)
    _refresh_manifest(out)
    print(text)


def _record(arguments):
    from rlhf_lite.experiment import results
    out = results.record_answers(arguments.run, arguments.out, arguments.force)
    _refresh_manifest(out)
    print(f"Done: {out}")


def _gpu(arguments):
    from rlhf_lite.experiment import gpu
    from rlhf_lite.real import memory
    made = gpu.measure_gpu(arguments.device, arguments.minutes, arguments.out, memory.all_sizes(), arguments.toy,
                           arguments.only)
    print(f"Done: {Path(arguments.out) / 'gpu.json'}")
    return int(any(entry["status"] == "failed" for entry in made["measurements"].values()))


def _bench(arguments):
    from rlhf_lite import files
    sys.path.insert(0, str(files.DATA.parent))  # benchmarks/ lies beside the library
    from benchmarks import bench
    status = bench.command(arguments)
    if arguments.ship:
        _refresh_manifest(bench.SHIPPED)
    return status


COMMANDS = {"start": _start, "hand-in": _hand_in, "grade": _grade, "rank": _rank, "class": _class,
            "align": _align,
            "doctor": lambda arguments: doctor(), "licences": _licences, "run": _run, "evaluate": _run,
            "pretrain": _pretrain, "study": _study, "calibrate": _calibrate, "ship": _ship, "export": _export,
            "import": _import, "record": _record, "manifest": _manifest, "gpu": _gpu, "bench": _bench,
            "results": _results,
            "train": lambda arguments: _run(arguments, until=arguments.stage)}


if __name__ == "__main__":
    sys.exit(main())
