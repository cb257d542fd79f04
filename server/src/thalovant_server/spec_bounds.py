# SPDX-License-Identifier: Apache-2.0
"""What a spec may be as a whole: JSON that can be written back, and of bounded size. Knows no key of it.

A spec grows by merging, so that bounding each request bounds no spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from thalovant_server.errors import ForbiddenTextError

MOST_BYTES = 64 * 1024


def check_bounds(spec: Mapping[str, Any]) -> None:
    """Check that a spec can be stored and shown again.

    Raises:
        ForbiddenTextError: it holds what JSON cannot (an integer beyond 64 bits, half a surrogate pair), or is longer
            than 65,536 bytes.
    """
    try:
        size = len(orjson.dumps(spec))
    except TypeError:  # what orjson's JSONEncodeError is
        raise ForbiddenTextError("spec", "holds a number or a text that JSON cannot carry") from None
    if size > MOST_BYTES:
        raise ForbiddenTextError("spec", f"must not be longer than {MOST_BYTES} bytes")
