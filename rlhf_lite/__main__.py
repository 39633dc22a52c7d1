"""The command line: the pipeline as one command, or step by step.

    python -m rlhf_lite start my_work          a copy of the notebooks to work in
    python -m rlhf_lite doctor                 what this machine can do, and whether the shipped models are whole
    python -m rlhf_lite run --name first       everything, from demonstrations to the report
    python -m rlhf_lite train ppo --name first one stage of that run (and the stages it needs)
    python -m rlhf_lite hand-in "Ada Lovelace" my_work    a student's work as one file
    python -m rlhf_lite grade submissions      everybody's exercises, judged
"""

import argparse
import json
import os
import sys
from pathlib import Path

FOLDERS = "results go to runs/NAME; an interrupted run resumes where it stopped"


def _seed(text):
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid seed; use a whole number from 0 to {2**32 - 1}")
    return int(text)


def _folder_name(text):
    if not text or text in (".", "..") or Path(text).name != text or len(text.encode()) > 200:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a valid name for a folder under runs/; use letters, "
                                         "digits and dashes, without a slash")
    return text


def parser():
    """The argument parser. It imports nothing from the library, so that --help answers at once."""
    top = argparse.ArgumentParser(
        prog="python -m rlhf_lite", description="InstructGPT at one-thousandth scale: demonstrations, fine-tuning, "
        "rankings, a reward model and PPO on a small simulated town.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, text, dials=True):
        command = commands.add_parser(name, help=text, description=text)
        if dials:
            command.add_argument("--size", default="1.3m",
                                 help="size of the policy: 1.3m (default), 6m or, with a GPU, 175m")
            command.add_argument("--seed", type=_seed, default=0,
                                 help="random seed; on a CPU, the same seed gives the same numbers")
            command.add_argument("--device", default="auto",
                                 help="auto (default: a GPU if there is one), cpu, cuda or mps")
            command.add_argument("--name", type=_folder_name,
                                 help="folder under runs/ (default: made from size and seed)")
            command.add_argument("--fast", action="store_true", help="a small version that takes about two minutes")
        return command

    start = add("start", "copy the notebooks into a folder of your own; files already there are kept", dials=False)
    start.add_argument("folder", nargs="?", default="my_work", help="your folder (default: my_work)")
    hand_in = add("hand-in", "pack your notebooks, rankings and demonstrations into one file for your instructor",
                  dials=False)
    hand_in.add_argument("name", help="your name, as your instructor knows it")
    hand_in.add_argument("folder", nargs="?", default="my_work", help="folder with your notebooks (default: my_work)")
    hand_in.add_argument("--out", help="the file to write (default: hand-in-NAME.zip)")
    grade = add("grade", "judge the exercises of everything that was handed in; docs/grading.md says how", dials=False)
    grade.add_argument("folder", help="folder with everybody's files, as students or the learning platform named them")
    grade.add_argument("--out", default="grades.csv", help="the table to write (default: grades.csv); tables for "
                       "Moodle and Canvas and a page, grades.html, are written beside it")
    grade.add_argument("--notebooks", nargs="+", type=int, metavar="N", help="only these notebooks (default: all that "
                       "were handed in)")
    grade.add_argument("--seconds", type=float, default=30, help="the longest an exercise may take (default: 30)")
    grade.add_argument("--memory", type=int, default=1500, help="the most memory, in MB (default: 1500)")
    grade.add_argument("--jobs", type=int, help="notebooks at a time (default: one per core, at most 4)")
    add("doctor", "check the machine, the packages and the shipped models", dials=False)
    add("run", f"run the whole pipeline and write its report; {FOLDERS}")
    train = add("train", f"train one stage, after any stages it needs; {FOLDERS}")
    train.add_argument("stage", choices=("sft", "reward", "ppo", "ppo_ptx"), help="the last stage to train")
    add("evaluate", "sample answers from all stages of a run, and write its results and its report")
    pretrain = add("pretrain", "pretrain a base model on the town's web text (6m takes hours on a CPU)")
    pretrain.add_argument("--tokens", type=int, help="tokens of web text (default: 20000000 for 1.3m, 10000000 for "
                          "6m, 100000000 for 175m)")
    pretrain.add_argument("--out", help="where to write the model (default: runs/NAME, or runs/base-SIZE, where "
                          "`run` looks for it)")
    pretrain.add_argument("--compile", action="store_true",
                          help="use torch.compile: a one-minute wait, then faster steps")
    study = add("study", "run one of the studies behind the results table; needs a finished run")
    study.add_argument("what", choices=("kl_sweep", "ptx_sweep", "sft_arms", "pairs", "overoptimisation", "one_round"),
                       help="which study")
    add("calibrate", "set the simulated labelers' noise, using answers of a run's SFT policy (data/town/labelers.json)")
    record = add("record", "save a base model's answers to the test prompts, for machines too small to run it",
                 dials=False)
    record.add_argument("run", help="folder of a finished run, for example runs/175m-seed0")
    gpu = add("gpu", "measure on a GPU, in one call, everything that this project could not measure without one",
              dials=False)
    gpu.add_argument("--minutes", type=float, default=8, help="for all measurements together (default: 8)")
    gpu.add_argument("--out", default="runs/gpu", help="folder for what is found (default: runs/gpu)")
    gpu.add_argument("--toy", action="store_true", help="everything at toy size, on the CPU if there is no GPU")
    gpu.add_argument("--device", default="auto", help="auto (default), cuda, cuda:N; with --toy also cpu")
    gpu.add_argument("--only", nargs="+", default=(), metavar="NAME",
                     help="only these measurements, even if they are done; by default all that are not done yet")
    add("ship", "copy a finished run's models to data/models, in the form the repository ships them")
    rank = add("rank", "work with rankings made by people", dials=False)
    text = "merge the rankings of a class into one file and show how far every two people agree"
    merge = rank.add_subparsers(dest="what", required=True, metavar="WHAT").add_parser(
        "merge", help=text, description=text)
    merge.add_argument("files", nargs="+", metavar="FILES", help="annotators' files, e.g. runs/feedback/*.jsonl")
    merge.add_argument("--out", required=True, help="the file to write; an earlier one is replaced")
    export = add("export", "export a run or a model to TRL, OpenRLHF or verl: models, data and a launch script",
                 dials=False)
    export.add_argument("--to", required=True, choices=("trl", "openrlhf", "verl"), help="the engine that trains it")
    export.add_argument("source", help="a run's folder, or a single model: a folder or a hub id")
    export.add_argument("out", help="a new folder")
    results = commands.add_parser("results", help="combine several runs (seeds) into one headline table")
    results.add_argument("runs", nargs="+", help="folders of finished runs, one per seed")
    results.add_argument("--page", help="a Markdown file whose results table is updated (default: docs/results.md if "
                         "--out is data/results, else none)")
    results.add_argument("--out", default="data/results", help="where to write headline.json (default: data/results)")
    return top


def doctor():
    """Print what this machine can do; returns 0 if everything needed is there."""
    from rlhf_lite.experiment import machine
    well = True
    for line, whole in machine.examine():
        print(line)
        well = well and whole
    return int(not well)


def main(argv=None):
    """Run a command; returns the exit status. An error is reported in one sentence."""
    arguments = parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command](arguments) or 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to resume from here.", file=sys.stderr)
        return 130


