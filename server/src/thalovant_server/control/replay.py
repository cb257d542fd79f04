# SPDX-License-Identifier: Apache-2.0
"""A repeated request is answered as the first time (contract 1.6 and 3.4.6).

The first answer is kept in the transaction that made what it tells of: an answer that went out is also the
one a replay gives, whatever happens in between. Knows no route.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Header

from thalovant_server.control.callers import Caller
from thalovant_server.control.services import REPLAY_SECONDS
from thalovant_server.errors import ApiError
from thalovant_server.store import idempotency
from thalovant_server.store.database import Transaction
from thalovant_server.store.idempotency import FirstAnswer, RequestKey
from thalovant_server.store.sealing import Sealer
from thalovant_server.wall_clock import SECOND

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_SECRETS = ("apiKey", "password", "cryptoKey")

IdempotencyKey = Annotated[str | None, Header()]
Made = tuple[str, dict[str, Any]]
"""The id of what was made, and the answer that tells of it."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may come again: its key, and its payload without the secrets that an SDK mints anew."""

    key: RequestKey | None
    payload: bytes


def repeatable(caller: Caller, route: str, key: str | None, body: dict[str, Any]) -> Repeatable:
    """Return how to recognise this request when it comes again; without a key it never does.

    Raises:
        ApiError: 422, the key is not 1 to 255 visible ASCII characters.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise ApiError(422, "Idempotency-Key must have 1 to 255 visible ASCII characters", "invalid_idempotency_key")
    spec = {name: value for name, value in body.get("spec", {}).items() if name not in _SECRETS}
    payload = {**body, "spec": spec}
    if caller.hub_ids is not None:  # a limited token is told no answer that a wider one was given
        payload["only for hubs"] = sorted(caller.hub_ids)
    written = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    return Repeatable(None if key is None else RequestKey(caller.id, route, key), written)


async def once(
    transaction: Transaction,
    sealer: Sealer,
    request: Repeatable,
    now: int,
    make: Callable[[], Awaitable[Made]],
) -> bytes:
    """Return the JSON answer: of ``make`` the first time, of the first time from then on.

    Raises:
        ApiError: 409 `idempotency_key_reused`, the key came with another payload; 409 `idempotency_result_gone`, what
            was made the first time is removed. And what ``make`` raises; then nothing is kept.
    """
    if request.key is None:
        return orjson.dumps((await make())[1])
    connection = transaction.connection
    payload_hash = idempotency.hash_payload(sealer, request.payload)
    first = await idempotency.find(connection, sealer, request.key, now)
    if first is not None:
        return _again(first, payload_hash)
    resource_id, told = await make()
    first = FirstAnswer(payload_hash, orjson.dumps(told))
    expires_at = now + REPLAY_SECONDS * SECOND
    await idempotency.keep(connection, sealer, request.key, first, resource_id=resource_id, expires_at=expires_at)
    return _again(first, payload_hash)


def _again(first: FirstAnswer, payload_hash: bytes) -> bytes:
    if not hmac.compare_digest(first.payload_hash, payload_hash):
        raise ApiError(409, "This Idempotency-Key was used with another payload", "idempotency_key_reused")
    if first.answer is None:
        raise ApiError(409, "What this Idempotency-Key made has been removed since", "idempotency_result_gone")
    return first.answer
