# SPDX-License-Identifier: Apache-2.0
"""Strangers in numbers, before anybody logged in: what they cost is bounded, and a client of ours is served meanwhile.

Against a server of its own process, whose resident memory is read from the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from thalovant import AsyncThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.in_process import InProcessServer

SOCKETS = {False: 200, True: 40}  # bare ones; through TLS, which costs this machine most of the time
KIB = 1024
SETTLE_SECONDS = 3.0  # in which the server may be done with an attack; far from where it hangs up itself
TRIM_SECONDS = 0.05  # as `tidy_server` has it
PROGRAMS = Path(__file__).with_name("programs")
Dial = Callable[[], Awaitable[asyncio.StreamWriter]]


def upgrade(path: str) -> bytes:
    """The head that asks for a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode()


def post(path: str, announced: int, sent: int) -> bytes:
    """A request whose body is not whole."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {announced}\r\n\r\n"
    return head.encode() + b"x" * sent


def hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


CONNECT_256_MB = b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x04\xc2\x00\x00" + b"x" * 5_000
LONG_HELLO = b"\x16\x03\x01\x40\x00\x01\x01\xff\xff\x03\x03" + b"\0" * 16_378
FRAME = b"\x82\xff" + struct.pack(">Q", 1 << 62) + b"mask" + b"x" * 1_000

# What is said on a bare socket, or through TLS; to which port; and how many KiB each socket may cost at most. A TLS
# connection that is up or under way costs some 40, more under a flood that has just been read.
ATTACKS: dict[str, tuple[bool, str, bytes, int]] = {
    "half-open": (False, "mqtt", b"", 8),
    "half-open on the API port": (False, "api", b"", 8),
    "half a TLS hello": (False, "mqtt", hello()[:100], 80),
    "a TLS hello and nothing more": (False, "api", hello(), 80),
    "a TLS hello of 128 KiB": (False, "mqtt", LONG_HELLO * 4, 8),
    "TLS rubbish": (False, "mqtt", b"\x16\x03\x01\x40\x00" + bytes(16_000), 8),
    "plain HTTP": (False, "api", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 8),
    "plain MQTT": (False, "mqtt", CONNECT_256_MB, 8),
    "nothing after TLS": (True, "mqtt", b"", 80),
    "a CONNECT of 256 MB": (True, "mqtt", CONNECT_256_MB, 80),
    "a CONNECT that stops": (True, "mqtt", b"\x10\xff\x4e\x00\x04MQTT\x04\xc2\x00\x00" + b"x" * 9_000, 80),
    "a head that stops": (True, "api", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 15_000, 120),
    "a head of 100 KiB": (True, "api", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000, 400),
    "a body that stops": (True, "api", post("/v1/auth/token", 8_000, 7_000), 200),
    "a body of 300 KiB": (True, "api", post("/connect", 1_000_000, 300_000), 700),
    "a flood of WebSockets": (True, "api", upgrade("/mqtt"), 120),
    "a WebSocket frame without end": (True, "api", upgrade("/mqtt") + FRAME, 120),
    "many requests at once": (True, "api", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 100, 400),
}


class Target:
    """A server, as a stranger sees it."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self._ports = {"mqtt": urlsplit(ready["mqtt_endpoint"]).port, "api": urlsplit(ready["api_url"]).port}
        self._tls = ssl.create_default_context(cafile=ready["ca_file"])

    async def attack(self, name: str, count: int) -> list[asyncio.StreamWriter]:
        """Open so many sockets and say it on each; a server that hangs up meanwhile is none of our concern."""
        secure, port, said, _ = ATTACKS[name]

        async def one() -> asyncio.StreamWriter:
            _, writer = await asyncio.open_connection(
                "localhost" if secure else "127.0.0.1", self._ports[port], ssl=self._tls if secure else None
            )
            writer.write(said)
            return writer

        dialled = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        return [each for each in dialled if isinstance(each, asyncio.StreamWriter)]


