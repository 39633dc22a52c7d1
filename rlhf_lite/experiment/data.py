"""From the town's text to the learning code's token ids: prompts, demonstrations, rankings.

The learning files (`sft`, `reward`, `ppo`) know only lists of token ids; the town knows text and truth but nothing
about models. They meet here and in `answers`.
"""

from functools import lru_cache

from rlhf_lite import feedback, models, reward
from rlhf_lite.files import DATA
from rlhf_lite.reward import RankedPrompt
from rlhf_lite.sft import build_example
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.prompts import make_prompts

DEMONSTRATIONS = DATA / "demonstrations.jsonl"
PROMPT_COUNT = 12_000
# Test prompts come from a second draw. The first one served a whole round of work, and its tables were looked at too
# often to call it unseen; no choice has been made on this one.
TEST_SEED = 1


@lru_cache(maxsize=4)
def all_prompts(n=PROMPT_COUNT, seed=0):
    """The town's prompts, every split; the same list in every run."""
    return tuple(make_prompts(build_town(), n, seed=seed))


def prompts_of(split, n=None):
    """The first ``n`` prompts of a split ("train", "valid", "test"); those of "valid" occur in no demonstration."""
    shown = {row["prompt"] for row in demonstrations(split="train")} if split == "valid" else ()
    drawn = all_prompts(seed=TEST_SEED) if split == "test" else all_prompts()
    return [p for p in drawn if p.split == split and p.text not in shown][:n]


def demonstrations(path=DEMONSTRATIONS, split=None):
    """Checked demonstration rows of a JSONL file; a bad row raises one sentence with file, line and fix."""
    rows, _ = feedback.read_jsonl(path, check_town_demonstration, strict=True)
    return [row for row in rows if split in (None, row["split"])]


def check_town_demonstration(row):
    """`feedback.check_demonstration`, and the use case is one of the paper's; outside the town it is any text."""
    feedback.check_demonstration(row)
    if row["use_case"] not in feedback.USE_CASES:
        raise ValueError(f'"use_case" is {row["use_case"]!r}; use one of {", ".join(feedback.USE_CASES)}')


def demonstration_examples(tokenizer, rows):
    """Demonstration rows -> SFT examples."""
    return [build_example(models.encode_prompt(tokenizer, row["prompt"]),
                          models.encode_response(tokenizer, row["response"])) for row in rows]


def demonstration_rows(tokenizer, rows):
    """Demonstrations as the reward model reads them."""
    return [reward.reward_input(models.encode_prompt(tokenizer, row["prompt"]),
                                models.encode_response(tokenizer, row["response"])) for row in rows]


def encoded(tokenizer, prompts):
    """Prompts -> lists of ids."""
    return [models.encode_prompt(tokenizer, p.text) for p in prompts]


def ranked_prompts(tokenizer, rows):
    """Ranking records -> RankedPrompts, the reward model's data; text without token ids (typed by people) is encoded.

    Raises ValueError for token ids of another tokenizer, for answers of different rank with the same tokens, and for
    rankings of recorded answers that may be read and ranked but not trained on.
    """
    found = []
    for number, row in enumerate(rows, 1):
        highest = max(token for r in row["responses"] for token in r.get("token_ids") or [0])
        if highest >= len(tokenizer):
            raise ValueError(f"Ranking {number} ({row.get('prompt_id')}) has the token id {highest}, but the "
                             f"tokenizer has {len(tokenizer)} tokens; leave out its token_ids, and its text will be "
                             "encoded instead.")
        if row.get("prompt_id", "").startswith("reading-only-"):
            raise ValueError(f"{row['prompt_id']} ranks recorded answers whose publishers ask that nobody train on "
                             "them; leave this ranking out.")
        answers = [r.get("token_ids") or models.encode_response(tokenizer, r["text"]) for r in row["responses"]]
        if len(set(map(tuple, answers))) < len(set(zip(map(tuple, answers), row["ranks"], strict=True))):
            raise ValueError(f"Ranking {number} ({row.get('prompt_id')}) gives different ranks to two answers with the "
                             "same tokens, so there is nothing to prefer; leave one out or rank them equal.")
        found.append(RankedPrompt(models.encode_prompt(tokenizer, row["prompt"]), answers, row["ranks"]))
    return found
