# SPDX-License-Identifier: Apache-2.0
"""Every symptom of the published page, produced for real: what `thalovant doctor` says of it, and a plain ask.

Real sockets, TLS and server throughout; only argon2id is stood in for.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import structlog

from thalovant import (
    AsyncThalovantClient,
    HubDataPlaneEndpoints,
    HubProtocol,
    ThalovantClient,
    ThalovantControlPlane,
    ThalovantError,
    ThalovantIdentity,
)
from thalovant.cli import main
from thalovant.protocol import noise
from thalovant.transports.tls import client_context
from thalovant_server.testing.certificates import DAY, issue
from thalovant_server.testing.directory import cheap_stretch
from thalovant_server.testing.in_process import InProcessServer
from thalovant_server.testing.tls_front import TlsFront

CARRIERS: tuple[HubProtocol, ...] = ("mqtt", "wss", "https")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessServer]:
    """A server for the whole file; its log does not get between what the commands print."""
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs():
        patch.setattr(noise, "stretch", cheap_stretch)
        # A bundle of one strange authority, where the system's would be read again for each connection.
        bundle = folder / "bundle.pem"
        bundle.write_text(issue("an authority of the system", is_authority=True).pem)
        patch.setenv("SSL_CERT_FILE", str(bundle))
        with InProcessServer(folder / "data") as running:
            yield running


@pytest.fixture(scope="module")
def api(server: InProcessServer) -> Iterator[ThalovantControlPlane]:
    """The control plane, signed in to."""
    authority = Path(server.ready["ca_file"]).read_text()
    with ThalovantControlPlane(server.ready["api_url"], ca_pem=authority) as plane:
        plane.login(*server.admin)
        yield plane


@dataclass
class Examined:
    """What `thalovant doctor` said of an identity, which is in a file now."""

    identity: ThalovantIdentity
    exit_code: int
    told: dict[str, Any]
    last_line: str
    table: str = ""

    def step(self, name: str) -> dict[str, Any]:
        return next(check for check in self.told["checks"] if check["name"] == name)


@pytest.fixture
def examine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Examined]:
    """Type `thalovant doctor` for an identity, as a program does; with `table` for a person, too."""

    def typed(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["thalovant", "doctor", *words])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert err == ""
        return int(str(left.value.code)), out

    def run(identity: ThalovantIdentity, *words: str, table: bool = False) -> Examined:
        file = tmp_path / "examined.json"
        identity.save(file, overwrite=True)
        code, text = typed("--identity", str(file), *words, "--json")
        shown = typed("--identity", str(file), *words)[1] if table else ""
        for secret in (identity.access_key, identity.password, *broker_secrets(identity)):
            assert secret not in text + shown
        told = json.loads(text)
        return Examined(ThalovantIdentity.from_file(file), code, told, told["summary"], shown)

    return run


@pytest.fixture
def signed_in(server: InProcessServer, api: ThalovantControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login is at hand."""
    monkeypatch.setenv("THALOVANT_API_URL", server.ready["api_url"])
    monkeypatch.setenv("THALOVANT_CA_FILE", server.ready["ca_file"])
    monkeypatch.setenv("THALOVANT_API_TOKEN", api.access_token or "")


def broker_secrets(identity: ThalovantIdentity) -> list[str]:
    mqtt = identity.mqtt
    return [] if mqtt is None else [mqtt.username, mqtt.password, mqtt.topic_prefix or "no prefix"]


def said_by_a_plain_ask(identity: ThalovantIdentity, carrier: HubProtocol) -> ThalovantError:
    with pytest.raises(ThalovantError) as caught, contextlib.ExitStack() as stack:
        client = ThalovantClient(identity, protocol=carrier, connect_timeout=2.0, handshake_timeout=5.0)
        stack.callback(client.close)
        client.ask("hello")
    return caught.value


def holds(examined: Examined, carrier: HubProtocol, code: str, said: str) -> None:
    """The doctor has that diagnosis, in one line that says what to do, and a plain ask has the same."""
    assert (examined.exit_code, examined.told["ok"], examined.told["code"]) == (1, False, code)
    assert said in examined.last_line
    error = said_by_a_plain_ask(examined.identity, carrier)
    assert error.diagnosis is not None and error.diagnosis.code == code
    assert str(error) == str(error.diagnosis)
    assert error.diagnosis.advice
    assert _at_any_time(error.diagnosis.advice) in _at_any_time(examined.last_line)


