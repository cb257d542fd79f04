# SPDX-License-Identifier: Apache-2.0
"""The login in the user's config file: kept beside everything else that is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalovant.config import SECTION, Login, ThalovantConfigError, read_login, save_login

TOKEN = "tvpat_example0000000000000000"


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_rest_of_the_file_stays(lonely: Path) -> None:
    path = lonely / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# mine\nprofile: x\ncontrol_plane:\n  api_url: https://old:1\n\n# more\nprofiles: {}\n")
    path.chmod(0o600)
    save_login(Login("https://new:1", "-----BEGIN CERTIFICATE-----\nx\n", TOKEN))
    text = path.read_text()
    assert "# mine\nprofile: x\n" in text
    assert "# more\nprofiles: {}\n" in text
    assert "old" not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_login() == Login("https://new:1", "-----BEGIN CERTIFICATE-----\nx\n", TOKEN)


def test_a_file_in_flow_style_is_written_anew(lonely: Path) -> None:
    path = lonely / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("{control_plane: {api_url: 'https://old:1'}, profile: x}")
    path.chmod(0o600)
    save_login(Login("https://new:1"))
    assert read_login() == Login("https://new:1")
    assert "profile: x" in path.read_text()


def test_without_a_file_or_a_section_there_is_no_login(lonely: Path) -> None:
    assert read_login() is None
    written(lonely, "profile: x\n")
    assert read_login() is None
    written(lonely, "")
    assert read_login() is None


def test_a_new_file_is_private_and_reads_back(tmp_path: Path) -> None:
    login = Login("https://h:1", "pem", TOKEN, "tok-1", "me@example.org")
    path = save_login(login, tmp_path / "new" / "config.yaml")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert read_login(path) == login
    save_login(Login("https://h:2"), path)
    assert read_login(path) == Login("https://h:2")
    assert TOKEN not in path.read_text()


@pytest.mark.parametrize(
    "text",
    ["[", "5", f"{SECTION}: 5", f"{SECTION}: {{}}", f"{SECTION}: {{api_url: 5}}", f"{SECTION}: {{api_url: 'ftp://x'}}"],
)
def test_a_file_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, f"{text} # {TOKEN}\n")
    with pytest.raises(ThalovantConfigError, match=r"config\.yaml") as caught:
        read_login(path)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("name", ["ca_pem", "access_token", "token_id", "email"])
def test_an_optional_field_that_is_no_text_is_left_out(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"{SECTION}: {{api_url: 'https://h:1', {name}: 5}}")
    assert read_login(path) == Login("https://h:1")


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path, "profiles: [")
    with pytest.raises(ThalovantConfigError):
        save_login(Login("https://h:1"), path)
    assert path.read_text() == "profiles: ["


def test_an_api_url_of_half_a_date_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "when: 2024-99-99\n")
    with pytest.raises(ThalovantConfigError, match="not YAML"):
        read_login(path)


def test_a_file_open_to_others_is_neither_read_nor_written(tmp_path: Path) -> None:
    path = written(tmp_path, f"{SECTION}: {{api_url: 'https://h:1'}}", 0o644)
    for use in (lambda: read_login(path), lambda: save_login(Login("https://h:2"), path)):
        with pytest.raises(ThalovantConfigError, match="chmod 600"):
            use()
    assert "h:1" in path.read_text()
