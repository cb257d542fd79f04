# SPDX-License-Identifier: Apache-2.0
"""The option `--mqtt` of the commands that change a hub: whether it has MQTT, and where.

`--mqtt` alone turns it on where it is, and `--no-mqtt` is another spelling of `--mqtt off`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

import typer
from typer.core import TyperCommand

from thalovant.hub_endpoints import HubProtocolSettings, mqtt_via

__all__ = ["MqttCommand", "MqttOption", "MqttWord", "mqtt_change", "mqtt_shown", "said_of_mqtt"]

MqttWord = Literal["on", "off", "embedded", "link"]
MqttOption = typer.Option(
    "--mqtt",
    metavar="[on|off|embedded|link]",
    help="MQTT on or off; embedded: at the server itself; link: at its outside broker.",
)
Mqtt = Annotated[MqttWord, MqttOption]


class MqttCommand(TyperCommand):
    """Takes `--mqtt` without a word, and `--no-mqtt`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give both spellings the word that they stand for."""
        return super().parse_args(ctx, list(_spelled_out(args)))


def mqtt_change(word: MqttWord) -> dict[str, Any]:
    """Return what a word means for `spec.protocols.mqtt`."""
    return {"enabled": word != "off", **({"via": word} if word in ("embedded", "link") else {})}


def mqtt_shown(hub: dict[str, Any]) -> str:
    """Return the carriers of a hub for people; MQTT at an outside broker says so."""
    carriers = HubProtocolSettings.from_mapping(hub).enabled_protocols()
    return ",".join("mqtt(link)" if one == "mqtt" and mqtt_via(hub) == "link" else one for one in carriers)


def said_of_mqtt(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Return what the clients that a hub had before need, after its MQTT changed; None: nothing."""
    if not HubProtocolSettings.from_mapping(after).mqtt:
        return None
    if not HubProtocolSettings.from_mapping(before).mqtt:
        return "A client made before has no broker credential: thalovant clients rotate NAME gives it one."
    if mqtt_via(before) != mqtt_via(after):
        return "MQTT moved; a client made before finds nobody there: thalovant clients rotate NAME gives it another."
    return None


def _spelled_out(args: Iterable[str]) -> Iterable[str]:
    words = list(args)
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        if word == "--no-mqtt":
            yield from ("--mqtt", "off")
        elif word == "--mqtt" and following not in get_args(MqttWord):
            yield from ("--mqtt", "on")
        else:
            yield word
