# SPDX-License-Identifier: Apache-2.0
"""The control plane's client against a real HTTPS server that replays what the published SDK exchanged (contract)."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

import thalovant.errors as errors
from thalovant import api_calls
from thalovant.api_address import normalized_root, path_segment, same_server
from thalovant.api_session import Pause
from thalovant.config import Login, ThalovantConfigError, save_login
from thalovant.control_plane import AsyncThalovantControlPlane, BootstrapIdentityResult, ThalovantControlPlane
from thalovant.errors import (
    ThalovantAPIError,
    ThalovantAPIUnreachableError,
    ThalovantAuthError,
    ThalovantIdentityError,
    ThalovantTimeoutError,
    ThalovantUnsupportedConnectionTypeError,
    ThalovantUnsupportedProtocolError,
)
from thalovant.hub_endpoints import SelectedHubEndpoint
from thalovant.identity import ThalovantIdentity
from thalovant.operation import OperationResource
from thalovant.version import USER_AGENT

if TYPE_CHECKING:
    from conftest import Certificates, ScriptedServer, Seen

CONTRACT = Path(__file__).parents[3] / "contract"
SAMPLES = {
    sample["id"]: sample for sample in json.loads((CONTRACT / "control-plane.samples.json").read_text())["samples"]
}
TOKEN = "tvpat_example0000000000000000"
HUB = SAMPLES["hubs.get"]["exchanges"][0]["response"]["json"]
MQTT_FIRST = ("mqtt", "wss")
OPERATION = SAMPLES["operations.get"]["exchanges"][0]["response"]["json"]

CALLS: dict[str, Callable[[Any], Any]] = {
    "auth.login": lambda api: api.login(**sent("auth.login")),
    "auth.login.options": lambda api: api.login(**sent("auth.login.options")),
    "auth.login.bad_password": lambda api: api.login(**sent("auth.login.bad_password")),
    "auth.login.mfa_required": lambda api: api.login(**sent("auth.login.mfa_required")),
    "public_hubs.list": lambda api: api.list_public_hubs(limit=12),
    "public_hubs.get": lambda api: api.get_public_hub("kitchen"),
    "hubs.get": lambda api: api.get_hub("hub-1"),
    "hubs.get.404": lambda api: api.get_hub("nope"),
    "auth.expired_token": lambda api: api.list_hubs(),
    "auth.missing_scope": lambda api: api.list_hubs(),
    "rate_limited": lambda api: api.list_hubs(),
    "clients.create_identity.mqtt": lambda api: api.create_client_identity(
        "hub-1", name="python-mqtt-client", preferred_protocols=MQTT_FIRST
    ),
    "clients.create_identity.no_mqtt": lambda api: api.create_client_identity("hub-1", name="no-mqtt"),
    "clients.create_identity.minimal_answer": lambda api: api.create_client_identity(HUB, name="minimal"),
    "clients.create_identity.kind": lambda api: api.create_client_identity(
        "hub-1", name="Home", connection_type="home_assistant", idempotency_key="link-1"
    ),
    "clients.create_identity.kind_not_echoed": lambda api: api.create_client_identity(
        "hub-1", name="Home", connection_type="home_assistant"
    ),
    "clients.create_identity.kind_unknown": lambda api: api.create_client_identity(
        "hub-1", name="x", connection_type="toaster"
    ),
    "clients.create_identity.plan_limit": lambda api: api.create_client_identity("hub-1", name="x"),
    "clients.create_identity.already_linked": lambda api: api.create_client_identity(
        "hub-1", name="x", connection_type="home_assistant"
    ),
    "profile.get": lambda api: api.get_profile(),
    "tokens.revoke.other_unknown": lambda api: api.revoke_api_token("tok-x"),
    "clients.create": lambda api: api.create_client(sent("clients.create"), idempotency_key=sent_key("clients.create")),
    "clients.list": lambda api: api.list_clients(
        hub_id="hub-1", limit=50, cursor="c2", owner_id="user-1", include_spec=False
    ),
    "clients.get": lambda api: api.get_client("client-1"),
    "clients.delete.with_etag": lambda api: api.delete_client("client-1", etag='W/"1"'),
    "clients.delete.no_etag_412_retry": lambda api: api.delete_client("client-1"),
    "clients.delete.404": lambda api: api.delete_client("gone"),
    "operations.get": lambda api: api.get_operation("op-1"),
    "operations.wait_for_admission": lambda api: api.wait_for_admission(OPERATION, poll_interval=0.001),
    "operations.failed": lambda api: api.wait_for_admission(OperationResource.from_dict(OPERATION)),
    "hubs.create": lambda api: api.create_hub(hub_payload()),
    "hubs.update.enable_mqtt": lambda api: api.update_hub("hub-1", sent("hubs.update.enable_mqtt"), etag='W/"1"'),
    "hubs.update.stale_etag": lambda api: api.update_hub(
        "hub-1", sent("hubs.update.stale_etag"), etag=sent_etag("hubs.update.stale_etag")
    ),
}


def request_of(name: str) -> dict[str, Any]:
    request: dict[str, Any] = SAMPLES[name]["exchanges"][0]["request"]
    return request


def sent(name: str) -> dict[str, Any]:
    body: dict[str, Any] = request_of(name)["json"]
    return body


def sent_key(name: str) -> str | None:
    key = request_of(name)["headers"].get("idempotency-key", "<")
    return None if key.startswith("<") else key


def sent_etag(name: str) -> str:
    return str(request_of(name)["headers"]["if-match"])


def hub_payload() -> dict[str, Any]:
    names = {"owner_id": "ownerId", "runtime_group_id": "runtimeGroupId", "capacity_profile": "capacityProfile"}
    return {names.get(name, name): value for name, value in sent("hubs.create").items()}


def is_placeholder(value: object) -> bool:
    return isinstance(value, str) and value.startswith("<") and value.endswith(">")


def matches(expected: Any, actual: Any) -> bool:
    """Equal, where a placeholder of the samples stands for any text that is not empty."""
    if is_placeholder(expected):
        return isinstance(actual, str) and bool(actual)
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(matches(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(matches, expected, actual))
    return bool(expected == actual)


def filled(value: Any, spec: dict[str, Any]) -> Any:
    """The answer with the secrets of the request in their places."""
    if isinstance(value, dict):
        return {key: filled(inner, spec) for key, inner in value.items()}
    if is_placeholder(value):
        return spec["password"] if "password" in value else spec["apiKey"]
    return value


class Replay:
    """Answers a sample's exchanges in order and keeps what differed."""

    def __init__(self, sample: dict[str, Any]) -> None:
        self.left = list(copy.deepcopy(sample["exchanges"]))
        self.wrong: list[str] = []

    def __call__(self, seen: Seen) -> tuple[int, Any]:
        if not self.left:
            self.wrong.append(f"not expected: {seen.method} {seen.path}")
            return 599, None
        exchange = self.left.pop(0)
        self._compare(exchange["request"], seen)
        spec = (seen.json or {}).get("spec", {}) if isinstance(seen.json, dict) else {}
        response = exchange["response"]
        return response["status"], filled(response["json"], spec) if "json" in response else None

    def _compare(self, expected: dict[str, Any], seen: Seen) -> None:
        headers = {name: value for name, value in expected["headers"].items() if name != "user-agent"}
        actual = (seen.method, seen.path, seen.query, {name: seen.headers.get(name) for name in headers}, seen.json)
        wanted = (expected["method"], expected["path"], expected.get("query", {}), headers, expected.get("json"))
        self.wrong += [f"expected {a}, saw {b}" for a, b in zip(wanted, actual, strict=True) if not matches(a, b)]
        if seen.headers["user-agent"] != USER_AGENT or "cookie" in seen.headers:
            self.wrong.append(str(seen.headers))
        if "authorization" not in headers and "authorization" in seen.headers:
            self.wrong.append("a token was sent that is not needed")


