"""Damage to every field of every JSON file that we write: each case is refused in one sentence with the file's name.

The cases are made from the schemas: every field is left out, of another type, out of range and huge; and every file as
a whole is an empty list, a text, a number, nothing, cut, not UTF-8, NaN, 100,000 brackets. See `cases`.
"""

import copy
import json
import types
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from rlhf_lite import checkpoints, feedback, files, schemas
from rlhf_lite.exercises import lesson
from rlhf_lite.experiment import formats, run_files
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.town import labelers

WHOLE = {"a list": b"[]", "a text": b'"x"', "a number": b"5", "null": b"null", "an object": b"{}", "NaN": b"NaN",
         "infinity": b"1e999", "10^400": b"1" + b"0" * 400, "brackets": b"[" * 100_000, "empty": b"",
         "not UTF-8": b'{"\xff": 1}', "zeros": b"\0" * 50, "a comment": b"// {}", "two": b"{}{}"}
ODD = {"a text": "x\nrm -rf /", "a number": 5.5, "a list": [[]], "an object": {"\x1b[2J": 1}, "null": None,
       "a truth": True}


def interval(value=0.5):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 12}


CLAIM = {"id": 4, "claim": "PPO over SFT", "paper": "1.3B", "target": "> 50 %", "ours": 0.5, "low": 0.4, "high": 0.6,
         "n": 300, "seeds": 3, "met": True, "unit": "share", "parts": [{"name": "ppo over sft", **interval()}],
         "note": "said"}
REWARD = {"accuracy": interval(), "pairs": 90, "length_only": interval(), "heldout_team": interval(),
          "bayes_ceiling": 0.8, "by_use_case": {"chat": interval()}, "ece": 0.03,
          "accuracy_by_prompt": {"p0-1": 0.5}, "heldout_by_prompt": {"p0-1": 0.5},
          "calibration": [{"predicted": 0.6, "observed": 0.5, "n": 11}]}
GATE = {"n": [1, 2], "kl": [0.0, 0.2], "proxy": [0.1, 0.7], "rm": [interval()] * 2, "oracle": [interval()] * 2,
        "true": [[0.1, 0.5]] * 2, "gain_at_8": interval(), "open": True}
TAX = {"web_loss": interval(2.3), "reading": interval()}
HEAT = {"curve": [{"temperature": 0.3, **interval()}], "best": 0.3}
SWEEP = {"iterations": 60, "score": interval(), "scores": [0.5], "fresh_scores": [0.5], "proxy": 0.7, "kl": 4.5}
WIN = {"a": "ppo", "b": "sft", "judge": "simulated", **interval()}
AMOUNTS = {"sft": 0.9}
RESULTS = {"name": "first", "size": "1.3m", "seeds": [0], "device": "cpu", "versions": {"torch": "2"},
           "created": "2026-01-01", "minutes": AMOUNTS, "peak_memory_gib": {"cpu_gib": 1.0},
           "stages": {"sft": {"score": interval()}}, "win_rates": [WIN], "win_rates_at_best": [WIN],
           "temperatures": {"sft": HEAT}, "use_cases": {"sft": {"chat": interval()}},
           "reward": REWARD, "gate": GATE, "tax": {"sft": TAX}, "by_size": {"1.3m": {"ppo": WIN}}, "headline": [CLAIM]}
HEADLINE = {"headline": [CLAIM], "created": "2026-01-01", "versions": {"torch": "2"}, "size": "1.3m", "seeds": [0],
            "other_sizes": {"6m": [0]}, "device": "cpu", "minutes": [AMOUNTS], "peak_memory_gib": [AMOUNTS],
            "stages": {"sft": {"score": interval()}}, "command": "python -m rlhf_lite results runs/x"}
CARD = {"kind": "policy", "parameters": 100, "dtype": "float32", "sha256": "0" * 64, "config_sha256": "1" * 64,
        "stage": "sft", "size": "1.3m", "seed": 0, "tokens": 5, "valid_loss": 2.1, "kl": 4.5, "iterations": 60}
TIMES = {"notebooks": {"04": {"file": "04.ipynb", "minutes": 0.4, "memory_gib": 0.7, "cpu_minutes": 0.3, "threads": 1,
                              "date": "2026-01-01"}}}
