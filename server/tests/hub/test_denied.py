# SPDX-License-Identifier: Apache-2.0
"""What the data plane notes of a denial: of whom, as far as that is known; and which ends of sessions are none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from thalovant_server.denials import LONGEST_WHAT, Denial, Denials
from thalovant_server.directory import CredentialEntry
from thalovant_server.former_keys import FormerHolder
from thalovant_server.gateways.mqtt.endpoint import BAD_LOGIN
from thalovant_server.hub import refusal
from thalovant_server.hub.denied import ATTEMPTS, HubDenials
from thalovant_server.hub.refusal import Refusal
from thalovant_server.repeats import Line
from thalovant_server.testing.clock import StandingClock

KNOWN = CredentialEntry(7, "client-a", "hub-a", "the-key-of-a", "lamp", "site", "hubs/hub-a/clients/client-a")
FORMER = FormerHolder("client-b", "door", "hub-b", "rotated_out")
EVERY = [each for each in vars(refusal).values() if isinstance(each, Refusal)]


class Directory:
    """Knows one credential, and one that is over."""

    def credential(self, access_key: str) -> CredentialEntry | None:
        return KNOWN if access_key == KNOWN.access_key else None

    def former_holder(self, access_key: str) -> FormerHolder | None:
        return FORMER if access_key == "the-former-key" else None


def noted() -> tuple[HubDenials, list[Denial]]:
    found: list[Denial] = []

    def sink(line: Line[Denial]) -> None:
        found.append(line.item)

    directory: Any = Directory()
    return HubDenials(directory, Denials(StandingClock(), sink)), found


def connection(why: Refusal | None, *, ready: bool = False) -> Any:
    return SimpleNamespace(
        refusal=why,
        failure=("decrypt", "A sentence."),
        credential=KNOWN,
        carrier="wss",
        remote="192.0.2.1",
        ready=ready,
    )


def test_why_sessions_fail_is_in_the_log_once_and_then_as_a_number() -> None:
    """A client behind a broker begins the next one with its next message."""
    denials, _ = noted()
    with capture_logs() as logs:
        for _ in range(1_000):
            denials.ended(connection(refusal.PROTOCOL_ERROR))
        denials.close()
    told = [(each["event"], each.get("why"), each.get("times")) for each in logs if "session_failed" in each["event"]]
    assert told == [("session_failed", "A sentence.", None), ("session_failed_again", None, 999)]


def test_a_known_key_names_its_client_but_proves_nothing() -> None:
    denials, found = noted()
    denials.refused(refusal.REVOKED, "wss", "192.0.2.1", KNOWN.access_key)
    [one] = found
    assert (one.action, one.code, one.carrier, one.address) == ("session.refused", "revoked", "wss", "192.0.2.1")
    assert (one.client_id, one.client_name, one.hub_id, one.proven) == ("client-a", "lamp", "hub-a", False)
    assert one.fingerprint == ""


@pytest.mark.parametrize("why", [refusal.UNKNOWN_KEY, refusal.WRONG_HUB, BAD_LOGIN], ids=lambda why: why.code)
def test_a_key_that_is_over_names_its_client_and_how_it_ended(why: Refusal) -> None:
    denials, found = noted()
    denials.refused(why, "mqtt", "192.0.2.1", "the-former-key", proven=True)
    [one] = found
    assert (one.code, one.client_id, one.client_name, one.hub_id) == ("rotated_out", "client-b", "door", "hub-b")
    assert (one.proven, one.fingerprint) == (False, "")


def test_a_key_that_is_over_and_was_not_looked_at_keeps_the_code() -> None:
    denials, found = noted()
    denials.refused(refusal.THROTTLED, "mqtt", "192.0.2.1", "the-former-key")
    assert (found[0].code, found[0].client_id) == ("throttled", "client-b")


def test_an_unknown_key_is_a_fingerprint() -> None:
    denials, found = noted()
    denials.refused(refusal.UNKNOWN_KEY, "wss", "192.0.2.1", "the-key-of-nobody")
    denials.refused(refusal.INVALID_AUTHORIZATION, "wss", "192.0.2.1")
    assert found[0].client_id is None and len(found[0].fingerprint) == 8
    assert found[1].fingerprint == ""
    assert "the-key" not in repr(found)


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("why", EVERY, ids=lambda why: why.code)
def test_a_session_that_ended_over_what_its_client_tried_is_noted(why: Refusal, ready: bool) -> None:
    denials, found = noted()
    denials.ended(connection(why, ready=ready))
    assert [(each.code, each.client_id, each.proven) for each in found] == (
        [(why.code, "client-a", ready)] if why.code in ATTEMPTS else []
    )


def test_a_session_that_its_client_ended_is_not() -> None:
    denials, found = noted()
    denials.ended(connection(None))
    assert found == []


@pytest.mark.parametrize("why", [refusal.RESTARTING, refusal.BUSY, refusal.INTERNAL], ids=lambda why: why.code)
def test_the_servers_own_state_is_not_for_the_audit_log(why: Refusal) -> None:
    denials, found = noted()
    denials.refused(why, "wss", "192.0.2.1", KNOWN.access_key)
    assert found == []


def test_what_a_proven_client_chose_is_cut_and_fit_for_a_log() -> None:
    denials, found = noted()
    denials.message(connection(None), "acl_disallowed_type", "x\n" * 1000)
    denials.topic(KNOWN, "denied_publish", "192.0.2.1", "hubs/\x00/c2s")
    message, topic = found
    assert (message.action, len(message.what)) == ("message.denied", LONGEST_WHAT)
    assert "\n" not in message.what
    assert (topic.action, topic.what, topic.carrier) == ("topic.denied", "hubs/\ufffd/c2s", "mqtt")
    assert message.proven and topic.proven and topic.hub_id == "hub-a"
