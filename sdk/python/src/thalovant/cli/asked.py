# SPDX-License-Identifier: Apache-2.0
"""Answers and secrets that a command needs: asked for at the terminal, or read from a file. Never from an argument."""

from __future__ import annotations

import getpass
import os
import shlex
import stat
import sys
from pathlib import Path

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.output import hint

__all__ = ["asked", "confirmed", "new_password", "secret"]

LONGEST = 4096


def asked(prompt: str, option: str, *, hidden: bool = False) -> str:
    """Return what was typed. Raises `typer.BadParameter`, naming the option to give, where nobody can be asked."""
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is nobody to ask; give {option}")
    try:
        answer = getpass.getpass(prompt) if hidden else input(prompt).strip()
    except EOFError:
        raise KeyboardInterrupt from None
    if not answer:
        raise typer.BadParameter(f"give {option}")
    return answer


def secret(file: Path | None, what: str, option: str) -> str:
    """Return a secret such as "password": the text of a file, else asked for. Raises CommandError for a bad file."""
    if file is None:
        return asked(f"{what.capitalize()}: ", option, hidden=True)
    try:
        with file.expanduser().open(encoding="utf-8") as stream:
            text = stream.read(LONGEST).rstrip("\r\n")
            if os.name == "posix" and stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                hint(f"Others may read the {what} file {file}; type: chmod 600 {shlex.quote(str(file))}")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(f"Unable to read the {what} file {file}: {reason}.", code="unreadable") from None
    if not text:
        raise CommandError(f"The {what} file {file} is empty.", code="empty")
    return text


def new_password(file: Path | None, option: str) -> str:
    """Return a new password; one that is typed is typed twice. Raises CommandError when the two differ."""
    password = secret(file, "new password", option)
    if file is None and asked("Once more: ", option, hidden=True) != password:
        raise CommandError("The two passwords differ: nothing was changed.", code="passwords_differ")
    return password


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether somebody says yes; raises `typer.BadParameter` where nobody can be asked and --yes is not there."""
    if yes:
        return True
    return asked(f"{question} [y/N] ", "--yes").lower() in ("y", "yes")
