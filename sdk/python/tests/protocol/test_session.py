# SPDX-License-Identifier: Apache-2.0
"""The client's session against a hub written here from Noise alone, step by step and fault by fault.

The two real sessions meet in the server's tests.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol import clear, noise
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.errors import MessageError, NoiseError, SessionError
from thalovant.protocol.frames import FrameReader, FrameWriter
from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.session import (
    ClientSession,
    Failed,
    NeedPsk,
    Output,
    Ready,
    Received,
    ReceivedBinary,
    SendClear,
    SendSealed,
    clear_hello,
)

CLIENT, HUB, PSK = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
HUB_KEY = noise.public_key(HUB)
HELLO = {"pubkey": "", "peer": "p", "node_id": "node-1"}
OURS = {**HELLO, "thalovant": {"server": "0.1", "capabilities": ["handled"]}}


def offer(*patterns: str, suites: tuple[str, ...] = noise.SUITES) -> dict[str, Any]:
    return {
        "max_protocol_version": 3,
        "noise": {"patterns": list(patterns or ("XXpsk2",)), "suites": list(suites)},
    }


def session(**given_to_it: Any) -> ClientSession:
    return ClientSession(
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
    assert isinstance(outputs[0], Failed)
    assert outputs[0].text.endswith(".")
    return outputs[0].code


def shake_of(output: Output) -> dict[str, Any]:
    assert isinstance(output, SendClear)
    frame = json.loads(output.data)
    assert frame["msg_type"] == "shake"
    noise_part = frame["payload"]["noise"]
    assert isinstance(noise_part, dict)
    return noise_part


class ScriptedHub:
    """The hub's half of one handshake, made of the Noise primitives."""

    def __init__(
        self, hello: dict[str, Any], offered: dict[str, Any], *, static: bytes = HUB, psk: bytes = PSK
    ) -> None:
        self.hello, self.offered = hello, offered
        self.static, self.psk = static, psk
        self.writer: FrameWriter
        self.reader: FrameReader

    def greet(self, client: ClientSession) -> list[Output]:
        assert client.receive_clear(clear.hello_frame(self.hello)) == []
        return client.receive_clear(clear.offer_frame(self.offered))

    def message_2(self, output: Output) -> bytes:
        first = shake_of(output)
        self.handshake = noise.Handshake.responder(
            first["pattern"],
            first["suite"],
            prologue=noise.prologue(self.hello, self.offered, first["pattern"], first["suite"]),
            psk=self.psk,
            static_private=self.static,
            remote_static=noise.public_key(CLIENT) if first["pattern"] == "KKpsk0" else None,
        )
        payload = self.handshake.read_message(bytes.fromhex(first["msg"]))
        assert payload == b'{"binarize":false,"encodings":[]}'
        return clear.hub_shake(self.handshake.write_message(clear.MESSAGE_2_PAYLOAD))

    def end(self, outputs: list[Output]) -> dict[str, Any]:
        """Take message 3 (XX) and the sealed HELLO; the HELLO's payload."""
        rest = list(outputs)
        if not self.handshake.finished:
            third = shake_of(rest.pop(0))
            assert list(third) == ["msg"]
            self.handshake.read_message(bytes.fromhex(third["msg"]))
        sending, receiving = self.handshake.split()
        self.writer, self.reader = FrameWriter(sending), FrameReader(receiving)
        sealed, ready = rest
        assert isinstance(ready, Ready)
        return self.read([sealed]).payload

    def read(self, outputs: list[Any]) -> HiveMessage:
        *early, last = [self.reader.open(output.frame) for output in outputs]
        assert early == [None] * len(early)
        assert last is not None
        return HiveMessage.decode(last.body)

    def seal(self, body: bytes, *, binary: bool = False) -> list[bytes]:
        return self.writer.seal(body, binary=binary)


def connected(
    hello: dict[str, Any] = HELLO, offered: dict[str, Any] | None = None, **client: Any
) -> tuple[ClientSession, ScriptedHub]:
    one, hub = session(**client), ScriptedHub(hello, offered or offer())
    (first,) = hub.greet(one)
    hub.end(one.receive_clear(hub.message_2(first)))
    assert one.state == "ready"
    return one, hub


