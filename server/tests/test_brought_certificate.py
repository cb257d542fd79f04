# SPDX-License-Identifier: Apache-2.0
"""An operator's certificate is taken when clients will take it; every other one is told in a sentence that helps."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.brought_certificate import LARGEST_FILE, Brought, read_brought
from thalovant_server.certificate_keeper import utc_now
from thalovant_server.certificates import LOOPBACK_HOSTS
from thalovant_server.errors import CertificateError
from thalovant_server.testing.certificates import DAY, Issued, issue

HOST = "hub.example"
LOCK = serialization.BestAvailableEncryption(b"secret")


@pytest.fixture(scope="module")
def root() -> Issued:
    return issue("Root", is_authority=True)


@pytest.fixture(scope="module")
def middle(root: Issued) -> Issued:
    return issue("Middle", root, is_authority=True)


@pytest.fixture(scope="module")
def leaf(middle: Issued) -> Issued:
    return issue("leaf", middle, hosts=[HOST, "192.0.2.7"])


class Files:
    """The operator's three files; `read` reads them as the server does."""

    def __init__(self, folder: Path, root: Issued, middle: Issued, leaf: Issued) -> None:
        self.certificate, self.key = leaf.write(folder, middle)
        self.authority = folder / "root.pem"
        self.authority.write_text(root.pem)

    def read(self, *hosts: str, authority: bool = True, at: datetime.datetime | None = None) -> Brought:
        given = self.authority if authority else None
        return read_brought(self.certificate, self.key, given, hosts or (HOST,), at or utc_now())

    def refused(self, *hosts: str, at: datetime.datetime | None = None) -> str:
        with pytest.raises(CertificateError) as caught:
            self.read(*hosts, at=at)
        assert str(caught.value).startswith(str(caught.value.path)), "the sentence begins with the file"
        assert "PRIVATE KEY" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def files(tmp_path: Path, root: Issued, middle: Issued, leaf: Issued) -> Files:
    return Files(tmp_path, root, middle, leaf)


def test_one_in_order_is_taken(files: Files, root: Issued, middle: Issued, leaf: Issued) -> None:
    brought = files.read()
    assert brought.leaf.hosts == (HOST,)
    assert brought.chain == leaf.pem + middle.pem
    assert brought.authority == root.pem
    assert brought.ends == middle.certificate.not_valid_after_utc
    assert brought.refused == ""


def test_it_is_shown_for_each_public_host_that_it_names(files: Files) -> None:
    assert files.read(HOST, "other.example", "192.0.2.7").leaf.hosts == (HOST, "192.0.2.7")


def test_it_may_name_loopback(tmp_path: Path, root: Issued, middle: Issued) -> None:
    local = issue("local", middle, hosts=[HOST, *LOOPBACK_HOSTS])
    assert Files(tmp_path, root, middle, local).read().leaf.hosts == (HOST, *LOOPBACK_HOSTS)


def test_without_an_authority_to_hand_out_it_is_told_that_a_client_refuses(files: Files) -> None:
    brought = files.read(authority=False)
    assert brought.authority == ""
    assert "unable to get" in brought.refused


def test_what_the_system_trusts_needs_no_authority(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
    assert files.read(authority=False).refused == ""


def test_the_whole_chain_may_be_in_the_file(files: Files, root: Issued) -> None:
    with files.certificate.open("a") as file:
        file.write("a comment\n" + root.pem)
    assert files.read().chain.endswith(root.pem)


def test_one_that_signed_itself_is_its_own_authority(tmp_path: Path) -> None:
    own = issue("own", hosts=[HOST])
    files = Files(tmp_path, own, own, own)
    files.certificate.write_text(own.pem)
    assert files.read().authority == own.pem


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_the_keys_group_may_read_it(mode: int, files: Files) -> None:
    files.key.chmod(mode)
    files.read()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o666])
