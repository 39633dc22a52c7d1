"""Exercise 1.1: write a demonstration that does what is asked and teaches no bad habits."""

import re

from rlhf_lite.exercises.checking import FINE, Exercise
from rlhf_lite.town import fluency, reading_text
from rlhf_lite.town.prompts import Prompt

# ---------------------------------------------------------------- 1.1 write one yourself

REQUEST = Prompt("mine-0001", "Write a thank-you note to Fay for the umbrella. Use exactly two sentences.",
                 "generation", "thanks", "c-me", "train",
                 {"kind": "write", "sentences": [1, 5], "constraint": {"sentences": 2},
                  "must": [["Fay"], ["umbrella"], ["thank", "thanks", "grateful"]]})
MOST_WORDS = 40
SMILEY = re.compile(r"(?<!\S)(?:[:;=8xX][-o']?[)(DPp/|\]]|<3|\^_?\^)(?=[\s.!]|$)|"
                    r"[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f]+")
TITLE = re.compile(r"\b(Mrs?|Ms|Dr|St)\.")
END_OF_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=[\"'(]?[A-Z0-9])|(?<=[^.][.!?])[\"')\]]*\s+")
GREETING = re.compile(r"(?:dear|hi|hello|hey|oh)?,?\s*(?:\w+\s+)?fay\s*[,!.:]?", re.IGNORECASE)
CLOSING = re.compile(r"[-–—\s]*(?:(?:(?i:yours|love|best|warm|warmest|warmly|kind|with|many|sincerely|cheers|regards|"
                     r"your|from|all|xoxo|xx)\b[\w' ]{0,25}|(?i:thanks again))[,.!]?\s*)?[-–—\s]*"
                     r"(?:[A-Z][\w'-]*\.?(?: [A-Z][\w'-]*\.?)?)?")
THANKS = re.compile(r"\b(thank\w*|grateful\w*|gratitude|appreciat\w*|obliged|cheers|kind of you|in your debt|"
                    r"means a lot)\b", re.IGNORECASE)


def its_sentences(answer):
    """The sentences of a letter, without greeting, signature and smileys, which are no sentences."""
    text = TITLE.sub(r"\1", SMILEY.sub("", answer)).strip()
    parts = [part.strip() for line in re.split(r"\n\s*", text) for part in END_OF_SENTENCE.split(line) if part.strip()]
    joined = []  # a line that ends without a mark goes on in the next one, unless that is the signature
    for part in parts:
        goes_on = joined and joined[-1][-1] not in ".!?…\"')" and not CLOSING.fullmatch(part)
        joined = [*joined[:-1], f"{joined[-1]} {part}"] if goes_on else [*joined, part]
    if joined and GREETING.fullmatch(joined[0]):
        joined = joined[1:]
    while len(joined) > 1 and CLOSING.fullmatch(joined[-1]):
        joined = joined[:-1]
    return joined


def first_problem(prompt, answer, most_words=MOST_WORDS):
    """What is wrong with this demonstration, or "fine".

    It looks at length, form and subject, no more: whether a note is good English, and warm, a program that knows one
    small town cannot tell.
    """
    if not isinstance(answer, str) or not reading_text.words(answer):
        return "it is empty"
    if reading_text.echoes(prompt.text, answer):
        return "it echoes the request"
    if len(answer.split()) > most_words:
        return f"it has {len(answer.split())} words, more than {most_words}"
    found, said = its_sentences(answer), {word.removesuffix("'s") for word in reading_text.words(answer)}
    for so, problem in ((THANKS.search(answer), "it does not say thank you"),
                        (said & {"umbrella", "umbrellas", "brolly"}, "it does not mention the umbrella"),
                        ("fay" in said, "it does not say whom it is for: Fay"),
                        (len(found) == 2, f"it has {len(found)} sentence{'s' * (len(found) != 1)}, not 2"),
                        (found and re.search(r"[.!?…][\"')\]]*$", found[-1]), "its last sentence has no full stop"),
                        (2 * len(said & fluency.common()[0]) >= len(said), "more than half of it are no common words")):
        if not so:
            return problem
    return FINE


def my_answer(request):
    """The course's own demonstration."""
    return "Dear Fay, thank you for the lovely umbrella. Now I can walk in the rain and sing."


def _verdict(function, request):
    return first_problem(REQUEST, function(request))


demonstration = Exercise(
    "1.1", "write a demonstration", 8, 1,
    ("Read the request twice: who, for what, and how long?",
     "Write what you would be glad to get: say what you thank for, and add something that only you could add. Then "
     "count the sentences.",
     "For example: return \"Dear Fay, thank you for the lovely umbrella. Now I can walk in the rain and sing.\""),
    task=f"`request` is the request above, a string. Return your answer as one string: two sentences of thanks to Fay "
         f"for the umbrella, in your own words and in at most {MOST_WORDS} words, each ending with a full stop, an "
         "exclamation mark or a question mark. A greeting, a signature or a smiley is welcome and is not counted as a "
         "sentence. The check sees form and subject; whether your note is kind, only Fay can say.",
    course=my_answer, cases=lambda: [(REQUEST.text,)], observe=_verdict)


@demonstration.mistake("it is empty. A row without an answer would teach the model to stop at once.")
def _empty(request):
    return ""


@demonstration.mistake("it echoes the request. A model that learns from such rows repeats its customers; say it in "
                       "other words.")
def _echo(request):
    return request


@demonstration.mistake("it does not say thank you, which is what the customer wants to say.")
def _without_thanks(request):
    return "Dear Fay, the umbrella is blue. It is raining today."


@demonstration.mistake(f"it has more than {MOST_WORDS} words. Long answers cost time to write, to read and to train "
                       "on, and this customer asked for a note.")
def _long(request):
    return ("Dear Fay, thank you so very much for the umbrella that you gave me on my way home in the rain. I will "
            "take it with me to the market and to the river and to the mill, and I will think of you each time I open "
            "it.")


@demonstration.mistake("it has three sentences, but the customer asked for exactly two. Explicit instructions are "
                       "checked first.")
def _three_sentences(request):
    return "Dear Fay, thank you. The umbrella is lovely. I use it every day."


@demonstration.mistake("it has one sentence, but the customer asked for exactly two. Short is not the same as right.")
def _one_sentence(request):
    return "Dear Fay, thank you for the umbrella."


@demonstration.mistake("it does not mention the umbrella. A demonstration that would fit any request teaches the model "
                       "to ignore the request.")
def _without_the_gift(request):
    return "Dear Fay, thank you so much. It was kind of you to think of me."


@demonstration.mistake("its last sentence has no full stop. The model would copy that too, so add one.")
def _no_full_stop(request):
    return "Dear Fay, thank you for the lovely umbrella. I use it every day"


EXERCISES = [demonstration]
