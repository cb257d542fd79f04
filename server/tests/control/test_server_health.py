# SPDX-License-Identifier: Apache-2.0
"""What the server says of its broker and of itself in numbers, and to whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from thalovant_server.broker_report import BrokerReport
from thalovant_server.testing.control import BROKER_ENDPOINTS, World

Run = Callable[[Callable[[World], Awaitable[None]]], None]
AWAY = {
    "standing": "away",
    "since": 1_700_000_000_000_000,
    "fault": "cannot be reached",
    "reconnects": 0,
    "sessions": 0,
}


def broker(**state: Any) -> BrokerReport:
    """A report of a link in this state."""
    said: Any = [
        lambda: type("Link", (), {**AWAY, **state})(),
        lambda: type(
            "Accounts", (), {"fault": "", "wished": 0, "accounts": 0, "refused": 0, "queued": 0, "repaired": 0}
        )(),
    ]
    return BrokerReport(*said)


async def ask_from(world: World, address: str) -> dict[str, Any]:
    """What somebody at an address is told."""
    transport = httpx2.ASGITransport(world.app, client=(address, 5000))
    async with httpx2.AsyncClient(transport=transport, base_url="https://hub.example.test:8443") as http:
        return dict((await http.get("/v1/health")).json())


def test_a_server_without_a_broker_says_nothing_of_one(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        assert await ask_from(world, "127.0.0.1") == {"status": "ok", "version": "1.2.3"}

    in_world(scenario)


def test_a_server_whose_broker_is_away_is_alive_and_says_so(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.services.endpoints, world.services.broker = BROKER_ENDPOINTS, broker()
        told = await ask_from(world, "127.0.0.1")
        assert told["status"] == "ok"
        assert told["broker"] == {"state": "away", "since": "2023-11-14T22:13:20.000Z", "fault": "cannot be reached"}
        world.services.broker = broker(standing="connected", fault="")
        told = await ask_from(world, "::1")
        assert told["broker"] == {"state": "connected", "since": "2023-11-14T22:13:20.000Z", "fault": None}

    in_world(scenario)


def test_what_is_wrong_is_nobody_elses_business(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.services.broker = broker()
        for address in ("192.0.2.1", "2001:db8::1", ""):
            told = (await ask_from(world, address))["broker"]
            assert told["state"] == "away" and told["fault"] is None

    in_world(scenario)


def test_a_hub_that_needs_a_broker_which_is_not_there_is_told(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        spec = {"version": "1", "protocols": {"mqtt": {"enabled": True, "via": "link"}}}
        world.services.endpoints = BROKER_ENDPOINTS
        await world.make_hub("far", spec=spec)
        assert "broker" not in await ask_from(world, "127.0.0.1")  # there is one, and it has not been dialled yet
        world.services.endpoints = type(BROKER_ENDPOINTS)("hub.example.test", 8443, 8883, "")
        told = (await ask_from(world, "127.0.0.1"))["broker"]
        assert told["state"] == "missing" and told["since"] is None and "--broker-url" in told["fault"]

    in_world(scenario)


def test_numbers_are_for_an_admin_in_prometheus_text_format(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        world.services.metrics = lambda: b"thalovant_hubs 1.0\n"
        answer = await world.call("GET", "/v1/metrics")
        assert answer.status_code == 200 and answer.content == b"thalovant_hubs 1.0\n"
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert (await world.call("GET", "/v1/metrics", token=None)).status_code == 401
        assert (await world.call("GET", "/v1/metrics", token=await world.add_account("other"))).status_code == 403

    in_world(scenario)
