# SPDX-License-Identifier: Apache-2.0
"""The shapes of the answers, for the API document alone: nothing is parsed or built with them (contract 3 and 4).

Members that an answer may hold beyond these are allowed, as they are everywhere in this API (contract 1.4). Each is
held against real answers by the tests.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from thalovant_server.control.schemas import CapacityProfile, Visibility

Time = Annotated[str, Field(description="ISO 8601, UTC.", examples=["2026-11-22T10:00:00.000Z"])]
Etag = Annotated[str, Field(description="Send it back as If-Match, byte for byte.", examples=['W/"1"'])]
HubId = Annotated[str, Field(examples=["hub-3f0c9a"])]
ClientId = Annotated[str, Field(examples=["client-5d1e77"])]
Item = TypeVar("Item")


class Resource(BaseModel):
    """Describes an answer."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})


class Token(Resource):
    """What a login gives. Send it as `Authorization: Bearer <access_token>`."""

    access_token: Annotated[str, Field(description="Secret; told this once.", examples=["ses-example"])]
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Field(description="Seconds.", examples=[43200])]
    scopes: Annotated[list[str], Field(examples=[["hubs:read", "clients:write"]])]
    token_id: Annotated[str, Field(description="To revoke it by.", examples=["tok-8b2f11"])]


class ApiToken(Resource):
    """A token that lasts, without itself: one made for a program (`api`), or by a device login (`device`)."""

    id: Annotated[str, Field(description="To revoke it by.", examples=["tok-8b2f11"])]
    kind: Literal["api", "device", "session"]
    name: Annotated[str | None, Field(examples=["nightly build"])]
    scopes: Annotated[list[str], Field(examples=[["hubs:read", "clients:write"]])]
    hub_ids: Annotated[list[str] | None, Field(description="The only hubs it is good for; null: all of them.")]
    created_at: Time
    expires_at: Annotated[Time | None, Field(description="Null: good until it is revoked.")]
    last_used_at: Annotated[Time | None, Field(description="Null: never used.")]


class NewApiToken(ApiToken):
    """A token that was just made."""

    access_token: Annotated[str, Field(description="Secret; told this once.", examples=["tvpat_example"])]
    token_type: Literal["bearer"]
    token_id: Annotated[str, Field(description="The same as `id`.", examples=["tok-8b2f11"])]


class Account(Resource):
    """An account of this server."""

    id: Annotated[str, Field(examples=["user-71aa02"])]
    email: Annotated[str, Field(examples=["admin@localhost"])]
    display_name: str
    role: Annotated[str, Field(examples=["admin"])]


class DeviceAuthorization(Resource):
    """A device login that began: show the user code and the address, keep the device code."""

    device_code: Annotated[str, Field(description="Secret.", examples=["example"])]
    user_code: Annotated[str, Field(examples=["BCDF-GHJK"])]
    verification_uri: Annotated[str, Field(examples=["https://hub.example.test:8443/v1/device"])]
    verification_uri_complete: str
    interval: Annotated[float, Field(description="Seconds between two questions, at least.")]
    expires_in: Annotated[int, Field(description="Seconds.")]


class DeviceLogin(Resource):
    """Who asks for what. Nothing of it is verified: anybody may call itself anything."""

    user_code: Annotated[str, Field(examples=["BCDF-GHJK"])]
    scopes: Annotated[list[str], Field(examples=[["hubs:read", "clients:write"]])]
    client_name: Annotated[str | None, Field(examples=["kitchen-pi"])]
    client_id: None
    client_verified: Literal[False]
    device_name: None
    address: Annotated[str, Field(description="Where it was asked for.", examples=["192.0.2.7"])]
    created_at: Time
    expires_at: Time


class ApprovedDeviceLogin(DeviceLogin):
    """What the program will get."""

    hub_ids: list[str] | None


class User(Account):
    """An account as admins see it. `invited`: nobody has chosen its password yet."""

    active: bool
    invited: bool
    created_at: Time