@pytest.mark.parametrize("suite", noise.SUITES)
def test_xx_from_hello_to_ready(suite: str) -> None:
    client, hub = session(psk=None), ScriptedHub(HELLO, offer(suites=(suite,)))
    assert client.state == "hello"
    assert client.receive_clear(clear.hello_frame(HELLO)) == []
    assert (client.state, client.hub_hello, client.node_id) == ("offer", HELLO, "node-1")
    assert client.receive_clear(clear.offer_frame(hub.offered)) == [NeedPsk("node-1")]
    assert client.state == "psk"
    (first,) = client.provide_psk(PSK)
    assert client.state == "handshake"
    assert (shake_of(first)["pattern"], shake_of(first)["suite"]) == ("XXpsk2", suite)
    outputs = client.receive_clear(hub.message_2(first))
    assert hub.end(outputs) == {"pubkey": "", "session": {"session_id": "s1"}, "site_id": "kitchen"}
    assert outputs[-1] == Ready(HUB_KEY, True, "node-1")
    assert (client.state, client.pattern, client.remote_static) == ("ready", "XXpsk2", HUB_KEY)


@pytest.mark.parametrize("suite", noise.SUITES)
def test_kk_needs_two_messages(suite: str) -> None:
    client, hub = session(pinned=HUB_KEY), ScriptedHub(HELLO, offer("KKpsk0", "XXpsk2", suites=(suite,)))
    (first,) = hub.greet(client)
    outputs = client.receive_clear(hub.message_2(first))
    assert [type(output) for output in outputs] == [SendSealed, Ready]
    hub.end(outputs)
    assert outputs[-1] == Ready(HUB_KEY, False, "node-1")
    assert client.pattern == "KKpsk0"


@pytest.mark.parametrize(
    ("pinned", "patterns", "allow_kk", "chosen"),
    [
        (None, ("XXpsk2",), True, "XXpsk2"),
        (None, ("KKpsk0", "XXpsk2"), True, "XXpsk2"),
        (HUB_KEY, ("XXpsk2",), True, "XXpsk2"),
        (HUB_KEY, ("KKpsk0", "XXpsk2"), True, "KKpsk0"),
        (HUB_KEY, ("XXpsk2", "KKpsk0"), True, "KKpsk0"),
        (HUB_KEY, ("KKpsk0",), True, "KKpsk0"),
        (HUB_KEY, ("KKpsk0", "XXpsk2"), False, "XXpsk2"),
    ],
)
def test_kk_only_with_a_pin_and_an_offer(
    pinned: bytes | None, patterns: tuple[str, ...], allow_kk: bool, chosen: str
) -> None:
    (first,) = ScriptedHub(HELLO, offer(*patterns)).greet(session(pinned=pinned, allow_kk=allow_kk))
    assert shake_of(first)["pattern"] == chosen


def test_our_order_of_suites_decides_not_the_hubs() -> None:
    (first,) = ScriptedHub(HELLO, offer(suites=("new", noise.SUITES[1], noise.SUITES[0]))).greet(session())
    assert shake_of(first)["suite"] == noise.SUITES[0]


@pytest.mark.parametrize(
    "offered",
    [
        offer("NNpsk0"),
        offer("KKpsk0"),
        offer(suites=("25519_None_SHA256",)),
        {"noise": {}},
        {"noise": {"patterns": "XXpsk2", "suites": list(noise.SUITES)}},
        {},
        {"noise": {"msg": "00", "patterns": ["XXpsk2"], "suites": list(noise.SUITES)}},
    ],
    ids=lambda offered: json.dumps(offered)[:60],
)
def test_an_offer_without_anything_for_us_ends_it(offered: dict[str, Any]) -> None:
    assert failure(ScriptedHub(HELLO, offered).greet(session())) == "protocol"


def test_handshake_is_another_name_for_shake() -> None:
    client, hub = session(), ScriptedHub(HELLO, offer())
    client.receive_clear(clear.hello_frame(HELLO))
    (first,) = client.receive_clear(clear.offer_frame(hub.offered).replace(b'"shake"', b'"handshake"'))
    hub.end(client.receive_clear(hub.message_2(first).replace(b'"shake"', b'"handshake"')))
    assert client.state == "ready"


@pytest.mark.parametrize("payload", [{}, {"node_id": ""}, {"node_id": 7}, {"node_id": "\ud800"}], ids=repr)
def test_a_hello_needs_a_node_id(payload: dict[str, Any]) -> None:
    assert failure(session().receive_clear(clear.hello_frame(payload))) == "protocol"


def test_numbers_are_hashed_as_they_were_sent() -> None:
    connected({**HELLO, "n": [2**70, -1, 1.5, 1e21]})


