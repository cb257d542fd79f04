# SPDX-License-Identifier: Apache-2.0
"""Asks, queries and frames for others over real carriers: what they say, what they become, and after a lost link."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantPolicyDeniedError,
    ThalovantRuntimeError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
)
from thalovant.protocol.messages import bus

every_carrier = pytest.mark.parametrize("carrier", ["wss", "https", "mqtt"])
ours = pytest.mark.parametrize("capabilities", [["handled", "query"], ["handled"], None], ids=str)


async def next_turn(hub: Any) -> Any:
    return await asyncio.to_thread(hub.turns.get, True, 5)


async def next_message(hub: Any) -> Any:
    return await asyncio.to_thread(hub.messages.get, True, 5)


# Queries


@every_carrier
@ours
def test_a_query_returns_what_the_hub_says(
    hub: Any, make_client: Any, play_scene: Any, carrier: str, capabilities: Any
) -> None:
    hub.script.capabilities = capabilities
    hub.script.answer = lambda turn: turn.answer("one", "two")

    async def scene() -> None:
        async with make_client(carrier, reply_settle_seconds=3600.0) as client:
            reply = await client.query("count", session_id="mine", request_id="r-1")
            assert (reply.text, reply.handled, reply.ok) == ("one two", True, True)
            assert (reply.session_id, reply.request_id, reply.lang) == ("mine", "r-1", "en-us")
            assert [event.name for event in reply.events] == ["speak", "speak", "hive.query.complete"]

    play_scene(scene)


def test_a_query_says_what_the_contract_demands(hub: Any, make_client: Any, play_scene: Any) -> None:
    hub.script.answer = None
    hub.script.capabilities = None

    async def scene() -> None:
        async with make_client(useragent="app/1") as client:
            asked = asyncio.create_task(client.query("hi", lang="de-de", request_id="r-1", context={"own": 1}))
            turn = await next_turn(hub)
            assert turn.query_id == "r-1"
            assert turn.payload["data"] == {"utterances": ["hi"], "lang": "de-de"}
            session = turn.payload["context"].pop("session")
            assert turn.payload["context"] == {"request_id": "r-1", "thalovant_request_id": "r-1", "own": 1}
            assert session.pop("session_id").startswith("thalovant-session-")
            assert session == {"request_id": "r-1", "lang": "de-de", "site_id": "kitchen"}
            turn.answer("hi")
            await asked
            asked = asyncio.create_task(client.query("hi", request_id="r-1", query_id="q-1", session_id="s-1"))
            turn = await next_turn(hub)
            assert (turn.query_id, turn.request_id) == ("q-1", "r-1")
            assert turn.payload["context"]["session"]["session_id"] == "s-1"
            turn.answer("hi")
            await asked

    play_scene(scene)


@every_carrier
def test_many_queries_and_asks_at_once_each_get_their_answer(make_client: Any, play_scene: Any, carrier: str) -> None:
    async def scene() -> None:
        async with make_client(carrier) as client:
            calls = [(client.query if number % 2 else client.ask)(f"text {number}") for number in range(40)]
            replies = await asyncio.gather(*calls)
            assert [reply.text for reply in replies] == [f"text {number}" for number in range(40)]

    play_scene(scene)


REFUSAL = {"denied_type": "recognizer_loop:utterance", "code": "acl_disallowed_type", "reason": "not for you"}


@pytest.mark.parametrize("way", ["in its frame", "on the bus", "on the bus, nameless"])
def test_a_refused_query_hears_it_at_once(hub: Any, make_client: Any, play_scene: Any, way: str) -> None:
    def refuse(turn: Any) -> None:
        if way == "in its frame":
            turn.say("hive.policy.denied", REFUSAL)
        else:
            context = {"request_id": turn.request_id} if way == "on the bus" else {"source": "hivemind-core"}
            hub.tell(turn.session, bus("hive.policy.denied", REFUSAL, context))

    hub.script.answer = refuse

    async def scene() -> None:
        async with make_client() as client:
            with pytest.raises(ThalovantPolicyDeniedError, match="not for you") as caught:
                await client.query("may I?", timeout=30)
            assert caught.value.code == "acl_disallowed_type"

    play_scene(scene)


@pytest.mark.parametrize(
    ("ending", "data", "error", "text"),
    [
        ("hive.query.timeout", {"error": "no_answer"}, ThalovantRuntimeError, "Nobody on the hub answered"),
        ("hive.query.timeout", {"error": "It broke."}, ThalovantRuntimeError, "It broke"),
        ("hive.query.complete", {}, ThalovantTimeoutError, "did not emit"),
    ],
)
def test_a_query_without_an_answer_says_why(
    hub: Any, make_client: Any, play_scene: Any, ending: str, data: Any, error: type[Exception], text: str
) -> None:
    hub.script.answer = lambda turn: turn.say(ending, data)

    async def scene() -> None:
        async with make_client() as client:
            with pytest.raises(error, match=text):
                await client.query("anybody?")

    play_scene(scene)


def test_a_query_that_nobody_understood_is_unanswered(hub: Any, make_client: Any, play_scene: Any) -> None:
    def shrug(turn: Any) -> None:
        turn.say("complete_intent_failure", {"utterance": "eh?"})
        turn.answer()

    hub.script.answer = shrug

    async def scene() -> None:
        async with make_client() as client:
            with pytest.raises(ThalovantUnansweredError) as caught:
                await client.query("mumble")
            assert caught.value.said == "eh?"

    play_scene(scene)


@pytest.mark.parametrize("ended_by", ["deadline", "cancellation"])
def test_a_query_that_is_given_up_is_cancelled_at_our_hub(
    hub: Any, make_client: Any, play_scene: Any, ended_by: str
) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make_client() as client:
            asked = asyncio.create_task(
                client.query("slow", request_id="r-1", timeout=0.3 if ended_by == "deadline" else 30)
            )
            await next_turn(hub)
            if ended_by == "cancellation":
                asked.cancel()
            with pytest.raises((ThalovantTimeoutError, asyncio.CancelledError)):
                await asked
            message = await next_message(hub)
            assert message.payload["type"] == "thalovant.ask.cancel"
            assert message.payload["data"] == {"request_id": "r-1"}

    play_scene(scene)


def test_what_was_said_before_the_deadline_of_a_query_is_its_answer(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    hub.script.answer = lambda turn: turn.say("speak", {"utterance": "half"})

    async def scene() -> None:
        async with make_client() as client:
            reply = await client.query("all?", timeout=0.3)
            assert (reply.text, reply.handled) == ("half", False)

    play_scene(scene)


def test_an_id_in_flight_cannot_be_used_again(hub: Any, make_client: Any, play_scene: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make_client() as client:
            first = asyncio.create_task(client.query("a", request_id="r", query_id="q"))
            turn = await next_turn(hub)
            for call in (
                client.query("b", request_id="r"),
                client.query("b", query_id="q"),
                client.ask("b", request_id="r"),
            ):
                with pytest.raises(ThalovantRuntimeError, match="already in flight"):
                    await call
            turn.answer("a")
            assert (await first).text == "a"

    play_scene(scene)


# After a lost link


@every_carrier
@pytest.mark.parametrize("call", ["ask", "query"])
def test_after_a_lost_link_the_answer_goes_on_where_it_was_and_nobody_hears_a_part_twice(
    hub: Any, make_client: Any, play_scene: Any, carrier: str, call: str
) -> None:
    hub.script.answer = None
    hub.script.capabilities = ["handled", "query"]
    spoken: list[str] = []

    async def scene() -> None:
        async with make_client(carrier) as client:
            client.on("speak", lambda event: spoken.append(event.text))
            marked = client._asking._give
            heard = asyncio.Event()

            def give(*arguments: Any) -> bool:
                news: bool = marked(*arguments)
                heard.set()
                return news

            client._asking._give = give
            asked = asyncio.create_task(getattr(client, call)("count", request_id="r-1"))
            turn = await next_turn(hub)
            assert turn.heard is None
            turn.say("speak", {"utterance": "one"}, mark={"turn": "t", "parts": 1})
            await heard.wait()
            hub.cut()
            turn = await next_turn(hub)
            assert turn.heard == {"turn": "t", "parts": 1}
            assert turn.payload["context"]["thalovant"]["timeout_ms"] == 13_000
            turn.say("speak", {"utterance": "one"}, mark={"turn": "t", "parts": 1})  # a hub that resends all the same
            turn.say("speak", {"utterance": "two"}, mark={"turn": "t", "parts": 2})
            turn.answer()
            assert (await asked).utterances == ("one", "two")

    play_scene(scene)
    assert spoken == (["one", "two"] if call == "ask" else [])


def test_when_the_hub_forgot_the_ask_its_new_answer_counts_alone(hub: Any, make_client: Any, play_scene: Any) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make_client() as client:
            heard = asyncio.create_task(client.wait_for_event("speak"))
            asked = asyncio.create_task(client.ask("count"))
            (await next_turn(hub)).say("speak", {"utterance": "old"}, mark={"turn": "before", "parts": 1})
            await heard
            hub.cut()
            turn = await next_turn(hub)
            turn.say("speak", {"utterance": "new"}, mark={"turn": "after", "parts": 1})
            turn.answer()
            assert (await asked).utterances == ("new",)

    play_scene(scene)


def test_a_query_is_not_repeated_at_a_hub_that_does_not_promise_to_run_it_once(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    hub.script.answer = None  # and its capabilities are only "handled"

    async def scene() -> None:
        async with make_client() as client:
            asked = asyncio.create_task(client.query("once"))
            await next_turn(hub)
            hub.cut()
            with pytest.raises(ThalovantConnectionError):
                await asked

    play_scene(scene)
    assert len(hub.requests) == 1


# Carrying on


@every_carrier
def test_what_the_hub_leaves_of_a_turn_is_carried_on_in_its_session_only(
    hub: Any, make_client: Any, play_scene: Any, carrier: str
) -> None:
    def answer(turn: Any) -> None:
        hub.turns.put(turn)
        turn.say("speak", {"utterance": turn.text})
        session = turn.payload["context"]["session"] | {"active_handlers": [turn.text], "pipeline": ["not carried"]}
        turn.say("ovos.utterance.handled", session=session)

    hub.script.answer = answer

    async def scene() -> None:
        async with make_client(carrier) as client:
            await client.ask("one", session_id="s")
            await client.ask("two", session_id="s")
            await client.ask("other", session_id="t")
            await client.ask("own", session_id="s", context={"session": {"active_handlers": ["mine"]}})
            await client.send_utterance("not waited for", session_id="s")
            sessions = [(await next_turn(hub)).payload["context"]["session"] for _ in range(5)]
            carried = [session.get("active_handlers") for session in sessions]
            assert carried == [None, ["one"], None, ["mine"], None]
            assert all("pipeline" not in session for session in sessions)

    play_scene(scene)


# Frames for others


def deny(session: Any, message: Any) -> None:
    if message.msg_type in ("broadcast", "propagate", "escalate"):
        request_id = message.nested().payload["context"]["request_id"]
        data = {"denied_type": message.msg_type, "code": "unsupported_frame", "reason": "not here"}
        session.hub.tell(session, bus("hive.policy.denied", data, {"request_id": request_id}))


@every_carrier
@pytest.mark.parametrize("kind", ["broadcast", "propagate", "escalate"])
def test_a_hub_of_ours_that_passes_nothing_on_says_so(
    hub: Any, make_client: Any, play_scene: Any, carrier: str, kind: str
) -> None:
    hub.script.hear = deny

    async def scene() -> None:
        async with make_client(carrier) as client:
            with pytest.raises(ThalovantPolicyDeniedError, match=f"refused '{kind}': not here") as caught:
                await getattr(client, kind)("dinner", {"at": 7}, {"own": 1})
            assert (caught.value.denied_type, caught.value.code) == (kind, "unsupported_frame")
            message = await next_message(hub)
            inner = message.nested()
            assert (message.msg_type, inner.payload["type"], inner.payload["data"]) == (kind, "dinner", {"at": 7})
            assert inner.payload["context"]["own"] == 1
            assert inner.payload["context"]["destination"] == "HiveMind"
            assert (await client.ask("still here")).text == "still here"

    play_scene(scene)


@pytest.mark.parametrize("capabilities", [None, ["handled", "broadcast"]], ids=str)
def test_where_they_may_be_passed_on_nobody_waits_for_a_refusal(
    hub: Any, make_client: Any, play_scene: Any, capabilities: Any
) -> None:
    hub.script.capabilities = capabilities

    async def scene() -> None:
        async with make_client() as client:
            sent = await client.broadcast("dinner")
            assert (sent.msg_type, sent.nested().payload["type"]) == ("broadcast", "dinner")
            assert "request_id" not in sent.nested().payload["context"]
            await next_message(hub)

    play_scene(scene)


def test_a_lost_link_ends_the_wait_for_a_refusal(hub: Any, make_client: Any, play_scene: Any) -> None:
    hub.script.hear = lambda session, message: hub.cut()

    async def scene() -> None:
        async with make_client(auto_reconnect=False) as client:
            with pytest.raises(ThalovantConnectionError):
                await client.escalate("help")

    play_scene(scene)


def test_nothing_of_a_query_is_logged(
    hub: Any, make_client: Any, play_scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "thalovant")

    async def scene() -> None:
        async with make_client() as client:
            await client.query("a secret of the user")

    play_scene(scene)
    assert "secret of the user" not in caplog.text
