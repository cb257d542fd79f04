# SPDX-License-Identifier: Apache-2.0
"""Routes about the server itself: is it well, and which authority to trust."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text

from thalovant_server.control.answers import HEADERS, Json
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import Health
from thalovant_server.control.services import GivenServices
from thalovant_server.errors import ApiError

router = APIRouter(tags=["server"])

PEM = "application/x-pem-file"
KEEP = "public, max-age=300"  # it holds no secret; short, because an authority may come to vouch for more names
_AUTHORITY: dict[int | str, dict[str, Any]] = {
    **told(None, 404),
    200: {"description": "Certificates, PEM text", "content": {PEM: {"schema": {"type": "string"}}}},
}


@router.get("/v1/health", responses=told(Health))
async def health(services: GivenServices) -> Response:
    """Tell that the API answers and its database can be read."""
    async with services.database.read() as connection:
        await connection.execute(text("SELECT 1"))
    return Json({"status": "ok", "version": services.version})


@router.get("/v1/ca", summary="The certificate authority to trust", responses=_AUTHORITY, response_class=Response)
@router.get("/v1/ca.pem", include_in_schema=False)  # as clients made before `/v1/ca` ask for it
async def certificate_authority(services: GivenServices) -> Response:
    """Give the certificate authority to trust, PEM text. (Compare its fingerprint: whoever answers could give another.)

    404 when the server's certificate is signed by an authority that clients trust anyway.
    """
    if not services.endpoints.ca_pem:
        raise ApiError(
            404,
            "This server's certificate is signed by a public authority: leave out --ca and --ca-fingerprint.",
            "no_own_authority",
        )
    return Response(services.endpoints.ca_pem, media_type=PEM, headers={**HEADERS, "cache-control": KEEP})
