# SPDX-License-Identifier: Apache-2.0
"""The roads to a broker: MQTT over TLS, and over WebSocket. Sockets, and nothing else."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from thalovant_server.isolation.attacker import Dial, Stream

CONNECT_SECONDS = 10.0
PIECE = 65_536


class TlsStream:
    """A TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> bytes:
        """What came next, b"" at the end."""
        return await self._reader.read(PIECE)

    async def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()


class WebSocketStream:
    """The binary frames of a WebSocket as one stream."""

    def __init__(self, stream: TlsStream, protocol: ClientProtocol) -> None:
        self._stream, self._protocol = stream, protocol

    async def write(self, data: bytes) -> None:
        """Send bytes, as one binary frame."""
        try:
            self._protocol.send_binary(data)
        except Exception as error:  # the library's own, when the other side has closed
            raise ConnectionError("the WebSocket is closed") from error
        await self._flush()

    async def read(self) -> bytes:
        """What came next, b"" at the end."""
        while data := await self._stream.read():
            self._protocol.receive_data(data)
            await self._flush()
            events: list[Any] = self._protocol.events_received()
            if payload := b"".join(bytes(each.data) for each in events if _is_binary(each)):
                return payload
            if self._protocol.close_rcvd is not None:
                break
        return b""

    async def close(self) -> None:
        """Hang up."""
        await self._stream.close()

    async def _flush(self) -> None:
        await self._stream.write(b"".join(self._protocol.data_to_send()))


def _is_binary(event: object) -> bool:
    return isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT)


def over_tls(host: str, port: int, context: ssl.SSLContext) -> Dial:
    """MQTT over TLS."""

    async def dial() -> Stream:
        return await _open(host, port, context)

    return dial


def over_websocket(url: str, context: ssl.SSLContext) -> Dial:
    """MQTT over a WebSocket with TLS; each dial raises OSError when there is none at that address."""
    uri = parse_uri(url)

    async def dial() -> Stream:
        stream = await _open(uri.host, uri.port, context)
        protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")])
        protocol.send_request(protocol.connect())
        await stream.write(b"".join(protocol.data_to_send()))
        while not protocol.events_received():
            data = await stream.read()
            protocol.receive_data(data) if data else protocol.receive_eof()
        if protocol.handshake_exc is not None:
            await stream.close()
            raise ConnectionError(str(protocol.handshake_exc)) from protocol.handshake_exc
        return WebSocketStream(stream, protocol)

    return dial


async def _open(host: str, port: int, context: ssl.SSLContext) -> TlsStream:
    async with asyncio.timeout(CONNECT_SECONDS):  # its TimeoutError is an OSError
        return TlsStream(*await asyncio.open_connection(host, port, ssl=context, server_hostname=host))
