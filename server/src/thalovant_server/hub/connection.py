# SPDX-License-Identifier: Apache-2.0
"""One client on one carrier, from its first byte to its end.

A gateway brings a `Link` (how to send and close) and gets a `Connection` (where to put what arrives). In between
runs the sans-I/O `HubSession`; what it asks for (a stretched key, a pin) is fetched by the `Host`, the hub.

It will not know a carrier, decide who may do what, or await anything: every method here is synchronous and runs on
the event loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from thalovant.protocol.errors import ProtocolError
from thalovant_server.hub import refusal
from thalovant_server.hub.ask import clean_name
from thalovant_server.hub.presence import CONNECTION_LOST
from thalovant_server.hub.session import (
    Failed,
    Hello,
    HubSession,
    Malformed,
    NeedPin,
    NeedPsk,
    Output,
    Ready,
    Received,
    ReceivedBinary,
    SendClear,
)

if TYPE_CHECKING:
    from thalovant.protocol.messages import HiveMessage
    from thalovant_server.directory import CredentialEntry
    from thalovant_server.hub.budget import Account
    from thalovant_server.hub.clock import Clock, Timer
    from thalovant_server.hub.limits import Limits
    from thalovant_server.hub.refusal import Refusal

log = structlog.get_logger("thalovant.connection")

MAX_SITE = 128  # characters of a site id

FAILURES = {
    "protocol": refusal.PROTOCOL_ERROR,
    "handshake": refusal.HANDSHAKE_FAILED,
    "key_mismatch": refusal.KEY_MISMATCH,
    "decrypt": refusal.UNDECIPHERABLE,
    "too_large": refusal.TOO_LARGE,
}


class Link(Protocol):
    """What a gateway gives for one client: its way out. Sending never blocks; a link bounds its own queue."""

    carrier: str  # "wss", "https" or "mqtt"
    remote: str  # the client's address, without the port

    @property
    def patience(self) -> float | None:
        """Seconds that a living client may be silent on this carrier; None: it has no sign of life of its own."""

    def silence(self) -> float:
        """Seconds since the carrier heard of its client. What the session heard counts besides."""

    def send_clear(self, data: bytes) -> None:
        """Send one clear frame (JSON text in UTF-8)."""

    def send_sealed(self, frames: list[bytes]) -> None:
        """Send sealed frames, in this order, after everything sent before."""

    def close(self, refusal: Refusal) -> None:
        """End the carrier's side, after what was sent. Called at most once, and not after `Connection.lost`."""


class Host(Protocol):
    """What a connection needs of the hub."""

    limits: Limits
    clock: Clock
    node_id: str

    def budget_of(self, credential: CredentialEntry) -> Account:
        """The account for what is held for a credential."""
        ...

    def find_psk(self, connection: Connection) -> None:
        """Fetch the pre-shared key; answers with `provide_psk`."""

    def commit_pin(self, connection: Connection, key: bytes) -> None:
        """Pin the client's key, or compare it with the pin; answers with `provide_pin`."""

    def became_ready(self, connection: Connection) -> None:
        """The handshake is over."""

    def greeted(self, connection: Connection) -> None:
        """The client has named its session, so the connection has its peer name."""

    def received(self, connection: Connection, message: HiveMessage) -> None:
        """A message arrived."""

    def received_binary(self, connection: Connection) -> None:
        """A binary frame arrived."""

    def received_malformed(self, connection: Connection) -> None:
        """A message arrived whose payload has the wrong shape."""

    def ended(self, connection: Connection) -> None:
        """The connection is over, whoever ended it."""


