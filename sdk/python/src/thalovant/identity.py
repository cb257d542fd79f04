# SPDX-License-Identifier: Apache-2.0
"""Who connects, where to, with which secrets: the identity of one client (contract 3.6).

Reads an identity from a mapping, a file, the configuration or the environment, shows it without its secrets,
and saves it. It opens no connection, and no error or `repr` of it holds a secret.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from thalovant.config_file import ThalovantConfigError, read_config
from thalovant.diagnoses import Diagnosis, diagnose, diagnosed
from thalovant.errors import ThalovantIdentityError
from thalovant.hub_endpoints import (
    DEFAULT_PROTOCOL_PREFERENCE,
    HubDataPlaneEndpoints,
    HubProtocol,
    HubProtocolSettings,
    SelectedHubEndpoint,
    without_user_info,
)
from thalovant.identity_environment import from_environment, lines, to_environment
from thalovant.identity_fields import ALIASES, ENDPOINT_GROUPS, PROTOCOL_GROUPS, checked, text_of
from thalovant.identity_json import json_text
from thalovant.mqtt_credentials import MqttBrokerCredentials
from thalovant.noise_state import take_key_along
from thalovant.paths import default_config_path
from thalovant.private_files import PrivateFileError, read_private_text, write_private_text
from thalovant.profiles import chosen, save_profile
from thalovant.secret_names import redacted

__all__ = [
    "DEFAULT_PROTOCOL_PREFERENCE",
    "HubDataPlaneEndpoints",
    "HubProtocol",
    "HubProtocolSettings",
    "MqttBrokerCredentials",
    "SelectedHubEndpoint",
    "ThalovantIdentity",
    "default_config_path",
]

DEFAULT_PORT = 5679
MAX_CA_PEM = 64 * 1024


@dataclass(frozen=True, repr=False)
class ThalovantIdentity:
    """The identity of one client.

    `password` is stretched into the Noise pre-shared key and never travels; `ca_pem` holds certificates (PEM)
    that are trusted for this identity's endpoints only, beside the usual ones; `source_path` is the file it
    was read from.
    """

    access_key: str
    password: str
    default_master: str
    site_id: str
    default_port: int = DEFAULT_PORT
    default_path: str = ""
    data_plane_endpoints: HubDataPlaneEndpoints = field(default_factory=HubDataPlaneEndpoints)
    protocols: HubProtocolSettings = field(default_factory=HubProtocolSettings)
    mqtt: MqttBrokerCredentials | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    source_path: str | None = None
    ca_pem: str | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ThalovantIdentity:
        """Read an identity with the names and aliases of contract 3.4.3 and 3.6; unknown names are left alone.

        Raises ThalovantIdentityError naming the field that is missing or unusable, never its value.
        """
        if not isinstance(values, Mapping):
            raise ThalovantIdentityError("An identity is a mapping of names to values (a JSON object).")
        mqtt = MqttBrokerCredentials.from_mapping(values.get("mqtt"))
        metadata = values.get("metadata")
        return cls(
            access_key=_required(values, "access_key"),
            password=_required(values, "password"),
            default_master=_required(values, "default_master"),
            site_id=_required(values, "site_id"),
            default_port=_port(_first(values, "default_port")),
            default_path=_path(_first(values, "default_path")),
            data_plane_endpoints=_endpoints(values, mqtt),
            protocols=HubProtocolSettings.from_mapping(_protocols(values)),
            mqtt=mqtt,
            metadata=dict(metadata) if isinstance(metadata, Mapping) else {},
            ca_pem=_certificates(values.get("ca_pem")),
        )

    @classmethod
    def from_file(cls, path: str | Path) -> ThalovantIdentity:
        """Read a JSON identity file that only its owner can open (contract 3.6).

        Raises ThalovantIdentityError: missing, open to others, no JSON object, or not an identity.
        """
        target = Path(path).expanduser()
        try:
            values = json.loads(_read(target))
        except (ValueError, RecursionError):
            # `from None`: the parser's error carries the whole text of the file.
            said = f"The identity file {target} is not JSON."
            raise diagnosed(ThalovantIdentityError, diagnose("identity_unreadable", said=said)) from None
        return _from_parsed(values, target, "identity file")

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, profile: str | None = None) -> ThalovantIdentity:
        """Read a profile of the YAML configuration (contract 3.6); `path` None means the user's own.

        The profile is the argument, else the one the file names, else `default`. Raises
        ThalovantIdentityError.
        """
        target = _config_path(path)
        try:
            values = chosen(read_config(target, required=True), profile, target)
        except ThalovantConfigError as error:
            raise ThalovantIdentityError(str(error)) from error
        return _from_parsed(values, target, "configuration")

    @classmethod
    def from_env(cls, prefix: str = "THALOVANT_") -> ThalovantIdentity:
        """Read the environment: the names of contract 3.6, and those of `identity_environment`.

        Raises ThalovantIdentityError naming what is missing.
        """
        return cls.from_mapping(from_environment(prefix, os.environ))

    def as_dict(self, *, include_secrets: bool = False) -> dict[str, Any]:
        """The identity as a mapping: safe to log, or with secrets everything that `from_mapping` reads again.

        `protocols` is not written, as in the published SDKs: they are the hub's to say (contract 3.6).
        """
        secret = include_secrets
        master = self.default_master if secret else without_user_info(self.default_master)
        whole: dict[str, Any] = {"site_id": self.site_id, "default_master": master}
        whole |= {"default_port": self.default_port, "default_path": self.default_path}
        whole["data_plane_endpoints"] = self.data_plane_endpoints.as_dict(redact_credentials=not secret)
        if secret:
            whole |= {"access_key": self.access_key, "password": self.password}
        if self.mqtt is not None:
            whole["mqtt"] = self.mqtt.as_dict(include_secrets=secret)
        if self.metadata:
            whole["metadata"] = dict(self.metadata) if secret else redacted(self.metadata)
        if self.ca_pem:
            whole["ca_pem"] = self.ca_pem if secret else "<present>"
        return whole

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the whole identity, secrets included, as JSON to `path` (mode 0600, at once or not at all).

        Its Noise key, if it has one by now, is copied to where clients of that file look for it. Raises
        ThalovantIdentityError when the file exists (unless `overwrite`), is a symlink, or cannot be written.
        """
        text = json_text(self._whole(), indent=2) + "\n"
        try:
            saved = write_private_text(path, text, overwrite=overwrite)
        except PrivateFileError as error:
            raise ThalovantIdentityError(f"The identity was not saved: {error}") from error
        take_key_along(self, saved)
        return saved

    def save_to_config(
        self,
        path: str | Path | None = None,
        *,
        profile: str | None = None,
        overwrite: bool = False,
        use: bool | None = None,
    ) -> str:
        """Write the whole identity, secrets included, as a profile of the YAML configuration; return its name.

        `path` None means the user's own file, `profile` None the one that `from_config()` reads. `use` makes it the
        one that is read when nobody names one; None does so when there is none yet. All else in the file stays, and
        its Noise key is copied as by `save`. Raises ThalovantIdentityError: the profile exists (unless `overwrite`), or
        the file cannot be used or written.
        """
        target = _config_path(path)
        try:
            name = save_profile(target, profile, self._whole(), overwrite=overwrite, use=use)
        except ThalovantConfigError as error:
            raise ThalovantIdentityError(str(error)) from error
        take_key_along(self, target)
        return name

    def as_env(self, prefix: str = "THALOVANT_") -> dict[str, str]:
        """The environment variables that `from_env` reads again: all of the identity, secrets included.

        Raises ThalovantIdentityError for a prefix that no variable can begin with.
        """
        return to_environment(self._whole(), prefix)

    def env_lines(self, prefix: str = "THALOVANT_", *, export: bool = False) -> str:
        """`as_env` as lines `NAME=value` for a shell and for systemd's `EnvironmentFile=`, quoted where it must be.

        With `export` each line begins so, for `eval`. Raises ThalovantIdentityError as `as_env`.
        """
        return lines(self.as_env(prefix), export=export)

    def _whole(self) -> dict[str, Any]:
        """What is written to files: `as_dict` with its secrets, and what the hub has switched on."""
        return {**self.as_dict(include_secrets=True), "protocols": self.protocols.as_dict()}

    def endpoint_base(self) -> str:
        """The base of the HTTPS carrier, port written; the hub's key is pinned under it, too (contract 2, 4.2)."""
        return self.data_plane_endpoints.http_base(self.default_master, self.default_port, self.default_path)

    def endpoint_for(self, protocol: HubProtocol) -> str | None:
        """The address a carrier dials; None when this identity has none. For https there always is one."""
        return self.endpoint_base() if protocol == "https" else self.data_plane_endpoints.endpoint_for(protocol)

    def supports_protocol(self, protocol: HubProtocol) -> bool:
        """True when the hub said that it has the carrier switched on."""
        return self.protocols.is_enabled(protocol)

    def enabled_protocols(self) -> tuple[HubProtocol, ...]:
        """The carriers the hub said it has switched on."""
        return self.protocols.enabled_protocols()

    def __repr__(self) -> str:
        shown = {
            "default_master": without_user_info(self.default_master),
            "site_id": self.site_id,
            "default_port": self.default_port,
            "default_path": self.default_path,
            "data_plane_endpoints": self.data_plane_endpoints,
            "protocols": self.protocols,
            "mqtt": self.mqtt,
        }
        trust = ", ca_pem='<present>'" if self.ca_pem else ""
        return f"ThalovantIdentity({', '.join(f'{name}={value!r}' for name, value in shown.items())}{trust})"


