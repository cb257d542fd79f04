# SPDX-License-Identifier: Apache-2.0
"""The MQTT carrier: frames as messages on this client's own topics of a broker, over TLS (contract 10.3).

It speaks MQTT 5 first, and 3.1.1 to a broker that refuses it. Order: CONNECT, CONNACK, SUBSCRIBE, SUBACK; then frames.
One writer: frames leave in the order they were queued, everything of one turn of the loop in one write. What is said
when is `protocol.mqtt.client_session`'s to know, what an answer means to the user `mqtt_answers`'; here are the socket,
the clock and who waits for what. It knows neither sessions nor asks.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from thalovant.addresses import mqtt_address, pin_name
from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError
from thalovant.hub_endpoints import HubProtocol
from thalovant.mqtt_topics import overridden_topics, topics_of
from thalovant.protocol.mqtt.client_connection import Patience
from thalovant.protocol.mqtt.client_events import (
    Accepted,
    Arrived,
    Ending,
    Event,
    Frame,
    LoggedIn,
    NotTaken,
    Subscribed,
    VersionRefused,
)
from thalovant.protocol.mqtt.client_session import MqttClientSession
from thalovant.protocol.mqtt.packets import Codec, Connect, Will
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.topics import OFFLINE, ONLINE
from thalovant.transports.base import SLOWEST, Loss, OnFrame, OnLost, reason_of, set_nodelay, unreachable
from thalovant.transports.mqtt_answers import Answers, at_login
from thalovant.transports.tls import client_context

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["Transport"]

KEEPALIVE = 60  # seconds, told to the broker
PING_AFTER = 30.0  # seconds without having written anything
PING_PATIENCE = 10.0  # seconds for the broker's answer; then the link is dead
WATCH_EVERY = 5.0
CLOSE_PATIENCE = 1.0  # seconds for the whole goodbye
OLDER_FOR = 600.0  # seconds for which a broker that refused MQTT 5 is not asked again


class Transport:
    """MQTT towards one identity's broker. Raises `ThalovantConnectionError` for unusable topics or address."""

    protocol: HubProtocol = "mqtt"
    speaks_first = True

    def __init__(
        self,
        identity: ThalovantIdentity,
        *,
        useragent: str,  # every carrier is made alike; MQTT has no place for it
        connect_timeout: float,
        send_timeout: float,
        self_signed: bool = False,  # never switches checking off here: a password travels
    ) -> None:
        self._identity = identity
        self._broker = mqtt_address(identity)
        self._topics = topics_of(identity)
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout
        self._context: ssl.SSLContext | None = None
        self._connection: _Connection | None = None
        self._session_id = f"thalovant-python-mqtt-{secrets.token_hex(16)}"
        self._older_until = 0.0  # monotonic; the broker refused MQTT 5 not long ago
        self.expecting = False
        self.announces = True
        """Whether it publishes its presence; one that only looks on the road for a while does not."""
        self.level: int | None = None
        """The protocol level of the latest login: 5, or 4 for MQTT 3.1.1."""

    @property
    def address(self) -> str:
        """The name under which the hub's key is pinned (contract 4.2)."""
        return pin_name(self._identity, "mqtt")

    def session_id(self) -> str:
        """The session id of this client, always the same (contract 10.3)."""
        return self._session_id

    @property
    def socket_opened_at(self) -> float | None:
        """`time.monotonic()` when the socket (with TLS) was up."""
        return self._connection.opened_at if self._connection else None

    async def open(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        """Connect, log in and subscribe; see `transports.base.Transport.open`."""
        where = f"{self._broker.host}:{self._broker.port}"
        if self._context is None:
            self._context = await asyncio.to_thread(client_context, self._identity.ca_pem)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._log_in(self._context, on_frame, on_lost)
        except OSError as error:  # TimeoutError and ssl.SSLError are among them
            self._abandon()
            raise unreachable(where, error, self._connect_timeout, own_authority=bool(self._identity.ca_pem)) from None
        except ThalovantConnectionError:
            await self.close()
            raise
        except BaseException:
            self._abandon()
            raise

    async def _log_in(self, context: ssl.SSLContext, on_frame: OnFrame, on_lost: OnLost) -> None:
        """With MQTT 5, and at once again with 3.1.1 where that is refused.

        A broker that then takes 3.1.1 is not asked for 5 for a while: it does not change often, and each question costs
        a connection.
        """
        older_until, self._older_until = self._older_until, 0.0
        if time.monotonic() >= older_until:
            if await self._spoken(V5, context, on_frame, on_lost):
                return
            older_until = time.monotonic() + OLDER_FOR
        if not await self._spoken(V311, context, on_frame, on_lost):
            neither = "The broker speaks neither MQTT 5 nor MQTT 3.1.1. Is it one?"
            raise diagnosed(ThalovantConnectionError, diagnose("wrong_service", told=neither))
        self._older_until = older_until

    async def _spoken(self, codec: Codec, context: ssl.SSLContext, on_frame: OnFrame, on_lost: OnLost) -> bool:
        """Dial and log in with this version; whether the broker speaks it."""
        patience = Patience(self._send_timeout, PING_AFTER, PING_PATIENCE)
        session = MqttClientSession(codec, self._login(), self._topics, self._qos, patience)
        self._connection = connection = _Connection(session, self._answers(codec), on_frame, on_lost)
        loop, host = asyncio.get_running_loop(), self._broker.host
        await loop.create_connection(lambda: connection, host, self._broker.port, ssl=context, server_hostname=host)
        try:
            await connection.log_in()
        except _VersionRefusedError:
            connection.abandon()
            return False
        self.level = codec.level
        return True

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.abandon()

    def send_clear(self, data: bytes) -> None:
        """Queue a clear frame."""
        self.send_sealed([data])

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames, in this order."""
        if self._connection is not None:
            self._connection.publish(frames)

    def announced(self, capabilities: frozenset[str]) -> None:
        """Nothing of it concerns this carrier."""

    def ready(self) -> None:
        """Publish this client's presence."""
        if self._connection is not None and self.announces:
            self._connection.say(ONLINE)

    @property
    def congested(self) -> bool:
        """Whether publishes wait for acknowledgements, or the socket takes nothing."""
        return self._connection is not None and self._connection.congested

    async def drain(self) -> None:
        """Wait until nothing waits; returns at once on a lost carrier."""
        if self._connection is not None:
            await self._connection.drain()

    def check(self, seconds: float) -> None:
        """Ping the broker; see `transports.base.Transport.check`."""
        if self._connection is not None:
            self._connection.check(seconds)

    async def acknowledged(self) -> None:
        """Wait for the broker's word on every publish so far. Only MQTT 5 has one that says no, and QoS 0 none."""
        if self._connection is not None and self.level == V5.level:
            await self._connection.acknowledged()

    async def close(self) -> None:
        """Wait for what is under way, publish `offline`, send DISCONNECT, and close: all within about a second."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @property
    def _qos(self) -> int:
        return self._identity.mqtt.qos if self._identity.mqtt else 1

    def _login(self) -> Connect:
        credentials = self._identity.mqtt
        assert credentials is not None  # noqa: S101 - mqtt_address() has seen to it
        return Connect(
            client_id=f"thalovant-{secrets.token_hex(16)}",
            keepalive=KEEPALIVE,
            username=credentials.username,
            password=credentials.password.encode(),
            will=Will(self._topics.status.encode(), OFFLINE, qos=1, retain=True),
        )

    def _answers(self, codec: Codec) -> Answers:
        credentials, topics = self._identity.mqtt, self._topics
        assert credentials is not None  # noqa: S101 - as above
        private = (topics.c2s, topics.s2c, topics.status, credentials.username, credentials.password)
        return Answers(codec.level, (*private, self._identity.access_key), overridden_topics(self._identity))


class _VersionRefusedError(Exception):
    """The broker does not speak this version of MQTT."""


class _Connection(asyncio.Protocol):
    """The socket of one MQTT connection: from its birth to its end, never used twice."""

    def __init__(self, session: MqttClientSession, answers: Answers, on_frame: OnFrame, on_lost: OnLost) -> None:
        self._session = session
        self._answers = answers
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._room: asyncio.Future[None] | None = None
        self._flush_is_due = False
        self._paused = False
        self._online = False
        self._closing = False  # by our owner, who wants to hear nothing more
        self._over = False  # nothing more is sent or delivered
        self._parting = False  # over, and the last words are on their way
        self._loss: Loss | None = None
        self._is_open = False  # `log_in` has returned
        self._watch: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._unanswered = 0  # bytes written since something was heard
        self.opened_at: float | None = None

    # The life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        set_nodelay(transport)
        self.opened_at = time.monotonic()

    async def log_in(self) -> None:
        """CONNECT and SUBSCRIBE. Raises what the broker's answer stands for."""
        if not self._over:
            self._session.start()
            self._flush()
        await self._opening
        if self._loss is not None:  # it came and went in one turn of the loop
            raise at_login(self._loss)
        self._is_open = True
        self._watch_on()

    def connection_lost(self, exc: Exception | None) -> None:
        session = self._session
        if not session.heard and session.codec.level == V5.level:
            self._ended(VersionRefused())  # hung up on the CONNECT without a word: it may know only 3.1.1
        text = "The broker closed the connection." if exc is None else f"The connection broke: {reason_of(exc)}."
        has_words = session.codec.level == V5.level
        # A hub's own endpoint, which offers no wildcards, says so when another connection takes this one's place.
        says_takeover = not session.offers_wildcards
        self._lost(Loss(text, hung_up=exc is None, has_words=has_words, says_takeover=says_takeover))
        if not self._closed.done():
            self._closed.set_result(None)

    async def close(self) -> None:
        """Say goodbye within `CLOSE_PATIENCE`; a broker that takes longer finds the connection reset."""
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_PATIENCE):
                if not self._over:
                    await self._say_goodbye()
                elif self._parting:
                    await self._closed
        except TimeoutError:
            pass  # the last will says `offline` then
        finally:
            self.abandon()

    async def _say_goodbye(self) -> None:
        # Not before the broker has taken what is under way: asyncio may lose it when TLS is closed under it.
        await self.acknowledged()
        if self._online:
            self.say(OFFLINE)
            await self.acknowledged()
        if not self._over:
            self._session.leave()
            self._part()
            await self._closed

    async def acknowledged(self) -> None:
        """Wait for the broker's word on all that was published so far."""
        mark = self._session.queued
        while not self._over and not self._session.settled(mark):
            await self._next_room()

    def abandon(self) -> None:
        """End it without goodbye."""
        self._stop()
        if self._transport is not None:
            self._transport.abort()

    def _part(self) -> None:
        """End it when the last words have been written, if there are any."""
        self._parting = bool(self._session.out)
        self._flush()
        self._stop()
        if self._transport is not None and self._parting:
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        self._over = True
        self._session.stop()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._stop_alarm()
        self._make_room()

    def _ended(self, ending: Ending) -> None:
        if self._opening.done():
            self._lost(self._answers.loss(ending))
        else:
            refused = isinstance(ending, VersionRefused)
            self._not_opened(_VersionRefusedError() if refused else self._answers.refusal(ending))

    def _lost(self, loss: Loss) -> None:
        if self._over:
            return
        if not self._opening.done():
            self._not_opened(at_login(loss))
            return
        self._loss = loss
        self._part()
        if self._is_open and not self._closing:
            self._on_lost(loss)

    def _not_opened(self, error: Exception) -> None:
        if not self._over:
            self._part()
            self._opening.set_exception(error)
            self._opening.exception()  # has been seen, should nobody come to wait for it

    # What comes in

    def data_received(self, data: bytes) -> None:
        self._unanswered = 0
        if self._alarm is not None:
            self._stop_alarm()
        for event in self._session.receive(data, self._loop.time()):
            if type(event) is Frame:
                if not self._over:
                    self._on_frame(event.payload, None)
            else:
                self._happened(event)
        if self._session.out:
            self._flush_soon()
        if self._room is not None:
            self._make_room()

    def _happened(self, event: Event) -> None:
        if isinstance(event, LoggedIn):
            if not self._opening.done():  # else nobody waits any more
                self._opening.set_result(None)
        elif not isinstance(event, Frame | Accepted | Subscribed | Arrived | NotTaken):
            self._ended(event)

    # What goes out

    def publish(self, frames: list[bytes]) -> None:
        """Send frames, in this order, behind everything that was sent before."""
        now = self._loop.time()
        for frame in frames:
            self._said(self._session.send(frame, now))

    def say(self, presence: bytes) -> None:
        """Publish this client's presence."""
        self._online = presence == ONLINE
        self._said(self._session.say(presence, self._loop.time()))

    def _said(self, events: Sequence[Event]) -> None:
        for event in events:
            self._happened(event)
        if self._session.out:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """Write at the end of this turn of the loop, all at once."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._session.out and self._transport is not None and not self._transport.is_closing():
            data = self._session.take(self._loop.time())
            self._unanswered += len(data)
            self._transport.write(data)

    @property
    def congested(self) -> bool:
        return (self._paused or self._session.congested) and not self._over

    async def drain(self) -> None:
        while self.congested:
            await self._next_room()

    async def _next_room(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()
        await asyncio.shield(self._room)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    # Whether the other side is still there

    def check(self, seconds: float) -> None:
        """Ping the broker, unless that is under way."""
        if self._over or self._alarm is not None:
            return
        self._session.ping()
        self._flush()
        patience = seconds + self._unanswered / SLOWEST
        silence = Loss(f"The broker gave no sign of life within {patience:.3g} s.")
        self._alarm = self._loop.call_later(patience, self._lost, silence)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _watch_on(self) -> None:
        pace = min(WATCH_EVERY, self._session.before_ping / 4)
        self._watch = self._loop.call_later(pace, self._look_after)

    def _look_after(self) -> None:
        self._said(self._session.look(self._loop.time()))
        if not self._over:
            self._watch_on()
