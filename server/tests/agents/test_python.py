# SPDX-License-Identifier: Apache-2.0
"""An operator's function of any kind becomes an agent; what is not one is named at the start."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import textwrap
import threading

import pytest
import uvloop

from thalovant_server.agents.base import AgentError, AgentRequest
from thalovant_server.agents.python import PythonAgent
from thalovant_server.errors import SettingsError


def request(text="hi"):
    return AgentRequest(text, "en-us", "s", "name", "site", "r", {}, {"own": 1}, client_id="c")


def ask(function, text="hi", **fields):
    async def main():
        agent = PythonAgent("a", function, **fields)
        try:
            return [part async for part in agent.answer(request(text))]
        finally:
            await agent.close()

    return uvloop.run(main())


def returns(text):
    return f"said {text}"


def returns_nothing(text):
    return None


def yields(text):
    yield text
    yield "more"


async def awaits(text):
    await asyncio.sleep(0)
    return f"said {text}"


async def awaits_nothing(text):
    return None


async def yields_later(text):
    yield text
    await asyncio.sleep(0)
    yield "more"


def with_request(text, request):
    return f"{text} in {request.lang} by {request.client_name} {request.context['own']}"


def with_request_by_default(text, request=None):
    return request.site_id


async def async_with_request(text, request):
    return request.request_id


def returns_generator(text):
    return iter([text, "more"])


def returns_awaitable(text):
    return awaits(text)


def returns_async_generator(text):
    return yields_later(text)


class Callable:
    def __call__(self, text):
        return f"object {text}"


class AsyncCallable:
    async def __call__(self, text):
        return f"object {text}"


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (returns, ["said hi"]),
        (returns_nothing, []),
        (yields, ["hi", "more"]),
        (awaits, ["said hi"]),
        (awaits_nothing, []),
        (yields_later, ["hi", "more"]),
        (with_request, ["hi in en-us by name 1"]),
        (with_request_by_default, ["site"]),
        (async_with_request, ["r"]),
        (returns_generator, ["hi", "more"]),
        (returns_awaitable, ["said hi"]),
        (returns_async_generator, ["hi", "more"]),
        (functools.partial(returns), ["said hi"]),
        (functools.partial(awaits), ["said hi"]),
        (Callable(), ["object hi"]),
        (AsyncCallable(), ["object hi"]),
        (str.upper, ["HI"]),
    ],
)
def test_every_kind_of_function(function, parts):
    assert ask(function) == parts


@pytest.mark.parametrize("function", [lambda text: 7, lambda text: ["a"], lambda text: iter([b"x"]), lambda text: {}])
def test_what_is_not_text_is_an_error(function):
    with pytest.raises(AgentError, match="not with text"):
        ask(function)


def raises(text):
    raise ValueError("inside")


async def raises_later(text):
    raise ValueError("inside")


def raises_between(text):
    yield "one"
    raise ValueError("inside")


@pytest.mark.parametrize("function", [raises, raises_later, raises_between])
def test_what_it_raises_comes_through(function):
    with pytest.raises(ValueError, match="inside"):
        ask(function)


class OddError(BaseException):
    """No `Exception`."""


def every_kind_that_raises(error):
    def at_once(text):
        raise error

    async def later(text):
        raise error

    def between(text):
        yield "one"
        raise error

    async def later_between(text):
        yield "one"
        raise error

    async def in_what_it_gives(text):
        return between(text)

    return [at_once, later, between, later_between, in_what_it_gives]


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), OddError()])
def test_an_agent_cannot_end_the_process(error, kind):
    with pytest.raises(AgentError, match=f"{type(error).__name__}.*end the process"):
        ask(every_kind_that_raises(error)[kind])


@pytest.mark.parametrize("kind", [0, 2, 4])
def test_a_generator_exit_on_a_thread_is_the_functions_own(kind):
    with pytest.raises(AgentError, match="GeneratorExit"):
        ask(every_kind_that_raises(GeneratorExit())[kind])


def test_what_an_asynchronous_generator_raises_when_it_is_closed_is_contained():
    async def stubborn(text):
        try:
            yield "one"
            yield "two"
        finally:
            raise KeyboardInterrupt

    async def main():
        agent = PythonAgent("a", stubborn)
        parts = agent.answer(request())
        assert await anext(parts) == "one"
        with pytest.raises(AgentError, match="KeyboardInterrupt"):
            await parts.aclose()
        await asyncio.sleep(0)
        await agent.close()

    uvloop.run(main())


def test_a_real_cancellation_passes():
    async def main():
        agent, began = PythonAgent("a", lambda text: forever()), asyncio.Event()

        async def forever():
            began.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(anext(agent.answer(request())))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await agent.close()

    uvloop.run(main())


def test_what_can_be_iterated_is_iterated_on_a_thread_whoever_gave_it():
    def steps():
        yield threading.current_thread().name
        yield threading.current_thread().name

    async def gives_iterator(text):
        return steps()

    def gives_awaitable(text):
        return gives_iterator(text)

    for function in (gives_iterator, gives_awaitable):
        names = ask(function)
        assert len(names) == 2
        assert all(name.startswith("agent-a-") for name in names)


def test_an_asynchronous_generator_is_closed_with_its_listener():
    closed = []

    async def endless(text):
        try:
            while True:
                yield "x"
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        for function in (endless, lambda text: endless(text)):
            agent = PythonAgent("a", function)
            parts = agent.answer(request())
            await anext(parts)
            await parts.aclose()
            await agent.close()
        return list(closed)

    assert uvloop.run(main()) == [True, True]


@pytest.mark.parametrize("function", [lambda: None, lambda a, b, c: None, lambda *, text: None])
def test_a_function_of_other_parameters_is_refused_at_the_start(function):
    with pytest.raises(SettingsError, match=r"must take \(text\)"):
        PythonAgent("a", function)


def test_a_blocked_function_delays_nobody():
    release = threading.Event()

    def slow(text):
        if text == "slow":
            release.wait(20)
        return text

    async def main():
        agent = PythonAgent("a", slow)

        async def one(text):
            return [part async for part in agent.answer(request(text))]

        blocked = asyncio.create_task(one("slow"))
        assert await asyncio.wait_for(one("quick"), 5) == ["quick"]
        assert not blocked.done()
        release.set()
        assert await blocked == ["slow"]
        await agent.close()

    uvloop.run(main())


def test_threads_are_bounded_and_the_rest_waits():
    running, most, lock, release = 0, 0, threading.Lock(), threading.Semaphore(0)

    def busy(text):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        release.acquire()
        with lock:
            running -= 1
        return text

    async def main():
        agent = PythonAgent("a", busy, threads=2)

        async def one(text):
            return [part async for part in agent.answer(request(text))]

        tasks = [asyncio.create_task(one(str(number))) for number in range(5)]
        for _ in tasks:
            release.release()
        assert await asyncio.gather(*tasks) == [[str(number)] for number in range(5)]
        await agent.close()

    uvloop.run(main())
    assert most <= 2


def test_a_cancelled_call_keeps_its_place_until_its_thread_is_back():
    started, release = threading.Event(), threading.Event()

    def slow(text):
        started.set()
        release.wait(20)
        return text

    async def main():
        agent = PythonAgent("a", slow)

        async def one():
            return [part async for part in agent.answer(request())]

        task = asyncio.create_task(one())
        await asyncio.to_thread(started.wait, 5)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        release.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert task.cancelled()
        await agent.close()

    uvloop.run(main())


def test_a_call_that_is_cancelled_before_its_thread_is_free_never_runs():
    started, release, seen = threading.Event(), threading.Event(), []

    def slow(text):
        seen.append(text)
        started.set()
        release.wait(20)

    async def main():
        agent = PythonAgent("a", slow, threads=1)

        async def one(text):
            return [part async for part in agent.answer(request(text))]

        first = asyncio.create_task(one("first"))
        await asyncio.to_thread(started.wait, 5)
        second = asyncio.create_task(one("second"))
        await asyncio.sleep(0)
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(second, 5)
        release.set()
        await first
        await agent.close()

    uvloop.run(main())
    assert seen == ["first"]


def test_a_generator_without_end_runs_only_a_little_ahead_and_ends_with_its_listener():
    count, closed = 0, threading.Event()

    def endless(text):
        nonlocal count
        try:
            while True:
                count += 1
                yield "x"
        finally:
            closed.set()

    async def main():
        agent = PythonAgent("a", endless)
        parts = agent.answer(request())
        async for _ in parts:
            break
        await parts.aclose()
        await agent.close()

    uvloop.run(main())
    assert closed.wait(5)
    assert count < 1000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a module in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)

    write(
        "my_agent_module",
        "def answer(text):\n    return text\nclass Thing:\n    inner = staticmethod(answer)\nnumber = 7",
    )
    return write


def test_a_module_of_the_working_directory_is_found(folder):
    for target in ("my_agent_module:answer", "my_agent_module:Thing.inner"):
        assert PythonAgent.load("a", target).name == "a"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("my_agent_module", "module:function"),
        ("my_agent_module:", "module:function"),
        (":answer", "module:function"),
        ("no_such_module:answer", "no module no_such_module"),
        ("my_agent_module:nothing", "has no 'nothing'"),
        ("my_agent_module:number", "is not a function"),
        ("my_agent_module:Thing", "is not a function"),
    ],
)
def test_what_is_not_there_is_named(folder, target, says):
    with pytest.raises(SettingsError, match=says) as caught:
        PythonAgent.load("a", target)
    assert "agent a" in str(caught.value)


def test_a_module_that_needs_another_or_fails_is_named(folder):
    folder("needs_module", "import not_there_at_all")
    with pytest.raises(SettingsError, match=r"not_there_at_all \(needed by needs_module\)"):
        PythonAgent.load("a", "needs_module:f")
    folder("fails_module", "1 / 0")
    with pytest.raises(SettingsError, match="failed to load: ZeroDivisionError"):
        PythonAgent.load("a", "fails_module:f")
