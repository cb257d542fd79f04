# SPDX-License-Identifier: Apache-2.0
"""Mosquitto as a child: up, down and up again, its log in ours, and nothing of it left when its parent has gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from thalovant.protocol.mqtt.packets import Connect
from thalovant_server.broker_socket import BrokerTarget, client_context, open_socket
from thalovant_server.brokers import mosquitto_child
from thalovant_server.brokers.mosquitto_child import MosquittoChild, site_of, wanted_of
from thalovant_server.brokers.mosquitto_files import ADMIN_PASSWORD, Wanted
from thalovant_server.brokers.mosquitto_installed import Installed
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.errors import SettingsError
from thalovant_server.settings import Settings
from thalovant_server.testing.mosquitto import free_port, installed

PATIENCE = 10.0
ACCESS_KEY = "nW3-PqZ_0aT7kLs9bXc2vYd4"
PARENT = """
import asyncio, pathlib, sys, uvloop
from thalovant_server.brokers.mosquitto_child import MosquittoChild
from thalovant_server.brokers.mosquitto_files import Wanted
from thalovant_server.brokers.mosquitto_installed import Installed

async def main():
    folder, program, plugin = map(pathlib.Path, sys.argv[1:])
    child = MosquittoChild(Wanted(folder, "127.0.0.1", 0), Installed(program, plugin))
    await child.start()
    print("pid", child.pid, flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""
RUNNING = "2026-01-01T00:00:00: mosquitto version 2.0.11 running"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started again at once."""
    monkeypatch.setattr(mosquitto_child, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(mosquitto_child, "LONGEST_PAUSE", 0.01)


@asynccontextmanager
async def running(folder: Path, host: str = "127.0.0.1") -> AsyncIterator[MosquittoChild]:
    """One that is started, and ended."""
    child = MosquittoChild(Wanted(folder, host, 0), installed())
    await child.start()
    try:
        yield child
    finally:
        await child.stop()


async def until(child: MosquittoChild, is_so: Callable[[], bool]) -> None:
    """Wait until something of it is so."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario on the loop that the server runs on."""
    uvloop.run(scenario())  # type: ignore[arg-type]


async def log_in(site: Any) -> None:
    """Connect with what the site says, as the server does."""
    context = await asyncio.to_thread(client_context, site.ca_file)
    login = Connect("me", username=site.user, password=site.password().encode())
    await (await open_socket(BrokerTarget(site.address, context), login, lambda _: None)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::", "0.0.0.0", "127.0.0.7"])
def test_the_server_logs_in_wherever_it_listens_and_nothing_is_left_at_the_end(tmp_path: Path, host: str) -> None:
    public = ["nuc.lan"] if host in ("::", "0.0.0.0") else []
    settings = Settings(data=tmp_path, host=host, public_host=public, broker="mosquitto", broker_port=0)

    async def scenario() -> None:
        wanted = wanted_of(settings, tmp_path / "broker")
        child = MosquittoChild(wanted, installed())
        await child.start()
        site = site_of(settings, wanted, child.port)
        try:
            assert child.pid is not None and os.getsid(child.pid) != os.getsid(0)  # Ctrl-C is not for it
            await log_in(site)
        finally:
            await child.stop()
        assert _processes(tmp_path) == []
        assert site.public_url == f"mqtts://{(*public, 'localhost')[0]}:{child.port}"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((site.address.host, child.port))

    run(scenario)


def test_every_address_is_that_of_both_families(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "broker", "::") as child:
            for address in ("127.0.0.1", "::1"):
                socket.create_connection((address, child.port), PATIENCE).close()

    run(scenario)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_started_again_when_it_dies_and_knows_what_it_knew(tmp_path: Path, number: signal.Signals) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "broker") as child:
            password, pid, since = _password(tmp_path), child.pid, child.state.since
            assert pid is not None
            os.kill(pid, number)
            await until(child, lambda: not child.state.is_up)
            assert child.pid is None and "Mosquitto ended" in child.state.fault
            await until(child, lambda: child.state.is_up)
            assert child.state.restarts == 1 and child.state.since > since and child.state.fault == ""
            assert child.pid != pid and _password(tmp_path) == password
            socket.create_connection(("127.0.0.1", child.port), PATIENCE).close()

    with capture_logs() as logs:
        run(scenario)
    assert [each["log_level"] for each in logs if each["event"] == "broker_is_down"] == ["error"]


def test_what_keeps_it_from_starting_again_is_told_until_it_is_mended(tmp_path: Path) -> None:
    key = tmp_path / "broker/ca.key"

    async def scenario() -> None:
        async with running(tmp_path / "broker") as child:
            kept = key.rename(tmp_path / "elsewhere")
            os.kill(child.pid or 0, signal.SIGKILL)
            await until(child, lambda: "ca.key is damaged" in child.state.fault)
            assert child.state.restarts == 0
            kept.rename(key)
            await until(child, lambda: child.state.is_up)
            assert child.state.restarts == 1

    run(scenario)


def test_a_program_that_is_gone_for_a_while_is_tried_again(tmp_path: Path) -> None:
    """As while it is being upgraded."""
    program = tmp_path / "mosquitto"
    program.symlink_to(installed().program)

    async def scenario() -> None:
        child = MosquittoChild(Wanted(tmp_path / "broker", "127.0.0.1", 0), replace(installed(), program=program))
        await child.start()
        program.unlink()
        os.kill(child.pid or 0, signal.SIGKILL)
        await until(child, lambda: "cannot be run: No such file" in child.state.fault)
        program.symlink_to(installed().program)
        await until(child, lambda: child.state.is_up)
        await child.stop()

    run(scenario)


def test_a_port_in_use_is_said_with_the_option_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto_child, "PORT_SECONDS", 0.0)

    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            child = MosquittoChild(Wanted(tmp_path / "broker", "127.0.0.1", port), installed())
            with pytest.raises(SettingsError, match=f"port {port} of 127.0.0.1: another program.*--broker-port"):
                await child.start()
        assert _processes(tmp_path) == []

    run(scenario)


