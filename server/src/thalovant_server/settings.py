# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, checked before anything is opened (architecture decisions 8 and 13).

One model: its fields are the options of the command line, the variables of the environment and the keys of the file,
all under the same names. Where a value came from is known by `settings_sources` alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from thalovant_server.brokers.names import BrokerAddress, check_root
from thalovant_server.errors import SettingsError
from thalovant_server.server_tls import canonical

API_PORT = 8443
MQTT_PORT = 8883
BROKER_PORT = 8884
BROKER_USER = "thalovant-admin"
CHECK_SECONDS = 60.0  # between two looks whether an outside broker has what it should
DRAIN_SECONDS = 10.0  # how long SIGTERM waits for asks under way
ENVIRONMENT_PREFIX = "THALOVANT_SERVER_"

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*\Z")
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - to be told that nobody can dial it


def _as_list(value: Any) -> Any:
    """Let one stand for a list of one."""
    return (value,) if isinstance(value, str) else value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")  # noqa: TRY004 - pydantic makes its own error of it
    return value


def _home(value: Any) -> Any:
    if value == "":
        raise ValueError("a path is wanted")
    try:
        return Path(value).expanduser() if isinstance(value, str) else value
    except RuntimeError as error:
        raise ValueError(f"{value} cannot be found: there is no such home") from error


Several = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_list)]
Port = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=65535)]
File = Annotated[Path, BeforeValidator(_home)]


class Settings(BaseSettings):
    """The settings of `thalovant-server`.

    Raises:
        SettingsError: two settings do not go together; says which line to type instead.
        pydantic.ValidationError: one is not usable by itself; `settings_sources` says where it came from.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True)

    data: File = Field(description="Where the server keeps its files; made at the first start.")
    host: str = Field("127.0.0.1", description="Address to listen on; `::` is every address, of IPv6 and IPv4.")
    public_host: Several = Field(
        (),
        description="Name or address by which clients reach this machine; the first is the one that they are given.",
    )
    api_port: Port = Field(API_PORT, description="TLS port of the API, WebSocket and HTTPS.")
    mqtt_port: Port = Field(MQTT_PORT, description="TLS port of MQTT.")
    agent: Several = Field(
        (),
        description="An agent that hubs may name; `default=…` answers for every hub that names none.",
    )
    certificate: File | None = Field(
        None,
        description="A certificate of your own (PEM, with those that lead to its authority), read again on change.",
    )
    certificate_key: File | None = Field(None, description="Its private key (PEM).")
    certificate_authority: File | None = Field(
        None, description="The authority that signed it, for clients to trust (PEM); leave out when they do anyway."
    )
    broker: Literal["mosquitto"] | None = Field(
        None, description="Run a broker of this kind beside the server, for hubs that meet their clients there."
    )
    broker_port: Port = Field(BROKER_PORT, description="TLS port of the broker that --broker runs.")
    broker_url: str | None = Field(
        None, description="Join a broker that runs already: mqtts://HOST:PORT. Hubs meet their clients there."
    )
    broker_public_url: str | None = Field(
        None, description="How clients reach that broker, where it differs from --broker-url."
    )
    broker_ca: File | None = Field(
        None, description="The authority that signed the broker's certificate (PEM); leave out for a public one."
    )
    broker_certificate: File | None = Field(
        None, description="A certificate to show to the broker, where it wants one (PEM)."
    )
    broker_certificate_key: File | None = Field(None, description="Its private key (PEM).")
    broker_user: str = Field(BROKER_USER, description="Who may tell the broker which clients there are.")
    broker_password_file: File | None = Field(None, description="Holds that user's password.")
    broker_root: str = Field("", description="Where in the broker's topics everything of this server lies.")
    broker_check_seconds: Annotated[float, BeforeValidator(_no_bool), Field(ge=1, le=86400)] = Field(
        CHECK_SECONDS, description="How often to see whether the broker still has what it should."
    )
    ready_file: File | None = Field(
        None, description="Write how the server is reached to this file (JSON) once everything accepts."
    )
    drain_seconds: Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=3600)] = Field(
        DRAIN_SECONDS, description="How long a stop waits for asks under way."
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given and nothing else: `settings_sources` has asked the others and knows who said what."""
        return (init_settings,)

    @field_validator("host")
    @classmethod
    def _plain_host(cls, host: str) -> str:
        return plain_host(host)

    @field_validator("public_host")
    @classmethod
    def _plain_public_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return plain_public_hosts(hosts)

    @field_validator("broker_url", "broker_public_url")
    @classmethod
    def _whole_broker_url(cls, url: str | None) -> str | None:
        return None if url is None else str(BrokerAddress.parse(url))

    @field_validator("broker_root")
    @classmethod
    def _plain_root(cls, root: str) -> str:
        return check_root(root)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.api_port == self.mqtt_port != 0:
            raise SettingsError(f"--api-port and --mqtt-port are both {self.api_port}: give each its own")
        if not self.public_host and not is_loopback(self.host):
            raise SettingsError(
                f"--host {self.host} is reachable from other machines, and no name is known by which they reach it. "
                f"Type: thalovant-server up --data {self.data} --host {self.host} --public-host NAME "
                "(the name or address that clients use)"
            )
        self._check_certificate()
        self._check_broker()
        return self

    def _check_certificate(self) -> None:
        if (self.certificate is None) != (self.certificate_key is None):
            there, lacking = (
                ("certificate-key", "certificate") if self.certificate_key else ("certificate", "certificate-key")
            )
            raise SettingsError(f"--{there} is given without --{lacking}: they belong together")
        if self.certificate_authority is not None and self.certificate is None:
            raise SettingsError(
                "--certificate-authority is for a certificate of your own: add --certificate and --certificate-key"
            )
        if self.certificate is not None and not self.public_host:
            raise SettingsError(
                f"--certificate {self.certificate} needs --public-host: the name in it that clients use"
            )

    def _check_broker(self) -> None:
        if self.broker is not None and self.broker_url is not None:
            raise SettingsError("--broker runs a broker of our own, --broker-url joins another one: take one of them")
        if (self.broker_certificate is None) != (self.broker_certificate_key is None):
            raise SettingsError("--broker-certificate and --broker-certificate-key belong together: add the other one")
        if self.broker is not None and self.broker_port == self.mqtt_port != 0:
            raise SettingsError(f"--broker-port and --mqtt-port are both {self.broker_port}: give each its own")
        if self.broker is not None and self.broker_port == self.api_port != 0:
            raise SettingsError(f"--broker-port and --api-port are both {self.broker_port}: give each its own")
        if self.broker_url is not None and self.broker_password_file is None:
            raise SettingsError(
                f"--broker-url needs --broker-password-file: the password of {self.broker_user}, who tells the broker "
                "which clients there are. `thalovant-server broker init mosquitto --dir D` writes D/admin-password"
            )
        if self.broker_url is None and (lonely := self._lonely_broker_option()):
            raise SettingsError(f"--{lonely} is for a broker that is joined: add --broker-url mqtts://HOST:PORT")

    def _lonely_broker_option(self) -> str | None:
        names = ("broker_public_url", "broker_ca", "broker_certificate", "broker_password_file")
        return next((option_name(name) for name in names if getattr(self, name) is not None), None)

    @property
    def has_broker(self) -> bool:
        """Whether hubs may meet their clients at an outside broker."""
        return self.broker is not None or self.broker_url is not None

    @property
    def listen_host(self) -> str:
        """The address to listen on."""
        return to_listen_on(self.host)

    @property
    def advertised_host(self) -> str:
        """The host in the addresses that clients are given."""
        return self.public_host[0] if self.public_host else "localhost"


