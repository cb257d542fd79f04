# SPDX-License-Identifier: Apache-2.0
"""MQTT 3.1.1, statement by statement: raw bytes over TLS to a real server, by the sections of the standard.

The identifiers at the head of a docstring are the statements that the test shows; `docs/mqtt-profile.md` is the table.
Those that bind the client are named where the server ends a connection that breaks them.
"""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from raw_mqtt import DISCONNECT, HELLO, PINGREQ, PINGRESP, Dialect, Login, Will, packet, text, u16

M = Dialect(4)
ILL_FORMED = {
    "surrogate": b"a\xed\xa0\x80",
    "another surrogate": b"\xed\xbf\xbf",
    "overlong": b"\xc0\xaf",
    "cut": b"\xe2\x82",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "no UTF-8": b"\xff",
}
MALFORMED, VIOLATION, DENIED = "mqtt_malformed_packet", "mqtt_protocol_violation", "denied_publish"
ACCEPTED = bytes.fromhex("20020000")


@pytest.fixture
def dialect() -> Dialect:
    return M


def say_status(client: Any, login: Login, payload: bytes, packet_id: int = 77, **fields: Any) -> None:
    """Publish a status with QoS 1, and see it acknowledged."""
    client.send(M.publish(login.topic("status"), payload, qos=1, packet_id=packet_id, **fields))
    while (said := client.receive()).kind != "PUBACK":
        assert said.kind == "PUBLISH"
    assert said.raw == packet(0x40, u16(packet_id))


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


# -- 1.5 Data representations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [*ILL_FORMED.values(), b"a\0b"], ids=[*ILL_FORMED, "U+0000"])
def test_text_that_is_none_closes_the_connection(dial: Any, log_in: Any, ended: Any, common: Login, bad: bytes) -> None:
    """[MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11] [MQTT-3.3.2-1] [MQTT-3.8.3-1]
    [MQTT-3.10.3-1] [MQTT-4.7.3-2] Ill-formed UTF-8 or U+0000, wherever a string is.
    """
    connects = [
        M.connect(common, bad),
        M.connect(Login(common.username, common.password, ""), "x", will=Will(common.topic("status") + bad)),
        packet(0x10, text("MQTT"), b"\4\xc2\0\0", text("x"), text(bad), text(common.password)),
    ]
    for sent in connects:
        client = dial()
        client.send(sent)
        assert client.closed()
    topic = common.topic("c2s") + bad
    for sent in (M.publish(topic, b""), M.subscribe(1, (topic, 0)), M.unsubscribe(1, topic)):
        client = log_in()
        client.send(sent)
        assert ended(client) == MALFORMED


def test_a_byte_order_mark_is_a_character_like_others(log_in: Any, common: Login) -> None:
    """[MQTT-1.5.3-3] It makes another client id, and another topic."""
    plain, marked = log_in(client_id="marked"), log_in(client_id="\ufeffmarked")
    assert plain.silent() and marked.silent()
    assert plain.ask(M.subscribe(1, ("\ufeff".encode() + common.topic("s2c"), 0))).codes == b"\x80"
    assert plain.ask(M.subscribe(1, (common.topic("s2c"), 0))).codes == b"\0"


# -- 2.2.2 Flags, 2.3.1 Packet identifier -------------------------------------------------------------------------

WRONG_FLAGS = {
    "CONNECT": packet(0x11, b"\0"),
    "PUBACK": packet(0x42, u16(1)),
    "PUBREL": packet(0x60, u16(1)),
    "SUBSCRIBE": M.subscribe(1, (b"x", 0), first=0x80),
    "SUBSCRIBE, dup": M.subscribe(1, (b"x", 0), first=0x8A),
    "UNSUBSCRIBE": M.unsubscribe(1, b"x", first=0xA0),
    "PINGREQ": b"\xc1\0",
    "DISCONNECT": b"\xe1\0",
    "DISCONNECT, all": b"\xef\0",
    "PUBLISH, QoS 3": M.publish(b"x", b"", qos=3, packet_id=1),
    "reserved 0": b"\0\0",
    "reserved 15": b"\xf0\0",
}


