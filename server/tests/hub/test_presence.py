# SPDX-License-Identifier: Apache-2.0
"""The states of clients against a model that only knows which sessions there are and when each was heard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from thalovant_server.hub import presence, refusal
from thalovant_server.hub.presence import SECOND, Moment, Presence, PresenceTracker, word_for
from thalovant_server.hub.refusal import Refusal

START = 1_790_000_000
RECHECK = 1.0
CLIENTS = ("client-a", "client-b")
WORDS = ("disconnected", "connection_lost", "no_sign_of_life")


class Time:
    """Both clocks, whole seconds apart."""

    def __init__(self) -> None:
        self.ticks = 100.0

    @property
    def now(self) -> Moment:
        return Moment(self.ticks, self.at)

    @property
    def at(self) -> int:
        return int((START + self.ticks) * SECOND)


@dataclass(eq=False)
class Session:
    """A session that is ready, as the tracker sees it and as the model knows it."""

    time: Time
    client: str
    number: int
    carrier: str
    patience: float | None
    heard: float
    since: int
    remote: str = "192.0.2.1"

    def silence(self) -> float:
        return self.time.ticks - self.heard

    @property
    def surely_quiet(self) -> bool:
        return self.patience is not None and self.silence() >= self.patience + RECHECK

    @property
    def surely_awake(self) -> bool:
        """It may take a look to find out that a silence is over."""
        return self.patience is None or RECHECK <= self.silence() < self.patience


class Presences(RuleBasedStateMachine):
    """Sessions come, speak, fall silent and go; clients are paused, resumed and removed."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.tracker = PresenceTracker(RECHECK)
        self.live: dict[str, list[Session]] = {each: [] for each in CLIENTS}
        self.left: dict[str, tuple[str, int, str]] = {}  # why, since, carrier
        self.seen: dict[str, int] = {}
        self.paused: dict[str, int] = {}
        self.told: dict[str, Presence] = {}
        self.known: set[str] = set()
        self.number = 0

    @rule(client=st.sampled_from(CLIENTS), name=st.sampled_from("xy"))
    def make_or_change(self, client: str, name: str) -> None:
        self.known.add(client)
        standing: Any = "paused" if client in self.paused else "live"
        self.tracker.stands(client, "h1", name, standing, self.time.now)

    @rule(
        target=sessions,
        client=st.sampled_from(CLIENTS),
        carrier=st.sampled_from(["wss", "mqtt"]),
        patience=st.sampled_from([None, 3.0, 10.0]),
    )
    def connect(self, client: str, carrier: str, patience: float | None) -> Session:
        self.number += 1
        session = Session(self.time, client, self.number, carrier, patience, self.time.ticks, self.time.at)
        if client not in self.paused:
            self.known.add(client)
            self.live[client].append(session)
            self.seen[client] = self.time.at
            self.tracker.ready(client, "h1", "x", session, self.time.now)
        return session

    @rule(session=sessions)
    def speak(self, session: Session) -> None:
        session.heard = self.time.ticks
        if session in self.live[session.client]:
            self.seen[session.client] = self.time.at

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        """The watch looks when a look is due, and not otherwise."""
        until = self.time.ticks + seconds
        while (due := self.tracker.next_look) is not None and due <= until:
            self.time.ticks = max(due, self.time.ticks)
            self.tracker.look(self.time.now)
        self.time.ticks = until

    @rule(session=consumes(sessions), why=st.sampled_from(WORDS))
    def disconnect(self, session: Session, why: str) -> None:
        self.end(session, why)
        self.tracker.ended(session.client, session.number, why, self.time.now)

    @rule(client=st.sampled_from(CLIENTS))
    def pause(self, client: str) -> None:
        if client in self.known and client not in self.paused:
            self.paused[client] = self.time.at
            self.tracker.stands(client, "h1", "x", "paused", self.time.now)
            for session in list(self.live[client]):
                self.end(session, "paused")
                self.tracker.ended(client, session.number, "revoked", self.time.now)

    @rule(client=st.sampled_from(CLIENTS))
    def resume(self, client: str) -> None:
        if self.paused.pop(client, None) is not None:
            why, _, carrier = self.left.get(client, ("", 0, ""))
            if why == "paused":
                self.left[client] = ("resumed", self.time.at, carrier)
            self.tracker.stands(client, "h1", "x", "live", self.time.now)

    @rule(client=st.sampled_from(CLIENTS), ended_first=st.booleans())
    def remove(self, client: str, ended_first: bool) -> None:
        known = client in self.known
        cut = self.live[client]
        self.live[client] = []
        for session in cut if ended_first else ():
            self.tracker.ended(client, session.number, "revoked", self.time.now)
        self.tracker.removed(client, self.time.now)
        told = self.drain()
        assert [(each.state, each.why, each.sessions) for each in told if each.client_id == client] == (
            [("revoked", "removed", 0)] if known else []
        )
        for session in cut:  # what comes after the end is not heard
            self.tracker.ended(client, session.number, "revoked", self.time.now)
        for facts in (self.left, self.seen, self.paused, self.told):
            facts.pop(client, None)
        self.known.discard(client)

    def end(self, session: Session, why: str) -> None:
        group = self.live[session.client]
        if session in group:
            group.remove(session)
            if not group:
                self.left[session.client] = (why, self.time.at, session.carrier)

    def drain(self) -> list[Presence]:
        changes = self.tracker.changes(self.time.now)
        assert len({each.client_id for each in changes}) == len(changes)
        for each in changes:
            before = self.told.get(each.client_id)
            assert before is None or replace(before, last_seen_at=None) != replace(each, last_seen_at=None)
        self.told |= {each.client_id: each for each in changes}
        return changes

    @invariant()
    def every_state_is_the_models(self) -> None:
        for client in CLIENTS:
            found = self.tracker.of(client, self.time.now)
            assert (found is not None) == (client in self.known)
            if found is not None:
                self.check(found, self.live[client])

    def check(self, found: Presence, live: list[Session]) -> None:
        client = found.client_id
        assert (found.sessions, found.last_seen_at) == (len(live), self.seen.get(client))
        if client in self.paused:
            assert (found.state, found.why, found.since) == ("revoked", "paused", self.paused[client])
        elif live:
            self.check_connected(found, live)
        elif client in self.left:
            assert (found.state, found.why, found.since, found.carrier) == ("offline", *self.left[client])
        else:
            assert (found.state, found.since, found.carrier) == ("never_seen", None, None)

    def check_connected(self, found: Presence, live: list[Session]) -> None:
        if all(session.surely_quiet for session in live):
            assert found.state == "stale"
            silent_for_long = max(each.heard + (each.patience or 0.0) for each in live)
            assert found.since is not None and (START + silent_for_long) * SECOND <= found.since <= self.time.at
        if any(session.surely_awake for session in live):
            assert found.state == "online"
        if found.state == "online":
            possible = [session for session in live if not session.surely_quiet]
            newest = max((session.number for session in live if session.surely_awake), default=0)
            shown = [(each.carrier, each.since) for each in possible if each.number >= newest]
            assert (found.carrier, found.since) in shown
        assert found.why is None

    @invariant()
    def what_was_told_is_how_it_is(self) -> None:
        self.drain()
        assert self.tracker.changes(self.time.now) == []
        assert set(self.told) == self.known
        for client, told in self.told.items():
            found = self.tracker.of(client, self.time.now)
            assert found is not None
            assert replace(told, last_seen_at=None) == replace(found, last_seen_at=None)


