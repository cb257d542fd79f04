# SPDX-License-Identifier: Apache-2.0
"""What a server says of itself at a broker, retained below its topic root: that it is there, and which one it is."""

from __future__ import annotations

from thalovant.protocol.topics import OFFLINE, ONLINE


def online(instance: bytes) -> bytes:
    """What the server of that instance says while its link is up."""
    return ONLINE + b" " + instance


def offline(instance: bytes) -> bytes:
    """What it says at its end, and the broker in its name when the link is lost."""
    return OFFLINE + b" " + instance


def is_another(said: bytes | None, instance: bytes) -> bool:
    """Whether this was said by another server, which is there."""
    return said is not None and said.startswith(ONLINE) and said != online(instance)
