"""The report of a run: one HTML file that works offline, the figures as PNG, and a table in Markdown.

`write_report(run_dir)` reads what the other steps wrote (`results.json`, `answers/<stage>.jsonl`,
`<stage>/history.json`). If something is missing, a sentence says so. Figures and their captions come from
`captions`, and the page around them from `templates/report.html`; this file gathers what goes into the page.

Left out: scripts in the page.
"""

import json
import re
from pathlib import Path
from typing import Any, TypedDict, get_origin

from rlhf_lite import files, schemas
from rlhf_lite.experiment import pages
from rlhf_lite.experiment.captions import SECTIONS, ranged
from rlhf_lite.experiment.formats import Source
from rlhf_lite.plots import STAGES, interval, measure
from rlhf_lite.schemas import Count, Name

SAMPLES = 30  # answers shown per use case and stage: the first ones, not selected
TEMPLATE = Path(__file__).parent / "templates" / "report.html"
HEAD = ["#", "claim", "paper", "target", "ours (95 % interval)", "verdict", "note"]
LOOKS = {"✓ met": "met", "✗ not met": "missed"}  # verdict -> CSS class
BADGES = {1: "low", 2: "low", 3: "middle", 4: "middle", 5: "middle", 6: "high", 7: "high"}  # overall grade -> CSS class


def headline_rows(results):
    """Number, claim, paper, target, ours, verdict and note of each headline claim, as plain strings."""
    def verdict(row):
        unjudged = "measured" if interval(row.get("ours")) else "not measured"
        return {True: "✓ met", False: "✗ not met"}.get(row.get("met"), unjudged)
    return [[str(row.get("id", "")), row.get("claim", ""), row.get("paper", ""), row.get("target", ""),
             ranged(row | {"value": row.get("ours")}, row.get("unit", "share"))
             + (f"; n = {row['n']}" if row.get("n") else "")
             + (f"; {row['seeds']} seed{'s' * (row['seeds'] != 1)}" if row.get("seeds") else ""),
             verdict(row), row.get("note") or ""] for row in results.get("headline") or []]


def parts_of(row):
    """The parts of a headline row, as (name, value) strings."""
    def kind(name):
        return "score" if row.get("unit") == "true score" else measure(name.split(", ")[-1])[1]
    def spelled(name):
        for stage in ("ppo_ptx", "ppo", "sft"):
            name = re.sub(rf"\b{stage}\b", STAGES[stage], name)
        return name.replace("_", " ")
    return [(spelled(part["name"]), ranged(part, kind(part["name"]))) for part in row.get("parts") or []]


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
                     for line in lines)


def parts_table(results):
    """What the rows of the headline are made of, as a Markdown table."""
    return table(["#", "part", "value"], [[row.get("id"), *part] for row in results.get("headline") or []
                                          for part in parts_of(row)])


def stages_table(results):
    """Every measure of every stage, as a Markdown table."""
    stages = results.get("stages") or {}
    present = [stage for stage in STAGES if stage in stages]
    names = list(dict.fromkeys(name for stage in present for name in stages[stage]))
    return table(["measure", *map(STAGES.get, present)], [
        [measure(name)[0], *(ranged(stages[s].get(name), measure(name)[1]) for s in present)] for name in names])


def named(results):
    """Whose labelers these are."""
    return f"The domain {results['domain']['name']}" if results.get("domain") else "Simulated town and labelers"


def markdown_table(results):
    """The headline, its parts and the stages as three Markdown tables."""
    return "\n\n".join((f"# {results.get('name', 'Results')}", f"{named(results)}; 95 % intervals.",
                        table(HEAD, headline_rows(results)), parts_table(results), stages_table(results))) + "\n"


def samples(answers):
    """The first answers for each use case, then for each special test set, with the stages side by side.

    {stage: [row]} -> {use case: [(prompt, [one answer per stage of ``answers``, or None])]}
    """
    stages, prompts, found = [stage for stage in STAGES if answers.get(stage)], {}, {}
    for stage in stages:
        for row in answers[stage]:
            usual = row.get("set", "mixed") in ("mixed", "samples")
            group = row.get("use_case") if usual else f"special test set: {row['set']}"
            prompts.setdefault(str(group).replace("_", " "), {}).setdefault(row.get("prompt_id"), row.get("prompt"))
            found[stage, row.get("prompt_id")] = sample(row)
    return {case: [(text, [found.get((stage, key)) for stage in stages]) for key, text in list(rows.items())[:SAMPLES]]
            for case, rows in prompts.items()}


def sample(row):
    """What the page shows of one answer."""
    grade, cut = row.get("overall"), " [cut off]" if row.get("finished") is False else ""
    return {"grade": grade, "look": BADGES.get(grade, "none"), "text": row.get("response"),
            "reasons": "; ".join(map(str, row.get("reasons") or [])) + cut}


