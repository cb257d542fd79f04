# SPDX-License-Identifier: Apache-2.0
"""A deleted client is cut off at once on every carrier, and nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from thalovant import (
    AsyncThalovantClient,
    ThalovantClient,
    ThalovantConnectionError,
    ThalovantControlPlane,
)
from thalovant_server.testing import ServerProcess

CARRIERS = ("mqtt", "wss", "https")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_deleted_client_loses_its_live_session_and_is_refused(
    carrier: str, api: ThalovantControlPlane, server: ServerProcess
) -> None:
    hub = server.ready["hub_id"]
    made = api.create_client_identity(hub, name="lost")
    neighbour = api.create_client_identity(hub, name="neighbour").identity
    assert made.client_id is not None

    async def main() -> None:
        async with AsyncThalovantClient(neighbour, protocol=carrier) as other:
            lost = AsyncThalovantClient(made.identity, protocol=carrier, auto_reconnect=False)
            await lost.connect()
            await lost.ask("still here")
            await other.ask("here too")
            await asyncio.to_thread(api.delete_client, made.client_id or "")
            await asyncio.wait_for(lost.wait_closed(), 5)
            assert (await other.ask("unmoved")).text == "unmoved"
            with pytest.raises(ThalovantConnectionError):
                await lost.ask("let me in", timeout=5)
            await lost.close()

    asyncio.run(main())
    with pytest.raises(ThalovantConnectionError), ThalovantClient(made.identity, protocol=carrier):
        pytest.fail("a deleted client was let in")
