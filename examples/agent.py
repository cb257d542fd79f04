"""An agent in thirty lines: it remembers what sensors tell it, and tells whoever asks.

    thalovant-server up --data data --agent default=python:agent:reply

The module is looked for in the directory where you type that. Each part that is yielded is an utterance of its own.
"""

import re
from collections.abc import Iterator

REPORT = re.compile(r"it is (-?\d+(?:\.\d+)?) degrees in the ([\w -]+)", re.IGNORECASE)
QUESTION = re.compile(r"how warm is the ([\w -]+)", re.IGNORECASE)
TOO_WARM = 30.0

degrees: dict[str, float] = {}


def reply(text: str) -> Iterator[str]:
    if report := REPORT.search(text):
        place = report[2].strip().lower()
        degrees[place] = float(report[1])
        yield f"Noted: {degrees[place]:g} degrees in the {place}."
        if degrees[place] > TOO_WARM:
            yield "Open the window."
    elif question := QUESTION.search(text):
        place = question[1].strip().lower()
        known = place in degrees
        yield f"It is {degrees[place]:g} degrees in the {place}." if known else f"Nobody has told me of the {place}."
    else:
        yield "Tell me how warm it is somewhere, or ask me."