@pytest.mark.parametrize("sent", WRONG_FLAGS.values(), ids=WRONG_FLAGS)
def test_flags_that_may_not_be_close_the_connection(log_in: Any, ended: Any, sent: bytes) -> None:
    """[MQTT-2.2.2-2] [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] Each is malformed."""
    client = log_in()
    client.send(sent)
    assert ended(client) == MALFORMED


def test_the_flags_of_what_the_server_sends(dial: Any, common: Login) -> None:
    """[MQTT-2.2.2-1] As table 2.2 lists them."""
    client, into = dial(), common.topic("c2s")
    asked = {
        0x20: M.connect(common),
        0x90: M.subscribe(1, (common.topic("s2c"), 1)),
        0x40: M.publish(into, b"", qos=1, packet_id=1),
        0x50: M.publish(into, b"", qos=2, packet_id=2),
        0x70: packet(0x62, u16(2)),
        0xB0: M.unsubscribe(3, common.topic("s2c")),
        0xD0: PINGREQ,
    }
    for first, sent in asked.items():
        assert client.ask(sent).first == first


@pytest.mark.parametrize("sent", [
    M.subscribe(0, (b"x", 0)), M.unsubscribe(0, b"x"),
    M.publish(b"x", b"", qos=1, packet_id=0), M.publish(b"x", b"", qos=2, packet_id=0),
])  # fmt: skip
def test_a_packet_identifier_of_zero_closes_the_connection(log_in: Any, ended: Any, sent: bytes) -> None:
    """[MQTT-2.3.1-1] There is no packet identifier 0."""
    client = log_in()
    client.send(sent)
    assert ended(client) == MALFORMED


def test_identifiers_of_the_server_are_unused_and_not_zero(log_in: Any, common: Login) -> None:
    """[MQTT-2.3.1-1] [MQTT-2.3.1-4] [MQTT-4.3.2-1] Nothing is acknowledged, and each PUBLISH has one of its own."""
    client = log_in().hear(common.topic("s2c"))
    answers = greet(client, common, 10)
    identifiers = [each.packet_id for each in answers]
    assert len(set(identifiers)) == 20 and 0 not in identifiers
    assert {(each.qos, each.dup) for each in answers} == {(1, False)}
    assert client.silent()


def test_a_publish_with_qos_0_has_no_identifier(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-2.3.1-5] [MQTT-3.3.1-2] [MQTT-4.3.1-1] Neither ours nor, read by us, a client's."""
    listener = one.listener.hear(one.status, 0)
    device = log_in(one.login, "device")
    device.send(M.publish(one.status, b"online"))
    said = listener.receive()
    assert (said.first, said.body) == (0x30, text(one.status) + b"online")
    assert device.silent()


def test_acknowledgements_have_the_identifier_of_what_they_answer(log_in: Any, common: Login) -> None:
    """[MQTT-2.3.1-6] [MQTT-2.3.1-7] [MQTT-3.3.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-4] And QoS 0 has no answer."""
    client, into = log_in(), common.topic("c2s")
    client.send(M.publish(into, b""))
    assert client.ask(M.publish(into, b"", qos=1, packet_id=4711)).raw == packet(0x40, u16(4711))
    assert client.ask(M.publish(into, b"", qos=2, packet_id=65_535)).raw == packet(0x50, u16(65_535))
    assert client.ask(packet(0x62, u16(65_535))).raw == packet(0x70, u16(65_535))
    assert client.ask(M.subscribe(258, (common.topic("s2c"), 0))).raw == packet(0x90, u16(258), b"\0")
    assert client.ask(M.unsubscribe(259, common.topic("s2c"))).raw == packet(0xB0, u16(259))


# -- 3.1 CONNECT --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [
    PINGREQ, DISCONNECT, M.publish(b"x", b""), M.subscribe(1, (b"x", 0)), packet(0x40, u16(1)), ACCEPTED,
])  # fmt: skip
def test_the_first_packet_is_a_connect(dial: Any, first: bytes) -> None:
    """[MQTT-3.1.0-1] Any other closes the connection."""
    client = dial()
    client.send(first)
    assert client.closed()


