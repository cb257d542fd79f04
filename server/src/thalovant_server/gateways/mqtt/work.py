# SPDX-License-Identifier: Apache-2.0
"""What reading a packet costs in its client's lane: one, and more for the lists in it.

A packet of 5 KiB may hold a thousand user properties or topic filters and takes as long to read as hundreds of small
ones. Counted as one, a single client could keep the event loop busy with them.

It will not count bytes: a long payload costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalovant.protocol.mqtt.packets import Connect, Publish, Subscribe, Unsubscribe
from thalovant.protocol.mqtt.properties import NOTHING

if TYPE_CHECKING:
    from thalovant.protocol.mqtt.packets import Packet

ITEMS = 2
"""So many filters or user properties cost as much as a small packet."""


def work_of(packet: Packet) -> int:
    """As how many packets this one counts."""
    properties = getattr(packet, "properties", NOTHING)
    if type(packet) is Publish and properties is NOTHING:  # nearly all there are
        return 1
    items = len(properties.user_properties)
    if isinstance(packet, Subscribe | Unsubscribe):
        items += len(packet.filters)
    elif isinstance(packet, Connect) and packet.will is not None:
        items += len(packet.will.properties.user_properties)
    return 1 + items // ITEMS
