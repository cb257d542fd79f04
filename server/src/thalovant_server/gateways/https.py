# SPDX-License-Identifier: Apache-2.0
"""The HTTPS road: connect, poll, send, disconnect (contract section 10.2), as raw ASGI.

A session belongs to (access key, cookie): whoever knows only the access key can neither poll, send nor disconnect
for another's session, nor displace it. `/connect` always starts a new one.

It will not log a query string or a body: the first holds the access key, the second what was said.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from thalovant_server.gateways.asgi import (
    BodyTooLargeError,
    Receive,
    Scope,
    Send,
    answer,
    answer_json,
    answer_problem,
    read_body,
)
from thalovant_server.gateways.authorization import AuthorizationError, read_authorization
from thalovant_server.gateways.http_session import CARRIER, HttpSession
from thalovant_server.gateways.paths import split_path
from thalovant_server.gateways.refusal_log import RefusalLog
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal, Refused

if TYPE_CHECKING:
    from thalovant_server.directory import CredentialEntry
    from thalovant_server.hub.connection import Connection
    from thalovant_server.hub.hub import Hub

COOKIE = "hivemind_http_replica"
NOT_CONNECTED = {"error": "Client is not connected"}

# Nobody's fault and soon over: whoever asks again later will be let in.
TEMPORARY = frozenset({refusal.BUSY, refusal.RESTARTING})
RETRY_AFTER = ((b"retry-after", b"5"),)

# Each /connect of a key from an address costs a session, and may cost another its place. So many in a window that do
# not lead to a handshake are a fault or an attack; whoever proves the password may come as often as it likes.
CONNECTS = 10
CONNECT_SECONDS = 10.0
TOO_FAST = replace(refusal.BUSY, code="connecting_too_fast", reason="too many sessions begun; try again later")

METHODS = {
    "connect": "POST",
    "get_messages": "GET",
    "get_binary_messages": "GET",
    "send_message": "POST",
    "disconnect": "POST",
}


class HttpsGateway:
    """The ASGI application of the polling road."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._refusals = RefusalLog(CARRIER, hub.clock.now)
        self._limits = hub.limits
        self._sessions: dict[str, dict[str, HttpSession]] = {}
        self._undelivered: set[HttpSession] = set()
        self._delivered = asyncio.Event()
        self._connects: Counter[tuple[str, str]] = Counter()
        self._connects_since = hub.clock.now()

    @staticmethod
    def serves(path: str) -> bool:
        """Whether this path is one of the polling road's."""
        return split_path(path)[1] in METHODS

    @property
    def open(self) -> int:
        """Sessions that are kept, the ended ones included."""
        return sum(map(len, self._sessions.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        hub_id, name = split_path(scope["path"])
        method = METHODS.get(name)
        if method is None:
            await answer_problem(send, 404, "Nothing is served here.", "not_found")
        elif scope["method"] != method:
            allow = ((b"allow", method.encode()),)
            await answer_problem(send, 405, "This address takes another method.", "method_not_allowed", allow)
        else:
            await self._admitted(hub_id, name, scope, receive, send)

    async def drain(self, seconds: float) -> None:
        """Wait until ended sessions were asked for their last frames, or so long."""
        try:
            async with asyncio.timeout(seconds):
                while self._undelivered:
                    self._delivered.clear()
                    await self._delivered.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Forget every session."""
        for group in list(self._sessions.values()):
            for session in list(group.values()):
                self._drop(session)

    # -- requests ---------------------------------------------------------------------------------------------

    async def _admitted(self, hub_id: str | None, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        remote = scope["client"][0] if scope.get("client") else ""
        access_key = ""
        try:
            user_agent, access_key = read_authorization(scope["query_string"])
            credential = self._hub.admit(access_key, hub_id, CARRIER, remote, new=name == "connect")
        except AuthorizationError as error:
            self._refusals.note(refusal.INVALID_AUTHORIZATION, remote)
            status, text = (400, "Missing authorization") if error.missing else (500, "Connection failed")
            await answer_json(send, status, {"error": text})
            return
        except Refused as refused:
            self._refusals.note(refused.refusal, remote, access_key)
            await _answer_refusal(send, refused.refusal)
            return
        session = self._find(access_key, _cookie(scope))
        if name == "connect":
            if self._too_fast(access_key, remote):
                self._refusals.note(TOO_FAST, remote, access_key)
                await _answer_refusal(send, TOO_FAST)
                return
            if session is not None:  # whoever holds its cookie may end it: the new session takes its place
                self._drop(session)
            await self._connect(credential, user_agent, remote, send)
        elif name == "send_message":
            await self._send_message(session, scope, receive, send)
        elif name == "disconnect":
            await self._disconnect(session, send)
        else:
            await self._poll(session, name, send)

    async def _connect(self, credential: CredentialEntry, user_agent: str, remote: str, send: Send) -> None:
        self._make_room(credential.access_key, remote)
        account = self._hub.budget_of(credential)
        session = HttpSession(credential.access_key, remote, self._limits, account, self._ended)
        why = self._begin(session, credential, user_agent)
        if why is not None:
            self._refusals.note(why, remote, credential.access_key)
            self._drop(session)
            await _answer_refusal(send, why)
            return
        self._keep(session)
        value = f"{COOKIE}={session.cookie}; HttpOnly; Path=/; SameSite=Lax; Secure"
        await answer_json(send, 200, {"status": "Connected"}, ((b"set-cookie", value.encode()),))

    def _begin(self, session: HttpSession, credential: CredentialEntry, user_agent: str) -> Refusal | None:
        """Begin the hub's session; why there is none, if so."""
        try:
            session.connection = self._hub.connect(session, credential, user_agent)
        except Refused as refused:
            return refused.refusal
        session.connection.on_ready = lambda: self._proven(session)
        return session.ended

    async def _poll(self, session: HttpSession | None, name: str, send: Send) -> None:
        if session is None or (session.ended is not None and len(session) == 0):
            await self._gone(session, send, 200)
            return
        if session.connection is not None:
            session.connection.touch()
        body: dict[str, object] = {"status": "messages retrieved"}
        if name == "get_messages":
            body["messages"] = session.take_clear()
        else:
            body["b64_messages"] = session.take_sealed()
        if len(session) == 0:
            self._now_delivered(session)
        await answer_json(send, 200, body)

    async def _gone(self, session: HttpSession | None, send: Send, status: int) -> None:
        """There is no session; how it ended is said where that matters, else it was never there.

        A refusal of the credential is said once. A temporary one is said to every request as long as the session is
        remembered: each of a client's queues may be the next to ask.
        """
        why = session.ended if session is not None else None
        if session is not None and why not in TEMPORARY:
            self._drop(session)
        if why is not None and (why in TEMPORARY or why.of_credential):
            await _answer_refusal(send, why)
        else:
            await answer_json(send, status, NOT_CONNECTED)

    async def _send_message(self, session: HttpSession | None, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive, self._limits.http_body_bytes, self._limits.http_body_seconds)
        except BodyTooLargeError:
            await answer(send, 400, headers=((b"connection", b"close"),))
            return
        connection = session.connection if session is not None else None
        if session is None or connection is None or session.ended is not None:
            await self._gone(session, send, 409)
            return
        fault = _hand_over(connection, _form(body))
        if fault is not None:
            status, text = fault
            await answer_json(send, status, {"error": text})
            return
        await self._sent(session, connection.buffered > 0, send)

    async def _sent(self, session: HttpSession, buffered: bool, send: Send) -> None:
        """What became of a message that was handed over."""
        why = session.ended
        if why is None:
            await answer_json(send, 200, {"status": "buffered" if buffered else "message sent"})
        elif why.of_credential or why in TEMPORARY:
            await self._gone(session, send, why.http_status)
        else:
            if len(session) == 0:
                self._drop(session)
            await answer_json(send, why.http_status, {"error": "Message sending failed"})

    async def _disconnect(self, session: HttpSession | None, send: Send) -> None:
        if session is None or session.ended is not None:
            if session is not None:
                self._drop(session)
            await answer_json(send, 200, {"error": "Already Disconnected"})
            return
        self._drop(session)
        await answer_json(send, 200, {"status": "Disconnected"})

    # -- sessions ---------------------------------------------------------------------------------------------

    def _find(self, access_key: str, cookie: str) -> HttpSession | None:
        """The session of that key and cookie, found in a time that does not depend on the cookie."""
        offered = cookie.encode("ascii", "replace")
        found = None
        for session in self._sessions.get(access_key, {}).values():
            if hmac.compare_digest(session.cookie.encode("ascii"), offered):
                found = session
        return found

    def _keep(self, session: HttpSession) -> None:
        self._sessions.setdefault(session.access_key, {})[session.cookie] = session
        self._watch(session, self._limits.http_idle_seconds)

    def _too_fast(self, access_key: str, remote: str) -> bool:
        """Whether that key began too many sessions from that address of late, and finished none of them.

        If not, one more is counted; `_proven` takes it off again.
        """
        now = self._hub.clock.now()
        if now - self._connects_since >= CONNECT_SECONDS:
            self._connects_since = now
            self._connects.clear()
        if self._connects[access_key, remote] >= CONNECTS:
            return True
        self._connects[access_key, remote] += 1
        return False

    def _proven(self, session: HttpSession) -> None:
        """Its client has the password: its /connect does not count any more."""
        source = session.access_key, session.remote
        left = self._connects[source] - 1
        if left > 0:
            self._connects[source] = left
        else:
            self._connects.pop(source, None)

    def _make_room(self, access_key: str, remote: str) -> None:
        """Unfinished sessions displace unfinished ones only; as many ended ones are remembered, the newest."""
        most = self._limits.http_unfinished_per_credential
        group = list(self._sessions.get(access_key, {}).values())
        unfinished = [each for each in group if not each.ready and each.ended is None]
        while len(unfinished) >= most:
            displaced = _displaced(unfinished, remote)
            unfinished.remove(displaced)
            self._drop(displaced)
        for forgotten in _all_but([each for each in group if each.ended is not None], most):
            self._drop(forgotten)

    def _watch(self, session: HttpSession, seconds: float) -> None:
        if session.timer is not None:
            session.timer.cancel()
        session.timer = self._hub.clock.call_later(seconds, lambda: self._check_idle(session))

    def _check_idle(self, session: HttpSession) -> None:
        """Has anybody asked lately? If so look again when that much time has passed since."""
        connection = session.connection
        now = self._hub.clock.now()
        left = 0.0
        if connection is not None and session.ended is None:
            left = connection.heard + self._limits.http_idle_seconds - now
        if left > 0:
            self._watch(session, left)
        else:
            self._drop(session)

    def _ended(self, session: HttpSession) -> None:
        """The hub ended the session: keep it a little, so that its poller hears the end of it."""
        self._watch(session, self._limits.http_ended_seconds)
        if len(session):
            self._undelivered.add(session)

    def _drop(self, session: HttpSession) -> None:
        """Forget a session."""
        if session.timer is not None:
            session.timer.cancel()
        if session.ended is None:
            session.ended = refusal.REPLACED
        if session.connection is not None:
            session.connection.lost()
        group = self._sessions.get(session.access_key, {})
        if group.pop(session.cookie, None) is not None and not group:
            del self._sessions[session.access_key]
        session.discard()
        self._now_delivered(session)

    def _now_delivered(self, session: HttpSession) -> None:
        self._undelivered.discard(session)
        if not self._undelivered:
            self._delivered.set()


def _displaced(unfinished: list[HttpSession], remote: str) -> HttpSession:
    """Who makes room for a newcomer from the address `remote`: one of the address that has most of them.

    So whoever knows only the access key displaces its own sessions, from however many sockets it dials. Among those
    of an address it is one that never said anything, and of these the oldest.
    """
    held = Counter(each.remote for each in unfinished)
    held[remote] += 1
    return min(
        unfinished,
        key=lambda each: (-held[each.remote], each.remote != remote, _handshaking(each)),  # the first is the oldest
    )


def _handshaking(session: HttpSession) -> bool:
    """Whether its client has sent a Noise message."""
    return session.connection is not None and session.connection.handshaking


def _all_but(sessions: list[HttpSession], most: int) -> list[HttpSession]:
    """The oldest ones, without the newest `most`."""
    return sessions[: max(len(sessions) - most, 0)]


def _hand_over(connection: Connection, fields: dict[str, list[str]]) -> tuple[int, str] | None:
    """Give the message of a form to the hub; status and text when it is not one (contract 10.2)."""
    message = fields.get("message", [""])[0]
    if not message:
        return 400, "Missing message"
    connection.touch()
    if "binary" not in fields:
        connection.receive_clear(message.encode("utf-8", "replace"))
        return None
    if not connection.handshaking:
        return 409, "No Noise session; reconnect and handshake"
    frame = _unbase64(message)
    if frame is None:
        return 400, "Message is not base64"
    connection.receive_sealed(frame)
    return None


async def _answer_refusal(send: Send, why: Refusal) -> None:
    """403 for a refusal of the credential; 503 with a time to come back for one that passes."""
    headers = RETRY_AFTER if why.http_status == 503 else ()
    await answer_json(send, why.http_status, {"error": _refusal_text(why)}, headers)


def _refusal_text(why: Refusal) -> str:
    """Contract 10.2: an unknown key is "Invalid authorization"; the rest have their own sentence."""
    return "Invalid authorization" if why in (refusal.UNKNOWN_KEY, refusal.WRONG_HUB) else why.reason


def _cookie(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, found = pair.strip().partition("=")
                if key == COOKIE:
                    return str(found)
    return ""


def _form(body: bytes) -> dict[str, list[str]]:
    """The fields of a form; none when it is not one."""
    try:
        return parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return {}


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        return None
