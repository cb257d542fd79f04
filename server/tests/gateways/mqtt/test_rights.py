# SPDX-License-Identifier: Apache-2.0
"""What a client may publish and hear, and the reason for what it may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt.packets import Publish
from thalovant.protocol.mqtt.reason_codes import PUBACK_CODES, SUBACK_CODES
from thalovant_server.gateways.mqtt import rights
from thalovant_server.gateways.mqtt.rights import Denial, filter_denial, publish_denial


@pytest.mark.parametrize(
    ("segment", "payload", "retain", "denial"),
    [
        ("in", b"x", False, None),
        ("c2s", b"", False, None),
        ("in", b"x", True, rights.NOT_RETAINED),
        ("c2s", b"", True, rights.NOT_RETAINED),
        ("out", b"x", False, rights.NOT_TO_PUBLISH),
        ("s2c", b"x", True, rights.NOT_TO_PUBLISH),
        ("", b"online", False, rights.NOT_TO_PUBLISH),
        ("status", b"online", False, None),
        ("status", b"offline", True, None),
        ("status", b"Online", True, rights.NO_STATUS),
        ("status", b"", True, rights.NO_STATUS),
    ],
)
def test_what_may_be_published(segment: str, payload: bytes, retain: bool, denial: Denial | None) -> None:
    assert publish_denial(segment, Publish(b"any", payload, retain=retain)) is denial


@pytest.mark.parametrize(
    ("segment", "topic_filter", "denial"),
    [
        ("s2c", b"p/s2c", None),
        ("out", b"p/out", None),
        ("status", b"p/status", None),
        ("c2s", b"p/c2s", rights.HUB_HEARS),
        ("in", b"p/in", rights.HUB_HEARS),
        ("", b"q/s2c", rights.NOT_TO_HEAR),
        ("", b"$SYS/broker", rights.NOT_TO_HEAR),
        ("", b"$share", rights.NOT_TO_HEAR),
        ("", b"#", rights.NO_WILDCARDS),
        ("", b"p/+", rights.NO_WILDCARDS),
        ("", b"a/#/b", rights.NO_WILDCARDS),
        ("", b"$share/g/p/s2c", rights.NOT_SHARED),
        ("", b"$share/g/#", rights.NOT_SHARED),
    ],
)
def test_what_may_be_heard(segment: str, topic_filter: bytes, denial: Denial | None) -> None:
    assert filter_denial(segment, topic_filter) is denial


@given(st.binary(min_size=1, max_size=20))
def test_what_a_client_does_not_have_is_denied(topic: bytes) -> None:
    heard, published = filter_denial("", topic), publish_denial("", Publish(topic, b"online"))
    assert heard is not None and heard.code in SUBACK_CODES
    assert published is not None and published.code in PUBACK_CODES


def test_every_denial_of_a_publish_can_be_said_in_an_acknowledgement() -> None:
    assert PUBACK_CODES.issuperset(
        denial.code for denial in (rights.NOT_TO_PUBLISH, rights.NOT_RETAINED, rights.NO_STATUS)
    )
