# SPDX-License-Identifier: Apache-2.0
"""Secrets at rest: sealed when they must be recovered, hashed under a key when they need only be checked.

Both keys are derived from the one 32-byte server key, which the caller keeps outside the database
(architecture decision 6). Reads no file and knows no table.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
_VERSION = b"\x01"
_OVERHEAD = len(_VERSION) + NONCE_BYTES + 16  # version, nonce, tag


class SealBrokenError(Exception):
    """A sealed value does not open: another key, another context, or damage."""


class Sealer:
    """Seals and checks secrets under one server key.

    Args:
        server_key: 32 bytes.
        key_file: where they come from, only for error texts.

    Raises:
        ValueError: the key is not 32 bytes.
    """

    def __init__(self, server_key: bytes, key_file: Path | None = None) -> None:
        if len(server_key) != KEY_BYTES:
            raise ValueError("the server key has 32 bytes")
        self.key_file = key_file
        self._aead = ChaCha20Poly1305(_derive(server_key, b"thalovant/seal/1"))
        self._hash_key = _derive(server_key, b"thalovant/keyed-hash/1")

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """Return ``plaintext`` sealed for ``context``: version byte, nonce, ChaCha20-Poly1305 text with tag.

        The context names the place (table, column, row): a value moved to another place does not open there.
        """
        nonce = os.urandom(NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, plaintext, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Return what was sealed for ``context``.

        Raises:
            SealBrokenError: it was not, or is damaged.
        """
        if len(sealed) < _OVERHEAD or sealed[:1] != _VERSION:
            raise SealBrokenError("not a sealed value")
        nonce, text = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, text, context.encode())
        except InvalidTag:
            raise SealBrokenError("the sealed value does not open") from None

    def keyed_hash(self, secret: str | bytes, purpose: str) -> bytes:
        """Return 32 bytes to check a machine secret by (HMAC-SHA256); enough because such secrets are long.

        The purpose keeps hashes of different places apart.
        """
        raw = secret.encode() if isinstance(secret, str) else secret
        return hmac.digest(self._hash_key, purpose.encode() + b"\x00" + raw, "sha256")

    def matches(self, secret: str | bytes, purpose: str, expected: bytes) -> bool:
        """Tell in constant time whether ``expected`` is the keyed hash of ``secret``."""
        return hmac.compare_digest(self.keyed_hash(secret, purpose), expected)

    def __repr__(self) -> str:
        return "Sealer(<key>)"


def _derive(server_key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(server_key)
