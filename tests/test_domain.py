"""The pipeline on another world than the town: the flower shop of docs/own_domain.py, with and without a program."""

import json
from pathlib import Path

import pytest
from test_run import small

from rlhf_lite import __main__ as cli
from rlhf_lite.experiment import base_model, domain, evaluate, results, run
from rlhf_lite.real import export

FLOWERS = Path(__file__).parent.parent / "docs" / "own_domain.py"


class Reader:
    """A labeler who reads the answers themselves: the one with more different words is better."""

    name = "Reader"

    def words(self, seen):
        return [len({*one.text.split()}) for one in seen]

    def judge(self, seen, lengths, rng):
        words = self.words(seen)
        return [1 + sum(other > one for other in words) for one in words], None

    def preference(self, seen, lengths):
        first, second = self.words(seen)
        return 0.5 + 0.5 * ((first > second) - (first < second))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of the flower shop, and one of it without a grading program."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base_model.TOKENS, "tiny", 20_000)
        flowers = domain.load(str(FLOWERS))
        run.run_pipeline(small(), "shop", "cpu", folder, progress=False, world=flowers)
        ungraded = flowers._replace(grade=None, team=lambda: [Reader()], judges=lambda: [Reader()])
        run.run_pipeline(small(first_round=1.0), "read", "cpu", folder, progress=False, world=ungraded)
    return folder


@pytest.mark.parametrize("name", ["shop", "read"])
def test_another_domain_runs_from_pretraining_to_the_report(runs, name):
    made = json.loads((runs / name / "results.json").read_text(encoding="utf-8"))
    graded = name == "shop"
    assert set(made["stages"]) == set(evaluate.STAGES) and len(made["win_rates"]) == 10
    assert {row["judge"] for row in made["win_rates"]} == {"the judges of flowers"}
    for row in made["stages"].values():
        assert ("score" in row) == graded and row["length"]["n"] == 12
    assert ("gate" in made) == graded == (runs / name / "gate.json").is_file() == bool(made["use_cases"])
    assert set(made["tax"]["ppo"]) == {"web_loss"} and "bayes_ceiling" not in made["reward"]
    assert made["domain"]["name"] == "flowers" and not made["headline"]
    assert "--domain" in made["command"] and str(FLOWERS) in made["command"]
    page = (runs / name / "report.html").read_text(encoding="utf-8")
    assert all(sentence.replace("'", "&#39;") in page for sentence in made["left_out"])
    assert len(made["left_out"]) == (4 if graded else 5)
    assert "are incomplete" not in page and "is damaged" not in page and "Its world is the domain flowers." in page
    assert ">None</b>" not in page and ('class="badge' in page) == graded
    assert (runs / "base-flowers-tiny" / "model.safetensors").is_file()


def test_its_answers_are_marked_by_its_own_program_and_its_rankings_by_its_own_people(runs):
    rows = [json.loads(line) for line in (runs / "shop" / "answers" / "ppo.jsonl").read_text().splitlines()]
    assert {row["set"] for row in rows} == {"mixed", "best"} and all(0 <= row["score"] <= 1 for row in rows)
    ranked = [json.loads(line) for line in (runs / "shop" / "rankings-1-train.jsonl").read_text().splitlines()]
    assert {row["labeler"].removeprefix("simulated:") for row in ranked} <= {"Fern", "Basil", "Olive"}
    assert all("true_scores" in row for row in ranked)
    assert all("true_scores" not in json.loads(line)
               for line in (runs / "read" / "rankings-1-train.jsonl").read_text().splitlines())


