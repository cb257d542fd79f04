# SPDX-License-Identifier: Apache-2.0
"""Walks one carrier's road to the hub, step by step, and tells what each step found; for `doctor()`.

Name, sockets and TLS are looked at with connections of its own, on which nothing is said. The login, the handshake and
the ask are those of the SDK's own client, so that what is found is what a program would meet: with a session and an
MQTT client id of their own, in the Noise state of the identity, which is where the client's key is. A device that uses
the same identity meanwhile keeps its sessions at a server of ours, and its presence everywhere: none is published here.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import ipaddress
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from thalovant.addresses import https_base, mqtt_address, wss_base
from thalovant.certificate_facts import CertificateFacts, der_of, signer_among
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
from thalovant.transports.base import reason_of, why_unreachable
from thalovant.transports.http_proxy import HttpProxy, authority, find_proxy, open_tunnel
from thalovant.transports.tls import BUNDLE_VARIABLES, client_context

if TYPE_CHECKING:
    from thalovant.client import AsyncThalovantClient
    from thalovant.identity import ThalovantIdentity

__all__ = ["Patience", "Probe"]

QUESTION: Final = "Is anybody there?"
HANG_UP_WAIT: Final = 0.75  # seconds in which a hub that does not know this client's key hangs up (contract 10.1)
_RELEASED: Final = datetime.datetime(2026, 8, 1, tzinfo=datetime.UTC)  # no clock that is right says less
_CLOCK_TOLERANCE: Final = datetime.timedelta(minutes=5)
_ANSWER_BYTES: Final = 8192


@dataclass(frozen=True)
class Patience:
    """Seconds for one look at the network, and for the ask."""

    look: float = 4.0
    ask: float = 12.0


@dataclass
class _Target:
    """Where the road leads: what is dialled, and by way of which proxy."""

    host: str
    port: int
    tls: bool
    proxy: HttpProxy | None = None
    addresses: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return authority(self.host, self.port)

    @property
    def first(self) -> tuple[str, int]:
        """What the first socket leads to."""
        return (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)


class _StopError(Exception):
    """A step has failed: `diagnosis`, and what else is to be seen there."""

    def __init__(self, diagnosis: Diagnosis, more: str = "") -> None:
        super().__init__(diagnosis.code)
        self.diagnosis = diagnosis
        self.more = more


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
        self._target: _Target
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
        except _StopError as stop:
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
            self._target = _Target(broker.host, broker.port, True)
            return f"mqtts://{self._target.where}"
        url = wss_base(self._identity) if self._protocol == "wss" else https_base(self._identity)
        parts = urlsplit(url)
        tls = parts.scheme in ("wss", "https")
        self._target = target = _Target(parts.hostname or "", parts.port or (443 if tls else 80), tls)
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
            raise _StopError(diagnose("name_unresolved", where=authority(host, port), said=said)) from None
        except (OSError, UnicodeError) as error:
            raise _StopError(self._unreachable(error)) from None
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _tcp(self) -> str:
        addresses, port = self._target.addresses, self._target.first[1]
        outcomes = await asyncio.gather(*(self._connected(each, port) for each in addresses))
        told = ", ".join(f"{address}: {said}" for address, (said, _) in zip(addresses, outcomes, strict=True))
        if not any(error is None for _, error in outcomes):
            errors = [error for _, error in outcomes if error is not None]
            worst = next((one for one in errors if isinstance(one, ConnectionRefusedError)), errors[0])
            raise _StopError(self._unreachable(worst), told if len(addresses) > 1 else "")
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

    # -- TLS --------------------------------------------------------------------------------------------------------

    async def _tls(self) -> str | None:
        if not self._target.tls:
            return "not used: the address is of this machine"
        context = await asyncio.to_thread(client_context, self._identity.ca_pem, self_signed=self._self_signed)
        try:
            version, facts = await self._shaken_hands(context)
        except ssl.SSLCertVerificationError as error:
            facts = await self._shown_anyway()
            raise _StopError(await self._meaning(error, facts), f"It is {facts}." if facts else "") from None
        except OSError as error:  # TimeoutError, ConnectionError and the other SSLErrors are among them
            raise _StopError(self._no_tls(error)) from None
        trusted = "not checked (self_signed)" if self._self_signed else f"trusted by {self._trusted_by(facts)}"
        return f"{version}, {trusted}{f'; {facts}' if facts else ''}"

    def _no_tls(self, error: OSError) -> Diagnosis:
        """What it means that something which takes connections did not come to TLS."""
        if isinstance(error, TimeoutError):
            said = f"no answer within {self._patience.look:g} s to a greeting in TLS"
        elif isinstance(error, ConnectionError):
            said = "it hung up on a greeting in TLS"
        else:
            return self._of_server(error)
        return diagnose("not_tls", where=self._target.where, said=said)

    async def _shaken_hands(self, context: ssl.SSLContext) -> tuple[str, CertificateFacts | None]:
        holder = _Holder()
        target, loop = self._target, asyncio.get_running_loop()
        async with asyncio.timeout(self._patience.look):
            try:
                if target.proxy is None:
                    await loop.create_connection(
                        lambda: holder, target.host, target.port, ssl=context, server_hostname=target.host
                    )
                else:
                    await open_tunnel(target.proxy, target.host, target.port, holder, context, useragent=b"thalovant")
                assert holder.transport is not None  # noqa: S101 - made just now
                tls = holder.transport.get_extra_info("ssl_object")
                return str(tls.version()), CertificateFacts.of(tls.getpeercert(True))
            finally:
                if holder.transport is not None:
                    holder.transport.abort()

    async def _shown_anyway(self) -> CertificateFacts | None:
        """The certificate that is not trusted, to say what it is; nothing is sent to who shows it."""
        try:
            return (await self._shaken_hands(_unchecked()))[1]
        except (OSError, ThalovantConnectionError):
            return None

    def _of_server(self, error: OSError) -> Diagnosis:
        own = bool(self._identity.ca_pem)
        return why_unreachable(self._target.where, error, self._patience.look, own_authority=own)

    async def _meaning(self, error: ssl.SSLCertVerificationError, facts: CertificateFacts | None) -> Diagnosis:
        """What it means that the certificate is refused; for its dates it may be this machine's clock."""
        diagnosis = self._of_server(error)
        if diagnosis.code not in ("certificate_expired", "certificate_not_yet_valid"):
            return diagnosis
        now, other = self._now(), ""
        if now < _RELEASED:
            other = "this program is newer than that"
        elif (date := await self._date_of_server()) is not None and abs(date - now) > _CLOCK_TOLERANCE:
            other = f"the server's {_moment(date)}" if facts is not None and facts.good_at(date) else ""
        return diagnose("clock_wrong", now=_moment(now), other=other, where=self._target.where) if other else diagnosis

    async def _date_of_server(self) -> datetime.datetime | None:
        """What an HTTP server of the same road says that the time is. Not to be trusted: it is only compared."""
        if self._protocol == "mqtt" or self._target.proxy is not None:
            return None
        host, port = self._target.host, self._target.port
        try:
            async with asyncio.timeout(self._patience.look):
                reader, writer = await asyncio.open_connection(host, port, ssl=_unchecked(), server_hostname=host)
                try:
                    writer.write(f"HEAD / HTTP/1.1\r\nHost: {self._target.where}\r\nConnection: close\r\n\r\n".encode())
                    head = (await reader.read(_ANSWER_BYTES)).decode("latin-1")
                finally:
                    writer.transport.abort()
        except OSError:
            return None
        return _date_in(head)

    def _trusted_by(self, facts: CertificateFacts | None) -> str:
        if facts is not None and self._identity.ca_pem and signer_among(facts, der_of(self._identity.ca_pem)):
            return "the identity's ca_pem"
        variable = next((name for name in BUNDLE_VARIABLES if os.environ.get(name)), None)
        return f"the bundle of {variable}" if variable else "this system's authorities"

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


class _Holder(asyncio.Protocol):
    """Keeps a connection on which nothing is said."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]


def _plainly(step: Step, error: ThalovantError) -> Diagnosis:
    """An error that the catalogue does not have: its own code and words."""
    if isinstance(error, ThalovantIdentityError):
        return diagnose("noise_state_unusable", said=error)
    if step == "ask":
        return diagnose("connection_lost", said=error)
    return Diagnosis(error.code, step, str(error), "")


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _date_in(head: str) -> datetime.datetime | None:
    lines = (line.partition(":") for line in head.split("\r\n\r\n")[0].splitlines())
    text = next((value.strip() for name, _, value in lines if name.strip().lower() == "date"), "")
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)


def _moment(date: datetime.datetime) -> str:
    return f"{date.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"


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
