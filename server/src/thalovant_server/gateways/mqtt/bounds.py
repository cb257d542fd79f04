# SPDX-License-Identifier: Apache-2.0
"""The bounds that only MQTT has; those of every carrier are in `hub.limits`.

It will not enforce them.
"""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds in seconds, bytes and counts. Tests pass smaller ones."""

    # From the end of the TLS handshake to a whole CONNECT.
    connect_seconds: float = 20.0
    # A CONNECT holds a client id, a will, an access key and a password: far below.
    first_packet_bytes: int = 10 * KIB
    # A sealed frame is at most 65,535 bytes; the rest is room for clients that batch.
    packet_bytes: int = 256 * KIB
    # A WebSocket frame: a client may put several packets into one.
    frame_bytes: int = 1024 * KIB
    client_id_chars: int = 128
    # PUBLISHes sent and not yet acknowledged; the next ones wait in order.
    in_flight: int = 1_000
    # QoS 2 PUBLISHes received and not yet released.
    unreleased: int = 1_000
    # Unread answers beyond which the client's own packets are not read either.
    unread_bytes: int = 1024 * KIB
    # MQTT-3.1.2-24: a client that is silent for so many keep alive periods is gone.
    keepalive_factor: float = 1.5
    # MQTT 5: the keep alive in seconds of a client that asks for none, or for more. Three of these an hour cost a
    # battery nothing, and a client whose network is gone is not held for a day.
    keepalive_most: int = 1_200
    # A client that takes nothing of what waits for it for so long is gone, whatever keep alive it asked for.
    stall_seconds: float = 60.0
