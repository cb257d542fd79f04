# SPDX-License-Identifier: Apache-2.0
"""The client's side of one session: HELLO, offer, handshake, then sealed messages (contract 1, 3, 5 and 6).

Sans-I/O. What arrives goes in through `receive_clear` and `receive_sealed`; what is to be done comes out as a
list of outputs, to be carried out in order. Nothing that arrives makes these methods raise: what is wrong ends
the session with one `Failed`, and everything after it is ignored. It stretches no password, keeps no pin and
retries nothing; its owner does, and starts a new session on a new carrier each time.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from thalovant.protocol import clear
from thalovant.protocol.binary import BinaryFrame
from thalovant.protocol.errors import (
    AuthenticationError,
    MessageError,
    NoiseError,
    ProtocolError,
    SessionError,
    TooLargeError,
)
from thalovant.protocol.frames import MAX_MESSAGE, REMEMBERED, Frame, FrameReader, FrameWriter
from thalovant.protocol.messages import UNKNOWN_TYPE, HiveMessage
from thalovant.protocol.noise import KEY_LENGTH, SUITES, Handshake, canonical_json, prologue

State = Literal["hello", "offer", "psk", "handshake", "ready", "failed"]
"""What the session waits for: the hub's HELLO, its offer, our owner's key, message 2; then it is up, or over."""

_NOT_OFFERED: Final = "The hub offers no handshake that this client speaks."


@dataclass(frozen=True, slots=True)
class SendClear:
    """Send this clear frame: UTF-8 JSON text."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendSealed:
    """Send this sealed frame, once and in order."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class NeedPsk:
    """Stretch the password for this node id and call `provide_psk`."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is up. With `trusted_now` the hub's key was not pinned before: pin `hub_key` (32 bytes)."""

    hub_key: bytes
    trusted_now: bool
    node_id: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the other side."""

    message: HiveMessage


@dataclass(frozen=True, slots=True)
class ReceivedBinary:
    """A binary payload (type `bin`) of the other side."""

    frame: BinaryFrame


@dataclass(frozen=True, slots=True)
class Failed:
    """The session is over. `text` holds no secret.

    | code | meaning |
    |---|---|
    | `wrong_password` | message 2 of XX does not authenticate: another password, or an altered offer |
    | `kk_failed` | the same in KK: also the hub may have a new key. Try again with `allow_kk=False` |
    | `hub_key_changed` | the hub shows another key than the one pinned. The pin stays |
    | `restarted` | the hub spoke in the clear inside a session: it has none any more. Connect again |
    | `refused` | the hub said so in the clear, and why: `refusal`. Nothing authenticates that |
    | `too_large` | a frame or message passes a limit |
    | `protocol` | anything else that the contract does not allow |
    """

    code: str
    text: str
    refusal: clear.ClearRefusal | None = None


Output = SendClear | SendSealed | NeedPsk | Ready | Received | ReceivedBinary | Failed


class ClientSession:
    """One session of a client.

    Read `state`, `hub_hello`, `hub_capabilities`, `pattern`, `remote_static` and `heard` freely.
    """

    def __init__(
        self,
        *,
        static_private: bytes,
        site_id: str,
        session_id: str,
        pinned: bytes | None = None,
        announce: Mapping[str, Any] | None = None,
        psk: Mapping[str, bytes] | None = None,
        allow_kk: bool = True,
        max_message: int = MAX_MESSAGE,
        repeats: bool = False,
    ) -> None:
        """Everything the session needs is given here, save a pre-shared key that must first be stretched.

        `static_private`: the client's X25519 key, 32 bytes. `pinned`: the hub's key as pinned for this address, or
        None. `psk`: known pre-shared keys by node id. `announce`: goes into the sealed HELLO as `thalovant`, but only
        to a hub that states capabilities. `allow_kk=False` forces XX, for the second attempt after `kk_failed`.
        `max_message` bounds one inbound message, inflation included, in bytes. `repeats`: the carrier delivers at least
        once and outlives sessions (MQTT behind a broker), so that a frame which comes a second time is dropped, and so
        is what comes before the hub's HELLO and is no clear frame: it was for the session before.
        """
        self.state: State = "hello"
        self.heard = False
        """Whether anything of the hub has authenticated inside the session."""
        self.hub_hello: dict[str, Any] = {}
        self.hub_capabilities: frozenset[str] = frozenset()
        self.pattern: str | None = None
        self.remote_static: bytes | None = None
        self._static_private = static_private
        self._site_id, self._session_id = site_id, session_id
        self._pinned, self._allow_kk = pinned, allow_kk
        self._announce = announce
        self._psks = psk or {}
        self._max_message = max_message
        self._repeats = repeats
        self._taken: list[bytes] = []  # clear frames that a carrier which repeats may bring again
        self._offer: dict[str, Any] = {}
        self._suite = ""
        self._handshake: Handshake | None = None
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None

    @property
    def node_id(self) -> str:
        """The hub's node id, once its HELLO has come; empty before."""
        return str(self.hub_hello.get("node_id", ""))

    def receive(self, data: bytes) -> list[Output]:
        """For carriers that do not tell clear from sealed (MQTT): what is due now decides."""
        if self.state == "ready":
            return self.receive_sealed(data)
        if self._repeats and (data in self._taken or (self.state == "hello" and clear.clear_frame(data) is None)):
            return []
        outputs = self.receive_clear(data)
        self._remember(data)
        return outputs

    def _remember(self, taken: bytes) -> None:
        """Know this clear frame when it comes again. Other hubs than ours greet anew in the very same words."""
        if self._repeats and self.state != "failed" and (self.hub_capabilities or self.state == "ready"):
            self._taken.append(taken)

    def receive_clear(self, text: bytes | str) -> list[Output]:
        """Take one clear frame of the hub."""
        if self.state == "failed":
            return []
        try:
            return self._clear(clear.parse_clear(text))
        except TooLargeError as error:
            return self._fail("too_large", error.text)
        except ProtocolError as error:
            return self._fail("protocol", error.text)

    def receive_sealed(self, frame: bytes) -> list[Output]:
        """Take one sealed frame of the hub."""
        if self.state == "failed":
            return []
        if self._reader is None:
            return self._fail("protocol", "The hub sent a sealed frame before the handshake was done.")
        try:
            whole = self._reader.open(frame)
            if whole is None:
                return []
            self.heard = True
            return self._received(whole)
        except AuthenticationError as error:
            return self._undecryptable(frame, error)
        except TooLargeError as error:
            return self._fail("too_large", error.text)
        except ProtocolError as error:
            return self._fail("protocol", error.text)

    def provide_psk(self, psk: bytes) -> list[Output]:
        """Answer `NeedPsk` with the 32-byte key. Raises `SessionError` when none was asked for."""
        if self.state == "failed":
            return []
        if self.state != "psk":
            raise SessionError("This session has not asked for a pre-shared key.")
        if len(psk) != KEY_LENGTH:
            raise SessionError("A pre-shared key has 32 bytes.")
        try:
            return self._begin(psk)
        except ProtocolError as error:
            return self._fail("protocol", error.text)

    def send(self, message: HiveMessage) -> list[SendSealed]:
        """Seal a message; send its frames in this order with nothing in between.

        Raises `SessionError` unless the session is ready, `MessageError` or `TooLargeError` for the message itself
        (the session goes on), `NoiseError` when the session's counter is used up.
        """
        if self._writer is None:
            raise SessionError("This session is not up. Connect before you send.")
        return [SendSealed(frame) for frame in self._writer.seal(message.encode())]

    def _clear(self, frame: clear.ClearFrame) -> list[Output]:
        if frame.kind not in ("hello", "shake"):
            return self._fail("protocol", "The hub sent a clear frame that is neither HELLO nor handshake.")
        if frame.kind == "shake" and (refusal := clear.refusal_of(frame.payload)) is not None:
            return self._refused_by_hub(refusal)
        if frame.kind == "hello":
            return self._hello(frame.payload) if self.state == "hello" else self._restarted()
        if self.state == "offer":
            return self._choose(frame.payload)
        if self.state == "hello":
            return self._fail("protocol", "The hub sent a handshake before its HELLO.")
        if self.state == "handshake" and not clear.is_offer(frame.payload):
            return self._message_2(frame.payload)
        return self._restarted()

    def _hello(self, payload: dict[str, Any]) -> list[Output]:
        node_id = payload.get("node_id")
        if not isinstance(node_id, str) or not node_id:
            return self._fail("protocol", "The hub's HELLO has no node id.")
        canonical_json(payload)  # what cannot be hashed ends here, before our owner sees the node id
        self.hub_hello = payload
        self.hub_capabilities = _capabilities(payload)
        self.state = "offer"
        return []

    def _choose(self, payload: dict[str, Any]) -> list[Output]:
        if not clear.is_offer(payload):
            return self._fail("protocol", "The hub sent no offer of a Noise handshake (protocol version 3).")
        patterns, suites = clear.offered(payload)
        suite = next((suite for suite in SUITES if suite in suites), None)
        pattern = self._choose_pattern(patterns)
        if suite is None or pattern is None:
            return self._fail("protocol", _NOT_OFFERED)
        self.pattern, self._suite, self._offer = pattern, suite, payload
        self.state = "psk"
        known = self._psks.get(self.node_id)
        return [NeedPsk(self.node_id)] if known is None else self.provide_psk(known)

    def _choose_pattern(self, patterns: frozenset[str]) -> str | None:
        if self._pinned is not None and self._allow_kk and "KKpsk0" in patterns:
            return "KKpsk0"
        return "XXpsk2" if "XXpsk2" in patterns else None

    def _begin(self, psk: bytes) -> list[Output]:
        pattern = self.pattern or ""
        self._handshake = Handshake.initiator(
            pattern,
            self._suite,
            prologue=prologue(self.hub_hello, self._offer, pattern, self._suite),
            psk=psk,
            static_private=self._static_private,
            remote_static=self._pinned if pattern == "KKpsk0" else None,
        )
        message = self._handshake.write_message(clear.MESSAGE_1_PAYLOAD)
        self.state = "handshake"
        return [SendClear(clear.client_shake(message, pattern=pattern, suite=self._suite))]

    def _message_2(self, payload: dict[str, Any]) -> list[Output]:
        message = clear.noise_envelope(payload).message
        assert self._handshake is not None  # noqa: S101 - state "handshake" says so
        try:
            self._handshake.read_message(message)
        except NoiseError:
            return self._refused()
        return self._finish(self._handshake)

    def _refused(self) -> list[Output]:
        if self.pattern == "KKpsk0":
            return self._fail("kk_failed", "The hub could not prove that it has the key pinned for it.")
        return self._fail("wrong_password", "The hub does not know this password, or its offer was altered.")

    def _finish(self, handshake: Handshake) -> list[Output]:
        hub_key = handshake.remote_static or b""
        if self._pinned is not None and not hmac.compare_digest(hub_key, self._pinned):
            text = "The hub shows another key than the one this client trusts. Find out why before you trust it again."
            return self._fail("hub_key_changed", text)
        outputs: list[Output] = []
        if not handshake.finished:
            outputs.append(SendClear(clear.client_shake(handshake.write_message())))
        sending, receiving = handshake.split()
        self._writer = FrameWriter(sending)
        remembered = REMEMBERED if self._repeats else 0
        self._reader = FrameReader(receiving, max_message=self._max_message, remembered=remembered)
        self._handshake, self.remote_static, self.state = None, hub_key, "ready"
        outputs += self.send(self._sealed_hello())
        outputs.append(Ready(hub_key, self._pinned is None, self.node_id))
        return outputs

    def _sealed_hello(self) -> HiveMessage:
        hello = HiveMessage("hello", _hello_payload(self._session_id, self._site_id))
        if self._announce is not None and self.hub_capabilities:
            hello.payload["thalovant"] = dict(self._announce)
        return hello

    def _received(self, frame: Frame) -> list[Output]:
        try:
            output = read_frame(frame, self._max_message)
        except MessageError as error:
            if error.code == UNKNOWN_TYPE:  # a newer hub's: not for us (contract 7)
                return []
            raise
        if isinstance(output, Received) and output.message.msg_type in ("hello", "shake"):
            return []
        return [output]

    def _undecryptable(self, frame: bytes, error: AuthenticationError) -> list[Output]:
        """A hub without a session greets anew (contract 10.3); over MQTT that arrives where sealed frames do."""
        if frame in self._taken:
            return []
        found = clear.clear_frame(frame)
        if found is not None and found.kind in ("hello", "shake"):
            return self.receive_clear(frame)
        return self._fail("protocol", error.text)

    def _refused_by_hub(self, refusal: clear.ClearRefusal) -> list[Output]:
        return self._fail("refused", f"The hub refused ({refusal.reason.rstrip('. ') or refusal.code}).", refusal)

    def _restarted(self) -> list[Output]:
        return self._fail("restarted", "The hub no longer has this session. Connect again.")

    def _fail(self, code: str, text: str, refusal: clear.ClearRefusal | None = None) -> list[Output]:
        self.state = "failed"
        self._handshake, self._writer, self._reader = None, None, None
        return [Failed(code, text, refusal)]


