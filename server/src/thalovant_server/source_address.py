# SPDX-License-Identifier: Apache-2.0
"""What counts as one source when attempts are counted: an IPv4 address, or the /64 that one IPv6 customer has."""

from __future__ import annotations

import ipaddress


def is_this_machine(address: str) -> bool:
    """Tell whether it is a loopback address, of IPv4 in IPv6 too."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def source_of(address: str) -> str:
    """Return what an address counts as; text that is no address counts as itself."""
    parsed = _parsed(address)
    if parsed is None:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return parsed if mapped is None else mapped
