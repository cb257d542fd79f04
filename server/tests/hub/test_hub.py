# SPDX-License-Identifier: Apache-2.0
"""Admission, handshake, liveness of credentials and the road of an ask, with real sessions and no wire."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

import pytest
from structlog.testing import capture_logs

from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.noise import generate_private_key
from thalovant_server.directory import Permissions
from thalovant_server.errors import Overloaded, StorageError
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.refusal import Refused

HANDLED = "ovos.utterance.handled"


class Waiting:
    """An agent that never answers."""

    name = "waiting"

    def __init__(self):
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def answer(self, request):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        yield "never"

    async def close(self):
        pass


class Counting:
    """An agent that says which of its runs for a client this is; the first client's wait at the gate."""

    name = "counting"

    def __init__(self):
        self.begun, self.gate, self.runs = asyncio.Event(), asyncio.Event(), Counter()

    async def answer(self, request):
        self.runs[request.client_id] += 1
        run = self.runs[request.client_id]
        if request.client_id == "client-1":
            self.begun.set()
            await self.gate.wait()
        yield f"run {run} of {request.client_id}"

    async def close(self):
        pass


def refusal_of(rig, *arguments):
    with pytest.raises(Refused) as caught:
        rig.hub.admit(*arguments)
    return caught.value.refusal


