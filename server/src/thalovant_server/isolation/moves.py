# SPDX-License-Identifier: Apache-2.0
"""The isolation matrix as data: every move of an attacker with a good identity of its own (`design/targets.md`).

A move is what the attacker says in CONNECT and, once it is let in, in one more packet. In its texts `{own}` and
`{neighbour}` stand for where a client's topics begin, `{hubs}` for what is above all hubs, `{own_name}` and the like
for its credential. Nothing here opens a socket or judges an answer: `attacker` does the one, `verdicts` the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from thalovant.protocol.topics import SPELLINGS, STATUS
from thalovant_server.isolation.packets import Will, Wire

LONGEST = 65_535  # bytes of an MQTT field
WRONG = "not-the-password"
LONG = "x" * LONGEST
HELLO = b'{"msg_type": "hello", "payload": {"pubkey": ""}, "metadata": {}, "route": []}'
"""What begins a session at a hub: whoever gets it through on a neighbour's topic is heard as that neighbour."""
OVERLONG = "\udcc1\udca3"
"""The two bytes C1 A3: a `c` for who reads UTF-8 carelessly. Written with `surrogateescape`."""


class Kind(Enum):
    """Which packet a move is about, and so which answer tells."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    CONNECT = "connect"


class Gap(Enum):
    """What a broker leaves open where a move works."""

    TOPICS = "topics"  # of others
    CLIENT_ID = "client id"
    LOGIN = "login"
    SIZE = "size"
    ENDED = "ended credentials"


@dataclass(frozen=True, slots=True)
class Party:
    """One client: its broker credential, and where its topics begin."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    prefix: str

    def topic(self, segment: str) -> bytes:
        """One of its topics: c2s, s2c, in, out or status."""
        return f"{self.prefix}/{segment}".encode()


@dataclass(frozen=True, slots=True)
class Scene:
    """Who is there. Each of the two has a connection that stays, under the client id that is named here."""

    attacker: Party
    neighbour: Party
    attacker_id: str = "isolation-attacker-stays"
    neighbour_id: str = "isolation-neighbour-stays"

    def heard_rightly(self) -> frozenset[bytes]:
        """The topics that the attacker may hear: its own, of what its hub answers."""
        return frozenset(self.attacker.topic(segment) for segment in (*SPELLINGS.values(), STATUS))

    def fill(self, text: str) -> bytes:
        """A text of a move with what it stands for."""
        own, other = self.attacker, self.neighbour
        hub, _, rest = own.prefix.rpartition("/clients/")
        hubs = hub.rpartition("/")[0]
        filled = text.format(
            own=own.prefix, own_name=own.username, own_password=own.password, own_id=self.attacker_id,
            neighbour=other.prefix, neighbour_name=other.username, neighbour_id=self.neighbour_id,
            swapped_name=own.username.swapcase(), elsewhere=f"{hubs}/somebody-elses/clients/{rest}", hubs=hubs,
            as_deep="/".join("+" * (own.prefix.count("/") + 2)),
        )  # fmt: skip
        return filled.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that must not work.

    Args:
        gain: what it would give an attacker.
        topic: of the SUBSCRIBE or PUBLISH.
        will: topic of a will in CONNECT; the payload is `will_payload`.
        harmless: a broker may say yes to it, as long as nobody notices anything. Elsewhere it has to say no.
        gap: what is open if it works.
        is_private: what the attacker's other connection has of it is the attacker's own: its hub's answer, its status.
    """

    name: str
    kind: Kind
    gain: str
    topic: str = ""
    payload: bytes = field(default=HELLO, repr=False)
    qos: int = 1
    retain: bool = False
    username: str = "{own_name}"
    password: str = "{own_password}"  # noqa: S105 - a place to fill in
    client_id: str = "isolation-attacker"
    will: str = ""
    will_payload: str = "offline"
    harmless: bool = False
    gap: Gap = Gap.TOPICS
    is_private: bool = False

    def connect(self, scene: Scene, wire: Wire) -> bytes:
        """The CONNECT of this move."""
        will = Will(scene.fill(self.will), self.will_payload.encode()) if self.will else None
        name, password = scene.fill(self.username), scene.fill(self.password)
        return wire.connect(name, password, scene.fill(self.client_id), will=will)

    def then(self, scene: Scene, wire: Wire) -> bytes:
        """What it says once it is let in: nothing in a move that is about CONNECT alone."""
        topic = scene.fill(self.topic)
        match self.kind:
            case Kind.SUBSCRIBE:
                return wire.subscribe(topic)
            case Kind.PUBLISH:
                return wire.publish(topic, self.payload, qos=self.qos, retain=self.retain)
            case Kind.CONNECT:
                return b""

    def leaves(self, scene: Scene) -> frozenset[bytes]:
        """The topics on which a broker that lets it happen keeps something."""
        left = ((self.topic, self.retain), (self.will, bool(self.will)))
        return frozenset(scene.fill(topic) for topic, keeps in left if keeps)


def moves() -> tuple[Move, ...]:
    """Every MQTT move that needs no change of an identity meanwhile; those with a failed login come last."""
    return (*_subscribes(), *_publishes(), *_connects(), *_failed_logins())


def stale(credential: str) -> Move:
    """Log in with what was the attacker's own credential: a revoked one, or one that was rotated without a grace."""
    return Move(f"log in with {credential}", Kind.CONNECT, "come back", gap=Gap.ENDED)


