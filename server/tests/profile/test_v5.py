# SPDX-License-Identifier: Apache-2.0
"""MQTT 5, statement by statement: raw bytes over TLS to a real server, by the sections of the standard.

The identifiers at the head of a docstring are the statements that the test shows; `docs/mqtt-profile.md` is the table.
Those that bind the client are named where the server ends a connection that breaks them.
"""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from raw_mqtt import (
    DISCONNECT,
    HELLO,
    PINGREQ,
    PINGRESP,
    REASON_STRING,
    USER_PROPERTY,
    Dialect,
    Login,
    Will,
    packet,
    text,
    u16,
    u32,
)

M = Dialect(5)
ILL_FORMED = {
    "surrogate": b"a\xed\xa0\x80",
    "overlong": b"\xc0\xaf",
    "cut": b"\xe2\x82",
    "no UTF-8": b"\xff",
    "U+0000": b"a\0b",
}
MALFORMED, PROTOCOL_ERROR, NOT_AUTHORIZED, TOO_LARGE = 0x81, 0x82, 0x87, 0x95
NO_LOCAL, AS_PUBLISHED, ONLY_WHEN_NEW, NEVER = 0x04, 0x08, 0x10, 0x20

# The reason codes that a server may send (tables 2-6 and 3-1, and 3.14.2.1).
CONNACK_CODES = {0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F}
DISCONNECT_CODES = {0, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3)}


def session_expiry(seconds: int) -> bytes:
    return b"\x11" + u32(seconds)


def receive_maximum(number: int) -> bytes:
    return b"\x21" + u16(number)


def packet_size(size: int) -> bytes:
    return b"\x27" + u32(size)


def user_property(name: str | bytes, value: str | bytes) -> bytes:
    return bytes([USER_PROPERTY]) + text(name) + text(value)


@pytest.fixture
def dialect() -> Dialect:
    return M


def told(client: Any, code: int) -> Any:
    """The server says DISCONNECT with that code, and closes."""
    said = client.receive()
    assert said is not None and (said.kind, said.code) == ("DISCONNECT", code), said
    assert said.code in DISCONNECT_CODES and client.closed()
    return said


def refused(client: Any, connect: bytes, code: int) -> Any:
    """The server says CONNACK with that code, without a session, and closes."""
    said = client.ask(connect)
    assert (said.kind, said.body[0], said.code) == ("CONNACK", 0, code), said
    assert said.code in CONNACK_CODES and client.closed()
    return said


def say_status(client: Any, login: Login, payload: bytes, packet_id: int = 77, **fields: Any) -> None:
    """Publish a status with QoS 1, and see it acknowledged."""
    client.send(M.publish(login.topic("status"), payload, qos=1, packet_id=packet_id, **fields))
    while (said := client.receive()).kind != "PUBACK":
        assert said.kind == "PUBLISH"
    assert (said.packet_id, said.code) == (packet_id, 0)


def hears(client: Any, payload: bytes) -> Any:
    """The next packet, which is a PUBLISH of that."""
    said = client.receive()
    assert said is not None and (said.kind, said.payload) == ("PUBLISH", payload)
    return said


def greet(client: Any, login: Login, times: int = 1, **fields: Any) -> list[Any]:
    """Say hello to the hub; the two PUBLISHes that answer each."""
    client.send(*[M.publish(login.topic("c2s"), HELLO, **fields) for _ in range(times)])
    answers = [client.receive() for _ in range(2 * times)]
    assert all(each.kind == "PUBLISH" for each in answers)
    return answers


# -- 1.5 Data representation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ILL_FORMED.values(), ids=ILL_FORMED)
def test_text_that_is_none_is_malformed(dial: Any, log_in: Any, common: Login, bad: bytes) -> None:
    """[MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-3.3.2-1]
    [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2] [MQTT-4.13.1-1] Wherever a string is.
    """
    connects = [
        M.connect(common, bad),
        M.connect(common, "x", will=Will(common.topic("status") + bad)),
        M.connect(Login("", "", ""), "x", properties=user_property(bad, "value")),
        M.connect(common, "x", properties=user_property("name", bad)),
        packet(0x10, text("MQTT"), b"\5\xc2\0\0\0", text("x"), text(bad), text(common.password)),
    ]
    for sent in connects:
        refused(dial(), sent, MALFORMED)
    topic = common.topic("c2s")
    for sent in (
        M.publish(topic + bad, b""),
        M.publish(topic, b"", properties=user_property(bad, "")),
        M.publish(topic, b"", properties=b"\x08" + text(bad)),
        M.publish(topic, b"", properties=b"\x03" + text(bad)),
        M.subscribe(1, (topic + bad, 0)),
        M.subscribe(1, (topic, 0), properties=user_property("", bad)),
        M.unsubscribe(1, topic + bad),
    ):
        client = log_in()
        client.send(sent)
        told(client, MALFORMED)


def test_a_byte_order_mark_is_a_character_like_others(log_in: Any, common: Login) -> None:
    """[MQTT-1.5.4-3] It makes another client id, and another topic."""
    plain, marked = log_in(client_id="marked"), log_in(client_id="\ufeffmarked")
    assert plain.silent() and marked.silent()
    assert plain.ask(M.subscribe(1, ("\ufeff".encode() + common.topic("s2c"), 0))).codes == b"\x87"
    assert plain.ask(M.subscribe(1, (common.topic("s2c"), 0))).codes == b"\0"


def test_lengths_are_as_short_as_they_can_be(dial: Any, common: Login) -> None:
    """[MQTT-1.5.5-1] Of whatever the server sends; the client here accepts no other."""
    client = dial()
    assert client.ask(M.connect(common)).code == 0
    assert client.ask(M.subscribe(1, *[(b"x", 0)] * 200)).codes == b"\x87" * 200
    assert client.ask(M.subscribe(2, (common.topic("s2c"), 0))).codes == b"\0"
    assert len(greet(client, common)[1].body) > 127


@pytest.mark.parametrize("sent", [
    b"\xc0\x80\0", b"\x82\x87\0\0\1\0\0\1x\0", b"\x82\x08\0\1\x80\0\0\1x\0",
], ids=["PINGREQ", "SUBSCRIBE", "its properties"])  # fmt: skip
def test_lengths_that_are_longer_than_need_be_are_malformed(log_in: Any, sent: bytes) -> None:
    """[MQTT-1.5.5-1] Of whatever a client sends."""
    client = log_in()
    client.send(sent)
    told(client, MALFORMED)