def test_it_goes_on_with_its_own_domain_only(runs, tmp_path):
    with pytest.raises(ValueError, match="a run of the domain flowers, not of the town; give the --domain"):
        run.Run(small(), "shop", "cpu", runs, progress=False)
    other = tmp_path / "own_domain.py"
    other.write_text(FLOWERS.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    with pytest.raises(ValueError, match="domain flowers, whose file has changed"):
        run.Run(small(), "shop", "cpu", runs, progress=False, world=domain.load(str(other)))
    again = run.run_pipeline(small(), "shop", "cpu", runs, progress=False, world=domain.load(str(FLOWERS)))
    assert again == runs / "shop"


def test_what_is_only_for_the_town_says_so(runs, tmp_path):
    for ask in (lambda: results.load_run(runs / "shop"), lambda: results.record_answers(runs / "shop", tmp_path / "x"),
                lambda: export.export(runs / "shop", tmp_path / "out", "trl")):
        with pytest.raises(ValueError, match="is a run of the domain flowers, and this is for runs of the town"):
            ask()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end, why", [
    ("", "defines no domain"), ("domain = 3", "defines no domain"), ("1 / 0", "does not run .ZeroDivisionError: "),
    ("domain = (", "does not run .SyntaxError: "), ("import no_such_module", "does not run .ModuleNotFoundError: "),
    ("raise SystemExit(3)", "does not run .SystemExit: 3"),
    ("domain = shop._replace(name='a/b')", "'a/b' becomes part of a folder"),
    ("domain = shop._replace(prompts=lambda split: [])", "has 0 prompts for train"),
    ("domain = shop._replace(prompts=lambda split: shop.prompts('train'))", "does not belong to valid"),
    ("domain = shop._replace(prompts=lambda split: shop.prompts(split) * 2)", "comes twice .train and train."),
    ("domain = shop._replace(prompts=lambda split: [p._replace(text='Ask', id=p.id) for p in shop.prompts(split)])",
     "'Ask' comes twice"),
    ("domain = shop._replace(demonstrations=lambda split: [])", "has no demonstrations for train"),
    ("domain = shop._replace(demonstrations=lambda split: [{}])", "demonstration 1 for train: there is no .schema"),
    ("domain = shop._replace(demonstrations=lambda split: [{**shop.demonstrations(split)[0], "
     "'prompt': shop.prompts('test')[0].text}])", "answers a test prompt")])
def test_a_file_that_is_no_domain_is_refused_in_one_sentence(end, why, tmp_path):
    text = FLOWERS.read_text(encoding="utf-8").replace("\ndomain = ", "\nshop = ")
    path = tmp_path / "mine.py"
    path.write_text(f"{text}\n{end}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=why) as told:
        domain.load(str(path))
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_a_domain_that_is_not_there(tmp_path, capsys):
    for name in (str(tmp_path / "none.py"), "no.such.module"):
        assert cli.main(["run", "--size", "tiny", "--name", "x", "--domain", name]) == 1
        assert name in capsys.readouterr().err
    assert domain.load("docs.own_domain").name == "flowers"


@pytest.mark.parametrize("mark", [None, 0.5, domain.Mark(1.5), domain.Mark(float("nan")), domain.Mark("good")])
def test_a_grade_is_a_number_from_0_to_1(mark):
    shop = domain.load(str(FLOWERS))._replace(grade=lambda request, text, finished: mark)
    with pytest.raises(ValueError, match="The grading program of flowers says .* to rose-.*; let it give a Mark"):
        domain.seen(shop, domain.Request("rose-1", "Ask", "any", "train"), "Answer", True)


def test_texts_that_end_are_refused():
    short = domain.load(str(FLOWERS))._replace(texts=lambda seed: iter(["one", "two"]))
    from rlhf_lite import files, models
    with pytest.raises(ValueError, match="The texts of flowers come to an end after"):
        base_model.web_rows(models.load_tokenizer(files.MODELS / "tokenizer"), 10_000, world=short)


def test_the_example_is_short():
    assert len(FLOWERS.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_command_takes_a_domain(monkeypatch, tmp_path, capsys):
    def pipeline(recipe, name, device, until, world):
        taken.append((recipe.size, recipe.reward_size, name, until, world.name))
        (tmp_path / "results_table.md").write_text("table", encoding="utf-8")
        return tmp_path

    taken = []
    monkeypatch.setattr(run, "run_pipeline", pipeline)
    for words in (["run"], ["train", "reward"], ["evaluate", "--name", "mine"]):
        assert cli.main([*words, "--size", "tiny", "--fast", "--domain", str(FLOWERS)]) == 0
    name = "flowers-tiny-seed0-fast"
    assert taken == [("tiny", "tiny", name, None, "flowers"), ("tiny", "tiny", name, "reward", "flowers"),
                     ("tiny", "tiny", "mine", None, "flowers")]


def test_the_page_shows_the_last_line_of_the_file():
    page = FLOWERS.with_suffix(".md").read_text(encoding="utf-8")
    assert FLOWERS.read_text(encoding="utf-8").splitlines()[-1] == page.split("```python\n")[1].split("\n```")[0]
