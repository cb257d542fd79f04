# SPDX-License-Identifier: Apache-2.0
"""Wait until a new credential works over MQTT: behind an outside broker that may take a moment (contract 4.2)."""

from __future__ import annotations

import sys

import typer

from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.cli.errors import CommandError
from thalovant.cli.progress import waiting
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAdmissionFailedError, ThalovantAdmissionTimeoutError

__all__ = ["is_admitted", "wait_until_admitted"]

PATIENCE = 30.0  # seconds; a broker that works takes well under one
LOOK_EVERY = 0.5  # seconds between two questions


def wait_until_admitted(result: BootstrapIdentityResult) -> None:
    """Return once the broker took the client up.

    Raises ThalovantAdmissionTimeoutError after `PATIENCE`, ThalovantAdmissionFailedError when it never will.
    """
    if result.operation is not None and not result.operation.is_ready:
        with waiting("the broker takes the client up"), ThalovantControlPlane() as api:
            api.wait_for_admission(result.operation, timeout=PATIENCE, poll_interval=LOOK_EVERY)


def is_admitted(result: BootstrapIdentityResult, kept: str) -> bool:
    """Return whether the broker took the client up within `PATIENCE`; says so on standard error when it did not.

    `kept` is where the new identity is, in words. Raises CommandError when the broker never will.
    """
    try:
        wait_until_admitted(result)
    except ThalovantAdmissionTimeoutError:
        typer.echo(
            f"The outside broker has not taken the client up yet. The identity is in {kept} and will work over MQTT "
            "once it has; `thalovant-server health` says how the broker is.",
            file=sys.stderr,
        )
        return False
    except ThalovantAdmissionFailedError as error:
        raise CommandError(
            f"The identity is in {kept}, and the outside broker does not let it in: {error}", code=error.code
        ) from error
    return True
