"""The pictures of the README, and the answers it quotes, made from the shipped models and the real widgets.

    python docs/images/make.py answers      sample the README's two answers and print them (ten seconds)
    python docs/images/make.py answers 20   the same for the first twenty requests: good ones and bad ones
    python docs/images/make.py ranking      ranking.gif: blind ranking in JupyterLab (needs Chromium; a minute)
    python docs/images/make.py ppo          ppo.json: one PPO run with its true score, and then ppo.png (minutes)
    python docs/images/make.py draw         ppo.png from ppo.json

Run it with the environment that `make setup-dev` makes, from anywhere: .venv/bin/python docs/images/make.py ...
"""

import json
import sys
import tempfile
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 0
TOGETHER = 20  # requests that are answered in one batch, so that an answer does not depend on how many are asked for


# ---------------------------------------------------------------- the answers

def answers(n=1, stages=("base", "ppo_ptx")):
    """One sampled answer of each shipped 1.3M model to each of the first n requests: {stage: graded rows}.

    The requests are the first of the validation customers for which nobody has written a demonstration. Nothing is
    chosen: neither the request nor, among several samples, the answer. The base has a stop sequence, as its user would.
    """
    from rlhf_lite import checkpoints, files, models
    from rlhf_lite.experiment import data, evaluate
    from rlhf_lite.experiment.answers import answer_rows
    tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")
    demonstrated = {row["prompt"] for row in data.demonstrations()}
    requests = [prompt for prompt in data.prompts_of("valid") if prompt.text not in demonstrated]
    found = {}
    for stage in stages:
        policy = checkpoints.load_policy(files.MODELS / f"{stage}-1.3m")
        found[stage] = [row for start in range(0, n, TOGETHER) for row in answer_rows(
            policy, tokenizer, requests[start:start + TOGETHER], seed=SEED, progress=False,
            **evaluate.as_used(stage))][:n]
    return found


def print_answers(n=1):
    from rlhf_lite.plots import STAGES
    found = answers(int(n))
    for rows in zip(*found.values(), strict=True):
        print(f"{rows[0]['prompt_id']}: {rows[0]['prompt']}")
        for stage, row in zip(found, rows, strict=True):
            print(f"  {STAGES[stage]}, graded {row['grade'].overall} of 7: {row['response']!r}")


# ---------------------------------------------------------------- ranking.gif

CELL = """
import json
from rlhf_lite.widgets.ranking import RankingWidget
from rlhf_lite.widgets.session import RankingSession
items = json.load(open("items.json"))
RankingWidget(RankingSession(items, "Ada", "ada.jsonl", pairs=True), guidelines="")
"""
SCREEN = {"width": 1000, "height": 1200}
SHOWN = 420  # pixels of the page's height that the picture shows: as far as the verdict
MARGIN = 14


