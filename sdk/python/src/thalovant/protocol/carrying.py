# SPDX-License-Identifier: Apache-2.0
"""What a conversation carries from one turn to the next (contract 9.1).

The hub puts the state of a conversation into the session of `ovos.utterance.handled`; the next ask of the same session
brings it back. That event may come after the ask has returned, so the latest request ids of each conversation are
remembered. Sans-I/O; knows no connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from thalovant.protocol.contexts import session_of

CARRIED_KEYS: Final = (
    "converse_handlers",
    "active_handlers",
    "active_skills",
    "context",
    "utterance_states",
    "response_mode",
)
MAX_CONVERSATIONS: Final = 32
MAX_REQUESTS: Final = 8
"""Request ids remembered of one conversation."""


class Conversations:
    """The state of the latest conversations of one client, by session id; the one unused longest goes first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Conversation] = OrderedDict()
        self._sessions: dict[str, str] = {}  # request id -> session id

    def __len__(self) -> int:
        return len(self._known)

    def begin_turn(self, session_id: str, request_id: str) -> dict[str, Any]:
        """Take note of an ask, and return what its session carries on."""
        conversation = self._known.setdefault(session_id, _Conversation())
        self._known.move_to_end(session_id)
        requests = [*(each for each in conversation.requests if each != request_id), request_id]
        conversation.requests = requests[-MAX_REQUESTS:]
        self._sessions[request_id] = session_id
        self._forget_requests(session_id, requests[:-MAX_REQUESTS])
        while len(self._known) > MAX_CONVERSATIONS:
            oldest, forgotten = self._known.popitem(last=False)
            self._forget_requests(oldest, forgotten.requests)
        return dict(conversation.state)

    def handled(self, request_id: str, context: Mapping[str, Any]) -> None:
        """Take what an `ovos.utterance.handled` says, unless a later turn of the conversation has said it already."""
        session_id = self._sessions.get(request_id, "")
        conversation = self._known.get(session_id)
        if conversation is None or request_id not in conversation.requests:
            return
        at = conversation.requests.index(request_id)
        self._forget_requests(session_id, conversation.requests[:at])
        conversation.requests = conversation.requests[at:]
        session = session_of(context)
        conversation.state = {key: session[key] for key in CARRIED_KEYS if key in session}

    def _forget_requests(self, session_id: str, request_ids: list[str]) -> None:
        for request_id in request_ids:
            if self._sessions.get(request_id) == session_id:
                del self._sessions[request_id]


class _Conversation:
    __slots__ = ("requests", "state")

    def __init__(self) -> None:
        self.requests: list[str] = []  # oldest first
        self.state: dict[str, Any] = {}
