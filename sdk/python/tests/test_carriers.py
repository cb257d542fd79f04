# SPDX-License-Identifier: Apache-2.0
"""Which carriers a client gets, which are left out and why, and which lists make no sense."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thalovant.carriers import carriers_for
from thalovant.client import AsyncThalovantClient
from thalovant.errors import ThalovantConnectionError, ThalovantUnsupportedProtocolError
from thalovant.identity import ThalovantIdentity
from thalovant.sync_client import ThalovantClient

ALL: Any = ("mqtt", "wss", "https")
VALUES: dict[str, Any] = {
    "access_key": "key",
    "password": "password",
    "site_id": "kitchen",
    "default_master": "https://hub.example",
    "data_plane_endpoints": {"wss": "wss://hub.example:8443", "https": "https://hub.example:8443"},
    "mqtt": {"endpoint": "mqtts://hub.example", "username": "u", "password": "broker-secret", "topic_prefix": "a/b"},
}
OPTIONS = {"useragent": "app/1", "connect_timeout": 4.0, "send_timeout": 8.0, "self_signed": False}


def identity(**changes: Any) -> ThalovantIdentity:
    return ThalovantIdentity.from_mapping(VALUES | changes)


def chosen(who: ThalovantIdentity, *protocols: Any) -> tuple[list[str], dict[str, str]]:
    found, left_out = carriers_for(who, None, protocols, None, **OPTIONS)
    return [carrier.protocol for carrier in found], dict(left_out)


def test_they_come_in_the_order_that_was_asked_for() -> None:
    for order in (ALL, ("https", "mqtt"), ("wss",)):
        assert chosen(identity(), *order) == (list(order), {})


def test_any_sequence_will_do() -> None:
    found, _ = carriers_for(identity(), None, ["wss", "mqtt"], None, **OPTIONS)
    assert [carrier.protocol for carrier in found] == ["wss", "mqtt"]


@pytest.mark.parametrize(
    ("changes", "missing", "reason"),
    [
        ({"mqtt": None}, "mqtt", "no MQTT credentials"),
        ({"mqtt": VALUES["mqtt"] | {"endpoint": "mqtt://hub.example"}}, "mqtt", "not TLS"),
        ({"mqtt": VALUES["mqtt"] | {"topic_prefix": None}}, "mqtt", "topic"),
        ({"data_plane_endpoints": {"https": "https://hub.example:8443"}}, "wss", "no WSS address"),
        ({"data_plane_endpoints": {"wss": "ws://hub.example:80", "https": "https://h"}}, "wss", "in the clear"),
        ({"data_plane_endpoints": {"wss": "wss://hub.example:8443"}}, "https", "none is for HTTPS"),
    ],
)
def test_a_road_that_the_identity_cannot_use_is_left_out_and_said_why(
    changes: dict[str, Any], missing: str, reason: str
) -> None:
    found, left_out = chosen(identity(**changes), *ALL)
    assert found == [road for road in ALL if road != missing]
    assert left_out.keys() == {missing} and reason in left_out[missing]
    assert "secret" not in str(left_out)


def test_an_identity_that_names_no_address_uses_the_one_of_its_hub_for_https() -> None:
    who = replace(identity(), data_plane_endpoints=identity(data_plane_endpoints={}, mqtt=None).data_plane_endpoints)
    assert chosen(who, "wss", "https")[0] == ["https"]


def test_none_left_is_an_error_that_names_them_all() -> None:
    who = identity(mqtt=None, data_plane_endpoints={"https": "https://hub.example:8443"})
    with pytest.raises(ThalovantUnsupportedProtocolError, match=r"none of these.*mqtt: .*wss: ") as caught:
        chosen(who, "mqtt", "wss")
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    ("protocols", "said"),
    [
        ((), "empty"),
        (("mqtt", "wss", "mqtt"), "'mqtt' twice"),
        (("mqtt", "pigeon"), "'pigeon'"),
        (("mqtt", None), "None"),
        (("mqtt", ["wss"]), "wss"),
        ("mqtt", "list"),
        (b"mqtt", "list"),
        (7, "list"),
        ({"mqtt", "wss"}, "preferred one first"),  # a set has no order
    ],
)
def test_a_list_that_makes_no_sense_is_refused(protocols: Any, said: str) -> None:
    with pytest.raises(ThalovantUnsupportedProtocolError, match=said):
        carriers_for(identity(), None, protocols, None, **OPTIONS)


@pytest.mark.parametrize("other", ["protocol", "transport"])
def test_one_and_several_cannot_both_be_asked_for(other: str) -> None:
    given: dict[str, Any] = {"protocol": None, "transport": None, other: "wss"}
    with pytest.raises(ThalovantUnsupportedProtocolError, match=f"{other}= or protocols="):
        carriers_for(identity(), given["protocol"], ALL, given["transport"], **OPTIONS)


def test_without_a_list_it_is_the_one_that_was_asked_for_or_given() -> None:
    for protocol in ALL:
        found, left_out = carriers_for(identity(), protocol, None, None, **OPTIONS)
        assert ([carrier.protocol for carrier in found], left_out) == ([protocol], ())
    assert [carrier.protocol for carrier in carriers_for(identity(), None, None, None, **OPTIONS)[0]] == ["wss"]
    own: Any = object()
    assert carriers_for(identity(), None, None, own, **OPTIONS) == ([own], ())
    plain = identity(data_plane_endpoints={"wss": "ws://hub.example"})
    with pytest.raises(ThalovantConnectionError, match="in the clear"):
        carriers_for(plain, "wss", None, None, **OPTIONS)


@pytest.mark.parametrize("kind", [AsyncThalovantClient, ThalovantClient])
def test_every_way_to_make_a_client_takes_the_list(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity().save(tmp_path / "device.json")
    (tmp_path / "config.yaml").write_text((tmp_path / "device.json").read_text())  # JSON is YAML
    (tmp_path / "config.yaml").chmod(0o600)
    for name, value in (("ACCESS_KEY", "k"), ("PASSWORD", "p"), ("SITE_ID", "s"), ("HUB_HTTP_HOST", "hub.example")):
        monkeypatch.setenv(f"THALOVANT_{name}", value)
    ways: list[Callable[..., Any]] = [
        lambda **options: kind(identity(), **options),
        lambda **options: kind.from_identity_file(tmp_path / "device.json", **options),
        lambda **options: kind.from_config(tmp_path / "config.yaml", **options),
    ]
    for way in ways:
        assert "mqtt of mqtt/https" in repr(way(protocols=("mqtt", "https")))
        with pytest.raises(ThalovantUnsupportedProtocolError, match="not both"):
            way(protocols=("mqtt",), protocol="mqtt")
    assert "https" in repr(kind.from_env(protocols=("mqtt", "https")))
    assert "protocols" in inspect.signature(kind).parameters