class Connection:
    """One session of one credential. Made by `Hub.connect`, which sends HELLO and offer at once."""

    __slots__ = (
        "_budget",
        "_counted",
        "_grown",
        "_host",
        "_link",
        "_session",
        "_stall",
        "_timer",
        "_unfinished",
        "_user_agent",
        "closed",
        "credential",
        "failure",
        "heard",
        "hears_denials",
        "number",
        "on_ready",
        "pattern",
        "peer",
        "ready",
        "refusal",
        "repeats",
        "session_id",
        "site_id",
        "streams",
        "why",
    )

    def __init__(self, host: Host, link: Link, credential: CredentialEntry, user_agent: str, number: int) -> None:
        self._host = host
        self._link = link
        self._user_agent = user_agent[: host.limits.user_agent_chars]
        self._budget = host.budget_of(credential)
        self._counted = 0
        self.credential = credential
        self.heard = host.clock.now()
        self.number = number
        self.session_id = str(uuid.uuid4())
        self.site_id = credential.site_id
        self.peer = self._peer_name()
        self.ready = False
        self.closed = False
        self.refusal: Refusal | None = None
        self.failure: tuple[str, str] | None = None
        """What was wrong with what came: a word for it, and a sentence. Told by whoever notes the end."""
        self.why = ""
        self.pattern = ""
        self.streams = self.hears_denials = False
        self.repeats = 0  # asks that the hub knew already
        self.on_ready: Callable[[], None] | None = None
        self._session: HubSession
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._unfinished = 0
        self._grown = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "ready" if self.ready else "handshake"
        return f"<Connection {self.carrier} client={self.credential.client_id} {state}>"

    # -- what the gateway sees --------------------------------------------------------------------------------

    @property
    def carrier(self) -> str:
        """The carrier's name."""
        return self._link.carrier

    @property
    def node_id(self) -> str:
        """The server's name."""
        return self._host.node_id

    @property
    def remote(self) -> str:
        """The client's address."""
        return self._link.remote

    @property
    def patience(self) -> float | None:
        """Seconds that a living client may be silent on its carrier; None: the carrier has no sign of life."""
        return self._link.patience

    def silence(self) -> float:
        """Seconds since the last sign of life, of the carrier or of the session."""
        return min(self._link.silence(), self._host.clock.now() - self.heard)

    @property
    def handshaking(self) -> bool:
        """True once the client has sent its first Noise message, or later: sealed frames make sense."""
        return self._session.handshaking

    @property
    def buffered(self) -> int:
        """Bytes held of messages that are not complete."""
        return self._counted

    def receive(self, data: bytes) -> None:
        """A frame arrived on a carrier that does not tell clear from sealed (MQTT)."""
        if not self.closed:
            self._drive(self._session.receive(data))

    def receive_clear(self, data: bytes) -> None:
        """A clear frame arrived. Ends the connection when it may not be."""
        if not self.closed:
            self._drive(self._session.receive_clear(data))

    def receive_sealed(self, frame: bytes) -> None:
        """A sealed frame arrived. Ends the connection when it does not decrypt, or is malformed."""
        if not self.closed:
            self._drive(self._session.receive_sealed(frame))

    def touch(self) -> None:
        """The client gave a sign of life."""
        self.heard = self._host.clock.now()

    def lost(self, why: str = CONNECTION_LOST) -> None:
        """The carrier is gone, `why` in a word of `hub.presence`.

        A turn that runs is not cancelled by that (architecture decision 10).
        """
        if not self.closed:
            self.why = why
            self._over(None)

    # -- what the hub sees ------------------------------------------------------------------------------------

    def start(self, session: HubSession) -> None:
        """Send HELLO and offer, and give the client its time to finish the handshake."""
        self._session = session
        limits = self._host.limits
        self._timer = self._host.clock.call_later(limits.handshake_seconds, self._too_slow)
        self._drive(session.open())

    def provide_psk(self, psk: bytes) -> None:
        """Go on with the handshake that waited for the key."""
        if not self.closed:
            self._drive(self._session.provide_psk(psk))

    def provide_pin(self, accepted: bool) -> None:
        """Go on after the pin was committed, or end when it names another key."""
        if not self.closed:
            self._drive(self._session.provide_pin(accepted))

    def send(self, messages: Iterable[HiveMessage]) -> None:
        """Seal and send messages, in this order. Nothing happens when the connection is over."""
        if self.closed:
            return
        try:
            frames = [output.frame for message in messages for output in self._session.send(message)]
        except ProtocolError as error:  # nothing of ours should be unsendable: end rather than skip a part
            log.exception("unsendable", client_id=self.credential.client_id, code=error.code)
            self.end(refusal.INTERNAL)
            return
        self._link.send_sealed(frames)

    def end(self, why: Refusal) -> None:
        """End the connection and tell the client in its carrier's words. Once."""
        if self.closed:
            return
        self._over(why)
        self._link.close(why)

    # -- inside -----------------------------------------------------------------------------------------------

    def _drive(self, outputs: Iterable[Output]) -> None:
        """Do what the session asks for, in its order."""
        self.touch()
        if not self._account():  # before the message it completed is acted on, which is counted anew
            return
        for output in outputs:
            self._do(output)
            if self.closed:
                return
        if self._account():
            self._watch_growth()

    def _do(self, output: Output) -> None:
        match output:
            case Received(message=message):
                self._host.received(self, message)
            case SendClear(data=data):
                self._link.send_clear(data)
            case NeedPsk():
                self._host.find_psk(self)
            case NeedPin(key=key):
                self._host.commit_pin(self, key)
            case Ready(pattern=pattern):
                self._became_ready(pattern)
            case Hello(session_id=session_id, site_id=site_id, payload=payload):
                self._greeted(session_id, site_id, payload)
            case ReceivedBinary():
                self._host.received_binary(self)
            case Malformed():
                self._host.received_malformed(self)
            case Failed(code=code, reason=reason):
                self.failure = code, reason
                self.end(FAILURES.get(code, refusal.PROTOCOL_ERROR))

    def _account(self) -> bool:
        """Count what the session holds against the client's share; over it only this session ends."""
        held = self._session.buffered
        if held > self._counted and not self._budget.take(held - self._counted):
            self.end(refusal.BUSY)
            return False
        if held < self._counted:
            self._budget.give(self._counted - held)
        self._counted = held
        return True

    def _watch_growth(self) -> None:
        """Arm the stall timer while a message is unfinished; it looks again rather than be set at every chunk."""
        unfinished = self._session.unfinished
        if unfinished == self._unfinished:
            return
        self._unfinished = unfinished
        self._grown = self._host.clock.now()
        if not unfinished:
            self._stop_stall()
        elif self._stall is None:
            self._stall = self._host.clock.call_later(self._host.limits.stall_seconds, self._look_for_growth)

    def _look_for_growth(self) -> None:
        self._stall = None
        left = self._grown + self._host.limits.stall_seconds - self._host.clock.now()
        if left > 0:
            self._stall = self._host.clock.call_later(left, self._look_for_growth)
            return
        log.info("stalled", client_id=self.credential.client_id, carrier=self.carrier, held=self._unfinished)
        self.end(refusal.UNRESPONSIVE)

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _became_ready(self, pattern: str) -> None:
        self._stop_timer()
        self.ready = True
        self.pattern = pattern
        if self.on_ready is not None:
            self.on_ready()
        self._host.became_ready(self)

    def _greeted(self, session_id: str, site_id: str, payload: dict[str, Any]) -> None:
        """The sealed HELLO (contract section 6.2): it names the session, and may announce what the client can."""
        if clean_name(session_id):
            self.session_id = session_id
        if site_id:
            self.site_id = site_id if clean_name(site_id, MAX_SITE) else self.credential.site_id
        self.peer = self._peer_name()
        announced = payload.get("thalovant")
        capabilities = announced.get("capabilities") if isinstance(announced, dict) else None
        known = capabilities if isinstance(capabilities, list) else []
        self.streams, self.hears_denials = "handled" in known, "denials" in known
        self._host.greeted(self)

    def _peer_name(self) -> str:
        """Contract section 6.3: the hub makes it unique with `distinguish`."""
        credential = self.credential
        return f"{self._user_agent}::{credential.id}::{credential.client_name}::{self.session_id}"

    def distinguish(self) -> None:
        """Another live connection bears the same name: this, the newer one, gets a suffix (contract 6.3)."""
        self.peer = f"{self._peer_name()}::{uuid.uuid4().hex[:8]}"

    def _too_slow(self) -> None:
        self.end(refusal.HANDSHAKE_TIMEOUT)

    def _over(self, why: Refusal | None) -> None:
        self.closed = True
        self.refusal = why
        self._stop_timer()
        self._stop_stall()
        self._budget.give(self._counted)
        self._counted = 0
        self._host.ended(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
