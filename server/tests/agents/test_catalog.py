# SPDX-License-Identifier: Apache-2.0
"""Names lead to agents; what an operator wrote wrongly is refused with the form it should have."""

from __future__ import annotations

import asyncio

import pytest

from thalovant_server.agents.base import AgentRequest
from thalovant_server.agents.catalog import Catalog
from thalovant_server.agents.echo import EchoAgent
from thalovant_server.agents.python import PythonAgent
from thalovant_server.errors import SettingsError


def test_echo_is_always_there_and_the_default():
    catalog = Catalog()
    assert catalog.names() == ["echo"]
    assert catalog.get(None) is catalog.get("echo")
    assert catalog.get("other") is None


def test_another_default():
    mine = PythonAgent("mine", str.upper)
    catalog = Catalog([mine], default="mine")
    assert catalog.get(None) is mine
    assert catalog.names() == ["echo", "mine"]
    with pytest.raises(SettingsError, match="'other'"):
        Catalog(default="other")


def test_options_load_functions():
    catalog = Catalog.from_options(["up=python:string:capwords", "a.b-c=python:json:dumps"])
    assert catalog.names() == ["a.b-c", "echo", "up"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("up", "form name=python"),
        ("up=string:capwords", "form name=python"),
        ("up=shell:rm", "form name=python"),
        ("=python:string:capwords", "a name has"),
        ("a b=python:string:capwords", "a name has"),
        ("x" * 64 + "=python:string:capwords", "a name has"),
        ("echo=python:string:capwords", "two agents called 'echo'"),
        ("up=python:string", "module:function"),
    ],
)
def test_wrong_options_are_named(option, says):
    with pytest.raises(SettingsError, match=says):
        Catalog.from_options([option])


def test_echo_gives_the_text_back_unchanged():
    async def main():
        request = AgentRequest("  ä\n", "de", "s", "n", "s", "r", {}, {}, client_id="c")
        return [part async for part in EchoAgent().answer(request)]

    assert asyncio.run(main()) == ["  ä\n"]


def test_closing_closes_every_agent():
    asyncio.run(Catalog.from_options(["up=python:string:capwords"]).close())