# -- 2.1.3 Flags, 2.2.1 Packet identifier, 2.2.2 Properties --------------------------------------------------------

WRONG_FLAGS = {
    "CONNECT": packet(0x11, b"\0"),
    "PUBACK": packet(0x42, u16(1)),
    "PUBREL": packet(0x60, u16(1)),
    "SUBSCRIBE": M.subscribe(1, (b"x", 0), first=0x80),
    "UNSUBSCRIBE": M.unsubscribe(1, b"x", first=0xA0),
    "PINGREQ": b"\xc1\0",
    "DISCONNECT": b"\xe1\0",
    "DISCONNECT, all": b"\xef\0",
    "AUTH": b"\xf1\0",
    "PUBLISH, QoS 3": M.publish(b"x", b"", qos=3, packet_id=1),
    "reserved 0": b"\0\0",
}


@pytest.mark.parametrize("sent", WRONG_FLAGS.values(), ids=WRONG_FLAGS)
def test_flags_that_may_not_be_are_malformed(log_in: Any, sent: bytes) -> None:
    """[MQTT-2.1.3-1] [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
    [MQTT-4.13.1-1] DISCONNECT 0x81, and the end.
    """
    client = log_in()
    client.send(sent)
    told(client, MALFORMED)


def test_the_flags_of_what_the_server_sends(dial: Any, common: Login) -> None:
    """[MQTT-2.1.3-1] [MQTT-3.2.2-1] As the standard lists them; those of CONNACK are 0."""
    client, into = dial(), common.topic("c2s")
    asked = {
        0x20: M.connect(common),
        0x90: M.subscribe(1, (common.topic("s2c"), 1)),
        0x40: M.publish(into, b"", qos=1, packet_id=1),
        0x50: M.publish(into, b"", qos=2, packet_id=2),
        0x70: packet(0x62, u16(2)),
        0xB0: M.unsubscribe(3, common.topic("s2c")),
        0xD0: PINGREQ,
        0xE0: b"\xc1\0",
    }
    for first, sent in asked.items():
        said = client.ask(sent)
        assert said.first == first
        assert first != 0x20 or said.body[0] == 0


@pytest.mark.parametrize("sent", [
    M.subscribe(0, (b"x", 0)), M.unsubscribe(0, b"x"),
    M.publish(b"x", b"", qos=1, packet_id=0), M.publish(b"x", b"", qos=2, packet_id=0),
])  # fmt: skip
def test_a_packet_identifier_of_zero_is_malformed(log_in: Any, sent: bytes) -> None:
    """[MQTT-2.2.1-3] There is none."""
    client = log_in()
    client.send(sent)
    told(client, MALFORMED)


def test_identifiers_of_the_server_are_unused_and_not_zero(log_in: Any, common: Login) -> None:
    """[MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.2-2] Nothing is acknowledged, and each PUBLISH has one of its own."""
    client = log_in().hear(common.topic("s2c"))
    answers = greet(client, common, 10)
    identifiers = [each.packet_id for each in answers]
    assert len(set(identifiers)) == 20 and 0 not in identifiers
    assert {(each.qos, each.dup) for each in answers} == {(1, False)}
    assert client.silent()


def test_a_publish_with_qos_0_has_no_identifier_and_one_without_properties_says_so(
    log_in: Any, one: SimpleNamespace
) -> None:
    """[MQTT-2.2.1-2] [MQTT-2.2.2-1] [MQTT-3.3.1-2] [MQTT-4.3.1-1] Neither ours nor, read by us, a client's."""
    listener = one.listener.hear(one.status, 0)
    device = log_in(one.login, "device")
    device.send(M.publish(one.status, b"online"))
    said = listener.receive()
    assert (said.first, said.body) == (0x30, text(one.status) + b"\0online")
    assert device.ask(M.unsubscribe(1, one.status)).raw == packet(0xB0, u16(1), b"\0\x11")


def test_acknowledgements_have_the_identifier_of_what_they_answer(log_in: Any, common: Login) -> None:
    """[MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.3.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-5] And QoS 0 has no answer."""
    client, into = log_in(), common.topic("c2s")
    client.send(M.publish(into, b""))
    assert client.ask(M.publish(into, b"", qos=1, packet_id=4711)).raw == packet(0x40, u16(4711))
    assert client.ask(M.publish(into, b"", qos=2, packet_id=65_535)).raw == packet(0x50, u16(65_535))
    assert client.ask(packet(0x62, u16(65_535))).raw == packet(0x70, u16(65_535))
    assert client.ask(M.subscribe(258, (common.topic("s2c"), 0))).packet_id == 258
    assert client.ask(M.unsubscribe(259, common.topic("s2c"))).packet_id == 259


# -- 3.1 CONNECT --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [PINGREQ, DISCONNECT, M.publish(b"x", b""), b"\xf0\0", packet(0x20, b"\0\0\0")])
def test_the_first_packet_is_a_connect_and_before_it_there_is_no_disconnect(dial: Any, first: bytes) -> None:
    """[MQTT-3.1.0-1] [MQTT-3.14.0-1] Any other closes the connection."""
    client = dial()
    client.send(first)
    assert client.closed()