# -- SUBSCRIBE

_EVERYBODY = (
    ("#", "#", "hear everything"),
    ("+/#", "+/#", "hear everything"),
    ("+/+/+/+/+", "{as_deep}", "hear everything that is as deep as a client's topics"),
    ("hubs/#", "{hubs}/#", "hear every hub"),
    ("hubs/+/clients/+/s2c", "{hubs}/+/clients/+/s2c", "hear what every hub answers"),
    ("$SYS/#", "$SYS/#", "hear the broker's own news"),
    ("$CONTROL/#", "$CONTROL/#", "hear the broker being steered"),
    ("$share/g/#", "$share/g/#", "take everybody's messages away"),
)
# Own topics, spelt so that a careless comparison makes others of them.
_CROOKED = (
    ("own/s2c/ (trailing slash)", "{own}/s2c/"),
    ("own/s2c with a NUL", "{own}/s2c\0"),
    ("own/s2c that is not in normal form C", "{own}/s2c\u0301"),
    ("own/s2c in overlong UTF-8", "{own}/s2" + OVERLONG),
    ("own/#", "{own}/#"),
    ("own/+", "{own}/+"),
)


def _subscribes() -> Iterator[Move]:
    for name, text, gain in _EVERYBODY:
        yield _subscribe(name, gain, text)
    for segment in ("s2c", "out", "status", "c2s", "in", "#"):
        yield _subscribe(f"neighbour/{segment}", "hear a neighbour", f"{{neighbour}}/{segment}")
    for segment in ("s2c", "c2s", "status"):
        yield _subscribe(
            f"$share/g/neighbour/{segment}", "take a neighbour's messages away", f"$share/g/{{neighbour}}/{segment}"
        )
    for segment in ("c2s", "in"):
        yield _subscribe(f"own/{segment}", "hear what the hub is told", f"{{own}}/{segment}")
    for name, text in _CROOKED:
        yield _subscribe(name, "get round a comparison of topics", text)


def _subscribe(name: str, gain: str, topic: str) -> Move:
    return Move(f"subscribe to {name}", Kind.SUBSCRIBE, gain, topic)


# -- PUBLISH

_AT_A_NEIGHBOUR = (
    ("c2s", "speak as a neighbour"),
    ("in", "speak as a neighbour"),
    ("s2c", "answer a neighbour in its hub's place"),
    ("out", "answer a neighbour in its hub's place"),
    ("status", "say that a neighbour is gone"),
)
_NO_TOPICS = (
    ("the empty topic", ""),
    ("own/+", "{own}/+"),
    ("own/#", "{own}/#"),
    ("#", "#"),
    ("own/c2s with a NUL", "{own}/c2s\0"),
    ("own/c2s in overlong UTF-8", "{own}/" + OVERLONG + "2s"),
)


