# SPDX-License-Identifier: Apache-2.0
"""Memory is given back now and then, and it is really given back."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import pytest

from thalovant_server.memory import MemoryKeeper, find_trim, uncollected


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing is done")
def test_holes_between_what_is_in_use_are_given_back() -> None:
    trim = find_trim()
    assert trim is not None
    held = [bytes(20_000) for _ in range(4_000)]
    full = resident()
    kept = held[::200]
    del held
    trim()
    assert resident() < full - 60_000_000 and len(kept) == 20


def test_it_goes_on_until_it_is_cancelled() -> None:
    async def main() -> None:
        loop, asked, often = asyncio.get_running_loop(), [], asyncio.Event()

        def trim() -> None:
            asked.append(1)
            if len(asked) == 3:
                loop.call_soon_threadsafe(often.set)

        task = asyncio.create_task(MemoryKeeper(0.001, trim).run())
        await asyncio.wait_for(often.wait(), 5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def test_what_is_loaded_is_never_looked_through_for_garbage() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError), uncollected():
        loaded = [[] for _ in range(1_000)]
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(loaded)
