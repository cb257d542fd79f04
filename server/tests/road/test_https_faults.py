# SPDX-License-Identifier: Apache-2.0
"""Asks over HTTPS through a relay that cuts connections in the middle: each is answered once, on the same link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

import pytest

from thalovant import AsyncThalovantClient, ThalovantIdentity


class Relay:
    """Passes bytes on to a port; each connection breaks after so many bytes of the server's, as chance has it.

    The handshake and one long answer always come through: what is sent again must find its way.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._chance = random.Random(seed)
        self.cuts = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        while self.open:
            for writer in list(self.open):
                writer.transport.abort()
            await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        away_reader, away = await asyncio.open_connection("127.0.0.1", self._port)
        pair = {writer, away}
        self.open |= pair
        left = self._chance.randrange(24_000, 48_000)
        back = asyncio.create_task(self._pump(reader, away, 1 << 40))
        if await self._pump(away_reader, writer, left):
            self.cuts += 1
        for each in pair:
            each.transport.abort()
        await back
        self.open -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> bool:
        """Whether it was cut, rather than ended by one side."""
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data[:left])
                left -= len(data)
                if left <= 0:
                    return True
        writer.transport.abort()
        return False


@pytest.mark.parametrize("seed", [1, 2])
def test_connections_that_break_cost_no_ask_and_no_link(identity: ThalovantIdentity, seed: int) -> None:
    async def main() -> None:
        port = int(identity.endpoint_base().split(":")[2].split("/")[0])
        async with Relay(port, seed) as relay:
            values = json.dumps(identity.as_dict(include_secrets=True)).replace(str(port), str(relay.port))
            moved = ThalovantIdentity.from_mapping(json.loads(values))
            async with AsyncThalovantClient(moved, protocol="https") as client:
                await client.connect()
                began = (await client.connection_info()).started_at
                for number in range(150):
                    asks = [client.ask(f"{number} {part}") for part in range(number % 4 + 1)]
                    replies = await asyncio.gather(*asks)
                    assert [reply.text for reply in replies] == [f"{number} {part}" for part in range(number % 4 + 1)]
                info = await client.connection_info()
                assert (info.started_at, info.last_error) == (began, None)
            assert relay.cuts > 5

    asyncio.run(main())