def clear_hello(session_id: str, site_id: str) -> bytes:
    """The clear HELLO with which a client greets first over MQTT (contract 10.3)."""
    return clear.hello_frame(_hello_payload(session_id, site_id))


def read_frame(frame: Frame, max_inflated: int, max_values: int | None = None) -> Received | ReceivedBinary:
    """What a whole message of the other side says; for both sides' sessions.

    Raises `MessageError`, or `TooLargeError` when a binary frame grows beyond `max_inflated` bytes or a message holds
    more than `max_values` JSON values.
    """
    if not frame.binary:
        return Received(HiveMessage.decode(frame.body, max_values=max_values))
    binary = BinaryFrame.decode(frame.body, max_inflated=max_inflated, max_values=max_values)
    return ReceivedBinary(binary) if binary.type == "bin" else Received(binary.to_message())


def _hello_payload(session_id: str, site_id: str) -> dict[str, Any]:
    return {"pubkey": "", "session": {"session_id": session_id}, "site_id": site_id}


def _capabilities(hello: Mapping[str, Any]) -> frozenset[str]:
    """`thalovant.capabilities` of a HELLO; empty for every hub that is not ours."""
    mark = hello.get("thalovant")
    names = mark.get("capabilities") if isinstance(mark, dict) else None
    if not isinstance(names, list):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str))
