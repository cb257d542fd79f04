# SPDX-License-Identifier: Apache-2.0
"""Bad input of every layer gets the clear refusal of its carrier, changes nothing, and the next one is served."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.certificates import for_two_threads

BIG = b"x" * (2 << 20)


@pytest.fixture
def tls(server: ServerProcess) -> ssl.SSLContext:
    return for_two_threads(ssl.create_default_context(cafile=server.ready["ca_file"]))


@pytest.fixture(scope="module")
def witness(
    api: ThalovantControlPlane, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ThalovantClient]:
    """A client that is connected all the while."""
    identity = api.create_client_identity(server.ready["hub_id"], name="witness").identity
    noise = str(tmp_path_factory.mktemp("witness"))
    with ThalovantClient(identity, protocol="wss", noise_state_dir=noise, auto_reconnect=False) as client:
        yield client


@pytest.fixture(scope="module")
def canaries(server: ServerProcess) -> Iterator[list[str]]:
    """Secrets that were sent; when the tests are over, the whole log is searched for them."""
    sent: list[str] = []
    yield sent
    server.stop()
    said = "".join(server.output)
    assert sent and "refused" in said
    for secret in (*sent, "authorization=", server.admin[1]):
        assert secret not in said, "a secret is in the log"


@pytest.fixture(autouse=True)
def unmoved(witness: ThalovantClient) -> Iterator[None]:
    """Whatever a test threw at the server, a client that was there before keeps its one connection."""
    yield
    assert witness.ask("still there?").text == "still there?"


# -- HTTP bodies and the control plane


class Answer:
    """Status, headers and body of one HTTP exchange."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"].startswith("application/problem+json"), self.body[:200]
        problem = json.loads(self.body)
        assert isinstance(problem["detail"], str)
        assert problem["code"]
        return dict(problem)


@pytest.fixture
def http(server: ServerProcess, tls: ssl.SSLContext, api: ThalovantControlPlane) -> Callable[..., Answer]:
    """Send one request as it stands."""

    def send(
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        token: str | None = "admin",
        **headers: str,
    ) -> Answer:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(server.ready["api_url"] + path, data=data, method=method)
        request.add_header("content-type", "application/json")
        if token:
            request.add_header("authorization", f"Bearer {api.access_token if token == 'admin' else token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, context=tls) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    return send


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"email": 1, "password": {}}', b"{}"],
)
def test_a_malformed_body_is_a_problem(body: bytes, http: Callable[..., Answer]) -> None:
    for path in ("/v1/auth/token", "/v1/clients", "/v1/hubs"):
        answer = http("POST", path, body)
        assert answer.status in (400, 422), (path, answer.body)
        assert answer.problem


def test_an_oversize_body_is_a_problem(http: Callable[..., Answer]) -> None:
    try:
        answer = http("POST", "/v1/clients", b'{"name": "' + BIG + b'"}')
        assert answer.status == 413
        assert answer.problem
    except urllib.error.URLError as error:  # it may stop reading before we stopped sending
        assert isinstance(error.reason, ConnectionError | ssl.SSLError | BrokenPipeError)


@pytest.mark.parametrize("token", ["", "x", "tvpat_unknown", "%C3%A9", "a" * 10_000, None])
def test_a_token_that_is_none_is_refused(token: str | None, http: Callable[..., Answer]) -> None:
    answer = http("GET", "/v1/hubs", token=token)
    assert answer.status == 401, answer.body
    assert answer.problem["code"]


def test_a_revoked_token_is_refused(http: Callable[..., Answer], server: ServerProcess) -> None:
    email, password = server.admin
    made = json.loads(http("POST", "/v1/auth/token", {"email": email, "password": password}, token=None).body)
    assert http("GET", "/v1/hubs", token=made["access_token"]).status == 200
    assert http("DELETE", f"/v1/auth/api-tokens/{made['token_id']}", token=made["access_token"]).status == 204
    assert http("GET", "/v1/hubs", token=made["access_token"]).status == 401


def test_a_wrong_password_is_refused_like_an_unknown_account(
    http: Callable[..., Answer], server: ServerProcess
) -> None:
    wrong = http("POST", "/v1/auth/token", {"email": server.admin[0], "password": "wrong"}, token=None)
    unknown = http("POST", "/v1/auth/token", {"email": "nobody@example.com", "password": "wrong"}, token=None)
    assert (wrong.status, unknown.status) == (401, 401)
    assert wrong.problem == unknown.problem


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/hubs/none", "/v1/clients/none", "/v1/public/hubs/none", "/other"])
def test_an_unknown_resource_is_a_404_problem(path: str, http: Callable[..., Answer]) -> None:
    answer = http("GET", path)
    assert answer.status == 404
    assert answer.problem


