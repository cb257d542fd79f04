# SPDX-License-Identifier: Apache-2.0
"""The embedded endpoint with clients of MQTT 5, over real sockets and TLS: what they are told, and when it ends."""

import asyncio
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.v5 import V5
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.hub import refusal
from thalovant_server.hub.limits import Limits

Tls = tuple[ssl.SSLContext, ssl.SSLContext]


def run(main: Any) -> None:
    """Each test runs on the loop that the server runs on."""
    uvloop.run(asyncio.wait_for(main, 20))


# -- raw bytes over TLS

OWN = b"hubs/h1/clients/a/"


def framed(first: int, body: bytes) -> bytes:
    """A packet of less than 16 KiB, put together by hand."""
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7))
    return bytes((first,)) + size + body


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


def raw_connect(username: bytes = b"key-a", password: bytes = b"broker-password", properties: bytes = b"") -> bytes:
    head = b"\x00\x04MQTT\x05\xc2\x00\x3c" + bytes((len(properties),)) + properties
    return framed(0x10, head + text(b"") + text(username) + text(password))


async def speak(endpoint: Any, *pieces: bytes) -> bytes:
    """Everything that the server says to these bytes, given to it in these pieces, until it closes."""
    client = await endpoint.dial()
    for piece in pieces:
        await client.write(piece)
    return bytes(await client.reader.read())


def welcomed(said: bytes) -> bytes:
    """What follows the CONNACK, whose assigned client id is another each time."""
    size = 2 + said[1]
    connack = said[:size]
    assert connack[:5] == bytes((0x20, size - 2, 0, 0, size - 5))
    assert connack[5:].startswith(b"\x11\0\0\0\0\x12\x00\x25auto-")
    assert connack.endswith(b"\x21\x03\xe8\x27\x00\x04\x00\x00\x28\x00\x29\x00\x2a\x00")
    return said[size:]


CONVERSATION = [
    # A session of an hour, a user property, no reason strings.
    raw_connect(properties=b"\x11\x00\x00\x0e\x10\x26\x00\x01k\x00\x01v\x17\x00"),
    framed(0x82, b"\x00\x01\x00" + text(OWN + b"s2c") + b"\x02" + text(b"#") + b"\x00"),
    framed(0x32, text(b"elsewhere") + b"\x00\x03\x00x"),
    framed(0x34, text(OWN + b"s2c") + b"\x00\x04\x00x"),
    framed(0x33, text(OWN + b"status") + b"\x00\x02\x00online"),
    framed(0x62, b"\x00\x05\x92\x00"),
    framed(0xA2, b"\x00\x06\x00" + text(b"x")),
    b"\xc0\x00",
]
ANSWERS = bytes.fromhex("9005 0001 00 01a2  4003 0003 87  5003 0004 87  4002 0002  7003 0005 92  b004 0006 00 11  d000")


def test_a_conversation_in_bytes(rig: SimpleNamespace, tls: Tls) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            assert welcomed(await speak(endpoint, *CONVERSATION, b"\xe0\x00")) == ANSWERS
            assert welcomed(await speak(endpoint, b"".join(CONVERSATION), b"\xf0\x00")) == ANSWERS + b"\xe0\x01\x82"

    run(main())


def test_a_conversation_in_single_bytes(rig: SimpleNamespace, tls: Tls) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            stream = b"".join(CONVERSATION) + b"\xe0\x00"
            pieces = [stream[at : at + 1] for at in range(len(stream))]
            assert welcomed(await speak(endpoint, *pieces)) == ANSWERS

    run(main())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (raw_connect(username=b"nobody"), "86"),
        (raw_connect(password=b"wrong"), "86"),
        (raw_connect(password=b""), "86"),
        (raw_connect(properties=b"\x15\x00\x01x"), "8c"),
    ],
)
def test_a_refused_login_in_bytes(rig: SimpleNamespace, tls: Tls, raw: bytes, said: str) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            got = await speak(endpoint, raw)
            assert got[:4] == bytes((0x20, len(got) - 2, 0, int(said, 16)))
            assert got[5] == 0x1F and got.endswith(b".")

    run(main())