def _first(values: Mapping[str, Any], name: str) -> object:
    """The first alias that is present decides, even when it holds nothing (contract 3.4.3)."""
    return next((values[alias] for alias in ALIASES[name] if alias in values), None)


def _required(values: Mapping[str, Any], name: str) -> str:
    text = text_of(_first(values, name))
    if not text:
        raise ThalovantIdentityError(f"Missing required identity field: {', '.join(ALIASES[name])}")
    return checked(text, name)


def _port(value: object) -> int:
    if value is None or value == "":
        return DEFAULT_PORT
    text = text_of(value)
    if not (text.isascii() and text.isdigit()):
        raise ThalovantIdentityError(f"Identity field must be an integer: {', '.join(ALIASES['default_port'])}")
    if not 1 <= (port := int(text[:9])) <= 65_535:
        raise ThalovantIdentityError("The identity field default_port must lie between 1 and 65535.")
    return port


def _path(value: object) -> str:
    path = checked(value.strip().strip("/"), "default_path") if isinstance(value, str) else ""
    return f"/{path}" if path else ""


def _endpoints(values: Mapping[str, Any], mqtt: MqttBrokerCredentials | None) -> HubDataPlaneEndpoints:
    named = next((values[name] for name in ENDPOINT_GROUPS if isinstance(values.get(name), Mapping)), None)
    found = HubDataPlaneEndpoints.from_mapping(named)
    if not (grouped := bool(found.as_dict())):  # a group that names no address is none
        found = HubDataPlaneEndpoints.from_mapping(values)
    if not grouped and mqtt is not None and found.mqtt is None:
        found = replace(found, mqtt=HubDataPlaneEndpoints.from_mapping({"mqtt": mqtt.endpoint}).mqtt)
    master = text_of(_first(values, "default_master"))
    if found.wss is None and master.lower().startswith(("wss://", "ws://")):
        found = replace(found, wss=HubDataPlaneEndpoints.from_mapping({"wss": master}).wss)
    return found


