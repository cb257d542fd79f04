# SPDX-License-Identifier: Apache-2.0
"""Identities that our SDK wrote, read by the published one: a file, a profile, the environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rig import PUBLISHED_PYTHON
from thalovant import ThalovantIdentity
from thalovant.config import Login, save_login

pytestmark = pytest.mark.published

READ = """
import json, sys
from thalovant import ThalovantIdentity
way, place = sys.argv[1:]
ways = {"file": ThalovantIdentity.from_file, "config": ThalovantIdentity.from_config}
try:
    identity = ways[way](place) if way in ways else ThalovantIdentity.from_env(place)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps([identity.as_dict(include_secrets=True), identity.enabled_protocols()]))
"""
IDENTITY: dict[str, Any] = {
    "access_key": "the-key",
    "password": "it's $a \\ password",
    "site_id": "kitchen",
    "default_master": "wss://hub.example:8443/hubs/a",
    "default_port": 8443,
    "data_plane_endpoints": {"https": "https://h:1/hubs/a", "wss": "wss://h:1/hubs/a", "mqtt": "mqtts://h:2"},
    "protocols": {"wss": {"enabled": False}, "http": {"enabled": True}, "mqtt": {"enabled": True}},
    "mqtt": {
        "endpoint": "mqtts://h:2",
        "username": "u",
        "password": "b",
        "topic_prefix": "hubs/a/clients/b",
        "c2s_topic": "hubs/a/clients/b/c2s",
        "s2c_topic": "hubs/a/clients/b/s2c",
        "tls": True,
    },
    "metadata": {"room": "Küche", "tags": ["a: b", 1, None], "none": {}, "deep": {"yes": "no", "since": "2026-01-01"}},
    "ca_pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
}


def published(way: str, place: object, home: Path, **variables: str) -> tuple[dict[str, Any], list[str]]:
    """What the published SDK makes of it: the identity's mapping and the carriers it takes to be on."""
    ran = subprocess.run(
        [PUBLISHED_PYTHON, "-c", READ, way, str(place)],
        capture_output=True, text=True, env={"HOME": str(home), **variables}, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    mapping, enabled = json.loads(ran.stdout)
    return mapping, enabled


@pytest.mark.parametrize("way", ["file", "config", "env"])
def test_it_reads_what_it_knows_of(way: str, tmp_path: Path) -> None:
    identity = ThalovantIdentity.from_mapping(IDENTITY)
    if way == "file":
        mapping, enabled = published(way, identity.save(tmp_path / "identity.json"), tmp_path)
    elif way == "config":
        save_login(Login("https://h:1", IDENTITY["ca_pem"], "token"), tmp_path / "config.yaml")
        identity.save_to_config(tmp_path / "config.yaml", profile="kitchen")
        mapping, enabled = published(way, tmp_path / "config.yaml", tmp_path)
    else:
        mapping, enabled = published(way, "MY_", tmp_path, **identity.as_env("MY_"))
    assert enabled == (["wss"] if way == "env" else ["https", "mqtt"])  # the environment has no name for it there
    expected = identity.as_dict(include_secrets=True)
    del expected["ca_pem"]  # ours
    if way == "env":
        del expected["metadata"]
    del expected["mqtt"]["c2s_topic"], expected["mqtt"]["s2c_topic"]
    assert mapping == expected
