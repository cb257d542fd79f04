# SPDX-License-Identifier: Apache-2.0
"""The synchronous client: the same answers, from any thread, and nothing left behind."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantPolicyDeniedError,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
)
from thalovant.events import ThalovantEvent
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.messages import HiveMessage, bus
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
        event = pool.submit(client.wait_for_event, "never", timeout=3600.0)
        hub.turns.get(timeout=5)
        while client._core._asking._awaited < 2:
            time.sleep(0.002)
        client.close()
        for call in (asked, event):
            with pytest.raises(ThalovantConnectionError, match="closed"):
                call.result(5)
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


# What has twins of its own in the asynchronous client's tests: here only that it gets across


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_query_gets_across(hub: Any, make: Any, carrier: Any) -> None:
    with make(carrier) as client:
        assert client.query("hello").text == "hello"
        talk = client.conversation(session_id="s")
        assert (talk.query("two").text, talk.ask("three").text) == ("two", "three")
        assert repr(talk) == "ThalovantConversation('s')"


def test_what_is_sent_without_waiting_gets_across(hub: Any, make: Any) -> None:
    hub.script.answer = None
    with make() as client, client.conversation(session_id="s", lang="de-de") as talk:
        for send in (client, talk):
            send.send_utterance("a")
            send.send_action("b", title="B")
            send.send_code("c", label="C")
            send.emit("news", {"n": 1})
        client.reply({"context": {"source": "x"}}, "answer")
        turns = [hub.turns.get(timeout=5) for _ in range(6)]
        assert [turn.text for turn in turns] == ["a", "b", "c"] * 2
        sessions = [turn.payload["context"]["session"] for turn in turns]
        assert [session["session_id"] == "s" for session in sessions] == [False] * 3 + [True] * 3
        assert [session["lang"] for session in sessions[3:]] == ["de-de"] * 3
        types = [hub.messages.get(timeout=5).payload["type"] for _ in range(3)]
        assert types == ["news", "news", "answer"]


def test_a_refusal_to_pass_on_gets_across(hub: Any, make: Any) -> None:
    def deny(session: Any, message: Any) -> None:
        context = {"request_id": message.nested().payload["context"]["request_id"]}
        hub.tell(session, bus("hive.policy.denied", {"denied_type": message.msg_type, "reason": "no"}, context))

    hub.script.hear = deny
    with make() as client:
        for call in (client.broadcast, client.propagate, client.escalate):
            with pytest.raises(ThalovantPolicyDeniedError, match=call.__name__):
                call("dinner")


def test_frames_and_binary_are_heard_on_the_handler_thread(hub: Any, make: Any) -> None:
    heard: queue.Queue[tuple[str, str]] = queue.Queue()

    with make() as client:
        client.ask("hello")
        ends = [
            client.on_hive("propagate", lambda frame: heard.put((frame.msg_type, threading.current_thread().name))),
            client.on_binary(lambda binary: heard.put((binary.kind, threading.current_thread().name))),
        ]
        hub.tell_all(HiveMessage("propagate", bus("x").as_dict()))
        hub.soon(hub.sessions[-1].send_binary, BinaryFrame("bin", 3, {}, b"x"))
        assert heard.get(timeout=5) == ("propagate", "thalovant-handlers")
        assert heard.get(timeout=5) == ("file", "thalovant-handlers")
        for end in ends:
            end()
        hub.tell_all(HiveMessage("propagate", bus("x").as_dict()))
        client.ask("behind it")
        assert heard.empty()
        with pytest.raises(ValueError, match="not a hive frame kind"):
            client.on_hive("query", print)

        async def handler(_: Any) -> None: ...

        for register in (client.on_binary, lambda handler: client.on_hive("broadcast", handler)):
            with pytest.raises(ThalovantRuntimeError, match="AsyncThalovantClient"):
                register(handler)


# Listening


def speak_soon(hub: Any, client: Any, *numbers: int, **context: Any) -> threading.Thread:
    """Send the events once somebody listens."""

    def speak() -> None:
        while not client._core._asking._awaited:
            time.sleep(0.002)
        for number in numbers:
            hub.tell_all(bus("count", {"n": number}, context))

    thread = threading.Thread(target=speak)
    thread.start()
    return thread


@pytest.mark.parametrize("carrier", CARRIERS)
def test_listening_is_an_iterator(hub: Any, make: Any, carrier: Any) -> None:
    with make(carrier) as client:
        hub.hello.get(timeout=5)
        thread = speak_soon(hub, client, *range(20))
        assert [event.data["n"] for event in client.listen("count", max_events=20)] == list(range(20))
        thread.join()
        assert list(client.listen("count", timeout=0.05)) == []


def test_a_conversation_listens_to_its_own_session(hub: Any, make: Any) -> None:
    with make() as client:
        hub.hello.get(timeout=5)
        talk = client.conversation(session_id="mine")
        thread = speak_soon(hub, client, 1, session={"session_id": "mine"})
        other = speak_soon(hub, client, 2, session={"session_id": "theirs"})
        assert [event.data["n"] for event in talk.listen("count", timeout=0.5)] == [1]
        thread.join()
        other.join()


@pytest.mark.parametrize("way", ["break", "close", "drop", "error"])
def test_leaving_the_iterator_ends_its_subscription(hub: Any, make: Any, way: str) -> None:
    with make() as client:
        hub.hello.get(timeout=5)
        thread = speak_soon(hub, client, 1, 2)
        events = client.listen("count")
        assert next(events).data["n"] == 1
        if way == "break":
            for event in events:
                assert event.data["n"] == 2
                break
        if way == "close":
            events.close()
        if way == "error":
            with pytest.raises(KeyError):
                events.throw(KeyError("of the user"))
        del events
        gc.collect()
        thread.join()
        client.ask("behind it")
        assert "count" not in client._core._hearing._events
        assert client._core._asking._awaited == 0


def test_closing_in_another_thread_ends_the_iteration(hub: Any, make: Any) -> None:
    client = make()
    client.connect()
    hub.hello.get(timeout=5)

    def close() -> None:
        while not client._core._asking._awaited:
            time.sleep(0.002)
        client.close()

    thread = threading.Thread(target=close)
    thread.start()
    assert list(client.listen("count")) == []
    thread.join()
    with pytest.raises(ThalovantConnectionError, match="closed"):
        next(client.listen("count"))


def test_a_listener_that_is_too_slow_is_told(hub: Any, make: Any) -> None:
    with make() as client:
        hub.hello.get(timeout=5)
        thread = speak_soon(hub, client, *range(10))
        events = client.listen("count", max_buffered_events=2)
        first = next(events).data["n"]
        thread.join()
        client.ask("behind them")
        found = [first]
        with pytest.raises(ThalovantRuntimeError, match="max_buffered_events"):
            for event in events:
                found.append(event.data["n"])
        assert found == list(range(len(found))) and len(found) < 10


LEFT = """
import gc, sys, threading, time
from thalovant import ThalovantClient, ThalovantIdentity
from thalovant.protocol import noise
import hashlib
noise.stretch = lambda password, node_id: hashlib.sha256(f"{password}@{node_id}".encode()).digest()
client = ThalovantClient(ThalovantIdentity.from_file(sys.argv[1]), protocol=sys.argv[2], noise_state_dir=sys.argv[3])


def say_so():
    while not client._core._asking._awaited:
        time.sleep(0.01)
    client.send_utterance("hi")


with client:
    client.ask("hello"), client.query("hello")
    talk = client.conversation()
    talk.ask("hello"), talk.on("speak", str), client.on_binary(str), talk.send_action("x")
    speaker = threading.Thread(target=say_so)
    speaker.start()
    events = client.listen("speak")
    next(events)
    speaker.join()
    open_events = client.listen("speak", timeout=0.05), list(client.listen("nothing", timeout=0.01))
del client, talk, events, open_events
gc.collect()
print([thread.name for thread in threading.enumerate()])
"""


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_closed_client_leaves_no_thread_socket_or_warning(hub: Any, carrier: Any, tmp_path: Any) -> None:
    """In a process of its own, in development mode, with every warning an error that is seen."""
    hub.identity().save(tmp_path / "identity.json")
    arguments = [str(tmp_path / "identity.json"), carrier, str(tmp_path / "noise")]
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", LEFT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    slow = "Executing <"  # of asyncio's debug mode, on a busy machine
    assert [line for line in run.stderr.splitlines() if not line.startswith(slow)] == []
    assert (run.stdout, run.returncode) == ("['MainThread']\n", 0)
