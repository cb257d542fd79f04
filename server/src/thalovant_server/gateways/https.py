# SPDX-License-Identifier: Apache-2.0
"""The HTTPS road: connect, poll, send, disconnect (contract section 10.2), and `exchange` for clients of ours.

A session belongs to (access key, cookie): whoever knows only the access key can neither poll, send nor disconnect
for another's session, nor displace it. `/connect` always starts a new one. Each request is served within the read
callback that brought it; the requests of one client take their turns in its lane.

It will not log a query string or a body: the first holds the access key, the second what was said.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter, OrderedDict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

import httptools
import orjson

from thalovant_server.gateways.authorization import AuthorizationError, read_authorization
from thalovant_server.gateways.call import Call, Caller, prepare
from thalovant_server.gateways.http_exchange import exchange
from thalovant_server.gateways.http_session import CARRIER, HttpSession
from thalovant_server.gateways.lane import Lanes
from thalovant_server.gateways.paths import split_path
from thalovant_server.gateways.share import strangers_of
from thalovant_server.hub import refusal
from thalovant_server.hub.presence import DISCONNECTED, NO_SIGN_OF_LIFE, TAKEN_OVER
from thalovant_server.hub.refusal import Refusal, Refused

if TYPE_CHECKING:
    from thalovant_server.directory import CredentialEntry
    from thalovant_server.hub.connection import Connection
    from thalovant_server.hub.hub import Hub

COOKIE = b"hivemind_http_replica"
NOT_CONNECTED = {"error": "Client is not connected"}
EXCHANGES = {"error": "This session uses /exchange, whose frames are numbered; it cannot be polled beside that"}

# Nobody's fault and soon over: whoever asks again later will be let in.
TEMPORARY = frozenset({refusal.BUSY, refusal.RESTARTING})
GONE_ALREADY = {"error": "Already Disconnected"}
RETRY_AFTER = ((b"retry-after", b"5"),)

# Never said: whoever has no session of its own hears what everybody hears who has none.
WRONG_SESSION = Refusal("wrong_session", "there is a session of this key, and this is not its client", 1008, 409)

# Each /connect of a key from an address costs a session, and may cost another its place. So many in a window that do
# not lead to a handshake are a fault or an attack; whoever proves the password may come as often as it likes.
CONNECTS = 10
CONNECT_SECONDS = 10.0
# Cookies of clients that proved it are remembered beyond their sessions: somebody at the same address who knows only
# the access key cannot use up what its owner needs to come back.
MOST_OWNERS = 10_000
TOO_FAST = replace(refusal.BUSY, code="connecting_too_fast", reason="too many sessions begun; try again later")

# A request costs as much of its client's lane as so many packets on the other carriers: that is what it takes.
REQUEST_PACKETS = 8

METHODS = {
    "connect": b"POST",
    "get_messages": b"GET",
    "get_binary_messages": b"GET",
    "send_message": b"POST",
    "exchange": b"POST",
    "disconnect": b"POST",
}

_SALT = secrets.token_bytes(16)

# What a poller hears nearly always.
NOTHING_CLEAR = orjson.dumps({"status": "messages retrieved", "messages": []})
NOTHING_SEALED = orjson.dumps({"status": "messages retrieved", "b64_messages": []})
NOTHING = {
    name: (prepare(body), body)
    for name, body in (("get_messages", NOTHING_CLEAR), ("get_binary_messages", NOTHING_SEALED))
}


class HttpsGateway:
    """Serves the calls of the HTTPS road."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._limits = hub.limits
        self._lanes = Lanes()
        self._strangers = strangers_of(hub.budget)
        self._sessions: dict[str, dict[bytes, HttpSession]] = {}
        self._undelivered: set[HttpSession] = set()
        self._delivered = asyncio.Event()
        self._connects: Counter[tuple[str, str]] = Counter()
        self._connects_since = hub.clock.now()
        self._owners: OrderedDict[bytes, str] = OrderedDict()  # access keys by what their proven sessions' cookies were

    @property
    def open(self) -> int:
        """Sessions that are kept, the ended ones included."""
        return sum(map(len, self._sessions.values()))

    def serve(self, call: Call) -> None:
        """Answer one request, or hold it until there is something to answer."""
        method = METHODS[call.name]
        if call.method != method:
            call.answer_problem(405, "This address takes another method.", "method_not_allowed", ((b"allow", method),))
            return
        caller = self._caller(call)
        credential = None if caller is None else self._admitted(call, caller)
        if caller is None or credential is None:
            return
        session = self._find(caller.access_key, call.cookie(COOKIE))
        call.paid_by(session.account if session is not None and session.ready else self._strangers)
        if session is None:
            self._note_stranger(call, caller)
            self._act(call, caller, credential, None)
        elif session.lane.busy or not session.lane.allowance():
            session.lane.wait(partial(self._act, call, caller, credential, session))
        else:
            self._act(call, caller, credential, session)

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

    def _caller(self, call: Call) -> Caller | None:
        """Who asks; the next call of a connection mostly says the same as the one before."""
        caller = call.caller
        if caller is not None and caller.query == call.query:
            return caller
        try:
            user_agent, access_key = read_authorization(call.query)
        except AuthorizationError as error:
            self._hub.denials.refused(refusal.INVALID_AUTHORIZATION, CARRIER, call.remote)
            status, text = (400, "Missing authorization") if error.missing else (500, "Connection failed")
            call.answer_json(status, {"error": text})
            return None
        call.caller = caller = Caller(call.query, user_agent, access_key)
        return caller

    def _admitted(self, call: Call, caller: Caller) -> CredentialEntry | None:
        try:
            new = call.name == "connect"
            return self._hub.admit(caller.access_key, call.hub_id, CARRIER, call.remote, new=new)
        except Refused as refused:
            if call.name == "disconnect":  # it wants to be gone, and is: a refusal would keep a client from closing
                call.answer_json(200, GONE_ALREADY)
                return None
            self._hub.denials.refused(refused.refusal, CARRIER, call.remote, caller.access_key)
            if refused.hold_back:
                self._hub.clock.call_later(refused.hold_back, partial(_answer_refusal, call, refused.refusal))
            else:
                _answer_refusal(call, refused.refusal)
            return None

    def _note_stranger(self, call: Call, caller: Caller) -> None:
        """Somebody knows the key of a session that is up, but is not its client: they have no cookie of it."""
        others = self._sessions.get(caller.access_key, {}).values()
        if call.name != "connect" and any(each.ready and each.ended is None for each in others):
            self._hub.denials.refused(WRONG_SESSION, CARRIER, call.remote, caller.access_key)

    def _act(self, call: Call, caller: Caller, credential: CredentialEntry, session: HttpSession | None) -> None:
        """Do what was asked; its client's turn has come."""
        if session is not None:
            session.lane.spend(REQUEST_PACKETS)
        if call.over:
            return
        match call.name:
            case "connect":
                self._reconnect(call, caller, credential, session)
            case "send_message":
                call.read_body(partial(self._send_message, call, session))
            case "exchange":
                call.read_body(partial(self._exchange, call, session))
            case "disconnect":
                self._disconnect(call, session)
            case _:
                self._poll(call, session)

    def _reconnect(self, call: Call, caller: Caller, credential: CredentialEntry, session: HttpSession | None) -> None:
        returning = self._owners.get(_short(call.cookie(COOKIE))) == caller.access_key
        if self._too_fast(caller.access_key, call.remote, allowed=returning):
            self._hub.denials.refused(TOO_FAST, CARRIER, call.remote, caller.access_key)
            _answer_refusal(call, TOO_FAST)
            return
        if session is not None:  # whoever holds its cookie may end it: the new session takes its place
            self._drop(session)
        self._connect(call, caller, credential)

    def _connect(self, call: Call, caller: Caller, credential: CredentialEntry) -> None:
        self._make_room(credential.access_key, call.remote)
        session = self._new_session(credential, call.remote)
        why = self._begin(session, credential, caller.user_agent)
        if why is not None:
            self._hub.denials.refused(why, CARRIER, call.remote, credential.access_key)
            self._drop(session)
            _answer_refusal(call, why)
            return
        self._keep(session)
        value = b"%s=%s; HttpOnly; Path=/; SameSite=Lax; Secure" % (COOKIE, session.cookie)
        call.answer_json(200, {"status": "Connected"}, ((b"set-cookie", value),))

    def _new_session(self, credential: CredentialEntry, remote: str) -> HttpSession:
        account, lane = self._hub.budget_of(credential), self._lanes.of(credential.id)
        return HttpSession(
            credential.access_key, remote, self._limits, account, self._ended, lane=lane, clock=self._hub.clock
        )

    def _begin(self, session: HttpSession, credential: CredentialEntry, user_agent: str) -> Refusal | None:
        """Begin the hub's session; why there is none, if so."""
        try:
            session.connection = self._hub.connect(session, credential, user_agent)
        except Refused as refused:
            return refused.refusal
        session.connection.on_ready = lambda: self._proven(session)
        return session.ended

    def _poll(self, call: Call, session: HttpSession | None) -> None:
        if session is None or (session.ended is not None and len(session) == 0):
            self._gone(call, session, 200)
            return
        if session.exchanges:
            call.answer_json(409, EXCHANGES)
            return
        if session.connection is not None:
            session.connection.touch()
        sealed = call.name == "get_binary_messages"
        frames = session.fetch(sealed=sealed)
        if len(session) == 0:
            self._now_delivered(session)
        if not frames:
            call.answer_prepared(*NOTHING[call.name])
        elif sealed:
            texts = [base64.b64encode(frame).decode("ascii") for frame in frames]
            call.answer_json(200, {"status": "messages retrieved", "b64_messages": texts})
        else:
            call.answer_json(200, {"status": "messages retrieved", "messages": [str(each, "utf-8") for each in frames]})

    def _gone(self, call: Call, session: HttpSession | None, status: int) -> None:
        """There is no session; how it ended is said where that matters, else it was never there.

        A refusal of the credential is said once. A temporary one is said to every request as long as the session is
        remembered: each of a client's queues may be the next to ask.
        """
        why = session.ended if session is not None else None
        if session is not None and why not in TEMPORARY:
            self._drop(session)
        if why is not None and (why in TEMPORARY or why.of_credential):
            _answer_refusal(call, why)
        else:
            call.answer_json(status, NOT_CONNECTED)

    def _send_message(self, call: Call, session: HttpSession | None, body: bytes) -> None:
        connection = session.connection if session is not None else None
        if session is None or connection is None or session.ended is not None:
            self._gone(call, session, 409)
            return
        if session.exchanges:
            call.answer_json(409, EXCHANGES)
            return
        fault = _hand_over(connection, _form(body))
        if fault is not None:
            status, text = fault
            call.answer_json(status, {"error": text})
            return
        self._sent(call, session, connection.buffered > 0)

    def _sent(self, call: Call, session: HttpSession, buffered: bool) -> None:
        """What became of a message that was handed over."""
        why = session.ended
        if why is None:
            call.answer_json(200, {"status": "buffered" if buffered else "message sent"})
        elif why.of_credential or why in TEMPORARY:
            self._gone(call, session, why.http_status)
        else:
            if len(session) == 0:
                self._drop(session)
            call.answer_json(why.http_status, {"error": "Message sending failed"})

    def _exchange(self, call: Call, session: HttpSession | None, body: bytes) -> None:
        if session is None or (session.ended is not None and len(session) == 0):
            self._gone(call, session, 409)
            return
        exchange(call, session, body, self._limits.http_wait_seconds)
        if len(session) == 0:
            self._now_delivered(session)

    def _disconnect(self, call: Call, session: HttpSession | None) -> None:
        if session is None or session.ended is not None:
            if session is not None:
                self._drop(session)
            call.answer_json(200, GONE_ALREADY)
            return
        self._drop(session, DISCONNECTED)
        call.answer_json(200, {"status": "Disconnected"})

    # -- sessions ---------------------------------------------------------------------------------------------

    def _find(self, access_key: str, cookie: bytes) -> HttpSession | None:
        """The session of that key and cookie, found in a time that does not depend on the cookie."""
        found = None
        for session in self._sessions.get(access_key, {}).values():
            if hmac.compare_digest(session.cookie, cookie):
                found = session
        return found

    def _keep(self, session: HttpSession) -> None:
        self._sessions.setdefault(session.access_key, {})[session.cookie] = session
        self._watch(session, self._limits.http_idle_seconds)

    def _too_fast(self, access_key: str, remote: str, *, allowed: bool) -> bool:
        """Whether that key began too many sessions from that address of late, and finished none of them.

        If not, or if it is `allowed` all the same, one more is counted; `_proven` takes it off again.
        """
        now = self._hub.clock.now()
        if now - self._connects_since >= CONNECT_SECONDS:
            self._connects_since = now
            self._connects.clear()
        if self._connects[access_key, remote] >= CONNECTS and not allowed:
            return True
        self._connects[access_key, remote] += 1
        return False

    def _proven(self, session: HttpSession) -> None:
        """Its client has the password: its /connect does not count any more, nor does any that brings its cookie."""
        self._owners[_short(session.cookie)] = session.access_key
        if len(self._owners) > MOST_OWNERS:
            self._owners.popitem(last=False)
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
            self._drop(session, NO_SIGN_OF_LIFE)

    def _ended(self, session: HttpSession) -> None:
        """The hub ended the session: tell who waits, and keep it a little, so that its poller hears the end of it."""
        self._watch(session, self._limits.http_ended_seconds)
        session.flush()
        for call in session.let_all_go():
            self._gone(call, session, 409)
        if len(session):
            self._undelivered.add(session)

    def _drop(self, session: HttpSession, why: str = TAKEN_OVER) -> None:
        """Forget a session, `why` in a word of `hub.presence`."""
        if session.timer is not None:
            session.timer.cancel()
        if session.ended is None:
            session.ended = refusal.REPLACED
        if session.connection is not None:
            session.connection.lost(why)
        for call in session.let_all_go():
            call.answer_json(409, NOT_CONNECTED)
        group = self._sessions.get(session.access_key, {})
        if group.pop(session.cookie, None) is not None and not group:
            del self._sessions[session.access_key]
        session.discard()
        self._now_delivered(session)

    def _now_delivered(self, session: HttpSession) -> None:
        self._undelivered.discard(session)
        if not self._undelivered:
            self._delivered.set()


