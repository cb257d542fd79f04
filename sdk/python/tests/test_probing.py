# SPDX-License-Identifier: Apache-2.0
"""The walk, against a scripted hub and other real sockets: where it stops, what it says, and that it looks only."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from thalovant import AsyncThalovantClient, HubDataPlaneEndpoints, ThalovantClient, ThalovantDoctorReport
from thalovant.doctor import Found
from thalovant.examining import examine, named_protocols
from thalovant.probing import Patience, Probe
from thalovant.protocol import noise
from thalovant.tls_probing import date_in

QUICK = Patience(look=2.0, ask=2.0)
STEPS = ["address", "name", "tcp", "tls", "credential", "handshake", "ask"]
Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def examined(hub: Any, tmp_path: Path) -> Callable[..., ThalovantDoctorReport]:
    """Examine an identity of the scripted hub."""

    def run(*protocols: Any, identity: Any = None, patience: Patience = QUICK, **options: Any) -> ThalovantDoctorReport:
        who = identity or hub.identity()
        roads = list(protocols) or None
        options = {"noise_state_dir": str(tmp_path / "noise"), "handshake_timeout": 5.0, **options}
        return asyncio.run(examine(who, roads, patience=patience, ask_control_plane=False, **options), debug=True)

    return run


def code_of(report: ThalovantDoctorReport) -> str | None:
    return report.finding.code if report.finding else None


def stopped_at(report: ThalovantDoctorReport) -> list[str]:
    """The steps that failed; those behind each were skipped."""
    for protocol in {check.protocol for check in report.checks if check.protocol}:
        marks = [check.status for check in report.checks if check.protocol == protocol]
        assert marks == sorted(marks, key=["ok", "failed", "skipped"].index)
    return [check.name for check in report.checks if not check.ok]


def test_every_carrier_that_the_identity_names_is_walked(hub: Any, examined: Any) -> None:
    report = examined()
    assert report.ok and code_of(report) is None
    walked = [check.name for check in report.checks if check.protocol]
    mqtt = [*STEPS[:5], "topics", *STEPS[5:]]
    assert walked == [f"{p} {step}" for p in ("wss", "https", "mqtt") for step in (mqtt if p == "mqtt" else STEPS)]
    assert hub.presence.empty(), "nobody was told that this client is online, or offline"


def test_without_an_ask_none_is_sent(hub: Any, examined: Any) -> None:
    report = examined("wss", "mqtt", ask=False)
    assert report.ok
    assert {check.status for check in report.checks if check.name.endswith(" ask")} == {"skipped"}
    assert hub.turns.empty()


@pytest.mark.parametrize(
    ("protocol", "script", "code", "step"),
    [
        ("wss", {"upgrade_status": 503}, "server_busy", "credential"),
        ("wss", {"upgrade_status": 403}, "credential_refused", "credential"),
        ("wss", {"upgrade_status": 404}, "wrong_service", "credential"),
        ("wss", {"knows_key": False}, "credential_refused", "credential"),
        ("https", {"knows_key": False}, "credential_refused", "credential"),
        ("mqtt", {"broker_password": "rotated"}, "broker_login_refused", "credential"),
        ("mqtt", {"mqtt_levels": ()}, "wrong_service", "credential"),
        ("mqtt", {"puback": 0x87}, "topics_overridden", "topics"),
        ("wss", {"password": "another one"}, "wrong_password", "handshake"),
        ("https", {"greets": False}, "hub_silent", "handshake"),
        ("mqtt", {"knows_key": False}, "hub_silent", "handshake"),
        ("wss", {"answer": None}, "ask_unanswered", "ask"),
    ],
)
def test_where_it_stops(protocol: Any, script: dict[str, Any], code: str, step: str, hub: Any, examined: Any) -> None:
    for name, value in script.items():
        assert hasattr(hub.script, name)
        setattr(hub.script, name, value)
    report = examined(protocol, patience=Patience(2.0, 0.3), handshake_timeout=0.5)
    assert stopped_at(report) == [f"{protocol} {step}"]
    assert code_of(report) == code
    assert report.finding is not None and report.finding.advice in report.summary


def test_a_hub_with_another_key_than_before(hub: Any, examined: Any) -> None:
    assert examined("wss").ok
    hub.script.static_private = noise.generate_private_key()
    report = examined("wss")
    assert (stopped_at(report), code_of(report)) == (["wss handshake"], "hub_key_changed")


def test_a_denied_ask(hub: Any, examined: Any) -> None:
    denied = {"denied_type": "recognizer_loop:utterance", "code": "acl_disallowed_type", "reason": "not yours"}
    hub.script.answer = lambda turn: turn.say("hive.policy.denied", denied)
    report = examined("https")
    assert (stopped_at(report), code_of(report)) == (["https ask"], "policy_denied")


def test_an_agent_that_fails(hub: Any, examined: Any) -> None:
    hub.script.answer = lambda turn: turn.say("hive.query.timeout", {"error": "no_answer"})
    report = examined("wss")
    assert (stopped_at(report), code_of(report)) == (["wss ask"], "agent_failed")


def test_an_address_of_this_machine_needs_no_tls(hub: Any) -> None:
    async def main() -> list[Found]:
        async with listening(says_nothing) as port:
            endpoints = HubDataPlaneEndpoints(wss=f"ws://localhost:{port}")
            identity = replace(hub.identity(), data_plane_endpoints=endpoints)
            client = AsyncThalovantClient(identity, protocol="wss", connect_timeout=0.2, auto_reconnect=False)
            return await Probe(identity, "wss", lambda _: client, Patience(0.5)).walk()

    found = {one.check.name: one.check for one in asyncio.run(main())}
    assert (found["wss tls"].status, found["wss tls"].detail) == ("ok", "not used: the address is of this machine")
    assert found["wss credential"].code == "port_silent"


def test_a_hub_without_an_answer_is_well(hub: Any, examined: Any) -> None:
    hub.script.answer = lambda turn: (turn.say("complete_intent_failure"), turn.say("ovos.utterance.handled"))
    report = examined("wss")
    assert report.ok
    assert "has no answer" in report.checks[-1].detail


def test_the_clients_offer_it(hub: Any, tmp_path: Path) -> None:
    state = str(tmp_path / "noise")
    with ThalovantClient(hub.identity(), protocol="wss", noise_state_dir=state) as client:
        report = client.doctor()
        assert report.ok, report.format()
        assert client.ask("still here").text == "still here"
    assert report.identity == hub.identity().as_dict()


def test_an_identity_that_was_opened_to_others_meanwhile(hub: Any, examined: Any, tmp_path: Path) -> None:
    file = hub.identity().save(tmp_path / "kitchen.json")
    kept = replace(hub.identity(), source_path=str(file))
    assert examined("wss", identity=kept).ok
    file.chmod(0o640)
    report = examined("wss", identity=kept)
    assert code_of(report) == "identity_open_to_others"
    assert "mode 0640" in report.summary and f"chmod 600 {file}" in report.summary
    file.unlink()
    assert code_of(examined("wss", identity=kept)) == "identity_unreadable"


@pytest.mark.parametrize(
    ("changed", "roads"),
    [
        ({}, ["wss", "https", "mqtt"]),
        ({"mqtt": None, "data_plane_endpoints": HubDataPlaneEndpoints(wss="wss://hub")}, ["wss"]),
        ({"mqtt": None, "data_plane_endpoints": HubDataPlaneEndpoints(https="https://hub")}, ["https"]),
        ({"data_plane_endpoints": HubDataPlaneEndpoints(mqtt="mqtts://hub")}, ["mqtt"]),
    ],
    ids=["all", "wss", "https", "mqtt"],
)
def test_which_carriers_an_identity_names(changed: dict[str, Any], roads: list[str], hub: Any) -> None:
    identity = replace(hub.identity(), **changed)
    if identity.mqtt is None:
        identity = replace(identity, protocols=replace(identity.protocols, mqtt=False))
    assert named_protocols(identity) == roads


# Other things than a hub


def test_a_proxy_in_the_way(hub: Any, examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://localhost:9")
    monkeypatch.setenv("no_proxy", "")
    report = examined("https", "mqtt")
    assert (stopped_at(report), code_of(report)) == (["https tcp"], "proxy_in_the_way")
    assert "Nothing listens at localhost:9" in report.summary
    monkeypatch.setenv("https_proxy", "nonsense://x")
    assert stopped_at(examined("https")) == ["https address"]
    monkeypatch.setenv("no_proxy", "localhost")
    assert examined("https").ok


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def speaks_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")
    await reader.read(100)
    writer.close()


@asynccontextmanager
async def listening(serve: Served, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        for _ in range(10):  # those that were accepted last are served, and closed
            await asyncio.sleep(0)


def probed(hub: Any, serve: Served, **options: Any) -> list[Found]:
    """Walk the WSS road to a service of the test's own."""

    async def main() -> list[Found]:
        async with listening(serve, options.pop("context", None)) as port:
            endpoints = HubDataPlaneEndpoints(wss=f"wss://localhost:{port}")
            ca_pem = options.pop("ca_pem", hub.ca_pem)
            identity = replace(hub.identity(), data_plane_endpoints=endpoints, ca_pem=ca_pem)
            probe = Probe(identity, "wss", lambda _: pytest.fail("it never came so far"), Patience(0.5), **options)
            return await probe.walk()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (says_nothing, "no answer within 0.5 s to a greeting in TLS"),
        (hangs_up, "it hung up on a greeting in TLS"),
        (speaks_plainly, "wrong version number"),
    ],
    ids=["silent", "hangs-up", "plain"],
)
def test_what_speaks_no_tls(serve: Served, said: str, hub: Any) -> None:
    found = next(one for one in probed(hub, serve) if not one.check.ok)
    assert (found.check.name, found.check.code) == ("wss tls", "not_tls")
    assert said in found.check.detail


