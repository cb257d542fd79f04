# SPDX-License-Identifier: Apache-2.0
"""What the data plane denies, noted with all that is known of whom: one place for every carrier and for the hub.

It will not decide anything, nor say anything to a client.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from thalovant_server.denials import LONGEST_WHAT, Denial, Denials, fingerprint
from thalovant_server.hub import refusal
from thalovant_server.hub.refusal import Refusal

if TYPE_CHECKING:
    from thalovant_server.directory import CredentialEntry, Directory
    from thalovant_server.hub.connection import Connection

# How a session ends that somebody tried what may not be. The others are drops, or follow from a change.
ATTEMPTS = frozenset(
    each.code
    for each in (
        refusal.HANDSHAKE_FAILED,
        refusal.KEY_MISMATCH,
        refusal.PROTOCOL_ERROR,
        refusal.UNDECIPHERABLE,
        refusal.TOO_LARGE,
    )
)
# The server's own state: nothing that anybody attempted.
OURS = frozenset(each.code for each in (refusal.RESTARTING, refusal.BUSY, refusal.INTERNAL))


class HubDenials:
    """Notes denials of the data plane."""

    def __init__(self, directory: Directory, denials: Denials) -> None:
        self._directory = directory
        self._denials = denials

    def refused(self, why: Refusal, carrier: str, remote: str, access_key: str = "", *, proven: bool = False) -> None:
        """A session was refused, or ended over what was tried; `proven`: by the client itself.

        A key that is over names the client that had it, and how that came, whatever its bearer was told.
        """
        known = self._directory.credential(access_key)
        former = None if known or not access_key else self._directory.former_holder(access_key)
        of = known or former
        self._denials.note(
            Denial(
                action="session.refused",
                code=former.end if former and why.of_credential else why.code,
                address=remote,
                carrier=carrier,
                client_id=of.client_id if of else None,
                client_name=of.client_name if of else None,
                proven=proven and known is not None,
                hub_id=of.hub_id if of else None,
                fingerprint="" if of else fingerprint(access_key),
                audited=why.code not in OURS,
            )
        )

    def ended(self, connection: Connection) -> None:
        """A session is over; it is noted when that was for something its client tried."""
        why = connection.refusal
        if connection.failure is not None:
            self._denials.failed(connection.credential.client_id, connection.carrier, *connection.failure)
        if why is not None and why.code in ATTEMPTS:
            key = connection.credential.access_key
            self.refused(why, connection.carrier, connection.remote, key, proven=connection.ready)

    def message(self, connection: Connection, code: str, denied_type: str) -> None:
        """A message of a client was denied."""
        denial = Denial(action="message.denied", code=code, carrier=connection.carrier, address=connection.remote)
        self._note(denial, connection.credential, denied_type)

    def topic(self, credential: CredentialEntry, code: str, remote: str, topic: str) -> None:
        """A client that is logged in asked for a topic, or published to one, and may not."""
        self._note(Denial(action="topic.denied", code=code, carrier="mqtt", address=remote), credential, topic)

    def close(self) -> None:
        """Tell what was not told yet."""
        self._denials.close()

    def _note(self, denial: Denial, credential: CredentialEntry, what: str) -> None:
        self._denials.note(
            replace(
                denial,
                what=what[:LONGEST_WHAT],
                client_id=credential.client_id,
                client_name=credential.client_name,
                proven=True,
                hub_id=credential.hub_id,
            )
        )
