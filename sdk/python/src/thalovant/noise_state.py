# SPDX-License-Identifier: Apache-2.0
"""What one program must remember between two connections: its own Noise key, hubs' keys, stretched passwords.

A folder (0700) of small files (0600), one set an identity, named by the first 16 hex digits of the SHA-256 of
its access key:

    <name>.key         the client's static X25519 key, 64 hex digits; the hub knows the client by it for ever
    <name>.pins.json   {address: the hub's static key in hex}; the first key met is trusted, never replaced
    psks.json          {"<name>.<tag>@<node id>": the stretched password in hex}; a cache, safe to delete. The tag
                       tells another password from the one that was stretched
    <name>.roads.json  which roads failed lately (`road_memory`); safe to delete
    lock               held while any of the others is read and written, so that two programs cannot cross

Every call blocks on the disk: call it from a thread, not from an event loop. It never follows a symlink, never
repairs a damaged file by itself, never shows a key in a message, and speaks to no network. Rules: contract 4.2.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thalovant.diagnoses import diagnose, diagnosed
from thalovant.errors import ThalovantHubKeyChangedError, ThalovantIdentityError
from thalovant.private_files import (
    PrivateFileError,
    exclusively,
    make_private_folder,
    read_private_text,
    write_private_text,
)
from thalovant.protocol.noise import generate_private_key

if TYPE_CHECKING:
    from thalovant.identity import ThalovantIdentity

__all__ = [
    "NoiseKeys",
    "NoiseState",
    "noise_key_file",
    "noise_state",
    "noise_state_folder",
    "take_key_along",
    "take_key_to_variables",
]

KEY_BYTES = 32
BESIDE = "thalovant-noise"  # the folder's name beside an identity file
MAX_NODE_ID = 512  # characters; contract 3: PSKs are cached only for ids up to this
MAX_PSKS = 256  # the entry not used for longest goes first
# Two bytes miss one changed password in 65,536, and leave a thief of the file all but that of argon2id's work on
# guesses: a whole HMAC would let them be tried at the speed of a plain hash.
TAG_BYTES = 2

_KEY_ADVICE = (
    "The hub knows this client by that key. Restore the file from a backup; without one, delete the file and "
    "create a fresh identity."
)
_PINS_ADVICE = (
    "Restore it from a backup. If you are sure that the hub is the right one, delete the file: the hub's key is "
    "then trusted anew on the next connection."
)
_PSKS_ADVICE = "It is only a cache: delete it, and it is made anew."


@dataclass(frozen=True, slots=True)
class NoiseKeys:
    """What one connection needs: `private` (32 bytes), the hub's `pinned` key or None, PSKs by node id.

    `pinned_under` is the address that the pin is kept under.
    """

    private: bytes = field(repr=False)
    pinned: bytes | None
    psks: Mapping[str, bytes] = field(repr=False)
    pinned_under: str = ""


def noise_state_folder(identity: ThalovantIdentity, noise_state_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where this identity's state is kept: the given folder, else beside its file, else the config folder."""
    if noise_state_dir is not None:
        return Path(noise_state_dir).expanduser()
    return _usual_folders(identity)[0]


def noise_state(identity: ThalovantIdentity, noise_state_dir: str | os.PathLike[str] | None = None) -> NoiseState:
    """Return this identity's state: in the folder that `noise_state_folder` names.

    Where that is one of the usual folders, a key made in another one is taken over: the hub knows the client by it.
    """
    folder = noise_state_folder(identity, noise_state_dir)
    return NoiseState(folder, () if noise_state_dir is not None else _usual_folders(identity)[1:])


def noise_key_file(identity: ThalovantIdentity) -> Path | None:
    """Return the file of the key that this identity's clients use here; None before there is one (blocking)."""
    files = (folder / f"{_name_of(identity.access_key)}.key" for folder in _usual_folders(identity))
    return next((file for file in files if file.exists()), None)


def take_key_along(identity: ThalovantIdentity, file: str | os.PathLike[str]) -> None:
    """Have the clients of an identity that was just saved in `file` use the key that it has here already (blocking).

    Of an identity that was read from a file both are used from now on, so that its key is made now if need be. A key
    that is there already stays. Raises `ThalovantIdentityError` as `NoiseState` does.
    """
    _share_key(identity, Path(file).expanduser().parent / BESIDE)


def take_key_to_variables(identity: ThalovantIdentity) -> None:
    """Have clients that read this identity from the environment, here, use the key that it has (blocking).

    Otherwise as `take_key_along`.
    """
    _share_key(identity, _folder_without_file())


