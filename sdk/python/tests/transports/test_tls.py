# SPDX-License-Identifier: Apache-2.0
"""Whom a context trusts, proved by real handshakes over a pair of memory buffers."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError, ThalovantIdentityError
from thalovant.transports.tls import BUNDLE_VARIABLES, bundle_advice, client_context, is_other_authority, is_other_name


def shake(context: ssl.SSLContext, certificates: Any, name: str = "localhost", newest: Any = None) -> str | None:
    """Do a whole handshake in memory; returns the TLS version."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificates.chain_file)
    if newest is not None:
        server_side.minimum_version = ssl.TLSVersion.TLSv1
        server_side.maximum_version = newest
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up, server_hostname=name)
    server = server_side.wrap_bio(up, down, server_side=True)
    done: set[int] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(id(side))
            except ssl.SSLWantReadError:
                continue
    return client.version()


def test_the_usual_store_does_not_know_a_private_authority(certificates: Any) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(environ={}), certificates)


def test_the_identitys_own_authority_is_trusted(certificates: Any) -> None:
    assert shake(client_context(certificates.ca_pem, environ={}), certificates) == "TLSv1.3"


def test_a_name_the_certificate_does_not_hold_is_refused(certificates: Any) -> None:
    context = client_context(certificates.ca_pem, environ={})
    assert shake(context, certificates, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, certificates, "hub.example")


@pytest.mark.parametrize("variable", BUNDLE_VARIABLES)
def test_each_variable_names_a_bundle(certificates: Any, variable: str) -> None:
    assert shake(client_context(environ={variable: str(certificates.ca_file)}), certificates)


def test_the_first_variable_wins(certificates: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(b"")
    empty = {"REQUESTS_CA_BUNDLE": str(other), "SSL_CERT_FILE": str(certificates.ca_file)}
    with pytest.raises(ThalovantConnectionError, match="REQUESTS_CA_BUNDLE"):
        client_context(environ=empty)
    assert shake(
        client_context(environ={"SSL_CERT_FILE": str(certificates.ca_file), "CURL_CA_BUNDLE": ""}), certificates
    )


def test_the_identitys_authority_comes_on_top_of_a_bundle(certificates: Any, tmp_path: Path) -> None:
    own = client_context(certificates.ca_pem, environ={"SSL_CERT_FILE": str(certificates.ca_file)})
    assert shake(own, certificates)


def test_a_folder_may_be_named(tmp_path: Path) -> None:
    assert client_context(environ={"SSL_CERT_FILE": str(tmp_path)}).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bundle_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ThalovantConnectionError, match="SSL_CERT_FILE") as caught:
        client_context(environ={"SSL_CERT_FILE": str(file)})
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\xe9"])
def test_an_authority_that_is_none_is_the_identitys_fault(text: str) -> None:
    with pytest.raises(ThalovantIdentityError, match="ca_pem"):
        client_context(text, environ={})


def test_checking_can_be_switched_off(certificates: Any) -> None:
    context = client_context(certificates.ca_pem, self_signed=True, environ={})
    assert shake(context, certificates, "hub.example")
    assert context.verify_mode is ssl.CERT_NONE


def test_nothing_older_than_tls_1_2() -> None:
    assert client_context(environ={}).minimum_version is ssl.TLSVersion.TLSv1_2


def test_another_authority_is_told_from_another_name(certificates: Any, make_certificates: Any, tmp_path: Path) -> None:
    anew = make_certificates(tmp_path)  # the same name, another key: a data directory made anew
    with pytest.raises(ssl.SSLCertVerificationError) as other:
        shake(client_context(certificates.ca_pem, environ={}), anew)
    assert is_other_authority(other.value) and not is_other_name(other.value)
    with pytest.raises(ssl.SSLCertVerificationError) as strange:
        shake(client_context(environ={}), certificates)
    assert is_other_authority(strange.value)
    with pytest.raises(ssl.SSLCertVerificationError) as name:
        shake(client_context(certificates.ca_pem, environ={}), certificates, "hub.example")
    assert is_other_name(name.value) and not is_other_authority(name.value)
    with pytest.raises(ssl.SSLCertVerificationError) as address:
        shake(client_context(certificates.ca_pem, environ={}), certificates, "192.0.2.7")
    assert is_other_name(address.value)


def test_the_advice_names_the_variable_that_counts() -> None:
    assert bundle_advice({}) == "name its file in SSL_CERT_FILE"
    assert bundle_advice({"SSL_CERT_FILE": "a"}).endswith("SSL_CERT_FILE names, which was used")
    both = bundle_advice({"SSL_CERT_FILE": "a", "REQUESTS_CA_BUNDLE": "b", "CURL_CA_BUNDLE": ""})
    assert both == "add it to the bundle that REQUESTS_CA_BUNDLE names, which was used; SSL_CERT_FILE did not count"
