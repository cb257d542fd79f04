# SPDX-License-Identifier: Apache-2.0
"""How many sockets this process may hold: as many as the system grants it, with a reserve for its own files."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger("thalovant.descriptors")

PORTS = 2
RESERVE = 128  # the database, the log, threads' pipes, and sockets that are still in their TLS handshake


def connections_per_port(most: int) -> int:
    """Raise the soft limit of open files as far as needed; return how many connections, up to ``most``, a port gets."""
    granted = _raise_limit(PORTS * most + RESERVE)
    fitting = max((granted - RESERVE) // PORTS, 1)
    if fitting < most:
        log.warning("few_descriptors", open_files=granted, connections_per_port=fitting)
    return min(fitting, most)


def _raise_limit(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
