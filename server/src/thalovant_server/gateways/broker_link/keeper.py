# SPDX-License-Identifier: Apache-2.0
"""Keeps the link up: dials the broker, says that the server is there, and dials again when the link is lost.

What is said on it is `gateway`'s business. A session at the broker goes on over the next connection for as long as the
broker keeps it; with MQTT 3.1.1, which has no end for one that nobody comes back to, there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from thalovant.protocol.mqtt.client_connection import Limits
from thalovant.protocol.mqtt.packets import Connect, Will
from thalovant.protocol.mqtt.v5 import V5
from thalovant_server.backoff import Backoff
from thalovant_server.broker_socket import PATIENCE as SOCKET_PATIENCE
from thalovant_server.broker_socket import BrokerSocket, Resumption, in_words, open_socket
from thalovant_server.errors import BrokerAwayError, BrokerError, BrokerLoginError, BrokerRefusedError, BrokerTakenError
from thalovant_server.gateways.broker_link.gateway import RECEIVE_MAXIMUM
from thalovant_server.gateways.broker_link.presence import offline, online
from thalovant_server.gateways.broker_link.state import LinkState, Standing
from thalovant_server.wall_clock import Clock, now

if TYPE_CHECKING:
    from thalovant.protocol.mqtt.client_connection import Patience
    from thalovant_server.broker_socket import BrokerTarget
    from thalovant_server.brokers.base import Secret
    from thalovant_server.brokers.names import Namespace
    from thalovant_server.gateways.broker_link.gateway import BrokerLinkGateway

log = structlog.get_logger("thalovant.link")

KEEPALIVE = 10  # seconds: a dead server is noticed within one and a half of it
GONE_SECONDS = 1.5 * KEEPALIVE + 2  # until its will is there
SESSION_SECONDS = 60  # for which the broker keeps what is under way while the link is lost
STEADY_SECONDS = 2.0  # a link that was up for so long is dialled again soon
COMPLETE_SECONDS = 10.0  # for the answer to our subscriptions
# A client of ours knows as many frames again when they come twice, after a cut (`frames.REMEMBERED`).
LIMITS = Limits(packet_bytes=1024 * 1024, receive_maximum=RECEIVE_MAXIMUM, under_way=256)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What has to be so before the link is dialled; each raises a `BrokerError`.

    Args:
        look_out: no other server is there.
        provision: the broker knows our account.
        withdraw: it does not know it any longer.
    """

    look_out: Callable[[], Awaitable[None]]
    provision: Callable[[], Awaitable[None]]
    withdraw: Callable[[], Awaitable[None]]


