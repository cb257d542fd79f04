# SPDX-License-Identifier: Apache-2.0
"""One real server for a file of tests, credentials made over its API, and raw clients over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from raw_mqtt import Client, Dialect, Login, WebSocket

from thalovant import ThalovantControlPlane
from thalovant_server.testing import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with its hub `demo`."""
    with ServerProcess(tmp_path_factory.mktemp("profile") / "data", strict=True) as running:
        yield running


@pytest.fixture(scope="module")
def tls(server: ServerProcess) -> ssl.SSLContext:
    """Trust in that server."""
    return ssl.create_default_context(cafile=server.ready["ca_file"])


@pytest.fixture(scope="module")
def make_login(server: ServerProcess) -> Iterator[Callable[[], Login]]:
    """Make a client of the hub: `make_login()`."""
    numbers = count(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        with ThalovantControlPlane(server.ready["api_url"]) as plane:
            plane.login(*server.admin)

            def make() -> Login:
                made = plane.create_client_identity(server.ready["hub_id"], name=f"profile-{next(numbers)}")
                block = made.identity.mqtt
                assert block is not None and block.topic_prefix is not None
                return Login(block.username, block.password, block.topic_prefix)

            yield make


@pytest.fixture(scope="module")
def common(make_login: Callable[[], Login]) -> Login:
    """A client that many tests share: none of them says or hears its status."""
    return make_login()


@pytest.fixture
def dial(server: ServerProcess, tls: ssl.SSLContext, dialect: Dialect) -> Iterator[Callable[[], Client]]:
    """Open a connection that has said nothing yet: `dial()`. All are closed at the end."""
    host, port = server.ready["mqtt_endpoint"].removeprefix("mqtts://").rsplit(":", 1)
    clients: list[Client] = []

    def open_one() -> Client:
        clients.append(Client(dialect, (host, int(port)), tls))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


@pytest.fixture
def log_in(dial: Callable[[], Client], common: Login) -> Callable[..., Client]:
    """A client that is logged in: `log_in(login=None, client_id="", **fields of CONNECT)`."""

    def enter(login: Login | None = None, client_id: str = "", **fields: Any) -> Client:
        client = dial()
        said = client.ask(client.write_as.connect(login or common, client_id, **fields))
        assert (said.kind, said.code) == ("CONNACK", 0)
        return client

    return enter


@pytest.fixture
def one(make_login: Callable[[], Login], log_in: Callable[..., Client]) -> SimpleNamespace:
    """A client of its own, for a test of the status: its `login`, and `listener`, which hears it and is logged in."""
    login = make_login()
    return SimpleNamespace(login=login, status=login.topic("status"), listener=log_in(login, "listener"))


@pytest.fixture
def websocket(server: ServerProcess, tls: ssl.SSLContext) -> Iterator[WebSocket]:
    """A WebSocket to the server's `/mqtt`, on which nothing was said yet."""
    opened = WebSocket(server.ready["mqtt_websocket_endpoint"], tls)
    yield opened
    opened.close()


@pytest.fixture
def ended(server: ServerProcess) -> Callable[[Client], str]:
    """That the server ended a connection that was logged in, without a word; and why, as its log has it."""
    since = len(server.output)

    def why(client: Client) -> str:
        assert client.closed()
        at = since
        while True:
            line = server.wait_for_line("event=mqtt_over", after=at)
            at = server.output.index(line, at) + 1
            if f"remote=127.0.0.1:{client.port} " in line:
                return line.partition("code=")[2].partition(" ")[0]

    return why
