# SPDX-License-Identifier: Apache-2.0
"""`make demo`: from nothing to a printed reply over MQTT, WSS and HTTPS, with a server of its own."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

CARRIERS = ("mqtt", "wss", "https")
LINES = """\
The same against a server that stays. In one terminal:

    make install && . .venv/bin/activate
    thalovant-server up --data data       # leave it running; it prints the line for `thalovant login`

In another, after `thalovant login …` as printed there, this is Python:

    from thalovant import ThalovantClient, ThalovantControlPlane

    api = ThalovantControlPlane()
    identity = api.create_client_identity(api.list_hubs()["data"][0], name="my-first-device").identity
    with ThalovantClient(identity, protocol="mqtt") as client:
        print(client.ask("Reply over MQTT.").text)
"""


def main() -> None:
    """Start a server on free ports, ask it over each carrier, stop it."""
    from thalovant_server.testing import ServerProcess

    with tempfile.TemporaryDirectory(prefix="thalovant-demo-") as folder:
        began = time.perf_counter()
        print("Starting a server with a directory and ports of its own …")
        with ServerProcess(Path(folder) / "data") as server:
            print(f"  ready at {server.ready['api_url']} and {server.ready['mqtt_endpoint']} ({since(began)})\n")
            os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
            identity = create_identity(server)
            for carrier in CARRIERS:
                ask(identity, carrier)
        print("\nThe server has stopped and its directory is gone.\n")
        print(LINES)


def create_identity(server: Any, name: str = "demo-device") -> Any:
    """Sign in and create one identity; it is good for all three carriers."""
    from thalovant import ThalovantControlPlane

    began = time.perf_counter()
    with ThalovantControlPlane(server.ready["api_url"]) as api:
        api.login(*server.admin)
        identity = api.create_client_identity(server.ready["hub_id"], name=name).identity
    print(f"Signed in and created the identity {name} ({since(began)})")
    print(f"  its private topics: {identity.mqtt.topic_prefix}/c2s | s2c | status\n")
    return identity


def ask(identity: Any, carrier: str) -> None:
    """Connect, ask once, and say how long each took."""
    from thalovant import ThalovantClient

    began = time.perf_counter()
    with ThalovantClient(identity, protocol=carrier) as client:
        connected = since(began)
        began = time.perf_counter()
        reply = client.ask(f"Reply over {carrier.upper()}.")
        print(f"  {carrier:5}  {reply.text!r:24} connected in {connected}, answered in {since(began)}")


def since(began: float) -> str:
    """The milliseconds since ``began``, as text."""
    return f"{(time.perf_counter() - began) * 1000:.1f} ms"


if __name__ == "__main__":
    main()
