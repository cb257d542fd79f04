# SPDX-License-Identifier: Apache-2.0
"""Routes of operations (contract 4.2)."""

from __future__ import annotations

from fastapi import APIRouter, Response

from thalovant_server.control import operations
from thalovant_server.control.answers import Json
from thalovant_server.control.callers import AnyCaller
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import Operation
from thalovant_server.control.services import GivenServices

router = APIRouter(tags=["operations"])


@router.get("/v1/operations/{operation_id}", responses=told(Operation, 404))
async def get_operation(services: GivenServices, caller: AnyCaller, operation_id: str) -> Response:
    """Tell how far something is that took longer than its request; known for 7 days after its end."""
    async with services.database.read() as connection:
        return Json(operations.shown(await operations.visible(connection, caller, operation_id)))