class Scales:
    """Weighs a server that gives free memory back twenty times a second.

    So neither does what an earlier attack left hide what this one takes, nor is what the server has just let go, be it
    on a machine however slow, taken for what it holds.
    """

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        self._idle = self.sockets

    @property
    def sockets(self) -> int:
        """Descriptors that are open."""
        return len(list((self._process / "fd").iterdir()))

    @property
    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int((self._process / "statm").read_text().split()[1]) * 4096

    async def lowest(self, enough: int, seconds: float) -> int:
        """The least that it holds within so many seconds; at once when it holds no more than enough."""
        until, least = time.monotonic() + seconds, self.resident
        while least > enough and time.monotonic() < until:
            await asyncio.sleep(0.02)
            least = min(least, self.resident)
        return least

    async def empty(self) -> int:
        """What it holds once every stranger is gone."""
        async with asyncio.timeout(20):
            while self.sockets > self._idle:
                await asyncio.sleep(0.02)
        return await self.lowest(0, 4 * TRIM_SECONDS)


@pytest.fixture
def lean(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server without Python's development mode, in which every byte of a buffer is written to at once."""
    tidy = {"module": "tidy_server", "environment": {"PYTHONPATH": str(PROGRAMS)}}
    with ServerProcess(tmp_path / "data", **tidy) as running:
        yield running


@pytest.fixture
def ours(lean: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> ThalovantIdentity:
    """One client of ours."""
    for name, value in lean.environment.items():
        monkeypatch.setenv(name, value)
    with ThalovantControlPlane(lean.ready["api_url"]) as plane:
        plane.login(*lean.admin)
        return plane.create_client_identity(lean.ready["hub_id"], name="ours").identity


def test_strangers_of_each_kind_cost_little_and_a_client_is_served_meanwhile(
    lean: ServerProcess, ours: ThalovantIdentity
) -> None:
    target = Target(lean.ready)
    costs: dict[str, float] = {}

    async def besiege(name: str, count: int, client: AsyncThalovantClient, scales: Scales) -> float:
        before = await scales.empty()
        strangers = await target.attack(name, count)
        try:
            assert (await client.ask(name, timeout=10)).text == name
            held = await scales.lowest(before + count * ATTACKS[name][3] * KIB, SETTLE_SECONDS)
        finally:
            for each in strangers:
                each.transport.abort()
        return (held - before) / count / KIB

    async def main() -> None:
        async with AsyncThalovantClient(ours, protocol="mqtt") as client:
            await client.ask("warm")
            scales = Scales(lean.pid)
            for name in ATTACKS:  # what is made once for all of a kind
                for each in await target.attack(name, 2):
                    each.transport.abort()
            base = await scales.empty()
            for name in ATTACKS:
                costs[name] = await besiege(name, SOCKETS[ATTACKS[name][0]], client, scales)
            assert (await client.ask("still here", timeout=10)).text == "still here"
            assert await scales.empty() <= base + 32 * KIB * KIB

    asyncio.run(main())
    assert not lean.complaints()
    dear = {name: cost for name, cost in costs.items() if cost > ATTACKS[name][3]}
    assert dear == {}, costs


@pytest.fixture
def uncollected() -> Iterator[Callable[[], int]]:
    """How many TLS connections there are in this process while nobody collects garbage."""
    gc.collect()
    gc.disable()
    yield lambda: sum(type(each).__module__ == "uvloop.loop" and type(each).__name__ == "SSLProtocol"
                      for each in gc.get_objects())  # fmt: skip
    gc.enable()


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack[0]])
def test_what_a_stranger_held_is_free_at_once(
    name: str, running: InProcessServer, uncollected: Callable[[], int]
) -> None:
    """TLS has buffered up to half a MiB for it: that cannot wait for the garbage collector."""
    before = uncollected()

    async def main() -> None:
        for each in await Target(running.ready).attack(name, 3):
            with contextlib.suppress(OSError):
                await asyncio.wait_for(each.drain(), 5)
            each.transport.abort()

    asyncio.run(main())
    until = time.monotonic() + 10
    while uncollected() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert uncollected() <= before
