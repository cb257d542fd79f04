# SPDX-License-Identifier: Apache-2.0
"""What `broker init` writes: a real Mosquitto takes it, lets in nobody unknown, and keeps what was there."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509

from thalovant.protocol.mqtt import packets
from thalovant.protocol.mqtt.client_events import Arrived, Event, NotTaken, Subscribed
from thalovant.protocol.mqtt.v311 import V311
from thalovant_server.broker_socket import BrokerSocket, BrokerTarget, client_context, open_socket
from thalovant_server.brokers.mosquitto_files import ADMIN_PASSWORD, AUTHORITY, CONFIGURATION, SECURITY, Wanted, write
from thalovant_server.brokers.mosquitto_texts import ADMINISTRATIVE, KINDS, UNDER_WAY_MESSAGES
from thalovant_server.brokers.names import BrokerAddress
from thalovant_server.errors import BrokerRefusedError, DataDamagedError, DataDirectoryError
from thalovant_server.gateways.broker_link.keeper import LIMITS
from thalovant_server.testing.mosquitto import MosquittoProcess

PLUGIN = Path("/usr/lib/mosquitto_dynamic_security.so")
PATIENCE = 10.0
Kind = TypeVar("Kind")
Result = TypeVar("Result")
Connect = Callable[..., Awaitable["Caller"]]
SECRETS = (ADMIN_PASSWORD, SECURITY, "ca.key", "tls.key", CONFIGURATION)
COMMANDS = ADMINISTRATIVE.replace("#", "v1").encode()
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """A Mosquitto as it was written, and nothing said to it yet."""
    with MosquittoProcess(tmp_path_factory.mktemp("broker") / "mosquitto") as running:
        yield running


class Caller:
    """Somebody who is connected: says things, and waits for what comes of it."""

    def __init__(self) -> None:
        self.socket: BrokerSocket
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    async def subscribe(self, *filters: bytes) -> tuple[int, ...]:
        self.socket.subscribe([(each, 1) for each in filters])
        return (await self._next(Subscribed)).codes

    async def publish_refused(self, topic: bytes) -> int:
        self.socket.publish(topic, b"{}")
        return (await self._next(NotTaken)).code

    async def command(self, **command: Any) -> dict[str, Any]:
        await self.subscribe(COMMANDS + b"/response")
        self.socket.publish(COMMANDS, json.dumps({"commands": [command]}).encode())
        answer = json.loads((await self._next(Arrived)).payload)["responses"][0]
        assert "error" not in answer, answer
        return answer.get("data", {})

    async def _next(self, kind: type[Kind]) -> Kind:
        while not isinstance(event := await asyncio.wait_for(self.events.get(), PATIENCE), kind):
            pass
        return event


@asynccontextmanager
async def callers(broker: MosquittoProcess, ca: Path | None = None) -> AsyncIterator[Connect]:
    """Give the way to connect as somebody; all part at the end."""
    context = await asyncio.to_thread(client_context, ca or broker.ca_file)
    target = BrokerTarget(BrokerAddress("localhost", broker.port), context)

    async with AsyncExitStack() as parting:

        async def connect(user: str | None, password: str | None, client_id: str = "x") -> Caller:
            caller = Caller()
            login = packets.Connect(client_id, username=user, password=None if password is None else password.encode())
            caller.socket = await open_socket(target, login, caller.events.put_nowait)
            parting.push_async_callback(caller.socket.close)
            return caller

        yield connect


def run(scenario: Callable[[Connect], Awaitable[Result]], broker: MosquittoProcess, ca: Path | None = None) -> Result:
    """Run a scenario with a way to connect."""

    async def main() -> Result:
        async with callers(broker, ca) as connect:
            return await scenario(connect)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (None, None),
        ("thalovant-admin", "wrong"),
        ("thalovant-admin", ""),
        ("thalovant-admin", None),
        ("somebody", "wrong"),
    ],
)
def test_nobody_unknown_is_let_in(broker: MosquittoProcess, user: str | None, password: str | None) -> None:
    with pytest.raises(BrokerRefusedError, match="does not accept the user or its password"):
        run(lambda connect: connect(user, password), broker)


def test_it_speaks_tls_alone_and_shows_a_certificate_of_its_own_authority(
    broker: MosquittoProcess, tmp_path: Path
) -> None:
    other = MosquittoProcess(tmp_path / "other")
    with pytest.raises(BrokerRefusedError, match="a certificate that is not trusted"):
        run(lambda connect: connect(*broker.admin), broker, other.ca_file)
    with socket.create_connection(("127.0.0.1", broker.port), PATIENCE) as plain:
        plain.settimeout(PATIENCE)
        plain.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04mine")
        with pytest.raises(ConnectionResetError):
            assert plain.recv(1) == b""
            raise ConnectionResetError  # closed in order: as good


def test_everything_is_denied_by_default(broker: MosquittoProcess) -> None:
    async def ask(connect: Connect) -> dict[str, Any]:
        return await (await connect(*broker.admin)).command(command="getDefaultACLAccess")

    assert {each["acltype"]: each["allow"] for each in run(ask, broker)["acls"]} == dict.fromkeys(KINDS, False)


def test_a_user_without_rights_may_do_nothing_and_hears_nothing(broker: MosquittoProcess) -> None:
    async def scenario(connect: Connect) -> None:
        admin = await connect(*broker.admin)
        await admin.command(command="createClient", username="nobody", password="known")
        guest = await connect("nobody", "known")
        denied = 0x87  # Not authorized (MQTT 5, 2.4)
        filters = (b"#", b"hubs/#", b"$SYS/#", b"nobody", COMMANDS + b"/response", b"$share/x/hubs/#")
        assert await guest.subscribe(*filters) == (denied,) * len(filters)
        for topic in (b"hubs/a/clients/b/in", b"nobody", COMMANDS):
            assert await guest.publish_refused(topic) == denied
        assert "nobody" in str(await admin.command(command="listClients"))  # it is there, and told nobody anything

    run(scenario, broker)


def test_a_client_takes_nobody_elses_place_by_its_client_id(broker: MosquittoProcess) -> None:
    async def scenario(connect: Connect) -> None:
        admin = await connect(*broker.admin, client_id="same")
        for user in ("first", "second"):
            await admin.command(command="createClient", username=user, password="known")
        first = await connect("first", "known", client_id="same")
        second = await connect("second", "known", client_id="same")
        again = await connect("first", "known", client_id="another")
        await asyncio.wait_for(first.socket.closed, PATIENCE)
        assert not second.socket.over and not again.socket.over and not admin.socket.over

    run(scenario, broker)


def test_a_client_that_does_not_read_makes_the_broker_keep_little(broker: MosquittoProcess) -> None:
    """It speaks to itself, as any client can on its own `status`; MQTT 3.1.1 has no receive maximum."""
    topic, payload, messages = b"own/status", os.urandom(250_000), 1_200

    async def scenario(connect: Connect) -> None:
        kinds = ("publishClientSend", "publishClientReceive", "subscribeLiteral")
        acls = [{"acltype": kind, "topic": topic.decode(), "allow": True} for kind in kinds]
        admin, user = await connect(*broker.admin), "does-not-read-its-messages"
        await admin.command(command="createRole", rolename="own", acls=acls)
        await admin.command(command="createClient", username=user, password="p", roles=[{"rolename": "own"}])
        reader, writer = await asyncio.open_connection("localhost", broker.port, ssl=client_context(broker.ca_file))
        writer.write(V311.encode(packets.Connect("x", username=user, password=b"p")))
        writer.write(V311.encode(packets.Subscribe(1, ((topic, 1),))))
        await reader.readexactly(4 + 5)  # CONNACK, SUBACK
        before = resident(broker.pid)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(messages):
            writer.write(V311.encode(packets.Publish(topic, payload, 1, 1 + number)))
            await writer.drain()
        await asyncio.to_thread(broker.wait_for_line, f"being dropped for client {user}")
        assert resident(broker.pid) - before < messages * len(payload) / 2
        writer.transport.abort()

    run(scenario, broker)


def test_the_hubs_may_have_as_much_under_way_as_they_do() -> None:
    """What bounds a client that does not read is also what a broker takes at once of one client (MQTT 5, 3.2.2.3.3)."""
    assert LIMITS.under_way <= UNDER_WAY_MESSAGES


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_names_access_keys_is_logged_for_who_takes_them_out_alone(tmp_path: Path) -> None:
    """That of a client that does not read is a notice."""
    kinds = {}
    for says_all in (False, True):
        folder = tmp_path / str(says_all)
        write(Wanted(folder, "127.0.0.1", 1, says_all=says_all), Path("plugin.so"))
        kinds[says_all] = set(re.findall("^log_type (.*)", (folder / CONFIGURATION).read_text(), re.MULTILINE))
    assert kinds == {False: {"error", "warning"}, True: {"error", "warning", "notice", "information"}}


def test_a_renewed_certificate_is_shown_from_sighup_on_and_cuts_off_nobody(tmp_path: Path) -> None:
    def shown(broker: MosquittoProcess) -> str:
        context = ssl.create_default_context(cafile=str(broker.ca_file))
        with (
            socket.create_connection(("127.0.0.1", broker.port), PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")

    async def scenario(connect: Connect) -> None:
        admin = await connect(*broker.admin)
        before, lines = await asyncio.to_thread(shown, broker), len(broker.output)
        broker.write()
        assert await asyncio.to_thread(shown, broker) == before
        broker.reload()
        await asyncio.to_thread(broker.wait_for_line, "Reloading config", after=lines)
        while await asyncio.to_thread(shown, broker) == before:  # it says so before it does so
            pass
        assert await admin.command(command="getDefaultACLAccess")

    with MosquittoProcess(tmp_path / "mosquitto") as broker:
        run(scenario, broker)


def test_the_administrator_is_known_again_after_the_broker_was_wiped(tmp_path: Path) -> None:
    async def scenario(connect: Connect) -> str:
        admin = await connect(*broker.admin)
        said = str(await admin.command(command="listClients"))
        await admin.command(command="createClient", username="forgotten", password="known")
        return said

    with MosquittoProcess(tmp_path / "mosquitto") as broker:
        assert "forgotten" not in run(scenario, broker)
        broker.stop()
        password = broker.admin
        broker.wipe()
        broker.start()
        assert broker.admin == password and "forgotten" not in run(scenario, broker)


@pytest.mark.parametrize("left", ["", '{"clients": [', "[]", "\x00" * 100])
def test_the_administrator_is_known_again_after_the_disk_was_full(tmp_path: Path, left: str) -> None:
    """Mosquitto 2.0 leaves half a file then, and lets in nobody from its next start on."""
    wanted = Wanted(tmp_path / "broker", "127.0.0.1", 1)
    write(wanted, Path("plugin.so"))
    security = tmp_path / "broker" / SECURITY
    security.write_text(left)
    write(wanted, Path("plugin.so"))
    assert [each["username"] for each in json.loads(security.read_text())["clients"]] == ["thalovant-admin"]
    assert stat.S_IMODE(security.stat().st_mode) == 0o600


def test_what_is_secret_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "anew"
    before = os.umask(0)
    try:
        written = write(Wanted(folder, "127.0.0.1", 8884), PLUGIN)
    finally:
        os.umask(before)
    assert written.is_new and written.renewed
    assert {name: _mode(folder / name) for name in SECRETS} == dict.fromkeys(SECRETS, 0o600)
    assert _mode(folder) == _mode(folder / "data") == 0o700
    password = (folder / ADMIN_PASSWORD).read_text().strip()
    assert len(password) >= 32
    assert all(password not in path.read_text() for path in folder.glob("*.*"))


def test_typed_again_it_keeps_everything_and_writes_the_configuration_anew(tmp_path: Path) -> None:
    folder = tmp_path / "mosquitto"
    write(Wanted(folder, "127.0.0.1", 8884), PLUGIN)
    (folder / SECURITY).write_text('{"as": "the broker wrote it"}')
    (folder / "data/mosquitto.db").write_text("the broker's")
    folder.chmod(0o755)
    before = _contents(folder)
    written = write(Wanted(folder, "::", 18884), Path("/elsewhere") / PLUGIN.name)
    after = _contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {CONFIGURATION}
    assert "listener 18884\n" in after[CONFIGURATION] and "plugin /elsewhere/" in after[CONFIGURATION]
    assert not written.is_new and not written.renewed and _mode(folder) == 0o700


def test_another_administrators_password_belongs_to_each_directory(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(Wanted(tmp_path / name, "127.0.0.1", 8884), PLUGIN)
    assert (tmp_path / "one" / ADMIN_PASSWORD).read_text() != (tmp_path / "two" / ADMIN_PASSWORD).read_text()


def test_the_certificate_is_made_anew_once_it_is_due_or_when_that_is_wanted(tmp_path: Path) -> None:
    wanted = Wanted(tmp_path / "mosquitto", "127.0.0.1", 8884, ("nuc.lan", "192.0.2.7"))
    first = write(wanted, PLUGIN, at=NOW)
    assert first.names == ("nuc.lan", "192.0.2.7") and first.due < first.ends
    assert not write(wanted, PLUGIN, at=first.due - datetime.timedelta(minutes=1)).renewed
    second = write(wanted, PLUGIN, at=first.due)
    assert second.renewed and second.ends > first.ends
    authority = (wanted.directory / AUTHORITY).read_text()
    assert write(wanted, PLUGIN, renew=True, at=first.due).renewed
    assert (wanted.directory / AUTHORITY).read_text() == authority


def test_a_name_added_later_leaves_clients_made_before_with_a_certificate_they_trust(tmp_path: Path) -> None:
    """The authority's name constraints are critical: its first certificate permits nothing beyond the first name."""
    folder = tmp_path / "mosquitto"
    write(Wanted(folder, "127.0.0.1", 8884, ("nuc.lan",)), PLUGIN)
    second = write(Wanted(folder, "127.0.0.1", 8884, ("nuc.lan", "nuc.example")), PLUGIN)
    assert second.names == ("nuc.lan",) and _names(folder) == {"localhost", "nuc.lan"}
    third = write(Wanted(folder, "127.0.0.1", 8884, ("nuc.example", "nuc.lan")), PLUGIN)
    assert third.renewed is False and third.names == ("nuc.example", "nuc.lan")
    assert _names(folder) == {"localhost", "nuc.lan", "nuc.example"}


