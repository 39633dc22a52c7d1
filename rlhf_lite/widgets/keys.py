"""Hotkeys and a warning when the kernel is gone: a small extra on top of widgets that work without it.

Stock widgets cannot take keys safely: in JupyterLab `d d` on a focused stock button deletes the cell, and only
JavaScript can set the attribute that stops it. So this needs anywidget (optional). Without it, and on Colab, where
making an anywidget switches the widget manager for the whole notebook, nothing is made and nothing is said.
"""

import functools
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("keys.js")


@functools.cache
def _capture_class():
    import anywidget
    import traitlets

    class KeyCapture(anywidget.AnyWidget):
        """Sends {"kind": "key" or "ping", "n"} and is answered {"kind": "ack", "n"}. "keys" is a name of Widget's."""

        _esm = SCRIPT
        hotkeys = traitlets.List(traitlets.Unicode()).tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)

    return KeyCapture


def key_capture(hotkeys, on_key, label="", force=False):
    """A widget to be put anywhere inside a `Panel`, or None where hotkeys are not to be had.

    on_key(key) is called for each of ``hotkeys`` (names as in JavaScript's event.key). force: also on Colab.
    """
    if "google.colab" in sys.modules and not force:
        return None
    try:
        capture = _capture_class()(hotkeys=list(hotkeys), label=label)
    except Exception:  # not installed, or one that does not fit: the buttons do everything the keys do
        return None

    def received(widget, content, buffers):
        try:
            if content.get("kind") == "key" and content.get("key") in widget.hotkeys:
                on_key(content["key"])
        finally:  # an error in on_key is no reason to say that Python is gone
            widget.send({"kind": "ack", "n": content.get("n")})

    capture.on_msg(received)
    return capture
