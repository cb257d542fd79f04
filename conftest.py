# SPDX-License-Identifier: Apache-2.0
"""For all tests of this repository."""

from __future__ import annotations

import gc

import pytest

# These take longest, most of it waiting: they begin first, so that no process is left alone with one at the end.
FIRST = (
    "test_published_sdk.py", "test_two_machines.py", "test_nat.py", "test_command_line.py", "test_roads.py",
    "test_first_start.py", "test_second_machine.py", "test_restart.py", "test_stock_clients.py", "test_api_document.py",
    "test_cancellation.py", "test_asks.py", "test_before_login.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; a file stays together."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture(autouse=True, scope="module")
def only_what_these_tests_make_is_looked_through() -> None:
    """Ten thousand tests and what the files before left behind are not searched for garbage again and again."""
    gc.collect()
    gc.freeze()