def _protocols(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Only a named group counts: an identity's own `wss` and `mqtt` are addresses, not switches."""
    return {name: values[name] for name in PROTOCOL_GROUPS if name in values}


def _certificates(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_CA_PEM or "-----BEGIN CERTIFICATE-----" not in value:
        raise ThalovantIdentityError("The identity field ca_pem holds no PEM certificates.")
    if "PRIVATE KEY-----" in value:
        raise ThalovantIdentityError("The identity field ca_pem holds a private key; only certificates belong there.")
    checked("".join(value.split()), "ca_pem")
    return value


def _config_path(path: str | Path | None) -> Path:
    return Path(path).expanduser() if path is not None else default_config_path()


def _read(target: Path) -> str:
    try:
        return read_private_text(target)
    except PrivateFileError as error:
        raise diagnosed(ThalovantIdentityError, _why_not_read(target, error)) from error


def _why_not_read(target: Path, error: PrivateFileError) -> Diagnosis:
    if error.code != "open_to_others":
        return diagnose("identity_unreadable", said=error)
    return diagnose("identity_open_to_others", file=target, mode=f"{stat.S_IMODE(target.stat().st_mode):04o}")


def _from_parsed(values: object, target: Path, what: str) -> ThalovantIdentity:
    if not isinstance(values, Mapping):
        said = f"The {what} {target} does not hold an object."
        raise diagnosed(ThalovantIdentityError, diagnose("identity_unreadable", said=said))
    try:
        identity = ThalovantIdentity.from_mapping(values)
    except ThalovantIdentityError as error:
        said = f"{str(error).rstrip('.')} (in {target})."
        raise diagnosed(ThalovantIdentityError, diagnose("identity_unreadable", said=said)) from None
    return replace(identity, source_path=str(target))
