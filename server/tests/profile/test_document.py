# SPDX-License-Identifier: Apache-2.0
"""The document, `contract/mqtt-statements.json` and the tests say the same: every statement has one row, every row its
test or its reason, every test its statements, and the counts are those of the rows.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SUITES = {"3.1.1": Path(__file__).with_name("test_v311.py"), "5.0": Path(__file__).with_name("test_v5.py")}
SDK_TESTS = ROOT / "sdk" / "python" / "tests"
COUNTS = {"3.1.1": 141, "5.0": 251}  # as many as appendix B of each standard has
MET, CLIENT, OUT = "met", "what binds the client", "out of profile"
CELLS = {MET: 3, CLIENT: 4, OUT: 4}
STATEMENT = re.compile(r"MQTT-(\d+(?:\.\d+)+)-(\d+)")
HEADING = re.compile(r"(##|###) MQTT ([\d.]+)(?:: (.*))?")
SUMMARY = re.compile(r"(\d+) statements: (\d+) met with a test, (\d+) bind the client, (\d+) out of profile\.")


@dataclass(frozen=True)
class Row:
    """One row of a table of the document."""

    statement: str
    table: str
    cells: tuple[str, ...]

    @property
    def words(self) -> str:
        return self.cells[1]

    @property
    def tests(self) -> list[str]:
        """Those that are named in it: `test_x` is one of the suite, `path::test_x` one from elsewhere."""
        return re.findall(r"`([^`]*test_[^`]*)`", " ".join(self.cells[2:]))


@cache
def standards() -> dict[str, list[dict[str, str]]]:
    read = json.loads((ROOT / "contract" / "mqtt-statements.json").read_text("utf-8"))["standards"]
    return {version: standard["statements"] for version, standard in read.items()}


@cache
def document() -> str:
    return (ROOT / "docs" / "mqtt-profile.md").read_text("utf-8")


@cache
def rows(version: str) -> tuple[Row, ...]:
    """The rows of one standard, in the order of the document."""
    found, here, table = [], "", ""
    for line in document().splitlines():
        if heading := HEADING.fullmatch(line):
            here, table = heading[2], heading[3] or ""
        elif line.startswith("| MQTT-") and here == version:
            cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(cells[0], table, cells))
    return tuple(found)


@cache
def functions(path: Path) -> dict[str, str]:
    """The tests of a file, each with its docstring."""
    nodes = ast.parse(path.read_text("utf-8")).body
    return {
        node.name: ast.get_docstring(node) or ""
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def shown(version: str) -> dict[str, set[str]]:
    """The statements that the docstring of each test of a suite names."""
    return {name: {match[0] for match in STATEMENT.finditer(text)} for name, text in functions(SUITES[version]).items()}


@pytest.mark.parametrize("version", COUNTS)
def test_the_statements_are_those_of_the_standard(version: str) -> None:
    statements = standards()[version]
    identifiers = [each["id"] for each in statements]
    assert len(set(identifiers)) == len(identifiers) == COUNTS[version]
    sections: dict[str, list[int]] = {}
    for each in statements:
        match = STATEMENT.fullmatch(each["id"])
        assert match and each["binds"] in {"server", "client", "both"} and each["text"].endswith(".")
        sections.setdefault(match[1], []).append(int(match[2]))
    for section, numbers in sections.items():
        first = 2 if (version, section) == ("5.0", "2.2.1") else 1
        assert numbers == list(range(first, first + len(numbers))), f"a gap in {section}"


@pytest.mark.parametrize("version", COUNTS)
def test_every_statement_has_one_row_with_its_words(version: str) -> None:
    wanted = {each["id"]: each["text"] for each in standards()[version]}
    assert sorted(row.statement for row in rows(version)) == sorted(wanted)
    for row in rows(version):
        assert row.words == wanted[row.statement]
        assert len(row.cells) == CELLS[row.table], row.statement


@pytest.mark.parametrize("version", COUNTS)
def test_what_binds_the_client_alone_is_listed_as_such(version: str) -> None:
    client = {each["id"] for each in standards()[version] if each["binds"] == "client"}
    assert {row.statement for row in rows(version) if row.table == CLIENT} == client


@pytest.mark.parametrize("version", COUNTS)
def test_every_row_has_its_test_or_its_reason(version: str) -> None:
    for row in rows(version):
        if row.table == MET:
            assert row.tests, f"{row.statement} has no test"
        if row.table == OUT:
            assert len(row.cells[2]) > 10, f"{row.statement} has no reason"


@pytest.mark.parametrize("version", COUNTS)
def test_every_test_that_is_named_exists_and_shows_the_statement(version: str) -> None:
    for row in rows(version):
        for named in row.tests:
            path, _, name = named.rpartition("::")
            if not path:
                assert row.statement in shown(version)[name], f"{name} does not say that it shows {row.statement}"
                continue
            base = SDK_TESTS if row.table == CLIENT else ROOT
            assert name in functions(base / path), named


@pytest.mark.parametrize("version", COUNTS)
def test_every_statement_that_a_test_shows_names_it_in_its_row(version: str) -> None:
    named = {row.statement: set(row.tests) for row in rows(version)}
    for test, statements in shown(version).items():
        assert statements, f"{test} shows no statement"
        for statement in statements:
            assert test in named[statement], f"the row of {statement} does not name {test}"


@pytest.mark.parametrize("version", COUNTS)
def test_the_counts_are_those_of_the_rows(version: str) -> None:
    section = document().partition(f"\n## MQTT {version}\n")[2]
    printed = [int(number) for number in SUMMARY.search(section).groups()]
    tables = [row.table for row in rows(version)]
    assert printed == [len(tables), tables.count(MET), tables.count(CLIENT), tables.count(OUT)]
