# SPDX-License-Identifier: Apache-2.0
"""Where an outside broker is, and what everything of ours is called there: topics below the root, users, roles.

What is ours on a shared broker is known by its role's name, `<namespace>:<what>`; nothing else there is looked at or
touched. Opens nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

MQTTS_PORT = 8883
ROOT_LENGTH = 100

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's host and port; always over TLS."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `mqtts://HOST[:PORT]`; the port is 8883 where none is given.

        Raises:
            ValueError: it is something else; the text says what.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("mqtts", "ssl"):
            raise ValueError(
                f"{parts.scheme or url}: give mqtts://HOST:PORT (passwords travel there, so only over TLS)"
            )
        if parts.username is not None or parts.password is not None:
            raise ValueError("no user and no password in it: they have options of their own")
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("give mqtts://HOST:PORT and nothing more")
        return cls(parts.hostname, parts.port or MQTTS_PORT)

    @property
    def where(self) -> str:
        """`host:port`, for people."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"mqtts://{self.where}"


def check_root(root: str) -> str:
    """Return a topic root as it is used: without slashes at its ends.

    Raises:
        ValueError: a segment of it is not of A-Z a-z 0-9 _ -, or it has more than 100 characters.
    """
    root = root.strip("/")
    if len(root) > ROOT_LENGTH:
        raise ValueError(f"a topic root has at most {ROOT_LENGTH} characters")
    if any(not _SEGMENT.fullmatch(segment) for segment in root.split("/") if root):
        raise ValueError(
            "a topic root is made of A-Z a-z 0-9 _ - and of / between them, such as home/thalovant; no + or #, which "
            "would reach what is not ours"
        )
    return root


@dataclass(frozen=True, slots=True)
class Namespace:
    """All names of one topic root (`check_root` has seen it)."""

    root: str = ""

    @property
    def name(self) -> str:
        """What every role of ours begins with, before the colon: different for every root."""
        return f"thalovant.{self.root.replace('/', '.')}" if self.root else "thalovant"

    @property
    def server(self) -> str:
        """User and role of the hubs themselves."""
        return f"{self.name}:server"

    @property
    def presence(self) -> str:
        """The topic on which the server that serves this root says that it is there; retained."""
        return self.topic("server/status")

    def role(self, client_id: str, number: int) -> str:
        """The role of a client's ``number``-th credential."""
        return f"{self.name}:{client_id}.{number}"

    def owns(self, role: str) -> bool:
        """Whether a role is one of ours."""
        return role.startswith(f"{self.name}:")

    def topic(self, topic: str) -> str:
        """A topic below the root."""
        return f"{self.root}/{topic}" if self.root else topic

    def has(self, topic: str) -> bool:
        """Whether a topic, or the prefix of some, lies below the root and where hubs have theirs."""
        return topic.startswith(self.topic("hubs/"))
