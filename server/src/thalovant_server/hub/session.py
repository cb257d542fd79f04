# SPDX-License-Identifier: Apache-2.0
"""The hub's side of one session: offer, handshake, pin, then sealed messages (contract 1, 3, 4.2, 5 and 6).

Sans-I/O mirror of `thalovant.protocol.session`. What arrives goes in through `receive_clear` and
`receive_sealed`; what is to be done comes out as a list of outputs, to be carried out in order. Nothing that
arrives makes these methods raise: what is wrong ends the session with one `Failed`, and everything after it is
ignored. It stretches nothing, stores no pin, knows no carrier and judges no message: its owner does.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal

from thalovant.protocol import clear
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.errors import FrameError, MessageError, NoiseError, SessionError, TooLargeError
from thalovant.protocol.frames import CHUNK_SIZE, Frame, FrameReader, FrameWriter
from thalovant.protocol.messages import MALFORMED_PAYLOAD, HiveMessage
from thalovant.protocol.noise import KEY_LENGTH, Handshake, canonical_json, prologue
from thalovant.protocol.session import Received, ReceivedBinary, SendClear, SendSealed, read_frame

__all__ = [
    "Failed",
    "Hello",
    "HubSession",
    "Malformed",
    "NeedPin",
    "NeedPsk",
    "Output",
    "Ready",
    "Received",
    "ReceivedBinary",
    "SendClear",
    "SendSealed",
]

State = Literal["new", "offered", "psk", "handshake", "pin", "ready", "failed"]
"""`new`: not opened. `offered`: waits for message 1. `psk`, `pin`: waits for its owner. `handshake`: waits for
message 3 (XX only)."""

MAX_WAITING: Final = 65_536
_FRAME_COST: Final = 64  # what a kept frame counts beyond its bytes, so that empty ones are bounded too
_KEPT_FRAMES: Final = 64  # beside those of the longest message, while the pin is committed
_MAX_NAME: Final = 256  # characters of a session id or site id

SEALED_OVERHEAD: Final = 17  # of a frame: its marker and its tag


@dataclass(frozen=True, slots=True)
class NeedPsk:
    """Call `provide_psk` with this credential's pre-shared key."""


