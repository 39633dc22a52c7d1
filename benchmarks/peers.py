"""Beside others, on the same work: TRL's trainers, `generate`, nanochat's sampler."""

from functools import partial

from benchmarks.sides import Side, by_turns, environment, ratio
from benchmarks.worlds import world
from rlhf_lite.experiment.measuring import Measurement, Skip

ROUNDS = 5
SHARES = {"1.3m": 90, "6m": 240, "135m": 600, "tiny": 60}  # seconds
AFTER = ("sft", "reward", "dpo", "rloo", "grpo")  # of TRL 1.16; PPO is 1.12's


def trl(job, method, size, equal=False):
    """Ours and TRL's trainer for `method`, by turns."""
    plan = job.settings
    version = "1.12.0" if method.startswith("ppo") else "1.16.0"
    place = plan.environments.get(version)
    found = environment(place, "trl", version) if place else None
    if found is None:
        raise Skip(f"TRL {version} is not in {place or 'any folder given'}; make it with: pip install --target FOLDER "
                   f"trl=={version} requests, and give it as --trl FOLDER.")
    arguments = {"method": method, "world": str(world(size, plan.out)), "threads": plan.threads, "equal": equal}
    return compare(job, {"ours": ("benchmarks.ours", arguments, None), "trl": ("benchmarks.theirs", arguments, found)})


def sampler(job, peer, size, equal=False):
    """Our sampler and another, by turns."""
    place = {"world": str(world(size, job.settings.out)), "threads": job.settings.threads, "equal": equal}
    ours = "ours, one prompt" if peer == "nanochat" else "ours"
    return compare(job, {"ours": ("benchmarks.samplers", place | {"method": ours}, None),
                         peer: ("benchmarks.samplers", place | {"method": peer}, None)})


def compare(job, sides):
    """{name: (module, arguments, environment)} -> times, and how many times as fast as the other ours is."""
    plan = job.settings
    (one, first), (two, second) = (
        (name, Side(module, arguments, plan.out / "logs" / f"{name}.txt", plan.threads, place))
        for name, (module, arguments, place) in sides.items())
    with first, second:
        times = by_turns({one: first, two: second}, 1 if plan.toy else ROUNDS, job)
    return {"times": times, "ratios": {clock: ratio(times, two, one, clock) for clock in ("wall", "cpu")}}


def measurements(sizes):
    found = []
    for size in sizes:
        for equal in (False, True):
            ending = ", equal tokens" if equal else ""
            sampling = ("rloo", "grpo")  # only what samples has answers of its own to end
            methods = ("ppo", "ppo, shared trunk", *(sampling if equal else AFTER))
            found += [Measurement(f"{method}, {size}{ending}", SHARES[size],
                                  partial(trl, method=method, size=size, equal=equal)) for method in methods]
            share = SHARES[size] / (1 if size == "tiny" else 3)
            found += [Measurement(f"sampling beside {peer}, {size}{ending}", share,
                                  partial(sampler, peer=peer, size=size, equal=equal))
                      for peer in ("generate", "nanochat")]
    return found
