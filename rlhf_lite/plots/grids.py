"""Numbers in a grid, each written in its cell: who agrees with whom, what each token is worth."""

import math

from matplotlib import rc_context

from rlhf_lite.plots.parts import ink, new_axes
from rlhf_lite.plots.style import STYLE


@rc_context(STYLE)
def matrix(values, rows, columns, title, bar, number="{:.2f}", shades=("cividis", None, None), **labels):
    """A matrix of numbers as shades, each number written in its cell; nan becomes a dash -> Figure.

    values: (rows, columns). bar: what the shades mean. number: how a cell is written. shades: the colours, and the
    numbers at their ends. labels: xlabel, ylabel. Look along a row, then for the cell that stands out.
    """
    figure, ((axis,),) = new_axes(width=2.8 + 0.44 * max(len(columns), 6), height=1.7 + 0.39 * len(rows))
    image = _shades(axis, values, *shades, number)
    slanted = {"rotation": 45, "ha": "right"} if len(columns) > 5 else {}
    axis.set_xticks(range(len(columns)), columns, **slanted)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(title=title, **labels)
    figure.colorbar(image, label=bar)
    return figure


@rc_context(STYLE)
def labeler_agreement(percent, names, first_team):
    """On how many pairs in a hundred do two labelers agree? -> Figure.

    percent: (labelers, labelers); the first `first_team` of them are the training team. Compare the bold diagonal,
    where a labeler is compared with itself a week later, with the rest of its row.
    """
    low, high = math.floor(min(map(min, percent))), math.ceil(max(map(max, percent)))
    figure = matrix(percent, names, names, "Agreement of simulated labelers (% of pairs that neither tied)",
                    "agreement (%), chance is 50", "{:.0f}", ("cividis", low, high),
                    xlabel="training team                         held-out team",
                    ylabel="held-out team               training team")
    axis = figure.axes[0]
    axis.axhline(first_team - 0.5, color="white", linewidth=3)
    axis.axvline(first_team - 0.5, color="white", linewidth=3)
    for text in axis.texts:
        column, row = text.get_position()
        text.set_fontweight("bold" if row == column else "normal")
    return figure


@rc_context(STYLE)
def token_rows(rows, words, title, own_scale=False, cmap="cividis_r", low=0, high=8):
    """One answer, token by token: one row of numbers per name, the words below -> Figure.

    rows: {name: (tokens,) numbers}. own_scale: each row is shaded by its own largest number, blue above 0 and red
    below. Look for the dark cells, and for the words under them.
    """
    rows = {name: [float(number) for number in numbers] for name, numbers in rows.items()}
    figure, ((axis,),) = new_axes(width=min(11, 2 + 0.62 * len(words)), height=1.5 + 0.42 * len(rows))
    shades = list(rows.values())
    if own_scale:
        cmap, low, high = "RdBu", -1.3, 1.3
        shades = [[number / max(1e-6, *map(abs, numbers)) for number in numbers] for numbers in shades]
    _shades(axis, shades, cmap, low, high, "{:.2f}" if own_scale else "{:.1f}", texts=list(rows.values()))
    axis.set_xticks(range(len(words)), words, rotation=45, ha="right")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_title(title, wrap=True)
    axis.set_xlabel("token of the answer")
    return figure


@rc_context(STYLE)
def token_strips(strips, label):
    """Several answers, one below another, each token shaded by its number. strips: {title: (words, numbers)} -> Figure.

    All share one scale, purple above 0 and orange below. See at which word the colour turns.
    """
    strips = {title: (words, [float(number) for number in numbers]) for title, (words, numbers) in strips.items()}
    limit = max(abs(number) for _, numbers in strips.values() for number in numbers)
    figure, axes = new_axes(rows=len(strips), width=11, height=1.8 * len(strips))
    for (axis,), (title, (words, numbers)) in zip(axes, strips.items(), strict=True):
        image = _shades(axis, [numbers], "PuOr", -limit, limit, "{:.1f}", fontsize=7 if len(words) > 25 else 8)
        axis.set_xticks(range(len(words)), words, rotation=45, ha="right", fontsize=9)
        axis.set_yticks([])
        axis.set_title(title)
    figure.colorbar(image, ax=axes, label=label)
    return figure


def _shades(axis, values, cmap, low, high, number, texts=None, fontsize=9):
    """imshow with every number written in its cell, in black or white, whichever is readable there."""
    values = [[float(value) for value in row] for row in values]
    image = axis.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    for i, (row, told) in enumerate(zip(values, texts or values, strict=True)):
        for j, (value, text) in enumerate(zip(row, told, strict=True)):
            text = "–" if math.isnan(text) else _signed(number.format(text))
            axis.text(j, i, text, ha="center", va="center", fontsize=fontsize,
                      color=ink(image.cmap(image.norm(value))[:3]) if math.isfinite(value) else "black")
    axis.grid(False)
    return image


def _signed(text):
    """A number as text with a real minus sign, but none before zero."""
    return text.replace("-", "−" if any(digit in text for digit in "123456789") else "")
