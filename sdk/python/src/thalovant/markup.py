# SPDX-License-Identifier: Apache-2.0
"""Take speech markup out of a text that is to be shown. Changes nothing else: entities and spaces stay."""

from __future__ import annotations

import re

# A comment, a processing instruction, or a tag whose name starts with an ASCII letter. "5 < 6" is no tag, nor
# is one that never closes. The possessive repeats keep a long unclosed tag from being tried in every way.
_MARKUP = re.compile(
    r"""<!--.*?-->|<\?.*?\?>|</?[A-Za-z](?:[^>"']++|"[^"]*+"|'[^']*+')*+>""",
    re.DOTALL,
)


def strip_ssml(text: str) -> str:
    """Return `text` without its tags, comments and processing instructions (contract 9.6)."""
    return _MARKUP.sub("", text) if "<" in text else text