@dataclass
class Twin:
    """One of the two classes, driven alike."""

    name: str

    def call(self, url: str, use: Callable[[Any], Any], **arguments: Any) -> tuple[Any, Any]:
        """Run `use(api)`; return its result and the API."""
        arguments = {"access_token": TOKEN, **arguments}
        if self.name == "sync":
            with ThalovantControlPlane(url, **arguments) as api:
                return use(api), api

        async def main() -> tuple[Any, Any]:
            async with AsyncThalovantControlPlane(url, **arguments) as api:
                return await use(api), api

        return asyncio.run(main())


@pytest.fixture(params=["sync", "async"])
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(request.param)


@pytest.fixture(autouse=True)
def _alone(lonely: Path) -> None:
    """No test sees this machine's own configuration."""


@pytest.mark.parametrize("name", CALLS)
def test_the_exchanges_of_the_published_sdk(
    twin: Twin, name: str, api_server: ScriptedServer, certificates: Certificates
) -> None:
    sample = SAMPLES[name]
    api_server.script = replay = Replay(sample)
    expected = sample["sdk_result"]
    arguments: dict[str, Any] = {"ca_pem": certificates.ca_pem}
    if "raises" in expected:
        with pytest.raises(getattr(errors, expected["raises"])) as caught:
            twin.call(api_server.url, CALLS[name], **arguments)
        for attribute in ("status_code", "code", "detail", "client_id", "error_code", "retry_after_seconds"):
            if attribute in expected:
                assert getattr(caught.value, attribute) == expected[attribute]
        assert str(caught.value) == expected["message"]
    else:
        result, api = twin.call(api_server.url, CALLS[name], **arguments)
        check_result(expected, result, api, sample)
    assert replay.wrong == []
    assert replay.left == []


