# SPDX-License-Identifier: Apache-2.0
"""The road itself: our SDK asks the real server over each carrier."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thalovant import (
    AsyncThalovantClient,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantIdentity,
    ThalovantRuntimeError,
    ThalovantUnsupportedProtocolError,
)
from thalovant.protocol import noise
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer

CARRIERS = ("mqtt", "wss", "https")
SAMPLE = Path(__file__).parents[3] / "examples/seed_sample.py"


def test_the_seed_sample_runs_with_our_sdk(server: ServerProcess, tmp_path: Path) -> None:
    email, password = server.admin
    program = tmp_path / "sample.py"
    program.write_text(
        SAMPLE.read_text()
        .replace('"you@example.com", "password"', f'"{email}", "{password}"')
        .replace('"hub-id"', f'"{server.ready["hub_id"]}"')
    )
    environment = {**os.environ, **server.environment, "THALOVANT_API_URL": server.ready["api_url"]}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", program], env=environment, capture_output=True, text=True
    )
    assert (run.stdout, run.stderr, run.returncode) == ("Reply over MQTT.\n", "", 0)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_ask_is_answered(carrier: str, identity: ThalovantIdentity) -> None:
    with ThalovantClient(identity, protocol=carrier) as client:
        for text in ("one", "zwei 二 🙂", "x" * 200_000):
            reply = client.ask(text)
            assert (reply.text, reply.handled) == (text, True)
        assert client.healthcheck().ok
        assert client.connection_info().phase == "ready"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_parts_arrive_in_order_and_the_ask_ends_with_the_answer(
    carrier: str, api: ThalovantControlPlane, make_hub: Callable[..., str]
) -> None:
    hub = make_hub(f"parts-{carrier}", agent="parts")
    identity = api.create_client_identity(hub, name="parts").identity
    with ThalovantClient(identity, protocol=carrier, reply_settle_seconds=3600.0) as client:
        assert client.ask("a b c a").utterances == ("a", "b", "c", "a")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_one_client_asks_many_things_at_once(carrier: str, identity: ThalovantIdentity) -> None:
    async def main() -> None:
        async with AsyncThalovantClient(identity, protocol=carrier) as client:
            texts = [f"question {n}" for n in range(30)]
            replies = await asyncio.gather(*(client.ask(text) for text in texts))
            assert [reply.text for reply in replies] == texts

    asyncio.run(main())


def test_fifty_clients_ask_at_once_and_each_gets_its_own_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that stretches passwords cheaply: a hundred times would be most of this file's time."""
    monkeypatch.setattr(noise, "stretch", cheap_stretch)

    async def main(identities: list[ThalovantIdentity]) -> None:
        clients = [AsyncThalovantClient(each, protocol=CARRIERS[n % 3]) for n, each in enumerate(identities)]
        await asyncio.gather(*(client.connect() for client in clients))
        for turn in range(3):
            replies = await asyncio.gather(*(client.ask(f"{n} in {turn}") for n, client in enumerate(clients)))
            assert [reply.text for reply in replies] == [f"{n} in {turn}" for n in range(50)]
        await asyncio.gather(*(client.close() for client in clients))

    with InProcessServer(tmp_path / "data") as cheap:
        ca = Path(cheap.ready["ca_file"]).read_text()
        with ThalovantControlPlane(cheap.ready["api_url"], ca_pem=ca) as api:
            api.login(*cheap.admin)
            asyncio.run(main([api.create_client_identity("demo", name=f"client-{n}").identity for n in range(50)]))


def test_a_synchronous_agent_that_sleeps_delays_nobody_else(
    api: ThalovantControlPlane, make_hub: Callable[..., str]
) -> None:
    hub = make_hub("sleepy", agent="sleepy")
    sleeper, other = (api.create_client_identity(hub, name=name).identity for name in ("sleeper", "other"))

    async def main() -> None:
        async with (
            AsyncThalovantClient(sleeper, protocol="mqtt") as slow,
            AsyncThalovantClient(other, protocol="wss") as quick,
        ):
            asleep = asyncio.create_task(slow.ask("sleep"))
            replies = [await quick.ask(str(n)) for n in range(20)]
            assert not asleep.done()
            assert [reply.text for reply in replies] == [f"woke for {n}" for n in range(20)]
            assert (await asleep).text == "woke for sleep"

    asyncio.run(main())


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_agent_that_fails_is_an_error_without_its_insides(
    carrier: str, api: ThalovantControlPlane, make_hub: Callable[..., str]
) -> None:
    identity = api.create_client_identity(make_hub(f"raises-{carrier}", agent="raises"), name="unlucky").identity
    with ThalovantClient(identity, protocol=carrier) as client:
        with pytest.raises(ThalovantRuntimeError) as caught:
            client.ask("anything")
        assert "the-agents-own-secret" not in str(caught.value)


def test_an_ask_past_its_deadline_ends_by_itself(api: ThalovantControlPlane, make_hub: Callable[..., str]) -> None:
    identity = api.create_client_identity(make_hub("forever", agent="forever"), name="patient").identity
    with ThalovantClient(identity, protocol="mqtt") as client:
        client.connect()
        reply = client.ask("are you done?", timeout=1.0)
        assert (reply.text, reply.handled) == ("so far", False)


def test_a_client_made_while_mqtt_was_off_has_no_mqtt(api: ThalovantControlPlane, make_hub: Callable[..., str]) -> None:
    hub = make_hub("no-mqtt", carriers=("wss",))
    before = api.create_client_identity(hub, name="before").identity
    assert before.mqtt is None
    with pytest.raises(ThalovantUnsupportedProtocolError, match="fresh identity"):
        ThalovantClient(before, protocol="mqtt")
    now = api.get_hub(hub)
    api.update_hub(hub, {"spec": {"protocols": {"mqtt": {"enabled": True}}}}, etag=now["etag"])
    after = api.create_client_identity(hub, name="after").identity
    with ThalovantClient(after, protocol="mqtt") as client:
        assert client.ask("now?").text == "now?"


def test_an_identity_file_works_without_any_certificate_variable(
    identity: ThalovantIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name)
    identity.save(tmp_path / "device.json")
    for carrier in CARRIERS:
        with ThalovantClient.from_identity_file(tmp_path / "device.json", protocol=carrier) as client:
            assert client.ask(carrier).text == carrier
