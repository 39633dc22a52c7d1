"""Exercise 1.1: write a demonstration that does what is asked and teaches no bad habits."""


from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.town import reading_text
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import Prompt

# ---------------------------------------------------------------- 1.1 write one yourself

REQUEST = Prompt("mine-0001", "Write a thank-you note to Fay for the umbrella. Use exactly two sentences.",
                 "generation", "thanks", "c-me", "train",
                 {"kind": "write", "sentences": [1, 5], "constraint": {"sentences": 2},
                  "must": [["Fay"], ["umbrella"], ["thank", "thanks", "grateful"]]})
MOST_WORDS = 40


def first_problem(prompt, answer, most_words=MOST_WORDS):
    """What is wrong with a demonstration, or "fine"; a correct word that the grader does not know is fine too."""
    if not isinstance(answer, str) or not answer.strip():
        return "it is empty"
    if reading_text.echoes(prompt.text, answer):
        return "it echoes the request"
    if len(answer.split()) > most_words:
        return f"it has more than {most_words} words"
    wanted, found = prompt.spec["constraint"]["sentences"], len(reading_text.sentences(answer))
    if found != wanted:
        return f"it has {found} sentences, not {wanted}"
    reasons = [reason for reason in grade(prompt, answer).reasons if not reason.startswith("not a word")]
    return reasons[0] if reasons else "fine"


def my_answer(request):
    """The course's own demonstration."""
    return "Dear Fay, thank you for the lovely umbrella. Now I can walk in the rain and sing."


def _verdict(function, request):
    return first_problem(REQUEST, function(request))


demonstration = Exercise(
    "1.1", "write a demonstration", 8, 1,
    ("Read the request twice: who, for what, and how long? Then write what you would be glad to get, in plain "
     "words: the grading program knows about 2,300 of them.",
     "For example: return \"Dear Fay, thank you for the lovely umbrella. Now I can walk in the rain and sing.\""),
    course=my_answer, cases=lambda: [(REQUEST.text,)], observe=_verdict)


@demonstration.mistake("it is empty. A row without an answer would teach the model to stop at once.")
def _empty(request):
    return ""


@demonstration.mistake("it echoes the request. A model that learns from such rows repeats its customers; say it in "
                       "other words.")
def _echo(request):
    return request


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
