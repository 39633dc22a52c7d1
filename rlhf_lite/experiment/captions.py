"""What a run's numbers say: the figures for every section of the report and, under each figure, one caption.

A caption (here: a reading) is made from the numbers and is never a fixed claim: a change is called a change only
when the interval of the difference excludes zero. Every section takes the whole results (the form of results.json,
plus the training histories) and returns [(name of the figure, Figure, reading)].

Left out: significance tests beyond the intervals, and any comparison that the results do not contain.
"""

import math

from rlhf_lite import plots
from rlhf_lite.plots import STAGES, interval, measure, written

NAMES = STAGES | {"rival": "6M base", "rival_prompted": "6M base, few-shot prompted"}


# ---------------------------------------------------------------- readings: sentences made from numbers

def ranged(entry, kind="share"):
    """A number and its interval as text: "62 % (57 to 67)", or "not measured"."""
    found = interval(entry)
    if not found:
        return "not measured"
    value, low, high = (written(part, kind) for part in found)
    return value if low == high else f"{value} ({low.removesuffix(' %')} to {high.removesuffix(' %')})"


def difference(new, old):
    """new − old as (value, low, high), combining the intervals as if independent (Newcombe 1998, method 10).

    That is cautious: the stages answer the same prompts, so a paired interval would be a little narrower.
    """
    (a, a_low, a_high), (b, b_low, b_high) = interval(new), interval(old)
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def change(table, name, new, old):
    """One sentence that compares ``name`` in table[new] with table[old]; "" if either was not measured."""
    pair = [table.get(stage, {}).get(name) for stage in (new, old)]
    if not all(map(interval, pair)):
        return ""
    (label, kind, _), (value, low, high) = measure(name), difference(*pair)
    what = f'"{label.split(" (")[0]}"'
    if low <= 0 <= high:
        scale, unit = (100, " points") if kind == "share" else (1, "")
        low, value, high = (f"{scale * part:+.{1 if unit else 2}f}" for part in (low, value, high))
        return (f"{STAGES[new]} does not clearly change {what} relative to {STAGES[old]} "
                f"({value}{unit}; {low} to {high}).")
    near, middle, far = sorted(map(abs, (low, value, high)))
    size = ranged({"value": middle, "low": near, "high": far}, kind).replace(" %", " points")
    return f"{STAGES[new]} {'raises' if value > 0 else 'lowers'} {what} by {size} relative to {STAGES[old]}."


def changes(table, name, pairs=(("ppo", "sft"), ("ppo_ptx", "sft"))):
    return " ".join(filter(None, (change(table, name, new, old) for new, old in pairs)))


def first_to_last(rows, key):
    values = [interval(row.get(key))[0] for row in rows if interval(row.get(key))]
    return f"from {values[0]:.2f} to {values[-1]:.2f}" if values else "not measured"


def against_half(entry):
    value, low, high = interval(entry)
    return "clearly more than half" if low > 0.5 else "clearly less than half" if high < 0.5 else "no clear winner"


# ---------------------------------------------------------------- sections: each returns [(name, figure, reading)]

def by_size(results):
    table, found = results["by_size"], []
    for size, row in table.items():
        order = sorted((stage for stage in STAGES if interval(row.get(stage))), key=lambda s: interval(row[s])[0])
        best = order[-1]
        found.append(f"At {size.upper()}, from least to most preferred: {', '.join(STAGES[s] for s in order)}; "
                     f"{STAGES[best]} wins {ranged(row[best])}, {against_half(row[best])}.")
    figure = plots.win_rate_by_size(table, f"the {next(iter(table)).upper()} SFT model")
    return [("win_rate_by_size", figure, " ".join(found))]


def win_rates(results):
    rows = {f"{NAMES.get(r['a'], r['a'])} over {NAMES.get(r['b'], r['b'])}": r for r in results["win_rates"]}
    judges = ", ".join(sorted({row["judge"] for row in rows.values() if row.get("judge")})) or "not named"
    figure = plots.interval_rows(rows, f"Win rate, ties as halves\n(judge: {judges})", reference=0.5,
                                 marks={name: row["a"] for name, row in rows.items()})
    return [("win_rates", figure, verdicts(rows))]


def temperatures(results):
    """True score against the temperature, and the win rates between the stages, each at its best."""
    table = {stage: found for stage, found in results["temperatures"].items() if stage in STAGES}
    said = [f"{STAGES[stage]} is best at {'greedy decoding' if found['best'] == 0 else found['best']} "
            f"({ranged(next(p for p in found['curve'] if p['temperature'] == found['best']), 'score')})"
            for stage, found in table.items()]
    found = [("temperatures", plots.temperatures(table), f"On validation prompts: {'; '.join(said)}.")]
    rows = {f"{NAMES.get(r['a'], r['a'])} over {NAMES.get(r['b'], r['b'])}": r for r in results["win_rates_at_best"]}
    if rows:
        figure = plots.interval_rows(rows, "Win rate, each at its best temperature", reference=0.5,
                                     marks={name: row["a"] for name, row in rows.items()})
        found.append(("win_rates_at_best", figure, verdicts(rows)))
    return found