def test_a_second_connect_closes_the_connection(log_in: Any, ended: Any, common: Login) -> None:
    """[MQTT-3.1.0-2] [MQTT-4.8.0-1] It is a protocol violation, and has no CONNACK."""
    client = log_in()
    client.send(M.connect(common))
    assert ended(client) == VIOLATION


@pytest.mark.parametrize("name", ["", "mqtt", "MQTTS", "HTTP"])
def test_another_protocol_is_not_served(dial: Any, common: Login, name: str) -> None:
    """[MQTT-3.1.2-1] [MQTT-3.2.2-6] It is closed without CONNACK, no return code being for that."""
    client = dial()
    client.send(M.connect(common, name=name))
    assert client.closed()


@pytest.mark.parametrize(("name", "level"), [("MQIsdp", 3), ("MQTT", 3), ("MQTT", 0x83), ("MQTT", 0x84)])
def test_another_level_is_told_so(dial: Any, common: Login, name: str, level: int) -> None:
    """[MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5] CONNACK 1, then the end."""
    client = dial()
    assert client.ask(M.connect(common, name=name, level=level)).raw == bytes.fromhex("20020001")
    assert client.closed()


NAMELESS = Login("", "", "")
BAD_CONNECTS = {
    "reserved flag": lambda login: M.connect(login, "x", flags=0xC3),
    "will flag without will": lambda login: M.connect(login, "x", flags=0xC6),
    "will QoS without will": lambda login: M.connect(login, "x", flags=0xCA),
    "will retain without will": lambda login: M.connect(login, "x", flags=0xE2),
    "will without will flag": lambda login: M.connect(login, "x", will=Will(b"t"), flags=0xC2),
    "will QoS 3": lambda login: M.connect(login, "x", will=Will(login.topic("status"), qos=3)),
    "password without user name": lambda login: M.connect(login, "x", flags=0x42),
    "user name without its flag": lambda login: M.connect(login, "x", flags=0x02),
    "no user name": lambda login: packet(0x10, text("MQTT"), b"\4\xc2\0\0", text("x")),
    "no password": lambda login: packet(0x10, text("MQTT"), b"\4\xc2\0\0", text("x"), text(login.username)),
    "password without its flag": lambda login: M.connect(login, "x", flags=0x82),
    "no client id": lambda login: packet(0x10, text("MQTT"), b"\4\2\0\0"),
    "no keep alive": lambda login: packet(0x10, text("MQTT"), b"\4\2"),
    "one byte too many": lambda login: M.connect(login, "x", tail=b"\0"),
    "no body": lambda login: b"\x10\0",
}


@pytest.mark.parametrize("make", BAD_CONNECTS.values(), ids=BAD_CONNECTS)
def test_a_connect_that_does_not_conform_is_closed_without_connack(dial: Any, common: Login, make: Any) -> None:
    """[MQTT-3.1.4-1] [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.2-22] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
    """
    client = dial()
    client.send(make(common))
    assert client.closed()


def test_a_clean_session_begins_with_nothing(log_in: Any, common: Login) -> None:
    """[MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-4.1.0-1] [MQTT-4.1.0-2] A subscription lasts as long as the connection."""
    client = log_in(client_id="again").hear(common.topic("s2c"), 0)
    greet(client, common)
    greet(client, common)
    client.send(DISCONNECT)
    assert client.closed()
    again = log_in(client_id="again")
    again.send(M.publish(common.topic("c2s"), HELLO))
    assert again.silent()


def test_nothing_is_stored_for_who_is_away(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-4.4.0-1] [MQTT-3.3.1-1] Nor sent again to who is back, asked for or not."""
    away = log_in(one.login, "away", clean=False).hear(one.status)
    device = log_in(one.login, "device")
    say_status(device, one.login, b"online", packet_id=1)
    hears(away, b"online")  # and does not acknowledge it
    away.send(DISCONNECT)
    assert away.closed()
    say_status(device, one.login, b"offline", packet_id=2)
    assert log_in(one.login, "away", clean=False).silent()


def test_what_is_retained_outlives_the_session_that_published_it(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-7] [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] A later subscriber is sent it, marked as retained."""
    device = log_in(one.login, "device")
    say_status(device, one.login, b"offline", retain=True)
    device.send(DISCONNECT)
    assert device.closed()
    listener = one.listener.hear(one.status)
    assert hears(listener, b"offline").retain


