# SPDX-License-Identifier: Apache-2.0
"""The private loop and the handler thread: they start when needed, end when told, and never wait for themselves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from thalovant import loop_thread
from thalovant.loop_thread import HandlerThread, LoopEndedError, LoopThread


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> object:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_work_runs_on_a_thread_of_its_own_and_its_result_comes_back() -> None:
    loop = LoopThread("t")
    assert not loop.running

    async def work() -> str:
        return threading.current_thread().name

    assert loop.run(work()) == "t"
    assert loop.running
    loop.close()
    loop.close()
    assert not loop.running


@pytest.mark.parametrize("started", [True, False])
def test_a_closed_loop_never_starts_again(started: bool) -> None:
    loop = LoopThread("t")

    async def work() -> None: ...

    if started:
        loop.run(work())
    loop.close()
    with pytest.raises(LoopEndedError):
        loop.run(work())
    assert not loop.running


def test_an_abandoned_loop_never_starts_again() -> None:
    loop = LoopThread("t")

    async def work() -> None: ...

    loop.abandon(work)
    with pytest.raises(LoopEndedError):
        loop.run(work())


def test_of_many_calls_that_meet_the_end_each_one_returns() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    def call(loop: LoopThread) -> int | None:
        try:
            return loop.run(work())
        except (LoopEndedError, concurrent.futures.CancelledError):
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(30):
            loop = LoopThread("t")
            calls = [pool.submit(call, loop) for _ in range(8)]
            loop.close()
            assert {call.result(5) for call in calls} <= {1, None}


def test_errors_come_back() -> None:
    loop = LoopThread("t")

    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        loop.run(work())
    loop.close()


def test_waiting_for_oneself_is_refused() -> None:
    loop = LoopThread("t")

    async def nothing() -> None: ...

    async def work() -> None:
        loop.run(nothing())

    with pytest.raises(RuntimeError, match="itself"):
        loop.run(work())
    loop.close()


def test_closing_cancels_what_runs_and_whoever_waits_hears_of_it() -> None:
    loop = LoopThread("t")
    started, ended = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(loop.run, work())
        assert started.wait(5)
        loop.close()
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result(5)
    assert ended.is_set()


def test_an_interrupt_cancels_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = LoopThread("t")
    cancelled = threading.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupted(self: object, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(concurrent.futures.Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(work())
    assert cancelled.wait(5)
    loop.close()


def test_a_loop_that_is_abandoned_does_one_last_thing_and_ends() -> None:
    loop = LoopThread("t")

    async def nothing() -> None: ...

    done = threading.Event()

    async def last() -> None:
        done.set()
        raise ValueError("nobody hears this")

    loop.run(nothing())
    thread = loop._thread
    assert thread is not None
    loop.abandon(last)
    loop.abandon(last)
    thread.join(5)
    assert done.is_set() and not loop.running


def test_handlers_run_in_order_on_a_thread_of_their_own() -> None:
    handlers = HandlerThread("h")
    seen: list[tuple[int, str]] = []
    done = threading.Event()
    for number in range(100):
        handlers.call(lambda number=number: seen.append((number, threading.current_thread().name)))  # type: ignore[misc]
    handlers.call(done.set)
    assert done.wait(5)
    assert seen == [(number, "h") for number in range(100)]
    handlers.close()
    handlers.close()


def test_a_failing_handler_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    handlers = HandlerThread("h")
    done = threading.Event()

    def fail() -> None:
        raise ValueError("of the user")

    handlers.call(fail)
    handlers.call(done.set)
    assert done.wait(5)
    handlers.close()
    assert "of the user" in caplog.text


def test_a_handler_may_close_its_own_thread() -> None:
    handlers = HandlerThread("h")
    done = threading.Event()

    def end() -> None:
        handlers.close()
        done.set()

    handlers.call(end)
    assert done.wait(5)
    handlers.close()


def test_too_many_waiting_calls_are_dropped_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop_thread, "MAX_WAITING", 2)
    handlers = HandlerThread("h")
    started, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def block() -> None:
        started.set()
        go_on.wait(5)

    handlers.call(block)
    assert started.wait(5)
    for number in range(5):
        handlers.call(lambda number=number: seen.append(number))  # type: ignore[misc]
    done = threading.Event()
    go_on.set()
    while not done.is_set():
        handlers.call(done.set)
        done.wait(0.01)
    handlers.close()
    assert seen == [0, 1]
    assert caplog.text.count("too slow") == 1


def test_closing_does_not_start_a_thread() -> None:
    handlers = HandlerThread("h")
    handlers.close()
    handlers.call(lambda: None)
