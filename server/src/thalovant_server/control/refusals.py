# SPDX-License-Identifier: Apache-2.0
"""Which refused requests are denied attempts, and what is told of them. Refuses nothing itself.

Who has no token or one that may not; and who asks for a thing that is there, but not for them. A slip, such as an
etag that is old, is none.
"""

from __future__ import annotations

import http

from fastapi import Request

from thalovant_server.denials import Denial, TargetKind

LOGIN_CODES = frozenset({"invalid_credentials", "login_rate_limited"})
"""`login` notes these itself: it knows whose account it was."""

_TARGETS: dict[str, TargetKind] = {
    "client_id": "client",
    "hub_id": "hub",
    "reference": "hub",
    "token_id": "token",
}
_LONGEST_ID = 64


def note_refusal(request: Request, status: int, code: str, hidden_hub: str | None = None) -> None:
    """Take note of a refused request, if it is to be noted; `hidden_hub` is one that the caller may not see."""
    if code in LOGIN_CODES:
        return
    target: tuple[TargetKind, str] | None = ("hub", hidden_hub) if hidden_hub else _target(request)
    if status == http.HTTPStatus.UNAUTHORIZED:
        target = None  # a stranger may name anything
    hides = status == http.HTTPStatus.NOT_FOUND and target is not None and code == f"{target[0]}_not_found"
    if hides or status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        request.app.state.services.denials.note(_denial(request, code, target, hides))


def _denial(request: Request, code: str, target: tuple[TargetKind, str] | None, hides: bool) -> Denial:
    caller = getattr(request.state, "caller", None)
    route = request.scope.get("route")
    return Denial(
        action="request.refused",
        code=code,
        address=request.client.host if request.client else "",
        account_id=caller.id if caller else None,
        account_name=caller.account.email if caller else None,
        token_id=caller.token_id if caller else None,
        what=f"{request.method} {getattr(route, 'path', '')}",
        target=target,
        hides=hides,
    )


def _target(request: Request) -> tuple[TargetKind, str] | None:
    for name, value in request.path_params.items():
        if name in _TARGETS and len(str(value)) <= _LONGEST_ID:
            return _TARGETS[name], str(value)
    return None
