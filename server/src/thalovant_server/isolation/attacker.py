# SPDX-License-Identifier: Apache-2.0
"""A bare MQTT connection on a stream that is open already: it says what it is told and keeps what comes back.

It opens no socket itself (`Dial` does), acknowledges nothing and judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeAlias

from thalovant.protocol.errors import MqttError
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Codec, Connack, Packet, Pingresp, Pubrec
from thalovant.protocol.mqtt.versions import CODECS
from thalovant_server.errors import ProofError
from thalovant_server.isolation.moves import Move, Scene
from thalovant_server.isolation.packets import NO_PACKET, PINGREQ, PUBREL, Wire

PATIENCE_SECONDS = 20.0
LARGEST_PACKET = 1 << 20
FAILURE = 0x80  # reason codes and return codes from here on say no, but for CONNACK


class Stream(Protocol):
    """Bytes to a broker and back: TLS, or the binary frames of a WebSocket."""

    async def write(self, data: bytes) -> None:
        """Send them; raises OSError when the broker has hung up."""

    async def read(self) -> bytes:
        """What came next, b"" at the end."""

    async def close(self) -> None:
        """Hang up."""


Dial: TypeAlias = Callable[[], Awaitable[Stream]]


@dataclass(slots=True)
class Seen:
    """What a broker did: the packets it sent, in order, and whether it closed the connection."""

    packets: list[Packet] = field(default_factory=list)
    closed: bool = False

    @property
    def let_in(self) -> bool:
        """Whether CONNECT was accepted."""
        return bool(self.packets) and isinstance(self.packets[0], Connack) and self.packets[0].code == 0


class Connection:
    """One MQTT connection of the given version."""

    def __init__(self, stream: Stream, codec: Codec) -> None:
        self._stream = stream
        self._reader = PacketReader(LARGEST_PACKET, codec)
        self._unread: list[Packet] = []
        self.closed = False

    @classmethod
    async def open(cls, dial: Dial, wire: Wire) -> Self:
        """Dial; nothing is said yet.

        Raises:
            ProofError: nobody answers there.
        """
        try:
            return cls(await dial(), CODECS[wire.level])
        except OSError as error:
            raise ProofError(f"the broker cannot be reached: {error}") from error

    async def say(self, data: bytes) -> None:
        """Send bytes. A broker that has hung up is found out by `next`."""
        with contextlib.suppress(OSError):  # what it said before that can still be read
            await self._stream.write(data)

    async def next(self) -> Packet | None:
        """The next packet, None when the broker has closed.

        Raises:
            ProofError: it does neither for too long, or says what is no MQTT.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not self._unread and not self.closed:
                    self._take(await self._read())
        except TimeoutError:
            raise ProofError(f"the broker was silent for {PATIENCE_SECONDS:.0f} s") from None
        except MqttError as error:
            raise ProofError(f"the broker said what is no MQTT: {error}") from error
        return self._unread.pop(0) if self._unread else None

    async def until_quiet(self) -> list[Packet]:
        """Everything that comes before the answer to a ping, or before the end."""
        await self.say(PINGREQ)
        came: list[Packet] = []
        while (packet := await self.next()) is not None and not isinstance(packet, Pingresp):
            came.append(packet)
        return came

    async def close(self) -> None:
        """Hang up without a word."""
        await self._stream.close()

    async def _read(self) -> bytes:
        try:
            return await self._stream.read()
        except OSError:  # reset; TLS that was cut off
            return b""

    def _take(self, data: bytes) -> None:
        if data:
            self._unread += self._reader.feed(data)
        else:
            self.closed = True


class Attack:
    """One move on one connection: `begin`, `listen` while others talk, `end`. What came is in `seen`."""

    def __init__(self, move: Move, scene: Scene, wire: Wire) -> None:
        self._move, self._scene, self._wire = move, scene, wire
        self._connection: Connection | None = None
        self.seen = Seen()

    async def begin(self, dial: Dial) -> None:
        """Log in and make the move; wait until the broker has dealt with it."""
        self._connection = connection = await Connection.open(dial, self._wire)
        await connection.say(self._move.connect(self._scene, self._wire))
        await self._hear(connection)
        if self.seen.let_in and (then := self._move.then(self._scene, self._wire)):
            await connection.say(then)
            await self.listen()
            if any(isinstance(packet, Pubrec) and packet.code < FAILURE for packet in self.seen.packets):
                await connection.say(PUBREL)  # only now a broker may pass the message on
                await self.listen()

    async def listen(self) -> None:
        """Take what came since, if the connection stands."""
        connection = self._connection
        if connection is not None and self.seen.let_in and not connection.closed:
            self.seen.packets += await connection.until_quiet()
            self.seen.closed = connection.closed

    async def end(self) -> None:
        """Have the broker end the connection, so that a will is published; it is over when this returns."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self.seen.let_in and not connection.closed:
                await connection.say(NO_PACKET)
                while await connection.next() is not None:
                    pass
        finally:
            await connection.close()

    async def _hear(self, connection: Connection) -> None:
        packet = await connection.next()
        if packet is not None:
            self.seen.packets.append(packet)
        self.seen.closed = connection.closed
