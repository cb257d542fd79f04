# SPDX-License-Identifier: Apache-2.0
"""`thalovant config`, and which identity a command uses."""

from __future__ import annotations

import io
import json
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thalovant import ThalovantIdentity
from thalovant.config import Login, read_login, save_login
from thalovant.noise_state import noise_state
from thalovant.profiles import read_profiles

if TYPE_CHECKING:
    from conftest import Typed

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
SECRETS = ("the-key", "the-password", "the-broker-password", "the-token", "MIIB")
WHOLE: dict[str, Any] = {
    "access_key": "the-key",
    "password": "the-password",
    "site_id": "kitchen",
    "default_master": "wss://hub.example:8443",
    "protocols": {"wss": True, "mqtt": True},
    "mqtt": {
        "endpoint": "mqtts://hub.example:8883",
        "username": "the-key",
        "password": "the-broker-password",
        "topic_prefix": "a/b",
    },
    "metadata": {"room": "north"},
    "ca_pem": CA,
}


def keep(name: str, site_id: str = "kitchen", **more: Any) -> Path:
    return ThalovantIdentity.from_mapping({**WHOLE, "site_id": site_id, **more}).save(Path(name))


@pytest.fixture
def kitchen(typed: Typed) -> Typed:
    """Types where the profile `kitchen` is kept."""
    assert typed("config", "add", "kitchen", "--identity", keep("kitchen.json")).code == 0
    return typed


