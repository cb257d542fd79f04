# SPDX-License-Identifier: Apache-2.0
"""The protocol stands alone: of ours it imports itself only, of others two libraries, and nothing that does I/O."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import thalovant.protocol

FOLDER = Path(thalovant.protocol.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
LIBRARIES = {"cryptography", "orjson"}
INPUT_AND_OUTPUT = {
    "asyncio", "concurrent", "ctypes", "datetime", "ftplib", "glob", "http", "importlib", "io", "logging",
    "multiprocessing", "os", "pathlib", "pickle", "random", "sched", "select", "selectors", "shelve",
    "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "webbrowser",
}  # fmt: skip


def imported(file: Path) -> set[str]:
    """Every module that a file names in an import, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: imports are absolute"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_file_of_the_protocol_imports_nothing_else(file: Path) -> None:
    for name in imported(file):
        top = name.partition(".")[0]
        if top == "thalovant":
            assert name.startswith("thalovant.protocol"), name
        else:
            assert top in LIBRARIES or (top in sys.stdlib_module_names and top not in INPUT_AND_OUTPUT), name


def test_the_files_were_found() -> None:
    assert {"noise.py", "session.py", "asks.py"} <= {file.name for file in FILES}