def other_key_folder(identity: ThalovantIdentity, used: Path) -> Path | None:
    """Return another usual folder that holds a key for this identity, if one does (blocking)."""
    name = f"{_name_of(identity.access_key)}.key"
    others = [folder for folder in _usual_folders(identity) if folder.absolute() != used.absolute()]
    return next((folder for folder in others if (folder / name).is_file()), None)


def _share_key(identity: ThalovantIdentity, there: Path) -> None:
    here = noise_state(identity)
    if here.folder.absolute() != there.absolute():
        if identity.source_path is not None:
            here.make_key(identity.access_key)
        NoiseState(there).adopt(identity.access_key, here.folder)


def _folder_without_file() -> Path:
    """Where the state of identities is kept that come from no file."""
    from thalovant.identity import default_config_path

    return default_config_path().parent / "noise"


def _usual_folders(identity: ThalovantIdentity) -> list[Path]:
    beside = [Path(identity.source_path).parent / BESIDE] if identity.source_path else []
    return [*beside, _folder_without_file()]


def _name_of(access_key: str) -> str:
    return hashlib.sha256(access_key.encode()).hexdigest()[:16]


class NoiseState:
    """The state in one folder. Methods block; each takes the folder's lock for as long as it runs.

    `others` are folders whose key is taken over where there is none here yet.

    All raise `ThalovantIdentityError` when a file or the folder is damaged, open to others, a symlink or not
    writable; the text names it and what to type.
    """

    def __init__(self, folder: str | os.PathLike[str], others: Iterable[Path] = ()) -> None:
        self.folder = Path(folder)
        self._others = tuple(others)

    def load(self, access_key: str, address: str, *others: str, password: str = "") -> NoiseKeys:
        """Read what a connection to `address` needs; the client's key is made on the first call.

        Of stretched passwords, only those of `password` are returned: it may be another one than last time.

        `others` are further addresses of the same hub: a key that is pinned under one of them counts where `address`
        has none yet.
        """
        name = _name_of(access_key)
        with self._locked():
            private = self._private_key(access_key)
            pins = self._read_table(self.pins_file(access_key), _PINS_ADVICE)
            held = self._read_table(self._psks_file, _PSKS_ADVICE)
        under = next((each for each in (address, *others) if each in pins), address)
        return NoiseKeys(private, pins.get(under), _psks_of(held, name, password), under)

    def make_key(self, access_key: str) -> None:
        """Make the client's key unless there is one."""
        with self._locked():
            self._private_key(access_key)

    def adopt(self, access_key: str, other: Path) -> None:
        """Copy the client's key, and the hubs' pinned ones, from another folder unless there is a key here."""
        if (other / f"{_name_of(access_key)}.key").exists():
            with self._locked():
                self._adopt(access_key, other)

    def trust(self, access_key: str, address: str, hub_key: bytes) -> bool:
        """Pin the hub's key under `address`; True when it is the first one.

        Raises `ThalovantHubKeyChangedError` when another key is pinned there; the pin stays.
        """
        file = self.pins_file(access_key)
        with self._locked():
            pins = self._read_table(file, _PINS_ADVICE)
            pinned = pins.get(address)
            if pinned is None:
                self._write_table(file, {**pins, address: hub_key})
                return True
        if not hmac.compare_digest(pinned, hub_key):
            raise self.hub_key_changed(access_key, address)
        return False

    def remember_psk(self, access_key: str, node_id: str, psk: bytes, password: str) -> None:
        """Keep a stretched `password`; nothing is kept for a node id of more than 512 characters."""
        if len(node_id) > MAX_NODE_ID:
            return
        name = _name_of(access_key)
        key = f"{name}.{_tag(psk, password)}@{node_id}"
        with self._locked():
            held = self._read_table(self._psks_file, _PSKS_ADVICE)
            if held.get(key) == psk:
                return
            held = _without(held, name, node_id)
            kept = dict(list(held.items())[-(MAX_PSKS - 1) :])
            self._write_table(self._psks_file, {**kept, key: psk})

    def forget_psk(self, access_key: str, node_id: str) -> None:
        """Drop a stretched password that did not work (contract 4.1: forgotten when a handshake fails)."""
        with self._locked():
            held = self._read_table(self._psks_file, _PSKS_ADVICE)
            kept = _without(held, _name_of(access_key), node_id)
            if len(kept) < len(held):
                self._write_table(self._psks_file, kept)

    def hub_key_changed(self, access_key: str, address: str) -> ThalovantHubKeyChangedError:
        """Make the error for a hub that shows another key than the pinned one, with what to do about it."""
        why = diagnose("hub_key_changed", where=address, file=self.pins_file(access_key))
        return diagnosed(ThalovantHubKeyChangedError, why)

    def roads_file(self, access_key: str) -> Path:
        """Return the file in which is kept which roads failed lately (`road_memory`)."""
        return self.folder / f"{_name_of(access_key)}.roads.json"

    def pins_file(self, access_key: str) -> Path:
        """Return the file in which hubs' keys are pinned for this identity."""
        return self.folder / f"{_name_of(access_key)}.pins.json"

    @property
    def _psks_file(self) -> Path:
        return self.folder / "psks.json"

    def _private_key(self, access_key: str) -> bytes:
        file = self._key_file(access_key)
        for other in self._others:
            self._adopt(access_key, other)
        text = _read_private(file)
        if text is not None:
            return _key_from_hex(text.strip(), file, _KEY_ADVICE)
        key = generate_private_key()
        _write_private(file, key.hex() + "\n")
        return key

    def _adopt(self, access_key: str, other: Path) -> None:
        file, theirs = self._key_file(access_key), NoiseState(other)
        key = None if file.exists() else _read_private(theirs._key_file(access_key))
        if key is None:
            return
        _key_from_hex(key.strip(), theirs._key_file(access_key), _KEY_ADVICE)
        mine, pins = self.pins_file(access_key), _read_private(theirs.pins_file(access_key))
        if pins is not None and not mine.exists():
            _write_private(mine, pins)
        _write_private(file, key)

    def _key_file(self, access_key: str) -> Path:
        return self.folder / f"{_name_of(access_key)}.key"

    def _read_table(self, file: Path, advice: str) -> dict[str, bytes]:
        text = _read_private(file)
        if text is None:
            return {}
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            table = None
        if not isinstance(table, dict):
            raise _damaged(file, advice)
        return {key: _key_from_hex(value, file, advice) for key, value in table.items()}

    def _write_table(self, file: Path, table: Mapping[str, bytes]) -> None:
        text = json.dumps({key: value.hex() for key, value in table.items()}, indent=1, ensure_ascii=False)
        _write_private(file, text + "\n")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        _prepare_folder(self.folder)
        lock = self.folder / "lock"
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(exclusively(lock))
            except PrivateFileError as error:
                raise _is_link(lock, "file") if error.code == "symlink" else _unusable(lock, error) from error
            yield


