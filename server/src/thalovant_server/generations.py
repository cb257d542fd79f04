# SPDX-License-Identifier: Apache-2.0
"""Which names may stand together in one certificate. Signs nothing, reads no file.

Each time the authority is issued anew for more names is a generation. A client that holds the authority's first
certificate refuses whatever names anything beyond it. So each generation gets a server certificate of its own, with
all names that its authority permits, and a name is served by the earliest one that has it: every client that may
trust the name at all then trusts the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalovant_server.certificates import LOOPBACK_HOSTS, permits


@dataclass(frozen=True, slots=True)
class Generation:
    """The names of one server certificate.

    Args:
        number: 1 is the authority as it was first made.
        hosts: the names that are new with it: for these the certificate is shown.
        names: all public hosts that its authority permits: these stand in it.
    """

    number: int
    hosts: tuple[str, ...]
    names: tuple[str, ...]


def generations(authorities: Sequence[str], public_hosts: Sequence[str]) -> list[Generation]:
    """Sort hosts into the generations that are needed to serve them; the first is always among them.

    Args:
        authorities: certificates of one authority as PEM text, the earliest first; each permits all that the one
            before permits.
        public_hosts: names besides loopback's, in any order.

    Raises:
        ValueError: no authority permits a host, or a text is no PEM certificate.
    """
    made, left = [], [host for host in dict.fromkeys(public_hosts) if host not in LOOPBACK_HOSTS]
    everything = list(left)
    for number, authority in enumerate(authorities, 1):
        new = [host for host in left if permits(authority, host)]
        left = [host for host in left if host not in new]
        names = tuple(host for host in everything if host not in left)
        hosts = (*LOOPBACK_HOSTS, *new) if number == 1 else tuple(new)
        if hosts:
            made.append(Generation(number, hosts, names))
    if left:
        raise ValueError(f"the authority may not vouch for {', '.join(left)}")
    return made