def test_a_port_that_is_let_go_of_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            child = MosquittoChild(Wanted(tmp_path / "broker", "127.0.0.1", port), installed())
            starting = asyncio.ensure_future(child.start())
            await until(child, lambda: child._is_in_use())
        await starting
        assert child.port == port and child.state.is_up
        await child.stop()

    run(scenario)


def test_a_program_that_does_not_start_is_quoted_and_gone(tmp_path: Path) -> None:
    program = _script(tmp_path, "echo '2026-01-01T00:00:00: Error: no such plugin' >&2; exit 3")

    async def scenario() -> None:
        child = MosquittoChild(Wanted(tmp_path / "broker", "127.0.0.1", free_port()), program)
        with pytest.raises(SettingsError, match=r"does not start. It said: no such plugin"):
            await child.start()
        await child.stop()

    run(scenario)


def test_a_program_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto_child, "START_SECONDS", 0.1)
    monkeypatch.setattr(mosquitto_child, "STOP_SECONDS", 0.1)
    deaf = f"trap '' TERM; while :; do read -r _ < {tmp_path}/pipe; done"
    os.mkfifo(tmp_path / "pipe")

    async def scenario() -> None:
        child = MosquittoChild(Wanted(tmp_path / "broker", "127.0.0.1", free_port()), _script(tmp_path, deaf))
        starting = asyncio.ensure_future(child.start())
        await until(child, lambda: bool(_processes(tmp_path)))
        with pytest.raises(SettingsError, match="It said: nothing"):
            await starting
        assert _processes(tmp_path) == []

    run(scenario)


