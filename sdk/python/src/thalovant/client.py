# SPDX-License-Identifier: Apache-2.0
"""`AsyncThalovantClient`: talk to one hub. Asks, sends, listens, and keeps its connection alive.

One connection at a time, shared by every call; an event travels from the socket to its ask or handler within one
callback. It knows no bytes, no keys and no carrier's ways (`dialing`, `link`, `transports`), and decides nothing
about when an answer is complete (`protocol.asks`). All of it belongs to one event loop; `sync_client` is its twin
for the rest of the world.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from thalovant.addresses import choose_protocol
from thalovant.dialing import Dialer
from thalovant.errors import ThalovantHubRefusedError, ThalovantRuntimeError, ThalovantTimeoutError
from thalovant.events import ThalovantEvent
from thalovant.health import ThalovantConnectionInfo, ThalovantHealth
from thalovant.hub_endpoints import HubProtocol
from thalovant.identity import ThalovantIdentity
from thalovant.keeping import LinkKeeper
from thalovant.noise_state import NoiseState, noise_state_folder
from thalovant.pending import PendingAsk
from thalovant.protocol.asks import (
    Ask,
    AskBook,
    Failed,
    Outcome,
    build_utterance,
    new_request_id,
    seen_context,
    with_context_defaults,
)
from thalovant.protocol.contexts import session_id_of
from thalovant.protocol.errors import MessageError, ProtocolError
from thalovant.protocol.messages import HiveMessage, bus
from thalovant.reply import ThalovantReply, reply_or_raise
from thalovant.subscriptions import (
    EventHandler,
    EventPredicate,
    Subscriptions,
    ThalovantSubscription,
    event_filter,
)
from thalovant.tasks import OwnedTasks
from thalovant.transports import https, mqtt, wss
from thalovant.version import USER_AGENT, __version__

if TYPE_CHECKING:
    from thalovant.link import Link
    from thalovant.transports.base import Transport

__all__ = ["AsyncThalovantClient"]

ANNOUNCE = {"sdk": f"python/{__version__}", "capabilities": ["handled"]}
HUB_GRACE = 1.0  # seconds a hub of ours lets an agent go on past our own deadline, so that ours strikes first
CANCEL_EVENT = "thalovant.ask.cancel"

_TRANSPORTS: dict[HubProtocol, Callable[..., Transport]] = {
    "wss": wss.Transport,
    "https": https.Transport,
    "mqtt": mqtt.Transport,
}

_log = logging.getLogger("thalovant.handlers")


class AsyncThalovantClient:
    """A client of one hub, for asyncio. Use it with `async with`, or `connect()` and `close()`.

    `protocol` is "wss", "https" or "mqtt"; None takes WSS where the identity allows it, else HTTPS. Times are in
    seconds: `connect_timeout` for the carrier, `handshake_timeout` for the Noise handshake, `send_timeout` for the
    other side to take what is sent; `reply_settle_seconds` and `empty_reply_wait_seconds` are the windows of contract
    9.3, used against hubs that do not say when an answer is complete. `reconnect_attempts` is how often one call dials
    again. `noise_state_dir` is where keys are kept. `self_signed=True` accepts any certificate over WSS and HTTPS.
    `session` is taken for the published signature and not used.

    Raises `ThalovantUnsupportedProtocolError` and `ThalovantConnectionError` for an identity that cannot be dialled.
    """

    def __init__(
        self,
        identity: ThalovantIdentity,
        *,
        useragent: str = USER_AGENT,
        connect_timeout: float = 4.0,
        handshake_timeout: float = 20.0,
        send_timeout: float = 8.0,
        reply_settle_seconds: float = 0.25,
        empty_reply_wait_seconds: float = 5.0,
        auto_reconnect: bool = True,
        reconnect_attempts: int = 1,
        protocol: HubProtocol | None = None,
        transport: Transport | None = None,
        noise_state_dir: str | None = None,
        self_signed: bool = False,
        session: Any = None,
    ) -> None:
        self._identity = identity
        self._useragent = useragent
        self._settle = reply_settle_seconds
        self._empty_wait = empty_reply_wait_seconds
        self._auto_reconnect = auto_reconnect
        self._attempts = 1 + (reconnect_attempts if auto_reconnect else 0)
        self._transport = transport or _TRANSPORTS[choose_protocol(identity, protocol)](
            identity,
            useragent=useragent,
            connect_timeout=connect_timeout,
            send_timeout=send_timeout,
            self_signed=self_signed,
        )
        self._keeper = LinkKeeper(
            Dialer(
                identity,
                self._transport,
                NoiseState(noise_state_folder(identity, noise_state_dir)),
                handshake_timeout=handshake_timeout,
                announce=ANNOUNCE,
            ),
            auto_reconnect=auto_reconnect,
            on_message=self._receive,
            on_lost=self._fail_asks,
        )
        self._book = AskBook()
        self._pending: dict[str, PendingAsk] = {}  # by request id; the asks of `_book`
        self._awaited = 0  # answers somebody waits for, asks included
        self._subscriptions = Subscriptions()
        self._handlers = OwnedTasks()

    @classmethod
    def from_identity_file(cls, path: str | Path, **kwargs: Any) -> Self:
        """Make a client from a JSON identity file. Raises `ThalovantIdentityError`."""
        return cls(ThalovantIdentity.from_file(path), **kwargs)

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, profile: str | None = None, **kwargs: Any) -> Self:
        """Make a client from a profile of the configuration file. Raises `ThalovantIdentityError`."""
        return cls(ThalovantIdentity.from_config(path, profile=profile), **kwargs)

    @classmethod
    def from_env(cls, **kwargs: Any) -> Self:
        """Make a client from the environment (`THALOVANT_...`). Raises `ThalovantIdentityError`."""
        return cls(ThalovantIdentity.from_env(), **kwargs)

    @property
    def identity(self) -> ThalovantIdentity:
        """Who this client is."""
        return self._identity

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:  # there will be no __aexit__
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.protocol}, {self._keeper.phase})"

    # Connecting and ending

    async def connect(self, timeout: float | None = None) -> None:
        """Connect, or do nothing when there is a connection. `timeout` covers all of it, in seconds.

        Raises `ThalovantConnectionError` or below it (refused, hub key changed, ...), `ThalovantTimeoutError`, and
        `ThalovantIdentityError` for damaged Noise state.
        """
        self._keeper.forgive()
        deadline_at = None if timeout is None else asyncio.get_running_loop().time() + timeout
        await self._keeper.dialled(deadline_at)

    async def connect_with_info(self, timeout: float | None = None) -> ThalovantConnectionInfo:
        """Connect and tell how it went."""
        await self.connect(timeout)
        return await self.connection_info()

    async def close(self, timeout: float | None = None) -> None:
        """End the connection, everything that waits on it and every task; for good.

        `timeout` bounds the goodbye, in seconds; about two without it.
        """
        await self._end("The client was closed.", timeout, for_good=True)

    async def disconnect(self, timeout: float | None = None) -> None:
        """End the connection and do not dial again until the next call. Subscriptions stay."""
        await self._end("The client was disconnected.", timeout, for_good=False)

    async def _end(self, reason: str, timeout: float | None, *, for_good: bool) -> None:
        await self._handlers.end()
        try:
            async with asyncio.timeout(timeout):
                await self._keeper.end(reason, for_good=for_good)
        except TimeoutError:
            raise ThalovantTimeoutError(f"Ending the connection took longer than {timeout:g} s.") from None

    async def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the client is closed, has given its connection up, or, without `auto_reconnect`, has lost it.

        Raises `ThalovantTimeoutError` when `timeout` seconds pass first.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._keeper.gone.wait()
        except TimeoutError:
            raise ThalovantTimeoutError(f"The client was not closed within {timeout:g} s.") from None

    async def connection_info(self) -> ThalovantConnectionInfo:
        """How the latest attempt to connect went, and where the connection stands now."""
        return self._keeper.info

    async def healthcheck(self) -> ThalovantHealth:
        """Whether the connection is usable now. Looks only; dials nothing."""
        alive = self._keeper.link is not None
        return ThalovantHealth(
            connected=alive,
            handshake_complete=alive,
            transport_alive=alive,
            last_error=self._keeper.last_error,
            connection=self._keeper.info,
        )

    # Asking, sending and listening

    async def ask(
        self,
        text: str,
        *,
        timeout: float = 12.0,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        stt_lang: str | None = None,
        pipeline: Sequence[str] | None = None,
        location: Mapping[str, Any] | None = None,
    ) -> ThalovantReply:
        """Ask the hub and wait for the whole answer; `timeout` seconds cover connecting, too (contract 9).

        Against a hub of ours the answer returns as soon as it is complete, and a link that drops meanwhile is dialled
        again and the same request sent again: the hub answers it once. Against others the windows of contract 9.3
        hold, and a link that drops after sending is an error.

        Raises `ThalovantTimeoutError`, `ThalovantUnansweredError`, `ThalovantPolicyDeniedError`,
        `ThalovantRuntimeError`, `ThalovantConnectionError` and below it.
        """
        deadline_at = asyncio.get_running_loop().time() + timeout
        request_id = request_id or new_request_id()
        link = self._keeper.link or await self._keeper.insist(deadline_at, self._attempts)
        payload = build_utterance(
            text,
            lang=lang,
            request_id=request_id,
            session_id=link.session_id,
            site_id=self._identity.site_id,
            useragent=self._useragent,
            context=context,
            call_session_id=session_id,
            stt_lang=stt_lang,
            pipeline=pipeline,
            location=location,
        )
        if link.handled_is_last:
            payload["context"].setdefault("thalovant", {"timeout_ms": round((timeout + HUB_GRACE) * 1000)})
        message = HiveMessage("bus", payload)
        while True:
            outcome = await self._ask_on(link, message, request_id, deadline_at)
            if not (isinstance(outcome, Failed) and outcome.kind == "connection"):
                return reply_or_raise(outcome)
            self._refuse_to_repeat(link, outcome)
            link = await self._keeper.insist(deadline_at, None)

    async def _ask_on(self, link: Link, message: HiveMessage, request_id: str, deadline_at: float) -> Outcome:
        loop = asyncio.get_running_loop()
        ask = Ask(
            request_id,
            session_id_of(message.payload["context"]),
            now=loop.time(),
            deadline_at=deadline_at,
            settle=self._settle,
            empty_wait=self._empty_wait,
            handled_is_last=link.handled_is_last,
        )
        with _as_runtime_error():
            self._book.add(ask)
        pending = PendingAsk(ask, link, loop)
        self._pending[request_id] = pending
        self._await_answers(+1)
        try:
            self._send(link, message)
            return await pending.outcome()
        finally:
            pending.end()
            self._book.remove(ask)
            del self._pending[request_id]
            self._await_answers(-1)
            if ask.outcome is None or loop.time() >= deadline_at:
                self._cancel_at_hub(link, request_id)

    def _cancel_at_hub(self, link: Link, request_id: str) -> None:
        """Tell a hub of ours that nobody waits any more; best effort, nobody waits for this either."""
        if link.handled_is_last and link.error is None:
            with contextlib.suppress(ProtocolError):
                link.send(self._bus(link, CANCEL_EVENT, {"request_id": request_id}, None))

    def _refuse_to_repeat(self, link: Link, outcome: Failed) -> None:
        """Raise unless the same request may be sent again: only a hub of ours runs it once all the same."""
        self._keeper.refuse_if_over()
        if isinstance(link.error, ThalovantHubRefusedError):
            raise link.error
        if not (link.dropped and self._auto_reconnect and link.handled_is_last):
            reply_or_raise(outcome)

    async def emit(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Send a bus message and return it (a `HiveMessage`); waits for room, not for an answer.

        Raises `ThalovantConnectionError` and below it, `ThalovantRuntimeError` for what JSON cannot hold.
        """
        link = self._keeper.link or await self._keeper.insist(None, self._attempts)
        return await self._emit(link, self._bus(link, event_type, data, context))

    async def send_utterance(
        self,
        text: str,
        *,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Ask without waiting for the answer; returns the message sent. Raises as `emit`."""
        link = self._keeper.link or await self._keeper.insist(None, self._attempts)
        payload = build_utterance(
            text,
            lang=lang,
            request_id=request_id or new_request_id(),
            session_id=link.session_id,
            site_id=self._identity.site_id,
            useragent=self._useragent,
            context=context,
            call_session_id=session_id,
        )
        return await self._emit(link, HiveMessage("bus", payload))

    def on(
        self,
        event_name: str,
        handler: EventHandler,
        *,
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        predicate: EventPredicate | None = None,
    ) -> ThalovantSubscription:
        """Have `handler` called with each event of that name, on every connection from now on.

        `handler` may be a coroutine function; it then runs in a task of this client. It must not block.
        """
        fits = event_filter(context, session_id, request_id, predicate)

        def deliver(event: ThalovantEvent) -> None:
            if fits is None or fits(event):
                result = handler(event)
                if isinstance(result, Awaitable):
                    self._handlers.start(_run(result, event_name), f"thalovant-handler-{event_name}")

        return self._subscriptions.add(event_name, deliver)

    async def wait_for_event(
        self,
        event_name: str,
        *,
        timeout: float = 12.0,
        predicate: EventPredicate | None = None,
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> ThalovantEvent:
        """Wait for the next event of that name that fits; connects first.

        Raises `ThalovantTimeoutError` after `timeout` seconds, `ThalovantConnectionError` and below it.
        """
        loop = asyncio.get_running_loop()
        deadline_at = loop.time() + timeout
        found: asyncio.Future[ThalovantEvent] = loop.create_future()
        fits = event_filter(context, session_id, request_id, predicate)

        def deliver(event: ThalovantEvent) -> None:
            try:
                if not found.done() and (fits is None or fits(event)):
                    found.set_result(event)
            except Exception as error:  # noqa: BLE001 - the predicate's fault is for its caller
                found.set_exception(error)

        with self._subscriptions.add(event_name, deliver):
            await self._keeper.insist(deadline_at, self._attempts)
            self._await_answers(+1)
            try:
                async with asyncio.timeout_at(deadline_at):
                    return await found
            except TimeoutError:
                raise ThalovantTimeoutError(f"No {event_name!r} came within {timeout:g} s.") from None
            finally:
                self._await_answers(-1)

    # What goes out

    def _bus(
        self, link: Link, event_type: str, data: dict[str, Any] | None, context: dict[str, Any] | None
    ) -> HiveMessage:
        sent = with_context_defaults(
            context, session_id=link.session_id, site_id=self._identity.site_id, useragent=self._useragent
        )
        return bus(event_type, data, sent)

    async def _emit(self, link: Link, message: HiveMessage) -> HiveMessage:
        self._send(link, message)
        self._book.sent(message.payload["type"], asyncio.get_running_loop().time())
        if link.transport.congested:
            await link.transport.drain()
            if link.error is not None:
                raise link.error
        return message

    def _send(self, link: Link, message: HiveMessage) -> None:
        if link.error is not None:
            raise link.error
        with _as_runtime_error():
            link.send(message)

    def _await_answers(self, change: int) -> None:
        self._awaited += change
        self._keeper.expect(self._awaited > 0)

    # What comes in

    def _receive(self, link: Link, message: HiveMessage) -> None:
        protocol = link.transport.protocol
        inner = self._bus_message(message, protocol)
        if inner is None:
            return
        try:
            name, data, context = inner.bus_parts()
        except MessageError:
            return  # not for anybody (contract 7)
        seen = seen_context(context, protocol)
        now = asyncio.get_running_loop().time()
        ask = self._book.dispatch(name, data, seen, now, message)
        if ask is not None and (pending := self._pending.get(ask.request_id)) is not None:
            pending.look()
        if name in self._subscriptions:
            self._subscriptions.deliver(ThalovantEvent(name, data, seen, message))

    def _bus_message(self, message: HiveMessage, protocol: HubProtocol) -> HiveMessage | None:
        """The bus message in a frame: the frame itself, or a broadcast to this client's own site (contract 7)."""
        if message.msg_type == "bus":
            return message
        own = message.msg_type == "broadcast" and message.target_site_id == self._identity.site_id
        if not own or protocol == "mqtt":
            return None
        try:
            inner = message.nested()
        except MessageError:
            return None
        return inner if inner.msg_type == "bus" else None

    def _fail_asks(self, link: Link | None, reason: str) -> None:
        """End the asks that wait on this link; None: on any."""
        now = asyncio.get_running_loop().time()
        for pending in [each for each in self._pending.values() if link is None or each.link is link]:
            self._book.remove(pending.ask)
            pending.ask.link_lost(reason, now)
            pending.look()


async def _run(result: Awaitable[Any], event_name: str) -> None:
    try:
        await result
    except Exception:  # noqa: BLE001 - a handler's fault must not end anything
        _log.exception("the handler of %r failed", event_name)


@contextlib.contextmanager
def _as_runtime_error() -> Iterator[None]:
    """What the protocol refuses to do for the caller is the caller's to mend."""
    try:
        yield
    except ProtocolError as error:
        raise ThalovantRuntimeError(str(error)) from error
