# SPDX-License-Identifier: Apache-2.0
"""Sealing: only the same key and the same context open a value; keyed hashes differ by purpose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.store.sealing import SealBrokenError, Sealer

KEY = bytes(range(32))


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_is_sealed_opens_in_its_place(plaintext: bytes, context: str) -> None:
    assert Sealer(KEY).open(Sealer(KEY).seal(plaintext, context), context) == plaintext


def test_a_value_moved_to_another_place_does_not_open() -> None:
    sealed = Sealer(KEY).seal(b"secret", "row 1")
    with pytest.raises(SealBrokenError):
        Sealer(KEY).open(sealed, "row 2")


def test_another_key_does_not_open() -> None:
    sealed = Sealer(KEY).seal(b"secret", "row 1")
    with pytest.raises(SealBrokenError):
        Sealer(bytes(32)).open(sealed, "row 1")


@given(st.integers(0, 34), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    sealed = bytearray(Sealer(KEY).seal(b"secret", "here"))
    sealed[position] ^= change
    with pytest.raises(SealBrokenError):
        Sealer(KEY).open(bytes(sealed), "here")


@given(st.binary(max_size=60))
def test_garbage_raises_only_the_declared_error(garbage: bytes) -> None:
    with pytest.raises(SealBrokenError):
        Sealer(KEY).open(garbage, "here")


def test_the_same_value_is_sealed_differently_each_time() -> None:
    assert Sealer(KEY).seal(b"x", "here") != Sealer(KEY).seal(b"x", "here")


def test_a_keyed_hash_depends_on_secret_purpose_and_key() -> None:
    one = Sealer(KEY).keyed_hash("secret", "token")
    assert one == Sealer(KEY).keyed_hash(b"secret", "token")
    assert len({one, *(other for other in _others())}) == 4
    assert Sealer(KEY).matches("secret", "token", one)
    assert not Sealer(KEY).matches("secret!", "token", one)


def _others() -> list[bytes]:
    return [
        Sealer(KEY).keyed_hash("other", "token"),
        Sealer(KEY).keyed_hash("secret", "mqtt"),
        Sealer(bytes(32)).keyed_hash("secret", "token"),
    ]


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_the_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32"):
        Sealer(bytes(length))


def test_nothing_shows_the_key() -> None:
    assert KEY.hex() not in repr(Sealer(KEY))
