# SPDX-License-Identifier: Apache-2.0
"""One port for four things: dispatch, the number of sockets, and the drain."""

from __future__ import annotations

import asyncio
import ssl

import httpx2
import pytest

from thalovant_server.hub.limits import Limits


def client_of(port):
    return httpx2.AsyncClient(base_url=f"https://localhost:{port.api.port}", verify=port.client_tls, trust_env=False)


async def read_all(reader):
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except (ConnectionError, ssl.SSLError):
        return b""


def test_paths_lead_to_their_applications(run_port):
    async def main(port):
        async with client_of(port) as http:
            assert (await http.get("/v1/hubs?x=1")).json() == {"path": "/v1/hubs", "body": 0}
            assert (await http.post("/v1/x", content=b"x" * 200_000)).json()["body"] == 200_000
            assert (await http.get("/healthz")).status_code == 204
            assert (await http.get("/v1/k%C3%BCche%13")).json()["path"] == "/v1/küche\x13"
            assert (await http.get("/hubs/k%C3%BCche/get_messages")).json() == {"error": "Missing authorization"}
            for path in ("/", "/hubs", "/hubs/h1", "/v1", "/nothing", "/hubs/h1/nothing", "/v2/hubs"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
                assert answer.headers["content-type"] == "application/problem+json"

    run_port(main)


def test_plain_text_on_the_tls_port_gets_nothing(run_port):
    async def main(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.api.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"204" not in await read_all(reader)
        writer.close()

    run_port(main)


def test_one_socket_too_many_is_closed(run_port):
    async def main(port):
        kept = [await port.raw() for _ in range(2)]
        reader, writer = await port.raw()
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await read_all(reader) == b""
        writer.close()
        for kept_reader, kept_writer in kept:
            kept_writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await kept_reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
            kept_writer.close()

    run_port(main, limits=Limits(connections=2))


def test_closing_lets_a_request_end_and_takes_no_new_connection(run_port):
    async def main(port):
        async with client_of(port) as http:
            held = asyncio.create_task(http.get("/v1/hold"))
            await port.control.held.wait()
            closing = asyncio.create_task(port.api.close(10))
            await asyncio.sleep(0)
            with pytest.raises(OSError):
                await port.raw()
            port.control.release.set()
            assert (await held).status_code == 200
            await closing
            assert port.api.sockets == 0

    run_port(main)


def test_closing_does_not_wait_for_ever(run_port):
    async def main(port):
        async with client_of(port) as http:
            held = asyncio.create_task(http.get("/v1/hold"))
            await port.control.held.wait()
            await asyncio.wait_for(port.api.close(0.05), 5)
            with pytest.raises(httpx2.HTTPError):
                await held

    run_port(main)


def test_idle_connections_are_closed_at_once(run_port):
    async def main(port):
        async with client_of(port) as http:
            await http.get("/healthz")
            await asyncio.wait_for(port.api.close(10), 5)

    run_port(main)
