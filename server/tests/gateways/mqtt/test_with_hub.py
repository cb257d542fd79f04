# SPDX-License-Identifier: Apache-2.0
"""The endpoint before the real hub: a whole handshake over MQTT, an ask and its answer, and what goes wrong."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from thalovant.protocol import noise, session
from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.mqtt import packets as mqtt
from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.v311 import V311
from thalovant_server.agents.echo import EchoAgent
from thalovant_server.gateways.mqtt.connection import MqttConnection
from thalovant_server.gateways.mqtt.endpoint import MqttGateway
from thalovant_server.hub.hub import Hub
from thalovant_server.hub.limits import Limits

NODE = "node"
HELLO = b'{"msg_type": "hello", "payload": {"pubkey": ""}, "metadata": {}, "route": []}'


class OnlyEcho:
    """Finds the echo agent under every name."""

    def get(self, name: str | None) -> Any:
        return EchoAgent()


class Speaker:
    """A client with a Noise session over MQTT, on the bare client of the rig."""

    def __init__(self, endpoint: Any, client: Any, spelling: str, private: bytes, psk: bytes, pinned: bytes | None):
        self.client = client
        self.told: int | None = None
        self.into, self.out = (
            f"hubs/h1/clients/a/{each}".encode() for each in {"in": ("in", "out"), "c2s": ("c2s", "s2c")}[spelling]
        )
        self.session = session.ClientSession(
            static_private=private, site_id="site", session_id="s", pinned=pinned, psk={NODE: psk}
        )

    async def start(self) -> None:
        assert await self.client.ask(mqtt.Subscribe(1, ((self.out, 1),))) == mqtt.Suback(1, (1,))
        await self.client.send(mqtt.Publish(self.into, HELLO))

    async def next(self) -> list[Any] | None:
        """The outputs of the next frame, what it sends included; None when the server closed."""
        packet = await self.client.receive()
        if isinstance(packet, mqtt.Disconnect):
            self.told = packet.code
            packet = await self.client.receive()
        if packet is None:
            return None
        await self.client.send(mqtt.Puback(packet.packet_id))
        clear = self.session.state != "ready" and packet.payload[:1] == b"{"
        receive = self.session.receive_clear if clear else self.session.receive_sealed
        outputs = receive(packet.payload)
        await self.send(outputs)
        return outputs

    async def send(self, outputs: list[Any]) -> None:
        for output in outputs:
            if isinstance(output, session.SendClear):
                await self.client.send(mqtt.Publish(self.into, output.data))
            elif isinstance(output, session.SendSealed):
                await self.client.send(mqtt.Publish(self.into, output.frame))

    async def ready(self) -> None:
        while self.session.state != "ready":
            assert await self.next() is not None

    async def ask(self, text: str) -> str:
        request = bus("recognizer_loop:utterance", {"utterances": [text], "lang": "en"}, {"request_id": text})
        await self.send(self.session.send(request))
        spoken = ""
        while True:
            for output in await self.next() or []:
                if isinstance(output, session.Received):
                    spoken += output.message.payload.get("data", {}).get("utterance", "")
                    if output.message.payload.get("type") == "ovos.utterance.handled":
                        return spoken


def run(rig: SimpleNamespace, test: Any, limits: Limits | None = None, level: int = 4) -> None:
    async def main() -> None:
        endpoint = rig.Endpoint(limits=limits)
        private = noise.generate_private_key()
        endpoint.hub = hub = Hub(
            endpoint.directory, OnlyEcho(), static_private=private, node_id=NODE, version="0", limits=limits
        )
        hub_key = noise.public_key(private)
        async with endpoint:
            assert isinstance(endpoint.gateway, MqttGateway)

            async def speaker(
                spelling: str = "in", private: bytes | None = None, psk: bytes = bytes(32), pin: bool = False
            ) -> Speaker:
                client = await endpoint.login("a", level=level)
                key = private or noise.generate_private_key()
                made = Speaker(endpoint, client, spelling, key, psk, hub_key if pin else None)
                await made.start()
                return made

            await test(endpoint, speaker)
            await hub.stop(1)

    uvloop.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("spelling", ["in", "c2s"])
def test_an_ask_is_answered(rig: SimpleNamespace, spelling: str, level: int) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker(spelling)
        await one.ready()
        assert one.session.pattern == "XXpsk2"
        assert await one.ask("hello") == "hello"
        assert await one.ask("again") == "again"

    run(rig, test, level=level)


class Counted:
    """A transport of which it is known what each write held."""

    def __init__(self, transport: Any, writes: list[bytes]) -> None:
        self._transport, self._writes = transport, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)


def test_an_answer_that_takes_no_time_leaves_in_one_write_with_the_puback(
    rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two small writes are two system calls and two packets, on every ask."""
    writes: list[bytes] = []
    made = MqttConnection.connection_made
    monkeypatch.setattr(
        MqttConnection, "connection_made", lambda self, transport: made(self, Counted(transport, writes))
    )

    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker()
        await one.ready()
        assert await one.ask("warm") == "warm"
        writes.clear()
        asked = one.session.send(bus("recognizer_loop:utterance", {"utterances": ["hello"], "lang": "en"}, {}))
        await one.client.send(*(mqtt.Publish(one.into, output.frame, 1, 7) for output in asked))
        assert await one.client.receive() == mqtt.Puback(7)
        assert await one.next() and await one.next()
        kinds = [type(packet) for packet in PacketReader(1 << 20, V311).feed(writes[0])]
        assert kinds == [mqtt.Puback, mqtt.Publish, mqtt.Publish] and len(writes) == 1

    run(rig, test)


