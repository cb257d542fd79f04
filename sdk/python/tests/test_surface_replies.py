# SPDX-License-Identifier: Apache-2.0
"""The errors, events, replies and health of this SDK have the published names, bases, fields and parameters."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import thalovant.binaries
import thalovant.display
import thalovant.errors
import thalovant.events
import thalovant.health
import thalovant.reply

SURFACE = json.loads((Path(__file__).parents[3] / "contract" / "python-surface.json").read_text())["names"]
DATACLASSES = {
    "ThalovantQuota": thalovant.errors,
    "ThalovantEvent": thalovant.events,
    "ThalovantReply": thalovant.reply,
    "ThalovantBinary": thalovant.binaries,
    "ThalovantDisplayItem": thalovant.display,
    "ThalovantHealth": thalovant.health,
    "ThalovantConnectionInfo": thalovant.health,
}
KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
ERRORS = sorted(name for name, entry in SURFACE.items() if entry["kind"] == "exception")


def _plain(annotation: object) -> str:
    return str(annotation).strip("'")


def _parameters(function: Any) -> list[dict[str, str]]:
    found = []
    for parameter in list(inspect.signature(function).parameters.values()):
        if parameter.name in ("self", "cls"):
            continue
        entry = {
            "name": parameter.name,
            "kind": KINDS[parameter.kind],
            "type": _plain(parameter.annotation),
        }
        if parameter.default is not parameter.empty:
            entry["default"] = repr(parameter.default)
        found.append(entry)
    return found


def _expected(parameters: list[dict[str, str]]) -> list[dict[str, str]]:
    return [parameter | {"type": _plain(parameter["type"])} for parameter in parameters]


def _check_method(owner: type, name: str, entry: dict[str, Any]) -> None:
    method = inspect.getattr_static(owner, name)
    assert isinstance(method, classmethod) == bool(entry.get("classmethod")), name
    function = method.__func__ if isinstance(method, classmethod) else method
    assert _parameters(function) == _expected(entry["parameters"]), name
    assert _plain(inspect.signature(function).return_annotation) == _plain(entry["returns"]), name


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_has_the_published_bases_and_constructor(name: str) -> None:
    error = getattr(thalovant.errors, name)
    entry = SURFACE[name]
    assert [base.__name__ for base in error.__bases__] == entry["bases"]
    if "constructor" in entry:
        assert "__init__" in vars(error)
        assert _parameters(error.__init__) == _expected(entry["constructor"]["parameters"])
    for method, shape in entry.get("methods", {}).items():
        _check_method(error, method, shape)


@pytest.mark.parametrize("name", sorted(DATACLASSES))
def test_a_value_has_the_published_fields(name: str) -> None:
    value, entry = getattr(DATACLASSES[name], name), SURFACE[name]
    assert value.__dataclass_params__.frozen == entry["frozen"]
    found = []
    for field in dataclasses.fields(value):
        shape = {"name": field.name, "type": field.type}
        if field.default is not dataclasses.MISSING:
            shape["default"] = repr(field.default)
        if field.default_factory is not dataclasses.MISSING:
            shape["default_factory"] = field.default_factory.__name__
        found.append(shape)
    known = len(entry["fields"])
    assert found[:known] == entry["fields"]
    assert all("default" in shape for shape in found[known:])  # which there are and why: test_surface


@pytest.mark.parametrize("name", sorted(DATACLASSES))
def test_a_value_has_the_published_methods_and_properties(name: str) -> None:
    value, entry = getattr(DATACLASSES[name], name), SURFACE[name]
    for method, shape in entry.get("methods", {}).items():
        _check_method(value, method, shape)
    for attribute in entry.get("properties", []):
        assert isinstance(vars(value)[attribute], property), attribute


def test_every_published_error_is_exported_and_no_name_is_stale() -> None:
    assert set(ERRORS) <= set(thalovant.errors.__all__)
    assert all(hasattr(thalovant.errors, name) for name in thalovant.errors.__all__)