def test_a_trailing_slash_is_never_redirected(http: Callable[..., Answer]) -> None:
    assert http("GET", "/v1/hubs/").status == 404


FORBIDDEN = ["a/b", "a+b", "a#b", "$a", "a\x00b", "a\nb", "e\u0301", "", " ", "x" * 10_000, "\u202e"]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_forbidden_text_in_names_is_refused_and_makes_nothing(
    text: str, http: Callable[..., Answer], server: ServerProcess
) -> None:
    hub = server.ready["hub_id"]
    before = http("GET", "/v1/clients?limit=1000").body, http("GET", "/v1/hubs?limit=1000").body
    attempts = [
        ("/v1/clients", {"hub_id": hub, "name": text, "spec": {"version": "1"}}),
        ("/v1/clients", {"hub_id": hub, "name": "x", "spec": {"version": "1", "siteId": text or "#"}}),
        ("/v1/clients", {"hub_id": hub, "name": "x", "spec": {"version": "1", "apiKey": text or "#"}}),
        ("/v1/hubs", {"name": text, "spec": {"version": "1"}}),
        ("/v1/hubs", {"name": "x", "slug": text or "#", "spec": {"version": "1"}}),
        ("/v1/hubs", {"name": "x", "spec": {"version": "1", "agent": text or "#"}}),
    ]
    for path, body in attempts:
        answer = http("POST", path, body)
        assert answer.status == 422, (path, body, answer.body)
        assert answer.problem
    assert (http("GET", "/v1/clients?limit=1000").body, http("GET", "/v1/hubs?limit=1000").body) == before


def test_a_secret_of_the_request_is_not_echoed(
    http: Callable[..., Answer], server: ServerProcess, canaries: list[str]
) -> None:
    secret = "short-and-secret"
    canaries.append(secret)
    spec = {"version": "1", "apiKey": secrets.token_urlsafe(32), "password": secret}
    answer = http("POST", "/v1/clients", {"hub_id": server.ready["hub_id"], "name": "x", "spec": spec})
    assert answer.status == 422
    assert secret.encode() not in answer.body


def test_a_key_in_use_is_a_409_that_says_not_whose(http: Callable[..., Answer], server: ServerProcess) -> None:
    spec = {"version": "1", "apiKey": secrets.token_urlsafe(32), "password": secrets.token_urlsafe(32)}
    body = {"hub_id": server.ready["hub_id"], "name": "owner-of-the-key", "spec": spec}
    assert http("POST", "/v1/clients", body).status == 201
    answer = http("POST", "/v1/clients", {**body, "name": "second"})
    assert answer.status == 409
    assert b"owner-of-the-key" not in answer.body


@pytest.mark.parametrize("etag", ["", '"0"', "*", "x" * 5000])
def test_a_stale_etag_changes_nothing(etag: str, http: Callable[..., Answer], server: ServerProcess) -> None:
    path = f"/v1/hubs/{server.ready['hub_id']}"
    before = http("GET", path).body
    answer = http("PATCH", path, {"spec": {"protocols": {"mqtt": {"enabled": False}}}}, if_match=etag)
    assert answer.status == 412
    assert http("GET", path).body == before


