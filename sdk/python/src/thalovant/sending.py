# SPDX-License-Identifier: Apache-2.0
"""What a client says to its hub: builds the message for the link it goes out on, and sends it.

It waits for room, never for an answer (`asking`), and decides nothing about links (`keeping`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thalovant.errors import ThalovantPublishDeniedError, ThalovantRuntimeError
from thalovant.protocol.ask_book import AskBook
from thalovant.protocol.contexts import build_utterance, session_id_of, with_context_defaults
from thalovant.protocol.errors import ProtocolError
from thalovant.protocol.messages import HiveMessage, bus

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity
    from thalovant.keeping import LinkKeeper
    from thalovant.link import Link

__all__ = ["Sending", "as_runtime_error"]


class Sending:
    """The way out of one client. `attempts` is how often one call dials; None dials until its deadline."""

    def __init__(
        self, keeper: LinkKeeper, identity: ThalovantIdentity, book: AskBook, *, useragent: str, attempts: int
    ) -> None:
        self._keeper = keeper
        self._identity = identity
        self._book = book
        self._useragent = useragent
        self._attempts = attempts

    async def link(self, deadline_at: float | None = None) -> Link:
        """Return the link, dialled if there is none; `deadline_at` is loop time. Raises as `LinkKeeper.insist`."""
        return self._keeper.link or await self._keeper.insist(deadline_at, self._attempts)

    async def emit(self, event_type: str, data: dict[str, Any] | None, context: dict[str, Any] | None) -> HiveMessage:
        """Send a bus message that nobody waits for, and return it."""
        link = await self.link()
        return await self.post(link, self.bus(link, event_type, data, context))

    async def utter(self, text: str, **options: Any) -> HiveMessage:
        """Send an utterance that nobody waits for, and return it; `options` are those of `build_utterance`."""
        link = await self.link()
        return await self.post(link, HiveMessage("bus", self.utterance(link, text, **options)))

    def bus(
        self, link: Link, event_type: str, data: dict[str, Any] | None, context: dict[str, Any] | None
    ) -> HiveMessage:
        """Make a bus message for `link`: the caller's context laid over what each message carries (contract 9.1)."""
        sent = with_context_defaults(
            context, session_id=link.session_id, site_id=self._identity.site_id, useragent=self._useragent
        )
        return bus(event_type, data, sent)

    def utterance(self, link: Link, text: str, *, addressed: bool = True, **options: Any) -> dict[str, Any]:
        """Make the payload of an utterance for `link`; `options` are those of `build_utterance`.

        `addressed`: whether it says where it comes from and where to (a query does not, contract 9.5).
        """
        return build_utterance(
            text,
            session_id=link.session_id,
            site_id=self._identity.site_id,
            useragent=self._useragent if addressed else None,
            **options,
        )

    async def post(self, link: Link, message: HiveMessage) -> HiveMessage:
        """Send a message whose answer nobody waits for.

        It waits until there is room for more and, where the carrier is told so (MQTT 5), until the message is taken.
        """
        self.send(link, message)
        self._book.sent(message.payload.get("type", ""), asyncio.get_running_loop().time())
        if link.transport.congested:
            link.hold()
            try:
                await link.transport.drain()
            finally:
                link.release()
        await link.transport.acknowledged()
        if link.error is not None:
            raise link.error
        return message

    def send(self, link: Link, message: HiveMessage) -> None:
        """Send now.

        Raises the error that ended the link, `ThalovantPublishTooLargeError` for a message that ends it at once, and
        `ThalovantRuntimeError` for what JSON cannot hold.
        """
        if link.error is not None:
            raise link.error
        with as_runtime_error():
            link.send(message)
        link.note_session(session_id_of(message.payload.get("context")))
        if isinstance(link.error, ThalovantPublishDeniedError):  # because of this one: it is too long for the broker
            raise link.error


@contextlib.contextmanager
def as_runtime_error() -> Iterator[None]:
    """What the protocol refuses to do for the caller is the caller's to mend."""
    try:
        yield
    except ProtocolError as error:
        raise ThalovantRuntimeError(str(error)) from error
