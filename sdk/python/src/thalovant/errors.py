# SPDX-License-Identifier: Apache-2.0
"""Every error this SDK raises, in one tree. Raises nothing itself, opens nothing, logs nothing.

Names, bases and constructors: `contract/python-surface.json`. The tree:

    ThalovantError
    ├── ThalovantIdentityError                      the identity is missing, broken or cannot be used
    ├── ThalovantUnsupportedProtocolError           this identity has no such way to its hub
    ├── ThalovantTimeoutError                       the deadline passed
    │   └── ThalovantAdmissionTimeoutError          (see below)
    ├── ThalovantRuntimeError                       the hub was reached, the request failed there
    │   ├── ThalovantPolicyDeniedError              the hub's policy refused it (`.quota`, `.allowed`)
    │   └── ThalovantUnansweredError                the hub has no answer to it (`.said`)
    ├── ThalovantConnectionError                    no connection, or it was lost
    │   ├── ThalovantHubRefusedError                the hub does not accept these credentials
    │   │   └── ThalovantClientKeyRejectedError     it knows this client under another key
    │   ├── ThalovantHubKeyChangedError             this is not the hub that was trusted before
    │   ├── ThalovantPublishDeniedError             the broker did not take what this client published (`.topic_kind`)
    │   │   └── ThalovantPublishTooLargeError       because it is longer than the broker takes (`.limit`)
    │   ├── ThalovantAdmissionFailedError           the hub could not take the new client up
    │   ├── ThalovantAdmissionTimeoutError          it did not do so in time (also a ThalovantTimeoutError)
    │   └── ThalovantAPIUnreachableError            (see below)
    └── ThalovantAPIError                           the control plane said no
        ├── ThalovantAuthError                      not signed in, locked, or a scope is missing
        ├── ThalovantPlanError                      the account's plan does not hold it
        ├── ThalovantAlreadyLinkedError             there is such a link already (`.client_id`)
        ├── ThalovantUnsupportedConnectionTypeError this server cannot make such a connection
        ├── ThalovantDeviceLoginPending             nobody has answered in the browser yet (`.interval`)
        ├── ThalovantDeviceLoginDenied              somebody said no in the browser
        ├── ThalovantDeviceLoginExpired             nobody answered in time
        └── ThalovantAPIUnreachableError            the API was not reached (also a connection error)

Each class has a stable `code` (for programs; an API error and a refusal carry the server's own code where
it gave one) and an `exit_code` (for the command line). The text is for people: what happened, what to do.
No text, `repr` or attribute is made from a request, so none holds a credential of ours. Where it is known what is
wrong on the way to a hub, `diagnosis` is the entry of `diagnoses` that the text is made of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from thalovant.diagnoses import Diagnosis

__all__ = [
    "ThalovantAPIError",
    "ThalovantAPIUnreachableError",
    "ThalovantAdmissionFailedError",
    "ThalovantAdmissionTimeoutError",
    "ThalovantAlreadyLinkedError",
    "ThalovantAuthError",
    "ThalovantClientKeyRejectedError",
    "ThalovantConnectionError",
    "ThalovantDeviceLoginDenied",
    "ThalovantDeviceLoginExpired",
    "ThalovantDeviceLoginPending",
    "ThalovantError",
    "ThalovantHubKeyChangedError",
    "ThalovantHubRefusedError",
    "ThalovantIdentityError",
    "ThalovantPlanError",
    "ThalovantPolicyDeniedError",
    "ThalovantPublishDeniedError",
    "ThalovantPublishTooLargeError",
    "ThalovantQuota",
    "ThalovantRuntimeError",
    "ThalovantTimeoutError",
    "ThalovantUnansweredError",
    "ThalovantUnsupportedConnectionTypeError",
    "ThalovantUnsupportedProtocolError",
    "api_error_from_response",
]

_MESSAGE_CHARS = 200
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_WHOLE_SECONDS = re.compile(r"[0-9]{1,9}")
_USED_UP = ("intent_quota_exceeded", "rate_limited")
_TOKEN = re.compile(r"tvpat_[A-Za-z0-9_-]+")


class ThalovantError(Exception):
    """The root: `except ThalovantError` catches whatever this SDK raises on purpose.

    `diagnosis` says what is wrong and what to do about it, in the words and codes of `thalovant doctor`, where known.
    """

    code: str = "thalovant_error"
    exit_code: int = 1
    diagnosis: Diagnosis | None = None


class ThalovantIdentityError(ThalovantError):
    """The identity (who connects, where to, with which secrets) is missing, broken or unusable."""

    code = "identity_invalid"


class ThalovantUnsupportedProtocolError(ThalovantError):
    """The asked-for way to the hub is not in this identity, or not in this SDK."""

    code = "unsupported_protocol"


class ThalovantTimeoutError(ThalovantError):
    """The deadline passed. Nothing is known about what the other side did meanwhile.

    `attempts` is as in `ThalovantConnectionError`.
    """

    code = "timeout"
    attempts: tuple[tuple[str, str], ...] = ()


class ThalovantRuntimeError(ThalovantError):
    """The hub was reached and the request failed there, or the call makes no sense now."""

    code = "request_failed"


class ThalovantUnansweredError(ThalovantRuntimeError):
    """The hub understood nothing and no fallback spoke (contract 9.2: unmatched).

    `said` is what it did not understand; it is also the message, so that a caller can show it.
    """

    code = "unanswered"

    def __init__(self, said: str = "") -> None:
        super().__init__(said or "The hub has no answer to this. Ask in other words.")
        self.said = said


@dataclass(frozen=True)
class ThalovantQuota:
    """How much of a question quota or a rate limit is used: `used` of `limit` a `period`; wait `reset_after` seconds.

    `period` is "daily" for a quota (code `intent_quota_exceeded`) and like "60s" for a rate (code `rate_limited`).
    """

    period: str
    limit: int
    used: int
    reset_after: int

    @classmethod
    def from_data(cls, data: object) -> ThalovantQuota | None:
        """Read a refusal's nested data; None when it does not say all four (contract 9.4)."""
        if not isinstance(data, Mapping):
            return None
        period = data.get("period")
        numbers = [data.get(name) for name in ("limit", "used", "reset_after")]
        whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
        return cls(period, *whole) if isinstance(period, str) and period and len(whole) == 3 else None