def test_a_key_that_others_reach_is_refused_with_the_line_to_type(mode: int, files: Files) -> None:
    files.key.chmod(mode)
    assert f"`chmod 600 {files.key}`" in files.refused()


def test_a_link_to_a_key_is_followed(files: Files) -> None:
    """certbot keeps them so."""
    kept = files.key.rename(files.key.with_name("archived.key"))
    files.key.symlink_to(kept)
    files.read()
    kept.chmod(0o644)
    assert "chmod 600" in files.refused()


def test_another_certificates_key_is_refused(files: Files, middle: Issued) -> None:
    files.key.write_text(issue("other", middle).key_pem)
    assert f"is not the key of the certificate in {files.certificate}" in files.refused()


def test_the_servers_own_comes_first(files: Files, leaf: Issued, middle: Issued) -> None:
    files.certificate.write_text(middle.pem + leaf.pem)
    assert "put that one first" in files.refused()


def test_a_locked_key_is_told_with_the_line_that_opens_it(files: Files, leaf: Issued) -> None:
    files.key.write_text(leaf.locked_key_pem(LOCK))
    said = files.refused()
    assert "is encrypted" in said and f"openssl pkey -in {files.key} -out" in said


def test_one_that_ended_is_told_with_its_day(files: Files, leaf: Issued) -> None:
    end = leaf.certificate.not_valid_after_utc
    assert f"was good until {end:%Y-%m-%d}. Renew it" in files.refused(at=end)


def test_one_that_does_not_hold_yet_is_told_with_its_day(files: Files, leaf: Issued) -> None:
    begin = leaf.certificate.not_valid_before_utc
    assert f"is good from {begin:%Y-%m-%d}" in files.refused(at=begin - DAY)


def test_one_in_between_that_ended_is_told(tmp_path: Path, root: Issued) -> None:
    ended = issue("Middle", root, is_authority=True, begin=utc_now() - 100 * DAY, life=DAY)
    files = Files(tmp_path, root, ended, issue("leaf", ended, hosts=[HOST]))
    assert "(number 2) was good until" in files.refused()


def test_other_names_are_told_with_those_it_has(files: Files) -> None:
    said = files.refused("other.example", HOST)
    assert "good for hub.example, 192.0.2.7, not for other.example, the first --public-host" in said


def test_no_public_host_is_told_with_what_to_add(files: Files) -> None:
    with pytest.raises(CertificateError, match=r"add --public-host hub\.example"):
        read_brought(files.certificate, files.key, None, (), utc_now())


def test_one_without_names_is_refused(tmp_path: Path, root: Issued, middle: Issued) -> None:
    assert "names no host" in Files(tmp_path, root, middle, issue(HOST, middle)).refused()