def test_the_frames_may_come_as_text() -> None:
    client, hub = session(), ScriptedHub(HELLO, offer())
    client.receive_clear(clear.hello_frame(HELLO).decode())
    (first,) = client.receive_clear(clear.offer_frame(hub.offered).decode())
    hub.end(client.receive_clear(hub.message_2(first).decode()))


class TestAnnouncing:
    """What the sealed HELLO says beyond the contract, and to whom."""

    ANNOUNCE: ClassVar = {"sdk": "python/1.0", "capabilities": ["handled"]}

    def hello_to(self, hello: dict[str, Any], **client: Any) -> dict[str, Any]:
        one, hub = session(**client), ScriptedHub(hello, offer())
        (first,) = hub.greet(one)
        return hub.end(one.receive_clear(hub.message_2(first)))

    def test_a_hub_with_capabilities_is_told(self) -> None:
        assert self.hello_to(OURS, announce=self.ANNOUNCE)["thalovant"] == self.ANNOUNCE
        assert "thalovant" not in self.hello_to(OURS)

    @pytest.mark.parametrize("mark", [None, [], "x", {}, {"capabilities": None}, {"capabilities": [1]}])
    def test_any_other_hub_is_not(self, mark: Any) -> None:
        assert "thalovant" not in self.hello_to({**HELLO, "thalovant": mark}, announce=self.ANNOUNCE)
        assert "thalovant" not in self.hello_to(HELLO, announce=self.ANNOUNCE)

    def test_the_capabilities_can_be_read(self) -> None:
        client, _ = connected(OURS)
        assert client.hub_capabilities == {"handled"}
        client, _ = connected(HELLO)
        assert client.hub_capabilities == frozenset()


class TestRefusals:
    """Keys and passwords that do not fit."""

    def after_message_2(self, hub: ScriptedHub, client: ClientSession) -> list[Output]:
        (first,) = hub.greet(client)
        return client.receive_clear(hub.message_2(first))

    def test_a_wrong_password(self) -> None:
        client = session(psk={"node-1": bytes(32)})
        assert failure(self.after_message_2(ScriptedHub(HELLO, offer()), client)) == "wrong_password"
        assert client.state == "failed"

    def test_an_altered_offer_shows_to_the_hub_on_message_1(self) -> None:
        """The prologue is hashed before message 1 and message 1 has a sealed payload, so the client never sees it."""
        client, hub = session(), ScriptedHub(HELLO, offer())
        client.receive_clear(clear.hello_frame({**HELLO, "peer": "other"}))
        (first,) = client.receive_clear(clear.offer_frame(hub.offered))
        with pytest.raises(NoiseError):
            hub.message_2(first)

    def test_an_altered_message_2(self) -> None:
        client, hub = session(), ScriptedHub(HELLO, offer())
        (first,) = hub.greet(client)
        text = hub.message_2(first)
        altered = text.replace(b'00"}}', b'11"}}') if b'00"}}' in text else re.sub(rb'..("}})', rb"00\1", text)
        assert failure(client.receive_clear(altered)) == "wrong_password"

    def test_another_hub_key_than_the_pinned_in_xx(self) -> None:
        client = session(pinned=noise.public_key(bytes([9]) * 32))
        assert failure(self.after_message_2(ScriptedHub(HELLO, offer()), client)) == "hub_key_changed"

    def test_the_pinned_hub_key_in_xx(self) -> None:
        client, hub = session(pinned=HUB_KEY), ScriptedHub(HELLO, offer())
        (first,) = hub.greet(client)
        outputs = client.receive_clear(hub.message_2(first))
        assert outputs[-1] == Ready(HUB_KEY, False, "node-1")

    def test_kk_with_a_hub_that_cannot_prove_its_key(self) -> None:
        client, hub = session(pinned=HUB_KEY), ScriptedHub(HELLO, offer("KKpsk0", "XXpsk2"))
        hub.greet(client)
        assert failure(client.receive_clear(clear.hub_shake(bytes(72)))) == "kk_failed"

    @pytest.mark.parametrize("pin", [bytes(32), b"short"], ids=["low order", "short"])
    def test_a_pin_that_is_no_key(self, pin: bytes) -> None:
        hub = ScriptedHub(HELLO, offer("KKpsk0", "XXpsk2"))
        assert failure(hub.greet(session(pinned=pin))) == "protocol"