def check_result(expected: dict[str, Any], result: Any, api: Any, sample: dict[str, Any]) -> None:
    if "identity" in expected:
        check_identity(expected, result, sample)
    if isinstance(expected.get("returns"), dict):
        assert result == expected["returns"]
    elif "unchanged" in str(expected.get("returns")):
        assert result == sample["exchanges"][-1]["response"]["json"]
    elif "returns" in expected:
        assert result is None
    for attribute in ("access_token", "token_id"):
        if f"api.{attribute}" in expected:
            assert getattr(api, attribute) == expected[f"api.{attribute}"]
    if "OperationResource" in expected:
        assert matches(expected["OperationResource"], vars(result))


def check_identity(expected: dict[str, Any], result: BootstrapIdentityResult, sample: dict[str, Any]) -> None:
    shown = result.identity.as_dict(include_secrets=True)
    wanted = dict(expected["identity"])
    assert list(result.identity.enabled_protocols()) == wanted.pop("enabled_protocols")
    mqtt = wanted.pop("mqtt")
    assert all(matches(value, shown[name]) for name, value in wanted.items())
    assert (result.identity.mqtt is None) == (mqtt is None)
    if mqtt:
        assert all(matches(value, getattr(result.identity.mqtt, name)) for name, value in mqtt.items())
    assert (result.client_id, result.connection_type) == (expected["client_id"], expected["connection_type"])
    assert result.selected_protocol == expected["selected_protocol"]
    if "selected_endpoint" in expected:
        assert result.endpoint is not None
        assert result.endpoint.endpoint == expected["selected_endpoint"]
    assert (result.operation.status if result.operation else None) == expected["operation"]


def test_two_pages_of_hubs(twin: Twin, api_server: ScriptedServer, certificates: Certificates) -> None:
    api_server.script = replay = Replay(SAMPLES["hubs.list"])
    first, _ = twin.call(api_server.url, lambda api: api.list_hubs(limit=1), ca_pem=certificates.ca_pem)
    cursor = first["meta"]["next"]
    twin.call(
        api_server.url,
        lambda api: api.list_hubs(limit=1, cursor=cursor, owner_id="user-1"),
        ca_pem=certificates.ca_pem,
    )
    assert (replay.wrong, replay.left) == ([], [])


def trusting(certificates: Certificates, url: str, **arguments: Any) -> ThalovantControlPlane:
    return ThalovantControlPlane(url, access_token=TOKEN, ca_pem=certificates.ca_pem, **arguments)


