"""The peak of memory in bytes, whatever unit the operating system counts in."""

import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from rlhf_lite.experiment import machine


def test_the_peak_grows_with_what_was_held_and_does_not_shrink():
    before = machine.peak_memory()
    held = np.ones(max(0, before - psutil.Process().memory_info().rss) + 64 * 2**20, dtype=np.uint8)
    during = machine.peak_memory()
    del held
    assert before + 32 * 2**20 < during <= machine.peak_memory() < psutil.virtual_memory().total


def test_windows_is_asked_for_its_own_peak(monkeypatch):
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=1, peak_wset=5 * 2**20))
    monkeypatch.setitem(sys.modules, "resource", None)  # cannot be imported
    assert machine.peak_memory() == 5 * 2**20


@pytest.mark.parametrize("system, unit", [("darwin", 1), ("linux", 1024)])
def test_the_unit_of_the_others(monkeypatch, system, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=1))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3000))
    assert machine.peak_memory() == 3000 * unit
