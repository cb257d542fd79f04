# SPDX-License-Identifier: Apache-2.0
"""Any call may be cancelled at any moment: the client works on, and closing it leaves nothing open."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from thalovant.client import AsyncThalovantClient

CARRIERS: Any = ("mqtt", "wss", "https")
WAYS: Any = [{"protocol": name} for name in CARRIERS] + [{"protocols": CARRIERS}]
TURNS = [*range(8), *range(8, 40, 6), 60, 100]
"""After so many turns of the loop a call is cancelled: each of the first, then further apart."""


def sockets() -> list[str]:
    """The sockets that this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(each.readlink()))
        except OSError:
            continue  # the one that lists the others
    return sorted(name for name in found if name.startswith("socket:"))


async def cancelled_after(turns: int, call: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # it was quicker, one way or the other


Cut = Callable[[AsyncThalovantClient, int], Awaitable[None]]


async def cut_connect(client: AsyncThalovantClient, turns: int) -> None:
    await cancelled_after(turns, client.connect())


async def cut_first_ask(client: AsyncThalovantClient, turns: int) -> None:
    await cancelled_after(turns, client.ask("cut"))


async def cut_ask(client: AsyncThalovantClient, turns: int) -> None:
    await client.connect()
    await cancelled_after(turns, client.ask("cut"))


async def cut_query(client: AsyncThalovantClient, turns: int) -> None:
    await client.connect()
    await cancelled_after(turns, client.query("cut"))


async def cut_broadcast(client: AsyncThalovantClient, turns: int) -> None:
    await client.connect()
    await cancelled_after(turns, client.broadcast("cut"))


async def cut_listen(client: AsyncThalovantClient, turns: int) -> None:
    await cancelled_after(turns, anext(client.listen("never"), None))


async def cut_big_emit(client: AsyncThalovantClient, turns: int) -> None:
    await client.connect()
    await cancelled_after(turns, client.emit("big", {"text": "x" * 1_000_000}))


async def cut_wait(client: AsyncThalovantClient, turns: int) -> None:
    await cancelled_after(turns, client.wait_for_event("never"))


async def cut_disconnect(client: AsyncThalovantClient, turns: int) -> None:
    await client.connect()
    await cancelled_after(turns, client.disconnect())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize(
    "cut",
    [
        cut_connect,
        cut_first_ask,
        cut_ask,
        cut_query,
        cut_broadcast,
        cut_listen,
        cut_big_emit,
        cut_wait,
        cut_disconnect,
    ],
)
def test_a_cancelled_call_leaves_a_client_that_works_and_nothing_open(
    hub: Any, tmp_path: Path, way: Any, cut: Cut
) -> None:
    async def scene(turns: int) -> None:
        client = AsyncThalovantClient(hub.identity(), noise_state_dir=str(tmp_path / "noise"), **way)
        await cut(client, turns)
        async with asyncio.timeout(20):
            assert (await client.ask("hello", timeout=20.0)).text == "hello", turns
            await client.close()
        await settled(turns)

    for turns in TURNS:
        asyncio.run(scene(turns))
        gc.collect()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("connected", [True, False])
def test_a_cancelled_close_is_made_good_by_the_next_one(hub: Any, tmp_path: Path, way: Any, connected: bool) -> None:
    async def scene(turns: int) -> None:
        client = AsyncThalovantClient(hub.identity(), noise_state_dir=str(tmp_path / "noise"), **way)
        dialling = asyncio.ensure_future(client.connect())
        for _ in range(turns // 2):
            await asyncio.sleep(0)
        if connected:
            await dialling
        await cancelled_after(turns, client.close())
        async with asyncio.timeout(20):
            await client.close()
            await client.wait_closed()
            await asyncio.wait([dialling])
        if not dialling.cancelled():
            dialling.exception()
        await settled(turns)

    for turns in TURNS:
        asyncio.run(scene(turns))
        gc.collect()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_a_block_that_is_cancelled_closes_its_client(hub: Any, tmp_path: Path, way: Any) -> None:
    async def block() -> None:
        async with AsyncThalovantClient(hub.identity(), noise_state_dir=str(tmp_path / "noise"), **way) as client:
            await client.ask("hello")

    async def scene(turns: int) -> None:
        await cancelled_after(turns, block())
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.005)

    for turns in TURNS:
        asyncio.run(scene(turns))
        gc.collect()


async def settled(turns: int) -> None:
    """Nothing of the client is on the loop any more, after the turns in which cancelled tasks of libraries end."""
    for _ in range(3):
        await asyncio.sleep(0)
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == [], turns


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("way", ["cancelled", "late"])
def test_a_carrier_that_is_given_up_in_its_tls_handshake_leaves_no_socket(
    hub: Any, tmp_path: Path, carrier: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side accepts and says nothing."""

    async def scene() -> None:
        held = asyncio.Event()
        writers: list[asyncio.StreamWriter] = []

        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            held.set()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setitem(hub.ports, carrier, port)
        before = sockets()
        timeout = 0.2 if way == "late" else 60.0
        client = AsyncThalovantClient(
            hub.identity(), protocol=carrier, connect_timeout=timeout, noise_state_dir=str(tmp_path / "noise")
        )
        dialling = asyncio.ensure_future(client.connect())
        await held.wait()
        if way == "late":
            await asyncio.wait([dialling])
            assert dialling.exception() is not None
        await client.close()
        await asyncio.wait([dialling])
        dialling.exception()
        for writer in writers:
            writer.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        assert sockets() == before
        server.close()

    asyncio.run(scene())
    gc.collect()
