# SPDX-License-Identifier: Apache-2.0
"""The local authority vouches for loopback and the named hosts, and OpenSSL holds it to that."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from thalovant_server import certificates
from thalovant_server.certificates import (
    LOOPBACK_HOSTS,
    KeyPair,
    make_authority,
    make_server_certificate,
    permits,
    reissue_authority,
    serves,
)

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return make_authority(("hub.example", "192.0.2.7"))


def handshake(server: KeyPair, authority: KeyPair, host: str, folder: Path) -> None:
    """Shake hands over a real socket as a client that dials ``host``; raises what the client's TLS raises."""
    (folder / "tls.crt").write_text(server.certificate)
    (folder / "tls.key").write_text(server.private_key)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    dialling = ssl.create_default_context(cadata=authority.certificate)
    near, far = socket.socketpair()

    def accept() -> None:
        try:
            accepting.wrap_socket(far, server_side=True).close()
        except (ssl.SSLError, OSError):
            far.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        dialling.wrap_socket(near, server_hostname=host).close()
    finally:
        near.close()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "hub.example", "192.0.2.7"])
def test_a_client_that_trusts_the_authority_trusts_each_named_host(
    host: str, authority: KeyPair, tmp_path: Path
) -> None:
    handshake(make_server_certificate(authority, ("hub.example", "192.0.2.7")), authority, host, tmp_path)


def test_another_name_is_not_trusted(authority: KeyPair, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(make_server_certificate(authority), authority, "elsewhere.example", tmp_path)


def test_another_authority_is_not_trusted(authority: KeyPair, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(make_server_certificate(authority), make_authority(), "localhost", tmp_path)


def test_the_constraint_is_critical_and_a_stolen_key_cannot_pass_for_a_bank(tmp_path: Path) -> None:
    """Sign a foreign name past our own check: the client's TLS refuses it."""
    narrow, wide = make_authority(), make_authority(("bank.example",))
    issuer = x509.load_pem_x509_certificate(narrow.certificate.encode())
    assert issuer.extensions.get_extension_for_class(x509.NameConstraints).critical
    forged = KeyPair(narrow.certificate, narrow.private_key)
    check = certificates._covers
    certificates._covers = lambda issuer, host: True  # type: ignore[assignment]
    try:
        server = make_server_certificate(forged, ("bank.example",))
    finally:
        certificates._covers = check
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(server, narrow, "bank.example", tmp_path)
    handshake(make_server_certificate(wide, ("bank.example",)), wide, "bank.example", tmp_path)


@pytest.mark.parametrize("host", ["other.example", "198.51.100.1", "badhub.example"])
def test_a_host_outside_the_constraint_is_refused_before_it_is_signed(host: str, authority: KeyPair) -> None:
    with pytest.raises(ValueError, match="may not vouch for"):
        make_server_certificate(authority, (host,))


def test_a_key_of_another_authority_is_refused(authority: KeyPair) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        make_server_certificate(KeyPair(authority.certificate, make_authority().private_key))


def test_serves_tells_names_signer_and_dates(authority: KeyPair) -> None:
    leaf = make_server_certificate(authority, ("hub.example",)).certificate
    names = (*LOOPBACK_HOSTS, "hub.example")
    assert serves(leaf, authority.certificate, names, NOW)
    assert not serves(leaf, authority.certificate, LOOPBACK_HOSTS, NOW), (
        "a name too many would end older clients' trust"
    )
    assert not serves(leaf, authority.certificate, (*names, "other.example"), NOW)
    assert not serves(leaf, make_authority().certificate, names, NOW)
    assert not serves(leaf, authority.certificate, names, NOW + datetime.timedelta(days=400))
    assert not serves(leaf, authority.certificate, names, NOW - datetime.timedelta(days=1))


def test_an_authority_issued_anew_has_its_key_and_name_and_vouches_for_more(tmp_path: Path) -> None:
    first = make_authority(("hub.example",))
    second = reissue_authority(first, ("new.example", "hub.example", "2001:db8::1"))
    one, two = (x509.load_pem_x509_certificate(each.certificate.encode()) for each in (first, second))
    assert (one.subject, one.public_key()) == (two.subject, two.public_key())
    assert second.private_key == first.private_key
    assert two.extensions.get_extension_for_class(x509.NameConstraints).critical
    constraints = two.extensions.get_extension_for_class(x509.NameConstraints).value
    named = [str(tree.value) for tree in constraints.permitted_subtrees or []]
    assert named.count("hub.example") == 1 and {"new.example", "2001:db8::1/128"} <= set(named)
    assert not permits(second.certificate, "other.example")

    old_leaf, new_leaf = (
        make_server_certificate(second, ("hub.example",)),
        make_server_certificate(second, ("hub.example", "new.example")),
    )
    for trusted in (first, second):
        handshake(old_leaf, trusted, "hub.example", tmp_path)
    handshake(new_leaf, second, "new.example", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(new_leaf, first, "hub.example", tmp_path)  # why each generation has a certificate of its own


def test_a_certificate_is_due_when_two_thirds_of_its_life_are_over(authority: KeyPair) -> None:
    begin = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    leaf = make_server_certificate(authority, at=begin).certificate
    assert certificates.ends(leaf) == begin + certificates.SERVER_LIFE
    life = certificates.SERVER_LIFE + certificates.CLOCK_SKEW
    assert certificates.due(leaf) == begin - certificates.CLOCK_SKEW + life * 2 / 3


def test_a_key_may_be_kept(authority: KeyPair) -> None:
    key = certificates.make_key()
    leaf = make_server_certificate(authority, private_key=key)
    assert certificates.public_key_in(leaf.certificate) == certificates.public_key_of(key)


def test_an_authority_of_another_kind_is_refused(authority: KeyPair) -> None:
    certificates.check_authority(authority)
    with pytest.raises(ValueError, match="no name constraints"):
        certificates.check_authority(make_server_certificate(authority))
    with pytest.raises(ValueError, match="does not belong"):
        certificates.check_authority(KeyPair(authority.certificate, certificates.make_key()))


@pytest.mark.parametrize("text", ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_text_that_is_no_certificate_raises_value_error(text: str, authority: KeyPair) -> None:
    with pytest.raises(ValueError):
        serves(text, authority.certificate, ("localhost",), NOW)
    with pytest.raises(ValueError):
        certificates.public_key_of(text)
    for read in (certificates.public_key_in, certificates.due, certificates.ends, certificates.fingerprint):
        with pytest.raises(ValueError):
            read(text)


def test_the_fingerprint_is_64_hex_digits_and_no_repr_shows_a_key(authority: KeyPair) -> None:
    assert len(bytes.fromhex(certificates.fingerprint(authority.certificate))) == 32
    assert "PRIVATE" not in repr(authority)
