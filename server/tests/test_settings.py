# SPDX-License-Identifier: Apache-2.0
"""Settings are checked before anything is opened, and told in the words of whoever typed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.errors import SettingsError
from thalovant_server.server_tls import canonical
from thalovant_server.settings import Settings, option_name, takes_several, variable_name
from thalovant_server.settings_sources import read_settings


def settings(**options: Any) -> Settings:
    """The settings as somebody types them, with nothing in the environment."""
    return read_settings({"data": "data", **options}, {"XDG_CONFIG_HOME": "/nowhere"}).settings


def test_loopback_needs_no_public_host() -> None:
    assert settings().advertised_host == "localhost"
    assert settings(host="::1").advertised_host == "localhost"
    assert settings(host="localhost").advertised_host == "localhost"
    assert settings(host="localhost").listen_host == "127.0.0.1"


def test_a_model_made_by_a_program_takes_what_it_is_given_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALOVANT_SERVER_HOST", "::1")
    assert Settings(data=Path("data")).host == "127.0.0.1"


def test_two_listeners_need_two_ports() -> None:
    with pytest.raises(SettingsError, match="--api-port and --mqtt-port are both 9443"):
        settings(api_port="9443", mqtt_port="9443")
    assert settings(api_port="0", mqtt_port="0").api_port == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])
def test_beyond_loopback_the_line_to_type_is_told(host: str) -> None:
    with pytest.raises(SettingsError, match=f"--host {host} --public-host NAME"):
        settings(host=host)
    assert settings(host=host, public_host=["hub.example"]).advertised_host == "hub.example"


def test_brackets_are_of_urls_and_taken_off() -> None:
    made = settings(host="[::]", public_host=["[2001:DB8:0::1]", "hub.example"])
    assert (made.host, made.public_host) == ("::", ("2001:db8::1", "hub.example"))


def test_hosts_are_kept_in_one_form_and_once() -> None:
    made = settings(public_host=["Hub.Example.", "hub.example", "2001:db8:0:0::1", "2001:db8::1"])
    assert made.public_host == ("hub.example", "2001:db8::1")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "https://hub.example",
        "hub.example:8443",
        "hub/example",
        "-x",
        "a..b",
        "é.example",
        "x" * 300,
        "a\n",
        "a,b",
        "[hub.example]",
        "256.1.1.1",
        "1",
    ],
)
def test_a_public_host_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"--public-host: .*without scheme, port or path"):
        settings(public_host=[name])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("0.0.0.0", "where to listen"),
        ("::", "where to listen"),
        ("[::]", "where to listen"),
        ("0::0", "no address that other machines can dial"),
        ("fe80::1%eth0", "without zone"),
        ("224.0.0.1", "no address that other machines can dial"),
    ],
)
def test_an_address_that_nobody_can_dial_is_refused(address: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        settings(public_host=[address])


@pytest.mark.parametrize("name", ["hub", "hub.example", "192.0.2.7", "2001:db8::1", "xn--9caa.example", "h-1.example"])
def test_names_and_addresses_are_public_hosts(name: str) -> None:
    assert settings(public_host=[name]).advertised_host == name


@given(st.text(max_size=60))
def test_any_text_is_a_host_in_its_one_form_or_told(name: str) -> None:
    try:
        [host] = settings(public_host=[name]).public_host
    except SettingsError as error:
        assert "--public-host" in str(error)
    else:
        assert canonical(host) == host == host.lower()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("api_port", "x", "--api-port is 'x': it has to be a whole number"),
        ("api_port", "", "--api-port is '': it has to be a whole number"),
        ("api_port", "-1", "--api-port is '-1': it has to be at least 0"),
        ("mqtt_port", "65536", "--mqtt-port is '65536': it has to be at most 65535"),
        ("mqtt_port", "1.5", "--mqtt-port is '1.5': it has to be a whole number"),
        ("drain_seconds", "soon", "--drain-seconds is 'soon': it has to be a number"),
        ("drain_seconds", "nan", "--drain-seconds is 'nan': it has to be"),
        ("drain_seconds", "inf", "--drain-seconds is 'inf': it has to be"),
        ("drain_seconds", "-1", "--drain-seconds is '-1': it has to be at least 0"),
        ("drain_seconds", "1e9", "--drain-seconds is '1e9': it has to be at most 3600"),
        ("certificate", "", "--certificate: a path is wanted"),
        ("data", "~nobody-of-that-name/x", "--data: ~nobody-of-that-name/x cannot be found"),
    ],
)
def test_a_bad_value_is_told_with_its_option_and_what_it_has_to_be(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**{name: value})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"certificate": "c"}, "--certificate is given without --certificate-key"),
        ({"certificate_key": "k"}, "--certificate-key is given without --certificate:"),
        ({"certificate_authority": "a"}, "add --certificate and --certificate-key"),
        ({"certificate": "c", "certificate_key": "k"}, "needs --public-host"),
    ],
)
def test_the_files_of_a_certificate_belong_together(options: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        settings(**options)


def test_a_home_is_found() -> None:
    assert settings(data="~/data").data == Path.home() / "data"


def test_every_setting_has_one_name_everywhere_and_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert option_name(name).replace("-", "_").upper() in variable_name(name)
        assert field.description and field.description.endswith("."), name
    assert [name for name in Settings.model_fields if takes_several(name)] == ["public_host", "agent"]


class TestBroker:
    JOINED: ClassVar = {"broker_url": "mqtts://broker.example.test", "broker_password_file": "admin-password"}

    def test_without_one(self) -> None:
        assert not settings().has_broker

    def test_one_of_our_own(self) -> None:
        made = settings(broker="mosquitto")
        assert made.has_broker
        assert (made.broker_port, made.broker_root) == (8884, "")

    def test_one_that_is_joined(self) -> None:
        made = settings(**self.JOINED, broker_root="/home/voice/")
        assert made.has_broker
        assert (made.broker_url, made.broker_user) == ("mqtts://broker.example.test:8883", "thalovant-admin")
        assert made.broker_root == "home/voice"

    def test_not_both(self) -> None:
        with pytest.raises(SettingsError, match="take one of them"):
            settings(broker="mosquitto", **self.JOINED)

    def test_another_kind_is_named_with_those_there_are(self) -> None:
        with pytest.raises(SettingsError, match="mosquitto"):
            settings(broker="rabbitmq")

    def test_the_password_is_in_a_file_and_the_sentence_says_where_it_comes_from(self) -> None:
        with pytest.raises(SettingsError, match="broker init mosquitto --dir D"):
            settings(broker_url="mqtts://broker.example.test")

    @pytest.mark.parametrize("url", ["mqtt://broker:1883", "broker:8883", "mqtts://u:p@broker"])
    def test_an_address_without_tls_or_with_a_password(self, url: str) -> None:
        with pytest.raises(SettingsError, match="broker-url"):
            settings(**{**self.JOINED, "broker_url": url})

    @pytest.mark.parametrize("root", ["#", "home/+", "a//b", "$SYS"])
    def test_a_root_with_wildcards(self, root: str) -> None:
        with pytest.raises(SettingsError, match="broker-root"):
            settings(**self.JOINED, broker_root=root)

    @pytest.mark.parametrize("taken", ["api_port", "mqtt_port"])
    def test_its_port_is_its_own(self, taken: str) -> None:
        with pytest.raises(SettingsError, match="are both 9443"):
            settings(broker="mosquitto", broker_port="9443", **{taken: "9443"})
        assert settings(broker="mosquitto", broker_port="0", api_port="0", mqtt_port="0").has_broker

    def test_a_certificate_and_its_key_belong_together(self) -> None:
        with pytest.raises(SettingsError, match="--broker-certificate-key"):
            settings(**self.JOINED, broker_certificate="c.pem")

    @pytest.mark.parametrize("option", ["broker_public_url", "broker_ca", "broker_password_file"])
    def test_what_says_nothing_without_the_broker_it_is_for(self, option: str) -> None:
        value = "mqtts://broker.example.test" if option == "broker_public_url" else "file"
        with pytest.raises(SettingsError, match=f"--{option_name(option)} is for a broker that is joined"):
            settings(**{option: value})

    @pytest.mark.parametrize("seconds", ["0", "0.5", "-1", "x", "nan"])
    def test_how_often_it_is_looked_at(self, seconds: str) -> None:
        with pytest.raises(SettingsError, match="broker-check-seconds"):
            settings(**self.JOINED, broker_check_seconds=seconds)
