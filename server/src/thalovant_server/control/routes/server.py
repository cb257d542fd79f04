# SPDX-License-Identifier: Apache-2.0
"""Routes about the server itself: is it well, in words and in numbers, and which authority to trust."""

from __future__ import annotations

import ipaddress
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import text

from thalovant_server.broker_report import NO_BROKER, BrokerHealth
from thalovant_server.control.answers import HEADERS, Json, time_text
from thalovant_server.control.callers import MetricsReader, address_of
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import Health
from thalovant_server.control.services import GivenServices, Services
from thalovant_server.errors import ApiError

router = APIRouter(tags=["server"])

PEM = "application/x-pem-file"
KEEP = "public, max-age=300"  # it holds no secret; short, because an authority may come to vouch for more names
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_METRICS: dict[int | str, dict[str, Any]] = {
    **told(None, 403),
    200: {"description": "Prometheus' text format, 0.0.4", "content": {"text/plain": {"schema": {"type": "string"}}}},
}
_AUTHORITY: dict[int | str, dict[str, Any]] = {
    **told(None, 404),
    200: {"description": "Certificates, PEM text", "content": {PEM: {"schema": {"type": "string"}}}},
}


@router.get("/v1/health", responses=told(Health))
async def health(request: Request, services: GivenServices) -> Response:
    """Tell that the API answers and its database can be read, and how the outside broker is.

    `status` is about this server alone: one whose broker is away is as it should be, and waits for it.
    """
    async with services.database.read() as connection:
        await connection.execute(text("SELECT 1"))
    broker = _broker_health(services)
    told = {} if broker is None else {"broker": _shown(broker, _is_near(request))}
    return Json({"status": "ok", "version": services.version, **told})


@router.get("/v1/metrics", responses=_METRICS, response_class=Response)
async def metrics(services: GivenServices, _: MetricsReader) -> Response:
    """Give the server in numbers, in Prometheus' text format: for an admin, whose token needs no more than this scope.

    No label names a client, a hub or an account.
    """
    return Response(services.metrics(), media_type=PROMETHEUS, headers=HEADERS)


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


def _broker_health(services: Services) -> BrokerHealth | None:
    if services.broker is not None:
        return services.broker.health()
    lacks = not services.endpoints.broker_url and any(hub.serves_mqtt("link") for hub in services.directory.hubs())
    return NO_BROKER if lacks else None


def _shown(broker: BrokerHealth, is_near: bool) -> dict[str, Any]:
    since = None if broker.since is None else time_text(broker.since)
    return {"state": broker.state, "since": since, "fault": (broker.fault or None) if is_near else None}


def _is_near(request: Request) -> bool:
    """Whether somebody of this machine asks: what is wrong may name addresses of the operator's network."""
    try:
        return ipaddress.ip_address(address_of(request)).is_loopback
    except ValueError:
        return False
