# SPDX-License-Identifier: Apache-2.0
"""The published SDK, unmodified, in its own process and environment, against our server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig import AGENTS, ROOT, Published, PublishedError
from thalovant import ThalovantControlPlane
from thalovant_server.testing import ServerProcess

pytestmark = pytest.mark.published

CARRIERS = ("wss", "https", "mqtt")


@pytest.fixture
def make_identity(server: ServerProcess, published: Published, tmp_path: Path) -> Callable[..., Path]:
    """Have the published SDK create an identity; its file is answered."""

    def make(name: str, hub: str | None = None) -> Path:
        email, password = server.admin
        file = tmp_path / f"{name}.json"
        made = published(
            "create_identity", url=server.ready["api_url"], email=email, password=password,
            hub=hub or server.ready["hub_id"], name=name, file=str(file),
        )  # fmt: skip
        assert made["mqtt"] is True
        return file

    return make


def make_hub(api: ThalovantControlPlane, name: str, agent: str | None = None) -> dict[str, Any]:
    """Make a hub with every carrier on."""
    protocols = {name: {"enabled": True} for name in ("wss", "http", "mqtt")}
    return api.create_hub({"name": name, "spec": {"version": "1", "protocols": protocols, "agent": agent}})


def test_it_is_the_published_sdk_that_is_tested(published: Published) -> None:
    seen = published("version")
    assert seen["version"] == "0.9.7"
    assert ".cache/published/" in seen["file"]


def test_the_seed_sample_runs_unchanged_but_for_address_and_login(
    server: ServerProcess, published: Published, tmp_path: Path
) -> None:
    email, password = server.admin
    sample = (ROOT / "examples/seed_sample.py").read_text()
    changed = (
        sample.replace('ThalovantControlPlane()', f'ThalovantControlPlane("{server.ready["api_url"]}")')
        .replace('"you@example.com", "password"', f'"{email}", "{password}"')
        .replace('"hub-id"', f'"{server.ready["hub_id"]}"')
    )  # fmt: skip
    assert len(changed.splitlines()) == len(sample.splitlines())
    program = tmp_path / "sample.py"
    program.write_text(changed)
    assert published("run_file", file=str(program)).strip() == "Reply over MQTT."


@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_asks(carrier: str, published: Published, make_identity: Callable[..., Path], tmp_path: Path) -> None:
    file = make_identity(f"asks-{carrier}")
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    for text in ("one", "zwei 二 🙂", "x" * 100_000):
        answer = published("ask", key="c", text=text)
        assert (answer["text"], answer["handled"]) == (text, True)
    published("close", key="c")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_part_400_ms_after_the_first_still_arrives(
    carrier: str,
    published: Published,
    make_identity: Callable[..., Path],
    api: ThalovantControlPlane,
    tmp_path: Path,
) -> None:
    hub = make_hub(api, f"late-{carrier}", agent="late")
    file = make_identity("late", hub["id"])
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    answer = published("ask", key="c", text="all")
    assert answer["utterances"] == ["first of all", "last of all"]
    published("close", key="c")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_denial_arrives_as_its_own_error(
    carrier: str, published: Published, make_identity: Callable[..., Path], tmp_path: Path
) -> None:
    file = make_identity(f"denied-{carrier}")
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    (denied,) = published("wait_for_event", key="c", send="not.allowed", wait="hive.policy.denied")
    assert denied["data"]["code"] == "acl_disallowed_type"
    assert denied["data"]["denied_type"] == "not.allowed"
    assert published("ask", key="c", text="still here")["text"] == "still here"
    published("close", key="c")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_ask_that_is_denied_raises_the_policy_error(
    carrier: str,
    published: Published,
    make_identity: Callable[..., Path],
    api: ThalovantControlPlane,
    server: ServerProcess,
    tmp_path: Path,
) -> None:
    created = api.create_client(
        {
            "hub_id": server.ready["hub_id"],
            "name": f"mute-{carrier}",
            "spec": {"version": "1", "allowed_types": []},
        }
    )
    endpoints = api.get_hub(server.ready["hub_id"])["data_plane_endpoints"]
    file = tmp_path / "mute.json"
    file.write_text(json.dumps({**created["initial_identify"], "data_plane_endpoints": endpoints}))
    file.chmod(0o600)
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    with pytest.raises(PublishedError, match="recognizer_loop:utterance") as caught:
        published("ask", key="c", text="may I?")
    assert caught.value.name == "ThalovantPolicyDeniedError"
    assert caught.value.code == "acl_disallowed_type"
    published("close", key="c")


def test_two_hubs_share_one_state_folder_on_every_carrier(
    published: Published, make_identity: Callable[..., Path], api: ThalovantControlPlane, tmp_path: Path
) -> None:
    other = make_hub(api, "other-hub")
    files = {"demo": make_identity("here"), "other": make_identity("there", other["id"])}
    noise = str(tmp_path / "one-folder")
    for carrier in CARRIERS:
        for hub, file in files.items():
            published("open_client", key=f"{hub}-{carrier}", file=str(file), protocol=carrier, noise=noise)
    for carrier in CARRIERS:
        for hub in files:
            assert published("ask", key=f"{hub}-{carrier}", text=f"{hub} {carrier}")["text"] == f"{hub} {carrier}"
            published("close", key=f"{hub}-{carrier}")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_after_a_restart_the_next_session_is_kk(carrier: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", environment={"PYTHONPATH": str(AGENTS)}, strict=True) as server:
        published = Published(server, tmp_path / "home")
        email, password = server.admin
        file, noise = tmp_path / "identity.json", tmp_path / "noise"
        published(
            "create_identity", url=server.ready["api_url"], email=email, password=password,
            hub=server.ready["hub_id"], name="restarted", file=str(file),
        )  # fmt: skip
        published("open_client", key="c", file=str(file), protocol=carrier, noise=str(noise))
        assert published("ask", key="c", text="before")["text"] == "before"
        assert patterns(server) == ["XXpsk2"]
        assert server.stop() == 0
        server.start()
        assert ask_until_answered(published, "after") == "after"
        assert set(patterns(server)) == {"KKpsk0"}
        published("close", key="c")
        published.close()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_wrong_password_is_refused(
    carrier: str, published: Published, make_identity: Callable[..., Path], tmp_path: Path
) -> None:
    file = make_identity(f"wrong-{carrier}")
    identity = json.loads(file.read_text())
    identity["password"] = "w" * 43
    file.write_text(json.dumps(identity))
    with pytest.raises(PublishedError) as caught:
        published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    assert "ThalovantConnectionError" in caught.value.kinds


def patterns(server: ServerProcess) -> list[str]:
    """The Noise patterns of the sessions that got ready, read from the server's log."""
    return re.findall(r"session_ready.*?pattern[\"']?[=:] ?[\"']?(\w+)", "".join(server.output))


def ask_until_answered(published: Published, text: str, tries: int = 4) -> str:
    """Ask again after an error: the published SDK learns of a lost link from a failing ask (contract 10.3)."""
    for _ in range(tries - 1):
        try:
            return str(published("ask", key="c", text=text)["text"])
        except PublishedError:
            continue
    return str(published("ask", key="c", text=text)["text"])
