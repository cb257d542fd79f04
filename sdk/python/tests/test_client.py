# SPDX-License-Identifier: Apache-2.0
"""The asynchronous client against a scripted hub, over every carrier."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from thalovant import keeping, link
from thalovant.client import AsyncThalovantClient
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubKeyChangedError,
    ThalovantHubRefusedError,
    ThalovantIdentityError,
    ThalovantPolicyDeniedError,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
    ThalovantUnsupportedProtocolError,
)
from thalovant.events import ThalovantEvent
from thalovant.protocol import noise
from thalovant.protocol.messages import HiveMessage, bus

CARRIERS = ("wss", "https", "mqtt")
every_carrier = pytest.mark.parametrize("carrier", CARRIERS)


@pytest.fixture
def make(hub: Any, tmp_path: Any) -> Callable[..., AsyncThalovantClient]:
    """Make a client of the scripted hub; all of one test share their Noise state."""

    def make(protocol: Any = "wss", *, identity: Any = None, folder: str = "noise", **options: Any) -> Any:
        state = str(tmp_path / folder)
        return AsyncThalovantClient(identity or hub.identity(), protocol=protocol, noise_state_dir=state, **options)

    return make


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scene in asyncio's debug mode; nothing of the client may be left on the loop at its end."""

    async def main() -> None:
        await scene()
        await asyncio.sleep(0)  # cancelled tasks of the libraries end
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    asyncio.run(main(), debug=True)


async def next_turn(hub: Any) -> Any:
    return await asyncio.to_thread(hub.turns.get, True, 5)


async def next_hello(hub: Any) -> Any:
    """The sealed HELLO of the next session; the hub can speak in it from then on."""
    return await asyncio.to_thread(hub.hello.get, True, 5)


def loss_of(client: Any) -> asyncio.Event:
    """Set once the link that the client has now is lost; ask for it before the loss."""
    lost, now = asyncio.Event(), client._keeper.link
    tell = now._on_lost

    def hear(*arguments: Any) -> None:
        tell(*arguments)
        lost.set()

    now._on_lost = hear
    return lost


