# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier (contract 10.2): frames are posted, and fetched by polling or, from a hub of ours, by exchange.

It begins by polling, which every hub knows, and goes over to numbered exchanges with a hub that announces "poll"
(docs/wire.md). Follows no redirect; the environment's proxies are honoured. Any failure after `open` that cannot be
made good without losing a frame or sending it twice loses the link.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from typing import TYPE_CHECKING

from thalovant.addresses import https_base, pin_name
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.hub_endpoints import HubProtocol
from thalovant.transports.base import Loss, OnFrame, OnLost, unreachable
from thalovant.transports.http_line import HttpLine, HttpServer
from thalovant.transports.https_exchange import Exchanging
from thalovant.transports.https_polling import Polling
from thalovant.transports.hub_requests import HubRequests
from thalovant.transports.tls import client_context

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["Transport"]

MAX_ANSWER = 64 * 1_048_576  # bytes; the largest message there may be has 43 MiB in base64
POLL = "poll"


class Transport:
    """HTTPS towards one identity's hub. Raises `ThalovantConnectionError` when there is no usable address."""

    protocol: HubProtocol = "https"
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
        self._base = https_base(identity)
        self._connect_timeout = connect_timeout
        self._self_signed = self_signed
        self._context: ssl.SSLContext | None = None
        self._admission: _Admission | None = None
        self.send_timeout = send_timeout
        self.expecting = False

    @property
    def address(self) -> str:
        """The name under which the hub's key is pinned (contract 4.2)."""
        return pin_name(self._identity, "https")

    def session_id(self) -> str:
        """A new session id."""
        return f"thalovant-python-{secrets.token_hex(16)}"

    @property
    def socket_opened_at(self) -> float | None:
        """`time.monotonic()` when the hub had answered /connect."""
        return self._admission.opened_at if self._admission else None

    async def open(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        """POST /connect; see `transports.base.Transport.open`."""
        requests = HubRequests(self._base, self._useragent, self._identity.access_key)
        server = HttpServer(
            requests.host, requests.port, await self._tls(requests), requests.useragent, max_body=MAX_ANSWER
        )
        admission = _Admission(self, requests, server, on_frame, on_lost)
        await admission.begin(self._connect_timeout)
        self._admission = admission

    async def _tls(self, requests: HubRequests) -> ssl.SSLContext | None:
        if self._context is None and requests.tls:
            self._context = await asyncio.to_thread(
                client_context, self._identity.ca_pem, self_signed=self._self_signed
            )
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    @property
    def own_authority(self) -> bool:
        """Whether the identity says itself whom to trust."""
        return bool(self._identity.ca_pem)

    @property
    def connect_timeout(self) -> float:
        """Seconds that dialling may take."""
        return self._connect_timeout

    def announced(self, capabilities: frozenset[str]) -> None:
        """Exchange frames with a hub that can, from its HELLO on."""
        if self._admission is not None:
            self._admission.exchanges = POLL in capabilities

    def send_clear(self, data: bytes) -> None:
        """Queue a clear frame."""
        if self._admission is not None:
            self._admission.mode.put((False, data))

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames, in this order."""
        if self._admission is not None:
            for frame in frames:
                self._admission.mode.put((True, frame))

    def ready(self) -> None:
        """The session is up: sealed frames come from now on."""
        if self._admission is not None:
            self._admission.mode.ready()

    @property
    def congested(self) -> bool:
        """Whether 64 frames or more wait to be posted."""
        return self._admission is not None and self._admission.mode.congested

    async def drain(self) -> None:
        """Wait until fewer frames wait; returns at once on a lost carrier."""
        while self._admission is not None and self._admission.mode.congested:
            await self._admission.mode.drain()

    def check(self, seconds: float) -> None:
        """Ask the hub for a sign of life; see `transports.base.Transport.check`."""
        if self._admission is not None:
            self._admission.mode.check(seconds)

    async def acknowledged(self) -> None:
        """Nothing to wait for: a hub says nothing of single frames."""

    async def close(self) -> None:
        """Send what is queued, then POST /disconnect."""
        admission, self._admission = self._admission, None
        if admission is not None:
            await admission.mode.close()


class _Admission:
    """One `/connect` at the hub and what follows from it, in either mode."""

    def __init__(
        self, owner: Transport, requests: HubRequests, server: HttpServer, on_frame: OnFrame, on_lost: OnLost
    ) -> None:
        self._owner = owner
        self._requests = requests
        self._server = server
        self._line = HttpLine(server)
        self._on_frame = on_frame
        self._on_lost = on_lost
        self.exchanges = False
        self.opened_at: float | None = None
        self.mode: Polling | Exchanging

    async def begin(self, seconds: float) -> None:
        """POST /connect. Raises ThalovantConnectionError, ThalovantHubRefusedError."""
        try:
            async with asyncio.timeout(seconds):
                await self._line.dial()
                answer = await self._line.ask(self._requests.plain("connect"), seconds)
            self._requests.json("connect", answer)
        except OSError as error:  # TimeoutError is one
            self._line.hang_up()
            raise self._unreachable(error) from None
        except BaseException:
            self._line.hang_up()
            raise
        self.opened_at = time.monotonic()
        self.mode = Polling(self, self._requests, self._line, self._go_over)

    def _go_over(self) -> bool:
        """Exchange from now on, if the hub can."""
        if self.exchanges and isinstance(self.mode, Polling):
            self.mode = Exchanging(self, self._requests, self._server, self._line, self.mode.waiting)
        return self.exchanges

    # -- what the modes need ----------------------------------------------------------------------------------

    @property
    def expecting(self) -> bool:
        """Whether an answer is awaited."""
        return self._owner.expecting

    @property
    def send_timeout(self) -> float:
        """Seconds until a request that nobody answers is given up."""
        return self._owner.send_timeout

    async def dial(self, line: HttpLine) -> None:
        """Dial a line in time. Raises ThalovantConnectionError."""
        try:
            async with asyncio.timeout(self._owner.connect_timeout):
                await line.dial()
        except OSError as error:  # TimeoutError is one
            raise self._unreachable(error) from None

    def received(self, data: bytes | str, sealed: bool) -> None:
        """Hand a frame up."""
        self._on_frame(data, sealed)

    def lost(self, error: Exception) -> None:
        """Say why the link is over."""
        if isinstance(error, ThalovantHubRefusedError):
            told = error.diagnosis.happened if error.diagnosis else str(error)
            self._on_lost(Loss(told, refused=True))
        elif isinstance(error, ThalovantConnectionError):
            self._on_lost(Loss(str(error), error=error))
        elif isinstance(error, TimeoutError):
            self._on_lost(Loss(f"The hub did not answer within {self.send_timeout:g} s."))
        elif isinstance(error, OSError):
            self._on_lost(Loss(f"The connection to the hub broke: {type(error).__name__}."))
        else:
            self._on_lost(Loss(f"The HTTPS carrier failed: {type(error).__name__}."))

    def _unreachable(self, error: OSError) -> ThalovantConnectionError:
        return unreachable(
            self._requests.where, error, self._owner.connect_timeout, own_authority=self._owner.own_authority
        )
