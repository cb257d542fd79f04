# SPDX-License-Identifier: Apache-2.0
"""The bodies that the API takes (contract 3 and 4). Unknown members are ignored, so that newer SDKs pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from thalovant_server import client_spec

Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
LONGEST_SECONDS = 10 * 366 * 24 * 60 * 60
Visibility = Literal["public", "private"]
CapacityProfile = Literal["standard", "autoscaling"]


class Body(BaseModel):
    """Types are taken as they are: a text is never read as a number or a boolean."""

    model_config = ConfigDict(strict=True, extra="ignore")


def _example(**members: Any) -> ConfigDict:
    """The model's part of the API document: one request that makes sense."""
    return ConfigDict(json_schema_extra={"examples": [members]})


_CARRIERS = {carrier: {"enabled": True} for carrier in ("wss", "http", "mqtt")}


class Login(Body):
    """Password login. The second factor's members are taken and not needed: no account here has one."""

    model_config = _example(email="admin@localhost", password="correct horse battery staple")  # noqa: S106

    email: Annotated[str, StringConstraints(min_length=1, max_length=320)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    scope: Annotated[str, StringConstraints(max_length=1024)] | None = None
    otp_code: str | None = None
    recovery_code: str | None = None


class NewToken(Body):
    """An API token to make. Without `hub_ids` it is good for every hub; without an end until it is revoked."""

    model_config = _example(name="nightly build", scopes=["hubs:read", "clients:write"], expires_in_seconds=7_776_000)

    name: str
    scopes: Annotated[list[str], Field(min_length=1, max_length=32)]
    hub_ids: Annotated[list[Id], Field(min_length=1, max_length=100)] | None = None
    expires_in_seconds: Annotated[int, Field(ge=60, le=LONGEST_SECONDS)] | None = None


Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Role = Literal["admin", "user"]


class DeviceRequest(Body):
    """A program that asks to be signed in. Without scopes: hubs:read and clients:write."""

    model_config = _example(scopes=["hubs:read", "clients:write"], client_name="kitchen-pi")

    scopes: Annotated[list[str], Field(max_length=32)] | None = None
    client_name: Annotated[str, StringConstraints(max_length=200)] | None = None
    client_id: Id | None = None


class DeviceCode(Body):
    """The code that the program was given."""

    model_config = _example(device_code="example")

    device_code: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class DeviceApproval(Body):
    """What to grant. Without scopes: all that was asked for and that the caller has; without hubs: all of them."""

    model_config = _example(scopes=["hubs:read"])

    scopes: Annotated[list[str], Field(min_length=1, max_length=32)] | None = None
    hub_ids: Annotated[list[Id], Field(min_length=1, max_length=100)] | None = None


class NewUser(Body):
    """Somebody to invite."""

    model_config = _example(email="ann@example.org", display_name="Ann", role="user")

    email: Annotated[str, StringConstraints(min_length=3, max_length=320)]
    display_name: Annotated[str, StringConstraints(max_length=200)] | None = None
    role: Role = "user"


class UserChange(Body):
    """What may change of an account; what is left out stays."""

    model_config = _example(active=False)

    active: bool | None = None
    role: Role | None = None
    display_name: Annotated[str, StringConstraints(max_length=200)] | None = None


class Acceptance(Body):
    """An invitation, and the password that goes with the account from now on."""

    model_config = _example(token="tvinv_example", password="correct horse battery staple")  # noqa: S106

    token: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    password: Password
    display_name: Annotated[str, StringConstraints(max_length=200)] | None = None


class PasswordChange(Body):
    """The present password and the one from now on."""

    model_config = _example(
        current_password="correct horse battery staple",  # noqa: S106
        new_password="a longer one, easy to type",  # noqa: S106
    )

    current_password: Password
    new_password: Password


class NewHub(Body):
    """A hub to make; `spec.version` is required.

    `spec.protocols.mqtt.via` says where its clients meet it over MQTT: `embedded`, at this server, or `link`, at the
    outside broker that this server has. Without it: at the broker, where there is one.
    """

    model_config = _example(name="kitchen", spec={"version": "1", "agent": "echo", "protocols": _CARRIERS})

    name: str
    spec: dict[str, Any]
    slug: str | None = None
    namespace: str | None = None
    domain: str | None = None
    active: bool = True
    visibility: Visibility = "private"
    capacity_profile: CapacityProfile = "standard"
    owner_id: Id | None = None
    runtime_group_id: None = None


class HubChange(Body):
    """What may change of a hub, and what may be sent along unchanged; null leaves it as it is.

    When `spec.protocols.mqtt.via` changes, sessions over MQTT end, and clients need a rotation to follow.
    """

    model_config = _example(spec={"protocols": {"mqtt": {"enabled": True}}})

    name: str | None = None
    slug: str | None = None
    namespace: str | None = None
    domain: str | None = None
    owner_id: str | None = None
    active: bool | None = None
    visibility: Visibility | None = None
    capacity_profile: CapacityProfile | None = None
    spec: dict[str, Any] | None = None
    runtime_group_id: None = None


class NewClient(Body):
    """A client to make. Secrets in `spec` are taken, never kept there and never sent back in it."""

    model_config = _example(hub_id="hub-3f0c9a", name="kitchen-light")

    hub_id: Id
    name: str
    active: bool = True
    owner_id: Id | None = None
    spec: dict[str, Any] = Field(default_factory=dict)


class RateLimit(Body):
    """A rate limit to set."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Annotated[int, Field(ge=1, le=client_spec.MOST_MESSAGES)]
    per_seconds: Annotated[int, Field(ge=1, le=client_spec.MOST_SECONDS)]


_Name = Annotated[str, StringConstraints(min_length=1, max_length=client_spec.NAME_LENGTH)]
Names = Annotated[list[_Name], Field(max_length=client_spec.MOST_NAMES)]


class PolicyChange(Body):
    """What is to change of a client's policy. What is left out stays; null goes back to the preset."""

    model_config = _example(rate_limit={"messages": 60, "per_seconds": 60}, daily_quota=500)

    connection_type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")] | None = None
    allowed_types: Names | None = None
    can_broadcast: bool | None = None
    can_propagate: bool | None = None
    can_escalate: bool | None = None
    blocked_skills: Names | None = None
    blocked_intents: Names | None = None
    rate_limit: RateLimit | None = None
    daily_quota: Annotated[int, Field(ge=0, le=client_spec.MOST_ASKS)] | None = None


class ClientChange(Body):
    """What may change of a client, and what may be sent along unchanged; null leaves it as it is.

    `active` false pauses the client: it is cut off until it is true again, with the same credentials. `spec` is laid
    over key by key (null removes a key); `siteId` is the client's site. Credentials change by a rotation only.
    """

    model_config = _example(name="kitchen-light-2", active=True, spec={"siteId": "kitchen"})

    name: str | None = None
    active: bool | None = None
    hub_id: str | None = None
    owner_id: str | None = None
    spec: dict[str, Any] | None = None


class Rotation(Body):
    """A new credential for a client. The old one works on for `grace_seconds`; 0 ends all there are at once."""

    model_config = _example(grace_seconds=86400)

    grace_seconds: Annotated[int, Field(ge=0, le=2_592_000)] = 86_400
    spec: dict[str, Any] | None = Field(
        default=None, description="May bring `apiKey` and `password`, as a creation may."
    )


class RotationEnd(Body):
    """Ends a rotation's grace. `force`: also while the new credential has never been used."""

    model_config = _example(force=False)

    force: bool = False


class AccessKey(Body):
    """A credential to ask about, by its access key: in the body, so that no log of addresses holds it."""

    model_config = _example(access_key="V2hvZXZlciByZWFkcyB0aGlzIGlzIGN1cmlvdXM")

    access_key: Annotated[str, StringConstraints(min_length=1, max_length=256)]
