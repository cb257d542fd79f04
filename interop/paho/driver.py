# SPDX-License-Identifier: Apache-2.0
"""paho-mqtt as a program: one JSON command a line, one JSON answer a line. Knows nothing of Thalovant."""

from __future__ import annotations

import json
import queue
import ssl
import sys
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAIT = 10.0


class Driver:
    """One client; each callback of paho's thread puts what it was told into a queue of its own."""

    def __init__(self) -> None:
        self.told: dict[str, queue.Queue[Any]] = {
            name: queue.Queue() for name in ("connected", "subscribed", "published", "message", "ended")
        }
        self.client: paho.Client

    def connect(self, c: dict[str, Any]) -> Any:
        """CONNECT; the answer's reason and properties."""
        five = c["version"] == 5
        transport = "websockets" if c.get("path") else "tcp"
        version = paho.MQTTv5 if five else paho.MQTTv311
        clean = {} if five else {"clean_session": True}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=c["client_id"], protocol=version, transport=transport, **clean
        )
        if c.get("path"):
            self.client.ws_set_options(path=c["path"])
        self.client.tls_set_context(ssl.create_default_context(cafile=c["ca"]))
        self.client.username_pw_set(c["username"], c["password"])
        if c.get("will"):
            self.client.will_set(c["will"], "offline", qos=1, retain=True)
        self._listen()
        more = {"clean_start": True, "properties": _connect_properties(c.get("properties", {}))} if five else {}
        self.client.connect(c["host"], c["port"], keepalive=c.get("keepalive", 60), **more)
        self.client.loop_start()
        return self.told["connected"].get(timeout=WAIT)

    def _listen(self) -> None:
        told, client = self.told, self.client
        client.on_connect = lambda _, __, flags, reason, properties: told["connected"].put(
            {"code": reason.value, "present": flags.session_present, "properties": _plain(properties)}
        )
        client.on_subscribe = lambda _, __, mid, reasons, properties: told["subscribed"].put([r.value for r in reasons])
        client.on_publish = lambda _, __, mid, reason, properties: told["published"].put(
            {"code": reason.value, "reason": _plain(properties).get("ReasonString")}
        )
        client.on_message = lambda _, __, m: told["message"].put(
            {"topic": m.topic, "payload": m.payload.decode("latin-1"), "qos": m.qos, "retain": bool(m.retain)}
        )
        client.on_disconnect = lambda _, __, flags, reason, properties: told["ended"].put(
            {"code": reason.value, "by_server": flags.is_disconnect_packet_from_server,
             "reason": _plain(properties).get("ReasonString")}
        )  # fmt: skip

    def subscribe(self, c: dict[str, Any]) -> Any:
        """SUBSCRIBE to one filter; the reason codes."""
        self.client.subscribe(c["topic"], qos=c.get("qos", 1))
        return self.told["subscribed"].get(timeout=WAIT)

    def publish(self, c: dict[str, Any]) -> Any:
        """PUBLISH; with QoS 1 and 2 the reason of the acknowledgement."""
        properties = None
        if c.get("user"):
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = [tuple(pair) for pair in c["user"]]
        self.client.publish(c["topic"], c["payload"], c.get("qos", 1), c.get("retain", False), properties)
        return self.told["published"].get(timeout=WAIT)

    def message(self, c: dict[str, Any]) -> Any:
        """The next message."""
        return self.told["message"].get(timeout=WAIT)

    def ended(self, c: dict[str, Any]) -> Any:
        """How the connection ended."""
        return self.told["ended"].get(timeout=WAIT)

    def disconnect(self, c: dict[str, Any]) -> Any:
        """DISCONNECT."""
        self.client.disconnect()
        self.client.loop_stop()
        return {}


def _connect_properties(given: dict[str, Any]) -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    for name, value in given.items():
        setattr(properties, name, value)
    return properties


def _plain(properties: Any) -> dict[str, Any]:
    return {} if properties is None else dict(properties.json())


def main() -> None:
    """Serve until standard input ends."""
    driver = Driver()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"ok": getattr(driver, command["do"])(command)}
        except Exception as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


main()
