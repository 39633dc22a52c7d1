"""What a notebook showed, without a kernel: widgets stand still, progress bars disappear, nothing else changes.

The idea: an executed notebook keeps the state of its widgets ({id: {"model_name", "state"}}), and for the stock widgets
that the course uses a picture of that state is a few lines of HTML. Text that was typed or generated is escaped; the
value of an `HTML` widget is HTML already, and the course escapes what it puts there (`rlhf_lite.widgets.parts`).
"""

import base64
import re
from html import escape

STATE, VIEW = "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.widget-view+json"
NOTE = '<p class="still-note">Run the notebook to use this widget.</p>'
DPI = 160  # of the executed notebooks' figures: sharp on fine screens; pages show them as if there were 100
BAR = re.compile(r"\d+%\|.*\|\s*\d|\d+(it|\w+)? \[\d\d:\d\d[,\]]")  # tqdm, with and without a total
CELL = re.compile(r"\S*ipykernel_\d+[/\\]\d+\.py:(\d+)")


def clean(notebook):
    """The executed notebook (as a dict) with outputs that need neither a kernel nor a script; changes it in place."""
    state = notebook["metadata"].pop("widgets", {}).get(STATE, {}).get("state", {})
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"] = [output for old in cell["outputs"] if (output := clean_output(old, state))]
        pictures = [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})]
        if pictures:
            width = max(map(png_width, pictures)) * 100 // DPI
            cell["metadata"]["mystnb"] = {"image": {"width": f"{width}px", "alt": "what the code above draws"}}
    return notebook


def clean_output(output, state):
    """One output without bars and scripts, or None when nothing is left of it."""
    if output["output_type"] == "stream":
        text = without_bars("".join(output["text"]))
        return {**output, "text": text} if text.strip() else None
    if VIEW in output.get("data", {}):
        model = output["data"][VIEW]["model_id"]
        if is_bar(state, model):
            return None
        return {"output_type": "display_data", "metadata": {},
                "data": {"text/html": f'<div class="still">{still(state, model)}{NOTE}</div>'}}
    return output


def without_bars(text):
    """Terminal output as it looks in the end: progress bars gone, rewritten lines in their last state."""
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    kept = [line for line, raw in zip(lines, text.split("\n"), strict=True) if not BAR.search(raw)]
    return CELL.sub(r"line \1 of this cell", "\n".join(kept)) if any(line.strip() for line in kept) else ""


def is_bar(state, model):
    """Is this widget tqdm's: a bar between two labels?"""
    children = [state.get(child, {}).get("model_name") for child in _children(state.get(model, {}).get("state", {}))]
    return children == ["HTMLModel", "FloatProgressModel", "HTMLModel"]


def still(state, model):
    """HTML of a widget as it stands. Kinds of widgets that have no looks here (hotkeys, styles) are left out."""
    kind = state.get(model, {}).get("model_name", "").removesuffix("Model")
    values = state.get(model, {}).get("state", {})
    if state.get(_id(values.get("layout")), {}).get("state", {}).get("display") == "none":
        return ""
    label = escape(values.get("description") or "")
    match kind:
        case "HTML" | "HTMLMath":
            return f"<div>{label} {values['value']}</div>"
        case "Box" | "VBox" | "HBox" | "GridBox":
            inside = "".join(still(state, child) for child in _children(values))
            return f'<div class="still-{"row" if kind == "HBox" else "column"}">{inside}</div>'
        case "Button" | "ToggleButton":
            return _button(values["description"], values.get("value"))
        case "ToggleButtons" | "RadioButtons" | "SelectionSlider" | "Dropdown" | "Select":
            return f"<div>{label} {_options(kind, values)}</div>"
        case "Checkbox":
            return f"<div>{'☑' if values['value'] else '☐'} {label}</div>"
        case "Textarea" | "Text":
            return f'<div>{label}<div class="still-text">{escape(values["value"] or values["placeholder"])}</div></div>'
        case "Label" | "IntText" | "FloatText" | "BoundedIntText" | "BoundedFloatText":
            return f"<div>{label} {escape(str(values['value']))}</div>"
        case "IntProgress" | "FloatProgress":
            return f'<div>{label} <progress value="{values["value"]}" max="{values["max"]}"></progress></div>'
        case "IntSlider" | "FloatSlider":
            return f"<div>{label} {_track(values['value'], values['min'], values['max'])} {values['value']:g}</div>"
        case _:
            return ""


def _options(kind, values):
    """The choices of a widget: all of them where they lie side by side, else the chosen one."""
    labels, chosen = values["_options_labels"], values["index"]
    if kind in ("ToggleButtons", "RadioButtons"):
        return " ".join(_button(text, i == chosen) for i, text in enumerate(labels))
    text = labels[chosen] if chosen is not None else "–"
    if kind == "SelectionSlider":
        return f"{_track(chosen or 0, 0, max(1, len(labels) - 1))} {escape(text)}"
    return _button(f"{text} ▾")


def _button(text, chosen=False):
    return f'<span class="still-button{" still-chosen" if chosen else ""}">{escape(text)}</span>'


def _track(value, low, high):
    share = 100 * (value - low) / ((high - low) or 1)
    return f'<span class="still-track"><span style="left:{share:.0f}%"></span></span>'


def _children(values):
    return [_id(child) for child in values.get("children", [])]


def _id(reference):
    return str(reference).removeprefix("IPY_MODEL_")


def png_width(data):
    """Width in pixels of a PNG in base64."""
    return int.from_bytes(base64.b64decode("".join(data)[:32])[16:20], "big")
