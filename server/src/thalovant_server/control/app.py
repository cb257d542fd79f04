# SPDX-License-Identifier: Apache-2.0
"""The control plane as one ASGI application. Opens no port and reads no file."""

from __future__ import annotations

from fastapi import FastAPI

from thalovant_server.control import openapi, problems, reference
from thalovant_server.control.bodies import BodyBounds
from thalovant_server.control.faults import FaultBarrier
from thalovant_server.control.routes import (
    audit,
    auth,
    clients,
    device,
    device_page,
    hubs,
    operations,
    policy,
    presence,
    server,
    users,
)
from thalovant_server.control.services import Services


def create_app(services: Services) -> FastAPI:
    """Return the application that answers everything below ``/v1``.

    Args:
        services: the parts behind it; `Services.start` is the caller's to call.
    """
    app = FastAPI(
        title="Thalovant control plane",
        version=services.version,
        openapi_url="/v1/openapi.json",
        generate_unique_id_function=openapi.operation_id,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    parts = (auth, device, device_page, users, hubs, clients, audit, policy, presence, operations, server)
    problems.install(app, [route for part in parts for route in part.router.routes])
    for part in parts:
        app.include_router(part.router)
    openapi.install(app)
    reference.install(app)
    app.add_middleware(BodyBounds)
    app.add_middleware(FaultBarrier)  # the last one added is the outermost
    return app
