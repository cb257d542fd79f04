# SPDX-License-Identifier: Apache-2.0
"""The embedded MQTT endpoint: who may log in, who is connected, and who is cut when the directory changes.

A gateway and not a broker (architecture decision 2): nothing that one client publishes ever reaches another
credential's connections. TLS, the port and the listening socket are made by `app`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thalovant.protocol.mqtt.packets import Connect, Will
from thalovant.protocol.topics import OFFLINE, STATUS, hub_topics
from thalovant_server.directory import CredentialEntry
from thalovant_server.gateways.dialogue import Dialogue
from thalovant_server.gateways.lane import Lanes
from thalovant_server.gateways.mqtt.bounds import Bounds
from thalovant_server.gateways.mqtt.connection import MqttConnection
from thalovant_server.gateways.mqtt.presence import PresenceBoard
from thalovant_server.gateways.mqtt.roster import Roster
from thalovant_server.gateways.mqtt.session import MqttSession, Output
from thalovant_server.gateways.share import strangers_of
from thalovant_server.hub import refusal
from thalovant_server.hub.presence import (
    CONNECTION_LOST,
    CREDENTIAL_ENDED,
    DISCONNECTED,
    NO_SIGN_OF_LIFE,
    PAUSED,
    PROTOCOL_ERROR,
    SERVER_STOPPED,
    TAKEN_OVER,
)
from thalovant_server.hub.refusal import CONNACK_NOT_AUTHORIZED, CREDENTIAL, Refusal, Refused
from thalovant_server.repeats import Line, Repeats, RepeatWindow, Told

if TYPE_CHECKING:
    from thalovant_server.directory import Change, Directory
    from thalovant_server.hub.hub import Hub
    from thalovant_server.hub.limits import Limits

log = structlog.get_logger("thalovant.mqtt")

# Checked in place of a credential that there is not, so that both take the same time.
_NOBODY = CredentialEntry(0, "", "", "", "", "", "")

# What only MQTT refuses. An unknown user name and a wrong password look the same.
BAD_LOGIN = Refusal("bad_login", "the broker's user name or password is wrong", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED)
BAD_WILL = Refusal(
    "bad_will", "a will says offline on the client's own status topic", CREDENTIAL, 403, CONNACK_NOT_AUTHORIZED
)
CARRIER = "mqtt"
COMINGS = 120  # lines a minute of one credential's logins, and of their ends; the others are a number
TOPIC_BYTES = 800  # of a denied topic: as many as its first 200 characters can have

# Why a client is offline whose connection ended with that code. The others are for what it sent.
WHY_OVER = {
    "disconnect": DISCONNECTED,
    "lost": CONNECTION_LOST,
    "silent": NO_SIGN_OF_LIFE,
    "stalled": NO_SIGN_OF_LIFE,
    "taken_over": TAKEN_OVER,
    "restart": SERVER_STOPPED,
    "revoked": CREDENTIAL_ENDED,
    "paused": PAUSED,
    "hub_off": "hub_off",
    "slow_reader": "slow_reader",
    "busy": "server_busy",
}


@dataclass(slots=True)
class Place:
    """What a connection got with its login. `credential` is as it was then."""

    credential: CredentialEntry
    client_id: str
    dialogue: Dialogue


class MqttGateway:
    """All MQTT connections of the process. Make it on the running event loop.

    Args:
        limits: the bounds of every carrier; None takes the hub's own.
        bounds: those that only MQTT has.
        lanes: how fast a client is read.
    """

    def __init__(
        self,
        hub: Hub,
        directory: Directory,
        limits: Limits | None = None,
        *,
        bounds: Bounds | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self.limits = limits or hub.limits
        self.bounds = bounds or Bounds()
        self.strangers = strangers_of(hub.budget)
        self.lanes = lanes or Lanes()
        self._hub = hub
        self._directory = directory
        self._presence = PresenceBoard()
        self._roster = Roster()
        self._open: set[MqttConnection] = set()
        self._closing = False
        self._comings: Repeats[tuple[str, dict[str, object]]]
        self._comings = Repeats(hub.clock, _tell, RepeatWindow(each=COMINGS))
        self._unsubscribe = directory.subscribe(self._changed)

    # -- what the app calls -----------------------------------------------------------------------------------

    def protocol(self) -> MqttConnection:
        """The factory for a listener."""
        return MqttConnection(self)

    def presence(self, credential_id: int) -> str | None:
        """`online` or `offline` as the client said it; None when it said nothing since the server started.

        Its own word only: whether it is online, `hub.presence` knows.
        """
        status = self._presence.status(credential_id)
        return None if status is None else status.decode()

    @property
    def connections(self) -> int:
        """Open connections, logged in or not."""
        return len(self._open)

    async def close(self, deadline: float) -> None:
        """Let nobody in any more and close every connection; those not closed within `deadline` seconds are
        dropped.

        The listening socket is the app's to close, before this.
        """
        self._closing = True
        self._unsubscribe()
        connections = list(self._open)
        for connection in connections:
            connection.end("restart", "The server is going down.")
        await self._gone(connections, deadline)
        for connection in self._open:
            connection.abort()
        await self._gone(connections, deadline)
        self._comings.close()

    async def _gone(self, connections: list[MqttConnection], seconds: float) -> None:
        if connections:
            await asyncio.wait([connection.gone for connection in connections], timeout=seconds)

    # -- what a connection calls ------------------------------------------------------------------------------

    def opened(self, connection: MqttConnection) -> bool:
        """A socket was accepted; False when there are too many already."""
        if len(self._open) >= self.limits.connections:
            self._hub.denials.refused(refusal.TOO_MANY_CONNECTIONS, CARRIER, connection.host)
            return False
        self._open.add(connection)
        return True

    def closed(self, connection: MqttConnection) -> None:
        """Its transport is closed."""
        self._open.discard(connection)

    def login(self, connection: MqttConnection, session: MqttSession, connect: Connect) -> list[Output]:
        """Decide about a CONNECT. A failed one has no effect on anybody."""
        try:
            admitted = self._admit(connect, connection.host)
            topics = segments(admitted.topic_prefix)
            if connect.will is not None and not fitting(connect.will, topics):
                raise Refused(BAD_WILL)
        except Refused as refused:
            self._hub.denials.refused(refused.refusal, CARRIER, connection.host, connect.username or "")
            if refused.hold_back:
                connection.answer_later(refused.hold_back, partial(session.refuse, refused.refusal))
                return []
            return session.refuse(refused.refusal)
        self._hub.proven(admitted.access_key, connection.host)
        place = self._enter(connection, admitted, connect)
        connection.watch_keepalive(session.terms.keepalive * self.bounds.keepalive_factor)
        return session.accept(topics, connect.will, None if connect.client_id else place.client_id)

    def said(self, connection: MqttConnection, status: bytes, retain: bool) -> None:
        """A connection declared its status; whoever hears the topic is told when that changed the credential's."""
        place = connection.place
        if place is not None and self._presence.declare(place.credential.id, connection, status, place.client_id):
            self._publish_status(place.credential.id, retain)

    def granted(self, connection: MqttConnection, segment: str) -> None:
        """A subscription was granted: the retained status is due (MQTT-3.3.1-6)."""
        place = connection.place
        if place is None or segment != STATUS:
            return
        status = self._presence.status(place.credential.id)
        if status is not None and not self._its_own(connection):
            connection.tell_retained(status)

    def denied(self, connection: MqttConnection, code: str, topic: bytes) -> None:
        """A client asked for a filter that it does not have, or published what it may not."""
        if connection.place is not None:
            named = topic[:TOPIC_BYTES].decode("utf-8", "replace")
            self._hub.denials.topic(connection.place.credential, code, connection.host, named)

    def left(self, connection: MqttConnection, will: Will | None, code: str, reason: str) -> None:
        """A connection is over: its hub session ends, its will is published, its `online` no longer counts."""
        place, connection.place = connection.place, None
        if place is None:  # anybody can dial and hang up, as often as they like
            log.debug("mqtt_over", code=code, reason=reason, remote=connection.remote)
            return
        credential = place.credential
        self._say("mqtt_over", credential, code=code, reason=reason, remote=connection.remote)
        self._roster.remove(connection, credential.id, credential.hub_id, place.client_id)
        place.dialogue.stop(WHY_OVER.get(code, PROTOCOL_ERROR))
        changed = self._presence.leave(credential.id, connection, place.client_id if will else None)
        if will is not None:
            changed |= self._presence.declare(credential.id, connection, OFFLINE, place.client_id)
        if changed:
            self._publish_status(credential.id, will is None or will.retain)

    # -- inside -----------------------------------------------------------------------------------------------

    def _admit(self, connect: Connect, remote: str) -> CredentialEntry:
        """The credential that logs in; raises `Refused`."""
        if self._closing:
            raise Refused(refusal.RESTARTING)
        name = connect.username or ""
        found = self._directory.credential(name)
        matches = self._directory.check_mqtt_password(found or _NOBODY, connect.password or b"")
        if found is None or not matches or not connect.password:
            self._hub.check_rate(name, remote)  # only now: 43 random characters are not guessed
            raise Refused(BAD_LOGIN, self._hub.failed(name, remote))
        credential = self._hub.admit(found.access_key, found.hub_id, CARRIER, remote)
        if not self._serves(credential.hub_id):
            raise Refused(refusal.MQTT_ELSEWHERE)
        again = self._roster.find(credential.id, connect.client_id) is not None
        if self._roster.count(credential.id) - again >= self.limits.sessions_per_credential:
            raise Refused(refusal.TOO_MANY_CONNECTIONS)
        return credential

    def _enter(self, connection: MqttConnection, credential: CredentialEntry, connect: Connect) -> Place:
        client_id = connect.client_id or f"auto-{secrets.token_hex(16)}"
        older = self._roster.find(credential.id, client_id)
        if older is not None:
            older.end("taken_over", "Another connection has the same client id.")  # MQTT-3.1.4-2
        dialogue = Dialogue(connection, lambda: self._directory.credential_by_id(credential.id), self._hub.connect)
        connection.place = place = Place(credential, client_id, dialogue)
        self._roster.add(connection, credential.id, credential.hub_id, client_id)
        connection.belongs_to(self.lanes.of(credential.id), self._hub.budget_of(credential))
        self._say("mqtt_login", credential, level=connect.level, remote=connection.remote)
        return place

    def _say(self, event: str, credential: CredentialEntry, **more: object) -> None:
        """One line of somebody's coming and going, which may be as often as it likes."""
        who = {"client_id": credential.client_id, "hub_id": credential.hub_id}
        self._comings.note((event, credential.id), str(credential.id), (event, {**who, **more}))

    def _publish_status(self, credential_id: int, retain: bool) -> None:
        """Tell it to whoever hears it. `retain` is the flag that it was published with; our own word has it."""
        status = self._presence.status(credential_id)
        if status is None:
            return
        for connection in self._roster.of_credential(credential_id):
            if not self._its_own(connection):
                connection.tell_status(status, retain)

    def _its_own(self, connection: MqttConnection) -> bool:
        """Whether the status is the client's own word, and it wants none of those (MQTT-3.8.3-3)."""
        place = connection.place
        if place is None or not connection.no_local:
            return False
        return self._presence.author(place.credential.id) == place.client_id

    def _changed(self, change: Change) -> None:
        """A change was committed: whoever may no longer be here is cut now."""
        if change.credential_id is not None:
            self._credential_changed(change.credential_id)
        elif not self._serves(change.hub_id):
            for connection in self._roster.of_hub(change.hub_id):
                connection.end("hub_off", "The hub, or MQTT for this hub, was turned off, or is at another broker now.")

    def _credential_changed(self, credential_id: int) -> None:
        now = self._directory.credential_by_id(credential_id)
        for connection in self._roster.of_credential(credential_id):
            if connection.place is not None and not still_good(connection.place.credential, now):
                if now is not None and not now.active:
                    connection.end("paused", "This client is paused.")
                else:
                    connection.end("revoked", "The credential was revoked or changed.")
        if now is None:
            self._presence.forget(credential_id)

    def _serves(self, hub_id: str) -> bool:
        hub = self._directory.hub(hub_id)
        return hub is not None and hub.serves_mqtt("embedded")


