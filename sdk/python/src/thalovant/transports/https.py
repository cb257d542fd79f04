# SPDX-License-Identifier: Apache-2.0
"""The HTTPS carrier: frames are posted, and fetched by polling, over one kept-alive connection (contract 10.2).

One task does all of it, so that sends and polls stay in order: it sends what is queued, then asks for what the
hub holds: clear frames until the session is up, sealed ones from then on. It asks again after 5 to 20 ms while an
answer is awaited and every 100 ms otherwise. Follows no redirect; proxy variables are honoured. Any failure after
`open` loses the link: a lost answer may have held a frame, and a session cannot go on without it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import secrets
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import orjson

from thalovant.addresses import authorization_query, https_base, pin_name
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.hub_endpoints import HubProtocol
from thalovant.transports.base import Loss, OnFrame, OnLost, unreachable
from thalovant.transports.redaction import without_authorization
from thalovant.transports.tls import client_context

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["Transport"]

IDLE_PAUSE = 0.1
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.02
CLOSE_PATIENCE = 1.0
MAX_ANSWER = 64 * 1_048_576  # bytes; the largest message there may be has 43 MiB in base64
MAX_WAITING = 64

for _name in ("httpx2", "httpcore2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy"):
    logging.getLogger(_name).addFilter(without_authorization)


class Transport:
    """Polling towards one identity's hub. Raises `ThalovantConnectionError` when there is no usable address."""

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
        self._where = urlsplit(self._base).netloc.rpartition("@")[2]
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout
        self._self_signed = self_signed
        self._context: ssl.SSLContext | None = None
        self._connection: _Connection | None = None
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
        return self._connection.opened_at if self._connection else None

    async def open(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        """POST /connect; see `transports.base.Transport.open`."""
        if self._context is None:
            self._context = await asyncio.to_thread(
                client_context, self._identity.ca_pem, self_signed=self._self_signed
            )
        hub = self._hub(self._context)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await hub.connect()
        except (OSError, httpx2.HTTPError) as error:  # TimeoutError is among them
            await hub.aclose()
            raise unreachable(
                self._where, _cause(error), self._connect_timeout, own_authority=bool(self._identity.ca_pem)
            ) from None
        except (httpx2.InvalidURL, httpx2.StreamError) as error:
            await hub.aclose()
            raise ThalovantConnectionError(f"{self._where} could not be asked: {type(error).__name__}.") from None
        except ThalovantHubRefusedError as error:
            await hub.aclose()
            raise ThalovantHubRefusedError(f"{error} Create a fresh identity.") from None
        except BaseException:
            await hub.aclose()
            raise
        self._connection = _Connection(self, hub, on_frame, on_lost)

    def _hub(self, context: ssl.SSLContext) -> _Hub:
        client = httpx2.AsyncClient(
            verify=context,
            headers={"User-Agent": self._useragent, "Accept-Encoding": "identity"},
            timeout=self._send_timeout,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
        )
        query = authorization_query(self._useragent, self._identity.access_key)
        return _Hub(client, self._base, query, self._where)

    def send_clear(self, data: bytes) -> None:
        """Queue a clear frame."""
        if self._connection is not None:
            self._connection.put({"message": data.decode()})

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames, in this order."""
        connection = self._connection
        if connection is not None:
            for frame in frames:
                connection.put({"message": base64.b64encode(frame).decode("ascii"), "binary": "1"})

    def ready(self) -> None:
        """Fetch sealed frames from now on."""
        if self._connection is not None:
            self._connection.sealed = True

    @property
    def congested(self) -> bool:
        """Whether 64 frames or more wait to be posted."""
        return self._connection is not None and self._connection.congested

    async def drain(self) -> None:
        """Wait until fewer frames wait; returns at once on a lost carrier."""
        if self._connection is not None:
            await self._connection.drain()

    def check(self, seconds: float) -> None:
        """Nothing to do: each poll is a question that must be answered."""

    async def acknowledged(self) -> None:
        """Nothing to wait for: a hub says nothing of single frames."""

    async def close(self) -> None:
        """Send what is queued, then POST /disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class _Hub:
    """The hub's five addresses: what to ask, and what an answer means."""

    def __init__(self, client: httpx2.AsyncClient, base: str, query: str, where: str) -> None:
        self._client = client
        self._addresses = {
            name: f"{base}/{name}?{query}"
            for name in ("connect", "disconnect", "send_message", "get_messages", "get_binary_messages")
        }
        self._where = where
        self._stream: Any = None

    async def aclose(self) -> None:
        await self._client.aclose()
        if self._stream is not None:  # the library forgets it when a TLS handshake is cut short
            await self._stream.aclose()

    async def connect(self) -> None:
        await self._asked("POST", "connect", extensions={"trace": self._note_stream})

    async def _note_stream(self, event: str, about: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = about["return_value"]

    async def disconnect(self) -> None:
        await self._asked("POST", "disconnect")

    async def send(self, form: dict[str, str]) -> None:
        await self._asked("POST", "send_message", form)

    async def clear_frames(self) -> list[str]:
        return _texts(await self._asked("GET", "get_messages"), "messages")

    async def sealed_frames(self) -> list[bytes]:
        held = _texts(await self._asked("GET", "get_binary_messages"), "b64_messages")
        try:
            return [base64.b64decode(text, validate=True) for text in held]
        except binascii.Error:
            raise ThalovantConnectionError("The hub's answer holds a frame that is not base64.") from None

    async def _asked(
        self, method: str, name: str, form: dict[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        async with self._client.stream(method, self._addresses[name], data=form, **options) as answer:
            status, content = answer.status_code, await self._content(answer)
        if status in (401, 403):
            raise ThalovantHubRefusedError(f"{self._where} does not accept these credentials (HTTP {status}).")
        body = _body(content)
        if status != 200 or "error" in body:
            raise ThalovantConnectionError(_failure(self._where, name, status, body.get("error")))
        return body

    async def _content(self, answer: httpx2.Response) -> bytes:
        """The body, as it came: nothing was allowed to be compressed, so nothing can swell."""
        content = bytearray()
        async for part in answer.aiter_raw():
            content += part
            if len(content) > MAX_ANSWER:
                raise ThalovantConnectionError(f"{self._where} answered with more than {MAX_ANSWER} bytes.")
        return bytes(content)


class _Connection:
    """One admission at the hub, and the task that sends and polls."""

    def __init__(self, owner: Transport, hub: _Hub, on_frame: OnFrame, on_lost: OnLost) -> None:
        self._owner = owner
        self._hub = hub
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._waiting: deque[dict[str, str]] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self.sealed = False
        self.opened_at: float | None = time.monotonic()
        self._task = asyncio.create_task(self._work(), name="thalovant-https-poll")

    @property
    def congested(self) -> bool:
        return len(self._waiting) >= MAX_WAITING and not self._over

    def put(self, form: dict[str, str]) -> None:
        if not self._over:
            self._waiting.append(form)
            self._wake.set()

    async def drain(self) -> None:
        while self.congested:
            self._room.clear()
            await self._room.wait()

    async def close(self) -> None:
        self._over = True
        self._room.set()
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, CLOSE_PATIENCE)
        await self._hub.aclose()

    async def _work(self) -> None:
        try:
            await self._send_and_poll()
            await self._hub.disconnect()
        except ThalovantHubRefusedError as error:
            self._lost(Loss(str(error), refused=True))
        except ThalovantConnectionError as error:
            self._lost(Loss(str(error)))
        except httpx2.HTTPError as error:
            self._lost(Loss(f"The connection to the hub broke: {type(_cause(error)).__name__}."))
        except Exception as error:  # noqa: BLE001 - whatever ends this task has ended the link
            self._lost(Loss(f"The HTTPS carrier failed: {type(error).__name__}."))
        finally:
            if not self._over:
                await self._hub.aclose()

    async def _send_and_poll(self) -> None:
        pause = FIRST_PAUSE
        while not self._over:
            if await self._send_waiting() | await self._poll():
                pause = FIRST_PAUSE
            if not self._waiting:
                await self._rest(pause if self._owner.expecting or not self.sealed else IDLE_PAUSE)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        await self._send_waiting()

    async def _send_waiting(self) -> bool:
        sent = False
        while self._waiting:
            await self._hub.send(self._waiting[0])
            self._waiting.popleft()
            self._room.set()
            sent = True
        return sent

    async def _poll(self) -> bool:
        if self._over:
            return False
        sealed = self.sealed
        frames = await (self._hub.sealed_frames() if sealed else self._hub.clear_frames())
        for frame in frames:
            if not self._over:
                self._on_frame(frame, sealed)
        return bool(frames)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless there is something to send or the end has come."""
        self._wake.clear()
        if self._over:
            return
        alarm = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        alarm.cancel()

    def _lost(self, loss: Loss) -> None:
        if not self._over:
            self._over = True
            self._room.set()
            self._on_lost(loss)


def _cause(error: BaseException) -> BaseException:
    """Find the system's error below the library's: it says more."""
    if isinstance(error, httpx2.TimeoutException):
        return TimeoutError()
    found: BaseException | None = error
    while found is not None and not (isinstance(found, OSError) and found.errno is not None):
        found = found.__cause__ or found.__context__
    return found or error


def _body(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


def _texts(body: dict[str, Any], key: str) -> list[str]:
    texts = body.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ThalovantConnectionError(f"The hub's answer has no list of texts in {key!r}.")
    return texts


def _failure(where: str, name: str, status: int, error: object) -> str:
    if status in (429, 503):
        return f"{where} is busy (HTTP {status}). Try again in a moment."
    said = f": {error[:200]}" if isinstance(error, str) else ""
    if status == 200:
        return f"The hub did not take /{name}{said}."
    return f"{where} answered /{name} with HTTP {status}{said}. Check the address of the identity."