def test_a_second_connect_is_a_protocol_error(log_in: Any, common: Login) -> None:
    """[MQTT-3.1.0-2] [MQTT-3.2.0-2] And has no second CONNACK."""
    client = log_in()
    client.send(M.connect(common))
    told(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("name", ["", "mqtt", "MQTTS", "HTTP"])
def test_another_protocol_is_not_served(dial: Any, common: Login, name: str) -> None:
    """[MQTT-3.1.2-1] It is closed."""
    client = dial()
    client.send(M.connect(common, name=name))
    assert client.closed()


@pytest.mark.parametrize("level", [6, 7, 0x7F])
def test_a_later_version_is_told_so(dial: Any, common: Login, level: int) -> None:
    """[MQTT-3.1.2-2] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-4.13.2-1] CONNACK 0x84, then the end."""
    refused(dial(), M.connect(common, level=level), 0x84)


BAD_CONNECTS = {
    "reserved flag": lambda login: M.connect(login, "x", flags=0xC3),
    "will flag without will": lambda login: M.connect(login, "x", flags=0xC6),
    "will QoS without will": lambda login: M.connect(login, "x", flags=0xCA),
    "will retain without will": lambda login: M.connect(login, "x", flags=0xE2),
    "will without will flag": lambda login: M.connect(login, "x", will=Will(b"t"), flags=0xC2),
    "will QoS 3": lambda login: M.connect(login, "x", will=Will(login.topic("status"), qos=3)),
    "user name without its flag": lambda login: M.connect(login, "x", flags=0x02),
    "no user name": lambda login: packet(0x10, text("MQTT"), b"\5\xc2\0\0\0", text("x")),
    "no password": lambda login: packet(0x10, text("MQTT"), b"\5\xc2\0\0\0", text("x"), text(login.username)),
    "password without its flag": lambda login: M.connect(login, "x", flags=0x82),
    "no client id": lambda login: packet(0x10, text("MQTT"), b"\5\2\0\0\0"),
    "no properties": lambda login: packet(0x10, text("MQTT"), b"\5\2\0\0"),
    "a property of another packet": lambda login: M.connect(login, "x", properties=b"\x23" + u16(1)),
    "one byte too many": lambda login: M.connect(login, "x", tail=b"\0"),
}


@pytest.mark.parametrize("make", BAD_CONNECTS.values(), ids=BAD_CONNECTS)
def test_a_connect_that_does_not_conform_is_malformed(dial: Any, common: Login, make: Any) -> None:
    """[MQTT-3.1.4-1] [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.2-16]
    [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.2.2-6] [MQTT-3.2.2-7]
    """
    refused(dial(), make(common), MALFORMED)


@pytest.mark.parametrize("properties", [
    session_expiry(0) * 2, receive_maximum(0), packet_size(0), b"\x19\2", b"\x17\2", b"\x16" + text("data"),
])  # fmt: skip
def test_a_connect_with_values_that_may_not_be_is_a_protocol_error(dial: Any, common: Login, properties: bytes) -> None:
    """[MQTT-3.1.4-1] [MQTT-4.13.1-1] Also a property that is there twice."""
    refused(dial(), M.connect(common, properties=properties), PROTOCOL_ERROR)


@pytest.mark.parametrize("clean", [True, False])
def test_every_session_is_new(log_in: Any, common: Login, clean: bool) -> None:
    """[MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-4.1.0-1] [MQTT-4.1.0-2] While connected, and no longer."""
    client = log_in(client_id="again", clean=clean).hear(common.topic("s2c"), 0)
    greet(client, common)
    greet(client, common)
    client.send(DISCONNECT)
    assert client.closed()
    again = log_in(client_id="again", clean=clean)
    again.send(M.publish(common.topic("c2s"), HELLO))
    assert again.silent()


def test_nothing_is_stored_for_who_is_away(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-5] [MQTT-4.4.0-1] [MQTT-3.3.1-1] Nor sent again to who comes back, asked for or not."""
    kept = {"clean": False, "properties": session_expiry(3600)}
    away = log_in(one.login, "away", **kept).hear(one.status)
    device = log_in(one.login, "device")
    say_status(device, one.login, b"online", packet_id=1)
    hears(away, b"online")  # and does not acknowledge it
    away.send(DISCONNECT)
    assert away.closed()
    say_status(device, one.login, b"offline", packet_id=2)
    assert log_in(one.login, "away", **kept).silent()


def test_properties_of_a_message_are_read_and_go_no_further(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.2-4] [MQTT-3.3.2-5] [MQTT-3.3.2-6] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    [MQTT-3.3.2-20] [MQTT-3.1.3-10] A status is told in the server's own PUBLISH; a will's, too.
    """
    said = b"\1\1" + b"\2" + u32(60) + b"\3" + text("text/plain") + b"\x08" + text("answers") + b"\x09" + text("42")
    said += user_property("b", "2") + user_property("a", "1")
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device", will=Will(one.status, properties=said))
    say_status(device, one.login, b"online", properties=said)
    assert hears(listener, b"online").properties == {}
    device.close()
    assert hears(listener, b"offline").properties == {}


def test_a_session_that_shall_outlive_its_connection_is_told_that_it_does_not(dial: Any, common: Login) -> None:
    """[MQTT-3.1.2-23] The Session Expiry Interval in force is the 0 of the CONNACK."""
    for _ in range(2):
        client = dial()
        said = client.ask(M.connect(common, "kept", clean=False, properties=session_expiry(3600)))
        assert (said.body[0], said.code, said.properties[0x11]) == (0, 0, 0)
        client.hear(common.topic("s2c"))


@pytest.mark.parametrize("properties", [b"", b"\x18" + u32(3600)], ids=["no delay", "an hour"])
def test_a_will_is_published_once_when_the_connection_breaks(
    log_in: Any, one: SimpleNamespace, properties: bytes
) -> None:
    """[MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-15] [MQTT-3.1.3-9] At once: the session ends with the
    connection, and that is no later than any delay.
    """
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device", will=Will(one.status, properties=properties))
    assert listener.silent()
    device.close()
    assert not hears(listener, b"offline").retain
    assert listener.silent()
    assert hears(log_in(one.login, "late").hear(one.status), b"offline").retain


def test_the_last_status_is_kept_whatever_its_flag(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-14] [MQTT-3.3.1-8] A status is a state: also that of a will, or of a PUBLISH without RETAIN."""
    device = log_in(one.login, "device", will=Will(one.status, retain=False))
    say_status(device, one.login, b"online")
    assert hears(one.listener.hear(one.status), b"online").retain
    device.close()
    assert not hears(one.listener, b"offline").retain
    assert hears(log_in(one.login, "late").hear(one.status), b"offline").retain


def test_a_normal_disconnect_discards_the_will(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.14.4-3] [MQTT-3.1.2-10] Reason code 0, said or left out."""
    listener = one.listener.hear(one.status)
    for goodbye in (DISCONNECT, packet(0xE0, b"\0"), packet(0xE0, b"\0\0")):
        device = log_in(one.login, "device", will=Will(one.status))
        device.send(goodbye)
        assert device.closed()
    assert listener.silent()


def test_a_disconnect_with_will_message_publishes_it(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-8] Reason code 4."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device", will=Will(one.status))
    device.send(packet(0xE0, b"\4"))
    hears(listener, b"offline")


