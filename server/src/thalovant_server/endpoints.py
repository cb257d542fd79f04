# SPDX-License-Identifier: Apache-2.0
"""Where this server is reached, as its clients are told (architecture decision 13). Binds nothing."""

from __future__ import annotations

from dataclasses import dataclass

from thalovant_server.directory import MqttVia


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The addresses given to clients; the port is always written.

    Args:
        host: the name or address clients use, without port.
        api_port: the one TLS port of the API and of the hubs' WSS and HTTPS.
        mqtt_port: the TLS port of the embedded MQTT endpoint.
        ca_pem: the certificate authority to trust for these addresses, PEM text; "" when clients trust it anyway.
        broker_url: how clients reach the outside broker; "" when this server has none.
        broker_root: where in that broker's topics everything of this server lies.
        broker_ca: the authority to trust for that broker, PEM text; "" when clients trust it anyway.
    """

    host: str
    api_port: int
    mqtt_port: int
    ca_pem: str
    broker_url: str = ""
    broker_root: str = ""
    broker_ca: str = ""

    @property
    def default_via(self) -> MqttVia:
        """Where the MQTT of a new hub is, when its maker does not say."""
        return "link" if self.broker_url else "embedded"

    @property
    def domain(self) -> str:
        """``host:port`` of the API and of every hub."""
        return f"{self._host}:{self.api_port}"

    @property
    def api_url(self) -> str:
        """The API root, without ``/v1``."""
        return f"https://{self.domain}"

    @property
    def mqtt_url(self) -> str:
        """The MQTT endpoint."""
        return f"mqtts://{self._host}:{self.mqtt_port}"

    def mqtt_for(self, via: MqttVia) -> str:
        """Return where clients find the MQTT of a hub: here, or at the outside broker ("" when there is none)."""
        return self.broker_url if via == "link" else self.mqtt_url

    def authorities_for(self, via: MqttVia) -> str:
        """Return the authorities that a client of a hub has to trust, PEM text; "" when it trusts them anyway."""
        others = self.broker_ca if via == "link" and self.broker_ca not in self.ca_pem else ""
        between = "\n" if others and self.ca_pem and not self.ca_pem.endswith("\n") else ""
        return self.ca_pem + between + others

    @property
    def mqtt_websocket_url(self) -> str:
        """MQTT over WebSocket, on the API port."""
        return f"wss://{self.domain}/mqtt"

    def wss_for(self, hub_id: str) -> str:
        """Return the WebSocket address of one hub."""
        return f"wss://{self.domain}/hubs/{hub_id}"

    def https_for(self, hub_id: str) -> str:
        """Return the HTTPS data-plane address of one hub."""
        return f"https://{self.domain}/hubs/{hub_id}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host
