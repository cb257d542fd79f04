# SPDX-License-Identifier: Apache-2.0
"""The soft limit of open files is raised, and the ports share what there is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from thalovant_server.descriptors import PORTS, RESERVE

PROGRAM = """
import resource, sys
from thalovant_server import logs
from thalovant_server.descriptors import connections_per_port
logs.configure()
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(connections_per_port(20_000), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "soft_then"),
    [
        (256, 1024, (1024 - RESERVE) // PORTS, 1024),
        (1024, 1024, (1024 - RESERVE) // PORTS, 1024),
        (64, 64, 1, 64),
    ],
)
def test_ports_share_what_the_system_grants(soft: int, hard: int, connections: int, soft_then: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(connections), str(soft_then), str(hard)]
    assert "few_descriptors" in run.stderr
