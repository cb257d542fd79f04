# SPDX-License-Identifier: Apache-2.0
"""`thalovant doctor` as it is typed: which identity, which carriers, what is printed, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def kept(hub: Any, tmp_path: Path) -> Path:
    """The file of an identity of the scripted hub."""
    return Path(hub.identity().save(tmp_path / "kitchen.identity.json"))


def test_all_is_well(kept: Path, typed: Any) -> None:
    ran = typed("doctor", "--identity", kept)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[-1] == "All is well: wss, https and mqtt lead to the hub."
    assert lines[0].startswith("ok") and str(kept) in lines[0] and lines[0].endswith("mode 0600")
    assert "nobody is signed in here" in lines[-3]


def test_for_programs(kept: Path, hub: Any, typed: Any) -> None:
    hub.script.password = "another one"
    ran = typed("doctor", "--identity", kept, "--protocol", "mqtt,WSS", "--json", "--timeout", "5")
    told = json.loads(ran.out)
    assert (ran.code, ran.err, told["ok"], told["code"]) == (1, "", False, "wrong_password")
    assert {check["protocol"] for check in told["checks"]} == {None, "mqtt", "wss"}
    not_walked = {(check["ok"], check["skipped"]) for check in told["checks"] if check["status"] == "skipped"}
    assert not_walked == {(None, True)}, "a step that was not walked is neither well nor wrong"
    walked = {(check["ok"], check["skipped"]) for check in told["checks"] if check["status"] != "skipped"}
    assert walked == {(True, False), (False, False)}
    identity = hub.identity()
    for secret in (identity.access_key, identity.password, identity.mqtt.password, identity.mqtt.topic_prefix):
        assert secret not in ran.out


def test_no_ask(kept: Path, hub: Any, typed: Any) -> None:
    ran = typed("doctor", "--identity", kept, "--protocol", "https", "--no-ask")
    assert ran.code == 0
    assert hub.turns.empty()


def test_the_configuration_is_read_too(hub: Any, typed: Any) -> None:
    hub.identity().save_to_config(profile="kitchen")
    ran = typed("doctor", "--profile", "kitchen", "--protocol", "wss")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "All is well: wss leads to the hub.")


def test_an_identity_that_others_may_open(kept: Path, typed: Any) -> None:
    kept.chmod(0o644)
    ran = typed("doctor", "--identity", kept)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.splitlines()[-1].endswith(f"(mode 0644). Type: chmod 600 {kept}")
    assert json.loads(typed("doctor", "--identity", kept, "--json").out)["code"] == "identity_open_to_others"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"access_key": "not-to-be-printed"}'])
def test_an_identity_that_cannot_be_read(content: str | None, tmp_path: Path, typed: Any) -> None:
    file = tmp_path / "broken.json"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    ran = typed("doctor", "--identity", file, "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["code"], told["identity"]) == (1, "identity_unreadable", {})
    assert str(file) in told["summary"] and "--identity" in told["summary"]


def test_no_identity_at_all_is_an_error_as_everywhere(typed: Any) -> None:
    ran = typed("doctor")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.rstrip().endswith("(no_identity)")


def test_a_carrier_that_there_is_not(kept: Path, typed: Any) -> None:
    ran = typed("doctor", "--identity", kept, "--protocol", "pigeon")
    assert ran.code == 1
    assert "'pigeon' is no carrier" in ran.err


def test_an_ask_says_the_same(kept: Path, hub: Any, typed: Any) -> None:
    hub.script.broker_password = "rotated"
    asked = typed("ask", "hello", "--identity", kept, "--protocol", "mqtt", "--json")
    told = json.loads(asked.err)["error"]
    examined = json.loads(typed("doctor", "--identity", kept, "--protocol", "mqtt", "--json").out)
    assert told["code"] == "hub_refused"
    assert told["diagnosis"] == examined["code"] == "broker_login_refused"
    assert told["message"] == examined["summary"]
