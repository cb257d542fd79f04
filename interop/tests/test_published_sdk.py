# SPDX-License-Identifier: Apache-2.0
"""The published SDK, unmodified, in its own process and environment, against our server."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
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


def foreign_identity(api: ThalovantControlPlane, server: ServerProcess, file: Path, spec: dict[str, Any]) -> None:
    """Make a client with that spec, and the file that the published SDK reads."""
    body = {"hub_id": server.ready["hub_id"], "name": file.stem, "spec": {"version": "1", **spec}}
    created = api.create_client(body)
    endpoints = api.get_hub(server.ready["hub_id"])["data_plane_endpoints"]
    file.write_text(json.dumps({**created["initial_identify"], "data_plane_endpoints": endpoints}))
    file.chmod(0o600)


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


def test_it_begins_asks_for_and_gets_a_device_login(
    server: ServerProcess, published: Published, api: ThalovantControlPlane
) -> None:
    url, (email, password) = server.ready["api_url"], server.admin
    yes = published("begin_device_login", url=url, key="yes", scopes=["hubs:read"], client_name="published")
    no = published("begin_device_login", url=url, key="no", scopes=None, client_name=None)
    assert yes["uri"].endswith(yes["user_code"]) and yes["interval"] == 5
    assert published("poll_device_login", key="yes") == {"error": "ThalovantDeviceLoginPending"}
    described = published("describe_device_login", url=url, email=email, password=password, user_code=yes["user_code"])
    assert described == {"scopes": ["hubs:read"], "client_name": "published", "client_verified": False}
    api.approve_device_login(yes["user_code"])
    api.deny_device_login(no["user_code"])
    got = published("poll_device_login", key="yes")
    assert got == {"scopes": ["hubs:read"], "has_id": True, "expires": True, "hubs": ["demo"]}
    assert published("poll_device_login", key="yes") == {"error": "ThalovantDeviceLoginExpired"}
    assert published("poll_device_login", key="no") == {"error": "ThalovantDeviceLoginDenied"}


def test_it_signs_in_by_a_browser(
    server: ServerProcess, published: Published, api: ThalovantControlPlane, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"

    def approve() -> None:
        while not shown.exists():  # the file is another process's: there is no event to wait for
            time.sleep(0.05)
        api.approve_device_login(json.loads(shown.read_text())["user_code"])

    person = threading.Thread(target=approve, name="person")
    person.start()
    told = published("login_with_browser", url=server.ready["api_url"], shown=str(shown))
    person.join()
    assert "access_token" in told["members"] and told["hubs"] == ["demo"]


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
    carrier: str, published: Published, api: ThalovantControlPlane, server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / f"mute-{carrier}.json"
    foreign_identity(api, server, file, {"allowed_types": []})
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    with pytest.raises(PublishedError, match="recognizer_loop:utterance") as caught:
        published("ask", key="c", text="may I?")
    assert caught.value.name == "ThalovantPolicyDeniedError"
    assert caught.value.code == "acl_disallowed_type"
    published("close", key="c")


@pytest.fixture
def opened(
    published: Published, make_identity: Callable[..., Path], api: ThalovantControlPlane, tmp_path: Path
) -> Iterator[Callable[..., None]]:
    """Open a client as "c", of a hub with that agent, over that carrier."""

    def open_client(carrier: str, agent: str) -> None:
        hub = make_hub(api, f"{agent} {carrier} {tmp_path.name}"[:60], agent=agent)
        file = make_identity(f"{agent}-{carrier}", hub["id"])
        published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))

    yield open_client
    published("close", key="c")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_queries(carrier: str, published: Published, opened: Callable[..., None]) -> None:
    opened(carrier, "words")
    answer = published("query", key="c", text="one two one")
    assert answer["utterances"] == ["one", "two", "one"]
    assert (answer["handled"], answer["events"]) == (True, ["speak"] * 3 + ["hive.query.complete"])
    assert published("query", key="c", text="x" * 100_000)["text"] == "x" * 100_000


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_query_without_an_answer_ends_at_once(
    carrier: str, published: Published, opened: Callable[..., None]
) -> None:
    opened(carrier, "mute")
    with pytest.raises(PublishedError, match="no_answer") as caught:
        published("query", key="c", text="anybody?", timeout=60.0)
    assert "ThalovantRuntimeError" in caught.value.kinds


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_refused_query_raises_the_policy_error_at_once(
    carrier: str, published: Published, api: ThalovantControlPlane, server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / f"mute-query-{carrier}.json"
    foreign_identity(api, server, file, {"allowed_types": []})
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    with pytest.raises(PublishedError, match="recognizer_loop:utterance") as caught:
        published("query", key="c", text="may I?", timeout=60.0)
    assert (caught.value.name, caught.value.code) == ("ThalovantPolicyDeniedError", "acl_disallowed_type")
    published("close", key="c")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_without_the_grant_a_query_ends_the_connection_and_an_ask_works_again(
    carrier: str, published: Published, api: ThalovantControlPlane, server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / f"no-grant-{carrier}.json"
    foreign_identity(api, server, file, {"can_escalate": False})
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    with pytest.raises(PublishedError) as caught:
        published("query", key="c", text="may I?", timeout=5.0)
    assert "ThalovantError" in caught.value.kinds
    assert ask_until_answered(published, "but I may ask") == "but I may ask"
    published("close", key="c")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_converses(carrier: str, published: Published, opened: Callable[..., None]) -> None:
    opened(carrier, "inputs")
    seen = published("converse", key="c", texts=["one", "two"])
    answers = [json.loads(answer) for answer in [*seen["answers"], seen["query"]]]
    assert answers == [[seen["session_id"], text, None] for text in ("one", "two", "query")]
    named = published("converse", key="c", texts=["three"], session_id="by-name")
    assert json.loads(named["answers"][0])[0] == named["session_id"] == "by-name"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_listens(carrier: str, published: Published, opened: Callable[..., None]) -> None:
    opened(carrier, "words")
    heard = published("listen", key="c", text="hello", max_events=3)
    assert [event["text"] for event in heard] == ["hello"] * 3
    assert len({event["request_id"] for event in heard}) == 3
    assert published("ask", key="c", text="still here")["text"] == "still here"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_replies(carrier: str, published: Published, opened: Callable[..., None]) -> None:
    opened(carrier, "words")
    first, second = published("reply_to", key="c", text="question", answer="answer")
    assert (first["text"], second["text"]) == ("question", "answer")
    assert first["context"]["request_id"] == second["context"]["request_id"]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_its_actions_and_codes_reach_the_agent(carrier: str, published: Published, opened: Callable[..., None]) -> None:
    opened(carrier, "inputs")
    action, code = (json.loads(text)[1:] for text in published("act", key="c"))
    assert action == ["/yes", {"kind": "action", "title": "Yes", "payload": "/yes"}]
    assert code == ["1234", {"kind": "code", "label": "PIN", "value": "1234", "exact": True}]


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
def test_it_sees_a_refusal_while_its_client_is_paused(
    carrier: str, published: Published, make_identity: Callable[..., Path], api: ThalovantControlPlane, tmp_path: Path
) -> None:
    file = make_identity(f"paused-{carrier}")
    client = api.lookup_credential(json.loads(file.read_text())["access_key"])["client"]["id"]
    api.pause_client(client)
    with pytest.raises(PublishedError) as caught:
        published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    # It has one error for whatever a broker answers; CONNACK 5 is what it got before pauses had a word, too.
    expected = "ThalovantConnectionError" if carrier == "mqtt" else "ThalovantHubRefusedError"
    assert caught.value.name == expected, str(caught.value)
    api.resume_client(client)
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    assert published("ask", key="c", text="back")["text"] == "back"
    published("close", key="c")


def test_it_asks_with_both_credentials_of_a_rotation_until_it_is_finished(
    published: Published, make_identity: Callable[..., Path], api: ThalovantControlPlane, tmp_path: Path
) -> None:
    old, new = make_identity("rotated"), tmp_path / "new.json"
    client = api.lookup_credential(json.loads(old.read_text())["access_key"])["client"]["id"]
    api.rotate_client_identity(client).identity.save(new)
    noise = str(tmp_path / "one-folder")
    for carrier in CARRIERS:
        for file in (old, new):
            key = f"{file.stem}-{carrier}"
            published("open_client", key=key, file=str(file), protocol=carrier, noise=noise)
            assert published("ask", key=key, text=key)["text"] == key
    api.finish_rotation(client)
    for carrier in CARRIERS:
        with pytest.raises(PublishedError) as caught:
            published("ask", key=f"rotated-{carrier}", text="still there?")
        assert "ThalovantConnectionError" in caught.value.kinds
        assert published("ask", key=f"new-{carrier}", text="moved")["text"] == "moved"
        for name in ("rotated", "new"):
            published("close", key=f"{name}-{carrier}")


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


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_used_up_quota_is_its_quota_error(
    carrier: str, published: Published, api: ThalovantControlPlane, server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / f"quota-{carrier}.json"
    foreign_identity(api, server, file, {"daily_quota": 1})
    published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    assert published("ask", key="c", text="one")["text"] == "one"
    for do in ("ask", "query"):
        with pytest.raises(PublishedError) as caught:
            published(do, key="c", text="two")
        assert (caught.value.name, caught.value.code) == ("ThalovantPolicyDeniedError", "intent_quota_exceeded")
        assert caught.value.quota is not None
        assert 0 < caught.value.quota.pop("reset_after") <= 86_400
        assert caught.value.quota == {"period": "daily", "limit": 1, "used": 1}
    published("close", key="c")