def _publishes() -> Iterator[Move]:
    for segment, gain in _AT_A_NEIGHBOUR:
        payload, retain = (b"offline", True) if segment == "status" else (HELLO, False)
        for qos in (0, 1, 2):
            name = f"publish to neighbour/{segment}, QoS {qos}"
            yield Move(name, Kind.PUBLISH, gain, f"{{neighbour}}/{segment}", payload, qos, retain)
    for segment in ("s2c", "out"):
        yield _publish(f"own/{segment}", "speak in the hub's place", f"{{own}}/{segment}")
    for segment in ("c2s", "in"):
        name, gain = f"publish to own/{segment}, retained", "leave something for the hub's next start"
        topic = f"{{own}}/{segment}"  # a hub behind a broker ignores what was retained
        yield Move(name, Kind.PUBLISH, gain, topic, retain=True, harmless=True, is_private=True)
    for topic in ("$SYS/broker/clients/total", "$CONTROL/dynamic-security/v1", "$share/g/x"):
        yield _publish(topic, "steer the broker", topic)
    yield _publish("own topic below another hub", "use a credential of hub A on hub B", "{elsewhere}/c2s")
    for name, text in _NO_TOPICS:
        yield _publish(name, "speak to many at once, or past a check", text)


def _publish(name: str, gain: str, topic: str) -> Move:
    return Move(f"publish to {name}", Kind.PUBLISH, gain, topic)


# -- CONNECT


def _connects() -> Iterator[Move]:
    """With the attacker's own good credential, but for what is 64 KiB long."""
    yield _connect(
        "connect with a neighbour's client id", "take a neighbour's place", client_id="{neighbour_id}", harmless=True,
        gap=Gap.CLIENT_ID,
    )  # fmt: skip
    for segment in ("status", "s2c", "c2s"):
        will = f"{{neighbour}}/{segment}"
        yield _connect(
            f"connect with a will at neighbour/{segment}", "speak there by hanging up", will=will, harmless=True
        )
    gain = "make the broker hold 64 KiB for a stranger"
    yield _connect("connect with a client id of 64 KiB", gain, client_id=LONG, harmless=True, gap=Gap.SIZE)
    yield _connect("connect with a user name of 64 KiB", gain, username=LONG, gap=Gap.SIZE)
    yield _connect("connect with a password of 64 KiB", gain, password=LONG, gap=Gap.SIZE)
    yield _connect(
        "connect with a will of 64 KiB", gain, will="{own}/status", will_payload=LONG, harmless=True, gap=Gap.SIZE,
        is_private=True,
    )  # fmt: skip


def _failed_logins() -> Iterator[Move]:
    yield _login(
        "log in as a neighbour with its client id and a wrong password", "throw a neighbour out",
        username="{neighbour_name}", password=WRONG, client_id="{neighbour_id}",
    )  # fmt: skip
    yield _login("log in as a neighbour with the own password", "be a neighbour", username="{neighbour_name}")
    gain = "be let in for nothing"
    yield _login("log in as a neighbour with an empty password", gain, username="{neighbour_name}", password="")
    yield _login("log in with an empty password", gain, password="")
    yield _login("log in with the key in the wrong case", "pass a careless comparison", username="{swapped_name}")
    yield _login(
        "log in with a will and a wrong password", "speak without a login", password=WRONG, will="{own}/status"
    )
    yield _login(
        "log in with a will at a neighbour and a wrong password", "speak there without a login",
        password=WRONG, will="{neighbour}/status",
    )  # fmt: skip
    yield _login(
        "log in with a clean start, the own client id and a wrong password", "clear a session without a login",
        password=WRONG, client_id="{own_id}",
    )  # fmt: skip


def _login(name: str, gain: str, **said: Any) -> Move:
    return replace(_connect(name, gain, **said), gap=Gap.LOGIN)


def _connect(
    name: str,
    gain: str,
    *,
    username: str = "{own_name}",
    password: str = "{own_password}",  # noqa: S107 - a place to fill in
    client_id: str = "isolation-attacker",
    will: str = "",
    will_payload: str = "offline",
    harmless: bool = False,
    gap: Gap = Gap.TOPICS,
    is_private: bool = False,
) -> Move:
    return Move(
        name, Kind.CONNECT, gain, username=username, password=password, client_id=client_id, will=will,
        will_payload=will_payload, harmless=harmless, gap=gap, is_private=is_private,
    )  # fmt: skip
