# SPDX-License-Identifier: Apache-2.0
"""The outermost layer: a fault of ours becomes a 500 that tells nothing of the inside, and a line in the log."""

from __future__ import annotations

import logging
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalovant_server.control.problems import problem
from thalovant_server.errors import ApiError

_log = logging.getLogger(__name__)


class FaultBarrier:
    """Catches what no handler knew; the log has the same incident number as the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            incident = secrets.token_hex(4)
            _log.exception("incident %s at %s %s", incident, scope.get("method"), scope.get("path"))
            if begun:
                raise
            await problem(_fault(incident))(scope, receive, send)


def _fault(incident: str) -> ApiError:
    detail = f"Something went wrong in the server. Its log has more under incident {incident}."
    return ApiError(500, detail, "internal_error", members={"incident": incident})
