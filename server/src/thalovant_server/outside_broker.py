# SPDX-License-Identifier: Apache-2.0
"""The outside broker as one part of the server: who may connect there, and the hubs' own link to it.

What it does at the start: see that no other server is there, see that the broker can be told what it has to be, have
our own account, connect, and only then put the clients' accounts in order. The line between refusing and starting:

- A broker that is *away* (nothing listens, it hangs, it hangs up) stops nobody. It may be booting, as everything does
  after a power cut; the server starts, says so, and connects later.
- A broker that *answers*, and will not do, or whose certificate is not trusted, or that another server uses with the
  same topics, is a mistake of the one who types: the start is refused, and nothing is left behind there.

Later, each of these is only a state (`link.state`), for whoever asks; sessions on other carriers go on.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import TYPE_CHECKING, Self

from thalovant_server.broker_socket import BrokerTarget, client_context
from thalovant_server.brokers.base import Secret
from thalovant_server.brokers.mosquitto import Mosquitto
from thalovant_server.brokers.provisioner import Passwords, Provisioner, Told
from thalovant_server.errors import SettingsError
from thalovant_server.gateways.broker_link.gateway import BrokerLinkGateway
from thalovant_server.gateways.broker_link.keeper import GONE_SECONDS, LinkKeeper, Preparation
from thalovant_server.gateways.broker_link.lookout import look_out
from thalovant_server.gateways.broker_link.presence import instance_of
from thalovant_server.identifiers import new_secret

if TYPE_CHECKING:
    from thalovant_server.brokers.site import BrokerSite
    from thalovant_server.directory import Directory
    from thalovant_server.hub.hub import Hub

PRESENCE_SECONDS = 5.0  # for what is retained to come


class OutsideBroker:
    """One broker, joined or run; made by `open`. `link` keeps the connection, `accounts` those of the clients."""

    def __init__(
        self,
        site: BrokerSite,
        target: BrokerTarget,
        broker: Mosquitto,
        hub: Hub,
        directory: Directory,
        passwords: Passwords,
        told: Told,
        check_seconds: float,
        *,
        is_ours: bool,
    ) -> None:
        namespace, where = site.namespace, site.address.where
        instance, secret = instance_of(hub.node_id), Secret(new_secret())
        read = partial(broker.read_retained, namespace.presence, PRESENCE_SECONDS)
        look = partial(look_out, where, read, instance, GONE_SECONDS, is_ours=is_ours)
        self.accounts = Provisioner(
            broker, directory, passwords, namespace,
            server_password=secret, check_seconds=check_seconds, told=told, look_out=look,
        )  # fmt: skip
        self.link = LinkKeeper(
            BrokerLinkGateway(hub, directory, namespace, where),
            target,
            namespace,
            instance=instance,
            secret=secret,
            preparation=Preparation(
                look, self.accounts.ensure_server_account, self.accounts.withdraw_server_account
            ),
        )  # fmt: skip
        # Whichever of the two finds the broker back tells the other one, which may be far along in its pauses.
        self.link.on_up, self.accounts.on_there = self.accounts.look, self.link.dial_now
        self._broker = broker

    @classmethod
    async def open(
        cls,
        site: BrokerSite,
        hub: Hub,
        directory: Directory,
        passwords: Passwords,
        told: Told,
        *,
        check_seconds: float,
        is_ours: bool,
    ) -> Self:
        """Read what is needed for it; dials nobody.

        Args:
            site: where it is, and who we are there.
            hub: whose clients are met there.
            directory: which clients there are.
            passwords: of their credentials.
            told: hears what came of their accounts.
            check_seconds: between two looks at the accounts.
            is_ours: nobody else uses that broker.

        Raises:
            SettingsError: a file cannot be used.
        """
        password = await asyncio.to_thread(site.password)
        target = BrokerTarget(site.address, await asyncio.to_thread(_context, site))
        broker = Mosquitto(target, site.user, Secret(password), site.namespace, is_ours=is_ours)
        return cls(site, target, broker, hub, directory, passwords, told, check_seconds, is_ours=is_ours)

    async def start(self) -> None:
        """Connect, and begin to keep the accounts; a broker that is away is waited for in the background.

        Raises:
            BrokerRefusedError, BrokerTakenError: it will not do.
        """
        await self.link.start()
        self.accounts.start()

    async def stop(self) -> None:
        """Go, if that was not done before, and tell the broker nothing more."""
        await self.link.stop(0.0)
        await self.accounts.stop()


def _context(site: BrokerSite) -> ssl.SSLContext:
    """How to trust the broker (blocking)."""
    try:
        return client_context(site.ca_file, site.certificate, site.certificate_key)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(
            f"One of --broker-ca {site.ca_file}, --broker-certificate {site.certificate} and --broker-certificate-key "
            f"{site.certificate_key} cannot be used ({why}): name files that hold PEM"
        ) from error
