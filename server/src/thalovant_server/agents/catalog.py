# SPDX-License-Identifier: Apache-2.0
"""The agents of this server by name, as the operator declared them (architecture decision 8).

A hub's spec holds a name out of this catalog, never code. It will not change after the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from thalovant_server.agents.base import Agent
from thalovant_server.agents.echo import EchoAgent
from thalovant_server.agents.python import PythonAgent
from thalovant_server.errors import SettingsError

DEFAULT = "default"  # the name an operator gives to the agent of every hub that names none
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


class Catalog:
    """Names → agents. `echo` is always among them; hubs that name none get the one called `default`, else `echo`."""

    def __init__(self, agents: Iterable[Agent] = (), *, default: str | None = None) -> None:
        self._agents: dict[str, Agent] = {EchoAgent.name: EchoAgent()}
        for agent in agents:
            self._add(agent)
        default = default or (DEFAULT if DEFAULT in self._agents else EchoAgent.name)
        if default not in self._agents:
            raise SettingsError(f"there is no agent {default!r} to be the default")
        self._default = default

    @classmethod
    def from_options(cls, options: Iterable[str]) -> Catalog:
        """Load what the operator wrote: each `name=python:module:function`.

        Raises:
            SettingsError: an option is not of that form, a name is taken, or the function cannot be loaded.
        """
        return cls([_load(option) for option in options])

    def get(self, name: str | None) -> Agent | None:
        """The agent of that name; the default for None; None when there is none of that name."""
        return self._agents.get(self._default if name is None else name)

    def names(self) -> list[str]:
        """All names, in order."""
        return sorted(self._agents)

    async def close(self) -> None:
        """Free what the agents hold."""
        for agent in self._agents.values():
            await agent.close()

    def _add(self, agent: Agent) -> None:
        if agent.name in self._agents:
            raise SettingsError(f"there are two agents called {agent.name!r}: choose another name for one")
        self._agents[agent.name] = agent


def _load(option: str) -> Agent:
    name, equals, source = option.partition("=")
    kind, _, target = source.partition(":")
    if not equals or kind != "python":
        raise SettingsError(f"--agent {option!r} is not of the form name=python:module:function")
    if not _NAME.match(name):
        raise SettingsError(f"--agent {option!r}: a name has letters, digits, '.', '_' and '-', at most 63")
    return PythonAgent.load(name, target)
