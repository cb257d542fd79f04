# SPDX-License-Identifier: Apache-2.0
"""An export of the audit log: counted, whole or an error, and in a file that only its owner may read."""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant.audit_export import AuditExport, export_target
from thalovant.errors import ThalovantAPIError

LINES = b'{"id":"1"}\n{"id":"2"}\n{"signature":"s"}\n'


@given(st.lists(st.integers(0, len(LINES)), max_size=8))
def test_any_cut_is_counted_alike(cuts: list[int]) -> None:
    export = AuditExport()
    places = [0, *sorted(cuts), len(LINES)]
    for start, end in pairwise(places):
        export.feed(LINES[start:end])
    assert export.entries() == 2


@pytest.mark.parametrize("end", range(len(LINES)))
def test_what_was_cut_short_is_an_error(end: int) -> None:
    export = AuditExport()
    export.feed(LINES[:end])
    with pytest.raises(ThalovantAPIError, match="before its signature"):
        export.entries()


def test_what_comes_after_the_signature_is_an_error() -> None:
    export = AuditExport()
    export.feed(LINES + b"{")
    with pytest.raises(ThalovantAPIError, match="before its signature"):
        export.entries()


def test_what_is_no_lines_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalovant.audit_export._LONGEST_LINE", 10)
    with pytest.raises(ThalovantAPIError, match="no JSON lines"):
        AuditExport().feed(b"x" * 11)


class TestTarget:
    def test_a_new_file_is_its_owners(self, tmp_path: Path) -> None:
        with export_target(tmp_path / "audit") as out:
            out.write(b"x")
            assert (tmp_path / "audit").read_bytes() == b""  # the name is taken, the content comes whole
        assert (tmp_path / "audit").read_bytes() == b"x"
        assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o600
        assert len(list(tmp_path.iterdir())) == 1

    def test_an_error_leaves_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), export_target(str(tmp_path / "audit")) as out:
            out.write(b"x")
            raise ZeroDivisionError
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["there", "no/folder"])
    def test_a_file_that_cannot_be_made(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "there").write_text("kept")
        with pytest.raises(ThalovantAPIError, match=name) as caught, export_target(tmp_path / name):
            pass
        assert caught.value.code == {"there": "exists"}.get(name, "unwritable")
        assert (tmp_path / "there").read_text() == "kept"
