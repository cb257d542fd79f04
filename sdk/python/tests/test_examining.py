# SPDX-License-Identifier: Apache-2.0
"""The control plane is asked where a login is at hand; whatever it answers, the walk itself is judged as before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from thalovant import HubDataPlaneEndpoints, ThalovantDoctorReport
from thalovant.examining import examine

LIVE = {
    "status": "live",
    "why": None,
    "ended_at": None,
    "client": {"id": "client-1", "name": "kitchen", "active": True},
    "credential": {"number": 1, "state": "current", "expires_at": None},
    "hub": {"id": "hub-1", "slug": "demo", "name": "Demo", "active": True, "protocols": ["wss", "https", "mqtt"]},
}


@pytest.fixture
def examined(
    hub: Any, api_server: Any, certificates: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ThalovantDoctorReport]:
    """Examine one road of an identity, WSS if nothing is said, signed in to a scripted control plane."""
    monkeypatch.setenv("THALOVANT_API_URL", api_server.url)
    monkeypatch.setenv("THALOVANT_API_TOKEN", "tvpat_not-to-be-printed")
    monkeypatch.setenv("THALOVANT_CA_FILE", str(certificates.ca_file))
    state = str(tmp_path / "noise")
    return lambda road="wss": asyncio.run(examine(hub.identity(), [road], noise_state_dir=state, connect_timeout=20))


def test_it_is_asked_for_this_credential_once(hub: Any, api_server: Any, examined: Any) -> None:
    api_server.will(200, LIVE)
    report = examined()
    assert (report.ok, report.finding, report.control_plane["status"]) == (True, None, "live")
    (seen,) = api_server.seen
    assert (seen.method, seen.path, seen.json) == (
        "POST",
        "/v1/clients/lookup",
        {"access_key": hub.identity().access_key},
    )
    assert report.checks[-1].detail.startswith("the credential is live; client kitchen; hub demo")


def test_a_credential_that_it_does_not_know(hub: Any, api_server: Any, examined: Any) -> None:
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "code": "credential_not_found"}
    api_server.will(404, problem)
    well = examined()
    assert (well.ok, well.finding) == (True, None), "it may be another server's: the road is open"
    hub.script.knows_key = False
    api_server.will(404, problem)
    report = examined()
    assert report.finding is not None and report.finding.code == "credential_unknown"
    assert report.checks[-1].status == "note"


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_control_plane_that_will_not_say_is_a_note(status: int, api_server: Any, examined: Any) -> None:
    api_server.will(status, {"detail": "No.", "status": status})
    report = examined()
    assert (report.ok, report.control_plane) == (True, None)
    assert (report.checks[-1].status, report.checks[-1].ok) == ("note", True)
    assert "not asked: Thalovant API request failed with HTTP" in report.checks[-1].detail


def test_what_it_knows_comes_before_what_only_shows(hub: Any, api_server: Any, examined: Any) -> None:
    hub.script.knows_key = False
    api_server.will(200, {**LIVE, "client": {**LIVE["client"], "active": False}})  # type: ignore[dict-item]
    report = examined()
    assert report.finding is not None and report.finding.code == "client_paused"
    assert (
        report.summary == "The client kitchen is paused. Its owner can resume it: `thalovant clients resume kitchen`."
    )


@pytest.mark.parametrize(
    ("stands", "code", "said"),
    [(True, "port_wrong", "The port in the identity is wrong"), (False, "server_down", "`thalovant-server up`")],
    ids=["the-server-is-up", "the-server-is-down"],
)
def test_a_port_where_nobody_listens(
    stands: bool, code: str, said: str, hub: Any, api_server: Any, examined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    host = urlsplit(api_server.url).hostname
    gone = replace(hub.identity(), data_plane_endpoints=HubDataPlaneEndpoints(wss=f"wss://{host}:{free}/"))
    monkeypatch.setattr(hub, "identity", lambda: gone)
    if stands:
        api_server.will(200, LIVE)
    else:
        monkeypatch.setenv("THALOVANT_API_URL", f"https://{host}:{free}")
    report = examined()
    assert report.finding is not None and report.finding.code == code
    assert report.summary.startswith(f"Nothing listens at {host}:{free}. ") and said in report.summary


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({**LIVE, "broker": {"admitted": True, "operation": None}}, "broker_not_there", "Start the broker"),
        (LIVE, "port_wrong", "The port in the identity is wrong"),
    ],
    ids=["at-a-broker", "at-the-server"],
)
def test_a_broker_that_is_stopped_is_no_wrong_port(
    answer: dict[str, Any], code: str, said: str, hub: Any, api_server: Any, examined: Any, monkeypatch: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    host = urlsplit(api_server.url).hostname
    identity = hub.identity()
    moved = replace(identity, mqtt=replace(identity.mqtt, endpoint=f"mqtts://{host}:{free}"))
    monkeypatch.setattr(hub, "identity", lambda: moved)
    api_server.will(200, answer)
    report = examined("mqtt")
    assert report.finding is not None and report.finding.code == code
    assert report.summary.startswith(f"Nothing listens at {host}:{free}. ") and said in report.summary


@pytest.mark.parametrize(
    ("stands", "code", "said"),
    [(True, "hub_away", "Its server is up"), (False, "server_down", "`thalovant-server up`")],
    ids=["the-server-is-up", "the-server-is-down"],
)
def test_a_hub_that_is_not_at_its_broker(
    stands: bool, code: str, said: str, hub: Any, api_server: Any, examined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.script.puback = 0x10
    if stands:
        api_server.will(200, {**LIVE, "broker": {"admitted": True, "operation": None}})
    else:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            monkeypatch.setenv("THALOVANT_API_URL", f"https://localhost:{taken.getsockname()[1]}")
    report = examined("mqtt")
    assert report.finding is not None and report.finding.code == code
    assert report.summary.startswith("The broker is there, and the hub is not connected to it. ")
    assert said in report.summary


def test_nobody_is_asked_without_a_login(api_server: Any, examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THALOVANT_API_TOKEN")
    report = examined()
    assert (report.ok, api_server.seen) == (True, [])
    assert "nobody is signed in" in report.checks[-1].detail


def test_damaged_noise_state(examined: Any, api_server: Any, tmp_path: Path) -> None:
    api_server.will(200, LIVE)
    assert examined().ok
    (key,) = (tmp_path / "noise").glob("*.key")
    key.write_text("damaged")
    api_server.will(200, LIVE)
    report = examined()
    assert report.finding is not None and report.finding.code == "noise_state_unusable"
    assert str(key) in report.summary and "Restore the file from a backup" in report.summary