def _tell(line: Line[tuple[str, dict[str, object]]]) -> None:
    event, named = line.item
    if line.told is Told.ONCE:
        log.info(event, **named)
    else:
        who = named if line.told is Told.AGAIN else {}
        log.info(f"{event}_again", client_id=who.get("client_id"), times=line.times)


def segments(prefix: str) -> Mapping[bytes, str]:
    """The topics of a credential in both spellings: the whole topic as bytes, to its last segment."""
    topics = (topic for each in hub_topics(prefix) for topic in (each.c2s, each.s2c, each.status))
    return {topic.encode(): topic.rpartition("/")[2] for topic in topics}


def fitting(will: Will, topics: Mapping[bytes, str]) -> bool:
    """Whether a will says `offline` on the client's own status topic, the one that contract 10.3 has.

    One of `online` would say that of a client that is gone, so it is refused rather than bent.
    """
    return topics.get(will.topic) == STATUS and will.payload == OFFLINE


def still_good(then: CredentialEntry, now: CredentialEntry | None) -> bool:
    """Whether a login made with `then` would still be good; a new name or grant does not matter."""
    if now is None or not now.active:
        return False
    return _login(then) == _login(now)


def _login(entry: CredentialEntry) -> tuple[object, ...]:
    return entry.hub_id, entry.access_key, entry.topic_prefix, entry.mqtt_password_hash
