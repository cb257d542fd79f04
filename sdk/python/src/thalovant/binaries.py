# SPDX-License-Identifier: Apache-2.0
"""What `on_binary` hands out: `ThalovantBinary`, the audio, image or file in a binary frame (contract 8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thalovant.protocol.binary import BinaryFrame, kind_name

__all__ = ["ThalovantBinary", "binary_of"]


@dataclass(frozen=True)
class ThalovantBinary:
    """A binary payload of the hub: `kind` (`raw_audio`, `file`, `tts_audio`, ...), `data`, `metadata` as it came.

    Which turn it belongs to is known only by `utterance`, the text that an audio speaks.
    """

    kind: str
    data: bytes = field(repr=False)
    metadata: dict[str, Any]

    @property
    def file_name(self) -> str | None:
        """The file's own name, whatever directories the hub put before it."""
        given = self._text("file_name")
        name = "" if given is None else given.replace("\\", "/").rsplit("/", 1)[-1]
        return name if name not in ("", ".", "..") and "\0" not in name else None

    @property
    def lang(self) -> str | None:
        """The language of an audio."""
        return self._text("lang")

    @property
    def utterance(self) -> str | None:
        """The text that an audio speaks."""
        return self._text("utterance")

    def _text(self, name: str) -> str | None:
        value = self.metadata.get(name)
        return value if isinstance(value, str) and value else None


def binary_of(frame: BinaryFrame) -> ThalovantBinary:
    """Make the public value from a frame of type `bin`."""
    data = frame.payload if isinstance(frame.payload, bytes) else b""
    return ThalovantBinary(kind_name(frame.kind or 0), data, frame.metadata)