def test_a_clock_that_is_wrong(hub: Any, tmp_path: Path) -> None:
    """Only the clock is moved by hand: the certificate has really expired."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = now - datetime.timedelta(days=9), now - datetime.timedelta(days=2)
    server_says = now - datetime.timedelta(days=5)

    async def tells_the_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        date = f"{server_says:%a, %d %b %Y %H:%M:%S} GMT"
        writer.write(f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\n\r\n".encode())
        writer.close()

    context, ca_pem = self_signed(tmp_path, begin, end)
    found = probed(hub, tells_the_time, context=context, ca_pem=ca_pem)
    told = next(one for one in found if not one.check.ok)
    assert told.check.code == "clock_wrong"
    assert f"the server's {server_says:%Y-%m-%d %H:%M} UTC" in told.check.detail
    for date, code in ((now, "certificate_expired"), (server_says, "certificate_expired")):
        server_says = now if date is now else server_says
        found = probed(hub, tells_the_time, context=context, ca_pem=ca_pem, now=lambda date=date: date)
        assert next(one for one in found if not one.check.ok).check.code == code
    past = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    found = probed(hub, says_nothing, context=context, ca_pem=ca_pem, now=lambda: past)
    told = next(one for one in found if not one.check.ok)
    assert told.check.code == "clock_wrong" and "this program is newer than that" in told.check.detail


def self_signed(folder: Path, begin: datetime.datetime, end: datetime.datetime) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of those dates, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "self-signed.pem"
    file.write_bytes(key.private_bytes(*form) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, pem.decode()


@pytest.mark.parametrize(
    ("head", "year"),
    [
        ("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 18:00:00 GMT\r\n\r\n", 2026),
        ("HTTP/1.1 200 OK\r\ndate:Sun, 22 Nov 2026 18:00:00 -0000\r\nDate: x\r\n\r\n", 2026),
        ("HTTP/1.1 200 OK\r\n\r\nDate: Sun, 22 Nov 2026 18:00:00 GMT\r\n", None),
        ("HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n", None),
        ("", None),
    ],
)
def test_the_date_of_an_answer(head: str, year: int | None) -> None:
    found = date_in(head)
    assert (found.year if found else None) == year


@given(st.text(max_size=80))
def test_no_answer_does_harm(text: str) -> None:
    found = date_in(f"HTTP/1.1 200 OK\r\nDate: {text}\r\n\r\n")
    assert found is None or found.tzinfo is not None
