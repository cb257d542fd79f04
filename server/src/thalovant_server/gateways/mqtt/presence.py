# SPDX-License-Identifier: Apache-2.0
"""Who is online, as the clients themselves say it: the one retained message of each credential's `status`
topic.

`online` while any live connection of the credential has declared itself online, else `offline`, and nothing
before anybody said anything. In memory only. It will not send anything and knows no topic.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from thalovant.protocol.topics import OFFLINE, ONLINE


@dataclass(slots=True)
class _Said:
    online: set[Hashable] = field(default_factory=set)
    author: str | None = None

    @property
    def status(self) -> bytes:
        return ONLINE if self.online else OFFLINE


class PresenceBoard:
    """The status of every credential of which a connection ever declared one, by credential id."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: dict[int, _Said] = {}

    def status(self, credential_id: int) -> bytes | None:
        """`online`, `offline`, or None when nobody declared anything."""
        said = self._said.get(credential_id)
        return None if said is None else said.status

    def author(self, credential_id: int) -> str | None:
        """The MQTT client id of whoever last changed the status; None when nobody did, or said it."""
        said = self._said.get(credential_id)
        return None if said is None else said.author

    def declare(self, credential_id: int, who: Hashable, status: bytes, author: str | None = None) -> bool:
        """Connection `who`, of client id `author`, declares itself `online` or `offline`; whether that changed the
        credential's status.
        """
        before = self.status(credential_id)
        said = self._said.setdefault(credential_id, _Said())
        if status == ONLINE:
            said.online.add(who)
        else:
            said.online.discard(who)
        changed = said.status != before
        if changed:
            said.author = author
        return changed

    def leave(self, credential_id: int, who: Hashable, author: str | None = None) -> bool:
        """Connection `who` is gone, and with it what it declared; whether that changed the status.

        `author` is its client id where its will said so, None where it just went.
        """
        said = self._said.get(credential_id)
        if said is None or who not in said.online:
            return False
        said.online.discard(who)
        if said.online:
            return False
        said.author = author
        return True

    def forget(self, credential_id: int) -> None:
        """The credential is gone: nothing is retained for it any more."""
        self._said.pop(credential_id, None)
