# SPDX-License-Identifier: Apache-2.0
"""The whole road through a real Mosquitto, with real servers and our SDK, and each of the three going away."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant.errors import ThalovantError, ThalovantTimeoutError
from thalovant_server.brokers import mosquitto_files
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.mosquitto import MosquittoProcess
from thalovant_server.testing.proxy import Proxy

PATIENCE = 30.0
AGENTS = Path(__file__).parent / "agents"
Join = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A Mosquitto for this file. What a test does to it, it undoes."""
    with MosquittoProcess(tmp_path_factory.mktemp("broker") / "broker") as running:
        yield running


@pytest.fixture(scope="module")
def proxy(broker: MosquittoProcess) -> Iterator[Proxy]:
    """The servers' own way to the broker; clients have another one."""
    with Proxy("localhost", broker.port) as way:
        yield way


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, broker: MosquittoProcess, proxy: Proxy) -> Iterator[ServerProcess]:
    """A server that has joined it."""
    folder = tmp_path_factory.mktemp("road")
    options = [each.replace(f":{broker.port}", f":{proxy.port}") for each in broker.options]
    options += ["--broker-public-url", broker.url]
    agents = [f"{name}=python:road_agents:{name}" for name in ("counted", "parts")]
    environment = {"PYTHONPATH": str(AGENTS), "ROAD_COUNT": str(folder / "count")}
    with ServerProcess(folder / "data", agents=agents, options=options, environment=environment, strict=True) as up:
        yield up


@contextlib.contextmanager
def signed_in(server: ServerProcess) -> Iterator[ThalovantControlPlane]:
    with ThalovantControlPlane(server.ready["api_url"], ca_pem=Path(server.ready["ca_file"]).read_text()) as plane:
        plane.login(*server.admin)
        yield plane


def identity_of(server: ServerProcess, name: str, hub_id: str | None = None) -> ThalovantIdentity:
    with signed_in(server) as plane:
        return plane.create_client_identity(hub_id or server.ready["hub_id"], name=name).identity


def make_hub(server: ServerProcess, agent: str) -> str:
    spec = {"version": "1", "agent": agent, "protocols": {"mqtt": {"enabled": True, "via": "link"}}}
    with signed_in(server) as plane:
        return str(plane.create_hub({"name": agent, "spec": spec})["id"])


@pytest.fixture
def client(server: ServerProcess) -> Iterator[ThalovantClient]:
    """A client that is connected."""
    with ThalovantClient(identity_of(server, "road"), protocol="mqtt") as made:
        assert made.ask("hello", timeout=PATIENCE).text == "hello"
        yield made


