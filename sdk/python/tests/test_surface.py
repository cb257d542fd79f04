# SPDX-License-Identifier: Apache-2.0
"""What `import thalovant` offers has the published names, parameters, defaults, fields and bases.

Every difference is listed here with its reason; a difference that is not listed fails, and so does one that is over.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, get_args

import pytest

import thalovant

SURFACE: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[3] / "contract" / "python-surface.json").read_text()
)["names"]
OFFERED = sorted(name for name in thalovant.__all__ if name in SURFACE)
FIRST = sorted(name for name, entry in SURFACE.items() if entry["when"] == "first")

_MQTT_5 = "what only MQTT 5 tells, which the published SDK does not speak"
OWN_NAMES = {
    "__version__": "asked for in bug reports",
    "ClientPresence": "who is online is asked of a self-hosted server",
    "ThalovantPublishDeniedError": _MQTT_5,
    "ThalovantPublishTooLargeError": _MQTT_5,
}

_AGENT = "this SDK says its own name; the published one stays theirs"
_OWN_URL = "None finds the self-hosted server; the published default is the hosted one"
_DOCTOR = "what a check found in more than a sentence, and what it all comes down to"
_ROADS = "several carriers of one identity, in order; without it the client behaves as the published one"
_CA = "certificates of a self-hosted server, without touching the environment"

# (class, method, parameter) -> why its default differs or why it is there at all
PARAMETERS = {
    ("ThalovantControlPlane", "__init__", "api_url"): _OWN_URL,
    ("ThalovantControlPlane", "__init__", "user_agent"): _AGENT,
    ("ThalovantControlPlane", "__init__", "ca_pem"): _CA,
    ("AsyncThalovantControlPlane", "__init__", "api_url"): _OWN_URL,
    ("AsyncThalovantControlPlane", "__init__", "user_agent"): _AGENT,
    ("AsyncThalovantControlPlane", "__init__", "ca_pem"): _CA,
    ("ThalovantClient", "__init__", "useragent"): _AGENT,
    ("AsyncThalovantClient", "__init__", "useragent"): _AGENT,
    ("ThalovantClient", "__init__", "protocols"): _ROADS,
    ("AsyncThalovantClient", "__init__", "protocols"): _ROADS,
}
# class -> fields after the published ones
FIELDS = {
    "ThalovantIdentity": {"ca_pem": _CA},
    "ThalovantDoctorCheck": dict.fromkeys(("status", "protocol", "code", "advice"), _DOCTOR),
    "ThalovantDoctorReport": dict.fromkeys(("finding", "notes", "control_plane"), _DOCTOR),
    "ThalovantConnectionInfo": dict.fromkeys(("protocol", "attempts", "moved_because"), _ROADS),
    "MqttBrokerCredentials": dict.fromkeys(
        ("c2s_topic", "s2c_topic", "status_topic"), "documented in the seed, dropped by the published SDK"
    ),
}
# class -> methods the published one does not have
_NO_DASHBOARD = "a self-hosted server has no dashboard to do it in"
_CLIENTS = dict.fromkeys(
    (
        *("cancel_rotation", "export_audit", "finish_rotation", "get_audit_key", "get_client_policy"),
        *("get_client_presence", "list_audit"),
        *("lookup_credential", "pause_client", "presence", "reset_client_key", "resume_client"),
        *("rotate_client_identity", "update_client", "update_client_policy", "watch_presence"),
    ),
    _NO_DASHBOARD,
)
_WRITING = dict.fromkeys(
    ("save", "save_to_config", "as_env", "env_lines"),
    "an identity is shown once; the published SDK leaves keeping it to you",
)
_ACCOUNTS = dict.fromkeys(
    (
        *("accept_invitation", "approve_device_login", "change_password", "create_api_token", "deny_device_login"),
        *("invite_user", "invite_user_again", "list_api_tokens", "list_users", "update_user"),
    ),
    _NO_DASHBOARD,
)
OWN_METHODS = {
    "ThalovantControlPlane": _CLIENTS | _ACCOUNTS,
    "AsyncThalovantControlPlane": _CLIENTS | _ACCOUNTS,
    "ThalovantIdentity": _WRITING,
}
_LATER_CLIENT = {"describe_intent", "intents", "list_intents"}
_LATER_CONTROL = {
    *("clear_hub_rating", "complete_native_sign_in", "create_memory_item"),
    *("create_runtime_group", "delete_memory_item", "delete_runtime_group"),
    *("get_analytics_overview", "get_hub_runtime_capabilities", "get_memory_item", "get_memory_summary"),
    *("get_runtime_group", "get_runtime_group_config", "install_hub_skill", "install_runtime_group_skill"),
    *("list_hub_skill_history", "list_hub_skills", "list_marketplace_skills", "list_memory_items"),
    *("list_runtime_group_inventory", "list_runtime_group_marketplace", "list_runtime_groups"),
    *("release_hub", "release_runtime_group", "remove_hub_skill"),
    *("set_hub_rating", "uninstall_runtime_group_skill", "update_hub_skill", "update_memory_item"),
    *("update_runtime_group", "update_runtime_group_config"),
}
# class -> methods whose feature is not built yet
LATER = {
    "ThalovantClient": _LATER_CLIENT,
    "AsyncThalovantClient": _LATER_CLIENT,
    "ThalovantControlPlane": _LATER_CONTROL,
    "AsyncThalovantControlPlane": _LATER_CONTROL,
}
KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
NOTHING = object()


def shape(function: Any) -> dict[str, tuple[str, object]]:
    """Parameter name -> kind and default, in order, without self."""
    found = inspect.signature(function).parameters.values()
    return {
        one.name: (KINDS[one.kind], NOTHING if one.default is one.empty else repr(one.default))
        for one in found
        if one.name not in ("self", "cls")
    }


def published(entry: dict[str, Any]) -> dict[str, tuple[str, object]]:
    return {one["name"]: (one["kind"], one.get("default", NOTHING)) for one in entry["parameters"]}


def differences(owner: str, method: str, ours: dict[str, Any], theirs: dict[str, Any]) -> set[str]:
    """Names of parameters that differ; their order counts."""
    wrong = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    common = [name for name in ours if name in theirs]
    if common != [name for name in theirs if name in ours]:
        wrong.add("<order>")
    return wrong


def allowed(owner: str, method: str) -> set[str]:
    return {name for one, other, name in PARAMETERS if (one, other) == (owner, method)}


CLASSES = [name for name in OFFERED if isinstance(getattr(thalovant, name), type)]


@pytest.mark.parametrize("name", [name for name in CLASSES if "constructor" in SURFACE[name]])
def test_a_constructor(name: str) -> None:
    entry = SURFACE[name]
    ours = shape(getattr(thalovant, name).__init__)
    assert differences(name, "__init__", ours, published(entry["constructor"])) == allowed(name, "__init__")


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name: str) -> None:
    owner = getattr(thalovant, name)
    later = LATER.get(name, set())
    entries = SURFACE[name].get("methods", {})
    assert later <= entries.keys()
    for method, entry in entries.items():
        if method in later:
            assert not hasattr(owner, method), f"{method} is built: take it off the list"
            continue
        static = inspect.getattr_static(owner, method)
        assert isinstance(static, classmethod) == bool(entry.get("classmethod")), method
        function = static.__func__ if isinstance(static, classmethod) else static
        assert inspect.iscoroutinefunction(function) == bool(entry.get("async")), method
        assert inspect.isasyncgenfunction(function) == bool(entry.get("async_generator")), method
        assert differences(name, method, shape(function), published(entry)) == allowed(name, method), method


@pytest.mark.parametrize("name", OWN_METHODS)
def test_methods_of_our_own_are_listed(name: str) -> None:
    attributes = {own: one for base in getattr(thalovant, name).__mro__ for own, one in vars(base).items()}
    ours = {own for own, one in attributes.items() if own[0] != "_" and callable(one)}
    assert ours - SURFACE[name]["methods"].keys() == OWN_METHODS[name].keys()


@pytest.mark.parametrize("name", CLASSES)
def test_bases_and_properties(name: str) -> None:
    owner, entry = getattr(thalovant, name), SURFACE[name]
    if entry["kind"] == "exception":
        assert [base.__name__ for base in owner.__bases__] == entry["bases"]
    for attribute in entry.get("properties", []):
        static = inspect.getattr_static(owner, attribute, None)
        # One of them is set by the constructor: the caller's own session.
        assert isinstance(static, property) or attribute == "session", attribute


@pytest.mark.parametrize("name", [name for name in CLASSES if SURFACE[name]["kind"] == "dataclass"])
def test_fields(name: str) -> None:
    owner, entry = getattr(thalovant, name), SURFACE[name]
    assert owner.__dataclass_params__.frozen == entry["frozen"]
    found = []
    for field in dataclasses.fields(owner):
        one: dict[str, Any] = {"name": field.name, "type": str(field.type)}
        if field.default is not dataclasses.MISSING:
            one["default"] = repr(field.default)
        if field.default_factory is not dataclasses.MISSING:
            one["default_factory"] = getattr(field.default_factory, "__name__", "?")
        found.append(one)
    own = FIELDS.get(name, {})
    assert found[: len(entry["fields"])] == entry["fields"]
    assert {one["name"] for one in found[len(entry["fields"]) :]} == set(own)
    assert all("default" in one for one in found[len(entry["fields"]) :])


def test_functions_and_constants() -> None:
    for name in OFFERED:
        ours, entry = getattr(thalovant, name), SURFACE[name]
        if isinstance(ours, types.FunctionType):
            assert differences(name, name, shape(ours), published(entry)) == set(), name
        elif isinstance(ours, (str, tuple)) and not isinstance(ours, enum.Enum):
            assert repr(ours) == entry["value"], name
    assert get_args(thalovant.HubProtocol) == thalovant.DEFAULT_PROTOCOL_PREFERENCE


def test_everything_of_the_first_set_is_offered() -> None:
    assert set(FIRST) - set(thalovant.__all__) == set()


def test_every_name_is_there_is_told_once_and_is_known() -> None:
    assert all(hasattr(thalovant, name) for name in thalovant.__all__)
    assert len(set(thalovant.__all__)) == len(thalovant.__all__)
    assert set(thalovant.__all__) - SURFACE.keys() == OWN_NAMES.keys() | {"strip_ssml"} - SURFACE.keys()


def test_no_listed_difference_is_over() -> None:
    for owner, method, _ in PARAMETERS:
        assert owner in CLASSES, method
    assert set(FIELDS) | set(LATER) <= set(CLASSES)


LOOK = """
import sys, thalovant
assert "__getattr__" not in vars(thalovant), "nothing is loaded later"
missing = [name for name in thalovant.__all__ if name not in vars(thalovant)]
loaded = [name for name in ("thalovant_server", "typer", "rich", "thalovant.cli", "pytest") if name in sys.modules]
print(missing, loaded)
"""


def test_importing_it_is_honest(tmp_path: Path) -> None:
    """All names are there at once, and neither the server nor the command line comes along."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("[] []\n", "")


def test_the_version_is_that_of_the_distribution() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{thalovant.__version__}"' in project
