"""What all the widgets share: escaped text, a status line, callbacks whose errors are visible.

Everything is built from stock ipywidgets that work the same in versions 7.7 and 8, in Lab, Voila, VS Code and Colab: no
Output, Accordion, Tab, Stack or TagsInput. The parts of a widget are made once, and later only their values change:
ipywidgets keeps every widget ever made until it is closed, and a rebuilt button loses the keyboard focus.
"""

import functools
import html
import sys

import ipywidgets as w

from rlhf_lite.plain import told
from rlhf_lite.widgets.language import speaker

# Colours come from Lab's theme if there is one, so that everything is readable in light and dark mode.
CSS = """<style>
.rlhf-root {max-width: 60em}
.rlhf-root:focus {outline: none}
.rlhf-root :focus-visible {outline: 3px solid var(--jp-brand-color1, #0072B2) !important; outline-offset: 1px}
.rlhf-root .widget-html-content {line-height: 1.45}
.rlhf-root .widget-box {overflow: visible}
.rlhf-root .widget-hprogress {height: 1.45em}
.rlhf-root .rlhf-name {font-weight: 700; font-size: 1.15em; margin: .3em 0}
.rlhf-text {white-space: pre-wrap; overflow-wrap: anywhere; padding: .4em .7em;
            border-left: 4px solid #999; margin: 0; max-height: 30em; overflow-y: auto}
.rlhf-prompt {border-left-color: var(--jp-brand-color1, #0072B2); font-weight: 600}
.rlhf-problem {background: #A00000; color: #fff; padding: .3em .7em}
.rlhf-root .rlhf-wrap, .rlhf-root .widget-toggle-buttons {flex-wrap: wrap; width: auto; height: auto}
.rlhf-root .widget-toggle-buttons {display: flex; align-items: baseline}
.rlhf-root :is(.widget-toggle-buttons, .widget-textarea) > .widget-label {width: 4.2em; text-align: left}
.rlhf-root .widget-toggle-buttons > div {flex: 1 1 15em}
.rlhf-root .rlhf-wrap > .widget-html {flex: 0 1 auto; margin-right: .8em}
.rlhf-root button {width: auto; height: auto; min-height: 28px; white-space: normal; line-height: 1.3}
.rlhf-root .widget-toggle-buttons button {min-width: 2.6em; max-width: 12em; margin-bottom: 3px}
.rlhf-root .rlhf-heard {position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)}
.rlhf-root .mod-active {font-weight: 700; text-decoration: underline}
.rlhf-root :is(td, th) {padding: .1em .6em .1em 0}
</style>"""
LONG = 1500  # characters above which a text gets a scroll box that the keyboard can enter


def escape(text):
    """Text by models and people as HTML that only displays it."""
    return html.escape(str(text), quote=True)


def text_html(text, kind="", body=None):
    """A whole text, never cut; an empty one is marked as empty. body: the same text as HTML, for example with marks."""
    focus = ' tabindex="0"' if len(text) > LONG else ""
    body = (body or escape(text)) if text.strip() else f'<i>{escape(speaker()("empty"))}</i>'
    return f'<div class="rlhf-text {kind}"{focus}>{body}</div>'


def row(*children):
    """Parts side by side, wrapping if the page is narrow or magnified."""
    box = w.HBox(children, layout=w.Layout(flex_flow="row wrap"))
    box.add_class("rlhf-wrap")
    return box


def show(widget, visible):
    """Show or hide a widget without removing it from the page."""
    widget.layout.display = None if visible else "none"


def button(label, tip="", style=""):
    return w.Button(description=label, tooltip=tip, button_style=style,
                    layout=w.Layout(width="auto", align_self="flex-start"))  # not as wide as the page


_pages = {}  # place -> (run of the cell, the open panels); a page that was replaced would stay in memory for ever


def running_cell():
    """(the notebook cell that is running, this run of it), or None outside JupyterLab."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    parent = shell.kernel.get_parent() if getattr(shell, "kernel", None) is not None else {}
    cell = parent.get("metadata", {}).get("cellId")
    return (cell, parent["header"]["msg_id"]) if cell else None


class Panel(w.VBox):
    """A box with a status line that says what happened, especially when something went wrong.

    A cell that runs again closes the pages that its earlier run has made. Where cells are not known (outside
    JupyterLab), a new page closes the earlier one about the same `place`, for example a person's file.
    """

    def __init__(self, name, place=None):
        self.status = w.HTML()
        self.status.add_class("rlhf-status")
        self._style = w.HTML(CSS + f'<div role="note" class="rlhf-name">{escape(name)}</div>')
        self._loading = False
        self.hotkeys = None  # not `keys`, a name that Widget already uses
        self.text = getattr(self, "text", None) or speaker()
        super().__init__()
        self.add_class("rlhf-root")
        self._close_earlier((type(self).__name__, place))

    def _close_earlier(self, place):
        here = running_cell() or ((place, None) if place[1] is not None else None)
        if here is not None:
            run, panels = _pages.get(here[0], (None, []))
            if here[1] is None or run != here[1]:
                for panel in panels:
                    panel.close()
                panels = []
            _pages[here[0]] = here[1], [*panels, self]

    def close(self):
        """Close the page and all its parts, and let go of them: `Out` may keep the page itself."""
        for part in list(_parts(self, {})):
            w.Widget.close(part)
        self.children = ()
        for name in [name for name in vars(self) if not name.startswith("_") and name != "session"]:
            delattr(self, name)

    def say(self, text, seen=True):
        """Replace the status line; screen readers speak it. seen: False if only they should."""
        kind = "" if seen else ' class="rlhf-heard"'
        self.status.value = f'<div role="status" aria-live="polite"{kind}>{escape(text)}</div>'

    def warn(self, error):
        """Say what went wrong, marked with a sign and a word, not by colour alone."""
        self.status.value = (f'<div role="alert" class="rlhf-problem"><b>&#9888; {escape(self.text("problem"))}</b> '
                             f'{escape(told(error))}</div>')

    def to_top(self):
        """Scroll to the start of the page for the next item; without hotkeys, the page stays where it is."""
        if self.hotkeys is not None:
            self.hotkeys.send({"kind": "top"})

    def safe(self, function):
        """The callback with its errors shown in the status line: in a notebook, nobody would see them otherwise."""
        @functools.wraps(function)
        def guarded(*arguments, **options):
            try:
                return function(*arguments, **options)
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # whatever it was, the page stays usable
                self.warn(error)
        return guarded

    def on_click(self, button, function):
        """Call function() on a click."""
        button.on_click(self.safe(lambda _: function()))

    def on_value(self, widget, function):
        """Call function(value) when a person changes the value, not when the program does."""
        def changed(change):
            if not self._loading:
                function(change["new"])
        widget.observe(self.safe(changed), "value")

    def load(self, values):
        """Set the values of widgets, given as (widget, value) pairs, without triggering callbacks."""
        self._loading = True
        try:
            for widget, value in values:
                if widget.value != value:
                    widget.value = value
        finally:
            self._loading = False


def _parts(widget, seen):
    """A widget and every widget in its traits and attributes (children, layouts, styles), each once."""
    if id(widget) not in seen:
        seen[id(widget)] = widget
        for value in [*widget._trait_values.values(), *vars(widget).values()]:
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(part, w.Widget):
                    _parts(part, seen)
    return seen.values()
