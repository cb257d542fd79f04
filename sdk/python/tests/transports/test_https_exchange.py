# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier towards a hub of ours, against a scripted one: frames in order, once, whatever breaks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from thalovant.protocol.exchange import MAX_FRAMES, write_answer
from thalovant.transports import http_line, https_exchange
from thalovant.transports.https_polling import MAX_WAITING

HELLO = "hello of the hub"


@pytest.fixture
def exchanging(play_https: Any) -> Any:
    """`exchanging(scene)`: as `play_https`, with a carrier that is open and up, and a hub that holds its request."""

    def exchanging(scene: Any, *, up: bool = True, first: bytes = b"", **options: Any) -> None:
        async def begin(transport: Any, hub: Any, watcher: Any) -> None:
            hear = watcher.on_frame

            def on_frame(data: bytes | str, sealed: bool | None) -> None:
                if data == HELLO:  # as the link does when it has read it
                    transport.announced(frozenset({"handled", "poll"}))
                    if first:
                        transport.send_clear(first)
                else:
                    hear(data, sealed)

            hub.answers["get_messages"] = [{"messages": [HELLO]}]
            await transport.open(on_frame, watcher.losses.put_nowait)
            if up:
                await hub.until(lambda hub: hub.held)  # it waits for the handshake
                transport.ready()
                hub.say((False, b"up"))
                assert await watcher.frame() == (b"up", False)
                await hub.until(lambda hub: hub.held and hub.exchanges[-1].next == 1)
            await scene(transport, hub, watcher)

        play_https(begin, **options)

    return exchanging


def sent(hub: Any) -> list[bytes]:
    return [data for _, data in hub.taken]


async def hears(watcher: Any, count: int) -> list[bytes]:
    return [(await watcher.frame())[0] for _ in range(count)]