def verdicts(rows):
    """The names of win rates, sorted into clear wins, clear losses and the rest, as sentences."""
    said = {verdict: [name for name, row in rows.items() if interval(row) and against_half(row) == verdict]
            for verdict in ("clearly more than half", "no clear winner", "clearly less than half")}
    return " ".join(f"{verdict.capitalize()}: {'; '.join(names)}." for verdict, names in said.items() if names)


def quality(results):
    stages, names = results["stages"], ("score", "score_at_best", "good", "overall", "constraint", "length",
                                        "finished", "kl")
    found = [("stages", plots.stage_panels(stages, names), changes(stages, "score") + " " + changes(stages, "good"))]
    if results.get("use_cases"):
        table = results["use_cases"]
        gaps = [(difference(row, table["sft"][case]), case) for case, row in table.get("ppo", {}).items()
                if interval(row) and interval(table.get("sft", {}).get(case))]
        clear = [[case for gap, case in gaps if sign * gap[0] > 0 and gap[1] * gap[2] > 0] for sign in (1, -1)]
        found.append(("use_cases", plots.use_cases(table), " ".join(
            f"PPO is clearly {word} SFT in {', '.join(cases).replace('_', ' ') or 'no use case'}."
            for word, cases in zip(("above", "below"), clear, strict=True))))
    return found


def truth(results):
    stages, pairs = results["stages"], (("sft", "base"), ("ppo", "sft"), ("ppo_ptx", "sft"))
    polite = []
    for stage in STAGES:
        none, asked = (stages.get(stage, {}).get(name) for name in ("rude_none", "rude_respectful"))
        if interval(none) and interval(asked):
            _, low, high = difference(asked, none)
            effect = "lowers rudeness" if high < 0 else "raises rudeness" if low > 0 else "makes no clear difference"
            polite.append(f"{STAGES[stage]}: asking for respect {effect} ({ranged(none)} without, "
                          f"{ranged(asked)} with).")
    return [("truth", plots.stage_panels(stages, ("truthful_informative", "closed_hallucination",
                                                  "truthful_beliefs", "truthful_residents",
                                                  "truthful_newcomers")),
             changes(stages, "truthful_informative", pairs) + " " + changes(stages, "closed_hallucination", pairs)),
            ("rudeness", plots.stage_panels(stages, ("rude_none", "rude_respectful", "rude_biased")), " ".join(polite)),
            ("followed", plots.stage_panels(stages, ("harmful_followed", "harmful_not_refused",
                                                     "false_premise_followed")),
             changes(stages, "harmful_followed", pairs) + " " + changes(stages, "false_premise_followed", pairs))]


def reward(results):
    data = results["reward"]
    cases = sorted((interval(entry)[0], case) for case, entry in data.get("by_use_case", {}).items() if interval(entry))
    reading = f"It orders {ranged(data.get('accuracy'))} of held-out pairs as the training team did"
    if interval(data.get("heldout_team")):
        reading += (f" and {ranged(data['heldout_team'])} as a held-out team did; the labelers' own noise sets a "
                    f"ceiling of {ranged(data.get('bayes_ceiling'))}")
    reading += "."
    if interval(data.get("length_only")):
        reading += f" Always preferring the longer answer would get {ranged(data['length_only'])}."
    if cases:
        reading += f" Weakest on {cases[0][1].replace('_', ' ')}, strongest on {cases[-1][1].replace('_', ' ')}."
    if interval(data.get("ece")):
        reading += f" Its confidence is off by {written(data['ece'], 'share').replace(' %', ' points')} on average."
    return [("reward_model", plots.reward_model(data), reading)]


def pairs(results):
    """Compare whole rankings as batch elements with shuffled pairs, after each epoch (section 3.5, footnote 5)."""
    data, panels, said = results["pairs"], {}, []
    lines = (("kwise", "whole\nrankings", plots.COLOURS["ppo"]),
             ("shuffled", "shuffled\npairs", plots.COLOURS["reward"]))
    for end, label in (("", "Held-out pair accuracy"), ("_loss", "Held-out loss (nats per pair)")):
        curves = {key: data.get(key + end) or [] for key, _, _ in lines}
        panels[label] = [{"epoch": i + 1} | {key: curve[i] for key, curve in curves.items() if i < len(curve)}
                         for i in range(max(map(len, curves.values())))]
        for key, name, _ in lines:
            if curves[key]:
                values = ", ".join(f"{value:.3f}" for value in curves[key])
                said.append(f"{label.lower()} of {name.replace(chr(10), ' ')} by epoch: {values}")
    return [("pairs", plots.learning_curves(panels, lines), "; ".join(said).capitalize() + ".")]


