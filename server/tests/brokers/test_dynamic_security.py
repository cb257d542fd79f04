# SPDX-License-Identifier: Apache-2.0
"""The plugin's language: what is asked is answered, what is written is read back, and rubbish is one declared error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.brokers.base import Grants
from thalovant_server.brokers.dynamic_security import (
    EVERYTHING,
    KINDS,
    Acl,
    AnswerError,
    Command,
    Dialogue,
    Response,
    acls_of,
    grants_of,
    read_defaults,
    read_page,
    read_role,
    read_user,
)

TOPICS = st.frozensets(st.text("abc/+#$", min_size=1, max_size=6), max_size=4)
GRANTS = st.builds(
    lambda publish, receive, subscribe, patterns: Grants(publish, receive, subscribe, patterns and bool(subscribe)),
    TOPICS, TOPICS, TOPICS, st.booleans(),
)  # fmt: skip
OPEN = st.frozensets(st.sampled_from(KINDS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
COMMANDS = [Command("getRole", {"rolename": "r"}), Command("getClient", {"username": "u"})]


def answer(asked: bytes, **more: Any) -> dict[str, Any]:
    """What the plugin says when it has done everything."""
    commands = json.loads(asked)["commands"]
    return {"responses": [{"command": c["command"], "correlationData": c["correlationData"], **more} for c in commands]}


def lines(acls: list[dict[str, Any]]) -> list[Acl]:
    """Lines as a role of the plugin has them."""
    return read_role({"rolename": "r", "acls": acls})[1]


def test_a_request_is_its_commands_in_order_each_with_a_mark_of_its_own() -> None:
    said = json.loads(Dialogue("m").ask(COMMANDS))
    assert said == {
        "commands": [
            {"command": "getRole", "rolename": "r", "correlationData": "m.1.0"},
            {"command": "getClient", "username": "u", "correlationData": "m.1.1"},
        ]
    }


def test_an_answer_is_a_response_to_each_command() -> None:
    dialogue = Dialogue("m")
    said = answer(dialogue.ask(COMMANDS), data={"x": 1})
    said["responses"][1]["error"] = "Client not found"
    assert dialogue.answered(json.dumps(said).encode()) == (
        Response("getRole", None, {"x": 1}),
        Response("getClient", "Client not found", {"x": 1}),
    )


def test_an_answer_to_somebody_else_or_to_what_was_asked_before_is_none() -> None:
    dialogue, other = Dialogue("m"), Dialogue("n")
    before = answer(dialogue.ask(COMMANDS))
    dialogue.ask(COMMANDS)
    theirs = answer(other.ask(COMMANDS))
    unmarked = {"responses": [{"command": "getRole"}]}
    assert [dialogue.answered(json.dumps(each).encode()) for each in (before, theirs, unmarked)] == [None] * 3


WRONG: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "one lacks": lambda responses: responses[:1],
    "another order": lambda responses: responses[::-1],
    "one more": lambda responses: [*responses, {"command": "getRole"}],
    "other commands": lambda responses: [{**each, "command": "listRoles"} for each in responses],
    "data of another kind": lambda responses: [{**each, "data": 3} for each in responses],
    "no command": lambda responses: [{"correlationData": each["correlationData"]} for each in responses],
    "no objects": lambda responses: [*responses, 3],  # type: ignore[list-item]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_that_is_not_to_what_was_asked_is_an_error(wrong: str) -> None:
    dialogue = Dialogue("m")
    responses = WRONG[wrong](answer(dialogue.ask(COMMANDS))["responses"])
    with pytest.raises(AnswerError):
        dialogue.answered(json.dumps({"responses": responses}).encode())


@given(st.binary(max_size=64) | JSON.map(lambda said: json.dumps(said).encode()))
def test_rubbish_is_none_or_the_declared_error(payload: bytes) -> None:
    dialogue = Dialogue("m")
    dialogue.ask(COMMANDS)
    try:
        assert dialogue.answered(payload) is None
    except AnswerError as error:
        assert str(error)


@given(JSON, st.lists(JSON, max_size=3))
def test_a_marked_answer_with_rubbish_in_it_raises_nothing_else(rubbish: Any, more: list[Any]) -> None:
    dialogue = Dialogue("m")
    said = answer(dialogue.ask(COMMANDS), data=rubbish, error=rubbish)
    said["responses"] += more
    try:
        responses = dialogue.answered(json.dumps(said).encode())
    except AnswerError:
        return
    assert responses is not None and len(responses) == len(COMMANDS)


@pytest.mark.parametrize(
    "read",
    [
        read_user,
        read_role,
        lambda said: read_page(Response("x", None, said if isinstance(said, dict) else {}), "clients"),
        lambda said: read_defaults(Response("x", None, said if isinstance(said, dict) else {})),
    ],
)
@given(
    JSON
    | st.dictionaries(
        st.sampled_from(["username", "textname", "rolename", "roles", "groups", "acls", "clients", "totalCount"]), JSON
    )
)
def test_what_is_read_of_rubbish_is_the_declared_error(read: Callable[[Any], Any], said: Any) -> None:
    try:
        read(said)
    except AnswerError as error:
        assert str(error)


@given(GRANTS, OPEN)
def test_grants_are_read_as_they_were_written(grants: Grants, open_kinds: frozenset[Any]) -> None:
    assert grants_of(lines(acls_of(grants, open_kinds)), open_kinds) == grants


@given(GRANTS, OPEN, OPEN)
def test_a_role_that_denies_more_than_it_has_to_is_right_and_one_that_denies_less_is_not(
    grants: Grants, written: frozenset[Any], needed: frozenset[Any]
) -> None:
    found = grants_of(lines(acls_of(grants, written)), needed)
    assert found == (grants if needed <= written else None)


@given(GRANTS, st.data())
def test_a_line_more_or_less_is_seen(grants: Grants, data: st.DataObject) -> None:
    acls = acls_of(grants, KINDS)
    lacking = data.draw(st.sampled_from(acls))
    fewer = [each for each in acls if each != lacking]
    assert grants_of(lines(fewer), KINDS) != grants
    more = {"acltype": "publishClientSend", "topic": "another", "priority": 0, "allow": True}
    assert grants_of(lines([*acls, more]), KINDS) != grants


@pytest.mark.parametrize(
    "line",
    [
        Acl("publishClientSend", "a", True, 1),  # ahead of what it should be behind
        Acl("publishClientSend", "a", False, 0),
        Acl("subscribePattern", "#", False, 1),
        Acl("subscribeLiteral", "only this", True, 0),  # and no unsubscribe
        Acl("another", "a", True, 0),
    ],
)
def test_a_line_that_we_never_write_makes_a_role_unknown(line: Acl) -> None:
    assert grants_of([line], ()) is None


def test_a_role_closes_what_the_broker_opens_also_below_dollar() -> None:
    denied = {(each["acltype"], each["topic"]) for each in acls_of(Grants(*[frozenset()] * 3), ["subscribe"])}
    assert denied == {("subscribePattern", topic) for topic in EVERYTHING}
    assert {"#", "$SYS/#", "$CONTROL/#", "$share/#"} == set(EVERYTHING)


def test_defaults_and_pages_are_read() -> None:
    acls = [{"acltype": kind, "allow": kind == "subscribe"} for kind in KINDS]
    assert read_defaults(Response("x", None, {"acls": acls})) == {"subscribe"}
    assert read_page(Response("x", None, {"totalCount": 7, "clients": [1]}), "clients") == ([1], 7)


def test_a_user_is_read_with_what_it_leaves_out() -> None:
    user = read_user({"username": "u", "roles": [{"rolename": "r", "priority": 3}], "disabled": True})
    assert (user.name, user.text_name, user.roles, user.in_groups, user.enabled) == ("u", "", ("r",), False, False)


def test_no_password_shows_in_a_command() -> None:
    assert "secret" not in repr(Command("createClient", {"password": "secret"}))
