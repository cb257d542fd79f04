# SPDX-License-Identifier: Apache-2.0
"""aiomqtt, an asyncio client, as a program: one JSON command a line, one answer a line. Knows nothing of Thalovant."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any

import aiomqtt

WAIT = 10.0


class Driver:
    """One client."""

    def __init__(self) -> None:
        self.client: aiomqtt.Client

    async def connect(self, c: dict[str, Any]) -> Any:
        """CONNECT; whether it was accepted."""
        will = aiomqtt.Will(c["will"], "offline", qos=1, retain=True) if c.get("will") else None
        five = c["version"] == 5
        self.client = aiomqtt.Client(
            c["host"], c["port"], identifier=c["client_id"], username=c["username"], password=c["password"], will=will,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            tls_context=ssl.create_default_context(cafile=c["ca"]), keepalive=c.get("keepalive", 60),
            transport="websockets" if c.get("path") else "tcp", websocket_path=c.get("path"),
        )  # fmt: skip
        try:
            await self.client.__aenter__()
        except aiomqtt.MqttCodeError as error:
            return {"code": getattr(error.rc, "value", error.rc), "present": False, "properties": {}}
        return {"code": 0, "present": False, "properties": {}}

    async def subscribe(self, c: dict[str, Any]) -> Any:
        """SUBSCRIBE to one filter; the reason codes."""
        codes = await self.client.subscribe(c["topic"], qos=c.get("qos", 1))
        return [getattr(code, "value", code) for code in codes]

    async def publish(self, c: dict[str, Any]) -> Any:
        """PUBLISH; waits for the acknowledgement, whose reason this client keeps to itself."""
        await self.client.publish(c["topic"], c["payload"], qos=c.get("qos", 1), retain=c.get("retain", False))
        return {"code": None}

    async def message(self, c: dict[str, Any]) -> Any:
        """The next message."""
        async with asyncio.timeout(WAIT):
            m = await anext(aiter(self.client.messages))
        payload = m.payload.decode("latin-1")
        return {"topic": str(m.topic), "payload": payload, "qos": m.qos, "retain": bool(m.retain)}

    async def ended(self, c: dict[str, Any]) -> Any:
        """That the connection ended."""
        try:
            await self.message(c)
        except aiomqtt.MqttError as error:
            code = getattr(getattr(error, "rc", None), "value", None)
            return {"code": code, "by_server": None, "reason": str(error)}
        raise AssertionError("a message came in place of the end")

    async def disconnect(self, c: dict[str, Any]) -> Any:
        """DISCONNECT."""
        await self.client.__aexit__(None, None, None)
        return {}


async def main() -> None:
    """Serve until standard input ends."""
    driver = Driver()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            answer = {"ok": await getattr(driver, command["do"])(command)}
        except Exception as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
