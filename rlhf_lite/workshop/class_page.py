"""A class round on one page, for the projector and for the day after: `report.html`, and the same as lines of text."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from rlhf_lite import files, plots
from rlhf_lite.experiment import pages
from rlhf_lite.jsonl import json_line
from rlhf_lite.plain import plain
from rlhf_lite.workshop import class_agreement, class_folder, class_norming, class_policy

TEMPLATE = Path(__file__).parent / "templates" / "class.html"


def percent(one):
    """An Interval of shares as text."""
    if one.value != one.value:
        return "-"
    return f"{100 * one.value:.0f} % ({100 * one.low:.0f} to {100 * one.high:.0f})"


def merged(folder):
    """Merge round 1 into folder/class.jsonl, whole or not at all -> Gathered."""
    found = class_folder.gather(class_folder.files_of(folder))
    if not found.people:
        raise ValueError(f"{Path(folder) / 'round1'}: there are no rankings yet; everybody's file belongs there.")
    with files.whole_file(Path(folder) / "class.jsonl") as new:
        new.write_bytes(b"".join(json_line(row) for rows in found.people.values() for row in rows))
    return found


def norming(folder, people):
    """{group: Change}, or {} if there has been no second round."""
    again = class_folder.gather(class_folder.files_of(folder, 2)).people if class_folder.open_round(folder) == 2 else {}
    return class_norming.changes(people, again, class_folder.norming(folder)) if again else {}


def picture(found):
    """Who agrees with whom, as a figure: the people in the order of how usual their taste is."""
    order = [found.names.index(name) for name in class_agreement.by_person(found)]
    with np.errstate(invalid="ignore"):
        share = (found.same.sum(2) / found.both.sum(2))[np.ix_(order, order)]
    np.fill_diagonal(share, np.nan)
    with rc_context(plots.STYLE):
        figure = Figure(figsize=(8, 7), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(100 * share, cmap="RdBu", vmin=20, vmax=80)
        short = [found.names[i].replace(" (simulated)", "") for i in order]
        axes.set_xticks(range(len(order)), short, rotation=90, fontsize=7)
        axes.set_yticks(range(len(order)), short, fontsize=7)
        axes.grid(visible=False)
        axes.set_title("How often two people prefer the same answer (50 % is chance)")
        figure.colorbar(image, ax=axes, label="%", shrink=0.7)
        return figure


def agreement_lines(people):
    """What the class agrees about, as lines of text."""
    found = class_agreement.compare(people)
    pairs = sorted(class_agreement.pairs(found).items(), key=lambda pair: pair[1].value)
    lines = [f"{len(people)} people, {len(found.prompts)} prompts."]
    if pairs:
        lines.append(f"Two people agree on {percent(class_agreement.everybody(found))} of the pairs; in the paper, 73 "
                     "%; chance is 50 %.")
        lines += [f"   {word}: {a} and {b}, {percent(one)}" for word, ((a, b), one) in (
            ("most alike", pairs[-1]), ("least alike", pairs[0]))]
    lines.append("name, agreement with the others, with themselves, ties, seconds a sheet")
    own = class_agreement.consistency(people)
    for name, one in class_agreement.by_person(found).items():
        seconds, tied = class_agreement.habits(people[name])
        again = f"{own[name].percent:.0f} % of {own[name].n}" if own[name].n else "-"
        lines.append(f"   {name:24} {percent(one):18} {again:12} {100 * tied:3.0f} %  {seconds:4.0f}")
    return [plain(line) for line in lines]


def disputed_lines(people, most=3):
    """The most disputed prompts, who put what first, and why."""
    lines = []
    for one in class_agreement.disputed(people, most):
        lines.append(f"“{one.prompt}”: two people agree on {percent(one.agreement)}")
        lines += [f"   {rank:.1f}  {text}   first for {', '.join(who) or 'nobody'}" for text, rank, who in one.answers]
        lines += [f"        {name}: {said}" for name, said in one.why[:6]]
    return [plain(line) for line in lines]


def norming_lines(found):
    """What the discussion changed."""
    return [f"{group}: {100 * one.before:.0f} % before, {100 * one.after:.0f} % after; change "
            f"{100 * one.change.value:+.0f} points ({100 * one.change.low:+.0f} to {100 * one.change.high:+.0f}); "
            f"{one.prompts} prompts, {one.people} people" for group, one in found.items()]


def taste_lines(table):
    """Everybody's reward model, the class's, and the simulated team's."""
    lines = ["reward model, pairs of unseen prompts that it orders as the class does, as the simulated team does"]
    lines += [f"   {name:22} {percent(row['the class']):18} {percent(row['the simulated team'])}"
              for name, row in table.accuracy.items()]
    lines.append(f"The class's scores and the simulated team's: correlation {table.like_team:.2f}.")
    lines.append(f"what goes up with the score (correlation within prompts): {', '.join(table.likes['the class'])}")
    lines += [f"   {name:24} " + "  ".join(f"{value:+.2f}" for value in found.values())
              for name, found in table.likes.items()]
    return [plain(line) for line in lines]


def policy_lines(followed):
    """What PPO did with the class's reward model."""
    lines = [f"{name}: {one:.2f} before, {two:.2f} after ({change.low:+.2f} to {change.high:+.2f})"
             for name, one, two, change in class_policy.changes(followed)]
    return [plain(line) for line in lines]


def write(folder, people, notes=(), table=None, followed=None, simulated=False):
    """Write folder/report.html; returns its path."""
    found = class_agreement.compare(people)
    pairs = class_agreement.pairs(found) if len(people) < 61 else {}
    text = pages.render(
        TEMPLATE, n=len(people), prompts=len(found.prompts), simulated=simulated, notes=list(notes), percent=percent,
        overall=percent(class_agreement.everybody(found)) if len(people) > 1 else "-",
        image=pages.data_address(pages.png(picture(found), dpi=90)) if len(people) > 1 else "",
        lines=agreement_lines(people), pairs=sorted(pairs.items(), key=lambda pair: pair[1].value),
        by_prompt=class_agreement.by_prompt(found), disputed=class_agreement.disputed(people),
        norming=norming_lines(norming(folder, people)), taste=taste_lines(table) if table else [],
        apart=table.apart if table else [], people=table.people if table else {},
        policy=policy_lines(followed) if followed else [],
        answers=[(a["prompt"], a["response"], b["response"]) for a, b in zip(
            followed.before, followed.after, strict=True)][:8] if followed else [],
        receipts=class_folder.receipts(people))
    path = Path(folder) / "report.html"
    files.write_text(path, text)
    return path
