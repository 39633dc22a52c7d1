"""Forms of row with K answers: scores (UltraFeedback), ranks, Argilla, Label Studio, OpenAssistant, NeMo-RL, ours.

The functions are as in `pairs`. K is kept: no ranking is split into pairs here.
"""

from rlhf_lite import feedback
from rlhf_lite.real.formats.pairs import prompt_of
from rlhf_lite.real.formats.texts import Drop, as_answer, as_prompt, message, number, plain, record

LISTS = ("responses", "completions", "answers", "outputs", "generations", "candidates", "completion", "texts")
RANKS = ("rank", "ranks", "ranking", "rankings", "position")  # 1 is the best, as everywhere
SCORES = ("score", "scores", "rating", "ratings", "reward", "rewards", "likert", "quality")  # who knows which way?
KNOWN = ("overall_score",)  # UltraFeedback: higher is better


def ours(row, hints):
    """Our own ranking records, checked."""
    if not {"schema", "responses", "ranks", "labeler"} <= row.keys():
        return None
    row = {**row, "flags": [{name: on for name, on in flags.items() if on is not None} for flags in row["flags"]]
           } if isinstance(row.get("flags"), list) and all(isinstance(f, dict) for f in row["flags"]) else row
    row = {name: value for name, value in row.items() if value is not None}
    try:
        feedback.check_ranking(row)
    except ValueError as error:
        raise Drop(str(error)) from None
    return [row]


def nemo(row, hints):
    """NeMo-RL's preference form: context messages and completions with their ranks (0 is the best)."""
    found = row.get("completions")
    if "context" not in row or not isinstance(found, list):
        return None
    if not all(isinstance(one, dict) and "completion" in one for one in found):
        raise Drop("a completion without text")
    return [record(as_prompt(row["context"]), [(as_answer(one["completion"]), str(one.get("source", place)))
                                               for place, one in enumerate(found)],
                   [number(one.get("rank")) for one in found], labeler="imported")]


def scored(row, hints):
    """K answers with a number each: in the answers themselves, or in a list beside them."""
    name = next((n for n in LISTS if isinstance(row.get(n), list) and row[n]), None)
    if name is None:
        return None
    answers = row[name]
    inside = all(isinstance(one, dict) and ("role" not in one) for one in answers)
    if inside:
        field = next((f for f in (*KNOWN, *RANKS, *SCORES) if any(f in one for one in answers)), None)
        numbers = [one.get(field) for one in answers]
    else:
        field = next((f for f in (*KNOWN, *RANKS, *SCORES) if isinstance(row.get(f), list)), None)
        numbers = row.get(field) if field else None
    if field is None:
        return None
    if len(numbers) != len(answers):
        raise Drop(f"not as many {field} as answers")
    values = [number(value) for value in numbers]
    if field not in RANKS and hints.higher_is_better(field, known=field in KNOWN):
        values = [None if value is None else -value for value in values]
    texts = [as_answer(next((one[key] for key in ("text", "response", "completion", "answer", "output", "content",
                                                  "body") if key in one), None) if inside else one) for one in answers]
    sources = [str((one.get("model") or one.get("source") or one.get("generator") or place) if inside else place)
               for place, one in enumerate(answers)]
    return [record(prompt_of(row), list(zip(texts, sources, strict=True)), values, labeler="imported")]


def two_scores(row, hints):
    """Two answers with a score each, such as WebGPT's answer_0, answer_1, score_0 and score_1."""
    from rlhf_lite.real.formats.pairs import answer_names

    names = answer_names(row)
    if names is None:
        return None
    ends = [name[len(_stem(names)):] for name in names]
    field = next((f for f in (*RANKS, *SCORES) if all(f"{f}{end}" in row for end in ends)), None)
    if field is None:
        return None
    values = [number(row[f"{field}{end}"]) for end in ends]
    if field not in RANKS and hints.higher_is_better(field):
        values = [None if value is None else -value for value in values]
    return [record(prompt_of(row), [(as_answer(row[name]), name) for name in names], values, labeler="imported")]


def _stem(names):
    length = next(i for i, (a, b) in enumerate(zip(*names, strict=True)) if a != b)
    return names[0][:length].rstrip("_- ") if names[0][:length] else ""


# ---------------------------------------------------------------- Argilla and Label Studio

def argilla(row, hints):
    """A record with a ranking question: version 2 (nested, or flattened by `to_list`) and version 1; one per person."""
    fields = row["fields"] if isinstance(row.get("fields"), dict) else row
    given = row.get("responses")
    found = []  # (who, [{"value", "rank"} or names in order])
    if isinstance(given, dict):  # version 2: {question: [{"user_id", "value", "status"}]}
        for one in (one for several in given.values() if isinstance(several, list) for one in several):
            if isinstance(one, dict) and one.get("status", "submitted") == "submitted":
                found.append((one.get("user_id"), one.get("value")))
    elif isinstance(given, list) and given and all(isinstance(one, dict) and "values" in one for one in given):
        for one in given:  # version 1: [{"user_id", "values": {question: {"value": [{"value", "rank"}]}}, "status"}]
            if one.get("status", "submitted") == "submitted" and isinstance(one["values"], dict):
                found += [(one.get("user_id"), v.get("value")) for v in one["values"].values() if isinstance(v, dict)]
    elif flat := [name for name in row if name.endswith(".responses")]:
        name = flat[0]
        people = row.get(f"{name}.users") or [None] * len(row[name] or [])
        states = row.get(f"{name}.status") or ["submitted"] * len(people)
        found = [(who, value) for who, value, state in zip(people, row[name] or [], states, strict=False)
                 if state == "submitted"]
    elif isinstance(row.get("ranking"), list) and all(isinstance(o, dict) and "value" in o for o in row["ranking"]):
        found = [(one.get("user_id"), one["value"]) for one in row["ranking"]
                 if one.get("status", "submitted") == "submitted"]
    else:
        return None
    found = [(who, value) for who, value in found if not isinstance(value, (str, int, float))]  # other questions
    if not found:
        raise Drop("no submitted ranking")
    return [_argilla_one(fields, who, value) for who, value in found]


