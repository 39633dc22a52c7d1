"""What real people wrote and preferred: four public data sets, pinned and checked.

    preferences()        HH-RLHF: two answers to a dialogue, and which one a person preferred; for reward models
    demonstrations()     the seed tasks of self-instruct: a request and the answer a person wrote; for SFT
    questions()          TruthfulQA: true and false answers to questions people get wrong; for evaluation only
    recorded_answers()   the answers of GPT-3 and InstructGPT to 252 requests; for reading and ranking only

The idea: a data set is a file with a sha256. However it gets here (from a folder named in RLHF_LITE_HUMAN_DATA, the
cache or the network), it is the expected file, or one sentence says what is wrong (see `download.find`). Nothing is
cut to fit a model: rows that are too long are left out and counted.

Left out: the other subsets of HH-RLHF (give `preferences` the path of a file of the same form), and streaming.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rlhf_lite import feedback, models
from rlhf_lite.real.download import File, find
from rlhf_lite.reward import RankedPrompt
from rlhf_lite.sft import build_example

READING_ONLY = "reading-only-"  # how the prompt ids of `recorded_answers` begin, so that training can refuse them

GITHUB = "https://raw.githubusercontent.com/yizhongw/self-instruct/0b26ccaa415992100fa32df62d41b994cf928e23/"
HUB = "https://huggingface.co/datasets/"
HH = File("hh-rlhf/harmless-base-test.jsonl.gz", 742801,  # MIT licence
          "ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03",
          ("https://media.githubusercontent.com/media/anthropics/hh-rlhf/354e5c3cb8960630860dd5774a6ac2a58313bf4d/"
           "harmless-base/test.jsonl.gz",
           HUB + "Anthropic/hh-rlhf/resolve/09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa/harmless-base/test.jsonl.gz"))
SEEDS = File("self-instruct/seed_tasks.jsonl", 110934,  # Apache-2.0
             "7779004fa198fdf27cf70a159363879d8a26c53329e11b436af17b3941875f48", (GITHUB + "data/seed_tasks.jsonl",))
TRUTHFUL = File("truthfulqa/TruthfulQA.csv", 443719,  # Apache-2.0
                "99d6ae7755e3b435eade956068c9de7c0c474770344237aeb66b56519ba4b697",
                ("https://raw.githubusercontent.com/sylinrl/TruthfulQA/013686a06be7a7bde5bf8223943e106c7250123c/"
                 "TruthfulQA.csv",))
QUESTIONS = 817
ANSWERS = {name: File(f"self-instruct/{name}_predictions.jsonl", size, sha,  # Apache-2.0
                      (f"{GITHUB}human_eval/predictions/{name}_predictions.jsonl",)) for name, size, sha in (
    ("davinci", 1239153, "29ebefae64941a53d296021d191462e7f1ec87c3112d5bf4971d62ba61b30730"),
    ("text-davinci-001", 283249, "0e5486cb74260ed10dfc43d6c26343c4bb98251401003b46ae3fca498305a94d"),
    ("text-davinci-002", 277659, "30e448059bb2c3aaf2926c93f97d967aa7523acdcaec08b2bbd36ea6b4e1e9f7"),
    ("text-davinci-003", 310102, "9fbf9229c917f2c832399e4d474f0ed1a4f367fae61e5eee814f3db687e0d584"))}


def _rows(path, fields, strict=True):
    """The objects in a .jsonl or .jsonl.gz file. A bad row raises one sentence that does not quote its text, or, unless
    strict, is None."""
    path = Path(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}); check the name, or fetch it again."
                         ) from None
    rows = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in fields.items()):
            if strict:
                raise ValueError(f"{path}:{number}: this is not a JSON row with {', '.join(fields)}; fetch the file "
                                 "again.")
            row = None
        rows.append(row)
    return rows


# ---------------------------------------------------------------- preferences

@dataclass(frozen=True, repr=False)
class Preference:
    """A dialogue that ends with a person's turn, and two answers to it. Printing it does not show any text."""

    turns: tuple  # texts of person, assistant, person, ...: an odd number
    chosen: str
    rejected: str

    @property
    def prompt(self):
        """A single turn as it is; several turns as a transcript, "Human: ...", "Assistant: ..." (HH-RLHF's names)."""
        if len(self.turns) == 1:
            return self.turns[0]
        return "\n\n".join(f"{SPEAKERS[i % 2]}: {turn}" for i, turn in enumerate(self.turns))

    def __repr__(self):
        return f"Preference({len(self.turns)} turns and two answers; not shown, they may be offensive or distressing)"


