# SPDX-License-Identifier: Apache-2.0
"""Denied attempts, of whatever carrier and of the control plane: for the log, and for the audit log.

Whoever denies something notes it here. The first of a kind is told at once, what follows as a number (see `repeats`).
Who writes it into the audit log is not known here: a function that takes lines.

It will not decide or send a denial, and holds no key: a fingerprint tells two of them apart, and means nothing
outside this process.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog

from thalovant_server.hub.clock import Clock
from thalovant_server.repeats import Line, Repeats, RepeatWindow, Told
from thalovant_server.source_address import source_of

log = structlog.get_logger("thalovant.denials")

TargetKind = Literal["hub", "client", "token", "account"]
Action = Literal["session.refused", "message.denied", "topic.denied", "login.refused", "request.refused"]

MORE = "more_denials"
"""The code of those that had no room: of how many kinds they were is not known."""
LONGEST_WHAT = 200
KINDS_OF_STRANGERS = 256
"""Of one plane in a minute; each is two entries at most, for ever."""

_EVENTS: dict[Action, str] = {
    "session.refused": "refused",
    "message.denied": "denied",
    "topic.denied": "denied",
    "login.refused": "login_refused",
    "request.refused": "request_refused",
}
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One denied attempt.

    Args:
        action: what was attempted.
        code: why it was denied.
        address: where from.
        carrier: of the data plane.
        client_id: of the credential that was named; whether it was also proven says `proven`.
        client_name: its name.
        hub_id: of that client, or the hub that the request was about.
        account_id: who called the control plane; with `account_name` and `token_id`.
        fingerprint: of an access key that nobody has.
        what: the type, topic or route; cut, and without what would spoil a log. Repetitions may differ in it.
        target: kind and id of what was named; of an account its e-mail address. As it was typed: there may be no such
            thing, and then nobody keeps it.
        audited: False when it belongs into the log alone.
        hides: it counts only when there is such a thing: the answer was that there is none.
    """

    action: Action
    code: str
    address: str = ""
    carrier: str | None = None
    client_id: str | None = None
    client_name: str | None = None
    proven: bool = False
    hub_id: str | None = None
    account_id: str | None = None
    account_name: str | None = None
    token_id: str | None = None
    fingerprint: str = ""
    what: str = ""
    target: tuple[TargetKind, str] | None = field(default=None, repr=False)
    hides: bool = False
    audited: bool = True

    @property
    def source(self) -> str:
        """Whose it counts as: of the client that is proven or the account that calls, else of the address."""
        if self.account_id is not None:
            return f"account {self.account_id}"
        return f"client {self.client_id}" if self.proven else source_of(self.address)

    @property
    def kind(self) -> tuple[object, ...]:
        """What makes two of them the same: all but what the one who is denied may choose anew each time."""
        who = self.client_id, self.account_id, self.token_id, self.fingerprint
        route = self.what if self.action == "request.refused" else ""  # of which there are so many and no more
        return self.action, self.code, self.source, self.carrier, self.hub_id, self.target, route, who


Sink = Callable[[Line[Denial]], None]


class Denials:
    """The denials of one plane. Make it on the running event loop.

    Args:
        clock: monotonic.
        sink: gets each line after the log had it.
    """

    def __init__(self, clock: Clock, sink: Sink | None = None) -> None:
        self._sink = sink
        self._repeats: Repeats[Denial] = Repeats(clock, self._tell)
        self._strangers = Repeats(clock, self._tell, RepeatWindow[Denial](kinds=KINDS_OF_STRANGERS))
        self._failures = Repeats[tuple[str, str, str, str]](clock, _log_failure)

    def note(self, denial: Denial) -> None:
        """Something was denied. Strangers, who may have any number of addresses, take no room from those we know."""
        known = denial.proven or denial.account_id is not None
        (self._repeats if known else self._strangers).note(denial.kind, denial.source, denial)

    def failed(self, client_id: str, carrier: str, code: str, why: str) -> None:
        """A session ended over what its client sent, which at a broker costs it no connection: for the log alone."""
        self._failures.note((client_id, carrier, code), client_id, (client_id, carrier, code, why))

    def close(self) -> None:
        """Tell what was not told yet. May be called again, for what came after."""
        self._repeats.close()
        self._strangers.close()
        self._failures.close()

    def _tell(self, line: Line[Denial]) -> None:
        line = replace(line, item=_nameable(line))
        if not line.item.hides:  # most of these name nothing that exists, and are no denial
            _log(line)
        if self._sink is not None and line.item.audited:
            self._sink(line)


def fingerprint(access_key: str) -> str:
    """Return eight hex digits that stand for a key in this process's log, nothing for no key."""
    if not access_key:
        return ""
    return hashlib.blake2b(access_key.encode("utf-8", "replace"), digest_size=4, key=_SALT).hexdigest()


def plain(text: str) -> str:
    """Return a text that somebody else chose, fit for a log: cut, control characters and the like replaced."""
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in text[:LONGEST_WHAT])


def _nameable(line: Line[Denial]) -> Denial:
    """What a line may name: of different kinds together only whose they are, and where they came from."""
    denial = line.item
    if line.told is Told.MORE:
        return Denial(action=denial.action, code=MORE)
    if line.told is Told.MORE_OF_SOURCE:
        who = {name: getattr(denial, name) for name in ("account_id", "account_name")}
        if denial.proven:
            who |= {"client_id": denial.client_id, "client_name": denial.client_name, "hub_id": denial.hub_id}
        return Denial(action=denial.action, code=MORE, address=denial.address, proven=denial.proven, **who)
    return replace(denial, what=plain(denial.what))


def _log(line: Line[Denial]) -> None:
    denial, event = line.item, _EVENTS[line.item.action]
    named = {
        "carrier": denial.carrier,
        "code": denial.code,
        "remote": denial.address,
        "client_id": denial.client_id,
        "account_id": denial.account_id,
        "fingerprint": denial.fingerprint,
        "what": denial.what,
    }
    kept = {name: value for name, value in named.items() if value}
    if line.told is Told.ONCE:
        log.warning(event, **kept)
    else:
        log.warning(f"{event}_again", **kept, times=line.times)


def _log_failure(line: Line[tuple[str, str, str, str]]) -> None:
    client_id, carrier, code, why = line.item
    if line.told is Told.ONCE:
        log.info("session_failed", client_id=client_id, carrier=carrier, code=code, why=why)
    else:
        log.info("session_failed_again", client_id=client_id, carrier=carrier, code=code, times=line.times)
