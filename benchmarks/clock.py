"""The two clocks. Nothing of ours is imported here: another program's environment reads this file too."""

import time


def timed(function):
    """Call it -> {"wall", "cpu"}: seconds on the clock, and seconds of the processor (all threads of this process)."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
