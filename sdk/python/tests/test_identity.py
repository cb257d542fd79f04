# SPDX-License-Identifier: Apache-2.0
"""Identities: aliases, files, environment, what is shown and what is saved (contract 3.4.3, 3.5, 3.6;
vectors).
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalovant.errors import ThalovantIdentityError
from thalovant.hub_endpoints import HubDataPlaneEndpoints
from thalovant.identity import MqttBrokerCredentials, ThalovantIdentity
from thalovant.noise_state import noise_state

VECTORS = Path(__file__).parents[3] / "contract" / "vectors"
BASE = {"access_key": "the-key", "password": "the-password", "site_id": "kitchen"}
BASE |= {"default_master": "https://hub.example"}
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
BROKER = {
    "endpoint": "mqtts://who:what@broker.example:8883",
    "username": "broker-user",
    "password": "broker-secret",
    "topic_prefix": "hubs/hub-1/clients/client-1",
    "c2s_topic": "hubs/hub-1/clients/client-1/c2s",
    "s2c_topic": "hubs/hub-1/clients/client-1/s2c",
    "status_topic": "hubs/hub-1/clients/client-1/status",
    "qos": 0,
    "tls": True,
}
SECRETS = ("the-key", "the-password", "broker-user", "broker-secret", "hubs/hub-1", "who:what", "meta-secret")


def vectors(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["cases"]
    return cases


def whole() -> ThalovantIdentity:
    metadata = {"note": "shelf", "nested": [{"API-Key": "meta-secret"}], "sessionKey": "meta-secret"}
    return ThalovantIdentity.from_mapping({**BASE, "mqtt": BROKER, "metadata": metadata, "ca_pem": CA})


@pytest.mark.parametrize("case", vectors("addresses.json"), ids=lambda case: str(case["identity"])[-40:])
def test_addresses_are_those_of_the_published_sdk(case: dict[str, Any]) -> None:
    identity = ThalovantIdentity.from_mapping(case["identity"])
    assert identity.endpoint_base() == case["https_base"]
    assert identity.endpoint_for("https") == case["https_base"]
    assert identity.endpoint_for("wss") == case["wss"]
    assert identity.endpoint_for("mqtt") == case["mqtt"]
    assert list(identity.enabled_protocols()) == case["enabled"]


@pytest.mark.parametrize(
    ("alias", "field"),
    [
        ("key", "access_key"),
        ("api_key", "access_key"),
        ("apiKey", "access_key"),
        ("siteId", "site_id"),
        ("site", "site_id"),
        ("client_id", "site_id"),
        ("clientId", "site_id"),
        ("defaultMaster", "default_master"),
        ("host", "default_master"),
        ("hub_http_host", "default_master"),
        ("hubHttpHost", "default_master"),
        ("master", "default_master"),
    ],
)
def test_each_alias_is_read(alias: str, field: str) -> None:
    values: dict[str, Any] = {**BASE, alias: BASE[field]}
    del values[field]
    assert getattr(ThalovantIdentity.from_mapping(values), field) == BASE[field]


@pytest.mark.parametrize("field", list(BASE))
@pytest.mark.parametrize("nothing", [None, "", "  ", True, [], {}])
def test_a_missing_field_is_named_and_its_neighbours_are_not_shown(field: str, nothing: object) -> None:
    with pytest.raises(ThalovantIdentityError, match=field) as caught:
        ThalovantIdentity.from_mapping({**BASE, field: nothing})
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_the_first_alias_present_decides_even_when_it_is_null() -> None:
    with pytest.raises(ThalovantIdentityError):
        ThalovantIdentity.from_mapping({**BASE, "access_key": None, "key": "other"})


@pytest.mark.parametrize(("given_port", "port"), [(None, 5679), ("", 5679), ("123", 123), (443, 443)])
def test_the_port_is_a_number(given_port: object, port: int) -> None:
    assert ThalovantIdentity.from_mapping({**BASE, "default_port": given_port}).default_port == port


@pytest.mark.parametrize("wrong", ["abc", "1.5", True, 0, 65_536, "9" * 5_000, [], "-1", "１２"])
def test_a_port_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(ThalovantIdentityError, match="default_port"):
        ThalovantIdentity.from_mapping({**BASE, "default_port": wrong})


@pytest.mark.parametrize(("alias", "path"), [("path", "/x/"), ("uri_path", "x"), ("hub_http_path", " /x ")])
def test_the_path_gets_one_leading_slash(alias: str, path: str) -> None:
    assert ThalovantIdentity.from_mapping({**BASE, alias: path}).default_path == "/x"


@pytest.mark.parametrize("values", [[], None, "x", 5])
def test_no_mapping_is_no_identity(values: Any) -> None:
    with pytest.raises(ThalovantIdentityError):
        ThalovantIdentity.from_mapping(values)


@pytest.mark.parametrize("wrong", ["a\nb", "a\x00b", "a\x85b", "a\ud800b"])
def test_control_characters_are_refused_by_the_fields_name(wrong: str) -> None:
    for field in (*BASE, "default_path"):
        with pytest.raises(ThalovantIdentityError, match=f"{field} holds control") as caught:
            ThalovantIdentity.from_mapping({**BASE, field: wrong})
        assert wrong not in str(caught.value)
    for field in ("endpoint", "username", "password"):
        with pytest.raises(ThalovantIdentityError, match=rf"mqtt\.{field} holds control"):
            ThalovantIdentity.from_mapping({**BASE, "mqtt": {**BROKER, field: wrong}})


@pytest.mark.parametrize("field", [*BASE, "default_port", "tls", "qos", "protocols"])
def test_a_number_of_thousands_of_digits_is_no_value(field: str) -> None:
    huge = 10**5_000
    values = {**BASE, field: {"wss": huge} if field == "protocols" else huge}
    if field in (*BASE, "default_port"):
        with pytest.raises(ThalovantIdentityError, match=field):
            ThalovantIdentity.from_mapping(values)
    else:
        assert ThalovantIdentity.from_mapping({**values, "mqtt": {**BROKER, field: huge}}).protocols.wss


class TestMqttBlock:
    def test_aliases_and_explicit_topics(self) -> None:
        block = {"brokerUrl": "mqtts://b", "broker_username": "u", "brokerPassword": "p", "topicPrefix": "/x/"}
        broker = MqttBrokerCredentials.from_mapping(block)
        assert broker == MqttBrokerCredentials("mqtts://b", "u", "p", "x", 1, True)
        named = MqttBrokerCredentials.from_mapping(BROKER)
        assert named is not None
        assert (named.c2s_topic, named.status_topic) == (BROKER["c2s_topic"], BROKER["status_topic"])

    @pytest.mark.parametrize("missing", ["endpoint", "username", "password"])
    def test_without_one_of_three_there_is_no_block(self, missing: str) -> None:
        assert MqttBrokerCredentials.from_mapping({**BROKER, missing: ""}) is None
        assert ThalovantIdentity.from_mapping({**BASE, "mqtt": {**BROKER, missing: None}}).mqtt is None

    @pytest.mark.parametrize(("qos", "expected"), [(0, 0), ("0", 0), (1, 1), ("1", 1), (2, 1), ("x", 1), (None, 1)])
    def test_qos_is_zero_or_one(self, qos: object, expected: int) -> None:
        broker = MqttBrokerCredentials.from_mapping({**BROKER, "qos": qos})
        assert broker is not None
        assert broker.qos == expected

    @pytest.mark.parametrize(
        ("endpoint", "tls", "expected"),
        [
            ("mqtts://b", None, True),
            ("mqtt://b", None, False),
            ("mqtt://b", "yes", True),
            ("mqtts://b", "no", False),
            ("mqtts://b", "perhaps", True),
        ],
    )
    def test_tls_is_said_or_read_off_the_scheme(self, endpoint: str, tls: object, expected: bool) -> None:
        broker = MqttBrokerCredentials.from_mapping({**BROKER, "endpoint": endpoint, "tls": tls})
        assert broker is not None
        assert broker.tls is expected

    @pytest.mark.parametrize("field", ["topic_prefix", "c2s_topic", "s2c_topic", "status_topic"])
    @pytest.mark.parametrize("topic", ["a/#", "a/+/b", "$SYS/a", "a\x00", "a\x07b", "e\u0301/k", "\ud800"])
    def test_a_topic_no_broker_would_take_is_refused(self, field: str, topic: str) -> None:
        with pytest.raises(ThalovantIdentityError, match=field):
            MqttBrokerCredentials.from_mapping({**BROKER, field: topic})

    @pytest.mark.parametrize("case", vectors("client-topics.json"), ids=lambda case: repr(case["topic_prefix"]))
    def test_prefixes_of_the_vectors(self, case: dict[str, Any]) -> None:
        block = {**BROKER, "topic_prefix": case["topic_prefix"]}
        try:
            broker = MqttBrokerCredentials.from_mapping(block)
        except ThalovantIdentityError:
            assert "error" in case
            return
        assert broker is not None
        expected = case["inbound"].removesuffix("/in") if "inbound" in case else None
        assert broker.topic_prefix == expected


class TestShowing:
    @pytest.mark.parametrize("show", [repr, str, lambda identity: json.dumps(identity.as_dict())])
    def test_no_secret_is_shown(self, show: Any) -> None:
        shown = show(whole()) + show(whole().mqtt) if show is repr else show(whole())
        assert not [secret for secret in SECRETS if secret in shown]
        assert "mqtts://broker.example:8883" in shown
        assert "<present>" in shown

    def test_the_log_form_is_that_of_the_published_sdk(self) -> None:
        assert whole().as_dict() == {
            "site_id": "kitchen",
            "default_master": "https://hub.example",
            "default_port": 5679,
            "default_path": "",
            "data_plane_endpoints": {"mqtt": "mqtts://broker.example:8883"},
            "mqtt": {"endpoint": "mqtts://broker.example:8883", "tls": True},
            "metadata": {
                "note": "shelf",
                "nested": [{"API-Key": "<redacted>"}],
                "sessionKey": "<redacted>",
            },
            "ca_pem": "<present>",
        }

    def test_user_info_of_the_master_is_not_shown(self) -> None:
        identity = ThalovantIdentity.from_mapping({**BASE, "default_master": "https://u:pw@hub.example"})
        assert "pw" not in repr(identity) + str(identity.as_dict())

    def test_the_secret_form_reads_back_the_same(self) -> None:
        again = ThalovantIdentity.from_mapping(whole().as_dict(include_secrets=True))
        assert again == whole()
        assert "protocols" not in whole().as_dict(include_secrets=True)


def saved(folder: Path, mode: int = 0o600, text: str | None = None) -> Path:
    path = folder / "kiosk.identity.json"
    path.write_text(json.dumps(BASE) if text is None else text)
    path.chmod(mode)
    return path


class TestFiles:
    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
    def test_a_private_file_is_read(self, tmp_path: Path, mode: int) -> None:
        path = saved(tmp_path, mode)
        identity = ThalovantIdentity.from_file(str(path))
        assert (identity.site_id, identity.source_path) == ("kitchen", str(path))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
    def test_a_file_open_to_others_is_refused_with_the_line_to_type(self, tmp_path: Path, mode: int) -> None:
        path = saved(tmp_path, mode)
        with pytest.raises(ThalovantIdentityError, match="chmod 600"):
            ThalovantIdentity.from_file(path)

    def test_the_mode_of_a_symlinks_target_counts(self, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(saved(tmp_path, 0o644))
        with pytest.raises(ThalovantIdentityError, match="chmod 600"):
            ThalovantIdentity.from_file(link)

    def test_a_kubernetes_secret_keeps_the_mode_of_its_mount(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "..2026").mkdir()
        (tmp_path / "..data").symlink_to("..2026")
        saved(tmp_path / "..2026", 0o644)
        mounted = tmp_path / "identity.json"
        mounted.symlink_to("..data/kiosk.identity.json")
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(ThalovantIdentityError):
            ThalovantIdentity.from_file(mounted)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        assert ThalovantIdentity.from_file(mounted).site_id == "kitchen"

    @pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"access_key": "the-key"}', "[" * 100_000])
    def test_a_broken_file_is_named_and_not_quoted(self, tmp_path: Path, text: str) -> None:
        path = saved(tmp_path, text=text)
        with pytest.raises(ThalovantIdentityError, match=r"kiosk\.identity\.json") as caught:
            ThalovantIdentity.from_file(path)
        assert "the-key" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_what_is_no_file_is_refused(self, tmp_path: Path) -> None:
        fifo = tmp_path / "pipe"
        os.mkfifo(fifo)
        for path in (tmp_path, fifo, tmp_path / "nowhere", Path("/dev/zero")):
            with pytest.raises(ThalovantIdentityError):
                ThalovantIdentity.from_file(path)

    def test_a_file_that_is_too_large_or_no_text_is_refused(self, tmp_path: Path) -> None:
        path = saved(tmp_path, text="x" * (1 << 20) + "y")
        with pytest.raises(ThalovantIdentityError, match="larger"):
            ThalovantIdentity.from_file(path)
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ThalovantIdentityError, match="UTF-8"):
            ThalovantIdentity.from_file(path)

    def test_saving_is_private_and_reads_back(self, tmp_path: Path) -> None:
        path = whole().save(tmp_path / "mine.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
        again = ThalovantIdentity.from_file(path)
        assert again.as_dict(include_secrets=True) == whole().as_dict(include_secrets=True)

    def test_what_the_hub_has_switched_on_is_kept(self, tmp_path: Path) -> None:
        identity = ThalovantIdentity.from_mapping({**BASE, "protocols": {"wss": False, "mqtt": True}})
        assert ThalovantIdentity.from_file(identity.save(tmp_path / "mine.json")).enabled_protocols() == ("mqtt",)

    def test_what_json_cannot_hold_is_a_clear_error_and_a_date_is_none(self, tmp_path: Path) -> None:
        text = json.dumps(BASE)[:-1] + ", metadata: {since: 2026-01-02, odd: %s}}"
        config = saved(tmp_path, text=text % "x")
        ThalovantIdentity.from_config(config).save(tmp_path / "a.json")
        assert ThalovantIdentity.from_file(tmp_path / "a.json").metadata == {"since": "2026-01-02", "odd": "x"}
        for odd in ("!!binary QQ==", "!!set {a, b}", ".nan", "&a [*a]"):
            config.write_text(text % odd)
            for write in ("save", "as_env"):
                with pytest.raises(ThalovantIdentityError, match="metadata"):
                    getattr(ThalovantIdentity.from_config(config), write)(*[tmp_path / "b.json"] * (write == "save"))
        assert not (tmp_path / "b.json").exists()

    def test_a_key_made_before_saving_is_the_files_too(self, tmp_path: Path, lonely: Path) -> None:
        identity = whole()
        key = noise_state(identity).load(identity.access_key, "wss://h:1").private
        for copy in (identity.save(tmp_path / "mine.json"), identity.save(lonely / "other.json")):
            loaded = ThalovantIdentity.from_file(copy)
            assert noise_state(loaded).load(loaded.access_key, "wss://h:1").private == key

    def test_saving_does_not_overwrite_unless_told(self, tmp_path: Path) -> None:
        path = saved(tmp_path, 0o644, "precious")
        with pytest.raises(ThalovantIdentityError, match="exists already"):
            whole().save(path)
        assert path.read_text() == "precious"
        whole().save(path, overwrite=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert ThalovantIdentity.from_file(path).access_key == "the-key"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_saving_never_goes_through_a_symlink(self, tmp_path: Path, overwrite: bool) -> None:
        other = tmp_path / "other"
        other.write_text("precious")
        link = tmp_path / "link"
        link.symlink_to(other)
        with pytest.raises(ThalovantIdentityError, match="symlink"):
            whole().save(link, overwrite=overwrite)
        assert other.read_text() == "precious"
        assert link.is_symlink()

    def test_saving_where_nothing_can_be_written_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ThalovantIdentityError, match="not saved"):
            whole().save(tmp_path / "no" / "such" / "folder.json")
        assert not list(tmp_path.iterdir())


PROFILES = """
profile: kitchen
profiles:
  kitchen:
    identity: {access_key: k1, password: p1, site_id: kitchen, default_master: "https://one.example"}
  garden: {access_key: k2, password: p2, site_id: garden, default_master: "https://two.example"}
