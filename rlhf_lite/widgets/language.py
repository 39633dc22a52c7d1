"""What the ranking page says, in the language of the person who ranks.

All its sentences are in texts/en.json. A translation is that file again under another name, for example texts/de.json,
with the same keys and the same {places} in every sentence; a sentence it lacks is shown in English.
"""

import functools
import json
import os
from pathlib import Path

TEXTS = Path(__file__).with_name("texts")
VARIABLE = "RLHF_LITE_LANGUAGE"  # the environment variable that chooses a language where no argument does


def languages():
    """The languages there are, as the names of their files: ["de", "en"]."""
    return sorted(path.stem for path in TEXTS.glob("*.json"))


def speaker(language=None):
    """say("saved", number=4) -> "Saved: 4 answers ranked."; language None means $RLHF_LITE_LANGUAGE, or English."""
    found = texts(language or os.environ.get(VARIABLE) or "en")
    return lambda name, **values: found[name].format(**values) if values else found[name]


@functools.cache
def texts(language):
    """{name of a sentence: sentence} in a language."""
    if language not in languages():
        raise ValueError(f"there is no language {language!r} here; use one of {', '.join(languages())}")
    english, chosen = (json.loads((TEXTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", language))
    return {**english, **chosen}
