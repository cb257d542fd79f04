# SPDX-License-Identifier: Apache-2.0
"""The search for planted secrets finds them in whatever form, and nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.testing.canary import LEAST, Canary, SecretFoundError

SECRET = 'Pl/anted+secret "é" 0123456789'


def planted(**more: tuple[str, ...]) -> Canary:
    canary = Canary()
    canary.plant("the secret", SECRET, **more)
    return canary


@pytest.mark.parametrize(
    "leak",
    [
        SECRET,
        f"x{SECRET}y",
        SECRET.encode().hex(),
        SECRET.lower(),
        quote(SECRET, safe=""),
        json.dumps({"a": SECRET}),
        repr(SECRET),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
    ids=["plain", "within", "hex", "folded", "percent", "json", "repr", "base64"],
)
def test_a_leak_is_found_and_its_value_not_told(leak: str) -> None:
    canary = planted()
    canary.look("the log", leak)
    with pytest.raises(SecretFoundError, match="the secret in the log") as caught:
        canary.check()
    assert "l/anted" not in str(caught.value)


@given(st.binary(max_size=9), st.binary(max_size=9))
def test_base64_of_something_around_it_is_found(before: bytes, after: bytes) -> None:
    canary = planted()
    canary.look("a", base64.b64encode(before + SECRET.encode() + after))
    assert canary.found == ["the secret in a"]


def test_where_there_is_none_none_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"\xff\x00" * 100)
    canary = planted()
    canary.look_in_files(tmp_path)
    canary.check()
    assert canary.places == ["sub/file"]


def test_a_place_may_hold_it_on_purpose() -> None:
    canary = planted(allowed=("its file",))
    canary.look("its file", SECRET)
    canary.check()
    canary.look("another", SECRET)
    assert canary.found == ["the secret in another"]


def test_what_is_too_short_is_not_looked_for() -> None:
    with pytest.raises(ValueError, match="too short"):
        Canary().plant("x", "y" * (LEAST - 1))


@given(st.binary(min_size=LEAST, max_size=60), st.text(alphabet="abc{}: ", max_size=200))
def test_any_secret_is_found_in_itself_and_hardly_by_chance(secret: bytes, other: str) -> None:
    canary = Canary()
    canary.plant("s", secret)
    canary.look("itself", b"<" + secret + b">")
    canary.look("another", other.encode().replace(secret, b""))
    assert canary.found == ["s in itself"]
