# SPDX-License-Identifier: Apache-2.0
"""How a client gets a link: keys from the disk, carrier, handshake, a second attempt where one is due, pins kept.

One `Dialer` a client. It decides which failure is worth another attempt at once (a KK that failed, a cached
pre-shared key that may be stale) and what a failure means for the user. It keeps no link alive; its owner does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubKeyChangedError,
    ThalovantHubRefusedError,
)
from thalovant.health import ThalovantConnectionPhase
from thalovant.link import HandshakeFailedError, Incoming, Link
from thalovant.noise_state import NoiseKeys, NoiseState, other_key_folder
from thalovant.protocol.session import ClientSession, Ready
from thalovant.transports.base import Transport

if TYPE_CHECKING:
    from thalovant.hub_endpoints import HubProtocol
    from thalovant.identity import ThalovantIdentity

__all__ = ["Dialer"]

MAX_ATTEMPTS = 3  # as found, without KK, without a cached pre-shared key


class Dialer:
    """Makes links for one identity over one carrier. `phase` says how far the attempt under way has come.

    `other_addresses` are those of the same hub over other carriers: the key it has there is the key it must have here.
    """

    def __init__(
        self,
        identity: ThalovantIdentity,
        transport: Transport,
        state: NoiseState,
        *,
        handshake_timeout: float,
        announce: Mapping[str, Any],
        other_addresses: Sequence[str] = (),
    ) -> None:
        self.protocol: HubProtocol = transport.protocol
        self._identity = identity
        self._transport = transport
        self._addresses = (transport.address, *other_addresses)
        self._carrier = asyncio.Lock()  # held while it is being dialled: one attempt at a time
        self._state = state
        self._handshake_timeout = handshake_timeout
        self._announce = announce
        self._link: Link | None = None
        # Links that were closed right after an XX handshake without a word, since one that worked:
        self._hang_ups = 0  # nothing but the HELLO was sent on them, so it was about the handshake
        self._doubtful = False  # something was, and it may have been about that

    @property
    def dialling(self) -> bool:
        """Whether an attempt is under way."""
        return self._carrier.locked()

    @property
    def phase(self) -> ThalovantConnectionPhase:
        """How far the latest attempt has come."""
        link = self._link
        if link is None or link.opened_at is None:
            return "connecting"
        if link.ready_at is not None:
            return "ready"
        return "open" if link.session.state == "hello" else "handshake"

    def expect(self, answers: bool) -> None:
        """Be told whether somebody waits for the hub to say something."""
        self._transport.expecting = answers

    async def dial(
        self,
        on_message: Callable[[Link, Incoming], None],
        on_lost: Callable[[Link, ThalovantConnectionError], None],
    ) -> Link:
        """Return a link that is ready, its hub's key pinned.

        Raises `ThalovantConnectionError` and below it: `ThalovantHubRefusedError`, `ThalovantClientKeyRejectedError`,
        `ThalovantHubKeyChangedError`, `HandshakeTimeoutError`; `ThalovantIdentityError` for damaged state.
        """
        async with self._carrier:
            if self._link is not None:
                await self._link.close()  # most likely it is closed; the carrier must be free
            self._link = None
            return await self._dial(on_message, on_lost)

    async def _dial(
        self,
        on_message: Callable[[Link, Incoming], None],
        on_lost: Callable[[Link, ThalovantConnectionError], None],
    ) -> Link:
        who = self._identity
        keys = await asyncio.to_thread(self._state.load, who.access_key, *self._addresses, password=who.password)
        allow_kk, psks = True, keys.psks
        for attempt in range(1, MAX_ATTEMPTS + 1):
            link = self._new_link(keys, psks, allow_kk, on_message, on_lost)
            try:
                ready = await link.open(self._handshake_timeout)
                await self._keep(link, keys, ready)
                await self._clear_doubt(link)
                if link.error is not None:  # lost while its pin was written
                    raise link.error
            except ThalovantConnectionError as error:
                await link.close()
                self._count_hang_up(link)
                again = attempt < MAX_ATTEMPTS and await self._worth_another(link, error, psks)
                if not again:
                    raise await self._meaning(link, keys, error) from None
                allow_kk, psks = False, {}
            except BaseException:
                await link.close()
                raise
            else:
                return link
        raise AssertionError("every attempt returns or raises")  # pragma: no cover

    def _new_link(
        self,
        keys: NoiseKeys,
        psks: Mapping[str, bytes],
        allow_kk: bool,
        on_message: Callable[[Link, Incoming], None],
        on_lost: Callable[[Link, ThalovantConnectionError], None],
    ) -> Link:
        identity, session_id = self._identity, self._transport.session_id()
        session = ClientSession(
            static_private=keys.private,
            site_id=identity.site_id,
            session_id=session_id,
            pinned=keys.pinned,
            announce=self._announce,
            psk=psks,
            allow_kk=allow_kk,
            repeats=self.protocol == "mqtt",
        )
        self._link = Link(
            self._transport,
            session,
            session_id,
            identity.site_id,
            identity.password,
            on_message=on_message,
            on_lost=on_lost,
        )
        return self._link

    async def _keep(self, link: Link, keys: NoiseKeys, ready: Ready) -> None:
        new_here = ready.trusted_now or keys.pinned_under != self._transport.address
        if new_here or link.stretched is not None:
            await asyncio.to_thread(self._write, ready, link.stretched, new_here)

    def _write(self, ready: Ready, stretched: bytes | None, new_here: bool) -> None:
        access_key = self._identity.access_key
        if new_here:
            self._state.trust(access_key, self._transport.address, ready.hub_key)
        if stretched is not None:
            self._state.remember_psk(access_key, ready.node_id, stretched, self._identity.password)

    async def _clear_doubt(self, link: Link) -> None:
        """After a hang-up that has two readings, send nothing until the hub has had its time to refuse the key."""
        if self._doubtful and link.session.pattern == "XXpsk2":
            await link.settle()
            if link.error is None:
                self._hang_ups, self._doubtful = 0, False

    async def _worth_another(self, link: Link, error: ThalovantConnectionError, psks: Mapping[str, bytes]) -> bool:
        """Whether to try XX at once, with a freshly stretched password: KK or a cached key may be what failed."""
        session = link.session
        if link.hung_up_on:
            return self._hang_ups == 1
        if session.pattern is None or link.ready_at is not None:
            return False  # the failure has nothing to do with keys
        cached = session.node_id in psks
        if cached:
            await asyncio.to_thread(self._state.forget_psk, self._identity.access_key, session.node_id)
        refused = isinstance(error, HandshakeFailedError) and error.reason == "wrong_password"
        return session.pattern == "KKpsk0" or (cached and refused)

    async def _meaning(self, link: Link, keys: NoiseKeys, error: ThalovantConnectionError) -> ThalovantConnectionError:
        """What a failed attempt is to the user."""
        if isinstance(error, HandshakeFailedError):
            return self._handshake_meaning(keys, error)
        return await self._loss_meaning(link, error)

    def _handshake_meaning(self, keys: NoiseKeys, error: HandshakeFailedError) -> ThalovantConnectionError:
        if error.reason == "hub_key_changed":
            return self._state.hub_key_changed(self._identity.access_key, keys.pinned_under)
        if error.reason in ("wrong_password", "kk_failed"):
            return diagnosed(ThalovantHubRefusedError, diagnose("wrong_password", said=error))
        return diagnosed(ThalovantConnectionError, diagnose("handshake_failed", said=error))

    async def meaning_of_loss(self, link: Link, error: ThalovantConnectionError) -> ThalovantConnectionError:
        """What it is to the user that a link was lost; to be told of each loss once."""
        self._count_hang_up(link)
        return await self._loss_meaning(link, error)

    def _count_hang_up(self, link: Link) -> None:
        if link.heard:
            self._hang_ups, self._doubtful = 0, False
        elif link.hung_up_on and link.session.pattern == "XXpsk2":
            self._hang_ups += link.hung_up_idle
            self._doubtful = True

    async def _loss_meaning(self, link: Link, error: ThalovantConnectionError) -> ThalovantConnectionError:
        """A refusal right after an XX handshake means that the hub knows this client by another key (contract 10.1).

        Over MQTT 3.1.1 it can only hang up: once may be an accident; twice, with nothing sent but the HELLO and with XX
        again although the first handshake would have made this client's key known, is not.
        """
        refused = link.refused_at_once and link.session.pattern == "XXpsk2"
        if not refused and not (link.hung_up_idle and self._hang_ups > 1):
            return error
        other = await asyncio.to_thread(other_key_folder, self._identity, self._state.folder)
        used = self._state.folder
        hint = f" Its key may be the one in {other}: use noise_state_dir={str(other)!r}." if other else ""
        return diagnosed(
            ThalovantClientKeyRejectedError,
            diagnose("client_key_rejected", folder=used, hint=hint),
            key_folder=str(used),
            other_key_folder=str(other) if other else None,
        )


def ends_for_good(error: BaseException) -> bool:
    """Whether dialling again by itself makes no sense: the hub or this client has another key than agreed."""
    return isinstance(error, ThalovantHubKeyChangedError | ThalovantClientKeyRejectedError)
