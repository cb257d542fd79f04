# SPDX-License-Identifier: Apache-2.0
"""Device login as values: what is read of a server's answers, what is refused, and what is never shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant import ApiToken, DeviceAuthorization, DeviceLoginRequest
from thalovant.errors import ThalovantAPIError

BEGUN = {
    "device_code": "the-device-code", "user_code": "BCDF-GHJK", "verification_uri": "https://h:1/v1/device",
    "verification_uri_complete": "https://h:1/v1/device?user_code=BCDF-GHJK", "interval": 7, "expires_in": 60,
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_an_authorization_is_read_and_written_back() -> None:
    begun = DeviceAuthorization.from_dict(BEGUN)
    assert begun.as_dict() == BEGUN
    assert (begun.interval, begun.expires_in) == (7.0, 60)
    assert "the-device-code" not in repr(begun)


@pytest.mark.parametrize("missing", ["device_code", "user_code", "verification_uri"])
@pytest.mark.parametrize("value", [None, "", 1])
def test_an_authorization_without_what_it_needs_is_an_error(missing: str, value: Any) -> None:
    with pytest.raises(ThalovantAPIError, match=missing):
        DeviceAuthorization.from_dict({**BEGUN, missing: value})


@pytest.mark.parametrize(
    "address",
    [
        *("file:///etc/passwd", "javascript:alert(1)", "//h/v1", "/v1/device", "https://", "https://u:p@h/"),
        *("https://h/\x1b[2J", "https://h/ --profile x", "https://[h/"),
    ],
)
@pytest.mark.parametrize("name", ["verification_uri", "verification_uri_complete"])
def test_an_address_that_may_not_be_opened_is_refused(name: str, address: str) -> None:
    with pytest.raises(ThalovantAPIError, match="may not be opened"):
        DeviceAuthorization.from_dict({**BEGUN, name: address})


@pytest.mark.parametrize("interval", [None, -1, "5", True, float("inf"), 10**9])
def test_an_interval_that_makes_no_sense_is_the_usual_one(interval: Any) -> None:
    assert DeviceAuthorization.from_dict({**BEGUN, "interval": interval}).interval == 5.0
    assert DeviceAuthorization.from_dict({**BEGUN, "expires_in": interval and -1}).expires_in == 900


def test_a_token_is_read_and_never_shown() -> None:
    token = ApiToken.from_dict(
        {"access_token": "tvpat_x", "scopes": ["hubs:read"], "expires_at": "2026-11-22T10:00:00.000Z", "token_id": "t"}
    )
    assert token.expires_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert (token.token_type, token.scopes, token.token_id) == ("bearer", ("hubs:read",), "t")
    assert "tvpat_x" not in repr(token)
    assert ApiToken.from_dict(token.as_dict()) == token


def test_a_name_is_verified_only_together_with_a_client_id() -> None:
    said = {"scopes": ["hubs:read"], "client_name": "pi", "client_verified": True}
    assert not DeviceLoginRequest.from_dict(said).client_verified
    assert DeviceLoginRequest.from_dict({**said, "client_id": "c"}).client_verified
    assert not DeviceLoginRequest.from_dict({**said, "client_id": "c", "client_verified": "yes"}).client_verified


@given(st.dictionaries(st.sampled_from([*BEGUN, "access_token", "scopes", "expires_at", "client_name"]), JSON))
def test_whatever_a_server_says_is_read_or_is_its_error(payload: dict[str, Any]) -> None:
    for kind in (DeviceAuthorization, ApiToken, DeviceLoginRequest):
        try:
            kind.from_dict(payload)
        except ThalovantAPIError:
            assert kind is not DeviceLoginRequest