def picture(folder, name, figure, reading):
    """Save a figure as PNG; returns what the page needs to show it with its reading."""
    image = pages.png(figure, dpi=160)
    with files.whole_file(folder / f"{name}.png") as new:
        new.write_bytes(image)
    return {"name": name.replace("_", " "), "reading": reading, "image": pages.data_address(image)}


def section(results, build, key, folder):
    """The figures of one section, and the reason if there are none: (figures, why)."""
    try:
        figures = [picture(folder, *entry) for entry in build(results)] if results.get(key) else []
        return figures, "this run did not measure it"
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        return [], f"the results for it are incomplete ({problem!r})"


class ShownPart(TypedDict):
    """A part of a row: its name, and numbers if there are any."""

    name: Name


class Shown(TypedDict, total=False):
    """What the page needs of a row of the headline. Unlike `formats.Claim`, it may lack anything."""

    id: int | str
    claim: str
    paper: str
    target: str
    unit: str
    note: str | None
    met: bool | None
    n: Count | None
    seeds: Count | None
    parts: list[ShownPart] | None


class Sample(TypedDict, total=False):
    """What the page needs of an answer."""

    set: str
    use_case: str
    prompt_id: str
    prompt: str
    response: str
    overall: int | None
    finished: bool
    reasons: list[Any] | None


SHAPES = {"name": str, "domain": Source, "left_out": list[str],
          "headline": list[Shown] | None, "stages": dict[str, dict[str, Any]] | None}


def read_run(run_dir):
    """Everything a run left behind, as one dict, and a sentence for each thing that could not be read."""
    notes, results = [], {}
    def read(path, kind=dict[str, Any], lines=False):
        rows, text = [], path.read_bytes()
        for number, line in enumerate(text.split(b"\n") if lines else [text], 1):
            where = f"{path.parent.name}/{path.name}" + (f", line {number}," if lines else "")
            try:
                if line.strip() or not lines:
                    rows.append(schemas.parse(line, kind, where))
            except ValueError:
                notes.append(f"{where} is damaged and left out; run that step again to fix it.")
        return rows if lines else rows[0] if rows else get_origin(kind)()
    if (run_dir / "results.json").exists():
        results = read(run_dir / "results.json")
        for key, kind in SHAPES.items():
            wrong = key in results and schemas.misfit(results[key], kind)
            if wrong:
                notes.append(f"{run_dir.name}/results.json: {key} is damaged ({wrong}) and left out; run that step "
                             "again to fix it.")
                del results[key]
    else:
        notes.append("There is no results.json yet; run `python -m rlhf_lite evaluate` to make it.")
    results["answers"] = {stage: read(path, Sample, lines=True) for stage in STAGES
                          if (path := run_dir / "answers" / f"{stage}.jsonl").exists()}
    results["histories"] = {stage: read(path, list[dict[str, Any]]) for stage in (*STAGES, "reward")
                            if (path := run_dir / stage / "history.json").exists()}
    results["limits"] = {part.get("name"): part for row in results.get("headline") or [] if row.get("id") == 12
                         for part in row.get("parts") or []}
    results["special"] = any("truthful_informative" in row for row in (results.get("stages") or {}).values())
    results["sweeps"] = bool(results.get("kl_sweep") or results.get("ptx_sweep"))
    return results, notes + results.get("left_out", [])


def write_report(run_dir):
    """Write report.html, results_table.md and figures/ into ``run_dir``; returns the path of the report.

    Sections without data, or with incomplete data, become one sentence. Raises FileNotFoundError when
    the folder does not exist.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"There is no run in {run_dir}; give the folder that `python -m rlhf_lite run` wrote.")
    results, notes = read_run(run_dir)
    folder, answers = run_dir / "figures", results["answers"]
    rows = headline_rows(results)
    verdicts = [row[5] for row in rows]
    facts = ("command", "created", "size", "device", "seeds", "minutes", "peak_memory_gib", "versions")
    page = pages.render(
        TEMPLATE, name=str(results.get("name", run_dir.name)), notes=notes, head=HEAD, looks=LOOKS,
        domain=(results.get("domain") or {}).get("name"),
        headline=list(zip(rows, map(parts_of, results.get("headline") or []), strict=True)),
        met=verdicts.count("✓ met"), judged=sum(verdict.endswith("met") for verdict in verdicts),
        sections={title[0].upper() + title[1:]: section(results, build, key, folder) for title, build, key in SECTIONS},
        stages=[STAGES[stage] for stage in STAGES if answers.get(stage)], samples=samples(answers), shown=SAMPLES,
        facts=json.dumps({key: results[key] for key in facts if key in results}, indent=1, ensure_ascii=False))
    files.write_text(run_dir / "results_table.md", markdown_table(results))
    files.write_text(run_dir / "report.html", page)
    return run_dir / "report.html"
