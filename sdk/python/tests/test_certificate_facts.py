# SPDX-License-Identifier: Apache-2.0
"""What a certificate says of itself, and who signed it; rubbish is none."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thalovant.certificate_facts import CertificateFacts, der_of, signer_among


def leaf_of(certificates: Any) -> bytes:
    return der_of(Path(certificates.chain_file).read_text())[0]


def test_what_it_says(certificates: Any) -> None:
    facts = CertificateFacts.of(leaf_of(certificates))
    assert facts is not None
    assert (facts.names, facts.issuer) == (("localhost", "127.0.0.1"), "test CA")
    assert str(facts).startswith("for localhost, 127.0.0.1, good from 20")
    assert str(facts).endswith("signed by 'test CA'")
    assert facts.good_at(datetime.datetime.now(datetime.UTC))
    assert not facts.good_at(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))


def test_who_signed_it(certificates: Any, make_certificates: Any, tmp_path: Path) -> None:
    facts = CertificateFacts.of(leaf_of(certificates))
    assert facts is not None
    other = make_certificates(tmp_path)
    assert signer_among(facts, der_of(other.ca_pem + certificates.ca_pem))
    assert not signer_among(facts, der_of(other.ca_pem)), "the same name, another key"
    assert not signer_among(facts, [b"", b"rubbish"])


def test_names_without_end_are_cut(certificates: Any) -> None:
    facts = CertificateFacts.of(leaf_of(certificates))
    assert facts is not None
    many = CertificateFacts(tuple("abcdefghij"), facts.begins, facts.ends, "x", facts.certificate)
    assert "for a, b, c, d, e, f, g, h and 2 more, good" in str(many)
    assert "for no name" in str(CertificateFacts((), facts.begins, facts.ends, "x", facts.certificate))


def test_the_certificates_of_a_text(certificates: Any) -> None:
    found = der_of("words\n" + certificates.ca_pem + "-----BEGIN CERTIFICATE-----\nno base64!\n")
    assert found[0] == ssl.PEM_cert_to_DER_cert(certificates.ca_pem)


@given(st.binary(max_size=200))
def test_rubbish_is_none(data: bytes) -> None:
    assert CertificateFacts.of(data) is None


@given(st.text(max_size=200))
def test_text_without_certificates_has_none(text: str) -> None:
    assert der_of(text) == []


def test_nothing_is_none() -> None:
    assert CertificateFacts.of(None) is None
