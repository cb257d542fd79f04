# SPDX-License-Identifier: Apache-2.0
"""What a user reads when a hub or broker cannot be reached."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from thalovant.transports.base import unreachable


def untrusted(code: int, text: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "CERTIFICATE_VERIFY_FAILED")
    error.verify_code, error.verify_message = code, text
    return error


ISSUER = untrusted(20, "unable to get local issuer certificate")
NAME = untrusted(62, "Hostname mismatch, certificate is not valid for 'hub'.")
ADDRESS = untrusted(64, "IP address mismatch, certificate is not valid for '192.0.2.1'.")


@pytest.mark.parametrize(
    ("error", "own", "said"),
    [
        (ISSUER, True, "trusts another authority (ca_pem) than the one that signed"),
        (ISSUER, False, "use an identity with ca_pem, or add it to the bundle that CURL_CA_BUNDLE names"),
        (NAME, True, "valid for 'hub'. The server is known by other names: use one of those, or start it with"),
        (ADDRESS, False, "valid for '192.0.2.1'. The server is known by other names"),
        (TimeoutError(), False, "hub:1 did not answer within 2 s. Is the hub running?"),
        (ConnectionRefusedError(), False, "Nothing listens at hub:1."),
        (OSError("It broke."), False, "hub:1 could not be reached: It broke."),
        (OSError(), False, "hub:1 could not be reached: OSError."),
    ],
)
def test_what_it_says(error: BaseException, own: bool, said: str, lonely: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURL_CA_BUNDLE", "bundle.pem")
        text = str(unreachable("hub:1", error, 2, own_authority=own))
    assert said in text
    assert ".." not in text
    assert ("made anew? Log in again" in text) == (error is ISSUER and own)
