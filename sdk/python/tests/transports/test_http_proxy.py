# SPDX-License-Identifier: Apache-2.0
"""Proxies of the environment: which one is taken, and a real CONNECT through a real one, plain and over TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from typing import Any

import pytest

from thalovant.errors import ThalovantConnectionError
from thalovant.transports.http_proxy import HttpProxy, find_proxy

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy", "ws_proxy", "wss_proxy", "socks_proxy")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, lonely: Any) -> Any:
    """Sets proxy variables, and no others are set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_to(**named: str) -> None:
        for name, value in named.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://other:1"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, HttpProxy("proxy", 3128, False)),
        ({"https_proxy": "proxy:3128"}, HttpProxy("proxy", 3128, False)),
        ({"ALL_PROXY": "http://proxy"}, HttpProxy("proxy", 80, False)),
        ({"ALL_PROXY": "http://other", "HTTPS_PROXY": "https://proxy/"}, HttpProxy("proxy", 443, True)),
        ({"HTTPS_PROXY": "http://me:s%40y@proxy:1"}, HttpProxy("proxy", 1, False, b"Basic bWU6c0B5")),
        ({"HTTPS_PROXY": "http://[::1]:1"}, HttpProxy("::1", 1, False)),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "x, hub.example"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": ".example"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "hub.example:8443"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "b.example"}, HttpProxy("proxy", 1, False)),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, None),
    ],
)
def test_which_proxy_is_taken(environment: Any, named: dict[str, str], found: HttpProxy | None) -> None:
    environment(**named)
    assert find_proxy("hub.example", 8443) == found


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http://me:s3cret@",
        "http://me:s3cret@proxy:99999",
        "http://me:s3cret@proxy/path",
        "socks5://me:s3cret@proxy",
    ],
)
def test_what_is_no_proxy_is_an_error_that_names_the_variable(environment: Any, address: str) -> None:
    environment(HTTPS_PROXY=address)
    with pytest.raises(ThalovantConnectionError, match="HTTPS_PROXY") as caught:
        find_proxy("hub.example", 8443)
    assert "s3cret" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    assert "Basic" not in repr(HttpProxy("proxy", 1, False, b"Basic bWU6c0B5"))


class Proxy:
    """A proxy: `answer` None connects, else that is what it says."""

    def __init__(self, answer: bytes | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answer, self.tls = answer, tls
        self.heads: list[str] = []
        self.tunnels: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self.tunnels):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tunnels.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if self.answer is None:
                host, _, port = head.split(" ")[1].rpartition(":")
                away = await asyncio.open_connection(host, int(port))
                self.tunnels.add(away[1])
                writer.write(b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")
                await asyncio.gather(self._pump(reader, away[1]), self._pump(away[0], writer))
            elif self.answer:
                writer.write(self.answer)
                await reader.read()
        writer.transport.abort()
        self.tunnels.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.transport.abort()


@pytest.mark.parametrize("login", ["", "me:s%40y@"])
def test_the_carrier_goes_through_it(play_https: Any, run: Any, environment: Any, login: str) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        async with Proxy() as proxy:
            environment(HTTPS_PROXY=f"http://{login}127.0.0.1:{proxy.port}")
            hub.answers["get_messages"] = [{"messages": ["hello"]}]
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            assert await watcher.frame() == ("hello", False)
            await transport.close()
        [head] = proxy.heads
        assert head.startswith(f"CONNECT localhost:{hub.port} HTTP/1.1\r\nHost: localhost:{hub.port}\r\n")
        assert ("Proxy-Authorization: Basic " + base64.b64encode(b"me:s@y").decode() in head) is bool(login)
        assert "authorization=" not in head and "User-Agent: agent/1\r\n" in head

    play_https(scene, run=run)


def test_the_proxy_itself_may_be_behind_tls(
    play_https: Any, run: Any, environment: Any, certificates: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))

    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        async with Proxy(tls=hub.tls) as proxy:
            environment(ALL_PROXY=f"https://localhost:{proxy.port}")
            hub.answers["get_messages"] = [{"messages": ["hello"]}]
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            assert await watcher.frame() == ("hello", False)
            await transport.close()
        assert len(proxy.heads) == 1

    play_https(scene, run=run)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 X\r\ncontent-length: 3\r\n\r\nno!", "asks for a login"),
        (b"HTTP/1.1 403 X\r\n\r\n", "does not connect to the hub (HTTP 403)"),
        (b"HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n", "HTTP 502"),
        (b"HTTP/1.1 200 X\r\n\r\nmore", "said more"),
        (b"rubbish\r\n\r\n", "cannot be read"),
        (b"x" * 70_000, "cannot be read"),
        (b"", "could not be reached"),
        (b"HTTP/1.1 200 X\r\n\r\n", "did not answer within"),
    ],
)
def test_a_proxy_that_does_not_connect(play_https: Any, run: Any, environment: Any, answer: bytes, said: str) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        async with Proxy(answer) as proxy:
            environment(HTTPS_PROXY=f"http://me:s3cret@127.0.0.1:{proxy.port}")
            with pytest.raises(ThalovantConnectionError) as caught:
                await transport.open(watcher.on_frame, watcher.losses.put_nowait)
            assert said in str(caught.value) and "s3cret" not in str(caught.value)
            assert type(caught.value) is ThalovantConnectionError
            assert hub.connections == 0

    play_https(scene, run=run, connect_timeout=0.5 if "within" in said else 4.0)


def test_a_proxy_that_is_not_there(play_https: Any, run: Any, environment: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        async with Proxy() as proxy:
            environment(HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(
            ThalovantConnectionError, match=f"proxy 127.0.0.1:{proxy.port} could not be reached: .+ HTTPS_PROXY"
        ):
            await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play_https(scene, run=run)


def test_a_hub_that_is_named_as_an_exception_is_dialled_directly(play_https: Any, environment: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        environment(HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY="localhost")
        await transport.open(watcher.on_frame, watcher.losses.put_nowait)
        assert hub.connections == 1

    play_https(scene)


def test_the_hubs_certificate_counts_behind_a_proxy_too(play_https: Any, run: Any, environment: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        async with Proxy() as proxy:
            environment(HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(ThalovantConnectionError, match="not trusted"):
                await transport.open(watcher.on_frame, watcher.losses.put_nowait)

    play_https(scene, run=run, trusted=False)


def test_giving_up_on_a_proxy_leaves_nothing(play_https: Any, run: Any, environment: Any) -> None:
    async def scene(transport: Any, hub: Any, watcher: Any) -> None:
        async with Proxy(b"HTTP/1.1 100 wait\r\n\r\n") as proxy:
            environment(HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
            opening = asyncio.create_task(transport.open(watcher.on_frame, watcher.losses.put_nowait))
            while not proxy.heads:
                await asyncio.sleep(0.001)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            async with asyncio.timeout(5):
                while proxy.tunnels:
                    await asyncio.sleep(0.001)

    play_https(scene, run=run)
