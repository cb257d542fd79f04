# SPDX-License-Identifier: Apache-2.0
"""Listening over each carrier: every event once, in order, over lost links; and what a hub passes on to nobody."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from thalovant import (
    AsyncThalovantClient,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantIdentity,
    ThalovantPolicyDeniedError,
)

every_carrier = pytest.mark.parametrize("carrier", ["mqtt", "wss", "https"])


@every_carrier
def test_each_event_is_heard_once_and_in_order_whatever_the_links_do(
    carrier: str, api: ThalovantControlPlane, make_hub: Callable[..., str], proxied: Callable[..., Any]
) -> None:
    """Asks are repeated after each cut; a listener and a subscriber hear every part of every answer once."""
    way = proxied(api.create_client_identity(make_hub(f"listen-{carrier}", agent="gated"), name="listener").identity)
    heard: list[str] = []
    expected: list[str] = []

    async def main() -> None:
        async with AsyncThalovantClient(way.identity, protocol=carrier) as client:
            client.on("speak", lambda event: heard.append(event.text), predicate=is_part)
            listening = asyncio.create_task(collect(client))
            for turn in range(4):
                name = f"{carrier}-{turn}"
                asked = asyncio.create_task(client.ask(f"say {name} {name}a {name}b | {name}c", request_id=name))
                await until(lambda name=name: f"{name}a" in heard)
                way.cut(carrier)
                await client.ask(f"open {name}")
                reply = await asked
                expected.extend(reply.utterances[:-1])
                assert reply.utterances == (f"{name}a", f"{name}b", f"{name}c", "run 1")
            await client.close()
            assert await listening == expected

    def is_part(event: Any) -> bool:
        return event.text.startswith(carrier)

    async def collect(client: AsyncThalovantClient) -> list[str]:
        return [event.text async for event in client.listen("speak", predicate=is_part)]

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    asyncio.run(main())
    assert heard == expected
    assert len(expected) == 12


@every_carrier
@pytest.mark.parametrize("kind", ["broadcast", "propagate", "escalate"])
def test_a_hub_of_ours_passes_nothing_on_and_says_so(carrier: str, kind: str, identity: ThalovantIdentity) -> None:
    refusals: list[Any] = []
    with ThalovantClient(identity, protocol=carrier) as client:
        client.on("hive.policy.denied", refusals.append)
        with pytest.raises(ThalovantPolicyDeniedError, match=f"refused '{kind}'") as caught:
            getattr(client, kind)("dinner", {"at": 7})
        assert caught.value.code == ("not_granted" if kind == "broadcast" else "unsupported_frame")
        assert client.ask("still here").text == "still here"
        assert client.healthcheck().ok
    assert [event.data["denied_type"] for event in refusals] == [kind]


@every_carrier
def test_a_closed_client_leaves_nothing(carrier: str, identity: ThalovantIdentity) -> None:
    """No task, thread, socket or warning; the tests' warnings are errors."""

    async def main() -> None:
        client = AsyncThalovantClient(identity, protocol=carrier)
        async with client:
            talk = client.conversation()
            await asyncio.gather(talk.ask("one"), talk.query("two"), client.send_utterance("three"))
            talk.on("speak", str)
            await client.on_hive("propagate", str)
            await client.on_binary(str)
            listeners = [asyncio.create_task(anext(client.listen(name), None)) for name in ("a", "b")]
            waiting = asyncio.create_task(talk.wait_for_event("never"))
            lost = asyncio.create_task(talk.query("never answered" * 10))
            lost.cancel()
            await asyncio.sleep(0)
            waiting.cancel()
        assert await asyncio.gather(*listeners) == [None, None]
        await asyncio.gather(waiting, lost, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # what the libraries have cancelled ends
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    before = {thread.name for thread in threading.enumerate()}
    asyncio.run(main(), debug=True)
    gc.collect()
    assert {thread.name for thread in threading.enumerate()} <= before
