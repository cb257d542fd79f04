# SPDX-License-Identifier: Apache-2.0
"""HiveMessages: upstream's examples, what is tolerated, what is refused and under which code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import MessageError
from thalovant.protocol.messages import (
    MALFORMED_PAYLOAD,
    MESSAGE_TYPES,
    NESTING_TYPES,
    UNKNOWN_TYPE,
    HiveMessage,
    bus,
)

VECTORS = json.loads((Path(__file__).parents[4] / "contract" / "vectors" / "hive-messages.json").read_text())
KEYS = ["msg_type", "payload", "metadata", "route", "node", "target_site_id", "target_pubkey", "source_peer"]

json_objects = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
messages = st.builds(
    HiveMessage,
    st.sampled_from(sorted(MESSAGE_TYPES - {"bin"})),
    json_objects,
    json_objects,
    st.lists(json_objects, max_size=2),
    *[st.none() | st.text(max_size=8)] * 4,
)


def code_of(data: bytes | str) -> str:
    with pytest.raises(MessageError) as caught:
        HiveMessage.decode(data)
    return caught.value.code


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["case"])
def test_upstreams_envelopes_read_and_write_the_same(case: dict[str, str]) -> None:
    message = HiveMessage.decode(case["json"])
    assert message.to_json() == case["json"]
    assert json.loads(message.encode()) == json.loads(case["json"])
    assert list(json.loads(message.encode())) == KEYS


def test_bytes_and_text_read_the_same_and_writing_is_compact() -> None:
    message = bus("speak", {"utterance": "é"}, {"request_id": "r"})
    assert HiveMessage.decode(message.encode()) == HiveMessage.decode(message.encode().decode()) == message
    assert b", " not in message.encode()
    assert "é".encode() in message.encode()


def test_a_bare_envelope_gets_the_defaults() -> None:
    message = HiveMessage.decode(b'{"msg_type":"bus","payload":{}}')
    assert message == HiveMessage("bus", {})
    assert HiveMessage.decode(b'{"msg_type":"bus","payload":{},"metadata":null,"route":null}') == message


def test_unknown_keys_are_dropped() -> None:
    message = HiveMessage.decode(b'{"msg_type":"bus","payload":{},"target_peers":["x"],"new":1}')
    assert list(json.loads(message.encode())) == KEYS


def test_ping_alone_needs_no_payload() -> None:
    assert HiveMessage.decode(b'{"msg_type":"ping"}').payload == {}
    assert HiveMessage.decode(b'{"msg_type":"ping","payload":[1]}').payload == {}
    for msg_type in sorted(MESSAGE_TYPES - {"ping"}):
        assert code_of(json.dumps({"msg_type": msg_type})) == MALFORMED_PAYLOAD
        assert code_of(json.dumps({"msg_type": msg_type, "payload": [1]})) == MALFORMED_PAYLOAD


def test_unknown_types_have_their_own_code() -> None:
    for msg_type in ("", "BUS", "handshake", "3rdparty", "binary"):
        assert code_of(json.dumps({"msg_type": msg_type, "payload": {}})) == UNKNOWN_TYPE


def test_bin_travels_only_as_a_binary_frame() -> None:
    assert code_of(b'{"msg_type":"bin","payload":{}}') == MALFORMED_PAYLOAD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"bus"',
        b"{}",
        b'{"msg_type":1,"payload":{}}',
        b'{"msg_type":["bus"],"payload":{}}',
        b'{"msg_type":"bus","payload":{},"metadata":[]}',
        b'{"msg_type":"bus","payload":{},"route":{}}',
        b'{"msg_type":"bus","payload":{},"node":1}',
        b'{"msg_type":"bus","payload":{},"target_site_id":{}}',
        b'{"msg_type":"bus","payload":{"a":NaN}}',
        b'{"msg_type":"bus","payload":{"a":-Infinity}}',
        b'{"msg_type":"bus","payload":{"a":1e999}}',
        b'{"msg_type":"bus","payload":{"a":' + b"9" * 5000 + b"}}",
        b'{"msg_type":"bus","payload":{"a":' + b"[" * 100_000,
        b'{"msg_type":"bus","payload":{"a":' + b"[" * 500 + b"]" * 500 + b"}}",
        b'{"msg_type":"bus","payload":{"a":"\\ud800"}}',
        b'{"msg_type":"bus","payload":{"a":"\xff"}}',
    ],
    ids=lambda data: repr(data[:48]),
)
def test_what_is_not_an_envelope_is_refused(data: bytes) -> None:
    assert code_of(data) == "message"


def test_whatever_was_read_can_be_written_inside_a_further_envelope() -> None:
    deepest = b'{"msg_type":"bus","payload":{"a":' + b"[" * 126 + b"]" * 126 + b"}}"
    message = HiveMessage.decode(deepest)
    HiveMessage("query", HiveMessage("bus", message.as_dict()).as_dict()).encode()
    with pytest.raises(MessageError):
        HiveMessage.decode(deepest, max_depth=100)


def test_what_json_cannot_hold_is_not_written() -> None:
    for value in (2**64, "\ud800", b"bytes", {1: 2}):
        with pytest.raises(MessageError):
            bus("x", {"value": value}).encode()
    with pytest.raises(MessageError):
        bus("x", {"value": float("nan")}).to_json()


@pytest.mark.parametrize("msg_type", sorted(NESTING_TYPES))
def test_the_message_inside(msg_type: str) -> None:
    inner = bus("speak", {"utterance": "hi"})
    outer = HiveMessage(msg_type, inner.as_dict())
    assert HiveMessage.decode(outer.encode()).nested() == inner
    with pytest.raises(MessageError) as caught:
        HiveMessage(msg_type, {"msg_type": "nope", "payload": {}}).nested()
    assert caught.value.code == MALFORMED_PAYLOAD


def test_the_parts_of_a_bus_message() -> None:
    assert bus("a", {"b": 1}, {"c": 2}).bus_parts() == ("a", {"b": 1}, {"c": 2})
    assert HiveMessage("bus", {"type": "a"}).bus_parts() == ("a", {}, {})
    for payload in ({}, {"type": 1}, {"type": "a", "data": []}, {"type": "a", "context": "x"}):
        with pytest.raises(MessageError) as caught:
            HiveMessage("bus", payload).bus_parts()
        assert caught.value.code == MALFORMED_PAYLOAD


def test_two_messages_share_no_defaults() -> None:
    first, second = HiveMessage("bus", {}), HiveMessage("bus", {})
    first.metadata["a"] = 1
    first.route.append({})
    assert second == HiveMessage("bus", {})


@given(messages)
def test_any_message_reads_back_equal(message: HiveMessage) -> None:
    assert HiveMessage.decode(message.encode()) == message
    assert HiveMessage.decode(message.to_json()) == message


@given(st.binary(max_size=100) | st.text(max_size=100) | json_objects.map(json.dumps))
def test_garbage_raises_only_the_declared_error(data: Any) -> None:
    try:
        HiveMessage.decode(data)
    except MessageError as error:
        assert error.code in ("message", UNKNOWN_TYPE, MALFORMED_PAYLOAD)
