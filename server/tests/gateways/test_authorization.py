# SPDX-License-Identifier: Apache-2.0
"""The query parameter that says who knocks: what clients write is read, anything else has one declared error."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.authorization import AuthorizationError, read_authorization

VECTORS = Path(__file__).parents[3] / "contract" / "vectors"


def query(text: bytes | str) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return b"authorization=" + quote(base64.b64encode(raw).decode(), safe="").encode()


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("ua/1:key", ("ua/1", "key")),
        ("ua:key:more", ("ua", "key:more")),
        ("ä:ö", ("ä", "ö")),
        ("a??>:b~~", ("a??>", "b~~")),
    ],
)
def test_it_splits_at_the_first_colon(text, halves):
    assert read_authorization(query(text)) == halves


def test_other_parameters_may_stand_beside_it():
    assert read_authorization(b"x=1&" + query("ua:key") + b"&y=%20") == ("ua", "key")


def test_a_plus_that_was_not_escaped_is_still_read():
    encoded = base64.b64encode(b"ua:>>>>>>")
    assert b"+" in encoded
    assert read_authorization(b"authorization=" + encoded) == ("ua", ">>>>>>")


@pytest.mark.parametrize("missing", [b"", b"x=1", b"authorization=", b"authorization", b"Authorization=dWE6aw%3D%3D"])
def test_nothing_there(missing):
    with pytest.raises(AuthorizationError) as caught:
        read_authorization(missing)
    assert caught.value.missing


@pytest.mark.parametrize(
    "bad",
    [
        b"authorization=%%%",
        b"authorization=abc",
        b"authorization=%2D%5F%2D%5F",
        query("no colon"),
        query(":key"),
        query("ua:"),
        query(b"\xff\xfe:key"),
        b"authorization=\xff",
        b"authorization=" + b"A" * 5000,
        b"&".join([b"a=1"] * 50),
    ],
)
def test_not_of_the_form(bad):
    with pytest.raises(AuthorizationError) as caught:
        read_authorization(bad)
    assert not caught.value.missing
    assert "key" not in str(caught.value)


def test_what_the_published_sdk_dials_is_read():
    text = (VECTORS / "addresses.json").read_text()
    dialled = {word for word in json.dumps(json.loads(text)).split('"') if "authorization=" in word}
    assert dialled
    for url in dialled:
        user_agent, access_key = read_authorization(urlsplit(url).query.encode())
        assert user_agent
        assert access_key


@given(st.binary(max_size=200))
def test_garbage_raises_only_the_declared_error(garbage):
    for candidate in (garbage, b"authorization=" + garbage):
        try:
            user_agent, access_key = read_authorization(candidate)
        except AuthorizationError:
            continue
        assert user_agent
        assert access_key