SPEAKERS = ("Human", "Assistant")


def preferences(path=None):
    """The test part of HH-RLHF's harmless-base -> (list of Preference, {reason: number of rows dropped}).

    Content note: people were asked to lead an assistant astray, so both requests and answers can be offensive and
    distressing. Do not show them by default. The authors warn that *supervised* training of an assistant on them
    gives a harmful model: use them for reward models (Bai et al. 2022, MIT licence; hub id Anthropic/hh-rlhf).

    path: another file of the same form (.jsonl or .jsonl.gz with "chosen" and "rejected"), which is not checked.
    Dropped: "same text", "different dialogues", "empty answer", "broken dialogue" (two turns of one speaker), "half a
    character" and, in a file of your own, "not a row". `importing.read` reads other forms.
    """
    kept, dropped = [], Counter()
    for row in _rows(path or find(HH), {"chosen": str, "rejected": str}, strict=path is None):
        found = "not a row" if row is None else _preference(row["chosen"], row["rejected"])
        if isinstance(found, str):
            dropped[found] += 1
        else:
            kept.append(found)
    return kept, dict(dropped)


def _preference(chosen, rejected):
    """Two dialogues -> a Preference, or the reason why they do not make one."""
    if chosen.strip() == rejected.strip():
        return "same text"
    if any("\ud800" <= character <= "\udfff" for character in chosen + rejected):
        return "half a character"
    both = []
    for text in (chosen, rejected):
        parts = re.split(r"\n\n(Human|Assistant):", text)
        speakers, turns = parts[1::2], tuple(turn.strip() for turn in parts[2::2])
        if parts[0].strip() or not speakers or speakers != list(SPEAKERS) * (len(speakers) // 2):
            return "broken dialogue"
        both.append((turns[:-1], turns[-1]))
    (turns, good), (others, bad) = both
    if turns != others:
        return "different dialogues"
    if not (good and bad and all(turns)):
        return "empty answer"
    return "same text" if good == bad else Preference(turns, good, bad)


def ranked_prompts(tokenizer, pairs, context, encode=models.encode_prompt):
    """Preferences -> (list of RankedPrompt for `reward.train_reward`, number dropped).

    context: the most tokens that a prompt and a response may have together; if either answer of a pair exceeds it,
    the pair is dropped, never cut, as are answers with the same tokens. encode: (tokenizer, text) -> ids.
    """
    kept = []
    for pair in pairs:
        prompt = encode(tokenizer, pair.prompt)
        responses = [models.encode_response(tokenizer, text) for text in (pair.chosen, pair.rejected)]
        if len(prompt) + max(map(len, responses)) <= context and responses[0] != responses[1]:
            kept.append(RankedPrompt(prompt, responses, [1, 2]))
    return kept, len(pairs) - len(kept)


def preference_dataset(pairs, conversational=False):
    """Preferences as a `datasets.Dataset` in TRL's preference form: prompt, chosen, rejected.

    These are texts or, with `conversational`, lists of {"role": "user" or "assistant", "content"}.
    """
    if not conversational:
        return feedback.to_dataset([{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs])

    def said(text, role):
        return {"role": role, "content": text}
    return feedback.to_dataset([{"prompt": [said(t, ("user", "assistant")[i % 2]) for i, t in enumerate(p.turns)],
                                 "chosen": [said(p.chosen, "assistant")], "rejected": [said(p.rejected, "assistant")]}
                                for p in pairs])


# ---------------------------------------------------------------- demonstrations

def demonstrations(split=None):
    """The 175 seed tasks of self-instruct, written by people: dicts id, name, prompt, response, split.

    split: "valid" is every tenth row, "train" the others (our split; None: all). The prompt is the instruction and,
    below it, the input if there is one. Wang et al. 2022, Apache-2.0.
    """
    rows = []
    for number, task in enumerate(_rows(find(SEEDS), {"id": str, "instruction": str, "instances": list})):
        case = task["instances"][0]  # each has exactly one
        rows.append({"id": task["id"], "name": task.get("name", ""),
                     "prompt": _request(task["instruction"], case["input"]), "response": case["output"].strip(),
                     "split": "train" if number % 10 else "valid"})
    return [row for row in rows if split in (None, row["split"])]


def _request(instruction, given):
    return "\n\n".join(text.strip() for text in (instruction, given) if text.strip())


def sft_examples(tokenizer, rows, context, encode=models.encode_prompt):
    """Demonstrations -> (list of Example for `sft.train_sft`, number dropped); same arguments as `ranked_prompts`."""
    examples = [build_example(encode(tokenizer, row["prompt"]), models.encode_response(tokenizer, row["response"]))
                for row in rows]
    kept = [example for example in examples if len(example.input_ids) <= context]
    return kept, len(examples) - len(kept)


def demonstration_dataset(rows):
    """Demonstrations as a `datasets.Dataset` in TRL's prompt-completion form."""
    return feedback.to_dataset([{"prompt": row["prompt"], "completion": row["response"]} for row in rows])


# ---------------------------------------------------------------- for evaluation only

class Question(NamedTuple):
    """A question that people often answer wrongly. For evaluation only: training on it would spoil the measure."""

    question: str
    best: str
    correct: list
    incorrect: list
    category: str
    source: str  # where the truth can be looked up


def questions():
    """TruthfulQA: 817 Questions, for evaluation only (Lin et al. 2021, Apache-2.0)."""
    table = csv.DictReader(io.StringIO(find(TRUTHFUL).read_text("utf-8"), newline=""))
    rows = [Question(row["Question"], row["Best Answer"], _answers(row["Correct Answers"]),
                     _answers(row["Incorrect Answers"]), row["Category"], row["Source"]) for row in table]
    if len(rows) != QUESTIONS:
        raise ValueError(f"TruthfulQA has {len(rows)} questions here, not {QUESTIONS}; fetch it again.")
    return rows


def _answers(text):
    return [answer.strip() for answer in text.split(";") if answer.strip()]


# ---------------------------------------------------------------- for reading and ranking only

@dataclass(frozen=True)
class ReadingOnly:
    """One recorded answer. The authors ask that these requests and answers never be used for training."""

    prompt_id: str  # begins with READING_ONLY
    request: str  # what a person reads: the instruction and its input
    sent: str  # what the model was given, "Output:" at its end
    model: str
    recorded: str  # unedited: raw davinci goes on and on

    def __getitem__(self, key):
        raise TypeError("a recorded answer is only for reading and ranking, never for training, so it is not a row; "
                        "read its .request and .recorded")


def recorded_answers():
    """Answers by GPT-3 and InstructGPT, to read and rank but not to train on: {model: 252 ReadingOnly, in one order}.

    Models: "davinci" (GPT-3 straight from pretraining) and "text-davinci-001", "-002" and "-003" (the public
    InstructGPT series). The 252 requests, of the kind that users make, are self-instruct's evaluation set (Wang et al.
    2022, Apache-2.0), and its authors ask that nobody train on it. That is why the rows are not dicts and their
    prompt ids begin with "reading-only-".
    """
    fields = dict.fromkeys(("prompt", "instruction", "input", "response"), str)
    return {name: [ReadingOnly(f"{READING_ONLY}{i:03d}", _request(row["instruction"], row["input"]), row["prompt"],
                               name, row["response"]) for i, row in enumerate(_rows(find(file), fields))]
            for name, file in ANSWERS.items()}
