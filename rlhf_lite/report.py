"""The report of a run: one HTML file that works offline, the figures as PNG, and a table in Markdown.

`write_report(run_dir)` reads what the other steps left behind (`results.json`, `answers/<stage>.jsonl`,
`<stage>/history.json`). What is not there is left out with a sentence. Figures and the sentences under them come
from `readings`; here is the page around them: the headline table, the samples, and how to reproduce it all.

Left out: scripts in the page, and templates (the page is put together by the functions below, top to bottom).
"""

import base64
import io
import json
import re
from html import escape
from pathlib import Path

from .plots import STAGES, interval, measure
from .readings import SECTIONS, ranged

SAMPLES = 30  # answers shown per use case and stage: the first ones, none selected
CSS = """
:root { color-scheme: light dark; --ink: #1d2327; --soft: #5b646b; --line: #d9dee2; --paper: #fff; --wash: #f5f7f8;
  --link: #0060a0; --met: #00795a; --missed: #b34700 } @media (prefers-color-scheme: dark) { :root { --ink: #e6e9eb;
  --soft: #a5aeb5; --line: #3a4248; --paper: #15191c; --wash: #1e2429; --link: #7cc0f0; --met: #4fd0a5;
  --missed: #ff9a5c } }
body { margin: 0 auto; max-width: 900px; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif } h2 { margin-top: 2.4rem; border-top: 1px solid var(--line) }
a { color: var(--link) } nav { columns: 2 } nav a { display: block } figcaption, small { color: var(--soft) }
figure { margin: 1.2rem 0; break-inside: avoid } img { width: 100%; background: #fff; border-radius: 6px }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
.headline tr:has(+ .parts) > td { border-bottom: 0 } .parts td { padding-top: 0 } .parts b { font-weight: 600 }
.headline { min-width: 860px } .samples { min-width: 1100px; table-layout: fixed }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left;
  vertical-align: top } .text, pre { white-space: pre-wrap; overflow-wrap: anywhere }
th, pre { background: var(--wash) }
.met { color: var(--met) } .missed { color: var(--missed) } b { white-space: nowrap } summary { cursor: pointer }
.badge { padding: 0 .5em; border-radius: 4px; print-color-adjust: exact } .low { background: #b34700; color: #fff }
.middle { background: #f0c75e; color: #222 } .high { background: #00694f; color: #fff }
.none { background: #ccc; color: #222 }
@media print { body { max-width: none } nav { display: none } tr { break-inside: avoid } .samples { min-width: 0 } }
"""


HEAD = ["#", "claim", "paper", "target", "ours (95 % interval)", "verdict", "note"]


def headline_rows(results):
    """Number, claim, paper, target, ours, verdict of each headline claim, as plain strings."""
    verdict = lambda row: {True: "✓ met", False: "✗ not met"}.get(
        row.get("met"), "measured" if interval(row.get("ours")) else "not measured")
    return [[str(row.get("id", "")), row.get("claim", ""), row.get("paper", ""), row.get("target", ""),
             ranged(row | {"value": row.get("ours")}, row.get("unit", "share"))
             + (f"; n = {row['n']}" if row.get("n") else "")
             + (f"; {row['seeds']} seed{'s' * (row['seeds'] != 1)}" if row.get("seeds") else ""),
             verdict(row), row.get("note") or ""] for row in results.get("headline") or []]


def parts_of(row):
    """What a headline row is made of, as (name, value) strings."""
    def kind(name):
        return "score" if row.get("unit") == "true score" else measure(name.split(", ")[-1])[1]
    def spelled(name):
        for stage in ("ppo_ptx", "ppo", "sft"):
            name = re.sub(rf"\b{stage}\b", STAGES[stage], name)
        return name.replace("_", " ")
    return [(spelled(part["name"]), ranged(part, kind(part["name"]))) for part in row.get("parts") or []]