class ThalovantPolicyDeniedError(ThalovantRuntimeError):
    """The hub's policy refused a message (contract 9.4, `hive.policy.denied`).

    `denied_type` is the refused message type, `code` the hub's own code ("policy_denied" when it gave none),
    `reason` its text, `allowed` the types this connection may send if it said so, `quota` the used-up quota.
    """

    code = "policy_denied"

    def __init__(
        self,
        denied_type: str,
        *,
        code: str = "",
        reason: str = "",
        allowed: tuple[str, ...] = (),
        quota: ThalovantQuota | None = None,
    ) -> None:
        self.denied_type = denied_type
        self.reason = reason
        self.allowed = allowed
        self.quota = quota
        if code:
            self.code = code
        super().__init__(_denial_message(denied_type, code, _one_line(reason), quota))

    @classmethod
    def from_event(cls, event: Any) -> ThalovantPolicyDeniedError:
        """Read a `hive.policy.denied` event (anything with `data`); the malformed counts as not said."""
        data = getattr(event, "data", event)
        data = data if isinstance(data, Mapping) else {}
        inner = data.get("data")
        inner = inner if isinstance(inner, Mapping) else {}
        code = _text(data.get("code"))
        return cls(
            _text(data.get("denied_type")),
            code=code,
            reason=_text(data.get("reason")),
            allowed=_texts(inner.get("allowed")),
            quota=ThalovantQuota.from_data(inner) if code in _USED_UP else None,
        )

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        # The default would hand the finished sentence to the constructor as the denied type.
        code = vars(self).get("code", "")
        again = partial(
            type(self),
            self.denied_type,
            code=code,
            reason=self.reason,
            allowed=self.allowed,
            quota=self.quota,
        )
        return again, ()


