# SPDX-License-Identifier: Apache-2.0
"""Every refusal and every end has one reason in MQTT 5, that its packet can say, in a sentence that helps."""

import pytest

from thalovant.protocol.mqtt.reason_codes import CONNACK_CODES, DISCONNECT_CODES
from thalovant_server.gateways.mqtt import endpoint, session
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.reasons import REASONS, UNSPECIFIED, reason_for
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal

REFUSALS = [
    each
    for module in (refusal, endpoint, session)
    for each in (*vars(module).values(), refusal.not_allowed("broadcast"))
    if isinstance(each, Refusal)
]
# The ends that are MQTT's own, and not of a refusal.
ENDS = ["denied_publish", "taken_over", "silent", "stalled", "not_binary"]


@pytest.mark.parametrize("why", REFUSALS, ids=lambda why: why.code)
def test_every_refusal_has_a_reason(why: Refusal) -> None:
    reason = reason_for(why.code)
    assert reason is not None and reason is not UNSPECIFIED
    assert reason.advice or why.reason


def test_there_is_no_reason_for_what_nobody_refuses() -> None:
    assert set(REASONS) == {*(why.code for why in REFUSALS), *ENDS}


@pytest.mark.parametrize("code", REASONS)
def test_a_reason_can_be_said(code: str) -> None:
    reason = REASONS[code]
    assert reason.connack in CONNACK_CODES and reason.connack >= 0x80
    assert reason.disconnect in DISCONNECT_CODES and reason.disconnect >= 0x80


@pytest.mark.parametrize("advice", [each.advice for each in REASONS.values() if each.advice])
def test_advice_is_a_short_plain_sentence(advice: str) -> None:
    assert advice.isascii() and advice.isprintable() and len(advice) <= 120
    assert advice[0].isupper() and advice.endswith(".")


@pytest.mark.parametrize("code", ["disconnect", "lost", "refused", "anything"])
def test_what_a_client_brought_about_has_none(code: str) -> None:
    assert reason_for(code) is None


@pytest.mark.parametrize(
    ("code", "connack", "disconnect"),
    [
        ("bad_login", 0x86, 0x87),
        ("protocol_off", 0x87, 0x98),
        ("hub_off", 0x87, 0x98),
        ("revoked", 0x87, 0x87),
        ("paused", 0x87, 0x87),
        ("bad_will", 0x87, 0x87),
        ("too_many_connections", 0x97, 0x97),
        ("busy", 0x89, 0x89),
        ("restart", 0x88, 0x8B),
        ("slow_reader", 0x97, 0x97),
    ],
)
def test_the_reasons_that_are_promised(code: str, connack: int, disconnect: int) -> None:
    assert (REASONS[code].connack, REASONS[code].disconnect) == (connack, disconnect)


def test_the_longest_client_id_is_named() -> None:
    assert f"at most {Bounds().client_id_chars} characters" in REASONS["bad_client_id"].advice