def to_listen_on(host: str) -> str:
    """Return the address to bind; `localhost` may name two, of which the one every system has is taken."""
    return "127.0.0.1" if host == "localhost" else host


def option_name(field: str) -> str:
    """Return a field's option, without the dashes in front; the file has the same key."""
    return field.replace("_", "-")


def variable_name(field: str) -> str:
    """Return a field's variable of the environment."""
    return f"{ENVIRONMENT_PREFIX}{field.upper()}"


def takes_several(field: str) -> bool:
    """Whether a field holds a list: its option may be repeated, its variable has commas."""
    return isinstance(Settings.model_fields[field].default, tuple)


def plain_host(host: str) -> str:
    """Return an address without the brackets that an IPv6 one has in a URL."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host


def plain_public_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return names and addresses as they are compared, each once.

    Raises:
        ValueError: one cannot be dialled; says why.
    """
    return tuple(dict.fromkeys(canonical(_checked_host(plain_host(host))) for host in hosts))


def _checked_host(host: str) -> str:
    if host in _ANY_ADDRESS:
        raise ValueError(f"{host} is where to listen (--host), nobody can dial it: name what clients use")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _checked_name(host)
    if getattr(address, "scope_id", None) or address.is_multicast or address.is_unspecified:
        raise ValueError(f"{host} is no address that other machines can dial: name another, without zone")
    return host


def _checked_name(host: str) -> str:
    name = host.removesuffix(".")
    if not _HOST_NAME.match(name) or name.rpartition(".")[2].isdigit():
        raise ValueError(f"{host!r} is neither a host name nor an address: type it without scheme, port or path")
    return name


def is_loopback(host: str) -> bool:
    """Whether only this machine can dial what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