def test_a_will_is_published_once_when_the_connection_breaks(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-17] And is retained, as it asked."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device", will=Will(one.status))
    assert listener.silent()
    device.close()
    assert not hears(listener, b"offline").retain
    assert listener.silent()
    assert hears(log_in(one.login, "late").hear(one.status), b"offline").retain


def test_the_last_status_is_kept_whatever_its_flag(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-16] [MQTT-3.3.1-12] A status is a state: also that of a will, or of a PUBLISH without RETAIN."""
    device = log_in(one.login, "device", will=Will(one.status, retain=False))
    say_status(device, one.login, b"online")
    assert hears(one.listener.hear(one.status), b"online").retain
    device.close()
    assert not hears(one.listener, b"offline").retain
    assert hears(log_in(one.login, "late").hear(one.status), b"offline").retain


def test_a_disconnect_discards_the_will(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.14.4-3] [MQTT-3.1.2-10] It is not published."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device", will=Will(one.status))
    device.send(DISCONNECT)
    assert device.closed()
    assert listener.silent()


def test_no_will_is_published_for_who_has_none(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-12] Taken over, and nothing is heard of it."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device")
    log_in(one.login, "device")
    assert device.closed()
    assert listener.silent()


def test_a_silent_client_is_dropped_after_one_and_a_half_keep_alive_periods(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.1.2-24] As if the network had failed: its will is published. Who wants no keep alive may be silent."""
    listener = one.listener.hear(one.status)
    began = monotonic()
    device = log_in(one.login, "device", keepalive=1, will=Will(one.status))
    assert device.closed()
    assert monotonic() - began > 1.4
    hears(listener, b"offline")


def test_a_client_id_names_the_session(log_in: Any, common: Login, one: SimpleNamespace) -> None:
    """[MQTT-3.1.3-2] [MQTT-3.1.4-2] The same again ends the older connection; another one, or another client's, not."""
    first, other, stranger = log_in(client_id="same"), log_in(client_id="other"), log_in(one.login, "same")
    second = log_in(client_id="same")
    assert first.closed()
    assert second.silent() and other.silent() and stranger.silent()


