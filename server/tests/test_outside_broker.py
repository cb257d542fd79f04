# SPDX-License-Identifier: Apache-2.0
"""The outside broker as a part of the server: what is refused at the start, and that nothing is left behind there."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thalovant_server import certificates, outside_broker
from thalovant_server.agents.echo import EchoAgent
from thalovant_server.backoff import Backoff
from thalovant_server.brokers.mosquitto_files import AUTHORITY_KEY, CONFIGURATION, SECURITY
from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.brokers.provisioner import Patience, Provisioner
from thalovant_server.brokers.site import BrokerSite
from thalovant_server.directory import CARRIERS, HubEntry
from thalovant_server.errors import BrokerRefusedError, BrokerTakenError, SettingsError
from thalovant_server.hub.hub import Hub
from thalovant_server.outside_broker import OutsideBroker
from thalovant_server.testing.directory import directory_of
from thalovant_server.testing.mosquitto import MosquittoProcess

HUB = HubEntry("h1", "h1", "h1", None, frozenset(CARRIERS), True, mqtt_via="link")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A Mosquitto that knows nobody of ours."""
    with MosquittoProcess(tmp_path_factory.mktemp("outside") / "broker") as running:
        yield running


def site_of(broker: MosquittoProcess, root: str = "") -> BrokerSite:
    address = BrokerAddress("localhost", broker.port)
    return BrokerSite(address, broker.url, Namespace(root), broker.admin[0], broker.password_file, broker.ca_file)


class OnlyEcho:
    def get(self, name: str | None) -> Any:
        return EchoAgent()


@contextlib.asynccontextmanager
async def opened(site: BrokerSite, node_id: str = "node") -> AsyncIterator[OutsideBroker]:
    """The part, with a hub behind it; not started yet."""
    directory = directory_of([HUB], [], node_id=node_id)
    hub = Hub(directory, OnlyEcho(), static_private=bytes(range(32)), node_id=node_id, version="0")

    async def passwords(credential_id: int) -> str | None:
        return None

    made = await OutsideBroker.open(
        site, hub, directory, passwords, lambda *_: None, check_seconds=60, is_ours=False
    )  # fmt: skip
    try:
        yield made
    finally:
        await hub.stop(0)
        await made.link.stop(1.0)
        await made.stop()
        await directory.stop()


def users(broker: MosquittoProcess) -> list[str]:
    """Who has an account there beside its administrator."""
    content = json.loads((broker.folder / SECURITY).read_text())
    return [each["username"] for each in content["clients"] if each["username"] != broker.admin[0]]


def run(main: Any) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main, 60)

    uvloop.run(bounded())


def test_it_is_up_when_it_has_started_and_again_after_a_stop(broker: MosquittoProcess) -> None:
    async def main() -> None:
        for _ in range(2):
            async with opened(site_of(broker)) as outside:
                await outside.start()
                assert outside.link.state.standing == "connected"
                assert users(broker) == ["thalovant:server"]

    run(main())


def test_another_server_on_the_same_topics_is_seen_before_it_is_disturbed(
    broker: MosquittoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_broker, "GONE_SECONDS", 0.0)

    async def main() -> None:
        async with opened(site_of(broker)) as first:
            await first.start()
            before = (broker.folder / SECURITY).read_bytes()
            async with opened(site_of(broker), "another") as second:
                with pytest.raises(BrokerTakenError) as caught:
                    await second.start()
                assert "--broker-root" in caught.value.sentence
            async with opened(site_of(broker, "house/two"), "another") as third:
                await third.start()
                assert third.link.state.standing == first.link.state.standing == "connected"
            assert first.link.state.reconnects == 0
            content = json.loads((broker.folder / SECURITY).read_text())
            kept = [each for each in content["clients"] if each["username"] != "thalovant.house.two:server"]
            assert kept == json.loads(before)["clients"]

    run(main())


