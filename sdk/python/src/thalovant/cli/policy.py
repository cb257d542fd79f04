# SPDX-License-Identifier: Apache-2.0
"""`thalovant clients policy`: what a client may send and how much of it; shown, and changed by what is typed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from thalovant.cli.client_named import ClientName, HubName, client_called, label
from thalovant.cli.options import AsJson
from thalovant.cli.output import print_json, printable, say
from thalovant.cli.progress import waiting
from thalovant.cli.times import seconds_of
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError

__all__ = ["COMMANDS"]

GRANTS = ("broadcast", "propagate", "escalate")
KEYS = (
    *("allowed_types", "can_broadcast", "can_propagate", "can_escalate"),
    *("blocked_skills", "blocked_intents", "rate_limit", "daily_quota"),
)
MOST_MESSAGES, MOST_SECONDS, MOST_ASKS, LONGEST_NAME = 1_000_000, 86_400, 1_000_000_000, 128  # as the server has it
_RATE = re.compile(r"([0-9]{1,9})/([0-9a-z]+)")

Words = list[str] | None


def policy(
    client: ClientName,
    allow_type: Annotated[Words, typer.Option(help="Let it send this message type.", metavar="TYPE")] = None,
    deny_type: Annotated[Words, typer.Option(help="No longer this one.", metavar="TYPE")] = None,
    grant: Annotated[Words, typer.Option(help="broadcast, propagate or escalate.", metavar="GRANT")] = None,
    no_grant: Annotated[Words, typer.Option("--no-grant", help="Take one back.", metavar="GRANT")] = None,
    block_skill: Annotated[Words, typer.Option(help="Keep it from a skill.", metavar="SKILL")] = None,
    unblock_skill: Annotated[Words, typer.Option(help="No longer.", metavar="SKILL")] = None,
    block_intent: Annotated[Words, typer.Option(help="Keep it from an intent.", metavar="INTENT")] = None,
    unblock_intent: Annotated[Words, typer.Option(help="No longer.", metavar="INTENT")] = None,
    rate: Annotated[str | None, typer.Option(help="Messages in a time, like 60/60s.", metavar="NUMBER/TIME")] = None,
    no_rate: Annotated[bool, typer.Option("--no-rate", help="The rate of its preset.")] = False,
    quota: Annotated[str | None, typer.Option(help="Asks a day.", metavar="NUMBER")] = None,
    no_quota: Annotated[bool, typer.Option("--no-quota", help="The quota of its preset.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="All as its preset has it.")] = False,
    hub: HubName = None,
    as_json: AsJson = False,
) -> None:
    """Show what a client may send; with options, change it.

    Each option of a list may be repeated. Live connections follow within a second.
    """
    changes = _Changes(
        lists={
            "allowed_types": (_names(allow_type, "--allow-type"), deny_type or ()),
            "blocked_skills": (_names(block_skill, "--block-skill"), unblock_skill or ()),
            "blocked_intents": (_names(block_intent, "--block-intent"), unblock_intent or ()),
        },
        values={
            **_grants(grant or (), no_grant or ()),
            **_limit("rate_limit", _rate(rate), no_rate, "--rate"),
            **_limit("daily_quota", _quota(quota), no_quota, "--quota"),
        },
        reset=reset,
    )
    with waiting("asking for the policy"), ThalovantControlPlane() as api:
        known = client_called(api, client, hub)
        found, absent = _changed(api, known["id"], changes) if changes else (api.get_client_policy(known["id"]), [])
    if as_json:
        print_json(found)
        return
    _show(known, found)
    for name in absent:
        say(f"Not there, so nothing to take away: {printable(name)}")


class _Changes:
    """What was typed: words to put in and take out of lists, single values, or all of it back to the preset."""

    def __init__(
        self, *, lists: dict[str, tuple[Iterable[str], Iterable[str]]], values: dict[str, Any], reset: bool
    ) -> None:
        self._lists = {name: (list(into), list(out)) for name, (into, out) in lists.items()}
        self._values = values
        self._reset = reset

    def __bool__(self) -> bool:
        return self._reset or bool(self._values) or any(into or out for into, out in self._lists.values())

    def of(self, policy: dict[str, Any]) -> dict[str, Any]:
        """The body that changes this policy so."""
        payload: dict[str, Any] = dict.fromkeys(KEYS) if self._reset else {}
        for name, (into, out) in self._lists.items():
            if into or out:
                before = [] if self._reset else list(policy.get(name) or ())
                payload[name] = [one for one in dict.fromkeys([*before, *into]) if one not in out]
        return payload | self._values

    def absent(self, policy: dict[str, Any]) -> list[str]:
        """What was to be taken out of a list that does not hold it."""
        held = {name: () if self._reset else policy.get(name) or () for name in self._lists}
        return [one for name, (into, out) in self._lists.items() for one in out if one not in (*held[name], *into)]


def _changed(api: ThalovantControlPlane, client_id: str, changes: _Changes) -> tuple[dict[str, Any], list[str]]:
    """Change the policy as it is now; when somebody else was faster, as it is then. Also what was not there."""
    for last in (False, True):
        before = api.get_client_policy(client_id)
        try:
            changed = api.update_client_policy(client_id, changes.of(before), etag=str(before.get("etag")))
            return changed, changes.absent(before)
        except ThalovantAPIError as error:
            if error.status_code != 412 or last:
                raise
    raise AssertionError


def _grants(given: Iterable[str], taken: Iterable[str]) -> dict[str, bool]:
    found = {_grant(name): True for name in given}
    for name in taken:
        if found.setdefault(_grant(name), False):
            raise typer.BadParameter(f"give --grant {name} or --no-grant {name}, not both")
    return found


def _grant(name: str) -> str:
    if name not in GRANTS:
        raise typer.BadParameter(f"--grant, --no-grant: {name!r} is no grant; there are {', '.join(GRANTS)}")
    return f"can_{name}"


def _rate(text: str | None) -> dict[str, int] | None:
    if text is None:
        return None
    found = _RATE.fullmatch(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"--rate: {text!r} is no rate; type it like 60/60s or 1000/1h")
    messages, seconds = int(found[1]), seconds_of(found[2], "--rate")
    if not (1 <= messages <= MOST_MESSAGES and 1 <= seconds <= MOST_SECONDS):
        raise typer.BadParameter(f"--rate {text}: from 1 to {MOST_MESSAGES} messages in 1s to 24h; type it like 60/60s")
    return {"messages": messages, "per_seconds": seconds}


def _quota(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,10}", text.strip()) or int(text) > MOST_ASKS:
        raise typer.BadParameter(f"--quota: {text!r} is no number of asks from 0 to {MOST_ASKS}")
    return int(text)


def _names(names: Words, option: str) -> Iterable[str]:
    for name in names or ():
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable() and name.strip()):
            raise typer.BadParameter(f"{option}: {name!r} is no name of 1 to {LONGEST_NAME} characters")
    return names or ()


def _limit(name: str, value: Any, none: bool, option: str) -> dict[str, Any]:
    if value is not None and none:
        raise typer.BadParameter(f"give {option} or --no-{option[2:]}, not both")
    return {name: value} if value is not None or none else {}


def _show(client: dict[str, Any], policy: dict[str, Any]) -> None:
    kind = policy.get("preset") or policy.get("connection_type")
    say(f"{label(client)}" + (f", preset {printable(str(kind))}" if kind else ""))
    grants = [name for name in GRANTS if policy.get(f"can_{name}")]
    rows = (
        ("may send", policy.get("allowed_types")),
        ("grants", grants),
        ("blocked skills", policy.get("blocked_skills")),
        ("blocked intents", policy.get("blocked_intents")),
    )
    for name, words in rows:
        say(f"  {name + ':':<17}{printable(', '.join(map(str, words or ())) or 'none')}")
    say(f"  {'rate:':<17}{_rate_text(policy.get('rate_limit'))}")
    say(f"  {'today:':<17}{_usage_text(policy)}")


def _rate_text(rate: Any) -> str:
    return f"{rate.get('messages')} messages in {rate.get('per_seconds')} s" if isinstance(rate, dict) else "no limit"


def _usage_text(policy: dict[str, Any]) -> str:
    used, quota = (policy.get("usage") or {}).get("used", 0), policy.get("daily_quota")
    return f"{used} of {quota} asks" if quota is not None else f"{used} asked, no quota"


COMMANDS = (
    (
        "policy",
        policy,
        (
            "thalovant clients policy kitchen-light",
            "thalovant clients policy kitchen-light --allow-type my.event --rate 60/60s --quota 500",
            "thalovant clients policy kitchen-light --reset",
        ),
    ),
)
"""Name, command, examples; the group mounts them."""
