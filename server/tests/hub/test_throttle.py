# SPDX-License-Identifier: Apache-2.0
"""Who may still try after how many failures, and whom nobody can lock out."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.attempt_buckets import Rate
from thalovant_server.hub.throttle import PER_PAIR, PER_SOURCE, ConnectThrottle

NEAR, FAR, HERE = "192.0.2.1", "198.51.100.7", "127.0.0.1"


def fail(throttle: ConnectThrottle, address: str, key: str, times: int, now: float = 0.0) -> list[float]:
    """Fail so often; how long each no took."""
    return [throttle.failed(address, key, now) for _ in range(times)]


def test_an_access_key_that_fails_too_often_is_refused_at_that_address_alone() -> None:
    throttle = ConnectThrottle()
    assert fail(throttle, NEAR, "a", PER_PAIR.burst) == [0.0] * PER_PAIR.burst
    assert 0 < throttle.wait(NEAR, "a", 0.0) <= PER_PAIR.seconds_each
    assert throttle.wait(NEAR, "b", 0.0) == throttle.wait(FAR, "a", 0.0) == 0.0
    assert throttle.wait(NEAR, "a", PER_PAIR.seconds_each) == 0.0


def test_one_client_that_fails_for_ever_costs_its_address_little() -> None:
    throttle = ConnectThrottle()
    for second in range(600):
        if throttle.wait(NEAR, "revoked", float(second)) == 0:
            throttle.failed(NEAR, "revoked", float(second))
    assert throttle.wait(NEAR, "another device", 600.0) == 0.0


def test_an_address_that_tries_many_access_keys_is_refused_for_all() -> None:
    throttle = ConnectThrottle()
    for number in range(PER_SOURCE.burst):
        assert throttle.wait(NEAR, f"guess {number}", 0.0) == 0.0
        throttle.failed(NEAR, f"guess {number}", 0.0)
    assert throttle.wait(NEAR, "one more", 0.0) > 0
    assert throttle.wait(FAR, "one more", 0.0) == 0.0


def test_an_access_key_that_a_client_has_is_refused_for_its_own_failures_alone() -> None:
    throttle = ConnectThrottle()
    for number in range(100):
        throttle.failed(NEAR, f"guess {number}", 0.0)
    assert throttle.wait(NEAR, "new client", 0.0, live=True) == 0.0
    fail(throttle, NEAR, "new client", PER_PAIR.burst)
    assert throttle.wait(NEAR, "new client", 0.0, live=True) > 0


def test_who_got_in_from_an_address_is_never_refused_there() -> None:
    throttle = ConnectThrottle()
    throttle.succeeded(NEAR, "owner")
    for number in range(100):
        throttle.failed(NEAR, f"guess {number}", 0.0)
        slow = throttle.failed(NEAR, "owner", 0.0)
    assert throttle.wait(NEAR, "owner", 0.0) == 0.0 and slow > 0
    assert throttle.wait(NEAR, "stranger", 0.0) > 0


def test_this_machine_is_slowed_and_never_refused() -> None:
    throttle = ConnectThrottle()
    slow = fail(throttle, HERE, "a", 50)
    assert slow[0] == 0.0 and slow[-1] > 0
    assert throttle.wait(HERE, "a", 0.0) == throttle.wait("::1", "a", 0.0) == throttle.wait("", "a", 0.0) == 0.0


def test_an_access_key_tried_from_everywhere_is_slow_to_be_refused_and_open_to_its_owner() -> None:
    throttle = ConnectThrottle()
    slow = [throttle.failed(f"192.0.2.{number}", "a", 0.0) for number in range(100)]
    assert slow[0] == 0.0 and slow[-1] > 0
    assert throttle.wait(FAR, "a", 0.0) == 0.0


def test_a_success_forgives_what_failed_before() -> None:
    throttle = ConnectThrottle()
    fail(throttle, NEAR, "a", 50)
    throttle.succeeded(NEAR, "a")
    assert throttle.failed(FAR, "b", 0.0) == 0.0
    assert throttle.wait(NEAR, "a", 0.0) == 0.0


def test_one_ipv6_customer_is_one_source() -> None:
    throttle = ConnectThrottle()
    for number in range(PER_SOURCE.burst):
        throttle.failed(f"2001:db8::{number:x}", f"guess {number}", 0.0)
    assert throttle.wait("2001:db8::ffff", "x", 0.0) > 0
    assert throttle.wait("2001:db8:0:1::1", "x", 0.0) == 0.0


def test_no_access_key_is_kept() -> None:
    throttle = ConnectThrottle()
    throttle.failed(NEAR, "very-secret", 0.0)
    throttle.succeeded(NEAR, "very-secret")
    held = [throttle._pairs._full_at, throttle._keys._full_at, throttle._proven]
    assert "very-secret" not in repr(held) and b"very-secret" not in str(held).encode()


ADDRESSES = st.sampled_from([NEAR, FAR, HERE, "2001:db8::1"])
KEYS = st.sampled_from([f"key-{number}" for number in range(30)])
STEPS = st.lists(
    st.tuples(st.sampled_from(["try wrong", "try right", "wait"]), ADDRESSES, KEYS, st.floats(0, 30)), max_size=120
)


@given(STEPS)
def test_the_rules_hold_whatever_is_tried(steps: list[tuple[str, str, str, float]]) -> None:
    """No owner is locked out, no stranger beats the rate, nothing grows without a bound."""
    throttle = ConnectThrottle(per_source=Rate(5, 6.0), per_pair=Rate(3, 6.0), per_key=Rate(5, 6.0), most_remembered=8)
    now, judged, proven = 0.0, Counter[tuple[str, str]](), []
    for what, address, key, seconds in steps:
        now += seconds if what == "wait" else 0.0
        wait = throttle.wait(address, key, now)
        if address == HERE or (address, key) in proven[-8:]:
            assert wait == 0.0
        if what == "wait" or wait > 0:
            continue
        if what == "try right":
            throttle.succeeded(address, key)
            proven = [*(pair for pair in proven if pair != (address, key)), (address, key)]
        else:
            judged[address, key] += address != HERE and (address, key) not in proven
            assert throttle.failed(address, key, now) in (0.0, 0.5)
        assert throttle.remembered <= 4 * 8


@given(st.lists(st.floats(0, 3), max_size=200))
def test_no_stranger_is_judged_more_often_than_its_rate(pauses: list[float]) -> None:
    throttle = ConnectThrottle()
    now, judged = 0.0, 0
    for pause in pauses:
        now += pause
        if throttle.wait(NEAR, "guess", now) == 0:
            judged += 1
            throttle.failed(NEAR, "guess", now)
    assert judged <= PER_PAIR.burst + now / PER_PAIR.seconds_each + 1
