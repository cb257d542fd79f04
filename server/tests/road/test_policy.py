# SPDX-License-Identifier: Apache-2.0
"""A policy that changes while its client is connected, over each carrier: the next message is judged by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from thalovant import (
    AsyncThalovantClient,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantEvent,
    ThalovantPolicyDeniedError,
    ThalovantQuota,
)
from thalovant.protocol import noise
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer, MovedClock

ASK = "recognizer_loop:utterance"
every_carrier = pytest.mark.parametrize("carrier", ["mqtt", "wss", "https"])


class Ruled:
    """A connected client, and how its policy is changed by its hub's owner meanwhile."""

    def __init__(self, api: ThalovantControlPlane, client: AsyncThalovantClient, client_id: str) -> None:
        self._api, self._client_id = api, client_id
        self.client = client
        self.denials: list[ThalovantEvent] = []
        client.on("hive.policy.denied", self.denials.append)

    async def change(self, **policy: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self._api.update_client_policy, self._client_id, policy)

    async def policy(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._api.get_client_policy, self._client_id)

    async def denied(self, request_id: str, call: str = "ask") -> ThalovantPolicyDeniedError:
        """Be denied under this request id, by the very next message: the change is in force when it is answered."""
        with pytest.raises(ThalovantPolicyDeniedError) as caught:
            async with asyncio.timeout(10):
                await getattr(self.client, call)("may I?", request_id=request_id)
        assert self.denials[-1].request_id == request_id
        return caught.value


@pytest.fixture
def ruled(api: ThalovantControlPlane, make_hub: Callable[..., str], request: pytest.FixtureRequest) -> Any:
    """A client that does not connect twice: a connection that is lost fails the test."""

    @asynccontextmanager
    async def open_one(carrier: str, agent: str = "echo", **spec: Any) -> AsyncIterator[Ruled]:
        hub = await asyncio.to_thread(make_hub, request.node.name[:60], agent)
        made = await asyncio.to_thread(api.create_client_identity, hub, name="ruled", spec={"version": "1", **spec})
        async with AsyncThalovantClient(made.identity, protocol=carrier, auto_reconnect=False) as client:
            await client.connect()
            yield Ruled(api, client, made.client_id or "")

    return open_one


@every_carrier
def test_a_type_that_is_taken_away_is_denied_at_once_without_a_reconnect(carrier: str, ruled: Any) -> None:
    async def main() -> None:
        async with ruled(carrier) as one:
            assert (await one.client.ask("before")).text == "before"
            await one.change(allowed_types=[])
            error = await one.denied("r1")
            assert (error.code, error.denied_type, error.allowed) == ("acl_disallowed_type", ASK, ())
            await one.change(allowed_types=None)
            assert (await one.client.ask("after")).text == "after"

    asyncio.run(main())


@every_carrier
def test_a_grant_is_taken_and_given(carrier: str, ruled: Any) -> None:
    async def main() -> None:
        async with ruled(carrier) as one:
            assert (await one.client.query("before")).text == "before"
            await one.change(can_escalate=False)
            assert (await one.denied("r1", "query")).code == "not_granted"
            assert (await one.client.ask("but I may ask")).text == "but I may ask"
            await one.change(can_escalate=True)
            assert (await one.client.query("after")).text == "after"

    asyncio.run(main())