class TestClearFrames:
    """Clear frames where they may not stand."""

    HELLO_FRAME, OFFER_FRAME = clear.hello_frame(HELLO), clear.offer_frame(offer())
    BUS_FRAME = bus("speak").to_json().encode()

    def in_state(self, state: str, **given: Any) -> ClientSession:
        client = session(psk=None, **given)
        if state == "ready":
            return connected(**given)[0]
        if state != "hello":
            client.receive_clear(self.HELLO_FRAME)
        if state in ("psk", "handshake"):
            client.receive_clear(self.OFFER_FRAME)
        if state == "handshake":
            client.provide_psk(PSK)
        assert client.state == state
        return client

    @pytest.mark.parametrize("state", ["hello", "offer", "psk", "handshake", "ready"])
    @pytest.mark.parametrize("data", [BUS_FRAME, b"", b"rubbish", b"\xff", "[]", b'{"msg_type":"hello"}'])
    def test_anything_else_ends_it_in_every_state(self, state: str, data: bytes | str) -> None:
        client = self.in_state(state)
        assert failure(client.receive_clear(data)) == "protocol"
        assert client.receive_clear(self.HELLO_FRAME) == []
        assert client.receive_sealed(b"x") == []
        assert client.provide_psk(PSK) == []

    @pytest.mark.parametrize("state", ["offer", "psk", "handshake", "ready"])
    def test_a_second_hello_means_that_the_hub_began_anew(self, state: str) -> None:
        assert failure(self.in_state(state).receive_clear(self.HELLO_FRAME)) == "restarted"

    @pytest.mark.parametrize("state", ["psk", "handshake", "ready"])
    def test_a_second_offer_means_the_same(self, state: str) -> None:
        assert failure(self.in_state(state).receive_clear(self.OFFER_FRAME)) == "restarted"

    def test_an_offer_before_the_hello(self) -> None:
        assert failure(self.in_state("hello").receive_clear(self.OFFER_FRAME)) == "protocol"

    @pytest.mark.parametrize("msg", ["", "zz", "abc", None, 1])
    def test_message_2_that_is_no_hex(self, msg: Any) -> None:
        data = json.dumps({"msg_type": "shake", "payload": {"noise": {"msg": msg}}})
        assert failure(self.in_state("handshake").receive_clear(data)) == "protocol"

    def test_a_frame_beyond_64_kib(self) -> None:
        assert failure(session().receive_clear(self.HELLO_FRAME.ljust(65_537))) == "too_large"

    @pytest.mark.parametrize("state", ["hello", "offer", "psk", "handshake"])
    def test_a_sealed_frame_before_the_handshake_is_done(self, state: str) -> None:
        assert failure(self.in_state(state).receive_sealed(bytes(40))) == "protocol"