class ThalovantConnectionError(ThalovantError):
    """There is no connection to the hub, or it was lost before the answer was complete.

    `attempts` names the carriers that were tried, each with its reason, when the error is about connecting.
    """

    code = "connection_failed"
    attempts: tuple[tuple[str, str], ...] = ()


class ThalovantHubRefusedError(ThalovantConnectionError):
    """The hub does not accept these credentials. Trying again does not help; a new identity does."""

    code = "hub_refused"


class ThalovantClientKeyRejectedError(ThalovantHubRefusedError):
    """The hub knows this client under another Noise key than the one kept here (contract 4.2).

    `key_folder` is the folder this connection took its key from, `other_key_folder` one that also holds a key
    for this identity and may be the right one; both are paths, no secrets.
    """

    code = "client_key_rejected"

    def __init__(self, *args: object, key_folder: str | None = None, other_key_folder: str | None = None) -> None:
        super().__init__(*args)
        self.key_folder = key_folder
        self.other_key_folder = other_key_folder


class ThalovantHubKeyChangedError(ThalovantConnectionError):
    """The hub shows another key than before: somebody else, or a hub set up anew (contract 4.2)."""

    code = "hub_key_changed"


class ThalovantPublishDeniedError(ThalovantConnectionError):
    """The broker did not take a message that this client published (MQTT 5, PUBACK). Sending it again does not help.

    The session it belonged to is over, for what comes after a lost frame cannot be read. `topic_kind` is "c2s" or
    "status", as the identity's fields are named; `reason` the broker's own words, if any; `reason_code` MQTT's number.
    """

    code = "publish_denied"

    def __init__(
        self, *args: object, topic_kind: str | None = None, reason: str = "", reason_code: int | None = None
    ) -> None:
        super().__init__(*args)
        self.topic_kind = topic_kind
        self.reason = reason
        self.reason_code = reason_code


