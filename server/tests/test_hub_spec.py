# SPDX-License-Identifier: Apache-2.0
"""A hub's spec: carriers in one spelling, merged key by key, and no way to name code in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server import hub_spec
from thalovant_server.errors import ForbiddenTextError


def checked(**spec: Any) -> dict[str, Any]:
    return hub_spec.checked_spec({"version": "1", **spec}, lambda: ["echo"])


def test_when_nothing_is_said_only_wss_is_on() -> None:
    assert hub_spec.carriers(checked()) == {"wss"}


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        ({"mqtt": True}, {"wss", "mqtt"}),
        ({"mqtt": {"enabled": True, "brokerUrl": "kept"}}, {"wss", "mqtt"}),
        ({"wss": False, "http": "on"}, {"https"}),
        ({"websocket": "no", "https": 1}, {"https"}),
        ({"wss": {"enabled": "off"}, "mqtt": " YES "}, {"mqtt"}),
        ({"http": False, "https": True}, {"wss"}),
        ({"wss": {}}, {"wss"}),
        ({"mqtt": None}, {"wss"}),
    ],
)
def test_flags_in_every_spelling(protocols: dict[str, Any], expected: set[str]) -> None:
    assert hub_spec.carriers(checked(protocols=protocols)) == expected


def test_details_of_a_protocol_are_kept() -> None:
    spec = checked(protocols={"mqtt": {"enabled": True, "x": 1}, "coap": {"y": 2}})
    assert spec["protocols"]["mqtt"] == {"enabled": True, "x": 1, "via": "embedded"}
    assert spec["protocols"]["coap"] == {"y": 2}
    assert spec["protocols"]["http"] == {"enabled": False}


@pytest.mark.parametrize("protocols", [[], "wss", {"mqtt": "maybe"}, {"wss": 2}, {"http": [True]}, {"mqtt": 1.0}])
def test_flags_that_mean_nothing_are_refused(protocols: Any) -> None:
    with pytest.raises(ForbiddenTextError, match=r"spec\.protocols"):
        checked(protocols=protocols)


def test_where_mqtt_is_can_be_chosen_and_is_written_out() -> None:
    for via in ("embedded", "link"):
        spec = checked(protocols={"mqtt": {"enabled": True, "via": via}})
        assert (spec["protocols"]["mqtt"]["via"], hub_spec.mqtt_via(spec)) == (via, via)
    assert hub_spec.mqtt_via(checked()) == "embedded"
    assert checked()["protocols"]["mqtt"] == {"enabled": False, "via": "embedded"}


def test_what_a_spec_does_not_say_is_the_servers_choice() -> None:
    silent = {"version": "1", "protocols": {"mqtt": True}}
    assert hub_spec.mqtt_via(hub_spec.checked_spec(silent, list, via="link")) == "link"
    said = {"version": "1", "protocols": {"mqtt": {"enabled": True, "via": "embedded"}}}
    assert hub_spec.mqtt_via(hub_spec.checked_spec(said, list, via="link")) == "embedded"


def test_a_spec_from_before_there_was_a_choice_is_embedded() -> None:
    assert hub_spec.mqtt_via({"protocols": {"mqtt": {"enabled": True}}}) == "embedded"


@pytest.mark.parametrize("via", ["", "broker", "Link", True, 1, ["link"], {"link": True}])
def test_a_road_that_is_none_is_refused_with_the_two_that_are(via: Any) -> None:
    with pytest.raises(ForbiddenTextError, match=r'spec\.protocols\.mqtt\.via must be "embedded" .* or "link"'):
        checked(protocols={"mqtt": {"enabled": True, "via": via}})


@pytest.mark.parametrize("patch", [True, "on", {"enabled": True}, {"enabled": False}, False])
def test_turning_mqtt_on_and_off_does_not_move_it(patch: Any) -> None:
    spec = checked(protocols={"mqtt": {"enabled": True, "via": "link", "x": 1}})
    merged = checked(**hub_spec.merged_spec(spec, {"protocols": {"mqtt": patch}}))
    assert hub_spec.mqtt_via(merged) == "link"
    assert merged["protocols"]["mqtt"]["x"] == 1
    assert ("mqtt" in hub_spec.carriers(merged)) is (patch not in (False, {"enabled": False}))


@pytest.mark.parametrize("version", [None, "", " ", 1, "x" * 65])
def test_a_version_is_needed(version: Any) -> None:
    with pytest.raises(ForbiddenTextError, match=r"spec\.version"):
        hub_spec.checked_spec({"version": version}, list)


def test_a_declared_agent_may_be_named() -> None:
    assert hub_spec.agent(checked(agent="echo")) == "echo"
    named = hub_spec.checked_spec({"version": "1", "agent": "My.Agent"}, lambda: ["My.Agent"])
    assert hub_spec.agent(named) == "My.Agent"
    assert hub_spec.agent(checked()) is None


def test_the_default_may_always_be_named_and_is_as_naming_none() -> None:
    assert checked(agent="default")["agent"] == "default"
    assert hub_spec.agent(checked(agent="default")) is None
    assert hub_spec.agent(checked(agent=None)) is None


def test_null_in_a_patch_takes_the_agents_name_away() -> None:
    patched = hub_spec.merged_spec(checked(agent="echo"), {"agent": None})
    assert "agent" not in hub_spec.checked_spec(patched, list)


def test_an_unknown_agent_is_told_the_known_ones() -> None:
    with pytest.raises(ForbiddenTextError, match="it has: a, b, default"):
        hub_spec.checked_spec({"version": "1", "agent": "c"}, lambda: ["b", "a"])


@pytest.mark.parametrize(
    "agent",
    [
        "other",
        "python:os:system",
        "os.system",
        "/bin/sh",
        "http://x",
        {"module": "os"},
        ["echo"],
        1,
        "",
        "Echo",
        "a" * 65,
    ],
)
def test_anything_but_a_declared_name_is_refused(agent: Any) -> None:
    with pytest.raises(ForbiddenTextError, match=r"spec\.agent"):
        checked(agent=agent)


@pytest.mark.parametrize(
    "key", ["agent_module", "agentUrl", "agents", "agent-command", "AGENT", "module", "command", "entry_point", "exec"]
)
def test_no_key_may_name_code_or_an_address_for_the_agent(key: str) -> None:
    with pytest.raises(ForbiddenTextError, match="declared by the operator"):
        checked(**{key: "x"})


def test_other_keys_are_the_callers_own() -> None:
    assert checked(catalog={"title": "Kitchen", "x": [1]}, theme="dark")["theme"] == "dark"


def test_secrets_are_dropped_at_any_depth() -> None:
    spec = checked(apiKey="x", theme={"password": "x", "dark": True}, catalog={"list": [{"token": "x"}]})
    assert (spec["theme"], spec["catalog"]) == ({"dark": True}, {"list": [{}]})
    assert "apiKey" not in spec


def test_the_public_part_is_what_a_stranger_needs_to_connect() -> None:
    spec = {**checked(theme="dark", catalog={"title": "x"}), "protocols": {"wss": {"enabled": True, "token": "x"}}}
    public = hub_spec.public_part(spec)
    assert public == {"version": "1", "catalog": {"title": "x"}, "protocols": {"wss": {"enabled": True}}}


@pytest.mark.parametrize(("limits", "size"), [(None, 4 << 20), ({}, 4 << 20), ({"max_message_bytes": 1024}, 1024)])
def test_the_largest_message_is_a_setting(limits: Any, size: int) -> None:
    assert hub_spec.max_message(checked(limits=limits)) == size


@pytest.mark.parametrize(
    "limits", [[], {"max_message_bytes": 1}, {"max_message_bytes": 1 << 26}, {"max_message_bytes": True}]
)
def test_limits_out_of_bounds_are_refused(limits: Any) -> None:
    with pytest.raises(ForbiddenTextError, match=r"spec\.limits"):
        checked(limits=limits)


def test_the_title_is_the_catalogs_else_the_name() -> None:
    assert hub_spec.title(checked(catalog={"title": "Kitchen"}), "k") == "Kitchen"
    for catalog in (None, {}, {"title": " "}, "text"):
        assert hub_spec.title(checked(catalog=catalog), "k") == "k"


@pytest.mark.parametrize("title", [1, "a/b", "x" * 201])
def test_a_title_is_a_name(title: Any) -> None:
    with pytest.raises(ForbiddenTextError, match=r"catalog\.title"):
        checked(catalog={"title": title})


def test_a_patch_merges_key_by_key() -> None:
    spec = checked(protocols={"http": True}, catalog={"title": "Kitchen", "icon": "x"}, theme="dark")
    patch = {"protocols": {"mqtt": {"enabled": True}}, "catalog": {"icon": None}, "theme": None}
    merged = hub_spec.checked_spec(hub_spec.merged_spec(spec, patch), lambda: ["echo"])
    assert hub_spec.carriers(merged) == {"wss", "https", "mqtt"}
    assert merged["catalog"] == {"title": "Kitchen"}
    assert "theme" not in merged
    assert merged["version"] == "1"


def test_a_patch_in_another_spelling_reaches_the_same_flag() -> None:
    spec = checked(protocols={"http": True})
    assert hub_spec.carriers(checked(**hub_spec.merged_spec(spec, {"protocols": {"https": False}}))) == {"wss"}
    assert hub_spec.carriers(checked(**hub_spec.merged_spec(spec, {"protocols": {"wss": False}}))) == {"https"}


def test_a_patch_changes_neither_of_its_arguments() -> None:
    spec, patch = {"version": "1", "a": {"b": 1}}, {"a": {"c": 2}}
    assert hub_spec.merged_spec(spec, patch) == {"version": "1", "a": {"b": 1, "c": 2}}
    assert spec == {"version": "1", "a": {"b": 1}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=12,
)
keys = st.sampled_from(["version", "protocols", "agent", "catalog", "limits", "wss", "https", "mqtt", "x"])


@given(st.dictionaries(keys, json_values, max_size=6), st.dictionaries(keys, json_values, max_size=6))
def test_any_spec_is_checked_or_refused_and_checking_twice_changes_nothing(
    spec: dict[str, Any], patch: dict[str, Any]
) -> None:
    try:
        once = hub_spec.checked_spec(hub_spec.merged_spec(spec, patch), lambda: ["echo"])
    except ForbiddenTextError:
        return
    assert hub_spec.checked_spec(once, lambda: ["echo"]) == once
    assert hub_spec.carriers(once) <= {"wss", "https", "mqtt"}
    assert hub_spec.mqtt_via(once) == once["protocols"]["mqtt"]["via"]
    assert hub_spec.max_message(once) >= 1024
