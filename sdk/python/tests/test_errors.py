# SPDX-License-Identifier: Apache-2.0
"""Errors: stable codes, sentences with advice, the mapping of the control plane's answers (contract 1.5)."""

from __future__ import annotations

import copy
import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalovant.errors as errors
from thalovant.errors import (
    ThalovantAdmissionFailedError,
    ThalovantAlreadyLinkedError,
    ThalovantAPIError,
    ThalovantAPIUnreachableError,
    ThalovantAuthError,
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantDeviceLoginPending,
    ThalovantError,
    ThalovantPlanError,
    ThalovantPolicyDeniedError,
    ThalovantQuota,
    ThalovantUnansweredError,
    ThalovantUnsupportedConnectionTypeError,
    api_error_from_response,
)

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ThalovantError)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = [
    "type",
    "title",
    "status",
    "detail",
    "errors",
    "message",
    "error",
    "code",
    "retry_after_seconds",
    "client_id",
    "loc",
    "msg",
]


def problem(status: int, **members: Any) -> bytes:
    return json.dumps({"type": "about:blank", "title": "T", "status": status} | members).encode()


def test_each_class_has_its_own_stable_code_and_the_exit_code() -> None:
    codes = [error.code for error in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)
    assert {error.exit_code for error in CLASSES} == {1}


def test_the_whole_tree_is_drawn_in_the_module() -> None:
    assert errors.__doc__ is not None
    assert all(error.__name__ in errors.__doc__ for error in CLASSES)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_caught_by_the_root_and_can_be_pickled(error: type[ThalovantError]) -> None:
    made = error("what happened")
    assert isinstance(made, ThalovantError)
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert (type(again), str(again), again.code) == (error, str(made), made.code)
        assert vars(again) == vars(made)


# (status, members, expected class, message): the wording of the recorded samples of the hosted API.
ANSWERS = [
    (401, {"detail": "Invalid email or password"}, ThalovantAuthError, "401: Invalid email or password"),
    (
        401,
        {"detail": "A one-time code is required", "code": "mfa_required"},
        ThalovantAuthError,
        "401: A one-time code is required (mfa_required)",
    ),
    (423, {"detail": "Locked"}, ThalovantAuthError, "423: Locked"),
    (403, {"detail": "Insufficient scopes"}, ThalovantAuthError, "403: Insufficient scopes"),
    (403, {"detail": "insufficient scopes"}, ThalovantAPIError, "403: insufficient scopes"),
    (403, {"detail": "Ownership required"}, ThalovantAPIError, "403: Ownership required"),
    (
        402,
        {"detail": "API access requires a paid plan."},
        ThalovantPlanError,
        "402: API access requires a paid plan.",
    ),
    (
        403,
        {"detail": "This plan allows up to 1 client.", "code": "plan_limit"},
        ThalovantPlanError,
        "403: This plan allows up to 1 client. (plan_limit)",
    ),
    (404, {"detail": "Hub not found"}, ThalovantAPIError, "404: Hub not found"),
    (409, {"detail": "Taken"}, ThalovantAPIError, "409: Taken"),
    (412, {"detail": "ETag mismatch"}, ThalovantAPIError, "412: ETag mismatch"),
    (500, {}, ThalovantAPIError, "500"),
    (400, {"message": "m", "error": "e"}, ThalovantAPIError, "400: m"),
    (400, {"error": "e"}, ThalovantAPIError, "400: e"),
    (400, {"detail": "d", "message": "m"}, ThalovantAPIError, "400: d"),
    (400, {"detail": {"detail": "inside", "code": "c"}}, ThalovantAPIError, "400 (c)"),
    (422, {"detail": [{"loc": ["body"], "msg": "no"}]}, ThalovantAPIError, "422"),
]


@pytest.mark.parametrize(("status", "members", "expected", "message"), ANSWERS)
def test_an_answer_becomes_the_error_the_contract_names(
    status: int, members: dict[str, Any], expected: type[ThalovantAPIError], message: str
) -> None:
    error = api_error_from_response(status, {}, problem(status, **members))
    assert type(error) is expected
    assert str(error) == f"Thalovant API request failed with HTTP {message}"
    assert error.status_code == status
    assert error.problem is not None
    assert error.problem["title"] == "T"


def test_the_servers_code_wins_over_the_class() -> None:
    assert api_error_from_response(401, {}, problem(401, code="mfa_required")).code == "mfa_required"
    assert api_error_from_response(401, {}, problem(401)).code == "not_authorized"
    assert api_error_from_response(401, {}, problem(401, code="no spaces allowed")).code == "not_authorized"
    assert api_error_from_response(401, {}, problem(401, code="x" * 81)).code == "not_authorized"


