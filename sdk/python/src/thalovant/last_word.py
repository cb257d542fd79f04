# SPDX-License-Identifier: Apache-2.0
"""What a hub's last word in the clear means: the same as its close code would on a carrier that has one.

Behind an outside broker a hub has no connection to close, so it says in a clear frame that it refuses a client or has
ended its session (docs/wire.md). The rule of what follows from it:

- Only the hub may publish on a client's topic, if the broker is set up as it should be; nothing else authenticates the
  frame. So it is worth exactly as much as the broker's or a web server's own word, which is not authenticated by the
  session either: a WebSocket's close code, HTTP 403, DISCONNECT 0x87.
- It may end a session, at any time. What was in flight fails, and the client dials again by itself.
- It never changes what is kept: no pin of a hub's key is written, forgotten or replaced by it, and no identity. At
  most a password is stretched once more.
- It makes a client give up no sooner than those other words do: refusals of the credential have to last for a minute,
  others for ten; and "another client key" ends it at once only where a close with 1008 does, right after an XX
  handshake, before anything of the hub has authenticated. A client that is told so in between dials again, and hears
  it there or not at all.
- A code that is not known here is a drop, which is dialled again.
"""

from __future__ import annotations

from typing import Final

from thalovant.protocol.clear import ClearRefusal
from thalovant.transports.base import Loss

__all__ = ["OTHER_KEY", "loss_of"]

OTHER_KEY: Final = "key_mismatch"
"""The code for an access key that belongs to another client key (contract 4.2)."""

_OF_CREDENTIAL: Final = frozenset(
    {
        *("unknown_key", "wrong_hub", "rotated_out", "removed", "revoked", "paused", "mqtt_elsewhere"),
        *("invalid_authorization", "handshake_failed", OTHER_KEY),
    }
)
_CLOSE_CODES: Final = {
    **dict.fromkeys(("protocol_off", "hub_off"), 1008),
    **dict.fromkeys(("restart", "session_lost"), 1012),
    **dict.fromkeys(("busy", "throttled", "too_many_connections", "slow_reader", "replaced"), 1013),
}


def loss_of(refusal: ClearRefusal, text: str) -> Loss:
    """Why the carrier's use has ended, as if the hub had closed it; `text` is the sentence for people."""
    return Loss(
        text,
        close_code=_CLOSE_CODES.get(refusal.code),
        refused=refusal.code in _OF_CREDENTIAL,
        refusal=refusal.code,
    )
