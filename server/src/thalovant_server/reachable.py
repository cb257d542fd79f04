# SPDX-License-Identifier: Apache-2.0
"""Whether another user can read a file: by the mode of everything on the way to it. Knows no access lists."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def first_shut(path: Path, user: pwd.struct_passwd | None) -> Path | None:
    """Return the directory on the way to a path that a user may not go through, or what it may not read; else None.

    Args:
        path: also what it is a link to is looked at.
        user: None is one who owns nothing.
    """
    for place in dict.fromkeys([path, path.resolve()]):
        for each in reversed([place, *place.parents]):
            wanted = 0o1 if each != place else 0o5 if each.is_dir() else 0o4
            if each.exists() and not _may(user, each.stat(), wanted):
                return each
    return None


def _may(user: pwd.struct_passwd | None, found: os.stat_result, wanted: int) -> bool:
    shift = 0
    if user is not None and found.st_uid == user.pw_uid:
        shift = 6
    elif user is not None and found.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        shift = 3
    return (found.st_mode >> shift) & wanted == wanted