@pytest.mark.parametrize("client_id", ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"])
def test_short_client_ids_of_letters_and_digits_are_allowed(log_in: Any, client_id: str) -> None:
    """[MQTT-3.1.3-5] 1 to 23 of them."""
    assert log_in(client_id=client_id).silent()


def test_a_client_without_id_is_given_one_of_its_own(log_in: Any) -> None:
    """[MQTT-3.1.3-6] So two of them do not meet."""
    first, second = log_in(), log_in()
    assert first.silent() and second.silent()


@pytest.mark.parametrize(("client_id", "clean"), [("", False), ("x" * 129, True), ("line\nbreak", True)])
def test_a_client_id_that_will_not_do_is_rejected(dial: Any, common: Login, client_id: str, clean: bool) -> None:
    """[MQTT-3.1.3-7] [MQTT-3.1.3-8] [MQTT-3.1.3-9] [MQTT-3.2.2-4] [MQTT-3.2.2-5] CONNACK 2, then the end."""
    client = dial()
    assert client.ask(M.connect(common, client_id, clean=clean)).raw == bytes.fromhex("20020002")
    assert client.closed()


def test_what_follows_a_connect_that_is_refused_is_not_looked_at(
    dial: Any, common: Login, one: SimpleNamespace
) -> None:
    """[MQTT-3.1.4-5] [MQTT-3.2.2-4] [MQTT-3.2.2-5] CONNACK 5 is all that is said, and nothing is done."""
    listener = one.listener.hear(one.status)
    client = dial()
    bad = M.connect(one.login, "device", password=b"wrong", will=Will(one.status))
    assert client.ask(bad, M.publish(one.status, b"online"), PINGREQ).raw == bytes.fromhex("20020005")
    assert client.closed()
    assert listener.silent()


# -- 3.2 CONNACK --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_the_first_packet_of_the_server_is_connack_without_a_session(dial: Any, common: Login, clean: bool) -> None:
    """[MQTT-3.1.4-4] [MQTT-3.2.0-1] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4] No session is
    ever stored.
    """
    for _ in range(2):
        client = dial()
        assert client.ask(M.connect(common, "known", clean=clean), PINGREQ).raw == ACCEPTED
        assert client.receive().raw == PINGRESP


# -- 3.3 PUBLISH --------------------------------------------------------------------------------------------------


def test_dup_with_qos_0_closes_the_connection(log_in: Any, ended: Any, common: Login) -> None:
    """[MQTT-3.3.1-2] It is malformed."""
    client = log_in()
    client.send(M.publish(common.topic("c2s"), b"", dup=True))
    assert ended(client) == MALFORMED


def test_dup_is_not_passed_on(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-3] What is sent for the first time has DUP 0."""
    listener = one.listener.hear(one.status)
    say_status(log_in(one.login, "device"), one.login, b"online", dup=True)
    said = hears(listener, b"online")
    assert (said.qos, said.dup) == (1, False)


def test_retained_with_qos_0_replaces_what_was_there(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-7] The last word counts."""
    device = log_in(one.login, "device")
    say_status(device, one.login, b"online", retain=True)
    device.send(M.publish(one.status, b"offline", retain=True))
    assert device.silent()
    assert hears(one.listener.hear(one.status), b"offline").retain


def test_an_established_subscription_hears_without_retain(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-9] Whatever flag it was published with."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device")
    for number, payload in enumerate((b"online", b"offline"), 1):
        say_status(device, one.login, payload, packet_id=number, retain=number == 1)
        assert not hears(listener, payload).retain


