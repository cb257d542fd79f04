# SPDX-License-Identifier: Apache-2.0
"""A watch over who is online: nothing is told twice, and what happened while the stream was lost is told then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.api_session import HttpAnswer
from thalovant.errors import ThalovantAPIError, ThalovantAPIUnreachableError, ThalovantAuthError
from thalovant.presence import ClientPresence, PresenceWatch

STREAM = HttpAnswer(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")
READY = b"event: ready\ndata: {}\n\n"


def told(name: str, state: str = "online", **more: Any) -> dict[str, Any]:
    return {"client_id": f"client-{name}", "hub_id": "hub-1", "name": name, "state": state, "sessions": 1, **more}


def event(row: dict[str, Any]) -> bytes:
    return b"event: presence\ndata: " + json.dumps(row).encode() + b"\n\n"


def opened() -> PresenceWatch:
    watch = PresenceWatch(lambda low, high: (low + high) / 2)
    watch.opened(STREAM)
    return watch


def names(found: list[ClientPresence]) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in found]


class TestValue:
    def test_it_holds_what_the_server_says(self) -> None:
        row = told("lamp", since="2026-11-22T10:00:00.000Z", carrier="mqtt", address="10.0.0.7", why=None, more="x")
        one = ClientPresence.from_dict(row)
        assert (one.state, one.carrier, one.why, one.sessions) == ("online", "mqtt", None, 1)
        assert ClientPresence.from_dict(one.as_dict()) == one

    @pytest.mark.parametrize("name", ["client_id", "hub_id", "name", "state"])
    @pytest.mark.parametrize("wrong", [None, 7])
    def test_what_is_required(self, name: str, wrong: Any) -> None:
        with pytest.raises(ThalovantAPIError, match=name):
            ClientPresence.from_dict(told("lamp") | {name: wrong})


class TestStream:
    def test_each_client_once_and_then_each_change(self) -> None:
        watch = opened()
        assert names(watch.feed(event(told("a")) + event(told("b", "offline")) + READY)) == [
            ("a", "online"),
            ("b", "offline"),
        ]
        assert watch.feed(b": keep-alive\n\n") == []
        assert names(watch.feed(event(told("b")))) == [("b", "online")]
        assert watch.feed(event(told("b"))) == []

    def test_after_a_lost_stream_only_what_differs(self) -> None:
        watch = opened()
        watch.feed(event(told("same")) + event(told("left")) + event(told("gone")) + READY)
        watch.lost(None)
        watch.opened(STREAM)
        assert names(watch.feed(event(told("same")) + event(told("left", "offline")) + event(told("new")))) == [
            ("left", "offline"),
            ("new", "online"),
        ]
        (removed,) = watch.feed(READY)
        assert (removed.name, removed.state, removed.why, removed.sessions) == ("gone", "revoked", "removed", 0)

    def test_a_stream_that_was_lost_before_it_was_ready_removes_nobody(self) -> None:
        watch = opened()
        watch.feed(event(told("a")) + event(told("b")) + READY)
        for _ in range(2):
            watch.lost(None)
            watch.opened(STREAM)
        assert watch.feed(event(told("a"))) == []
        assert names(watch.feed(event(told("b")) + READY)) == []

    def test_a_removed_client_is_told_once(self) -> None:
        watch = opened()
        watch.feed(event(told("a")) + READY)
        assert names(watch.feed(event(told("a", "revoked", why="removed")))) == [("a", "revoked")]
        watch.opened(STREAM)
        assert watch.feed(READY) == []

    def test_a_reader_that_was_too_slow_is_told_so(self) -> None:
        watch = opened()
        assert watch.feed(b"event: overflow\ndata: {}\n\n") == []
        assert watch.over
        watch.opened(STREAM)
        assert not watch.over

    @pytest.mark.parametrize("data", [b"x", b"[]", b"{}", b"[" * 100_000], ids=["text", "list", "empty", "deep"])
    def test_what_is_no_presence_is_an_error(self, data: bytes) -> None:
        with pytest.raises(ThalovantAPIError):
            opened().feed(b"event: presence\ndata: " + data + b"\n\n")

    @given(st.binary(max_size=200))
    def test_garbage_gives_the_declared_error_only(self, data: bytes) -> None:
        watch = opened()
        try:
            watch.feed(b"event: presence\ndata: " + data + b"\n\n")
        except ThalovantAPIError as error:
            assert str(error)

    @pytest.mark.parametrize("kind", ["application/json", "text/html", ""])
    def test_another_answer_is_no_stream(self, kind: str) -> None:
        with pytest.raises(ThalovantAPIError, match="no event stream"):
            PresenceWatch(lambda low, _: low).opened(HttpAnswer(200, {"content-type": kind}, b""))


def busy(status: int, **problem: Any) -> ThalovantAPIError:
    return ThalovantAPIError("busy", status_code=status, problem=problem)


class TestPauses:
    def test_they_grow_to_a_bound_until_the_stream_is_ready_again(self) -> None:
        watch = opened()
        pauses = [watch.lost(ThalovantAPIUnreachableError("gone")) for _ in range(7)]
        assert pauses == [1, 2, 4, 8, 16, 30, 30]
        watch.opened(STREAM)
        assert watch.lost(None) == 30
        watch.opened(STREAM)
        watch.feed(READY)
        assert watch.lost(None) == 1

    @given(st.floats(0.5, 1.5))
    def test_they_are_jittered(self, draw: float) -> None:
        watch = PresenceWatch(lambda low, high: min(max(draw, low), high))
        watch.opened(STREAM)
        assert watch.lost(None) == draw

    def test_a_wait_that_the_server_asks_for_is_kept(self) -> None:
        assert opened().lost(busy(429, retry_after_seconds=20)) == 20

    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_what_passes_is_tried_again(self, status: int) -> None:
        assert opened().lost(busy(status)) == 1

    @pytest.mark.parametrize(
        "error",
        [busy(404), busy(400), ThalovantAuthError("no", status_code=401), ThalovantAPIError("no answer at all")],
        ids=["404", "400", "401", "unreadable"],
    )
    def test_a_refusal_is_raised(self, error: ThalovantAPIError) -> None:
        with pytest.raises(ThalovantAPIError) as caught:
            opened().lost(error)
        assert caught.value is error

    @pytest.mark.parametrize("error", [ThalovantAPIUnreachableError("nobody"), busy(503)], ids=["nobody", "503"])
    def test_a_server_that_was_not_there_in_the_first_place_is_not_waited_for(self, error: ThalovantAPIError) -> None:
        with pytest.raises(ThalovantAPIError) as caught:
            PresenceWatch(lambda low, _: low).lost(error)
        assert caught.value is error
