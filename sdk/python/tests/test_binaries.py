# SPDX-License-Identifier: Apache-2.0
"""A binary payload's public value: its kind's name, its bytes, and a file name that is only a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thalovant.binaries import ThalovantBinary, binary_of
from thalovant.protocol.binary import BinaryFrame, kind_name

VECTORS = json.loads((Path(__file__).parents[3] / "contract" / "vectors" / "binary-frames.json").read_text())


@pytest.mark.parametrize("case", VECTORS["binary"], ids=lambda case: f"{case['name']}-{case['hex'][:4]}")
def test_a_recorded_frame_becomes_what_it_holds(case: dict[str, Any]) -> None:
    made = binary_of(BinaryFrame.decode(bytes.fromhex(case["hex"])))
    assert made == ThalovantBinary(kind_name(case["bin_type"]), bytes.fromhex(case["payload_hex"]), case["metadata"])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.wav", "a.wav"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\windows\\a.wav", "a.wav"),
        ("C:\\a.wav", "a.wav"),
        (".hidden", ".hidden"),
        *((bad, None) for bad in ("", "/", "..", ".", "a/..", "a/", "a\0b", 7, None, ["a"])),
    ],
)
def test_a_file_name_is_only_a_name(given: Any, name: str | None) -> None:
    assert ThalovantBinary("file", b"", {"file_name": given}).file_name == name


def test_what_the_metadata_do_not_say_is_none() -> None:
    said = ThalovantBinary("tts_audio", b"", {"utterance": "hi", "lang": "de"})
    assert (said.utterance, said.lang, said.file_name) == ("hi", "de", None)
    for metadata in ({}, {"utterance": 7, "lang": ""}):
        assert ThalovantBinary("tts_audio", b"", metadata).utterance is None


def test_its_bytes_are_not_printed() -> None:
    assert repr(ThalovantBinary("file", b"secret", {})) == "ThalovantBinary(kind='file', metadata={})"
