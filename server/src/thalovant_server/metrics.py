# SPDX-License-Identifier: Apache-2.0
"""The server in numbers, as Prometheus reads them. No label names a client, a hub or an account.

Everything is counted where it happens; a scrape reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from thalovant_server.broker_report import STATES, BrokerReport

if TYPE_CHECKING:
    from thalovant_server.daily_usage import DailyUsage
    from thalovant_server.directory import Directory
    from thalovant_server.hub.presence_watch import PresenceWatch

CARRIERS = ("mqtt", "wss", "https")


class Sessions(Protocol):
    """Counts sessions: `hub.hub.Hub`."""

    def sessions(self) -> Counter[tuple[str, bool]]:
        """How many there are of each carrier, ready or not."""

    @property
    def asks_running(self) -> int:
        """Asks whose agent is at work."""


class Metrics(Collector):
    """What one server tells.

    Args:
        version: of the server.
        hub: every session.
        directory: every hub.
        presence: who is online.
        usage: counts asks.
        broker: how it is with the outside broker; returns None where there is none.
    """

    def __init__(
        self,
        version: str,
        hub: Sessions,
        directory: Directory,
        presence: PresenceWatch,
        usage: DailyUsage,
        broker: Callable[[], BrokerReport | None],
    ) -> None:
        self._version, self._hub, self._directory = version, hub, directory
        self._presence, self._usage, self._broker = presence, usage, broker
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format, 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: the registry need not collect once to learn names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read everything (prometheus_client calls it)."""
        yield InfoMetricFamily("thalovant_server", "The server.", {"version": self._version})
        yield from self._of_hubs()
        broker = self._broker()
        if broker is not None:
            yield from _of_broker(broker)

    def _of_hubs(self) -> Iterator[Metric]:
        counted = self._hub.sessions()
        sessions = GaugeMetricFamily(
            "thalovant_sessions", "Sessions by carrier; not ready: still in the handshake.", labels=["carrier", "ready"]
        )
        for carrier in CARRIERS:
            for ready in (True, False):
                sessions.add_metric([carrier, str(ready).lower()], counted[carrier, ready])
        yield sessions
        online = sum(each.state == "online" for each in self._presence.live())
        yield GaugeMetricFamily("thalovant_clients_online", "Clients that are online.", online)
        yield GaugeMetricFamily("thalovant_hubs", "Hubs.", len(self._directory.hubs()))
        yield GaugeMetricFamily("thalovant_asks_running", "Asks whose agent is at work.", self._hub.asks_running)
        yield CounterMetricFamily("thalovant_asks", "Asks taken since the start.", self._usage.total)


def _of_broker(broker: BrokerReport) -> Iterator[Metric]:
    link, accounts, health = broker.link(), broker.accounts(), broker.health()
    up = int(link.standing == "connected")
    yield GaugeMetricFamily("thalovant_broker_up", "Whether the hubs are connected to the outside broker.", up)
    state = GaugeMetricFamily("thalovant_broker_state", "In words: 1 for the one that is so.", labels=["state"])
    for each in STATES:
        state.add_metric([each], int(health.state == each))
    yield state
    yield CounterMetricFamily("thalovant_broker_reconnects", "How often the connection came back.", link.reconnects)
    yield GaugeMetricFamily("thalovant_broker_sessions", "Sessions of clients behind the broker.", link.sessions)
    yield GaugeMetricFamily("thalovant_broker_accounts_wished", "Accounts it shall have.", accounts.wished)
    yield GaugeMetricFamily("thalovant_broker_accounts", "Accounts it has.", accounts.accounts)
    yield GaugeMetricFamily("thalovant_broker_accounts_refused", "Accounts it would not take.", accounts.refused)
    yield GaugeMetricFamily("thalovant_broker_changes_queued", "Changes to be told to it.", accounts.queued)
    yield CounterMetricFamily("thalovant_broker_repairs", "Accounts put right again.", accounts.repaired)
    if broker.child is not None:
        restarts = broker.child().restarts
        yield CounterMetricFamily("thalovant_broker_restarts", "How often our own broker was started again.", restarts)