def test_a_silent_client_is_dropped_after_one_and_a_half_keep_alive_periods(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-22] [MQTT-3.2.2-22] Of the keep alive that it asked for; and told so."""
    listener = one.listener.hear(one.status)
    began = monotonic()
    device = log_in(one.login, "device", keepalive=1, will=Will(one.status))
    told(device, 0x8D)
    assert monotonic() - began > 1.4
    hears(listener, b"offline")


def test_the_keep_alive_is_told_only_where_it_is_another(dial: Any, common: Login) -> None:
    """[MQTT-3.2.2-22] [MQTT-3.1.2-21] Server Keep Alive, for who asks for none or for too much."""
    for asked, answered in ((0, 1200), (1200, None), (5, None), (1201, 1200), (65_535, 1200)):
        said = dial().ask(M.connect(common, keepalive=asked))
        assert said.properties.get(0x13) == answered


def test_no_packet_is_larger_than_the_client_takes(log_in: Any, common: Login) -> None:
    """[MQTT-3.1.2-24] [MQTT-3.1.2-25] What the hub says is not sent, and the session that lacks it is over: 0x95."""
    client = log_in(properties=packet_size(128)).hear(common.topic("s2c"))
    client.send(M.publish(common.topic("c2s"), HELLO))
    told(client, TOO_LARGE)
    whole = log_in(properties=packet_size(100_000)).hear(common.topic("s2c"))
    greet(whole, common)


def test_no_topic_alias_is_sent(log_in: Any, common: Login) -> None:
    """[MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-8] [MQTT-3.3.2-11] Whatever the client would take."""
    for properties in (b"", b"\x22" + u16(10)):
        client = log_in(properties=properties).hear(common.topic("s2c"))
        for said in greet(client, common, 2):
            assert said.topic == common.topic("s2c") and said.properties == {}


def test_no_response_information_is_sent(dial: Any, common: Login) -> None:
    """[MQTT-3.1.2-28] Asked for or not."""
    for wanted in (0, 1):
        assert 0x1A not in dial().ask(M.connect(common, properties=bytes([0x19, wanted]))).properties


@pytest.mark.parametrize("wanted", [0, 1])
def test_reasons_are_not_explained_to_who_wants_no_problem_information(log_in: Any, common: Login, wanted: int) -> None:
    """[MQTT-3.1.2-29] Nor are there user properties for anybody."""
    client, into = log_in(properties=bytes([0x17, wanted])), common.topic("c2s")
    asked = [
        M.subscribe(1, (b"#", 0)),
        M.publish(b"x", b"", qos=1, packet_id=1),
        M.publish(b"x", b"", qos=2, packet_id=2),
        M.publish(into, b"", qos=2, packet_id=3, retain=True),
    ]
    for sent in asked:
        said = client.ask(sent)
        assert (REASON_STRING in said.properties) is bool(wanted)
        assert USER_PROPERTY not in said.properties
    for sent in (packet(0x62, u16(9)), M.unsubscribe(2, b"#")):
        assert client.ask(sent).properties == {}


def test_a_client_id_names_the_session(log_in: Any, common: Login, one: SimpleNamespace) -> None:
    """[MQTT-3.1.3-2] [MQTT-3.1.4-3] The same again ends the older connection, with 0x8E; another one, or another
    client's, does not.
    """
    first, other, stranger = log_in(client_id="same"), log_in(client_id="other"), log_in(one.login, "same")
    second = log_in(client_id="same")
    told(first, 0x8E)
    assert second.silent() and other.silent() and stranger.silent()


@pytest.mark.parametrize("client_id", ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"])
def test_short_client_ids_of_letters_and_digits_are_allowed(log_in: Any, client_id: str) -> None:
    """[MQTT-3.1.3-5] 1 to 23 of them."""
    assert log_in(client_id=client_id).silent()


@pytest.mark.parametrize("clean", [True, False])
def test_a_client_without_id_is_told_the_one_it_was_given(dial: Any, common: Login, clean: bool) -> None:
    """[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] As if it had brought it: whoever comes with it takes over."""
    first, second, third = dial(), dial(), dial()
    given = [client.ask(M.connect(common, clean=clean)).properties[0x12] for client in (first, second)]
    assert given[0] != given[1]
    assert 0x12 not in third.ask(M.connect(common, given[0])).properties
    told(first, 0x8E)
    assert second.silent() and third.silent()


@pytest.mark.parametrize("client_id", ["x" * 129, "line\nbreak"])
def test_a_client_id_that_will_not_do_is_refused(dial: Any, common: Login, client_id: str) -> None:
    """[MQTT-3.1.3-8] [MQTT-3.2.2-7] CONNACK 0x85, then the end."""
    refused(dial(), M.connect(common, client_id), 0x85)


def test_who_fails_a_check_is_refused_and_not_read_any_more(dial: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT-4.13.2-1] Wrong password, a will
    that is none of its own.
    """
    listener = one.listener.hear(one.status)
    will = Will(one.status)
    wrong = M.connect(one.login, "device", password=b"wrong", will=will)
    elsewhere = M.connect(one.login, "device", will=Will(b"elsewhere"))
    empty = M.connect(one.login, "device", password=b"", will=will)
    for sent, code in ((wrong, 0x86), (elsewhere, NOT_AUTHORIZED), (empty, 0x86)):
        refused(dial(), sent + M.publish(one.status, b"online") + PINGREQ, code)
    assert listener.silent()


# -- 3.2 CONNACK --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_the_first_packet_of_the_server_is_connack_without_a_session(dial: Any, common: Login, clean: bool) -> None:
    """[MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] No session is ever stored."""
    for _ in range(2):
        client = dial()
        said = client.ask(M.connect(common, "known", clean=clean), PINGREQ)
        assert (said.kind, said.body[:2]) == ("CONNACK", b"\0\0")
        assert client.receive().raw == PINGRESP


def test_the_connack_says_what_is_not_offered(dial: Any, common: Login) -> None:
    """[MQTT-3.2.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-3.3.2-12] [MQTT-4.12.0-6] No topic alias, no limit of QoS,
    no authentication method; and it says that wildcards, subscription identifiers and shared ones are not offered.
    """
    found = dial().ask(M.connect(common, "x", keepalive=60)).properties
    assert found == {0x21: 1000, 0x27: 262_144, 0x28: 0, 0x29: 0, 0x2A: 0}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_qos_may_be_asked_for_and_be_a_wills(log_in: Any, one: SimpleNamespace, qos: int) -> None:
    """[MQTT-3.2.2-10] [MQTT-3.2.2-12] [MQTT-3.2.2-13] Retained or not; granted is QoS 1 at most."""
    client = log_in(one.login, "x", will=Will(one.status, qos=qos, retain=bool(qos)))
    assert client.ask(M.subscribe(1, (one.login.topic("s2c"), qos))).codes == bytes([min(qos, 1)])


