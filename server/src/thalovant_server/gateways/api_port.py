# SPDX-License-Identifier: Apache-2.0
"""The one TLS port: the control plane under `/v1`, the hubs' WSS and HTTPS roads (architecture decision 13), and MQTT
over WebSocket at `/mqtt`.

It listens, counts its sockets, sends each request to its application, and drains at the end. The HTTPS road is served
beside uvicorn's ASGI: a `Call` costs no task.

It will not know what is behind `/v1`, nor log a request line; how a socket is read is `api_protocol`'s.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import structlog
import uvicorn
from uvicorn.server import ServerState

from thalovant_server.gateways.api_protocol import ApiProtocol
from thalovant_server.gateways.asgi import AsgiApp, Receive, Scope, Send, answer, answer_problem
from thalovant_server.gateways.https import HttpsGateway
from thalovant_server.gateways.listener import ContextFor, Listener, bind
from thalovant_server.gateways.mqtt.websocket import PATH as MQTT
from thalovant_server.gateways.mqtt.websocket import MqttWebSocket
from thalovant_server.gateways.wss import WssGateway
from thalovant_server.hub import refusal

if TYPE_CHECKING:
    from thalovant_server.gateways.call import Call
    from thalovant_server.gateways.mqtt.endpoint import MqttGateway
    from thalovant_server.hub.limits import Limits
    from thalovant_server.hub.refusal import Refusal

log = structlog.get_logger("thalovant.api")

CONTROL = "/v1/"
NOWHERE = "Nothing is served here: the API is below /v1, a hub's data plane below /hubs/<hub-id>."
ONLY_MQTT = "This is MQTT over WebSocket: connect with an MQTT client to wss://…/mqtt, not with a plain request."
# uvicorn has a line for each of these, as often as a stranger likes; `refused` tells the first instead.
UVICORN_SAYS = "Invalid HTTP request received."
# A client that takes nothing of its answer for so long is gone; it would hold a socket and an answer for ever.
STALL_SECONDS = 30.0
# How long HTTPS pollers may take to fetch the last frames when the server goes down.
LAST_POLL_SECONDS = 1.0


class ApiPort:
    """One listening socket for four things. `start`, then `port`; `close` when done.

    The MQTT connections on it are the MQTT gateway's to end, like those on its own port.
    """

    def __init__(
        self,
        *,
        control: AsgiApp,
        https: HttpsGateway,
        wss: WssGateway,
        mqtt: MqttGateway,
        limits: Limits,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._control = control
        self._https = https
        self._wss = wss
        self._mqtt = mqtt
        self.limits = limits
        self.stall_seconds = stall_seconds
        self.state = ServerState()
        self.sockets = 0
        self._config = _config(self._dispatch, limits)
        self._listener: Listener | None = None
        self._port: int | None = None
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int, context_for: ContextFor) -> None:
        """Listen, with the TLS context that ``context_for`` has for the address dialled. Port 0 takes a free one.

        Raises:
            OSError: the address cannot be used.
        """
        self._listener = Listener(
            await bind(host, port),
            lambda: ApiProtocol(self, self._config, self.state),
            context_for,
            handshake_seconds=self.limits.tls_seconds,
            linger_seconds=self.limits.linger_seconds,  # an idle client does not answer
        )
        self._port = self._listener.port
        self._listener.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._port is None:
            raise RuntimeError("the API port is not open")
        return self._port

    def stop_accepting(self) -> None:
        """Take no new connections; the open ones go on."""
        if self._listener is not None:
            self._listener.close()

    async def close(self, seconds: float) -> None:
        """Stop accepting, let requests under way end for so long, then end what is left."""
        self.stop_accepting()
        if self._listener is not None:
            await self._listener.wait_closed()
        until = asyncio.get_running_loop().time() + seconds
        await self._https.drain(min(seconds, LAST_POLL_SECONDS))
        self._wss.close_all(refusal.RESTARTING)
        for protocol in list(self.state.connections):
            cast("ApiProtocol", protocol).shutdown()
        await self._emptied(until)
        for task in self.state.tasks:
            task.cancel()
        for protocol in list(self.state.connections):
            cast("ApiProtocol", protocol).transport.abort()
        self._wss.abort_all()
        self._https.close()
        await self._emptied(asyncio.get_running_loop().time() + 1.0)

    def refused(self, why: Refusal, remote: str) -> None:
        """A socket was refused before it was known what it is for."""
        self._wss.hub.denials.refused(why, "api", remote)

    def opened(self) -> bool:
        """Count a socket; False when there are too many."""
        self.sockets += 1
        self._empty.clear()
        return self.sockets <= self.limits.connections

    def lost(self) -> None:
        """Count one less."""
        self.sockets -= 1
        if self.sockets == 0:
            self._empty.set()

    def serve(self, call: Call) -> None:
        """Have a call of the HTTPS road served."""
        try:
            self._https.serve(call)
        except Exception:
            log.exception("call_failed", name=call.name)
            call.answer_json(500, {"error": "The server failed"})

    def upgrade(self, path: str) -> asyncio.Protocol:
        """The protocol of a socket that asked for a WebSocket there."""
        return MqttWebSocket(self._mqtt, self.lost) if path == MQTT else self._wss.protocol(self.lost)

    async def _emptied(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                while self.sockets:
                    await self._empty.wait()
                    self._empty.clear()
        except TimeoutError:
            pass

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(CONTROL):
            await self._control(scope, receive, send)
        elif path == "/healthz":
            await answer(send, 204)
        elif path == MQTT:
            await answer_problem(send, 426, ONLY_MQTT, "upgrade_required", ((b"upgrade", b"websocket"),))
        else:
            await answer_problem(send, 404, NOWHERE, "not_found")


def _worth_a_line(record: logging.LogRecord) -> bool:
    return record.msg != UVICORN_SAYS


def _config(app: AsgiApp, limits: Limits) -> uvicorn.Config:
    config = uvicorn.Config(
        cast("Any", app),
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(limits.keep_alive_seconds),
    )
    config.load()
    logging.getLogger("uvicorn.error").addFilter(_worth_a_line)
    # Only its presence counts: `ApiProtocol.handle_websocket_upgrade` hands the socket over itself.
    config.ws_protocol_class = asyncio.Protocol
    return config
