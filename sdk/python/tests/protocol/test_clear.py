# SPDX-License-Identifier: Apache-2.0
"""Clear frames: what is written, character for character, and what is taken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol import clear
from thalovant.protocol.errors import MessageError, TooLargeError

ENVELOPE = (
    '"metadata": {}, "route": [], "node": null, "target_site_id": null, "target_pubkey": null, "source_peer": null}'
)


def test_the_hub_writes_the_full_envelope_as_upstream_does() -> None:
    assert clear.hello_frame({"peer": "é"}).decode() == (
        '{"msg_type": "hello", "payload": {"peer": "\\u00e9"}, ' + ENVELOPE
    )
    assert clear.offer_frame({"binarize": False}).decode() == (
        '{"msg_type": "shake", "payload": {"binarize": false}, ' + ENVELOPE
    )
    assert clear.hub_shake(b"\xab").decode() == (
        '{"msg_type": "shake", "payload": {"noise": {"msg": "ab"}}, ' + ENVELOPE
    )


def test_the_client_writes_four_keys_as_recorded() -> None:
    first = clear.client_shake(bytes(81), pattern="XXpsk2", suite="25519_ChaChaPoly_SHA256")
    assert list(json.loads(first)) == ["msg_type", "payload", "metadata", "route"]
    assert list(json.loads(first)["payload"]["noise"]) == ["pattern", "suite", "msg"]
    assert len(first) == 304  # the length in the recorded session
    assert len(clear.client_shake(bytes(64))) == 213


def test_handshake_is_another_name_for_shake() -> None:
    frame = clear.parse_clear('{"msg_type": "handshake", "payload": {"a": 1}}')
    assert frame == clear.ClearFrame("shake", {"a": 1})


def test_integers_of_any_size_stay_exact() -> None:
    data = '{"msg_type": "hello", "payload": {"n": 123456789012345678901234567890}}'
    assert clear.parse_clear(data).payload["n"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    "data",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"msg_type": 1, "payload": {}}',
        '{"msg_type": "hello"}',
        '{"msg_type": "hello", "payload": []}',
        '{"msg_type": "hello", "payload": {"a": NaN}}',
        b"\xff\xfe",
        b"[" * 60_000,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_other_things_are_no_clear_frames(data: bytes | str) -> None:
    with pytest.raises(MessageError):
        clear.parse_clear(data)
    assert clear.clear_kind(data) is None


def test_a_clear_frame_has_a_limit() -> None:
    longest = b'{"msg_type": "hello", "payload": {}}'.ljust(clear.MAX_CLEAR)
    assert clear.clear_kind(longest) == "hello"
    with pytest.raises(TooLargeError) as caught:
        clear.parse_clear(longest + b" ")
    assert caught.value.limit == clear.MAX_CLEAR
    assert clear.clear_kind(longest + b" ") is None


def test_the_noise_message_of_a_shake() -> None:
    envelope = clear.noise_envelope({"noise": {"msg": "AbcD", "pattern": "p", "suite": "s"}})
    assert envelope == clear.NoiseEnvelope(b"\xab\xcd", "p", "s")
    assert clear.noise_envelope({"noise": {"msg": "00"}}) == clear.NoiseEnvelope(b"\0", None, None)


@pytest.mark.parametrize(
    "noise",
    [None, [], {}, *({"msg": msg} for msg in (None, 1, "", "a", "ab c", "ab cd", "zz", "ab\n", "٠٠"))],
    ids=repr,
)
def test_what_is_no_noise_message(noise: object) -> None:
    with pytest.raises(MessageError):
        clear.noise_envelope({"noise": noise})


def test_pattern_and_suite_are_text() -> None:
    for choice in ({"pattern": 1}, {"suite": ["x"]}):
        with pytest.raises(MessageError):
            clear.noise_envelope({"noise": {"msg": "00", **choice}})


def test_an_offer_has_lists_and_no_message() -> None:
    offer = {"noise": {"patterns": ["XXpsk2"], "suites": ["a", "b"]}}
    assert clear.is_offer(offer)
    assert clear.offered(offer) == (frozenset({"XXpsk2"}), frozenset({"a", "b"}))
    assert not clear.is_offer({"noise": {"msg": "00"}})
    assert not clear.is_offer({})
    for noise in (None, {}, {"patterns": "XXpsk2", "suites": []}, {"patterns": [1], "suites": []}):
        with pytest.raises(MessageError):
            clear.offered({"noise": noise})


def test_a_refusal_is_written_with_the_full_envelope() -> None:
    assert clear.refusal_frame("paused", "this client is paused").decode() == (
        '{"msg_type": "shake", "payload": {"thalovant": {"refused": {"code": "paused", '
        '"reason": "this client is paused"}}}, ' + ENVELOPE
    )


def test_a_refusal_is_neither_an_offer_nor_a_noise_message() -> None:
    """Clients that know nothing of it, take it for a handshake that failed."""
    payload = clear.parse_clear(clear.refusal_frame("busy", "the server is busy")).payload
    assert not clear.is_offer(payload)
    for read in (clear.offered, clear.noise_envelope):
        with pytest.raises(MessageError):
            read(payload)


@given(st.from_regex(r"[a-z0-9_]{1,40}", fullmatch=True), st.text(max_size=300))
def test_a_refusal_comes_back_as_one_printable_line(code: str, reason: str) -> None:
    refusal = clear.refusal_of(clear.parse_clear(clear.refusal_frame(code, reason)).payload)
    assert refusal is not None and refusal.code == code
    assert len(refusal.reason) <= 200
    assert refusal.reason.isprintable() and refusal.reason == refusal.reason.strip()
    if reason.isprintable() and len(reason) <= 200:
        assert refusal.reason == " ".join(reason.split())


@pytest.mark.parametrize(
    "refused",
    [
        *(None, [], {}, "paused", {"code": "paused"}, {"reason": "x"}, {"code": 1, "reason": "x"}),
        *({"code": code, "reason": "x"} for code in ("", "Paused", "a b", "x" * 41, "paused\n")),
        *({"code": "paused", "reason": reason} for reason in (None, 1, ["x"])),
    ],
    ids=repr,
)
def test_a_malformed_refusal(refused: object) -> None:
    with pytest.raises(MessageError):
        clear.refusal_of({"thalovant": {"refused": refused}})


@pytest.mark.parametrize("payload", [{}, {"thalovant": None}, {"thalovant": []}, {"thalovant": {"server": "1"}}])
def test_no_refusal(payload: dict[str, object]) -> None:
    assert clear.refusal_of(payload) is None


@given(st.dictionaries(st.sampled_from(["thalovant", "refused"]), st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(["refused", "code", "reason"]), inner) | st.lists(inner, max_size=2),
)))  # fmt: skip
def test_garbage_in_a_refusal_raises_only_the_declared_error(payload: dict[str, object]) -> None:
    try:
        refusal = clear.refusal_of(payload)
    except MessageError:
        return
    assert refusal is None or refusal.code


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_garbage_raises_only_the_declared_errors(data: bytes | str) -> None:
    clear.clear_kind(data)
    try:
        frame = clear.parse_clear(data)
    except MessageError:
        return
    assert isinstance(frame.payload, dict)