def headline_table(results):
    """The headline as HTML: under each row, small, the parts that it is made of."""
    colours, lines = {"✓ met": "met", "✗ not met": "missed"}, []
    for row, cells in zip(results["headline"], headline_rows(results), strict=True):
        lines.append("<tr>" + "".join(f'<td class="{colours.get(cell, "")}">{escape(str(cell))}' for cell in cells))
        if parts := parts_of(row):
            said = "; ".join(f"{escape(name)} <b>{escape(value)}</b>" for name, value in parts)
            lines.append(f'<tr class=parts><td><td colspan={len(HEAD) - 1}><small>{said}</small>')
    head = "".join(f"<th>{cell}" for cell in HEAD)
    return f"<div class=wide><table class=headline><tr>{head}{''.join(lines)}</table></div>"


def markdown_table(results):
    """The headline and the stages as two Markdown tables."""
    def table(head, rows):
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
                         for line in lines)
    stages = results.get("stages") or {}
    present = [stage for stage in STAGES if stage in stages]
    names = list(dict.fromkeys(name for stage in present for name in stages[stage]))
    rows = [[measure(name)[0], *(ranged(stages[s].get(name), measure(name)[1]) for s in present)] for name in names]
    return "\n\n".join((f"# {results.get('name', 'Results')}", "Simulated town and labelers; 95 % intervals.",
                        table(HEAD, headline_rows(results)),
                        table(["#", "part", "value"], [[row.get("id"), *part] for row in results.get("headline") or []
                                                       for part in parts_of(row)]),
                        table(["measure", *map(STAGES.get, present)], rows))) + "\n"


def samples(answers):
    """The first answers per use case, then per special test set, stages side by side; {stage: [row]} -> HTML."""
    stages, prompts, found = [stage for stage in STAGES if answers.get(stage)], {}, {}
    for stage in stages:
        for row in answers[stage]:
            usual = row.get("set", "mixed") in ("mixed", "samples")
            group = row.get("use_case") if usual else f"special test set: {row['set']}"
            prompts.setdefault(str(group), {}).setdefault(row.get("prompt_id"), row.get("prompt"))
            found[stage, row.get("prompt_id")] = row
    def cell(row):
        if row is None:
            return "<td>–</td>"
        grade = row.get("overall")
        look = {1: "low", 2: "low", 3: "middle", 4: "middle", 5: "middle", 6: "high", 7: "high"}.get(grade, "none")
        reasons = "; ".join(map(str, row.get("reasons") or [])) + (" [cut off]" if row.get("finished") is False else "")
        return (f'<td class="text"><b class="badge {look}">{escape(str(grade))}</b> {escape(str(row.get("response")))}'
                f"<br><small>{escape(reasons)}</small></td>")
    head = "".join(f"<th>{STAGES[stage]}</th>" for stage in stages)
    return "".join(
        f"<details><summary>{escape(case.replace('_', ' '))}</summary><div class=wide><table class=samples>"
        f"<tr><th>prompt</th>{head}</tr>" + "".join(f'<tr><td class="text">{escape(str(text))}</td>'
                                 + "".join(cell(found.get((stage, key))) for stage in stages) + "</tr>"
                                 for key, text in list(rows.items())[:SAMPLES]) + "</table></div></details>"
        for case, rows in prompts.items())


