"""Every test runs without the network: a test that reaches out fails with one clear sentence."""

import ipaddress
import os
import socket

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1",
                  HF_HUB_DISABLE_TELEMETRY="1", RLHF_LITE_NO_NETWORK="1")  # inherited by child processes
os.environ.setdefault("MPLBACKEND", "Agg")

import jaxtyping  # noqa: E402  (after the switches above, which libraries read when imported)
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

# Here, and only here, the shapes in signatures (`Float[Tensor, "batch response"]`) are checked at every call.
SHAPED = ("dpo", "ppo_math", "pretrain", "reward", "rloo", "sampling", "sft")
jaxtyping.install_import_hook([f"rlhf_lite.{module}" for module in SHAPED], "beartype.beartype")

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))

LONG = ("test_learning.py", "test_learning_reward.py", "test_run.py", "test_hub.py")


def pytest_collection_modifyitems(items):
    """Long files first: with several processes none of them is left for the end, when the others have nothing to do."""
    items.sort(key=lambda item: item.path.name not in LONG)


def _check_local(host):
    """Jupyter kernels talk over the loopback; anything else is the outside world."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return
    try:
        address = ipaddress.ip_address(str(name).split("%")[0])
    except ValueError:
        address = None
    if address is None or not (address.is_loopback or address.is_unspecified):
        raise OSError(f"a test tried to reach {name} over the network; tests must work offline")


def _guard_address(original):
    def guarded(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check_local(arguments[-1][0])  # the address is the last argument of all three
        return original(self, *arguments)
    return guarded


def _guard_lookup(original):
    def guarded(host, *arguments, **options):
        _check_local(host)
        return original(host, *arguments, **options)
    return guarded


for _name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, _name, _guard_address(getattr(socket.socket, _name)))
for _name in ("getaddrinfo", "gethostbyname"):
    setattr(socket, _name, _guard_lookup(getattr(socket, _name)))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
