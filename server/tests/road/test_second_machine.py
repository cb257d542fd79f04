# SPDX-License-Identifier: Apache-2.0
"""A server that other machines reach: names added later, a certificate of the operator's, and what clients see of it.

Names that no resolver knows lead to this machine within the test's own process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantIdentity
from thalovant_server.certificates import fingerprint
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.certificates import Issued, issue

CARRIERS = ("mqtt", "wss", "https")
HOST = "hub.example"
NOBODYS = issue("Signs nothing", is_authority=True).pem


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """`*.example` is this machine."""
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name and name.endswith(".example") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """`trusting(pem)`: the control plane's client trusts these authorities and no others."""

    def trust(pem: str) -> None:
        (tmp_path / "trusted.pem").write_text(pem)
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(tmp_path / "trusted.pem"))

    yield trust


def make_identity(server: ServerProcess, url: str | None = None) -> ThalovantIdentity:
    with ThalovantControlPlane(url or server.ready["api_url"]) as api:
        api.login(*server.admin)
        return api.create_client_identity(server.ready["hub_id"], name="second").identity


def ask_on_each_carrier(identity: ThalovantIdentity) -> None:
    for carrier in CARRIERS:
        with ThalovantClient(identity, protocol=carrier) as client:
            assert client.ask(f"over {carrier}").text == f"over {carrier}"


def same_ports(server: ServerProcess) -> list[str]:
    """The options by which a later start listens where this one did."""
    ports = [server.ready[name].rsplit(":", 1)[1] for name in ("api_url", "mqtt_endpoint")]
    return ["--api-port", ports[0], "--mqtt-port", ports[1]]


def public(*hosts: str) -> list[str]:
    return ["--host", "::", *(word for host in hosts for word in ("--public-host", host))]


def ca_of(server: ServerProcess) -> str:
    return Path(server.ready["ca_file"]).read_text()


def test_a_name_added_later_reaches_new_clients_and_leaves_the_old_ones_alone(tmp_path: Path, trusting: Any) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as first:
        first_ca = ca_of(first)
        trusting(first_ca)
        old = make_identity(first)
        ports = same_ports(first)
    with ServerProcess(tmp_path / "data", options=[*public(HOST, "127.0.0.9"), *ports], strict=True) as server:
        note = server.wait_for_line("now vouches for hub.example")
        assert "clients made before go on by the names they know" in note
        assert server.ready["ca_fingerprint"] == fingerprint(ca_of(server)) != fingerprint(first_ca)
        assert server.ready["api_url"] == f"https://{HOST}:{ports[1]}"
        assert old.ca_pem == first_ca
        trusting(NOBODYS)  # identities bring their own
        ask_on_each_carrier(old)

        trusting(ca_of(server))
        new = make_identity(server)
        assert new.ca_pem == ca_of(server)
        assert new.mqtt is not None and new.mqtt.endpoint == f"mqtts://{HOST}:{ports[3]}"
        trusting(NOBODYS)
        ask_on_each_carrier(new)
    # The name is taken back: its certificate goes, the first clients stay.
    with ServerProcess(tmp_path / "data", options=ports, strict=True) as server:
        assert "vouches" not in "".join(server.output)
        ask_on_each_carrier(old)


def test_a_client_of_the_first_authority_is_not_let_to_a_name_beyond_it(tmp_path: Path, trusting: Any) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as first:
        first_ca, ports = ca_of(first), same_ports(first)
    with ServerProcess(tmp_path / "data", options=[*public(HOST), *ports], strict=True) as server:
        context = ssl.create_default_context(cadata=first_ca)
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            shown_certificate(server, HOST, context)
        assert shown_certificate(server, "localhost", context)


def shown_certificate(server: ServerProcess, name: str, context: ssl.SSLContext, at: str = "127.0.0.1") -> str:
    """The certificate that a client is shown which dials `name`; raises what its TLS raises."""
    port = int(server.ready["api_url"].rsplit(":", 1)[1])
    with (
        socket.create_connection((at, port), 10) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der)


CURL = ["curl", "--silent", "--show-error", "--max-time", "10"]


@pytest.mark.parametrize(
    ("dialled", "reached"), [(HOST, "127.0.0.1"), ("[2001:db8::1]", "127.0.0.9"), ("192.0.2.7", "127.0.0.8")]
)
def test_curl_reaches_each_kind_of_host_in_brackets_where_it_has_them(
    dialled: str, reached: str, tmp_path: Path
) -> None:
    """The address reached is none of the public hosts, as behind a NAT: the first address among them is shown."""
    first = dialled.strip("[]")
    with ServerProcess(tmp_path / "data", options=public(first), strict=True) as server:
        url = server.ready["api_url"]
        assert url.startswith(f"https://{dialled}:")
        port = url.rsplit(":", 1)[1]
        words = ["--cacert", server.ready["ca_file"], "--connect-to", f"{dialled}:{port}:{reached}:{port}"]
        run = subprocess.run([*CURL, *words, f"{url}/v1/ca"], capture_output=True, text=True, check=True)
        assert run.stdout == ca_of(server)


