# SPDX-License-Identifier: Apache-2.0
"""The Noise handshakes XXpsk2 and KKpsk0 and the ciphers they end in (Noise revision 34; contract 4 and 5).

Sans-I/O: bytes in, bytes out. Curve 25519 and the two AEADs come from `cryptography`; this file holds the
order in which things are mixed. It knows no JSON envelope, keeps no key on disk and decides about no pin.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from thalovant.protocol.errors import AuthenticationError, MessageError, NoiseError, NonceExhaustedError

PATTERNS: Final = ("XXpsk2", "KKpsk0")
"""What we speak. XX asks for no key beforehand; KK needs each side to hold the other's."""

SUITES: Final = ("25519_ChaChaPoly_SHA256", "25519_AESGCM_SHA256")
"""In order of preference."""

KEY_LENGTH: Final = 32
TAG_LENGTH: Final = 16
MAX_MESSAGE_LENGTH: Final = 65_535
"""The longest Noise message of any kind, in bytes (Noise 3)."""

_LAST_NONCE: Final = 2**64 - 1  # reserved (Noise 5.1): the counter may not reach it
_MESSAGES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "XXpsk2": (("e",), ("e", "ee", "s", "es", "psk"), ("s", "se")),
    "KKpsk0": (("psk", "e", "es", "ss"), ("e", "ee", "se")),
}


def generate_private_key() -> bytes:
    """A fresh X25519 private key, 32 bytes from the system's randomness."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The 32-byte X25519 public key of a 32-byte private one. Raises `NoiseError` on another length."""
    return _private(private).public_key().public_bytes_raw()


def stretch(password: str, node_id: str) -> bytes:
    """The 32-byte pre-shared key of a password at a hub (contract 4.1).

    argon2id 1.3, time 3, 64 MiB, one lane; salt is SHA-256 of the hub's node id. Blocks for about 0.2 s and takes
    64 MiB: call it in a thread and keep the result. Nothing is trimmed from either text.
    """
    salt = hashlib.sha256(node_id.encode()).digest()
    kdf = Argon2id(salt=salt, length=KEY_LENGTH, iterations=3, lanes=1, memory_cost=65_536)
    return kdf.derive(password.encode())


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value that both sides hash (contract 4.3).

    Keys sorted by code point at every level, no spaces, non-ASCII as it is, UTF-8. Raises `MessageError` for what
    JSON cannot hold.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        raise MessageError("This value has no canonical JSON form.") from None


def protocol_name(pattern: str, suite: str) -> str:
    """`Noise_<pattern>_<suite>`. Raises `NoiseError` for one we do not speak."""
    if pattern not in PATTERNS or suite not in SUITES:
        raise NoiseError("This Noise pattern or suite is not one we speak.")
    return f"Noise_{pattern}_{suite}"


def prologue(hello_payload: Any, offer_payload: Any, pattern: str, suite: str) -> bytes:
    """The bytes both sides hash before the first message, so that nobody can alter the offer (contract 4.3)."""
    name = protocol_name(pattern, suite).encode()
    return canonical_json(hello_payload) + canonical_json(offer_payload) + name


