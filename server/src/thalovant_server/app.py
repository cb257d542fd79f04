# SPDX-License-Identifier: Apache-2.0
"""The one place that composes the server: start its parts in order, say that it is ready, end them in reverse.

It holds no logic of its own; what can go wrong is an error of the part that it goes wrong in.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from pathlib import Path

import structlog
import uvloop

from thalovant.protocol.noise import stretch
from thalovant_server import __version__, announcement, certificates, data_directory, logs
from thalovant_server.agents.catalog import Catalog
from thalovant_server.bootstrap import ADMIN_EMAIL, ensure_first_start
from thalovant_server.control.app import create_app
from thalovant_server.control.passwords import PasswordHasher
from thalovant_server.control.services import Services
from thalovant_server.data_directory import DataDirectory
from thalovant_server.descriptors import connections_per_port
from thalovant_server.directory import Directory
from thalovant_server.directory_loading import open_directory
from thalovant_server.endpoints import Endpoints
from thalovant_server.errors import SettingsError
from thalovant_server.gateways.api_port import ApiPort
from thalovant_server.gateways.https import HttpsGateway
from thalovant_server.gateways.mqtt.endpoint import MqttGateway
from thalovant_server.gateways.wss import WssGateway
from thalovant_server.hub.hub import Hub
from thalovant_server.hub.limits import Limits
from thalovant_server.ready_file import ReadyFile
from thalovant_server.settings import Settings
from thalovant_server.shutdown import Drain, Shutdown
from thalovant_server.store.database import Database
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.server_row import ServerIdentity

log = structlog.get_logger("thalovant.server")

CLOSE_SECONDS = 2.0  # for peers that do not answer a close; what was due to them is written before that


def serve(settings: Settings) -> None:
    """Run the server until it is asked to stop.

    Raises:
        ThalovantServerError: it could not start; the sentence says why and what to do.
    """
    logs.configure()
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    shutdown = Shutdown(settings.drain_seconds)
    shutdown.listen_to_signals()
    try:
        ready_file = ReadyFile(settings.ready_file)
        ready = await Server(settings, shutdown, ready_file).start()
        shutdown.at_end("ready file", lambda _: asyncio.to_thread(ready_file.withdraw))
        ready_file.publish(ready)
        announcement.say(settings, ready)
        await shutdown.wait()
        log.info("stopping", drain_seconds=settings.drain_seconds)
    finally:
        await shutdown.run()
    log.info("stopped")


class Server:
    """The parts of one server and the order in which they start; `shutdown` learns how each of them ends."""

    def __init__(self, settings: Settings, shutdown: Shutdown, ready_file: ReadyFile) -> None:
        self._settings = settings
        self._shutdown = shutdown
        self._ready_file = ready_file

    async def start(self) -> dict[str, str]:
        """Start everything; return how the server is reached, as the ready file has it."""
        catalog = self._open_catalog()
        data = self._open_data()
        self._ready_file.withdraw()  # not before the directory is ours: it may be a running server's
        authority = data.authority(self._settings.public_hosts)
        tls = _server_tls(*data.server_certificate(authority, self._settings.public_hosts))
        data.bundle(authority)
        hasher = PasswordHasher()
        database, identity = await self._open_database(data, hasher)
        directory = await open_directory(database, node_id=identity.node_id, stretch=stretch)
        _warn_of_absent_agents(directory, catalog)
        hub = Hub(
            directory,
            catalog,
            static_private=identity.static_private,
            node_id=identity.node_id,
            version=__version__,
            limits=Limits(connections=connections_per_port(Limits().connections)),
        )
        endpoints = Endpoints(self._settings.advertised_host, 0, 0, authority.certificate)
        services = Services(database, directory, endpoints, catalog.names, __version__, hasher=hasher)
        services.start()
        self._shutdown.at_end("control plane", lambda _: services.stop())
        await self._open_ports(hub, directory, services, tls)
        data.finish_first_start()
        return _ready(data, directory, services.endpoints)

    def _open_catalog(self) -> Catalog:
        catalog = Catalog.from_options(self._settings.agents)
        self._shutdown.at_end("agents", lambda _: catalog.close())
        return catalog

    def _open_data(self) -> DataDirectory:
        data = DataDirectory(self._settings.data)

        async def close(_: Drain) -> None:
            data.close()

        self._shutdown.at_end("data directory", close)
        return data

    async def _open_database(self, data: DataDirectory, hasher: PasswordHasher) -> tuple[Database, ServerIdentity]:
        seal_key, password = data.seal_key(), data.admin_password()
        sealer = Sealer(seal_key, data.file(data_directory.SEAL_KEY))
        database = await Database.open(data.file(data_directory.DATABASE), sealer, create=data.is_new)
        self._shutdown.at_end("database", lambda _: database.close())
        first = await ensure_first_start(database, admin_password=lambda: password, hasher=hasher)
        return database, first.server

    async def _open_ports(self, hub: Hub, directory: Directory, services: Services, tls: ssl.SSLContext) -> None:
        """Bind both ports, learn their numbers, and only then let clients in."""
        settings, mqtt = self._settings, MqttGateway(hub, directory)
        https, wss = HttpsGateway(hub), WssGateway(hub)
        api = ApiPort(control=create_app(services), https=https, wss=wss, mqtt=mqtt, limits=hub.limits)
        with _PortFault("--mqtt-port", settings.listen_host, settings.mqtt_port):
            mqtt_server = await asyncio.get_running_loop().create_server(
                mqtt.protocol,
                settings.listen_host,
                settings.mqtt_port,
                ssl=tls,
                ssl_handshake_timeout=hub.limits.tls_seconds,
                backlog=1024,
                start_serving=False,
            )
        self._shutdown.at_end("connections", lambda drain: _end_connections(drain, hub, mqtt, mqtt_server, api))
        mqtt_port = mqtt_server.sockets[0].getsockname()[1]
        with _PortFault("--api-port", settings.listen_host, settings.api_port):
            await api.start(settings.listen_host, settings.api_port, tls)
        # The API accepts by now, but nobody is through a TLS handshake yet: the loop has not turned since.
        services.endpoints = Endpoints(settings.advertised_host, api.port, mqtt_port, services.endpoints.ca_pem)
        await mqtt_server.start_serving()


async def _end_connections(
    drain: Drain, hub: Hub, mqtt: MqttGateway, mqtt_server: asyncio.AbstractServer, api: ApiPort
) -> None:
    """Stop accepting, let asks under way end, then close what is open."""
    mqtt_server.close()
    api.stop_accepting()
    await hub.stop(drain.seconds, drain.hurry)
    await asyncio.gather(mqtt.close(CLOSE_SECONDS), api.close(CLOSE_SECONDS))


class _PortFault:
    """Turns the fault of binding a port into an error that names the option."""

    def __init__(self, option: str, host: str, port: int) -> None:
        self._option, self._address = option, f"port {port} of {host}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise SettingsError(
            f"Cannot listen on {self._address}: {why}. Stop that program, or choose another port with {self._option}"
        ) from error


def _server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _warn_of_absent_agents(directory: Directory, catalog: Catalog) -> None:
    """A hub may name an agent that this start does not declare: its clients are refused until somebody mends that."""
    for hub in directory.hubs():
        if catalog.get(hub.agent) is None:
            mend = (
                f"start with --agent {hub.agent}=python:MODULE:FUNCTION, or: thalovant hubs set {hub.slug} --no-agent"
            )
            log.warning("hub_names_an_absent_agent", hub=hub.slug, agent=hub.agent, mend=mend)


def _ready(data: DataDirectory, directory: Directory, endpoints: Endpoints) -> dict[str, str]:
    hub = directory.default_hub()
    addresses = {"api_url": endpoints.api_url, "mqtt_endpoint": endpoints.mqtt_url}
    addresses |= {"mqtt_websocket_endpoint": endpoints.mqtt_websocket_url}
    if hub is not None:
        addresses |= {"wss_endpoint": endpoints.wss_for(hub.id), "https_endpoint": endpoints.https_for(hub.id)}
        addresses |= {"hub_id": hub.id, "hub_slug": hub.slug}
    return {
        **addresses,
        "ca_file": str(data.file(data_directory.AUTHORITY_CERTIFICATE)),
        "ca_fingerprint": certificates.fingerprint(endpoints.ca_pem),
        "ca_bundle": str(data.file(data_directory.BUNDLE)),
        "admin_email": ADMIN_EMAIL,
        "admin_password_file": str(data.file(data_directory.ADMIN_PASSWORD)),
    }