def test_a_connack_does_not_explain_beyond_what_the_client_takes(dial: Any, common: Login) -> None:
    """[MQTT-3.2.2-19] [MQTT-3.2.2-20] Else it does; user properties it has none."""
    sizes = []
    for most in (20, 127):
        said = refused(dial(), M.connect(common, properties=packet_size(most)), TOO_LARGE)
        assert len(said.raw) <= most and USER_PROPERTY not in said.properties
        sizes.append(REASON_STRING in said.properties)
    assert sizes == [False, True]


# -- 3.3 PUBLISH --------------------------------------------------------------------------------------------------


def test_dup_with_qos_0_is_malformed(log_in: Any, common: Login) -> None:
    """[MQTT-3.3.1-2] There is nothing to send again."""
    client = log_in()
    client.send(M.publish(common.topic("c2s"), b"", dup=True))
    told(client, MALFORMED)


def test_dup_is_not_passed_on(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-3] What is sent for the first time has DUP 0."""
    listener = one.listener.hear(one.status)
    say_status(log_in(one.login, "device"), one.login, b"online", dup=True)
    said = hears(listener, b"online")
    assert (said.qos, said.dup) == (1, False)


def test_the_last_retained_message_is_kept(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-5] Whatever its QoS."""
    device = log_in(one.login, "device")
    say_status(device, one.login, b"online", retain=True)
    device.send(M.publish(one.status, b"offline", retain=True))
    assert device.silent()
    assert hears(one.listener.hear(one.status), b"offline").retain


def test_nothing_empty_is_kept(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-7] [MQTT-3.3.1-6] An empty status is denied, 0x99, and what was there stays."""
    device = log_in(one.login, "device")
    say_status(device, one.login, b"offline", retain=True)
    assert device.ask(M.publish(one.status, b"", qos=1, packet_id=2, retain=True)).code == 0x99
    assert hears(one.listener.hear(one.status), b"offline").retain


def test_retain_handling_says_when_retained_messages_come(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4] Always, for a new subscription only, or never."""
    say_status(log_in(one.login, "device"), one.login, b"online", retain=True)
    always = one.listener
    for _ in range(2):
        assert hears(always.hear(one.status), b"online").retain
    new = log_in(one.login, "new").hear(one.status, 1 | ONLY_WHEN_NEW)
    assert hears(new, b"online").retain
    assert new.hear(one.status, 1 | ONLY_WHEN_NEW).silent()
    never = log_in(one.login, "never").hear(one.status, 1 | NEVER)
    assert never.silent()


def test_retain_as_published_decides_over_the_flag(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-12] [MQTT-3.3.1-13] Without it there is none, whatever it was published with."""
    plain, exact = one.listener.hear(one.status), log_in(one.login, "exact").hear(one.status, 1 | AS_PUBLISHED)
    device = log_in(one.login, "device")
    for number, (payload, retain) in enumerate(((b"online", True), (b"offline", False), (b"online", True)), 1):
        say_status(device, one.login, payload, packet_id=number, retain=retain)
        assert not hears(plain, payload).retain
        assert hears(exact, payload).retain is retain


@pytest.mark.parametrize("topic", [b"#", b"+", b"hubs/+/clients", b"hubs/#", b"hubs/x#"])
def test_a_topic_with_a_wildcard_is_malformed(log_in: Any, common: Login, topic: bytes) -> None:
    """[MQTT-3.3.2-2] [MQTT-3.3.2-14] [MQTT-4.7.0-1] As a topic, and as a response topic."""
    for sent in (M.publish(topic, b""), M.publish(common.topic("c2s"), b"", properties=b"\x08" + text(topic))):
        client = log_in()
        client.send(sent)
        told(client, MALFORMED)


def test_a_publish_of_the_server_has_the_topic_that_was_subscribed_to_first(log_in: Any, common: Login) -> None:
    """[MQTT-3.3.2-1] [MQTT-3.3.2-3] Whichever spelling it was."""
    for into, out in (("c2s", "s2c"), ("in", "out")):
        client = log_in().hear(common.topic(out))
        client.send(M.publish(common.topic(into), HELLO))
        for _ in range(2):
            said = client.receive()
            assert said.body.startswith(text(common.topic(out)) + u16(said.packet_id) + b"\0{")


@pytest.mark.parametrize("alias", [1, 7, 65_535])
def test_a_topic_alias_is_refused(log_in: Any, common: Login, alias: int) -> None:
    """[MQTT-3.3.2-9] [MQTT-3.3.2-17] [MQTT-3.3.2-7] None was offered."""
    client = log_in()
    client.send(M.publish(common.topic("c2s"), b"", properties=b"\x23" + u16(alias)))
    told(client, 0x94)


@pytest.mark.parametrize("properties", [b"\x23\0\0", b"\x0b\1", b"\1\2", b"\1\0\1\0"])
def test_properties_that_may_not_be_are_a_protocol_error(log_in: Any, common: Login, properties: bytes) -> None:
    """[MQTT-3.3.2-8] [MQTT-3.3.4-6] Alias 0, a subscription identifier, a format that is none, one twice."""
    client = log_in()
    client.send(M.publish(common.topic("c2s"), b"", properties=properties))
    assert client.receive().code in {PROTOCOL_ERROR, 0x94} and client.closed()


@pytest.mark.parametrize(("asked", "granted"), [(0, 0), (1, 1), (2, 1)])
def test_a_message_comes_with_the_qos_that_was_granted(log_in: Any, common: Login, asked: int, granted: int) -> None:
    """[MQTT-3.3.4-2] [MQTT-3.8.4-7] [MQTT-3.8.4-8] [MQTT-4.3.3-1] The server's own have QoS 1."""
    client = log_in()
    assert client.ask(M.subscribe(1, (common.topic("s2c"), asked))).codes == bytes([granted])
    assert {each.qos for each in greet(client, common)} == {granted}


def test_no_more_is_sent_unacknowledged_than_the_client_takes(log_in: Any, common: Login) -> None:
    """[MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.3.2-3] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3] Receive Maximum; all
    else goes on meanwhile.
    """
    client = log_in(properties=receive_maximum(3)).hear(common.topic("s2c"))
    client.send(*[M.publish(common.topic("c2s"), HELLO) for _ in range(3)])
    first = [client.receive() for _ in range(3)]
    assert client.silent()
    assert client.ask(M.subscribe(5, (common.topic("out"), 0))).kind == "SUBACK"
    assert client.ask(M.publish(common.topic("c2s"), b"", qos=1, packet_id=6)).kind == "PUBACK"
    for said in first:
        assert client.ask(packet(0x40, u16(said.packet_id))).kind == "PUBLISH"
        assert client.silent()


