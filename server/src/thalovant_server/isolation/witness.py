# SPDX-License-Identifier: Apache-2.0
"""A connection that stays while others are attacked, and says all that it notices: it should be nothing.

It hears its own topics, and now and then has its hub answer it, so that there is something to overhear.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from thalovant.protocol.clear import clear_kind
from thalovant.protocol.mqtt.packets import Connack, Packet, Publish, Suback
from thalovant.protocol.topics import OFFLINE, ONLINE, SPELLINGS, STATUS
from thalovant_server.errors import ProofError
from thalovant_server.isolation.attacker import Connection, Dial
from thalovant_server.isolation.moves import HELLO, Party
from thalovant_server.isolation.packets import Wire

HEARD = (*SPELLINGS.values(), STATUS)


class Witness:
    """A client that is logged in and hears its own topics. Made by `arrive`."""

    def __init__(self, name: str, party: Party, wire: Wire, connection: Connection, status: bytes) -> None:
        self._name = name
        self._party = party
        self._wire = wire
        self._connection = connection
        self._told = False
        self._status = status

    @classmethod
    async def arrive(cls, name: str, party: Party, client_id: str, wire: Wire, dial: Dial) -> Self:
        """Log in and subscribe.

        Raises:
            ProofError: it is not let in, or may not hear its own topics; then nothing can be proven.
        """
        connection = await Connection.open(dial, wire)
        await connection.say(wire.connect(party.username, party.password, client_id, keepalive=0))
        answer = await connection.next()
        if not isinstance(answer, Connack) or answer.code != 0:
            await connection.close()
            raise ProofError(f"the {name}'s own login was refused")
        await connection.say(wire.subscribe(*map(party.topic, HEARD)))
        granted = await connection.next()
        if not isinstance(granted, Suback) or any(granted.codes):
            await connection.close()
            raise ProofError(f"the {name} may not hear its own topics")
        retained = [each.payload for each in await connection.until_quiet() if isinstance(each, Publish)]
        return cls(name, party, wire, connection, retained[-1] if retained else OFFLINE)

    @property
    def gone(self) -> bool:
        """Whether the broker has ended its connection."""
        return self._connection.closed

    async def notices(self) -> list[str]:
        """What came that it did not ask for, and whether it was disconnected. Each is told once."""
        if self._connection.closed:
            return []
        came = [self._in_words(packet) for packet in await self._connection.until_quiet()]
        return [*came, *self._gone()]

    async def talk(self) -> list[str]:
        """Say something on each topic and hear the hub's answers; what else came, or did not, is what it noticed."""
        if self._connection.closed:
            return []
        try:
            return await self._talk()
        except ProofError:
            return [f"the {self._name}'s hub no longer answers it"]

    async def _talk(self) -> list[str]:
        noticed: list[str] = []
        for spelling, answers in SPELLINGS.items():
            await self._publish(spelling, HELLO)
            noticed += await self._hear([(answers, "hello"), (answers, "shake")])
        self._status = OFFLINE if self._status == ONLINE else ONLINE
        await self._publish(STATUS, self._status)
        return noticed + await self._hear([(STATUS, self._status.decode())]) + self._gone()

    async def _publish(self, segment: str, payload: bytes) -> None:
        await self._connection.say(self._wire.publish(self._party.topic(segment), payload, qos=0))

    async def _hear(self, expected: list[tuple[str, str]]) -> list[str]:
        """Wait for what is expected, in this order; in words what else came."""
        strange: list[str] = []
        for segment, kind in expected:
            while (packet := await self._connection.next()) is not None:
                if self._is(packet, segment, kind):
                    break
                strange.append(self._in_words(packet))
        return strange

    async def is_cut(self) -> bool:
        """Wait until the broker ends this connection; False when it does not."""
        try:
            while await self._connection.next() is not None:
                pass
        except ProofError:
            return False
        return True

    async def clear(self, topics: Iterable[bytes]) -> None:
        """Have the broker forget what it keeps for these topics, where it lets this client do so."""
        for topic in topics:
            await self._connection.say(self._wire.publish(topic, b"", qos=0, retain=True))
        await self._connection.until_quiet()

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()

    def _is(self, packet: Packet, segment: str, kind: str) -> bool:
        if not isinstance(packet, Publish) or packet.topic != self._party.topic(segment):
            return False
        return kind == (packet.payload.decode(errors="replace") if segment == STATUS else clear_kind(packet.payload))

    def _gone(self) -> list[str]:
        if not self._connection.closed or self._told:
            return []
        self._told = True
        return [f"the {self._name} was disconnected"]

    def _in_words(self, packet: Packet) -> str:
        """What came, without its content."""
        if isinstance(packet, Publish):
            return f"the {self._name} heard something on .../{packet.topic.decode(errors='replace').rpartition('/')[2]}"
        return f"the {self._name} was sent {type(packet).__name__.upper()}"
