# SPDX-License-Identifier: Apache-2.0
"""The control plane as one ASGI application. Opens no port and reads no file."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from thalovant_server.control import problems
from thalovant_server.control.bodies import BodyBounds
from thalovant_server.control.faults import FaultBarrier
from thalovant_server.control.problems import Problem
from thalovant_server.control.routes import auth, clients, hubs, server
from thalovant_server.control.services import Services

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (401, 403, 404, 409, 412, 413, 422, 429, 503)
}


def create_app(services: Services) -> FastAPI:
    """Return the application that answers everything below ``/v1``.

    Args:
        services: the parts behind it; `Services.start` is the caller's to call.
    """
    app = FastAPI(
        title="Thalovant control plane",
        version=services.version,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_REFUSALS,
    )
    app.state.services = services
    problems.install(app)
    for part in (auth, hubs, clients, server):
        app.include_router(part.router)
    app.add_middleware(BodyBounds)
    app.add_middleware(FaultBarrier)  # the last one added is the outermost
    return app