TestPresences = Presences.TestCase
TestPresences.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_session_that_has_ended_is_looked_at_no_more() -> None:
    time, tracker = Time(), PresenceTracker(RECHECK)
    session = Session(time, "client-a", 1, "wss", 3.0, time.ticks, time.at)
    tracker.ready("client-a", "h1", "x", session, time.now)
    assert tracker.next_look == time.ticks + 3
    tracker.ended("client-a", 1, "connection_lost", time.now)
    time.ticks += 3
    tracker.look(time.now)
    assert tracker.next_look is None


def test_sessions_that_come_and_go_leave_nothing_behind() -> None:
    time, tracker = Time(), PresenceTracker(RECHECK)
    lasting = Session(time, "client-b", 0, "wss", 30.0, time.ticks, time.at)
    tracker.ready("client-b", "h1", "y", lasting, time.now)
    for number in range(1, 1000):
        session = Session(time, "client-a", number, "mqtt", 65_535.0, time.ticks, time.at)
        tracker.ready("client-a", "h1", "x", session, time.now)
        tracker.ended("client-a", number, "disconnected", time.now)
        assert tracker.watched < 200
    assert tracker.next_look == time.ticks + 30


def test_a_carrier_without_signs_of_life_costs_no_look() -> None:
    time, tracker = Time(), PresenceTracker(RECHECK)
    session = Session(time, "client-a", 1, "mqtt", None, time.ticks, time.at)
    tracker.ready("client-a", "h1", "x", session, time.now)
    assert tracker.next_look is None


def test_what_was_loaded_is_told_to_nobody() -> None:
    time, tracker = Time(), PresenceTracker(RECHECK)
    last = Presence("client-a", "h1", "x", "online", 5, "wss", "192.0.2.1", None, 0, 9)
    tracker.load([last, Presence("client-b", "h1", "y", "never_seen")], frozenset())
    assert tracker.changes(time.now) == []
    assert tracker.of("client-a", time.now) == replace(last, state="offline", since=9, why="server_lost")
    tracker.stands("client-b", "h1", "y", "live", time.now)
    assert tracker.changes(time.now) == []


@pytest.mark.parametrize("code", sorted(each.code for each in vars(refusal).values() if isinstance(each, Refusal)))
def test_every_refusal_has_a_word(code: str) -> None:
    words = {value for name, value in vars(presence).items() if name.isupper() and isinstance(value, str)}
    words |= {"protocol_off", "hub_off", "slow_reader", "server_busy", "server_failed"}
    assert word_for(Refusal(code, "", 1000, 200)) in words