@dataclass(frozen=True, slots=True)
class NeedPin:
    """A handshake has proven this key (32 bytes) and none is pinned: pin it, then call `provide_pin`."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake is done and the client's key is the pinned one. Always before anything it said."""

    pattern: str
    client_key: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The client's sealed HELLO, the first one or an update. Missing names are empty text."""

    session_id: str
    site_id: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message whose payload has the wrong shape; the session goes on (contract 9.4, `malformed_payload`)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The session is over. `reason` holds no secret.

    | code | meaning |
    |---|---|
    | `handshake` | not a handshake that was offered, or it does not authenticate: password or client key differ |
    | `key_mismatch` | XX was completed with another key than the one pinned |
    | `decrypt` | a sealed frame does not open: altered, repeated, lost or out of order |
    | `too_large` | a frame, a message or what had to be kept passes a limit |
    | `protocol` | anything else that the contract does not allow |
    """

    code: str
    reason: str


Output = SendClear | NeedPsk | NeedPin | Ready | Hello | Received | ReceivedBinary | Malformed | Failed


class HubSession:
    """One session of a hub with one client. `state` and `pattern` may be read freely."""

    def __init__(
        self,
        *,
        static_private: bytes,
        hello: dict[str, Any],
        offer: dict[str, Any],
        pinned: bytes | None,
        psk: bytes | None,
        max_message: int,
        max_waiting: int = MAX_WAITING,
        max_values: int | None = None,
    ) -> None:
        """`hello` and `offer` are the two payloads, hashed as they are: do not change them afterwards.

        `hello.peer` should differ for each connection: it is what makes a recorded KK message 1 useless later.
        `pinned`: the client's key (32 bytes) if one is pinned; offer KK only then. `psk`: 32 bytes, or None when it
        must be asked for. `max_message` bounds one inbound message, inflation included, and `max_waiting` what is
        kept while the owner is asked for a key; both in bytes. While it is asked about a pin the client has proven
        its password, and one message of `max_message` is kept beside that. `max_values` bounds the JSON
        values of one message.
        """
        self.state: State = "new"
        self.pattern: str | None = None
        self._static_private = static_private
        self._hello, self._offer = hello, offer
        self._patterns, self._suites = clear.offered(offer)
        self._pinned, self._psk = pinned, psk
        self._max_message, self._max_waiting, self._max_values = max_message, max_waiting, max_values
        self._message_1: clear.NoiseEnvelope | None = None
        self._handshake: Handshake | None = None
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None
        self._waiting: list[tuple[bool, bytes]] = []  # (sealed, frame)
        self._waiting_cost = 0

    @property
    def buffered(self) -> int:
        """Bytes held for the client: frames that wait for the owner, and the begun part of a message."""
        return self._waiting_cost + (0 if self._reader is None else self._reader.buffered)

    @property
    def unfinished(self) -> int:
        """Of these, the bytes of a message whose last chunk has not come."""
        return 0 if self._reader is None else self._reader.buffered

    @property
    def handshaking(self) -> bool:
        """True once the client has sent an acceptable first Noise message, and as long as the session lives."""
        return self.state not in ("new", "offered", "failed")

    def open(self) -> list[Output]:
        """The two clear frames with which a hub begins: HELLO and offer.

        Raises `SessionError` when called twice, `MessageError` when a payload is not plain JSON.
        """
        if self.state != "new":
            raise SessionError("This session is open already.")
        canonical_json([self._hello, self._offer])  # what cannot be hashed must not be sent
        self.state = "offered"
        return [SendClear(clear.hello_frame(self._hello)), SendClear(clear.offer_frame(self._offer))]

    def receive(self, data: bytes) -> list[Output]:
        """For carriers that do not tell clear from sealed (MQTT): what is due now, then the look of it, decides."""
        if self.state in ("pin", "ready") or clear.clear_kind(data) is None:
            return self.receive_sealed(data)
        return self.receive_clear(data)

    def receive_clear(self, data: bytes | str) -> list[Output]:
        """Take one clear frame of the client."""
        if self.state == "failed":
            return []
        if self.state == "pin":
            return self._keep(False, data if isinstance(data, bytes) else data.encode(errors="replace"))
        try:
            frame = clear.parse_clear(data)
        except TooLargeError as error:
            return self._fail("too_large", error.text)
        except MessageError as error:
            return self._fail("protocol", error.text)
        return self._clear(frame)

    def receive_sealed(self, frame: bytes) -> list[Output]:
        """Take one sealed frame of the client."""
        if self._reader is not None and self.state == "ready":
            return self._open(self._reader, frame)
        if self.state == "failed":
            return []
        if self.state in ("psk", "pin"):
            return self._keep(True, frame)
        return self._fail("protocol", "A sealed frame came before the handshake was done.")

    def provide_psk(self, psk: bytes) -> Iterable[Output]:
        """Answer `NeedPsk` with the 32-byte key. Raises `SessionError` when none was asked for.

        Iterate to the end: what was kept meanwhile is read as its outputs are taken.
        """
        if self.state == "failed":
            return []
        if self.state != "psk" or self._message_1 is None:
            raise SessionError("This session has not asked for a pre-shared key.")
        if len(psk) != KEY_LENGTH:
            raise SessionError("A pre-shared key has 32 bytes.")
        self._psk = psk
        return chain(self._answer(self._message_1), self._resume())

    def provide_pin(self, accepted: bool) -> Iterable[Output]:
        """Answer `NeedPin`: whether its key is now the pinned one. Raises `SessionError` when nothing was asked.

        Iterate to the end, as for `provide_psk`.
        """
        if self.state == "failed":
            return []
        if self.state != "pin" or self._handshake is None:
            raise SessionError("This session has not asked about a key.")
        if not accepted:
            return self._mismatch()
        return chain(self._finish(self._handshake), self._resume())

    def send(self, message: HiveMessage) -> list[SendSealed]:
        """Seal a message; send its frames in this order with nothing in between.

        Raises `SessionError` unless the session is ready, `MessageError` or `TooLargeError` for the message itself
        (the session goes on), `NoiseError` when the session's counter is used up.
        """
        return self._seal(message.encode(), binary=False)

    def send_binary(self, frame: BinaryFrame) -> list[SendSealed]:
        """The same for a binary frame."""
        return self._seal(frame.encode(), binary=True)

    def _seal(self, body: bytes, *, binary: bool) -> list[SendSealed]:
        if self._writer is None:
            raise SessionError("This session is not up, so nothing can be sent in it.")
        return [SendSealed(frame) for frame in self._writer.seal(body, binary=binary)]

    def _clear(self, frame: clear.ClearFrame) -> list[Output]:
        if self.state in ("new", "ready"):
            return self._fail("protocol", "A clear frame may come only during the handshake.")
        if frame.kind == "hello":  # seen: the upstream hub takes no notice of it
            return []
        if frame.kind != "shake":
            return self._fail("protocol", "A clear frame is neither a HELLO nor a handshake.")
        if self.state == "psk":  # sent again while we look up the key
            return []
        try:
            envelope = clear.noise_envelope(frame.payload)
        except MessageError as error:
            return self._fail("handshake", error.text)
        return self._begin(envelope) if self.state == "offered" else self._message_3(envelope)

    def _begin(self, envelope: clear.NoiseEnvelope) -> list[Output]:
        if envelope.pattern not in self._patterns or envelope.suite not in self._suites:
            return self._fail("handshake", "The client chose a pattern or suite that was not offered.")
        if envelope.pattern == "KKpsk0" and self._pinned is None:
            return self._fail("handshake", "The client chose KK, but no key is pinned for it.")
        self.pattern, self._message_1 = envelope.pattern, envelope
        if self._psk is None:
            self.state = "psk"
            return [NeedPsk()]
        return self._answer(envelope)

    def _answer(self, envelope: clear.NoiseEnvelope) -> list[Output]:
        """Read message 1 and write message 2."""
        try:
            handshake = self._responder(envelope.pattern or "", envelope.suite or "")
            handshake.read_message(envelope.message)
            answer = handshake.write_message(clear.MESSAGE_2_PAYLOAD)
        except NoiseError:
            return self._fail("handshake", "The handshake does not authenticate: password or client key differ.")
        self._handshake, self._message_1, self.state = handshake, None, "handshake"
        outputs: list[Output] = [SendClear(clear.hub_shake(answer))]
        return outputs + self._finish(handshake) if handshake.finished else outputs

    def _responder(self, pattern: str, suite: str) -> Handshake:
        return Handshake.responder(
            pattern,
            suite,
            prologue=prologue(self._hello, self._offer, pattern, suite),
            psk=self._psk or b"",
            static_private=self._static_private,
            remote_static=self._pinned if pattern == "KKpsk0" else None,
        )

    def _message_3(self, envelope: clear.NoiseEnvelope) -> list[Output]:
        handshake = self._handshake
        assert handshake is not None  # noqa: S101 - state "handshake" says so
        try:
            handshake.read_message(envelope.message)
        except NoiseError:
            return self._fail("handshake", "The last handshake message does not authenticate.")
        client_key = handshake.remote_static or b""
        if self._pinned is None:
            self.state = "pin"
            return [NeedPin(client_key)]
        if not hmac.compare_digest(client_key, self._pinned):
            return self._mismatch()
        return self._finish(handshake)

    def _mismatch(self) -> list[Output]:
        text = "The client has another key than the one pinned for its credential. An operator can reset the pin."
        return self._fail("key_mismatch", text)

    def _finish(self, handshake: Handshake) -> list[Output]:
        sending, receiving = handshake.split()
        self._writer = FrameWriter(sending)
        self._reader = FrameReader(receiving, max_message=self._max_message)
        self._handshake, self._psk, self.state = None, None, "ready"
        return [Ready(self.pattern or "", handshake.remote_static or b"")]

    def _open(self, reader: FrameReader, frame: bytes) -> list[Output]:
        try:
            whole = reader.open(frame)
            return [] if whole is None else self._read(whole)
        except NoiseError as error:
            return self._fail("decrypt", error.text)
        except TooLargeError as error:
            return self._fail("too_large", error.text)
        except FrameError as error:
            return self._fail("protocol", error.text)
        except MessageError as error:
            if error.code == MALFORMED_PAYLOAD:
                return [Malformed(error.text)]
            return self._fail("protocol", error.text)

    def _read(self, frame: Frame) -> list[Output]:
        output = read_frame(frame, self._max_message, self._max_values)
        if isinstance(output, Received):
            if output.message.msg_type == "hello":
                return [_hello(output.message.payload)]
            if output.message.msg_type == "shake":  # too late; upstream takes no notice of it (contract 5)
                return []
        return [output]

    def _keep(self, sealed: bool, frame: bytes) -> list[Output]:
        self._waiting_cost += len(frame) + _FRAME_COST
        if self._waiting_cost > self._room():
            return self._fail("too_large", "The client sent too much before its handshake was done.")
        self._waiting.append((sealed, frame))
        return []

    def _room(self) -> int:
        """What may be kept now. Small frames may each inflate to a whole message, so there are not many of them."""
        if self.state != "pin":
            return self._max_waiting
        frames = self._max_message // CHUNK_SIZE + _KEPT_FRAMES
        if len(self._waiting) >= frames:
            return 0
        return self._max_waiting + self._max_message + frames * (_FRAME_COST + SEALED_OVERHEAD)

    def _resume(self) -> Iterator[Output]:
        """Take what was kept, as far as the session now goes; one message at a time, for each may be a large one."""
        kept, self._waiting = deque(self._waiting), []
        while kept:
            sealed, frame = kept.popleft()
            self._waiting_cost = max(self._waiting_cost - len(frame) - _FRAME_COST, 0)
            yield from self.receive_sealed(frame) if sealed else self.receive_clear(frame)

    def _fail(self, code: str, reason: str) -> list[Output]:
        self.state = "failed"
        self._handshake, self._writer, self._reader, self._psk = None, None, None, None
        self._message_1, self._waiting, self._waiting_cost = None, [], 0
        return [Failed(code, reason)]


def _hello(payload: dict[str, Any]) -> Hello:
    """Raises `MessageError` for another shape than contract 6.2 has."""
    session = payload.get("session", {})
    if not isinstance(session, dict):
        raise MessageError("The session in the client's HELLO is an object.")
    return Hello(_name(session.get("session_id")), _name(payload.get("site_id")), payload)


def _name(value: Any) -> str:
    text = "" if value is None else value
    if not isinstance(text, str) or len(text) > _MAX_NAME:
        raise MessageError(f"A name in the client's HELLO is text of at most {_MAX_NAME} characters.")
    return text
