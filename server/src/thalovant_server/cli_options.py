# SPDX-License-Identifier: Apache-2.0
"""The settings as options of a command. Options are texts here: the model checks them, whoever said them."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant_server.settings import Settings, option_name, takes_several
from thalovant_server.settings_sources import ReadSettings, read_settings

_METAVARS = {
    "data": "DIR",
    "host": "ADDRESS",
    "public_host": "NAME",
    "api_port": "PORT",
    "mqtt_port": "PORT",
    "agent": "NAME=python:MODULE:FUNCTION",
    "broker": "mosquitto",
    "broker_port": "PORT",
    "broker_url": "URL",
    "broker_public_url": "URL",
    "broker_user": "USER",
    "broker_root": "TOPIC",
    "broker_check_seconds": "SECONDS",
    "drain_seconds": "SECONDS",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed of the settings: `read` finds the rest."""

    options: Mapping[str, Any]
    config: Path | None

    def read(self, **defaults: Any) -> ReadSettings:
        """Return the settings; ``defaults`` are this command's own.

        Raises:
            SettingsError: something cannot be used.
        """
        return read_settings(self.options, os.environ, self.config, defaults=defaults)


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every setting as an option, and what was typed of them as its first argument, a `Typed`."""
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    ]

    @functools.wraps(command)
    def with_settings(config: Path | None = None, **given: Any) -> None:
        typed = {name: given.pop(name) for name in Settings.model_fields}
        options = {name: value for name, value in typed.items() if value not in (None, [])}
        command(Typed(options, config), **given)

    signature = inspect.Signature([*map(_option, Settings.model_fields), _CONFIG, *own])
    with_settings.__signature__ = signature  # type: ignore[attr-defined]
    with_settings.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    del with_settings.__wrapped__  # its signature is not the one to look at
    return with_settings


def _option(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    shown = field.default if not field.is_required() and field.default not in (None, ()) else None
    repeated = " May be given several times." if takes_several(name) else ""
    option = typer.Option(
        f"--{option_name(name)}",
        metavar=_METAVARS.get(name, "FILE"),
        help=f"{field.description}{repeated}{f' Default: {shown}.' if shown is not None else ''}",
    )
    kind: Any = list[str] | None if takes_several(name) else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Read settings from this file (TOML).")
    ],
)
