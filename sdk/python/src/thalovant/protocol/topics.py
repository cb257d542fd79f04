# SPDX-License-Identifier: Apache-2.0
"""The three topics of a client, in both spellings, and what a topic name may look like.

Sources: contract 10.3 (the identity's `topic_prefix`), the published page (explicit `c2s_topic`, `s2c_topic`,
`status_topic`) and MQTT 3.1.1, 4.7. This file knows no filters: a gateway compares whole topics.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from thalovant.protocol.errors import TopicError

SPELLINGS = {"c2s": "s2c", "in": "out"}
"""Last segment on which a client speaks to its hub: last segment on which the hub answers."""

STATUS = "status"
ONLINE = b"online"
OFFLINE = b"offline"
MAX_TOPIC = 65_535


@dataclass(frozen=True, slots=True)
class TopicSet:
    """The topics that one client uses: it publishes to `c2s` and `status`, and hears the hub on `s2c`."""

    c2s: str
    s2c: str
    status: str


def topics_for(
    prefix: str | None,
    *,
    c2s_topic: str | None = None,
    s2c_topic: str | None = None,
    status_topic: str | None = None,
) -> TopicSet:
    """The topics of an identity (contract 10.3): an explicit one wins, each on its own, over one below the prefix.

    Raises TopicError when a topic is neither given nor to be made, or is not a topic name.
    """
    return TopicSet(
        _explicit(c2s_topic) or below(prefix, "in"),
        _explicit(s2c_topic) or below(prefix, "out"),
        _explicit(status_topic) or below(prefix, STATUS),
    )


def hub_topics(prefix: str) -> tuple[TopicSet, TopicSet]:
    """Both spellings that a hub serves below a prefix.

    The documented `c2s|s2c|status` first, then the derived `in|out|status`. Raises TopicError.
    """
    first, second = (
        TopicSet(below(prefix, inbound), below(prefix, outbound), below(prefix, STATUS))
        for inbound, outbound in SPELLINGS.items()
    )
    return first, second


def below(prefix: str | None, segment: str) -> str:
    """`<prefix>/<segment>`, the prefix without the blanks and slashes around it. Raises TopicError."""
    cleaned = (prefix or "").strip().strip("/")
    if not cleaned:
        raise TopicError("The identity has no MQTT topic prefix; ask for a new identity.", topic=prefix or "")
    return _checked(f"{cleaned}/{segment}")


def valid_topic_name(topic: bytes | str) -> bool:
    """Whether one may publish to it: 1 to 65535 bytes of UTF-8, no wildcard or U+0000 (MQTT 4.7.1, 4.7.3)."""
    text = _text(topic)
    return text is not None and "+" not in text and "#" not in text


def _explicit(topic: str | None) -> str | None:
    return _checked(topic.strip()) if topic and topic.strip() else None


def _checked(topic: str) -> str:
    if not valid_topic_name(topic):
        raise TopicError("The topic is empty, too long or has a wildcard; ask for a new identity.", topic=topic)
    if any(unicodedata.category(character) == "Cc" for character in topic):
        raise TopicError("The topic has a control character; ask for a new identity.", topic=topic)
    return topic


def _text(topic: bytes | str) -> str | None:
    try:
        raw = topic.encode() if isinstance(topic, str) else topic
        text = raw.decode()
    except UnicodeError:
        return None
    return text if 0 < len(raw) <= MAX_TOPIC and "\0" not in text else None