class TestInSession:
    """Sealed messages."""

    def test_messages_both_ways(self) -> None:
        client, hub = connected()
        for size in (0, 10, 64_000, 200_000):
            message = bus("x", {"text": "é" * size}, {"request_id": "r"})
            assert hub.read(client.send(message)) == message
            outputs = [client.receive_sealed(frame) for frame in hub.seal(message.encode())]
            assert outputs.pop() == [Received(message)]
            assert outputs == [[]] * len(outputs)

    def test_binary_payloads_and_binary_messages(self) -> None:
        client, hub = connected()
        audio = BinaryFrame("bin", 6, {"lang": "en"}, b"\x00\x01")
        (frame,) = hub.seal(audio.encode(), binary=True)
        assert client.receive_sealed(frame) == [ReceivedBinary(audio)]
        compact = BinaryFrame("bus", payload={"type": "t", "data": {}, "context": {}}, compressed=True)
        (frame,) = hub.seal(compact.encode(), binary=True)
        assert client.receive_sealed(frame) == [Received(bus("t"))]

    def test_what_a_newer_hub_says_is_dropped(self) -> None:
        client, hub = connected()
        later = [
            (b'{"msg_type":"from-the-future","payload":{}}', False),
            (bytes.fromhex("96027b7d7b7d"), True),
            (HiveMessage("hello", {}).encode(), False),
            (HiveMessage("shake", {}).encode(), False),
        ]
        for body, binary in later:
            (frame,) = hub.seal(body, binary=binary)
            assert client.receive_sealed(frame) == []
        assert client.state == "ready"

    @pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"msg_type":"bus"}'])
    def test_a_message_that_is_none_ends_it(self, body: bytes) -> None:
        client, hub = connected()
        (frame,) = hub.seal(body)
        assert failure(client.receive_sealed(frame)) == "protocol"

    def test_limits(self) -> None:
        client, hub = connected(max_message=1000)
        (frame,) = hub.seal(bytes(1001))
        assert failure(client.receive_sealed(frame)) == "too_large"
        client, hub = connected(max_message=1000)
        bomb = BinaryFrame("bus", payload={"a": "x" * 5000}, compressed=True)
        (frame,) = hub.seal(bomb.encode(), binary=True)
        assert failure(client.receive_sealed(frame)) == "too_large"

    def test_repeated_swapped_and_altered_frames_end_it(self) -> None:
        for order in ((1,), (0, 0)):
            client, hub = connected()
            frames = hub.seal(bus("a").encode()) + hub.seal(bus("b").encode())
            for index in order[:-1]:
                client.receive_sealed(frames[index])
            assert failure(client.receive_sealed(frames[order[-1]])) == "protocol"
            assert client.receive_sealed(frames[0]) == []

    def test_a_hub_that_greets_anew_where_sealed_frames_are_due(self) -> None:
        for data in (clear.hello_frame(HELLO), clear.offer_frame(offer())):
            client, _ = connected()
            assert failure(client.receive_sealed(data)) == "restarted"

    def test_one_entrance_for_carriers_that_cannot_tell(self) -> None:
        client, hub = session(), ScriptedHub(HELLO, offer())
        client.receive(clear.hello_frame(HELLO))
        (first,) = client.receive(clear.offer_frame(hub.offered))
        hub.end(client.receive(hub.message_2(first)))
        (frame,) = hub.seal(bus("a").encode())
        assert client.receive(frame) == [Received(bus("a"))]
        assert failure(client.receive(clear.hello_frame(HELLO))) == "restarted"

    def test_what_cannot_be_sent_leaves_the_session_whole(self) -> None:
        client, hub = connected()
        with pytest.raises(MessageError):
            client.send(bus("x", {"n": 2**64}))
        assert hub.read(client.send(bus("fine"))) == bus("fine")


class TestRefusedInTheClear:
    """The hub's last word where it has no connection to close."""

    FRAME = clear.refusal_frame("paused", "this client is paused")

    @pytest.mark.parametrize("state", ["hello", "offer", "psk", "handshake", "ready"])
    @pytest.mark.parametrize("carrier", [{}, {"repeats": True}])
    def test_it_ends_the_session_in_every_state(self, state: str, carrier: Any) -> None:
        client = TestClearFrames().in_state(state, **carrier)
        refusal = clear.ClearRefusal("paused", "this client is paused")
        assert client.receive(self.FRAME) == [Failed("refused", "The hub refused (this client is paused).", refusal)]
        assert client.state == "failed"
        assert client.receive(self.FRAME) == []

    @pytest.mark.parametrize(("reason", "shown"), [("", "busy"), ("Later.", "Later"), ("\x1b[31m\nno", "[31m no")])
    def test_what_is_shown_of_it(self, reason: str, shown: str) -> None:
        (failed,) = session().receive(clear.refusal_frame("busy", reason))
        assert isinstance(failed, Failed) and failed.text == f"The hub refused ({shown})."

    @given(
        st.sampled_from(["hello", "offer", "psk", "handshake", "ready"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["code", "reason", "x"]), inner, max_size=3)
            ),
        ),
    )
    def test_garbage_in_it_is_a_protocol_error_as_any_other(self, state: str, refused: Any) -> None:
        payload = {"thalovant": {"refused": refused}}
        (failed,) = TestClearFrames().in_state(state).receive(clear.offer_frame(payload))
        assert isinstance(failed, Failed)
        assert failed.code == ("refused" if failed.refusal else "protocol")
        well_formed = isinstance(refused, dict) and all(isinstance(refused.get(key), str) for key in ("code", "reason"))
        assert well_formed or not failed.refusal

    def test_inside_a_sealed_frame_it_means_nothing(self) -> None:
        client, hub = connected()
        (frame,) = hub.seal(HiveMessage("shake", {"thalovant": {"refused": {"code": "x", "reason": "y"}}}).encode())
        assert client.receive(frame) == []
        assert client.state == "ready"


