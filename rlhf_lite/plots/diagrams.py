"""Diagrams as SVG: the three steps of RLHF, which logits predict which token, the pairs of a ranking.

The idea: plain texts and numbers in, an IPython HTML object out. Words and lines take the colour of the page's text and
boxes are tints, so that everything can be read in a light and in a dark theme; what a colour says is also said by a
word, a sign or a shape. The description is what a screen reader speaks.
"""

from html import escape

from rlhf_lite.plots.style import COLOURS

BLUE, ORANGE, PURPLE, GREY = COLOURS["ppo"], COLOURS["sft"], COLOURS["prompted"], COLOURS["base"]
NAMES = "ABCDEFGHI"


# ---------------------------------------------------------------- the parts

def drawing(width, height, parts, description):
    """Pieces of SVG -> an IPython HTML object that shrinks with the page and never grows beyond `width` pixels."""
    from IPython.display import HTML  # only here: a run and its report draw without IPython
    heads = "".join(f'<marker id="rlhf-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                    f'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 Z" fill="{colour}"/></marker>'
                    for name, colour in (("plain", "currentColor"), ("blue", BLUE)))
    return HTML(f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width} {height}" '
                f'style="max-width:{width}px;width:100%;height:auto;font:13px sans-serif">'
                f'<title>{escape(description)}</title><defs>{heads}</defs>{"".join(parts)}</svg>')


def words(x, y, lines, anchor="middle", size=13, bold=False, step=17, opacity=1.0):
    """Lines of text; y is the first base line."""
    lines = [lines] if isinstance(lines, str) else lines
    spans = "".join(f'<tspan x="{x:g}" y="{y + step * i:g}">{escape(line)}</tspan>' for i, line in enumerate(lines))
    return (f'<text text-anchor="{anchor}" font-size="{size}" font-weight="{700 if bold else 400}" '
            f'fill="currentColor" fill-opacity="{opacity:g}">{spans}</text>')


def box(x, y, width, height, colour=GREY, strength=0.16, dashed=False):
    """A tinted box with a line round it."""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{colour}" '
            f'fill-opacity="{strength:g}" stroke="{colour}" stroke-width="1.4"{dashes}/>')


def arrow(points, colour="currentColor", dashed=False):
    """A line through the points with a head at its end."""
    path = " L".join(f"{x:g},{y:g}" for x, y in points)
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    head = "blue" if colour == BLUE else "plain"
    return (f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5" '
            f'marker-end="url(#rlhf-{head})"{dashes}/>')


# ---------------------------------------------------------------- the three steps

STEPS = (
    ("1  Demonstrations", "notebooks 01 and 02", ORANGE, (
        (GREY, ["A resident asks:", "“A thank-you note to", "Felix for the cap, please.”"]),
        (PURPLE, ["An author writes the answer", "that they would like to read."]),
        (ORANGE, ["The base model learns", "to write like that:", "the SFT model."]))),
    ("2  Rankings", "notebooks 03 and 04", COLOURS["reward"], (
        (ORANGE, ["The SFT model answers", "one request several times:", "A, B, C, D."]),
        (PURPLE, ["A labeler ranks the answers:", "C > A = D > B."]),
        (COLOURS["reward"], ["A network learns to score", "answers in that order:", "the reward model."]))),
    ("3  Reinforcement", "notebook 05", BLUE, (
        (BLUE, ["The policy, at first a copy", "of the SFT model, answers", "a new request."]),
        (COLOURS["reward"], ["The reward model", "scores the answer: +1.3."]),
        (BLUE, ["PPO makes good answers", "likelier, and a price on KL", "keeps it near the SFT model."]))))


def three_steps():
    """The three steps of RLHF as they happen in the town -> an IPython HTML object."""
    parts, wide, tall = [], 236, 66
    for column, (title, where, colour, boxes) in enumerate(STEPS):
        x = 8 + column * 256
        parts += [box(x - 6, 2, wide + 12, 344, colour, 0.05), words(x + wide / 2, 24, title, size=15, bold=True),
                  words(x + wide / 2, 42, where, size=12, opacity=0.8)]
        for row, (tint, lines) in enumerate(boxes):
            y = 56 + row * 98
            parts += [box(x + 8, y, wide - 16, tall, tint), words(x + wide / 2, y + (23 if len(lines) == 3 else 31),
                                                                  lines)]
            if row:
                parts.append(arrow([(x + wide / 2, y - 30), (x + wide / 2, y - 3)]))
    right = 8 + 2 * 256 + wide - 8
    parts.append(arrow([(right, 285), (right + 8, 285), (right + 8, 89), (right + 1, 89)], BLUE))  # again and again
    return drawing(778, 350, parts, (
        "The three steps of RLHF. One: a resident asks, an author writes the answer, and the base model learns to "
        "write like that; it becomes the SFT model. Two: the SFT model answers a request several times, a labeler "
        "ranks the answers, and a reward model learns to score answers in that order. Three: the policy answers a new "
        "request, the reward model scores the answer, and PPO makes good answers likelier; a price on KL keeps the "
        "policy near the SFT model. Step three is repeated many times."))


# ---------------------------------------------------------------- logits at t − 1, token t