class ThalovantPublishTooLargeError(ThalovantPublishDeniedError):
    """A message is longer than the broker takes: `size` and `limit` are bytes of the MQTT packet, None if not known."""

    code = "publish_too_large"

    def __init__(self, *args: object, size: int | None = None, limit: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.size = size
        self.limit = limit


class ThalovantAdmissionFailedError(ThalovantConnectionError):
    """The control plane made the client, the hub could not take it up (contract 4.2 of the control plane).

    `error_code` is the operation's code; `status_code`, `code`, `detail`, `problem` as in `ThalovantAPIError`
    when the question itself was refused.
    """

    code = "admission_failed"

    def __init__(
        self,
        *args: object,
        error_code: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        detail: str | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(*args)
        self.error_code = error_code
        self.status_code = status_code
        if code:
            self.code = code
        self.detail = detail
        self.problem = problem


class ThalovantAdmissionTimeoutError(ThalovantConnectionError, ThalovantTimeoutError):
    """The hub did not take the client up in time. It still may: wait again for the same operation."""

    code = "admission_timeout"


class ThalovantAPIError(ThalovantError):
    """The control plane answered with an error, or with something that is no answer (contract 1.4, 1.5).

    `status_code` is the HTTP status (None: nothing was sent or nothing came back), `code` the server's code
    ("api_error" or the class's own when it gave none), `detail` its whole text, `problem` its whole JSON
    object, `retry_after_seconds` how long it asks to wait.
    """

    code = "api_error"

    def __init__(
        self,
        *args: object,
        status_code: int | None = None,
        code: str | None = None,
        detail: str | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(*args)
        self.status_code = status_code
        if given := code or _server_code(problem or {}):
            self.code = given
        self.detail = detail
        self.problem = problem
        self.retry_after_seconds = _named_wait(problem)


class ThalovantAPIUnreachableError(ThalovantAPIError, ThalovantConnectionError):
    """The control plane was not reached: name, network, certificate or time."""

    code = "api_unreachable"


class ThalovantAuthError(ThalovantAPIError):
    """Not signed in, the sign-in ran out, the account is locked, or the token lacks a scope."""

    code = "not_authorized"


class ThalovantPlanError(ThalovantAPIError):
    """The account's plan does not hold this; `problem` names `resource`, `limit` and `used`."""

    code = "plan_limit"


class ThalovantAlreadyLinkedError(ThalovantAPIError):
    """There is such a link already; `client_id` names the client that holds it, if the server said so."""

    code = "already_linked"

    def __init__(self, *args: object, client_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client_id = client_id


class ThalovantUnsupportedConnectionTypeError(ThalovantAPIError):
    """This server cannot make a connection of the asked-for kind."""

    code = "unsupported_connection_type"


class ThalovantDeviceLoginPending(ThalovantAPIError):
    """Nobody has answered in the browser yet: ask again after `interval` seconds."""

    code = "device_login_pending"

    def __init__(self, *args: object, interval: float = 5.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interval = interval


class ThalovantDeviceLoginDenied(ThalovantAPIError):
    """Somebody refused the sign-in in the browser."""

    code = "device_login_denied"


class ThalovantDeviceLoginExpired(ThalovantAPIError):
    """Nobody answered in the browser before the code ran out: start the sign-in again."""

    code = "device_login_expired"


def api_error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes | str | Mapping[str, Any] | None,
    *,
    connection_type: str | None = None,
) -> ThalovantAPIError:
    """Make the error that an answer of the control plane stands for (contract 1.5); never raises.

    `status` is a status that is no success (redirects are none, contract 1.4), `headers` the answer's headers
    in any case, `body` its raw or parsed body. `connection_type` is the kind being created, if any: only then
    a 422 about it is a `ThalovantUnsupportedConnectionTypeError` (contract 3.4.5).
    """
    problem = _problem(body)
    shown = problem or {}
    code = _server_code(shown)
    detail = _detail(shown)
    kind = _error_class(status, code, detail)
    message = _api_message(status, shown, code)
    if status == 422 and connection_type is not None and _about_connection_type(shown):
        kind = ThalovantUnsupportedConnectionTypeError
        message = f"The Thalovant API cannot create a '{_one_line(connection_type)}' connection yet."
    error = kind(message, status_code=status, code=code, detail=detail, problem=problem)
    if isinstance(error, ThalovantAlreadyLinkedError):
        error.client_id = _linked_client(shown)
    if error.retry_after_seconds is None:
        error.retry_after_seconds = _header_wait(headers)
    return error


def _error_class(status: int, code: str | None, detail: str | None) -> type[ThalovantAPIError]:
    if status in (401, 423) or (status == 403 and detail == "Insufficient scopes"):
        return ThalovantAuthError
    if status == 402 or (status == 403 and code == "plan_limit"):
        return ThalovantPlanError
    if status == 409 and code == "home_assistant_already_linked":
        return ThalovantAlreadyLinkedError
    return ThalovantAPIError


def _api_message(status: int, problem: Mapping[str, Any], code: str | None) -> str:
    if 300 <= status < 400:
        return f"The Thalovant API answered HTTP {status}, but redirects are disabled. Check the API address."
    text = _message_text(problem)
    message = f"Thalovant API request failed with HTTP {status}"
    return message + (f": {text}" if text else "") + (f" ({code})" if code else "")


def _message_text(problem: Mapping[str, Any]) -> str:
    for name in ("detail", "message", "error"):
        value = problem.get(name)
        if isinstance(value, str) and value.strip():
            return _one_line(value)
        if name == "detail" and isinstance(value, Mapping):
            return ""  # the contract: members are read from inside it, the message then has no text
    return ""


def _problem(body: bytes | str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if body is None or isinstance(body, Mapping):
        return body
    try:
        parsed = orjson.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _member(problem: Mapping[str, Any], name: str) -> Any:
    """Look a member up, inside `detail` first when that is an object."""
    detail = problem.get("detail")
    if isinstance(detail, Mapping) and name in detail:
        return detail[name]
    return problem.get(name)


def _server_code(problem: Mapping[str, Any]) -> str | None:
    code = _member(problem, "code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _detail(problem: Mapping[str, Any]) -> str | None:
    detail = _member(problem, "detail")
    return detail if isinstance(detail, str) else None


def _linked_client(problem: Mapping[str, Any]) -> str | None:
    values = (_member(problem, name) for name in ("client_id", "existing_client_id", "connection_id"))
    return next((value for value in values if isinstance(value, str) and value), None)


def _named_wait(problem: Mapping[str, Any] | None) -> float | None:
    seconds = _member(problem, "retry_after_seconds") if isinstance(problem, Mapping) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return float(seconds) if math.isfinite(seconds) and seconds >= 0 else None


def _header_wait(headers: Mapping[str, str]) -> float | None:
    lower = {name.lower(): value for name, value in headers.items()}
    for name in ("retry-after", "ratelimit-reset"):
        value = lower.get(name, "").strip()
        if _WHOLE_SECONDS.fullmatch(value):
            return float(value)
    return None


def _about_connection_type(problem: Mapping[str, Any]) -> bool:
    """Search the members contract 3.4.5 names, no others, for the name of the field."""
    places: list[Any] = [problem.get("code"), problem.get("detail")]
    for entries in (problem.get("errors"), problem.get("detail")):
        if isinstance(entries, list):
            places += [entry.get(key) for entry in entries if isinstance(entry, Mapping) for key in ("loc", "msg")]
    words = " ".join(_words(place) for place in places)
    return "connection_type" in words or "connectionType" in words


def _words(place: object) -> str:
    if isinstance(place, list):
        return " ".join(part for part in place if isinstance(part, str))
    if isinstance(place, Mapping):
        return " ".join(value for value in place.values() if isinstance(value, str))
    return place if isinstance(place, str) else ""


def _denial_message(denied_type: str, code: str, reason: str, quota: ThalovantQuota | None) -> str:
    """The sentence of `vectors/ask-scenarios.json` for a refusal: what was refused, why, what to do."""
    because = f": {reason.rstrip('.')}" if reason else ""
    if code == "backend_unavailable":
        return f"The hub could not reach its assistant{because}. Try again shortly."
    refused = f"The hub refused '{_one_line(denied_type)}'"
    if quota is not None and code == "rate_limited":
        messages = "1 message" if quota.limit == 1 else f"{quota.limit} messages"
        return f"{refused}: this client may send {messages} in {_one_line(quota.period)}; wait {quota.reset_after}s."
    if quota is not None:
        used = f"{quota.used} of {quota.limit} {_one_line(quota.period)} questions used"
        return f"{refused}: {used}; it resets in {quota.reset_after}s."
    return f"{refused}{because}.{_denial_advice(denied_type, code)}"


def _denial_advice(denied_type: str, code: str) -> str:
    name = _one_line(denied_type)
    if code == "acl_disallowed_type":
        return f" Allow '{name}' in the policy of this client at the server."
    advice = {
        "session_id_default_forbidden": " Give the call a session_id of its own.",
        "malformed_payload": " Send data of the shape this type needs.",
        "intent_quota_exceeded": " The question quota is used up: try again later.",
        "policy_error": " Ask the hub's operator to look into its log.",
        "policy_chain_unavailable": " Ask the hub's operator to look into its log.",
    }
    return advice.get(code, "")


def _one_line(text: str) -> str:
    """Fold to one printable line of at most 200 characters, an API token in it hidden."""
    hidden = _TOKEN.sub("tvpat_...", text[: 4 * _MESSAGE_CHARS])
    printable = "".join(char if char.isprintable() else " " for char in hidden)
    return " ".join(printable.split())[:_MESSAGE_CHARS]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()
