# SPDX-License-Identifier: Apache-2.0
"""The one place that composes the server: start its parts in order, say that it is ready, end them in reverse.

It holds no logic of its own; what can go wrong is an error of the part that it goes wrong in.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
import uvloop

from thalovant.protocol.noise import stretch
from thalovant_server import __version__, announcement, certificates, data_directory, logs
from thalovant_server.agents.catalog import Catalog
from thalovant_server.bootstrap import ADMIN_EMAIL, ensure_first_start
from thalovant_server.broker_report import BrokerReport
from thalovant_server.brokers.mosquitto_child import MosquittoChild, site_of, wanted_of
from thalovant_server.brokers.mosquitto_installed import find_installed
from thalovant_server.brokers.site import BrokerSite, joined
from thalovant_server.certificate_files import AUTHORITY_CERTIFICATE, BUNDLE
from thalovant_server.certificate_keeper import CertificateKeeper, say_notes, utc_now
from thalovant_server.certificate_source import BroughtFiles, CertificateSource, Served
from thalovant_server.control.app import create_app
from thalovant_server.control.passwords import PasswordHasher
from thalovant_server.control.services import Services
from thalovant_server.daily_usage import DailyUsage
from thalovant_server.data_directory import DataDirectory
from thalovant_server.denials import Denials
from thalovant_server.descriptors import connections_per_port
from thalovant_server.directory import Directory, Stretch
from thalovant_server.directory_loading import open_directory
from thalovant_server.endpoints import Endpoints
from thalovant_server.errors import SettingsError
from thalovant_server.gateways.api_port import ApiPort
from thalovant_server.gateways.https import HttpsGateway
from thalovant_server.gateways.listener import Listener, bind
from thalovant_server.gateways.mqtt.endpoint import MqttGateway
from thalovant_server.gateways.wss import WssGateway
from thalovant_server.hang_up import Terminal
from thalovant_server.hub.clock import LoopClock
from thalovant_server.hub.hub import Hub
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.presence_watch import PresenceWatch
from thalovant_server.memory import MemoryKeeper
from thalovant_server.metrics import Metrics
from thalovant_server.outside_broker import OutsideBroker
from thalovant_server.presence_keeper import PresenceKeeper
from thalovant_server.ready_file import ReadyFile
from thalovant_server.server_tls import ServerTls
from thalovant_server.service_manager import ServiceManager
from thalovant_server.settings import Settings
from thalovant_server.shutdown import Drain, Shutdown
from thalovant_server.store.credentials import CredentialKeeper
from thalovant_server.store.database import Database
from thalovant_server.store.sealing import Sealer
from thalovant_server.store.server_row import ServerIdentity
from thalovant_server.unmet_wishes import warn_of_unmet_wishes
from thalovant_server.usage_keeper import UsageKeeper
from thalovant_server.wall_clock import Clock, now

log = structlog.get_logger("thalovant.server")

BROKER_FOLDER = "broker"  # of the data directory: the files of the Mosquitto that is our own
CLOSE_SECONDS = 2.0  # for peers that do not answer a close; what was due to them is written before that


def serve(settings: Settings) -> None:
    """Run the server until it is asked to stop.

    Raises:
        ThalovantServerError: it could not start; the sentence says why and what to do.
    """
    logs.configure()
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    shutdown, manager, terminal = Shutdown(settings.drain_seconds), ServiceManager(os.environ), Terminal()
    shutdown.listen_to_signals()
    try:
        ready_file = ReadyFile(settings.ready_file)
        server = Server(settings, shutdown, ready_file)
        ready = await server.start()
        shutdown.at_end("ready file", lambda _: asyncio.to_thread(ready_file.withdraw))
        ready_file.publish(ready)
        announcement.say(settings, ready, server.broker_fault)
        say_ready = partial(manager.ready, f"Serving {ready['api_url']}")

        def hang_up() -> None:
            if terminal.is_gone():
                shutdown.request()
            else:
                manager.reloading()
                server.reload(say_ready)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
        say_ready()
        await shutdown.wait()
        manager.stopping()
        log.info("stopping", drain_seconds=settings.drain_seconds)
    finally:
        await shutdown.run()
    log.info("stopped")


class Server:
    """The parts of one server and the order in which they start; `shutdown` learns how each of them ends.

    Tests bring another `stretch` (decision 7), a `clock` that they move, and `limits`.
    """

    def __init__(
        self,
        settings: Settings,
        shutdown: Shutdown,
        ready_file: ReadyFile,
        *,
        stretch: Stretch = stretch,
        clock: Clock = now,
        limits: Limits = Limits(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self._settings = settings
        self._shutdown = shutdown
        self._ready_file = ready_file
        self._stretch = stretch
        self._clock = clock
        self._limits = limits
        self._child: MosquittoChild | None = None
        self._outside: OutsideBroker | None = None

    async def start(self) -> dict[str, str]:
        """Start everything; return how the server is reached, as the ready file has it."""
        catalog = self._open_catalog()
        data = self._open_data()
        self._ready_file.withdraw()  # not before the directory is ours: it may be a running server's
        site = await self._open_broker(data)
        source = CertificateSource(
            data.certificates, self._settings.public_host, _brought(self._settings), site.ca_file if site else None
        )
        stamp = await asyncio.to_thread(source.stamp)
        served = await asyncio.to_thread(source.load, utc_now())
        say_notes(served)
        hasher = PasswordHasher()
        database, identity = await self._open_database(data, hasher)
        directory = await open_directory(database, node_id=identity.node_id, stretch=self._stretch, clock=self._clock)
        warn_of_unmet_wishes(
            directory,
            has_agent=lambda name: catalog.get(name) is not None,
            root=self._settings.broker_root if self._settings.has_broker else None,
        )
        usage = DailyUsage(self._clock)
        await self._keep_written("usage keeper", UsageKeeper(usage, database))
        limits = self._limits
        presence = PresenceWatch(directory, LoopClock(), self._clock, look_seconds=limits.presence_look_seconds)
        await self._keep_written("presence keeper", PresenceKeeper(presence, database))
        endpoints = Endpoints(
            self._settings.advertised_host, 0, 0, served.handed_out,
            broker_url=site.public_url if site else "",
            broker_root=self._settings.broker_root, broker_ca=served.broker_authority,
        )  # fmt: skip
        services = Services(
            database,
            directory,
            endpoints,
            catalog.names,
            __version__,
            presence,
            hasher=hasher,
            clock=self._clock,
            usage=usage,
        )
        hub = Hub(
            directory,
            catalog,
            static_private=identity.static_private,
            node_id=identity.node_id,
            version=__version__,
            limits=replace(limits, connections=connections_per_port(limits.connections)),
            presence=presence,
            usage=usage,
            uses=services.uses,
            denials=Denials(LoopClock(), services.denied.put),
        )
        services.metrics = Metrics(__version__, hub, directory, presence, usage, lambda: services.broker).text
        for access_key, address in await services.uses.places():  # nobody is shut out there by what strangers fail
            hub.proven(access_key, address)
        services.start()
        self._shutdown.at_end("control plane", lambda _: services.stop())
        self._outside = None if site is None else await self._join_broker(site, hub, directory, services)
        tls = ServerTls(served.table)
        await self._open_ports(hub, directory, services, tls, self._outside)
        data.finish_first_start()

        def use(served: Served) -> None:
            tls.replace(served.table)
            services.endpoints = replace(
                services.endpoints, ca_pem=served.handed_out, broker_ca=served.broker_authority
            )
            self._ready_file.publish(_ready(self._settings, data, directory, services.endpoints))

        self._keeper = CertificateKeeper(source, served, stamp, use)
        self._keep("certificate keeper", self._keeper.run())
        self._keep("memory keeper", MemoryKeeper().run())
        return _ready(self._settings, data, directory, services.endpoints)

    @property
    def broker_fault(self) -> str:
        """Why the hubs are not at the outside broker just now, as the rest of a sentence about it; "" when they are."""
        return "" if self._outside is None else self._outside.link.state.fault

    def reload(self, done: Callable[[], None]) -> None:
        """Read the certificates again; `done` is called when that is over, well or not. Only after `start`."""
        if self._child is not None:
            self._child.look()
        self._keeper.reload(done)

    def _keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Have something kept in order until the end."""
        task = asyncio.create_task(work, name=name.replace(" ", "-"))

        async def end(_: Drain) -> None:
            task.cancel()
            await asyncio.wait([task])

        self._shutdown.at_end(name, end)

    async def _keep_written(self, name: str, keeper: UsageKeeper | PresenceKeeper) -> None:
        """Read what was kept, and write it until the end, which is after the last session and ask."""
        await keeper.load()
        task = asyncio.create_task(keeper.run(), name=name.replace(" ", "-"))

        async def end(_: Drain) -> None:
            task.cancel()
            await asyncio.wait([task])
            await keeper.write()

        self._shutdown.at_end(name, end)

    def _open_catalog(self) -> Catalog:
        catalog = Catalog.from_options(self._settings.agent)
        self._shutdown.at_end("agents", lambda _: catalog.close())
        return catalog

    def _open_data(self) -> DataDirectory:
        data = DataDirectory(self._settings.data)

        async def close(_: Drain) -> None:
            data.close()

        self._shutdown.at_end("data directory", close)
        return data

    async def _open_broker(self, data: DataDirectory) -> BrokerSite | None:
        """Start the broker that is our own, or say where the other one is."""
        settings = self._settings
        if settings.broker is None:
            return None if settings.broker_url is None else joined(settings)
        wanted = wanted_of(settings, data.file(BROKER_FOLDER))
        child = MosquittoChild(wanted, await asyncio.to_thread(find_installed))
        await child.start()
        self._shutdown.at_end("broker", lambda _: child.stop())
        self._child = child
        return site_of(settings, wanted, child.port)

    async def _join_broker(self, site: BrokerSite, hub: Hub, directory: Directory, services: Services) -> OutsideBroker:
        """Meet clients at the broker, and tell it who may connect there."""
        child, passwords = self._child, CredentialKeeper(services.database).mqtt_password
        outside = await OutsideBroker.open(
            site, hub, directory, passwords, services.operations.told,
            check_seconds=self._settings.broker_check_seconds, is_ours=child is not None,
        )  # fmt: skip
        self._shutdown.at_end("outside broker", lambda _: outside.stop())
        await outside.start()
        services.admission = outside.accounts
        services.broker = BrokerReport(
            lambda: outside.link.state, lambda: outside.accounts.state, None if child is None else lambda: child.state
        )
        return outside

    async def _open_database(self, data: DataDirectory, hasher: PasswordHasher) -> tuple[Database, ServerIdentity]:
        seal_key, password = data.seal_key(), data.admin_password()
        sealer = Sealer(seal_key, data.file(data_directory.SEAL_KEY))
        database = await Database.open(data.file(data_directory.DATABASE), sealer, create=data.is_new)
        self._shutdown.at_end("database", lambda _: database.close())
        first = await ensure_first_start(
            database,
            admin_password=lambda: password,
            hasher=hasher,
            mqtt_via="link" if self._settings.has_broker else "embedded",
        )
        return database, first.server

    async def _open_ports(
        self, hub: Hub, directory: Directory, services: Services, tls: ServerTls, outside: OutsideBroker | None
    ) -> None:
        """Bind both ports, learn their numbers, and only then let clients in."""
        settings, mqtt = self._settings, MqttGateway(hub, directory)
        https, wss = HttpsGateway(hub), WssGateway(hub)
        api = ApiPort(control=create_app(services), https=https, wss=wss, mqtt=mqtt, limits=hub.limits)
        with _PortFault("--mqtt-port", settings.listen_host, settings.mqtt_port):
            mqtt_sockets = await bind(settings.listen_host, settings.mqtt_port)
        mqtt_port = Listener(mqtt_sockets, mqtt.protocol, tls.context_for, handshake_seconds=hub.limits.tls_seconds)
        self._shutdown.at_end("connections", lambda drain: _end_connections(drain, hub, mqtt, mqtt_port, api, outside))
        with _PortFault("--api-port", settings.listen_host, settings.api_port):
            await api.start(settings.listen_host, settings.api_port, tls.context_for)
        # The API accepts by now, but nobody is through a TLS handshake yet: the loop has not turned since.
        services.endpoints = replace(services.endpoints, api_port=api.port, mqtt_port=mqtt_port.port)
        mqtt_port.start()


