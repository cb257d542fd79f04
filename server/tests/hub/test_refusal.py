# SPDX-License-Identifier: Apache-2.0
"""The vocabulary holds what the contract and decision 9 say of it."""

from __future__ import annotations

import json

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
