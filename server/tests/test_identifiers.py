# SPDX-License-Identifier: Apache-2.0
"""What may be an identifier, a name, a secret; and what is minted passes its own rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server import identifiers
from thalovant_server.errors import ForbiddenTextError

URL_SAFE = re.compile(r"[A-Za-z0-9_-]+")


def test_minted_ids_are_url_safe_and_differ() -> None:
    made = {identifiers.new_id("hub") for _ in range(200)}
    assert len(made) == 200
    assert all(URL_SAFE.fullmatch(each) and each.startswith("hub-") and each[-1].isalnum() for each in made)
    assert {len(each) for each in made} == {26}


def test_minted_secrets_pass_their_own_rule() -> None:
    secret = identifiers.new_secret()
    assert len(secret) == 43
    assert identifiers.check_machine_secret("x", secret) == secret


def test_topic_prefixes_are_numbered() -> None:
    assert identifiers.topic_prefix("hub-1", "client-1", 1) == "hubs/hub-1/clients/client-1"
    assert identifiers.topic_prefix("hub-1", "client-1", 2) == "hubs/hub-1/clients/client-1.2"


@pytest.mark.parametrize("name", ["Kitchen", "Küche", " padded ", "台所", "a" * 200, "👨\u200d👩\u200d👧", "x.y:z"])
def test_ordinary_names_pass(name: str) -> None:
    assert identifiers.check_name("name", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\t",
        "a/b",
        "a+b",
        "a#",
        "$sys",
        "a\x00",
        "a\nb",
        "\x7f",
        "e\u0301",
        "\u202egnirts",
        "a" * 201,
        "\ud800",
    ],
)
def test_forbidden_names_are_refused(name: str) -> None:
    with pytest.raises(ForbiddenTextError) as caught:
        identifiers.check_name("name", name)
    assert caught.value.field == "name"


@pytest.mark.parametrize("secret", ["", "a" * 31, "a" * 257, "a" * 31 + "!", "a" * 31 + "é", "a" * 32 + "\n"])
def test_weak_secrets_are_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ForbiddenTextError) as caught:
        identifiers.check_machine_secret("spec.password", secret)
    assert not secret or secret not in str(caught.value)


@given(st.text(max_size=300))
def test_any_text_gives_a_slug(name: str) -> None:
    assert identifiers.is_slug(identifiers.slug_from(name))


@pytest.mark.parametrize(
    ("name", "slug"), [("Kitchen Hub", "kitchen-hub"), ("Küche", "kuche"), ("台所", "hub"), ("--a--", "a")]
)
def test_slugs_read_like_their_names(name: str, slug: str) -> None:
    assert identifiers.slug_from(name) == slug


@pytest.mark.parametrize(("name", "site"), [("python_mqtt client", "python-mqtt-client"), ("  a  b ", "a-b")])
def test_site_ids_follow_the_name(name: str, site: str) -> None:
    assert identifiers.site_id_from(name) == site


def test_a_blank_name_gives_a_random_site_id() -> None:
    assert re.fullmatch(r"thalovant-client-[0-9a-f]{8}", identifiers.site_id_from("  "))


@given(st.text(max_size=50))
def test_checks_raise_only_the_declared_error(text: str) -> None:
    for check in (identifiers.check_name, identifiers.check_machine_secret):
        try:
            check("field", text)
        except ForbiddenTextError as error:
            assert error.code == "forbidden_text"
