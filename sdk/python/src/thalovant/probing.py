# SPDX-License-Identifier: Apache-2.0
"""Walks one carrier's road to the hub, step by step, and tells what each step found; for `doctor()`.

Name, sockets and TLS are looked at with connections of its own, on which nothing is said. The login, the handshake and
the ask are those of the SDK's own client, so that what is found is what a program would meet: with a session and an
MQTT client id of their own, in the Noise state of the identity, which is where the client's key is. A device that uses
the same identity meanwhile keeps its sessions at a server of ours, and its presence everywhere: none is published here.
Where the hub's MQTT is at an outside broker that keeps one connection of each credential, the device is cut off by the
look at it, and back some seconds later.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from thalovant.addresses import https_base, mqtt_address, wss_base
from thalovant.diagnoses import STEPS, Diagnosis, Step, diagnose
from thalovant.doctor import Found, failed, passed, skipped
from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantError,
    ThalovantIdentityError,
    ThalovantTimeoutError,
    ThalovantUnansweredError,
)
from thalovant.hub_endpoints import HubProtocol
from thalovant.mqtt_topics import overridden_topics, topics_of
from thalovant.probe_target import Patience, StopError, Target
from thalovant.tls_probing import TlsLook
from thalovant.transports.base import reason_of, why_unreachable
from thalovant.transports.http_proxy import authority, find_proxy

if TYPE_CHECKING:
    from thalovant.client import AsyncThalovantClient
    from thalovant.identity import ThalovantIdentity

__all__ = ["Patience", "Probe"]

QUESTION: Final = "Is anybody there?"
HANG_UP_WAIT: Final = 0.75  # seconds in which a hub that does not know this client's key hangs up (contract 10.1)


class Probe:
    """One road. `client` makes the SDK's client for it, which says nothing of its presence.

    `asks` False leaves the ask out. `now` is this machine's clock.
    """

    def __init__(
        self,
        identity: ThalovantIdentity,
        protocol: HubProtocol,
        client: Callable[[HubProtocol], AsyncThalovantClient],
        patience: Patience,
        *,
        asks: bool = True,
        self_signed: bool = False,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._identity = identity
        self._protocol = protocol
        self._make_client = client
        self._patience = patience
        self._asks = asks
        self._self_signed = self_signed and protocol != "mqtt"
        self._now = now
        self._target: Target
        self._client: AsyncThalovantClient | None = None
        self._error: ThalovantError | None = None
        self._times: dict[Step, float] = {}

    async def walk(self) -> list[Found]:
        """Walk until a step fails; the steps behind that one are skipped."""
        found: list[Found] = []
        stopped_at = ""
        try:
            for step, look in self._steps():
                if stopped_at:
                    found.append(skipped(step, f"not reached: {stopped_at} failed", self._protocol))
                    continue
                one = await self._look(step, look)
                found.append(one)
                if not one.check.ok:
                    stopped_at = step
        finally:
            if self._client is not None:
                await self._client.close()
        return found

    def _steps(self) -> list[tuple[Step, Callable[[], Awaitable[str | None]]]]:
        steps: list[tuple[Step, Callable[[], Awaitable[str | None]]]] = [
            ("address", self._address),
            ("name", self._name),
            ("tcp", self._tcp),
            ("tls", self._tls),
            ("credential", self._credential),
            ("topics", self._topics),
            ("handshake", self._handshake),
            ("ask", self._ask),
        ]
        return [(step, look) for step, look in steps if step != "topics" or self._protocol == "mqtt"]

    async def _look(self, step: Step, look: Callable[[], Awaitable[str | None]]) -> Found:
        started = time.perf_counter()
        more = ""
        try:
            detail = await look()
        except StopError as stop:
            diagnosis, more = stop.diagnosis, stop.more
        except ThalovantError as error:
            diagnosis = error.diagnosis or _plainly(step, error)
        else:
            took = self._times.get(step, time.perf_counter() - started)
            if detail is None:
                return skipped(step, "not asked", self._protocol)
            return passed(step, detail, took, self._protocol)
        return failed(step, diagnosis, time.perf_counter() - started, self._protocol, more)

    # -- what the identity names ------------------------------------------------------------------------------------

    async def _address(self) -> str:
        if self._protocol == "mqtt":
            topics_of(self._identity)
            broker = mqtt_address(self._identity)
            self._target = Target(broker.host, broker.port, True)
            return f"mqtts://{self._target.where}"
        url = wss_base(self._identity) if self._protocol == "wss" else https_base(self._identity)
        parts = urlsplit(url)
        tls = parts.scheme in ("wss", "https")
        self._target = target = Target(parts.hostname or "", parts.port or (443 if tls else 80), tls)
        target.proxy = find_proxy(target.host, target.port) if tls else None
        through = f", through the proxy {target.proxy.where}" if target.proxy else ""
        return f"{parts.scheme}://{target.where}{parts.path}{through}"

    # -- the way there ----------------------------------------------------------------------------------------------

    async def _name(self) -> str:
        host, port = self._target.first
        self._target.addresses = await self._resolved(host, port)
        shown = ", ".join(self._target.addresses)
        return f"{host} is an address" if _is_address(host) else f"{host} is {shown}"

    async def _resolved(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._patience.look):
                found = await loop.getaddrinfo(host, port, type=1)  # SOCK_STREAM
        except TimeoutError:
            said = f"no answer within {self._patience.look:g} s"
            raise StopError(diagnose("name_unresolved", where=authority(host, port), said=said)) from None
        except (OSError, UnicodeError) as error:
            raise StopError(self._unreachable(error)) from None
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _tcp(self) -> str:
        addresses, port = self._target.addresses, self._target.first[1]
        outcomes = await asyncio.gather(*(self._connected(each, port) for each in addresses))
        told = ", ".join(f"{address}: {said}" for address, (said, _) in zip(addresses, outcomes, strict=True))
        if not any(error is None for _, error in outcomes):
            errors = [error for _, error in outcomes if error is not None]
            worst = next((one for one in errors if isinstance(one, ConnectionRefusedError)), errors[0])
            raise StopError(self._unreachable(worst), told if len(addresses) > 1 else "")
        return f"port {port} of {told}"

    async def _connected(self, address: str, port: int) -> tuple[str, OSError | None]:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._patience.look):
                transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
        except OSError as error:
            return ("no answer" if isinstance(error, TimeoutError) else _reason(error)), error
        transport.abort()
        return f"{(time.perf_counter() - started) * 1000:.1f} ms", None

    def _unreachable(self, error: BaseException) -> Diagnosis:
        target = self._target
        if target.proxy is not None:
            said = why_unreachable(target.proxy.where, error, self._patience.look).happened
            return diagnose("proxy_in_the_way", said=f"The proxy could not be reached. {said}")
        own = bool(self._identity.ca_pem)
        return why_unreachable(target.where, error, self._patience.look, own_authority=own)

    async def _tls(self) -> str:
        look = TlsLook(
            self._identity,
            self._target,
            self._patience.look,
            self_signed=self._self_signed,
            has_dates=self._protocol != "mqtt",
            now=self._now,
        )
        return await look.take()

    # -- the hub ----------------------------------------------------------------------------------------------------

    async def _credential(self) -> str:
        await self._connect()
        if self._error is not None and self._depth() <= STEPS.index("credential"):
            raise self._error
        return "accepted"

    async def _topics(self) -> str:
        if self._error is not None and self._depth() <= STEPS.index("topics"):
            raise self._error
        strange = overridden_topics(self._identity)
        also = f"; {', '.join(strange)} not below topic_prefix" if strange else ""
        return f"the broker grants the subscription{also}"

    async def _handshake(self) -> str:
        if self._error is not None:
            raise self._error
        assert self._client is not None  # noqa: S101 - connected above
        if not self._asks:
            await self._hung_up(self._client)
        return "password and keys are right"

    async def _connect(self) -> None:
        """Log in and shake hands, as any client of this identity does."""
        started = time.perf_counter()
        self._times["topics"] = 0.0
        self._client = client = self._make_client(self._protocol)
        try:
            await client.connect()
        except ThalovantError as error:
            self._error = error
            return
        info = await client.connection_info()
        self._times["credential"] = (info.transport_open_ms or 0.0) / 1000
        self._times["handshake"] = (info.handshake_ms or (time.perf_counter() - started) * 1000) / 1000

    def _depth(self) -> int:
        """How far on the road the error of connecting shows."""
        error = self._error
        if error is None:
            return len(STEPS)
        if error.diagnosis is not None:
            return STEPS.index(error.diagnosis.step)
        return STEPS.index("handshake" if isinstance(error, ThalovantIdentityError) else "credential")

    async def _hung_up(self, client: AsyncThalovantClient) -> None:
        """Stay until a hub that knows another key of this client has had its time to hang up."""
        try:
            await client.wait_closed(HANG_UP_WAIT)
        except ThalovantTimeoutError:
            return
        client._keeper.refuse_if_over()  # raises what that meant, where it is for good
        await client.connect()  # else it is met again
        said = (await client.connection_info()).last_error or "The hub hung up."
        raise ThalovantConnectionError(said)

    async def _ask(self) -> str | None:
        if not self._asks:
            return None
        assert self._client is not None  # noqa: S101 - connected above
        try:
            reply = await self._client.ask(QUESTION, timeout=self._patience.ask)
        except ThalovantUnansweredError:
            return f'the agent has no answer to "{QUESTION}", and says so'
        return f'"{QUESTION}" was answered with {len(reply.text)} characters'


def _plainly(step: Step, error: ThalovantError) -> Diagnosis:
    """An error that the catalogue does not have: its own code and words."""
    if isinstance(error, ThalovantIdentityError):
        return diagnose("noise_state_unusable", said=error)
    if step == "ask":
        return diagnose("connection_lost", said=error)
    return Diagnosis(error.code, step, str(error), "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens"
    return reason_of(error)
