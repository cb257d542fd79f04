# SPDX-License-Identifier: Apache-2.0
"""Routes of device login (contract 4.4). Its page for people is in `device_page`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thalovant_server.control import device
from thalovant_server.control.answers import HEADERS, Json
from thalovant_server.control.callers import AnyCaller, TokensWriter, address_of
from thalovant_server.control.openapi import told
from thalovant_server.control.resources import ApprovedDeviceLogin, DeviceAuthorization, DeviceLogin, NewApiToken
from thalovant_server.control.schemas import DeviceApproval, DeviceCode, DeviceRequest
from thalovant_server.control.services import GivenServices

router = APIRouter(tags=["auth"])


@router.post("/v1/auth/device/authorize", responses=told(DeviceAuthorization, 400, 429))
async def begin_device_login(services: GivenServices, request: Request, body: DeviceRequest) -> Response:
    """Begin a device login: show the user code to a person, and ask for the token with the device code."""
    return Json(await device.authorize(services, body, address_of(request)))


@router.post("/v1/auth/device/token", responses=told(NewApiToken, 400, 409))
async def poll_device_login(services: GivenServices, request: Request, body: DeviceCode) -> Response:
    """Ask for the token of a device login. Until then 400 with `error`, as RFC 8628 names them."""
    return Json(await device.poll(services, body.device_code, address_of(request)))


@router.get("/v1/auth/device/codes/{user_code}", responses=told(DeviceLogin, 404, 429))
async def describe_device_login(services: GivenServices, caller: AnyCaller, user_code: str) -> Response:
    """Tell who asks for what; 404 when the code is unknown, expired or answered."""
    return Json(await device.described(services, caller, user_code))


@router.post("/v1/auth/device/codes/{user_code}/approve", responses=told(ApprovedDeviceLogin, 404, 429))
async def approve_device_login(
    services: GivenServices, caller: TokensWriter, user_code: str, body: DeviceApproval
) -> Response:
    """Sign the program in as the caller, with no more than was asked for and than the token in use has."""
    return Json(await device.approve(services, caller, user_code, body))


@router.post("/v1/auth/device/codes/{user_code}/deny", status_code=204, responses=told(None, 404, 429))
async def deny_device_login(services: GivenServices, caller: TokensWriter, user_code: str) -> Response:
    """Refuse a device login."""
    await device.deny(services, caller, user_code)
    return Response(status_code=204, headers=HEADERS)
