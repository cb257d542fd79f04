# SPDX-License-Identifier: Apache-2.0
"""An identity as environment variables: written, read by shells and by systemd's rules, and the same again."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from thalovant.errors import ThalovantIdentityError
from thalovant.hub_endpoints import HubProtocolSettings
from thalovant.identity import ThalovantIdentity
from thalovant.identity_environment import from_environment, lines

BASE = {"access_key": "k", "password": "p", "site_id": "s", "default_master": "https://hub.example"}
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
WHOLE = {
    **BASE,
    "default_port": 8443,
    "default_path": "/x",
    "data_plane_endpoints": {"https": "https://h:1/hubs/a", "wss": "wss://h:1/hubs/a", "mqtt": "mqtts://h:2"},
    "protocols": {"wss": {"enabled": False}, "http": {"enabled": True}, "mqtt": {"enabled": True}},
    "mqtt": {
        "endpoint": "mqtt://h:2",
        "tls": True,
        "username": "u",
        "password": "b",
        "topic_prefix": "hubs/a/clients/b",
        "c2s_topic": "hubs/a/clients/b/c2s",
        "s2c_topic": "hubs/a/clients/b/s2c",
        "status_topic": "hubs/a/clients/b/status",
        "qos": 0,
    },
    "metadata": {"room": "Küche", "n": [1, None, True]},
    "ca_pem": CA,
}


def again(identity: ThalovantIdentity, prefix: str = "THALOVANT_") -> ThalovantIdentity:
    return ThalovantIdentity.from_mapping(from_environment(prefix, identity.as_env(prefix)))


def test_every_variable_by_name() -> None:
    assert ThalovantIdentity.from_mapping(WHOLE).as_env("MY_") == {
        "MY_ACCESS_KEY": "k",
        "MY_PASSWORD": "p",
        "MY_SITE_ID": "s",
        "MY_DEFAULT_MASTER": "https://hub.example",
        "MY_DEFAULT_PORT": "8443",
        "MY_DEFAULT_PATH": "/x",
        "MY_HUB_HTTPS_HOST": "https://h:1/hubs/a",
        "MY_HUB_WSS_HOST": "wss://h:1/hubs/a",
        "MY_HUB_MQTT_HOST": "mqtts://h:2",
        "MY_HUB_PROTOCOLS": "https,mqtt",
        "MY_MQTT_ENDPOINT": "mqtt://h:2",
        "MY_MQTT_USERNAME": "u",
        "MY_MQTT_PASSWORD": "b",
        "MY_MQTT_TOPIC_PREFIX": "hubs/a/clients/b",
        "MY_MQTT_QOS": "0",
        "MY_MQTT_TLS": "true",
        "MY_MQTT_C2S_TOPIC": "hubs/a/clients/b/c2s",
        "MY_MQTT_S2C_TOPIC": "hubs/a/clients/b/s2c",
        "MY_MQTT_STATUS_TOPIC": "hubs/a/clients/b/status",
        "MY_CA_PEM": CA.replace("\n", "\\n"),
        "MY_METADATA": '{"room":"Küche","n":[1,null,true]}',
    }


def test_what_is_not_there_is_not_set() -> None:
    names = ThalovantIdentity.from_mapping(BASE).as_env("").keys()
    assert names == {"ACCESS_KEY", "PASSWORD", "SITE_ID", "DEFAULT_MASTER", "DEFAULT_PORT"}


@pytest.mark.parametrize("values", [BASE, WHOLE])
def test_it_reads_back_the_same(values: dict[str, Any]) -> None:
    identity = ThalovantIdentity.from_mapping(values)
    assert again(identity) == identity


@pytest.mark.parametrize(
    ("names", "enabled"),
    [
        ("none", ()),
        ("MQTT , wss", ("wss", "mqtt")),
        ("https", ("https",)),
        ("wss,https,mqtt", ("wss", "https", "mqtt")),
    ],
)
def test_the_carriers_that_the_hub_has_on(names: str, enabled: tuple[str, ...]) -> None:
    values = from_environment("X_", {"X_HUB_PROTOCOLS": names})
    assert HubProtocolSettings.from_mapping({"protocols": values["protocols"]}).enabled_protocols() == enabled


def test_every_set_of_carriers_reads_back() -> None:
    for number in range(8):
        flags = {name: bool(number >> bit & 1) for bit, name in enumerate(("wss", "http", "mqtt"))}
        identity = ThalovantIdentity.from_mapping({**BASE, "protocols": flags})
        assert again(identity).protocols == HubProtocolSettings(**flags)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HUB_PROTOCOLS", "wss,pigeon", "X_HUB_PROTOCOLS names 'pigeon'"),
        ("METADATA", "secret-text", "X_METADATA holds no JSON object"),
        ("METADATA", '["secret-text"]', "X_METADATA holds no JSON object"),
        ("METADATA", "[" * 100_000, "X_METADATA holds no JSON object"),
        ("CA_FILE", "/no/such/file", "/no/such/file"),
    ],
)
def test_a_variable_of_ours_that_cannot_be_read_is_named(variable: str, value: str, said: str) -> None:
    with pytest.raises(ThalovantIdentityError, match=said) as caught:
        from_environment("X_", {f"X_{variable}": value})
    assert "secret-text" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_certificates_may_have_real_lines_and_come_before_a_file() -> None:
    values = from_environment("X_", {"X_CA_PEM": f"\n{CA}\n", "X_CA_FILE": "/no/such/file"})
    assert values["ca_pem"] == CA.strip()


@pytest.mark.parametrize("prefix", ["1_", "A B", "A=", "é", "A-"])
def test_a_prefix_no_variable_can_begin_with(prefix: str) -> None:
    with pytest.raises(ThalovantIdentityError, match="No environment variable"):
        ThalovantIdentity.from_mapping(BASE).as_env(prefix)


def test_lines_are_plain_where_they_can_be() -> None:
    assert ThalovantIdentity.from_mapping({**BASE, "site_id": "my site"}).env_lines(export=True) == (
        "export THALOVANT_ACCESS_KEY=k\n"
        "export THALOVANT_PASSWORD=p\n"
        "export THALOVANT_SITE_ID='my site'\n"
        "export THALOVANT_DEFAULT_MASTER=https://hub.example\n"
        "export THALOVANT_DEFAULT_PORT=5679\n"
    )


ODD = [
    "it's",
    "a b",
    '"',
    "\\",
    "\\n",
    "$HOME",
    "`id`",
    "$(id)",
    "!x",
    "#",
    "*",
    "~",
    "é €",
    ";",
    "&",
    "a\\",
    "''",
    "'\"",
    "",
]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_reads_what_was_written(shell: str, tmp_path: Path) -> None:
    variables = {f"V{number}": value for number, value in enumerate(ODD)}
    script = tmp_path / "variables"
    script.write_text(lines(variables, export=True) + "env -0\n")
    ran = subprocess.run(
        [shell, str(script)], capture_output=True, env={"PATH": "/usr/bin:/bin"}, check=True, timeout=60
    )
    seen = dict(entry.split("=", 1) for entry in ran.stdout.decode().split("\0") if "=" in entry)
    assert {name: seen[name] for name in variables} == variables


def systemd(text: str) -> dict[str, str]:
    """Read an EnvironmentFile as systemd.exec(5) says: quoted as in a shell, no piecing together, nothing expanded."""
    found = {}
    for line in text.removesuffix("\n").split("\n"):
        name, _, value = line.partition("=")
        if value[:1] == "'":
            assert value.count("'") == 2 and value.endswith("'")
            value = value[1:-1]
        elif value[:1] == '"':
            assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', value)
            value = re.sub(r'\\([\\"`$])', r"\1", value[1:-1])
        else:
            assert not re.search(r"[\\\s]", value)
        found[name] = value
    return found


def test_systemd_reads_what_was_written() -> None:
    variables = {f"V{number}": value for number, value in enumerate(ODD)}
    assert systemd(lines(variables)) == variables


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
HOSTS = st.sampled_from(["h", "h:1", "[::1]:5/x", "u:p@h/y z?"])
BROKERS = st.builds("{}://{}".format, st.sampled_from(["mqtts", "mqtt", "tcp"]), HOSTS)
TOPICS = st.none() | st.text(st.sampled_from("ab/é ü"), min_size=1)
PEMS = st.text(st.sampled_from("ab\n\r\\'")).map(lambda junk: f"{junk}-----BEGIN CERTIFICATE-----{junk}")


def whole_identities() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"access_key": WORDS, "password": WORDS, "site_id": WORDS, "default_master": WORDS},
        optional={
            "default_port": st.integers(1, 65_535),
            "default_path": WORDS,
            "data_plane_endpoints": st.fixed_dictionaries(
                {}, optional={name: HOSTS.map(f"{name}://".__add__) for name in ("https", "wss", "mqtt")}
            ),
            "protocols": st.dictionaries(st.sampled_from(["wss", "http", "mqtt"]), st.booleans()),
            "mqtt": st.fixed_dictionaries(
                {"endpoint": BROKERS, "username": WORDS, "password": WORDS},
                optional={
                    "qos": st.integers(0, 1),
                    "tls": st.booleans(),
                    **dict.fromkeys(("topic_prefix", "c2s_topic", "s2c_topic", "status_topic"), TOPICS),
                },
            ),
            "metadata": st.dictionaries(st.text(max_size=4), JSON, max_size=3),
            "ca_pem": PEMS,
        },
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example({**WHOLE, "metadata": {"half": "\ud800"}})
@given(whole_identities())
def test_any_identity_survives_every_way_of_writing_it(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    identity = ThalovantIdentity.from_mapping(values)
    whole = identity.as_dict(include_secrets=True), identity.protocols
    folder = tmp_path_factory.mktemp("written")
    copies = [ThalovantIdentity.from_file(identity.save(folder / "identity.json"))]
    identity.save_to_config(folder / "config.yaml", profile="é: x")
    copies.append(ThalovantIdentity.from_config(folder / "config.yaml"))
    environment = identity.as_env("X_")
    if identity.ca_pem is None or "\n" not in (environment["X_CA_PEM"]):
        read = from_environment("X_", environment)
        # Blanks around a certificate are the environment's to drop.
        read["ca_pem"] = (
            identity.ca_pem if (read["ca_pem"] or "").strip() == (identity.ca_pem or "").strip() else "lost"
        )
        copies.append(ThalovantIdentity.from_mapping(read))
    assert systemd(identity.env_lines("X_")) == environment
    for copy in copies:
        assert (copy.as_dict(include_secrets=True), copy.protocols) == whole
    assert json.loads((folder / "identity.json").read_text())["protocols"] == identity.protocols.as_dict()


NAMES = st.sampled_from([name.removeprefix("MY_") for name in ThalovantIdentity.from_mapping(WHOLE).as_env("MY_")])


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=12)))
def test_whatever_is_set_only_the_declared_error_is_raised(variables: dict[str, str]) -> None:
    for environ in (variables, {**{f"{name.upper()}": value for name, value in BASE.items()}, **variables}):
        try:
            identity = ThalovantIdentity.from_mapping(from_environment("", environ))
        except ThalovantIdentityError:
            continue
        assert identity.endpoint_base()
