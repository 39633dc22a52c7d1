"""One side of a comparison, as a process: prepares its work, then does it once for every line that it reads.

    python -m benchmarks.worker benchmarks.ours '{"method": "ppo", ...}'

The module's prepare(**arguments) returns a function that does the work once and returns its times. The answers are
lines of JSON on the standard output; whatever else is printed goes to the standard error. It ends when nobody asks any
more.
"""

import importlib
import json
import os
import queue
import sys
import threading
import traceback


def read_lines(lines):
    """Every line into the queue; when the asking program has ended, so do we, whatever we are doing."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def main(module, arguments):
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines = queue.Queue()
    threading.Thread(target=read_lines, args=(lines,), daemon=True).start()

    def answer(content):
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    try:
        work = importlib.import_module(module).prepare(**json.loads(arguments))
        answer({"ready": True})
        while lines.get():
            answer(work())
    except Exception as error:
        traceback.print_exc()
        answer({"error": f"{type(error).__name__}: {error}"[:500]})


if __name__ == "__main__":
    main(*sys.argv[1:])