def test_in_mqtt_5_the_client_is_told_why_the_hub_ended_it(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        private = noise.generate_private_key()
        first = await speaker(private=private)
        await first.ready()
        assert await first.ask("pinned?") == "pinned?"
        wrong, other = await speaker(private=private, psk=bytes(31) + b"x", pin=True), await speaker()
        for one in (wrong, other):
            while await one.next() is not None:
                pass
            assert one.told == 0x87
        (frame,) = first.session.send(bus("recognizer_loop:utterance", {"utterances": ["x"]}, {}))
        for _ in range(2):
            await first.client.send(mqtt.Publish(first.into, frame.frame))
        while await first.next() is not None:
            pass
        assert first.told == 0x99
        revoked = await speaker(private=private)
        await revoked.ready()
        endpoint.directory.remove_client("client-a")
        while await revoked.next() is not None:
            pass
        assert revoked.told == 0x87

    run(rig, test, level=5)


def test_the_second_time_with_pins_on_both_sides(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        private = noise.generate_private_key()
        for pattern in ("XXpsk2", "KKpsk0"):
            one = await speaker(private=private, pin=pattern == "KKpsk0")
            await one.ready()
            assert one.session.pattern == pattern
            assert await one.ask("hello") == "hello"

    run(rig, test)


def test_a_wrong_password_with_kk_is_closed_at_once(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        private = noise.generate_private_key()
        first = await speaker(private=private)
        await first.ready()
        assert await first.ask("pinned?") == "pinned?"
        wrong = await speaker(private=private, psk=bytes(31) + b"x", pin=True)
        while await wrong.next() is not None:
            pass
        assert wrong.session.state != "ready"
        assert await first.ask("still here") == "still here"

    run(rig, test)


def test_another_client_key_is_closed(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        first = await speaker()
        await first.ready()
        assert await first.ask("mine") == "mine"
        other = await speaker()
        while await other.next() is not None:
            pass
        assert await first.ask("still mine") == "still mine"

    run(rig, test)


def test_a_clear_hello_in_a_running_session_begins_a_new_one(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        private = noise.generate_private_key()
        one = await speaker(private=private)
        await one.ready()
        again = Speaker(endpoint, one.client, "in", private, bytes(32), None)
        await again.start()
        await again.ready()
        assert await again.ask("hello") == "hello"

    run(rig, test)


def test_plaintext_in_a_running_session_ends_it(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker()
        await one.ready()
        await one.client.send(mqtt.Publish(one.into, HiveMessage("bus", {}).encode()))
        while await one.next() is not None:
            pass

    run(rig, test)


def test_a_replayed_frame_ends_the_session(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker()
        await one.ready()
        (frame,) = one.session.send(bus("recognizer_loop:utterance", {"utterances": ["x"]}, {}))
        for _ in range(2):
            await one.client.send(mqtt.Publish(one.into, frame.frame))
        while await one.next() is not None:
            pass

    run(rig, test)


def test_an_unfinished_handshake_leaves_the_connection_standing(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker()
        assert isinstance(await one.client.receive(), mqtt.Publish)
        assert isinstance(await one.client.receive(), mqtt.Publish)
        (connection,) = endpoint.hub.connections_of("client-a")
        ended = asyncio.Event()
        link = connection._link

        class Watched:
            carrier, remote, patience, silence = link.carrier, link.remote, None, link.silence

            def close(self, why: Any) -> None:
                link.close(why)
                ended.set()

        connection._link = Watched()
        await ended.wait()
        assert await one.client.silent()
        await one.start()
        await one.ready()

    run(rig, test, Limits(handshake_seconds=0.3))


STATUS = b"hubs/h1/clients/a/status"
LEFT = {
    "DISCONNECT": ("disconnected", (mqtt.Disconnect(),)),
    "reset": ("connection_lost", ()),
    "offline after online": ("disconnected", (mqtt.Publish(STATUS, b"online"), mqtt.Publish(STATUS, b"offline"))),
    "a new hello": ("taken_over", (mqtt.Publish(b"hubs/h1/clients/a/in", HELLO),)),
    "no packet of MQTT": ("protocol_error", (mqtt.Connack(False, 0),)),
}


@pytest.mark.parametrize("how", LEFT)
def test_presence_is_that_of_the_session(rig: SimpleNamespace, how: str) -> None:
    why, packets = LEFT[how]

    async def test(endpoint: Any, speaker: Any) -> None:
        presence, told = endpoint.hub.presence, asyncio.Event()
        one = await speaker()
        await one.ready()
        assert await one.ask("here") == "here"
        online = presence.of("client-a")
        assert (online.state, online.carrier, online.address) == ("online", "mqtt", "127.0.0.1")
        presence.listen(lambda each: told.set() if each.state == "offline" else None)
        await one.client.send(mqtt.Publish(STATUS, b"offline"))  # its `online` was not seen: a late word of another
        assert await one.client.silent() and presence.of("client-a").state == "online"
        await one.client.send(*packets)
        if not packets:
            one.client.writer.transport.abort()
        await told.wait()
        assert (presence.of("client-a").state, presence.of("client-a").why) == ("offline", why)

    run(rig, test)


def test_a_revoked_client_is_cut_in_the_middle(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker()
        await one.ready()
        assert await one.ask("hello") == "hello"
        endpoint.directory.remove_client("client-a")
        assert await one.client.gone()
        assert endpoint.hub.connections_of("client-a") == []

    run(rig, test)


def test_a_hub_that_stops_closes_its_clients(rig: SimpleNamespace) -> None:
    async def test(endpoint: Any, speaker: Any) -> None:
        one = await speaker()
        await one.ready()
        assert await one.ask("hello") == "hello"
        await endpoint.hub.stop(1)
        assert await one.client.gone()

    run(rig, test)
