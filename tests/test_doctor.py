"""The doctor: one page, plain words, and for each fault the fix."""

import sys
from types import SimpleNamespace

import pytest

from rlhf_lite import files
from rlhf_lite.experiment import doctor

GIB = doctor.GIB


def test_memory_disk_and_writing(tmp_path, monkeypatch):
    assert doctor.memory(32 * GIB, 20 * GIB).ok
    assert doctor.memory(8 * GIB, 4 * GIB).ok is None and "09" in doctor.memory(8 * GIB, 4 * GIB).text
    assert not doctor.memory(4 * GIB, GIB).ok and "close" in doctor.memory(4 * GIB, GIB).fix
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5e8))
    assert not doctor.disk(tmp_path).ok and "make room" in doctor.disk(tmp_path).fix
    assert doctor.writing(tmp_path).ok and str(tmp_path) in doctor.writing(tmp_path).text
    assert not doctor.writing(tmp_path / "missing").ok
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version, good", [((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)])
def test_python(monkeypatch, version, good):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    found = doctor.python()
    assert found.ok is good and bool(found.fix) is not good


def test_widgets(monkeypatch):
    installed = {"ipywidgets": "8.1.9", "jupyterlab_widgets": "3.0.17", "jupyterlab": "4.6.6"}
    monkeypatch.setattr(doctor, "_version", installed.get)
    assert doctor.widgets().ok and "without number keys" in doctor.widgets().text
    installed["jupyterlab_widgets"] = "1.1.0"
    assert doctor.widgets().ok is False and "setup_course.py" in doctor.widgets().fix
    del installed["ipywidgets"]
    assert "missing" in doctor.widgets().text


def test_no_browser_is_no_fault(monkeypatch):
    def none():
        raise doctor.webbrowser.Error("could not locate runnable browser")
    monkeypatch.setattr(doctor.webbrowser, "get", none)
    assert doctor.browser().ok is None and "address" in doctor.browser().fix


def test_the_page_shows_every_fault_with_its_fix(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "MODELS", tmp_path)
    assert doctor.doctor() == 1
    page = capsys.readouterr().out
    assert "broken  There are no shipped models" in page and "-> clone the repository again" in page
    assert "Broken: 1." in page and max(map(len, page.splitlines())) < 200


def test_a_click_is_tested_in_notebooks_only(monkeypatch):
    shown = []
    import IPython.display
    monkeypatch.setattr(IPython.display, "display", shown.append)
    doctor.click_test()
    assert not shown
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: object())
    doctor.click_test()
    button, said = shown[0].children
    button.click()
    assert "Clicks arrive" in said.value