async def _end_connections(
    drain: Drain, hub: Hub, mqtt: MqttGateway, mqtt_port: Listener, api: ApiPort, outside: OutsideBroker | None
) -> None:
    """Stop accepting, let asks under way end, then close what is open."""
    mqtt_port.close()
    api.stop_accepting()
    await mqtt_port.wait_closed()
    await hub.stop(drain.seconds, drain.hurry)
    ends = [mqtt.close(CLOSE_SECONDS), api.close(CLOSE_SECONDS)]
    if outside is not None:
        ends.append(outside.link.stop(CLOSE_SECONDS))
    await asyncio.gather(*ends)
    hub.denials.close()  # the last ones come while connections close


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


def _brought(settings: Settings) -> BroughtFiles | None:
    if settings.certificate is None or settings.certificate_key is None:
        return None
    return BroughtFiles(settings.certificate, settings.certificate_key, settings.certificate_authority)


def _ready(settings: Settings, data: DataDirectory, directory: Directory, endpoints: Endpoints) -> dict[str, str]:
    """How the server is reached, as the ready file has it."""
    hub = directory.default_hub()
    addresses = {"api_url": endpoints.api_url, "mqtt_endpoint": endpoints.mqtt_url}
    addresses |= {"mqtt_websocket_endpoint": endpoints.mqtt_websocket_url}
    if hub is not None:
        addresses |= {"wss_endpoint": endpoints.wss_for(hub.id), "https_endpoint": endpoints.https_for(hub.id)}
        addresses |= {"hub_id": hub.id, "hub_slug": hub.slug}
    if endpoints.broker_url:
        addresses |= {"broker_endpoint": endpoints.broker_url}
    if settings.broker is not None:
        addresses |= {"broker_folder": str(data.file(BROKER_FOLDER))}
    if endpoints.ca_pem:
        own = data.file(AUTHORITY_CERTIFICATE)
        addresses |= {"ca_file": str((settings.certificate_authority or own).absolute())}
        addresses |= {"ca_fingerprint": certificates.fingerprint(endpoints.ca_pem)}
    return {
        **addresses,
        "ca_bundle": str(data.file(BUNDLE)),
        "admin_email": ADMIN_EMAIL,
        "admin_password_file": str(data.file(data_directory.ADMIN_PASSWORD)),
    }