MARKS = {"4.2": {"mark": "✅", "tries": 2, "when": "2026-01-01T00:00:00+00:00"}}
STUDIES = {"kl_sweep": [{"kl_coef": 0.1, **SWEEP}], "ptx_sweep": [{"ptx_coef": 0.3, "web_loss": 2.5, **SWEEP}],
           "sft_arms": {"sft": {"temperature": HEAT, "score_at_best": interval(), "tax": TAX, "ppo_preferred": WIN}},
           "pairs": {"kwise": [0.6], "kwise_loss": [0.6], "shuffled": [0.6], "shuffled_loss": [0.6]},
           "overoptimisation": {"bon": [{"d": 0.1, "gold": 0.2, "proxy": 0.3}], "fit_bon": {"alpha": 0.4},
                                "rl": [{"d": 0.1, "gold": 0.2, "proxy": 0.3}], "fit_rl": None},
           "one_round": {"rankings": {"one": 5, "two": 6}, "one": {"kl": 0.5}, "two": {"score": interval()},
                         "gain": interval()}}
ANSWER = {"stage": "ppo", "set": "mixed", "prompt_id": "p0-1", "use_case": "chat", "task": "sign", "prompt": "Hello?",
          "response": "", "token_ids": [5, 2], "finished": True, "overall": 4, "score": 0.4, "reasons": ["long"]}
RANKING = feedback.new_ranking("p0-1", "Hello?", [{"text": t, "source": "sft", "token_ids": [5, 2]} for t in "ab"],
                               [1, 2], "simulated:Tess", use_case="chat", split="train", true_scores=[0.1, 0.2])


def recorded(path):
    found = lesson.recorded("04", path)
    if found is None:
        raise ValueError(f"{path} is left out")
    return found


# file -> (its content, its schema, how the program reads it)
FORMATS = {
    "recipe.json": (run_files.settings(default_recipe()), formats.recipe_schema(),
                    lambda path: run_files.read_recipe(path.parent)),
    "reward.json": (REWARD, formats.Reward, run_files.read), "gate.json": (GATE, formats.Gate, run_files.read),
    "measured/sft.json": ({"tax": TAX, "kl": interval(), "temperature": HEAT}, formats.measured_schema("sft"),
                          run_files.read),
    "measured/base.json": ({"tax": TAX, "temperature": HEAT}, formats.measured_schema("base"), run_files.read),
    "sft/history.json": ([{"epoch": 1, "valid_loss": 2.1}], schemas.History, run_files.read),
    "minutes.json": (AMOUNTS, formats.Amounts, run_files.read),
    "results.json": (RESULTS, formats.Results, run_files.read),
    "headline.json": (HEADLINE, formats.Headline, lambda path: schemas.read(path, formats.Headline)),
    **{f"studies/{name}.json": (made, formats.STUDIES[name], run_files.read) for name, made in STUDIES.items()},
    "card.json": (CARD, schemas.Card, lambda path: checkpoints.load_card(path.parent)),
    "notebooks.json": (TIMES, schemas.Times, recorded),
    "my_progress.json": (MARKS, schemas.Progress, lambda path: schemas.read(path, schemas.Progress)),
    "labelers.json": (json.loads(labelers.NOISE_FILE.read_text()), dict[Literal["training"], dict[
        Literal["noise"], dict[Literal["Tess"], schemas.Positive]]], labelers.training_team),
    "answers/ppo.jsonl": (ANSWER, formats.Answer,
                          lambda path: feedback.read_jsonl(path, run_files.check_answer, strict=True)),
    "rankings-1-train.jsonl": (RANKING, formats.Ranking,
                               lambda path: feedback.read_jsonl(path, run_files.check_ranking, strict=True)),
}


# ---------------------------------------------------------------- cases

def bare(hint):
    """A type without Annotated and NotRequired around it."""
    while get_origin(hint) in (Annotated, NotRequired):
        hint = get_args(hint)[0]
    return hint


def members(hint):
    hint = bare(hint)
    return [bare(part) for part in get_args(hint)] if get_origin(hint) in (Union, types.UnionType) else [hint]


def cases(hint, content, path=()):
    """(path of a field, what is done to it, new value, or ... for none), for every field of `content`."""
    kinds = members(hint)
    if Any in kinds:
        return
    if path:
        yield from leaf(hint, kinds, content, path)
    for kind in kinds:
        if is_typeddict(kind) and isinstance(content, dict):
            hints = get_type_hints(kind, include_extras=True)
            for key in content:
                if key in kind.__required_keys__:
                    yield (*path, key), "missing", ...
                if key in hints:
                    yield from cases(hints[key], content[key], (*path, key))
        elif get_origin(kind) is dict and isinstance(content, dict) and content:
            keys, value = get_args(kind)
            key = next(key for key in content if get_origin(keys) is not Literal or key in get_args(keys))
            if get_origin(keys) is Literal:
                yield (*path, key), "another name", "renamed"
            yield from cases(value, content[key], (*path, key))
        elif get_origin(kind) is list and isinstance(content, list) and content:
            yield from cases(get_args(kind)[0], content[0], (*path, 0))


