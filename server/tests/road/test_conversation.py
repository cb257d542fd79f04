# SPDX-License-Identifier: Apache-2.0
"""Conversations over each carrier: one session for the agent, over lost links and restarts, apart from others'."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity, ThalovantReply

every_carrier = pytest.mark.parametrize("carrier", ["mqtt", "wss", "https"])


@pytest.fixture
def identity_of(
    api: ThalovantControlPlane, make_hub: Callable[..., str], request: pytest.FixtureRequest
) -> Callable[[str], ThalovantIdentity]:
    """Make an identity of a fresh hub with the agent `session`."""

    def make(name: str) -> ThalovantIdentity:
        hub = make_hub(f"{name} {request.node.name}"[:60], agent="session")
        return api.create_client_identity(hub, name=name).identity

    return make


def seen(reply: ThalovantReply) -> tuple[str, Any]:
    """The session and what is carried on in it, as the agent sees them."""
    session, carried = json.loads(reply.text)
    return session, carried


@every_carrier
def test_the_agent_sees_one_session_and_other_conversations_have_others(
    carrier: str, identity_of: Callable[[str], ThalovantIdentity]
) -> None:
    with ThalovantClient(identity_of("talker"), protocol=carrier) as client:
        one, other = client.conversation(), client.conversation(session_id="by-name")
        sessions = {seen(talk.ask("hi"))[0] for talk in (one, one, one)}
        assert len(sessions) == 1
        assert sessions.pop().endswith(f":{one.session_id}")
        assert seen(other.ask("hi"))[0].endswith(":by-name")
        assert seen(one.query("hi"))[0].endswith(f":{one.session_id}")
        assert seen(client.ask("hi"))[0] not in {one.session_id, "by-name"}


@every_carrier
def test_what_a_turn_leaves_comes_back_with_the_next_and_after_a_lost_link(
    carrier: str, identity_of: Callable[[str], ThalovantIdentity], proxied: Callable[..., Any]
) -> None:
    way = proxied(identity_of("talker"))
    heard: list[str] = []
    with ThalovantClient(way.identity, protocol=carrier) as client:
        with client.conversation() as talk:
            talk.on("speak", lambda event: heard.append(event.text))
            first, carried = seen(talk.ask("one", context={"session": {"active_handlers": [["skill", 1]]}}))
            assert carried == [["skill", 1]]
            assert seen(talk.ask("two")) == (first, [["skill", 1]])
            way.cut(carrier)
            assert seen(talk.ask("three")) == (first, [["skill", 1]])
            assert seen(talk.ask("four", context={"session": {"active_handlers": []}})) == (first, [])
            assert seen(talk.ask("five")) == (first, [])
        assert seen(client.conversation().ask("another"))[1] is None
    assert len(heard) == 5


def test_two_clients_that_choose_one_name_share_nothing(
    api: ThalovantControlPlane, make_hub: Callable[..., str]
) -> None:
    hub = make_hub("namesakes", agent="session")
    sessions = set()
    for name in ("one", "other"):
        with ThalovantClient(api.create_client_identity(hub, name=name).identity, protocol="wss") as client:
            sessions.add(seen(client.conversation(session_id="same").ask("hi"))[0])
    assert len(sessions) == 2


@every_carrier
def test_what_is_sent_without_waiting_is_answered_to_who_listens(
    carrier: str, identity_of: Callable[[str], ThalovantIdentity]
) -> None:
    with ThalovantClient(identity_of("talker"), protocol=carrier) as client:
        talk = client.conversation()
        sends = (
            lambda: talk.send_utterance("hi"),
            lambda: talk.send_action("/yes", title="Yes"),
            lambda: talk.send_code("1234", label="PIN"),
        )
        for send in sends:
            events = talk.listen("speak", timeout=20, max_events=1)
            heard = list(after_listening(client, events, send))
            assert [json.loads(event.text)[0].endswith(f":{talk.session_id}") for event in heard] == [True]


def after_listening(client: ThalovantClient, events: Any, send: Callable[[], Any]) -> Any:
    """Begin to listen, then send; give what is heard."""

    def speak() -> None:
        while not client._core._asking._awaited:
            time.sleep(0.005)
        send()

    thread = threading.Thread(target=speak)
    thread.start()
    yield from events
    thread.join()
