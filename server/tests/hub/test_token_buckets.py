# SPDX-License-Identifier: Apache-2.0
"""Token buckets: never more than burst and rate let through, never less, and nothing kept of idle clients."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.directory import RateLimit
from thalovant_server.hub.token_buckets import SECOND, TokenBuckets

LIMITS = st.builds(RateLimit, st.integers(1, 50), st.integers(1, 100))
GAPS = st.lists(st.floats(0, 200, allow_nan=False).map(lambda gap: round(gap, 3)), max_size=60)


def times(gaps, start=1000.0):
    """The moments that follow each other by these gaps."""
    found = [start]
    for gap in gaps:
        found.append(found[-1] + gap)
    return found


def passed(buckets, limit, moments, client="c"):
    return [moment for moment in moments if not buckets.take(client, limit, moment)]


def test_a_burst_passes_and_the_next_waits_for_one_token():
    buckets, limit = TokenBuckets(), RateLimit(3, 30)
    assert [buckets.take("c", limit, 5.0) for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]
    assert buckets.take("c", limit, 14.0) == 1.0
    assert buckets.take("c", limit, 15.0) == 0.0
    assert buckets.take("c", limit, 15.0) == 10.0


def test_what_was_not_used_is_there_again_and_no_more():
    buckets, limit = TokenBuckets(), RateLimit(3, 30)
    assert len(passed(buckets, limit, [0.0] * 9)) == 3
    assert len(passed(buckets, limit, [1e6] * 9)) == 3


def test_clients_share_nothing():
    buckets, limit = TokenBuckets(), RateLimit(1, 60)
    assert [buckets.take(client, limit, 1.0) for client in ("a", "b", "a", "b")] == [0.0, 0.0, 60.0, 60.0]


@given(LIMITS, GAPS)
def test_never_more_than_burst_and_rate_pass_in_any_stretch_of_time(limit, gaps):
    through = passed(TokenBuckets(), limit, times(gaps))
    for first, start in enumerate(through):
        for count, end in enumerate(through[first:], 1):
            seconds = Fraction(int(end * SECOND) - int(start * SECOND), SECOND)
            assert count <= limit.messages * (1 + seconds / limit.per_seconds)


@given(LIMITS, GAPS)
def test_whoever_keeps_to_the_rate_is_never_refused(limit, gaps):
    each = -(-limit.per_seconds * SECOND // limit.messages) / SECOND
    moments = times([each + gap + 1e-6 for gap in gaps])
    assert passed(TokenBuckets(), limit, moments) == moments


@given(LIMITS, GAPS, st.data())
def test_it_does_not_matter_when_others_come_between(limit, gaps, data):
    """Any split of the time by other clients' messages, and by sweeps, gives the same verdicts."""
    alone, among, moments = TokenBuckets(), TokenBuckets(), times(gaps)
    for before, moment in zip([moments[0], *moments], moments, strict=False):
        for other in data.draw(st.lists(st.sampled_from("xyz"), max_size=3)):
            among.take(other, RateLimit(1, 1), before)
        assert among.take("c", limit, moment) == alone.take("c", limit, moment)


@given(LIMITS, GAPS)
def test_who_waits_as_long_as_it_was_told_gets_through(limit, gaps):
    buckets = TokenBuckets()
    for moment in times(gaps):
        wait = buckets.take("c", limit, moment)
        assert 0 <= wait <= -(-limit.per_seconds * SECOND // limit.messages) / SECOND
        if wait:
            assert buckets.take("c", limit, moment + wait + 1e-6) == 0.0
            return


def test_a_limit_that_is_lowered_leaves_at_most_an_empty_bucket():
    buckets = TokenBuckets()
    assert len(passed(buckets, RateLimit(1000, 3600), [0.0] * 1000)) == 1000
    low = RateLimit(2, 10)
    assert buckets.take("c", low, 1.0) == 5.0
    assert buckets.take("c", low, 6.0) == 0.0


def test_a_limit_that_is_raised_is_felt_at_once():
    buckets = TokenBuckets()
    buckets.take("c", RateLimit(1, 10), 0.0)
    assert buckets.take("c", RateLimit(1, 10), 0.0) == 10.0
    assert buckets.take("c", RateLimit(100, 10), 0.0) == 0.0


@pytest.mark.parametrize("clients", [1, 10, 1000])
def test_idle_clients_are_forgotten(clients):
    buckets, limit = TokenBuckets(), RateLimit(5, 10)
    for number in range(clients):
        buckets.take(f"client-{number}", limit, 1.0)
    assert len(buckets) == clients
    for step in range(clients):
        buckets.take("busy", limit, 100.0 + step)
    assert len(buckets) == 1


def test_a_busy_client_is_kept_while_others_come_and_go():
    buckets, limit = TokenBuckets(), RateLimit(1, 1000)
    assert buckets.take("busy", limit, 0.0) == 0.0
    for number in range(100):
        buckets.take(f"client-{number}", RateLimit(1, 1), float(number))
    assert buckets.take("busy", limit, 100.0) == 900.0
    assert len(buckets) <= 4


def test_a_client_that_is_gone_is_forgotten():
    buckets, limit = TokenBuckets(), RateLimit(1, 1000)
    buckets.take("c", limit, 0.0)
    buckets.forget("c")
    buckets.forget("never seen")
    assert len(buckets) == 0
    assert buckets.take("c", limit, 0.0) == 0.0
