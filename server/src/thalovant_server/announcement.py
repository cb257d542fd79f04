# SPDX-License-Identifier: Apache-2.0
"""What an operator reads once everything accepts: where things are, and the lines to type next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from thalovant_server.settings import Settings


def say(settings: Settings, ready: Mapping[str, str], broker_fault: str = "") -> None:
    """Print it to standard output; holds no secret."""
    typer.echo(text(settings, ready, broker_fault))


def text(settings: Settings, ready: Mapping[str, str], broker_fault: str = "") -> str:
    """Return the announcement as text; `broker_fault` is why the hubs are not at their broker, "" when they are."""
    trust = ["--ca", ready["ca_file"]] if "ca_file" in ready else []
    who = ["--email", ready["admin_email"], "--password-file", ready["admin_password_file"]]
    hub = ready.get("hub_slug", "HUB")
    return "\n".join(
        [
            f"Thalovant is ready. Data in {settings.data.expanduser().absolute()}",
            "",
            f"  API, WSS, HTTPS  {ready['api_url']}",
            f"  MQTT             {ready['mqtt_endpoint']}",
            f"  MQTT in browsers {ready['mqtt_websocket_endpoint']}",
            *_broker(settings, ready, broker_fault),
            f"  authority        {ready.get('ca_file', 'none of ours: clients trust the certificate anyway')}",
            f"  admin            {ready['admin_email']}, password in {ready['admin_password_file']}",
            "",
            f"Next, in another terminal{_activate()}:",
            "",
            f"  {shlex.join(['thalovant', 'login', ready['api_url'], *trust, *who])}",
            f"  thalovant identity create {hub} --name kitchen-light",
            '  thalovant ask "Is anybody there?" --protocol mqtt',
            "",
            *_from_another_machine(settings, ready),
            "",
            "Ctrl-C stops it.",
        ]
    )


def _broker(settings: Settings, ready: Mapping[str, str], fault: str) -> list[str]:
    """Where hubs meet their clients that do so at an outside broker, and whose that is."""
    if "broker_endpoint" not in ready:
        return []
    whose = f"its files in {ready['broker_folder']}" if "broker_folder" in ready else "joined"
    whose = f"NOT JOINED: {fault}" if fault else whose
    root = f", topics below {settings.broker_root}" if settings.broker_root else ""
    return [f"  broker           {ready['broker_endpoint']}, {whose}{root}"]


def _from_another_machine(settings: Settings, ready: Mapping[str, str]) -> list[str]:
    """What to type there; without a public host, what to type here first."""
    trust = ["--ca-fingerprint", ready["ca_fingerprint"]] if "ca_fingerprint" in ready else []
    if not settings.public_host:
        return [
            "For other machines, start with --host :: --public-host NAME (the name or address by which they reach this",
            f"one). The authority's fingerprint (SHA-256) is {ready['ca_fingerprint']}",
        ]
    return [
        "From another machine:",
        "",
        f"  {shlex.join(['thalovant', 'login', ready['api_url'], *trust, '--email', ready['admin_email']])}",
    ]


def _activate() -> str:
    """How that terminal finds the command `thalovant`, when it is in a virtual environment."""
    if sys.prefix == sys.base_prefix:
        return ""
    return f" (first: . {shlex.quote(str(Path(sys.prefix) / 'bin/activate'))})"
