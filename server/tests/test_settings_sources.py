# SPDX-License-Identifier: Apache-2.0
"""An option counts more than the environment, that more than a file, that more than a default; each is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server import settings_shown
from thalovant_server.certificates import fingerprint, make_authority
from thalovant_server.errors import SettingsError
from thalovant_server.settings import Settings, option_name, variable_name
from thalovant_server.settings_sources import LARGEST_FILE, SYSTEM_FILE, ReadSettings, read_settings

NOWHERE = {"XDG_CONFIG_HOME": "/nowhere"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of settings that says everything that can be said."""
    path = tmp_path / "server.toml"
    path.write_text("""\
# what this server is
data = "store"
host = "::"
public-host = ["hub.example", "192.0.2.7"]
api-port = 9443
mqtt-port = 9883
agent = "default=python:answers:reply"
certificate = "hub.pem"
certificate-key = "/keys/hub.key"
certificate-authority = "~/root.pem"
ready-file = "ready.json"
drain-seconds = 2.5
""")
    return path


def read(options: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **more: Any) -> ReadSettings:
    return read_settings(options or {}, {**NOWHERE, **(environ or {})}, **more)


def test_a_file_may_say_everything_with_paths_from_its_own_folder(file: Path, tmp_path: Path) -> None:
    said = read(config=file)
    assert said.settings == Settings(
        data=tmp_path / "store",
        host="::",
        public_host=("hub.example", "192.0.2.7"),
        api_port=9443,
        mqtt_port=9883,
        agent=("default=python:answers:reply",),
        certificate=tmp_path / "hub.pem",
        certificate_key=Path("/keys/hub.key"),
        certificate_authority=Path.home() / "root.pem",
        ready_file=tmp_path / "ready.json",
        drain_seconds=2.5,
    )
    assert said.origins["data"] == f"{file}:2"
    assert said.origins["drain_seconds"] == f"{file}:12"
    assert said.file == file


def test_the_environment_may_say_everything() -> None:
    said = read(
        environ={
            "THALOVANT_SERVER_DATA": "store",
            "THALOVANT_SERVER_HOST": "::",
            "THALOVANT_SERVER_PUBLIC_HOST": "hub.example, 192.0.2.7,",
            "THALOVANT_SERVER_API_PORT": "9443",
            "THALOVANT_SERVER_MQTT_PORT": "9883",
            "THALOVANT_SERVER_AGENT": "default=python:answers:reply,b=python:c:d",
            "THALOVANT_SERVER_CERTIFICATE": "hub.pem",
            "THALOVANT_SERVER_CERTIFICATE_KEY": "hub.key",
            "THALOVANT_SERVER_CERTIFICATE_AUTHORITY": "root.pem",
            "THALOVANT_SERVER_READY_FILE": "ready.json",
            "THALOVANT_SERVER_DRAIN_SECONDS": "2.5",
        }
    )
    assert said.settings.public_host == ("hub.example", "192.0.2.7")
    assert said.settings.agent == ("default=python:answers:reply", "b=python:c:d")
    assert (said.settings.data, said.settings.api_port, said.settings.drain_seconds) == (Path("store"), 9443, 2.5)
    of_a_broker = {variable_name(name) for name in Settings.model_fields if name.startswith("broker")}
    assert set(said.origins.values()) == {variable_name(name) for name in Settings.model_fields} - of_a_broker | {
        "default"
    }


def test_the_environment_may_say_everything_of_a_broker_that_is_joined() -> None:
    variables = {
        "THALOVANT_SERVER_BROKER_URL": "mqtts://broker.example",
        "THALOVANT_SERVER_BROKER_PUBLIC_URL": "mqtts://broker.example.org:8884",
        "THALOVANT_SERVER_BROKER_CA": "ca.pem",
        "THALOVANT_SERVER_BROKER_CERTIFICATE": "hub.crt",
        "THALOVANT_SERVER_BROKER_CERTIFICATE_KEY": "hub.key",
        "THALOVANT_SERVER_BROKER_USER": "hubs",
        "THALOVANT_SERVER_BROKER_PASSWORD_FILE": "admin-password",
        "THALOVANT_SERVER_BROKER_ROOT": "home/hubs",
        "THALOVANT_SERVER_BROKER_CHECK_SECONDS": "5",
        "THALOVANT_SERVER_BROKER_PORT": "9884",
    }
    said = read({"data": "d"}, environ=variables)
    assert said.settings.broker_url == "mqtts://broker.example:8883" and said.settings.broker_check_seconds == 5
    assert set(variables) <= set(said.origins.values())
    own = read({"data": "d"}, environ={"THALOVANT_SERVER_BROKER": "mosquitto"})
    assert (own.settings.broker, own.origins["broker"]) == ("mosquitto", "THALOVANT_SERVER_BROKER")


