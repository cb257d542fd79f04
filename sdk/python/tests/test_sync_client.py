# SPDX-License-Identifier: Apache-2.0
"""The synchronous client: the same answers, from any thread, and nothing left behind."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantRuntimeError, ThalovantTimeoutError
from thalovant.events import ThalovantEvent
from thalovant.protocol.messages import bus
from thalovant.sync_client import ThalovantClient

CARRIERS = ("wss", "https", "mqtt")


@pytest.fixture
def make(hub: Any, tmp_path: Any) -> Callable[..., ThalovantClient]:
    def make(protocol: Any = "wss", **options: Any) -> ThalovantClient:
        return ThalovantClient(hub.identity(), protocol=protocol, noise_state_dir=str(tmp_path / "noise"), **options)

    return make


@pytest.fixture(autouse=True)
def _no_thread_is_left(hub: Any) -> object:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("thalovant")]
    assert left == []


@pytest.mark.parametrize("carrier", CARRIERS)
def test_ask_returns_what_the_hub_says(make: Any, carrier: Any) -> None:
    with make(carrier) as client:
        assert client.ask("hello").text == "hello"
        assert client.ask("again").text == "again"
        assert client.healthcheck().ok
        assert client.connection_info().phase == "ready"
        assert carrier in repr(client) and repr(client).startswith("ThalovantClient(")


def test_ask_without_connect(make: Any) -> None:
    client = make()
    assert client.ask("hello").text == "hello"
    client.close()
    client.close()


def test_many_threads_ask_at_once(make: Any) -> None:
    texts = [f"text {number}" for number in range(40)]
    with make() as client, concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert [reply.text for reply in pool.map(client.ask, texts)] == texts


def test_a_handler_may_ask(hub: Any, make: Any) -> None:
    answers: list[str] = []
    done = threading.Event()

    with make() as client:

        def handler(event: ThalovantEvent) -> None:
            answers.append(client.ask(event.data["say"]).text)
            if len(answers) == 2:
                done.set()

        with client.on("news", handler):
            client.connect()
            client.ask("hello")
            for text in ("one", "two"):
                hub.tell_all(bus("news", {"say": text}))
            assert done.wait(5)
        hub.tell_all(bus("news", {"say": "three"}))
        client.ask("a turn later")
    assert answers == ["one", "two"]


def test_a_handler_may_close_the_client(hub: Any, make: Any) -> None:
    done = threading.Event()
    client = make()

    def handler(_: ThalovantEvent) -> None:
        client.close()
        done.set()

    client.on("news", handler)
    client.ask("hello")
    hub.tell_all(bus("news"))
    assert done.wait(5)


def test_an_async_handler_is_refused(make: Any) -> None:
    client = make()

    async def handler(_: ThalovantEvent) -> None: ...

    with pytest.raises(ThalovantRuntimeError, match="AsyncThalovantClient"):
        client.on("news", handler)
    client.close()


def test_waiting_for_an_event(hub: Any, make: Any) -> None:
    with make() as client, concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.wait_for_event, "news", predicate=lambda event: event.data["n"] == 2)
        client.ask("hello")
        while not waiting.done():
            hub.tell_all(bus("news", {"n": 2}))
            concurrent.futures.wait([waiting], 0.01)
        assert waiting.result().data == {"n": 2}
        with pytest.raises(ThalovantTimeoutError):
            client.wait_for_event("never", timeout=0.01)


def test_sending(hub: Any, make: Any) -> None:
    with make() as client:
        client.emit("my.event", {"a": 1})
        client.send_utterance("hello", request_id="r-1")
        client.ask("a turn later")
    assert hub.messages.get(timeout=5).bus_parts()[:2] == ("my.event", {"a": 1})
    assert hub.requests[0] == "r-1"


def test_disconnect_and_connect_again(make: Any) -> None:
    with make() as client:
        client.disconnect()
        assert client.connection_info().phase == "closed"
        assert client.connect_with_info().phase == "ready"


def test_after_close_calls_are_refused(make: Any) -> None:
    client = make()
    client.connect()
    client.close()
    client.wait_closed()
    for call in (client.connect, lambda: client.ask("hello"), client.healthcheck):
        with pytest.raises(ThalovantConnectionError, match="closed"):
            call()


@pytest.mark.parametrize("connected", [True, False])
def test_a_call_that_meets_another_threads_close_starts_nothing(make: Any, monkeypatch: Any, connected: bool) -> None:
    """The call has looked whether the client is closed; then the other thread's `close` runs to its end."""
    client = make()
    if connected:
        client.connect()
    looked = client._refuse_if_unusable

    def look_and_be_late() -> None:
        looked()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pool.submit(client.close).result(5)

    monkeypatch.setattr(client, "_refuse_if_unusable", look_and_be_late)
    with pytest.raises(ThalovantConnectionError, match="closed"):
        client.healthcheck()


def test_many_threads_may_close_at_once(make: Any) -> None:
    client = make()
    client.connect()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for closing in [pool.submit(client.close) for _ in range(8)]:
            closing.result(5)


def test_closing_ends_calls_of_other_threads(hub: Any, make: Any) -> None:
    hub.script.answer = None
    client = make()
    client.connect()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked, waiting = pool.submit(client.ask, "hello"), pool.submit(client.wait_closed)
        hub.turns.get(timeout=5)
        client.close()
        with pytest.raises(ThalovantConnectionError, match="closed"):
            asked.result(5)
        waiting.result(5)


def test_an_interrupt_ends_the_ask_only(hub: Any, make: Any, monkeypatch: Any) -> None:
    with make() as client:
        hub.script.answer = None
        real = concurrent.futures.Future.result

        def interrupted(self: Any, timeout: float | None = None) -> Any:
            hub.turns.get(timeout=5)
            raise KeyboardInterrupt

        monkeypatch.setattr(concurrent.futures.Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.ask("hello")
        monkeypatch.setattr(concurrent.futures.Future, "result", real)
        assert hub.messages.get(timeout=5).bus_parts()[0] == "thalovant.ask.cancel"
        hub.script.answer = lambda turn: turn.answer("fine")
        assert client.ask("again").text == "fine"


def test_a_forgotten_client_warns_and_ends(make: Any) -> None:
    client = make()
    client.on("speak", lambda event: None)
    client.ask("hello")
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("thalovant")]
    with pytest.warns(ResourceWarning, match="unclosed ThalovantClient"):
        del client
        gc.collect()
    for thread in threads:
        thread.join(5)


def test_a_client_that_never_connected_needs_no_close(make: Any) -> None:
    make()
    gc.collect()


def _in_child(client: Any, answers: Any) -> None:
    try:
        client.ask("hello")
    except ThalovantRuntimeError as error:
        answers.put(str(error))
    client.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_told_to_make_its_own(make: Any) -> None:
    context = multiprocessing.get_context("fork")
    with make() as client:
        answers = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(client, answers))
        child.start()
        assert "fork" in answers.get()
        child.join(10)
        assert client.ask("still there").text == "still there"
