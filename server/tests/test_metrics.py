# SPDX-License-Identifier: Apache-2.0
"""The server in numbers: each is the one of where it is counted, and no label says who."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from thalovant_server.broker_report import BrokerReport
from thalovant_server.daily_usage import DailyUsage
from thalovant_server.metrics import Metrics

LABELS = {"carrier", "ready", "state", "version"}


@dataclass
class World:
    """Where things are counted."""

    counted: Counter[tuple[str, bool]] = field(default_factory=Counter)
    asks_running: int = 0
    online: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    usage: DailyUsage = field(default_factory=DailyUsage)
    broker: BrokerReport | None = None

    def sessions(self) -> Counter[tuple[str, bool]]:
        return self.counted

    def live(self) -> list[Any]:
        return [type("Presence", (), {"state": state})() for state in self.online]

    def hubs(self) -> list[str]:
        return self.named

    def read(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of a scrape, by name and labels."""
        whole: Any = self
        text = Metrics("1.2.3", whole, whole, whole, self.usage, lambda: self.broker).text().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        assert {name for sample in samples for name in sample.labels} <= LABELS
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def test_sessions_are_told_by_carrier_also_where_there_is_none() -> None:
    world = World(counted=Counter({("mqtt", True): 3, ("mqtt", False): 1, ("wss", True): 2}))
    read = world.read()
    assert read["thalovant_sessions", (("carrier", "mqtt"), ("ready", "true"))] == 3
    assert read["thalovant_sessions", (("carrier", "mqtt"), ("ready", "false"))] == 1
    assert read["thalovant_sessions", (("carrier", "wss"), ("ready", "true"))] == 2
    assert read["thalovant_sessions", (("carrier", "https"), ("ready", "true"))] == 0


def test_hubs_clients_and_asks_are_counted() -> None:
    world = World(asks_running=4, online=["online", "stale", "online"], named=["a", "b", "c"])
    for client in ("lamp", "lamp", "radio"):
        world.usage.count(client)
    read = world.read()
    assert read["thalovant_hubs", ()] == 3 and read["thalovant_clients_online", ()] == 2
    assert read["thalovant_asks_total", ()] == 3 and read["thalovant_asks_running", ()] == 4
    assert read["thalovant_server_info", (("version", "1.2.3"),)] == 1


def test_the_process_itself_is_told() -> None:
    read = World().read()
    assert read["process_resident_memory_bytes", ()] > 1_000_000 and read["process_open_fds", ()] > 0


def test_without_a_broker_nothing_is_told_of_one() -> None:
    assert not [name for name, _ in World().read() if "broker" in name]


@pytest.mark.parametrize("standing", ["connected", "away", "refused", "another_server"])
def test_the_broker_is_told_in_numbers(standing: str) -> None:
    state = {"standing": standing, "since": 1, "fault": "", "reconnects": 5, "sessions": 6}
    accounts = {"fault": "", "wished": 8, "accounts": 7, "refused": 3, "queued": 1, "repaired": 2}
    child = {"fault": "", "restarts": 9}
    said: Any = [lambda made=made: type("State", (), made)() for made in (state, accounts, child)]
    read = World(broker=BrokerReport(*said)).read()
    assert read["thalovant_broker_up", ()] == (standing == "connected")
    assert [
        dict(labels)["state"] for (name, labels), on in read.items() if name == "thalovant_broker_state" and on
    ] == [standing]
    names = (
        "reconnects_total", "sessions", "accounts_wished", "accounts", "accounts_refused", "changes_queued",
        "repairs_total", "restarts_total",
    )  # fmt: skip
    assert [read[f"thalovant_broker_{name}", ()] for name in names] == [5, 6, 8, 7, 3, 1, 2, 9]
    assert ("thalovant_broker_restarts_total", ()) not in World(broker=BrokerReport(*said[:2])).read()
