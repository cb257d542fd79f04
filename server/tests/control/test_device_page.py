# SPDX-License-Identifier: Apache-2.0
"""The page of a device login, its forms walked by a real HTTP client over TLS as a browser would."""

from __future__ import annotations

import html
import re
import ssl
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from thalovant_server.testing.in_process import InProcessServer


class Visitor:
    """Reads forms, fills them in and sends them back, as a browser without scripts does."""

    def __init__(self, server: InProcessServer, http: httpx2.Client) -> None:
        self.server, self.http = server, http
        self.origin = server.ready["api_url"]
        self.text = ""

    def begin(self, **asked: Any) -> dict[str, Any]:
        return dict(self.http.post(f"{self.origin}/v1/auth/device/authorize", json=asked).json())

    def poll(self, begun: dict[str, Any]) -> dict[str, Any]:
        body = {"device_code": begun["device_code"]}
        return dict(self.http.post(f"{self.origin}/v1/auth/device/token", json=body).json())

    def open(self, address: str) -> httpx2.Response:
        answer = self.http.get(address)
        self.text = answer.text
        return answer

    def send(self, step: str, *, headers: dict[str, str] | None = None, **typed: Any) -> httpx2.Response:
        """Press the button with this value in the form of the page that is open."""
        assert f'name="step" value="{step}"' in self.text
        action = re.search(r'<form method="post" action="([^"]*)"', self.text)
        assert action is not None
        fields: dict[str, Any] = {}
        for name, value in re.findall(r'<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"', self.text):
            fields.setdefault(name, []).append(html.unescape(value))
        sent = {**fields, **typed, "step": step}
        of_a_browser = {"origin": self.origin, "sec-fetch-site": "same-origin", **(headers or {})}
        answer = self.http.post(f"{self.origin}/v1/{action[1]}", data=sent, headers=of_a_browser)
        self.text = answer.text
        return answer

    def sign_in(self, begun: dict[str, Any], **typed: Any) -> httpx2.Response:
        self.open(begun["verification_uri_complete"])
        email, password = self.server.admin
        return self.send("sign-in", **{"email": email, "password": password, **typed})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessServer]:
    with InProcessServer(tmp_path_factory.mktemp("device-page") / "data") as running:
        yield running


@pytest.fixture
def visitor(server: InProcessServer) -> Iterator[Visitor]:
    trust = ssl.create_default_context(cafile=server.ready["ca_file"])
    with httpx2.Client(verify=trust, trust_env=False) as http:
        yield Visitor(server, http)
    server.clock.ahead += 900  # what this test left waiting is over


def test_somebody_signs_in_and_approves(visitor: Visitor) -> None:
    begun = visitor.begin(client_name="<b>kitchen</b> & pi", scopes=["hubs:read", "clients:write"])
    question = visitor.sign_in(begun)
    assert question.status_code == 200
    for said in ("&lt;b&gt;kitchen&lt;/b&gt; &amp; pi", begun["user_code"], "127.0.0.1", "hubs:read", "clients:write"):
        assert said in question.text
    assert visitor.poll(begun)["error"] == "authorization_pending"
    assert "Approved" in visitor.send("approve").text
    token = visitor.poll(begun)
    assert token["access_token"].startswith("tvpat_") and token["scopes"] == ["hubs:read", "clients:write"]


def test_what_is_not_ticked_is_not_granted(visitor: Visitor) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    visitor.send("approve", scope=["hubs:read"])
    assert visitor.poll(begun)["scopes"] == ["hubs:read"]


def test_what_was_not_asked_for_is_not_granted(visitor: Visitor) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    assert visitor.send("approve", scope=["hubs:read", "users:write"]).status_code == 403
    assert visitor.poll(begun)["error"] == "authorization_pending"


def test_nothing_ticked_approves_nothing(visitor: Visitor) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    assert visitor.send("approve", scope=[]).status_code == 422
    assert visitor.poll(begun)["error"] == "authorization_pending"


def test_somebody_denies(visitor: Visitor) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    assert "Denied" in visitor.send("deny").text
    assert visitor.poll(begun)["error"] == "access_denied"
    assert visitor.sign_in(begun).status_code == 404  # answered


def test_a_wrong_password_says_so_and_keeps_what_was_typed_but_for_it(visitor: Visitor) -> None:
    begun = visitor.begin()
    refused = visitor.sign_in(begun, password="wrong password")
    assert refused.status_code == 401 and "Invalid email or password" in refused.text
    assert visitor.server.admin[0] in refused.text and begun["user_code"] in refused.text
    assert "wrong password" not in refused.text
    visitor.send("sign-in", password=visitor.server.admin[1])  # and on from there
    assert "Approved" in visitor.send("approve").text


def test_the_page_tells_nothing_of_a_code_before_the_sign_in(visitor: Visitor) -> None:
    begun = visitor.begin(client_name="kitchen-pi")
    real = visitor.open(begun["verification_uri_complete"]).text
    made_up = visitor.open(f"{begun['verification_uri']}?user_code=BBBB-BBBB").text
    assert real.replace(begun["user_code"], "BBBB-BBBB") == made_up
    assert "kitchen-pi" not in real


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"origin": "null"}], ids=str
)
def test_a_form_from_another_site_is_refused(visitor: Visitor, headers: dict[str, str]) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    assert visitor.send("approve", headers=headers).status_code == 403
    assert visitor.poll(begun)["error"] == "authorization_pending"


@pytest.mark.parametrize("ticket", ["", "x", "é", "AAAA" * 40])
def test_a_made_up_ticket_is_refused(visitor: Visitor, ticket: str) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    assert visitor.send("approve", ticket=ticket).status_code == 401
    assert visitor.poll(begun)["error"] == "authorization_pending"


def test_a_ticket_ends_in_time(visitor: Visitor) -> None:
    begun = visitor.begin()
    visitor.sign_in(begun)
    visitor.server.clock.ahead += 600
    assert visitor.send("approve").status_code == 401
    assert visitor.poll(begun)["error"] == "authorization_pending"


def test_a_ticket_is_good_for_its_code_alone(visitor: Visitor) -> None:
    mine, other = visitor.begin(), visitor.begin()
    visitor.sign_in(mine)
    visitor.send("approve", user_code=other["user_code"])
    assert visitor.poll(other)["error"] == "authorization_pending"
    assert "access_token" in visitor.poll(mine)


def test_the_page_cannot_be_framed_scripted_or_kept(visitor: Visitor) -> None:
    begun = visitor.begin()
    for answer in (visitor.open(begun["verification_uri"]), visitor.sign_in(begun), visitor.send("deny")):
        policy = answer.headers["content-security-policy"]
        for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
            assert rule in policy
        assert "script" not in answer.text.lower() and not re.search(r"(src|href)=", answer.text)
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"a=%ff", b"&".join(b"a=%d" % n for n in range(99))], ids=len)
def test_what_is_no_form_of_ours_is_refused_as_a_page(visitor: Visitor, body: bytes) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = visitor.http.post(f"{visitor.origin}/v1/device", content=body, headers=kind)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"].startswith("text/html")
