# SPDX-License-Identifier: Apache-2.0
"""One place of a YAML text changes, the rest stays as it was written."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thalovant.yaml_text import REMOVED, dumped, edited

TEXT = """\
# my hubs
profile: kitchen   # the usual one
profiles:
    # the one at home
    kitchen:
        identity: {access_key: 'k1', password: "p1"}
    # the one outside

    garden:
        identity:
            access_key: k2   # quoted? no

# what follows
control_plane:
  api_url: https://old:1
  ca_pem: |
    one
    # two

# the end
"""


@pytest.mark.parametrize(
    ("place", "value", "old", "new"),
    [
        (("profile",), "garden", "profile: kitchen   # the usual one\n", "profile: garden\n"),
        (("profile",), REMOVED, "profile: kitchen   # the usual one\n", ""),
        (
            ("profiles", "kitchen"),
            {"identity": {"access_key": "k3"}},
            "    kitchen:\n        identity: {access_key: 'k1', password: \"p1\"}\n",
            "    kitchen:\n      identity:\n        access_key: k3\n",
        ),
        (
            ("profiles", "cellar"),
            {"note": "a\nb\n"},
            "k2   # quoted? no\n",
            "k2   # quoted? no\n    cellar:\n      note: \"a\\nb\\n\"\n",
        ),
        (("profiles", "garden", "identity", "access_key"), "yes", "access_key: k2   # quoted? no", "access_key: 'yes'"),
        (("control_plane",), {"api_url": "new"}, "  api_url: https://old:1\n  ca_pem: |\n    one\n    # two\n",
         "  api_url: new\n"),
        (("control_plane", "ca_pem"), REMOVED, "  ca_pem: |\n    one\n    # two\n", ""),
        (("other", "deep"), 5, "    # two\n", "    # two\nother:\n  deep: 5\n"),
    ],
)  # fmt: skip
def test_every_other_character_stays(place: tuple[str, ...], value: object, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert edited(TEXT, place, value) == TEXT.replace(old, new)


@pytest.mark.parametrize("place", [("nobody",), ("profiles", "nobody"), ("nobody", "deep"), ("profile", "deep")])
def test_removing_what_is_not_there_changes_nothing(place: tuple[str, ...]) -> None:
    gone = edited(TEXT, place, REMOVED)
    assert gone == TEXT if place != ("profile", "deep") else yaml.safe_load(gone)["profile"] == {}


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("", ("a",), 1),
        ("# only this\n", ("a",), 1),
        ("# no newline", ("a", "b"), 1),
        ("a: 1", ("b",), 2),
        ("---\na: 1\n...\n", ("b",), 2),
        ("a:\n", ("a", "b"), 1),
        ("a: {}\nb: 2", ("a", "b"), 1),
        ("a: []\n", ("a", "b"), 1),
        ("a: &x {k: 1}\nb: *x\n", ("b", "k"), 2),
        ("a: &x\n  k: 1\nb: *x\n", ("a",), REMOVED),
        ("a: &x\n  k: 1\nb:\n  <<: *x\n", ("b", "k"), 3),
        ("{a: 1, b: 2}", ("b",), 3),
        ("a:\r\n  b: 1\r\nc: 2\r\n", ("a", "d"), 3),
        ("? a\n: b\n", ("a",), 3),
        ("1: x\n", (1,), "y"),
        ("a:\n- 1\n- b: 2\n", ("c",), 3),
        ('a: "x\n\n  y"\nb: 1\n', ("a",), 3),
        ("a: |+\n  x\n\n\nb: 1\n", ("a",), "y"),
        ("a: >-\n  x\n", ("b",), "y"),
        ("a: 2024-01-01\n", ("b",), datetime.date(2024, 1, 2)),
    ],
)
def test_unusual_layouts_say_what_was_asked_for(text: str, place: tuple[Any, ...], value: object) -> None:
    expected = yaml.safe_load(text) or {}
    inner = expected
    for key in place[:-1]:
        inner[key] = dict(inner.get(key) or {})
        inner = inner[key]
    if value is REMOVED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    after = edited(text, place, value)
    assert yaml.safe_load(after) == expected
    assert "only this" not in text or "only this" in after


def test_a_text_is_one_line_however_many_it_has() -> None:
    assert dumped({"pem": "a\nb\n", "long": "x " * 500}) == 'pem: "a\\nb\\n"\nlong: \'' + "x " * 500 + "'\n"


PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KEYS = st.sampled_from(["a", "b", "profiles", "yes", "1", "~", "# x", "a: b", "é", "", "multi\nline"]) | PLAIN
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | PLAIN | st.sampled_from(["a\nb", "a\n\n", " a\nb ", "#", "- x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


def changed(values: dict[str, Any], place: list[str], value: object) -> dict[str, Any]:
    first, *rest = place
    inner = values.get(first)
    if rest:
        value = changed(inner if isinstance(inner, dict) else {}, rest, value)
    return {**values, first: value}


@given(DOCUMENTS, st.lists(KEYS, min_size=1, max_size=3), VALUES, st.sampled_from([None, True, False]), st.booleans())
def test_whatever_the_document_the_result_says_what_was_asked_for(
    before: dict[str, Any], place: list[str], value: object, flow: bool | None, commented: bool
) -> None:
    text = yaml.safe_dump(before, default_flow_style=flow, allow_unicode=True, sort_keys=False, indent=4)
    text = f"# mine\n{text}\n# the end\n" if commented else text
    after = edited(text, tuple(place), value)
    assert yaml.safe_load(after) == changed(yaml.safe_load(text) or {}, place, value)


@given(DOCUMENTS, st.data())
def test_whatever_is_removed_all_else_stays(before: dict[str, Any], data: st.DataObject) -> None:
    place, inner = [], before
    while isinstance(inner, dict) and inner and len(place) < 3:
        place.append(data.draw(st.sampled_from(sorted(inner))))
        inner = inner[place[-1]]
    if not place:
        return
    text = yaml.safe_dump(before, sort_keys=False)
    expected = yaml.safe_load(text)
    holder = expected
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    assert yaml.safe_load(edited(text, tuple(place), REMOVED)) in (expected, expected or None)


def test_the_last_entry_of_a_block_leaves_an_empty_one() -> None:
    assert edited("# mine\na:\n  b: 1\n# more\n", ("a", "b"), REMOVED) == "# mine\na: {}\n# more\n"
