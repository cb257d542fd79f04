# SPDX-License-Identifier: Apache-2.0
"""Noise state on a real disk: what is kept, what is refused, and what two programs at once do to it."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from thalovant.errors import ThalovantHubKeyChangedError, ThalovantIdentityError
from thalovant.identity import ThalovantIdentity
from thalovant.noise_state import (
    MAX_NODE_ID,
    MAX_PSKS,
    NoiseState,
    noise_state,
    noise_state_folder,
    other_key_folder,
    take_key_along,
    take_key_to_variables,
)

KEY = "0123456789abcdef0123456789abcdef"
HUB = "wss://hub.example:443"
ONE, TWO = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def state(tmp_path: Path) -> NoiseState:
    return NoiseState(tmp_path / "state")


def key_name(state: NoiseState) -> str:
    """What the files of `KEY` are named by."""
    return state.pins_file(KEY).name.split(".")[0]


def key_file(state: NoiseState) -> Path:
    return next(state.folder.glob("*.key"))


def test_the_first_look_makes_a_key_and_later_ones_find_it(state: NoiseState) -> None:
    first = state.load(KEY, HUB)
    assert len(first.private) == 32 and first.pinned is None and first.psks == {}
    assert NoiseState(state.folder).load(KEY, HUB) == first
    assert state.load("another key", HUB).private != first.private


def test_nothing_can_be_read_by_others(state: NoiseState) -> None:
    state.trust(KEY, HUB, ONE)
    state.remember_psk(KEY, "node", TWO, "pass")
    state.load(KEY, HUB)
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    files = list(state.folder.iterdir())
    assert {file.suffix for file in files} == {".key", ".json", ""}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_no_file_is_named_after_the_access_key_itself(state: NoiseState) -> None:
    state.trust(KEY, HUB, ONE)
    state.remember_psk(KEY, "node", TWO, "pass")
    assert not any(KEY in file.name or KEY in file.read_text() for file in state.folder.iterdir())


def test_secrets_do_not_show(state: NoiseState) -> None:
    state.remember_psk(KEY, "node", TWO, "pass")
    keys = state.load(KEY, HUB)
    assert keys.private.hex() not in repr(keys) and TWO.hex() not in repr(keys) and repr(TWO) not in repr(keys)


def test_the_first_hub_key_is_trusted_and_never_replaced(state: NoiseState) -> None:
    assert state.trust(KEY, HUB, ONE) is True
    assert state.trust(KEY, HUB, ONE) is False
    with pytest.raises(ThalovantHubKeyChangedError) as caught:
        state.trust(KEY, HUB, TWO)
    assert str(state.pins_file(KEY)) in str(caught.value) and HUB in str(caught.value)
    assert state.load(KEY, HUB).pinned == ONE


def test_pins_are_kept_by_identity_and_by_address(state: NoiseState) -> None:
    state.trust(KEY, HUB, ONE)
    state.trust(KEY, "https://hub.example:443", TWO)
    state.trust("other", HUB, TWO)
    assert state.load(KEY, HUB).pinned == ONE
    assert state.load(KEY, "https://hub.example:443").pinned == TWO
    assert state.load("other", HUB).pinned == TWO


def test_stretched_passwords_are_kept_by_identity_and_node(state: NoiseState) -> None:
    state.remember_psk(KEY, "node one", ONE, "pass")
    state.remember_psk(KEY, "node one", ONE, "pass")
    state.remember_psk(KEY, "node@two", TWO, "pass")
    state.remember_psk("other", "node one", TWO, "pass")
    assert state.load(KEY, HUB, password="pass").psks == {"node one": ONE, "node@two": TWO}
    state.forget_psk(KEY, "node one")
    state.forget_psk(KEY, "never known")
    assert state.load(KEY, HUB, password="pass").psks == {"node@two": TWO}


def test_what_was_stretched_from_another_password_is_not_used(state: NoiseState) -> None:
    state.remember_psk(KEY, "node", ONE, "old")
    assert state.load(KEY, HUB, password="new").psks == {}
    assert state.load(KEY, HUB, password="old").psks == {"node": ONE}, "it was the new one that was wrong"
    state.remember_psk(KEY, "node", TWO, "new")
    assert state.load(KEY, HUB, password="new").psks == {"node": TWO}
    assert len(json.loads((state.folder / "psks.json").read_text())) == 1


def test_entries_of_older_files_are_stretched_anew_once(state: NoiseState) -> None:
    state.remember_psk(KEY, "node", ONE, "pass")
    file = state.folder / "psks.json"
    file.write_text(json.dumps({f"{key_name(state)}@node": ONE.hex()}))
    assert state.load(KEY, HUB, password="pass").psks == {}
    state.remember_psk(KEY, "node", ONE, "pass")
    assert state.load(KEY, HUB, password="pass").psks == {"node": ONE}
    assert len(json.loads(file.read_text())) == 1


def test_the_cache_does_not_let_passwords_be_guessed_cheaply(state: NoiseState) -> None:
    state.remember_psk(KEY, "node", ONE, "pass")
    (key,) = json.loads((state.folder / "psks.json").read_text())
    name, tag = key.removesuffix("@node").split(".")
    assert name == key_name(state) and len(bytes.fromhex(tag)) == 2


def test_the_cache_is_bounded(state: NoiseState) -> None:
    state.load(KEY, HUB)
    state.remember_psk(KEY, "x" * (MAX_NODE_ID + 1), ONE, "pass")
    assert state.load(KEY, HUB).psks == {}
    held = {f"{'0' * 16}@{number}": ONE.hex() for number in range(MAX_PSKS)}
    (state.folder / "psks.json").write_text(json.dumps(held))
    (state.folder / "psks.json").chmod(0o600)
    state.remember_psk(KEY, "new", TWO, "pass")
    kept = json.loads((state.folder / "psks.json").read_text())
    assert len(kept) == MAX_PSKS and f"{'0' * 16}@0" not in kept and f"{'0' * 16}@1" in kept


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33, "\x00\x01", '{"a": 1}'])
def test_a_damaged_key_is_named_with_the_way_out(state: NoiseState, content: str) -> None:
    state.load(KEY, HUB)
    file = key_file(state)
    file.write_text(content)
    with pytest.raises(ThalovantIdentityError, match=r"damaged.*fresh identity") as caught:
        state.load(KEY, HUB)
    assert str(file) in str(caught.value)
    assert file.read_text() == content


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": "zz"}', '{"a": "00"}', "[" * 100_000])
@pytest.mark.parametrize("which", ["pins", "psks"])
def test_a_damaged_table_is_named_with_the_way_out(state: NoiseState, which: str, content: str) -> None:
    state.trust(KEY, HUB, ONE)
    state.remember_psk(KEY, "node", TWO, "pass")
    file = state.pins_file(KEY) if which == "pins" else state.folder / "psks.json"
    file.write_text(content)
    with pytest.raises(ThalovantIdentityError, match=r"damaged.*delete") as caught:
        state.load(KEY, HUB)
    assert str(file) in str(caught.value)
    assert file.read_text() == content


def test_binary_rubbish_is_an_identity_error(state: NoiseState) -> None:
    state.load(KEY, HUB)
    key_file(state).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ThalovantIdentityError):
        state.load(KEY, HUB)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_files_open_to_others_are_refused_with_the_line_to_type(state: NoiseState, mode: int) -> None:
    state.load(KEY, HUB)
    file = key_file(state)
    file.chmod(mode)
    with pytest.raises(ThalovantIdentityError, match="chmod 600") as caught:
        state.load(KEY, HUB)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_open_to_others_is_refused_with_the_line_to_type(state: NoiseState, mode: int) -> None:
    state.folder.mkdir()
    state.folder.chmod(mode)
    with pytest.raises(ThalovantIdentityError, match=f"chmod 700 {state.folder}"):
        state.load(KEY, HUB)
    assert list(state.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["key", "pins", "psks", "lock"])
def test_a_symlink_is_refused(state: NoiseState, tmp_path: Path, name: str) -> None:
    state.trust(KEY, HUB, ONE)
    state.remember_psk(KEY, "node", TWO, "pass")
    state.load(KEY, HUB)
    file = {
        "key": key_file(state),
        "pins": state.pins_file(KEY),
        "psks": state.folder / "psks.json",
        "lock": state.folder / "lock",
    }[name]
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    with pytest.raises(ThalovantIdentityError, match="symbolic link"):
        state.load(KEY, HUB)


def test_a_symlinked_folder_is_refused(state: NoiseState, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    state.folder.symlink_to(real)
    with pytest.raises(ThalovantIdentityError, match="symbolic link"):
        state.load(KEY, HUB)


def test_what_is_no_file_is_refused_and_does_not_hang(state: NoiseState) -> None:
    state.load(KEY, HUB)
    file = key_file(state)
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(ThalovantIdentityError):
        state.load(KEY, HUB)


def test_a_folder_that_cannot_be_made_is_an_identity_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ThalovantIdentityError, match="noise_state_dir"):
        NoiseState(tmp_path / "file" / "state").load(KEY, HUB)


def test_a_crash_while_writing_leaves_the_old_content(state: NoiseState, monkeypatch: pytest.MonkeyPatch) -> None:
    state.trust(KEY, HUB, ONE)

    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(ThalovantIdentityError):
            state.trust(KEY, "https://hub.example:443", TWO)
    assert state.load(KEY, HUB).pinned == ONE
    assert state.trust(KEY, "https://hub.example:443", TWO) is True


def _meet(folder: str, start: object, number: int) -> None:
    state = NoiseState(folder)
    start.wait()  # type: ignore[attr-defined]
    private = state.load(KEY, HUB).private
    state.trust(KEY, f"wss://hub.example:{number}", ONE)
    state.remember_psk(KEY, f"node {number}", private, "pass")


def test_programs_that_start_together_agree_on_one_key(state: NoiseState) -> None:
    context = multiprocessing.get_context("spawn")
    count = 4
    start = context.Barrier(count)
    programs = [context.Process(target=_meet, args=(str(state.folder), start, number)) for number in range(count)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(60)
    assert [program.exitcode for program in programs] == [0] * count
    keys = state.load(KEY, HUB, password="pass")
    assert set(keys.psks.values()) == {keys.private} and len(keys.psks) == count
    assert all(state.load(KEY, f"wss://hub.example:{number}").pinned == ONE for number in range(count))


def identity(source_path: str | None = None) -> ThalovantIdentity:
    return ThalovantIdentity(KEY, "password", "https://hub.example", "kitchen", source_path=source_path)


def test_the_folder_is_the_given_one_else_beside_the_file_else_in_the_config_home(lonely: Path, tmp_path: Path) -> None:
    here = identity(str(tmp_path / "me.json"))
    assert noise_state_folder(here, "/given") == Path("/given")
    assert noise_state_folder(here, "~/given") == Path.home() / "given"
    assert noise_state_folder(here) == tmp_path / "thalovant-noise"
    assert noise_state_folder(identity()) == lonely / "noise"


def test_another_folder_that_holds_a_key_is_found(lonely: Path, tmp_path: Path) -> None:
    here = identity(str(tmp_path / "me.json"))
    beside = tmp_path / "thalovant-noise"
    assert other_key_folder(here, lonely / "noise") is None
    NoiseState(beside).load(KEY, HUB)
    assert other_key_folder(here, lonely / "noise") == beside
    assert other_key_folder(here, beside) is None


def test_a_key_made_before_the_identity_was_saved_is_taken_over(lonely: Path, tmp_path: Path) -> None:
    first = noise_state(identity())
    private = first.load(KEY, HUB).private
    first.trust(KEY, HUB, ONE)
    saved = noise_state(identity(str(tmp_path / "me.json")))
    assert saved.folder == tmp_path / "thalovant-noise"
    keys = saved.load(KEY, HUB)
    assert (keys.private, keys.pinned) == (private, ONE)
    assert stat.S_IMODE(key_file(saved).stat().st_mode) == 0o600


def test_a_key_that_is_here_already_stays(lonely: Path, tmp_path: Path) -> None:
    saved = noise_state(identity(str(tmp_path / "me.json")))
    private = saved.load(KEY, HUB).private
    saved.trust(KEY, HUB, TWO)
    other = noise_state(identity())
    assert other.load(KEY, HUB).private != private
    other.trust(KEY, HUB, ONE)
    keys = saved.load(KEY, HUB)
    assert (keys.private, keys.pinned) == (private, TWO)


def test_in_a_folder_that_was_named_no_other_key_is_taken_over(lonely: Path, tmp_path: Path) -> None:
    private = noise_state(identity()).load(KEY, HUB).private
    assert noise_state(identity(), tmp_path / "named").load(KEY, HUB).private != private


def test_a_damaged_key_is_not_taken_over(lonely: Path, tmp_path: Path) -> None:
    first = noise_state(identity())
    first.load(KEY, HUB)
    key_file(first).write_text("x")
    with pytest.raises(ThalovantIdentityError, match=str(key_file(first))):
        noise_state(identity(str(tmp_path / "me.json"))).load(KEY, HUB)


def test_two_files_of_one_identity_have_one_key(lonely: Path, tmp_path: Path) -> None:
    here, there = identity(str(tmp_path / "a" / "me.json")), identity(str(tmp_path / "b" / "me.json"))
    take_key_along(here, str(there.source_path))
    assert noise_state(here).load(KEY, HUB).private == noise_state(there).load(KEY, HUB).private
    take_key_along(here, str(here.source_path))  # to itself
    take_key_along(there, str(here.source_path))  # and back


def test_a_fresh_identity_leaves_no_key_behind_where_it_is_saved(lonely: Path, tmp_path: Path) -> None:
    take_key_along(identity(), tmp_path / "me.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_connected", [True, False])
def test_a_file_and_the_environment_of_one_machine_have_one_key(
    lonely: Path, tmp_path: Path, has_connected: bool
) -> None:
    of_file = identity(str(tmp_path / "me.json"))
    if has_connected:
        noise_state(of_file).load(KEY, HUB)
    take_key_to_variables(of_file)
    assert noise_state(identity()).load(KEY, HUB).private == noise_state(of_file).load(KEY, HUB).private
    take_key_to_variables(identity())  # from the environment to the environment
