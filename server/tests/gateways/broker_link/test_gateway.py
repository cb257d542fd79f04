# SPDX-License-Identifier: Apache-2.0
"""The link without a broker: whose a message is, what is held for whom, and what follows from what, in any order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalovant.protocol.clear import clear_kind, parse_clear, refusal_of
from thalovant.protocol.mqtt.client_events import Arrived, NotTaken, Subscribed
from thalovant_server.brokers.names import Namespace
from thalovant_server.gateways.broker_link.gateway import BrokerLinkGateway
from thalovant_server.gateways.lane import Lanes
from thalovant_server.hub import refusal
from thalovant_server.hub.budget import ByteBudget
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.refusal import Refused
from thalovant_server.testing.directory import directory_of

CLIENTS = ("a", "b", "c")
LIMITS = Limits(out_bytes=50_000, out_frames=100)
HELLO = b'{"msg_type": "hello", "payload": {}}'
SHAKE = b'{"msg_type": "shake", "payload": {"noise": {"msg": "00"}}}'


class FakeSession:
    """Stands in for `hub.connection.Connection`."""

    def __init__(self, link: Any, credential: Any) -> None:
        self.link, self.credential = link, credential
        self.got: list[bytes] = []
        self.over = ""

    def receive_clear(self, data: bytes) -> None:
        self.got.append(data)

    receive_sealed = receive_clear

    def lost(self, why: str) -> None:
        assert not self.over
        self.over = why

    def end(self, why: refusal.Refusal) -> None:
        if not self.over:
            self.over = why.code
            self.link.close(why)


class FakeHub:
    """Stands in for `hub.hub.Hub`."""

    def __init__(self, directory: Any, share: int = 100_000) -> None:
        self.limits = LIMITS
        self.budget = ByteBudget(10_000_000, share=share)
        self.sessions: list[FakeSession] = []
        self.directory = directory
        self.noted: list[str] = []
        self.denials = SimpleNamespace(refused=lambda why, *_: self.noted.append(why.code))

    def budget_of(self, credential: Any) -> Any:
        return self.budget.share(credential.client_id)

    def admit(self, access_key: str, hub_id: str, carrier: str, remote: str, *, new: bool) -> Any:
        assert carrier == "mqtt" and remote == "broker:1" and not new
        found = self.directory.credential(access_key)
        if not found.active:
            raise Refused(refusal.PAUSED)
        return found

    def connect(self, link: Any, credential: Any, user_agent: str | None) -> FakeSession:
        self.sessions.append(FakeSession(link, credential))
        link.send_clear(HELLO)
        return self.sessions[-1]

    def live(self, name: str = "a") -> list[FakeSession]:
        return [each for each in self.sessions if not each.over and each.credential.client_name == name]


class FakeWire:
    """A connection with room for so many frames; it grants every subscription at once."""

    def __init__(self, link: BrokerLinkGateway, room: int = 10**9, largest: int = 10**9) -> None:
        self.link, self.room, self.largest = link, room, largest
        self.sent: list[tuple[bytes, bytes]] = []
        self.heard: set[bytes] = set()

    @property
    def has_room(self) -> bool:
        return self.room > 0

    def fits(self, topic: bytes, payload: bytes) -> bool:
        return len(payload) <= self.largest

    def publish(self, topic: bytes, payload: bytes) -> None:
        self.room -= 1
        self.sent.append((topic, payload))

    def subscribe(self, filters: Any) -> None:
        self.heard |= {topic for topic, _ in filters}
        self.link.happened(Subscribed(1, (1,) * len(filters)))

    def unsubscribe(self, filters: Any) -> None:
        self.heard -= set(filters)

    def take(self, topic: bytes = b"") -> list[bytes]:
        taken = [payload for name, payload in self.sent if name.startswith(topic)]
        self.sent = [each for each in self.sent if not each[0].startswith(topic)]
        return taken


class Bench:
    """A link with a wire, a fake hub and a directory."""

    def __init__(self, rig: SimpleNamespace, *, share: int = 100_000, lanes: Any = Lanes) -> None:
        self.rig = rig
        self.directory = directory_of([rig.hub()], [rig.credential(name) for name in CLIENTS])
        self.hub: Any = FakeHub(self.directory, share)
        self.link = BrokerLinkGateway(self.hub, self.directory, Namespace(), "broker:1", lanes=lanes())
        self.wire = FakeWire(self.link)
        self.link.connected(self.wire, session_present=False)
        self.number = 0

    def arrive(self, name: str, payload: bytes, segment: str = "in", **more: Any) -> None:
        self.number += 1
        topic = f"hubs/h1/clients/{name}/{segment}".encode()
        self.link.happened(Arrived(topic, payload, **{"packet_id": self.number, **more}))

    def say(self, name: str, *payloads: bytes, segment: str = "in", **more: Any) -> None:
        for payload in payloads:
            self.arrive(name, payload, segment, **more)
        self.link.settled()

    def ready(self, name: str = "a") -> FakeSession:
        self.say(name, HELLO, SHAKE)
        self.wire.take()
        return self.hub.live(name)[0]  # type: ignore[no-any-return]


def refusals(payloads: list[bytes]) -> list[str]:
    said = (refusal_of(parse_clear(each).payload) for each in payloads if clear_kind(each) == "shake")
    return [each.code for each in said if each is not None]


@pytest.fixture
def run(rig: SimpleNamespace) -> Any:
    """`run(main)`: with a bench of its own; what it took of the budget is given back in the end."""

    def running(main: Any, **fields: Any) -> None:
        async def everything() -> None:
            bench = Bench(rig, **fields)
            result = main(bench)
            if result is not None:
                await result
            bench.link.close()
            assert bench.hub.budget.used == 0 and bench.link.connections == 0 and not bench.link._clients

        asyncio.run(everything())

    return running


def test_a_hello_begins_a_session_and_idle_clients_are_forgotten(run: Any) -> None:
    def main(bench: Bench) -> None:
        assert bench.link._clients == {} and bench.link.clients == 3
        bench.ready()
        assert bench.link.connections == 1
        bench.say("a", b"online", b"offline", segment="status")
        assert bench.hub.sessions[0].over == "disconnected" and bench.link._clients == {}

    run(main)


def test_a_fault_of_ours_ends_one_session_and_no_other(run: Any) -> None:
    def fail(data: bytes) -> None:
        raise RuntimeError("a mistake")

    def main(bench: Bench) -> None:
        bench.ready("a")
        bench.ready("b")
        broken, whole = bench.hub.sessions
        broken.receive_sealed = fail  # type: ignore[method-assign]
        for client in ("a", "b"):
            bench.link.happened(Arrived(f"hubs/h1/clients/{client}/in".encode(), b"sealed"))
        bench.link.settled()
        assert (broken.over, whole.over, whole.got[-1]) == ("internal", "", b"sealed")
        assert list(bench.link._clients) == [b"hubs/h1/clients/b"]

    run(main)


def test_topics_of_nobody_and_of_no_meaning_are_passed_over(run: Any) -> None:
    def main(bench: Bench) -> None:
        bench.say("nobody", HELLO)
        bench.say("a", HELLO, segment="out")
        bench.link.happened(Arrived(b"", HELLO))
        bench.link.happened(Arrived(b"in", HELLO))
        bench.link.happened(Arrived(b"other/hubs/h1/clients/a/in", HELLO))
        bench.link.settled()
        assert bench.hub.sessions == [] and bench.wire.sent == [] and bench.link._clients == {}

    run(main)


def test_what_comes_again_is_dropped_and_a_hello_that_comes_first_is_not(run: Any) -> None:
    def main(bench: Bench) -> None:
        session = bench.ready()
        bench.say("a", b"sealed", packet_id=7)
        bench.say("a", b"sealed", packet_id=7, again=True)
        bench.say("a", HELLO, packet_id=1, again=True)
        assert session.got == [SHAKE, b"sealed"] and not session.over
        bench.say("a", b"never seen", packet_id=8, again=True)
        assert session.got[-1] == b"never seen"
        bench.say("a", HELLO, packet_id=9, again=True)
        assert session.over == "taken_over"

    run(main)


def test_a_refused_client_is_told_and_that_is_noted(run: Any) -> None:
    def main(bench: Bench) -> None:
        bench.directory.put_credential(bench.rig.credential("a", active=False))
        bench.say("a", HELLO, segment="c2s")
        assert refusals(bench.wire.take(b"hubs/h1/clients/a/s2c")) == ["paused"]
        assert bench.hub.noted == ["paused"] and bench.link._clients == {}

    run(main)


def test_frames_that_nobody_hears_end_the_session(run: Any) -> None:
    def main(bench: Bench) -> None:
        session = bench.ready()
        bench.link.happened(NotTaken(b"hubs/h1/clients/a/s2c", 0x10))
        assert not session.over  # another topic than the one it answers on
        bench.link.happened(NotTaken(b"hubs/h1/clients/nobody/out", 0x10))
        bench.link.happened(NotTaken(b"server/status", 0x10))
        bench.link.happened(NotTaken(b"hubs/h1/clients/a/out", 0x10))
        assert session.over == "disconnected" and bench.link._clients == {}

    run(main)


def test_a_frame_that_the_broker_is_too_small_for_ends_one_session_and_not_the_link(run: Any) -> None:
    def main(bench: Bench) -> None:
        bench.wire.largest = 1000
        one, other = bench.ready("a"), bench.ready("b")
        one.link.send_sealed([b"x" * 1001])
        assert one.over == "too_large" and not other.over
        assert refusals(bench.wire.take(b"hubs/h1/clients/a")) == ["too_large"]

    run(main)


def test_answers_that_the_broker_does_not_take_are_bounded_for_each_client(run: Any) -> None:
    """By bytes, by frames, and by what its client holds elsewhere."""

    def main(bench: Bench) -> None:
        one, other = bench.ready("a"), bench.ready("b")
        bench.wire.room = 0
        other.link.send_sealed([b"kept"])
        one.link.send_sealed([b"x" * 1000] * 40)
        assert not one.over
        one.link.send_sealed([b"x" * 1000] * 40)
        assert one.over == "busy" and not other.over
        assert bench.hub.budget.used < 1000
        again = bench.ready("c")
        again.link.send_sealed([b""] * 101)
        assert again.over == "busy"
        bench.wire.room = 100
        bench.link.settled()
        assert refusals(bench.wire.take(b"hubs/h1/clients/a")) == ["busy"]
        assert bench.wire.take(b"hubs/h1/clients/b") == [b"kept"]

    run(main)


def test_who_sends_more_than_is_worked_through_loses_its_session_and_nobody_else_does(run: Any) -> None:
    async def main(bench: Bench) -> None:
        one, other = bench.ready("a"), bench.ready("b")
        for number in range(12):
            bench.say("a", *[b"x" * 1000] * 3)
            bench.say("b", b"%d" % number)
        assert one.over == "busy" and not other.over
        assert refusals(bench.wire.take(b"hubs/h1/clients/a")) == ["busy"]
        while len(other.got) < 13:
            await asyncio.sleep(0)
        assert other.got[1:] == [b"%d" % number for number in range(12)]

    run(main, share=20_000, lanes=lambda: Lanes(rate=400, burst=4))


def test_a_broker_that_forgets_ends_every_session_and_each_is_told_once(run: Any) -> None:
    def main(bench: Bench) -> None:
        sessions = [bench.ready(name) for name in CLIENTS]
        bench.link.disconnected()
        assert not any(each.over for each in sessions)
        wire = FakeWire(bench.link)
        bench.link.connected(wire, session_present=False)
        assert {each.over for each in sessions} == {"connection_lost"}
        for name in CLIENTS:
            assert refusals(wire.take(f"hubs/h1/clients/{name}/out".encode())) == ["session_lost"]
        assert wire.sent == []

    run(main)


def test_only_the_first_link_tells_clients_that_were_there_before(run: Any) -> None:
    def main(bench: Bench) -> None:
        bench.ready("b")
        for name in ("a", "b"):
            bench.say(name, b"online", segment="status", retained=True)
        bench.say("c", b"offline", segment="status", retained=True)
        assert {topic for topic, _ in bench.wire.sent} == {b"hubs/h1/clients/a/out", b"hubs/h1/clients/a/s2c"}
        bench.wire.take()
        bench.link.disconnected()
        bench.link.connected(bench.wire, session_present=True)
        bench.say("a", b"online", segment="status", retained=True)
        assert bench.wire.sent == []

    run(main)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from(CLIENTS), st.sampled_from([HELLO, SHAKE, b"sealed", b"online"])),
        st.tuples(st.just("answer"), st.sampled_from(CLIENTS), st.integers(1, 3)),
        st.tuples(st.just("room"), st.just(""), st.integers(0, 3)),
        st.tuples(st.just("link"), st.just(""), st.sampled_from(["lost", "resumed", "fresh"])),
        st.tuples(st.just("gone"), st.sampled_from(CLIENTS), st.just(0)),
        st.tuples(st.just("hub"), st.just(""), st.booleans()),
        st.tuples(st.just("end"), st.sampled_from(CLIENTS), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=steps)
def test_in_any_order_there_is_one_session_each_and_its_answers_keep_their_order(
    rig: SimpleNamespace, taken: list[tuple[str, str, Any]]
) -> None:
    async def everything() -> None:
        bench = Bench(rig)
        wire, count = bench.wire, 0
        answers: dict[str, list[bytes]] = {name: [] for name in CLIENTS}
        for what, name, how in taken:
            if what == "say":
                bench.say(name, how, segment="status" if how == b"online" else "in")
            elif what == "answer":
                for session in bench.hub.live(name):
                    frames = [b"%d" % (count + each) for each in range(how)]
                    count += how
                    answers[name] += frames
                    session.link.send_sealed(frames)
            elif what == "room":
                wire.room = how
                bench.link.settled()
            elif what == "link":
                bench.link.disconnected()
                if how != "lost":
                    bench.link.connected(wire, session_present=how == "resumed")
            elif what == "gone":
                bench.link.happened(NotTaken(f"hubs/h1/clients/{name}/out".encode(), 0x10))
            elif what == "hub":
                bench.directory.put_hub(rig.hub(mqtt_via="link" if how else "embedded"))
            else:
                for session in bench.hub.live(name):
                    session.end(refusal.REVOKED)
            assert all(len(bench.hub.live(each)) <= 1 for each in CLIENTS)
            assert bench.link.connections == sum(len(bench.hub.live(each)) for each in CLIENTS)
        wire.room = 10**9
        bench.link.connected(wire, session_present=True)
        bench.link.settled()
        for name in CLIENTS:
            own = [data for topic, data in wire.sent if topic == f"hubs/h1/clients/{name}/out".encode()]
            sealed = [data for data in own if data.isdigit()]
            assert sealed == [data for data in answers[name] if data in set(sealed)]
        bench.link.close()
        assert bench.hub.budget.used == 0 and not bench.link._clients

    asyncio.run(everything())
