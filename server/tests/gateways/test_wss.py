# SPDX-License-Identifier: Apache-2.0
"""The WebSocket road over real sockets with TLS, with a WebSocket client that is not ours."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from pathlib import Path

import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.noise import generate_private_key
from thalovant_server.agents.python import PythonAgent
from thalovant_server.hub import refusal
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.refusal import Refused

VECTORS = Path(__file__).parents[3] / "contract" / "vectors"


class Wss:
    """A device on a WebSocket."""

    def __init__(self, port, device, *, path="/", query=None):
        self.port, self.device = port, device
        self.url = (
            f"wss://localhost:{port.api.port}{path}?{port.authorization(device.number) if query is None else query}"
        )

    async def __aenter__(self):
        self.socket = await connect(self.url, ssl=self.port.client_tls, compression=None, max_size=None, proxy=None)
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def flush(self):
        out, self.device.out = self.device.out, []
        for sealed, data in out:
            await self.socket.send(data if sealed else data.decode())

    async def step(self):
        data = await asyncio.wait_for(self.socket.recv(), 10)
        sealed = isinstance(data, bytes)
        self.device.take(sealed, data if sealed else data.encode())
        await self.flush()

    async def ready(self):
        while not self.device.ready:
            await self.step()
        return self

    async def greeted(self):
        """Ready on the hub's side, too: it has answered an ask."""
        await self.ready()
        self.device.ask("hello")
        await self.hears(2)

    async def hears(self, count):
        await self.flush()
        while len(self.device.heard) < count:
            await self.step()
        return self.device.heard

    async def ends(self):
        """Code and reason of the close frame."""
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await asyncio.wait_for(self.socket.recv(), 10)
        return caught.value.rcvd and (caught.value.rcvd.code, caught.value.rcvd.reason)


@pytest.mark.parametrize("path", ["/", "", "/hubs/h1", "/hubs/h1/"])
def test_an_ask_over_every_path_of_a_hub(run_port, path):
    async def main(port):
        async with Wss(port, port.device(), path=path) as client:
            await client.ready()
            client.device.ask("hello")
            await client.hears(2)
            assert client.device.said == ["hello"]
            assert client.device.types[-1] == "ovos.utterance.handled"

    run_port(main)