class InvitedUser(User):
    """An account that was just invited."""

    invitation_token: Annotated[str, Field(description="Secret; told this once.", examples=["tvinv_example"])]
    invitation_expires_at: Time


class UserAnswer(Resource):
    """An account that just got its password."""

    data: User


class Profile(Resource):
    """Who is signed in."""

    data: Account


class DataPlaneEndpoints(Resource):
    """Where a hub is reached, on each carrier that is on."""

    wss: Annotated[str | None, Field(examples=["wss://hub.example.test:8443/hubs/hub-3f0c9a"])] = None
    https: Annotated[str | None, Field(examples=["https://hub.example.test:8443/hubs/hub-3f0c9a"])] = None
    mqtt: Annotated[str | None, Field(examples=["mqtts://hub.example.test:8883"])] = None


class PublicHub(Resource):
    """A hub as anybody sees it."""

    id: HubId
    slug: Annotated[str, Field(examples=["demo"])]
    title: Annotated[str, Field(examples=["Demo"])]
    name: Annotated[str, Field(examples=["demo"])]
    domain: Annotated[str, Field(examples=["hub.example.test"])]
    active: bool
    visibility: Visibility
    spec: dict[str, Any]
    data_plane_endpoints: DataPlaneEndpoints


class Hub(PublicHub):
    """A hub as its owner sees it; secrets in `spec` are left out."""

    owner_id: str
    namespace: Annotated[str, Field(examples=["default"])]
    capacity_profile: CapacityProfile
    is_locked: bool
    runtime_group_id: None
    etag: Etag
    created_at: Time
    updated_at: Time


class ClientSummary(Resource):
    """A client of a hub, without its `spec`."""

    id: ClientId
    hub_id: HubId
    name: Annotated[str, Field(examples=["kitchen-light"])]
    active: bool
    owner_id: str
    etag: Etag
    created_at: Time
    updated_at: Time


class LastUse(Resource):
    """When a session began or ended last, over which carrier, and from where."""

    at: Time
    carrier: Literal["wss", "https", "mqtt"]
    address: str


class Credential(Resource):
    """A live credential of a client, without its secrets. After a rotation the old one is in its grace."""

    number: Annotated[int, Field(ge=1, description="Counts a client's credentials; none is used twice.")]
    state: Literal["current", "grace"]
    created_at: Time
    expires_at: Annotated[Time | None, Field(description="The end of its grace; null: it has no end.")]
    mqtt: Annotated[bool, Field(description="Whether it is good for MQTT.")]
    key_pinned: Annotated[bool, Field(description="Whether it is bound to a Noise key.")]
    topic_prefix: Annotated[str, Field(examples=["hubs/hub-3f0c9a/clients/client-5d1e77.2"])]
    last_used: Annotated[LastUse | None, Field(description="null: never.")]


class Client(ClientSummary):
    """A client of a hub, without its secrets. In a list `spec` is left out on request."""

    spec: dict[str, Any] | None = None
    credentials: Annotated[list[Credential], Field(description="One, or two during a rotation; the newest last.")]


class ClientPresence(Resource):
    """Whether a client is online, from its sessions themselves."""

    client_id: ClientId
    hub_id: HubId
    name: Annotated[str, Field(examples=["kitchen-light"])]
    state: Annotated[
        Literal["never_seen", "online", "stale", "offline", "revoked"],
        Field(description="`stale`: connected, and silent for too long. `revoked`: paused or removed."),
    ]
    since: Annotated[Time | None, Field(description="Of the session shown, or of the state; null: not known.")]
    carrier: Annotated[str | None, Field(description="Where it is, or was last.", examples=["mqtt"])]
    address: Annotated[str | None, Field(description="From where, or from where last.", examples=["192.0.2.7"])]
    why: Annotated[str | None, Field(description="Of one that is offline or revoked.", examples=["connection_lost"])]
    sessions: Annotated[int, Field(description="Sessions that are connected now.", ge=0)]
    last_seen_at: Annotated[Time | None, Field(description="Its last sign of life.")]


