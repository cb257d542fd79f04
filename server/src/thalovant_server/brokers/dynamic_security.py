# SPDX-License-Identifier: Apache-2.0
"""The language of Mosquitto's dynamic-security plugin, 2.0.11 and newer: commands out, answers in.

Sans-I/O. A request is one payload of commands, carried out in order; its answer is one payload with a response to
each. Answers go to everybody who listens, so each command has a mark of ours by which its response is known. What the
plugin will not do is a value; what is no answer at all is an `AnswerError`, and nothing else is ever raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from thalovant_server.brokers.base import Grants

REQUESTS = "$CONTROL/dynamic-security/v1"
ANSWERS = "$CONTROL/dynamic-security/v1/response"
EXISTS = frozenset({"Role already exists", "Client already exists"})
GONE = frozenset({"Role not found", "Client not found"})

Kind = Literal["publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"]
"""What the plugin allows or denies by default."""
KINDS: tuple[Kind, ...] = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")

EVERYTHING = ("#", "$SYS/#", "$CONTROL/#", "$share/#")  # `#` matches no topic that begins with $
_GRANTED, _CLOSED = 0, -1  # priorities: the higher one is looked at first
_DENIED: Mapping[Kind, str] = {
    "publishClientSend": "publishClientSend",
    "publishClientReceive": "publishClientReceive",
    "subscribe": "subscribePattern",
    "unsubscribe": "unsubscribePattern",
}


class AnswerError(Exception):
    """What came is no answer of the plugin; the text says in which way, and shows nothing of it."""


class Acl(NamedTuple):
    """One line of a role."""

    kind: str
    topic: str
    allow: bool
    priority: int


@dataclass(frozen=True, slots=True)
class Command:
    """One command; its fields may hold a password."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one command: `error` in the plugin's words, None when it was carried out."""

    command: str
    error: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class User:
    """A user as the plugin has it."""

    name: str
    text_name: str
    roles: tuple[str, ...]
    in_groups: bool
    enabled: bool


class Dialogue:
    """Requests and their answers on one connection, one after the other.

    Args:
        mark: tells our commands from those of others who administer the broker; random.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._requests = 0
        self._asked: dict[str, str] = {}  # mark: name of the command, in order

    def ask(self, commands: Sequence[Command]) -> bytes:
        """Return the payload that asks for these; an earlier request is not waited for any longer."""
        self._requests += 1
        marks = [f"{self._mark}.{self._requests}.{index}" for index in range(len(commands))]
        self._asked = {mark: each.name for mark, each in zip(marks, commands, strict=True)}
        return orjson.dumps(
            {
                "commands": [
                    {"command": each.name, **each.fields, "correlationData": mark}
                    for mark, each in zip(marks, commands, strict=True)
                ]
            }
        )

    def answered(self, payload: bytes) -> tuple[Response, ...] | None:
        """Return the responses, one for each command; None when it is an answer to somebody else.

        Raises:
            AnswerError: it is none.
        """
        try:
            said = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise AnswerError("it is no JSON") from error
        responses = _items(_object(said, "it"), "responses")
        marks = [_object(each, "a response").get("correlationData") for each in responses]
        if not any(isinstance(mark, str) and mark in self._asked for mark in marks):
            return None
        if marks != list(self._asked):
            raise AnswerError("it does not answer all that was asked, in order")
        found = tuple(map(_response, responses))
        if [each.command for each in found] != list(self._asked.values()):
            raise AnswerError("it answers other commands")
        return found


def acls_of(grants: Grants, open_kinds: Iterable[Kind]) -> list[dict[str, Any]]:
    """Return a role's lines. `open_kinds`: what the broker allows to everybody, and this role must not."""
    literal = "Pattern" if grants.patterns else "Literal"
    granted = [
        *(("publishClientSend", topic) for topic in sorted(grants.publish)),
        *(("publishClientReceive", topic) for topic in sorted(grants.receive)),
        *((f"subscribe{literal}", topic) for topic in sorted(grants.subscribe)),
        *((f"unsubscribe{literal}", topic) for topic in sorted(grants.subscribe)),
    ]
    lines = [Acl(kind, topic, True, _GRANTED) for kind, topic in granted]
    lines += sorted(_denials(open_kinds))
    return [
        {"acltype": each.kind, "topic": each.topic, "priority": each.priority, "allow": each.allow} for each in lines
    ]


