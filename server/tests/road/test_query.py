# SPDX-License-Identifier: Apache-2.0
"""Queries over each carrier: answered in order, refused by name, ended with their asker, run once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from thalovant import (
    AsyncThalovantClient,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantIdentity,
    ThalovantPolicyDeniedError,
    ThalovantRuntimeError,
)

every_carrier = pytest.mark.parametrize("carrier", ["mqtt", "wss", "https"])


@pytest.fixture
def identity_of(
    api: ThalovantControlPlane, make_hub: Callable[..., str], request: pytest.FixtureRequest
) -> Callable[..., ThalovantIdentity]:
    """Make an identity of a fresh hub with that agent."""

    def make(agent: str, **spec: Any) -> ThalovantIdentity:
        hub = make_hub(f"{agent} {request.node.name}"[:60], agent=agent)
        return api.create_client_identity(hub, name="asker", spec={"version": "1", **spec}).identity

    return make


@every_carrier
def test_a_query_is_answered(carrier: str, identity: ThalovantIdentity) -> None:
    with ThalovantClient(identity, protocol=carrier) as client:
        for text in ("one", "zwei 二 🙂", "x" * 200_000):
            reply = client.query(text)
            assert (reply.text, reply.ok) == (text, True)
            assert reply.events[-1].name == "hive.query.complete"


@every_carrier
def test_parts_come_in_order_and_the_query_ends_with_the_answer(
    carrier: str, identity_of: Callable[..., ThalovantIdentity]
) -> None:
    with ThalovantClient(identity_of("parts"), protocol=carrier, reply_settle_seconds=3600.0) as client:
        assert client.query("a b c a").utterances == ("a", "b", "c", "a")
        with client.conversation() as talk:
            assert talk.query("d e").utterances == ("d", "e")


@every_carrier
def test_many_queries_and_asks_at_once(carrier: str, identity: ThalovantIdentity) -> None:
    async def main() -> None:
        async with AsyncThalovantClient(identity, protocol=carrier) as client:
            texts = [f"question {n}" for n in range(30)]
            replies = await asyncio.gather(
                *((client.query if n % 2 else client.ask)(text) for n, text in enumerate(texts))
            )
            assert [reply.text for reply in replies] == texts

    asyncio.run(main())


@every_carrier
@pytest.mark.parametrize(
    ("spec", "code", "denied_type"),
    [
        ({"allowed_types": []}, "acl_disallowed_type", "recognizer_loop:utterance"),
        ({"can_escalate": False}, "not_granted", "query"),
    ],
    ids=["type", "grant"],
)
def test_a_refusal_is_heard_at_once_and_the_connection_stays(
    carrier: str, spec: Any, code: str, denied_type: str, identity_of: Callable[..., ThalovantIdentity]
) -> None:
    with ThalovantClient(identity_of("echo", **spec), protocol=carrier) as client:
        for _ in range(2):
            with pytest.raises(ThalovantPolicyDeniedError) as caught:
                client.query("may I?", timeout=60.0)
            assert (caught.value.code, caught.value.denied_type) == (code, denied_type)
        assert client.healthcheck().ok
        if code == "not_granted":
            assert client.ask("but I may ask").text == "but I may ask"


@every_carrier
def test_without_an_answer_it_says_why(carrier: str, identity_of: Callable[..., ThalovantIdentity]) -> None:
    mute, raises = (ThalovantClient(identity_of(agent), protocol=carrier) for agent in ("mute", "raises"))
    with mute, pytest.raises(ThalovantRuntimeError, match="Nobody on the hub answered"):
        mute.query("anybody?")
    with raises, pytest.raises(ThalovantRuntimeError, match="failed to answer") as caught:
        raises.query("anything")
    assert "the-agents-own-secret" not in str(caught.value)


def test_a_query_past_its_deadline_keeps_what_was_said(identity_of: Callable[..., ThalovantIdentity]) -> None:
    with ThalovantClient(identity_of("forever"), protocol="wss") as client:
        client.connect()
        reply = client.query("are you done?", timeout=1.0)
        assert (reply.text, reply.handled) == ("so far", False)


@every_carrier
def test_a_query_that_is_given_up_stops_the_agent(carrier: str, identity_of: Callable[..., ThalovantIdentity]) -> None:
    name = f"given-up-{carrier}"

    async def main() -> None:
        async with AsyncThalovantClient(identity_of("gated"), protocol=carrier) as client:
            asked = asyncio.create_task(client.query(f"say {name} one |", request_id="r"))
            await heard_of(client, asked, 1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert (await client.ask(f"open {name}")).text == "opened"
            # A cancelled turn is not remembered: had the agent gone on, the same query would hear its first run.
            assert (await client.query(f"say {name} one |", request_id="r")).utterances == ("one", "run 2")

    asyncio.run(main())


@every_carrier
def test_an_ask_and_a_query_of_one_request_run_once(
    carrier: str, identity_of: Callable[..., ThalovantIdentity]
) -> None:
    with ThalovantClient(identity_of("gated"), protocol=carrier) as client:
        text = f"say once-{carrier} word"
        assert client.ask(text, request_id="same").utterances == ("word", "run 1")
        assert client.query(text, request_id="same").utterances == ("word", "run 1")
        assert client.query(text, request_id="other").utterances == ("word", "run 2")


@every_carrier
@pytest.mark.parametrize("call", ["ask", "query"])
def test_a_link_cut_in_the_middle_of_an_answer_costs_nothing_and_repeats_nothing(
    carrier: str,
    call: str,
    identity_of: Callable[..., ThalovantIdentity],
    proxied: Callable[..., Any],
) -> None:
    """The agent runs once, the answer is whole, and whoever subscribed hears each part once."""
    way, name = proxied(identity_of("gated")), f"cut-{carrier}-{call}"
    heard: list[str] = []

    async def main() -> None:
        async with AsyncThalovantClient(way.identity, protocol=carrier) as client:
            client.on("speak", lambda event: heard.append(event.text), request_id="r")
            listening = asyncio.create_task(collect(client))
            asked = asyncio.create_task(getattr(client, call)(f"say {name} one two | three", request_id="r"))
            await heard_of(client, asked, 2)
            way.cut(carrier)
            assert (await client.ask(f"open {name}")).text == "opened"
            reply = await asked
            assert reply.utterances == ("one", "two", "three", "run 1")
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def collect(client: AsyncThalovantClient) -> None:
        async for event in client.listen("speak", request_id="r"):
            listened.append(event.text)

    listened: list[str] = []
    asyncio.run(main())
    spoken = ["one", "two", "three", "run 1"] if call == "ask" else []
    assert heard == spoken
    assert listened == spoken


async def heard_of(client: AsyncThalovantClient, asked: asyncio.Task[Any], parts: int) -> None:
    """Wait until the client has heard so many parts of what it asked."""
    async with asyncio.timeout(20):
        while not asked.done():
            pending = client._asking._pending.get("r")
            if pending is not None and pending.ask.heard is not None and pending.ask.heard.parts >= parts:
                return
            await asyncio.sleep(0.005)