def gate(results):
    data = results["gate"]
    ns, rm, scores = data["n"], data["rm"], [interval(entry)[0] for entry in data["rm"]]
    value, low, high = interval(data.get("gain_at_8")) or difference(rm[-1], rm[0])  # the first is paired
    effect = "no clear change" if low <= 0 <= high else "a clear gain" if value > 0 else "a clear loss"
    verdict = {True: "The gate is open.", False: "The gate is closed: PPO on this reward is not expected to help."}
    return [("gate", plots.gate(data), (
        f"When the reward model chooses, the true score goes from {ranged(rm[0], 'score')} at n = {ns[0]} to "
        f"{ranged(rm[-1], 'score')} at n = {ns[-1]} and is highest at n = {ns[scores.index(max(scores))]}; best-of-"
        f"{8 if interval(data.get('gain_at_8')) else ns[-1]} is {effect} ({value:+.2f}; {low:+.2f} to {high:+.2f}). "
        f"Choosing by the truth would reach {ranged(data['oracle'][-1], 'score')}. "
        f"{verdict.get(data.get('open'), '')}"))]


def training(results):
    histories, found = results["histories"], []
    for stage, title, unit in (("sft", "SFT", "token"), ("reward", "Reward model", "pair")):
        rows = [{**row, "train": row.get("train_loss", row.get("loss")), "valid": row.get("valid_loss")}
                for row in histories.get(stage, [])]
        if rows:
            figure = plots.learning_curves({f"{title}: loss (nats per {unit})": rows})
            found.append((f"{stage}_training", figure, f"Held-out loss: {first_to_last(rows, 'valid')}."))
    runs = {stage: histories[stage] for stage in ("ppo", "ppo_ptx") if histories.get(stage)}
    reading = " ".join(f"{STAGES[stage]}, {len(rows)} iterations: proxy {first_to_last(rows, 'score')}; true score "
                       f"{first_to_last(rows, 'true_score')}; KL {first_to_last(rows, 'kl')}; length "
                       f"{first_to_last(rows, 'length')}." for stage, rows in runs.items())
    return found + ([("ppo_training", plots.ppo_curves(runs), reading)] if runs else [])


def tax(results):
    table = results["tax"]
    names = list(dict.fromkeys(name for stage in STAGES for name in table.get(stage, {})))
    reading = " ".join(changes(table, name, (("sft", "base"), ("ppo", "sft"), ("ppo_ptx", "ppo"))) for name in names)
    return [("tax", plots.stage_panels(table, names), reading)]


def sweeps(results):
    found = []
    for name, key, others in (("kl_sweep", "kl_coef", ("proxy", "kl")), ("ptx_sweep", "ptx_coef", ("web_loss",))):
        rows = sorted((row for row in results.get(name) or [] if interval(row.get("score"))), key=lambda row: row[key])
        if rows:
            best = max(rows, key=lambda row: interval(row["score"])[0])
            ends = [difference(best["score"], row["score"])[1] > 0 for row in (rows[0], rows[-1])]
            place = "an optimum inside the range, clearly above both ends" if all(ends) else \
                "at an end of the range" if best in (rows[0], rows[-1]) else "not clearly above both ends"
            found.append((name, plots.sweep(rows, key, others), f"The true score is highest at {key} = {best[key]:g} "
                          f"({ranged(best['score'], 'score')}), {place}."))
    return found


def overoptimisation(results):
    data, said = results["overoptimisation"], []
    for key, name in (("bon", "best-of-n"), ("rl", "reinforcement learning")):
        rows = sorted(data.get(key) or [], key=lambda row: row["d"])
        if rows:
            golds = [interval(row["gold"])[0] for row in rows]
            top = golds.index(max(golds))
            end = f"and ends at {golds[-1]:+.2f} at d = {rows[-1]['d']:.2f}"
            end = "the end of the range" if top == len(rows) - 1 else end
            said.append(f"Under {name}, the true score peaks at d = {rows[top]['d']:.2f} ({golds[top]:+.2f}), {end}.")
    return [("overoptimisation", plots.overoptimisation(data), " ".join(said))]


def limits(results):
    entries = {name: entry for name, entry in results["limits"].items() if interval(entry)}
    shown = {measure(name)[0]: entry for name, entry in entries.items() if measure(name)[1] == "share"}
    reading = "; ".join(f"{measure(name)[0]}: {ranged(entry, measure(name)[1])}" for name, entry in entries.items())
    return [("limits", plots.interval_rows(shown, "Share of PPO-ptx's answers",
                                           marks=dict.fromkeys(shown, "ppo_ptx")), f"For PPO-ptx: {reading}.")]


SECTIONS = (("win rate by size", by_size, "by_size"), ("win rates", win_rates, "win_rates"),
            ("the best temperature of each stage", temperatures, "temperatures"),
            ("quality of the answers", quality, "stages"),
            ("truth, hallucination, rudeness and harm", truth, "special"),
            ("the reward model", reward, "reward"), ("whole rankings or shuffled pairs", pairs, "pairs"),
            ("the gate: best-of-n before PPO", gate, "gate"), ("training", training, "histories"),
            ("the alignment tax", tax, "tax"), ("sweeps", sweeps, "sweeps"),
            ("over-optimisation", overoptimisation, "overoptimisation"), ("limits", limits, "limits"))
