"""bench.json as tables for docs/speed.md, and its headline for README.md."""

from rlhf_lite import files

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


def _interval(found, digits=2):
    value, low, high = (f"{found[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _table(head, rows):
    if not rows:
        return "Not measured yet."
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (
        head, ["---"] + ["--:"] * (len(head) - 1), *rows))


def _done(content, start):
    return {name: entry for name, entry in content["measurements"].items()
            if entry["status"] == "done" and name.startswith(start)}


def _peers(content):
    rows = []
    for name, entry in content["measurements"].items():
        if "times" not in entry or "ratios" not in entry:
            continue
        ours, theirs = ([turn["wall"] for turn in turns] for turns in entry["times"].values())
        middle = [f"{sorted(turns)[len(turns) // 2]:.2f}" for turns in (ours, theirs)]
        rows.append([name, *middle, _interval(entry["ratios"]["wall"]), _interval(entry["ratios"]["cpu"])])
    return _table(["work", "ours, s", "the other, s", "times as fast", "by processor seconds"], rows)


def _limits(content):
    rows = [[f"{name.removeprefix('limit, ')}: {phase}", _interval(found), f"{entry['floors'][phase]:.3f}"
             if phase in entry["floors"] else "", f"{found['value'] / entry['floors'][phase]:.2f}"
             if phase in entry["floors"] else "", f"{entry['calls'][phase]:.3f}"]
            for name, entry in _done(content, "limit").items() for phase, found in entry["seconds_of"].items()]
    return _table(["phase of a PPO iteration", "seconds", "floor, s", "times the floor", "calls alone, s"], rows)


def _growth(content):
    rows = [[name.removeprefix("growth, "), " ".join(f"{point['at']:g}" for point in entry["points"]),
             *(f"{entry['exponents'][clock]:.2f}" for clock in ("wall", "cpu", "bytes"))]
            for name, entry in _done(content, "growth").items()]
    return _table(["dial", "turned to", "time", "processor time", "memory"], rows)


def _path(content):
    first, rows = _done(content, "first answer").get("first answer"), []
    if first:
        rows += [["`python -m rlhf_lite --help`, s", _interval(first["help"])],
                 ["`import rlhf_lite.ppo`, s", _interval(first["import"])]]
    for name, entry in {**_done(content, "make"), **_done(content, "notebooks")}.items():
        if "minutes" in entry:
            rows += [[f"{name}: {part}, minutes", f"{value:.2f}"] for part, value in entry["minutes"].items()]
            rows.append([f"{name}, minutes in all", f"{sum(entry['minutes'].values()):.1f}"])
        else:
            rows.append([f"{name}, minutes", f"{entry['took'] / 60:.1f}"])
    return _table(["what", "time"], rows)


def tables(content):
    """All of bench.json as Markdown."""
    left = [f"* {name}: {entry['status']}. {entry.get('why', '')}".rstrip() for name, entry in
            content["measurements"].items() if entry["status"] != "done"]
    missing = ["### Not measured", "\n".join(left)] if left else []
    about = (f"{content['processor']}, {content['threads']} of {content['cores']} cores, torch "
             f"{content['versions']['torch']}, transformers {content['versions']['transformers']}, Python "
             f"{content['versions']['python']}, TRL {' and '.join(content['trl']) or 'none'}, "
             f"{content['updated'][:10]}. Regenerate: `{content['command']}`.")
    return "\n\n".join([about, "### Beside others", _peers(content), "### Beside the limit", _limits(content),
                        "### Growth", _growth(content), "### The whole path", _path(content), *missing])


def headline(content):
    """One sentence of ratios for the README."""
    names = {"ppo, 1.3m": "PPO", "reward, 1.3m": "the reward model", "sft, 1.3m": "SFT", "dpo, 1.3m": "DPO",
             "rloo, 1.3m": "RLOO", "grpo, 1.3m": "GRPO", "sampling beside generate, 1.3m": "sampling (`generate`)"}
    done = _done(content, "")
    said = [f"{title} {done[name]['ratios']['wall']['value']:.1f}" for name, title in names.items() if name in done]
    return ("Speed at 1.3M, as a multiple of TRL's on the same work: " + ", ".join(said) + " "
            "([all of it](docs/speed.md))." if said else "")


def write(content, root):
    """Put the tables into docs/speed.md and, if it has a place for it, the headline into README.md."""
    for name, text in (("docs/speed.md", tables(content)), ("README.md", headline(content))):
        whole = (root / name).read_text(encoding="utf-8")
        if name == "README.md" and BEGIN not in whole:
            continue
        if BEGIN not in whole or END not in whole:
            raise ValueError(f"{name} has no place for the numbers; write the lines {BEGIN} and {END} there.")
        before, after = whole.split(BEGIN)[0], whole.split(END, 1)[1]
        files.write_text(root / name, f"{before}{BEGIN}\n{text}\n{END}{after}")
