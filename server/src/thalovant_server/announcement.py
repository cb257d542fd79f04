# SPDX-License-Identifier: Apache-2.0
"""What an operator reads once everything accepts: where things are, and the lines to type next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from thalovant_server.settings import Settings


def say(settings: Settings, ready: Mapping[str, str]) -> None:
    """Print it to standard output; holds no secret."""
    typer.echo(text(settings, ready))


def text(settings: Settings, ready: Mapping[str, str]) -> str:
    """Return the announcement as text."""
    login = [
        "thalovant", "login", ready["api_url"], "--ca", ready["ca_file"], "--email", ready["admin_email"],
        "--password-file", ready["admin_password_file"],
    ]  # fmt: skip
    hub = ready.get("hub_slug", "HUB")
    return "\n".join(
        [
            f"Thalovant is ready. Data in {settings.data.expanduser().absolute()}",
            "",
            f"  API, WSS, HTTPS  {ready['api_url']}",
            f"  MQTT             {ready['mqtt_endpoint']}",
            f"  MQTT in browsers {ready['mqtt_websocket_endpoint']}",
            f"  authority        {ready['ca_file']}",
            f"  admin            {ready['admin_email']}, password in {ready['admin_password_file']}",
            "",
            f"Next, in another terminal{_activate()}:",
            "",
            f"  {shlex.join(login)}",
            f"  thalovant identity create {hub} --name kitchen-light",
            '  thalovant ask "Is anybody there?" --protocol mqtt',
            "",
            "From another machine, log in with --ca-fingerprint instead of --ca (SHA-256 of the authority):",
            f"  {ready['ca_fingerprint']}",
            "",
            "Ctrl-C stops it.",
        ]
    )


def _activate() -> str:
    """How that terminal finds the command `thalovant`, when it is in a virtual environment."""
    if sys.prefix == sys.base_prefix:
        return ""
    return f" (first: . {shlex.quote(str(Path(sys.prefix) / 'bin/activate'))})"
