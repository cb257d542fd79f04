# SPDX-License-Identifier: Apache-2.0
"""Schemathesis holds a running server to its API document: no 5xx, no break of a shape, no route without a token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thalovant import ThalovantControlPlane
from thalovant_server.testing import ServerProcess

# A schema cannot say all that a body has to keep to (bounds over all of it, what a scope may name), so what it lets
# through may still be refused, with 422; everything else that Schemathesis knows is checked.
LEFT_OUT = "positive_data_acceptance"
# A stream of events ends with its reader only.
ENDLESS = "watch_presence"
EXAMPLES = 6
CONFIGURATION = """
[headers]
Authorization = "Bearer ${THALOVANT_TEST_TOKEN}"
"""


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> ServerProcess:
    """A server of its own: what is thrown at it removes hubs and uses up logins."""
    with ServerProcess(tmp_path_factory.mktemp("schemathesis") / "data", strict=True) as running:
        yield running


def test_the_server_keeps_to_its_document(own_server: ServerProcess, tmp_path: Path) -> None:
    with ThalovantControlPlane(
        own_server.ready["api_url"], ca_pem=Path(own_server.ready["ca_file"]).read_text()
    ) as plane:
        plane.login(*own_server.admin)
        token = plane.access_token
    assert token
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    run = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", f"{own_server.ready['api_url']}/v1/openapi.json",
            "--tls-verify", own_server.ready["ca_file"], "--max-examples", str(EXAMPLES), "--no-color",
            "--exclude-checks", LEFT_OUT, "--exclude-operation-id", ENDLESS,
        ],
        capture_output=True, text=True, cwd=tmp_path, timeout=110,
        env={**os.environ, **own_server.environment, "THALOVANT_TEST_TOKEN": token},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr
    assert "Tested: " in run.stdout and " 0 " not in run.stdout.split("Tested:")[1].splitlines()[0] + " "
