# SPDX-License-Identifier: Apache-2.0
"""A client that lost its Noise key is refused until an operator resets the pin; then its new key is the pinned one."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2
import pytest

from thalovant import ThalovantClient, ThalovantClientKeyRejectedError, ThalovantControlPlane, ThalovantIdentity
from thalovant_server.testing import ServerProcess


def ask(identity: ThalovantIdentity, noise: Path, text: str) -> str:
    """Ask over WSS with the key in ``noise``; a folder that is not there gets a new key."""
    client = ThalovantClient(identity, protocol="wss", auto_reconnect=False, noise_state_dir=noise)
    with client:
        return client.ask(text, timeout=10).text


def reset_key(server: ServerProcess, client_id: str) -> int:
    """Do what the operations page tells; return the status."""
    url = f"{server.ready['api_url']}/v1/clients/{client_id}/credentials/1/reset-key"
    with httpx2.Client() as http:  # trusts the server by the variables that `api` has set
        email, password = server.admin
        login = http.post(f"{server.ready['api_url']}/v1/auth/token", json={"email": email, "password": password})
        return http.post(url, headers={"authorization": f"Bearer {login.json()['access_token']}"}).status_code


def test_a_lost_key_is_refused_until_it_is_reset(
    api: ThalovantControlPlane, server: ServerProcess, tmp_path: Path
) -> None:
    made = api.create_client_identity(server.ready["hub_id"], name="lost-key")
    first, second = tmp_path / "first", tmp_path / "second"
    assert ask(made.identity, first, "hello") == "hello"
    shutil.copytree(first, tmp_path / "kept")
    shutil.rmtree(first)
    with pytest.raises(ThalovantClientKeyRejectedError):
        ask(made.identity, second, "let me in")
    assert made.client_id is not None
    assert reset_key(server, made.client_id) == 204
    assert ask(made.identity, second, "here again") == "here again"
    assert ask(made.identity, second, "and by KK") == "and by KK"
    with pytest.raises(ThalovantClientKeyRejectedError):  # the new key is pinned: the old one is refused now
        ask(made.identity, tmp_path / "kept", "the old key")
