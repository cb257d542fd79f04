# SPDX-License-Identifier: Apache-2.0
"""MQTT over WebSocket: over real sockets with TLS, with a WebSocket client that is not ours, and in memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket

import httpx2
import pytest
import structlog
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_mqtt import is_sealed
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, NegotiationError
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import encode
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.websocket import OFFER_MQTT, MqttWebSocket
from thalovant_server.hub.limits import Limits
from thalovant_server.testing.directory import mqtt_password_hash

PASSWORD = b"broker-password"
URI = parse_uri("wss://localhost/mqtt")
OFFLINE = mqtt.Will(b"hubs/h1/clients/client-1/status", b"offline", 1, True)


def topic(segment, number=1):
    return f"hubs/h1/clients/client-{number}/{segment}".encode()


def login(number=1, client_id="", **fields):
    return mqtt.Connect(client_id, **{"username": f"key-{number}", "password": PASSWORD, **fields})


class Browser:
    """A device on MQTT over WebSocket; every packet in a frame of its own."""

    def __init__(self, port, number=1, **options):
        self.port, self.number = port, number
        self.options = {"subprotocols": ["mqtt"], **options}
        self.packets, self.parser = [], PacketReader(300_000)
        if port.directory.credential(f"key-{number}") is None:
            port.credential(number, mqtt_password_hash=mqtt_password_hash(PASSWORD))

    async def __aenter__(self):
        url = f"wss://localhost:{self.port.api.port}/mqtt"
        self.socket = await connect(url, ssl=self.port.client_tls, compression=None, proxy=None, **self.options)
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def send(self, *packets):
        for packet in packets:
            await self.socket.send(encode(packet))

    async def receive(self):
        while not self.packets:
            data = await asyncio.wait_for(self.socket.recv(), 10)
            assert isinstance(data, bytes)
            self.packets += self.parser.feed(data)
        return self.packets.pop(0)

    async def ask(self, *packets):
        await self.send(*packets)
        return await self.receive()

    async def log_in(self, **fields):
        assert await self.ask(login(self.number, **fields)) == mqtt.Connack(False, 0)
        return self

    async def hear(self, segment):
        assert await self.ask(mqtt.Subscribe(1, ((topic(segment, self.number), 1),))) == mqtt.Suback(1, (1,))
        return self

    async def silent(self):
        return await self.ask(mqtt.Pingreq()) == mqtt.Pingresp()

    async def ends(self):
        """Code and reason of the close frame; what was still said before it is in `packets`."""
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                self.packets += self.parser.feed(await asyncio.wait_for(self.socket.recv(), 10))
        return caught.value.rcvd and (caught.value.rcvd.code, caught.value.rcvd.reason)


async def served(port, number=1):
    """The server's side of the connection that a client is logged in on."""
    [connection] = port.mqtt._roster.of_credential(number)
    return connection, connection._socket


# -- the road ---------------------------------------------------------------------------------------------------


def test_an_ask_and_its_answer(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await (await browser.log_in()).hear("s2c")
            device = port.device(1)
            await browser.send(mqtt.Publish(topic("c2s"), b'{"msg_type": "hello", "payload": {"pubkey": ""}}'))
            asked = False
            while device.types[-1:] != ["ovos.utterance.handled"]:
                packet = await browser.receive()
                assert packet.topic == topic("s2c")
                await browser.send(mqtt.Puback(packet.packet_id))
                device.take(is_sealed(packet.payload), packet.payload)
                if device.ready and not asked:
                    asked = True
                    device.ask("hello")
                out, device.out = device.out, []
                await browser.send(*[mqtt.Publish(topic("c2s"), data) for _, data in out])
            assert device.said == ["hello"]

    run_port(main)


def test_a_page_of_any_origin_may_come(run_port):
    async def main(port):
        async with Browser(port, origin="https://somewhere.example") as browser:
            await browser.log_in()
            assert browser.socket.subprotocol == "mqtt"

    run_port(main)


def test_mqtt_is_chosen_among_several_subprotocols(run_port):
    async def main(port):
        async with Browser(port, subprotocols=["mqttv3.1", "other", "mqtt"]) as browser:
            await browser.log_in()
            assert browser.socket.subprotocol == "mqtt"

    run_port(main)


@pytest.mark.parametrize("offered", [None, ["mqttv3.1"], ["MQTT"], ["wamp", "stomp"]])
def test_a_client_that_does_not_offer_mqtt_is_told_to(run_port, offered):
    async def main(port):
        with pytest.raises(InvalidStatus) as caught:
            async with Browser(port, subprotocols=offered):
                pass
        response = caught.value.response
        assert response.status_code == 400
        assert response.headers["content-type"] == "application/problem+json"
        problem = json.loads(response.body)
        assert (problem["code"], problem["detail"]) == ("subprotocol_missing", OFFER_MQTT)

    run_port(main)


def test_a_handshake_that_is_none_is_refused(run_port):
    async def main(port):
        reader, writer = await port.raw()
        head = b"GET /mqtt HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        writer.write(head)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400")
        writer.close()

    run_port(main, limits=Limits(linger_seconds=0.01))


