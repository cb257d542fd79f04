# SPDX-License-Identifier: Apache-2.0
"""The topics of a client against `contract/vectors/client-topics.json` and the rules of MQTT 4.7."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.protocol.errors import TopicError
from thalovant.protocol.topics import (
    SPELLINGS,
    TopicSet,
    below,
    hub_topics,
    topics_for,
    valid_topic_name,
)

VECTORS = json.loads((Path(__file__).parents[4] / "contract" / "vectors" / "client-topics.json").read_text("utf-8"))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: repr(case["topic_prefix"]))
def test_topics_below_a_prefix_are_those_of_the_published_client(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(TopicError):
            topics_for(case["topic_prefix"])
    else:
        expected = TopicSet(case["inbound"], case["outbound"], case["status"])
        assert topics_for(case["topic_prefix"]) == expected


def test_explicit_topics_win_each_on_its_own() -> None:
    assert topics_for("p", c2s_topic="p/c2s") == TopicSet("p/c2s", "p/out", "p/status")
    assert topics_for("p", s2c_topic="p/s2c", status_topic="x") == TopicSet("p/in", "p/s2c", "x")


def test_explicit_topics_need_no_prefix() -> None:
    topics = topics_for(None, c2s_topic="a", s2c_topic="b", status_topic="c")
    assert topics == TopicSet("a", "b", "c")


def test_one_explicit_topic_does_not_replace_the_prefix() -> None:
    with pytest.raises(TopicError) as caught:
        topics_for(None, c2s_topic="a")
    assert "identity" in caught.value.text


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_blank_explicit_topic_counts_as_not_given(blank: str | None) -> None:
    assert topics_for("p", c2s_topic=blank).c2s == "p/in"


@pytest.mark.parametrize("topic", ["a/#", "a/+/b", "a\0", "a\nb", "a\u0085b", "a" * 65_536, "\ud800"])
def test_an_explicit_topic_is_checked(topic: str) -> None:
    with pytest.raises(TopicError) as caught:
        topics_for("p", s2c_topic=topic)
    assert caught.value.topic == topic


def test_a_hub_serves_both_spellings() -> None:
    assert hub_topics("hubs/h/clients/c") == (
        TopicSet("hubs/h/clients/c/c2s", "hubs/h/clients/c/s2c", "hubs/h/clients/c/status"),
        TopicSet("hubs/h/clients/c/in", "hubs/h/clients/c/out", "hubs/h/clients/c/status"),
    )


def test_the_spellings_are_those_of_the_page_and_of_the_published_client() -> None:
    assert SPELLINGS == {"c2s": "s2c", "in": "out"}


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/x", "é", "a b", b"a/b"])
def test_topic_names_that_may_be_published_to(topic: str | bytes) -> None:
    assert valid_topic_name(topic)


@pytest.mark.parametrize("topic", ["", "#", "a/+", "a\0b", b"\xff", b"\xc0\xaf", "\ud800", "é" * 32_768])
def test_topic_names_that_may_not(topic: str | bytes) -> None:
    assert not valid_topic_name(topic)


@given(st.text())
def test_a_prefix_gives_valid_topics_or_the_declared_error(prefix: str) -> None:
    try:
        topics = topics_for(prefix)
    except TopicError:
        return
    for topic in (topics.c2s, topics.s2c, topics.status):
        assert valid_topic_name(topic)
        assert not topic.startswith("/")


@given(st.text())
def test_below_is_stable(prefix: str) -> None:
    try:
        topic = below(prefix, "in")
    except TopicError:
        return
    assert below(topic.removesuffix("/in"), "in") == topic
