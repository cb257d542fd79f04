# SPDX-License-Identifier: Apache-2.0
"""Where settings come from: options before the environment before a file before defaults; and which said what.

Every value that cannot be used is told with its source: the option, the variable, the file and its line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from thalovant_server.errors import SettingsError
from thalovant_server.settings import ENVIRONMENT_PREFIX, Settings, option_name, takes_several, variable_name

CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
SYSTEM_FILE = Path("/etc/thalovant/server.toml")
USER_FILE = Path("thalovant/server.toml")  # below $XDG_CONFIG_HOME
LARGEST_FILE = 1024 * 1024
DEFAULT = "default"
COMMAND = "command"

_BOUNDS = {"greater_than_equal": "at least {ge}", "less_than_equal": "at most {le}"}
_KINDS = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a number",
    "string_type": "text, in quotes",
    "path_type": "a path, in quotes",
    "tuple_type": "a list of texts",
}


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Settings, and who said what.

    Args:
        settings: checked.
        origins: by field: `--option`, the variable, `file:line`, or `default`.
        file: the file that was read; None without one.
    """

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one source says: values by field, and how the source of each is named."""

    values: Mapping[str, Any] = field(default_factory=dict)
    name: Callable[[str], str] = str


def read_settings(
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    config: Path | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> ReadSettings:
    """Read the settings (blocking: a file).

    Args:
        options: what was typed, by field.
        environ: the environment.
        config: the file that was named by an option; else that of `THALOVANT_SERVER_CONFIG`, else the first there is
            of `$XDG_CONFIG_HOME/thalovant/server.toml` and `/etc/thalovant/server.toml`.
        defaults: what a command takes where nothing is said, by field; its origin is `command`.

    Raises:
        SettingsError: something cannot be used; names its source and what to write instead.
    """
    file = _find_file(config, environ)
    layers = [
        _Layer(options, lambda name: f"--{option_name(name)}"),
        _Layer(_from_environment(environ), variable_name),
        _from_file(file) if file else _Layer(),
        _Layer(defaults or {}, lambda _: COMMAND),
    ]
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, DEFAULT)
    for layer in reversed(layers):
        values |= layer.values
        origins |= {name: layer.name(name) for name in layer.values}
    try:
        return ReadSettings(Settings(**values), origins, file)
    except SettingsError as error:  # some do not go together: its sentence speaks of options
        raise SettingsError(f"{error.sentence}{_places(error.sentence, origins)}") from None
    except ValidationError as error:
        raise SettingsError(". ".join(_sentence(each, origins) for each in error.errors())) from None


def _find_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = environ.get(CONFIG_VARIABLE)
    if config is not None or named:
        path = config or Path(str(named))
        if not path.exists():
            raise SettingsError(
                f"{'--config' if config else CONFIG_VARIABLE} names {path}, and there is no such file: write it, or "
                "name another"
            )
        return path
    home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else None)
    files = [*([Path(home) / USER_FILE] if home else []), SYSTEM_FILE]
    return next((path for path in files if _is_there(path)), None)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a directory that is not ours to look into
        return False


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {variable_name(name): name for name in Settings.model_fields}
    for variable in environ:
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in (*known, CONFIG_VARIABLE):
            raise SettingsError(
                f"The variable {variable} is no setting. {_nearest(variable, [*known, CONFIG_VARIABLE])}"
            )
    source = EnvSettingsSource(Settings, case_sensitive=True)  # what is given here, not what this process has
    source.env_vars = {f"{ENVIRONMENT_PREFIX}{name}": environ.get(variable) or None for variable, name in known.items()}
    said = source()
    return {name: _split(value) if takes_several(name) else value for name, value in said.items()}


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _from_file(path: Path) -> _Layer:
    text = _text_of(path)
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f'{path} is not TOML: {error}. A line looks like this: host = "127.0.0.1"') from None
    known = {option_name(name): name for name in Settings.model_fields}

    def place(name: str) -> str:
        return f"{path}{_line_of(text, option_name(name))}"

    for key in said:
        if key not in known:
            raise SettingsError(f"{path}{_line_of(text, key)}: {key} is no setting. {_nearest(key, list(known))}")
    values = {known[key]: _from_folder(path.parent, known[key], value) for key, value in said.items()}
    return _Layer(values, place)


def _text_of(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise SettingsError(f"{path} is larger than {LARGEST_FILE} bytes: it is no file of settings")
        return path.read_text("utf-8")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): let the user who runs the server read it"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text: write it anew, one `key = value` a line") from None


def _from_folder(folder: Path, name: str, value: Any) -> Any:
    """A path in a file is meant from the file's own folder."""
    is_path = "Path" in str(Settings.model_fields[name].annotation)
    if not (is_path and value and isinstance(value, str)) or value.startswith("~"):
        return value
    return str(folder / value)


def _line_of(text: str, key: str) -> str:
    found = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=.\]]", text, re.MULTILINE)
    return f":{text.count(chr(10), 0, found.start()) + 1}" if found else ""


def _nearest(word: str, known: list[str]) -> str:
    same = {each.casefold(): each for each in known}
    near = [same[each] for each in difflib.get_close_matches(word.casefold(), same, 1, cutoff=0.0)]
    return f"The nearest one is {near[0]}; `thalovant-server config` shows all"


def _sentence(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    kind = error["type"]
    if kind == "missing":
        return (
            f"Where shall the server keep its files? Type --{option_name(name)} DIR, or set {variable_name(name)}, or "
            f"{option_name(name)} in the file of settings"
        )
    if kind == "value_error":
        return f"{origins[name]}: {error['ctx']['error']}"
    wanted = _BOUNDS[kind].format(**error["ctx"]) if kind in _BOUNDS else _KINDS.get(kind, error["msg"])
    return f"{origins[name]} is {error['input']!r}: it has to be {wanted}"


def _places(sentence: str, origins: Mapping[str, str]) -> str:
    """Say where the settings of a sentence were made, of those that were not typed."""
    places = [
        f"--{option_name(name)}: {origin}"
        for name, origin in origins.items()
        if origin != DEFAULT and not origin.startswith("--") and re.search(rf"--{option_name(name)}(?![\w-])", sentence)
    ]
    return f" ({', '.join(places)})" if places else ""
