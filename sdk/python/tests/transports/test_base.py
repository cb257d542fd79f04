# SPDX-License-Identifier: Apache-2.0
"""What a user reads when a hub or broker cannot be reached."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

import pytest

from thalovant.transports.base import unreachable


def untrusted(code: int, text: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "CERTIFICATE_VERIFY_FAILED")
    error.verify_code, error.verify_message = code, text
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
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
        (
            OSError(errno.ENETUNREACH, "Connect call failed ('h', 1)"),
            False,
            "could not be reached: Network is unreachable.",
        ),
        (OSError(errno.EPIPE, "In its own words"), False, "could not be reached: In its own words."),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] x"), False, "Nothing listens at"),
        (OSError("Multiple exceptions: [Errno 113] Connect call failed, [Errno 101] x"), False, ": No route to host."),
        (socket.gaierror(-2, "Name or service not known"), False, "hub:1 could not be resolved: Name or service not"),
        (untrusted(10, "certificate has expired"), True, "not trusted: it has expired. Renew it on the server"),
        (untrusted(9, "certificate is not yet valid"), True, "not trusted: it is not yet valid. Set this machine's"),
        (untrusted(26, "unsuitable certificate purpose"), True, "not trusted: unsuitable certificate purpose. For a"),
        (tls("WRONG_VERSION_NUMBER"), False, "hub:1 does not speak TLS (wrong version number). Use the port of"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), False, "hub:1 does not speak TLS"),
        (tls("TLSV1_ALERT_PROTOCOL_VERSION"), False, "handshake with hub:1 failed: tlsv1 alert protocol version."),
        (OSError(), False, "hub:1 could not be reached: OSError."),
    ],
)
def test_what_it_says(error: BaseException, own: bool, said: str, lonely: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURL_CA_BUNDLE", "bundle.pem")
        text = str(unreachable("hub:1", error, 2, own_authority=own))
    assert said in text
    assert ".." not in text
    assert "Errno" not in text
    assert ("made anew? Log in again" in text) == (error is ISSUER and own)