def test_one_that_was_started_at_the_same_moment_steps_back(
    broker: MosquittoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw nobody. The later one takes the account; the earlier one looks again before it takes it back."""
    monkeypatch.setattr(outside_broker, "GONE_SECONDS", 1.0)

    async def main() -> None:
        async with opened(site_of(broker)) as first, opened(site_of(broker), "another") as second:
            await first.start()
            monkeypatch.setattr(second.link, "_preparation", replace(second.link._preparation, look_out=nothing))
            await second.start()
            while first.link.state.standing != "another_server":
                await asyncio.sleep(0.02)
            assert second.link.state.standing == "connected" and second.link.state.reconnects == 0
            assert "another thalovant-server" in first.link.state.fault

    run(main())


async def nothing() -> None:
    """See no other server."""


def test_what_is_typed_wrong_is_refused_and_leaves_nothing_there(broker: MosquittoProcess, tmp_path: Path) -> None:
    wrong, other, no_pem = tmp_path / "password", tmp_path / "ca.pem", tmp_path / "no.pem"
    wrong.write_text("not the password")
    other.write_text(certificates.make_authority().certificate)
    no_pem.write_text("no PEM")
    site = site_of(broker)
    before = (broker.folder / SECURITY).read_bytes()

    async def refused(site: BrokerSite, *words: str) -> None:
        with pytest.raises((BrokerRefusedError, SettingsError)) as caught:
            async with opened(site) as outside:
                await outside.start()
        for word in words:
            assert word in caught.value.sentence, caught.value.sentence

    async def main() -> None:
        await refused(replace(site, password_file=wrong), "--broker-password-file", "--broker-user")
        await refused(replace(site, user="nobody"), "--broker-user")
        await refused(replace(site, ca_file=other), "--broker-ca", "not trusted")
        await refused(replace(site, ca_file=no_pem), "cannot be used", str(no_pem))
        await refused(replace(site, ca_file=tmp_path / "none.pem"), "cannot be used", "No such file")
        await refused(replace(site, password_file=tmp_path / "none"), "--broker-password-file")

    run(main())
    assert (broker.folder / SECURITY).read_bytes() == before


def test_a_broker_without_the_plugin_is_refused(tmp_path: Path) -> None:
    other = MosquittoProcess(tmp_path / "plain")
    file = other.folder / CONFIGURATION
    kept = [line for line in file.read_text().splitlines() if not line.startswith("plugin")]
    file.write_text("\n".join(kept).replace("allow_anonymous false", "allow_anonymous true") + "\n")

    async def main() -> None:
        async with opened(site_of(other)) as outside:
            with pytest.raises(BrokerRefusedError, match="dynamic-security plugin"):
                await outside.start()

    with other:
        run(main())


def test_what_does_not_speak_tls_is_refused_and_what_hangs_up_is_away(broker: MosquittoProcess) -> None:
    async def main() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        site = replace(
            site_of(broker), address=BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
        )  # fmt: skip
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        async with opened(site) as outside:
            with pytest.raises(BrokerRefusedError, match="TLS"):
                await outside.start()
        answer = b""
        async with opened(site) as outside:
            await outside.start()
            assert outside.link.state.standing == "away"
        server.close()
        await server.wait_closed()

    run(main())


def test_an_account_that_may_not_hear_the_clients_is_taken_back(broker: MosquittoProcess) -> None:
    """The link is what notices; the start is refused, and the account that was made for it is gone again."""

    async def main() -> None:
        async with opened(site_of(broker, "deaf")) as outside:
            link = outside.link._link
            subscribed = link._subscribed
            link._subscribed = lambda event: subscribed(replace(event, codes=(0x87,)))  # type: ignore[method-assign]
            with pytest.raises(BrokerRefusedError, match="topics"):
                await outside.start()
        assert "thalovant.deaf:server" not in users(broker)

    run(main())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.01)


def slow_defaults() -> dict[str, Any]:
    """The defaults of a provisioner that hardly ever tries again."""
    return {**(Provisioner.__init__.__kwdefaults__ or {}), "patience": Patience(first=1000.0, longest=1000.0)}


@pytest.mark.parametrize("first", ["the link", "the accounts"])
def test_whoever_finds_the_broker_back_tells_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Each of them alone would try again after minutes only."""
    if first == "the accounts":
        monkeypatch.setattr(Backoff, "next", lambda self: 1000.0)
    else:
        monkeypatch.setattr(Provisioner.__init__, "__kwdefaults__", slow_defaults())

    async def main() -> None:
        with MosquittoProcess(tmp_path / "broker") as broker:
            async with opened(site_of(broker)) as outside:
                await outside.start()
                await outside.accounts.reconcile()
                await asyncio.to_thread(broker.kill)
                await until(lambda: outside.link.state.standing == "away")
                asking = asyncio.ensure_future(outside.accounts.reconcile())
                await until(lambda: outside.accounts.state.is_away)
                await asyncio.to_thread(broker.start)
                await until(lambda: outside.link.state.standing == "connected")
                await asking
                assert not outside.accounts.state.is_away

    run(main())


def client_certificate(broker: MosquittoProcess, folder: Path) -> tuple[Path, Path]:
    """A certificate for somebody who logs in, signed by the broker's own authority, and its key."""
    issuer = x509.load_pem_x509_certificate(broker.ca_file.read_bytes())
    issuer_key = serialization.load_pem_private_key((broker.folder / AUTHORITY_KEY).read_bytes(), None)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hubs")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    certificate, key_file = folder / "hubs.crt", folder / "hubs.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return certificate, key_file


def test_a_broker_that_wants_a_certificate_gets_ours_and_without_one_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        with MosquittoProcess(tmp_path / "broker", adjust="require_certificate true") as broker:
            certificate, key = client_certificate(broker, tmp_path)
            async with opened(replace(site_of(broker), certificate=certificate, certificate_key=key)) as outside:
                await outside.start()
                assert outside.link.state.standing == "connected"
            async with opened(site_of(broker)) as without:
                with pytest.raises(BrokerRefusedError) as caught:
                    await without.start()
                assert "--broker-certificate" in caught.value.sentence

    run(main())