def test_nothing_empty_is_kept(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.3.1-11] [MQTT-3.3.1-10] An empty status is denied, and what was there stays."""
    device = log_in(one.login, "device")
    say_status(device, one.login, b"offline", retain=True)
    device.send(M.publish(one.status, b"", retain=True))
    assert device.closed()
    assert hears(one.listener.hear(one.status), b"offline").retain


@pytest.mark.parametrize("topic", [b"", b"#", b"+", b"hubs/+/clients", b"hubs/#", b"hubs/x#"])
def test_a_topic_that_is_empty_or_has_a_wildcard_closes_the_connection(log_in: Any, ended: Any, topic: bytes) -> None:
    """[MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1] It is no topic name."""
    client = log_in()
    client.send(M.publish(topic, b""))
    assert ended(client) == MALFORMED


def test_a_publish_of_the_server_has_the_topic_that_was_subscribed_to_first(log_in: Any, common: Login) -> None:
    """[MQTT-3.3.2-1] [MQTT-3.3.2-3] Whichever spelling it was."""
    for into, out in (("c2s", "s2c"), ("in", "out")):
        client = log_in().hear(common.topic(out))
        client.send(M.publish(common.topic(into), HELLO))
        for _ in range(2):
            said = client.receive()
            assert said.body.startswith(text(common.topic(out)) + u16(said.packet_id) + b"{")


@pytest.mark.parametrize(("asked", "granted"), [(0, 0), (1, 1), (2, 1)])
def test_a_message_comes_with_the_qos_that_was_granted(log_in: Any, common: Login, asked: int, granted: int) -> None:
    """[MQTT-3.3.5-1] [MQTT-3.8.4-6] [MQTT-4.3.3-1] A hub's messages and the status are the server's, with QoS 1."""
    client = log_in()
    assert client.ask(M.subscribe(1, (common.topic("s2c"), asked))).codes == bytes([granted])
    assert {each.qos for each in greet(client, common)} == {granted}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publish_that_is_not_authorized_ends_the_connection(log_in: Any, ended: Any, common: Login, qos: int) -> None:
    """[MQTT-3.3.5-2] Without an acknowledgement."""
    for topic, retain in ((b"elsewhere", False), (common.topic("s2c"), False), (common.topic("c2s"), True)):
        client = log_in()
        client.send(M.publish(topic, b"x", qos=qos, packet_id=1 if qos else None, retain=retain))
        assert ended(client) == DENIED


# -- 3.8 SUBSCRIBE, 3.9 SUBACK ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xFF])
def test_reserved_bits_beside_the_requested_qos_close_the_connection(
    log_in: Any, ended: Any, common: Login, options: int
) -> None:
    """[MQTT-3.8.3-4] It is malformed."""
    client = log_in()
    client.send(M.subscribe(1, (common.topic("s2c"), options)))
    assert ended(client) == MALFORMED


@pytest.mark.parametrize("sent", [M.subscribe(1), M.unsubscribe(1), M.subscribe(1, (b"", 0)), M.unsubscribe(1, b"")])
def test_no_filter_or_an_empty_one_closes_the_connection(log_in: Any, ended: Any, sent: bytes) -> None:
    """[MQTT-3.8.3-3] [MQTT-3.10.3-2] [MQTT-4.7.3-1] [MQTT-4.8.0-1] It is a protocol violation."""
    client = log_in()
    client.send(sent)
    assert ended(client) == MALFORMED


def test_filters_with_wildcards_are_refused(log_in: Any, common: Login) -> None:
    """[MQTT-3.8.3-2] [MQTT-4.7.2-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3] And so are those that begin with $."""
    client = log_in()
    prefix = common.prefix.encode()
    filters = (
        b"#",
        b"+/+",
        prefix + b"/#",
        prefix + b"/+",
        b"$SYS/#",
        b"$share/g/" + common.topic("s2c"),
        b"a#",
        b"a+",
    )
    assert client.ask(M.subscribe(1, *[(each, 1) for each in filters])).codes == b"\x80" * len(filters)
    client.send(M.publish(common.topic("c2s"), HELLO))
    assert client.silent()


def test_many_filters_have_one_answer_with_a_code_for_each_in_order(log_in: Any, common: Login) -> None:
    """[MQTT-3.8.4-1] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2] 0, 1 or 0x80."""
    client = log_in()
    wanted = [("s2c", 1), ("c2s", 1), ("out", 0), ("nothing", 2), ("out", 2)]
    said = client.ask(M.subscribe(5, *[(common.topic(segment), qos) for segment, qos in wanted]))
    assert said.raw == packet(0x90, u16(5), bytes([1, 0x80, 0, 0x80, 1]))
    assert {each.qos for each in greet(client, common)} == {1}
    client.send(M.publish(common.topic("in"), HELLO))
    assert {client.receive().qos for _ in range(2)} == {1}


def test_the_same_filter_again_replaces_the_subscription(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.8.4-3] What is retained comes again, and each further message once, with the new QoS."""
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
    """[MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-5] [MQTT-4.7.3-4] And each time there is an UNSUBACK."""
    client, topic = log_in().hear(common.topic("s2c"), 0), common.topic("s2c")
    for other in (topic.upper(), topic + b"/", topic[:-1], b"#", "\ufeff".encode() + topic):
        assert client.ask(M.unsubscribe(3, other)).raw == packet(0xB0, u16(3))
    greet(client, common)
    assert client.ask(M.unsubscribe(4, topic)).raw == packet(0xB0, u16(4))
    client.send(M.publish(common.topic("c2s"), HELLO))
    assert client.silent()
    assert client.ask(M.unsubscribe(5, topic)).raw == packet(0xB0, u16(5))


def test_many_filters_are_deleted_with_one_answer(log_in: Any, common: Login) -> None:
    """[MQTT-3.10.4-6] As if there had been one UNSUBSCRIBE for each."""
    client = log_in().hear(common.topic("s2c")).hear(common.topic("out"))
    said = client.ask(M.unsubscribe(9, common.topic("s2c"), b"never/had", common.topic("out")))
    assert said.raw == packet(0xB0, u16(9))
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


# -- 3.12 PINGREQ -------------------------------------------------------------------------------------------------


def test_a_ping_is_answered(log_in: Any) -> None:
    """[MQTT-3.12.4-1] Each one."""
    client = log_in()
    client.send(PINGREQ * 3)
    assert [client.receive().raw for _ in range(3)] == [PINGRESP] * 3


