# SPDX-License-Identifier: Apache-2.0
"""What is sent without waiting for an answer looks on the wire as published clients' messages do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantRuntimeError
from thalovant.events import ThalovantEvent
from thalovant.protocol.messages import bus

every_carrier = pytest.mark.parametrize("carrier", ["wss", "https", "mqtt"])


async def next_turn(hub: Any) -> Any:
    return await asyncio.to_thread(hub.turns.get, True, 5)


async def next_message(hub: Any) -> Any:
    return await asyncio.to_thread(hub.messages.get, True, 5)


@every_carrier
def test_utterances_actions_and_codes_say_what_the_contract_demands(
    hub: Any, make_client: Any, play_scene: Any, carrier: str
) -> None:
    hub.script.answer = None

    async def scene() -> None:
        async with make_client(carrier, useragent="app/1") as client:
            sent = await client.send_utterance("hi", lang="de-de", session_id="s", request_id="r", context={"own": 1})
            turn = await next_turn(hub)
            assert turn.payload == sent.payload
            assert turn.payload["data"] == {"utterances": ["hi"], "lang": "de-de"}
            assert turn.payload["context"] == {
                "own": 1,
                "request_id": "r",
                "thalovant_request_id": "r",
                "session": {"session_id": "s", "site_id": "kitchen", "lang": "de-de", "request_id": "r"},
                "source": "app/1",
                "platform": "app/1",
                "destination": "HiveMind",
            }
            await client.send_action("/yes", title="Yes")
            action = (await next_turn(hub)).payload
            assert action["data"] == {"utterances": ["/yes"], "lang": "en-us"}
            assert action["context"]["input"] == {"kind": "action", "title": "Yes", "payload": "/yes"}
            await client.send_code("1234", label="PIN")
            code = (await next_turn(hub)).payload
            exact = {"kind": "code", "label": "PIN", "value": "1234", "exact": True}
            assert code["data"] == {"utterances": ["1234"], "lang": "en-us", "input": exact}
            assert code["context"]["input"] == exact
            assert code["context"]["request_id"] != action["context"]["request_id"]

    play_scene(scene)


def from_the_hub(**context: Any) -> Any:
    return bus("question", {}, {"source": "hive", "destination": "peer", "request_id": "r", "k": 1} | context)


@every_carrier
def test_a_reply_goes_back_where_its_event_came_from(hub: Any, make_client: Any, play_scene: Any, carrier: str) -> None:
    async def scene() -> None:
        async with make_client(carrier) as client:
            await asyncio.to_thread(hub.hello.get, True, 5)
            heard = asyncio.create_task(client.wait_for_event("question"))
            await asyncio.sleep(0)
            hub.tell_all(from_the_hub(session={"session_id": "theirs"}))
            event = await heard
            assert event.context["source"] == ("hive" if carrier == "mqtt" else "peer")
            await client.reply(event, "answer", {"a": 1})
            message = (await next_message(hub)).payload
            assert (message["type"], message["data"]) == ("answer", {"a": 1})
            context = message["context"]
            assert (context["source"], context["destination"]) == ("peer", "hive")
            assert (context["request_id"], context["k"]) == ("r", 1)
            assert context["session"] == {"session_id": "theirs", "site_id": "kitchen"}
            await client.reply(event.raw, "again", context={"source": "elsewhere", "k": 2})
            context = (await next_message(hub)).payload["context"]
            assert (context["source"], context["destination"], context["k"]) == ("peer", "elsewhere", 2)

    play_scene(scene)


@pytest.mark.parametrize(
    "event",
    [
        ThalovantEvent("question", {}, {"source": "a", "destination": "b"}, None),
        {"context": {"source": "a", "destination": "b"}},
    ],
    ids=["made by hand", "a dictionary"],
)
def test_a_reply_to_something_else_takes_its_context(hub: Any, make_client: Any, play_scene: Any, event: Any) -> None:
    async def scene() -> None:
        async with make_client() as client:
            await client.reply(event, "answer")
            context = (await next_message(hub)).payload["context"]
            assert (context["source"], context["destination"]) == ("b", "a")
            for nothing in (None, 7, {"context": "text"}, bus("x")):
                await client.reply(nothing, "answer")
                assert (await next_message(hub)).payload["context"]["destination"] == "HiveMind"

    play_scene(scene)


def test_what_json_cannot_hold_is_an_error_of_the_caller_and_the_link_goes_on(
    hub: Any, make_client: Any, play_scene: Any
) -> None:
    bad = {"x": object()}

    async def scene() -> None:
        async with make_client() as client:
            calls = [
                lambda: client.emit("a", bad),
                lambda: client.send_utterance("a", context=bad),
                lambda: client.send_action("a", context=bad),
                lambda: client.send_code("a", context=bad),
                lambda: client.reply(None, "a", bad),
                lambda: client.broadcast("a", bad),
                lambda: client.query("a", context=bad),
                lambda: client.ask("a", context=bad),
            ]
            for call in calls:
                with pytest.raises(ThalovantRuntimeError):
                    await call()
            assert (await client.ask("still here")).text == "still here"

    play_scene(scene)


def test_after_close_nothing_is_sent(make_client: Any, play_scene: Any) -> None:
    async def scene() -> None:
        client = make_client()
        await client.close()
        for call in (
            client.query("a"),
            client.send_utterance("a"),
            client.send_action("a"),
            client.send_code("a"),
            client.reply(None, "a"),
            client.broadcast("a"),
            client.propagate("a"),
            client.escalate("a"),
            client.conversation().ask("a"),
        ):
            with pytest.raises(ThalovantConnectionError, match="closed"):
                await call

    play_scene(scene)
