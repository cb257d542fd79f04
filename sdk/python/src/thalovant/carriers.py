# SPDX-License-Identifier: Apache-2.0
"""Which carriers a client gets: the one that was asked for, or, of several, those that its identity has a way to use.

Opens nothing. A carrier that is left out is named with the reason, so that nobody wonders why it is never tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from thalovant.addresses import choose_protocol, https_is_named
from thalovant.errors import ThalovantConnectionError, ThalovantUnsupportedProtocolError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol
from thalovant.transports import https, mqtt, wss

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity
    from thalovant.transports.base import Transport

__all__ = ["carriers_for"]

LeftOut = tuple[tuple[HubProtocol, str], ...]

_TRANSPORTS: dict[HubProtocol, Callable[..., Transport]] = {
    "wss": wss.Transport,
    "https": https.Transport,
    "mqtt": mqtt.Transport,
}
_KNOWN = ", ".join(repr(name) for name in DEFAULT_PROTOCOL_PREFERENCE)
_NO_HTTPS = "This identity names addresses of its hub, and none is for HTTPS."


def carriers_for(
    identity: ThalovantIdentity,
    protocol: HubProtocol | None,
    protocols: Sequence[HubProtocol] | None,
    transport: Transport | None,
    **options: Any,
) -> tuple[list[Transport], LeftOut]:
    """Return the carriers to try, the preferred one first, and those left out, each with the reason.

    `options` are those of the carriers. Without `protocols` it is one: `transport`, else what `choose_protocol` says.
    Raises `ThalovantUnsupportedProtocolError` for a list that makes no sense and when no carrier is left of it, and
    what the carrier raises when there is only the one.
    """
    if protocols is None:
        return [transport or _TRANSPORTS[choose_protocol(identity, protocol)](identity, **options)], ()
    if protocol is not None or transport is not None:
        other = "protocol" if protocol is not None else "transport"
        raise ThalovantUnsupportedProtocolError(f"Give {other}= or protocols=, not both: one carrier, or several.")
    found: list[Transport] = []
    left_out: list[tuple[HubProtocol, str]] = []
    for name in _checked(protocols):
        try:
            found.append(_made(identity, name, options))
        except (ThalovantConnectionError, ThalovantUnsupportedProtocolError) as error:
            left_out.append((name, str(error)))
    if not found:
        reasons = " ".join(f"{name}: {reason}" for name, reason in left_out)
        raise ThalovantUnsupportedProtocolError(f"This identity has none of these ways to its hub. {reasons}")
    return found, tuple(left_out)


def _made(identity: ThalovantIdentity, name: HubProtocol, options: dict[str, Any]) -> Transport:
    if name == "https" and not https_is_named(identity):
        raise ThalovantUnsupportedProtocolError(_NO_HTTPS)
    return _TRANSPORTS[choose_protocol(identity, name)](identity, **options)


def _checked(protocols: Sequence[HubProtocol]) -> list[HubProtocol]:
    if isinstance(protocols, str | bytes) or not isinstance(protocols, Sequence):
        raise ThalovantUnsupportedProtocolError(
            f"protocols= is a list of {_KNOWN}, the preferred one first; for a single one give protocol=."
        )
    names = list(protocols)
    if not names:
        raise ThalovantUnsupportedProtocolError(f"protocols= is empty: name at least one of {_KNOWN}.")
    for place, name in enumerate(names):
        if name not in DEFAULT_PROTOCOL_PREFERENCE:
            raise ThalovantUnsupportedProtocolError(
                f"There is no protocol {name!r} (in protocols=): choose of {_KNOWN}."
            )
        if name in names[:place]:
            raise ThalovantUnsupportedProtocolError(f"protocols= names {name!r} twice: each carrier once, in order.")
    return names
