# SPDX-License-Identifier: Apache-2.0
"""What a server says of itself at a broker, retained below its topic root: that it is there, and which one it is."""

from __future__ import annotations

import hashlib
import secrets

from thalovant.protocol.topics import OFFLINE, ONLINE


def instance_of(node_id: str) -> bytes:
    """Return what a process of a server calls itself: the server, which stays, and the process, which is this one."""
    server = hashlib.sha256(node_id.encode()).hexdigest()[:16]
    return f"{server}.{secrets.token_hex(8)}".encode()


def online(instance: bytes) -> bytes:
    """What the server of that instance says while its link is up."""
    return ONLINE + b" " + instance


def offline(instance: bytes) -> bytes:
    """What it says at its end, and the broker in its name when the link is lost."""
    return OFFLINE + b" " + instance


def is_past(said: bytes | None, instance: bytes) -> bool:
    """Whether this was said by an earlier process of the same server. It is dead: one process owns a data directory."""
    server, _, _ = instance.partition(b".")
    return is_another(said, instance) and said is not None and said.startswith(online(server) + b".")


def is_another(said: bytes | None, instance: bytes) -> bool:
    """Whether this was said by another server, which is there."""
    return said is not None and said.startswith(ONLINE) and said != online(instance)
