# SPDX-License-Identifier: Apache-2.0
"""Single settings of an identity by dotted keys: shown, and changed where the identity is a profile.

A change is made only when the identity is one afterwards and says what was asked for. Secrets are not changed one by
one: they belong together, and come with a whole identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thalovant.api_discovery import read_ca_file
from thalovant.config_file import Edit, ThalovantConfigError
from thalovant.errors import ThalovantAPIError, ThalovantIdentityError
from thalovant.hub_endpoints import read_flag
from thalovant.identity import ThalovantIdentity
from thalovant.profiles import change_identity
from thalovant.yaml_text import REMOVED, Place, changed

__all__ = ["CHANGEABLE", "change_setting", "settings"]

CHANGEABLE = (
    *("site_id", "default_master", "default_port", "default_path", "ca_pem", "mqtt.endpoint", "mqtt.qos", "mqtt.tls"),
    *(f"data_plane_endpoints.{name}" for name in ("https", "wss", "mqtt")),
    *(f"protocols.{name}" for name in ("https", "wss", "mqtt")),
    "metadata.NAME",
)
_GROUPS = ("data_plane_endpoints", "mqtt", "metadata")
_FLAGS = ("mqtt.tls", "protocols.https", "protocols.wss", "protocols.mqtt")
_NUMBERS = ("default_port", "mqtt.qos")


def settings(identity: ThalovantIdentity, *, include_secrets: bool = False) -> dict[str, Any]:
    """Return every setting by its dotted key, secrets only when told."""
    flat: dict[str, Any] = {}
    for name, value in identity.as_dict(include_secrets=include_secrets).items():
        flat |= {f"{name}.{inner}": one for inner, one in value.items()} if name in _GROUPS else {name: value}
    if identity.mqtt is not None:
        flat["mqtt.qos"] = identity.mqtt.qos
    return flat | {f"protocols.{name}": identity.supports_protocol(name) for name in ("https", "wss", "mqtt")}


def change_setting(target: Path, profile: str | None, key: str, text: str | None) -> str:
    """Set `key` of a profile (None: the one in use) to what `text` says, or take it out; return the profile's name.

    For `ca_pem` the text names a file. Raises ThalovantConfigError for a key that cannot be changed and a value that is
    none, and when there is no such profile.
    """
    if key not in CHANGEABLE and not key.startswith("metadata."):
        raise ThalovantConfigError(f"{key!r} cannot be changed; there are {', '.join(CHANGEABLE)}.")
    value = REMOVED if text is None else _read(key, text)

    def change(identity: Mapping[Any, Any]) -> Iterable[Edit]:
        return [(_place(key), _accepted(identity, key, value))]

    return change_identity(target, profile, change)


def _read(key: str, text: str) -> Any:
    if key in _FLAGS:
        if (flag := read_flag(text)) is None:
            raise ThalovantConfigError(f"{key} is true or false, not {text!r}.")
        return flag
    if key in _NUMBERS:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else text
    if key == "ca_pem":
        return _certificates(text)
    return text


def _certificates(file: str) -> str:
    try:
        return read_ca_file(file)
    except ThalovantAPIError as error:
        raise ThalovantConfigError(str(error)) from error


def _accepted(identity: Mapping[Any, Any], key: str, value: Any) -> Any:
    """The value as an identity keeps it. Raises ThalovantConfigError when there is no identity with it."""
    try:
        after = settings(ThalovantIdentity.from_mapping(changed(identity, _place(key), value)), include_secrets=True)
    except ThalovantIdentityError as error:
        raise ThalovantConfigError(f"Nothing was changed: {error}") from error
    if value is REMOVED:
        return value
    kept = after.get(key)
    if _bare(kept) != _bare(value):
        raise ThalovantConfigError(f"Nothing was changed: {value!r} is no value for {key}.")
    return {"enabled": kept} if key.startswith("protocols.") else kept


def _bare(value: Any) -> Any:
    """An identity keeps paths and addresses with slashes at other ends than they were typed with."""
    return value.strip(" /") if isinstance(value, str) else value


def _place(key: str) -> Place:
    """Where a setting stands; in the wire's group of switches HTTPS is called `http`."""
    group, _, name = key.partition(".")
    return (group, "http" if key == "protocols.https" else name) if name else (group,)