def token_shift(prompt, response, left=0, right=0, rows=None):
    """Which logits predict which token: those at t − 1 the token at t -> an IPython HTML object.

    prompt, response: texts of tokens; left, right: how many PADs stand before and behind. rows: {name: a text per
    place}, written below the tokens, for example labels or rewards. At most about a dozen places can be read.
    """
    tokens = ["PAD"] * left + [*prompt] + [*response] + ["PAD"] * right
    kinds = ["pad"] * left + ["prompt"] * len(prompt) + ["response"] * len(response) + ["pad"] * right
    rows, start, wide, edge = rows or {}, left + len(prompt), 62, 78
    tint = {"pad": (GREY, 0.04, True), "prompt": (GREY, 0.22, False), "response": (BLUE, 0.22, False)}
    parts = [words(edge - 10, 50, "logits at", "end"), words(edge - 10, 125, "token", "end")]
    for place, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        x, used = edge + place * wide, start <= place + 1 < start + len(response)
        parts += [box(x + 3, 30, wide - 6, 30, BLUE if used else GREY, 0.22 if used else 0.03, not used),
                  words(x + wide / 2, 50, str(place), bold=used, opacity=1 if used else 0.55),
                  box(x + 3, 104, wide - 6, 34, *tint[kind]),
                  words(x + wide / 2, 125, token if len(token) < 8 else token[:6] + "…", size=12,
                        bold=kind == "response", opacity=0.6 if kind == "pad" else 1)]
        if used:
            parts.append(arrow([(x + wide / 2 + 6, 62), (x + 1.5 * wide - 4, 101)], BLUE))
    parts += [words(edge + start * wide - wide / 2 + len(response) * wide / 2, 18,
                    "these predict the response", size=12, bold=True)]
    for name, first, count in (("prompt", left, len(prompt)), ("response", start, len(response))):
        x, end = edge + first * wide + 5, edge + (first + count) * wide - 5
        parts += [f'<path d="M{x},144 v5 H{end} v-5" fill="none" stroke="currentColor" stroke-opacity="0.7"/>',
                  words((x + end) / 2, 164, name, size=12)]
    for number, (name, texts) in enumerate(rows.items()):
        y = 188 + 22 * number
        parts.append(words(edge - 10, y, name, "end"))
        parts += [words(edge + (place + 0.5) * wide, y, str(text), size=12, bold=kinds[place] == "response")
                  for place, text in enumerate(texts)]
    arrows = ", ".join(f"{at} predicts “{tokens[at + 1]}”" for at in range(start - 1, start - 1 + len(response)))
    said = "".join(f" {name}: {', '.join(map(str, texts))}." for name, texts in rows.items())
    return drawing(edge + wide * len(tokens) + 8, 174 + 22 * len(rows), parts, (
        f"Tokens in a row: {left} PAD, the prompt ({', '.join(prompt)}), the response ({', '.join(response)}), {right} "
        f"PAD. Logits at one place predict the token at the next: {arrows}. The other logits are not used.{said}"))


# ---------------------------------------------------------------- the pairs of a ranking

def pair_matrix(ranks, values=None):
    """The K × K matrix of pairs of one ranking -> an IPython HTML object.

    ranks: K ranks, 1 is best. values: (K, K) numbers to write into the cells that count, for example losses.
    """
    count, size, left, top = len(ranks), 58, 78, 74
    parts = [words(4, 18, "Is the answer of this row better than that of this column?", "start", bold=True)]
    for i in range(count):
        name = [NAMES[i], f"rank {ranks[i]:g}"]
        parts += [words(left + (i + 0.5) * size, top - 24, name, size=12),
                  words(left - 12, top + (i + 0.5) * size - 3, name, "end", size=12)]
        for j in range(count):
            x, y = left + j * size, top + i * size
            counts, tie = ranks[i] < ranks[j], ranks[i] == ranks[j] and i != j
            number = f"{values[i][j]:.2f}" if values is not None and counts else ""
            sign = "yes" if counts else "=" if tie else "" if i == j else "no"
            parts.append(box(x + 2, y + 2, size - 4, size - 4, BLUE if counts else GREY, 0.25 if counts else 0.04,
                             dashed=not counts))
            parts.append(words(x + size / 2, y + (27 if number else 34), [sign, number] if number else sign,
                               bold=counts, opacity=1 if counts else 0.6))
    pairs = sum(a < b for a in ranks for b in ranks)
    tied = sum(ranks[i] == ranks[j] for i in range(count) for j in range(i))
    side = left + count * size + 16
    parts.append(words(side, top + 24, [f"{pairs} cells say yes: {pairs} pairs.", "A no is the same pair,",
                                        "seen from the other side.", f"Tied, so no pair: {tied}."], "start", size=12))
    listed = "; ".join(f"{NAMES[i]} is better than {NAMES[j]}" + (f", {values[i][j]:.2f}" if values is not None else "")
                       for i in range(count) for j in range(count) if ranks[i] < ranks[j])
    return drawing(side + 170, top + count * size + 8, parts,
                   f"A table of {count} by {count} answers. Pairs: {listed}. Tied: {tied}.")