class BrokerCredentials(Resource):
    """How a client reaches its own topics over MQTT (the seed's identity block)."""

    endpoint: Annotated[str, Field(examples=["mqtts://hub.example.test:8883"])]
    username: str
    password: Annotated[str, Field(description="Secret.")]
    topic_prefix: Annotated[str, Field(examples=["hubs/hub-3f0c9a/clients/client-5d1e77"])]
    c2s_topic: str
    s2c_topic: str
    status_topic: str
    qos: Annotated[int, Field(ge=0, le=1)]
    tls: bool


class Identity(Resource):
    """All that a client needs to connect. Told this once, and to a replay of the same Idempotency-Key."""

    access_key: Annotated[str, Field(description="Names the client on the wire.")]
    password: Annotated[str, Field(description="Secret; never travels again.")]
    site_id: Annotated[str, Field(examples=["kitchen-light"])]
    default_master: Annotated[str, Field(examples=["wss://hub.example.test:8443/hubs/hub-3f0c9a"])]
    default_port: Annotated[int, Field(examples=[8443])]
    ca_pem: Annotated[str | None, Field(description="The authority to trust for this identity's addresses.")] = None
    mqtt: BrokerCredentials | None = None


class OperationLinks(Resource):
    """Where to ask on, as paths of this API."""

    self: Annotated[str | None, Field(examples=["/v1/operations/op-77c0e1"])]
    client: Annotated[str | None, Field(examples=["/v1/clients/client-5d1e77"])]


class Operation(Resource):
    """Something that was accepted and takes longer than its request: an outside broker takes up a credential."""

    id: Annotated[str, Field(examples=["op-77c0e1"])]
    kind: Annotated[str, Field(examples=["client.admission"])]
    aggregate_type: Annotated[str, Field(description="What it is about.", examples=["client"])]
    aggregate_id: Annotated[str | None, Field(examples=["client-5d1e77"])]
    status: Annotated[
        Literal["requested", "committed", "applied", "ready", "failed", "timed_out"],
        Field(description="Ends as `ready`, `failed` or `timed_out`."),
    ]
    details: dict[str, Any]
    git_commit_sha: str | None
    error_code: Annotated[str | None, Field(examples=["broker_refused"])]
    error_message: str | None
    created_at: Time
    updated_at: Time
    committed_at: Time | None
    applied_at: Time | None
    ready_at: Time | None
    terminal_at: Annotated[Time | None, Field(description="Its end.")]
    links: OperationLinks


class NewClientAnswer(Client):
    """A client, and the identity that was just made for it."""

    initial_identify: Identity
    operation: Annotated[
        Operation | None,
        Field(description="There when the client may connect over MQTT only once an outside broker has it."),
    ] = None


class AuditActor(Resource):
    """Who did it: an account by a token, a client, the server itself, or nobody that is known."""

    kind: Literal["account", "client", "server", "nobody"]
    id: str | None
    name: str | None
    token_id: str | None


class AuditTarget(Resource):
    """What it was done to."""

    kind: Literal["hub", "client", "credential", "account", "token"]
    id: str | None
    name: str | None


class AuditEntry(Resource):
    """One entry of the audit log. Holds no secret."""

    id: Annotated[str, Field(description="Grows with every entry.", examples=["42"])]
    at: Time
    action: Annotated[str, Field(examples=["client.created"])]
    outcome: Literal["done", "denied"]
    actor: AuditActor
    target: AuditTarget | None
    hub_id: str | None
    client_id: str | None
    address: Annotated[str | None, Field(description="Where from.", examples=["192.0.2.1"])]
    code: Annotated[str | None, Field(description="Why it was denied.", examples=["insufficient_scopes"])]
    times: Annotated[int, Field(description="How often; more than 1 sums up denials that came again.")]
    before: Annotated[dict[str, Any] | None, Field(description="What was; of a change, what differs.")]
    after: Annotated[dict[str, Any] | None, Field(description="What is; of a change, what differs.")]