def _short(cookie: bytes) -> bytes:
    """Stand in for a cookie, so that looking it up tells nothing about another one."""
    return hashlib.blake2b(cookie, digest_size=16, key=_SALT).digest()


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


def _answer_refusal(call: Call, why: Refusal) -> None:
    """403 for a refusal of the credential; 429 or 503 with a time to come back for one that passes."""
    if call.over:  # it was held back, and the client did not wait
        return
    headers = RETRY_AFTER if why.http_status in (429, 503) else ()
    call.answer_json(why.http_status, {"error": _refusal_text(why)}, headers)


def _refusal_text(why: Refusal) -> str:
    """Contract 10.2: an unknown key is "Invalid authorization"; the rest have their own sentence."""
    return "Invalid authorization" if why in (refusal.UNKNOWN_KEY, refusal.WRONG_HUB) else why.reason


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


def find_target(url: bytes) -> tuple[str | None, str, bytes] | None:
    """Hub id (None: the default hub), name and query of a request of this road; None when it is none of it.

    Raises:
        httptools.HttpParserInvalidURLError: it is no address at all.
        UnicodeDecodeError: it is not ASCII.
    """
    raw, _, query = url.partition(b"?")
    path = raw.decode("ascii")
    if path[:1] != "/" or "%" in path or b"#" in url:
        parsed = httptools.parse_url(url)
        path, query = unquote(parsed.path.decode("ascii")) if parsed.path else "/", parsed.query or b""
    hub_id, name = split_path(path)
    return (hub_id, name, query) if name in METHODS else None
