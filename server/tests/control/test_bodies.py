# SPDX-License-Identifier: Apache-2.0
"""What is refused before a route is asked, and that every refusal is a problem."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from thalovant_server.control.bodies import MOST_BYTES, MOST_BYTES_OF_STRANGERS, BodyBounds, check_json
from thalovant_server.control.faults import FaultBarrier
from thalovant_server.errors import ApiError
from thalovant_server.testing.control import World

Run = Callable[[Callable[[World], Awaitable[None]]], None]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"email": NaN}',
        b'{"email": "\\ud800"}',
        b'{"email": 1e999}',
        b'{"spec": {"catalog": {"big": 123456789012345678901234567890}}}',
        b'{"spec": [-9223372036854775809]}',
        b'{"email": Infinity}',
        b'{"email": "\\u0000"}',
        json.dumps({"x": ["y"] * 20_000}).encode(),
        json.dumps({"x": "y" * 20_000}).encode(),
        json.dumps({"y" * 20_000: 1}).encode(),
    ],
)
def test_a_body_that_is_no_reasonable_object_is_a_422(in_world: Run, body: bytes) -> None:
    async def scenario(world: World) -> None:
        for path in ("/v1/auth/token", "/v1/clients", "/v1/hubs"):
            answer = await world.call("POST", path, body)
            assert answer.status_code == 422
            assert answer.json()["code"] in ("malformed_json", "body_too_complex")

    in_world(scenario)


def test_an_empty_body_is_a_422(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        for path in ("/v1/auth/token", "/v1/clients", "/v1/hubs"):
            assert (await world.call("POST", path, b"")).status_code == 422

    in_world(scenario)


def test_an_oversize_body_is_a_413(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("POST", "/v1/clients", b'"' + b"x" * MOST_BYTES + b'"')
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

    in_world(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/hubs/", 404),
        ("GET", "/v1/hubs/hub-none", 404),
        ("GET", "/v1/clients/none", 404),
        ("GET", "/v1/public/hubs/none", 404),
        ("GET", "/v1/operations/op-1", 404),
        ("GET", "/docs", 404),
        ("PUT", "/v1/hubs", 405),
        ("POST", "/v1/users/profile", 405),
    ],
)
def test_every_refusal_is_a_problem(in_world: Run, method: str, path: str, status: int) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert isinstance(problem["detail"], str)
        assert problem["code"]
        assert "allow" in answer.headers or status != 405

    in_world(scenario)


def test_what_anybody_may_ask_the_server(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        health = await world.call("GET", "/v1/health", token=None)
        assert health.json() == {"status": "ok", "version": "1.2.3"}
        described = (await world.call("GET", "/v1/openapi.json", token=None)).json()
        assert "/v1/clients" in described["paths"]

    in_world(scenario)


@pytest.mark.parametrize("path", ["/v1/ca", "/v1/ca.pem"])
def test_anybody_may_have_the_authority_and_keep_it_a_while(path: str, in_world: Run) -> None:
    async def scenario(world: World) -> None:
        answer = await world.call("GET", path, token=None)
        assert answer.text == world.services.endpoints.ca_pem
        assert answer.headers["content-type"] == "application/x-pem-file"
        assert answer.headers["cache-control"] == "public, max-age=300"

    in_world(scenario)


def test_a_public_authority_is_not_handed_out(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.services.endpoints = replace(world.services.endpoints, ca_pem="")
        answer = await world.call("GET", "/v1/ca", token=None)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_own_authority")
        assert "--ca-fingerprint" in answer.json()["detail"]
        client = await world.make_client()
        assert "ca_pem" not in client["initial_identify"]

    in_world(scenario)


def test_a_fault_of_ours_is_a_500_that_tells_nothing(in_world: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        def fail() -> list[str]:
            raise RuntimeError("inside-detail")

        world.services.agents = fail
        with caplog.at_level(logging.ERROR):
            body = {"name": "x", "spec": {"version": "1", "agent": "echo", "note": "secret-of-the-request"}}
            answer = await world.call("POST", "/v1/hubs", body)
        assert answer.status_code == 500
        assert answer.json()["code"] == "internal_error"
        assert "inside-detail" not in answer.text
        assert answer.json()["incident"] in caplog.text
        assert "secret-of-the-request" not in caplog.text
        assert world.token not in caplog.text

    in_world(scenario)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_the_declared_error(body: bytes) -> None:
    try:
        assert isinstance(check_json(body), dict)
    except ApiError as error:
        assert error.status == 422


async def run_bounded(
    pieces: list[bytes], headers: list[tuple[bytes, bytes]], seconds: float = 5.0
) -> tuple[bytes, int]:
    """Send pieces through the bounds; return what the application behind got, and the status."""
    got, status = b"", 0

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        got = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    waiting = list(pieces)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting) or seconds < 1}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    await BodyBounds(behind, seconds=seconds)(scope, receive, send)
    return got, status


@pytest.mark.parametrize(
    ("sent", "handed_on"),
    [
        (b'{"a": 1, "a": 2}', b'{"a":2}'),
        (
            b'{"a": 18446744073709551615, "b": -9223372036854775808}',
            b'{"a":18446744073709551615,"b":-9223372036854775808}',
        ),
        (b'{"a": 1e15, "b": "\\u00e9"}', '{"a":1e15,"b":"é"}'.encode()),
    ],
)
def test_whoever_reads_the_body_next_gets_what_was_judged(sent: bytes, handed_on: bytes) -> None:
    got, status = uvloop.run(run_bounded([sent], []))
    assert status == 200
    assert json.loads(got) == json.loads(handed_on)
    assert got.count(b'"a"') == 1


@given(st.lists(st.integers(0, 29), max_size=6))
def test_any_split_of_a_body_arrives_whole(cuts: list[int]) -> None:
    body = b'{"name":"a kitchen in pieces"}'
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    assert uvloop.run(run_bounded(pieces, [])) == (body, 200)


def test_a_body_that_grows_past_the_bound_is_refused() -> None:
    assert uvloop.run(run_bounded([b" " * 100_000] * 3, [])) == (b"", 413)


@pytest.mark.parametrize("length", [b"999999999", b"-1", b"x", b"9" * 5000])
def test_a_declared_length_is_judged_first(length: bytes) -> None:
    assert uvloop.run(run_bounded([], [(b"content-length", length)])) == (b"", 413)


@pytest.mark.parametrize(
    ("header", "most"),
    [
        (None, MOST_BYTES_OF_STRANGERS),
        (b"Basic eA==", MOST_BYTES_OF_STRANGERS),
        (b"Bearer ", MOST_BYTES_OF_STRANGERS),
        (b"Bearer", MOST_BYTES_OF_STRANGERS),
        (b"Bearer x", MOST_BYTES),
        (b"bearer x", MOST_BYTES),
    ],
)
def test_who_has_no_token_sends_little(header: bytes | None, most: int) -> None:
    headers = [] if header is None else [(b"authorization", header)]
    for size, status in ((most, 200), (most + 1, 413)):
        body = b"{}" + b" " * (size - 2)
        assert uvloop.run(run_bounded([body], headers))[1] == status
        assert uvloop.run(run_bounded([body[:5], body[5:]], headers))[1] == status
        assert uvloop.run(run_bounded([body], [*headers, (b"content-length", b"%d" % size)]))[1] == status


class Held:
    """Bounds with room for 100 bytes of either kind; requests begin, and stay until they are let go."""

    def __init__(self) -> None:
        self.bounds = BodyBounds(self._behind, held=100, held_of_strangers=100)
        self.go = asyncio.Event()

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def request(self, size: int, *, bearer: bool = False) -> int:
        """Send so many bytes at once, the end of the body when let go; return the status."""
        pieces = [b"{}" + b" " * (size - 2)]
        status = 0

        async def receive() -> Message:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": True}
            await self.go.wait()
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        headers = [(b"authorization", b"Bearer x")] if bearer else []
        await self.bounds({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
        return status


def test_all_bodies_together_have_a_bound_and_it_is_given_back() -> None:
    async def main() -> None:
        for _ in range(3):
            held = Held()
            async with asyncio.TaskGroup() as group:
                first = group.create_task(held.request(60))
                await asyncio.sleep(0)
                assert await held.request(41) == 503
                with_token = group.create_task(held.request(100, bearer=True))  # room of its own
                second = group.create_task(held.request(40))
                await asyncio.sleep(0)
                assert await held.request(2) == 503
                assert await held.request(2, bearer=True) == 503
                held.go.set()
            assert {first.result(), second.result(), with_token.result()} == {200}
            assert await held.request(100) == 200

    uvloop.run(main())


def test_a_body_whose_sender_is_cut_off_gives_its_room_back() -> None:
    async def main() -> None:
        held = Held()
        for _ in range(5):
            task = asyncio.create_task(held.request(100))
            await asyncio.sleep(0)
            assert await held.request(2) == 503
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    uvloop.run(main())


def test_a_long_login_is_refused_before_it_is_read(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        body = {"email": "a", "password": "x", "padding": "x" * MOST_BYTES_OF_STRANGERS}
        answer = await world.call("POST", "/v1/auth/token", body, token=None)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"

    in_world(scenario)


def test_a_body_that_never_ends_is_a_408() -> None:
    assert uvloop.run(run_bounded([b"{"], [], seconds=0.01)) == (b"", 408)


def test_an_application_that_fails_half_way_is_not_answered_twice() -> None:
    async def main() -> None:
        sent: list[dict[str, Any]] = []

        async def behind(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("late")

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(dict(message))

        with pytest.raises(RuntimeError):
            await FaultBarrier(behind)({"type": "http", "method": "GET", "path": "/"}, receive, send)
        assert [each["type"] for each in sent] == ["http.response.start"]

    uvloop.run(main())
