# SPDX-License-Identifier: Apache-2.0
"""Failed attempts over WSS and HTTPS, from an address that counts as far away, over real sockets."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import quote

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from thalovant_server.hub import throttle
from thalovant_server.hub.throttle import PER_PAIR, PER_SOURCE, ConnectThrottle


@pytest.fixture(autouse=True)
def loopback_counts_as_far_away(monkeypatch):
    """There is no second machine here: that 127.0.0.1 is treated as an address like others is mocked."""
    monkeypatch.setattr(throttle, "is_this_machine", lambda address: False)


def query(key):
    return "authorization=" + quote(base64.b64encode(f"test/1:{key}".encode()).decode(), safe="")


async def knock(port, key, *, wss):
    """The close code of a WebSocket, or the status of /connect; 0 when it was let in."""
    if not wss:
        async with httpx2.AsyncClient(verify=port.client_tls, trust_env=False) as http:
            answer = await http.post(f"https://localhost:{port.api.port}/connect?{query(key)}")
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) > 0 and "try again later" in answer.json()["error"]
            return 0 if answer.status_code == 200 else answer.status_code
    url = f"wss://localhost:{port.api.port}/?{query(key)}"
    async with connect(url, ssl=port.client_tls, compression=None, proxy=None) as socket:
        try:
            await asyncio.wait_for(socket.recv(), 10)
        except ConnectionClosed as closed:
            return closed.rcvd.code
        return 0


@pytest.mark.parametrize(("wss", "no", "later"), [(True, 1008, 1013), (False, 403, 429)], ids=["wss", "https"])
def test_who_guesses_access_keys_is_refused_for_a_while_and_a_client_is_not(run_port, wss, no, later):
    async def main(port):
        port.credential(1)
        port.credential(2)
        port.hub.proven("key-1", "127.0.0.1")
        answers = [await knock(port, f"guess-{number}", wss=wss) for number in range(PER_SOURCE.burst + 2)]
        assert answers == [no] * PER_SOURCE.burst + [later] * 2
        assert await knock(port, "key-1", wss=wss) == 0
        assert await knock(port, "key-2", wss=wss) == 0  # a client of this server that nobody has seen yet
        if port.clock is not None:
            port.clock.advance(PER_SOURCE.seconds_each)
            assert await knock(port, "one more", wss=wss) == no

    run_port(main, standing=not wss)


@pytest.mark.parametrize(("wss", "later"), [(True, 1013), (False, 429)], ids=["wss", "https"])
def test_one_access_key_that_fails_for_ever_shuts_nobody_else_out(run_port, wss, later):
    async def main(port):
        port.credential(2)
        answers = [await knock(port, "revoked", wss=wss) for _ in range(PER_PAIR.burst + 1)]
        assert answers[-1] == later and later not in answers[:-1]
        assert await knock(port, "key-2", wss=wss) == 0

    run_port(main)


def test_who_knows_an_access_key_and_not_its_password_is_refused_in_the_end(run_port):
    """Each WebSocket is greeted and leaves without having proven anything."""

    async def main(port):
        port.credential(1)
        for _ in range(PER_PAIR.burst):
            assert await knock(port, "key-1", wss=True) == 0
            await port.connections(0)
        assert await knock(port, "key-1", wss=True) == 1013

    run_port(main)


@pytest.mark.parametrize(("wss", "no"), [(True, 1008), (False, 403)], ids=["wss", "https"])
def test_noes_are_slow_where_nobody_is_refused(run_port, wss, no):
    """They come all the same, and who hangs up meanwhile leaves nothing behind."""

    async def main(port):
        port.hub.throttle = ConnectThrottle(hold_back=0.05)
        port.hub.proven("gone", "127.0.0.1")
        held, failed, slow = [], port.hub.failed, asyncio.Event()

        def note(*who):
            held.append(failed(*who))
            if held[-1] == 3600:
                slow.set()
            return held[-1]

        port.hub.failed = note
        for _ in range(PER_PAIR.burst + 2):
            assert await knock(port, "gone", wss=wss) == no
        assert held == [0.0] * PER_PAIR.burst + [0.05] * 2
        port.hub.throttle._hold_back = 3600
        left = asyncio.create_task(knock(port, "gone", wss=wss))
        await asyncio.wait_for(slow.wait(), 10)
        left.cancel()
        await asyncio.wait([left])

    run_port(main)
