# SPDX-License-Identifier: Apache-2.0
"""What the control plane's routes work with, handed over by the one place that composes the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Request

from thalovant_server.broker_report import BrokerReport
from thalovant_server.control.denied import DenialWriter
from thalovant_server.control.grace import GraceKeeper
from thalovant_server.control.operation_keeper import OperationKeeper
from thalovant_server.control.passwords import PasswordHasher
from thalovant_server.control.throttle import GuessThrottle, LoginThrottle
from thalovant_server.control.token_use import TokenUse
from thalovant_server.daily_usage import DailyUsage
from thalovant_server.denials import Denials
from thalovant_server.directory import Directory
from thalovant_server.endpoints import Endpoints
from thalovant_server.hub.clock import LoopClock
from thalovant_server.hub.presence_watch import PresenceWatch
from thalovant_server.hub_spec import Agents
from thalovant_server.last_use import LastUses
from thalovant_server.store.database import Database
from thalovant_server.wall_clock import Clock, now

TOKEN_SECONDS = 12 * 60 * 60
REPLAY_SECONDS = 24 * 60 * 60


class Admission(Protocol):
    """Knows which credentials an outside broker has taken up."""

    @property
    def queued(self) -> int:
        """How many changes the broker has still to be told of."""

    async def has(self, credential_id: int, seconds: float) -> bool:
        """Tell whether the broker has this credential, at the latest after so many seconds."""


@dataclass(slots=True)
class Services:
    """The parts behind the API.

    Args:
        database: open.
        directory: filled; told of every committed change.
        endpoints: what clients are told; may be set anew before the first request, once the ports are known.
        agents: returns the names of the agents the operator declared.
        version: of this server.
        presence: of every client; fed by the hub.
        hasher: for people's passwords.
        throttle: of login attempts.
        guesses: bounds those of user codes, invitations and one's own password.
        device_logins: bounds how often they begin at one address.
        clock: of everything that is stored.
        token_seconds: how long a token is good.
        usage: asks of this day, which the hub counts; one of its own when there is no hub.

    `denials` is where the control plane notes what it denies, once it is started; `denied` writes that, and what the
    data plane denied, into the audit log.

    `operations`: ends what takes longer than its request; asks `admission`, which is set once there is a broker.

    `broker`: how it is with the outside broker; None where there is none. `metrics`: the server in numbers, as text.

    `uses`: when each credential was used last; the hub tells it. `grace`: ends credentials in their time.
    """

    database: Database
    directory: Directory
    endpoints: Endpoints
    agents: Agents
    version: str
    presence: PresenceWatch
    hasher: PasswordHasher = field(default_factory=PasswordHasher)
    throttle: LoginThrottle = field(default_factory=LoginThrottle)
    guesses: GuessThrottle = field(default_factory=GuessThrottle)
    device_logins: GuessThrottle = field(default_factory=GuessThrottle)
    clock: Clock = now
    token_seconds: int = TOKEN_SECONDS
    usage: DailyUsage = field(default_factory=DailyUsage)
    token_use: TokenUse = field(init=False)
    uses: LastUses = field(init=False)
    grace: GraceKeeper = field(init=False)
    denied: DenialWriter = field(init=False)
    denials: Denials = field(init=False)
    admission: Admission | None = None
    broker: BrokerReport | None = None
    metrics: Callable[[], bytes] = bytes
    operations: OperationKeeper = field(init=False)

    def __post_init__(self) -> None:
        self.token_use = TokenUse(self.database)
        self.uses = LastUses(self.database, self.clock)
        self.grace = GraceKeeper(self.database, self.directory, self.clock)
        self.denied = DenialWriter(self.database, self.clock)
        self.operations = OperationKeeper(self.database, self.directory, self.clock, lambda: self.admission)

    def start(self) -> None:
        """Start the work behind the API; call on the running loop."""
        self.denials = Denials(LoopClock(), self.denied.put)
        self.denied.start()
        self.directory.start()
        self.token_use.start()
        self.uses.start()
        self.grace.start()
        self.operations.start()

    async def stop(self) -> None:
        """End that work. The database stays open: it belongs to the caller."""
        await self.operations.stop()
        await self.grace.stop()
        await self.uses.stop()
        self.denials.close()
        await self.denied.stop()
        await self.directory.stop()
        await self.token_use.stop()
        await asyncio.to_thread(self.hasher.close)


def services_of(request: Request) -> Services:
    """Return the services of the application that serves this request."""
    services: Services = request.app.state.services
    return services


GivenServices = Annotated[Services, Depends(services_of)]