def _argilla_one(fields, who, value):
    if isinstance(value, dict):  # {"rank": [1, 2], "value": ["response-1", "response-2"]}
        names, ranks = value.get("value"), value.get("rank")
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        names, ranks = [one.get("value") for one in value], [one.get("rank") for one in value]
    else:  # names from the best to the worst
        names, ranks = value, list(range(1, len(value or []) + 1))
    if not isinstance(names, list) or not isinstance(ranks, list) or len(names) != len(ranks) or len(names) < 2:
        raise Drop("a ranking without names or ranks")
    answers = []
    for name in names:
        text = fields.get(name, fields.get(str(name).replace("-", "_")))
        answers.append((plain(text, f"field {str(name)[:30]!r}"), str(name)))
    return record(prompt_of(fields), answers, [number(rank) for rank in ranks], labeler=str(who or "argilla"))


def label_studio(row, hints):
    """A task of Label Studio (full or "min" JSON) with a Ranker or a Pairwise result; one record per annotation."""
    data = row.get("data")
    if isinstance(data, dict) and isinstance(row.get("annotations"), list):
        done = [one for one in row["annotations"] if isinstance(one, dict) and not one.get("was_cancelled")]
        results = [(one.get("completed_by"), part) for one in done for part in one.get("result") or []]
    else:  # "min": the result is a field of its own
        data = row
        results = [(row.get("annotator"), {"value": value}) for value in row.values()
                   if isinstance(value, dict) and (value.get("selected") in ("left", "right") or "ranker" in value)]
        if not results:
            return None
    found = []
    for who, part in results:
        value = part.get("value") if isinstance(part, dict) else None
        value = value if isinstance(value, dict) else {}
        name = f"label-studio-{who.get('id') if isinstance(who, dict) else who or 0}"
        if isinstance(value.get("ranker"), dict):
            found.append(_ranker(data, value["ranker"], name))
        elif value.get("selected") in ("left", "right"):
            found.append(_pairwise(data, part.get("to_name"), value["selected"], name))
    if not found:
        raise Drop("no Ranker or Pairwise result")
    return found


def _ranker(data, buckets, who):
    named = [key for key in buckets if key != "_"]
    if len(named) != 1:
        raise Drop("a Ranker with several buckets, whose order is not in the file")
    items = next((value for value in data.values() if isinstance(value, list) and value and all(
        isinstance(one, dict) and "id" in one for one in value)), None)
    if items is None:
        raise Drop("no list of items with ids")
    known = {str(one["id"]): one for one in items}
    order = [str(key) for key in buckets[named[0]]]
    if any(key not in known for key in order):
        raise Drop("a ranked id that is not in the list")
    answers = [(plain(known[key].get("body") or known[key].get("text") or known[key].get("title"), "answer"), key)
               for key in order]
    return record(prompt_of(data), answers, list(range(1, len(order) + 1)), labeler=who)


def _pairwise(data, names, selected, who):
    names = names if isinstance(names, list) else str(names or "").split(",")
    for pair in (tuple(name.strip() for name in names), ("answer1", "answer2"), ("text1", "text2"),
                 ("response1", "response2"), ("answer_1", "answer_2"), ("response_a", "response_b")):
        if len(pair) == 2 and all(name in data for name in pair):
            answers = [(plain(data[name], "answer"), name) for name in pair]
            return record(prompt_of(data), answers, [1, 2] if selected == "left" else [2, 1], labeler=who)
    raise Drop("a Pairwise result whose two texts have other names than answer1 and answer2 (or text1 and text2)")


# ---------------------------------------------------------------- OpenAssistant

def open_assistant(row, hints):
    """A conversation tree: every turn with two or more ranked answers is a record, with the dialogue up to it."""
    root = row.get("prompt")
    if not isinstance(root, dict) or "replies" not in root:
        return None
    found = []
    _walk(root, [], found)
    if not found:
        raise Drop("a tree without two ranked answers to one turn")
    return found


def _walk(node, before, found):
    dialogue = [*before, {"role": node.get("role"), "content": node.get("text")}]
    replies = [one for one in node.get("replies") or [] if isinstance(one, dict) and not one.get("deleted")]
    ranked = [one for one in replies if one.get("rank") is not None]
    if message(dialogue[-1])[0] == "Human" and len(ranked) > 1:
        found.append(record(as_prompt(dialogue), [(plain(one.get("text"), "answer"), str(one.get("message_id", place)))
                                                  for place, one in enumerate(ranked)],
                            [number(one["rank"]) for one in ranked], labeler="open-assistant"))
    for one in replies:
        _walk(one, dialogue, found)