def grants_of(acls: Iterable[Acl], open_kinds: Iterable[Kind]) -> Grants | None:
    """Return what a role grants; None when it is not as `acls_of` writes it, or leaves open what it has to close.

    Denials that are not needed are none of its faults.
    """
    found = set(acls)
    denied = {each for each in found if not each.allow}
    if not _denials(open_kinds) <= denied <= _denials(KINDS):
        return None
    topics = {kind: frozenset(each.topic for each in found - denied if each.kind == kind) for kind in _ALLOWED}
    patterns = bool(topics["subscribePattern"])
    grants = Grants(
        topics["publishClientSend"],
        topics["publishClientReceive"],
        topics["subscribePattern"] | topics["subscribeLiteral"],
        patterns,
    )
    written = {_acl(each) for each in acls_of(grants, ())}
    return grants if written == found - denied else None


_ALLOWED = (
    "publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern", "unsubscribeLiteral",
    "unsubscribePattern",
)  # fmt: skip


def _denials(kinds: Iterable[Kind]) -> set[Acl]:
    return {Acl(_DENIED[kind], topic, False, _CLOSED) for kind in kinds for topic in EVERYTHING}


def read_defaults(response: Response) -> frozenset[Kind]:
    """Return what the broker allows to everybody.

    Raises:
        AnswerError: it does not say.
    """
    allowed = {each.get("acltype"): each.get("allow") for each in map(_an_object, _items(response.data, "acls"))}
    if any(not isinstance(allowed.get(kind), bool) for kind in KINDS):
        raise AnswerError("it does not say what is allowed by default")
    return frozenset(kind for kind in KINDS if allowed[kind])


def read_page(response: Response, items: Literal["clients", "roles"]) -> tuple[list[Any], int]:
    """Return the items of one page, and how many there are altogether.

    Raises:
        AnswerError: it is no page of these.
    """
    total = response.data.get("totalCount")
    if not isinstance(total, int) or isinstance(total, bool):
        raise AnswerError("it does not say how many there are")
    return _items(response.data, items), total


def read_user(said: Any) -> User:
    """Return a user.

    Raises:
        AnswerError: it is none.
    """
    user = _object(said, "a user")
    return User(
        name=_text(user, "username"),
        text_name=_text(user, "textname", ""),
        roles=tuple(_text(_an_object(each), "rolename") for each in _items(user, "roles")),
        in_groups=bool(_items(user, "groups")),
        enabled=user.get("disabled") is not True,
    )


def read_role(said: Any) -> tuple[str, list[Acl]]:
    """Return a role's name and lines.

    Raises:
        AnswerError: it is none.
    """
    role = _object(said, "a role")
    return _text(role, "rolename"), [_acl(_an_object(each)) for each in _items(role, "acls")]


def _acl(line: Mapping[str, Any]) -> Acl:
    allow, priority = line.get("allow"), line.get("priority", _GRANTED)
    if not isinstance(allow, bool) or not isinstance(priority, int):
        raise AnswerError("a role has a line that says nothing")
    return Acl(_text(line, "acltype"), _text(line, "topic"), allow, priority)


def _response(said: Mapping[str, Any]) -> Response:
    error = said.get("error")
    data = said.get("data", {})
    return Response(_text(said, "command"), None if error is None else str(error), _object(data, "what it carries"))


def _an_object(said: Any) -> Mapping[str, Any]:
    return _object(said, "an entry")


def _object(said: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise AnswerError(f"{what} is no object")
    return said


def _items(said: Mapping[str, Any], name: str) -> list[Any]:
    found = said.get(name, [])
    if not isinstance(found, list):
        raise AnswerError(f"{name} is no list")
    return found


def _text(said: Mapping[str, Any], name: str, default: str | None = None) -> str:
    found = said.get(name, default)
    if not isinstance(found, str):
        raise AnswerError(f"{name} is no text")
    return found
