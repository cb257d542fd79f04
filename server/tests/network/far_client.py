# SPDX-License-Identifier: Apache-2.0
"""Our SDK on another host: reads one JSON command a line, answers each with one; an ask does not hold up the next."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from thalovant import AsyncThalovantClient, ThalovantError, ThalovantIdentity


async def main() -> None:
    """Serve until standard input ends."""
    client: AsyncThalovantClient | None = None
    heard: list[str] = []
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asks = set()
    while line := await reader.readline():
        command = json.loads(line)
        what = command.pop("do")
        if what == "open":
            identity = ThalovantIdentity.from_file(Path(command.pop("identity")))
            client = AsyncThalovantClient(identity, **command)
            client.on("speak", lambda event: heard.append(event.data["utterance"]))
            tell("open")
        elif what == "heard":
            tell("heard", heard=heard)
        elif what == "where":
            assert client is not None
            tell("where", carrier=repr(client))
        else:
            assert client is not None
            asks.add(asyncio.create_task(ask(client, **command)))
    if client is not None:
        await client.close()


async def ask(client: AsyncThalovantClient, text: str, timeout: float) -> None:
    """Ask, and tell what became of it."""
    try:
        reply = await client.ask(text, timeout=timeout)
    except ThalovantError as error:
        tell("failed", error=type(error).__name__, text=str(error))
    else:
        tell("answered", text=reply.text)


def tell(what: str, **more: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"what": what, **more}), flush=True)  # noqa: T201 - it is how this program speaks


asyncio.run(main())
