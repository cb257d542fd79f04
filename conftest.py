# SPDX-License-Identifier: Apache-2.0
"""For all tests of this repository."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def only_what_these_tests_make_is_looked_through() -> None:
    """Ten thousand tests and what the files before left behind are not searched for garbage again and again."""
    gc.collect()
    gc.freeze()