class LinkKeeper:
    """The link to one broker. Make it on the running event loop.

    Args:
        link: what is connected.
        target: where the broker is.
        namespace: our names there.
        instance: by which this server is told from others.
        secret: the password of our account there.
        preparation: what comes before.
        backoff: how long to wait between two attempts.
        patience: how long to wait for the broker on the link.
        clock: of what is told.
    """

    def __init__(
        self,
        link: BrokerLinkGateway,
        target: BrokerTarget,
        namespace: Namespace,
        *,
        instance: bytes,
        secret: Secret,
        preparation: Preparation,
        backoff: Backoff | None = None,
        patience: Patience = SOCKET_PATIENCE,
        clock: Clock = now,
    ) -> None:
        self._link = link
        self._target = target
        self._namespace = namespace
        self._instance = instance
        self._secret = secret
        self._preparation = preparation
        self._backoff = backoff or Backoff()
        self._patience = patience
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._state = LinkState("away", clock(), "has not been dialled yet", 0, 0, target.address.where)
        self._client_id = f"thalovant-{secrets.token_hex(16)}"  # whoever knew it could take our connection's place
        self._socket: BrokerSocket | None = None
        self._resumption: Resumption | None = None
        self._provisioned = False
        self._complete: asyncio.Future[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self.on_up: Callable[[], None] = _nothing
        """Called whenever the link is up."""
        self._links = 0
        link.on_complete, link.on_denied = self._completed, self._denied

    @property
    def state(self) -> LinkState:
        """How it is just now."""
        return replace(self._state, sessions=self._link.connections)

    async def start(self) -> None:
        """Connect, and keep that up from now on. A broker that is merely away is waited for in the background.

        Raises:
            BrokerRefusedError, BrokerTakenError: it does not let us in, or lacks what we need, or another server is
                there. What had been set up there for us is withdrawn.
        """
        try:
            await self._connect()
        except BrokerAwayError as error:
            self._fell("away", error.fault)
        except BrokerError:
            await self._withdraw()
            raise
        self._task = asyncio.create_task(self._keep(), name="broker-link")

    def dial_now(self) -> None:
        """Be told that the broker is back: the next attempt is due."""
        self._hint.set()

    async def stop(self, seconds: float) -> None:
        """Say that the server is gone, and go. What was published before is given so many seconds to arrive."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._expiry is not None:
            self._expiry.cancel()
        socket, self._socket = self._socket, None
        if socket is not None and not socket.over:
            socket.publish(self._presence, offline(self._instance), retain=True)
            await socket.settle(seconds)
            await socket.close()
        self._link.disconnected()
        self._link.close()

    # -- the loop ---------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                if self._socket is not None:
                    await self._stay(self._socket)
                await self._pause()
                await self._connect()
            except BrokerAwayError as error:
                self._fell("away", error.fault)
            except BrokerError as error:
                self._provisioned = False
                self._forget_session()
                self._fell("another_server" if isinstance(error, BrokerTakenError) else "refused", error.fault)
            except Exception:
                log.exception("broker_link_failed", broker=self._state.where)
                self._fell("away", "could not be dialled: the server failed")

    async def _pause(self) -> None:
        """Wait before the next attempt, less when somebody knows that the broker is back."""
        self._hint.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hint.wait(), self._backoff.next())

    async def _stay(self, socket: BrokerSocket) -> None:
        """Wait for the end of a connection."""
        since = self._loop.time()
        ending = await socket.closed
        if self._loop.time() - since > STEADY_SECONDS:
            self._backoff.reset()
        self._lost(socket)
        self._fell("away", "closed the connection" if ending is None else in_words(ending))

    def _lost(self, socket: BrokerSocket) -> None:
        """The connection is gone; its session is not, for a while."""
        self._socket = None
        self._link.disconnected()
        if socket.level == V5.level:
            self._resumption = Resumption(socket.connection.window, socket.level)
            self._expiry = self._loop.call_later(SESSION_SECONDS, self._forget_session)
        else:
            self._forget_session()

    def _forget_session(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._resumption = None
        self._link.session_over()

    async def _connect(self) -> None:
        """One attempt; returns when everything that is to be heard is heard.

        Raises:
            BrokerError: it came to nothing.
        """
        await self._preparation.look_out()
        socket = await self._logged_in()
        self._complete = self._loop.create_future()
        self._socket = socket
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._resumption = None
        self._link.connected(socket, session_present=socket.session_present)
        await self._until_complete(socket, self._complete)
        self._is_up(socket)

    async def _logged_in(self) -> BrokerSocket:
        """Dial with our account; a broker that has forgotten it is told once more."""
        if self._provisioned:
            try:
                return await self._dial()
            except BrokerLoginError:
                self._forget_session()
        await self._preparation.provision()
        self._provisioned = True
        return await self._dial()

    async def _dial(self) -> BrokerSocket:
        login = Connect(
            self._client_id,
            clean_session=self._resumption is None,
            keepalive=KEEPALIVE,
            username=self._namespace.server,
            password=self._secret.text.encode(),
            will=Will(self._presence, offline(self._instance), qos=1, retain=True),
        )
        return await open_socket(
            self._target,
            login,
            self._link.happened,
            on_settled=self._link.settled,
            session_expiry=SESSION_SECONDS,
            resumption=self._resumption,
            limits=LIMITS,
            patience=self._patience,
        )

    async def _until_complete(self, socket: BrokerSocket, complete: asyncio.Future[None]) -> None:
        try:
            ends: list[asyncio.Future[Any]] = [complete, socket.closed]
            await asyncio.wait(ends, timeout=COMPLETE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if complete.done():
                complete.result()
                return
            raise BrokerAwayError(self._state.where, "did not answer our subscriptions")
        except BaseException:
            socket.abort()
            self._lost(socket)
            raise

    def _is_up(self, socket: BrokerSocket) -> None:
        socket.publish(self._presence, online(self._instance), retain=True)
        self._links += 1
        self._backoff.ease()
        self._state = LinkState("connected", self._clock(), "", self._links - 1, 0, self._state.where)
        self.on_up()
        log.info("broker_link_up", broker=self._state.where, mqtt=socket.level, session_present=socket.session_present)

    # -- what the link tells ----------------------------------------------------------------------------------

    def _completed(self) -> None:
        if self._complete is not None and not self._complete.done():
            self._complete.set_result(None)

    def _denied(self) -> None:
        """Our account is not as it should be: it is set up anew, and the link with it."""
        error = BrokerRefusedError(self._state.where, "does not let the hubs hear their clients' topics")
        if self._complete is not None and not self._complete.done():
            self._complete.set_exception(error)
        elif self._socket is not None:
            self._provisioned = False
            self._socket.abort()

    # -- what is told -----------------------------------------------------------------------------------------

    def _fell(self, standing: Standing, fault: str) -> None:
        """It is down; said once for each reason."""
        before = self._state
        if (before.standing, before.fault) == (standing, fault):
            return
        since = before.since if before.standing == standing else self._clock()
        self._state = replace(before, standing=standing, since=since, fault=fault)
        say = log.warning if standing == "away" else log.error
        say("broker_link_down", broker=before.where, state=standing, fault=fault)

    async def _withdraw(self) -> None:
        """Leave nothing behind of a start that came to nothing."""
        if not self._provisioned:
            return
        try:
            await self._preparation.withdraw()
        except BrokerError as error:
            log.warning("broker_account_left", broker=self._state.where, fault=error.fault)

    @property
    def _presence(self) -> bytes:
        return self._namespace.presence.encode()


def _nothing() -> None:
    pass
