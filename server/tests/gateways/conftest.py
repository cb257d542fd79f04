# SPDX-License-Identifier: Apache-2.0
"""The API port on a free port with TLS, in front of a real hub and directory; the store is one in memory."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace
from urllib.parse import quote

import pytest
import uvloop
from starlette.responses import StreamingResponse

from thalovant.protocol.messages import bus
from thalovant.protocol.noise import generate_private_key
from thalovant.protocol.session import ClientSession, NeedPsk, Received, SendClear, SendSealed
from thalovant_server.agents.catalog import Catalog
from thalovant_server.certificates import make_authority, make_server_certificate
from thalovant_server.directory import CARRIERS, CredentialEntry, Directory, HubEntry
from thalovant_server.gateways.api_port import ApiPort
from thalovant_server.gateways.asgi import answer_json, read_body
from thalovant_server.gateways.https import HttpsGateway
from thalovant_server.gateways.mqtt.endpoint import MqttGateway
from thalovant_server.gateways.wss import WssGateway
from thalovant_server.hub.hub import Hub
from thalovant_server.hub.limits import Limits
from thalovant_server.testing.clock import StandingClock
from thalovant_server.testing.directory import MemoryStore, cheap_stretch


class NumberedStore(MemoryStore):
    """Every credential's password is named after its id."""

    async def password(self, credential_id):
        return f"password-{credential_id}"


class Port:
    """A listening API port with hub `h1` (the default) and hub `h2`. Time stands with a `clock` of the test's."""

    def __init__(self, tls, agents, agent, limits, clock):
        self.server_tls, self.client_tls = tls
        self.directory = Directory(NumberedStore(), node_id="node-1", stretch=cheap_stretch)
        for hub_id in ("h1", "h2"):
            self.put_hub(hub_id, agent=agent)
        self.hub = Hub(
            self.directory,
            Catalog(agents),
            static_private=bytes(range(32)),
            node_id="node-1",
            version="0",
            limits=limits,
            clock=clock,
        )
        self.clock = clock
        self._ended = asyncio.Event()
        ended = self.hub.ended
        self.hub.ended = lambda connection: (ended(connection), self._ended.set())
        self.https, self.wss = HttpsGateway(self.hub), WssGateway(self.hub)
        self.control = Control()
        self.mqtt = MqttGateway(self.hub, self.directory)
        self.api = ApiPort(control=self.control, https=self.https, wss=self.wss, mqtt=self.mqtt, limits=limits)

    async def start(self):
        await self.api.start("127.0.0.1", 0, lambda _: self.server_tls)
        return self

    async def stop(self):
        await self.hub.stop(0)
        await asyncio.gather(self.mqtt.close(0.2), self.api.close(0.2))
        await self.directory.stop()
        assert self.api.sockets == self.mqtt.connections == 0
        assert self.wss.open == self.https.open == self.hub.connections == 0
        assert self.hub.budget.used == 0

    async def connections(self, most):
        """Wait until the hub has no more connections than that."""
        async with asyncio.timeout(10):
            while self.hub.connections > most:
                self._ended.clear()
                await self._ended.wait()

    def put_hub(self, hub_id, **fields):
        entry = self.directory.hub(hub_id) or HubEntry(hub_id, hub_id, hub_id, None, frozenset(CARRIERS), True)
        self.directory.put_hub(replace(entry, **fields))

    def credential(self, number=1, *, hub_id="h1", **fields):
        entry = CredentialEntry(
            id=number,
            client_id=f"client-{number}",
            hub_id=hub_id,
            access_key=f"key-{number}",
            client_name=f"name-{number}",
            site_id="site",
            topic_prefix=f"hubs/{hub_id}/clients/client-{number}",
            psk=fields.pop("psk", cheap_stretch(f"password-{number}", "node-1")),
            **fields,
        )
        self.directory.put_credential(entry)
        return entry

    def device(self, number=1, **fields):
        if self.directory.credential(f"key-{number}") is None:
            self.credential(number)
        return Device(number, **fields)

    def authorization(self, number=1):
        """The query string of a credential, as a client writes it."""
        return "authorization=" + quote(base64.b64encode(f"test/1:key-{number}".encode()).decode(), safe="")

    async def raw(self):
        """A bare TLS connection."""
        return await asyncio.open_connection("127.0.0.1", self.api.port, ssl=self.client_tls)