@pytest.mark.parametrize("code", [0x80, 0x87, 0x97])
def test_a_message_that_the_client_refuses_is_acknowledged_all_the_same(log_in: Any, common: Login, code: int) -> None:
    """[MQTT-4.4.0-2] And not sent again: the next one takes its place."""
    client = log_in(properties=receive_maximum(1)).hear(common.topic("s2c"))
    client.send(M.publish(common.topic("c2s"), HELLO))
    said = client.receive()
    following = client.ask(packet(0x40, u16(said.packet_id), bytes([code])))
    assert following.payload != said.payload and not following.dup
    client.send(packet(0x40, u16(following.packet_id)))
    assert client.silent()


# -- 3.4 PUBACK, 3.5 PUBREC, 3.7 PUBCOMP --------------------------------------------------------------------------


@pytest.mark.parametrize(("qos", "kind"), [(1, "PUBACK"), (2, "PUBREC")])
def test_a_denied_publish_is_told_so_and_the_connection_stands(log_in: Any, common: Login, qos: int, kind: str) -> None:
    """[MQTT-3.4.2-1] [MQTT-3.5.2-1] Not its own topic, a retained message for the hub, a status that is none."""
    client = log_in()
    denied = (
        (b"elsewhere", b"x", False, 0x87),
        (common.topic("s2c"), b"x", False, 0x87),
        (common.topic("c2s"), b"x", True, 0x87),
        (common.topic("status"), b"perhaps", False, 0x99),
    )
    for topic, payload, retain, code in denied:
        said = client.ask(M.publish(topic, payload, qos=qos, packet_id=8, retain=retain))
        assert (said.kind, said.packet_id, said.code) == (kind, 8, code)
        assert REASON_STRING in said.properties and USER_PROPERTY not in said.properties
    assert client.silent()


def test_a_denied_publish_with_qos_0_ends_the_connection(log_in: Any) -> None:
    """[MQTT-4.13.2-1] [MQTT-3.14.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2] There is no answer to say it in."""
    client = log_in()
    client.send(M.publish(b"elsewhere", b"x") + PINGREQ)
    told(client, NOT_AUTHORIZED)


def test_an_acknowledgement_does_not_explain_beyond_what_the_client_takes(log_in: Any, common: Login) -> None:
    """[MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1]
    [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] The code alone; user properties there are none.
    """
    client = log_in(properties=packet_size(128))
    codes = b"\xa2" * 60
    asked = [
        (M.publish(b"elsewhere", b"", qos=1, packet_id=1), "PUBACK"),
        (M.publish(b"elsewhere", b"", qos=2, packet_id=1), "PUBREC"),
        (packet(0x62, u16(1)), "PUBCOMP"),
        (M.subscribe(1, *[(b"#", 0)] * 60), "SUBACK"),
        (M.unsubscribe(1, *[b"#"] * 60), "UNSUBACK"),
    ]
    for sent, kind in asked:
        said = client.ask(sent)
        assert said.kind == kind and len(said.raw) <= 128 and USER_PROPERTY not in said.properties
        assert kind != "SUBACK" or (said.codes, said.properties) == (codes, {})


def test_an_answer_that_does_not_fit_at_all_ends_the_connection(log_in: Any, common: Login) -> None:
    """[MQTT-3.1.2-24] A SUBACK of two hundred codes, for who takes 128 bytes."""
    client = log_in(properties=packet_size(128))
    client.send(M.subscribe(1, *[(b"#", 0)] * 200))
    said = told(client, TOO_LARGE)
    assert len(said.raw) <= 128


def test_pubcomp_says_whether_the_identifier_was_known(log_in: Any, common: Login) -> None:
    """[MQTT-3.7.2-1] 0x92 when it was not."""
    client = log_in()
    assert client.ask(packet(0x62, u16(9))).raw == packet(0x70, u16(9), b"\x92")
    client.ask(M.publish(common.topic("c2s"), b"", qos=2, packet_id=9))
    assert client.ask(packet(0x62, u16(9))).raw == packet(0x70, u16(9))


# -- 3.8 SUBSCRIBE, 3.9 SUBACK ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "code"), [
    (0x40, MALFORMED), (0x80, MALFORMED), (0xC1, MALFORMED), (3, PROTOCOL_ERROR), (0x30, PROTOCOL_ERROR),
])  # fmt: skip
def test_reserved_subscription_options_end_the_connection(log_in: Any, common: Login, options: int, code: int) -> None:
    """[MQTT-3.8.3-5] Reserved bits are malformed, QoS 3 and retain handling 3 a protocol error."""
    client = log_in()
    client.send(M.subscribe(1, (common.topic("s2c"), options)))
    told(client, code)


