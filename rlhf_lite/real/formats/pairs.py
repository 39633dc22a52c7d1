"""Forms of row with two answers: TRL's and HH's chosen and rejected, a choice between two, AlpacaEval, arena votes.

Each function takes a row (a dict) and the `Hints` of its file, and returns a list of records (`texts.record`), or None
if the row is of another form. It raises `Drop` for a row of its form that is of no use.
"""

from rlhf_lite.real.formats.texts import Drop, as_answer, as_prompt, number, plain, record, split_last, turns

PROMPTS = ("prompt", "instruction", "question", "query", "input", "request", "history", "post", "context", "messages")
# The two answers of a row; "{}" is a (or A), 0, 1, ... The order matters: the first that fits is taken.
ANSWERS = ("answer", "response", "completion", "output", "text", "summary", "human_ref", "option", "reply")
SIDES = (("a", "b"), ("A", "B"), ("0", "1"), ("1", "2"), ("left", "right"))
CHOICES = ("choice", "preference", "winner", "preferred", "better", "label", "labels", "vote", "verdict", "selected")
TIES = ("tie", "draw", "equal", "both", "same", "neither", "both good", "bothgood")
BOTH_BAD = ("tie (bothbad)", "both_bad", "bothbad", "both bad", "tie_both_bad", "tie (both bad)")


def prompt_of(row):
    """The prompt of a row, under one of its usual names."""
    found = next((row[name] for name in PROMPTS if row.get(name) not in (None, "", [])), None)
    if found is None:
        raise Drop(f"no prompt (in a field such as {', '.join(PROMPTS[:4])})")
    if isinstance(found, dict):  # as in WebGPT
        found = found.get("full_text") or found.get("text")
    given = row.get("input")
    if isinstance(given, str) and given.strip() and row.get("instruction") and "prompt" not in row:
        found = f"{plain(row['instruction'], 'prompt')}\n\n{given.strip()}"
    return as_prompt(found)


def preference(row, hints):
    """TRL's preference form (explicit, implicit, conversational), which DPO data on the hub share, and HH-RLHF."""
    if "chosen" not in row or "rejected" not in row:
        return None
    chosen, rejected = row["chosen"], row["rejected"]
    sides = [split_last(side) if _is_dialogue(side) else None for side in (chosen, rejected)]
    if all(sides):  # both hold the prompt as well
        if sides[0][0] != sides[1][0]:
            raise Drop("chosen and rejected with different prompts")
        prompt, texts = sides[0][0], [side[1] for side in sides]
    elif any(name in row for name in PROMPTS):
        prompt, texts = prompt_of(row), [as_answer(chosen), as_answer(rejected)]
        if all(text.startswith(prompt) and text != prompt for text in texts):
            texts = [text[len(prompt):].strip() for text in texts]
    else:  # implicit, as plain text: what both begin with is the prompt
        prompt, texts = _common(plain(chosen, "chosen answer"), plain(rejected, "rejected answer"))
    return [_pair(row, prompt, texts, (1, 2), ("chosen", "rejected"))]


def _is_dialogue(value):
    if isinstance(value, list):
        return len(value) > 1
    found = turns(value) if isinstance(value, str) else None
    return found is not None and len(found) > 1


def _common(one, other):
    """Two texts that begin alike -> (what they share, up to the end of a line or sentence; the two rests)."""
    if one == other:
        raise Drop("two equal answers")
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    cut = max(one.rfind(end, 0, length) + len(end) if end in one[:length] else 0 for end in ("\n", "? ", ". ", ": "))
    prompt, texts = one[:cut].strip(), [one[cut:].strip(), other[cut:].strip()]
    if not prompt or not all(texts):
        raise Drop("no prompt, and chosen and rejected do not begin with the same line")
    return prompt, texts


def arena(row, hints):
    """Votes of Chatbot Arena and its like: two conversations, two models, and who won (ties and both bad included)."""
    if "winner" not in row or not {"conversation_a", "conversation_b"} <= row.keys():
        return None
    sides = [split_last(row[f"conversation_{side}"]) for side in "ab"]
    if not all(sides):
        raise Drop("a conversation that is not a list of messages")
    if sides[0][0] != sides[1][0]:
        raise Drop("conversations that differ before the last answer")
    ranks = _verdict(row["winner"], ("model_a", "model_b"), hints)
    sources = [str(row.get(f"model_{side}") or side) for side in "ab"]
    return [_pair(row, sides[0][0], [side[1] for side in sides], ranks, sources)]