class Control:
    """A fake control plane: says what it was asked; `/v1/hold` waits until it is let go; `/v1/stream` streams.

    What it streams: `pieces`, one for each time that `release` is set, or for ever when it is `endless`.
    """

    def __init__(self):
        self.held, self.release, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.pieces, self.sent, self.endless = [], 0, b""

    async def __call__(self, scope, receive, send):
        body = await read_body(receive, 1 << 20, 10)
        if scope["path"] == "/v1/hold":
            self.held.set()
            await self.release.wait()
        elif scope["path"] == "/v1/stream":
            try:
                await StreamingResponse(self._stream())(scope, receive, send)
            finally:
                self.ended.set()
            return
        await answer_json(send, 200, {"path": scope["path"], "body": len(body)})

    async def _stream(self):
        while self.endless:
            self.sent += 1
            yield self.endless
            await asyncio.sleep(0)  # as whoever waits for something to tell
        for piece in self.pieces:
            await self.release.wait()
            self.release.clear()
            yield piece


class Device:
    """A client without a carrier: what is to be sent lies in `out`, what was said in `heard`."""

    def __init__(self, number, *, key=None, pinned=None, password=None, handled=True):
        self.number = number
        self.password = password or f"password-{number}"
        self.key = key or generate_private_key()
        self.session = ClientSession(
            static_private=self.key,
            site_id="kitchen",
            session_id="s1",
            pinned=pinned,
            announce={"capabilities": ["handled"]} if handled else None,
        )
        self.out, self.heard = [], []  # (sealed, data); messages

    def take(self, sealed, data):
        self.act(self.session.receive_sealed(data) if sealed else self.session.receive_clear(data))

    def act(self, outputs):
        for output in outputs:
            match output:
                case SendClear(data=data):
                    self.out.append((False, data))
                case SendSealed(frame=frame):
                    self.out.append((True, frame))
                case NeedPsk(node_id=node_id):
                    self.act(self.session.provide_psk(cheap_stretch(self.password, node_id)))
                case Received(message=message):
                    self.heard.append(message)

    def ask(self, text, request_id="r1"):
        self.send(bus("recognizer_loop:utterance", {"utterances": [text], "lang": "en"}, {"request_id": request_id}))

    def send(self, message):
        self.act(self.session.send(message))

    @property
    def ready(self):
        return self.session.state == "ready"

    @property
    def said(self):
        return [m.payload["data"]["utterance"] for m in self.heard if m.payload["type"] == "speak"]

    @property
    def types(self):
        return [m.payload.get("type") for m in self.heard]


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """A server's and a client's TLS context, of an authority made for this run."""
    folder, authority = tmp_path_factory.mktemp("tls"), make_authority()
    pair = make_server_certificate(authority)
    certificate, key = folder / "server.pem", folder / "server.key"
    certificate.write_text(pair.certificate)
    key.write_text(pair.private_key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cadata=authority.certificate)


@pytest.fixture
def run_port(tls):
    """`run_port(main, agents..., agent=, limits=, standing=)`: run `main(port)` on uvloop with a port made for it."""

    def run(main, *agents, agent=None, limits=None, standing=False):
        async def everything():
            clock = StandingClock() if standing else None
            port = await Port(tls, agents, agent, limits or Limits(), clock).start()
            try:
                await asyncio.wait_for(main(port), 30)
            finally:
                await port.stop()

        uvloop.run(everything())

    return run