@pytest.mark.parametrize("sent", [M.subscribe(1), M.unsubscribe(1)])
def test_no_filter_is_a_protocol_error(log_in: Any, sent: bytes) -> None:
    """[MQTT-3.8.3-2] [MQTT-3.10.3-2] There must be one."""
    client = log_in()
    client.send(sent)
    told(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("sent", [M.subscribe(1, (b"", 0)), M.unsubscribe(1, b""), M.publish(b"", b"")])
def test_an_empty_topic_ends_the_connection(log_in: Any, sent: bytes) -> None:
    """[MQTT-4.7.3-1] At least one character."""
    client = log_in()
    client.send(sent)
    assert client.receive().code in {MALFORMED, PROTOCOL_ERROR} and client.closed()


def test_no_local_keeps_a_clients_own_messages_from_it(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.8.3-3] Others hear them, and it hears others'."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device").hear(one.status, 1 | NO_LOCAL)
    say_status(device, one.login, b"online")
    hears(listener, b"online")
    assert device.silent()
    say_status(device, one.login, b"offline", packet_id=2)
    hears(listener, b"offline")
    say_status(log_in(one.login, "other"), one.login, b"online")
    hears(device, b"online")


def test_no_local_on_a_shared_subscription_is_a_protocol_error(log_in: Any, common: Login) -> None:
    """[MQTT-3.8.3-4] Though none would be granted."""
    client = log_in()
    client.send(M.subscribe(1, (b"$share/g/" + common.topic("s2c"), 1 | NO_LOCAL)))
    told(client, PROTOCOL_ERROR)


def test_a_subscription_identifier_is_refused(log_in: Any, common: Login) -> None:
    """[MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5] They are not offered: 0xA1."""
    client = log_in()
    client.send(M.subscribe(1, (common.topic("s2c"), 0), properties=b"\x0b\1"))
    told(client, 0xA1)


def test_many_filters_have_one_answer_with_a_code_for_each_in_order(log_in: Any, common: Login) -> None:
    """[MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] Granted, or why not."""
    client, own = log_in(), common.topic("s2c")
    wanted = {
        own: (1, 1),
        common.topic("c2s"): (1, 0x8F),
        common.topic("out"): (2, 1),
        b"somebody/else": (0, 0x87),
        common.prefix.encode() + b"/#": (0, 0xA2),
        b"$share/g/" + own: (1, 0x9E),
    }
    said = client.ask(M.subscribe(5, *[(each, options) for each, (options, _) in wanted.items()]))
    assert (said.packet_id, said.codes) == (5, bytes(code for _, code in wanted.values()))
    greet(client, common)


def test_filters_with_wildcards_or_groups_are_refused(log_in: Any, common: Login) -> None:
    """[MQTT-4.7.2-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2] However they are written."""
    client, own = log_in(), common.topic("s2c")
    wild = (b"#", b"+/+", b"$SYS/#", b"a#", b"a+", b"+", common.prefix.encode() + b"/+")
    assert client.ask(M.subscribe(1, *[(each, 1) for each in wild])).codes == b"\xa2" * len(wild)
    shared = (b"$share/g/" + own, b"$share//" + own, b"$share/g+/" + own, b"$share/g", b"$share/")
    assert all(code >= 0x80 for code in client.ask(M.subscribe(2, *[(each, 1) for each in shared])).codes)
    client.send(M.publish(common.topic("c2s"), HELLO))
    assert client.silent()


def test_the_same_filter_again_replaces_the_subscription(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.8.4-3] [MQTT-3.8.4-4] What is retained comes again, and each further message once, with the new QoS."""
    device = log_in(one.login, "device")
    say_status(device, one.login, b"online", packet_id=1)
    listener = one.listener.hear(one.status, 0)
    assert hears(listener, b"online").qos == 0
    listener.hear(one.status, 1)
    again = hears(listener, b"online")
    assert again.retain and again.qos == 1
    say_status(device, one.login, b"offline", packet_id=2)
    assert hears(listener, b"offline").qos == 1
    assert listener.silent()


# -- 3.10 UNSUBSCRIBE, 3.11 UNSUBACK ------------------------------------------------------------------------------


def test_a_filter_is_deleted_only_by_the_very_same(log_in: Any, common: Login) -> None:
    """[MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-4.7.3-4] There is always an UNSUBACK."""
    client, topic = log_in().hear(common.topic("s2c"), 0), common.topic("s2c")
    for other in (topic.upper(), topic + b"/", topic[:-1], b"#", "\ufeff".encode() + topic):
        assert client.ask(M.unsubscribe(3, other)).codes == b"\x11"
    greet(client, common)
    assert client.ask(M.unsubscribe(4, topic)).codes == b"\0"
    client.send(M.publish(common.topic("c2s"), HELLO))
    assert client.silent()
    assert client.ask(M.unsubscribe(5, topic)).codes == b"\x11"


def test_many_filters_are_deleted_with_one_answer(log_in: Any, common: Login) -> None:
    """[MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] With a code for each, in order."""
    client = log_in().hear(common.topic("s2c")).hear(common.topic("out"))
    said = client.ask(M.unsubscribe(9, common.topic("s2c"), b"never/had", common.topic("out"), common.topic("s2c")))
    assert (said.kind, said.packet_id, said.codes) == ("UNSUBACK", 9, b"\0\x11\0\x11")
    client.send(M.publish(common.topic("c2s"), HELLO), M.publish(common.topic("in"), HELLO))
    assert client.silent()


def test_what_is_under_way_when_its_filter_is_deleted_is_completed(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.10.4-3] It comes before the UNSUBACK, and its acknowledgement is taken."""
    listener = one.listener.hear(one.status)
    say_status(log_in(one.login, "device"), one.login, b"online")
    said = hears(listener, b"online")
    assert listener.ask(M.unsubscribe(1, one.status)).kind == "UNSUBACK"
    listener.send(packet(0x40, u16(said.packet_id)))
    assert listener.silent()


# -- 3.12 PINGREQ, 3.14 DISCONNECT, 3.15 AUTH ---------------------------------------------------------------------


def test_a_ping_is_answered(log_in: Any) -> None:
    """[MQTT-3.12.4-1] Each one."""
    client = log_in()
    client.send(PINGREQ * 3)
    assert [client.receive().raw for _ in range(3)] == [PINGRESP] * 3


def test_a_disconnect_of_the_server_is_its_last_word(log_in: Any, common: Login) -> None:
    """[MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.2-1] With a code and a reason, and
    without a Session Expiry Interval.
    """
    client = log_in(properties=session_expiry(60))
    client.send(M.connect(common) + PINGREQ * 5)
    said = told(client, PROTOCOL_ERROR)
    assert set(said.properties) == {REASON_STRING}


ENDINGS = {
    "a second CONNECT": (M.connect(None), PROTOCOL_ERROR),
    "rubbish": (b"\0\0", MALFORMED),
    "a denied PUBLISH": (M.publish(b"elsewhere", b"x"), NOT_AUTHORIZED),
    "a topic alias": (M.publish(b"x", b"x", properties=b"\x23" + u16(1)), 0x94),
    "a subscription identifier": (M.subscribe(1, (b"x", 0), properties=b"\x0b\1"), 0xA1),
    "an answer that is too large": (M.subscribe(1, *[(b"x", 0)] * 200), TOO_LARGE),
    "too large a packet": (b"\x30\x80\x80\x80\x01", TOO_LARGE),
}


@pytest.mark.parametrize(("sent", "code"), ENDINGS.values(), ids=ENDINGS)
def test_a_disconnect_does_not_explain_beyond_what_the_client_takes(log_in: Any, sent: bytes, code: int) -> None:
    """[MQTT-3.14.2-3] [MQTT-3.14.2-4] 128 bytes are the least that a client may ask for."""
    client = log_in(properties=packet_size(128))
    client.send(sent)
    said = told(client, code)
    assert len(said.raw) <= 128 and set(said.properties) <= {REASON_STRING}


def test_a_client_that_disconnects_is_closed_and_not_read_any_more(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.14.4-1] [MQTT-3.14.4-2] The server closes at the latest."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device")
    device.send(DISCONNECT, M.publish(one.status, b"online"))
    assert device.closed()
    assert listener.silent()


