# SPDX-License-Identifier: Apache-2.0
"""The link between the hubs and their clients at an outside broker: whose a message is, and who is cut when the
directory changes.

It gets the messages of one connection (`Wire`) and writes to it. Who dials, and when, is `keeper`'s business; who may
connect to the broker at all is the broker's, which is told by the provisioner (`brokers`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from thalovant.protocol.mqtt.client_events import Arrived, Event, NotTaken, Subscribed
from thalovant.protocol.topics import ONLINE, STATUS
from thalovant_server.gateways.broker_link.client import LinkClient
from thalovant_server.gateways.broker_link.outbound import Outbound
from thalovant_server.gateways.broker_link.redelivery import Redeliveries
from thalovant_server.gateways.broker_link.routing import Routing
from thalovant_server.gateways.broker_link.subscriptions import Subscriptions
from thalovant_server.gateways.lane import Lanes
from thalovant_server.hub import refusal
from thalovant_server.hub.presence import CONNECTION_LOST
from thalovant_server.hub.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thalovant_server.brokers.names import Namespace
    from thalovant_server.directory import Change, CredentialEntry, Directory
    from thalovant_server.hub.connection import Connection, Link
    from thalovant_server.hub.hub import Hub

log = structlog.get_logger("thalovant.link")

CARRIER = "mqtt"
RECEIVE_MAXIMUM = 65_535
"""Messages of the broker that may wait for our PUBACK (MQTT 5): as many as there can be. What one client sends faster
than it is dealt with waits here in a queue of its own; at the broker, it and everybody else's would be dropped.
"""

_SEGMENTS = {b"in": "in", b"c2s": "c2s", b"status": "status"}


class Wire(Protocol):
    """What the link needs of its connection."""

    @property
    def has_room(self) -> bool:
        """Whether it takes a frame just now."""
        ...

    def fits(self, topic: bytes, payload: bytes) -> bool:
        """Whether the broker takes a packet as large as that."""
        ...

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Publish with QoS 1, behind everything before."""

    def subscribe(self, filters: Sequence[tuple[bytes, int]]) -> None:
        """Ask for these filters; `Subscribed` answers."""

    def unsubscribe(self, filters: Sequence[bytes]) -> None:
        """Ask for these filters no longer."""


