"""The page on which a class ranks: your name first, then the prompts, and a receipt to keep.

    from rlhf_lite.workshop.class_door import Door
    Door("class_folder")                                   # in any notebook; or in a browser: `class page`

The idea: one page for everybody. Each visitor has a kernel of their own and types a name; the name is the file. Whoever
comes back types it again and goes on where they were.
"""

import socket
import string
from pathlib import Path
from secrets import choice

import ipywidgets as w

from rlhf_lite.widgets import labels, names, serve
from rlhf_lite.widgets.parts import Panel, button, row
from rlhf_lite.widgets.ranking import RankingWidget
from rlhf_lite.widgets.session import RankingSession
from rlhf_lite.workshop import class_folder

LETTERS = "".join(sorted({*string.ascii_lowercase} - {*"ilo"}))  # a token to be typed on a phone: 23^12 of them


class Door(Panel):
    """Asks for a name, then shows the ranking page of the round that is open."""

    def __init__(self, folder):
        self.folder, self.session, self._asked = Path(folder), None, ""
        super().__init__("A class round", (str(folder), "door"))
        self.name = w.Text(description="Your name", placeholder="Ada L")
        self.enter, self.receipt = button("Start ranking", style="primary"), button("My receipt")
        self.on_click(self.enter, self.do_enter)
        self.on_click(self.receipt, self.do_receipt)
        self.children = [self._style, row(self.name, self.enter), self.status]
        self.say("Type your first name and initial. Use the same name if you come back.")

    def do_enter(self):
        """Open this person's file; ask once more if the name is taken, because two Adas would share it."""
        name = names.checked(self.name.value)
        self.session = enter(self.folder, name)
        done = self.session.progress().ranked
        if done and self._asked != name:
            self._asked = name
            return self.say(f"{name} has ranked {done} here already. If that is you, press again; if not, add a letter "
                            "to your name.")
        self.children = [self._style, RankingWidget(self.session), row(self.receipt), self.status]
        self.say(f"You are {name}.")

    def do_receipt(self):
        """Show the code that the instructor's table must show beside this name."""
        rows = self.session.rankings()
        self.say(f"{self.session.annotator}: {len(class_folder.first_time(rows))} prompts ranked, receipt "
                 f"{class_folder.receipt(rows)}. Keep it: the table on the screen must show the same.")


def enter(folder, name):
    """This person's RankingSession in the round that is open."""
    number = class_folder.open_round(folder)
    path = labels.default_path(name, Path(folder) / f"round{number}")
    labels.check_owner(path, labels.read_labels(path)[0], name)
    repeats = class_folder.REPEATS if number == 1 else 0
    return RankingSession(class_folder.items(folder, number), name, path, repeats=repeats)


def cell(folder):
    """The notebook cell that shows the page."""
    return f"from rlhf_lite.workshop.class_door import Door\nDoor({str(Path(folder).resolve())!r})"


def token():
    """Three groups of four letters, which a phone can type: 54 bits."""
    return "-".join("".join(choice(LETTERS) for _ in range(4)) for _ in range(3))


def page(folder, port=8866, others=False):
    """Serve the page until Ctrl-C."""
    class_folder.items(folder)  # a fault shows here, not on thirty phones
    if others:
        print(f"This machine is {address()} in its network. Whoever is in the same network and has the token can rank.")
    return serve.serve_cell(cell(folder), Path(folder) / f"round{class_folder.open_round(folder)}", port, others,
                            token())


def address():
    """This machine's address in the local network. Nothing is sent: connecting a UDP socket only chooses the route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