def test_another_authentication_than_the_password_is_refused(dial: Any, common: Login) -> None:
    """[MQTT-4.12.0-1] [MQTT-4.12.0-2] [MQTT-4.12.0-5] CONNACK 0x8C, and no AUTH."""
    method = b"\x15" + text("SCRAM-SHA-256")
    for properties in (method, method + b"\x16" + text("data")):
        refused(dial(), M.connect(common, properties=properties), 0x8C)


@pytest.mark.parametrize("sent", [b"\xf0\0", packet(0xF0, b"\x18", b"\x04\x15" + text("x")), packet(0xF0, b"\x19\0")])
def test_an_auth_is_a_protocol_error(log_in: Any, sent: bytes) -> None:
    """[MQTT-4.12.0-7] [MQTT-4.12.0-6] [MQTT-4.12.1-1] No method was named in the CONNECT."""
    client = log_in()
    client.send(sent)
    told(client, PROTOCOL_ERROR)


# -- 4.3 Quality of service, 4.5 and 4.6 Delivery -----------------------------------------------------------------


def test_after_puback_the_identifier_is_free_for_a_new_message(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-4.3.2-4] [MQTT-4.3.2-5] Whatever its DUP flag."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device")
    for payload in (b"online", b"offline", b"online"):
        say_status(device, one.login, payload, packet_id=5, dup=True)
        hears(listener, payload)


@pytest.mark.parametrize("properties", [b"", b"\2" + u32(1)], ids=["", "that expires"])
def test_a_message_with_qos_2_is_delivered_once(log_in: Any, common: Login, properties: bytes) -> None:
    """[MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT-4.3.3-13] Until its PUBREL it is the same,
    after that a new one.
    """
    client = log_in().hear(common.topic("s2c"), 0)
    sent = [
        M.publish(common.topic("c2s"), HELLO, qos=2, packet_id=7, dup=dup, properties=properties)
        for dup in (False, True)
    ]
    pubrec, pubrel, pubcomp = (packet(first, u16(7)) for first in (0x50, 0x62, 0x70))
    for _ in range(2):
        assert client.ask(sent[0]).raw == pubrec
        assert [client.receive().kind for _ in range(2)] == ["PUBLISH"] * 2
        assert client.ask(sent[1]).raw == pubrec
        assert client.silent()
        assert client.ask(pubrel).raw == pubcomp


def test_after_a_refusing_pubrec_the_identifier_is_free_for_a_new_message(log_in: Any, common: Login) -> None:
    """[MQTT-4.3.3-9] No PUBREL is waited for."""
    client = log_in().hear(common.topic("s2c"), 0)
    assert client.ask(M.publish(b"elsewhere", b"", qos=2, packet_id=7)).code == NOT_AUTHORIZED
    assert client.ask(M.publish(common.topic("c2s"), HELLO, qos=2, packet_id=7)).raw == packet(0x50, u16(7))
    assert [client.receive().kind for _ in range(2)] == ["PUBLISH"] * 2


def test_every_subscription_hears_the_message(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-4.5.0-1] Also that of the client that published it."""
    listeners = [one.listener.hear(one.status), log_in(one.login, "second").hear(one.status)]
    device = log_in(one.login, "device").hear(one.status)
    device.send(M.publish(one.status, b"online"))
    for client in (*listeners, device):
        hears(client, b"online")


def test_messages_keep_their_order(log_in: Any, common: Login) -> None:
    """[MQTT-4.6.0-5] [MQTT-4.6.0-6] Acknowledged or not."""
    client = log_in().hear(common.topic("s2c"))
    answers = greet(client, common, 20)
    assert [b'"hello"' in each.payload for each in answers] == [True, False] * 20
    for each in reversed(answers):
        client.send(packet(0x40, u16(each.packet_id)))
    assert client.silent()


# -- 4.7 Topics, 4.13 Errors --------------------------------------------------------------------------------------


def test_the_longest_topic_is_read(log_in: Any) -> None:
    """[MQTT-4.7.3-3] Of 65,535 bytes; more cannot be said."""
    client = log_in()
    assert client.ask(M.subscribe(1, (b"x" * 65_535, 0))).codes == b"\x87"
    assert client.ask(M.unsubscribe(2, b"x" * 65_535)).codes == b"\x11"


def test_a_packet_over_the_maximum_packet_size_is_too_large(log_in: Any, common: Login) -> None:
    """[MQTT-3.2.2-15] [MQTT-4.13.1-1] Known from its head, and told so."""
    client = log_in()
    client.send(b"\x30" + b"\x80\x80\x80\x01")
    told(client, TOO_LARGE)


def test_more_than_the_receive_maximum_ends_the_connection(log_in: Any, common: Login) -> None:
    """[MQTT-3.3.4-7] PUBLISHes with QoS 2 that are not released: the thousand and first is one too many."""
    client = log_in()
    client.send(*[M.publish(common.topic("c2s"), b"", qos=2, packet_id=number) for number in range(1, 1002)])
    for number in range(1, 1001):
        assert client.receive().raw == packet(0x50, u16(number))
    told(client, 0x93)


# -- 4.2 Network connections, 6 WebSocket -------------------------------------------------------------------------


def test_any_cut_of_the_stream_is_the_same(dial: Any, common: Login) -> None:
    """[MQTT-4.2.0-1] TLS over TCP: an ordered stream of bytes, both ways."""
    client = dial()
    for byte in M.connect(common, "x" * 100) + PINGREQ:
        client.send(bytes([byte]))
    assert client.receive().kind == "CONNACK"
    assert client.receive().raw == PINGRESP


def test_a_websocket_carries_mqtt_in_binary_frames_and_closes_after_any_other(websocket: Any, common: Login) -> None:
    """[MQTT-6.0.0-1] Text ends it."""
    websocket.send(M.connect(common))
    assert websocket.receive(4)[0] == 0x20
    websocket.send_text("text")
    assert websocket.close_code() == 1003


def test_frames_of_a_websocket_are_no_packets(websocket: Any, common: Login) -> None:
    """[MQTT-6.0.0-2] One may hold a part of a packet, or many."""
    whole = M.connect(common)
    for byte in whole[:-1]:
        websocket.send(bytes([byte]))
    websocket.send(whole[-1:] + PINGREQ * 2 + PINGREQ[:1])
    websocket.send(PINGREQ[1:])
    said = websocket.receive(10)
    while not said.endswith(PINGRESP * 3):
        said += websocket.receive(1)
    assert said[0] == 0x20


def test_the_subprotocol_is_mqtt(websocket: Any) -> None:
    """[MQTT-6.0.0-4] [MQTT-6.0.0-3] And without it there is no WebSocket."""
    assert websocket.subprotocol == "mqtt"
