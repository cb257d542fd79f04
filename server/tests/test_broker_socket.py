# SPDX-License-Identifier: Apache-2.0
"""Dialling a broker: which version is spoken, what is said of one that does not answer as it should, and room."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thalovant.protocol.mqtt.client_connection import Limits, Patience
from thalovant.protocol.mqtt.client_events import Arrived, BrokerLeft, Unanswered
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Codec, Connack, Connect, Disconnect, Pingreq, Puback, Publish
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant.protocol.mqtt.versions import OPENING
from thalovant_server import broker_socket, certificates
from thalovant_server.broker_socket import BrokerTarget, Resumption, client_context, open_socket
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.errors import BrokerAwayError, BrokerError, BrokerLoginError, BrokerRefusedError

LOGIN = Connect("me", username="user", password=b"secret-of-ours")


class Session:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.codec: Codec = V311
        self.packets = PacketReader(1_000_000, OPENING)
        self.waiting: list[Any] = []

    async def next(self) -> Any:
        while not self.waiting:
            data = await self.reader.read(65_536)
            if not data:
                return None
            self.waiting += self.packets.feed(data, 1 if self.packets.version is OPENING else None)
        packet = self.waiting.pop(0)
        if isinstance(packet, Connect):
            self.packets.version = self.codec = V5 if packet.level == V5.level else V311
        return packet

    def send(self, *packets: Any) -> None:
        self.writer.write(b"".join(map(self.codec.encode, packets)))


Script = Callable[[Session], Awaitable[None]]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A broker's context, and the file of the authority that signed its certificate."""
    folder, authority = tmp_path_factory.mktemp("tls"), certificates.make_authority()
    pair = certificates.make_server_certificate(authority)
    for name, text in (("ca", authority.certificate), ("crt", pair.certificate), ("key", pair.private_key)):
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context, folder / "ca"


@pytest.fixture
def at(tls: tuple[ssl.SSLContext, Path]) -> Iterator[Any]:
    """`at(script, main)`: run `main(target)` with a broker that does for every connection what the script says."""

    def run(script: Script, main: Callable[[BrokerTarget], Awaitable[None]], *, plain: bool = False) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await script(Session(reader, writer))
            except ConnectionError:
                pass
            finally:
                writer.close()

        async def everything() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if plain else tls[0])
            address = BrokerAddress("localhost", server.sockets[0].getsockname()[1])
            try:
                await asyncio.wait_for(main(BrokerTarget(address, client_context(tls[1]))), 20)
            finally:
                server.close()

        uvloop.run(everything())

    yield run


async def letting_in(session: Session) -> None:
    await session.next()
    session.send(Connack(False, 0))
    while await session.next() is not None:
        pass


def refusing(code: int, code_311: int) -> Script:
    async def script(session: Session) -> None:
        await session.next()
        session.send(Connack(False, code if session.codec is V5 else code_311))

    return script


def test_mqtt_5_is_spoken_first(at: Any) -> None:
    async def main(target: BrokerTarget) -> None:
        socket = await open_socket(target, LOGIN, lambda event: None)
        assert socket.level == 5 and not socket.session_present and not socket.over
        await socket.close()
        assert socket.over

    at(letting_in, main)


@pytest.mark.parametrize("words", [True, False], ids=["says so", "hangs up"])
def test_a_broker_that_knows_only_3_1_1_is_spoken_to_in_that(at: Any, words: bool) -> None:
    async def script(session: Session) -> None:
        connect = await session.next()
        if connect.level == 4:
            session.send(Connack(False, 0))
            await session.next()
        elif words:
            session.writer.write(V311.encode(Connack(False, 1)))

    async def main(target: BrokerTarget) -> None:
        socket = await open_socket(target, LOGIN, lambda event: None)
        assert socket.level == 4
        await socket.close()

    at(script, main)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (refusing(0x86, 4), BrokerLoginError, "0x86"),
        (refusing(0x87, 5), BrokerLoginError, "user or its password"),
        (refusing(0x88, 3), BrokerAwayError, "refused the connection"),
        (refusing(0x84, 1), BrokerRefusedError, "neither MQTT 5 nor MQTT 3.1.1"),
    ],
    ids=["bad login", "not authorized", "unavailable", "no version"],
)
def test_a_no_is_told_from_a_not_now(at: Any, script: Script, kind: type[BrokerError], words: str) -> None:
    async def main(target: BrokerTarget) -> None:
        with pytest.raises(kind) as caught:
            await open_socket(target, LOGIN, lambda event: None)
        assert type(caught.value) is kind and words in caught.value.sentence
        assert target.address.where in caught.value.sentence and "secret-of-ours" not in repr(caught.value)

    at(script, main)


async def silence(session: Session) -> None:
    await session.reader.read()


async def garbage(session: Session) -> None:
    session.writer.write(b"\x20\x7f" + bytes(200))
    await session.writer.drain()
    await session.reader.read()


async def hanging_up(session: Session) -> None:
    await session.next()


@pytest.mark.parametrize(
    ("script", "words"),
    [(silence, "did not answer within"), (garbage, "did not answer as a broker does"), (hanging_up, "closed")],
    ids=["silence", "garbage", "hanging up"],
)
def test_what_answers_otherwise_is_away(at: Any, monkeypatch: pytest.MonkeyPatch, script: Script, words: str) -> None:
    monkeypatch.setattr(broker_socket, "CONNECT_SECONDS", 0.5)

    async def main(target: BrokerTarget) -> None:
        with pytest.raises(BrokerAwayError, match=words):
            await open_socket(target, LOGIN, lambda event: None)

    at(script, main)