class RateLimit(Resource):
    """So many messages at once, and as many again in each so many seconds, evenly spread."""

    messages: Annotated[int, Field(ge=1, examples=[60])]
    per_seconds: Annotated[int, Field(ge=1, examples=[60])]


class Usage(Resource):
    """The asks that a client has made today, UTC."""

    day: Annotated[str, Field(description="ISO 8601.", examples=["2026-11-22"])]
    used: Annotated[int, Field(ge=0)]


class Policy(Resource):
    """What a client may do, as it is in force: the preset of its kind, and what was set on top of it."""

    client_id: ClientId
    etag: Etag
    connection_type: Annotated[str | None, Field(examples=["voice_satellite"])]
    preset: Annotated[str | None, Field(description="Whose row holds where nothing is set; null: the default's.")]
    allowed_types: Annotated[list[str], Field(description="The only bus message types it may send.")]
    can_broadcast: bool
    can_propagate: bool
    can_escalate: Annotated[bool, Field(description="Whether it may send `query` frames.")]
    blocked_skills: list[str]
    blocked_intents: Annotated[list[str], Field(description="As `skill:intent`.")]
    rate_limit: RateLimit | None
    daily_quota: Annotated[int | None, Field(description="Asks a day, UTC; null: no bound.")]
    usage: Usage


class HubOfCredential(Resource):
    """The hub that a credential is, or was, for."""

    id: HubId
    slug: Annotated[str, Field(examples=["demo"])]
    name: Annotated[str, Field(examples=["demo"])]
    active: bool
    protocols: list[Literal["wss", "https", "mqtt"]]


class BrokerOfCredential(Resource):
    """How far the outside broker, at which the hub's MQTT is, is with a credential."""

    admitted: Annotated[bool | None, Field(description="Whether it has it; null: this server has no broker now.")]
    operation: Annotated[Operation | None, Field(description="The latest one; null: it ended long ago.")]


class CredentialFate(Resource):
    """What became of a credential. `client` and `hub` as they are now; null: removed."""

    status: Literal["live", "grace", "ended"]
    why: Literal["rotated", "replaced", "cancelled", "removed", "hub_removed"] | None
    ended_at: Time | None
    client: Client | None
    credential: Annotated[Credential | None, Field(description="null: it ended.")]
    hub: HubOfCredential | None
    broker: Annotated[BrokerOfCredential | None, Field(description="null: no outside broker, or it ended.")]


class AuditKey(Resource):
    """What exports of the audit log are signed with."""

    algorithm: Literal["Ed25519"]
    public_key: Annotated[str, Field(description="32 bytes, base64.")]


class PageMeta(Resource):
    """How many there are on this page, and the cursor of the next."""

    count: int
    next: Annotated[str | None, Field(description="Send it as `cursor`; null ends.")]


class PageLinks(Resource):
    """The next page, ready to ask for."""

    next: str | None


class Page(Resource, Generic[Item]):
    """One page of a list (contract 1.6)."""

    data: list[Item]
    meta: PageMeta
    links: PageLinks


class BrokerHealth(Resource):
    """How the outside broker is at which hubs meet their clients."""

    state: Annotated[
        Literal["connected", "away", "refused", "another_server", "missing"],
        Field(
            description="`away`: it is dialled again and again; `refused`: so it is, and somebody has to mend "
            "something; `another_server`: another server serves the same topics there; `missing`: a hub needs one, and "
            "the server was started without."
        ),
    ]
    since: Annotated[Time | None, Field(description="null: since the start.")]
    fault: Annotated[str | None, Field(description="What is wrong; null when nothing is, or to other machines.")]


class Health(Resource):
    """The API answers and its database can be read."""

    status: Literal["ok"]
    version: Annotated[str, Field(examples=["0.1.0"])]
    broker: Annotated[BrokerHealth | None, Field(description="Only where there is one, or should be.")] = None