class CipherState:
    """One direction of an established session, or the running cipher of a handshake (Noise 5.1).

    Each call uses the next nonce, so both sides must see the same messages in the same order.
    """

    __slots__ = ("_decrypt", "_encrypt", "_nonce", "_pack_nonce")

    def __init__(self, key: bytes, suite: str, *, nonce: int = 0) -> None:
        aead: ChaCha20Poly1305 | AESGCM
        pack: Callable[[int], bytes]
        if suite == SUITES[0]:
            aead, pack = ChaCha20Poly1305(key), struct.Struct("<4xQ").pack
        elif suite == SUITES[1]:
            aead, pack = AESGCM(key), struct.Struct(">4xQ").pack
        else:
            raise NoiseError("This Noise suite is not one we speak.")
        # Bound once: this is the hottest call of the whole server.
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt
        self._pack_nonce = pack
        self._nonce = nonce

    @property
    def nonce(self) -> int:
        """The counter that the next message will use."""
        return self._nonce

    def encrypt(self, plaintext: bytes, associated: bytes | None = None) -> bytes:
        """Seal `plaintext`; the result is 16 bytes longer.

        Raises `NoiseError` when it would pass 65,535 bytes, `NonceExhaustedError` when the counter is used up.
        """
        nonce = self._nonce
        if nonce >= _LAST_NONCE:
            raise NonceExhaustedError("This session has used up its counter. Connect again.")
        if len(plaintext) > MAX_MESSAGE_LENGTH - TAG_LENGTH:
            raise NoiseError("A Noise message holds at most 65,535 bytes.")
        sealed = self._encrypt(self._pack_nonce(nonce), plaintext, associated)
        self._nonce = nonce + 1
        return sealed

    def decrypt(self, ciphertext: bytes, associated: bytes | None = None) -> bytes:
        """Open `ciphertext`. The counter moves only on success.

        Raises `AuthenticationError` when it was not sealed with this key at this place in the order, `NoiseError` when
        it is over 65,535 bytes, `NonceExhaustedError` when the counter is used up.
        """
        nonce = self._nonce
        if nonce >= _LAST_NONCE:
            raise NonceExhaustedError("This session has used up its counter. Connect again.")
        if len(ciphertext) > MAX_MESSAGE_LENGTH:
            raise NoiseError("A Noise message holds at most 65,535 bytes.")
        try:
            plaintext = self._decrypt(self._pack_nonce(nonce), ciphertext, associated)
        except InvalidTag:
            raise AuthenticationError("A Noise message failed authentication.") from None
        self._nonce = nonce + 1
        return plaintext


class _SymmetricState:
    """Chaining key, running hash and running cipher of a handshake (Noise 5.2)."""

    __slots__ = ("chaining_key", "cipher", "hash", "suite")

    def __init__(self, name: str, suite: str) -> None:
        raw = name.encode()
        self.hash = raw.ljust(32, b"\0") if len(raw) <= 32 else hashlib.sha256(raw).digest()
        self.chaining_key = self.hash
        self.cipher: CipherState | None = None
        self.suite = suite

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, key, _ = _hkdf(self.chaining_key, material)
        self.cipher = CipherState(key, self.suite)

    def mix_key_and_hash(self, material: bytes) -> None:
        self.chaining_key, mixed, key = _hkdf(self.chaining_key, material)
        self.mix_hash(mixed)
        self.cipher = CipherState(key, self.suite)

    def seal(self, plaintext: bytes) -> bytes:
        out = plaintext if self.cipher is None else self.cipher.encrypt(plaintext, self.hash)
        self.mix_hash(out)
        return out

    def open(self, data: bytes) -> bytes:
        out = data if self.cipher is None else self.cipher.decrypt(data, self.hash)
        self.mix_hash(data)
        return out

    def split(self) -> tuple[CipherState, CipherState]:
        first, second, _ = _hkdf(self.chaining_key, b"")
        return CipherState(first, self.suite), CipherState(second, self.suite)


