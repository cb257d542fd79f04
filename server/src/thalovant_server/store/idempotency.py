# SPDX-License-Identifier: Apache-2.0
"""First answers kept for a repeated request, sealed, for a limited time (contract 1.6 and 3.4.6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thalovant_server.store.sealing import Sealer
from thalovant_server.store.tables import idempotency

_PURPOSE = "idempotency-payload"


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names a request: whose, which route (method and path), and the key its sender chose."""

    account_id: str
    route: str
    key: str

    @property
    def context(self) -> str:
        """Return the sealing context of its answer."""
        return f"idempotency {self.account_id} {self.route} {self.key}"


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What was answered first. `answer` is None once what was made is gone."""

    payload_hash: bytes
    answer: bytes | None = field(repr=False)


def hash_payload(sealer: Sealer, payload: bytes) -> bytes:
    """Return what is kept of a payload to compare the next one with."""
    return sealer.keyed_hash(payload, _PURPOSE)


async def find(connection: AsyncConnection, sealer: Sealer, request: RequestKey, now: int) -> FirstAnswer | None:
    """Return the first answer to this request, None when there was none; one that is too old is dropped."""
    row = (await connection.execute(select(idempotency).where(_is(request)))).first()
    if row is None:
        return None
    if row.expires_at <= now:
        await connection.execute(delete(idempotency).where(_is(request)))
        return None
    answer = None if row.sealed_answer is None else sealer.open(row.sealed_answer, request.context)
    return FirstAnswer(row.payload_hash, answer)


async def keep(
    connection: AsyncConnection,
    sealer: Sealer,
    request: RequestKey,
    first: FirstAnswer,
    *,
    resource_id: str,
    expires_at: int,
) -> None:
    """Keep the first answer to a request."""
    values = {
        "account_id": request.account_id,
        "route": request.route,
        "key": request.key,
        "payload_hash": first.payload_hash,
        "resource_id": resource_id,
        "sealed_answer": None if first.answer is None else sealer.seal(first.answer, request.context),
        "expires_at": expires_at,
    }
    await connection.execute(insert(idempotency).values(values))


async def forget_answers_about(connection: AsyncConnection, resource_ids: list[str]) -> None:
    """Drop the kept answers about resources that are removed: their secrets go with them."""
    for start in range(0, len(resource_ids), 500):
        some = resource_ids[start : start + 500]
        change = update(idempotency).where(idempotency.c.resource_id.in_(some)).values(sealed_answer=None)
        await connection.execute(change)


async def forget_expired(connection: AsyncConnection, now: int) -> None:
    """Remove the records that are too old."""
    await connection.execute(delete(idempotency).where(idempotency.c.expires_at <= now))


def _is(request: RequestKey) -> ColumnElement[bool]:
    return and_(
        idempotency.c.account_id == request.account_id,
        idempotency.c.route == request.route,
        idempotency.c.key == request.key,
    )
