# SPDX-License-Identifier: Apache-2.0
"""Each last word of a broker as an error: its class, what it says to do, and what it never shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantHubRefusedError,
    ThalovantPublishDeniedError,
    ThalovantPublishTooLargeError,
)
from thalovant.protocol.mqtt.client_events import (
    BrokerLeft,
    LoginRefused,
    NobodyListens,
    PacketTooLarge,
    PublishRefused,
    SubscriptionRefused,
    Unanswered,
    VersionRefused,
    Violated,
)
from thalovant.protocol.mqtt.reason_codes import (
    CONNACK_CODES,
    DISCONNECT_CODES,
    PUBACK_CODES,
    SUBACK_CODES,
)
from thalovant.transports.mqtt_answers import Answers

PRIVATE = ("hubs/h/clients/c/c2s", "hubs/h/clients/c", "broker-user", "broker-password", "")
SAID = "hubs/h/clients/c/c2s is not for broker-user,\n\x1b[31mwho said broker-password" + "!" * 500


def answers(level: int = 5) -> Answers:
    return Answers(level, PRIVATE)


# 3.1.1: return code, class, what it says
RETURN_CODES = [
    (5, ThalovantHubRefusedError, r"off on the hub.* `thalovant doctor` says .* newest file, .* fresh identity\."),
    (4, ThalovantHubRefusedError, "(CONNACK 4)."),
    (3, ThalovantConnectionError, "(CONNACK 3). Try again in a moment."),
    (2, ThalovantConnectionError, "(CONNACK 2). It does not speak MQTT 3.1.1 as we do."),
]


@pytest.mark.parametrize(("code", "kind", "text"), RETURN_CODES)
def test_return_codes_of_3_1_1(code: int, kind: type, text: str) -> None:
    error = answers(4).refusal(LoginRefused(code))
    assert type(error) is kind
    if code == 5:
        with pytest.raises(ThalovantHubRefusedError, match=text):
            raise error
    else:
        assert text in str(error)


REFUSING = {0x86, 0x87, 0x8A}
PASSING = {0x88, 0x89, 0x8B, 0x8D, 0x96, 0x97, 0x98, 0x9F, 0xA0}
CONNACK_TEXTS = {
    0x80: "log may say more",
    0x81: "does not speak MQTT 5 as we do",
    0x82: "does not speak MQTT 5 as we do",
    0x83: "log may say more",
    0x85: "32 hexadecimal digits",
    0x8C: "does not speak MQTT 5 as we do",
    0x90: "create a fresh identity",
    0x95: "does not speak MQTT 5 as we do",
    0x99: "does not speak MQTT 5 as we do",
    0x9A: "presence is a retained message",
    0x9B: "last will has QoS 1",
    0x9C: "is not followed",
    0x9D: "is not followed",
}


def test_a_paused_client_is_told_how_to_go_on():
    error = answers().refusal(LoginRefused(0x87, "This client is paused. Its owner can resume it."))
    assert isinstance(error, ThalovantHubRefusedError)
    assert error.diagnosis is not None and error.diagnosis.code == "client_paused"
    assert str(error).endswith("The client is paused. Its owner can resume it: `thalovant clients resume NAME`.")


@pytest.mark.parametrize("code", sorted(CONNACK_CODES - {0, 0x84}))
def test_every_connack(code: int) -> None:
    error = answers().refusal(LoginRefused(code, "the words"))
    assert type(error) is (ThalovantHubRefusedError if code in REFUSING else ThalovantConnectionError)
    text = str(error)
    assert f"(CONNACK 0x{code:02x}, " in text and 'It said: "the words".' in text and text.endswith(".")
    if code in REFUSING:
        assert "create a fresh identity" in text
    elif code in PASSING:
        assert text.endswith("Try again in a moment.")
    else:
        assert CONNACK_TEXTS[code] in text


@pytest.mark.parametrize("code", sorted(SUBACK_CODES - {0, 1, 2}))
def test_every_suback(code: int) -> None:
    error = answers().refusal(SubscriptionRefused(code))
    passing = code == 0x97
    assert type(error) is (ThalovantConnectionError if passing else ThalovantHubRefusedError)
    assert ("Try again" if passing else "create a fresh identity") in str(error)


def test_the_suback_of_3_1_1() -> None:
    error = answers(4).refusal(SubscriptionRefused(0x80))
    assert type(error) is ThalovantHubRefusedError
    assert "(SUBACK 128)" in str(error)


@pytest.mark.parametrize("kind", ["c2s", "status"])
@pytest.mark.parametrize("code", sorted(PUBACK_CODES - {0, 0x10}))
def test_every_puback(kind: Any, code: int) -> None:
    loss = answers().loss(PublishRefused(kind, code, "the words"))
    assert f"(PUBACK 0x{code:02x}, " in loss.text and not loss.refused
    if code in (0x91, 0x97):
        assert loss.error is None and "Try again" in loss.text
        return
    error = loss.error
    assert type(error) is ThalovantPublishDeniedError and str(error) == loss.text
    assert (error.topic_kind, error.reason, error.reason_code) == (kind, "the words", code)
    assert f"{kind}_topic" in loss.text and "create a fresh identity" in loss.text


def test_a_hub_that_is_not_at_the_broker_is_dialled_again() -> None:
    error = answers().loss(NobodyListens()).error
    assert type(error) is ThalovantConnectionError and error.diagnosis is not None
    assert (error.diagnosis.code, error.diagnosis.step) == ("hub_away", "handshake")
    assert str(error) == str(answers().refusal(NobodyListens()))
    assert str(error).startswith("The broker is there, and the hub is not connected to it.")


@pytest.mark.parametrize("code", sorted(DISCONNECT_CODES - {4}))
def test_every_disconnect(code: int) -> None:
    loss = answers().loss(BrokerLeft(code, "the words"))
    assert f"(DISCONNECT 0x{code:02x}, " in loss.text and 'It said: "the words".' in loss.text
    assert loss.text.endswith(".")
    assert (loss.refused, loss.hung_up) == (code == 0x87, code == 0)
    assert loss.text.endswith("Try again in a moment.") == (code in PASSING)
    assert isinstance(loss.error, ThalovantPublishTooLargeError) == (code == 0x95)


def test_another_server_is_named() -> None:
    assert "It refers to b.example:1;" in str(answers().refusal(LoginRefused(0x9D, instead="b.example:1")))
    assert "without saying where to" in answers().loss(BrokerLeft(0x9C)).text


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (PacketTooLarge(70_000, 65_536), "A message of 70000 bytes is more than the 65536 that the broker takes."),
        (Unanswered("publish", 8.0), "The broker did not acknowledge a message within 8 s."),
        (Unanswered("ping", 10.0), "The broker did not answer a ping within 10 s."),
        (Violated("No.", 0x81), "The broker sent something that is not MQTT 5: No."),
        (Violated("No.", 0x82), "The broker broke a rule of MQTT 5: No."),
        (VersionRefused(), "The broker does not speak MQTT 5."),
    ],
)
def test_the_other_endings(ending: Any, text: str) -> None:
    loss = answers().loss(ending)
    assert loss.text.startswith(text)
    error = answers().refusal(ending)
    assert isinstance(error, ThalovantConnectionError) and str(error).startswith(text)
    assert (error is loss.error) or isinstance(ending, PacketTooLarge) or "while logging in" in str(error)


@pytest.mark.parametrize("ending", [LoginRefused(0x87, SAID, SAID), LoginRefused(0x9C, "", SAID)])
def test_a_login_error_shows_nothing_private(ending: Any) -> None:
    check(str(answers().refusal(ending)))


@pytest.mark.parametrize("ending", [PublishRefused("c2s", 0x87, SAID), BrokerLeft(0x9D, SAID, SAID)])
def test_a_loss_shows_nothing_private(ending: Any) -> None:
    loss = answers().loss(ending)
    check(loss.text)
    check(repr(vars(loss.error)) if loss.error else "")


def check(text: str) -> None:
    assert not any(secret in text for secret in PRIVATE if secret)
    assert len(text) < 900
    assert text.isprintable()


@given(st.text(), st.text())
def test_whatever_a_broker_says_is_one_printable_line(said: str, instead: str) -> None:
    for text in (
        str(answers().refusal(LoginRefused(0x9C, said, instead))),
        answers().loss(BrokerLeft(0x82, said)).text,
        answers().loss(PublishRefused("c2s", 0x87, said)).text,
    ):
        assert text.isprintable()
