# SPDX-License-Identifier: Apache-2.0
"""Who hears what, in which order, and what a handler that fails or leaves does to the others."""

from __future__ import annotations

from typing import Any

import pytest

from thalovant.events import ThalovantEvent
from thalovant.subscriptions import Subscriptions, event_filter


def event(name: str = "news", **context: Any) -> ThalovantEvent:
    return ThalovantEvent(name, {"n": 1}, context, None)


def test_handlers_hear_their_own_events_in_order() -> None:
    register, heard = Subscriptions(), []
    for number in range(3):
        register.add("news", lambda _, number=number: heard.append(number))  # type: ignore[misc]
    register.add("other", lambda _: heard.append("other"))
    register.deliver(event().name, event())
    register.deliver(event("nobody listens").name, event("nobody listens"))
    assert heard == [0, 1, 2]
    assert "news" in register and "nobody listens" not in register


def test_a_subscription_can_be_ended_in_each_way() -> None:
    register, heard = Subscriptions(), []
    first = register.add("news", lambda _: heard.append(1))
    with register.add("news", lambda _: heard.append(2)):
        register.deliver(event().name, event())
    first.close()
    first.unsubscribe()
    register.deliver(event().name, event())
    assert heard == [1, 2]
    assert "news" not in register
    assert "news" in repr(first)


def test_the_same_handler_twice_is_two_subscriptions() -> None:
    register, heard = Subscriptions(), []
    first, _ = register.add("news", heard.append), register.add("news", heard.append)
    first.close()
    register.deliver(event().name, event())
    assert len(heard) == 1


def test_a_handler_may_end_subscriptions_while_it_runs() -> None:
    register, heard = Subscriptions(), []
    first = register.add("news", lambda _: (heard.append(1), first.close(), register.add("news", heard.append)))
    register.deliver(event().name, event())
    register.deliver(event().name, event())
    assert len(heard) == 2


def test_a_failing_handler_does_not_stop_the_next(caplog: pytest.LogCaptureFixture) -> None:
    register, heard = Subscriptions(), []

    def fail(_: ThalovantEvent) -> None:
        raise ValueError("of the user")

    register.add("news", fail)
    register.add("news", heard.append)
    register.deliver(event().name, event())
    assert len(heard) == 1 and "of the user" in caplog.text


def test_without_conditions_there_is_no_filter() -> None:
    assert event_filter(None, None, None, None) is None


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ((None, None, "r", None), True),
        ((None, None, "other", None), False),
        ((None, "s", None, None), True),
        ((None, "other", None, None), False),
        (({"request_id": "r"}, None, None, None), True),
        ((None, None, None, lambda one: one.data["n"] == 1), True),
        ((None, None, "r", lambda one: one.data["n"] == 2), False),
    ],
)
def test_conditions(conditions: Any, fits: bool) -> None:
    check = event_filter(*conditions)
    assert check is not None
    assert check(event(request_id="r", session={"session_id": "s"})) is fits
