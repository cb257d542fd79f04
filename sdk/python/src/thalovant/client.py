# SPDX-License-Identifier: Apache-2.0
"""`AsyncThalovantClient`: talk to one hub. Asks, sends, listens, and keeps its connection alive.

One connection at a time, shared by every call; an event travels from the socket to its ask or handler within one
callback. It knows no bytes, no keys and no carrier's ways (`dialing`, `link`, `transports`), and decides nothing
about when an answer is complete (`protocol.asks`). All of it belongs to one event loop; `sync_client` is its twin
for the rest of the world.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from thalovant.asking import Asking
from thalovant.carriers import carriers_for
from thalovant.conversation import AsyncThalovantConversation
from thalovant.dialing import Dialer
from thalovant.doctor import ThalovantDoctorReport
from thalovant.errors import ThalovantConnectionError, ThalovantTimeoutError
from thalovant.events import ThalovantEvent, wire_context
from thalovant.examining import examine
from thalovant.health import ThalovantConnectionInfo, ThalovantHealth
from thalovant.hearing import Hearing
from thalovant.hub_endpoints import HubProtocol
from thalovant.identity import ThalovantIdentity
from thalovant.keeping import LinkKeeper
from thalovant.listening import Listening
from thalovant.noise_state import noise_state
from thalovant.probing import Patience
from thalovant.protocol.ask_book import AskBook
from thalovant.protocol.contexts import new_request_id, reply_context
from thalovant.reply import ThalovantReply
from thalovant.road_memory import RoadMemory
from thalovant.sending import Sending
from thalovant.subscriptions import EventHandler, EventPredicate, ThalovantSubscription, event_filter
from thalovant.switching import RoadDialer
from thalovant.version import USER_AGENT, __version__

if TYPE_CHECKING:
    from thalovant.transports.base import Transport

__all__ = ["AsyncThalovantClient"]

ANNOUNCE = {"sdk": f"python/{__version__}", "capabilities": ["handled", "denials"]}


class AsyncThalovantClient:
    """A client of one hub, for asyncio. Use it with `async with`, or `connect()` and `close()`.

    `protocol` is "wss", "https" or "mqtt"; None takes WSS where the identity allows it, else HTTPS. Times are in
    seconds: `connect_timeout` for the carrier, `handshake_timeout` for the Noise handshake, `send_timeout` for the
    other side to take what is sent; `reply_settle_seconds` and `empty_reply_wait_seconds` are the windows of contract
    9.3, used against hubs that do not say when an answer is complete. `reconnect_attempts` is how often one call dials
    again. `noise_state_dir` is where keys are kept. `self_signed=True` accepts any certificate over WSS and HTTPS.
    `session` is taken for the published signature and not used.

    `protocols` names several carriers in the order that you prefer. The client uses the first one that leads to the
    hub; one that fails, or is slow to connect, gives way to the next, and the better one is looked at again after about
    30 seconds, later every ten minutes. An ask under way moves along, and a hub of ours still runs it once. A carrier
    that this identity cannot use is left out. Why it moved: `connection_info()`, and the log `thalovant.roads`.

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
        protocols: Sequence[HubProtocol] | None = None,
        transport: Transport | None = None,
        noise_state_dir: str | None = None,
        self_signed: bool = False,
        session: Any = None,
    ) -> None:
        self._identity = identity
        self._as_made: dict[str, Any] = {
            "useragent": useragent,
            "connect_timeout": connect_timeout,
            "handshake_timeout": handshake_timeout,
            "send_timeout": send_timeout,
            "reply_settle_seconds": reply_settle_seconds,
            "empty_reply_wait_seconds": empty_reply_wait_seconds,
            "noise_state_dir": noise_state_dir,
            "self_signed": self_signed,
        }
        carriers, left_out = carriers_for(
            identity,
            protocol,
            protocols,
            transport,
            useragent=useragent,
            connect_timeout=connect_timeout,
            send_timeout=send_timeout,
            self_signed=self_signed,
        )
        state = noise_state(identity, noise_state_dir)
        dialers = [
            Dialer(
                identity,
                carrier,
                state,
                handshake_timeout=handshake_timeout,
                announce=ANNOUNCE,
                other_addresses=[other.address for other in carriers if other is not carrier],
            )
            for carrier in carriers
        ]
        memory = RoadMemory(state.roads_file(identity.access_key), [carrier.protocol for carrier in carriers])
        self._keeper = LinkKeeper(
            RoadDialer(dialers, left_out=left_out, memory=memory if len(dialers) > 1 else None),
            auto_reconnect=auto_reconnect,
            on_message=lambda link, message: self._hearing.receive(link, message),
            on_lost=lambda link, reason: self._asking.lost(link, reason),
        )
        book = AskBook()
        attempts = 1 + (reconnect_attempts if auto_reconnect else 0)
        self._sending = Sending(self._keeper, identity, book, useragent=useragent, attempts=attempts)
        self._asking = Asking(
            self._keeper,
            self._sending,
            book,
            settle=reply_settle_seconds,
            empty_wait=empty_reply_wait_seconds,
            auto_reconnect=auto_reconnect,
        )
        self._hearing = Hearing(self._keeper, self._asking, identity.site_id)

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
        return f"{type(self).__name__}({self._keeper.road}, {self._keeper.phase})"

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
        await self._hearing.end(for_good=for_good)
        if not await self._keeper.end(reason, for_good=for_good, seconds=timeout):
            raise ThalovantTimeoutError(f"Ending the connection took longer than {timeout:g} s, and was cut short.")

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

    async def doctor(self) -> ThalovantDoctorReport:
        """Walk the road to the hub step by step, on every carrier that the identity names, and say what is wrong.

        On connections of its own, beside this client's: with the client's times and in its Noise state, without
        publishing its presence. It ends with a short ask. What the control plane knows is joined when a login or a
        token is at hand. Raises nothing for what is wrong: that is in the report.
        """
        return await examine(self._identity, patience=Patience(look=self._as_made["connect_timeout"]), **self._as_made)

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
        return await self._asking.ask(
            text,
            request_id or new_request_id(),
            timeout,
            lang=lang,
            context=context,
            call_session_id=session_id,
            stt_lang=stt_lang,
            pipeline=pipeline,
            location=location,
        )

    async def query(
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
        request_id = request_id or new_request_id()
        return await self._asking.query(
            text, request_id, query_id or request_id, timeout, session_id, lang=lang, context=context
        )

    async def emit(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Send a bus message and return it (a `HiveMessage`); waits for room, not for an answer.

        Raises `ThalovantConnectionError` and below it, `ThalovantRuntimeError` for what JSON cannot hold.
        """
        return await self._sending.emit(event_type, data, context)

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
        return await self._sending.utter(
            text, lang=lang, context=context, call_session_id=session_id, request_id=request_id or new_request_id()
        )

    async def send_action(
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
        return await self._sending.utter(
            payload,
            lang=lang,
            context=context,
            call_session_id=session_id,
            request_id=request_id or new_request_id(),
            given={"kind": "action", "title": title, "payload": payload},
        )

    async def send_code(
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
        return await self._sending.utter(
            value,
            lang=lang,
            context=context,
            call_session_id=session_id,
            request_id=request_id or new_request_id(),
            given={"kind": kind, "label": label, "value": value, "exact": True},
        )

    async def reply(
        self,
        event: ThalovantEvent | Any,
        msg_type: str,
        data: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
    ) -> Any:
        """Answer an event that came: send a bus message to where it came from, with its context under `context`.

        Returns the message sent. Raises as `emit`.
        """
        return await self._sending.emit(msg_type, data, reply_context(wire_context(event), context))

    async def broadcast(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Ask the hub to pass a bus message on to all of its clients, and return the frame sent.

        Hubs of ours pass nothing on, and say so: `ThalovantPolicyDeniedError`. Of others a refusal is an event,
        `hive.policy.denied`, or the end of the connection. Raises as `emit`.
        """
        return await self._asking.relay("broadcast", event_type, data, context)

    async def propagate(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Ask the hub to pass a bus message on to its clients and to the hub above it; the rest as `broadcast`."""
        return await self._asking.relay("propagate", event_type, data, context)

    async def escalate(
        self, event_type: str, data: dict[str, Any] | None = None, context: dict[str, Any] | None = None
    ) -> Any:
        """Ask the hub to pass a bus message on to the hub above it; the rest as `broadcast`."""
        return await self._asking.relay("escalate", event_type, data, context)

    def conversation(
        self, *, session_id: str | None = None, lang: str = "en-us", context: dict[str, Any] | None = None
    ) -> AsyncThalovantConversation:
        """Begin or continue a conversation: calls that share a session, a new one unless `session_id` names it."""
        return AsyncThalovantConversation(self, session_id=session_id, lang=lang, context=context)

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
        return self._hearing.on(event_name, handler, event_filter(context, session_id, request_id, predicate))

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

        Raises `ThalovantTimeoutError` after `timeout` seconds, `ThalovantConnectionError` and below it, also when the
        client is closed meanwhile.
        """
        fits = event_filter(context, session_id, request_id, predicate)
        deadline_at = asyncio.get_running_loop().time() + timeout
        listening = Listening(event_name, fits, 1, deadline_at)
        with self._hearing.listening(listening, event_name):
            await self._sending.link(deadline_at)
            with self._hearing.watching(listening):
                event = await listening.next()
        if event is not None:
            return event
        if listening.timed_out:
            raise ThalovantTimeoutError(f"No {event_name!r} came within {timeout:g} s.")
        raise ThalovantConnectionError(f"The client was closed before {event_name!r} came.")

    async def listen(
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
    ) -> AsyncIterator[ThalovantEvent]:
        """Iterate over the events of that name that fit; connects first, and goes on over lost links.

        It begins to listen with the first step, and ends after `timeout` seconds, `max_events` events, or `close()`;
        leave it at any time. Events that come faster than they are taken wait, up to `max_buffered_events`; when there
        are more, those that wait are still handed out, then it raises `ThalovantRuntimeError` (code
        `listener_overflow`) rather than leave events out in silence.

        Raises `ThalovantTimeoutError` when there is no connection within `timeout`, `ThalovantConnectionError` and
        below it when there will be none any more, ValueError for a buffer without room.
        """
        fits = event_filter(context, session_id, request_id, predicate)
        deadline_at = None if timeout is None else asyncio.get_running_loop().time() + timeout
        listening = Listening(event_name, fits, max_buffered_events, deadline_at)
        left = max_events
        with self._hearing.listening(listening, event_name):
            await self._sending.link(deadline_at)
            with self._hearing.watching(listening):
                while left is None or left > 0:
                    event = await listening.next()
                    if event is None:
                        return
                    yield event
                    left = None if left is None else left - 1

    async def on_hive(self, kind: str, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Have `handler` called with each frame of that kind, a `HiveMessage`; returns how to end that.

        `kind` is one of `HIVE_KINDS`. Handlers as with `on`. Raises ValueError for another kind.
        """
        return self._hearing.on_hive(kind, handler)

    async def on_binary(self, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Have `handler` called with each `ThalovantBinary` of the hub; returns how to end that. Handlers as `on`."""
        return self._hearing.on_binary(handler)