def test_both_families_are_listened_on(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", options=public(HOST), strict=True) as server:
        context = ssl.create_default_context(cafile=server.ready["ca_file"])
        for at in ("127.0.0.1", "::1"):
            assert shown_certificate(server, at, context, at=at)


def test_the_second_machine_signs_in_by_fingerprint(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THALOVANT_")}
    environment["HOME"] = environment["XDG_CONFIG_HOME"] = str(tmp_path / "second")
    with ServerProcess(tmp_path / "data", options=public("127.0.0.9"), strict=True) as server:
        ready = server.ready
        words = ["login", ready["api_url"], "--ca-fingerprint", ready["ca_fingerprint"]]
        words += ["--email", ready["admin_email"], "--password-file", ready["admin_password_file"]]
        for line in (words, ["hubs"]):
            command = [sys.executable, "-m", "thalovant", *line]
            run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
            assert run.returncode == 0, run.stderr
        assert "demo" in run.stdout


@pytest.fixture(scope="module")
def root() -> Issued:
    return issue("The operator's root", is_authority=True)


def brought(folder: Path, root: Issued, *hosts: str) -> list[str]:
    certificate, key = issue("hub", root, hosts=hosts).write(folder)
    (folder / "root.pem").write_text(root.pem)
    return ["--certificate", str(certificate), "--certificate-key", str(key)]


def test_a_certificate_of_the_operators_is_renewed_under_a_client_that_stays(
    tmp_path: Path, root: Issued, trusting: Any
) -> None:
    options = [*public(HOST), *brought(tmp_path, root, HOST), "--certificate-authority", str(tmp_path / "root.pem")]
    with ServerProcess(tmp_path / "data", options=options, strict=True) as server:
        assert server.ready["ca_file"] == str(tmp_path / "root.pem")
        assert server.ready["ca_fingerprint"] == fingerprint(root.pem)
        trusting(root.pem)
        identity = make_identity(server)
        assert identity.ca_pem == root.pem
        trusting(NOBODYS)
        context = ssl.create_default_context(cadata=root.pem)
        before = shown_certificate(server, HOST, context)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(ThalovantClient(identity, protocol=carrier)) for carrier in CARRIERS]
            for client in clients:
                assert client.ask("before").text == "before"
            since = [client.connection_info().connected_at for client in clients]
            brought(tmp_path, root, HOST)
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for_line("certificates_changed")
            assert shown_certificate(server, HOST, context) != before
            for client in clients:
                assert client.ask("after").text == "after"
            assert [client.connection_info().connected_at for client in clients] == since, "each on its first session"


def test_a_broken_renewal_keeps_the_old_certificate_and_says_how_to_mend_it(tmp_path: Path, root: Issued) -> None:
    options = [*public(HOST), *brought(tmp_path, root, HOST)]
    with ServerProcess(tmp_path / "data", options=options, strict=True) as server:
        context = ssl.create_default_context(cadata=root.pem)
        before = shown_certificate(server, HOST, context)
        (tmp_path / "operator.pem").write_text("-----BEGIN CERTIFICATE-----\nhalf")
        os.kill(server.pid, signal.SIGHUP)
        line = server.wait_for_line("certificates_kept")
        assert str(tmp_path / "operator.pem") in line and "PEM" in line
        assert shown_certificate(server, HOST, context) == before
        local = ssl.create_default_context(cafile=str(server.data / "ca.pem"))
        assert shown_certificate(server, "localhost", local), "this machine's own way in stays"
        server.output.clear()


def test_a_certificate_for_other_names_stops_the_start(tmp_path: Path, root: Issued) -> None:
    options = [*public(HOST), *brought(tmp_path, root, "other.example")]
    command = [sys.executable, "-m", "thalovant_server", "up", "--data", str(tmp_path / "data"), *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "is good for other.example, not for hub.example, the first --public-host" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_change_of_the_servers_own_certificate_is_seen_without_being_asked(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", strict=True) as server:
        context = ssl.create_default_context(cafile=server.ready["ca_file"])
        before = shown_certificate(server, "localhost", context)
        (server.data / "tls.crt").unlink()
        server.wait_for_line("certificates_changed", 30)
        assert shown_certificate(server, "localhost", context) != before
