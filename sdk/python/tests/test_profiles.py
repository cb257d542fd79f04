# SPDX-License-Identifier: Apache-2.0
"""Profiles of the configuration: added, chosen and removed without anything else of the file being lost."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant.config import Login, read_login, save_login
from thalovant.config_file import ThalovantConfigError
from thalovant.errors import ThalovantIdentityError
from thalovant.identity import ThalovantIdentity
from thalovant.profiles import read_profiles, remove_profile, save_profile, use_profile

MINE = {"access_key": "k", "password": "the-password", "site_id": "s", "default_master": "https://h"}
OTHER = {**MINE, "access_key": "other", "site_id": "other"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def held(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_first_profile_is_the_one_in_use(config: Path) -> None:
    assert save_profile(config, "kitchen", MINE) == "kitchen"
    assert held(config) == {"profiles": {"kitchen": {"identity": MINE}}, "profile": "kitchen"}
    assert save_profile(config, "garden", OTHER) == "garden"
    assert held(config)["profile"] == "kitchen"
    save_profile(config, "cellar", OTHER, use=True)
    assert held(config)["profile"] == "cellar"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert [file.name for file in config.parent.iterdir() if file.suffix != ".lock"] == ["config.yaml"]


def test_without_a_name_it_is_the_one_that_is_read(config: Path) -> None:
    assert save_profile(config, None, MINE) == "default"
    assert held(config) == {"profiles": {"default": {"identity": MINE}}}
    save_profile(config, "kitchen", OTHER)
    assert read_profiles(config).in_use == "default"
    use_profile(config, "kitchen")
    assert save_profile(config, None, MINE, overwrite=True) == "kitchen"
    assert ThalovantIdentity.from_config(config).access_key == "k"


def test_the_first_profile_is_left_unused_when_told(config: Path) -> None:
    save_profile(config, "kitchen", MINE, use=False)
    assert read_profiles(config).in_use is None
    with pytest.raises(ThalovantIdentityError, match="no profile 'default'; it has: kitchen"):
        ThalovantIdentity.from_config(config)


def test_a_profile_is_only_replaced_when_told(config: Path) -> None:
    save_profile(config, "kitchen", MINE)
    before = config.read_bytes()
    with pytest.raises(ThalovantConfigError, match="'kitchen' already") as caught:
        save_profile(config, "kitchen", OTHER)
    assert "the-password" not in str(caught.value)
    assert config.read_bytes() == before
    save_profile(config, "kitchen", OTHER, overwrite=True)
    assert held(config)["profiles"] == {"kitchen": {"identity": OTHER}}


def test_comments_order_and_settings_stay(config: Path) -> None:
    text = (
        "# mine\ndefaultProfile: garden  # usually\nprofiles:\n  # outside\n  garden:\n    note: mine\n"
        f"    identity: {json.dumps(OTHER)}  # flow\n  flat: {{password: p, colour: red}}\n"
        "control_plane: {api_url: x}\n"
    )
    written(config, text)
    save_profile(config, "kitchen", MINE)
    after = config.read_text()
    for line in text.splitlines():
        assert line in after
    save_profile(config, "garden", MINE, overwrite=True)
    save_profile(config, "flat", MINE, overwrite=True)
    use_profile(config, "kitchen")
    assert held(config) == {
        "defaultProfile": "kitchen",
        "profiles": {
            "garden": {"note": "mine", "identity": MINE},
            "flat": {"colour": "red", "identity": MINE},
            "kitchen": {"identity": MINE},
        },
        "control_plane": {"api_url": "x"},
    }
    assert all(comment in config.read_text() for comment in ("# mine", "# outside"))


@pytest.mark.parametrize("nested", [True, False])
def test_a_file_that_is_one_identity_becomes_the_profile_default(config: Path, nested: bool) -> None:
    whole = {"identity": OTHER} if nested else OTHER
    written(config, yaml.safe_dump({**whole, "control_plane": {"api_url": "x"}}))
    assert read_profiles(config).identities["default"]["access_key"] == "other"
    assert ThalovantIdentity.from_config(config, profile="default").access_key == "other"
    save_profile(config, "kitchen", MINE)
    profiles = {"default": {"identity": OTHER}, "kitchen": {"identity": MINE}}
    assert held(config) == {"control_plane": {"api_url": "x"}, "profiles": profiles}
    assert ThalovantIdentity.from_config(config).access_key == "other"


def test_a_file_that_is_one_identity_is_not_replaced_by_accident(config: Path) -> None:
    written(config, yaml.safe_dump(OTHER))
    for name in ("default", None):
        with pytest.raises(ThalovantConfigError, match="'default' already"):
            save_profile(config, name, MINE)
    save_profile(config, None, MINE, overwrite=True)
    assert held(config) == {"profiles": {"default": {"identity": MINE}}}


def test_removing_the_one_in_use_leaves_none_in_use(config: Path) -> None:
    save_profile(config, "kitchen", MINE)
    save_profile(config, "garden", OTHER)
    remove_profile(config, "kitchen")
    assert held(config) == {"profiles": {"garden": {"identity": OTHER}}}
    remove_profile(config, "garden")
    assert read_profiles(config).identities == {}
    save_profile(config, "cellar", MINE)
    assert read_profiles(config).in_use == "cellar"


def test_removing_the_identity_that_is_the_file(config: Path) -> None:
    written(config, yaml.safe_dump({**MINE, "control_plane": {"api_url": "x"}}))
    use_profile(config, "default")
    remove_profile(config, "default")
    assert held(config) == {"control_plane": {"api_url": "x"}, "profile": "default"}


@pytest.mark.parametrize("act", [remove_profile, use_profile])
def test_a_profile_that_is_not_there_is_named_with_those_that_are(config: Path, act: Any) -> None:
    with pytest.raises(ThalovantConfigError, match="no profile 'x'; it has: none"):
        act(config, "x")
    save_profile(config, "kitchen", MINE)
    with pytest.raises(ThalovantConfigError, match="it has: kitchen"):
        act(config, "x")


def test_a_name_of_digits_is_a_name(config: Path) -> None:
    written(config, f"profile: 1\nprofiles: {{1: {json.dumps(MINE)}}}\n")
    assert read_profiles(config).in_use == "1"
    assert ThalovantIdentity.from_config(config).access_key == "k"
    save_profile(config, "1", OTHER, overwrite=True)
    assert held(config)["profiles"] == {1: {"identity": OTHER}}
    remove_profile(config, "1")
    assert held(config) == {"profiles": {}}


@pytest.mark.parametrize("name", ["", " a", "a\n", "\x1b[2J", "x" * 65])
def test_an_odd_name_is_refused(config: Path, name: str) -> None:
    with pytest.raises(ThalovantConfigError):
        save_profile(config, name or " ", MINE)
    assert not config.exists()


@pytest.mark.parametrize("text", ["profiles: [1]\n", "profiles: text\n"])
def test_profiles_that_are_none_are_not_replaced(config: Path, text: str) -> None:
    written(config, text)
    for act in (lambda: save_profile(config, "x", MINE), lambda: remove_profile(config, "x")):
        with pytest.raises(ThalovantConfigError, match="holds no mapping"):
            act()
    assert config.read_text() == text


def test_a_file_open_to_others_is_left_alone(config: Path) -> None:
    written(config, "profile: x\n").chmod(0o644)
    with pytest.raises(ThalovantConfigError, match="chmod 600"):
        save_profile(config, "kitchen", MINE)
    assert config.read_text() == "profile: x\n"


def _add(config: str, start: Any, number: int) -> None:
    start.wait()
    save_profile(Path(config), f"hub {number}", {**MINE, "access_key": f"key {number}"})
    save_login(Login(f"https://h:{number}"), Path(config))


def test_programs_that_write_at_once_lose_nothing_of_each_other(config: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    programs = [context.Process(target=_add, args=(str(config), start, number)) for number in range(4)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(60)
    assert [program.exitcode for program in programs] == [0] * 4
    keys = {name: values["access_key"] for name, values in read_profiles(config).identities.items()}
    assert keys == {f"hub {number}": f"key {number}" for number in range(4)}
    assert read_login(config) is not None


NAMES = st.sampled_from(["default", "kitchen", "1", "yes", "a: b", "é"])


@settings(deadline=None)  # files are synced
@given(st.lists(st.tuples(st.sampled_from(["save", "remove", "use"]), NAMES), max_size=8), st.booleans())
def test_whatever_is_done_the_file_holds_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]], whole: bool
) -> None:
    config = tmp_path_factory.mktemp("steps") / "config.yaml"
    expected: dict[str, Any] = {"default": OTHER} if whole else {}
    written(config, ("# mine\n" + yaml.safe_dump(OTHER) if whole else "# mine\n") + "keep: [1, 2]\n")
    for number, (step, name) in enumerate(steps):
        identity = {**MINE, "access_key": f"key {number}"}
        try:
            if step == "save":
                save_profile(config, name, identity, overwrite=True)
                expected[name] = identity
            elif step == "remove":
                remove_profile(config, name)
                del expected[name]
            else:
                use_profile(config, name)
                assert read_profiles(config).in_use == name
        except ThalovantConfigError:
            assert name not in expected
    found = read_profiles(config).identities
    assert found.keys() == expected.keys()
    assert {name: values["access_key"] for name, values in found.items()} == {
        name: values["access_key"] for name, values in expected.items()
    }
    assert held(config)["keep"] == [1, 2]
    assert "# mine" in config.read_text()
