# SPDX-License-Identifier: Apache-2.0
"""The MQTT 3.1.1 carrier: frames as messages on this client's own topics of a broker, over TLS (contract 10.3).

Order: CONNECT, CONNACK, SUBSCRIBE, SUBACK; then frames. One writer: frames leave in the order they were queued,
everything of one turn of the loop in one write. Publishes do not wait for each other's PUBACK; 64 at most are
under way, further ones wait in the queue and `congested` says so. It reads only its own topic, drops retained
frames (they belong to no session), and knows neither sessions nor asks.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from thalovant.addresses import mqtt_address, pin_name
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.hub_endpoints import HubProtocol
from thalovant.mqtt_topics import topics_of
from thalovant.protocol.errors import MqttError
from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Connack, Connect, Pingresp, Puback, Publish, Suback, Subscribe, Will
from thalovant.protocol.mqtt.v311 import encode, encode_publish
from thalovant.protocol.topics import OFFLINE, ONLINE, TopicSet
from thalovant.transports.base import SLOWEST, Loss, OnFrame, OnLost, set_nodelay, unreachable
from thalovant.transports.tls import client_context

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["Transport"]

KEEPALIVE = 60  # seconds, told to the broker
PING_AFTER = 30.0  # seconds without having written anything
PING_PATIENCE = 10.0  # seconds for the broker's answer; then the link is dead
WATCH_EVERY = 5.0
CLOSE_PATIENCE = 1.0  # seconds for the whole goodbye
MAX_PACKET = 1_048_576
MAX_UNDER_WAY = 64

_SUBSCRIBE_ID = 1  # publishes begin behind it


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
        self.expecting = False

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
        connection = _Connection(self._topics, self._qos, self._send_timeout, on_frame, on_lost)
        self._connection = connection
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._dial(connection, self._context)
                await connection.log_in(self._login())
        except OSError as error:  # TimeoutError and ssl.SSLError are among them
            connection.abandon()
            raise unreachable(where, error, self._connect_timeout, own_authority=bool(self._identity.ca_pem)) from None
        except BaseException:
            connection.abandon()
            raise

    def send_clear(self, data: bytes) -> None:
        """Queue a clear frame."""
        if self._connection is not None:
            self._connection.publish(self._connection.c2s, data, self._qos)

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames, in this order."""
        connection = self._connection
        if connection is not None:
            for frame in frames:
                connection.publish(connection.c2s, frame, self._qos)

    def ready(self) -> None:
        """Publish this client's presence."""
        if self._connection is not None:
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

    async def close(self) -> None:
        """Wait for what is under way, publish `offline`, send DISCONNECT, and close: all within about a second."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @property
    def _qos(self) -> int:
        return self._identity.mqtt.qos if self._identity.mqtt else 1

    async def _dial(self, connection: _Connection, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        host = self._broker.host
        await loop.create_connection(lambda: connection, host, self._broker.port, ssl=context, server_hostname=host)

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


class _Connection(asyncio.Protocol):
    """One MQTT connection: from the socket's birth to its end, never used twice."""

    def __init__(self, topics: TopicSet, qos: int, send_timeout: float, on_frame: OnFrame, on_lost: OnLost) -> None:
        self.c2s = topics.c2s.encode()
        self._s2c = topics.s2c.encode()
        self._status = topics.status.encode()
        self._qos = qos
        self._send_timeout = send_timeout
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = PacketReader(MAX_PACKET)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Connack | Suback] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._out: list[bytes] = []
        self._under_way: dict[int, float] = {}  # packet id: when it was written; oldest first
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._last_id = _SUBSCRIBE_ID
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self._online = False
        self._over = False  # nothing more is sent or delivered
        self._loss: Loss | None = None
        self._wrote_at = 0.0
        self._pinged_at: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._unanswered = 0  # bytes written since something was heard
        self.opened_at: float | None = None

    # The life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        set_nodelay(transport)
        self.opened_at = time.monotonic()
        self._wrote_at = self._loop.time()

    async def log_in(self, login: Connect) -> None:
        """CONNECT and SUBSCRIBE, each with its answer. Raises what the broker's answer stands for."""
        connack = await self._exchange(encode(login))
        if not isinstance(connack, Connack):
            raise ThalovantConnectionError("The broker answered CONNECT with another packet than CONNACK.")
        if connack.code != packets.ACCEPTED:
            raise _refusal(connack.code)
        suback = await self._exchange(encode(Subscribe(_SUBSCRIBE_ID, ((self._s2c, self._qos),))))
        if not isinstance(suback, Suback) or suback.codes == (packets.REFUSED,):
            raise ThalovantHubRefusedError(
                "The broker refused the subscription to this client's own topic. Its topics and its credentials do "
                "not belong together: create a fresh identity."
            )
        self._watch = self._loop.call_later(WATCH_EVERY, self._look_after)

    async def _exchange(self, request: bytes) -> Connack | Suback:
        self._answer = self._loop.create_future()
        self._write(request)
        try:
            answer = await self._answer
        finally:
            self._answer = None
        if self._loss is not None:  # it came and went in one turn of the loop
            raise _lost_at_login(self._loss)
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        text = "The broker closed the connection." if exc is None else f"The connection broke: {str(exc).rstrip('. ')}."
        self._lost(Loss(text, hung_up=exc is None))
        if not self._closed.done():
            self._closed.set_result(None)

    async def close(self) -> None:
        """Say goodbye within `CLOSE_PATIENCE`; a broker that takes longer finds the connection reset."""
        try:
            if not self._over:
                async with asyncio.timeout(CLOSE_PATIENCE):
                    await self._say_goodbye()
        except TimeoutError:
            pass  # the last will says `offline` then
        finally:
            self.abandon()

    async def _say_goodbye(self) -> None:
        await self._acknowledged()
        if self._online:
            self.say(OFFLINE)
            await self._acknowledged()
        if not self._over and self._transport is not None:
            self._out.append(encode(packets.Disconnect()))
            self._flush()
            self._transport.close()
            self._stop()
            await self._closed

    async def _acknowledged(self) -> None:
        """Wait for the broker to take what is under way: asyncio may lose it when TLS is closed under it."""
        while self._under_way and not self._over:
            await self._next_room()

    def abandon(self) -> None:
        """End it without goodbye."""
        self._stop()
        if self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        self._over = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._stop_alarm()
        self._make_room()

    def _lost(self, loss: Loss) -> None:
        if self._over:
            return
        self._loss = loss
        self.abandon()
        if self._answer is None:
            self._on_lost(loss)
        elif not self._answer.done():
            self._answer.set_exception(_lost_at_login(loss))

    # What comes in

    def data_received(self, data: bytes) -> None:
        self._unanswered = 0
        if self._alarm is not None:
            self._stop_alarm()
        try:
            for packet in self._reader.feed(data):
                self._receive(packet)
            if self._reader.error is not None:
                raise self._reader.error
        except MqttError as error:
            self._lost(Loss(f"The broker sent something that is not MQTT 3.1.1: {error.reason}"))

    def _receive(self, packet: packets.Packet) -> None:
        if type(packet) is Publish:
            self._deliver(packet)
        elif type(packet) is Puback:
            if self._under_way.pop(packet.packet_id, None) is not None:
                self._send_waiting()
        elif type(packet) is Pingresp:
            self._pinged_at = None
        elif isinstance(packet, Connack | Suback) and self._answer is not None and not self._answer.done():
            self._answer.set_result(packet)
        else:
            self._lost(Loss(f"The broker sent a {type(packet).__name__} where none is expected."))

    def _deliver(self, packet: Publish) -> None:
        if packet.qos == 2:
            self._lost(Loss("The broker sent a message with QoS 2, which was not asked for."))
        elif not self._over:
            if packet.topic == self._s2c and not packet.retain:
                self._on_frame(packet.payload, None)
            if packet.packet_id is not None:
                self._write(encode(Puback(packet.packet_id)))

    # What goes out

    def say(self, presence: bytes) -> None:
        """Publish this client's presence, retained."""
        self._online = presence == ONLINE
        self._publish_at_once(self._status, presence, retain=True)

    def publish(self, topic: bytes, payload: bytes, qos: int) -> None:
        if self._over:
            return
        if qos == 0:
            self._write(encode_publish(topic, payload, qos=0))
        elif self._waiting or len(self._under_way) >= MAX_UNDER_WAY:
            self._waiting.append((topic, payload))
        else:
            self._publish_at_once(topic, payload)

    def _publish_at_once(self, topic: bytes, payload: bytes, *, retain: bool = False) -> None:
        if self._over:
            return
        packet_id = self._free_id()
        self._under_way[packet_id] = self._loop.time()
        self._write(encode_publish(topic, payload, qos=1, packet_id=packet_id, retain=retain))

    def _free_id(self) -> int:
        # A PUBACK for an early one may be late; 65,535 ids and 64 under way always leave a free one.
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self._under_way:
                return self._last_id

    def _send_waiting(self) -> None:
        while self._waiting and len(self._under_way) < MAX_UNDER_WAY:
            self._publish_at_once(*self._waiting.popleft())
        self._make_room()

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._unanswered += len(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._wrote_at = self._loop.time()
        self._out.clear()

    @property
    def congested(self) -> bool:
        return (self._paused or bool(self._waiting)) and not self._over

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
        self._write(encode(packets.Pingreq()))
        patience = seconds + self._unanswered / SLOWEST
        silence = Loss(f"The broker gave no sign of life within {patience:.3g} s.")
        self._alarm = self._loop.call_later(patience, self._lost, silence)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look_after(self) -> None:
        now = self._loop.time()
        oldest = next(iter(self._under_way.values()), now)
        if now - oldest > self._send_timeout:
            self._lost(Loss(f"The broker did not acknowledge a message within {self._send_timeout:g} s."))
        elif self._pinged_at is not None and now - self._pinged_at > PING_PATIENCE:
            self._lost(Loss(f"The broker did not answer a ping within {PING_PATIENCE:g} s."))
        else:
            if self._pinged_at is None and now - self._wrote_at >= PING_AFTER:
                self._pinged_at = now
                self._write(encode(packets.Pingreq()))
            self._watch = self._loop.call_later(WATCH_EVERY, self._look_after)


def _lost_at_login(loss: Loss) -> ThalovantConnectionError:
    return ThalovantConnectionError(f"{loss.text} It happened while logging in to the broker.")


def _refusal(code: int) -> ThalovantConnectionError:
    if code in (packets.BAD_CREDENTIALS, packets.NOT_AUTHORIZED):
        return ThalovantHubRefusedError(
            f"The broker does not accept these credentials (CONNACK {code}). MQTT may be turned off on the hub, or the "
            f"client was removed or its credential replaced: look with `thalovant hubs`, create a fresh identity, and "
            f"check that this app uses the newest file."
        )
    if code == packets.SERVER_UNAVAILABLE:
        return ThalovantConnectionError("The broker is not available just now (CONNACK 3). Try again in a moment.")
    return ThalovantConnectionError(
        f"The broker refused the connection (CONNACK {code}): it does not speak MQTT 3.1.1 as we do."
    )
