# SPDX-License-Identifier: Apache-2.0
"""What a user reads, and a program is told, when the control plane is not reached."""

from __future__ import annotations

import socket
import ssl

import httpx2
import pytest

from thalovant.api_session import HttpRequest
from thalovant.errors import ThalovantAPIUnreachableError
from thalovant.http_client import _explain

REQUEST = HttpRequest("GET", "https://hub.example:8443/v1/hubs", {})


def untrusted(code: int, text: str) -> Exception:
    error = ssl.SSLCertVerificationError(1, "CERTIFICATE_VERIFY_FAILED")
    error.verify_code, error.verify_message = code, text
    return caused_by(error)


def caused_by(cause: Exception) -> Exception:
    error = httpx2.ConnectError("it did not work")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (untrusted(20, "unable to get local issuer certificate"), "ca_unknown", "thalovant login https://hub.example"),
        (untrusted(10, "certificate has expired"), "certificate_expired", "(certificate has expired). Renew it on"),
        (untrusted(9, "certificate is not yet valid"), "certificate_not_yet_valid", "Set this machine's clock"),
        (untrusted(62, "Hostname mismatch"), "certificate_misnamed", "known by other names"),
        (caused_by(ConnectionRefusedError(111, "x")), "port_refused", "nothing listens there. Look."),
        (caused_by(socket.gaierror(-2, "Name or service not known")), "name_unresolved", "Name or service not known"),
        (httpx2.ConnectTimeout("slow"), "port_silent", "no answer within 3 seconds"),
        (TimeoutError(), "port_silent", "no answer within 3 seconds"),
        (httpx2.ReadError("it hung up"), None, "it hung up. Look."),
    ],
)
def test_why_it_is_not_reached(error: Exception, code: str | None, said: str) -> None:
    with pytest.raises(ThalovantAPIUnreachableError) as caught:
        _explain(error, REQUEST, 3.0, "Look.", own_authority=False)
    assert said in str(caught.value)
    assert (caught.value.diagnosis.code if caught.value.diagnosis else None) == code