def test_each_source_gives_way_to_the_one_before_it(file: Path) -> None:
    environ = {"THALOVANT_SERVER_API_PORT": "1111", "THALOVANT_SERVER_MQTT_PORT": "2222"}
    said = read({"api_port": "3333"}, environ, config=file)
    assert (said.settings.api_port, said.origins["api_port"]) == (3333, "--api-port")
    assert (said.settings.mqtt_port, said.origins["mqtt_port"]) == (2222, "THALOVANT_SERVER_MQTT_PORT")
    assert (said.settings.drain_seconds, said.origins["drain_seconds"]) == (2.5, f"{file}:12")
    assert read({"data": "d"}).origins["host"] == "default"


def test_what_a_command_takes_by_itself_gives_way_to_everything(file: Path) -> None:
    assert read(defaults={"data": "own"}).origins["data"] == "command"
    assert read(defaults={"data": "own"}, config=file).origins["data"] == f"{file}:2"


def test_a_list_is_replaced_not_added_to(file: Path) -> None:
    assert read({"public_host": ["other.example"]}, config=file).settings.public_host == ("other.example",)


def test_an_empty_variable_says_nothing() -> None:
    said = read({"data": "d"}, {variable_name(name): "" for name in Settings.model_fields})
    assert set(said.origins.values()) == {"--data", "default"}


def test_files_are_looked_for_in_order(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path("/etc/thalovant/server.toml") == SYSTEM_FILE
    system = tmp_path / "etc.toml"
    system.write_text('data = "system"\n')
    monkeypatch.setattr("thalovant_server.settings_sources.SYSTEM_FILE", system)
    home = tmp_path / "home"
    users = home / ".config/thalovant/server.toml"
    assert read_settings({}, {"HOME": str(home)}).file == system
    users.parent.mkdir(parents=True)
    users.write_text('data = "users"\n')
    assert read_settings({}, {"HOME": str(home)}).file == users
    assert read_settings({}, {"HOME": "/x", "XDG_CONFIG_HOME": str(home / ".config")}).file == users
    environ = {"HOME": str(home), "THALOVANT_SERVER_CONFIG": str(file)}
    assert read_settings({}, environ).file == file
    assert read_settings({}, environ, system).file == system
    assert read_settings({}, {}).file == system, "a user without a home"


@pytest.mark.parametrize("option", [True, False])
def test_a_file_that_was_named_has_to_be_there(option: bool, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    environ = {} if option else {"THALOVANT_SERVER_CONFIG": str(path)}
    with pytest.raises(SettingsError, match="no such file") as caught:
        read({}, environ, config=path if option else None)
    assert ("--config" if option else "THALOVANT_SERVER_CONFIG") in str(caught.value)


def test_nothing_said_is_told_with_all_three_ways_to_say_it() -> None:
    with pytest.raises(SettingsError, match="--data DIR, or set THALOVANT_SERVER_DATA, or data in the file"):
        read()


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("THALOVANT_SERVER_PUBLIC_HOSTS", "THALOVANT_SERVER_PUBLIC_HOST"),
        ("THALOVANT_SERVER_MQTTPORT", "THALOVANT_SERVER_MQTT_PORT"),
        ("THALOVANT_SERVER_CONFIGURATION", "THALOVANT_SERVER_CONFIG"),
        ("THALOVANT_SERVER_api_port", "THALOVANT_SERVER_API_PORT"),
        ("THALOVANT_SERVER_", "THALOVANT_SERVER_"),
    ],
)
def test_an_unknown_variable_of_ours_is_told_with_the_nearest_known_one(variable: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable} is no setting. The nearest one is {near}"):
        read({"data": "d"}, {variable: "x"})
    read({"data": "d"}, {"THALOVANT_API_URL": "x", "OTHER": "y"})


