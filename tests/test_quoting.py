"""What a person or a file says stays data: nothing of it runs in launch.sh, in make, or in a command to be pasted."""

import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_lite import __main__ as cli
from rlhf_lite.experiment import run_files
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.ppo import PPOConfig
from rlhf_lite.real import engine_flags, export

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"
EVIL = "0.9\ntouch PWNED\n#"
RECIPE = run_files.settings(default_recipe())
FIELDS = [name for name in RECIPE if name not in ("ppo", "temperatures")] + [f"ppo.{name}" for name in RECIPE["ppo"]]


def with_evil(field):
    recipe = json.loads(json.dumps(RECIPE))
    place = recipe["ppo"] if field.startswith("ppo.") else recipe
    place[field.removeprefix("ppo.")] = EVIL
    return recipe


@pytest.mark.parametrize("field", FIELDS)
def test_a_recipe_cannot_bring_commands(field, tmp_path):
    """Every field, through the function and through the command."""
    with pytest.raises(ValueError, match=field):
        engine_flags.settings(with_evil(field))
    (tmp_path / "recipe.json").write_text(json.dumps(with_evil(field)))
    with pytest.raises(ValueError, match=f"recipe.json is damaged .*{field}"):
        export.export(tmp_path, tmp_path / "out", "trl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", engine_flags.ENGINES)
def test_settings_of_another_type_are_not_written(engine):
    found = engine_flags.settings()
    for config in (replace(PPOConfig(), ema_decay=EVIL), replace(PPOConfig(), lam=float("nan")),
                   replace(PPOConfig(), ptx_coef=-1.0), replace(PPOConfig(), critic_lr=[1])):
        with pytest.raises(ValueError, match="The settings for ppo do not fit"):
            engine_flags.script(engine, found | {"ppo": config}, {"base", "sft", "reward"}, 320)


def test_a_comment_is_one_line(monkeypatch):
    table = [("sft", set(), ["a\ntouch PWNED\r\nb"], ["trl", "a\nb"])]
    monkeypatch.setitem(engine_flags.TABLES, "trl", lambda *_: table)
    script = engine_flags.script("trl", engine_flags.settings(), {"sft"}, 320)
    assert "# a touch PWNED b\n" in script and "'a\nb'" in script


def test_commands_to_paste_quote_names():
    said = run_files.command("run", *run_files.dials(RECIPE, "a; touch PWNED"))
    assert shlex.split(said) == ["python", "-m", "rlhf_lite", "run", "--size", "1.3m", "--seed", "0", "--name",
                                 "a; touch PWNED"]
    fast = run_files.settings(default_recipe("1.3m", 3, fast=True))
    assert run_files.dials(fast) == ["--size", "1.3m", "--seed", 3, "--fast"]
    for words in (said, run_files.command("run", *run_files.dials(fast, "x"))):
        cli.parser().parse_args(shlex.split(words)[3:])


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("name", ["a; touch PWNED", "it's", "$(shell touch PWNED)", "`touch PWNED`", "$(touch PWNED)",
                                  "a b", "x\" && touch PWNED #", "--force", "$$HOME"])
def test_make_passes_names_on_as_they_are(name, tmp_path):
    """With a Python that prints its arguments."""
    shutil.copy(MAKEFILE, tmp_path)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(["make", "-s", "run", f"PYTHON={python}", f"NAME={name}", "FAST=1", "SIZE=6m"], cwd=tmp_path,
                          text=True, capture_output=True, check=True)
    assert done.stdout.rstrip("\0").split("\0")[1:] == ["run", "--fast", "--size", "6m", f"--name={name}"]
    assert not (tmp_path / "PWNED").exists()
    if name.startswith("--"):
        with pytest.raises(SystemExit):
            cli.parser().parse_args(["run", f"--name={name}"])


@pytest.mark.parametrize("error, says", [
    (ImportError("The package gguf is missing; run `pip install gguf`."), "pip install gguf"),
    (MemoryError(), "not enough memory"), (MemoryError("needs 80 GiB; choose another."), "needs 80 GiB"),
    (RecursionError("too deep"), "too deep")])
def test_errors_of_commands_are_one_sentence(error, says, monkeypatch, capsys):
    def fails(arguments):
        raise error
    monkeypatch.setitem(cli.COMMANDS, "doctor", fails)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().err
    assert says in said and said.startswith("error: ") and said.count("\n") == 1
