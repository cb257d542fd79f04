# SPDX-License-Identifier: Apache-2.0
"""The link at a real Mosquitto, with a real hub: sessions, changes, and what becomes of them when a link is lost."""

from types import SimpleNamespace

import pytest


@pytest.mark.parametrize("level", [5, 4], ids=["mqtt5", "mqtt311"])
@pytest.mark.parametrize("spelling", ["in", "c2s"])
def test_an_ask_gets_its_answer(rig: SimpleNamespace, spelling: str, level: int) -> None:
    async def main() -> None:
        async with rig.opened() as ours:
            device = await ours.device(spelling=spelling, level=level)
            await device.ready()
            assert await device.ask("hello") == "hello"
            assert ours.link.connections == ours.keeper.state.sessions == 1
            assert ours.keeper.state.standing == "connected"
            await device.close()

    rig.run(main())