class TestRepeats:
    """A carrier that delivers at least once, and whose topic outlives sessions."""

    def test_the_whole_session_twice(self) -> None:
        client, hub = session(repeats=True), ScriptedHub(OURS, offer())
        hello, offered = clear.hello_frame(OURS), clear.offer_frame(hub.offered)
        assert [client.receive(frame) for frame in (hello, hello)] == [[], []]
        (first,) = client.receive(offered)
        assert [client.receive(frame) for frame in (hello, offered)] == [[], []]
        message_2 = hub.message_2(first)
        hub.end(client.receive(message_2))
        assert [client.receive(frame) for frame in (hello, offered, message_2)] == [[], [], []]
        assert not client.heard
        frames = hub.seal(bus("a").encode()) + hub.seal(bus("b").encode())
        assert [client.receive(frame) for frame in (frames[0], frames[0])] == [[Received(bus("a"))], []]
        assert [client.receive(frame) for frame in (frames[1], *frames)] == [[Received(bus("b"))], [], []]
        assert client.heard
        assert hub.read(client.send(bus("fine"))) == bus("fine")

    def test_a_hub_that_greets_anew_is_no_repetition(self) -> None:
        client, _ = connected(OURS, repeats=True)
        assert failure(client.receive(clear.hello_frame({**OURS, "peer": "another"}))) == "restarted"

    @pytest.mark.parametrize("frames", [[clear.hello_frame(HELLO)], [clear.offer_frame(offer())]])
    def test_other_hubs_greet_anew_in_the_same_words(self, frames: list[bytes]) -> None:
        client = session(repeats=True)
        hub = ScriptedHub(HELLO, offer())
        client.receive(clear.hello_frame(HELLO))
        (first,) = client.receive(clear.offer_frame(hub.offered))
        hub.end(client.receive(hub.message_2(first)))
        assert failure([output for frame in frames for output in client.receive(frame)]) == "restarted"

    def test_what_was_for_the_session_before_is_passed_over(self) -> None:
        _, before = connected(OURS)
        (late,) = before.seal(bus("late").encode())
        client, hub = session(repeats=True), ScriptedHub(OURS, offer())
        assert [client.receive(frame) for frame in (late, b"{}", b"")] == [[], [], []]
        client.receive(clear.hello_frame(OURS))
        (first,) = client.receive(clear.offer_frame(hub.offered))
        hub.end(client.receive(hub.message_2(first)))
        assert failure(client.receive(late)) == "protocol"

    def test_elsewhere_a_repetition_ends_it(self) -> None:
        client, hub = connected(OURS)
        (frame,) = hub.seal(bus("a").encode())
        client.receive(frame)
        assert failure(client.receive(frame)) == "protocol"


class TestMisuse:
    """Mistakes of the session's owner raise; they are not the hub's."""

    def test_sending_before_ready_and_after_failure(self) -> None:
        client = session()
        with pytest.raises(SessionError):
            client.send(bus("x"))
        client, _ = connected()
        client.receive_clear("x")
        with pytest.raises(SessionError):
            client.send(bus("x"))

    def test_a_key_nobody_asked_for_or_of_the_wrong_length(self) -> None:
        client = session(psk=None)
        with pytest.raises(SessionError):
            client.provide_psk(PSK)
        ScriptedHub(HELLO, offer()).greet(client)
        with pytest.raises(SessionError):
            client.provide_psk(b"short")
        assert len(client.provide_psk(PSK)) == 1


def test_the_clear_hello_of_mqtt_clients() -> None:
    frame = json.loads(clear_hello("s1", "kitchen"))
    assert frame["msg_type"] == "hello"
    assert frame["payload"] == {"pubkey": "", "session": {"session_id": "s1"}, "site_id": "kitchen"}
    assert list(frame) == list(HiveMessage("hello", {}).as_dict())


def test_no_secret_in_a_repr() -> None:
    client, _ = connected()
    for secret in (CLIENT, PSK):
        assert secret.hex() not in repr(client)
        assert repr(secret) not in repr(client)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60) | st.sampled_from([b"{}", b"[]"])), max_size=4))
def test_garbage_never_raises(frames: list[tuple[bool, bytes]]) -> None:
    for client in (session(), TestClearFrames().in_state("handshake"), connected()[0]):
        outputs = []
        for sealed, data in frames:
            outputs += client.receive_sealed(data) if sealed else client.receive_clear(data)
        assert [type(output) for output in outputs] == [Failed] * min(1, len(frames))


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers()))
def test_any_node_id_and_any_further_field_may_be_hashed(node_id: str, extra: dict[str, Any]) -> None:
    hello = {**extra, "node_id": node_id or "n"}
    try:
        connected(hello, psk={node_id or "n": PSK})
    except NoiseError as error:  # pragma: no cover
        raise AssertionError("both sides must hash the same") from error
