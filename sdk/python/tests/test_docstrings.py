# SPDX-License-Identifier: Apache-2.0
"""Everything public says what it does, and says it in one line before it says more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import thalovant

FOLDER = Path(thalovant.__file__).parent
FILES = [pytest.param(file, id=str(file.relative_to(FOLDER))) for file in sorted(FOLDER.rglob("*.py"))]

Named = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def named(node: Named, name: str = "", public: bool = True) -> Iterator[tuple[Named, str, bool]]:
    """The module and every class, function and method in it; functions within functions are left out."""
    yield node, name, public
    if isinstance(node, ast.Module | ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from named(inner, f"{name}.{inner.name}", public and not inner.name.startswith("_"))


@pytest.mark.parametrize("file", FILES)
def test_what_is_public_has_a_docstring(file: Path) -> None:
    found = named(ast.parse(file.read_text()))
    assert [name for node, name, public in found if public and node.body and not ast.get_docstring(node)] == []


@pytest.mark.parametrize("file", FILES)
def test_the_first_line_is_a_whole_sentence(file: Path) -> None:
    for node, name, _ in named(ast.parse(file.read_text())):
        _, *rest = (ast.get_docstring(node) or "").split("\n")
        assert not rest or not rest[0], name
