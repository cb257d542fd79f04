# SPDX-License-Identifier: Apache-2.0
"""`ThalovantClient`: the same client without asyncio. It runs `AsyncThalovantClient` on a private loop thread.

Each call blocks its own thread only, so many threads can ask at once over the one connection. Handlers of `on` run on
a thread of their own and may call the client. It decides nothing; every rule is in the asynchronous client.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import inspect
import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from thalovant.client import AsyncThalovantClient
from thalovant.doctor import ThalovantDoctorReport
from thalovant.errors import ThalovantConnectionError, ThalovantRuntimeError
from thalovant.events import ThalovantEvent
from thalovant.health import ThalovantConnectionInfo, ThalovantHealth
from thalovant.hub_endpoints import HubProtocol
from thalovant.identity import ThalovantIdentity
from thalovant.loop_thread import HandlerThread, LoopEndedError, LoopThread
from thalovant.reply import ThalovantReply
from thalovant.subscriptions import EventHandler, EventPredicate, ThalovantSubscription
from thalovant.sync_conversation import ThalovantConversation
from thalovant.version import USER_AGENT

if TYPE_CHECKING:
    from thalovant.transports.base import Transport

__all__ = ["ThalovantClient"]

T = TypeVar("T")


class ThalovantClient:
    """A client of one hub for programs without asyncio. Use it in a `with` block, or call `close()`.

    Parameters, methods and errors are those of `AsyncThalovantClient`. Safe to use from many threads; after a fork the
    child makes its own client.
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
        protocols: Sequence[HubProtocol] | None = None,
        transport: Transport | None = None,
        noise_state_dir: str | None = None,
        self_signed: bool = False,
    ) -> None:
        self._loop = LoopThread("thalovant-client")
        self._core = AsyncThalovantClient(
            identity,
            useragent=useragent,
            connect_timeout=connect_timeout,
            handshake_timeout=handshake_timeout,
            send_timeout=send_timeout,
            reply_settle_seconds=reply_settle_seconds,
            empty_reply_wait_seconds=empty_reply_wait_seconds,
            auto_reconnect=auto_reconnect,
            reconnect_attempts=reconnect_attempts,
            protocol=protocol,
            protocols=protocols,
            transport=transport,
            noise_state_dir=noise_state_dir,
            self_signed=self_signed,
        )
        self._handlers = HandlerThread("thalovant-handlers")
        self._process = os.getpid()
        self._closed = False

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
        return self._core.identity

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:  # there will be no __exit__
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._core).removeprefix("Async")

    def __del__(self) -> None:
        loop: LoopThread | None = getattr(self, "_loop", None)
        if loop is None or not loop.running or self._process != os.getpid():
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._handlers.abandon()
        loop.abandon(self._core.close)

    def connect(self, timeout: float | None = None) -> None:
        """Connect, or do nothing when there is a connection. `timeout` covers all of it, in seconds.

        Raises `ThalovantConnectionError` or below it (refused, hub key changed, ...), `ThalovantTimeoutError`, and
        `ThalovantIdentityError` for damaged Noise state.
        """
        self._run(self._core.connect(timeout))

    def connect_with_info(self, timeout: float | None = None) -> ThalovantConnectionInfo:
        """Connect and tell how it went."""
        return self._run(self._core.connect_with_info(timeout))

    def close(self, timeout: float | None = None) -> None:
        """End the connection, everything that waits on it and both threads; for good."""
        self._closed = True
        if self._process != os.getpid():
            return
        try:
            if self._loop.running:
                with contextlib.suppress(
                    concurrent.futures.CancelledError, LoopEndedError
                ):  # another close was quicker
                    self._loop.run(self._core.close(timeout))
        finally:
            self._loop.close()
            self._handlers.close()

    def disconnect(self, timeout: float | None = None) -> None:
        """End the connection and do not dial again until the next call. Subscriptions stay."""
        self._run(self._core.disconnect(timeout))

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the client is closed, has given its connection up, or, without `auto_reconnect`, has lost it.

        Raises `ThalovantTimeoutError` when `timeout` seconds pass first.
        """
        if not self._closed:
            self._run(self._core.wait_closed(timeout))

    def connection_info(self) -> ThalovantConnectionInfo:
        """How the latest attempt to connect went, and where the connection stands now."""
        return self._run(self._core.connection_info())

    def healthcheck(self) -> ThalovantHealth:
        """Whether the connection is usable now. Looks only; dials nothing."""
        return self._run(self._core.healthcheck())

    def doctor(self) -> ThalovantDoctorReport:
        """Walk the road to the hub step by step, on every carrier that the identity names, and say what is wrong.

        On connections of its own, beside this client's: with the client's times and in its Noise state, without
        publishing its presence. It ends with a short ask. What the control plane knows is joined when a login or a
        token is at hand. Raises nothing for what is wrong: that is in the report.
        """
        return self._run(self._core.doctor())

    def ask(
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
        return self._run(
            self._core.ask(
                text,
                timeout=timeout,
                lang=lang,
                context=context,
                session_id=session_id,
                request_id=request_id,
                stt_lang=stt_lang,
                pipeline=pipeline,
                location=location,
            )
        )

    def query(
        self,
        text: str,
        *,
        timeout: float = 12.0,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        query_id: str | None = None,
    ) -> ThalovantReply:
        """Ask in a `query` frame and wait for the whole answer (contract 9.5); it needs the grant `can_escalate`.

        The hub says when the answer is complete, and that nobody had one; no window applies. Without `session_id` each
        query has a session of its own. `query_id` is the request id unless given. Otherwise as `ask`, also when the
        link drops: a hub of ours that answers queries is asked again and answers once.

        Raises as `ask`; `ThalovantPolicyDeniedError` without the grant at a hub of ours, others close the connection.
        """
        return self._run(
            self._core.query(
                text,
                timeout=timeout,
                lang=lang,
                context=context,
                session_id=session_id,
                request_id=request_id,
                query_id=query_id,
            )
        )

    def emit(self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> Any:
        """Send a bus message and return it (a `HiveMessage`); waits for room, not for an answer.

        Raises `ThalovantConnectionError` and below it, `ThalovantRuntimeError` for what JSON cannot hold.
        """
        return self._run(self._core.emit(event_type, data, context))

    def send_utterance(
        self,
        text: str,
        *,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Ask without waiting for the answer; returns the message sent. Raises as `emit`."""
        return self._run(
            self._core.send_utterance(text, lang=lang, context=context, session_id=session_id, request_id=request_id)
        )

    def send_action(
        self,
        payload: str,
        *,
        title: str | None = None,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Say that something was chosen: a button's `payload` and `title` (see `display_items`), or the like.

        It is an utterance with the payload as its words; agents find the choice in the context's `input`. Nobody waits
        for the answer; returns the message sent. Raises as `emit`.
        """
        return self._run(
            self._core.send_action(
                payload,
                title=title,
                lang=lang,
                context=context,
                session_id=session_id,
                request_id=request_id,
            )
        )

    def send_code(
        self,
        value: str,
        *,
        kind: str = "code",
        label: str | None = None,
        lang: str = "en-us",
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Say something that is exact and no language: a code, a number, a barcode.

        It is an utterance with the value as its words; agents find `kind`, `label` and `value` in the data's and the
        context's `input`. Nobody waits for the answer; returns the message sent. Raises as `emit`.
        """
        return self._run(
            self._core.send_code(
                value,
                kind=kind,
                label=label,
                lang=lang,
                context=context,
                session_id=session_id,
                request_id=request_id,
            )
        )

    def reply(
        self,
        event: ThalovantEvent | Any,
        msg_type: str,
        data: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
    ) -> Any:
        """Answer an event that came: send a bus message to where it came from, with its context under `context`.

        Returns the message sent. Raises as `emit`.
        """
        return self._run(self._core.reply(event, msg_type, data, context))

    def broadcast(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Ask the hub to pass a bus message on to all of its clients, and return the frame sent.

        Hubs of ours pass nothing on, and say so: `ThalovantPolicyDeniedError`. Of others a refusal is an event,
        `hive.policy.denied`, or the end of the connection. Raises as `emit`.
        """
        return self._run(self._core.broadcast(event_type, data, context))

    def propagate(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Ask the hub to pass a bus message on to its clients and to the hub above it; the rest as `broadcast`."""
        return self._run(self._core.propagate(event_type, data, context))

    def escalate(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Ask the hub to pass a bus message on to the hub above it; the rest as `broadcast`."""
        return self._run(self._core.escalate(event_type, data, context))

    def conversation(
        self, *, session_id: str | None = None, lang: str = "en-us", context: dict[str, Any] | None = None
    ) -> ThalovantConversation:
        """Begin or continue a conversation: calls that share a session, a new one unless `session_id` names it."""
        return ThalovantConversation(self, session_id=session_id, lang=lang, context=context)

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
        """Have `handler` called with each event of that name, on this client's handler thread.

        Handlers run one at a time, in the order of the events, and may call this client. `predicate` runs on the loop's
        thread and must not. Raises `ThalovantRuntimeError` for a coroutine function: that needs the other client.
        """
        return self._core.on(
            event_name,
            self._on_handler_thread(handler),
            context=context,
            session_id=session_id,
            request_id=request_id,
            predicate=predicate,
        )

    def wait_for_event(
        self,
        event_name: str,
        *,
        timeout: float = 12.0,
        predicate: EventPredicate | None = None,
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> ThalovantEvent:
        """Wait for the next event of that name that fits. `predicate` runs on the loop's thread."""
        return self._run(
            self._core.wait_for_event(
                event_name,
                timeout=timeout,
                predicate=predicate,
                context=context,
                session_id=session_id,
                request_id=request_id,
            )
        )

    def listen(
        self,
        event_name: str,
        *,
        timeout: float | None = None,
        max_events: int | None = None,
        max_buffered_events: int = 256,
        predicate: EventPredicate | None = None,
        context: dict[str, Any] | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
    ) -> Iterator[ThalovantEvent]:
        """Iterate over the events of that name that fit; connects first, and goes on over lost links.

        It begins to listen with the first step, and ends after `timeout` seconds, `max_events` events, or `close()`;
        leave it at any time. Events that come faster than they are taken wait, up to `max_buffered_events`; when there
        are more, those that wait are still handed out, then it raises `ThalovantRuntimeError` (code
        `listener_overflow`) rather than leave events out in silence.

        `predicate` runs on the loop's thread and must not call this client.

        Raises `ThalovantTimeoutError` when there is no connection within `timeout`, `ThalovantConnectionError` and
        below it when there will be none any more, ValueError for a buffer without room.
        """
        self._refuse_if_unusable()
        events = self._core.listen(
            event_name,
            timeout=timeout,
            max_events=max_events,
            max_buffered_events=max_buffered_events,
            predicate=predicate,
            context=context,
            session_id=session_id,
            request_id=request_id,
        )
        try:
            while (event := self._next(events)) is not None:
                yield event
        finally:
            self._leave(events)

    def on_hive(self, kind: str, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Have `handler` called with each frame of that kind, a `HiveMessage`; returns how to end that.

        `kind` is one of `HIVE_KINDS`. Handlers as with `on`. Raises ValueError for another kind.
        """
        return self._run(self._core.on_hive(kind, self._on_handler_thread(handler)))

    def on_binary(self, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Have `handler` called with each `ThalovantBinary` of the hub; returns how to end that. Handlers as `on`."""
        return self._run(self._core.on_binary(self._on_handler_thread(handler)))

    def _on_handler_thread(self, handler: Callable[[Any], Any]) -> Callable[[Any], None]:
        if inspect.iscoroutinefunction(handler):
            raise ThalovantRuntimeError("An async handler needs AsyncThalovantClient.")
        call = self._handlers.call
        return lambda event: call(functools.partial(handler, event))

    def _next(self, events: AsyncIterator[ThalovantEvent]) -> ThalovantEvent | None:
        try:
            return self._run(_step(events))
        except ThalovantConnectionError:
            if self._closed:  # which ends what listens
                return None
            raise

    def _leave(self, events: AsyncIterator[ThalovantEvent]) -> None:
        """End a `listen`. Where its thread cannot be waited for, the loop's own care of generators ends it."""
        if self._process == os.getpid() and self._loop.running:
            with contextlib.suppress(concurrent.futures.CancelledError, RuntimeError):
                self._loop.run(_close(events))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._refuse_if_unusable()
        except BaseException:
            work.close()  # it will not be awaited
            raise
        try:
            return self._loop.run(work)
        except (concurrent.futures.CancelledError, LoopEndedError):
            raise ThalovantConnectionError("The client was closed.") from None

    def _refuse_if_unusable(self) -> None:
        if self._closed:
            raise ThalovantConnectionError("The client was closed. Make a new one.")
        if self._process != os.getpid():
            raise ThalovantRuntimeError("This client was made before a fork. Make a new one in this process.")


async def _step(events: AsyncIterator[ThalovantEvent]) -> ThalovantEvent | None:
    return await anext(events, None)


async def _close(events: AsyncIterator[ThalovantEvent]) -> None:
    await cast("AsyncGenerator[ThalovantEvent, None]", events).aclose()
