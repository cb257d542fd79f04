# SPDX-License-Identifier: Apache-2.0
"""The properties of MQTT 5 (2.2.2) as one value; which of them a packet may have is known to `v5`.

A property that is not there is None, or an empty tuple where there may be several. This file will not check
anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Properties:
    """All that MQTT 5 knows, by the names of its table 2-4. Times in seconds, sizes in bytes, flags 0 or 1.

    What may hold something private is not in the `repr`.
    """

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = field(default=None, repr=False)
    response_topic: str | None = field(default=None, repr=False)
    correlation_data: bytes | None = field(default=None, repr=False)
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=False)
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = field(default=None, repr=False)
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NOTHING = Properties()
"""No property at all: the value of every packet of MQTT 3.1.1."""