@every_carrier
def test_quota_and_rate_limit_say_how_much_and_until_when(carrier: str, ruled: Any) -> None:
    async def main() -> None:
        async with ruled(carrier) as one:
            await one.change(daily_quota=2)
            assert (await one.client.ask("one", request_id="r1")).text == "one"
            assert (await one.client.query("two", request_id="r2")).text == "two"
            for request_id, call in (("r3", "ask"), ("r4", "query")):
                error = await one.denied(request_id, call)
                assert error.code == "intent_quota_exceeded"
                assert error.quota is not None
                assert 0 < error.quota.reset_after <= 86_400
                assert error.quota == ThalovantQuota("daily", 2, 2, error.quota.reset_after)
            assert (await one.client.ask("one", request_id="r1")).text == "one", "from memory it costs nothing"
            assert (await one.policy())["usage"]["used"] == 2
            await one.change(daily_quota=None, rate_limit={"messages": 1, "per_seconds": 1000})
            assert (await one.client.ask("three")).text == "three"
            error = await one.denied("r5")
            assert (error.code, error.denied_type) == ("rate_limited", ASK)
            assert error.quota is not None
            assert 900 < error.quota.reset_after <= 1000
            assert error.quota == ThalovantQuota("1000s", 1, 1, error.quota.reset_after)
            assert "may send 1 message in 1000s; wait" in str(error)
            await one.change(rate_limit=None)
            assert (await one.client.ask("four")).text == "four"

    asyncio.run(main())


@every_carrier
def test_the_block_lists_reach_the_agent_and_hold_on_the_bus(carrier: str, ruled: Any) -> None:
    async def main() -> None:
        async with ruled(carrier, "blocked", blocked_skills=["lock.skill"]) as one:
            assert json.loads((await one.client.ask("which?")).text) == ["lock.skill", ["lock.skill"], []]
            await one.change(blocked_skills=[], blocked_intents=["tv.skill:on"], allowed_types=[ASK, "tv.skill:on"])
            own = {"blacklisted_skills": ["own.skill"]}
            answer = json.loads((await one.client.ask("which?", context={"session": own})).text)
            assert answer == ["own.skill", "tv.skill:on", ["own.skill"], ["tv.skill:on"]]
            heard: asyncio.Future[ThalovantEvent] = asyncio.get_running_loop().create_future()
            one.client.on("hive.policy.denied", heard.set_result, request_id="r1")
            await one.client.emit("tv.skill:on", {}, {"request_id": "r1"})
            data = (await asyncio.wait_for(heard, 10)).data
            assert (data["code"], data["denied_type"]) == ("acl_blocked_intent", "tv.skill:on")

    asyncio.run(main())


def test_two_carriers_share_one_quota(api: ThalovantControlPlane, make_hub: Callable[..., str]) -> None:
    spec = {"version": "1", "daily_quota": 2}
    made = api.create_client_identity(make_hub("shared quota"), name="shared", spec=spec)
    clients = [ThalovantClient(made.identity, protocol=carrier) for carrier in ("mqtt", "wss", "https")]
    with clients[0] as mqtt, clients[1] as wss, clients[2] as https:
        assert [client.ask("hello").text for client in (mqtt, wss)] == ["hello", "hello"]
        with pytest.raises(ThalovantPolicyDeniedError, match="2 of 2 daily"):
            https.ask("hello")


def test_the_count_of_a_day_survives_a_restart_and_not_its_midnight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "stretch", cheap_stretch)
    clock = MovedClock()
    clock.ahead = 86_400 - clock() / 1_000_000 % 86_400 + 3600  # one in the morning of tomorrow
    server = InProcessServer(tmp_path / "data", clock=clock)

    def used_up(carrier: str) -> bool:
        with ThalovantClient(identity, protocol=carrier) as client:
            try:
                client.ask("hello")
            except ThalovantPolicyDeniedError as error:
                assert error.quota is not None
                assert error.quota.limit == 1
                return True
        return False

    with server:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, server.ready["ca_bundle"])
        with ThalovantControlPlane(server.ready["api_url"]) as plane:
            plane.login(*server.admin)
            spec = {"version": "1", "daily_quota": 1}
            identity = plane.create_client_identity(server.ready["hub_id"], name="c", spec=spec).identity
        assert [used_up("wss"), used_up("mqtt")] == [False, True]
    with server:
        assert used_up("wss")
        clock.ahead += 86_400
        assert [used_up("wss"), used_up("wss")] == [False, True]
