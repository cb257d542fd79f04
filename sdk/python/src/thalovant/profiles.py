# SPDX-License-Identifier: Apache-2.0
"""The identities in the user's configuration file, one a profile (contract 3.6).

    profile: kitchen    # the one in use when nobody names one (or default_profile, defaultProfile); else `default`
    profiles:
      kitchen:
        identity: {access_key: ..., password: ..., ...}

A file without `profiles` is one identity itself, at its top or below `identity`; saving a profile beside it moves it to
the profile `default`. Mappings only: what an identity is, identity.py knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalovant.config_file import Edit, ThalovantConfigError, change_config, read_config
from thalovant.identity_fields import NAMES
from thalovant.yaml_text import REMOVED, Place

__all__ = [
    "STANDARD",
    "Profiles",
    "change_identity",
    "chosen",
    "read_profiles",
    "remove_profile",
    "save_profile",
    "use_profile",
]

STANDARD = "default"
MAX_NAME = 64

_CHOICES = ("profile", "default_profile", "defaultProfile")


@dataclass(frozen=True)
class Profiles:
    """The profiles of a file, by name, each an identity's mapping (or what stands in its place), and the one in use.

    `in_use` is None when the file names none and none is called `default`.
    """

    identities: Mapping[str, Any]
    in_use: str | None


def chosen(values: Mapping[Any, Any], profile: str | None, target: Path) -> object:
    """Return the mapping of one identity: of `profile`, else of the one in use.

    Raises ThalovantConfigError when there is no such profile.
    """
    profiles = values.get("profiles")
    if isinstance(profiles, Mapping):
        return _nested(_profile(profiles, profile or _named(values) or STANDARD, target))
    if profile not in (None, STANDARD):
        raise ThalovantConfigError(f"The configuration {target} has no profiles; {profile!r} was asked for.")
    return _nested(values)


def read_profiles(target: Path) -> Profiles:
    """Return every profile of a file; a file that is one identity itself has one profile, `default`."""
    values = read_config(target)
    profiles = values.get("profiles")
    if not isinstance(profiles, Mapping):
        whole = _nested(values) if _is_identity(values) else None
        return Profiles({STANDARD: whole} if whole is not None else {}, STANDARD if whole is not None else None)
    found = {str(name): _nested(profile) for name, profile in profiles.items()}
    wanted = _named(values) or STANDARD
    return Profiles(found, wanted if wanted in found else None)


def save_profile(
    target: Path,
    name: str | None,
    identity: Mapping[str, Any],
    *,
    overwrite: bool = False,
    use: bool | None = None,
) -> str:
    """Write an identity as a profile and return the profile's name; None means the one in use, else `default`.

    `use` makes it the one in use, or not; None does so when the file has none in use yet. Raises ThalovantConfigError
    for a name that is none, and, without `overwrite`, for one that is taken.
    """
    names: list[str] = []

    def change(values: dict[Any, Any]) -> Iterable[Edit]:
        names.append(name or _named(values) or STANDARD)
        return _saved(values, names[0], identity, target, overwrite=overwrite, use=use)

    change_config(target, change)
    return names[0]


def remove_profile(target: Path, name: str) -> None:
    """Take a profile out of the file; when it was the one in use, none is. Raises ThalovantConfigError."""

    def change(values: dict[Any, Any]) -> Iterable[Edit]:
        if _is_whole(values, name):
            return [((key,), REMOVED) for key in _identity_keys(values)]
        profiles = _mapping(values.get("profiles"), target)
        _profile(profiles, name, target)
        unused = [((key,), REMOVED) for key in _CHOICES if str(values.get(key)) == name]
        return [(("profiles", _key(profiles, name)), REMOVED), *unused]

    change_config(target, change)


def use_profile(target: Path, name: str) -> None:
    """Make a profile the one in use. Raises ThalovantConfigError when there is no such profile."""

    def change(values: dict[Any, Any]) -> Iterable[Edit]:
        if not _is_whole(values, name):
            _profile(_mapping(values.get("profiles"), target), name, target)
        return [_choice(values, name)]

    change_config(target, change)


def change_identity(target: Path, name: str | None, change: Callable[[Mapping[Any, Any]], Iterable[Edit]]) -> str:
    """Carry out what `change` says of a profile's identity (None: of the one in use); return the profile's name.

    Raises ThalovantConfigError when there is no such profile or no identity in it, and whatever `change` raises.
    """
    names: list[str] = []

    def inside(values: dict[Any, Any]) -> Iterable[Edit]:
        names.append(name or _named(values) or STANDARD)
        identity = chosen(values, names[0], target)
        if not isinstance(identity, Mapping):
            raise ThalovantConfigError(f"The profile {names[0]!r} of {target} holds no identity.")
        where = _place_of_identity(values, names[0])
        return [((*where, *place), value) for place, value in change(identity)]

    change_config(target, inside)
    return names[0]


def _place_of_identity(values: Mapping[Any, Any], name: str) -> Place:
    profiles = values.get("profiles")
    place: Place = ("profiles", _key(profiles, name)) if isinstance(profiles, Mapping) else ()
    holder = profiles[place[1]] if isinstance(profiles, Mapping) else values
    return (*place, "identity") if isinstance(holder.get("identity"), Mapping) else place


def _saved(
    values: Mapping[Any, Any],
    name: str,
    identity: Mapping[str, Any],
    target: Path,
    *,
    overwrite: bool,
    use: bool | None,
) -> Iterable[Edit]:
    _refuse_odd_name(name)
    moved = _moved_to_standard(values)
    profiles = {**_mapping(values.get("profiles"), target), **{place[1]: value for place, value in moved if place[1:]}}
    key = _key(profiles, name)
    if key in profiles and not overwrite:
        raise ThalovantConfigError(f"The configuration {target} has a profile {name!r} already; it was not changed.")
    none_in_use = (_named(values) or STANDARD) not in {*map(str, profiles), name}
    edits = [*moved, _entry(profiles.get(key), key, identity)]
    return [*edits, _choice(values, name)] if use or (use is None and none_in_use) else edits


def _entry(existing: object, key: Any, identity: Mapping[str, Any]) -> Edit:
    """The smallest edit that makes `identity` the profile's; what else its author put there stays."""
    if isinstance(existing, Mapping) and isinstance(existing.get("identity"), Mapping):
        return ("profiles", key, "identity"), dict(identity)
    kept = dict(existing) if isinstance(existing, Mapping) else {}
    for name in _identity_keys(kept):
        del kept[name]
    return ("profiles", key), {**kept, "identity": dict(identity)}


