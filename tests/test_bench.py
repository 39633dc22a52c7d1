"""The benchmarks at toy size: every kind of measurement runs, is recorded, resumed, shown and checked."""

import copy
import json
import subprocess
import sys
import time

import pytest

from rlhf_lite import __main__ as cli
from rlhf_lite import files

sys.path.insert(0, str(files.DATA.parent))
from benchmarks import bench, growth, limit, page, record, sides  # noqa: E402

CHOSEN = ["sampling beside nanochat, tiny", "ppo, tiny", "limit", "growth, rankings", "notebooks"]


def run(*arguments):
    return cli.main(["bench", "--toy", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    assert run("--out", out, "--minutes", 60, "--only", *CHOSEN) == 0
    return out


def test_every_kind_is_measured(made):
    found = record.read(made / "bench.json")["measurements"]
    assert found["ppo, tiny"]["status"] == "skipped" and "pip install" in found["ppo, tiny"]["why"]  # no TRL given
    times = found["sampling beside nanochat, tiny"]["times"]
    assert set(times) == {"ours", "nanochat"} and len(times["ours"]) == len(times["nanochat"]) == 1
    assert set(found["limit, tiny"]["ratios"]) == {"sampling", "scoring", "update"}
    assert len(found["growth, rankings"]["points"]) == 2
    assert found["make run"]["status"] == "not yet run"


def test_what_is_done_is_not_measured_again(made, capsys):
    before = (made / "bench.json").read_bytes()
    started = time.monotonic()
    assert run("--out", made, "--only", "growth, rankings", "notebooks") == 0
    assert time.monotonic() - started < 20 and (made / "bench.json").read_bytes() == before
    said = capsys.readouterr().out
    assert "| growth" not in said and "| rankings |" in said and "### Not measured" in said


def test_a_fallen_ratio_fails_the_check(made):
    before = record.read(made / "bench.json")
    now = copy.deepcopy(before)
    assert record.slower(before, now) == []
    now["measurements"]["sampling beside nanochat, tiny"]["ratios"]["cpu"]["value"] *= 0.79
    now["measurements"]["limit, tiny"]["ratios"]["update"]["value"] *= 0.81
    (said,) = record.slower(before, now)
    assert "nanochat" in said


@pytest.mark.parametrize("arguments, said", [
    (["--only", "nothing like it"], "choose from: first answer"), (["--threads", "2", "--only", "limit"], "--out"),
    (["--check", "--against", "nowhere.json"], "missing")])
def test_clear_words(made, arguments, said, capsys):
    assert run("--out", made, *arguments) == 1
    assert said in capsys.readouterr().err


def test_numbers_go_between_the_marks(made, tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("docs/speed.md", "README.md"):
        (tmp_path / name).write_text(f"before\n{page.BEGIN}\nyesterday\n{page.END}\nafter\n", encoding="utf-8")
    page.write(record.read(made / "bench.json"), tmp_path)
    text = (tmp_path / "docs/speed.md").read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "yesterday" not in text and "nanochat" in text


def test_an_environment_is_a_folder_with_that_version(tmp_path):
    assert sides.environment(tmp_path, "trl", "1.12.0") is None
    (tmp_path / "trl-1.12.0.dist-info").mkdir()
    assert sides.environment(tmp_path, "trl", "1.12.0") == (sys.executable, [tmp_path])
    assert bench.find_trl([tmp_path]) == {"1.12.0": tmp_path}


def test_a_worker_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="TypeError"):
        with sides.Side("benchmarks.ours", {"nothing": 1}, tmp_path / "log.txt"):
            pass


def test_a_worker_ends_when_nobody_asks_any_more():
    arguments = json.dumps(growth.START | {"method": "ppo"})
    done = subprocess.run([sys.executable, "-m", "benchmarks.worker", "benchmarks.growth", arguments], input="",
                          cwd=files.DATA.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout in ("", '{"ready": true}\n')


def test_slopes_and_floors():
    assert growth.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    policy = limit.models.new_policy("tiny", 0)
    one, two = (limit.operations(policy, answers, 6) for answers in (4, 8))
    assert all(two[name] == 2 * one[name] for name in one) and one["update"] > one["scoring"] > one["sampling"]
