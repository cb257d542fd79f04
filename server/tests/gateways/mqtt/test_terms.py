# SPDX-License-Identifier: Apache-2.0
"""What a CONNECT fixes for its connection."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.mqtt.packets import Connack, Connect, Disconnect, Puback, Suback
from thalovant.protocol.mqtt.properties import NOTHING, Properties
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.terms import LEAST_PACKET, Terms, publish_size, terms_of

BOUNDS = Bounds(in_flight=100, unreleased=50, keepalive_most=600)


def five(properties: Properties = NOTHING, keepalive: int = 60) -> Terms:
    return terms_of(Connect("id", level=5, keepalive=keepalive, properties=properties), BOUNDS)


def test_a_client_of_3_1_1_has_no_limits_and_hears_no_reasons() -> None:
    terms = terms_of(Connect("id", keepalive=0), BOUNDS)
    assert terms.codec is V311 and not terms.five
    assert (terms.in_flight, terms.packet_bytes, terms.explains, terms.keepalive) == (100, None, False, 0)
    assert terms.welcome(BOUNDS, None) == Connack(False, 0)
    assert terms.say(Puback(1), "why") == V311.encode(Puback(1))


@pytest.mark.parametrize("asked", [0, 1, 600, 601, 65_535])
def test_a_client_of_3_1_1_keeps_the_keep_alive_that_it_asks_for(asked: int) -> None:
    assert terms_of(Connect("id", keepalive=asked), BOUNDS).keepalive == asked


@pytest.mark.parametrize(("asked", "given"), [(0, 600), (1, 1), (600, 600), (601, 600), (65_535, 600)])
def test_a_client_of_5_is_told_the_keep_alive_that_holds(asked: int, given: int) -> None:
    terms = five(keepalive=asked)
    told = terms.welcome(BOUNDS, None).properties.server_keep_alive
    assert (terms.keepalive, told) == (given, None if asked == given else given)


@pytest.mark.parametrize(("asked", "given"), [(None, 100), (1, 1), (99, 99), (101, 100), (65_535, 100)])
def test_the_smaller_window_holds(asked: int | None, given: int) -> None:
    assert five(Properties(receive_maximum=asked)).in_flight == given


@pytest.mark.parametrize(("asked", "told"), [(None, None), (0, None), (1, 0), (0xFFFFFFFF, 0)])
def test_a_session_that_should_last_is_told_that_it_does_not(asked: int | None, told: int | None) -> None:
    terms = five(Properties(session_expiry_interval=asked))
    assert terms.welcome(BOUNDS, None).properties.session_expiry_interval == told


@pytest.mark.parametrize(("asked", "wanted"), [(None, True), (1, True), (0, False)])
def test_reason_strings_are_for_who_wants_them(asked: int | None, wanted: bool) -> None:
    terms = five(Properties(request_problem_information=asked))
    bare, full = Puback(7, 0x87), Puback(7, 0x87, Properties(reason_string="why"))
    assert terms.say(bare, "why") == V5.encode(full if wanted else bare)
    assert terms.say(bare) == V5.encode(bare)


def test_the_welcome_says_what_is_not_offered() -> None:
    assert five().welcome(BOUNDS, None) == Connack(
        False,
        0,
        Properties(
            receive_maximum=50,
            maximum_packet_size=256 * 1024,
            wildcard_subscription_available=0,
            subscription_identifier_available=0,
            shared_subscription_available=0,
        ),
    )
    assert five().welcome(BOUNDS, "auto-1").properties.assigned_client_identifier == "auto-1"


def test_the_longest_welcome_fits_the_smallest_client() -> None:
    asked = Properties(maximum_packet_size=LEAST_PACKET, session_expiry_interval=9)
    terms = five(asked, keepalive=0)
    data = terms.say(terms.welcome(BOUNDS, "x" * 64))
    assert data is not None


def test_a_reason_string_is_left_out_before_the_packet_is() -> None:
    full = V5.encode(Disconnect(0x87, Properties(reason_string="why")))
    for size, expected in (
        (len(full), full),
        (len(full) - 1, V5.encode(Disconnect(0x87))),
        (3, V5.encode(Disconnect(0x87))),
        (2, None),
    ):
        assert replace(five(), packet_bytes=size).say(Disconnect(0x87), "why") == expected
    assert replace(five(), packet_bytes=6).say(Suback(1, (0, 0, 0))) is None


@given(st.binary(min_size=1, max_size=300), st.integers(0, 200_000), st.integers(0, 1))
def test_the_size_of_a_publish_is_known_before_it_is_written(topic: bytes, payload: int, qos: int) -> None:
    data = V5.encode_publish(topic, bytes(payload), qos=qos, packet_id=1 if qos else None)
    assert publish_size(topic, payload, qos) == len(data)
    for size, fits in ((len(data), True), (len(data) - 1, False)):
        assert replace(five(), packet_bytes=size).takes_publish(topic, bytes(payload), qos) is fits
