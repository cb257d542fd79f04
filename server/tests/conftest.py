# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario in a fresh control plane; its database lies in the test's folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from thalovant_server.testing.control import World, open_world


@pytest.fixture
def in_world(tmp_path: Path) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Run a scenario in a fresh world."""

    def run(scenario: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_world(tmp_path) as world:
                await scenario(world)

        uvloop.run(main())

    return run
