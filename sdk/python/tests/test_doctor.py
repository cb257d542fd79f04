# SPDX-License-Identifier: Apache-2.0
"""The judgement: which finding is told first, when all is well, and what a person reads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from thalovant import ThalovantDoctorReport
from thalovant.diagnoses import Diagnosis, diagnose
from thalovant.doctor import Found, failed, noted, passed, report_of, skipped

REFUSED = diagnose("port_refused", where="hub:8883")
NAMED = diagnose("certificate_misnamed", where="hub:8443", said="not valid for 'hub'")
LOGIN = diagnose("broker_login_refused", told="The broker does not accept these credentials.")
PAUSED = diagnose("client_paused", client="kitchen")
FILE = passed("identity", "kitchen.json, mode 0600", 0.001)
WSS = [passed("tls", "TLSv1.3", 0.012, "wss"), passed("handshake", "right", 0.25, "wss")]
BROKEN = [failed("tcp", REFUSED, 0.002, "mqtt"), skipped("tls", "not reached: tcp failed", "mqtt")]


def report(found: Sequence[Found], **known: Sequence[Diagnosis]) -> ThalovantDoctorReport:
    return report_of({"site_id": "kitchen"}, found, **known)


def test_all_is_well() -> None:
    seen = report([FILE, *WSS])
    assert (seen.ok, seen.finding, seen.summary) == (True, None, "All is well: wss leads to the hub.")
    assert report([FILE]).summary == "All is well."


def test_one_carrier_of_several_is_named() -> None:
    seen = report([FILE, *WSS, *BROKEN])
    assert (seen.ok, seen.finding) == (False, REFUSED)
    assert seen.summary == f"mqtt: {REFUSED}"
    assert report([FILE, *BROKEN]).summary == str(REFUSED)


def test_the_most_fundamental_finding_is_told_first() -> None:
    seen = report([FILE, failed("credential", LOGIN, 0.1, "mqtt"), failed("tls", NAMED, 0.1, "wss")])
    assert seen.finding is NAMED
    assert seen.summary == str(NAMED), "both carriers are in trouble: none is named"


def test_what_the_control_plane_knows_explains_what_only_shows_here() -> None:
    login = failed("credential", LOGIN, 0.1, "mqtt")
    assert report([FILE, login], known=[PAUSED]).finding is PAUSED
    assert report([FILE, *BROKEN], known=[PAUSED]).finding is REFUSED, "an earlier step is in the way"


def test_what_the_control_plane_knows_is_no_finding_where_nothing_is_wrong() -> None:
    seen = report([FILE, *WSS], known=[PAUSED])
    assert (seen.ok, seen.finding) == (True, None)


def test_notes_are_told_and_are_no_failure() -> None:
    note = diagnose("mqtt_not_enabled")
    seen = report([FILE, *WSS, noted("control plane", "not asked")], notes=[note])
    assert seen.ok
    assert seen.summary == f"All is well: wss leads to the hub. Note: {note}"


def test_a_skipped_step_is_neither_wrong_nor_right() -> None:
    check = BROKEN[1].check
    assert (check.ok, check.status, check.duration_ms) == (True, "skipped", 0.0)


def test_a_failed_check_has_the_code_and_the_advice() -> None:
    check = failed("tls", NAMED, 0.5, "wss", "It is for other.example.").check
    assert check.as_dict() == {
        "name": "wss tls",
        "ok": False,
        "detail": f"{NAMED.happened} It is for other.example.",
        "duration_ms": 500.0,
        "status": "failed",
        "protocol": "wss",
        "code": "certificate_misnamed",
        "advice": NAMED.advice,
    }


def test_the_document_holds_everything() -> None:
    seen = report_of({"site_id": "kitchen"}, [FILE, *BROKEN], control_plane={"status": "live"})
    told = json.loads(json.dumps(seen.as_dict()))
    assert (told["ok"], told["code"], told["summary"]) == (False, "port_refused", seen.summary)
    assert told["finding"]["advice"] == REFUSED.advice
    assert [check["status"] for check in told["checks"]] == ["ok", "failed", "skipped"]
    assert (told["identity"], told["control_plane"]) == ({"site_id": "kitchen"}, {"status": "live"})


def test_the_table_has_a_line_a_step_and_ends_in_the_summary() -> None:
    lines = report([FILE, *WSS, *BROKEN]).format().splitlines()
    assert lines[0] == "ok      identity         1.0 ms  kitchen.json, mode 0600"
    assert lines[3] == "FAILED  mqtt tcp         2.0 ms  Nothing listens at hub:8883."
    assert lines[4] == "-       mqtt tls                 not reached: tcp failed"
    assert lines[5:] == ["", f"mqtt: {REFUSED}"]


def test_what_a_server_says_cannot_steer_the_terminal() -> None:
    evil = diagnose("wrong_service", told="\x1b[2Jgone\r\nAll is well.")
    shown = report([failed("credential", evil, 0.1, "wss")]).format()
    assert shown.isascii() and "\x1b" not in shown and "\r" not in shown
    assert len(shown.splitlines()) == 3
