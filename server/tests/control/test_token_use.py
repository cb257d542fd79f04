# SPDX-License-Identifier: Apache-2.0
"""When tokens were last used: noted, written together, kept while the database cannot be written, bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalovant_server.control import token_use
from thalovant_server.control.token_use import TokenUse
from thalovant_server.errors import StorageError
from thalovant_server.store import tokens


class FakeDatabase:
    """Stands for a database: counts writes, refuses them on demand."""

    def __init__(self) -> None:
        self.written: list[dict[str, int]] = []
        self.refuses = False
        self.meanwhile: Any = None

    async def write(self, work: Any) -> None:
        if self.refuses:
            raise StorageError("not now")
        if self.meanwhile is not None:
            self.meanwhile()
        await work(type("Transaction", (), {"connection": self}))


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> FakeDatabase:
    async def note(connection: FakeDatabase, times: dict[str, int]) -> None:
        connection.written.append(dict(times))

    monkeypatch.setattr(tokens, "set_last_used", note)
    return FakeDatabase()


def use_of(database: Any, **bounds: int) -> TokenUse:
    return TokenUse(database, **bounds)


def test_one_write_holds_the_last_use_of_each(database: FakeDatabase) -> None:
    use = use_of(database)
    for token, at in (("a", 1), ("b", 2), ("a", 3)):
        use.note(token, at)
    assert (use.last("a", 0), use.last("c", 7), use.last("d", None)) == (3, 7, None)
    asyncio.run(use.write())
    asyncio.run(use.write())
    assert database.written == [{"a": 3, "b": 2}]


def test_what_could_not_be_written_stays_noted(database: FakeDatabase) -> None:
    use = use_of(database)
    use.note("a", 1)
    database.refuses = True
    asyncio.run(use.write())
    database.refuses = False
    asyncio.run(use.write())
    assert database.written == [{"a": 1}]


def test_a_use_during_the_write_is_written_by_the_next(database: FakeDatabase) -> None:
    use = use_of(database)
    use.note("a", 1)
    database.meanwhile = lambda: use.note("a", 2)
    asyncio.run(use.write())
    asyncio.run(use.write())
    assert database.written == [{"a": 1}, {"a": 2}]


def test_only_so_many_are_noted(database: FakeDatabase) -> None:
    use = use_of(database, most_noted=1)
    use.note("a", 1)
    use.note("b", 2)
    use.note("a", 3)
    asyncio.run(use.write())
    assert database.written == [{"a": 3}]


def test_it_writes_by_itself_and_at_the_end(database: FakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_use, "SECONDS_BETWEEN_WRITES", 0.0)

    async def scenario() -> None:
        use = use_of(database)
        use.start()
        use.note("a", 1)
        async with asyncio.timeout(10):
            while not database.written:
                await asyncio.sleep(0)
        await use.stop()
        use.note("b", 2)
        await use.stop()

    asyncio.run(scenario())
    assert database.written == [{"a": 1}, {"b": 2}]
