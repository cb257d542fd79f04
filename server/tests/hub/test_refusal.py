# SPDX-License-Identifier: Apache-2.0
"""The vocabulary holds what the contract and decision 9 say of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from thalovant.errors import ThalovantClientKeyRejectedError, ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.last_word import loss_of
from thalovant.link import Link
from thalovant.protocol import clear
from thalovant.protocol.mqtt.client_events import BrokerLeft
from thalovant.protocol.noise import generate_private_key
from thalovant.protocol.session import ClientSession, Failed
from thalovant.transports.base import Loss
from thalovant.transports.mqtt_answers import Answers
from thalovant_server.gateways.mqtt.reasons import REASONS
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal, Refused

ALL = [value for value in vars(refusal).values() if isinstance(value, Refusal)]


def test_only_refusals_of_a_credential_close_with_1008():
    of_credential = {each.code for each in ALL if each.ws_code == 1008}
    assert of_credential == {
        "unknown_key",
        "wrong_hub",
        "invalid_authorization",
        "revoked",
        "paused",
        "rotated_out",
        "removed",
        "protocol_off",
        "mqtt_elsewhere",
        "hub_off",
        "handshake_failed",
        "key_mismatch",
    }


def test_codes_are_unique_and_every_number_is_one_of_the_contracts():
    assert len({each.code for each in ALL}) == len(ALL)
    assert {each.ws_code for each in ALL} <= {1002, 1008, 1009, 1011, 1012, 1013, 4003}
    assert {each.connack for each in ALL} <= {3, 4, 5}
    assert all(len(each.reason.encode()) <= 123 for each in ALL)


def test_overload_and_restart_are_never_a_refusal_over_https():
    for each in (refusal.BUSY, refusal.RESTARTING, refusal.TOO_MANY_CONNECTIONS, refusal.SLOW_READER):
        assert each.http_status == 503
        assert not each.of_credential


def test_recorded_close_frames_are_said_the_same_way(contract_vectors):
    recorded = json.loads((contract_vectors / "refusals.json").read_text())
    cases = {
        case["case"]: case.get("got", [None, None])[1] for case in recorded["wss"] if len(case.get("got", [])) == 2
    }
    assert cases["unknown access key"] == {"code": 1008, "reason": refusal.UNKNOWN_KEY.reason}
    assert cases["no authorization parameter"] == {"code": 1008, "reason": refusal.INVALID_AUTHORIZATION.reason}
    assert cases["broadcast by a non-admin"] == {"code": 4003, "reason": refusal.not_allowed("broadcast").reason}


def test_a_refused_says_its_code():
    assert Refused(refusal.BUSY).code == "busy"
    assert "busy" in str(Refused(refusal.BUSY))


class Carrier:
    """Of a client; it only has a name."""

    protocol = "mqtt"


def error_of(lost: Loss | Failed, *, up: bool) -> tuple[type, str, bool]:
    """What a client of ours makes of it: class, diagnosis, whether it may mean another client key."""

    async def main() -> Link:
        session = ClientSession(static_private=generate_private_key(), site_id="kitchen", session_id="s")
        carrier: Any = Carrier()
        link = Link(carrier, session, "s", "kitchen", "password", on_message=print, on_lost=print)
        link.heard, link.ready_at = up, 1.0 if up else None
        if isinstance(lost, Failed):
            link._perform([lost])
        else:
            link._carrier_lost(lost)
        return link

    link = asyncio.run(main())
    assert link.error is not None
    code = link.error.diagnosis.code if link.error.diagnosis else ""
    return type(link.error), code, link.refused_at_once


def in_the_clear(each: Refusal) -> Failed:
    session = ClientSession(static_private=generate_private_key(), site_id="kitchen", session_id="s", repeats=True)
    (failed,) = session.receive(clear.refusal_frame(each.code, each.reason))
    assert isinstance(failed, Failed)
    return failed


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.code)
def test_a_last_word_in_the_clear_means_what_a_close_code_means(each: Refusal):
    """To a client of ours: before a session like the close of a WebSocket, in one like a DISCONNECT of MQTT 5."""
    failed = in_the_clear(each)
    closed = Loss(f"The hub closed the connection ({each.ws_code}: {each.reason}).", each.ws_code)
    assert error_of(failed, up=False)[:2] == error_of(closed, up=False)[:2]
    reason = REASONS.get(each.code)
    if reason is None:  # said behind a broker only
        assert error_of(failed, up=True)[1] == "server_busy"
        return
    left = BrokerLeft(reason.disconnect, reason.advice)
    of_mqtt = error_of(Answers(5, ()).loss(left), up=True)
    if each.code != "not_granted":  # behind a broker it is denied, or the session is dialled anew
        assert issubclass(error_of(failed, up=True)[0], ThalovantHubRefusedError) is issubclass(
            of_mqtt[0], ThalovantHubRefusedError
        )


def test_only_another_client_key_ends_a_client_for_good_and_only_right_after_the_handshake():
    for each in ALL:
        link_error = error_of(in_the_clear(each), up=False)
        assert link_error[0] is not ThalovantClientKeyRejectedError and not link_error[2]
        assert not error_of(in_the_clear(each), up=True)[2]


def test_a_code_of_a_newer_hub_is_dialled_again():
    loss = loss_of(clear.ClearRefusal("from_the_future", "no"), "The hub refused (no).")
    for up in (False, True):
        assert error_of(loss, up=up) == (ThalovantConnectionError, "", False)
