# SPDX-License-Identifier: Apache-2.0
"""Kept answers: found by the same request only, sealed, gone with what they tell of, and when their time is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from sqlalchemy import func, select

from thalovant_server.errors import StorageError
from thalovant_server.store import accounts, idempotency
from thalovant_server.store.accounts import AccountRecord
from thalovant_server.store.database import Database, Transaction
from thalovant_server.store.idempotency import FirstAnswer, RequestKey
from thalovant_server.store.sealing import SealBrokenError, Sealer
from thalovant_server.store.tables import idempotency as table

SEALER = Sealer(bytes(range(32)))
MINE = RequestKey("one", "POST /v1/clients", "key-1")
FIRST = FirstAnswer(idempotency.hash_payload(SEALER, b"payload"), b'{"password": "secret"}')


def run(folder: Path, scenario: Callable[[Transaction], Awaitable[None]]) -> None:
    """Run a scenario in one transaction of a fresh database with two accounts."""

    async def main() -> None:
        database = await Database.open(folder / "t.db", SEALER, create=True)
        try:
            for name in ("one", "two"):
                account = AccountRecord(name, f"{name}@example.test", "phc", name, "user", True, 1)
                await database.write(lambda transaction, new=account: accounts.add(transaction.connection, new))  # type: ignore[misc]
            await database.write(scenario)
        finally:
            await database.close()

    uvloop.run(main())


async def keep(transaction: Transaction, request: RequestKey = MINE, *, about: str = "c-1", until: int = 100) -> None:
    await idempotency.keep(transaction.connection, SEALER, request, FIRST, resource_id=about, expires_at=until)


async def find(transaction: Transaction, request: RequestKey = MINE, now: int = 0) -> FirstAnswer | None:
    return await idempotency.find(transaction.connection, SEALER, request, now)


async def count(transaction: Transaction) -> int:
    return int((await transaction.connection.execute(select(func.count()).select_from(table))).scalar_one())


def test_an_answer_is_found_by_the_same_request_only(tmp_path: Path) -> None:
    async def scenario(transaction: Transaction) -> None:
        await keep(transaction)
        assert await find(transaction) == FIRST
        for other in ({"account_id": "two"}, {"route": "POST /v1/hubs"}, {"key": "key-2"}):
            assert await find(transaction, replace(MINE, **other)) is None

    run(tmp_path, scenario)


def test_an_answer_lasts_until_its_time_is_over(tmp_path: Path) -> None:
    async def scenario(transaction: Transaction) -> None:
        await keep(transaction)
        assert await find(transaction, now=99) == FIRST
        assert await find(transaction, now=100) is None
        assert await count(transaction) == 0
        await keep(transaction)  # its place is free again

    run(tmp_path, scenario)


def test_expired_ones_are_forgotten_together(tmp_path: Path) -> None:
    async def scenario(transaction: Transaction) -> None:
        for number in range(4):
            await keep(transaction, replace(MINE, key=f"key-{number}"), until=100 + number)
        await idempotency.forget_expired(transaction.connection, 101)
        assert await count(transaction) == 2

    run(tmp_path, scenario)


def test_an_answer_goes_with_what_it_tells_of_and_its_key_stays_taken(tmp_path: Path) -> None:
    async def scenario(transaction: Transaction) -> None:
        other = replace(MINE, key="key-2")
        await keep(transaction, about="c-1")
        await keep(transaction, other, about="c-2")
        await idempotency.forget_answers_about(transaction.connection, [f"c-{n}" for n in range(1500) if n != 2])
        assert await find(transaction) == FirstAnswer(FIRST.payload_hash, None)
        assert await find(transaction, other) == FIRST

    run(tmp_path, scenario)


def test_an_answer_is_sealed_for_its_own_row(tmp_path: Path) -> None:
    async def scenario(transaction: Transaction) -> None:
        await keep(transaction)
        sealed = (await transaction.connection.execute(select(table.c.sealed_answer))).scalar_one()
        assert b"secret" not in sealed
        assert SEALER.open(sealed, MINE.context) == FIRST.answer
        with pytest.raises(SealBrokenError):
            SEALER.open(sealed, replace(MINE, account_id="two").context)
        assert "secret" not in repr(FIRST)

    run(tmp_path, scenario)


def test_two_answers_to_one_request_are_refused(tmp_path: Path) -> None:
    async def scenario(transaction: Transaction) -> None:
        await keep(transaction)
        await keep(transaction)

    with pytest.raises(StorageError, match="Try again"):
        run(tmp_path, scenario)
