# SPDX-License-Identifier: Apache-2.0
"""A port tells who dialled which address, bounds its handshakes, and leaves nothing behind when it closes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways import listener
from thalovant_server.gateways.listener import Listener, bind

HEAD = b"\x16\x03\x01\0\x20\x01\0\0\x1c"
"""A TLS record of 32 bytes: a hello of 28."""


def open_sockets():
    """How many TCP sockets this process has open."""
    tables = "".join(Path(f"/proc/self/net/{kind}").read_text() for kind in ("tcp", "tcp6"))
    inodes = {line.split()[9] for line in tables.splitlines() if ":" in line and line.split()[9] != "inode"}
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists
            links.append(str(each.readlink()))
    return sum(link.removeprefix("socket:[").removesuffix("]") in inodes for link in links)


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Port:
    """A listening echo; `dialled` are the addresses it was asked a context for."""

    def __init__(self, tls, sockets, **more):
        server, self.client_tls = tls
        self.dialled, self.echoes = [], []

        def context_for(address):
            self.dialled.append(address)
            return server

        def protocol():
            self.echoes.append(Echo())
            return self.echoes[-1]

        self.listener = Listener(sockets, protocol, context_for, **{"handshake_seconds": 20.0, **more})
        self.listener.start()

    async def dial(self, host):
        return await asyncio.open_connection(host, self.listener.port, ssl=self.client_tls)

    async def echo(self, host):
        reader, writer = await self.dial(host)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()

    async def until(self, handshakes):
        async with asyncio.timeout(5):
            while self.listener.handshakes != handshakes:
                await asyncio.sleep(0)


@pytest.fixture
def on_port(tls):
    """Run a scenario with a port; afterwards it closes, and as many sockets are open as before."""

    def run(scenario, host="::", **more):
        async def main():
            before = open_sockets()
            port = Port(tls, await bind(host, 0), **more)
            try:
                await asyncio.wait_for(scenario(port), 20)
            finally:
                port.listener.close()
                await port.listener.wait_closed()
            assert port.listener.handshakes == 0
            async with asyncio.timeout(5):
                while open_sockets() > before:
                    await asyncio.sleep(0.01)

        uvloop.run(main())

    return run


def test_the_address_dialled_decides_on_a_socket_for_both_families(on_port):
    async def scenario(port):
        for host in ("127.0.0.1", "::1", "127.0.0.9"):
            reader, writer = await asyncio.open_connection(host, port.listener.port)
            writer.write(HEAD + b"\0" * 28)  # begins like a hello, and is none
            alert = await asyncio.gather(reader.read(), return_exceptions=True)
            assert isinstance(alert[0], ConnectionError) or alert[0][:1] in (b"", b"\x15")
            writer.close()
        assert port.dialled == ["127.0.0.1", "::1", "127.0.0.9"]

    on_port(scenario)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc",
        bytes(range(64)),
        b"\x16\x03\x01\x40\x00\x01\x01\xff\xff" + bytes(64),
        b"\x17\x03\x03\0\x20" + bytes(32),
    ],
    ids=["HTTP", "MQTT", "rubbish", "a hello of 128 KiB", "application data"],
)
def test_what_begins_no_hello_is_ended_before_tls_costs_anything(on_port, said):
    async def scenario(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.listener.port)
        writer.write(said)
        (end,) = await asyncio.gather(reader.read(), return_exceptions=True)
        assert end == b"" or isinstance(end, ConnectionError)
        writer.close()
        assert port.dialled == [], "no context was asked for"
        await port.echo("127.0.0.1")

    on_port(scenario)


def test_a_hello_that_comes_byte_by_byte_gets_through(on_port):
    async def scenario(port):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = port.client_tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port.listener.port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    writer.write(bytes([byte]))
                    await writer.drain()
                incoming.write(await reader.read(65536))
        writer.close()

    on_port(scenario)


def test_a_client_that_stops_within_the_first_bytes_is_ended(on_port):
    async def scenario(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.listener.port)
        writer.write(HEAD[:4])
        (end,) = await asyncio.gather(reader.read(), return_exceptions=True)
        assert end == b"" or isinstance(end, ConnectionError)
        writer.close()
        gone_reader, gone = await asyncio.open_connection("127.0.0.1", port.listener.port)
        gone.write(HEAD[:4])
        gone.write_eof()
        (end,) = await asyncio.gather(gone_reader.read(), return_exceptions=True)
        assert end == b"" or isinstance(end, ConnectionError)
        gone.close()
        await port.until(0)

    on_port(scenario, handshake_seconds=0.1)


@given(st.binary(max_size=32))
def test_only_a_hello_of_some_kib_begins_one(head):
    begins = listener.begins_hello(head)
    assert begins == (head[:2] == b"\x16\x03" and len(head) > 8 and head[5] == 1 and head[6:9] <= b"\x00\x40\x00")


def test_the_hello_of_a_real_client_is_one(tls):
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        tls[1].wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    assert listener.begins_hello(hello) and listener.begins_hello(hello[:9]) and not listener.begins_hello(hello[:8])


def test_bytes_go_through_with_nodelay(on_port):
    async def scenario(port):
        for host in ("localhost", "127.0.0.1", "::1"):
            await port.echo(host)
        reader, writer = await port.dial("127.0.0.1")
        writer.write(b"x")
        await reader.readexactly(1)
        accepted = port.echoes[-1].transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()

    on_port(scenario)


def test_a_client_that_stalls_in_its_handshake_is_ended(on_port):
    async def scenario(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.listener.port)
        assert await reader.read() == b""
        writer.close()
        await port.until(0)

    on_port(scenario, handshake_seconds=0.1)


def test_when_too_many_stall_the_first_is_ended_and_a_newcomer_gets_in(on_port):
    async def scenario(port):
        stalled = []
        for count in (1, 2, 3):
            stalled.append(await asyncio.open_connection("127.0.0.1", port.listener.port))
            await port.until(count)
        await port.echo("127.0.0.1")
        assert await stalled[0][0].read() == b"", "the one that was begun first"
        await port.until(2)
        assert not stalled[1][0].at_eof() and not stalled[2][0].at_eof()
        for _, writer in stalled:
            writer.close()

    on_port(scenario, most_handshakes=3)


def test_closing_ends_handshakes_and_leaves_connections(on_port):
    async def scenario(port):
        reader, writer = await port.dial("127.0.0.1")
        stalled, its_writer = await asyncio.open_connection("127.0.0.1", port.listener.port)
        await port.until(1)
        port.listener.close()
        await port.listener.wait_closed()
        assert await stalled.read() == b""
        its_writer.close()
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()
        await writer.wait_closed()

    on_port(scenario)


def test_without_a_descriptor_it_waits_and_goes_on(on_port, monkeypatch):
    """The clients stay in the backlog meanwhile."""
    monkeypatch.setattr(listener, "PAUSE_SECONDS", 0.05)
    refused = []

    class Full:
        """A listening socket of a process that has no descriptor left, at first."""

        def __init__(self, listening):
            self._listening = listening

        def accept(self):
            if len(refused) < 2:
                refused.append(1)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return self._listening.accept()

        def __getattr__(self, name):
            return getattr(self._listening, name)

    async def scenario(port):
        [real] = port.listener._sockets
        asyncio.get_running_loop().remove_reader(real)
        port.listener._sockets[:] = [Full(real)]
        port.listener.start()
        await port.echo("127.0.0.1")
        assert len(refused) == 2

    on_port(scenario)


def test_a_name_with_several_addresses_has_one_port(on_port, monkeypatch):
    async def scenario(port):
        assert len({each.getsockname()[1] for each in port.listener._sockets}) == 1
        for each in port.listener._sockets:
            await port.echo(each.getsockname()[0])

    on_port(scenario, host="localhost")


def test_ipv4_alone_is_ipv4_alone(on_port):
    async def scenario(port):
        await port.echo("127.0.0.1")
        with pytest.raises(ConnectionError):
            await port.dial("::1")

    on_port(scenario, host="0.0.0.0")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_here_is_an_os_error(host):
    with pytest.raises(OSError):
        uvloop.run(bind(host, 0))


def test_a_port_in_use_is_an_os_error_and_nothing_stays_open():
    async def main():
        [taken] = await bind("127.0.0.1", 0)
        before = open_sockets()
        with pytest.raises(OSError) as caught:
            await bind("localhost", taken.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
        assert open_sockets() == before
        taken.close()

    uvloop.run(main())


def test_a_socket_that_is_gone_has_no_address():
    def gone():
        raise OSError(errno.ENOTCONN, "gone")

    assert listener._address(SimpleNamespace(getsockname=gone)) == ""