def test_what_is_sent_and_said_takes_one_request(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        before = len(hub.exchanges)
        for number in range(5):
            transport.send_sealed([b"ask %d" % number])
            await hub.until(lambda hub, number=number: len(hub.taken) > number and len(hub.held) == 2)
            hub.say((True, b"answer %d" % number))
            assert await hears(watcher, 1) == [b"answer %d" % number]
        assert sent(hub) == [b"ask %d" % number for number in range(5)]
        assert len(hub.exchanges) == before + 5 and len(hub.held) == 1
        assert hub.names().count("get_messages") == 1 and "send_message" not in hub.names()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(https_exchange, "LINGER", 60.0)
        exchanging(scene, run=run)


def test_the_hub_may_speak_unasked(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        for number in range(5):
            await hub.until(lambda hub: hub.held)
            hub.say((True, b"%d" % number), (False, b"!"))
            assert [await watcher.frame(), await watcher.frame()] == [(b"%d" % number, True), (b"!", False)]
        assert all(exchange.wait == 25_000 for exchange in hub.exchanges)

    exchanging(scene, run=run)


def test_what_is_sent_does_not_wait_for_what_the_hub_holds(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        for number in range(3):
            transport.send_sealed([b"%d" % number])
            await hub.until(lambda hub, number=number: len(hub.taken) > number)
        assert len(hub.held) >= 1 and watcher.losses.empty()
        assert {exchange.wait for exchange in hub.exchanges if exchange.frames} == {5}

    exchanging(scene, run=run)


def test_what_a_turn_of_the_loop_sends_leaves_in_one_request(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        transport.send_clear(b"one")
        transport.send_sealed([b"two", b"three"])
        await hub.until(lambda hub: hub.taken)
        assert hub.taken == [(False, b"one"), (True, b"two"), (True, b"three")]

    exchanging(scene, run=run)


def test_before_the_session_is_up_one_line_is_enough(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await hub.until(lambda hub: hub.held)
        assert hub.exchanges[-1].wait == 25_000
        hub.say((False, b"message 2"))
        assert await hears(watcher, 1) == [b"message 2"]
        assert hub.connections == 1
        transport.send_clear(b"message 3")
        transport.send_sealed([b"hello"])
        transport.ready()
        await hub.until(lambda hub: len(hub.taken) == 3 and hub.held)
        assert sent(hub) == [b"message 1", b"message 3", b"hello"] and hub.connections == 2
        assert hub.seen[-1][2]["cookie"] == "hivemind_http_replica=r1"

    exchanging(scene, up=False, first=b"message 1", run=run)


def test_the_lines_take_turns_in_holding(exchanging: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https_exchange, "HOLD", 0.02)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        lines = transport._admission.mode._lines
        before = [line.reads for line in lines]
        count = len(hub.exchanges)
        await hub.until(lambda hub: len(hub.exchanges) > count + 6)
        gained = [line.reads - was for line, was in zip(lines, before, strict=True)]
        assert min(gained) >= 2 and hub.connections == 2

    exchanging(scene, run=run)


def test_many_frames_leave_in_several_requests(exchanging: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https_exchange, "BODY_BYTES", 1000)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        frames = [b"%d" % number for number in range(MAX_FRAMES + 10)] + [b"x" * 5000, b"y" * 400, b"z" * 400, b"end"]
        transport.send_sealed(frames)
        assert transport.congested
        await transport.drain()
        assert not transport.congested
        await hub.until(lambda hub: len(hub.taken) == len(frames))
        assert sent(hub) == frames
        for exchange in hub.exchanges:
            assert len(exchange.frames) <= MAX_FRAMES
            assert len(exchange.frames) <= 1 or sum(len(data) + 5 for _, data in exchange.frames) <= 1000

    exchanging(scene, run=run)


def test_everything_queued_is_sent_before_the_goodbye(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        frames = [b"%d" % number for number in range(MAX_WAITING + MAX_FRAMES)]
        transport.send_sealed(frames)
        await transport.close()
        assert sent(hub) == frames
        assert hub.names()[-1] == "disconnect" and hub.names().count("disconnect") == 1
        assert watcher.losses.empty()
        await transport.close()

    exchanging(scene, run=run)


def test_a_goodbye_to_a_hub_that_is_silent_takes_a_second_at_most(exchanging: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https_exchange, "CLOSE_PATIENCE", 0.1)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [hub.SILENCE]
        transport.send_sealed([b"x"])
        async with asyncio.timeout(5):
            await transport.close()
        assert watcher.losses.empty()

    exchanging(scene, run=run)


def test_a_goodbye_that_is_cut_short_leaves_nothing(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.answers["disconnect"] = [hub.SILENCE]
        closing = asyncio.create_task(transport.close())
        await hub.asked("disconnect")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    exchanging(scene, run=run)


# -- what breaks


@pytest.mark.parametrize("fault", ["refuse", "lose", "half"])
def test_a_send_whose_connection_breaks_is_sent_again(exchanging: Any, run: Any, fault: str) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [fault]
        transport.send_sealed([b"once"])
        await hub.until(lambda hub: hub.taken and hub.exchanges[-1].again)
        hub.say((True, b"answer"))
        assert await hears(watcher, 1) == [b"answer"]
        transport.send_sealed([b"more"])
        await hub.until(lambda hub: len(hub.taken) > 1)
        assert sent(hub) == [b"once", b"more"] and watcher.losses.empty()

    exchanging(scene, run=run)


@pytest.mark.parametrize("fault", ["refuse", "lose", "half"])
def test_an_answer_whose_connection_breaks_is_asked_for_again(exchanging: Any, run: Any, fault: str) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [fault]  # of the request that is held next
        hub.say((True, b"first"))
        assert await hears(watcher, 1) == [b"first"]
        await hub.until(lambda hub: not hub.faults and hub.held)
        hub.say((True, b"second"))
        assert await hears(watcher, 1) == [b"second"]
        await hub.until(lambda hub: hub.held)
        hub.say((True, b"third"))
        assert await hears(watcher, 1) == [b"third"]
        assert any(exchange.again for exchange in hub.exchanges)
        assert watcher.frames.empty() and watcher.losses.empty()

    exchanging(scene, run=run)


def test_what_breaks_twice_loses_the_link(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = ["lose", "lose"]
        transport.send_sealed([b"x"])
        loss = await watcher.loss()
        assert "broke" in loss.text and not loss.refused
        transport.send_sealed([b"into the void"])
        transport.check(1.0)
        await transport.drain()
        assert sent(hub) == [b"x"]

    exchanging(scene, run=run)


def test_a_hub_that_vanishes_loses_the_link(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        await hub.__aexit__()
        assert "Nothing listens" in (await watcher.loss()).text
        assert watcher.losses.empty()

    exchanging(scene, run=run)


def test_a_hub_that_does_not_answer_loses_the_link(exchanging: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(http_line, "SLOWEST", 1e9)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [hub.SILENCE]
        transport.send_sealed([b"x"])
        assert "within 0.2 s" in (await watcher.loss()).text

    exchanging(scene, run=run, send_timeout=0.2)


def test_one_that_answers_in_its_own_time_does_not(exchanging: Any, run: Any, monkeypatch: Any) -> None:
    """What the hub may take for an answer is no silence."""
    monkeypatch.setattr(https_exchange, "HOLD", 0.5)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        count = len(hub.exchanges)
        await hub.until(lambda hub: len(hub.exchanges) > count + 1)
        assert watcher.losses.empty()

    exchanging(scene, run=run, send_timeout=0.2)


@pytest.mark.parametrize(
    ("fault", "refused", "said"),
    [
        ((403, {"error": "this credential was revoked"}), True, "403"),
        ((401, {}), True, "401"),
        ((503, {"error": "the server is going down"}), False, "busy"),
        ((409, {"error": "Client is not connected"}), False, "Client is not connected"),
        ((409, {"detail": "connect again"}), False, "connect again"),
        ((302, b""), False, "302"),
        ((200, b""), False, "cannot be read"),
        ((200, b"\x00" * 8 + b"\x00\x00\x00\x09\x01x"), False, "cannot be read"),
        ((200, write_answer(0, [(True, b"")] * (MAX_FRAMES + 1))), False, "at most 256"),
        (b"rubbish\r\n\r\n", False, "cannot be read"),
        (b"HTTP/1.1 200 X\r\ncontent-length: 99999999999\r\n\r\n", False, "more than"),
    ],
)
def test_what_loses_the_link(exchanging: Any, run: Any, fault: Any, refused: bool, said: str) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [fault]
        transport.send_sealed([b"x"])
        loss = await watcher.loss()
        assert loss.refused is refused and said in loss.text
        assert watcher.losses.empty() and watcher.frames.empty()

    exchanging(scene, run=run)


def test_an_owner_that_cannot_take_a_frame_loses_the_link(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        def fail(data: bytes | str, sealed: bool | None) -> None:
            raise ValueError("our fault")

        transport._admission._on_frame = fail
        hub.say((True, b"x"))
        assert "ValueError" in (await watcher.loss()).text

    exchanging(scene, run=run)


def test_a_lost_carrier_can_be_opened_again(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [(409, {})]
        transport.send_sealed([b"x"])
        await watcher.loss()
        await transport.close()
        hub.answers["get_messages"] = [{"messages": ["again"]}]
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert await watcher.frame() == ("again", False)

    exchanging(scene, run=run)


# -- answers that overtake each other, and frames that are left out


def test_answers_that_overtake_each_other_are_put_in_order(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [(200, write_answer(3, [(True, b"third"), (True, b"fourth")]))]
        transport.send_sealed([b"x"])
        await hub.until(lambda hub: hub.taken)
        hub.said += [(True, b"third"), (True, b"fourth")]
        hub.say()  # the held request; what the script says stands before them
        hub.said[1:] = [(True, b"first"), (True, b"second"), *hub.said[1:]]
        assert await hears(watcher, 4) == [b"first", b"second", b"third", b"fourth"]
        assert watcher.frames.empty() and watcher.losses.empty()

    exchanging(scene, run=run)


def test_frames_that_come_twice_are_heard_once(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [
            (200, write_answer(0, [(False, b"up"), (True, b"new")])),
            (200, write_answer(0, [(False, b"up")])),
        ]
        for _ in range(2):
            transport.send_sealed([b"x"])
            await hub.until(lambda hub: not hub.faults or len(hub.faults) == 1)
            await asyncio.sleep(0.01)
        assert await hears(watcher, 1) == [b"new"]
        assert watcher.frames.empty()
        hub.said.append((True, b"new"))
        hub.given = 2

    exchanging(scene, run=run)


def test_a_gap_that_nothing_is_under_way_to_fill_is_asked_for(exchanging: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(https_exchange, "HOLD", 0.02)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.given = 2  # the hub thinks that it has given this one
        hub.said += [(True, b"missing")]
        hub.say((True, b"next"))
        assert await hears(watcher, 2) == [b"missing", b"next"]
        assert any(exchange.again for exchange in hub.exchanges) and watcher.losses.empty()

    exchanging(scene, run=run)


def test_frames_do_not_wait_for_a_line_that_is_being_dialled(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        admission, reachable = transport._admission, asyncio.Event()
        dial = admission.dial

        async def late(line: Any) -> None:
            await reachable.wait()
            await dial(line)

        admission.dial = late
        hub.said.append((True, b"lost"))
        hub.faults = ["lose"]
        transport.send_sealed([b"x"])
        await hub.until(lambda hub: hub.taken)
        for number in range(8):
            await hub.until(lambda hub: hub.held)
            hub.say((True, b"%d" % number))
            expected = [b"lost", b"0"] if number == 0 else [b"%d" % number]
            assert await hears(watcher, len(expected)) == expected
        reachable.set()
        await hub.until(lambda hub: any(exchange.again and exchange.frames for exchange in hub.exchanges))
        assert sent(hub) == [b"x"] and watcher.frames.empty() and watcher.losses.empty()

    exchanging(scene, run=run)


def test_a_hub_that_leaves_frames_out_for_good_loses_the_link(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [(200, write_answer(7, [(True, b"late")]))] * 50
        hub.say((True, b"x"))
        assert "leave out" in (await watcher.loss()).text

    exchanging(scene, run=run)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_or_doubled_however_connections_break(exchanging: Any, run: Any, seed: int) -> None:
    """A third of all connections break, but never one that mends another."""
    chance = random.Random(seed)

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.choose = lambda exchange: None if exchange.again else chance.choice([None] * 6 + ["refuse", "lose", "half"])
        said = [(chance.random() < 0.5, b"said %d" % number) for number in range(chance.randrange(60))]
        asked = [b"sent %d" % number for number in range(chance.randrange(1, 60))]
        waiting = list(said)
        for data in asked:
            transport.send_sealed([data])
            for _ in range(chance.randrange(3)):
                hub.say(*waiting[:1])
                del waiting[:1]
            await asyncio.sleep(chance.choice([0, 0, 0.002]))
        hub.say(*waiting)
        assert [await watcher.frame() for _ in said] == [(data, sealed) for sealed, data in said]
        await hub.until(lambda hub: len(hub.taken) >= len(asked))
        assert sent(hub) == asked and watcher.frames.empty() and watcher.losses.empty()

    exchanging(scene, run=run)


# -- a sign of life


def test_a_hub_that_is_asked_for_a_sign_of_life_gives_one(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        count = len(hub.exchanges)
        transport.check(0.1)
        transport.check(0.1)
        await hub.until(lambda hub: len(hub.exchanges) > count)
        assert (hub.exchanges[-1].wait, hub.exchanges[-1].frames) == (0, ())
        await asyncio.sleep(0.2)
        assert watcher.losses.empty() and len(hub.exchanges) == count + 1
        transport.send_sealed([b"x"])
        await hub.until(lambda hub: hub.taken)

    exchanging(scene, run=run)


def test_one_that_gives_none_is_lost(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [hub.SILENCE]
        transport.check(0.1)
        assert "no sign of life within 0.1 s" in (await watcher.loss()).text

    exchanging(scene, run=run)


def test_while_something_is_being_sent_that_is_the_question(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [hub.SILENCE]
        transport.send_sealed([b"x"])
        await hub.until(lambda hub: hub.taken or not hub.faults)
        count = len(hub.exchanges)
        transport.check(0.1)
        assert "no sign of life" in (await watcher.loss()).text
        assert len(hub.exchanges) == count

    exchanging(scene, run=run)


def test_frames_that_a_dead_line_swallowed_are_fetched_over_a_new_one(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.said.append((True, b"swallowed"))
        hub.given = 2  # written into the held line, which died without a word
        transport.check(5.0)
        assert await hears(watcher, 1) == [b"swallowed"]
        assert hub.connections == 3 and watcher.losses.empty()

    exchanging(scene, run=run)


def test_closing_ends_the_question(exchanging: Any, run: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        hub.faults = [hub.SILENCE]
        transport.check(0.05)
        await transport.close()
        await asyncio.sleep(0.1)
        assert watcher.losses.empty()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(https_exchange, "CLOSE_PATIENCE", 0.01)
        exchanging(scene, run=run)