# -- raw TLS and HTTP


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 64,
        b"GET / HTTP/1.1\r\n" + b"a: " + BIG[:70_000] + b"\r\n\r\n",
        b"POST /connect HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /connect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00<\x00\x00",
    ],
)
def test_bytes_that_are_no_http_are_refused(sent: bytes, server: ServerProcess, tls: ssl.SSLContext) -> None:
    with dial(server.ready["api_url"], tls) as raw:
        answer = exchange(raw, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def dial(url: str, tls: ssl.SSLContext) -> ssl.SSLSocket:
    address = urllib.parse.urlsplit(url)
    assert address.hostname and address.port
    raw = socket.create_connection((address.hostname, address.port), timeout=10)
    return tls.wrap_socket(raw, server_hostname=address.hostname)


def exchange(raw: ssl.SSLSocket, sent: bytes) -> bytes:
    """Send, and read until the other side closes."""
    received = b""
    try:
        raw.sendall(sent)
        while chunk := raw.recv(65536):
            received += chunk
    except (ConnectionError, ssl.SSLError):
        pass
    return received


# -- MQTT packets


def mqtt_text(text: str | bytes) -> bytes:
    encoded = text.encode() if isinstance(text, str) else text
    return len(encoded).to_bytes(2, "big") + encoded


def mqtt_packet(first: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)[0], left % 128
        length += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def mqtt_connect(user: str, password: str, client_id: str = "raw", level: int = 4, will: bytes = b"") -> bytes:
    flags = 0xC2 | (0x04 if will else 0)
    body = mqtt_text("MQTT") + bytes([level, flags]) + (60).to_bytes(2, "big") + mqtt_text(client_id) + will
    return mqtt_packet(0x10, body + mqtt_text(user) + mqtt_text(password))


@pytest.fixture
def mqtt(server: ServerProcess, tls: ssl.SSLContext) -> Callable[[bytes], bytes]:
    """Throw bytes at the MQTT port; answers what came back until it closed."""

    def send(sent: bytes) -> bytes:
        with dial(server.ready["mqtt_endpoint"].replace("mqtts", "https"), tls) as raw:
            return exchange(raw, sent)

    return send


def test_mqtt_packets_before_or_instead_of_connect_close(mqtt: Callable[[bytes], bytes]) -> None:
    for sent in (
        b"\xc0\x00",
        mqtt_packet(0x30, mqtt_text("t") + b"x"),
        b"\x00\x00",
        b"\x10\xff\xff\xff\xff\x01",
        b"\x10\xff\xff\xff\x7f" + b"\x00" * 64,
        mqtt_packet(0x10, mqtt_text("MQTT") + b"\x04\xc3\x00\x00"),
        mqtt_packet(0x10, mqtt_text("NOPE") + b"\x04\x02\x00\x3c" + mqtt_text("x")),
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        assert mqtt(sent) in (b"", b"\x20\x02\x00\x01"), sent


def test_mqtt_connect_refusals(mqtt: Callable[[bytes], bytes], identity: ThalovantIdentity) -> None:
    own = identity.mqtt
    assert own is not None
    refused = b"\x20\x02\x00\x05"
    assert mqtt(mqtt_connect(own.username, "wrong")) == refused
    assert mqtt(mqtt_connect(own.username, "")) == refused
    assert mqtt(mqtt_connect("unknown", own.password)) == refused
    assert mqtt(mqtt_connect(own.username.swapcase(), own.password)) == refused
    assert mqtt(mqtt_connect(own.username, own.password, level=3)) == b"\x20\x02\x00\x01"
    neighbour = mqtt_text("hubs/h/clients/c/status") + mqtt_text("offline")
    assert mqtt(mqtt_connect(own.username, own.password, will=neighbour)) == refused
    assert mqtt(mqtt_connect("x" * 65_000, "y" * 65_000)) == b""


def test_mqtt_packets_after_connect(mqtt: Callable[[bytes], bytes], identity: ThalovantIdentity) -> None:
    own = identity.mqtt
    assert own is not None
    accepted = b"\x20\x02\x00\x00"
    hello = mqtt_connect(own.username, own.password)
    for sent in (
        hello,
        b"\xf0\x00",
        mqtt_packet(0x30, mqtt_text(f"{own.topic_prefix}/s2c") + b"x"),
        mqtt_packet(0x30, mqtt_text(f"{own.topic_prefix}/+") + b"x"),
        mqtt_packet(0x31, mqtt_text(f"{own.topic_prefix}/c2s") + b"retained"),
        mqtt_packet(0x30, mqtt_text(b"\xff\xfe") + b"x"),
        mqtt_packet(0x36, mqtt_text(f"{own.topic_prefix}/c2s") + b"\x00\x01x"),
        mqtt_packet(0x82, b"\x00\x01"),
        b"\x30\xff\xff\xff\x7f",
    ):
        assert mqtt(hello + sent) == accepted, sent


# -- frames and JSON on WSS


@pytest.fixture
def wss(server: ServerProcess, tls: ssl.SSLContext) -> Callable[..., int | None]:
    """Open a WebSocket with an access key or an authorization as it stands, send frames, answer the close code."""

    def run(
        *frames: str | bytes, key: str | None = None, authorization: str | None = None, url: str | None = None
    ) -> int | None:
        url = url or server.ready["wss_endpoint"]
        if key is not None:
            authorization = base64.b64encode(f"raw/1:{key}".encode()).decode()
        if authorization is not None:
            url += "?" + urllib.parse.urlencode({"authorization": authorization})
        with connect(url, ssl=tls, compression=None, proxy=None) as link:
            try:
                for frame in frames:
                    link.send(frame)
                while True:
                    link.recv(timeout=10)
            except ConnectionClosed:
                return link.close_code

    return run


@pytest.mark.parametrize(
    "authorization", [None, "", "%%%", base64.b64encode(b"no-colon").decode(), base64.b64encode(b":key").decode()]
)
def test_wss_without_an_authorization_is_1008(authorization: str | None, wss: Callable[..., int | None]) -> None:
    assert wss(authorization=authorization) == 1008


def test_wss_with_an_unknown_key_or_of_another_hub_is_1008(
    wss: Callable[..., int | None], identity: ThalovantIdentity, make_hub: Callable[..., str], server: ServerProcess
) -> None:
    assert wss(key="unknown") == 1008
    for hub in (make_hub("elsewhere"), "hub-none"):
        url = server.ready["wss_endpoint"].replace(server.ready["hub_id"], hub)
        assert wss(key=identity.access_key, url=url) == 1008


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\x00" * 40, "", "not json", "[]", "{}", '{"msg_type": "bus", "payload": {}}', "[" * 50_000,
        '{"msg_type": "shake", "payload": {}}', '{"msg_type": "shake", "payload": {"noise": {"msg": "zz"}}}',
        '{"msg_type": "nonsense", "payload": {}}', '{"msg_type": "shake", "payload": {"noise": 7}}',
    ],
)  # fmt: skip
def test_wss_frames_before_the_handshake_end_the_session(
    frame: str | bytes, wss: Callable[..., int | None], identity: ThalovantIdentity
) -> None:
    assert wss(frame, key=identity.access_key) in (1002, 1008)


def test_an_oversize_wss_frame_is_1009(wss: Callable[..., int | None], identity: ThalovantIdentity) -> None:
    assert wss(BIG, key=identity.access_key) == 1009


# -- HTTPS polling


@pytest.fixture
def poll(server: ServerProcess, tls: ssl.SSLContext) -> Callable[..., Answer]:
    """One request of an HTTPS poller."""

    def send(
        method: str,
        path: str,
        key: str | None,
        body: bytes | None = None,
        cookie: str | None = None,
        hub: str | None = None,
    ) -> Answer:
        base = server.ready["https_endpoint"]
        url = (base.replace(server.ready["hub_id"], hub) if hub else base) + path
        if key is not None:
            url += "?" + urllib.parse.urlencode({"authorization": base64.b64encode(f"raw/1:{key}".encode()).decode()})
        request = urllib.request.Request(url, data=body, method=method)
        if cookie:
            request.add_header("cookie", f"hivemind_http_replica={cookie}")
        try:
            with urllib.request.urlopen(request, context=tls) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    return send


def test_https_refusals(poll: Callable[..., Answer], identity: ThalovantIdentity, make_hub: Callable[..., str]) -> None:
    key = identity.access_key
    assert poll("POST", "/connect", None).status == 400
    assert poll("POST", "/connect", "unknown").status == 403
    assert poll("POST", "/connect", key, hub=make_hub("other-for-https")).status == 403
    assert json.loads(poll("GET", "/get_messages", key).body) == {"error": "Client is not connected"}
    assert poll("POST", "/send_message", key, b"message=x").status == 409


def test_https_session_needs_its_cookie(poll: Callable[..., Answer], identity: ThalovantIdentity) -> None:
    key = identity.access_key
    connected = poll("POST", "/connect", key)
    assert json.loads(connected.body) == {"status": "Connected"}
    cookie = connected.headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert len(bytes.fromhex(cookie)) >= 16 if all(c in "0123456789abcdef" for c in cookie) else len(cookie) >= 22
    guessed = ("A" if cookie[0] != "A" else "B") + cookie[1:]
    for wrong in (None, guessed, "", "x" * 5000):
        assert "error" in json.loads(poll("GET", "/get_messages", key, cookie=wrong).body)
        assert poll("POST", "/send_message", key, b"message=x", cookie=wrong).status == 409
        poll("POST", "/disconnect", key, cookie=wrong)
    assert len(json.loads(poll("GET", "/get_messages", key, cookie=cookie).body)["messages"]) == 2
    assert poll("POST", "/send_message", key, b"message=", cookie=cookie).status == 400
    assert poll("POST", "/send_message", key, b"binary=1&message=%%%", cookie=cookie).status in (400, 409)
    assert poll("POST", "/send_message", key, b"message=" + BIG, cookie=cookie).status in (400, 413)
    assert poll("POST", "/send_message", key, b"message=rubbish", cookie=cookie).status == 500
    assert "error" in json.loads(poll("GET", "/get_messages", key, cookie=cookie).body)


def test_unfinished_https_sessions_never_displace_a_ready_one(
    poll: Callable[..., Answer], identity: ThalovantIdentity
) -> None:
    with ThalovantClient(identity, protocol="https") as client:
        assert client.ask("ready").text == "ready"
        for _ in range(20):
            assert poll("POST", "/connect", identity.access_key).status in (200, 503)
        assert client.ask("still ready").text == "still ready"


def test_no_query_string_and_no_key_is_in_the_log(
    poll: Callable[..., Answer], identity: ThalovantIdentity, canaries: list[str]
) -> None:
    canaries += [identity.access_key, identity.password, "unknown-but-secret"]
    assert poll("POST", "/connect", identity.access_key).status == 200
    assert poll("POST", "/connect", "unknown-but-secret").status == 403
