# SPDX-License-Identifier: Apache-2.0
"""The embedded endpoint over real sockets: who gets in, what reaches the hub, and how it ends."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import uvloop

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import encode
from thalovant_server.gateways.lane import Lanes
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.hub import refusal
from thalovant_server.hub.limits import Limits
from thalovant_server.testing.directory import mqtt_password_hash

REFUSED = mqtt.Connack(False, 5)


def run(main: Any) -> None:
    """Each test runs on the loop that the server runs on."""
    uvloop.run(asyncio.wait_for(main, 20))


# -- login


def test_a_client_logs_in_and_is_forgotten_when_it_leaves(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            assert endpoint.gateway.connections == 1
            await client.send(mqtt.Disconnect())
            assert await client.gone()

    run(main())


def test_a_socket_past_the_bound_is_closed_and_the_others_stay(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(connections=1)) as endpoint:
            first = await endpoint.login("a")
            second = await endpoint.dial()
            assert await second.gone()
            assert await first.ask(mqtt.Pingreq()) == mqtt.Pingresp()
            first.abort()
            await endpoint.gateway.close(5)

    run(main())


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "nobody"},
        {"username": "KEY-A"},
        {"username": None, "password": None},
        {"username": ""},
        {"password": None},
        {"password": b""},
        {"password": b"wrong"},
        {"username": "key-b", "password": b"wrong"},
    ],
    ids=repr,
)
def test_every_bad_login_is_not_authorized(rig: SimpleNamespace, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.dial()
            assert await client.ask(rig.connect(**fields)) == REFUSED
            assert await client.gone()

    run(main())


def test_what_the_directory_says_decides(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.change(1, active=False)
            endpoint.change(2, mqtt_password_hash=None)
            endpoint.change_hub("h2", protocols=frozenset({"wss"}))
            for name in ("a", "b", "c"):
                client = await endpoint.dial()
                assert await client.ask(rig.connect(name)) == REFUSED

    run(main())


def test_a_new_credential_works_at_once_and_a_removed_one_not_any_more(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.directory.put_credential(rig.credential(4, "d"))
            await endpoint.login("d")
            endpoint.directory.remove_client("client-d")
            client = await endpoint.dial()
            assert await client.ask(rig.connect("d")) == REFUSED

    run(main())


def test_an_unknown_key_costs_a_password_check_too(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            seen = []
            check = endpoint.directory.check_mqtt_password
            endpoint.directory.check_mqtt_password = lambda entry, given: seen.append(entry.id) or check(entry, given)
            for username in ("nobody", "key-a"):
                client = await endpoint.dial()
                assert await client.ask(rig.connect(username=username, password=b"wrong")) == REFUSED
            assert seen == [0, 1]

    run(main())


def test_an_overloaded_hub_is_unavailable_not_a_refusal_of_the_credential(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.hub.refusal = refusal.BUSY
            client = await endpoint.dial()
            assert await client.ask(rig.connect()) == mqtt.Connack(False, 3)

    run(main())


@pytest.mark.parametrize("client_id", ["", "x" * 129, "a\n", "a\u0085"])
def test_bad_client_ids_are_rejected(rig: SimpleNamespace, client_id: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.dial()
            connect = rig.connect("a", client_id, clean_session=False)
            assert await client.ask(connect) == mqtt.Connack(False, 2)
            assert await client.gone()

    run(main())


def test_a_session_that_is_not_clean_is_accepted_and_never_present(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            for _ in range(2):
                client = await endpoint.login("a", "same", clean_session=False)
                await endpoint.subscribe(client, "a", "out")

    run(main())


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        ("100e00064d51497364700302003c0000", "20020001"),  # MQTT 3.1
        ("100c00044d5154540302003c0000", "20020001"),
        ("100c00044d5154548402003c0000", "20020001"),  # 3.1.1 of a bridge
        ("100c00044d5154540602003c0000", "2003008400"),
    ],
)
def test_another_version_of_mqtt_is_told_so(rig: SimpleNamespace, data: str, answer: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.dial()
            await client.write(bytes.fromhex(data))
            assert await client.reader.read() == bytes.fromhex(answer)

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"\xc0\x00",
        b"\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x81\x50",
        b"\x20\x02\x00\x00",
    ],
    ids=bytes.hex,
)
def test_whatever_is_no_connect_is_closed_without_a_word(rig: SimpleNamespace, data: bytes) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.dial()
            await client.write(data)
            assert await client.gone()

    run(main())


def test_a_connect_must_come_in_time(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(connect_seconds=0.05)) as endpoint:
            client = await endpoint.dial()
            await client.write(b"\x10")
            assert await client.gone()

    run(main())


def test_the_large_limit_holds_for_what_comes_with_the_connect(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.dial()
            subscribe = mqtt.Subscribe(1, ((rig.topic("a", "out"), 1),))
            await client.send(rig.connect(), subscribe, rig.publish("a", "in", bytes(200_000)))
            assert await client.receive() == mqtt.Connack(False, 0)
            assert await client.receive() == mqtt.Suback(1, (1,))
            hello = await client.receive()
            assert isinstance(hello, mqtt.Publish) and hello.payload == rig.HUB_HELLO

    run(main())


def test_a_packet_over_the_large_limit_ends_the_connection(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await client.write(b"\x30\x80\x80\x10")  # 256 KiB and its header
            assert await client.gone()

    run(main())


def test_a_second_connect_is_a_violation(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            assert await client.ask(rig.connect("a")) is None

    run(main())


# -- takeover and number of connections


def test_the_same_client_id_takes_over_within_one_credential(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            first = await endpoint.ready("a", client_id="device")
            await endpoint.login("a", "device")
            assert await first.gone()
            assert endpoint.hub.sessions[0].is_lost

    run(main())


def test_client_ids_never_meet_across_credentials(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            first = await endpoint.login("a", "device")
            await endpoint.login("b", "device")
            await endpoint.login("c", "device")
            assert await first.silent()

    run(main())


def test_a_failed_login_takes_nothing_over(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            first = await endpoint.login("a", "device")
            will = mqtt.Will(rig.topic("a", "status"), b"online", retain=True)
            other = await endpoint.dial()
            assert await other.ask(rig.connect("a", "device", password=b"wrong", will=will)) == REFUSED
            assert await other.gone()
            assert await first.silent()
            assert endpoint.gateway.presence(1) is None

    run(main())


def test_so_many_connections_of_one_credential_and_no_more(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(sessions_per_credential=2)) as endpoint:
            first = await endpoint.login("a", "one")
            await endpoint.login("a", "two")
            third = await endpoint.dial()
            assert await third.ask(rig.connect("a", "three")) == mqtt.Connack(False, 3)
            assert await first.silent()
            await endpoint.login("b", "one")
            await endpoint.login("a", "one")  # takes over, so it is not one more
            assert await first.gone()

    run(main())


# -- to the hub and back


@pytest.mark.parametrize("spelling", ["in", "c2s"])
def test_the_spelling_of_the_hello_decides_where_answers_go(rig: SimpleNamespace, spelling: str) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a", spelling)
            (session,) = endpoint.hub.sessions
            other = {"in": "c2s", "c2s": "in"}[spelling]
            await client.send(rig.publish("a", other, rig.SHAKE), rig.publish("a", spelling, b"\x01sealed"))
            await session.until(lambda: session.sealed)
            assert (session.clear, session.sealed) == ([rig.SHAKE], [b"\x01sealed"])
            session.link.send_sealed([b"one", b"two"])
            for payload, packet_id in ((b"one", 3), (b"two", 4)):
                expected = mqtt.Publish(rig.topic("a", {"in": "out", "c2s": "s2c"}[spelling]), payload, 1, packet_id)
                assert await client.receive() == expected

    run(main())


def test_answers_keep_the_granted_qos(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await endpoint.subscribe(client, "a", "out", qos=0)
            hello = await client.ask(rig.publish("a", "in", rig.HELLO))
            assert hello == mqtt.Publish(rig.topic("a", "out"), rig.HUB_HELLO)

    run(main())


def test_qos_2_is_delivered_once(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            (session,) = endpoint.hub.sessions
            frame = rig.publish("a", "in", b"\x01", qos=2, packet_id=5)
            again = rig.publish("a", "in", b"\x01", qos=2, packet_id=5, dup=True)
            assert await client.ask(frame) == mqtt.Pubrec(5)
            assert await client.ask(again) == mqtt.Pubrec(5)
            assert await client.ask(mqtt.Pubrel(5)) == mqtt.Pubcomp(5)
            assert await client.ask(mqtt.Pubrel(5)) == mqtt.Pubcomp(5)
            assert session.sealed == [b"\x01"]
            assert await client.ask(frame) == mqtt.Pubrec(5)
            assert session.sealed == [b"\x01", b"\x01"]

    run(main())


def test_the_acknowledgement_comes_before_the_answer(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await endpoint.subscribe(client, "a", "out")
            assert await client.ask(rig.publish("a", "in", rig.HELLO, qos=1, packet_id=7)) == mqtt.Puback(7)
            assert isinstance(await client.receive(), mqtt.Publish)

    run(main())


def test_two_connections_of_one_credential_are_two_sessions(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            one, two = await endpoint.ready("a", client_id="1"), await endpoint.ready("a", client_id="2")
            first, second = endpoint.hub.sessions
            second.link.send_sealed([b"for two"])
            got = await two.receive()
            assert isinstance(got, mqtt.Publish) and got.payload == b"for two"
            assert await one.silent()
            assert not first.is_lost

    run(main())


def test_what_the_hub_ends_is_closed(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            endpoint.hub.sessions[0].link.close(refusal.KEY_MISMATCH)
            assert await client.gone()

    run(main())


def test_an_unfinished_handshake_ends_the_session_and_not_the_connection(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            endpoint.hub.sessions[0].link.close(refusal.HANDSHAKE_TIMEOUT)
            assert await client.silent()
            await client.send(rig.publish("a", "in", rig.HELLO))
            assert isinstance(await client.receive(), mqtt.Publish)
            assert len(endpoint.hub.sessions) == 2

    run(main())


def test_a_connection_that_breaks_ends_its_session(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            (session,) = endpoint.hub.sessions
            client.abort()
            await session.until(lambda: session.is_lost)

    run(main())


# -- time


def test_a_silent_client_is_dropped_after_one_and_a_half_keep_alive_periods(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(keepalive_factor=0.05)) as endpoint:
            client = await endpoint.login("a", keepalive=1)
            assert await client.gone()

    run(main())


def test_a_client_that_pings_stays(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(keepalive_factor=0.2)) as endpoint:
            client = await endpoint.login("a", keepalive=1)
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < began + 0.5:
                assert await client.silent()
            assert await client.gone()

    run(main())


def test_no_keep_alive_is_no_limit(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(connect_seconds=0.05, keepalive_factor=0)) as endpoint:
            one, two = await endpoint.login("a"), await endpoint.login("b", keepalive=1)
            late = await endpoint.dial()
            assert await late.gone()
            assert await one.silent() and await two.silent()

    run(main())


# -- cuts


@pytest.mark.parametrize(
    "fields",
    [
        {"active": False},
        {"mqtt_password_hash": mqtt_password_hash(b"new")},
        {"mqtt_password_hash": None},
        {"topic_prefix": "elsewhere"},
    ],
    ids=repr,
)
def test_a_credential_that_would_not_get_in_any_more_is_cut(rig: SimpleNamespace, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            one, two = await endpoint.ready("a", client_id="1"), await endpoint.login("a", "2")
            other = await endpoint.login("b")
            endpoint.change(1, **fields)
            assert await one.gone() and await two.gone()
            assert endpoint.hub.sessions[0].is_lost
            assert await other.silent()

    run(main())


def test_a_removed_client_is_cut_and_its_status_forgotten(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await client.send(rig.publish("a", "status", b"online"))
            assert await client.silent()
            assert endpoint.gateway.presence(1) == "online"
            endpoint.directory.remove_client("client-a")
            assert await client.gone()
            assert endpoint.gateway.presence(1) is None

    run(main())


def test_a_change_that_does_not_concern_the_login_cuts_nobody(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            endpoint.change(1, client_name="new name")
            endpoint.change_hub("h1", name="new name")
            assert await client.silent()

    run(main())


@pytest.mark.parametrize("fields", [{"active": False}, {"protocols": frozenset({"wss"})}], ids=repr)
def test_a_hub_without_mqtt_cuts_its_clients_and_no_others(rig: SimpleNamespace, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            one, two, other = [await endpoint.login(name) for name in ("a", "b", "c")]
            endpoint.change_hub("h1", **fields)
            assert await one.gone() and await two.gone()
            assert await other.silent()

    run(main())


def test_a_removed_hub_cuts_its_clients(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client, other = await endpoint.login("a"), await endpoint.login("c")
            endpoint.directory.remove_hub("h1")
            assert await client.gone()
            assert await other.silent()

    run(main())


def test_closing_cuts_everybody_and_lets_nobody_in(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client, idle = await endpoint.ready("a"), await endpoint.dial()
            await endpoint.login("b")
            await endpoint.gateway.close(5)
            assert await client.gone() and await idle.gone()
            assert endpoint.gateway.connections == 0
            late = await endpoint.dial()
            assert await late.ask(rig.connect("a")) == mqtt.Connack(False, 3)

    run(main())


# -- what a slow reader costs


def stop_reading(client: Any) -> None:
    client.writer.transport.pause_reading()


def test_a_slow_reader_is_dropped_and_costs_nobody_else(rig: SimpleNamespace) -> None:
    async def main() -> None:
        limits = Limits(out_bytes=200_000, close_seconds=0.05)
        async with rig.Endpoint(limits=limits) as endpoint:
            slow, quick = await endpoint.ready("a"), await endpoint.ready("b")
            session, other = endpoint.hub.sessions
            stop_reading(slow)
            for _ in range(2_000):
                session.link.send_sealed([bytes(60_000)])
                await asyncio.sleep(0)
                if session.is_lost:
                    break
            assert session.is_lost
            other.link.send_sealed([b"to the other"])
            got = await quick.receive()
            assert isinstance(got, mqtt.Publish) and got.payload == b"to the other"

    run(main())


def test_one_long_answer_is_delivered_whole(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            (session,) = endpoint.hub.sessions
            frames = [bytes((number,)) + bytes(65_016) for number in range(100)]
            session.link.send_sealed(frames)
            for frame in frames:
                got = await client.receive()
                assert isinstance(got, mqtt.Publish) and got.payload == frame

    run(main())


def test_a_client_that_acknowledges_nothing_fills_its_window_and_is_dropped(rig: SimpleNamespace) -> None:
    async def main() -> None:
        limits, bounds = Limits(out_frames=10), Bounds(in_flight=5)
        async with rig.Endpoint(limits=limits, bounds=bounds) as endpoint:
            client = await endpoint.ready("a")
            (session,) = endpoint.hub.sessions
            for number in range(16):
                session.link.send_sealed([bytes((number,))])
            assert not session.is_lost
            got = [await client.receive() for _ in range(5)]
            assert [packet.payload[0] for packet in got if isinstance(packet, mqtt.Publish)] == [0, 1, 2, 3, 4]
            assert await client.silent()
            session.link.send_sealed([b"one too many"])
            assert session.is_lost

    run(main())


def test_what_is_unread_counts_against_the_process(rig: SimpleNamespace) -> None:
    async def main() -> None:
        limits = Limits(process_bytes=100_000)
        async with rig.Endpoint(limits=limits, bounds=Bounds(in_flight=5)) as endpoint:
            await endpoint.ready("a")
            (session,) = endpoint.hub.sessions
            session.link.send_sealed([bytes(60_000)] * 5)
            assert session.is_lost

    run(main())


def test_half_a_packet_counts_against_the_process(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(process_bytes=100_000)) as endpoint:
            client, other = await endpoint.login("a"), await endpoint.login("b")
            whole = encode(rig.publish("a", "in", bytes(90_000)))
            await client.write(whole[:-1])
            await client.write(whole[-1:] + encode(mqtt.Pingreq()))
            assert await client.receive() == mqtt.Pingresp()
            assert endpoint.hub.budget.used == 0
            await client.write(encode(rig.publish("a", "in", bytes(120_000)))[:-1])
            assert await client.gone()
            assert await other.silent()

    run(main())


def test_who_did_not_log_in_shares_the_bytes_of_one_client(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(client_bytes=20_000)) as endpoint:
            half = encode(rig.connect("a", password=bytes(8_000)))[:-1]
            strangers = [await endpoint.dial() for _ in range(3)]
            for stranger in strangers:
                await stranger.write(half)
            ends = [asyncio.create_task(stranger.gone()) for stranger in strangers]
            async with asyncio.timeout(5):
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1 and endpoint.hub.budget.used <= 20_000
            await endpoint.login("a")
            for end in ends:
                end.cancel()

    run(main())


def test_a_few_bytes_of_a_packet_are_not_counted(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(limits=Limits(process_bytes=0)) as endpoint:
            client = await endpoint.login("a")
            await client.write(encode(mqtt.Pingreq()) + encode(rig.publish("a", "in", bytes(5_000)))[:4_000])
            assert await client.receive() == mqtt.Pingresp()
            await client.write(encode(rig.publish("a", "in", bytes(5_000)))[4_000:])
            assert await client.silent()

    run(main())


def test_a_flood_of_pings_without_reading_is_not_read_any_more_and_dropped(rig: SimpleNamespace) -> None:
    async def main() -> None:
        limits = Limits(close_seconds=0.05)
        async with rig.Endpoint(limits=limits, bounds=Bounds(keepalive_factor=0.3, unread_bytes=1_000)) as endpoint:
            client = await endpoint.login("a", keepalive=1)
            stop_reading(client)
            with pytest.raises(ConnectionError):
                while True:
                    await client.write(b"\xc0\x00" * 30_000)

    run(main())


def test_a_client_that_reads_late_gets_everything(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(unread_bytes=1_000)) as endpoint:
            client = await endpoint.login("a")
            stop_reading(client)
            flood = asyncio.ensure_future(client.write(b"\xc0\x00" * 100_000))
            (connection,) = endpoint.gateway._open
            while not connection._intake.held:
                await asyncio.sleep(0)
            client.writer.transport.resume_reading()
            for _ in range(100):
                assert len([await client.receive() for _ in range(1_000)]) == 1_000
            await flood

    run(main())


def test_the_socket_does_not_wait_for_more(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            await endpoint.login("a")
            (connection,) = endpoint.gateway._open
            carrier = connection._transport.get_extra_info("socket")
            assert carrier.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


def test_all_of_one_loop_turn_leaves_in_one_write(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a")
            assert await client.silent()
            (connection,) = endpoint.gateway._open
            writes: list[bytes] = []

            class Recording:
                def __init__(self, transport: Any) -> None:
                    self._transport = transport

                def __getattr__(self, name: str) -> Any:
                    return getattr(self._transport, name)

                def write(self, data: bytes) -> None:
                    writes.append(data)
                    self._transport.write(data)

            connection._transport = Recording(connection._transport)
            await client.send(*(rig.publish("a", "in", b"\x01", qos=1, packet_id=n) for n in range(1, 9)))
            for number in range(1, 9):
                assert await client.receive() == mqtt.Puback(number)
            assert len(writes) == 1

    run(main())


def test_one_refusal_is_one_warning_with_the_address_and_its_repetitions_are_none(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.change_hub("h2", active=False)
            for name, fields in (("a", {"password": b"wrong"}), ("c", {})):
                for _ in range(3):
                    client = await endpoint.dial()
                    assert await client.ask(rig.connect(name, **fields)) == REFUSED

    with structlog.testing.capture_logs() as logs:
        run(main())
    warned = [each for each in logs if each["event"] == "refused" and each["log_level"] == "warning"]
    assert [each["code"] for each in warned] == ["bad_login", "protocol_off"]
    assert {each["remote"] for each in warned} == {"127.0.0.1"}


def test_a_client_that_asks_for_what_it_may_not_have_is_one_warning_of_a_kind(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            for number in range(1, 50):
                assert await client.ask(mqtt.Subscribe(number, ((b"#", 0),))) == mqtt.Suback(number, (0x80,))
            for _ in range(3):
                denied = await endpoint.login("b")
                await denied.send(rig.publish("a", "in", b"x"))
                assert await denied.gone()
            for _ in range(3):
                (await endpoint.dial()).abort()

    with structlog.testing.capture_logs() as logs:
        run(main())
    warned = [each for each in logs if each["log_level"] == "warning"]
    assert [(each["event"], each["code"]) for each in warned] == [
        ("denied", "denied_subscribe"),
        ("denied", "denied_publish"),
        ("denied_again", "denied_subscribe"),
        ("denied_again", "denied_publish"),
    ]
    over = [each for each in logs if each["event"] == "mqtt_over"]
    assert all(("client_id" in each) == (each["log_level"] == "info") for each in over)


def test_a_hub_that_stops_begins_no_session_and_says_so_by_closing(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.login("a")
            await endpoint.subscribe(client, "a", "out")
            endpoint.hub.refusal = refusal.RESTARTING
            await client.send(rig.publish("a", "in", rig.HELLO))
            assert await client.gone()

    run(main())


def test_no_secret_is_logged(rig: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            client = await endpoint.ready("a", client_id="device")
            await client.send(rig.publish("a", "in", b"the-payload"))
            assert await client.silent()
            refused = await endpoint.dial()
            await refused.ask(rig.connect("b", password=b"wrong-password"))
            denied = await endpoint.login("b")
            await denied.send(rig.publish("a", "in", b"the-payload"))
            assert await denied.gone()

    run(main())
    out = "".join(capsys.readouterr())
    assert "denied_publish" in out
    for secret in ("key-a", "key-b", "broker-password", "wrong-password", "the-payload"):
        assert secret not in out


# -- what a fast writer costs


def test_a_flood_costs_its_neighbour_one_slice_a_turn_however_many_connections_it_has(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            flooders = [await endpoint.ready("a") for _ in range(4)]
            neighbour = await endpoint.login("b")
            sessions = endpoint.hub.sessions
            for client in flooders:
                await client.send(rig.publish("a", "in", rig.SHAKE))
            flood = encode(rig.publish("a", "in", b"sealed"))
            pumps = [asyncio.ensure_future(client.write(flood * 20_000)) for client in flooders]
            while not all(connection._intake.pending for connection in endpoint.gateway._roster.of_credential(1)):
                await asyncio.sleep(0)
            for _ in range(20):
                before, turns = sum(len(each.sealed) for each in sessions), 0
                asked = asyncio.ensure_future(neighbour.silent())
                while not asked.done():
                    await asyncio.sleep(0)
                    turns += 1
                assert sum(len(each.sealed) for each in sessions) - before <= 64 * (turns + 1)
            assert sum(len(each.sealed) for each in sessions) > 64
            for pump in pumps:
                pump.cancel()

    run(main())


def test_who_sends_too_fast_is_read_later_and_loses_nothing(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.gateway.lanes = Lanes(rate=1_000.0, burst=100)
            client = await endpoint.ready("a")
            await client.send(rig.publish("a", "in", rig.SHAKE))
            start = asyncio.get_running_loop().time()
            frames = [b"%d" % number for number in range(400)]
            await client.send(*[rig.publish("a", "in", frame) for frame in frames])
            assert await client.silent()
            assert endpoint.hub.sessions[0].sealed == frames
            assert asyncio.get_running_loop().time() - start > 0.2

    run(main())


def test_what_came_before_the_end_of_a_connection_is_still_done(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            watcher = await endpoint.login("a")
            client = await endpoint.ready("a", will=mqtt.Will(rig.topic("a", "status"), b"offline", 0, False))
            (session,) = endpoint.hub.sessions
            frames = [b"%d" % number for number in range(3_000)]
            await client.send(
                rig.publish("a", "status", b"online"),
                rig.publish("a", "in", rig.SHAKE),
                *[rig.publish("a", "in", frame) for frame in frames],
                mqtt.Disconnect(),
            )
            await client.close()
            await session.until(lambda: session.is_lost)
            assert session.sealed == frames
            assert await watcher.silent()
            assert endpoint.gateway.connections == 1

    run(main())


def test_a_connection_that_is_lost_with_much_to_do_is_done_with_it_and_forgotten(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.gateway.lanes = Lanes(rate=100.0, burst=10)
            client = await endpoint.ready("a")
            (connection,) = endpoint.gateway._open
            await client.write(encode(rig.publish("a", "in", b"{}")) * 100)
            while not connection._intake.pending:
                await asyncio.sleep(0)
            connection.connection_lost(None)
            assert endpoint.gateway.connections == 1
            endpoint.change(1, active=False)
            assert endpoint.gateway.connections == 0
            connection.abort()

    run(main())


# -- what answers that nobody takes cost


def test_small_answers_that_nobody_reads_count_with_what_they_cost(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(unread_bytes=100_000)) as endpoint:
            client = await endpoint.ready("a")
            (connection,) = endpoint.gateway._open
            stop_reading(client)
            flood = encode(rig.publish("a", "in", b"{}", qos=1, packet_id=7))
            pump = asyncio.ensure_future(client.write(flood * 50_000))
            while not connection._intake.held:
                await asyncio.sleep(0)
            assert len(connection._out) < 2_000
            assert endpoint.hub.budget.held("client-a") >= len(connection._out) * 68
            pump.cancel()

    run(main())


@pytest.mark.parametrize("keepalive", [0, 600])
def test_a_client_that_takes_nothing_at_all_is_dropped(rig: SimpleNamespace, keepalive: int) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(stall_seconds=0.05)) as endpoint:
            client, other = await endpoint.ready("a", keepalive=keepalive), await endpoint.login("b")
            (session,) = endpoint.hub.sessions
            stop_reading(client)
            session.link.send_sealed([bytes(60_000)] * 60)
            await asyncio.wait_for(session.until(lambda: session.is_lost), 10)
            assert await other.silent()

    run(main())


def test_a_client_that_reads_slowly_stays(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint(bounds=Bounds(stall_seconds=0.2)) as endpoint:
            client = await endpoint.ready("a")
            (session,) = endpoint.hub.sessions
            session.link.send_sealed([bytes(60_000)] * 30)
            for _ in range(30):
                got = await client.receive()
                assert isinstance(got, mqtt.Publish) and len(got.payload) == 60_000
                await asyncio.sleep(0.02)
            assert await client.silent()

    run(main())


def test_a_hub_at_another_broker_is_not_served_here(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            endpoint.change_hub("h2", mqtt_via="link")
            client = await endpoint.dial()
            assert await client.ask(rig.connect("c")) == REFUSED
            newer = await endpoint.dial(V5)
            answer = await newer.ask(rig.connect("c", level=5))
            assert isinstance(answer, mqtt.Connack) and answer.code == 0x87
            assert "another broker" in (answer.properties.reason_string or "")
            await endpoint.login("a")  # of a hub that is here

    run(main())


def test_a_hub_that_moves_to_another_broker_leaves_nobody_behind(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.Endpoint() as endpoint:
            moved, stays = await endpoint.login("c"), await endpoint.login("a")
            endpoint.change_hub("h2", mqtt_via="link")
            assert await moved.gone()
            assert await stays.silent()
            endpoint.change_hub("h2", mqtt_via="embedded")
            await endpoint.login("c")

    run(main())