class TestAnswers:
    @pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"<html>", b"\xff", b"[" * 100_000])
    def test_only_an_object_is_an_answer(
        self, api_server: ScriptedServer, certificates: Certificates, raw: bytes
    ) -> None:
        api_server.will(200, raw=raw)
        with trusting(certificates, api_server.url) as api, pytest.raises(ThalovantAPIError, match="JSON") as caught:
            api.list_hubs()
        assert caught.value.status_code == 200
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("raw", [b"", b"  \r\n"])
    def test_an_empty_body_is_an_empty_object(
        self, api_server: ScriptedServer, certificates: Certificates, raw: bytes
    ) -> None:
        api_server.will(202, raw=raw)
        with trusting(certificates, api_server.url) as api:
            assert api.list_hubs() == {}

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_not_followed(
        self, twin: Twin, api_server: ScriptedServer, certificates: Certificates, status: int
    ) -> None:
        api_server.will(status, location=f"{api_server.url}/v1/elsewhere")
        with pytest.raises(ThalovantAPIError, match="redirects are disabled"):
            twin.call(api_server.url, lambda api: api.list_hubs(), ca_pem=certificates.ca_pem)
        assert len(api_server.seen) == 1

    def test_an_answer_has_a_limit(
        self, twin: Twin, api_server: ScriptedServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("thalovant.http_client.MAX_ANSWER", 1_000)
        api_server.will(200, {"data": "x" * 2_000})
        with pytest.raises(ThalovantAPIError, match="more than 1000"):
            twin.call(api_server.url, lambda api: api.list_hubs(), ca_pem=certificates.ca_pem)

    def test_no_cookie_is_kept(self, twin: Twin, api_server: ScriptedServer, certificates: Certificates) -> None:
        for _ in range(2):
            api_server.will(200, {}, set_cookie="a=b; Path=/")
        with trusting(certificates, api_server.url) as api:
            api.list_hubs()
            api.list_hubs()
        assert all("cookie" not in seen.headers for seen in api_server.seen)

    def test_a_server_that_does_not_answer_is_given_up(self, twin: Twin, lonely: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(ThalovantAPIUnreachableError, match=r"within 0\.05 seconds"):
                twin.call(url, lambda api: api.list_hubs(), timeout=0.05)

    def test_the_time_is_for_the_whole_answer(self, twin: Twin) -> None:
        """One byte now and then keeps every single read alive."""
        stop = threading.Event()

        def drip(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                while not stop.wait(0.01):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=drip, args=(listener,))
            thread.start()
            try:
                with pytest.raises(ThalovantAPIUnreachableError, match="within"):
                    twin.call(f"http://127.0.0.1:{listener.getsockname()[1]}", lambda api: api.list_hubs(), timeout=0.2)
            finally:
                stop.set()
                thread.join()


class TestSending:
    def test_without_a_token_nothing_is_sent(self, twin: Twin, plain_server: ScriptedServer) -> None:
        with pytest.raises(ThalovantAuthError, match="thalovant login"):
            twin.call(plain_server.url, lambda api: api.list_hubs(), access_token=None)
        assert plain_server.seen == []

    def test_loopback_may_be_plain_and_a_session_is_left_open(self, plain_server: ScriptedServer) -> None:
        plain_server.will(200, {"access_token": "t", "token_id": "i"})
        plain_server.will(200, {"data": []})
        with httpx2.Client() as session:
            with ThalovantControlPlane(plain_server.url, session=session) as api:
                api.login("a", "b")
                assert (api.access_token, api.token_id, api.session) == ("t", "i", session)
                assert api.list_hubs() == {"data": []}
            assert not session.is_closed
        assert plain_server.seen[1].headers["authorization"] == "Bearer t"

    @pytest.mark.parametrize("host", ["hub.local", "192.168.0.2", "127.0.0.2", "0.0.0.0", "[::2]"])
    def test_another_machine_may_not_be_plain(self, twin: Twin, host: str) -> None:
        for use in (lambda api: api.login("a", "b"), lambda api: api.list_hubs()):
            with pytest.raises(ThalovantAPIError, match="Nothing was sent"):
                twin.call(f"http://{host}:1", use)

    @pytest.mark.parametrize("wrong", ["a\r\nx: y", "é", "\x00", " "])
    def test_nothing_slips_into_a_header(self, plain_server: ScriptedServer, wrong: str) -> None:
        with ThalovantControlPlane(plain_server.url, access_token=TOKEN) as api:
            with pytest.raises(ThalovantAPIError, match="no header"):
                api.update_hub("h", {}, etag=wrong)
            with pytest.raises(ThalovantAPIError, match="no header"):
                api.create_client({}, idempotency_key=wrong)
            api.access_token = wrong
            with pytest.raises(ThalovantAuthError, match="no header"):
                api.list_hubs()
        assert plain_server.seen == []

    @pytest.mark.parametrize("value", [float("nan"), object(), b"x"])
    def test_what_json_cannot_say_is_not_sent(self, plain_server: ScriptedServer, value: object) -> None:
        with ThalovantControlPlane(plain_server.url, access_token=TOKEN) as api, pytest.raises(ThalovantAPIError):
            api.create_client({"name": value})
        assert plain_server.seen == []

    def test_an_id_stays_one_segment(self, plain_server: ScriptedServer) -> None:
        plain_server.will(200, {})
        with ThalovantControlPlane(plain_server.url, access_token=TOKEN) as api:
            api.get_hub("a/../b?c")
            for wrong in ("", ".", "..", "\ud800"):
                with pytest.raises(ThalovantAPIError, match="not an id"):
                    api.get_client(wrong)
        assert plain_server.seen[0].path == "/v1/hubs/a%2F..%2Fb%3Fc"

    def test_the_repr_shows_no_token(self, plain_server: ScriptedServer) -> None:
        api = ThalovantControlPlane(plain_server.url, access_token=TOKEN)
        assert TOKEN not in repr(api)
        assert "signed in" in repr(api)


@pytest.mark.parametrize("url", ["http://h:1", " http://h:1/ ", "http://h:1/v1", "http://h:1/v1/", "HTTP://H:1//"])
def test_spellings_of_one_root(url: str) -> None:
    assert normalized_root(url) == "http://h:1"


def test_a_path_prefix_is_kept() -> None:
    assert normalized_root("https://h/api/v1/") == "https://h/api"
    assert same_server("https://h:443/v1", "https://H")
    assert not same_server("https://h", "https://h/api")
    assert path_segment("a b") == "a%20b"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:1",
        "ftp://h",
        "https://",
        "https://u:secret@h",
        "https://u@h",
        "https://h?x",
        "https://h:x",
        "http://[",
        "https://h/ x",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ThalovantAPIError) as caught:
        ThalovantControlPlane(url)
    assert "secret" not in str(caught.value)


class TestTrust:
    def ask(self, url: str | None = None) -> Any:
        with ThalovantControlPlane(url) as api:
            return api.list_public_hubs()

    def test_a_stranger_is_refused_with_the_line_to_type(self, twin: Twin, api_server: ScriptedServer) -> None:
        with pytest.raises(ThalovantAPIUnreachableError, match="not trusted") as caught:
            twin.call(api_server.url, lambda api: api.list_public_hubs())
        assert f"thalovant login {api_server.url} --ca DIR/ca.pem" in str(caught.value)
        assert "SSL_CERT_FILE" in str(caught.value)
        assert "self-signed certificate in certificate chain" in str(caught.value)
        assert api_server.seen == []

    def test_an_authority_made_anew_is_told_as_one(
        self, twin: Twin, api_server: ScriptedServer, tmp_path: Path, make_certificates: Any
    ) -> None:
        save_login(Login(api_server.url, make_certificates(tmp_path).ca_pem, TOKEN))
        with pytest.raises(ThalovantAPIUnreachableError, match="not trusted") as caught:
            twin.call(api_server.url, lambda api: api.list_public_hubs())
        assert "trusts another authority than the one that signed" in str(caught.value)
        assert f"thalovant login {api_server.url} --ca DIR/ca.pem" in str(caught.value)

    def test_the_variable_that_counted_is_named(
        self, api_server: ScriptedServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        make_certificates: Any,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(make_certificates(tmp_path).ca_file))
        with pytest.raises(ThalovantAPIUnreachableError, match="REQUESTS_CA_BUNDLE names, which was used; SSL_CERT_"):
            self.ask(api_server.url)

    def test_the_name_counts_too(self, api_server: ScriptedServer, certificates: Certificates) -> None:
        url = api_server.url.replace("localhost", "127.0.0.1.")
        with trusting(certificates, url) as api, pytest.raises(ThalovantAPIUnreachableError):
            api.list_public_hubs()

    @pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "THALOVANT_CA_FILE"])
    def test_a_bundle_of_the_environment(
        self, api_server: ScriptedServer, certificates: Certificates, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, str(certificates.ca_file))
        api_server.will(200, {"data": []})
        assert self.ask(api_server.url) == {"data": []}

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_an_unusable_ca_file_is_named(
        self, tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "my-ca.pem"
        if content:
            path.write_text(content)
        monkeypatch.setenv("THALOVANT_CA_FILE", str(path))
        with pytest.raises(ThalovantAPIError, match=r"my-ca\.pem"):
            ThalovantControlPlane()

    def test_the_logins_ca_serves_its_own_server_only(
        self, api_server: ScriptedServer, certificates: Certificates
    ) -> None:
        save_login(Login(api_server.url, certificates.ca_pem, TOKEN, "tok-1"))
        api_server.will(200, {"data": []})
        assert self.ask(f"{api_server.url}/v1/") == {"data": []}
        save_login(Login("https://localhost:1", certificates.ca_pem, TOKEN))
        with pytest.raises(ThalovantAPIUnreachableError, match="not trusted"):
            self.ask(api_server.url)


class TestDiscovery:
    def test_a_given_address_takes_no_token_from_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        save_login(Login("https://localhost:1", None, TOKEN))
        monkeypatch.setenv("THALOVANT_API_TOKEN", TOKEN)
        assert ThalovantControlPlane("https://localhost:1").access_token is None

    def test_the_environment_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        save_login(Login("https://config:1", None, TOKEN, "tok-1"))
        monkeypatch.setenv("THALOVANT_API_URL", "https://environment:2/v1")
        api = ThalovantControlPlane()
        assert (api.api_url, api.access_token) == ("https://environment:2", None)
        monkeypatch.setenv("THALOVANT_API_TOKEN", "mine")
        assert ThalovantControlPlane().access_token == "mine"
        monkeypatch.delenv("THALOVANT_API_TOKEN")
        monkeypatch.setenv("THALOVANT_API_URL", "https://config:1")
        api = ThalovantControlPlane()
        assert (api.access_token, api.token_id) == (TOKEN, "tok-1")

    def test_then_the_login_then_this_machine(self) -> None:
        assert ThalovantControlPlane().api_url == "https://localhost:8443"
        save_login(Login("https://config:1", None, TOKEN, "tok-1"))
        api = AsyncThalovantControlPlane()
        assert (api.api_url, api.access_token, api.token_id) == ("https://config:1", TOKEN, "tok-1")
        assert ThalovantControlPlane(access_token="other").token_id is None

    def test_when_nothing_answers_it_says_where_it_looked(self, twin: Twin, lonely: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        save_login(Login(f"http://localhost:{port}", None, TOKEN))
        with pytest.raises(ThalovantAPIUnreachableError) as caught:
            twin.call(None, lambda api: api.list_hubs())  # type: ignore[arg-type]
        said = str(caught.value)
        for place in ("THALOVANT_API_URL (not set)", str(lonely / "config.yaml"), f"http://localhost:{port}"):
            assert place in said
        assert "thalovant-server up --data DIR" in said
        assert "thalovant login URL --ca DIR/ca.pem" in said
        assert isinstance(caught.value, errors.ThalovantConnectionError)
        shown = "".join(traceback.format_exception(caught.value))
        assert "httpx2" not in shown and "another exception" not in shown

    def test_plain_http_to_an_encrypted_port(self, twin: Twin, api_server: ScriptedServer) -> None:
        with pytest.raises(ThalovantAPIUnreachableError, match="Use https:"):
            twin.call(api_server.url.replace("https:", "http:"), lambda api: api.list_public_hubs())


class TestConfigFile:
    @pytest.mark.parametrize(
        "text", ["[", "5", "control_plane: 5", "control_plane: {}", "control_plane: {api_url: 'ftp://x'}"]
    )
    def test_a_broken_file_is_named_and_stands_in_no_ones_way(self, lonely: Path, text: str) -> None:
        path = lonely / "config.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ThalovantConfigError, match=r"config\.yaml"):
            ThalovantControlPlane()
        assert ThalovantControlPlane("https://other:1").api_url == "https://other:1"

    def test_a_login_open_to_others_is_refused(self, lonely: Path) -> None:
        save_login(Login("https://h:1", None, TOKEN)).chmod(0o644)
        with pytest.raises(ThalovantConfigError, match="chmod 600") as caught:
            ThalovantControlPlane()
        assert TOKEN not in str(caught.value)
        assert TOKEN not in repr(Login("https://h:1", None, TOKEN))


class TestResettingAKey:
    def test_it_is_one_request(self, twin: Twin, plain_server: ScriptedServer) -> None:
        plain_server.will(204)
        plain_server.will(404, {"detail": "No such credential", "code": "not_found"})
        result, _ = twin.call(plain_server.url, lambda api: api.reset_client_key("client/1"))
        assert result is None
        with pytest.raises(ThalovantAPIError) as caught:
            twin.call(plain_server.url, lambda api: api.reset_client_key("client-1", 7))
        assert caught.value.status_code == 404
        assert [(seen.method, seen.path) for seen in plain_server.seen] == [
            ("POST", "/v1/clients/client%2F1/credentials/1/reset-key"),
            ("POST", "/v1/clients/client-1/credentials/7/reset-key"),
        ]


class TestTokens:
    def test_signing_out_revokes_and_forgets(self, twin: Twin, plain_server: ScriptedServer) -> None:
        async def both(api: AsyncThalovantControlPlane) -> None:
            await api.login("a", "b")
            await api.revoke_api_token()

        def one_by_one(api: ThalovantControlPlane) -> None:
            api.login("a", "b")
            api.revoke_api_token()

        for status in (204, 401):
            plain_server.will(200, {"access_token": TOKEN, "token_id": "tok/1"})
            plain_server.will(status)
            _, api = twin.call(plain_server.url, one_by_one if twin.name == "sync" else both)
            assert (api.access_token, api.token_id) == (None, None)
            assert plain_server.seen[-1].path == "/v1/auth/api-tokens/tok%2F1"

    def test_without_an_id_there_is_nothing_to_revoke(self, twin: Twin, plain_server: ScriptedServer) -> None:
        with pytest.raises(ThalovantAPIError, match="No API token id"):
            twin.call(plain_server.url, lambda api: api.revoke_api_token())
        plain_server.will(401, {"detail": "no"})
        with pytest.raises(ThalovantAuthError):
            twin.call(plain_server.url, lambda api: api.revoke_api_token("another"))

    def test_a_sign_in_without_a_token_is_an_error(self, twin: Twin, plain_server: ScriptedServer) -> None:
        plain_server.will(200, {"token_type": "bearer"})
        with pytest.raises(ThalovantAPIError, match="without an access token"):
            twin.call(plain_server.url, lambda api: api.login("a", "b"))


class TestIdentities:
    MADE = SAMPLES["clients.create_identity.mqtt"]["exchanges"][1]["response"]["json"]

    def make(self, server: ScriptedServer, client: dict[str, Any], **arguments: Any) -> BootstrapIdentityResult:
        server.will(201, client)
        with ThalovantControlPlane(server.url, access_token=TOKEN) as api:
            return api.create_client_identity(HUB, **{"name": "kiosk", **arguments})

    def test_topics_and_certificates_come_with_the_identity(self, plain_server: ScriptedServer) -> None:
        ca_pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        client = copy.deepcopy(self.MADE)
        client["initial_identify"]["ca_pem"] = ca_pem
        result = self.make(plain_server, client)
        assert result.identity.mqtt is not None
        assert result.identity.mqtt.c2s_topic == "hubs/hub-1/clients/client-1/c2s"
        assert result.identity.ca_pem == ca_pem

    def test_no_secret_is_shown(self, plain_server: ScriptedServer) -> None:
        client = copy.deepcopy(self.MADE)
        client["initial_identify"] |= {"access_key": "hidden-key", "password": "hidden-password"}
        client |= {"initial_identify_token": "hidden-token", "deep": [{"client-secret": "hidden-deep"}]}
        result = self.make(plain_server, client)
        for shown in (repr(result), json.dumps(result.as_dict())):
            assert "hidden" not in shown
            assert "broker-secret" not in shown
        assert "hidden-deep" in json.dumps(result.as_dict(include_secrets=True))
        assert result.as_dict()["selected_protocol"] == "wss"

    def test_every_call_makes_new_secrets_and_keys(self, plain_server: ScriptedServer) -> None:
        for _ in range(2):
            self.make(plain_server, self.MADE)
        one, two = (seen.json["spec"] for seen in plain_server.seen)
        for name in ("apiKey", "password"):
            assert one[name] != two[name]
            assert len(one[name]) == 43
        assert len({seen.headers["idempotency-key"] for seen in plain_server.seen}) == 2

    def test_a_spec_of_ones_own(self, plain_server: ScriptedServer) -> None:
        spec = {"version": "2", "cryptoKey": "x", "apiKey": "y", "other": 1}
        self.make(plain_server, self.MADE, spec=spec, owner_id="o", active=False)
        body = plain_server.seen[0].json
        assert (body["owner_id"], body["active"], body["spec"]["version"], body["spec"]["other"]) == (
            "o",
            False,
            "2",
            1,
        )
        assert "cryptoKey" not in body["spec"]
        assert body["spec"]["apiKey"] != "y"

    @pytest.mark.parametrize(
        ("name", "site_id", "expected"),
        [("My_first  kiosk ", None, "My-first-kiosk"), ("x", " a\tb ", "a-b"), ("x", "", "x")],
    )
    def test_site_ids(self, plain_server: ScriptedServer, name: str, site_id: str | None, expected: str) -> None:
        self.make(plain_server, self.MADE, name=name, site_id=site_id)
        assert plain_server.seen[0].json["spec"]["siteId"] == expected
        assert plain_server.seen[0].json["name"] == name

    def test_a_blank_name_gets_a_site_id(self, plain_server: ScriptedServer) -> None:
        self.make(plain_server, self.MADE, name="  ")
        assert plain_server.seen[0].json["spec"]["siteId"].startswith("thalovant-client-")

    def test_an_identity_that_lacks_a_field_is_an_identity_error(self, plain_server: ScriptedServer) -> None:
        with pytest.raises(ThalovantIdentityError, match="password"):
            self.make(plain_server, {**self.MADE, "initial_identify": {"access_key": "k"}})

    def test_a_hub_without_id_or_address(self, plain_server: ScriptedServer) -> None:
        with ThalovantControlPlane(plain_server.url, access_token=TOKEN) as api:
            with pytest.raises(ThalovantAPIError, match="missing id"):
                api.create_client_identity({}, name="x")
            assert plain_server.seen == []
            plain_server.will(201, {"id": "c"})
            with pytest.raises(ThalovantAPIError, match="where to connect"):
                api.create_client_identity({"id": "h"}, name="x")
            plain_server.will(201, {"id": "c", "operation": {"id": "cannot be read"}})
            result = api.create_client_identity({"id": "h", "domain": "hub.example"}, name="x")
        assert (result.identity.default_master, result.operation) == ("https://hub.example", None)

    def test_the_kind_is_undone_even_when_that_fails(self, plain_server: ScriptedServer) -> None:
        plain_server.will(201, {"id": "c", "spec": {"connection_type": "voice"}})
        plain_server.will(500)
        with (
            ThalovantControlPlane(plain_server.url, access_token=TOKEN) as api,
            pytest.raises(ThalovantUnsupportedConnectionTypeError, match="it answered 'voice'"),
        ):
            api.create_client_identity(HUB, name="x", connection_type="web_chat")


class TestRequiredProtocol:
    def result(self, mqtt: bool, enabled: bool = True) -> BootstrapIdentityResult:
        values: dict[str, Any] = {"access_key": "k", "password": "p", "site_id": "s", "default_master": "https://h"}
        values |= {"protocols": {"mqtt": enabled, "http": True}}
        values |= {"data_plane_endpoints": {"mqtt": "mqtts://b:1", "https": "https://h:2"}}
        if mqtt:
            values["mqtt"] = {"endpoint": "mqtts://b:1", "username": "u", "password": "p", "topic_prefix": "t"}
        chosen = SelectedHubEndpoint("https", "https://h:2")
        return BootstrapIdentityResult(ThalovantIdentity.from_mapping(values), {}, {}, chosen)

    def test_what_works_is_returned(self) -> None:
        api = ThalovantControlPlane("https://h")
        assert api.require_runtime_protocol(self.result(True), protocol="mqtt").endpoint == "mqtts://b:1"
        assert api.require_runtime_protocol(self.result(True)) == SelectedHubEndpoint("https", "https://h:2")

    @pytest.mark.parametrize(("mqtt", "enabled"), [(False, True), (True, False)])
    def test_what_does_not_comes_with_the_seeds_advice(self, mqtt: bool, enabled: bool) -> None:
        api = AsyncThalovantControlPlane("https://h")
        with pytest.raises(
            ThalovantUnsupportedProtocolError, match="Enable MQTT on the hub and create a fresh identity"
        ):
            api.require_runtime_protocol(self.result(mqtt, enabled), protocol="mqtt")

    def test_an_unknown_one_is_named(self) -> None:
        api = ThalovantControlPlane("https://h")
        with pytest.raises(ThalovantUnsupportedProtocolError, match="carrier-pigeon"):
            api.require_runtime_protocol(self.result(True), protocol="carrier-pigeon")  # type: ignore[arg-type]
        with pytest.raises(ThalovantUnsupportedProtocolError, match="WSS"):
            api.require_runtime_protocol(self.result(True), protocol="wss")


class Polling:
    """Drives a polling call with a clock that only its own pauses move."""

    def __init__(self, steps: list[dict[str, Any] | ThalovantAPIError]) -> None:
        self.now = 0.0
        self.steps = steps
        self.paths: list[str] = []

    def run(self, call: Any) -> Any:
        try:
            step = next(call)
            while True:
                if isinstance(step, Pause):
                    self.now += step.seconds
                    step = call.send({})
                    continue
                self.paths.append(step.path)
                outcome = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                step = call.throw(outcome) if isinstance(outcome, Exception) else call.send(outcome)
        except StopIteration as done:
            return done.value


def refused(status: int, wait: float | None = None) -> ThalovantAPIError:
    return ThalovantAPIError("no", status_code=status, problem={"retry_after_seconds": wait} if wait else None)


READY = {**OPERATION, "status": "ready"}


class TestPolling:
    ROOT = "https://h:1/api"

    def wait(self, polling: Polling, operation: Any = "op-1", timeout: float = 10.0) -> Any:
        return polling.run(api_calls.wait_for_operation(self.ROOT, operation, timeout, 2.0, lambda: polling.now))

    def test_server_errors_and_limits_are_waited_out(self) -> None:
        polling = Polling([OPERATION, refused(503), refused(429, 5.0), READY])
        assert self.wait(polling).is_ready
        assert polling.now == 9.0

    def test_a_wait_beyond_the_deadline_ends_at_once(self) -> None:
        polling = Polling([refused(429, 11.0)])
        with pytest.raises(ThalovantTimeoutError):
            self.wait(polling)
        assert polling.now == 0.0

    def test_the_deadline(self) -> None:
        polling = Polling([OPERATION])
        with pytest.raises(ThalovantTimeoutError, match="op-1"):
            self.wait(polling)
        assert polling.now == 10.0
        with pytest.raises(errors.ThalovantAdmissionTimeoutError):
            Polling([OPERATION]).run(api_calls.wait_for_admission(self.ROOT, "op-1", 1.0, 2.0, lambda: 0.0))

    @pytest.mark.parametrize("status", [400, 404, 401])
    def test_other_refusals_end_it(self, status: int) -> None:
        with pytest.raises(ThalovantAPIError):
            self.wait(Polling([refused(status)]))

    @pytest.mark.parametrize("status", ["failed", "timed_out"])
    def test_a_failed_operation(self, status: str) -> None:
        polling = Polling([{**OPERATION, "status": status, "error_code": "hub_offline", "error_message": "gone"}])
        with pytest.raises(ThalovantAPIError, match=f"{status}: gone") as caught:
            self.wait(polling)
        assert caught.value.code == "hub_offline"

    @pytest.mark.parametrize(
        "operation",
        [
            "op-1",
            "/v1/operations/op-1",
            "https://h:1/api/v1/operations/op-1",
            OPERATION,
            {"links": {"self": "/v1/operations/op-1"}},
            OperationResource.from_dict(OPERATION),
        ],
    )
    def test_ways_to_name_an_operation(self, operation: Any) -> None:
        polling = Polling([READY])
        self.wait(polling, operation)
        assert polling.paths == ["/v1/operations/op-1"]

    @pytest.mark.parametrize(
        "operation",
        ["https://evil/v1/operations/x", "https://h:1/v1/operations/x", "/v1/hubs/x", "/v1/operations/x?y", "", {}],
    )
    def test_a_link_to_elsewhere_is_not_followed(self, operation: Any) -> None:
        polling = Polling([READY])
        with pytest.raises(ThalovantAPIError):
            self.wait(polling, operation)
        assert polling.paths == []

    def admission(self, connection: Any, *steps: Any) -> Any:
        polling = Polling(list(steps))
        return polling.run(api_calls.wait_for_admission(self.ROOT, connection, 10.0, 2.0, lambda: polling.now))

    def test_nothing_to_wait_for_is_admitted(self) -> None:
        assert self.admission(None) is None
        assert self.admission("op-1", refused(404)) is None

    def test_refusals_of_admission(self) -> None:
        with pytest.raises(ThalovantAuthError):
            self.admission("op-1", ThalovantAuthError("no", status_code=401))
        with pytest.raises(errors.ThalovantAdmissionFailedError) as caught:
            self.admission("op-1", refused(400))
        assert (caught.value.status_code, caught.value.error_code) == (400, None)

    @pytest.mark.parametrize("missing", ["id", "kind", "aggregate_type", "status", "created_at", "updated_at"])
    def test_an_operation_that_cannot_be_read(self, missing: str) -> None:
        with pytest.raises(ThalovantAPIError, match=missing):
            self.wait(Polling([{**OPERATION, missing: ""}]))
