# SPDX-License-Identifier: Apache-2.0
"""The WebSocket carrier: clear frames as text, sealed frames as binary messages (contract 10.1).

Frames are handed up from within the read callback and written from within the call, without a task or a queue
between. No compression, no redirects; proxy variables are honoured. What a close code means is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

from thalovant.addresses import pin_name, wss_base, wss_request
from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.hub_endpoints import HubProtocol
from thalovant.transports.base import SLOWEST, Loss, OnFrame, OnLost, set_nodelay, unreachable
from thalovant.transports.redaction import without_authorization
from thalovant.transports.tls import client_context

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.protocol import Event

    from thalovant.identity import ThalovantIdentity

__all__ = ["Transport"]

MAX_FRAME = 1_048_576
PING_EVERY = 20.0
PING_PATIENCE = 10.0
CLOSE_PATIENCE = 1.0

_log = logging.getLogger("thalovant.transports.wss")
_log.addFilter(without_authorization)


class Transport:
    """A WebSocket towards one identity's hub. Raises `ThalovantConnectionError` when there is no usable address."""

    protocol: HubProtocol = "wss"
    speaks_first = False

    def __init__(
        self,
        identity: ThalovantIdentity,
        *,
        useragent: str,
        connect_timeout: float,
        send_timeout: float,
        self_signed: bool = False,
    ) -> None:
        self._identity = identity
        self._useragent = useragent
        self._where = urlsplit(wss_base(identity)).netloc.rpartition("@")[2]
        self._tls = wss_base(identity).startswith("wss:")
        self._connect_timeout = connect_timeout
        self.send_timeout = send_timeout
        self._self_signed = self_signed
        self._context: ssl.SSLContext | None = None
        self._connection: _Connection | None = None
        self.expecting = False

    @property
    def address(self) -> str:
        """The name under which the hub's key is pinned (contract 4.2)."""
        return pin_name(self._identity, "wss")

    def session_id(self) -> str:
        """A new session id."""
        return f"thalovant-python-{secrets.token_hex(16)}"

    @property
    def socket_opened_at(self) -> float | None:
        """`time.monotonic()` when the socket (with TLS) was up."""
        return self._connection.opened_at if self._connection else None

    async def open(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        """Connect and upgrade; see `transports.base.Transport.open`."""
        if self._tls and self._context is None:
            self._context = await asyncio.to_thread(
                client_context, self._identity.ca_pem, self_signed=self._self_signed
            )
        try:
            await self._dial(on_frame, on_lost)
        except InvalidStatus as error:
            raise _refusal(self._where, error.response.status_code) from None
        except OSError as error:  # TimeoutError and ssl.SSLError are among them
            raise unreachable(
                self._where, error, self._connect_timeout, own_authority=bool(self._identity.ca_pem)
            ) from None
        except WebSocketException as error:
            told = f"{self._where} does not speak WebSocket: {str(error).rstrip('. ')}."
            raise diagnosed(ThalovantConnectionError, diagnose("wrong_service", told=told)) from None

    async def _dial(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        def connection(protocol: ClientProtocol, **options: Any) -> _Connection:
            # Known to us at once: the hub's first frames may come with its answer to the upgrade, and get one.
            self._connection = _Connection(self, protocol, on_frame, on_lost, **options)
            return self._connection

        await _Connect(
            wss_request(self._identity, self._useragent),
            create_connection=cast("type[ClientConnection]", connection),
            ssl=self._context,
            compression=None,
            user_agent_header=self._useragent,
            open_timeout=self._connect_timeout,
            ping_interval=PING_EVERY,
            ping_timeout=PING_PATIENCE,
            close_timeout=CLOSE_PATIENCE,
            max_size=MAX_FRAME,
            logger=_log,
        )

    def send_clear(self, data: bytes) -> None:
        """Write a clear frame as a text message."""
        if self._connection is not None:
            self._connection.put(data, text=True)

    def send_sealed(self, frames: list[bytes]) -> None:
        """Write sealed frames as binary messages, in this order."""
        connection = self._connection
        if connection is not None:
            for frame in frames:
                connection.put(frame, text=False)

    def announced(self, capabilities: frozenset[str]) -> None:
        """Nothing of it concerns this carrier."""

    def ready(self) -> None:
        """Nothing to do: the hub sees the connection itself."""

    @property
    def congested(self) -> bool:
        """Whether the socket takes nothing."""
        return self._connection is not None and self._connection.paused

    async def acknowledged(self) -> None:
        """Nothing to wait for: a hub says nothing of single frames."""

    async def drain(self) -> None:
        """Wait until the socket takes more; a hub that takes nothing for the send timeout has lost the link."""
        connection = self._connection
        if connection is None:
            return
        try:
            async with asyncio.timeout(self.send_timeout):
                await connection.drain()
        except TimeoutError:
            connection.lose(Loss(f"The hub took nothing within {self.send_timeout:g} s."))
        except ConnectionError:
            return  # on_lost has said so

    def check(self, seconds: float) -> None:
        """Ping the hub; see `transports.base.Transport.check`."""
        if self._connection is not None:
            self._connection.check(seconds)

    async def close(self) -> None:
        """Close the WebSocket with 1000."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.end()


class _Connect(connect):
    """Opens a WebSocket and follows no redirect: the authorization is for the hub of the identity only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Connection(ClientConnection):
    """One WebSocket. Hands data frames up as they are parsed, instead of queueing them for `recv`."""

    def __init__(
        self, owner: Transport, protocol: ClientProtocol, on_frame: OnFrame, on_lost: OnLost, **options: Any
    ) -> None:
        super().__init__(protocol, **options)
        self._owner = owner
        self._heard_at = 0.0
        self._unanswered = 0  # bytes written since something was heard
        self._silent = False  # nothing was heard since the last ping
        self._watch: asyncio.TimerHandle | None = None
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._over = False
        self._parts: list[bytes] = []
        self._text = False
        self.opened_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        set_nodelay(transport)
        self.opened_at = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        self._unanswered = 0
        self._silent = False
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Response):
            super().process_event(event)
        elif isinstance(event, Frame):
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._collect(event)
            elif event.opcode is Opcode.CLOSE:
                self._closed_by_hub()
            else:
                super().process_event(event)

    def _collect(self, frame: Frame) -> None:
        """Put a message together; websockets has checked the sequence and the size of it all."""
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        if not frame.fin or self._parts:
            self._parts.append(bytes(frame.data))
        if frame.fin and not self._over:
            data = b"".join(self._parts) if self._parts else bytes(frame.data)
            self._parts = []
            self._on_frame(data, not self._text)

    def _closed_by_hub(self) -> None:
        # Said at once: the socket itself may linger until the hub closes its side.
        self._tell(self._loss())
        self.loop.call_later(CLOSE_PATIENCE, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell(self._loss())

    def _loss(self) -> Loss:
        close = self.protocol.close_rcvd  # the library's own close_code is None until the socket is gone
        if close is None:
            return Loss("The connection to the hub broke.")
        reason = f": {close.reason}" if close.reason else ""
        return Loss(f"The hub closed the connection ({close.code}{reason}).", close.code)

    def _listen_for(self, since: float) -> None:
        """Look, half the send timeout after `since`, whether the hub was heard; ask it for a sign of life if not."""
        self._watch = self.loop.call_at(since + self._owner.send_timeout / 2, self._listen_again, since)

    def _listen_again(self, since: float) -> None:
        self._watch = None
        if not self._owner.expecting or self._over:
            return
        if self._heard_at > since:
            self._listen_for(self._heard_at)
            return
        self._ping(since, since + self._owner.send_timeout - self.loop.time())

    def check(self, seconds: float) -> None:
        """Ping the hub now; it is lost when it is silent for so long, longer while a slow line may be busy sending."""
        if not self._over:
            self._stop_watch()
            self._ping(self.loop.time(), seconds + self._unanswered / SLOWEST)

    def _ping(self, since: float, patience: float) -> None:
        with contextlib.suppress(WebSocketException):  # it began to close; on_lost comes
            self.protocol.send_ping(b"")
            self.send_data()
            self._silent = True
            self._watch = self.loop.call_later(patience, self._judge_silence, since)

    def _judge_silence(self, since: float) -> None:
        self._watch = None
        if not self._silent:
            self._listen_again(self._heard_at)
        else:
            silent = self.loop.time() - since
            self.lose(Loss(f"The hub was silent for {silent:.2g} s while an answer was due."))

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def lose(self, loss: Loss) -> None:
        """Give the connection up."""
        self._tell(loss)
        self.transport.abort()

    def _tell(self, loss: Loss) -> None:
        self._stop_watch()
        if not self._over:
            self._over = True
            if self.response is not None:  # else the upgrade has failed, which `open` reports
                self._on_lost(loss)

    def put(self, data: bytes, *, text: bool) -> None:
        """Write one message; dropped when the connection is closing."""
        if self._over:
            return
        self._unanswered += len(data)
        with contextlib.suppress(WebSocketException):  # it began to close; on_lost comes
            if text:
                self.protocol.send_text(data)
            else:
                self.protocol.send_binary(data)
            self.send_data()
        if self._owner.expecting and self._watch is None:
            self._listen_for(self.loop.time())

    async def end(self) -> None:
        self._over = True
        self._stop_watch()
        if self.response is not None:  # else there was no upgrade, and the library has ended the connection
            try:
                await self.close()
            finally:  # it was cut short, or the hub did not take part
                self.transport.abort()


def _refusal(where: str, status: int) -> ThalovantConnectionError:
    if status in (401, 403):
        told = f"{where} does not accept these credentials (HTTP {status})."
        return diagnosed(ThalovantHubRefusedError, diagnose("credential_refused", told=told))
    if status in (429, 503):
        return diagnosed(ThalovantConnectionError, diagnose("server_busy", told=f"{where} is busy (HTTP {status})."))
    told = f"{where} did not open a WebSocket (HTTP {status})."
    return diagnosed(ThalovantConnectionError, diagnose("wrong_service", told=told))