def _moved_to_standard(values: Mapping[Any, Any]) -> list[Edit]:
    """With profiles beside it nobody would read an identity at the top any more."""
    if isinstance(values.get("profiles"), Mapping) or not _is_identity(values):
        return []
    gone: list[Edit] = [((key,), REMOVED) for key in _identity_keys(values)]
    nested = values.get("identity")
    identity = nested if isinstance(nested, Mapping) else {key: values[key] for key in _identity_keys(values)}
    return [*gone, (("profiles", STANDARD), {"identity": dict(identity)})]


def _is_whole(values: Mapping[Any, Any], name: str) -> bool:
    """Whether the file is one identity itself, and meant by that name."""
    return name == STANDARD and not isinstance(values.get("profiles"), Mapping) and _is_identity(values)


def _is_identity(values: Mapping[Any, Any]) -> bool:
    return isinstance(values.get("identity"), Mapping) or "password" in values


def _identity_keys(values: Mapping[Any, Any]) -> list[str]:
    return [key for key in values if key in NAMES or key == "identity"]


def _choice(values: Mapping[Any, Any], name: str) -> Edit:
    """The edit that puts a profile in use, under the key that the file uses for it."""
    return (next((key for key in _CHOICES if values.get(key)), _CHOICES[0]),), name


def _named(values: Mapping[Any, Any]) -> str | None:
    return next((str(values[key]) for key in _CHOICES if values.get(key)), None)


def _nested(profile: object) -> object:
    nested = profile.get("identity") if isinstance(profile, Mapping) else None
    return nested if isinstance(nested, Mapping) else profile


def _mapping(profiles: object, target: Path) -> Mapping[Any, Any]:
    if profiles is None:
        return {}
    if not isinstance(profiles, Mapping):
        raise ThalovantConfigError(f"In the configuration {target} `profiles` holds no mapping; correct it first.")
    return profiles


def _profile(profiles: Mapping[Any, Any], name: str, target: Path) -> object:
    if (key := _key(profiles, name)) in profiles:
        return profiles[key]
    known = ", ".join(sorted(map(str, profiles))) or "none"
    raise ThalovantConfigError(f"The configuration {target} has no profile {name!r}; it has: {known}.")


def _key(profiles: Mapping[Any, Any], name: str) -> Any:
    """The key of a profile; YAML reads a name of digits as a number."""
    return next((key for key in profiles if str(key) == name), name)


def _refuse_odd_name(name: str) -> None:
    if not name or name != name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise ThalovantConfigError(
            f"{name!r} is no name for a profile: 1 to {MAX_NAME} characters that can be printed, no blank at its ends."
        )
