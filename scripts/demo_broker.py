# SPDX-License-Identifier: Apache-2.0
"""`make demo-broker`: from nothing to a printed reply through Mosquitto, with a server and a broker of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from demo import ask, create_identity, since

PATIENCE_SECONDS = 10
LINES = """\
The same with a server that stays; Mosquitto has to be installed for it:

    make install && . .venv/bin/activate
    thalovant-server up --data data --broker mosquitto

docs/broker.md has the rest: a broker on another machine, and one that is shared with other things.
"""


def main() -> None:
    """Start a server that runs Mosquitto, ask it through there, show what others may not hear, stop both."""
    from thalovant_server.testing import ServerProcess, mosquitto

    with tempfile.TemporaryDirectory(prefix="thalovant-demo-") as folder:
        began = time.perf_counter()
        print("Starting a server and its own Mosquitto, with a directory and ports of their own …")
        options = ("--broker", "mosquitto", "--broker-port", "0")
        os.environ.update(mosquitto.environment())
        with ServerProcess(Path(folder) / "data", options=options) as server:
            print(f"  the hub's clients meet it at {server.ready['broker_endpoint']} ({since(began)})\n")
            os.environ.update(server.environment, XDG_CONFIG_HOME=folder)
            identity = create_identity(server)
            ask(identity, "mqtt")
            show_isolation(server, identity, create_identity(server, "a-neighbour"), Path(folder))
        print("\nServer and broker have stopped and their directory is gone.\n")
        print(LINES)


def show_isolation(server: Any, identity: Any, other: Any, folder: Path) -> None:
    """Have one identity subscribe to another one's topics, with a client that is not ours; print what it was told."""
    address, port = server.ready["broker_endpoint"].removeprefix("mqtts://").rsplit(":", 1)
    topic = f"{identity.mqtt.topic_prefix}/#"
    secrets = folder / "mosquitto_sub"  # where that program looks for options below XDG_CONFIG_HOME: none on its line
    secrets.touch(0o600)
    secrets.write_text(f"-u {other.mqtt.username}\n-P {other.mqtt.password}\n")
    run = subprocess.run(
        [
            "mosquitto_sub", "-V", "5", "-h", address, "-p", port, "--cafile", os.environ["SSL_CERT_FILE"],
            "-t", topic, "-t", "#", "-W", str(PATIENCE_SECONDS),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = (run.stderr or run.stdout).strip().replace("\n", " ")
    print(f"a-neighbour listens to {topic} with mosquitto_sub\n  and is told: {said}")


if __name__ == "__main__":
    main()