class BrokerLinkGateway:
    """All clients that come over one broker. Make it on the running event loop.

    Args:
        namespace: what is ours on the broker.
        where: the broker, as `host:port`.
        lanes: how fast a client is dealt with.
    """

    def __init__(
        self, hub: Hub, directory: Directory, namespace: Namespace, where: str, *, lanes: Lanes | None = None
    ) -> None:
        self.on_complete: Callable[[], None] = _nothing
        """Called when the broker has granted all that is to be heard."""
        self.on_denied: Callable[[], None] = _nothing
        """Called when it has not."""
        self._hub = hub
        self._directory = directory
        self._where = where
        self._lanes = lanes or Lanes()
        self._wire: Wire | None = None
        self._links = 0
        self._routing = Routing(namespace)
        self._subscriptions = Subscriptions(namespace)
        self._redeliveries = Redeliveries(RECEIVE_MAXIMUM)
        self._outbound = Outbound(self._has_room, self._write)
        self._clients: dict[bytes, LinkClient] = {}
        self._touched: list[tuple[bytes, LinkClient]] = []
        self._unsubscribe = directory.subscribe(self._changed)
        for entry in directory.hubs():
            self._hub_changed(entry.id)

    @property
    def connections(self) -> int:
        """Sessions, ready or not."""
        return sum(client.live for client in self._clients.values())

    @property
    def clients(self) -> int:
        """Credentials whose clients are heard, connected or not."""
        return len(self._routing)

    # -- what the keeper calls --------------------------------------------------------------------------------

    def connected(self, wire: Wire, *, session_present: bool) -> None:
        """A connection is up. Where it does not go on with the earlier one's session, every session on it is over."""
        self._wire = wire
        self._links += 1
        if not session_present:
            self.session_over()
        self._subscriptions.begin(session_present=session_present)
        self._ask()
        self._outbound.drain()

    def disconnected(self) -> None:
        """The connection is gone. Sessions stay for now: the next one may go on with it."""
        self._wire = None

    def session_over(self) -> None:
        """The broker has forgotten the session, and frames are lost: every session of a client is over."""
        self._redeliveries.clear()
        for prefix, client in list(self._clients.items()):
            client.lose(CONNECTION_LOST, refusal.SESSION_LOST)
            self._tidy(prefix, client)

    def happened(self, event: Event) -> None:
        """Something arrived."""
        if type(event) is Arrived:
            self._arrived(event)
        elif isinstance(event, NotTaken):
            self._not_taken(event)
        elif isinstance(event, Subscribed):
            self._subscribed(event)

    def settled(self) -> None:
        """All that came at once was told: now it is dealt with, and what waited may leave."""
        touched, self._touched = self._touched, []
        for prefix, client in touched:
            client.work()
            self._tidy(prefix, client)
        self._outbound.drain()

    def close(self) -> None:
        """Hear no more changes, end what is left."""
        self._unsubscribe()
        self.session_over()
        self._outbound.clear()
        self._clients.clear()

    # -- messages in ------------------------------------------------------------------------------------------

    def _arrived(self, event: Arrived) -> None:
        if event.packet_id is not None and not self._redeliveries.note(event.packet_id, event.payload, event.again):
            return
        prefix, _, last = event.topic.rpartition(b"/")
        segment = _SEGMENTS.get(last)
        client = None if segment is None else self._clients.get(prefix) or self._new_client(prefix)
        if client is None or segment is None:
            return
        if event.retained:
            self._was_retained(client, segment, event.payload)
            self._tidy(prefix, client)
        elif client.put(segment, event.payload):
            self._touched.append((prefix, client))

    def _was_retained(self, client: LinkClient, segment: str, payload: bytes) -> None:
        """A client that was there before we ever were has its session with an earlier server, and may not know that
        this one is gone. Frames have nothing to do in what is retained.
        """
        if segment == STATUS and payload == ONLINE and self._links == 1 and not client.live:
            client.tell(refusal.SESSION_LOST)

    def _new_client(self, prefix: bytes) -> LinkClient | None:
        credential_id = self._routing.find(prefix)
        credential = None if credential_id is None else self._directory.credential_by_id(credential_id)
        if credential is None:
            return None
        self._clients[prefix] = client = LinkClient(
            prefix,
            self._where,
            partial(self._directory.credential_by_id, credential.id),
            self._begin,
            outbound=self._outbound,
            lane=self._lanes.of(credential.id),
            account=self._hub.budget_of(credential),
            limits=self._hub.limits,
        )
        return client

    def _tidy(self, prefix: bytes, client: LinkClient) -> None:
        if client.idle and self._clients.get(prefix) is client:
            del self._clients[prefix]

    def _begin(self, link: Link, credential: CredentialEntry, user_agent: str | None) -> Connection:
        """Begin a session of whoever may be here. The broker has asked for the password, so nobody guesses one."""
        try:
            admitted = self._hub.admit(credential.access_key, credential.hub_id, CARRIER, self._where, new=False)
            if not self._serves(credential.hub_id):
                raise Refused(refusal.MQTT_ELSEWHERE)
            return self._hub.connect(link, admitted, user_agent)
        except Refused as refused:
            self._hub.denials.refused(refused.refusal, CARRIER, self._where, credential.access_key)
            raise

    def _not_taken(self, event: NotTaken) -> None:
        """A frame is lost: the broker has nobody who hears that topic, or does not let us publish there."""
        prefix, _, segment = event.topic.rpartition(b"/")
        client = self._clients.get(prefix)
        if client is not None:
            client.dialogue.left(segment.decode())
            self._tidy(prefix, client)

    # -- messages out -----------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return self._wire is not None and self._wire.has_room

    def _write(self, topic: bytes, payload: bytes) -> None:
        if self._wire is None:
            return
        if self._wire.fits(topic, payload):
            self._wire.publish(topic, payload)
        elif (client := self._clients.get(topic.rpartition(b"/")[0])) is not None:
            log.warning("broker_takes_no_such_packet", broker=self._where, bytes=len(payload))
            client.dialogue.end(refusal.TOO_LARGE)

    # -- what is heard ----------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask the broker for what is due."""
        if self._wire is None:
            return
        due = self._subscriptions.due()
        if due.unsubscribe:
            self._wire.unsubscribe(due.unsubscribe)
        if due.subscribe:
            self._wire.subscribe(due.subscribe)
        elif self._subscriptions.complete:
            self.on_complete()

    def _subscribed(self, event: Subscribed) -> None:
        if self._subscriptions.answered(event.codes):
            self._ask()
        else:
            self.on_denied()

    # -- committed changes ------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        """A change was committed: whoever may no longer be here is cut now; of a session the hub says why."""
        if change.credential_id is not None:
            self._credential_changed(change.credential_id)
        else:
            self._hub_changed(change.hub_id)
            self._ask()

    def _credential_changed(self, credential_id: int) -> None:
        now = self._directory.credential_by_id(credential_id)
        if now is not None and self._serves(now.hub_id):
            self._routing.add(now)
            return
        prefix = self._routing.remove(credential_id)
        client = None if prefix is None else self._clients.pop(prefix, None)
        if client is not None:
            client.dialogue.end(refusal.REVOKED)
            client.forget()

    def _hub_changed(self, hub_id: str) -> None:
        serves = self._serves(hub_id)
        self._subscriptions.wish(hub_id, serves)
        for credential in self._directory.credentials_at(hub_id):
            if serves:
                self._routing.add(credential)
                continue
            prefix = self._routing.remove(credential.id)
            client = None if prefix is None else self._clients.pop(prefix, None)
            if client is not None:
                client.dialogue.end(refusal.MQTT_ELSEWHERE)
                client.forget()

    def _serves(self, hub_id: str) -> bool:
        hub = self._directory.hub(hub_id)
        return hub is not None and hub.serves_mqtt("link")


def _nothing() -> None:
    pass
