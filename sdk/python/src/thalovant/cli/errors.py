# SPDX-License-Identifier: Apache-2.0
"""How a command ends: one line on standard error and an exit code, never a traceback.

0 done; 1 refused, failed or typed wrongly; 130 interrupted. The line is a sentence and a code, or with `--json` an
object: `{"error": {"code": ..., "message": ...}}`, for an answer of the control plane with its `status_code` and, when
it names one, `retry_after_seconds`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import typer

from thalovant.cli.output import json_line, wants_json
from thalovant.cli.scopes import SCOPES, needed_by
from thalovant.errors import ThalovantAPIError, ThalovantError

VALIDATION = "Schema validation failed: "  # what a server of ours says before the sentence about the field
TOKEN_VARIABLE = "THALOVANT_API_TOKEN"  # noqa: S105 - the name of a variable
"""The variable with a token that goes before the sign-in."""

_SAID = re.compile(r"Thalovant API request failed with HTTP 4[0-9][0-9]: ")  # what the SDK puts before a server's words
_PYTHON = re.compile(r",? or call login\(email, password\)| \([a-z_]+=\)")  # for programs, not for a shell
ADVICE = {
    "email_in_use": "There is an account with this address already. For who lost the invitation, or the password: "
    "thalovant users invite E-MAIL --again",
    "token_not_found": "There is no such token of yours: thalovant tokens lists them.",
    "invalid_scope": f"There is no such scope. --scope takes {', '.join(SCOPES)}.",
    "ownership_required": "It belongs to somebody else: only its owner and admins may do that.",
    "admin_required": "Only an admin of the server may do that.",
}
"""What is said of a refusal whose own words name no way out, by its code."""

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
    """Run a Typer app with the arguments of this process; return the exit code.

    What the SDK logs of its connection goes nowhere by itself: what ends a command is its one line.
    """
    log = logging.getLogger("thalovant.connection")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
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


def error_object(error: Exception) -> dict[str, Any]:
    """What a program is told of an error: `code`, `message`, the `diagnosis`, and what the control plane said of it."""
    told: dict[str, Any] = {"code": _code(error), "message": _sentence(error)}
    if isinstance(error, ThalovantError) and error.diagnosis is not None:
        told["diagnosis"] = error.diagnosis.code
    if isinstance(error, ThalovantAPIError):
        more = {"status_code": error.status_code, "retry_after_seconds": error.retry_after_seconds}
        told |= {name: value for name, value in more.items() if value is not None}
    return told


def _report(error: Exception) -> int:
    if wants_json(sys.argv[1:]):
        typer.echo(json_line({"error": error_object(error)}), err=True)
    else:
        text, code = _sentence(error), _code(error)
        # A server of ours may have put its code at the end already.
        said = text if text.endswith(f"({code})") else f"{text} ({code})"
        typer.echo(f"error: {said}" + ("; see --help" if code == "usage" else ""), err=True)
    return error.exit_code if isinstance(error, ThalovantError) else FAILED


def _code(error: Exception) -> str:
    if isinstance(error, _UsageError):
        return "usage"
    return error.code if isinstance(error, ThalovantError) else "unexpected"


def _sentence(error: Exception) -> str:
    if isinstance(error, _UsageError):
        return _one_line(getattr(error, "format_message", error.__str__)())
    if not isinstance(error, ThalovantError):
        return _one_line(f"{type(error).__name__}: {error}")
    text = _one_line(str(error))
    if isinstance(error, ThalovantAPIError) and error.code == "invalid_token":
        return _over()
    if isinstance(error, ThalovantAPIError) and error.code == "insufficient_scopes":
        return _too_little()
    if isinstance(error, ThalovantAPIError) and error.code in ADVICE:
        return ADVICE[error.code]
    if isinstance(error, ThalovantAPIError) and error.status_code == 422:
        text = text.rpartition(VALIDATION)[2]
    return _PYTHON.sub("", _SAID.sub("", text, count=1))


def _over() -> str:
    """A token is no good any more; the words name where it came from."""
    if os.environ.get(TOKEN_VARIABLE, "").strip():
        return (
            f"The token in {TOKEN_VARIABLE} is over, or was revoked, or is another server's; it goes before a sign-in: "
            f"put a good one there, or type unset {TOKEN_VARIABLE}"
        )
    return "This sign-in is over, or was revoked: type thalovant login URL"


def _too_little() -> str:
    """A token lacks a scope; the words name which the command needs."""
    from_variable = bool(os.environ.get(TOKEN_VARIABLE, "").strip())
    who = f"The token in {TOKEN_VARIABLE}" if from_variable else "This sign-in"
    needed = needed_by(sys.argv[1:])
    what = f": `thalovant {needed[0]}` needs {needed[1]}" if needed else ""
    way = (
        f"Put one there that has it, or type unset {TOKEN_VARIABLE} to use your sign-in."
        if from_variable
        else "Type thalovant login URL to sign in with your password, or with --browser and --scope for what it lacks."
    )
    return f"{who} may not do that{what}. {way}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _silence() -> None:
    """The reader has gone; keep the interpreter from complaining about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
