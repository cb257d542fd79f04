# SPDX-License-Identifier: Apache-2.0
"""A real HTTPS server that answers as a script says, with a certificate of a CA made for the test run.

It decides nothing: a request that the script does not expect is kept and answered 599.
"""

from __future__ import annotations

import datetime
import importlib.util
import ipaddress
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from thalovant.cli import main

ENVIRONMENT = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")


@dataclass
class Seen:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    json: Any


@dataclass
class Answer:
    """What to answer: a JSON value or raw bytes."""

    status: int = 200
    json: Any = None
    raw: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Seen], tuple[int, Any]]


@dataclass
class Certificates:
    """Files and text of a throw-away CA and of a server it vouches for."""

    ca_pem: str
    ca_file: Path
    chain_file: Path
    fingerprint: str


class ScriptedServer:
    """`will` puts an answer in line, `script` answers by a function instead; `seen` is what arrived."""

    def __init__(self, certificates: Certificates | None) -> None:
        self.seen: list[Seen] = []
        self.script: Script | None = None
        self._answers: list[Answer] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.scheme = "http"
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.chain_file)
            # The handshake happens in the connection's own thread, at the first read.
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.url = f"{self.scheme}://localhost:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reset(self) -> None:
        self.seen, self.script, self._answers = [], None, []

    def will(self, status: int, json: Any = None, *, raw: bytes = b"", **headers: str) -> None:
        """Answer the next request that has no answer yet like this."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.append(Answer(status, json, raw, named))

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        if self.script is not None:
            return Answer(*self.script(seen))
        return self._answers.pop(0) if self._answers else Answer(599, {"detail": "not in the script"})

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # a client that does not trust us hangs up in the handshake
                    self.close_connection = True

            def finish(self) -> None:
                try:
                    super().finish()
                finally:
                    self.connection.close()

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(url.query))
                seen = Seen(self.command, url.path, query, headers, json.loads(body) if body else None)
                answer = server.answer(seen)
                content = answer.raw if answer.json is None else json.dumps(answer.json).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def made_certificates(folder: Path) -> Certificates:
    """A CA and a certificate for localhost and 127.0.0.1, valid for a day."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _name("test CA")

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.KeyUsage(*(name in (5, 6) for name in range(9))), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    leaf = (
        builder(_name("localhost"), key.public_key())
        .add_extension(names, critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_pem = ca.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    ca_file, chain_file = folder / "ca.pem", folder / "chain.pem"
    ca_file.write_bytes(ca_pem)
    chain_file.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM) + ca_pem)
    return Certificates(ca_pem.decode(), ca_file, chain_file, ca.fingerprint(hashes.SHA256()).hex())


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return made_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def make_certificates() -> Callable[[Path], Certificates]:
    """Makes another CA and server certificate in a folder."""
    return made_certificates


@pytest.fixture(scope="session")
def _https_server(certificates: Certificates) -> Iterator[ScriptedServer]:
    server = ScriptedServer(certificates)
    yield server
    server.close()


@pytest.fixture
def api_server(_https_server: ScriptedServer) -> ScriptedServer:
    """The HTTPS server, with an empty script."""
    _https_server.reset()
    return _https_server


@pytest.fixture
def plain_server() -> Iterator[ScriptedServer]:
    """The same over plain HTTP."""
    server = ScriptedServer(None)
    yield server
    server.close()


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that knows no server, no identity and no CA; returns the config home."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name in ("API_URL", "API_TOKEN", "CA_FILE", "IDENTITY", "PROFILE", "ACCESS_KEY"):
        monkeypatch.delenv(f"THALOVANT_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "thalovant"


@dataclass
class Ran:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    def as_tuple(self) -> tuple[int, str, str]:
        return self.code, self.out, self.err


class Typed:
    """Types one command line after the other, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["thalovant", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        assert "Traceback" not in captured.err
        assert "not-to-be-printed" not in captured.out + captured.err
        return Ran(left.value.code, captured.out, captured.err)


@pytest.fixture
def typed(lonely: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types commands in an empty directory, as somebody whom no server knows."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return Typed(monkeypatch, capsys)


def _load(name: str) -> Any:
    """Tests are no package, so a module beside them is loaded by its path; then they can import it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_load("jumping_time")
_scripted = _load("scripted_hub")
hub, make_client, play_scene = _scripted.hub, _scripted.make_client, _scripted.play_scene
