# SPDX-License-Identifier: Apache-2.0
"""A server's authority by its fingerprint: found, checked, and refused before anything secret is sent."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalovant import ca_fingerprint
from thalovant.api_session import HttpAnswer
from thalovant.ca_fingerprint import fetch_ca
from thalovant.errors import ThalovantAPIError, ThalovantAPIUnreachableError

if TYPE_CHECKING:
    from conftest import Certificates, ScriptedServer, Typed

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


def leaf_of(certificates: Certificates) -> str:
    return PEM.findall(certificates.chain_file.read_text())[0]


def sha256(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.mark.parametrize("form", ["lower", "UPPER", "with:colons", " blanks "])
def test_the_authority_with_that_fingerprint(api_server: ScriptedServer, certificates: Certificates, form: str) -> None:
    api_server.will(200, raw=(leaf_of(certificates) + certificates.ca_pem).encode())
    typed = certificates.fingerprint.upper() if form != "lower" else certificates.fingerprint
    if form == "with:colons":
        typed = ":".join(re.findall("..", typed))
    typed = f" {typed}\n" if form == " blanks " else typed
    assert fetch_ca(api_server.url, typed, timeout=10).strip() == certificates.ca_pem.strip()
    (seen,) = api_server.seen
    assert (seen.method, seen.path, seen.json, seen.query) == ("GET", "/v1/ca.pem", None, {})
    assert not {"authorization", "cookie"} & seen.headers.keys()


def test_another_one_is_shown(
    api_server: ScriptedServer, certificates: Certificates, make_certificates: Any, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path)
    api_server.will(200, raw=(other.ca_pem + leaf_of(certificates)).encode())
    with pytest.raises(ThalovantAPIError) as caught:
        fetch_ca(api_server.url, certificates.fingerprint, timeout=10)
    assert caught.value.code == "fingerprint_mismatch"
    assert f"It showed {other.fingerprint} and {sha256(leaf_of(certificates))}." in str(caught.value)
    assert "no password was sent" in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", b"\xff" * 99]
)
def test_none_is_shown(api_server: ScriptedServer, certificates: Certificates, body: bytes) -> None:
    api_server.will(404, raw=body)
    with pytest.raises(ThalovantAPIError, match="It showed none"):
        fetch_ca(api_server.url, certificates.fingerprint, timeout=10)


def test_a_certificate_that_is_no_authority(api_server: ScriptedServer, certificates: Certificates) -> None:
    leaf = leaf_of(certificates)
    api_server.will(200, raw=(leaf + certificates.ca_pem).encode())
    with pytest.raises(ThalovantAPIError, match="is no authority"):
        fetch_ca(api_server.url, sha256(leaf), timeout=10)


def test_bytes_that_are_no_certificate_are_none_whatever_their_fingerprint(api_server: ScriptedServer) -> None:
    junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    api_server.will(200, raw=junk.encode())
    with pytest.raises(ThalovantAPIError, match="It showed none"):
        fetch_ca(api_server.url, sha256(junk), timeout=10)


def test_what_is_trusted_is_what_was_compared_and_not_the_servers_text(
    api_server: ScriptedServer, certificates: Certificates
) -> None:
    """Readers of PEM differ in what they skip: none but ours reads what the server wrote."""
    odd = certificates.ca_pem.replace("\n", " !\n", 3).replace("! ", "", 1)
    api_server.will(200, raw=odd.encode())
    assert fetch_ca(api_server.url, certificates.fingerprint, timeout=10) == certificates.ca_pem


@pytest.mark.parametrize("fingerprint", ["", "00" * 31, "00" * 33, "zz" * 32, "sha256:" + "0" * 64, "٠" * 64])
def test_what_is_no_fingerprint_asks_nobody(fingerprint: str) -> None:
    with pytest.raises(ThalovantAPIError, match="64 hex digits"):
        fetch_ca("https://localhost:1", fingerprint, timeout=10)


def test_plain_http_has_no_certificate() -> None:
    with pytest.raises(ThalovantAPIError, match="use its https:// address"):
        fetch_ca("http://localhost:1", "0" * 64, timeout=10)


def test_nobody_there(certificates: Certificates) -> None:
    with pytest.raises(ThalovantAPIUnreachableError, match="nothing listens there"):
        fetch_ca("https://localhost:1", certificates.fingerprint, timeout=10)


def test_a_server_with_a_certificate_for_another_name_gets_no_password(
    typed: Typed,
    api_server: ScriptedServer,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The right authority and a certificate of it are not enough: the name must be the one that was typed."""
    api_server.will(200, raw=certificates.ca_pem.encode())
    (tmp_path / "password").write_text("secret")
    lookup = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **named: lookup("localhost", *more, **named))
    url = api_server.url.replace("localhost", "other.test")
    ran = typed(
        "login", url, "--email", "a@b.test", "--password-file", tmp_path / "password", "--ca-fingerprint",
        certificates.fingerprint,
    )  # fmt: skip
    assert (ran.code, ran.out) == (1, "")
    assert "not trusted (Hostname mismatch, certificate is not valid for 'other.test'). The server is known" in ran.err
    assert "--public-host" in ran.err and "thalovant login" not in ran.err, "logging in again would not help"
    assert [seen.method for seen in api_server.seen] == ["GET"]


def test_a_wrong_fingerprint_is_told_in_json(
    typed: Typed, api_server: ScriptedServer, certificates: Certificates
) -> None:
    api_server.will(200, raw=certificates.ca_pem.encode())
    ran = typed("login", api_server.url, "--ca-fingerprint", "0" * 64, "--json")
    assert (ran.code, ran.out) == (1, "")
    assert '"code":"fingerprint_mismatch"' in ran.err and certificates.fingerprint in ran.err


def test_it_compares_in_constant_time(
    api_server: ScriptedServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    monkeypatch.setattr(ca_fingerprint.hmac, "compare_digest", lambda *pair: compared.append(pair) or True)
    api_server.will(200, raw=certificates.ca_pem.encode())
    fetch_ca(api_server.url, "0" * 64, timeout=10)
    assert compared == [(certificates.fingerprint, "0" * 64)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(st.sampled_from("-BEGINCRTFAD \nE=/+")).map(str.encode))
def test_whatever_the_server_says_only_the_declared_error_is_raised(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    framed = b"-----BEGIN CERTIFICATE-----" + body + b"-----END CERTIFICATE-----"
    for said in (body, framed):
        monkeypatch.setattr(ca_fingerprint, "untrusted_get", lambda *_, said=said: HttpAnswer(200, {}, said))
        with pytest.raises(ThalovantAPIError):
            fetch_ca("https://h", "0" * 64, timeout=1)
