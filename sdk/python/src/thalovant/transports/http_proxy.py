# SPDX-License-Identifier: Apache-2.0
"""Which proxy the environment names for a hub, and the way through it: CONNECT (RFC 9110, 9.3.6).

HTTPS_PROXY, else ALL_PROXY, and NO_PROXY, in either case; where a system keeps such settings, those. A proxy's
password is in no error.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, field
from typing import cast
from urllib.request import getproxies, proxy_bypass

from websockets.exceptions import InvalidProxy
from websockets.proxy import Proxy, parse_proxy

from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError
from thalovant.transports.base import reason_of, set_nodelay
from thalovant.transports.http11 import Answer, AnswerReader
from thalovant.transports.tls import client_context

__all__ = ["HttpProxy", "find_proxy", "open_tunnel"]

_NAMES = ("https", "all")


@dataclass(frozen=True, slots=True)
class HttpProxy:
    """One proxy. `authorization`: the header's value, None without a login. `tls`: it is itself spoken to over TLS."""

    host: str
    port: int
    tls: bool
    authorization: bytes | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """Host and port, for people."""
        return authority(self.host, self.port)


def find_proxy(host: str, port: int) -> HttpProxy | None:
    """The proxy for an HTTPS server; None when it is dialled directly.

    Raises ThalovantConnectionError: what the environment names is no proxy that can be used.
    """
    if proxy_bypass(authority(host, port)):
        return None
    named = getproxies()
    address = next((named[name] for name in _NAMES if named.get(name)), None)
    if address is None:
        return None
    try:
        return _http_proxy(parse_proxy(address if "://" in address else f"http://{address}"))
    except (InvalidProxy, ValueError):  # ValueError: a port that is none, a name that is none
        raise _in_the_way("The proxy that the environment names is not an address.") from None


async def open_tunnel(
    proxy: HttpProxy, host: str, port: int, protocol: asyncio.Protocol, context: ssl.SSLContext, *, useragent: bytes
) -> None:
    """Dial the proxy, ask it for `host` and `port`, and have `protocol` made a TLS connection to there.

    Raises OSError: the other end is not reached through the tunnel, or shows no valid certificate.
    ThalovantConnectionError: the proxy is not reached, or refuses.
    """
    transport = await _asked(proxy, _request(proxy, authority(host, port).encode(), useragent))
    try:
        loop = asyncio.get_running_loop()
        inner = await loop.start_tls(transport, protocol, context, server_hostname=host)
        protocol.connection_made(cast("asyncio.Transport", inner))
    except BaseException:
        transport.abort()
        raise


async def _asked(proxy: HttpProxy, request: bytes) -> asyncio.Transport:
    """A connection to a proxy that has granted the request."""
    outer = await asyncio.to_thread(client_context) if proxy.tls else None
    transport: asyncio.Transport | None = None
    try:
        transport, tunnel = await asyncio.get_running_loop().create_connection(
            _Tunnel, proxy.host, proxy.port, ssl=outer
        )
        set_nodelay(transport)
        _judge(proxy, await tunnel.ask(request))
        return transport
    except BaseException as error:
        if transport is not None:
            transport.abort()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise _in_the_way(f"The proxy {proxy.where} could not be reached: {reason_of(error)}.") from None
        raise


def authority(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _http_proxy(proxy: Proxy) -> HttpProxy:
    if proxy.scheme not in ("http", "https"):
        raise _in_the_way(f"A {proxy.scheme} proxy cannot be used over HTTPS.")
    login = proxy.user_info
    basic = None if login is None else b"Basic " + base64.b64encode(":".join(login).encode())
    return HttpProxy(proxy.host, proxy.port, proxy.scheme == "https", basic)


def _request(proxy: HttpProxy, target: bytes, useragent: bytes) -> bytes:
    head = [b"CONNECT %s HTTP/1.1" % target, b"Host: " + target, b"User-Agent: " + useragent]
    if proxy.authorization is not None:
        head.append(b"Proxy-Authorization: " + proxy.authorization)
    return b"\r\n".join((*head, b"", b""))


def _judge(proxy: HttpProxy, answer: Answer) -> None:
    if answer.status == 407:
        raise _in_the_way(f"The proxy {proxy.where} asks for a login (HTTP 407).")
    if not 200 <= answer.status < 300:
        raise _in_the_way(f"The proxy {proxy.where} does not connect to the hub (HTTP {answer.status}).")


def _in_the_way(said: str) -> ThalovantConnectionError:
    return diagnosed(ThalovantConnectionError, diagnose("proxy_in_the_way", said=said))


class _Tunnel(asyncio.Protocol):
    """The connection to a proxy until it has answered."""

    def __init__(self) -> None:
        self._reader = AnswerReader(max_body=64 * 1024)
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            return
        try:
            answer = self._reader.feed(data)
            if answer is not None and answer.status < 300 and self._reader.left_over:
                raise ThalovantConnectionError("The proxy said more than that the hub is connected.")
        except ThalovantConnectionError as error:
            self._answer.set_exception(error)
        else:
            if answer is not None:
                self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            answer = self._reader.feed_end()
            if answer is None:
                self._answer.set_exception(ConnectionResetError("the proxy hung up"))
            else:
                self._answer.set_result(answer)

    async def ask(self, request: bytes) -> Answer:
        assert self._transport is not None  # noqa: S101 - made just now
        self._reader.expect(tunnel=True)
        self._transport.write(request)
        return await self._answer
