# SPDX-License-Identifier: Apache-2.0
"""How many small MQTT PUBLISH packets our codec decodes in a second on one core.

No socket, no TLS: bytes in memory, as many packets a read as an event loop hands over. The ruler of the same
run is slicing the same packets out of the same bytes, the least any reader can do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

from thalovant.protocol.mqtt.framing import PacketReader
from thalovant.protocol.mqtt.packets import Codec, Publish
from thalovant.protocol.mqtt.properties import Properties
from thalovant.protocol.mqtt.v5 import V5
from thalovant.protocol.mqtt.v311 import V311

TOPIC = b"hubs/0123456789abcdef/clients/0123456789abcdef/c2s"
PAYLOAD = bytes(137)  # a sealed frame of 120 bytes of JSON
TARGET = 250_000
_IN_ONE_READ = 300
_PROPERTIES = Properties(message_expiry_interval=60, user_properties=(("room", "kitchen"),))


def run(short: bool) -> list[str]:
    """A line for each version to print: packets a second, best of five, beside the ruler."""
    count = 30_000 if short else 300_000
    plain = Publish(TOPIC, PAYLOAD, 1, 1)
    stamped = Publish(TOPIC, PAYLOAD, 1, 1, properties=_PROPERTIES)
    return [
        _line("MQTT 3.1.1 PUBLISH QoS 1", V311, plain, count),
        _line("MQTT 5 PUBLISH QoS 1, no properties", V5, plain, count),
        _line("MQTT 5 PUBLISH QoS 1, an expiry and a user property", V5, stamped, count // 5),
    ]


def _line(what: str, version: Codec, packet: Publish, count: int) -> str:
    raw = version.encode(packet)
    decoded, sliced = _best(partial(_decode, version, raw), count), _best(partial(_slice, raw), count)
    return (
        f"decode  {what}, {len(PAYLOAD)} B payload, {_IN_ONE_READ} packets a read, no TLS, one core: "
        f"{decoded:,.0f} packets/s (target {TARGET:,}); bare slicing {sliced:,.0f}/s, ratio {sliced / decoded:.1f}"
    )


def _best(work: Callable[[int], int], count: int) -> float:
    return max(_rate(work, count) for _ in range(5))


def _rate(work: Callable[[int], int], count: int) -> float:
    began = perf_counter()
    done = work(count)
    return done / (perf_counter() - began)


def _decode(version: Codec, packet: bytes, count: int) -> int:
    reader = PacketReader(262_144, version)
    read = packet * _IN_ONE_READ
    done = 0
    while done < count:
        done += len(reader.feed(read))
    return done


def _slice(packet: bytes, count: int) -> int:
    read, size = packet * _IN_ONE_READ, len(packet)
    done = 0
    while done < count:
        done += len([read[at : at + size] for at in range(0, len(read), size)])
    return done


if __name__ == "__main__":
    for line in run(short=False):
        print(line, flush=True)