def picture(folder, name, figure, reading):
    """Save a figure as PNG and return it embedded, with its reading under it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})  # the same bytes every time
    (folder / f"{name}.png").write_bytes(buffer.getvalue())
    return (f'<figure><img alt="{escape(name.replace("_", " "))}: {escape(reading)}" src="data:image/png;base64,'
            f'{base64.b64encode(buffer.getvalue()).decode()}"><figcaption>{escape(reading)}</figcaption></figure>')


def read_run(run_dir):
    """Everything a run left behind, as one dict, and a sentence for each thing that could not be read."""
    notes, results = [], {}
    def read(path, kind=dict, lines=False):
        rows, text = [], path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.split("\n") if lines else [text], 1):
            try:
                if line.strip() or not lines:
                    rows.append(json.loads(line))
                    if not isinstance(rows[-1], kind):
                        raise ValueError(f"not a {kind.__name__}: {rows.pop()}")
            except ValueError:
                where = f"{path.parent.name}/{path.name}" + (f", line {number}," if lines else "")
                notes.append(f"{where} is damaged and left out; run that step again to mend it.")
        return rows if lines else rows[0] if rows else kind()
    if (run_dir / "results.json").exists():
        results = read(run_dir / "results.json")
    else:
        notes.append("There is no results.json yet; run `python -m rlhf_lite evaluate` to make it.")
    results["answers"] = {s: read(p, lines=True) for s in STAGES if (p := run_dir / "answers" / f"{s}.jsonl").exists()}
    results["histories"] = {stage: read(path, list) for stage in (*STAGES, "reward")
                            if (path := run_dir / stage / "history.json").exists()}
    results["limits"] = {part["name"]: part for row in results.get("headline") or [] if row.get("id") == 12
                         for part in row.get("parts") or []}
    results["sweeps"] = bool(results.get("kl_sweep") or results.get("ptx_sweep"))
    return results, notes


def write_report(run_dir):
    """Write report.html, results_table.md and figures/ into ``run_dir``; returns the path of the report.

    Sections without data, or with incomplete data, become one sentence. Raises FileNotFoundError when
    the folder does not exist.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"There is no run in {run_dir}; give the folder that `python -m rlhf_lite run` wrote.")
    (results, notes), folder, parts = read_run(run_dir), run_dir / "figures", []
    links = []
    folder.mkdir(exist_ok=True)
    def section(title, body):
        parts.append(f'<section id="part-{len(parts) + 1}"><h2>{title[0].upper() + title[1:]}</h2>{body}</section>')
        links.append(f'<a href="#part-{len(links) + 1}">{title[0].upper() + title[1:]}</a>')
    rows = headline_rows(results)
    verdicts = [row[5] for row in rows]
    section("headline", "<p>No headline claim was evaluated.</p>" if not rows else
            f"<p>{verdicts.count('✓ met')} of {sum(v.endswith('met') for v in verdicts)} targets met; "
            "a row marked measured has no target.</p>" + headline_table(results))
    for title, build, key in SECTIONS:
        try:
            body = "".join(picture(folder, *entry) for entry in build(results)) if results.get(key) else ""
            section(title, body or "<p>Left out: this run did not measure it.</p>")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as problem:
            section(title, f"<p>Left out: the results for it are incomplete ({escape(repr(problem))}).</p>")
    section("unselected samples", f"<p>The first {SAMPLES} test prompts of each use case, none chosen by hand; "
            "the badge is the overall grade, 1 to 7.</p>" + samples(results["answers"])
            if any(results["answers"].values()) else "<p>Left out: no answers were written.</p>")
    facts = ("command", "created", "size", "device", "seeds", "minutes", "peak_memory_gib", "versions")
    facts = {key: results[key] for key in facts if key in results}
    notes = "".join(f"<p><b>Note.</b> {escape(note)}</p>" for note in notes)
    section("how to reproduce", f"<pre>{escape(json.dumps(facts, indent=1, ensure_ascii=False))}</pre>")
    name = escape(str(results.get("name", run_dir.name)))
    page = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head><body><h1>{name}</h1>
<p>This report follows a language model from pretraining to PPO-ptx, as InstructGPT did, at one-thousandth of its scale.
Its world is Pebbleford, an invented town of which every fact is known, so a program could grade each answer; the
customers and the labelers are simulated. Ranges in brackets are 95 % intervals, and a change is called a change only
when the interval of the difference leaves out zero.</p>{notes}
<nav>{"".join(links)}</nav>{"".join(parts)}</body></html>"""
    (run_dir / "results_table.md").write_text(markdown_table(results), encoding="utf-8")
    (run_dir / "report.html").write_text(page, encoding="utf-8")
    return run_dir / "report.html"
