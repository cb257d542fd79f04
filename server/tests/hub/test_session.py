# SPDX-License-Identifier: Apache-2.0
"""The hub's session against the SDK's: handshakes, pins, waiting, faults, and every altered frame."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.protocol import clear, noise
from thalovant.protocol import session as sdk
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.errors import MessageError, SessionError
from thalovant.protocol.messages import HiveMessage, bus
from thalovant_server.hub.session import (
    Failed,
    Hello,
    HubSession,
    Malformed,
    NeedPin,
    NeedPsk,
    Output,
    Ready,
    Received,
    ReceivedBinary,
    SendClear,
    SendSealed,
)

CLIENT, HUB, PSK = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
CLIENT_KEY, HUB_KEY = noise.public_key(CLIENT), noise.public_key(HUB)
OTHER_KEY = noise.public_key(bytes([9]) * 32)
HELLO = {
    "pubkey": "",
    "peer": "agent::1::kitchen::uuid",
    "node_id": "node-1",
    "thalovant": {"server": "0.1", "capabilities": ["handled"]},
}
COMBINATIONS = [(pattern, suite) for pattern in noise.PATTERNS for suite in noise.SUITES]
MIB = 1024 * 1024


def offer(*patterns: str, suites: tuple[str, ...] = noise.SUITES) -> dict[str, Any]:
    return {
        "max_protocol_version": 3,
        "binarize": False,
        "encodings": [],
        "ciphers": [],
        "noise": {"patterns": list(patterns or ("XXpsk2",)), "suites": list(suites)},
    }


def hub_session(**given_to_it: Any) -> HubSession:
    pinned = given_to_it.get("pinned")
    return HubSession(
        **{
            "static_private": HUB,
            "hello": HELLO,
            "offer": offer("KKpsk0", "XXpsk2") if pinned else offer(),
            "pinned": None,
            "psk": PSK,
            "max_message": 4 * MIB,
            **given_to_it,
        }
    )


def client_session(**given_to_it: Any) -> sdk.ClientSession:
    return sdk.ClientSession(
        **{
            "static_private": CLIENT,
            "site_id": "kitchen",
            "session_id": "s1",
            "psk": {"node-1": PSK},
            **given_to_it,
        }
    )


def failure(outputs: list[Output]) -> str:
    assert len(outputs) == 1, outputs
    assert isinstance(outputs[0], Failed), outputs
    assert outputs[0].reason.endswith(".")
    return outputs[0].code


class Road:
    """Carries outputs between the two sessions, in order, and answers what the hub asks its owner.

    `spoil(number, data)` may replace the frame with that number, counted over both directions.
    """

    def __init__(
        self,
        client: sdk.ClientSession,
        hub: HubSession,
        *,
        accept_pin: bool = True,
        psk: bytes = PSK,
        spoil: Callable[[int, bytes], bytes] | None = None,
    ) -> None:
        self.client, self.hub = client, hub
        self.accept_pin, self.psk = accept_pin, psk
        self.spoil = spoil
        self.carried = 0
        self.at_client: list[sdk.Output] = []
        self.at_hub: list[Output] = []
        self._underway: deque[tuple[bool, Any]] = deque()  # (from the hub, output)
        self._moving = False

    def open(self) -> Road:
        self.from_hub(self.hub.open())
        return self

    def from_hub(self, outputs: list[Any]) -> None:
        self._underway.extend((True, output) for output in outputs)
        self._move()

    def from_client(self, outputs: list[Any]) -> None:
        self._underway.extend((False, output) for output in outputs)
        self._move()

    def _move(self) -> None:
        if self._moving:
            return
        self._moving = True
        while self._underway:
            from_hub, output = self._underway.popleft()
            (self._hub_said if from_hub else self._client_said)(output)
        self._moving = False

    def _hub_said(self, output: Output | SendSealed) -> None:
        match output:
            case SendClear(data=data):
                self.from_client(self.client.receive_clear(self._carry(data)))
            case SendSealed(frame=frame):
                self.from_client(self.client.receive_sealed(self._carry(frame)))
            case NeedPsk():
                self.at_hub.append(output)
                self.from_hub(self.hub.provide_psk(self.psk))
            case NeedPin():
                self.at_hub.append(output)
                self.from_hub(self.hub.provide_pin(self.accept_pin))
            case _:
                self.at_hub.append(output)

    def _client_said(self, output: sdk.Output) -> None:
        match output:
            case SendClear(data=data):
                self.from_hub(self.hub.receive_clear(self._carry(data)))
            case SendSealed(frame=frame):
                self.from_hub(self.hub.receive_sealed(self._carry(frame)))
            case sdk.NeedPsk():
                self.from_client(self.client.provide_psk(self.psk))
            case _:
                self.at_client.append(output)

    def _carry(self, data: bytes) -> bytes:
        self.carried += 1
        return data if self.spoil is None else self.spoil(self.carried, data)


def connected(pattern: str = "XXpsk2", suite: str = noise.SUITES[0], **hub: Any) -> Road:
    if pattern == "KKpsk0":
        session = hub_session(pinned=CLIENT_KEY, offer=offer("KKpsk0", "XXpsk2", suites=(suite,)), **hub)
        return Road(client_session(pinned=HUB_KEY), session).open()
    return Road(client_session(), hub_session(offer=offer(suites=(suite,)), **hub)).open()


def upto_message_3(client: sdk.ClientSession | None = None, **hub: Any) -> tuple[HubSession, list[bytes]]:
    """A hub that waits for message 3, and the frames that the client now sends: message 3, sealed HELLO."""
    session, client = hub_session(**hub), client or client_session()
    hello, offered = session.open()
    assert isinstance(hello, SendClear)
    assert isinstance(offered, SendClear)
    client.receive_clear(hello.data)
    (first,) = client.receive_clear(offered.data)
    assert isinstance(first, SendClear)
    outputs = session.receive_clear(first.data)
    if outputs == [NeedPsk()]:
        outputs = list(session.provide_psk(PSK))
    (second,) = outputs
    assert isinstance(second, SendClear)
    third, sealed, _ = client.receive_clear(second.data)
    assert isinstance(third, SendClear)
    assert isinstance(sealed, SendSealed)
    frames = [third.data, sealed.frame]
    return session, frames + [output.frame for output in client.send(bus("first"))]


def message_1() -> bytes:
    client = client_session()
    client.receive_clear(clear.hello_frame(HELLO))
    (first,) = client.receive_clear(clear.offer_frame(offer()))
    assert isinstance(first, SendClear)
    return first.data


def test_the_hub_speaks_first_with_hello_and_offer() -> None:
    hub = hub_session()
    hello, offered = hub.open()
    assert isinstance(hello, SendClear)
    assert isinstance(offered, SendClear)
    assert json.loads(hello.data)["payload"] == HELLO
    assert json.loads(offered.data)["msg_type"] == "shake"
    assert json.loads(offered.data)["payload"] == offer()
    assert b'", "' in hello.data, "spaced as upstream does"
    with pytest.raises(SessionError):
        hub.open()


@pytest.mark.parametrize(("pattern", "suite"), COMBINATIONS)
def test_both_sides_become_ready(pattern: str, suite: str) -> None:
    road = connected(pattern, suite)
    asked = [NeedPin(CLIENT_KEY)] if pattern == "XXpsk2" else []
    hello = {"pubkey": "", "session": {"session_id": "s1"}, "site_id": "kitchen"}
    assert road.at_hub == [*asked, Ready(pattern, CLIENT_KEY), Hello("s1", "kitchen", hello)]
    assert road.at_client == [sdk.Ready(HUB_KEY, pattern == "XXpsk2", "node-1")]
    assert (road.hub.state, road.client.state) == ("ready", "ready")


def test_a_pinned_client_that_comes_with_xx_is_asked_nothing() -> None:
    road = Road(client_session(), hub_session(pinned=CLIENT_KEY)).open()
    assert road.at_hub[0] == Ready("XXpsk2", CLIENT_KEY)


@pytest.mark.parametrize("pattern", noise.PATTERNS)
def test_a_key_that_must_be_looked_up(pattern: str) -> None:
    road = connected(pattern, psk=None)
    assert road.at_hub[0] == NeedPsk()
    assert road.client.state == "ready"


def test_an_announcement_arrives_in_the_hello() -> None:
    announce = {"sdk": "python/1", "capabilities": ["handled"]}
    road = Road(client_session(announce=announce), hub_session()).open()
    (hello,) = [output for output in road.at_hub if isinstance(output, Hello)]
    assert hello.payload["thalovant"] == announce


@pytest.mark.parametrize(("pattern", "suite"), COMBINATIONS)
def test_messages_both_ways(pattern: str, suite: str) -> None:
    road = connected(pattern, suite)
    for size in (0, 65_000, 300_000):
        message = bus("x", {"text": "y" * size}, {"request_id": "r"})
        road.from_client(list(road.client.send(message)))
        assert road.at_hub[-1] == Received(message)
        road.from_hub(list(road.hub.send(message)))
        assert road.at_client[-1] == Received(message)
    audio = BinaryFrame("bin", 6, {"lang": "en"}, bytes(200_000))
    road.from_hub(list(road.hub.send_binary(audio)))
    assert road.at_client[-1] == ReceivedBinary(audio)


def test_the_hub_seals_only_what_it_is_told_to_send() -> None:
    assert SendSealed not in get_args(Output)  # mypy holds the session to it; a connection has no case for it


class TestKeys:
    """Passwords and keys that do not fit."""

    def test_a_wrong_password_in_xx_shows_to_the_client(self) -> None:
        road = Road(client_session(psk={"node-1": bytes(32)}), hub_session()).open()
        (failed,) = road.at_client
        assert isinstance(failed, sdk.Failed)
        assert failed.code == "wrong_password"
        assert road.at_hub == []
        assert road.hub.state == "handshake"

    def test_a_wrong_password_in_kk_shows_to_the_hub(self) -> None:
        client = client_session(pinned=HUB_KEY, psk={"node-1": bytes(32)})
        road = Road(client, hub_session(pinned=CLIENT_KEY)).open()
        assert failure(road.at_hub) == "handshake"

    def test_another_client_key_in_kk_does_not_authenticate(self) -> None:
        road = Road(client_session(pinned=HUB_KEY), hub_session(pinned=OTHER_KEY)).open()
        assert failure(road.at_hub) == "handshake"

    def test_another_client_key_in_xx_is_a_mismatch(self) -> None:
        road = Road(client_session(), hub_session(pinned=OTHER_KEY)).open()
        assert failure(road.at_hub) == "key_mismatch"
        assert road.hub.state == "failed"

    def test_a_pin_that_the_directory_refuses_is_a_mismatch(self) -> None:
        road = Road(client_session(), hub_session(), accept_pin=False).open()
        assert road.at_hub[0] == NeedPin(CLIENT_KEY)
        assert failure(road.at_hub[1:]) == "key_mismatch"

    def test_a_hub_with_a_new_key_fails_kk_and_is_found_out_in_xx(self) -> None:
        """Contract 4.2: the client may try once more with XX and then sees the other key."""
        renewed = {"static_private": bytes([8]) * 32, "pinned": CLIENT_KEY}
        road = Road(client_session(pinned=HUB_KEY), hub_session(**renewed)).open()
        assert failure(road.at_hub) == "handshake", "the hub cannot read message 1 that was made for its old key"
        road = Road(client_session(pinned=HUB_KEY, allow_kk=False), hub_session(**renewed)).open()
        (failed,) = road.at_client
        assert isinstance(failed, sdk.Failed)
        assert failed.code == "hub_key_changed"

    def test_a_hub_that_lost_the_pin_gets_xx_again(self) -> None:
        road = Road(client_session(pinned=HUB_KEY), hub_session()).open()
        assert road.at_client == [sdk.Ready(HUB_KEY, False, "node-1")]
        assert road.hub.pattern == "XXpsk2"

    def test_an_altered_hello_does_not_authenticate(self) -> None:
        def spoil(number: int, data: bytes) -> bytes:
            return data.replace(b"kitchen", b"kitchem") if number == 1 else data

        road = Road(client_session(), hub_session(), spoil=spoil).open()
        assert failure(road.at_hub) == "handshake"

    def test_a_recorded_kk_message_1_is_useless_on_the_next_connection(self) -> None:
        sent: list[bytes] = []

        def record(_number: int, data: bytes) -> bytes:
            sent.append(data)
            return data

        Road(client_session(pinned=HUB_KEY), hub_session(pinned=CLIENT_KEY), spoil=record).open()
        hub = hub_session(pinned=CLIENT_KEY, hello={**HELLO, "peer": "agent::1::kitchen::another"})
        hub.open()
        assert failure(hub.receive_clear(sent[2])) == "handshake"


class TestBeforeTheHandshake:
    """What may come in the clear, and what may not (contract 5; refusals of the upstream hub)."""

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (bus("speak").to_json().encode(), "protocol"),
            (b'{"msg_type":"nonsense","payload":{}}', "protocol"),
            (b"rubbish", "protocol"),
            (b"", "protocol"),
            (b"\xff\xfe", "protocol"),
            (b"[]", "protocol"),
            (b'{"msg_type":"shake"}', "protocol"),
            (b'{"msg_type":"shake","payload":{}}', "handshake"),
            (b'{"msg_type":"shake","payload":{"noise":null}}', "handshake"),
            (b'{"msg_type":"shake","payload":{"noise":{}}}', "handshake"),
            (b'{"msg_type":"shake","payload":{"noise":{"msg":"zz"}}}', "handshake"),
            (b'{"msg_type":"shake","payload":{"noise":{"msg":"00"}}}', "handshake"),
            (b"x" * 65_537, "too_large"),
        ],
        ids=lambda part: repr(part[:40]),
    )
    def test_what_ends_it(self, data: bytes, code: str) -> None:
        hub = hub_session()
        hub.open()
        assert failure(hub.receive_clear(data)) == code
        assert hub.receive_clear(message_1()) == []
        assert hub.receive_sealed(b"") == []

    @pytest.mark.parametrize("change", [{"pattern": "KKpsk0"}, {"pattern": "NN"}, {"suite": "x"}, {"suite": None}])
    def test_choices_that_were_not_offered(self, change: dict[str, Any]) -> None:
        frame = json.loads(message_1())
        frame["payload"]["noise"].update(change)
        hub = hub_session()
        hub.open()
        assert failure(hub.receive_clear(json.dumps(frame))) == "handshake"

    def test_kk_without_a_pin_even_if_it_was_offered(self) -> None:
        road = Road(client_session(pinned=HUB_KEY), hub_session(offer=offer("KKpsk0", "XXpsk2"))).open()
        assert failure(road.at_hub) == "handshake"

    @pytest.mark.parametrize("msg", ["00" * 47, "00" * 48, "00" * 81, "ff" * 5000])
    def test_noise_messages_that_are_none(self, msg: str) -> None:
        frame = json.loads(message_1())
        frame["payload"]["noise"]["msg"] = msg
        hub = hub_session()
        hub.open()
        code = failure(hub.receive_clear(json.dumps(frame)))
        assert code == "handshake"

    def test_a_clear_hello_is_ignored(self) -> None:
        hub = hub_session()
        hub.open()
        assert hub.receive_clear(sdk.clear_hello("s", "kitchen")) == []
        assert len(hub.receive_clear(message_1())) == 1
        assert hub.receive_clear(sdk.clear_hello("s", "kitchen")) == []
        assert hub.state == "handshake"

    def test_a_sealed_frame_ends_it(self) -> None:
        hub = hub_session()
        hub.open()
        assert failure(hub.receive_sealed(bytes(40))) == "protocol"
        hub, _ = upto_message_3()
        assert failure(hub.receive_sealed(bytes(40))) == "protocol"

    def test_text_may_come_as_str_and_handshake_is_another_name(self) -> None:
        hub = hub_session()
        hub.open()
        assert isinstance(hub.receive_clear(message_1().decode().replace('"shake"', '"handshake"'))[0], SendClear)

    def test_handshaking_begins_with_an_acceptable_message_1(self) -> None:
        hub = hub_session(psk=None)
        assert not hub.handshaking
        hub.open()
        assert not hub.handshaking
        hub.receive_clear(message_1())
        assert hub.handshaking
        hub.receive_clear(b"rubbish")
        assert not hub.handshaking


class TestWaiting:
    """What comes while the owner looks up a key or commits a pin."""

    def test_a_second_shake_is_ignored_while_the_key_is_looked_up(self) -> None:
        hub = hub_session(psk=None)
        hub.open()
        assert hub.receive_clear(message_1()) == [NeedPsk()]
        assert hub.receive_clear(message_1()) == []
        assert hub.receive_clear(sdk.clear_hello("s", "k")) == []
        assert hub.buffered == 0
        assert failure(hub.receive_clear(bus("x").to_json())) == "protocol"

    def test_frames_kept_for_the_key_are_taken_in_order(self) -> None:
        hub = hub_session(psk=None)
        hub.open()
        hub.receive_clear(message_1())
        assert hub.receive_sealed(bytes(40)) == []
        assert hub.buffered > 40
        second, failed = hub.provide_psk(PSK)
        assert isinstance(second, SendClear)
        assert failure([failed]) == "protocol"

    def test_what_follows_message_3_waits_for_the_pin(self) -> None:
        hub, (third, *sealed) = upto_message_3()
        assert hub.receive_clear(third) == [NeedPin(CLIENT_KEY)]
        assert [hub.receive_sealed(frame) for frame in sealed] == [[], []]
        assert hub.buffered > sum(map(len, sealed))
        ready, hello, first = hub.provide_pin(True)
        assert ready == Ready("XXpsk2", CLIENT_KEY)
        assert isinstance(hello, Hello)
        assert first == Received(bus("first"))
        assert hub.buffered == 0

    def test_a_refused_pin_lets_nothing_through(self) -> None:
        hub, (third, *sealed) = upto_message_3()
        hub.receive_clear(third)
        for frame in sealed:
            hub.receive_sealed(frame)
        assert failure(list(hub.provide_pin(False))) == "key_mismatch"
        assert hub.buffered == 0

    def test_clear_text_after_message_3_is_judged_in_its_turn(self) -> None:
        hub, (third, *sealed) = upto_message_3()
        hub.receive_clear(third)
        hub.receive_sealed(sealed[0])
        assert hub.receive_clear("late") == []
        *good, failed = hub.provide_pin(True)
        assert [type(output) for output in good] == [Ready, Hello]
        assert failure([failed]) == "protocol"

    @pytest.mark.parametrize("size", [0, 1, 1000])
    def test_only_so_much_is_kept_for_the_key(self, size: int) -> None:
        hub = hub_session(psk=None, max_waiting=10_000)
        hub.open()
        hub.receive_clear(message_1())
        kept = 0
        while not (outputs := hub.receive_sealed(bytes(size))):
            kept += 1
            assert hub.buffered <= 10_000
        assert failure(outputs) == "too_large"
        assert 9 <= kept <= 10_000 // 64
        assert hub.buffered == 0

    def test_the_longest_message_is_kept_for_the_pin(self) -> None:
        client = client_session()
        hub, (third, *sealed) = upto_message_3(client)
        hub.receive_clear(third)
        text = "y" * (4 * MIB - 400)
        sealed += [output.frame for output in client.send(bus("long", {"t": text}))]
        for frame in sealed:
            assert hub.receive_sealed(frame) == []
        assert hub.buffered > 4 * MIB
        *_, long = hub.provide_pin(True)
        assert isinstance(long, Received)
        assert long.message.payload["data"]["t"] == text
        assert hub.buffered == 0

    @pytest.mark.parametrize(("size", "most"), [(0, 140), (100, 140), (65_017, 72)])
    def test_only_so_much_is_kept_for_the_pin(self, size: int, most: int) -> None:
        hub, (third, *_) = upto_message_3()
        hub.receive_clear(third)
        kept = 0
        while not (outputs := hub.receive_sealed(bytes(size))):
            kept += 1
            assert hub.buffered <= 5 * MIB
        assert failure(outputs) == "too_large"
        assert 60 <= kept <= most
        assert hub.buffered == 0

    def test_what_was_kept_is_read_one_by_one_as_it_is_taken(self) -> None:
        hub, (third, *sealed) = upto_message_3()
        hub.receive_clear(third)
        for frame in sealed:
            hub.receive_sealed(frame)
        held = []
        for _ in hub.provide_pin(True):
            held.append(hub.buffered)
        assert held == sorted(held, reverse=True)
        assert held[0] > held[1] > held[2] == 0

    def test_answers_nobody_asked_for_are_mistakes_of_the_owner(self) -> None:
        hub = hub_session(psk=None)
        hub.open()
        with pytest.raises(SessionError):
            hub.provide_psk(PSK)
        with pytest.raises(SessionError):
            hub.provide_pin(True)
        hub.receive_clear(message_1())
        with pytest.raises(SessionError):
            hub.provide_psk(b"short")
        hub.receive_clear("rubbish")
        assert list(hub.provide_psk(PSK)) == []
        assert list(hub.provide_pin(True)) == []


class TestInSession:
    """Sealed frames."""

    def sent(self, road: Road, body: bytes, *, binary: bool = False) -> list[Output]:
        """What the hub makes of a message that the client's own `send` would not write."""
        writer = road.client._writer
        assert writer is not None
        return [output for f in writer.seal(body, binary=binary) for output in road.hub.receive_sealed(f)]

    def test_a_later_hello_is_an_update(self) -> None:
        road = connected()
        payload = {"session": {"session_id": "s2"}, "site_id": "hall"}
        assert self.sent(road, HiveMessage("hello", payload).encode()) == [Hello("s2", "hall", payload)]

    @pytest.mark.parametrize("payload", [{}, {"session": {}}, {"session": {"session_id": None}, "site_id": None}])
    def test_missing_names_are_empty(self, payload: dict[str, Any]) -> None:
        assert self.sent(connected(), HiveMessage("hello", payload).encode()) == [Hello("", "", payload)]

    @pytest.mark.parametrize(
        "payload",
        [
            {"session": None},
            {"session": "s"},
            {"session": {"session_id": 1}},
            {"session": {"session_id": "x" * 257}},
            {"session": {}, "site_id": []},
            {"session": {}, "site_id": "x" * 257},
        ],
        ids=lambda payload: str(payload)[:40],
    )
    def test_a_hello_of_another_shape_ends_it(self, payload: dict[str, Any]) -> None:
        assert failure(self.sent(connected(), HiveMessage("hello", payload).encode())) == "protocol"

    @pytest.mark.parametrize("payload", [b"[1]", b"null", b'"x"', b"7"])
    def test_a_payload_of_another_shape_does_not(self, payload: bytes) -> None:
        road = connected()
        (malformed,) = self.sent(road, b'{"msg_type":"bus","payload":' + payload + b"}")
        assert isinstance(malformed, Malformed)
        assert self.sent(road, bus("fine").encode()) == [Received(bus("fine"))]

    @pytest.mark.parametrize(
        "body",
        [b"", b"x", b"[]", b"{}", b'{"msg_type":"nonsense","payload":{}}', b'{"msg_type":"bus","payload":{"a":NaN}}'],
    )
    def test_what_is_no_message_ends_it(self, body: bytes) -> None:
        assert failure(self.sent(connected(), body)) == "protocol"

    @pytest.mark.parametrize("body", [b"", b"\0", bytes.fromhex("96027b7d7b7d"), bytes.fromhex("c200")])
    def test_what_is_no_binary_frame_ends_it(self, body: bytes) -> None:
        assert failure(self.sent(connected(), body, binary=True)) == "protocol"

    def test_binary_frames_of_both_sorts(self) -> None:
        road = connected()
        audio = BinaryFrame("bin", 1, {}, b"\0\1")
        assert self.sent(road, audio.encode(), binary=True) == [ReceivedBinary(audio)]
        compact = BinaryFrame("bus", payload={"type": "t", "data": {}, "context": {}}, compressed=True)
        assert self.sent(road, compact.encode(), binary=True) == [Received(bus("t"))]
        hello = BinaryFrame("hello", payload={"session": {"session_id": "b"}})
        assert self.sent(road, hello.encode(), binary=True) == [Hello("b", "", hello.payload)]  # type: ignore[arg-type]

    def test_a_sealed_shake_is_ignored(self) -> None:
        assert self.sent(connected(), HiveMessage("shake", {"noise": {}}).encode()) == []

    def test_keys_we_do_not_know_are_dropped(self) -> None:
        body = bus("x").encode()[:-1] + b',"target_peers":[]}'
        assert self.sent(connected(), body) == [Received(bus("x"))]

    @pytest.mark.parametrize("data", [bus("x").to_json(), "x", clear.hello_frame(HELLO), message_1()])
    def test_clear_text_ends_it(self, data: bytes | str) -> None:
        assert failure(connected().hub.receive_clear(data)) == "protocol"

    def test_a_message_beyond_the_hubs_limit_ends_it_and_is_not_held(self) -> None:
        road = connected(max_message=100_000)
        assert self.sent(road, bus("x", {"t": "y" * 90_000}).encode())
        assert failure(self.sent(road, bytes(100_001))) == "too_large"
        assert road.hub.buffered == 0

    def test_inflation_counts_as_well(self) -> None:
        road = connected(max_message=10_000)
        bomb = BinaryFrame("bus", payload={"t": "y" * 20_000}, compressed=True).encode()
        assert len(bomb) < 200
        assert failure(self.sent(road, bomb, binary=True)) == "too_large"

    @pytest.mark.parametrize("binary", [False, True])
    def test_a_message_of_very_many_values_ends_it_before_it_is_read(self, binary: bool) -> None:
        road = connected(max_values=1000)
        for count, fine in ((900, True), (2000, False)):
            message = bus("x", {"many": [[]] * (count // 2)})
            body = message.encode()
            if binary:
                body = BinaryFrame("bus", payload=message.payload, compressed=True).encode()
            outputs = self.sent(road, body, binary=binary)
            assert outputs == [Received(message)] if fine else failure(outputs) == "too_large"

    def test_what_is_held_is_counted(self) -> None:
        road = connected()
        first, *_ = road.client.send(bus("x", {"t": "y" * 200_000}))
        assert road.hub.receive_sealed(first.frame) == []
        assert road.hub.buffered == 65_000

    def test_a_lost_frame_ends_it(self) -> None:
        road = connected()
        first, _lost = road.client.send(bus("x", {"t": "y" * 70_000}))
        road.hub.receive_sealed(first.frame)
        (whole,) = road.client.send(bus("y"))
        assert failure(road.hub.receive_sealed(whole.frame)) == "decrypt"
        assert road.hub.buffered == 0

    @pytest.mark.parametrize("plain", [b"", b"\x04x", b"\x05x", b"\x06x"])
    def test_frames_that_may_not_stand_there_end_it(self, plain: bytes) -> None:
        road = connected()
        writer = road.client._writer
        assert writer is not None
        assert failure(road.hub.receive_sealed(writer._encrypt(plain))) == "protocol"

    def test_repeated_frames_end_it(self) -> None:
        road = connected()
        (sealed,) = road.client.send(bus("x"))
        assert road.hub.receive_sealed(sealed.frame) == [Received(bus("x"))]
        assert failure(road.hub.receive_sealed(sealed.frame)) == "decrypt"
        assert road.hub.receive_sealed(sealed.frame) == []

    def test_what_cannot_be_sent_leaves_the_session_whole(self) -> None:
        road = connected()
        with pytest.raises(MessageError):
            road.hub.send(bus("x", {"n": 2**64}))
        road.from_hub(list(road.hub.send(bus("fine"))))
        assert road.at_client[-1] == Received(bus("fine"))

    def test_sending_before_ready_and_after_failure_is_a_mistake(self) -> None:
        hub = hub_session()
        with pytest.raises(SessionError):
            hub.send(bus("x"))
        road = connected()
        road.hub.receive_clear("x")
        with pytest.raises(SessionError):
            road.hub.send_binary(BinaryFrame("bin", 0, {}, b""))

    def test_one_entrance_for_carriers_that_cannot_tell(self) -> None:
        hub, (third, *sealed) = upto_message_3(pinned=CLIENT_KEY)
        assert hub.receive(third) == [Ready("XXpsk2", CLIENT_KEY)]
        assert isinstance(hub.receive(sealed[0])[0], Hello)
        assert hub.receive(sealed[1]) == [Received(bus("first"))]
        hub = hub_session()
        hub.open()
        assert hub.receive(sdk.clear_hello("s", "k")) == []
        assert failure(hub.receive(b"\x80rubbish")) == "protocol"


def test_an_offer_that_is_none_and_a_hello_that_cannot_be_hashed_are_mistakes_of_the_owner() -> None:
    with pytest.raises(MessageError):
        hub_session(offer={})
    with pytest.raises(MessageError):
        hub_session(hello={**HELLO, "peer": "\ud800"}).open()


def test_no_secret_in_a_repr() -> None:
    for secret in (HUB, PSK):
        assert secret.hex() not in repr(connected().hub)
        assert repr(secret) not in repr(connected().hub)


messages = st.one_of(
    st.builds(
        bus,
        st.text(max_size=20),
        st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.integers(0, 2**64 - 1), max_size=3),
        st.dictionaries(st.text(max_size=5), st.booleans() | st.none(), max_size=3),
    ),
    st.integers(64_800, 65_100).map(lambda size: bus("edge", {"t": "x" * size})),
    st.integers(129_000, 131_000).map(lambda size: bus("edge", {"t": "x" * size})),
)


@settings(max_examples=60, deadline=None)
@given(combination=st.sampled_from(COMBINATIONS), script=st.lists(st.tuples(st.booleans(), messages), max_size=6))
def test_any_messages_arrive_once_and_in_order(
    combination: tuple[str, str], script: list[tuple[bool, HiveMessage]]
) -> None:
    road = connected(*combination)
    for upwards, message in script:
        if upwards:
            road.from_client(list(road.client.send(message)))
        else:
            road.from_hub(list(road.hub.send(message)))
    at_hub = [output.message for output in road.at_hub if isinstance(output, Received)]
    at_client = [output.message for output in road.at_client if isinstance(output, Received)]
    assert at_hub == [message for upwards, message in script if upwards]
    assert at_client == [message for upwards, message in script if not upwards]


def altered(data: bytes, draw: st.DataObject) -> bytes:
    """`data` with something changed: a byte, the end, or the beginning."""
    how = draw.draw(st.sampled_from(["byte", "cut", "more", "empty"]))
    if how == "byte":
        place, bits = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(1, 255))
        return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
    if how == "cut":
        return data[: draw.draw(st.integers(1, len(data) - 1))]
    return data + b"\x01" if how == "more" else b""


@settings(max_examples=300, deadline=None)
@given(data=st.data(), combination=st.sampled_from(COMBINATIONS))
def test_any_altered_frame_ends_the_session_and_nothing_false_arrives(
    data: st.DataObject, combination: tuple[str, str]
) -> None:
    """Nothing raises; an altered sealed frame always fails; an altered clear frame fails or meant the same."""
    target = data.draw(st.integers(1, 9))
    sealed_from = 6 if combination[0] == "XXpsk2" else 5

    def spoil(number: int, frame: bytes) -> bytes:
        return altered(frame, data) if number == target else frame

    up, down = bus("up", {"n": 1}), bus("down", {"n": 2})
    kk, suites = combination[0] == "KKpsk0", combination[1:]
    client = client_session(pinned=HUB_KEY if kk else None)
    patterns = ("KKpsk0", "XXpsk2") if kk else ("XXpsk2",)
    hub = hub_session(pinned=CLIENT_KEY if kk else None, offer=offer(*patterns, suites=suites))
    road = Road(client, hub, spoil=spoil).open()
    for _ in range(2):
        if road.client.state == "ready":
            road.from_client(list(road.client.send(up)))
        if road.hub.state == "ready":
            road.from_hub(list(road.hub.send(down)))
    said = [output.message for output in road.at_hub + road.at_client if isinstance(output, Received)]
    assert all(message in (up, down) for message in said)
    failed = [output for output in road.at_hub + road.at_client if isinstance(output, Failed | sdk.Failed)]
    spoiled = road.carried >= target
    if spoiled and target >= sealed_from:
        assert len(failed) == 1
        assert "failed" in (road.hub.state, road.client.state)
    if not failed and "failed" not in (road.hub.state, road.client.state) and road.client.state == "ready":
        assert road.hub.state == "ready"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["clear", "sealed", "either"]),
            st.binary(max_size=80)
            | st.sampled_from([sdk.clear_hello("s", "k"), message_1(), b"{}", b'{"msg_type":"shake","payload":{}}']),
        ),
        max_size=6,
    )
)
def test_garbage_never_raises_and_fails_at_most_once(frames: list[tuple[str, bytes]]) -> None:
    waiting = hub_session(psk=None)
    waiting.open()
    waiting.receive_clear(message_1())
    fresh = hub_session()
    fresh.open()
    for_pin, (third, *_) = upto_message_3()
    for_pin.receive_clear(third)
    for hub in (hub_session(), fresh, waiting, for_pin, upto_message_3()[0], connected().hub):
        take = {"clear": hub.receive_clear, "sealed": hub.receive_sealed, "either": hub.receive}
        outputs = [output for kind, data in frames for output in take[kind](data)]
        assert sum(isinstance(output, Failed) for output in outputs) <= 1
        if any(isinstance(output, Failed) for output in outputs):
            assert hub.state == "failed"
            assert isinstance(outputs[-1], Failed)