def test_a_plain_request_is_told_what_is_here(run_port):
    async def main(port):
        async with httpx2.AsyncClient(verify=port.client_tls, trust_env=False) as http:
            answer = await http.get(f"https://localhost:{port.api.port}/mqtt")
            assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
            assert answer.headers["upgrade"] == "websocket"

    run_port(main)


def test_elsewhere_there_is_no_mqtt(run_port):
    async def main(port):
        for path in ("/mqtt/x", "/v1/mqtt", "/mqttx"):
            with pytest.raises(InvalidHandshake) as caught:
                await connect(f"wss://localhost:{port.api.port}{path}", ssl=port.client_tls, subprotocols=["mqtt"])
            assert isinstance(caught.value, InvalidStatus | NegotiationError)

    run_port(main)


def test_a_query_has_no_effect(run_port):
    async def main(port):
        port.credential(1, mqtt_password_hash=mqtt_password_hash(PASSWORD))
        url = f"wss://localhost:{port.api.port}/mqtt?authorization=x"
        async with connect(url, ssl=port.client_tls, subprotocols=["mqtt"], proxy=None) as client:
            await client.send(encode(login()))
            assert await client.recv() == encode(mqtt.Connack(False, 0))

    run_port(main)


# -- frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["text", ["be", "gun"], ""])
def test_a_text_frame_ends_the_connection_with_1003(run_port, message):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in(will=OFFLINE)
            await browser.socket.send(message)
            code, reason = await browser.ends()
            assert code == 1003 and "binary" in reason
        assert port.mqtt.connections == 0

    run_port(main)


@pytest.mark.parametrize(
    ("what", "code", "close"), [("text", 0x82, 1003), (b"\xf0\x00", 0x82, 1008), ("cut", 0x87, 1008)]
)
def test_mqtt_5_says_why_in_a_packet_too(run_port, what, code, close):
    async def main(port):
        async with Browser(port) as browser:
            browser.parser = PacketReader(300_000, V5)
            await browser.socket.send(V5.encode(login(level=5)))
            assert (await browser.receive()).code == 0
            if what == "cut":
                port.directory.remove_client("client-1")
            else:
                await browser.socket.send(what)
            assert (await browser.ends())[0] == close
            assert [packet.code for packet in browser.packets] == [code]

    run_port(main)


def test_what_came_before_a_text_frame_is_answered(run_port):
    async def main(port):
        async with Browser(port) as browser:
            browser.socket.protocol.send_binary(encode(login()))
            browser.socket.protocol.send_text(b"text")
            browser.socket.transport.write(b"".join(browser.socket.protocol.data_to_send()))
            assert (await browser.ends())[0] == 1003
            assert browser.packets == [mqtt.Connack(False, 0)]

    run_port(main)


