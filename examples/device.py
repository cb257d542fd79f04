"""A device on a stock MQTT client, without our SDK: it keeps its presence and hears its own topics.

    pip install paho-mqtt
    thalovant identity create demo --name doorbell --protocol mqtt
    python device.py doorbell.identity.json

Asking needs the SDK: what goes through the topics c2s and s2c is sealed between client and hub. Presence is not.
"""

import json
import signal
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt


def main() -> None:
    identity = json.loads(Path(sys.argv[1]).read_text())
    broker, address = identity["mqtt"], urlsplit(identity["mqtt"]["endpoint"])
    prefix = broker["topic_prefix"]
    status = f"{prefix}/status"

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, client_id="doorbell")
    client.username_pw_set(broker["username"], broker["password"])
    # The server has an authority of its own; the identity brings its certificate along.
    client.tls_set_context(ssl.create_default_context(cadata=identity.get("ca_pem")))
    # Whatever ends us, the hub will say that we are gone.
    client.will_set(status, "offline", qos=1, retain=True)

    def connected(client: mqtt.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        print(f"connected: {reason}", flush=True)
        if not reason.is_failure:  # after each reconnect, too
            client.subscribe(status, qos=1)
            client.subscribe(f"{prefix}/s2c", qos=1)
            client.publish(status, "online", qos=1, retain=True)

    def heard(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        print(f"{message.topic.removeprefix(prefix)}: {message.payload.decode(errors='replace')}", flush=True)

    client.on_connect, client.on_message = connected, heard
    client.connect(address.hostname or "", address.port or 8883)
    client.loop_start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    client.publish(status, "offline", qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    # main() waits for these two itself, in no other thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
