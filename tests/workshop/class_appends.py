"""Somebody in a class who ranks in two kernels on one file until the process is killed; used by `soak.py`."""

import threading

from rlhf_lite.widgets import labels
from rlhf_lite.widgets.session import RankingSession


def items(count=40):
    return [{"prompt_id": f"p{i}", "prompt": f"Question {i}?" * 5,
             "responses": [f"answer {i}.{j} " * 10 for j in range(4)]} for i in range(count)]


def append(folder, person, number, say):
    """Two sessions on this person's file rank one half of the items each; say(item) once a ranking is saved."""
    path = labels.default_path(person, folder / "round1")

    def kernel(half):
        session = RankingSession(items(), person, path)
        for place in range(half, 40, 2):
            session.open(place)
            for answer in range(4):
                session.set_rank(answer, (answer + number) % 4 + 1)
            session.submit()
            say(place)

    threads = [threading.Thread(target=kernel, args=(half,)) for half in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