def test_an_unknown_user_and_a_wrong_password_look_the_same(rig: SimpleNamespace, tls: Tls) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            endpoint.change(2, active=False)
            raws = [raw_connect(b"nobody"), raw_connect(b"key-a", b"wrong"), raw_connect(b"key-b", b"wrong")]
            assert len({await speak(endpoint, raw) for raw in raws}) == 1


def test_a_paused_client_with_the_right_password_is_told_so(rig: SimpleNamespace, tls: Tls) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            endpoint.change(2, active=False)
            got = await speak(endpoint, raw_connect(b"key-b"))
            assert got[3] == 0x87 and got.endswith(b"This client is paused. Its owner can resume it.")

    run(main())


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x30\x80\x80\x10", 0x95),
        (b"\x36\x03\x00\x01t", 0x81),
        (b"\xc1\x00", 0x81),
        (b"\x00\x00", 0x81),
        (framed(0x30, b"\x00\x00\x00"), 0x82),
        (framed(0x30, b"\x00\x01t\x03\x23\x00\x00"), 0x94),
        (framed(0x30, b"\x00\x01t\x03\x23\x00\x01"), 0x94),
        (framed(0x30, b"\x00\x01#\x00"), 0x81),
        (framed(0x30, b"\x00\x02\xc0\xaf\x00"), 0x81),
        (framed(0x82, b"\x00\x01\x00"), 0x82),
        (framed(0x82, b"\x00\x01\x00" + text(b"$share/g/t") + b"\x04"), 0x82),
        (framed(0x82, b"\x00\x01\x02\x0b\x01" + text(OWN + b"s2c") + b"\x01"), 0xA1),
        (framed(0x82, b"\x00\x01\x00" + (text(b"t") + b"\x00") * 1_025), 0x97),
        (framed(0x30, b"\x00\x01t\x85\x28" + b"\x26\0\0\0\0" * 1_025), 0x97),
        (framed(0xE0, b"\x00\x05\x11\x00\x00\x00\x01"), 0x82),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else hex(value),
)
def test_what_may_not_be_is_told_and_the_neighbour_notices_nothing(
    rig: SimpleNamespace, tls: Tls, raw: bytes, code: int
) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            neighbour = await endpoint.ready("b", level=5)
            client = await endpoint.login("a", level=5)
            await client.write(raw)
            assert await client.told() == code
            assert await neighbour.silent()

    run(main())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*CONVERSATION[1:], b"\xe0\x00", b"\xf0\x00"]) | st.binary(max_size=30), max_size=6))
