# SPDX-License-Identifier: Apache-2.0
"""The first start and those after it; a wrong key, a damaged row, and a kill right after an acknowledged creation."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from thalovant_server.bootstrap import FirstStart, ensure_first_start
from thalovant_server.control.passwords import PasswordHasher
from thalovant_server.directory import MqttVia
from thalovant_server.directory_loading import open_directory
from thalovant_server.errors import DataDamagedError, WrongServerKeyError
from thalovant_server.store.database import Database
from thalovant_server.store.sealing import Sealer
from thalovant_server.testing.control import CHEAP, open_world
from thalovant_server.testing.directory import cheap_stretch

KEY = bytes(range(32))


async def start(folder: Path, key: bytes = KEY) -> tuple[FirstStart, list[str]]:
    """Start once; return what was found, and how often a password was asked for."""
    path, asked = folder / "thalovant.db", []

    def password() -> str:
        asked.append("asked")
        return "a password"

    database = await Database.open(path, Sealer(key, folder / "seal.key"), create=not path.exists())
    try:
        hasher = PasswordHasher(CHEAP)
        first = await ensure_first_start(database, admin_password=password, hasher=hasher)
        directory = await open_directory(database, node_id=first.server.node_id, stretch=cheap_stretch)
        await directory.stop()
        return first, asked
    finally:
        await database.close()


@pytest.mark.parametrize("via", ["embedded", "link"])
def test_the_first_hub_meets_its_clients_where_the_server_has_them(tmp_path: Path, via: MqttVia) -> None:
    async def scenario() -> list[tuple[str, str]]:
        database = await Database.open(tmp_path / "thalovant.db", Sealer(KEY), create=True)
        for wanted in (via, "embedded"):  # the second start changes nothing
            await ensure_first_start(
                database, admin_password=lambda: "a password", hasher=PasswordHasher(CHEAP), mqtt_via=wanted
            )
        directory = await open_directory(database, node_id="node", stretch=cheap_stretch)
        await directory.stop()
        await database.close()
        return [(hub.slug, hub.mqtt_via) for hub in directory.hubs()]

    assert uvloop.run(scenario()) == [("demo", via)]


def test_a_second_start_finds_what_the_first_made(tmp_path: Path) -> None:
    first, asked = uvloop.run(start(tmp_path))
    again, asked_again = uvloop.run(start(tmp_path))
    assert (first.is_new, again.is_new) == (True, False)
    assert first.server == again.server
    assert len(first.server.static_private) == 32
    assert 16 <= len(first.server.node_id) <= 64
    assert (len(asked), len(asked_again)) == (1, 0)
    assert first.server.static_private.hex() not in repr(first)


def test_two_servers_differ(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, two = (uvloop.run(start(folder))[0].server for folder in folders)
    assert one.node_id != two.node_id
    assert one.static_private != two.static_private


def test_a_wrong_server_key_is_noticed_and_named(tmp_path: Path) -> None:
    uvloop.run(start(tmp_path))
    with pytest.raises(WrongServerKeyError) as caught:
        uvloop.run(start(tmp_path, bytes(32)))
    assert str(tmp_path / "seal.key") in str(caught.value)
    assert "backup" in str(caught.value)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE credentials SET sealed_psk = x'0102'",
        "UPDATE hubs SET spec = '{broken'",
        "UPDATE hubs SET spec = '{}'",
        "UPDATE hubs SET spec = '[]'",
    ],
)
def test_a_row_that_cannot_be_read_is_damage(tmp_path: Path, harm: str) -> None:
    async def fill() -> None:
        async with open_world(tmp_path) as world:
            await world.make_client()

    uvloop.run(fill())
    connection = sqlite3.connect(tmp_path / "thalovant.db")
    connection.execute(harm)
    connection.commit()
    connection.close()
    with pytest.raises(DataDamagedError) as caught:
        uvloop.run(start(tmp_path))
    assert str(tmp_path / "thalovant.db") in str(caught.value)


CREATE_AND_SAY = """
import asyncio, sys
from pathlib import Path
from thalovant_server.testing.control import open_world

async def main():
    async with open_world(Path(sys.argv[1])) as world:
        made = await world.make_client(spec={"version": "1", "apiKey": "k" * 43, "password": "p" * 43})
        print(made["id"], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    program = [sys.executable, "-c", CREATE_AND_SAY, str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        client_id = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    assert client_id.startswith("client-")

    async def check() -> None:
        async with open_world(tmp_path) as world:
            entry = world.services.directory.credential("k" * 43)
            assert entry is not None
            assert entry.client_id == client_id
            server = (await ensure_again(world.services.database)).server
            assert await world.services.directory.psk(entry) == cheap_stretch("p" * 43, server.node_id)

    uvloop.run(check())


async def ensure_again(database: Database) -> FirstStart:
    return await ensure_first_start(database, admin_password=lambda: "unused", hasher=PasswordHasher(CHEAP))