def test_a_fragmented_message_is_passed_on_as_it_comes(run_port):
    async def main(port):
        async with Browser(port) as browser:
            rest = asyncio.Event()
            data = encode(login()) + encode(mqtt.Pingreq())

            async def pieces():
                for at in range(len(data) - 1):
                    yield data[at : at + 1]
                await rest.wait()
                yield data[-1:]

            sending = asyncio.create_task(browser.socket.send(pieces()))
            assert await browser.receive() == mqtt.Connack(False, 0)
            rest.set()
            await sending
            assert await browser.receive() == mqtt.Pingresp()

    run_port(main)


def test_a_message_may_be_longer_than_any_frame(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            large = encode(mqtt.Publish(topic("c2s"), b"x" * 200_000))
            await browser.socket.send([large] * 10)
            assert await browser.silent()

    run_port(main)


def test_a_frame_may_hold_as_much_as_the_largest_packet_and_not_without_end(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            await browser.send(mqtt.Publish(topic("c2s"), b"x" * 260_000))
            assert await browser.silent()
            await browser.socket.send(encode(mqtt.Pingreq()) * 600_000)
            assert (await browser.ends())[0] == 1009
        async with Browser(port) as browser:
            await browser.log_in()
            await browser.send(mqtt.Publish(topic("c2s"), b"x" * 270_000))  # more than a packet may have
            code, reason = await browser.ends()
            assert code == 1008 and "more than the 262144" in reason

    run_port(main)


def test_a_stranger_may_not_begin_a_long_frame(run_port):
    async def main(port):
        async with Browser(port) as browser:
            head = bytes([0x82, 0xFF]) + (200_000).to_bytes(8) + bytes(4)
            browser.socket.transport.write(head + bytes(20_000))
            assert (await browser.ends())[0] == 1009

    run_port(main)


def test_half_a_frame_counts_against_its_client(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            before = port.hub.budget.used
            head = bytes([0x82, 0xFF]) + (200_000).to_bytes(8) + bytes(4)
            browser.socket.transport.write(head + bytes(50_000))
            _, served_by = await served(port)
            while len(served_by._ws.reader.buffer) < 50_000:
                await asyncio.sleep(0)
            assert port.hub.budget.used - before >= 50_000
            browser.socket.transport.write(bytes(50_000))
            assert (await browser.ends())[0] == 1013

    run_port(main, limits=Limits(process_bytes=90_000))


def test_strangers_who_hold_much_do_not_count_against_a_client(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            _, its_socket = await served(port)
            assert port.mqtt.strangers.take(90_000)
            its_socket.data_received(bytes([0x82, 0xFF]) + (60_000).to_bytes(8) + bytes(4) + bytes(50_000))
            while its_socket._intake.pending:
                await asyncio.sleep(0)
            assert not its_socket.closing
            port.mqtt.strangers.give(90_000)
            browser.socket.transport.abort()  # its close frame would be the rest of that frame

    run_port(main, limits=Limits(client_bytes=90_000))


def test_what_follows_a_frame_that_is_too_long_is_not_kept(rig):
    async def main():
        async with rig.Endpoint() as endpoint:
            its_socket, _ = opened(endpoint)
            its_socket.data_received(bytes([0x82, 0xFF]) + (900_000).to_bytes(8) + bytes(4))
            for _ in range(8):
                its_socket.data_received(bytes(100_000))
                while its_socket._intake.pending:
                    await asyncio.sleep(0)
            assert its_socket.closing and len(its_socket._ws.reader.buffer) == 0
            its_socket.connection_lost(None)

    uvloop.run(main())


@pytest.mark.parametrize("rubbish", [b"\xff" * 8, bytes((0x82, 0x00)), bytes((0xC2, 0x80)) + bytes(4)])
def test_a_breach_of_the_websocket_protocol_ends_the_connection(run_port, rubbish):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            browser.socket.transport.write(rubbish)
            assert (await browser.ends())[0] == 1002

    run_port(main)


def test_pings_are_answered(run_port):
    async def main(port):
        async with Browser(port) as browser:
            assert await asyncio.wait_for(await browser.socket.ping(b"there?"), 10) >= 0

    run_port(main)


# -- how a connection ends --------------------------------------------------------------------------------------


def test_a_login_that_is_refused_is_said_in_both_protocols(run_port):
    async def main(port):
        async with Browser(port) as browser:
            assert await browser.ask(login(password=b"wrong")) == mqtt.Connack(False, 5)
            assert (await browser.ends())[0] == 1008

    run_port(main)


def test_a_denied_publish_has_its_reason_in_the_close_frame(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            await browser.send(mqtt.Publish(b"somewhere/else", b"x"))
            code, reason = await browser.ends()
            assert code == 1008 and "own c2s, in or status topic" in reason

    run_port(main)


def test_a_disconnect_is_1000_and_publishes_no_will(run_port):
    async def main(port):
        async with Browser(port, 1) as watcher, Browser(port, 1) as browser:
            await (await watcher.log_in(client_id="watcher")).hear("status")
            await browser.log_in(will=OFFLINE)
            await browser.send(mqtt.Publish(topic("status"), b"online"))
            assert (await watcher.receive()).payload == b"online"
            await browser.send(mqtt.Publish(topic("status"), b"offline"), mqtt.Disconnect())
            assert (await browser.ends())[0] == 1000
            assert (await watcher.receive()).payload == b"offline"
            assert await watcher.silent()

    run_port(main)


@pytest.mark.parametrize("polite", [True, False])
def test_a_will_is_published_when_the_socket_ends_without_disconnect(run_port, polite):
    async def main(port):
        async with Browser(port, 1) as watcher, Browser(port, 1) as browser:
            await (await watcher.log_in(client_id="watcher")).hear("status")
            await browser.log_in(will=OFFLINE)
            await browser.send(mqtt.Publish(topic("status"), b"online"))
            assert (await watcher.receive()).payload == b"online"
            if polite:
                await browser.socket.close()
            else:
                browser.socket.transport.abort()
            assert (await watcher.receive()).payload == b"offline"

    run_port(main)


def test_a_disconnect_just_before_the_close_frame_is_heard(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in(will=OFFLINE)
            connection, _ = await served(port)
            browser.socket.protocol.send_binary(encode(mqtt.Disconnect()))
            browser.socket.protocol.send_close(1000)
            browser.socket.transport.write(b"".join(browser.socket.protocol.data_to_send()))
            await asyncio.wait_for(connection.gone, 10)

    with structlog.testing.capture_logs() as logs:
        run_port(main)
    assert [each["code"] for each in logs if each["event"] == "mqtt_over"] == ["disconnect"]


def test_what_came_before_a_lost_socket_is_still_done(run_port):
    async def main(port):
        async with Browser(port, 1) as watcher, Browser(port, 1) as browser:
            await (await watcher.log_in(client_id="watcher")).hear("status")
            await browser.log_in(client_id="doomed")
            connection = port.mqtt._roster.find(1, "doomed")
            its_socket = connection._socket
            its_socket._intake.lane.spend(40_000)  # was too fast
            its_socket.data_received(masked(encode(mqtt.Publish(topic("status"), b"online"))))
            assert its_socket._intake.pending
            its_socket.pause_writing()
            browser.socket.transport.abort()
            its_socket.connection_lost(None)
            assert (await watcher.receive()).payload == b"online"  # it was online for a moment
            await asyncio.wait_for(connection.gone, 10)

    run_port(main)


def test_a_client_that_vanishes_with_much_to_take_is_forgotten(run_port):
    async def main(port):
        port.mqtt.bounds = Bounds(unread_bytes=10_000)
        async with Browser(port) as browser:
            await browser.log_in()
            connection, its_socket = await served(port)
            its_socket._intake.lane.spend(40_000)  # was too fast
            its_socket.data_received(masked(encode(mqtt.Pingreq()) * 10) * 200)  # more answers than are kept for it
            its_socket.pause_writing()
            assert its_socket._intake.pending
            browser.socket.transport.abort()
            await asyncio.wait_for(connection.gone, 10)

    run_port(main)


def test_a_client_that_is_held_up_may_still_answer_the_close_frame(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            connection, its_socket = await served(port)
            its_socket.hold()
            connection.end("silent", "x")
            assert (await browser.ends())[0] == 1008
            await asyncio.wait_for(connection.gone, 10)

    run_port(main, limits=Limits(close_seconds=60))


def test_a_revoked_client_is_cut(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            port.directory.remove_client("client-1")
            assert await browser.ends() == (1008, "The credential was revoked or changed.")

    run_port(main)


def test_the_same_client_id_on_the_mqtt_port_and_here_is_a_takeover(run_port):
    async def main(port):
        async with Browser(port) as old, Browser(port) as new:
            await old.log_in(client_id="same")
            await new.log_in(client_id="same")
            assert (await old.ends())[1] == "Another connection has the same client id."
            assert await new.silent()

    run_port(main)


def test_going_down_is_1012_and_waits_for_nobody(run_port):
    async def main(port):
        async with Browser(port, 1) as browser, Browser(port, 2) as deaf, Browser(port, 3) as stranger:
            await browser.log_in()
            await deaf.log_in()
            deaf.socket.transport.pause_reading()  # will not answer the close frame
            closing = asyncio.create_task(port.mqtt.close(0.05))
            assert await browser.ends() == (1012, "The server is going down.")
            assert (await stranger.ends())[0] == 1012
            await asyncio.wait_for(closing, 5)
            assert port.mqtt.connections == 0
            deaf.socket.transport.abort()

    run_port(main)


def test_a_client_that_does_not_answer_the_close_frame_is_dropped(run_port):
    async def main(port):
        async with Browser(port) as deaf:
            await deaf.log_in()
            connection, _ = await served(port)
            deaf.socket.transport.pause_reading()
            connection.end("silent", "x")
            await asyncio.wait_for(connection.gone, 10)
            deaf.socket.transport.abort()

    run_port(main, limits=Limits(close_seconds=0.05))


def test_no_connect_in_time_ends_it(run_port):
    async def main(port):
        port.mqtt.bounds = Bounds(connect_seconds=0.05)
        async with Browser(port) as browser:
            assert await browser.ends() == (1008, "No CONNECT came in time.")

    run_port(main)


def test_pings_of_the_websocket_are_no_sign_of_life_in_mqtt(run_port):
    async def main(port):
        port.mqtt.bounds = Bounds(keepalive_factor=0.1)
        async with Browser(port) as browser:
            await browser.log_in(keepalive=2)

            async def ping():
                while True:
                    await asyncio.sleep(0.02)
                    await browser.socket.ping()

            pinging = asyncio.create_task(ping())
            assert (await browser.ends())[0] == 1008
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)

    run_port(main)


def test_one_connection_too_many_is_dropped(run_port):
    async def main(port):
        port.mqtt.limits = Limits(connections=1)
        async with Browser(port) as browser:
            await browser.log_in()
            async with Browser(port) as other:
                assert await other.ends() is None
            assert await browser.silent()

    run_port(main)


# -- what a connection costs ------------------------------------------------------------------------------------


def test_nodelay_is_set(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            connection, _ = await served(port)
            raw = connection._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connection.host == "127.0.0.1"

    run_port(main)


def test_what_a_turn_says_leaves_in_one_write(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            _, its_socket = await served(port)
            tap = its_socket._transport = Tap(its_socket._transport)
            packets = encode(mqtt.Subscribe(1, ((topic("status"), 1),))) + encode(mqtt.Pingreq())
            its_socket.data_received(masked(b"there?", Opcode.PING) + masked(packets))
            assert [await browser.receive() for _ in range(2)] == [mqtt.Suback(1, (1,)), mqtt.Pingresp()]
            assert len(tap.written) == 1

    run_port(main)


def test_a_flood_of_frames_is_worked_through_in_slices_and_costs_its_neighbour_little(run_port):
    async def main(port):
        async with Browser(port, 1) as flooder, Browser(port, 2) as neighbour:
            await flooder.log_in()
            await neighbour.log_in()
            _, its_socket = await served(port, 1)
            events, seen = its_socket._ws.events_received, []
            its_socket._ws.events_received = lambda: seen.append(events()) or seen[-1]
            its_socket.data_received(masked(b"", Opcode.PONG) * 40_000)
            assert its_socket._intake.pending and not its_socket._transport.is_reading()
            assert await neighbour.silent()
            assert its_socket._intake.pending and its_socket._intake.lane is port.mqtt.lanes.of(1)
            while its_socket._intake.pending:
                await asyncio.sleep(0.001)
            assert its_socket._transport.is_reading()
            assert sum(map(len, seen)) == 40_000 and max(map(len, seen)) < 200
            assert await flooder.silent()

    run_port(main)


def test_a_flood_of_packets_in_one_frame_is_read_no_faster_than_its_lane_allows(run_port):
    async def main(port):
        async with Browser(port, 1) as flooder, Browser(port, 2) as neighbour:
            await flooder.log_in()
            await neighbour.log_in()
            connection, its_socket = await served(port, 1)
            its_socket.data_received(masked(encode(mqtt.Puback(7)) * 40_000))
            assert its_socket._intake.held or its_socket._intake.pending
            assert not its_socket._reading
            assert await neighbour.silent()
            assert connection._intake.pending
            assert await flooder.silent()
            assert its_socket._reading

    run_port(main)


def test_a_client_that_reads_nothing_has_one_pong_waiting_and_gets_it(run_port):
    async def main(port):
        async with Browser(port) as browser:
            await browser.log_in()
            _, its_socket = await served(port)
            its_socket.pause_writing()
            for number in range(100):
                its_socket.data_received(masked(bytes([number]) * 100, Opcode.PING))
                await asyncio.sleep(0)
            assert its_socket.unsent < 200
            heard = asyncio.get_running_loop().create_future()
            original = browser.socket.protocol.recv_frame

            def seen(frame):
                if frame.opcode is Opcode.PONG:
                    heard.set_result(bytes(frame.data))
                original(frame)

            browser.socket.protocol.recv_frame = seen
            its_socket.resume_writing()
            assert await asyncio.wait_for(heard, 10) == bytes([99]) * 100

    run_port(main)


def test_a_client_that_does_not_read_is_not_read_and_then_dropped(run_port):
    async def main(port):
        async with Browser(port, 1) as slow, Browser(port, 2) as other:
            await (await slow.log_in()).hear("out")
            await other.log_in()
            connection, its_socket = await served(port, 1)
            slow.socket.transport.pause_reading()
            connection.deliver("out", [b"x" * 60_000] * 300)  # more than the kernel takes
            await asyncio.sleep(0)
            its_socket.data_received(masked(encode(mqtt.Pingreq())))
            assert its_socket._intake.held and not its_socket._reading
            assert its_socket.unsent < 1_500_000
            assert port.hub.budget.used > 100_000
            connection.deliver("out", [b"x"])
            await asyncio.wait_for(connection.gone, 10)
            assert await other.silent()
            assert port.hub.budget.used < 10_000
            slow.socket.transport.abort()

    run_port(main, limits=Limits(out_bytes=2_000_000))


def test_a_client_that_reads_again_gets_all_of_it(run_port):
    async def main(port):
        async with Browser(port, max_queue=1000) as slow:
            await (await slow.log_in()).hear("out")
            connection, _ = await served(port)
            slow.socket.transport.pause_reading()
            connection.deliver("out", [b"%05d" % number + b"x" * 60_000 for number in range(300)])
            await asyncio.sleep(0)
            assert connection._paused
            slow.socket.transport.resume_reading()
            got = [await slow.receive() for _ in range(300)]
            assert [int(packet.payload[:5]) for packet in got] == list(range(300))

    run_port(main)


def test_nothing_that_is_logged_holds_a_secret(run_port, capsys, caplog):
    async def main(port):
        async with Browser(port, 1) as browser:
            await browser.log_in()
        async with Browser(port, 1) as browser:
            await browser.ask(login(password=PASSWORD * 2))
            await browser.ends()

    with caplog.at_level("DEBUG"):
        run_port(main)
    said = "".join(capsys.readouterr())
    said += "".join(each.getMessage() for each in caplog.records if each.name.startswith("thalovant"))
    assert "key-1" not in said and PASSWORD.decode() not in said


# -- in memory: any cut of the stream, and garbage --------------------------------------------------------------


class Memory(asyncio.Transport):
    """A transport of which one end is a list."""

    def __init__(self):
        super().__init__({"peername": ("192.0.2.1", 5000)})
        self.written, self.closed = [], False

    def write(self, data):
        assert not self.closed
        self.written.append(bytes(data))

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed

    def get_write_buffer_size(self):
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        pass

    resume_reading = pause_reading


class Tap:
    """A transport that keeps a copy of what is written."""

    def __init__(self, transport):
        self._transport, self.written = transport, []

    def write(self, data):
        self.written.append(data)
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


def masked(data, opcode=Opcode.BINARY, fin=True):
    return Frame(opcode, data, fin).serialize(mask=True)


STREAM = b"".join(
    map(
        encode,
        (
            mqtt.Connect("x", username="key-a", password=PASSWORD),
            mqtt.Subscribe(7, ((b"hubs/h1/clients/a/out", 1), (b"nobody/is/here", 0))),
            mqtt.Publish(b"hubs/h1/clients/a/status", b"online", 1, 9),
            mqtt.Publish(b"hubs/h1/clients/a/c2s", b"", 2, 10),
            mqtt.Pubrel(10),
            mqtt.Pingreq(),
            mqtt.Unsubscribe(8, (b"hubs/h1/clients/a/out",)),
        ),
    )
)


def opened(endpoint, on_end=lambda: None):
    """The server's side of a WebSocket in memory, and the client's; its transport is `client.far_end`."""
    its_socket, client = MqttWebSocket(endpoint.gateway, on_end), ClientProtocol(URI, subprotocols=["mqtt"])
    client.send_request(client.connect())
    client.far_end = Memory()
    its_socket.connection_made(client.far_end)
    its_socket.data_received(b"".join(client.data_to_send()))
    return its_socket, client


async def answers(rig, reads):
    """What the server says to these reads, upgrade included: its packets, and whether it closed."""
    async with rig.Endpoint() as endpoint:
        ended = asyncio.Event()
        its_socket, client = opened(endpoint, ended.set)
        for read in reads:
            its_socket.data_received(read)
        while its_socket._intake.pending or (its_socket._mqtt and its_socket._mqtt._intake.pending):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.receive_data(b"".join(client.far_end.written))
        frames = [event for event in client.events_received() if isinstance(event, Frame)]
        its_socket.connection_lost(None)
        await asyncio.wait_for(ended.wait(), 10)
        said = b"".join(bytes(each.data) for each in frames if each.opcode is Opcode.BINARY)
        return PacketReader(300_000).feed(said), any(each.opcode is Opcode.CLOSE for each in frames)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(st.integers(0, len(STREAM)), max_size=12),
    reads=st.lists(st.integers(0, len(STREAM) + 80), max_size=12),
    fragmented=st.booleans(),
    pings=st.booleans(),
)
def test_any_cut_into_frames_and_reads_means_the_same(rig, frames, reads, fragmented, pings):
    async def main():
        whole, closed = await answers(rig, [masked(STREAM)])
        assert len(whole) == 7 and not closed
        pieces = [STREAM[a:b] for a, b in itertools.pairwise([0, *sorted(frames), len(STREAM)])]
        wire = b""
        for number, piece in enumerate(pieces):
            opcode = Opcode.CONT if fragmented and number else Opcode.BINARY
            wire += masked(piece, opcode, not fragmented or number == len(pieces) - 1)
            wire += masked(b"?", Opcode.PING) if pings else b""
        cuts = sorted(min(at, len(wire)) for at in reads)
        again, closed = await answers(rig, [wire[a:b] for a, b in itertools.pairwise([0, *cuts, len(wire)])])
        assert again == whole and not closed

    uvloop.run(main())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=st.lists(st.binary(max_size=200), max_size=6), inside=st.booleans())
def test_garbage_raises_nothing_and_leaves_nothing(rig, reads, inside):
    async def main():
        await answers(rig, [masked(read) for read in reads] if inside else reads)

    uvloop.run(main())