async def lost(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


async def passes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


# Asking


@every_carrier
def test_ask_returns_what_the_hub_says(hub: Any, make: Any, carrier: Any) -> None:
    async def scene() -> None:
        async with make(carrier) as client:
            reply = await client.ask("hello")
            assert (reply.text, reply.handled, reply.ok) == ("hello", True, True)
            assert (await client.ask("and again")).text == "and again"

    play(scene)


@every_carrier
def test_many_asks_at_once_each_get_their_own_answer(make: Any, carrier: Any) -> None:
    async def scene() -> None:
        async with make(carrier) as client:
            replies = await asyncio.gather(*(client.ask(f"text {number}") for number in range(50)))
            assert [reply.text for reply in replies] == [f"text {number}" for number in range(50)]

    play(scene)


@every_carrier
def test_a_message_of_many_frames_arrives_whole(make: Any, carrier: Any) -> None:
    text = "word " * 60_000 + "end"

    async def scene() -> None:
        async with make(carrier) as client:
            assert (await client.ask(text)).text == text

    play(scene)


def test_ask_dials_when_there_is_no_link(make: Any) -> None:
    async def scene() -> None:
        client = make()
        assert (await client.ask("hello")).text == "hello"
        await client.close()

    play(scene)


def test_our_hub_is_waited_for_to_the_last_part(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make(reply_settle_seconds=0.0) as client:
            asked = asyncio.create_task(client.ask("count"))
            turn = await next_turn(hub)
            heard = asyncio.create_task(client.wait_for_event("speak"))
            await asyncio.sleep(0)  # it listens from its first step on
            turn.say("speak", {"utterance": "one"})
            await heard
            turn.answer("two")
            assert (await asked).utterances == ("one", "two")

    play(scene)


def test_other_hubs_are_given_the_settling_time(hub: Any, make: Any) -> None:
    hub.script.answer = lambda turn: turn.say("speak", {"utterance": "one"})
    hub.script.capabilities = None

    async def scene() -> None:
        async with make(reply_settle_seconds=0.03) as client:
            loop = asyncio.get_running_loop()
            start = loop.time()
            reply = await client.ask("count")
            assert (reply.text, reply.handled) == ("one", True)
            assert loop.time() - start >= 0.03

    play(scene)


def test_the_request_says_what_the_contract_demands(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make(useragent="app/1") as client:
            asked = asyncio.create_task(client.ask("hi", lang="de-de", session_id="mine", request_id="r-1"))
            turn = await next_turn(hub)
            context = turn.payload["context"]
            assert turn.payload["data"] == {"utterances": ["hi"], "lang": "de-de"}
            assert context["request_id"] == context["thalovant_request_id"] == "r-1"
            assert context["session"] == {
                "request_id": "r-1",
                "lang": "de-de",
                "session_id": "mine",
                "site_id": "kitchen",
            }
            assert (context["source"], context["destination"]) == ("app/1", "HiveMind")
            turn.answer("hi")
            assert (await asked).request_id == "r-1"

    play(scene)
    assert hub.user_agents == ["app/1"]
    assert hub.hellos[0]["site_id"] == "kitchen"
    assert hub.hellos[0]["thalovant"]["capabilities"] == ["handled", "denials"]


def test_one_request_id_cannot_be_in_flight_twice(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make() as client:
            first = asyncio.create_task(client.ask("a", request_id="same"))
            turn = await next_turn(hub)
            with pytest.raises(ThalovantRuntimeError, match="already in flight"):
                await client.ask("b", request_id="same")
            turn.answer("a")
            assert (await first).text == "a"

    play(scene)


@pytest.mark.parametrize(
    ("event", "data", "error"),
    [
        ("ovos.intent.unmatched", {"utterance": "what"}, ThalovantUnansweredError),
        ("hive.policy.denied", {"denied_type": "recognizer_loop:utterance", "code": "x"}, ThalovantPolicyDeniedError),
        ("hive.query.timeout", {"error": "no_answer"}, ThalovantRuntimeError),
    ],
)
def test_what_ends_an_ask_is_raised_as_its_own_error(hub: Any, make: Any, event: str, data: Any, error: Any) -> None:
    def answer(turn: Any) -> None:
        turn.say(event, data)
        turn.say("ovos.utterance.handled")

    hub.script.answer = answer

    async def scene() -> None:
        async with make() as client:
            with pytest.raises(error):
                await client.ask("what")

    play(scene)


def test_an_ask_ends_at_its_deadline_and_says_so_to_our_hub(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make() as client:
            with pytest.raises(ThalovantTimeoutError):
                await client.ask("slow", timeout=0.05, request_id="r-9")
            told = await asyncio.to_thread(hub.messages.get, True, 5)
            name, data, _ = told.bus_parts()
            assert (name, data) == ("thalovant.ask.cancel", {"request_id": "r-9"})
            hub.script.answer = lambda turn: turn.answer("fine")
            assert (await client.ask("next")).text == "fine"

    play(scene)


@pytest.mark.parametrize(("capabilities", "told"), [(["handled"], {"timeout_ms": 31_000}), (None, None)])
def test_our_hub_is_told_how_long_the_asker_waits(hub: Any, make: Any, capabilities: Any, told: Any) -> None:
    hub.script.answer, hub.script.capabilities = None, capabilities

    async def scene() -> None:
        async with make(reply_settle_seconds=0.01) as client:
            asked = asyncio.create_task(client.ask("long", timeout=30.0))
            turn = await next_turn(hub)
            assert turn.payload["context"].get("thalovant") == told
            turn.answer("done")
            assert (await asked).text == "done"

    play(scene)


def test_a_cancelled_ask_is_cancelled_at_our_hub_only(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene(capabilities: Any) -> None:
        hub.script.capabilities = capabilities
        async with make() as client:
            asked = asyncio.create_task(client.ask("slow"))
            await next_turn(hub)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await client.emit("after")

    for capabilities, expected in ((["handled"], ["thalovant.ask.cancel", "after"]), (None, ["after"])):
        play(lambda capabilities=capabilities: scene(capabilities))
        assert [hub.messages.get(timeout=5).bus_parts()[0] for _ in expected] == expected
        assert hub.messages.empty()


# Sending and listening


@every_carrier
def test_events_reach_their_handlers(hub: Any, make: Any, carrier: Any) -> None:
    seen: list[ThalovantEvent] = []

    async def scene() -> None:
        async with make(carrier) as client:
            subscription = client.on("news", seen.append)
            await client.ask("hello")
            waiting = asyncio.create_task(client.wait_for_event("news", predicate=lambda event: event.data["n"] == 2))
            await asyncio.sleep(0)  # it listens from its first step on
            for number in (1, 2):
                hub.tell_all(bus("news", {"n": number}, {"source": "hive", "destination": "me"}))
            assert (await waiting).data == {"n": 2}
            subscription.close()
            subscription.unsubscribe()

    play(scene)
    assert [event.data["n"] for event in seen] == [1, 2]
    assert seen[0].context["source"] == ("hive" if carrier == "mqtt" else "me")


def test_a_handler_may_be_a_coroutine_and_may_fail(hub: Any, make: Any, caplog: Any) -> None:
    done = asyncio.Event()

    async def slow(event: ThalovantEvent) -> None:
        await asyncio.sleep(0)
        done.set()
        raise ValueError("of the user")

    def broken(event: ThalovantEvent) -> None:
        raise ValueError("of the user, too")

    async def scene() -> None:
        async with make() as client:
            client.on("news", broken)
            client.on("news", slow)
            await client.ask("hello")
            hub.tell_all(bus("news"))
            await done.wait()
            assert (await client.ask("still there")).text == "still there"

    play(scene)
    assert sum("of the user" in record.exc_text for record in caplog.records if record.exc_text) == 2


def test_a_slow_handler_ends_with_its_client(hub: Any, make: Any) -> None:
    started = asyncio.Event()

    async def endless(event: ThalovantEvent) -> None:
        started.set()
        await asyncio.Event().wait()

    async def scene() -> None:
        async with make() as client:
            client.on("news", endless)
            await client.ask("hello")
            hub.tell_all(bus("news"))
            await started.wait()

    play(scene)


def test_conditions_of_on_are_kept(hub: Any, make: Any) -> None:
    seen: list[Any] = []

    async def scene() -> None:
        async with make() as client:
            client.on("news", seen.append, request_id="r", predicate=lambda event: event.data["n"] > 1)
            await client.ask("hello")
            for number, request_id in ((1, "r"), (2, "other"), (3, "r")):
                hub.tell_all(bus("news", {"n": number}, {"request_id": request_id}))
            await client.ask("a turn later")

    play(scene)
    assert [event.data["n"] for event in seen] == [3]


def test_a_broadcast_to_the_own_site_is_a_bus_message(hub: Any, make: Any) -> None:
    seen: list[Any] = []

    async def scene(carrier: str) -> None:
        async with make(carrier) as client:
            client.on("news", seen.append)
            await client.ask("hello")
            for site in ("kitchen", "garden"):
                inner = bus("news", {"site": site}).as_dict()
                hub.tell_all(HiveMessage("broadcast", inner, target_site_id=site))
            hub.tell_all(HiveMessage("broadcast", {"no": "message"}, target_site_id="kitchen"))
            hub.tell_all(HiveMessage("shared_bus", bus("news").payload))
            hub.tell_all(HiveMessage("bus", {"type": 7}))
            await client.ask("a turn later")

    play(lambda: scene("wss"))
    assert [event.data["site"] for event in seen] == ["kitchen"]
    play(lambda: scene("mqtt"))
    assert len(seen) == 1


@every_carrier
def test_emit_sends_a_bus_message(hub: Any, make: Any, carrier: Any) -> None:
    async def scene() -> None:
        async with make(carrier) as client:
            await client.emit("my.event", {"a": 1}, {"extra": True})
            await client.emit("big", {"text": "x" * 3_000_000})

    play(scene)
    name, data, context = hub.messages.get(timeout=5).bus_parts()
    assert (name, data, context["extra"], context["session"]["site_id"]) == ("my.event", {"a": 1}, True, "kitchen")
    assert len(hub.messages.get(timeout=5).payload["data"]["text"]) == 3_000_000


def test_what_json_cannot_hold_is_the_callers_error(make: Any) -> None:
    async def scene() -> None:
        async with make() as client:
            with pytest.raises(ThalovantRuntimeError):
                await client.emit("my.event", {"a": object()})
            assert (await client.ask("still there")).text == "still there"

    play(scene)


def test_send_utterance_does_not_wait(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make() as client:
            await client.send_utterance("hello", request_id="r-7")
            assert (await next_turn(hub)).request_id == "r-7"

    play(scene)


def test_a_predicate_that_fails_is_heard_of(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make() as client:
            waiting = asyncio.create_task(client.wait_for_event("speak", predicate=lambda event: event.data["none"]))
            await asyncio.sleep(0)  # it listens from its first step on
            await client.ask("hello")
            with pytest.raises(KeyError):
                await waiting

    play(scene)


def test_waiting_for_an_event_ends_in_time(make: Any) -> None:
    async def scene() -> None:
        async with make() as client:
            with pytest.raises(ThalovantTimeoutError, match="news"):
                await client.wait_for_event("news", timeout=0.02)

    play(scene)


# Connecting


def test_the_default_carrier_is_wss_where_allowed(hub: Any, make: Any) -> None:
    assert "wss" in repr(make(None))
    assert "https" in repr(make(None, identity=hub.identity(protocols={"wss": {"enabled": False}})))


def test_mqtt_without_credentials_says_what_to_do(hub: Any, make: Any) -> None:
    with pytest.raises(ThalovantUnsupportedProtocolError, match="Enable MQTT on the hub and create a fresh identity"):
        make("mqtt", identity=hub.identity(mqtt=None))


@every_carrier
def test_a_known_hub_is_met_with_kk(hub: Any, make: Any, carrier: Any) -> None:
    async def scene() -> None:
        for _ in range(2):
            async with make(carrier) as client:
                assert (await client.ask("hello")).text == "hello"
            await passes(lambda: carrier == "https" or not hub.sessions)

    patterns: list[str] = []
    hub.script.answer = lambda turn: (patterns.append(turn.session.pattern), turn.answer(turn.text))
    play(scene)
    assert patterns == ["XXpsk2", "KKpsk0"]


@every_carrier
@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_hub_with_another_key_is_refused_and_the_pin_stays(
    hub: Any, make: Any, tmp_path: Any, carrier: Any, hangs_up: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(link, "KK_PATIENCE", 0.1)
    hub.script.hangs_up = hangs_up

    async def scene() -> None:
        async with make(carrier):
            pass
        pins = next((tmp_path / "noise").glob("*.pins.json"))
        before = pins.read_text()
        hub.script.static_private = noise.generate_private_key()
        hub.patterns.clear()
        hub.connections.clear()
        client = make(carrier)
        with pytest.raises(ThalovantHubKeyChangedError, match=str(pins)):
            await client.connect()
        assert hub.patterns == ["KKpsk0", "XXpsk2"]
        assert hub.connections == [carrier, carrier]
        with pytest.raises(ThalovantHubKeyChangedError):
            await client.ask("hello")
        assert pins.read_text() == before
        assert (await client.connection_info()).phase == "error"
        await client.wait_closed(1)
        await client.close()

    play(scene)


@every_carrier
@pytest.mark.parametrize("knows_the_client", [True, False])
def test_a_hub_that_restarts_with_another_key_ends_a_live_client(
    hub: Any, make: Any, carrier: Any, knows_the_client: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.01)
    hub.script.hangs_up = True

    async def scene() -> None:
        client = make(carrier)
        assert (await client.ask("hello")).text == "hello"
        await asyncio.to_thread(hub.run, hub.stop())
        hub.script.static_private = noise.generate_private_key()
        if not knows_the_client:
            hub.pin = None  # its store is gone, too: it offers XX only
        await asyncio.to_thread(hub.run, hub.start())
        await client.wait_closed(10)
        with pytest.raises(ThalovantHubKeyChangedError):
            await client.ask("hello")
        await client.close()

    play(scene)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("asks", [True, False])
def test_a_credential_that_was_removed_is_a_refusal_and_no_question_of_keys(
    hub: Any, make: Any, known: bool, asks: bool, monkeypatch: Any
) -> None:
    if not asks:
        monkeypatch.setattr(link, "REFUSAL_WINDOW", 0.0)
    seen: list[str] = []

    async def scene() -> None:
        if known:
            async with make("https"):
                pass
        client = make("https", auto_reconnect=False)
        await client.connect()
        if asks:
            await client.ask("hello")
        else:
            link_now = client._keeper.link
            link_now.opened_at = link_now.ready_at  # as if the round trips took no time
        hub.script.knows_key = False
        await client.wait_closed(5)
        seen.append((await client.healthcheck()).last_error or "")
        with pytest.raises(ThalovantHubRefusedError, match="Create a fresh identity") as caught:
            await client.ask("hello")
        assert type(caught.value) is ThalovantHubRefusedError
        await client.close()

    play(scene)
    assert "removed or rotated" in seen[0] and "another key" not in seen[0]


@every_carrier
@pytest.mark.parametrize("offers_kk", [True, False])
def test_another_client_key_is_refused(hub: Any, make: Any, carrier: Any, offers_kk: bool) -> None:
    hub.script.hangs_up, hub.script.mqtt_levels = True, (4,)

    async def scene() -> None:
        async with make(carrier):
            pass
        hub.script.offers_kk = offers_kk
        client = make(carrier, folder="other")
        for _ in range(2):
            with pytest.raises(ThalovantConnectionError) as caught:
                await client.connect()
                await client.ask("hello")
        assert isinstance(caught.value, ThalovantClientKeyRejectedError)
        assert caught.value.key_folder is not None and caught.value.key_folder.endswith("other")
        for said in ("was lost, or another program", "Restore the folder", "identity reset-key", "a new identity"):
            assert said in str(caught.value)
        assert (await client.connection_info()).phase == "error"
        await client.close()

    play(scene)


@pytest.mark.parametrize("closes", [1, 2, 3])
def test_a_first_ask_that_is_too_much_is_no_rejected_key(hub: Any, make: Any, closes: int) -> None:
    """The hub hangs up on what was asked, not on the key; without KK each session begins with XX."""
    hub.script.offers_kk = False
    hub.script.hangs_up, hub.script.mqtt_levels = True, (4,)
    hub.script.answer = lambda turn: turn.session.end(1009)

    async def scene() -> None:
        client = make("mqtt", auto_reconnect=False)
        for _ in range(closes):
            with pytest.raises(ThalovantConnectionError) as caught:
                await client.ask("too big", timeout=5)
            assert not isinstance(caught.value, ThalovantClientKeyRejectedError)
        hub.script.answer = lambda turn: turn.answer(turn.text)
        assert (await client.ask("hello")).text == "hello"
        await client.close()

    play(scene)


def test_who_could_say_why_and_hangs_up_has_not_refused_the_key(hub: Any, make: Any) -> None:
    """MQTT 5 has a word for it. A broker hangs up without one when another program takes this one's place."""
    hub.script.offers_kk = False
    hub.script.hangs_up = True

    async def scene() -> None:
        client = make("mqtt", auto_reconnect=False)
        for _ in range(2):
            await client.connect()
            hub.soon(hub.sessions[-1].end, 1000)
            await client.wait_closed(5)
        assert (await client.ask("hello")).text == "hello"
        await client.close()

    play(scene)


def test_one_hang_up_is_no_rejection(hub: Any, make: Any) -> None:
    async def scene() -> None:
        client = make("mqtt")
        await client.connect()
        hub.cut()
        assert (await client.ask("hello")).text == "hello"
        await client.close()

    play(scene)


@every_carrier
def test_a_wrong_password_is_a_refusal(hub: Any, make: Any, carrier: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(link, "KK_PATIENCE", 0.1)

    async def scene() -> None:
        identity = hub.identity(password="another password")
        client = make(carrier, identity=identity)
        with pytest.raises(ThalovantHubRefusedError, match="password"):
            await client.connect()
        await client.close()
        async with make(carrier):  # the hub now knows this client: KK from here on
            pass
        client = make(carrier, identity=identity)
        with pytest.raises(ThalovantHubRefusedError, match="password"):
            await client.connect()  # what was stretched from the right password and kept is not used for this one
        await client.close()
        hub.script.password = "changed at the hub"
        client = make(carrier)
        with pytest.raises(ThalovantHubRefusedError, match="password"):
            await client.connect()
        await client.close()
        hub.script.password = hub.identity().password
        async with make(carrier) as client:
            assert (await client.ask("hello")).text == "hello"

    play(scene)


def test_a_stale_stretched_password_is_made_anew(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make():
            pass
        hub.pin = None
        hub.script.password = "rotated"
        async with make(identity=hub.identity(password="rotated")) as client:
            assert (await client.ask("hello")).text == "hello"

    play(scene)


@pytest.mark.parametrize("carrier", ["wss", "https"])
def test_an_unknown_access_key_is_a_refusal(hub: Any, make: Any, carrier: Any) -> None:
    hub.script.knows_key = False

    async def scene() -> None:
        client = make(carrier)
        with pytest.raises(ThalovantHubRefusedError):
            await client.connect()
        health = await client.healthcheck()
        assert not health.ok and health.last_error
        await client.close()

    play(scene)


def test_silence_is_a_timeout_that_says_what_to_check(hub: Any, make: Any) -> None:
    hub.script.knows_key = False

    async def scene() -> None:
        client = make("mqtt", handshake_timeout=0.05)
        with pytest.raises(ThalovantTimeoutError, match="identity") as caught:
            await client.connect()
        assert isinstance(caught.value, ThalovantConnectionError)
        await client.close()

    play(scene)


def test_connect_keeps_its_own_deadline(hub: Any, make: Any) -> None:
    hub.script.greets = False

    async def scene() -> None:
        client = make()
        with pytest.raises(ThalovantTimeoutError):
            await client.connect(0.05)
        with pytest.raises(ThalovantTimeoutError):
            await client.ask("hello", timeout=0.05)
        await passes(lambda: client._keeper.phase == "open")  # the dial goes on without them
        await client.close()
        assert (await client.connection_info()).phase == "closed"

    play(scene)


def test_connection_info_and_health_tell_how_it_went(make: Any) -> None:
    async def scene() -> None:
        client = make()
        assert (await client.connection_info()).phase == "idle"
        info = await client.connect_with_info()
        assert (info.phase, info.last_error) == ("ready", None)
        assert info.started_at and info.connected_at
        times = (info.socket_open_ms, info.transport_open_ms, info.connect_ms)
        assert None not in times and list(times) == sorted(times)  # type: ignore[type-var]
        assert (await client.healthcheck()).ok
        await client.close()
        assert not (await client.healthcheck()).ok

    play(scene)


def test_calls_after_close_are_refused(make: Any) -> None:
    async def scene() -> None:
        client = make()
        await client.close()
        await client.close()
        await client.wait_closed(1)
        for call in (client.connect(), client.ask("hello"), client.emit("a"), client.wait_for_event("a")):
            with pytest.raises(ThalovantConnectionError, match="closed"):
                await call

    play(scene)


def test_wait_closed_ends_in_time(make: Any) -> None:
    async def scene() -> None:
        async with make() as client:
            with pytest.raises(ThalovantTimeoutError):
                await client.wait_closed(0.01)
            waiting = asyncio.create_task(client.wait_closed())
            await asyncio.sleep(0)
        await waiting

    play(scene)


def test_closing_ends_calls_that_wait(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        client = make()
        await client.connect()
        asked = asyncio.create_task(client.ask("hello"))
        await next_turn(hub)
        await client.close()
        with pytest.raises(ThalovantConnectionError, match="closed"):
            await asked

    play(scene)


def test_closing_ends_a_dial(hub: Any, make: Any) -> None:
    hub.script.greets = False

    async def scene(end: str) -> None:
        client = make()
        calls = [asyncio.create_task(client.ask("hello")) for _ in range(2)]
        await passes(lambda: client._keeper.phase == "open")
        await getattr(client, end)()
        for call in calls:
            with pytest.raises(ThalovantConnectionError):
                await call
        await client.close()

    play(lambda: scene("close"))
    play(lambda: scene("disconnect"))


def test_disconnecting_keeps_subscriptions_and_lets_one_connect_again(hub: Any, make: Any) -> None:
    seen: list[Any] = []

    async def scene() -> None:
        async with make() as client:
            client.on("speak", seen.append)
            await client.disconnect()
            assert (await client.connection_info()).phase == "closed"
            assert (await client.ask("hello")).text == "hello"

    play(scene)
    assert len(seen) == 1


def test_presence_is_told_over_mqtt(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make("mqtt"):
            pass

    play(scene)
    assert [hub.presence.get(timeout=5) for _ in range(2)] == ["online", "offline"]


# Losing the link


@every_carrier
def test_an_ask_survives_a_lost_link_at_our_hub(hub: Any, make: Any, carrier: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make(carrier) as client:
            asked = asyncio.create_task(client.ask("hello", request_id="r-1"))
            first = await next_turn(hub)
            hub.cut()
            second = await next_turn(hub)
            assert (second.request_id, second.payload["data"]) == (first.request_id, first.payload["data"])
            second.answer("at last")
            assert (await asked).text == "at last"

    play(scene)


def test_an_ask_waits_for_its_hub_to_come_back(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make() as client:
            asked = asyncio.create_task(client.ask("hello"))
            await next_turn(hub)
            await asyncio.to_thread(hub.run, hub.stop())
            await passes(lambda: client._keeper.last_error is not None and "listens" in client._keeper.last_error)
            await asyncio.to_thread(hub.run, hub.start())
            (await next_turn(hub)).answer("back")
            assert (await asked).text == "back"

    play(scene)


def test_an_ask_gives_up_at_its_deadline_while_the_hub_is_away(hub: Any, make: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make() as client:
            asked = asyncio.create_task(client.ask("hello", timeout=0.4))
            await next_turn(hub)
            await asyncio.to_thread(hub.run, hub.stop())
            with pytest.raises((ThalovantConnectionError, ThalovantTimeoutError)):
                await asked

    play(scene)


@pytest.mark.parametrize("options", [{"auto_reconnect": False}, {}])
def test_other_hubs_are_not_asked_twice(hub: Any, make: Any, options: Any) -> None:
    hub.script.answer = None
    if not options:
        hub.script.capabilities = None

    async def scene() -> None:
        async with make(**options) as client:
            asked = asyncio.create_task(client.ask("hello"))
            await next_turn(hub)
            hub.cut()
            with pytest.raises(ThalovantConnectionError):
                await asked

    play(scene)
    assert len(hub.requests) == 1


@every_carrier
def test_a_dropped_link_is_dialled_again_and_subscriptions_stay(
    hub: Any, make: Any, carrier: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.01)
    seen: list[Any] = []

    async def scene() -> None:
        async with make(carrier) as client:
            client.on("news", seen.append)
            await next_hello(hub)
            first = client._keeper.link
            heard = asyncio.create_task(client.wait_for_event("news"))
            hub.cut()
            await next_hello(hub)
            await passes(lambda: client._keeper.link not in (None, first))
            hub.tell_all(bus("news"))
            await heard
            assert len(seen) == 1

    play(scene)


def test_without_auto_reconnect_a_dropped_link_stays_down_until_asked(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make(auto_reconnect=False) as client:
            down = loss_of(client)
            hub.cut()
            await lost(down)
            assert client._keeper._redial_task is None
            assert (await client.ask("hello")).text == "hello"

    play(scene)


def test_a_call_dials_at_once_after_a_drop(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make() as client:  # the redial by itself would come after 2.5 s at the earliest
            down = loss_of(client)
            hub.cut()
            await lost(down)
            async with asyncio.timeout(2):
                assert (await client.ask("hello")).text == "hello"

    play(scene)


def test_a_hub_that_lost_the_session_is_met_again(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make("mqtt") as client:
            await client.ask("hello")
            down = loss_of(client)
            hub.soon(hub.sessions[0].greet)  # what a restarted hub does behind a broker
            await lost(down)
            assert (await client.ask("again")).text == "again"

    play(scene)


@pytest.mark.parametrize("carrier", ["wss", "mqtt"])
def test_a_broken_frame_ends_the_link_and_nothing_else(hub: Any, make: Any, carrier: Any) -> None:
    async def scene() -> None:
        async with make(carrier) as client:
            await client.ask("hello")
            down = loss_of(client)
            hub.soon(hub.sessions[0].send_raw, "sealed", b"\x00" * 40)
            await lost(down)
            assert (await client.ask("again")).text == "again"

    play(scene)


def test_a_text_frame_inside_a_session_ends_it(hub: Any, make: Any) -> None:
    async def scene() -> None:
        async with make() as client:
            down = loss_of(client)
            hub.soon(hub.sessions[0].send_raw, "clear", b'{"msg_type": "bus", "payload": {}}')
            await lost(down)
            assert (await client.ask("again")).text == "again"

    play(scene)


def test_a_rejected_identity_is_not_dialled_for_ever(hub: Any, make: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.001)
    monkeypatch.setattr(keeping, "CREDENTIAL_PATIENCE", 0.0)

    async def scene() -> None:
        client = make()
        await client.connect()
        hub.script.knows_key = False
        hub.cut()
        await client.wait_closed(5)
        with pytest.raises(ThalovantHubRefusedError):
            await client.ask("hello")
        hub.script.knows_key = True
        await client.connect()  # the user asks for it
        assert (await client.ask("hello")).text == "hello"
        await client.close()

    play(scene)


def test_damaged_noise_state_is_named(make: Any, tmp_path: Any) -> None:
    (tmp_path / "noise").mkdir(mode=0o755)

    async def scene() -> None:
        client = make()
        with pytest.raises(ThalovantIdentityError, match="chmod 700"):
            await client.connect()
        await client.close()

    play(scene)


def test_no_secret_shows_in_a_log_or_an_error(hub: Any, make: Any, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    errors: list[str] = []

    async def scene() -> None:
        for carrier in CARRIERS:
            async with make(carrier) as client:
                await client.ask("hello")
                errors.append(repr(client))
        hub.script.knows_key = False
        for carrier in CARRIERS:
            client = make(carrier, handshake_timeout=0.05)
            try:
                await client.connect()
            except ThalovantConnectionError as error:
                errors.append(repr(error))
            await client.close()

    play(scene)
    said = "\n".join([*errors, *(record.getMessage() for record in caplog.records)])
    identity = hub.identity()
    from thalovant.addresses import authorization_value

    value = authorization_value("x", identity.access_key)
    for secret in (identity.access_key, identity.password, identity.mqtt.password, value[8:]):
        assert secret not in said


def test_the_client_leaves_no_thread(make: Any) -> None:
    before = threading.active_count()

    async def scene() -> None:
        async with make() as client:
            await client.ask("hello")

    play(scene)
    assert threading.active_count() == before


def test_it_runs_on_uvloop(make: Any) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        for carrier in CARRIERS:
            async with make(carrier) as client:
                assert (await client.ask(carrier)).text == carrier

    uvloop.run(main())
