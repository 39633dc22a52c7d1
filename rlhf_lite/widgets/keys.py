"""Hotkeys, clicks on cards, names for screen readers, and a warning when the kernel is gone: a small extra for widgets
that also work without it.

Stock widgets cannot take keys safely: in JupyterLab, `d d` on a focused stock button deletes the cell, and only
JavaScript can set the attribute that prevents it. So this needs anywidget (optional). Without it, and on Colab, where
making an anywidget switches the widget manager for the whole notebook, this silently does nothing.
"""

import functools
import sys
import threading
from pathlib import Path

from rlhf_lite.widgets.language import speaker

CLICKS = ("pick", "tie", "select")
SCRIPT = Path(__file__).with_name("keys.js")


@functools.cache
def _capture_class():
    import anywidget
    import traitlets

    class KeyCapture(anywidget.AnyWidget):
        """Sends {"kind": "key", "card" or "ping", "n"}; the answer is {"kind": "ack", "n"}. (Widget has "keys".)"""

        _esm = SCRIPT
        hotkeys = traitlets.List(traitlets.Unicode()).tag(sync=True)
        label, progress = traitlets.Unicode().tag(sync=True), traitlets.Unicode().tag(sync=True)
        lost = traitlets.Dict().tag(sync=True)

    return KeyCapture


def key_capture(hotkeys, on_key, label="", force=False, on_card=None, lost=None, progress=""):
    """A widget to put anywhere inside a `Panel`, or None if hotkeys are not available.

    on_key(key) is called for each of ``hotkeys`` (named as in JavaScript's event.key). force: even on Colab.
    on_card(kind, place, start, end) is called for clicks on cards. label, progress: names for screen readers.
    lost: the warnings {"restart", "busy"} in another language.
    """
    if "google.colab" in sys.modules and not force:
        return None
    try:
        lost = lost or {name: speaker()(f"lost.{name}") for name in ("restart", "busy")}
        capture = _capture_class()(hotkeys=list(hotkeys), label=label, lost=lost, progress=progress)
    except Exception:  # not installed, or an incompatible version: the buttons do everything the keys do
        return None

    def handle(content):
        try:
            if content.get("kind") == "key" and content.get("key") in capture.hotkeys:
                on_key(content["key"])
            elif content.get("kind") == "card" and on_card is not None and content.get("what") in CLICKS:
                on_card(content["what"], *(content.get(name) for name in ("place", "start", "end")))
        finally:  # an error in on_key does not mean that Python is gone
            capture.send({"kind": "ack", "n": content.get("n")})

    arrived = in_order(handle)
    capture.on_msg(lambda widget, content, buffers: arrived(content))
    return capture


def in_order(handle, patience=8):
    """A function that takes messages {"view", "n": 1, 2, ...} as they arrive and passes them on one by one, in order.

    JupyterLab 4.4 and later sends messages to a second thread of the kernel as soon as there is one, so if keys are
    pressed in quick succession, a later one may arrive first. A message that never comes is given up once more than
    ``patience`` others are waiting for it. Messages without a view are passed on at once.
    """
    lock, following, waiting = threading.RLock(), {}, {}

    def arrived(content):
        with lock:
            if "view" not in content:
                handle(content)
                return
            view = content["view"]  # every view of a widget has its own count
            held = waiting.setdefault(view, {})
            held[content["n"]] = content
            while held and (min(held) <= following.get(view, 1) or len(held) > patience):
                n = min(held)
                following[view] = max(following.get(view, 1), n + 1)
                handle(held.pop(n))

    return arrived