def _at_any_time(text: str) -> str:
    """Without the minute, which may have passed between the two."""
    return re.sub(r"\d\d:\d\d UTC", "UTC", text)


def with_mqtt(identity: ThalovantIdentity, **changed: Any) -> ThalovantIdentity:
    assert identity.mqtt is not None
    return replace(identity, mqtt=replace(identity.mqtt, **changed))


# All is well


def test_all_is_well_on_every_carrier(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    examined = examine(identity, table=True)
    assert examined.exit_code == 0
    assert examined.last_line == "All is well: wss, https and mqtt lead to the hub."
    assert examined.table.splitlines()[-1] == examined.last_line
    assert len(examined.table.splitlines()) == len(examined.told["checks"]) + 2
    for carrier in CARRIERS:
        steps = [check for check in examined.told["checks"] if check["protocol"] == carrier]
        names = ["address", "name", "tcp", "tls", "credential", "topics", "handshake", "ask"]
        expected = [f"{carrier} {name}" for name in names if name != "topics" or carrier == "mqtt"]
        assert [step["name"] for step in steps] == expected
        assert {step["status"] for step in steps} == {"ok"}
    assert "trusted by the identity's ca_pem; for localhost" in examined.step("mqtt tls")["detail"]
    assert examine(identity, "--no-ask", "--protocol", "wss").step("wss ask")["status"] == "skipped"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_device_at_work_with_the_same_identity_notices_nothing(
    carrier: HubProtocol, identity: ThalovantIdentity
) -> None:
    async def main() -> None:
        async with AsyncThalovantClient(identity, protocol=carrier) as device:
            await device.connect()
            before = await device.connection_info()
            report = await device.doctor()
            assert report.ok, report.format()
            assert (await device.ask("still there")).text == "still there"
            assert await device.connection_info() == before

    asyncio.run(main())


def test_no_presence_is_published(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    with Watcher(identity) as watcher:
        examined = examine(identity)
        assert examined.exit_code == 0
        with ThalovantClient(examined.identity, protocol="mqtt") as device:
            assert device.ask("hello").ok
        assert watcher.heard(2) == ["online", "offline"], "the device's own, and no others"


# Symptoms of the published page


def test_mqtt_is_not_enabled(
    api: ThalovantControlPlane, make_hub: Callable[..., str], examine: Callable[..., Examined], request: Any
) -> None:
    hub = make_hub("without mqtt", carriers=("wss", "http"))
    identity = api.create_client_identity(hub, name="early").identity
    said = "Enable MQTT on the hub and create a fresh identity"
    holds(examine(identity, "--protocol", "mqtt"), "mqtt", "mqtt_not_enabled", said)
    well = examine(identity)
    assert well.exit_code == 0
    assert well.last_line.startswith("All is well: wss and https lead to the hub.") and said in well.last_line
    request.getfixturevalue("signed_in")
    slug = api.get_hub(hub)["slug"]
    typed = f"`thalovant hubs set {slug} --mqtt`, then `thalovant clients rotate early`"
    for owned in (examine(identity, "--protocol", "mqtt"), examine(identity)):
        assert typed in owned.last_line
    # It is enabled now, and who is signed in hears that this identity is older.
    spec = {"version": "1", "protocols": {name: {"enabled": True} for name in ("wss", "http", "mqtt")}}
    api.update_hub(hub, {"spec": spec}, etag=api.get_hub(hub)["etag"])
    examined = examine(identity, "--protocol", "mqtt")
    assert examined.told["code"] == "mqtt_enabled_since"
    assert "MQTT was enabled after this identity was made. Rotate it" in examined.last_line
    assert "`thalovant clients rotate early`" in examined.last_line


def test_the_identity_has_no_mqtt_block(
    identity: ThalovantIdentity, examine: Callable[..., Examined], request: Any
) -> None:
    bare = replace(identity, mqtt=None)
    holds(examine(bare), "mqtt", "no_mqtt_block", "create a fresh identity")
    request.getfixturevalue("signed_in")
    examined = examine(bare)
    assert examined.told["code"] == "no_mqtt_block"
    assert "its file was shortened" in examined.last_line and "thalovant clients rotate" in examined.last_line


def test_the_broker_login_fails_after_a_rotation(
    api: ThalovantControlPlane, server: InProcessServer, examine: Callable[..., Examined], request: Any
) -> None:
    made = api.create_client_identity(server.ready["hub_id"], name="kitchen")
    old, client_id = made.identity, made.client_id or ""
    new = api.rotate_client_identity(client_id, grace_seconds=0).identity
    holds(examine(old, "--protocol", "mqtt"), "mqtt", "broker_login_refused", "uses the newest file")
    holds(examine(old, "--protocol", "wss"), "wss", "credential_rotated", "newest identity file")
    holds(examine(old, "--protocol", "https"), "https", "credential_rotated", "newest identity file")
    request.getfixturevalue("signed_in")
    examined = examine(old)
    assert examined.told["code"] == "credential_rotated"
    assert "This credential was rotated" in examined.last_line and "newest identity file" in examined.last_line
    assert examine(new).exit_code == 0


def test_a_wrong_broker_password_is_told_from_a_rotation(
    identity: ThalovantIdentity, examine: Callable[..., Examined], request: Any
) -> None:
    wrong = with_mqtt(identity, password="x" * 43)
    holds(examine(wrong, "--protocol", "mqtt"), "mqtt", "broker_login_refused", "uses the newest file")
    request.getfixturevalue("signed_in")
    examined = examine(wrong)
    assert examined.told["code"] == "broker_login_of_another"
    assert examined.last_line.startswith("mqtt: ")


def test_a_plain_endpoint(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    assert identity.mqtt is not None
    plain = with_mqtt(identity, endpoint=identity.mqtt.endpoint.replace("mqtts:", "mqtt:"), tls=False)
    holds(examine(plain, "--protocol", "mqtt"), "mqtt", "plain_mqtt_endpoint", "use an mqtts:// endpoint")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_another_authority(carrier: HubProtocol, identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    other = replace(identity, ca_pem=issue("another authority", is_authority=True).pem)
    holds(examine(other, "--protocol", carrier), carrier, "ca_unknown", "trusts another authority (ca_pem)")
    nobody = replace(identity, ca_pem=None)
    examined = examine(nobody, "--protocol", carrier)
    holds(examined, carrier, "ca_unknown", "SSL_CERT_FILE")
    assert "`thalovant login URL --ca FILE`" in examined.last_line
    assert "signed by 'Thalovant local authority'" in examined.step(f"{carrier} tls")["detail"]
    assert examined.step(f"{carrier} credential")["status"] == "skipped"


@dataclass(frozen=True)
class Shown:
    """A certificate that a front shows, and what is to be made of it."""

    hosts: tuple[str, ...]
    begin: datetime.timedelta
    life: datetime.timedelta
    code: str
    said: str


CERTIFICATES = {
    "expired": Shown(("localhost",), -10 * DAY, 9 * DAY, "certificate_expired", "it has expired. Renew it"),
    "not-yet-valid": Shown(("localhost",), DAY, DAY, "certificate_not_yet_valid", "not yet valid. Set this machine's"),
    "misnamed": Shown(("other.example",), -DAY, 90 * DAY, "certificate_misnamed", "known by other names: use one of"),
}


@pytest.mark.parametrize(
    ("name", "carrier"),
    [("expired", "wss"), ("expired", "https"), *((name, "mqtt") for name in CERTIFICATES)],
)
def test_a_bad_certificate(
    name: str, carrier: HubProtocol, identity: ThalovantIdentity, examine: Callable[..., Examined]
) -> None:
    shown = CERTIFICATES[name]
    root = issue("operator's authority", is_authority=True)
    begin = datetime.datetime.now(datetime.UTC) + shown.begin
    leaf = issue("front", root, hosts=shown.hosts, begin=begin, life=shown.life)
    with fronted(replace(identity, ca_pem=root.pem), carrier, leaf) as behind:
        examined = examine(behind, "--protocol", carrier)
        holds(examined, carrier, shown.code, shown.said)
    detail = examined.step(f"{carrier} tls")["detail"]
    assert f"It is for {shown.hosts[0]}, good from {begin:%Y-%m-%d}" in detail
    assert examined.step(f"{carrier} tcp")["status"] == "ok"


def test_a_front_that_is_trusted_leads_to_the_hub(
    identity: ThalovantIdentity, examine: Callable[..., Examined]
) -> None:
    root = issue("operator's authority", is_authority=True)
    leaf = issue("front", root, hosts=["localhost"])
    with fronted(replace(identity, ca_pem=root.pem), "mqtt", leaf) as behind:
        assert examine(behind, "--protocol", "mqtt").exit_code == 0


@pytest.mark.parametrize(
    "overridden", ["topic_prefix", "s2c_topic", "c2s_topic", "status_topic", "every topic"], ids=lambda name: name
)
def test_topics_that_were_put_there_by_hand(
    overridden: str, identity: ThalovantIdentity, examine: Callable[..., Examined]
) -> None:
    explicit = {"s2c_topic": "my/answers", "c2s_topic": "my/questions", "status_topic": "my/status"}
    none = dict.fromkeys(explicit)
    changes: dict[str, dict[str, Any]] = {
        "topic_prefix": {"topic_prefix": "my/own", **none},
        "every topic": explicit,
        **{name: {name: topic} for name, topic in explicit.items()},
    }
    astray = with_mqtt(identity, **changes[overridden])
    holds(examine(astray, "--protocol", "mqtt"), "mqtt", "topics_overridden", "Do not override topics")


# What else keeps a client from its hub


def test_a_client_that_was_removed_or_paused(
    api: ThalovantControlPlane, server: InProcessServer, examine: Callable[..., Examined], signed_in: None
) -> None:
    made = api.create_client_identity(server.ready["hub_id"], name="lost phone")
    api.pause_client(made.client_id or "")
    paused = examine(made.identity)
    assert (paused.exit_code, paused.told["code"]) == (1, "client_paused")
    assert "thalovant clients resume" in paused.last_line
    api.resume_client(made.client_id or "")
    assert examine(made.identity).exit_code == 0
    api.delete_client(made.client_id or "")
    removed = examine(made.identity)
    assert (removed.exit_code, removed.told["code"]) == (1, "client_removed")
    assert "`thalovant identity create " in removed.last_line and removed.last_line.count("--name ") == 1
    assert {removed.step(f"{carrier} credential")["code"] for carrier in CARRIERS} == {
        "broker_login_refused",
        "client_removed",
    }


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_carrier_that_was_turned_off(
    carrier: HubProtocol, api: ThalovantControlPlane, make_hub: Callable[..., str], examine: Callable[..., Examined]
) -> None:
    hub = make_hub(f"later without {carrier}")
    identity = api.create_client_identity(hub, name="c").identity
    name = "http" if carrier == "https" else carrier
    protocols = {one: {"enabled": one != name} for one in ("wss", "http", "mqtt")}
    api.update_hub(hub, {"spec": {"version": "1", "protocols": protocols}}, etag=api.get_hub(hub)["etag"])
    examined = examine(identity)
    holds(examined, carrier, "protocol_off", "Have it turned on, or use another protocol.")
    assert examined.last_line.startswith(f"{carrier}: ")


def test_a_hub_that_was_turned_off(
    api: ThalovantControlPlane, make_hub: Callable[..., str], examine: Callable[..., Examined], signed_in: None
) -> None:
    hub = make_hub("off for the night")
    identity = api.create_client_identity(hub, name="c").identity
    api.update_hub(hub, {"active": False}, etag=api.get_hub(hub)["etag"])
    examined = examine(identity)
    assert (examined.exit_code, examined.told["code"]) == (1, "hub_off")


def test_a_wrong_password(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    wrong = replace(identity, password="w" * 43)
    for carrier in CARRIERS:
        holds(examine(wrong, "--protocol", carrier), carrier, "wrong_password", "create a fresh identity")


def test_a_password_that_was_changed_where_the_right_one_was_used_before(
    identity: ThalovantIdentity, examine: Callable[..., Examined]
) -> None:
    assert examine(identity).exit_code == 0
    holds(examine(replace(identity, password="w" * 43)), "wss", "wrong_password", "create a fresh identity")
    assert examine(identity).exit_code == 0, "what was kept for it is still there"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_key_that_is_not_the_one_the_hub_knows(
    carrier: HubProtocol, identity: ThalovantIdentity, examine: Callable[..., Examined], tmp_path: Path
) -> None:
    with ThalovantClient(identity, protocol=carrier, noise_state_dir=str(tmp_path / "the device's")) as device:
        assert device.ask("mine").ok
    examined = examine(identity, "--protocol", carrier)
    assert (examined.exit_code, examined.told["code"]) == (1, "client_key_rejected")
    quiet = examine(identity, "--protocol", carrier, "--no-ask")
    assert (quiet.exit_code, quiet.told["code"]) == (1, "client_key_rejected")
    assert quiet.step(f"{carrier} handshake")["status"] == "failed"
    with ThalovantClient(identity, protocol=carrier, noise_state_dir=str(tmp_path / "the device's")) as device:
        assert device.ask("still mine").ok


def test_a_service_that_speaks_no_tls(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        with answering(plain, b"220 mail.example ESMTP\r\n"):
            elsewhere = with_mqtt(identity, endpoint=f"mqtts://localhost:{port}")
            holds(examine(elsewhere, "--protocol", "mqtt"), "mqtt", "not_tls", "8883")


def test_nobody_listens(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    gone = with_mqtt(identity, endpoint=f"mqtts://localhost:{port}")
    holds(examine(gone, "--protocol", "mqtt"), "mqtt", "port_refused", "Is the hub running?")


def test_a_name_that_nobody_knows(identity: ThalovantIdentity, examine: Callable[..., Examined]) -> None:
    lost = with_mqtt(identity, endpoint="mqtts://no-such-hub.invalid:8883")
    holds(examine(lost, "--protocol", "mqtt"), "mqtt", "name_unresolved", "Check the spelling")


def test_a_policy_that_lets_nothing_through(
    api: ThalovantControlPlane, server: InProcessServer, examine: Callable[..., Examined]
) -> None:
    spec = {"version": "1", "allowed_types": []}
    mute = api.create_client_identity(server.ready["hub_id"], name="mute", spec=spec).identity
    examined = examine(mute)
    assert (examined.exit_code, examined.told["code"]) == (1, "policy_denied")
    error = said_by_a_plain_ask(examined.identity, "wss")
    assert error.diagnosis is not None and error.diagnosis.code == "policy_denied"
    assert str(error) in examined.last_line


def test_a_control_plane_that_is_gone_is_a_note(
    identity: ThalovantIdentity, examine: Callable[..., Examined], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALOVANT_API_URL", "https://localhost:9")
    monkeypatch.setenv("THALOVANT_API_TOKEN", "tvpat_not-to-be-shown")
    examined = examine(identity, "--protocol", "wss")
    assert examined.exit_code == 0
    assert examined.step("control plane")["status"] == "note"
    assert "not asked" in examined.step("control plane")["detail"]


class Watcher:
    """Hears a client's status topic, in MQTT 3.1.1 by hand."""

    def __init__(self, identity: ThalovantIdentity) -> None:
        assert identity.mqtt is not None and identity.mqtt.topic_prefix is not None
        url = urlsplit(identity.mqtt.endpoint)
        context = client_context(identity.ca_pem)
        plain = socket.create_connection((url.hostname, url.port), timeout=10)
        self._socket = context.wrap_socket(plain, server_hostname=url.hostname)
        login = [b"watcher", identity.mqtt.username.encode(), identity.mqtt.password.encode()]
        self._send(0x10, b"\0\x04MQTT\x04\xc2\0\x3c", *login)
        self._send(0x82, b"\0\x01", f"{identity.mqtt.topic_prefix}/status".encode(), after=b"\0")
        assert [self._receive()[0] >> 4, self._receive()[0] >> 4] == [2, 9]  # CONNACK, SUBACK

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self, number: int) -> list[str]:
        """The next payloads."""
        bodies = [self._receive()[1] for _ in range(number)]
        return [body[2 + int.from_bytes(body[:2], "big") :].decode() for body in bodies]

    def _send(self, first: int, head: bytes, *fields: bytes, after: bytes = b"") -> None:
        body = head + b"".join(len(field).to_bytes(2, "big") + field for field in fields) + after
        length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) % 128 + 128, len(body) // 128])
        self._socket.sendall(bytes([first]) + length + body)

    def _receive(self) -> tuple[int, bytes]:
        first, length = self._exactly(2)
        if length > 127:
            length += (self._exactly(1)[0] - 1) * 128
        return first, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._socket.recv(size - len(data)) or pytest.fail("the server hung up")
        return data


@contextlib.contextmanager
def answering(listener: socket.socket, greeting: bytes) -> Iterator[None]:
    """A plain service: it greets whoever comes and hangs up."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(greeting)
                connection.recv(1024)

    thread = threading.Thread(target=serve, name="plain-service")
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def fronted(identity: ThalovantIdentity, carrier: HubProtocol, shown: Any) -> Iterator[ThalovantIdentity]:
    """The identity with that carrier behind a front."""
    assert identity.mqtt is not None
    endpoints = {**identity.data_plane_endpoints.as_dict(), "mqtt": identity.mqtt.endpoint}
    port = int(endpoints[carrier].split("://")[1].partition("/")[0].rpartition(":")[2])
    with TlsFront("localhost", port, shown) as front:
        endpoints[carrier] = endpoints[carrier].replace(f":{port}", f":{front.port}")
        changed = with_mqtt(identity, endpoint=endpoints["mqtt"])
        yield replace(changed, data_plane_endpoints=HubDataPlaneEndpoints(**endpoints))
