# SPDX-License-Identifier: Apache-2.0
"""A directory that is whole is found again; one that is damaged is named; nobody else reads its secrets."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from thalovant_server import data_directory
from thalovant_server.certificate_keeper import utc_now
from thalovant_server.certificate_source import CertificateSource
from thalovant_server.certificates import KeyPair
from thalovant_server.data_directory import DataDirectory
from thalovant_server.errors import DataDamagedError, DataDirectoryError, DataDirectoryInUseError

SECRETS = ("seal.key", "ca.key", "tls.key", "admin-password")


def fill(directory: DataDirectory) -> tuple[bytes, KeyPair, str]:
    """What a first start does, without a server."""
    key = directory.seal_key()
    authority = CertificateSource(directory.certificates).load(utc_now()).authority.pair
    directory.file(data_directory.DATABASE).touch(0o600)
    password = directory.admin_password()
    directory.finish_first_start()
    return key, authority, password


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nested" / "data"


@pytest.fixture
def filled(path: Path) -> Iterator[Path]:
    directory = DataDirectory(path)
    fill(directory)
    directory.close()
    yield path


def test_a_second_start_finds_all_of_it_again(path: Path) -> None:
    first = DataDirectory(path)
    assert first.is_new
    made = fill(first)
    certificate = first.file("tls.crt").read_text()
    first.close()
    second = DataDirectory(path)
    assert not second.is_new
    assert fill(second) == made
    assert second.file("tls.crt").read_text() == certificate
    second.close()


def test_a_first_start_that_was_cut_off_goes_on(path: Path) -> None:
    cut = DataDirectory(path)
    key = cut.seal_key()
    cut.close()
    again = DataDirectory(path)
    assert again.is_new
    assert again.seal_key() == key
    again.close()


def test_secrets_are_for_the_owner_alone(filled: Path) -> None:
    assert stat.S_IMODE(filled.stat().st_mode) == 0o700
    for name in SECRETS:
        assert stat.S_IMODE((filled / name).stat().st_mode) == 0o600, name


def test_the_bundle_holds_our_authority_after_the_systems(filled: Path) -> None:
    assert (filled / "ca-bundle.pem").read_text().endswith((filled / "ca.pem").read_text())


def test_a_second_process_is_told_who_owns_it(filled: Path) -> None:
    first = DataDirectory(filled)
    program = (
        "import sys, pathlib\nfrom thalovant_server.data_directory import *\n"
        "try: DataDirectory(pathlib.Path(sys.argv[1]))\nexcept DataDirectoryInUseError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program, filled], capture_output=True, text=True, check=True)
    assert str(os.getpid()) in run.stdout
    assert str(filled) in run.stdout
    first.close()
    DataDirectory(filled).close()
    assert issubclass(DataDirectoryInUseError, DataDirectoryError)


DAMAGES = [
    (name, damage)
    for name in ("seal.key", "ca.pem", "ca.key", "tls.crt", "tls.key")
    for damage in (b"", b"\xff\xfe\x00", b"rubbish\n", None)
    # A missing server certificate is made anew from the authority: nothing is forgotten by that.
    if damage is not None or not name.startswith("tls.")
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damage_is_named_and_nothing_is_made_in_its_place(name: str, damage: bytes | None, filled: Path) -> None:
    file = filled / name
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(DataDamagedError, match=name.replace(".", r"\.")) as caught:
        directory = DataDirectory(filled)
        try:
            fill(directory)
        finally:
            directory.close()
    assert "backup" in str(caught.value)
    assert (file.read_bytes() if file.exists() else None) == damage


@pytest.mark.parametrize("left", ["ca.pem", "ca.key", "tls.crt", "tls.key", "ca-bundle.pem", "admin-password"])
def test_what_is_left_without_database_and_key_is_damage_not_a_fresh_start(left: str, filled: Path) -> None:
    for file in filled.iterdir():
        if file.name != left:
            file.unlink()
    with pytest.raises(DataDamagedError, match=rf"thalovant\.db .*missing, while {left}"):
        DataDirectory(filled)
    assert {file.name for file in filled.iterdir()} == {left, "lock"}


@pytest.mark.parametrize("name", [*SECRETS, "thalovant.db", "thalovant.db-wal"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_reach_is_refused_with_the_line_to_type(name: str, mode: int, filled: Path) -> None:
    (filled / name).touch()
    (filled / name).chmod(mode)
    with pytest.raises(DataDirectoryError) as caught:
        DataDirectory(filled)
    assert f"`chmod 600 {filled / name}`" in str(caught.value)
    (filled / name).chmod(0o600)
    DataDirectory(filled).close()


def test_all_open_secrets_are_told_in_one_line(filled: Path) -> None:
    for name in SECRETS:
        (filled / name).chmod(0o644)
    with pytest.raises(DataDirectoryError) as caught:
        DataDirectory(filled)
    assert all(str(filled / name) in str(caught.value) for name in SECRETS)


@pytest.mark.parametrize("name", [*SECRETS, "thalovant.db"])
def test_a_secret_that_is_a_link_is_refused(name: str, filled: Path, tmp_path: Path) -> None:
    (filled / name).rename(tmp_path / "elsewhere")
    (filled / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataDirectoryError, match=rf"{name} is a symbolic link"):
        DataDirectory(filled)


@pytest.mark.parametrize("name", [*SECRETS, "thalovant.db", "ca.pem", "tls.crt", "ca-bundle.pem", "first-start"])
def test_a_directory_in_the_place_of_a_file_is_told(name: str, filled: Path) -> None:
    (filled / name).unlink(missing_ok=True)
    (filled / name).mkdir(mode=0o700)
    with pytest.raises(DataDirectoryError, match=rf"{name}.* is a directory.*(Restore|Move it away)"):
        DataDirectory(filled)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(filled: Path) -> None:
    (filled / "seal.key").unlink()
    os.mkfifo(filled / "seal.key", 0o600)
    with pytest.raises(DataDamagedError, match="no regular file"):
        DataDirectory(filled)


def test_a_refused_directory_is_free_for_another_process(filled: Path) -> None:
    (filled / "seal.key").chmod(0o644)
    with pytest.raises(DataDirectoryError):
        DataDirectory(filled)
    (filled / "seal.key").chmod(0o600)
    DataDirectory(filled).close()


@pytest.mark.parametrize("name", ["tls.key", "ca-bundle.pem"])
def test_a_directory_that_came_after_the_start_is_told_too(name: str, filled: Path) -> None:
    directory = DataDirectory(filled)
    (filled / name).unlink()
    (filled / name).mkdir()
    with pytest.raises(DataDirectoryError, match=name):
        fill(directory)
    directory.close()
    assert not list(filled.glob(".*"))


def test_a_full_disk_is_told_and_leaves_no_scratch_file(filled: Path) -> None:
    directory = DataDirectory(filled)
    before = (filled / "ca-bundle.pem").read_text()
    with no_room(), pytest.raises(DataDirectoryError, match=r"ca-bundle\.pem cannot be written .*disk has room"):
        directory.certificates.write_bundle("")
    assert not list(filled.glob(".*"))
    assert (filled / "ca-bundle.pem").read_text() == before
    directory.close()


def test_a_full_disk_at_the_first_start_is_told(path: Path) -> None:
    with no_room(), pytest.raises(DataDirectoryError, match="lock cannot be taken"):
        DataDirectory(path)
    DataDirectory(path).close()


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow: the write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_key_that_needs_a_password_is_damage_and_asks_nobody(filled: Path) -> None:
    loaded = serialization.load_pem_private_key((filled / "tls.key").read_bytes(), password=None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (filled / "tls.key").write_bytes(loaded.private_bytes(*form, locked))
    directory = DataDirectory(filled)
    with pytest.raises(DataDamagedError, match=r"tls\.key"):
        fill(directory)
    directory.close()


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_a_first_start_that_was_cut_off_between_the_authoritys_halves_goes_on(name: str, path: Path) -> None:
    cut = DataDirectory(path)
    cut.certificates.authority((), utc_now())
    cut.file(name).unlink()
    cut.close()
    again = DataDirectory(path)
    fill(again)
    again.close()


def test_a_missing_database_is_damage_not_a_fresh_start(filled: Path) -> None:
    (filled / data_directory.DATABASE).unlink()
    with pytest.raises(DataDamagedError, match=data_directory.DATABASE):
        DataDirectory(filled)


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match="cannot be made"):
        DataDirectory(tmp_path / "file" / "data")


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataDirectoryError, match="lock"):
        DataDirectory(tmp_path / "data")
    assert not (tmp_path / "elsewhere").exists()


def test_a_password_file_that_was_taken_away_is_not_made_anew(filled: Path) -> None:
    (filled / "admin-password").unlink()
    directory = DataDirectory(filled)
    assert directory.admin_password() == ""
    assert not (filled / "admin-password").exists()
    directory.close()