def test_an_ask_is_answered_with_its_whole_context(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("hello", "r1", session={"session_id": "s9"}, own={"x": [1]})
        speak, handled = await device.hears(2)
        assert speak.payload["data"] == {
            "utterance": "hello",
            "lang": "en-us",
            "expect_response": False,
            "meta": {},
        }
        peer = "test/1::1::name-1::s1"
        assert speak.payload["context"] == {
            "request_id": "r1",
            "session": {"session_id": "s9"},
            "own": {"x": [1]},
            "source": "hive",
            "destination": peer,
        }
        assert speak.source_peer == peer
        assert handled.payload["type"] == HANDLED
        assert handled.payload["context"] == speak.payload["context"]

    run_rig(main)


def test_a_request_without_an_id_is_answered_every_time(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("hello", None)
        device.ask("hello", None)
        await device.hears(4)
        assert device.said == ["hello", "hello"]
        assert rig.hub.runtime.remembered == 0

    run_rig(main)


def test_the_hub_says_what_it_can_and_offers_kk_once_pinned(run_rig):
    async def main(rig):
        key = generate_private_key()
        first = await rig.device(key=key).open().ready()
        assert first.session.hub_hello["thalovant"] == {"server": "0", "capabilities": ["handled", "poll", "query"]}
        assert first.session.hub_hello["node_id"] == "node-1"
        assert first.connection.pattern == "XXpsk2"
        second = await rig.device(key=key, pinned=first.session.remote_static).open().ready()
        assert second.connection.pattern == "KKpsk0"

    run_rig(main)


def test_a_key_that_is_not_stretched_yet_is_waited_for(run_rig):
    async def main(rig):
        rig.credential(1, psk=None)
        device = await rig.device().open().ready()
        device.ask("hi")
        await device.hears(2)

    run_rig(main)


def test_frames_that_come_while_a_pin_is_committed_are_kept(run_rig):
    async def main(rig):
        rig.store.gate = asyncio.Event()
        device = await rig.device().open().until(lambda device: device.session.state == "ready")
        assert not device.connection.ready
        device.ask("early")
        assert rig.hub.budget.used > 0
        rig.store.gate.set()
        await device.hears(2)
        assert device.said == ["early"]
        assert device.connection.buffered == 0

    run_rig(main)


@pytest.mark.parametrize(
    ("error", "code"),
    [(Overloaded("full"), "busy"), (StorageError("disk"), "busy"), (RuntimeError("bug"), "internal")],
)
def test_what_keeps_the_server_from_going_on_is_no_refusal_of_the_credential(run_rig, error, code):
    async def main(rig):
        async def fail(_credential):
            raise error

        rig.credential(1, psk=None)
        rig.directory.psk = fail
        why = await rig.device().open().ends()
        assert why.code == code
        assert not why.of_credential

    run_rig(main)


def test_another_client_key_than_the_pinned_one_is_refused(run_rig):
    async def main(rig):
        await rig.device().open().ready()
        why = await rig.device().open().ends()
        assert (why.code, why.ws_code) == ("key_mismatch", 1008)

    run_rig(main)


def test_two_keys_that_race_for_one_pin(run_rig):
    async def main(rig):
        rig.store.gate = asyncio.Event()
        one, two = rig.device(session_id="a").open(), rig.device(session_id="b").open()
        for device in (one, two):
            await device.until(lambda device: device.session.state == "ready")
        rig.store.gate.set()
        await one.ready()
        await two.ready()
        assert sorted(device.connection.ready for device in (one, two)) == [False, True]

    run_rig(main)


def test_a_wrong_password_is_found_by_the_client(run_rig):
    async def main(rig):
        device = await rig.device(password="wrong").open().until(lambda device: device.failed)
        assert device.failed == "wrong_password"
        assert not device.connection.ready

    run_rig(main)


def test_a_handshake_that_takes_too_long_is_ended(run_rig):
    async def main(rig):
        device = rig.device()
        device.quiet = True
        device.open()
        rig.clock.advance(19.9)
        assert device.closed_with is None
        rig.clock.advance(0.2)
        assert (device.closed_with.code, device.closed_with.of_credential) == ("handshake_timeout", False)
        assert rig.hub.connections == 0

    run_rig(main)


def test_a_finished_handshake_leaves_no_timer(run_rig):
    async def main(rig):
        await rig.device().open().ready()
        assert rig.clock.armed == 0

    run_rig(main)


def test_who_is_not_admitted(run_rig):
    async def main(rig):
        rig.put_hub("h2")
        rig.credential(1)
        rig.credential(2, hub_id="h2")
        rig.credential(3, active=False)
        unknown = refusal_of(rig, "nobody", "h1", "wss")
        foreign = refusal_of(rig, "key-2", "h1", "wss")
        assert (unknown.code, foreign.code) == ("unknown_key", "wrong_hub")
        outside = [(each.reason, each.ws_code, each.http_status, each.connack) for each in (unknown, foreign)]
        assert outside[0] == outside[1]
        assert refusal_of(rig, "key-2", None, "wss").code == "wrong_hub"
        assert refusal_of(rig, "key-1", "no-such-hub", "wss").code == "wrong_hub"
        assert refusal_of(rig, "key-3", "h1", "wss").code == "paused"
        assert rig.hub.admit("key-1", None, "wss").id == 1
        rig.put_hub("h1", protocols={"mqtt"})
        assert refusal_of(rig, "key-1", "h1", "wss").code == "protocol_off"
        assert rig.hub.admit("key-1", "h1", "mqtt").id == 1
        rig.put_hub("h1", active=False)
        assert refusal_of(rig, "key-1", "h1", "mqtt").code == "hub_off"

    run_rig(main)


def test_a_removed_client_is_cut_at_once_and_nobody_else(run_rig):
    async def main(rig):
        one, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        rig.directory.remove_client("client-1")
        assert one.closed_with.code == "revoked"
        assert other.closed_with is None
        assert rig.hub.connections_of("client-1") == []
        assert rig.hub.connections_of("client-2") == [other.connection]

    run_rig(main)


def test_a_client_removed_in_the_middle_of_its_handshake_is_cut(run_rig):
    async def main(rig):
        rig.store.gate = asyncio.Event()
        device = await rig.device().open().until(lambda device: device.session.state == "ready")
        rig.directory.remove_client("client-1")
        assert device.closed_with.code == "revoked"
        rig.store.gate.set()

    run_rig(main)


def test_a_client_whose_removal_is_committed_but_not_told_yet_is_revoked_and_no_mismatch(run_rig):
    async def main(rig):
        async def gone(_credential_id, _key):
            return None

        rig.store.pin_key = gone
        why = await rig.device().open().ends()
        assert why.code == "revoked"

    run_rig(main)


def test_a_turn_is_one_for_both_credentials_of_a_client(run_rig):
    async def main(rig):
        old, new = (rig.device(number=rig.credential(number, client_id="client-1").id) for number in (1, 2))
        other = await rig.device(3).open().ready()
        await old.open().ready()
        old.ask("hello", "r1")
        await agent.begun.wait()
        await new.open().ready()
        new.ask("hello", "r1")
        other.ask("hello", "r1")
        await other.hears(2)
        rig.directory.remove_credential(1)  # the grace is over in the middle of the turn
        assert (await old.ends()).code == "revoked"
        agent.gate.set()
        await new.hears(2)
        assert new.said == ["run 1 of client-1"] and not old.said

    agent = Counting()
    run_rig(main, agent, agent="counting")


def test_what_is_used_is_noted_at_the_begin_and_the_end_of_ready_sessions(run_rig):
    async def main(rig):
        noted = rig.uses
        first = rig.device(1, carrier="mqtt").open()
        assert not noted
        await first.ready()
        assert noted == [(1, "mqtt", "192.0.2.1")]
        unfinished = rig.device(2, carrier="https").open()
        unfinished.connection.lost()
        first.connection.lost()
        assert noted == [(1, "mqtt", "192.0.2.1")] * 2

    run_rig(main)


def test_a_carrier_that_is_turned_off_ends_its_own_sessions_only(run_rig):
    async def main(rig):
        key = generate_private_key()
        wss = await rig.device(carrier="wss", key=key).open().ready()
        mqtt = await rig.device(carrier="mqtt", key=key).open().ready()
        rig.put_hub("h1", protocols={"mqtt"})
        assert wss.closed_with.code == "protocol_off"
        assert mqtt.closed_with is None
        rig.directory.remove_hub("h1")
        assert mqtt.closed_with is not None

    run_rig(main)


def test_permissions_are_those_of_now(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        entry = rig.directory.credential("key-1")
        rig.directory.put_credential(dataclasses.replace(entry, permissions=Permissions(frozenset())))
        device.ask("hi", "r7")
        [denied] = await device.hears(1)
        assert denied.payload["type"] == "hive.policy.denied"
        assert denied.payload["data"]["code"] == "acl_disallowed_type"
        assert denied.payload["context"] == {
            "source": "hub",
            "destination": device.connection.peer,
            "request_id": "r7",
        }
        assert device.closed_with is None

    run_rig(main)


FOR_OTHERS = HiveMessage("broadcast", bus("x", {}, {"request_id": "r"}).as_dict())


def test_a_frame_kind_without_its_grant_ends_the_connection_with_4003(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.send(FOR_OTHERS)
        assert device.closed_with.ws_code == 4003
        assert device.closed_with.reason == "BROADCAST is not allowed for this client"

    run_rig(main)


def test_a_client_that_announces_that_it_hears_denials_hears_one_and_stays(run_rig):
    async def main(rig):
        device = await rig.device(announced=("handled", "denials")).open().ready()
        device.send(FOR_OTHERS)
        device.ask("still here")
        await device.hears(3)
        assert device.heard[0].payload["data"]["code"] == "not_granted"
        assert device.heard[0].payload["context"]["request_id"] == "r"
        assert device.said == ["still here"]

    run_rig(main)


def test_a_granted_kind_is_denied_and_the_session_goes_on(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.send(HiveMessage("propagate", bus("x").as_dict()))
        device.ask("still here")
        await device.hears(3)
        assert device.heard[0].payload["data"]["code"] == "unsupported_frame"
        assert device.said == ["still here"]

    run_rig(main)


def query(text, query_id, request_id="r1", **context):
    inner = bus("recognizer_loop:utterance", {"utterances": [text]}, {"request_id": request_id, **context})
    return HiveMessage("query", inner.as_dict(), metadata={"query_id": query_id})


def answers(device, query_id):
    """The bus messages in the `query` frames of that id."""
    frames = [each for each in device.heard if each.msg_type == "query" and each.metadata["query_id"] == query_id]
    return [frame.nested().payload for frame in frames]


@pytest.mark.parametrize("handled", [True, False])
def test_a_query_is_answered_in_query_frames(run_rig, handled):
    async def main(rig):
        device = await rig.device(handled=handled).open().ready()
        device.send(query("hi", "q1"))
        await device.hears(2)
        assert [(each["type"], each["context"]["query_id"]) for each in answers(device, "q1")] == [
            ("speak", "q1"),
            ("hive.query.complete", "q1"),
        ]
        metadata = device.heard[0].metadata
        assert metadata["is_response"] is True
        assert (metadata["originator_peer"], metadata["responder_peer"]) == (device.connection.peer, "node-1")

    run_rig(main)


def test_a_denied_query_hears_it_in_its_own_frame_and_on_the_bus(run_rig):
    async def main(rig):
        rig.credential(permissions=Permissions(allowed_types=frozenset()))
        device = await rig.device().open().ready()
        device.send(query("hi", "q1"))
        own, plain = await device.hears(2)
        (refused,) = answers(device, "q1")
        assert refused == plain.payload
        assert own.metadata["query_id"] == "q1"
        assert (refused["type"], refused["data"]["code"]) == ("hive.policy.denied", "acl_disallowed_type")
        assert refused["context"]["request_id"] == "r1"

    run_rig(main)


def test_a_query_is_cancelled_by_its_request_id(run_rig):
    agent = Waiting()

    async def main(rig):
        device = await rig.device().open().ready()
        device.send(query("hi", "q1"))
        await agent.begun.wait()
        device.send(bus("thalovant.ask.cancel", {"request_id": "r1"}))
        await device.hears(1)
        (end,) = answers(device, "q1")
        assert (end["type"], end["data"]["code"], end["data"]["query_id"]) == ("hive.query.timeout", "cancelled", "q1")
        await agent.cancelled.wait()

    run_rig(main, agent, agent=agent.name)


def test_binary_malformed_ping_and_rendezvous(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        # No client of ours sends binary, so its writer is used directly.
        for frame in device.session._writer.seal(BinaryFrame("bin", 1, {}, b"abc").encode(), binary=True):
            device.connection.receive_sealed(frame)
        device.send(HiveMessage("bus", {"type": 7}))
        device.send(HiveMessage("ping", {}))
        device.send(HiveMessage("rendezvous", {}))
        binary, malformed, rendezvous = await device.hears(3)
        assert binary.payload["data"]["code"] == "unsupported_frame"
        assert malformed.payload["data"]["code"] == "malformed_payload"
        assert rendezvous.payload == {
            "status": "error",
            "reason": "not_a_rendezvous_node",
            "mailbox_node": "node-1",
        }
        assert device.closed_with is None

    run_rig(main)


def test_rubbish_after_the_handshake_ends_only_this_session(run_rig):
    async def main(rig):
        one, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        one.connection.receive_sealed(b"x" * 100)
        assert (one.closed_with.code, one.closed_with.ws_code) == ("decrypt", 1002)
        one.connection.receive_sealed(b"more")
        other.ask("hi")
        await other.hears(2)

    run_rig(main)


def test_clear_text_after_the_handshake_ends_the_session(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.connection.receive_clear(b'{"msg_type": "hello", "payload": {}}')
        assert device.closed_with.ws_code == 1002

    run_rig(main)


def test_rubbish_before_the_handshake_is_no_refusal_of_the_credential(run_rig):
    async def main(rig):
        for rubbish in (b"", b"\xff", b"[1]", b'{"msg_type": "bus", "payload": {}}'):
            device = rig.device()
            device.quiet = True
            device.open()
            device.connection.receive_clear(rubbish)
            assert device.closed_with.ws_code == 1002

    run_rig(main)


def test_a_message_over_the_hubs_bound_ends_the_session(run_rig):
    async def main(rig):
        rig.put_hub("h1", max_message=100_000)
        device = await rig.device().open().ready()
        device.ask("x" * 200_000)
        assert (device.closed_with.code, device.closed_with.ws_code) == ("too_large", 1009)
        assert rig.hub.budget.used == 0

    run_rig(main)


def test_the_process_budget_ends_the_one_who_passes_it(run_rig):
    async def main(rig):
        device = await rig.device(1).open().ready()
        other = await rig.device(2).open().ready()
        frames = device.session.send(bus("x", {"text": "y" * 400_000}))
        for frame in frames[:-1]:
            device.connection.receive_sealed(frame.frame)
        assert device.closed_with.code == "busy"
        assert rig.hub.budget.used == 0
        other.ask("hi")
        await other.hears(2)

    run_rig(main, limits=Limits(process_bytes=200_000))


def test_peers_of_one_name_are_told_apart_and_hear_their_own(run_rig):
    async def main(rig):
        key = generate_private_key()
        one, two = await rig.device(key=key).open().ready(), await rig.device(key=key).open().ready()
        assert one.connection.peer == "test/1::1::name-1::s1"
        assert two.connection.peer.startswith("test/1::1::name-1::s1::")
        one.ask("from one", "r1")
        two.ask("from two", "r2")
        await one.hears(2)
        await two.hears(2)
        assert (one.said, two.said) == (["from one"], ["from two"])

    run_rig(main)


def test_on_mqtt_the_access_key_begins_the_peer_name(run_rig):
    async def main(rig):
        device = await rig.device(carrier="mqtt").open(None).ready()
        assert device.connection.peer.startswith("key-1::1::name-1::")

    run_rig(main)


def test_unfinished_sessions_displace_only_unfinished_ones(run_rig):
    async def main(rig):
        ready = await rig.device().open().ready()
        stalled = []
        for _ in range(3):
            device = rig.device()
            device.quiet = True
            stalled.append(device.open())
        assert stalled[0].closed_with.code == "replaced"
        assert [device.closed_with for device in (ready, *stalled[1:])] == [None, None, None]

    run_rig(main, limits=Limits(unfinished_per_credential=2))


def test_one_ready_session_too_many_displaces_the_most_silent_of_its_own(run_rig):
    async def main(rig):
        key = generate_private_key()
        devices = []
        for _ in range(3):
            devices.append(await rig.device(key=key).open().ready())
            rig.clock.advance(1)
            if len(devices) == 2:
                devices[0].send(HiveMessage("ping", {}))
        assert [device.closed_with and device.closed_with.code for device in devices] == [
            None,
            "too_many_connections",
            None,
        ]

    run_rig(main, limits=Limits(sessions_per_credential=2))


def test_a_hub_whose_agent_is_gone_says_so(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("hi", "r1")
        [denied] = await device.hears(1)
        assert denied.payload["data"]["code"] == "backend_unavailable"
        assert denied.payload["context"]["request_id"] == "r1"

    run_rig(main, agent="no-such-agent")


def test_going_down_tells_everybody(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("last")
        await rig.hub.stop(1)
        await device.hears(2)
        assert device.said == ["last"]
        assert (device.closed_with.code, device.closed_with.ws_code) == ("restart", 1012)
        assert refusal_of(rig, "key-1", "h1", "wss").code == "restart"
        assert rig.hub.connections == 0

    run_rig(main)


def test_no_session_begins_while_asks_end_even_on_a_link_that_was_admitted_before(run_rig):
    async def main(rig):
        device = rig.device(carrier="mqtt")
        admitted = rig.hub.admit("key-1", "h1", "mqtt")
        await rig.hub.stop(0)
        with pytest.raises(Refused) as caught:
            rig.hub.connect(device, admitted, None)
        assert caught.value.code == "restart"
        assert rig.hub.connections == 0
        assert device.inbox == []

    run_rig(main)


def test_nothing_secret_in_a_repr(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        assert "key-1" not in repr(device.connection)
        assert "client-1" in repr(device.connection)

    run_rig(main)


def test_a_long_first_ask_is_kept_while_the_first_pin_is_committed(run_rig):
    async def main(rig):
        rig.store.gate = asyncio.Event()
        device = await rig.device(carrier="mqtt").open().until(lambda device: device.session.state == "ready")
        device.ask("x" * 300_000)
        assert rig.hub.budget_of(device.credential).used > 300_000
        rig.store.gate.set()
        await device.hears(2)
        assert device.said == ["x" * 300_000]

    run_rig(main)


def begun(device, size=400_000):
    """The frames of a long message, and all but the last of them sent."""
    frames = [output.frame for output in device.session.send(bus("x", {"text": "y" * size}))]
    for frame in frames[:-1]:
        device.connection.receive_sealed(frame)
    return frames


def test_a_message_that_was_begun_and_does_not_grow_ends_the_session(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        begun(device)
        rig.clock.advance(29)
        assert device.closed_with is None
        rig.clock.advance(2)
        assert (device.closed_with.code, device.closed_with.of_credential) == ("unresponsive", False)
        assert (rig.hub.budget.used, rig.clock.armed) == (0, 0)

    run_rig(main)


def test_a_message_that_grows_slowly_is_waited_for(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        for output in device.session.send(bus("x", {"text": "y" * 400_000})):
            rig.clock.advance(25)
            device.connection.receive_sealed(output.frame)
        await device.hears(1)
        assert rig.clock.armed == 1  # for the number of denials like this one
        rig.clock.advance(100)
        assert device.closed_with is None
        begun(device)
        rig.clock.advance(15)
        device.connection.touch()  # a sign of life is no growth
        rig.clock.advance(16)
        assert device.closed_with.code == "unresponsive"

    run_rig(main)


def test_a_link_lost_within_a_message_leaves_no_timer(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        begun(device)
        device.connection.lost()
        assert (rig.hub.budget.used, rig.clock.armed) == (0, 0)

    run_rig(main)


def test_a_flood_of_denials_is_not_a_flood_of_lines(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        with capture_logs() as lines:
            for _ in range(200):
                device.send(bus("not.allowed"))
            await device.hears(200)
            assert [line["event"] for line in lines] == ["denied"]
            await rig.hub.stop(0)
        assert {"event": "denied_again", "times": 199}.items() <= lines[-1].items()

    run_rig(main)
