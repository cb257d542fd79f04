# SPDX-License-Identifier: Apache-2.0
"""Which hub session a payload of one MQTT client belongs to (contract 10.3, "rule for our hub").

The client has a connection of its own (`mqtt`), or is one of many behind an outside broker (`broker_link`).

A clear `hello` always begins a new session in place of the old one, and its spelling of the topic (`in` or
`c2s`) decides where every answer of that session goes. A payload without a session makes the hub send HELLO
and offer: it is the only way to tell a client, in MQTT, that its session is gone. It knows no packet and no
socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from thalovant.protocol.clear import clear_kind
from thalovant.protocol.topics import ONLINE, SPELLINGS
from thalovant_server.hub.presence import DISCONNECTED, TAKEN_OVER
from thalovant_server.hub.refusal import HANDSHAKE_TIMEOUT, Refused

if TYPE_CHECKING:
    from thalovant_server.directory import CredentialEntry
    from thalovant_server.hub.connection import Connection, Link
    from thalovant_server.hub.refusal import Refusal

log = structlog.get_logger("thalovant.mqtt")


class Begin(Protocol):
    """`Hub.connect`: begins a session, or raises `Refused` (when the hub stops, for one)."""

    def __call__(self, link: Link, credential: CredentialEntry, user_agent: str | None) -> Connection: ...


class Carrier(Protocol):
    """What a dialogue needs of the way to its client."""

    remote: str  # address and port, for the log
    host: str  # the address alone

    @property
    def patience(self) -> float | None:
        """Seconds that its client may be silent; None: the client wants no keep alive."""

    def silence(self) -> float:
        """Seconds since the last sign of life."""
        ...

    def hears(self, segment: str) -> bool:
        """Whether the client is subscribed to that topic."""
        ...

    def deliver(self, segment: str, frames: list[bytes]) -> None:
        """Publish these, in order, after everything before."""

    def refused(self, segment: str, refusal: Refusal) -> None:
        """The hub ended the session whose answers went to `segment`, or began none; the client is to be told."""


class Dialogue:
    """At most one hub session at a time, of one MQTT client."""

    __slots__ = ("_begin", "_carrier", "_credential", "_declared", "_link", "_session", "_solicited")

    def __init__(self, carrier: Carrier, credential: Callable[[], CredentialEntry | None], begin: Begin) -> None:
        self._carrier = carrier
        self._credential = credential
        self._begin = begin
        self._session: Connection | None = None
        self._link: _SessionLink | None = None
        self._solicited = False  # the client itself said hello, or answered the offer
        self._declared = False  # the client said `online` since the session began

    @property
    def answers(self) -> str | None:
        """The segment on which the session answers; None without one."""
        return None if self._link is None else self._link.segment

    def receive(self, segment: str, payload: bytes) -> None:
        """A payload arrived on `<prefix>/<segment>`, `c2s` or `in`. An empty one is ignored."""
        if not payload:
            return
        kind = clear_kind(payload)
        if kind == "hello":
            self._start(segment, solicited=True)
        elif self._session is None:
            self._start(segment, solicited=False)
        elif kind == "shake":
            self._solicited = True
            self._session.receive_clear(payload)
        elif self._solicited:
            self._session.receive_sealed(payload)
        # Else it is one more frame of a session that is gone; the offer is already on its way.

    def said(self, status: bytes) -> None:
        """The client published its status. `offline` ends the session whose `online` was seen, and no other."""
        if status == ONLINE:
            self._declared = self._session is not None
        elif self._declared:
            self.stop(DISCONNECTED)

    def left(self, segment: str) -> None:
        """The client unsubscribed: a session whose answers went there has lost frames and is over."""
        if self._link is not None and self._link.segment == segment:
            self.stop(DISCONNECTED)

    def stop(self, why: str) -> None:
        """End the session, if there is one, `why` in a word of `hub.presence`. Whatever carries it stays."""
        session, self._session, self._link = self._session, None, None
        self._solicited = self._declared = False
        if session is not None:
            session.lost(why)

    def end(self, refusal: Refusal) -> None:
        """End the session, if there is one, as the hub does: the client is told."""
        if self._session is not None:
            self._session.end(refusal)

    def _start(self, segment: str, *, solicited: bool) -> None:
        answers = SPELLINGS[segment]
        credential = self._credential()
        if credential is None or not self._carrier.hears(answers):
            log.debug("no_answer_topic", segment=answers, remote=self._carrier.remote)
            return
        self.stop(TAKEN_OVER)
        self._solicited = solicited
        self._link = link = _SessionLink(self, answers, self._carrier)
        try:
            session = self._begin(link, credential, None)
        except Refused as refused:
            self.ended(link, refused.refusal)
            return
        if self._link is link:
            self._session = session

    def deliver(self, link: _SessionLink, frames: list[bytes]) -> None:
        """A session sends; one that was replaced is not heard any more."""
        if link is self._link:
            self._carrier.deliver(link.segment, frames)

    def ended(self, link: _SessionLink, refusal: Refusal) -> None:
        """A session was ended by the hub. Of one that never finished its handshake nobody is told."""
        if link is not self._link:
            return
        self._session = self._link = None
        self._solicited = self._declared = False
        if refusal.code != HANDSHAKE_TIMEOUT.code:
            self._carrier.refused(link.segment, refusal)


class _SessionLink:
    """The hub's way out for one session (`hub.connection.Link`)."""

    __slots__ = ("_connection", "_dialogue", "carrier", "remote", "segment")

    def __init__(self, dialogue: Dialogue, segment: str, connection: Carrier) -> None:
        self._dialogue = dialogue
        self._connection = connection
        self.segment = segment
        self.carrier = "mqtt"
        self.remote = connection.host

    @property
    def patience(self) -> float | None:
        return self._connection.patience

    def silence(self) -> float:
        return self._connection.silence()

    def send_clear(self, data: bytes) -> None:
        self._dialogue.deliver(self, [data])

    def send_sealed(self, frames: list[bytes]) -> None:
        self._dialogue.deliver(self, frames)

    def close(self, refusal: Refusal) -> None:
        self._dialogue.ended(self, refusal)
