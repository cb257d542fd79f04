# SPDX-License-Identifier: Apache-2.0
"""The messages that answer an ask or a query, and those that deny one (contract sections 9.2, 9.4, 9.5).

It decides nothing about what is said, to whom or when (`hub.turn`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.progress import MARK, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalovant_server.hub.ask import Ask
    from thalovant_server.hub.policy import Deny
    from thalovant_server.hub.turn import Failure

NO_ANSWER = "no_answer"


class Asker(Protocol):
    """Where answers go: a connection. `streams`: it announced "handled"; `node_id` names the server."""

    peer: str
    streams: bool
    closed: bool

    @property
    def node_id(self) -> str:
        """The server's name."""

    def send(self, messages: Iterable[HiveMessage]) -> None:
        """Send messages in this order."""


class Replies:
    """Answers an ask: its whole context comes back with each message, the request id in it.

    To a client that announced "handled" each says how far the answer of which turn has come (docs/wire.md).
    """

    def __init__(self, asker: Asker, ask: Ask, turn_id: str) -> None:
        self._peer = asker.peer
        self._turn_id = turn_id if asker.streams else None
        self._ask = ask
        self._context: dict[str, Any] = {**ask.context, "source": "hive", "destination": asker.peer}
        if ask.request_id is not None:
            self._context["request_id"] = ask.request_id

    @property
    def context_bytes(self) -> int:
        """Bytes of the context that each message carries back."""
        return self._ask.context_bytes

    def speak(self, text: str, parts: int) -> HiveMessage:
        """A piece of the answer; with it, so many parts have been said."""
        data = {"utterance": text, "lang": self._ask.lang, "expect_response": False, "meta": {}}
        return self._message("speak", data, parts)

    def handled(self, parts: int) -> HiveMessage:
        """The end of an answer of so many parts; always its last event."""
        return self._message("ovos.utterance.handled", {}, parts)

    def failed(self, failure: Failure, parts: int) -> HiveMessage:
        """The end of an ask without an answer: `error` is what the published SDK shows (ask-scenarios.json)."""
        data = {"query_id": self._ask.request_id, "error": failure.sentence, "code": failure.code}
        return self._message("hive.query.timeout", data, parts)

    def _message(self, bus_type: str, data: dict[str, Any], parts: int) -> HiveMessage:
        payload = {"type": bus_type, "data": data, "context": self._context}
        return HiveMessage("bus", payload, self._mark(parts), source_peer=self._peer)

    def _mark(self, parts: int) -> dict[str, Any]:
        return {MARK: Progress(self._turn_id, parts).as_dict()} if self._turn_id is not None else {}


class QueryReplies(Replies):
    """Answers a query: everything travels in `query` frames, with a context of its own."""

    def __init__(self, asker: Asker, ask: Ask, turn_id: str) -> None:
        super().__init__(asker, ask, turn_id)
        self._metadata = query_metadata(asker, ask.query_id)
        self._context = {"query_id": ask.query_id, "request_id": ask.request_id}

    @property
    def context_bytes(self) -> int:
        """The asker's context stays here."""
        return 0

    def handled(self, parts: int) -> HiveMessage:
        """The end of an answer; of an empty one, that nobody answered (contract 9.5)."""
        if parts:
            return self._message("hive.query.complete", {}, parts)
        data = {"query_id": self._ask.query_id, "error": NO_ANSWER, "code": NO_ANSWER}
        return self._message("hive.query.timeout", data, parts)

    def failed(self, failure: Failure, parts: int) -> HiveMessage:
        """The same as of an ask, under the query's id."""
        data = {"query_id": self._ask.query_id, "error": failure.sentence, "code": failure.code}
        return self._message("hive.query.timeout", data, parts)

    def _message(self, bus_type: str, data: dict[str, Any], parts: int) -> HiveMessage:
        inner = bus(bus_type, data, self._context)
        route = [{"source": self._peer, "targets": [self._peer]}]
        return HiveMessage("query", inner.as_dict(), self._metadata | self._mark(parts), route)


def replies_to(asker: Asker, ask: Ask, turn_id: str) -> Replies:
    """What answers this ask."""
    return Replies(asker, ask, turn_id) if ask.query_id is None else QueryReplies(asker, ask, turn_id)


def denied(asker: Asker, denial: Deny) -> list[HiveMessage]:
    """The refusal of a message, with its request id, so that it ends the right ask (contract 9.4).

    A query hears it in a frame of its own, the only place where published clients listen for it; who subscribed to
    refusals hears it on the bus.
    """
    context: dict[str, Any] = {"source": "hub", "destination": asker.peer}
    if denial.request_id is not None:
        context["request_id"] = denial.request_id
    data = {"denied_type": denial.denied_type, "code": denial.code, "reason": denial.reason, "data": denial.data}
    message = bus("hive.policy.denied", data, context)
    if denial.query_id is None:
        return [message]
    return [HiveMessage("query", message.as_dict(), query_metadata(asker, denial.query_id)), message]


def query_metadata(asker: Asker, query_id: str | None) -> dict[str, Any]:
    """What a `query` frame that answers says of itself (vectors/hive-messages.json)."""
    return {
        "query_id": query_id,
        "originator_peer": asker.peer,
        "responder_peer": asker.node_id,
        "is_response": True,
    }
