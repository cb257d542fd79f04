# SPDX-License-Identifier: Apache-2.0
"""Conversations: one session, language and context for each call; only their own events; over lost links."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from thalovant import keeping
from thalovant.conversation import AsyncThalovantConversation, joined_context, own_session
from thalovant.protocol.messages import bus

every_carrier = pytest.mark.parametrize("carrier", ["wss", "https", "mqtt"])


async def next_turn(hub: Any) -> Any:
    return await asyncio.to_thread(hub.turns.get, True, 5)


async def connected(hub: Any) -> None:
    await asyncio.to_thread(hub.hello.get, True, 5)


def echo_and_keep(hub: Any) -> None:
    """Answer each turn, leave its text in the session, and keep it."""

    def answer(turn: Any) -> None:
        hub.turns.put(turn)
        turn.say("speak", {"utterance": turn.text})
        if turn.query_id is not None:
            turn.say("hive.query.complete")
            return
        turn.say("ovos.utterance.handled", session=turn.payload["context"]["session"] | {"context": turn.text})

    hub.script.answer = answer


@every_carrier
def test_each_call_has_the_session_and_the_language_of_its_conversation(
    hub: Any, make_client: Any, play_scene: Any, carrier: str
) -> None:
    echo_and_keep(hub)

    async def scene() -> None:
        async with make_client(carrier) as client:
            talk = client.conversation(lang="de-de", context={"own": 1, "session": {"mark": "m"}})
            assert re.fullmatch(r"thalovant-session-[0-9a-f]{32}", talk.session_id)
            assert (await talk.ask("eins")).text == "eins"
            assert (await talk.query("zwei")).text == "zwei"
            await talk.send_utterance("drei")
            await talk.send_action("vier", title="4")
            await talk.send_code("fünf", label="5")
            assert (await talk.ask("six", lang="en-us", context={"own": 2, "session": {"more": 1}})).text == "six"
            turns = [await next_turn(hub) for _ in range(6)]
            contexts = [turn.payload["context"] for turn in turns]
            assert {context["session"]["session_id"] for context in contexts} == {talk.session_id}
            assert {context["session"]["mark"] for context in contexts} == {"m"}
            assert [context["own"] for context in contexts] == [1, 1, 1, 1, 1, 2]
            assert [turn.payload["data"]["lang"] for turn in turns] == ["de-de"] * 5 + ["en-us"]
            assert [context["session"].get("context") for context in contexts] == [None] * 5 + ["eins"]
            assert contexts[5]["session"]["more"] == 1
            assert [turn.payload["data"]["utterances"][0] for turn in turns] == [
                "eins",
                "zwei",
                "drei",
                "vier",
                "fünf",
                "six",
            ]

    play_scene(scene)


def test_what_one_conversation_left_is_not_carried_into_another(hub: Any, make_client: Any, play_scene: Any) -> None:
    echo_and_keep(hub)

    async def scene() -> None:
        async with make_client() as client:
            one, other = client.conversation(session_id="one"), client.conversation(session_id="other")
            await asyncio.gather(one.ask("1"), other.ask("2"))
            await asyncio.gather(one.ask("3"), other.ask("4"))
            carried = {}
            for _ in range(4):
                turn = await next_turn(hub)
                carried[turn.text] = turn.payload["context"]["session"].get("context")
            assert carried == {"1": None, "2": None, "3": "1", "4": "2"}

    play_scene(scene)


def test_a_session_is_taken_up_again_by_its_name(hub: Any, make_client: Any, play_scene: Any) -> None:
    echo_and_keep(hub)

    async def scene() -> None:
        async with make_client() as client:
            async with client.conversation(session_id="s") as talk:
                await talk.ask("1")
            async with client.conversation(session_id="s") as talk:
                await talk.ask("2")
            assert [(await next_turn(hub)).payload["context"]["session"].get("context") for _ in "12"] == [None, "1"]

    play_scene(scene)


def test_emitting_names_the_session(hub: Any, make_client: Any, play_scene: Any) -> None:
    async def scene() -> None:
        async with make_client() as client:
            talk = client.conversation(session_id="s", lang="de-de", context={"own": 1})
            await talk.emit("news", {"a": 1}, {"session": {"session_id": "elsewhere", "lang": "fr-fr"}})
            await talk.emit("more")
            first, second = [(await asyncio.to_thread(hub.messages.get, True, 5)).payload for _ in "12"]
            assert (first["type"], first["data"], first["context"]["own"]) == ("news", {"a": 1}, 1)
            assert first["context"]["session"] == {"session_id": "s", "lang": "fr-fr", "site_id": "kitchen"}
            assert second["context"]["session"] == {"session_id": "s", "lang": "de-de", "site_id": "kitchen"}

    play_scene(scene)


@every_carrier
def test_only_events_of_its_session_or_of_none_are_heard(
    hub: Any, make_client: Any, play_scene: Any, carrier: str
) -> None:
    heard: list[int] = []

    async def scene() -> None:
        async with make_client(carrier) as client:
            await connected(hub)
            talk = client.conversation(session_id="mine")
            talk.on("news", lambda event: heard.append(event.data["n"]))
            waiting = asyncio.create_task(talk.wait_for_event("news", predicate=lambda event: event.data["n"] > 1))

            async def listen() -> list[int]:
                return [event.data["n"] async for event in talk.listen("news", max_events=2)]

            listening = asyncio.create_task(listen())
            async with asyncio.timeout(5):
                while client._asking._awaited < 2:
                    await asyncio.sleep(0.002)
            sessions: list[dict[str, Any]] = [{"session_id": "mine"}, {"session_id": "theirs"}, {}]
            for number, session in enumerate(sessions, 1):
                hub.tell_all(bus("news", {"n": number}, {"session": session}))
            assert (await waiting).data["n"] == 3
            assert await listening == [1, 3]

    play_scene(scene)
    assert heard == [1, 3]


@every_carrier
def test_it_goes_on_after_a_lost_link(
    hub: Any, make_client: Any, play_scene: Any, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FIRST_REDIAL", 0.01)
    echo_and_keep(hub)
    heard: list[str] = []

    async def scene() -> None:
        async with make_client(carrier) as client:
            talk = client.conversation()
            talk.on("speak", lambda event: heard.append(event.text))
            await talk.ask("before")
            await connected(hub)
            hub.cut()
            await connected(hub)
            await talk.ask("after")
            first, second = [(await next_turn(hub)).payload["context"]["session"] for _ in "12"]
            assert first["session_id"] == second["session_id"] == talk.session_id
            assert second["context"] == "before"

    play_scene(scene)
    assert heard == ["before", "after"]


def test_leaving_a_conversation_ends_nothing(hub: Any, make_client: Any, play_scene: Any) -> None:
    heard: list[str] = []

    async def scene() -> None:
        async with make_client() as client:
            async with client.conversation(session_id="s") as talk:
                talk.on("speak", lambda event: heard.append(event.text))
            await client.ask("on", session_id="s")
            assert isinstance(talk, AsyncThalovantConversation)
            assert repr(talk) == "AsyncThalovantConversation('s')"

    play_scene(scene)
    assert heard == ["on"]


@pytest.mark.parametrize(
    ("own", "call", "joined"),
    [
        ({}, None, {}),
        ({"a": 1}, None, {"a": 1}),
        ({"a": 1, "b": 1}, {"b": 2, "c": 2}, {"a": 1, "b": 2, "c": 2}),
        ({"session": {"x": 1, "y": 1}}, {"session": {"y": 2}}, {"session": {"x": 1, "y": 2}}),
        ({"session": {"x": 1}}, {"session": "text"}, {"session": {"x": 1}}),
        ({"session": "text"}, None, {"session": "text"}),
    ],
)
def test_contexts_are_joined_with_the_calls_on_top(own: Any, call: Any, joined: Any) -> None:
    assert joined_context(own, call) == joined


def test_the_session_is_the_conversations_whatever_the_context_says() -> None:
    assert own_session({"session": {"session_id": "x", "k": 1}}, "s", "de") == {
        "session": {"session_id": "s", "k": 1, "lang": "de"}
    }
    assert own_session({"session": None, "a": 1}, "s", "de") == {"session": {"session_id": "s", "lang": "de"}, "a": 1}