def until_it_answers(client: ThalovantClient, text: str) -> None:
    """Ask until there is an answer: each ask ends in one, or in an error that says what is wrong."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            assert client.ask(text, timeout=PATIENCE).text == text
            return
        except ThalovantError as error:
            assert str(error) and time.monotonic() < until
            threading.Event().wait(0.1)


def sessions(server: ServerProcess, begun_after: int = 0) -> int:
    return sum("event=session_ready" in line for line in server.output[begun_after:])


def test_the_way_of_the_first_page(server: ServerProcess, broker: MosquittoProcess, client: ThalovantClient) -> None:
    identity = identity_of(server, "first")
    assert identity.mqtt is not None and identity.mqtt.endpoint == broker.url
    with ThalovantClient(identity, protocol="mqtt") as made:
        assert made.ask("through the broker", timeout=PATIENCE).text == "through the broker"
        long = "x" * 200_000
        assert made.ask(long, timeout=PATIENCE).text == long


def test_two_hubs_of_one_server_never_meet(server: ServerProcess, client: ThalovantClient) -> None:
    other = make_hub(server, "parts")
    with ThalovantClient(identity_of(server, "other", other), protocol="mqtt") as made:
        assert made.ask("one two", timeout=PATIENCE).utterances == ("one", "two")
        assert client.ask("x", timeout=PATIENCE).text == "x"
        with signed_in(server) as plane:
            online = {hub: {each.name for each in plane.presence(hub)} for hub in (other, server.ready["hub_id"])}
        assert online[other] == {"other"} and "other" not in online[server.ready["hub_id"]]


def test_a_link_that_is_cut_is_no_business_of_the_clients(
    server: ServerProcess, proxy: Proxy, client: ThalovantClient
) -> None:
    before = len(server.output)
    for number in range(3):
        proxy.cut()
        assert client.ask(f"{number}", timeout=PATIENCE).text == f"{number}"
    assert "session_present=true" in server.wait_for_line("broker_link_up", PATIENCE, after=before)
    assert sessions(server, before) == 0


def test_an_answer_that_is_due_while_the_link_is_down_comes_later(
    server: ServerProcess, proxy: Proxy, client: ThalovantClient
) -> None:
    hub_id = make_hub(server, "counted")
    count, before = server.data.parent / "count", len(server.output)
    with ThalovantClient(identity_of(server, "counted", hub_id), protocol="mqtt") as made:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(made.ask("1 later", timeout=PATIENCE).text))
        asking.start()
        while not count.exists():
            asking.join(0.01)
        proxy.refuse()
        server.wait_for_line("broker_link_down", PATIENCE, after=before)
        proxy.accept()
        asking.join(PATIENCE)
        assert answers == ["one 1 later"] and len(count.read_text().splitlines()) == 1


def test_a_broker_that_is_stopped_and_started(
    server: ServerProcess, broker: MosquittoProcess, client: ThalovantClient
) -> None:
    for end in (broker.stop, broker.kill):
        before = len(server.output)
        end()
        server.wait_for_line("broker_link_down", PATIENCE, after=before)
        broker.start()
        until_it_answers(client, "again")


def test_a_broker_that_stands_still(broker: MosquittoProcess, client: ThalovantClient) -> None:
    broker.freeze()
    try:
        with pytest.raises(ThalovantTimeoutError):
            client.ask("into silence", timeout=1.0)
    finally:
        broker.thaw()
    until_it_answers(client, "awake")


def test_a_broker_that_is_installed_anew(
    server: ServerProcess, broker: MosquittoProcess, client: ThalovantClient
) -> None:
    before = len(server.output)
    broker.kill()
    broker.wipe()
    broker.start()
    server.wait_for_line("broker_link_up", PATIENCE, after=before)
    until_it_answers(client, "known again")


def test_a_broker_with_a_new_certificate(
    server: ServerProcess, broker: MosquittoProcess, proxy: Proxy, client: ThalovantClient
) -> None:
    certificate = broker.folder / mosquitto_files.SERVER_CERTIFICATE
    before = certificate.read_bytes()
    certificate.unlink()
    broker.write()
    assert certificate.read_bytes() != before
    broker.reload()
    proxy.cut()
    until_it_answers(client, "still trusted")
    with ThalovantClient(identity_of(server, "later"), protocol="mqtt") as made:
        assert made.ask("me too", timeout=PATIENCE).text == "me too"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_starts_again_while_its_clients_stay_at_the_broker(
    server: ServerProcess, client: ThalovantClient, end: str
) -> None:
    getattr(server, end)()
    server.start()
    until_it_answers(client, "hello again")


def test_a_second_server_has_a_root_of_its_own(
    tmp_path: Path, server: ServerProcess, broker: MosquittoProcess, client: ThalovantClient
) -> None:
    options = [*broker.options, "--broker-root", "second/house"]
    with ServerProcess(tmp_path / "data", options=options, strict=True) as second:
        before = len(server.output)
        identity = identity_of(second, "second")
        assert identity.mqtt is not None and identity.mqtt.topic_prefix.startswith("second/house/hubs/")
        with ThalovantClient(identity, protocol="mqtt") as made:
            assert made.ask("second", timeout=PATIENCE).text == "second"
            assert client.ask("first", timeout=PATIENCE).text == "first"
        assert (sessions(second), sessions(server, before)) == (1, 0)


def test_a_broker_that_is_away_keeps_no_server_from_starting(tmp_path: Path) -> None:
    """As after a power cut, when all begin at once."""
    late = MosquittoProcess(tmp_path / "late")
    with ServerProcess(tmp_path / "data", options=late.options, strict=True) as server:
        assert "cannot be reached" in server.wait_for_line("broker_link_down")
        identity = identity_of(server, "early")
        with late:
            server.wait_for_line("broker_link_up", PATIENCE)
            with ThalovantClient(identity, protocol="mqtt") as made:
                until_it_answers(made, "late")
            shutil.rmtree(late.folder / "data", ignore_errors=True)
