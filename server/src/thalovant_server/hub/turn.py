# SPDX-License-Identifier: Apache-2.0
"""One turn: an ask, the parts of its answer so far, how it ended, and who listens (contract sections 9.2, 9.3).

A client that announced "handled" gets each part as it is yielded; any other gets the whole answer at once when the
agent is done, because published SDKs drop parts that come 250 ms after the first.

The ask's context comes back with each message, so many parts to a large context would multiply: what is sent at once
is at most `Limits.parts_at_once` messages, more parts are joined with a space; and a listener whose context was sent
back `Limits.streamed_context_bytes` long hears the rest when the agent is done.

It will not run an agent, keep time or know that other turns exist (`hub.runtime`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thalovant.protocol.messages import HiveMessage
from thalovant_server.hub.limits import Limits

if TYPE_CHECKING:
    from thalovant_server.hub.ask import Ask


class Asker(Protocol):
    """Where answers go: a connection."""

    peer: str
    streams: bool
    closed: bool

    def send(self, messages: Iterable[HiveMessage]) -> None:
        """Send messages in this order."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: a code for programs, a sentence for people, nothing of the agent's insides."""

    code: str
    sentence: str


@dataclass(slots=True)
class _Listener:
    asker: Asker
    ask: Ask
    sent: int = 0
    context_bytes: int = 0  # sent back to it so far
    replies: Replies | None = None


class Turn:
    """The life of one ask. `finish` or `fail` ends it, once; later calls change nothing."""

    __slots__ = ("_limits", "_listeners", "ask", "done", "failure", "parts", "size")

    def __init__(self, ask: Ask, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.ask: Ask | None = ask
        self.parts: list[str] = []
        self.size = 0
        self.done = False
        self.failure: Failure | None = None
        self._listeners: list[_Listener] = []

    def attach(self, asker: Asker, ask: Ask) -> None:
        """Let `asker` hear the answer: what there is now, and what comes. Once a connection while it runs."""
        if not self.done and any(listener.asker is asker for listener in self._listeners):
            return
        listener = _Listener(asker, ask)
        if self.done:
            self._tell(listener)
            return
        self._listeners.append(listener)
        if asker.streams:
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
            if listener.asker.streams:
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

    def _tell(self, listener: _Listener) -> None:
        """Send one listener what it has not heard yet; to one that gathers, nothing but a whole answer."""
        if listener.asker.closed:
            return
        replies = self._replies(listener)
        messages = [replies.speak(part) for part in self._due(listener)]
        listener.context_bytes += len(messages) * listener.ask.context_bytes
        if self.done:
            messages.append(replies.handled() if self.failure is None else replies.failed(self.failure))
        if messages:
            listener.asker.send(messages)

    def _due(self, listener: _Listener) -> list[str]:
        """What a listener hears now of what it has not heard yet, joined to as many parts as may be sent at once."""
        streams = listener.asker.streams and listener.context_bytes < self._limits.streamed_context_bytes
        if not (streams or (self.done and (self.failure is None or listener.asker.streams))):
            return []
        parts = self.parts[listener.sent :]
        listener.sent = len(self.parts)
        each = -(-len(parts) // self._limits.parts_at_once)
        return parts if each <= 1 else [" ".join(parts[at : at + each]) for at in range(0, len(parts), each)]

    def _dismiss(self, listener: _Listener, failure: Failure) -> None:
        if not listener.asker.closed:
            listener.asker.send([self._replies(listener).failed(failure)])

    def _replies(self, listener: _Listener) -> Replies:
        listener.replies = listener.replies or Replies(listener.asker.peer, listener.ask)
        return listener.replies


class Replies:
    """Makes the messages that answer one ask: its whole context comes back, the request id in it (contract 9.2)."""

    __slots__ = ("_ask", "_context", "_peer")

    def __init__(self, peer: str, ask: Ask) -> None:
        self._peer = peer
        self._ask = ask
        self._context: dict[str, Any] = {**ask.context, "source": "hive", "destination": peer}
        if ask.request_id is not None:
            self._context["request_id"] = ask.request_id

    def speak(self, part: str) -> HiveMessage:
        """One part of the answer."""
        return self._bus("speak", {"utterance": part, "lang": self._ask.lang, "expect_response": False, "meta": {}})

    def handled(self) -> HiveMessage:
        """The end of an answer; always its last event."""
        return self._bus("ovos.utterance.handled", {})

    def failed(self, failure: Failure) -> HiveMessage:
        """The end of an ask without an answer: `error` is what the published SDK shows (ask-scenarios.json)."""
        data = {"query_id": self._ask.request_id, "error": failure.sentence, "code": failure.code}
        return self._bus("hive.query.timeout", data)

    def _bus(self, bus_type: str, data: dict[str, Any]) -> HiveMessage:
        payload = {"type": bus_type, "data": data, "context": self._context}
        return HiveMessage("bus", payload, source_peer=self._peer)
