# SPDX-License-Identifier: Apache-2.0
"""Routes about the server itself: is it well, which authority to trust; and operations, of which it has none."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import text

from thalovant_server.control.answers import HEADERS, Json
from thalovant_server.control.callers import AnyCaller
from thalovant_server.control.services import GivenServices
from thalovant_server.errors import ApiError

router = APIRouter(tags=["server"])


@router.get("/v1/health")
async def health(services: GivenServices) -> Response:
    """Tell that the API answers and its database can be read."""
    async with services.database.read() as connection:
        await connection.execute(text("SELECT 1"))
    return Json({"status": "ok", "version": services.version})


@router.get("/v1/ca.pem")
async def certificate_authority(services: GivenServices) -> Response:
    """Give the certificate authority to trust. (Compare its fingerprint: whoever answers could give another.)"""
    return Response(services.endpoints.ca_pem, media_type="application/x-pem-file", headers=HEADERS)


@router.get("/v1/operations/{operation_id}")
async def get_operation(_: AnyCaller, operation_id: str) -> Response:
    """Find no operation: everything this server does is done when it answers (contract 4.2)."""
    raise ApiError(404, "Operation not found", "operation_not_found")