def test_its_log_is_ours_with_its_levels_and_what_repeats_is_counted(tmp_path: Path) -> None:
    said = ["x: Error: bad", "2026-01-01T00:00:00: Error: bad", "2026-01-01T00:00:00: Warning: odd", RUNNING]
    said += ["2026-01-01T00:00:00: OpenSSL Error[0]: alert"] * 5 + ["x" * 200_000]
    said += [f"2026-01-01T00:00:00: dynsec: admin/admin | createClient | username={ACCESS_KEY} | password=*****"]
    said += [f"2026-01-01T00:00:00: Outgoing messages are being dropped for client {ACCESS_KEY}."]
    lines = tmp_path / "lines"
    lines.write_text("\n".join(said) + "\n")
    program = _script(tmp_path, f"cat {lines} >&2; exit 0")

    async def scenario() -> None:
        child = MosquittoChild(Wanted(tmp_path / "broker", "127.0.0.1", free_port()), program)
        await child.start()
        await until(child, lambda: not child.state.is_up)
        await child.stop()

    with capture_logs() as logs:
        run(scenario)
    first = [(each["log_level"], each["text"]) for each in logs if each["event"] == "broker_said"]
    assert first[:5] == [
        ("info", "x: Error: bad"),
        ("error", "bad"),
        ("warning", "odd"),
        ("info", RUNNING.partition(": ")[2]),
        ("info", "OpenSSL Error[0]: alert"),
    ]
    more = [each for each in logs if each["event"] == "broker_said_more" and "alert" in each["text"]]
    assert more and more[0]["times"] >= 4
    assert not any("x" * 100 in str(each) or ACCESS_KEY in str(each) or "dynsec" in str(each) for each in logs)
    assert ("info", "Outgoing messages are being dropped for client ….") in first


def test_a_new_certificate_is_shown_when_it_is_looked_at_and_nobody_is_cut_off(tmp_path: Path) -> None:
    async def shown(site: Any) -> bytes:
        context = await asyncio.to_thread(client_context, site.ca_file)
        _, writer = await asyncio.open_connection(site.address.host, site.address.port, ssl=context)
        transport: ssl.SSLObject = writer.get_extra_info("ssl_object")
        found = transport.getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        assert found
        return found

    async def scenario() -> None:
        settings = Settings(data=tmp_path, broker="mosquitto", broker_port=0)
        async with running(tmp_path / "broker") as child:
            site = site_of(settings, wanted_of(settings, tmp_path / "broker"), child.port)
            context = await asyncio.to_thread(client_context, site.ca_file)
            login = Connect("me", username=site.user, password=site.password().encode())
            stays = await open_socket(BrokerTarget(site.address, context), login, lambda _: None)
            before = await shown(site)
            (tmp_path / "broker/tls.crt").unlink()
            child.look()
            async with asyncio.timeout(PATIENCE):
                while await shown(site) == before:
                    pass
            assert not stays.over and child.state.restarts == 0
            await stays.close()

    run(scenario)


@pytest.mark.parametrize("frozen", [False, True])
def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path: Path, frozen: bool) -> None:
    assert _ends_with_its_parent(tmp_path, installed(), frozen=frozen), "Mosquitto still runs"


def test_one_that_forgets_the_first_request_to_end_is_asked_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    wait = f"while :; do read -r _ <> {tmp_path}/pipe; done"
    program = _script(tmp_path, f"trap 'trap - TERM' TERM\necho '{RUNNING}' >&2\n{wait}")
    assert _ends_with_its_parent(tmp_path, program), "it was asked once"


def _ends_with_its_parent(folder: Path, program: Installed, *, frozen: bool = False) -> bool:
    """Start it in a process of its own, kill that one, and see whether it ends in time."""
    command = [sys.executable, "-c", PARENT, str(folder / "broker"), str(program.program), str(program.plugin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = next(int(line.removeprefix("pid ")) for line in process.stdout if line.startswith("pid "))
        watch = os.pidfd_open(pid)
        if frozen:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        gone, _, _ = select.select([watch], [], [], PATIENCE)
        os.close(watch)
    return bool(gone)


def test_the_address_is_the_one_it_listens_on_and_stands_in_the_certificate(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path, host="192.0.2.7", public_host=["nuc.lan"], broker="mosquitto", broker_root="home/hubs"
    )
    wanted = wanted_of(settings, tmp_path / "broker")
    assert wanted.public_hosts == ("nuc.lan", "192.0.2.7")
    site = site_of(settings, wanted, 8884)
    assert site.address == BrokerAddress("192.0.2.7", 8884) and site.public_url == "mqtts://nuc.lan:8884"
    assert site.namespace.root == "home/hubs"


def _password(folder: Path) -> str:
    return (folder / "broker" / ADMIN_PASSWORD).read_text()


def _processes(folder: Path) -> list[str]:
    """The processes with files below a folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_text("utf-8", "replace"))
    return [line for line in found if str(folder) in line]


def _script(folder: Path, text: str) -> Installed:
    """A program in Mosquitto's place."""
    program = folder / "mosquitto"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return Installed(program, folder / "plugin.so")