"""


class TestConfig:
    def config(self, folder: Path, text: str, mode: int = 0o600) -> Path:
        path = folder / "thalovant" / "config.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def test_the_users_own_file_and_its_profiles(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        path = self.config(tmp_path, PROFILES)
        assert ThalovantIdentity.from_config().site_id == "kitchen"
        assert ThalovantIdentity.from_config(profile="garden").site_id == "garden"
        assert ThalovantIdentity.from_config(path).source_path == str(path)
        with pytest.raises(ThalovantIdentityError, match="garden, kitchen"):
            ThalovantIdentity.from_config(profile="cellar")

    def test_saving_a_profile_reads_back_and_keeps_the_others(self, lonely: Path) -> None:
        assert whole().save_to_config() == "default"
        assert ThalovantIdentity.from_config().as_dict(include_secrets=True) == whole().as_dict(include_secrets=True)
        other = ThalovantIdentity.from_mapping({**BASE, "site_id": "other"})
        assert other.save_to_config(profile="garden", use=True) == "garden"
        assert ThalovantIdentity.from_config().site_id == "other"
        assert ThalovantIdentity.from_config(profile="default").mqtt == whole().mqtt
        with pytest.raises(ThalovantIdentityError, match="'garden' already"):
            whole().save_to_config()
        assert whole().save_to_config(overwrite=True) == "garden"
        assert ThalovantIdentity.from_config().site_id == "kitchen"
        assert stat.S_IMODE((lonely / "config.yaml").stat().st_mode) == 0o600

    def test_a_profile_made_from_a_file_uses_the_same_key(self, tmp_path: Path, lonely: Path) -> None:
        from_file = ThalovantIdentity.from_file(saved(tmp_path))
        from_file.save_to_config()
        keys = [
            noise_state(one).load(one.access_key, "wss://h:1").private for one in (from_file, from_file.from_config())
        ]
        assert keys[0] == keys[1]

    def test_without_a_choice_the_profile_is_default(self, tmp_path: Path) -> None:
        path = self.config(tmp_path, PROFILES.replace("profile: kitchen", "").replace("garden:", "default:"))
        assert ThalovantIdentity.from_config(path).access_key == "k2"

    def test_without_profiles_the_top_level_is_the_identity(self, tmp_path: Path) -> None:
        path = self.config(tmp_path, "identity:\n  " + json.dumps(BASE))
        assert ThalovantIdentity.from_config(path).site_id == "kitchen"
        assert ThalovantIdentity.from_config(self.config(tmp_path, json.dumps(BASE))).site_id == "kitchen"
        with pytest.raises(ThalovantIdentityError, match="no profiles"):
            ThalovantIdentity.from_config(path, profile="x")

    def test_the_home_folder_is_the_last_resort(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".config").mkdir()
        self.config(tmp_path / ".config", json.dumps(BASE))
        assert ThalovantIdentity.from_config().site_id == "kitchen"

    @pytest.mark.parametrize(
        "text", ["", "[]", "a: [", "profiles: {default: 5}", "when: 2024-99-99", "!!python/object:os.system x"]
    )
    def test_a_broken_configuration_is_named(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ThalovantIdentityError, match=r"config\.yaml"):
            ThalovantIdentity.from_config(self.config(tmp_path, text))

    def test_a_configuration_open_to_others_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ThalovantIdentityError, match="chmod 600"):
            ThalovantIdentity.from_config(self.config(tmp_path, PROFILES, 0o644))


class TestEnvironment:
    def test_every_name(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text(CA)
        names = {
            "ACCESS_KEY": "k",
            "PASSWORD": "p",
            "SITE_ID": "s",
            "DEFAULT_MASTER": "https://hub.example",
            "HUB_HTTP_PORT": "443",
            "DEFAULT_PATH": "/x",
            "HUB_HTTPS_HOST": "hub.example:5679",
            "HUB_WEBSOCKET_HOST": "wss://hub.example:5678",
            "HUB_MQTT_HOST": "broker.example:8883",
            "MQTT_USERNAME": "u",
            "MQTT_PASSWORD": "b",
            "MQTT_TOPIC_PREFIX": "a/b",
            "MQTT_QOS": "0",
            "CA_FILE": str(tmp_path / "ca.pem"),
        }
        for name, value in names.items():
            monkeypatch.setenv(f"MINE_{name}", value)
        identity = ThalovantIdentity.from_env("MINE_")
        assert (identity.default_port, identity.default_path, identity.ca_pem) == (443, "/x", CA)
        assert identity.data_plane_endpoints == HubDataPlaneEndpoints(
            "https://hub.example:5679", "wss://hub.example:5678", "mqtts://broker.example:8883"
        )
        assert identity.mqtt == MqttBrokerCredentials("mqtts://broker.example:8883", "u", "b", "a/b", 0, True)

    def test_what_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ThalovantIdentityError, match="access_key"):
            ThalovantIdentity.from_env("EMPTY_")
        monkeypatch.setenv("EMPTY_CA_FILE", "/no/such/file")
        with pytest.raises(ThalovantIdentityError, match="/no/such/file"):
            ThalovantIdentity.from_env("EMPTY_")


@pytest.mark.parametrize("wrong", [5, "text", CA + "-----BEGIN PRIVATE KEY-----\n", CA + "x" * 70_000])
def test_only_certificates_are_certificates(wrong: object) -> None:
    with pytest.raises(ThalovantIdentityError, match="ca_pem"):
        ThalovantIdentity.from_mapping({**BASE, "ca_pem": wrong})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "access_key",
        "password",
        "site_id",
        "default_master",
        "default_port",
        "default_path",
        "mqtt",
        "protocols",
        "data_plane_endpoints",
        "metadata",
        "ca_pem",
        "wss",
        "https",
        "spec",
        "endpoints",
    ]
)


def test_a_group_that_names_no_address_is_none() -> None:
    identity = ThalovantIdentity.from_mapping({**BASE, "mqtt": BROKER, "endpoints": {"": None}})
    assert identity.data_plane_endpoints == HubDataPlaneEndpoints(mqtt=BROKER["endpoint"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, VALUES), st.dictionaries(st.sampled_from(list(BROKER)), VALUES))
def test_whatever_the_mapping_only_the_declared_error_is_raised(values: dict[str, Any], mqtt: dict[str, Any]) -> None:
    for candidate in (values, {**BASE, **values}, {**BASE, **values, "mqtt": {**BROKER, **mqtt}}):
        try:
            identity = ThalovantIdentity.from_mapping(candidate)
        except ThalovantIdentityError:
            continue
        repr(identity)
        identity.as_dict()
        assert identity.endpoint_base()
        again = ThalovantIdentity.from_mapping(identity.as_dict(include_secrets=True))
        assert again.as_dict(include_secrets=True) == identity.as_dict(include_secrets=True)
