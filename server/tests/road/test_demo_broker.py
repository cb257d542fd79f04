# SPDX-License-Identifier: Apache-2.0
"""`make demo-broker`, run as it is typed: a reply comes through Mosquitto, and a neighbour hears nothing there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_demo_shows_a_reply_and_a_refusal(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "scripts/demo_broker.py"], capture_output=True, text=True, timeout=100, cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    broker = re.search(r"clients meet it at (mqtts://localhost:\d+) ", run.stdout)
    assert broker is not None
    assert re.search(r"mqtt +'Reply over MQTT\.' +connected in [\d.]+ ms, answered in [\d.]+ ms", run.stdout)
    assert "is told: All subscription requests were denied." in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
