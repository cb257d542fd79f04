# SPDX-License-Identifier: Apache-2.0
"""One connection over which a Mosquitto is administered: one request at a time, each with a deadline.

It ends with its first fault, and is opened anew by its owner: what an interrupted request did is not known.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from thalovant.protocol.mqtt.client_connection import FAILURE
from thalovant.protocol.mqtt.client_events import Arrived, Ending, Event, NotTaken, Subscribed
from thalovant.protocol.mqtt.packets import Connect
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, open_socket
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.dynamic_security import ANSWERS, REQUESTS, AnswerError, Command, Dialogue, Response
from thalovant_server.errors import BrokerAwayError, BrokerLoginError, BrokerRefusedError

KEEPALIVE_SECONDS = 60
ANSWER_SECONDS = 10.0
FIRST_ANSWER_SECONDS = 3.0

_T = TypeVar("_T")


class AdminConnection:
    """A connection that is logged in and listens for answers; made by `open`."""

    def __init__(self, where: str, user: str) -> None:
        self._where = where
        self._user = user
        self._socket: BrokerSocket | None = None
        self._dialogue = Dialogue(secrets.token_hex(8))
        self._waiting: asyncio.Future[tuple[Response, ...]] | None = None
        self._subscribing: asyncio.Future[int] | None = None
        self._retained: tuple[bytes, list[bytes]] | None = None  # topic, what came of it
        self._was_answered = False

    @classmethod
    async def open(cls, target: BrokerTarget, user: str, password: Secret) -> Self:
        """Dial, log in, listen.

        Raises:
            BrokerAwayError: it cannot be reached, or does not answer.
            BrokerRefusedError: it does not let the user in, or not administer.
        """
        opened = cls(target.address.where, user)
        login = Connect(
            f"thalovant-{secrets.token_hex(8)}", True, KEEPALIVE_SECONDS, user, password.text.encode()
        )  # fmt: skip
        try:
            opened._socket = await open_socket(target, login, opened._happened)
        except BrokerLoginError as error:
            raise BrokerLoginError(
                error.where, f"{error.fault}: see that --broker-user ({user}) and --broker-password-file are right"
            ) from error
        opened._socket.closed.add_done_callback(opened._over)
        try:
            await opened._listen()
        except BaseException:
            opened.abort()
            raise
        return opened

    @property
    def is_over(self) -> bool:
        """Whether another one has to be opened."""
        return self._socket is None or self._socket.over

    async def ask(self, commands: Sequence[Command]) -> tuple[Response, ...]:
        """Have commands carried out, in order; return a response to each.

        Raises:
            BrokerAwayError: no answer came. Whether they were carried out is not known.
            BrokerRefusedError: there is no plugin that would answer, or the user may not administer.
        """
        assert self._socket is not None  # noqa: S101 - `open` has seen to it
        self._waiting = asyncio.get_running_loop().create_future()
        seconds = ANSWER_SECONDS if self._was_answered else FIRST_ANSWER_SECONDS
        self._socket.publish(REQUESTS.encode(), self._dialogue.ask(commands))
        mark = self._socket.connection.queued
        try:
            async with asyncio.timeout(seconds):
                if self._socket.over:
                    raise self._interrupted(None)
                responses = await self._waiting
        except TimeoutError:
            is_taken = not self._socket.over and self._socket.connection.settled(mark)
            self.abort()
            raise self._unanswered(seconds, is_taken=is_taken) from None
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiting = None
        self._was_answered = True
        return responses

    async def retained(self, topic: str, seconds: float, fence: Command) -> bytes | None:
        """Return the retained message of a topic; `fence` is a command that changes nothing, and whose answer cannot
        overtake that message.

        Raises:
            BrokerAwayError: no answer came.
            BrokerRefusedError: the user may not read there.
        """
        came: list[bytes] = []
        self._retained = (topic.encode(), came)
        try:
            async with asyncio.timeout(seconds):
                if await self._subscribed(topic) >= FAILURE:
                    raise BrokerRefusedError(
                        self._where,
                        f"lets {self._user} not subscribe to {topic}: give its role subscribePattern and "
                        f"publishClientReceive for {topic}",
                    )
                await self.ask([fence])
        except TimeoutError:  # nothing came, and nothing says that there is nothing
            self.abort()
            raise BrokerAwayError(self._where, f"did not answer within {seconds:g} s") from None
        finally:
            self._retained = None
            if self._socket is not None:
                self._socket.unsubscribe([topic.encode()])
        return came[0] if came else None

    async def close(self) -> None:
        """Say goodbye."""
        if self._socket is not None:
            await self._socket.close()

    def abort(self) -> None:
        """Close at once."""
        if self._socket is not None:
            self._socket.abort()

    async def _listen(self) -> None:
        try:
            async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                code = await self._subscribed(ANSWERS)
        except TimeoutError:
            raise BrokerAwayError(
                self._where, f"did not answer a subscription within {FIRST_ANSWER_SECONDS:g} s"
            ) from None
        if code >= FAILURE:
            raise self._powerless()

    async def _subscribed(self, topic: str) -> int:
        assert self._socket is not None  # noqa: S101 - `open` has seen to it
        self._subscribing = asyncio.get_running_loop().create_future()
        self._socket.subscribe([(topic.encode(), 0)])
        if self._socket.over:
            raise self._interrupted(None)
        return await self._subscribing

    def _happened(self, event: Event) -> None:
        if isinstance(event, Arrived):
            self._arrived(event)
        elif isinstance(event, Subscribed):
            _settle(self._subscribing, max(event.codes, default=FAILURE))
        elif isinstance(event, NotTaken) and event.code >= FAILURE:
            _fail(self._waiting, self._powerless())

    def _arrived(self, event: Arrived) -> None:
        if self._retained is not None and event.topic == self._retained[0]:
            if event.retained:
                self._retained[1].append(event.payload)
        elif event.topic == ANSWERS.encode():
            try:
                responses = self._dialogue.answered(event.payload)
            except AnswerError as error:
                _fail(
                    self._waiting,
                    BrokerAwayError(self._where, f"sent an answer that cannot be understood: {error}"),
                )
                return
            if responses is not None:
                _settle(self._waiting, responses)

    def _over(self, closed: asyncio.Future[Ending | None]) -> None:
        ending = None if closed.cancelled() else closed.result()
        for each in (self._waiting, self._subscribing):
            _fail(each, self._interrupted(ending))

    def _interrupted(self, ending: Ending | None) -> BrokerAwayError:
        how = "" if ending is None else f" ({type(ending).__name__})"
        return BrokerAwayError(self._where, f"closed the connection before it answered{how}")

    def _unanswered(self, seconds: float, *, is_taken: bool) -> BrokerAwayError | BrokerRefusedError:
        if self._was_answered or not is_taken:
            return BrokerAwayError(self._where, f"did not answer within {seconds:g} s")
        return BrokerRefusedError(
            self._where,
            f"answers nothing on {REQUESTS}: load Mosquitto's dynamic-security plugin there (`thalovant-server broker "
            f"init mosquitto --dir D` writes such a configuration), and see that {self._user} may use it",
        )

    def _powerless(self) -> BrokerRefusedError:
        return BrokerRefusedError(
            self._where,
            f"lets {self._user} log in, and not administer it: it wants a role that may publish, receive and subscribe "
            "$CONTROL/dynamic-security/#",
        )


def _settle(future: asyncio.Future[_T] | None, value: _T) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # has been seen, should nobody come to wait for it
