# SPDX-License-Identifier: Apache-2.0
"""A hub with a real directory over a store in memory, a clock that stands still, and devices without a wire."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import uvloop

from thalovant.protocol.messages import bus
from thalovant.protocol.noise import generate_private_key
from thalovant.protocol.session import ClientSession, Failed, NeedPsk, Ready, Received, SendClear, SendSealed
from thalovant_server.agents.catalog import Catalog
from thalovant_server.daily_usage import DAY, DailyUsage
from thalovant_server.directory import CARRIERS, CredentialEntry, Directory, HubEntry
from thalovant_server.hub.hub import Hub
from thalovant_server.hub.limits import Limits
from thalovant_server.testing.clock import StandingClock
from thalovant_server.testing.directory import MemoryStore, cheap_stretch


class NumberedStore(MemoryStore):
    """Every credential's password is named after its id."""

    gate: asyncio.Event | None = None  # pinning waits for it

    async def pin_key(self, credential_id, key):
        if self.gate is not None:
            await self.gate.wait()
        return await super().pin_key(credential_id, key)

    async def password(self, credential_id):
        return f"password-{credential_id}"


class Device:
    """A client and its carrier in one: the hub's `Link`, with a real `ClientSession` behind it."""

    def __init__(
        self,
        rig,
        credential,
        *,
        carrier="wss",
        key=None,
        pinned=None,
        password=None,
        handled=True,
        session_id="s1",
        announced=("handled",),
    ):
        self.rig, self.credential, self.carrier, self.remote = rig, credential, carrier, "192.0.2.1"
        self.password = password or f"password-{credential.id}"
        self.session = ClientSession(
            static_private=key or generate_private_key(),
            site_id="kitchen",
            session_id=session_id,
            pinned=pinned,
            announce={"capabilities": list(announced)} if handled else None,
        )
        self.connection = None
        self.inbox, self.heard, self.closed_with, self.failed = [], [], None, None
        self.quiet = False  # True: the device does not answer
        self._news = asyncio.Event()

    def open(self, user_agent="test/1"):
        admitted = self.rig.hub.admit(self.credential.access_key, self.credential.hub_id, self.carrier)
        self.connection = self.rig.hub.connect(self, admitted, user_agent)
        self.connection.on_ready = self._news.set
        return self

    # Link
    patience = None  # a device without a wire has no sign of life but what it sends

    def silence(self):
        return 0.0 if self.patience is None else self.rig.clock.now() - self.connection.heard

    def send_clear(self, data):
        self.inbox.append((False, data))
        asyncio.get_running_loop().call_soon(self.pump)

    def send_sealed(self, frames):
        self.inbox += [(True, frame) for frame in frames]
        asyncio.get_running_loop().call_soon(self.pump)

    def close(self, refusal):
        self.closed_with = refusal
        self._news.set()

    def pump(self):
        while self.inbox and self.connection is not None and not self.quiet:
            sealed, data = self.inbox.pop(0)
            self.act(self.session.receive_sealed(data) if sealed else self.session.receive_clear(data))
        self._news.set()

    def act(self, outputs):
        for output in outputs:
            match output:
                case SendClear(data=data):
                    self.connection.receive_clear(data)
                case SendSealed(frame=frame):
                    self.connection.receive_sealed(frame)
                case NeedPsk(node_id=node_id):
                    self.act(self.session.provide_psk(cheap_stretch(self.password, node_id)))
                case Received(message=message):
                    self.heard.append(message)
                case Failed(code=code):
                    self.failed = code
                case Ready():
                    pass

    def send(self, message):
        self.act(self.session.send(message))

    def ask(self, text, request_id="r1", *, bus_type="recognizer_loop:utterance", data=None, **context):
        data = {"utterances": [text], "lang": "en-us"} if data is None else data
        self.send(bus(bus_type, data, {"request_id": request_id, **context} if request_id else context))

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition(self):
                self._news.clear()
                await self._news.wait()
        return self

    async def ready(self):
        """Until the handshake is over and the hub has the HELLO, or the end."""
        await self.until(lambda device: device.connection.closed or device.connection.ready)
        await asyncio.sleep(0)  # what was kept, the HELLO first, is taken in the same turn of the loop
        return self

    async def hears(self, count):
        await self.until(lambda device: len(device.heard) >= count)
        return self.heard

    async def ends(self):
        await self.until(lambda device: device.closed_with is not None)
        return self.closed_with

    @property
    def types(self):
        return [message.payload["type"] for message in self.heard]

    @property
    def said(self):
        return [m.payload["data"]["utterance"] for m in self.heard if m.payload["type"] == "speak"]


class Rig:
    """One hub `h1` with credentials that are made as needed."""

    def __init__(self, agents=(), *, agent=None, limits=None, max_message=4 << 20):
        self.store = NumberedStore()
        self.uses = []  # credential id, carrier and address, each time
        self.directory = Directory(self.store, node_id="node-1", stretch=cheap_stretch)
        self.put_hub("h1", agent=agent, max_message=max_message)
        self.directory.start()
        self.clock = StandingClock()
        self.time_of_day = 20_000 * DAY + DAY // 2  # noon
        self.usage = DailyUsage(lambda: self.time_of_day)
        self.hub = Hub(
            self.directory,
            Catalog(agents),
            static_private=bytes(range(32)),
            node_id="node-1",
            version="0",
            limits=limits or Limits(),
            clock=self.clock,
            usage=self.usage,
            uses=self,
        )

    def note(self, *use):
        self.uses.append(use)

    def put_hub(self, hub_id, *, agent=None, protocols=CARRIERS, active=True, max_message=4 << 20):
        self.directory.put_hub(HubEntry(hub_id, hub_id, hub_id, agent, frozenset(protocols), active, max_message))

    def credential(self, number=1, *, hub_id="h1", **fields):
        entry = CredentialEntry(
            id=number,
            client_id=fields.pop("client_id", f"client-{number}"),
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
        known = self.directory.credential(f"key-{number}")
        return Device(self, known or self.credential(number), **fields)

    async def stop(self):
        await self.hub.stop(0)
        await self.directory.stop()


@pytest.fixture
def run_rig():
    """`run_rig(main, agents..., **fields)`: run `main(rig)` on uvloop with a rig made for it."""

    def run(main, *agents, **fields):
        async def everything():
            rig = Rig(agents, **fields)
            try:
                await asyncio.wait_for(main(rig), 30)
            finally:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rig.stop(), 10)

        uvloop.run(everything())

    return run


@pytest.fixture
def contract_vectors():
    """The folder of recorded vectors."""
    return Path(__file__).parents[3] / "contract" / "vectors"
