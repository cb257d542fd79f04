# SPDX-License-Identifier: Apache-2.0
"""Turns run once, within their deadline and in bounded numbers, whatever links do meanwhile."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.noise import generate_private_key
from thalovant_server.hub.limits import Limits

HANDLED = "ovos.utterance.handled"
TIMEOUT = "hive.query.timeout"


class Gate:
    """An agent that tells when it runs and goes on when it is let; `parts` are what it says."""

    name = "gate"

    def __init__(self, *parts):
        self.parts = parts or ("done",)
        self.runs, self.cancelled, self.most = [], 0, 0
        self.now = 0
        self.opened = asyncio.Event()
        self._changed = asyncio.Event()

    async def answer(self, request):
        self.runs.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        self._changed.set()
        try:
            yield self.parts[0]
            await self.opened.wait()
            for part in self.parts[1:]:
                yield part
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
            self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def close(self):
        pass


class Broken:
    name = "broken"

    def __init__(self, error=None, *parts):
        self.error, self.parts = error, parts

    async def answer(self, request):
        for part in self.parts:
            yield part
        if self.error is not None:
            raise self.error

    async def close(self):
        pass


@pytest.fixture
def gate():
    return Gate("one", "two")


def with_agent(run_rig, main, agent, **fields):
    run_rig(main, agent, agent=agent.name, **fields)


def test_parts_stream_to_one_and_are_gathered_for_the_other(run_rig, gate):
    async def main(rig):
        streaming = await rig.device(1).open().ready()
        gathering = await rig.device(2, handled=False).open().ready()
        streaming.ask("q")
        gathering.ask("q")
        await streaming.hears(1)
        assert (streaming.said, gathering.heard) == (["one"], [])
        gate.opened.set()
        await gathering.hears(3)
        await streaming.hears(3)
        assert streaming.types == gathering.types == ["speak", "speak", HANDLED]

    with_agent(run_rig, main, gate)


def test_the_request_says_who_asks(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q", "r1", session={"session_id": "s7"})
        device.ask("q2", "r2")
        await gate.until(lambda gate: len(gate.runs) == 2)
        first, second = gate.runs
        assert (first.text, first.lang, first.client_name, first.site_id) == ("q", "en-us", "name-1", "kitchen")
        private = hashlib.sha256(b"node-1:client-1").hexdigest()[:16]
        assert (first.session_id, second.session_id) == (f"{private}:s7", f"{private}:s1")
        assert (first.request_id, first.client_id) == ("r1", "client-1")
        assert "context" not in repr(first)

    with_agent(run_rig, main, gate)


def test_two_clients_that_choose_one_session_are_told_apart_and_hear_their_own(run_rig, gate):
    async def main(rig):
        gate.opened.set()
        one, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        for device in (one, other):
            device.ask("q", session={"session_id": "shared"})
            await device.hears(3)
            assert device.heard[0].payload["context"]["session"] == {"session_id": "shared"}
        first, second = gate.runs
        assert first.session_id != second.session_id
        assert first.session_id.endswith(":shared") and second.session_id.endswith(":shared")
        assert (first.client_id, second.client_id) == ("client-1", "client-2")

    with_agent(run_rig, main, gate)


@pytest.mark.parametrize("bad", ["a\nb", "\x1b[2J", "\x00", "x\u202ey", "", "y" * 257])
def test_names_that_could_fake_a_log_line_are_not_taken_over(run_rig, gate, bad):
    async def main(rig):
        gate.opened.set()
        device = await rig.device().open().ready()
        device.send(HiveMessage("hello", {"session": {"session_id": bad[:256]}, "site_id": bad[:256]}))
        device.ask("q", session={"session_id": bad})
        await device.hears(3)
        [request] = gate.runs
        expected = bad[:256] if bad.isprintable() and bad else "s1"
        assert request.session_id.split(":", 1)[1] == expected
        assert device.connection.session_id == expected
        assert request.site_id == device.connection.site_id == ("site" if bad else "kitchen")

    with_agent(run_rig, main, gate)


def test_the_same_ask_over_a_new_connection_joins_the_turn_that_runs(run_rig, gate):
    async def main(rig):
        key = generate_private_key()
        first = await rig.device(key=key).open().ready()
        first.ask("q", "r1")
        await first.hears(1)
        first.connection.lost()
        again = await rig.device(key=key).open().ready()
        again.ask("q", "r1", platform="another context")
        await again.hears(1)
        gate.opened.set()
        await again.hears(3)
        assert again.types == ["speak", "speak", HANDLED]
        assert again.heard[0].payload["context"]["platform"] == "another context"
        assert (len(gate.runs), gate.cancelled) == (1, 0)

    with_agent(run_rig, main, gate)


def test_the_same_ask_after_the_end_hears_the_same_answer_and_runs_nothing(run_rig, gate):
    async def main(rig):
        gate.opened.set()
        key = generate_private_key()
        first = await rig.device(key=key).open().ready()
        first.ask("q", "r1")
        await first.hears(3)
        again = await rig.device(key=key, handled=False).open().ready()
        again.ask("q", "r1")
        await again.hears(3)
        assert again.said == first.said
        assert len(gate.runs) == 1

    with_agent(run_rig, main, gate)


def test_other_content_another_client_or_a_forgotten_turn_is_a_new_one(run_rig, gate):
    async def main(rig):
        gate.opened.set()
        device, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        device.ask("q", "r1")
        await device.hears(3)
        device.ask("another q", "r1")
        await device.hears(6)
        other.ask("q", "r1")
        await other.hears(3)
        assert len(gate.runs) == 3
        rig.clock.advance(120 + 60 - 1)
        device.ask("q", "r1")
        await device.hears(9)
        assert len(gate.runs) == 3
        rig.clock.advance(2)
        assert rig.hub.runtime.remembered == 0
        assert rig.hub.budget.used == 0
        device.ask("q", "r1")
        await device.hears(12)
        assert len(gate.runs) == 4

    with_agent(run_rig, main, gate)


def test_the_deadline_ends_the_ask_and_stops_the_agent(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q", "r1", thalovant={"timeout_ms": 2500})
        await device.hears(1)
        rig.clock.advance(2.6)
        await device.hears(2)
        data = device.heard[-1].payload["data"]
        assert data == {
            "query_id": "r1",
            "error": "The agent did not answer within 2.5 seconds.",
            "code": "deadline",
        }
        await gate.until(lambda gate: gate.cancelled == 1)
        await asyncio.sleep(0)
        device.ask("q", "r1", thalovant={"timeout_ms": 2500})
        await device.hears(4)
        assert device.types == ["speak", TIMEOUT, "speak", TIMEOUT]
        assert len(gate.runs) == 1

    with_agent(run_rig, main, gate)


def test_a_client_cancels_its_own_ask_only(run_rig, gate):
    async def main(rig):
        device, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        device.ask("q", "r1")
        await device.hears(1)
        other.send(bus("thalovant.ask.cancel", {"request_id": "r1"}))
        device.send(bus("thalovant.ask.cancel", {"request_id": "unknown"}))
        assert not gate.cancelled
        device.send(bus("thalovant.ask.cancel", {"request_id": "r1"}))
        await device.hears(2)
        assert device.heard[-1].payload["data"]["code"] == "cancelled"
        await gate.until(lambda gate: gate.cancelled == 1)
        device.send(bus("thalovant.ask.cancel", {"request_id": "r1"}))

    with_agent(run_rig, main, gate)


def cancel(device, request_id="r1"):
    device.send(bus("thalovant.ask.cancel", {"request_id": request_id}))


def test_a_cancelled_ask_runs_again_when_it_is_asked_again(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q", "r1")
        await device.hears(1)
        cancel(device)
        device.ask("q", "r1")  # before the cancelled agent has had its last word
        await gate.until(lambda gate: gate.cancelled == 1 and len(gate.runs) == 2)
        gate.opened.set()
        await device.hears(5)
        assert device.types == ["speak", TIMEOUT, "speak", "speak", HANDLED]
        device.ask("q", "r1")
        await device.hears(8)
        assert len(gate.runs) == 2
        assert rig.hub.runtime.remembered == 1

    with_agent(run_rig, main, gate)


def test_nothing_of_a_cancelled_ask_is_remembered(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q", "r1")
        await device.hears(1)
        cancel(device)
        await gate.until(lambda gate: gate.now == 0)
        await asyncio.sleep(0)
        assert (rig.hub.runtime.remembered, rig.hub.budget.used, rig.clock.armed) == (0, 0, 0)

    with_agent(run_rig, main, gate)


def test_one_connections_cancel_leaves_the_answer_to_the_others(run_rig, gate):
    async def main(rig):
        key = generate_private_key()
        one = await rig.device(key=key, session_id="a").open().ready()
        other = await rig.device(key=key, session_id="b").open().ready()
        for device in (one, other):
            device.ask("q", "r1")
            await device.hears(1)
        cancel(one)
        await one.hears(2)
        assert one.heard[-1].payload["data"]["code"] == "cancelled"
        gate.opened.set()
        await other.hears(3)
        assert (other.types, one.types) == (["speak", "speak", HANDLED], ["speak", TIMEOUT])
        assert (len(gate.runs), gate.cancelled) == (1, 0)

    with_agent(run_rig, main, gate)


def test_a_cancel_over_a_new_connection_stops_what_only_a_lost_one_heard(run_rig, gate):
    async def main(rig):
        key = generate_private_key()
        first = await rig.device(key=key).open().ready()
        first.ask("q", "r1")
        await first.hears(1)
        first.connection.lost()
        cancel(await rig.device(key=key).open().ready())
        await gate.until(lambda gate: gate.cancelled == 1)

    with_agent(run_rig, main, gate)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), BaseException("odd")])
def test_no_error_of_an_agent_ends_the_loop(run_rig, error):
    async def main(rig):
        device = await rig.device().open().ready()
        for number in range(2):
            device.ask("q", f"r{number}")
            await device.hears(2 * number + 2)
        assert [m.payload["data"].get("code") for m in device.heard] == [None, "agent_failed"] * 2

    with_agent(run_rig, main, Broken(error, "before"))


@pytest.mark.parametrize("error", [ValueError("secret insides"), asyncio.CancelledError(), KeyError("x")])
def test_an_agent_that_raises_is_reported_without_its_insides(run_rig, error, capsys):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q", "r-77")
        await device.hears(2)
        assert device.types == ["speak", TIMEOUT]
        data = device.heard[-1].payload["data"]
        assert data["code"] == "agent_failed"
        assert "secret" not in data["error"]
        device.ask("still alive", "r2")
        await device.hears(4)

    with_agent(run_rig, main, Broken(error, "before"))
    assert "r-77" in capsys.readouterr().out


def test_text_that_cannot_be_sent_and_answers_without_end_are_failures(run_rig):
    for agent, code in ((Broken(None, "\ud800"), "agent_failed"), (Broken(None, *["x" * 300] * 9), "answer_too_long")):

        async def main(rig, code=code):
            device = await rig.device(handled=False).open().ready()
            device.ask("q")
            await device.hears(1)
            assert device.heard[0].payload["data"]["code"] == code

        with_agent(run_rig, main, agent, limits=Limits(answer_bytes=2000))


def test_a_client_runs_and_waits_in_bounded_numbers_and_in_order(run_rig, gate):
    async def main(rig):
        device, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        for number in range(6):
            device.ask("q", f"r{number}")
        await gate.until(lambda gate: len(gate.runs) == 2)
        [denied] = [m for m in device.heard if m.payload["type"] == "hive.policy.denied"] or [None]
        await device.until(lambda device: "hive.policy.denied" in device.types)
        denied = next(m for m in device.heard if m.payload["type"] == "hive.policy.denied")
        assert denied.payload["data"]["code"] == "too_many_requests"
        assert denied.payload["context"]["request_id"] == "r5"
        other.ask("q", "mine")
        await other.hears(1)
        gate.opened.set()
        await device.until(lambda device: device.types.count(HANDLED) == 5)
        assert [run.request_id for run in gate.runs if run.client_name == "name-1"] == [f"r{n}" for n in range(5)]
        assert gate.most == 3

    with_agent(run_rig, main, gate, limits=Limits(turns_running=2, turns_waiting=3))


def test_a_waiting_turn_can_be_cancelled_and_reaches_its_deadline(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        for number in range(3):
            device.ask("q", f"r{number}", thalovant={"timeout_ms": 1000 * (number + 1)})
        device.send(bus("thalovant.ask.cancel", {"request_id": "r1"}))
        await device.until(lambda device: TIMEOUT in device.types)
        rig.clock.advance(3.5)
        await device.until(lambda device: device.types.count(TIMEOUT) == 3)
        assert len(gate.runs) == 1
        await gate.until(lambda gate: gate.now == 0)

    with_agent(run_rig, main, gate, limits=Limits(turns_running=1))


def test_an_agent_serves_a_bounded_number_at_once(run_rig, gate):
    async def main(rig):
        devices = [await rig.device(number).open().ready() for number in range(1, 5)]
        for device in devices:
            device.ask("q")
        await gate.until(lambda gate: len(gate.runs) == 2)
        gate.opened.set()
        for device in devices:
            await device.hears(3)
        assert gate.most == 2

    with_agent(run_rig, main, gate, limits=Limits(agent_running=2))


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(run_rig, gate):
    async def main(rig):
        gate.opened.set()
        device, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        other.ask("q", "x")
        await other.hears(3)
        for number in range(4):
            device.ask("q", f"r{number}")
            await device.hears(3 * (number + 1))
        assert rig.hub.runtime.remembered == 3
        runs = len(gate.runs)
        device.ask("q", "r3")
        device.ask("q", "r2")
        await device.hears(18)
        assert len(gate.runs) == runs
        device.ask("q", "r1")
        other.ask("q", "x")
        await other.hears(6)
        assert len(gate.runs) == runs + 1

    limits = Limits(turns_remembered_per_client=2, turns_remembered=10)
    with_agent(run_rig, main, gate, limits=limits)


@pytest.mark.parametrize("limits", [Limits(turns_remembered=2), Limits(turns_remembered_bytes=3000)])
def test_the_memory_of_all_clients_is_bounded(run_rig, gate, limits):
    async def main(rig):
        gate.opened.set()
        for number in range(1, 6):
            device = await rig.device(number).open().ready()
            device.ask("q")
            await device.hears(3)
        assert rig.hub.runtime.remembered == 2

    with_agent(run_rig, main, gate, limits=limits)


def test_a_full_server_denies_instead_of_growing(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("x" * 20_000)
        await device.hears(1)
        assert device.heard[0].payload["data"]["code"] == "too_many_requests"
        assert rig.hub.budget.used == 0

    with_agent(run_rig, main, gate, limits=Limits(process_bytes=10_000))


class Wordy(Broken):
    """Answers every ask with 1000 letters."""

    def __init__(self):
        super().__init__(None, "x" * 1000)


def test_a_client_that_takes_its_share_is_denied_and_another_is_served(run_rig, gate):
    async def main(rig):
        greedy, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        also_greedy = await rig.device(1, key=greedy.session._static_private, carrier="mqtt").open().ready()
        for number in range(4):
            greedy.ask("x" * 30_000, f"r{number}")
        also_greedy.ask("x" * 30_000, "r4")
        await also_greedy.hears(1)
        assert also_greedy.heard[0].payload["data"]["code"] == "too_many_requests"
        assert rig.hub.budget_of(greedy.credential).used <= 128_000
        other.ask("x" * 30_000)
        await other.hears(1)
        assert other.said == ["one"]

    limits = Limits(client_bytes=100_000)
    with_agent(run_rig, main, gate, limits=limits, max_message=32_000)


def test_a_client_whose_share_is_full_of_answers_forgets_the_oldest(run_rig):
    async def main(rig):
        device = await rig.device(1).open().ready()
        for number in range(8):
            device.ask("q", f"r{number}")
            await device.hears(2 * number + 2)
        assert device.types == ["speak", HANDLED] * 8
        assert 1 <= rig.hub.runtime.remembered <= 4

    with_agent(run_rig, main, Wordy(), limits=Limits(client_bytes=9_000), max_message=2_000)


def test_an_answer_without_room_is_not_held_against_the_ask(run_rig, capsys):
    async def main(rig):
        device = await rig.device(1).open().ready()
        rest = rig.hub.limits.process_bytes - rig.hub.budget.used - 1_800
        others = rig.hub.budget.share("others", at_least=rest)
        assert others.take(rest)  # nearly everything
        device.ask("q", "r1")
        await device.hears(2)
        assert (device.types[-1], device.heard[-1].payload["data"]["code"]) == (TIMEOUT, "busy")
        others.give(rest)
        device.ask("q", "r1")  # at once: before the runtime has put the turn away
        await device.hears(4)
        assert device.types[2:] == ["speak", HANDLED]
        log = capsys.readouterr().out
        assert "no_room_for_answer" in log and "agent_failed" not in log

    with_agent(run_rig, main, Wordy(), limits=Limits(process_bytes=100_000))


def test_answers_are_remembered_in_bounded_bytes_for_each_client(run_rig):
    async def main(rig):
        device = await rig.device(1).open().ready()
        for number in range(8):
            device.ask("q", f"r{number}")
            await device.hears(2 * number + 2)
        assert rig.hub.runtime.remembered == 2
        assert rig.hub.budget_of(device.credential).used == rig.hub.budget.used <= 5_000

    with_agent(run_rig, main, Wordy(), limits=Limits(turns_remembered_bytes_per_client=5_000))


@pytest.mark.parametrize("handled", [True, False])
def test_a_long_answer_to_a_large_context_holds_neither_loop_nor_memory(run_rig, handled):
    async def main(rig):
        device = await rig.device(handled=handled).open().ready()
        sends, turns = [], 0

        def note(frames, send=device.send_sealed):
            sends.append((turns, sum(map(len, frames))))
            send(frames)

        device.send_sealed = note
        device.ask("q", pad="y" * 30_000)
        while HANDLED not in device.types:
            await asyncio.sleep(0)
            turns += 1
        assert " ".join(device.said).split() == [str(number) for number in range(1500)]
        assert sum(size for _, size in sends) < 8 << 20
        by_turn = {}
        for turn, size in sends:
            by_turn[turn] = by_turn.get(turn, 0) + size
        assert max(by_turn.values()) < 70 * 33_000

    with_agent(run_rig, main, Broken(None, *map(str, range(1500))))


def test_an_agent_that_never_waits_leaves_turns_to_the_others(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q")
        turns = 0
        while HANDLED not in device.types:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 1500 // rig.hub.limits.parts_at_once

    with_agent(run_rig, main, Broken(None, *map(str, range(1500))))


def test_stopping_waits_for_turns_and_then_ends_them_clearly(run_rig, gate):
    async def main(rig):
        device, late = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        device.ask("q", "r1")
        await device.hears(1)
        stopping = asyncio.create_task(rig.hub.stop(0.05))
        await asyncio.sleep(0)
        late.ask("q")
        await late.hears(1)
        assert late.heard[0].payload["data"]["code"] == "backend_unavailable"
        await stopping
        await device.hears(2)
        assert device.heard[-1].payload["data"]["code"] == "restart"
        assert rig.hub.runtime.running == 0
        assert rig.hub.budget.used == 0

    with_agent(run_rig, main, gate)


def test_stopping_lets_a_turn_end_that_ends_in_time(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q")
        await device.hears(1)
        stopping = asyncio.create_task(rig.hub.stop(5))
        await asyncio.sleep(0)
        gate.opened.set()
        await stopping
        await device.hears(3)
        assert device.types == ["speak", "speak", HANDLED]

    with_agent(run_rig, main, gate)


def test_stopping_lets_turns_end_that_waited_for_a_place(run_rig, gate):
    async def main(rig):
        device, other = await rig.device(1).open().ready(), await rig.device(2).open().ready()
        for number in range(4):
            device.ask("q", f"r{number}")
        other.ask("q")
        await gate.until(lambda gate: len(gate.runs) == 1)
        stopping = asyncio.create_task(rig.hub.stop(60))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.wait_for(stopping, 10)
        await device.hears(12)
        await other.hears(3)
        assert device.types == ["speak", "speak", HANDLED] * 4
        assert gate.cancelled == 0

    with_agent(run_rig, main, gate, limits=Limits(turns_running=1, agent_running=1))


def test_a_hurry_ends_the_drain_at_once(run_rig, gate):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("q", "r1")
        device.ask("q", "r2")
        await device.hears(1)
        hurry = asyncio.Event()
        stopping = asyncio.create_task(rig.hub.stop(3600, hurry))
        await asyncio.sleep(0)
        assert not stopping.done()
        hurry.set()
        await asyncio.wait_for(stopping, 10)
        await device.hears(3)
        assert sorted(m.payload["context"]["request_id"] for m in device.heard[1:]) == ["r1", "r2"]
        assert {m.payload["data"]["code"] for m in device.heard[1:]} == {"restart"}
        assert device.closed_with.code == "restart"

    with_agent(run_rig, main, gate, limits=Limits(turns_running=1))


def test_nothing_is_left_of_a_drain(run_rig, gate):
    async def main(rig):
        before = asyncio.all_tasks()
        await rig.hub.stop(3600, asyncio.Event())
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    with_agent(run_rig, main, gate)
