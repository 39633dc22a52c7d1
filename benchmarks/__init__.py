"""How fast the course is, beside TRL, beside `generate`, and beside what the processor could do.

    python -m rlhf_lite bench            measure what has not been measured yet (runs/bench)
    python -m rlhf_lite bench --check    has anything become slower than data/results/bench.json says?

`bench` has the list of measurements; each is a function in `peers`, `limit`, `growth` or `path`. Two programs are
compared by turns (A B, B A, ...), each in a process of its own (`sides`, `worker`), so that a machine which is busy for
a minute is busy for both.
"""
