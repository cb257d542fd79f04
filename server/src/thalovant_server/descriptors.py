# SPDX-License-Identifier: Apache-2.0
"""How many sockets this process may hold: as many as the system grants it, with a reserve for its own files."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger("thalovant.descriptors")

PORTS = 2
RESERVE = 128  # the database, the log, threads' pipes, and sockets that are still in their TLS handshake
MOST = 20_000  # a port; memory is the next bound by then


def connections_per_port() -> int:
    """Raise the soft limit of open files to the hard one; return how many connections each port may hold."""
    granted = _raise_limit()
    fitting = max((granted - RESERVE) // PORTS, 1)
    if fitting < MOST:
        log.warning("few_descriptors", open_files=granted, connections_per_port=fitting)
    return min(fitting, MOST)


def _raise_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = PORTS * MOST + RESERVE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
