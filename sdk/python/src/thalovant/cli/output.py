# SPDX-License-Identifier: Apache-2.0
"""What commands print: sentences and tables for people, JSON for programs. It decides nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import typer

__all__ = [
    "examples",
    "help_without_a_command",
    "hint",
    "is_for_people",
    "json_line",
    "print_json",
    "print_table",
    "printable",
    "say",
    "wants_json",
]


def say(text: str) -> None:
    """Print a line to standard output."""
    typer.echo(text)


def hint(text: str) -> None:
    """Print a line to standard error when a person looks at it there, and did not ask for JSON."""
    if is_for_people(sys.stderr) and not wants_json(sys.argv[1:]):
        typer.echo(text, err=True)


def is_for_people(stream: object) -> bool:
    """Whether a stream is a terminal."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty is not None and isatty())


def print_json(value: object) -> None:
    """Print one JSON document over several lines."""
    say(_harmless(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def json_line(value: object) -> str:
    """Return one JSON document as one line."""
    return _harmless(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def _harmless(document: str) -> str:
    """The same JSON with what steers a terminal as escapes: `json` leaves U+009B and its like as they are."""
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in document)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns as wide as what is in them."""
    shown = [tuple(printable(cell) for cell in row) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """Return `text` so that what a server sends cannot steer the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line, understood or not, asks for JSON."""
    words = list(arguments)
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def help_without_a_command(context: typer.Context) -> None:
    """Print the help of a group that was typed without one of its commands, and end."""
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit


def examples(*lines: str) -> str:
    """Return an epilog of a help text that shows how a command is typed."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
