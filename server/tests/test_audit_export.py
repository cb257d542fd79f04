# SPDX-License-Identifier: Apache-2.0
"""Exports of the audit log: whole ones are found good, and whatever is done to one is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.audit_export import ExportWriter, new_key, public_key, sentence, verify
from thalovant_server.errors import AuditExportError

KEY = bytes(range(32))
WHEN = "2026-11-22T10:00:00.000Z"


def export(entries: int = 4, key: bytes = KEY, **filters: str) -> list[bytes]:
    writer = ExportWriter(key, filters)
    lines = [writer.entry({"id": str(n), "action": "client.created", "before": None}) for n in range(1, entries + 1)]
    return [*lines, writer.end(WHEN)]


@pytest.mark.parametrize("entries", [0, 1, 4])
def test_a_whole_export_is_good_with_and_without_the_expected_key(entries: int) -> None:
    for expected in (None, public_key(KEY)):
        found = verify(export(entries), expected)
        assert (found.entries, found.exported_at, found.public_key) == (entries, WHEN, public_key(KEY))
    ids = ("1", str(entries)) if entries else (None, None)
    assert (found.first_id, found.last_id) == ids


def test_each_key_is_another() -> None:
    assert new_key() != new_key() and len(new_key()) == 32


TAMPERED = {
    "altered": lambda lines: [lines[0].replace(b"client", b"Client"), *lines[1:]],
    "removed": lambda lines: lines[1:],
    "removed in the middle": lambda lines: [lines[0], *lines[2:]],
    "reordered": lambda lines: [lines[1], lines[0], *lines[2:]],
    "repeated": lambda lines: [lines[0], *lines],
    "exchanged": lambda lines: [b'{"id":"1"}\n', *lines[1:]],
    "appended": lambda lines: [*lines, b'{"id":"5"}\n'],
    "appended blank": lambda lines: [*lines, b"\n"],
    "cut short": lambda lines: lines[:-1],
    "cut in the last line": lambda lines: [*lines[:-1], lines[-1][:-10]],
    "without the last line feed": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "nothing": lambda lines: [],
    "another count": lambda lines: [*lines[:-1], lines[-1].replace(b'"entries":4', b'"entries":3')],
    "another time": lambda lines: [*lines[:-1], lines[-1].replace(b"2026", b"2025")],
    "two exports in one": lambda lines: lines + lines,
    "the end of another export": lambda lines: [*lines[:-1], export(5)[-1]],
    "a member added": lambda lines: [*lines[:-1], lines[-1].replace(b'{"format"', b'{"x":1,"format"')],
    "a member twice": lambda lines: [*lines[:-1], lines[-1].replace(b'{"format"', b'{"entries":9,"format"')],
    "no text": lambda lines: [b"\xff\x00\n"],
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_done_to_an_export_is_found(how: str) -> None:
    with pytest.raises(AuditExportError):
        verify(TAMPERED[how](export()))


def test_an_export_signed_anew_is_found_with_the_expected_key() -> None:
    forged = export(3, new_key())
    assert verify(forged).entries == 3  # hence the words of `sentence`
    with pytest.raises(AuditExportError, match="another key"):
        verify(forged, public_key(KEY))


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    whole = bytearray(b"".join(export()))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AuditExportError):
        verify(bytes(whole).splitlines(keepends=True))


def test_the_words_say_what_it_holds_and_what_to_compare() -> None:
    found = verify(export(2, hub_id="hub-1"))
    assert "2 entries, #1 to #2" in sentence(found, compared=True)
    assert "hub_id hub-1" in sentence(found, compared=True)
    assert public_key(KEY) in sentence(found, compared=False)
    assert "#" not in sentence(verify(export(0)), compared=True)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda text: text, 0, "ok: 4 entries"),
        (lambda text: text.replace(b'"id":"2"', b'"id":"7"'), 1, "altered"),
        (None, 1, "cannot be read"),
    ],
    ids=["whole", "altered", "absent"],
)
def test_the_command_tells_good_from_bad(tmp_path: Path, change: object, code: int, said: str) -> None:
    file = tmp_path / "audit.jsonl"
    if callable(change):
        file.write_bytes(change(b"".join(export())))
    command = [sys.executable, "-m", "thalovant_server", "verify-audit", str(file), "--public-key", public_key(KEY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
    assert "Traceback" not in done.stderr


def test_the_last_line_is_one_that_others_can_read() -> None:
    last = orjson.loads(export()[-1])
    assert (last["entries"], last["first_id"], last["last_id"]) == (4, "1", "4")
    assert len(last["sha256"]) == 64 and last["signature"]