def test_detail_is_kept_whole_and_the_message_is_one_short_line() -> None:
    text = "first\nsecond\t" + "x" * 400
    error = api_error_from_response(400, {}, problem(400, detail=text))
    assert error.detail == text
    shown = str(error).removeprefix("Thalovant API request failed with HTTP 400: ")
    assert shown.startswith("first second x")
    assert len(shown) == 200


def test_members_inside_an_object_detail_are_read() -> None:
    body = problem(
        409,
        detail={
            "code": "home_assistant_already_linked",
            "detail": "d",
            "existing_client_id": "c-1",
            "retry_after_seconds": 2.5,
        },
    )
    error = api_error_from_response(409, {}, body)
    assert isinstance(error, ThalovantAlreadyLinkedError)
    assert (error.client_id, error.detail, error.retry_after_seconds) == ("c-1", "d", 2.5)


@pytest.mark.parametrize("name", ["client_id", "existing_client_id", "connection_id"])
def test_the_linked_client_is_named(name: str) -> None:
    body = problem(409, code="home_assistant_already_linked", **{name: "client-0"})
    error = api_error_from_response(409, {}, body)
    assert isinstance(error, ThalovantAlreadyLinkedError)
    assert error.client_id == "client-0"


@pytest.mark.parametrize(
    ("headers", "member", "expected"),
    [
        ({"Retry-After": "7"}, 3, 3.0),
        ({"Retry-After": "7"}, None, 7.0),
        ({"retry-after": "7", "RateLimit-Reset": "9"}, None, 7.0),
        ({"RateLimit-Reset": "9"}, None, 9.0),
        ({"Retry-After": "1.5", "ratelimit-reset": "9"}, None, 9.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, None),
        ({"Retry-After": "-1"}, None, None),
        ({"Retry-After": "7"}, -1, 7.0),
        ({"Retry-After": "7"}, True, 7.0),
        ({"Retry-After": "7"}, "5", 7.0),
        ({"Retry-After": "7"}, 0, 0.0),
        ({}, None, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], member: Any, expected: float | None) -> None:
    error = api_error_from_response(429, headers, problem(429, retry_after_seconds=member))
    assert error.retry_after_seconds == expected


@pytest.mark.parametrize(
    "members",
    [
        {"detail": "connection_type is unknown"},
        {"code": "connectionType"},
        {"errors": [{"loc": ["body", "spec", "connection_type"], "msg": "no"}]},
        {"errors": [{"loc": ["body"], "msg": "bad connectionType"}]},
        {"detail": [{"loc": ["body", "connection_type"], "msg": "no"}]},
    ],
)
def test_a_kind_the_server_cannot_make(members: dict[str, Any]) -> None:
    error = api_error_from_response(422, {}, problem(422, **members), connection_type="toaster")
    assert type(error) is ThalovantUnsupportedConnectionTypeError
    assert str(error) == "The Thalovant API cannot create a 'toaster' connection yet."
    assert type(api_error_from_response(422, {}, problem(422, **members))) is ThalovantAPIError


def test_other_members_do_not_make_it_an_unsupported_kind() -> None:
    body = problem(422, message="connection_type", errors=[{"input": "connection_type"}])
    assert type(api_error_from_response(422, {}, body, connection_type="toaster")) is ThalovantAPIError


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_error_that_says_so(status: int) -> None:
    error = api_error_from_response(status, {"Location": "https://elsewhere"}, b"")
    assert "redirects are disabled" in str(error)
    assert "elsewhere" not in str(error)


@pytest.mark.parametrize("body", [None, b"", "", b"\xff\xfe", b"[1]", b"null", "<html>", b"[" * 5000, "\ud800"])
def test_a_body_that_is_no_problem_still_makes_an_error(body: Any) -> None:
    error = api_error_from_response(502, {}, body)
    assert (str(error), error.problem) == ("Thalovant API request failed with HTTP 502", None)


def test_a_token_the_server_echoed_does_not_get_into_the_message() -> None:
    error = api_error_from_response(400, {}, problem(400, detail="bad token tvpat_0123456789abcdef"))
    assert "0123456789abcdef" not in str(error) + repr(error)


@settings(deadline=None)
@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["Retry-After", "RateLimit-Reset", "x"]), st.text(max_size=12)),
    st.dictionaries(st.sampled_from(MEMBERS), JSON) | st.none() | st.binary(max_size=40),
    st.none() | st.just("kind"),
)
def test_any_answer_becomes_an_error_and_never_raises(
    status: int, headers: dict[str, str], body: Any, kind: str | None
) -> None:
    error = api_error_from_response(status, headers, body, connection_type=kind)
    assert isinstance(error, ThalovantAPIError)
    assert error.code
    assert str(error).isprintable()


