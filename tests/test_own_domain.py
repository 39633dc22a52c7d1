"""Outside the town: text of your own for pretraining, use cases of your own, and no grade without a program."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tiny import a_foreign_model, a_foreign_tokenizer

from rlhf_lite import __main__ as cli
from rlhf_lite import distributed, feedback, files, models, ppo, reward
from rlhf_lite.experiment import data, text_base
from rlhf_lite.real import hub, own_data
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import Prompt


def test_pretrain_reads_any_folder_of_texts_and_align_can_start_from_it(tmp_path):
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(f"The cat number {i} sat on the mat." for i in range(60)))
    (tmp_path / "texts" / "deep" / "b.md").write_bytes("\ufeffÜber die Katze.".encode())
    (tmp_path / "texts" / "c.bin").write_bytes(b"\xff\xfe")
    assert cli.main(["pretrain", "--size", "tiny", "--text", str(tmp_path / "texts"), "--tokens", "20000", "--out",
                     str(tmp_path / "base"), "--device", "cpu"]) == 0
    card = json.loads((tmp_path / "base" / "card.json").read_text(encoding="utf-8"))
    assert card["held_out_loss"] < 5.75 and card["data"] == "54 texts from a folder" and card["passes"] > 1
    policy, tokenizer, ids = hub.load(tmp_path / "base")
    assert ids == (0, 1, 2) and models.encode_prompt(tokenizer, "The cat")[0] == 1
    assert tokenizer.decode(models.encode_prompt(tokenizer, "The cat")[1:]) == "The cat\n"  # the town's template


@pytest.mark.parametrize("files, why", [({}, "has no .txt or .md files"), ({"a.txt": b"\xff\xfe\x00"}, "is not UTF-8"),
                                        ({"a.txt": b"one"}, "has 1 paragraphs"),
                                        ({"a.txt": b" \n\n "}, "has 0 paragraphs")])
def test_folders_without_text(files, why, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=why):
        text_base.read_texts(tmp_path)


def test_use_cases_outside_the_town_are_any_text(tmp_path):
    row = feedback.new_demonstration("1", "p", "Ask", "Answer", "claims handling", "Ada", "train")
    feedback.append_jsonl(tmp_path / "d.jsonl", row)
    with pytest.raises(ValueError, match='"use_case" is .claims handling.; use one of generation'):
        data.demonstrations(tmp_path / "d.jsonl")


def test_no_program_grades_what_is_not_the_towns():
    with pytest.raises(ValueError, match="q1 is not a request of the town"):
        grade(Prompt("q1", "Where is my parcel?", "service", "track", "c", "test", {}), "On its way.")


@pytest.mark.parametrize("name", ["code_help", "company_documents", "customer_service", "marketing_copy", "tutoring"])
def test_the_example_sets(name):
    folder = files.DATA / "examples" / name
    own = own_data.read_own(*(folder / f"{part}.jsonl" for part in ("prompts", "demonstrations", "rankings")))
    assert len(own.prompts) == len(own.demonstrations) == len(own.rankings) == 20 and not own.notes
    assert {row["prompt"] for row in own.rankings} == set(own.prompts)
    assert all(sorted(row["ranks"]) == [1, 2, 3] for row in own.rankings)


# ---------------------------------------------------------------- what docs/real_models.md shows

PAGE = Path(__file__).parent.parent / "docs" / "real_models.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_the_snippets_run(place, tmp_path, monkeypatch):
    """On a tiny model in place of the named one, with 1 of 3 blocks shared in place of 24 of 30."""
    policy, tokenizer = a_foreign_model("llama", layers=3, max_position_embeddings=320), a_foreign_tokenizer()
    ids = hub.add_special_ids(policy, tokenizer)
    tokenizer.init_kwargs["prompt_template"] = hub.PLAIN
    monkeypatch.setattr(hub, "load", lambda *_, **__: (models.copy_model(policy), tokenizer, ids))
    monkeypatch.setattr(distributed, "start", lambda: torch.device("cpu"))
    prompts = [models.encode_prompt(tokenizer, text) for text in ("Who?", "What?")]
    rankings = [reward.RankedPrompt(prompt, [[5, 6, ids.end], [7, ids.end]], [1, 2]) for prompt in prompts]
    config = ppo.PPOConfig(iterations=1, batch_size=2, minibatch=2, max_new_tokens=4)
    known = {"policy": models.copy_model(policy), "rankings": rankings, "prompts": prompts, "config": config,
             "name": "any", "reward": reward, "ppo": ppo, "hub": hub}
    monkeypatch.chdir(tmp_path)
    shutil.copytree(files.DATA / "examples", tmp_path / "data" / "examples")
    exec(BLOCKS[place].replace("n=24", "n=1").replace("=32)", "=4)").replace("bf16=True", "bf16=False"), known)
