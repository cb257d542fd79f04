# SPDX-License-Identifier: Apache-2.0
"""What the control plane knows, read as what is wrong; whatever it answers, reading it does no harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.credential_history import known_of, sentence_of, shown_of
from thalovant.diagnoses import diagnose

REFUSED = diagnose("broker_login_refused", told="No.")
CLIENT = {"id": "client-1", "name": "kitchen", "active": True, "spec": {"password": "never shown"}}
HUB = {"id": "hub-1", "slug": "demo", "name": "Demo", "active": True, "protocols": ["wss", "https", "mqtt"]}
CREDENTIAL = {"number": 1, "state": "current", "expires_at": None, "topic_prefix": "hubs/h/clients/c"}
LIVE = {"status": "live", "why": None, "ended_at": None, "client": CLIENT, "credential": CREDENTIAL, "hub": HUB}


def ended(why: str, **more: Any) -> dict[str, Any]:
    return {**LIVE, "status": "ended", "why": why, "ended_at": "2026-11-20T10:00:00Z", "credential": None, **more}


@pytest.mark.parametrize(
    ("answer", "failing", "code", "said"),
    [
        (ended("rotated"), ["mqtt"], "credential_rotated", "its grace ended on 2026-11-20T10:00:00Z"),
        (ended("replaced"), ["mqtt"], "credential_rotated", "was rotated on 2026-11-20T10:00:00Z"),
        (ended("cancelled"), ["mqtt"], "credential_ended", "(cancelled)"),
        (ended("removed", client=None), ["mqtt"], "client_removed", "`thalovant identity create demo --name hall`"),
        (ended("hub_removed", client=None, hub=None), ["mqtt"], "hub_removed", "another hub"),
        ({**LIVE, "client": {**CLIENT, "active": False}}, ["mqtt"], "client_paused", "clients resume kitchen"),
        ({**LIVE, "hub": {**HUB, "active": False}}, ["mqtt"], "hub_off", "turn it on"),
        ({**LIVE, "hub": {**HUB, "protocols": ["wss"]}}, ["mqtt"], "protocol_off", "`thalovant hubs set demo --mqtt`"),
        (LIVE, ["mqtt"], "broker_login_of_another", "its broker login is another one"),
        (LIVE, ["mqtt"], "broker_login_of_another", "or the hub's MQTT was moved since"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_what_explains_a_refused_login(answer: dict[str, Any], failing: Any, code: str, said: str) -> None:
    known, notes = known_of(answer, [REFUSED], failing, has_mqtt=True, site_id="hall")
    assert [one.code for one in known] == [code]
    assert said in str(known[0])
    assert notes == []


def at_broker(admitted: bool | None, status: str = "", **more: Any) -> dict[str, Any]:
    operation = {"id": "op-1", "status": status, "created_at": "2026-11-20T10:00:00Z", **more} if status else None
    return {**LIVE, "broker": {"admitted": admitted, "operation": operation}}


@pytest.mark.parametrize(
    ("answer", "shown", "code", "said"),
    [
        (at_broker(False, "requested"), REFUSED, "not_admitted_yet", "was made on 2026-11-20T10:00:00Z. Try again"),
        (at_broker(False, "failed", error_message="No room."), REFUSED, "admission_failed", "up: No room. When"),
        (at_broker(False, "timed_out"), REFUSED, "admission_failed", "did not say why"),
        (at_broker(False, "ready"), REFUSED, "broker_lost_credential", "was set up anew"),
        (at_broker(False), REFUSED, "broker_lost_credential", "tells it again by itself"),
        (at_broker(True, "ready"), REFUSED, "broker_login_of_another", "clients rotate kitchen"),
        ({**at_broker(True), "status": "grace"}, REFUSED, "broker_login_of_another", "clients rotate kitchen"),
        (at_broker(None), REFUSED, "server_without_broker", "hubs set demo --mqtt embedded"),
        (at_broker(None), diagnose("hub_away"), "server_without_broker", "--broker mosquitto"),
        (at_broker(None), diagnose("hub_silent", seconds=1), "server_without_broker", "--broker mosquitto"),
    ],
)
def test_what_explains_a_broker_that_does_not_let_in(answer: dict[str, Any], shown: Any, code: str, said: str) -> None:
    known, _ = known_of(answer, [shown], ["mqtt"], has_mqtt=True)
    assert [one.code for one in known] == [code]
    assert said in str(known[0])


@pytest.mark.parametrize("shown", [diagnose("hub_away"), diagnose("wrong_password", said="No."), None])
@pytest.mark.parametrize("admitted", [True, False])
def test_a_broker_that_does_let_in_explains_nothing_else(admitted: bool, shown: Any) -> None:
    known, _ = known_of(at_broker(admitted, "ready"), [shown] if shown else [], ["mqtt"], has_mqtt=True)
    assert [one.code for one in known] == (["wrong_password"] if shown and shown.code == "wrong_password" else [])


def test_a_client_that_is_paused_is_not_at_the_broker_either() -> None:
    answer = {**at_broker(False, "ready"), "client": {**CLIENT, "active": False}}
    known, _ = known_of(answer, [REFUSED], ["mqtt"], has_mqtt=True)
    assert [one.code for one in known] == ["client_paused"]


def test_mqtt_that_was_enabled_later() -> None:
    asked = [diagnose("mqtt_not_enabled")]
    known, notes = known_of(LIVE, asked, ["mqtt"], has_mqtt=False)
    assert ([one.code for one in known], notes) == (["mqtt_enabled_since"], [])
    known, notes = known_of(LIVE, [], [], has_mqtt=False)
    assert (known, [one.code for one in notes]) == ([], ["mqtt_enabled_since"]), "worth knowing, and wrong with nothing"
    without = {**LIVE, "hub": {**HUB, "protocols": ["wss"]}}
    known, notes = known_of(without, asked, ["mqtt"], has_mqtt=False)
    assert ([one.code for one in known], notes) == (["protocol_off", "mqtt_not_enabled"], [])
    assert "`thalovant hubs set demo --mqtt`, then `thalovant clients rotate kitchen`" in str(known[1])


def test_an_mqtt_block_that_was_cut_out_of_the_file() -> None:
    had = {**LIVE, "credential": {**CREDENTIAL, "mqtt": True}}
    known, _ = known_of(had, [diagnose("no_mqtt_block")], ["mqtt"], has_mqtt=False)
    assert [one.code for one in known] == ["no_mqtt_block"]
    assert "its file was shortened" in str(known[0]) and "`thalovant clients rotate kitchen`" in str(known[0])
    had_none = {**LIVE, "credential": {**CREDENTIAL, "mqtt": False}}
    known, _ = known_of(had_none, [diagnose("no_mqtt_block")], ["mqtt"], has_mqtt=False)
    assert [one.code for one in known] == ["mqtt_enabled_since"]


@pytest.mark.parametrize(
    ("code", "typed"), [("wrong_password", "clients rotate kitchen"), ("policy_denied", "clients policy kitchen")]
)
def test_what_to_type_has_the_name_in_it(code: str, typed: str) -> None:
    known, _ = known_of(LIVE, [diagnose(code, said="No.")], ["wss"], has_mqtt=True)
    assert [one.code for one in known] == [code]
    assert str(known[0]).startswith("No.") and f"`thalovant {typed}`" in str(known[0])


def test_a_name_is_quoted_where_it_is_to_be_typed() -> None:
    paused = {**LIVE, "client": {**CLIENT, "name": "lost phone; ls", "active": False}}
    (known,), _ = known_of(paused, [REFUSED], [], has_mqtt=True)
    assert str(known).startswith("The client lost phone; ls is paused.") and "resume 'lost phone; ls'`" in str(known)


def test_a_credential_in_its_grace_is_a_note() -> None:
    grace = {**LIVE, "status": "grace", "credential": {**CREDENTIAL, "expires_at": "2026-11-23T10:00:00Z"}}
    known, notes = known_of(grace, [], [], has_mqtt=True)
    assert (known, [one.code for one in notes]) == ([], ["credential_in_grace"])
    assert "works until 2026-11-23T10:00:00Z only" in str(notes[0])


def test_nothing_is_known_where_all_is_well() -> None:
    assert known_of(LIVE, [], [], has_mqtt=True) == ([], [])


def test_what_is_shown_of_it() -> None:
    shown = shown_of(LIVE)
    assert shown["client"] == {"id": "client-1", "name": "kitchen", "active": True}
    assert "never shown" not in json.dumps(shown) and "topic_prefix" not in json.dumps(shown)
    assert sentence_of(LIVE) == "the credential is live; client kitchen; hub demo with wss, https, mqtt on"
    assert sentence_of(at_broker(True, "ready")).endswith("; the hub's broker has it")
    assert sentence_of(at_broker(False, "requested")).endswith("; the hub's broker does not have it")
    assert shown_of(at_broker(False, "requested"))["broker"]["operation"]["status"] == "requested"
    assert shown["broker"] is None
    paused = {**LIVE, "client": {**CLIENT, "active": False}, "hub": {**HUB, "active": False}}
    assert sentence_of(paused).endswith("client kitchen (paused); hub demo (off) with wss, https, mqtt on")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*LIVE, *CLIENT, *HUB, "broker", "admitted", "operation", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*LIVE, "broker", "x"]), ANY), st.booleans())
def test_no_answer_does_harm(answer: dict[str, Any], has_mqtt: bool) -> None:
    known, notes = known_of(answer, [REFUSED], ["mqtt"], has_mqtt=has_mqtt)
    assert all(str(one) for one in [*known, *notes])
    json.dumps(shown_of(answer))
    assert sentence_of(answer)