def test_a_second_connection_of_the_same_client_uses_kk(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            device = client.device
        again = port.device(key=device.key, pinned=device.session.remote_static)
        async with Wss(port, again) as client:
            await client.ready()
            assert again.session.pattern == "KKpsk0"
            again.ask("hi")
            await client.hears(2)

    run_port(main)


def test_a_chunked_ask_and_its_chunked_answer(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            client.device.ask("x" * 300_000)
            await client.hears(2)
            assert client.device.said == ["x" * 300_000]

    run_port(main)


def test_fifty_clients_ask_at_once_and_each_hears_its_own(run_port):
    async def one(port, number):
        async with Wss(port, port.device(number)) as client:
            await client.ready()
            client.device.ask(f"text {number}")
            await client.hears(2)
            return client.device.said

    async def main(port):
        said = await asyncio.gather(*[one(port, number) for number in range(1, 51)])
        assert said == [[f"text {number}"] for number in range(1, 51)]

    run_port(main)


def test_a_blocked_synchronous_agent_delays_no_other_client(run_port):
    release = threading.Event()

    def answer(text):
        if text == "slow":
            release.wait(20)
        return text

    async def main(port):
        async with Wss(port, port.device(1)) as slow, Wss(port, port.device(2)) as quick:
            await slow.ready()
            await quick.ready()
            slow.device.ask("slow")
            await slow.flush()
            quick.device.ask("quick")
            await asyncio.wait_for(quick.hears(2), 5)
            assert slow.device.heard == []
            release.set()
            await slow.hears(2)

    run_port(main, PythonAgent("mine", answer), agent="mine")


def test_recorded_refusals_of_the_authorization(run_port):
    recorded = {case["case"]: case.get("got") for case in json.loads((VECTORS / "refusals.json").read_text())["wss"]}
    queries = {
        "unknown access key": "authorization=" + base64.b64encode(b"ua:nobody").decode().replace("=", "%3D"),
        "no authorization parameter": "",
        "authorization not base64": "authorization=%25%25",
        "authorization without a colon": "authorization=" + base64.b64encode(b"nocolon").decode().replace("=", "%3D"),
        "authorization with an empty name": "authorization=" + base64.b64encode(b":key-1").decode().replace("=", "%3D"),
    }

    async def main(port):
        for case, query in queries.items():
            async with Wss(port, port.device(), query=query) as client:
                code, reason = await client.ends()
                assert ["close", {"code": code, "reason": reason}] == recorded[case], case

    run_port(main)


def test_a_credential_on_another_hubs_path_looks_unknown(run_port):
    async def main(port):
        port.credential(2, hub_id="h2")
        for number, path in ((1, "/hubs/h2"), (2, "/"), (2, "/hubs/h1"), (1, "/hubs/none"), (1, "/hubs/")):
            async with Wss(port, port.device(number), path=path) as client:
                assert await client.ends() == (1008, "invalid api key")
        async with Wss(port, port.device(2), path="/hubs/h2") as client:
            await client.ready()

    run_port(main)


def test_there_is_no_websocket_elsewhere(run_port):
    async def main(port):
        for path in ("/v1/hubs", "/connect", "/hubs/h1/connect"):
            with pytest.raises(InvalidStatus) as caught:
                async with Wss(port, port.device(), path=path):
                    pass
            assert caught.value.response.status_code == 404

    run_port(main)


def test_a_revoked_client_is_cut_with_1008_and_a_carrier_that_is_off_too(run_port):
    async def main(port):
        async with Wss(port, port.device(1)) as one, Wss(port, port.device(2)) as two:
            await one.ready()
            await two.ready()
            port.directory.remove_client("client-1")
            assert await one.ends() == (1008, "this credential was revoked")
            two.device.ask("still here")
            await two.hears(2)
            port.put_hub("h1", protocols=frozenset({"mqtt", "https"}))
            assert (await two.ends())[0] == 1008

    run_port(main)


def test_another_client_key_and_a_wrong_password_in_kk_are_1008(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            hub_key, key = client.device.session.remote_static, client.device.key
        async with Wss(port, port.device()) as client:
            await client.ready()
            await client.flush()
            assert (await client.ends())[0] == 1008
        async with Wss(port, port.device(key=key, pinned=hub_key, password="wrong")) as client:
            await client.step()
            await client.step()
            assert (await client.ends())[0] == 1008

    run_port(main)


def test_a_denial_has_the_request_id_and_a_forbidden_kind_is_4003(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            client.device.send(bus("not.allowed", {}, {"request_id": "r9"}))
            [denied] = await client.hears(1)
            assert denied.payload["context"]["request_id"] == "r9"
            client.device.send(HiveMessage("broadcast", bus("x").as_dict()))
            await client.flush()
            assert await client.ends() == (4003, "BROADCAST is not allowed for this client")

    run_port(main)


@pytest.mark.parametrize(
    "rubbish", ["", "not json", "[]", '{"msg_type": "bus", "payload": {}}', '{"msg_type": "nonsense"}', b"rubbish", b""]
)
def test_rubbish_before_the_handshake_is_a_protocol_error(run_port, rubbish):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.socket.send(rubbish)
            assert (await client.ends())[0] == 1002

    run_port(main)


def test_text_rubbish_and_repetition_inside_a_session_are_protocol_errors(run_port):
    async def main(port):
        key = generate_private_key()

        async def after(act):
            async with Wss(port, port.device(key=key)) as client:
                await client.ready()
                await act(client)
                return (await client.ends())[0]

        async def repeat(client):
            client.device.ask("hi")
            frame = client.device.out[-1][1]
            await client.hears(2)
            await client.socket.send(frame)

        assert await after(lambda client: client.socket.send('{"msg_type": "ping", "payload": {}}')) == 1002
        assert await after(lambda client: client.socket.send(b"x" * 64)) == 1002
        assert await after(repeat) == 1002

    run_port(main)


def test_fragments_are_put_together(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            client.device.ask("in pieces")
            [(_, frame)] = client.device.out
            client.device.out = []
            await client.socket.send([frame[:7], b"", frame[7:20], frame[20:]])
            await client.hears(2)
            assert client.device.said == ["in pieces"]

    run_port(main)


@pytest.mark.parametrize("pieces", [[b"x" * 300_000], [b"x" * 200_000, b"x" * 100_000]])
def test_a_frame_over_the_bound_is_1009(run_port, pieces):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            await client.socket.send(pieces)
            assert (await client.ends())[0] == 1009

    run_port(main)


def test_a_message_over_the_hubs_bound_is_1009(run_port):
    async def main(port):
        port.put_hub("h1", max_message=100_000)
        async with Wss(port, port.device()) as client:
            await client.ready()
            client.device.ask("x" * 200_000)
            await client.flush()
            assert (await client.ends())[0] == 1009

    run_port(main)


def test_a_handshake_that_is_not_finished_is_ended(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            assert await client.ends() == (1002, "the handshake took too long")

    run_port(main, limits=Limits(handshake_seconds=0.05))


def test_the_server_pings_and_drops_who_does_not_answer(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.greeted()
            client.socket.transport.pause_reading()
            port.clock.advance(30)
            assert port.hub.connections == 1
            port.clock.advance(20)
            await port.connections(0)
            port.clock.advance(5)

    run_port(main, standing=True)


def test_one_who_answers_pings_stays(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.greeted()
            pinged = asyncio.Event()
            original = client.socket.protocol.recv_frame

            def seen(frame: Frame):
                if frame.opcode is Opcode.PING:
                    pinged.set()
                original(frame)

            client.socket.protocol.recv_frame = seen
            port.clock.advance(30)
            for number in range(3):
                await asyncio.wait_for(pinged.wait(), 10)
                pinged.clear()
                client.device.ask("hi", f"again-{number}")  # after the pong, so that this too has arrived
                await client.hears(len(client.device.heard) + 2)
                port.clock.advance(20)
                assert port.hub.connections == 1
                port.clock.advance(10)
            client.socket.transport.abort()  # nobody's close frame is waited for: time stands

    run_port(main, standing=True)


@pytest.mark.parametrize(
    ("code", "why"),
    [(1000, "disconnected"), (1001, "disconnected"), (1011, "connection_lost"), (None, "connection_lost")],
    ids=["normal", "going away", "client failed", "no goodbye"],
)
def test_how_a_client_left_is_known(run_port, code, why):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            (connection,) = port.hub.connections_of("client-1")
            if code is None:
                client.socket.transport.abort()
            else:
                await client.socket.close(code)
            await port.connections(0)
            assert (connection.why, port.hub.presence.of("client-1").why) == (why, why)

    run_port(main)


def test_a_slow_reader_loses_its_connection_and_nobody_else(run_port):
    async def main(port):
        async with Wss(port, port.device(1)) as slow, Wss(port, port.device(2)) as other:
            await slow.ready()
            await other.ready()
            slow.socket.transport.pause_reading()
            client = port.hub.connections_of("client-1")[0]
            message = bus("x", {"text": "y" * 60_000})
            for _ in range(200):
                client.send([message])
                await asyncio.sleep(0)
                if client.closed:
                    break
            await port.connections(1)
            assert client.why == "slow_reader"
            other.device.ask("hi")
            await other.hears(2)
            assert port.hub.budget.used < 10_000
            slow.socket.transport.abort()

    run_port(main, limits=Limits(out_bytes=200_000))


def test_what_a_slow_reader_has_not_taken_is_ours_to_count_and_not_the_transports(run_port):
    async def main(port):
        async with Wss(port, port.device()) as slow:
            await slow.greeted()
            slow.socket.transport.pause_reading()
            protocol = next(iter(port.wss._open))
            port.hub.connections_of("client-1")[0].send([bus("x", {"text": "y" * 16_000_000})])
            await asyncio.sleep(0)  # one turn: the write is due at its end
            await asyncio.sleep(0)
            in_transport = protocol._transport.get_write_buffer_size()
            assert in_transport < 1_000_000
            assert port.hub.budget.used > 1_000_000
            slow.socket.transport.resume_reading()
            *_, message = await slow.hears(3)
            assert len(message.payload["data"]["text"]) == 16_000_000

    run_port(main)


def test_a_slow_reader_beyond_what_the_process_holds_is_dropped(run_port):
    async def main(port):
        async with Wss(port, port.device()) as slow:
            await slow.greeted()
            slow.socket.transport.pause_reading()
            port.hub.connections_of("client-1")[0].send([bus("x", {"text": "y" * 20_000_000})])
            await port.connections(0)
            slow.socket.transport.abort()

    run_port(main, limits=Limits(process_bytes=1_000_000))


def test_fragments_and_half_frames_count_against_the_process(run_port):
    async def main(port):
        async with Wss(port, port.device(1)) as client, Wss(port, port.device(2)) as other:
            await client.ready()
            await other.ready()
            client.device.ask("in pieces")
            [(_, frame)] = client.device.out
            client.device.out = []
            before = port.hub.budget.used
            counted = []

            async def pieces():
                yield frame[:7]
                await (await client.socket.ping())
                counted.append(port.hub.budget.used - before)
                yield frame[7:]

            await client.socket.send(pieces())
            await client.hears(2)
            assert counted == [0]  # a few bytes
            before = port.hub.budget.used  # the turn is remembered

            async def long():
                for _ in range(5):
                    yield b"x" * 20_000
                    await (await client.socket.ping())
                    counted.append(port.hub.budget.used - before)

            with pytest.raises(ConnectionClosed):
                await client.socket.send(long())
            assert counted[1:5] == [20_000, 40_000, 60_000, 80_000]
            assert (await client.ends())[0] == 1013
            head = bytes([0x82, 0xFF]) + (200_000).to_bytes(8) + bytes(4)
            other.socket.transport.write(head + bytes(100_000))
            assert (await other.ends())[0] == 1013

    run_port(main, limits=Limits(process_bytes=90_000, close_seconds=0.05))


def test_what_comes_while_a_socket_closes_counts_too_and_is_bounded(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            client.socket.transport.pause_reading()  # it does not answer the close frame
            [protocol] = port.wss._open
            before = port.hub.budget.used
            protocol.end(refusal.RESTARTING)
            protocol.data_received(bytes([0x82, 0xFF]) + (200_000).to_bytes(8) + bytes(4) + bytes(50_000))
            while protocol._intake.pending:
                await asyncio.sleep(0)
            assert port.hub.budget.used - before >= 50_000 and not protocol._transport.is_closing()
            protocol.data_received(bytes(50_000))
            while protocol._intake.pending:
                await asyncio.sleep(0)
            assert protocol._transport is None or protocol._transport.is_closing()
            await port.connections(0)
            client.socket.transport.abort()

    run_port(main, limits=Limits(process_bytes=90_000))


def test_a_hub_that_begins_no_session_any_more_is_1012(run_port):
    async def main(port):
        def stopping(*_):
            raise Refused(refusal.RESTARTING)

        port.hub.connect = stopping
        async with Wss(port, port.device()) as client:
            assert (await client.ends())[0] == 1012

    run_port(main)


def test_a_refused_client_that_redials_is_one_warning(run_port):
    async def main(port):
        port.credential(1, active=False)
        for _ in range(3):
            async with Wss(port, port.device()) as client:
                assert (await client.ends())[0] == 1008

    with structlog.testing.capture_logs() as logs:
        run_port(main)
    [warned] = [each for each in logs if each["event"] == "refused" and each["log_level"] == "warning"]
    assert (warned["code"], warned["remote"]) == ("paused", "127.0.0.1")


def test_nodelay_is_set(run_port):
    async def main(port):
        seen = []
        original = port.wss.opened
        port.wss.opened = lambda protocol: (
            seen.append(protocol._transport.get_extra_info("socket")),
            original(protocol),
        )
        async with Wss(port, port.device()):
            assert seen[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run_port(main)


def test_speak_and_handled_leave_in_one_write(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            protocol = next(iter(port.wss._open))
            writes, transport = [], protocol._transport
            protocol._transport = _Tap(transport, writes)
            client.device.ask("hello")
            await client.hears(2)
            assert len(writes) == 1
            protocol._transport = transport

    run_port(main)


class _Tap:
    def __init__(self, transport, writes):
        self._transport, self._writes = transport, writes

    def write(self, data):
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


def test_a_client_that_vanishes_is_forgotten(run_port):
    async def main(port):
        client = await Wss(port, port.device()).__aenter__()
        await client.ready()
        client.socket.transport.abort()
        await port.connections(0)

    run_port(main)


def test_going_down_is_1012(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            client.device.ask("last")
            await client.hears(2)
            await port.hub.stop(1)
            assert (await client.ends())[0] == 1012

    run_port(main)


def test_nothing_that_is_logged_holds_the_access_key(run_port, capsys, caplog):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
        async with Wss(port, port.device(), path="/hubs/none") as client:
            await client.ends()

    with caplog.at_level("DEBUG"):
        run_port(main)
    said = "".join(capsys.readouterr()) + "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("thalovant")
    )
    assert "key-1" not in said
    assert "authorization=" not in said


def test_a_flood_is_worked_through_in_slices_and_costs_its_neighbour_little(run_port):
    async def main(port):
        async with Wss(port, port.device(1)) as flooder, Wss(port, port.device(2)) as neighbour:
            await flooder.ready()
            await neighbour.ready()
            [protocol] = [each for each in port.wss._open if each._connection.credential.id == 1]
            events, largest = protocol._ws.events_received, []
            protocol._ws.events_received = lambda: largest.append(events()) or largest[-1]
            ping = bytes((0x8A, 0x80)) + bytes(4)  # a pong that nobody asked for
            protocol.data_received(ping * 40_000)
            assert protocol._intake.pending and not protocol._reading
            neighbour.device.ask("hi")
            await neighbour.hears(2)
            assert protocol._intake.pending
            while protocol._intake.pending:
                await asyncio.sleep(0.001)
            assert protocol._reading
            assert sum(map(len, largest)) == 40_000 and max(map(len, largest)) < 200
            flooder.device.ask("still here")
            await flooder.hears(2)

    run_port(main)


def test_what_came_before_a_lost_socket_is_still_done(run_port):
    async def main(port):
        async with Wss(port, port.device()) as client:
            await client.ready()
            [protocol] = port.wss._open
            protocol._intake.lane.spend(40_000)  # was too fast
            events, seen = protocol._ws.events_received, []
            protocol._ws.events_received = lambda: seen.append(events()) or seen[-1]
            protocol.data_received(bytes((0x8A, 0x80, 0, 0, 0, 0)) * 500)
            assert not seen and protocol._intake.pending
            client.socket.transport.abort()
            protocol.connection_lost(None)
            assert port.wss.open == 1
            await port.connections(0)
            assert port.wss.open == 0 and sum(map(len, seen)) == 500

    run_port(main)


def test_small_answers_that_nobody_takes_count_with_what_they_cost(run_port):
    async def main(port):
        async with Wss(port, port.device()) as slow:
            await slow.ready()
            [protocol] = port.wss._open
            protocol.pause_writing()
            protocol.data_received(bytes((0x89, 0x80)) + bytes(4))
            before = port.hub.budget.used
            for _ in range(10):
                protocol.data_received((bytes((0x89, 0x80)) + bytes(4)) * 10)
            assert port.hub.budget.used - before >= 100 * 64
            protocol.resume_writing()
            slow.device.ask("hi")
            await slow.hears(2)

    run_port(main)