def test_what_was_cut_off_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "mosquitto"
    write(Wanted(folder, "127.0.0.1", 8884), PLUGIN)
    for name in (CONFIGURATION, "tls.crt", AUTHORITY):  # written last, or later than what is left
        (folder / name).unlink()
    password = (folder / ADMIN_PASSWORD).read_text()
    assert write(Wanted(folder, "127.0.0.1", 8884), PLUGIN).is_new
    assert (folder / ADMIN_PASSWORD).read_text() == password


@pytest.mark.parametrize(("name", "text"), [("mosquitto.conf", "listener 1883\n"), ("aclfile.example", "")])
def test_what_is_somebody_elses_is_left_as_it_is(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    tmp_path.chmod(0o755)
    with pytest.raises(DataDirectoryError, match="holds something else already"):
        write(Wanted(tmp_path, "127.0.0.1", 8884), PLUGIN)
    assert [each.name for each in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == text
    assert _mode(tmp_path) == 0o755


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirectoryError, match=r"Name a directory of its own|Not a directory"):
            write(Wanted(folder, "127.0.0.1", 8884), PLUGIN)


def test_a_lost_secret_is_not_made_up_anew(tmp_path: Path) -> None:
    write(Wanted(tmp_path / "lost", "127.0.0.1", 8884), PLUGIN)
    (tmp_path / "lost" / ADMIN_PASSWORD).unlink()
    with pytest.raises(DataDamagedError, match=r"admin-password is damaged: it is missing, while security.json"):
        write(Wanted(tmp_path / "lost", "127.0.0.1", 8884), PLUGIN)
    write(Wanted(tmp_path / "empty", "127.0.0.1", 8884), PLUGIN)
    (tmp_path / "empty" / ADMIN_PASSWORD).write_text("\n")
    with pytest.raises(DataDamagedError, match="it is empty"):
        write(Wanted(tmp_path / "empty", "127.0.0.1", 8884), PLUGIN)


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    write(Wanted(tmp_path / "open", "127.0.0.1", 8884), PLUGIN)
    (tmp_path / "open" / SECURITY).chmod(0o644)
    with pytest.raises(DataDirectoryError, match=r"chmod 600 .*security.json"):
        write(Wanted(tmp_path / "open", "127.0.0.1", 8884), PLUGIN)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def _names(folder: Path) -> set[str]:
    """The host names in the certificate that the configuration names."""
    line = next(line for line in (folder / CONFIGURATION).read_text().splitlines() if line.startswith("certfile "))
    leaf = x509.load_pem_x509_certificate(Path(line.removeprefix("certfile ")).read_bytes())
    return set(
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    )


def test_where_a_broker_is_placed_is_found_again_in_ours_alone(tmp_path: Path) -> None:
    assert Wanted.before(tmp_path / "nowhere") is None
    for wanted in (
        Wanted(tmp_path / "one", "::", 8884),
        Wanted(tmp_path / "two", "2001:db8::7", 1, ("nuc.lan", "2001:db8::7")),
    ):
        write(wanted, Path("/plugin.so"))
        assert Wanted.before(wanted.directory) == wanted
    foreign = tmp_path / "one" / CONFIGURATION
    foreign.write_text("# mine\n" + foreign.read_text())
    assert Wanted.before(tmp_path / "one") is None
