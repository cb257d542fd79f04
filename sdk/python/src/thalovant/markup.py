# SPDX-License-Identifier: Apache-2.0
"""Take speech markup out of a text that is to be shown. Changes nothing else: entities and spaces stay.

Markup is a comment, a processing instruction, or a tag whose name starts with an ASCII letter; a `>` inside a
quoted attribute does not end a tag. "5 < 6" is no tag, nor is one that never closes. The time taken grows
with the length of the text only, whatever the agent wrote: a user may have made it write it.
"""

from __future__ import annotations

import re

_TAG_OPENS = re.compile(r"</?[A-Za-z]")
_SPECIAL = re.compile(r"""[<>"']""")
_BLOCKS = (("<!--", "-->"), ("<?", "?>"))


def strip_ssml(text: str) -> str:
    """Return `text` without its tags, comments and processing instructions (contract 9.6)."""
    if "<" not in text:
        return text
    tag_ends = _tag_ends(text)
    last = {closing: text.rfind(closing) for _, closing in _BLOCKS}
    kept, start, at = [], 0, text.find("<")
    while at >= 0:
        end = _markup_end(text, at, tag_ends, last)
        if end:
            kept.append(text[start:at])
            start = end
        at = text.find("<", end or at + 1)
    return "".join(kept) + text[start:]


def _markup_end(text: str, at: int, tag_ends: dict[int, int], last: dict[str, int]) -> int:
    """Where the markup that opens at `at` is over; 0 when none does."""
    for opening, closing in _BLOCKS:
        inside = at + len(opening)
        # Looking only where a closing is known to follow keeps many unclosed ones from each reading it all.
        if text.startswith(opening, at) and last[closing] >= inside:
            return text.index(closing, inside) + len(closing)
    return tag_ends.get(at, -1) + 1 if _TAG_OPENS.match(text, at) else 0


def _tag_ends(text: str) -> dict[int, int]:
    """For each `<`, where the first `>` after it stands that no quotes enclose. One walk from the right."""
    ends: dict[int, int] = {}
    end = -1  # the answer for a scan that starts right of here
    behind_quote = {'"': -1, "'": -1}  # the answer for one that starts right of the nearest such quote
    for special in reversed([found.start() for found in _SPECIAL.finditer(text)]):
        char = text[special]
        if char == ">":
            end = special
        elif char == "<":
            ends[special] = end
        else:
            end, behind_quote[char] = behind_quote[char], end
    return ends