def test_constructor_fields() -> None:
    linked = ThalovantAlreadyLinkedError("m", client_id="c", status_code=409, code="k", detail="d")
    assert (linked.client_id, linked.status_code, linked.code, linked.detail) == ("c", 409, "k", "d")
    pending = ThalovantDeviceLoginPending("m", status_code=400)
    assert (pending.interval, pending.status_code, pending.code) == (5.0, 400, "device_login_pending")
    rejected = ThalovantClientKeyRejectedError("m", key_folder="a", other_key_folder="b")
    assert (rejected.key_folder, rejected.other_key_folder) == ("a", "b")
    failed = ThalovantAdmissionFailedError("m", error_code="hub_offline", status_code=500, problem={"a": 1})
    assert (failed.error_code, failed.status_code, failed.code) == ("hub_offline", 500, "admission_failed")
    assert ThalovantAPIError("m", problem={"retry_after_seconds": 3, "code": "c"}).retry_after_seconds == 3.0
    assert isinstance(ThalovantAPIUnreachableError("m"), ThalovantConnectionError)


def test_an_unanswered_ask_shows_what_was_said() -> None:
    assert str(ThalovantUnansweredError("book me a flight")) == "book me a flight"
    assert ThalovantUnansweredError("q").said == "q"
    assert str(ThalovantUnansweredError())
    assert ThalovantUnansweredError().said == ""


REFUSED = "The hub refused 'recognizer_loop:utterance'"


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (
            "acl_disallowed_type",
            "no",
            f"{REFUSED}: no. Allow 'recognizer_loop:utterance' in the policy of this client at the server.",
        ),
        (
            "backend_unavailable",
            "bus down",
            "The hub could not reach its assistant: bus down. Try again shortly.",
        ),
        ("backend_unavailable", "", "The hub could not reach its assistant. Try again shortly."),
        ("new_code", "because.", f"{REFUSED}: because."),
        ("malformed_payload", "bad", f"{REFUSED}: bad. Send data of the shape this type needs."),
    ],
)
def test_a_refusal_says_what_to_do(code: str, reason: str, message: str) -> None:
    error = ThalovantPolicyDeniedError("recognizer_loop:utterance", code=code, reason=reason)
    assert (str(error), error.code, error.reason) == (message, code, reason)


def test_a_refusal_without_a_code_still_has_one() -> None:
    assert ThalovantPolicyDeniedError("t").code == "policy_denied"


def test_a_refusal_is_read_from_its_event() -> None:
    data = {
        "denied_type": "recognizer_loop:utterance",
        "code": "intent_quota_exceeded",
        "reason": "spent",
        "data": {"period": "daily", "limit": 5, "used": 5, "reset_after": 60},
    }
    error = ThalovantPolicyDeniedError.from_event(SimpleNamespace(data=data))
    assert error.quota == ThalovantQuota("daily", 5, 5, 60)
    assert str(error) == f"{REFUSED}: 5 of 5 daily questions used; it resets in 60s."
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.quota, again.reason) == (str(error), error.quota, "spent")
    assert ThalovantPolicyDeniedError.from_event(data).quota == error.quota


@pytest.mark.parametrize(("limit", "words"), [(1, "1 message"), (60, "60 messages")])
def test_a_rate_limit_says_how_long_to_wait(limit: int, words: str) -> None:
    quota = {"period": "10s", "limit": limit, "used": limit, "reset_after": 3}
    data = {"denied_type": "recognizer_loop:utterance", "code": "rate_limited", "reason": "too fast", "data": quota}
    error = ThalovantPolicyDeniedError.from_event(data)
    assert error.quota == ThalovantQuota("10s", limit, limit, 3)
    assert str(error) == f"{REFUSED}: this client may send {words} in 10s; wait 3s."


@settings(deadline=None)
@given(st.none() | JSON | st.builds(SimpleNamespace, data=JSON))
def test_a_malformed_refusal_never_raises(event: Any) -> None:
    assert str(ThalovantPolicyDeniedError.from_event(event)).isprintable()


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["denied_type", "code", "reason", "data"]), JSON),
    st.dictionaries(st.sampled_from(["period", "limit", "used", "reset_after", "allowed"]), JSON),
)
def test_a_half_malformed_refusal_never_raises(data: dict[str, Any], inner: dict[str, Any]) -> None:
    error = ThalovantPolicyDeniedError.from_event(
        SimpleNamespace(data={"code": "intent_quota_exceeded"} | data | {"data": inner})
    )
    assert str(error).isprintable()
    assert all(isinstance(name, str) for name in error.allowed)
