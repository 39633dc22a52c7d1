"""Tables for a notebook: plain text in, HTML out. Everything that a model or a person wrote is escaped."""

from html import escape

LEFT = "text-align: left; vertical-align: top; white-space: pre-wrap"  # JupyterLab would align to the right


def table(head, rows):
    """Rows of texts and numbers -> an IPython HTML object; lines break where a text has a newline."""
    from IPython.display import HTML  # only here: a run and its report draw without IPython
    lines = ["".join(f'<th style="{LEFT}">{escape(str(cell))}</th>' for cell in head)]
    lines += ["".join(f'<td style="{LEFT}">{escape(str(cell))}</td>' for cell in row) for row in rows]
    return HTML('<table class="mathjax_ignore">' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>")


def answers(written, prompts, number=None):
    """What several models wrote to the same prompts, side by side: {name: answer rows} -> an IPython HTML object.

    An answer row has "response" and "grade" (`experiment.answers.answer_rows`). number: how many prompts to show.
    """
    rows = [(prompt, *(f"{found[place]['response']}\n({found[place]['grade'].overall} of 7)"
                       for found in written.values())) for place, prompt in enumerate(prompts[:number])]
    return table(("", *written), rows)
