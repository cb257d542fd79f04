# SPDX-License-Identifier: Apache-2.0
"""A task that hears of changes from its beginning to its end."""

from __future__ import annotations

import asyncio

from thalovant_server.control.directory_task import DirectoryTask
from thalovant_server.directory import Change, HubEntry
from thalovant_server.testing.directory import directory_of

HUB = HubEntry("h1", "h1", "h1", None, frozenset(), True)


def test_it_hears_from_its_beginning_to_its_end_and_ends_with_a_cancellation() -> None:
    heard: list[Change] = []
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        directory = directory_of([HUB], [])
        task = DirectoryTask(directory, heard.append)
        directory.put_hub(HUB)
        assert heard == []
        task.begin(work(), "a-task")
        await asyncio.sleep(0)
        assert "a-task" in {each.get_name() for each in asyncio.all_tasks()}
        directory.put_hub(HUB)
        await task.end()
        directory.put_hub(HUB)
        assert [(change.kind, change.action) for change in heard] == [("hub", "changed")]
        assert ended == ["cancelled"] and len(asyncio.all_tasks()) == 1
        await directory.stop()

    asyncio.run(main())


def test_ending_what_was_never_begun_or_ended_by_itself_does_nothing() -> None:
    async def main() -> None:
        directory = directory_of([HUB], [])
        task = DirectoryTask(directory, lambda change: None)
        await task.end()
        task.begin(asyncio.sleep(0), "short")
        await asyncio.sleep(0.0)
        await task.end()
        await task.end()
        await directory.stop()

    asyncio.run(main())
