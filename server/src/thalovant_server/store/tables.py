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
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    Column("password_phc", String(512), nullable=False),
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
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("revoked_at", BigInteger),
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
    UniqueConstraint("client_id", "number"),
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
