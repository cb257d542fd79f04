# SPDX-License-Identifier: Apache-2.0
"""Paths of the data plane: `/hubs/<hub-id>/<rest>`, or the root, which is the default hub's (decision 13).

It will not check that a hub exists.
"""

from __future__ import annotations

PREFIX = "/hubs/"


def split_path(path: str) -> tuple[str | None, str]:
    """Hub id, or None for the root; and the rest of the path, without slashes at its ends."""
    if not path.startswith(PREFIX):
        return None, path.strip("/")
    hub_id, _, rest = path[len(PREFIX) :].partition("/")
    return hub_id, rest.strip("/")
