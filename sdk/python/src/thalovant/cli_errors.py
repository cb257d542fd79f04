# SPDX-License-Identifier: Apache-2.0
"""How a command ends: one line on standard error and an exit code, never a traceback.

0 done; 1 refused, failed or typed wrongly; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from thalovant.errors import ThalovantAPIError, ThalovantError

VALIDATION = "Schema validation failed: "  # what a server of ours says before the sentence about the field
FAILED = 1
INTERRUPTED = 130

# Typer carries its own copy of click; its usage errors have one class, known by this one's parent.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class CommandError(ThalovantError):
    """A command cannot do what was typed; `code` is stable, the text says what to type instead."""

    def __init__(self, text: str, *, code: str) -> None:
        super().__init__(text)
        self.code = code


def run(app: Callable[..., object]) -> int:
    """Run a Typer app with the arguments of this process; return the exit code."""
    try:
        result = app(prog_name="thalovant", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except typer.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        _silence()
        return FAILED
    except Exception as error:
        if os.environ.get("THALOVANT_DEBUG"):
            raise
        return _report(error)
    return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    if isinstance(error, _UsageError):
        say = getattr(error, "format_message", error.__str__)
        _say(f"error: {_one_line(say())} (usage); see --help")
        return FAILED
    if isinstance(error, ThalovantError):
        _say(f"error: {_with_code(error)}")
        return error.exit_code
    _say(f"error: {_one_line(f'{type(error).__name__}: {error}')} (unexpected)")
    return FAILED


def _with_code(error: ThalovantError) -> str:
    """The sentence, and the code unless the sentence ends with it already."""
    text = _one_line(str(error))
    if isinstance(error, ThalovantAPIError) and error.status_code == 422:
        text = text.rpartition(VALIDATION)[2]
    return text if text.endswith(f"({error.code})") else f"{text} ({error.code})"


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _silence() -> None:
    """The reader has gone; keep the interpreter from complaining about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
