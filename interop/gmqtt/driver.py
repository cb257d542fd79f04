# SPDX-License-Identifier: Apache-2.0
"""gmqtt, an asyncio client, as a program: one JSON command a line, one answer a line. Knows nothing of Thalovant."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any

from gmqtt.mqtt.constants import MQTTv50, MQTTv311

import gmqtt

WAIT = 10.0


class Driver:
    """One client; each callback puts what it was told into a queue of its own."""

    def __init__(self) -> None:
        self.told: dict[str, asyncio.Queue[Any]] = {
            name: asyncio.Queue() for name in ("connected", "subscribed", "message", "ended")
        }
        self.client: gmqtt.Client

    async def connect(self, c: dict[str, Any]) -> Any:
        """CONNECT; the answer's reason and properties."""
        will = gmqtt.Message(c["will"], "offline", qos=1, retain=True) if c.get("will") else None
        properties = {_snake(name): value for name, value in c.get("properties", {}).items()}
        self.client = gmqtt.Client(c["client_id"], clean_session=True, will_message=will, **properties)
        self.client.set_config({"reconnect_retries": 0})
        self.client.set_auth_credentials(c["username"], c["password"])
        self.client.on_connect = lambda _, flags, code, properties: self.told["connected"].put_nowait(
            {"code": code, "present": bool(flags & 1), "properties": _plain(properties)}
        )
        self.client.on_subscribe = lambda _, mid, codes, properties: self.told["subscribed"].put_nowait(list(codes))
        self.client.on_message = self._on_message
        self.client.on_disconnect = lambda _, packet, exc=None: self.told["ended"].put_nowait(_end(packet))
        version = MQTTv50 if c["version"] == 5 else MQTTv311
        context = ssl.create_default_context(cafile=c["ca"])
        try:
            await self.client.connect(
                c["host"], c["port"], ssl=context, keepalive=c.get("keepalive", 60), version=version
            )
        except gmqtt.mqtt.handler.MQTTConnectError as error:
            return {"code": error._code, "present": False, "properties": {}}
        return await self._next("connected")

    async def _on_message(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        await self.told["message"].put(
            {"topic": topic, "payload": payload.decode("latin-1"), "qos": qos, "retain": bool(properties["retain"])}
        )
        return 0

    async def subscribe(self, c: dict[str, Any]) -> Any:
        """SUBSCRIBE to one filter; the reason codes."""
        self.client.subscribe(c["topic"], qos=c.get("qos", 1))
        return await self._next("subscribed")

    async def publish(self, c: dict[str, Any]) -> Any:
        """PUBLISH; this client keeps the acknowledgement to itself."""
        more = {"user_property": [tuple(pair) for pair in c["user"]]} if c.get("user") else {}
        self.client.publish(c["topic"], c["payload"], qos=c.get("qos", 1), retain=c.get("retain", False), **more)
        return {"code": None}

    async def message(self, c: dict[str, Any]) -> Any:
        """The next message."""
        return await self._next("message")

    async def ended(self, c: dict[str, Any]) -> Any:
        """How the connection ended."""
        return await self._next("ended")

    async def disconnect(self, c: dict[str, Any]) -> Any:
        """DISCONNECT."""
        await self.client.disconnect()
        return {}

    async def _next(self, name: str) -> Any:
        async with asyncio.timeout(WAIT):
            return await self.told[name].get()


def _end(packet: Any) -> dict[str, Any]:
    """What DISCONNECT said, if there was one: the reason is the first byte of it."""
    return {"code": packet[0] if packet else None, "by_server": bool(packet), "reason": None}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _plain(properties: dict[str, Any] | None) -> dict[str, Any]:
    """Names as in the standard; this client gives each as a list."""
    found = properties or {}
    return {
        "".join(part.capitalize() for part in name.split("_")): value[0] if isinstance(value, list) and value else value
        for name, value in found.items()
        if not isinstance(value, bytes)
    }


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