def _recipe(arguments):
    from rlhf_lite import checkpoints, models
    from rlhf_lite.experiment import base_model
    from rlhf_lite.experiment.recipe import default_recipe
    if arguments.size not in models.SIZES:
        raise ValueError(f"There is no model size {arguments.size!r}; choose one of {', '.join(models.SIZES)}.")
    made = (base_model.base_folder(arguments.size) / checkpoints.CARD).is_file()
    if not made and arguments.size in base_model.NEEDS_GPU and models.pick_device(arguments.device).type == "cpu":
        raise ValueError(f"No base model of size {arguments.size} is shipped, and pretraining one takes a GPU; run "
                         "this on a machine with a GPU and --device cuda, or choose a smaller size.")
    return default_recipe(arguments.size, arguments.seed, arguments.fast)


def _name(arguments):
    return arguments.name or f"{arguments.size}-seed{arguments.seed}{'-fast' if arguments.fast else ''}"


def _run(arguments, until=None):
    from rlhf_lite.experiment import run
    folder = run.run_pipeline(_recipe(arguments), _name(arguments), arguments.device, until=until)
    if until is None:
        print((folder / "results_table.md").read_text(encoding="utf-8"))
        print(f"The report is {folder / 'report.html'}")
    else:
        print(f"Done: {folder / until}")


def _pretrain(arguments):
    from rlhf_lite import models
    from rlhf_lite.experiment import base_model, run
    out = Path(arguments.out or run.RUNS / (
        arguments.name or f"base-{arguments.size}" + (f"-seed{arguments.seed}" if arguments.seed else "")))
    device = models.pick_device(arguments.device)
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
    from rlhf_lite.experiment import run
    from rlhf_lite.experiment.answers import calibrate_labelers
    opened = run.Run(_recipe(arguments), _name(arguments), arguments.device, new=False)
    for team, measured in calibrate_labelers(opened.policy("sft"), opened.tokenizer, opened.recipe).items():
        print(f"{team} team: {measured.percent:.1f} +- {measured.plus_minus:.1f} % of {measured.n} comparisons agree")


def _ship(arguments):
    from rlhf_lite.experiment import run
    print(f"Shipped to {run.ship(run.Run(_recipe(arguments), _name(arguments), arguments.device, new=False))}")


def _start(arguments):
    from rlhf_lite.exercises.start import start
    copied, kept = start(arguments.folder)
    left = f", {len(kept)} left as they were" if kept else ""
    print(f"{arguments.folder}: {len(copied)} notebooks copied{left}.")


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
    from rlhf_lite.widgets import merge
    return merge.command(arguments)


def _export(arguments):
    from rlhf_lite.real import export
    for split, counts in export.export(arguments.source, arguments.out, arguments.to).items():
        print(f"{split}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    print(f"Done: {arguments.out}; read launch.sh there before you run it.")


def _results(arguments):
    from rlhf_lite.experiment import results
    ours = "docs/results.md" if arguments.out == "data/results" and os.path.isfile("docs/results.md") else None
    print(results.write_headline(arguments.runs, arguments.out, arguments.page or ours))


def _record(arguments):
    from rlhf_lite.experiment import results
    print(f"Done: {results.record_answers(arguments.run)}")


def _gpu(arguments):
    from rlhf_lite.experiment import gpu
    from rlhf_lite.real import memory
    made = gpu.measure_gpu(arguments.device, arguments.minutes, arguments.out, memory.all_sizes(), arguments.toy,
                           arguments.only)
    print(f"Done: {Path(arguments.out) / 'gpu.json'}")
    return int(any(entry["status"] == "failed" for entry in made["measurements"].values()))


COMMANDS = {"start": _start, "hand-in": _hand_in, "grade": _grade, "rank": _rank,
            "doctor": lambda arguments: doctor(), "run": _run, "evaluate": _run, "pretrain": _pretrain,
            "study": _study, "calibrate": _calibrate, "ship": _ship, "export": _export,
            "record": _record, "gpu": _gpu, "results": _results,
            "train": lambda arguments: _run(arguments, until=arguments.stage)}


if __name__ == "__main__":
    sys.exit(main())
