# SPDX-License-Identifier: Apache-2.0
"""The blocking twins: the same methods, parameters and words as the originals."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from thalovant.client import AsyncThalovantClient
from thalovant.control_plane import AsyncThalovantControlPlane, ThalovantControlPlane
from thalovant.conversation import AsyncThalovantConversation
from thalovant.sync_client import ThalovantClient
from thalovant.sync_conversation import ThalovantConversation

TWINS = (
    (AsyncThalovantClient, ThalovantClient),
    (AsyncThalovantControlPlane, ThalovantControlPlane),
    (AsyncThalovantConversation, ThalovantConversation),
)
RENAMED = {"aclose": "close"}
OWN_WORDS = {"close", "listen", "on", "wait_for_event"}  # of the client: these have to do with threads
LEFT_OUT = {"session"}  # of the client's parameters: taken for the published signature and not used


def public(cls: type) -> list[str]:
    return sorted(name for name in dir(cls) if not name.startswith("_"))


METHODS = [(original, twin, name) for original, twin in TWINS for name in public(original)]


def parameters(function: Any) -> list[tuple[str, Any, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default, each.annotation) for each in found]


def blocking(annotation: Any) -> Any:
    """What the twin gives instead."""
    return annotation.replace("Async", "") if isinstance(annotation, str) else annotation


@pytest.mark.parametrize(("original", "twin"), TWINS)
def test_no_method_is_missing_and_none_is_too_many(original: type, twin: type) -> None:
    assert public(twin) == sorted(RENAMED.get(name, name) for name in public(original))


@pytest.mark.parametrize(("original", "twin"), TWINS)
def test_they_are_made_alike(original: Any, twin: Any) -> None:
    own = [each for each in parameters(original.__init__) if each[0] not in LEFT_OUT]
    twins = [each for each in parameters(twin.__init__) if each[0] not in LEFT_OUT]
    assert twins == [(*each[:3], blocking(each[3])) for each in own]


@pytest.mark.parametrize(("original", "twin", "name"), METHODS)
def test_a_method_takes_the_same_and_blocks(original: Any, twin: Any, name: str) -> None:
    first, second = getattr(original, name), getattr(twin, RENAMED.get(name, name))
    if isinstance(first, property):
        assert isinstance(second, property)
        return
    assert parameters(second) == parameters(first)
    assert inspect.signature(second).return_annotation == blocking(inspect.signature(first).return_annotation)
    assert not inspect.iscoroutinefunction(second) and not inspect.isasyncgenfunction(second)


@pytest.mark.parametrize(("original", "twin", "name"), METHODS)
def test_a_method_says_the_same_of_itself(original: Any, twin: Any, name: str) -> None:
    first, second = (
        inspect.getdoc(getattr(cls, own)) for cls, own in ((original, name), (twin, RENAMED.get(name, name)))
    )
    assert first and second
    if name not in OWN_WORDS:
        assert second == first