def test_nobody_and_no_tls(at: Any, tls: tuple[ssl.SSLContext, Path]) -> None:
    async def speaking(session: Session) -> None:
        session.writer.write(b"SSH-2.0-OpenSSH\r\n")
        await session.reader.read()

    async def main(target: BrokerTarget) -> None:
        with pytest.raises(BrokerRefusedError, match="does not speak TLS"):
            await open_socket(target, LOGIN, lambda event: None)
        nobody = BrokerTarget(BrokerAddress("localhost", 1), target.context)
        with pytest.raises(BrokerAwayError, match="cannot be reached"):
            await open_socket(nobody, LOGIN, lambda event: None)

    at(speaking, main, plain=True)


def test_another_authority_and_another_name_are_not_trusted(at: Any, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(certificates.make_authority().certificate)

    async def main(target: BrokerTarget) -> None:
        other = BrokerTarget(target.address, client_context(tmp_path / "ca"))
        with pytest.raises(BrokerRefusedError, match="--broker-ca"):
            await open_socket(other, LOGIN, lambda event: None)

    at(letting_in, main)


def test_a_session_goes_on_in_its_version_and_a_broker_that_hangs_up_then_is_merely_away(at: Any) -> None:
    seen: list[Any] = []

    async def script(session: Session) -> None:
        seen.append(await session.next())
        if len(seen) == 2:
            return
        session.send(Connack(len(seen) == 3, 0))
        while (packet := await session.next()) is not None:
            seen.append(packet)

    async def main(target: BrokerTarget) -> None:
        first = await open_socket(target, LOGIN, lambda event: None, session_expiry=60)
        first.publish(b"t", b"1")
        first.abort()
        del seen[1:]
        resumption = Resumption(first.connection.window, first.level)
        again = Connect("me", clean_session=False)
        with pytest.raises(BrokerAwayError, match="closed"):
            await open_socket(target, again, lambda event: None, resumption=resumption)
        assert len(seen) == 2  # not tried in another version
        second = await open_socket(target, again, lambda event: None, resumption=resumption)
        assert second.session_present
        while len(seen) < 4:
            await asyncio.sleep(0.005)
        assert (seen[3].payload, seen[3].dup) == (b"1", True)
        await second.close()

    at(script, main)


def test_what_one_read_brought_is_told_and_then_that_it_was_all(at: Any) -> None:
    told: list[Any] = []

    async def script(session: Session) -> None:
        await session.next()
        session.send(Connack(False, 0), Publish(b"a", b"1", 1, 1), Publish(b"a", b"2", 1, 2))
        assert await session.next() == Puback(1) and await session.next() == Puback(2)
        session.send(Disconnect(0x8B))
        await session.next()

    async def main(target: BrokerTarget) -> None:
        socket = await open_socket(target, LOGIN, told.append, on_settled=lambda: told.append("all"))
        assert await socket.closed == BrokerLeft(0x8B)
        assert told[:3] == [Arrived(b"a", b"1", packet_id=1), Arrived(b"a", b"2", packet_id=2), "all"]
        assert broker_socket.in_words(BrokerLeft(0x8E)).startswith("says that somebody else")

    at(script, main)


def test_an_answer_that_takes_no_time_leaves_in_one_write_with_what_it_answers(at: Any) -> None:
    """Two small writes are two more system calls and two more packets for the broker to read, on every ask."""
    reads: list[int] = []

    async def script(session: Session) -> None:
        await session.next()
        session.send(Connack(False, 0))
        assert await session.next() == Publish(b"here", b"", 1, 17)
        session.send(Puback(17), Publish(b"ask", b"?", 1, 1))
        while await session.next() is not None:
            reads.append(len(session.waiting))

    async def main(target: BrokerTarget) -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        async def answer() -> None:
            socket.publish(b"answer", b"!")
            socket.publish(b"answer", b".")
            asked.set()

        def settled() -> None:
            if heard:
                heard.clear()
                work.append(loop.create_task(answer()))

        heard: list[Any] = []
        work: list[asyncio.Task[None]] = []
        socket = await open_socket(target, LOGIN, heard.append, on_settled=settled)
        socket.publish(b"here", b"")
        await asked.wait()
        await socket.close()

    at(script, main)
    assert reads[0] == 2  # the PUBACK came with both


def test_a_broker_that_takes_nothing_has_no_room_and_is_given_up(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_socket, "LOOK_SECONDS", 0.05)

    async def script(session: Session) -> None:
        await session.next()
        session.send(Connack(False, 0))
        await asyncio.sleep(3600)

    async def main(target: BrokerTarget) -> None:
        patience = Patience(publish=0.3, before_ping=30.0, ping=30.0)
        socket = await open_socket(target, LOGIN, lambda event: None, limits=Limits(under_way=400), patience=patience)
        assert socket.has_room
        count = 0
        while socket.has_room:
            socket.publish(b"t", b"x" * 10_000)
            count += 1
        assert count <= broker_socket.UNDER_WAY_BYTES // 10_000 + 1
        assert isinstance(await socket.closed, Unanswered)
        assert not socket.has_room

    at(script, main)


def test_settling_waits_for_the_last_acknowledgement_and_no_longer_than_it_may(at: Any) -> None:
    async def script(session: Session) -> None:
        await session.next()
        session.send(Connack(False, 0))
        while not isinstance(packet := await session.next(), Pingreq | None):
            if packet.payload != b"never":
                session.send(Puback(packet.packet_id))

    async def main(target: BrokerTarget) -> None:
        socket = await open_socket(target, LOGIN, lambda event: None)
        for number in range(50):
            socket.publish(b"t", b"%d" % number)
        await socket.settle(5)
        assert socket.connection.window.under_way == 0
        socket.publish(b"t", b"never")
        await socket.settle(0.05)
        assert socket.connection.window.under_way == 1
        socket.abort()

    at(script, main)
