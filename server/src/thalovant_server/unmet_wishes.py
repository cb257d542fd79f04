# SPDX-License-Identifier: Apache-2.0
"""What hubs want that this start of the server does not have: told in the log, with what to type. Changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import structlog

from thalovant_server.brokers.names import Namespace
from thalovant_server.directory import CredentialEntry, Directory, HubEntry

log = structlog.get_logger("thalovant.server")


def warn_of_unmet_wishes(directory: Directory, *, has_agent: Callable[[str | None], bool], root: str | None) -> None:
    """Warn of hubs whose clients will be refused, or find nobody, until somebody mends that.

    Args:
        directory: loaded.
        has_agent: whether an agent of this name was declared.
        root: where in the outside broker's topics everything of this server lies; None without a broker.
    """
    for hub in directory.hubs():
        if not has_agent(hub.agent):
            _warn_of_absent_agent(hub)
        if not hub.serves_mqtt("link"):
            continue
        if root is None:
            _warn_of_absent_broker(hub)
        elif lost := _without_their_broker(directory, hub, Namespace(root)):
            _warn_of_lost_clients(hub, lost)


def _warn_of_absent_agent(hub: HubEntry) -> None:
    mend = f"start with --agent {hub.agent}=python:MODULE:FUNCTION, or: thalovant hubs set {hub.slug} --no-agent"
    log.warning("hub_names_an_absent_agent", hub=hub.slug, agent=hub.agent, mend=mend)


def _warn_of_absent_broker(hub: HubEntry) -> None:
    mend = (
        "start with --broker mosquitto or --broker-url mqtts://HOST:PORT as before, or: "
        f"thalovant hubs set {hub.slug} --mqtt embedded"
    )
    log.warning("hub_without_its_broker", hub=hub.slug, mend=mend)


def _warn_of_lost_clients(hub: HubEntry, lost: list[CredentialEntry]) -> None:
    mend = f"each needs a new identity: thalovant clients rotate {shlex.quote(lost[0].client_name)}"
    log.warning("clients_without_their_broker", hub=hub.slug, clients=len(lost), mend=mend)


def _without_their_broker(directory: Directory, hub: HubEntry, names: Namespace) -> list[CredentialEntry]:
    """The current credentials that no broker is told of: from before the hub was there, or of another root."""
    current = [each for each in directory.credentials_at(hub.id) if each.active and each.expires_at is None]
    return [each for each in current if not (each.has_broker_password and names.has(each.topic_prefix))]