def alpaca_eval(row, hints):
    """AlpacaEval's annotations: preference is 1 for the first output, 2 for the second, and anything between."""
    if not {"instruction", "output_1", "output_2", "preference"} <= row.keys():
        return None
    value = number(row["preference"])
    if value is None:
        raise Drop("no preference")
    if not 1 <= value <= 2:
        raise Drop("a preference outside 1 to 2")
    ranks = (1, 1) if value == 1.5 else (1, 2) if value < 1.5 else (2, 1)
    sources = [str(row.get(f"generator_{side}") or side) for side in "12"]
    return [_pair(row, prompt_of(row), [as_answer(row["output_1"]), as_answer(row["output_2"])], ranks, sources)]


def summaries(row, hints):
    """OpenAI's summaries: a post, two summaries and a choice."""
    found = row.get("summaries")
    if not isinstance(found, list) or "choice" not in row:
        return None
    if len(found) != 2 or not all(isinstance(one, dict) for one in found) or not isinstance(row.get("info"), dict):
        raise Drop("not a post with two summaries")
    post = next((row["info"][name] for name in ("post", "article") if row["info"].get(name)), None)
    sources = [str(one.get("policy") or place) for place, one in enumerate(found)]
    return [_pair(row, plain(post, "prompt"), [as_answer(one.get("text")) for one in found],
                  _verdict(row["choice"], ("0", "1"), hints), sources)]


def choice(row, hints):
    """Any two answers and a choice: answer_a and answer_b with "a", response_1 and response_2 with 2, SHP, ..."""
    names = answer_names(row)
    if names is None or not any(name in row for name in CHOICES):
        return None
    side = next(pair for pair in SIDES if names[0].endswith(pair[0]) and names[1].endswith(pair[1]))
    given = next(row[name] for name in CHOICES if name in row)
    if "human_ref_A" in row and "labels" in row:  # SHP: 1 means that A is preferred
        given = {"1": "A", "0": "B"}.get(str(given), given)
    sources = [_source(row, name, one) for name, one in zip(names, side, strict=True)]
    texts = [as_answer(row[name]) for name in names]
    return [_pair(row, prompt_of(row), texts, _verdict(given, side, hints, names, texts), sources)]


def answer_names(row):
    """The names of the two fields with the answers, or None."""
    for name in ANSWERS:
        for one, two in SIDES:
            for form in ("{}_{}", "{}{}", "{}-{}", "{} {}"):
                pair = form.format(name, one), form.format(name, two)
                if pair[0] in row and pair[1] in row:
                    return pair
    return None


def _source(row, name, side):
    return str(row.get(f"model_{side}") or row.get(f"source_{side}") or name)


def _verdict(given, side, hints, names=(), texts=()):
    """What somebody chose -> the ranks of the two answers."""
    if given is None or isinstance(given, str) and not given.strip():
        raise Drop("no choice")
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise Drop("a choice that is neither text nor a number")
    said = str(int(given)) if isinstance(given, float) and given.is_integer() else str(given).strip()
    low = said.lower()
    if low in TIES or low in BOTH_BAD or low == "0.5":
        return (1, 1, low in BOTH_BAD)
    if low in ("0", "1", "2") and not {"0", "1"} == set(side):
        hints.needs_base(low, side)
        return (1, 2) if low == hints.first else (2, 1)
    for place in (0, 1):
        wanted = {side[place].lower(), *([names[place].lower()] if names else []),
                  f"model_{side[place]}".lower(), f"answer_{side[place]}".lower(), f"response_{side[place]}".lower()}
        if low in wanted or texts and said == texts[place] != texts[1 - place]:
            return (1, 2) if place == 0 else (2, 1)
    raise Drop(f"a choice that names neither answer ({said[:20]!r})")


def _pair(row, prompt, texts, ranks, sources):
    if texts[0] == texts[1]:
        raise Drop("two equal answers")
    bad = {"both_bad": True} if len(ranks) == 3 and ranks[2] else {}
    who = next((row[name] for name in ("labeler", "annotator", "judge", "worker", "user")
                if isinstance(row.get(name), str) and row[name].strip()), "imported")
    return record(prompt, list(zip(texts, map(str, sources), strict=True)), ranks[:2], labeler=who, **bad)
