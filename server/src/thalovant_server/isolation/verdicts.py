# SPDX-License-Identifier: Apache-2.0
"""What a broker's answer to a move means: a clear no, no effect, or that the move worked.

It reads values only: what the attacker saw, and what the two connections that stay have noticed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from thalovant.protocol.mqtt.packets import Connack, Disconnect, Packet, Puback, Publish, Pubrec, Suback
from thalovant_server.isolation.attacker import FAILURE, Seen
from thalovant_server.isolation.moves import Gap, Kind, Move

BROKER = "outside broker"


class Verdict(Enum):
    """The outcome of one move."""

    DENIED = "denied"  # with a reason, or with the end of the connection where there is none
    NO_EFFECT = "no effect"  # nobody said no, and nobody noticed anything
    WORKED = "WORKED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table. `answer` is what came back, in the standard's words; `noticed` what others had of it.

    `level` is the protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5. `road` is how it was reached: TLS, WebSocket or
    `BROKER`. `gap` is what is open if it worked.
    """

    move: str
    gain: str
    level: int
    answer: str
    noticed: tuple[str, ...]
    verdict: Verdict
    road: str = "TLS"
    gap: Gap = Gap.TOPICS


def judge(
    move: Move, level: int, seen: Seen, noticed: Sequence[str] = (), *, own: Collection[bytes] = frozenset()
) -> Outcome:
    """Judge a move by all that is known of it. `own` are topics that the attacker may hear."""
    answer = answer_of(move, seen)
    verdict = _verdict(move, level, seen, noticed, own)
    return Outcome(move.name, move.gain, level, answer, tuple(noticed), verdict, gap=move.gap)


def judge_cut(credential: str, level: int, was_cut: bool, noticed: Sequence[str] = ()) -> Outcome:
    """Judge whether a connection ended with its credential, and whether anybody else noticed."""
    verdict = Verdict.DENIED if was_cut and not noticed else Verdict.WORKED
    answer = "closed" if was_cut else "nothing"
    name = f"stay connected with {credential}"
    return Outcome(name, "go on", level, answer, tuple(noticed), verdict, gap=Gap.ENDED)


def answer_of(move: Move, seen: Seen) -> str:
    """What came back, as a reader of the standard would put it: `SUBACK 0x87`, `CONNACK 5, closed`, `closed`."""
    said = [_named(packet) for packet in seen.packets[1 if seen.let_in else 0 :]]
    if not said and seen.let_in:
        said = ["CONNACK 0"] if move.kind is Kind.CONNECT else []
    if seen.closed:
        said.append("closed")
    return ", ".join(dict.fromkeys(said)) or "nothing"


def _verdict(move: Move, level: int, seen: Seen, noticed: Sequence[str], own: Collection[bytes]) -> Verdict:
    if noticed or _overheard(seen, own):
        return Verdict.WORKED
    if not seen.let_in or seen.closed or any(map(_says_no, seen.packets)):
        return Verdict.DENIED
    if move.harmless or move.kind is Kind.SUBSCRIBE:  # granted, and the neighbour was heard by nobody
        return Verdict.NO_EFFECT
    # MQTT 3.1.1 acknowledges what it throws away (MQTT-3.3.5-2), and so does QoS 0; in 5 a success is one.
    silent = move.kind is Kind.PUBLISH and (level == 4 or move.qos == 0)
    return Verdict.NO_EFFECT if silent else Verdict.WORKED


def _overheard(seen: Seen, own: Collection[bytes]) -> bool:
    """Whether the attacker was sent what is not its own."""
    return any(isinstance(packet, Publish) and packet.topic not in own for packet in seen.packets)


def _says_no(packet: Packet) -> bool:
    match packet:
        case Suback(codes=codes):
            return bool(codes) and all(code >= FAILURE for code in codes)
        case Puback(code=code) | Pubrec(code=code) | Disconnect(code=code):
            return code >= FAILURE
        case _:
            return False


def _named(packet: Packet) -> str:
    name = type(packet).__name__.upper()
    match packet:
        case Connack(code=code) if code < FAILURE:
            return f"{name} {code}"
        case Suback(codes=codes):
            return f"{name} {' '.join(f'0x{code:02x}' for code in codes)}"
        case Connack(code=code) | Puback(code=code) | Pubrec(code=code) | Disconnect(code=code):
            return f"{name} 0x{code:02x}"
        case _:
            return name