@pytest.mark.parametrize(
    ("names", "host", "taken"),
    [
        ("*.hub.example", "a.hub.example", True),
        ("*.hub.example", "A.HUB.example", True),
        ("*.hub.example", "a.b.hub.example", False),
        ("*.hub.example", "hub.example", False),
        ("*.example", "hub.example", False),
        ("*.0.2.7", "192.0.2.7", False),
        ("hub.example", "a.hub.example", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("2001:db8::1", "2001:db8:0::1", True),
        ("*", "hub", False),
    ],
)
def test_a_wildcard_stands_for_one_label(
    names: str, host: str, taken: bool, tmp_path: Path, root: Issued, middle: Issued
) -> None:
    files = Files(tmp_path, root, middle, issue("leaf", middle, hosts=[names]))
    if taken:
        assert files.read(host).leaf.hosts == (host,)
    else:
        assert f"not for {host}" in files.refused(host)


@pytest.mark.parametrize("usage", [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_a_clients_certificate_is_refused(
    usage: x509.ObjectIdentifier, tmp_path: Path, root: Issued, middle: Issued
) -> None:
    client = issue("leaf", middle, hosts=[HOST], usages=[usage])
    assert "serverAuth" in Files(tmp_path, root, middle, client).refused()


def test_no_usage_will_do(tmp_path: Path, root: Issued, middle: Issued) -> None:
    Files(tmp_path, root, middle, issue("leaf", middle, hosts=[HOST], usages=[])).read()


def test_a_chain_out_of_order_is_told(files: Files, leaf: Issued, middle: Issued, root: Issued) -> None:
    files.certificate.write_text(leaf.pem + root.pem + middle.pem)
    assert "certificate 2 did not sign certificate 1" in files.refused()


def test_an_authority_that_signed_another_is_told(files: Files) -> None:
    files.authority.write_text(issue("Other", is_authority=True).pem)
    said = files.refused()
    assert said.startswith(str(files.authority)) and f"does not lead to {files.certificate}" in said


def test_a_chain_with_a_gap_is_told(files: Files, leaf: Issued) -> None:
    files.certificate.write_text(leaf.pem)
    assert "put the certificates in between into --certificate" in files.refused()


def test_an_authority_with_its_key_is_not_handed_out(files: Files, root: Issued) -> None:
    files.authority.write_text(root.pem + root.key_pem)
    assert "leave certificates only" in files.refused()


def test_a_key_that_is_too_short_for_clients_is_told(tmp_path: Path, root: Issued, middle: Issued) -> None:
    short = issue("leaf", middle, hosts=[HOST], key=rsa.generate_private_key(65537, 1024))
    assert "ee key too small" in Files(tmp_path, root, middle, short).refused()


def test_an_rsa_key_will_do(tmp_path: Path, root: Issued, middle: Issued) -> None:
    Files(tmp_path, root, middle, issue("leaf", middle, hosts=[HOST], key=rsa.generate_private_key(65537, 2048))).read()


@pytest.mark.parametrize("which", ["certificate", "key", "authority"])
@pytest.mark.parametrize("damage", ["missing", "folder", "pipe", "huge", "empty", "rubbish", "binary"])
def test_a_file_that_is_none_is_told(which: str, damage: str, files: Files) -> None:
    path: Path = getattr(files, which)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path, 0o600)
    elif damage != "missing":
        content = {"huge": b"x" * (LARGEST_FILE + 1), "empty": b"", "rubbish": b"rubbish\n", "binary": b"\xff\x00"}
        path.write_bytes(content[damage])
        path.chmod(0o600)
    said = files.refused()
    told = {
        "missing": "cannot be read (No such file",
        "folder": "no regular file",
        "pipe": "no regular file",
        "huge": "is larger than",
    }
    assert said.startswith(str(path))
    assert told.get(damage, "that can be read as PEM: name another file with --certificate") in said


def test_swapped_files_are_told(files: Files) -> None:
    files.certificate, files.key = files.key, files.certificate
    assert "were swapped" in files.refused()
    files.certificate = files.key
    files.key.chmod(0o600)
    assert "were swapped" in files.refused()


@pytest.mark.parametrize(("which", "kind"), [("certificate", "x509"), ("key", "pkey"), ("authority", "x509")])
def test_der_is_told_with_the_line_that_turns_it(which: str, kind: str, files: Files) -> None:
    path: Path = getattr(files, which)
    path.write_bytes(b"\x30\x82\x01\x0a" + b"\x00" * 200)
    assert f"`openssl {kind} -inform DER -in {path} -out {path}.pem`" in files.refused()


@given(
    garbage=st.binary(max_size=300), which=st.sampled_from(["certificate", "key", "authority"]), within=st.booleans()
)
def test_garbage_raises_only_the_declared_error(
    garbage: bytes, which: str, within: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = Files(tmp_path_factory.mktemp("garbage"), *SOME)
    path: Path = getattr(files, which)
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2] + garbage + before[len(before) // 2 :] if within else garbage)
    try:
        files.read()
    except CertificateError as error:
        assert str(error.path) in str(error)


_ROOT = issue("Root", is_authority=True)
SOME = (_ROOT, _ROOT, issue("leaf", _ROOT, hosts=[HOST]))