def _tag(psk: bytes, password: str) -> str:
    """What tells that `psk` was stretched from `password`, without stretching it again."""
    return hmac.digest(psk, password.encode(), "sha256")[:TAG_BYTES].hex()


def _psks_of(held: Mapping[str, bytes], name: str, password: str) -> dict[str, bytes]:
    """An identity's stretched passwords by node id; those of another password, or without a tag, are left out."""
    found = {}
    for key, psk in held.items():
        owner, _, node_id = key.partition("@")
        if hmac.compare_digest(owner.encode(errors="replace"), f"{name}.{_tag(psk, password)}".encode()):
            found[node_id] = psk
    return found


def _without(held: Mapping[str, bytes], name: str, node_id: str) -> dict[str, bytes]:
    """The cache without what it holds for one identity at one node, of whatever password."""

    def is_it(key: str) -> bool:
        owner, _, node = key.partition("@")
        return owner.partition(".")[0] == name and node == node_id

    return {key: psk for key, psk in held.items() if not is_it(key)}


def _key_from_hex(text: object, file: Path, advice: str) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise _damaged(file, advice)
    return key


def _damaged(file: Path, advice: str) -> ThalovantIdentityError:
    return ThalovantIdentityError(f"The Noise state file {file} is damaged. {advice}")


def _prepare_folder(folder: Path) -> None:
    try:
        make_private_folder(folder)
        mode = folder.lstat().st_mode
    except (PrivateFileError, OSError) as error:
        raise _unusable(folder, error) from error
    if stat.S_ISLNK(mode):
        raise _is_link(folder, "folder")
    if sys.platform != "win32" and mode & 0o077:
        raise ThalovantIdentityError(
            f"The Noise state folder {folder} can be read or changed by other users. Type: chmod 700 {folder}"
        )


def _read_private(file: Path) -> str | None:
    if file.is_symlink():
        raise _is_link(file, "file")
    try:
        return read_private_text(file)
    except PrivateFileError as error:
        if error.code == "missing":
            return None
        raise _unusable(file, error) from error


def _write_private(file: Path, content: str) -> None:
    try:
        write_private_text(file, content, overwrite=True)
    except PrivateFileError as error:
        raise _unusable(file, error) from error


def _is_link(path: Path, kind: str) -> ThalovantIdentityError:
    return ThalovantIdentityError(
        f"The Noise state {kind} {path} is a symbolic link, which could be pointed elsewhere. Put the real {kind} "
        f"in its place, or name another folder with noise_state_dir=."
    )


def _unusable(path: Path, error: Exception) -> ThalovantIdentityError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ThalovantIdentityError(
        f"The Noise state {path} cannot be used: {reason} Correct that, or name another folder with noise_state_dir=."
    )
