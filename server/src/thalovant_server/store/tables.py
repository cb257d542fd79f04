# SPDX-License-Identifier: Apache-2.0
"""The tables as they are now. How a database gets here from an older one is in `migrations/`; a test
compares both.

Times are microseconds since 1970, UTC. Columns named `sealed_*` hold what `sealing.Sealer` made; `*_hash`
its keyed hashes. `seq` orders rows by creation and is what a page's cursor counts in.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)

SERVER_ROW = 1

server = Table(
    "server",
    metadata,
    Column("id", Integer, primary_key=True),  # always SERVER_ROW: there is one
    Column("node_id", String(512), nullable=False),
    Column("sealed_static_key", LargeBinary, nullable=False),
    Column("sealed_canary", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("sealed_audit_key", LargeBinary),  # Ed25519, signs the audit log's export; made at the next start
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    Column("password_phc", String(512), nullable=False),  # empty: invited, and not joined yet
    Column("display_name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("token_hash", LargeBinary(32), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, index=True),  # null: good until it is revoked
    Column("revoked_at", BigInteger),
    Column("kind", String(16), nullable=False, server_default="session"),  # session, api or device
    Column("name", String(200)),
    Column("hub_ids", JSON(none_as_null=True)),  # null: not limited to some hubs
    Column("last_used_at", BigInteger),
)

invitations = Table(
    "invitations",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

device_logins = Table(
    "device_logins",
    metadata,
    Column("device_code_hash", LargeBinary(32), primary_key=True),
    Column("user_code", String(16), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("client_name", String(200)),
    Column("client_id", String(64)),
    Column("address", String(64), nullable=False),  # where it was asked for: shown to whoever approves
    Column("state", String(16), nullable=False),  # pending, approved or denied; taken: the row goes
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE")),  # who approved
    Column("hub_ids", JSON(none_as_null=True)),
    Column("token_expires_at", BigInteger),  # of the token to come; null: good until it is revoked
    Column("polled_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

hubs = Table(
    "hubs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("slug", String(64), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("owner_id", ForeignKey("accounts.id", ondelete="RESTRICT"), nullable=False),
    Column("namespace", String(200), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("visibility", String(16), nullable=False),
    Column("capacity_profile", String(16), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "owner_id", "seq"),
    Index(None, "visibility", "active", "seq"),
    sqlite_autoincrement=True,
)

clients = Table(
    "clients",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("hub_id", ForeignKey("hubs.id", ondelete="CASCADE"), nullable=False),
    Column("owner_id", ForeignKey("accounts.id", ondelete="RESTRICT"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("site_id", String(128), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("credentials_made", Integer, nullable=False),  # a topic prefix is numbered once and never again
    Column("revision", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "hub_id", "seq"),
    Index(None, "owner_id", "seq"),
    sqlite_autoincrement=True,
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("client_id", ForeignKey("clients.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("access_key", String(256), nullable=False, unique=True),
    Column("topic_prefix", String(256), nullable=False, unique=True),
    Column("mqtt_password_hash", LargeBinary(32)),  # null: made while MQTT was off, no way in there
    Column("sealed_password", LargeBinary),  # until it is stretched
    Column("sealed_psk", LargeBinary),
    Column("pinned_key", LargeBinary(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, index=True),  # end of its grace after a rotation; null: none
    Column("last_used_at", BigInteger),
    Column("last_used_carrier", String(8)),
    Column("last_used_address", String(64)),
    Column("sealed_mqtt_password", LargeBinary),  # of a hub at an outside broker, which may ask for it anew
    UniqueConstraint("client_id", "number"),
    sqlite_autoincrement=True,
)

# Credentials that are over, those of removed clients too: whoever still comes with one can be told why.
former_credentials = Table(
    "former_credentials",
    metadata,
    Column("access_key_hash", LargeBinary(32), primary_key=True),
    Column("client_id", String(64), nullable=False, index=True),  # no foreign key: it may be gone
    Column("client_name", String(200), nullable=False),
    Column("hub_id", String(64), nullable=False),
    Column("owner_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("why", String(16), nullable=False),  # rotated, replaced, cancelled, removed or hub_removed
    Column("ended_at", BigInteger, nullable=False, index=True),
)

presence = Table(
    "presence",
    metadata,
    Column("client_id", ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("state", String(16), nullable=False),  # online or offline, as it was written last
    Column("since", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
    Column("carrier", String(8)),
    Column("address", String(64)),
    Column("why", String(64)),
)

quota_usage = Table(
    "quota_usage",
    metadata,
    Column("client_id", ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Integer, nullable=False),  # days since 1970, UTC
    Column("used", Integer, nullable=False),
)

# What takes longer than its request. No foreign keys: it tells of clients that are gone, until it is pruned.
operations = Table(
    "operations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("status", String(16), nullable=False, index=True),  # requested, ready, failed or timed_out
    Column("owner_id", String(64), nullable=False),  # of the client
    Column("hub_id", String(64), nullable=False),
    Column("client_id", String(64), nullable=False),
    Column("credential_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),  # of the credential
    Column("error_code", String(80)),
    Column("error_message", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("terminal_at", BigInteger, index=True),
)

# Append-only: the migration made triggers that refuse a change, a removal and a replacement.
audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("action", String(64), nullable=False, index=True),
    Column("outcome", String(8), nullable=False, index=True),  # done or denied
    Column("actor_kind", String(16), nullable=False),  # account, client, server or nobody
    Column("actor_id", String(64)),
    Column("actor_name", String(320)),
    Column("token_id", String(64)),
    Column("target_kind", String(16)),  # hub, client, credential, account, token
    Column("target_id", String(64)),
    Column("target_name", String(320)),
    Column("hub_id", String(64)),
    Column("client_id", String(64), index=True),
    Column("owner_id", String(64), index=True),  # of the hub: may read the entry, as admins may
    Column("address", String(64)),
    Column("code", String(80)),  # of a denial
    Column("times", Integer, nullable=False, server_default="1"),  # of a denial that came again
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Index(None, "hub_id", "seq"),
    sqlite_autoincrement=True,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("payload_hash", LargeBinary(32), nullable=False),
    Column("resource_id", String(64), nullable=False, index=True),
    Column("sealed_answer", LargeBinary),  # null: the resource is gone, and its secrets with it
    Column("expires_at", BigInteger, nullable=False, index=True),
)
