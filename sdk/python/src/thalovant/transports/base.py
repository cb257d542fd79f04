# SPDX-License-Identifier: Apache-2.0
"""What every carrier looks like from above, and how it says that it could not be reached or was lost.

A carrier brings frames to a hub and back, in order. It knows addresses, credentials and TLS; it does not know
what is in a frame, what an ask is, or when to dial again.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from thalovant.diagnoses import Diagnosis, diagnose, diagnosed
from thalovant.errors import ThalovantConnectionError
from thalovant.hub_endpoints import HubProtocol
from thalovant.transports.tls import bundle_advice, is_expired, is_not_yet_valid, is_other_authority, is_other_name

__all__ = [
    "SLOWEST",
    "Loss",
    "OnFrame",
    "OnLost",
    "Transport",
    "reason_of",
    "set_nodelay",
    "unreachable",
    "why_unreachable",
]


# What OpenSSL calls an answer that is no TLS record.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})

_ERRNO = re.compile(r"\[Errno ([0-9]{1,5})\]")

SLOWEST = 32_768  # bytes a second that a line is trusted to take, when a sign of life is waited for


@dataclass(frozen=True, slots=True)
class Loss:
    """Why an open carrier ended by itself, in a sentence for people.

    `close_code` is the WebSocket close code, if there was one; whether it means a refusal depends on the session
    (contract 10.1). `refused` is True when the carrier itself was told that the credentials are not accepted, `hung_up`
    when the other side closed it in good order and did not say why, `has_words` where it could have, `taken_over` when
    a newer connection of the same client took its place, `says_takeover` where that would have been said. `error` is
    what a call is to raise, where the carrier knows it exactly. `refusal` is the hub's own code, where it gave one
    (`thalovant.last_word`).
    """

    text: str
    close_code: int | None = None
    refused: bool = False
    hung_up: bool = False
    has_words: bool = False
    taken_over: bool = False
    says_takeover: bool = False
    error: ThalovantConnectionError | None = None
    refusal: str = ""


OnFrame: TypeAlias = Callable[[bytes | str, bool | None], None]
"""Called with a frame and whether it is sealed; None where the carrier does not tell (MQTT). Must not raise."""

OnLost: TypeAlias = Callable[[Loss], None]
"""Called at most once for each `open`, never after `close`. Must not raise."""


class Transport(Protocol):
    """A carrier. It may be opened again after it was lost or closed; one connection at a time."""

    protocol: HubProtocol
    speaks_first: bool
    """Whether the hub says nothing until it is greeted with a clear HELLO (contract 10.3)."""
    expecting: bool
    """Set by the owner while an answer is awaited; only a polling carrier looks at it."""

    @property
    def address(self) -> str:
        """The name under which the hub's key is pinned (contract 4.2)."""

    def session_id(self) -> str:
        """The session id to declare on the next connection (contract 6.2): a new one, on MQTT always the same."""

    @property
    def socket_opened_at(self) -> float | None:
        """`time.monotonic()` when the socket (with TLS) was up.

        Loop time would be too coarse: uvloop's counts whole milliseconds.
        """

    async def open(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        """Connect and authenticate; the hub's clear frames may arrive from then on.

        Raises `ThalovantConnectionError` (not reached in time, or at all) or `ThalovantHubRefusedError`.
        """

    def send_clear(self, data: bytes) -> None:
        """Queue a clear frame. What is sent on a lost carrier is dropped; `on_lost` has said so."""

    def send_sealed(self, frames: list[bytes]) -> None:
        """Queue sealed frames, in this order, behind everything queued before."""

    def announced(self, capabilities: frozenset[str]) -> None:
        """Be told what the hub announced in its HELLO (docs/wire.md); told within `on_frame`."""

    def ready(self) -> None:
        """Be told that the session on this carrier is up."""

    @property
    def congested(self) -> bool:
        """Whether the sender should `drain` before it sends more."""

    async def drain(self) -> None:
        """Wait until there is room again; returns at once on a lost carrier."""

    def check(self, seconds: float) -> None:
        """Ask the other side for a sign of life, and lose the carrier when none comes within `seconds`.

        Longer while much is being sent. Does nothing on a lost carrier, nor where each request is such a question.
        """

    async def acknowledged(self) -> None:
        """Wait until the other side has said of everything queued so far that it takes it, or that it does not.

        Returns at once where a carrier is told of no such thing, and on a lost one.
        """

    async def close(self) -> None:
        """Say goodbye and end the connection, within about a second. Does nothing the second time."""


def set_nodelay(transport: Any) -> None:
    """Switch Nagle's algorithm off: two small writes in a row would cost 40 ms (contract 12, trap 3)."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unreachable(
    where: str, error: BaseException, seconds: float, *, own_authority: bool = False
) -> ThalovantConnectionError:
    """Make the error for a hub or broker at `where` (host and port) that could not be reached.

    `own_authority`: the identity brings its own `ca_pem`, so that a strange signer means a hub set up anew.
    """
    return diagnosed(ThalovantConnectionError, why_unreachable(where, error, seconds, own_authority=own_authority))


def why_unreachable(where: str, error: BaseException, seconds: float, *, own_authority: bool = False) -> Diagnosis:
    """What it means that dialling `where`, TLS included, ended with `error`; the rest as `unreachable`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(where, error, own_authority)
    if isinstance(error, TimeoutError):
        return diagnose("port_silent", where=where, seconds=f"{seconds:g}")
    if isinstance(error, socket.gaierror):
        return diagnose("name_unresolved", where=where, said=_bare(error.strerror))
    if isinstance(error, ConnectionRefusedError) or errno.ECONNREFUSED in _numbers(error):
        return diagnose("port_refused", where=where)
    if isinstance(error, ssl.SSLError):
        reason = _bare(getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        return diagnose("not_tls" if _is_no_tls(error) else "tls_failed", where=where, said=reason)
    return diagnose("unreachable", where=where, said=reason_of(error))


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in the system's words, without a number and without a full stop of its own."""
    numbers = _numbers(error)
    said = os.strerror(numbers[0]) if numbers else getattr(error, "strerror", None)
    return _bare(said or str(error) or type(error).__name__)


def _numbers(error: BaseException) -> list[int]:
    """The system's error numbers in an error; asyncio puts those of several addresses into one sentence."""
    number = getattr(error, "errno", None)
    if isinstance(error, ssl.SSLError | socket.gaierror) or (number and "Connect call failed" not in str(error)):
        return []
    return [number] if number else [int(found) for found in _ERRNO.findall(str(error))]


def _untrusted(where: str, error: ssl.SSLCertVerificationError, own_authority: bool) -> Diagnosis:
    if is_expired(error) or is_not_yet_valid(error):
        code = "certificate_expired" if is_expired(error) else "certificate_not_yet_valid"
        return diagnose(code, where=where, now=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC")
    said = _bare(error.verify_message)
    if is_other_name(error):
        return diagnose("certificate_misnamed", where=where, said=said)
    if not is_other_authority(error):
        return diagnose("certificate_rejected", where=where, said=said, bundle=bundle_advice())
    return diagnose("ca_unknown/own" if own_authority else "ca_unknown", where=where, said=said, bundle=bundle_advice())


def _is_no_tls(error: ssl.SSLError) -> bool:
    """Whether the other side answered, and not in TLS; or hung up on our first words, as plain services do."""
    return getattr(error, "reason", None) in _NO_TLS or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _bare(reason: str | None) -> str:
    """A reason without a full stop of its own."""
    return (reason or "no reason given").rstrip(". ")
