# SPDX-License-Identifier: Apache-2.0
"""Which ends of a link are refusals: equal to the recorded rule of `vectors/link-keeping.json`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from thalovant import link as link_module
from thalovant.errors import ThalovantConnectionError, ThalovantHubRefusedError
from thalovant.link import HandshakeTimeoutError, Link
from thalovant.protocol.noise import generate_private_key
from thalovant.protocol.session import ClientSession
from thalovant.rivals import HungUpError
from thalovant.transports.base import Loss

CLOSES = json.loads((Path(__file__).parents[3] / "contract/vectors/link-keeping.json").read_text())["closes"]
# Our carriers know the code at the moment they know the loss; a code cannot come late.
AT_ONCE = [close for close in CLOSES if close["code_late_ms"] == 0]


class Carrier:
    """A carrier without a wire."""

    protocol = "wss"
    speaks_first = False
    expecting = False
    address = "wss://hub.example:443"
    socket_opened_at = None
    congested = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = 0

    async def open(self, on_frame: Any, on_lost: Any) -> None:
        self.on_frame, self.on_lost = on_frame, on_lost

    def send_clear(self, data: bytes) -> None:
        self.sent.append(data)

    def send_sealed(self, frames: list[bytes]) -> None:
        self.sent += frames

    def announced(self, capabilities: frozenset[str]) -> None: ...

    def ready(self) -> None: ...

    async def close(self) -> None:
        self.closed += 1


def make(carrier: Carrier) -> Link:
    session = ClientSession(static_private=generate_private_key(), site_id="kitchen", session_id="s")
    return Link(carrier, session, "s", "kitchen", "password", on_message=print, on_lost=print)  # type: ignore[arg-type]


@pytest.mark.parametrize("close", AT_ONCE)
def test_which_close_is_a_refusal(close: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        link = make(Carrier())
        link.heard = close["after_authenticated_frame"]
        after = close["ms_after_handshake"]
        monkeypatch.setattr(link_module.time, "monotonic", lambda: 1000.0 + (after or 0) / 1000)
        link.ready_at = None if after is None else 1000.0
        error = link._error_of(Loss("The hub closed the connection.", close["code"]))
        assert isinstance(error, ThalovantHubRefusedError) is close["refused"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("loss", "asked", "up", "rival"),
    [
        ({"hung_up": True, "has_words": True}, True, True, True),
        ({"hung_up": True, "has_words": True, "says_takeover": True}, True, True, False),
        ({"hung_up": True}, False, True, True),
        ({"hung_up": True}, True, True, False),  # MQTT 3.1.1: it may be about what was asked
        ({"hung_up": True, "has_words": True}, False, False, False),  # in the handshake
        ({"taken_over": True, "has_words": True}, True, True, True),
        ({"has_words": True}, False, True, False),
        ({}, False, True, False),
    ],
)
def test_when_another_program_may_have_come(loss: Any, asked: bool, up: bool, rival: bool) -> None:
    async def main() -> None:
        link = make(Carrier())
        link.heard, link.ready_at = up, 1000.0 if up else None
        if asked:
            link.hold()
        assert isinstance(link._error_of(Loss("gone", **loss)), HungUpError) is rival

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "about_key"), [("", True), ("key_mismatch", True), ("paused", False), ("busy", False)]
)
def test_only_a_refusal_that_may_be_about_the_key_is_read_so(
    code: str, about_key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        link = make(Carrier())
        monkeypatch.setattr(link_module.time, "monotonic", lambda: 1000.1)
        link.opened_at, link.ready_at = 999.9, 1000.0
        link._error_of(Loss("The hub refused.", refused=code != "busy", refusal=code))
        assert link.refused_at_once is about_key

    asyncio.run(main())


def test_what_the_carrier_calls_a_refusal_is_one() -> None:
    async def main() -> None:
        link = make(Carrier())
        assert isinstance(link._error_of(Loss("HTTP 403", refused=True)), ThalovantHubRefusedError)
        assert type(link._error_of(Loss("gone"))) is ThalovantConnectionError

    asyncio.run(main())


@pytest.mark.parametrize(
    ("opened_at", "ready_at", "heard", "at_once"),
    [
        (None, None, False, False),  # no handshake: no word on keys
        (999.9, 1000.0, False, True),
        (999.9, 1000.0, True, False),
        (998.0, 999.0, False, True),  # round trips are slow there, so the refusal takes its time
        (900.0, 900.1, False, False),
    ],
)
def test_when_a_refusal_of_a_polled_hub_is_about_the_handshake(
    opened_at: float | None, ready_at: float | None, heard: bool, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        link = make(Carrier())
        monkeypatch.setattr(link_module.time, "monotonic", lambda: 1000.5)
        link.opened_at, link.ready_at, link.heard = opened_at, ready_at, heard
        error = link._error_of(Loss("HTTP 403.", refused=True))
        assert isinstance(error, ThalovantHubRefusedError)
        assert link.refused_at_once is at_once
        assert ("removed or rotated" in str(error)) is (ready_at is not None and not at_once)

    asyncio.run(main())


def test_a_pause_that_ends_a_session_is_named() -> None:
    async def main() -> None:
        link = make(Carrier())
        link.opened_at, link.ready_at, link.heard = 1.0, 1.0, True
        error = link._error_of(Loss('The broker ended the connection. It said: "This client is paused".', refused=True))
        assert isinstance(error, ThalovantHubRefusedError) and error.diagnosis is not None
        assert error.diagnosis.code == "client_paused"

    asyncio.run(main())


def test_a_loss_during_the_handshake_ends_the_opening() -> None:
    async def main() -> None:
        carrier = Carrier()
        link = make(carrier)
        opening = asyncio.create_task(link.open(5.0))
        await asyncio.sleep(0)
        carrier.on_lost(Loss("gone"))
        carrier.on_lost(Loss("gone twice"))
        with pytest.raises(ThalovantConnectionError, match=r"gone$"):
            await opening
        carrier.on_frame(b"late", True)
        await link.close()
        assert carrier.closed == 1 and carrier.sent == []

    asyncio.run(main(), debug=True)


def test_a_hub_that_says_nothing_is_a_timeout() -> None:
    async def main() -> None:
        link = make(Carrier())
        with pytest.raises(HandshakeTimeoutError, match="did not answer"):
            await link.open(0.01)
        await link.close()

    asyncio.run(main(), debug=True)


@pytest.mark.parametrize(
    "rubbish", [b"", b"\x00", "not json", b'{"msg_type": "bus", "payload": {}}', "[]", b"\xff" * 70_000]
)
@pytest.mark.parametrize("sealed", [True, False, None])
def test_rubbish_before_the_handshake_fails_cleanly(rubbish: Any, sealed: bool | None) -> None:
    async def main() -> None:
        carrier = Carrier()
        link = make(carrier)
        opening = asyncio.create_task(link.open(5.0))
        await asyncio.sleep(0)
        carrier.on_frame(rubbish, sealed)
        with pytest.raises(ThalovantConnectionError):
            await opening
        await link.close()

    asyncio.run(main(), debug=True)
