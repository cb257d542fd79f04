# SPDX-License-Identifier: Apache-2.0
"""The clear frames: HELLO, the offer and the handshake messages that come before a session (contract 3 and 5).

Writes and reads their JSON for both sides. Integers are kept exactly, because two of these payloads are hashed.
Decides nothing: which frame may stand where is the sessions' business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from thalovant.protocol import strict_json
from thalovant.protocol.errors import MessageError, TooLargeError
from thalovant.protocol.messages import HiveMessage

MAX_CLEAR: Final = 65_536
"""The longest clear frame taken, in bytes. Real ones have about 1,200."""

MESSAGE_1_PAYLOAD: Final = b'{"binarize":false,"encodings":[]}'
MESSAGE_2_PAYLOAD: Final = b'{"encoding": "JSON-HEX"}'

_SHAKE_NAMES: Final = ("shake", "handshake")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")
_CODE: Final = re.compile(r"[a-z0-9_]{1,40}")
_REASON: Final = 200  # characters


@dataclass(frozen=True, slots=True)
class ClearFrame:
    """One clear frame. `kind` is its `msg_type`; `handshake` is read as `shake`."""

    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NoiseEnvelope:
    """A Noise message inside a shake; the client's first names its choice of `pattern` and `suite`."""

    message: bytes
    pattern: str | None
    suite: str | None


@dataclass(frozen=True, slots=True)
class ClearRefusal:
    """A hub's last word where its carrier has no close code: a stable `code`, and a `reason` on one printable line.

    The codes are those of the hub's refusals (docs/wire.md); a newer hub may have others.
    """

    code: str
    reason: str


def parse_clear(data: bytes | str) -> ClearFrame:
    """Read one clear frame. Raises `MessageError`, or `TooLargeError` beyond 64 KiB."""
    if len(data) > MAX_CLEAR:
        raise TooLargeError(f"A clear frame holds at most {MAX_CLEAR} bytes.", limit=MAX_CLEAR)
    value = strict_json.parse_exact(data)
    if not isinstance(value, dict) or not isinstance(value.get("msg_type"), str):
        raise MessageError("A clear frame is a JSON object with a text `msg_type`.")
    kind, payload = value["msg_type"], value.get("payload")
    if not isinstance(payload, dict):
        raise MessageError("The payload of a clear frame is an object.")
    return ClearFrame("shake" if kind in _SHAKE_NAMES else kind, payload)


def clear_frame(data: bytes | str) -> ClearFrame | None:
    """The clear frame, or None when `data` is not one; never raises.

    For carriers that do not tell clear from sealed: a sealed frame that happens to be such JSON does not occur.
    """
    if data[:1] not in (b"{", "{"):
        return None
    try:
        return parse_clear(data)
    except (MessageError, TooLargeError):
        return None


def clear_kind(data: bytes | str) -> str | None:
    """The kind of a clear frame, or None when `data` is not one; never raises."""
    frame = clear_frame(data)
    return None if frame is None else frame.kind


def hello_frame(payload: dict[str, Any]) -> bytes:
    """A clear HELLO with the full envelope, spaced as upstream does. Raises `MessageError`."""
    return HiveMessage("hello", payload).to_json().encode()


def offer_frame(payload: dict[str, Any]) -> bytes:
    """The hub's offer with the full envelope. Raises `MessageError`."""
    return HiveMessage("shake", payload).to_json().encode()


def hub_shake(message: bytes) -> bytes:
    """A Noise message of the hub."""
    return HiveMessage("shake", {"noise": {"msg": message.hex()}}).to_json().encode()


def refusal_frame(code: str, reason: str) -> bytes:
    """The hub's last word to a client behind an outside broker, which nothing else would tell that it is refused.

    It is a shake that is neither offer nor Noise message, so that clients that do not know it fail at once, too.
    Raises `MessageError`.
    """
    return HiveMessage("shake", {"thalovant": {"refused": {"code": code, "reason": reason}}}).to_json().encode()


def client_shake(message: bytes, *, pattern: str | None = None, suite: str | None = None) -> bytes:
    """A Noise message of the client, with only the four keys that clients send (contract 5)."""
    noise = {} if pattern is None or suite is None else {"pattern": pattern, "suite": suite}
    envelope = {
        "msg_type": "shake",
        "payload": {"noise": {**noise, "msg": message.hex()}},
        "metadata": {},
        "route": [],
    }
    return strict_json.dump_spaced(envelope).encode()


def noise_envelope(payload: Mapping[str, Any]) -> NoiseEnvelope:
    """The Noise message in the payload of a shake. Raises `MessageError` when there is none or it is malformed."""
    noise = payload.get("noise")
    if not isinstance(noise, dict):
        raise MessageError("The handshake frame has no `noise` part; this hub speaks protocol version 3 only.")
    text, pattern, suite = noise.get("msg"), noise.get("pattern"), noise.get("suite")
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise MessageError("The handshake frame has no hexadecimal `noise.msg`.")
    if not isinstance(pattern, str | None) or not isinstance(suite, str | None):
        raise MessageError("The handshake frame names its pattern and suite as text.")
    return NoiseEnvelope(bytes.fromhex(text), pattern, suite)


def refusal_of(payload: Mapping[str, Any]) -> ClearRefusal | None:
    """The refusal in the payload of a shake; None when there is none. Raises `MessageError` for a malformed one.

    What could disturb a terminal is taken out of the reason, which is cut at 200 characters.
    """
    mark = payload.get("thalovant")
    if not isinstance(mark, dict) or "refused" not in mark:
        return None
    refused = mark["refused"] if isinstance(mark["refused"], dict) else {}
    code, reason = refused.get("code"), refused.get("reason")
    if not isinstance(code, str) or not isinstance(reason, str) or not _CODE.fullmatch(code):
        raise MessageError("The hub refuses, and does not say why in a way that can be read.")
    printable = "".join(char if char.isprintable() else " " for char in reason)
    return ClearRefusal(code, " ".join(printable.split())[:_REASON].rstrip())


def is_offer(payload: Mapping[str, Any]) -> bool:
    """Whether the payload of a shake is an offer: a `noise` part that carries no message."""
    noise = payload.get("noise")
    return isinstance(noise, dict) and "msg" not in noise


def offered(payload: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """The patterns and suites of an offer. Raises `MessageError` when they are not lists of text."""
    noise = payload.get("noise")
    if not isinstance(noise, dict):
        raise MessageError("The hub offers no Noise handshake; this client speaks protocol version 3 only.")
    return _names(noise.get("patterns")), _names(noise.get("suites"))


def _names(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise MessageError("The patterns and suites of an offer are lists of text.")
    return frozenset(value)
