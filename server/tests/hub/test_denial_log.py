# SPDX-License-Identifier: Apache-2.0
"""What is written of denials: the first of each client, then a number a minute; never more than is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from thalovant_server.hub.denial_log import CLIENTS, DenialLog


def test_the_first_is_told_and_the_rest_is_a_number_after_a_minute():
    denials = DenialLog()
    with capture_logs() as lines:
        for number in range(1000):
            denials.note(number / 100, "a", "unsupported_frame", "bin")
        denials.note(10, "b", "malformed_payload", "bus")
        assert [(line["event"], line["client_id"]) for line in lines] == [("denied", "a"), ("denied", "b")]
        assert (lines[0]["code"], lines[0]["denied_type"], lines[0]["log_level"]) == (
            "unsupported_frame",
            "bin",
            "warning",
        )
        denials.note(60, "a", "unsupported_frame", "bin")
    assert [(line["event"], line.get("times")) for line in lines[2:]] == [("denied_again", 999), ("denied", None)]


def test_any_clients_denial_sums_up_those_that_fell_silent():
    denials = DenialLog()
    with capture_logs() as lines:
        denials.note(0, "a", "c", "t")
        denials.note(1, "a", "c", "t")
        denials.note(100, "b", "c", "t")
    assert [line["event"] for line in lines] == ["denied", "denied_again", "denied"]


def test_closing_says_what_was_not_said():
    denials = DenialLog()
    with capture_logs() as lines:
        for client in "aab":
            denials.note(0, client, "c", "t")
        denials.close()
        denials.close()
    assert [line["event"] for line in lines] == ["denied", "denied", "denied_again"]


def test_a_long_name_is_cut():
    with capture_logs() as lines:
        DenialLog().note(0, "a", "c", "t" * 10_000)
    assert len(lines[0]["denied_type"]) == 200


def test_what_is_remembered_is_bounded():
    denials = DenialLog()
    with capture_logs():
        for number in range(2 * CLIENTS):
            denials.note(0, str(number), "c", "t")
    assert len(denials._clients) == CLIENTS


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"))))
def test_every_denial_is_told_or_counted_once(steps):
    denials, now = DenialLog(), 0
    with capture_logs() as lines:
        for passed, client in steps:
            now += passed
            denials.note(now, client, "c", "t")
        denials.close()
    for client in "abc":
        own = [line for line in lines if line["client_id"] == client]
        assert sum(line.get("times", 1) for line in own) == sum(each == client for _, each in steps)
