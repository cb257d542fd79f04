# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every entry says what happened and what to do, and no fact of it is a secret."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant import diagnoses
from thalovant.diagnoses import STEPS, Diagnosis, codes, diagnose, diagnosed, most_fundamental, of_refusal
from thalovant.errors import ThalovantClientKeyRejectedError, ThalovantConnectionError

ENTRIES = sorted(diagnoses._CATALOGUE)
FACTS = {fact for _, *texts in diagnoses._CATALOGUE.values() for text in texts for fact in re.findall(r"{(\w+)}", text)}
ADVISES_ITSELF = {"noise_state_unusable"}  # what it is told says what to do


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_whole(entry: str) -> None:
    found = diagnose(entry, **{fact: f"<{fact}>" for fact in FACTS})
    assert re.fullmatch(r"[a-z][a-z_]*", found.code)
    assert found.step in STEPS
    assert found.happened
    assert found.advice or entry in ADVISES_ITSELF
    assert "{" not in str(found) and ".." not in str(found)
    assert found.as_dict() == {
        "code": found.code,
        "step": found.step,
        "happened": found.happened,
        "advice": found.advice,
    }


def test_codes_are_told_once() -> None:
    assert len(set(codes())) == len(codes())
    assert {entry.partition("/")[0] for entry in ENTRIES} == set(codes())


def test_what_the_page_tells_of_has_a_code() -> None:
    assert {
        *("mqtt_not_enabled", "no_mqtt_block", "broker_login_refused", "plain_mqtt_endpoint", "ca_unknown"),
        *("certificate_expired", "certificate_misnamed", "certificate_not_yet_valid", "topics_overridden"),
    } <= set(codes())


def test_no_fact_is_a_secret() -> None:
    assert not {fact for fact in FACTS if re.search("password|key|topic|token|user", fact)}


def test_a_fact_that_nobody_names_is_left_out() -> None:
    assert diagnose("hub_off").happened == "The hub is turned off."
    assert diagnose("port_refused", where="hub:1").happened == "Nothing listens at hub:1."


def test_facts_are_not_templates() -> None:
    assert diagnose("port_refused", where="{seconds}").happened == "Nothing listens at {seconds}."


def test_an_unknown_code_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        diagnose("no_such_thing")


def test_an_error_made_of_one_carries_it() -> None:
    why = diagnose("client_key_rejected", folder="f", hint="")
    error = diagnosed(ThalovantClientKeyRejectedError, why, key_folder="f")
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert (str(one), one.diagnosis, one.key_folder, one.code) == (str(why), why, "f", "client_key_rejected")
    assert ThalovantConnectionError("plain").diagnosis is None


def test_the_earliest_step_is_the_most_fundamental() -> None:
    late, early = diagnose("wrong_password"), diagnose("port_refused", where="a")
    other = diagnose("port_refused", where="b")
    assert most_fundamental([late, None, early, other]) is early
    assert most_fundamental([None]) is None
    assert most_fundamental([]) is None


@given(st.lists(st.sampled_from(STEPS), min_size=1))
def test_it_is_one_of_them_and_none_is_earlier(steps: list[diagnoses.Step]) -> None:
    found = [Diagnosis(str(number), step, "", "") for number, step in enumerate(steps)]
    first = most_fundamental(found)
    assert first in found
    assert first is not None and STEPS.index(first.step) == min(map(STEPS.index, steps))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("The hub closed the connection (1008: this hub is turned off).", "hub_off"),
        ("this protocol is turned off for this hub", "protocol_off"),
        ("The hub, or MQTT for this hub, is turned off. Its owner can turn it on.", "protocol_off"),
        ("handshake failure: wrong password or altered offer", "wrong_password"),
        ("The hub closed the connection (1013: too many failed attempts from here, try again later).", "throttled"),
        ("The hub closed the connection (1008: this client is paused).", "client_paused/told"),
        ("This client is paused. Its owner can resume it.", "client_paused/told"),
        ("1008: this credential was replaced: use the client's newest identity", "credential_rotated/told"),
        ("HTTP 403: this client was removed", "client_removed/told"),
        ("this hub meets its clients at another broker", "mqtt_elsewhere"),
        ("invalid api key", None),
        ("", None),
    ],
)
def test_what_a_hub_says_in_refusing(words: str, code: str | None) -> None:
    assert of_refusal(words) == code
