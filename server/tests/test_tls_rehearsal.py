# SPDX-License-Identifier: Apache-2.0
"""The client in memory refuses what a client over a socket refuses, and says it in the same words."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from thalovant_server.certificates import KeyPair, make_authority, make_server_certificate
from thalovant_server.tls_rehearsal import refusal


def loaded(pair: KeyPair, folder: Path) -> ssl.SSLContext:
    (folder / "crt").write_text(pair.certificate)
    (folder / "key").write_text(pair.private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


def test_it_accepts_and_refuses_as_a_client_does(tmp_path: Path) -> None:
    authority = make_authority()
    server = loaded(make_server_certificate(authority), tmp_path)
    assert refusal(server, "localhost", authority.certificate) == ""
    assert "Hostname mismatch" in refusal(server, "hub.example", authority.certificate)
    assert "unable to get local issuer" in refusal(server, "localhost", make_authority().certificate) + refusal(
        server, "localhost", None
    )


def test_what_this_machine_trusts_is_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_authority()
    server = loaded(make_server_certificate(authority), tmp_path)
    (tmp_path / "trusted.pem").write_text(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    assert refusal(server, "localhost", None) == ""


def test_no_common_version_is_told(tmp_path: Path) -> None:
    authority = make_authority()
    server = loaded(make_server_certificate(authority), tmp_path)
    server.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # for a key that the server does not have
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refusal(server, "localhost", authority.certificate)
