# SPDX-License-Identifier: Apache-2.0
"""Looks at the TLS of a road's end, on connections of its own: who signed what is shown, and whose clock is wrong.

Nothing is sent to a server that is not trusted, save one HEAD for its date where the certificate's dates are refused.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import os
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from thalovant.certificate_facts import CertificateFacts, der_of, signer_among
from thalovant.diagnoses import Diagnosis, diagnose
from thalovant.errors import ThalovantConnectionError
from thalovant.probe_target import StopError, Target
from thalovant.transports.base import why_unreachable
from thalovant.transports.http_proxy import open_tunnel
from thalovant.transports.tls import BUNDLE_VARIABLES, client_context

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = ["TlsLook", "date_in"]

_RELEASED: Final = datetime.datetime(2026, 8, 1, tzinfo=datetime.UTC)  # no clock that is right says less
_CLOCK_TOLERANCE: Final = datetime.timedelta(minutes=5)
_ANSWER_BYTES: Final = 8192


class TlsLook:
    """One look at `target`, for so many `seconds` a connection.

    `has_dates`: an HTTP server of the same road says what time it is. `now` is this machine's clock.
    """

    def __init__(
        self,
        identity: ThalovantIdentity,
        target: Target,
        seconds: float,
        *,
        self_signed: bool,
        has_dates: bool,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._identity = identity
        self._target = target
        self._seconds = seconds
        self._self_signed = self_signed
        self._has_dates = has_dates
        self._now = now

    async def take(self) -> str:
        """Shake hands and hang up; returns what was seen. Raises `StopError`."""
        if not self._target.tls:
            return "not used: the address is of this machine"
        context = await asyncio.to_thread(client_context, self._identity.ca_pem, self_signed=self._self_signed)
        try:
            version, facts = await self._shaken_hands(context)
        except ssl.SSLCertVerificationError as error:
            facts = await self._shown_anyway()
            raise StopError(await self._meaning(error, facts), f"It is {facts}." if facts else "") from None
        except OSError as error:  # TimeoutError, ConnectionError and the other SSLErrors are among them
            raise StopError(self._no_tls(error)) from None
        trusted = "not checked (self_signed)" if self._self_signed else f"trusted by {self._trusted_by(facts)}"
        return f"{version}, {trusted}{f'; {facts}' if facts else ''}"

    def _no_tls(self, error: OSError) -> Diagnosis:
        """What it means that something which takes connections did not come to TLS."""
        if isinstance(error, TimeoutError):
            said = f"no answer within {self._seconds:g} s to a greeting in TLS"
        elif isinstance(error, ConnectionError):
            said = "it hung up on a greeting in TLS"
        else:
            return self._of_server(error)
        return diagnose("not_tls", where=self._target.where, said=said)

    async def _shaken_hands(self, context: ssl.SSLContext) -> tuple[str, CertificateFacts | None]:
        holder = _Holder()
        target, loop = self._target, asyncio.get_running_loop()
        async with asyncio.timeout(self._seconds):
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
        return why_unreachable(self._target.where, error, self._seconds, own_authority=own)

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
        if not self._has_dates or self._target.proxy is not None:
            return None
        host, port = self._target.host, self._target.port
        try:
            async with asyncio.timeout(self._seconds):
                reader, writer = await asyncio.open_connection(host, port, ssl=_unchecked(), server_hostname=host)
                try:
                    writer.write(f"HEAD / HTTP/1.1\r\nHost: {self._target.where}\r\nConnection: close\r\n\r\n".encode())
                    head = (await reader.read(_ANSWER_BYTES)).decode("latin-1")
                finally:
                    writer.transport.abort()
        except OSError:
            return None
        return date_in(head)

    def _trusted_by(self, facts: CertificateFacts | None) -> str:
        if facts is not None and self._identity.ca_pem and signer_among(facts, der_of(self._identity.ca_pem)):
            return "the identity's ca_pem"
        variable = next((name for name in BUNDLE_VARIABLES if os.environ.get(name)), None)
        return f"the bundle of {variable}" if variable else "this system's authorities"


class _Holder(asyncio.Protocol):
    """Keeps a connection on which nothing is said."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def date_in(head: str) -> datetime.datetime | None:
    """Return the time in the `Date` of an HTTP answer's head; None without one that can be read."""
    lines = (line.partition(":") for line in head.split("\r\n\r\n")[0].splitlines())
    text = next((value.strip() for name, _, value in lines if name.strip().lower() == "date"), "")
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)


def _moment(date: datetime.datetime) -> str:
    return f"{date.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"
