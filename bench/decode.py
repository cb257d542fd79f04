# SPDX-License-Identifier: Apache-2.0
"""How many small MQTT PUBLISH packets our codec decodes in a second on one core.

No socket, no TLS: bytes in memory, as many packets a read as an event loop hands over. The ruler of the same
run is slicing the same packets out of the same bytes, the least any reader can do.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.v311 import encode_publish

TOPIC = b"hubs/0123456789abcdef/clients/0123456789abcdef/c2s"
PAYLOAD = bytes(137)  # a sealed frame of 120 bytes of JSON
TARGET = 250_000
_PACKET = encode_publish(TOPIC, PAYLOAD, qos=1, packet_id=1)
_IN_ONE_READ = 300


def run(short: bool) -> list[str]:
    """One line to print: packets a second, best of five, beside the ruler."""
    count = 30_000 if short else 300_000
    decoded, sliced = _best(_decode, count), _best(_slice, count)
    return [
        f"decode  MQTT 3.1.1 PUBLISH QoS 1, {len(PAYLOAD)} B payload, {_IN_ONE_READ} packets a read, no TLS, one core: "
        f"{decoded:,.0f} packets/s (target {TARGET:,}); bare slicing {sliced:,.0f}/s, ratio {sliced / decoded:.1f}"
    ]


def _best(work: Callable[[int], int], count: int) -> float:
    return max(_rate(work, count) for _ in range(5))


def _rate(work: Callable[[int], int], count: int) -> float:
    began = perf_counter()
    done = work(count)
    return done / (perf_counter() - began)


def _decode(count: int) -> int:
    reader = PacketReader(262_144)
    read = _PACKET * _IN_ONE_READ
    done = 0
    while done < count:
        done += len(reader.feed(read))
    return done


def _slice(count: int) -> int:
    read, size = _PACKET * _IN_ONE_READ, len(_PACKET)
    done = 0
    while done < count:
        done += len([read[at : at + size] for at in range(0, len(read), size)])
    return done