class Handshake:
    """One handshake in one role. Messages alternate, the initiator's first; a failed one can only be dropped.

    XXpsk2 has three messages, KKpsk0 two. After the last, `split` gives the two ciphers of the session. The
    client of a hub is always the initiator (contract 1).
    """

    __slots__ = (
        "_dead",
        "_ephemeral",
        "_initiator",
        "_pattern",
        "_psk",
        "_remote_ephemeral",
        "_remote_static",
        "_static",
        "_step",
        "_symmetric",
    )

    def __init__(
        self,
        pattern: str,
        suite: str,
        *,
        initiator: bool,
        prologue: bytes,
        psk: bytes,
        static_private: bytes,
        remote_static: bytes | None = None,
        ephemeral_private: bytes | None = None,
    ) -> None:
        """Prefer `initiator` and `responder`. Keys are 32 bytes each, else `NoiseError`.

        `remote_static` is needed for KK and refused for XX, which learns it. `ephemeral_private` is for test vectors
        only: leave it out and a fresh one is made.
        """
        if len(psk) != KEY_LENGTH:
            raise NoiseError("A pre-shared key has 32 bytes.")
        if (remote_static is None) is (pattern == "KKpsk0"):
            raise NoiseError("KK needs the other side's static key; XX learns it from the other side.")
        self._symmetric = _SymmetricState(protocol_name(pattern, suite), suite)
        self._pattern, self._initiator, self._psk = pattern, initiator, psk
        self._static = _private(static_private)
        self._ephemeral = _private(ephemeral_private or generate_private_key())
        self._remote_static = None if remote_static is None else _public(remote_static)
        self._remote_ephemeral: X25519PublicKey | None = None
        self._step, self._dead = 0, False
        self._mix_beginning(prologue)

    @classmethod
    def initiator(
        cls,
        pattern: str,
        suite: str,
        *,
        prologue: bytes,
        psk: bytes,
        static_private: bytes,
        remote_static: bytes | None = None,
        ephemeral_private: bytes | None = None,
    ) -> Handshake:
        """The side that writes first: the client."""
        return cls(
            pattern,
            suite,
            initiator=True,
            prologue=prologue,
            psk=psk,
            static_private=static_private,
            remote_static=remote_static,
            ephemeral_private=ephemeral_private,
        )

    @classmethod
    def responder(
        cls,
        pattern: str,
        suite: str,
        *,
        prologue: bytes,
        psk: bytes,
        static_private: bytes,
        remote_static: bytes | None = None,
        ephemeral_private: bytes | None = None,
    ) -> Handshake:
        """The side that reads first: the hub."""
        return cls(
            pattern,
            suite,
            initiator=False,
            prologue=prologue,
            psk=psk,
            static_private=static_private,
            remote_static=remote_static,
            ephemeral_private=ephemeral_private,
        )

    @property
    def finished(self) -> bool:
        """Whether every message has passed and `split` may be called."""
        return not self._dead and self._step == len(_MESSAGES[self._pattern])

    @property
    def remote_static(self) -> bytes | None:
        """The other side's static public key: given (KK) or learned (XX).

        Trust it only once `finished`, or after the message that brought it has been read without an error.
        """
        return None if self._remote_static is None else self._remote_static.public_bytes_raw()

    @property
    def handshake_hash(self) -> bytes:
        """The hash of all that was said, equal on both sides (Noise 11.2). Raises `NoiseError` before the end."""
        self._require_finished()
        return self._symmetric.hash

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message of this side, with `payload` sealed inside. Raises `NoiseError`."""
        tokens = self._turn(writing=True)
        self._dead = True  # until all has gone well
        message = b"".join(self._write_token(token) for token in tokens)
        message += self._symmetric.seal(payload)
        if len(message) > MAX_MESSAGE_LENGTH:
            raise NoiseError("A Noise message holds at most 65,535 bytes.")
        self._step, self._dead = self._step + 1, False
        return message

    def read_message(self, message: bytes) -> bytes:
        """Read the other side's next message and return its payload.

        Raises `AuthenticationError` when keys, password, prologue or bytes differ, `NoiseError` when it is malformed;
        the handshake is of no use after either.
        """
        tokens = self._turn(writing=False)
        self._dead = True  # until all has gone well
        if len(message) > MAX_MESSAGE_LENGTH:
            raise NoiseError("A Noise message holds at most 65,535 bytes.")
        rest = message
        for token in tokens:
            rest = self._read_token(token, rest)
        payload = self._symmetric.open(rest)
        self._step, self._dead = self._step + 1, False
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers (sending, receiving) of this side (Noise 5.2). Raises `NoiseError` before the end."""
        self._require_finished()
        towards_responder, towards_initiator = self._symmetric.split()
        if self._initiator:
            return towards_responder, towards_initiator
        return towards_initiator, towards_responder

    def _mix_beginning(self, prologue: bytes) -> None:
        self._symmetric.mix_hash(prologue)
        if self._remote_static is None:
            return
        own, other = self._static.public_key().public_bytes_raw(), self._remote_static.public_bytes_raw()
        for key in (own, other) if self._initiator else (other, own):  # KK: -> s, <- s
            self._symmetric.mix_hash(key)

    def _turn(self, *, writing: bool) -> tuple[str, ...]:
        messages = _MESSAGES[self._pattern]
        if self._dead or self._step >= len(messages):
            raise NoiseError("This handshake is over.")
        own = (self._step % 2 == 0) is self._initiator
        if own is not writing:
            raise NoiseError("This handshake message is out of turn.")
        return messages[self._step]

    def _write_token(self, token: str) -> bytes:
        if token == "e":  # noqa: S105 - a token of a handshake pattern
            public = self._ephemeral.public_key().public_bytes_raw()
            self._symmetric.mix_hash(public)
            self._symmetric.mix_key(public)  # every psk handshake mixes e into the key as well (Noise 9.2)
            return public
        if token == "s":  # noqa: S105
            return self._symmetric.seal(self._static.public_key().public_bytes_raw())
        self._mix_token(token)
        return b""

    def _read_token(self, token: str, rest: bytes) -> bytes:
        if token == "e":  # noqa: S105
            key, rest = _take(rest, KEY_LENGTH)
            self._remote_ephemeral = _public(key)
            self._symmetric.mix_hash(key)
            self._symmetric.mix_key(key)
        elif token == "s":  # noqa: S105
            sealed, rest = _take(rest, KEY_LENGTH + TAG_LENGTH)
            self._remote_static = _public(self._symmetric.open(sealed))
        else:
            self._mix_token(token)
        return rest

    def _mix_token(self, token: str) -> None:
        if token == "psk":  # noqa: S105
            self._symmetric.mix_key_and_hash(self._psk)
            return
        # "es" names the initiator's key first, so the responder looks at it from the other end.
        own, other = (token[0], token[1]) if self._initiator else (token[1], token[0])
        private = self._ephemeral if own == "e" else self._static
        public = self._remote_ephemeral if other == "e" else self._remote_static
        if public is None:
            raise NoiseError("This handshake message is out of turn.")
        self._symmetric.mix_key(_shared(private, public))

    def _require_finished(self) -> None:
        if not self.finished:
            raise NoiseError("This handshake has not come to its end.")


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    """Noise 4.3. Always three outputs: the third costs a microsecond and only in handshakes."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    second = hmac.digest(temporary, first + b"\x02", "sha256")
    return first, second, hmac.digest(temporary, second + b"\x03", "sha256")


def _take(data: bytes, length: int) -> tuple[bytes, bytes]:
    if len(data) < length:
        raise NoiseError("This handshake message is too short.")
    return data[:length], data[length:]


def _private(raw: bytes) -> X25519PrivateKey:
    if len(raw) != KEY_LENGTH:
        raise NoiseError("An X25519 private key has 32 bytes.")
    return X25519PrivateKey.from_private_bytes(raw)


def _public(raw: bytes) -> X25519PublicKey:
    if len(raw) != KEY_LENGTH:
        raise NoiseError("An X25519 public key has 32 bytes.")
    return X25519PublicKey.from_public_bytes(raw)


def _shared(private: X25519PrivateKey, public: X25519PublicKey) -> bytes:
    try:
        return private.exchange(public)
    except ValueError:  # the all-zero output of a low-order point (RFC 7748 section 6.1)
        raise NoiseError("The other side sent a public key of low order.") from None