@pytest.mark.parametrize(
    ("line", "key", "near"),
    [
        ('public_host = "x"', "public_host", "public-host"),
        ("prot = 1", "prot", "host"),
        ("[server]\nhost = 1", "server", "data"),
        ('[agent.default]\nfunction = "x"', "agent", ""),
        ('"api port" = 1', "api port", "api-port"),
    ],
)
def test_an_unknown_key_is_told_with_its_line(line: str, key: str, near: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(f"# a comment\n\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        read({"data": "d"}, config=tmp_path / "f.toml")
    assert f"{tmp_path / 'f.toml'}:3" in str(caught.value)
    if near and near != "data":
        assert f"{key} is no setting. The nearest one is {near}" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('api-port = "x"', "is 'x': it has to be a whole number"),
        ("api-port = true", "a number is wanted"),
        ("api-port = 1.5", "is 1.5: it has to be a whole number"),
        ("api-port = [1]", "is [1]: it has to be a whole number"),
        ("mqtt-port = 70000", "is 70000: it has to be at most 65535"),
        ("host = 5", "is 5: it has to be text, in quotes"),
        ("public-host = 5", "is 5: it has to be a list of texts"),
        ("public-host = [5]", "is 5: it has to be text, in quotes"),
        ('public-host = "https://x"', "without scheme, port or path"),
        ("certificate = 5", "is 5: it has to be a path, in quotes"),
        ("drain-seconds = true", "a number is wanted"),
        ("drain-seconds = 1979-05-27", "it has to be a number"),
        ("data = false", "it has to be a path, in quotes"),
    ],
)
def test_a_bad_value_in_a_file_is_told_with_its_line(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(f"\n{line}\n")
    options = {} if line.startswith("data") else {"data": "d"}
    with pytest.raises(SettingsError) as caught:
        read(options, config=tmp_path / "f.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'f.toml'}:2")
    assert told in str(caught.value)


def test_a_bad_value_in_the_environment_is_told_with_its_variable() -> None:
    with pytest.raises(SettingsError, match="THALOVANT_SERVER_API_PORT is 'x': it has to be a whole number"):
        read({"data": "d"}, {"THALOVANT_SERVER_API_PORT": "x"})


def test_what_does_not_go_together_is_told_with_where_it_was_said(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("api-port = 7000\n")
    with pytest.raises(SettingsError) as caught:
        read({"data": "d"}, {"THALOVANT_SERVER_MQTT_PORT": "7000"}, config=tmp_path / "f.toml")
    assert f"(--api-port: {tmp_path / 'f.toml'}:1, --mqtt-port: THALOVANT_SERVER_MQTT_PORT)" in str(caught.value)


@pytest.mark.parametrize("damage", ["folder", "binary", "huge", "syntax", "twice"])
def test_a_file_that_is_none_is_told(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    content = {
        "binary": b"\xff\x00",
        "huge": b"#" * (LARGEST_FILE + 1),
        "syntax": b"host 5",
        "twice": b"host='a'\nhost='b'",
    }
    path.mkdir() if damage == "folder" else path.write_bytes(content[damage])
    with pytest.raises(SettingsError) as caught:
        read({"data": "d"}, config=path)
    told = {"folder": "cannot be read", "binary": "not UTF-8", "huge": "larger than"}.get(damage, "line ")
    assert told in str(caught.value) and str(path) in str(caught.value)


@given(st.text(), st.dictionaries(st.sampled_from([variable_name(n) for n in Settings.model_fields]), st.text()))
def test_garbage_raises_only_the_declared_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, environ: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "f.toml"
    path.write_text(text, "utf-8", errors="replace")
    try:
        read({}, environ, config=path)
    except SettingsError as error:
        assert str(error)


KEYS = st.sampled_from([option_name(name) for name in Settings.model_fields])
VALUES = st.one_of(
    st.text(st.characters(codec="ascii", exclude_characters='\\"\x7f', min_codepoint=32)).map(lambda text: f'"{text}"'),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(["true", "[]", "[[1]]", "{a = 1}", "1979-05-27", "[1, 'x']"]),
)


@given(st.dictionaries(KEYS, VALUES))
def test_any_value_of_any_kind_is_taken_or_told(tmp_path_factory: pytest.TempPathFactory, said: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("values") / "f.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in said.items()))
    try:
        made = read({}, config=path)
    except SettingsError as error:
        assert str(path) in str(error) or "--data" in str(error)
    else:
        assert {option_name(name) for name, origin in made.origins.items() if origin != "default"} == set(said)


def test_it_is_shown_for_people_and_for_programs(file: Path) -> None:
    said = read({"api_port": "1"}, {"THALOVANT_SERVER_MQTT_PORT": "2"}, config=file)
    text = settings_shown.as_text(said)
    for words in (
        ["api-port", "1", "--api-port"],
        ["mqtt-port", "2", "THALOVANT_SERVER_MQTT_PORT"],
        ["public-host", "hub.example", "192.0.2.7", f"{file}:4"],
    ):
        assert words in [line.split() for line in text.splitlines()]
    assert str(file) in text.splitlines()[-2]
    shown = json.loads(settings_shown.as_json(said))
    assert list(shown["settings"]) == [option_name(name) for name in Settings.model_fields]
    assert shown["settings"]["public-host"] == {"value": ["hub.example", "192.0.2.7"], "from": f"{file}:4"}
    assert shown["settings"]["data"]["value"] == str(file.parent / "store")
    assert shown["file"] == str(file)


def test_the_fingerprint_of_what_clients_are_to_trust_is_shown(tmp_path: Path) -> None:
    data = {"data": str(tmp_path)}
    assert "none yet" in settings_shown.as_text(read(data))
    authority, other = make_authority().certificate, make_authority().certificate
    (tmp_path / "ca.pem").write_text(authority)
    assert json.loads(settings_shown.as_json(read(data)))["ca_fingerprint"] == fingerprint(authority)
    brought = {**data, "certificate": "c", "certificate_key": "k", "public_host": ["hub.example"]}
    assert json.loads(settings_shown.as_json(read(brought)))["ca_fingerprint"] is None
    (tmp_path / "root.pem").write_text(other)
    brought["certificate_authority"] = str(tmp_path / "root.pem")
    assert json.loads(settings_shown.as_json(read(brought)))["ca_fingerprint"] == fingerprint(other)
    (tmp_path / "root.pem").write_text("rubbish")
    assert json.loads(settings_shown.as_json(read(brought)))["ca_fingerprint"] is None