def test_whatever_comes_after_the_login_is_answered_in_packets_of_5(rig: SimpleNamespace, stream: list[bytes]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a", level=5)
            await client.write(b"".join(stream) + b"\xc0\x00\xf0\x00")
            client.writer.write_eof()
            while await client.receive() is not None:  # raises for what is no packet of MQTT 5
                pass

    run(main())


# -- the login


def test_both_versions_are_served_on_one_port(rig: SimpleNamespace, tls: Tls) -> None:
    async def main() -> None:
        async with rig.Endpoint(tls=tls) as endpoint:
            old, new = (
                await endpoint.ready("a", client_id="4"),
                await endpoint.ready("a", "c2s", client_id="5", level=5),
            )
            assert old.connack == mqtt.Connack(False, 0) and new.connack.properties.receive_maximum == 1_000
            for session, client, topic in zip(endpoint.hub.sessions, (old, new), ("out", "s2c"), strict=True):
                session.link.send_sealed([b"the answer"])
                assert await client.receive() == mqtt.Publish(rig.topic("a", topic), b"the answer", 1, 3)

    run(main())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"password": b"wrong"}, 0x86),
        ({"username": None}, 0x86),
        ({"username": None, "password": None}, 0x86),
        ({"client_id": "x" * 129}, 0x85),
        ({"will": mqtt.Will(b"hubs/h1/clients/b/status", b"offline")}, 0x87),
        ({"will": mqtt.Will(b"hubs/h1/clients/a/status", b"online")}, 0x87),
        ({"name": "c"}, 0x87),
    ],
    ids=repr,
)
def test_a_login_that_is_refused(rig: SimpleNamespace, fields: dict[str, Any], code: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.change_hub("h2", protocols=frozenset({"wss"}))
            client = await endpoint.dial(V5)
            answer = await client.ask(rig.connect(**{"level": 5, **fields}))
            assert isinstance(answer, mqtt.Connack) and answer.code == code
            assert (answer.properties.reason_string or "").endswith(".")
            assert await client.gone()

    run(main())


@pytest.mark.parametrize(("why", "code"), [(refusal.BUSY, 0x89), (refusal.RESTARTING, 0x88)], ids=repr)
def test_a_hub_that_takes_nobody_says_so(rig: SimpleNamespace, why: refusal.Refusal, code: int) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.hub.refusal = why
            client = await endpoint.dial(V5)
            answer = await client.ask(rig.connect(level=5))
            assert isinstance(answer, mqtt.Connack) and answer.code == code

    run(main())


def test_one_connection_too_many_is_told_so(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(sessions_per_credential=1)) as endpoint:
            first = await endpoint.login("a", "one", level=5)
            second = await endpoint.dial(V5)
            answer = await second.ask(rig.connect("a", "two", level=5))
            assert isinstance(answer, mqtt.Connack) and answer.code == 0x97
            assert await first.silent()

    run(main())


def test_a_client_without_a_keep_alive_is_held_to_the_longest(rig: SimpleNamespace) -> None:
    async def main() -> None:
        bounds = Bounds(keepalive_most=1, keepalive_factor=0.05)
        async with rig.Endpoint(bounds=bounds) as endpoint:
            old, client = await endpoint.login("b"), await endpoint.login("a", level=5)
            assert client.connack.properties.server_keep_alive == 1
            assert await client.told() == 0x8D
            assert await old.silent()

    run(main())


# -- publishing


def test_a_denied_publish_is_told_and_the_connection_goes_on(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a", level=5)
            for number, kind in ((1, mqtt.Puback), (2, mqtt.Pubrec)):
                answer = await client.ask(rig.publish("b", "in", rig.HELLO, qos=number, packet_id=number))
                assert isinstance(answer, kind) and answer.code == 0x87
            (session,) = endpoint.hub.sessions
            await client.send(rig.publish("a", "in", rig.SHAKE))
            await session.until(lambda: session.clear)
            assert not session.is_lost and len(endpoint.hub.sessions) == 1

    run(main())


def test_a_denied_publish_without_acknowledgement_ends_it_with_a_word(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a", level=5)
            await client.send(rig.publish("b", "in", rig.HELLO))
            assert await client.told() == 0x87
            assert len(endpoint.hub.sessions) == 1

    run(main())


def test_denied_publishes_are_one_warning_a_minute(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a", level=5)
            for number in range(1, 50):
                secret = Properties(user_properties=(("the-key", "the-value"),))
                packet = mqtt.Publish(b"the-topic", b"the-payload", 1, number, properties=secret)
                answer = await client.ask(packet)
                assert isinstance(answer, mqtt.Puback) and answer.code == 0x87
            ended = await endpoint.login("a", level=5)
            await ended.send(mqtt.Publish(b"the-topic", b"the-payload"))
            assert await ended.told() == 0x87

    with structlog.testing.capture_logs() as logs:
        run(main())
    warned = [(each["event"], each["code"]) for each in logs if each["log_level"] == "warning"]
    assert warned == [("denied", "denied_publish"), ("denied_again", "denied_publish")]
    assert {each["what"] for each in logs if "what" in each} == {"the-topic"}
    assert "the-payload" not in repr(logs) and "the-value" not in repr(logs) and "key-a" not in repr(logs)


def test_user_properties_are_accepted_wherever_they_may_be(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            own = Properties(user_properties=(("k", "v"), ("k", "w")))
            status = rig.topic("a", "status")
            client = await endpoint.login(
                "a", level=5, properties=own, will=mqtt.Will(status, b"offline", properties=own)
            )
            answers = [
                await client.ask(mqtt.Subscribe(1, ((status, 1),), own)),
                await client.ask(rig.publish("a", "in", b"x", qos=1, packet_id=2, properties=own)),
                await client.ask(rig.publish("a", "in", b"x", qos=2, packet_id=3, properties=own)),
                await client.ask(mqtt.Pubrel(3, 0, own)),
                await client.ask(rig.publish("a", "status", b"online", qos=1, packet_id=4, properties=own)),
            ]
            assert answers == [mqtt.Suback(1, (1,)), mqtt.Puback(2), mqtt.Pubrec(3), mqtt.Pubcomp(3), mqtt.Puback(4)]
            told = await client.receive()
            assert told == mqtt.Publish(status, b"online", 1, 1)
            await client.send(mqtt.Puback(1, 0x10, own))
            assert await client.ask(mqtt.Unsubscribe(5, (status,), own)) == mqtt.Unsuback(5, (0,))
            await client.send(mqtt.Disconnect(0, own))
            assert await client.gone()

    run(main())


# -- publishing to the client


def test_the_receive_maximum_of_the_client_holds(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a", level=5, properties=Properties(receive_maximum=2))
            endpoint.hub.sessions[0].link.send_sealed([b"1", b"2", b"3"])
            got = [await client.receive(), await client.receive()]
            assert [packet.payload for packet in got if isinstance(packet, mqtt.Publish)] == [b"1", b"2"]
            assert await client.silent()
            third = await client.ask(mqtt.Puback(3))
            assert isinstance(third, mqtt.Publish) and third.payload == b"3"

    run(main())


def test_a_frame_that_is_too_large_for_the_client_ends_it_with_the_size_it_needs(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            other = await endpoint.ready("a", client_id="other", level=5)
            client = await endpoint.ready("a", level=5, properties=Properties(maximum_packet_size=1_000))
            first, second = endpoint.hub.sessions
            second.link.send_sealed([bytes(800), bytes(2_000), b"never"])
            small, last = await client.receive(), await client.receive()
            assert isinstance(small, mqtt.Publish) and len(small.payload) == 800
            assert isinstance(last, mqtt.Disconnect) and last.code == 0x95
            assert "65" in (last.properties.reason_string or "") and await client.gone()
            assert second.is_lost and not first.is_lost
            assert await other.silent()

    run(main())


def test_a_client_that_ends_so_with_much_unread_holds_nothing_any_more(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(close_seconds=0.05)) as endpoint:
            client = await endpoint.ready("a", level=5, properties=Properties(maximum_packet_size=65_000))
            (session,), (connection,) = endpoint.hub.sessions, endpoint.gateway._open
            client.writer.transport.pause_reading()
            while not connection._paused:
                session.link.send_sealed([bytes(60_000)])
                await asyncio.sleep(0)
            session.link.send_sealed([bytes(60_000), bytes(65_000)])
            assert session.is_lost and endpoint.hub.budget.used == 0
            await connection.gone

    run(main())


# -- ends


def told_of(rig: SimpleNamespace, end: Any, code: int, **given: Any) -> None:
    """Whoever is ended by `end(endpoint)` is told `code`; the other one stays."""

    async def main() -> None:
        async with rig.Endpoint(**given) as endpoint:
            client, other = await endpoint.ready("a", level=5, client_id="device"), await endpoint.ready("c", level=5)
            done = end(endpoint)
            if done is not None:
                await done
            assert await client.told() == code
            assert await other.silent()

    run(main())


def test_a_takeover_is_told(rig: SimpleNamespace) -> None:
    told_of(rig, lambda endpoint: endpoint.login("a", "device"), 0x8E)


def test_a_revoked_credential_is_told(rig: SimpleNamespace) -> None:
    told_of(rig, lambda endpoint: endpoint.change(1, active=False), 0x87)


def test_a_removed_client_is_told(rig: SimpleNamespace) -> None:
    told_of(rig, lambda endpoint: endpoint.directory.remove_client("client-a"), 0x87)


@pytest.mark.parametrize("fields", [{"active": False}, {"protocols": frozenset({"wss"})}], ids=repr)
def test_a_hub_that_is_turned_off_is_told(rig: SimpleNamespace, fields: dict[str, Any]) -> None:
    told_of(rig, lambda endpoint: endpoint.change_hub("h1", **fields), 0x98)


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (refusal.KEY_MISMATCH, 0x87),
        (refusal.UNDECIPHERABLE, 0x99),
        (refusal.TOO_LARGE, 0x97),
        (refusal.RESTARTING, 0x8B),
        (refusal.BUSY, 0x89),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_what_the_hub_ends_is_told(rig: SimpleNamespace, why: refusal.Refusal, code: int) -> None:
    told_of(rig, lambda endpoint: endpoint.hub.sessions[0].link.close(why), code)


def test_closing_is_told_to_everybody(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            clients = [await endpoint.ready(name, level=5) for name in ("a", "b", "c")]
            old = await endpoint.login("a", "old")
            await endpoint.gateway.close(5)
            assert [await client.told() for client in clients] == [0x8B] * 3
            assert await old.gone()

    run(main())


def test_a_client_over_the_bytes_of_the_process_is_told(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(process_bytes=100_000), bounds=Bounds(in_flight=5)) as endpoint:
            client = await endpoint.ready("a", level=5)
            (session,) = endpoint.hub.sessions
            session.link.send_sealed([bytes(60_000)] * 5)
            assert session.is_lost and endpoint.hub.budget.used == 0
            assert await client.told() == 0x89

    run(main())


def test_a_client_that_acknowledges_too_little_is_told(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(out_frames=10), bounds=Bounds(in_flight=5)) as endpoint:
            client = await endpoint.ready("a", level=5)
            (session,) = endpoint.hub.sessions
            for number in range(17):
                session.link.send_sealed([bytes((number,))])
                if number < 5:
                    assert isinstance(await client.receive(), mqtt.Publish)
            assert session.is_lost
            assert await client.told() == 0x97

    run(main())


def test_a_slow_reader_is_told_what_it_was_when_it_reads_on(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(out_bytes=200_000)) as endpoint:
            client, other = await endpoint.ready("a", level=5), await endpoint.ready("b")
            session = endpoint.hub.sessions[0]
            client.writer.transport.pause_reading()
            while not session.is_lost:
                session.link.send_sealed([bytes(60_000)])
                await asyncio.sleep(0)
            (connection,) = (each for each in endpoint.gateway._open if each.place is None)
            assert len(connection._out) == 1  # nothing is held for it but the last word
            assert await other.silent()
            client.writer.transport.resume_reading()
            while isinstance(last := await client.receive(), mqtt.Publish):
                pass
            assert isinstance(last, mqtt.Disconnect) and last.code == 0x97
            assert await client.gone()

    run(main())


def test_a_slow_reader_that_never_reads_on_is_gone_soon(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(out_bytes=200_000, close_seconds=0.05)) as endpoint:
            client = await endpoint.ready("a", level=5)
            (session,), (connection,) = endpoint.hub.sessions, endpoint.gateway._open
            client.writer.transport.pause_reading()
            while not session.is_lost:
                session.link.send_sealed([bytes(60_000)])
                await asyncio.sleep(0)
            await connection.gone

    run(main())


# -- the will


@pytest.mark.parametrize("delay", [None, 0, 3_600])
@pytest.mark.parametrize("end", [lambda client: client.send(mqtt.Disconnect(4)), lambda client: client.close()])
def test_a_will_is_published_at_once_whatever_its_delay(rig: SimpleNamespace, end: Any, delay: int | None) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            status = rig.topic("a", "status")
            watcher = await endpoint.login("a", level=5)
            await endpoint.subscribe(watcher, "a", "status", qos=0)
            will = mqtt.Will(status, b"offline", 1, True, Properties(will_delay_interval=delay))
            asked = Properties(session_expiry_interval=7_200)
            client = await endpoint.login("a", level=5, will=will, properties=asked)
            await client.send(rig.publish("a", "status", b"online"))
            assert await watcher.receive() == mqtt.Publish(status, b"online")
            await end(client)
            assert await watcher.receive() == mqtt.Publish(status, b"offline")

    run(main())


def test_a_normal_disconnect_publishes_no_will(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            will = mqtt.Will(rig.topic("a", "status"), b"offline")
            client = await endpoint.login("a", level=5, will=will)
            await client.send(mqtt.Disconnect())
            assert await client.gone()
            assert endpoint.gateway.presence(1) is None

    run(main())
