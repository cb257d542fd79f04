# SPDX-License-Identifier: Apache-2.0
"""What a refusal leaves in the log: one warning a minute for each of a kind, and a bound on the kinds."""

import pytest
import structlog

from thalovant_server.gateways.refusal_log import KINDS, WINDOW_SECONDS, RefusalLog, fingerprint
from thalovant_server.hub import refusal


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as logs:
        yield logs


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_poller_that_is_refused_is_one_warning_a_minute(logged):
    time = Time()
    log = RefusalLog("https", time)
    for _ in range(18 * 50):
        log.note(refusal.REVOKED, "192.0.2.1", "key")
    assert len(logged) == 1
    assert logged[0] | {"fingerprint": ""} == {
        "event": "refused",
        "log_level": "warning",
        "carrier": "https",
        "code": "revoked",
        "remote": "192.0.2.1",
        "fingerprint": "",
    }
    time.now += WINDOW_SECONDS
    log.note(refusal.REVOKED, "192.0.2.1", "key")
    assert [each["event"] for each in logged] == ["refused", "refused_again", "refused"]
    assert logged[1]["times"] == 18 * 50 - 1


def test_another_key_address_or_reason_is_a_warning_of_its_own(logged):
    log = RefusalLog("wss", Time())
    for why in (refusal.REVOKED, refusal.UNKNOWN_KEY):
        for remote in ("192.0.2.1", "192.0.2.2"):
            for key in ("one", "two"):
                log.note(why, remote, key)
    assert len(logged) == 8


def test_guessing_keys_fills_neither_the_memory_nor_the_log(logged):
    time = Time()
    log = RefusalLog("wss", time)
    for number in range(3 * KINDS):
        log.note(refusal.UNKNOWN_KEY, "192.0.2.1", f"guess-{number}")
    assert len(logged) == KINDS
    time.now += WINDOW_SECONDS
    log.note(refusal.UNKNOWN_KEY, "192.0.2.1", "guess")
    assert logged[KINDS]["times"] == 2 * KINDS


def test_a_key_is_not_in_the_log(logged):
    RefusalLog("wss", Time()).note(refusal.UNKNOWN_KEY, "192.0.2.1", "the-secret-key\ud800")
    assert "the-secret-key" not in repr(logged)
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
