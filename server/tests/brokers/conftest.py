# SPDX-License-Identifier: Apache-2.0
"""One real Mosquitto for each file of tests; each test has a topic root of its own there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thalovant_server.testing.mosquitto import MosquittoProcess


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A Mosquitto of our own configuration."""
    with MosquittoProcess(Path(tmp_path_factory.mktemp("broker")) / "mosquitto") as broker:
        yield broker
