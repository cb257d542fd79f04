# SPDX-License-Identifier: Apache-2.0
"""Denials on their way to the log and to whoever writes the audit log: what makes two the same, what is never told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from thalovant_server.denials import LONGEST_WHAT, MORE, Denial, Denials, fingerprint, plain
from thalovant_server.repeats import KINDS_PER_SOURCE, SECONDS, Line
from thalovant_server.source_address import source_of
from thalovant_server.testing.clock import StandingClock

REFUSED = Denial(action="session.refused", code="unknown_key", address="192.0.2.1", carrier="wss")


def test_a_poller_that_is_refused_is_one_warning_a_minute() -> None:
    clock, sunk = StandingClock(), list[Line[Denial]]()
    denials = Denials(clock, sunk.append)
    with capture_logs() as logs:
        for _ in range(900):
            denials.note(REFUSED)
        assert logs == [
            {
                "event": "refused",
                "log_level": "warning",
                "carrier": "wss",
                "code": "unknown_key",
                "remote": "192.0.2.1",
            }
        ]
        clock.advance(SECONDS)
    assert (logs[1]["event"], logs[1]["times"]) == ("refused_again", 899)
    assert [(line.item, line.times) for line in sunk] == [(REFUSED, 1), (REFUSED, 899)]


@pytest.mark.parametrize(
    "other",
    [
        {"code": "revoked"},
        {"address": "192.0.2.2"},
        {"carrier": "mqtt"},
        {"client_id": "client-a"},
        {"fingerprint": "00"},
        {"target": ("hub", "hub-a")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_these_make_another_kind(other: dict[str, str]) -> None:
    assert replace(REFUSED, **other).kind != REFUSED.kind


def test_what_the_denied_one_may_choose_makes_no_other_kind() -> None:
    assert replace(REFUSED, what="x", client_name="y").kind == REFUSED.kind


def test_another_route_is_another_kind() -> None:
    request = replace(REFUSED, action="request.refused", what="GET /v1/hubs")
    assert replace(request, what="POST /v1/hubs").kind != request.kind


def test_a_proven_client_is_its_own_source_wherever_it_is() -> None:
    client = replace(REFUSED, client_id="client-a", proven=True)
    assert client.source == replace(client, address="192.0.2.9").source != REFUSED.source


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("somewhere", "somewhere"),
        ("", ""),
    ],
)
def test_an_ipv6_customer_is_one_source(address: str, source: str) -> None:
    assert source_of(address) == source


def test_kinds_without_room_name_their_address_and_nothing_else() -> None:
    sunk: list[Line[Denial]] = []
    denials = Denials(StandingClock(), sunk.append)
    for number in range(KINDS_PER_SOURCE + 5):
        denials.note(replace(REFUSED, fingerprint=str(number)))
    denials.close()
    assert len(sunk) == KINDS_PER_SOURCE + 1
    assert sunk[-1].item == Denial(action="session.refused", code=MORE, address="192.0.2.1")
    assert sunk[-1].times == 5


def test_what_is_not_for_the_audit_log_is_in_the_log_alone() -> None:
    sunk: list[Line[Denial]] = []
    with capture_logs() as logs:
        Denials(StandingClock(), sunk.append).note(replace(REFUSED, code="restart", audited=False))
    assert [each["code"] for each in logs] == ["restart"] and sunk == []


def test_a_name_that_was_typed_is_neither_in_the_log_nor_in_a_repr() -> None:
    typed = replace(REFUSED, action="login.refused", target=("account", "my-password"))
    with capture_logs() as logs:
        Denials(StandingClock()).note(typed)
    assert logs and "my-password" not in repr(logs) + repr(typed)


def test_a_key_has_a_fingerprint_and_no_key_has_none() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b\ud800")
    assert "secret" not in fingerprint("secret") and fingerprint("") == ""


@given(st.text(max_size=400))
def test_what_others_chose_is_short_and_fit_for_a_log(text: str) -> None:
    said = plain(text)
    assert len(said) <= LONGEST_WHAT
    assert said.isprintable() or all(c.isspace() or c.isprintable() for c in said)
    assert "\n" not in said and "\x00" not in said and "\x1b" not in said
