# SPDX-License-Identifier: Apache-2.0
"""What the published SDK shows its user in each symptom of the published page, and what ours says of the same file.

The symptoms are produced for real. Run it with ``-s`` and ``-n 0`` for the table.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rig import Published, PublishedError
from thalovant import ThalovantClient, ThalovantControlPlane, ThalovantError, ThalovantIdentity
from thalovant_server.testing import ServerProcess
from thalovant_server.testing.certificates import DAY, Issued, issue
from thalovant_server.testing.tls_front import TlsFront

pytestmark = pytest.mark.published

Symptom = Callable[["Bench"], dict[str, Any]]
UNSUPPORTED = "ThalovantUnsupportedProtocolError"
CONNECTION = "ThalovantConnectionError"
BARE = "SSLCertVerificationError"  # over MQTT the published SDK lets it through, and it is no ThalovantError


@dataclass(frozen=True)
class Trusting:
    """A server as the published SDK's process is told of it, with a bundle of authorities of the test's own."""

    ready: dict[str, Any]
    environment: dict[str, str]


@dataclass
class Bench:
    """Where symptoms are made: a server, the authority of the fronts before it, and whatever must be ended."""

    server: ServerProcess
    api: ThalovantControlPlane
    root: Issued
    stack: ExitStack = field(default_factory=ExitStack)

    def identity(self, name: str = "symptom", hub: str | None = None) -> dict[str, Any]:
        """A fresh identity, as its file holds it."""
        return written(self.api.create_client_identity(hub or self.server.ready["hub_id"], name=name).identity)

    def behind(self, shown: Issued) -> dict[str, Any]:
        """A fresh identity whose broker shows that certificate."""
        found = self.identity()
        port = int(found["mqtt"]["endpoint"].rpartition(":")[2])
        front = self.stack.enter_context(TlsFront("localhost", port, shown))
        for part in (found["mqtt"], found["data_plane_endpoints"]):
            name = "endpoint" if "endpoint" in part else "mqtt"
            part[name] = f"mqtts://localhost:{front.port}"
        return found


def written(identity: ThalovantIdentity) -> dict[str, Any]:
    """An identity as our SDK writes its file."""
    return {**identity.as_dict(include_secrets=True), "protocols": identity.protocols.as_dict()}


@pytest.fixture(scope="module")
def bench(server: ServerProcess, api: ThalovantControlPlane) -> Iterator[Bench]:
    """One for the file."""
    bench = Bench(server, api, issue("operator's authority", is_authority=True))
    with bench.stack:
        yield bench


@pytest.fixture(scope="module")
def told() -> Iterator[list[tuple[str, str, str, str]]]:
    """What was shown, printed in the end."""
    rows: list[tuple[str, str, str, str]] = []
    yield rows
    for name, carrier, published, ours in rows:
        print(f"\n{name} ({carrier})\n  published: {published}\n  ours:      {ours}")


@pytest.fixture(scope="module")
def published(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """The published SDK, which trusts the server's authority and that of the fronts."""
    folder = tmp_path_factory.mktemp("published")
    bundle = folder / "bundle.pem"
    bundle.write_text(Path(bench.server.environment["SSL_CERT_FILE"]).read_text() + bench.root.pem)
    environment = dict.fromkeys(bench.server.environment, str(bundle))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        driver = Published(Trusting(bench.server.ready, environment), folder / "home")  # type: ignore[arg-type]
        yield driver
        driver.close()


def mqtt_is_not_enabled(bench: Bench) -> dict[str, Any]:
    protocols = {"wss": {"enabled": True}, "http": {"enabled": True}, "mqtt": {"enabled": False}}
    hub = bench.api.create_hub({"name": "without mqtt", "spec": {"version": "1", "protocols": protocols}})
    return bench.identity(hub=hub["id"])


def no_mqtt_block(bench: Bench) -> dict[str, Any]:
    return {name: value for name, value in bench.identity().items() if name != "mqtt"}


def rotated(bench: Bench) -> dict[str, Any]:
    made = bench.api.create_client_identity(bench.server.ready["hub_id"], name="rotated")
    bench.api.rotate_client_identity(made.client_id or "", grace_seconds=0)
    return written(made.identity)


def plain_endpoint(bench: Bench) -> dict[str, Any]:
    found = bench.identity()
    found["mqtt"] |= {"endpoint": found["mqtt"]["endpoint"].replace("mqtts:", "mqtt:"), "tls": False}
    return found


def wrong_ca(bench: Bench) -> dict[str, Any]:
    return bench.behind(issue("front", issue("a stranger", is_authority=True), hosts=["localhost"]))


def expired(bench: Bench) -> dict[str, Any]:
    begin = datetime.datetime.now(datetime.UTC) - 10 * DAY
    return bench.behind(issue("front", bench.root, hosts=["localhost"], begin=begin, life=9 * DAY))


def misnamed(bench: Bench) -> dict[str, Any]:
    return bench.behind(issue("front", bench.root, hosts=["other.example"]))


def topics_overridden(bench: Bench) -> dict[str, Any]:
    found = bench.identity()
    topics = {"topic_prefix": "my/own", "c2s_topic": "my/own/c2s", "s2c_topic": "my/own/s2c"}
    found["mqtt"] |= {**topics, "status_topic": "my/own/status"}
    return found


SYMPTOMS: list[tuple[Symptom, str, str, str]] = [
    (mqtt_is_not_enabled, "mqtt", UNSUPPORTED, "mqtt_not_enabled"),
    (no_mqtt_block, "mqtt", UNSUPPORTED, "no_mqtt_block"),
    (rotated, "mqtt", CONNECTION, "broker_login_refused"),
    (rotated, "wss", CONNECTION, "credential_rotated"),
    (rotated, "https", CONNECTION, "credential_rotated"),
    (plain_endpoint, "mqtt", CONNECTION, "plain_mqtt_endpoint"),
    (wrong_ca, "mqtt", BARE, "ca_unknown"),
    (expired, "mqtt", BARE, "certificate_expired"),
    (misnamed, "mqtt", BARE, "certificate_misnamed"),
    (topics_overridden, "mqtt", CONNECTION, "topics_overridden"),
]


@pytest.mark.parametrize(
    ("symptom", "carrier", "kind", "code"), SYMPTOMS, ids=[f"{one.__name__}-{carrier}" for one, carrier, *_ in SYMPTOMS]
)
def test_what_both_show(
    symptom: Symptom,
    carrier: Any,
    kind: str,
    code: str,
    bench: Bench,
    published: Published,
    told: list[tuple[str, str, str, str]],
    tmp_path: Path,
) -> None:
    file = tmp_path / "identity.json"
    file.write_text(json.dumps(symptom(bench)))
    file.chmod(0o600)
    with pytest.raises(PublishedError) as theirs:
        published("open_client", key="c", file=str(file), protocol=carrier, noise=str(tmp_path / "noise"))
    with pytest.raises(ThalovantError) as ours, ExitStack() as stack:
        identity = ThalovantIdentity.from_file(file)
        client = ThalovantClient(identity, protocol=carrier)
        stack.callback(client.close)
        client.connect()
    told.append((symptom.__name__, carrier, str(theirs.value), f"{type(ours.value).__name__}: {ours.value}"))
    assert kind in theirs.value.kinds
    assert (UNSUPPORTED if kind == UNSUPPORTED else CONNECTION) in [base.__name__ for base in type(ours.value).__mro__]
    assert ours.value.diagnosis is not None
    assert ours.value.diagnosis.code == code
