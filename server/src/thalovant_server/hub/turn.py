# SPDX-License-Identifier: Apache-2.0
"""One turn: an ask, the parts of its answer so far, how it ended, and who listens (contract sections 9.2, 9.3).

A client that announced "handled" gets each part as it is yielded; any other gets the whole answer at once when the
agent is done, because published SDKs drop parts that come 250 ms after the first.

The ask's context comes back with each message, so many parts to a large context would multiply: what is sent at once
is at most `Limits.parts_at_once` messages, more parts are joined with a space; and a listener whose context was sent
back `Limits.streamed_context_bytes` long hears the rest when the agent is done.

An ask that was heard in part and is sent again, after a lost link, goes on behind what was heard.

It will not run an agent, keep time or know that other turns exist (`hub.runtime`), nor make messages (`hub.replies`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalovant_server.hub.limits import Limits
from thalovant_server.hub.replies import Asker, Replies, replies_to

if TYPE_CHECKING:
    from thalovant_server.hub.ask import Ask


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: a code for programs, a sentence for people, nothing of the agent's insides."""

    code: str
    sentence: str


@dataclass(slots=True)
class _Listener:
    asker: Asker
    query_id: str | None
    streams: bool  # hears each part as it comes
    replies: Replies
    sent: int  # parts
    context_bytes: int = 0  # sent back to it so far


class Turn:
    """The life of one ask. `finish` or `fail` ends it, once; later calls change nothing.

    `id` names this run of the agent: the same ask, run again when it was forgotten, is another turn.
    """

    __slots__ = ("_limits", "_listeners", "ask", "done", "failure", "id", "parts", "size")

    def __init__(self, ask: Ask, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.id = secrets.token_hex(8)
        self.ask: Ask | None = ask
        self.parts: list[str] = []
        self.size = 0
        self.done = False
        self.failure: Failure | None = None
        self._listeners: list[_Listener] = []

    def attach(self, asker: Asker, ask: Ask) -> None:
        """Let `asker` hear the answer: what there is now, and what comes. Once a connection while it runs."""
        listener = self._listener(asker, ask)
        if not self.done and any((each.asker, each.query_id) == (asker, ask.query_id) for each in self._listeners):
            return
        if self.done:
            self._tell(listener)
            return
        self._listeners.append(listener)
        if listener.streams:
            self._tell(listener)

    def detach(self, asker: Asker, failure: Failure) -> bool:
        """Tell `asker` that for it the ask ends so; return whether anybody else still waits for the answer."""
        for listener in [each for each in self._listeners if each.asker is asker]:
            self._listeners.remove(listener)
            self._dismiss(listener, failure)
        return any(not listener.asker.closed for listener in self._listeners)

    def add(self, part: str) -> None:
        """The next part. Empty ones say nothing and are left out."""
        if self.done or not part:
            return
        self.parts.append(part)
        self.size += len(part.encode())
        for listener in self._listeners:
            if listener.streams:
                self._tell(listener)

    def finish(self) -> None:
        """The agent has said everything."""
        self._end(None)

    def fail(self, failure: Failure) -> None:
        """There will be no answer, or no more of it."""
        self._end(failure)

    def _end(self, failure: Failure | None) -> None:
        if self.done:
            return
        self.done = True
        self.failure = failure
        listeners, self._listeners = self._listeners, []
        self.ask = None  # the request is not needed for repeating the answer
        for listener in listeners:
            self._tell(listener)

    def _listener(self, asker: Asker, ask: Ask) -> _Listener:
        """A query ends when it is told so: it can hear parts as they come, whoever asks (contract 9.5)."""
        heard = ask.heard.parts if ask.heard is not None and ask.heard.turn == self.id else 0
        streams = asker.streams or ask.query_id is not None
        return _Listener(
            asker, ask.query_id, streams, replies_to(asker, ask, self.id), sent=min(heard, len(self.parts))
        )

    def _tell(self, listener: _Listener) -> None:
        """Send one listener what it has not heard yet; to one that gathers, nothing but a whole answer."""
        if listener.asker.closed:
            return
        replies, said = listener.replies, len(self.parts)
        messages = [replies.speak(text, parts) for text, parts in self._due(listener)]
        listener.context_bytes += len(messages) * replies.context_bytes
        if self.done:
            messages.append(replies.handled(said) if self.failure is None else replies.failed(self.failure, said))
        if messages:
            listener.asker.send(messages)

    def _due(self, listener: _Listener) -> list[tuple[str, int]]:
        """What a listener hears now of what it has not heard yet, joined to as many parts as may be sent at once.

        With each piece, how many parts have been said when it is heard.
        """
        streams = listener.streams and listener.context_bytes < self._limits.streamed_context_bytes
        if not (streams or (self.done and (self.failure is None or listener.streams))):
            return []
        first, end = listener.sent, len(self.parts)
        listener.sent = end
        each = max(-(-(end - first) // self._limits.parts_at_once), 1)
        return [(" ".join(self.parts[at : at + each]), min(at + each, end)) for at in range(first, end, each)]

    def _dismiss(self, listener: _Listener, failure: Failure) -> None:
        if not listener.asker.closed:
            listener.asker.send([listener.replies.failed(failure, listener.sent)])
