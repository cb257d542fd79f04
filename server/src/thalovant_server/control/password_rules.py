# SPDX-License-Identifier: Apache-2.0
"""What a person's new password has to be. Length is what makes it strong: nothing is said of which characters."""

from __future__ import annotations

from thalovant_server.errors import ForbiddenTextError
from thalovant_server.store.accounts import fold_email

SHORTEST = 12
LONGEST = 1024


def check_password(field: str, password: str, email: str) -> str:
    """Return ``password`` when it may serve as one.

    Raises:
        ForbiddenTextError: it is too short, too long, or the e-mail address. The password itself is not repeated.
    """
    if len(password) < SHORTEST:
        raise ForbiddenTextError(field, f"must have at least {SHORTEST} characters")
    if len(password) > LONGEST:
        raise ForbiddenTextError(field, f"must have at most {LONGEST} characters")
    if fold_email(password) == email:
        raise ForbiddenTextError(field, "must not be the e-mail address")
    return password
