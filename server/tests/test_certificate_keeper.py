# SPDX-License-Identifier: Apache-2.0
"""Certificates change under clients that stay connected: in time, on a change of the files, when somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self, cast

import pytest
import structlog
import uvloop
from structlog.testing import capture_logs

from thalovant_server import certificates
from thalovant_server.certificate_files import BUNDLE, CertificateFiles
from thalovant_server.certificate_keeper import AGAIN, WARN_BEFORE_END, CertificateKeeper
from thalovant_server.certificate_source import BroughtFiles, CertificateSource, Served
from thalovant_server.errors import CertificateError
from thalovant_server.gateways.listener import Listener, bind
from thalovant_server.server_tls import ServerTls
from thalovant_server.testing.certificates import DAY, Issued, issue

LOOK = 0.01


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class Connection:
    """A client through TLS, and the certificate that it was shown."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.shown = ssl.DER_cert_to_PEM_cert(shown)

    async def echo(self) -> None:
        self._writer.write(b"hello")
        assert await self._reader.readexactly(5) == b"hello"

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class World:
    """Two ports and a keeper; time is `now`, moved by hand.

    Clients hold the dates of a certificate against the real time: the keeper's begins `ago` and is moved up to it.
    """

    def __init__(
        self, folder: Path, hosts: tuple[str, ...], brought: BroughtFiles | None, ago: datetime.timedelta
    ) -> None:
        self.folder = folder
        self.real = datetime.datetime.now(datetime.UTC)
        self.now = self.real - ago
        self._connections: list[Connection] = []
        self.source = CertificateSource(CertificateFiles(folder), hosts, brought)
        stamp = self.source.stamp()
        self.first = self.served = self.source.load(self.now)
        self.tls = ServerTls(self.served.table)
        self.used = asyncio.Event()
        self.keeper = CertificateKeeper(
            self.source, self.served, stamp, self._use, clock=lambda: self.now, look_seconds=LOOK
        )

    async def __aenter__(self) -> Self:
        self._ports = [
            Listener(await bind("127.0.0.1", 0), Echo, self.tls.context_for, handshake_seconds=5.0) for _ in range(2)
        ]
        for port in self._ports:
            port.start()
        self._task = asyncio.create_task(self.keeper.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            await connection.close()
        self._task.cancel()
        await asyncio.wait([self._task])
        for port in self._ports:
            port.close()
            await port.wait_closed()

    async def dial(self, port: int = 0, *, name: str = "localhost", trusting: str = "") -> Connection:
        """Connect; the client trusts what the server hands out at that moment, unless another authority is given."""
        context = ssl.create_default_context(cadata=trusting or self.served.handed_out)
        streams = await asyncio.open_connection("127.0.0.1", self._ports[port].port, ssl=context, server_hostname=name)
        self._connections.append(Connection(*streams))
        return self._connections[-1]

    async def changed(self) -> None:
        """Wait until the server took other certificates into use."""
        async with asyncio.timeout(10):
            await self.used.wait()
        self.used.clear()

    async def looked(self) -> None:
        """Wait until the keeper read everything because it was asked to."""
        done = asyncio.Event()
        self.keeper.reload(done.set)
        async with asyncio.timeout(10):
            await done.wait()

    def _use(self, served: Served) -> None:
        self.served = served
        self.tls.replace(served.table)
        self.used.set()


Run = Callable[..., None]


@pytest.fixture
def in_world(tmp_path: Path) -> Run:
    """Run a scenario in a world of its own."""

    def run(
        scenario: Callable[[World], Awaitable[None]],
        *hosts: str,
        brought: BroughtFiles | None = None,
        ago: datetime.timedelta = 0 * DAY,
    ) -> None:
        async def main() -> None:
            (tmp_path / "data").mkdir()
            async with World(tmp_path / "data", hosts, brought, ago) as world:
                await asyncio.wait_for(scenario(world), 30)

        uvloop.run(main())

    return run


@pytest.fixture
def logged() -> Iterator[list[dict[str, object]]]:
    """What was logged."""
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


def events(logs: list[dict[str, object]]) -> list[str]:
    return [str(each["event"]) for each in logs]


def test_at_two_thirds_of_its_life_a_certificate_is_replaced_and_sessions_go_on(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        before = [await world.dial(port) for port in (0, 1)]
        world.now = certificates.due(before[0].shown) - DAY
        await world.looked()
        assert (await world.dial()).shown == before[0].shown
        world.now = world.real  # a day later: due
        await world.changed()
        after = [await world.dial(port) for port in (0, 1)]
        assert after[0].shown == after[1].shown != before[0].shown
        assert certificates.ends(after[0].shown) > world.real + certificates.SERVER_LIFE - DAY
        for connection in (*before, *after):
            await connection.echo()

    in_world(scenario, ago=certificates.SERVER_LIFE * 2 / 3)


def test_an_authority_near_its_end_is_issued_anew_and_those_who_trust_the_old_one_go_on(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        old = world.first.handed_out
        world.now = world.real
        await world.changed()
        new = world.served.handed_out
        assert certificates.fingerprint(new) != certificates.fingerprint(old)
        assert certificates.ends(new) > world.real + certificates.AUTHORITY_LIFE - DAY
        [note] = world.served.notes
        assert f"go on until {certificates.ends(old):%Y-%m-%d}" in note
        for trusting in (old, new):
            await (await world.dial(trusting=trusting)).echo()

    in_world(scenario, ago=certificates.AUTHORITY_LIFE * 2 / 3)


def test_a_leaf_that_is_taken_away_is_made_anew(in_world: Run) -> None:
    async def scenario(world: World) -> None:
        before = await world.dial()
        (world.folder / "tls.crt").unlink()
        await world.changed()
        after = await world.dial()
        assert after.shown != before.shown
        await before.echo()

    in_world(scenario)


def test_damage_keeps_what_is_in_use_and_is_logged_once_with_the_way_out(
    in_world: Run, logged: list[dict[str, object]]
) -> None:
    async def scenario(world: World) -> None:
        before = await world.dial()
        good = (world.folder / "tls.crt").read_text()
        (world.folder / "tls.crt").write_text("rubbish")
        async with asyncio.timeout(10):
            while "certificates_kept" not in events(logged):
                await asyncio.sleep(LOOK)
        for _ in range(20):
            await asyncio.sleep(LOOK)
        assert events(logged).count("certificates_kept") == 1
        assert "tls.crt" in str(logged[0]["mend"])
        assert (await world.dial()).shown == before.shown
        (world.folder / "tls.crt").write_text(good)
        world.now += AGAIN
        await world.looked()
        assert events(logged)[-1] == "certificates_unchanged"

    in_world(scenario)


def test_asking_reads_everything_again_at_once(in_world: Run, logged: list[dict[str, object]]) -> None:
    async def scenario(world: World) -> None:
        await world.looked()
        assert events(logged) == ["certificates_unchanged"]

    in_world(scenario)


def test_a_fault_of_ours_ends_nothing(
    in_world: Run, logged: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(world.source, "load", lambda _: 1 / 0)
            await world.looked()
        assert events(logged) == ["certificates_not_looked_at"]
        await world.looked()
        assert events(logged)[-1] == "certificates_unchanged"

    in_world(scenario)


HOST = "hub.example"


@pytest.fixture(scope="module")
def root() -> Issued:
    return issue("Root", is_authority=True)


@pytest.fixture
def operator(tmp_path: Path, root: Issued) -> BroughtFiles:
    """A certificate for `HOST`, beside the data directory."""
    (tmp_path / "root.pem").write_text(root.pem)
    return BroughtFiles(*issue("leaf", root, hosts=[HOST]).write(tmp_path), tmp_path / "root.pem")


def test_a_renewed_certificate_of_the_operators_is_shown_and_sessions_go_on(
    in_world: Run, operator: BroughtFiles, root: Issued, tmp_path: Path
) -> None:
    async def scenario(world: World) -> None:
        before = await world.dial(name=HOST)
        assert before.shown in operator.certificate.read_text()
        renewed = issue("renewed", root, hosts=[HOST])
        renewed.write(tmp_path)
        await world.changed()
        after = await world.dial(1, name=HOST)
        assert after.shown == renewed.pem
        for connection in (before, after):
            await connection.echo()

    in_world(scenario, HOST, brought=operator)


def test_half_a_renewal_keeps_the_old_one_until_the_other_half_is_there(
    in_world: Run, operator: BroughtFiles, root: Issued, logged: list[dict[str, object]]
) -> None:
    async def scenario(world: World) -> None:
        before = await world.dial(name=HOST)
        renewed = issue("renewed", root, hosts=[HOST])
        operator.certificate.write_text(renewed.pem)
        await world.looked()
        assert "certificates_kept" in events(logged)
        assert "is not the key of" in str(logged[-1]["mend"])
        assert (await world.dial(name=HOST)).shown == before.shown
        operator.key.write_text(renewed.key_pem)
        await world.changed()
        assert (await world.dial(name=HOST)).shown == renewed.pem

    in_world(scenario, HOST, brought=operator)


def test_beside_the_operators_certificate_the_local_one_serves_what_it_does_not_name(
    in_world: Run, operator: BroughtFiles, root: Issued
) -> None:
    async def scenario(world: World) -> None:
        local = world.first.authority.pair.certificate
        assert world.first.handed_out == root.pem
        assert not certificates.permits(local, HOST), "it need not vouch for what another one vouches for"
        for name in ("localhost", "127.0.0.1", "other.example"):
            connection = await world.dial(name=name, trusting=local)
            await connection.echo()
        with pytest.raises(ssl.SSLCertVerificationError):
            await world.dial(name=HOST, trusting=local)
        assert any("does not name other.example" in note for note in world.first.notes)

    in_world(scenario, HOST, "other.example", brought=operator)


def test_one_that_nobody_trusts_is_noted(in_world: Run, operator: BroughtFiles) -> None:
    async def scenario(world: World) -> None:
        assert world.first.handed_out == ""
        [note] = world.first.notes
        assert "--certificate-authority" in note

    in_world(scenario, HOST, brought=BroughtFiles(operator.certificate, operator.key))


def test_its_end_is_told_once_a_day(in_world: Run, operator: BroughtFiles, logged: list[dict[str, object]]) -> None:
    async def scenario(world: World) -> None:
        ends = world.first.ends
        assert ends is not None
        warnings = []
        for world.now in (ends - WARN_BEFORE_END - DAY, ends - DAY, ends - DAY / 2, ends + DAY):
            await world.looked()
            warnings.append(events(logged).count("certificate_ends"))
        assert warnings == [0, 1, 1, 2]

    in_world(scenario, HOST, brought=operator)


def test_the_brokers_authority_is_handed_out_beside_ours_and_read_again_when_it_changes(tmp_path: Path) -> None:
    ours, path = CertificateFiles(tmp_path), tmp_path / "broker-ca.pem"
    now = datetime.datetime.now(datetime.UTC)
    first, second = (issue("broker authority", is_authority=True).pem for _ in range(2))
    path.write_text(first)
    source = CertificateSource(ours, (), None, path)
    before, stamp = source.load(now), source.stamp()
    bundle = (tmp_path / BUNDLE).read_text()
    assert before.broker_authority == first
    assert bundle.endswith(before.authority.pair.certificate + first)
    assert before.broker_authority not in before.handed_out
    path.write_text(second)
    after = source.load(now)
    assert after.broker_authority == second and after.digest != before.digest and source.stamp() != stamp
    assert CertificateSource(ours).load(now).broker_authority == ""


@pytest.mark.parametrize("content", [None, "no certificate", "key"])
def test_what_is_no_authority_of_a_broker_is_refused_with_its_option(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "broker-ca.pem"
    if content is not None:
        path.write_text(content if content != "key" else issue("broker").key_pem)
    with pytest.raises(CertificateError, match=r"broker-ca\.pem") as caught:
        CertificateSource(CertificateFiles(tmp_path), (), None, path).load(datetime.datetime.now(datetime.UTC))
    assert "--certificate-authority" not in str(caught.value)
