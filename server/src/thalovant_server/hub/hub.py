# SPDX-License-Identifier: Apache-2.0
"""The hub service: admits clients, keeps their connections, and takes their asks to the agents.

One object serves every hub of the process; which hub a client belongs to is its credential's. It holds what the
connections cannot know alone: the directory, the budget, who else is connected.

It will not know a carrier beyond its name, nor an agent beyond its interface.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from thalovant.protocol.messages import HiveMessage
from thalovant_server.agents.base import Agent, AgentRequest
from thalovant_server.daily_usage import DailyUsage
from thalovant_server.denials import Denials
from thalovant_server.errors import CredentialGone, Overloaded, StorageError
from thalovant_server.hub import block_lists, policy, refusal
from thalovant_server.hub.allowance import Allowances, Shortage
from thalovant_server.hub.ask import Ask, Cancel
from thalovant_server.hub.budget import Account, ByteBudget
from thalovant_server.hub.clock import Clock, LoopClock
from thalovant_server.hub.connection import Connection, Link
from thalovant_server.hub.denied import HubDenials
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.presence_watch import PresenceWatch
from thalovant_server.hub.refusal import Refusal, Refused
from thalovant_server.hub.replies import denied
from thalovant_server.hub.runtime import Runtime
from thalovant_server.hub.session import HubSession
from thalovant_server.hub.throttle import ConnectThrottle

if TYPE_CHECKING:
    from thalovant_server.directory import Change, CredentialEntry, Directory, HubEntry

log = structlog.get_logger("thalovant.hub")

SUITES = ["25519_ChaChaPoly_SHA256", "25519_AESGCM_SHA256"]
# How a session ends whose client does not know the password; beside leaving without a word (contract section 5).
UNPROVEN = frozenset(
    {
        refusal.HANDSHAKE_FAILED, refusal.KEY_MISMATCH, refusal.HANDSHAKE_TIMEOUT, refusal.PROTOCOL_ERROR,
        refusal.UNDECIPHERABLE,
    }
)  # fmt: skip
CAPABILITIES = ["handled", "poll", "query"]


class Agents(Protocol):
    """Where agents are found by name."""

    def get(self, name: str | None) -> Agent | None:
        """The agent of that name, the default for None, or None."""


class Uses(Protocol):
    """Where it is noted that a credential was used."""

    def note(self, credential_id: int, carrier: str, address: str) -> None:
        """A session of this credential became ready, or ended, just now."""


class Hub:
    """All connections of the process. Make it on the running event loop.

    Args:
        static_private: the server's Noise key, 32 bytes.
        node_id: the server's short public name in every HELLO; must survive restarts (contract section 4.1).
        usage: counts the asks of the day; one of its own when none is given.
        uses: hears which credentials are used.
        presence: says which clients are online; one of its own when none is given.
        denials: where denied attempts are noted; without it they are in the log alone.
    """

    def __init__(
        self,
        directory: Directory,
        agents: Agents,
        *,
        static_private: bytes,
        node_id: str,
        version: str,
        limits: Limits | None = None,
        clock: Clock | None = None,
        usage: DailyUsage | None = None,
        uses: Uses | None = None,
        presence: PresenceWatch | None = None,
        denials: Denials | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.clock: Clock = clock or LoopClock()
        self.presence = presence or PresenceWatch(directory, self.clock)  # before this is told of changes itself
        self.budget = ByteBudget(
            self.limits.process_bytes,
            share=self.limits.client_bytes,
            reserved=min(self.limits.reserved_bytes, self.limits.process_bytes // 4),
            little=self.limits.little_bytes,
        )
        self.runtime = Runtime(self.clock, self.limits)
        self._uses = uses
        self._directory = directory
        self._agents = agents
        self._static_private = static_private
        self.node_id = node_id
        self._about = {"server": version, "capabilities": CAPABILITIES}
        self._numbers = itertools.count(1)
        self._by_client: dict[str, set[Connection]] = {}
        self._by_hub: dict[str, set[Connection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.throttle = ConnectThrottle()
        self._allowances = Allowances(usage or DailyUsage())
        self.denials = HubDenials(directory, denials or Denials(self.clock))
        self._stopping = False
        self._unsubscribe = directory.subscribe(self._changed)

    # -- what the gateways call -------------------------------------------------------------------------------

    def admit(
        self, access_key: str, hub_id: str | None, carrier: str, remote: str = "", *, new: bool = True
    ) -> CredentialEntry:
        """The credential of that access key, when it may be here. `hub_id` None is the default hub.

        `new`: for a new session; False where a carrier asks again for one that it has.

        Raises:
            Refused: the key is unknown or another hub's, the carrier or the hub is off, or the server goes down; for
                a new session also where too many attempts have failed.
        """
        try:
            if new:
                self.check_rate(access_key, remote)
            return self._admit(access_key, hub_id, carrier)
        except Refused as refused:
            if new and refused.refusal.of_credential:
                refused.hold_back = self.failed(access_key, remote)
            # Each single one; the gateways warn, and not 18 times a second.
            log.debug("refused", code=refused.code, carrier=carrier, hub_id=hub_id, remote=remote)
            raise

    def check_rate(self, access_key: str, remote: str) -> None:
        """Look whether somebody at that address may try this access key now.

        Raises:
            Refused: too many attempts have failed there, or the server goes down.
        """
        if self._stopping:
            raise Refused(refusal.RESTARTING)
        live = self._directory.credential(access_key) is not None
        if self.throttle.wait(remote, access_key, self.clock.now(), live=live):
            raise Refused(refusal.THROTTLED)

    def failed(self, access_key: str, remote: str) -> float:
        """Take note of an attempt that failed, on whatever carrier; return the seconds after which to say so."""
        return self.throttle.failed(remote, access_key, self.clock.now())

    def proven(self, access_key: str, remote: str) -> None:
        """Take note that somebody at that address knows the password of this access key."""
        self.throttle.succeeded(remote, access_key)

    def connect(self, link: Link, credential: CredentialEntry, user_agent: str | None) -> Connection:
        """Begin a session for an admitted credential; HELLO and offer leave through the link at once.

        `user_agent` begins the peer name (contract section 6.3); None puts the access key there, as on MQTT.

        Raises:
            Refused: the server goes down. Right after `admit` for a new session it is never raised.
        """
        if self._stopping:  # on MQTT a session can begin long after `admit`
            log.debug("refused", code=refusal.RESTARTING.code, carrier=link.carrier, client_id=credential.client_id)
            raise Refused(refusal.RESTARTING)
        current = self._directory.credential(credential.access_key) or credential
        self._make_room(link.carrier, current)
        connection = Connection(self, link, current, user_agent or current.access_key, next(self._numbers))
        self._by_client.setdefault(current.client_id, set()).add(connection)
        self._by_hub.setdefault(current.hub_id, set()).add(connection)
        connection.start(self._session(connection, current))
        return connection

    def budget_of(self, credential: CredentialEntry) -> Account:
        """What is held for this credential's client, on whatever carrier, must be taken here (and given back here)."""
        hub = self._directory.hub(credential.hub_id)
        return self.budget.share(credential.client_id, at_least=0 if hub is None else 4 * hub.max_message)

    def connections_of(self, client_id: str) -> list[Connection]:
        """The live connections of a client, oldest first."""
        return sorted(self._by_client.get(client_id, ()), key=lambda connection: connection.number)

    def sessions(self) -> Counter[tuple[str, bool]]:
        """How many live connections there are by carrier, and of each how many are ready and how many are not."""
        return Counter((each.carrier, each.ready) for of_hub in self._by_hub.values() for each in of_hub)

    @property
    def asks_running(self) -> int:
        """Asks whose agent is at work."""
        return self.runtime.running

    @property
    def connections(self) -> int:
        """Live connections, ready or not."""
        return sum(len(each) for each in self._by_hub.values())

    async def stop(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Take nothing new, let asks under way end, then end every connection with "restart".

        The asks have so many seconds, and no more once `hurry` is set.
        """
        self._stopping = True
        self.presence.watchers.dismiss()
        await self.runtime.stop(seconds, hurry)
        for connection in [each for group in list(self._by_hub.values()) for each in group]:
            connection.end(refusal.RESTARTING)
        self.presence.stop()
        self._unsubscribe()
        self.denials.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- what a connection calls ------------------------------------------------------------------------------

    def find_psk(self, connection: Connection) -> None:
        """Fetch the stretched key in a task of its own."""
        self._spawn(f"psk of {connection.credential.client_id}", self._find_psk(connection))

    def commit_pin(self, connection: Connection, key: bytes) -> None:
        """Commit the pin in a task of its own."""
        self._spawn(f"pin of {connection.credential.client_id}", self._commit_pin(connection, key))

    def became_ready(self, connection: Connection) -> None:
        """The handshake is over: check once more who this is, and how many of them there are."""
        log.info(
            "session_ready",
            carrier=connection.carrier,
            client_id=connection.credential.client_id,
            hub_id=connection.credential.hub_id,
            pattern=connection.pattern,
        )
        if self._standing(connection) is None:
            return
        self.presence.ready(connection)
        self.proven(connection.credential.access_key, connection.remote)
        self._note_use(connection)
        ready = self._siblings(connection.carrier, connection.credential, ready=True)
        if len(ready) > self.limits.sessions_per_credential:
            # Proven by the password, so it may displace its own: the one that was silent longest.
            min(ready, key=lambda each: (each.heard, each.number)).end(refusal.TOO_MANY_CONNECTIONS)

    def greeted(self, connection: Connection) -> None:
        """Keep peer names apart (contract section 6.3)."""
        others = self._by_client.get(connection.credential.client_id, ())
        if any(other.peer == connection.peer for other in others if other is not connection):
            connection.distinguish()

    def received(self, connection: Connection, message: HiveMessage) -> None:
        """Judge a message by the credential as it is now, and act."""
        standing = self._standing(connection)
        if standing is None:
            return
        credential, hub = standing
        decision = policy.decide(credential.permissions, message, self.limits)
        if not isinstance(decision, policy.Allow | policy.Ignore):
            self._spend(credential)  # of what is allowed, cancellations are free, and asks counted when they are new
        match decision:
            case policy.Allow(ask=Ask() as ask):
                self._ask(connection, credential, hub, ask)
            case policy.Allow(ask=Cancel(request_id=request_id)):
                self.runtime.cancel(connection, credential.client_id, request_id)
            case policy.Deny() as denial:
                self._deny(connection, denial)
            case policy.Close(frame_type=frame_type, denial=denial):
                if connection.hears_denials:
                    self._deny(connection, denial)
                else:  # the contract's words for everybody else
                    self.denials.message(connection, refusal.NOT_ALLOWED.code, frame_type)
                    connection.end(refusal.not_allowed(frame_type))
            case policy.NoRendezvous():
                answer = {"status": "error", "reason": "not_a_rendezvous_node", "mailbox_node": self.node_id}
                connection.send([HiveMessage("rendezvous", answer)])
            case _:
                pass

    def received_binary(self, connection: Connection) -> None:
        """No agent takes binary yet."""
        standing = self._standing(connection)
        if standing is not None:
            self._spend(standing[0])
            self._deny(connection, policy.unsupported_frame("bin"))

    def received_malformed(self, connection: Connection) -> None:
        """The envelope was fine and the payload was not: say so, and go on."""
        standing = self._standing(connection)
        if standing is not None:
            self._spend(standing[0])
            self._deny(connection, policy.malformed_payload("bus"))

    def ended(self, connection: Connection) -> None:
        """Forget a connection."""
        self.denials.ended(connection)
        credential = connection.credential
        if connection.ready:
            self.presence.ended(connection)
            self._note_use(connection)
        elif connection.carrier != "mqtt" and (connection.refusal is None or connection.refusal in UNPROVEN):
            self.failed(credential.access_key, connection.remote)  # it was let in by the access key alone
        for index, key in ((self._by_client, credential.client_id), (self._by_hub, credential.hub_id)):
            group = index.get(key)
            if group is not None:
                group.discard(connection)
                if not group:
                    del index[key]

    def _note_use(self, connection: Connection) -> None:
        if self._uses is not None:
            self._uses.note(connection.credential.id, connection.carrier, connection.remote)

    # -- inside -----------------------------------------------------------------------------------------------

    def _admit(self, access_key: str, hub_id: str | None, carrier: str) -> CredentialEntry:
        credential = self._directory.credential(access_key)
        wanted = self._directory.hub(hub_id) if hub_id is not None else self._directory.default_hub()
        if credential is None:
            raise Refused(self._why_over(access_key, wanted))
        if wanted is None or wanted.id != credential.hub_id:
            raise Refused(refusal.WRONG_HUB)
        why = self._fault(credential, wanted, carrier)
        if why is not None:
            raise Refused(why)
        return credential

    def _why_over(self, access_key: str, wanted: HubEntry | None) -> Refusal:
        """Why there is no such credential: what became of a key of this hub, nothing about those of others."""
        former = self._directory.former_holder(access_key)
        if former is None or wanted is None or former.hub_id != wanted.id:
            return refusal.UNKNOWN_KEY
        return refusal.REMOVED if former.end == "removed" else refusal.ROTATED_OUT

    def _fault(self, credential: CredentialEntry, hub: HubEntry, carrier: str) -> Refusal | None:
        if not credential.active:
            return refusal.PAUSED
        if not hub.active:
            return refusal.HUB_OFF
        return None if carrier in hub.protocols else refusal.PROTOCOL_OFF

    def _standing(self, connection: Connection) -> tuple[CredentialEntry, HubEntry] | None:
        """The connection's credential and hub as they are now; ends it when they no longer let it be here."""
        credential = self._directory.credential(connection.credential.access_key)
        hub = None if credential is None else self._directory.hub(credential.hub_id)
        why = refusal.REVOKED
        if credential is not None and hub is not None and credential.id == connection.credential.id:
            fault = self._fault(credential, hub, connection.carrier)
            if fault is None:
                return credential, hub
            why = fault
        log.warning("cut", code=why.code, carrier=connection.carrier, client_id=connection.credential.client_id)
        connection.end(why)
        return None

    def _changed(self, change: Change) -> None:
        """A change was committed: whoever may no longer be here is cut now, not at the next message."""
        if change.action == "created":
            return
        index = self._by_client if change.client_id is not None else self._by_hub
        for connection in list(index.get(change.client_id or change.hub_id, ())):
            self._standing(connection)
        if change.action == "removed" and change.client_id is not None:
            # Later: a rotation may put another credential in the place of this one.
            self.clock.call_later(0.0, partial(self._forget_if_gone, change.client_id))

    def _forget_if_gone(self, client_id: str) -> None:
        if not self._directory.credentials_of(client_id):
            self._allowances.forget(client_id)

    def _siblings(self, carrier: str, credential: CredentialEntry, *, ready: bool) -> list[Connection]:
        return [
            connection
            for connection in self._by_client.get(credential.client_id, ())
            if connection.credential.id == credential.id and connection.carrier == carrier and connection.ready is ready
        ]

    def _make_room(self, carrier: str, credential: CredentialEntry) -> None:
        """Unfinished sessions displace only unfinished ones, the oldest first; ready ones keep their place."""
        unfinished = self._siblings(carrier, credential, ready=False)
        if len(unfinished) >= self.limits.unfinished_per_credential:
            min(unfinished, key=lambda connection: connection.number).end(refusal.REPLACED)

    def _session(self, connection: Connection, credential: CredentialEntry) -> HubSession:
        hub = self._directory.hub(credential.hub_id)
        hello = {"pubkey": "", "peer": connection.peer, "node_id": self.node_id, "thalovant": self._about}
        patterns = ["XXpsk2"] if credential.pinned_key is None else ["KKpsk0", "XXpsk2"]
        offer = {
            "max_protocol_version": 3,
            "binarize": False,
            "encodings": [],
            "ciphers": [],
            "noise": {"patterns": patterns, "suites": SUITES},
        }
        return HubSession(
            static_private=self._static_private,
            hello=hello,
            offer=offer,
            pinned=credential.pinned_key,
            psk=credential.psk,
            max_message=hub.max_message if hub is not None else self.limits.message_bytes,
            max_waiting=self.limits.waiting_bytes,
            max_values=self.limits.message_values,
        )

    def _spend(self, credential: CredentialEntry) -> Shortage | None:
        return self._allowances.spend(credential.client_id, credential.permissions, self.clock.now())

    def _ask(self, connection: Connection, credential: CredentialEntry, hub: HubEntry, ask: Ask) -> None:
        """Run an ask that is within its client's limits, or join the one that is the same."""
        agent = self._agents.get(hub.agent)
        if agent is None:
            reason = f"this hub's agent {hub.agent!r} is not one of this server's"
            self._refuse(connection, ask, "backend_unavailable", reason)
            return
        client_id, is_new = credential.client_id, not self.runtime.knows(credential.client_id, ask)
        short = self._short(connection, credential, is_new)
        if short is not None:
            self._refuse(connection, ask, short.code, short.reason, short.data)
            return
        request = self._request(connection, credential, ask)
        refused = self.runtime.submit(connection, client_id, self.budget_of(credential), agent, ask, request)
        if refused is not None:
            self._refuse(connection, ask, *refused)
        elif is_new:
            self._allowances.count(client_id)

    def _short(self, connection: Connection, credential: CredentialEntry, is_new: bool) -> Shortage | None:
        """What keeps a client from asking now.

        What it asks again after a lost link is within its limits: as much as may have been under way. One that repeats
        more than that on one connection does something else.
        """
        if is_new:
            return self._spend(credential) or self._allowances.quota_left(credential.client_id, credential.permissions)
        connection.repeats += 1
        under_way = self.limits.turns_running + self.limits.turns_waiting
        return None if connection.repeats <= under_way else self._spend(credential)

    def _request(self, connection: Connection, credential: CredentialEntry, ask: Ask) -> AgentRequest:
        blocked = block_lists.for_agent(credential.permissions, ask.context)
        return AgentRequest(
            text=ask.text,
            lang=ask.lang,
            session_id=self._private(credential.client_id, ask.session_id or connection.session_id),
            client_id=credential.client_id,
            client_name=credential.client_name,
            site_id=connection.site_id,
            request_id=ask.request_id or "",
            data=ask.data,
            context=blocked.context,
            blocked_skills=blocked.skills,
            blocked_intents=blocked.intents,
        )

    def _refuse(
        self, connection: Connection, ask: Ask, code: str, reason: str, data: dict[str, Any] | None = None
    ) -> None:
        """Deny an ask, or a query, that its client might have been allowed."""
        self._deny(connection, policy.Deny(ask.type, code, reason, data or {}, ask.request_id, ask.query_id))

    def _private(self, client_id: str, session_id: str) -> str:
        """A session id no other client can have: the client chose it, and agents may key memory by it."""
        owner = hashlib.sha256(f"{self.node_id}:{client_id}".encode()).hexdigest()
        return f"{owner[:16]}:{session_id}"

    def _deny(self, connection: Connection, denial: policy.Deny) -> None:
        """Contract section 9.4, with the request id, so that it ends the right ask."""
        self.denials.message(connection, denial.code, denial.denied_type)
        connection.send(denied(connection, denial))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _find_psk(self, connection: Connection) -> None:
        try:
            psk = await self._directory.psk(connection.credential)
            connection.provide_psk(psk)
        except Exception as error:  # noqa: BLE001 - whatever it is, this client must be told something
            connection.end(self._why(error, "psk"))

    async def _commit_pin(self, connection: Connection, key: bytes) -> None:
        try:
            accepted = await self._directory.pin_key(connection.credential.id, key)
            if not accepted and not self._is_pinned(connection.credential.id):
                raise CredentialGone  # its removal is committed; the directory may not have been told yet
            connection.provide_pin(accepted)
        except Exception as error:  # noqa: BLE001 - as above
            connection.end(self._why(error, "pin"))

    def _is_pinned(self, credential_id: int) -> bool:
        current = self._directory.credential_by_id(credential_id)
        return current is not None and current.pinned_key is not None

    def _why(self, error: Exception, what: str) -> Refusal:
        if isinstance(error, CredentialGone):
            return refusal.REVOKED
        if isinstance(error, (Overloaded, StorageError)):
            log.warning("busy", what=what, code=error.code)
            return refusal.BUSY
        log.error("internal", what=what, exc_info=error)
        return refusal.INTERNAL
