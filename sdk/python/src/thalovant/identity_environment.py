# SPDX-License-Identifier: Apache-2.0
"""An identity in environment variables: the names of contract 3.6 and a few of ours, read and written.

Ours, below the same prefix, are left alone by the published SDKs:

    CA_PEM, CA_FILE        certificates to trust: their text with `\\n` for each new line; or a file
    HUB_PROTOCOLS          the carriers that the hub has switched on, like `wss,https,mqtt`, or `none`
    MQTT_TLS, MQTT_C2S_TOPIC, MQTT_S2C_TOPIC, MQTT_STATUS_TOPIC
    METADATA               a JSON object

It sets no variable, and no error of it holds a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalovant.errors import ThalovantIdentityError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocolSettings
from thalovant.identity_json import json_text

__all__ = ["from_environment", "lines", "to_environment"]

NO_PROTOCOL = "none"

_PLAIN = {  # of the identity's mapping → its variable
    "access_key": "ACCESS_KEY",
    "password": "PASSWORD",
    "site_id": "SITE_ID",
    "default_master": "DEFAULT_MASTER",
    "default_port": "DEFAULT_PORT",
    "default_path": "DEFAULT_PATH",
}
_ENDPOINTS = {"https": "HUB_HTTPS_HOST", "wss": "HUB_WSS_HOST", "mqtt": "HUB_MQTT_HOST"}
_MQTT = {
    "endpoint": "MQTT_ENDPOINT",
    "username": "MQTT_USERNAME",
    "password": "MQTT_PASSWORD",
    "topic_prefix": "MQTT_TOPIC_PREFIX",
    "qos": "MQTT_QOS",
    "tls": "MQTT_TLS",
    "c2s_topic": "MQTT_C2S_TOPIC",
    "s2c_topic": "MQTT_S2C_TOPIC",
    "status_topic": "MQTT_STATUS_TOPIC",
}
_PREFIX = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*)?")
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def from_environment(prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the identity's mapping that the variables say; what is not set is None.

    Raises ThalovantIdentityError for a variable of ours that cannot be read.
    """

    def one(*names: str) -> str | None:
        found = (environ.get(prefix + name, "").strip() for name in names)
        return next((value for value in found if value), None)

    return {
        "access_key": one("ACCESS_KEY"),
        "password": one("PASSWORD"),
        "site_id": one("SITE_ID"),
        "default_master": one("HUB_HTTP_HOST", "DEFAULT_MASTER"),
        "default_port": one("HUB_HTTP_PORT", "DEFAULT_PORT"),
        "default_path": one("HUB_HTTP_PATH", "DEFAULT_PATH"),
        "data_plane_endpoints": {
            "https": _with_scheme(one("HUB_HTTPS_HOST", "HUB_HTTP_HOST"), "https"),
            "wss": _with_scheme(one("HUB_WSS_HOST", "HUB_WEBSOCKET_HOST"), "wss"),
            "mqtt": _with_scheme(one("HUB_MQTT_HOST"), "mqtts"),
        },
        "protocols": _protocols(one("HUB_PROTOCOLS"), f"{prefix}HUB_PROTOCOLS"),
        "mqtt": {
            **{name: one(variable) for name, variable in _MQTT.items()},
            "endpoint": _with_scheme(one("MQTT_ENDPOINT", "HUB_MQTT_HOST"), "mqtts"),
        },
        "metadata": _metadata(one("METADATA"), f"{prefix}METADATA"),
        "ca_pem": _unescaped(one("CA_PEM")) or _certificate_file(one("CA_FILE")),
    }


def to_environment(identity: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return the variables that say an identity's whole mapping, secrets included; a variable for nothing is left out.

    Raises ThalovantIdentityError for a prefix that no variable can begin with.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ThalovantIdentityError(f"No environment variable can begin with {prefix!r}: use letters, digits and _.")
    endpoints, mqtt = identity.get("data_plane_endpoints") or {}, identity.get("mqtt") or {}
    values: dict[str, Any] = {variable: identity.get(name) for name, variable in _PLAIN.items()}
    values |= {variable: endpoints.get(name) for name, variable in _ENDPOINTS.items()}
    values["HUB_PROTOCOLS"] = _protocol_names(identity)
    values |= {variable: mqtt.get(name) for name, variable in _MQTT.items()}
    values["CA_PEM"] = _escaped(identity.get("ca_pem") or "")
    values["METADATA"] = json_text(metadata) if (metadata := identity.get("metadata")) else None
    return {prefix + name: _word(value) for name, value in values.items() if value is not None and value != ""}


def lines(variables: Mapping[str, str], *, export: bool = False) -> str:
    """Return `NAME=value` lines that a POSIX shell and systemd's `EnvironmentFile=` read alike.

    A value is quoted only where it must be, so that programs which take values as they stand (`docker run --env-file`)
    read most of them, too. `export` puts `export` before each, for `eval` and `source`.
    """
    before = "export " if export else ""
    return "".join(f"{before}{name}={_quoted(value)}\n" for name, value in variables.items())


def _quoted(value: str) -> str:
    """Quoted for both: systemd knows no piecing together of '...'"'"'..., older ones read a backslash within '...'."""
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'([\\"`$])', r"\\\1", value) + '"'


def _word(value: object) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _with_scheme(host: str | None, scheme: str) -> str | None:
    return f"{scheme}://{host}" if host and "://" not in host else host


def _protocols(names: str | None, variable: str) -> dict[str, bool] | None:
    if names is None:
        return None
    wanted = {name.strip().lower() for name in names.split(",")} - {"", NO_PROTOCOL}
    if unknown := wanted.difference(DEFAULT_PROTOCOL_PREFERENCE):
        raise ThalovantIdentityError(
            f"{variable} names {', '.join(map(repr, sorted(unknown)))}; there are wss, https, mqtt, or none."
        )
    return {name: name in wanted for name in DEFAULT_PROTOCOL_PREFERENCE}


def _protocol_names(identity: Mapping[str, Any]) -> str:
    settings = HubProtocolSettings.from_mapping({"protocols": identity.get("protocols") or {}})
    return "" if settings == HubProtocolSettings() else ",".join(settings.enabled_protocols()) or NO_PROTOCOL


def _metadata(text: str | None, variable: str) -> dict[str, Any] | None:
    try:
        values = json.loads(text) if text else None
    except (ValueError, RecursionError):
        values = text  # it is no object either
    if values is not None and not isinstance(values, dict):
        raise ThalovantIdentityError(f"{variable} holds no JSON object.")
    return values


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")


def _unescaped(text: str | None) -> str | None:
    """One line with `\\n` in it, as `to_environment` writes it; a value that has real lines is taken as it is."""
    if not text or "\n" in text:
        return text
    return re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], text)


def _certificate_file(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ThalovantIdentityError(f"Unable to read the certificates in {path}.") from None