def test_a_client_that_disconnects_is_closed_and_not_read_any_more(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-3.14.4-1] [MQTT-3.14.4-2] The server closes at the latest."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device")
    device.send(DISCONNECT, M.publish(one.status, b"online"))
    assert device.closed()
    assert listener.silent()


# -- 4.3 Quality of service, 4.5 and 4.6 Delivery -----------------------------------------------------------------


def test_after_puback_the_identifier_is_free_for_a_new_message(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-4.3.2-2] Whatever its DUP flag."""
    listener = one.listener.hear(one.status)
    device = log_in(one.login, "device")
    for payload in (b"online", b"offline", b"online"):
        say_status(device, one.login, payload, packet_id=5, dup=True)
        hears(listener, payload)


def test_a_message_with_qos_2_is_delivered_once(log_in: Any, common: Login) -> None:
    """[MQTT-4.3.3-2] Until its PUBREL it is the same one, after that a new one."""
    client = log_in().hear(common.topic("s2c"), 0)
    sent = [M.publish(common.topic("c2s"), HELLO, qos=2, packet_id=7, dup=dup) for dup in (False, True)]
    pubrec, pubrel, pubcomp = (packet(first, u16(7)) for first in (0x50, 0x62, 0x70))
    for _ in range(2):
        assert client.ask(sent[0]).raw == pubrec
        assert [client.receive().kind for _ in range(2)] == ["PUBLISH"] * 2
        assert client.ask(sent[1]).raw == pubrec
        assert client.silent()
        assert client.ask(pubrel).raw == pubcomp
    assert client.ask(pubrel).raw == pubcomp
    assert client.silent()


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


# -- 4.7 Topics ---------------------------------------------------------------------------------------------------


def test_the_longest_topic_is_read(log_in: Any) -> None:
    """[MQTT-4.7.3-3] Of 65,535 bytes; more cannot be said."""
    client = log_in()
    assert client.ask(M.subscribe(1, (b"x" * 65_535, 0))).codes == b"\x80"
    assert client.ask(M.unsubscribe(2, b"x" * 65_535)).kind == "UNSUBACK"


# -- 6 WebSocket, 7 Conformance -----------------------------------------------------------------------------------


def test_a_websocket_carries_mqtt_in_binary_frames_and_closes_after_any_other(websocket: Any, common: Login) -> None:
    """[MQTT-6.0.0-1] Text ends it."""
    websocket.send(M.connect(common))
    assert websocket.receive(4) == ACCEPTED
    websocket.send_text("text")
    assert websocket.close_code() == 1003


def test_frames_of_a_websocket_are_no_packets(websocket: Any, common: Login) -> None:
    """[MQTT-6.0.0-2] One may hold a part of a packet, or many."""
    whole = M.connect(common)
    for byte in whole[:-1]:
        websocket.send(bytes([byte]))
    websocket.send(whole[-1:] + PINGREQ * 2 + PINGREQ[:1])
    websocket.send(PINGREQ[1:])
    assert websocket.receive(10) == ACCEPTED + PINGRESP * 3


def test_the_subprotocol_is_mqtt(websocket: Any) -> None:
    """[MQTT-6.0.0-4] [MQTT-6.0.0-3] And without it there is no WebSocket."""
    assert websocket.subprotocol == "mqtt"


def test_any_cut_of_the_stream_is_the_same(dial: Any, common: Login) -> None:
    """[MQTT-7.1.1-1] TLS over TCP: an ordered stream of bytes, both ways."""
    client = dial()
    for byte in M.connect(common, "x" * 100) + PINGREQ:
        client.send(bytes([byte]))
    assert client.receive().raw == ACCEPTED
    assert client.receive().raw == PINGRESP


def test_nothing_but_mqtt_is_needed(log_in: Any, one: SimpleNamespace) -> None:
    """[MQTT-7.0.0-2] User name, password, and the topics of the identity."""
    listener = one.listener.hear(one.status)
    say_status(log_in(one.login, "device"), one.login, b"online")
    hears(listener, b"online")
