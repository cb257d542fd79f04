# SPDX-License-Identifier: Apache-2.0
"""`thalovant doctor`: walk the road to a hub step by step, and say in one line what is wrong and what to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalovant.cli.identity import chosen_identity
from thalovant.cli.options import AsJson, ConfigFile, IdentityFile, Profile, carrier
from thalovant.cli.output import examples, print_json, say
from thalovant.cli.progress import waiting
from thalovant.errors import ThalovantIdentityError

if TYPE_CHECKING:
    from thalovant.doctor import ThalovantDoctorReport

__all__ = ["DOCTOR_EXAMPLES", "doctor"]

DOCTOR_EXAMPLES = examples("thalovant doctor", "thalovant doctor --protocol mqtt --json")


def doctor(
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="Only these: wss, https, mqtt, with commas between.", metavar="PROTOCOL"),
    ] = None,
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="End with a short ask.")] = True,
    timeout: Annotated[float, typer.Option(help="How long one step may take.", min=0.1, metavar="SECONDS")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Find out why a hub is not reached.

    Walks the road of each carrier of the identity; the last line says what to do. The exit code is 0 when all is well.
    """
    with waiting("looking at the road to the hub"):
        report = _report(identity, profile, config, protocol, ask=ask, timeout=timeout)
    if as_json:
        print_json(_document(report))
    else:
        say(report.format())
    raise typer.Exit(0 if report.ok else 1)


def _document(report: ThalovantDoctorReport) -> dict[str, Any]:
    """The report for programs: a step that was not walked is `skipped`, and neither well nor wrong (`ok` null)."""
    told = report.as_dict()
    for check in told["checks"]:
        check["skipped"] = check["status"] == "skipped"
        if check["skipped"]:
            check["ok"] = None
    return told


def _report(
    file: IdentityFile, profile: Profile, config: ConfigFile, protocol: str | None, *, ask: bool, timeout: float
) -> ThalovantDoctorReport:
    # Only what talks to a hub needs the data plane; the other commands start faster without it.
    from thalovant.examining import examine, unreadable
    from thalovant.probing import Patience

    roads = None if protocol is None else list(dict.fromkeys(carrier(name) for name in protocol.split(",")))
    try:
        who = chosen_identity(file, profile, config)
    except ThalovantIdentityError as error:
        return unreadable(error)
    times: dict[str, Any] = {"connect_timeout": timeout, "handshake_timeout": timeout, "send_timeout": timeout}
    return asyncio.run(examine(who, roads, patience=Patience(timeout, timeout), ask=ask, **times))