def ranking():
    """A person compares the answers to the first three requests, blind, by clicks and keys, and then sees the names.

    The verdicts were decided by reading: the aligned model's answers to the first two, neither answer to the third.
    """
    sys.path.insert(0, str(HERE.parents[1] / "tests" / "browser"))
    from driving import PATIENCE, TOKEN, Notebook, Server, chromium, missing
    from playwright.sync_api import expect, sync_playwright

    from rlhf_lite.plots import STAGES
    if missing():
        raise SystemExit(missing())
    pairs = list(zip(*answers(3).values(), strict=True))
    items = [{"prompt_id": before["prompt_id"], "prompt": before["prompt"], "responses": [
        {"text": before["response"], "source": STAGES["base"]},
        {"text": after["response"], "source": STAGES["ppo_ptx"]}]} for before, after in pairs]
    frames = []  # (PNG, whether its top or its end is shown, milliseconds)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        server = Server(Path(folder))
        try:
            (server.folder / "items.json").write_text(json.dumps(items), encoding="utf-8")
            browser = play.chromium.launch(executable_path=chromium(), args=[
                "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            page = browser.new_page(viewport=SCREEN)
            page.set_default_timeout(PATIENCE)
            page.goto(f"{server.url}/lab?reset&token={TOKEN}")
            page.locator(".jp-Launcher").wait_for()
            page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")  # room for two columns
            widget = Notebook(page, server, "rank", [CELL]).show().widget

            def keep(milliseconds, top=True):
                page.wait_for_timeout(300)
                frames.append((widget.screenshot(), top, milliseconds))

            widget.get_by_role("button", name="Hide guidelines").click()
            widget.get_by_role("button", name="Scores and flags").click()
            for number, (before, after) in enumerate(pairs):
                left, right = (widget.get_by_text(row["response"], exact=True).bounding_box()["x"]
                               for row in (after, before))
                aligned_first = left < right
                widget.get_by_text(before["prompt"], exact=True).click()  # the keys are the widget's from here on
                keep(3000)
                if number == 0:
                    wrong = widget.get_by_role("button", name="fails to follow")
                    wrong.nth(1 if aligned_first else 0).click()
                    keep(900)
                    widget.get_by_text(before["prompt"], exact=True).click()
                page.keyboard.press("b" if number == 2 else "1" if aligned_first else "2")
                keep(1500)
                page.keyboard.press("Enter")
                expect(widget).to_contain_text(f"saved {number + 1} of 3")
            widget.get_by_role("button", name="Who wrote what?").click()
            widget.locator("table").last.wait_for()
            keep(4500, top=False)
            browser.close()
        finally:
            server.close()
    write_gif(HERE / "ranking.gif", frames)


def write_gif(path, frames):
    """Pictures of one width -> a GIF that runs for ever; every frame is cut to the same height, and framed."""
    from PIL import Image, ImageOps
    made = []
    for png, top, _ in frames:
        image = Image.open(BytesIO(png)).convert("RGB")
        start = 2 if top else max(2, image.height - SHOWN)  # 2: the rim of the cell
        page = Image.new("RGB", (image.width, SHOWN), "white")
        page.paste(image.crop((0, start, image.width, min(start + SHOWN, image.height))), (0, 0))
        page = ImageOps.expand(ImageOps.expand(page, MARGIN, "white"), 1, "#cccccc")
        made.append(page.quantize(64, dither=Image.Dither.NONE))
    made[0].save(path, save_all=True, append_images=made[1:], duration=[shown for _, _, shown in frames], loop=0,
                 optimize=True)
    print(f"{path}: {len(made)} pictures, {made[0].width} x {made[0].height}, {path.stat().st_size / 1024:.0f} KB")


# ---------------------------------------------------------------- ppo.png

def ppo():
    """One PPO run of the recipe from the shipped SFT and reward models; every tenth iteration it sits an exam."""
    from rlhf_lite import checkpoints, files, models
    from rlhf_lite.experiment import data, stages
    from rlhf_lite.experiment.answers import answer_rows
    from rlhf_lite.experiment.recipe import default_recipe
    from rlhf_lite.stats import mean_interval
    tokenizer, exam = models.load_tokenizer(files.MODELS / "tokenizer"), data.prompts_of("valid", 300)
    sft = checkpoints.load_policy(files.MODELS / "sft-1.3m")

    def true_score(policy, _):
        rows = answer_rows(policy, tokenizer, exam, progress=False)
        return {"true_score": mean_interval([row["grade"].score for row in rows])._asdict()}

    start = {"iteration": 0, "kl": 0.0, **true_score(sft, 0)}
    _, run = stages.run_ppo(sft, tokenizer, checkpoints.load_scalar(files.MODELS / "reward-1.3m"), default_recipe(),
                            evaluate=true_score)
    files.write_json(HERE / "ppo.json", [{key: row[key] for key in ("iteration", "score", "kl", "true_score")
                                          if key in row} for row in [start, *run.history]])
    draw()


def draw():
    """What was paid for, what was wanted, and how far the policy went for it."""
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from rlhf_lite.plots import COLOURS, STYLE
    history = json.loads((HERE / "ppo.json").read_text(encoding="utf-8"))
    panels = {"score": "The reward model's score", "true_score": "True score, held-out requests",
              "kl": "Distance from SFT (nats)"}
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 2.5), layout="constrained")
        for axis, (key, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            rows = [row for row in history if key in row]
            at = [row["iteration"] for row in rows]
            if key == "true_score":
                value, low, high = ([row[key][name] for row in rows] for name in ("value", "low", "high"))
                ends = np.subtract(value, low), np.subtract(high, value)
                axis.errorbar(at, value, ends, color=COLOURS["ppo"], marker="D", markersize=5, capsize=2.5)
            else:
                axis.plot(at, [row[key] for row in rows], color=COLOURS["ppo"])
            axis.set(title=title, xlabel="PPO iteration")
        figure.savefig(HERE / "ppo.png", dpi=130)


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["answers"]
    {"answers": print_answers, "ranking": ranking, "ppo": ppo, "draw": draw}[what](*rest)
