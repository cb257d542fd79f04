# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes, cookies, and what an answer's status means."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.transports.http11 import Answer
from thalovant.transports.hub_requests import MAX_COOKIES, HubRequests

BASE = "https://hub.example:8443/hubs/h1"


def made(base: str = BASE) -> HubRequests:
    return HubRequests(base, "agent/1", "key")


def answer(status: int = 200, body: Any = b"{}", *cookies: bytes) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, tuple((b"set-cookie", cookie) for cookie in cookies), content, True)


def parsed(request: bytes) -> tuple[h11.Request, bytes]:
    """As a server reads it."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(request)
    head, body = server.next_event(), bytearray()
    assert isinstance(head, h11.Request)
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert server.trailing_data == (b"", False)
    return head, bytes(body)


def test_each_request_is_what_a_server_reads() -> None:
    requests = made()
    for request, method, name, body in (
        (requests.plain("connect"), b"POST", "connect", b""),
        (requests.plain("get_messages"), b"GET", "get_messages", b""),
        (requests.form("send_message", {"message": "ü&=", "binary": "1"}), b"POST", "send_message", None),
        (requests.exchange(b"\x00\r\n\r\n"), b"POST", "exchange", b"\x00\r\n\r\n"),
    ):
        head, content = parsed(request)
        target = f"/hubs/h1/{name}?authorization=YWdlbnQvMTprZXk%3D".encode()
        assert (head.method, head.target) == (method, target)
        assert content == (b"message=%C3%BC%26%3D&binary=1" if body is None else body)
        headers = dict(head.headers)
        assert headers[b"host"] == b"hub.example:8443" and headers[b"user-agent"] == b"agent/1"
        assert headers[b"accept-encoding"] == b"identity" and b"cookie" not in headers


@pytest.mark.parametrize(
    ("base", "host", "port", "tls", "header", "path"),
    [
        ("https://hub.example:443", "hub.example", 443, True, b"hub.example:443", b"/connect"),
        ("https://hub.example", "hub.example", 443, True, b"hub.example", b"/connect"),
        ("https://[::1]:8/a b", "::1", 8, True, b"[::1]:8", b"/a%20b/connect"),
        ("http://localhost:80/%2F/ü", "localhost", 80, False, b"localhost:80", b"/%2F/%C3%BC/connect"),
        ("https://bücher.example:5/x", "bücher.example", 5, True, b"xn--bcher-kva.example:5", b"/x/connect"),
    ],
)
def test_addresses(base: str, host: str, port: int, tls: bool, header: bytes, path: bytes) -> None:
    requests = made(base)
    assert (requests.host, requests.port, requests.tls) == (host, port, tls)
    head, _ = parsed(requests.plain("connect"))
    assert dict(head.headers)[b"host"] == header and head.target.startswith(path + b"?")


def test_a_login_in_the_address_is_a_header_and_shown_nowhere() -> None:
    requests = made("https://me:s3%40cret@hub.example")
    head, _ = parsed(requests.plain("connect"))
    assert dict(head.headers)[b"authorization"] == b"Basic bWU6czNAY3JldA=="
    assert dict(head.headers)[b"host"] == b"hub.example" and requests.where == "hub.example"
    with pytest.raises(ThalovantConnectionError) as caught:
        requests.json("connect", answer(500))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("base", ["https://a b", "https://a,b", "https://\x7f", "https://" + "ü" * 70 + ".example"])
def test_a_host_that_is_none_is_refused(base: str) -> None:
    with pytest.raises(ThalovantConnectionError, match="no host name"):
        made(base)


@given(st.text(max_size=10), st.text(max_size=10))
def test_nobody_can_add_a_header(path: str, useragent: str) -> None:
    try:
        requests = HubRequests(f"https://hub.example/{path.partition('?')[0].partition('#')[0]}", useragent, "key")
    except (ThalovantConnectionError, ValueError):
        return
    head, _ = parsed(requests.plain("connect"))
    names = [b"host", b"user-agent", b"accept-encoding", b"content-length"]
    assert [name for name, _ in head.headers] == names


def test_cookies_come_back_and_change() -> None:
    requests = made()
    for cookies, sent in (
        ((b"hivemind_http_replica=r1; HttpOnly; Path=/",), b"hivemind_http_replica=r1"),
        ((b"lb=a", b"x="), b"hivemind_http_replica=r1; lb=a; x="),
        ((b'lb="b, c"; Max-Age=3',), b'hivemind_http_replica=r1; lb="b, c"; x='),
        ((b"bad=\x01", b"=x", b"a b=c", b"d=\xff", b"long=" + b"x" * 5000), b'hivemind_http_replica=r1; lb="b, c"; x='),
    ):
        requests.content("connect", answer(200, b"", *cookies))
        head, _ = parsed(requests.exchange(b""))
        assert dict(head.headers)[b"cookie"] == sent
    requests.content("connect", answer(200, b"", *(b"c%d=1" % number for number in range(100))))
    head, _ = parsed(requests.exchange(b""))
    assert len(dict(head.headers)[b"cookie"].split(b"; ")) == MAX_COOKIES


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (401, {}, ThalovantHubRefusedError, "HTTP 401"),
        (403, {"error": "x"}, ThalovantHubRefusedError, "HTTP 403"),
        (429, {}, ThalovantConnectionError, "busy"),
        (503, {}, ThalovantConnectionError, "busy"),
        (302, b"", ThalovantConnectionError, "HTTP 302"),
        (409, {"detail": "Connect again."}, ThalovantConnectionError, "HTTP 409: Connect again. Check"),
        (500, {"error": "Failed"}, ThalovantConnectionError, "HTTP 500: Failed. Check"),
        (500, {"error": {"x": 1}}, ThalovantConnectionError, "HTTP 500. Check"),
        (200, {"error": "no"}, ThalovantConnectionError, "did not take /connect: no."),
    ],
)
def test_what_an_answer_means(status: int, body: Any, kind: type, text: str) -> None:
    with pytest.raises(ThalovantConnectionError) as caught:
        made().json("connect", answer(status, body))
    assert type(caught.value) is kind and text in str(caught.value)


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (403, "Invalid authorization", "credential_refused"),
        (403, "this hub is turned off", "hub_off"),
        (403, "this protocol is turned off for this hub", "protocol_off"),
        (403, "this client is paused", "client_paused"),
        (403, "handshake failure: wrong password or altered offer", "wrong_password"),
        (503, "the server is busy, try again later", "server_busy"),
        (429, "too many failed attempts from here, try again later", "throttled"),
        (404, "no such hub", "wrong_service"),
        (200, "Client is not connected", "hub_refused_request"),
    ],
)
def test_what_is_wrong(status: int, said: str, code: str) -> None:
    with pytest.raises(ThalovantConnectionError) as caught:
        made().json("connect", answer(status, {"error": said}))
    assert caught.value.diagnosis is not None and caught.value.diagnosis.code == code


@pytest.mark.parametrize("status", [200, 403, 500])
def test_an_access_key_that_is_echoed_is_not_shown(status: int) -> None:
    requests = HubRequests(BASE, "agent/1", "the-access-key")
    with pytest.raises(ThalovantConnectionError, match="unknown: <key>") as caught:
        requests.json("connect", answer(status, {"error": "unknown: the-access-key"}))
    assert "the-access-key" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"rubbish", b"[1]", b"3", b"{}"])
def test_what_is_no_object_says_nothing(body: bytes) -> None:
    assert made().json("connect", answer(200, body)) == {}
    assert made().content("exchange", answer(200, body)) == body