def leaf(hint, kinds, content, path):
    takes = {str: "a text", bool: "a truth", float: "a number", type(None): "null"}
    good = {takes.get(kind) for kind in kinds} | {"an object" for kind in kinds if is_typeddict(kind)}
    nested = [bare(get_args(kind)[-1]) for kind in kinds if get_origin(kind) in (list, dict)]
    good |= {"a list", "an object"} if any(kind is Any or get_origin(kind) for kind in nested) else set()
    for name, value in ODD.items():
        if name not in good - ({"an object"} if any(map(is_typeddict, kinds)) else set()):
            yield path, f"is {name}", value
    if float in kinds or int in kinds:
        for value in (10**400, -10**400, 1e300, float("nan"), float("inf")):
            yield path, f"is {str(value)[:6]}", value
        if isinstance(content, (int, float)) and not isinstance(content, bool):
            text = str(hint)
            if "ge=0" in text or "ge=1" in text or "gt=0" in text:
                yield path, "is -1", -1
            if "le=1)" in text:
                yield path, "is 2", 2
    if str in kinds and "max_length" in str(hint):
        yield path, "is 1 MB", "x" * 10**6
    if any(get_origin(kind) is Literal for kind in kinds):
        yield path, "is another word", "another"


def with_change(content, path, value):
    content = copy.deepcopy(content)
    *outer, last = path
    place = content
    for key in outer:
        place = place[key]
    if value is ...:
        del place[last]
    elif value == "renamed":
        place["another"] = place.pop(last)
    else:
        place[last] = value
    return content


def damaged():
    for name, (content, schema, _) in FORMATS.items():
        for path, what, value in cases(schema, content):
            yield pytest.param(name, with_change(content, path, value), id=f"{name}:{'.'.join(map(str, path))} {what}")
        for what, text in WHOLE.items():
            if not (what == "an object" and name in ("minutes.json", "my_progress.json")):
                yield pytest.param(name, text, id=f"{name} is {what}")
        half = json.dumps(content).encode()
        yield pytest.param(name, half[:len(half) // 2], id=f"{name} is cut")


DAMAGED = list(damaged())


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_there_are_many_cases():
    assert len(DAMAGED) >= 400


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_whole_is_read(name, tmp_path):
    content, _, reader = FORMATS[name]
    reader(put(tmp_path, name, content))


def test_damage_is_refused_in_one_sentence(tmp_path):
    """All cases in one test: as a test each, they would take ten times as long."""
    accepted, odd = [], []
    for case in DAMAGED:
        name, content = case.values
        path = put(tmp_path, name, content)
        try:
            FORMATS[name][2](path)
            if path.suffix != ".jsonl" or path.read_bytes().strip():  # an empty table has no bad row
                accepted.append(case.id)
        except (ValueError, OSError) as error:
            text = str(error)
            if path.name not in text or len(text) > 700 or text.count("\n") or not text.isprintable():
                odd.append((case.id, text[:300]))
    assert not accepted, accepted
    assert not odd, odd


def test_missing_files_are_named(tmp_path):
    for name, (_, _, reader) in FORMATS.items():
        if name not in ("my_progress.json", "notebooks.json"):
            with pytest.raises((ValueError, OSError), match="json"):
                reader(tmp_path / name)


def test_intervals_are_the_right_way_up():
    assert schemas.misfit(interval(), schemas.Interval) is None
    assert "low is above high, at a.0" in schemas.misfit({"a": [interval() | {"low": 0.9}]}, dict[str, list[Any]])


def test_lists_of_the_gate_belong_together(tmp_path):
    path = put(tmp_path, "gate.json", GATE | {"rm": [interval()]})
    with pytest.raises(ValueError, match="different lengths"):
        run_files.read(path)


def test_other_json_is_still_read(tmp_path):
    path = put(tmp_path, "any.json", {"x": [1, 2.5, None, "é"]})
    assert files.read_json(path) == {"x": [1, 2.5, None, "é"]} and files.read_json(tmp_path / "no", 3) == 3
    with pytest.raises(ValueError, match="any.json is damaged .*delete it and run"):
        files.read_json(put(tmp_path, "any.json", b"[" * 10**5))