class TestAdding:
    def test_the_first_profile_is_in_use(self, typed: Typed, lonely: Path) -> None:
        ran = typed("config", "add", "kitchen", "--identity", keep("a.json"))
        config = lonely / "config.yaml"
        assert ran.as_tuple() == (0, f"Kept kitchen as the profile kitchen in {config}. It is in use.\n", "")
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        ran = typed("config", "add", "garden", "--identity", keep("b.json", "garden"))
        assert ran.out.endswith("Type `thalovant config use garden` to have it used.\n")
        ran = typed("config", "add", "my cellar", "--identity", keep("d.json", "cellar"))
        assert ran.out.endswith("Type `thalovant config use 'my cellar'` to have it used.\n")
        ran = typed("config", "add", "cellar", "--identity", keep("c.json", "cellar"), "--use", "--json")
        assert json.loads(ran.out) == {"profile": "cellar", "path": str(config), "in_use": "cellar"}
        assert ThalovantIdentity.from_config().site_id == "cellar"

    def test_from_the_environment(self, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in ThalovantIdentity.from_mapping(WHOLE).as_env().items():
            monkeypatch.setenv(name, value)
        assert typed("config", "add", "kitchen", "--from-env").code == 0
        assert ThalovantIdentity.from_config().as_dict(include_secrets=True)["mqtt"]["username"] == "the-key"

    def test_a_name_that_is_taken(self, kitchen: Typed) -> None:
        other = keep("other.json", "other")
        ran = kitchen("config", "add", "kitchen", "--identity", other)
        assert ran.as_tuple() == (
            1, "", "error: There is a profile 'kitchen' already; --force replaces it. (exists)\n",
        )  # fmt: skip
        assert kitchen("config", "add", "kitchen", "--identity", other, "--force").code == 0
        assert ThalovantIdentity.from_config().site_id == "other"

    @pytest.mark.parametrize("words", [(), ("--from-env", "--identity", "x.json")])
    def test_one_identity_must_be_named(self, typed: Typed, words: tuple[str, ...]) -> None:
        assert "--identity FILE or --from-env" in typed("config", "add", "kitchen", *words).err

    def test_to_a_file_that_was_named(self, typed: Typed, lonely: Path) -> None:
        assert typed("config", "add", "kitchen", "--identity", keep("a.json"), "--config", "mine.yaml").code == 0
        assert read_profiles(Path("mine.yaml")).in_use == "kitchen"
        assert not lonely.exists()

    def test_an_odd_name(self, typed: Typed) -> None:
        ran = typed("config", "add", "a\x1b[2J", "--identity", keep("a.json"))
        assert (ran.code, ran.out, "\x1b" in ran.err) == (1, "", False)


class TestLooking:
    def test_where_it_is(self, typed: Typed, lonely: Path) -> None:
        assert typed("config", "path").out == f"{lonely / 'config.yaml'}\n"
        assert json.loads(typed("config", "path", "--json").out) == {
            "path": str(lonely / "config.yaml"),
            "exists": False,
        }
        assert typed("config", "path", "--config", "x").out == "x\n"

    def test_the_list(self, kitchen: Typed, lonely: Path) -> None:
        kitchen("config", "add", "garden", "--identity", keep("b.json", "garden", mqtt=None))
        lines = [line.split() for line in kitchen("config", "list").out.splitlines()]
        assert lines == [
            ["PROFILE", "SITE", "HUB", "CARRIERS"],
            ["*", "kitchen", "kitchen", "wss://hub.example:8443", "wss,mqtt"],
            ["garden", "garden", "wss://hub.example:8443", "wss"],
        ]
        told = json.loads(kitchen("config", "list", "--json").out)
        assert (told["in_use"], [one["carriers"] for one in told["profiles"]]) == (
            "kitchen",
            [["wss", "mqtt"], ["wss"]],
        )

    def test_an_empty_list(self, typed: Typed) -> None:
        assert "Type: thalovant config add NAME --identity FILE" in typed("config", "list").out
        assert json.loads(typed("config", "list", "--json").out)["profiles"] == []

    def test_a_profile_that_is_no_identity_is_listed_with_the_reason(self, kitchen: Typed, lonely: Path) -> None:
        config = lonely / "config.yaml"
        config.write_text(config.read_text() + "other: 1\n")
        values = yaml.safe_load(config.read_text())
        config.write_text(
            yaml.safe_dump({**values, "profiles": {**values["profiles"], "odd": 5, "half": {"key": "k"}}})
        )
        listed = kitchen("config", "list")
        assert listed.code == 0 and "(Missing required identity field: password)" in listed.out
        assert "(An identity is a mapping" in listed.out
        assert json.loads(kitchen("config", "show", "--json").out)["profiles"]["odd"]["error"]

    @pytest.mark.parametrize("as_json", [True, False])
    @pytest.mark.parametrize("profile", ["kitchen", None])
    def test_what_is_shown_holds_no_secret_unless_asked(
        self, kitchen: Typed, as_json: bool, profile: str | None
    ) -> None:
        save_login(Login("https://h:1", CA, "the-token", "id-1", "me@example.org"))
        words = ["config", "show", *([profile] if profile else []), *(["--json"] if as_json else [])]
        ran, told = kitchen(*words), kitchen(*words, "--show-secrets")
        assert (ran.code, told.code) == (0, 0)
        assert not [secret for secret in SECRETS if secret in ran.out]
        assert [secret for secret in SECRETS if secret not in told.out] == (["the-token"] if profile else [])
        shown = (json.loads if as_json else yaml.safe_load)(ran.out)
        assert (shown if profile else shown["profiles"]["kitchen"])["site_id"] == "kitchen"
        if not profile:
            assert shown["login"] == {
                "api_url": "https://h:1",
                "ca_pem": "<present>",
                "access_token": "<present>",
                "token_id": "id-1",
                "email": "me@example.org",
            }

    def test_with_nothing_there(self, typed: Typed) -> None:
        assert json.loads(typed("config", "show", "--json").out)["login"] is None
        assert "No such file" in typed("config", "show", "kitchen").err

    def test_a_file_open_to_others(self, kitchen: Typed, lonely: Path) -> None:
        (lonely / "config.yaml").chmod(0o644)
        for words in (("list",), ("show",), ("use", "kitchen"), ("remove", "kitchen", "--yes"), ("get", "site_id")):
            ran = kitchen("config", *words)
            assert (ran.code, ran.out) == (1, "") and "chmod 600" in ran.err


class TestUsingAndRemoving:
    def test_use(self, kitchen: Typed) -> None:
        kitchen("config", "add", "garden", "--identity", keep("b.json", "garden"))
        assert kitchen("config", "use", "garden").out == "The profile garden is in use.\n"
        assert ThalovantIdentity.from_config().site_id == "garden"
        assert json.loads(kitchen("config", "use", "kitchen", "--json").out) == {"in_use": "kitchen"}
        ran = kitchen("config", "use", "cellar")
        assert ran.err.endswith("has no profile 'cellar'; it has: garden, kitchen. (config_invalid)\n")

    def test_remove(self, kitchen: Typed) -> None:
        save_login(Login("https://h:1"))
        ran = kitchen("config", "remove", "kitchen", "--yes")
        assert ran.out.startswith("Removed the profile kitchen. No profile is in use now;")
        assert read_profiles(Path(json.loads(kitchen("config", "path", "--json").out)["path"])).identities == {}
        assert read_login() == Login("https://h:1")
        assert "no profile 'kitchen'" in kitchen("config", "remove", "kitchen").err

    @pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 130), ("", 130)])
    def test_a_person_is_asked(self, kitchen: Typed, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
        stdin = io.StringIO(answer)
        stdin.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", stdin)
        ran = kitchen("config", "remove", "kitchen")
        assert ran.code == code
        assert "cannot be shown again" in ran.err
        assert (json.loads(kitchen("config", "list", "--json").out)["profiles"] == []) == (code == 0)

    def test_a_program_is_not(self, kitchen: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        assert "there is nobody to ask; give --yes" in kitchen("config", "remove", "kitchen").err


class TestEnvironment:
    @pytest.mark.parametrize("export", [True, False])
    def test_a_shell_takes_it(self, kitchen: Typed, export: bool, tmp_path: Path) -> None:
        ran = kitchen("config", "env", *(["--export"] if export else []))
        file = tmp_path / "variables"
        file.write_text(ran.out)
        script = f"{'' if export else 'set -a; '}. {file}; env -0"
        seen = subprocess.run(["sh", "-c", script], capture_output=True, env={}, check=True, timeout=60).stdout.decode()
        variables = dict(entry.split("=", 1) for entry in seen.split("\0") if entry.startswith("THALOVANT_"))
        assert variables == ThalovantIdentity.from_mapping(WHOLE).as_env()

    def test_as_json_with_another_prefix_and_from_a_file(self, kitchen: Typed) -> None:
        ran = kitchen("config", "env", "--json", "--prefix", "MY_", "--identity", keep("b.json", "garden"))
        assert json.loads(ran.out)["MY_SITE_ID"] == "garden"
        assert "No environment variable can begin with" in kitchen("config", "env", "--prefix", "a b").err

    def test_a_person_hears_of_the_key_that_stays_behind(self, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("thalovant.cli.output.is_for_people", lambda stream: True)
        file = keep("a.json")
        assert typed("config", "env", "--identity", file).err == ""
        identity = ThalovantIdentity.from_file(file)
        noise_state(identity).load(identity.access_key, "wss://h:1")
        assert "thalovant clients reset-key CLIENT" in typed("config", "env", "--identity", file).err

    def test_programs_that_read_it_on_this_machine_have_the_same_key(
        self, kitchen: Typed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        profile = ThalovantIdentity.from_config()
        key = noise_state(profile).load(profile.access_key, "wss://h:1").private
        for name, value in json.loads(kitchen("config", "env", "--json").out).items():
            monkeypatch.setenv(name, value)
        read = ThalovantIdentity.from_env()
        assert noise_state(read).load(read.access_key, "wss://h:1").private == key

    def test_it_is_printed_where_no_key_can_be_kept(
        self, typed: Typed, lonely: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("thalovant.cli.output.is_for_people", lambda stream: True)
        lonely.mkdir(parents=True)
        (lonely / "noise").write_text("no folder")
        ran = typed("config", "env", "--identity", keep("a.json"))
        assert (ran.code, "THALOVANT_SITE_ID=kitchen" in ran.out) == (0, True)
        assert f"The Noise state {lonely / 'noise'}" in ran.err and "cannot be used" in ran.err


class TestSettings:
    def test_get(self, kitchen: Typed) -> None:
        assert kitchen("config", "get", "site_id").out == "kitchen\n"
        assert kitchen("config", "get", "mqtt.qos").out == "1\n"
        assert kitchen("config", "get", "protocols.mqtt").out == "true\n"
        assert json.loads(kitchen("config", "get", "metadata.room", "--json").out) == {"metadata.room": "north"}
        assert kitchen("config", "get", "password", "--show-secrets").out == "the-password\n"
        assert (
            kitchen("config", "get", "password").err
            == "error: password is a secret: --show-secrets prints it. (hidden)\n"
        )
        ran = kitchen("config", "get", "colour")
        assert "There is no setting 'colour'; there are: site_id, " in ran.err and "(unknown_setting)" in ran.err

    @pytest.mark.parametrize(
        ("key", "typed_value", "value"),
        [
            ("site_id", "garden", "garden"),
            ("default_port", "443", 443),
            ("default_path", "x/", "/x"),
            ("data_plane_endpoints.wss", "wss://other:1/", "wss://other:1"),
            ("protocols.https", "yes", True),
            ("protocols.wss", "off", False),
            ("mqtt.qos", "0", 0),
            ("mqtt.tls", "false", False),
            ("mqtt.endpoint", "mqtts://other:1", "mqtts://other:1"),
            ("metadata.floor", "2", "2"),
        ],
    )
    def test_set(self, kitchen: Typed, lonely: Path, key: str, typed_value: str, value: object) -> None:
        config = lonely / "config.yaml"
        config.write_text("# mine\n" + config.read_text())
        ran = kitchen("config", "set", key, typed_value)
        assert ran.as_tuple() == (0, f"Set {key} of the profile kitchen.\n", "")
        assert json.loads(kitchen("config", "get", key, "--json").out) == {key: value}
        assert ThalovantIdentity.from_config().password == "the-password"
        assert config.read_text().startswith("# mine\n")

    def test_a_certificate_comes_from_a_file(self, kitchen: Typed) -> None:
        Path("ca.pem").write_text(CA + CA)
        assert kitchen("config", "set", "ca_pem", "ca.pem").code == 0
        assert ThalovantIdentity.from_config().ca_pem == CA + CA
        assert "Unable to read the CA file none.pem" in kitchen("config", "set", "ca_pem", "none.pem").err

    @pytest.mark.parametrize("whole", [True, False])
    def test_of_a_file_that_is_one_identity(self, typed: Typed, lonely: Path, whole: bool) -> None:
        lonely.mkdir(parents=True)
        config = lonely / "config.yaml"
        config.write_text("# mine\n" + yaml.safe_dump(WHOLE if whole else {"identity": WHOLE}))
        config.chmod(0o600)
        assert typed("config", "set", "site_id", "garden").out == "Set site_id of the profile default.\n"
        assert ThalovantIdentity.from_config().site_id == "garden"
        assert config.read_text().startswith("# mine\n") and "profiles" not in config.read_text()

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("password", "x", "'password' cannot be changed; there are site_id"),
            ("colour", "x", "cannot be changed"),
            ("default_port", "70000", "must lie between 1 and 65535"),
            ("default_port", "x", "must be an integer"),
            ("mqtt.qos", "2", "2 is no value for mqtt.qos"),
            ("mqtt.tls", "perhaps", "mqtt.tls is true or false"),
            ("data_plane_endpoints.wss", "nonsense", "is no value for data_plane_endpoints.wss"),
            ("site_id", " ", "Missing required identity field: site_id"),
            ("site_id", "a\nb", "control characters"),
        ],
    )
    def test_what_is_no_value_changes_nothing(
        self, kitchen: Typed, lonely: Path, key: str, value: str, said: str
    ) -> None:
        before = (lonely / "config.yaml").read_bytes()
        ran = kitchen("config", "set", key, value)
        assert (ran.code, ran.out) == (1, "") and said in ran.err
        assert (lonely / "config.yaml").read_bytes() == before

    def test_unset(self, kitchen: Typed) -> None:
        assert kitchen("config", "unset", "metadata.room").out == "Took metadata.room out of the profile kitchen.\n"
        assert kitchen("config", "unset", "ca_pem", "--json").code == 0
        assert (ThalovantIdentity.from_config().metadata, ThalovantIdentity.from_config().ca_pem) == ({}, None)
        assert "Missing required identity field: site_id" in kitchen("config", "unset", "site_id").err
        assert "no profile 'x'" in kitchen("config", "unset", "ca_pem", "--profile", "x").err


class TestWhichIdentity:
    """`config env` says which one a command would use."""

    def chosen(self, typed: Typed, *words: object) -> str:
        ran = typed("config", "env", "--json", *words)
        assert ran.code == 0, ran.err
        return str(json.loads(ran.out)["THALOVANT_SITE_ID"])

    def test_the_order(self, typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("in-use", "other", "by-variable"):
            keep(tmp_path / f"{name}.json", name).rename(tmp_path / f"{name}.kept")
            assert typed("config", "add", name, "--identity", tmp_path / f"{name}.kept").code == 0
        assert self.chosen(typed) == "in-use"
        keep("me.identity.json", "here")
        assert self.chosen(typed) == "here"
        for name, value in ThalovantIdentity.from_mapping({**WHOLE, "site_id": "environment"}).as_env().items():
            monkeypatch.setenv(name, value)
        assert self.chosen(typed) == "environment"
        monkeypatch.setenv("THALOVANT_PROFILE", "by-variable")
        assert self.chosen(typed) == "by-variable"
        monkeypatch.setenv("THALOVANT_IDENTITY", str(keep(tmp_path / "file.json", "file-variable")))
        assert self.chosen(typed) == "file-variable"
        assert self.chosen(typed, "--profile", "other") == "other"
        keep(tmp_path / "c.json", "elsewhere")
        typed("config", "add", "e", "--identity", tmp_path / "c.json", "--config", "other.yaml")
        assert self.chosen(typed, "--config", "other.yaml") == "elsewhere"
        assert self.chosen(typed, "--config", "other.yaml", "--profile", "e") == "elsewhere"
        assert self.chosen(typed, "--identity", tmp_path / "file.json") == "file-variable"

    def test_two_at_once(self, typed: Typed) -> None:
        for other in ("--profile", "--config"):
            assert "not both" in typed("ask", "hi", "--identity", "x", other, "y").err

    def test_profiles_of_which_none_is_in_use(self, kitchen: Typed) -> None:
        kitchen("config", "add", "garden", "--identity", keep("b.json", "garden"))
        kitchen("config", "remove", "kitchen", "--yes")
        ran = kitchen("ask", "hi")
        assert (
            "config.yaml (no profile in use). Type: thalovant config use NAME (there are: garden) (no_identity)"
            in ran.err
        )
